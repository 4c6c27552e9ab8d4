//! Reads an ASCII armor in which there is room for nothing but the message (RFC 9580, section 6.2).

use super::mime::decode_base64;
use super::{Stop, demand};
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
///
/// # Errors
/// [`Stop::Refuted`] where there is anything else, [`Stop::Cut`] where there is no line of it yet.
pub fn decode(text: &[u8], whole: bool) -> Result<Armored, Stop> {
    // Of the last line of a beginning nobody knows what it is, but for the first one: a long text has no armor in it.
    let known = if whole { text.len() } else { memchr::memrchr(b'\n', text).map_or(0, |at| at + 1) };
    let (text, cut) = text.split_at(known);
    let mut position = 0;
    let mut lines = text.split_inclusive(|&byte| byte == b'\n').map(|line| {
        position += line.len();
        (line.trim_ascii_end(), position)
    });
    let Some((line, begun)) = lines.by_ref().find(|(line, _)| !line.is_empty()) else {
        let cut = cut.trim_ascii_end();
        return Err(if BEGIN.starts_with(cut) || cut == BEGIN { Stop::Cut } else { Stop::Refuted });
    };
    demand(line == BEGIN)?;
    let mut headers = 0;
    let start = loop {
        let (line, end) = lines.next().ok_or(Stop::Cut)?;
        if line.is_empty() {
            break end;
        }
        headers += 1;
        let few = headers <= limits::ARMOR_HEADERS && end - begun <= limits::ARMOR_HEADER_BYTES;
        demand(few && is_header(line))?;
    };
    let mut end = start;
    let mut checksum = false;
    for (line, after) in lines {
        if line == END {
            demand(text[after..].trim_ascii().is_empty() && cut.trim_ascii().is_empty())?;
            let data = decode_base64(&text[start..end], true).ok_or(Stop::Refuted)?;
            return Ok(Armored { data, ended: true });
        }
        // Lines without blanks, or words could stand there; then at most one checksum.
        demand(!checksum && !line.is_empty() && !line.iter().any(u8::is_ascii_whitespace))?;
        checksum = line.len() == 5 && line.starts_with(b"=");
        if checksum {
            decode_base64(&line[1..], true).ok_or(Stop::Refuted)?;
        } else {
            end = after;
        }
    }
    let data = decode_base64(&text[start..end], false).ok_or(Stop::Refuted)?;
    if whole { Err(Stop::Cut) } else { Ok(Armored { data, ended: false }) }
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
            assert_eq!(decode(armored(inside).as_bytes(), true).err(), Some(Stop::Refuted), "{inside}");
        }
        for text in [format!("text\n{}", armored("\nAAEC\n")), armored("\nAAEC\n") + "text\n"] {
            assert_eq!(decode(text.as_bytes(), true).err(), Some(Stop::Refuted), "{text}");
        }
    }

    #[test]
    fn a_beginning_is_judged_by_what_is_there() {
        let text = b"-----BEGIN PGP MESSAGE-----\n\nAAEC\nAAEC\n-----E";
        assert_eq!(decode(text, false).unwrap().data, [0, 1, 2, 0, 1, 2]);
        assert_eq!(decode(text, true).err(), Some(Stop::Refuted));
        let text = b"-----BEGIN PGP MESSAGE-----\n\nAAEC\nsome text\nAAEC\n";
        assert_eq!(decode(text, false).err(), Some(Stop::Refuted));
        for (text, stop) in [("\n\n-----BEGIN PGP", Stop::Cut), ("words", Stop::Refuted), ("", Stop::Cut)] {
            assert_eq!(decode(text.as_bytes(), false).err(), Some(stop), "{text}");
        }
    }

    #[test]
    fn headers_have_a_bounded_number_and_length() {
        let lines = |count: usize| "A: b\n".repeat(count) + "\nAAEC\n";
        let long = |length: usize| format!("A: {}\n\nAAEC\n", "x".repeat(length - 4));
        let two = |length: usize| format!("A: b\nB: {}\n\nAAEC\n", "x".repeat(length - 9));
        for (inside, fits) in [
            (lines(limits::ARMOR_HEADERS), true),
            (lines(limits::ARMOR_HEADERS + 1), false),
            (long(limits::ARMOR_HEADER_BYTES), true),
            (long(limits::ARMOR_HEADER_BYTES + 1), false),
            (two(limits::ARMOR_HEADER_BYTES), true),
            (two(limits::ARMOR_HEADER_BYTES + 1), false),
        ] {
            for before in ["", "\n \n"] {
                let text = format!("{before}{}", armored(&inside));
                assert_eq!(decode(text.as_bytes(), true).is_ok(), fits, "{text}");
            }
        }
        for (line, is) in [
            ("Version: 1", true),
            ("X-1:", true),
            ("A:b", true),
            (": b", false),
            ("two words: b", false),
            ("A b", false),
            ("A", false),
            ("", false),
        ] {
            assert_eq!(is_header(line.as_bytes()), is, "{line:?}");
        }
    }

    #[test]
    fn one_checksum_may_stand_at_the_end() {
        // What does not fill four characters may be filled by what follows a beginning.
        for (inside, fits, may_begin) in [
            ("\nAAEC\n=AAEC\n", true, true),
            ("\n=AAEC\n", true, true),
            ("\nAAEC\nAAEC\n", true, true),
            ("\nAAEC\n=AA!C\n", false, false),
            ("\nAAEC\n=AAECA\n", false, false),
            ("\nAAEC\n=AAE\n", false, false),
            ("\nAAEC\nxAAEC\n", false, true),
            ("\nAAEC\n=AAEC\n=AAEC\n", false, false),
            ("\nAAEC\n=AAEC\nAAEC\n", false, false),
            ("\nAA EC\n", false, false),
            ("\nAAEC\n\n", false, false),
            ("\nAAEC\n AAEC\n", false, false),
        ] {
            assert_eq!(decode(armored(inside).as_bytes(), true).is_ok(), fits, "{inside:?}");
            let beginning = format!("-----BEGIN PGP MESSAGE-----\n{inside}x");
            let data = decode(beginning.as_bytes(), false).map(|it| it.data);
            assert_eq!(data.is_ok(), may_begin, "{inside:?}: {data:?}");
        }
    }

    #[test]
    fn an_armor_ends_with_its_last_line() {
        let text = armored("\nAAEC\n");
        for (text, fits) in [
            (text.trim_end().to_owned(), true),
            (text.clone() + "\n \r\n", true),
            (text.clone() + "x", false),
            (text.replace("-----END PGP MESSAGE-----", "-----END PGP MESSAGE----"), false),
            (text.replace("-----END PGP MESSAGE-----", "-----END PGP SIGNATURE-----"), false),
            (text.replace("-----BEGIN PGP MESSAGE-----", "-----BEGIN PGP SIGNATURE-----"), false),
            (text.replace("AAEC", "AAE"), false),
        ] {
            assert_eq!(decode(text.as_bytes(), true).is_ok(), fits, "{text}");
        }
        for (more, expected) in [("", true), ("\n ", true), ("\nx\n", false), ("x", false)] {
            let text = armored("\nAAEC\n") + more;
            match decode(text.as_bytes(), false) {
                Ok(it) => assert!(expected && it.ended && it.data == [0, 1, 2], "{text}"),
                Err(stop) => assert!(!expected && stop == Stop::Refuted, "{text}"),
            }
        }
    }

    /// Of an armor there is less and less to tell, but never a contradiction.
    #[test]
    fn a_beginning_is_cut_or_begins_the_data() {
        let text = armored("Version: x\n\nAAECAwQF\nBgcICQoL\n=twTO\n");
        let whole = decode(text.as_bytes(), true).unwrap().data;
        for end in 0..text.len() {
            match decode(&text.as_bytes()[..end], false) {
                Ok(it) => assert!(whole.starts_with(&it.data), "{end}"),
                Err(stop) => assert_eq!(stop, Stop::Cut, "{end}"),
            }
            if end + 1 < text.len() {
                assert!(decode(&text.as_bytes()[..end], true).is_err(), "{end}");
            }
        }
        for text in ["-----BEGIN PGP MESSAGE-----x", "-----BEGIN PGP MESSAGE----x", "\n \nx"] {
            assert_eq!(decode(text.as_bytes(), false).err(), Some(Stop::Refuted), "{text}");
        }
        assert_eq!(decode(b"-----BEGIN PGP MESSAGE----- ", false).err(), Some(Stop::Cut));
    }
}
