//! Edge: An open folder, and what may be done in it: nothing that leads out of it.
//!
//! Every path is relative to the open folder and is taken without following a symbolic link, by the kernel where it can
//! (`openat2(2)`, `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`), else component by component. Who renames or replaces
//! folders meanwhile changes nothing: what is open stays open.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, unlinkat};

use crate::durable;

/// What no open here does without: no link followed, no terminal taken, no wait for the other end of a FIFO.
const SAFE: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY).union(OFlag::O_NONBLOCK);

/// An open folder.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// What an entry of a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Link,
    /// A FIFO, socket or device.
    Other,
}

/// What tells one state of a file from every other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The inode.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Modification time in seconds, and nanoseconds.
    pub modified: (i64, i64),
}

impl Stamp {
    /// The stamp in what `stat(2)` says.
    #[must_use]
    // What stat(2) calls its numbers differs in width between systems.
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
    pub fn of(stat: &FileStat) -> Self {
        Self {
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        }
    }
}

/// How many names `stat(2)` says the file has.
#[must_use]
#[allow(clippy::useless_conversion)] // Its width differs between systems.
pub fn links_of(stat: &FileStat) -> u64 {
    stat.st_nlink.into()
}

/// What kind of file `stat(2)` says it is.
#[must_use]
pub fn kind_of(stat: &FileStat) -> Kind {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFDIR => Kind::Dir,
        SFlag::S_IFLNK => Kind::Link,
        _ => Kind::Other,
    }
}

