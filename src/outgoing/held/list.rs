//! Edge: `mailseal sendmail --held --list`: what is held, for whom, since when and why.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nix::unistd::{Uid, User};
use serde::Serialize;

use super::folder::{self, Held};
use super::{Record, Work};
use crate::config::Config;
use crate::console::json;
use crate::console::table::Table;
use crate::error::Error;
use crate::exit::Exit;

/// How many records of each user are read to find the oldest message.
const SURVEYED: usize = 100;

/// A held message.
#[derive(Debug, Serialize)]
struct Listed {
    file: String,
    /// Who sent it.
    sender: String,
    since: Option<String>,
    bytes: u64,
    recipients: Vec<For>,
}

/// A recipient of one.
#[derive(Debug, Serialize)]
struct For {
    to: String,
    reason: String,
    why: String,
}

/// Lists held mail.
///
/// # Errors
/// [`Error::Held`] where the folder cannot be read; [`Error::Output`].
pub fn run(config: &Config, as_json: bool, out: &mut impl Write) -> Result<Exit, Error> {
    let path = &config.sendmail.held;
    folder::check(path)?;
    let contents = folder::contents(path).map_err(|error| unreadable(path, &error))?;
    let mut listed: Vec<Listed> = contents.mail.values().flatten().map(look).collect();
    listed.extend(contents.odd.iter().map(|(path, why)| odd(path, why)));
    listed.sort_by(|one, other| one.file.cmp(&other.file));
    if as_json {
        json::write(out, &listed).map_err(Error::Output)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["since", "sender", "bytes", "to", "reason", "file"]);
    for Listed { file, sender, since, bytes, recipients } in &listed {
        let since = since.as_deref().unwrap_or("-");
        for For { to, reason, .. } in recipients {
            table.push(vec![
                since.into(),
                sender.clone(),
                bytes.to_string(),
                to.clone(),
                reason.clone(),
                file.clone(),
            ]);
        }
    }
    table.write(out).map_err(Error::Output)?;
    Ok(Exit::Ok)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Held { path: path.into(), what: error.to_string(), hint: "run it as root".into() }
}

fn look(held: &Held) -> Listed {
    let read = held.open().and_then(|mut file| Record::read(&mut file));
    let sender = user(held.uid);
    match read {
        Ok((record, start)) => {
            let all =
                |reason: &str, why: &str| For { to: "-".into(), reason: reason.into(), why: why.into() };
            let recipients = match &record.work {
                Work::All { reason, why, .. } => vec![all(reason, why)],
                Work::Left { recipients, .. } => recipients
                    .iter()
                    .map(|it| For { to: it.name().into(), reason: it.reason.clone(), why: it.why.clone() })
                    .collect(),
            };
            let bytes = held.size.saturating_sub(start);
            Listed { file: held.name(), sender, since: time(record.since), bytes, recipients }
        }
        Err(error) => Listed { sender, ..odd(&held.path, &error.to_string()) },
    }
}

/// What is there and is not held mail.
fn odd(path: &Path, why: &str) -> Listed {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let recipients = vec![For { to: "-".into(), reason: "odd".into(), why: why.into() }];
    Listed { file, sender: "-".into(), since: None, bytes: 0, recipients }
}

/// As ISO 8601 has it, in UTC.
fn time(seconds: i64) -> Option<String> {
    Some(Timestamp::from_second(seconds).ok()?.to_string())
}

fn user(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| uid.to_string(), |user| user.name)
}

/// How much is held, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many messages.
    pub count: usize,
    /// Since when the oldest is, as far as the records of those tell that are tried first.
    pub oldest: Option<SystemTime>,
    /// How many files are something else.
    pub odd: usize,
}

/// Since when a message is held, by its record: the times of its file are anybody's who may write to it.
fn since(held: &Held) -> Option<SystemTime> {
    let (record, _) = held.open().and_then(|mut file| Record::read(&mut file)).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(record.since).ok()?))
}

/// Counts what is held.
///
/// # Errors
/// [`Error::Held`].
pub fn survey(config: &Config) -> Result<Survey, Error> {
    let path = &config.sendmail.held;
    folder::check(path)?;
    let contents = folder::contents(path).map_err(|error| unreadable(path, &error))?;
    let count = contents.mail.values().map(Vec::len).sum::<usize>() + contents.more;
    let now = SystemTime::now();
    let first = contents.mail.values().flat_map(|mail| mail.iter().take(SURVEYED));
    let oldest = first.filter_map(since).filter(|time| *time <= now).min();
    Ok(Survey { count, oldest, odd: contents.odd.len() })
}
