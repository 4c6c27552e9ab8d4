//! Whether a certificate is fit to seal to at a time, with which keys, and why not.
//!
//! This is the one place that decides it. It reads what the certificate says under sequoia's policy; that a key really
//! encrypts is tried in [`crate::recipients`].

use std::fmt;
use std::time::{Duration, SystemTime};

use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::amalgamation::key::ValidErasedKeyAmalgamation;
use sequoia_openpgp::cert::amalgamation::{ValidAmalgamation as _, ValidateAmalgamation as _};
use sequoia_openpgp::packet::key::{PublicParts, UnspecifiedRole};
use sequoia_openpgp::packet::{Key, Signature, Tag};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::{CompressionAlgorithm, PublicKeyAlgorithm, RevocationStatus, RevocationType};

/// A subkey that lives no longer, in a certificate that does, is one of a row: its secret key is destroyed when its time is over.
/// Autocrypt v2 (draft-autocrypt-openpgp-v2-cert) has them live for 10 days; nobody sets so short a time by hand.
const ROTATED: Duration = Duration::from_secs(15 * 24 * 60 * 60);

/// The algorithm of GnuPG's own post-quantum keys (draft-koch-librepgp, section 9.1); RFC 9980 has others.
const LIBREPGP_KYBER: u8 = 8;

/// A public key that mail is sealed to.
pub type EncryptionKey = Key<PublicParts, UnspecifiedRole>;

/// What [`assess`] found out about a certificate.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// Whether mail may be sealed to it.
    pub fitness: Fitness,
    /// The keys to seal to: all valid encryption keys (a user may have one a device), of which at least one lasts; of an expired
    /// certificate those that expired last; of an unfit one none.
    pub keys: Vec<EncryptionKey>,
    /// When the last of these keys expires, or has expired or been retired; `None` is never.
    pub expires: Option<SystemTime>,
    /// The compression algorithms that the owner can read, in order; `None` where the certificate does not say.
    pub compression: Option<Vec<CompressionAlgorithm>>,
}

/// Whether mail may be sealed to a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// It may.
    Fit,
    /// It may with [`WhenExpired::Encrypt`](crate::recipients::WhenExpired::Encrypt).
    Lapsed(Lapse),
    /// It must not.
    Unfit(Unfit),
}

/// How a certificate has gone out of use without harm to what was sealed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapse {
    /// It, or the last of its encryption keys, has expired.
    Expired,
    /// It, or the last of its encryption keys, was revoked as superseded or retired.
    Retired,
}

/// Why a certificate must not be sealed to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// It holds secret keys: with them whoever reads the file reads the mail.
    SecretKey,
    /// Revoked as compromised, or without a reason.
    Revoked,
    /// Made after the present time.
    Future,
    /// Sequoia's policy refuses its own signatures or its primary key; the text says why.
    Policy(String),
    /// No key in it may encrypt mail.
    NoEncryptionKey,
    /// The only encryption keys in it were revoked as compromised, or without a reason.
    KeysRevoked,
    /// Its encryption keys are refused by sequoia's policy or not bound to it; the text says why.
    KeyPolicy(String),
    /// All its encryption keys are replaced within days, and their secret keys destroyed: what is stored could not be read for longer.
    Rotated,
    /// This build cannot encrypt to its keys; the text names their algorithms.
    Unsupported(String),
    /// An S/MIME certificate of a certificate authority: its key signs certificates.
    Authority,
    /// An S/MIME certificate that does not say what its key is for.
    NoKeyUsage,
    /// An S/MIME certificate that is for other things than mail.
    NotForMail,
    /// An S/MIME certificate that is not as it should be; the text says what is wrong.
    Form(String),
}

impl fmt::Display for Fitness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fit => f.write_str("fit"),
            Self::Lapsed(Lapse::Expired) => f.write_str("expired"),
            Self::Lapsed(Lapse::Retired) => f.write_str("revoked as superseded or retired"),
            Self::Unfit(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretKey => f.write_str("it holds a secret key"),
            Self::Revoked => f.write_str("revoked as compromised or without a reason"),
            Self::Future => f.write_str("made in the future"),
            Self::Policy(why) => write!(f, "refused by policy: {why}"),
            Self::NoEncryptionKey => f.write_str("no key for encryption"),
            Self::KeysRevoked => {
                f.write_str("its encryption keys are revoked as compromised or without a reason")
            }
            Self::KeyPolicy(why) => write!(f, "its encryption keys are refused by policy: {why}"),
            Self::Rotated => {
                f.write_str("each of its encryption keys is replaced within days, and none lasts")
            }
            Self::Unsupported(algorithms) => write!(f, "this build cannot encrypt to {algorithms}"),
            Self::Authority => f.write_str("it is a certificate authority's"),
            Self::NoKeyUsage => f.write_str("it does not say that its key is for encryption (no keyUsage)"),
            Self::NotForMail => f.write_str("it is not for mail (extendedKeyUsage)"),
            Self::Form(why) => f.write_str(why),
        }
    }
}

