//! `mailseal keys receive`: a user enrols the own certificate with a message in a folder of the own mailbox.
//!
//! Dovecot's imapsieve hands over the one message that was saved or moved there, with the user's rights. The answer takes
//! its place, with the message attached to it. Nothing a message says is believed but codes that only somebody can know who
//! has read what was sealed, and until one was shown nothing lies where a delivery looks.
//!
//! ```text
//! contents  what a message holds: certificates, codes, words
//! state     what waits, in the user's home                          [edge]
//! awaited   which code is awaited, and what a wrong one costs
//! words     what the user is told
//! answer    the message that tells it
//! advance   what time brings about: deliveries take it, reminders
//! ```
//!
//! A confirmation through the mailbox proves less than one to an admin: whoever has the password of the mailbox can give it.
//! So it counts for deliveries only, and after [`state::WAIT`] only, which is announced in clear.

pub mod advance;
pub mod answer;
mod awaited;
pub mod contents;
pub mod state;
pub mod words;

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mail_builder::MessageBuilder;
use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::Opening;
use mailseal_core::recipients::{Recipients, WhenExpired};

use self::contents::{Contents, Word};
use self::state::{Bound, Pending, Proof, Purpose, Received, Stage, State, Stop, Store};
use self::words::{About, Answer};
use crate::cli::sealing::Sealing;
use crate::config::{Config, Receive};
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::addressee;
use crate::keys::enrol::{self, Candidate};
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::keystore::{self, Request};
use crate::system::owner::Bytes;
use crate::system::process;
use crate::{cli, limits};

/// How a message came into the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Cause {
    /// It was saved there.
    Append,
    /// It was copied or moved there from another folder, by a person or by a mail program's filter.
    Copy,
}

/// Whose message it is.
#[derive(Debug)]
pub struct Session<'a> {
    config: &'a Config,
    user: User,
    home: PathBuf,
    trust: Trust,
    now: SystemTime,
}

/// A test message that is to be made.
#[derive(Debug)]
struct Test {
    /// To whom it is sealed.
    to: Vec<AnyCert>,
    /// The certificates that it is about.
    about: Vec<AnyCert>,
    /// What its code is for.
    purpose: Purpose,
}

/// Answers the message on `input` that came into the folder by `cause`: the answer, with the message attached, goes to
/// `output`. [`Exit::Negative`], and nothing on `output`, for what is left as it is: answers themselves, and more messages than
/// [`limits::ANSWERS`].
///
/// # Errors
/// [`Error::Output`], [`CoreError::Read`]; what else fails is answered.
pub fn receive(
    session: &Session<'_>,
    cause: Cause,
    input: &mut impl Read,
    output: &mut impl Write,
) -> Result<Exit, Error> {
    let mut message = Vec::new();
    let limit = limits::RECEIVED as u64 + 1;
    input.by_ref().take(limit).read_to_end(&mut message).map_err(CoreError::Read)?;
    let is_whole = message.len() <= limits::RECEIVED;
    if contents::is_answer(&message) {
        return Ok(Exit::Negative);
    }
    let answered = session.answer(&message, is_whole, cause).unwrap_or_else(|error| {
        cli::complain(cli::ADMIN, None, &error);
        Some((Answer::Trouble, Contents::default()))
    });
    let Some((answer, contents)) = answered else { return Ok(Exit::Negative) };
    let head = answer::Head { to: &session.address_or_name(), contents: &contents };
    answer::write(&answer, &head, Cursor::new(&message).chain(input), session.now, output)?;
    Ok(Exit::Ok)
}

