//! Lists of revoked certificates that authorities sign (RFC 5280, section 5), and what they say of a certificate.
//!
//! Only what a list revokes counts: that a certificate is on none proves no more than that. So a list for a part of the certificates
//! (by place or by reason) is as good as any for what is on it.

use std::time::SystemTime;

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use x509_cert::crl::{CertificateList, RevokedCert};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::CrlDistributionPoints;
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlReason, KeyUsage, SubjectKeyIdentifier};

use super::certificate::Certificate;
use super::{names, pem, signature};
use crate::limits;

/// Extensions of lists and of what is on them (RFC 5280, sections 5.2 and 5.3).
const AUTHORITY_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const DELTA: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.27");
const NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const PART: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
const REASON: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");

/// Why a certificate was revoked, with the names that RFC 5280, section 5.3.1, has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation(CrlReason);

/// All reasons, by name.
const REASONS: [(&str, CrlReason); 9] = [
    ("unspecified", CrlReason::Unspecified),
    ("keyCompromise", CrlReason::KeyCompromise),
    ("cACompromise", CrlReason::CaCompromise),
    ("affiliationChanged", CrlReason::AffiliationChanged),
    ("superseded", CrlReason::Superseded),
    ("cessationOfOperation", CrlReason::CessationOfOperation),
    ("certificateHold", CrlReason::CertificateHold),
    ("privilegeWithdrawn", CrlReason::PrivilegeWithdrawn),
    ("aACompromise", CrlReason::AaCompromise),
];

impl Revocation {
    /// The reason of this name; `unspecified` for any other.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let found = REASONS.iter().find(|(known, _)| *known == name);
        Self(found.map_or(CrlReason::Unspecified, |(_, reason)| *reason))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        REASONS.iter().find(|(_, reason)| *reason == self.0).map_or("unspecified", |(name, _)| name)
    }

    /// Whether what was sealed before is as safe as it was: the certificate went out of use, and nobody got at the key.
    #[must_use]
    pub fn is_soft(self) -> bool {
        use CrlReason::{AffiliationChanged, CessationOfOperation, Superseded};
        matches!(self.0, AffiliationChanged | CessationOfOperation | Superseded)
    }

    /// The worse one of two: what is in danger counts more than what is out of use, and what is final more than what is on hold.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let severity = |it: Self| (!it.is_soft(), it.0 != CrlReason::CertificateHold);
        if severity(other) > severity(self) { other } else { self }
    }

    /// What that of an authority is for whatever it has issued.
    #[must_use]
    pub fn of_issued(self) -> Self {
        if self.is_soft() { self } else { Self(CrlReason::CaCompromise) }
    }
}

/// A list that could be read. Whether it is to be believed, [`List::check`] says.
#[derive(Clone, Debug)]
pub struct List {
    fields: CertificateList,
    /// What is signed, as it was read.
    signed: Vec<u8>,
}

/// Why a list says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Useless {
    /// It is longer than [`limits::REVOCATIONS`].
    #[error("it has {0} bytes, and may have {most}", most = limits::REVOCATIONS)]
    TooLong(usize),
    /// There is no list in it.
    #[error("it holds no revocation list")]
    Nothing,
    /// It is broken; the text says where.
    #[error("it is broken: {0}")]
    Broken(String),
    /// Its authority has not signed it so.
    #[error("it is not signed by {0}")]
    Signature(String),
    /// Its authority may not sign lists.
    #[error("{0} may not sign revocation lists (keyUsage)")]
    Usage(String),
    /// It was made after the present time.
    #[error("it was made in the future")]
    Future,
    /// A newer one was due.
    #[error("it has expired: a newer one was due")]
    Expired,
    /// It does not say until when it holds.
    #[error("it does not say when the next one is due")]
    Endless,
    /// It is of a kind that is not taken; the text says which.
    #[error("it is {0}, which is not taken")]
    Kind(&'static str),
    /// It has a critical extension that is not known.
    #[error("it has a critical extension that is not known: {0}")]
    Critical(String),
}

