//! What becomes of one message, whoever brings it and wherever it goes: sealed, passed on, or sealed on trial.
//!
//! The beginning has been read, the user's certificates have been looked up; what is found out goes into the log line.

use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mailseal_core::classify::classify;
use mailseal_core::error::Error as CoreError;
use mailseal_core::message::head::Head;
use mailseal_core::message::opening::Opening;
use mailseal_core::recipients::Recipients;

use super::tee::Tee;
use crate::cli;
use crate::config::Config;
use crate::config::style::Style;
use crate::delivery::unchanged::Unchanged;
use crate::error::Error;
use crate::keys::addressee::Addressee;
use crate::limits;
use crate::log::{LogLine, Outcome};
use crate::system::counted::Counted;

/// Bytes that are written at once.
pub const WRITE_SIZE: usize = 64 * 1024;

/// One message of one user, or of several users with the same certificates.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// The program that says what goes wrong.
    pub program: &'static str,
    /// How it is sealed.
    pub style: &'a Style,
    /// Whether it is sealed even where it is encrypted already.
    pub always: bool,
    /// The configuration.
    pub config: &'a Config,
    /// The delivery user.
    pub user: &'a str,
    /// What is known of it.
    pub line: &'a Mutex<LogLine>,
}

impl<'a> Message<'a> {
    /// The log line, to add what is known now.
    pub fn line(self) -> MutexGuard<'a, LogLine> {
        lock(self.line)
    }

    /// How the message is encrypted already, where that lets it pass.
    #[must_use]
    pub fn encrypted(self, opening: &Opening) -> Option<Unchanged> {
        let encrypted = classify(opening.head(), opening.body(), opening.is_whole());
        encrypted.filter(|_| !self.always).map(Unchanged::Encrypted)
    }

    /// Writes what becomes of the message that begins with `opening` and goes on in `rest`, in small pieces. The lengths are noted
    /// by whoever counts them.
    ///
    /// # Errors
    /// Those of [`Message::seal`]; [`CoreError::Read`] and [`CoreError::Write`].
    pub fn write(
        self,
        addressee: &Addressee,
        opening: &Opening,
        rest: &mut impl Read,
        out: &mut (impl Write + Send + Sync),
    ) -> Result<Outcome, Error> {
        let why = match addressee {
            Addressee::Sealed { recipients, .. } => match self.encrypted(opening) {
                None => return self.seal(recipients, opening, rest, out).map(|()| Outcome::Sealed),
                Some(why) if self.style.again => {
                    let Some(header) = self.style.sealer(recipients).kept(opening)? else {
                        return self.seal(recipients, opening, rest, out).map(|()| Outcome::Sealed);
                    };
                    out.write_all(&header).map_err(CoreError::Write)?;
                    return self.pass(why.reason(), opening.body(), rest, out);
                }
                Some(why) => why.reason(),
            },
            Addressee::Clear(why) => why.reason(),
        };
        self.pass(why, opening.bytes(), rest, out)
    }

    /// Passes on what `begins` the message, or what is left of that, and the `rest`.
    fn pass(
        self,
        why: &'static str,
        begins: &[u8],
        rest: &mut impl Read,
        out: &mut impl Write,
    ) -> Result<Outcome, Error> {
        self.line().reason = Some(why);
        out.write_all(begins).map_err(CoreError::Write)?;
        // What is read and what is written fail alike here.
        std::io::copy(rest, out).map_err(Error::Pass)?;
        Ok(Outcome::Unchanged)
    }

    /// Seals the message that begins with `opening` and goes on in `rest`.
    ///
    /// # Errors
    /// Those of [`mailseal_core::seal::Sealer`].
    pub fn seal(
        self,
        recipients: &Recipients,
        opening: &Opening,
        rest: &mut impl Read,
        out: &mut (impl Write + Send + Sync),
    ) -> Result<(), Error> {
        let key_start = Instant::now();
        let sealing = self.style.sealer(recipients).begin(opening)?;
        self.line().key_time += key_start.elapsed();
        self.line().note(sealing.sealed());
        let class = sealing.write(rest, out)?;
        self.line().class = class;
        Ok(())
    }

    /// Writes the message to `copy` as it came, and notes what would have become of it. Nothing that fails in trying that keeps
    /// it back: whoever is observed has asked for clear mail.
    ///
    /// # Errors
    /// [`CoreError::Read`] and [`CoreError::Write`].
    pub fn observe(
        self,
        addressee: &Result<Addressee, Error>,
        opening: &Opening,
        rest: &mut impl Read,
        mut copy: impl Write,
    ) -> Result<Outcome, Error> {
        copy.write_all(opening.bytes()).map_err(CoreError::Write)?;
        let mut rest = Tee::new(rest, copy);
        let tried = match addressee {
            Ok(Addressee::Clear(why)) => Ok(Some(why.reason())),
            Ok(Addressee::Sealed { recipients, .. }) => self.try_out(recipients, opening, &mut rest),
            Err(error) => {
                complain(self.program, self.line, error);
                Ok(Some(error.reason()))
            }
        };
        rest.finish(CoreError::Read, CoreError::Write)?;
        match tried {
            Ok(None) => return Ok(Outcome::WouldSeal),
            Ok(Some(why)) => self.line().reason = Some(why),
            Err(error) => complain(self.program, self.line, &error),
        }
        Ok(Outcome::Unchanged)
    }

    /// Does all that sealing takes, and gives nothing out: why the message would stay as it is, or that it would not.
    fn try_out(
        self,
        recipients: &Recipients,
        opening: &Opening,
        rest: &mut impl Read,
    ) -> Result<Option<&'static str>, Error> {
        if let Some(why) = self.encrypted(opening) {
            return Ok(Some(why.reason()));
        }
        let mut output = Counted::new(std::io::sink());
        self.seal(recipients, opening, rest, &mut output)?;
        self.line().bytes_out = output.total();
        Ok(None)
    }

    /// Notes the Message-ID, where the configuration wants it.
    pub fn note_id(self, head: Head<'_>) {
        if self.config.log.msgid {
            let id =
                head.items().find_map(|item| item.value_of("Message-ID")).unwrap_or_default().trim_ascii();
            // More than the log line shows is not kept.
            self.line().message_id = Some(id[..id.len().min(limits::LOG_VALUE + 1)].to_vec());
        }
    }
}

/// Says what went wrong with the message of `line`, and notes it there.
pub fn complain(program: &str, line: &Mutex<LogLine>, error: &Error) {
    let user = {
        let mut line = lock(line);
        line.reason = Some(error.reason());
        line.user.clone()
    };
    cli::complain(program, Some(&*user).filter(|user| !user.is_empty()), error);
}

/// Nobody can leave the mutex in a bad state: a line is as good as what is known of the message.
pub fn lock(line: &Mutex<LogLine>) -> MutexGuard<'_, LogLine> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}
