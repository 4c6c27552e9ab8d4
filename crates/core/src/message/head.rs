//! The header block of a message, byte for byte: where its fields begin and end, which of them are MIME's, and where its
//! tail begins.
//!
//! It knows lines, field names and nothing of what fields mean; no byte is ever changed here. A line ends with
//! LF or CRLF; a CR alone is a byte like any other.
//!
//! Readers disagree about a header with a line that is not a field, or with a line of blanks: some take what follows for
//! the body. [`Head::split`] cuts a header there. Every item of the [`Region`] before the cut is a field for all readers;
//! the [`Tail`] goes inside as it is, and only [`Tail::repeated`] tells what of it may be shown outside as well.

use std::borrow::Cow;
use std::io::{self, Write};
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2, memchr2_iter};

use crate::message::lines::first_ending;

/// The header block: the lines before the first empty one, and that empty line.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    fields: &'a [u8],
    separator: &'a [u8],
}

/// A field with its continuation lines, or a line that is no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// All bytes, line endings included. Only the last item of a message without a body may lack one.
    pub raw: &'a [u8],
    /// What kind of line it is.
    pub kind: Kind,
}

/// What an [`Item`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The `From ` line that mbox puts first. Nothing continues it.
    FromLine,
    /// A well-formed `Content-*` field.
    Content,
    /// A well-formed `MIME-Version` field.
    MimeVersion,
    /// Any other well-formed field: its name is printable ASCII without blanks up to the colon, and no CR stands alone in
    /// it.
    Field,
    /// A line that is not a field. Several readers take what follows it for the body.
    Malformed,
}

impl Kind {
    /// Whether sealing takes the item out of the outer header.
    #[must_use]
    pub fn is_mime(self) -> bool {
        matches!(self, Self::Content | Self::MimeVersion)
    }
}

impl<'a> Head<'a> {
    /// A head of `fields` (lines, each with its ending) and the empty line behind them: `\n`, `\r\n`, or nothing
    /// where the message ends with its header.
    #[must_use]
    pub fn new(fields: &'a [u8], separator: &'a [u8]) -> Self {
        Self { fields, separator }
    }

    /// Finds the end of the header in `bytes`, looking from `from` on (a line start at or before the place where an
    /// earlier call gave up): where the fields end, and where the body begins.
    #[must_use]
    pub fn find_end(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
        let mut line = from;
        loop {
            match &bytes[line..] {
                [b'\n', ..] => return Some((line, line + 1)),
                [b'\r', b'\n', ..] => return Some((line, line + 2)),
                rest => line += memchr(b'\n', rest)? + 1,
            }
        }
    }

    /// The lines before the empty one.
    #[must_use]
    pub fn fields(&self) -> &'a [u8] {
        self.fields
    }

    /// The empty line; nothing where the message ends with its header.
    #[must_use]
    pub fn separator(&self) -> &'a [u8] {
        self.separator
    }

    /// The line ending of what is written into this header: that of its first line.
    #[must_use]
    pub fn ending(&self) -> &'static str {
        first_ending(if self.fields.is_empty() { self.separator } else { self.fields })
    }

    /// The items in order. They are found while iterating, so that a header of a million fields costs no memory.
    #[must_use]
    pub fn items(&self) -> Items<'a> {
        Items { rest: self.fields, first: true }
    }

    /// Cuts the header where its tail begins.
    #[must_use]
    pub fn split(&self) -> (Region<'a>, Tail<'a>) {
        self.cut(true)
    }

    /// The same for the header of an entity, where sealing puts [`Region`] fields and the [`Tail`] behind them. An mbox
    /// line is the tail's there, though nothing may stand before it.
    #[must_use]
    pub fn split_inside(&self) -> (Region<'a>, Tail<'a>) {
        self.cut(false)
    }

    /// The same without the `ending` of its last line.
    #[must_use]
    pub fn without_last(&self, ending: &str) -> Self {
        Self { fields: self.fields.strip_suffix(ending.as_bytes()).unwrap_or(self.fields), ..*self }
    }

    /// All of it as a region, whatever its items are: for what version 0.1 wrote, which knew no tail.
    #[must_use]
    pub fn whole(&self) -> (Region<'a>, Tail<'a>) {
        (Region { fields: self.fields, first: true }, Tail { fields: &[], first: false })
    }

    fn cut(&self, first: bool) -> (Region<'a>, Tail<'a>) {
        let mut items = Items { rest: self.fields, first };
        let region: usize = items
            .by_ref()
            .take_while(|item| item.kind != Kind::Malformed && item.blank_lines().is_none())
            .map(|item| item.raw.len())
            .sum();
        let (region, tail) = self.fields.split_at(region);
        (Region { fields: region, first }, Tail { fields: tail, first: first && region.is_empty() })
    }

    /// Whether a Content-Type must not be put before the fields: some reader may find one among them, or the tail must stand
    /// first.
    #[must_use]
    pub fn may_have_type(&self) -> bool {
        let (region, tail) = self.split();
        region.may_have_type(&tail)
    }

    /// The only field called `name` (without regard to case). `None` where there is none, or more than one.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<&'a [u8]> {
        let mut found = self.items().filter_map(|item| item.value_of(name));
        let value = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// How many fields are called `name` (without regard to case).
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.items().filter(|item| item.value_of(name).is_some()).count()
    }
}

