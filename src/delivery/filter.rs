//! One delivery: a message from a reader to a writer, sealed or unchanged, with its deadline and its log line.
//!
//! This is what `mailseal-filter` does, and `mailseal deliver` before it runs the LDA; the programs themselves only read
//! their command lines.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::head::Head;
use mailseal_core::message::opening::Opening;

use crate::cli;
use crate::config::{Config, Mode};
use crate::delivery::deadline::Deadline;
use crate::delivery::message::{self, Message, WRITE_SIZE};
use crate::delivery::options::{Options, WhenUnchanged};
use crate::delivery::unchanged::{Off, Unchanged};
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::addressee::{self, Addressee, Whose};
use crate::log::sink::Sink;
use crate::log::{LogLine, Outcome, Target};
use crate::system::counted::Counted;
use crate::system::process;

/// How long a failed delivery waits for the rest of the message; with the deadline, well below Dovecot's timeout.
pub const DRAIN: Duration = Duration::from_secs(2);

/// Delivers one message from `input` to `output`, logs it, and says what went wrong on standard error, as `program`.
///
/// Past the deadline it ends the process, with [`Exit::Temporary`].
#[must_use]
pub fn run(program: &'static str, options: &Options, input: File, output: File) -> Exit {
    let start = Instant::now();
    cli::hurry();
    // From the first moment on: to read the configuration may take for ever as well.
    let limit = options.said.deadline.unwrap_or(Config::default().message.deadline);
    let late: Arc<Mutex<Option<Report>>> = Arc::default();
    let known = Arc::clone(&late);
    let say = move |limit: Duration| {
        let expired = Error::Deadline { seconds: limit.as_secs() };
        match &*late.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(report) => drop(report.failed(&expired)),
            None => cli::complain(program, None, &expired),
        }
    };
    let deadline = match Deadline::start(start, limit, say, || process::drain_stdin(DRAIN)) {
        Ok(deadline) => deadline,
        Err(error) => {
            cli::complain(program, None, &CoreError::Read(error).into());
            return Exit::Temporary;
        }
    };
    let user = user_name(options);
    let config = load_config(program, options.config.as_deref(), &options.said.key_files);
    let default_target = config.as_ref().map_or(Target::Syslog, |config| config.log.to.clone());
    let name = user.as_deref().unwrap_or_default();
    let report = Report::new(program, options.said.log.as_ref().unwrap_or(&default_target), name, start);
    *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());

    let result = config.and_then(|config| Ok((config, user?))).and_then(|(config, user)| {
        if options.said.deadline.is_none() {
            deadline.limit(config.message.deadline);
        }
        let message = Message {
            program,
            style: &config.style(&user, &options.said.sealing),
            always: options.said.always,
            config: &config,
            user: &user,
            line: &report.line,
        };
        let mut delivery = Delivery { message, options, input: Counted::new(input) };
        let result = delivery.deliver(output);
        message.line().bytes_in = delivery.input.total();
        result
    });
    deadline.decide();
    let exit = match result {
        Ok(outcome) => report.done(outcome, options.unchanged),
        Err(error) => report.failed(&error),
    };
    deadline.finish();
    exit
}

/// Ends the process. Where it gives up, whoever writes the message may finish writing first.
pub fn leave(status: Exit) -> ! {
    if status != Exit::Ok {
        process::drain_stdin(DRAIN);
    }
    status.leave()
}

struct Delivery<'a> {
    message: Message<'a>,
    options: &'a Options,
    input: Counted<File>,
}

