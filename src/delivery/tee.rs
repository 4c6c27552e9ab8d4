//! A reader that hands on what it reads, as it came: for a trial that must not keep the message back.

use std::io::{self, Read, Write};

/// Writes to `copy` whatever is read from `inner`. An error of `copy` is kept until [`Tee::finish`]: it is not the reader's.
#[derive(Debug)]
pub struct Tee<R, W> {
    inner: R,
    copy: W,
    failed: Option<io::Error>,
}

impl<R: Read, W: Write> Tee<R, W> {
    /// Reads from `inner`.
    pub fn new(inner: R, copy: W) -> Self {
        Self { inner, copy, failed: None }
    }

    /// Reads on to the end, and gives the writer back, which has all then.
    ///
    /// # Errors
    /// Those of the reader as `read_error` explains them, and of the writer as `write_error` does.
    pub fn finish<E>(
        mut self,
        read_error: impl FnOnce(io::Error) -> E,
        write_error: impl FnOnce(io::Error) -> E,
    ) -> Result<W, E> {
        io::copy(&mut self, &mut io::sink()).map_err(read_error)?;
        match self.failed {
            None => Ok(self.copy),
            Some(error) => Err(write_error(error)),
        }
    }
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if self.failed.is_none() {
            self.failed = self.copy.write_all(&buffer[..count]).err();
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_handed_on_whatever_is_read() {
        let mut tee = Tee::new(&b"abcdef"[..], Vec::new());
        tee.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(tee.finish(|_| "read", |_| "write"), Ok(b"abcdef".to_vec()));
        let mut room = [0; 3];
        let full = Tee::new(&b"abcdef"[..], &mut room[..]);
        assert_eq!(full.finish(|_| "read", |_| "write").unwrap_err(), "write");
    }
}
