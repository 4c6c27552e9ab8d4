//! Edge: The folder of held mail: what may be in it, and how something gets there.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mailseal_maildir::durable;
use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;
use crate::system::process;

/// What a file is called until it is whole.
const UNFINISHED: &str = ".new-";

/// Most files of one user that are looked at in one run, the oldest first.
pub const MOST: usize = 1000;

/// After how long an unfinished file is left over from a program that was ended.
const LEFT_OVER: u64 = 24 * 60 * 60;

const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Refuses a folder that is not there, or in which others could take mail away or put their own in its place.
///
/// # Errors
/// [`Error::Held`].
pub fn check(folder: &Path) -> Result<Metadata, Error> {
    let failed = |what: String| {
        Error::Held {
        path: folder.into(),
        what,
        hint: "make it as root: install -d -m 1733 FOLDER; contrib/systemd/mailseal.tmpfiles does so at each start".into(),
    }
    };
    let metadata = std::fs::symlink_metadata(folder).map_err(|error| failed(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(failed("it is not a folder".into()));
    }
    if ![0, process::user()].contains(&metadata.uid()) {
        return Err(failed(format!("it belongs to the user id {}", metadata.uid())));
    }
    let mode = metadata.mode();
    if mode & 0o022 != 0 && mode & STICKY == 0 {
        return Err(failed("others can take away what is in it (mode without the sticky bit)".into()));
    }
    if mode & OTHERS_WRITE != 0 && mode & 0o044 != 0 {
        return Err(failed("others can see what is in it".into()));
    }
    Ok(metadata)
}

/// Puts a file there that `write` fills: under a new name, or in the place of `old`, whose owner it gets. It is there whole or
/// not at all, and on the disk when this returns.
///
/// # Errors
/// Those of the file system and of `write`.
pub fn put(
    folder: &Path,
    old: Option<&Held>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut new = tempfile::Builder::new().prefix(UNFINISHED).rand_bytes(20).tempfile_in(folder)?;
    write(new.as_file_mut())?;
    if let Some(old) = old {
        fchown(new.as_file(), Some(old.uid), Some(old.gid))?;
    }
    durable::flush(new.as_file())?;
    let file = match old {
        Some(old) => new.persist(&old.path)?,
        None => {
            let unique = new.path().file_name().map(|name| name.to_string_lossy().into_owned());
            let unique = unique.unwrap_or_default().split_off(UNFINISHED.len());
            new.persist_noclobber(folder.join(name(&unique)))?
        }
    };
    // The folder is flushed where it can be opened; whoever may only write to it flushes the file again, with which journals
    // bring its new name to the disk as well.
    match File::open(folder) {
        Ok(folder) => durable::flush(folder),
        Err(_) => durable::flush(file),
    }
}

/// What the newest is called. The oldest comes first in the order of names.
fn name(unique: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("{now:016x}-{unique}")
}

/// Makes it the newest.
///
/// # Errors
/// Those of the file system.
pub fn put_last(held: &Held) -> io::Result<()> {
    let old = held.name();
    let unique = old.rsplit('-').next().unwrap_or_default();
    std::fs::rename(&held.path, held.path.with_file_name(name(unique)))
}

/// A file in the folder that may be held mail.
#[derive(Clone, Debug)]
pub struct Held {
    /// Where it is.
    pub path: PathBuf,
    /// Its owner, with whose rights it is sent.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its length, in bytes.
    pub size: u64,
}

/// What is in the folder.
#[derive(Debug, Default)]
pub struct Contents {
    /// Held mail, by owner, the oldest first.
    pub mail: BTreeMap<u32, Vec<Held>>,
    /// How many more there are of owners with too many.
    pub more: usize,
    /// What is not held mail, whatever its name, and why.
    pub odd: Vec<(PathBuf, &'static str)>,
}

/// Locks the folder for whoever tries its mail again; `None` where somebody else does that.
///
/// # Errors
/// [`Error::Held`].
pub fn lock(folder: &Path) -> Result<Option<Flock<File>>, Error> {
    let failed = |what: String| Error::Held {
        path: folder.into(),
        what,
        hint: "run it as root, or as the owner of the folder".into(),
    };
    let options = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    let open = OpenOptions::new().read(true).custom_flags(options).open(folder);
    let open = open.map_err(|error| failed(error.to_string()))?;
    match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::Error::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(failed(error.to_string())),
    }
}

/// Looks through the folder. Nothing is opened, and the memory that it takes is bounded for each user.
///
/// # Errors
/// Those of reading the folder.
pub fn contents(folder: &Path) -> io::Result<Contents> {
    let mut contents = Contents::default();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if hidden {
            remove_left_over(&path, &metadata);
            continue;
        }
        match why_odd(&metadata) {
            Some(why) if contents.odd.len() < MOST => contents.odd.push((path, why)),
            Some(_) => contents.more += 1,
            None => {
                let (uid, gid, size) = (metadata.uid(), metadata.gid(), metadata.size());
                let mail = contents.mail.entry(uid).or_default();
                mail.push(Held { path, uid, gid, size });
                if mail.len() >= 2 * MOST {
                    contents.more += shorten(mail);
                }
            }
        }
    }
    for mail in contents.mail.values_mut() {
        contents.more += shorten(mail);
    }
    contents.odd.sort();
    Ok(contents)
}

