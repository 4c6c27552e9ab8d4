//! Edge: Questions about users that are answered with the rights of each home's owner: root's own process opens nothing there.
//! Each question gets one answer, in the order of the questions.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mailseal_core::error::Error as CoreError;
use nix::unistd::{Gid, Uid, getegid, geteuid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cli;
use crate::config::Config;
use crate::dovecot::userdb::Account;
use crate::error::Error;
use crate::keys::admin::owned;
use crate::system::owner::child::serve;
use crate::system::owner::identity::Identity;
use crate::system::owner::process::{Report, Start, Watch, run as run_as_owner};
use crate::system::owner::slots::side_by_side;
use crate::system::process;

/// How long one user may take, whatever the owner of the home does to it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many users one process is asked for.
const AT_ONCE: usize = 5000;

/// An answer, of which there can be none.
pub trait Answer: Report + Serialize + Clone + Send {
    /// That the question was not answered, and why.
    fn unasked(why: String) -> Self;
}

/// A user with the given rights, uid and gid; `None` where it is not known whose files the home holds.
pub type Owner = Option<(u32, u32)>;

/// Whose rights deliveries to `account` have: the user's as Dovecot says. Who is not root has no others than its own.
#[must_use]
pub fn owner(account: &Account) -> Owner {
    let own = (geteuid().as_raw(), getegid().as_raw());
    match (account.uid, account.gid) {
        (Some(uid), Some(gid)) if uid != 0 => Some((uid, gid)),
        (None, _) | (_, None) if own.0 != 0 => Some(own),
        _ => None,
    }
}

/// What an owner's process is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Task<Q> {
    config: Option<OsString>,
    questions: Vec<Q>,
}

/// How questions of one kind are asked.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The kind of the task.
    pub kind: &'static str,
    /// The configuration file, if another than the default.
    pub config: Option<&'a Path>,
    /// Set where the run is to stop.
    pub stop: &'a AtomicBool,
}

impl Asking<'_> {
    /// Asks `questions`: as root with one process for each owner, side by side; `here` answers in this process what is its own.
    ///
    /// # Errors
    /// [`Error::Owner`] where the run is to stop first.
    pub fn ask<Q: Serialize + Sync, A: Answer>(
        &self,
        questions: &[(Owner, Q)],
        here: impl Fn(&Q) -> A + Sync,
    ) -> Result<Vec<A>, Error> {
        let unknown = || A::unasked("it is not known whose files the home holds".into());
        let mut answers: Vec<A> = questions.iter().map(|_| unknown()).collect();
        let mut owners: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
        for (number, (owner, _)) in questions.iter().enumerate() {
            owner.iter().for_each(|owner| owners.entry(*owner).or_default().push(number));
        }
        let owners: Vec<_> = owners.into_iter().collect();
        let jobs = process::jobs(None);
        let told = Mutex::new(&mut answers);
        side_by_side(jobs, &owners, self.stop, |(owner, numbers), slot| {
            let asked: Vec<&Q> = numbers.iter().map(|number| &questions[*number].1).collect();
            let watch = Watch { patience: PATIENCE, stop: self.stop, slot: Some(slot) };
            let said = if owner.0 == geteuid().as_raw() {
                Ok(asked.iter().map(|question| here(question)).collect())
            } else {
                self.there(*owner, &asked, &watch)
            };
            let said = said.unwrap_or_else(|error| vec![A::unasked(error.to_string()); numbers.len()]);
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            numbers.iter().zip(said).for_each(|(number, answer)| told[*number] = answer);
        });
        // Who was not asked any more must not pass for somebody of whom nothing is to be said.
        if self.stop.load(Ordering::Relaxed) { Err(owned::interrupted()) } else { Ok(answers) }
    }

    /// Asks with the rights of `owner`. Users whom its process does not answer for were not asked.
    fn there<Q: Serialize, A: Answer>(
        &self,
        owner: (u32, u32),
        asked: &[&Q],
        watch: &Watch<'_>,
    ) -> Result<Vec<A>, Error> {
        let identity = Identity::of(Uid::from_raw(owner.0), Gid::from_raw(owner.1))?;
        let start = Start { program: cli::ADMIN, kind: self.kind, identity: &identity };
        let config = self.config.map(std::path::absolute).transpose().map_err(CoreError::Read)?;
        let mut answers = Vec::new();
        for asked in asked.chunks(AT_ONCE) {
            let task = Task { config: config.clone().map(Into::into), questions: asked.to_vec() };
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
            answers.resize(end, A::unasked(why));
        }
        Ok(answers)
    }
}

/// What the process itself does: gives the `answer` to each question.
///
/// # Errors
/// Those of its beginning and of the configuration.
pub fn main<Q: DeserializeOwned, A: Answer>(answer: impl Fn(&Config, Q) -> A) -> Result<(), Error> {
    serve(|task: Task<Q>, reports, stop| {
        let config = Config::load(task.config.as_deref().map(Path::new))?;
        for question in task.questions.into_iter().take_while(|_| !stop.load(Ordering::Relaxed)) {
            reports.say(answer(&config, question));
        }
        Ok(())
    })
}