impl<'a> Item<'a> {
    /// Where the first lines of blanks in the item lie, if there are any.
    fn blank_lines(&self) -> Option<Range<usize>> {
        let mut found: Option<Range<usize>> = None;
        let mut at = 0;
        for line in self.raw.split_inclusive(|&byte| byte == b'\n') {
            let blank = line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
            match &mut found {
                Some(range) if blank => range.end += line.len(),
                Some(_) => break,
                None if blank => found = Some(at..at + line.len()),
                None => at += line.len(),
            }
        }
        found
    }

    /// The item up to its first line of blanks.
    #[must_use]
    pub fn before_blank_lines(&self) -> &'a [u8] {
        &self.raw[..self.blank_lines().map_or(self.raw.len(), |range| range.start)]
    }

    /// The item with its first lines of blanks, and nothing behind them: to some readers that is the body.
    fn with_blank_lines(&self) -> &'a [u8] {
        &self.raw[..self.blank_lines().map_or(self.raw.len(), |range| range.end)]
    }

    /// The name of a field as it is spelled, without the blanks before its colon; nothing where this is no field.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        split_field(self.raw).map_or(&[], |(name, _)| name.trim_ascii_end())
    }

    /// The item, its line ended with `ending` where a message that breaks off in its header left it open.
    #[must_use]
    pub fn ended(&self, ending: &str) -> Cow<'a, [u8]> {
        if self.raw.ends_with(b"\n") {
            Cow::Borrowed(self.raw)
        } else {
            Cow::Owned([self.raw, ending.as_bytes()].concat())
        }
    }

    /// Writes the item, and ends its line with `ending` where a message that breaks off in its header left it open.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, ending: &str, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.raw)?;
        if self.raw.ends_with(b"\n") { Ok(()) } else { out.write_all(ending.as_bytes()) }
    }

    /// What stands behind the colon of a field, its line ending included; nothing where this is no field.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        split_field(self.raw).map_or(&[], |(_, value)| value)
    }

    /// What stands behind the colon, its line ending included, when this is a field called `name`.
    #[must_use]
    pub fn value_of(&self, name: &str) -> Option<&'a [u8]> {
        let (found, value) = split_field(self.raw)?;
        found.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    }
}

/// The beginning of a header, in which every item is a field for every reader: none is [`Kind::Malformed`], and no line
/// holds blanks only.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a> {
    fields: &'a [u8],
    first: bool,
}

impl<'a> Region<'a> {
    /// The items in order.
    #[must_use]
    pub fn items(&self) -> Items<'a> {
        Items { rest: self.fields, first: self.first }
    }

    /// As [`Head::may_have_type`], where `tail` follows.
    #[must_use]
    pub fn may_have_type(&self, tail: &Tail<'_>) -> bool {
        self.called("Content-Type").next().is_some()
            || tail.stands_first()
            || tail.perhaps("Content-Type").next().is_some()
    }

    /// The fields called `name` (without regard to case).
    pub fn called(&self, name: &str) -> impl Iterator<Item = Item<'a>> {
        self.items().filter(move |item| item.value_of(name).is_some())
    }
}

