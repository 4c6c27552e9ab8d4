//! Writes one armored OpenPGP message: the packet format over well-kept primitives.
//!
//! ```text
//! armor ─ session key packets, one a key
//!       └ SEIPDv1 (ours, fast) or SEIPDv2 (sequoia's)
//!          └ compressed data, where the recipients read it
//!             └ literal data, with the restore record as its name
//! ```
//!
//! Where the content is filled up to a class of sizes, [`padding`] says with what.
//!
//! Of a long message, armor, encryption and what is inside work at the same time (`relay`).
//!
//! Session keys, public-key encryption and random octets are sequoia's. Nothing here reads OpenPGP; the tests do, with
//! sequoia, gpg and a third implementation.

mod alike;
pub mod armor;
pub mod compress;
mod framing;
pub mod header;
mod literal;
pub mod padding;
pub(crate) mod relay;
mod seipd1;

use std::io::{self, Write};

use sequoia_openpgp::serialize::Serialize as _;
use sequoia_openpgp::serialize::stream::{Encryptor, Message};
use sequoia_openpgp::types::{AEADAlgorithm, CompressionAlgorithm};

pub use self::alike::is_alike;

use self::armor::Armor;
use self::compress::{Compression, Compressor};
use self::padding::{Material, Padding};
use self::relay::stage;
use self::seipd1::Seipd1;
use crate::error::Error;
use crate::recipients::openpgp::{CIPHER, Container, Session};

/// How one OpenPGP message is written.
#[derive(Clone, Copy, Debug)]
pub struct Encryption<'a> {
    /// The session key, and the packets that carry it.
    pub session: &'a Session,
    /// How the data is compressed.
    pub compression: Compression,
    /// What the content of the encrypted packet is filled up to.
    pub padding: Padding,
    /// What the literal packet calls it, at most 255 bytes.
    pub name: &'a [u8],
    /// How the lines of the armor end.
    pub ending: &'static str,
    /// Compressing, encrypting and armoring work at the same time where this says how many bytes they pass on at once.
    pub pieces: Option<usize>,
}

impl Encryption<'_> {
    /// Writes an armored message with what `write_data` writes to `out`, and gives `out` back, and the length of the encrypted
    /// packet's content where it was filled up.
    ///
    /// # Errors
    /// [`Error::Write`] when `out` fails, [`Error::OpenPgp`] when sequoia does, and those of
    /// `write_data`.
    pub fn write<W: Write + Send + Sync>(
        &self,
        out: W,
        write_data: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<(W, Option<u64>), Error> {
        let Session { container, packets, .. } = self.session;
        let mut armor =
            Armor::new(out, self.ending, *container == Container::Seipd1).map_err(Error::Write)?;
        for packet in packets {
            packet.serialize(&mut armor).map_err(sequoia_error)?;
        }
        // Handing over what is only read costs more than it gains.
        let busy = self.pieces.filter(|_| self.algorithm() != CompressionAlgorithm::Uncompressed);
        let mut class = None;
        let content = |out: &mut dyn Write| self.write_content(out, write_data).map(|length| class = length);
        let armor = stage(armor, self.pieces, |out| encrypted(out, self.session, busy, content).map(drop))?;
        armor.finish().map(|out| (out, class)).map_err(Error::Write)
    }

    fn algorithm(&self) -> CompressionAlgorithm {
        algorithm(self.padding, self.session, self.compression)
    }

    /// Writes what goes into the encrypted packet: how long it is, where it is filled up.
    fn write_content(
        &self,
        out: &mut dyn Write,
        write_data: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<Option<u64>, Error> {
        let compressed = self.algorithm() != CompressionAlgorithm::Uncompressed;
        match (self.padding, self.session.container) {
            (Padding::None, _) => self.write_packet(out, Padding::None, write_data),
            (padding, Container::Seipd1) if compressed => self.write_packet(out, padding, write_data),
            (padding, Container::Seipd1) => {
                // Whoever encrypts has seen to it that it is not long.
                let mut literal = Vec::new();
                self.write_literal(&mut literal, write_data)?;
                let filling = padding.filling(Material::Markers, |octets| octets + literal.len() as u64);
                Material::Markers.write(filling.octets, out).map_err(Error::Write)?;
                out.write_all(&literal).map_err(Error::Write)?;
                Ok(Some(filling.class))
            }
            (padding, Container::Seipd2) => {
                let mut out = Counted { inner: out, total: 0 };
                self.write_packet(&mut out, Padding::None, write_data)?;
                let filling = padding.filling(Material::Packet, |octets| octets + out.total);
                Material::Packet.write(filling.octets, &mut out).map_err(Error::Write)?;
                Ok(Some(filling.class))
            }
        }
    }

    /// Writes the packet that holds the data, compressed or not, and filled up only where it is compressed.
    fn write_packet(
        &self,
        out: &mut dyn Write,
        padding: Padding,
        write_data: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<Option<u64>, Error> {
        let algorithm = self.algorithm();
        if algorithm == CompressionAlgorithm::Uncompressed {
            return self.write_literal(out, write_data).map(|()| None);
        }
        let mut compressor = Compressor::new(out, algorithm, self.compression).map_err(Error::Write)?;
        self.write_literal(&mut compressor, write_data)?;
        compressor.finish(padding).map(|(_, class)| class).map_err(Error::Write)
    }

    fn write_literal(
        &self,
        out: &mut dyn Write,
        write_data: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut packet = literal::literal(out, self.name).map_err(Error::Write)?;
        write_data(&mut packet)?;
        packet.finish().map_err(Error::Write)?;
        Ok(())
    }
}

/// Writes an encrypted packet to `out` with what `write_content` writes, and gives `out` back.
fn encrypted<W: Write + Send + Sync>(
    out: W,
    session: &Session,
    pieces: Option<usize>,
    write_content: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<W, Error> {
    let Session { container, key, .. } = session;
    match container {
        Container::Seipd1 => {
            let seipd = Seipd1::new(out, key).map_err(Error::Write)?;
            let seipd = stage(seipd, pieces, |out| write_content(out))?;
            seipd.finish().map_err(Error::Write)
        }
        Container::Seipd2 => {
            let mut out = out;
            let seipd = Encryptor::with_session_key(Message::new(&mut out), CIPHER, key.clone())
                .and_then(|encryptor| encryptor.aead_algo(AEADAlgorithm::default()).build())
                .map_err(sequoia_error)?;
            let seipd = stage(seipd, pieces, |out| write_content(out))?;
            seipd.finalize().map_err(sequoia_error)?;
            Ok(out)
        }
    }
}

fn algorithm(padding: Padding, session: &Session, compression: Compression) -> CompressionAlgorithm {
    let padded = padding != Padding::None && session.container == Container::Seipd1;
    compression.algorithm(&session.compression, padded)
}

impl Padding {
    /// Whether what fills a message of this `session` up stands before it, so that its length must be known.
    #[must_use]
    pub fn needs_length(self, session: &Session, compression: Compression) -> bool {
        self != Self::None
            && session.container == Container::Seipd1
            && algorithm(self, session, compression) == CompressionAlgorithm::Uncompressed
    }
}

/// Counts what is written.
struct Counted<'a> {
    inner: &'a mut dyn Write,
    total: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(data)?;
        self.total += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An error of sequoia's writers: of the writer below them, where that is its cause.
fn sequoia_error(error: sequoia_openpgp::anyhow::Error) -> Error {
    match error.downcast::<io::Error>() {
        Ok(error) => Error::Write(error),
        Err(error) => Error::OpenPgp(error),
    }
}
