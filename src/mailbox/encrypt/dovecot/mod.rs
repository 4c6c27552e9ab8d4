//! The mailbox of one user, through Dovecot: every folder of the user's own, whatever its storage, while it is in use.
//!
//! ```text
//! dovecot   folders, batches                                      [edge]
//!  ├─ draft     a sealed message that waits to be appended        [edge]
//!  ├─ journal   what is being replaced, for the run after a kill  [edge]
//!  ├─ recover   that next run: puts in order what a kill left
//!  └─ replace   the clear message goes, the sealed one stays
//! ```
//!
//! A batch is fetched and sealed as it comes; its hashes go to the journal; then it is appended, with one transaction, and
//! the clear messages are expunged. So at every instant each message is there, sealed or clear. After a kill some are there
//! twice, and the next run finds by the journal which sealed message was made of which clear one, and removes that.

pub mod draft;
pub mod journal;
mod recover;
pub mod replace;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailseal_core::error::Error as CoreError;
use mailseal_maildir::rewrite::{Most, batches};

use self::draft::Draft;
use crate::dovecot::imap::{self, Message, New, Selected, Session, name, set};
use crate::error::Error;
use crate::keys::addressee::Addressee;
use crate::mailbox::encrypt::dovecot::journal::{Entry, Journal, Replaced};
use crate::mailbox::encrypt::dovecot::replace::{Outcome, Pair, replace, take_back};
use crate::mailbox::encrypt::event::{Complaint, Event, Mailbox, Settings, Suspect, Target};
use crate::mailbox::encrypt::message::{Readable, Sealing, Verdict};
use crate::mailbox::encrypt::recipients::{addressee, config, sealing, warn};
use crate::mailbox::tally::Tally;
use crate::system::owner::child::Pulse;

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
    let addressee = addressee(settings, &mailbox.target, &config)?;
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
            let sealing = sealing(settings, &mailbox.target, &config, &recipients);
            work.seal(&sealing)
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
            let Ok(selected) = self.session.select(&name, true)? else { continue };
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

    fn seal(&mut self, sealer: &Sealing<'_>) -> Result<(), Error> {
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
                let selected = match self.session.select(&name, self.settings.how.dry_run)? {
                    Ok(selected) => selected,
                    Err(answer) => {
                        // A folder that has just been removed holds nothing.
                        if !answer.says("NONEXISTENT") {
                            self.folder_failed(&name, &answer.text);
                        }
                        continue;
                    }
                };
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
        sealer: &Sealing<'_>,
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
            let what = "the session ends when it is asked for (doveadm force-resync may mend it)".to_owned();
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

    fn batch(
        &mut self,
        folder: &mut Folder<'_>,
        batch: &[(u32, u64)],
        sealer: &Sealing<'_>,
        journal: Option<&mut Journal>,
    ) -> Result<(), Error> {
        let mut sealed = self.read(folder, batch, sealer)?;
        if let Some(journal) = journal
            && !sealed.is_empty()
        {
            journal.write(&Entry {
                folder: folder.name.to_owned(),
                uid_validity: folder.uid_validity,
                replaced: sealed
                    .iter()
                    .map(|it| Replaced { uid: it.clear.uid, size: it.draft.size(), hash: it.draft.hash() })
                    .collect(),
            })?;
            let appended = self.append(folder, &mut sealed)?;
            self.own.entry(folder.name.to_owned()).or_default().extend(appended.values());
            self.replace(folder, sealed, &appended)?;
            journal.clear()?;
        }
        for (_, bytes) in batch {
            self.step(1, *bytes);
        }
        Ok(())
    }

    /// Reads and seals the messages of a batch, and counts those that stay as they are. In a dry run, all of them.
    fn read(
        &mut self,
        folder: &mut Folder<'_>,
        batch: &[(u32, u64)],
        sealer: &Sealing<'_>,
    ) -> Result<Vec<Sealed>, Error> {
        let (mut sealed, mut unknown) = (Vec::new(), Vec::new());
        let mut left: BTreeMap<u32, u64> = batch.iter().copied().collect();
        let full = self.full;
        left.retain(|uid, bytes| {
            let refused = full.is_some_and(|full| *bytes >= full);
            if refused {
                self.over_quota(folder, *uid, *bytes);
            }
            !refused
        });
        if left.is_empty() {
            return Ok(sealed);
        }
        let mut read = Vec::new();
        let (dry, report) = (self.settings.how.dry_run, self.report);
        let alive = || report(Event::Alive);
        let answer = self.session.fetch(&set(left.keys().copied()), &mut |message, text| {
            let mut out = Out::new(dry);
            let result = if text.length() == message.size {
                sealer.seal_stream(&mut *text, Pulse::new(&mut out, &alive))
            } else {
                let what = "Dovecot gives another size than the message has (doveadm force-resync mends it)";
                Err(Error::Dovecot { what: what.into() })
            };
            // What was cut off is no message, whatever became of it.
            if text.is_read() || !matches!(result, Ok(Some(_))) {
                read.push((message, result, out));
            }
        });
        let answer = answer.inspect_err(|_| {
            // Whoever starts a session anew has to know what ended this one.
            let uids = left.keys().copied().collect();
            let (folder, uid_validity) = (folder.name.to_owned(), folder.uid_validity);
            (self.report)(Event::Broken(Suspect { folder, uid_validity, uids }));
        })?;
        for (message, result, out) in read {
            let Some(bytes) = left.remove(&message.uid) else { continue };
            match result {
                Ok(None) => unknown.push(message),
                Ok(Some(verdict)) => self.judged(folder, message, verdict, out, &mut sealed),
                Err(error) => self.failed(folder, message.uid, bytes, &error)?,
            }
        }
        for message in unknown {
            let mut again = None;
            let mut out = Out::new(dry);
            self.session.fetch(&message.uid.to_string(), &mut |_, text| {
                let result = sealer.seal_held(&mut *text, &mut out);
                again = (result.is_err() || text.is_read()).then_some(result);
            })?;
            match again {
                Some(Ok(verdict)) => self.judged(folder, message, verdict, out, &mut sealed),
                Some(Err(error)) => self.failed(folder, message.uid, message.size, &error)?,
                // It has been expunged or moved.
                None => folder.tally.keep("gone", 0),
            }
        }
        // An empty message has no text to be handed on; what is not named any more has been expunged or moved.
        if !left.is_empty() {
            let uids = set(left.keys().copied());
            for message in self.session.look_at(&uids, "UID")? {
                if let Some(bytes) = left.remove(&message.uid) {
                    if answer.ok && bytes == 0 {
                        folder.tally.keep("empty", 0);
                    } else {
                        let what = format!("it cannot be read: {}", answer.text);
                        self.failed(folder, message.uid, bytes, &Error::Dovecot { what })?;
                    }
                }
            }
            for _ in left {
                folder.tally.keep("gone", 0);
            }
        }
        Ok(sealed)
    }

    fn judged(
        &self,
        folder: &mut Folder<'_>,
        message: Message,
        verdict: Verdict,
        out: Out,
        sealed: &mut Vec<Sealed>,
    ) {
        let bytes = message.size;
        match (verdict, out) {
            (Verdict::Sealed(readable), Out::Draft(draft)) => {
                sealed.push(Sealed { clear: message, draft: *draft, readable });
            }
            (Verdict::Sealed(readable), Out::Size(size)) => folder.tally.seal(bytes, size, readable),
            (Verdict::Encrypted(how), _) => folder.tally.keep(how.name(), bytes),
            (Verdict::Empty, _) => folder.tally.keep("empty", bytes),
            (Verdict::Packed(packing), _) => folder.tally.keep(packing.name(), bytes),
        }
    }

    /// Appends the sealed messages: the UID of each, by that of the clear one. What is refused is counted.
    fn append(&mut self, folder: &mut Folder<'_>, sealed: &mut [Sealed]) -> Result<HashMap<u32, u32>, Error> {
        let mut appended = HashMap::new();
        let answer = self.append_all(folder, sealed)?;
        if answer.ok {
            return self.note(folder, sealed, answer, appended);
        }
        // One of them may be the one that is refused.
        for one in sealed.chunks_mut(1) {
            let answer = self.append_all(folder, one)?;
            let Sealed { clear, .. } = &one[0];
            if answer.ok {
                appended = self.note(folder, one, answer, appended)?;
            } else if answer.says("OVERQUOTA") {
                self.full = Some(self.full.map_or(clear.size, |full| full.min(clear.size)));
                self.over_quota(folder, clear.uid, clear.size);
            } else {
                let what = format!("the sealed message is refused: {}", answer.text);
                self.failed(folder, clear.uid, clear.size, &Error::Dovecot { what })?;
            }
        }
        Ok(appended)
    }

    fn append_all(&mut self, folder: &Folder<'_>, sealed: &mut [Sealed]) -> Result<imap::Answer, Error> {
        let mut new = Vec::new();
        for Sealed { clear, draft, .. } in sealed {
            let size = draft.size();
            let text = draft.text().map_err(CoreError::Read)?;
            new.push(New { flags: &clear.flags, date: &clear.date, size, text });
        }
        self.session.append(folder.name, &mut new)
    }

    fn note(
        &self,
        folder: &Folder<'_>,
        sealed: &[Sealed],
        answer: imap::Answer,
        mut appended: HashMap<u32, u32>,
    ) -> Result<HashMap<u32, u32>, Error> {
        match answer.appended {
            Some((validity, uids)) if validity == folder.uid_validity && uids.len() == sealed.len() => {
                appended.extend(sealed.iter().map(|it| it.clear.uid).zip(uids));
                Ok(appended)
            }
            _ => Err(Error::Dovecot {
                what: format!(
                    "{}: the sealed messages went elsewhere; nothing was removed",
                    name::readable(folder.name)
                ),
            }),
        }
    }

    /// Removes the clear messages whose sealed ones are in the folder, whole, and counts.
    fn replace(
        &mut self,
        folder: &mut Folder<'_>,
        mut sealed: Vec<Sealed>,
        appended: &HashMap<u32, u32>,
    ) -> Result<(), Error> {
        if appended.is_empty() {
            return Ok(());
        }
        // A script that runs on what is saved may have changed it, or put it elsewhere.
        let there = self.session.look_at(&set(appended.values().copied()), SURVEY)?;
        let there: HashMap<u32, u64> = there.into_iter().map(|it| (it.uid, it.size)).collect();
        let (mut pairs, mut altered) = (Vec::new(), Vec::new());
        for it in &mut sealed {
            let Some(new) = appended.get(&it.clear.uid) else { continue };
            match there.get(new) {
                Some(size) if *size == it.draft.size() => {
                    pairs.push(Pair { clear: it.clear.clone(), sealed: *new });
                }
                // Dovecot's storages drop a CR before a line's end.
                Some(_) if self.is_same_text(*new, &mut it.draft)? => {
                    pairs.push(Pair { clear: it.clear.clone(), sealed: *new });
                }
                found => {
                    altered.extend(found.map(|_| *new));
                    let what = match found {
                        Some(size) => format!(
                            "what was saved is not the sealed message (a script, a plugin?): {size} bytes of {}; it was \
                             taken back",
                            it.draft.size()
                        ),
                        None => "the sealed message was removed as soon as it was saved".to_owned(),
                    };
                    self.failed(folder, it.clear.uid, it.clear.size, &Error::Dovecot { what })?;
                }
            }
        }
        take_back(&mut self.session, &altered)?;
        let outcomes = replace(&mut self.session, pairs)?;
        for it in sealed {
            let (uid, bytes) = (it.clear.uid, it.clear.size);
            match outcomes.get(&uid) {
                Some(Outcome::Replaced) => {
                    self.changed = true;
                    folder.tally.seal(bytes, it.draft.size(), it.readable);
                }
                Some(Outcome::Gone) => folder.tally.keep("gone", 0),
                Some(Outcome::Left) => {
                    let what =
                        format!("{}: stays readable: it was changed meanwhile", Self::place(folder, uid));
                    self.complain(what, "run it again");
                    folder.tally.keep("changed", bytes);
                }
                Some(Outcome::Refused) => {
                    let what = "it may not be expunged".to_owned();
                    self.failed(folder, uid, bytes, &Error::Dovecot { what })?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Whether the message that was saved is the draft but for CRs.
    fn is_same_text(&mut self, uid: u32, draft: &mut Draft) -> Result<bool, Error> {
        let mut same = false;
        let text = draft.text().map_err(CoreError::Read)?;
        let mut text = Some(text);
        self.session.fetch(&uid.to_string(), &mut |_, stored| {
            // It is asked for once.
            let Some(text) = text.take() else { return };
            same = draft::same_but_for_cr(text, &mut *stored).unwrap_or(false) && stored.is_read();
        })?;
        Ok(same)
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

/// Where a sealed message went.
enum Out {
    /// To where it waits to be appended.
    Draft(Box<Draft>),
    /// Nowhere; its size.
    Size(u64),
}

impl Out {
    fn new(dry: bool) -> Self {
        if dry { Self::Size(0) } else { Self::Draft(Box::default()) }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Draft(draft) => draft.write(bytes),
            Self::Size(size) => {
                *size += bytes.len() as u64;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Draft(draft) => draft.flush(),
            Self::Size(_) => Ok(()),
        }
    }
}
