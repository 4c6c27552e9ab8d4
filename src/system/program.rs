//! Edge: The one place that runs a program of others', Dovecot's above all, and waits for it: not without end, whoever stops it,
//! and for no more than it can have to say.
//!
//! Parts of such programs work with the rights of the user whom they are about, who can stop them then.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::owner::process::{SLOW, Watch};
use super::pipe;

/// Most that a program may say, in bytes: `doveadm user '*'` names a million users.
const MOST: usize = 64 * 1024 * 1024;

/// How often it is looked what to do.
const PAUSE: Duration = Duration::from_millis(5);

/// How long it may take to end after SIGKILL, and how long whoever has its pipes from it is listened to after its end.
const LAST: Duration = Duration::from_millis(500);

/// Runs `command` to its end, with nothing on standard input, in a process group of its own. It has the patience of `watch`
/// for all of that, and gives its turn to others when it takes a while.
///
/// # Errors
/// Those of starting it. `TimedOut` where it takes longer, `FileTooLarge` where it says more than anything that is asked here,
/// and `WouldBlock` where the run is to stop: its group is ended then.
pub fn run(command: &mut Command, watch: &Watch<'_>) -> io::Result<Output> {
    run_with(command, Stdio::null(), watch)
}

/// The same with something on standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with(command: &mut Command, stdin: Stdio, watch: &Watch<'_>) -> io::Result<Output> {
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn()?;
    let mut running = Running { child, status: None };
    let mut out = Stream::of(running.child.stdout.take().map(OwnedFd::from))?;
    let mut err = Stream::of(running.child.stderr.take().map(OwnedFd::from))?;
    let begin = Instant::now();
    loop {
        if let Some((status, since)) = running.look()?
            && (out.is_over() && err.is_over() || since.elapsed() > LAST)
        {
            return Ok(Output { status, stdout: out.said, stderr: err.said });
        }
        if begin.elapsed() > SLOW {
            watch.slot.inspect(|slot| slot.step_aside());
        }
        if watch.stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "it was ended, since the run is to stop"));
        }
        if begin.elapsed() > watch.patience {
            let what = format!("it did not end within {} s: it stands still", watch.patience.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        let mut pipes: Vec<PollFd<'_>> = [&out, &err].into_iter().filter_map(Stream::to_poll).collect();
        pipe::is_ready(&mut pipes, PAUSE)?;
        out.read()?;
        err.read()?;
    }
}

/// A program, which is ended with its group where it is not waited for any more.
struct Running {
    child: Child,
    /// How it ended, and when that was seen.
    status: Option<(ExitStatus, Instant)>,
}

impl Running {
    fn look(&mut self) -> io::Result<Option<(ExitStatus, Instant)>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?.map(|status| (status, Instant::now()));
        }
        Ok(self.status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_some() {
            return;
        }
        // Until it has been waited for, the number is its own.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let begin = Instant::now();
        while begin.elapsed() < LAST && matches!(self.look(), Ok(None)) {
            std::thread::sleep(PAUSE);
        }
    }
}

/// What a program says on one of its pipes.
struct Stream {
    pipe: Option<File>,
    said: Vec<u8>,
}

impl Stream {
    fn of(pipe: Option<OwnedFd>) -> io::Result<Self> {
        let pipe = pipe.map(File::from);
        pipe.iter().try_for_each(|pipe| pipe::set_blocking(pipe, false))?;
        Ok(Self { pipe, said: Vec::new() })
    }

    fn is_over(&self) -> bool {
        self.pipe.is_none()
    }

    fn to_poll(&self) -> Option<PollFd<'_>> {
        self.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
    }

    /// Reads a piece of what is there.
    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut piece = [0; 64 * 1024];
        match pipe.read(&mut piece) {
            Ok(0) => self.pipe = None,
            Ok(count) => self.said.extend_from_slice(&piece[..count]),
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) => {
            }
            Err(error) => return Err(error),
        }
        if self.said.len() > MOST {
            let what = format!("it says more than {MOST} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn shell(script: &str, patience: Duration, stop: &AtomicBool) -> io::Result<Output> {
        let mut command = Command::new("sh");
        run(command.args(["-c", script]), &Watch { patience, stop, slot: None })
    }

    #[test]
    fn what_a_program_says_is_heard_to_its_end() {
        let (patience, stop) = (Duration::from_secs(20), AtomicBool::new(false));
        let output =
            shell("echo one; echo two >&2; head -c 300000 /dev/zero; exit 3", patience, &stop).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len(), &*output.stderr),
            (Some(3), 300_004, &b"two\n"[..])
        );
        // Who goes on in the background, and has its pipes, is not waited for.
        let output = shell("sleep 60 & echo one", patience, &stop).unwrap();
        assert!(output.status.success() && output.stdout == b"one\n");
    }

    #[test]
    fn no_program_is_waited_for_without_end() {
        let never = AtomicBool::new(false);
        let second = Duration::from_secs(1);
        for held in ["kill -STOP $$", "exec sleep 60", "exec >&- 2>&-; sleep 60", "sleep 60 | cat", "yes"] {
            let begin = Instant::now();
            let error = shell(held, second, &never).unwrap_err();
            let expected = if held == "yes" { io::ErrorKind::FileTooLarge } else { io::ErrorKind::TimedOut };
            assert!(error.kind() == expected || error.kind() == io::ErrorKind::TimedOut, "{held}: {error}");
            assert!(begin.elapsed() < 5 * second, "{held}");
        }
        let begin = Instant::now();
        let error = shell("kill -STOP $$", 60 * second, &AtomicBool::new(true)).unwrap_err();
        assert!(error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < 2 * second, "{error}");
    }
}
