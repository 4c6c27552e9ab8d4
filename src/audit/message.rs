//! One stored message, without a key: clear, sealed, or encrypted otherwise. No more of it is read than that needs.

use std::fs::File;
use std::io::{Cursor, ErrorKind, Read, Seek as _};

use crate::bulk::message::judge;
use crate::bulk::packed::{MAGIC_BYTES, Packing};
use crate::classify::{Encrypted, classify};
use crate::error::Error;
use crate::head::Head;
use crate::maildir::folder::{Folder, Message};
use crate::opening::Opening;
use crate::protect::exposed::Exposed;
use crate::unseal::{Inspected, inspect};

/// What is read of a message first. It is enough for all but long headers and large encrypted messages.
const BEGINNING: u64 = 32 * 1024;

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In clear, or not proven to be encrypted.
    Clear,
    /// Sealed by mailseal, as it seems.
    Sealed {
        /// The keys' ids.
        recipients: Vec<String>,
        /// What its outer header tells.
        exposed: Exposed,
    },
    /// There is not one byte in it.
    Empty,
    /// Encrypted otherwise; how.
    Encrypted(&'static str),
    /// It could not be read.
    Unreadable(String),
}

/// Looks at a message; `None` where it is not there any more.
pub fn look_at(folder: &Folder, message: &Message) -> Option<Verdict> {
    let unreadable = |error: &dyn std::fmt::Display| Some(Verdict::Unreadable(error.to_string()));
    let file = match folder.dir(message.place).open_file(message.name.as_os_str()) {
        Ok((file, _)) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return unreadable(&error),
    };
    match look_into(&file) {
        Ok(verdict) => Some(verdict),
        Err(error) => unreadable(&error),
    }
}

fn look_into(file: &File) -> Result<Verdict, Error> {
    let mut beginning = Vec::with_capacity(BEGINNING as usize);
    file.take(BEGINNING).read_to_end(&mut beginning).map_err(Error::Read)?;
    let whole = (beginning.len() as u64) < BEGINNING;
    if let Some(packing) = Packing::of(&beginning[..beginning.len().min(MAGIC_BYTES)]) {
        return look_into_packed(file, packing);
    }
    // Of most messages the beginning tells that they are clear.
    if let Some((fields, body)) = Head::find_end(&beginning, 0) {
        let head = Head::new(&beginning[..fields], &beginning[fields..body]);
        if classify(head, &beginning[body..], whole).is_none() {
            return Ok(Verdict::Clear);
        }
    }
    let message = Cursor::new(beginning).chain(file);
    match look_through(message)? {
        // Only a whole message proves it, and these are not read as a stream.
        Verdict::Encrypted(_) if !whole => {
            (&*file).rewind().map_err(Error::Read)?;
            Ok(judge(file)?.map_or(Verdict::Clear, |how| Verdict::Encrypted(how.name())))
        }
        verdict => Ok(verdict),
    }
}

/// Looks at all of a message that may be encrypted.
fn look_through(mut message: impl Read) -> Result<Verdict, Error> {
    let opening = match Opening::read(&mut message) {
        Err(Error::Empty) => return Ok(Verdict::Empty),
        other => other?,
    };
    match classify(opening.head(), opening.body(), opening.is_whole()) {
        None => return Ok(Verdict::Clear),
        Some(Encrypted::PgpMime) => {}
        Some(how) => return Ok(Verdict::Encrypted(how.name())),
    }
    let pgp_mime = Encrypted::PgpMime.name();
    match inspect(&opening, message) {
        Ok(Inspected::Sealed(envelope)) => {
            let (ours, recipients) = (envelope.ours, envelope.recipients());
            match envelope.prove() {
                Ok(()) if ours => Ok(Verdict::Sealed { recipients, exposed: Exposed::by(opening.head()) }),
                Ok(()) => Ok(Verdict::Encrypted(pgp_mime)),
                Err(Error::Damaged { .. }) => Ok(Verdict::Clear),
                Err(error) => Err(error),
            }
        }
        Ok(Inspected::Foreign(_)) => Ok(Verdict::Encrypted(pgp_mime)),
        Err(Error::Damaged { .. }) => Ok(Verdict::Clear),
        Err(error) => Err(error),
    }
}

fn look_into_packed(mut file: &File, packing: Packing) -> Result<Verdict, Error> {
    file.rewind().map_err(Error::Read)?;
    match packing.unpack(file).map_err(Error::Read)? {
        Some(reader) => look_through(reader),
        // Dovecot's mail-crypt, whose key the server has.
        None => Ok(Verdict::Unreadable(packing.name().into())),
    }
}
