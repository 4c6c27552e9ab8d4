//! Edge: Rewrites the messages of a folder: as many are drafted at once as the rayon pool has threads that this is called
//! in, or one outside of any, and what a thread has drafted is committed together.
//!
//! What a message becomes, and what is told of it, is the caller's [`Work`]; nothing is printed here.

use nix::sys::stat::FileStat;
use rayon::prelude::*;

use crate::commit::{Committed, Uids};
use crate::draft::{Change, Draft, Drafted, Original};
use crate::error::Error;
use crate::folder::{Folder, Message};
use crate::odd::Odd;
use crate::recover::{Recovered, Unlinked, recover};

/// The largest batch: its bytes lie in `tmp/` twice over until it is committed.
const BATCH: Most = Most { messages: 32, bytes: 64 * 1024 * 1024 };

/// How many messages are looked at before it is said that the work goes on.
const LOOKED_AT: usize = 1000;

/// What is done with the messages of a folder. All of it is called on several threads.
pub trait Work: Sync {
    /// What is found out about a message.
    type Finding: Send;
    /// Why a message could not be worked on.
    type Error: From<Error>;

    /// Reads a message, and writes the one that is to take its place.
    ///
    /// # Errors
    /// Whatever keeps the message as it is.
    fn transform(
        &self,
        original: &Original,
        draft: &mut Draft<'_>,
    ) -> Result<Change<Self::Finding>, Self::Error>;

    /// Takes what happens.
    fn tell(&self, event: Event<'_, Self::Finding, Self::Error>);

    /// Whether a message is to be worked on.
    fn wants(&self, _message: &Message, _stat: &FileStat) -> bool {
        true
    }

    /// Whether no further message is to be begun. What was drafted is committed all the same.
    fn stopped(&self) -> bool {
        false
    }
}

/// What happens in a folder.
#[derive(Debug)]
pub enum Event<'a, F, E> {
    /// Another run works on it, and is waited for.
    Waiting,
    /// What a killed run left is in order.
    Recovered(Recovered),
    /// Mail programs may take this for a message, and it is left alone.
    Odd(&'a Odd),
    /// The work goes on.
    Alive,
    /// This became of a message.
    Message(&'a Item, Result<Outcome<F>, E>),
}

/// A message to be worked on.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its file, as it was listed.
    pub message: Message,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<F> {
    /// The new message is in the old one's place.
    Replaced {
        /// What the transformation found.
        finding: F,
        /// Bytes of the new message.
        bytes: u64,
        /// The old file.
        old: Unlinked,
    },
    /// It stays as it is.
    Kept(F),
    /// It was not there any more when its turn came: it was expunged, or moved to another folder.
    Missing,
    /// It was expunged while the new one was written, and so there is no new one either.
    Expunged,
    /// It was moved to another folder while the new one was written; it is there as it was.
    Moved,
    /// It got other content while the new one was written, and was left alone.
    Changed,
}

/// Whether messages are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Nothing is written, and nobody waited for. Every [`Change`] must be [`Change::Keep`].
    DryRun,
    /// They are replaced, and this becomes of their UIDs.
    Replace(Uids),
}

/// How large a batch may be.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Messages.
    pub messages: usize,
    /// Bytes, but for a first message that is larger by itself.
    pub bytes: u64,
}

/// Works on the messages of a folder that `work` wants, on the threads of the rayon pool this is called in; outside of any,
/// on this thread alone.
///
/// # Errors
/// [`Error::Mail`] where the folder cannot be held, put in order or listed. What fails with a single message is told.
pub fn rewrite<W: Work>(folder: &Folder, manner: Manner, work: &W) -> Result<(), W::Error> {
    let _hold = match manner {
        Manner::DryRun => None,
        Manner::Replace(_) => {
            let hold = folder.hold(|| work.tell(Event::Waiting))?;
            work.tell(Event::Recovered(recover(&hold)?));
            Some(hold)
        }
    };
    let listing = folder.list()?;
    listing.odd.iter().for_each(|odd| work.tell(Event::Odd(odd)));
    let wants = |message: &Message, stat: &FileStat| work.wants(message, stat);
    let items = sized(folder, listing.messages, wants, || work.tell(Event::Alive))?;
    // Small enough that every thread has some.
    let messages = items.len().div_ceil(threads()).clamp(1, BATCH.messages);
    let batches = batches(&items, Most { messages, ..BATCH }, |item| item.bytes, |_| false);
    let each = |batch: &&[Item]| rewrite_batch(folder, batch, manner, work);
    if is_pooled() {
        batches.par_iter().with_max_len(1).for_each(each);
    } else {
        batches.iter().for_each(each);
    }
    Ok(())
}

/// How many threads work on a folder side by side, here.
pub(super) fn threads() -> usize {
    // Outside of a pool, asking rayon would make one.
    if is_pooled() { rayon::current_num_threads() } else { 1 }
}

fn is_pooled() -> bool {
    rayon::current_thread_index().is_some()
}

