//! Who may read, run and change a file.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The sticky bit: in such a folder only the owner of a file can remove it.
const STICKY: u32 = 0o1000;

/// A user without root's rights, as far as files are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Identity {
    /// Whether it can read the file at `path`.
    #[must_use]
    pub fn can_read(self, path: &Path) -> bool {
        self.has(path, 0o4) && self.can_reach(path)
    }

    /// Whether it can run the program at `path`.
    #[must_use]
    pub fn can_run(self, path: &Path) -> bool {
        path.is_file() && self.has(path, 0o1) && self.can_reach(path)
    }

    /// Whether it can find files in the folder at `path`.
    #[must_use]
    pub fn can_enter(self, path: &Path) -> bool {
        self.has(path, 0o1) && self.can_reach(path)
    }

    /// Whether it can write to the file at `path`, or make it.
    #[must_use]
    pub fn can_write(self, path: &Path) -> bool {
        if path.exists() {
            return self.has(path, 0o2) && self.can_reach(path);
        }
        path.parent().is_some_and(|folder| self.has(folder, 0o2) && self.can_enter(folder))
    }

    /// The topmost folder on the way to `path` that it cannot enter.
    #[must_use]
    pub fn closed_folder(self, path: &Path) -> Option<PathBuf> {
        let above = path.ancestors().skip(1).filter(|folder| *folder != Path::new(""));
        above.filter(|folder| folder.is_dir() && !self.has(folder, 0o1)).last().map(Path::to_owned)
    }

    fn can_reach(self, path: &Path) -> bool {
        path.ancestors().skip(1).filter(|folder| *folder != Path::new("")).all(|folder| self.has(folder, 0o1))
    }

    fn has(self, path: &Path, right: u32) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| {
            let mode = metadata.permissions().mode();
            let rights = if metadata.uid() == self.uid {
                mode >> 6
            } else if metadata.gid() == self.gid {
                mode >> 3
            } else {
                mode
            };
            rights & right != 0
        })
    }
}

/// What lets another than root change what is at `path`: the file, its folder, or a folder above, with who owns it. A path
/// that does not exist is judged by the folders that do.
#[must_use]
pub fn others_who_can_change(path: &Path) -> Option<String> {
    path.ancestors().find_map(|part| {
        let metadata = std::fs::metadata(part).ok()?;
        let above = part != path;
        let mode = metadata.permissions().mode();
        if metadata.uid() != 0 {
            Some(format!("{} belongs to user {}", part.display(), metadata.uid()))
        } else if is_open(&metadata) && !(above && mode & STICKY != 0) {
            Some(format!("{} can be written by others (mode {:o})", part.display(), mode & 0o7777))
        } else {
            None
        }
    })
}

fn is_open(metadata: &Metadata) -> bool {
    let mode = metadata.permissions().mode();
    mode & 0o002 != 0 || mode & 0o020 != 0 && metadata.gid() != 0
}
