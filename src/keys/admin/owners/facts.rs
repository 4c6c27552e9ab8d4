//! Edge: What is known of each user's certificates, and of what becomes of the user's mail for that. What lies in a home is looked
//! at, and messages are sealed to it, with the rights of its owner.
//!
//! An owner's process says it of its owner's own certificates: what it can reach by a lie is another message to its owner.

use std::collections::BTreeSet;
use std::time::SystemTime;

use mailseal_core::cert::Fitness;
use mailseal_core::message::opening::Opening;
use mailseal_core::recipients::WhenExpired;
use serde::{Deserialize, Serialize};

use crate::cli::sealing::Sealing;
use crate::config::{Config, Mode};
use crate::console::escape;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::addressee;
use crate::keys::admin::by_owner::{self, Asking, Owner};
use crate::keys::admin::register::{UserList, everybody};
use crate::keys::admin::{Keys, survey};
use crate::keys::receive::state;
use crate::keystore;
use crate::keystore::any_cert::AnyCert;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::system::owner::process::Report;
use crate::system::owner::{Bytes, cut};

/// The kind of the task.
pub const KIND: &str = "owners";

/// Most certificates of a user that are looked at.
const MOST: usize = 20;

/// Longest fingerprint, in hexadecimal digits: that of S/MIME.
const FINGERPRINT: usize = 64;

/// What is known of one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Its fingerprint.
    pub fingerprint: String,
    /// When the last of its keys expires or has expired, in seconds since 1970; `None` is never.
    pub expires: Option<u64>,
    /// Why it cannot be used, or is used only for want of another.
    pub unfit: Option<String>,
}

impl Seen {
    fn of(cert: &AnyCert, now: SystemTime) -> Self {
        let worth = cert.assess(now);
        let unfit = (worth.fitness != Fitness::Fit).then(|| cut(worth.fitness.to_string()));
        Self { fingerprint: cert.fingerprint(), expires: worth.expires.map(state::seconds), unfit }
    }

    /// The time at which it expires.
    #[must_use]
    pub fn expiry(&self) -> Option<SystemTime> {
        self.expires.and_then(state::time)
    }
}

/// That mail for a user is deferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deferral {
    /// The word in the log line.
    pub reason: String,
    /// What is wrong.
    pub what: String,
}

impl Deferral {
    fn of(error: &Error) -> Self {
        Self { reason: error.reason().into(), what: cut(error.to_string()) }
    }
}

/// What is known of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The certificates that a delivery finds.
    pub certs: Vec<Seen>,
    /// What a delivery fails with.
    pub deferral: Option<Deferral>,
}

impl Facts {
    /// Of the user `name` with `certs`, of which a delivery finds no others.
    pub(super) fn of(config: &Config, name: &str, certs: &[AnyCert], now: SystemTime) -> Self {
        let trust = Trust::of_process(config.keys.trusted_groups.ids());
        let deferral = if certs.is_empty() {
            None
        } else {
            addressee::recipients(&config.keys, name, certs, (&trust, None), now).err()
        };
        Self {
            certs: certs.iter().take(MOST).map(|cert| Seen::of(cert, now)).collect(),
            deferral: deferral.as_ref().map(Deferral::of),
        }
    }

    /// What may be believed of what another process says: it can put nothing else into a list, a message or a terminal.
    fn checked(self) -> Option<Self> {
        let is_fingerprint = |seen: &Seen| {
            (1..=FINGERPRINT).contains(&seen.fingerprint.len())
                && seen.fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let safe = |text: String| escape::again(cut(text).as_bytes());
        let Self { certs, deferral } = self;
        if certs.len() > MOST || !certs.iter().all(is_fingerprint) {
            return None;
        }
        let certs = certs.into_iter().map(|seen| Seen { unfit: seen.unfit.map(safe), ..seen }).collect();
        let deferral = deferral.map(|it| Deferral { reason: safe(it.reason), what: safe(it.what) });
        Some(Self { certs, deferral })
    }
}

/// One user, and what is known of the user.
#[derive(Debug)]
pub struct Subject {
    /// The user.
    pub user: User,
    /// How the user's own process is asked; `None` for one of whom only what is enrolled is known.
    asked: Option<(Owner, survey::Question)>,
    /// What is known, or why nothing is.
    pub facts: Result<Facts, String>,
}

/// Everybody.
#[derive(Debug, Default)]
pub struct Subjects {
    /// Those who could be found.
    pub all: Vec<Subject>,
    /// Why others could not.
    pub failure: Option<Error>,
}

/// What an owner's process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Deed {
    /// Look.
    Look,
    /// Seal this message to the user's certificates.
    Seal(Bytes),
}

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    whose: survey::Question,
    deed: Deed,
    /// The time that root goes by, in seconds since 1970.
    now: u64,
}

