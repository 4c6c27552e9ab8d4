//! What is inside the encrypted packet: the literal data, compressed or not.

use std::io::{self, BufRead as _, BufReader, Read};

use zlib_rs::{Inflate, InflateFlush, Status};

use super::packet::Body;
use super::{Stream, broken, demand_end};
use crate::openpgp::header::{Length, read_header, tag};

/// Octets that are decompressed at once.
const INFLATED_SIZE: usize = 32 * 1024;

/// zlib looks 32 KiB back.
const WINDOW_BITS: u8 = 15;

/// Octets of a marker packet.
const MARKER: u64 = 3;

/// What was found.
pub enum Content<'a> {
    /// One literal data packet, as mailseal writes.
    Literal {
        /// Its file name.
        name: Vec<u8>,
        /// Its data.
        data: Body<Stream<'a>>,
    },
    /// Something else; the rest of the stream.
    Other(Stream<'a>),
}

/// Reads the beginning of the packets in `plain`, which decompress to at most `most` octets.
///
/// # Errors
/// Those of `plain`, and what is no packet. While reading, one that holds an [`Expands`] where there are more octets.
pub fn open(mut plain: Stream<'_>, most: u64) -> io::Result<Content<'_>> {
    let mut header = read_header(&mut plain)?;
    while let Some((tag::MARKER, Length::Definite(octets @ 0..=MARKER))) = header {
        // What it holds says nothing (RFC 9580, section 5.8).
        plain.read_exact(&mut [0; MARKER as usize][..octets as usize])?;
        header = read_header(&mut plain)?;
    }
    match header {
        Some((tag::COMPRESSED, length)) => {
            let mut body = Body::padded(plain, length);
            let mut algorithm = [0];
            body.read_exact(&mut algorithm)?;
            // RFC 9580, section 9.4.
            let mut inside: Stream<'_> = match algorithm {
                [0] => Box::new(body),
                [1] => Box::new(Bounded { inner: Inflater::new(body, false), most, left: most }),
                [2] => Box::new(Bounded { inner: Inflater::new(body, true), most, left: most }),
                _ => return Ok(Content::Other(body.into_inner())),
            };
            match read_header(&mut inside)? {
                Some((tag::LITERAL, length)) => literal(Body::new(inside, length)),
                _ => Ok(Content::Other(inside)),
            }
        }
        Some((tag::LITERAL, length)) => literal(Body::padded(plain, length)),
        _ => Ok(Content::Other(plain)),
    }
}

fn literal(mut body: Body<Stream<'_>>) -> io::Result<Content<'_>> {
    let mut start = [0; 2];
    body.read_exact(&mut start)?;
    let mut name = vec![0; start[1].into()];
    body.read_exact(&mut name)?;
    let mut date = [0; 4];
    body.read_exact(&mut date)?;
    Ok(Content::Literal { name, data: body })
}

/// Tells that there are more octets than allowed.
#[derive(Debug, thiserror::Error)]
#[error("the message becomes longer than {0} bytes")]
pub struct Expands(pub u64);

/// Gives at most so many octets.
struct Bounded<R> {
    inner: R,
    most: u64,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let expands = || io::Error::new(io::ErrorKind::FileTooLarge, Expands(self.most));
        self.left = self.left.checked_sub(count as u64).ok_or_else(expands)?;
        Ok(count)
    }
}

/// Decompresses what is read, and demands that the compressed data is whole.
struct Inflater<R> {
    inner: BufReader<R>,
    inflate: Inflate,
    ended: bool,
}

impl<R: Read> Inflater<R> {
    /// `zlib` says whether there is a header and a checksum (RFC 1950) round it.
    fn new(inner: R, zlib: bool) -> Self {
        let inner = BufReader::with_capacity(INFLATED_SIZE, inner);
        Self { inner, inflate: Inflate::new(zlib, WINDOW_BITS), ended: false }
    }
}

impl<R: Read> Read for Inflater<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while !self.ended {
            let input = self.inner.fill_buf()?;
            let at_end = input.is_empty();
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, buffer, InflateFlush::NoFlush)
                .map_err(|_| broken("the compressed data is broken"))?;
            // Both are at most as long as the slices.
            let taken = (self.inflate.total_in() - before_in) as usize;
            let given = (self.inflate.total_out() - before_out) as usize;
            self.inner.consume(taken);
            self.ended = status == Status::StreamEnd;
            if given > 0 {
                return Ok(given);
            }
            if at_end && !self.ended {
                return Err(broken("the compressed data is cut off"));
            }
        }
        demand_end(&mut self.inner, "something follows the compressed data")?;
        Ok(0)
    }
}
