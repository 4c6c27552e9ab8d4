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
//! | `at` | the items of the header's region from the place of our two fields on: a number of kept ones, `c` a `Content-*` field taken from the entity in order, `v` a MIME-Version field. What follows the last letter is kept |
//! | `mv` | the MIME-Version fields in order, `,` between them, each without its line ending when that is the message's; an empty one is `MIME-Version: 1.0` |
//! | `tail` | the header has a tail, which stands in the entity's header behind the `Content-*` fields. Outside, so many items stand between our fields and those that repeat fields of the tail |
//! | `ct` | 1: the entity's Content-Type was added |
//! | `m` | 1: the entity's header ends with the mark ([`crate::mark`]). With `hp` it is among what was added |
//! | `end` | the message ended with its header: `none` no empty line, `cut` not even the last line ended |
//! | `lost` | 1: the record did not fit; the places and MIME-Version fields are left out |
//! | `hp` | the header was protected and went inside whole: places and lengths of what was added to it and to the body, as `0+63,2048+1930`. There is no `at`, `mv`, `tail`, `ct` and `end` then |
//! | `out` | places of the lines that only the outside has |
//! | `pol` | what the outside hides: `none`, `baseline`, `shy`, `strict`, `sent`. Records of version 0.1 lack it |
//!
//! Fields with their usual value (`mv` all usual, `ct` and `m` 0, no `end`) are left out.
//!
//! **Whoever knows a certificate can seal, and write any record.** So a record is parsed like hostile input: what is
//! unknown, given twice or out of bounds makes it none of ours. It can only say how the two headers are put together;
//! whether that takes anything from the outer header is decided in [`crate::unseal::original`], by what stands there.

mod insertions;

use std::fmt::Write as _;

pub use self::insertions::Insertions;

use memchr::memchr_iter;

use crate::limits;
use crate::message::head::{Head, Item, Kind};
use crate::message::lines::LineEnding;
use crate::protect::policy::Policy;

/// What every record begins with: it tells our own messages from those a sender encrypted.
pub const MARK: &str = "mailseal1";

const USUAL_VERSION: &[u8] = b"MIME-Version: 1.0";

/// Most digits of a number in a record: more than the bytes of any header.
const DIGITS: usize = 8;

/// The record of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Line ending of the original.
    pub line_ending: LineEnding,
    /// How its header was taken apart.
    pub header: HeaderRecord,
}

/// How a header is put together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderRecord {
    /// Its `Content-*` fields and its tail are inside, the other fields outside.
    Plain(Plain),
    /// All of it is inside.
    Protected(Protected),
}

/// The record of a header whose fields stayed outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The items of the region from the place of our fields on; `None` where they did not fit.
    pub places: Option<Vec<Place>>,
    /// How many outer items stand between our fields and those that repeat the tail; `None` where there is no tail.
    pub tail: Option<usize>,
    /// Whether a Content-Type was added to the entity.
    pub added_type: bool,
    /// Whether the entity's header ends with the mark.
    pub marked: bool,
    /// How the header ended.
    pub end: HeadEnd,
}

/// The record of a header that went inside whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// What the outside hides; `None` in records of version 0.1, which do not tell.
    pub policy: Option<Policy>,
    /// What was added to the message.
    pub insertions: Insertions,
}

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

impl HeadEnd {
    fn of(head: Head<'_>) -> Self {
        match (head.separator(), head.fields().last()) {
            ([_, ..], _) => Self::EmptyLine,
            ([], Some(b'\n') | None) => Self::None,
            ([], _) => Self::Cut,
        }
    }
}

/// One step through the items of the original region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// So many items that the outer header kept.
    Kept(usize),
    /// The next `Content-*` field of the entity.
    Content,
    /// This MIME-Version field; with its line ending where it is not the message's.
    MimeVersion(Version),
}

/// One MIME-Version field, and nothing beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(Vec<u8>);

impl Version {
    /// The field without its line ending, where that is `ending`; `None` for another item.
    fn of(item: &Item<'_>, ending: &str) -> Option<Self> {
        let line = item.raw.strip_suffix(ending.as_bytes()).unwrap_or(item.raw);
        // Of a CRLF nothing is left off but the whole.
        let field = if line.ends_with(b"\r") { item.raw } else { line };
        (item.kind == Kind::MimeVersion).then(|| Self(field.to_vec()))
    }

