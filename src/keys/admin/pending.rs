//! `mailseal keys pending` and `keys approve`: what users have sent to be enrolled, and what an admin does about it.
//!
//! It lies in the users' homes: it is looked at, and taken on, with the rights of each home's owner. What an owner's process
//! says is an owner's word: it can make a key of the owner's own count sooner, as the owner can by putting it there, and
//! nothing that an admin has enrolled is replaced for it.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Receive};
use crate::console::date::day;
use crate::console::json;
use crate::console::table::Table;
use crate::dovecot::doveadm;
use crate::dovecot::userdb::{self, Account};
use crate::error::{Error, UNKNOWN_HOME};
use crate::exit::Exit;
use crate::keys::admin::by_owner::{self, Asking};
use crate::keys::admin::register::{self, UserList};
use crate::keys::admin::{Action, Addition, Existing, Input, Keys, say};
use crate::keys::receive::advance::{self, Awaited, Event, Waiting};
use crate::keys::receive::{Session, answer, state, words};
use crate::keystore;
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::user::User;
use crate::limits;
use crate::system::owner::process::Report;
use crate::system::owner::{Bytes, cut};

/// The kind of the task.
pub const KIND: &str = "pending";

/// Where what waits lies, for messages about it.
const STATE: &str = "~/.local/state/mailseal/pending";

/// What an owner's process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Deed {
    /// Look.
    Look,
    /// Do what is due.
    Advance,
    /// Drop what waits, where it is this.
    Clear(Bytes),
    /// Take away what was enrolled.
    Stop,
}

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    user: String,
    home: OsString,
    deed: Deed,
    /// The time that root goes by, in seconds since 1970: who is noted as due must be who is found due.
    now: u64,
}

/// What an owner's process says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// Nothing waits.
    Nothing,
    /// What waits, or waited, and what happened to it.
    Waits(Waiting, Event),
    /// It cannot be said, or done, and why.
    Unasked(String),
}

impl Report for Answer {}

impl by_owner::Answer for Answer {
    fn unasked(why: String) -> Self {
        Self::Unasked(cut(why))
    }
}

/// What is told of one user. The names are those of the JSON output.
#[derive(Debug, Serialize)]
struct Row {
    user: String,
    waits_for: &'static str,
    /// The day on which it began.
    since: String,
    /// The day on which it takes effect.
    until: Option<String>,
    fingerprints: Vec<String>,
    user_ids: Vec<String>,
}

/// What is done with what is pending.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// Which users are asked.
    pub users: UserList,
    /// Whether what is due is done.
    pub advance: bool,
    /// Whether the list is JSON.
    pub json: bool,
}

