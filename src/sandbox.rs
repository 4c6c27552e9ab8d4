//! Edge: What a process can no longer do once it has all it needs: a fault in a parser then finds nothing to open, nobody
//! to call and nothing to run.
//!
//! On Linux, Landlock takes the file system and the network away and seccomp all but a few system calls; on OpenBSD,
//! `pledge` does. A kernel that has none of them is no reason to leave mail in the queue, unless it is asked for.

#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod seccomp;

use std::path::Path;

use crate::error::Error;

/// How much the sandbox matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sandbox {
    /// As much of it as the kernel has.
    #[default]
    Auto,
    /// All of it, or no message is touched.
    Require,
    /// None.
    Off,
}

impl Sandbox {
    /// Leaves the process, all its threads included, no more than it needs to stream a message: reading, writing, memory,
    /// threads, clock, randomness, its open descriptors.
    ///
    /// # Errors
    /// [`Error::Sandbox`] when a part of it is missing and it is [required](Sandbox::Require).
    pub fn enter(self) -> Result<(), Error> {
        self.judge(|| {
            #[cfg(target_os = "linux")]
            {
                // Landlock first: seccomp would forbid it.
                let confined = landlock::confine(&[]);
                seccomp::restrict()?;
                confined
            }
            #[cfg(target_os = "openbsd")]
            {
                pledge::pledge_promises("stdio").map_err(|error| error.to_string())
            }
            #[cfg(not(any(target_os = "linux", target_os = "openbsd")))]
            {
                Err("this system has neither Landlock and seccomp nor pledge".into())
            }
        })
    }

    /// Leaves the thread, and those that it starts from now on, no files but those below `folders` and no connection to
    /// the network.
    ///
    /// # Errors
    /// As [`Sandbox::enter`].
    pub fn confine(self, folders: &[&Path]) -> Result<(), Error> {
        self.judge(|| {
            #[cfg(target_os = "linux")]
            {
                landlock::confine(folders)
            }
            #[cfg(target_os = "openbsd")]
            {
                folders.iter().try_for_each(|folder| {
                    unveil::unveil(folder, "rwc").map_err(|error| error.to_string())
                })?;
                unveil::unveil("", "").map_err(|error| error.to_string())
            }
            #[cfg(not(any(target_os = "linux", target_os = "openbsd")))]
            {
                let _ = folders;
                Err("this system has neither Landlock nor unveil".into())
            }
        })
    }

    fn judge(self, build: impl FnOnce() -> Result<(), String>) -> Result<(), Error> {
        match self {
            Self::Off => Ok(()),
            Self::Auto => {
                let _ = build();
                Ok(())
            }
            Self::Require => build().map_err(|what| Error::Sandbox { what }),
        }
    }
}