/// What an owner's process says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// What it was to look at.
    Facts(Facts),
    /// The message.
    Sealed(Bytes),
    /// It cannot be said, or done, and why.
    Unasked(String),
}

impl Report for Answer {}

impl by_owner::Answer for Answer {
    fn unasked(why: String) -> Self {
        Self::Unasked(cut(why))
    }
}

impl Question {
    fn answer(&self, config: &Config) -> Answer {
        let now = state::time(self.now).unwrap_or_else(SystemTime::now);
        let found = self.whose.with_whose(|whose| addressee::certificates(config, whose, now));
        match (&self.deed, found) {
            (Deed::Look, Ok(certs)) => Answer::Facts(Facts::of(config, &self.whose.user, &certs, now)),
            (Deed::Look, Err(error)) => {
                Answer::Facts(Facts { deferral: Some(Deferral::of(&error)), ..Facts::default() })
            }
            (Deed::Seal(message), found) => {
                let sealed = found.and_then(|certs| seal(config, &self.whose.user, &certs, &message.0, now));
                sealed.map_or_else(
                    |error| by_owner::Answer::unasked(error.to_string()),
                    |it| Answer::Sealed(Bytes(it)),
                )
            }
        }
    }
}

/// What the process itself does.
///
/// # Errors
/// Those of its beginning and of the configuration.
pub fn main() -> Result<(), Error> {
    by_owner::main(|config, question: Question| question.answer(config))
}

/// `message` to the user `name`, sealed to `certs`; as it is, where that cannot be done any more.
fn seal(
    config: &Config,
    name: &str,
    certs: &[AnyCert],
    message: &[u8],
    now: SystemTime,
) -> Result<Vec<u8>, Error> {
    let trust = Trust::of_process(config.keys.trusted_groups.ids());
    let recovery = keystore::read_recovery(&config.keys.recovery, &trust, None)?;
    let preference = config.keys.preference();
    let chosen = addressee::choose(name, (certs, &recovery), preference, WhenExpired::Encrypt, now);
    let Ok(recipients) = chosen else { return Ok(message.into()) };
    let (mut rest, mut sealed) = (message, Vec::new());
    let opening = Opening::read(&mut rest)?;
    config.style(name, &Sealing::default()).sealer(&recipients).seal(&opening, &mut rest, &mut sealed)?;
    Ok(sealed)
}

