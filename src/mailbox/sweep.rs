//! Edge: Every message of some Maildirs, folder by folder, as many at once as there are jobs.
//!
//! What is done with them is the caller's business: [`crate::mailbox::decrypt`], [`crate::mailbox::reseal`] and [`crate::mailbox::audit`]. The
//! messages of a folder that is rewritten are committed in batches, as [`mailseal_maildir`] describes.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use mailseal_core::error::Error as CoreError;
use mailseal_maildir::commit::{Committed, Uids};
use mailseal_maildir::draft::{Change, Draft, Drafted, Original, Ready};
use mailseal_maildir::error::Error as MaildirError;
use mailseal_maildir::folder::{Folder, Message};
use mailseal_maildir::layout::Maildir;
use mailseal_maildir::patience::{OF_OWNERS, Patience};
use mailseal_maildir::recover::recover;
use rayon::prelude::*;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::system::owner::cut;
use crate::system::owner::process::Report;

/// Messages that one thread takes at once, and that are committed together.
const BATCH: usize = 16;

/// Which Maildirs, and how.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The Maildirs.
    pub paths: Vec<PathBuf>,
    /// Dovecot's control folder, where it is not in the Maildir.
    pub control: Option<PathBuf>,
    /// Messages at once; as many as there are processors, if not said.
    pub jobs: Option<NonZeroUsize>,
    /// In a process that root has started as the owner's, what says that it is to stop: no link but root's is followed.
    pub owned: Option<Arc<AtomicBool>>,
}

/// What happens on the way, for whoever shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Event {
    /// The work goes on.
    Alive,
    /// Another run works on this folder, and is waited for.
    Waiting {
        /// Its path.
        folder: String,
    },
    /// A message or folder that failed.
    Problem {
        /// What failed.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A folder is done.
    Folder {
        /// Its path.
        folder: String,
        /// What became of its messages.
        tally: Tally,
    },
}

impl Report for Event {
    fn is_progress(&self) -> bool {
        !matches!(self, Self::Waiting { .. })
    }
}

/// Takes what happens on the way.
pub type Tell<'a> = dyn Fn(Event) + Sync + 'a;

/// What became of the messages of a folder that was rewritten.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Messages.
    pub messages: u64,
    /// Rewritten ones.
    pub done: u64,
    /// Of those, how many are not byte for byte as they were before they were sealed.
    pub inexact: u64,
    /// Those that are in clear.
    pub clear: u64,
    /// Those that stay encrypted because it is not ours to open them.
    pub encrypted: u64,
    /// Those that failed and stay as they are.
    pub failed: u64,
}

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rewritten.
    Done {
        /// Byte for byte as it was before it was sealed.
        exact: bool,
    },
    /// In clear.
    Clear,
    /// Encrypted, and stays so.
    Encrypted,
}

impl Tally {
    /// Counts a message.
    pub fn count(&mut self, verdict: Verdict) {
        self.messages += 1;
        match verdict {
            Verdict::Done { exact } => {
                self.done += 1;
                self.inexact += u64::from(!exact);
            }
            Verdict::Clear => self.clear += 1,
            Verdict::Encrypted => self.encrypted += 1,
        }
    }

    /// Counts a message that failed, and says so.
    pub fn fail(&mut self, path: &Path, error: Error, tell: &Tell<'_>) {
        self.messages += 1;
        self.failed += 1;
        complain(path, &of_file(path, error), tell);
    }

    /// Adds what became of other messages.
    pub fn add(&mut self, other: Self) {
        let counts = [
            (&mut self.messages, other.messages),
            (&mut self.done, other.done),
            (&mut self.inexact, other.inexact),
            (&mut self.clear, other.clear),
            (&mut self.encrypted, other.encrypted),
            (&mut self.failed, other.failed),
        ];
        counts.into_iter().for_each(|(sum, count)| *sum = sum.saturating_add(count));
    }
}

/// Says what is wrong with a message or folder.
pub fn complain(path: &Path, error: &Error, tell: &Tell<'_>) {
    let what = match error {
        // They name it themselves.
        Error::Maildir(_) => error.to_string(),
        _ => format!("{}: {error}", path.display()),
    };
    tell(Event::Problem { what: cut(what), hint: cut(error.hint()) });
}

/// What reading and writing failed with, as a failure of a stored message.
#[must_use]
pub fn of_file(path: &Path, error: Error) -> Error {
    match error {
        Error::Core(CoreError::Read(source) | CoreError::Write(source)) => {
            MaildirError::Mail { path: path.into(), source }.into()
        }
        error => error,
    }
}

