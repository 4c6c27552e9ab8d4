//! Edge: What is being replaced, written down before anything is: a file in the user's home, which proves to the next run
//! which sealed message was made of which clear one.
//!
//! A message cannot prove it itself, for whoever sends mail writes what he likes into it; a keyword travels with every copy
//! that a mail program makes. The hash of a sealed message, which nobody can know before it is appended, cannot be forged,
//! and tells nothing of what is inside. There is one batch in the file at a time, beside those whose sealed messages the
//! session of a killed run may still be about to save. It also keeps two runs from one mailbox.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mailseal_maildir::error::Error as MaildirError;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The name of the file in the home.
const NAME: &str = ".mailseal-replacing";

/// The longest journal that is read: a batch is far shorter.
const LONGEST: u64 = 1024 * 1024;

/// The file, locked.
#[derive(Debug)]
pub struct Journal {
    file: Flock<File>,
    path: PathBuf,
    pending: Vec<Entry>,
}

/// Messages of one folder that are being replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The folder, as IMAP writes it.
    pub folder: String,
    /// Under which the UIDs are valid.
    pub uid_validity: u32,
    /// The messages.
    pub replaced: Vec<Replaced>,
}

/// A clear message, and what the sealed one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The UID of the clear message.
    pub uid: u32,
    /// The size of the sealed one.
    pub size: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub hash: String,
}

