//! To whom a user's mail is sealed: the certificates that policy finds for the user, or that there are none and need
//! be none.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mailseal_core::recipients::Recipients;
use sequoia_openpgp::Cert;

use crate::config::{Config, Keys, Mode, Rule, WhenMissing};
use crate::delivery::unchanged::{Off, Unchanged};
use crate::error::Error;
use crate::keystore::cache::Cache;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::keystore::{self, Request, absence};

/// Whose mail it is.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The delivery user.
    pub user: &'a str,
    /// The user's home, where it is known.
    pub home: Option<&'a Path>,
    /// Files with the certificates to seal to; when there are any, none are looked up.
    pub key_files: &'a [PathBuf],
    /// What was read before, where the process lives on.
    pub cache: Option<&'a Cache>,
}

/// To whom a message goes.
#[derive(Debug)]
pub enum Addressee {
    /// To a user with certificates.
    Sealed {
        /// The keys that messages are sealed to.
        recipients: Recipients,
        /// The user's certificates, as they were found.
        certs: Vec<Cert>,
        /// Whether they were looked up: an admin named them, otherwise.
        looked_up: bool,
    },
    /// As it is.
    Clear(Unchanged),
}

/// The rule of `[[users]]` for the user called `name`. Where the certificates are given, the name stands in the log only,
/// and may be any.
///
/// # Errors
/// [`Error::User`].
pub fn rule<'c>(config: &'c Config, whose: &Whose<'_>) -> Result<Option<&'c Rule>, Error> {
    match User::parse(whose.user) {
        Ok(user) => Ok(config.rule(&user)),
        Err(_) if !whose.key_files.is_empty() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds out to whom mail goes at the time `now`. What a rule observes is looked at as if it were sealed: whether that
/// counts is the caller's business.
///
/// # Errors
/// Those of [`keystore::find`], [`absence::prove`] and [`Recipients::choose`]; [`Error::Missing`] for a user who must have
/// a certificate.
pub fn find(config: &Config, whose: &Whose<'_>, now: SystemTime) -> Result<Addressee, Error> {
    let rule = rule(config, whose)?;
    if rule.is_some_and(|rule| rule.mode == Mode::Off) {
        return Ok(Addressee::Clear(Unchanged::Off(Off::Rule)));
    }
    let keys = &config.keys;
    let trust = Trust::of_process(keys.trusted_groups.ids());
    let sealed = |certs: Vec<Cert>, looked_up| {
        let recipients = recipients(keys, whose.user, &certs, (&trust, whose.cache), now)?;
        Ok(Addressee::Sealed { recipients, certs, looked_up })
    };
    let given = match rule {
        Some(rule) if whose.key_files.is_empty() => &rule.key,
        _ => whose.key_files,
    };
    if !given.is_empty() {
        return sealed(keystore::read_all_named(given, &trust, whose.cache)?, false);
    }
    let user = &User::parse(whose.user)?;
    let request = Request {
        given: whose.user,
        cache: whose.cache,
        ..Request::new(keys, user, whose.home, now, trust.clone())
    };
    if let Some(certs) = keystore::find(&keys.sources, &request)? {
        return sealed(certs, true);
    }
    let required =
        rule.is_some_and(|rule| rule.require) || keys.require.iter().any(|pattern| user.matches(pattern));
    if required || keys.missing == WhenMissing::Defer {
        return Err(Error::Missing { user: whose.user.into() });
    }
    Ok(Addressee::Clear(Unchanged::NoKey(absence::prove(keys, &request)?)))
}

/// `certs` and the recovery certificates, to which every message is sealed, whoever named the certificates.
///
/// # Errors
/// Those of [`keystore::read_recovery`] and [`Recipients::choose`].
pub fn recipients(
    keys: &Keys,
    user: &str,
    certs: &[Cert],
    (trust, cache): (&Trust, Option<&Cache>),
    now: SystemTime,
) -> Result<Recipients, Error> {
    let recovery = keystore::read_recovery(&keys.recovery, trust, cache)?;
    Ok(Recipients::choose(user, certs, &recovery, keys.expired, now)?)
}
