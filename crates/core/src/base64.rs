//! Base64, at the speed of SIMD: the armor of OpenPGP and the body of S/MIME, written as lines and read from whatever lines.

use std::io::{self, Write};

use base64_simd::{Out, STANDARD};

/// Octets in a line of 64 characters.
const LINE: usize = 48;

/// Octets that are encoded at once: as many as come from one partial body, and a little more.
pub const ENCODED_SIZE: usize = 384 * LINE;

/// Writes lines of 64 characters; [`Lines::finish`] must be called to end the last one.
#[derive(Debug)]
pub struct Lines<W> {
    inner: W,
    ending: &'static str,
    pending: Vec<u8>,
    characters: Vec<u8>,
    lines: Vec<u8>,
}

impl<W: Write> Lines<W> {
    /// Writes to `inner` lines that end with `ending`.
    pub fn new(inner: W, ending: &'static str) -> Self {
        Self {
            inner,
            ending,
            pending: Vec::with_capacity(LINE),
            characters: vec![0; ENCODED_SIZE / 3 * 4],
            lines: Vec::with_capacity(ENCODED_SIZE / LINE * (LINE / 3 * 4 + 2)),
        }
    }

    /// Writes what is left, and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(mut self) -> io::Result<W> {
        let pending = std::mem::take(&mut self.pending);
        self.encode(&pending)?;
        Ok(self.inner)
    }

    /// Writes `octets` as lines; all but the last call give whole lines.
    fn encode(&mut self, octets: &[u8]) -> io::Result<()> {
        for batch in octets.chunks(ENCODED_SIZE) {
            let characters = STANDARD.encode(batch, Out::from_slice(&mut self.characters));
            self.lines.clear();
            for line in characters.chunks(LINE / 3 * 4) {
                self.lines.extend_from_slice(line);
                self.lines.extend_from_slice(self.ending.as_bytes());
            }
            self.inner.write_all(&self.lines)?;
        }
        Ok(())
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // First the line that was begun, then whole lines as they come, then the beginning of the next.
        let missing = if self.pending.is_empty() { 0 } else { LINE - self.pending.len() };
        let (begun, rest) = data.split_at(missing.min(data.len()));
        self.pending.extend_from_slice(begun);
        if self.pending.len() == LINE {
            let pending = std::mem::take(&mut self.pending);
            self.encode(&pending)?;
            self.pending = pending;
            self.pending.clear();
        }
        let (lines, left) = rest.split_at(rest.len() / LINE * LINE);
        self.encode(lines)?;
        self.pending.extend_from_slice(left);
        Ok(data.len())
    }

    /// Does nothing: a line cannot be shorter than it is.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Characters that are read, group by group, and the octets that they stand for until those are given out.
#[derive(Debug)]
pub struct Groups {
    /// Those that do not make a whole group yet.
    characters: Vec<u8>,
    decoded: Vec<u8>,
    /// Where in what is decoded the next octet to be given out is.
    next: usize,
}

impl Groups {
    /// With room for so many characters at once.
    pub fn with_capacity(characters: usize) -> Self {
        let room = || Vec::with_capacity(characters);
        Self { characters: room(), decoded: room(), next: 0 }
    }

    /// Adds characters, without blanks and line ends.
    pub fn extend(&mut self, characters: impl IntoIterator<Item = u8>) {
        self.characters.extend(characters);
    }

    /// Whether there are characters that are not decoded.
    pub fn has_characters(&self) -> bool {
        !self.characters.is_empty()
    }

    /// Decodes the whole groups, or where the text has `ended`, all there is. What was decoded before must have been given out.
    /// Gives whether the last group, which is filled up with `=`, was seen: no other may follow.
    ///
    /// # Errors
    /// `what`, where it is no base64.
    pub fn decode(&mut self, ended: bool, what: &'static str) -> io::Result<bool> {
        let whole = if ended { self.characters.len() } else { self.characters.len() / 4 * 4 };
        self.decoded.clear();
        self.decoded.extend_from_slice(&self.characters[..whole]);
        let last = self.decoded.ends_with(b"=");
        let decoded = STANDARD.decode_inplace(&mut self.decoded);
        let count = decoded.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, what))?.len();
        self.decoded.truncate(count);
        self.characters.drain(..whole);
        self.next = 0;
        Ok(last)
    }

    /// Whether everything that was decoded has been given out.
    pub fn is_given_out(&self) -> bool {
        self.next == self.decoded.len()
    }

    /// Gives out as many octets as `buffer` takes.
    pub fn give_out(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.decoded[self.next..];
        let count = buffer.len().min(rest.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.next += count;
        count
    }
}
