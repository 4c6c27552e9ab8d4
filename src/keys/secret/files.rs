//! Edge: The user's secret keys: in files, unlocked with a passphrase where they are locked. OpenPGP's are read here, S/MIME's in
//! `private`.
//!
//! A passphrase comes from a file descriptor or is asked for on the terminal; never from the command line, which every
//! process can read. It is asked for only when a message needs the key. Keys in GnuPG's hands are [`super::agent`]'s.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use mailseal_core::error::Error as CoreError;
use mailseal_core::smime::recipient::RecipientInfo;
use mailseal_core::smime::secret::PrivateKeys;
use mailseal_core::unseal::keys::{Key, Keys, Opened};
use sequoia_openpgp::Packet;
use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::crypto::{KeyPair, Password};
use sequoia_openpgp::packet::key::{SecretParts, UnspecifiedRole};
use sequoia_openpgp::packet::{self, PKESK};
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::serialize::Serialize as _;

use super::SecretKeys;
use super::private::PrivateFile;
use crate::error::Error;

/// How often a passphrase is asked for.
const ATTEMPTS: usize = 3;

/// Where passphrases come from.
#[derive(Debug)]
pub enum Passphrases {
    /// The terminal.
    Prompt,
    /// These, one a line.
    Given(Vec<Password>),
}

impl Passphrases {
    /// Reads passphrases from an open descriptor, one a line.
    ///
    /// # Errors
    /// [`Error::SecretKey`] when it cannot be read.
    pub fn read(descriptor: i32) -> Result<Self, Error> {
        // The descriptor is the caller's: it is opened once more and not closed.
        let path = PathBuf::from(format!("/dev/fd/{descriptor}"));
        let failed = |error: std::io::Error| Error::SecretKey {
            path: path.clone(),
            what: format!("no passphrase can be read: {error}"),
            hint: "open the descriptor for the program: --passphrase-fd 3 3< FILE".into(),
        };
        let lines = BufReader::new(File::open(&path).map_err(failed)?).split(b'\n');
        let passphrase = |line: Vec<u8>| Password::from(line.strip_suffix(b"\r").unwrap_or(&line));
        let given = lines.map(|line| line.map(passphrase)).collect::<Result<_, _>>().map_err(failed)?;
        Ok(Self::Given(given))
    }
}

/// Secret keys out of files.
#[derive(Debug)]
pub struct KeyFiles {
    keys: Mutex<Vec<SecretKey>>,
    private: Mutex<Vec<PrivateFile>>,
    passphrases: Passphrases,
}

#[derive(Debug)]
struct SecretKey {
    path: PathBuf,
    key: packet::Key<SecretParts, UnspecifiedRole>,
}

impl KeyFiles {
    /// Reads the secret keys in `paths`: OpenPGP's, binary or armored, and S/MIME's, as PKCS #12 or PEM.
    ///
    /// # Errors
    /// [`Error::SecretKey`] when a file cannot be read or holds no secret key.
    pub fn read(paths: &[PathBuf], passphrases: Passphrases) -> Result<Self, Error> {
        let (mut keys, mut private) = (Vec::new(), Vec::new());
        for path in paths {
            let bytes = std::fs::read(path).map_err(|error| failed(path, error.to_string()))?;
            if PrivateKeys::seem_to_be_in(&bytes) {
                private.push(PrivateFile::new(path, bytes));
            } else {
                keys.extend(read_openpgp(path, &bytes)?);
            }
        }
        Ok(Self { keys: Mutex::new(keys), private: Mutex::new(private), passphrases })
    }

    /// Keys that another process has exported.
    ///
    /// # Errors
    /// [`CoreError::OpenPgp`] for what is no secret key.
    pub fn import(exported: &[Vec<u8>]) -> Result<Self, Error> {
        let (mut keys, mut private) = (Vec::new(), Vec::new());
        for bytes in exported {
            if PrivateKeys::seem_to_be_in(bytes) {
                private.push(PrivateFile::new(Path::new("-"), bytes.clone()));
                continue;
            }
            let key = match Packet::from_bytes(bytes).map_err(CoreError::OpenPgp)? {
                Packet::SecretKey(key) => key.role_into_unspecified(),
                Packet::SecretSubkey(key) => key.role_into_unspecified(),
                _ => return Err(CoreError::Read(std::io::ErrorKind::InvalidData.into()).into()),
            };
            keys.push(SecretKey { path: "-".into(), key });
        }
        let passphrases = Passphrases::Given(Vec::new());
        Ok(Self { keys: Mutex::new(keys), private: Mutex::new(private), passphrases })
    }

