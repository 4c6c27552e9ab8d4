//! Reads the armored message out of the second part of RFC 3156's structure, and the end of that structure.
//!
//! What comes before the armor was proven by [`crate::classify`]; what comes after it is demanded here: the closing
//! delimiter, and nothing else.

use std::io::{self, Read};

use super::broken;
use crate::base64::Groups;
use crate::limits;

const BEGIN: &[u8] = b"-----BEGIN PGP MESSAGE-----";
const END: &[u8] = b"-----END PGP MESSAGE-----";

/// Octets that are read at once: many lines.
const READ_SIZE: usize = 64 * 1024;

/// Most bytes before the armor: a preamble, two part headers, and what stands round them.
const BEFORE: usize = 2 * limits::PART_HEADER + 4 * limits::PREAMBLE;

/// Decodes what is read.
#[derive(Debug)]
pub struct Armor<R> {
    lines: Lines<R>,
    closing: Vec<u8>,
    groups: Groups,
    /// Whether the checksum was seen: nothing but the end may follow it.
    checksum: bool,
    ended: bool,
}

impl<R: Read> Armor<R> {
    /// Begins behind the header of the armor in the body `inner`, whose parts are separated by `boundary`. `None` where
    /// there is no armor (it may be encoded once more).
    ///
    /// # Errors
    /// Those of `inner`, and an `inner` that ends.
    pub fn begin(inner: R, boundary: &str) -> io::Result<Option<Self>> {
        let mut lines = Lines::new(inner);
        let mut bytes = 0;
        while lines.next()?.trim_ascii_end() != BEGIN {
            bytes += lines.line().len();
            if bytes > BEFORE {
                return Ok(None);
            }
        }
        while !lines.next()?.trim_ascii_end().is_empty() {}
        let closing = format!("--{boundary}--").into_bytes();
        let groups = Groups::with_capacity(READ_SIZE);
        Ok(Some(Self { lines, closing, groups, checksum: false, ended: false }))
    }

    /// Decodes the lines that have been read.
    fn fill(&mut self) -> io::Result<()> {
        loop {
            let line = self.lines.next()?.trim_ascii_end();
            match line.first() {
                Some(b'-') if line == END => {
                    self.ended = true;
                    break;
                }
                // The checksum of the armor is not looked at; the encrypted packet has a better one.
                Some(b'=') if line.len() == 5 && !self.checksum => self.checksum = true,
                Some(_) if !self.checksum => self.groups.extend(line.iter().copied()),
                _ => return Err(broken("the armor holds more than one message")),
            }
            if !self.lines.has_next() {
                break;
            }
        }
        self.groups.decode(self.ended, "the armor holds something that is not base64")?;
        if self.ended { self.demand_closing() } else { Ok(()) }
    }

    /// Only blank lines and one closing delimiter may follow.
    fn demand_closing(&mut self) -> io::Result<()> {
        let mut closed = false;
        while self.lines.more()? {
            match self.lines.next()?.trim_ascii_end() {
                b"" => {}
                line if line == self.closing && !closed => closed = true,
                _ => return Err(broken("something follows the encrypted message")),
            }
        }
        if closed { Ok(()) } else { Err(broken("the message is cut off behind its armor")) }
    }
}

impl<R: Read> Read for Armor<R> {
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

/// Lines of at most [`READ_SIZE`] bytes.
#[derive(Debug)]
struct Lines<R> {
    inner: R,
    buffer: Vec<u8>,
    /// The line that was read last.
    line: std::ops::Range<usize>,
    end: usize,
}

impl<R: Read> Lines<R> {
    fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; 2 * READ_SIZE], line: 0..0, end: 0 }
    }

    /// The line that was read last.
    fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// Whether the next line is there without reading.
    fn has_next(&self) -> bool {
        memchr::memchr(b'\n', &self.buffer[self.line.end..self.end]).is_some()
    }

    /// Whether there is another line.
    fn more(&mut self) -> io::Result<bool> {
        Ok(self.line.end < self.end || self.fill()? > 0)
    }

    /// The next line; the last one may lack its ending.
    fn next(&mut self) -> io::Result<&[u8]> {
        loop {
            let start = self.line.end;
            let rest = &self.buffer[start..self.end];
            let length = rest.len();
            if let Some(at) = memchr::memchr(b'\n', rest) {
                self.line = start..start + at + 1;
                return Ok(self.line());
            }
            if length > READ_SIZE {
                return Err(broken("the armor has a line without end"));
            }
            if self.fill()? == 0 {
                if length == 0 {
                    return Err(broken("the message is cut off"));
                }
                self.line = 0..length;
                return Ok(self.line());
            }
        }
    }

    /// Reads more behind what has not been given out yet.
    fn fill(&mut self) -> io::Result<usize> {
        let left = self.line.end..self.end;
        self.end = left.len();
        self.buffer.copy_within(left, 0);
        self.line = 0..0;
        loop {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
