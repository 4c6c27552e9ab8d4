//! Mailboxes that exist, sealed in bulk: what `encrypt-maildir` does.
//!
//! ```text
//! encrypt   which mailboxes, the question, the summary, the exit status         [edge]
//!  ├─ child     a process with the rights of one owner                          [edge]
//!  │   ├─ maildir     its work on Maildirs                                    [edge]
//!  │   │   └─ folder  one folder: what becomes of its messages                [edge]
//!  │   ├─ dovecot     its work on a mailbox through Dovecot                     [edge]
//!  │   ├─ recipients  to whom, and how
//!  │   └─ message     one message: judged by all of it, sealed
//!  ├─ options   read once, handed down as they are
//!  └─ event     what the two tell each other
//! ```
//!
//! Root touches no mail: for each owner of a Maildir there is one process with that owner's rights only.

pub mod child;
pub mod dovecot;
pub mod event;
mod folder;
pub mod maildir;
pub mod message;
pub mod options;
mod recipients;

use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mailseal_maildir::layout::Maildir;
use mailseal_maildir::patience::Patience;
use nix::unistd::geteuid;
use serde::Serialize;

use crate::console::names::some_of;
use crate::console::progress::Progress;
use crate::console::table::Table;
use crate::console::{escape, json};
use crate::delivery::filter;
use crate::dovecot::doveadm::Doveadm;
use crate::error::Error;
use crate::exit::Exit;
use crate::keystore::any_cert;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::log::sink::Sink;
use crate::mailbox::encrypt::event::{Event, Job, Mailbox, Settings, Target};
use crate::mailbox::encrypt::options::Options;
use crate::mailbox::tally::{FolderLine, Tally, rate, size};
use crate::mailbox::target;
use crate::system::owner::identity::Identity;
use crate::system::owner::process::Watch;
use crate::system::owner::slots::{Slot, side_by_side};
use crate::{cli, keystore};

/// Why mail of a user without a certificate stays as it is.
const NO_KEY: &str = "no-key";

/// How many sessions a user gets at most: each message that Dovecot cannot read takes two.
const SESSIONS: usize = 100;

/// The summary. The names are those of the JSON output.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    dry_run: bool,
    interrupted: bool,
    seconds: f64,
    messages_per_second: f64,
    megabytes_per_second: f64,
    #[serde(flatten)]
    total: &'a Tally,
    /// Names elsewhere that still hold the clear text of sealed messages.
    names_elsewhere: u64,
    /// What Dovecot may still hold of clear text, and why.
    left_behind: &'a [String],
    folders: &'a [FolderRow],
}

/// What became of a folder.
#[derive(Clone, Debug, Serialize)]
struct FolderRow {
    maildir: String,
    user: String,
    folder: String,
    #[serde(flatten)]
    tally: Tally,
}

/// What a run has come to.
struct Front<'a> {
    targets: &'a [Target],
    progress: Progress,
    sink: Sink,
    dry_run: bool,
    /// Whether the mailboxes are reached through Dovecot.
    live: bool,
    /// Whether the users are the owners of the Maildirs, since nobody has named them.
    by_owner: bool,
    folders: Vec<FolderRow>,
    total: Tally,
    elsewhere: u64,
    changed: Vec<usize>,
    status: Exit,
    last_hint: String,
}

