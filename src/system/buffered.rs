//! A buffer before a writer that writes nothing when it is dropped: where something failed, nothing more may go out.

use std::io::{self, Write};

/// Collects what is written, and hands it on in large pieces.
#[derive(Debug)]
pub struct Buffered<W> {
    inner: W,
    buffer: Vec<u8>,
    size: usize,
}

impl<W: Write> Buffered<W> {
    /// Hands on pieces of `size` bytes.
    pub fn new(size: usize, inner: W) -> Self {
        Self { inner, buffer: Vec::with_capacity(size), size }
    }

    /// Hands on what is left, and gives the writer back.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for Buffered<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + data.len() > self.size {
            self.inner.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        if data.len() >= self.size {
            self.inner.write_all(data)?;
        } else {
            self.buffer.extend_from_slice(data);
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.buffer)?;
        self.buffer.clear();
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_goes_out_when_it_is_finished_and_never_when_it_is_dropped() {
        let mut out = Vec::new();
        let mut buffered = Buffered::new(4, &mut out);
        for piece in ["a", "bc", "defghi", "", "j"] {
            buffered.write_all(piece.as_bytes()).unwrap();
        }
        drop(buffered);
        assert_eq!(out, b"abcdefghi");
        let mut buffered = Buffered::new(4, Vec::new());
        buffered.write_all(b"abc").unwrap();
        buffered.write_all(b"de").unwrap();
        assert_eq!(buffered.finish().unwrap(), b"abcde");
    }
}
