//! Edge: Reads key files and key folders that nobody but root and the delivery user could have written.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid};

use super::source::{Owner, Place};
use crate::error::Error;
use crate::limits;

/// Writable by the group, and by all.
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// In such a folder nobody replaces the files of others.
const STICKY: u32 = 0o1000;

/// Reads the file at `place`, of at most `limit` bytes; `None` when there is none, as [`crate::keystore`] defines that.
///
/// # Errors
/// [`Error::KeyStore`] when the file or its folder cannot be read or must not be trusted, [`Error::Home`] when the home
/// is not there.
pub fn read(place: &Place, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let folder = place.path.parent().unwrap_or(Path::new("/"));
    if check_folder(&place.at(folder.into()))? { read_in_folder(place, limit) } else { Ok(None) }
}

/// [`read`] where the file's folder has been checked.
///
/// # Errors
/// As [`read`].
pub fn read_in_folder(place: &Place, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let path = &place.path;
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            return Err(refused(path, "it is a symbolic link", "put the file itself there"));
        }
        Err(error) => return Err(unreadable(path, &error)),
    };
    let size = check(place, &file)?;
    // Without room, reading begins with pieces of 32 bytes.
    let mut bytes = Vec::with_capacity(size.min(limit) as usize + 1);
    file.by_ref().take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > limit {
        let what = format!("it is larger than {limit} bytes");
        return Err(refused(path, &what, "enrol it with `mailseal keys add`, which keeps what is needed"));
    }
    Ok(Some(bytes))
}

/// Refuses the open `file` at `place` when it is no regular file or someone else could have written it; its size.
///
/// # Errors
/// [`Error::KeyStore`].
fn check(place: &Place, file: &File) -> Result<u64, Error> {
    let metadata = file.metadata().map_err(|error| unreadable(&place.path, &error))?;
    if !metadata.is_file() {
        return Err(refused(&place.path, "it is no regular file", "put a file with the certificate there"));
    }
    check_rights(place, &metadata)?;
    Ok(metadata.len())
}

/// Whether the folder at `place` is there, as [`crate::keystore`] defines that, and fit to hold keys.
///
/// # Errors
/// As [`read`].
pub fn folder_exists(place: &Place) -> Result<bool, Error> {
    let parent = place.path.parent().unwrap_or(Path::new("/"));
    if !is_there(parent, place.home.as_deref())? {
        return Ok(false);
    }
    match std::fs::metadata(&place.path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            refuse_dangling(&place.path, place.home.as_deref()).map(|()| false)
        }
        _ => check_folder(place),
    }
}

/// The files in the folder at `place` that may hold certificates, in the order of their names; `None` when the folder
/// is not there.
///
/// # Errors
/// As [`read`].
pub fn list(place: &Place) -> Result<Option<Vec<PathBuf>>, Error> {
    if !folder_exists(place)? {
        return Ok(None);
    }
    let folder = &place.path;
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|suffix| suffix == "pgp" || suffix == "asc") {
            files.push(path);
        }
        if files.len() > limits::KEY_FILE_CERTIFICATES {
            let what = format!("it holds more than {} files", limits::KEY_FILE_CERTIFICATES);
            return Err(refused(folder, &what, "leave only the certificates of one user there"));
        }
    }
    files.sort();
    Ok(Some(files))
}

/// Whether `folder` is there. Below an existing home it need not be; elsewhere its absence is an error, because an
/// unmounted key store must not look like a store without keys.
fn is_there(folder: &Path, home: Option<&Path>) -> Result<bool, Error> {
    if let Some(home) = home {
        let failed = |what: String| Error::Home { path: home.into(), what };
        match std::fs::metadata(home) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(failed("is no folder".into())),
            Err(error) => return Err(failed(format!("cannot be reached: {error}"))),
        }
    }
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(true),
        Ok(_) => Err(refused(folder, "it is no folder", "make it a folder, or correct the key source")),
        Err(error) if error.kind() == ErrorKind::NotFound && home.is_some() => {
            refuse_dangling(folder, home).map(|()| false)
        }
        Err(error) => Err(unreadable(folder, &error)),
    }
}

/// Refuses a path that is only not there because a link on the way to it leads nowhere: to what is not mounted.
fn refuse_dangling(path: &Path, home: Option<&Path>) -> Result<(), Error> {
    let below_home = |part: &&Path| home.is_none_or(|home| part.starts_with(home) && *part != home);
    match path.ancestors().take_while(below_home).find(|part| part.is_symlink() && !part.exists()) {
        Some(link) => Err(refused(
            link,
            "it is a link that leads nowhere",
            "mount what it leads to, or remove the link",
        )),
        None => Ok(()),
    }
}

