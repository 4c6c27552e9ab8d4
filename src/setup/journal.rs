//! Edge: What setup has made, and takes back: in this run when something fails, by `--undo` later.
//!
//! Everything is written down before it is made, so that a run which was killed can be taken back, too. What setup finds is
//! not its own, and stays; so does what somebody has changed since.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mailseal_maildir::durable;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::register;
use super::timer::Systemd;
use crate::error::Error;
use crate::system::folder;

/// The name of the journal in the folder of mailseal's state.
const NAME: &str = "setup.json";

/// Something that setup made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Made {
    /// A folder, which goes when it is empty.
    Folder {
        /// Where it is.
        path: PathBuf,
    },
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
        /// SHA-256 of what it may hold: one, but for a run that was killed.
        contents: Vec<String>,
    },
    /// What `sievec` makes of a script.
    Compiled {
        /// Where it is.
        path: PathBuf,
    },
    /// A symbolic link.
    Link {
        /// Where it is.
        path: PathBuf,
        /// What it leads to.
        target: PathBuf,
    },
    /// A timer that was enabled.
    Timer {
        /// Its unit.
        unit: String,
    },
}

/// What is in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Our file among Dovecot's settings.
    pub settings: Option<PathBuf>,
    /// What else was made, in its order.
    pub made: Vec<Made>,
}

/// The journal of one run. It has the lock: no other setup runs at the same time.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// As it was when the run began; `None` where there was none.
    before: Option<Contents>,
    now: Contents,
    /// What takes back this run, the last first.
    undo: Vec<Step>,
    /// Whether the folder was made by this run.
    is_new_folder: bool,
    _lock: File,
}

/// What takes back something that this run has done.
#[derive(Debug)]
enum Step {
    Remove(PathBuf),
    RemoveFolder(PathBuf),
    Disable(String),
    Register(register::Before),
    /// A file as it was: what it held, and its rights.
    Restore(PathBuf, Vec<u8>, u32),
}