/// Those of `messages` that `wants` accepts, with their sizes; one that goes away while this looks is not among them. `alive` is
/// called now and then.
///
/// # Errors
/// [`Error::Mail`].
pub fn sized(
    folder: &Folder,
    messages: Vec<Message>,
    wants: impl Fn(&Message, &FileStat) -> bool,
    alive: impl Fn(),
) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    for (at, message) in messages.into_iter().enumerate() {
        if at % LOOKED_AT == 0 {
            alive();
        }
        let stat =
            folder.stat(&message).map_err(|source| folder.failed_at(&folder.path_of(&message), source))?;
        if let Some(stat) = stat.filter(|stat| wants(&message, stat)) {
            items.push(Item { message, bytes: stat.st_size.unsigned_abs() });
        }
    }
    Ok(items)
}

/// Drafts the messages of a batch, and commits them.
fn rewrite_batch<W: Work>(folder: &Folder, batch: &[Item], manner: Manner, work: &W) {
    let (mut ready, mut of) = (Vec::new(), Vec::new());
    for item in batch {
        if work.stopped() {
            break;
        }
        let drafted = folder.draft(&item.message, |original, draft| work.transform(original, draft));
        let outcome = match (drafted, manner) {
            (Ok(Drafted::Ready(draft, finding)), Manner::Replace(_)) => {
                of.push((item, finding, draft.size(), draft.original().stamp().inode));
                ready.push(draft);
                continue;
            }
            (Ok(Drafted::Ready(_, finding) | Drafted::Kept(finding)), _) => Ok(Outcome::Kept(finding)),
            (Ok(Drafted::Gone), _) => Ok(Outcome::Missing),
            (Err(error), _) => Err(error),
        };
        work.tell(Event::Message(item, outcome));
    }
    let Manner::Replace(uids) = manner else { return };
    if ready.is_empty() {
        return;
    }
    for ((item, finding, bytes, inode), result) in of.into_iter().zip(folder.commit(ready, uids)) {
        let outcome = result.map(|committed| match committed {
            Committed::Replaced { links } => {
                Outcome::Replaced { finding, bytes, old: Unlinked { inode, links } }
            }
            Committed::Gone => Outcome::Expunged,
            Committed::Moved => Outcome::Moved,
            Committed::Changed => Outcome::Changed,
        });
        work.tell(Event::Message(item, outcome.map_err(Into::into)));
    }
}

/// Batches of `items`, in their order, that are no larger than `most`. `size` tells an item's bytes; one that is `alone` is a
/// batch by itself.
pub fn batches<T>(
    items: &[T],
    most: Most,
    size: impl Fn(&T) -> u64,
    alone: impl Fn(&T) -> bool,
) -> Vec<&[T]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        let apart = at > 0 && (alone(item) || alone(&items[at - 1]));
        if at > start && (apart || at - start == most.messages || bytes + size(item) > most.bytes) {
            batches.push(&items[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size(item);
    }
    if start < items.len() {
        batches.push(&items[start..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_all_and_not_too_much() {
        let items: Vec<(u32, u64)> =
            (0..100).map(|number| (number, if number % 10 == 0 { 50 } else { 1 })).collect();
        let alone = |number: u32| [5, 6, 99].contains(&number);
        for messages in [1, 2, 7, 16, 200] {
            let batches = batches(&items, Most { messages, bytes: 50 }, |it| it.1, |it| alone(it.0));
            assert_eq!(batches.concat(), items);
            for batch in batches {
                assert!(!batch.is_empty() && batch.len() <= messages);
                assert!(batch.iter().skip(1).map(|(_, bytes)| bytes).sum::<u64>() <= 50);
                assert!(batch.len() == 1 || !batch.iter().any(|(number, _)| alone(*number)));
            }
        }
        assert!(batches(&[], Most { messages: 2, bytes: 1 }, |_: &u8| 1, |_| false).is_empty());
    }

    #[test]
    fn a_batch_is_as_large_as_it_may_be() {
        let found = |sizes: &[u64], messages, bytes| -> Vec<usize> {
            let batches = batches(sizes, Most { messages, bytes }, |size| *size, |size| *size == 77);
            batches.into_iter().map(<[u64]>::len).collect()
        };
        for (sizes, messages, bytes, expected) in [
            (&[1, 1, 1, 1, 1][..], 2, 10, &[2, 2, 1][..]),
            (&[5, 5, 5, 5], 9, 10, &[2, 2]),
            (&[5, 6, 5, 5], 9, 10, &[1, 1, 2]),
            (&[50, 1, 1], 9, 10, &[1, 2]),
            (&[1, 50, 1], 9, 10, &[1, 1, 1]),
            (&[77, 1, 1, 77, 77, 1], 9, 1000, &[1, 2, 1, 1, 1]),
            (&[1, 2, 3, 4], 4, 10, &[4]),
        ] {
            assert_eq!(found(sizes, messages, bytes), expected, "{sizes:?}");
        }
        assert_eq!((BATCH.messages, BATCH.bytes), (32, 64 << 20));
    }
}
