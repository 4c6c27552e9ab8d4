//! As much of MIME as the proof needs, read strictly: what readers could take in two ways counts as not understood.

use std::borrow::Cow;

use mail_parser::HeaderValue;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::parsers::MessageStream;

use super::{Stop, demand, is_harmless_preamble};
use crate::limits;
use crate::message::head::Head;

/// Most parts of a message that could be an encrypted one.
const PARTS: usize = 3;

/// A Content-Type or Content-Disposition value.
#[derive(Debug)]
pub struct ContentType {
    full: String,
    attributes: Vec<(String, String)>,
}

impl ContentType {
    /// Reads the value of a field; `None` where it is malformed or names an attribute twice.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > limits::MIME_FIELD {
            return None;
        }
        let value = value.trim_ascii();
        if !is_unambiguous(value) {
            return None;
        }
        // Without its line ending, mail-parser does not read it at all.
        let value = [value, b"\n"].concat();
        let HeaderValue::ContentType(parsed) = MessageStream::new(&value).parse_content_type() else {
            return None;
        };
        let full = match parsed.subtype() {
            Some(subtype) => format!("{}/{subtype}", parsed.ctype()),
            None => parsed.ctype().to_owned(),
        };
        let mut attributes: Vec<(String, String)> = Vec::new();
        for attribute in parsed.attributes().unwrap_or_default() {
            let name = attribute.name.to_ascii_lowercase();
            if attributes.iter().any(|(other, _)| *other == name) {
                return None;
            }
            attributes.push((name, attribute.value.clone().into_owned()));
        }
        Some(Self { full, attributes })
    }

    /// Whether it is this type, without regard to case.
    pub fn is(&self, full: &str) -> bool {
        self.full.eq_ignore_ascii_case(full)
    }

    /// Whether it is the same type as `other`, without regard to case.
    pub fn is_same_type(&self, other: &Self) -> bool {
        self.is(&other.full)
    }

    /// Every attribute in order: its name in lower case, and its value.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of the attribute called `name` (in lower case).
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }
}

/// Whether every reader takes the value of a field for the same: no comments, quotes only round whole attribute
/// values, and no control characters but those that fold lines between them.
fn is_unambiguous(value: &[u8]) -> bool {
    let (mut quoted, mut previous) = (false, b' ');
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        let next = after.first().copied().unwrap_or(b'\n');
        let clear = match byte {
            b'\\' if quoted => matches!(next, b' '..=b'~'),
            b'"' if quoted => matches!(next, b';' | b' ' | b'\t' | b'\r' | b'\n'),
            b'"' => previous == b'=',
            b'(' | b')' | b'\\' => quoted,
            b'\r' => !quoted && next == b'\n',
            b'\n' => !quoted && matches!(next, b' ' | b'\t'),
            _ => byte == b'\t' || !byte.is_ascii_control(),
        };
        if !clear {
            return false;
        }
        quoted ^= byte == b'"';
        if !byte.is_ascii_whitespace() {
            previous = byte;
        }
        rest = if byte == b'\\' { &after[1..] } else { after };
    }
    !quoted
}

/// Content-Transfer-Encoding (RFC 2045, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 7bit, 8bit, binary, or none given.
    Identity,
    /// base64.
    Base64,
    /// quoted-printable.
    QuotedPrintable,
}

impl Encoding {
    /// The encoding of the body behind `head`; `None` where it is given twice or cannot be understood.
    pub fn of(head: Head<'_>) -> Option<Self> {
        if head.count("Content-Transfer-Encoding") == 0 {
            return Some(Self::Identity);
        }
        let value = head.only("Content-Transfer-Encoding")?;
        if value.len() > limits::MIME_FIELD {
            return None;
        }
        Some(match &*value.trim_ascii().to_ascii_lowercase() {
            b"7bit" | b"8bit" | b"binary" => Self::Identity,
            b"base64" => Self::Base64,
            b"quoted-printable" => Self::QuotedPrintable,
            _ => return None,
        })
    }
}

/// The message or one part of it.
#[derive(Debug)]
pub struct Part<'a> {
    pub head: Head<'a>,
    pub content_type: Option<ContentType>,
    pub encoding: Encoding,
    pub body: &'a [u8],
    /// False where `body` is only its beginning.
    pub whole: bool,
}

