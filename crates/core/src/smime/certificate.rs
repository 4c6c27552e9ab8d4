//! An X.509 certificate, as far as sealing needs it (RFC 5280).

use cms::cert::IssuerAndSerialNumber;
use der::asn1::{ObjectIdentifier, Utf8StringRef};
use der::{Decode as _, Encode as _};
use sha2::{Digest as _, Sha256};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::crl::Revocation;
use super::{names, pem, trusted};
use crate::limits;

/// `emailAddress` in a name (RFC 2985, section 5.2.1).
const EMAIL_ADDRESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1");

/// `SmtpUTF8Mailbox` among the alternative names (RFC 9598, section 3).
const SMTP_UTF8_MAILBOX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.9");

/// `smimeCapabilities` (RFC 4262), and what it lists for AES-256-GCM (RFC 5084).
const CAPABILITIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.15");
const READS_GCM: ObjectIdentifier = super::enveloped::AES256_GCM;

/// Octets of a digest that identify a certificate in the log, as those of an OpenPGP key id do.
const ID: usize = 8;

/// A certificate that could be read. Whether mail may be sealed to it, [`super::fitness`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    fields: x509_cert::Certificate,
    /// What is known of its revocation, wherever from.
    revocation: Option<Revocation>,
}

/// Why a certificate, or a file with certificates, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// A certificate is longer than [`limits::CERTIFICATE`].
    #[error("a certificate has {0} bytes, and may have {most}", most = limits::CERTIFICATE)]
    TooLong(usize),
    /// There are more than [`limits::CERTIFICATES`].
    #[error("it holds more than {most} certificates", most = limits::CERTIFICATES)]
    TooMany,
    /// It holds a private key: with it whoever reads the file reads the mail.
    #[error("it holds a private key")]
    PrivateKey,
    /// It is a PKCS #12 file whose content is encrypted: a private key may be in it.
    #[error("its content is encrypted, and may hold a private key")]
    Encrypted,
    /// There is no certificate in it.
    #[error("it holds no certificate")]
    Nothing,
    /// It is broken; the text says where.
    #[error("it is broken: {0}")]
    Broken(String),
}

impl From<der::Error> for Unreadable {
    fn from(error: der::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// [`Unreadable`] where it is none, or not encoded as DER asks.
    pub fn from_der(octets: &[u8]) -> Result<Self, Unreadable> {
        if octets.len() > limits::CERTIFICATE {
            return Err(Unreadable::TooLong(octets.len()));
        }
        let fields = x509_cert::Certificate::from_der(octets)?;
        let certificate = Self { der: octets.to_vec(), fields, revocation: None };
        // Readers compare issuer and serial number octet by octet.
        let id = certificate.issuer_and_serial_number();
        for part in [id.issuer.to_der()?, id.serial_number.to_der()?] {
            if memchr::memmem::find(octets, &part).is_none() {
                return Err(Unreadable::Broken("its issuer is not encoded as DER asks".into()));
            }
        }
        Ok(certificate)
    }

    /// The certificate in DER, as it was read.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Why its authority has revoked it, as far as is known here; `None` where nothing is.
    #[must_use]
    pub fn revocation(&self) -> Option<Revocation> {
        self.revocation
    }

    /// Notes that its authority has revoked it. What is worse than what was known counts.
    pub fn revoke(&mut self, revocation: Revocation) {
        self.revocation = Some(self.revocation.map_or(revocation, |known| known.worse(revocation)));
    }

    /// It and what is known of it, as text in PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let marked = self.revocation.and_then(|it| trusted::write(self, it).ok());
        let label = if marked.is_some() { "TRUSTED CERTIFICATE" } else { "CERTIFICATE" };
        pem::write(label, marked.as_deref().unwrap_or(&self.der))
    }

    /// The fields of the certificate.
    pub(crate) fn fields(&self) -> &x509_cert::TbsCertificate {
        &self.fields.tbs_certificate
    }

    /// The fields, and what its issuer signed them with.
    pub(crate) fn signed(&self) -> &x509_cert::Certificate {
        &self.fields
    }