/// The end of a header, from the first item on that is not a field or has a line of blanks in it. Some readers take it, or
/// what follows its first item, for the body. It may be empty.
#[derive(Clone, Copy, Debug)]
pub struct Tail<'a> {
    fields: &'a [u8],
    /// Whether it is the whole header.
    first: bool,
}

/// Fields that Sieve rules, mailing lists and guards against loops need, and those that only servers write: shown outside
/// although they stand in a tail.
const LISTED: [&str; 17] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Date",
    "Subject",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Received",
    "Return-Path",
    "Delivered-To",
    "Authentication-Results",
    "Precedence",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
];

/// Beginnings of names that are listed as well.
const LISTED_BEGINNINGS: [&str; 5] = ["Resent-", "List-", "ARC-", "X-Spam", "X-Rspamd"];

impl<'a> Tail<'a> {
    /// All of it, as it stands in the message.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.fields
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Writes all of it, and ends its last line with `ending` where a message that breaks off in its header left it open.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, ending: &str, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.fields)?;
        if self.is_empty() || self.fields.ends_with(b"\n") {
            Ok(())
        } else {
            out.write_all(ending.as_bytes())
        }
    }

    /// Whether nothing can be put before it without a change of what readers see: it begins with a blank, and would continue
    /// that, or with an mbox line (one with a lone CR in it).
    #[must_use]
    pub fn stands_first(&self) -> bool {
        matches!(self.fields.first(), Some(b' ' | b'\t')) || self.first && self.fields.starts_with(b"From ")
    }

    /// The items in order. None is a [`Kind::FromLine`].
    #[must_use]
    pub fn items(&self) -> Items<'a> {
        Items { rest: self.fields, first: false }
    }

    /// What the outside shows as well, in order: the well-formed fields that are listed, and the first item where it is
    /// a well-formed field that merely has a line of blanks in it. Each ends behind its first lines of blanks at the latest:
    /// to some readers, what follows them is the body.
    pub fn repeated(&self) -> impl Iterator<Item = Item<'a>> + use<'a> {
        let is_repeated =
            |(n, item): &(usize, Item<'a>)| item.kind == Kind::Field && (*n == 0 || is_listed(item.name()));
        let repeated = self.items().enumerate().filter(is_repeated);
        repeated.map(|(_, item)| Item { raw: item.with_blank_lines(), ..item })
    }

    /// Whether the outside shows nothing less of it than all: so it is in the header of a sealed message.
    #[must_use]
    pub fn is_repeated_whole(&self) -> bool {
        self.repeated().map(|item| item.raw.len()).sum::<usize>() == self.fields.len()
    }

    /// The values of what any reader might take for a field called `name`, with the lines that continue them: blanks before
    /// the colon do not count, and a CR alone ends a line.
    pub fn perhaps(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.fields;
        let ends = memchr2_iter(b'\n', b'\r', fields).map(|at| at + 1);
        std::iter::once(0).chain(ends).filter_map(move |start| {
            let text = &fields[start..];
            let line = &text[..memchr2(b'\n', b'\r', text).unwrap_or(text.len())];
            let (found, _) = line.split_at(memchr(b':', line)?);
            let is_called_so = found.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes());
            is_called_so.then(|| whole_value(&text[found.len() + 1..]))
        })
    }
}

/// The value that `text` begins with, up to a line that does not continue it.
fn whole_value(text: &[u8]) -> &[u8] {
    Items { rest: text, first: false }.next().map_or(&[], |item| item.raw)
}

/// Whether fields called `name` may be shown outside though they stand in a [`Tail`].
#[must_use]
pub fn is_listed(name: &[u8]) -> bool {
    LISTED.iter().any(|listed| name.eq_ignore_ascii_case(listed.as_bytes()))
        || LISTED_BEGINNINGS.iter().any(|beginning| begins_with(name, beginning))
}

/// Whether a field's `name` begins so, without regard to case.
#[must_use]
pub fn begins_with(name: &[u8], beginning: &str) -> bool {
    name.get(..beginning.len()).is_some_and(|part| part.eq_ignore_ascii_case(beginning.as_bytes()))
}

