//! Dovecot's script socket: `mailseal-filter` without a process for each message.
//!
//! The protocol is that of Dovecot's `lib-program-client/program-client-remote.c`, the same in 2.3 and 2.4:
//!
//! ```text
//! VERSION script 4 0      with tabs
//! env_USER=alice          and HOME, HOST, SENDER, RECIPIENT, ORIG_RECIPIENT
//! -                       or noreply: nobody waits for the result
//! --user                  the arguments, a line for each
//!                         an empty line, then the message, up to the end of the stream
//! ```
//!
//! The answer is the message to store and `+`, or whatever was written and `-`: then Dovecot throws it away.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser as _;
use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::Opening;

use super::address::Stream;
use super::shared::Shared;
use super::smtp::lines::Connection as _;
use super::whose::Treatment;
use crate::cli;
use crate::delivery::filter::DRAIN;
use crate::delivery::message::{self, Message, WRITE_SIZE};
use crate::delivery::options::{Options, WhenUnchanged};
use crate::delivery::owner::Owner;
use crate::error::Error;
use crate::keys::addressee::Addressee;
use crate::log::{Door, LogLine, Outcome};
use crate::system::buffered::Buffered;
use crate::system::counted::Counted;

/// How long the request may take to come, and its longest form in bytes.
const REQUEST: Duration = Duration::from_secs(10);
const REQUEST_SIZE: u64 = 64 * 1024;

/// Bytes that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// A connection on which everything must be done by a certain time.
struct Until {
    stream: Stream,
    end: Instant,
}

impl Until {
    fn left(&self) -> io::Result<&Stream> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.limit(left);
        Ok(&self.stream)
    }
}

impl Read for Until {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.left()?;
        self.stream.read(buffer)
    }
}

impl Write for Until {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.left()?;
        self.stream.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What Dovecot asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
}

/// Answers one request over `stream`, whose other end belongs to the user id `peer`.
///
/// # Errors
/// Those of the connection. Dovecot takes each for a failure.
pub fn answer(stream: Stream, peer: Option<u32>, shared: &Shared, ours: &std::path::Path) -> io::Result<()> {
    let start = Instant::now();
    let mut input =
        BufReader::with_capacity(READ_SIZE, Until { stream: stream.again()?, end: start + REQUEST });
    let mut output = Until { stream, end: start + REQUEST };
    let line = Mutex::new(LogLine { door: Some(Door::Sieve), ..LogLine::default() });
    let config = shared.config();
    let result = Request::read(&mut input).and_then(|request| {
        let (arguments, owner) = request.understood(ours, peer)?;
        message::lock(&line).user.clone_from(&owner.name);
        // Whoever can connect may ask for less than an admin allows, and not for more.
        let limit =
            arguments.said.deadline.map_or(config.message.deadline, |said| said.min(config.message.deadline));
        let end = start.checked_add(limit).unwrap_or(start + REQUEST);
        (input.get_mut().end, output.end) = (end, end);
        let mut input = Counted::new(&mut input);
        let message = Message {
            program: cli::ADMIN,
            style: &config.style(&owner.name, &owner.said.sealing),
            always: owner.said.always,
            config: &config,
            user: &owner.name,
            line: &line,
        };
        let result = seal(message, &owner, arguments.unchanged, shared, (&mut input, &mut output));
        message.line().bytes_in = input.total();
        result
    });
    let positive = match &result {
        Ok(positive) => *positive,
        Err(error) => {
            message::complain(cli::ADMIN, &line, error);
            let mut line = message::lock(&line);
            (line.outcome, line.bytes_out) = (Outcome::Deferred, 0);
            false
        }
    };
    if !positive {
        // Dovecot 2.3 panics over what it cannot write.
        input.get_mut().end = Instant::now() + DRAIN;
        let _ = io::copy(&mut input, &mut io::sink());
        output.end = Instant::now() + DRAIN;
    }
    {
        let mut line = message::lock(&line);
        line.time = start.elapsed();
        shared.note(&line);
    }
    output.write_all(if positive { b"+\n" } else { b"-\n" })?;
    output.stream.shut()
}

