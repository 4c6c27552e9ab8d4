//! Edge: `mailseal audit`: which stored messages are in clear, which are sealed and to which keys.
//!
//! A message counts as encrypted only where [`crate::mailbox::encrypt`] would leave it alone: proven by its structure, from its
//! first byte to its last. Everything else is clear, whatever it claims. What the keys are worth to the user is
//! [`keys`]' business.

pub mod keys;
mod message;
pub mod owned;
mod page;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use mailseal_core::protect::exposed::Exposed;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use self::keys::State;
use crate::config::Config;
use crate::console::json;
use crate::dovecot::doveadm::Doveadm;
use crate::error::Error;
use crate::exit::Exit;
use crate::keystore::any_cert;
use crate::keystore::trust::Trust;
use crate::mailbox::audit::owned::{Event, Task};
use crate::mailbox::encrypt::event::Target;
use crate::mailbox::sweep::Sweep;
use crate::mailbox::target;
use crate::system::owner::identity::Identity;
use crate::system::owner::process::{PATIENCE, Start, Watch, run as run_as_owner};
use crate::system::owner::slots::side_by_side;
use crate::system::process;
use crate::system::sandbox::Sandbox;
use crate::{cli, keystore};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Maildirs, or patterns with `%{user}`.
    pub sweep: Sweep,
    /// Their users; the owners, if not said.
    pub users: Vec<String>,
    /// The users' home.
    pub home: Option<PathBuf>,
    /// The configuration file, if another than the default.
    pub config: Option<PathBuf>,
    /// Files with the user's certificates; where there are any, none are looked up.
    pub key_files: Vec<PathBuf>,
    /// Name the messages that are not sealed to a key that the user has now.
    pub list: bool,
    /// For scripts.
    pub json: bool,
    /// Whether what reads mail must be confined to the Maildir.
    pub sandbox: Sandbox,
}

/// The result of an audit. The names are those of the JSON.
#[derive(Debug, Default, Serialize)]
struct Audit {
    /// In all Maildirs together.
    clear: u64,
    unreadable: u64,
    maildirs: Vec<Maildir>,
}

/// One Maildir.
#[derive(Debug, Default, Serialize)]
struct Maildir {
    path: String,
    user: String,
    /// Why nothing is known of the user's certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<String>,
    folders: Vec<Count>,
    keys: Vec<KeyCount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<Listed>>,
}

/// The messages of a folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    folder: String,
    messages: u64,
    clear: u64,
    /// Of any key.
    sealed: u64,
    /// Of those: by gpgit, before mailseal.
    sealed_by_gpgit: u64,
    /// Of those: to a key of the user's that has expired or was retired.
    sealed_to_expired: u64,
    /// To one that was revoked as compromised.
    sealed_to_revoked: u64,
    /// To keys that are not the user's, as far as is known.
    sealed_to_others: u64,
    /// By their senders.
    encrypted: u64,
    unreadable: u64,
    /// Files without a byte.
    empty: u64,
    /// What the headers of sealed messages still tell.
    outside: Outside,
}

/// How many sealed messages tell something of their content outside.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outside {
    /// Their Subject, or words about it.
    subject: u64,
    /// Hashes of the body (DKIM, ARC), which confirm a guess at it.
    body_hash: u64,
    /// What a spam filter found: it may quote the body.
    spam_report: u64,
    /// Lines that are no fields.
    header_text: u64,
}

impl Outside {
    fn add(&mut self, exposed: Exposed) {
        self.subject += u64::from(exposed.subject);
        self.body_hash += u64::from(exposed.hashes);
        self.spam_report += u64::from(exposed.reports);
        self.header_text += u64::from(exposed.text);
    }
}

/// The messages that are sealed to a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCount {
    key: String,
    state: State,
    messages: u64,
}

/// A message to be looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    state: String,
    path: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
}

