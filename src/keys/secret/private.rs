//! A file with S/MIME's private keys: PKCS #12, PEM or DER. It is unlocked when the first message needs it.

use std::path::{Path, PathBuf};

use mailseal_core::smime::secret::{Locked, PrivateKeys};
use sequoia_openpgp::crypto::Password;

use super::files::Passphrases;
use crate::console::escape;
use crate::error::Error;

/// A file with private keys.
#[derive(Debug)]
pub struct PrivateFile {
    path: PathBuf,
    contents: Contents,
}

#[derive(Debug)]
enum Contents {
    /// As they were read.
    Locked(Vec<u8>),
    /// What they hold.
    Unlocked(PrivateKeys),
}

impl PrivateFile {
    /// A file with this content. It is not looked into.
    pub fn new(path: &Path, octets: Vec<u8>) -> Self {
        Self { path: path.into(), contents: Contents::Locked(octets) }
    }

    /// The keys in it, unlocked with one of `passphrases` where they are locked.
    ///
    /// # Errors
    /// [`Error::SecretKey`] where none opens it, or there is no key of use in it.
    pub fn unlocked(&mut self, passphrases: &Passphrases) -> Result<&PrivateKeys, Error> {
        if let Contents::Locked(octets) = &self.contents {
            self.contents = Contents::Unlocked(unlock(&self.path, octets, passphrases)?);
        }
        match &self.contents {
            Contents::Unlocked(keys) => Ok(keys),
            // It was unlocked above.
            Contents::Locked(_) => Err(unusable(&self.path, &Locked::Nothing.to_string())),
        }
    }
}

fn unlock(path: &Path, contents: &[u8], passphrases: &Passphrases) -> Result<PrivateKeys, Error> {
    let refused = |locked: Locked| unusable(path, &locked.to_string());
    match PrivateKeys::read(contents, "") {
        Ok(keys) => return Ok(keys),
        Err(Locked::Password) => {}
        Err(other) => return Err(refused(other)),
    }
    let prompt = format!("Passphrase for {}: ", escape::display(path.as_os_str().as_encoded_bytes()));
    let try_one = |passphrase: &Password| {
        passphrase.map(|octets| match PrivateKeys::read(contents, str::from_utf8(octets).ok()?) {
            Err(Locked::Password) => None,
            // Another one would not help.
            other => Some(other),
        })
    };
    passphrases.try_all(&prompt, try_one, |what| unusable(path, &what))?.map_err(refused)
}

fn unusable(path: &Path, what: &str) -> Error {
    Error::SecretKey {
        path: path.into(),
        what: what.into(),
        hint: "give the right passphrase, or export the key again (openssl pkcs12 -export)".into(),
    }
}
