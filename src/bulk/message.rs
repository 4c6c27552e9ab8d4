//! One stored message: judged by all of it, and sealed as a delivery seals it.
//!
//! It is read with `read(2)`, twice where it is longer than the look-ahead: first to judge it, then to seal it. Mapping the
//! file instead was measured: of the 41 ms that two passes over 45 MB in the page cache take, it saves 7, beside some
//! 200 ms for sealing. That is not worth code marked unsafe, nor the SIGBUS that ends the process when somebody truncates a
//! mapped file, where `read` ends short and the commit finds the message changed.
//!
//! Only a message that begins like one that is encrypted in another way than mailseal's is held in memory, to prove that it
//! is one; a very long one is sealed instead.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};

use crate::classify::{Encrypted, classify};
use crate::error::Error;
use crate::limits;
use crate::lines::{Endings, LineEnding};
use crate::opening::Opening;
use crate::openpgp::compress::Compression;
use crate::protect::{self, Policy};
use crate::recipients::Recipients;
use crate::seal::seal;
use crate::unseal::{Inspected, inspect};

use super::packed::{MAGIC_BYTES, Packing};

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// How messages are sealed.
#[derive(Debug)]
pub struct Sealer<'a> {
    /// The delivery user.
    pub user: &'a str,
    /// To whom.
    pub recipients: &'a Recipients,
    /// Which header fields are hidden inside.
    pub protect_headers: Policy,
    /// How they are compressed before they are encrypted.
    pub compression: Compression,
    /// Whether packed messages are unpacked.
    pub unpack: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its sealed form was written.
    Sealed(Readable),
    /// It is encrypted to somebody, and stays as it is.
    Encrypted(Encrypted),
    /// There is not one byte in it.
    Empty,
    /// It is packed, and stays as it is.
    Packed(Packing),
}

/// What stays readable of the header of a sealed message, against the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readable {
    /// The fields that should have been hidden.
    pub fields: bool,
}

impl Sealer<'_> {
    /// Writes the sealed form of the message in `file`, if it is to be sealed.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Write`], and those of [`seal`] and [`Recipients::session`].
    pub fn seal<W: Write + Send + Sync>(&self, file: &File, out: W) -> Result<Verdict, Error> {
        let packing = packing(file)?;
        let source = Source { file, packing };
        if let Some(packing) = packing.filter(|packing| !self.unpack || *packing == Packing::MailCrypt) {
            return Ok(Verdict::Packed(packing));
        }
        let (opening, encrypted) = match source.judge() {
            Err(Error::Empty) => return Ok(Verdict::Empty),
            other => other?,
        };
        // A packed message that is encrypted inside lies as safe as it can.
        if let Some(encrypted) = encrypted {
            return Ok(Verdict::Encrypted(encrypted));
        }
        let mut rest = source.open_at(opening.bytes().len() as u64).map_err(Error::Read)?;
        self.write(&opening, &mut rest, out).map(Verdict::Sealed)
    }

    /// The same for a message that can be read only once, with CRLF for every line ending. `None` for a long one that
    /// begins like an encrypted one, of which this does not tell: it is to be read again, by [`Sealer::seal_held`].
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal_stream<W: Write + Send + Sync>(
        &self,
        mut message: impl Read,
        out: W,
    ) -> Result<Option<Verdict>, Error> {
        let opening = match Opening::read(&mut message) {
            Err(Error::Empty) => return Ok(Some(Verdict::Empty)),
            other => other?,
        };
        match classify(opening.head(), opening.body(), opening.is_whole()) {
            None => self.write(&opening, &mut message, out).map(|readable| Some(Verdict::Sealed(readable))),
            Some(encrypted) => {
                let proven = opening.is_whole() || is_proven(&opening, message)?;
                Ok(proven.then_some(Verdict::Encrypted(encrypted)))
            }
        }
    }

    /// The same for a long message that begins like an encrypted one, as much of which is held as that takes.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal_held<W: Write + Send + Sync>(
        &self,
        mut message: impl Read,
        out: W,
    ) -> Result<Verdict, Error> {
        let opening = Opening::read(&mut message)?;
        let (body, encrypted) = hold(&opening, &mut message)?;
        match encrypted {
            Some(encrypted) => Ok(Verdict::Encrypted(encrypted)),
            None => {
                let mut rest = body[opening.body().len()..].chain(message);
                self.write(&opening, &mut rest, out).map(Verdict::Sealed)
            }
        }
    }

    fn write<W: Write + Send + Sync>(
        &self,
        opening: &Opening,
        rest: &mut impl Read,
        out: W,
    ) -> Result<Readable, Error> {
        let session = self.recipients.session(self.user)?;
        let plan = protect::plan(self.protect_headers, opening);
        let fields = plan.warning.is_some();
        seal(opening, rest, out, &session, self.compression, plan.protection)?;
        Ok(Readable { fields })
    }
}