impl Journal {
    /// Opens the journal in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Setup`] where another setup is running, or the journal cannot be used.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let is_new_folder = folder::make(folder, 0o755).map_err(|error| failed(folder, &error))?;
        let lock = File::open(folder).map_err(|error| failed(folder, &error))?;
        lock.try_lock().map_err(|_| Error::Setup {
            what: "another `mailseal setup` is running".into(),
            hint: "wait until it has ended".into(),
        })?;
        let before = read(folder)?;
        let now = before.clone().unwrap_or_default();
        let journal =
            Self { path: folder.join(NAME), before, now, undo: Vec::new(), is_new_folder, _lock: lock };
        journal.remove_leftovers();
        Ok(journal)
    }

    /// What a run that was killed while it wrote a file has left beside it.
    fn remove_leftovers(&self) {
        let files = self.now.made.iter().filter_map(|made| match made {
            Made::File { path, .. } => Some(path),
            _ => None,
        });
        for path in files.chain([&self.path]) {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|it| it.to_str()))
            else {
                continue;
            };
            let start = format!(".{name}.");
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let found = entry.file_name();
                let number = found.to_str().and_then(|it| it.strip_prefix(&start)?.strip_suffix(".tmp"));
                if number.is_some_and(|number| number.parse::<u32>().is_ok()) {
                    // Where it cannot be removed, it stands in nobody's way.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Makes a folder where there is none.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn folder(&mut self, path: &Path, mode: u32) -> Result<(), Error> {
        if path.is_dir() {
            return Ok(());
        }
        self.note(Made::Folder { path: path.into() })?;
        folder::make(path, mode).map_err(|error| failed(path, &error))?;
        self.undo.push(Step::RemoveFolder(path.into()));
        Ok(())
    }

    /// Writes a file where it does not hold `bytes` already; what it held comes back when the run is taken back.
    ///
    /// # Errors
    /// [`Error::Setup`], also where somebody else has made the file, or changed it.
    pub fn file(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
        let was = read_file(path).map_err(|error| failed(path, &error))?;
        if was.as_deref() == Some(bytes) {
            return Ok(());
        }
        if let Some(was) = &was
            && !self.is_own(path, was)
        {
            return Err(foreign(path));
        }
        self.note_file(path, was.as_deref(), bytes)?;
        self.undo.push(match was {
            Some(was) => Step::Restore(path.into(), was, mode),
            None => Step::Remove(path.into()),
        });
        durable::write(path, bytes, mode).map_err(|error| failed(path, &error))
    }

    /// Writes a file that is not there, and that stays when what was set up is taken away.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn file_to_keep(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
        self.undo.push(Step::Remove(path.into()));
        durable::write(path, bytes, mode).map_err(|error| failed(path, &error))
    }

    /// Makes a folder, if there is none, that stays when what was set up is taken away.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn folder_to_keep(&mut self, path: &Path, mode: u32) -> Result<(), Error> {
        if folder::make(path, mode).map_err(|error| failed(path, &error))? {
            self.undo.push(Step::RemoveFolder(path.into()));
        }
        Ok(())
    }

    /// Takes note of what `sievec` is about to write.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn compiled(&mut self, path: &Path) -> Result<(), Error> {
        let was = read_file(path).map_err(|error| failed(path, &error))?;
        self.note(Made::Compiled { path: path.into() })?;
        self.undo.push(match was {
            Some(was) => Step::Restore(path.into(), was, 0o644),
            None => Step::Remove(path.into()),
        });
        Ok(())
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// [`Error::Setup`], also where something else is there.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<(), Error> {
        match std::fs::read_link(path) {
            Ok(found) if found == target => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => return Err(foreign(path)),
        }
        self.note(Made::Link { path: path.into(), target: target.into() })?;
        self.undo.push(Step::Remove(path.into()));
        symlink(target, path).map_err(|error| failed(path, &error))
    }

    /// Takes note of a timer that is about to be enabled.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn timer(&mut self, unit: &str) -> Result<(), Error> {
        self.undo.push(Step::Disable(unit.into()));
        self.note(Made::Timer { unit: unit.into() })
    }

    /// Takes note of a register that is about to be made.
    pub fn register(&mut self, before: register::Before) {
        self.undo.push(Step::Register(before));
    }

    /// Takes note of where our settings are about to be.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn settings(&mut self, path: &Path) -> Result<(), Error> {
        if self.now.settings.as_deref() == Some(path) {
            return Ok(());
        }
        self.now.settings = Some(path.into());
        self.write()
    }

    /// The run has done all: the journal stays.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn finish(mut self) -> Result<(), Error> {
        for made in &mut self.now.made {
            if let Made::File { contents, .. } = made {
                contents.drain(..contents.len().saturating_sub(1));
            }
        }
        if self.before.as_ref() == Some(&self.now) {
            return Ok(());
        }
        self.write()
    }

    /// Our file of settings as it was when the run began, where this run has written it; notes in `left` what could not be
    /// taken back.
    pub fn take_back_settings(&mut self, left: &mut Vec<String>) -> bool {
        let is_last = self.undo.last().is_some_and(|step| match step {
            Step::Remove(path) | Step::Restore(path, ..) => self.now.settings.as_deref() == Some(path),
            _ => false,
        });
        if let Some(step) = self.undo.pop_if(|_| is_last) {
            left.extend(step.take_back());
        }
        is_last
    }

    /// Everything as it was when the run began; what could not be taken back.
    #[must_use]
    pub fn take_back(self) -> Vec<String> {
        let mut left: Vec<String> = self.undo.into_iter().rev().filter_map(Step::take_back).collect();
        let restored = match &self.before {
            Some(before) if *before == self.now => Ok(()),
            Some(before) => write(&self.path, before),
            None => std::fs::remove_file(&self.path),
        };
        if let Err(error) = restored
            && error.kind() != ErrorKind::NotFound
        {
            left.push(format!("{}: {error}", self.path.display()));
        }
        if self.is_new_folder
            && let Some(folder) = self.path.parent()
        {
            // Something else of mailseal's may be in it.
            let _ = std::fs::remove_dir(folder);
        }
        left
    }

    /// Removes what was made and is unchanged since, the last first, and then the journal; says what stays, and why.
    ///
    /// # Errors
    /// [`Error::Setup`] where the journal itself cannot be removed.
    pub fn remove_all(self) -> Result<Vec<String>, Error> {
        let mut stays = Vec::new();
        for made in self.now.made.iter().rev() {
            if let Some(why) = made.remove() {
                stays.push(why);
            }
        }
        match std::fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&self.path, &error)),
        }
        Ok(stays)
    }

    /// Whether setup wrote what is in this file.
    #[must_use]
    pub fn is_own(&self, path: &Path, bytes: &[u8]) -> bool {
        let hash = hash(bytes);
        self.now.made.iter().any(|made| {
            matches!(made, Made::File { path: file, contents } if file == path && contents.contains(&hash))
        })
    }

    fn note_file(&mut self, path: &Path, was: Option<&[u8]>, bytes: &[u8]) -> Result<(), Error> {
        let is_same = |made: &Made| matches!(made, Made::File { path: file, .. } if file == path);
        let contents = was.into_iter().chain([bytes]).map(hash).collect();
        let made = Made::File { path: path.into(), contents };
        match self.now.made.iter_mut().find(|made| is_same(made)) {
            Some(found) => *found = made,
            None => self.now.made.push(made),
        }
        self.write()
    }

    fn note(&mut self, made: Made) -> Result<(), Error> {
        if self.now.made.contains(&made) {
            return Ok(());
        }
        self.now.made.push(made);
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        write(&self.path, &self.now).map_err(|error| failed(&self.path, &error))
    }
}

