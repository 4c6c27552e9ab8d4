//! Edge: The folder in which an admin enrols certificates: that of the first `file:` source.
//!
//! One file a user, `NAME.pgp`, replaced whole. Beside it `NAME.pgp.test` remembers the code of a test message that
//! was sent, and `NAME.pgp.confirmed` the certificates that the user has shown to be able to read with.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::any_cert::{self, AnyCert};
use super::census::{self, Entry};
use super::names::{CONFIRMED, TEST};
use super::source::{Kind, Place, Root, Source, Values};
use super::trust::Trust;
use super::{parse, safe_file};
use crate::config::Keys;
use crate::error::Error;
use crate::keystore::user::User;
use crate::limits;
use mailseal_maildir::durable;

/// Rights of what is written: certificates are public, and only root changes them.
const MODE: u32 = 0o644;

/// The folder.
#[derive(Clone, Copy, Debug)]
pub struct Enrolled<'a> {
    source: &'a Source,
    groups: &'a [u32],
}

/// Holds other enrolments off until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _folder: File,
}

/// One user's file in the folder.
#[derive(Debug)]
pub struct KeyFile {
    place: Place,
}

impl<'a> Enrolled<'a> {
    /// The folder of the first `file:` source.
    ///
    /// # Errors
    /// [`Error::Usage`] where no such source is configured.
    pub fn of(keys: &'a Keys) -> Result<Self, Error> {
        match keys.sources.iter().find(|source| source.kind == Kind::File) {
            Some(source) => Ok(Self { source, groups: keys.trusted_groups.ids() }),
            None => Err(Error::Usage {
                what: "no `file:` source is configured, and only there certificates are enrolled".into(),
                hint: "add \"file:/etc/mailseal/keys/%{user}.pgp\" to `sources` in [keys]".into(),
            }),
        }
    }

    /// The file of `user`, whose home is `home`.
    ///
    /// # Errors
    /// Those of [`super::source::Template::place`].
    pub fn file(&self, user: &User, home: Option<&Path>) -> Result<KeyFile, Error> {
        let values = Values { user, home, homes: &[] };
        let place = self.source.path.place(Kind::File, &values, &Trust::of_process(self.groups))?;
        let trust = match place.root {
            Root::Home { .. } => place.trust,
            // An admin's own id is not that of the deliveries.
            Root::Store(_) => Trust::of_owner(&place.path, self.groups),
        };
        Ok(KeyFile { place: Place { trust, ..place } })
    }

    /// Whether it is not one folder, but one in each user's home.
    #[must_use]
    pub fn is_in_homes(&self) -> bool {
        self.source.path.store(self.source.kind).is_none()
    }

    /// What lies in the folder, in the order of its names.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where the folder cannot be read, [`Error::Usage`] where it is not one for all users.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        if self.source.path.patterns().is_none_or(|parts| parts.iter().all(|part| part.variable.is_none())) {
            return Err(Error::Usage {
                what: "the first `file:` source has no folder for all users".into(),
                hint: "give it the form \"file:/FOLDER/%{user}.pgp\", or name the users".into(),
            });
        }
        census::take(self.source)
    }
}

