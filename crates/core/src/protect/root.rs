//! The root's Content-Type as header protection sees it: whether the header may be protected, whether it claims to be
//! already, and the parameters that say so (RFC 9788, section 2.1).

use std::fmt::Write as _;

use memchr::{memchr, memmem};

use crate::classify::claims_smime;
use crate::classify::mime::ContentType;
use crate::message::head::{Head, Item};

/// The parameter that marks a protected header, and the one that Thunderbird reads.
const PROTECTED: [(&str, &str); 2] = [("hp", "cipher"), ("protected-headers", "v1")];

/// The parameter that marks a body with a legacy display element.
const DISPLAYED: (&str, &str) = ("hp-legacy-display", "1");

/// What a root allows.
#[derive(Debug)]
pub enum Root {
    /// Its only Content-Type, or none, can say that the header is protected.
    Open(Option<ContentType>),
    /// Only the tail may have one, which stays as it is: the header is protected, and nothing says so.
    Unmarked,
    /// It is signed, or says so: a protected header would have to be inside the signature.
    Signed,
    /// It is a layer of encryption, its type is given twice or not understood, or it says something else about header
    /// protection.
    Closed,
}

impl Root {
    /// Reads the root of the message with this `head`.
    #[must_use]
    pub fn of(head: Head<'_>) -> Self {
        let (region, tail) = head.split();
        if tail.perhaps("Content-Type").any(says_signed) {
            return Self::Signed;
        }
        let mut types = region.called("Content-Type");
        let Some(item) = types.next() else {
            return if head.may_have_type() { Self::Unmarked } else { Self::Open(None) };
        };
        let only = types.next().is_none().then_some(item);
        let Some(content_type) = only.and_then(|item| ContentType::parse(item.value())) else {
            return Self::Closed;
        };
        if content_type.is("multipart/signed") || claims_smime(head, &content_type) {
            Self::Signed
        } else if content_type.is("multipart/encrypted") || has_odd_claim(&content_type) {
            Self::Closed
        } else {
            Self::Open(Some(content_type))
        }
    }
}

/// Whether a Content-Type in a tail names a signature, in whatever way readers read it.
fn says_signed(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    ["signed", "pkcs7"].iter().any(|word| memmem::find(&value, word.as_bytes()).is_some())
}

/// Whether a reader could take the header of a message with this `head` for protected, once it is inside the
/// ciphertext: a Content-Type names one of the parameters, in any spelling.
#[must_use]
pub fn claims_protection(head: Head<'_>) -> bool {
    let names = |value: &[u8], name: &str| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        value.windows(name.len()).enumerate().any(|(at, window)| {
            window.eq_ignore_ascii_case(name.as_bytes())
                && !value[..at].last().is_some_and(|&byte| word(byte))
                && matches!(value[at + name.len()..].trim_ascii_start().first(), Some(b'=' | b'*' | b'('))
        })
    };
    let (region, tail) = head.split();
    let region = region.called("Content-Type").map(|item| item.value());
    region.chain(tail.perhaps("Content-Type")).any(|value| {
        // A long value is read several times over, and only then.
        memchr(b'=', value).is_some()
            && [DISPLAYED.0, PROTECTED[0].0, PROTECTED[1].0].into_iter().any(|name| names(value, name))
    })
}

/// The field that an entity without Content-Type gets, without its line ending.
#[must_use]
pub fn new_field(displayed: bool, ending: &str) -> String {
    let mut field = String::from("Content-Type: text/plain");
    push_parameters(&mut field, &parameters(None, displayed), ending);
    field
}

/// What is to be appended to `item`, the only Content-Type, before its line ending, so that it says the header is
/// protected. `None` where it would then say something else, too.
#[must_use]
pub fn appended(
    item: &Item<'_>,
    content_type: &ContentType,
    displayed: bool,
    ending: &str,
) -> Option<String> {
    let added = parameters(Some(content_type), displayed);
    let mut text = String::new();
    push_parameters(&mut text, &added, ending);
    let value = item.value().trim_ascii();
    if value.ends_with(b";") {
        text = text.strip_prefix(';').unwrap_or_default().into();
    }
    let completed = ContentType::parse(&[value, text.as_bytes()].concat())?;
    let expected: Vec<(&str, &str)> = content_type.attributes().chain(added).collect();
    let found: Vec<(&str, &str)> = completed.attributes().collect();
    (completed.is_same_type(content_type) && found == expected).then_some(text)
}

