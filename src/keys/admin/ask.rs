//! Edge: Asks the key sources that lie in homes, with the rights of each home's owner.

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use mailseal_core::error::Error as CoreError;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::dovecot::userdb::Account;
use crate::error::Error;
use crate::keys::admin::by_owner::{self, Asking};
use crate::keystore::census;
use crate::keystore::source::Source;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::keystore::{self, Request};
use crate::system::owner::cut;
use crate::system::owner::process::Report;

/// The kind of the task.
pub const KIND: &str = "ask";

/// What a user's sources say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// There is a certificate, of whatever worth.
    Some,
    /// There is none.
    None,
    /// They cannot be asked, and why.
    Unasked(String),
}

impl Report for Answer {}

impl by_owner::Answer for Answer {
    fn unasked(why: String) -> Self {
        Self::Unasked(cut(why))
    }
}

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    user: String,
    home: Option<OsString>,
}

/// The sources that lie in homes, or those that do not.
pub fn sources(config: &Config, in_homes: bool) -> impl Iterator<Item = &Source> {
    config.keys.sources.iter().filter(move |source| source.path.store(source.kind).is_none() == in_homes)
}

/// Asks the sources in or outside the homes for `user`.
#[must_use]
pub fn one(config: &Config, user: &User, home: Option<&Path>, trust: Trust, in_homes: bool) -> Answer {
    let request = Request::new(&config.keys, user, home, SystemTime::now(), trust);
    match keystore::find(sources(config, in_homes), &request) {
        Ok(Some(_)) | Err(Error::Ambiguous { .. } | Error::Core(CoreError::NoUsableKey { .. })) => {
            Answer::Some
        }
        Ok(None) => Answer::None,
        Err(error) => Answer::Unasked(error.to_string()),
    }
}

/// Asks the homes of `accounts`, in their order: as root, with one process for each owner, side by side.
///
/// # Errors
/// [`Error::Owner`] where `stop` is set first.
pub fn homes(
    config: &Config,
    path: Option<&Path>,
    accounts: &[(User, Account)],
    stop: &AtomicBool,
) -> Result<Vec<Answer>, Error> {
    if sources(config, true).next().is_none() {
        return Ok(vec![Answer::None; accounts.len()]);
    }
    let question = |(user, account): &(User, Account)| {
        let home = account.home.clone().map(Into::into);
        (by_owner::owner(account), Question { user: user.name().into(), home })
    };
    let questions: Vec<_> = accounts.iter().map(question).collect();
    Asking { kind: KIND, config: path, stop }.ask(&questions, |question| question.answer(config))
}

impl Question {
    fn answer(&self, config: &Config) -> Answer {
        let trust = Trust::of_process(config.keys.trusted_groups.ids());
        let answer = match User::parse(&self.user) {
            Ok(user) => one(config, &user, self.home.as_deref().map(Path::new), trust, true),
            Err(error) => Answer::Unasked(error.to_string()),
        };
        match answer {
            Answer::Unasked(why) => Answer::Unasked(cut(why)),
            told => told,
        }
    }
}

/// What the process itself does.
///
/// # Errors
/// Those of its beginning and of the configuration.
pub fn main() -> Result<(), Error> {
    by_owner::main(|config, question: Question| question.answer(config))
}

/// Whether any source can only be asked user by user: all whose names do not tell for whom they are.
#[must_use]
pub fn needs_users(config: &Config) -> bool {
    !config.keys.sources.iter().all(census::tells_users)
}
