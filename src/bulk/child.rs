//! Edge: A process with the rights of one owner: root starts it, it touches the mail.
//!
//! It gets its job as a line on standard input and reports on standard output. When standard input ends, because it is
//! to stop or because root's process has ended, it finishes what it is committing and ends.
//!
//! For a mailbox that is reached through Dovecot, an IMAP session stands at the other ends of standard input, behind the
//! job, and of standard output, and standard error takes the reports. Root starts the session and reads nothing of it.
//! The process is stopped with SIGTERM, or when nobody reads its reports any more. Dovecot wants pipes: it refuses a session
//! that root starts on a socket.

use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, geteuid, getgroups, getresgid, getresuid};

use super::event::{Complaint, Event, Job, Mailbox};
use super::{live, worker};
use crate::error::Error;
use crate::maildir::layout::Maildir;
use crate::{cli, process};

/// How often it is looked whether to stop.
const PAUSE: Duration = Duration::from_millis(50);

/// The option that makes the program such a process.
pub const OPTION: &str = "--as-owner";

/// The option that makes it one for a mailbox that is reached through Dovecot.
pub const LIVE_OPTION: &str = "--as-user";

/// Most of what the IMAP session says on standard error that is kept.
const SAID: u64 = 64 * 1024;

/// Runs `mailbox` as `owner`, over the session that `imap` starts, and hands on its reports.
///
/// # Errors
/// [`Error::Privileges`] where the process cannot be started, or ends before its job does; [`Error::Dovecot`] where the
/// session cannot be started.
pub fn run_live(
    mailbox: &Mailbox,
    owner: (Uid, Gid),
    imap: &mut Command,
    stop: &Arc<AtomicBool>,
    report: &(dyn Fn(Event) + Sync),
) -> Result<(), Error> {
    let failed =
        |error: io::Error| Error::Privileges { what: format!("the process for {}: {error}", owner.0) };
    let no_session = |error: io::Error| Error::Dovecot { what: format!("doveadm: {error}") };
    let (from_session, mut to_child) = io::pipe().map_err(failed)?;
    let (from_child, to_session) = io::pipe().map_err(failed)?;
    let mut command = as_owner(LIVE_OPTION, owner).map_err(failed)?;
    command.stdin(from_session).stdout(to_session).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    // It holds the process's ends of the pipes.
    drop(command);
    let mut line = serde_json::to_vec(mailbox).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    let session = to_child.write_all(&line).map_err(failed).and_then(|()| {
        // Who interrupts this from a terminal does not end the session amid a message.
        imap.stdin(from_child).stdout(to_child).stderr(Stdio::piped()).process_group(0);
        imap.spawn().map_err(no_session)
    });
    imap.stdin(Stdio::null()).stdout(Stdio::null());
    let mut session = match session {
        Ok(session) => session,
        Err(error) => {
            // Without a session it ends by itself.
            let _ = child.wait();
            return Err(error);
        }
    };
    let mut said = Vec::new();
    let ended = AtomicBool::new(false);
    let id = Pid::from_raw(child.id().cast_signed());
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Until it has been waited for, the number is the process's own.
            if wait_for(stop, &ended) {
                let _ = kill(id, Signal::SIGTERM);
            }
        });
        let stderr = session.stderr.take();
        let listener = scope.spawn(|| {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.by_ref().take(SAID).read_to_end(&mut said);
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            said
        });
        let read = match child.stderr.take() {
            Some(reports) => pass_on(reports, report),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        ended.store(true, Ordering::Relaxed);
        said = listener.join().unwrap_or_default();
        read
    });
    let status = child.wait().and_then(|status| result.map(|()| status)).map_err(failed)?;
    let _ = session.wait();
    // What Dovecot says tells more than that the session has ended.
    let said = String::from_utf8_lossy(&said).into_owned();
    let trouble =
        said.lines().find(|line| ["Error: ", "Fatal: ", "Panic: "].iter().any(|it| line.contains(it)));
    if let Some(line) = trouble {
        report(Event::Problem(Complaint::of(&Error::Dovecot { what: line.to_owned() })));
    }
    if status.success() { Ok(()) } else { Err(failed(io::Error::other(status.to_string()))) }
}

