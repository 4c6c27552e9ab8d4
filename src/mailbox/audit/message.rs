//! One stored message, without a key: clear, sealed, or encrypted otherwise. No more of it is read than that needs.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

use mailseal_core::classify::{self, Encrypted, Stop};
use mailseal_core::error::Error as CoreError;
use mailseal_core::message::head::Head;
use mailseal_core::protect::exposed::Exposed;
use mailseal_core::unseal::{Inspected, inspect};
use mailseal_maildir::folder::{Folder, Message};
use mailseal_maildir::packed::{MAGIC_BYTES, Packing};

use crate::error::Error;
use crate::mailbox::stored::Stored;

/// What is read of a message first. It is enough for all but long headers and large encrypted messages.
const BEGINNING: u64 = 32 * 1024;

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// In clear, or not proven to be encrypted.
    Clear,
    /// Sealed at rest, by mailseal or by gpgit, as it seems.
    Sealed {
        /// The keys' ids.
        recipients: Vec<String>,
        /// What its outer header tells.
        exposed: Exposed,
        /// Whether it was gpgit.
        gpgit: bool,
    },
    /// There is not one byte in it.
    Empty,
    /// Encrypted otherwise; how.
    Encrypted(&'static str),
    /// It could not be read.
    Unreadable(String),
}

/// Looks at a message; `None` where it is not there any more.
pub fn look_at(folder: &Folder, message: &Message) -> Option<Class> {
    let unreadable = |error: &dyn std::fmt::Display| Some(Class::Unreadable(error.to_string()));
    let file = match folder.dir(message.place).open_file(message.name.as_os_str()) {
        Ok((file, _)) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return unreadable(&error),
    };
    match look_into(&file) {
        Ok(class) => Some(class),
        Err(error) => unreadable(&error),
    }
}

fn look_into(file: &File) -> Result<Class, Error> {
    if is_clear(file)? {
        return Ok(Class::Clear);
    }
    let stored = Stored::open(file)?;
    if stored.packing() == Some(Packing::MailCrypt) {
        // Dovecot's mail-crypt, whose key the server has.
        return Ok(Class::Unreadable(Packing::MailCrypt.name().into()));
    }
    let judged = match stored.judge() {
        Err(CoreError::Empty) => return Ok(Class::Empty),
        other => other?,
    };
    let Some(how) = judged.encrypted else { return Ok(Class::Clear) };
    if matches!(how, Encrypted::PgpMime | Encrypted::Smime) {
        // The keys stand in front of the ciphertext: the beginning names them.
        if let Ok(Inspected::Sealed(envelope)) = inspect(&judged.opening, io::empty())
            && (envelope.ours || envelope.gpgit)
        {
            let exposed = Exposed::by(judged.opening.head());
            return Ok(Class::Sealed { recipients: envelope.recipients(), exposed, gpgit: envelope.gpgit });
        }
    }
    Ok(Class::Encrypted(how.name()))
}

/// Whether the beginning of a message that is not packed tells that it is clear, as that of most does. What it refutes,
/// more of it could not prove.
fn is_clear(file: &File) -> Result<bool, Error> {
    let mut beginning = Vec::with_capacity(BEGINNING as usize);
    file.take(BEGINNING).read_to_end(&mut beginning).map_err(CoreError::Read)?;
    if Packing::of(&beginning[..beginning.len().min(MAGIC_BYTES)]).is_some() {
        return Ok(false);
    }
    let Some((fields, body)) = Head::find_end(&beginning, 0) else { return Ok(false) };
    let head = Head::new(&beginning[..fields], &beginning[fields..body]);
    let whole = (beginning.len() as u64) < BEGINNING;
    Ok(classify::judge(head, &beginning[body..], whole) == Err(Stop::Refuted))
}
