//! To whom a message is sealed: the certificates that policy lets through, and one session key for all their keys.
//!
//! All of them are OpenPGP's ([`openpgp`]) or S/MIME's ([`smime`]); which, whoever chooses has decided. The rules by which
//! certificates are chosen are the same. A key counts as usable only when the session key was really encrypted to it: some
//! keys look well and fail then.

pub mod openpgp;
pub mod smime;

use std::time::{Duration, SystemTime};

use sequoia_openpgp::Cert;

use self::openpgp::Container;
use crate::cert::Fitness;
use crate::error::Error;
use crate::smime::certificate::Certificate;
use crate::smime::enveloped::Method;
use crate::smime::recipient::KeyTransport;

/// A certificate that expires within this time is warned about.
pub const EXPIRING: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The encryption container (RFC 9580, section 5.13; RFC 5652, section 6; RFC 5083).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Version 1, which every reader knows.
    Seipd1,
    /// Version 2, for recipients whose keys are all of version 6.
    Seipd2,
    /// S/MIME's enveloped-data, with AES-256-CBC.
    EnvelopedData,
    /// S/MIME's authEnveloped-data, with AES-256-GCM, for recipients whose certificates all say that they read it.
    AuthEnvelopedData,
}

impl Format {
    /// A short name, for a log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seipd1 => "seipd1",
            Self::Seipd2 => "seipd2",
            Self::EnvelopedData => "cms-cbc",
            Self::AuthEnvelopedData => "cms-gcm",
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
    /// Sealed in a way that does not tell when what was sealed is changed (S/MIME with AES-CBC).
    Malleable,
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
            Self::Malleable => "malleable",
            Self::HpSkippedSigned => "hp-skipped-signed",
            Self::HpSkipped => "hp-skipped",
        }
    }
}

/// The certificates that messages are sealed to.
#[derive(Clone, Debug)]
pub struct Recipients(Kind);

#[derive(Clone, Debug)]
enum Kind {
    OpenPgp(Choice<openpgp::Keys>),
    Smime(Choice<smime::Key>, KeyTransport),
}

/// The certificates of one kind that were chosen.
#[derive(Clone, Debug)]
struct Choice<K> {
    /// The delivery user, whom errors name.
    user: String,
    members: Vec<Member<K>>,
    warnings: Vec<Warning>,
}

/// A certificate, and what is known of it.
#[derive(Clone, Debug)]
struct Member<K> {
    /// Its fingerprint.
    name: String,
    fitness: Fitness,
    expires: Option<SystemTime>,
    recovery: bool,
    keys: K,
}

/// What carries the key of one message to the recipients.
#[derive(Debug)]
pub enum Session {
    /// In packets of OpenPGP.
    OpenPgp(openpgp::Session),
    /// In CMS.
    Smime(smime::Session),
}

impl Session {
    /// The container that all recipients read.
    #[must_use]
    pub fn format(&self) -> Format {
        match self {
            Self::OpenPgp(session) => match session.container {
                Container::Seipd1 => Format::Seipd1,
                Container::Seipd2 => Format::Seipd2,
            },
            Self::Smime(session) => match session.method {
                Method::Cbc => Format::EnvelopedData,
                Method::Gcm => Format::AuthEnvelopedData,
            },
        }
    }

    /// What the log calls the keys, 16 hexadecimal digits each: OpenPGP's key ids, or
    /// [`Certificate::id`].
    #[must_use]
    pub fn key_ids(&self) -> &[String] {
        match self {
            Self::OpenPgp(session) => &session.key_ids,
            Self::Smime(session) => &session.key_ids,
        }
    }

    /// What to warn about, in order, each once.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        match self {
            Self::OpenPgp(session) => &session.warnings,
            Self::Smime(session) => &session.warnings,
        }
    }
}

