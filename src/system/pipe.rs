//! Edge: Pipes to and from other processes, which are waited for, and not without end.

use std::fs::File;
use std::io;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollTimeout, poll};

/// Whether reading and writing wait for the other end.
///
/// # Errors
/// Those of the system.
pub fn set_blocking(file: &File, blocking: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_truncate(fcntl(file, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, !blocking);
    fcntl(file, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Waits until one of `files` can be read or written, for no longer than `pause`; with none, for all of it.
///
/// # Errors
/// Those of the system.
pub fn is_ready(files: &mut [PollFd<'_>], pause: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
    match poll(files, timeout) {
        Ok(count) => Ok(count > 0),
        Err(nix::Error::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