/// Waits until one of them is set; whether it was the first.
fn wait_for(stop: &AtomicBool, ended: &AtomicBool) -> bool {
    while !ended.load(Ordering::Relaxed) {
        if stop.load(Ordering::Relaxed) {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    false
}

/// This very program with the rights of `owner`, whatever lies where it was started from.
fn as_owner(option: &str, owner: (Uid, Gid)) -> io::Result<Command> {
    let program = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    let mut command = Command::new(program);
    command.arg0(cli::BULK).arg(option);
    if owner.0 != geteuid() {
        // The standard library gives up all other groups when root changes the user.
        command.uid(owner.0.as_raw()).gid(owner.1.as_raw());
    }
    Ok(command)
}

/// Runs `job` as `owner`, whose reports `report` gets.
///
/// # Errors
/// [`Error::Privileges`] where the process cannot be started, or ends before its job does.
pub fn run(
    job: &Job,
    owner: (Uid, Gid),
    stop: &Arc<AtomicBool>,
    report: &(dyn Fn(Event) + Sync),
) -> Result<(), Error> {
    let failed =
        |error: io::Error| Error::Privileges { what: format!("the process for {}: {error}", owner.0) };
    let mut child = as_owner(OPTION, owner)
        .map_err(failed)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &mut stdin {
        let mut line = serde_json::to_vec(job).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        stdin.write_all(&line).map_err(failed)?;
    }
    let ended = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| close_when(stdin, stop, &ended));
        let read = match child.stdout.take() {
            Some(stdout) => pass_on(stdout, report),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        // Without its standard input it ends, whatever it was doing.
        ended.store(true, Ordering::Relaxed);
        child.wait().and_then(|status| read.map(|()| status))
    });
    match result.map_err(failed)? {
        status if status.success() => Ok(()),
        status => Err(failed(io::Error::other(status.to_string()))),
    }
}

/// Hands on what the process reports, until it ends.
fn pass_on(stdout: impl io::Read, report: &(dyn Fn(Event) + Sync)) -> io::Result<()> {
    for line in BufReader::new(stdout).lines() {
        report(serde_json::from_str(&line?)?);
    }
    Ok(())
}

/// Ends the process's standard input when it is to stop, or when it has ended.
fn close_when(stdin: Option<ChildStdin>, stop: &AtomicBool, ended: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) && !ended.load(Ordering::Relaxed) {
        std::thread::sleep(PAUSE);
    }
    drop(stdin);
}

/// What the process itself does.
///
/// # Errors
/// [`Error::Privileges`] where it has more rights than its owner's; [`Error::Read`] where there is no job.
pub fn main(stop: &Arc<AtomicBool>) -> Result<(), Error> {
    prove_dropped()?;
    let mut line = String::new();
    let mut stdin = BufReader::new(io::stdin());
    stdin.read_line(&mut line).map_err(Error::Read)?;
    let job: Job = serde_json::from_str(&line).map_err(|error| Error::Read(error.into()))?;
    let stopped = Arc::clone(stop);
    std::thread::spawn(move || {
        // Nothing more comes but the end.
        let _ = stdin.read(&mut [0]);
        stopped.store(true, Ordering::Relaxed);
    });
    worker::run(&job, Maildir::open_strictly, stop, &|event| {
        let Ok(mut line) = serde_json::to_vec(&event) else { return };
        line.push(b'\n');
        // Where nobody reads any more, standard input ends as well.
        let _ = io::stdout().lock().write_all(&line);
    });
    Ok(())
}

/// What the process does for a mailbox that is reached through Dovecot.
///
/// # Errors
/// [`Error::Privileges`] where it has more rights than its user's; [`Error::Read`] where there is no job.
pub fn live_main(stop: &Arc<AtomicBool>) -> Result<(), Error> {
    prove_dropped()?;
    // What comes behind the job is the session's.
    let mut reader = BufReader::new(process::stdin()?);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(Error::Read)?;
    let mailbox: Mailbox = serde_json::from_str(&line).map_err(|error| Error::Read(error.into()))?;
    let writer = BufWriter::new(process::stdout()?);
    let report = |event| {
        let sent = serde_json::to_vec(&event).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            io::stderr().lock().write_all(&line)
        });
        if sent.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
    };
    live::run(&mailbox, reader, writer, stop, &report)
        .unwrap_or_else(|error| report(Event::failed(0, &error)));
    Ok(())
}

fn prove_dropped() -> Result<(), Error> {
    let failed = |what: String| Error::Privileges { what };
    let users = getresuid().map_err(|error| failed(error.to_string()))?;
    let groups = getresgid().map_err(|error| failed(error.to_string()))?;
    let others = getgroups().map_err(|error| failed(error.to_string()))?;
    let same = users.real == users.effective
        && users.real == users.saved
        && groups.real == groups.effective
        && groups.real == groups.saved
        && others.iter().all(|other| *other == groups.real);
    if users.real.is_root() || !same {
        return Err(failed("the ids are not those of one owner".into()));
    }
    Ok(())
}