impl<'a> Part<'a> {
    /// The message itself; `None` where its type or encoding is given twice or cannot be understood.
    pub fn root(head: Head<'a>, body: &'a [u8], whole: bool) -> Option<Self> {
        let content_type = match head.count("Content-Type") {
            0 => None,
            _ => Some(ContentType::parse(head.only("Content-Type")?)?),
        };
        let encoding = Encoding::of(head)?;
        Some(Self { head, content_type, encoding, body, whole })
    }

    /// Whether it is of this type.
    pub fn is(&self, full: &str) -> bool {
        self.content_type.as_ref().is_some_and(|content_type| content_type.is(full))
    }

    /// The parts of this multipart of type `content_type`.
    ///
    /// A transfer encoding of the whole multipart is not looked at where the type is `multipart/encrypted`: it is
    /// against RFC 2045, section 6.4, gpgit leaves one, no reader decodes it, and the parts are judged as they lie there.
    ///
    /// # Errors
    /// [`Stop::Refuted`] where there are too many, where there is text before, after or between them that hides
    /// something, or where the last one is not ended though the message is whole.
    pub fn parts(&self, content_type: &ContentType) -> Result<Parts<'a>, Stop> {
        let boundary = content_type.attribute("boundary").filter(|boundary| !boundary.is_empty());
        let boundary = boundary.ok_or(Stop::Refuted)?;
        demand(self.encoding == Encoding::Identity || content_type.is("multipart/encrypted"))?;
        let body = if self.whole { self.body } else { without_cut_delimiter(self.body, boundary) };
        let mut found = Vec::new();
        let mut start = None;
        let mut position = 0;
        for line in body.split_inclusive(|&byte| byte == b'\n') {
            let here = position;
            position += line.len();
            let Some(tail) = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary.as_bytes()))
            else {
                continue;
            };
            let (closing, padding) =
                tail.strip_prefix(b"--").map_or((false, tail), |padding| (true, padding));
            demand(padding.trim_ascii().is_empty())?;
            match start {
                None => demand(!closing && is_harmless_preamble(&body[..here]))?,
                Some(start) => found.push(Part::inner(without_line_end(&body[start..here]), true)?),
            }
            demand(found.len() <= PARTS)?;
            if closing {
                demand(body[position..].trim_ascii().is_empty())?;
                return Ok(Parts { found, complete: true });
            }
            start = Some(position);
        }
        demand(!self.whole)?;
        match start {
            None => demand(body.len() <= limits::PREAMBLE)?,
            Some(start) => match Part::inner(&body[start..], false) {
                Ok(part) => found.push(part),
                Err(Stop::Cut) => {}
                Err(Stop::Refuted) => return Err(Stop::Refuted),
            },
        }
        Ok(Parts { found, complete: false })
    }

    fn inner(bytes: &'a [u8], whole: bool) -> Result<Self, Stop> {
        let Some((fields_end, body_start)) = Head::find_end(bytes, 0) else {
            return Err(if whole || bytes.len() > limits::PART_HEADER { Stop::Refuted } else { Stop::Cut });
        };
        demand(fields_end <= limits::PART_HEADER)?;
        let head = Head::new(&bytes[..fields_end], &bytes[fields_end..body_start]);
        Self::root(head, &bytes[body_start..], whole).ok_or(Stop::Refuted)
    }

    /// The body without its transfer encoding; `None` where it holds what does not belong there. Of a beginning, as much
    /// as is certain.
    pub fn decoded(&self) -> Option<Cow<'a, [u8]>> {
        match self.encoding {
            Encoding::Identity => Some(Cow::Borrowed(self.body)),
            Encoding::Base64 => decode_base64(self.body, self.whole).map(Cow::Owned),
            Encoding::QuotedPrintable if self.whole => quoted_printable_decode(self.body).map(Cow::Owned),
            Encoding::QuotedPrintable => {
                let lines = memchr::memrchr(b'\n', self.body).map_or(0, |at| at + 1);
                quoted_printable_decode(&self.body[..lines]).map(Cow::Owned)
            }
        }
    }
}

