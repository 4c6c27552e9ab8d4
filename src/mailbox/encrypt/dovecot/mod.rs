//! The mailbox of one user, through Dovecot: every folder of the user's own, whatever its storage, while it is in use.
//!
//! ```text
//! dovecot   folder by folder                                      [edge]
//!  ├─ batch     some messages, from clear to sealed               [edge]
//!  ├─ draft     a sealed message that waits to be appended        [edge]
//!  ├─ journal   what is being replaced, for the run after a kill  [edge]
//!  ├─ recover   that next run: puts in order what a kill left
//!  └─ replace   the clear message goes, the sealed one stays
//! ```
//!
//! A batch is fetched and sealed as it comes; its hashes go to the journal; then it is appended, with one transaction, and
//! the clear messages are expunged. So at every instant each message is there, sealed or clear. After a kill some are there
//! twice, and the next run finds by the journal which sealed message was made of which clear one, and removes that.

mod batch;
pub mod draft;
pub mod journal;
mod recover;
pub mod replace;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailseal_core::error::Error as CoreError;
use mailseal_maildir::rewrite::{Most, batches};

use self::draft::Draft;
use crate::dovecot::imap::{Message, Select, Selected, Session, name};
use crate::error::Error;
use crate::keys::addressee::Addressee;
use crate::mailbox::encrypt::dovecot::journal::Journal;
use crate::mailbox::encrypt::event::{Complaint, Event, Mailbox, Settings, Suspect, Target};
use crate::mailbox::encrypt::message::{Readable, StoredSealer};
use crate::mailbox::encrypt::recipients::{addressee, config, style, warn};
use crate::mailbox::tally::Tally;

/// The largest batch: while it lasts, a client that changes one of its messages is not followed.
const BATCH: Most = Most { messages: 16, bytes: 4 * 1024 * 1024 };

/// How often the folders are gone through for messages that came, or were moved, while others were sealed.
const PASSES: usize = 3;

/// What is asked of a message before it is read.
const SURVEY: &str = "UID RFC822.SIZE";

/// Works through the mailbox of a user, over a session that Dovecot has opened, until `stop` is set, and reports.
///
/// # Errors
/// Those of the certificates, the journal and the session. What was done before is reported.
pub fn run<R: BufRead + Send, W: Write + Send>(
    mailbox: &Mailbox,
    reader: R,
    writer: W,
    stop: &AtomicBool,
    report: &(dyn Fn(Event) + Sync),
) -> Result<(), Error> {
    let settings = &mailbox.settings;
    let config = config(settings)?;
    let addressee = addressee(settings, &mailbox.target, &config, report)?;
    let session = Session::begin(reader, writer)?;
    let mut work = Work {
        settings,
        target: &mailbox.target,
        pause: mailbox.pause(),
        suspects: &mailbox.suspects,
        session,
        stop,
        report,
        changed: false,
        full: None,
        own: HashMap::new(),
    };
    // The journal's folder, and where large drafts wait.
    let temporary = std::env::temp_dir();
    let home = mailbox.target.home.as_deref().map(Path::new);
    let own: Vec<&Path> = home.into_iter().chain([&*temporary]).collect();
    let outcome = settings.how.sandbox.within(&own, || match addressee {
        Addressee::Clear(why) => work.count(why.reason()),
        Addressee::Sealed { recipients, .. } => {
            warn(&mailbox.target, &recipients, report);
            let style = style(settings, &mailbox.target, &config);
            work.seal(&StoredSealer { sealer: style.sealer(&recipients), unpack: settings.how.unpack })
        }
    });
    report(Event::Maildir { target: 0, elsewhere: 0, changed: work.changed });
    outcome
}

/// The work on one mailbox.
struct Work<'a, R, W> {
    settings: &'a Settings,
    target: &'a Target,
    /// The least time that a message takes.
    pause: Duration,
    suspects: &'a [Suspect],
    session: Session<R, W>,
    stop: &'a AtomicBool,
    report: &'a (dyn Fn(Event) + Sync),
    changed: bool,
    /// The size of a message from which on the quota refuses.
    full: Option<u64>,
    /// What this run has appended, by folder.
    own: HashMap<String, HashSet<u32>>,
}

/// A folder that is open.
struct Folder<'a> {
    /// As IMAP writes it.
    name: &'a str,
    uid_validity: u32,
    tally: Tally,
}

/// A message that was read, and what it becomes.
struct Sealed {
    clear: Message,
    draft: Draft,
    readable: Readable,
}