impl Dir {
    /// Opens the folder at `path`, which an admin has named. A symbolic link on the way is followed only where root or
    /// whoever runs this owns it: the owner of a mailbox could otherwise have root put another's in its place.
    ///
    /// # Errors
    /// Those of the file system; `ELOOP` for a link that is another's.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_past_links_of(&[0, nix::unistd::geteuid().as_raw()], path)
    }

    /// The same with links of root only: for who works in the owner's name and not at the owner's word.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn open_strictly(path: &Path) -> io::Result<Self> {
        Self::open_past_links_of(&[0], path)
    }

    /// What `stat(2)` says of the folder that [`Dir::open`] would open, which is not opened.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn stat_at(path: &Path) -> io::Result<FileStat> {
        Self::find_past_links_of(&[0, nix::unistd::geteuid().as_raw()], path)?.stat_self()
    }

    /// What `stat(2)` says of an entry, of a link itself; the way there is that of [`Dir::open`].
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn stat_entry(path: &Path) -> io::Result<FileStat> {
        let path = std::path::absolute(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Self::stat_at(&path);
        };
        Self::find_past_links_of(&[0, nix::unistd::geteuid().as_raw()], parent)?.stat(name)
    }

    fn open_past_links_of(trusted: &[u32], path: &Path) -> io::Result<Self> {
        Self::find_past_links_of(trusted, path)?.open_dir(Path::new(""))
    }

    fn find_past_links_of(trusted: &[u32], path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut dir = Self::pass(AT_FDCWD, Path::new("/"))?;
        let mut rest: Vec<OsString> = components(&path);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                dir = Self::pass(&dir.fd, Path::new(".."))?;
                continue;
            }
            let stat = dir.stat(&name)?;
            if kind_of(&stat) != Kind::Link {
                dir = Self::pass(&dir.fd, Path::new(&name))?;
                continue;
            }
            links += 1;
            if !trusted.contains(&stat.st_uid) || links > 40 {
                return Err(Errno::ELOOP.into());
            }
            let target = nix::fcntl::readlinkat(&dir.fd, &*name)?;
            if Path::new(&target).is_absolute() {
                dir = Self::pass(AT_FDCWD, Path::new("/"))?;
            }
            rest.extend(components(Path::new(&target)));
        }
        Ok(dir)
    }

    /// Opens a folder on the way to another one: others' homes lie in folders that may be passed and not read.
    fn pass(at: impl AsFd, name: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let access = OFlag::O_PATH;
        #[cfg(not(target_os = "linux"))]
        let access = OFlag::O_RDONLY;
        Ok(Self { fd: openat(at, name, SAFE | OFlag::O_DIRECTORY | access, Mode::empty())? })
    }

    fn open_at(at: impl AsFd, name: &Path) -> io::Result<Self> {
        let flags = SAFE | OFlag::O_DIRECTORY | OFlag::O_RDONLY;
        Ok(Self { fd: openat(at, name, flags, Mode::empty())? })
    }

    /// Opens a folder below this one.
    ///
    /// # Errors
    /// Those of the file system; a symbolic link is one.
    pub fn open_dir(&self, path: &Path) -> io::Result<Self> {
        if path.as_os_str().is_empty() {
            return Self::open_at(&self.fd, Path::new("."));
        }
        #[cfg(target_os = "linux")]
        {
            use nix::fcntl::{OpenHow, ResolveFlag, openat2};
            let how = OpenHow::new()
                .flags(SAFE | OFlag::O_DIRECTORY)
                .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
            match openat2(&self.fd, path, how) {
                Ok(fd) => return Ok(Self { fd }),
                // An old kernel, or a sandbox that does not know the call.
                Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.open_dir_stepwise(path)
    }

    fn open_dir_stepwise(&self, path: &Path) -> io::Result<Self> {
        let mut dir = Self::open_at(&self.fd, Path::new("."))?;
        for component in path.components() {
            let Component::Normal(name) = component else { return Err(Errno::EXDEV.into()) };
            dir = Self::open_at(&dir.fd, Path::new(name))?;
        }
        Ok(dir)
    }

    /// What `stat(2)` says of an entry, of a link itself.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn stat(&self, name: &OsStr) -> io::Result<FileStat> {
        Ok(fstatat(&self.fd, single(name)?, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// What `stat(2)` says of what an entry is or leads to, past links and wherever it is: to know what others find there, and
    /// for nothing else.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn stat_target(&self, path: &Path) -> io::Result<FileStat> {
        Ok(fstatat(&self.fd, path, AtFlags::empty())?)
    }

    /// What `stat(2)` says of the folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn stat_self(&self) -> io::Result<FileStat> {
        Ok(fstat(&self.fd)?)
    }

    /// Opens a regular file for reading, and gives what `stat(2)` says of it.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::InvalidInput`] for what is no regular file.
    pub fn open_file(&self, name: &OsStr) -> io::Result<(File, FileStat)> {
        // Opening a device can do something: not even that, unless it takes the file's place right now.
        if kind_of(&self.stat(name)?) != Kind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let fd = openat(&self.fd, single(name)?, SAFE | OFlag::O_RDONLY, Mode::empty())?;
        let stat = fstat(&fd)?;
        if kind_of(&stat) != Kind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok((fd.into(), stat))
    }

    /// What a regular file holds, of at most `most` bytes; `None` where there is nothing of this name.
    ///
    /// # Errors
    /// As [`Dir::open_file`]; [`io::ErrorKind::FileTooLarge`].
    pub fn read_file(&self, name: &OsStr, most: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open_file(name) {
            Ok((file, _)) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
    }

    /// Creates a file that must not exist yet, for writing.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = SAFE | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        Ok(openat(&self.fd, single(name)?, flags, Mode::from_bits_truncate(mode))?.into())
    }

    /// Creates a file for writing, under a name that begins with `prefix` and that nothing has; gives that name as well.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create_unique(&self, prefix: &str, mode: u32) -> io::Result<(OsString, File)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let name: OsString = format!(
                "{prefix}{}.M{}P{}Q{}",
                now.as_secs(),
                now.subsec_micros(),
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            )
            .into();
            match self.create(&name, mode) {
                Ok(file) => return Ok((name, file)),
                // Of another host with the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Creates a folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create_dir(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        Ok(mkdirat(&self.fd, single(name)?, Mode::from_bits_truncate(mode))?)
    }

    /// Gives a file another name, in this folder or another one, in whose place there must be none yet.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::AlreadyExists`].
    pub fn rename(&self, from: &OsStr, to: &Self, name: &OsStr) -> io::Result<()> {
        let (from, name) = (single(from)?, single(name)?);
        match rename_if_free(self, from, to, name) {
            // A file system, or a kernel, that cannot do it: a link does not replace either.
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                linkat(&self.fd, from, &to.fd, name, LinkatFlags::empty())?;
                Ok(unlinkat(&self.fd, from, UnlinkatFlags::NoRemoveDir)?)
            }
            other => Ok(other?),
        }
    }

    /// Gives a file another name, in the place of what has it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn replace(&self, from: &OsStr, name: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.fd, single(from)?, &self.fd, single(name)?)?)
    }

    /// Removes the name of a file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.fd, single(name)?, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Brings the folder's entries to the disk. A failure must not be tried again: what the disk holds then is unknown.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sync(&self) -> io::Result<()> {
        durable::flush(&self.fd)
    }

    /// The entries but `.` and `..`, in no order.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn entries(&self) -> io::Result<Vec<(OsString, Kind)>> {
        let flags = SAFE | OFlag::O_DIRECTORY | OFlag::O_RDONLY;
        let mut dir = nix::dir::Dir::openat(&self.fd, ".", flags, Mode::empty())?;
        let mut entries = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                Some(Type::File) => Kind::File,
                Some(Type::Directory) => Kind::Dir,
                Some(Type::Symlink) => Kind::Link,
                Some(_) => Kind::Other,
                None => match self.stat(name) {
                    Ok(stat) => kind_of(&stat),
                    // Gone meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
            };
            entries.push((name.to_owned(), kind));
        }
        Ok(entries)
    }

    /// Whether there is an entry of this name and kind.
    #[must_use]
    pub fn has(&self, name: &str, kind: Kind) -> bool {
        self.stat(OsStr::new(name)).is_ok_and(|stat| kind_of(&stat) == kind)
    }

    /// The folder as a file, to lock it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn try_clone(&self) -> io::Result<File> {
        // A descriptor of its own: locks belong to the open file.
        Ok(Self::open_at(&self.fd, Path::new("."))?.fd.into())
    }
}

