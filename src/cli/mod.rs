//! What the command lines of the programs have in common: names, exit statuses for usage errors, complaints.

pub mod sealing;
pub mod usage;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use clap::error::ErrorKind;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

use crate::console::escape;
use crate::error::Error;
use crate::exit::Exit;
use crate::keystore::user::User;
use crate::limits;

/// Name of the program that Dovecot runs.
pub const FILTER: &str = "mailseal-filter";

/// Name of the program that seals mailboxes that exist.
pub const BULK: &str = "encrypt-maildir";

/// Name of the admin's program.
pub const ADMIN: &str = "mailseal";

/// How long standard error may take to be ready, in milliseconds.
const MOMENT: u8 = 100;

/// Parses the command line of `program`.
///
/// # Errors
/// The status to end with, when all has been said: 0 after `--help` and `--version`, 64 after a complaint.
pub fn parse<T: Parser>(program: &str) -> Result<T, Exit> {
    T::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nothing can be done where even this cannot be written.
            let _ = error.print();
            Exit::Ok
        }
        _ => {
            complain(program, None, &usage::complaint(program, &error));
            Exit::Usage
        }
    })
}

/// Parses the number of jobs at once.
///
/// # Errors
/// What is expected instead.
pub fn parse_jobs(text: &str) -> Result<NonZeroUsize, String> {
    let jobs = text.parse().ok().filter(|jobs: &NonZeroUsize| jobs.get() <= limits::JOBS);
    jobs.ok_or_else(|| format!("expected a number from 1 to {}", limits::JOBS))
}

/// Parses the name of a user.
///
/// # Errors
/// What is wrong with it.
pub fn parse_user(text: &str) -> Result<User, String> {
    User::parse(text).map_err(|error| match error {
        Error::User { what, .. } => {
            format!("expected a user's whole name, as Dovecot knows it; this one {what}")
        }
        error => error.to_string(),
    })
}

/// Parses a number within `range`; one that ends with [`u64::MAX`] has no end.
///
/// # Errors
/// What is expected instead.
pub fn parse_number(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| match *range.end() {
            u64::MAX => format!("expected a number of at least {}", range.start()),
            end => format!("expected a number from {} to {end}", range.start()),
        })
    }
}

/// Says on standard error what went wrong and where, and on a second line what to do.
///
/// Dovecot logs each line without the user's name, so both carry the program's, and the first the user's.
pub fn complain(program: &str, user: Option<&str>, error: &Error) {
    say(&complaint(program, user, &error.to_string(), &error.hint()));
}

/// Whether nobody may have to wait for who reads standard error.
static HURRIED: AtomicBool = AtomicBool::new(false);

/// From here on what standard error does not take within a moment is left out: for programs that have a deadline.
pub fn hurry() {
    HURRIED.store(true, Ordering::Relaxed);
}

/// Writes to standard error.
pub fn say(text: &str) {
    let stderr = std::io::stderr();
    // So much a pipe takes at once or not at all.
    for piece in text.as_bytes().chunks(nix::libc::PIPE_BUF) {
        let mut left = piece;
        while !left.is_empty() {
            let timeout = if HURRIED.load(Ordering::Relaxed) { MOMENT.into() } else { PollTimeout::NONE };
            let ready = poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], timeout);
            match ready.and_then(|count| if count == 0 { Err(Errno::EAGAIN) } else { write(&stderr, left) }) {
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                // Nothing can be done where even this cannot be written.
                Err(_) => return,
            }
        }
    }
}

/// Says on standard error what is no failure, but should be known.
pub fn note(program: &str, text: &str) {
    say(&format!("{program}: note: {}\n", escape::display(text.as_bytes())));
}

/// The two lines of a complaint, `what` and `hint` escaped.
#[must_use]
pub fn complaint(program: &str, user: Option<&str>, what: &str, hint: &str) -> String {
    let escaped = |text: &str| escape::display(text.as_bytes());
    let user = user.map(|user| format!("user {}: ", escaped(user))).unwrap_or_default();
    format!("{program}: {user}{}\n{program}: hint: {}\n", escaped(what), escaped(hint))
}