    /// `MIME-Version: 1.0`.
    #[must_use]
    pub fn usual() -> Self {
        Self(USUAL_VERSION.to_vec())
    }

    /// The field that `bytes` is; `None` where it is not one, or more than one. Version 0.1 took blanks before the colon
    /// for a part of a field, and left off the LF of a CRLF.
    fn read(mut bytes: Vec<u8>) -> Option<Self> {
        if bytes.ends_with(b"\r") {
            bytes.push(b'\n');
        }
        let lone_cr = memchr_iter(b'\r', &bytes).any(|at| bytes.get(at + 1) != Some(&b'\n'));
        let mut items = Head::new(&bytes, b"").items();
        let named = items.next().is_some_and(|item| item.value_of("MIME-Version").is_some());
        (named && items.next().is_none() && !lone_cr).then_some(Self(bytes))
    }

    /// The bytes of the field.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Plain {
    /// Describes `head`, whose own new fields stand before item `at` of its region and end their lines with `ending`; and
    /// whether its entity gets a Content-Type and the mark.
    #[must_use]
    pub fn of(head: Head<'_>, at: usize, ending: &str, (added_type, marked): (bool, bool)) -> Self {
        let (region, tail) = head.split();
        let behind = || region.items().skip(at);
        Self {
            places: places(behind(), ending),
            tail: (!tail.is_empty()).then(|| behind().filter(|item| !item.kind.is_mime()).count()),
            added_type,
            marked,
            end: HeadEnd::of(head),
        }
    }

    /// The same where the places of the fields do not matter, or are lost.
    #[must_use]
    pub fn without_places(self) -> Self {
        Self { places: None, ..self }
    }
}