/// Whether `folder` is there; if so, nobody else can write there.
///
/// # Errors
/// As [`read`].
pub fn check_folder(folder: &Place) -> Result<bool, Error> {
    if !is_there(&folder.path, folder.home.as_deref())? {
        return Ok(false);
    }
    let metadata = std::fs::metadata(&folder.path).map_err(|error| unreadable(&folder.path, &error))?;
    check_rights(folder, &metadata)?;
    Ok(true)
}

/// Refuses what someone other than root and the delivery user could have written. Its own group may write: so are
/// virtual-mail set-ups often made.
fn check_rights(place: &Place, metadata: &Metadata) -> Result<(), Error> {
    let path = &place.path;
    let sticky = metadata.is_dir() && metadata.mode() & STICKY != 0;
    if metadata.mode() & OTHERS_WRITE != 0 && !sticky {
        return Err(refused(path, "everybody can write to it", "chmod o-w it"));
    }
    if place.owner == Owner::Anybody {
        return Ok(());
    }
    if ![0, geteuid().as_raw()].contains(&metadata.uid()) {
        let what = format!("it belongs to the user id {}", metadata.uid());
        return Err(refused(path, &what, "chown it to root or to the mail user"));
    }
    let trusted_group = [0, getegid().as_raw()].contains(&metadata.gid());
    if metadata.mode() & GROUP_WRITE != 0 && !trusted_group && !sticky {
        let what = format!("the group id {} can write to it", metadata.gid());
        return Err(refused(path, &what, "chmod g-w it"));
    }
    Ok(())
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

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let hint = "mount it, or let the mail user read it; to have no certificate for a user, remove only the user's file";
    refused(path, &error.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn place(path: &Path) -> Place {
        Place { path: path.into(), home: None, owner: Owner::RootOrSelf }
    }

    fn read_small(place: &Place) -> Result<Option<Vec<u8>>, Error> {
        read(place, limits::KEY_FILE)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_a_missing_last_component_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_small(&place(&dir.path().join("x.pgp"))).unwrap(), None);
        assert!(read_small(&place(&dir.path().join("no/x.pgp"))).is_err());
        assert_eq!(list(&place(&dir.path().join("no"))).unwrap(), None);
        assert!(list(&place(&dir.path().join("no/keys"))).is_err());
        assert!(read_small(&place(&dir.path().join("x/../y/z"))).is_err());
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(read_small(&place(&dir.path().join("file/x.pgp"))).is_err());
    }

    #[test]
    fn below_a_home_anything_may_be_missing_but_the_home() {
        let dir = tempfile::tempdir().unwrap();
        let below = |home: PathBuf| Place {
            path: home.join(".config/mailseal/x.pgp"),
            home: Some(home),
            owner: Owner::RootOrSelf,
        };
        assert_eq!(read_small(&below(dir.path().into())).unwrap(), None);
        assert!(matches!(read_small(&below(dir.path().join("gone"))), Err(Error::Home { .. })));
        assert!(matches!(list(&below(dir.path().join("gone"))), Err(Error::Home { .. })));
    }

    #[test]
    fn what_others_could_have_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pgp");
        fs::write(&file, "key").unwrap();
        chmod(&file, 0o644);
        assert_eq!(read_small(&place(&file)).unwrap().unwrap(), b"key");
        chmod(&file, 0o666);
        assert!(read_small(&place(&file)).unwrap_err().to_string().contains("everybody"));
        chmod(&file, 0o644);
        chmod(dir.path(), 0o777);
        assert!(read_small(&place(&file)).unwrap_err().to_string().contains("everybody"));
        assert!(list(&place(dir.path())).is_err());
        chmod(dir.path(), 0o1777);
        assert!(read_small(&place(&file)).is_ok());
        chmod(dir.path(), 0o700);
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
            assert!(matches!(read_small(&place(&at(name))), Err(Error::KeyStore { .. })), "{name}");
        }
    }

    #[test]
    fn folders_are_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.pgp", "a.asc", ".hidden.pgp", "notes.txt"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let files = list(&place(dir.path())).unwrap().unwrap();
        assert_eq!(files, ["a.asc", "b.pgp"].map(|name| dir.path().join(name)));
    }
}
