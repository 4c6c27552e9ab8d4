//! Edge: `mailseal sendmail --held`: tries all held mail again, each message with the rights of its owner.
//!
//! One user after the other, root and the system's users first: neither many messages of one nor a program that he stops keeps
//! the next waiting for longer than a `TURN`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use mailseal_core::error::Error as CoreError;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{Gid, Uid, User};

use super::folder::{self, Contents, Held};
use super::notice::{self, Waits};
use super::{Record, Waiting, Work, texts};
use crate::cli;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Exit;
use crate::outgoing::aliases::Aliases;
use crate::outgoing::program::{self, Caller, Gone};
use crate::outgoing::sendmail::arguments::{Arguments, HINT, Request, is_harmless};
use crate::outgoing::sendmail::body::Body;
use crate::outgoing::sendmail::plan::Plan;
use crate::outgoing::sendmail::{
    self,
    sender::{Mail, Sender},
};
use crate::system::owner::identity::Identity;
use crate::system::process;

/// How long the messages of one user may take in a run, and those of all: then it begins anew with the first.
const TURN: Duration = Duration::from_secs(300);
const RUN: Duration = Duration::from_secs(3600);

/// How many files that are not held mail are named.
const NAMED: usize = 20;

/// Tries all held mail again; [`Exit::Ok`] whatever is left of it.
///
/// # Errors
/// [`Error::Held`] where the folder cannot be used; those of [`program::check`] and [`Aliases::read`].
pub fn run(config: &Config) -> Result<Exit, Error> {
    program::look_at_itself();
    process::keep_private()?;
    let path = &config.sendmail.held;
    folder::check(path)?;
    let Some(_lock) = folder::lock(path)? else {
        cli::note(cli::ADMIN, "held mail is being tried already");
        return Ok(Exit::Ok);
    };
    program::check(&config.sendmail.program)?;
    let aliases = Aliases::read(config)?;
    let contents = folder::contents(path).map_err(|error| failed(path, &error))?;
    name_odd(&contents);
    let mut waiting = Waits::default();
    let (begin, mut count) = (Instant::now(), contents.more);
    for mail in contents.mail.into_values() {
        count += turn(config, &aliases, &mail, begin, &mut waiting);
    }
    if count > 0 {
        cli::note(
            cli::ADMIN,
            &format!("messages that stay held: {count}; see mailseal sendmail --held --list"),
        );
    }
    notice::send(config, waiting);
    Ok(Exit::Ok)
}

/// Tries the messages of one user, the oldest first; how many are left. One with which the program hangs is the last next time, and
/// where there are more than a run looks at, each that stays.
fn turn(config: &Config, aliases: &Aliases, mail: &[Held], begin: Instant, waits: &mut Waits) -> usize {
    let are_all = mail.len() < folder::MOST;
    let (start, mut left) = (Instant::now(), 0);
    for (at, held) in mail.iter().enumerate() {
        if start.elapsed() > TURN || begin.elapsed() > RUN {
            return left + mail.len() - at;
        }
        let this = Instant::now();
        match release(config, aliases, held) {
            Ok(waiting) if waiting.is_empty() => continue,
            Ok(waiting) => waits.add(&waiting),
            Err(error) => cli::complain(cli::ADMIN, None, &failed(&held.path, &error)),
        }
        left += 1;
        if !are_all || this.elapsed() >= config.sendmail.deadline {
            // Where that fails, it is the first again.
            let _ = folder::put_last(held);
        }
    }
    left
}

fn failed(path: &std::path::Path, error: &io::Error) -> Error {
    Error::Held {
        path: path.into(),
        what: error.to_string(),
        hint: "run it as root; look at the file, and remove it if it is not held mail".into(),
    }
}

fn name_odd(contents: &Contents) {
    for (path, why) in contents.odd.iter().take(NAMED) {
        cli::complain(cli::ADMIN, None, &failed(path, &io::Error::other(*why)));
    }
}

