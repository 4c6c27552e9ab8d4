//! One delivery: a message from a reader to a writer, sealed or unchanged, with its deadline and its log line.
//!
//! This is what `mailseal-filter` does, and `mailseal deliver` before it runs the LDA; the programs themselves only read
//! their command lines.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::addressee::{self, Addressee, Whose};
use crate::classify::classify;
use crate::cli;
use crate::config::Config;
use crate::counted::Counted;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::exit::Exit;
use crate::head::Head;
use crate::limits;
use crate::log::sink::Sink;
use crate::log::{LogLine, Outcome, Target};
use crate::opening::Opening;
use crate::openpgp::compress::Compression;
use crate::process;
use crate::protect::{self, Policy};
use crate::recipients::Session;
use crate::sandbox::Sandbox;
use crate::seal::seal;

/// Bytes that are written at once.
const PIECE: usize = 64 * 1024;

/// How long a failed delivery waits for the rest of the message; with the deadline, well below Dovecot's timeout.
pub const DRAIN: Duration = Duration::from_secs(2);

/// What the command line says about a delivery.
#[derive(Clone, Debug)]
pub struct Options {
    /// The delivery user.
    pub user: Option<String>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// Files with the certificates to seal to; when there are any, none are looked up.
    pub key_files: Vec<PathBuf>,
    /// The configuration file, if another than the default.
    pub config: Option<PathBuf>,
    /// What an unchanged message gives.
    pub unchanged: Unchanged,
    /// Which header fields are hidden inside, if not as configured.
    pub protect_headers: Option<Policy>,
    /// How the message is compressed, if not as configured.
    pub compression: Option<Compression>,
    /// Pass everything through.
    pub off: bool,
    /// Seal even what is encrypted already.
    pub always: bool,
    /// The deadline, if not as configured.
    pub deadline: Option<Duration>,
    /// Where the log line goes, if not as configured.
    pub log: Option<Target>,
    /// What keeps the process from everything but the message, once the certificates are read.
    pub sandbox: Sandbox,
}

/// What a message gives that needs no change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Unchanged {
    /// Itself, and exit status 0.
    #[default]
    Copy,
    /// Nothing, and exit status 1.
    Fail,
}

/// Delivers one message from `input` to `output`, logs it, and says what went wrong on standard error, as `program`.
///
/// Past the deadline it ends the process, with [`Exit::Temporary`].
#[must_use]
pub fn run(program: &'static str, options: &Options, input: File, output: File) -> Exit {
    let start = Instant::now();
    let user = user_name(options);
    let config = Config::load(options.config.as_deref());
    let default_target = config.as_ref().map_or(Target::Syslog, |config| config.log.to.clone());
    let name = user.as_deref().unwrap_or_default();
    let report = Report::new(program, options.log.as_ref().unwrap_or(&default_target), name, start);

    let (config, user) = match config.and_then(|config| Ok((config, user?))) {
        Ok(known) => known,
        Err(error) => return report.failed(&error),
    };
    let limit = options.deadline.unwrap_or(config.message.deadline);
    let expired = Error::Deadline { seconds: limit.as_secs() };
    let late = report.clone();
    let deadline = match Deadline::start(start, limit, move || leave(late.failed(&expired))) {
        Ok(deadline) => deadline,
        Err(error) => return report.failed(&Error::Read(error)),
    };
    let mut delivery =
        Delivery { options, config: &config, user: &user, report: &report, input: Counted::new(input) };
    let result = delivery.deliver(output);
    deadline.finish();
    report.line().bytes_in = delivery.input.total();
    match result {
        Ok(outcome) => report.done(outcome, options.unchanged),
        Err(error) => report.failed(&error),
    }
}

/// Ends the process. Where it gives up, whoever writes the message may finish writing first.
pub fn leave(status: Exit) -> ! {
    if status != Exit::Ok {
        process::drain_stdin(DRAIN);
    }
    status.leave()
}

struct Delivery<'a> {
    options: &'a Options,
    config: &'a Config,
    user: &'a str,
    report: &'a Report,
    input: Counted<File>,
}