/// The steps through `items`; `None` where a record cannot hold them. More of them than it can hold are cut off.
fn places<'a>(items: impl Iterator<Item = Item<'a>>, ending: &str) -> Option<Vec<Place>> {
    let mut places = Vec::new();
    let (mut kept, mut bytes) = (0, 0);
    for item in items {
        let place = match item.kind {
            Kind::Content => Place::Content,
            Kind::MimeVersion => {
                bytes += item.raw.len();
                if bytes > limits::LITERAL_NAME {
                    return None;
                }
                Place::MimeVersion(Version::of(&item, ending)?)
            }
            Kind::FromLine | Kind::Field | Kind::Malformed => {
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
    Some(places)
}

impl Record {
    /// The record as the file name of a literal data packet, at most [`limits::LITERAL_NAME`] bytes. Where it does
    /// not fit, the places are left out and `lost=1` says so.
    #[must_use]
    pub fn encode(&self) -> String {
        let ending = match self.line_ending {
            LineEnding::Lf => "lf",
            LineEnding::Crlf => "crlf",
            LineEnding::Mixed => "mixed",
        };
        let (details, less) = match &self.header {
            HeaderRecord::Plain(plain) => {
                let rest = plain.encode_rest();
                (plain.places.as_deref().map(|places| encode_places(places) + &rest), rest)
            }
            HeaderRecord::Protected(protected) => (Some(protected.encode()), String::new()),
        };
        if let Some(details) = details {
            let record = format!("{MARK};eol={ending}{details}");
            if record.len() <= limits::LITERAL_NAME {
                return record;
            }
        }
        format!("{MARK};eol={ending};lost=1{less}")
    }

    /// Reads a record back; `None` where `name` is not one of ours.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let mut pieces = std::str::from_utf8(name).ok()?.split(';');
        if pieces.next()? != MARK {
            return None;
        }
        let mut fields = Fields::read(pieces)?;
        let line_ending = match fields.take("eol")? {
            "lf" => LineEnding::Lf,
            "crlf" => LineEnding::Crlf,
            "mixed" => LineEnding::Mixed,
            _ => return None,
        };
        let header = match fields.take("hp") {
            Some(added) => HeaderRecord::Protected(Protected::parse(added, &mut fields)?),
            None => HeaderRecord::Plain(Plain::parse(&mut fields)?),
        };
        fields.is_empty().then_some(Self { line_ending, header })
    }
}

/// The fields of a record that were not looked at yet.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    /// `None` where one is malformed or given twice.
    fn read(pieces: impl Iterator<Item = &'a str>) -> Option<Self> {
        let fields: Vec<_> = pieces.map(|piece| piece.split_once('=')).collect::<Option<_>>()?;
        let twice = |(n, field): (usize, &(&str, &str))| fields[..n].iter().any(|other| other.0 == field.0);
        (!fields.iter().enumerate().any(twice)).then_some(Self(fields))
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|field| field.0 == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A field that is there with this value, or not at all.
    fn take_flag(&mut self, name: &str) -> Option<bool> {
        match self.take(name) {
            None => Some(false),
            Some("1") => Some(true),
            Some(_) => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Plain {
    /// All but the places.
    fn encode_rest(&self) -> String {
        let mut rest = String::new();
        if let Some(tail) = self.tail {
            // Writing to a String cannot fail.
            let _ = write!(rest, ";tail={tail}");
        }
        if self.added_type {
            rest.push_str(";ct=1");
        }
        if self.marked {
            rest.push_str(";m=1");
        }
        match self.end {
            HeadEnd::EmptyLine => {}
            HeadEnd::None => rest.push_str(";end=none"),
            HeadEnd::Cut => rest.push_str(";end=cut"),
        }
        rest
    }

    fn parse(fields: &mut Fields<'_>) -> Option<Self> {
        let lost = fields.take_flag("lost")?;
        let places = match (fields.take("at"), fields.take("mv")) {
            (Some(at), versions) if !lost => parse_places(at, versions)?,
            (None, None) => None,
            _ => return None,
        };
        let tail = match fields.take("tail") {
            Some(count) => Some(number(count)?),
            None => None,
        };
        let end = match fields.take("end") {
            None => HeadEnd::EmptyLine,
            Some("none") => HeadEnd::None,
            Some("cut") => HeadEnd::Cut,
            Some(_) => return None,
        };
        let (added_type, marked) = (fields.take_flag("ct")?, fields.take_flag("m")?);
        Some(Self { places, tail, added_type, marked, end })
    }
}

impl Protected {
    /// Whether a record can hold it.
    #[must_use]
    pub fn fits(&self, line_ending: LineEnding) -> bool {
        let record = Record { line_ending, header: HeaderRecord::Protected(self.clone()) };
        Record::parse(record.encode().as_bytes()).as_ref() == Some(&record)
    }

    fn encode(&self) -> String {
        let policy = match self.policy {
            None => "",
            Some(Policy::None) => ";pol=none",
            Some(Policy::Baseline) => ";pol=baseline",
            Some(Policy::Shy) => ";pol=shy",
            Some(Policy::Strict) => ";pol=strict",
            Some(Policy::Sent) => ";pol=sent",
        };
        policy.to_owned() + &self.insertions.encode()
    }

    fn parse(added: &str, fields: &mut Fields<'_>) -> Option<Self> {
        let policy = match fields.take("pol") {
            None => None,
            Some("none") => Some(Policy::None),
            Some("baseline") => Some(Policy::Baseline),
            Some("shy") => Some(Policy::Shy),
            Some("strict") => Some(Policy::Strict),
            Some("sent") => Some(Policy::Sent),
            Some(_) => return None,
        };
        let insertions = Insertions::parse(added, fields.take("out").unwrap_or_default())?;
        Some(Self { policy, insertions })
    }
}

/// A number of few digits and nothing else.
fn number(text: &str) -> Option<usize> {
    let sound = (1..=DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| sound)
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
                if *field != Version::usual() {
                    unusual = true;
                    push_quoted(&mut versions, field.bytes());
                }
            }
        }
    }
    if unusual { format!(";at={at};mv={versions}") } else { format!(";at={at}") }
}

/// Reads the values of `at` and `mv`: `None` where they are malformed; `Some(None)`, places that are lost, where what is
/// said to be a MIME-Version field is not one, or holds a lone CR, as version 0.1 may have written it.
fn parse_places(at: &str, versions: Option<&str>) -> Option<Option<Vec<Place>>> {
    let mut versions = versions.map(|versions| versions.split(','));
    let mut places = Some(Vec::new());
    let mut rest = at;
    while let Some(first) = rest.chars().next() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (place, length) = match first {
            'c' => (Some(Place::Content), 1),
            'v' => {
                let field = match &mut versions {
                    Some(versions) => unquote(versions.next()?)?,
                    None => Vec::new(),
                };
                let field = if field.is_empty() { Some(Version::usual()) } else { Version::read(field) };
                (field.map(Place::MimeVersion), 1)
            }
            _ if digits > 0 => (Some(Place::Kept(number(&rest[..digits])?)), digits),
            _ => return None,
        };
        places = places.zip(place).map(|(mut places, place)| {
            places.push(place);
            places
        });
        rest = &rest[length..];
    }
    let all_used = versions.is_none_or(|mut versions| versions.next().is_none());
    all_used.then_some(places)
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
    use proptest::prelude::*;

    use super::*;

    fn record(fields: &[u8], separator: &[u8], at: usize) -> Record {
        let plain = Plain::of(Head::new(fields, separator), at, "\n", (false, false));
        Record { line_ending: LineEnding::Lf, header: HeaderRecord::Plain(plain) }
    }

    #[test]
    fn records_are_short_and_come_back() {
        let cases: [(Record, &str); 8] = [
            (record(b"A: b\n", b"\n", 1), "mailseal1;eol=lf;at="),
            (
                record(b"A: b\nMIME-Version: 1.0\nB: c\nC: d\nContent-Type: x\nE: f\n", b"\n", 1),
                "mailseal1;eol=lf;at=v2c",
            ),
            (
                record(b"Mime-Version: 1.0 (a;b,c%)\nMIME-Version: 1.0\nMIME-Version: 2\r\n", b"\n", 0),
                "mailseal1;eol=lf;at=vvv;mv=Mime-Version: 1.0 (a%3Bb%2Cc%25),,MIME-Version: 2%0D%0A",
            ),
            (record(b"Content-Type: x", b"", 0), "mailseal1;eol=lf;at=c;end=cut"),
            (record(b"Content-Type: x\n", b"", 0), "mailseal1;eol=lf;at=c;end=none"),
            (
                record(b"A: b\nContent-Type: x\nB: c\njunk\nTo: d", b"", 1),
                "mailseal1;eol=lf;at=c;tail=1;end=cut",
            ),
            (record(b"junk\nMIME-Version: 1.0\n", b"\n", 0), "mailseal1;eol=lf;at=;tail=0"),
            (
                Record {
                    line_ending: LineEnding::Crlf,
                    header: HeaderRecord::Protected(Protected {
                        policy: Some(Policy::Baseline),
                        insertions: Insertions::new(vec![0..5, 7..9], vec![5]).unwrap(),
                    }),
                },
                "mailseal1;eol=crlf;pol=baseline;hp=0+5,7+2;out=5",
            ),
        ];
        for (record, expected) in cases {
            assert_eq!(record.encode(), expected);
            assert_eq!(Record::parse(expected.as_bytes()), Some(record));
        }
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_lost() {
        let fields = [&b"MIME-Version: 1.0\nA: b\n".repeat(200)[..], b"junk\n"].concat();
        let record = record(&fields, b"\n", 0);
        assert_eq!(record.encode(), "mailseal1;eol=lf;lost=1;tail=200");
        let HeaderRecord::Plain(plain) = Record::parse(b"mailseal1;eol=lf;lost=1;tail=200").unwrap().header
        else {
            panic!()
        };
        assert_eq!((plain.places, plain.tail), (None, Some(200)));
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in ["", "encrypted.txt", "mailseal1", "mailseal2;eol=lf", "mailseal1;at="] {
            assert_eq!(Record::parse(name.as_bytes()), None, "{name:?}");
        }
        for fields in [
            "x=y",
            "at=x",
            "at=-1c",
            "at=+1c",
            "at=18446744073709551615c",
            "at=999999999c",
            "at=v;mv=%G0",
            "at=v;mv=%+F",
            "at=v;mv=%\u{e9}",
            "at=v;mv=a,b",
            "at=vv;mv=MIME-Version: 2",
            "at=c;at=c",
            "at=c;lost=1",
            "mv=MIME-Version: 2",
            "lost=0",
            "ct=2",
            "end=x",
            "tail=",
            "tail=-1",
            "tail=123456789",
            "hp=;at=c",
            "hp=;tail=1",
            "hp=;ct=1",
            "hp=;lost=1",
            "hp=;pol=x",
            "pol=baseline",
            "out=1",
            "hp=1+123456789",
        ] {
            assert_eq!(Record::parse(format!("mailseal1;eol=lf;{fields}").as_bytes()), None, "{fields:?}");
        }
    }

    #[test]
    fn nothing_but_a_mime_version_comes_from_the_record() {
        for (field, sound) in [
            ("MIME-Version: 2", true),
            ("mime-version:%0A 2%0D%0A", true),
            ("Mime-Version : 1.0 (as version 0.1 wrote it)", true),
            ("MIME-Version: 1.0%0D%0AFrom: a@b", false),
            ("MIME-Version: 1.0%0AFrom: a@b", false),
            ("MIME-Version: 1.0%0A%0Atext", false),
            ("MIME-Version: 1.0%0D%0A%0D%0A", false),
            ("MIME-Version: 1.0%0DFrom: a@b", false),
            ("MIME-Version: 1.0%0D%0A%0D", false),
            ("MIME-Version: 1.0%0D", true),
            ("From: a@b", false),
            ("%0AMIME-Version: 1.0", false),
            (" MIME-Version: 1.0", false),
            ("MIME-Version", false),
        ] {
            let record = Record::parse(format!("mailseal1;eol=lf;at=v;mv={field}").as_bytes()).unwrap();
            let HeaderRecord::Plain(plain) = record.header else { panic!() };
            assert_eq!(plain.places.is_some(), sound, "{field}");
        }
    }

    fn place() -> impl Strategy<Value = Place> {
        const VERSIONS: [&str; 4] =
            ["MIME-Version: 1.0", "mime-version:2;,%", "MIME-Version: \u{e9}", "MIME-Version: 1.0\r\n"];
        prop_oneof![
            Just(Place::Content),
            proptest::sample::select(&VERSIONS[..]).prop_map(|it| Place::MimeVersion(Version(it.into()))),
        ]
    }

    proptest! {
        #[test]
        fn a_record_that_fits_comes_back(
            steps in proptest::collection::vec((place(), 0..3usize), 0..8),
            tail in proptest::option::of(0..99_999_999usize),
            added_type in any::<bool>(),
            marked in any::<bool>(),
            end in proptest::sample::select(&[HeadEnd::EmptyLine, HeadEnd::None, HeadEnd::Cut][..]),
            line_ending in proptest::sample::select(&[LineEnding::Lf, LineEnding::Crlf, LineEnding::Mixed][..]),
        ) {
            let mut places = Vec::new();
            for (place, kept) in steps {
                places.push(place);
                places.extend((kept > 0).then_some(Place::Kept(kept)));
            }
            let plain = Plain { places: Some(places), tail, added_type, marked, end };
            let record = Record { line_ending, header: HeaderRecord::Plain(plain.clone()) };
            let text = record.encode();
            prop_assert!(text.len() <= limits::LITERAL_NAME);
            let lost = Record { line_ending, header: HeaderRecord::Plain(plain.without_places()) };
            let expected = if text.contains(";lost=1") { lost.clone() } else { record };
            prop_assert_eq!(Record::parse(text.as_bytes()), Some(expected));
            prop_assert_eq!(Record::parse(lost.encode().as_bytes()), Some(lost));
        }

        #[test]
        fn what_is_quoted_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut text = String::new();
            push_quoted(&mut text, &bytes);
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b';' && byte != b','));
            prop_assert_eq!(unquote(&text), Some(bytes));
        }
    }

    #[test]
    fn a_record_has_room_for_a_bounded_number_of_places() {
        let fields = |count: usize| "Content-A: b\n".repeat(count);
        let found = |count: usize| {
            let head = fields(count);
            places(Head::new(head.as_bytes(), b"\n").items(), "\n").unwrap().len()
        };
        assert_eq!(found(limits::LITERAL_NAME), limits::LITERAL_NAME);
        assert_eq!(found(limits::LITERAL_NAME + 5), limits::LITERAL_NAME + 1, "more than fit");
        for (length, fits) in [(limits::LITERAL_NAME, true), (limits::LITERAL_NAME + 1, false)] {
            let half = length / 2;
            let version = |length: usize| format!("MIME-Version: {}\n", "x".repeat(length - 15));
            let fields = version(half) + &version(length - half);
            assert_eq!(fields.len(), length);
            let found = places(Head::new(fields.as_bytes(), b"\n").items(), "\n");
            assert_eq!(found.is_some(), fits, "{length}");
        }
        let kept = places(Head::new(b"A: b\nC: d\nContent-E: f\nG: h\n", b"\n").items(), "\n").unwrap();
        assert_eq!(kept, [Place::Kept(2), Place::Content], "what follows the last is kept");
        let exact = |length: usize| {
            let rest = format!("{MARK};eol=lf;at=").len();
            let plain = Plain {
                places: Some(vec![Place::Content; length - rest]),
                tail: None,
                added_type: false,
                marked: false,
                end: HeadEnd::EmptyLine,
            };
            Record { line_ending: LineEnding::Lf, header: HeaderRecord::Plain(plain) }.encode()
        };
        assert_eq!(exact(limits::LITERAL_NAME).len(), limits::LITERAL_NAME);
        assert!(exact(limits::LITERAL_NAME + 1).ends_with(";lost=1"));
    }

    #[test]
    fn a_number_has_few_digits_and_nothing_else() {
        for (text, expected) in [
            ("0", Some(0)),
            ("12345678", Some(12_345_678)),
            ("123456789", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_header_ends_with_a_line_or_in_one() {
        for (fields, separator, expected) in [
            ("A: b\n", "\n", HeadEnd::EmptyLine),
            ("", "\n", HeadEnd::EmptyLine),
            ("A: b\n", "", HeadEnd::None),
            ("", "", HeadEnd::None),
            ("A: b", "", HeadEnd::Cut),
        ] {
            assert_eq!(
                HeadEnd::of(Head::new(fields.as_bytes(), separator.as_bytes())),
                expected,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn a_version_is_kept_with_the_ending_that_is_not_the_message_s() {
        for (raw, ending, expected) in [
            ("MIME-Version: 1.0\n", "\n", Some("MIME-Version: 1.0")),
            ("MIME-Version: 1.0\r\n", "\r\n", Some("MIME-Version: 1.0")),
            ("MIME-Version: 1.0\n", "\r\n", Some("MIME-Version: 1.0\n")),
            ("MIME-Version: 1.0\r\n", "\n", Some("MIME-Version: 1.0\r\n")),
            ("MIME-Version: 1.0", "\n", Some("MIME-Version: 1.0")),
            ("Subject: 1.0\n", "\n", None),
        ] {
            let item = Head::new(raw.as_bytes(), b"").items().next().unwrap();
            let found = Version::of(&item, ending);
            assert_eq!(found.as_ref().map(Version::bytes), expected.map(str::as_bytes), "{raw:?}");
        }
    }

    #[test]
    fn a_protected_header_fits_a_record_of_bounded_length() {
        let with = |count: usize| {
            let added = (0..count).map(|n| n * 10..n * 10 + 5).collect();
            Protected { policy: Some(Policy::Shy), insertions: Insertions::new(added, Vec::new()).unwrap() }
        };
        assert!(with(3).fits(LineEnding::Lf) && !with(100).fits(LineEnding::Lf));
        let policies = [Policy::None, Policy::Baseline, Policy::Shy, Policy::Strict, Policy::Sent];
        for policy in policies.map(Some).into_iter().chain([None]) {
            let record = Record {
                line_ending: LineEnding::Mixed,
                header: HeaderRecord::Protected(Protected { policy, ..with(2) }),
            };
            assert_eq!(Record::parse(record.encode().as_bytes()), Some(record));
        }
    }

    #[test]
    fn the_tail_stands_behind_what_is_not_of_mime() {
        let plain = |fields: &[u8], at| Plain::of(Head::new(fields, b"\n"), at, "\n", (true, false));
        assert_eq!(plain(b"A: b\nContent-C: d\nE: f\n", 1).tail, None);
        assert_eq!(plain(b"A: b\nContent-C: d\nE: f\njunk\n", 1).tail, Some(1));
        assert_eq!(plain(b"A: b\nContent-C: d\nE: f\njunk\n", 0).tail, Some(2));
        assert_eq!(plain(b"A: b\n", 0).without_places(), Plain { places: None, ..plain(b"A: b\n", 0) });
    }
}