/// How the message in `file` is encrypted already, judged by all of it; `None` when it is clear, `Err` of
/// [`Error::Empty`] when there is nothing.
///
/// # Errors
/// [`Error::Read`], [`Error::HeaderTooLong`].
pub fn judge(file: &File) -> Result<Option<Encrypted>, Error> {
    Source { file, packing: None }.judge().map(|(_, encrypted)| encrypted)
}

/// How `file` is packed.
///
/// # Errors
/// [`Error::Read`].
pub fn packing(mut file: &File) -> Result<Option<Packing>, Error> {
    let mut magic = Vec::with_capacity(MAGIC_BYTES);
    file.seek(SeekFrom::Start(0)).map_err(Error::Read)?;
    file.take(MAGIC_BYTES as u64).read_to_end(&mut magic).map_err(Error::Read)?;
    Ok(Packing::of(&magic))
}

/// A message's file, to be read more than once.
#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a File,
    packing: Option<Packing>,
}

impl<'a> Source<'a> {
    /// Reads the message from this byte on.
    fn open_at(self, position: u64) -> io::Result<Box<dyn Read + 'a>> {
        let mut file = self.file;
        let Some(packing) = self.packing else {
            file.seek(SeekFrom::Start(position))?;
            return Ok(Box::new(file));
        };
        file.seek(SeekFrom::Start(0))?;
        let mut reader = packing.unpack(file)?.ok_or(io::ErrorKind::Unsupported)?;
        io::copy(&mut reader.by_ref().take(position), &mut io::sink())?;
        Ok(reader)
    }

    /// The beginning of the message with the line ending of all of it, and how it is encrypted.
    fn judge(self) -> Result<(Opening, Option<Encrypted>), Error> {
        let mut reader = self.open_at(0).map_err(Error::Read)?;
        let opening = Opening::read(&mut reader)?;
        let encrypted = classify(opening.head(), opening.body(), opening.is_whole());
        if opening.is_whole() {
            return Ok((opening, encrypted));
        }
        let rest = || self.open_at(opening.bytes().len() as u64).map_err(Error::Read);
        if encrypted.is_some() {
            if is_proven(&opening, &mut reader)? {
                return Ok((opening, encrypted));
            }
            let (_, encrypted) = hold(&opening, rest()?)?;
            if encrypted.is_some() {
                return Ok((opening, encrypted));
            }
            reader = rest()?;
        }
        let line_ending = line_ending(&opening, reader)?;
        Ok((opening.with_line_ending(line_ending), None))
    }
}

/// Whether the message that begins with `opening` and goes on in `rest` is one encrypted packet in PGP/MIME, to its end:
/// what mailseal writes, and most others. In the affirmative there is no need to hold it.
fn is_proven(opening: &Opening, rest: impl Read) -> Result<bool, Error> {
    let proven = match inspect(opening, rest) {
        Ok(Inspected::Sealed(envelope)) => envelope.prove().map(|()| true),
        Ok(Inspected::Foreign(_)) => Ok(false),
        Err(error) => Err(error),
    };
    match proven {
        Err(Error::Damaged { .. }) => Ok(false),
        other => other,
    }
}

/// The body of the message that begins with `opening` and goes on in `rest`, up to [`limits::HELD`] bytes, and how the
/// message is encrypted, judged by all of it. One that is longer counts as clear.
fn hold(opening: &Opening, rest: impl Read) -> Result<(Vec<u8>, Option<Encrypted>), Error> {
    let mut body = opening.body().to_vec();
    let room = limits::HELD.saturating_sub(body.len() as u64);
    rest.take(room).read_to_end(&mut body).map_err(Error::Read)?;
    let whole = (body.len() as u64) < limits::HELD;
    let encrypted = if whole { classify(opening.head(), &body, true) } else { None };
    Ok((body, encrypted))
}

/// The line ending of all of the message that begins with `opening` and goes on in `rest`.
fn line_ending(opening: &Opening, mut rest: impl Read) -> Result<LineEnding, Error> {
    let mut endings = Endings::default();
    let mut open = endings.look_at(opening.bytes());
    let mut piece = vec![0; PIECE];
    while open {
        match rest.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => open = endings.look_at(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Read(error)),
        }
    }
    Ok(endings.found())
}
