//! The compressed data packet (RFC 9580, section 5.6), with ZIP or ZLIB.

mod base64_block;
mod windows;

use std::io::{self, Write};

use flate2::write::DeflateEncoder;
use sequoia_openpgp::types::CompressionAlgorithm;
use zlib_rs::adler32::adler32;

use self::windows::Windows;
use super::framing::{Packet, Tag};

/// What a ZLIB stream with the usual window begins with (RFC 1950, section 2.2).
const ZLIB_HEADER: [u8; 2] = [0x78, 0x9c];

/// How a message is compressed before it is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// The algorithm to use for recipients who all read `readable`.
    pub(super) fn algorithm(self, readable: &[CompressionAlgorithm]) -> CompressionAlgorithm {
        let mut wanted = [CompressionAlgorithm::Zip, CompressionAlgorithm::Zlib].into_iter();
        match self {
            Self::None => None,
            Self::Auto | Self::Zlib(_) => wanted.find(|algorithm| readable.contains(algorithm)),
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
            _ => Err(format!("compression {text:?} is none of auto, none, zlib, zlib:1 to zlib:9")),
        }
    }
}

/// Compresses what is written; [`Compressor::finish`] must be called to end it.
pub struct Compressor<W: Write> {
    deflate: Deflate<Packet<W>>,
    /// The checksum of what was written, for ZLIB.
    adler: Option<u32>,
}

enum Deflate<W: Write> {
    Windows(Windows<W>),
    Plain(DeflateEncoder<W>),
}

impl<W: Write> Compressor<W> {
    /// Begins a compressed data packet on `inner`.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn new(inner: W, algorithm: CompressionAlgorithm, compression: Compression) -> io::Result<Self> {
        let mut packet = Packet::new(inner, Tag::Compressed)?;
        packet.write_all(&[algorithm.into()])?;
        let zlib = algorithm == CompressionAlgorithm::Zlib;
        if zlib {
            packet.write_all(&ZLIB_HEADER)?;
        }
        let deflate = match compression {
            Compression::Zlib(level) => {
                Deflate::Plain(DeflateEncoder::new(packet, flate2::Compression::new(level.into())))
            }
            Compression::Auto | Compression::None => Deflate::Windows(Windows::new(packet)),
        };
        Ok(Self { deflate, adler: zlib.then_some(1) })
    }

    /// Ends the packet and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(self) -> io::Result<W> {
        let mut packet = match self.deflate {
            Deflate::Windows(windows) => windows.finish(),
            Deflate::Plain(encoder) => encoder.finish(),
        }?;
        if let Some(adler) = self.adler {
            packet.write_all(&adler.to_be_bytes())?;
        }
        packet.finish()
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = match &mut self.deflate {
            Deflate::Windows(windows) => windows.write(data),
            Deflate::Plain(encoder) => encoder.write(data),
        }?;
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
