//! Edge: What touches mail, with the rights of its owner: every message of some Maildirs, folder by folder.
//!
//! Messages are worked on in batches, as many at once as there are jobs: each is read, sealed and written to `tmp/`,
//! and the batch is committed under one lock with one flush of the folder. How a commit loses nothing is
//! [`mailseal_maildir`]'s business.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mailseal_core::error::Error as CoreError;
use mailseal_core::protect::Policy;
use mailseal_core::recipients::{Recipients, Warning};
use mailseal_maildir::commit::{Committed, Uids};
use mailseal_maildir::draft::{Change, Drafted, Ready};
use mailseal_maildir::error::Error as MaildirError;
use mailseal_maildir::folder::{Folder, Message};
use mailseal_maildir::layout::Maildir;
use mailseal_maildir::packed::Packing;
use mailseal_maildir::recover::recover;
use mailseal_maildir::tag::Tag;
use rayon::prelude::*;
use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse as _;

use crate::config::{Config, Mode};
use crate::delivery::unchanged::{Off, Unchanged};
use crate::error::Error;
use crate::keys::addressee::{self, Addressee, Whose};
use crate::keystore::enrolled::Enrolled;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::mailbox::encrypt::batches::{Most, batches};
use crate::mailbox::encrypt::event::{Complaint, Event, Job, Settings, Target};
use crate::mailbox::encrypt::message::{Sealer, Verdict};
use crate::mailbox::tally::Tally;
use crate::system::counted::Counted;
use crate::system::owner::child::Pulse;

/// The largest batch: its bytes lie in `tmp/` twice over until it is committed.
const BATCH: Most = Most { messages: 32, bytes: 64 * 1024 * 1024 };

/// How often a mailbox is gone through for messages that were moved while it was sealed.
const PASSES: usize = 3;

/// How many messages are looked at before it is said that the work goes on.
const LOOKED_AT: usize = 1000;

/// Works through a job, until `stop` is set, and reports. `open` is [`Maildir::open`], or [`Maildir::open_strictly`] in a
/// process that root has started, with the locks' patience.
pub fn run(job: &Job, open: Open<'_>, stop: &AtomicBool, report: &(dyn Fn(Event) + Sync)) {
    for (number, target) in job.targets.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let work = Work { number, target, settings: &job.settings, open, stop, report };
        if let Err(error) = work.run() {
            report(Event::failed(number, &error));
        }
    }
}

/// How a Maildir is opened.
pub type Open<'a> = &'a (dyn Fn(&Path, Option<&Path>) -> Result<Maildir, MaildirError> + Sync);

/// The work on one Maildir.
struct Work<'a> {
    number: usize,
    target: &'a Target,
    settings: &'a Settings,
    open: Open<'a>,
    stop: &'a AtomicBool,
    report: &'a (dyn Fn(Event) + Sync),
}

/// A message to be worked on, and its size.
#[derive(Clone, Debug)]
struct Item {
    message: Message,
    bytes: u64,
}

/// What the jobs of a folder count together.
struct Shared<'a> {
    tally: Mutex<Tally>,
    /// Names that sealed files still have elsewhere, by inode.
    links: &'a Mutex<HashMap<u64, u64>>,
    /// What is taken to have become of a message that is not there: it is looked for elsewhere once.
    when_gone: &'static str,
    /// What made going on useless.
    fatal: Mutex<Option<Error>>,
}

impl Shared<'_> {
    /// Keeps how many names elsewhere the file of an old message has, now that one more is gone.
    fn still_named(&self, inode: u64, links: u64) {
        match links {
            0 => locked(self.links).remove(&inode),
            links => locked(self.links).insert(inode, links),
        };
    }
}

/// Which messages are wanted.
#[derive(Clone, Copy, Debug)]
struct Ages {
    /// Changed at or after this time.
    from: Option<i64>,
    /// Changed at or before this time.
    to: Option<i64>,
    /// Only those that no run of ours has written.
    untagged: bool,
}

