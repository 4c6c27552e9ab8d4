//! Reads the body of the last packet of a stream, whole or in parts (RFC 9580, section 4.2).

use std::io::{self, Read};

use super::{broken, demand_end};
use crate::openpgp::header::{Length, read_header, read_length, tag};

/// The body of the last packet of a stream.
#[derive(Debug)]
pub struct Body<R> {
    inner: R,
    left: u64,
    length: Length,
    padded: bool,
}

impl<R: Read> Body<R> {
    /// The body that follows a header with this length.
    pub fn new(inner: R, length: Length) -> Self {
        Self { inner, left: length.first_part(), length, padded: false }
    }

    /// The same where padding packets may follow it (RFC 9580, section 5.14).
    pub fn padded(inner: R, length: Length) -> Self {
        Self { padded: true, ..Self::new(inner, length) }
    }

    /// Reads what may follow the packet.
    fn end(&mut self) -> io::Result<()> {
        const MORE: &str = "something follows the last packet";
        if !self.padded {
            return demand_end(&mut self.inner, MORE);
        }
        while let Some(header) = read_header(&mut self.inner)? {
            let (tag::PADDING, Length::Definite(octets)) = header else { return Err(broken(MORE)) };
            if io::copy(&mut self.inner.by_ref().take(octets), &mut io::sink())? < octets {
                return Err(broken("a packet is cut off"));
            }
        }
        Ok(())
    }

    /// The stream itself, wherever it is.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.left == 0 {
            match self.length {
                Length::Partial(_) => {
                    self.length = read_length(&mut self.inner)?;
                    self.left = self.length.first_part();
                }
                _ => {
                    self.end()?;
                    return Ok(0);
                }
            }
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && self.length != Length::Indeterminate {
            return Err(broken("a packet is cut off"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