/// The parameters that are missing.
fn parameters(content_type: Option<&ContentType>, displayed: bool) -> Vec<(&'static str, &'static str)> {
    let missing = |name: &str| content_type.is_none_or(|it| it.attribute(name).is_none());
    displayed.then_some(DISPLAYED).into_iter().chain(PROTECTED).filter(|(name, _)| missing(name)).collect()
}

fn push_parameters(text: &mut String, parameters: &[(&str, &str)], ending: &str) {
    for (name, value) in parameters {
        // Writing to a String cannot fail.
        let _ = write!(text, ";{ending}\t{name}=\"{value}\"");
    }
}

/// Whether it says about header protection what ours cannot stand beside: readers would hide the Subject or a part of
/// the body.
fn has_odd_claim(content_type: &ContentType) -> bool {
    let other = |name: &str, known: &[&str]| {
        content_type
            .attribute(name)
            .is_some_and(|value| !known.iter().any(|it| value.eq_ignore_ascii_case(it)))
    };
    other("hp", &["cipher", "clear"])
        || other("protected-headers", &["v1"])
        || content_type.attribute(DISPLAYED.0).is_some() && content_type.attribute("hp").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(field: &str, displayed: bool) -> Option<String> {
        let head = Head::new(field.as_bytes(), b"\n");
        let Root::Open(Some(content_type)) = Root::of(head) else { return None };
        appended(&head.items().next().unwrap(), &content_type, displayed, "\n")
    }

    #[test]
    fn parameters_come_last() {
        const BOTH: &str = ";\n\thp=\"cipher\";\n\tprotected-headers=\"v1\"";
        for (field, expected) in [
            ("Content-Type: text/plain\n", Some(BOTH)),
            ("Content-Type: text/plain; charset=utf-8\r\n", Some(BOTH)),
            ("Content-Type: text/plain; charset=utf-8; \n", Some(&BOTH[1..])),
            ("Content-Type: multipart/mixed;\n boundary=\"a;b\"\n", Some(BOTH)),
            ("Content-Type: text/plain; hp=clear\n", Some(";\n\tprotected-headers=\"v1\"")),
            ("Content-Type: text/plain; protected-headers=v1\n", Some(";\n\thp=\"cipher\"")),
            ("Content-Type: text/plain; hp=cipher; protected-headers=v1\n", Some("")),
            ("Content-Type: multipart/mixed; boundary=\"open\n", None),
            ("Content-Type: text/plain (open\n", None),
            ("Content-Type: text/plain; hp=other\n", None),
            ("Content-Type: text/plain; protected-headers=v2\n", None),
            ("Content-Type: text/plain; hp-legacy-display=1\n", None),
            ("Content-Type: text/plain\r; x=y\n", None),
            ("Content-Type: text/plain\nContent-Type: text/html\n", None),
            ("Content-Type: multipart/signed; protocol=x; boundary=b\n", None),
            ("Content-Type: application/pkcs7-mime; smime-type=signed-data\n", None),
            ("Content-Type: multipart/encrypted; boundary=b\n", None),
            ("Content-Type:\n", None),
        ] {
            assert_eq!(completed(field, false).as_deref(), expected, "{field:?}");
        }
        assert_eq!(
            completed("Content-Type: text/plain\n", true).unwrap(),
            format!(";\n\thp-legacy-display=\"1\"{BOTH}")
        );
        assert_eq!(new_field(false, "\n"), format!("Content-Type: text/plain{BOTH}"));
    }

    #[test]
    fn claims_are_seen_in_every_spelling() {
        for (field, expected) in [
            ("Content-Type: text/plain; hp=\"cipher\"\n", true),
            ("Content-Type: text/plain; HP = clear\n", true),
            ("Content-Type: text/plain;\n\thp*=us-ascii''cipher\n", true),
            ("Content-Type: text/plain; hp*0=cipher\n", true),
            ("Content-Type: text/plain; hp (comment) =cipher\n", true),
            ("Content-Type: text/plain;protected-headers=v1\n", true),
            ("Content-Type: text/plain; hp-legacy-display=1\n", true),
            ("Content-Type: text/html\nContent-Type: text/plain; hp=clear\n", true),
            ("Content-Type: text/plain; charset=utf-8\n", false),
            ("Content-Type: application/pdf; name=\"hp printer.pdf\"\n", false),
            ("Content-Type: multipart/mixed; boundary=\"x-hp=1\"\n", false),
            ("Content-Disposition: inline; hp=cipher\n", false),
            ("Subject: hp=cipher\n", false),
        ] {
            assert_eq!(claims_protection(Head::new(field.as_bytes(), b"\n")), expected, "{field:?}");
        }
    }
}
