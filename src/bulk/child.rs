//! Edge: A process with the rights of one owner: root starts it, it touches the mail.
//!
//! It gets its job as a line on standard input and reports on standard output. When standard input ends, because it is
//! to stop or because root's process has ended, it finishes what it is committing and ends.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid};

use super::event::{Event, Job};
use super::worker;
use crate::cli;
use crate::error::Error;
use crate::maildir::layout::Maildir;

/// How often it is looked whether to stop.
const PAUSE: Duration = Duration::from_millis(50);

/// The option that makes the program such a process.
pub const OPTION: &str = "--as-owner";

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
    // This very program, whatever lies where it was started from.
    let program = if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        std::env::current_exe().map_err(failed)?
    };
    let mut child = Command::new(program)
        .arg0(cli::BULK)
        .arg(OPTION)
        // The standard library gives up all other groups when root changes the user.
        .uid(owner.0.as_raw())
        .gid(owner.1.as_raw())
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