impl Delivery<'_> {
    fn deliver(&mut self, output: File) -> Result<Outcome, Error> {
        let (message, options) = (self.message, self.options);
        let Message { config, user, .. } = message;
        if process::is_root() && options.said.key_files.is_empty() {
            return Err(Error::Root);
        }
        if options.said.off {
            options.sandbox.enter()?;
            return self.pass_unread(output, &Unchanged::Off(Off::Option));
        }
        let key_start = Instant::now();
        let home = home(options);
        let whose = Whose { user, home: home.as_deref(), key_files: &options.said.key_files, cache: None };
        let rule = addressee::rule(config, &whose)?;
        let addressee = addressee::find(config, &whose, SystemTime::now());
        message.line().key_time = key_start.elapsed();
        options.sandbox.enter()?;
        if rule.is_some_and(|rule| rule.mode == Mode::Observe) {
            return self.observe(&addressee, &output).and_then(|outcome| close(output).map(|()| outcome));
        }
        let recipients = match addressee? {
            Addressee::Sealed { recipients, .. } => recipients,
            Addressee::Clear(why) => return self.pass_unread(output, &why),
        };
        let opening = Opening::read(&mut self.input)?;
        self.message.note_id(opening.head());
        if let Some(why) = self.message.encrypted(&opening) {
            return self.pass(opening.bytes(), output, &why);
        }
        let mut output = BufWriter::with_capacity(WRITE_SIZE, Counted::new(output));
        message.seal(&recipients, &opening, &mut self.input, &mut output)?;
        let output = output.into_inner().map_err(|error| CoreError::Write(error.into_error()))?;
        message.line().bytes_out = output.total();
        close(output.into_inner())?;
        Ok(Outcome::Sealed)
    }

    fn observe(&mut self, addressee: &Result<Addressee, Error>, mut output: &File) -> Result<Outcome, Error> {
        let opening = Opening::read(&mut self.input)?;
        self.message.note_id(opening.head());
        let copy: Box<dyn Write + '_> = match self.options.unchanged {
            WhenUnchanged::Copy => Box::new(&mut output),
            WhenUnchanged::Fail => Box::new(std::io::sink()),
        };
        let outcome = self.message.observe(addressee, &opening, &mut self.input, copy)?;
        if outcome == Outcome::Unchanged {
            self.message.line().bytes_out = self.input.total();
        }
        Ok(outcome)
    }

    /// Passes on a message of which `read` has been read.
    fn pass(&mut self, read: &[u8], mut output: File, why: &Unchanged) -> Result<Outcome, Error> {
        self.message.line().reason = Some(why.reason());
        if self.options.unchanged == WhenUnchanged::Fail {
            return Ok(Outcome::Unchanged);
        }
        output.write_all(read).map_err(CoreError::Write)?;
        // From file to file the kernel copies, where it can.
        let copied = std::io::copy(self.input.get_mut(), &mut output).map_err(Error::Pass)?;
        self.input.add(copied);
        self.message.line().bytes_out = read.len() as u64 + copied;
        close(output)?;
        Ok(Outcome::Unchanged)
    }

    /// Passes on a message of which nothing need be known, but its Message-ID for the log.
    fn pass_unread(&mut self, output: File, why: &Unchanged) -> Result<Outcome, Error> {
        let mut beginning = Vec::with_capacity(WRITE_SIZE);
        (&mut self.input).take(WRITE_SIZE as u64).read_to_end(&mut beginning).map_err(CoreError::Read)?;
        if beginning.is_empty() {
            return Err(CoreError::Empty.into());
        }
        let (fields_end, _) = Head::find_end(&beginning, 0).unwrap_or((beginning.len(), beginning.len()));
        self.message.note_id(Head::new(&beginning[..fields_end], b""));
        self.pass(&beginning, output, why)
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

    fn done(&self, outcome: Outcome, unchanged: WhenUnchanged) -> Exit {
        self.write(outcome);
        match (outcome, unchanged) {
            (Outcome::Unchanged | Outcome::WouldSeal, WhenUnchanged::Fail) => Exit::Negative,
            _ => Exit::Ok,
        }
    }

    fn failed(&self, error: &Error) -> Exit {
        message::complain(self.program, &self.line, error);
        self.write(Outcome::Deferred);
        error.exit()
    }

    fn write(&self, outcome: Outcome) {
        let mut line = message::lock(&self.line);
        line.outcome = outcome;
        if outcome == Outcome::Deferred {
            line.bytes_out = 0;
        }
        line.time = self.start.elapsed();
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).write(&line);
    }
}

/// The configuration at `path` or the default place; beside `key_files` it may be missing, which `program` says then.
///
/// # Errors
/// Those of [`Config::load`].
pub fn load_config(program: &str, path: Option<&Path>, key_files: &[PathBuf]) -> Result<Config, Error> {
    Config::load_beside_keys(path, !key_files.is_empty(), |path| {
        let text = format!(
            "there is no configuration {}: the certificates of --key are used, and no recovery certificate",
            path.display()
        );
        cli::note(program, &text);
    })
}

/// The user as given, or as Dovecot says; no name service is asked. Where certificates are given, the name stands in the
/// log only.
///
/// # Errors
/// [`Error::Usage`] where nobody says; [`Error::User`] for what Dovecot says in another encoding: taken for UTF-8 it could
/// be another user's name.
fn user_name(options: &Options) -> Result<String, Error> {
    match (&options.said.user, std::env::var_os("USER")) {
        (Some(user), _) => Ok(user.clone()),
        (None, Some(user)) => user
            .into_string()
            .map_err(|user| Error::User { name: user.to_string_lossy().into_owned(), what: "is not UTF-8" }),
        (None, None) if !options.said.key_files.is_empty() => Ok("-".into()),
        (None, None) => Err(Error::Usage {
            what: "the delivery user is not named, and USER is not set".into(),
            hint: "give --user NAME".into(),
        }),
    }
}

fn home(options: &Options) -> Option<PathBuf> {
    let from_environment =
        || std::env::var_os("HOME").filter(|home| *home != OsString::new()).map(PathBuf::from);
    options.said.home.clone().or_else(from_environment)
}

/// Closes `file`: some file systems report only then that what was written is lost.
fn close(file: File) -> Result<(), Error> {
    nix::unistd::close(file).map_err(|error| CoreError::Write(error.into()).into())
}
