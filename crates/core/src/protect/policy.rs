//! Which header fields the outside shows, and how: RFC 9788's header confidentiality policies (section 3.2), and what
//! mailseal hides beside them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::shy;
use crate::message::head::Item;

/// What the outside shows for a hidden Subject.
pub const HIDDEN_SUBJECT: &str = "[...]";

/// Which header fields are hidden inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// None.
    #[default]
    None,
    /// Subject, Comments, Keywords, and what repeats the Subject or tells of the body.
    Baseline,
    /// These, the display names in From, To and Cc, and the time zone of Date.
    Shy,
}

/// What the outside shows of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The field as it is.
    Same,
    /// The field with this value.
    Instead(Cow<'static, str>),
    /// Nothing.
    Nothing,
}

impl Policy {
    /// What the outside shows of `item`, a well-formed field, as a line that is ended; `None` where it is hidden.
    #[must_use]
    pub fn shown<'a>(self, item: &Item<'a>, ending: &str) -> Option<Cow<'a, [u8]>> {
        match self.outside(item, ending) {
            Outside::Nothing => None,
            Outside::Same => Some(item.ended(ending)),
            Outside::Instead(value) => {
                Some(Cow::Owned([item.name(), b": ", value.as_bytes(), ending.as_bytes()].concat()))
            }
        }
    }

    /// What the outside shows of `item`, a well-formed field. A value that goes on in a further line is broken with
    /// `ending`.
    #[must_use]
    pub fn outside(self, item: &Item<'_>, ending: &str) -> Outside {
        if self == Self::None {
            return Outside::Same;
        }
        let name = item.name();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("Subject") {
            return instead(item, HIDDEN_SUBJECT.into());
        }
        if tells_of(name).is_some() {
            return Outside::Nothing;
        }
        if self == Self::Shy {
            let value = item.value();
            let shown = if ["From", "To", "Cc"].into_iter().any(is) {
                shy::addresses(value, ending)
            } else if is("Date") {
                shy::date(value)
            } else {
                None
            };
            return shown.map_or(Outside::Same, |shown| instead(item, shown.into()));
        }
        Outside::Same
    }
}

/// What a field tells of a message's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tale {
    /// Its Subject, or words about it.
    Subject,
    /// Hashes of its body, which confirm a guess at it.
    Hash,
    /// What a spam filter found, with quotes from the body.
    Report,
}

/// What fields called `name` tell of the content; `None` where it is nothing that any policy hides.
#[must_use]
pub fn tells_of(name: &[u8]) -> Option<Tale> {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let begins = |with: &[u8]| name.get(..with.len()).is_some_and(|part| part.eq_ignore_ascii_case(with));
    let ends = |with: &[u8]| {
        name.len().checked_sub(with.len()).is_some_and(|at| name[at..].eq_ignore_ascii_case(with))
    };
    if ["Subject", "Comments", "Keywords", "Thread-Topic"].into_iter().any(is)
        || begins(b"x-") && ends(b"-subject")
    {
        Some(Tale::Subject)
    } else if begins(b"arc-") || ends(b"dkim-signature") || is("DomainKey-Signature") {
        Some(Tale::Hash)
    } else {
        is("X-Spam-Report").then_some(Tale::Report)
    }
}

fn instead(item: &Item<'_>, shown: Cow<'static, str>) -> Outside {
    if item.value().trim_ascii() == shown.as_bytes() { Outside::Same } else { Outside::Instead(shown) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::head::Head;

    fn outside(policy: Policy, field: &str) -> Outside {
        policy.outside(&Head::new(field.as_bytes(), b"").items().next().unwrap(), "\n")
    }

    #[test]
    fn the_baseline_is_that_of_the_rfc_and_what_tells_of_the_body() {
        let hidden = Outside::Instead(HIDDEN_SUBJECT.into());
        for (field, expected) in [
            ("Subject: Lunch\n", hidden.clone()),
            ("SUBJECT : Lunch\n", hidden.clone()),
            ("Subject:\n", hidden),
            ("Subject: [...]\n", Outside::Same),
            ("Comments: x\n", Outside::Nothing),
            ("keywords: x\n", Outside::Nothing),
            ("Thread-Topic: Lunch\n", Outside::Nothing),
            ("DKIM-Signature: v=1; bh=x\n", Outside::Nothing),
            ("X-Google-DKIM-Signature: v=1; bh=x\n", Outside::Nothing),
            ("DomainKey-Signature: a=rsa-sha1\n", Outside::Nothing),
            ("ARC-Message-Signature: i=1; bh=x\n", Outside::Nothing),
            ("ARC-Seal: i=1\n", Outside::Nothing),
            ("X-Spam-Report: it says 'Lunch'\n", Outside::Nothing),
            ("X-Spam-Prev-Subject: Lunch\n", Outside::Nothing),
            ("X-Subject: Lunch\n", Outside::Nothing),
            ("X-Spam-Status: Yes\n", Outside::Same),
            ("List-Subject: x\n", Outside::Same),
            ("Search: x\n", Outside::Same),
            ("From: Alice <alice@example.org>\n", Outside::Same),
            ("Date: Fri, 21 Jan 2022 20:40:48 -0500\n", Outside::Same),
        ] {
            assert_eq!(outside(Policy::Baseline, field), expected, "{field:?}");
            assert_eq!(outside(Policy::None, field), Outside::Same, "{field:?}");
        }
    }

    #[test]
    fn shy_hides_names_and_zones_too() {
        for (field, expected) in [
            ("From: Alice <alice@example.org>\n", Outside::Instead("alice@example.org".into())),
            ("To: a@example.org\n", Outside::Same),
            (
                "Date: Fri, 21 Jan 2022 20:40:48 -0500\n",
                Outside::Instead("Sat, 22 Jan 2022 01:40:48 +0000".into()),
            ),
            ("Reply-To: Alice <alice@example.org>\n", Outside::Same),
            ("Subject: x\n", Outside::Instead(HIDDEN_SUBJECT.into())),
        ] {
            assert_eq!(outside(Policy::Shy, field), expected, "{field:?}");
        }
    }
}