/// Writes the sealed test message that an answer has promised: it holds a code, which nobody else knows.
/// [`Exit::Negative`] where none is to be made.
///
/// # Errors
/// Those of sealing, of the state, and of `output`.
pub fn test(session: &Session<'_>, output: &mut (impl Write + Send + Sync)) -> Result<Exit, Error> {
    let store = session.store()?;
    let mut state = store.load()?;
    let Some(Test { to, about, purpose }) = session.to_test(&state)? else { return Ok(Exit::Negative) };
    let fingerprints = session.bound_to(&state, purpose)?;
    let bound = Bound { user: session.user.name(), purpose, fingerprints: &fingerprints };
    let proof = match (&mut state.pending, &mut state.stop, purpose) {
        (_, Some(Stop { proof: Some(proof), .. }), Purpose::Stop)
        | (Some(Pending { stage: Stage::New(proof) | Stage::Old(proof), .. }), _, _) => proof,
        _ => return Ok(Exit::Negative),
    };
    let code = proof.make(&bound)?;
    let text = words::test(purpose, &about, &code, session.now);
    let address = session.address_or_name();
    let message = MessageBuilder::new()
        .from(("mailseal", &*address))
        .to(&*address)
        .subject("mailseal: a code for you")
        .text_body(text.replace('\n', "\r\n"));
    let message = message.write_to_vec().map_err(CoreError::Write)?;
    let recipients = session.recipients(&to)?;
    let style = session.config.style(session.user.name(), &Sealing::default());
    let (mut rest, mut sealed) = (&*message, Vec::new());
    let opening = Opening::read(&mut rest)?;
    style.sealer(&recipients).seal(&opening, &mut rest, &mut sealed)?;
    // A code that is not known here would never count.
    store.save(&state)?;
    output.write_all(&sealed).map_err(Error::Output)?;
    Ok(Exit::Ok)
}

impl<'a> Session<'a> {
    /// Of `user`, by default `$USER`, with `home`, by default `$HOME`, at the time `now`.
    ///
    /// # Errors
    /// [`Error::User`], [`Error::Home`], and [`Error::Usage`] for root, whose own mailbox it would be.
    pub fn new(
        config: &'a Config,
        user: Option<String>,
        home: Option<PathBuf>,
        now: SystemTime,
    ) -> Result<Self, Error> {
        if process::is_root() {
            return Err(Error::Usage {
                what: "run as root, whose mailbox it is not".into(),
                hint: "Dovecot's Sieve filter runs it with the user's rights; as root: mailseal keys add"
                    .into(),
            });
        }
        let user = user.or_else(|| std::env::var("USER").ok()).unwrap_or_default();
        let home = home.or_else(|| std::env::var_os("HOME").map(PathBuf::from)).unwrap_or_default();
        Self::of(config, &user, home, now)
    }

    /// The same for whoever runs this.
    ///
    /// # Errors
    /// [`Error::User`], [`Error::Home`].
    pub fn of(config: &'a Config, user: &str, home: PathBuf, now: SystemTime) -> Result<Self, Error> {
        if !home.is_absolute() {
            return Err(Error::Home { path: home, what: "is not an absolute path".into() });
        }
        let trust = Trust::of_process(config.keys.trusted_groups.ids());
        Ok(Self { config, user: User::parse(user)?, home, trust, now })
    }

    /// What is answered, and what was found; `None` for what is left alone.
    fn answer(
        &self,
        message: &[u8],
        is_whole: bool,
        cause: Cause,
    ) -> Result<Option<(Answer, Contents)>, Error> {
        if self.config.keys.receive == Receive::Off {
            return Ok(Some((Answer::Off, Contents::default())));
        }
        let store = self.store()?;
        let mut state = store.load()?;
        if !state.has_room(self.seconds(), cause == Cause::Append) {
            return self.stop_all_the_same(&store, &mut state, message, is_whole);
        }
        // Before it is looked into: what that costs is bounded, too.
        store.save(&state)?;
        if !is_whole {
            return Ok(Some((Answer::TooLong, Contents::default())));
        }
        let before = state.clone();
        let contents = Contents::of(message);
        // A draft was written by whoever can write here; mail that came in, by anybody, however it got into this folder.
        let is_own = !contents.was_delivered;
        let cause = if is_own { cause } else { Cause::Copy };
        let answer = self.decide(&contents, is_own, cause, &mut state)?;
        if state != before {
            store.save(&state)?;
        }
        Ok(Some((answer, contents)))
    }

