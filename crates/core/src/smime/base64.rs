//! Reads a body that is base64 (RFC 2045, section 6.8), whatever its lines are like, as a stream.

use std::io::{self, Read};

use crate::unseal::broken;

/// Characters that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// Decodes what is read.
#[derive(Debug)]
pub struct Decoder<R> {
    inner: R,
    read: Vec<u8>,
    /// Characters that do not make a whole group yet.
    characters: Vec<u8>,
    decoded: Vec<u8>,
    /// Where in what is decoded the next octet to be read is.
    next: usize,
    /// Whether the last group was seen: only blanks may follow it.
    last: bool,
    ended: bool,
}

impl<R: Read> Decoder<R> {
    /// Decodes `inner` to its end.
    pub fn new(inner: R) -> Self {
        let room = || Vec::with_capacity(READ_SIZE);
        Self { inner, read: room(), characters: room(), decoded: room(), next: 0, last: false, ended: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.read.clear();
        let count = (&mut self.inner).take(READ_SIZE as u64).read_to_end(&mut self.read)?;
        self.ended = count < READ_SIZE;
        self.characters.extend(self.read.iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | b' ' | b'\t')));
        if self.last && !self.characters.is_empty() {
            return Err(broken("something follows the encrypted message"));
        }
        let whole = if self.ended { self.characters.len() } else { self.characters.len() / 4 * 4 };
        self.decoded.clear();
        self.decoded.extend_from_slice(&self.characters[..whole]);
        self.last = self.decoded.ends_with(b"=");
        let decoded = base64_simd::STANDARD.decode_inplace(&mut self.decoded);
        let count =
            decoded.map_err(|_| broken("the body holds something that is not base64, or is cut off"))?.len();
        self.decoded.truncate(count);
        self.characters.drain(..whole);
        self.next = 0;
        Ok(())
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.next == self.decoded.len() {
            if self.ended {
                return Ok(0);
            }
            self.fill()?;
        }
        let count = buffer.len().min(self.decoded.len() - self.next);
        buffer[..count].copy_from_slice(&self.decoded[self.next..][..count]);
        self.next += count;
        Ok(count)
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
        for text in
            ["AAA", "AA=", "A*AA", "AA==AAAA", "AAAA--", &format!("{long}AAAA"), &format!("{long}\n\nx")]
        {
            assert!(decoded(text.as_bytes()).is_err(), "{}", &text[text.len().saturating_sub(9)..]);
        }
        assert!(decoded((long + "\n\n").as_bytes()).is_ok());
    }
}
