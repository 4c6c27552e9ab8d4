//! Edge: `mailseal audit`: which stored messages are in clear, which are sealed and to which keys.
//!
//! A message counts as encrypted only where [`crate::bulk`] would leave it alone: proven by its structure, from its
//! first byte to its last. Everything else is clear, whatever it claims. What the keys are worth to the user is
//! [`keys`]' business.

pub mod keys;
mod message;
mod page;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rayon::prelude::*;
use serde::Serialize;

use self::keys::{KeyBook, State};
use self::message::{Verdict, look_at};
use crate::bulk::target;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Exit;
use crate::maildir::folder::Folder;
use crate::process;
use crate::protect::exposed::Exposed;
use crate::sandbox::Sandbox;
use crate::sweep::Sweep;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Maildirs, or patterns with `%{user}`.
    pub sweep: Sweep,
    /// Their users; the owners, if not said.
    pub users: Vec<String>,
    /// The users' home.
    pub home: Option<PathBuf>,
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
#[derive(Debug, Serialize)]
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
#[derive(Clone, Debug, Default, Serialize)]
struct Count {
    folder: String,
    messages: u64,
    clear: u64,
    /// Of any key.
    sealed: u64,
    /// Of those: to a key of the user's that has expired or was retired.
    sealed_to_expired: u64,
    /// To one that was revoked as compromised.
    sealed_to_revoked: u64,
    /// To keys that are not the user's, as far as is known.
    sealed_to_others: u64,
    /// Not by mailseal.
    encrypted: u64,
    unreadable: u64,
    /// Files without a byte.
    empty: u64,
    /// What the headers of sealed messages still tell.
    outside: Outside,
}

/// How many sealed messages tell something of their content outside.
#[derive(Clone, Copy, Debug, Default, Serialize)]
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
#[derive(Debug, Serialize)]
struct KeyCount {
    key: String,
    state: State,
    messages: u64,
}

/// A message to be looked at.
#[derive(Debug, Serialize)]
struct Listed {
    state: String,
    path: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
}

/// Audits Maildirs. [`Exit::Negative`] where a message is in clear, or could not be read: nobody knows what it is then.
///
/// # Errors
/// Those of opening the Maildirs and of reading the key files that are named, and [`Error::Output`].
pub fn run(options: &Options, config: &Config, out: &mut impl Write) -> Result<Exit, Error> {
    let now = SystemTime::now();
    let mut audit = Audit::default();
    let mut result = Ok(());
    for target in target::expand(&options.sweep.paths, &options.users, options.sweep.control.as_deref())? {
        let path = PathBuf::from(target.path);
        let (book, certificates) =
            match KeyBook::of(&options.key_files, &target.user, options.home.as_deref(), config, now) {
                Ok(book) => (book, None),
                Err(error) if !options.key_files.is_empty() => return Err(error),
                Err(error) => (KeyBook::default(), Some(error.to_string())),
            };
        // After the certificates, which may come through /dev/fd.
        process::forbid_dumps()?;
        let mut maildir = Maildir {
            path: path.display().to_string(),
            user: target.user,
            certificates,
            folders: Vec::new(),
            keys: Vec::new(),
            files: options.list.then(Vec::new),
        };
        let sweep =
            Sweep { paths: vec![path], control: target.control.map(PathBuf::from), jobs: options.sweep.jobs };
        let book = Mutex::new(book);
        let own: Vec<&Path> = sweep.paths.iter().chain(&sweep.control).map(PathBuf::as_path).collect();
        let swept = options.sandbox.within(&own, || {
            sweep.each_folder(|_, folder| {
                let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
                let count = audit_folder(folder, &mut book, maildir.files.as_mut())?;
                maildir.folders.push(count);
                Ok(())
            })
        });
        if result.is_ok() {
            result = swept;
        }
        let book = book.into_inner().unwrap_or_else(PoisonError::into_inner);
        maildir.keys =
            book.counts().map(|(key, state, messages)| KeyCount { key, state, messages }).collect();
        audit.clear += maildir.folders.iter().map(|count| count.clear).sum::<u64>();
        audit.unreadable += maildir.folders.iter().map(|count| count.unreadable).sum::<u64>();
        audit.maildirs.push(maildir);
    }
    let written = if options.json {
        serde_json::to_writer_pretty(&mut *out, &audit).map_err(Into::into).and_then(|()| writeln!(out))
    } else {
        page::write(&audit, out)
    };
    written.map_err(Error::Output)?;
    result?;
    Ok(if audit.clear + audit.unreadable == 0 { Exit::Ok } else { Exit::Negative })
}

fn audit_folder(
    folder: &Folder,
    book: &mut KeyBook,
    mut files: Option<&mut Vec<Listed>>,
) -> Result<Count, Error> {
    let listing = folder.list()?;
    let mut count = Count { folder: folder.path().display().to_string(), ..Count::default() };
    let verdicts: Vec<Option<Verdict>> =
        listing.messages.par_iter().map(|message| look_at(folder, message)).collect();
    let odd = listing.odd.iter().map(|path| (path.clone(), Verdict::Unreadable("it is no file".into())));
    let found = listing.messages.iter().zip(verdicts);
    // A message that went away meanwhile is none.
    let found = found.filter_map(|(message, verdict)| Some((folder.path_of(message), verdict?)));
    for (path, verdict) in found.chain(odd) {
        count.messages += 1;
        let (state, keys) = match verdict {
            Verdict::Clear => {
                count.clear += 1;
                ("clear".to_owned(), Vec::new())
            }
            Verdict::Encrypted(_) => {
                count.encrypted += 1;
                continue;
            }
            Verdict::Empty => {
                count.empty += 1;
                continue;
            }
            Verdict::Unreadable(why) => {
                count.unreadable += 1;
                (format!("unreadable: {why}"), Vec::new())
            }
            Verdict::Sealed { recipients, exposed } => {
                count.sealed += 1;
                count.outside.add(exposed);
                let state = book.count(&recipients);
                match state {
                    State::Current | State::Unknown => continue,
                    State::Expired => count.sealed_to_expired += 1,
                    State::Revoked => count.sealed_to_revoked += 1,
                    State::Other => count.sealed_to_others += 1,
                }
                (format!("sealed: {}", state.name()), recipients)
            }
        };
        if let Some(files) = files.as_mut() {
            files.push(Listed { state, path: path.display().to_string(), keys });
        }
    }
    Ok(count)
}