impl From<File> for Dir {
    fn from(folder: File) -> Self {
        Self { fd: folder.into() }
    }
}

impl From<Dir> for OwnedFd {
    fn from(folder: Dir) -> Self {
        folder.fd
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Gives a file another name that none has yet; [`Errno::ENOSYS`] or [`Errno::EINVAL`] where that is not known.
#[cfg(target_os = "linux")]
fn rename_if_free(folder: &Dir, from: &OsStr, to: &Dir, name: &OsStr) -> nix::Result<()> {
    use nix::fcntl::{RenameFlags, renameat2};
    renameat2(&folder.fd, from, &to.fd, name, RenameFlags::RENAME_NOREPLACE)
}

#[cfg(not(target_os = "linux"))]
fn rename_if_free(_: &Dir, _: &OsStr, _: &Dir, _: &OsStr) -> nix::Result<()> {
    Err(Errno::ENOSYS)
}

/// A name that is one component.
fn single(name: &OsStr) -> io::Result<&OsStr> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name => Ok(name),
        _ => Err(Errno::EXDEV.into()),
    }
}

/// The components of a path, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.rev().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        let dir = outside.path().join("in");
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        std::fs::write(dir.join("file"), "y").unwrap();
        symlink("../secret", dir.join("link")).unwrap();
        symlink("a", dir.join("folder-link")).unwrap();
        nix::unistd::mkfifo(&dir.join("fifo"), Mode::S_IRWXU).unwrap();
        let open = Dir::open(&dir).unwrap();
        for path in ["..", "../in", "/tmp", "a/../..", "folder-link", "folder-link/b", "file"] {
            assert!(open.open_dir(Path::new(path)).is_err(), "{path}");
            assert!(open.open_dir_stepwise(Path::new(path)).is_err(), "{path}, step by step");
        }
        for path in ["", "a", "a/b"] {
            assert!(open.open_dir(Path::new(path)).is_ok(), "{path}");
            assert!(open.open_dir_stepwise(Path::new(path)).is_ok(), "{path}, step by step");
        }
        for name in ["link", "fifo", "a", "../secret", "..", ".", "a/b", ""] {
            assert!(open.open_file(OsStr::new(name)).is_err(), "{name}");
        }
        assert_eq!(open.open_file(OsStr::new("file")).unwrap().1.st_size, 1);
    }

    #[test]
    fn renaming_replaces_nothing() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        for name in ["a", "b"] {
            std::fs::write(temporary.path().join(name), name).unwrap();
        }
        let error = dir.rename(OsStr::new("a"), &dir, OsStr::new("b")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        dir.rename(OsStr::new("a"), &dir, OsStr::new("c")).unwrap();
        let mut names: Vec<_> = dir.entries().unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["b", "c"]);
    }

    #[test]
    fn links_are_followed_on_the_way_to_what_an_admin_names() {
        let temporary = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(temporary.path()).unwrap();
        let at = |name: &str| root.join(name);
        std::fs::create_dir_all(at("real/sub")).unwrap();
        std::fs::write(at("real/sub/file"), "").unwrap();
        symlink("real", at("relative")).unwrap();
        symlink(at("real"), at("absolute")).unwrap();
        symlink("../relative/sub", at("real/round")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let inode = |path: &Path| Stamp::of(&Dir::stat_at(path).unwrap()).inode;
        let sub = inode(&at("real/sub"));
        for path in
            ["relative/sub", "absolute/sub", "real/round", "real/sub/../sub", "absolute/../relative/round"]
        {
            assert_eq!(inode(&at(path)), sub, "{path}");
            assert!(Dir::open(&at(path)).unwrap().has("file", Kind::File), "{path}");
        }
        for path in ["loop", "loop/x", "gone", "real/sub/file"] {
            assert!(Dir::open(&at(path)).is_err(), "{path}");
        }
        let entry = |path: &str| kind_of(&Dir::stat_entry(&at(path)).unwrap());
        assert_eq!(
            (entry("relative"), entry("real"), entry("absolute/sub/file")),
            (Kind::Link, Kind::Dir, Kind::File)
        );
        assert_eq!(kind_of(&Dir::stat_entry(Path::new("/")).unwrap()), Kind::Dir);
        assert!(Dir::open_strictly(&at("real/sub")).is_ok());
        let trusts = |trusted: &[u32]| Dir::open_past_links_of(trusted, &at("relative"));
        let owner = nix::unistd::geteuid().as_raw();
        assert!(trusts(&[owner]).is_ok());
        assert_eq!(trusts(&[owner + 1]).unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
        assert_eq!(Dir::open_strictly(&at("relative")).is_ok(), owner == 0);
    }

    #[test]
    fn as_many_links_are_followed_as_the_kernel_follows() {
        let temporary = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(temporary.path()).unwrap();
        std::fs::create_dir(root.join("0")).unwrap();
        for number in 1..=41 {
            symlink(format!("{}", number - 1), root.join(number.to_string())).unwrap();
        }
        assert!(Dir::open(&root.join("40")).is_ok());
        assert_eq!(Dir::open(&root.join("41")).unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
    }

    #[test]
    fn entries_are_listed_by_kind() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let at = |name: &str| temporary.path().join(name);
        assert_eq!(dir.entries().unwrap(), []);
        std::fs::write(at("file"), "").unwrap();
        std::fs::write(at(".hidden"), "").unwrap();
        symlink("file", at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        dir.create_dir(OsStr::new("folder"), 0o700).unwrap();
        let mut entries = dir.entries().unwrap();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [
            (".hidden", Kind::File),
            ("fifo", Kind::Other),
            ("file", Kind::File),
            ("folder", Kind::Dir),
            ("link", Kind::Link),
        ];
        assert_eq!(entries, expected.map(|(name, kind)| (OsString::from(name), kind)));
        for (name, kind) in expected {
            for other in [Kind::File, Kind::Dir, Kind::Link, Kind::Other] {
                assert_eq!(dir.has(name, other), other == kind, "{name} {other:?}");
            }
            assert!(!dir.has("gone", kind));
        }
        assert_eq!(
            dir.create_dir(OsStr::new("folder"), 0o700).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
    }

    #[test]
    fn a_file_is_read_up_to_a_limit() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let read = |name: &str, most| dir.read_file(OsStr::new(name), most);
        assert_eq!(read("x", 9).unwrap(), None);
        std::fs::write(temporary.path().join("x"), "abc").unwrap();
        for (most, fits) in [(2, false), (3, true), (4, true), (u64::MAX, true)] {
            match read("x", most) {
                Ok(bytes) => assert!(fits && bytes.as_deref() == Some(b"abc"), "{most}"),
                Err(error) => assert!(!fits && error.kind() == io::ErrorKind::FileTooLarge, "{most}"),
            }
        }
        dir.create_dir(OsStr::new("folder"), 0o700).unwrap();
        assert!(read("folder", 9).is_err());
    }

    #[test]
    fn a_file_is_made_replaced_and_removed_by_its_name() {
        use std::io::Write as _;
        use std::os::unix::fs::PermissionsExt as _;

        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(temporary.path().join(name));
        let name = OsStr::new;
        dir.create(name("a"), 0o600).unwrap().write_all(b"one").unwrap();
        assert_eq!(
            std::fs::metadata(temporary.path().join("a")).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(dir.create(name("a"), 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        dir.create(name("b"), 0o600).unwrap().write_all(b"other").unwrap();
        dir.replace(name("b"), name("a")).unwrap();
        assert_eq!((read("a").unwrap(), read("b").is_err()), ("other".into(), true));
        dir.unlink(name("a")).unwrap();
        assert!(
            read("a").is_err()
                && dir.unlink(name("a")).is_err()
                && dir.replace(name("a"), name("b")).is_err()
        );
        dir.sync().unwrap();
        for bad in ["..", ".", "", "a/b", "/a", "a/", "./a"] {
            assert!(dir.create(name(bad), 0o600).is_err() && dir.unlink(name(bad)).is_err(), "{bad}");
        }
        let closed = Dir::pass(AT_FDCWD, temporary.path()).unwrap();
        assert!(closed.sync().is_err(), "what cannot be flushed is an error");
    }

    #[test]
    fn a_stamp_tells_states_apart() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        std::fs::write(temporary.path().join("a"), "abc").unwrap();
        std::fs::hard_link(temporary.path().join("a"), temporary.path().join("b")).unwrap();
        let stat = dir.stat(OsStr::new("a")).unwrap();
        assert_eq!((links_of(&stat), Stamp::of(&stat).size), (2, 3));
        assert_eq!(Stamp::of(&stat), Stamp::of(&dir.stat(OsStr::new("b")).unwrap()));
        assert_ne!(Stamp::of(&stat).inode, Stamp::of(&dir.stat_self().unwrap()).inode);
        assert_eq!(
            Stamp::of(&dir.try_clone().map(Dir::from).unwrap().stat_self().unwrap()),
            Stamp::of(&dir.stat_self().unwrap())
        );
    }

    /// What was looked at may be replaced before it is opened.
    #[test]
    fn no_open_follows_a_link_or_waits() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name);
        std::fs::create_dir(at("folder")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        symlink("folder", at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        let opens =
            |name: &str| [Dir::pass(AT_FDCWD, &at(name)).is_ok(), Dir::open_at(AT_FDCWD, &at(name)).is_ok()];
        assert_eq!(opens("folder"), [true, true]);
        for other in ["file", "link", "fifo", "gone"] {
            assert_eq!(opens(other), [false, false], "{other}");
        }
        let flags = |fd: &OwnedFd| nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        let close = nix::fcntl::FdFlag::FD_CLOEXEC.bits();
        let dir = Dir::open(temporary.path()).unwrap();
        for fd in [
            dir.open_dir(Path::new("folder")).unwrap().fd,
            dir.open_file(OsStr::new("file")).unwrap().0.into(),
        ] {
            assert_eq!(flags(&fd) & close, close, "no program that is started has it");
        }
    }
}
