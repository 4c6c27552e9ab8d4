//! Edge: One folder of a Maildir: its messages, and the lock that keeps two runs apart.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::{Gid, Uid};

use super::dir::{Dir, Kind, Stamp};
use super::name::Name;
use super::odd::{Odd, Why};
use super::patience::Patience;
use crate::error::Error;

/// Time between two looks at another run's lock.
const PAUSE: Duration = Duration::from_millis(50);

/// Largest file beside the messages that is read: keywords and subscriptions are lines.
const COMPANION: u64 = 1024 * 1024;

/// A folder with `cur`, `new` and `tmp`.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    relative: PathBuf,
    dir: Dir,
    pub(super) control: Dir,
    cur: Dir,
    new: Dir,
    pub(super) tmp: Dir,
    pub(super) owner: (Uid, Gid),
    pub(super) patience: Arc<Patience>,
    commits: Mutex<()>,
}

/// What all folders of a Maildir have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// Whose they are.
    pub owner: (Uid, Gid),
    /// How long their locks are waited for.
    pub patience: Arc<Patience>,
}

/// In which of the two a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// `cur`: seen by a client.
    Cur,
    /// `new`: not seen yet.
    New,
}

/// A message's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// Where it is.
    pub place: Place,
    /// What it is called.
    pub name: Name,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// The regular files that are called as messages are.
    pub messages: Vec<Message>,
    /// What mail programs may take for messages as well, and is left alone.
    pub odd: Vec<Odd>,
}

/// That no other run works on the folder, until it is dropped.
#[derive(Debug)]
pub struct Hold<'a> {
    pub(super) folder: &'a Folder,
    /// False where the file system has no such locks.
    pub(super) alone: bool,
    _file: File,
}

impl Folder {
    /// Opens the folder `dir`, which is at `path`, and at `relative` below the Maildir.
    pub(super) fn open(
        path: PathBuf,
        relative: PathBuf,
        dir: Dir,
        control: Dir,
        common: Common,
    ) -> Result<Self, Error> {
        let open = |name: &str| {
            dir.open_dir(Path::new(name))
                .map_err(|error| Error::Mail { path: path.join(name), source: error })
        };
        let (cur, new) = (open("cur")?, open("new")?);
        if !dir.has("tmp", Kind::Dir) {
            // Dovecot makes one, too, where it is missing.
            let mode = cur.stat_self().map_or(0o700, |stat| stat.st_mode & 0o777);
            match dir.create_dir(OsStr::new("tmp"), mode) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Error::Mail { path: path.join("tmp"), source: error });
                }
                _ => {}
            }
        }
        let tmp = open("tmp")?;
        let Common { owner, patience } = common;
        Ok(Self { path, relative, dir, control, cur, new, tmp, owner, patience, commits: Mutex::new(()) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is below the Maildir.
    #[must_use]
    pub fn relative(&self) -> &Path {
        &self.relative
    }

    /// The path of a message, to show it.
    #[must_use]
    pub fn path_of(&self, message: &Message) -> PathBuf {
        self.path.join(message.place.name()).join(message.name.as_os_str())
    }

    /// The folder for messages at `place`.
    #[must_use]
    pub fn dir(&self, place: Place) -> &Dir {
        match place {
            Place::Cur => &self.cur,
            Place::New => &self.new,
        }
    }

    /// What a small file beside the messages holds; `None` where there is no regular file of this name, or a large one.
    #[must_use]
    pub fn companion(&self, name: &OsStr) -> Option<Vec<u8>> {
        self.dir.read_file(name, COMPANION).ok().flatten()
    }

    /// What is there now. Files whose names begin with a dot, and folders, are no messages for any program.
    ///
    /// # Errors
    /// [`Error::Mail`] where the folder cannot be read.
    pub fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        // A message that moves from `new` to `cur` meanwhile is seen twice rather than not at all.
        for place in [Place::New, Place::Cur] {
            let path = self.path.join(place.name());
            let entries = self.dir(place).entries();
            for (name, kind) in entries.map_err(|error| self.failed_at(&path, error))? {
                if kind == Kind::Dir || is_hidden(&name) {
                    continue;
                }
                match Name::parse(&name) {
                    Some(name) if kind == Kind::File => listing.messages.push(Message { place, name }),
                    parsed => {
                        let why = if parsed.is_some() { Why::NotAFile } else { Why::Unnamed };
                        listing.odd.push(Odd { path: path.join(name), why });
                    }
                }
            }
        }
        listing.messages.sort();
        Ok(listing)
    }

    /// A message's state, inode and times; `None` where it is not there any more.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn stat(&self, message: &Message) -> io::Result<Option<nix::sys::stat::FileStat>> {
        match self.dir(message.place).stat(message.name.as_os_str()) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The message with this base name and inode, wherever a client's flags have taken it: first it is looked for under
    /// the name it had.
    pub(super) fn locate(&self, last: &Message, inode: u64) -> io::Result<Option<Message>> {
        let is_it = |message: &Message| -> io::Result<bool> {
            Ok(self.stat(message)?.is_some_and(|stat| Stamp::of(&stat).inode == inode))
        };
        if is_it(last)? {
            return Ok(Some(last.clone()));
        }
        for place in [Place::New, Place::Cur] {
            for (name, _) in self.dir(place).entries()? {
                let Some(name) = Name::parse(&name).filter(|name| name.base() == last.name.base()) else {
                    continue;
                };
                let found = Message { place, name };
                if is_it(&found)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Waits until no other run works on the folder; `waiting` is called when there is one.
    ///
    /// # Errors
    /// [`Error::Mail`], also for those of [`Patience::wait`].
    pub fn hold(&self, waiting: impl FnOnce()) -> Result<Hold<'_>, Error> {
        let file = self.dir.try_clone().map_err(|error| self.failed(error))?;
        let mut waiting = Some(waiting);
        let alone = loop {
            match file.try_lock() {
                Ok(()) => break true,
                Err(TryLockError::WouldBlock) => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    let held = "the lock of another run";
                    self.patience.wait(PAUSE, held).map_err(|error| self.failed(error))?;
                }
                // Network file systems without locks for folders. Dovecot's lock still keeps commits apart.
                Err(TryLockError::Error(_)) => break false,
            }
        };
        Ok(Hold { folder: self, alone, _file: file })
    }

    /// One commit at a time: Dovecot's lock tells processes apart, not threads.
    pub(super) fn commit_turn(&self) -> MutexGuard<'_, ()> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, error: io::Error) -> Error {
        self.failed_at(&self.path, error)
    }

    pub(super) fn failed_at(&self, path: &Path, source: io::Error) -> Error {
        Error::Mail { path: path.into(), source }
    }
}

/// Whether no mail program takes it for a message.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

impl Place {
    /// The folder's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cur => "cur",
            Self::New => "new",
        }
    }
}