/// Tries one message again; those who still wait for it.
fn release(config: &Config, aliases: &Aliases, held: &Held) -> io::Result<Vec<Waiting>> {
    let mut file = held.open()?;
    let (mut record, start) = Record::read(&mut file)?;
    make_sure_of_room(held.size)?;
    let gone = Gone { identity: identity(held)?, environment: environment(&record, held)? };
    let caller = Caller { umask: None, gone: Some(gone) };
    let mut sender = Sender::new(config, aliases, &caller);
    let body = Body::stored(file, start)?;
    let (plan, mut mail) = match plan_again(&sender, &record.work, body) {
        Ok(planned) => planned,
        Err(error) => return still_held(&error),
    };
    let Plan { copies, mut waiting } = plan;
    let due: usize = copies.iter().map(|copy| copy.to.len()).sum();
    if due == 0 && waiting.is_empty() {
        return Err(io::Error::other("there is nobody to send it to"));
    }
    let left = sender.send(Plan { copies, waiting: Vec::new() }, &mut mail);
    let is_as_before = left.len() == due;
    waiting.extend(left);
    if waiting.is_empty() {
        std::fs::remove_file(&held.path)?;
    } else if !is_as_before {
        let options = texts(&mail.options);
        record.work = Work::Left { options, recipients: waiting.clone(), sealed: mail.sealed };
        let put = folder::put(&config.sendmail.held, Some(held), |file| record.write(&mut mail.body, file));
        put.map_err(|error| {
            let what = format!("who has got it cannot be noted, and they will get it again: {error}");
            io::Error::new(error.kind(), what)
        })?;
    }
    Ok(waiting)
}

/// Of a message that cannot be read any better than before, nobody in particular waits.
fn still_held(error: &Error) -> io::Result<Vec<Waiting>> {
    cli::complain(cli::ADMIN, None, error);
    Ok(vec![Waiting::new(String::new(), error)])
}

fn plan_again(sender: &Sender<'_>, work: &Work, mut body: Body) -> Result<(Plan, Mail), Error> {
    match work {
        Work::Left { options, recipients, sealed } => {
            let options = options.iter().map(OsString::from).filter(|it| is_harmless(it)).collect();
            let recipients: Vec<String> = recipients.iter().map(|it| it.to.clone()).collect();
            let mut plan = Plan::default();
            sender.planner().add(&recipients, &mut plan);
            Ok((plan, Mail { options, body, sealed: *sealed }))
        }
        Work::All { arguments, .. } => {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let Request::Send(asked) = Arguments::parse(&arguments)? else {
                let what = "its arguments send no message".into();
                return Err(Error::Usage { what, hint: HINT.into() });
            };
            let (body, _) = Body::read(&mut body.reader().map_err(CoreError::Read)?, asked.dots)?;
            let options = asked.options.iter().filter(|it| is_harmless(it)).cloned().collect();
            let mut mail = Mail { options, body, sealed: false };
            let plan = sendmail::plan(sender, &asked, &mut mail)?;
            Ok((plan, mail))
        }
    }
}

/// In which environment it is sent. The home is that of the owner, for the owner's own settings of the program.
fn environment(record: &Record, held: &Held) -> io::Result<Vec<(String, OsString)>> {
    let mut environment = record.environment();
    if let Some(user) = User::from_uid(Uid::from_raw(held.uid))? {
        environment.push(("HOME".into(), user.dir.into()));
    }
    Ok(environment)
}

/// With whose rights it is sent; `None` are those of who runs this.
fn identity(held: &Held) -> io::Result<Option<Identity>> {
    if held.uid == process::user() {
        return Ok(None);
    }
    let identity = Identity::of(Uid::from_raw(held.uid), Gid::from_raw(held.gid));
    identity.map(Some).map_err(|error| io::Error::other(error.to_string()))
}

/// A copy takes some room, and nobody else may have to do without: files can seem larger than they are.
fn make_sure_of_room(size: u64) -> io::Result<()> {
    let place: File = tempfile::tempfile()?;
    let system = fstatvfs(&place)?;
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    let free = u64::from(system.blocks_available()).saturating_mul(u64::from(system.fragment_size()));
    if size.saturating_mul(2) < free {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::StorageFull,
        "there is not twice as much room for temporary files as it is long",
    ))
}
