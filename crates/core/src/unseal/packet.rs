//! Reads the packets of a stream: header and body lengths (RFC 9580, section 4.2).

use std::io::{self, Read};

use super::{broken, demand_end};

/// The packet types that are looked at.
pub struct Tag;

impl Tag {
    /// Public-Key Encrypted Session Key (RFC 9580, section 5.1).
    pub const SESSION_KEY: u8 = 1;
    /// Compressed Data (section 5.6).
    pub const COMPRESSED: u8 = 8;
    /// Literal Data (section 5.9).
    pub const LITERAL: u8 = 11;
    /// Symmetrically Encrypted and Integrity Protected Data (section 5.13).
    pub const SEIPD: u8 = 18;
}

/// How long a body, or its first part, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So long.
    Definite(u64),
    /// So long, and another length follows.
    Partial(u64),
    /// To the end of what is there.
    Indeterminate,
}

/// Type and length of the next packet; `None` at the end.
///
/// # Errors
/// Those of `reader`; what is no packet is `InvalidData`.
pub fn read_header(reader: &mut impl Read) -> io::Result<Option<(u8, Length)>> {
    let mut first = [0];
    loop {
        match reader.read(&mut first) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    match first[0] {
        tag @ 0xc0.. => Ok(Some((tag & 0x3f, read_length(reader)?))),
        old @ 0x80.. => {
            let octets = match old & 3 {
                3 => return Ok(Some(((old >> 2) & 15, Length::Indeterminate))),
                kind => 1 << kind,
            };
            Ok(Some(((old >> 2) & 15, Length::Definite(read_number(reader, octets)?))))
        }
        _ => Err(broken("what should be an OpenPGP packet is none")),
    }
}

fn read_length(reader: &mut impl Read) -> io::Result<Length> {
    Ok(match read_number(reader, 1)? {
        short @ 0..192 => Length::Definite(short),
        first @ 192..224 => Length::Definite(((first - 192) << 8) + read_number(reader, 1)? + 192),
        partial @ 224..255 => Length::Partial(1 << (partial & 31)),
        _ => Length::Definite(read_number(reader, 4)?),
    })
}

fn read_number(reader: &mut impl Read, octets: usize) -> io::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes[8 - octets..])?;
    Ok(u64::from_be_bytes(bytes))
}

/// The body of the last packet of a stream.
#[derive(Debug)]
pub struct Body<R> {
    inner: R,
    left: u64,
    length: Length,
}

impl<R: Read> Body<R> {
    /// The body that follows a header with this length.
    pub fn new(inner: R, length: Length) -> Self {
        Self { inner, left: first_part(length), length }
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
                    self.left = first_part(self.length);
                }
                _ => {
                    demand_end(&mut self.inner, "something follows the last packet")?;
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

fn first_part(length: Length) -> u64 {
    match length {
        Length::Definite(left) | Length::Partial(left) => left,
        Length::Indeterminate => u64::MAX,
    }
}