/// Iterator over the [`Item`]s of a [`Head`].
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
    first: bool,
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let from_line = self.first && self.rest.starts_with(b"From ");
        let mut end = 0;
        loop {
            end += memchr(b'\n', &self.rest[end..]).map_or(self.rest.len() - end, |at| at + 1);
            if from_line || !matches!(self.rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (raw, rest) = self.rest.split_at(end);
        let kind = kind(raw, self.first);
        self.rest = rest;
        self.first = false;
        Some(Item { raw, kind })
    }
}

/// Name (all before the colon) and value of a field; `None` where the first line has no colon.
fn split_field(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr2(b':', b'\n', raw)?;
    (raw[at] == b':').then(|| (&raw[..at], &raw[at + 1..]))
}

fn kind(raw: &[u8], first: bool) -> Kind {
    if has_lone_cr(raw) {
        return Kind::Malformed;
    }
    if first && raw.starts_with(b"From ") {
        return Kind::FromLine;
    }
    let Some((name, _)) = split_field(raw) else { return Kind::Malformed };
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        Kind::Malformed
    } else if begins_with(name, "Content-") {
        Kind::Content
    } else if name.eq_ignore_ascii_case(b"MIME-Version") {
        Kind::MimeVersion
    } else {
        Kind::Field
    }
}