impl Keys<'_> {
    /// What is known of everybody: of those who are enrolled in the central folder, and where a source lies in homes, of all
    /// `users`.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where the folder cannot be read; [`Error::Usage`] where there is neither; [`Error::Owner`] where it is
    /// to end.
    pub(super) fn subjects(&self, users: &UserList) -> Result<Subjects, Error> {
        let mut subjects = if self.asks_homes() { self.ask_all_owners(users)? } else { Subjects::default() };
        let enrolled = match self.enrolled() {
            Ok(enrolled) if !enrolled.is_in_homes() => enrolled,
            Ok(_) => return Ok(subjects),
            Err(_) if self.asks_homes() => return Ok(subjects),
            Err(error) => return Err(error),
        };
        let known: BTreeSet<User> = subjects
            .all
            .iter()
            .filter(|subject| subject.facts.is_ok())
            .map(|subject| subject.user.clone())
            .collect();
        for entry in enrolled.entries()? {
            let Some(user) = entry.user.filter(|user| entry.is_read && !known.contains(user)) else {
                continue;
            };
            if self.config.rule(&user).is_some_and(|rule| rule.mode == Mode::Off) {
                continue;
            }
            subjects.all.retain(|subject| subject.user != user);
            subjects.all.push(self.enrolled_subject(user)?);
        }
        subjects.all.sort_by(|a, b| a.user.cmp(&b.user));
        Ok(subjects)
    }

    /// A user who is enrolled in the central folder.
    pub(super) fn enrolled_subject(&self, user: User) -> Result<Subject, Error> {
        let facts = match self.enrolled()?.file(&user, self.home.as_deref())?.load() {
            Ok(certs) => Facts::of(self.config, user.name(), &certs, self.now),
            Err(error) => Facts { deferral: Some(Deferral::of(&error)), ..Facts::default() },
        };
        Ok(Subject { user, asked: None, facts: Ok(facts) })
    }

    /// Asks of all `users`. Where they cannot be listed, that is the failure, and those who are enrolled are left.
    fn ask_all_owners(&self, users: &UserList) -> Result<Subjects, Error> {
        let found = match everybody(users) {
            Ok(found) => found,
            Err(error) => return Ok(Subjects { failure: Some(error), ..Subjects::default() }),
        };
        let (mut all, mut asked) = (Vec::new(), Vec::new());
        for (name, answer) in found {
            let Ok(user) = User::parse(&name) else { continue };
            match survey::question(answer) {
                Ok(question) => asked.push((user, question)),
                // One whose mail is not to be sealed has nothing to be told.
                Err(fate) => {
                    if let Some(why) = fate.what() {
                        all.push(Subject { user, asked: None, facts: Err(why.into()) });
                    }
                }
            }
        }
        let questions = asked.iter().map(|(_, (owner, whose))| (*owner, self.question(whose, Deed::Look)));
        let answers = self.asking().ask(&questions.collect::<Vec<_>>(), |it| it.answer(self.config))?;
        all.extend(asked.into_iter().zip(answers).map(|((user, asked), answer)| {
            let odd = || "what its process says cannot be".to_owned();
            let facts = match answer {
                Answer::Facts(facts) => facts.checked().ok_or_else(odd),
                Answer::Sealed(_) => Err(odd()),
                Answer::Unasked(why) => Err(escape::again(why.as_bytes())),
            };
            Subject { user, asked: Some(asked), facts }
        }));
        let failure = unasked(&all);
        Ok(Subjects { all, failure })
    }

    fn asking(&self) -> Asking<'_> {
        Asking { kind: KIND, config: self.config_path.as_deref(), stop: &self.stop }
    }

    fn question(&self, whose: &survey::Question, deed: Deed) -> Question {
        Question { whose: whose.clone(), deed, now: state::seconds(self.now) }
    }

    /// `message` for the owner, sealed where that can be done still.
    pub(super) fn seal_for(&self, subject: &Subject, message: Vec<u8>) -> Result<Vec<u8>, Error> {
        let Some((owner, whose)) = &subject.asked else {
            let file = self.enrolled()?.file(&subject.user, self.home.as_deref())?;
            // Of what cannot be read, the admin is told.
            let certs = file.load().unwrap_or_default();
            return seal(self.config, subject.user.name(), &certs, &message, self.now);
        };
        let question = (*owner, self.question(whose, Deed::Seal(Bytes(message))));
        let answers = self.asking().ask(&[question], |it| it.answer(self.config))?;
        match answers.into_iter().next() {
            Some(Answer::Sealed(message)) => Ok(message.0),
            Some(Answer::Unasked(why)) => Err(not_done(&format!("{}: {why}", subject.user.name()))),
            Some(Answer::Facts(_)) | None => {
                Err(not_done(&format!("{}: its process seals nothing", subject.user.name())))
            }
        }
    }
}

/// That some could not be asked.
fn unasked(all: &[Subject]) -> Option<Error> {
    let mut failed = all.iter().filter_map(|it| it.facts.as_ref().err().map(|why| (&it.user, why)));
    let (user, why) = failed.next()?;
    let others = failed.count();
    let others = if others == 0 { String::new() } else { format!(", and {others} others") };
    Some(not_done(&format!("it is not known what certificates {} has ({why}){others}", user.name())))
}

fn not_done(what: &str) -> Error {
    Error::Owner {
        what: what.into(),
        hint: "`mailseal status USER` looks for the cause; the others were told".into(),
        exit: Exit::Negative,
    }
}

/// For tests: a user whose home is `home`.
#[cfg(test)]
pub(super) fn at_home(keys: &Keys<'_>, name: &str, home: &std::path::Path) -> Subject {
    use crate::dovecot::userdb;

    let account = userdb::Account { name: name.into(), home: Some(home.into()), ..Default::default() };
    let (_, whose) = survey::question(userdb::Answer::Found(account)).unwrap();
    let Answer::Facts(facts) = keys.question(&whose, Deed::Look).answer(keys.config) else { panic!() };
    let own = Some((nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    Subject {
        user: User::parse(name).unwrap(),
        asked: Some((own, whose)),
        facts: Ok(facts.checked().unwrap()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_owners_process_says_is_a_line_of_its_own_and_no_more() {
        let seen = |fingerprint: &str| Seen { fingerprint: fingerprint.into(), expires: None, unfit: None };
        let facts = |certs| Facts { certs, deferral: None };
        assert!(facts(vec![seen("AB12")]).checked().is_some());
        for odd in ["", "AB\nbob AB never 7", "AB 12", "x", &"A".repeat(65)] {
            assert!(facts(vec![seen(odd)]).checked().is_none(), "{odd:?}");
        }
        assert!(facts(vec![seen("AB"); MOST + 1]).checked().is_none());
        let why = Some("a\x1b[2J\nb".to_owned());
        let told = facts(vec![Seen { unfit: why, ..seen("AB") }]).checked().unwrap();
        assert_eq!(told.certs[0].unfit.as_deref(), Some("a\\x1b[2J\\x0ab"));
    }
}
