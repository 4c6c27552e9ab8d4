//! The header block of a message, byte for byte: where its fields begin and end, and which of them are MIME's.
//!
//! It knows lines, field names and nothing of what fields mean; no byte is ever changed here. A line ends with
//! LF or CRLF; a CR alone is a byte like any other.

use std::io::{self, Write};

use memchr::memchr;

use crate::lines::first_ending;

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
    /// The `From ` line that mbox puts first.
    FromLine,
    /// A `Content-*` field.
    Content,
    /// A `MIME-Version` field.
    MimeVersion,
    /// Any other well-formed field; and a first line that begins with a blank, which would continue whatever stood
    /// before it.
    Field,
    /// A line that is no field. Several readers take what follows it for the body.
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
    /// The name of a field as it is spelled, without the blanks before its colon; nothing where this is no field.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        split_field(self.raw).map_or(&[], |(name, _)| name.trim_ascii_end())
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
        let mut end = 0;
        loop {
            end += memchr(b'\n', &self.rest[end..]).map_or(self.rest.len() - end, |at| at + 1);
            if !matches!(self.rest.get(end), Some(b' ' | b'\t')) {
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
    let colon = memchr(b':', raw)?;
    let line = memchr(b'\n', raw).unwrap_or(raw.len());
    (colon < line).then(|| (&raw[..colon], &raw[colon + 1..]))
}

fn kind(raw: &[u8], first: bool) -> Kind {
    if matches!(raw.first(), Some(b' ' | b'\t')) {
        // Only the first line of all: what stood before it would be continued by it.
        return Kind::Field;
    }
    let Some((name, _)) = split_field(raw) else {
        return if first && raw.starts_with(b"From ") { Kind::FromLine } else { Kind::Malformed };
    };
    // RFC 5322, section 4.5, allows blanks before the colon in what is read.
    let trimmed = name.trim_ascii_end();
    if trimmed.len() >= 8 && trimmed[..8].eq_ignore_ascii_case(b"content-") {
        return Kind::Content;
    }
    if trimmed.eq_ignore_ascii_case(b"mime-version") {
        return Kind::MimeVersion;
    }
    if first && raw.starts_with(b"From ") {
        return Kind::FromLine;
    }
    let sound = !name.is_empty() && name.iter().all(u8::is_ascii_graphic) && !has_lone_cr(raw);
    if sound { Kind::Field } else { Kind::Malformed }
}

/// Whether there is a CR that no LF follows: some readers break the line there.
fn has_lone_cr(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'\r', raw).any(|at| raw.get(at + 1) != Some(&b'\n'))
}

#[cfg(test)]
mod tests {
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
        let cases: [(&[u8], &[Kind]); 12] = [
            (b"Subject: a\n b\n\tc\nTo: d\n", &[Field, Field]),
            (b"content-type : text/plain\nMIME-VERSION: 1.0\n", &[Content, MimeVersion]),
            (b"From a@b Mon Jan  1 00:00:00 2024\nFrom: a\n", &[FromLine, Field]),
            (b"A: b\nFrom a@b Mon Jan  1 00:00:00 2024\n", &[Field, Malformed]),
            (b" begins with a blank: x\nA: b\n", &[Field, Field]),
            (b"no colon\nA: b", &[Malformed, Field]),
            (b"no colon\n but: one here\n", &[Malformed]),
            (b"two words: x\n", &[Malformed]),
            (b": x\n", &[Malformed]),
            (b"A: b\rContent-Type: text/html\n", &[Malformed]),
            (b"\xc3\xa9: x\n", &[Malformed]),
            (b"Content-: x\nContents: y\n", &[Content, Field]),
        ];
        for (fields, expected) in cases {
            assert_eq!(kinds(fields), expected, "{fields:?}");
        }
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
}
