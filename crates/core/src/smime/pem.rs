//! The blocks of a PEM file (RFC 7468), whatever text stands between them.

use super::certificate::Unreadable;

const BEGIN: &[u8] = b"-----BEGIN ";
/// What some editors write before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// What OpenPGP calls its blocks, which are not quite PEM.
const OPENPGP: &[u8] = b"PGP ";

/// Characters in a line that is written.
const LINE: usize = 64;

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// What it says it is: `CERTIFICATE`.
    pub label: &'a [u8],
    /// What it holds.
    pub octets: Vec<u8>,
}

/// The blocks in `text`, but for OpenPGP's; none where it is no PEM.
///
/// # Errors
/// [`Unreadable::Broken`] where a block does not end, or holds something that is not base64.
pub fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, Unreadable> {
    let mut blocks = Vec::new();
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    while let Some(line) = lines.next() {
        let Some(label) = between(line, BEGIN).filter(|label| !label.starts_with(OPENPGP)) else { continue };
        let mut characters = Vec::new();
        loop {
            let line = lines.next().ok_or_else(|| Unreadable::Broken("a PEM block does not end".into()))?;
            match between(line, END) {
                Some(end) if end == label => break,
                Some(_) => return Err(Unreadable::Broken("a PEM block ends as another".into())),
                None => characters.extend_from_slice(line),
            }
        }
        let octets = base64_simd::STANDARD.decode_to_vec(&characters);
        let octets = octets
            .map_err(|_| Unreadable::Broken("a PEM block holds something that is not base64".into()))?;
        blocks.push(Block { label, octets });
    }
    Ok(blocks)
}

/// A block that says that it is a `label`.
pub fn write(label: &str, octets: &[u8]) -> String {
    let text = base64_simd::STANDARD.encode_to_string(octets);
    let lines = text.as_bytes().chunks(LINE).map(|line| format!("{}\n", String::from_utf8_lossy(line)));
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

fn between<'a>(line: &'a [u8], begin: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(begin)?.strip_suffix(DASHES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_among_text() {
        let text = b"Bag Attributes\r\n-----BEGIN A-----\r\nAQ\r\nID\r\n-----END A-----\r\n\n-----BEGIN B B-----\n-----END B B-----";
        let [a, b] = &blocks(text).unwrap()[..] else { panic!() };
        assert_eq!((a.label, &a.octets[..]), (&b"A"[..], &[1, 2, 3][..]));
        assert_eq!((b.label, &b.octets[..]), (&b"B B"[..], &[][..]));
        assert_eq!(blocks(b"text"), Ok(Vec::new()));
        let marked = blocks(b"\xef\xbb\xbf-----BEGIN A-----\nAQID\n-----END A-----\n").unwrap();
        assert_eq!(marked[0].octets, [1, 2, 3], "behind a byte order mark");
    }

    #[test]
    fn what_is_broken_is_told() {
        for (text, expected) in [
            ("-----BEGIN A-----\nAQID\n", "does not end"),
            ("-----BEGIN A-----\nAQID\n-----END B-----\n", "ends as another"),
            ("-----BEGIN A-----\nAQ!D\n-----END A-----\n", "not base64"),
            ("-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n-----END A-----\n", "not base64"),
        ] {
            let error = blocks(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