    /// The key to open `packet` with, unlocked.
    fn pair(&self, packet: &PKESK) -> Result<Option<KeyPair>, Error> {
        let Some(recipient) = packet.recipient() else { return Ok(None) };
        // Held while a passphrase is asked for, so that one prompt is there at a time.
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(secret) = keys.iter_mut().find(|secret| recipient.aliases(secret.key.key_handle())) else {
            return Ok(None);
        };
        if !secret.key.has_unencrypted_secret() {
            secret.key = self.passphrases.unlock(secret)?;
        }
        secret.key.clone().into_keypair().map(Some).map_err(|error| secret.unusable(format!("{error:#}")))
    }
}

impl Keys for KeyFiles {
    fn session_key(&self, packets: &[PKESK]) -> Result<Option<Key>, CoreError> {
        for packet in packets {
            if let Some(mut pair) = self.pair(packet)?
                && let Some((cipher, key)) = packet.decrypt(&mut pair, None)
            {
                return Ok(Some(Key { cipher, key }));
            }
        }
        Ok(None)
    }

    fn content_key(&self, recipients: &[RecipientInfo]) -> Result<Option<Opened>, CoreError> {
        // Held while a passphrase is asked for, so that one prompt is there at a time.
        let mut files = self.private.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = None;
        for file in files.iter_mut() {
            match file.unlocked(&self.passphrases) {
                Ok(keys) => {
                    if let Some(opened) = keys.open(recipients) {
                        return Ok(Some(opened));
                    }
                }
                // Another file may be all that is needed.
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(None), |error| Err(error.into()))
    }
}

impl SecretKeys for KeyFiles {
    fn export(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut exported, mut failed) = (Vec::new(), None);
        for secret in keys.iter_mut() {
            if !secret.key.has_unencrypted_secret() {
                match self.passphrases.unlock(secret) {
                    Ok(key) => secret.key = key,
                    // Another one of them may be all that is needed.
                    Err(error) => {
                        failed.get_or_insert(error);
                        continue;
                    }
                }
            }
            let packet = Packet::SecretSubkey(secret.key.clone().role_into_subordinate());
            let mut bytes = Vec::new();
            packet.serialize(&mut bytes).map_err(CoreError::OpenPgp)?;
            exported.push(bytes);
        }
        for file in self.private.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            match file.unlocked(&self.passphrases) {
                Ok(keys) => exported.extend(keys.export()),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        match failed {
            Some(error) if exported.is_empty() => Err(error),
            _ => Ok(exported),
        }
    }
}

impl SecretKey {
    fn unusable(&self, what: String) -> Error {
        Error::SecretKey {
            path: self.path.clone(),
            what: format!("{}: {what}", self.key.keyid()),
            hint: "give the right passphrase, or use --gpg-agent".into(),
        }
    }
}

impl Passphrases {
    fn unlock(&self, secret: &SecretKey) -> Result<packet::Key<SecretParts, UnspecifiedRole>, Error> {
        let prompt = format!("Passphrase for the key {}: ", secret.key.keyid());
        let try_one = |passphrase: &Password| secret.key.clone().decrypt_secret(passphrase).ok();
        self.try_all(&prompt, try_one, |what| secret.unusable(what))
    }

    /// What the first of them gives that `try_one` takes; the person at the terminal is asked with `prompt`. Where none is
    /// taken, `unusable` makes an error of the reason.
    ///
    /// # Errors
    /// That of `unusable`.
    pub(super) fn try_all<T>(
        &self,
        prompt: &str,
        try_one: impl Fn(&Password) -> Option<T>,
        unusable: impl Fn(String) -> Error,
    ) -> Result<T, Error> {
        match self {
            Self::Given(given) => given
                .iter()
                .find_map(try_one)
                .ok_or_else(|| unusable("no passphrase that was given opens it".into())),
            Self::Prompt => {
                for _ in 0..ATTEMPTS {
                    let typed = rpassword::prompt_password(prompt).map_err(|error| {
                        let hint = if std::io::stderr().is_terminal() { "" } else { ": use --passphrase-fd" };
                        unusable(format!("no passphrase can be asked for: {error}{hint}"))
                    })?;
                    if let Some(found) = try_one(&typed.into()) {
                        return Ok(found);
                    }
                }
                Err(unusable("the passphrase does not open it".into()))
            }
        }
    }
}

fn failed(path: &Path, what: String) -> Error {
    Error::SecretKey {
        path: path.into(),
        what,
        hint: "name a file with the secret key (gpg --export-secret-keys; for S/MIME PKCS #12 or PEM)".into(),
    }
}

fn read_openpgp(path: &Path, bytes: &[u8]) -> Result<Vec<SecretKey>, Error> {
    let failed = |what: String| failed(path, what);
    let mut keys = Vec::new();
    for cert in CertParser::from_bytes(bytes).map_err(|error| failed(format!("{error:#}")))? {
        let cert = cert.map_err(|error| failed(format!("{error:#}")))?;
        let secret = cert.keys().secret().map(|key| SecretKey { path: path.into(), key: key.key().clone() });
        keys.extend(secret);
    }
    if keys.is_empty() { Err(failed("it holds no secret key".into())) } else { Ok(keys) }
}