/// Seals what is in the mailboxes, and writes the summary to `out`. It ends early when `stop` is set.
///
/// # Errors
/// [`Error::Usage`], [`Error::Config`], [`Error::KeyStore`] and [`Error::InUse`] before anything is touched, and
/// [`Error::Output`] for the summary. What fails later is in the exit status and on standard error.
pub fn run(options: &Options, stop: &Arc<AtomicBool>, out: &mut impl Write) -> Result<Exit, Error> {
    let start = Instant::now();
    let config = filter::load_config(cli::BULK, options.which.config.as_deref(), &options.which.key_files)?;
    let watch = Watch { patience: options.patience(), stop, slot: None };
    let doveadm = Doveadm::find(options.which.dovecot_config.as_deref(), &watch);
    let settings = settings(options)?;
    let live = !options.which.dovecot.is_empty();
    let targets = if live {
        mailboxes(&options.which.dovecot, doveadm.as_ref(), &watch)?
    } else {
        maildirs(options, doveadm.as_ref(), &watch)?
    };
    if !options.how.dry_run && !may_begin(options.how.keep_uids) {
        return Ok(Exit::Negative);
    }
    let mut front = Front {
        targets: &targets,
        progress: Progress::new(options.progress),
        sink: Sink::open(&config.log.to, cli::BULK),
        dry_run: options.how.dry_run,
        live,
        by_owner: options.which.maildirs.iter().any(|path| !target::is_pattern(path))
            && options.which.users.is_empty(),
        folders: Vec::new(),
        total: Tally::default(),
        elsewhere: 0,
        changed: Vec::new(),
        status: Exit::Ok,
        last_hint: String::new(),
    };
    let shared = Mutex::new(&mut front);
    let note = |event| shared.lock().unwrap_or_else(PoisonError::into_inner).note(event);
    let jobs = Jobs { options, settings: &settings, doveadm: doveadm.as_ref(), stop, note: &note };
    if live {
        jobs.seal_mailboxes(&targets)
    } else {
        jobs.seal_maildirs(&targets)
    }
    let sealed = shared.lock().unwrap_or_else(PoisonError::into_inner).sealed();
    let left = jobs.forget(&sealed);
    let interrupted = stop.load(Ordering::Relaxed);
    front.summarize(options.json, start.elapsed(), interrupted, &left, out)?;
    Ok(front.exit(interrupted))
}

/// How the mailboxes of several owners are sealed, side by side.
struct Jobs<'a> {
    options: &'a Options,
    settings: &'a Settings,
    doveadm: Option<&'a Doveadm>,
    stop: &'a Arc<AtomicBool>,
    note: &'a (dyn Fn(Event) + Sync),
}

/// The Maildirs of one owner.
struct Owned {
    /// Whose rights the work on them has; `None` are those of who runs this.
    identity: Option<Identity>,
    /// The numbers of the targets.
    numbers: Vec<usize>,
}

