//! Seals the copies of a message and hands each to the program that sends mail.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::sync::Mutex;
use std::time::Instant;

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::Opening;

use super::body::Body;
use super::plan::{Copy, NAMED, Plan, Planner};
use crate::cli;
use crate::config::Config;
use crate::delivery::message::{self, Message, WRITE_SIZE};
use crate::error::Error;
use crate::keystore::cache::Cache;
use crate::log::sink::Sink;
use crate::log::{LogLine, Outcome};
use crate::outgoing::aliases::Aliases;
use crate::outgoing::held::{self, Record, Waiting, Work, texts};
use crate::outgoing::message::leaving;
use crate::outgoing::program::{self, Caller};
use crate::system::buffered::Buffered;
use crate::system::counted::Counted;

/// A message to be sent.
pub struct Mail {
    /// What the program that sends mail is told as well.
    pub options: Vec<OsString>,
    /// The message.
    pub body: Body,
    /// Whether it was sealed already, for these recipients: it is a copy that was held.
    pub sealed: bool,
}

/// Sends messages for one caller.
pub struct Sender<'a> {
    config: &'a Config,
    aliases: &'a Aliases,
    caller: &'a Caller,
    cache: Cache,
    sink: Sink,
}

impl<'a> Sender<'a> {
    /// Sends as `config` says.
    #[must_use]
    pub fn new(config: &'a Config, aliases: &'a Aliases, caller: &'a Caller) -> Self {
        let sink = Sink::open(&config.log.to, cli::ADMIN);
        Self { config, aliases, caller, cache: Cache::default(), sink }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &'a Config {
        self.config
    }

    /// Makes plans as this one sends.
    #[must_use]
    pub fn planner(&self) -> Planner<'_> {
        Planner { config: self.config, aliases: self.aliases, cache: &self.cache }
    }

    /// Sends the copies of a plan; those who have not got theirs, and for whom no sealed copy is held. When the program that sends
    /// mail hangs, it is not run again: it may do so each time.
    pub fn send(&mut self, plan: Plan, mail: &mut Mail) -> Vec<Waiting> {
        let mut left = Vec::new();
        let mut stopped: Option<Waiting> = None;
        for copy in plan.copies {
            let start = Instant::now();
            let (sealed, failed) = match self.seal(&copy, mail) {
                Ok((file, line)) => {
                    let handed = match &stopped {
                        Some(why) => Err(why.clone()),
                        None => self.hand_over(&copy, &mail.options, &file).map_err(|error| {
                            complain(&copy, &error, left.len());
                            Waiting::new(String::new(), &error)
                        }),
                    };
                    (Some((file, LogLine { time: start.elapsed(), ..line })), handed.err())
                }
                Err(error) => {
                    complain(&copy, &error, left.len());
                    (None, Some(Waiting::new(String::new(), &error)))
                }
            };
            let Some(why) = failed else {
                sealed.iter().for_each(|(_, line)| self.log_sent(&copy, line));
                continue;
            };
            if start.elapsed() >= self.config.sendmail.deadline {
                stopped = Some(why.clone());
            }
            let waiting: Vec<Waiting> =
                copy.to.iter().map(|it| Waiting { to: it.text.clone(), ..why.clone() }).collect();
            if !sealed.is_some_and(|(file, line)| self.keep_sealed(&mail.options, &waiting, file, &line)) {
                left.extend(waiting);
            }
        }
        left
    }

    fn hand_over(&self, copy: &Copy, options: &[OsString], sealed: &File) -> Result<(), Error> {
        let to: Vec<String> = copy.to.iter().map(|it| it.written.clone()).collect();
        program::check(&self.config.sendmail.program)?;
        let sealed = sealed.try_clone().map_err(CoreError::Write)?;
        program::hand_over(&self.config.sendmail, self.caller, options, &to, sealed)
    }

    fn log_sent(&mut self, copy: &Copy, line: &LogLine) {
        for recipient in &copy.to {
            let user = recipient.name.clone();
            self.sink.write(&LogLine { user, ..line.clone() });
        }
    }

    /// Holds a copy that is sealed already, for its recipients: it need not lie there in clear. Whether that is done: one of mail
    /// that is held already stays in that.
    fn keep_sealed(&mut self, options: &[OsString], waiting: &[Waiting], file: File, line: &LogLine) -> bool {
        if line.outcome != Outcome::Sealed || self.caller.gone.is_some() {
            return false;
        }
        let options = texts(options);
        let work = Work::Left { options, recipients: waiting.to_vec(), sealed: true };
        let kept = Body::shared(file)
            .map_err(|error| CoreError::Read(error).into())
            .and_then(|mut body| held::keep(&self.config.sendmail.held, &Record::new(work), &mut body));
        if kept.is_ok() {
            waiting.iter().for_each(|it| self.log_waiting(it, Outcome::Held, line.bytes_in));
        }
        // Where it failed, holding all of it is tried, and fails with the same words.
        kept.is_ok()
    }

    /// Writes the copy to an unlinked file: whether it is whole must be known before anybody gets it.
    fn seal(&self, copy: &Copy, mail: &mut Mail) -> Result<(File, LogLine), Error> {
        let body = &mut mail.body;
        let line = &Mutex::new(LogLine { bytes_in: body.length(), ..LogLine::default() });
        let key_start = Instant::now();
        let mut treatment = copy.treatment(self.config, &self.cache)?;
        treatment.style.again &= !mail.sealed;
        message::lock(line).key_time = key_start.elapsed();
        let user = copy.to.first().map(|it| &*it.name).unwrap_or_default();
        let message = Message {
            program: cli::ADMIN,
            style: &treatment.style,
            always: false,
            config: self.config,
            user,
            line,
        };
        let mut rest = body.reader().map_err(CoreError::Read)?;
        let mut opening = Opening::read(&mut rest)?;
        message.note_id(opening.head());
        if let Some(without) = leaving(&opening, &mut rest)? {
            opening = without;
        }
        let file = tempfile::tempfile().map_err(CoreError::Write)?;
        let mut out = Counted::new(Buffered::new(WRITE_SIZE, file));
        let outcome = message.write(&treatment.addressee?, &opening, &mut rest, &mut out)?;
        {
            let mut line = message.line();
            (line.outcome, line.bytes_out) = (outcome, out.total());
        }
        let mut file = out.into_inner().finish().map_err(CoreError::Write)?;
        file.flush().and_then(|()| file.rewind()).map_err(CoreError::Write)?;
        let line = message.line().clone();
        Ok((file, line))
    }

    /// Logs that a message waits.
    pub fn log_waiting(&mut self, waiting: &Waiting, outcome: Outcome, bytes_in: u64) {
        let user = waiting.name().to_owned();
        self.sink.write(&LogLine { user, outcome, reason: waiting.word, bytes_in, ..LogLine::default() });
    }
}

/// Says why those whom a copy is for wait, unless that was said of many already.
fn complain(copy: &Copy, error: &Error, said: usize) {
    if said < NAMED {
        cli::complain(cli::ADMIN, copy.to.first().map(|it| &*it.name), error);
    }
}