/// What one encryption key is worth.
enum State {
    Valid,
    Lapsed(Lapse, SystemTime),
    Revoked,
}

/// What a revocation says of the time before it.
enum Revocation {
    /// Compromised, or no reason: all that was ever sealed to the key is in danger.
    Hard,
    /// Superseded or retired, since this time.
    Soft(SystemTime),
}

/// Assesses `cert` at the time `now`.
#[must_use]
pub fn assess(cert: &Cert, now: SystemTime) -> Assessment {
    let mut assessment =
        Assessment { fitness: Fitness::Fit, keys: Vec::new(), expires: None, compression: None };
    if let Err(why) = fill(&mut assessment, cert, now) {
        assessment.keys.clear();
        assessment.fitness = Fitness::Unfit(why);
    }
    assessment
}

fn fill(assessment: &mut Assessment, cert: &Cert, now: SystemTime) -> Result<(), Unfit> {
    if cert.is_tsk() {
        return Err(Unfit::SecretKey);
    }
    if cert.primary_key().key().creation_time() > now {
        return Err(Unfit::Future);
    }
    let policy = StandardPolicy::new();
    // A revocation counts whatever else is wrong; the policy would hide it behind another reason.
    let lapse = match revocation(&cert.revocation_status(&policy, now)) {
        Some(Revocation::Hard) => return Err(Unfit::Revoked),
        Some(Revocation::Soft(since)) => Some((Lapse::Retired, since)),
        None => None,
    };
    let valid = cert.with_policy(&policy, now).map_err(|error| Unfit::Policy(causes(&error)))?;
    let primary_expires = valid.primary_key().key_expiration_time();
    let lapse = lapse.or_else(|| {
        // What is neither alive nor expired is not alive yet, and cannot be: its binding would lie in the future.
        valid.alive().is_err().then(|| (Lapse::Expired, primary_expires.unwrap_or(now)))
    });
    assessment.compression =
        sequoia_openpgp::cert::Preferences::preferred_compression_algorithms(&valid).map(<[_]>::to_vec);

    let mut found = Found { row: may_rotate(cert), ..Found::default() };
    valid.keys().filter(encrypts).for_each(|key| found.take(&key, lapse, primary_expires, now));
    if !found.keys.is_empty() {
        found.keys.append(&mut found.rotated);
        (assessment.keys, assessment.expires) = (found.keys, found.expires);
        return Ok(());
    }
    if let Some(&(how, last, _)) = found.lapsed.iter().max_by_key(|(_, since, _)| *since) {
        assessment.fitness = Fitness::Lapsed(how);
        assessment.expires = Some(last);
        let last = found.lapsed.into_iter().filter(|(_, since, _)| *since == last);
        assessment.keys = last.map(|(_, _, key)| key).collect();
        return Ok(());
    }
    Err(if found.revoked {
        Unfit::KeysRevoked
    } else if found.rotates {
        Unfit::Rotated
    } else if !found.unsupported.is_empty() {
        Unfit::Unsupported(found.unsupported.join(", "))
    } else {
        why_no_key(cert, &policy, now)
    })
}

/// The encryption keys of a certificate, by what they are good for.
#[derive(Default)]
struct Found {
    /// Whether the certificate is one whose keys may be replaced one by one ([`may_rotate`]).
    row: bool,
    keys: Vec<EncryptionKey>,
    /// Valid ones that are replaced soon: they open a message too, as long as they last.
    rotated: Vec<EncryptionKey>,
    /// Whether there is such a key, valid or not.
    rotates: bool,
    /// When the last of them expires; `None` where one never does.
    expires: Option<SystemTime>,
    /// What is no good any more, and since when.
    lapsed: Vec<(Lapse, SystemTime, EncryptionKey)>,
    revoked: bool,
    /// The algorithms of keys that nothing here knows.
    unsupported: Vec<String>,
}