impl Recipients {
    /// Chooses among the OpenPGP certificates of the user `user` those that are fit at `now`, or by `when_expired` those that
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
        let members = |certs: &[Cert]| certs.iter().map(|cert| openpgp::member(cert, now)).collect();
        let choice = Choice::of(user, members(certs), when_expired, now)?;
        Ok(Self(Kind::OpenPgp(choice.with_recovery(members(recovery))?)))
    }

    /// The same of S/MIME certificates.
    ///
    /// # Errors
    /// As [`Recipients::choose`]; [`Error::NoUsableKey`] as well when two of the user's bear the same issuer and serial number and
    /// different keys, [`Error::Recovery`] when a recovery certificate is one of two.
    pub fn choose_smime(
        user: &str,
        certificates: &[Certificate],
        recovery: &[Certificate],
        when_expired: WhenExpired,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let members = |all: &[Certificate]| all.iter().map(|one| smime::member(one, now)).collect();
        let choice = Choice::of(user, members(certificates), when_expired, now)?;
        let choice = choice.with_recovery(members(recovery))?;
        choice.demand_different_names()?;
        Ok(Self(Kind::Smime(choice, KeyTransport::default())))
    }

    /// The same, with content keys encrypted so where a certificate's key is RSA. It does nothing with OpenPGP.
    #[must_use]
    pub fn with_key_transport(self, transport: KeyTransport) -> Self {
        match self.0 {
            Kind::Smime(choice, _) => Self(Kind::Smime(choice, transport)),
            openpgp @ Kind::OpenPgp(_) => Self(openpgp),
        }
    }

    /// What to warn about, whatever message is sealed.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        match &self.0 {
            Kind::OpenPgp(choice) => &choice.warnings,
            Kind::Smime(choice, _) => &choice.warnings,
        }
    }

    /// Whether the key with this id, 16 hexadecimal digits, is one of theirs.
    #[must_use]
    pub fn have_key(&self, id: &str) -> bool {
        match &self.0 {
            Kind::OpenPgp(choice) => choice.keys().any(|key| key.keyid().to_hex() == id),
            Kind::Smime(choice, _) => choice.certificates().any(|certificate| certificate.id() == id),
        }
    }

    /// Whether one of them is an S/MIME certificate for the key with these octets
    /// ([`PrivateKey::public`](crate::smime::recipient::PrivateKey::public)).
    #[must_use]
    pub fn have_smime_key(&self, public: &[u8]) -> bool {
        match &self.0 {
            Kind::OpenPgp(_) => false,
            Kind::Smime(choice, _) => {
                choice.certificates().any(|certificate| certificate.public_key() == Some(public))
            }
        }
    }

    /// The fingerprints of all keys that messages are sealed to, sorted: where they are the same, one message is for both.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        let mut fingerprints: Vec<_> = match &self.0 {
            Kind::OpenPgp(choice) => choice.keys().map(|key| key.fingerprint().to_hex()).collect(),
            Kind::Smime(choice, _) => choice.certificates().map(Certificate::fingerprint).collect(),
        };
        fingerprints.sort();
        fingerprints
    }

    /// Makes a key for one message and encrypts it to every recipient's.
    ///
    /// # Errors
    /// [`Error::NoUsableKey`] when it could not be encrypted to any key of the user's certificates,
    /// [`Error::Recovery`] when it could not to any of a recovery certificate's.
    pub fn session(&self) -> Result<Session, Error> {
        match &self.0 {
            Kind::OpenPgp(choice) => choice.session().map(Session::OpenPgp),
            Kind::Smime(choice, transport) => choice.session(*transport).map(Session::Smime),
        }
    }
}

impl<K> Choice<K> {
    /// Chooses among `candidates` those that are fit, or by `when_expired` those that expired last.
    fn of(
        user: &str,
        candidates: Vec<Member<K>>,
        when_expired: WhenExpired,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let (mut fit, mut lapsed, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for member in candidates {
            match member.fitness {
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
            let last = lapsed.iter().filter_map(|member| member.expires).max();
            lapsed.retain(|member| member.expires == last);
            members = lapsed;
            warnings.push(Warning::Expired);
        } else if members.iter().all(|member| member.expires.is_some_and(|at| at < now + EXPIRING)) {
            warnings.push(Warning::Expiring);
        }
        if members.is_empty() {
            return Err(Error::NoUsableKey { user: user.to_owned(), why: refused.join("; ") });
        }
        Ok(Self { user: user.to_owned(), members, warnings })
    }

    /// Adds the recovery certificates, all of which must be fit.
    fn with_recovery(mut self, recovery: Vec<Member<K>>) -> Result<Self, Error> {
        if let Some(unfit) = recovery.iter().find(|member| member.fitness != Fitness::Fit) {
            return Err(Error::Recovery(unfit.verdict()));
        }
        self.members.extend(recovery.into_iter().map(|member| Member { recovery: true, ..member }));
        Ok(self)
    }
}

impl<K> Member<K> {
    fn verdict(&self) -> String {
        format!("{}: {}", self.name, self.fitness)
    }
}
