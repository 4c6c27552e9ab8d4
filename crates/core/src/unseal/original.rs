//! The header of the original, out of the outer header, the entity's header, and the record.
//!
//! A pure function: what is read and written around it is [`super::unseal`]'s. **The record comes from whoever sealed**: it
//! says where things stood, and never takes a field from the outer header but our own two, and such as repeat what comes
//! back from inside byte for byte.

use std::borrow::Cow;

use super::server::without_shown;
use super::version1;
use crate::mark::is_mark;
use crate::message::head::{Head, Item, Kind, Tail};
use crate::message::lines::{LineEnding, first_ending};
use crate::message::opening::Opening;
use crate::record::{HeadEnd, Place, Plain, Record, Version};

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
pub(super) fn stored(outer: Head<'_>) -> LineEnding {
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
    /// Whether every field is there that only the inside has.
    pub whole: bool,
}

/// Puts the `Content-*` fields and the tail of the entity and the MIME-Version fields of the `record` back into the `outer`
/// header, in the place of ours. The entity begins with `inside`, which has the line ending `ending` already; `line_ending`
/// is the record's.
///
/// All other fields of the outer header stay, but for those that repeat the tail. Where fields are gone, or the record did
/// not fit, the MIME fields stand together in the place of ours.
#[must_use]
pub fn header(
    outer: Head<'_>,
    inside: &Opening,
    record: &Plain,
    line_ending: LineEnding,
    ending: LineEnding,
) -> Header {
    let fields = with_ending(outer.fields(), stored(outer), ending);
    let mut outer = Outer::of(Head::new(&fields, outer.separator()));
    let end = believed(record.end, inside);
    let entity = Entity::of(inside.head(), record, end, outer.line_end);
    let repeats = outer.take_repetitions(&entity.tail, record.tail);
    let mut exact = record.places.is_some() && repeats && entity.exact && end == record.end;

    let mut header = Lines::new(outer.line_end);
    outer.before.iter().for_each(|item| header.push(item.raw));
    let (mut kept, mut moved) = (outer.behind.into_iter(), entity.content.into_iter());
    let usual = [Place::MimeVersion(Version::usual())];
    for place in record.places.as_deref().unwrap_or(&usual) {
        match place {
            Place::Kept(count) => {
                exact &= *count <= kept.len();
                kept.by_ref().take(*count).for_each(|item| header.push(item.raw));
            }
            Place::Content => {
                exact &= moved.len() > 0;
                moved.by_ref().take(1).for_each(|item| header.push(item.raw));
            }
            Place::MimeVersion(field) => header.push(&with_ending(field.bytes(), line_ending, ending)),
        }
    }
    exact &= moved.len() == 0;
    moved.chain(kept).for_each(|item| header.push(item.raw));
    exact &= match repeats {
        true => header.push_tail(entity.tail.bytes()),
        false => header.push_tail(&without_shown(&entity.tail)),
    };
    header.end(inside.head().separator(), end);
    Header { bytes: header.bytes, exact, whole: true }
}

/// The outer header without our two fields.
#[derive(Debug)]
pub(super) struct Outer<'a> {
    /// What stands before them.
    pub before: Vec<Item<'a>>,
    /// And behind.
    pub behind: Vec<Item<'a>>,
    /// How they end their lines.
    pub line_end: &'static str,
}

impl<'a> Outer<'a> {
    /// Takes `outer` apart.
    pub fn of(outer: Head<'a>) -> Self {
        let before: Vec<Item<'_>> = outer.items().take_while(|item| !item.kind.is_mime()).collect();
        let ours = outer.items().nth(before.len());
        let behind = outer.items().skip(before.len()).filter(|item| !item.kind.is_mime()).collect();
        Self { before, behind, line_end: first_ending(ours.map_or(&b""[..], |item| item.raw)) }
    }

