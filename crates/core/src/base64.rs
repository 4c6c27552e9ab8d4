//! Lines of base64, at the speed of a SIMD encoder: the armor of OpenPGP and the body of S/MIME.

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
