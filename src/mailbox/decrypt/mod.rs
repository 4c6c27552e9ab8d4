//! Edge: `mailseal decrypt` of one message: gives back the original. Maildirs are [`maildir`]'s; what is another user's is
//! worked on as [`owners`] and [`single`] say.
//!
//! Nothing of it is given out before all of it is proven: a small one is held in memory meanwhile, a large one is
//! decrypted twice. What comes through a pipe waits for that in a file without a name, encrypted as it came.

pub mod maildir;
pub mod owners;
pub mod single;

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::{Opening, copy};
use mailseal_core::unseal::original::Endings;
use mailseal_core::unseal::{Expansion, Look, Unsealed, prove, recognise, unseal};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::keys::secret::SecretKeys;
use crate::mailbox::stored;
use crate::system::owner::child::Pulse;

/// Longest original that is held in memory, in bytes.
const LONGEST_HELD: usize = 4 * 1024 * 1024;

/// Content that is longer than this and [`USUAL_RATIO`] times the sealed message may be a bomb.
const USUAL_CONTENT: u64 = 1024 * 1024;

/// Text that is longer than [`USUAL_CONTENT`] seldom deflates to a twentieth, and armor takes a third of that back.
const USUAL_RATIO: u64 = 20;

/// What sealed messages are opened with.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    /// The secret keys.
    pub keys: &'a dyn SecretKeys,
    /// How long a message may become.
    pub expansion: Expansion,
}

