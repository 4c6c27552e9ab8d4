//! Edge: A GnuPG home: `pubring.kbx` and `pubring.gpg`. A delivery never runs gpg.

use std::fs;
use std::io::ErrorKind;

use sequoia_openpgp::Cert;
use sequoia_openpgp::crypto::mpi::PublicKey;

use super::keyring::Search;
use super::safe_file;
use super::source::Place;
use crate::error::Error;
use crate::limits;

/// Looks for the search's address in the GnuPG home at `home`.
///
/// # Errors
/// Those of [`safe_file::read`]; [`Error::KeyStore`] when the home keeps its keys in a keyboxd, which only gpg can ask.
pub fn search(home: &Place, search: &mut Search<'_>) -> Result<(), Error> {
    if let Some(options) = safe_file::read(&home.join("common.conf"), limits::KEY_FILE)? {
        let keyboxd = |line: &[u8]| line.trim_ascii().starts_with(b"use-keyboxd");
        if options.split(|&byte| byte == b'\n').any(keyboxd) {
            return Err(in_keyboxd(home));
        }
    }
    // The option may also stand in a file for all users.
    if home.path.join("public-keys.d/pubring.db").exists() {
        search.doubt(in_keyboxd(home));
    }
    let keybox = home.join("pubring.kbx");
    if let Some(bytes) = safe_file::read(&keybox, limits::KEYRING)? {
        if bytes.is_empty() {
            // Where there are no keys it has a first blob all the same.
            search.doubt(broken_off(&keybox));
        }
        for certificate in keybox_certificates(&bytes) {
            match certificate {
                Some(bytes) if search.is_in(bytes) => search.add_ring(bytes, &keybox.path)?,
                Some(_) => {}
                None => search.doubt(broken_off(&keybox)),
            }
        }
    }
    let ring = home.join("pubring.gpg");
    if let Some(bytes) = safe_file::read(&ring, limits::KEYRING)? {
        search.add_ring(&bytes, &ring.path)?;
    }
    Ok(())
}

fn broken_off(keybox: &Place) -> Error {
    Error::KeyStore {
        path: keybox.path.clone(),
        what: "the keybox is broken off".into(),
        hint: "let gpg write it again: gpg --list-keys".into(),
    }
}

fn in_keyboxd(home: &Place) -> Error {
    Error::KeyStore {
        path: home.path.clone(),
        what: "this GnuPG home keeps its keys in a keyboxd".into(),
        hint: "enrol the certificate: gpg --export ADDRESS | mailseal keys add USER -".into(),
    }
}

/// The OpenPGP blobs of a keybox (GnuPG, `kbx/keybox-blob.c`): length in octets 0 to 3, type 2 in octet 4, offset and
/// length of the certificate in octets 8 to 15. `None` at the end is a blob that is not there in full.
fn keybox_certificates(mut bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    const OPENPGP: u8 = 2;
    let number = |blob: &[u8], at: usize| {
        let octets = blob.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(octets)).ok()
    };
    std::iter::from_fn(move || {
        while !bytes.is_empty() {
            let length = number(bytes, 0).filter(|length| *length > 4);
            let Some((blob, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else {
                bytes = &[];
                return Some(None);
            };
            bytes = rest;
            if blob[4] == OPENPGP {
                let end = |start: usize| start.checked_add(number(blob, 12)?);
                return Some(number(blob, 8).and_then(|start| blob.get(start..end(start)?)));
            }
        }
        None
    })
}

/// Refuses certificates whose secret keys lie in the same GnuPG home: then the server can read the mail.
///
/// The files of gpg-agent hold the public parts of their keys too, in binary or hexadecimal, and are found by them.
///
/// # Errors
/// [`Error::KeyStore`] when there is such a file, when a file or the folder with them cannot be read, and when there are
/// more than [`limits::SECRET_KEY_FILES`].
pub fn refuse_secret_keys(home: &Place, certs: &[Cert]) -> Result<(), Error> {
    let folder = home.path.join("private-keys-v1.d");
    let failed = |what: String| Error::KeyStore {
        path: folder.clone(),
        what,
        hint: "let the mail user look whether secret keys lie here, or enrol with `mailseal keys add`".into(),
    };
    let mut files = vec![home.path.join("secring.gpg")];
    match fs::read_dir(&folder) {
        Ok(entries) => {
            for entry in entries {
                files.push(entry.map_err(|error| failed(error.to_string()))?.path());
                if files.len() > limits::SECRET_KEY_FILES {
                    return Err(failed(format!("it holds more than {} files", limits::SECRET_KEY_FILES)));
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error.to_string())),
    }
    for path in files {
        let Some(bytes) = safe_file::read_in_folder(&home.at(path.clone()), limits::KEY_FILE)? else {
            continue;
        };
        let digits: Vec<u8> =
            bytes.iter().filter(|byte| byte.is_ascii_hexdigit()).map(u8::to_ascii_uppercase).collect();
        let holds = |value: &[u8]| {
            let hex = data_encoding::HEXUPPER.encode(value);
            memchr::memmem::find(&bytes, value).is_some()
                || memchr::memmem::find(&digits, hex.as_bytes()).is_some()
        };
        let owner = certs.iter().find(|cert| {
            cert.keys().any(|key| public_value(key.key().mpis()).is_some_and(|value| holds(&value)))
        });
        if let Some(cert) = owner {
            return Err(Error::KeyStore {
                path,
                what: format!("the secret key of {} lies in the same GnuPG home", cert.fingerprint()),
                hint: "with it the server can read the mail: move it to the user's own machine".into(),
            });
        }
    }
    Ok(())
}

/// The part of a public key that no other key has.
fn public_value(mpis: &PublicKey) -> Option<Vec<u8>> {
    Some(match mpis {
        PublicKey::RSA { n, .. } => n.value().to_vec(),
        PublicKey::ElGamal { y, .. } | PublicKey::DSA { y, .. } => y.value().to_vec(),
        PublicKey::EdDSA { q, .. } | PublicKey::ECDSA { q, .. } | PublicKey::ECDH { q, .. } => {
            q.value().to_vec()
        }
        PublicKey::X25519 { u } => u.to_vec(),
        PublicKey::Ed25519 { a } => a.to_vec(),
        _ => return None,
    })
}
