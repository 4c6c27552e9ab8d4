//! The header of the original, out of the outer header, the entity's header, and the record.
//!
//! A pure function: what is read and written around it is [`super::unseal`]'s.

use std::borrow::Cow;

use crate::head::{Head, Item, Kind};
use crate::lines::{LineEnding, first_ending};
use crate::restore::{HeadEnd, Place, Record};

/// Which line endings the original gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endings {
    /// Those of the message that was sealed.
    Original,
    /// Those in which the sealed message is stored now: Dovecot gives LF to messages that were sealed with CRLF.
    Stored,
}

/// The line ending of the original, `original` by its record, whose sealed form is stored with `stored`.
#[must_use]
pub fn ending(original: LineEnding, stored: LineEnding, endings: Endings) -> LineEnding {
    match (endings, original, stored) {
        (Endings::Original, ..) | (_, LineEnding::Mixed, _) | (_, _, LineEnding::Mixed) => original,
        (Endings::Stored, ..) => stored,
    }
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
    let fields = with_ending(outer.fields(), ending);
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
                bytes.extend_from_slice(&with_ending(field, ending));
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

/// `text` with every line ending made `ending`; mixed ones stay.
fn with_ending(text: &[u8], ending: LineEnding) -> Cow<'_, [u8]> {
    let line_end: &[u8] = match ending {
        LineEnding::Mixed => return Cow::Borrowed(text),
        _ if LineEnding::of(text) == ending => return Cow::Borrowed(text),
        LineEnding::Lf => b"\n",
        LineEnding::Crlf => b"\r\n",
    };
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                out.extend_from_slice(line_end);
            }
            None => out.extend_from_slice(line),
        }
    }
    Cow::Owned(out)
}
