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

/// Writes an armored message for `session` to `out` and gives `out` back.
///
/// `write_data` writes the data, which is called `name` (at most 255 bytes) in the literal packet. The lines of the
/// armor end with `ending`. Where `pieces` says how many bytes are handed on at once, these work at the same time: compressing,
/// encrypting, armoring.
///
/// # Errors
/// [`Error::Write`] when `out` fails, [`Error::OpenPgp`] when sequoia does, and those of `write_data`.
pub fn encrypt<W: Write + Send + Sync>(
    out: W,
    ending: &'static str,
    session: &Session,
    compression: Compression,
    name: &[u8],
    pieces: Option<usize>,
    write_data: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<W, Error> {
    let checksum = session.format == Format::Seipd1;
    let mut armor = Armor::new(out, ending, checksum).map_err(Error::Write)?;
    for packet in &session.packets {
        packet.serialize(&mut armor).map_err(sequoia_error)?;
    }
    let algorithm = compression.algorithm(&session.compression);
    let data = Data { algorithm, compression, name };
    // Handing over what is only read costs more than it gains.
    let busy = pieces.filter(|_| algorithm != CompressionAlgorithm::Uncompressed);
    let armor = stage(armor, pieces, |out| match session.format {
        Format::Seipd1 => {
            let seipd = Seipd1::new(out, &session.key).map_err(Error::Write)?;
            let seipd = stage(seipd, busy, |out| data.write(out, write_data))?;
            seipd.finish().map(drop).map_err(Error::Write)
        }
        Format::Seipd2 => {
            let seipd = Encryptor::with_session_key(Message::new(out), CIPHER, session.key.clone())
                .and_then(|encryptor| encryptor.aead_algo(AEADAlgorithm::default()).build())
                .map_err(sequoia_error)?;
            let seipd = stage(seipd, busy, |out| data.write(out, write_data))?;
            seipd.finalize().map_err(sequoia_error)
        }
    })?;
    armor.finish().map_err(Error::Write)
}

/// What goes into the encrypted packet.
struct Data<'a> {
    algorithm: CompressionAlgorithm,
    compression: Compression,
    name: &'a [u8],
}

impl Data<'_> {
    fn write(
        &self,
        out: &mut dyn Write,
        write_data: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.algorithm == CompressionAlgorithm::Uncompressed {
            return self.write_literal(out, write_data);
        }
        let mut compressor = Compressor::new(out, self.algorithm, self.compression).map_err(Error::Write)?;
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
