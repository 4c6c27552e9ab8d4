//! What is wrong with a configuration although it is well formed, and in which line.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Something that cannot be meant.
#[derive(Debug)]
pub(super) struct Fault {
    /// Where: names of tables and settings, and numbers of rules from 0, with dots between them.
    at: String,
    /// What is wrong.
    what: String,
}

impl Fault {
    /// That `what` is wrong with the setting `at`, `users.0.match`.
    pub fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }

    /// What is wrong, and in which line of `text`: that of the setting, or of what it is missing in.
    pub fn in_line(&self, text: &str) -> String {
        match self.span(text) {
            Some(span) => format!("line {}: {}", line(text, &span), self.what),
            None => self.what.clone(),
        }
    }

    fn span(&self, text: &str) -> Option<Range<usize>> {
        let table = DeTable::parse(text).ok()?;
        let mut steps = self.at.split('.');
        let mut found = entry(table.get_ref(), steps.next()?)?;
        for step in steps {
            let next = match (found.1, step.parse::<usize>()) {
                (DeValue::Table(table), _) => entry(table, step),
                (DeValue::Array(array), Ok(number)) => {
                    array.get(number).map(|value| (value.span(), value.get_ref()))
                }
                _ => None,
            };
            let Some(next) = next else { break };
            found = next;
        }
        Some(found.0)
    }
}

fn entry<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<(Range<usize>, &'a DeValue<'i>)> {
    let (key, value) = table.iter().find(|(key, _)| &**key.get_ref() == name)?;
    Some((key.span(), value.get_ref()))
}

/// The number of the line of `text` in which a `span` begins, from 1.
pub(super) fn line(text: &str, span: &Range<usize>) -> usize {
    text.get(..span.start).unwrap_or_default().matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_that_of_the_setting_or_of_what_it_is_missing_in() {
        let text = "[keys]\nknown = \"x\"\n\n[[users]]\nmatch = [\"a\"]\n[[users]]\nmode = \"off\"\nkey = [\n  \"a\",\n]\n";
        for (at, expected) in [
            ("keys.known", "line 2: no"),
            ("keys.address", "line 1: no"),
            ("users.0.match", "line 5: no"),
            ("users.1.key", "line 8: no"),
            ("users.1.match", "line 6: no"),
            ("serve.next", "no"),
        ] {
            assert_eq!(Fault::new(at, "no").in_line(text), expected, "{at}");
        }
        assert_eq!(Fault::new("keys", "no").in_line("not toml"), "no");
    }
}
