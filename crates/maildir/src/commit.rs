//! Edge: Puts new messages in the place of old ones, a batch at a time: each message is there at every instant, and
//! once in the end. The steps are on the front page of this [crate].

use std::io;

use super::dir::{Stamp, links_of};
use super::draft::Ready;
use super::folder::{Folder, Message, Place};
use super::lock::Lock;
use super::name::Name;
use super::rewrite::threads;
use super::tag::Tag;
use super::uidlist::{self, Renames};
use crate::durable;
use crate::error::Error;

/// Most new messages that all threads of a run bring to the disk at once.
const FLUSHED_AT_ONCE: usize = 16;

/// How often a message is looked for that a program without Dovecot's lock renames meanwhile.
const TRIES: usize = 8;

/// What becomes of the UIDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uids {
    /// Dovecot gives a new one: clients see a new message in the place of an old one.
    #[default]
    New,
    /// The new name takes the old one's place in `dovecot-uidlist`. For mailboxes whose users are logged out: the
    /// content under the UID changes, which IMAP forbids.
    Keep,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The new message is in the old one's place.
    Replaced {
        /// How many names elsewhere the old file still has.
        links: u64,
    },
    /// The old one was expunged meanwhile, and so there is no new one either.
    Gone,
    /// The old one was moved to another folder meanwhile, where it is as it was.
    Moved,
    /// The old one has other content than was read; it was left alone.
    Changed,
}

/// A new message that has been put beside the old one.
struct Placed<'a> {
    ready: Box<Ready<'a>>,
    old: Message,
    new: Message,
}

/// Where a message of a batch stands.
enum State<'a> {
    Placed(Placed<'a>),
    Done(Result<Committed, Error>),
}

impl Folder {
    /// Commits a batch under one lock; the results are in the order of the messages.
    ///
    /// An error means that the old message is there, and the new one is not; unless flushing failed after the old one
    /// was unlinked.
    #[must_use]
    pub fn commit(&self, batch: Vec<Box<Ready<'_>>>, uids: Uids) -> Vec<Result<Committed, Error>> {
        // Flushed before the lock is taken, so that others wait for renames only.
        let files: Vec<_> = batch.iter().map(|ready| &ready.file).collect();
        let flushed = durable::flush_each(&files, (FLUSHED_AT_ONCE / threads()).max(1));
        let synced: Vec<_> =
            batch.into_iter().zip(flushed).map(|(ready, flushed)| flushed.map(|()| ready)).collect();
        let _turn = self.commit_turn();
        let lock = Lock::take(&self.control, &self.patience);
        let mut batch: Vec<State<'_>> = synced
            .into_iter()
            .map(|ready| match (ready, &lock) {
                (Ok(ready), Ok(_)) => self.place(ready),
                (Err(error), _) => State::Done(Err(self.failed(error))),
                (Ok(_), Err(error)) => State::Done(Err(self.failed(copy(error)))),
            })
            .collect();
        if let Ok(lock) = &lock {
            let settled = self.sync(&batch).and_then(|()| match uids {
                Uids::New => Ok(()),
                Uids::Keep => uidlist::rename(&self.control, lock, &renames(&batch)),
            });
            let places = self.places(&batch);
            match settled {
                Ok(()) => batch = self.for_placed(batch, |folder, placed| folder.remove_old(placed)),
                Err(error) => {
                    batch = self.for_placed(batch, |folder, placed| {
                        folder.withdraw(&placed.new)?;
                        Err(folder.failed_at(&folder.path_of(&placed.old), copy(&error)))
                    });
                }
            }
            if let Err(error) = self.sync_places(places) {
                for state in &mut batch {
                    if matches!(state, State::Done(Ok(Committed::Replaced { .. }))) {
                        *state = State::Done(Err(self.failed(copy(&error))));
                    }
                }
            }
        }
        drop(lock);
        let done = |state| match state {
            State::Done(result) => result,
            // Unreachable: `for_placed` has settled each. A message that is in both places is found by the next run.
            State::Placed(placed) => {
                Err(self.failed_at(&self.path_of(&placed.old), io::Error::other("left undecided")))
            }
        };
        batch.into_iter().map(done).collect()
    }

