//! A recovery certificate: as it waits for its rehearsal, as it is used, and what its file tells of its shares.
//!
//! While it waits it lies in a form that no delivery reads: a configuration that names the file has every delivery deferred. The
//! certificate's User ID says how many shares there are; the armor's comment, when somebody rehearsed what with which of them.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use data_encoding::HEXUPPER;
use mailseal_core::error::Error as CoreError;
use sequoia_openpgp::Cert;
use sequoia_openpgp::armor::{Kind, Reader, ReaderMode, Writer};
use sequoia_openpgp::serialize::{Serialize as _, SerializeInto as _};
use serde::{Deserialize, Serialize};

use crate::console::date::day;
use crate::error::Error;
use crate::keystore;
use crate::keystore::any_cert::AnyCert;
use crate::limits;

/// The name of the file in which it waits.
pub const PENDING: &str = "recovery.pending";

/// The name of the file that may be used.
pub const USABLE: &str = "recovery.pgp";

/// What the User ID begins with.
const NAME: &str = "mailseal recovery, ";

/// What the comment begins with.
const REHEARSED: &str = "rehearsed on ";

/// The User ID of the certificate of a key, `threshold` of whose `shares` recover it.
pub fn name(threshold: u8, shares: u8) -> String {
    format!("{NAME}{threshold} of {shares} shares")
}

/// How a certificate's key is divided, as `3 of 5 shares`; `None` where `mailseal keys recovery new` did not make it.
#[must_use]
pub fn division(cert: &AnyCert) -> Option<String> {
    let names = cert.openpgp()?.userids().map(|it| String::from_utf8_lossy(it.userid().value()).into_owned());
    names.filter_map(|name| name.strip_prefix(NAME).map(str::to_owned)).next()
}

/// When, and with which shares, the recovery was rehearsed for which this is the file of the certificate: `2026-11-28 with
/// shares 1, 2, 3`. `None` where that did not happen.
#[must_use]
pub fn rehearsal(file: &[u8]) -> Option<String> {
    let mut reader = Reader::from_bytes(file, ReaderMode::Tolerant(Some(Kind::PublicKey)));
    let headers = reader.headers().ok()?;
    let comments = headers.iter().filter(|(key, _)| key == "Comment");
    comments.filter_map(|(_, value)| value.strip_prefix(REHEARSED).map(str::to_owned)).next()
}

/// A certificate that waits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    /// For people who open the file.
    note: String,
    /// The certificate, in hexadecimal digits.
    certificate: String,
}

/// The file of a certificate that waits.
///
/// # Errors
/// [`CoreError::OpenPgp`].
pub fn pending(cert: &Cert) -> Result<Vec<u8>, Error> {
    let certificate = HEXUPPER.encode(&cert.to_vec().map_err(CoreError::OpenPgp)?);
    let note = format!(
        "the recovery certificate {:X}: mailseal keys recovery test makes {USABLE} of it",
        cert.fingerprint()
    );
    let mut file = serde_json::to_vec_pretty(&Pending { note, certificate })
        .map_err(|error| Error::Output(error.into()))?;
    file.push(b'\n');
    Ok(file)
}

/// The file of a certificate that may be used, rehearsed at that time with the shares of these numbers.
///
/// # Errors
/// [`CoreError::OpenPgp`], [`CoreError::Write`].
pub fn usable(cert: &Cert, now: SystemTime, numbers: &[u8]) -> Result<Vec<u8>, Error> {
    let numbers = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let comment = format!("{REHEARSED}{} with shares {numbers}", day(Some(now)));
    let headers = [("Comment", comment)];
    let mut armor = Writer::with_headers(Vec::new(), Kind::PublicKey, headers).map_err(CoreError::Write)?;
    cert.serialize(&mut armor).map_err(CoreError::OpenPgp)?;
    Ok(armor.finalize().map_err(CoreError::Write)?)
}

