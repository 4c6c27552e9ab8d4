//! Edge: Of what owners have been told, and what they were about to be told when a run ended.
//!
//! A file beside the register, with a line for each notice: what it is about, and behind a tab the Message-ID of a notice that was
//! begun. Whether that one arrived is asked of the mailbox the next time, so that it is neither lost nor sent twice. Lines are
//! added at its end; of two about the same, the last counts, and one without an end does not.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mailseal_maildir::durable;
use nix::fcntl::{Flock, FlockArg};

use super::facts::Seen;
use crate::config;
use crate::console::date::day;
use crate::error::Error;
use crate::keystore::user::User;
use crate::limits;

/// Its mode: it names users.
const MODE: u32 = 0o600;

/// Beside the file: who holds it.
const LOCK: &str = ".lock";

/// What stands between a notice and its Message-ID: no user's name has one in it.
const TAB: char = '\t';

/// The notices. Nobody else changes them until it is dropped.
#[derive(Debug)]
pub struct Told {
    path: PathBuf,
    /// By what they are about; with the Message-ID of those that were begun.
    notices: BTreeMap<String, Option<String>>,
    /// Whether the file has more lines than these.
    is_longer: bool,
    _lock: Flock<File>,
}

/// What a notice about a certificate of `user`'s is about, for the kind `what`.
#[must_use]
pub fn id(user: &User, seen: &Seen, what: &str) -> String {
    format!("{}{what}", begin(user, seen))
}

fn begin(user: &User, seen: &Seen) -> String {
    format!("{} {} {} ", user.name(), seen.fingerprint, day(seen.expiry()))
}

impl Told {
    /// Reads the file at `path`, which need not be there; waits until no other run holds it.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(LOCK);
        let file = File::create(&lock).map_err(|error| failed(path, &error.to_string()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| failed(path, &error.to_string()))?;
        let text = config::read_trusted_up_to(path, limits::KEYRING)?.unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let notices = whole.lines().map(|line| match line.split_once(TAB) {
            Some((id, message)) => (id.to_owned(), Some(message.to_owned())),
            None => (line.to_owned(), None),
        });
        let told = Self { path: path.into(), notices: notices.collect(), is_longer: false, _lock: lock };
        if told.text() != text {
            told.rewrite()?;
        }
        Ok(told)
    }

    /// Whether the notice was sent.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        matches!(self.notices.get(id), Some(None))
    }

    /// The Message-ID of the notice, where it was begun, and it is not known whether it was sent.
    #[must_use]
    pub fn begun(&self, id: &str) -> Option<&str> {
        self.notices.get(id)?.as_deref()
    }

    /// Notes that the notice is about to be sent as the message `message`. On the disk when it returns.
    ///
    /// # Errors
    /// [`Error::KeyStore`]: it must not be sent then.
    pub fn begin(&mut self, id: &str, message: &str) -> Result<(), Error> {
        self.add(id, Some(message))
    }

    /// Notes that the notice was sent.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn done(&mut self, id: &str) -> Result<(), Error> {
        self.add(id, None)
    }

    /// Forgets what is about certificates that `user` has no more; with [`Told::finish`] on the disk, too.
    pub fn forget_others(&mut self, user: &User, certs: &[Seen]) {
        let current: Vec<String> = certs.iter().map(|seen| begin(user, seen)).collect();
        let is_of_user = |id: &str| id.rsplitn(4, ' ').nth(3) == Some(user.name());
        let prefix = format!("{} ", user.name());
        let begun = self.notices.range(prefix.clone()..).map(|(id, _)| id);
        // There may be very many of others.
        let own = begun.take_while(|id| id.starts_with(&prefix)).filter(|id| is_of_user(id));
        let is_gone = |id: &&String| !current.iter().any(|begin| id.starts_with(begin.as_str()));
        for id in own.filter(is_gone).cloned().collect::<Vec<_>>() {
            self.is_longer = true;
            self.notices.remove(&id);
        }
    }

    /// Leaves nothing in the file but what counts.
    ///
    /// # Errors
    /// [`Error::KeyStore`]; what was in it is still there then.
    pub fn finish(self) -> Result<(), Error> {
        if self.is_longer { self.rewrite() } else { Ok(()) }
    }

    fn rewrite(&self) -> Result<(), Error> {
        durable::write(&self.path, self.text().as_bytes(), MODE)
            .map_err(|error| failed(&self.path, &error.to_string()))
    }

    fn text(&self) -> String {
        self.notices.iter().map(|(id, message)| line(id, message.as_deref())).collect()
    }

    fn add(&mut self, id: &str, message: Option<&str>) -> Result<(), Error> {
        let append = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).create(true).mode(MODE).open(&self.path)?;
            file.write_all(line(id, message).as_bytes())?;
            file.sync_all()
        };
        append().map_err(|error| failed(&self.path, &error.to_string()))?;
        self.is_longer |= self.notices.insert(id.into(), message.map(str::to_owned)).is_some();
        Ok(())
    }
}

fn line(id: &str, message: Option<&str>) -> String {
    message.map_or_else(|| format!("{id}\n"), |message| format!("{id}{TAB}{message}\n"))
}

fn failed(path: &Path, what: &str) -> Error {
    Error::KeyStore {
        path: path.into(),
        what: what.into(),
        hint: "let root write there: nobody is told anything before that is noted".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_and_begun_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owners-told");
        std::fs::write(&path, "old AB 2020-01-01 7\n").unwrap();
        let mut told = Told::open(&path).unwrap();
        told.begin("a", "x@y").unwrap();
        told.begin("b", "z@y").unwrap();
        told.done("b").unwrap();
        drop(told);
        let told = Told::open(&path).unwrap();
        assert!(told.has("old AB 2020-01-01 7") && told.has("b") && told.begun("b").is_none());
        assert!(!told.has("a") && told.begun("a") == Some("x@y") && told.begun("c").is_none());
        drop(told);
        // A power cut: half a line is none.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("c\tx");
        std::fs::write(&path, text).unwrap();
        let told = Told::open(&path).unwrap();
        assert!(
            told.has("b") && told.begun("a") == Some("x@y") && told.begun("c").is_none() && !told.has("c")
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\tx@y\nb\nold AB 2020-01-01 7\n");
        assert!(Told::open(&folder.path().join("none/x")).is_err());
    }

    #[test]
    fn what_is_about_other_certificates_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut told = Told::open(&folder.path().join("owners-told")).unwrap();
        let seen = |fingerprint: &str| Seen { fingerprint: fingerprint.into(), expires: None, unfit: None };
        let user = |name| User::parse(name).unwrap();
        for name in ["a b", "b"] {
            for fingerprint in ["01", "02"] {
                told.done(&id(&user(name), &seen(fingerprint), "7")).unwrap();
            }
        }
        told.forget_others(&user("b"), &[seen("02"), seen("03")]);
        let left: Vec<&String> = told.notices.keys().collect();
        assert_eq!(left, ["a b 01 never 7", "a b 02 never 7", "b 02 never 7"]);
    }
}
