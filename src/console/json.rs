//! JSON that is safe for a terminal, too: text in it comes from keys, folders and messages.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::escape::is_unsafe;

/// Writes `value` over several lines, and a line end.
///
/// # Errors
/// Those of `out`, and of a value that is none in JSON.
pub fn write(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{}", escaped(&serde_json::to_string_pretty(value)?))
}

/// The same JSON with every character as `\uNNNN` that does something to a terminal, unless it is a line end between two
/// values.
#[must_use]
pub fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_unsafe(c) {
            // None of them needs two. Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", c as u32);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_get_no_control_characters_and_scripts_get_them_all() {
        let value = ["a\u{9b}31mb", "\x1b\x7f\n\t", "x\u{202e}\u{feff}\u{2028}", "Zo\u{eb} \\ \"\u{1f511}"];
        let mut out = Vec::new();
        write(&mut out, &value).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| !line.contains(is_unsafe)), "{text}");
        assert!(text.contains("a\\u009b31mb") && text.contains("Zo\u{eb}"), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), value);
        assert_eq!(escaped(&text), text);
    }
}