impl Journal {
    /// Opens the file in `home`, and waits for another run that has it; `waiting` is called first then.
    ///
    /// # Errors
    /// [`Error::Home`], with what the user can do about it.
    pub fn open(home: &Path, waiting: impl FnOnce()) -> Result<Self, Error> {
        let path = home.join(NAME);
        let failed = |error: io::Error| Error::Home {
            path: path.clone(),
            what: format!("cannot be written: {error}"),
        };
        let mut waiting = Some(waiting);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(&path)
                .map_err(failed)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((file, nix::Error::EWOULDBLOCK)) => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| failed(error.into()))?
                }
                Err((_, error)) => return Err(failed(error.into())),
            };
            // The other run has taken its file away, where it came to its end.
            let inode = |metadata: io::Result<Metadata>| metadata.map(|metadata| metadata.ino()).ok();
            if inode(file.metadata()) == inode(std::fs::symlink_metadata(&path)) {
                return Ok(Self { file, path, pending: Vec::new() });
            }
        }
    }

    /// What runs were replacing when they were killed. What was not written down whole had not begun.
    ///
    /// # Errors
    /// [`MaildirError::Mail`].
    pub fn left(&mut self) -> Result<Vec<Entry>, Error> {
        let mut text = Vec::new();
        let read = self.file.rewind().and_then(|()| (&*self.file).take(LONGEST).read_to_end(&mut text));
        read.map_err(|error| self.failed(error))?;
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// Of all that was left, only this is not settled yet: it stays in the file.
    ///
    /// # Errors
    /// [`MaildirError::Mail`].
    pub fn settle(&mut self, pending: Vec<Entry>) -> Result<(), Error> {
        self.pending = pending;
        self.put(None)
    }

    /// What is not settled yet.
    #[must_use]
    pub fn pending(&self) -> &[Entry] {
        &self.pending
    }

    /// Writes down what is about to be replaced, and flushes it to the disk.
    ///
    /// # Errors
    /// [`MaildirError::Mail`]: nothing may be replaced then.
    pub fn write(&mut self, entry: &Entry) -> Result<(), Error> {
        self.put(Some(entry))
    }

    /// Forgets it: all is in its place.
    ///
    /// # Errors
    /// [`MaildirError::Mail`].
    pub fn clear(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            // Were it to come back, it would be settled as it is now.
            return self.file.set_len(0).map_err(|error| self.failed(error));
        }
        self.put(None)
    }

    /// Ends it; the file goes, unless something in it is not settled.
    pub fn end(self) {
        if self.pending.is_empty() {
            // Empty, it does no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn put(&self, entry: Option<&Entry>) -> Result<(), Error> {
        let entries: Vec<&Entry> = self.pending.iter().chain(entry).collect();
        let write = || -> io::Result<()> {
            let mut file = &*self.file;
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&serde_json::to_vec(&entries)?)?;
            file.sync_data()
        };
        write().map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> Error {
        MaildirError::Mail { path: self.path.clone(), source }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_found() {
        let home = tempfile::tempdir().unwrap();
        let entry = Entry {
            folder: "INBOX".into(),
            uid_validity: 1,
            replaced: vec![Replaced { uid: 2, size: 3, hash: "4".into() }],
        };
        let mut journal = Journal::open(home.path(), || ()).unwrap();
        assert_eq!(journal.left().unwrap(), []);
        journal.write(&entry).unwrap();
        drop(journal);
        let mut journal = Journal::open(home.path(), || ()).unwrap();
        assert_eq!(journal.left().unwrap(), std::slice::from_ref(&entry));
        journal.settle(vec![entry.clone()]).unwrap();
        let next = Entry { uid_validity: 5, ..entry.clone() };
        journal.write(&next).unwrap();
        assert_eq!(journal.left().unwrap(), [entry.clone(), next]);
        journal.clear().unwrap();
        assert_eq!(journal.left().unwrap(), [entry]);
        journal.settle(Vec::new()).unwrap();
        journal.clear().unwrap();
        assert_eq!(journal.left().unwrap(), []);
        std::fs::write(home.path().join(NAME), b"[{\"folder\":\"IN").unwrap();
        assert_eq!(journal.left().unwrap(), [], "cut off");
        journal.end();
        assert!(!home.path().join(NAME).exists());
    }

    fn entry(uid_validity: u32) -> Entry {
        Entry { folder: "INBOX".into(), uid_validity, replaced: Vec::new() }
    }

    #[test]
    fn one_run_waits_for_another() {
        use std::sync::mpsc::channel;

        let home = tempfile::tempdir().unwrap();
        for ends in [true, false] {
            let mut first = Journal::open(home.path(), || panic!("nobody is there")).unwrap();
            first.write(&entry(7)).unwrap();
            let (said, saying) = channel();
            std::thread::scope(|scope| {
                let second = scope.spawn(|| {
                    let mut second = Journal::open(home.path(), || said.send(()).unwrap()).unwrap();
                    let left = second.left().unwrap();
                    // The file that has its name is the one that is locked.
                    second.write(&entry(8)).unwrap();
                    (left, std::fs::read_to_string(home.path().join(NAME)).unwrap())
                });
                saying.recv().unwrap();
                if ends {
                    first.end()
                } else {
                    drop(first)
                }
                let (left, text) = second.join().unwrap();
                assert_eq!(left, if ends { vec![] } else { vec![entry(7)] });
                assert!(text.contains("8"), "{text}");
            });
            std::fs::remove_file(home.path().join(NAME)).unwrap();
        }
    }

    #[test]
    fn what_is_not_settled_stays_in_the_file() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(home.path(), || ()).unwrap();
        assert_eq!(journal.pending(), []);
        journal.settle(vec![entry(1)]).unwrap();
        assert_eq!(journal.pending(), [entry(1)]);
        journal.end();
        assert!(home.path().join(NAME).exists());
        assert_eq!(Journal::open(home.path(), || ()).unwrap().left().unwrap(), [entry(1)]);
    }

    #[test]
    fn a_batch_of_many_messages_is_found() {
        let home = tempfile::tempdir().unwrap();
        let replaced = |uid| Replaced { uid, size: 1, hash: "0".repeat(64) };
        let many = Entry { replaced: (0..1000).map(replaced).collect(), ..entry(1) };
        let mut journal = Journal::open(home.path(), || ()).unwrap();
        journal.write(&many).unwrap();
        assert_eq!(journal.left().unwrap(), [many]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let gone = Journal::open(&home.path().join("gone"), || ());
        assert!(matches!(gone, Err(Error::Home { .. })));
        std::os::unix::fs::symlink("elsewhere", home.path().join(NAME)).unwrap();
        assert!(Journal::open(home.path(), || ()).is_err(), "a link is not followed");
        assert!(!home.path().join("elsewhere").exists());
    }
}
