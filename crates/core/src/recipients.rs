//! To whom a message is sealed: the certificates that policy lets through, and one session key for all their keys.
//!
//! A key counts as usable only when the session key was really encrypted to it: some keys look well and fail then.

use std::time::{Duration, SystemTime};

use sequoia_openpgp::crypto::SessionKey;
use sequoia_openpgp::packet::pkesk::{PKESK3, PKESK6};
use sequoia_openpgp::types::{CompressionAlgorithm, SymmetricAlgorithm};
use sequoia_openpgp::{Cert, Fingerprint, Packet};

use crate::cert::{Assessment, EncryptionKey, Fitness, assess};
use crate::error::Error;

/// The cipher of every message.
pub const CIPHER: SymmetricAlgorithm = SymmetricAlgorithm::AES256;

/// Octets of its key.
const CIPHER_KEY: usize = 32;

/// A certificate that expires within this time is warned about.
pub const EXPIRING: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The encryption container (RFC 9580, section 5.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Version 1, which every reader knows.
    Seipd1,
    /// Version 2, for recipients whose keys are all of version 6.
    Seipd2,
}

impl Format {
    /// A short name, for a log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seipd1 => "seipd1",
            Self::Seipd2 => "seipd2",
        }
    }
}

/// What to do with a user all of whose certificates have expired or were retired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenExpired {
    /// Seal to the keys that expired last, and warn: at rest, an expired key protects better than none.
    #[default]
    Encrypt,
    /// Refuse them.
    Defer,
}

/// Something an admin should look at although the message was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// Sealed to expired or retired keys.
    Expired,
    /// The last key expires soon.
    Expiring,
    /// Not all of the user's certificates or keys could be used.
    SomeKeysUnusable,
    /// Its header fields stay readable outside, because the root is signed: the signature would have to cover them.
    HpSkippedSigned,
    /// Its header fields stay readable outside, because they could not be hidden and given back exactly.
    HpSkipped,
}

impl Warning {
    /// A short name, for a log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Expiring => "expiring",
            Self::SomeKeysUnusable => "some-keys-unusable",
            Self::HpSkippedSigned => "hp-skipped-signed",
            Self::HpSkipped => "hp-skipped",
        }
    }
}

/// The certificates that messages are sealed to.
#[derive(Clone, Debug)]
pub struct Recipients {
    /// The delivery user, whom errors name.
    user: String,
    members: Vec<Member>,
    warnings: Vec<Warning>,
}

#[derive(Clone, Debug)]
struct Member {
    /// Fingerprint of the certificate.
    name: String,
    assessment: Assessment,
    recovery: bool,
}

/// A session key and the packets that carry it to the recipients' keys: for one message.
#[derive(Debug)]
pub struct Session {
    pub(crate) key: SessionKey,
    pub(crate) packets: Vec<Packet>,
    pub(crate) compression: Vec<CompressionAlgorithm>,
    /// The container that all recipients read.
    pub format: Format,
    /// The key ids of the keys, 16 hexadecimal digits each.
    pub key_ids: Vec<String>,
    /// What to warn about, in order, each once.
    pub warnings: Vec<Warning>,
}

impl Recipients {
    /// What to warn about, whatever message is sealed.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Chooses among the certificates of the user `user` those that are fit at `now`, or by `when_expired` those that
    /// expired last, and adds the `recovery` certificates.
    ///
    /// # Errors
    /// [`Error::NoUsableKey`] when no certificate of the user may be used; [`Error::Recovery`] when one of `recovery`
    /// may not.
    pub fn choose(
        user: &str,
        certs: &[Cert],
        recovery: &[Cert],
        when_expired: WhenExpired,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let (mut fit, mut lapsed, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for cert in certs {
            let member = Member::of(cert, false, now);
            match member.assessment.fitness {
                Fitness::Fit => fit.push(member),
                Fitness::Lapsed(_) if when_expired == WhenExpired::Encrypt => lapsed.push(member),
                _ => refused.push(member.verdict()),
            }
        }
        let mut warnings = Vec::new();
        if !refused.is_empty() || !(fit.is_empty() || lapsed.is_empty()) {
            warnings.push(Warning::SomeKeysUnusable);
        }
        let mut members = fit;
        if members.is_empty() {
            // Every lapsed certificate has a time.
            let last = lapsed.iter().filter_map(|member| member.assessment.expires).max();
            lapsed.retain(|member| member.assessment.expires == last);
            members = lapsed;
            warnings.push(Warning::Expired);
        } else if members.iter().all(|member| member.assessment.expires.is_some_and(|at| at < now + EXPIRING))
        {
            warnings.push(Warning::Expiring);
        }
        if members.is_empty() {
            return Err(Error::NoUsableKey { user: user.to_owned(), why: refused.join("; ") });
        }
        for cert in recovery {
            let member = Member::of(cert, true, now);
            if member.assessment.fitness != Fitness::Fit {
                return Err(Error::Recovery(member.verdict()));
            }
            members.push(member);
        }
        Ok(Self { user: user.to_owned(), members, warnings })
    }

    /// Whether the key with this id, 16 hexadecimal digits, is one of theirs.
    #[must_use]
    pub fn have_key(&self, id: &str) -> bool {
        self.keys().any(|key| key.keyid().to_hex() == id)
    }

    /// The fingerprints of all keys that messages are sealed to, sorted: where they are the same, one message is for both.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        let mut fingerprints: Vec<_> = self.keys().map(EncryptionKey::fingerprint).collect();
        fingerprints.sort();
        fingerprints
    }

