//! Edge: Which folders a Maildir has: those of Maildir++ (`.a.b` beside `cur`), and of `LAYOUT=fs` (`a/b`).
//!
//! A folder is what holds `cur` and `new`. Symbolic links are not followed; one that leads to messages, and a folder that
//! lacks one of the two, is named. What holds another mailbox format, or nothing of the kind, is refused by its name.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::stat::FileStat;
use nix::unistd::{Gid, Uid};

use super::dir::{Dir, Kind, kind_of};
use super::folder::{Common, Folder, is_hidden};
use super::odd::{Odd, Why};
use super::patience::Patience;
use crate::error::Error;

/// How deep folders may lie in each other.
const DEPTH: usize = 64;

/// What holds a folder's messages.
const PARTS: [&str; 2] = ["cur", "new"];

/// The folders of a Maildir.
#[derive(Debug, Default)]
pub struct Folders {
    /// Their paths below the Maildir, in order; the Maildir itself, INBOX, is the empty path.
    pub paths: Vec<PathBuf>,
    /// What mail programs may take for folders as well, and is left alone.
    pub odd: Vec<Odd>,
}

/// What a search has found.
#[derive(Default)]
struct Found {
    folders: Folders,
    /// The device and inode of each directory that was looked into.
    ids: HashSet<(u64, u64)>,
    /// The links that lead to directories.
    links: Vec<Link>,
}

/// A link that leads to a directory.
struct Link {
    path: PathBuf,
    /// The directory's device and inode.
    id: (u64, u64),
    /// Whether it is a folder of messages itself.
    is_folder: bool,
}

/// A user's Maildir.
#[derive(Debug)]
pub struct Maildir {
    path: PathBuf,
    root: Dir,
    /// Dovecot's control folder, where it is not the Maildir itself.
    control: Option<Dir>,
    common: Common,
}

impl Maildir {
    /// Opens the Maildir at `path`. Dovecot's lists and locks are in `control`, where they are not in the Maildir.
    ///
    /// # Errors
    /// [`Error::NoMaildir`] where it is none, [`Error::Mail`] where it cannot be opened.
    pub fn open(path: &Path, control: Option<&Path>) -> Result<Self, Error> {
        Self::open_with(Dir::open, path, control)
    }

    /// The same, past no symbolic links but root's: for a process that root has started with the owner's rights, whose
    /// path the owner may have turned into a link meanwhile.
    ///
    /// # Errors
    /// As [`Maildir::open`].
    pub fn open_strictly(path: &Path, control: Option<&Path>) -> Result<Self, Error> {
        Self::open_with(Dir::open_strictly, path, control)
    }

