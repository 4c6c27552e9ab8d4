//! One OpenPGP packet of unknown length: header and partial body lengths (RFC 9580, sections 4.2.1.4 and 4.2.2).

use std::io::{self, Write};

/// Size of a partial body, as a power of two: small enough to stay in the first-level caches together with what the
/// layers round it hold.
const PARTIAL_BITS: u32 = 14;

/// Bytes of a partial body.
pub const PARTIAL: usize = 1 << PARTIAL_BITS;

/// Writes the body of a packet; [`Packet::finish`] must be called to end it.
#[derive(Debug)]
pub struct Packet<W> {
    inner: W,
    body: Vec<u8>,
    /// Octets of the packet that have gone out already, in whole partial bodies.
    out: u64,
}

impl<W: Write> Packet<W> {
    /// Begins a packet of the type `tag`, one of [`super::header::tag`], on `inner`.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn new(mut inner: W, tag: u8) -> io::Result<Self> {
        inner.write_all(&[0xc0 | tag])?;
        Ok(Self { inner, body: Vec::new(), out: 1 })
    }

    /// How many octets the whole packet has if `more` octets of body are written and it ends then.
    #[must_use]
    pub fn length_with(&self, more: u64) -> u64 {
        let body = self.body.len() as u64 + more;
        // The last part is never empty.
        let partial = body.saturating_sub(1) / PARTIAL as u64;
        let length = match body - partial * PARTIAL as u64 {
            0..192 => 1,
            192..8384 => 2,
            _ => 5,
        };
        self.out + partial + length + body
    }

    /// Writes the last length and what is left, and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(mut self) -> io::Result<W> {
        match self.body.len() {
            short @ 0..192 => self.inner.write_all(&[short as u8])?,
            medium @ 192..8384 => {
                let rest = medium - 192;
                self.inner.write_all(&[(rest >> 8) as u8 + 192, rest as u8])?;
            }
            long => {
                self.inner.write_all(&[255])?;
                // At most PARTIAL.
                self.inner.write_all(&(long as u32).to_be_bytes())?;
            }
        }
        self.inner.write_all(&self.body)?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for Packet<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // A full body waits for the next octet: the last one must not be partial, and may be empty only if all is.
        let missing = PARTIAL - self.body.len();
        if data.len() <= missing {
            self.body.extend_from_slice(data);
            return Ok(data.len());
        }
        self.out += 1 + PARTIAL as u64;
        self.inner.write_all(&[0xe0 | PARTIAL_BITS as u8])?;
        self.inner.write_all(&self.body)?;
        self.inner.write_all(&data[..missing])?;
        self.body.clear();
        if missing > 0 {
            return Ok(missing);
        }
        let count = data.len().min(PARTIAL);
        self.body.extend_from_slice(&data[..count]);
        Ok(count)
    }

    /// Does nothing: a partial body cannot be shorter than it is.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sequoia_openpgp::parse::Parse as _;
    use sequoia_openpgp::{Packet as Parsed, PacketPile};

    use super::*;
    use crate::openpgp::header::tag;

    #[test]
    fn sequoia_reads_every_length_back() {
        let sizes =
            [0, 1, 5, 191, 192, 193, 8383, 8384, PARTIAL - 1, PARTIAL, PARTIAL + 1, 3 * PARTIAL, 50_000];
        for size in sizes {
            for piece in [1, 777, PARTIAL, usize::MAX] {
                let data: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
                let mut packet = Packet::new(Vec::new(), tag::LITERAL).unwrap();
                packet.write_all(b"b\0\0\0\0\0").unwrap();
                let foretold = packet.length_with(size as u64);
                data.chunks(piece.min(size.max(1))).for_each(|part| packet.write_all(part).unwrap());
                assert_eq!(packet.length_with(0), foretold);
                let bytes = packet.finish().unwrap();
                assert_eq!(bytes.len() as u64, foretold);
                let pile = PacketPile::from_bytes(&bytes).unwrap();
                let [Parsed::Literal(literal)] = &pile.children().collect::<Vec<_>>()[..] else {
                    panic!("{size}: {pile:?}")
                };
                assert_eq!(literal.body(), data, "{size} in pieces of {piece}");
            }
        }
    }
}