/// Audits Maildirs. [`Exit::Negative`] where a message is in clear, or could not be read: nobody knows what it is then.
///
/// Those of several owners are looked at side by side, each by a process with its owner's rights where this is root's.
///
/// # Errors
/// Those of opening the Maildirs and of reading the key files that are named, those of owners' processes, and
/// [`Error::Output`].
pub fn run(options: &Options, config: &Config, out: &mut impl Write) -> Result<Exit, Error> {
    let targets = target::expand(&options.sweep.paths, &options.users, options.sweep.control.as_deref())?;
    let certs = keystore::read_each_named(
        &options.key_files,
        &Trust::of_process(config.keys.trusted_groups.ids()),
        None,
    )?;
    let certs: Result<Vec<_>, _> =
        certs.iter().map(|cert| any_cert::serialize(slice::from_ref(cert))).collect();
    let certs = certs?;
    // After the certificates, which may come through /dev/fd.
    process::forbid_dumps()?;
    let stop = AtomicBool::new(false);
    let turns = if geteuid().is_root() { process::jobs(options.sweep.jobs) } else { 1 };
    // Whoever names certificates, or the home, has no need of what Dovecot knows.
    let is_asked = certs.is_empty() && options.home.is_none();
    let doveadm = if is_asked {
        Doveadm::find(None, &Watch { patience: PATIENCE, stop: &stop, slot: None })
    } else {
        None
    };
    let done: Vec<_> = targets.iter().map(|_| Mutex::new(None)).collect();
    let numbered: Vec<(&Target, &Mutex<_>)> = targets.iter().zip(&done).collect();
    side_by_side(turns, &numbered, &stop, |(target, done), slot| {
        let watch = Watch { patience: PATIENCE, stop: &stop, slot: Some(slot) };
        let mut task = options.task(target, certs.clone());
        if is_asked {
            // Where Dovecot does not say it in time, a source that asks for it says that it is not known.
            let home = target::home(&target.user, doveadm.as_ref(), &watch).ok().flatten();
            task.target.home = home.map(Into::into);
        }
        *done.lock().unwrap_or_else(PoisonError::into_inner) = Some(one(&task, config, &watch));
    });
    let mut audit = Audit::default();
    let mut result = Ok(());
    for (maildir, failure) in
        done.into_iter().filter_map(|done| done.into_inner().unwrap_or_else(PoisonError::into_inner))
    {
        result = result.and(failure);
        audit.clear += maildir.folders.iter().map(|count| count.clear).fold(0, u64::saturating_add);
        audit.unreadable += maildir.folders.iter().map(|count| count.unreadable).fold(0, u64::saturating_add);
        audit.maildirs.push(maildir);
    }
    let written = if options.json { json::write(out, &audit) } else { page::write(&audit, out) };
    written.map_err(Error::Output)?;
    result?;
    Ok(if (audit.clear, audit.unreadable) == (0, 0) { Exit::Ok } else { Exit::Negative })
}

impl Options {
    /// What the audit of one of the Maildirs is told.
    fn task(&self, target: &Target, certs: Vec<Vec<u8>>) -> Task {
        let absolute =
            |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into()).into_os_string();
        let home = self.home.as_deref().map(absolute);
        let control = target.control.as_deref().map(|path| absolute(Path::new(path)));
        Task {
            target: Target { home, control, ..target.clone() },
            config: self.config.as_deref().map(absolute),
            certs,
            list: self.list,
            jobs: self.sweep.jobs,
            sandbox: self.sandbox,
        }
    }
}

/// The audit of one Maildir, and what went wrong with it.
fn one(task: &Task, config: &Config, watch: &Watch<'_>) -> (Maildir, Result<(), Error>) {
    let path = Path::new(&task.target.path);
    let maildir = Mutex::new(Maildir {
        path: path.display().to_string(),
        user: task.target.user.clone(),
        files: task.list.then(Vec::new),
        ..Maildir::default()
    });
    let tell = |event| maildir.lock().unwrap_or_else(PoisonError::into_inner).note(event);
    let result = Identity::to_read(path).and_then(|identity| match identity {
        None => task.run(config, None, &tell),
        Some(identity) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.into()).into();
            let task = Task { target: Target { path, ..task.target.clone() }, ..task.clone() };
            let start = Start { program: cli::ADMIN, kind: owned::KIND, identity: &identity };
            run_as_owner(&start, &task, None, watch, &mut |event| {
                tell(event);
                Ok(())
            })
        }
    });
    (maildir.into_inner().unwrap_or_else(PoisonError::into_inner), result)
}

impl Maildir {
    fn note(&mut self, event: Event) {
        match event {
            Event::Alive => {}
            Event::Unknown(why) => self.certificates = Some(why),
            Event::Folder(count) => self.folders.push(count),
            Event::Key(key) => self.keys.push(key),
            Event::File(file) => self.files.iter_mut().for_each(|files| files.push(file.clone())),
            Event::Problem { what, hint } => {
                // Nothing can be done where even this cannot be written.
                let _ =
                    std::io::stderr().write_all(cli::complaint(cli::ADMIN, None, &what, &hint).as_bytes());
            }
        }
    }
}
