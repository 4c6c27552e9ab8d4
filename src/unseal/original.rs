//! The header of the original, out of the outer header, the entity's header, and the record.
//!
//! A pure function: what is read and written around it is [`super::unseal`]'s.

use std::borrow::Cow;

use crate::head::{Head, Item, Kind};
use crate::lines::{LineEnding, first_ending};
use crate::protect;
use crate::restore::{HeadEnd, Place, Record};

/// Which line endings the original gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endings {
    /// Those of the message that was sealed.
    Original,
    /// Those in which the sealed message is stored now: Dovecot gives LF to messages that were sealed with CRLF.
    Stored,
}

/// The line ending that the original of a message with this `outer` header and `record` gets. One of mixed endings
/// keeps them.
#[must_use]
pub fn ending(outer: Head<'_>, record: &Record, endings: Endings) -> LineEnding {
    match (endings, record.line_ending) {
        (Endings::Stored, LineEnding::Lf | LineEnding::Crlf) => stored(outer),
        _ => record.line_ending,
    }
}

/// The line ending in which the sealed message is stored: that of our own lines. Others may end in a CR of their own.
fn stored(outer: Head<'_>) -> LineEnding {
    let ours = outer.items().find(|item| item.kind.is_mime());
    ours.map_or(LineEnding::Lf, |item| LineEnding::of(item.raw))
}

/// The header of an original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The fields and the empty line behind them.
    pub bytes: Vec<u8>,
    /// Whether the record and the headers are in accord: every field stands where it stood.
    pub exact: bool,
}

/// Puts the `Content-*` fields of the `entity` and the MIME-Version fields of the `record` back into the `outer` header,
/// in the place of ours. The `entity` has the line ending `ending` already.
///
/// A field that was added to the outer header since stays; where fields are gone, or the record did not fit, the MIME
/// fields stand together in the place of ours.
#[must_use]
pub fn header(outer: Head<'_>, entity: Head<'_>, record: &Record, ending: LineEnding) -> Header {
    let fields = with_ending(outer.fields(), stored(outer), ending);
    let outer = Head::new(&fields, outer.separator());
    let before: Vec<Item<'_>> = outer.items().take_while(|item| !item.kind.is_mime()).collect();
    let ours = outer.items().nth(before.len());
    let line_end = first_ending(ours.map_or(&b""[..], |item| item.raw));

    let mut kept = outer.items().skip(before.len()).filter(|item| !item.kind.is_mime());
    let added = usize::from(record.added_type);
    let mut moved = entity.items().filter(|item| item.kind == Kind::Content).skip(added);
    let mut bytes: Vec<u8> = before.iter().flat_map(|item| item.raw).copied().collect();
    let mut exact = record.places.is_some();
    let usual = [Place::MimeVersion(b"MIME-Version: 1.0".to_vec())];
    for place in record.places.as_deref().unwrap_or(&usual) {
        match place {
            Place::Kept(count) => {
                for _ in 0..*count {
                    match kept.next() {
                        Some(item) => bytes.extend_from_slice(item.raw),
                        None => exact = false,
                    }
                }
            }
            Place::Content => match moved.next() {
                Some(item) => bytes.extend_from_slice(item.raw),
                None => exact = false,
            },
            Place::MimeVersion(field) => {
                bytes.extend_from_slice(&with_ending(field, record.line_ending, ending));
                if !field.ends_with(b"\n") {
                    bytes.extend_from_slice(line_end.as_bytes());
                }
            }
        }
    }
    for item in moved {
        exact = false;
        bytes.extend_from_slice(item.raw);
    }
    kept.for_each(|item| bytes.extend_from_slice(item.raw));
    match record.end {
        HeadEnd::EmptyLine => bytes.extend_from_slice(entity.separator()),
        HeadEnd::None => {}
        HeadEnd::Cut => {
            bytes.truncate(bytes.strip_suffix(line_end.as_bytes()).map_or(bytes.len(), <[u8]>::len))
        }
    }
    Header { bytes, exact }
}

/// The lines of the `outer` header that a protected entity has not, as they would stand in it.
#[must_use]
pub fn only_outside(outer: Head<'_>, record: &Record) -> Vec<Vec<u8>> {
    let entity = match record.line_ending {
        LineEnding::Lf => LineEnding::Crlf,
        other => other,
    };
    protect::only_outside(outer).map(|line| with_ending(line, stored(outer), entity).into_owned()).collect()
}

