//! Edge: What waits for a confirmation of its owner's: in a folder of the user's own that no key source reads.
//!
//! `~/.local/state/mailseal/pending/state.json`, with the rights of the user alone. Codes are kept as hashes, bound to the
//! user, to what they are for, and to the fingerprints.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use mailseal_maildir::durable;
use serde::{Deserialize, Serialize};

use super::contents::CODE_LENGTH;
use crate::config::Keys;
use crate::error::Error;
use crate::keys::code;
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::source::{Kind, Place, Root, Source, Values};
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::keystore::{self, safe_file};
use crate::limits;
use crate::system::owner::Bytes;

/// The folder, below the home.
const FOLDER: &str = ".local/state/mailseal/pending";

/// The file in it.
const FILE: &str = "state.json";

/// Largest such file, in bytes.
const LARGEST: u64 = 256 * 1024;

/// How long another message of the same user's is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a code counts, in seconds.
pub const CODE_LIFE: u64 = 7 * DAY;

/// How many wrong codes there may be.
pub const TRIES: u8 = 5;

/// How long a certificate waits that was confirmed through the mailbox alone, in seconds.
pub const WAIT: u64 = 3 * DAY;

/// A day, in seconds.
pub const DAY: u64 = 24 * 60 * 60;

/// All that is known of a user's enrolment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// When messages were answered, in seconds since 1970, and whether they were the user's own.
    pub answered: Vec<(u64, bool)>,
    /// What is to be enrolled.
    pub pending: Option<Pending>,
    /// That mail is to be sealed no longer.
    pub stop: Option<Stop>,
}

/// Certificates that are to be enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// For whom.
    pub user: String,
    /// The certificates, without what a delivery does not need.
    pub certs: Bytes,
    /// Whether those that are there stay beside them.
    pub also: bool,
    /// The fingerprints of those that were there.
    pub before: Vec<String>,
    /// When they came, in seconds since 1970.
    pub since: u64,
    /// What is awaited.
    pub stage: Stage,
}

/// What certificates wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Stage {
    /// They came in a message that was moved: a message of the user's own.
    Own(Proof),
    /// The code that was sealed to them.
    New(Proof),
    /// The code that was sealed to those that are there.
    Old(Proof),
    /// That the time is over.
    Time {
        /// When it is, in seconds since 1970.
        until: u64,
        /// When that was announced last.
        announced: u64,
    },
    /// An admin.
    Admin,
}

/// A code that is to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Its hash; `None` until there is one.
    pub hash: Option<String>,
    /// When it was asked for, in seconds since 1970.
    pub since: u64,
    /// How many others were shown.
    pub wrong: u8,
}

/// That a user's mail is to be sealed no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Whose.
    pub user: String,
    /// The fingerprints of the certificates that the code is sealed to.
    pub before: Vec<String>,
    /// The code; `None` once it was shown.
    pub proof: Option<Proof>,
}

/// What a code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// That a message was not moved by a filter.
    Own,
    /// That what is sealed to the new certificates can be read.
    New,
    /// That who has the old key agrees.
    Old,
    /// That who has the key wants no sealed mail.
    Stop,
}

impl Proof {
    /// A code that is asked for at `now`, and still to be made.
    #[must_use]
    pub fn asked(now: u64) -> Self {
        Self { hash: None, since: now, wrong: 0 }
    }

    /// Makes the code, which stands nowhere else.
    ///
    /// # Errors
    /// Those of [`code::new`].
    pub fn make(&mut self, bound: &Bound<'_>) -> Result<String, Error> {
        let code = code::new(CODE_LENGTH)?;
        self.hash = Some(bound.hash(&code)?);
        Ok(code)
    }

