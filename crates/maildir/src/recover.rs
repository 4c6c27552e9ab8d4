//! Edge: What a killed run left behind, and is put in order before the next one begins.
//!
//! A file in `tmp/`, a lock, and one that was not in its place yet are removed. Of an old message and the one that was made from it the new one stays, with the flags of
//! both; that they belong together is proven by the new one's [tag](super::tag). `\Deleted` is kept only where both
//! have it: who saw a message twice may have deleted one of them.

use std::collections::HashMap;
use std::io;
use std::time::SystemTime;

use super::commit::entry;
use super::dir::{Dir, Kind, Stamp, kind_of, links_of};
use super::draft;
use super::folder::{Folder, Hold, Message, Place};
use super::lock::{self, Lock};
use super::tag::Tag;
use super::uidlist::{self, Renames};
use crate::error::Error;

/// A file in `tmp/` that is older is nobody's, for Dovecot and for every other program.
const ABANDONED: u64 = 36 * 60 * 60;

/// The flag `\Deleted`.
const DELETED: u8 = b'T';

/// What was put in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Files that were removed: in `tmp/`, and locks that were not in their place yet.
    pub temporary: u64,
    /// Old messages that were removed because the new one is there.
    pub replaced: Vec<Unlinked>,
}

/// A file of which one name was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlinked {
    /// Which file it is, within its file system.
    pub inode: u64,
    /// How many names elsewhere it still has.
    pub links: u64,
}

/// Puts a folder in order. No other run is at work on it, which `hold` proves.
///
/// # Errors
/// [`Error::Mail`]; nothing is lost then, and the next run tries again.
pub fn recover(hold: &Hold<'_>) -> Result<Recovered, Error> {
    let folder = hold.folder;
    let swept = |dir, prefix| sweep(dir, prefix, hold.alone).map_err(|error| folder.failed(error));
    let temporary = swept(&folder.tmp, draft::PREFIX)? + swept(&folder.control, lock::PREFIX)?;
    Lock::clear(&folder.control, &folder.patience).map_err(|error| folder.failed(error))?;
    let twins = find_twins(folder)?;
    let mut recovered = Recovered { temporary, replaced: Vec::new() };
    if !twins.is_empty() {
        let mut settle = || -> io::Result<()> {
            let _turn = folder.commit_turn();
            let lock = Lock::take(&folder.control, &folder.patience)?;
            let renames: Renames = twins.iter().map(|twin| entry(&twin.old.name, &twin.new.name)).collect();
            // Where the new one is listed already, Dovecot has given it a UID, and it stays so.
            uidlist::rename(&folder.control, &lock, &renames)?;
            for twin in &twins {
                recovered.replaced.extend(twin.settle(folder)?);
            }
            [Place::Cur, Place::New].into_iter().try_for_each(|place| folder.dir(place).sync())
        };
        settle().map_err(|error| folder.failed(error))?;
    }
    Ok(recovered)
}

/// An old message and the one that was made from it.
struct Twins {
    old: Message,
    new: Message,
    tag: Tag,
}

impl Twins {
    /// Removes the old one, if all is as it was when they were found.
    fn settle(&self, folder: &Folder) -> io::Result<Option<Unlinked>> {
        let (Some(old), Some(new)) = (folder.stat(&self.old)?, folder.stat(&self.new)?) else {
            return Ok(None);
        };
        let (stamp, made) = (Stamp::of(&old), Stamp::of(&new));
        let whole = self.new.name.size(b'S').is_none_or(|size| size == made.size) && made.size > 0;
        if Tag::of(&self.old.name, &stamp) != self.tag || made.modified != stamp.modified || !whole {
            return Ok(None);
        }
        let flags = merged(self.old.name.flags(), self.new.name.flags());
        let mut sorted = self.new.name.flags().to_vec();
        sorted.sort_unstable();
        if flags != sorted {
            let name = self.new.name.with_flags(&flags);
            folder.dir(self.new.place).rename(
                self.new.name.as_os_str(),
                folder.dir(Place::Cur),
                name.as_os_str(),
            )?;
        }
        [Place::Cur, Place::New].into_iter().try_for_each(|place| folder.dir(place).sync())?;
        folder.dir(self.old.place).unlink(self.old.name.as_os_str())?;
        Ok(Some(Unlinked { inode: stamp.inode, links: links_of(&old).saturating_sub(1) }))
    }
}

/// The flags of both, sorted.
fn merged(old: &[u8], new: &[u8]) -> Vec<u8> {
    let both = |flag: &u8| *flag != DELETED || old.contains(flag) && new.contains(flag);
    let mut flags: Vec<u8> = old.iter().chain(new).copied().filter(both).collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}

fn find_twins(folder: &Folder) -> Result<Vec<Twins>, Error> {
    let messages = folder.list()?.messages;
    let made: HashMap<Tag, &Message> =
        messages.iter().filter_map(|message| Some((Tag::in_name(&message.name)?, message))).collect();
    if made.is_empty() {
        return Ok(Vec::new());
    }
    let mut twins = Vec::new();
    for old in &messages {
        let stat = folder.stat(old).map_err(|error| folder.failed_at(&folder.path_of(old), error))?;
        let Some(stat) = stat else { continue };
        let tag = Tag::of(&old.name, &Stamp::of(&stat));
        if let Some(new) = made.get(&tag) {
            twins.push(Twins { old: old.clone(), new: (*new).clone(), tag });
        }
    }
    Ok(twins)
}

/// Removes the files of ours in `dir` that a killed run left: their names begin with `prefix`. Where nobody knows whether
/// another run is at work (`alone`), only what is old.
fn sweep(dir: &Dir, prefix: &str, alone: bool) -> io::Result<u64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut removed = 0;
    for (name, kind) in dir.entries()? {
        if kind != Kind::File || !name.as_encoded_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let old = || {
            let changed = dir.stat(&name).ok().filter(|stat| kind_of(stat) == Kind::File);
            changed.is_some_and(|stat| is_abandoned(stat.st_ctime.unsigned_abs(), now))
        };
        if alone || old() {
            dir.unlink(&name)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a file that changed last at this time is nobody's any more, both in seconds.
fn is_abandoned(changed: u64, now: u64) -> bool {
    changed + ABANDONED < now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_nobody_s_after_a_day_and_a_half() {
        for (hours, seconds, abandoned) in [(0, 0, false), (36, 0, false), (36, 1, true), (37, 0, true)] {
            assert_eq!(
                is_abandoned(1_000_000, 1_000_000 + hours * 3600 + seconds),
                abandoned,
                "{hours} {seconds}"
            );
        }
    }

    #[test]
    fn flags_of_both_are_kept_but_a_deletion_of_one() {
        for (old, new, both) in
            [("S", "F", "FS"), ("T", "", ""), ("ST", "T", "ST"), ("", "", ""), ("Sa", "Sb", "Sab")]
        {
            assert_eq!(merged(old.as_bytes(), new.as_bytes()), both.as_bytes(), "{old} {new}");
        }
    }
}