impl From<der::Error> for Useless {
    fn from(error: der::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl List {
    /// Reads the lists in a file with this content: DER, or PEM.
    ///
    /// # Errors
    /// [`Useless`] where there is none, and where one cannot be read.
    pub fn read(octets: &[u8]) -> Result<Vec<Self>, Useless> {
        if octets.len() > limits::REVOCATIONS {
            return Err(Useless::TooLong(octets.len()));
        }
        let blocks = pem::blocks(octets).map_err(|error| Useless::Broken(error.to_string()))?;
        if blocks.is_empty() {
            return if octets.starts_with(&[0x30]) {
                Ok(vec![Self::from_der(octets)?])
            } else {
                Err(Useless::Nothing)
            };
        }
        let lists = blocks.iter().filter(|block| block.label == b"X509 CRL");
        let lists: Vec<_> = lists.map(|block| Self::from_der(&block.octets)).collect::<Result<_, _>>()?;
        if lists.is_empty() { Err(Useless::Nothing) } else { Ok(lists) }
    }

    fn from_der(octets: &[u8]) -> Result<Self, Useless> {
        Ok(Self {
            fields: CertificateList::from_der(octets)?,
            signed: signature::signed_part(octets)?.to_vec(),
        })
    }

    /// Who says to have issued it, for people.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.fields.tbs_cert_list.issuer.to_string()
    }

    /// Whether it says to be of `authority`: of this name, and of this key where it names one.
    #[must_use]
    pub fn is_of(&self, authority: &Certificate) -> bool {
        let fields = authority.fields();
        let own = fields.get::<SubjectKeyIdentifier>().ok().flatten();
        let named = self.extension(AUTHORITY_KEY);
        let named = named.and_then(|it| AuthorityKeyIdentifier::from_der(it.extn_value.as_bytes()).ok());
        let same_key = match (named.and_then(|it| it.key_identifier), own) {
            (Some(named), Some((_, own))) => named == own.0,
            _ => true,
        };
        same_key && names::compared(&self.fields.tbs_cert_list.issuer) == names::compared(&fields.subject)
    }

    /// Demands that `authority`, whose it is, has signed it, and that it holds at the time `now`.
    ///
    /// # Errors
    /// [`Useless`].
    pub fn check(&self, authority: &Certificate, now: SystemTime) -> Result<(), Useless> {
        let list = &self.fields.tbs_cert_list;
        self.check_kind()?;
        if list.this_update.to_system_time() > now {
            return Err(Useless::Future);
        }
        match list.next_update {
            None => return Err(Useless::Endless),
            Some(due) if due.to_system_time() < now => return Err(Useless::Expired),
            Some(_) => {}
        }
        let usage = authority.fields().get::<KeyUsage>()?;
        if usage.is_some_and(|(_, usage)| !usage.crl_sign()) {
            return Err(Useless::Usage(authority.subject()));
        }
        let key = authority.fields().subject_public_key_info.to_der()?;
        let algorithm = &self.fields.signature_algorithm;
        // RFC 5280, section 5.1.1.2.
        let is_right = list.signature == *algorithm
            && signature::is_right(&key, &self.signed, algorithm, &self.fields.signature);
        if is_right { Ok(()) } else { Err(Useless::Signature(authority.subject())) }
    }

    /// Demands that what it says can be understood.
    fn check_kind(&self) -> Result<(), Useless> {
        if self.extension(DELTA).is_some() {
            return Err(Useless::Kind("a list of changes to another one"));
        }
        if let Some(part) = self.part()? {
            if part.indirect_crl {
                return Err(Useless::Kind("a list for several authorities"));
            }
            if part.only_contains_attribute_certs {
                return Err(Useless::Kind("a list of attribute certificates"));
            }
        }
        let list = &self.fields.tbs_cert_list;
        let own = list.crl_extensions.iter().flatten();
        let of_entries = self.entries().filter_map(|entry| entry.crl_entry_extensions.as_ref()).flatten();
        let known = [AUTHORITY_KEY, NUMBER, PART, REASON];
        match own.chain(of_entries).find(|one| one.critical && !known.contains(&one.extn_id)) {
            Some(unknown) => Err(Useless::Critical(unknown.extn_id.to_string())),
            None => Ok(()),
        }
    }

    /// Why it revokes `certificate`, which its authority has issued; `None` where it does not.
    #[must_use]
    pub fn revokes(&self, certificate: &Certificate) -> Option<Revocation> {
        let number = &certificate.fields().serial_number;
        self.entries().filter(|entry| entry.serial_number == *number).map(reason).reduce(Revocation::worse)
    }

    /// Whether `certificate` would be on it if it were revoked, whatever for.
    #[must_use]
    pub fn covers(&self, certificate: &Certificate) -> bool {
        let Ok(part) = self.part() else { return false };
        let Some(part) = part else { return true };
        let place_is_named = match part.distribution_point {
            None => true,
            Some(DistributionPointName::FullName(names)) => {
                let points = points(certificate);
                names.iter().any(|name| matches!(name, GeneralName::UniformResourceIdentifier(url) if points.contains(&url.to_string())))
            }
            Some(_) => false,
        };
        place_is_named && !part.only_contains_ca_certs && part.only_some_reasons.is_none()
    }

    fn part(&self) -> Result<Option<IssuingDistributionPoint>, Useless> {
        let part = self.extension(PART);
        Ok(part.map(|it| IssuingDistributionPoint::from_der(it.extn_value.as_bytes())).transpose()?)
    }

    fn extension(&self, identifier: ObjectIdentifier) -> Option<&Extension> {
        let mut all = self.fields.tbs_cert_list.crl_extensions.iter().flatten();
        all.find(|extension| extension.extn_id == identifier)
    }

    fn entries(&self) -> impl Iterator<Item = &RevokedCert> {
        self.fields.tbs_cert_list.revoked_certificates.iter().flatten()
    }
}

/// What an entry says; a reason that cannot be read is none.
fn reason(entry: &RevokedCert) -> Revocation {
    let mut extensions = entry.crl_entry_extensions.iter().flatten();
    let reason = extensions.find(|extension| extension.extn_id == REASON);
    let reason = reason.and_then(|it| CrlReason::from_der(it.extn_value.as_bytes()).ok());
    Revocation(reason.unwrap_or(CrlReason::Unspecified))
}

/// Where the authority of `certificate` says that the list is on which it would be: URLs, in order. A list that another authority
/// signs, or for some reasons only, is not among them.
#[must_use]
pub fn points(certificate: &Certificate) -> Vec<String> {
    let points = certificate.fields().get::<CrlDistributionPoints>().ok().flatten();
    let points = points.map(|(_, CrlDistributionPoints(points))| points).unwrap_or_default();
    let plain = points.into_iter().filter(|point| point.crl_issuer.is_none() && point.reasons.is_none());
    let names = plain.filter_map(|point| match point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names),
        _ => None,
    });
    let urls = names.flatten().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(url) => Some(url.to_string()),
        _ => None,
    });
    urls.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::bundle;
    use super::super::fitness::assess;
    use super::*;
    use crate::cert::{Fitness, Lapse, Unfit};

    fn file(name: &str) -> Vec<u8> {
        let path = format!("{}/../../fixtures/smime/chain/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    fn certificate(name: &str) -> Certificate {
        bundle::read(&file(name)).unwrap().pop().unwrap()
    }

    fn list(name: &str) -> List {
        List::read(&file(name)).unwrap().pop().unwrap()
    }

    /// 2027.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn what_is_revoked_is_told_with_its_reason() {
        let (alice, inter) = (certificate("alice.pem"), certificate("inter.pem"));
        for (name, reason, soft) in [
            ("key-compromise.crl", Some("keyCompromise"), false),
            ("ca-compromise.crl", Some("cACompromise"), false),
            ("affiliation-changed.crl", Some("affiliationChanged"), true),
            ("superseded.crl", Some("superseded"), true),
            ("cessation-of-operation.crl", Some("cessationOfOperation"), true),
            ("certificate-hold.crl", Some("certificateHold"), false),
            ("privilege-withdrawn.crl", Some("privilegeWithdrawn"), false),
            ("no-reason.crl", Some("unspecified"), false),
            ("some-reasons.crl", Some("keyCompromise"), false),
            ("clear.crl", None, false),
            ("clear.der.crl", None, false),
            ("users.crl", None, false),
            ("authorities.crl", None, false),
            ("partition.crl", None, false),
            ("other-partition.crl", None, false),
        ] {
            let list = list(name);
            assert!(list.is_of(&inter) && !list.is_of(&certificate("root.pem")), "{name}");
            assert_eq!(list.check(&inter, now()), Ok(()), "{name}");
            let revocation = list.revokes(&alice);
            assert_eq!(revocation.map(Revocation::name), reason, "{name}");
            assert_eq!(revocation.is_some_and(Revocation::is_soft), soft, "{name}");
            assert_eq!(reason.map(Revocation::named), revocation, "{name}");
            let covers = !["authorities.crl", "other-partition.crl", "some-reasons.crl"].contains(&name);
            assert_eq!(list.covers(&alice), covers, "{name}");
        }
        assert_eq!(points(&alice), ["http://crl.example.org/inter.crl"]);
        let (root, list) = (certificate("root.pem"), list("root-revokes-inter.crl"));
        assert_eq!(list.check(&root, now()), Ok(()));
        assert_eq!(list.revokes(&inter), Some(Revocation::named("cACompromise")));
        let of_issued = |reason| Revocation::named(reason).of_issued().name();
        assert_eq!((of_issued("superseded"), of_issued("keyCompromise")), ("superseded", "cACompromise"));
    }

    #[test]
    fn each_useless_list_says_why() {
        let inter = certificate("inter.pem");
        for (name, why) in [
            ("expired.crl", "a newer one was due"),
            ("future.crl", "made in the future"),
            ("wrong-signer.crl", "it is not signed by CN=Inter"),
            ("sha224.crl", "it is not signed by CN=Inter"),
            ("delta.crl", "a list of changes"),
            ("indirect.crl", "for several authorities"),
            ("attributes.crl", "attribute certificates"),
            ("critical.crl", "critical extension that is not known: 1.3.6.1.4.1.99999.1"),
            ("critical-entry.crl", "critical extension that is not known: 1.3.6.1.4.1.99999.1"),
        ] {
            let error = list(name).check(&inter, now()).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
        let error = list("clear.crl").check(&certificate("no-crl-sign.pem"), now()).unwrap_err();
        assert_eq!(error, Useless::Usage("CN=Inter".into()));
        let long = [&[0x30, 0x83, 0x10, 0, 0][..], &vec![0; limits::REVOCATIONS]].concat();
        assert_eq!(List::read(&long).unwrap_err(), Useless::TooLong(long.len()));
        for nothing in [&b""[..], b"text", &file("alice.pem")] {
            assert_eq!(List::read(nothing).unwrap_err(), Useless::Nothing);
        }
        assert!(matches!(List::read(&file("truncated.crl")), Err(Useless::Broken(_))));
        // Whatever octet is another: it is broken, not signed, or another's.
        let whole = file("clear.der.crl");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let Ok(lists) = List::read(&changed) else { continue };
            let believed =
                lists.iter().filter(|list| list.is_of(&inter) && list.check(&inter, now()).is_ok());
            assert_eq!(believed.count(), 0, "{at}");
        }
    }

    #[test]
    fn a_revocation_is_kept_with_the_certificate() {
        let plain = certificate("alice.pem");
        for (reason, fitness) in [
            ("keyCompromise", Fitness::Unfit(Unfit::Revoked)),
            ("certificateHold", Fitness::Unfit(Unfit::Revoked)),
            ("superseded", Fitness::Lapsed(Lapse::Retired)),
        ] {
            let mut alice = plain.clone();
            alice.revoke(Revocation::named(reason));
            assert_eq!(assess(&alice, now()).fitness, fitness, "{reason}");
            let text = alice.to_pem();
            assert!(text.starts_with("-----BEGIN TRUSTED CERTIFICATE-----\n"), "{text}");
            // A copy that knows of nothing changes nothing.
            for text in [text.clone(), plain.to_pem() + &text, text + &plain.to_pem()] {
                assert_eq!(bundle::read(text.as_bytes()).unwrap(), std::slice::from_ref(&alice), "{reason}");
            }
            // What is worse counts.
            let mut worse = alice.clone();
            worse.revoke(Revocation::named("superseded"));
            assert_eq!(worse, alice);
            worse.revoke(Revocation::named("keyCompromise"));
            assert_eq!(worse.revocation(), Some(Revocation::named("keyCompromise")));
        }
        assert_eq!(bundle::read(plain.to_pem().as_bytes()).unwrap(), [plain]);
    }
}
