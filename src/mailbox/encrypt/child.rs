//! Edge: The work of `encrypt-maildir` as an owner's process: what root starts, and what is done there.
//!
//! For a mailbox that is reached through Dovecot, an IMAP session stands at the other ends of standard input, behind the
//! order, and of standard output, and standard error takes the reports. Root starts the session and reads nothing of it.
//! Dovecot wants pipes: it refuses a session that root starts on a socket.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mailseal_maildir::layout::Maildir;
use mailseal_maildir::patience::{OF_OWNERS, Patience};

use crate::cli;
use crate::error::Error;
use crate::mailbox::encrypt::event::{Complaint, Event, Job, Mailbox};
use crate::mailbox::encrypt::{dovecot, maildir};
use crate::system::owner::child::{Order, Reports};
use crate::system::owner::identity::Identity;
use crate::system::owner::process::{Process, Start, Watch, feed, run as run_as_owner};
use crate::system::process;

/// The kind of the task: Maildirs.
const SEAL: &str = "seal";

/// The kind of the task: a mailbox that is reached through Dovecot.
const DOVECOT: &str = "dovecot";

/// Most of what the IMAP session says on standard error that is kept.
const SAID: u64 = 64 * 1024;

/// Takes what a process reports; an error for what it cannot know.
pub type Report<'a> = dyn Fn(Event) -> io::Result<()> + Sync + 'a;

/// Runs `job` as its owner, whose reports `report` gets.
///
/// # Errors
/// Those of [`crate::system::owner::process::run`].
pub fn run(job: &Job, identity: &Identity, watch: &Watch<'_>, report: &Report<'_>) -> Result<(), Error> {
    let start = Start { program: cli::BULK, kind: SEAL, identity };
    run_as_owner(&start, job, None, watch, &mut |event| report(event))
}

/// Runs `mailbox` as its owner, over the session that `imap` starts, and hands on its reports.
///
/// # Errors
/// As [`run`]; [`Error::Dovecot`] where the session cannot be started.
pub fn run_through_dovecot(
    mailbox: &Mailbox,
    identity: &Identity,
    imap: &mut Command,
    watch: &Watch<'_>,
    report: &Report<'_>,
) -> Result<(), Error> {
    let failed = |error: io::Error| Error::Privileges {
        what: format!("the process for user {}: {error}", identity.uid()),
    };
    let no_session = |error: io::Error| Error::Dovecot { what: format!("doveadm: {error}") };
    let (from_session, to_child) = io::pipe().map_err(failed)?;
    let (from_child, to_session) = io::pipe().map_err(failed)?;
    let start = Start { program: cli::BULK, kind: DOVECOT, identity };
    let mut child =
        Process::start(&start, from_session.into(), to_session.into(), Stdio::piped()).map_err(failed)?;
    let to_child = File::from(OwnedFd::from(to_child));
    feed(&to_child, identity, mailbox, watch).map_err(failed)?;
    // Who interrupts this from a terminal does not end the session amid a message.
    imap.stdin(from_child).stdout(to_child).stderr(Stdio::piped()).process_group(0);
    let session = imap.spawn().map_err(no_session);
    // It holds ends of the pipes.
    imap.stdin(Stdio::null()).stdout(Stdio::null());
    let mut session = session?;
    let stderr = session.stderr.take();
    let listener = std::thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.by_ref().take(SAID).read_to_end(&mut said);
            let _ = io::copy(&mut stderr, &mut io::sink());
        }
        said
    });
    let reports = child.stderr().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    let result = child.listen(reports, None, watch, &mut |event| report(event));
    drop(child);
    // Its other end is gone: a session that does not see that is ended.
    let said = end(&mut session, listener);
    // What Dovecot says tells more than that the session has ended.
    let said = String::from_utf8_lossy(&said).into_owned();
    let trouble =
        said.lines().find(|line| ["Error: ", "Fatal: ", "Panic: "].iter().any(|it| line.contains(it)));
    if let Some(line) = trouble {
        let complaint = Complaint::of(&Error::Dovecot { what: line.to_owned() });
        report(Event::Problem(complaint)).map_err(failed)?;
    }
    result
}

/// Waits for the end of a session, for a moment, and ends it; what it has said on standard error.
fn end(session: &mut std::process::Child, listener: std::thread::JoinHandle<Vec<u8>>) -> Vec<u8> {
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 0..40 {
        if matches!(session.try_wait(), Ok(Some(_))) && listener.is_finished() {
            return listener.join().unwrap_or_default();
        }
        std::thread::sleep(PAUSE);
    }
    let _ = session.kill();
    // Whoever still holds its standard error has nothing to say that matters.
    std::thread::sleep(PAUSE);
    let _ = session.try_wait();
    if listener.is_finished() { listener.join().unwrap_or_default() } else { Vec::new() }
}

/// What the process itself does; `kind` is that of its task.
///
/// # Errors
/// [`Error::Privileges`] where it has more rights than its owner's; [`CoreError::Read`](mailseal_core::error::Error::Read) where there is no task.
pub fn main(kind: &OsStr, stop: &Arc<AtomicBool>) -> Result<(), Error> {
    let order = Order::begin()?;
    process::raise_file_limit();
    if kind == DOVECOT { dovecot_main(order, stop) } else { maildir_main(order, stop) }
}

fn maildir_main(mut order: Order, stop: &Arc<AtomicBool>) -> Result<(), Error> {
    let job: Job = order.line()?;
    order.stop_at_end(stop);
    let reports = Reports::to(process::stdout()?, stop);
    let patience = || Patience::of(Some(OF_OWNERS), Arc::clone(stop));
    let open: maildir::Open<'_> = &|path, control| {
        Maildir::open_strictly(path, control).map(|maildir| maildir.with_patience(patience()))
    };
    maildir::run(&job, open, stop, &|event| reports.say(event));
    Ok(())
}

fn dovecot_main(mut order: Order, stop: &Arc<AtomicBool>) -> Result<(), Error> {
    let mailbox: Mailbox = order.line()?;
    let reports = Reports::to(process::stderr()?, stop);
    let report = |event| reports.say(event);
    // What comes behind the order is the session's.
    dovecot::run(&mailbox, order.into_rest(), BufWriter::new(process::stdout()?), stop, &report)
        .unwrap_or_else(|error| report(Event::failed(0, &error)));
    Ok(())
}