/// The parts of a multipart.
#[derive(Debug)]
pub struct Parts<'a> {
    pub found: Vec<Part<'a>>,
    /// Whether there are no others; else the last one, too, may be there in part only.
    pub complete: bool,
}

/// A beginning of a multipart without what may be a delimiter at its end, or becomes one with the next bytes.
fn without_cut_delimiter<'a>(body: &'a [u8], boundary: &str) -> &'a [u8] {
    let line = memchr::memrchr(b'\n', body).map_or(0, |at| at + 1);
    let delimiter = format!("--{boundary}");
    let last = &body[line..];
    let may_be = delimiter.as_bytes().starts_with(last) || last.starts_with(delimiter.as_bytes());
    if may_be { &body[..line] } else { body }
}

/// Decodes base64 in which nothing stands but its alphabet, blanks and padding at its end. Of a text that is not
/// `whole`, what does not fill four characters is left off.
pub fn decode_base64(text: &[u8], whole: bool) -> Option<Vec<u8>> {
    let mut characters: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if !whole {
        characters.truncate(characters.len() / 4 * 4);
    }
    // In place: both forms of a whole look-ahead would be held at once.
    let count = base64_simd::STANDARD.decode_inplace(&mut characters).ok()?.len();
    characters.truncate(count);
    Some(characters)
}

