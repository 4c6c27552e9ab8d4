//! Edge: What a process does before anything else: it gives up root's rights, and what could leak a message.

use std::fs::File;
use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use mailseal_core::error::Error as CoreError;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, close, getegid, geteuid, getgroups, getresgid, getresuid, setegid, seteuid, setgroups,
    setresgid, setresuid,
};

use crate::error::Error;
use crate::exit::Exit;

/// The first descriptor that is not a standard one.
const FIRST_OTHER: i32 = 3;

/// Gives up root where the process has it beside its effective user, closes what the caller left open, and makes sure
/// that no file it writes can be read by others and no core dump is written.
///
/// # Errors
/// [`Error::Privileges`] when one step fails: the process must not touch a message then.
pub fn harden() -> Result<(), Error> {
    drop_privileges()?;
    close_inherited();
    // After the descriptors: from here on the process cannot read its own entries under /proc.
    keep_private()
}

/// Makes sure that no file that the process writes can be read by others, and that no core dump is written.
///
/// # Errors
/// [`Error::Privileges`] when it cannot be done.
pub fn keep_private() -> Result<(), Error> {
    umask(Mode::from_bits_truncate(0o077));
    forbid_dumps()
}

/// Makes sure that no core dump is written, which would hold secret keys or mail. On Linux, the process cannot open its
/// own descriptors under `/dev/fd` any more.
///
/// # Errors
/// [`Error::Privileges`] when it cannot be done.
pub fn forbid_dumps() -> Result<(), Error> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|error| failed("no limit for core dumps", error))?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false).map_err(|error| failed("cannot be made undumpable", error))?;
    Ok(())
}

/// Lets the process have so many bytes of address space at most: what needs more ends it.
///
/// # Errors
/// [`Error::Privileges`].
pub fn bound_memory(bytes: u64) -> Result<(), Error> {
    let failed = |error| failed("no limit for memory", error);
    // OpenBSD has no limit for address space.
    #[cfg(target_os = "openbsd")]
    let memory = Resource::RLIMIT_DATA;
    #[cfg(not(target_os = "openbsd"))]
    let memory = Resource::RLIMIT_AS;
    let (_, hard) = getrlimit(memory).map_err(failed)?;
    setrlimit(memory, bytes.min(hard), hard).map_err(failed)
}

/// Lets the process have as many files open as it may: with many jobs, each has two for every message of a batch.
pub fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Without it, some messages of large batches fail and are named.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// How many jobs are done at once: as many as `said`, else as many as there are processors.
#[must_use]
pub fn jobs(said: Option<NonZeroUsize>) -> usize {
    said.or_else(|| available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

/// From here on, what ends a process from a terminal or a script (SIGINT, SIGTERM, SIGHUP) sets `stop`.
///
/// # Errors
/// [`CoreError::Read`] where the system refuses.
pub fn heed_signals(stop: &Arc<AtomicBool>) -> Result<(), Error> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(stop)).map_err(CoreError::Read)?;
    }
    Ok(())
}

/// How long an interrupted run may take to end.
pub const END: Duration = Duration::from_millis(1800);

/// Ends the process with [`Exit::Temporary`] when `stop` has been set for as long as `grace`, whatever it waits for. What it
/// leaves is what a killed one leaves.
///
/// # Errors
/// Those of starting a thread.
pub fn end_after(stop: &Arc<AtomicBool>, grace: Duration) -> std::io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    let stop = Arc::clone(stop);
    std::thread::Builder::new().name("end".into()).spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(PAUSE);
        }
        std::thread::sleep(grace);
        Exit::Temporary.leave_now()
    })?;
    Ok(())
}

/// The user that the process has the rights of.
#[must_use]
pub fn user() -> u32 {
    geteuid().as_raw()
}

/// Whether the process delivers as root.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Sets all user and group ids to the effective ones, where root is among them.
///
/// Dovecot 2.4.0 to 2.4.3 start a filter under LMTP with the real user id 0 and root's groups; `setgroups` is then only
/// allowed after `seteuid(0)`.
fn drop_privileges() -> Result<(), Error> {
    let (user, group) = (geteuid(), getegid());
    let ids = getresuid().map_err(|error| failed("getresuid", error))?;
    if user.is_root() || ![ids.real, ids.saved].contains(&Uid::from_raw(0)) {
        return Ok(());
    }
    seteuid(Uid::from_raw(0)).map_err(|error| failed("seteuid(0)", error))?;
    setgroups(&[group]).map_err(|error| failed("setgroups", error))?;
    setresgid(group, group, group).map_err(|error| failed("setresgid", error))?;
    setresuid(user, user, user).map_err(|error| failed("setresuid", error))?;
    prove_dropped(user, group, &[group])
}