    /// SHA-256 of the certificate, in hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hexadecimal(&Sha256::digest(&self.der))
    }

    /// What the log calls it, 16 hexadecimal digits: of a message no more can be told than issuer and serial number, of which
    /// this is a digest.
    #[must_use]
    pub fn id(&self) -> String {
        id(&self.issuer_and_serial_number())
    }

    /// Its subject, for people. It comes from whoever made the certificate.
    #[must_use]
    pub fn subject(&self) -> String {
        self.fields().subject.to_string()
    }

    /// Its issuer, for people.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.fields().issuer.to_string()
    }

    /// Its serial number, in hexadecimal digits.
    #[must_use]
    pub fn serial_number(&self) -> String {
        hexadecimal(self.fields().serial_number.as_bytes())
    }

    /// What messages call it.
    pub(crate) fn issuer_and_serial_number(&self) -> IssuerAndSerialNumber {
        IssuerAndSerialNumber {
            issuer: self.fields().issuer.clone(),
            serial_number: self.fields().serial_number.clone(),
        }
    }

    /// By what readers find what is for it in a message: issuer and serial number, where two that some readers hold for the same are
    /// the same.
    pub(crate) fn found_by(&self) -> (names::Compared, &[u8]) {
        (names::compared(&self.fields().issuer), self.fields().serial_number.as_bytes())
    }

    /// The mail addresses it is for: those among its alternative names, and those in its subject.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let names = self.fields().get::<SubjectAltName>().ok().flatten();
        let names = names.map(|(_, SubjectAltName(names))| names).unwrap_or_default();
        let alternative = names.iter().filter_map(|name| match name {
            GeneralName::Rfc822Name(address) => Some(address.to_string()),
            GeneralName::OtherName(other) if other.type_id == SMTP_UTF8_MAILBOX => {
                let text: Utf8StringRef<'_> = other.value.decode_as().ok()?;
                Some(text.to_string())
            }
            _ => None,
        });
        let parts = self.fields().subject.0.iter().flat_map(|part| part.0.iter());
        let in_subject = parts.filter(|part| part.oid == EMAIL_ADDRESS);
        let in_subject = in_subject.filter_map(|part| String::from_utf8(part.value.value().to_vec()).ok());
        let mut addresses: Vec<String> = alternative.chain(in_subject).collect();
        addresses.dedup_by(|one, other| is_same_address(one, other));
        addresses
    }

    /// The octets of its public key: RSA's numbers (PKCS #1), or a point on a curve (SEC 1); `None` where they are no whole octets.
    #[must_use]
    pub fn public_key(&self) -> Option<&[u8]> {
        self.fields().subject_public_key_info.subject_public_key.as_bytes()
    }

    /// Whether it says that its owner reads AES-256-GCM. What cannot be read says nothing.
    #[must_use]
    pub fn reads_gcm(&self) -> bool {
        let extensions = self.fields().extensions.as_deref().unwrap_or_default();
        let mut capabilities = extensions.iter().filter(|extension| extension.extn_id == CAPABILITIES);
        let (Some(capabilities), None) = (capabilities.next(), capabilities.next()) else { return false };
        // Each is written as an algorithm with its parameters is (RFC 8551, section 2.5.2).
        let listed = Vec::<AlgorithmIdentifierOwned>::from_der(capabilities.extn_value.as_bytes());
        listed.is_ok_and(|listed| listed.iter().any(|capability| capability.oid == READS_GCM))
    }

    /// Whether it is for this mail address. Case does not count, as it does not with OpenPGP.
    #[must_use]
    pub fn is_for(&self, address: &str) -> bool {
        self.addresses().iter().any(|own| is_same_address(own, address))
    }
}

/// What the log calls a certificate that messages call so.
pub(crate) fn id(name: &IssuerAndSerialNumber) -> String {
    // What was decoded can be encoded.
    let encoded = name.to_der().unwrap_or_default();
    hexadecimal(&Sha256::digest(encoded)[..ID])
}

fn is_same_address(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}