impl KeyFile {
    /// The same file, judged as for deliveries with these rights.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Self {
        Self { place: Place { trust, ..self.place } }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Waits until no other enrolment is under way in this folder.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where the folder does not exist, and for one in a home that others can replace.
    pub fn lock(&self) -> Result<Lock, Error> {
        self.judge_home()?;
        let folder = self.folder();
        let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_DIRECTORY).open(folder);
        let file = file.and_then(|file| file.lock().map(|()| file));
        Ok(Lock { _folder: file.map_err(|error| failed(folder, &error))? })
    }

    fn folder(&self) -> &Path {
        self.path().parent().unwrap_or(Path::new("/"))
    }

    /// Refuses a folder in a home where anybody but root and whoever runs this could have put a link. So root writes into a
    /// home that is root's own, and into no other.
    fn judge_home(&self) -> Result<(), Error> {
        match self.place.root {
            Root::Home { .. } => self.place.trust.walk(self.folder(), Path::new("/")).map(drop),
            Root::Store(_) => Ok(()),
        }
    }

    /// The certificates in it; none where there is no file.
    ///
    /// # Errors
    /// Those of [`safe_file::read`] and [`parse`].
    pub fn load(&self) -> Result<Vec<AnyCert>, Error> {
        match safe_file::read(&self.place, limits::KEY_FILE)? {
            Some(bytes) => parse(&bytes, self.path()),
            None => Ok(Vec::new()),
        }
    }

    /// Puts `certs` in place of what it holds, or removes it where there are none.
    ///
    /// # Errors
    /// [`Error::KeyStore`]; what it held is still there then.
    pub fn store(&self, certs: &[AnyCert]) -> Result<(), Error> {
        if certs.is_empty() {
            for path in [self.test_path(), self.confirmed_path(), self.path().into()] {
                remove(&path).map_err(|error| failed(&path, &error))?;
            }
            return Ok(());
        }
        let bytes = any_cert::serialize(certs)?;
        durable::write(self.path(), &bytes, MODE).map_err(|error| failed(self.path(), &error))
    }

    /// Moves it, and what lies beside it, to the place of `to`, which is another user's.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn rename(&self, to: &Self) -> Result<(), Error> {
        let beside = [(self.test_path(), to.test_path()), (self.confirmed_path(), to.confirmed_path())];
        for (from, to) in beside.into_iter().chain([(self.path().into(), to.path().into())]) {
            match std::fs::rename(&from, &to) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&from, &error)),
                _ => {}
            }
        }
        let folder = to.folder();
        File::open(folder).and_then(durable::flush).map_err(|error| failed(folder, &error))
    }

    /// Remembers that a test message with a code of this hash was made.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn remember_test(&self, code_hash: &str, certs: &[AnyCert]) -> Result<(), Error> {
        self.judge_home()?;
        let text =
            std::iter::once(code_hash.to_owned()).chain(fingerprints(certs)).collect::<Vec<_>>().join("\n");
        durable::write(&self.test_path(), text.as_bytes(), MODE)
            .map_err(|error| failed(&self.test_path(), &error))
    }

    /// Records that the user can read what is sealed to the certificates of the test message, if the code of this hash
    /// was in it; whether it was.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn confirm(&self, code_hash: &str) -> Result<bool, Error> {
        let lines = self.lines(&self.test_path())?;
        let Some((expected, tested)) = lines.split_first() else { return Ok(false) };
        if expected != code_hash {
            return Ok(false);
        }
        let path = self.confirmed_path();
        let mut confirmed = self.lines(&path)?;
        confirmed.extend(tested.iter().cloned());
        confirmed.sort();
        confirmed.dedup();
        durable::write(&path, confirmed.join("\n").as_bytes(), MODE)
            .map_err(|error| failed(&path, &error))?;
        remove(&self.test_path()).map_err(|error| failed(&self.test_path(), &error))?;
        Ok(true)
    }

    /// Whether the user has shown to be able to read what is sealed to one of `certs`.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn is_confirmed(&self, certs: &[AnyCert]) -> Result<bool, Error> {
        let confirmed = self.lines(&self.confirmed_path())?;
        Ok(fingerprints(certs).any(|fingerprint| confirmed.contains(&fingerprint)))
    }

    fn lines(&self, path: &Path) -> Result<Vec<String>, Error> {
        let bytes = safe_file::read(&self.place.at(path.into()), limits::KEY_FILE)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }

    fn test_path(&self) -> PathBuf {
        self.beside(TEST)
    }

    fn confirmed_path(&self) -> PathBuf {
        self.beside(CONFIRMED)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path().as_os_str().to_owned();
        path.push(suffix);
        path.into()
    }
}

