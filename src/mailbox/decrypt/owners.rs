//! Edge: `mailseal decrypt` and `mailseal reseal` over Maildirs, whosever they are: their owner's own here, others' in a
//! process with the owner's rights, which root starts.
//!
//! Root reads the secret keys that the admin has named, unlocks them, and hands them over in a pipe. A new Maildir for
//! another's mail is made by root, in a folder of root's, and given to the owner.

use std::ffi::OsString;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use mailseal_core::error::Error as CoreError;
use mailseal_core::unseal::Expansion;
use mailseal_maildir::commit::Uids;
use mailseal_maildir::dir::Dir;
use mailseal_maildir::error::Error as MaildirError;
use nix::unistd::{fchown, geteuid};
use serde::{Deserialize, Serialize};

use crate::cli;
use crate::config::Preference;
use crate::config::style::Style;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::secret::files::KeyFiles;
use crate::keystore::any_cert;
use crate::mailbox::decrypt::Opener;
use crate::mailbox::decrypt::maildir::{self, Summary};
use crate::mailbox::reseal;
use crate::mailbox::sweep::{Event, Sweep, Tell, complain};
use crate::system::owner::child::serve;
use crate::system::owner::identity::Identity;
use crate::system::owner::process::{PATIENCE, Start, Watch, run as run_as_owner};
use crate::system::owner::slots::{Slot, side_by_side};
use crate::system::process;

/// The kind of the task.
pub const KIND: &str = "open";

/// What is to be done with the messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Work {
    /// They are decrypted in their place.
    Decrypt {
        /// They keep their UIDs.
        keep_uids: bool,
    },
    /// They are decrypted into another Maildir.
    Into {
        /// Which one.
        target: OsString,
    },
    /// They are sealed to other keys.
    Reseal {
        /// They keep their UIDs.
        keep_uids: bool,
        /// The certificates, each serialized.
        certs: Vec<Vec<u8>>,
        /// The recovery certificates, each serialized.
        recovery: Vec<Vec<u8>>,
        /// How they are sealed, where there are several ways.
        preference: Preference,
        /// How messages are sealed.
        style: Style,
    },
}

/// What an owner's process is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    path: OsString,
    control: Option<OsString>,
    jobs: Option<NonZeroUsize>,
    keys: Vec<Vec<u8>>,
    expansion: Expansion,
    work: Work,
}

/// Does the work in the Maildirs of `sweep`, those of several owners side by side, and writes the summary to `out`.
///
/// # Errors
/// Those of the folders and of the owners' processes; single messages that fail are named on standard error, and are
/// [`Exit::Negative`].
pub fn run(sweep: &Sweep, opener: Opener<'_>, work: &Work, out: &mut impl Write) -> Result<Exit, Error> {
    let verb = if matches!(work, Work::Reseal { .. }) { "resealed" } else { "decrypted" };
    let identity = |path: &Path| match work {
        Work::Into { .. } => Identity::to_read(path),
        _ => Identity::to_change(path),
    };
    let owners: Vec<Option<Identity>> =
        sweep.paths.iter().map(|path| identity(path)).collect::<Result<_, _>>()?;
    let foreign = owners.iter().any(Option::is_some);
    let folder = match work {
        Work::Into { target } => Some(new_maildir(Path::new(target), &owners)?),
        _ => None,
    };
    let run = Run {
        sweep,
        opener,
        work,
        // Whoever can ask for a passphrase does so before anything is touched.
        keys: if foreign { opener.keys.export()? } else { Vec::new() },
        folder,
        summary: Mutex::new(Summary::new(verb)),
        stop: AtomicBool::new(false),
    };
    let result = Mutex::new(Ok(()));
    let jobs = if foreign { process::jobs(sweep.jobs) } else { 1 };
    let targets: Vec<_> = sweep.paths.iter().zip(&owners).collect();
    side_by_side(jobs, &targets, &run.stop, |(path, identity), slot| {
        let done = match identity {
            None => run.here(path, slot),
            Some(identity) => run.as_owner(path, identity, slot),
        };
        let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*result, done) {
            (Err(_), Err(next)) => complain(path, &next, &|event| run.tell(event)),
            (Ok(()), done) => *result = done,
            (Err(_), Ok(())) => {}
        }
    });
    let summary = run.summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.finish(out, result.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The work on all the Maildirs, whosever they are.
struct Run<'a> {
    sweep: &'a Sweep,
    opener: Opener<'a>,
    work: &'a Work,
    /// The secret keys, where an owner's process needs them.
    keys: Vec<Vec<u8>>,
    /// The new Maildir.
    folder: Option<Dir>,
    summary: Mutex<Summary>,
    stop: AtomicBool,
}

