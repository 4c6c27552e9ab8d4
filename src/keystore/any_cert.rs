//! A certificate of either kind.
//!
//! What is decided by the kind is decided here and in [`crate::keys::addressee::choose`]; the rest treats all alike.

use std::path::Path;
use std::time::SystemTime;

use mailseal_core::cert::{self, EncryptionKey, Fitness};
use mailseal_core::error::Error as CoreError;
use mailseal_core::smime::bundle;
use mailseal_core::smime::certificate::{Certificate, Unreadable};
use mailseal_core::smime::fitness;
use sequoia_openpgp::Cert;
use sequoia_openpgp::armor::{Kind, Writer};
use sequoia_openpgp::serialize::Serialize as _;

use crate::config::Format;
use crate::error::Error;

/// A certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyCert {
    /// OpenPGP's.
    OpenPgp(Box<Cert>),
    /// S/MIME's.
    Smime(Box<Certificate>),
}

/// What a certificate is worth.
#[derive(Clone, Debug)]
pub struct Worth {
    /// Whether mail may be sealed to it.
    pub fitness: Fitness,
    /// When the last of its keys expires, or has expired or been retired; `None` is never.
    pub expires: Option<SystemTime>,
    /// What its keys are, for people.
    pub algorithms: Vec<String>,
}

impl From<Cert> for AnyCert {
    fn from(cert: Cert) -> Self {
        Self::OpenPgp(Box::new(cert))
    }
}

impl AnyCert {
    /// Its fingerprint, in hexadecimal digits: of S/MIME's, SHA-256.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match self {
            Self::OpenPgp(cert) => cert.fingerprint().to_hex(),
            Self::Smime(certificate) => certificate.fingerprint(),
        }
    }

    /// With what mail is sealed to it.
    #[must_use]
    pub fn format(&self) -> Format {
        match self {
            Self::OpenPgp(_) => Format::OpenPgp,
            Self::Smime(_) => Format::Smime,
        }
    }

    /// The certificate, where it is OpenPGP's.
    #[must_use]
    pub fn openpgp(&self) -> Option<&Cert> {
        match self {
            Self::OpenPgp(cert) => Some(&**cert),
            Self::Smime(_) => None,
        }
    }

    /// The certificate, where it is S/MIME's.
    #[must_use]
    pub fn smime(&self) -> Option<&Certificate> {
        match self {
            Self::OpenPgp(_) => None,
            Self::Smime(certificate) => Some(&**certificate),
        }
    }

    /// What it is worth at the time `now`.
    #[must_use]
    pub fn assess(&self, now: SystemTime) -> Worth {
        match self {
            Self::OpenPgp(cert) => {
                let assessment = cert::assess(cert, now);
                Worth {
                    fitness: assessment.fitness,
                    expires: assessment.expires,
                    algorithms: assessment.keys.iter().map(algorithm).collect(),
                }
            }
            Self::Smime(certificate) => {
                let assessment = fitness::assess(certificate, now);
                Worth {
                    fitness: assessment.fitness,
                    expires: Some(assessment.expires),
                    algorithms: assessment.key.iter().map(|key| format!("S/MIME {}", key.name())).collect(),
                }
            }
        }
    }

    /// Whom it names: User IDs, or the subject and its addresses. They come from whoever made it.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::OpenPgp(cert) => cert
                .userids()
                .map(|user_id| String::from_utf8_lossy(user_id.userid().value()).into_owned())
                .collect(),
            Self::Smime(certificate) => {
                std::iter::once(certificate.subject()).chain(certificate.addresses()).collect()
            }
        }
    }
}

fn algorithm(key: &EncryptionKey) -> String {
    match key.mpis().bits() {
        Some(bits) => format!("{} {bits}", key.pk_algo()),
        None => key.pk_algo().to_string(),
    }
}

