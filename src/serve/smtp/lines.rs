//! Lines of bounded length from a connection, each in bounded time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

/// Longest line, in bytes with its end: some more than RFC 5321, section 4.5.3.1, asks for, with the parameters of extensions.
pub const LINE: usize = 4096;

/// How much more of a line that is too long is read before the connection is given up.
const OVERLONG: usize = 1024 * 1024;

/// Bytes that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// A connection: octets in both directions, each operation in bounded time.
pub trait Connection: Read + Write + Send + Sync {
    /// How long a read or a write may take from here on.
    fn limit(&self, time: Duration);
}

impl Connection for Box<dyn Connection> {
    fn limit(&self, time: Duration) {
        (**self).limit(time);
    }
}

/// A connection that is read in lines. What is written goes out at once.
#[derive(Debug)]
pub struct Lines<C> {
    inner: BufReader<C>,
}

/// A line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its end, CRLF.
    Whole(Vec<u8>),
    /// It ended with LF alone, or a CR or NUL stood in it.
    Malformed,
    /// It was longer than [`LINE`].
    TooLong,
    /// The other side has closed the connection.
    End,
}

impl<C: Connection> Lines<C> {
    /// Reads from `inner`.
    pub fn new(inner: C) -> Self {
        Self { inner: BufReader::with_capacity(READ_SIZE, inner) }
    }

    /// The connection, to write to it.
    pub fn get_mut(&mut self) -> &mut C {
        self.inner.get_mut()
    }

    /// The connection, to read what is no line from it.
    pub fn reader(&mut self) -> &mut BufReader<C> {
        &mut self.inner
    }

    /// Whether more has been read than was asked for.
    pub fn has_more(&self) -> bool {
        !self.inner.buffer().is_empty()
    }

    /// Whether the next line has been read: the other side waits for no answer.
    pub fn has_line(&self) -> bool {
        memchr::memchr(b'\n', self.inner.buffer()).is_some()
    }

    /// The next line, all of which must come within `time`.
    ///
    /// # Errors
    /// Those of the connection; [`io::ErrorKind::TimedOut`], and [`io::ErrorKind::InvalidData`] for a line that does not end.
    pub fn read(&mut self, time: Duration) -> io::Result<Line> {
        let end = Instant::now() + time;
        let mut line = Vec::new();
        let mut length = 0;
        loop {
            if self.inner.buffer().is_empty() {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                self.inner.get_ref().limit(left);
            }
            let read = match self.inner.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read.is_empty() {
                return Ok(Line::End);
            }
            let (count, ended) = memchr::memchr(b'\n', read).map_or((read.len(), false), |at| (at + 1, true));
            length += count;
            if length <= LINE {
                line.extend_from_slice(&read[..count]);
            }
            self.inner.consume(count);
            if ended {
                return Ok(if length > LINE { Line::TooLong } else { Line::of(line) });
            }
            if length > OVERLONG {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line does not end"));
            }
        }
    }
}

impl Line {
    fn of(mut line: Vec<u8>) -> Self {
        if !line.ends_with(b"\r\n") {
            return Self::Malformed;
        }
        line.truncate(line.len() - 2);
        if memchr::memchr3(b'\r', b'\n', 0, &line).is_some() { Self::Malformed } else { Self::Whole(line) }
    }
}