    fn keys(&self) -> impl Iterator<Item = &EncryptionKey> {
        self.members.iter().flat_map(|member| &member.assessment.keys)
    }

    /// Makes a session key for one message and encrypts it to every key.
    ///
    /// # Errors
    /// [`Error::NoUsableKey`] when it could not be encrypted to any key of the user's certificates,
    /// [`Error::Recovery`] when it could not to any of a recovery certificate's.
    pub fn session(&self) -> Result<Session, Error> {
        let format = if self.keys().all(|key| key.version() == 6) { Format::Seipd2 } else { Format::Seipd1 };
        let session = self.try_session(format)?;
        // What failed may have been all that was not of version 6.
        let reached = |key: &EncryptionKey| session.key_ids.contains(&key.keyid().to_hex());
        if format == Format::Seipd1 && self.keys().filter(|key| reached(key)).all(|key| key.version() == 6) {
            return self.try_session(Format::Seipd2);
        }
        Ok(session)
    }

    fn try_session(&self, format: Format) -> Result<Session, Error> {
        let mut session = Session {
            key: SessionKey::new(CIPHER_KEY).map_err(Error::OpenPgp)?,
            packets: Vec::new(),
            compression: vec![CompressionAlgorithm::Zip, CompressionAlgorithm::Zlib],
            format,
            key_ids: Vec::new(),
            warnings: self.warnings.clone(),
        };
        let mut failed = Vec::new();
        let mut users = 0;
        for member in &self.members {
            let before = session.packets.len();
            for key in &member.assessment.keys {
                match packet(format, &session.key, key) {
                    Ok(packet) => {
                        session.packets.push(packet);
                        session.key_ids.push(key.keyid().to_hex());
                    }
                    Err(error) => failed.push(format!("{}: key {}: {error:#}", member.name, key.keyid())),
                }
            }
            if session.packets.len() > before {
                users += usize::from(!member.recovery);
                if let Some(readable) = &member.assessment.compression {
                    session.compression.retain(|algorithm| readable.contains(algorithm));
                }
            } else if member.recovery {
                return Err(Error::Recovery(failed.join("; ")));
            }
        }
        if users == 0 {
            return Err(Error::NoUsableKey { user: self.user.clone(), why: failed.join("; ") });
        }
        if !failed.is_empty() {
            session.warnings.push(Warning::SomeKeysUnusable);
        }
        session.warnings.sort_unstable();
        session.warnings.dedup();
        Ok(session)
    }
}

impl Member {
    fn of(cert: &Cert, recovery: bool, now: SystemTime) -> Self {
        Self { name: cert.fingerprint().to_hex(), assessment: assess(cert, now), recovery }
    }

    fn verdict(&self) -> String {
        format!("{}: {}", self.name, self.assessment.fitness)
    }
}

/// The packet that carries the session key to `key` (RFC 9580, section 5.1).
fn packet(format: Format, session_key: &SessionKey, key: &EncryptionKey) -> sequoia_openpgp::Result<Packet> {
    Ok(match format {
        Format::Seipd1 => Packet::PKESK(PKESK3::for_recipient(CIPHER, session_key, key)?.into()),
        Format::Seipd2 => Packet::PKESK(PKESK6::for_recipient(session_key, key)?.into()),
    })
}
