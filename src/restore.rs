//! What is needed to give back the original message exactly, kept in the file name of the literal data packet.
//!
//! The record travels inside the ciphertext, where nobody but the owner reads or changes it:
//!
//! ```text
//! mailseal1;eol=crlf;at=2cc1v;mv=Mime-Version: 1.0 (x);ct=1;end=none
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `eol` | line ending of the original: `lf` (the entity was written with CRLF), `crlf`, `mixed` |
//! | `at` | the items of the header from the place of our two fields on: a number of kept ones, `c` a `Content-*` field taken from the entity in order, `v` a MIME-Version field. What follows the last letter is kept |
//! | `mv` | the MIME-Version fields in order, `,` between them, each without its line ending when that is the message's; an empty one is `MIME-Version: 1.0` |
//! | `ct` | 1: the entity's Content-Type was added |
//! | `end` | the message ended with its header: `none` no empty line, `cut` not even the last line ended |
//! | `lost` | 1: the record did not fit; the places and MIME-Version fields are left out |
//! | `hp` | the header was protected and went inside whole: places and lengths of what was added to it and to the body, as `0+63,2048+1930`. There is no `at`, `mv`, `ct` and `end` then |
//! | `out` | places of the lines that only the outside has |
//!
//! Fields with their usual value (`mv` all usual, `ct` 0, no `end`) are left out. The program that reads it
//! believes it only after the message was verified.

mod insertions;

use std::fmt::Write as _;

pub use self::insertions::Insertions;

use crate::head::{Head, Kind};
use crate::limits;
use crate::lines::LineEnding;

/// What every record begins with: it tells our own messages from those a sender encrypted.
pub const MARK: &str = "mailseal1";

const USUAL_VERSION: &[u8] = b"MIME-Version: 1.0";

/// How the header of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadEnd {
    /// With an empty line.
    EmptyLine,
    /// With the message; the last line has its ending.
    None,
    /// With the message, in the middle of a line.
    Cut,
}

/// The record of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Line ending of the original.
    pub line_ending: LineEnding,
    /// The items from the place of our fields on; `None` where they did not fit.
    pub places: Option<Vec<Place>>,
    /// Whether a Content-Type was added to the entity.
    pub added_type: bool,
    /// How the header ended.
    pub end: HeadEnd,
    /// What header protection added, where the header was protected: the rest of the record then means nothing but the
    /// line ending.
    pub insertions: Option<Insertions>,
}

/// One step through the items of the original header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// So many items that the outer header kept.
    Kept(usize),
    /// The next `Content-*` field of the entity.
    Content,
    /// This MIME-Version field; with its line ending where it is not the message's.
    MimeVersion(Vec<u8>),
}

impl Record {
    /// Describes `head`, whose own new fields stand before item `at` and end their lines with `ending`.
    #[must_use]
    pub fn of(head: Head<'_>, at: usize, line_ending: LineEnding, ending: &str, added_type: bool) -> Self {
        let mut places = Vec::new();
        let mut fits = true;
        let (mut kept, mut bytes) = (0, 0);
        for item in head.items().skip(at) {
            let place = match item.kind {
                Kind::Content => Place::Content,
                Kind::MimeVersion => {
                    bytes += item.raw.len();
                    if bytes > limits::LITERAL_NAME {
                        fits = false;
                        break;
                    }
                    Place::MimeVersion(item.raw.strip_suffix(ending.as_bytes()).unwrap_or(item.raw).to_vec())
                }
                _ => {
                    kept += 1;
                    continue;
                }
            };
            if kept > 0 {
                places.push(Place::Kept(kept));
                kept = 0;
            }
            places.push(place);
            if places.len() > limits::LITERAL_NAME {
                break;
            }
        }
        let end = match (head.separator(), head.fields().last()) {
            ([_, ..], _) => HeadEnd::EmptyLine,
            ([], Some(b'\n') | None) => HeadEnd::None,
            ([], _) => HeadEnd::Cut,
        };
        Self { line_ending, places: fits.then_some(places), added_type, end, insertions: None }
    }

    /// Describes a message whose header was protected; `None` as `insertions` where it cannot be given back exactly.
    #[must_use]
    pub fn protected(line_ending: LineEnding, insertions: Option<Insertions>) -> Self {
        Self { line_ending, places: None, added_type: false, end: HeadEnd::EmptyLine, insertions }
    }

    /// The record as the file name of a literal data packet, at most [`limits::LITERAL_NAME`] bytes. Where it does
    /// not fit, the places are left out and `lost=1` says so.
    #[must_use]
    pub fn encode(&self) -> String {
        let ending = match self.line_ending {
            LineEnding::Lf => "lf",
            LineEnding::Crlf => "crlf",
            LineEnding::Mixed => "mixed",
        };
        let mut rest = String::new();
        if self.added_type {
            rest.push_str(";ct=1");
        }
        match self.end {
            HeadEnd::EmptyLine => {}
            HeadEnd::None => rest.push_str(";end=none"),
            HeadEnd::Cut => rest.push_str(";end=cut"),
        }
        let details = match (&self.insertions, &self.places) {
            (Some(insertions), _) => Some(insertions.encode()),
            (None, places) => places.as_ref().map(|places| encode_places(places) + &rest),
        };
        if let Some(details) = details {
            let record = format!("{MARK};eol={ending}{details}");
            if record.len() <= limits::LITERAL_NAME {
                return record;
            }
        }
        format!("{MARK};eol={ending};lost=1{rest}")
    }

