//! Edge: The audit of one Maildir, with the rights of its owner: certificates, folders, messages.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mailseal_maildir::folder::Folder;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::Error;
use crate::keystore::any_cert;
use crate::mailbox::audit::keys::{KeyBook, State};
use crate::mailbox::audit::message::{Class, look_at};
use crate::mailbox::audit::{Count, KeyCount, Listed};
use crate::mailbox::encrypt::event::Target;
use crate::mailbox::sweep::{self, Sweep};
use crate::system::owner::child::serve;
use crate::system::owner::cut;
use crate::system::owner::process::Report;
use crate::system::sandbox::Sandbox;

/// The kind of the task.
pub const KIND: &str = "audit";

/// Most keys of a message that are named: whoever seals chooses how many there are.
const MOST_KEYS: usize = 100;

/// What an audit of one Maildir is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The Maildir.
    pub target: Target,
    /// The configuration file, if another than the default.
    pub config: Option<OsString>,
    /// The user's certificates, each serialized; where there are any, none are looked up.
    pub certs: Vec<Vec<u8>>,
    /// Name the messages that are not sealed to a key that the user has now.
    pub list: bool,
    /// Messages at once; as many as there are processors, if not said.
    pub jobs: Option<NonZeroUsize>,
    /// Whether what reads mail must be confined to the Maildir.
    pub sandbox: Sandbox,
}

/// What it reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Event {
    /// The work goes on.
    Alive,
    /// Why nothing is known of the user's certificates.
    Unknown(String),
    /// A folder is done.
    Folder(Count),
    /// A message to be looked at.
    File(Listed),
    /// How many messages are sealed to a key.
    Key(KeyCount),
    /// A folder that failed beside another one that is the result.
    Problem {
        /// What failed.
        what: String,
        /// What to do.
        hint: String,
    },
}

impl Report for Event {}

/// Takes what is reported.
type Tell<'a> = dyn Fn(Event) + Sync + 'a;

impl Task {
    /// Makes the audit. `owned` says that this is an owner's process, and when it is to stop.
    ///
    /// # Errors
    /// Those of opening the Maildir, and of reading the certificates that were given.
    pub fn run(&self, config: &Config, owned: Option<Arc<AtomicBool>>, tell: &Tell<'_>) -> Result<(), Error> {
        let certs = any_cert::parse_each(&self.certs)?;
        let home = self.target.home.as_deref().map(Path::new);
        let book = KeyBook::of(&certs, &self.target.user, home, config, SystemTime::now());
        let book = book.unwrap_or_else(|error| {
            tell(Event::Unknown(cut(error.to_string())));
            KeyBook::default()
        });
        let sweep = Sweep {
            paths: vec![PathBuf::from(&self.target.path)],
            control: self.target.control.clone().map(PathBuf::from),
            jobs: self.jobs,
            owned,
        };
        let book = Mutex::new(book);
        let own: Vec<&Path> = sweep.paths.iter().chain(&sweep.control).map(PathBuf::as_path).collect();
        let swept = self.sandbox.within(&own, || {
            let problem = |event: sweep::Event| match event {
                sweep::Event::Problem { what, hint } => tell(Event::Problem { what, hint }),
                _ => tell(Event::Alive),
            };
            sweep.each_folder(&problem, |_, folder| {
                let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
                tell(Event::Folder(self.folder(folder, &mut book, tell)?));
                Ok(())
            })
        });
        let book = book.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (key, state, messages) in book.counts() {
            tell(Event::Key(KeyCount { key, state, messages }));
        }
        swept
    }

    fn folder(&self, folder: &Folder, book: &mut KeyBook, tell: &Tell<'_>) -> Result<Count, Error> {
        let listing = folder.list()?;
        let mut count = Count { folder: folder.path().display().to_string(), ..Count::default() };
        let look = |message| {
            tell(Event::Alive);
            look_at(folder, message)
        };
        let classes: Vec<Option<Class>> = listing.messages.par_iter().map(look).collect();
        let odd = listing.odd.iter().map(|odd| (odd.path.clone(), Class::Unreadable(odd.why.what().into())));
        let found = listing.messages.iter().zip(classes);
        // A message that went away meanwhile is none.
        let found = found.filter_map(|(message, class)| Some((folder.path_of(message), class?)));
        for (path, class) in found.chain(odd) {
            if let Some((state, keys)) = count.add(class, book)
                && self.list
            {
                let path = cut(path.display().to_string());
                tell(Event::File(Listed { state: cut(state), path, keys }));
            }
        }
        Ok(count)
    }
}

impl Count {
    /// Counts a message; what is to be said of one that is not sealed to a key that the user has now.
    fn add(&mut self, class: Class, book: &mut KeyBook) -> Option<(String, Vec<String>)> {
        self.messages += 1;
        match class {
            Class::Clear => {
                self.clear += 1;
                Some(("clear".to_owned(), Vec::new()))
            }
            Class::Encrypted(_) => {
                self.encrypted += 1;
                None
            }
            Class::Empty => {
                self.empty += 1;
                None
            }
            Class::Unreadable(why) => {
                self.unreadable += 1;
                Some((format!("unreadable: {why}"), Vec::new()))
            }
            Class::Sealed { mut recipients, exposed, gpgit } => {
                self.sealed += 1;
                self.sealed_by_gpgit += u64::from(gpgit);
                self.outside.add(exposed);
                let state = book.count(&recipients);
                match state {
                    State::Current | State::Unknown => return None,
                    State::Expired => self.sealed_to_expired += 1,
                    State::Revoked => self.sealed_to_revoked += 1,
                    State::Other => self.sealed_to_others += 1,
                }
                recipients.truncate(MOST_KEYS);
                Some((format!("sealed: {}", state.name()), recipients))
            }
        }
    }
}

/// What an owner's process does.
///
/// # Errors
/// Those of the task, which have been reported.
pub fn main() -> Result<(), Error> {
    serve(|task: Task, reports, stop| {
        let given = !task.certs.is_empty();
        // The process that a person has started says that it is missing.
        let config = Config::load_beside_keys(task.config.as_deref().map(Path::new), given, |_| {})?;
        // Nothing is changed here.
        task.run(&config, Some(Arc::clone(stop)), &|event| reports.say_or_leave(event))
    })
}
