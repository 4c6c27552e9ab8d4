//! Edge: Where certificates are found.
//!
//! "No certificate" is the only thing that lets mail through in clear, so it means only this: outside the user's home,
//! the last component of a configured path does not exist in a folder that does; below the home, something is not
//! there and the home itself is. All else that keeps a certificate from being found is an error.
//!
//! Whether a certificate may be used is [`crate::cert`]'s business.

mod cert_d;
pub mod enrolled;
mod gnupg;
mod keyring;
pub mod safe_file;
pub mod source;
mod wkd;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::parse::Parse as _;

use self::keyring::Search;
use self::source::{Kind, Owner, Place, Source, Template};
use crate::error::Error;
use crate::limits;
use crate::user::User;

/// Whose certificates are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The delivery user.
    pub user: &'a User,
    /// The user's home, where it is known.
    pub home: Option<&'a Path>,
    /// The address that is looked for in keyrings.
    pub address: Option<&'a Template>,
    /// The time at which they must be fit to be chosen among several.
    pub now: SystemTime,
    /// Who may own what is found.
    pub owner: Owner,
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// The user's certificates, at least one.
    Certs(Vec<Cert>),
    /// None, in no source.
    NoKey,
    /// None, although there is a keyring to be searched.
    NoMatch,
}

/// The user's certificates in the first of `sources` that has one.
///
/// # Errors
/// [`Error::KeyStore`], [`Error::Home`] and [`Error::User`] when a source cannot be asked: a later one is not asked
/// then, because the answer of the first is not known. [`Error::Address`] when a keyring is to be searched for what is
/// no address; [`Error::Ambiguous`] when it has several certificates for it.
pub fn find(sources: &[Source], request: &Request<'_>) -> Result<Found, Error> {
    let mut none = Found::NoKey;
    for source in sources {
        let place = source.path.place(request.user, request.home, request.owner)?;
        let certs = match source.kind {
            Kind::File => {
                let bytes = safe_file::read(&place, limits::KEY_FILE)?;
                bytes.map(|bytes| parse(&bytes, &place.path)).transpose()?
            }
            Kind::Dir => find_in_folder(&place)?,
            Kind::GnuPg | Kind::CertD | Kind::WkdDir => {
                let (searched, certs) = find_in_keyring(source.kind, &place, request)?;
                if searched {
                    none = Found::NoMatch;
                }
                certs
            }
        };
        if let Some(certs) = certs {
            return Ok(Found::Certs(certs));
        }
    }
    Ok(none)
}

/// Searches a keyring: whether there is one, and what was found.
fn find_in_keyring(
    kind: Kind,
    place: &Place,
    request: &Request<'_>,
) -> Result<(bool, Option<Vec<Cert>>), Error> {
    let template = request.address.ok_or_else(|| Error::Address { address: String::new() })?;
    let address = template.expand(request.user, request.home)?;
    if address.rsplit_once('@').is_none_or(|(local, domain)| local.is_empty() || domain.is_empty()) {
        return Err(Error::Address { address });
    }
    let mut search = Search::new(&address, request.now);
    let searched = match kind {
        Kind::GnuPg => gnupg::search(place, &mut search)?,
        Kind::CertD => cert_d::search(place, &mut search)?,
        Kind::WkdDir => wkd::search(place, &address, &mut search)?,
        Kind::File | Kind::Dir => false,
    };
    let is_empty = || std::fs::read_dir(&place.path).is_ok_and(|mut entries| entries.next().is_none());
    if place.home.is_none() && (!searched || is_empty()) {
        // A keyring for all users that is not there is a key store out of reach, not a user without a certificate; an
        // empty folder may be where it is to be mounted.
        return Err(Error::KeyStore {
            path: place.path.clone(),
            what: if searched { "the keyring is empty" } else { "there is no such keyring" }.into(),
            hint: "mount it, or correct the key source".into(),
        });
    }
    let certs = search.finish()?;
    if let (Kind::GnuPg, Some(certs)) = (kind, &certs) {
        gnupg::refuse_secret_keys(&place.path, certs)?;
    }
    Ok((searched, certs))
}

/// The certificates in the file that an admin named.
///
/// # Errors
/// [`Error::KeyStore`] also when the file does not exist.
pub fn read_named(path: &Path) -> Result<Vec<Cert>, Error> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    match safe_file::read(&Place { path: absolute, home: None, owner: Owner::RootOrSelf }, limits::KEY_FILE)?
    {
        Some(bytes) => parse(&bytes, path),
        None => Err(Error::KeyStore {
            path: path.into(),
            what: "there is no such file".into(),
            hint: "name a file with the certificate".into(),
        }),
    }
}

/// The certificates in all the files that an admin named.
///
/// # Errors
/// Those of [`read_named`].
pub fn read_all_named(paths: &[PathBuf]) -> Result<Vec<Cert>, Error> {
    let mut certs = Vec::new();
    for path in paths {
        merge(&mut certs, read_named(path)?);
    }
    Ok(certs)
}

