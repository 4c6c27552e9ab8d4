//! `mailseal sendmail`: what takes the place of sendmail on a host whose mail goes to a relay, and seals what leaves.
//!
//! ```text
//! arguments    what the arguments of sendmail ask for
//! recipients   the addresses in a list, strictly
//! body         the message, to be read several times
//! plan         who gets what, and what is held
//! sender       seals a copy and hands it over
//! ```
//!
//! **The callers of sendmail seldom look at exit statuses.** So what cannot leave as the rules want it is held, and tried again
//! ([`held`]): first all that is known to have to wait, then what the program that sends mail does not take.
//! Where holding fails, too, the exit status is 75 and no copy has gone out that did not have to.

pub mod arguments;
pub mod body;
pub mod plan;
pub mod recipients;
pub mod sender;

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::Opening;
use nix::sys::stat::{Mode, umask};

use self::arguments::{Arguments, Request};
use self::body::Body;
use self::plan::Plan;
use self::sender::{Mail, Sender};
use crate::cli;
use crate::config::Config;
use crate::delivery::filter::DRAIN;
use crate::error::Error;
use crate::exit::Exit;
use crate::log::sink::Sink;
use crate::log::{LogLine, Outcome};
use crate::outgoing::aliases::Aliases;
use crate::outgoing::held::{self, Record, Waiting, Work, texts};
use crate::outgoing::program::{self, Caller};
use crate::system::owner::cut;
use crate::system::process;

/// Other names under which what sends mail is started, none of which sends any.
const OTHER_NAMES: [&str; 2] = ["mailq", "newaliases"];

/// The name under which this program was started, where it is one of those of a program that sends mail.
#[must_use]
pub fn started_as(first: Option<&OsStr>) -> Option<OsString> {
    let name = Path::new(first?).file_name()?;
    (name == program::NAME || OTHER_NAMES.iter().any(|other| name == *other)).then(|| name.to_owned())
}

/// Does what a program started as `name` is asked for by `arguments`; the exit status.
#[must_use]
pub fn run(config: Option<&Path>, name: &OsStr, arguments: &[OsString]) -> Exit {
    program::look_at_itself();
    let request = if OTHER_NAMES.iter().any(|other| name == *other) {
        Ok(Request::Other)
    } else {
        Arguments::parse(arguments)
    };
    let failed = |error: Error| {
        cli::complain(cli::ADMIN, None, &error);
        error.exit()
    };
    match request {
        Ok(Request::Other) => failed(leave_to_program(config, name, arguments)),
        // Whoever speaks SMTP waits for an answer, and has sent nothing yet.
        Ok(Request::Dialogue) => failed(Error::Usage {
            what: "mailseal does not speak SMTP on standard input (-bs)".into(),
            hint: arguments::HINT.into(),
        }),
        // Nobody types a message behind a wrong command line.
        Err(error) if std::io::stdin().is_terminal() => failed(error),
        Err(error) => attempt(config, arguments, Err(error)).unwrap_or_else(|error| lost(config, error)),
        Ok(Request::Send(asked)) => {
            attempt(config, arguments, Ok(asked)).unwrap_or_else(|error| lost(config, error))
        }
    }
}

fn leave_to_program(config: Option<&Path>, name: &OsStr, arguments: &[OsString]) -> Error {
    match Config::load(config) {
        Ok(config) => program::become_it(&config.sendmail.program, name, arguments),
        Err(error) => error,
    }
}

/// Says that the caller alone has the message now.
fn lost(config: Option<&Path>, error: Error) -> Exit {
    cli::complain(cli::ADMIN, None, &error);
    let config = Config::load(config).unwrap_or_default();
    let line = LogLine { reason: Some(error.reason()), ..LogLine::default() };
    Sink::open(&config.log.to, cli::ADMIN).write(&line);
    error.exit()
}

/// Sends the message on standard input as it was `asked` for; the error is one after which it is not held either.
fn attempt(
    config: Option<&Path>,
    arguments: &[OsString],
    asked: Result<Arguments, Error>,
) -> Result<Exit, Error> {
    let umask = umask(Mode::from_bits_truncate(0o077));
    process::harden()?;
    let body = read(asked.as_ref().map_or(true, |asked| asked.dots))?;
    if body.length() == 0 {
        return Err(asked.err().unwrap_or(CoreError::Empty.into()));
    }
    match (Config::load(config), asked) {
        (Ok(config), Ok(asked)) => send(&config, arguments, asked, body, umask),
        (Ok(config), Err(error)) => keep_all(&config, arguments, body, error),
        // Where the default is, it is found again.
        (Err(error), _) => keep_all(&Config::default(), arguments, body, error),
    }
}

