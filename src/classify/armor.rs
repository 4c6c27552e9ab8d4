//! Reads an ASCII armor in which there is room for nothing but the message (RFC 9580, section 6.2).

use super::mime::decode_base64;
use crate::limits;

const BEGIN: &[u8] = b"-----BEGIN PGP MESSAGE-----";
const END: &[u8] = b"-----END PGP MESSAGE-----";

/// What an armor holds.
#[derive(Debug)]
pub struct Armored {
    pub data: Vec<u8>,
    /// Whether the end of the armor was seen.
    pub ended: bool,
}

/// Decodes a text that is one armored message, blank lines before and after it aside. Of a text that is not `whole`,
/// the beginning is enough.
pub fn decode(text: &[u8], whole: bool) -> Option<Armored> {
    let mut position = 0;
    let mut lines = text.split_inclusive(|&byte| byte == b'\n').map(|line| {
        position += line.len();
        (line.trim_ascii_end(), position)
    });
    let first = lines.by_ref().find(|(line, _)| !line.is_empty())?;
    if first.0 != BEGIN {
        return None;
    }
    let mut headers = 0;
    let start = loop {
        let (line, end) = lines.next()?;
        if line.is_empty() {
            break end;
        }
        headers += 1;
        let bytes = end - first.1;
        if headers > limits::ARMOR_HEADERS || bytes > limits::ARMOR_HEADER_BYTES || !is_header(line) {
            return None;
        }
    };
    let mut end = start;
    let mut checksum = false;
    for (line, after) in lines {
        if line == END {
            let blank = text[after..].trim_ascii().is_empty();
            let data = decode_base64(&text[start..end], true)?;
            return blank.then_some(Armored { data, ended: true });
        }
        // Lines without blanks, or words could stand there; then at most one checksum.
        if checksum || line.is_empty() || line.iter().any(u8::is_ascii_whitespace) {
            return None;
        }
        checksum = line.len() == 5 && line.starts_with(b"=");
        if checksum {
            decode_base64(&line[1..], true)?;
        } else {
            end = after;
        }
    }
    if whole {
        return None;
    }
    // The last line may be a part of the checksum or of the last line of the armor.
    let last = text[start..end].trim_ascii_end();
    let cut = memchr::memrchr(b'\n', last).map_or(0, |at| at + 1);
    let data = decode_base64(&last[..cut], false)?;
    Some(Armored { data, ended: false })
}

/// An armor header has a name of letters and a value (`Version: GnuPG v2`).
fn is_header(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    name > 0 && line.get(name) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armored(inside: &str) -> String {
        format!("-----BEGIN PGP MESSAGE-----\n{inside}-----END PGP MESSAGE-----\n")
    }

    #[test]
    fn one_armored_message_is_read() {
        for inside in ["\nAAEC\n=twTO\n", "Version: x\r\nComment: y\r\n\r\nAA\nEC\n", "\nAAEC  \n"] {
            let text = format!("\n{}\n \n", armored(inside));
            let armored = decode(text.as_bytes(), true).unwrap();
            assert_eq!((&armored.data[..], armored.ended), (&[0, 1, 2][..], true), "{inside}");
        }
    }

    #[test]
    fn anything_else_in_it_is_refused() {
        let many = "A: b\n".repeat(11) + "\nAAEC\n";
        let long = format!("A: {}\n\nAAEC\n", "x".repeat(1100));
        for inside in
            ["AAEC\n", "\nAAEC\n\ntext\n", "\nAAEC\n=twTO\nAAEC\n", "\nhello world\n", "free text\n\nAAEC\n"]
                .into_iter()
                .chain([&*many, &*long])
        {
            assert!(decode(armored(inside).as_bytes(), true).is_none(), "{inside}");
        }
        for text in [format!("text\n{}", armored("\nAAEC\n")), armored("\nAAEC\n") + "text\n"] {
            assert!(decode(text.as_bytes(), true).is_none(), "{text}");
        }
    }

    #[test]
    fn a_beginning_is_judged_by_what_is_there() {
        let text = b"-----BEGIN PGP MESSAGE-----\n\nAAEC\nAAEC\n-----E";
        assert_eq!(decode(text, false).unwrap().data, [0, 1, 2, 0, 1, 2]);
        assert!(decode(text, true).is_none());
        assert!(decode(b"-----BEGIN PGP MESSAGE-----\n\nAAEC\nsome text\nAAEC\n", false).is_none());
    }
}