    /// Takes away what repeats the `tail`, `at` items behind our fields; false where something else stands there.
    ///
    /// Then each of the server's fields in the tail, being listed, stood outside until now.
    fn take_repetitions(&mut self, tail: &Tail<'_>, at: Option<usize>) -> bool {
        let Some(at) = at else { return true };
        let expected: Vec<Cow<'_, [u8]>> = tail.repeated().map(|item| item.ended(self.line_end)).collect();
        let place = at..at.saturating_add(expected.len());
        let found = self.behind.get(place.clone()).is_some_and(|found| {
            found.iter().zip(&expected).all(|(item, expected)| is_same(item.raw, expected))
        });
        if found {
            self.behind.drain(place);
        }
        found
    }
}

/// The header of an entity that holds only what was taken out of the message's.
struct Entity<'a> {
    content: Vec<Item<'a>>,
    tail: Tail<'a>,
    exact: bool,
}

impl<'a> Entity<'a> {
    /// Without a tail it may be of version 0.1, which took more for a `Content-*` field.
    fn of(head: Head<'a>, record: &Plain, end: HeadEnd, line_end: &str) -> Self {
        let (region, tail) = match (record.tail, end) {
            (None, _) => head.whole(),
            // A CR that the message ends with alone is one that stands alone, whatever was put behind it.
            (Some(_), HeadEnd::Cut) => head.without_last(line_end).split_inside(),
            (Some(_), _) => head.split_inside(),
        };
        let (mut content, others): (Vec<_>, Vec<_>) = region.items().partition(|item| match record.tail {
            Some(_) => item.kind == Kind::Content,
            None => version1::is_content(item),
        });
        // It ends the header; what a sender put elsewhere is the sender's.
        let marked = record.marked && others.last().is_some_and(is_mark);
        let mut exact = others.len() == usize::from(marked) && marked == record.marked;
        if record.added_type {
            let added =
                content.first().is_some_and(|item| item.raw.trim_ascii_end() == b"Content-Type: text/plain");
            content.drain(..usize::from(added));
            exact &= added;
        }
        Self { content, tail, exact }
    }
}

/// Whether two lines are the same but for their endings, which a store may change. It takes no longer than the shorter one
/// of them is.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    fn next(text: &mut &[u8]) -> Option<u8> {
        *text = text.strip_prefix(b"\r").filter(|rest| rest.starts_with(b"\n")).unwrap_or(*text);
        text.split_off_first().copied()
    }
    let (mut one, mut other) = (one, other);
    loop {
        match (next(&mut one), next(&mut other)) {
            (None, None) => return true,
            (a, b) if a != b => return false,
            _ => {}
        }
    }
}

/// The lines of a header that is put together.
#[derive(Debug)]
pub(super) struct Lines {
    /// What was put together.
    pub bytes: Vec<u8>,
    line_end: &'static str,
}

impl Lines {
    /// Lines that lack an ending get `line_end` when another follows.
    pub fn new(line_end: &'static str) -> Self {
        Self { bytes: Vec::new(), line_end }
    }

    /// Adds an item; none begins with a blank.
    pub fn push(&mut self, item: &[u8]) {
        self.end_line();
        self.bytes.extend_from_slice(item);
    }

    /// Adds a tail. One that would continue a field before it gets a field of its own to continue, and the header is not
    /// exact then.
    pub fn push_tail(&mut self, tail: &[u8]) -> bool {
        let mbox_line_alone = || {
            self.bytes.starts_with(b"From ")
                && memchr::memchr(b'\n', &self.bytes) == Some(self.bytes.len() - 1)
        };
        let joins =
            matches!(tail.first(), Some(b' ' | b'\t')) && !self.bytes.is_empty() && !mbox_line_alone();
        if joins {
            self.push(b"X-Header-Text:");
        }
        if !tail.is_empty() {
            self.push(tail);
        }
        !joins
    }

    /// Whether the last line has its ending.
    pub fn is_ended(&self) -> bool {
        self.bytes.is_empty() || self.bytes.ends_with(b"\n")
    }

    fn end_line(&mut self) {
        if !self.is_ended() {
            self.bytes.extend_from_slice(self.line_end.as_bytes());
        }
    }