impl Found {
    /// Takes a key of a certificate that has lapsed as `lapse` says, and expires at `primary_expires`.
    fn take(
        &mut self,
        key: &ValidErasedKeyAmalgamation<'_, PublicParts>,
        lapse: Option<(Lapse, SystemTime)>,
        primary_expires: Option<SystemTime>,
        now: SystemTime,
    ) {
        if !key.key().pk_algo().is_supported() {
            self.unsupported.push(name(key.key().pk_algo()));
            return;
        }
        let rotates =
            self.row && is_rotated(key.key().creation_time(), key.key_expiration_time(), primary_expires);
        self.rotates |= rotates;
        let expires = match (primary_expires, key.key_expiration_time()) {
            (Some(primary), Some(key)) => Some(primary.min(key)),
            (primary, key) => primary.or(key),
        };
        match state(key, lapse, expires, now) {
            State::Valid if rotates => self.rotated.push(key.key().clone()),
            State::Lapsed(..) if rotates => {}
            State::Valid => {
                let latest = self.keys.is_empty() || later(expires, self.expires);
                self.expires = if latest { expires } else { self.expires };
                self.keys.push(key.key().clone());
            }
            State::Lapsed(how, since) => self.lapsed.push((how, since, key.key().clone())),
            State::Revoked => self.revoked = true,
        }
    }
}

/// Whether one of its encryption subkeys may replace another: there are several, or it is of version 6, as Autocrypt v2 asks for. A single
/// one of an older kind that has a short life is its owner's own choice.
#[must_use]
pub fn may_rotate(cert: &Cert) -> bool {
    let encrypting = cert.keys().subkeys().filter(|key| key.self_signatures().any(is_for_encryption));
    cert.primary_key().key().version() == 6 || encrypting.count() > 1
}

/// Whether a key that was made and expires at these times, of a certificate that [`may_rotate`], is replaced by another of the same certificate, which expires later.
#[must_use]
pub fn is_rotated(
    made: SystemTime,
    expires: Option<SystemTime>,
    primary_expires: Option<SystemTime>,
) -> bool {
    let is_short = expires.is_some_and(|at| at.duration_since(made).is_ok_and(|life| life <= ROTATED));
    is_short && later(primary_expires, expires)
}

/// What people call an algorithm.
fn name(algorithm: PublicKeyAlgorithm) -> String {
    match algorithm {
        PublicKeyAlgorithm::Unknown(LIBREPGP_KYBER) => "GnuPG's own Kyber".into(),
        other => other.to_string(),
    }
}

/// Whether there is a subkey for GnuPG's own Kyber in it, bound or not, of version 4 or 5.
#[must_use]
pub fn has_librepgp_kyber(cert: &Cert) -> bool {
    // Nothing here reads version 5: its algorithm follows the time at which the key was made.
    let is_v5 = |body: &[u8]| matches!(body, [5, _, _, _, _, LIBREPGP_KYBER, ..]);
    cert.keys().subkeys().any(|key| key.key().pk_algo() == PublicKeyAlgorithm::Unknown(LIBREPGP_KYBER))
        || cert.unknowns().any(|it| it.unknown().tag() == Tag::PublicSubkey && is_v5(it.unknown().body()))
}

/// Whether the key that `signature` binds may encrypt what is sent or stored.
#[must_use]
pub fn is_for_encryption(signature: &Signature) -> bool {
    let flags = signature.key_flags();
    flags.is_some_and(|flags| flags.for_storage_encryption() || flags.for_transport_encryption())
}

/// Whether `key` may encrypt what is sent or stored: certificates use either flag for mail.
fn encrypts(key: &ValidErasedKeyAmalgamation<'_, PublicParts>) -> bool {
    key.for_storage_encryption() || key.for_transport_encryption()
}

fn state(
    key: &ValidErasedKeyAmalgamation<'_, PublicParts>,
    cert_lapse: Option<(Lapse, SystemTime)>,
    expires: Option<SystemTime>,
    now: SystemTime,
) -> State {
    let own = match revocation(&key.revocation_status()) {
        Some(Revocation::Hard) => return State::Revoked,
        Some(Revocation::Soft(since)) => Some((Lapse::Retired, since)),
        None => key.alive().is_err().then(|| (Lapse::Expired, expires.unwrap_or(now))),
    };
    match own.into_iter().chain(cert_lapse).min_by_key(|(_, since)| *since) {
        Some((how, since)) => State::Lapsed(how, since),
        None => State::Valid,
    }
}