impl Sweep {
    /// Visits each folder of each Maildir. A folder that fails is named, and the others are visited all the same; the
    /// first error comes back in the end.
    ///
    /// # Errors
    /// Those of opening a Maildir, and of `visit`.
    pub fn each_folder(
        &self,
        tell: &Tell<'_>,
        mut visit: impl FnMut(&Maildir, &Folder) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(self.jobs.map_or(0, NonZeroUsize::get)).build();
        let pool = pool.map_err(|error| CoreError::Read(io::Error::other(error)))?;
        let mut first = Ok(());
        for path in &self.paths {
            let result = self.open(path).map_err(Error::from).and_then(|maildir| {
                let mut first = Ok(());
                for folder in maildir.folders()? {
                    let folder = maildir.folder(&folder).map_err(Error::from);
                    let result = folder.and_then(|folder| pool.install(|| visit(&maildir, &folder)));
                    first = keep_first(first, result, tell);
                }
                first
            });
            first = keep_first(first, result, tell);
        }
        first
    }

    fn open(&self, path: &Path) -> Result<Maildir, MaildirError> {
        let control = self.control.as_deref();
        let (maildir, stop) = match &self.owned {
            Some(stop) => (Maildir::open_strictly(path, control), Arc::clone(stop)),
            None => (Maildir::open(path, control), Arc::default()),
        };
        // Whoever can open a folder can lock it, root's as well.
        maildir.map(|maildir| maildir.with_patience(Patience::of(Some(OF_OWNERS), stop)))
    }

    /// Rewrites the messages of each folder with `transform`, each in its place; `done` gets what became of a folder.
    ///
    /// # Errors
    /// Those of the folders.
    pub fn rewrite(
        &self,
        uids: Uids,
        transform: &(impl Fn(&Original, &mut Draft<'_>) -> Result<Change<Verdict>, Error> + Sync),
        tell: &Tell<'_>,
    ) -> Result<(), Error> {
        self.each_folder(tell, |_, folder| {
            let hold =
                folder.hold(|| tell(Event::Waiting { folder: folder.path().display().to_string() }))?;
            recover(&hold)?;
            let listing = folder.list()?;
            let tally = Mutex::new(Tally::default());
            for odd in &listing.odd {
                complain(odd, &of_file(odd, CoreError::Read(io::Error::other("it is no file")).into()), tell);
            }
            listing
                .messages
                .par_chunks(BATCH)
                .for_each(|batch| rewrite_batch(folder, batch, uids, transform, (&tally, tell)));
            tell(folder_done(folder, tally));
            Ok(())
        })
    }
}

/// That a folder is done.
pub fn folder_done(folder: &Folder, tally: Mutex<Tally>) -> Event {
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    Event::Folder { folder: folder.path().display().to_string(), tally }
}

fn rewrite_batch(
    folder: &Folder,
    batch: &[Message],
    uids: Uids,
    transform: &(impl Fn(&Original, &mut Draft<'_>) -> Result<Change<Verdict>, Error> + Sync),
    (shared, tell): (&Mutex<Tally>, &Tell<'_>),
) {
    let mut tally = Tally::default();
    let mut ready: Vec<Box<Ready<'_>>> = Vec::new();
    let mut of: Vec<(&Message, Verdict)> = Vec::new();
    for message in batch {
        match folder.draft(message, transform) {
            Ok(Drafted::Ready(draft, verdict)) => {
                ready.push(draft);
                of.push((message, verdict));
            }
            Ok(Drafted::Kept(verdict)) => tally.count(verdict),
            Ok(Drafted::Gone) => {}
            Err(error) => tally.fail(&folder.path_of(message), error, tell),
        }
        tell(Event::Alive);
    }
    if !ready.is_empty() {
        for ((message, verdict), result) in of.into_iter().zip(folder.commit(ready, uids)) {
            match result {
                Ok(Committed::Replaced { .. }) => tally.count(verdict),
                Ok(Committed::Gone) => {}
                Ok(outcome @ (Committed::Moved | Committed::Changed)) => {
                    let what =
                        if outcome == Committed::Moved { "moved to another folder" } else { "changed" };
                    let source = io::Error::other(format!("it was {what} meanwhile"));
                    tally.fail(&folder.path_of(message), CoreError::Read(source).into(), tell);
                }
                Err(error) => tally.fail(&folder.path_of(message), error.into(), tell),
            }
        }
    }
    shared.lock().unwrap_or_else(PoisonError::into_inner).add(tally);
}

/// The first error of several; the others are said at once.
fn keep_first(first: Result<(), Error>, next: Result<(), Error>, tell: &Tell<'_>) -> Result<(), Error> {
    match (first, next) {
        (Err(first), Err(next)) => {
            complain(Path::new(""), &next, tell);
            Err(first)
        }
        (first, next) => first.and(next),
    }
}