    /// What is done with a message that is one too many: nothing, but for the word that stops what waits. Nobody can keep the user
    /// from that by saving many others, and it is there once for each of them.
    fn stop_all_the_same(
        &self,
        store: &Store,
        state: &mut State,
        message: &[u8],
        is_whole: bool,
    ) -> Result<Option<(Answer, Contents)>, Error> {
        if state.pending.is_none() || !is_whole || message.len() > limits::WORD {
            return Ok(None);
        }
        let contents = Contents::of(message);
        if contents.was_delivered || contents.word != Some(Word::Stop) {
            return Ok(None);
        }
        let answer = self.stop(state)?;
        store.save(state)?;
        Ok(Some((answer, contents)))
    }

    fn decide(
        &self,
        contents: &Contents,
        is_own: bool,
        cause: Cause,
        state: &mut State,
    ) -> Result<Answer, Error> {
        if contents.has_secret {
            return Ok(Answer::Secret);
        }
        if is_own && contents.word == Some(Word::Stop) {
            return self.stop(state);
        }
        if !contents.codes.is_empty() && (state.awaits_code() || contents.certs.is_empty()) {
            return if is_own { self.show(&contents.codes, state) } else { Ok(Answer::Foreign) };
        }
        if contents.too_many {
            return Ok(Answer::TooMany);
        }
        if !contents.certs.is_empty() {
            return self.offer(contents, cause, state);
        }
        Ok(match contents {
            Contents { is_encrypted: true, .. } => Answer::Encrypted,
            Contents { broken: true, .. } => Answer::Broken,
            Contents { is_link: true, .. } => Answer::Link,
            _ => Answer::Nothing,
        })
    }

    /// Certificates that are to be enrolled.
    fn offer(&self, contents: &Contents, cause: Cause, state: &mut State) -> Result<Answer, Error> {
        let keys = &self.config.keys;
        if keys.recovery.is_empty() && !keys.receive_without_recovery {
            return Ok(Answer::NoRecovery);
        }
        let candidates = match self.candidates(&contents.certs) {
            Ok(candidates) => candidates,
            Err(answer) => return Ok(answer),
        };
        let certs: Vec<AnyCert> = candidates.iter().map(|it| it.cert.clone()).collect();
        let recovery = keystore::read_recovery(&keys.recovery, &self.trust, None)?;
        let (name, preference) = (self.user.name(), keys.preference());
        let style = self.config.style(name, &Sealing::default());
        if let Err(error) = enrol::test_seal(name, (&certs, &recovery), preference, &style, self.now) {
            return Ok(Answer::Unfit(error.to_string()));
        }
        let warnings: Vec<String> = candidates.iter().flat_map(|it| it.warnings.iter().cloned()).collect();
        let about = About::of(&certs, &warnings, self.now);
        let existing = self.existing()?;
        if holds_all(&existing, &certs)? {
            return Ok(Answer::InEffect(about));
        }
        let serialized = any_cert::serialize(&certs)?;
        if serialized.len() > limits::PENDING {
            return Ok(Answer::TooMany);
        }
        let (now, before) = (self.seconds(), state::fingerprints(&existing));
        // A code is sealed to all that are new, and proves that one of them is read.
        if certs.iter().filter(|cert| !before.contains(&cert.fingerprint())).count() > 1 {
            return Ok(Answer::TooMany);
        }
        let mut pending = Pending {
            user: self.user.name().into(),
            certs: Bytes(serialized),
            also: contents.word == Some(Word::Add),
            before,
            since: now,
            stage: Stage::New(Proof::asked(now)),
        };
        let answer = match cause {
            Cause::Append => Answer::Found(about),
            // Whoever sends mail can have a filter move it.
            Cause::Copy => {
                let fingerprints = state::fingerprints(&certs);
                let bound =
                    Bound { user: self.user.name(), purpose: Purpose::Own, fingerprints: &fingerprints };
                let mut proof = Proof::asked(now);
                let code = proof.make(&bound)?;
                pending.stage = Stage::Own(proof);
                Answer::Moved(about, code)
            }
        };
        state.pending = Some(pending);
        Ok(answer)
    }