/// Reads either file: the certificate, and where it is to lie when it may be used.
///
/// # Errors
/// [`Error::Shares`] where the file cannot be read, or its certificate was not made by `mailseal keys recovery new`.
pub fn read(path: &Path) -> Result<(Cert, PathBuf), Error> {
    let failed = |what: String, hint: &str| Error::Shares {
        what: format!("recovery certificate {}: {what}", path.display()),
        hint: hint.into(),
    };
    let another =
        "name the recovery.pending that `mailseal keys recovery new` wrote, or the recovery.pgp made of it";
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path);
    let read = opened.and_then(|file| file.take(limits::KEY_FILE).read_to_end(&mut bytes));
    read.map_err(|error| failed(error.to_string(), another))?;
    let pending: Option<Pending> = serde_json::from_slice(&bytes).ok();
    let (bytes, target) = match pending {
        Some(pending) => {
            let bytes = HEXUPPER.decode(pending.certificate.as_bytes());
            (bytes.map_err(|error| failed(error.to_string(), another))?, path.with_file_name(USABLE))
        }
        None => (bytes, path.to_owned()),
    };
    let certs = keystore::parse(&bytes, path).map_err(|error| match error {
        Error::KeyStore { what, .. } => failed(what, another),
        other => other,
    })?;
    match &*certs {
        [cert @ AnyCert::OpenPgp(openpgp)] if division(cert).is_some() => Ok((Cert::clone(openpgp), target)),
        _ => Err(failed("mailseal did not divide the key of what it holds".into(), another)),
    }
}

#[cfg(test)]
mod tests {
    use testing::made;

    use super::*;
    use crate::keys::recovery::join::key;
    use crate::keys::recovery::secret::Secret;

    fn cert() -> Cert {
        key(&Secret::new(SystemTime::now()).unwrap(), 3, 5).unwrap().strip_secret_key_material()
    }

    #[test]
    fn what_waits_is_no_certificate_for_a_delivery() {
        let (dir, cert) = (tempfile::tempdir().unwrap(), cert());
        let (path, file) = (dir.path().join(PENDING), pending(&cert).unwrap());
        assert!(matches!(keystore::parse(&file, &path), Err(Error::KeyStore { .. })));
        std::fs::write(&path, file).unwrap();
        let (read, target) = read(&path).unwrap();
        assert_eq!((read, target), (cert, dir.path().join(USABLE)));
    }

    #[test]
    fn the_file_tells_of_shares_and_rehearsal() {
        let (dir, cert) = (tempfile::tempdir().unwrap(), cert());
        let (path, now) = (dir.path().join("mine.pgp"), made::birth());
        let file = usable(&cert, now, &[1, 4, 5]).unwrap();
        assert_eq!(rehearsal(&file), Some(format!("{} with shares 1, 4, 5", day(Some(now)))));
        let parsed = keystore::parse(&file, &path).unwrap();
        assert_eq!(division(&parsed[0]), Some("3 of 5 shares".into()));
        std::fs::write(&path, file).unwrap();
        assert_eq!(read(&path).unwrap(), (cert.clone(), path));

        assert_eq!(rehearsal(&made::armored(&cert)), None);
        assert_eq!(rehearsal(&made::public(&cert)), None);
        assert_eq!(rehearsal(b""), None);
        assert_eq!(division(&made::cert("Alice").strip_secret_key_material().into()), None);
    }

    #[test]
    fn other_certificates_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let others = [
            made::armored(&made::cert("Alice <alice@example.org>")),
            [made::armored(&cert()), made::armored(&cert())].concat(),
            b"{\"note\": \"\", \"certificate\": \"0\"}".to_vec(),
            b"nothing".to_vec(),
        ];
        for bytes in others {
            std::fs::write(&file, bytes).unwrap();
            assert!(matches!(read(&file), Err(Error::Shares { .. })));
        }
        assert!(matches!(read(&dir.path().join("gone")), Err(Error::Shares { .. })));
    }
}
