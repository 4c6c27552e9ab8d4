//! Whether an S/MIME certificate is fit to seal to at a time, and why not: what [`crate::cert`] says of OpenPGP's.
//!
//! The certificate was pinned when it was enrolled; who issued it is not asked at a delivery, nor whether that one has revoked it,
//! beyond what is noted with it. That its key really encrypts is tried in [`crate::recipients`].

use std::time::SystemTime;

use der::asn1::ObjectIdentifier;
use der::oid::AssociatedOid as _;
use der::{Decode as _, Encode as _};
use x509_cert::TbsCertificate;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies, ExtendedKeyUsage, KeyUsage,
    SubjectAltName, SubjectKeyIdentifier,
};

use super::certificate::Certificate;
use super::names;
use super::recipient::PublicKey;
use crate::cert::{Fitness, Lapse, Unfit};
use crate::limits;

/// `emailProtection` and `anyExtendedKeyUsage` (RFC 5280, section 4.2.1.12).
pub(super) const FOR_MAIL: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4"), ObjectIdentifier::new_unwrap("2.5.29.37.0")];

/// Signatures that certificates may have: RSA (PKCS #1), ECDSA and EdDSA, with SHA-2.
const SIGNATURES: [&str; 10] = [
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
    "1.2.840.113549.1.1.14",
    "1.2.840.10045.4.3.1",
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
    "1.3.101.112",
    "1.3.101.113",
];

/// The names of weak ones.
const WEAK: [(&str, &str); 7] = [
    ("1.2.840.113549.1.1.2", "MD2"),
    ("1.2.840.113549.1.1.3", "MD4"),
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
    ("1.2.840.10040.4.3", "SHA-1"),
    ("1.3.14.3.2.29", "SHA-1"),
];

/// RSASSA-PSS, which names its hash in its parameters; SHA-1 where it does not.
const PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// The hashes that it may name: SHA-2.
const HASHES: [&str; 4] =
    ["2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.2", "2.16.840.1.101.3.4.2.3", "2.16.840.1.101.3.4.2.4"];

/// The names of weak ones.
const WEAK_HASHES: [(&str, &str); 4] = [
    ("1.2.840.113549.2.2", "MD2"),
    ("1.2.840.113549.2.4", "MD4"),
    ("1.2.840.113549.2.5", "MD5"),
    ("1.3.14.3.2.26", "SHA-1"),
];

/// What [`assess`] found out about a certificate.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// Whether mail may be sealed to it.
    pub fitness: Fitness,
    /// Its key; `None` where it is unfit.
    pub key: Option<PublicKey>,
    /// When it expires.
    pub expires: SystemTime,
}

/// Assesses `certificate` at the time `now`.
#[must_use]
pub fn assess(certificate: &Certificate, now: SystemTime) -> Assessment {
    let fields = certificate.fields();
    let expires = fields.validity.not_after.to_system_time();
    let (fitness, key) = match look_at(certificate, now) {
        Err(why) => (Fitness::Unfit(why), None),
        Ok(key) if certificate.revocation().is_some() => (Fitness::Lapsed(Lapse::Retired), Some(key)),
        Ok(key) if expires < now => (Fitness::Lapsed(Lapse::Expired), Some(key)),
        Ok(key) => (Fitness::Fit, Some(key)),
    };
    Assessment { fitness, key, expires }
}

fn look_at(certificate: &Certificate, now: SystemTime) -> Result<PublicKey, Unfit> {
    let fields = certificate.fields();
    // It counts whatever else is wrong.
    if certificate.revocation().is_some_and(|revocation| !revocation.is_soft()) {
        return Err(Unfit::Revoked);
    }
    look_at_form(certificate)?;
    if fields.validity.not_before.to_system_time() > now {
        return Err(Unfit::Future);
    }
    look_at_signature(certificate)?;
    if read::<BasicConstraints>(fields)?.is_some_and(|constraints| constraints.ca) {
        return Err(Unfit::Authority);
    }
    let key = PublicKey::of(fields)?;
    let usage = read::<KeyUsage>(fields)?.ok_or(Unfit::NoKeyUsage)?;
    let encrypts = if key.agrees() { usage.key_agreement() } else { usage.key_encipherment() };
    if !encrypts {
        return Err(Unfit::NoEncryptionKey);
    }
    let uses = read::<ExtendedKeyUsage>(fields)?;
    if uses.is_some_and(|ExtendedKeyUsage(uses)| !uses.iter().any(|one| FOR_MAIL.contains(one))) {
        return Err(Unfit::NotForMail);
    }
    Ok(key)
}