    /// Those of `certs` that may be enrolled; what is answered where there are none.
    fn candidates(&self, certs: &[AnyCert]) -> Result<Vec<Candidate>, Answer> {
        let address = self.address();
        let mine: Vec<AnyCert> = match &address {
            Some(address) => certs.iter().filter(|cert| enrol::has_address(cert, address)).cloned().collect(),
            None if certs.len() > 1 => return Err(Answer::TooMany),
            None => certs.to_vec(),
        };
        if mine.is_empty() {
            return Err(Answer::Stranger(address.unwrap_or_default()));
        }
        let unfit = |error: Error| match error {
            Error::Enrol { what, .. } => Answer::Unfit(what),
            other => Answer::Unfit(other.to_string()),
        };
        let bytes = any_cert::serialize(&mine).map_err(unfit)?;
        enrol::candidates(&bytes, Path::new("message"), address.as_deref(), self.now).map_err(unfit)
    }

    /// Codes that are shown.
    fn show(&self, codes: &[String], state: &mut State) -> Result<Answer, Error> {
        let Some((purpose, proof)) = state.awaited() else { return Ok(Answer::NoCode) };
        let fingerprints = self.bound_to(state, purpose)?;
        let bound = Bound { user: self.user.name(), purpose, fingerprints: &fingerprints };
        if proof.since.saturating_add(state::CODE_LIFE) < self.seconds() {
            state.drop_awaited(purpose);
            return Ok(Answer::Late);
        }
        if !proof.is_shown(&bound, codes)? {
            return Ok(match state.count_wrong(purpose) {
                0 => Answer::Spent,
                left => Answer::Wrong(left),
            });
        }
        if purpose == Purpose::Stop {
            if let Some(stop) = &mut state.stop {
                stop.proof = None;
            }
            return Ok(Answer::StopConfirmed);
        }
        let Some(pending) = &mut state.pending else { return Ok(Answer::NoCode) };
        self.pass(pending, purpose)
    }

    /// Takes what waits one step on: the code for `purpose` was right.
    fn pass(&self, pending: &mut Pending, purpose: Purpose) -> Result<Answer, Error> {
        let certs = pending.certs()?;
        let about = About::of(&certs, &[], self.now);
        let now = self.seconds();
        if purpose == Purpose::Own {
            pending.stage = Stage::New(Proof::asked(now));
            return Ok(Answer::Found(about));
        }
        let new = state::fingerprints(&certs);
        // Who signs for a key's subkeys has the key; whoever adds another, or leaves one away, need not.
        let is_other = !pending.before.is_empty() && pending.before != new;
        if purpose == Purpose::New && is_other {
            pending.stage = Stage::Old(Proof::asked(now));
            return Ok(Answer::Old(about));
        }
        if self.may_enrol(&self.existing()?)? {
            let until = now.saturating_add(state::WAIT);
            pending.stage = Stage::Time { until, announced: now };
            return Ok(Answer::Time(about, until));
        }
        pending.stage = Stage::Admin;
        Ok(Answer::Admin(about))
    }

    /// That nothing is to be enrolled; or, where nothing waits, that mail is to be sealed no longer.
    fn stop(&self, state: &mut State) -> Result<Answer, Error> {
        if let Some(pending) = state.pending.take() {
            return Ok(Answer::Stopped(About::of(&pending.certs()?, &[], self.now)));
        }
        let existing = self.existing()?;
        if existing.is_empty() {
            state.stop = None;
            return Ok(Answer::NothingToStop);
        }
        state.stop = Some(Stop {
            user: self.user.name().into(),
            before: state::fingerprints(&existing),
            proof: Some(Proof::asked(self.seconds())),
        });
        Ok(Answer::StopAsked)
    }