    /// Ends the header as `end` says, where there is an empty line with this `separator`.
    fn end(&mut self, separator: &[u8], end: HeadEnd) {
        self.end_line();
        match end {
            HeadEnd::EmptyLine if separator.is_empty() => {
                self.bytes.extend_from_slice(self.line_end.as_bytes())
            }
            HeadEnd::EmptyLine => self.bytes.extend_from_slice(separator),
            HeadEnd::None => {}
            HeadEnd::Cut => {
                let line = self.bytes.strip_suffix(self.line_end.as_bytes());
                self.bytes.truncate(line.map_or(self.bytes.len(), <[u8]>::len));
            }
        }
    }
}

/// How the header of the message that begins with `inside` ended: as the record says, but where there is a body, with an empty
/// line. Otherwise the body would become a part of the header.
fn believed(end: HeadEnd, inside: &Opening) -> HeadEnd {
    match (end, inside.body()) {
        (HeadEnd::None | HeadEnd::Cut, []) | (HeadEnd::None, [b'\r']) if inside.is_whole() => end,
        _ => HeadEnd::EmptyLine,
    }
}

/// `text`, whose lines end with `from`, with those of `to`. Mixed ones stay.
pub(super) fn with_ending(text: &[u8], from: LineEnding, to: LineEnding) -> Cow<'_, [u8]> {
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
    use proptest::prelude::*;

    use super::*;
    use crate::record::HeaderRecord;

    const OURS: &str = "MIME-Version: 1.0\nContent-Type: multipart/encrypted;\n\tboundary=x\n";

    fn restored(outer: &str, entity: &str, record: &str, endings: Endings) -> (String, bool) {
        let record = Record::parse(format!("mailseal1;{record}").as_bytes()).unwrap();
        let HeaderRecord::Plain(plain) = &record.header else { panic!() };
        let outer = Head::new(outer.as_bytes(), b"\n");
        let ending = ending(outer, &record, endings);
        let separator = if ending == LineEnding::Crlf { "\r\n" } else { "\n" };
        let inside = Opening::read(&mut format!("{entity}{separator}").as_bytes()).unwrap();
        let header = header(outer, &inside, plain, record.line_ending, ending);
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

    proptest! {
        #[test]
        fn lines_are_the_same_but_for_their_endings(one in "[a\r\n]{0,5}", other in "[a\r\n]{0,5}") {
            let expected = one.replace("\r\n", "\n") == other.replace("\r\n", "\n");
            prop_assert_eq!(is_same(one.as_bytes(), other.as_bytes()), expected, "{:?} {:?}", one, other);
        }

        #[test]
        fn a_text_gets_other_endings(lines in proptest::collection::vec("[a\r]{0,2}b", 0..5)) {
            use LineEnding::{Crlf, Lf, Mixed};

            let with = |ending: &str| lines.iter().map(|line| format!("{line}{ending}")).collect::<String>();
            let (lf, crlf) = (with("\n"), with("\r\n"));
            prop_assert_eq!(&*with_ending(lf.as_bytes(), Lf, Crlf), crlf.as_bytes());
            prop_assert_eq!(&*with_ending(crlf.as_bytes(), Crlf, Lf), lf.as_bytes());
            for (from, to) in [(Lf, Lf), (Crlf, Crlf), (Mixed, Lf), (Mixed, Crlf), (Lf, Mixed)] {
                prop_assert_eq!(&*with_ending(lf.as_bytes(), from, to), lf.as_bytes());
            }
        }
    }

    #[test]
    fn a_tail_that_would_continue_a_field_gets_one_of_its_own() {
        for (before, tail, expected, exact) in [
            ("", " a\n", " a\n", true),
            ("A: b\n", " c\n", "A: b\nX-Header-Text:\r\n c\n", false),
            ("A: b\n", "\tc\n", "A: b\nX-Header-Text:\r\n\tc\n", false),
            ("From a\n", " c\n", "From a\n c\n", true),
            ("From a\nA: b\n", " c\n", "From a\nA: b\nX-Header-Text:\r\n c\n", false),
            ("A: b\n", "junk\n", "A: b\njunk\n", true),
            ("A: b", "junk\n", "A: b\r\njunk\n", true),
            ("A: b", "", "A: b", true),
            ("A: b\n", "", "A: b\n", true),
        ] {
            let mut lines = Lines { bytes: before.as_bytes().to_vec(), line_end: "\r\n" };
            assert_eq!(lines.push_tail(tail.as_bytes()), exact, "{before:?} {tail:?}");
            assert_eq!(String::from_utf8(lines.bytes).unwrap(), expected, "{before:?} {tail:?}");
        }
    }

    #[test]
    fn a_header_ends_as_it_did() {
        for (bytes, separator, end, expected) in [
            ("A: b\n", "\n", HeadEnd::EmptyLine, "A: b\n\n"),
            ("A: b\n", "\r\n", HeadEnd::EmptyLine, "A: b\n\r\n"),
            ("A: b\n", "", HeadEnd::EmptyLine, "A: b\n\n"),
            ("A: b", "\n", HeadEnd::EmptyLine, "A: b\n\n"),
            ("A: b\n", "\n", HeadEnd::None, "A: b\n"),
            ("A: b", "\n", HeadEnd::None, "A: b\n"),
            ("A: b\n", "\n", HeadEnd::Cut, "A: b"),
            ("A: b", "\n", HeadEnd::Cut, "A: b"),
            ("", "\n", HeadEnd::Cut, ""),
        ] {
            let mut lines = Lines { bytes: bytes.as_bytes().to_vec(), line_end: "\n" };
            lines.end(separator.as_bytes(), end);
            assert_eq!(String::from_utf8(lines.bytes).unwrap(), expected, "{bytes:?} {end:?}");
        }
    }

    #[test]
    fn an_end_is_believed_where_there_is_no_body() {
        let inside = |text: &str| Opening::read(&mut text.as_bytes()).unwrap();
        for (text, believes_none, believes_cut) in [
            ("A: b\n\n", true, true),
            ("A: b\n", true, true),
            ("A: b\n\nbody", false, false),
            ("A: b\n\n\r", true, false),
            ("A: b\n\n\n", false, false),
        ] {
            let found = [HeadEnd::None, HeadEnd::Cut].map(|end| believed(end, &inside(text)) == end);
            assert_eq!(found, [believes_none, believes_cut], "{text:?}");
            assert_eq!(believed(HeadEnd::EmptyLine, &inside(text)), HeadEnd::EmptyLine);
        }
    }

    #[test]
    fn what_repeats_the_tail_is_taken_away_only_where_it_stands() {
        let outer = format!("A: b\n{OURS}C: d\nTo: e\nSubject: f\nG: h\n");
        let (_, tail) = Head::new(b"junk\nTo: e\r\nX: y\nSubject: f\n", b"\n").split();
        for (at, found) in [
            (Some(1), true),
            (Some(0), false),
            (Some(2), false),
            (Some(9), false),
            (Some(usize::MAX), false),
            (None, true),
        ] {
            let mut outer = Outer::of(Head::new(outer.as_bytes(), b"\n"));
            assert_eq!((outer.before.len(), outer.behind.len()), (1, 4));
            assert_eq!(outer.take_repetitions(&tail, at), found, "{at:?}");
            assert_eq!(outer.behind.len(), if at == Some(1) { 2 } else { 4 }, "{at:?}");
        }
    }

    #[test]
    fn the_stored_ending_is_that_of_our_own_fields() {
        for (outer, expected) in [
            ("A: b\r\nMIME-Version: 1.0\nC: d\r\n", LineEnding::Lf),
            ("A: b\nContent-Type: x\r\nC: d\n", LineEnding::Crlf),
            ("A: b\r\n", LineEnding::Lf),
        ] {
            assert_eq!(stored(Head::new(outer.as_bytes(), b"\n")), expected, "{outer:?}");
        }
    }
}
