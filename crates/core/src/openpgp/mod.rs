//! Writes one armored OpenPGP message: the packet format over well-kept primitives.
//!
//! ```text
//! armor ─ session key packets, one a key
//!       └ SEIPDv1 (ours, fast) or SEIPDv2 (sequoia's)
//!          └ compressed data, where the recipients read it
//!             └ literal data, with the restore record as its name
//! ```
//!
//! Of a long message, armor, encryption and what is inside work at the same time (`relay`).
//!
//! Session keys, public-key encryption and random octets are sequoia's. Nothing here reads OpenPGP; the tests do, with
//! sequoia, gpg and a third implementation.

mod armor;
pub mod compress;
mod framing;
pub mod header;
mod literal;
mod relay;
mod seipd1;

use std::io::{self, Write};

use sequoia_openpgp::serialize::Serialize as _;
use sequoia_openpgp::serialize::stream::{Encryptor, Message};
use sequoia_openpgp::types::{AEADAlgorithm, CompressionAlgorithm};

use self::armor::Armor;
use self::compress::{Compression, Compressor};
use self::relay::stage;
use self::seipd1::Seipd1;
use crate::error::Error;
use crate::recipients::{CIPHER, Format, Session};

/// How one OpenPGP message is written.
#[derive(Clone, Copy, Debug)]
pub struct Encryption<'a> {
    /// The session key, and the packets that carry it.
    pub session: &'a Session,
    /// How the data is compressed.
    pub compression: Compression,
    /// What the literal packet calls it, at most 255 bytes.
    pub name: &'a [u8],
    /// How the lines of the armor end.
    pub ending: &'static str,
    /// Compressing, encrypting and armoring work at the same time where this says how many bytes they pass on at once.
    pub pieces: Option<usize>,
}

impl Encryption<'_> {
    /// Writes an armored message with what `write_data` writes to `out`, and gives `out` back.
    ///
    /// # Errors
    /// [`Error::Write`] when `out` fails, [`Error::OpenPgp`] when sequoia does, and those of `write_data`.
    pub fn write<W: Write + Send + Sync>(
        &self,
        out: W,
        write_data: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<W, Error> {
        let Session { format, key, packets, .. } = self.session;
        let mut armor = Armor::new(out, self.ending, *format == Format::Seipd1).map_err(Error::Write)?;
        for packet in packets {
            packet.serialize(&mut armor).map_err(sequoia_error)?;
        }
        // Handing over what is only read costs more than it gains.
        let busy = self.pieces.filter(|_| self.algorithm() != CompressionAlgorithm::Uncompressed);
        let armor = stage(armor, self.pieces, |out| match format {
            Format::Seipd1 => {
                let seipd = Seipd1::new(out, key).map_err(Error::Write)?;
                let seipd = stage(seipd, busy, |out| self.write_packets(out, write_data))?;
                seipd.finish().map(drop).map_err(Error::Write)
            }
            Format::Seipd2 => {
                let seipd = Encryptor::with_session_key(Message::new(out), CIPHER, key.clone())
                    .and_then(|encryptor| encryptor.aead_algo(AEADAlgorithm::default()).build())
                    .map_err(sequoia_error)?;
                let seipd = stage(seipd, busy, |out| self.write_packets(out, write_data))?;
                seipd.finalize().map_err(sequoia_error)
            }
        })?;
        armor.finish().map_err(Error::Write)
    }

    fn algorithm(&self) -> CompressionAlgorithm {
        self.compression.algorithm(&self.session.compression)
    }

    /// Writes what goes into the encrypted packet.
    fn write_packets(
        &self,
        out: &mut dyn Write,
        write_data: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let algorithm = self.algorithm();
        if algorithm == CompressionAlgorithm::Uncompressed {
            return self.write_literal(out, write_data);
        }
        let mut compressor = Compressor::new(out, algorithm, self.compression).map_err(Error::Write)?;
        self.write_literal(&mut compressor, write_data)?;
        compressor.finish().map_err(Error::Write)?;
        Ok(())
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

/// An error of sequoia's writers: of the writer below them, where that is its cause.
fn sequoia_error(error: sequoia_openpgp::anyhow::Error) -> Error {
    match error.downcast::<io::Error>() {
        Ok(error) => Error::Write(error),
        Err(error) => Error::OpenPgp(error),
    }
}
