//! Edge: Reads the S/MIME certificates of authorities that the configuration trusts, and lists of what they have revoked.

use std::path::Path;

use mailseal_core::smime::bundle;
use mailseal_core::smime::chain::Authorities;

use super::bytes_of_named;
use super::trust::Trust;
use crate::config::Keys;
use crate::error::Error;

/// The authorities that `smime-ca` names, in all its files.
///
/// # Errors
/// [`Error::KeyStore`] where a file cannot be read or others could have written it, and for a certificate that is none of an
/// authority's.
pub fn trusted(keys: &Keys, trust: &Trust) -> Result<Authorities, Error> {
    let mut trusted = Authorities::default();
    for path in &keys.smime_ca {
        let failed = |what| refused(path, what);
        let found = bundle::read(&bytes_of_named(path, trust)?).map_err(|error| failed(error.to_string()))?;
        let found = Authorities::new(found).map_err(|(certificate, why)| {
            failed(format!("the certificate of {} {why}", certificate.subject()))
        })?;
        trusted.extend(found);
    }
    Ok(trusted)
}

/// What the file holds that `smime-crl` names.
///
/// # Errors
/// [`Error::KeyStore`] where it cannot be read, is too long, or others could have written it.
pub fn list(path: &Path, trust: &Trust) -> Result<Vec<u8>, Error> {
    bytes_of_named(path, trust)
}

fn refused(path: &Path, what: String) -> Error {
    Error::KeyStore {
        path: path.into(),
        what,
        hint: "leave only certificates of authorities in what `smime-ca` names, as PEM, DER or PKCS #7"
            .into(),
    }
}