impl Work<'_> {
    fn run(&self) -> Result<(), Error> {
        let config = config(self.settings)?;
        let control = self.target.control.as_deref().map(Path::new);
        let maildir = (self.open)(Path::new(&self.target.path), control)?;
        let addressee = addressee(self.settings, self.target, &config)?;
        let own: Vec<&Path> = [Some(Path::new(&self.target.path)), control].into_iter().flatten().collect();
        self.settings.how.sandbox.within(&own, || self.work_on(&maildir, addressee, &config))
    }

    /// The work, once the certificates are known.
    fn work_on(&self, maildir: &Maildir, addressee: Addressee, config: &Config) -> Result<(), Error> {
        let folders = maildir.folders()?;
        let now = seconds(SystemTime::now());
        let back = |age: Option<Duration>| {
            age.map(|age| now.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX)))
        };
        let ages = Ages {
            from: back(self.settings.how.newer_than),
            to: back(self.settings.how.older_than),
            untagged: false,
        };
        self.survey(maildir, &folders, &ages)?;
        match addressee {
            Addressee::Clear(why) => self.count(maildir, &folders, &ages, why.reason()),
            Addressee::Sealed { recipients, .. } => {
                warn(self.target, &recipients, self.report);
                let sealer = sealer(self.settings, self.target, config, &recipients);
                self.seal(maildir, &folders, ages, &sealer)
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says how much there is to do.
    fn survey(&self, maildir: &Maildir, folders: &[PathBuf], ages: &Ages) -> Result<(), Error> {
        for path in folders {
            let items = self.items(&maildir.folder(path)?, ages)?;
            let bytes = items.iter().map(|item| item.bytes).sum();
            (self.report)(Event::Survey { messages: items.len() as u64, bytes });
        }
        Ok(())
    }

    /// The messages of a folder that are wanted. A message that goes meanwhile is not among them.
    fn items(&self, folder: &Folder, ages: &Ages) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        for (at, message) in folder.list()?.messages.into_iter().enumerate() {
            if at % LOOKED_AT == 0 {
                (self.report)(Event::Alive);
            }
            let stat = folder
                .stat(&message)
                .map_err(|source| MaildirError::Mail { path: folder.path_of(&message), source })?;
            let Some(stat) = stat else { continue };
            let wanted = ages.from.is_none_or(|from| stat.st_ctime >= from)
                && ages.to.is_none_or(|to| stat.st_ctime <= to)
                && !(ages.untagged && Tag::in_name(&message.name).is_some());
            if wanted {
                items.push(Item { message, bytes: stat.st_size.unsigned_abs() });
            }
        }
        Ok(items)
    }

    /// Counts the messages of a user without a certificate.
    fn count(
        &self,
        maildir: &Maildir,
        folders: &[PathBuf],
        ages: &Ages,
        reason: &'static str,
    ) -> Result<(), Error> {
        for path in folders {
            let mut tally = Tally::default();
            for item in self.items(&maildir.folder(path)?, ages)? {
                tally.keep(reason, item.bytes);
                (self.report)(Event::Step { messages: 1, bytes: item.bytes });
            }
            self.report_folder(path, tally);
        }
        (self.report)(Event::Maildir { target: self.number, elsewhere: 0, changed: false });
        Ok(())
    }

    fn seal(
        &self,
        maildir: &Maildir,
        folders: &[PathBuf],
        mut ages: Ages,
        sealer: &Sealer<'_>,
    ) -> Result<(), Error> {
        let pool = match self.settings.how.jobs() {
            1 => None,
            jobs => Some(rayon::ThreadPoolBuilder::new().num_threads(jobs).build()),
        };
        let pool = pool.transpose().map_err(|error| CoreError::Read(std::io::Error::other(error)))?;
        let links = Mutex::new(HashMap::new());
        let mut changed = false;
        let mut outcome = Ok(());
        for pass in 0..PASSES {
            let begin = seconds(SystemTime::now());
            let mut moved = 0;
            for path in folders {
                if self.stopped() || outcome.is_err() {
                    break;
                }
                let start = Instant::now();
                let (mut tally, result) = self.folder(maildir, path, &ages, sealer, pool.as_ref(), &links);
                tally.ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                changed |= tally.sealed > 0 || tally.recovered > 0;
                if pass + 1 < PASSES {
                    moved += tally.forget("moved");
                }
                if pass == 0 || tally.messages > 0 {
                    self.report_folder(path, tally);
                }
                outcome = outcome.and(result);
            }
            if moved == 0 || self.stopped() || outcome.is_err() {
                break;
            }
            // What was moved has been changed since, wherever it is now.
            ages = Ages { from: Some(begin.saturating_sub(1)), to: None, untagged: true };
        }
        let elsewhere = locked(&links).values().sum();
        (self.report)(Event::Maildir { target: self.number, elsewhere, changed });
        outcome
    }

    fn report_folder(&self, path: &Path, tally: Tally) {
        let folder = path.to_string_lossy().into_owned();
        (self.report)(Event::Folder { target: self.number, folder, tally });
    }

    /// Seals a folder. What was done before an error counts.
    fn folder(
        &self,
        maildir: &Maildir,
        path: &Path,
        ages: &Ages,
        sealer: &Sealer<'_>,
        pool: Option<&rayon::ThreadPool>,
        links: &Mutex<HashMap<u64, u64>>,
    ) -> (Tally, Result<(), Error>) {
        let when_gone = if ages.untagged { "gone" } else { "moved" };
        let shared = Shared { tally: Mutex::default(), links, when_gone, fatal: Mutex::default() };
        let result = (|| {
            let folder = maildir.folder(path)?;
            let _hold = if self.settings.how.dry_run {
                None
            } else {
                let hold = folder.hold(|| {
                    (self.report)(Event::Waiting { folder: folder.path().to_string_lossy().into_owned() });
                })?;
                let recovered = recover(&hold)?;
                for old in &recovered.replaced {
                    shared.still_named(old.inode, old.links);
                }
                locked(&shared.tally).recovered = recovered.temporary + recovered.replaced.len() as u64;
                Some(hold)
            };
            for odd in folder.list()?.odd {
                self.stays_clear(
                    &odd,
                    "it is a link, FIFO, socket or device",
                    "remove it, or put the message there",
                );
                locked(&shared.tally).keep("not-a-file", 0);
            }
            let items = self.items(&folder, ages)?;
            // Small enough that every job has some.
            let messages = items.len().div_ceil(self.settings.how.jobs().max(1)).clamp(1, BATCH.messages);
            let most = Most { messages, ..BATCH };
            let batches = batches(&items, most, |item| item.bytes, |_| false);
            let work = |batch: &&[Item]| self.batch(&folder, batch, sealer, &shared);
            match pool {
                Some(pool) => pool.install(|| batches.par_iter().with_max_len(1).for_each(work)),
                None => batches.iter().for_each(work),
            }
            Ok(())
        })();
        let fatal = shared.fatal.into_inner().unwrap_or_else(PoisonError::into_inner);
        let tally = shared.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        (tally, result.and(fatal.map_or(Ok(()), Err)))
    }

    fn batch(&self, folder: &Folder, batch: &[Item], sealer: &Sealer<'_>, shared: &Shared<'_>) {
        let mut ready: Vec<Box<Ready<'_>>> = Vec::new();
        let mut of: Vec<(&Item, Verdict)> = Vec::new();
        let alive = || (self.report)(Event::Alive);
        for item in batch {
            if self.stopped() || locked(&shared.fatal).is_some() {
                break;
            }
            let drafted = folder.draft(&item.message, |original, draft| {
                if self.settings.how.dry_run {
                    let mut out = Counted::new(Pulse::new(std::io::sink(), &alive));
                    let verdict = sealer.seal(original.file(), &mut out)?;
                    return Ok(Change::Keep((verdict, out.total())));
                }
                let out = Pulse::new(&mut *draft, &alive);
                let verdict = sealer.seal(original.file(), out)?;
                draft.flush().map_err(CoreError::Write)?;
                Ok(match verdict {
                    Verdict::Sealed(_) => Change::Replace((verdict, 0)),
                    kept => Change::Keep((kept, 0)),
                })
            });
            match drafted {
                Ok(Drafted::Ready(draft, (verdict, _))) => {
                    of.push((item, verdict));
                    ready.push(draft);
                }
                Ok(Drafted::Kept((verdict, bytes))) => {
                    self.kept(folder, item, verdict, bytes, shared);
                    self.step(item);
                }
                Ok(Drafted::Gone) => {
                    locked(&shared.tally).keep(shared.when_gone, 0);
                    self.step(item);
                }
                Err(error) => self.failed(folder, item, error, shared),
            }
        }
        if ready.is_empty() {
            return;
        }
        let uids = if self.settings.how.keep_uids { Uids::Keep } else { Uids::New };
        let facts: Vec<_> =
            ready.iter().map(|ready| (ready.original().stamp().inode, ready.size())).collect();
        let results = folder.commit(ready, uids);
        for (((item, verdict), (inode, size)), result) in of.into_iter().zip(facts).zip(results) {
            match result {
                Ok(Committed::Replaced { links }) => {
                    shared.still_named(inode, links);
                    if let Verdict::Sealed(readable) = verdict {
                        locked(&shared.tally).seal(item.bytes, size, readable);
                    }
                }
                Ok(Committed::Gone) => locked(&shared.tally).keep("gone", 0),
                Ok(Committed::Moved) => locked(&shared.tally).keep("moved", 0),
                Ok(Committed::Changed) => {
                    let path = folder.path_of(&item.message);
                    self.stays_clear(&path, "it was changed meanwhile", "run it again");
                    locked(&shared.tally).keep("changed", item.bytes);
                }
                Err(error) => {
                    self.failed(folder, item, error.into(), shared);
                    continue;
                }
            }
            self.step(item);
        }
    }

    /// Counts a message that stays as it is; in a dry run, one that would be sealed.
    fn kept(&self, folder: &Folder, item: &Item, verdict: Verdict, bytes: u64, shared: &Shared<'_>) {
        let mut tally = locked(&shared.tally);
        match verdict {
            Verdict::Sealed(readable) => tally.seal(item.bytes, bytes, readable),
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
                self.stays_clear(&folder.path_of(&item.message), &what, hint);
            }
        }
    }

    fn step(&self, item: &Item) {
        (self.report)(Event::Step { messages: 1, bytes: item.bytes });
    }

    fn failed(&self, folder: &Folder, item: &Item, error: Error, shared: &Shared<'_>) {
        locked(&shared.tally).fail(item.bytes);
        if ends_all(&error) {
            // Every further message would say the same.
            locked(&shared.fatal).get_or_insert(error);
            return;
        }
        let path = folder.path_of(&item.message);
        let mut complaint = Complaint::of(&error);
        if !matches!(error, Error::Maildir(MaildirError::Mail { .. })) {
            complaint.what = format!("{}: {}", path.display(), complaint.what);
        }
        (self.report)(Event::Problem(complaint));
        self.step(item);
    }

    /// Names a message that the server can still read.
    fn stays_clear(&self, path: &Path, what: &str, hint: &str) {
        let what = format!("{}: stays readable: {what}", path.display());
        (self.report)(Event::Problem(Complaint { what, hint: hint.into() }));
    }
}

