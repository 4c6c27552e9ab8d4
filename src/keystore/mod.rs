//! Edge: Where certificates are found.
//!
//! A source answers "none" where something below its root is not there; all else that keeps a certificate from being found
//! is an error. That no source has one does not mean that there is none: [`absence`] proves it.
//!
//! Whether a certificate may be used is [`mailseal_core::cert`]'s business.

pub mod absence;
pub mod any_cert;
pub mod authorities;
pub mod cache;
pub mod census;
mod cert_d;
pub mod enrolled;
pub mod gnupg;
mod keyring;
pub mod known;
pub mod marker;
pub mod names;
pub mod safe_file;
#[cfg(test)]
pub(crate) mod samples;
pub mod source;
pub mod spelling;
pub mod standing;
#[cfg(test)]
mod tests;
pub mod trust;
pub mod user;
mod wkd;
pub mod wkd_names;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mailseal_core::error::Error as CoreError;
use mailseal_core::smime::bundle;
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::parse::Parse as _;

use self::any_cert::AnyCert;
use self::cache::Cache;
use self::keyring::Search;
use self::safe_file::Listing;
use self::source::{Kind, Place, Root, Source, Template, Values};
use self::trust::Trust;
use crate::config::Keys;
use crate::error::Error;
use crate::keystore::user::User;
use crate::limits;

/// Whose certificates are looked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The delivery user.
    pub user: &'a User,
    /// The user's name as it was given: in another case, perhaps.
    pub given: &'a str,
    /// The user's home, where it is known.
    pub home: Option<&'a Path>,
    /// Folders in which homes lie.
    pub homes: &'a [PathBuf],
    /// The address that is looked for in keyrings.
    pub address: Option<&'a Template>,
    /// The time at which they must be fit to be chosen among several.
    pub now: SystemTime,
    /// Who may own and write what is found.
    pub trust: Trust,
    /// What was read before, where the process lives on.
    pub cache: Option<&'a Cache>,
}

impl<'a> Request<'a> {
    /// Looks for the certificates of `user` as `keys` says, at the time `now`; `trust` as for deliveries to the user.
    #[must_use]
    pub fn new(
        keys: &'a Keys,
        user: &'a User,
        home: Option<&'a Path>,
        now: SystemTime,
        trust: Trust,
    ) -> Self {
        Self {
            user,
            given: user.name(),
            home,
            homes: &keys.homes,
            address: keys.address.as_ref(),
            now,
            trust,
            cache: None,
        }
    }

    fn values(&self) -> Values<'a> {
        Values { user: self.user, home: self.home, homes: self.homes }
    }
}

/// The user's certificates in the first of `sources` that has one; `None` where no source has any.
///
/// # Errors
/// [`Error::KeyStore`], [`Error::Home`] and [`Error::User`] when a source cannot be asked: a later one is not asked
/// then, because the answer of the first is not known. [`Error::Address`] when a keyring is to be searched for what is
/// not an address; [`Error::Ambiguous`] when it has several certificates for it.
pub fn find<'s>(
    sources: impl IntoIterator<Item = &'s Source>,
    request: &Request<'_>,
) -> Result<Option<Vec<AnyCert>>, Error> {
    for source in sources {
        let place = source.path.place(source.kind, &request.values(), &request.trust)?;
        let certs = match source.kind {
            Kind::File => {
                let bytes = safe_file::read(&place, limits::KEY_FILE)?;
                bytes.map(|bytes| parse_by(request.cache, &bytes, &place.path)).transpose()?
            }
            Kind::Dir => find_in_folder(&place, request.cache)?,
            Kind::GnuPg | Kind::CertD | Kind::WkdDir => {
                let found = find_in_keyring(source.kind, &place, request)?;
                found.map(|certs| certs.into_iter().map(AnyCert::from).collect())
            }
        };
        if certs.is_some() {
            return Ok(certs);
        }
    }
    Ok(None)
}

/// Searches a keyring.
fn find_in_keyring(kind: Kind, place: &Place, request: &Request<'_>) -> Result<Option<Vec<Cert>>, Error> {
    let template = request.address.ok_or_else(|| Error::Address { address: String::new() })?;
    let address = template.expand(request.user, request.home)?;
    if address.rsplit_once('@').is_none_or(|(local, domain)| local.is_empty() || domain.is_empty()) {
        return Err(Error::Address { address });
    }
    if !safe_file::reach(place)? {
        return Ok(None);
    }
    let mut search = Search::new(&address, request.now);
    match kind {
        Kind::GnuPg => gnupg::search(place, &mut search)?,
        Kind::CertD => cert_d::search(place, &mut search)?,
        Kind::WkdDir => wkd::search(place, &mut search)?,
        Kind::File | Kind::Dir => {}
    }
    let certs = search.finish()?;
    if let Some(certs) = &certs {
        safe_file::check_above(place)?;
        if kind == Kind::GnuPg {
            gnupg::refuse_secret_keys(place, certs)?;
        }
    }
    Ok(certs)
}