    fn for_placed<'a>(
        &self,
        batch: Vec<State<'a>>,
        settle: impl Fn(&Self, Placed<'a>) -> Result<Committed, Error>,
    ) -> Vec<State<'a>> {
        batch
            .into_iter()
            .map(|state| match state {
                State::Placed(placed) => State::Done(settle(self, placed)),
                done @ State::Done(_) => done,
            })
            .collect()
    }

    /// Puts a new message beside the old one, under its tagged name, with the flags that the old one has now.
    fn place<'a>(&self, mut ready: Box<Ready<'a>>) -> State<'a> {
        let path = self.path_of(ready.original.message());
        let result = (|| {
            let original = &ready.original;
            let stamp = original.stamp();
            let now = nix::sys::stat::fstat(original.file())?;
            if links_of(&now) == 0 {
                return Ok(Err(Committed::Gone));
            }
            if Stamp::of(&now) != stamp {
                return Ok(Err(Committed::Changed));
            }
            let Some(old) = self.locate(original.message(), stamp.inode)? else {
                return Ok(Err(Committed::Moved));
            };
            let name = Tag::of(&old.name, &stamp).rename(&old.name, ready.sizes);
            let new = Message { place: old.place, name };
            self.tmp.rename(&ready.temporary.name, self.dir(new.place), new.name.as_os_str())?;
            ready.temporary.placed = true;
            Ok::<_, io::Error>(Ok((old, new)))
        })();
        match result {
            Ok(Ok((old, new))) => State::Placed(Placed { ready, old, new }),
            Ok(Err(outcome)) => State::Done(Ok(outcome)),
            Err(error) => State::Done(Err(self.failed_at(&path, error))),
        }
    }

    /// Unlinks the old message, whose place the new one has taken.
    fn remove_old(&self, placed: Placed<'_>) -> Result<Committed, Error> {
        let Placed { ready, mut old, mut new } = placed;
        let original = &ready.original;
        let inode = original.stamp().inode;
        let mut step = || -> io::Result<Option<Committed>> {
            match self.locate(&old, inode)? {
                Some(now) if now == old => match self.dir(old.place).unlink(old.name.as_os_str()) {
                    // From here on nothing may take the new one away.
                    Ok(()) => {
                        return Ok(Some(Committed::Replaced { links: original.links().unwrap_or_default() }));
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                },
                // Flagged meanwhile by a program that does not know Dovecot's lock.
                Some(now) => {
                    let renamed = Message { place: now.place, name: new.name.with_info_of(&now.name) };
                    self.rename(&new, &renamed)?;
                    (old, new) = (now, renamed);
                }
                // Folders that change while they are read may not show a name: only a file without any is gone.
                None if original.links()? == 0 => return Ok(Some(Committed::Gone)),
                None => std::thread::yield_now(),
            }
            Ok(None)
        };
        let outcome = (0..TRIES).find_map(|_| step().transpose()).unwrap_or(Ok(Committed::Moved));
        let outcome = outcome.map_err(|error| self.failed_at(&self.path_of(&old), error));
        if !matches!(outcome, Ok(Committed::Replaced { .. })) {
            // The old one is there still, moved, or expunged; never both. If it were only hidden, it would stay.
            self.withdraw(&new)?;
        }
        outcome
    }

    fn rename(&self, from: &Message, to: &Message) -> io::Result<()> {
        self.dir(from.place).rename(from.name.as_os_str(), self.dir(to.place), to.name.as_os_str())
    }

    /// Takes a new message away again.
    fn withdraw(&self, new: &Message) -> Result<(), Error> {
        match self.dir(new.place).unlink(new.name.as_os_str()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed_at(&self.path_of(new), error))
            }
            _ => Ok(()),
        }
    }

    fn sync(&self, batch: &[State<'_>]) -> io::Result<()> {
        self.sync_places(self.places(batch))
    }

    /// In which of `cur` and `new` something has been placed.
    fn places(&self, batch: &[State<'_>]) -> Vec<Place> {
        let is_used = |place: &Place| {
            batch.iter().any(|state| matches!(state, State::Placed(placed) if placed.new.place == *place))
        };
        [Place::Cur, Place::New].into_iter().filter(is_used).collect()
    }

    fn sync_places(&self, places: Vec<Place>) -> io::Result<()> {
        places.into_iter().try_for_each(|place| self.dir(place).sync())
    }
}

fn renames(batch: &[State<'_>]) -> Renames {
    let pair = |state: &State<'_>| match state {
        State::Placed(placed) => Some(entry(&placed.old.name, &placed.new.name)),
        State::Done(_) => None,
    };
    batch.iter().filter_map(pair).collect()
}

/// An error that more than one message failed with.
fn copy(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

/// One entry for the list of UIDs.
pub(super) fn entry(old: &Name, new: &Name) -> (Vec<u8>, Name) {
    (old.base().to_vec(), new.clone())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;

    use super::*;
    use crate::draft::{Change, Drafted};
    use crate::layout::Maildir;

    /// A message that has been put beside the old one, `cur/1.host:2,S`; then `meanwhile` is done in the Maildir.
    fn settled(meanwhile: impl FnOnce(&Path, &Folder, &Placed<'_>)) -> (Committed, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["cur", "new", "tmp"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("cur/1.host:2,S"), "old").unwrap();
        let folder = Maildir::open(dir.path(), None).unwrap().folder(Path::new("")).unwrap();
        let message = folder.list().unwrap().messages.remove(0);
        let drafted = folder.draft(&message, |_, draft| {
            draft.write_all(b"new").unwrap();
            Ok::<_, Error>(Change::Replace(()))
        });
        let Ok(Drafted::Ready(ready, ())) = drafted else { panic!("{drafted:?}") };
        let State::Placed(placed) = folder.place(ready) else { panic!() };
        assert_eq!(folder.places(&[]), []);
        meanwhile(dir.path(), &folder, &placed);
        let committed = folder.remove_old(placed).unwrap();
        let messages = folder.list().unwrap().messages;
        let name = |message: &Message| {
            folder.path_of(message).strip_prefix(dir.path()).unwrap().display().to_string()
        };
        (committed, messages.iter().map(name).collect())
    }

    #[test]
    fn the_old_message_may_go_its_way_while_the_new_one_is_placed() {
        let (committed, names) = settled(|_, _, _| ());
        assert_eq!(committed, Committed::Replaced { links: 0 });
        assert!(
            names.len() == 1 && names[0].starts_with("cur/1.host.s") && names[0].ends_with(":2,S"),
            "{names:?}"
        );
        let (committed, names) = settled(|dir, _, _| fs::remove_file(dir.join("cur/1.host:2,S")).unwrap());
        assert_eq!((committed, names), (Committed::Gone, vec![]), "expunged");
        let (committed, names) =
            settled(|dir, _, _| fs::rename(dir.join("cur/1.host:2,S"), dir.join("elsewhere")).unwrap());
        assert_eq!((committed, names), (Committed::Moved, vec![]), "moved to another folder");
        let (committed, names) =
            settled(|dir, _, _| fs::rename(dir.join("cur/1.host:2,S"), dir.join("cur/1.host:2,FS")).unwrap());
        assert_eq!(committed, Committed::Replaced { links: 0 });
        assert!(names.len() == 1 && names[0].ends_with(":2,FS"), "flagged: {names:?}");
        let (committed, names) = settled(|dir, _, _| {
            fs::rename(dir.join("cur/1.host:2,S"), dir.join("elsewhere")).unwrap();
            fs::write(dir.join("cur/1.host:2,S"), "another").unwrap();
        });
        assert_eq!(
            (committed, names),
            (Committed::Moved, vec!["cur/1.host:2,S".to_owned()]),
            "another has its name"
        );
    }

    #[test]
    fn a_new_message_that_is_withdrawn_may_be_gone_already() {
        let (committed, names) = settled(|dir, folder, placed| {
            folder.withdraw(&placed.new).unwrap();
            folder.withdraw(&placed.new).unwrap();
            fs::create_dir(folder.path_of(&placed.new)).unwrap();
            assert!(
                matches!(folder.withdraw(&placed.new), Err(Error::Mail { path, .. }) if path == folder.path_of(&placed.new))
            );
            fs::remove_dir(folder.path_of(&placed.new)).unwrap();
            fs::remove_file(dir.join("cur/1.host:2,S")).unwrap();
        });
        assert_eq!((committed, names), (Committed::Gone, vec![]));
    }

    #[test]
    fn an_error_is_told_of_each_message() {
        let error = copy(&io::Error::from_raw_os_error(nix::libc::ENOSPC));
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENOSPC));
        let error = copy(&io::Error::new(io::ErrorKind::TimedOut, "held"));
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::TimedOut, "held".to_owned()));
    }
}