impl Jobs<'_> {
    /// Has Maildirs sealed, by one process for each owner.
    fn seal_maildirs(&self, targets: &[Target]) {
        let owners = by_owner(targets, &|number, error| (self.note)(Event::failed(number, error)));
        // The last owners have most of the processors for themselves.
        let turns = self.options.how.jobs().min(owners.len()).max(1);
        let jobs = (2 * self.options.how.jobs()).div_ceil(turns).min(self.options.how.jobs());
        side_by_side(self.options.how.jobs(), &owners, self.stop, |owned, slot| {
            let watch = self.watch(slot);
            let (numbers, targets) = self.complete(owned, targets, &watch);
            let Some(first) = numbers.first() else { return };
            let job = Job { targets, settings: self.settings.with_jobs(jobs) };
            let report =
                |event: Event| event.renumbered(|number| numbers.get(number).copied()).map(self.note);
            let result = match &owned.identity {
                Some(identity) => child::run(&job, identity, &watch, &report),
                None => {
                    self.seal_here(&job, slot, &report);
                    Ok(())
                }
            };
            if let Err(error) = result {
                (self.note)(Event::failed(*first, &error));
            }
        });
    }

    /// Does a job with the rights of who runs this. Others can hold a lock in its Maildirs, too: it has the same patience, and
    /// gives up its turn as soon as it waits.
    fn seal_here(&self, job: &Job, slot: &Slot<'_>, report: &child::Report<'_>) {
        let open: maildir::Open<'_> = &|path, control| {
            let patience = Patience::of(Some(self.options.patience()), Arc::clone(self.stop));
            Maildir::open(path, control).map(|maildir| maildir.with_patience(patience))
        };
        maildir::run(job, open, self.stop, &|event| {
            if matches!(event, Event::Waiting { .. }) {
                slot.step_aside();
            }
            // The numbers of its own job are right.
            let _ = report(event);
        });
    }

    /// An owner's targets and their numbers, with what Dovecot and the system know of them. One of whom that cannot be found
    /// out has failed.
    fn complete(&self, owned: &Owned, targets: &[Target], watch: &Watch<'_>) -> (Vec<usize>, Vec<Target>) {
        let complete = |number: &usize| {
            let mut target = targets[*number].clone();
            match complete(&mut target, self.doveadm, watch) {
                Ok(()) => Some((*number, target)),
                // Who stops the run has stopped this, too.
                Err(_) if self.stop.load(Ordering::Relaxed) => None,
                Err(error) => {
                    (self.note)(Event::failed(*number, &error));
                    None
                }
            }
        };
        owned.numbers.iter().filter_map(complete).unzip()
    }

    /// Has mailboxes sealed through Dovecot, by one process for each.
    fn seal_mailboxes(&self, targets: &[Target]) {
        let Some(doveadm) = self.doveadm else { return };
        let numbered: Vec<(usize, &Target)> = targets.iter().enumerate().collect();
        let jobs = self.options.how.jobs().min(targets.len());
        // How many jobs there are is known to be few.
        #[allow(clippy::cast_precision_loss)]
        let rate = self.options.which.rate.map(|rate| rate / jobs.max(1) as f64);
        side_by_side(self.options.how.jobs(), &numbered, self.stop, |(number, target), slot| {
            let report = |event: Event| {
                let own = |target: usize| (target == 0).then_some(*number);
                event.renumbered(own).map(self.note)
            };
            if let Err(error) = self.one(target, rate, doveadm, slot, &report)
                && !self.stop.load(Ordering::Relaxed)
            {
                (self.note)(Event::failed(*number, &error));
            }
        });
    }

    /// Has Dovecot forget the clear text of what was sealed, side by side, and says what may still hold it.
    fn forget(&self, sealed: &[&Target]) -> Vec<String> {
        let told: Vec<Mutex<Option<Vec<String>>>> = sealed.iter().map(|_| Mutex::default()).collect();
        let places: Vec<_> = sealed.iter().zip(&told).collect();
        // Who interrupts a run does not wait for Dovecot.
        side_by_side(self.options.how.jobs(), &places, self.stop, |(target, told), slot| {
            let left = self.forget_one(target, &self.watch(slot));
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        });
        let told = told.into_iter().map(|told| told.into_inner().unwrap_or_else(PoisonError::into_inner));
        sealed
            .iter()
            .zip(told)
            .flat_map(|(target, told)| told.unwrap_or_else(|| self.untold(target)))
            .collect()
    }

    fn forget_one(&self, target: &Target, watch: &Watch<'_>) -> Vec<String> {
        let Some(doveadm) = self.doveadm else { return self.untold(target) };
        if !self.options.which.dovecot.is_empty() {
            let mut left = doveadm.forget(&target.user, false, watch);
            left.extend(doveadm.purge(&target.user, watch));
            return left;
        }
        match doveadm.keeps_mail_in(&target.user, Path::new(&target.path), watch) {
            Ok(true) => doveadm.forget(&target.user, self.options.how.keep_uids, watch),
            Ok(false) => self.untold(target),
            Err(error) => [vec![format!("{}: {error}", target.user)], self.untold(target)].concat(),
        }
    }

    /// What is left where Dovecot was told nothing.
    fn untold(&self, target: &Target) -> Vec<String> {
        vec![format!(
            "{}: Dovecot's caches (dovecot.index.cache) and full-text indexes may hold clear text, and its quota \
             is out of date; where Dovecot knows the user: doveadm mailbox cache {} -u USER, doveadm fts rescan \
             -u USER, doveadm quota recalc -u USER",
            Path::new(&target.path).display(),
            if self.options.how.keep_uids { "remove" } else { "purge" },
        )]
    }

    fn watch<'a>(&'a self, slot: &'a Slot<'a>) -> Watch<'a> {
        Watch { patience: self.options.patience(), stop: self.stop, slot: Some(slot) }
    }

    fn one(
        &self,
        target: &Target,
        rate: Option<f64>,
        doveadm: &Doveadm,
        slot: &Slot<'_>,
        report: &child::Report<'_>,
    ) -> Result<(), Error> {
        let (identity, mut mailbox) = self.mailbox(target, rate, doveadm, slot)?;
        // A message that Dovecot cannot read ends the session: it is left alone, and the others are gone on with.
        let outer = report;
        for _ in 0..SESSIONS {
            let broken = Mutex::new(None);
            let failure = Mutex::new(None);
            let report = |event: Event| {
                let keep = |place: &Mutex<Option<Event>>, event| {
                    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
                };
                match event {
                    Event::Broken(_) => keep(&broken, event),
                    Event::Failed { target: 0, .. } => keep(&failure, event),
                    event => outer(event)?,
                }
                Ok(())
            };
            let imap = &mut doveadm.imap(&mailbox.target.user);
            child::run_through_dovecot(&mailbox, &identity, imap, &self.watch(slot), &report)?;
            let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
            match broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(Event::Broken(suspect)) if !self.stop.load(Ordering::Relaxed) => {
                    mailbox.suspects.push(suspect);
                }
                _ => {
                    return match failure.map(outer) {
                        Some(Err(error)) => Err(Error::Output(error)),
                        _ => Ok(()),
                    };
                }
            }
        }
        let what = format!("the session has ended {SESSIONS} times over messages that cannot be read");
        Err(Error::Dovecot { what })
    }

    /// What is known of a user's mailbox, and with whose rights it is worked on.
    fn mailbox(
        &self,
        target: &Target,
        rate: Option<f64>,
        doveadm: &Doveadm,
        slot: &Slot<'_>,
    ) -> Result<(Identity, Mailbox), Error> {
        let account = doveadm.account(&target.user, &self.watch(slot))?;
        let identity = match account.owner {
            (user, _) if user == geteuid() && !user.is_root() => Identity::own(),
            (user, group) => Identity::of(user, group)?,
        };
        if !geteuid().is_root() && account.owner.0 != geteuid() {
            let what =
                format!("the mailbox is user {}'s, and this runs as user {}", account.owner.0, geteuid());
            return Err(Error::Privileges { what });
        }
        let home = account.home.map(Into::into);
        let target = Target { home, ..target.clone() };
        let mailbox = Mailbox { target, settings: self.settings.clone(), rate, suspects: Vec::new() };
        Ok((identity, mailbox))
    }
}