/// `text`, whose lines end with `from`, with those of `to`. Mixed ones stay.
fn with_ending(text: &[u8], from: LineEnding, to: LineEnding) -> Cow<'_, [u8]> {
    let (old, new): (&[u8], &[u8]) = match (from, to) {
        (LineEnding::Lf, LineEnding::Crlf) => (b"\n", b"\r\n"),
        (LineEnding::Crlf, LineEnding::Lf) => (b"\r\n", b"\n"),
        _ => return Cow::Borrowed(text),
    };
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    let mut start = 0;
    for at in memchr::memmem::find_iter(text, old) {
        out.extend_from_slice(&text[start..at]);
        out.extend_from_slice(new);
        start = at + old.len();
    }
    out.extend_from_slice(&text[start..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "MIME-Version: 1.0\nContent-Type: multipart/encrypted;\n\tboundary=x\n";

    fn restored(outer: &str, entity: &str, record: &str, endings: Endings) -> (String, bool) {
        let record = Record::parse(format!("mailseal1;{record}").as_bytes()).unwrap();
        let outer = Head::new(outer.as_bytes(), b"\n");
        let ending = ending(outer, &record, endings);
        let separator: &[u8] = if ending == LineEnding::Crlf { b"\r\n" } else { b"\n" };
        let header = header(outer, Head::new(entity.as_bytes(), separator), &record, ending);
        (String::from_utf8(header.bytes).unwrap(), header.exact)
    }

    #[test]
    fn fields_come_back_to_their_places() {
        let cases = [
            (
                "A: b\n[ours]C: d\nE: f\n",
                "Content-Type: x\n",
                "eol=lf;at=v1c",
                "A: b\nMIME-Version: 1.0\nC: d\nContent-Type: x\nE: f\n\n",
            ),
            ("A: b\n[ours]", "Content-Type: text/plain\n", "eol=lf;at=;ct=1", "A: b\n\n"),
            ("A: b\n[ours]", "Content-Type: x\n", "eol=lf;at=c;end=cut", "A: b\nContent-Type: x"),
            ("[ours]A: b\r\n", "Content-Type: text/plain\n", "eol=lf;at=;ct=1;end=cut", "A: b\r"),
            // A field that another program has added at the end.
            (
                "A: b\n[ours]C: d\nX: y\n",
                "Content-Type: x\n",
                "eol=lf;at=c1",
                "A: b\nContent-Type: x\nC: d\nX: y\n\n",
            ),
        ];
        for (outer, entity, record, expected) in cases {
            let outer = outer.replace("[ours]", OURS);
            assert_eq!(
                restored(&outer, entity, record, Endings::Original),
                (expected.into(), true),
                "{record}"
            );
        }
    }

    #[test]
    fn what_cannot_be_restored_is_told_and_nothing_is_lost() {
        let cases = [
            ("[ours]A: b\n", "eol=lf;lost=1", "MIME-Version: 1.0\nContent-Type: x\nContent-ID: i\nA: b\n\n"),
            ("[ours]A: b\n", "eol=lf;at=3cc", "A: b\nContent-Type: x\nContent-ID: i\n\n"),
            ("[ours]A: b\n", "eol=lf;at=c", "Content-Type: x\nContent-ID: i\nA: b\n\n"),
            ("[ours]A: b\n", "eol=lf;at=ccc", "Content-Type: x\nContent-ID: i\nA: b\n\n"),
        ];
        for (outer, record, expected) in cases {
            let outer = outer.replace("[ours]", OURS);
            let entity = "Content-Type: x\nContent-ID: i\n";
            assert_eq!(
                restored(&outer, entity, record, Endings::Original),
                (expected.into(), false),
                "{record}"
            );
        }
    }

    #[test]
    fn line_endings_are_those_that_were_sealed_or_those_of_the_store() {
        let (lf, crlf) = (format!("A: b\n{OURS}"), format!("A: b\n{OURS}").replace('\n', "\r\n"));
        let unix = "A: b\nMIME-Version:\n 1\n\n";
        let dos = unix.replace('\n', "\r\n");
        for (record, written) in [
            ("eol=lf;at=v;ct=1;mv=MIME-Version:%0A 1", unix),
            ("eol=crlf;at=v;ct=1;mv=MIME-Version:%0D%0A 1", &dos),
        ] {
            for (outer, stored) in [(&lf, unix), (&crlf, &dos)] {
                // An added Content-Type is all that the entity has; its own ending plays no part.
                let found = |endings| restored(outer, "Content-Type: text/plain\r\n", record, endings);
                assert_eq!(found(Endings::Original), (written.into(), true), "{record}");
                assert_eq!(found(Endings::Stored), (stored.into(), true), "{record}");
            }
        }
    }
}
