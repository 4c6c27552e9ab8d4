//! One stored message: judged by all of it, and sealed as a delivery seals it.
//!
//! Only a message that begins like one that is encrypted in another way than mailseal's is held in memory, to prove that it
//! is one; a very long one is sealed instead.

use std::fs::File;
use std::io::{self, Read, Write};

use mailseal_core::classify::Encrypted;
use mailseal_core::error::Error as CoreError;
use mailseal_core::message::lines::{Endings, LineEnding};
use mailseal_core::message::opening::Opening;
use mailseal_core::seal::Sealer;
use mailseal_maildir::packed::Packing;

use crate::error::Error;
use crate::mailbox::stored::{Pass, Stored, hold, judge_pass};

/// Bytes that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// How stored messages are sealed.
#[derive(Debug)]
pub struct StoredSealer<'a> {
    /// As every message is.
    pub sealer: Sealer<'a>,
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

impl StoredSealer<'_> {
    /// Writes the sealed form of the message in `file`, if it is to be sealed.
    ///
    /// # Errors
    /// [`CoreError::Read`], [`CoreError::Write`], and those of [`Sealer::seal`].
    pub fn seal<W: Write + Send + Sync>(&self, file: &File, out: W) -> Result<Verdict, Error> {
        let stored = Stored::open(file)?;
        if let Some(packing) =
            stored.packing().filter(|packing| !self.unpack || *packing == Packing::MailCrypt)
        {
            return Ok(Verdict::Packed(packing));
        }
        let mut judged = match stored.judge() {
            Err(CoreError::Empty) => return Ok(Verdict::Empty),
            other => other?,
        };
        // A packed message that is encrypted inside lies as safe as it can.
        if let Some(encrypted) = judged.encrypted {
            return Ok(Verdict::Encrypted(encrypted));
        }
        if !judged.opening.is_whole() {
            let rest = stored.rest(&mut judged).map_err(CoreError::Read)?;
            let line_ending = line_ending(&judged.opening, rest)?;
            judged.opening = judged.opening.with_line_ending(line_ending);
        }
        let mut rest = stored.rest(&mut judged).map_err(CoreError::Read)?;
        self.write(&judged.opening, &mut rest, out).map(Verdict::Sealed)
    }

    /// The same for a message that can be read only once, with CRLF for every line ending. `None` for a long one that
    /// begins like an encrypted one, of which this does not tell: it is to be read again, by [`StoredSealer::seal_held`].
    ///
    /// # Errors
    /// As [`StoredSealer::seal`].
    pub fn seal_stream<W: Write + Send + Sync>(
        &self,
        mut message: impl Read,
        out: W,
    ) -> Result<Option<Verdict>, Error> {
        let opening = match Opening::read(&mut message) {
            Err(CoreError::Empty) => return Ok(Some(Verdict::Empty)),
            other => other?,
        };
        Ok(match judge_pass(&opening, &mut message)? {
            Pass::Clear => Some(Verdict::Sealed(self.write(&opening, &mut message, out)?)),
            Pass::Encrypted(encrypted) => Some(Verdict::Encrypted(encrypted)),
            Pass::Untold => None,
        })
    }

    /// The same for a long message that begins like an encrypted one, as much of which is held as that takes.
    ///
    /// # Errors
    /// As [`StoredSealer::seal`].
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
        let sealed = self.sealer.seal(opening, rest, out)?;
        Ok(Readable { fields: sealed.leaves_fields() })
    }
}

/// The line ending of all of the message that begins with `opening` and goes on in `rest`.
fn line_ending(opening: &Opening, mut rest: impl Read) -> Result<LineEnding, Error> {
    let mut endings = Endings::default();
    let mut open = endings.look_at(opening.bytes());
    let mut piece = vec![0; READ_SIZE];
    while open {
        match rest.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => open = endings.look_at(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CoreError::Read(error).into()),
        }
    }
    Ok(endings.found())
}