/// The users that the names and patterns stand for.
fn mailboxes(names: &[String], doveadm: Option<&Doveadm>, watch: &Watch<'_>) -> Result<Vec<Target>, Error> {
    let Some(doveadm) = doveadm else {
        return Err(Error::Dovecot {
            what: "doveadm is not there, or its configuration cannot be read".into(),
        });
    };
    let mut users = Vec::new();
    for name in names {
        if name.contains(['*', '?']) {
            users.extend(doveadm.users(name, watch)?);
        } else {
            users.push(name.clone());
        }
    }
    let mut seen = HashSet::new();
    users.retain(|user| seen.insert(user.clone()));
    let target = |user: String| Target { path: user.clone().into(), user, home: None, control: None };
    Ok(users.into_iter().map(target).collect())
}

/// The Maildirs that the command line names, none of them in use where none may be. Dovecot knows who is logged in by itself:
/// no user holds that up.
fn maildirs(options: &Options, doveadm: Option<&Doveadm>, watch: &Watch<'_>) -> Result<Vec<Target>, Error> {
    let mut targets =
        target::expand(&options.which.maildirs, &options.which.users, options.which.control.as_deref())?;
    let may_be_in_use = options.how.dry_run || !(options.which.offline || options.how.keep_uids);
    for target in &mut targets {
        target.path = std::path::absolute(&target.path).map_or_else(|_| target.path.clone(), Into::into);
        let fill = |home| target::fill(home, &User::parse(&target.user)?);
        target.home = options.which.home.as_deref().map(fill).transpose()?;
        if let Some(doveadm) = doveadm.filter(|_| !may_be_in_use) {
            doveadm.refuse_in_use(&target.user, watch)?;
        }
    }
    if options.which.offline && doveadm.is_none() {
        warn("doveadm is not there: whether somebody is logged in could not be checked");
    }
    Ok(targets)
}

/// What the processes that touch mail are told.
fn settings(options: &Options) -> Result<Settings, Error> {
    let certs = keystore::read_all_named(&options.which.key_files, &Trust::of_process(&[]), None)?;
    let certs: Result<_, Error> =
        certs.iter().map(|cert| any_cert::serialize(std::slice::from_ref(cert))).collect();
    // Another process may have another working folder in a later version; its paths are whole.
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
    Ok(Settings {
        config: options.which.config.as_deref().map(|path| absolute(path).into()),
        certs: certs?,
        how: options.how.clone(),
    })
}

/// Adds what Dovecot and the system know of a target, where nobody has said it.
fn complete(target: &mut Target, doveadm: Option<&Doveadm>, watch: &Watch<'_>) -> Result<(), Error> {
    if target.home.is_none() {
        target.home = target::home(&target.user, doveadm, watch)?.map(Into::into);
    }
    if let (None, Some(doveadm)) = (&target.control, doveadm) {
        target.control = doveadm.control(&target.user, Path::new(&target.path), watch)?;
    }
    Ok(())
}