/// Which of `certs` are used, since all have to be of one kind: those that `format` prefers, or the others where they alone are
/// there, or alone have one that is fit at the time `now`. Nothing is assessed where there is one kind only.
#[must_use]
pub fn format_used(certs: &[AnyCert], format: Format, now: SystemTime) -> Format {
    let other = format.other();
    let of = |format| certs.iter().filter(move |cert| cert.format() == format);
    let has_fit = |format| of(format).any(|cert| cert.assess(now).fitness == Fitness::Fit);
    if of(other).next().is_none() {
        format
    } else if of(format).next().is_none() || (!has_fit(format) && has_fit(other)) {
        other
    } else {
        format
    }
}

/// Those of `certs` that are used ([`format_used`]).
#[must_use]
pub fn of_one_kind(mut certs: Vec<AnyCert>, format: Format, now: SystemTime) -> Vec<AnyCert> {
    let used = format_used(&certs, format, now);
    certs.retain(|cert| cert.format() == used);
    certs
}

/// Adds `more` to `certs`, copies of one certificate made one: only one of them may know of its revocation.
pub fn merge(certs: &mut Vec<AnyCert>, more: impl IntoIterator<Item = AnyCert>) {
    for cert in more {
        let same = certs.iter_mut().find(|other| other.fingerprint() == cert.fingerprint());
        match (same, cert) {
            (Some(AnyCert::OpenPgp(other)), AnyCert::OpenPgp(cert)) => {
                // The same fingerprint is all that merging asks for.
                **other = (**other).clone().merge_public(*cert).unwrap_or_else(|_| (**other).clone());
            }
            (Some(AnyCert::Smime(other)), AnyCert::Smime(cert)) => {
                cert.revocation().into_iter().for_each(|it| other.revoke(it));
            }
            (Some(_), _) => {}
            (None, cert) => certs.push(cert),
        }
    }
}

/// Reads the S/MIME certificates in `bytes`, as the file `path` holds them.
///
/// # Errors
/// [`Error::KeyStore`] where there is none, one is broken, or a private key is among them.
pub(super) fn parse_smime(bytes: &[u8], path: &Path) -> Result<Vec<AnyCert>, Error> {
    let found = bundle::read(bytes).map_err(|error| Error::KeyStore {
        path: path.into(),
        what: error.to_string(),
        hint: match error {
            Unreadable::PrivateKey => {
                "put only the certificate there (openssl x509 -in FILE), and treat the private key as exposed"
            }
            Unreadable::Encrypted => "export the certificate alone: openssl pkcs12 -in FILE -nokeys -clcerts",
            Unreadable::TooMany => "leave only the certificates of one user there",
            _ => "put an S/MIME certificate there, as PEM, DER or PKCS #7",
        }
        .into(),
    })?;
    Ok(found.into_iter().map(|found| AnyCert::Smime(Box::new(found))).collect())
}

/// The certificates as a key file, one after the other: OpenPGP's in binary form; where there are S/MIME's, as text, those
/// first.
///
/// # Errors
/// [`CoreError::OpenPgp`].
pub fn serialize(certs: &[AnyCert]) -> Result<Vec<u8>, Error> {
    let is_text = certs.iter().any(|cert| cert.smime().is_some());
    let mut bytes = Vec::new();
    for certificate in certs.iter().filter_map(AnyCert::smime) {
        bytes.extend(certificate.to_pem().into_bytes());
    }
    for cert in certs.iter().filter_map(AnyCert::openpgp) {
        if is_text {
            let mut armor = Writer::new(&mut bytes, Kind::PublicKey).map_err(CoreError::Write)?;
            cert.serialize(&mut armor).map_err(CoreError::OpenPgp)?;
            armor.finalize().map_err(CoreError::Write)?;
        } else {
            cert.serialize(&mut bytes).map_err(CoreError::OpenPgp)?;
        }
    }
    Ok(bytes)
}

/// Certificates that another process has serialized each for itself.
///
/// # Errors
/// Those of [`super::parse`].
pub fn parse_each(serialized: &[Vec<u8>]) -> Result<Vec<AnyCert>, Error> {
    let mut certs = Vec::new();
    for bytes in serialized {
        certs.extend(super::parse(bytes, Path::new("-"))?);
    }
    Ok(certs)
}

#[cfg(test)]
mod tests {
    use sequoia_openpgp::Profile;
    use sequoia_openpgp::cert::CipherSuite;
    use sequoia_openpgp::types::PublicKeyAlgorithm;
    use testing::{made, smime};

