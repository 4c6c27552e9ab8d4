//! The legacy display element (RFC 9788, section 5.2.2): the Subject at the top of the body, for readers that do not know
//! header protection. It is put into a body of one text, in that text's own charset and transfer encoding, and is cut out
//! again byte for byte; where that cannot be, there is none.

mod html;

use std::fmt::Write as _;

use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;
use memchr::memmem;

use crate::classify::mime::{ContentType, Encoding};
use crate::limits;
use crate::message::head::{Head, Item};

/// Longest line of quoted-printable (RFC 2045, section 6.7), without its soft line break.
const QUOTED_LINE: usize = 75;

/// Octets in a line of base64 (RFC 2045, section 6.8).
const BASE64_LINE: usize = 57;

/// Something that is put into a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Display {
    /// Before which byte of the body.
    pub at: usize,
    /// What: nothing else is changed.
    pub text: Vec<u8>,
}

impl Display {
    /// The element for a message whose Subject fields are `hidden`, with this `head` and the beginning of its `body`, in
    /// lines that end with `ending`.
    #[must_use]
    pub fn of<'a>(
        head: Head<'_>,
        content_type: Option<&ContentType>,
        hidden: impl Iterator<Item = Item<'a>>,
        body: &[u8],
        ending: &str,
    ) -> Option<Self> {
        let is = |name| content_type.is_some_and(|it| it.is(name));
        let html = is("text/html");
        let text = html || is("text/plain") || content_type.is_none();
        let marked = content_type.is_some_and(|it| it.attribute("hp-legacy-display").is_some());
        // A signed text must begin with its signature's first line.
        if !text || marked || is_attachment(head) || memmem::find(body, b"-----BEGIN PGP ").is_some() {
            return None;
        }
        let mut lines = Vec::new();
        let mut length = 0;
        for item in hidden {
            let text = decoded(&item)?;
            if !text.is_empty() {
                length += text.len();
                lines.push(format!("Subject: {text}"));
            }
            if length > limits::LEGACY_DISPLAY {
                return None;
            }
        }
        if lines.is_empty() {
            return None;
        }
        let charset = content_type.and_then(|it| it.attribute("charset")).unwrap_or("us-ascii");
        let encoding = Encoding::of(head)?;
        if html {
            in_html(&lines, charset, encoding, body, ending)
        } else {
            in_text(&lines, charset, encoding, ending)
        }
    }
}

fn in_text(lines: &[String], charset: &str, encoding: Encoding, ending: &str) -> Option<Display> {
    let text = Charset::named(charset)?.encode(&(lines.join("\n") + "\n\n"))?;
    let text = match encoding {
        Encoding::Identity => with_ending(&text, ending),
        Encoding::QuotedPrintable => quoted_printable(&text, ending),
        Encoding::Base64 => base64(text, ending),
    };
    Some(Display { at: 0, text })
}

fn in_html(
    lines: &[String],
    charset: &str,
    encoding: Encoding,
    body: &[u8],
    ending: &str,
) -> Option<Display> {
    Charset::named(charset)?;
    let lines: Vec<String> = lines.iter().map(|line| html::escaped(line)).collect();
    let text = format!(
        "\n<div class=\"header-protection-legacy-display\">\n<pre>{}</pre>\n</div>\n",
        lines.join("\n")
    );
    let at = html::body_start(body)?;
    let text = match encoding {
        Encoding::Identity => with_ending(text.as_bytes(), ending),
        Encoding::QuotedPrintable => quoted_printable(text.as_bytes(), ending),
        Encoding::Base64 => return None,
    };
    Some(Display { at, text })
}

fn is_attachment(head: Head<'_>) -> bool {
    let inline = |value: &[u8]| {
        let value = value.trim_ascii();
        value.get(..6).is_some_and(|word| word.eq_ignore_ascii_case(b"inline"))
    };
    head.items().filter_map(|item| item.value_of("Content-Disposition")).any(|value| !inline(value))
}

/// The text of a field on one line, without control characters; `None` where it is too long or cannot be decoded.
fn decoded(item: &Item<'_>) -> Option<String> {
    let value = item.value();
    if value.len() > limits::PROTECTED_FIELD {
        return None;
    }
    let value = [value.trim_ascii(), b"\n"].concat();
    let text = match MessageStream::new(&value).parse_unstructured() {
        HeaderValue::Text(text) => text,
        HeaderValue::Empty => return Some(String::new()),
        _ => return None,
    };
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return None;
    }
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    Some(text.replace(breaks, " ").trim().to_owned())
}

/// What a text of some charset can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    /// Only ASCII, though more may stand beside it.
    Ascii,
    /// ISO-8859-1, and windows-1252 where it is the same.
    Latin1,
    /// All.
    Utf8,
}

impl Charset {
    /// `None` where ASCII means something else, or may.
    fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let families =
            ["iso-8859-", "iso-2022-jp", "windows-125", "cp125", "koi8-", "gb", "big5", "euc-", "shift_jis"];
        match &*name {
            "utf-8" | "utf8" => Some(Self::Utf8),
            "iso-8859-1" | "windows-1252" | "cp1252" => Some(Self::Latin1),
            "us-ascii" | "ascii" => Some(Self::Ascii),
            _ => families.iter().any(|family| name.starts_with(family)).then_some(Self::Ascii),
        }
    }

    fn encode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            _ if text.is_ascii() => Some(text.into()),
            Self::Utf8 => Some(text.into()),
            Self::Latin1 => text
                .chars()
                .map(|c| match c {
                    '\u{0}'..='\u{7f}' | '\u{a0}'..='\u{ff}' => u8::try_from(u32::from(c)).ok(),
                    _ => None,
                })
                .collect(),
            Self::Ascii => None,
        }
    }
}

fn with_ending(text: &[u8], ending: &str) -> Vec<u8> {
    text.split(|&byte| byte == b'\n').collect::<Vec<_>>().join(ending.as_bytes())
}

/// Whole lines of quoted-printable, or a piece that may stand within a line: it begins and ends with a line break.
fn quoted_printable(text: &[u8], ending: &str) -> Vec<u8> {
    let mut out = String::new();
    let mut line = 0;
    for &byte in text {
        if byte == b'\n' {
            out.push_str(ending);
            line = 0;
            continue;
        }
        let literal = matches!(byte, b' '..=b'~') && byte != b'=';
        let width = if literal { 1 } else { 3 };
        if line + width > QUOTED_LINE {
            out.push('=');
            out.push_str(ending);
            line = 0;
        }
        line += width;
        // Writing to a String cannot fail.
        if literal { out.push(char::from(byte)) } else { _ = write!(out, "={byte:02X}") }
    }
    out.into_bytes()
}

/// Whole lines of base64 without padding, so that more may follow: the first line gets blanks behind `Subject:`.
fn base64(mut text: Vec<u8>, ending: &str) -> Vec<u8> {
    text = with_ending(&text, "\r\n");
    let colon = "Subject:".len();
    while !text.len().is_multiple_of(3) {
        text.insert(colon, b' ');
    }
    text.chunks(BASE64_LINE)
        .flat_map(|line| (base64_simd::STANDARD.encode_to_string(line) + ending).into_bytes())
        .collect()
}
