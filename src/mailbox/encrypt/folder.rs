//! Edge: One folder of a Maildir is sealed, and what becomes of its messages counted.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mailseal_core::error::Error as CoreError;
use mailseal_maildir::commit::Uids;
use mailseal_maildir::draft::{Change, Draft, Original};
use mailseal_maildir::error::Error as MaildirError;
use mailseal_maildir::folder::{Folder, Message};
use mailseal_maildir::packed::Packing;
use mailseal_maildir::recover::Unlinked;
use mailseal_maildir::rewrite::{self, Item, Manner, Outcome, rewrite};
use mailseal_maildir::tag::Tag;
use nix::sys::stat::FileStat;

use crate::error::Error;
use crate::mailbox::encrypt::event::{Complaint, Event};
use crate::mailbox::encrypt::maildir::Work;
use crate::mailbox::encrypt::message::{StoredSealer, Verdict};
use crate::mailbox::tally::Tally;
use crate::system::counted::Counted;
use crate::system::owner::child::Pulse;

/// What is done with a folder.
pub(super) struct Task<'a> {
    pub folder: &'a Folder,
    pub sealer: &'a StoredSealer<'a>,
    pub ages: &'a Ages,
    pub links: &'a Links,
    pub work: &'a Work<'a>,
}

/// Which messages are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    /// Changed at or after this time.
    pub from: Option<i64>,
    /// Changed at or before this time.
    pub to: Option<i64>,
    /// Only those that no run of ours has written.
    pub untagged: bool,
}

/// Names that the files of sealed messages still have elsewhere, by inode.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<HashMap<u64, u64>>);

/// The work on a folder, and what its threads count together.
struct Shared<'a> {
    task: &'a Task<'a>,
    tally: Mutex<Tally>,
    /// What made going on useless.
    fatal: Mutex<Option<Error>>,
}

/// What is known of a message: what it is, and in a dry run how many bytes its sealed form has.
struct Finding {
    verdict: Verdict,
    bytes: u64,
}

impl Ages {
    pub(super) fn want(&self, message: &Message, stat: &FileStat) -> bool {
        self.from.is_none_or(|from| stat.st_ctime >= from)
            && self.to.is_none_or(|to| stat.st_ctime <= to)
            && !(self.untagged && Tag::in_name(&message.name).is_some())
    }
}

impl Links {
    /// Takes how many names are left, now that one more is gone.
    fn note(&self, old: Unlinked) {
        match old.links {
            0 => locked(&self.0).remove(&old.inode),
            links => locked(&self.0).insert(old.inode, links),
        };
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        locked(&self.0).values().sum()
    }
}

impl Task<'_> {
    /// Seals the messages, on the threads that [`rewrite()`] takes. What was done before an error counts.
    pub(super) fn run(&self) -> (Tally, Result<(), Error>) {
        let how = &self.work.settings.how;
        let manner = match (how.dry_run, how.keep_uids) {
            (true, _) => Manner::DryRun,
            (false, true) => Manner::Replace(Uids::Keep),
            (false, false) => Manner::Replace(Uids::New),
        };
        let shared = Shared { task: self, tally: Mutex::default(), fatal: Mutex::default() };
        let result = rewrite(self.folder, manner, &shared);
        let fatal = shared.fatal.into_inner().unwrap_or_else(PoisonError::into_inner);
        let tally = shared.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        (tally, result.and(fatal.map_or(Ok(()), Err)))
    }
}