impl<R: BufRead, W: Write> Work<'_, R, W> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The folders of the user's own namespaces, none twice.
    fn folders(&mut self) -> Result<Vec<String>, Error> {
        let (own, others) = self.session.namespaces()?;
        let mut folders = Vec::new();
        for prefix in &own {
            for folder in self.session.folders(prefix)? {
                let foreign = others.iter().any(|other| {
                    !other.is_empty() && folder.starts_with(&**other) && other.len() > prefix.len()
                });
                if !foreign && !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
        Ok(folders)
    }

    /// Counts the messages of a user without a certificate.
    fn count(&mut self, reason: &str) -> Result<(), Error> {
        for name in self.folders()? {
            let Select::Opened(selected) = self.session.select(&name, true)? else { continue };
            let mut folder =
                Folder { name: &name, uid_validity: selected.uid_validity, tally: Tally::default() };
            let items = self.items(&folder, 1)?;
            self.survey(&items);
            for (_, bytes) in items {
                folder.tally.keep(reason, bytes);
                self.step(1, bytes);
            }
            self.report_folder(folder);
        }
        Ok(())
    }

    fn seal(&mut self, sealer: &StoredSealer<'_>) -> Result<(), Error> {
        let begin = Instant::now();
        let mut journal = if self.settings.how.dry_run { None } else { Some(self.journal()?) };
        let mut recovered = match &mut journal {
            Some(journal) => self.recover(journal)?,
            None => 0,
        };
        // What comes to a folder later, or is moved there, has this UID or a higher one.
        let mut next: HashMap<String, u32> = HashMap::new();
        for pass in 0..PASSES {
            let mut found = false;
            for name in self.folders()? {
                if self.stopped() {
                    break;
                }
                let Some(selected) = self.select(&name)? else { continue };
                let from = next.get(&name).copied().unwrap_or(1);
                if from >= selected.uid_next {
                    continue;
                }
                let mut folder =
                    Folder { name: &name, uid_validity: selected.uid_validity, tally: Tally::default() };
                folder.tally.recovered = std::mem::take(&mut recovered);
                let start = Instant::now();
                let result = self.folder(&mut folder, &selected, from, sealer, journal.as_mut());
                folder.tally.ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                found |= folder.tally.messages > 0;
                if pass == 0 || folder.tally.messages > 0 {
                    self.report_folder(folder);
                }
                result?;
                next.insert(name.clone(), selected.uid_next);
            }
            if !found || self.settings.how.dry_run || self.stopped() {
                break;
            }
        }
        if let Some(mut journal) = journal {
            self.late(&mut journal, begin)?;
            journal.end();
        }
        Ok(())
    }

    /// Opens a folder; `None` where that failed, which has been said.
    fn select(&mut self, name: &str) -> Result<Option<Selected>, Error> {
        Ok(match self.session.select(name, self.settings.how.dry_run)? {
            Select::Opened(selected) => Some(selected),
            Select::Refused(answer) => {
                // A folder that has just been removed holds nothing.
                if !answer.says("NONEXISTENT") {
                    self.folder_failed(name, &answer.text);
                }
                None
            }
        })
    }

    fn journal(&mut self) -> Result<Journal, Error> {
        let home = self.target.home.as_deref().ok_or_else(|| Error::Home {
            path: self.target.user.clone().into(),
            what: "is not known to Dovecot, and what is being replaced is written down there".into(),
        })?;
        let folder = self.target.user.clone();
        Journal::open(Path::new(home), || (self.report)(Event::Waiting { folder }))
    }

    /// The messages of the selected folder from this UID on that are wanted: UID and size.
    fn items(&mut self, folder: &Folder<'_>, from: u32) -> Result<Vec<(u32, u64)>, Error> {
        let mut wanted = None;
        let spans = [("YOUNGER", self.settings.how.newer_than), ("OLDER", self.settings.how.older_than)];
        let spans: Vec<String> =
            spans.iter().filter_map(|(word, span)| Some(format!(" {word} {}", (*span)?.as_secs()))).collect();
        if !spans.is_empty() {
            let found = self.session.search(&format!("UID {from}:*{}", spans.concat()))?;
            wanted = Some(found.into_iter().collect::<BTreeSet<u32>>());
        }
        let found = self.sized(folder.name, folder.uid_validity, from)?;
        Ok(found
            .into_iter()
            // In an empty range the last message is named.
            .filter(|message| message.uid >= from)
            .filter(|message| wanted.as_ref().is_none_or(|wanted| wanted.contains(&message.uid)))
            .map(|message| (message.uid, message.size))
            .collect())
    }

    /// The messages of the selected folder from this UID on, with their sizes; without where one has none that Dovecot
    /// can tell.
    fn sized(&mut self, folder: &str, uid_validity: u32, from: u32) -> Result<Vec<Message>, Error> {
        let here = |it: &Suspect| it.folder == folder && it.uid_validity == uid_validity;
        let sizes = !self.suspects.iter().any(|it| here(it) && it.uids.is_empty());
        let found = self.session.look_at(&format!("{from}:*"), if sizes { SURVEY } else { "UID" });
        found.inspect_err(|_| {
            if sizes {
                let suspect = Suspect { folder: folder.to_owned(), uid_validity, uids: Vec::new() };
                (self.report)(Event::Broken(suspect));
            }
        })
    }

    /// Seals a folder. What was done before an error counts.
    fn folder(
        &mut self,
        folder: &mut Folder<'_>,
        selected: &Selected,
        from: u32,
        sealer: &StoredSealer<'_>,
        mut journal: Option<&mut Journal>,
    ) -> Result<(), Error> {
        let items = self.items(folder, from)?;
        let own = self.own.get(folder.name);
        let new = |uid: &u32| *uid < selected.uid_next && own.is_none_or(|own| !own.contains(uid));
        let items: Vec<(u32, u64)> = items.into_iter().filter(|(uid, _)| new(uid)).collect();
        self.survey(&items);
        if !selected.writable && !self.settings.how.dry_run {
            if !items.is_empty() {
                let what = format!("{}: stays readable: it is read-only", name::readable(folder.name));
                self.complain(what, "give the user the rights to it, or seal its files");
            }
            for (_, bytes) in items {
                folder.tally.keep("read-only", bytes);
                self.step(1, bytes);
            }
            return Ok(());
        }
        let (alone, broken) = self.suspects_in(folder.name, folder.uid_validity);
        let (broken, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|(uid, _)| broken.contains(uid));
        for (uid, bytes) in broken {
            let what =
                "the session ends when it is asked for (doveadm force-resync may repair that)".to_owned();
            self.failed(folder, uid, bytes, &Error::Dovecot { what })?;
            self.step(1, bytes);
        }
        for batch in batches(&items, BATCH, |item| item.1, |item| alone.contains(&item.0)) {
            if self.stopped() {
                break;
            }
            let start = Instant::now();
            self.batch(folder, batch, sealer, journal.as_deref_mut())?;
            let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            self.wait((self.pause * count).saturating_sub(start.elapsed()));
        }
        Ok(())
    }

    /// The UIDs in the folder that are asked for one by one, and those that are not asked for.
    fn suspects_in(&self, folder: &str, uid_validity: u32) -> (HashSet<u32>, HashSet<u32>) {
        let here = self.suspects.iter().filter(|it| it.folder == folder && it.uid_validity == uid_validity);
        let (several, single): (Vec<&Suspect>, Vec<_>) = here.partition(|it| it.uids.len() > 1);
        let uids = |suspects: Vec<&Suspect>| suspects.iter().flat_map(|it| it.uids.clone()).collect();
        (uids(several), uids(single))
    }

    /// Waits, unless the run is to stop.
    fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.stopped() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (self.report)(Event::Alive);
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    fn place(folder: &Folder<'_>, uid: u32) -> String {
        format!("{}: UID {uid}", name::readable(folder.name))
    }

    fn over_quota(&self, folder: &mut Folder<'_>, uid: u32, bytes: u64) {
        let what = format!("{}: stays readable: the user's quota is full", Self::place(folder, uid));
        self.complain(what, "raise the quota for as long as this runs: each sealed message is there beside the clear one at first");
        folder.tally.fail(bytes);
    }

    /// Counts a message that failed; gives the error back where every further one would say the same.
    fn failed(&self, folder: &mut Folder<'_>, uid: u32, bytes: u64, error: &Error) -> Result<(), Error> {
        folder.tally.fail(bytes);
        let complaint = Complaint::of(error);
        self.complain(format!("{}: {}", Self::place(folder, uid), complaint.what), &complaint.hint);
        match error {
            Error::Core(CoreError::NoUsableKey { user, why }) => {
                Err(CoreError::NoUsableKey { user: user.clone(), why: why.clone() }.into())
            }
            Error::Core(CoreError::Recovery(what)) => Err(CoreError::Recovery(what.clone()).into()),
            _ => Ok(()),
        }
    }

    fn folder_failed(&self, folder: &str, what: &str) {
        let what = format!("{}: cannot be opened: {what}", name::readable(folder));
        let complaint = Complaint::of(&Error::Dovecot { what });
        (self.report)(Event::Failed { target: 0, complaint, status: crate::exit::Exit::Negative as u8 });
    }

    fn complain(&self, what: String, hint: &str) {
        let what = format!("{}: {what}", self.target.user);
        (self.report)(Event::Problem(Complaint { what, hint: hint.to_owned() }));
    }

    fn survey(&self, items: &[(u32, u64)]) {
        let bytes = items.iter().map(|(_, bytes)| bytes).sum();
        (self.report)(Event::Survey { messages: items.len() as u64, bytes });
    }

    fn step(&self, messages: u64, bytes: u64) {
        (self.report)(Event::Step { messages, bytes });
    }

    fn report_folder(&self, folder: Folder<'_>) {
        let tally = folder.tally;
        (self.report)(Event::Folder { target: 0, folder: name::readable(folder.name), tally });
    }
}
