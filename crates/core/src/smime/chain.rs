//! Whether a certificate comes from an authority that is trusted (RFC 5280, section 6).
//!
//! Paths are built and validated by `webpki`: signatures, names, validity, basicConstraints with path lengths, nameConstraints,
//! extendedKeyUsage and critical extensions. What it leaves to its caller is looked at here: keyUsage, and how long and how long ago
//! what is trusted may sign.

use std::time::{Duration, SystemTime};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath, anchor_from_trusted_cert,
};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, NameConstraints};

use super::certificate::Certificate;
use super::fitness::FOR_MAIL;
use super::{names, signature};
use crate::limits;

/// Certificates of authorities, each of which is trusted for itself.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<Certificate>);

/// Why a certificate does not come from an authority that is trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Untrusted {
    /// No authority that is trusted has signed it, nor one that such a one has signed.
    #[error(
        "its issuer, {0}, is no authority that is trusted, and no certificate that leads to one is beside it"
    )]
    Unknown(String),
    /// The certificate of its issuer may not sign certificates; the text says why.
    #[error("the certificate of its issuer {0}")]
    NotAuthority(NotAuthority),
    /// The authority that is trusted may not, or may no more, sign at this time.
    #[error("the certificate of its authority, {0}, has expired, or is not valid yet")]
    Outdated(String),
    /// More certificates of authorities are given than are looked at.
    #[error("more than {most} certificates of authorities are beside it", most = limits::CHAIN_CERTIFICATES)]
    TooMany,
    /// The way to an authority that is trusted is not valid; the text says why.
    #[error("{0}")]
    Path(String),
}

/// Why a certificate is none of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAuthority {
    /// Its `basicConstraints` do not say so.
    #[error("is not an authority's (basicConstraints)")]
    Constraints,
    /// Its `keyUsage` does not say so.
    #[error("may not sign certificates (keyUsage)")]
    Usage,
}

impl Authorities {
    /// Those to which `certificates` belong.
    ///
    /// # Errors
    /// A certificate that is none of an authority's, and why.
    pub fn new(certificates: Vec<Certificate>) -> Result<Self, (Box<Certificate>, NotAuthority)> {
        for certificate in &certificates {
            demand_authority(certificate).map_err(|why| (Box::new(certificate.clone()), why))?;
        }
        Ok(Self(certificates))
    }

    /// Trusts others as well.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their certificates.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.0
    }

    /// The way from `certificate` to one of them at the time `at`: its issuer's certificate first. Between the two certificates of
    /// `given` may stand. Where another of them has issued that one, the way goes on to it, and so up to the root: its lists count
    /// for what is trusted below it.
    ///
    /// # Errors
    /// [`Untrusted`] where there is none.
    pub fn chain(
        &self,
        certificate: &Certificate,
        given: &[Certificate],
        at: SystemTime,
    ) -> Result<Vec<Certificate>, Untrusted> {
        let mut way = self.nearest(certificate, given, at)?;
        while let Some(above) = way.last().and_then(|last| self.issuer_of(last)) {
            if way.contains(above) {
                break;
            }
            way.push(above.clone());
        }
        Ok(way)
    }

    /// The one of them that has issued `certificate`; `None` for a root, which has its own name as its issuer's.
    fn issuer_of(&self, certificate: &Certificate) -> Option<&Certificate> {
        let wanted = names::compared(&certificate.fields().issuer);
        if wanted == names::compared(&certificate.fields().subject) {
            return None;
        }
        let is_issuer = |one: &&Certificate| names::compared(&one.fields().subject) == wanted;
        self.0.iter().filter(is_issuer).find(|one| signature::is_issued_by(certificate, one))
    }

    /// The way to one of them, past certificates of `given` alone.
    fn nearest(
        &self,
        certificate: &Certificate,
        given: &[Certificate],
        at: SystemTime,
    ) -> Result<Vec<Certificate>, Untrusted> {
        let between: Vec<&Certificate> = given.iter().filter(|one| demand_authority(one).is_ok()).collect();
        if between.len() > limits::CHAIN_CERTIFICATES {
            return Err(Untrusted::TooMany);
        }
        let trusted: Vec<&Certificate> = self.0.iter().filter(|one| is_valid(one, at)).collect();
        let ders: Vec<CertificateDer<'_>> = trusted.iter().map(|one| one.der().into()).collect();
        let broken = |error: webpki::Error| Untrusted::Path(said(&error));
        let anchors: Result<Vec<_>, _> = ders.iter().map(anchor_from_trusted_cert).collect();
        let search = Search { trusted: &trusted, anchors: &anchors.map_err(broken)?, between: &between };
        search.find(certificate, at).map_err(|error| self.explain(&error, certificate, given))
    }

    /// What `error` says of a way that was not found.
    fn explain(&self, error: &webpki::Error, certificate: &Certificate, given: &[Certificate]) -> Untrusted {
        if *error != webpki::Error::UnknownIssuer {
            return Untrusted::Path(said(error));
        }
        let wanted = names::compared(&certificate.fields().issuer);
        let is_issuer = |one: &&Certificate| names::compared(&one.fields().subject) == wanted;
        if self.0.iter().any(|one| is_issuer(&one)) {
            return Untrusted::Outdated(certificate.issuer());
        }
        match given.iter().find(is_issuer).map(demand_authority) {
            Some(Err(why)) => Untrusted::NotAuthority(why),
            _ => Untrusted::Unknown(certificate.issuer()),
        }
    }
}