impl Run<'_> {
    fn tell(&self, event: Event) {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner).note(event);
    }

    /// Works on a Maildir with the rights that this process has.
    fn here(&self, path: &Path, slot: &Slot<'_>) -> Result<(), Error> {
        let own = Sweep { paths: vec![path.to_path_buf()], ..self.sweep.clone() };
        let tell = |event: Event| {
            if matches!(event, Event::Waiting { .. }) {
                slot.step_aside();
            }
            self.tell(event);
        };
        work_on(&own, self.opener, self.work, self.folder.as_ref(), &tell)
    }

    /// Has a process with the owner's rights work on a Maildir.
    fn as_owner(&self, path: &Path, identity: &Identity, slot: &Slot<'_>) -> Result<(), Error> {
        let task = Task {
            path: absolute(path),
            control: self.sweep.control.as_deref().map(absolute),
            jobs: self.sweep.jobs,
            keys: self.keys.clone(),
            expansion: self.opener.expansion,
            work: self.work.clone(),
        };
        let folder = self.folder.as_ref().map(|folder| folder.try_clone().map(Into::into)).transpose();
        let folder = folder.map_err(CoreError::Write)?;
        let start = Start { program: cli::ADMIN, kind: KIND, identity };
        let watch = Watch { patience: PATIENCE, stop: &self.stop, slot: Some(slot) };
        run_as_owner(&start, &task, folder, &watch, &mut |event| {
            self.tell(event);
            Ok(())
        })
    }
}

fn absolute(path: &Path) -> OsString {
    // Another process has another working folder.
    std::path::absolute(path).unwrap_or_else(|_| path.into()).into()
}

/// The work itself, with the rights that the process has.
fn work_on(
    sweep: &Sweep,
    opener: Opener<'_>,
    work: &Work,
    folder: Option<&Dir>,
    tell: &Tell<'_>,
) -> Result<(), Error> {
    let uids = |keep: bool| if keep { Uids::Keep } else { Uids::New };
    match (work, folder) {
        (Work::Decrypt { keep_uids }, _) => maildir::in_place(sweep, uids(*keep_uids), opener, tell),
        (Work::Into { target }, Some(folder)) => {
            maildir::into(sweep, folder, Path::new(target), opener, tell)
        }
        (Work::Into { .. }, None) => Err(CoreError::Write(std::io::ErrorKind::NotFound.into()).into()),
        (Work::Reseal { keep_uids, certs, recovery, preference, style }, _) => {
            let pair = (&*any_cert::parse_each(certs)?, &*any_cert::parse_each(recovery)?);
            let recipients = reseal::recipients(pair, *preference)?;
            reseal::run(sweep, uids(*keep_uids), opener, style.sealer(&recipients), tell)
        }
    }
}

/// Opens the new Maildir, made where it is not there yet; it is the owner's whose mail it takes.
fn new_maildir(target: &Path, owners: &[Option<Identity>]) -> Result<Dir, Error> {
    let failed = |source| Error::from(MaildirError::Mail { path: target.into(), source });
    let usage = |what: String, hint: &str| Error::Usage { what, hint: hint.into() };
    let owner = owners.first().and_then(Option::as_ref);
    if owners.iter().any(|other| other.as_ref() != owner) {
        return Err(usage(
            "--into, and Maildirs of several owners".into(),
            "decrypt those of each owner into one of its own",
        ));
    }
    let path = std::path::absolute(target).map_err(failed)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()));
    };
    let parent = Dir::open(parent).map_err(failed)?;
    if let Some(owner) = owner {
        let stat = parent.stat_self().map_err(failed)?;
        if stat.st_uid != geteuid().as_raw() || stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0 {
            let what = format!(
                "{}: for mail of user {}, root makes no folder where others can",
                target.display(),
                owner.uid()
            );
            return Err(usage(what, "name one in a folder that is root's, or run this as the mail's owner"));
        }
    }
    let made = match parent.create_dir(name, 0o700) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(failed(error)),
    };
    let folder = parent.open_dir(Path::new(name)).map_err(failed)?;
    if let Some(owner) = owner {
        if made {
            fchown(&folder, Some(owner.uid()), Some(owner.gid())).map_err(|error| failed(error.into()))?;
        } else if folder.stat_self().map_err(failed)?.st_uid != owner.uid().as_raw() {
            let what = format!(
                "{}: it does not belong to user {}, whose the mail is",
                target.display(),
                owner.uid()
            );
            return Err(usage(what, "name a folder that is not there yet"));
        }
    }
    Ok(folder)
}

/// What an owner's process does.
///
/// # Errors
/// Those of the task, which have been reported.
pub fn main() -> Result<(), Error> {
    serve(|task: Task, reports, stop| {
        let keys = KeyFiles::import(&task.keys)?;
        let folder = match task.work {
            Work::Into { .. } => Some(process::stderr()?.into()),
            _ => None,
        };
        let sweep = Sweep {
            paths: vec![task.path.into()],
            control: task.control.map(Into::into),
            jobs: task.jobs,
            owned: Some(Arc::clone(stop)),
        };
        let opener = Opener { keys: &keys, expansion: task.expansion };
        // Between two messages nothing is half done, and elsewhere what is left is put in order by the next run.
        work_on(&sweep, opener, &task.work, folder.as_ref(), &|event| reports.say_or_leave(event))
    })
}
