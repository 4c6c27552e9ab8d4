//! Whether a certificate is fit to seal to at a time, with which keys, and why not.
//!
//! This is the one place that decides it. It reads what the certificate says under sequoia's policy; that a key really
//! encrypts is tried in [`crate::recipients`].

use std::fmt;
use std::time::SystemTime;

use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::amalgamation::key::ValidErasedKeyAmalgamation;
use sequoia_openpgp::cert::amalgamation::{ValidAmalgamation as _, ValidateAmalgamation as _};
use sequoia_openpgp::packet::Key;
use sequoia_openpgp::packet::key::{PublicParts, UnspecifiedRole};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::{CompressionAlgorithm, RevocationStatus, RevocationType};

/// A public key that mail is sealed to.
pub type EncryptionKey = Key<PublicParts, UnspecifiedRole>;

/// What [`assess`] found out about a certificate.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// Whether mail may be sealed to it.
    pub fitness: Fitness,
    /// The keys to seal to: all valid encryption keys (a user may have one a device); of an expired certificate those
    /// that expired last; of an unfit one none.
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
    /// This build cannot encrypt to its keys; the text names their algorithms.
    Unsupported(String),
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
            Self::Unsupported(algorithms) => write!(f, "this build cannot encrypt to {algorithms}"),
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

    let mut found = Found::default();
    valid.keys().filter(encrypts).for_each(|key| found.take(&key, lapse, primary_expires, now));
    if !found.keys.is_empty() {
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
    } else if !found.unsupported.is_empty() {
        Unfit::Unsupported(found.unsupported.join(", "))
    } else {
        why_no_key(cert, &policy, now)
    })
}

/// The encryption keys of a certificate, by what they are good for.
#[derive(Default)]
struct Found {
    keys: Vec<EncryptionKey>,
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
            self.unsupported.push(key.key().pk_algo().to_string());
            return;
        }
        let expires = match (primary_expires, key.key_expiration_time()) {
            (Some(primary), Some(key)) => Some(primary.min(key)),
            (primary, key) => primary.or(key),
        };
        match state(key, lapse, expires, now) {
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
    Unfit::NoEncryptionKey
}

/// The messages of an error and its causes, outermost first.
fn causes(error: &sequoia_openpgp::anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
