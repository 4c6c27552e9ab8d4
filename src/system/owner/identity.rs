//! Whose rights a process gets: the owner's uid, with the primary group and the groups that the system says.

use std::ffi::CString;
use std::io;
use std::path::Path;

use mailseal_maildir::dir::Dir;
use mailseal_maildir::error::Error as MaildirError;
use mailseal_maildir::layout::Maildir;
use nix::unistd::{Gid, Uid, User, getegid, geteuid, getgrouplist};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::system::process;

/// Groups below belong to the system and not to people (`SYS_GID_MAX`).
const FIRST_OF_PEOPLE: u32 = 1000;

/// The owner of what is at `path`, or of the nearest folder above it, that is there and not root's: whoever owns a folder can put
/// another one in the place of root's that lies in it. `None` where root alone can have made all of it. Nothing is opened, and
/// no link of others' is followed.
///
/// # Errors
/// Those of looking, as [`Dir::stat_at`] has them.
pub fn owner_at(path: &Path) -> io::Result<Option<(Uid, Gid)>> {
    for folder in path.ancestors() {
        match Dir::stat_at(folder) {
            Ok(stat) if stat.st_uid != 0 => {
                return Ok(Some((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A user's ids, as numbers: whoever gets them asks nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Identity {
    /// The ids of `uid`. What the system knows of the user counts alone: the group of a folder does not, since whoever makes
    /// a folder below one with the setgid bit gets its group without being in it.
    ///
    /// A user that the system does not know, as virtual ones have them, gets `group`, that of the Maildir or home, unless it
    /// is one of the system's.
    ///
    /// # Errors
    /// [`Error::Privileges`] for a system that does not answer, and where nobody says which group is the user's;
    /// [`Error::Root`].
    pub fn of(uid: Uid, group: Gid) -> Result<Self, Error> {
        let failed = |what: String| Error::Privileges { what };
        if uid.is_root() {
            return Err(Error::Root);
        }
        let known = User::from_uid(uid).map_err(|error| failed(format!("the user {uid}: {error}")))?;
        let Some(user) = known else { return Self::unknown(uid, group) };
        let name = CString::new(user.name).map_err(|error| failed(error.to_string()))?;
        let groups = getgrouplist(&name, user.gid)
            .map_err(|error| failed(format!("the groups of user {uid}: {error}")))?;
        let groups = groups.into_iter().map(Gid::as_raw).collect();
        Ok(Self { uid: uid.as_raw(), gid: user.gid.as_raw(), groups })
    }

    /// Whose rights reading a Maildir takes; `None` are those of who runs this.
    ///
    /// # Errors
    /// Those of [`Maildir::owner_of`] and [`Identity::of`].
    pub fn to_read(path: &Path) -> Result<Option<Self>, Error> {
        let (user, group) = Maildir::owner_of(path)?;
        if user == geteuid() || !geteuid().is_root() { Ok(None) } else { Self::of(user, group).map(Some) }
    }

    /// Whose rights changing a Maildir takes; `None` are those of who runs this.
    ///
    /// # Errors
    /// As [`Identity::to_read`]; [`MaildirError::Mail`] for another's Maildir, where this is not root's.
    pub fn to_change(path: &Path) -> Result<Option<Self>, Error> {
        let (own, user) = (geteuid(), Maildir::owner_of(path)?.0);
        if own.is_root() || user == own {
            return Self::to_read(path);
        }
        let what = format!("it belongs to user {user}, and this runs as user {own}: run it as its owner");
        let source = io::Error::new(io::ErrorKind::PermissionDenied, what);
        Err(MaildirError::Mail { path: path.into(), source }.into())
    }

    /// The ids of who runs this, whether the system knows them or not: there is nothing to give up.
    #[must_use]
    pub fn own() -> Self {
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw(), groups: Vec::new() }
    }

    fn unknown(uid: Uid, group: Gid) -> Result<Self, Error> {
        let (uid, gid) = (uid.as_raw(), group.as_raw());
        if gid < FIRST_OF_PEOPLE && gid != uid {
            let what = format!(
                "the system does not know user {uid}, and the group of the Maildir or home, {gid}, is one of the system's: \
                 give the user an entry in /etc/passwd, or the folder a group of its own (chgrp -R)"
            );
            return Err(Error::Privileges { what });
        }
        Ok(Self { uid, gid, groups: vec![gid] })
    }

    /// The primary group.
    #[must_use]
    pub fn gid(&self) -> Gid {
        Gid::from_raw(self.gid)
    }

    /// The user.
    #[must_use]
    pub fn uid(&self) -> Uid {
        Uid::from_raw(self.uid)
    }

    /// Gives the process these ids for good. One that is not root's must have them already.
    ///
    /// # Errors
    /// [`Error::Privileges`].
    pub fn adopt(&self) -> Result<(), Error> {
        if geteuid().is_root() {
            let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
            return process::become_user(self.uid(), Gid::from_raw(self.gid), &groups);
        }
        if geteuid() == self.uid() {
            return process::forbid_dumps();
        }
        let what = format!("this runs as user {}, and the task is user {}'s", geteuid(), self.uid);
        Err(Error::Privileges { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No user of any system that the tests run on.
    const NOBODY_KNOWN: u32 = 3_999_999_999;

    #[test]
    fn the_group_of_a_folder_makes_nobody_its_member() {
        let uid = Uid::from_raw(NOBODY_KNOWN);
        for group in [0, 4, 8, 42, 100, 999] {
            assert!(Identity::of(uid, Gid::from_raw(group)).is_err(), "{group}");
        }
        for group in [1000, 5000, NOBODY_KNOWN] {
            assert_eq!(Identity::of(uid, Gid::from_raw(group)).unwrap().groups, [group]);
        }
        assert!(matches!(Identity::of(Uid::from_raw(0), Gid::from_raw(0)), Err(Error::Root)));
        let Ok(Some(user)) = User::from_name("daemon") else { return };
        let identity = Identity::of(user.uid, Gid::from_raw(0)).unwrap();
        assert_eq!((identity.uid, identity.gid), (user.uid.as_raw(), user.gid.as_raw()));
        assert!(!identity.groups.contains(&0));
    }
}
