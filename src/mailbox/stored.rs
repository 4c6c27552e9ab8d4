//! Edge: one stored message: opened, unpacked where Dovecot has packed it, and judged by all of it whether it is encrypted
//! already. `encrypt-maildir` and `audit` ask the same question here, so they get the same answer.
//!
//! The beginning is judged first: what it refutes is refuted, and most messages are clear. What it does not refute is
//! read to its end: PGP/MIME as a stream, everything else in memory, up to [`limits::HELD`].
//!
//! Files are read with `read(2)`, again where what was read is not held. Mapping them instead was measured: of the 41 ms
//! that two passes over 45 MB in the page cache take, it saves 7, beside some 200 ms for sealing. That is not worth code
//! marked unsafe, nor the SIGBUS that ends the process when somebody truncates a mapped file, where `read` ends short and
//! the commit finds the message changed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};

use mailseal_core::classify::noise::Noise;
use mailseal_core::classify::{Encrypted, Stop, judge};
use mailseal_core::error::Error;
use mailseal_core::message::opening::Opening;
use mailseal_core::unseal::{Inspected, inspect};
use mailseal_maildir::packed::{MAGIC_BYTES, Packing};

use crate::limits;

/// A message's file, to be read more than once.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    file: &'a File,
    packing: Option<Packing>,
}

/// What a stored message was found to be.
pub struct Judged<'a> {
    /// Its beginning.
    pub opening: Opening,
    /// How it is encrypted, proven by all of it; `None` when it is to be sealed.
    pub encrypted: Option<Encrypted>,
    /// A reader that stands behind the beginning, where nothing more had to be read.
    rest: Option<Box<dyn Read + 'a>>,
}

impl fmt::Debug for Judged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judged").field("encrypted", &self.encrypted).finish_non_exhaustive()
    }
}

/// What one pass over a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It is to be sealed. The rest has not been read.
    Clear,
    /// It is encrypted.
    Encrypted(Encrypted),
    /// It takes all of the message at once to tell: [`hold`]. The rest may have been read.
    Untold,
}

impl<'a> Stored<'a> {
    /// The message in `file`.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn open(mut file: &'a File) -> Result<Self, Error> {
        let mut magic = Vec::with_capacity(MAGIC_BYTES);
        file.seek(SeekFrom::Start(0)).map_err(Error::Read)?;
        file.take(MAGIC_BYTES as u64).read_to_end(&mut magic).map_err(Error::Read)?;
        Ok(Self { file, packing: Packing::of(&magic) })
    }

    /// How it is packed.
    #[must_use]
    pub fn packing(&self) -> Option<Packing> {
        self.packing
    }

    /// Reads the message from this byte on, unpacked.
    ///
    /// # Errors
    /// Those of the file and of the decoder; [`io::ErrorKind::Unsupported`] for what only the server's key opens.
    pub fn read_from(&self, position: u64) -> io::Result<Box<dyn Read + 'a>> {
        let mut file = self.file;
        let Some(packing) = self.packing else {
            file.seek(SeekFrom::Start(position))?;
            return Ok(Box::new(file));
        };
        file.seek(SeekFrom::Start(0))?;
        let mut reader = packing.unpack(file)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, format!("it is packed ({})", packing.name()))
        })?;
        io::copy(&mut reader.by_ref().take(position), &mut io::sink())?;
        Ok(reader)
    }

    /// Judges it by all of it.
    ///
    /// # Errors
    /// [`Error::Empty`] when there is nothing, [`Error::HeaderTooLong`], [`Error::Read`].
    pub fn judge(&self) -> Result<Judged<'a>, Error> {
        let mut reader = self.read_from(0).map_err(Error::Read)?;
        let opening = Opening::read(&mut reader)?;
        let (encrypted, rest) = match judge_pass(&opening, &mut reader)? {
            Pass::Clear => (None, Some(reader)),
            Pass::Encrypted(how) => (Some(how), None),
            Pass::Untold => {
                let rest = self.read_from(opening.bytes().len() as u64).map_err(Error::Read)?;
                (hold(&opening, rest)?.1, None)
            }
        };
        Ok(Judged { opening, encrypted, rest })
    }

    /// What follows the beginning of a message that was judged.
    ///
    /// # Errors
    /// As [`Stored::read_from`].
    pub fn rest(&self, judged: &mut Judged<'a>) -> io::Result<Box<dyn Read + 'a>> {
        match judged.rest.take() {
            Some(rest) => Ok(rest),
            None => self.read_from(judged.opening.bytes().len() as u64),
        }
    }
}

/// How the message that begins with `opening` and goes on in `rest` is encrypted, as far as reading it once tells. What
/// is refuted by its beginning is not read on.
///
/// # Errors
/// [`Error::Read`].
pub fn judge_pass(opening: &Opening, rest: impl Read) -> Result<Pass, Error> {
    match judge(opening.head(), opening.body(), opening.is_whole()) {
        Err(Stop::Refuted) => Ok(Pass::Clear),
        Ok(how) if opening.is_whole() => Ok(Pass::Encrypted(how)),
        Ok(how @ (Encrypted::PgpMime | Encrypted::Smime)) => pass_through(opening, rest, how),
        Ok(_) | Err(Stop::Cut) => Ok(Pass::Untold),
    }
}

/// Reads a long message whose beginning is proven to be PGP/MIME or S/MIME to its end: one encrypted packet, as mailseal and
/// most others write it, or CMS as mailseal writes it, and its ciphertext, judged as [`judge`] does.
fn pass_through(opening: &Opening, rest: impl Read, how: Encrypted) -> Result<Pass, Error> {
    let mut noise = Noise::default();
    let read = match inspect(opening, rest) {
        Ok(Inspected::Sealed(envelope)) => envelope.prove(&mut noise),
        Ok(Inspected::Foreign(_)) => return Ok(Pass::Untold),
        Err(error) => Err(error),
    };
    match read {
        Ok(()) if noise.finish(true).is_ok() => Ok(Pass::Encrypted(how)),
        // Its parts may be encoded in a way that takes all of them at once.
        Ok(()) | Err(Error::Damaged { .. }) => Ok(Pass::Untold),
        Err(error) => Err(error),
    }
}

/// The body of the message that begins with `opening` and goes on in `rest`, up to [`limits::HELD`] bytes, and how the
/// message is encrypted, judged by all of it. One that is longer counts as clear.
///
/// # Errors
/// [`Error::Read`].
pub fn hold(opening: &Opening, rest: impl Read) -> Result<(Vec<u8>, Option<Encrypted>), Error> {
    let mut body = opening.body().to_vec();
    let room = limits::HELD.saturating_sub(body.len() as u64);
    rest.take(room).read_to_end(&mut body).map_err(Error::Read)?;
    let whole = (body.len() as u64) < limits::HELD;
    let encrypted = if whole { judge(opening.head(), &body, true).ok() } else { None };
    Ok((body, encrypted))
}
