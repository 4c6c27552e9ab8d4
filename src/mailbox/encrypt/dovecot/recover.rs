//! Puts in order what a killed run left in a mailbox, by its journal: first what is there twice, and in the end what its
//! session has saved since.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use crate::dovecot::imap::{Message, Select, set};
use crate::error::Error;
use crate::mailbox::encrypt::dovecot::journal::{Entry, Journal};
use crate::mailbox::encrypt::dovecot::replace::{DELETED, Outcome, Pair, replace, take_back};
use crate::mailbox::encrypt::dovecot::{Work, draft};
use crate::mailbox::encrypt::event::{Event, Suspect};

/// How long the session of a killed run may go on saving what it was given.
const LATE: Duration = Duration::from_secs(3);

/// Clear messages that a killed run left, and the sealed ones by the UIDs of clear ones.
type Left = (BTreeMap<u32, Message>, HashMap<u32, u32>);

impl<R: BufRead, W: Write> Work<'_, R, W> {
    /// Puts in order what a killed run left: of a sealed message that the journal proves to be made of a clear one that is
    /// still there, the clear one goes. How many. What is there only clear stays in the journal: the session of that run may
    /// have lived longer, and save the sealed one yet.
    pub(super) fn recover(&mut self, journal: &mut Journal) -> Result<u64, Error> {
        let (mut replaced, mut pending) = (0, Vec::new());
        for mut entry in journal.left()? {
            let Some((clear, mut made)) = self.left_by(&entry)? else { continue };
            let mut pairs = Vec::new();
            entry.replaced.retain(|it| clear.contains_key(&it.uid) && !made.contains_key(&it.uid));
            for (uid, clear) in clear {
                pairs.extend(made.remove(&uid).map(|sealed| Pair { clear, sealed }));
            }
            replaced += self.replace_left(pairs)?;
            if !entry.replaced.is_empty() {
                pending.push(entry);
            }
        }
        journal.settle(pending)?;
        Ok(replaced)
    }

    /// Removes sealed messages that the session of a killed run has saved since `start`, when this one had begun: their
    /// clear ones have been sealed anew, or were expunged by somebody else.
    pub(super) fn late(&mut self, journal: &mut Journal, start: Instant) -> Result<(), Error> {
        if journal.pending().is_empty() {
            return Ok(());
        }
        self.wait(LATE.saturating_sub(start.elapsed()));
        for entry in journal.pending().to_vec() {
            let Some((mut clear, made)) = self.left_by(&entry)? else { continue };
            let (mut pairs, mut late) = (Vec::new(), Vec::new());
            for (uid, sealed) in made {
                match clear.remove(&uid) {
                    Some(clear) => pairs.push(Pair { clear, sealed }),
                    None => late.push(sealed),
                }
            }
            take_back(&mut self.session, &late)?;
            self.replace_left(pairs)?;
        }
        if self.stopped() { Ok(()) } else { journal.settle(Vec::new()) }
    }

    /// Opens the folder of a journal's entry: its clear messages that are still there, and the sealed ones by the UIDs of
    /// the clear ones. `None` where the folder is another one by now.
    fn left_by(&mut self, entry: &Entry) -> Result<Option<Left>, Error> {
        match self.session.select(&entry.folder, false)? {
            Select::Opened(selected) if selected.uid_validity == entry.uid_validity => {}
            _ => return Ok(None),
        }
        let uids: BTreeSet<u32> = entry.replaced.iter().map(|it| it.uid).collect();
        let clear = self.session.look_at(&set(uids.iter().copied()), "UID MODSEQ FLAGS")?;
        let clear = clear.into_iter().filter(|message| uids.contains(&message.uid));
        Ok(Some((clear.map(|message| (message.uid, message)).collect(), self.made(entry)?)))
    }

    /// Replaces clear messages that a killed run left beside their sealed ones, which get the flags set since. How many.
    fn replace_left(&mut self, pairs: Vec<Pair>) -> Result<u64, Error> {
        let mut commands = Vec::new();
        for Pair { clear, sealed } in &pairs {
            // The killed run may have marked it.
            let flags = clear.flags.iter().filter(|flag| *flag != DELETED);
            let flags: Vec<&str> = flags.map(String::as_str).collect();
            if !flags.is_empty() {
                commands.push(format!("UID STORE {sealed} +FLAGS.SILENT ({})", flags.join(" ")));
            }
        }
        self.session.all(&commands)?;
        let outcomes = replace(&mut self.session, pairs)?;
        let replaced = outcomes.values().filter(|outcome| **outcome == Outcome::Replaced).count() as u64;
        self.changed |= replaced > 0;
        Ok(replaced)
    }

    /// The UIDs of the sealed messages that were made of clear ones in the selected folder, by the UIDs of these.
    fn made(&mut self, entry: &Entry) -> Result<HashMap<u32, u32>, Error> {
        let sizes: BTreeSet<u64> = entry.replaced.iter().map(|it| it.size).collect();
        let first = entry.replaced.iter().map(|it| it.uid).max().unwrap_or(0).saturating_add(1);
        let mut found = HashMap::new();
        let (_, broken) = self.suspects_in(&entry.folder, entry.uid_validity);
        for Message { uid, size, .. } in self.sized(&entry.folder, entry.uid_validity, first)? {
            // Zero is a size that is not known.
            if uid < first || broken.contains(&uid) || size > 0 && !sizes.contains(&size) {
                continue;
            }
            let mut hash = None;
            let fetched = self.session.fetch(&uid.to_string(), &mut |_, text| {
                hash = draft::hash(text).ok().filter(|_| text.is_read());
            });
            fetched.inspect_err(|_| {
                let (folder, uid_validity) = (entry.folder.clone(), entry.uid_validity);
                (self.report)(Event::Broken(Suspect { folder, uid_validity, uids: vec![uid] }));
            })?;
            if let Some(of) = entry.replaced.iter().find(|it| Some(&it.hash) == hash.as_ref()) {
                found.insert(of.uid, uid);
            }
        }
        Ok(found)
    }
}