impl Keys<'_> {
    /// Lists what users have sent to be enrolled and is not in effect; with `advance`, has what is due take effect, notes its
    /// users in the register, and tells the owners.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where the users cannot be listed. A user who cannot be asked gives [`Exit::Negative`].
    pub fn pending(&self, how: &Pending, out: &mut impl Write) -> Result<Exit, Error> {
        let mut unknown = Vec::new();
        let asked = self.everybody(how, &mut unknown)?;
        let mut answers = self.ask_owners(&asked, &Deed::Look)?;
        if how.advance {
            answers = self.advance_owners(&asked, answers)?;
        }
        let (mut rows, mut exit) = (Vec::new(), Exit::Ok);
        for (name, error) in &unknown {
            exit = Exit::Negative;
            crate::cli::complain(crate::cli::ADMIN, Some(name), error);
        }
        for ((user, _), answer) in asked.iter().zip(answers) {
            let told = match answer {
                Answer::Nothing => Ok(None),
                Answer::Unasked(why) => Err(failed(&why)),
                Answer::Waits(waiting, event) => {
                    let told = self.tell_of(user, &waiting, &event, how, out);
                    told.and_then(|()| (event != Event::Enrolled).then(|| row(user, &waiting)).transpose())
                }
            };
            match told {
                Ok(row) => rows.extend(row),
                Err(error) => {
                    exit = Exit::Negative;
                    crate::cli::complain(crate::cli::ADMIN, Some(user.name()), &error);
                }
            }
        }
        write_rows(&rows, how.json, out)?;
        Ok(exit)
    }

    /// A line for each thing that users have sent and is not in effect, and for each user who could not be asked.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where the users cannot be listed.
    pub(super) fn pending_lines(&self, users: &UserList) -> Result<(Vec<String>, Vec<String>), Error> {
        let mut unknown = Vec::new();
        let how = Pending { users: users.clone(), ..Pending::default() };
        let asked = self.everybody(&how, &mut unknown)?;
        let answers = self.ask_owners(&asked, &Deed::Look)?;
        let mut unasked: Vec<String> =
            unknown.into_iter().map(|(name, error)| format!("{name}: {error}")).collect();
        let mut lines = Vec::new();
        for ((user, _), answer) in asked.iter().zip(answers) {
            let told = match answer {
                Answer::Nothing => continue,
                Answer::Unasked(why) => Err(failed(&why)),
                Answer::Waits(waiting, _) => row(user, &waiting),
            };
            match told {
                Ok(Row { user, waits_for, since, fingerprints, .. }) => {
                    lines.push(format!(
                        "{user}: {} waits for {waits_for}, since {since}",
                        fingerprints.join(", ")
                    ));
                }
                Err(error) => unasked.push(format!("{}: {error}", user.name())),
            }
        }
        Ok((lines, unasked))
    }

    /// Enrols what `user` has sent and confirmed, for an admin who agrees; or takes away what a user no longer wants. Where a
    /// certificate takes the place of another, `fingerprint` must name it: another could have come since the admin looked.
    ///
    /// # Errors
    /// [`Error::Usage`] where nothing of the user's waits for an admin, or something else than `fingerprint`; those of
    /// [`Keys::run`].
    pub fn approve(
        &self,
        user: &User,
        fingerprint: Option<&str>,
        dovecot_config: Option<&Path>,
        out: &mut (impl Write + Send + Sync),
    ) -> Result<Exit, Error> {
        let found = super::look_up(user, dovecot_config).unwrap_or_default();
        let account = Account { home: self.home.clone().or(found.home), ..found };
        let here = Keys::new(self.config, self.config_path.clone(), account.home.clone(), self.now);
        let here = here.until(&self.stop);
        let waiting = match self.ask_owner(user, &account, Deed::Look)? {
            Answer::Waits(waiting, _) => waiting,
            Answer::Nothing => return Err(nothing_of(user, "nothing of theirs waits")),
            Answer::Unasked(why) => return Err(failed(&why)),
        };
        match waiting.what {
            Awaited::Stop => {
                self.done(self.ask_owner(user, &account, Deed::Stop)?)?;
                here.run(user, &Action::Remove { fingerprint: None }, out)
            }
            Awaited::Message | Awaited::Code => {
                Err(nothing_of(user, "they have not shown that they can read with the key"))
            }
            Awaited::OldCode | Awaited::Until(_) | Awaited::Admin => {
                let old = here.find(user)?;
                check_fingerprint(user, &parse(&waiting)?, fingerprint, !old.is_empty())?;
                let existing = if waiting.also { Existing::Keep } else { Existing::Replace };
                let input = |contents| Input { name: STATE.into(), contents };
                let mut inputs = vec![input(waiting.certs.clone())];
                if waiting.also {
                    // Wherever they are: what is enrolled takes their place.
                    let old = any_cert::serialize(&old)?;
                    inputs.extend((!old.is_empty()).then(|| input(Bytes(old))));
                }
                let addition = Addition { inputs, existing, doubt: None };
                let exit = here.run(user, &Action::Add(addition), out)?;
                self.done(self.ask_owner(user, &account, Deed::Clear(waiting.certs))?)?;
                Ok(exit)
            }
        }
    }

    fn done(&self, answer: Answer) -> Result<(), Error> {
        match answer {
            Answer::Unasked(why) => Err(failed(&why)),
            Answer::Nothing | Answer::Waits(..) => Ok(()),
        }
    }

    /// The users who can be asked, with their homes; in `unknown` those who cannot, by name, and why.
    fn everybody(
        &self,
        how: &Pending,
        unknown: &mut Vec<(String, Error)>,
    ) -> Result<Vec<(User, Account)>, Error> {
        let mut asked = Vec::new();
        for (name, answer) in register::everybody(&how.users)? {
            let account = match answer {
                userdb::Answer::Found(account) => account,
                userdb::Answer::NotFound => {
                    unknown.push((name, unasked("Dovecot knows no such user")));
                    continue;
                }
                userdb::Answer::Failed => {
                    unknown.push((name, unasked("Dovecot does not say who that is")));
                    continue;
                }
            };
            match User::parse(&name) {
                Ok(user) if account.home.is_some() => asked.push((user, account)),
                // Without a home nothing can wait there.
                Ok(_) => {}
                Err(error) => unknown.push((name, error)),
            }
        }
        Ok(asked)
    }

    /// Has what is due take effect for those who have something waiting. They are noted in the register before that: were it
    /// done after, and not come to it, a certificate that is lost later would pass for one that never was.
    fn advance_owners(&self, asked: &[(User, Account)], looked: Vec<Answer>) -> Result<Vec<Answer>, Error> {
        let (now, by_itself) = (state::seconds(self.now), self.config.keys.receive == Receive::Mailbox);
        let mut waiting = Vec::new();
        for (owner, answer) in asked.iter().zip(&looked) {
            let Answer::Waits(found, _) = answer else { continue };
            if by_itself && matches!(found.what, Awaited::Until(until) if until <= now) {
                self.make_known(&owner.0)?;
            }
            waiting.push(owner.clone());
        }
        let mut advanced = self.ask_owners(&waiting, &Deed::Advance)?.into_iter();
        let answers = looked.into_iter().map(|looked| match looked {
            Answer::Waits(..) => advanced.next().unwrap_or(looked),
            Answer::Nothing | Answer::Unasked(_) => looked,
        });
        Ok(answers.collect())
    }

    /// Tells the owner what has happened.
    fn tell_of(
        &self,
        user: &User,
        waiting: &Waiting,
        event: &Event,
        how: &Pending,
        out: &mut impl Write,
    ) -> Result<(), Error> {
        let now = SystemTime::now();
        let notice = match (event, waiting.what) {
            (Event::Announce, Awaited::Until(until)) => words::reminder(&parse(waiting)?, until, now),
            (Event::Enrolled, _) => {
                if !how.json {
                    say(out, format_args!("in effect from now on: the key that {} has sent", user.name()))?;
                }
                words::in_effect(&parse(waiting)?, now)
            }
            _ => return Ok(()),
        };
        let to = self.address(user).unwrap_or_else(|| user.name().to_owned());
        let message = answer::notice(&to, &(notice.0, notice.1), &answer::new_id()?, now);
        doveadm::save(user.name(), "INBOX", &message, how.users.dovecot_config.as_deref())
    }

    fn ask_owner(&self, user: &User, account: &Account, deed: Deed) -> Result<Answer, Error> {
        if account.home.is_none() {
            return Err(Error::Home { path: UNKNOWN_HOME.into(), what: "is not known".into() });
        }
        let answers = self.ask_owners(&[(user.clone(), account.clone())], &deed)?;
        Ok(answers.into_iter().next().unwrap_or(Answer::Nothing))
    }

    fn ask_owners(&self, accounts: &[(User, Account)], deed: &Deed) -> Result<Vec<Answer>, Error> {
        let question = |(user, account): &(User, Account)| {
            let home = account.home.clone().unwrap_or_default().into();
            let (user, now) = (user.name().into(), state::seconds(self.now));
            (by_owner::owner(account), Question { user, home, deed: deed.clone(), now })
        };
        let questions: Vec<_> = accounts.iter().map(question).collect();
        let asking = Asking { kind: KIND, config: self.config_path.as_deref(), stop: &self.stop };
        asking.ask(&questions, |question| question.answer(self.config))
    }
}