    /// Reads a record back; `None` where `name` is not one of ours.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(name).ok()?.split(';');
        if fields.next()? != MARK {
            return None;
        }
        let (mut line_ending, mut at, mut versions) = (None, None, None);
        let (mut added, mut outside) = (None, None);
        let (mut added_type, mut end) = (false, HeadEnd::EmptyLine);
        for field in fields {
            match field.split_once('=')? {
                ("eol", "lf") => line_ending = Some(LineEnding::Lf),
                ("eol", "crlf") => line_ending = Some(LineEnding::Crlf),
                ("eol", "mixed") => line_ending = Some(LineEnding::Mixed),
                ("at", value) => at = Some(value),
                ("mv", value) => versions = Some(value),
                ("hp", value) => added = Some(value),
                ("out", value) => outside = Some(value),
                ("ct", "1") => added_type = true,
                ("end", "none") => end = HeadEnd::None,
                ("end", "cut") => end = HeadEnd::Cut,
                ("lost", "1") => {}
                _ => return None,
            }
        }
        let places = match at {
            Some(at) => Some(parse_places(at, versions.unwrap_or_default())?),
            None => None,
        };
        let insertions = match added {
            Some(added) => Some(Insertions::parse(added, outside.unwrap_or_default())?),
            None => None,
        };
        Some(Self { line_ending: line_ending?, places, added_type, end, insertions })
    }
}

fn encode_places(places: &[Place]) -> String {
    let (mut at, mut versions, mut unusual) = (String::new(), String::new(), false);
    for place in places {
        match place {
            // Writing to a String cannot fail.
            Place::Kept(count) => _ = write!(at, "{count}"),
            Place::Content => at.push('c'),
            Place::MimeVersion(field) => {
                if at.contains('v') {
                    versions.push(',');
                }
                at.push('v');
                if field != USUAL_VERSION {
                    unusual = true;
                    push_quoted(&mut versions, field);
                }
            }
        }
    }
    if unusual { format!(";at={at};mv={versions}") } else { format!(";at={at}") }
}

fn parse_places(at: &str, versions: &str) -> Option<Vec<Place>> {
    let mut versions = versions.split(',');
    let mut places = Vec::new();
    let mut rest = at;
    while let Some(first) = rest.chars().next() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest = match first {
            'c' => {
                places.push(Place::Content);
                &rest[1..]
            }
            'v' => {
                let field = unquote(versions.next().unwrap_or_default())?;
                let usual = field.is_empty();
                places.push(Place::MimeVersion(if usual { USUAL_VERSION.to_vec() } else { field }));
                &rest[1..]
            }
            _ if digits > 0 => {
                places.push(Place::Kept(rest[..digits].parse().ok()?));
                &rest[digits..]
            }
            _ => return None,
        };
    }
    Some(places)
}

/// Percent-encodes what is not printable ASCII or has a meaning in the record.
fn push_quoted(out: &mut String, field: &[u8]) {
    for &byte in field {
        match byte {
            b'%' | b';' | b',' => _ = write!(out, "%{byte:02X}"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
}

fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut out = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        out.extend(&piece.as_bytes()[2..]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &[u8], separator: &[u8], at: usize) -> Record {
        Record::of(Head::new(fields, separator), at, LineEnding::Lf, "\n", false)
    }

    #[test]
    fn records_are_short_and_come_back() {
        let cases: [(Record, &str); 5] = [
            (record(b"A: b\n", b"\n", 1), "mailseal1;eol=lf;at="),
            (
                record(b"A: b\nMIME-Version: 1.0\nB: c\nC: d\nContent-Type: x\nE: f\n", b"\n", 1),
                "mailseal1;eol=lf;at=v2c",
            ),
            (
                record(b"Mime-Version: 1.0 (a;b,c%)\nMIME-Version: 1.0\nMIME-Version: 2\r\n", b"\n", 0),
                "mailseal1;eol=lf;at=vvv;mv=Mime-Version: 1.0 (a%3Bb%2Cc%25),,MIME-Version: 2%0D",
            ),
            (record(b"Content-Type: x", b"", 0), "mailseal1;eol=lf;at=c;end=cut"),
            (record(b"Content-Type: x\n", b"", 0), "mailseal1;eol=lf;at=c;end=none"),
        ];
        for (record, expected) in cases {
            assert_eq!(record.encode(), expected);
            assert_eq!(Record::parse(expected.as_bytes()), Some(record));
        }
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_lost() {
        let fields = b"MIME-Version: 1.0\nA: b\n".repeat(200);
        let record = record(&fields, b"\n", 0);
        assert_eq!(record.encode(), "mailseal1;eol=lf;lost=1");
        assert_eq!(Record::parse(b"mailseal1;eol=lf;lost=1").unwrap().places, None);
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in [&b""[..], b"encrypted.txt", b"mailseal1", b"mailseal2;eol=lf", b"mailseal1;eol=lf;x=y"] {
            assert_eq!(Record::parse(name), None, "{name:?}");
        }
        for name in [
            "mailseal1;eol=lf;at=x",
            "mailseal1;eol=lf;at=v;mv=%G0",
            "mailseal1;eol=lf;at=v;mv=%+F",
            "mailseal1;eol=lf;at=v;mv=%\u{e9}",
        ] {
            assert_eq!(Record::parse(name.as_bytes()), None, "{name:?}");
        }
    }
}