/// The worst revocation there is, if any.
fn revocation(status: &RevocationStatus<'_>) -> Option<Revocation> {
    let RevocationStatus::Revoked(signatures) = status else { return None };
    let soft = signatures.iter().all(|signature| {
        signature
            .reason_for_revocation()
            .is_some_and(|(reason, _)| reason.revocation_type() != RevocationType::Hard)
    });
    let since = signatures.iter().filter_map(|signature| signature.signature_creation_time()).min();
    Some(match since {
        Some(since) if soft => Revocation::Soft(since),
        _ => Revocation::Hard,
    })
}

/// Whether `a` is later than `b`; `None` is never.
fn later(a: Option<SystemTime>, b: Option<SystemTime>) -> bool {
    match (a, b) {
        (None, Some(_)) => true,
        (Some(a), Some(b)) => a > b,
        (_, None) => false,
    }
}

/// Why a certificate shows no encryption key: it has none, or the policy hides it.
fn why_no_key(cert: &Cert, policy: &StandardPolicy<'_>, now: SystemTime) -> Unfit {
    // A policy from before all cut-off dates refuses nothing; it only finds the words for a refusal.
    let lenient_policy = &StandardPolicy::at(SystemTime::UNIX_EPOCH);
    for key in cert.keys() {
        let Ok(lenient) = key.clone().with_policy(lenient_policy, now) else { continue };
        if !encrypts(&lenient) {
            continue;
        }
        if let Err(error) = key.with_policy(policy, now) {
            return Unfit::KeyPolicy(causes(&error));
        }
    }
    if has_librepgp_kyber(cert) {
        return Unfit::Unsupported(name(PublicKeyAlgorithm::Unknown(LIBREPGP_KYBER)));
    }
    Unfit::NoEncryptionKey
}

