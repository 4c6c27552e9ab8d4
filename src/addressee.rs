//! To whom a user's mail is sealed: the certificates that policy finds for the user, or that there are none and need
//! be none.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sequoia_openpgp::Cert;

use crate::config::{Keys, WhenMissing};
use crate::error::Error;
use crate::keystore::source::Owner;
use crate::keystore::{self, Found, Request};
use crate::recipients::Recipients;
use crate::user::User;

/// Whose mail it is.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The delivery user.
    pub user: &'a str,
    /// The user's home, where it is known.
    pub home: Option<&'a Path>,
    /// Files with the certificates to seal to; when there are any, none are looked up.
    pub key_files: &'a [PathBuf],
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
    },
    /// To a user who has none and needs none; with the word for the log.
    Clear(&'static str),
}

/// Finds out to whom mail goes at the time `now`.
///
/// # Errors
/// Those of [`keystore::find`] and [`Recipients::choose`]; [`Error::Missing`] for a user who must have a certificate.
pub fn find(keys: &Keys, whose: &Whose<'_>, now: SystemTime) -> Result<Addressee, Error> {
    let sealed = |certs: Vec<Cert>, recovery: &[Cert]| {
        let recipients = Recipients::choose(whose.user, &certs, recovery, keys.expired, now)?;
        Ok(Addressee::Sealed { recipients, certs })
    };
    if !whose.key_files.is_empty() {
        return sealed(keystore::read_all_named(whose.key_files)?, &[]);
    }
    let user = &User::parse(whose.user)?;
    let owner = Owner::RootOrSelf;
    let request = Request { user, home: whose.home, address: keys.address.as_ref(), now, owner };
    let reason = match keystore::find(&keys.sources, &request)? {
        Found::Certs(certs) => return sealed(certs, &keystore::read_recovery(&keys.recovery)?),
        Found::NoKey => "no-key",
        Found::NoMatch => "no-match",
    };
    let required = keys.require.iter().any(|pattern| user.matches(pattern));
    if required || keys.missing == WhenMissing::Defer {
        return Err(Error::Missing { user: whose.user.into() });
    }
    Ok(Addressee::Clear(reason))
}
