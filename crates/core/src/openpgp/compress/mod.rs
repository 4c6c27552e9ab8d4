//! The compressed data packet (RFC 9580, section 5.6), with ZIP or ZLIB.

mod base64_block;
mod windows;

use std::io::{self, Write};

use sequoia_openpgp::types::CompressionAlgorithm;
use serde::{Deserialize, Serialize};
use zlib_rs::adler32::adler32;

use self::windows::Windows;
use super::framing::Packet;
use super::header::tag;
use super::padding::{Material, Padding};

/// What a ZLIB stream with the usual window begins with (RFC 1950, section 2.2).
const ZLIB_HEADER: [u8; 2] = [0x78, 0x9c];

/// An empty last block with the fixed code (RFC 1951, section 3.2.6), from a border of octets on.
const LAST_BLOCK: [u8; 2] = [0b011, 0];

/// How a message is compressed before it is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// As small as gpg makes it, with the effort where it pays.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// The ordinary way, with zlib's level 1 to 9.
    Zlib(u8),
}

impl Compression {
    /// The algorithm to use for recipients who all read `readable`. Where there is to be something in it `anyway`, data that is
    /// not compressed goes into a compressed packet as well, as it is.
    pub(super) fn algorithm(self, readable: &[CompressionAlgorithm], anyway: bool) -> CompressionAlgorithm {
        let mut wanted = [CompressionAlgorithm::Zip, CompressionAlgorithm::Zlib].into_iter();
        match self {
            Self::None if !anyway => None,
            _ => wanted.find(|algorithm| readable.contains(algorithm)),
        }
        .unwrap_or(CompressionAlgorithm::Uncompressed)
    }
}

impl std::str::FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            "zlib" => "6",
            _ => text.strip_prefix("zlib:").unwrap_or_default(),
        };
        match level.parse() {
            Ok(level @ 1..=9) => Ok(Self::Zlib(level)),
            _ => Err("expected auto, none, zlib or zlib:1 to zlib:9".into()),
        }
    }
}

/// Compresses what is written; [`Compressor::finish`] must be called to end it.
pub struct Compressor<W> {
    deflate: Windows<Packet<W>>,
    /// The checksum of what was written, for ZLIB.
    adler: Option<u32>,
}

