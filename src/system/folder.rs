//! Edge: Makes folders with their rights, whatever the umask takes away: mail users have to enter them.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a folder where there is none; whether it did.
///
/// # Errors
/// Those of the file system.
pub fn make(path: &Path, mode: u32) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    DirBuilder::new().mode(mode).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(true)
}

/// Makes a folder that everybody can enter, and those above it, where there is nothing.
///
/// # Errors
/// Those of the file system.
pub fn make_all(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_all)?;
    make(path, 0o755).map(drop)
}