/// Gives up root's rights for those of `user`, for good, so that the user can look into this process at no moment: it is
/// undumpable before the first id changes, and again before the last one does.
///
/// To be called by a process that root has started with an empty environment, before it reads anything of the user's.
///
/// # Errors
/// [`Error::Privileges`] where one step fails: the process must end then.
pub fn become_user(user: Uid, group: Gid, groups: &[Gid]) -> Result<(), Error> {
    if user.is_root() {
        return Err(Error::Privileges { what: "a user's process is to be root's".into() });
    }
    forbid_dumps()?;
    let root = Uid::from_raw(0);
    setgroups(groups).map_err(|error| failed("setgroups", error))?;
    setresgid(group, group, group).map_err(|error| failed("setresgid", error))?;
    // With another effective id the kernel sets anew whether a process can be dumped (`fs.suid_dumpable`). While one of the
    // three ids is root's, that gives the user nothing (ptrace(2)); the last two change nothing of it any more.
    setresuid(root, user, root).map_err(|error| failed("setresuid", error))?;
    forbid_dumps()?;
    setresuid(user, user, user).map_err(|error| failed("setresuid", error))?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_no_new_privs().map_err(|error| failed("no_new_privs", error))?;
    prove_dropped(user, group, groups)
}

/// Proves that root cannot be regained.
fn prove_dropped(user: Uid, group: Gid, allowed: &[Gid]) -> Result<(), Error> {
    let users = getresuid().map_err(|error| failed("getresuid", error))?;
    let groups = getresgid().map_err(|error| failed("getresgid", error))?;
    let others = getgroups().map_err(|error| failed("getgroups", error))?;
    let as_meant = [users.real, users.effective, users.saved] == [user; 3]
        && [groups.real, groups.effective, groups.saved] == [group; 3]
        && others.iter().all(|other| *other == group || allowed.contains(other));
    let root_again = seteuid(Uid::from_raw(0)).is_ok()
        || setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok()
        || !group.as_raw().eq(&0) && setegid(Gid::from_raw(0)).is_ok();
    if as_meant && !root_again {
        Ok(())
    } else {
        Err(Error::Privileges { what: "the ids are not as they were set".into() })
    }
}

/// Closes every descriptor but the standard ones: Dovecot leaves its sockets and the client's connection open.
fn close_inherited() {
    let listed: Option<Vec<i32>> =
        std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd")).ok().map(|entries| {
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
        });
    let all = || {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        (FIRST_OTHER..i32::try_from(limit).unwrap_or(i32::MAX).min(65_536)).collect()
    };
    for descriptor in listed.unwrap_or_else(all).into_iter().filter(|fd| *fd >= FIRST_OTHER) {
        // The one that listed them is closed already.
        let _ = close(descriptor);
    }
}

fn failed(what: &str, error: nix::Error) -> Error {
    Error::Privileges { what: format!("{what}: {error}") }
}

/// Reads standard input to its end and forgets it, for at most `limit`.
///
/// A program that gives up with input unread, and whose end Dovecot sees before it has written all, makes Dovecot 2.3
/// panic: the connection drops, and the service is throttled.
pub fn drain_stdin(limit: Duration) {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return;
    }
    let end = Instant::now() + limit;
    let mut piece = [0; 16 * 1024];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return,
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(_) => return,
        }
        match nix::unistd::read(&stdin, &mut piece) {
            Ok(0) => return,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Standard input, without a buffer round it.
///
/// # Errors
/// [`CoreError::Read`] when it is not open.
pub fn stdin() -> Result<File, Error> {
    let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(CoreError::Read)?;
    Ok(input.into())
}

/// Standard output, without a buffer round it.
///
/// # Errors
/// [`CoreError::Write`] when it was not open when the process began.
pub fn stdout() -> Result<File, Error> {
    if !STDOUT_WAS_OPEN.load(Ordering::Relaxed) {
        return Err(CoreError::Write(nix::Error::EBADF.into()).into());
    }
    let output = std::io::stdout().as_fd().try_clone_to_owned().map_err(CoreError::Write)?;
    Ok(output.into())
}

/// Standard error, without a lock round it.
///
/// # Errors
/// [`CoreError::Write`] when it is not open.
pub fn stderr() -> Result<File, Error> {
    let output = std::io::stderr().as_fd().try_clone_to_owned().map_err(CoreError::Write)?;
    Ok(output.into())
}

/// Whether standard output was open when the process began. Rust opens `/dev/null` in its place where it was not, and
/// a message written there is lost.
static STDOUT_WAS_OPEN: AtomicBool = AtomicBool::new(false);

#[ctor::ctor(unsafe)]
fn look_at_stdout() {
    let open = nix::fcntl::fcntl(std::io::stdout(), nix::fcntl::FcntlArg::F_GETFD).is_ok();
    STDOUT_WAS_OPEN.store(open, Ordering::Relaxed);
}