/// What no certificate may be like, whatever it says.
fn look_at_form(certificate: &Certificate) -> Result<(), Unfit> {
    let fields = certificate.fields();
    let serial = fields.serial_number.as_bytes();
    if serial.first().is_none_or(|first| *first >= 0x80) {
        return Err(Unfit::Form("its serial number is negative".into()));
    }
    // Each message bears it, and what is not ciphertext in a message is bounded.
    if fields.issuer.to_der().map_or(usize::MAX, |issuer| issuer.len()) > limits::CERTIFICATE_ISSUER {
        return Err(Unfit::Form(format!(
            "its issuer's name is longer than {} octets",
            limits::CERTIFICATE_ISSUER
        )));
    }
    names::demand_strings(&fields.issuer)
        .map_err(|kind| Unfit::Form(format!("its issuer's name is broken: a {kind} that is none")))?;
    // RFC 5280, section 4.1.1.2.
    if fields.signature != certificate.signed().signature_algorithm {
        return Err(Unfit::Form("it is broken: it names two algorithms for its signature".into()));
    }
    let known = [
        AuthorityKeyIdentifier::OID,
        BasicConstraints::OID,
        CertificatePolicies::OID,
        ExtendedKeyUsage::OID,
        KeyUsage::OID,
        SubjectAltName::OID,
        SubjectKeyIdentifier::OID,
    ];
    let extensions = fields.extensions.as_deref().unwrap_or_default();
    match extensions.iter().find(|one| one.critical && !known.contains(&one.extn_id)) {
        Some(unknown) => {
            Err(Unfit::Form(format!("it has a critical extension that is not known: {}", unknown.extn_id)))
        }
        None => Ok(()),
    }
}

fn look_at_signature(certificate: &Certificate) -> Result<(), Unfit> {
    let algorithm = &certificate.signed().signature_algorithm;
    if algorithm.oid == PSS {
        let parameters = algorithm.parameters.as_ref().and_then(|parameters| parameters.to_der().ok());
        let parameters = parameters.unwrap_or_default();
        let parameters = rsa::pkcs1::RsaPssParams::from_der(&parameters);
        let parameters = parameters.map_err(|error| Unfit::Form(format!("its signature: {error}")))?;
        return demand_strong(parameters.hash.oid, &WEAK_HASHES, &HASHES);
    }
    demand_strong(algorithm.oid, &WEAK, &SIGNATURES)
}

/// Demands that `identifier` is one of `strong`.
fn demand_strong(identifier: ObjectIdentifier, weak: &[(&str, &str)], strong: &[&str]) -> Result<(), Unfit> {
    let identifier = identifier.to_string();
    if let Some((_, name)) = weak.iter().find(|(weak, _)| *weak == identifier) {
        return Err(Unfit::Policy(format!("it is signed over {name}")));
    }
    if strong.contains(&&*identifier) {
        Ok(())
    } else {
        Err(Unfit::Policy(format!("it is signed with an algorithm that is not known: {identifier}")))
    }
}

/// The extension of this kind, which may be there once.
fn read<'a, T: der::Decode<'a> + der::oid::AssociatedOid>(
    fields: &'a TbsCertificate,
) -> Result<Option<T>, Unfit> {
    let extension = fields.get::<T>().map_err(|error| Unfit::Form(format!("an extension: {error}")))?;
    Ok(extension.map(|(_, value)| value))
}
