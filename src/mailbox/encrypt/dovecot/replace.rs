//! The clear message goes, the sealed one stays: only where nobody has touched the clear one since it was read.
//!
//! Both are in the folder when this begins. A flag that was set meanwhile is set on the sealed one as well. Who has expunged
//! or moved the clear one meanwhile, or is about to (`\Deleted`), wins: the sealed one is taken back, and what is clear
//! elsewhere is found there. What remains is the time from our STORE to our EXPUNGE: a flag that is set in it is lost, and what
//! is marked in it to be expunged comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write};

use crate::dovecot::imap::{Message, Session, set};
use crate::error::Error;

/// How often newer flags are followed before the message is left for another run.
const ATTEMPTS: usize = 5;

/// The flag of what is about to be expunged.
pub const DELETED: &str = "\\Deleted";

/// A clear message, as it was when it was read, and its sealed one.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The clear message.
    pub clear: Message,
    /// The UID of the sealed one, which has the flags of the clear one.
    pub sealed: u32,
}

/// What became of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sealed one has taken the place.
    Replaced,
    /// The clear one is not in the folder any more, and the sealed one neither.
    Gone,
    /// The clear one is as it was, for somebody is at it; the sealed one is gone.
    Left,
    /// The clear one cannot be removed.
    Refused,
}

/// Replaces the clear messages of the selected folder; the outcomes by the UIDs of the clear ones.
///
/// # Errors
/// [`Error::Dovecot`].
pub fn replace<R: BufRead, W: Write>(
    session: &mut Session<R, W>,
    pairs: Vec<Pair>,
) -> Result<BTreeMap<u32, Outcome>, Error> {
    let mut outcomes = BTreeMap::new();
    let mut open = pairs;
    for _ in 0..ATTEMPTS {
        open = follow(session, open, &mut outcomes)?;
        // Each change that comes after that look gets a higher number than all that were seen in it.
        let Some(modseq) = open.iter().map(|pair| pair.clear.modseq).max() else { break };
        let messages: Vec<&Message> = open.iter().map(|pair| &pair.clear).collect();
        let marked = session.set_unchanged(&messages, modseq, DELETED)?;
        let (done, changed) = open.into_iter().partition(|pair| marked.contains(&pair.clear.uid));
        expunge(session, done, &mut outcomes)?;
        open = changed;
    }
    for pair in &open {
        outcomes.insert(pair.clear.uid, Outcome::Left);
    }
    take_back(session, &open.iter().map(|pair| pair.sealed).collect::<Vec<_>>())?;
    Ok(outcomes)
}

/// Gives the sealed messages the flags that the clear ones have by now. The pairs that are left to be tried again.
fn follow<R: BufRead, W: Write>(
    session: &mut Session<R, W>,
    pairs: Vec<Pair>,
    outcomes: &mut BTreeMap<u32, Outcome>,
) -> Result<Vec<Pair>, Error> {
    let mut now = looked_at(session, &pairs)?;
    let (mut again, mut back, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for mut pair in pairs {
        let uid = pair.clear.uid;
        match now.remove(&uid) {
            None => {
                outcomes.insert(uid, Outcome::Gone);
                back.push(pair.sealed);
            }
            Some(newer) if newer.flags.contains(DELETED) && !pair.clear.flags.contains(DELETED) => {
                outcomes.insert(uid, Outcome::Left);
                back.push(pair.sealed);
            }
            Some(newer) => {
                commands.extend(changes(pair.sealed, &pair.clear.flags, &newer.flags));
                pair.clear = newer;
                again.push(pair);
            }
        }
    }
    session.all(&commands)?;
    take_back(session, &back)?;
    Ok(again)
}

/// Expunges the clear messages that were just marked.
fn expunge<R: BufRead, W: Write>(
    session: &mut Session<R, W>,
    pairs: Vec<Pair>,
    outcomes: &mut BTreeMap<u32, Outcome>,
) -> Result<(), Error> {
    if pairs.is_empty() {
        return Ok(());
    }
    let uids = set(pairs.iter().map(|pair| pair.clear.uid));
    let refused = !session.command(&format!("UID EXPUNGE {uids}"), &mut |_| ())?.ok;
    if refused {
        let ours = pairs.iter().filter(|pair| !pair.clear.flags.contains(DELETED));
        let unmark = |pair: &Pair| format!("UID STORE {} -FLAGS.SILENT ({DELETED})", pair.clear.uid);
        session.all(&ours.map(unmark).collect::<Vec<_>>())?;
        take_back(session, &pairs.iter().map(|pair| pair.sealed).collect::<Vec<_>>())?;
    }
    let outcome = if refused { Outcome::Refused } else { Outcome::Replaced };
    outcomes.extend(pairs.iter().map(|pair| (pair.clear.uid, outcome)));
    Ok(())
}

/// Expunges sealed messages whose clear ones stay, or are gone.
pub fn take_back<R: BufRead, W: Write>(session: &mut Session<R, W>, sealed: &[u32]) -> Result<(), Error> {
    if sealed.is_empty() {
        return Ok(());
    }
    let uids = set(sealed.iter().copied());
    session.all(&[format!("UID STORE {uids} +FLAGS.SILENT ({DELETED})"), format!("UID EXPUNGE {uids}")])?;
    Ok(())
}

fn looked_at<R: BufRead, W: Write>(
    session: &mut Session<R, W>,
    pairs: &[Pair],
) -> Result<BTreeMap<u32, Message>, Error> {
    if pairs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let uids = set(pairs.iter().map(|pair| pair.clear.uid));
    let found = session.look_at(&uids, "UID MODSEQ FLAGS")?;
    // Flags that somebody else changes are told in between, of other messages too.
    let wanted: BTreeSet<u32> = pairs.iter().map(|pair| pair.clear.uid).collect();
    let wanted = found.into_iter().filter(|message| wanted.contains(&message.uid));
    Ok(wanted.map(|message| (message.uid, message)).collect())
}

/// The commands that turn flags `from` into `to`.
fn changes(uid: u32, from: &BTreeSet<String>, to: &BTreeSet<String>) -> Vec<String> {
    let command = |sign: char, flags: Vec<&String>| {
        let flags: Vec<&str> = flags.into_iter().map(String::as_str).collect();
        (!flags.is_empty()).then(|| format!("UID STORE {uid} {sign}FLAGS.SILENT ({})", flags.join(" ")))
    };
    let added = command('+', to.difference(from).collect());
    let removed = command('-', from.difference(to).collect());
    added.into_iter().chain(removed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_followed() {
        let flags = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(
            changes(7, &flags(&["\\Seen", "a"]), &flags(&["\\Seen", "b", "c"])),
            ["UID STORE 7 +FLAGS.SILENT (b c)", "UID STORE 7 -FLAGS.SILENT (a)"]
        );
        assert!(changes(7, &flags(&["a"]), &flags(&["a"])).is_empty());
    }
}
