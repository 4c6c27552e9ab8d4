//! What the keys that messages are sealed to are worth to their user now.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use mailseal_core::cert::{Fitness, Lapse, Unfit, assess};
use mailseal_core::smime::certificate::Certificate;
use mailseal_core::smime::fitness;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::RevocationStatus;
use sequoia_openpgp::{Cert, KeyID};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::Error;
use crate::keystore::any_cert::AnyCert;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::keystore::{self, Request};

/// What a key is to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Mail is sealed to it now.
    Current,
    /// Of the user's certificate, and expired or retired.
    Expired,
    /// Of the user's certificate, and revoked as compromised or without a reason.
    Revoked,
    /// In none of the user's certificates.
    Other,
    /// Nothing is known of the user's certificates.
    Unknown,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }
}

/// The keys of a user, and how many messages are sealed to each.
#[derive(Debug, Default)]
pub struct KeyBook {
    /// Whether the user's certificates are known.
    known: bool,
    states: BTreeMap<String, State>,
    messages: BTreeMap<String, u64>,
}

impl KeyBook {
    /// The keys of the certificates that are `given`, or of those that are looked up for `user`.
    ///
    /// # Errors
    /// Those of [`keystore::find`]; [`Error::Missing`] where the user has none.
    pub fn of(
        given: &[AnyCert],
        user: &str,
        home: Option<&Path>,
        config: &Config,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let found;
        let certs = if given.is_empty() {
            let name = User::parse(user)?;
            let trust = Trust::of_process(config.keys.trusted_groups.ids());
            let request = Request::new(&config.keys, &name, home, now, trust);
            found = keystore::find(&config.keys.sources, &request)?;
            found.as_deref().ok_or_else(|| Error::Missing { user: user.into() })?
        } else {
            given
        };
        let mut book = Self { known: true, ..Self::default() };
        certs.iter().for_each(|cert| match cert {
            AnyCert::OpenPgp(cert) => book.add(cert, now),
            AnyCert::Smime(certificate) => book.add_smime(certificate, now),
        });
        Ok(book)
    }

    fn add(&mut self, cert: &Cert, now: SystemTime) {
        let policy = StandardPolicy::new();
        let assessment = assess(cert, now);
        let subkeys = cert.keys().subkeys();
        let revoked: Vec<KeyID> = subkeys
            .filter(|key| matches!(key.revocation_status(&policy, now), RevocationStatus::Revoked(_)))
            .map(|key| key.key().keyid())
            .collect();
        for key in cert.keys().map(|key| key.key().keyid()) {
            let current = assessment.keys.iter().any(|fit| fit.keyid() == key);
            let state = match assessment.fitness {
                Fitness::Fit if current => State::Current,
                Fitness::Unfit(Unfit::Revoked | Unfit::KeysRevoked) => State::Revoked,
                Fitness::Lapsed(Lapse::Expired | Lapse::Retired) if current => State::Expired,
                _ if revoked.contains(&key) => State::Revoked,
                _ => State::Expired,
            };
            self.states.insert(key.to_hex(), state);
        }
    }

    fn add_smime(&mut self, certificate: &Certificate, now: SystemTime) {
        let state = match fitness::assess(certificate, now).fitness {
            Fitness::Fit => State::Current,
            Fitness::Lapsed(_) | Fitness::Unfit(_) => State::Expired,
        };
        self.states.insert(certificate.id(), state);
    }

    /// Counts a message that is sealed to these keys: the best of them says what it is worth.
    pub fn count(&mut self, recipients: &[String]) -> State {
        for key in recipients {
            *self.messages.entry(key.clone()).or_default() += 1;
        }
        recipients.iter().map(|key| self.state(key)).min().unwrap_or(State::Unknown)
    }

    /// The keys with what they are and how many messages are sealed to them.
    pub fn counts(&self) -> impl Iterator<Item = (String, State, u64)> {
        self.messages.iter().map(|(key, messages)| (key.clone(), self.state(key), *messages))
    }

    fn state(&self, key: &str) -> State {
        match self.states.get(key) {
            Some(state) => *state,
            None if self.known => State::Other,
            None => State::Unknown,
        }
    }
}
