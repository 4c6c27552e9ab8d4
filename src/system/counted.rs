//! Counts the bytes that pass through a reader or writer.

use std::io::{self, Read, Write};

/// A reader or writer and the number of bytes that went through it.
#[derive(Debug)]
pub struct Counted<T> {
    inner: T,
    total: u64,
}

impl<T> Counted<T> {
    /// Counts from zero.
    pub fn new(inner: T) -> Self {
        Self { inner, total: 0 }
    }

    /// How many bytes went through.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The reader or writer itself, to move bytes past the count; [`Counted::add`] them.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Counts bytes that went another way.
    pub fn add(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// The reader or writer itself.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.total += count as u64;
        Ok(count)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(data)?;
        self.total += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