    use super::*;

    fn fixture(name: &str) -> Vec<AnyCert> {
        parse_smime(&std::fs::read(smime::file(name)).unwrap(), Path::new(name)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_whatever_the_kinds() {
        let openpgp: Vec<AnyCert> =
            ["Alice", "Bob"].map(|name| made::cert(name).strip_secret_key_material().into()).to_vec();
        let smime = fixture("two.der.p7b");
        for certs in
            [openpgp.clone(), smime.clone(), [&smime[..1], &openpgp].concat(), [smime, openpgp].concat()]
        {
            let bytes = serialize(&certs).unwrap();
            assert_eq!(crate::keystore::parse(&bytes, Path::new("x")).unwrap(), certs);
        }
    }

    #[test]
    fn algorithms_are_named_with_their_size_where_they_have_one() {
        let algorithms =
            |cert: Cert| AnyCert::from(cert.strip_secret_key_material()).assess(SystemTime::now()).algorithms;
        let rsa = made::of(CipherSuite::RSA2k, Profile::RFC4880, "Alice");
        assert_eq!(algorithms(rsa), [format!("{} 2048", PublicKeyAlgorithm::RSAEncryptSign)]);
        let ml_kem = PublicKeyAlgorithm::MLKEM768_X25519.to_string();
        assert!(algorithms(made::ml_kem_v4("Alice")).contains(&ml_kem));
    }

    #[test]
    fn whom_a_certificate_names_is_said() {
        let alice = AnyCert::from(made::with_user_id(made::cert("Alice"), "alice@example.org"));
        assert_eq!(alice.names(), ["Alice", "alice@example.org"]);
        let [smime] = &fixture("rsa.pem")[..] else { panic!() };
        let names = smime.names();
        assert!(names.len() > 1 && names.iter().skip(1).all(|name| name.contains('@')), "{names:?}");
    }

    #[test]
    fn one_kind_is_used() {
        let now = SystemTime::now();
        let kept = |certs: &[&AnyCert], format| {
            let certs: Vec<AnyCert> = certs.iter().map(|it| (*it).clone()).collect();
            of_one_kind(certs, format, now)
        };
        let openpgp = AnyCert::from(made::cert("Alice").strip_secret_key_material());
        let expired = AnyCert::from(made::valid_for("Alice", made::DAY).strip_secret_key_material());
        let [smime] = &fixture("rsa.pem")[..] else { panic!() };
        for (certs, format, expected) in [
            (&[&openpgp, smime][..], Format::OpenPgp, &openpgp),
            (&[smime, &openpgp], Format::OpenPgp, &openpgp),
            (&[&openpgp, smime], Format::Smime, smime),
            (&[&openpgp], Format::Smime, &openpgp),
            (&[smime], Format::OpenPgp, smime),
            (&[&expired, smime], Format::OpenPgp, smime),
            (&[&expired], Format::Smime, &expired),
        ] {
            assert_eq!(kept(certs, format), std::slice::from_ref(expected), "{certs:?} {format:?}");
        }
        assert!(of_one_kind(Vec::new(), Format::OpenPgp, now).is_empty());
    }

    #[test]
    fn copies_become_one() {
        let alice = AnyCert::from(made::cert("Alice").strip_secret_key_material());
        let [rsa] = &fixture("rsa.pem")[..] else { panic!() };
        let mut certs = vec![alice.clone(), rsa.clone()];
        merge(&mut certs, [rsa.clone(), alice.clone()]);
        assert_eq!(certs, [alice, rsa.clone()]);
    }

    #[test]
    fn each_refusal_says_what_helps() {
        for (name, help) in [
            ("both.pem", "treat the private key as exposed"),
            ("certificate.locked.p12", "-nokeys"),
            ("rsa.p12", "treat the private key as exposed"),
        ] {
            let error = parse_smime(&std::fs::read(smime::file(name)).unwrap(), Path::new(name)).unwrap_err();
            assert!(error.hint().contains(help), "{name}: {} {}", error, error.hint());
        }
    }
}