impl Step {
    /// Takes it back; what could not be.
    fn take_back(self) -> Option<String> {
        let (path, result) = match self {
            Self::Disable(unit) => return Systemd::default().disable(&unit).err(),
            Self::Register(before) => return before.restore(),
            Self::Remove(path) => {
                let result = std::fs::remove_file(&path);
                (path, result)
            }
            Self::RemoveFolder(path) => {
                let result = std::fs::remove_dir(&path);
                (path, result)
            }
            Self::Restore(path, bytes, mode) => {
                let result = durable::write(&path, &bytes, mode);
                (path, result)
            }
        };
        match result {
            Err(error) if error.kind() != ErrorKind::NotFound => Some(format!("{}: {error}", path.display())),
            _ => None,
        }
    }
}

impl Made {
    /// What it is, as a person names it.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Folder { path }
            | Self::File { path, .. }
            | Self::Compiled { path }
            | Self::Link { path, .. } => path.display().to_string(),
            Self::Timer { unit } => unit.clone(),
        }
    }

    /// Removes it where it is unchanged; why it stays.
    fn remove(&self) -> Option<String> {
        let (path, result) = match self {
            Self::Folder { path } => match std::fs::remove_dir(path) {
                // Something of others' is in it.
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => return None,
                result => (path, result),
            },
            Self::File { path, contents } => match read_file(path) {
                Ok(Some(bytes)) if contents.contains(&hash(&bytes)) => (path, std::fs::remove_file(path)),
                Ok(Some(_)) => return Some(format!("{} was changed since", path.display())),
                Ok(None) => return None,
                Err(error) => (path, Err(error)),
            },
            Self::Compiled { path } => (path, std::fs::remove_file(path)),
            Self::Link { path, target } => match std::fs::read_link(path) {
                Ok(found) if found == *target => (path, std::fs::remove_file(path)),
                _ => return None,
            },
            Self::Timer { unit } => return Systemd::default().disable(unit).err(),
        };
        match result {
            Err(error) if error.kind() != ErrorKind::NotFound => Some(format!("{}: {error}", path.display())),
            _ => None,
        }
    }
}

/// The journal in `folder`, if there is one.
///
/// # Errors
/// [`Error::Setup`] where it cannot be read.
pub fn read(folder: &Path) -> Result<Option<Contents>, Error> {
    let path = folder.join(NAME);
    let Some(bytes) = read_file(&path).map_err(|error| failed(&path, &error))? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::Setup {
        what: format!("{}: {error}", path.display()),
        hint: "restore it from a backup; it says what `mailseal setup --undo` may take away".into(),
    })
}

fn write(path: &Path, contents: &Contents) -> io::Result<()> {
    durable::write(path, &serde_json::to_vec_pretty(contents)?, 0o644)
}

/// What a regular file holds; `None` where there is nothing.
///
/// # Errors
/// Those of reading it; `InvalidInput` where it is something else.
pub fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => std::fs::read(path).map(Some),
        Ok(_) => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn hash(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on that disk",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "run it as root, where that can be written"
        }
        ErrorKind::NotFound => "make the folder that it lies in",
        _ => "see what is there, and move it away",
    };
    Error::Setup { what: format!("{}: {error}", path.display()), hint: hint.into() }
}

fn foreign(path: &Path) -> Error {
    Error::Setup {
        what: format!("{} is not by `mailseal setup`, or was changed since", path.display()),
        hint: "move it away, and run setup again".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_run_made_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut journal = Journal::open(&state).unwrap();
        journal.folder(&state.join("sub"), 0o755).unwrap();
        journal.file(&state.join("sub/a"), b"a", 0o644).unwrap();
        journal.link(&dir.path().join("link"), Path::new("/t")).unwrap();
        assert_eq!(journal.take_back(), [""; 0]);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn a_file_that_was_replaced_comes_back_and_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (own, foreign) = (dir.path().join("own"), dir.path().join("foreign"));
        std::fs::write(&foreign, "x").unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.file(&own, b"one", 0o644).unwrap();
        journal.finish().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        assert!(Journal::open(dir.path()).is_err(), "one at a time");
        journal.file(&own, b"two", 0o644).unwrap();
        assert!(journal.file(&foreign, b"y", 0o644).is_err());
        assert!(journal.link(&foreign, Path::new("/t")).is_err());
        assert_eq!(journal.take_back(), [""; 0]);
        assert_eq!(std::fs::read(&own).unwrap(), b"one");
        // As a run leaves it that is killed before, or after, it writes the file.
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.note_file(&own, Some(b"one"), b"three").unwrap();
        drop(journal);
        assert_eq!(Journal::open(dir.path()).unwrap().remove_all().unwrap(), [""; 0]);
        assert_eq!(names(dir.path()), ["foreign"]);
    }

    #[test]
    fn what_was_changed_since_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.file(&file, b"one", 0o644).unwrap();
        journal.finish().unwrap();
        std::fs::write(&file, "two").unwrap();
        let stays = Journal::open(dir.path()).unwrap().remove_all().unwrap();
        assert!(stays.len() == 1 && stays[0].ends_with("was changed since"), "{stays:?}");
        assert_eq!(names(dir.path()), ["file"]);
        std::fs::write(dir.path().join(NAME), "{").unwrap();
        assert!(Journal::open(dir.path()).is_err());
    }
}