impl<W: Write> Compressor<W> {
    /// Begins a compressed data packet on `inner`.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn new(inner: W, algorithm: CompressionAlgorithm, compression: Compression) -> io::Result<Self> {
        let mut packet = Packet::new(inner, tag::COMPRESSED)?;
        packet.write_all(&[algorithm.into()])?;
        let zlib = algorithm == CompressionAlgorithm::Zlib;
        if zlib {
            packet.write_all(&ZLIB_HEADER)?;
        }
        let deflate = match compression {
            Compression::Zlib(level) => Windows::of_zlib(packet, level.into()),
            Compression::Auto => Windows::new(packet),
            Compression::None => Windows::of_zlib(packet, 0),
        };
        Ok(Self { deflate, adler: zlib.then_some(1) })
    }

    /// Ends the packet, filled up as `padding` says, and gives the writer below back, and how long the packet is where it is
    /// filled up.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(self, padding: Padding) -> io::Result<(W, Option<u64>)> {
        let checksum = self.adler.map(u32::to_be_bytes);
        let checksum = checksum.as_ref().map_or(&[][..], |adler| &adler[..]);
        let (mut packet, class) = if padding == Padding::None {
            (self.deflate.finish()?, None)
        } else {
            let mut packet = self.deflate.finish_open()?;
            let end = (LAST_BLOCK.len() + checksum.len()) as u64;
            let filling = padding.filling(Material::Blocks, |octets| packet.length_with(octets + end));
            Material::Blocks.write(filling.octets, &mut packet)?;
            packet.write_all(&LAST_BLOCK)?;
            (packet, Some(filling.class))
        };
        packet.write_all(checksum)?;
        Ok((packet.finish()?, class))
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.deflate.write(data)?;
        if let Some(adler) = &mut self.adler {
            *adler = adler32(*adler, &data[..count]);
        }
        Ok(count)
    }

    /// Does nothing: what is not compressed yet cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Numbers without a pattern (xorshift).
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn base64(data: &[u8]) -> Vec<u8> {
        let lines = data.chunks(57).map(|line| base64_simd::STANDARD.encode_to_string(line) + "\r\n");
        lines.collect::<String>().into_bytes()
    }

    fn compressed(data: &[u8], piece: usize, algorithm: CompressionAlgorithm, how: Compression) -> Vec<u8> {
        let mut compressor = Compressor::new(Vec::new(), algorithm, how).unwrap();
        data.chunks(piece).for_each(|part| compressor.write_all(part).unwrap());
        compressor.finish(Padding::None).unwrap().0
    }

    /// The body of a packet in its partial lengths.
    fn unframe(packet: &[u8]) -> Vec<u8> {
        let (mut rest, mut body) = (&packet[1..], Vec::new());
        loop {
            let (length, header, last) = match rest[0] {
                short @ 0..192 => (usize::from(short), 1, true),
                first @ 192..224 => (((usize::from(first) - 192) << 8) + usize::from(rest[1]) + 192, 2, true),
                255 => (u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize, 5, true),
                partial => (1 << (partial & 31), 1, false),
            };
            body.extend(&rest[header..header + length]);
            rest = &rest[header + length..];
            if last {
                assert!(rest.is_empty());
                return body;
            }
        }
    }

    #[test]
    fn two_readers_get_every_text_back() {
        let text = b"It was the best of times, it was the worst of times. ".repeat(2000);
        let attachment = base64(&noise(100_000));
        let repeated = base64(&noise(3000).repeat(20));
        let mixed = [&text[..5000], &attachment[..], &text, &attachment[..50_000], b"end"].concat();
        for data in [&b""[..], b"x", &text, &attachment, &repeated, &mixed, &noise(50_000)] {
            for how in [Compression::Auto, Compression::Zlib(1), Compression::Zlib(9)] {
                for piece in [1, 1000, 16 * 1024, usize::MAX] {
                    let piece = piece.min(data.len().max(1));
                    let zip = unframe(&compressed(data, piece, CompressionAlgorithm::Zip, how));
                    let zlib = unframe(&compressed(data, piece, CompressionAlgorithm::Zlib, how));
                    assert_eq!((zip[0], zlib[0]), (1, 2));
                    let mut found = Vec::new();
                    flate2::read::DeflateDecoder::new(&zip[1..]).read_to_end(&mut found).unwrap();
                    assert!(found == data, "miniz_oxide, {} bytes in pieces of {piece}, {how:?}", data.len());
                    let mut room = vec![0; data.len() + 1];
                    let mut inflate = zlib_rs::Inflate::new(true, 15);
                    let status =
                        inflate.decompress(&zlib[1..], &mut room, zlib_rs::InflateFlush::Finish).unwrap();
                    assert_eq!(status, zlib_rs::Status::StreamEnd);
                    assert!(
                        room[..data.len()] == *data,
                        "zlib-rs, {} bytes in pieces of {piece}",
                        data.len()
                    );
                    assert_eq!(inflate.total_in(), zlib.len() as u64 - 1);
                }
            }
        }
    }

    #[test]
    fn the_third_that_base64_adds_is_won_back_and_repetitions_are_found() {
        let length =
            |data: &[u8]| compressed(data, usize::MAX, CompressionAlgorithm::Zip, Compression::Auto).len();
        let attachment = base64(&noise(1_000_000));
        assert!(length(&attachment) * 100 < attachment.len() * 76, "{}", length(&attachment));
        let repeated = base64(&noise(5700).repeat(100));
        assert!(length(&repeated) * 10 < repeated.len(), "{}", length(&repeated));
        let plain = base64(&b"A log line that says the same again and again, and 42.\n".repeat(10_000));
        assert!(length(&plain) * 10 < plain.len(), "{}", length(&plain));
    }

    #[test]
    fn the_algorithm_is_one_that_all_can_read() {
        use CompressionAlgorithm::{BZip2, Uncompressed, Zip, Zlib};
        let cases: [(Compression, &[CompressionAlgorithm], bool, CompressionAlgorithm); 8] = [
            (Compression::Auto, &[Zip, Zlib], false, Zip),
            (Compression::Zlib(9), &[Zlib, BZip2], false, Zlib),
            (Compression::Auto, &[BZip2], false, Uncompressed),
            (Compression::Auto, &[], true, Uncompressed),
            (Compression::None, &[Zip], false, Uncompressed),
            (Compression::None, &[Zlib], true, Zlib),
            (Compression::None, &[BZip2], true, Uncompressed),
            (Compression::Zlib(1), &[Zip], true, Zip),
        ];
        for (compression, readable, anyway, expected) in cases {
            assert_eq!(compression.algorithm(readable, anyway), expected, "{compression:?} {readable:?}");
        }
    }

    #[test]
    fn names_are_read() {
        let cases = [
            ("auto", Ok(Compression::Auto)),
            ("none", Ok(Compression::None)),
            ("zlib", Ok(Compression::Zlib(6))),
            ("zlib:9", Ok(Compression::Zlib(9))),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), expected);
        }
        for text in ["", "zip", "zlib:", "zlib:0", "zlib:10", "AUTO"] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }
}
