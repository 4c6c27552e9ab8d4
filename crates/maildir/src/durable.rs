//! Edge: Replaces a file so that at any moment, after any crash, the old or the new one is there whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

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
}