impl rewrite::Work for Shared<'_> {
    type Finding = Finding;
    type Error = Error;

    fn transform(&self, original: &Original, draft: &mut Draft<'_>) -> Result<Change<Finding>, Error> {
        let Task { sealer, work, .. } = self.task;
        let alive = || (work.report)(Event::Alive);
        if work.settings.how.dry_run {
            let mut out = Counted::new(Pulse::new(io::sink(), &alive));
            let verdict = sealer.seal(original.file(), &mut out)?;
            return Ok(Change::Keep(Finding { verdict, bytes: out.total() }));
        }
        let verdict = sealer.seal(original.file(), Pulse::new(&mut *draft, &alive))?;
        draft.flush().map_err(CoreError::Write)?;
        let finding = Finding { verdict, bytes: 0 };
        Ok(match verdict {
            Verdict::Sealed(_) => Change::Replace(finding),
            _ => Change::Keep(finding),
        })
    }

    fn tell(&self, event: rewrite::Event<'_, Finding, Error>) {
        let Task { folder, links, work, .. } = self.task;
        match event {
            rewrite::Event::Waiting => {
                (work.report)(Event::Waiting { folder: folder.path().to_string_lossy().into_owned() });
            }
            rewrite::Event::Recovered(recovered) => {
                recovered.replaced.iter().for_each(|old| links.note(*old));
                locked(&self.tally).recovered = recovered.temporary + recovered.replaced.len() as u64;
            }
            rewrite::Event::Odd(odd) => {
                self.stays_clear(&odd.path, odd.why.what(), odd.why.hint());
                locked(&self.tally).keep(odd.why.name(), 0);
            }
            rewrite::Event::Alive => (work.report)(Event::Alive),
            rewrite::Event::Message(item, Ok(outcome)) => {
                self.done(item, outcome);
                self.step(item);
            }
            rewrite::Event::Message(item, Err(error)) => self.failed(item, error),
        }
    }

    fn wants(&self, message: &Message, stat: &FileStat) -> bool {
        self.task.ages.want(message, stat)
    }

    fn stopped(&self) -> bool {
        self.task.work.stopped() || locked(&self.fatal).is_some()
    }
}

impl Shared<'_> {
    /// Counts a message.
    fn done(&self, item: &Item, outcome: Outcome<Finding>) {
        match outcome {
            Outcome::Replaced { finding, bytes, old } => {
                self.task.links.note(old);
                if let Verdict::Sealed(readable) = finding.verdict {
                    locked(&self.tally).seal(item.bytes, bytes, readable);
                }
            }
            Outcome::Kept(finding) => self.kept(item, &finding),
            // It may have been moved: what was is looked for elsewhere once.
            Outcome::Missing if self.task.ages.untagged => locked(&self.tally).keep("gone", 0),
            Outcome::Missing | Outcome::Moved => locked(&self.tally).keep("moved", 0),
            Outcome::Expunged => locked(&self.tally).keep("gone", 0),
            Outcome::Changed => {
                let path = self.task.folder.path_of(&item.message);
                self.stays_clear(&path, "it was changed during the run", "run it again");
                locked(&self.tally).keep("changed", item.bytes);
            }
        }
    }

    /// Counts a message that stays as it is; in a dry run, one that would be sealed.
    fn kept(&self, item: &Item, finding: &Finding) {
        let mut tally = locked(&self.tally);
        match finding.verdict {
            Verdict::Sealed(readable) => tally.seal(item.bytes, finding.bytes, readable),
            Verdict::Encrypted(how) => tally.keep(how.name(), item.bytes),
            Verdict::Empty => tally.keep("empty", item.bytes),
            Verdict::Packed(packing) => {
                tally.keep(packing.name(), item.bytes);
                let (what, hint) = match packing {
                    Packing::MailCrypt => (
                        "it is encrypted by mail_crypt, to a key that the server has".into(),
                        "take mail_crypt off it first: doveadm sync decrypts while it copies",
                    ),
                    other => (format!("it is compressed ({})", other.name()), "give --unpack"),
                };
                self.stays_clear(&self.task.folder.path_of(&item.message), &what, hint);
            }
        }
    }

    fn failed(&self, item: &Item, error: Error) {
        locked(&self.tally).fail(item.bytes);
        if ends_all(&error) {
            // Every further message would say the same.
            locked(&self.fatal).get_or_insert(error);
            return;
        }
        let mut complaint = Complaint::of(&error);
        if !matches!(error, Error::Maildir(MaildirError::Mail { .. })) {
            let path = self.task.folder.path_of(&item.message);
            complaint.what = format!("{}: {}", path.display(), complaint.what);
        }
        (self.task.work.report)(Event::Problem(complaint));
        self.step(item);
    }

    fn step(&self, item: &Item) {
        (self.task.work.report)(Event::Step { messages: 1, bytes: item.bytes });
    }

    /// Names a message that the server can still read.
    fn stays_clear(&self, path: &Path, what: &str, hint: &str) {
        let what = format!("{}: stays readable: {what}", path.display());
        (self.task.work.report)(Event::Problem(Complaint { what, hint: hint.into() }));
    }
}

/// Whether no further message can be written either.
fn ends_all(error: &Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let (Error::Maildir(MaildirError::Mail { source, .. }) | Error::Core(CoreError::Write(source))) = error
    else {
        return matches!(error, Error::Core(CoreError::NoUsableKey { .. } | CoreError::Recovery(_)));
    };
    matches!(source.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