/// The configuration; where certificates were given, it may be missing.
pub(super) fn config(settings: &Settings) -> Result<Config, Error> {
    let path = settings.config.as_deref().map(Path::new);
    // The process that a person has started says that it is missing.
    Config::load_beside_keys(path, !settings.certs.is_empty(), |_| {})
}

/// To whom the mail is sealed: to the certificates that were given, or as at a delivery; but nobody's mail is sealed
/// whole to what nobody has shown to be able to read, and who is observed keeps clear mail.
///
/// # Errors
/// Those of [`addressee::find`]; [`Error::Unconfirmed`].
pub(super) fn addressee(settings: &Settings, target: &Target, config: &Config) -> Result<Addressee, Error> {
    let (user, now) = (&*target.user, SystemTime::now());
    if !settings.certs.is_empty() {
        let certs: Result<Vec<Cert>, _> =
            settings.certs.iter().map(|bytes| Cert::from_bytes(bytes).map_err(CoreError::OpenPgp)).collect();
        let certs = certs?;
        let trust = Trust::of_process(config.keys.trusted_groups.ids());
        let recipients = addressee::recipients(&config.keys, user, &certs, &trust, now)?;
        return Ok(Addressee::Sealed { recipients, certs, looked_up: false });
    }
    let home = target.home.as_deref().map(Path::new);
    let whose = Whose { user, home, key_files: &[] };
    if addressee::rule(config, &whose)?.is_some_and(|rule| rule.mode == Mode::Observe) {
        return Ok(Addressee::Clear(Unchanged::Off(Off::Observed)));
    }
    let found = addressee::find(config, &whose, now)?;
    if let Addressee::Sealed { certs, looked_up: true, .. } = &found
        && !settings.how.unconfirmed
        && !settings.how.dry_run
    {
        let confirmed = Enrolled::of(&config.keys)
            .and_then(|enrolled| enrolled.file(&User::parse(user)?, home)?.is_confirmed(certs));
        if !confirmed.unwrap_or(false) {
            return Err(Error::Unconfirmed { user: user.into() });
        }
    }
    Ok(found)
}

/// Says what should be known of the keys that all of a mailbox is about to be sealed to.
pub(super) fn warn(target: &Target, recipients: &Recipients, report: &(dyn Fn(Event) + Sync)) {
    if recipients.warnings().contains(&Warning::Expired) {
        let what = format!("{}: sealed to certificates that have expired", target.user);
        let hint = "enrol a new one (mailseal keys add --replace), and seal anew with mailseal reseal";
        report(Event::Problem(Complaint { what, hint: hint.into() }));
    }
}

/// How the mail is sealed: as the command line says, else as configured.
pub(super) fn sealer<'a>(
    settings: &Settings,
    target: &'a Target,
    config: &Config,
    recipients: &'a Recipients,
) -> Sealer<'a> {
    let compression = settings.how.compression.unwrap_or(config.message.compression);
    let rule = User::parse(&target.user).ok().and_then(|user| config.rule(&user));
    let of_rule = rule.and_then(|rule| rule.protect_headers);
    let protect_headers =
        settings.how.protect_headers.map(Policy::from).or(of_rule).unwrap_or(config.message.protect_headers);
    Sealer { user: &target.user, recipients, protect_headers, compression, unpack: settings.how.unpack }
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

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
