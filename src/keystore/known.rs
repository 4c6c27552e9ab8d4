//! Edge: The register of the users who ever had a certificate: for them, finding none is a fault and never "no certificate".
//!
//! A folder with one empty file a user, so that a delivery looks up some names and lists nothing:
//!
//! | name | means |
//! |---|---|
//! | `NAME` | the user is known |
//! | `.near/TEXT` | a known user's name is like this one, up to a domain or a suffix ([`User::indexed`]) |
//! | `.unasked/NAME` | the user's sources could not be asked yet |
//! | `.mailseal` | the register is complete, and these are the stores ([`super::marker`]); written last |

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mailseal_maildir::durable;

use super::marker::Marker;
use super::names;
use super::standing::Standing;
use super::trust::{Reached, Trust};
use crate::error::Error;
use crate::keystore::user::User;
use crate::system::folder;

const NEAR: &str = ".near";
const UNASKED: &str = ".unasked";

/// The register.
#[derive(Clone, Debug)]
pub struct Known {
    folder: PathBuf,
    trust: Trust,
}

/// Holds other changes off until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _folder: File,
}

impl Known {
    /// The register in `folder`, which need not exist yet.
    #[must_use]
    pub fn new(folder: &Path, trust: Trust) -> Self {
        Self { folder: folder.into(), trust }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its marker; `None` where the register was never completed.
    ///
    /// # Errors
    /// Those of [`Marker::read`].
    pub fn marker(&self) -> Result<Option<Marker>, Error> {
        match self.trust.walk(&self.folder, Path::new("/"))? {
            Reached::Missing => Ok(None),
            Reached::There(_) => Marker::read(&self.folder, &self.trust),
        }
    }

    /// What it says of `user`, where it is complete.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where that cannot be found out.
    pub fn standing(&self, user: &User) -> Result<Standing, Error> {
        if self.has(self.folder.join(user.name()))? {
            return Ok(Standing::Known);
        }
        if self.has(self.folder.join(UNASKED).join(user.name()))? {
            return Ok(Standing::Unasked);
        }
        for text in user.sought() {
            if self.has(self.folder.join(NEAR).join(text))? {
                return Ok(Standing::Near);
            }
        }
        // Nothing is in a folder that is not there.
        for folder in [NEAR, UNASKED] {
            let path = self.folder.join(folder);
            // A link that leads nowhere holds nothing, too.
            let metadata = std::fs::metadata(&path).map_err(|error| failed(&path, &error))?;
            if !metadata.is_dir() {
                return Err(failed(&path, &ErrorKind::NotADirectory.into()));
            }
        }
        Ok(Standing::Unknown)
    }

    fn has(&self, path: PathBuf) -> Result<bool, Error> {
        match std::fs::symlink_metadata(&path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// The users who are known, in order.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn users(&self) -> Result<BTreeSet<User>, Error> {
        self.list(&self.folder)
    }

    /// The users whose sources could not be asked, in order.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn unasked(&self) -> Result<BTreeSet<User>, Error> {
        self.list(&self.folder.join(UNASKED))
    }

    fn list(&self, folder: &Path) -> Result<BTreeSet<User>, Error> {
        let mut users = BTreeSet::new();
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(users),
            Err(error) => return Err(failed(folder, &error)),
        };
        for entry in entries {
            let name = entry.map_err(|error| failed(folder, &error))?.file_name();
            users.extend(name.to_str().and_then(|name| User::parse(name).ok()));
        }
        Ok(users)
    }

