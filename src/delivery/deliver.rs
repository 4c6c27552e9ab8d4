//! `mailseal deliver`: seals a message before it reaches Dovecot, then hands it to a local delivery agent (LDA).
//!
//! Whatever the LDA, Dovecot or a user's script then does with the message, they do it with ciphertext. What is written
//! between the two is an unlinked file: nobody else can open it, it is gone with the process, and it holds only what goes
//! to the LDA. The LDA's exit status is handed on; every failure of our own is temporary, so that the MTA keeps the mail.

use std::ffi::OsString;
use std::io::{self, Seek as _};
use std::process::{Command, Stdio};

use mailseal_core::error::Error as CoreError;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};

use crate::cli;
use crate::delivery::filter;
use crate::delivery::options::Options;
use crate::error::Error;
use crate::exit::Exit;
use crate::system::process;

/// Seals standard input as `options` say and runs `command` with the result on its standard input; gives the exit status
/// of the whole: that of the command, or [`Exit::Temporary`].
#[must_use]
pub fn run(options: &Options, command: &[OsString]) -> i32 {
    deliver(options, command).unwrap_or_else(|error| {
        cli::complain(cli::ADMIN, options.said.user.as_deref(), &error);
        Exit::Temporary as i32
    })
}

/// Makes the signals that end a process end this one with [`Exit::Temporary`]: what an MTA does with the mail of a program
/// that a signal ended is not for us to choose. Threads started later leave them to this one, programs have them as ever.
fn fail_on_signals() -> io::Result<()> {
    let mut ending = SigSet::empty();
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().for_each(|signal| ending.add(signal));
    ending.thread_block()?;
    std::thread::Builder::new().spawn(move || {
        if let Ok(signal) = ending.wait() {
            cli::note(
                cli::ADMIN,
                &format!("ended by {signal}; the message is not delivered, as far as is known"),
            );
            Exit::Temporary.leave();
        }
    })?;
    Ok(())
}

fn deliver(options: &Options, command: &[OsString]) -> Result<i32, Error> {
    let (program, arguments) = command.split_first().ok_or_else(|| Error::Usage {
        what: "there is no command to run".into(),
        hint: "give the LDA and its arguments after --".into(),
    })?;
    let callers_umask = umask(Mode::from_bits_truncate(0o077));
    process::harden()?;
    fail_on_signals().map_err(CoreError::Read)?;
    let mut limit_exceeded = SigSet::empty();
    // Postfix limits the size of files (mailbox_size_limit): a full file then is an error and not the end.
    limit_exceeded.add(Signal::SIGXFSZ);
    limit_exceeded.thread_block().map_err(|error| CoreError::Write(error.into()))?;
    let input = process::stdin()?;
    let mut sealed = tempfile::tempfile().map_err(CoreError::Write)?;
    let output = sealed.try_clone().map_err(CoreError::Write)?;
    if filter::run(cli::ADMIN, options, input, output) != Exit::Ok {
        // It has said why.
        return Ok(Exit::Temporary as i32);
    }
    sealed.rewind().map_err(CoreError::Write)?;
    limit_exceeded.thread_unblock().map_err(|error| CoreError::Write(error.into()))?;
    umask(callers_umask);
    let failed = |what| Error::Command { program: program.into(), what };
    let mut lda = Command::new(program);
    let status = lda.args(arguments).stdin(Stdio::from(sealed)).status();
    let status = status.map_err(|error| failed(error.to_string()))?;
    status.code().ok_or_else(|| failed(format!("was ended by a signal: {status}")))
}
