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
use mailseal_maildir::commit::Uids;
use mailseal_maildir::draft::{Change, Draft, Original};
use mailseal_maildir::error::Error as MaildirError;
use mailseal_maildir::folder::Folder;
use mailseal_maildir::layout::Maildir;
use mailseal_maildir::odd::Odd;
use mailseal_maildir::patience::{OF_OWNERS, Patience};
use mailseal_maildir::rewrite::{self, Manner, Outcome, rewrite};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::system::owner::cut;
use crate::system::owner::process::Report;

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
        counts: Counts,
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
pub struct Counts {
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

impl Counts {
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

    /// Counts what mail programs may take for a message, and says why it is left alone.
    pub fn leave_alone(&mut self, odd: &Odd, tell: &Tell<'_>) {
        self.fail(&odd.path, MaildirError::Odd(odd.clone()).into(), tell);
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
    /// Visits each folder of each Maildir. A folder that fails, or is left alone, is named, and the others are visited all the
    /// same; the first error comes back in the end.
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
                let folders = maildir.folders()?;
                let mut first = Ok(());
                for odd in folders.odd {
                    first = keep_first(first, Err(MaildirError::Odd(odd).into()), tell);
                }
                for folder in folders.paths {
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
        let manner = Manner::Replace(uids);
        self.each_folder(tell, |_, folder| {
            let rewriting = Rewriting { folder, transform, counts: Mutex::default(), tell };
            rewrite(folder, manner, &rewriting)?;
            tell(folder_done(folder, rewriting.counts));
            Ok(())
        })
    }
}

/// The work on one folder.
struct Rewriting<'a, F> {
    folder: &'a Folder,
    transform: &'a F,
    counts: Mutex<Counts>,
    tell: &'a Tell<'a>,
}

impl<F> rewrite::Work for Rewriting<'_, F>
where
    F: Fn(&Original, &mut Draft<'_>) -> Result<Change<Verdict>, Error> + Sync,
{
    type Finding = Verdict;
    type Error = Error;

    fn transform(&self, original: &Original, draft: &mut Draft<'_>) -> Result<Change<Verdict>, Error> {
        (self.transform)(original, draft)
    }

    fn tell(&self, event: rewrite::Event<'_, Verdict, Error>) {
        let Self { folder, tell, .. } = self;
        match event {
            rewrite::Event::Waiting => {
                tell(Event::Waiting { folder: folder.path().display().to_string() });
            }
            rewrite::Event::Recovered(_) => {}
            rewrite::Event::Alive => tell(Event::Alive),
            rewrite::Event::Odd(odd) => {
                let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
                counts.leave_alone(odd, tell);
            }
            rewrite::Event::Message(item, result) => {
                let path = folder.path_of(&item.message);
                let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(Outcome::Replaced { finding, .. } | Outcome::Kept(finding)) => counts.count(finding),
                    Ok(Outcome::Missing | Outcome::Expunged) => {}
                    Ok(Outcome::Moved) => {
                        let error = not_there(&path, "it was moved to another folder during the run");
                        counts.fail(&path, error, tell);
                    }
                    Ok(Outcome::Changed) => {
                        counts.fail(&path, not_there(&path, "it was changed during the run"), tell);
                    }
                    Err(error) => counts.fail(&path, error, tell),
                }
                tell(Event::Alive);
            }
        }
    }
}

/// That a message is not what it was to be.
fn not_there(path: &Path, what: &str) -> Error {
    MaildirError::Mail { path: path.into(), source: io::Error::other(what) }.into()
}

/// That a folder is done.
pub fn folder_done(folder: &Folder, counts: Mutex<Counts>) -> Event {
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    Event::Folder { folder: folder.path().display().to_string(), counts }
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