impl Question {
    fn answer(&self, config: &Config) -> Answer {
        self.work(config).unwrap_or_else(|error| Answer::Unasked(cut(error.to_string())))
    }

    fn work(&self, config: &Config) -> Result<Answer, Error> {
        let now = state::time(self.now).unwrap_or_else(SystemTime::now);
        let session = Session::of(config, &self.user, Path::new(&self.home).into(), now)?;
        let told = match &self.deed {
            Deed::Look => advance::look(&session)?.map(|waiting| (waiting, Event::Nothing)),
            Deed::Advance => advance::advance(&session)?,
            Deed::Clear(certs) => advance::clear(&session, &certs.0).map(|()| None)?,
            Deed::Stop => advance::stop(&session).map(|()| None)?,
        };
        Ok(told.map_or(Answer::Nothing, |(waiting, event)| Answer::Waits(waiting, event)))
    }
}

/// Refuses what waits where it is not the one certificate that an admin has named, or none was named and `must_be_named`.
fn check_fingerprint(
    user: &User,
    waiting: &[AnyCert],
    named: Option<&str>,
    must_be_named: bool,
) -> Result<(), Error> {
    let named = named.map(|text| text.replace([' ', ':'], "").to_uppercase());
    let fingerprints = state::fingerprints(waiting);
    let what = match named {
        Some(named) if fingerprints.iter().any(|it| it.to_uppercase() == named) => return Ok(()),
        Some(_) => "what they have sent is another key",
        None if !must_be_named => return Ok(()),
        None => "they have a key already, and which is to take its place was not said",
    };
    Err(Error::Usage {
        what: format!("{}: {what}", user.name()),
        hint: format!(
            "ask the owner for the fingerprint, and if it is this, give it: mailseal keys approve {} {}",
            user.name(),
            fingerprints.join(" or ")
        ),
    })
}

