//! Reads a body that is base64 (RFC 2045, section 6.8), whatever its lines are like, as a stream.

use std::io::{self, Read};

use crate::base64::Groups;
use crate::unseal::broken;

/// Characters that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// Decodes what is read.
#[derive(Debug)]
pub struct Decoder<R> {
    inner: R,
    read: Vec<u8>,
    groups: Groups,
    /// Whether the last group was seen: only blanks may follow it.
    last: bool,
    ended: bool,
}

impl<R: Read> Decoder<R> {
    /// Decodes `inner` to its end.
    pub fn new(inner: R) -> Self {
        let (read, groups) = (Vec::with_capacity(READ_SIZE), Groups::with_capacity(READ_SIZE));
        Self { inner, read, groups, last: false, ended: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.read.clear();
        let count = (&mut self.inner).take(READ_SIZE as u64).read_to_end(&mut self.read)?;
        self.ended = count < READ_SIZE;
        let is_blank = |byte: &u8| matches!(byte, b'\r' | b'\n' | b' ' | b'\t');
        self.groups.extend(self.read.iter().copied().filter(|byte| !is_blank(byte)));
        if self.last && self.groups.has_characters() {
            return Err(broken("something follows the encrypted message"));
        }
        self.last |=
            self.groups.decode(self.ended, "the body holds something that is not base64, or is cut off")?;
        Ok(())
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.groups.is_given_out() {
            if self.ended {
                return Ok(0);
            }
            self.fill()?;
        }
        Ok(self.groups.give_out(buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Result<Vec<u8>, String> {
        let mut octets = Vec::new();
        let mut decoder = Decoder::new(text);
        decoder.read_to_end(&mut octets).map(|_| octets).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_of_any_length() {
        let octets: Vec<u8> = (0..3 * READ_SIZE).map(|i| (i * i % 253) as u8).collect();
        for size in [0, 1, 2, 3, 47, 48, 49, READ_SIZE / 4 * 3 - 1, READ_SIZE / 4 * 3, 3 * READ_SIZE] {
            let text = base64_simd::STANDARD.encode_to_string(&octets[..size]);
            for length in [1, 60, 64, 76, usize::MAX] {
                for ending in ["\n", "\r\n", " \r\n"] {
                    let lines = text.as_bytes().chunks(length.min(text.len().max(1)));
                    let lines: Vec<u8> = lines.flat_map(|line| [line, ending.as_bytes()].concat()).collect();
                    assert!(decoded(&lines).as_deref() == Ok(&octets[..size]), "{size} {length} {ending:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_followed_is_an_error() {
        let long = "AAAA".repeat(READ_SIZE / 4 - 1) + "AA==";
        let blank = "\n".repeat(2 * READ_SIZE);
        for text in [
            "AAA",
            "AA=",
            "A*AA",
            "AA==AAAA",
            "AAAA--",
            &format!("{long}AAAA"),
            &format!("{long}\n\nx"),
            &format!("{long}{blank}AAAA"),
        ] {
            assert!(decoded(text.as_bytes()).is_err(), "{}", &text[text.len().saturating_sub(9)..]);
        }
        assert!(decoded((long + "\n\n").as_bytes()).is_ok());
    }
}