/// What a way is looked for with.
struct Search<'a> {
    trusted: &'a [&'a Certificate],
    /// The same, in the same order.
    anchors: &'a [TrustAnchor<'a>],
    between: &'a [&'a Certificate],
}

impl Search<'_> {
    fn find(&self, certificate: &Certificate, at: SystemTime) -> Result<Vec<Certificate>, webpki::Error> {
        let der = CertificateDer::from(certificate.der());
        let entity = EndEntityCert::try_from(&der)?;
        let between: Vec<CertificateDer<'_>> = self.between.iter().map(|one| one.der().into()).collect();
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let path = entity.verify_for_usage(
            &signature::all(),
            self.anchors,
            &between,
            UnixTime::since_unix_epoch(since),
            ForMail,
            None,
            Some(&|path| self.demand_allowed(path)),
        )?;
        Ok(self.certificates_of(&path).into_iter().cloned().collect())
    }

    /// The certificates of the authorities on `path`: that of the one which is trusted last.
    fn certificates_of(&self, path: &VerifiedPath<'_>) -> Vec<&Certificate> {
        let passed = path
            .intermediate_certificates()
            .filter_map(|one| self.between.iter().find(|other| *other.der() == *one.der()).copied());
        let anchor = self.anchors.iter().position(|one| std::ptr::eq(one, path.anchor()));
        passed.chain(anchor.and_then(|at| self.trusted.get(at).copied())).collect()
    }

    /// Demands what `webpki` does not: how far the authority at the end of `path` reaches; and that none on it is bound to mail
    /// addresses, which is not understood wherever an address stands.
    fn demand_allowed(&self, path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
        let authorities = self.certificates_of(path);
        let most = authorities.last().and_then(|anchor| path_length(anchor)).map_or(usize::MAX, usize::from);
        if authorities.len() > most.saturating_add(1) {
            return Err(webpki::Error::PathLenConstraintViolated);
        }
        if authorities.into_iter().any(is_bound_to_addresses) {
            return Err(webpki::Error::NameConstraintViolation);
        }
        Ok(())
    }
}

/// Nobody in the chain may be for other things than mail only.
struct ForMail;

impl ExtendedKeyUsageValidator for ForMail {
    fn validate(&self, uses: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut none = true;
        for one in uses {
            let one = one?.to_decoded_oid();
            none = false;
            if FOR_MAIL.iter().any(|mail| mail.arcs().map(|arc| arc as usize).eq(one.iter().copied())) {
                return Ok(());
            }
        }
        if none { Ok(()) } else { Err(webpki::Error::ExtensionValueInvalid) }
    }
}

/// Whether the certificate is an authority's, and so none that mail is sealed to.
#[must_use]
pub fn is_authority(certificate: &Certificate) -> bool {
    matches!(certificate.fields().get::<BasicConstraints>(), Ok(Some((_, constraints))) if constraints.ca)
}

/// Demands that `certificate` may sign certificates.
fn demand_authority(certificate: &Certificate) -> Result<(), NotAuthority> {
    if !is_authority(certificate) {
        return Err(NotAuthority::Constraints);
    }
    match certificate.fields().get::<KeyUsage>() {
        Ok(None) => Ok(()),
        Ok(Some((_, usage))) if usage.key_cert_sign() => Ok(()),
        _ => Err(NotAuthority::Usage),
    }
}