/// The messages of an error and its causes, outermost first.
fn causes(error: &sequoia_openpgp::anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sequoia_openpgp::Packet;
    use sequoia_openpgp::cert::{CertBuilder, CertRevocationBuilder, SubkeyRevocationBuilder};
    use sequoia_openpgp::crypto::KeyPair;
    use sequoia_openpgp::packet::key::{Key4, SubordinateRole};
    use sequoia_openpgp::packet::signature::SignatureBuilder;
    use sequoia_openpgp::parse::Parse as _;
    use sequoia_openpgp::types::{Curve, HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// When the fixtures, and all keys that are made here, were born: 2020-01-01.
    fn birth() -> SystemTime {
        SystemTime::UNIX_EPOCH + 18_262 * DAY
    }

    fn now() -> SystemTime {
        birth() + 2_000 * DAY
    }

    fn fixture(name: &str) -> Cert {
        let folder = format!("{}/../../fixtures/certs", env!("CARGO_MANIFEST_DIR"));
        Cert::from_file(format!("{folder}/{name}.pgp")).unwrap()
    }

    fn mail() -> KeyFlags {
        KeyFlags::empty().set_transport_encryption().set_storage_encryption()
    }

    /// A certificate with its secret key, whose encryption subkeys are valid for so many days; `None` is for ever.
    fn made(primary: Option<u32>, subkeys: &[Option<u32>]) -> Cert {
        let days = |days: Option<u32>| days.map(|days| days * DAY);
        let builder = CertBuilder::new().set_creation_time(birth()).set_validity_period(days(primary));
        let builder =
            builder.set_primary_key_flags(KeyFlags::empty().set_certification()).add_userid("Alice");
        let add = |builder: CertBuilder<'static>, validity: &Option<u32>| {
            builder.add_subkey(mail(), days(*validity), None)
        };
        subkeys.iter().fold(builder, add).generate().unwrap().0
    }

    fn signer(cert: &Cert) -> KeyPair {
        cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap()
    }

    /// The same certificate, revoked at this time.
    fn revoked(cert: Cert, reason: ReasonForRevocation, at: SystemTime) -> Cert {
        let builder = CertRevocationBuilder::new().set_signature_creation_time(at).unwrap();
        let builder = builder.set_reason_for_revocation(reason, b"").unwrap();
        let revocation = builder.build(&mut signer(&cert), &cert, None).unwrap();
        cert.insert_packets(revocation).unwrap().0
    }

    /// The same certificate, its encryption key of this number revoked at this time.
    fn with_revoked_subkey(cert: Cert, number: usize, reason: ReasonForRevocation, at: SystemTime) -> Cert {
        let builder = SubkeyRevocationBuilder::new().set_signature_creation_time(at).unwrap();
        let builder = builder.set_reason_for_revocation(reason, b"").unwrap();
        let subkey = cert.keys().subkeys().nth(number).unwrap().key().clone();
        let revocation = builder.build(&mut signer(&cert), &cert, &subkey, None).unwrap();
        cert.insert_packets([Packet::from(subkey), revocation.into()]).unwrap().0
    }

    /// The same certificate with one encryption key more, the binding of which is signed over SHA-1.
    fn with_weak_subkey(cert: Cert) -> Cert {
        let subkey: Key<_, SubordinateRole> = Key4::generate_ecc(false, Curve::Cv25519).unwrap().into();
        let builder = SignatureBuilder::new(SignatureType::SubkeyBinding).set_hash_algo(HashAlgorithm::SHA1);
        let builder = builder.set_key_flags(mail()).unwrap();
        let binding = subkey.bind(&mut signer(&cert), &cert, builder).unwrap();
        cert.insert_packets([Packet::from(subkey), binding.into()]).unwrap().0
    }

    fn at(cert: &Cert, now: SystemTime) -> Assessment {
        assess(&cert.clone().strip_secret_key_material(), now)
    }

    #[test]
    fn the_fixtures_are_worth_what_they_say() {
        let lapsed = |how, days: u32| (Fitness::Lapsed(how), 1, Some(birth() + days * DAY));
        for (name, expected) in [
            ("curve25519", (Fitness::Fit, 1, None)),
            ("rsa3072", (Fitness::Fit, 1, None)),
            ("v6", (Fitness::Fit, 1, None)),
            ("two-subkeys", (Fitness::Fit, 2, None)),
            ("sign-only", (Fitness::Unfit(Unfit::NoEncryptionKey), 0, None)),
            ("expired", lapsed(Lapse::Expired, 365)),
            ("expired-subkeys", lapsed(Lapse::Expired, 730)),
            ("revoked-superseded", lapsed(Lapse::Retired, 1)),
            ("revoked-retired", lapsed(Lapse::Retired, 1)),
            ("revoked-compromised", (Fitness::Unfit(Unfit::Revoked), 0, None)),
            ("revoked-unspecified", (Fitness::Unfit(Unfit::Revoked), 0, None)),
            ("curve25519.sec", (Fitness::Unfit(Unfit::SecretKey), 0, None)),
        ] {
            let found = assess(&fixture(name), now());
            assert_eq!((found.fitness, found.keys.len(), found.expires), expected, "{name}");
        }
    }

    #[test]
    fn a_certificate_begins_and_ends() {
        let cert = made(Some(100), &[None]);
        let second = Duration::from_secs(1);
        for (now, expected) in [
            (birth() - second, Fitness::Unfit(Unfit::Future)),
            (birth(), Fitness::Fit),
            (birth() + 100 * DAY - second, Fitness::Fit),
            (birth() + 100 * DAY, Fitness::Lapsed(Lapse::Expired)),
            (birth() + 101 * DAY, Fitness::Lapsed(Lapse::Expired)),
        ] {
            assert_eq!(at(&cert, now).fitness, expected);
        }
        let expected = Some(birth() + 100 * DAY);
        assert_eq!((at(&cert, birth()).expires, at(&cert, now()).expires), (expected, expected));
    }

    #[test]
    fn the_last_key_to_expire_counts() {
        for (primary, subkeys, days) in [
            (None, &[Some(10), Some(30), Some(20)][..], Some(30)),
            (None, &[Some(30), Some(10)], Some(30)),
            (None, &[Some(10), None, Some(20)], None),
            (None, &[None, Some(10)], None),
            (Some(15), &[Some(10), Some(30)], Some(15)),
            (Some(15), &[None], Some(15)),
            (Some(50), &[Some(10), Some(30)], Some(30)),
        ] {
            let found = at(&made(primary, subkeys), birth() + DAY);
            assert_eq!((found.fitness, found.keys.len()), (Fitness::Fit, subkeys.len()));
            assert_eq!(found.expires, days.map(|days: u32| birth() + days * DAY), "{primary:?} {subkeys:?}");
        }
        let later_keys = made(None, &[Some(10), Some(30), Some(30), Some(20)]);
        let found = at(&later_keys, birth() + 25 * DAY);
        assert_eq!((found.fitness, found.keys.len()), (Fitness::Fit, 2), "what has expired is left out");
        let found = at(&later_keys, now());
        assert_eq!(
            (found.fitness, found.keys.len()),
            (Fitness::Lapsed(Lapse::Expired), 2),
            "those that expired last"
        );
        assert_eq!(found.expires, Some(birth() + 30 * DAY));
    }

    #[test]
    fn the_earliest_end_of_a_key_counts() {
        use ReasonForRevocation::{KeyCompromised, KeyRetired, KeySuperseded};

        let expiring = || made(Some(100), &[Some(50)]);
        let end = |cert: &Cert| {
            let found = at(cert, now());
            (
                found.fitness,
                found.expires.and_then(|at| Some(at.duration_since(birth()).ok()?.as_secs() / 86_400)),
            )
        };
        let lapsed = |how, days| (Fitness::Lapsed(how), Some(days));
        for (cert, expected) in [
            (expiring(), lapsed(Lapse::Expired, 50)),
            (revoked(expiring(), KeyRetired, birth() + 20 * DAY), lapsed(Lapse::Retired, 20)),
            (revoked(expiring(), KeySuperseded, birth() + 70 * DAY), lapsed(Lapse::Expired, 50)),
            (with_revoked_subkey(expiring(), 0, KeyRetired, birth() + 30 * DAY), lapsed(Lapse::Retired, 30)),
            (made(Some(40), &[Some(50)]), lapsed(Lapse::Expired, 40)),
            (
                with_revoked_subkey(expiring(), 0, KeyCompromised, birth() + 30 * DAY),
                (Fitness::Unfit(Unfit::KeysRevoked), None),
            ),
        ] {
            assert_eq!(end(&cert), expected);
        }
        // A hard revocation beats a soft one.
        let both = revoked(revoked(made(None, &[None]), KeyRetired, birth() + DAY), KeyCompromised, now());
        assert_eq!(end(&both), (Fitness::Unfit(Unfit::Revoked), None));
        // What one key is worth, another is not.
        let one_left = with_revoked_subkey(made(None, &[None, None]), 0, KeyCompromised, now());
        let found = at(&one_left, now());
        assert_eq!((found.fitness, found.keys.len()), (Fitness::Fit, 1));
    }

    /// As in Autocrypt v2: one that lasts, and one of a row that are replaced.
    #[test]
    fn a_subkey_that_is_rotated_away_is_never_alone() {
        use ReasonForRevocation::{KeyCompromised, KeyRetired};
        let both = || made(None, &[None, Some(10)]);
        let found = |cert: &Cert, day: u32| {
            let found = at(cert, birth() + day * DAY);
            (found.fitness, found.keys.len(), found.expires.is_some())
        };
        assert_eq!(found(&both(), 5), (Fitness::Fit, 2, false));
        assert_eq!(found(&both(), 11), (Fitness::Fit, 1, false));
        let rotated = (Fitness::Unfit(Unfit::Rotated), 0, false);
        for day in [5, 11] {
            assert_eq!(found(&made(None, &[Some(10), Some(15)]), day), rotated);
        }
        // One alone is no row.
        assert_eq!(found(&made(Some(100), &[Some(10)]), 5), (Fitness::Fit, 1, true));
        assert_eq!(found(&made(None, &[Some(10)]), 11), (Fitness::Lapsed(Lapse::Expired), 1, true));
        // It is not what is left where the other has gone out of use.
        let cert = both();
        let lasts = |signature: &Signature| signature.key_validity_period().is_none();
        // Subkeys stand in no order of their making.
        let (number, lasting) =
            cert.keys().subkeys().enumerate().find(|(_, key)| key.self_signatures().any(lasts)).unwrap();
        let lasting = lasting.key().fingerprint();
        let retired = with_revoked_subkey(cert.clone(), number, KeyRetired, birth() + 2 * DAY);
        assert_eq!(found(&retired, 5), (Fitness::Lapsed(Lapse::Retired), 1, true));
        assert_eq!(at(&retired, birth() + 5 * DAY).keys[0].fingerprint(), lasting);
        let compromised = with_revoked_subkey(cert, number, KeyCompromised, birth() + 2 * DAY);
        assert_eq!(found(&compromised, 5), (Fitness::Unfit(Unfit::KeysRevoked), 0, false));
        // Who has a certificate that is short-lived as a whole, or a longer life, has not such a row.
        for cert in [made(Some(10), &[None]), made(Some(10), &[Some(10)]), made(None, &[Some(16)])] {
            assert_eq!(found(&cert, 5), (Fitness::Fit, 1, true));
        }
    }

    #[test]
    fn either_flag_is_for_mail_and_no_other() {
        let none = KeyFlags::empty();
        for (flags, fit) in [
            (none.clone().set_transport_encryption(), true),
            (none.clone().set_storage_encryption(), true),
            (none.clone().set_signing(), false),
            (none.set_authentication(), false),
        ] {
            let builder = CertBuilder::new().set_creation_time(birth()).add_userid("Alice");
            let cert = builder.add_subkey(flags.clone(), None, None).generate().unwrap().0;
            assert_eq!(at(&cert, now()).fitness == Fitness::Fit, fit, "{flags:?}");
        }
    }

    #[test]
    fn keys_that_are_no_use_say_why() {
        let why = match at(&with_weak_subkey(made(None, &[])), SystemTime::now()).fitness {
            Fitness::Unfit(Unfit::KeyPolicy(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(why.contains("SHA1") && why.contains(": "), "{why}");
        // Without an encryption key there is none that the policy refuses.
        assert_eq!(at(&made(None, &[]), now()).fitness, Fitness::Unfit(Unfit::NoEncryptionKey));
    }

    #[test]
    fn a_primary_key_that_the_policy_refuses_says_why() {
        let key = Key4::<_, sequoia_openpgp::packet::key::PrimaryRole>::generate_rsa(1024).unwrap();
        let key: Key<_, _> = key.into();
        let mut signer = key.clone().into_keypair().unwrap();
        let cert = Cert::try_from(vec![Packet::from(key)]).unwrap();
        let user_id = sequoia_openpgp::packet::UserID::from("Alice");
        let builder =
            SignatureBuilder::new(SignatureType::PositiveCertification).set_hash_algo(HashAlgorithm::SHA1);
        let named = user_id.bind(&mut signer, &cert, builder).unwrap();
        let cert = cert.insert_packets([Packet::from(user_id), named.into()]).unwrap().0;
        let found = at(&cert, SystemTime::now()).fitness;
        assert!(matches!(&found, Fitness::Unfit(Unfit::Policy(why)) if why.contains("SHA1")), "{found:?}");
    }

    #[test]
    fn the_compression_that_its_owner_reads_is_found() {
        let plain = at(&made(None, &[None]), now());
        assert_eq!(plain.compression, None);
        let cert = made(None, &[None]);
        let builder = SignatureBuilder::new(SignatureType::PositiveCertification);
        let builder = builder.set_signature_creation_time(birth() + DAY).unwrap();
        let builder = builder.set_preferred_compression_algorithms(vec![CompressionAlgorithm::Zlib]).unwrap();
        let user_id = cert.userids().next().unwrap().userid().clone();
        let named = user_id.bind(&mut signer(&cert), &cert, builder).unwrap();
        let cert = cert.insert_packets([Packet::from(user_id), named.into()]).unwrap().0;
        assert_eq!(at(&cert, now()).compression, Some(vec![CompressionAlgorithm::Zlib]));
    }

    #[test]
    fn later_is_later_and_never_latest() {
        let [early, late] = [Some(birth()), Some(now())];
        for (a, b, expected) in [
            (late, early, true),
            (early, late, false),
            (early, early, false),
            (None, early, true),
            (early, None, false),
            (None, None, false),
        ] {
            assert_eq!(later(a, b), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn each_fitness_has_words_of_its_own() {
        let unfit = [
            Unfit::SecretKey,
            Unfit::Revoked,
            Unfit::Future,
            Unfit::Policy("a".into()),
            Unfit::NoEncryptionKey,
            Unfit::KeysRevoked,
            Unfit::KeyPolicy("a".into()),
            Unfit::Rotated,
            Unfit::Unsupported("a".into()),
        ];
        let all = [Fitness::Fit, Fitness::Lapsed(Lapse::Expired), Fitness::Lapsed(Lapse::Retired)];
        let words: std::collections::BTreeSet<String> =
            all.into_iter().chain(unfit.map(Fitness::Unfit)).map(|fitness| fitness.to_string()).collect();
        assert!(words.len() == 12 && !words.contains(""), "{words:?}");
    }
}
