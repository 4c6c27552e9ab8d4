//! What the outer header of a sealed message tells of its content: for an audit.

use super::policy::{HIDDEN_SUBJECT, Tale, tells_of};
use crate::message::head::Head;

/// What can be read outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposed {
    /// The Subject, or words about it.
    pub subject: bool,
    /// Hashes of the body, which confirm a guess at it.
    pub hashes: bool,
    /// What a spam filter found: it may quote the body.
    pub reports: bool,
    /// What some readers take for the body, and is no listed field. Version 0.1 left such lines outside.
    pub text: bool,
}

impl Exposed {
    /// What `outer` shows.
    #[must_use]
    pub fn by(outer: Head<'_>) -> Self {
        let mut exposed = Self { text: !outer.split().1.is_repeated_whole(), ..Self::default() };
        for item in outer.items() {
            let value = item.value().trim_ascii();
            match tells_of(item.name()) {
                // Other programs hide it as `...`.
                Some(Tale::Subject)
                    if ["", "...", HIDDEN_SUBJECT].iter().any(|it| value == it.as_bytes()) => {}
                Some(Tale::Subject) => exposed.subject = true,
                Some(Tale::Hash) => exposed.hashes = true,
                Some(Tale::Report) => exposed.reports = true,
                None => exposed.reports |= is_spam_report(item.name()),
            }
        }
        exposed
    }
}

/// Whether fields called so list what a spam filter found. Scores and verdicts do not count.
fn is_spam_report(name: &[u8]) -> bool {
    let name = name[..name.len().min(64)].to_ascii_lowercase();
    memchr::memmem::find(&name, b"spam").is_some() && (name.ends_with(b"report") || name.ends_with(b"result"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_of_the_content_is_seen() {
        let none = Exposed::default();
        for (header, expected) in [
            ("From: a\nSubject: [...]\nX-Spam-Status: No\n", none),
            ("Subject: ...\nSubject:\n", none),
            ("Subject: Lunch\n", Exposed { subject: true, ..none }),
            ("Thread-Topic: Lunch\n", Exposed { subject: true, ..none }),
            ("ARC-Seal: i=1\nDKIM-Signature: v=1\n", Exposed { hashes: true, ..none }),
            ("X-Spam-Report: x\n", Exposed { reports: true, ..none }),
            ("X-Spamd-Result: x\n", Exposed { reports: true, ..none }),
            ("From: a\nno field\n", Exposed { text: true, ..none }),
            ("From: a\nX: b\n \n text\n", Exposed { text: true, ..none }),
            ("From: a\nX: b\n \nTo: c\n", none),
        ] {
            assert_eq!(Exposed::by(Head::new(header.as_bytes(), b"\n")), expected, "{header:?}");
        }
    }
}
