//! How messages are sealed, when all that was said about it is put together.

use std::fmt;
use std::str::FromStr;

use mail_builder::headers::Header as _;
use mail_builder::headers::text::Text;
use mailseal_core::openpgp::compress::Compression;
use mailseal_core::openpgp::padding::Padding;
use mailseal_core::protect::policy::HIDDEN_SUBJECT;
use mailseal_core::protect::{Additions, Policy};
use mailseal_core::recipients::Recipients;
use mailseal_core::seal::Sealer;
use serde::{Deserialize, Serialize};

/// Most bytes of a Subject that the outside shows: one line, whatever it is encoded in.
const SUBJECT: usize = 200;

/// How messages are sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Style {
    /// Which header fields are hidden inside.
    pub protect_headers: Policy,
    /// What the outside shows for a hidden Subject.
    pub subject: Subject,
    /// What they are filled up to.
    pub pad: Padding,
    /// How they are compressed.
    pub compression: Compression,
    /// What is put inside for the sake of mail programs.
    pub additions: Additions,
    /// Whether what is encrypted already is sealed once more, unless it looks from outside like what is sealed in this style.
    pub again: bool,
}

impl Style {
    /// Seals like this to `recipients`.
    #[must_use]
    pub fn sealer<'a>(&'a self, recipients: &'a Recipients) -> Sealer<'a> {
        Sealer {
            recipients,
            protect_headers: self.protect_headers,
            subject: &self.subject.0,
            compression: self.compression,
            padding: self.pad,
            additions: self.additions,
        }
    }
}

/// A Subject for the outside: one line of ASCII, RFC 2047's encoded words in it where it was something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

impl Default for Subject {
    fn default() -> Self {
        Self(HIDDEN_SUBJECT.into())
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.len() > SUBJECT || text.chars().any(char::is_control) {
            return Err(format!("expected one line of text, at most {SUBJECT} bytes"));
        }
        if text.is_ascii() {
            return Ok(Self(text.into()));
        }
        let mut encoded = Vec::new();
        Text::new(text).write_header(&mut encoded, "Subject: ".len());
        let encoded = String::from_utf8_lossy(&encoded);
        let words: Vec<&str> = encoded.split_ascii_whitespace().collect();
        Ok(Self(words.join(" ")))
    }
}

impl TryFrom<String> for Subject {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_line_of_ascii() {
        for (text, expected) in [
            ("Alert", Ok("Alert")),
            (" Submissions in the past 24h ", Ok("Submissions in the past 24h")),
            ("", Err(())),
            (" ", Err(())),
            ("a\nBcc: b", Err(())),
            ("a\rb", Err(())),
            ("a\u{85}b", Err(())),
        ] {
            let found = text.parse::<Subject>();
            assert_eq!(found.as_ref().map(|subject| &*subject.0).map_err(drop), expected, "{text:?}");
        }
        assert!("x".repeat(SUBJECT).parse::<Subject>().is_ok());
        assert!("x".repeat(SUBJECT + 1).parse::<Subject>().is_err());
        for text in ["Übergabe", "日本語のメール ".repeat(6).as_str()] {
            let Subject(encoded) = text.parse().unwrap();
            assert!(encoded.is_ascii() && !encoded.contains('\n'), "{encoded}");
            let message = format!("Subject: {encoded}\n\n");
            let parsed = mail_parser::MessageParser::default().parse(message.as_bytes()).unwrap();
            assert_eq!(parsed.subject(), Some(text.trim()));
        }
    }
}
