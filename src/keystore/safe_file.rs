//! Edge: Reads key files and key folders that nobody but root and the delivery user could have written.
//!
//! What is not there is "nothing" only below a root that is there: a store, or the user's home. Whether the root can be
//! believed is [`super::absence`]'s business.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::names;
use super::source::{Place, Root};
use super::trust::Reached;
use crate::error::Error;
use crate::limits;

/// Octets of a keyring that are read at once.
const PIECE: usize = 256 * 1024;

/// A key file that is open, and that nobody else could have written.
#[derive(Debug)]
pub struct KeyFile {
    file: File,
    path: PathBuf,
    /// Its size when it was opened, in bytes.
    size: u64,
    limit: u64,
}

impl KeyFile {
    /// Opens the file at `place`, of which at most `limit` bytes are read; `None` when there is none.
    ///
    /// # Errors
    /// As [`read`].
    pub fn open(place: &Place, limit: u64) -> Result<Option<Self>, Error> {
        let folder = place.path.parent().unwrap_or(Path::new("/"));
        let file = if reach(&place.at(folder.into()))? { Self::open_in_folder(place, limit)? } else { None };
        if file.is_some() {
            check_above(place)?;
        }
        Ok(file)
    }

    fn open_in_folder(place: &Place, limit: u64) -> Result<Option<Self>, Error> {
        let path = &place.path;
        let file = match open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
                return Err(refused(path, "it is a symbolic link", "put the file itself there"));
            }
            Err(error) => return Err(unreadable(path, &error)),
        };
        let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
        if !metadata.is_file() {
            return Err(refused(path, "it is not a regular file", "put a file with the certificate there"));
        }
        place.trust.check(path, &metadata)?;
        Ok(Some(Self { file, path: path.clone(), size: metadata.len(), limit }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it, whatever was read of it before.
    ///
    /// # Errors
    /// [`Error::KeyStore`] when it cannot be read or is larger than the limit.
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        (&self.file).rewind().map_err(|error| unreadable(&self.path, &error))?;
        self.read_on()
    }

    fn read_on(&self) -> Result<Vec<u8>, Error> {
        self.check_size(self.size)?;
        let size = self.size as usize;
        let mut bytes = vec![0; size + 1];
        // With room for one more, its size is its end: it is as long as it was when it was opened.
        let filled = self.fill(&mut bytes, size)?;
        bytes.truncate(filled);
        if filled > size {
            let rest = (&self.file).take(self.limit - self.size).read_to_end(&mut bytes);
            rest.map_err(|error| unreadable(&self.path, &error))?;
            self.check_size(bytes.len() as u64)?;
        }
        Ok(bytes)
    }

    /// Reads the file a piece at a time, where all of it would be too much to hold. `take` is given what it has not taken so
    /// far and some more, and whether the file ends with that; it answers how much of it is done with, or `None` to stop.
    /// Answers whether the end was reached.
    ///
    /// # Errors
    /// As [`KeyFile::read`], and those of `take`.
    pub fn in_pieces(
        &self,
        mut take: impl FnMut(&[u8], bool) -> Result<Option<usize>, Error>,
    ) -> Result<bool, Error> {
        let (mut buffer, mut held, mut read) = (vec![0; PIECE], 0, 0);
        loop {
            if held == buffer.len() {
                // What is longer than a piece is not begun with over and over again.
                buffer.resize(2 * held, 0);
            }
            let room = buffer.len() - held;
            let more = self.fill(&mut buffer[held..], room)?;
            (held, read) = (held + more, read + more as u64);
            self.check_size(read)?;
            let last = more < room;
            let Some(taken) = take(&buffer[..held], last)? else { return Ok(false) };
            if last {
                return Ok(true);
            }
            buffer.copy_within(taken..held, 0);
            held -= taken;
        }
    }

    /// Reads until `enough` octets are in `buffer`, or the file ends; how many there are.
    fn fill(&self, buffer: &mut [u8], enough: usize) -> Result<usize, Error> {
        let mut filled = 0;
        loop {
            match (&self.file).read(&mut buffer[filled..]) {
                Ok(0) => return Ok(filled),
                Ok(more) => filled += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&self.path, &error)),
            }
            if filled >= enough {
                return Ok(filled);
            }
        }
    }

    fn check_size(&self, size: u64) -> Result<(), Error> {
        if size <= self.limit {
            return Ok(());
        }
        let what = format!("it is larger than {} bytes", self.limit);
        Err(refused(&self.path, &what, "enrol it with `mailseal keys add`, which keeps what is needed"))
    }
}