/// Refuses a GnuPG home in which a secret key of one of `certs` lies.
///
/// # Errors
/// [`Error::KeyStore`], also where it cannot be looked through.
pub fn refuse_secret_keys(home: &Path, certs: &[AnyCert], trust: Trust) -> Result<(), Error> {
    let certs: Vec<Cert> = certs.iter().filter_map(AnyCert::openpgp).cloned().collect();
    gnupg::refuse_secret_keys(&Place::named(home.into(), trust), &certs)
}

/// The certificates in the file that an admin named.
///
/// # Errors
/// [`Error::KeyStore`] also when the file does not exist.
pub fn read_named(path: &Path, trust: &Trust, cache: Option<&Cache>) -> Result<Vec<AnyCert>, Error> {
    parse_by(cache, &bytes_of_named(path, trust)?, path)
}

/// What the file holds that an admin named.
fn bytes_of_named(path: &Path, trust: &Trust) -> Result<Vec<u8>, Error> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let missing = || Error::KeyStore {
        path: path.into(),
        what: "there is no such file".into(),
        hint: "name a file with the certificate, or mount the disk that it is on".into(),
    };
    if absolute.parent().is_some_and(|folder| !folder.try_exists().unwrap_or(true)) {
        return Err(missing());
    }
    safe_file::read(&Place::named(absolute, trust.clone()), limits::KEY_FILE)?.ok_or_else(missing)
}

/// The certificates in all the files that an admin named, all of one kind: a message is for each of them.
///
/// # Errors
/// Those of [`read_named`]; [`Error::KeyStore`] for certificates of both kinds.
pub fn read_all_named(
    paths: &[PathBuf],
    trust: &Trust,
    cache: Option<&Cache>,
) -> Result<Vec<AnyCert>, Error> {
    let certs = read_each_named(paths, trust, cache)?;
    let smime = certs.iter().filter(|cert| cert.smime().is_some()).count();
    match paths.last() {
        Some(path) if smime > 0 && smime < certs.len() => Err(Error::KeyStore {
            path: path.clone(),
            what:
                "OpenPGP and S/MIME certificates are named together, and a message can be for one kind alone"
                    .into(),
            hint: "name certificates of one kind".into(),
        }),
        _ => Ok(certs),
    }
}

/// The certificates in all the files that an admin named, of whatever kinds.
///
/// # Errors
/// Those of [`read_named`].
pub fn read_each_named(
    paths: &[PathBuf],
    trust: &Trust,
    cache: Option<&Cache>,
) -> Result<Vec<AnyCert>, Error> {
    let mut certs = Vec::new();
    for path in paths {
        any_cert::merge(&mut certs, read_named(path, trust, cache)?);
    }
    Ok(certs)
}

/// The recovery certificates.
///
/// # Errors
/// [`CoreError::Recovery`]: without them nothing may be sealed, and that is the configuration's fault.
pub fn read_recovery(paths: &[PathBuf], trust: &Trust, cache: Option<&Cache>) -> Result<Vec<AnyCert>, Error> {
    read_each_named(paths, trust, cache).map_err(|error| CoreError::Recovery(error.to_string()).into())
}

fn find_in_folder(place: &Place, cache: Option<&Cache>) -> Result<Option<Vec<AnyCert>>, Error> {
    let Some(Listing { files, others }) = safe_file::list(place)? else { return Ok(None) };
    let (mut certs, mut count) = (Vec::new(), 0);
    for path in files {
        let file = place.at(path);
        if let Some(bytes) = safe_file::read_in_folder(&file, limits::KEY_FILE)? {
            let found = parse_by(cache, &bytes, &file.path)?;
            count += found.len();
            if count > limits::KEY_FILE_CERTIFICATES {
                return Err(too_many(&place.path));
            }
            any_cert::merge(&mut certs, found);
        }
    }
    if !certs.is_empty() {
        safe_file::check_above(place)?;
        return Ok(Some(certs));
    }
    for path in others {
        refuse_unread(&place.at(path))?;
    }
    match &place.root {
        Root::Store(store) if *store != place.path => Err(Error::KeyStore {
            path: place.path.clone(),
            // It may be where a store of the user's own is to be mounted.
            what: "the folder holds no certificate".into(),
            hint: "mount it; to have no certificate for a user, remove the user's folder".into(),
        }),
        _ => Ok(None),
    }
}