impl Opener<'_> {
    /// Has `write` write what the `stored` message that begins with `opening` turns out to be.
    ///
    /// What may be a bomb is opened to its end first and goes nowhere: inflating is cheap beside writing and sealing. Then
    /// `write` is called again, and has to begin anew. `alive` is called now and then.
    ///
    /// # Errors
    /// Those of [`unseal`] and of `write`.
    pub fn open<T>(
        self,
        opening: &Opening,
        stored: &Stored<'_>,
        alive: &(dyn Fn() + Sync),
        mut write: impl FnMut(Unsealed<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let size = stored.size()?;
        let most = self.expansion.most(size);
        let usual = USUAL_CONTENT.saturating_add(size.saturating_mul(USUAL_RATIO)).min(most);
        let unsealed = |most| -> Result<_, Error> {
            Ok(unseal(opening, stored.behind(opening)?, self.keys, Endings::Stored, most)?)
        };
        match unsealed(usual).and_then(&mut write) {
            Err(Error::Core(CoreError::Expands { .. })) if usual < most => {
                let mut nowhere = Pulse::new(io::sink(), alive);
                prove(opening, stored.behind(opening)?, self.keys, most, &mut nowhere)?;
                write(unsealed(most)?)
            }
            written => written,
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The original came out, byte for byte as it was sealed.
    Original,
    /// It came out, but not all of its header could be restored as it was.
    Inexact,
    /// It was not sealed by mailseal, and came out as it is.
    Foreign,
}

/// Decrypts the message that `input` is, from where it stands on, to `out`. One that mailseal did not seal comes out as
/// it is.
///
/// # Errors
/// Those of [`unseal`], and [`CoreError::Write`]. Nothing has been written to `out` where the message is damaged, unless it
/// was changed while it was read.
pub fn decrypt(mut input: File, out: &mut impl Write, opener: Opener<'_>) -> Result<Outcome, Error> {
    let is_file = input.metadata().map_err(CoreError::Read)?.is_file();
    let start = if is_file { input.stream_position().map_err(CoreError::Read)? } else { 0 };
    let opening = Opening::read(&mut input)?;
    if let Look::Foreign(_) = recognise(&opening)? {
        return pass(&opening, &mut input, out);
    }
    let mut file = if is_file { input } else { spool(&opening, &mut input)? };
    drop(opening);

    let mut held = Held::default();
    file.seek(SeekFrom::Start(start)).map_err(CoreError::Read)?;
    let outcome = decrypt_once(&file, &mut held, opener)?;
    file.seek(SeekFrom::Start(start)).map_err(CoreError::Read)?;
    match (outcome, held.whole()) {
        (Outcome::Foreign, _) => copy(&mut file, out, CoreError::Read)?,
        (_, Some(original)) => out.write_all(original).map_err(CoreError::Write)?,
        (_, None) => drop(decrypt_once(&file, out, opener)?),
    }
    Ok(outcome)
}

/// Writes the original of `file` to `out` as it is decrypted; nothing is proven before this has returned. Nothing of a
/// foreign message is written.
fn decrypt_once(mut file: &File, out: &mut impl Write, opener: Opener<'_>) -> Result<Outcome, Error> {
    let most = opener.expansion.most(file.metadata().map_err(CoreError::Read)?.len());
    let opening = Opening::read(&mut file)?;
    match unseal(&opening, file, opener.keys, Endings::Original, most)? {
        Unsealed::Original(mut original) => {
            drop(opening);
            original.write_to(out)?;
            Ok(if original.exact { Outcome::Original } else { Outcome::Inexact })
        }
        Unsealed::Foreign(_) => Ok(Outcome::Foreign),
    }
}

fn pass(opening: &Opening, rest: &mut File, out: &mut impl Write) -> Result<Outcome, Error> {
    out.write_all(opening.bytes()).map_err(CoreError::Write)?;
    copy(rest, out, CoreError::Read)?;
    Ok(Outcome::Foreign)
}

/// A sealed message that comes through a pipe or is packed, as a file without a name.
fn spool(opening: &Opening, rest: &mut impl Read) -> Result<File, Error> {
    let mut file = tempfile::tempfile().map_err(CoreError::Write)?;
    file.write_all(opening.bytes()).map_err(CoreError::Write)?;
    copy(rest, &mut file, CoreError::Read)?;
    Ok(file)
}

/// The message in a file of a Maildir.
#[derive(Debug)]
pub enum Stored<'a> {
    /// The file itself.
    Plain(&'a File),
    /// What was packed in it, still sealed, in a file without a name.
    Unpacked(File),
}

impl<'a> Stored<'a> {
    /// Opens a stored message, unpacked where Dovecot has packed it; `None` where there is nothing. Of a packed one that
    /// is not sealed only the beginning is there.
    ///
    /// # Errors
    /// [`CoreError::Read`], also for what only Dovecot can unpack; those of [`recognise`].
    pub fn open(mut file: &'a File) -> Result<Option<(Opening, Self)>, Error> {
        let packing = stored::Stored::open(file)?.packing();
        file.seek(SeekFrom::Start(0)).map_err(CoreError::Read)?;
        let Some(packing) = packing else {
            return match Opening::read(&mut file) {
                Err(CoreError::Empty) => Ok(None),
                opening => Ok(Some((opening?, Self::Plain(file)))),
            };
        };
        let unpacked = packing.unpack(file).map_err(CoreError::Read)?;
        let mut rest = unpacked
            .ok_or_else(|| CoreError::Read(io::Error::other(format!("it is packed ({})", packing.name()))))?;
        let opening = Opening::read(&mut rest)?;
        if let Look::Foreign(_) = recognise(&opening)? {
            return Ok(Some((opening, Self::Plain(file))));
        }
        let file = spool(&opening, &mut rest)?;
        Ok(Some((opening, Self::Unpacked(file))))
    }
}

impl Stored<'_> {
    /// How many bytes the message has, sealed.
    fn size(&self) -> Result<u64, Error> {
        Ok(self.file().metadata().map_err(CoreError::Read)?.len())
    }

    /// What follows its beginning.
    fn behind(&self, opening: &Opening) -> Result<&File, Error> {
        let mut file = self.file();
        file.seek(SeekFrom::Start(opening.bytes().len() as u64)).map_err(CoreError::Read)?;
        Ok(file)
    }

    fn file(&self) -> &File {
        match self {
            Self::Plain(file) => file,
            Self::Unpacked(file) => file,
        }
    }
}

/// Keeps what is written, if it is not too long.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Held {
    fn whole(&self) -> Option<&[u8]> {
        (!self.too_long).then_some(&self.bytes)
    }
}

impl Write for Held {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + data.len() > LONGEST_HELD {
            self.too_long = true;
            self.bytes = Vec::new();
        }
        if !self.too_long {
            self.bytes.extend_from_slice(data);
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