    /// Whether one of `codes` is the code.
    ///
    /// # Errors
    /// Those of [`code::hash`].
    pub fn is_shown(&self, bound: &Bound<'_>, codes: &[String]) -> Result<bool, Error> {
        let Some(hash) = &self.hash else { return Ok(false) };
        for code in codes {
            if bound.hash(code)? == *hash {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a code counts for, and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// The user.
    pub user: &'a str,
    /// What for.
    pub purpose: Purpose,
    /// Whose certificates.
    pub fingerprints: &'a [String],
}

impl Bound<'_> {
    fn hash(&self, code: &str) -> Result<String, Error> {
        let Self { user, purpose, fingerprints } = self;
        code::hash(&format!("{user}\n{purpose:?}\n{}\n{code}", fingerprints.join(" ")))
    }
}

impl Pending {
    /// The certificates.
    ///
    /// # Errors
    /// Those of [`keystore::parse`].
    pub fn certs(&self) -> Result<Vec<AnyCert>, Error> {
        keystore::parse(&self.certs.0, Path::new(FILE))
    }

    /// Whether all of this is of the form in which it was written: a state that another user's home had is not.
    fn fits(&self, user: &str) -> bool {
        self.user == user && self.certs.0.len() <= limits::PENDING && self.certs().is_ok()
    }
}

/// The state of one user, while nobody else changes it.
#[derive(Debug)]
pub struct Store {
    place: Place,
    user: String,
    _lock: File,
}

impl Store {
    /// Takes the state of `user` in `home`; the folder is made where it is not there.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where it cannot be made, belongs to somebody else, or is in use for long; [`Error::Home`] where
    /// there is no home.
    pub fn take(home: &Path, user: &str, trust: &Trust) -> Result<Self, Error> {
        if !home.is_dir() {
            return Err(Error::Home { path: home.into(), what: "is not there".into() });
        }
        let folder = home.join(FOLDER);
        make(&folder).map_err(|error| failed(&folder, error.to_string()))?;
        Self::open(home, user, trust)?.ok_or_else(|| failed(&folder, "it is gone again".into()))
    }

    /// The same where the folder is there; `None` where it is not.
    ///
    /// # Errors
    /// As [`Store::take`].
    pub fn open(home: &Path, user: &str, trust: &Trust) -> Result<Option<Self>, Error> {
        let folder = home.join(FOLDER);
        if !folder.try_exists().unwrap_or(true) {
            return Ok(None);
        }
        let root = Root::Home { home: home.into(), within: None };
        let place = Place { path: folder.clone(), root, trust: trust.clone() };
        safe_file::reach(&place)?;
        safe_file::check_above(&place)?;
        let lock = lock(&folder).map_err(|error| failed(&folder, error.to_string()))?;
        Ok(Some(Self { place: place.join(FILE), user: user.into(), _lock: lock }))
    }

    /// What is in it.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn load(&self) -> Result<State, Error> {
        let Some(bytes) = safe_file::read(&self.place, LARGEST)? else { return Ok(State::default()) };
        let state: State = serde_json::from_slice(&bytes).map_err(|_| self.damaged())?;
        let fits = state.pending.iter().all(|pending| pending.fits(&self.user))
            && state.stop.iter().all(|stop| stop.user == self.user);
        if fits { Ok(state) } else { Err(self.damaged()) }
    }

    /// Replaces it.
    ///
    /// # Errors
    /// [`Error::KeyStore`]; what was in it is still there then.
    pub fn save(&self, state: &State) -> Result<(), Error> {
        let text = serde_json::to_vec(state).map_err(|error| failed(&self.place.path, error.to_string()))?;
        durable::write(&self.place.path, &text, 0o600)
            .map_err(|error| failed(&self.place.path, error.to_string()))
    }

    fn damaged(&self) -> Error {
        failed(&self.place.path, "it is not what was written there".into())
    }
}

fn failed(path: &Path, what: String) -> Error {
    Error::KeyStore {
        path: path.into(),
        what,
        hint: "look at it with the user's rights; where it is removed, what waits is to be sent again".into(),
    }
}

/// Makes a folder for its owner alone, and those above it.
///
/// # Errors
/// Those of the file system.
pub fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mode = std::fs::symlink_metadata(folder)?.permissions().mode() & 0o7777;
    if mode == 0o700 { Ok(()) } else { std::fs::set_permissions(folder, Permissions::from_mode(0o700)) }
}

fn lock(folder: &Path) -> io::Result<File> {
    let options = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(options).open(folder)?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
            Err(std::fs::TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(std::fs::TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
        }
    }
}

