//! A certificate with what its holder thinks of it: openssl's `TRUSTED CERTIFICATE`, in which `openssl x509 -addreject` notes for what
//! it is not to be used. A certificate that its authority has revoked is kept so.

use der::asn1::{Any, ObjectIdentifier, OctetString, Utf8StringRef};
use der::{Decode as _, Encode as _, Reader as _, Sequence, SliceReader};

use super::certificate::{Certificate, Unreadable};
use super::crl::Revocation;
use super::fitness::FOR_MAIL;

/// What stands before the name of the reason, where the holder's name for a certificate would be.
const REVOKED: &str = "revoked: ";

/// openssl's `X509_CERT_AUX`.
#[derive(Sequence)]
struct Aux<'a> {
    #[asn1(optional = "true")]
    trust: Option<Vec<ObjectIdentifier>>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    reject: Option<Vec<ObjectIdentifier>>,
    #[asn1(optional = "true")]
    alias: Option<Utf8StringRef<'a>>,
    #[asn1(optional = "true")]
    key_id: Option<OctetString>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    other: Option<Vec<Any>>,
}

/// Reads one: revoked where it is not to be used for mail.
///
/// # Errors
/// [`Unreadable`].
pub fn read(octets: &[u8]) -> Result<Certificate, Unreadable> {
    let mut reader = SliceReader::new(octets)?;
    let mut certificate = Certificate::from_der(reader.tlv_bytes()?)?;
    if reader.is_finished() {
        return Ok(certificate);
    }
    let aux = Aux::decode(&mut reader)?;
    reader.finish(())?;
    if aux.reject.is_some_and(|uses| uses.iter().any(|one| FOR_MAIL.contains(one))) {
        let reason = aux.alias.map(|alias| alias.as_str().strip_prefix(REVOKED).unwrap_or_default());
        certificate.revoke(Revocation::named(reason.unwrap_or_default()));
    }
    Ok(certificate)
}

/// The octets of one for `certificate`, which was revoked so.
///
/// # Errors
/// None: what is written is short.
pub fn write(certificate: &Certificate, revocation: Revocation) -> Result<Vec<u8>, der::Error> {
    let alias = format!("{REVOKED}{}", revocation.name());
    let aux = Aux {
        trust: None,
        reject: Some(FOR_MAIL.to_vec()),
        alias: Some(Utf8StringRef::new(&alias)?),
        key_id: None,
        other: None,
    };
    Ok([certificate.der(), &aux.to_der()?].concat())
}