fn fingerprints(certs: &[AnyCert]) -> impl Iterator<Item = String> {
    certs.iter().map(AnyCert::fingerprint)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::NotFound => "mount it; on a new installation, make it: install -d -m 755 FOLDER",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room; what was enrolled before is still there"
        }
        _ => "let root write there, or in a home its owner; what was enrolled before is still there",
    };
    Error::KeyStore { path: path.into(), what: error.to_string(), hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use testing::made;

    use super::*;
    use crate::keystore::samples::{Site, open_to_all, refusal};

    fn user(name: &str) -> User {
        User::parse(name).unwrap()
    }

    fn file(site: &Site, name: &str) -> KeyFile {
        Enrolled::of(&site.keys(&["file:DIR/keys/%{user}.pgp"])).unwrap().file(&user(name), None).unwrap()
    }

    #[test]
    fn what_cannot_be_stored_is_said_with_what_helps() {
        for (errno, help) in [
            (nix::libc::ENOENT, "mount it"),
            (nix::libc::ENOSPC, "make room"),
            (nix::libc::EDQUOT, "make room"),
            (nix::libc::EACCES, "let root write there"),
        ] {
            let error = failed(Path::new("/k/alice.pgp"), &io::Error::from_raw_os_error(errno));
            assert!(error.hint().starts_with(help), "{}", error.hint());
            assert!(error.to_string().contains("/k/alice.pgp"), "{error}");
        }
    }

    #[test]
    fn the_first_file_source_is_enrolled_in() {
        let site = Site::new();
        let keys = site.keys(&["dir:DIR/more", "file:DIR/keys/%{user}.pgp", "file:%{home}/x.pgp"]);
        let enrolled = Enrolled::of(&keys).unwrap();
        assert!(!enrolled.is_in_homes());
        assert_eq!(enrolled.file(&user("alice"), None).unwrap().path(), site.at("keys/alice.pgp"));
        assert!(enrolled.entries().unwrap().is_empty());
        site.write("keys/alice.pgp", b"");
        let entries = enrolled.entries().unwrap();
        assert_eq!(
            entries,
            [Entry { path: site.at("keys/alice.pgp"), user: Some(user("alice")), is_read: true }]
        );

        let keys = site.keys(&["file:%{home}/x.pgp"]);
        let enrolled = Enrolled::of(&keys).unwrap();
        assert!(enrolled.is_in_homes());
        assert!(matches!(enrolled.entries(), Err(Error::Usage { .. })));
        assert!(matches!(enrolled.file(&user("alice"), None), Err(Error::Home { .. })));
        let keys = site.keys(&["file:DIR/keys/all.pgp"]);
        assert!(
            matches!(Enrolled::of(&keys).unwrap().entries(), Err(Error::Usage { .. })),
            "one file for all"
        );
        assert!(matches!(Enrolled::of(&site.keys(&["dir:DIR/keys"])), Err(Error::Usage { .. })));
    }

    #[test]
    fn what_is_stored_is_loaded_until_it_is_removed() {
        let site = Site::new();
        let alice = file(&site, "alice");
        let certs = ["Alice", "Alice's phone"]
            .map(|name| AnyCert::from(made::cert(name).strip_secret_key_material()));
        assert_eq!(alice.load().unwrap(), []);
        alice.store(&certs).unwrap();
        assert_eq!(alice.load().unwrap(), certs);
        alice.remember_test("code", &certs).unwrap();
        assert!(alice.confirm("code").unwrap());
        alice.remember_test("code", &certs).unwrap();
        alice.store(&[]).unwrap();
        assert_eq!(alice.load().unwrap(), []);
        assert_eq!(std::fs::read_dir(site.at("keys")).unwrap().count(), 0, "nor what lay beside it");
        alice.store(&[]).unwrap();
        std::fs::create_dir(alice.path()).unwrap();
        assert!(alice.store(&[]).is_err() && alice.store(&certs).is_err() && alice.load().is_err());
    }

    #[test]
    fn only_the_code_of_the_test_confirms() {
        let site = Site::new();
        let alice = file(&site, "alice");
        let [one, other] = ["Alice", "Alice's phone"].map(|name| AnyCert::from(made::cert(name)));
        let both = [one.clone(), other.clone()];
        assert!(!alice.confirm("code").unwrap(), "no test was made");
        alice.remember_test("code", std::slice::from_ref(&one)).unwrap();
        assert!(!alice.confirm("edoc").unwrap() && !alice.is_confirmed(&both).unwrap());
        assert!(alice.confirm("code").unwrap());
        assert!(alice.is_confirmed(&both).unwrap());
        assert!(
            !alice.is_confirmed(std::slice::from_ref(&other)).unwrap() && !alice.is_confirmed(&[]).unwrap()
        );
        assert!(!alice.confirm("code").unwrap(), "a code counts once");
        alice.remember_test("next", std::slice::from_ref(&other)).unwrap();
        assert!(alice.confirm("next").unwrap());
        for cert in both {
            assert!(alice.is_confirmed(&[cert]).unwrap(), "what was confirmed before stays so");
        }
        assert!(!file(&site, "bob").confirm("next").unwrap());
    }

    #[test]
    fn all_of_a_user_moves_to_another_name() {
        let site = Site::new();
        let (from, to) = (file(&site, "alice"), file(&site, "alice@example.org"));
        let certs = [made::cert("Alice").strip_secret_key_material().into()];
        from.store(&certs).unwrap();
        from.rename(&to).unwrap();
        assert_eq!((from.load().unwrap().len(), to.load().unwrap().len()), (0, 1), "with nothing beside it");
        to.rename(&from).unwrap();
        from.remember_test("one", &certs).unwrap();
        assert!(from.confirm("one").unwrap());
        from.remember_test("other", &certs).unwrap();
        from.rename(&to).unwrap();
        assert!(to.is_confirmed(&certs).unwrap() && to.confirm("other").unwrap());
        assert!(!from.is_confirmed(&certs).unwrap() && from.load().unwrap().is_empty());
        std::fs::create_dir(from.path()).unwrap();
        assert!(to.rename(&from).is_err(), "there is a folder in its place");
    }

    #[test]
    fn one_enrolment_holds_another_off() {
        let site = Site::new();
        let lock = file(&site, "alice").lock().unwrap();
        let folder = || File::open(site.at("keys")).unwrap();
        assert!(folder().try_lock().is_err());
        drop(lock);
        assert!(folder().try_lock().is_ok());
        let keys = site.keys(&["file:DIR/gone/%{user}.pgp"]);
        let gone = Enrolled::of(&keys).unwrap().file(&user("alice"), None).unwrap();
        for failed in [gone.lock().map(drop), gone.store(&[made::cert("Alice").into()])] {
            assert!(failed.unwrap_err().hint().contains("install -d"));
        }
        site.write("file/x", b"");
        let keys = site.keys(&["file:DIR/file/x/%{user}.pgp"]);
        let inside = Enrolled::of(&keys).unwrap().file(&user("alice"), None).unwrap();
        assert!(!inside.store(&[made::cert("Alice").into()]).unwrap_err().hint().contains("install -d"));
    }

    #[test]
    fn a_home_that_others_can_replace_is_not_written_to() {
        let site = Site::new();
        let keys = site.keys(&["file:%{home}/alice.pgp"]);
        let home = site.at("homes/alice");
        let file = || Enrolled::of(&keys).unwrap().file(&user("alice"), Some(&home)).unwrap();
        let certs = [made::cert("Alice").strip_secret_key_material().into()];
        file().store(&certs).unwrap();
        for open in ["homes", "homes/alice"] {
            open_to_all(&site.at(open), true);
            assert!(refusal(file().lock()).contains("everybody"), "{open}");
            assert!(refusal(file().remember_test("code", &certs)).contains("everybody"), "{open}");
            open_to_all(&site.at(open), false);
        }
        assert!(file().lock().is_ok() && file().remember_test("code", &certs).is_ok());
    }

    #[test]
    fn a_file_is_judged_as_for_its_owner_or_for_deliveries() {
        let site = Site::new();
        let alice = file(&site, "alice");
        alice.store(&[made::cert("Alice").strip_secret_key_material().into()]).unwrap();
        assert_eq!(alice.load().unwrap().len(), 1);
        let mut owner = nix::unistd::geteuid().as_raw();
        if owner == 0 {
            // Root is trusted always.
            owner = 12345;
            std::os::unix::fs::chown(alice.path(), Some(owner), None).unwrap();
        }
        let alice = file(&site, "alice").trusting(Trust::of(owner, &[]));
        assert_eq!(alice.load().unwrap().len(), 1);
        assert!(refusal(alice.trusting(Trust::of(owner + 1, &[])).load()).contains("belongs to the user id"));
    }
}
