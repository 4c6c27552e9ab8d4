//! Edge: Replaces a file so that at any moment, after any crash, the old or the new one is there whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Stack of a thread that flushes, in bytes: it waits for one system call after the other.
const STACK: usize = 64 * 1024;

/// Writes `bytes` to a new file beside `path`, flushes it to the disk, and renames it to `path`.
///
/// The file gets `mode` and belongs to who runs this. A failed flush is a failure: what the disk holds then is not known.
///
/// # Errors
/// Those of the file system; `path` is as it was then, unless flushing the folder failed after the rename.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = match path.parent().ok_or(io::ErrorKind::InvalidInput)? {
        here if here.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(name);
    let result = write_new(&temporary, bytes, mode).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = result {
        // It may not even have come into being.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    flush(File::open(folder)?)
}

/// Brings an open file or folder to the disk, once: what the disk holds after a failure is unknown, and a second try that
/// succeeds would tell nothing (`fsync(2)`). The standard library tries again where a signal interrupts it.
///
/// # Errors
/// Those of the file system, `EINTR` among them.
pub fn flush(file: impl AsFd) -> io::Result<()> {
    Ok(nix::unistd::fsync(file)?)
}

/// [`flush`] for each of `files`, at most `at_once` of them side by side; the results are in their order. The disk can then bring
/// several home together. Where no thread can be started, those that are there do all of it.
pub fn flush_each<F: AsFd + Sync>(files: &[F], at_once: usize) -> Vec<io::Result<()>> {
    let next = AtomicUsize::new(0);
    let results: Vec<OnceLock<io::Result<()>>> = files.iter().map(|_| OnceLock::new()).collect();
    let work = || {
        while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < files.len()) {
            // Each number is given out once.
            let _ = results[at].set(flush(&files[at]));
        }
    };
    thread::scope(|scope| {
        for _ in 1..at_once.min(files.len()) {
            if thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let undone = || Err(io::Error::other("it was not flushed"));
    results.into_iter().map(|result| result.into_inner().unwrap_or_else(undone)).collect()
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    // The umask may have taken rights away that a reader needs.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.write_all(bytes)?;
    flush(&file)?;
    nix::unistd::close(file).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, b"old", 0o644).unwrap();
        write(&path, b"new", 0o640).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        assert!(write(&dir.path().join("folder"), b"x", 0o644).is_err());
        assert!(write(&dir.path().join("no/x"), b"x", 0o644).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_flushed_is_an_error() {
        let (reader, _writer) = io::pipe().unwrap();
        assert!(flush(reader).is_err());
        let dir = tempfile::tempdir().unwrap();
        assert!(flush(File::open(dir.path()).unwrap()).is_ok());
        assert!(write(Path::new("/"), b"", 0o600).is_err());
    }

    #[test]
    fn each_file_is_flushed_once_and_has_its_own_result() {
        struct Counted(OwnedFd, AtomicUsize);
        impl AsFd for Counted {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.1.fetch_add(1, Ordering::Relaxed);
                self.0.as_fd()
            }
        }
        let dir = tempfile::tempdir().unwrap();
        for count in [0, 1, 2, 15, 33] {
            for at_once in [0, 1, 2, 16, 50] {
                let file = |at: usize| -> OwnedFd {
                    let file = || File::create(dir.path().join(at.to_string())).unwrap().into();
                    if at % 3 == 1 { io::pipe().unwrap().0.into() } else { file() }
                };
                let files: Vec<_> = (0..count).map(|at| Counted(file(at), AtomicUsize::new(0))).collect();
                let failed: Vec<bool> = flush_each(&files, at_once).iter().map(Result::is_err).collect();
                assert_eq!(failed, (0..count).map(|at| at % 3 == 1).collect::<Vec<_>>(), "{at_once}");
                assert!(files.iter().all(|file| file.1.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn no_more_are_flushed_at_once_than_wanted() {
        struct Slow<'a>(OwnedFd, &'a AtomicUsize, &'a AtomicUsize);
        impl AsFd for Slow<'_> {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.2.fetch_max(self.1.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(std::time::Duration::from_millis(5));
                self.1.fetch_sub(1, Ordering::SeqCst);
                self.0.as_fd()
            }
        }
        let dir = tempfile::tempdir().unwrap();
        for at_once in [1, 3] {
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let file = || File::open(dir.path()).unwrap().into();
            let files: Vec<_> = (0..12).map(|_| Slow(file(), &now, &most)).collect();
            assert!(flush_each(&files, at_once).iter().all(Result::is_ok));
            let most = most.into_inner();
            assert!(most <= at_once && (at_once == 1 || most > 1), "{most} at once of {at_once}");
        }
    }
}