    /// Makes the folder where it is not there, and waits until nobody else changes the register. Nobody is asked for anything
    /// while it is held.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn lock(&self) -> Result<Lock, Error> {
        self.lock_folder(self.folder.clone())
    }

    /// Waits until no other scan is under way: what an older one has been told undoes nothing of a newer one's. The register can
    /// be changed meanwhile.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn lock_scans(&self) -> Result<Lock, Error> {
        self.lock_folder(self.folder.join(UNASKED))
    }

    fn lock_folder(&self, held: PathBuf) -> Result<Lock, Error> {
        for path in [self.folder.clone(), self.folder.join(NEAR), self.folder.join(UNASKED)] {
            folder::make_all(&path).map_err(|error| failed(&path, &error))?;
        }
        let file = File::open(&held).and_then(|file| file.lock().map(|()| file));
        Ok(Lock { _folder: file.map_err(|error| failed(&held, &error))? })
    }

    /// Notes that these users have, or had, a certificate. On the disk when it returns.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn note<'a>(&self, _lock: &Lock, users: impl IntoIterator<Item = &'a User>) -> Result<(), Error> {
        for user in users {
            // First what makes a delivery careful.
            for text in user.indexed() {
                create(&self.folder.join(NEAR).join(text))?;
            }
            create(&self.folder.join(user.name()))?;
            remove(&self.folder.join(UNASKED).join(user.name()))?;
        }
        self.flush()
    }

    /// Notes which users could be asked for their certificates, and which could not.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn note_asked<'a>(
        &self,
        _lock: &Lock,
        asked: impl IntoIterator<Item = &'a User>,
        unasked: impl IntoIterator<Item = &'a User>,
    ) -> Result<(), Error> {
        for user in asked {
            remove(&self.folder.join(UNASKED).join(user.name()))?;
        }
        let folder = self.folder.join(UNASKED);
        for user in unasked {
            create(&folder.join(user.name()))?;
        }
        // Also where nothing has changed.
        File::open(&folder)
            .and_then(|folder| folder.set_modified(SystemTime::now()))
            .map_err(|error| failed(&folder, &error))?;
        self.flush()
    }

    /// When all users were last asked, or the last time that one who had not been was noted or removed; `None` where that was
    /// never, or cannot be found out.
    #[must_use]
    pub fn scanned(&self) -> Option<SystemTime> {
        std::fs::metadata(self.folder.join(UNASKED)).and_then(|folder| folder.modified()).ok()
    }

    /// Forgets that `user` ever had a certificate.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn forget(&self, _lock: &Lock, user: &User) -> Result<(), Error> {
        let others: BTreeSet<String> =
            self.users()?.iter().filter(|other| *other != user).flat_map(User::indexed).collect();
        remove(&self.folder.join(user.name()))?;
        remove(&self.folder.join(UNASKED).join(user.name()))?;
        for text in user.indexed().iter().filter(|text| !others.contains(*text)) {
            remove(&self.folder.join(NEAR).join(text))?;
        }
        self.flush()
    }

    /// Writes the marker: from here on a delivery may believe what is not in the register.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn complete(&self, _lock: &Lock, marker: &Marker) -> Result<(), Error> {
        self.flush()?;
        marker.write(&self.folder)
    }

    fn flush(&self) -> Result<(), Error> {
        for folder in [self.folder.join(NEAR), self.folder.join(UNASKED), self.folder.clone()] {
            File::open(&folder).and_then(durable::flush).map_err(|error| failed(&folder, &error))?;
        }
        Ok(())
    }
}