impl Delivery<'_> {
    fn deliver(&mut self, output: File) -> Result<Outcome, Error> {
        if process::is_root() && self.options.key_files.is_empty() {
            return Err(Error::Root);
        }
        if self.options.off {
            self.options.sandbox.enter()?;
            return self.pass_unread(output, "off");
        }
        let key_start = Instant::now();
        let home = home(self.options);
        let whose = Whose { user: self.user, home: home.as_deref(), key_files: &self.options.key_files };
        let addressee = addressee::find(&self.config.keys, &whose, SystemTime::now())?;
        self.report.line().key_time = key_start.elapsed();
        self.options.sandbox.enter()?;
        let recipients = match addressee {
            Addressee::Sealed { recipients, .. } => recipients,
            Addressee::Clear(reason) => return self.pass_unread(output, reason),
        };

        let opening = Opening::read(&mut self.input)?;
        self.note_message_id(opening.head());
        let encrypted = classify(opening.head(), opening.body(), opening.is_whole());
        if let Some(encrypted) = encrypted.filter(|_| !self.options.always) {
            return self.pass(opening.bytes(), output, encrypted.name());
        }
        let key_start = Instant::now();
        let session = recipients.session(self.user)?;
        self.report.line().key_time += key_start.elapsed();
        self.seal(&opening, &session, output)
    }

    fn seal(&mut self, opening: &Opening, session: &Session, output: File) -> Result<Outcome, Error> {
        let compression = self.options.compression.unwrap_or(self.config.message.compression);
        let policy = self.options.protect_headers.unwrap_or(self.config.message.protect_headers);
        let plan = protect::plan(policy, opening);
        {
            let mut line = self.report.line();
            line.warnings.clone_from(&session.warnings);
            line.warnings.extend(plan.warning);
            line.key_ids.clone_from(&session.key_ids);
            line.format = Some(session.format);
        }
        let mut output = BufWriter::with_capacity(PIECE, Counted::new(output));
        seal(opening, &mut self.input, &mut output, session, compression, plan.protection)?;
        let output = output.into_inner().map_err(|error| Error::Write(error.into_error()))?;
        self.report.line().bytes_out = output.total();
        close(output.into_inner())?;
        Ok(Outcome::Sealed)
    }

    /// Passes on a message of which `read` has been read.
    fn pass(&mut self, read: &[u8], mut output: File, reason: &'static str) -> Result<Outcome, Error> {
        self.report.line().reason = Some(reason);
        if self.options.unchanged == Unchanged::Fail {
            return Ok(Outcome::Unchanged);
        }
        output.write_all(read).map_err(Error::Write)?;
        // From file to file the kernel copies, where it can.
        let copied = std::io::copy(self.input.get_mut(), &mut output).map_err(Error::Pass)?;
        self.input.add(copied);
        self.report.line().bytes_out = read.len() as u64 + copied;
        close(output)?;
        Ok(Outcome::Unchanged)
    }

    /// Passes on a message of which nothing need be known, but its Message-ID for the log.
    fn pass_unread(&mut self, output: File, reason: &'static str) -> Result<Outcome, Error> {
        let mut beginning = Vec::with_capacity(PIECE);
        (&mut self.input).take(PIECE as u64).read_to_end(&mut beginning).map_err(Error::Read)?;
        if beginning.is_empty() {
            return Err(Error::Empty);
        }
        let (fields_end, _) = Head::find_end(&beginning, 0).unwrap_or((beginning.len(), beginning.len()));
        self.note_message_id(Head::new(&beginning[..fields_end], b""));
        self.pass(&beginning, output, reason)
    }

    fn note_message_id(&self, head: Head<'_>) {
        if self.config.log.msgid {
            let id =
                head.items().find_map(|item| item.value_of("Message-ID")).unwrap_or_default().trim_ascii();
            // More than the log line shows is not kept.
            self.report.line().message_id = Some(id[..id.len().min(limits::LOG_VALUE + 1)].to_vec());
        }
    }
}

/// The log line of this delivery and the place it goes to; the deadline may have to write it.
#[derive(Clone)]
struct Report {
    program: &'static str,
    sink: Arc<Mutex<Sink>>,
    line: Arc<Mutex<LogLine>>,
    start: Instant,
}

impl Report {
    fn new(program: &'static str, target: &Target, user: &str, start: Instant) -> Self {
        let line = LogLine { user: user.into(), ..LogLine::default() };
        let sink = Sink::open(target, program);
        Self { program, sink: Arc::new(Mutex::new(sink)), line: Arc::new(Mutex::new(line)), start }
    }

    /// The line, to add what is known now.
    fn line(&self) -> MutexGuard<'_, LogLine> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self, outcome: Outcome, unchanged: Unchanged) -> Exit {
        self.write(outcome);
        match (outcome, unchanged) {
            (Outcome::Unchanged, Unchanged::Fail) => Exit::Negative,
            _ => Exit::Ok,
        }
    }

    fn failed(&self, error: &Error) -> Exit {
        {
            let mut line = self.line();
            line.reason = Some(error.reason());
            cli::complain(self.program, Some(&line.user), error);
        }
        self.write(Outcome::Deferred);
        error.exit()
    }

    fn write(&self, outcome: Outcome) {
        let mut line = self.line();
        line.outcome = outcome;
        if outcome == Outcome::Deferred {
            line.bytes_out = 0;
        }
        line.time = self.start.elapsed();
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).write(&line);
    }
}

/// The user as given, as Dovecot says, or as the system knows the effective user; empty where nobody knows.
///
/// # Errors
/// [`Error::User`] for what Dovecot says in another encoding: taken for UTF-8 it could be another user's name.
fn user_name(options: &Options) -> Result<String, Error> {
    let from_system = || {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        user.map(|user| user.name).unwrap_or_default()
    };
    match (&options.user, std::env::var_os("USER")) {
        (Some(user), _) => Ok(user.clone()),
        (None, Some(user)) => user
            .into_string()
            .map_err(|user| Error::User { name: user.to_string_lossy().into_owned(), what: "is not UTF-8" }),
        (None, None) => Ok(from_system()),
    }
}

fn home(options: &Options) -> Option<PathBuf> {
    let from_environment =
        || std::env::var_os("HOME").filter(|home| *home != OsString::new()).map(PathBuf::from);
    options.home.clone().or_else(from_environment)
}

/// Closes `file`: some file systems report only then that what was written is lost.
fn close(file: File) -> Result<(), Error> {
    nix::unistd::close(file).map_err(|error| Error::Write(error.into()))
}
