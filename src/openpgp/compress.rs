//! The compressed data packet (RFC 9580, section 5.6), with ZIP or ZLIB.

use std::io::{self, Write};

use flate2::write::{DeflateEncoder, ZlibEncoder};
use sequoia_openpgp::types::CompressionAlgorithm;

use super::framing::{Packet, Tag};

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
pub enum Compressor<W: Write> {
    /// Raw DEFLATE (RFC 1951).
    Zip(DeflateEncoder<Packet<W>>),
    /// With ZLIB's header and checksum (RFC 1950).
    Zlib(ZlibEncoder<Packet<W>>),
}

impl<W: Write> Compressor<W> {
    /// Begins a compressed data packet on `inner`.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn new(inner: W, algorithm: CompressionAlgorithm, compression: Compression) -> io::Result<Self> {
        let level = match compression {
            Compression::Zlib(level) => flate2::Compression::new(level.into()),
            Compression::Auto | Compression::None => flate2::Compression::new(6),
        };
        let mut packet = Packet::new(inner, Tag::Compressed)?;
        packet.write_all(&[algorithm.into()])?;
        Ok(match algorithm {
            CompressionAlgorithm::Zlib => Self::Zlib(ZlibEncoder::new(packet, level)),
            _ => Self::Zip(DeflateEncoder::new(packet, level)),
        })
    }

    /// Ends the packet and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Zip(encoder) => encoder.finish(),
            Self::Zlib(encoder) => encoder.finish(),
        }?
        .finish()
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Zip(encoder) => encoder.write(data),
            Self::Zlib(encoder) => encoder.write(data),
        }
    }

    /// Does nothing: what is not compressed yet cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