fn create(path: &Path) -> Result<(), Error> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(path, &error)),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path, &error)),
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::KeyStore {
        path: path.into(),
        what: error.to_string(),
        hint: format!(
            "run it as root, and let the mail users enter and read the folder ({} too)",
            names::MARKER
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn user(name: &str) -> User {
        User::parse(name).unwrap()
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_is_not_one_that_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known::new(dir.path(), Trust::of_process(&[]));
        assert!(!known.has(dir.path().join("alice")).unwrap());
        assert!(matches!(known.has(dir.path().join("a".repeat(300))), Err(Error::KeyStore { .. })));
    }

    #[test]
    fn who_is_known_stays_known_until_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known::new(&dir.path().join("lib/known"), Trust::of_process(&[]));
        assert_eq!(known.marker().unwrap(), None);
        let lock = known.lock().unwrap();
        known.note(&lock, [&user("alice@a.org"), &user("alice@b.org"), &user("bob")]).unwrap();
        known.note_asked(&lock, [], [&user("carol")]).unwrap();
        File::open(known.folder.join(UNASKED)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        known.note_asked(&lock, [], [&user("carol")]).unwrap();
        assert!(known.scanned().unwrap() > SystemTime::UNIX_EPOCH, "a scan that finds nothing new is one");
        for (name, expected) in [
            ("alice@a.org", Standing::Known),
            ("alice", Standing::Near),
            ("alice+x@b.org", Standing::Near),
            ("alice@c.org", Standing::Unknown),
            ("bob", Standing::Known),
            ("bob@c.org", Standing::Near),
            ("carol", Standing::Unasked),
            ("dave", Standing::Unknown),
        ] {
            assert_eq!(known.standing(&user(name)).unwrap(), expected, "{name}");
        }
        known.forget(&lock, &user("alice@a.org")).unwrap();
        assert_eq!(known.standing(&user("alice@a.org")).unwrap(), Standing::Unknown);
        assert_eq!(known.standing(&user("alice")).unwrap(), Standing::Near, "for alice@b.org is known");
        known.note_asked(&lock, [&user("carol")], []).unwrap();
        assert_eq!(known.standing(&user("carol")).unwrap(), Standing::Unknown);
        assert_eq!(known.users().unwrap(), BTreeSet::from([user("alice@b.org"), user("bob")]));
    }

    #[test]
    fn what_cannot_be_looked_up_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("known"), "").unwrap();
        let known = Known::new(&dir.path().join("known"), Trust::of_process(&[]));
        assert!(known.standing(&user("alice")).is_err());
        assert!(known.marker().is_err());
    }

    fn register() -> (tempfile::TempDir, Known) {
        let dir = tempfile::tempdir().unwrap();
        let known = Known::new(&dir.path().join("known"), Trust::of_process(&[]));
        (dir, known)
    }

    #[test]
    fn the_register_tells_whom_it_holds() {
        let (dir, known) = register();
        assert_eq!((known.users().unwrap(), known.unasked().unwrap()), (BTreeSet::new(), BTreeSet::new()));
        assert_eq!(known.folder(), dir.path().join("known"));
        let lock = known.lock().unwrap();
        known.note_asked(&lock, [], [&user("alice"), &user("bob")]).unwrap();
        known.note(&lock, [&user("alice")]).unwrap();
        assert_eq!(known.users().unwrap(), BTreeSet::from([user("alice")]));
        assert_eq!(known.unasked().unwrap(), BTreeSet::from([user("bob")]));
        known.forget(&lock, &user("bob")).unwrap();
        assert_eq!(known.unasked().unwrap(), BTreeSet::new());
        assert_eq!(known.marker().unwrap(), None);
        let marker = Marker { id: super::super::marker::Id::new().unwrap(), stores: Vec::new() };
        known.complete(&lock, &marker).unwrap();
        assert_eq!(known.marker().unwrap(), Some(marker));
        for folder in ["", NEAR, UNASKED] {
            let mode = std::fs::metadata(known.folder().join(folder)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755, "{folder:?}: every mail user can enter it");
        }
    }

    #[test]
    fn a_register_that_lacks_a_part_calls_nobody_unknown() {
        let (_dir, known) = register();
        let lock = known.lock().unwrap();
        assert_eq!(known.standing(&user("alice")).unwrap(), Standing::Unknown);
        for part in [NEAR, UNASKED] {
            let part = known.folder().join(part);
            std::fs::remove_dir(&part).unwrap();
            assert!(known.standing(&user("alice")).is_err(), "{part:?}");
            assert!(known.note_asked(&lock, [], []).is_err(), "{part:?}: nothing is on the disk");
            for target in ["nowhere", part.to_str().unwrap(), "/etc/passwd"] {
                symlink(target, &part).unwrap();
                assert!(known.standing(&user("alice")).is_err(), "{part:?} is a link to {target}");
                std::fs::remove_file(&part).unwrap();
            }
            std::fs::create_dir(&part).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_noted_is_an_error() {
        let (_dir, known) = register();
        let lock = known.lock().unwrap();
        let alice = user("alice");
        std::fs::create_dir(known.folder().join(UNASKED).join("alice")).unwrap();
        assert!(known.note(&lock, [&alice]).is_err() && known.forget(&lock, &alice).is_err());
        assert!(known.note_asked(&lock, [&alice], []).is_err());
        std::fs::remove_dir(known.folder().join(UNASKED).join("alice")).unwrap();
        known.note(&lock, [&alice, &alice]).unwrap();
        std::fs::remove_dir_all(known.folder().join(NEAR)).unwrap();
        std::fs::write(known.folder().join(NEAR), "").unwrap();
        assert!(known.note(&lock, [&user("bob")]).is_err());
        std::fs::remove_dir(known.folder().join(UNASKED)).unwrap();
        std::fs::write(known.folder().join(UNASKED), "").unwrap();
        assert!(known.unasked().is_err());
    }

    #[test]
    fn scans_and_changes_hold_their_like_off() {
        let (_dir, known) = register();
        let is_held = |part: &str| File::open(known.folder().join(part)).unwrap().try_lock().is_err();
        let scan = known.lock_scans().unwrap();
        assert!(is_held(UNASKED) && !is_held(""), "the register can be changed");
        let lock = known.lock().unwrap();
        assert!(is_held(""));
        drop((scan, lock));
        assert!(!is_held(UNASKED) && !is_held(""));
    }
}