    /// The test message that is promised and not made.
    fn to_test(&self, state: &State) -> Result<Option<Test>, Error> {
        let Some((purpose, Proof { hash: None, .. })) = state.awaited() else { return Ok(None) };
        let unchanged = |existing: &[AnyCert], before: &[String]| {
            if state::fingerprints(existing) == before {
                return Ok(());
            }
            Err(Error::KeyStore {
                path: self.home.clone(),
                what: "the user's certificates have changed in the meantime".into(),
                hint: "the user has to send the message again".into(),
            })
        };
        let existing = self.existing()?;
        Ok(match (purpose, &state.pending, &state.stop) {
            (Purpose::New, Some(pending), _) => {
                let certs = pending.certs()?;
                let is_new = |cert: &&AnyCert| !pending.before.contains(&cert.fingerprint());
                let new: Vec<AnyCert> = certs.iter().filter(is_new).cloned().collect();
                // Where all are there already, whoever reads with one of them may say so.
                let to = if new.is_empty() { certs.clone() } else { new };
                Some(Test { to, about: certs, purpose })
            }
            (Purpose::Old, Some(pending), _) => {
                unchanged(&existing, &pending.before)?;
                Some(Test { to: existing, about: pending.certs()?, purpose })
            }
            (Purpose::Stop, _, Some(stop)) => {
                unchanged(&existing, &stop.before)?;
                Some(Test { to: existing.clone(), about: existing, purpose })
            }
            _ => None,
        })
    }

    /// The fingerprints that a code for `purpose` counts for: those to be enrolled, and with the old key's those that are there.
    fn bound_to(&self, state: &State, purpose: Purpose) -> Result<Vec<String>, Error> {
        let mut fingerprints = Vec::new();
        if let (Some(pending), true) = (&state.pending, purpose != Purpose::Stop) {
            fingerprints = state::fingerprints(&pending.certs()?);
            if purpose == Purpose::Old {
                fingerprints.extend(pending.before.iter().cloned());
            }
        }
        if let (Some(stop), Purpose::Stop) = (&state.stop, purpose) {
            fingerprints.clone_from(&stop.before);
        }
        Ok(fingerprints)
    }

    /// The certificates that a delivery finds.
    fn existing(&self) -> Result<Vec<AnyCert>, Error> {
        let keys = &self.config.keys;
        let request = Request::new(keys, &self.user, Some(&self.home), self.now, self.trust.clone());
        Ok(keystore::find(&keys.sources, &request)?.unwrap_or_default())
    }

    /// Whether what the user has confirmed may take effect without an admin: there is a folder of the user's own that
    /// deliveries read, and none but certificates that came this way are to be replaced.
    fn may_enrol(&self, existing: &[AnyCert]) -> Result<bool, Error> {
        if self.config.keys.receive != Receive::Mailbox {
            return Ok(false);
        }
        let Some(received) = self.received()? else { return Ok(false) };
        Ok(existing.is_empty() || received.holds(existing)?)
    }

    /// Where certificates go that were enrolled through the mailbox: the first folder in the user's home that is a source.
    fn received(&self) -> Result<Option<Received>, Error> {
        Received::find(&self.config.keys, &self.user, Some(&self.home), &self.trust)
    }

    fn recipients(&self, certs: &[AnyCert]) -> Result<Recipients, Error> {
        let recovery = keystore::read_recovery(&self.config.keys.recovery, &self.trust, None)?;
        let preference = self.config.keys.preference();
        addressee::choose(self.user.name(), (certs, &recovery), preference, WhenExpired::Encrypt, self.now)
    }

    fn store(&self) -> Result<Store, Error> {
        Store::take(&self.home, self.user.name(), &self.trust)
    }

    /// The user's address: as configured, or the user's name where it is one.
    fn address(&self) -> Option<String> {
        match &self.config.keys.address {
            Some(template) => template.expand(&self.user, Some(&self.home)).ok(),
            None => self.user.domain().map(|_| self.user.name().to_owned()),
        }
    }

    fn address_or_name(&self) -> String {
        self.address().unwrap_or_else(|| self.user.name().to_owned())
    }

    fn seconds(&self) -> u64 {
        state::seconds(self.now)
    }
}

/// Whether `existing` has all of `certs`, and nothing of theirs is new.
fn holds_all(existing: &[AnyCert], certs: &[AnyCert]) -> Result<bool, Error> {
    for cert in certs {
        let same = existing.iter().find(|other| other.fingerprint() == cert.fingerprint());
        let Some(same) = same else { return Ok(false) };
        let mut merged = vec![same.clone()];
        any_cert::merge(&mut merged, [cert.clone()]);
        if merged[0] != *same {
            return Ok(false);
        }
    }
    Ok(true)
}
