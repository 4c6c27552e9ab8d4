//! Edge: Asks the key sources that lie in homes, with the rights of each home's owner: root's own process opens nothing
//! there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mailseal_core::error::Error as CoreError;
use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};

use crate::cli;
use crate::config::Config;
use crate::dovecot::userdb::Account;
use crate::error::Error;
use crate::keys::admin::owned;
use crate::keystore::census;
use crate::keystore::source::Source;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::keystore::{self, Request};
use crate::system::owner::child::serve;
use crate::system::owner::cut;
use crate::system::owner::identity::Identity;
use crate::system::owner::process::{Report, Start, Watch, run as run_as_owner};
use crate::system::owner::slots::side_by_side;
use crate::system::process;

/// The kind of the task.
pub const KIND: &str = "ask";

/// How long one user may take, whatever the owner of the home does to it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many users one process is asked for.
const AT_ONCE: usize = 5000;

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

/// What an owner's process is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    config: Option<OsString>,
    questions: Vec<Question>,
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
    let mut answers = vec![Answer::None; accounts.len()];
    if sources(config, true).next().is_none() {
        return Ok(answers);
    }
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let mut owners: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
    for (number, (_, account)) in accounts.iter().enumerate() {
        match (account.uid, account.gid) {
            (Some(uid), Some(gid)) if uid != 0 => owners.entry((uid, gid)).or_default().push(number),
            (None, _) | (_, None) if own.0 != 0 => owners.entry(own).or_default().push(number),
            _ => answers[number] = Answer::Unasked("it is not known whose files the home holds".into()),
        }
    }
    let owners: Vec<_> = owners.into_iter().collect();
    let jobs = process::jobs(None);
    let told = Mutex::new(&mut answers);
    side_by_side(jobs, &owners, stop, |(owner, numbers), slot| {
        let asked: Vec<&(User, Account)> = numbers.iter().map(|number| &accounts[*number]).collect();
        let watch = Watch { patience: PATIENCE, stop, slot: Some(slot) };
        let said =
            if owner.0 == own.0 { Ok(here(config, &asked)) } else { there(path, *owner, &asked, &watch) };
        let said = said.unwrap_or_else(|error| vec![Answer::Unasked(error.to_string()); numbers.len()]);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.iter().zip(said).for_each(|(number, answer)| told[*number] = answer);
    });
    // Who was not asked any more must not pass for somebody without a certificate.
    if stop.load(Ordering::Relaxed) { Err(owned::interrupted()) } else { Ok(answers) }
}

fn here(config: &Config, asked: &[&(User, Account)]) -> Vec<Answer> {
    let trust = || Trust::of_process(config.keys.trusted_groups.ids());
    asked.iter().map(|(user, account)| one(config, user, account.home.as_deref(), trust(), true)).collect()
}

/// Asks with the rights of `owner`. Users whom its process does not answer for were not asked.
fn there(
    path: Option<&Path>,
    owner: (u32, u32),
    asked: &[&(User, Account)],
    watch: &Watch<'_>,
) -> Result<Vec<Answer>, Error> {
    let identity = Identity::of(Uid::from_raw(owner.0), Gid::from_raw(owner.1))?;
    let start = Start { program: cli::ADMIN, kind: KIND, identity: &identity };
    let config = path.map(std::path::absolute).transpose().map_err(CoreError::Read)?;
    let mut answers = Vec::new();
    for asked in asked.chunks(AT_ONCE) {
        let question = |(user, account): &&(User, Account)| Question {
            user: user.name().into(),
            home: account.home.clone().map(Into::into),
        };
        let task =
            Task { config: config.clone().map(Into::into), questions: asked.iter().map(question).collect() };
        let end = answers.len() + asked.len();
        let told = run_as_owner(&start, &task, None, watch, &mut |answer| {
            // There is one for each question.
            if answers.len() == end {
                return Err(io::ErrorKind::InvalidData.into());
            }
            answers.push(answer);
            Ok(())
        });
        let why = told.map_or_else(|error| error.to_string(), |()| "it was not answered for".into());
        answers.resize(end, Answer::Unasked(why));
    }
    Ok(answers)
}

/// What the process itself does.
///
/// # Errors
/// Those of its beginning and of the configuration.
pub fn main() -> Result<(), Error> {
    serve(|task: Task, reports, stop| {
        let config = Config::load(task.config.as_deref().map(Path::new))?;
        for question in task.questions.iter().take_while(|_| !stop.load(Ordering::Relaxed)) {
            let trust = Trust::of_process(config.keys.trusted_groups.ids());
            let home = question.home.as_deref().map(Path::new);
            let answer = match User::parse(&question.user) {
                Ok(user) => one(&config, &user, home, trust, true),
                Err(error) => Answer::Unasked(error.to_string()),
            };
            reports.say(match answer {
                Answer::Unasked(why) => Answer::Unasked(cut(why)),
                told => told,
            });
        }
        Ok(())
    })
}

/// Whether any source can only be asked user by user: all whose names do not tell for whom they are.
#[must_use]
pub fn needs_users(config: &Config) -> bool {
    !config.keys.sources.iter().all(census::tells_users)
}