fn path_length(authority: &Certificate) -> Option<u8> {
    let constraints = authority.fields().get::<BasicConstraints>().ok().flatten();
    constraints.and_then(|(_, constraints)| constraints.path_len_constraint)
}

/// Whether the time `at` is within what the certificate says of its validity.
#[must_use]
pub fn is_valid(certificate: &Certificate, at: SystemTime) -> bool {
    let validity = &certificate.fields().validity;
    validity.not_before.to_system_time() <= at && at <= validity.not_after.to_system_time()
}

/// Whether an authority may sign for some mail addresses only, or cannot be understood about it.
fn is_bound_to_addresses(authority: &Certificate) -> bool {
    match authority.fields().get::<NameConstraints>() {
        Ok(None) => false,
        Err(_) => true,
        Ok(Some((_, constraints))) => {
            let trees = [constraints.permitted_subtrees, constraints.excluded_subtrees];
            let mut trees = trees.into_iter().flatten().flatten();
            trees.any(|tree| matches!(tree.base, GeneralName::Rfc822Name(_) | GeneralName::OtherName(_)))
        }
    }
}

/// What an error says, for people.
fn said(error: &webpki::Error) -> String {
    use webpki::Error as E;
    let text = match error {
        E::CertExpired { .. } => "a certificate on the way to its authority has expired",
        E::CertNotValidYet { .. } => "a certificate on the way to its authority is not valid yet",
        E::InvalidSignatureForPublicKey => {
            "a signature on the way to its authority is not that of the issuer"
        }
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "a signature on the way to its authority does not fit its issuer's key, or is of a kind that is not verified, as those \
             over SHA-1 and MD5"
        }
        E::PathLenConstraintViolated => {
            "an authority on the way allows fewer ones below it (pathLenConstraint)"
        }
        E::ExtensionValueInvalid => "an authority on the way is not for mail (extendedKeyUsage)",
        E::NameConstraintViolation => {
            "an authority on the way may sign for some names only (nameConstraints): not for these, or for some mail addresses, \
             which is not understood"
        }
        E::UnsupportedCriticalExtension => {
            "a certificate on the way has a critical extension that is not known"
        }
        E::MaximumPathDepthExceeded => "the way to its authority is longer than is followed",
        E::MaximumPathBuildCallsExceeded
        | E::MaximumSignatureChecksExceeded
        | E::MaximumNameConstraintComparisonsExceeded => "there are more ways to an authority than are tried",
        other => return format!("a certificate on the way to its authority is broken: {other}"),
    };
    text.into()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::bundle;
    use super::*;

    fn file(name: &str) -> Vec<Certificate> {
        let path = format!("{}/../../fixtures/smime/chain/{name}", env!("CARGO_MANIFEST_DIR"));
        bundle::read(&std::fs::read(path).unwrap()).unwrap()
    }

    fn one(name: &str) -> Certificate {
        file(name).pop().unwrap()
    }

    fn all(names: &[&str]) -> Vec<Certificate> {
        names.iter().flat_map(|name| file(name)).collect()
    }

    /// 2027.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn chain(user: &str, given: &[&str], trusted: &[&str]) -> Result<Vec<Certificate>, Untrusted> {
        Authorities::new(all(trusted)).unwrap().chain(&one(user), &all(given), now())
    }

    #[track_caller]
    fn refused(user: &str, given: &[&str], trusted: &[&str]) -> String {
        chain(user, given, trusted).expect_err(&format!("{given:?} {trusted:?}")).to_string()
    }

    #[test]
    fn every_kind_of_signature_is_verified() {
        for kind in ["rsa", "pss", "p256", "p384", "p521", "ed25519"] {
            let root = format!("root-{kind}.pem");
            // ECDSA on P-521 takes no digest of half its length.
            let bits: &[&str] = match kind {
                "ed25519" => &[""],
                "p521" => &["384", "512"],
                _ => &["256", "384", "512"],
            };
            for bits in bits {
                let user = format!("by-{kind}{bits}.pem");
                assert_eq!(chain(&user, &[], &[&root]).unwrap(), [one(&root)], "{user}");
                // Whatever octet of the signature is another.
                let mut der = one(&user).der().to_vec();
                let last = der.len() - 1;
                der[last] ^= 1;
                let forged = Certificate::from_der(&der).unwrap();
                let trusted = Authorities::new(file(&root)).unwrap();
                let error = trusted.chain(&forged, &[], now()).unwrap_err().to_string();
                assert!(error.contains("is not that of the issuer"), "{user}: {error}");
            }
        }
        assert!(refused("by-small.pem", &[], &["root-small.pem"]).contains("not that of the issuer"));
        assert!(refused("by-p521256.pem", &[], &["root-p521.pem"]).contains("kind that is not verified"));
    }

    #[test]
    fn the_way_is_found_among_what_is_given() {
        let both = [one("inter.pem"), one("root.pem")];
        let given = ["maze.pem", "self.pem", "inter.pem", "other-key.pem", "low.pem"];
        let given: Vec<_> = all(&given).into_iter().skip(5).collect();
        let trusted = Authorities::new(all(&["root-rsa.pem", "root-expired.pem", "root.pem"])).unwrap();
        assert_eq!(trusted.chain(&one("alice.pem"), &given, now()).unwrap(), both);
        // What is trusted is trusted for itself, whoever has signed it.
        assert_eq!(chain("alice.pem", &["root.pem"], &["inter.pem"]).unwrap(), both[..1]);
        assert_eq!(chain("below-low.pem", &["low.pem", "inter.pem"], &["root.pem"]).unwrap().len(), 3);
        for middle in ["no-usage.pem", "mail.pem", "any.pem", "uncritical.pem", "host-names.pem", "len0.pem"]
        {
            assert_eq!(chain("alice.pem", &[middle], &["root.pem"]).unwrap(), [one(middle), one("root.pem")]);
        }
    }

    #[test]
    fn each_bad_way_is_refused_with_its_reason() {
        for (given, trusted, reason) in [
            (&[][..], &["root.pem"][..], "its issuer, CN=Inter, is no authority that is trusted"),
            (&["inter.pem"], &["root-rsa.pem"], "its issuer, CN=Inter, is no authority that is trusted"),
            (&["inter.pem"], &["root-expired.pem"], "is no authority that is trusted"),
            (&["expired.pem"], &["root.pem"], "has expired"),
            (&["future.pem"], &["root.pem"], "is not valid yet"),
            (&["no-authority.pem"], &["root.pem"], "is not an authority's (basicConstraints)"),
            (&["no-sign.pem"], &["root.pem"], "may not sign certificates (keyUsage)"),
            (&["tls.pem"], &["root.pem"], "is not for mail (extendedKeyUsage)"),
            (&["critical.pem"], &["root.pem"], "critical extension that is not known"),
            (&["mail-names.pem"], &["root.pem"], "nameConstraints"),
            (&[], &["mail-names.pem"], "nameConstraints"),
            (&["sha1.der"], &["root.pem"], "over SHA-1 and MD5"),
            (&["inter.pem"], &["root-len0.pem"], "pathLenConstraint"),
            (&["other-key.pem"], &["root.pem"], "is not that of the issuer"),
            (&["forged.pem"], &["root.pem"], "does not fit its issuer's key"),
            (&[], &["expired.pem"], "has expired, or is not valid yet"),
        ] {
            let error = refused("alice.pem", given, trusted);
            assert!(error.contains(reason), "{given:?} {trusted:?}: {error}");
        }
        let error = refused("below-low.pem", &["low.pem", "len0.pem"], &["root.pem"]);
        assert!(error.contains("pathLenConstraint"), "{error}");
        assert!(refused("late.pem", &["inter.pem"], &["root.pem"]).contains("has expired"));
        assert!(refused("self.pem", &["self.pem"], &["root.pem"]).contains("is not an authority's"));
    }

    #[test]
    fn ways_without_number_end_soon() {
        let (trusted, maze) = (Authorities::new(file("root.pem")).unwrap(), file("maze.pem"));
        let by_maze = one("by-maze.pem");
        assert_eq!(trusted.chain(&by_maze, &maze, now()), Err(Untrusted::TooMany));
        let start = Instant::now();
        let error = trusted.chain(&by_maze, &maze[1..], now()).unwrap_err().to_string();
        assert!(error.contains("more ways"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }

    #[test]
    fn only_authorities_are_trusted() {
        for (name, why) in [
            ("alice.pem", NotAuthority::Constraints),
            ("no-authority.pem", NotAuthority::Constraints),
            ("no-sign.pem", NotAuthority::Usage),
        ] {
            let (certificate, found) = Authorities::new(all(&["root.pem", name])).unwrap_err();
            assert_eq!((*certificate, found), (one(name), why));
        }
        assert!(Authorities::default().is_empty());
    }
}