/// Seconds since 1970.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time so many seconds after the beginning of 1970.
#[must_use]
pub fn time(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The fingerprints of certificates, in the order of their digits.
#[must_use]
pub fn fingerprints(certs: &[AnyCert]) -> Vec<String> {
    let mut fingerprints: Vec<String> = certs.iter().map(|cert| cert.fingerprint()).collect();
    fingerprints.sort();
    fingerprints
}

/// The certificates that a user has enrolled through the mailbox, where deliveries find them.
#[derive(Debug)]
pub struct Received {
    place: Place,
}

impl Received {
    /// The file of `user` in the first source that is a folder in the user's home; `None` where no source is.
    ///
    /// # Errors
    /// Those of [`keystore::source::Template::place`].
    pub fn find(keys: &Keys, user: &User, home: Option<&Path>, trust: &Trust) -> Result<Option<Self>, Error> {
        let in_home = |source: &&Source| source.kind == Kind::Dir && source.path.store(source.kind).is_none();
        let Some(source) = keys.sources.iter().find(in_home) else { return Ok(None) };
        let values = Values { user, home, homes: &[] };
        let place = source.path.place(source.kind, &values, trust)?;
        Ok(Some(Self { place: place.join(keystore::names::RECEIVED) }))
    }

    /// Whether all of `certs` are in it: their owner has confirmed them, but through the mailbox only.
    ///
    /// # Errors
    /// As [`Received::load`].
    pub fn holds(&self, certs: &[AnyCert]) -> Result<bool, Error> {
        let own = fingerprints(&self.load()?);
        Ok(!certs.is_empty() && fingerprints(certs).iter().all(|fingerprint| own.contains(fingerprint)))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place.path.clone()
    }

    /// What it holds.
    ///
    /// # Errors
    /// Those of [`safe_file::read`] and [`keystore::parse`].
    pub fn load(&self) -> Result<Vec<AnyCert>, Error> {
        match safe_file::read(&self.place, limits::KEY_FILE)? {
            Some(bytes) => keystore::parse(&bytes, &self.place.path),
            None => Ok(Vec::new()),
        }
    }

    /// Puts `certs` in place of what it holds, or removes it where there are none.
    ///
    /// # Errors
    /// [`Error::KeyStore`]; what it held is still there then.
    pub fn store(&self, certs: &[AnyCert]) -> Result<(), Error> {
        let path = &self.place.path;
        let failed = |error: io::Error| failed(path, error.to_string());
        if certs.is_empty() {
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            };
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() {
            make(folder).map_err(failed)?;
        }
        durable::write(path, &any_cert::serialize(certs)?, 0o600).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use testing::made;

    use super::*;

    fn pending(user: &str, cert: &sequoia_openpgp::Cert) -> Pending {
        let certs = Bytes(made::public(cert));
        let stage = Stage::New(Proof::asked(1));
        Pending { user: user.into(), certs, also: false, before: Vec::new(), since: 1, stage }
    }

    #[test]
    fn what_waits_is_the_users_alone() {
        let home = tempfile::tempdir().unwrap();
        let trust = Trust::of_process(&[]);
        assert!(Store::open(home.path(), "alice", &trust).unwrap().is_none());
        assert!(Store::take(&home.path().join("none"), "alice", &trust).is_err());
        let state = State { pending: Some(pending("alice", &made::cert("Alice"))), ..State::default() };
        let store = Store::take(home.path(), "alice", &trust).unwrap();
        assert_eq!(store.load().unwrap(), State::default());
        store.save(&state).unwrap();
        assert_eq!(store.load().unwrap(), state);
        let mode = |path: &str| home.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(FOLDER), mode(&format!("{FOLDER}/{FILE}"))), (0o700, 0o600));
        drop(store);
        let other = Store::open(home.path(), "bob", &trust).unwrap().unwrap();
        assert!(other.load().is_err(), "another user with the same home");
        drop(other);
        let store = Store::take(home.path(), "alice", &trust).unwrap();
        for damaged in ["", "{}", "{\"answered\":[],\"pending\":null,\"stop\":null,\"x\":1}"] {
            std::fs::write(home.path().join(FOLDER).join(FILE), damaged).unwrap();
            assert!(store.load().is_err(), "{damaged}");
        }
    }

    #[test]
    fn a_folder_of_others_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let trust = Trust::of_process(&[]);
        drop(Store::take(home.path(), "alice", &trust).unwrap());
        let above = home.path().join(".local/state");
        std::fs::set_permissions(&above, Permissions::from_mode(0o777)).unwrap();
        assert!(Store::take(home.path(), "alice", &trust).is_err());
        std::fs::set_permissions(&above, Permissions::from_mode(0o700)).unwrap();
        let folder = home.path().join(FOLDER);
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        drop(Store::take(home.path(), "alice", &trust).unwrap());
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_code_counts_for_what_it_was_made_for() {
        let fingerprints = ["AB".to_owned()];
        let bound = Bound { user: "alice", purpose: Purpose::New, fingerprints: &fingerprints };
        let mut proof = Proof::asked(1);
        assert!(!proof.is_shown(&bound, &["x".into()]).unwrap());
        let code = [proof.make(&bound).unwrap()];
        assert_eq!(code[0].len(), CODE_LENGTH);
        assert!(!format!("{proof:?}").contains(&code[0]));
        assert!(proof.is_shown(&bound, &["x".into(), code[0].clone()]).unwrap());
        let others = ["CD".to_owned()];
        for other in [
            Bound { user: "bob", ..bound },
            Bound { purpose: Purpose::Old, ..bound },
            Bound { fingerprints: &others, ..bound },
        ] {
            assert!(!proof.is_shown(&other, &code).unwrap(), "{other:?}");
        }
    }
}
