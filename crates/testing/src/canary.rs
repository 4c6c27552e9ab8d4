//! A word that stands in a message's text and Subject, and must be found nowhere outside the ciphertext, however it is written.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Letters that nobody else has.
#[derive(Clone, Debug)]
pub struct Canary(String);

impl Canary {
    /// A new one.
    pub fn new() -> Self {
        let mut random = [0; 24];
        fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        Self("canary".chars().chain(random.iter().map(|byte| char::from(b'a' + byte % 26))).collect())
    }

    /// This one.
    pub fn of(word: &str) -> Self {
        Self(word.into())
    }

    /// The word.
    pub fn word(&self) -> &str {
        &self.0
    }

    /// How it is written in there, if it is.
    pub fn found_in(&self, text: &[u8]) -> Option<&'static str> {
        let word = self.0.as_bytes();
        let lower = text.to_ascii_lowercase();
        if contains(&lower, word) {
            return Some("as it is");
        }
        if contains(&quoted_printable(text).to_ascii_lowercase(), word) {
            return Some("quoted-printable");
        }
        let unfolded: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        if contains(&unfolded.to_ascii_lowercase(), word) {
            return Some("folded");
        }
        if (0..3).any(|offset| contains(&unfolded, &within_base64(word, offset))) {
            return Some("base64");
        }
        let hexadecimal: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
        if contains(&unfolded.to_ascii_lowercase(), hexadecimal.as_bytes()) {
            return Some("hexadecimal");
        }
        let wide: Vec<u8> = word.iter().flat_map(|byte| [*byte, 0]).collect();
        contains(&lower, &wide[..wide.len() - 1]).then_some("UTF-16")
    }

    /// The files in and below a folder that have it.
    pub fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let Ok(kind) = fs::symlink_metadata(folder).map(|metadata| metadata.file_type()) else {
            return vec![];
        };
        if kind.is_dir() {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.flat_map(|entry| self.files(&entry.path())).collect()
        } else if kind.is_file() && self.found_in(&fs::read(folder).unwrap_or_default()).is_some() {
            vec![folder.to_owned()]
        } else {
            vec![]
        }
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let digits = rest.get(1..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (step, byte) = match (rest[0], byte) {
            (b'=', Some(byte)) => (3, Some(byte)),
            (b'=', None) if rest.starts_with(b"=\r\n") => (3, None),
            (b'=', None) if rest.starts_with(b"=\n") => (2, None),
            (byte, _) => (1, Some(byte)),
        };
        out.extend(byte);
        at += step;
    }
    out
}

/// What base64 makes of `word` alone, behind so many octets that are not known.
fn within_base64(word: &[u8], offset: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let octets: Vec<u8> = std::iter::repeat_n(0, offset).chain(word.iter().copied()).collect();
    let encoded = octets.chunks_exact(3).flat_map(|three| {
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize])
    });
    encoded.skip(if offset == 0 { 0 } else { offset + 1 }).collect()
}