    fn open_with(
        open: fn(&Path) -> io::Result<Dir>,
        path: &Path,
        control: Option<&Path>,
    ) -> Result<Self, Error> {
        let open = |path: &Path| open(path).map_err(|error| refused(path, error));
        let root = open(path)?;
        let stat = root.stat_self().map_err(|error| failed(path, error))?;
        let maildir = Self {
            path: path.into(),
            root,
            control: control.map(open).transpose()?,
            common: Common {
                owner: (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)),
                patience: Arc::default(),
            },
        };
        maildir.refuse_other_formats()?;
        Ok(maildir)
    }

    /// Who owns the folder at `path`: before it is known to be a Maildir, and without opening it.
    ///
    /// # Errors
    /// As [`Maildir::open`].
    pub fn owner_of(path: &Path) -> Result<(Uid, Gid), Error> {
        let stat = Dir::stat_at(path).map_err(|error| refused(path, error))?;
        Ok((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)))
    }

    /// The same Maildir, whose locks are waited for as `patience` says; without that, as long as they are held.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { common: Common { patience: Arc::new(patience), ..self.common }, ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who owns it.
    #[must_use]
    pub fn owner(&self) -> (Uid, Gid) {
        self.common.owner
    }

    /// The folders.
    ///
    /// # Errors
    /// [`Error::NoMaildir`] where there is none, [`Error::Mail`] where a folder cannot be read.
    pub fn folders(&self) -> Result<Folders, Error> {
        let mut found = Found::default();
        self.look_into(Path::new(""), 0, &mut found)?;
        let Found { mut folders, ids, links } = found;
        // With LAYOUT=fs, folders may lie at any depth behind a link; Maildir++ has none there.
        let may_be_deep = !is_plus_plus(&folders.paths);
        let outside =
            links.into_iter().filter(|link| !ids.contains(&link.id) && (link.is_folder || may_be_deep));
        folders.odd.extend(outside.map(|link| Odd { path: link.path, why: Why::Linked }));
        folders.paths.sort();
        folders.odd.sort();
        let Some(first) = folders.paths.first() else {
            return Err(Error::NoMaildir {
                path: self.path.clone(),
                what: "this is not a Maildir: no folder in it has `cur` and `new`".into(),
                hint: "give the folder that mail_location names, without `maildir:`".into(),
            });
        };
        if !first.as_os_str().is_empty() && !self.is_root(&folders.paths)? {
            return Err(Error::NoMaildir {
                path: self.path.clone(),
                what: "this is not a Maildir but a folder with others in it, perhaps of several users".into(),
                hint: "name each of them, or write a pattern: /var/vmail/%{domain}/%{local}/Maildir".into(),
            });
        }
        Ok(folders)
    }

    /// Whether Dovecot keeps folders here although INBOX is elsewhere: its own files are here, or folders of Maildir++.
    fn is_root(&self, folders: &[PathBuf]) -> Result<bool, Error> {
        let entries = self.root.open_dir(Path::new("")).and_then(|root| root.entries());
        let entries = entries.map_err(|error| failed(&self.path, error))?;
        let of_dovecot = |name: &OsStr| name == "subscriptions" || name.as_bytes().starts_with(b"dovecot");
        Ok(entries.iter().any(|(name, _)| of_dovecot(name))
            || folders.iter().any(|path| is_of_plus_plus(path)))
    }

    fn look_into(&self, path: &Path, depth: usize, found: &mut Found) -> Result<(), Error> {
        let shown = self.path.join(path);
        let dir = match self.root.open_dir(path) {
            Ok(dir) => dir,
            // Removed meanwhile, or a link put in its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The others are worked on all the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && depth > 0 => {
                found.folders.odd.push(Odd { path: shown, why: Why::Closed });
                return Ok(());
            }
            Err(error) => return Err(failed(&shown, error)),
        };
        let failed = |error| failed(&shown, error);
        found.ids.insert(id_of(&dir.stat_self().map_err(failed)?));
        if PARTS.iter().all(|part| dir.has(part, Kind::Dir)) {
            found.folders.paths.push(path.into());
        } else if let Some(why) = why_no_folder(&dir).map_err(failed)? {
            found.folders.odd.push(Odd { path: shown.clone(), why });
        }
        if depth == DEPTH {
            return Err(failed(io::Error::other(format!("folders lie more than {DEPTH} deep"))));
        }
        for (name, kind) in dir.entries().map_err(failed)? {
            match kind {
                Kind::Dir if may_be_folder(&name) => self.look_into(&path.join(name), depth + 1, found)?,
                Kind::Link if may_be_folder(&name) => {
                    found.links.extend(Link::of(&dir, &name, &shown));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens a folder; `path` is one of [`Maildir::folders`].
    ///
    /// # Errors
    /// [`Error::Mail`] also where it belongs to somebody else than the Maildir does.
    pub fn folder(&self, path: &Path) -> Result<Folder, Error> {
        let shown = self.path.join(path);
        let dir = self.root.open_dir(path).map_err(|error| failed(&shown, error))?;
        let owner = dir.stat_self().map_err(|error| failed(&shown, error))?.st_uid;
        if owner != self.common.owner.0.as_raw() {
            let what = format!("it belongs to user {owner}, the Maildir to user {}", self.common.owner.0);
            return Err(failed(&shown, io::Error::new(io::ErrorKind::PermissionDenied, what)));
        }
        let control = match &self.control {
            None => dir.open_dir(Path::new("")),
            Some(control) => open_or_create(control, path),
        };
        let control = control.map_err(|error| failed(&shown, error))?;
        Folder::open(shown, path.into(), dir, control, self.common.clone())
    }

    fn refuse_other_formats(&self) -> Result<(), Error> {
        let inside = |path: &str| self.root.open_dir(Path::new(path));
        let mdbox = inside("storage").is_ok_and(|storage| {
            storage.has("dovecot.map.index", Kind::File) || storage.has("dovecot.map.index.log", Kind::File)
        });
        let format = if mdbox {
            "mdbox"
        } else if inside("mailboxes").is_ok_and(|mailboxes| holds_dbox(&mailboxes, 0)) {
            "sdbox"
        } else {
            return Ok(());
        };
        Err(Error::NoMaildir {
            path: self.path.clone(),
            what: format!("this is not a Maildir but Dovecot's {format} format"),
            hint: "only Maildirs are worked on; doveadm sync converts a mailbox".into(),
        })
    }
}

/// Whether a folder is found that holds messages of dbox.
fn holds_dbox(dir: &Dir, depth: usize) -> bool {
    let Ok(entries) = dir.entries() else { return false };
    entries.iter().any(|(name, kind)| {
        *kind == Kind::Dir
            && (name == "dbox-Mails"
                || depth < DEPTH
                    && dir.open_dir(Path::new(name)).is_ok_and(|dir| holds_dbox(&dir, depth + 1)))
    })
}

/// Whether a folder of this name may hold messages or folders: not where messages are themselves.
fn may_be_folder(name: &OsStr) -> bool {
    !["cur", "new", "tmp"].iter().any(|own| name == *own)
}

/// Why `dir`, which lacks `cur` or `new`, is left alone although mail programs find messages in it; `None` where it has none.
fn why_no_folder(dir: &Dir) -> io::Result<Option<Why>> {
    for part in PARTS {
        if dir.has(part, Kind::Link) && is_folder(dir, Path::new(part)) {
            return Ok(Some(Why::Linked));
        }
        if dir.has(part, Kind::Dir) {
            let entries = dir.open_dir(Path::new(part))?.entries()?;
            if entries.iter().any(|(name, kind)| *kind != Kind::Dir && !is_hidden(name)) {
                return Ok(Some(Why::Incomplete));
            }
        }
    }
    Ok(None)
}

impl Link {
    /// The link called `name` in `dir`, which is at `shown`; `None` for one that leads to no directory.
    fn of(dir: &Dir, name: &OsStr, shown: &Path) -> Option<Self> {
        let path = Path::new(name);
        let stat = dir.stat_target(path).ok().filter(|stat| kind_of(stat) == Kind::Dir)?;
        let is_folder = PARTS.iter().any(|part| is_folder(dir, &path.join(part)));
        Some(Self { path: shown.join(name), id: id_of(&stat), is_folder })
    }
}

/// Whether folders are those of Maildir++, as their names tell.
fn is_plus_plus(folders: &[PathBuf]) -> bool {
    let mut others = folders.iter().filter(|path| !path.as_os_str().is_empty()).peekable();
    others.peek().is_some() && others.all(|path| is_of_plus_plus(path))
}

/// Whether this is the name of a folder of Maildir++.
fn is_of_plus_plus(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(b".")
}

/// Whether `path` is a folder, or leads to one.
fn is_folder(dir: &Dir, path: &Path) -> bool {
    dir.stat_target(path).is_ok_and(|stat| kind_of(&stat) == Kind::Dir)
}

// What stat(2) calls its numbers differs in width between systems.
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
fn id_of(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// The control folder of the folder at `path`, made where Dovecot has not been there yet.
fn open_or_create(control: &Dir, path: &Path) -> io::Result<Dir> {
    let mut dir = control.open_dir(Path::new(""))?;
    for name in path {
        match dir.create_dir(name, 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => dir = dir.open_dir(Path::new(name))?,
        }
    }
    Ok(dir)
}

fn refused(path: &Path, error: io::Error) -> Error {
    let (what, hint) = match error.raw_os_error() {
        Some(nix::libc::ENOENT) => ("there is no such folder".into(), "look for a mistyped path"),
        Some(nix::libc::ENOTDIR) => {
            ("this is not a Maildir but a file".into(), "give the folder that holds `cur` and `new`")
        }
        Some(nix::libc::ELOOP) => (
            "a symbolic link is in the way that does not belong to root".into(),
            "give the path without links",
        ),
        _ => return failed(path, error),
    };
    Error::NoMaildir { path: path.into(), what, hint: hint.into() }
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Mail { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folders(make: &[&str]) -> Result<Vec<PathBuf>, Error> {
        let dir = tempfile::tempdir().unwrap();
        for path in make {
            match path.split_once(" -> ") {
                Some((link, target)) => symlink(target, dir.path().join(link)).unwrap(),
                None => create_dir_all(dir.path().join(path)).unwrap(),
            }
        }
        Ok(Maildir::open(dir.path(), None)?.folders()?.paths)
    }

    fn found(make: &[&str]) -> Vec<String> {
        folders(make).unwrap().iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn folders_of_both_layouts_are_found() {
        assert_eq!(
            found(&["cur", "new", "tmp", ".a/cur", ".a/new", ".a.b/cur", ".a.b/new", ".not/cur", ".git"]),
            ["", ".a", ".a.b"]
        );
        assert_eq!(
            found(&["a/b/cur", "a/b/new", "c/cur", "c/new", "c/.x/cur", "c/.x/new", "subscriptions"]),
            ["a/b", "c", "c/.x"]
        );
        assert_eq!(found(&[".a/cur", ".a/new"]), [".a"]);
        assert_eq!(found(&["cur/x/cur", "cur/x/new", "new", ".l -> /", "cur/l -> /"]), [""]);
    }

    #[test]
    fn what_is_no_maildir_is_refused_by_name() {
        for (make, expected) in [
            (&["x/y"][..], "not a Maildir"),
            (&["cur"], "not a Maildir"),
            (&["alice/cur", "alice/new", "bob/cur", "bob/new"], "several users"),
            (&["mailboxes/INBOX/dbox-Mails"], "sdbox"),
            (&["mailboxes/a/b/dbox-Mails"], "sdbox"),
        ] {
            let error = folders(make).unwrap_err();
            assert!(matches!(error, Error::NoMaildir { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        create_dir_all(dir.path().join("storage")).unwrap();
        std::fs::write(dir.path().join("storage/dovecot.map.index.log"), "").unwrap();
        assert!(Maildir::open(dir.path(), None).unwrap_err().to_string().contains("mdbox"));
        let file = dir.path().join("storage/dovecot.map.index.log");
        for path in [&file, &dir.path().join("missing")] {
            assert!(matches!(Maildir::open(path, None), Err(Error::NoMaildir { .. })), "{}", path.display());
        }
    }

    #[test]
    fn a_maildir_belongs_to_its_owner_and_so_do_its_folders() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["cur", "new", ".a/cur", ".a/new"] {
            create_dir_all(dir.path().join(path)).unwrap();
        }
        let me = (nix::unistd::geteuid(), nix::unistd::getegid());
        let maildir = Maildir::open_strictly(dir.path(), None).unwrap();
        assert_eq!((maildir.owner(), Maildir::owner_of(dir.path()).unwrap()), (me, me));
        assert_eq!(maildir.path(), dir.path());
        assert!(maildir.folder(Path::new(".a")).is_ok());
        assert!(matches!(maildir.folder(Path::new(".b")), Err(Error::Mail { .. })));
        assert!(matches!(Maildir::owner_of(&dir.path().join("gone")), Err(Error::NoMaildir { .. })));
        if me.0.is_root() {
            std::os::unix::fs::chown(dir.path().join(".a"), Some(12345), None).unwrap();
            let error = maildir.folder(Path::new(".a")).unwrap_err();
            assert!(error.to_string().contains("belongs to user 12345"), "{error}");
        }
    }

    #[test]
    fn a_control_folder_is_made_where_it_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["mail/a/b/cur", "mail/a/b/new", "mail/cur", "mail/new", "control"] {
            create_dir_all(dir.path().join(path)).unwrap();
        }
        let control = dir.path().join("control");
        let maildir = Maildir::open(&dir.path().join("mail"), Some(&control)).unwrap();
        for _ in 0..2 {
            for path in ["", "a/b"] {
                let folder = maildir.folder(Path::new(path)).unwrap();
                assert_eq!(
                    (folder.relative(), folder.path()),
                    (Path::new(path), &*dir.path().join("mail").join(path))
                );
            }
            assert!(control.join("a/b").is_dir());
        }
        std::fs::remove_dir_all(control.join("a")).unwrap();
        std::fs::write(control.join("a"), "").unwrap();
        assert!(maildir.folder(Path::new("a/b")).is_err(), "a file in its place");
        drop(maildir);
        assert!(Maildir::open(&dir.path().join("mail"), Some(&dir.path().join("gone"))).is_err());
    }

    #[test]
    fn locks_are_waited_for_as_long_as_is_said() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["cur", "new"] {
            create_dir_all(dir.path().join(path)).unwrap();
        }
        let none = Patience::of(Some(std::time::Duration::ZERO), Arc::default());
        let maildir = Maildir::open(dir.path(), None).unwrap().with_patience(none);
        assert_eq!(maildir.path(), dir.path());
        let (one, other) = (maildir.folder(Path::new("")).unwrap(), maildir.folder(Path::new("")).unwrap());
        let held = one.hold(|| panic!("nobody is there")).unwrap();
        let mut waited = 0;
        assert!(other.hold(|| waited += 1).is_err());
        drop(held);
        assert!(other.hold(|| waited += 1).is_ok());
        assert_eq!(waited, 1);
    }

    #[test]
    fn folders_lie_in_each_other_to_a_bounded_depth() {
        let deep = |depth: usize| vec!["x"; depth].join("/");
        for (depth, fits) in [(DEPTH - 1, true), (DEPTH, false)] {
            let found = folders(&["cur", "new", &deep(depth)]);
            assert_eq!(found.is_ok(), fits, "{depth}");
        }
        for (depth, found) in [(DEPTH - 1, true), (DEPTH, true), (DEPTH + 1, false)] {
            let dir = tempfile::tempdir().unwrap();
            create_dir_all(dir.path().join(deep(depth)).join("dbox-Mails")).unwrap();
            assert_eq!(holds_dbox(&Dir::open(dir.path()).unwrap(), 0), found, "{depth}");
        }
    }

    #[test]
    fn what_dovecot_takes_for_a_folder_is_one_or_is_named() {
        let other = tempfile::tempdir().unwrap();
        let shown = other.path().display();
        for name in ["cur", "deep/2020/cur"] {
            create_dir_all(other.path().join(name)).unwrap();
        }
        let odd = |make: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            for path in ["cur", "new", ".Sent/cur", ".Sent/new"].iter().chain(make) {
                let made = path.replace("OTHER", &shown.to_string());
                match made.split_once(" -> ") {
                    Some((link, target)) => symlink(target, dir.path().join(link)).unwrap(),
                    None if made.ends_with(".eml") => {
                        let file = dir.path().join(&made);
                        create_dir_all(file.parent().unwrap()).unwrap();
                        std::fs::write(file, "").unwrap();
                    }
                    None => create_dir_all(dir.path().join(&made)).unwrap(),
                }
            }
            let folders = Maildir::open(dir.path(), None).unwrap().folders().unwrap();
            assert!(folders.paths.starts_with(&["".into(), ".Sent".into()]), "{make:?}");
            let below =
                |odd: Odd| (odd.path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned(), odd.why);
            folders.odd.into_iter().map(below).collect::<Vec<_>>()
        };
        for (make, path, why) in [
            (&[".a/cur/1.eml"][..], ".a", Why::Incomplete),
            (&[".a/new/1.eml", ".a/tmp"], ".a", Why::Incomplete),
            (&["a/b/new/:2,S.eml"], "a/b", Why::Incomplete),
            (&[".a -> OTHER"], ".a", Why::Linked),
            (&["a/b", "a/b/c -> OTHER"], "a/b/c", Why::Linked),
            (&[".a/new", ".a/cur -> OTHER/cur"], ".a", Why::Linked),
            (&["a/cur", "a/new", "archive -> OTHER/deep"], "archive", Why::Linked),
            (&[".a/cur", ".a/new -> OTHER/cur"], ".a", Why::Linked),
        ] {
            assert_eq!(odd(make), [(path.to_owned(), why)], "{make:?}");
        }
        for make in [
            &[".a/cur/folder", ".b/new/.hidden.eml"][..],
            &[".Sent Messages -> .Sent", ".dovecot.sieve -> sieve/x", "sieve"],
            &[".a -> OTHER/cur", "loop -> loop", ".git"],
        ] {
            assert_eq!(odd(make), [], "{make:?}");
        }
    }

    #[test]
    fn a_root_without_an_inbox_is_known_by_dovecot_s_files_or_names() {
        for (make, is_root) in [
            (&["a/cur", "a/new", "subscriptions"][..], true),
            (&["a/cur", "a/new", "dovecot.index.cache"], true),
            (&["a/cur", "a/new", "subscription"], false),
            (&["a/cur", "a/new", ".b/cur", ".b/new"], true),
            (&["a/cur", "a/new", "b/cur", "b/new"], false),
        ] {
            assert_eq!(folders(make).is_ok(), is_root, "{make:?}");
        }
        assert!(folders(&["mailboxes/a", "cur", "new"]).is_ok(), "no messages of dbox");
        assert!(folders(&["storage/dovecot.map.index", "cur", "new"]).is_ok(), "a folder, not an index");
        let dir = tempfile::tempdir().unwrap();
        create_dir_all(dir.path().join("storage")).unwrap();
        std::fs::write(dir.path().join("storage/dovecot.map.index"), "").unwrap();
        assert!(Maildir::open(dir.path(), None).unwrap_err().to_string().contains("mdbox"));
    }

    #[test]
    fn each_refusal_says_what_is_there() {
        for (number, expected) in [
            (nix::libc::ENOENT, "no such folder"),
            (nix::libc::ENOTDIR, "but a file"),
            (nix::libc::ELOOP, "symbolic link"),
        ] {
            let error = refused(Path::new("/x"), io::Error::from_raw_os_error(number));
            assert!(matches!(&error, Error::NoMaildir { what, .. } if what.contains(expected)), "{error}");
        }
        assert!(matches!(refused(Path::new("/x"), io::Error::from_raw_os_error(5)), Error::Mail { .. }));
    }
}