/// Whether there is a CR that no LF follows: some readers break the line there.
fn has_lone_cr(raw: &[u8]) -> bool {
    memchr_iter(b'\r', raw).any(|at| raw.get(at + 1) != Some(&b'\n'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(fields: &[u8]) -> Vec<Kind> {
        Head::new(fields, b"\n").items().map(|item| item.kind).collect()
    }

    #[test]
    fn the_end_is_the_first_empty_line() {
        type Case = (&'static [u8], Option<(usize, usize)>);
        let cases: [Case; 7] = [
            (b"A: b\n\nbody", Some((5, 6))),
            (b"A: b\r\n\r\nbody", Some((6, 8))),
            (b"\nbody", Some((0, 1))),
            (b"A: b\n \n\nbody", Some((7, 8))),
            (b"A: b\r\r\n\n", Some((7, 8))),
            (b"A: b\n", None),
            (b"", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Head::find_end(bytes, 0), expected, "{bytes:?}");
        }
    }

    #[test]
    fn items_are_what_readers_take_them_for() {
        use Kind::*;
        let cases: [(&[u8], &[Kind]); 17] = [
            (b"Subject: a\n b\n\tc\nTo: d\n", &[Field, Field]),
            (b"content-type: text/plain\nMIME-VERSION: 1.0\n", &[Content, MimeVersion]),
            (b"content-type : text/plain\nMIME-VERSION\t: 1.0\n", &[Malformed, Malformed]),
            (b"From a@b Mon Jan  1 00:00:00 2024\nFrom: a\n", &[FromLine, Field]),
            (b"From a\n blank: b\nA: c\n", &[FromLine, Malformed, Field]),
            (b"From a\rb\n", &[Malformed]),
            (b"A: b\nFrom a@b Mon Jan  1 00:00:00 2024\n", &[Field, Malformed]),
            (b" begins with a blank: x\nA: b\n", &[Malformed, Field]),
            (b"no colon\nA: b", &[Malformed, Field]),
            (b"no colon\n but: one here\n", &[Malformed]),
            (b"two words: x\n", &[Malformed]),
            (b": x\n", &[Malformed]),
            (b"A: b\rContent-Type: text/html\n", &[Malformed]),
            (b"A: b\r\n c\r", &[Malformed]),
            (b"A: b\r\n c\r\n", &[Field]),
            (b"\xc3\xa9: x\n", &[Malformed]),
            (b"Content-: x\nContents: y\n", &[Content, Field]),
        ];
        for (fields, expected) in cases {
            assert_eq!(kinds(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_header_is_cut_where_readers_may_see_the_body() {
        type Case = (&'static str, &'static str, &'static [&'static str]);
        let cases: [Case; 12] = [
            ("A: b\nSubject: c\n", "", &[]),
            ("A: b\n", "junk\nSubject: c\n d\nX: y\nreceived: z\n", &["Subject: c\n d\n", "received: z\n"]),
            ("A: b\n", "Subject : c\nTo: d\n", &["To: d\n"]),
            ("A: b\n", "X: c\n \n text\nX: y\nTo: d\n", &["X: c\n \n", "To: d\n"]),
            ("", "X: c\r\n\t\r\n \r\n text\r\n \r\nTo: d\r\n", &["X: c\r\n\t\r\n \r\n", "To: d\r\n"]),
            ("", "Content-Type: c\n \nTo: d\n", &["To: d\n"]),
            ("A: b\n", "junk\nTo: d\n \n text\nCc: e", &["To: d\n \n", "Cc: e"]),
            ("From a\n", " text\nTo: d\n", &["To: d\n"]),
            ("", " \nTo: d\n", &["To: d\n"]),
            (
                "A: b\n",
                "From a\nX-Spam: d\nx-spamd-result: e\nXSpam: f\n",
                &["X-Spam: d\n", "x-spamd-result: e\n"],
            ),
            ("A: b\n", "junk\nTo: a\rb\nTo : c\nList-Id: d\nList: e\n", &["List-Id: d\n"]),
            ("A: b\n", "To: c\n ", &["To: c\n "]),
        ];
        for (region, tail, repeated) in cases {
            let fields = [region, tail].concat();
            let (found, rest) = Head::new(fields.as_bytes(), b"\n").split();
            assert_eq!((found.fields, rest.fields), (region.as_bytes(), tail.as_bytes()), "{fields:?}");
            let shown: Vec<&str> =
                rest.repeated().map(|item| std::str::from_utf8(item.raw).unwrap()).collect();
            assert_eq!(shown, repeated, "{fields:?}");
            // What is shown holds nothing more to hide.
            let outside = [region.to_owned(), shown.concat()].concat();
            assert!(Head::new(outside.as_bytes(), b"\n").split().1.is_repeated_whole(), "{fields:?}");
        }
    }

    #[test]
    fn whatever_some_reader_takes_for_a_field_of_the_tail_is_found() {
        let tail =
            "junk\rContent-Type: a\nContent-Type\t : b\n Content-Type: c\nCONTENT-TYPE:\nContent-Types: d\n";
        let (_, tail) = Head::new(tail.as_bytes(), b"\n").split();
        let found: Vec<&[u8]> = tail.perhaps("Content-Type").collect();
        assert_eq!(found, [&b" a\n"[..], b" b\n Content-Type: c\n", b"\n"]);
    }

    #[test]
    fn items_lose_no_byte() {
        let fields = b"From x\nA: b\r\n c\r\njunk\nContent-Type: x\n\ty\nlast";
        let joined: Vec<u8> =
            Head::new(fields, b"").items().flat_map(|item| item.raw.iter().copied()).collect();
        assert_eq!(joined, fields);
    }

    #[test]
    fn a_repeated_field_is_not_the_only_one() {
        let head = Head::new(b"A: 1\nB: 2\na : 3\n", b"\n");
        assert_eq!(head.only("B"), Some(&b" 2\n"[..]));
        assert_eq!(head.only("A"), None);
        assert_eq!(head.count("a"), 2);
    }

    /// A line of a header, with its ending.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        const LINES: [&str; 12] = [
            "A: b",
            "Subject: c",
            "Content-Type: d",
            "content-type : e",
            "MIME-Version: 1.0",
            "From a",
            " f",
            "\tg: h",
            " ",
            "junk",
            ": i",
            "j\rContent-Type: k",
        ];
        let parts = (proptest::sample::select(&LINES[..]), proptest::sample::select(&["\n", "\r\n"][..]));
        parts.prop_map(|(line, ending)| [line, ending].concat().into_bytes())
    }

    fn header() -> impl Strategy<Value = Vec<u8>> {
        (proptest::collection::vec(line(), 0..6), any::<bool>()).prop_map(|(lines, open)| {
            let mut fields = lines.concat();
            if open && fields.ends_with(b"\n") {
                fields.pop();
            }
            fields
        })
    }

    fn is_blank(line: &[u8]) -> bool {
        line.iter().all(|byte| b" \t\r\n".contains(byte))
    }

    proptest! {
        /// A header is cut before its first item that is no field for all readers, told line by line.
        #[test]
        fn a_header_is_cut_where_the_lines_say(fields in header()) {
            let lines: Vec<&[u8]> = fields.split_inclusive(|&byte| byte == b'\n').collect();
            let (mut region, mut start) = (0, 0);
            while start < lines.len() {
                let from_line = start == 0 && lines[0].starts_with(b"From ");
                let continued = |line: &&&[u8]| matches!(line.first(), Some(b' ' | b'\t'));
                let more = lines[start + 1..].iter().take_while(continued).count();
                let end = start + 1 + if from_line { 0 } else { more };
                let item = lines[start..end].concat();
                let name: Vec<u8> = lines[start].iter().copied().take_while(|&byte| byte != b':').collect();
                let is_field = lines[start].contains(&b':')
                    && !name.is_empty()
                    && name.iter().all(|byte| (33..127).contains(byte));
                let lone = item.iter().enumerate().any(|(at, &byte)| byte == b'\r' && item.get(at + 1) != Some(&b'\n'));
                if lone || !(from_line || is_field) || lines[start..end].iter().any(|line| is_blank(line)) {
                    break;
                }
                region += item.len();
                start = end;
            }
            let head = Head::new(&fields, b"\n");
            let (found, tail) = head.split();
            prop_assert_eq!((found.fields, tail.bytes()), fields.split_at(region));
            prop_assert_eq!(tail.is_empty(), region == fields.len());
            let all: Vec<u8> = head.items().flat_map(|item| item.raw.to_vec()).collect();
            prop_assert_eq!(&all, &fields);
            let parts: Vec<u8> = found.items().chain(tail.items()).flat_map(|item| item.raw.to_vec()).collect();
            prop_assert_eq!(&parts, &fields);
        }

        #[test]
        fn lines_of_blanks_are_found_in_an_item(lines in proptest::collection::vec(line(), 1..6)) {
            let raw = lines.concat();
            let item = Item { raw: &raw, kind: Kind::Field };
            let before = lines.iter().take_while(|line| !is_blank(line)).count();
            let blank = lines[before..].iter().take_while(|line| is_blank(line)).count();
            prop_assert_eq!(item.before_blank_lines(), lines[..before].concat());
            let with = if blank == 0 { lines.len() } else { before + blank };
            prop_assert_eq!(item.with_blank_lines(), lines[..with].concat());
        }

        /// Whatever line, of LF, CR or CRLF, begins with the name and a colon.
        #[test]
        fn a_content_type_is_found_wherever_some_reader_may_see_one(fields in header()) {
            let head = Head::new(&fields, b"\n");
            let (region, tail) = head.split();
            let is_type = |line: &[u8]| {
                let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
                line.contains(&b':') && name.trim_ascii_end().eq_ignore_ascii_case(b"Content-Type")
            };
            let of_tail = tail.bytes().split(|byte| b"\r\n".contains(byte)).filter(|line| is_type(line)).count();
            prop_assert_eq!(tail.perhaps("Content-Type").count(), of_tail);
            let in_region = region.items().filter(|item| is_type(item.raw)).count();
            prop_assert_eq!(region.called("content-type").count(), in_region);
            let expected = of_tail + in_region > 0 || tail.stands_first();
            prop_assert_eq!(head.may_have_type(), expected);
        }
    }

    #[test]
    fn a_head_has_fields_and_a_separator() {
        let head = Head::new(b"A: b\r\nC: d\r\n", b"\r\n");
        assert_eq!((head.fields(), head.separator()), (&b"A: b\r\nC: d\r\n"[..], &b"\r\n"[..]));
        assert_eq!(head.without_last("\r\n").fields(), b"A: b\r\nC: d");
        assert_eq!(head.without_last("\n").fields(), b"A: b\r\nC: d\r");
        assert_eq!(head.without_last("\t").fields(), head.fields());
        assert_eq!(head.without_last("\r\n").separator(), b"\r\n");
        for (fields, separator, ending) in [
            ("A: b\r\nC: d\n", "\n", "\r\n"),
            ("A: b\nC: d\r\n", "\r\n", "\n"),
            ("", "\r\n", "\r\n"),
            ("", "\n", "\n"),
        ] {
            assert_eq!(
                Head::new(fields.as_bytes(), separator.as_bytes()).ending(),
                ending,
                "{fields:?} {separator:?}"
            );
        }
    }

    #[test]
    fn version_0_1_knew_no_tail() {
        let fields = b"From a\nA: b\njunk\n \n";
        let (region, tail) = Head::new(fields, b"\n").whole();
        assert_eq!((region.fields, tail.is_empty(), tail.stands_first()), (&fields[..], true, false));
        assert_eq!(region.items().next().unwrap().kind, Kind::FromLine);
    }

    #[test]
    fn what_must_stand_first_is_known() {
        for (fields, first, inside) in [
            ("", false, false),
            ("A: b\n", false, false),
            ("A: b\n \n", false, false),
            (" a\n", true, true),
            ("\ta\n", true, true),
            ("junk\n", false, false),
            // A lone CR.
            ("From a\rb\n", true, false),
            ("From a\n", false, false),
            ("A: b\nFrom a\n", false, false),
            ("A: b\n", false, false),
        ] {
            let head = Head::new(fields.as_bytes(), b"\n");
            assert_eq!(head.split().1.stands_first(), first, "{fields:?}");
            assert_eq!(head.split_inside().1.stands_first(), inside, "{fields:?}");
        }
        let (region, tail) = Head::new(b"From a\nA: b\n", b"\n").split_inside();
        assert_eq!(
            (region.fields, tail.bytes()),
            (&b""[..], &b"From a\nA: b\n"[..]),
            "an mbox line is the tail's"
        );
    }

    #[test]
    fn an_open_line_is_ended() {
        for (raw, ended) in
            [("A: b\n", "A: b\n"), ("A: b\r\n", "A: b\r\n"), ("A: b", "A: b\r\n"), ("", "\r\n")]
        {
            let item = Item { raw: raw.as_bytes(), kind: Kind::Field };
            let mut written = Vec::new();
            item.write("\r\n", &mut written).unwrap();
            assert_eq!((&*item.ended("\r\n"), &*written), (ended.as_bytes(), ended.as_bytes()), "{raw:?}");
        }
        for (fields, ended) in [("", ""), (" a\n", " a\n"), (" a", " a\n")] {
            let mut written = Vec::new();
            Head::new(fields.as_bytes(), b"").split().1.write("\n", &mut written).unwrap();
            assert_eq!(written, ended.as_bytes(), "{fields:?}");
        }
    }

    #[test]
    fn a_field_has_a_name_and_a_value() {
        for (raw, name, value) in [
            ("A: b\n c\n", "A", " b\n c\n"),
            ("A \t:b\n", "A", "b\n"),
            ("A:\n", "A", "\n"),
            (":b", "", "b"),
            ("junk\nA: b", "", ""),
            ("junk", "", ""),
            ("A:b:c", "A", "b:c"),
        ] {
            let item = Item { raw: raw.as_bytes(), kind: Kind::Field };
            assert_eq!((item.name(), item.value()), (name.as_bytes(), value.as_bytes()), "{raw:?}");
            let named = !name.is_empty();
            assert_eq!(item.value_of("a"), named.then_some(value.as_bytes()), "{raw:?}");
            assert_eq!(item.value_of("b"), None, "{raw:?}");
        }
        assert!(Kind::Content.is_mime() && Kind::MimeVersion.is_mime());
        assert!(!Kind::Field.is_mime() && !Kind::FromLine.is_mime() && !Kind::Malformed.is_mime());
    }

    #[test]
    fn names_are_listed_whole_or_by_their_beginning() {
        for (name, listed) in [
            ("subject", true),
            ("SUBJECT", true),
            ("Subjects", false),
            ("List-Id", true),
            ("list-", true),
            ("List", false),
            ("Resent-From", true),
            ("X-Spam", true),
            ("X-Mailer", false),
            ("", false),
        ] {
            assert_eq!(is_listed(name.as_bytes()), listed, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn the_end_is_found_from_any_line_before_it(bytes in "[a\r\n]{0,10}") {
            let bytes = bytes.as_bytes();
            let mut start = 0;
            let mut expected = None;
            for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                if line == b"\n" || line == b"\r\n" {
                    expected = Some((start, start + line.len()));
                    break;
                }
                prop_assert_eq!(Head::find_end(bytes, start), Head::find_end(bytes, 0));
                start += line.len();
            }
            prop_assert_eq!(Head::find_end(bytes, 0), expected);
        }
    }
}