/// Says what the run does to clients, and asks where somebody is there to answer.
fn may_begin(keep_uids: bool) -> bool {
    let text = if keep_uids {
        "Every sealed message keeps its UID and gets other content, which IMAP forbids: programs that have the \
         mailbox open, or remember it, show the old one until they forget it. Users must be logged out."
    } else {
        "Every sealed message gets a new UID: mail programs download it again, and users of POP3 see it twice."
    };
    warn(text);
    warn("The server cannot undo it: who loses the key loses the mail.");
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return true;
    }
    // Nothing can be done where even this cannot be written.
    let _ = write!(io::stderr(), "{}: go on? [y/N] ", cli::BULK);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn warn(text: &str) {
    cli::say(&format!("{}: {text}\n", cli::BULK));
}

/// The targets by their Maildirs' owners, in the order of the targets.
fn by_owner(targets: &[Target], failed: &dyn Fn(usize, &Error)) -> Vec<Owned> {
    let mut owners: Vec<Owned> = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        match Identity::to_change(Path::new(&target.path)) {
            Ok(identity) => match owners.iter_mut().find(|other| other.identity == identity) {
                Some(owned) => owned.numbers.push(number),
                None => owners.push(Owned { identity, numbers: vec![number] }),
            },
            Err(error) => failed(number, &error),
        }
    }
    owners
}

impl<'a> Front<'a> {
    /// Ends the progress, and gives the targets in which something was sealed.
    fn sealed(&mut self) -> Vec<&'a Target> {
        self.progress.finish();
        self.changed.iter().map(|number| &self.targets[*number]).collect()
    }
}

