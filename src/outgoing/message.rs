//! What is taken out of every message that leaves: the recipients whom the others must not know, and what only belongs into a
//! mailbox.

use std::io::{Cursor, Read};

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::head::{Item, Kind};
use mailseal_core::message::opening::Opening;

/// Fields that name hidden recipients (RFC 5322, sections 3.6.3 and 3.6.6).
const HIDDEN: [&str; 2] = ["Bcc", "Resent-Bcc"];

/// A message that leaves: its beginning as it goes out, where that is another than `opening`; `rest` is what follows it.
///
/// # Errors
/// Those of [`Opening::read`].
pub fn leaving(opening: &Opening, rest: &mut impl Read) -> Result<Option<Opening>, CoreError> {
    if !opening.head().items().any(|item| stays(&item)) {
        return Ok(None);
    }
    let head = opening.head();
    let mut kept: Vec<u8> = Vec::with_capacity(opening.bytes().len());
    head.items().filter(|item| !stays(item)).for_each(|item| kept.extend_from_slice(item.raw));
    kept.extend_from_slice(head.separator());
    kept.extend_from_slice(opening.body());
    Opening::read(&mut Cursor::new(kept).chain(rest)).map(Some)
}

/// Whether an item of a header does not leave: what any reader might take for a field that names hidden recipients, an mbox
/// line, and what says that a header was hidden, which is ours to say.
fn stays(item: &Item<'_>) -> bool {
    let named = |name: &[u8]| {
        let is = |other: &&str| name.trim_ascii().eq_ignore_ascii_case(other.as_bytes());
        HIDDEN.iter().any(is) || is(&"HP-Outer")
    };
    item.kind == Kind::FromLine
        || item
            .raw
            .split(|byte| matches!(byte, b'\n' | b'\r'))
            .filter_map(|line| line.split(|byte| *byte == b':').next().filter(|name| name.len() < line.len()))
            // What begins with a blank goes on with the line before.
            .any(|name| !name.starts_with(b" ") && !name.starts_with(b"\t") && named(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(message: &str) -> Option<String> {
        let mut rest = message.as_bytes();
        let opening = Opening::read(&mut rest).unwrap();
        let opening = leaving(&opening, &mut rest).unwrap()?;
        Some(String::from_utf8(opening.bytes().to_vec()).unwrap())
    }

    #[test]
    fn hidden_recipients_do_not_leave() {
        for (message, expected) in [
            ("To: a\n\nBcc: b\n", None),
            ("To: a\nBcc: b\nSubject: c\n\nBcc: d\n", Some("To: a\nSubject: c\n\nBcc: d\n")),
            ("bcc : b,\n c\nTo: a\n\nx\n", Some("To: a\n\nx\n")),
            ("To: a\r\nRESENT-BCC: b\r\n\r\nx\r\n", Some("To: a\r\n\r\nx\r\n")),
            ("To: a\njunk\nBcc: b\nX: y\n\nx\n", Some("To: a\njunk\nX: y\n\nx\n")),
            ("X: a\rBcc: b\nTo: a\n\nx\n", Some("To: a\n\nx\n")),
            ("X: a\n Bcc: b\n\nx\n", None),
            ("Bccs: b\n\nx\n", None),
            ("From a@b Mon\nTo: a\n\nx\n", Some("To: a\n\nx\n")),
            ("HP-Outer: Subject: news\nTo: a\n\nx\n", Some("To: a\n\nx\n")),
        ] {
            assert_eq!(left(message).as_deref(), expected, "{message:?}");
        }
    }

    #[test]
    fn a_long_message_goes_on_behind_its_beginning() {
        let body = "x".repeat(3 << 20);
        let message = format!("Bcc: b\nTo: a\n\n{body}");
        let mut rest = message.as_bytes();
        let opening = Opening::read(&mut rest).unwrap();
        assert!(!opening.is_whole());
        let opening = leaving(&opening, &mut rest).unwrap().unwrap();
        assert!(
            opening.bytes().len() + rest.len() == message.len() - 7
                && opening.bytes().starts_with(b"To: a\n\n")
        );
    }
}
