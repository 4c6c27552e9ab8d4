//! ASCII armor of one message (RFC 9580, section 6.2).

use std::io::{self, Write};

use base64_simd::STANDARD;

use crate::base64::Lines;

/// Writes an armored `PGP MESSAGE`; [`Armor::finish`] must be called to end it.
#[derive(Debug)]
pub struct Armor<W> {
    lines: Lines<W>,
    ending: &'static str,
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
        let crc = checksum.then(|| crc_fast::Digest::new_with_params(crc24()));
        Ok(Self { lines: Lines::new(inner, ending), ending, crc })
    }

    /// Writes what is left, the checksum and the last line, and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(self) -> io::Result<W> {
        let mut inner = self.lines.finish()?;
        if let Some(crc) = &self.crc {
            // The upper 24 of 32 bits.
            let sum = (crc.finalize() as u32).to_be_bytes();
            write!(inner, "={}{}", STANDARD.encode_to_string(&sum[..3]), self.ending)?;
        }
        write!(inner, "-----END PGP MESSAGE-----{}", self.ending)?;
        Ok(inner)
    }
}

impl<W: Write> Write for Armor<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.lines.write(data)?;
        if let Some(crc) = &mut self.crc {
            crc.update(&data[..count]);
        }
        Ok(count)
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
    use crate::base64::ENCODED_SIZE;

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
