//! What the command lines of the programs have in common: names, exit statuses for usage errors, complaints.

pub mod sealing;

use std::io::Write as _;
use std::num::NonZeroUsize;

use clap::Parser;
use clap::error::ErrorKind;

use crate::error::Error;
use crate::escape;
use crate::exit::Exit;
use crate::limits;

/// Name of the program that Dovecot runs.
pub const FILTER: &str = "mailseal-filter";

/// Name of the program that seals mailboxes that exist.
pub const BULK: &str = "encrypt-maildir";

/// Name of the admin's program.
pub const ADMIN: &str = "mailseal";

/// Parses the command line.
///
/// # Errors
/// The status to end with, when all has been said: 0 after `--help` and `--version`, 64 after a complaint.
pub fn parse<T: Parser>() -> Result<T, Exit> {
    T::try_parse().map_err(|error| {
        // Nothing can be done where even this cannot be written.
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok,
            _ => Exit::Usage,
        }
    })
}

/// Reads how many jobs there are to be at once, for clap.
///
/// # Errors
/// What is no number from 1 to [`limits::JOBS`], as a sentence.
pub fn parse_jobs(text: &str) -> Result<NonZeroUsize, String> {
    let jobs = text.parse().ok().filter(|jobs: &NonZeroUsize| jobs.get() <= limits::JOBS);
    jobs.ok_or_else(|| format!("it is no number from 1 to {}", limits::JOBS))
}

/// Says on standard error what went wrong and where, and on a second line what to do.
///
/// Dovecot logs each line without the user's name, so both carry the program's, and the first the user's.
pub fn complain(program: &str, user: Option<&str>, error: &Error) {
    let text = complaint(program, user, &error.to_string(), &error.hint());
    // Nothing can be done where even this cannot be written.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Says on standard error what is no failure, but should be known.
pub fn note(program: &str, text: &str) {
    // Nothing can be done where even this cannot be written.
    let _ = writeln!(std::io::stderr(), "{program}: note: {}", escape::display(text.as_bytes()));
}

/// The two lines of a complaint, `what` and `hint` escaped.
#[must_use]
pub fn complaint(program: &str, user: Option<&str>, what: &str, hint: &str) -> String {
    let escaped = |text: &str| escape::display(text.as_bytes());
    let user = user.map(|user| format!("user {}: ", escaped(user))).unwrap_or_default();
    format!("{program}: {user}{}\n{program}: hint: {}\n", escaped(what), escaped(hint))
}
