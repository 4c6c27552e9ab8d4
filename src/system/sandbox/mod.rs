//! Edge: What a process can no longer do once it has all it needs: a fault in a parser then finds nothing to open, nobody
//! to call and nothing to run.
//!
//! On Linux, Landlock takes the file system and the network away and seccomp all but a few system calls; on OpenBSD,
//! `pledge` does. A kernel that has none of them is no reason to leave mail in the queue, unless it is asked for.

#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod seccomp;

#[cfg(target_os = "openbsd")]
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use landlock::confine;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How much the sandbox matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Sandbox {
    /// As much of it as the kernel has.
    #[default]
    Auto,
    /// All of it, or no message is touched.
    Require,
    /// None.
    Off,
}

/// What files a resident process needs.
#[derive(Clone, Copy, Debug)]
pub struct Rights<'a> {
    /// Folders with what it reads.
    pub read: &'a [PathBuf],
    /// What it removes in the end.
    pub remove: &'a [PathBuf],
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
                open_randomness();
                // Landlock first: seccomp would forbid it.
                let confined = confine(&[]);
                seccomp::restrict(&[])?;
                confined
            }
            #[cfg(target_os = "openbsd")]
            {
                pledge::pledge("stdio", None).map_err(|error| error.to_string())
            }
            #[cfg(not(any(target_os = "linux", target_os = "openbsd")))]
            {
                Err("this system has neither Landlock and seccomp nor pledge".into())
            }
        })
    }

    /// Leaves the process, all its threads that begin later included, what a resident one needs: connections, and those files.
    ///
    /// # Errors
    /// As [`Sandbox::enter`].
    pub fn enter_with(self, rights: &Rights<'_>) -> Result<(), Error> {
        let folders: Vec<&Path> = rights.remove.iter().filter_map(|path| path.parent()).collect();
        self.judge(|| {
            #[cfg(target_os = "linux")]
            {
                open_randomness();
                let confined = landlock::confine_resident(rights.read, &folders);
                seccomp::restrict(seccomp::RESIDENT)?;
                confined
            }
            #[cfg(target_os = "openbsd")]
            {
                let read = rights.read.iter().map(|folder| (&**folder, "r"));
                let removed = folders.iter().map(|folder| (*folder, "c"));
                read.chain(removed)
                    .try_for_each(|(path, rights)| unveil::unveil(path.as_os_str().as_bytes(), rights))
                    .map_err(|error| error.to_string())?;
                pledge::pledge("stdio rpath cpath unix inet getpw", None).map_err(|error| error.to_string())
            }
            #[cfg(not(any(target_os = "linux", target_os = "openbsd")))]
            {
                let _ = folders;
                Err("this system has neither Landlock and seccomp nor pledge".into())
            }
        })
    }

    /// Does `work` where there are no files but those below `folders`, and no connection to the network: on Linux in a
    /// thread of its own, with those that it starts; on OpenBSD the process can still read and run other files, and write
    /// to none but these and those of the calls before.
    ///
    /// # Errors
    /// Those of `work`, and as [`Sandbox::enter`].
    pub fn within<T: Send>(
        self,
        folders: &[&Path],
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        if self == Self::Off {
            return work();
        }
        open_randomness();
        let confined = || {
            self.judge(|| confine(folders))?;
            work()
        };
        match std::thread::scope(|scope| scope.spawn(confined).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
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

/// Without shared libraries `getrandom` finds its system call missing; it opens a device instead, and keeps it open.
fn open_randomness() {
    // What fails here fails again where it is needed, and is an error there.
    let _ = sequoia_openpgp::crypto::random(&mut [0]);
}

#[cfg(target_os = "openbsd")]
fn confine(folders: &[&Path]) -> Result<(), String> {
    let others = [(Path::new("/"), "rx"), (Path::new("/dev/null"), "rw")];
    others
        .into_iter()
        .chain(folders.iter().map(|folder| (*folder, "rwc")))
        .try_for_each(|(path, rights)| unveil::unveil(path.as_os_str().as_bytes(), rights))
        .map_err(|error| error.to_string())
}

#[cfg(not(any(target_os = "linux", target_os = "openbsd")))]
fn confine(_: &[&Path]) -> Result<(), String> {
    Err("this system has neither Landlock nor unveil".into())
}

/// What of the sandbox this system does not have, each as a sentence.
#[must_use]
pub fn missing() -> Vec<String> {
    #[cfg(target_os = "linux")]
    {
        // A thread that ends at once is the only one that is confined.
        let landlock = std::thread::scope(|scope| scope.spawn(|| confine(&[])).join());
        let landlock = landlock.unwrap_or_else(|_| Err("Landlock cannot be tried".into()));
        [landlock, seccomp::is_there()].into_iter().filter_map(Result::err).collect()
    }
    #[cfg(target_os = "openbsd")]
    {
        Vec::new()
    }
    #[cfg(not(any(target_os = "linux", target_os = "openbsd")))]
    {
        vec!["this system has neither Landlock and seccomp nor pledge".into()]
    }
}