/// The line ending before a delimiter belongs to the delimiter (RFC 2046, section 5.1.1).
fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ambiguous_types_are_not_understood() {
        let attribute = |value: &str, name| {
            ContentType::parse(value.as_bytes()).and_then(|parsed| parsed.attribute(name).map(str::to_owned))
        };
        assert_eq!(
            attribute(" multipart/mixed;\r\n boundary=\"a b\"\r\n", "boundary").as_deref(),
            Some("a b")
        );
        assert_eq!(attribute("multipart/mixed; boundary=a; BOUNDARY=b", "boundary"), None);
        assert!(ContentType::parse(b"Application/PKCS7-Mime").unwrap().is("application/pkcs7-mime"));
        assert_eq!(attribute("a/b; name=\"a \\\" (b)\"; x=y", "name").as_deref(), Some("a \" (b)"));
        for value in [
            "multipart/mixed; boundary=\"a\rb\"",
            "multipart/mixed; boundary=\"a\nb\"",
            "multipart/mixed; boundary=\"a\r\n b\"",
            "multipart/mixed; boundary=\"a\u{1}\"",
            "multipart/mixed; boundary=\"a",
            "multipart/mixed; boundary=\"a\"b",
            "multipart/mixed; boundary=a\"b\"",
            "multipart/mixed; boundary=\"a\\",
            "multipart/mixed (comment); boundary=a",
            "multipart/mixed; boundary=a\\b",
        ] {
            assert!(ContentType::parse(value.as_bytes()).is_none(), "{value:?}");
        }
    }

    #[test]
    fn only_a_true_boundary_ends_the_last_part() {
        for (end, count) in [
            ("--b--", Some(1)),
            ("--b--\r\n", Some(1)),
            ("--b-- \n\n", Some(1)),
            ("--b\r--\n", None),
            ("--b --\n", None),
            ("--b-\n", None),
            ("--b\n", None),
        ] {
            let content_type = ContentType::parse(b"multipart/mixed; boundary=b").unwrap();
            let body = format!("--b\n\nx\n{end}");
            let part = Part::root(Head::new(b"", b""), body.as_bytes(), true).unwrap();
            assert_eq!(part.parts(&content_type).ok().map(|parts| parts.found.len()), count, "{end:?}");
        }
    }

    #[test]
    fn base64_hides_no_text() {
        assert_eq!(decode_base64(b"aGVs\r\nbG8=\n", true).unwrap(), b"hello");
        assert_eq!(decode_base64(b"aGVs\nbG", false).unwrap(), b"hel");
        for text in [&b"aGVs!bG8="[..], b"aGVs\nbG", b"aGVsbG8=aGVs", b"-- text --"] {
            assert_eq!(decode_base64(text, true), None, "{text:?}");
        }
    }

    #[test]
    fn only_values_that_all_readers_take_for_the_same_are_unambiguous() {
        for value in [
            "",
            "a/b",
            "a/b; c=d",
            "a/b; c=\"d\"",
            "a/b; c=\"d\";e=f",
            "a/b; c=\"d\"\t; e=f",
            "a/b; c= \"d\"",
            "a/b; c=\"(d)\"",
            "a/b; c=\"\\\"\"",
            "a/b; c=\"\\\\\"",
            "a/b;\n\tc=d",
            "a/b;\r\n c=d",
            "a/b; c=\"d\"\r\n ; e=f",
            "a/b; c=\"\u{e9}\"",
        ] {
            assert!(is_unambiguous(value.as_bytes()), "{value:?}");
        }
        for value in [
            "a/b (c)",
            "a/b; c=d)",
            "a/b; c=\\d",
            "a/b; c=\"d",
            "a/b; c=\"d\"e",
            "a/b; c=\"d\"=",
            "a/b; \"c\"=d",
            "a/b; c=\"\\\n\"",
            "a/b; c=\"\\\u{7f}\"",
            "a/b; c=\"\\",
            "a/b;\nc=d",
            "a/b;\r c=d",
            "a/b;\rc=d",
            "a/b\n",
            "a/b; c=\"d\n e\"",
            "a/b; c=\"d\r\n e\"",
            "a/b; c=\"d\re\"",
            "a/b\u{b}",
            "a/b; c=\"\0\"",
            "a/b\u{7f}",
        ] {
            assert!(!is_unambiguous(value.as_bytes()), "{value:?}");
        }
    }

    #[test]
    fn a_type_has_a_bounded_length_and_its_attributes() {
        let long = |length: usize| format!("a/b; c={}", "d".repeat(length - 7));
        assert!(ContentType::parse(long(limits::MIME_FIELD).as_bytes()).is_some());
        assert!(ContentType::parse(long(limits::MIME_FIELD + 1).as_bytes()).is_none());
        let parsed = ContentType::parse(b" Text/Plain; Charset=UTF-8; format=flowed\r\n").unwrap();
        assert!(parsed.is("text/plain") && !parsed.is("text/html") && !parsed.is("text"));
        assert!(parsed.is_same_type(&ContentType::parse(b"text/PLAIN; a=b").unwrap()));
        assert!(!parsed.is_same_type(&ContentType::parse(b"text/html").unwrap()));
        assert_eq!(parsed.attributes().collect::<Vec<_>>(), [("charset", "UTF-8"), ("format", "flowed")]);
        assert_eq!((parsed.attribute("charset"), parsed.attribute("boundary")), (Some("UTF-8"), None));
        assert!(ContentType::parse(b"text").is_some_and(|parsed| parsed.is("text")));
    }

    #[test]
    fn an_encoding_is_given_once_or_not_at_all() {
        let of = |fields: &str| Encoding::of(Head::new(fields.as_bytes(), b"\n"));
        for (value, expected) in [
            ("7bit", Some(Encoding::Identity)),
            ("8BIT ", Some(Encoding::Identity)),
            ("binary", Some(Encoding::Identity)),
            ("Base64", Some(Encoding::Base64)),
            ("quoted-printable", Some(Encoding::QuotedPrintable)),
            ("base64;", None),
            ("x-uuencode", None),
            ("", None),
        ] {
            assert_eq!(of(&format!("Content-Transfer-Encoding: {value}\n")), expected, "{value:?}");
        }
        assert_eq!(of("A: b\n"), Some(Encoding::Identity));
        assert_eq!(of("Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: 7bit\n"), None);
        let long = |blanks: usize| of(&format!("Content-Transfer-Encoding:{}7bit\n", " ".repeat(blanks)));
        assert_eq!(long(limits::MIME_FIELD - 5), Some(Encoding::Identity));
        assert_eq!(long(limits::MIME_FIELD - 4), None);
    }

    #[test]
    fn a_root_has_one_type_or_none() {
        let root = |fields: &str| {
            Part::root(Head::new(fields.as_bytes(), b"\n"), b"", true).map(|it| it.content_type.is_some())
        };
        for (fields, expected) in [
            ("A: b\n", Some(false)),
            ("Content-Type: a/b\n", Some(true)),
            ("Content-Type: a/b\nContent-Type: a/b\n", None),
            ("Content-Type: a/b (c)\n", None),
            ("Content-Transfer-Encoding: x\n", None),
        ] {
            assert_eq!(root(fields), expected, "{fields:?}");
        }
    }

    /// The bodies of the parts of a `multipart/mixed` with this body, and whether there are no others.
    fn parts(fields: &str, body: &[u8], whole: bool) -> Result<(Vec<Vec<u8>>, bool), Stop> {
        let content_type = ContentType::parse(b"multipart/mixed; boundary=b").unwrap();
        let part = Part::root(Head::new(fields.as_bytes(), b"\n"), body, whole).unwrap();
        let parts = part.parts(&content_type)?;
        Ok((parts.found.iter().map(|part| part.body.to_vec()).collect(), parts.complete))
    }

    #[test]
    fn the_parts_are_all_there_is() {
        let body = |preamble: &str, count: usize, epilogue: &str| {
            let parts = (0..count).map(|number| format!("--b\r\n\r\n{number}\r\n")).collect::<String>();
            format!("{preamble}{parts}--b--\r\n{epilogue}").into_bytes()
        };
        let found = |count: usize| {
            Ok(((0..count).map(|number| number.to_string().into_bytes()).collect::<Vec<_>>(), true))
        };
        let line = |length: usize| "x".repeat(length - 1) + "\n";
        for (name, preamble, count, epilogue, fits) in [
            ("one", "", 1, "", true),
            ("as many as there may be", "", PARTS, "", true),
            ("one more", "", PARTS + 1, "", false),
            ("blanks behind", "", 1, "\r\n \n", true),
            ("text behind", "", 1, "x", false),
            ("a long preamble", &line(limits::PREAMBLE), 1, "", true),
            ("too long a preamble", &line(limits::PREAMBLE + 1), 1, "", false),
            ("two lines before", "a\nb\n", 1, "", true),
            ("three lines before", "a\nb\nc\n", 1, "", false),
            ("a part that is not begun", "", 0, "", false),
        ] {
            let expected = if fits { found(count) } else { Err(Stop::Refuted) };
            assert_eq!(parts("", &body(preamble, count, epilogue), true), expected, "{name}");
            assert_eq!(
                parts("", &[&body(preamble, count, epilogue)[..], b"\n"].concat(), false),
                expected,
                "{name}"
            );
        }
        assert_eq!(parts("", b"--b\n\n0\n", true), Err(Stop::Refuted), "not ended");
        assert_eq!(parts("", b"text\n", true), Err(Stop::Refuted), "not begun");
        assert_eq!(
            parts("", b"--b\n\n0\n--b x\n\n1\n--b--\n", true),
            Err(Stop::Refuted),
            "text behind a boundary"
        );
        for (encoding, fits) in [("7bit", true), ("base64", false), ("quoted-printable", false)] {
            let fields = format!("Content-Transfer-Encoding: {encoding}\n");
            assert_eq!(parts(&fields, &body("", 1, ""), true).is_ok(), fits, "{encoding}");
            let encrypted = ContentType::parse(b"multipart/encrypted; boundary=b").unwrap();
            let body = body("", 1, "");
            let part = Part::root(Head::new(fields.as_bytes(), b"\n"), &body, true).unwrap();
            assert!(part.parts(&encrypted).is_ok(), "{encoding}: no reader decodes it");
        }
        let unbounded = ContentType::parse(b"multipart/mixed").unwrap();
        let whole = body("", 1, "");
        assert!(Part::root(Head::new(b"", b"\n"), &whole, true).unwrap().parts(&unbounded).is_err());
    }

    #[test]
    fn a_beginning_has_the_parts_that_are_begun() {
        let body = b"a\n--b\nC: d\n\none\n--b\n\ntwo\n--b--\n";
        for end in 0..body.len() {
            let (found, complete) =
                parts("", &body[..end], false).unwrap_or_else(|stop| panic!("{end}: {stop:?}"));
            assert!(found.len() <= 2 && (!complete || end >= body.len() - 1), "{end}");
            for (found, whole) in found.iter().zip([&b"one"[..], b"two"]) {
                // A line ending may be the delimiter's.
                assert!(whole.starts_with(found.trim_ascii_end()), "{end}: {found:?}");
            }
        }
        assert_eq!(parts("", b"--b\n\none\n--b\n\ntwo\nand", false).unwrap().0, [&b"one"[..], b"two\nand"]);
        assert_eq!(parts("", b"--b\n\none\n--", false).unwrap().0, [b"one\n"]);
        let long = |length: usize| parts("", "x".repeat(length).as_bytes(), false).is_ok();
        assert!(long(limits::PREAMBLE) && !long(limits::PREAMBLE + 1));
    }

    #[test]
    fn what_may_be_a_delimiter_is_left_off() {
        for (body, kept) in [
            ("text\n", "text\n"),
            ("text\n-", "text\n"),
            ("text\n--", "text\n"),
            ("text\n--b", "text\n"),
            ("text\n--b--", "text\n"),
            ("text\n--bx", "text\n"),
            ("text\n--x", "text\n--x"),
            ("text\n-x", "text\n-x"),
            ("text", "text"),
            ("-", ""),
            ("", ""),
        ] {
            assert_eq!(without_cut_delimiter(body.as_bytes(), "b"), kept.as_bytes(), "{body:?}");
        }
        for (bytes, kept) in
            [("a\r\n", "a"), ("a\n", "a"), ("a\r", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", "")]
        {
            assert_eq!(without_line_end(bytes.as_bytes()), kept.as_bytes(), "{bytes:?}");
        }
    }

    #[test]
    fn the_header_of_a_part_has_a_bounded_length() {
        let part = |length: usize| format!("A: {}\n\nbody", "x".repeat(length - 4));
        for (length, fits) in [(limits::PART_HEADER, true), (limits::PART_HEADER + 1, false)] {
            assert_eq!(Part::inner(part(length).as_bytes(), true).is_ok(), fits, "{length}");
            let open = "x".repeat(length);
            assert_eq!(Part::inner(open.as_bytes(), true).err(), Some(Stop::Refuted), "it has no end");
            let expected = if fits { Stop::Cut } else { Stop::Refuted };
            assert_eq!(Part::inner(open.as_bytes(), false).err(), Some(expected), "{length}");
        }
        assert_eq!(Part::inner(b"Content-Type: (\n\n", true).err(), Some(Stop::Refuted));
    }

    #[test]
    fn a_body_is_decoded_as_far_as_is_certain() {
        let decoded = |encoding: &str, body: &[u8], whole| {
            let fields = format!("Content-Transfer-Encoding: {encoding}\n");
            let part = Part::root(Head::new(fields.as_bytes(), b"\n"), body, whole).unwrap();
            part.decoded().map(|body| body.into_owned())
        };
        for (encoding, body, whole, part) in [
            ("7bit", &b"a=3D"[..], &b"a=3D"[..], &b"a=3D"[..]),
            ("base64", b"aGVsbG8=\n", b"hello", b"hello"),
            ("quoted-printable", b"a=3D\nb=3D", b"a=\nb=", b"a=\n"),
            ("quoted-printable", b"a", b"a", b""),
        ] {
            assert_eq!(decoded(encoding, body, true).as_deref(), Some(whole), "{encoding}");
            assert_eq!(decoded(encoding, body, false).as_deref(), Some(part), "{encoding}");
        }
        assert_eq!(decoded("base64", b"-- text --", true), None);
    }

    proptest! {
        #[test]
        fn base64_is_read_with_blanks_anywhere(
            octets in proptest::collection::vec(any::<u8>(), 0..20),
            blanks in proptest::collection::vec(0..28usize, 0..5),
            cut in 0..30usize,
        ) {
            let mut text = base64_simd::STANDARD.encode_to_string(&octets).into_bytes();
            for at in blanks {
                text.insert(at.min(text.len()), b"\r\n \t"[at % 4]);
            }
            prop_assert_eq!(decode_base64(&text, true), Some(octets.clone()));
            let beginning = decode_base64(&text[..cut.min(text.len())], false).unwrap();
            let characters = text[..cut.min(text.len())].iter().filter(|byte| !byte.is_ascii_whitespace()).count();
            prop_assert_eq!(&beginning[..], &octets[..octets.len().min(characters / 4 * 3)]);
        }
    }
}