/// What the process itself does.
///
/// # Errors
/// Those of its beginning and of the configuration.
pub fn main() -> Result<(), Error> {
    by_owner::main(|config, question: Question| question.answer(config))
}

/// The certificates that an owner's process has told.
fn parse(waiting: &Waiting) -> Result<Vec<AnyCert>, Error> {
    if waiting.certs.0.len() > limits::PENDING {
        return Err(failed("it is larger than what can wait"));
    }
    keystore::parse(&waiting.certs.0, Path::new(STATE))
}

fn row(user: &User, waiting: &Waiting) -> Result<Row, Error> {
    let (waits_for, until) = match waiting.what {
        Awaited::Message => ("a message of the user's", None),
        Awaited::Code => ("the code", None),
        Awaited::OldCode => ("the code of the old key, or an admin", None),
        Awaited::Until(until) => ("the day", state::time(until)),
        Awaited::Admin => ("an admin", None),
        Awaited::Stop => ("an admin, to stop sealing", None),
    };
    let certs = if waiting.what == Awaited::Stop { Vec::new() } else { parse(waiting)? };
    Ok(Row {
        user: user.name().into(),
        waits_for,
        since: day(state::time(waiting.since)),
        until: until.map(|until| day(Some(until))),
        fingerprints: state::fingerprints(&certs),
        user_ids: certs.iter().flat_map(AnyCert::names).collect(),
    })
}

fn write_rows(rows: &[Row], json: bool, out: &mut impl Write) -> Result<(), Error> {
    if json {
        return json::write(out, &rows).map_err(Error::Output);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["user", "waits for", "since", "in effect", "fingerprint", "user id"]);
    for row in rows {
        table.push(vec![
            row.user.clone(),
            row.waits_for.into(),
            row.since.clone(),
            row.until.clone().unwrap_or_else(|| "-".into()),
            row.fingerprints.join(", "),
            row.user_ids.join(", "),
        ]);
    }
    table.write(out).map_err(Error::Output)
}

fn nothing_of(user: &User, why: &str) -> Error {
    Error::Usage {
        what: format!("{} cannot be approved: {why}", user.name()),
        hint: "look with `mailseal keys pending`".into(),
    }
}

fn unasked(why: &str) -> Error {
    Error::KeyStore {
        path: STATE.into(),
        what: format!("it was not looked at: {why}"),
        hint: "see what `doveadm user` says of the name, and run it again".into(),
    }
}

fn failed(why: &str) -> Error {
    Error::KeyStore {
        path: STATE.into(),
        what: why.into(),
        hint: "look at the folder with the owner's rights, and run it again".into(),
    }
}