impl Front<'_> {
    fn note(&mut self, event: Event) {
        match event {
            Event::Survey { messages, bytes } => self.progress.expect(messages, bytes),
            Event::Step { messages, bytes } => self.progress.advance(messages, bytes),
            Event::Waiting { folder } => {
                let text = format!(
                    "{}: {}: waiting for another run\n",
                    cli::BULK,
                    escape::display(folder.as_bytes())
                );
                self.progress.say(&text);
            }
            Event::Problem(complaint) => self.complain(None, &complaint),
            // Whoever starts sessions takes the one; the watchdog has seen the other.
            Event::Broken(_) | Event::Alive => {}
            Event::Folder { target, folder, tally } => {
                let Target { path, user, .. } = &self.targets[target];
                let maildir = path.to_string_lossy().into_owned();
                if !self.dry_run {
                    let whole = if self.live {
                        folder.clone()
                    } else {
                        Path::new(&maildir).join(&folder).to_string_lossy().into_owned()
                    };
                    let whole = whole.trim_end_matches('/');
                    self.sink.write(&FolderLine { user, folder: whole, tally: &tally });
                }
                self.total += &tally;
                self.folders.push(FolderRow { maildir, user: user.clone(), folder, tally });
            }
            Event::Maildir { target, elsewhere, changed } => {
                self.elsewhere += elsewhere;
                if changed && !self.dry_run {
                    self.changed.push(target);
                }
            }
            Event::Failed { target, complaint, status } => {
                let user = self.targets[target].user.clone();
                self.complain(Some(&*user).filter(|user| !user.is_empty()), &complaint);
                if self.status == Exit::Ok {
                    self.status = Exit::of_failure(status);
                }
            }
        }
    }

    /// Says what is wrong, and what to do unless that was just said.
    fn complain(&mut self, user: Option<&str>, complaint: &event::Complaint) {
        let text = cli::complaint(cli::BULK, user, &complaint.what, &complaint.hint);
        let first = text.split_inclusive('\n').next().unwrap_or_default();
        self.progress.say(if complaint.hint == self.last_hint { first } else { &text });
        self.last_hint.clone_from(&complaint.hint);
    }

    fn exit(&self, interrupted: bool) -> Exit {
        if self.status != Exit::Ok {
            self.status
        } else if interrupted {
            Exit::Temporary
        } else if self.total.readable() > 0 || self.elsewhere > 0 {
            Exit::Negative
        } else {
            Exit::Ok
        }
    }

    fn summarize(
        &self,
        json: bool,
        time: Duration,
        interrupted: bool,
        left: &[String],
        out: &mut impl Write,
    ) -> Result<(), Error> {
        let (messages, bytes) = (rate(self.total.messages, time), rate(self.total.bytes_before, time) / 1e6);
        if json {
            let summary = Summary {
                dry_run: self.dry_run,
                interrupted,
                seconds: time.as_secs_f64(),
                messages_per_second: messages,
                megabytes_per_second: bytes,
                total: &self.total,
                names_elsewhere: self.elsewhere,
                left_behind: left,
                folders: &self.folders,
            };
            return json::write(out, &summary).map_err(Error::Output);
        }
        self.write_text(time, (messages, bytes), interrupted, left, out).map_err(Error::Output)
    }

    fn write_text(
        &self,
        time: Duration,
        (messages, megabytes): (f64, f64),
        interrupted: bool,
        left: &[String],
        out: &mut impl Write,
    ) -> io::Result<()> {
        let total = &self.total;
        if self.dry_run {
            self.write_folders(out)?;
        }
        writeln!(
            out,
            "{:<10} {} of {} messages",
            if self.dry_run { "to seal" } else { "sealed" },
            total.sealed,
            total.messages
        )?;
        let reasons = total.reasons();
        let reasons = if reasons.is_empty() { reasons } else { format!(" ({reasons})") };
        writeln!(out, "unchanged  {}{reasons}", total.kept())?;
        writeln!(out, "failed     {}", total.failed)?;
        writeln!(out, "size       {} before, {} after", size(total.bytes_before), size(total.bytes_after))?;
        writeln!(
            out,
            "time       {:.1} s, {messages:.0} messages/s, {megabytes:.1} MB/s",
            time.as_secs_f64()
        )?;
        let users = self.users();
        if !users.is_empty() {
            let named = some_of(&users);
            let named = escape::display(named.as_bytes());
            writeln!(out, "{:<10} {named}", if users.len() == 1 { "user" } else { "users" })?;
        }
        self.write_notes(out)?;
        if !left.is_empty() {
            writeln!(out, "\nWhat may still hold clear text:")?;
            for text in left {
                writeln!(out, "- {}", escape::display(text.as_bytes()))?;
            }
        }
        if interrupted {
            writeln!(out, "\nInterrupted. Nothing is lost; the same command goes on where this one ended.")?;
        }
        Ok(())
    }

    /// What a dry run found, by folder.
    fn write_folders(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = Table::new(&["folder", "messages", "to seal", "unchanged", "before", "after"]);
        for row in &self.folders {
            let path = Path::new(&row.maildir).join(&row.folder);
            table.push(vec![
                path.to_string_lossy().trim_end_matches('/').into(),
                row.tally.messages.to_string(),
                row.tally.sealed.to_string(),
                row.tally.kept().to_string(),
                size(row.tally.bytes_before),
                size(row.tally.bytes_after),
            ]);
        }
        table.write(out)?;
        writeln!(out, "\nNothing was changed.")
    }

    /// Whose mail was worked on, each once, in the order of the work.
    fn users(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let users = self.folders.iter().map(|row| if row.user.is_empty() { "-" } else { &row.user });
        users.filter(|user| seen.insert(*user)).collect()
    }

    /// Says whose certificates were looked for, where that was the owner of the Maildir by default and none was found: the
    /// Maildirs of virtual users belong to the mail user.
    fn write_owner(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.by_owner || self.total.sealed > 0 || !self.total.unchanged.contains_key(NO_KEY) {
            return Ok(());
        }
        writeln!(
            out,
            "\n{} has no certificate, and owns the Maildir; if its mail is another user's, name that one with --user NAME.",
            escape::display(some_of(&self.users()).as_bytes())
        )
    }

    /// What an admin should know beside the numbers.
    fn write_notes(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_owner(out)?;
        let total = &self.total;
        if total.recovered > 0 {
            writeln!(out, "recovered  {} files that an interrupted run had left", total.recovered)?;
        }
        if total.header_fields > 0 {
            writeln!(
                out,
                "\n{} sealed messages are signed, or of a type that is not understood; their header fields stay readable.",
                total.header_fields
            )?;
        }
        if self.elsewhere > 0 {
            writeln!(
                out,
                "\n{} names elsewhere still hold the clear text of sealed messages: hard links, as backups make them.",
                self.elsewhere
            )?;
        }
        Ok(())
    }
}