/// The recovery certificates.
///
/// # Errors
/// [`Error::Recovery`]: without them nothing may be sealed, and that is the configuration's fault.
pub fn read_recovery(paths: &[PathBuf]) -> Result<Vec<Cert>, Error> {
    read_all_named(paths).map_err(|error| Error::Recovery(error.to_string()))
}

fn find_in_folder(place: &Place) -> Result<Option<Vec<Cert>>, Error> {
    let Some(files) = safe_file::list(place)? else { return Ok(None) };
    let (mut certs, mut count) = (Vec::new(), 0);
    for path in files {
        let file = place.at(path);
        if let Some(bytes) = safe_file::read(&file, limits::KEY_FILE)? {
            let found = parse(&bytes, &file.path)?;
            count += found.len();
            if count > limits::KEY_FILE_CERTIFICATES {
                return Err(too_many(&place.path));
            }
            merge(&mut certs, found);
        }
    }
    match (certs.is_empty(), &place.home) {
        (false, _) => Ok(Some(certs)),
        (true, Some(_)) => Ok(None),
        // It may be the mount point of a store that is not mounted.
        (true, None) => Err(Error::KeyStore {
            path: place.path.clone(),
            what: "the folder holds no certificate".into(),
            hint: "mount it; to have no certificate for a user, remove the user's folder".into(),
        }),
    }
}

/// Reads one or more certificates, binary or armored, several armors one after the other included.
///
/// # Errors
/// [`Error::KeyStore`] when there is none, when one is broken or holds a secret key, and when there are more than
/// [`limits::KEY_FILE_CERTIFICATES`].
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Cert>, Error> {
    let failed = |what: String, hint: &str| Error::KeyStore { path: path.into(), what, hint: hint.into() };
    let mut certs = Vec::new();
    for block in blocks(bytes) {
        if holds_binary_behind(block) {
            return Err(failed(
                "binary data follows an armored certificate".into(),
                "export each certificate in one form: gpg --armor --export",
            ));
        }
        for cert in CertParser::from_bytes(block)
            .map_err(|error| failed(format!("no certificate: {error}"), "put an OpenPGP certificate there"))?
        {
            let cert = cert.map_err(|error| {
                failed(format!("no valid certificate: {error}"), "export the certificate again")
            })?;
            if cert.is_tsk() {
                let hint =
                    "put only the public key there (gpg --export), and treat the secret key as exposed";
                return Err(failed(format!("{}: it holds a secret key", cert.fingerprint()), hint));
            }
            certs.push(cert);
            if certs.len() > limits::KEY_FILE_CERTIFICATES {
                return Err(too_many(path));
            }
        }
    }
    if certs.is_empty() {
        return Err(failed("it holds no certificate".into(), "put an OpenPGP certificate there"));
    }
    let mut merged = Vec::new();
    merge(&mut merged, certs);
    Ok(merged)
}

/// Adds `more` to `certs`, copies of one certificate made one: only one of them may know of its revocation.
pub fn merge(certs: &mut Vec<Cert>, more: impl IntoIterator<Item = Cert>) {
    for cert in more {
        match certs.iter_mut().find(|other| other.fingerprint() == cert.fingerprint()) {
            // The same fingerprint is all that merging asks for.
            Some(other) => *other = other.clone().merge_public(cert).unwrap_or_else(|_| other.clone()),
            None => certs.push(cert),
        }
    }
}

fn too_many(path: &Path) -> Error {
    Error::KeyStore {
        path: path.into(),
        what: format!("it holds more than {} certificates", limits::KEY_FILE_CERTIFICATES),
        hint: "leave only the certificates of one user there".into(),
    }
}

/// Whether what begins with an armor goes on with what may be a packet (RFC 9580, section 4.2) and is no text, which
/// sequoia does not look at any more.
fn holds_binary_behind(block: &[u8]) -> bool {
    const END: &[u8] = b"-----END PGP ";
    let end = memchr::memmem::rfind(block, END).filter(|_| block.starts_with(b"-----BEGIN"));
    let behind = end.and_then(|at| block[at..].splitn(2, |&byte| byte == b'\n').nth(1));
    let behind = behind.map(<[u8]>::trim_ascii_start).unwrap_or_default();
    behind.first().is_some_and(|first| first & 0x80 != 0) && std::str::from_utf8(behind).is_err()
}

/// The armors in a text, each of which sequoia reads for itself; binary data in one piece.
fn blocks(bytes: &[u8]) -> Vec<&[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN PGP ";
    let mut starts: Vec<usize> = memchr::memmem::find_iter(bytes, BEGIN).collect();
    if starts.is_empty() || bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return vec![bytes];
    }
    starts.push(bytes.len());
    starts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}