/// Refuses a file that is not read as a key file and yet may hold a certificate: not even a note of the user's may be
/// taken for nothing when it is one.
fn refuse_unread(file: &Place) -> Result<(), Error> {
    let refused = |what: &str| {
        let hint = "give it a name in .asc, .pgp or .pem, or move it elsewhere";
        Err(Error::KeyStore { path: file.path.clone(), what: what.into(), hint: hint.into() })
    };
    let Some(bytes) = safe_file::read_in_folder(file, limits::KEY_FILE)? else { return Ok(()) };
    if may_be_certificate(&bytes) {
        return refused("it looks like a certificate, and its name is not that of a key file");
    }
    Ok(())
}

/// Letters of base64 in a row that no note has.
const BASE64_LINE: usize = 60;

/// Whether the contents of a file may be a certificate, in whatever form: all but text without an armor and without lines
/// of base64.
fn may_be_certificate(bytes: &[u8]) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    std::str::from_utf8(bytes).map_or(true, |text| text.contains(['\0', '\u{feff}']))
        || memchr::memmem::find(bytes, b"-----BEGIN ").is_some()
        || bytes.split(|byte| !base64(byte)).any(|run| run.len() >= BASE64_LINE)
}

fn parse_by(cache: Option<&Cache>, bytes: &[u8], path: &Path) -> Result<Vec<AnyCert>, Error> {
    cache.map_or_else(|| parse(bytes, path), |cache| cache.parse(bytes, path))
}

/// Reads one or more certificates, OpenPGP's or S/MIME's, binary or armored, several armors one after the other included.
///
/// # Errors
/// [`Error::KeyStore`] when there is none, when one is broken or holds a secret key, and when there are more than
/// [`limits::KEY_FILE_CERTIFICATES`].
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<AnyCert>, Error> {
    let mut certs = Vec::new();
    let is_smime = bundle::seem_to_be_in(bytes);
    if is_smime {
        certs = any_cert::parse_smime(bytes, path)?;
        // What is no text behind one would not be looked at.
        if memchr::memmem::find(bytes, b"-----BEGIN ").is_some() && std::str::from_utf8(bytes).is_err() {
            return Err(Error::KeyStore {
                path: path.into(),
                what: "binary data stands beside a certificate in text".into(),
                hint: "export each certificate in one form".into(),
            });
        }
    }
    if !is_smime || memchr::memmem::find(bytes, BEGIN_OPENPGP).is_some() {
        certs.extend(parse_openpgp(bytes, path)?.into_iter().map(AnyCert::from));
    }
    if certs.len() > limits::KEY_FILE_CERTIFICATES { Err(too_many(path)) } else { Ok(certs) }
}

/// What the armor of OpenPGP's certificates begins with.
const BEGIN_OPENPGP: &[u8] = b"-----BEGIN PGP ";

/// What is asked for where there is none.
const A_CERTIFICATE: &str = "give a certificate: of OpenPGP (gpg --armor --export ADDRESS), or of S/MIME (PEM or DER; not a request, .csr)";

fn parse_openpgp(bytes: &[u8], path: &Path) -> Result<Vec<Cert>, Error> {
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
            .map_err(|error| failed(format!("no certificate: {error}"), A_CERTIFICATE))?
        {
            let cert = cert.map_err(|error| {
                failed(
                    format!("no valid certificate: {error}"),
                    "export the certificate again (gpg --armor --export ADDRESS); a message or a signature is none",
                )
            })?;
            if cert.is_tsk() {
                let hint = "give only the public key (gpg --armor --export ADDRESS), and treat the secret key as exposed";
                return Err(failed(format!("{}: it holds a secret key", cert.fingerprint()), hint));
            }
            certs.push(cert);
            if certs.len() > limits::KEY_FILE_CERTIFICATES {
                return Err(too_many(path));
            }
        }
    }
    if certs.is_empty() {
        return Err(failed("it holds no certificate".into(), A_CERTIFICATE));
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
    let mut starts: Vec<usize> = memchr::memmem::find_iter(bytes, BEGIN_OPENPGP).collect();
    if starts.is_empty() || bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return vec![bytes];
    }
    starts.push(bytes.len());
    starts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}
