//! Edge: Whom a file or folder is left to: root and one delivery user may own and write it, and nobody else.
//!
//! Whoever can write to a folder can put another file, or none, in the place of what is in it. So a path is gone along
//! from its beginning, links included, and each part of it is judged by the one rule of [`Trust::check`].

use std::ffi::OsString;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;

/// Writable by the group, and by all.
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// In such a folder nobody replaces the files of others.
const STICKY: u32 = 0o1000;

/// Most links on the way to a file; the kernel follows as many (`path_resolution(7)`).
const LINKS: usize = 40;

/// Who may own and write files that decide about sealing, beside root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    user: u32,
    groups: Arc<[u32]>,
}

/// What stands at the end of a path.
#[derive(Debug)]
pub enum Reached {
    /// A file or folder, or whatever has that name: only a link at the very end would have been followed.
    There(Metadata),
    /// Nothing: the path ends in the folder that was reached last.
    Missing,
}

impl Trust {
    /// Trusts the user with the id `user`, the group of the same number, which is that user's private one, and `groups`.
    #[must_use]
    pub fn of(user: u32, groups: &[u32]) -> Self {
        Self { user, groups: groups.into() }
    }

    /// Trusts the user that this process runs as.
    #[must_use]
    pub fn of_process(groups: &[u32]) -> Self {
        Self::of(nix::unistd::geteuid().as_raw(), groups)
    }

    /// For an admin who does not know as whom deliveries run: trusts the owner of what is at `path`, or of the nearest
    /// folder above it that does not belong to root.
    #[must_use]
    pub fn of_owner(path: &Path, groups: &[u32]) -> Self {
        let owners = path.ancestors().filter_map(|part| Some(std::fs::metadata(part).ok()?.uid()));
        Self::of(owners.into_iter().find(|owner| *owner != 0).unwrap_or(0), groups)
    }

    /// Whether root alone is trusted.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.user == 0
    }

    /// Refuses what is at `path` where someone else owns it or can write to it. In a sticky folder of root's everybody may
    /// write, because nobody replaces there what is another's.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn check(&self, path: &Path, metadata: &Metadata) -> Result<(), Error> {
        self.check_owner(path, metadata)?;
        let mode = metadata.mode();
        if metadata.is_dir() && mode & STICKY != 0 && metadata.uid() == 0 {
            return Ok(());
        }
        if mode & OTHERS_WRITE != 0 {
            return Err(refused(path, "everybody can write to it", "chmod o-w it"));
        }
        if mode & GROUP_WRITE != 0 && !self.is_trusted_group(metadata.gid()) {
            let what = format!("the group id {} can write to it", metadata.gid());
            let hint = "chmod g-w it, or name the group in `trusted-groups` of [keys]; where it has an ACL, getfacl shows who";
            return Err(refused(path, &what, hint));
        }
        if mode & GROUP_WRITE != 0 { self.check_acl(path, metadata.gid()) } else { Ok(()) }
    }

    /// Where there is an ACL, the group's rights are its mask: who really may write is in the ACL (`acl(5)`; in the attribute,
    /// a version of 4 octets, and for each entry tag, rights and id in 2, 2 and 4, little-endian).
    fn check_acl(&self, path: &Path, group: u32) -> Result<(), Error> {
        const USER: u32 = 0x02;
        const GROUP: u32 = 0x08;
        const WRITE: u32 = 0x02;
        let acl = match xattr::get_deref(path, "system.posix_acl_access") {
            Ok(Some(acl)) => acl,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
            Err(error) => return Err(unreachable(path, &error)),
        };
        let number =
            |octets: &[u8]| octets.iter().rev().fold(0u32, |sum, &octet| sum << 8 | u32::from(octet));
        let others = acl.get(4..).unwrap_or_default().chunks_exact(8).any(|entry| {
            let (tag, rights, id) = (number(&entry[..2]), number(&entry[2..4]), number(&entry[4..]));
            let trusted = match tag {
                USER => id == 0 || id == self.user,
                GROUP => id == group || self.is_trusted_group(id),
                _ => true,
            };
            rights & WRITE != 0 && !trusted
        });
        if others {
            let hint = "look with getfacl, and take that right away: setfacl -b it";
            return Err(refused(path, "its ACL lets others write to it", hint));
        }
        Ok(())
    }

    fn check_owner(&self, path: &Path, metadata: &Metadata) -> Result<(), Error> {
        if [0, self.user].contains(&metadata.uid()) {
            return Ok(());
        }
        let what = format!("it belongs to the user id {}", metadata.uid());
        Err(refused(path, &what, "chown it to root or to the mail user"))
    }

    fn is_trusted_group(&self, group: u32) -> bool {
        group == 0 || group == self.user || self.groups.contains(&group)
    }

    /// Goes along `path`, which is absolute, and judges each part of it from `from` on, a folder on that path, with
    /// everything that links below it lead through.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where a part is refused or cannot be looked at, where a link leads nowhere, and where something
    /// on the way is not a folder.
    // One loop over one state: cut up, every piece of it would take all of that.
    pub fn walk(&self, path: &Path, from: &Path) -> Result<Reached, Error> {
        let mut rest = components(path);
        let mut at = PathBuf::from("/");
        // Links whose targets have not been reached yet, with how much of the path is left behind them.
        let mut links: Vec<(PathBuf, usize)> = Vec::new();
        let below = rest.len().saturating_sub(components(from).len());
        let (mut followed, mut judged) = (0, rest.len() <= below);
        if judged {
            self.check(&at, &look_at(&at)?)?;
        }
        let mut reached = None;
        while let Some(name) = rest.pop() {
            if name == ".." {
                at.pop();
                reached = None;
                continue;
            }
            let next = at.join(&name);
            let metadata = match std::fs::symlink_metadata(&next) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return links.iter().find(|(_, left)| rest.len() >= *left).map_or(
                        Ok(Reached::Missing),
                        |(link, _)| {
                            let hint = "mount what it leads to, or remove the link";
                            Err(refused(link, "it is a link that leads nowhere", hint))
                        },
                    );
                }
                Err(error) => return Err(unreachable(&next, &error)),
            };
            links.retain(|(_, left)| rest.len() > *left);
            judged |= rest.len() <= below;
            if metadata.is_symlink() {
                followed += 1;
                if followed > LINKS {
                    return Err(refused(&next, "it is a link that leads to itself", "remove the link"));
                }
                if judged {
                    self.check_owner(&next, &metadata)?;
                }
                let target = std::fs::read_link(&next).map_err(|error| unreachable(&next, &error))?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                links.push((next, rest.len()));
                rest.extend(components(&target));
                reached = None;
            } else {
                if judged {
                    self.check(&next, &metadata)?;
                }
                at = next;
                reached = Some(metadata);
            }
        }
        Ok(Reached::There(match reached {
            Some(metadata) => metadata,
            None => look_at(&at)?,
        }))
    }
}

