//! ASCII armor of one message (RFC 9580, section 6.2), at the speed of a SIMD base64 encoder.

use std::io::{self, Write};

use base64_simd::{Out, STANDARD};

/// Octets in a line of 64 characters.
const LINE: usize = 48;

/// Octets that are encoded at once: as many as come from one partial body, and a little more.
const ENCODED_SIZE: usize = 384 * LINE;

/// Writes an armored `PGP MESSAGE`; [`Armor::finish`] must be called to end it.
#[derive(Debug)]
pub struct Armor<W> {
    inner: W,
    ending: &'static str,
    pending: Vec<u8>,
    characters: Vec<u8>,
    lines: Vec<u8>,
    crc: Option<crc_fast::Digest>,
}

impl<W: Write> Armor<W> {
    /// Begins an armor on `inner`, whose lines end with `ending`.
    ///
    /// `checksum` writes the CRC-24: gpg reports a failure on SEIPDv1 messages without one, and RFC 9580 forbids it
    /// with SEIPDv2 (section 6.1).
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn new(mut inner: W, ending: &'static str, checksum: bool) -> io::Result<Self> {
        write!(inner, "-----BEGIN PGP MESSAGE-----{ending}{ending}")?;
        Ok(Self {
            inner,
            ending,
            pending: Vec::with_capacity(LINE),
            characters: vec![0; ENCODED_SIZE / 3 * 4],
            lines: Vec::with_capacity(ENCODED_SIZE / LINE * (LINE / 3 * 4 + 2)),
            crc: checksum.then(|| crc_fast::Digest::new_with_params(crc24())),
        })
    }

    /// Writes what is left, the checksum and the last line, and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(mut self) -> io::Result<W> {
        let pending = std::mem::take(&mut self.pending);
        self.encode(&pending)?;
        if let Some(crc) = &self.crc {
            // The upper 24 of 32 bits.
            let sum = (crc.finalize() as u32).to_be_bytes();
            write!(self.inner, "={}{}", STANDARD.encode_to_string(&sum[..3]), self.ending)?;
        }
        write!(self.inner, "-----END PGP MESSAGE-----{}", self.ending)?;
        Ok(self.inner)
    }

    /// Writes `octets` as lines; all but the last call give whole lines.
    fn encode(&mut self, octets: &[u8]) -> io::Result<()> {
        if let Some(crc) = &mut self.crc {
            crc.update(octets);
        }
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

impl<W: Write> Write for Armor<W> {
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

    /// Does nothing: a line of an armor cannot be shorter than it is.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// CRC-24 (RFC 9580, section 6.1) as the upper 24 bits of a 32-bit CRC.
fn crc24() -> crc_fast::CrcParams {
    crc_fast::CrcParams::new("CRC-24/OPENPGP", 32, 0x864c_fb00, 0xb704_ce00, false, 0, 0x21cf_0200)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use sequoia_openpgp::armor::{Kind, Reader, ReaderMode};

    use super::*;

    fn armored(data: &[u8], piece: usize, ending: &'static str, checksum: bool) -> Vec<u8> {
        let mut armor = Armor::new(Vec::new(), ending, checksum).unwrap();
        data.chunks(piece).for_each(|part| armor.write_all(part).unwrap());
        armor.finish().unwrap()
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        let mut crc = crc_fast::Digest::new_with_params(crc24());
        crc.update(b"123456789");
        assert_eq!(crc.finalize() >> 8, 0x21_cf02);
    }

    #[test]
    fn sequoia_writes_and_reads_the_same() {
        for size in [
            0,
            1,
            2,
            3,
            47,
            48,
            49,
            96,
            ENCODED_SIZE - 1,
            ENCODED_SIZE,
            ENCODED_SIZE + 1,
            2 * ENCODED_SIZE,
            3 * ENCODED_SIZE + 5,
        ] {
            let data: Vec<u8> = (0..size).map(|i| (i * i % 253) as u8).collect();
            let mut stock = sequoia_openpgp::armor::Writer::new(Vec::new(), Kind::Message).unwrap();
            stock.write_all(&data).unwrap();
            let stock = stock.finalize().unwrap();
            for piece in [1, 48, 1000, usize::MAX] {
                let ours = armored(&data, piece.min(size.max(1)), "\n", true);
                if size > 0 {
                    assert_eq!(
                        String::from_utf8_lossy(&ours),
                        String::from_utf8_lossy(&stock),
                        "{size}, {piece}"
                    );
                }
                let mut read = Vec::new();
                let mode = ReaderMode::Tolerant(Some(Kind::Message));
                let crlf = armored(&data, piece.min(size.max(1)), "\r\n", false);
                Reader::from_bytes(&crlf, mode).read_to_end(&mut read).unwrap();
                assert_eq!(read, data, "{size}, {piece}");
            }
        }
    }
}