/// Writes what becomes of a message; whether it is to be stored.
fn seal(
    message: Message<'_>,
    owner: &Owner,
    unchanged: WhenUnchanged,
    shared: &Shared,
    (input, output): (&mut Counted<&mut BufReader<Until>>, &mut Until),
) -> Result<bool, Error> {
    let key_start = Instant::now();
    let Treatment { addressee, observed, .. } = Treatment::of(owner, message.config, &shared.cache)?;
    message.line().key_time = key_start.elapsed();
    let opening = Opening::read(input)?;
    message.note_id(opening.head());
    let mut out = Counted::new(Buffered::new(WRITE_SIZE, output));
    let outcome = if observed {
        let copy: Box<dyn Write + '_> = match unchanged {
            WhenUnchanged::Copy => Box::new(&mut out),
            WhenUnchanged::Fail => Box::new(io::sink()),
        };
        message.observe(&addressee, &opening, input, copy)?
    } else {
        let addressee = addressee?;
        if unchanged == WhenUnchanged::Fail {
            let why = match &addressee {
                Addressee::Clear(why) => Some(why.reason()),
                Addressee::Sealed { .. } => message.encrypted(&opening).map(|why| why.reason()),
            };
            if let Some(why) = why {
                let mut line = message.line();
                (line.reason, line.outcome) = (Some(why), Outcome::Unchanged);
                return Ok(false);
            }
        }
        message.write(&addressee, &opening, input, &mut out)?
    };
    out.flush().map_err(CoreError::Write)?;
    let mut line = message.line();
    line.outcome = outcome;
    if outcome != Outcome::WouldSeal {
        line.bytes_out = out.total();
    }
    Ok(outcome == Outcome::Sealed || unchanged == WhenUnchanged::Copy)
}

impl Request {
    fn read(from: &mut BufReader<Until>) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Dovecot { what: format!("the script socket: {what}") };
        let mut from = from.take(REQUEST_SIZE);
        let mut line = || {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line).map_err(CoreError::Read)?;
            let line = line.strip_suffix(b"\n").ok_or_else(|| wrong("the request does not end"))?;
            String::from_utf8(line.to_vec()).map_err(|_| wrong("the request is not UTF-8"))
        };
        let version = line()?;
        if !version.starts_with("VERSION\tscript\t4\t") {
            return Err(wrong("another protocol is spoken there"));
        }
        let mut request = Self::default();
        loop {
            let line = line()?;
            match line.strip_prefix("env_").and_then(|text| text.split_once('=')) {
                Some((name, value)) => _ = request.environment.insert(name.into(), value.into()),
                None if line == "-" || line == "noreply" => break,
                // How long the program may run, which Dovecot sees to itself.
                None if line.starts_with("alarm=") => {}
                None => return Err(wrong("the request is not understood")),
            }
        }
        loop {
            match line()? {
                line if line.is_empty() => return Ok(request),
                line => request.arguments.push(crate::dovecot::userdb::unescaped(&line)),
            }
        }
    }

    /// The arguments as `mailseal-filter` takes them, and whose mail it is.
    fn understood(self, ours: &std::path::Path, peer: Option<u32>) -> Result<(Options, Owner), Error> {
        let Self { environment, arguments } = self;
        let words = std::iter::once(cli::FILTER.to_owned()).chain(arguments);
        let mut arguments =
            Options::try_parse_from(words).map_err(|error| cli::usage::complaint(cli::FILTER, &error))?;
        if let Some(config) = arguments.config.as_deref().filter(|config| *config != ours) {
            return Err(Error::Config {
                path: config.into(),
                what: format!("mailseal serve runs with {}", ours.display()),
                hint: "name the same file in the Sieve script and in the unit of mailseal serve".into(),
            });
        }
        let said = &mut arguments.said;
        let user = said.user.take().or_else(|| environment.get("USER").cloned());
        let name = match user {
            Some(user) => user,
            None if !said.key_files.is_empty() => "-".into(),
            None => {
                let what = "the delivery user is not named, and USER is not set".into();
                return Err(Error::Usage { what, hint: "give --user NAME".into() });
            }
        };
        let from_environment = || environment.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let home = said.home.take().or_else(from_environment);
        let owner = Owner { name, home, uid: peer, said: said.clone() };
        Ok((arguments, owner))
    }
}