/// Keeps the oldest; how many were left out.
fn shorten(mail: &mut Vec<Held>) -> usize {
    mail.sort_by(|one, other| one.path.cmp(&other.path));
    let more = mail.len().saturating_sub(MOST);
    mail.truncate(MOST);
    more
}

fn why_odd(metadata: &Metadata) -> Option<&'static str> {
    let own = process::user();
    if !metadata.is_file() {
        Some("it is not a regular file")
    } else if metadata.nlink() != 1 {
        Some("it has another name elsewhere")
    } else if metadata.mode() & OTHERS != 0 {
        Some("others than its owner have rights to it")
    } else if own != 0 && metadata.uid() != own {
        Some("it belongs to another user")
    } else {
        None
    }
}

fn remove_left_over(path: &Path, metadata: &Metadata) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
    if name.starts_with(UNFINISHED) && metadata.is_file() && age.as_secs() > LEFT_OVER {
        // The next run tries again.
        let _ = std::fs::remove_file(path);
    }
}

impl Held {
    /// Opens it, if it still is what was looked at.
    ///
    /// # Errors
    /// Those of opening; `InvalidData` for what is another file now.
    pub fn open(&self) -> io::Result<File> {
        let options = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(options).open(&self.path)?;
        let metadata = file.metadata()?;
        if metadata.uid() != self.uid || why_odd(&metadata).is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is another file now"));
        }
        Ok(file)
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder(mode: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
        dir
    }

    #[test]
    fn only_a_safe_folder_is_taken() {
        for (mode, safe) in [
            (0o700, true),
            (0o1733, true),
            (0o1730, true),
            (0o733, false),
            (0o730, false),
            (0o1777, false),
            (0o1737, false),
        ] {
            assert_eq!(check(folder(mode).path()).is_ok(), safe, "{mode:o}");
        }
        let dir = folder(0o700);
        symlink(dir.path(), dir.path().join("link")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        for name in ["link", "file", "missing"] {
            assert!(check(&dir.path().join(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_put_there_is_found_in_order_and_nothing_else_is() {
        let dir = folder(0o700);
        for text in ["one", "two"] {
            put(dir.path(), None, |file| file.write_all(text.as_bytes())).unwrap();
        }
        let failed = put(dir.path(), None, |_| Err(io::ErrorKind::StorageFull.into()));
        assert!(failed.is_err() && std::fs::read_dir(dir.path()).unwrap().count() == 2);
        let at = |name: &str| dir.path().join(name);
        symlink("/etc/passwd", at("link")).unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(at("readable"), "").unwrap();
        std::fs::set_permissions(at("readable"), PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(at("a"), "").unwrap();
        std::fs::set_permissions(at("a"), PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::hard_link(at("a"), at("b")).unwrap();
        std::fs::write(at(".new-x"), "").unwrap();
        let contents = contents(dir.path()).unwrap();
        let mail = &contents.mail[&process::user()];
        let texts: Vec<String> =
            mail.iter().map(|it| io::read_to_string(it.open().unwrap()).unwrap()).collect();
        assert!(texts == ["one", "two"] && contents.odd.len() == 6, "{contents:?}");
        let (first, _) = (mail[0].clone(), std::fs::remove_file(&mail[0].path));
        symlink("/etc/passwd", &first.path).unwrap();
        assert!(first.open().is_err());
    }

    #[test]
    fn one_run_at_a_time() {
        let dir = folder(0o700);
        let first = lock(dir.path()).unwrap();
        assert!(first.is_some() && lock(dir.path()).unwrap().is_none());
        drop(first);
        assert!(lock(dir.path()).unwrap().is_some());
    }
}