/// Reads the file at `place`, of at most `limit` bytes; `None` when there is none.
///
/// # Errors
/// [`Error::KeyStore`] when the file or a folder on the way cannot be read or must not be trusted, [`Error::Home`] when the
/// home is not there.
pub fn read(place: &Place, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    KeyFile::open(place, limit)?.map(|file| file.read_on()).transpose()
}

/// [`read`] in a folder that must be there.
///
/// # Errors
/// As [`read`].
pub fn read_in_store(place: &Place, folder: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    match place.trust.walk(folder, Path::new("/"))? {
        Reached::There(_) => read_in_folder(place, limit),
        Reached::Missing => Err(missing(folder)),
    }
}

/// [`read`] where the file's folder has been reached.
///
/// # Errors
/// As [`read`].
pub fn read_in_folder(place: &Place, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    KeyFile::open_in_folder(place, limit)?.map(|file| file.read_on()).transpose()
}

/// Judges what lies above the root of `place`, where something was found there: in a home, what is not there is judged from
/// the home down only, but whoever can replace the home can put a certificate there.
///
/// # Errors
/// [`Error::KeyStore`].
pub fn check_above(place: &Place) -> Result<(), Error> {
    match &place.root {
        Root::Home { home, .. } => place.trust.walk(home, Path::new("/")).map(drop),
        Root::Store(_) => Ok(()),
    }
}

/// Whether the folder at `place` is there; if so, nobody else can write there.
///
/// # Errors
/// As [`read`].
pub fn reach(place: &Place) -> Result<bool, Error> {
    let (root, from) = match &place.root {
        Root::Store(store) => (store, Path::new("/")),
        Root::Home { home, within } => {
            if !home_exists(home, within.as_deref(), place)? {
                return Ok(false);
            }
            (home, &**home)
        }
    };
    match place.trust.walk(&place.path, from)? {
        Reached::There(metadata) if metadata.is_dir() => Ok(true),
        Reached::There(_) => {
            Err(refused(&place.path, "it is not a folder", "make it a folder, or correct the key source"))
        }
        Reached::Missing => match place.trust.walk(root, from)? {
            Reached::There(_) => Ok(false),
            Reached::Missing => Err(missing(root)),
        },
    }
}

/// Whether the home is there; one that is not there may be made still, in a folder `within` which homes lie.
fn home_exists(home: &Path, within: Option<&Path>, place: &Place) -> Result<bool, Error> {
    let failed = |what: String| Error::Home { path: home.into(), what };
    match (std::fs::metadata(home), within) {
        (Ok(metadata), _) if metadata.is_dir() => Ok(true),
        (Ok(_), _) => Err(failed("is not a folder".into())),
        (Err(error), Some(homes)) if error.kind() == ErrorKind::NotFound => {
            if matches!(place.trust.walk(homes, Path::new("/"))?, Reached::Missing) {
                return Err(missing(homes));
            }
            // A link on the way that leads nowhere is refused.
            place.trust.walk(home, homes).map(|_| false)
        }
        (Err(error), _) => Err(failed(format!("cannot be reached: {error}"))),
    }
}

/// What a folder holds.
#[derive(Debug)]
pub struct Listing {
    /// What is read as a key file, in the order of the names.
    pub files: Vec<PathBuf>,
    /// Everything else but the marker.
    pub others: Vec<PathBuf>,
}

/// What is in the folder at `place`; `None` when the folder is not there.
///
/// # Errors
/// As [`read`]; [`Error::KeyStore`] also where there are more than [`limits::KEY_FILE_CERTIFICATES`] of a kind.
pub fn list(place: &Place) -> Result<Option<Listing>, Error> {
    if !reach(place)? {
        return Ok(None);
    }
    let folder = &place.path;
    let mut listing = Listing { files: Vec::new(), others: Vec::new() };
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && is_named_as_key(&path) {
            listing.files.push(path);
        } else if entry.file_name() != names::MARKER {
            listing.others.push(path);
        }
        if listing.files.len().max(listing.others.len()) > limits::KEY_FILE_CERTIFICATES {
            let what = format!("it holds more than {} files", limits::KEY_FILE_CERTIFICATES);
            return Err(refused(folder, &what, "leave only the certificates of one user there"));
        }
    }
    listing.files.sort();
    listing.others.sort();
    Ok(Some(listing))
}

/// The names that fit in the folder at `place`, in order; none when the folder is not there.
///
/// # Errors
/// As [`read`].
pub fn names(place: &Place, fits: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    if reach(place)? { names_here(place, fits) } else { Ok(Vec::new()) }
}

/// [`names()`] where the folder that `place` lies in has been reached.
///
/// # Errors
/// As [`read`].
pub fn names_in_folder(place: &Place, fits: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    match std::fs::symlink_metadata(&place.path) {
        // All above it was judged then.
        Ok(metadata) if metadata.is_dir() => {
            place.trust.check(&place.path, &metadata)?;
            names_here(place, fits)
        }
        _ => names(place, fits),
    }
}

