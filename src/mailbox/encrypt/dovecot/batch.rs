//! Edge: One batch of messages through Dovecot: read and sealed, appended, and the clear ones removed.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Write};

use mailseal_core::error::Error as CoreError;

use super::draft::{self, Draft};
use super::journal::{Entry, Journal, Replaced};
use super::replace::{Outcome, Pair, replace, take_back};
use super::{Folder, SURVEY, Sealed, Work};
use crate::dovecot::imap::{self, Message, New, name, set};
use crate::error::Error;
use crate::mailbox::encrypt::event::{Event, Suspect};
use crate::mailbox::encrypt::message::{StoredSealer, Verdict};
use crate::system::owner::child::Pulse;

impl<R: BufRead, W: Write> Work<'_, R, W> {
    pub(super) fn batch(
        &mut self,
        folder: &mut Folder<'_>,
        batch: &[(u32, u64)],
        sealer: &StoredSealer<'_>,
        journal: Option<&mut Journal>,
    ) -> Result<(), Error> {
        let mut sealed = self.read(folder, batch, sealer)?;
        if let Some(journal) = journal
            && !sealed.is_empty()
        {
            journal.write(&Entry {
                folder: folder.name.to_owned(),
                uid_validity: folder.uid_validity,
                replaced: sealed
                    .iter()
                    .map(|it| Replaced { uid: it.clear.uid, size: it.draft.size(), hash: it.draft.hash() })
                    .collect(),
            })?;
            let appended = self.append(folder, &mut sealed)?;
            self.own.entry(folder.name.to_owned()).or_default().extend(appended.values());
            self.replace(folder, sealed, &appended)?;
            journal.clear()?;
        }
        for (_, bytes) in batch {
            self.step(1, *bytes);
        }
        Ok(())
    }

    /// Reads and seals the messages of a batch, and counts those that stay as they are. In a dry run, all of them.
    fn read(
        &mut self,
        folder: &mut Folder<'_>,
        batch: &[(u32, u64)],
        sealer: &StoredSealer<'_>,
    ) -> Result<Vec<Sealed>, Error> {
        let mut left = self.within_quota(folder, batch);
        if left.is_empty() {
            return Ok(Vec::new());
        }
        let (fetched, answer) = self.fetch(folder, &left, sealer)?;
        let (mut sealed, mut untold) = (Vec::new(), Vec::new());
        for Fetched { message, result, out } in fetched {
            let Some(bytes) = left.remove(&message.uid) else { continue };
            match result {
                Ok(None) => untold.push(message),
                Ok(Some(verdict)) => self.judged(folder, message, verdict, out, &mut sealed),
                Err(error) => self.failed(folder, message.uid, bytes, &error)?,
            }
        }
        for message in untold {
            self.read_held(folder, message, sealer, &mut sealed)?;
        }
        self.count_unread(folder, left, &answer)?;
        Ok(sealed)
    }

    /// The messages of a batch that the quota has room for, by UID, with their sizes.
    fn within_quota(&self, folder: &mut Folder<'_>, batch: &[(u32, u64)]) -> BTreeMap<u32, u64> {
        let mut left: BTreeMap<u32, u64> = batch.iter().copied().collect();
        let full = self.full;
        left.retain(|uid, bytes| {
            let refused = full.is_some_and(|full| *bytes >= full);
            if refused {
                self.over_quota(folder, *uid, *bytes);
            }
            !refused
        });
        left
    }

    /// Reads the messages `left`, and seals them as they come.
    fn fetch(
        &mut self,
        folder: &Folder<'_>,
        left: &BTreeMap<u32, u64>,
        sealer: &StoredSealer<'_>,
    ) -> Result<(Vec<Fetched>, imap::Answer), Error> {
        let mut fetched = Vec::new();
        let (dry, report) = (self.settings.how.dry_run, self.report);
        let alive = || report(Event::Alive);
        let answer = self.session.fetch(&set(left.keys().copied()), &mut |message, text| {
            let mut out = Out::new(dry);
            let result = if text.length() == message.size {
                sealer.seal_stream(&mut *text, Pulse::new(&mut out, &alive))
            } else {
                let what = "Dovecot reports the wrong size for it (doveadm force-resync repairs that)";
                Err(Error::Dovecot { what: what.into() })
            };
            // What was cut off is no message, whatever became of it.
            if text.is_read() || !matches!(result, Ok(Some(_))) {
                fetched.push(Fetched { message, result, out });
            }
        });
        let answer = answer.inspect_err(|_| {
            // Whoever starts a session anew has to know what ended this one.
            let uids = left.keys().copied().collect();
            let (folder, uid_validity) = (folder.name.to_owned(), folder.uid_validity);
            report(Event::Broken(Suspect { folder, uid_validity, uids }));
        })?;
        Ok((fetched, answer))
    }

    /// Reads a message again of which a stream does not tell whether it is encrypted.
    fn read_held(
        &mut self,
        folder: &mut Folder<'_>,
        message: Message,
        sealer: &StoredSealer<'_>,
        sealed: &mut Vec<Sealed>,
    ) -> Result<(), Error> {
        let mut again = None;
        let mut out = Out::new(self.settings.how.dry_run);
        self.session.fetch(&message.uid.to_string(), &mut |_, text| {
            let result = sealer.seal_held(&mut *text, &mut out);
            again = (result.is_err() || text.is_read()).then_some(result);
        })?;
        match again {
            Some(Ok(verdict)) => self.judged(folder, message, verdict, out, sealed),
            Some(Err(error)) => self.failed(folder, message.uid, message.size, &error)?,
            // It has been expunged or moved.
            None => folder.tally.keep("gone", 0),
        }
        Ok(())
    }

    /// Counts those that were asked for and did not come: an empty message has no text to be handed on, and what is not
    /// named any more has been expunged or moved.
    fn count_unread(
        &mut self,
        folder: &mut Folder<'_>,
        mut left: BTreeMap<u32, u64>,
        answer: &imap::Answer,
    ) -> Result<(), Error> {
        if left.is_empty() {
            return Ok(());
        }
        let uids = set(left.keys().copied());
        for message in self.session.look_at(&uids, "UID")? {
            if let Some(bytes) = left.remove(&message.uid) {
                if answer.ok && bytes == 0 {
                    folder.tally.keep("empty", 0);
                } else {
                    let what = format!("it cannot be read: {}", answer.text);
                    self.failed(folder, message.uid, bytes, &Error::Dovecot { what })?;
                }
            }
        }
        left.iter().for_each(|_| folder.tally.keep("gone", 0));
        Ok(())
    }

    fn judged(
        &self,
        folder: &mut Folder<'_>,
        message: Message,
        verdict: Verdict,
        out: Out,
        sealed: &mut Vec<Sealed>,
    ) {
        let bytes = message.size;
        match (verdict, out) {
            (Verdict::Sealed(readable), Out::Draft(draft)) => {
                sealed.push(Sealed { clear: message, draft: *draft, readable });
            }
            (Verdict::Sealed(readable), Out::Size(size)) => folder.tally.seal(bytes, size, readable),
            (Verdict::Encrypted(how), _) => folder.tally.keep(how.name(), bytes),
            (Verdict::Empty, _) => folder.tally.keep("empty", bytes),
            (Verdict::Packed(packing), _) => folder.tally.keep(packing.name(), bytes),
        }
    }

    /// Appends the sealed messages: the UID of each, by that of the clear one. What is refused is counted.
    fn append(&mut self, folder: &mut Folder<'_>, sealed: &mut [Sealed]) -> Result<HashMap<u32, u32>, Error> {
        let mut appended = HashMap::new();
        let answer = self.append_all(folder, sealed)?;
        if answer.ok {
            return self.note(folder, sealed, answer, appended);
        }
        // One of them may be the one that is refused.
        for one in sealed.chunks_mut(1) {
            let answer = self.append_all(folder, one)?;
            let Sealed { clear, .. } = &one[0];
            if answer.ok {
                appended = self.note(folder, one, answer, appended)?;
            } else if answer.says("OVERQUOTA") {
                self.full = Some(self.full.map_or(clear.size, |full| full.min(clear.size)));
                self.over_quota(folder, clear.uid, clear.size);
            } else {
                let what = format!("the sealed message is refused: {}", answer.text);
                self.failed(folder, clear.uid, clear.size, &Error::Dovecot { what })?;
            }
        }
        Ok(appended)
    }

    fn append_all(&mut self, folder: &Folder<'_>, sealed: &mut [Sealed]) -> Result<imap::Answer, Error> {
        let mut new = Vec::new();
        for Sealed { clear, draft, .. } in sealed {
            let size = draft.size();
            let text = draft.text().map_err(CoreError::Read)?;
            new.push(New { flags: &clear.flags, date: &clear.date, size, text });
        }
        self.session.append(folder.name, &mut new)
    }

    fn note(
        &self,
        folder: &Folder<'_>,
        sealed: &[Sealed],
        answer: imap::Answer,
        mut appended: HashMap<u32, u32>,
    ) -> Result<HashMap<u32, u32>, Error> {
        match answer.appended {
            Some((validity, uids)) if validity == folder.uid_validity && uids.len() == sealed.len() => {
                appended.extend(sealed.iter().map(|it| it.clear.uid).zip(uids));
                Ok(appended)
            }
            _ => Err(Error::Dovecot {
                what: format!(
                    "{}: the sealed messages went elsewhere; nothing was removed",
                    name::readable(folder.name)
                ),
            }),
        }
    }

    /// Removes the clear messages whose sealed ones are in the folder, whole, and counts.
    fn replace(
        &mut self,
        folder: &mut Folder<'_>,
        mut sealed: Vec<Sealed>,
        appended: &HashMap<u32, u32>,
    ) -> Result<(), Error> {
        if appended.is_empty() {
            return Ok(());
        }
        let pairs = self.pair(folder, &mut sealed, appended)?;
        let outcomes = replace(&mut self.session, pairs)?;
        for it in sealed {
            let (uid, bytes) = (it.clear.uid, it.clear.size);
            match outcomes.get(&uid) {
                Some(Outcome::Replaced) => {
                    self.changed = true;
                    folder.tally.seal(bytes, it.draft.size(), it.readable);
                }
                Some(Outcome::Gone) => folder.tally.keep("gone", 0),
                Some(Outcome::Left) => {
                    let what = format!(
                        "{}: stays readable: it was changed during the run",
                        Self::place(folder, uid)
                    );
                    self.complain(what, "run it again");
                    folder.tally.keep("changed", bytes);
                }
                Some(Outcome::Refused) => {
                    let what = "it may not be expunged".to_owned();
                    self.failed(folder, uid, bytes, &Error::Dovecot { what })?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The clear messages whose sealed ones are in the folder as they were sent. A script that runs on what is saved may have
    /// changed one, or put it elsewhere: what is there is taken back.
    fn pair(
        &mut self,
        folder: &mut Folder<'_>,
        sealed: &mut [Sealed],
        appended: &HashMap<u32, u32>,
    ) -> Result<Vec<Pair>, Error> {
        let there = self.session.look_at(&set(appended.values().copied()), SURVEY)?;
        let there: HashMap<u32, u64> = there.into_iter().map(|it| (it.uid, it.size)).collect();
        let (mut pairs, mut altered) = (Vec::new(), Vec::new());
        for it in sealed {
            let Some(&new) = appended.get(&it.clear.uid) else { continue };
            let found = there.get(&new);
            let wanted = it.draft.size();
            // Dovecot's storages drop a CR before a line's end.
            if found.is_some_and(|size| *size == wanted)
                || found.is_some() && self.is_same_text(new, &mut it.draft)?
            {
                pairs.push(Pair { clear: it.clear.clone(), sealed: new });
                continue;
            }
            altered.extend(found.map(|_| new));
            let what = match found {
                Some(size) => format!(
                    "what was saved is not the sealed message (a script, a plugin?): {size} bytes of {wanted}; it was \
                     taken back"
                ),
                None => "the sealed message was removed as soon as it was saved".to_owned(),
            };
            self.failed(folder, it.clear.uid, it.clear.size, &Error::Dovecot { what })?;
        }
        take_back(&mut self.session, &altered)?;
        Ok(pairs)
    }

    /// Whether the message that was saved is the draft but for CRs.
    fn is_same_text(&mut self, uid: u32, draft: &mut Draft) -> Result<bool, Error> {
        let mut same = false;
        let text = draft.text().map_err(CoreError::Read)?;
        let mut text = Some(text);
        self.session.fetch(&uid.to_string(), &mut |_, stored| {
            // It is asked for once.
            let Some(text) = text.take() else { return };
            same = draft::same_but_for_cr(text, &mut *stored).unwrap_or(false) && stored.is_read();
        })?;
        Ok(same)
    }
}

/// A message that was read, and what came of sealing it.
struct Fetched {
    message: Message,
    /// `None` where it takes all of it at once to tell whether it is encrypted.
    result: Result<Option<Verdict>, Error>,
    out: Out,
}

/// Where a sealed message went.
enum Out {
    /// To where it waits to be appended.
    Draft(Box<Draft>),
    /// Nowhere; its size.
    Size(u64),
}

impl Out {
    fn new(dry: bool) -> Self {
        if dry { Self::Size(0) } else { Self::Draft(Box::default()) }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Draft(draft) => draft.write(bytes),
            Self::Size(size) => {
                *size += bytes.len() as u64;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Draft(draft) => draft.flush(),
            Self::Size(_) => Ok(()),
        }
    }
}