fn look_at(path: &Path) -> Result<Metadata, Error> {
    std::fs::symlink_metadata(path).map_err(|error| unreachable(path, &error))
}

/// The parts of a path, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    let named = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = named.collect();
    names.reverse();
    names
}

fn unreachable(path: &Path, error: &std::io::Error) -> Error {
    refused(path, &error.to_string(), super::safe_file::hint_unreadable(error))
}

fn refused(path: &Path, what: &str, hint: &str) -> Error {
    Error::KeyStore { path: path.into(), what: what.into(), hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn walk(path: &Path) -> Result<Reached, Error> {
        Trust::of_process(&[]).walk(path, Path::new("/"))
    }

    #[test]
    fn each_part_of_a_path_is_judged() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        fs::create_dir_all(&deep).unwrap();
        assert!(matches!(walk(&deep), Ok(Reached::There(_))));
        assert!(matches!(walk(&deep.join("x/y")), Ok(Reached::Missing)));
        for part in ["a", "a/b", "a/b/c"] {
            let part = dir.path().join(part);
            chmod(&part, 0o777);
            let error = walk(&deep).unwrap_err();
            assert!(error.to_string().contains(&format!("{}: everybody", part.display())), "{error}");
            let below = Trust::of_process(&[]).walk(&deep, &deep);
            assert_eq!(below.is_ok(), part != deep, "only what lies from there on is judged");
            chmod(&part, 0o755);
        }
    }

    #[test]
    fn what_a_link_leads_through_is_judged_too() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("open/real")).unwrap();
        symlink(at("open/real"), at("link")).unwrap();
        symlink("open/real/../gone", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        assert!(matches!(walk(&at("link")), Ok(Reached::There(_))));
        assert!(matches!(walk(&at("link/x/y")), Ok(Reached::Missing)), "the link leads to a folder");
        chmod(&at("open"), 0o777);
        let error = walk(&at("link")).unwrap_err().to_string();
        assert!(error.contains("open: everybody"), "{error}");
        for name in ["dangling", "dangling/x", "loop"] {
            assert!(matches!(walk(&at(name)), Err(Error::KeyStore { .. })), "{name}");
        }
    }

    #[test]
    fn a_home_that_is_reached_by_a_link_is_judged() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("data/alice/.config")).unwrap();
        symlink(at("data"), at("home")).unwrap();
        chmod(&at("data"), 0o777);
        let home = at("home/alice");
        let walk = |path: &str| Trust::of_process(&[]).walk(&home.join(path), &home);
        assert!(matches!(walk(".config"), Ok(Reached::There(_))), "what lies above the home is not judged");
        assert!(matches!(walk(".config/mailseal"), Ok(Reached::Missing)));
        chmod(&at("data/alice/.config"), 0o777);
        assert!(walk(".config/mailseal").is_err());
    }

    #[test]
    fn only_the_named_and_the_private_group_may_write() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = |mode| {
            chmod(dir.path(), mode);
            fs::metadata(dir.path()).unwrap()
        };
        let group = metadata(0o775).gid();
        let owner = metadata(0o775).uid();
        let check =
            |user, groups: &[u32], mode| Trust::of(user, groups).check(dir.path(), &metadata(mode)).is_ok();
        if group == owner {
            assert!(check(owner, &[], 0o775), "a private group");
        }
        assert!(check(owner, &[group], 0o775) && check(owner, &[], 0o755));
        assert!(!check(owner, &[group], 0o777));
        assert!(owner == 0 || !check(owner + 1, &[group], 0o755), "another's");
        metadata(0o700);
    }

    #[test]
    fn as_many_links_are_followed_as_the_kernel_follows() {
        let dir = tempfile::tempdir().unwrap();
        let at = |number: usize| dir.path().join(number.to_string());
        fs::write(at(0), "").unwrap();
        for number in 1..=LINKS + 1 {
            symlink(at(number - 1), at(number)).unwrap();
        }
        // The folder itself may lie behind links.
        let before = fs::canonicalize(dir.path()).unwrap();
        let walk = |number: usize| walk(&before.join(number.to_string()));
        assert_eq!(walk(LINKS).is_ok(), before == dir.path());
        assert!(walk(LINKS - 10).is_ok());
        assert!(walk(LINKS + 1).unwrap_err().to_string().contains("a link that leads to itself"));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("real/sub")).unwrap();
        symlink(at("real"), at("link")).unwrap();
        symlink(at("link/gone"), at("dangling")).unwrap();
        symlink("../dangling", at("real/further")).unwrap();
        for path in ["dangling", "link/further", "link/further/x/y"] {
            let error = walk(&at(path)).unwrap_err().to_string();
            let expected = format!("{}: it is a link that leads nowhere", at("dangling").display());
            assert!(error.contains(&expected), "{error}");
        }
        for path in ["link/gone", "link/sub/gone", "link/sub/gone/x", "gone"] {
            assert!(matches!(walk(&at(path)), Ok(Reached::Missing)), "{path}");
        }
        for path in ["link/sub", "link/sub/..", "real/sub/../../link", "link/.."] {
            assert!(matches!(walk(&at(path)), Ok(Reached::There(metadata)) if metadata.is_dir()), "{path}");
        }
        fs::write(at("file"), "").unwrap();
        assert!(walk(&at("file/x")).is_err(), "something on the way is not a folder");
        assert!(matches!(walk(Path::new("/")), Ok(Reached::There(_))));
    }

    /// In an ACL's attribute.
    fn entry(tag: u16, rights: u16, id: u32) -> Vec<u8> {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    }

    #[test]
    fn an_acl_says_who_really_may_write() {
        const R: u16 = 4;
        const W: u16 = 6;
        const NOBODY: u32 = u32::MAX;
        let file = tempfile::NamedTempFile::new().unwrap();
        let trust = Trust::of(777, &[888]);
        assert!(trust.check_acl(file.path(), 999).is_ok(), "there is none");
        for (tag, rights, id, fit) in [
            (2, W, 0, true),
            (2, W, 777, true),
            (2, R, 778, true),
            (2, W, 778, false),
            (2, W, 777 + 256, false),
            (2, W, 888, false),
            (8, W, 0, true),
            (8, W, 777, true),
            (8, W, 888, true),
            (8, W, 999, true),
            (8, R, 1000, true),
            (8, W, 1000, false),
        ] {
            let (before, behind) = if tag == 2 {
                (Some(entry(tag, rights, id)), None)
            } else {
                (None, Some(entry(tag, rights, id)))
            };
            let acl = [
                2_u32.to_le_bytes().to_vec(),
                entry(1, W, NOBODY),
                before.unwrap_or_default(),
                entry(4, R, NOBODY),
                behind.unwrap_or_default(),
                entry(0x10, W, NOBODY),
                entry(0x20, R, NOBODY),
            ];
            if let Err(error) = xattr::set(file.path(), "system.posix_acl_access", &acl.concat()) {
                return testing::skip::unless_ci(&format!("no ACLs in {}: {error}", file.path().display()));
            }
            assert_eq!(trust.check_acl(file.path(), 999).is_ok(), fit, "{tag} {rights} {id}");
            // The rights of the group are the ACL's mask.
            let metadata = fs::metadata(file.path()).unwrap();
            let trust = Trust::of(metadata.uid(), &[metadata.gid(), 777, 888, 999]);
            assert_eq!(
                trust.check(file.path(), &metadata).is_ok(),
                fit && (tag == 8 || id == 0 || rights == R),
                "{tag} {rights} {id}"
            );
        }
        // What the mask takes away, nobody has: it stands as the group's rights in the mode.
        let masked = [
            entry(1, W, NOBODY),
            entry(2, W, 778),
            entry(4, R, NOBODY),
            entry(0x10, R, NOBODY),
            entry(0x20, R, NOBODY),
        ];
        xattr::set(
            file.path(),
            "system.posix_acl_access",
            &[2_u32.to_le_bytes().to_vec(), masked.concat()].concat(),
        )
        .unwrap();
        let metadata = fs::metadata(file.path()).unwrap();
        assert!(Trust::of(metadata.uid(), &[]).check(file.path(), &metadata).is_ok());
        assert!(trust.check_acl(Path::new("/proc/self/status"), 0).is_ok(), "a file system without ACLs");
        assert!(trust.check_acl(&file.path().join("x"), 0).is_err(), "it cannot be asked");
    }

    #[test]
    fn trusted_groups_are_root_s_the_private_one_and_those_named() {
        let trust = Trust::of(7, &[8]);
        assert!(Trust::of(0, &[8]).is_root() && !trust.is_root());
        for (group, trusted) in [(0, true), (7, true), (8, true), (9, false)] {
            assert_eq!(trust.is_trusted_group(group), trusted, "{group}");
        }
    }

    #[test]
    fn others_own_and_write_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let me = fs::metadata(&file).unwrap().uid();
        assert_eq!(Trust::of_owner(&file, &[]), Trust::of(me, &[]));
        assert_eq!(Trust::of_owner(&dir.path().join("gone/x"), &[5]), Trust::of(me, &[5]));
        let says = |trust: &Trust, path: &Path| match trust.check(path, &fs::metadata(path).unwrap()) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        let temporary = fs::metadata("/tmp").unwrap();
        if temporary.uid() == 0 && temporary.mode() & STICKY != 0 {
            assert_eq!(says(&Trust::of(1, &[]), Path::new("/tmp")), "");
        }
        if me != 0 {
            return testing::skip::unless_ci("only root can make files of others");
        }
        chmod(&file, 0o1666);
        assert!(says(&Trust::of(0, &[]), &file).contains("everybody"), "a file is not sticky");
        std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
        chmod(dir.path(), 0o1777);
        assert!(says(&Trust::of(12345, &[]), dir.path()).contains("everybody"), "a sticky folder of another");
        assert!(says(&Trust::of(0, &[]), dir.path()).contains("belongs to the user id 12345"));
        assert_eq!(
            Trust::of_owner(&file, &[]),
            Trust::of(12345, &[]),
            "of the nearest folder that is not root's"
        );
        std::os::unix::fs::chown(&file, Some(12345), Some(23456)).unwrap();
        chmod(&file, 0o664);
        assert!(says(&Trust::of(12345, &[]), &file).contains("the group id 23456"));
        assert_eq!(says(&Trust::of(12345, &[23456]), &file), "");
        chmod(&file, 0o644);
        assert_eq!(says(&Trust::of(12345, &[]), &file), "");
        assert!(says(&Trust::of(54321, &[]), &file).contains("belongs to"));
    }
}