fn names_here(place: &Place, fits: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&place.path).map_err(|error| unreadable(&place.path, &error))? {
        let entry = entry.map_err(|error| unreadable(&place.path, &error))?;
        names.extend(entry.file_name().into_string().ok().filter(|name| fits(name)));
    }
    names.sort();
    Ok(names)
}

/// Whether a file's name ends as that of a key file.
#[must_use]
pub fn is_named_as_key(path: &Path) -> bool {
    path.extension().is_some_and(|end| names::KEY_FILES.iter().any(|it| end.eq_ignore_ascii_case(it)))
}

/// Opens without following a link at the end, and without waiting for the other end of a FIFO.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
}

fn refused(path: &Path, what: &str, hint: &str) -> Error {
    Error::KeyStore { path: path.into(), what: what.into(), hint: hint.into() }
}

fn missing(folder: &Path) -> Error {
    let hint = "mount it, or make it (install -d -m 755 FOLDER) and run `mailseal keys init`";
    refused(folder, "there is no such folder", hint)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    refused(path, &error.to_string(), hint_unreadable(error))
}

/// What to do about a file or a folder that cannot be read.
pub fn hint_unreadable(error: &io::Error) -> &'static str {
    if error.kind() == ErrorKind::PermissionDenied {
        "let the mail user read it: chmod a+r for a file, a+rx for a folder, and a+x for the folders above it"
    } else {
        "mount it, or look for a damaged disk; to have no certificate for a user, remove only the user's file"
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::keystore::trust::Trust;

    fn in_store(store: &Path, path: &str) -> Place {
        Place { path: store.join(path), root: Root::Store(store.into()), trust: Trust::of_process(&[]) }
    }

    fn in_home(home: &Path, path: &str, within: Option<&Path>) -> Place {
        let root = Root::Home { home: home.into(), within: within.map(Path::to_owned) };
        Place { path: home.join(path), root, trust: Trust::of_process(&[]) }
    }

    fn read_small(place: &Place) -> Result<Option<Vec<u8>>, Error> {
        read(place, limits::KEY_FILE)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn below_a_store_that_is_there_anything_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path();
        for path in ["x.pgp", "no/x.pgp", "x/../y/z"] {
            assert_eq!(read_small(&in_store(store, path)).unwrap(), None, "{path}");
        }
        assert!(list(&in_store(store, "no")).unwrap().is_none());
        let gone = store.join("gone");
        assert!(read_small(&in_store(&gone, "x.pgp")).is_err());
        assert!(read_small(&in_store(&gone, "no/x.pgp")).is_err());
        assert!(list(&in_store(&gone, "")).is_err());
        fs::write(store.join("file"), "").unwrap();
        assert!(read_small(&in_store(store, "file/x.pgp")).is_err());
    }

    #[test]
    fn below_a_home_anything_may_be_missing_but_the_home() {
        let dir = tempfile::tempdir().unwrap();
        const KEY: &str = ".config/mailseal/x.pgp";
        assert_eq!(read_small(&in_home(dir.path(), KEY, None)).unwrap(), None);
        let gone = dir.path().join("example.org/gone");
        assert!(matches!(read_small(&in_home(&gone, KEY, None)), Err(Error::Home { .. })));
        assert!(matches!(list(&in_home(&gone, "keys", None)), Err(Error::Home { .. })));
        // In the folder of homes it may be made still.
        assert_eq!(read_small(&in_home(&gone, KEY, Some(dir.path()))).unwrap(), None);
        let homes = dir.path().join("unmounted");
        assert!(read_small(&in_home(&homes.join("gone"), KEY, Some(&homes))).is_err());
        symlink(dir.path().join("elsewhere"), dir.path().join("example.org")).unwrap();
        assert!(read_small(&in_home(&gone, KEY, Some(dir.path()))).is_err(), "it leads nowhere");
    }

    #[test]
    fn what_others_could_have_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let place = in_store(dir.path(), "x.pgp");
        let file = place.path.clone();
        fs::write(&file, "key").unwrap();
        chmod(&file, 0o644);
        assert_eq!(read_small(&place).unwrap().unwrap(), b"key");
        chmod(&file, 0o666);
        assert!(read_small(&place).unwrap_err().to_string().contains("everybody"));
        chmod(&file, 0o644);
        chmod(dir.path(), 0o777);
        assert!(read_small(&place).unwrap_err().to_string().contains("everybody"));
        assert!(list(&in_store(dir.path(), "")).is_err());
        chmod(dir.path(), 0o700);
    }

    #[test]
    fn a_home_is_judged_from_the_home_down_and_a_find_from_the_root_down() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("homes/alice");
        fs::create_dir_all(home.join(".config/mailseal")).unwrap();
        let place = in_home(&home, ".config/mailseal/x.pgp", None);
        chmod(&dir.path().join("homes"), 0o777);
        assert_eq!(read_small(&place).unwrap(), None);
        fs::write(&place.path, "key").unwrap();
        assert!(read_small(&place).is_err());
        chmod(&dir.path().join("homes"), 0o755);
        assert!(read_small(&place).is_ok());
        fs::remove_file(&place.path).unwrap();
        for open in ["", ".config", ".config/mailseal"] {
            chmod(&home.join(open), 0o777);
            assert!(read_small(&place).is_err(), "{open:?}");
            chmod(&home.join(open), 0o755);
        }
    }

    #[test]
    fn links_fifos_folders_and_giants_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("real"), "key").unwrap();
        symlink(at("real"), at("link")).unwrap();
        symlink(at("gone"), at("dangling")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        File::create(at("giant")).unwrap().set_len(1 << 30).unwrap();
        for name in ["link", "dangling", "folder", "fifo", "giant"] {
            let result = read_small(&in_store(dir.path(), name));
            assert!(matches!(result, Err(Error::KeyStore { .. })), "{name}");
        }
    }

    #[test]
    fn folders_are_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.pgp", "a.asc", "c.GPG", "d.key", ".hidden.pgp", "notes.txt", names::MARKER] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let listing = list(&in_store(dir.path(), "")).unwrap().unwrap();
        assert_eq!(listing.files, ["a.asc", "b.pgp", "c.GPG", "d.key"].map(|name| dir.path().join(name)));
        assert_eq!(listing.others, [".hidden.pgp", "notes.txt"].map(|name| dir.path().join(name)));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let place = in_store(dir.path(), "x.pgp");
        for (length, limit, fit) in
            [(0, 0, true), (1, 0, false), (10, 10, true), (11, 10, false), (10, 11, true)]
        {
            fs::write(&place.path, vec![7; length]).unwrap();
            match read(&place, limit) {
                Ok(bytes) => assert!(fit && bytes == Some(vec![7; length]), "{length} {limit}"),
                Err(error) => {
                    assert!(!fit && error.to_string().contains("larger than"), "{length} {limit}: {error}")
                }
            }
            assert_eq!(read_in_store(&place, dir.path(), limit).is_ok(), fit, "{length} {limit}");
        }
        fs::remove_file(&place.path).unwrap();
        assert_eq!(read_in_store(&place, dir.path(), 1).unwrap(), None);
        assert!(read_in_store(&place, &dir.path().join("gone"), 1).is_err());
    }

    #[test]
    fn each_refusal_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "key").unwrap();
        symlink(at("file"), at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        let long = "x".repeat(300);
        for (name, expected) in [
            ("link", "it is a symbolic link"),
            ("folder", "it is not a regular file"),
            ("file/x", "Not a directory"),
            (&*long, "File name too long"),
        ] {
            let error = read_in_folder(&in_store(dir.path(), name), 10).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        assert_eq!(read_in_folder(&in_store(dir.path(), "gone"), 10).unwrap(), None);
        let says = |place: &Place| reach(place).unwrap_err().to_string();
        assert!(says(&in_store(dir.path(), "file")).contains("it is not a folder"));
        assert!(says(&in_store(&at("gone"), "")).contains("gone: there is no such folder"));
        assert!(says(&in_home(&at("file"), "x", None)).contains("is not a folder"));
        assert!(says(&in_home(&at("file/home"), "x", Some(dir.path()))).contains("cannot be reached"));
        assert!(
            reach(&in_home(&at("folder"), "", None)).unwrap()
                && !reach(&in_home(&at("folder"), "x", None)).unwrap()
        );
    }

    #[test]
    fn a_folder_has_a_bounded_number_of_files_of_each_kind() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..limits::KEY_FILE_CERTIFICATES {
            fs::write(dir.path().join(format!("{number}.pgp")), "").unwrap();
            fs::write(dir.path().join(format!("{number}.txt")), "").unwrap();
        }
        let place = in_store(dir.path(), "");
        let listing = list(&place).unwrap().unwrap();
        assert_eq!(listing.files.len() + listing.others.len(), 2 * limits::KEY_FILE_CERTIFICATES);
        for name in ["more.pgp", "more.txt"] {
            fs::write(dir.path().join(name), "").unwrap();
            assert!(list(&place).unwrap_err().to_string().contains("more than"), "{name}");
            fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
}
