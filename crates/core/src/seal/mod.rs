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
use crate::openpgp::compress::Compression;
use crate::openpgp::encrypt;
use crate::protect::Protection;
use crate::recipients::Session;

/// Bytes that the threads which work on a long message hand on at once. Each time one is woken, which takes as long as
/// encrypting some kilobytes: with pieces of 32 KiB a message of 28 MB takes a tenth longer.
const HANDED_ON: usize = 128 * 1024;

/// The same beside a header of more than [`LONG_HEADER`]: what is held is bounded together.
const HANDED_ON_BESIDE: usize = 32 * 1024;
const LONG_HEADER: usize = 1024 * 1024;

/// Writes the sealed form of the message that begins with `opening` and goes on in `rest`, its header protected as
/// [`crate::protect::plan`] has decided for `opening`. `out` is not flushed.
///
/// # Errors
/// [`Error::Read`], [`Error::Write`] and [`Error::OpenPgp`]; what was written until then is no message.
pub fn seal<W: Write + Send + Sync>(
    opening: &Opening,
    rest: &mut impl Read,
    mut out: W,
    session: &Session,
    compression: Compression,
    protection: Option<Protection<'_>>,
) -> Result<(), Error> {
    let mut random = [0; BOUNDARY_OCTETS];
    sequoia_openpgp::crypto::random(&mut random).map_err(Error::OpenPgp)?;
    let envelope = Envelope::new(opening.head(), opening.line_ending(), protection, random);
    envelope.write_before(&mut out).map_err(Error::Write)?;
    let name = envelope.record().encode();
    let size = if opening.head().fields().len() > LONG_HEADER { HANDED_ON_BESIDE } else { HANDED_ON };
    let pieces = (!opening.is_whole()).then_some(size);
    let mut out = encrypt(out, envelope.ending(), session, compression, name.as_bytes(), pieces, |data| {
        if envelope.converts_lines() {
            write_entity(&envelope, opening, rest, &mut ToCrlf::new(data))
        } else {
            write_entity(&envelope, opening, rest, data)
        }
    })?;
    envelope.write_after(&mut out).map_err(Error::Write)
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
