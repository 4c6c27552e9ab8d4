//! Makes text from a mail, a key or a path safe for a terminal and for syslog.
//!
//! Nothing that comes from outside reaches either without passing here.

use std::fmt::Write as _;

/// Escapes for a human reader: control characters, line breaks, bidirectional overrides and bytes that are not
/// UTF-8 become `\xNN` or `\u{NNNN}`, a backslash is doubled.
#[must_use]
pub fn display(text: &[u8]) -> String {
    escaped(text, "\\\\")
}

/// Escapes what another process says that it has escaped: as [`display`], but a backslash stays one, so that nothing
/// changes in text that [`display`] has been through.
#[must_use]
pub fn again(text: &[u8]) -> String {
    escaped(text, "\\")
}

fn escaped(text: &[u8], backslash: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str(backslash),
                c if is_unsafe(c) => push_escaped(&mut out, c),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            push_byte(&mut out, *byte);
        }
    }
    out
}

/// Escapes one value of a `key=value` log line: as [`display`], and blanks, quotes and `=` too, all in ASCII,
/// cut after `cap` bytes with `…` spelled `...`. An empty value becomes `-`.
#[must_use]
pub fn log_value(text: &[u8], cap: usize) -> String {
    if text.is_empty() {
        return "-".into();
    }
    let mut out = String::with_capacity(text.len().min(cap));
    for &byte in text {
        if out.len() >= cap {
            out.push_str("...");
            break;
        }
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'"' | b'=' | b' ' | 0..=0x1f | 0x7f..=0xff => push_byte(&mut out, byte),
            printable => out.push(char::from(printable)),
        }
    }
    out
}

/// Control characters and the marks that turn the direction of text.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn push_escaped(out: &mut String, c: char) {
    if c.is_ascii() {
        push_byte(out, c as u8);
    } else {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\u{{{:04x}}}", c as u32);
    }
}

fn push_byte(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_get_no_control_characters() {
        let cases: [(&[u8], &str); 6] = [
            (b"alice@example.org", "alice@example.org"),
            ("Zo\u{eb}".as_bytes(), "Zo\u{eb}"),
            (b"a\x1b[31mb", "a\\x1b[31mb"),
            (b"one\r\ntwo", "one\\x0d\\x0atwo"),
            ("a\u{202e}b".as_bytes(), "a\\u{202e}b"),
            (b"\xff\\", "\\xff\\\\"),
        ];
        for (input, expected) in cases {
            assert_eq!(display(input), expected);
            assert_eq!(again(expected.as_bytes()), expected);
            assert!(!again(input).contains(is_unsafe));
        }
    }

    #[test]
    fn log_values_are_one_short_word() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "-"),
            (b"<a@b>", "<a@b>"),
            (b"a outcome=sealed", "a\\x20outcome\\x3dsealed"),
            (b"a\nb", "a\\x0ab"),
            (b"0123456789abcdef", "0123456789..."),
        ];
        for (input, expected) in cases {
            assert_eq!(
                log_value(input, if input.len() == 16 && input[0] == b'0' { 10 } else { 99 }),
                expected
            );
        }
    }
}
