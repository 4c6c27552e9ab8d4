//! Seals one message: its entity becomes one OpenPGP message inside RFC 3156's `multipart/encrypted`.
//!
//! The beginning has been read; the rest is streamed, in constant memory. What the header becomes is
//! [`envelope`]'s business, the ciphertext [`crate::openpgp`]'s.

pub mod envelope;

use std::io::{Read, Write};

use self::envelope::{BOUNDARY_OCTETS, Envelope};
use crate::error::Error;
use crate::message::lines::ToCrlf;
use crate::message::opening::{Opening, copy};
use crate::openpgp::Encryption;
use crate::openpgp::compress::Compression;
use crate::protect::{self, Plan, Policy};
use crate::recipients::{Format, Recipients, Session, Warning};

/// Bytes that the threads which work on a long message hand on at once. Each time one is woken, which takes as long as
/// encrypting some kilobytes: with pieces of 32 KiB a message of 28 MB takes a tenth longer.
const STAGE_BUFFER: usize = 128 * 1024;

/// The same beside a header of more than [`LONG_HEADER`]: what is held is bounded together.
const STAGE_BUFFER_BESIDE_LONG_HEADER: usize = 32 * 1024;
const LONG_HEADER: usize = 1024 * 1024;

/// How messages are sealed.
#[derive(Clone, Copy, Debug)]
pub struct Sealer<'a> {
    /// To whom.
    pub recipients: &'a Recipients,
    /// Which header fields are hidden inside.
    pub protect_headers: Policy,
    /// How they are compressed before they are encrypted.
    pub compression: Compression,
}

/// One message for which all is decided, and of which nothing is written yet.
#[derive(Debug)]
pub struct Sealing<'a> {
    opening: &'a Opening,
    session: Session,
    plan: Plan<'a>,
    compression: Compression,
}

/// What a message was sealed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The encryption container.
    pub format: Format,
    /// The key ids of the keys, 16 hexadecimal digits each.
    pub key_ids: Vec<String>,
    /// What to warn about, each once.
    pub warnings: Vec<Warning>,
}

impl Sealed {
    /// Whether header fields that should have been hidden stay readable outside.
    #[must_use]
    pub fn leaves_fields(&self) -> bool {
        let skipped = [Warning::HpSkipped, Warning::HpSkippedSigned];
        self.warnings.iter().any(|warning| skipped.contains(warning))
    }
}

impl Sealer<'_> {
    /// Decides how the message that begins with `opening` is sealed, and makes its session key.
    ///
    /// # Errors
    /// Those of [`Recipients::session`].
    pub fn begin<'a>(&self, opening: &'a Opening) -> Result<Sealing<'a>, Error> {
        let session = self.recipients.session()?;
        let plan = protect::plan(self.protect_headers, opening);
        Ok(Sealing { opening, session, plan, compression: self.compression })
    }

    /// Writes the sealed form of the message that begins with `opening` and goes on in `rest`. `out` is not flushed.
    ///
    /// # Errors
    /// Those of [`Sealer::begin`] and [`Sealing::write`].
    pub fn seal<W: Write + Send + Sync>(
        &self,
        opening: &Opening,
        rest: &mut impl Read,
        out: W,
    ) -> Result<Sealed, Error> {
        let sealing = self.begin(opening)?;
        let sealed = sealing.sealed();
        sealing.write(rest, out).map(|()| sealed)
    }
}

impl Sealing<'_> {
    /// What the message is sealed to.
    #[must_use]
    pub fn sealed(&self) -> Sealed {
        let Session { format, key_ids, warnings, .. } = &self.session;
        let warnings = warnings.iter().copied().chain(self.plan.warning).collect();
        Sealed { format: *format, key_ids: key_ids.clone(), warnings }
    }

    /// Writes the sealed form of the message, which goes on in `rest`. `out` is not flushed.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Write`] and [`Error::OpenPgp`]; what was written until then is no message.
    pub fn write<W: Write + Send + Sync>(self, rest: &mut impl Read, mut out: W) -> Result<(), Error> {
        let Self { opening, session, plan, compression } = self;
        let mut random = [0; BOUNDARY_OCTETS];
        sequoia_openpgp::crypto::random(&mut random).map_err(Error::OpenPgp)?;
        let envelope = Envelope::new(opening.head(), opening.line_ending(), plan.protection, random);
        envelope.write_before(&mut out).map_err(Error::Write)?;
        let record = envelope.record().encode();
        let size = if opening.head().fields().len() > LONG_HEADER {
            STAGE_BUFFER_BESIDE_LONG_HEADER
        } else {
            STAGE_BUFFER
        };
        let encryption = Encryption {
            session: &session,
            compression,
            name: record.as_bytes(),
            ending: envelope.ending(),
            pieces: (!opening.is_whole()).then_some(size),
        };
        let mut out = encryption.write(out, |data| {
            if envelope.converts_lines() {
                write_entity(&envelope, opening, rest, &mut ToCrlf::new(data))
            } else {
                write_entity(&envelope, opening, rest, data)
            }
        })?;
        envelope.write_after(&mut out).map_err(Error::Write)
    }
}

fn write_entity(
    envelope: &Envelope<'_>,
    opening: &Opening,
    rest: &mut impl Read,
    mut data: &mut dyn Write,
) -> Result<(), Error> {
    envelope.write_entity_header(&mut data).map_err(Error::Write)?;
    let (at, display) = envelope.display().unwrap_or_default();
    let (before, behind) = opening.body().split_at(at);
    for piece in [before, display, behind] {
        data.write_all(piece).map_err(Error::Write)?;
    }
    if opening.is_whole() { Ok(()) } else { copy(rest, data, Error::Read) }
}