/// Reads the message on standard input.
fn read(dots: bool) -> Result<Body, Error> {
    // A file that may not grow any more is an error then, and not the end.
    let exceeded = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, exceeded).map_err(CoreError::Read)?;
    let read = Body::read(&mut process::stdin()?, dots);
    if !matches!(read, Ok((_, false))) {
        // Whoever writes may finish.
        process::drain_stdin(DRAIN);
    }
    read.map(|(body, _)| body)
}

/// Holds a message of which nothing could be done for `error`. Its caller has nothing to do then, unless the command line or the
/// configuration is at fault.
///
/// # Errors
/// `error`, where it is not held.
fn keep_all(config: &Config, arguments: &[OsString], mut body: Body, error: Error) -> Result<Exit, Error> {
    let word = error.reason();
    let work = Work::All { arguments: texts(arguments), reason: word.into(), why: cut(error.to_string()) };
    if let Err(worse) = held::keep(&config.sendmail.held, &Record::new(work), &mut body) {
        cli::complain(cli::ADMIN, None, &worse);
        return Err(error);
    }
    let (reason, bytes_in) = (Some(word), body.length());
    let line = LogLine { outcome: Outcome::Held, reason, bytes_in, ..LogLine::default() };
    Sink::open(&config.log.to, cli::ADMIN).write(&line);
    cli::complain(cli::ADMIN, None, &error);
    cli::note(cli::ADMIN, "the message is held: mailseal sendmail --held --list");
    let is_faulty = matches!(error, Error::Usage { .. } | Error::Config { .. });
    Ok(if is_faulty { error.exit() } else { Exit::Ok })
}

/// Sends a message.
fn send(
    config: &Config,
    arguments: &[OsString],
    asked: Arguments,
    body: Body,
    umask: Mode,
) -> Result<Exit, Error> {
    let aliases = match program::check(&config.sendmail.program) {
        Err(error @ Error::Config { .. }) => return keep_all(config, arguments, body, error),
        // One that is not there may be there later.
        _ => match Aliases::read(config) {
            Ok(aliases) => aliases,
            Err(error) => return keep_all(config, arguments, body, error),
        },
    };
    let caller = Caller { umask: Some(umask), gone: None };
    let mut sender = Sender::new(config, &aliases, &caller);
    let mut mail = Mail { options: asked.options.clone(), body, sealed: false };
    let mut plan = match plan(&sender, &asked, &mut mail) {
        Ok(plan) => plan,
        Err(error @ Error::Usage { .. }) => return Err(error),
        Err(error) => return keep_all(config, arguments, mail.body, error),
    };
    let first = std::mem::take(&mut plan.waiting);
    let kept = keep_some(&mut sender, &mut mail, first);
    if kept == Exit::Ok {
        let left = sender.send(plan, &mut mail);
        return Ok(keep_some(&mut sender, &mut mail, left));
    }
    Ok(kept)
}

/// Who gets what, for a message as its caller sends it.
///
/// # Errors
/// [`Error::Usage`] where it is for nobody; those of reading its header.
pub fn plan(sender: &Sender<'_>, asked: &Arguments, mail: &mut Mail) -> Result<Plan, Error> {
    let planner = sender.planner();
    let (mut recipients, mut plan) = planner.given(&asked.recipients);
    if asked.from_header {
        let opening = Opening::read(&mut mail.body.reader().map_err(CoreError::Read)?)?;
        recipients.extend(recipients::named_by(opening.head())?);
    }
    planner.add(&recipients, &mut plan);
    if plan.copies.is_empty() && plan.waiting.is_empty() {
        return Err(Error::Usage {
            what: "the message is for nobody".into(),
            hint: "name recipients as arguments, or in the header with -t".into(),
        });
    }
    Ok(plan)
}

/// Holds a message for those who are `left`.
fn keep_some(sender: &mut Sender<'_>, mail: &mut Mail, left: Vec<Waiting>) -> Exit {
    if left.is_empty() {
        return Exit::Ok;
    }
    let options = texts(&mail.options);
    let work = Work::Left { options, recipients: left.clone(), sealed: mail.sealed };
    let kept = held::keep(&sender.config().sendmail.held, &Record::new(work), &mut mail.body);
    let outcome = if kept.is_ok() { Outcome::Held } else { Outcome::Deferred };
    for waiting in &left {
        sender.log_waiting(waiting, outcome, mail.body.length());
    }
    if left.len() > plan::NAMED {
        cli::note(cli::ADMIN, &format!("recipients who wait for the message: {}", left.len()));
    }
    match kept {
        Ok(()) => Exit::Ok,
        Err(error) => {
            cli::complain(cli::ADMIN, None, &error);
            Exit::Temporary
        }
    }
}
