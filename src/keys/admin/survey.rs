//! `mailseal status`: what becomes of each user's mail, decided by the code that decides it for deliveries, with the rights that
//! these have.
//!
//! `keys scan` leaves the answers for a helpdesk, in a file beside the register: who is not root and is in the group that the
//! configuration names reads that.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::{Timestamp, Unit};
use mailseal_maildir::durable;
use serde::{Deserialize, Serialize};

use super::by_owner::{self, Asking, Owner};
use super::register::{UserList, everybody};
use super::{Keys, say};
use crate::config::{Config, Mode};
use crate::console::json;
use crate::console::table::Table;
use crate::delivery::owner::Owner as DeliveryUser;
use crate::dovecot::userdb;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::addressee::{self, Addressee, Whose};
use crate::keystore::any_cert::AnyCert;
use crate::keystore::user::User;
use crate::limits;
use crate::log::entry::{Delivery, What};
use crate::log::{Outcome, words};
use crate::report;
use crate::system::owner::cut;
use crate::system::owner::process::Report;
use crate::system::process;

/// The kind of the task.
pub const KIND: &str = "status";

/// The file's name, beside the register.
const FILE: &str = "status.json";

/// Its mode: its group is the helpdesk's.
const MODE: u32 = 0o640;

/// Most certificates of a user that are named.
const NAMED: usize = 20;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only this user.
    pub user: Option<User>,
    /// Say what became of the message with this Message-ID.
    pub why: Option<String>,
    /// Where that is looked for; this machine's own log, if not said.
    pub logs: Vec<PathBuf>,
    /// Who there is.
    pub users: UserList,
    /// For scripts.
    pub json: bool,
}

/// What becomes of mail for a user. The names are those of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Sealed,
    Clear,
    Deferred,
    Unknown,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Clear => "clear",
            Self::Deferred => "deferred",
            Self::Unknown => "unknown",
        }
    }
}

/// What a delivery to a user would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    state: State,
    /// The fingerprints of the user's certificates.
    certificates: Vec<String>,
    /// The word in the log line.
    reason: Option<String>,
    /// What is wrong, and what to do.
    what: Option<String>,
    hint: Option<String>,
    warnings: Vec<String>,
    /// Whether it is only tried, and the mail stored as it comes.
    observed: bool,
}

impl Report for Fate {}

impl by_owner::Answer for Fate {
    fn unasked(why: String) -> Self {
        Self { what: Some(cut(why)), ..Self::of(State::Unknown, None) }
    }
}

/// A line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    user: String,
    #[serde(flatten)]
    fate: Fate,
}

/// What is shown, and left for the helpdesk.
#[derive(Debug, Serialize, Deserialize)]
struct Survey {
    /// When it was found out (RFC 3339).
    as_of: String,
    users: Vec<Row>,
}

/// A question about a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    pub(super) user: String,
    home: Option<OsString>,
    key_files: Vec<OsString>,
}

impl Fate {
    fn of(state: State, reason: Option<&str>) -> Self {
        Self {
            state,
            certificates: Vec::new(),
            reason: reason.map(str::to_owned),
            what: None,
            hint: None,
            warnings: Vec::new(),
            observed: false,
        }
    }

    fn failed(error: &Error) -> Self {
        Self {
            what: Some(cut(error.to_string())),
            hint: Some(cut(error.hint())),
            ..Self::of(State::Deferred, Some(error.reason()))
        }
    }

    /// Why nothing can be said of the user, or mail waits.
    pub(super) fn what(&self) -> Option<&str> {
        self.what.as_deref()
    }

    /// Why, in one line.
    fn why(&self) -> String {
        let said = match (self.state, &self.reason, &self.what) {
            (State::Sealed, ..) => self.certificates.join(", "),
            (State::Clear, Some(reason), _) => {
                words::of_reason(reason).map_or_else(|| reason.clone(), |it| format!("{reason}: {}", it.what))
            }
            (_, Some(reason), Some(what)) => format!("{reason}: {what}"),
            (_, _, what) => what.clone().unwrap_or_default(),
        };
        let warnings =
            if self.warnings.is_empty() { String::new() } else { format!(" ({})", self.warnings.join(", ")) };
        let observed = if self.observed { " [observed: stored as it comes]" } else { "" };
        format!("{said}{warnings}{observed}")
    }
}

impl Question {
    /// Calls `look` with whose mail it is about.
    pub(super) fn with_whose<T>(&self, look: impl FnOnce(&Whose<'_>) -> T) -> T {
        let key_files: Vec<PathBuf> = self.key_files.iter().map(PathBuf::from).collect();
        let home = self.home.as_deref().map(Path::new);
        look(&Whose { user: &self.user, home, key_files: &key_files, cache: None })
    }

    fn answer(&self, config: &Config) -> Fate {
        self.with_whose(|whose| Self::fate(config, whose))
    }

    fn fate(config: &Config, whose: &Whose<'_>) -> Fate {
        let observed =
            addressee::rule(config, whose).ok().flatten().is_some_and(|rule| rule.mode == Mode::Observe);
        let fate = match addressee::find(config, whose, SystemTime::now()) {
            Ok(Addressee::Clear(why)) => Fate::of(State::Clear, Some(why.reason())),
            Ok(Addressee::Sealed { recipients, certs, .. }) => Fate {
                certificates: certs.iter().take(NAMED).map(AnyCert::fingerprint).collect(),
                warnings: recipients.warnings().iter().map(|warning| warning.name().to_owned()).collect(),
                ..Fate::of(State::Sealed, None)
            },
            Err(error) => Fate::failed(&error),
        };
        Fate { observed, ..fate }
    }
}

/// What the owner's process does.
///
/// # Errors
/// Those of its beginning and of the configuration.
pub fn main() -> Result<(), Error> {
    by_owner::main(|config, question: Question| question.answer(config))
}

impl Keys<'_> {
    /// Says what becomes of the mail of every user, or of one; with a Message-ID what became of that message.
    /// [`Exit::Negative`] where a user is not known, or no line of the log has the Message-ID.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where the users cannot be listed; [`Error::KeyStore`] where this is not root's and what was left for
    /// the helpdesk cannot be read; [`Error::Log`].
    pub fn status(&self, options: &Options, out: &mut impl Write) -> Result<Exit, Error> {
        if let (Some(user), Some(id)) = (&options.user, &options.why) {
            return why(user, id, options, out);
        }
        let live = process::is_root();
        let mut survey = if live { self.survey(options)? } else { self.left_survey()? };
        if let Some(user) = &options.user {
            survey.users.retain(|row| User::parse(&row.user).is_ok_and(|other| other == *user));
        }
        if options.json {
            json::write(out, &survey).map_err(Error::Output)?;
        } else {
            if !live {
                say(out, format_args!("As of {}, {}.", survey.as_of, age(&survey.as_of)))?;
            }
            write(&survey.users, options.user.is_some(), out)?;
        }
        match &options.user {
            Some(user) if survey.users.is_empty() => {
                let what = format!(
                    "{}: Dovecot knows no such user; look for a mistyped name, or one without its domain: doveadm user '*'",
                    user.name()
                );
                crate::cli::note(crate::cli::ADMIN, &what);
                Ok(Exit::Negative)
            }
            _ => Ok(Exit::Ok),
        }
    }

    /// Asks for every user.
    fn survey(&self, options: &Options) -> Result<Survey, Error> {
        let as_of = Timestamp::now().round(Unit::Second).unwrap_or_default().to_string();
        let found = match &options.user {
            Some(user) if options.users.file.is_none() => {
                let mut userdb = userdb::Userdb::of_dovecot(options.users.dovecot_config.as_deref())?;
                let names = vec![user.name().to_owned()];
                let answers = userdb.look_up(&names)?;
                let known = names.into_iter().zip(answers);
                known.filter(|(_, answer)| *answer != userdb::Answer::NotFound).collect()
            }
            _ => everybody(&options.users)?,
        };
        let mut users = Vec::new();
        let mut questions: Vec<(Owner, Question)> = Vec::new();
        for (name, answer) in found {
            match question(answer) {
                Ok(question) => questions.push(question),
                Err(fate) => users.push(Row { user: name, fate: *fate }),
            }
        }
        let asking = Asking { kind: KIND, config: self.config_path.as_deref(), stop: &self.stop };
        let fates = asking.ask(&questions, |question| question.answer(self.config))?;
        let asked = questions.into_iter().zip(fates);
        users.extend(asked.map(|((_, question), fate)| Row { user: question.user, fate }));
        users.sort_by(|a, b| a.user.cmp(&b.user));
        Ok(Survey { as_of, users })
    }

    fn survey_file(&self) -> PathBuf {
        self.config.keys.known.with_file_name(FILE)
    }

    /// What `keys scan` has left.
    fn left_survey(&self) -> Result<Survey, Error> {
        use std::io::Read as _;
        let path = self.survey_file();
        let failed = |what: String| {
            Error::KeyStore {
            path: path.clone(),
            what,
            hint: "run it as root, or as one of the group that `helpdesk` in [keys] names; root's `mailseal keys scan` writes it"
                .into(),
        }
        };
        let mut text = String::new();
        let file = std::fs::File::open(&path).map_err(|error| failed(error.to_string()))?;
        file.take(limits::KEYRING).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(format!("it is not what a scan writes: {error}")))
    }

    /// Leaves the answers for the helpdesk, where there is one.
    ///
    /// # Errors
    /// [`Error::Dovecot`]; [`Error::KeyStore`] where it cannot be written.
    pub(super) fn leave_survey(&self, users: &UserList) -> Result<(), Error> {
        let Some(group) = self.config.keys.helpdesk.filter(|_| process::is_root()) else { return Ok(()) };
        let path = self.survey_file();
        let failed = |error: std::io::Error| Error::KeyStore {
            path: path.clone(),
            what: format!("it cannot be written for the helpdesk: {error}"),
            hint: "look for a full disk, or missing rights (CAP_CHOWN)".into(),
        };
        let survey = self.survey(&Options { users: users.clone(), ..Options::default() })?;
        let bytes = serde_json::to_vec(&survey).map_err(|error| failed(error.into()))?;
        // First for root alone: until it is the helpdesk's, its group is another one.
        durable::write(&path, &bytes, 0o600).map_err(failed)?;
        std::os::unix::fs::chown(&path, None, Some(group.0)).map_err(failed)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(MODE);
        std::fs::set_permissions(&path, mode).map_err(failed)
    }
}

/// What is to be asked about a user, with whose rights; what becomes of the user's mail, where that is known already.
pub(super) fn question(answer: userdb::Answer) -> Result<(Owner, Question), Box<Fate>> {
    let account = match answer {
        userdb::Answer::Found(account) => account,
        userdb::Answer::NotFound => {
            return Err(Box::new(by_owner::Answer::unasked("Dovecot knows no such user".into())));
        }
        userdb::Answer::Failed => {
            return Err(Box::new(by_owner::Answer::unasked("Dovecot does not say who that is".into())));
        }
    };
    let rights = by_owner::owner(&account);
    let DeliveryUser { name, home, said, .. } =
        DeliveryUser::of(account).map_err(|error| Box::new(Fate::failed(&error)))?;
    let key_files = said.key_files.into_iter().map(Into::into).collect();
    let question = Question { user: name, home: home.map(Into::into), key_files };
    // As deliveries: a setting of the user's own comes before everything else.
    if said.off { Err(Box::new(Fate::of(State::Clear, Some("off")))) } else { Ok((rights, question)) }
}

fn write(rows: &[Row], with_hints: bool, out: &mut impl Write) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["user", "mail is", "to, or why"]);
    for Row { user, fate } in rows {
        table.push(vec![user.clone(), fate.state.name().into(), fate.why()]);
    }
    table.write(out).map_err(Error::Output)?;
    for hint in rows.iter().filter_map(|row| row.fate.hint.as_ref()).filter(|_| with_hints) {
        say(out, format_args!("to do: {hint}"))?;
    }
    Ok(())
}

/// How long ago that was.
fn age(time: &str) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return "at a time that cannot be read".into() };
    let minutes = Timestamp::now().duration_since(time).as_mins();
    match minutes {
        ..0 => "which is in the future".into(),
        0 => "less than a minute ago".into(),
        1..120 => format!("{minutes} min ago"),
        _ => format!("{} hours ago", minutes / 60),
    }
}

/// What became of one message of the user's.
#[derive(Debug, Serialize)]
struct Happened {
    time: Option<String>,
    outcome: &'static str,
    reason: String,
    what: Vec<String>,
    to_do: Vec<String>,
}

impl Happened {
    fn tell(&self, out: &mut impl Write) -> Result<(), Error> {
        let time = self.time.as_deref().unwrap_or("at a time that the log does not tell");
        say(out, format_args!("{time}: {}", self.what.join(" ")))?;
        for line in self.to_do.iter().filter(|line| *line != "Nothing.") {
            say(out, format_args!("  to do: {line}"))?;
        }
        Ok(())
    }
}

/// Says what became of the messages of `user` with this Message-ID.
fn why(user: &User, id: &str, options: &Options, out: &mut impl Write) -> Result<Exit, Error> {
    let bare = |id: &str| id.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
    let wanted = bare(id);
    let mut happened = Vec::new();
    // What is deferred before the message was read has no Message-ID.
    let mut unread: Option<(usize, Happened)> = None;
    report::each_entry(&options.logs, &mut |entry| {
        let What::Delivery(delivery) = &entry.what else { return };
        let is_user = User::parse(&delivery.user).is_ok_and(|other| other == *user);
        if !is_user {
            return;
        }
        let time = || entry.time.map(|time| time.wall.to_string());
        match delivery.message_id.as_deref() {
            Some(id) if bare(id) == wanted => happened.push(told(time(), delivery)),
            None if delivery.outcome == Outcome::Deferred => {
                let before = unread.as_ref().map_or(0, |(count, _)| *count);
                unread = Some((before + 1, told(time(), delivery)));
            }
            _ => {}
        }
    })?;
    if options.json {
        json::write(out, &happened).map_err(Error::Output)?;
    } else if happened.is_empty() {
        say(out, format_args!("No line of the log names this message for {}.", user.name()))?;
        if let Some((count, last)) = &unread {
            say(
                out,
                format_args!(
                    "Deferred before the message was read, so that the log has no Message-ID: {count} for this user, and this one \
                     may be among them. The last:"
                ),
            )?;
            last.tell(out)?;
            say(out, format_args!("Whether it waits is in the MTA's log (451)."))?;
        } else {
            say(
                out,
                format_args!(
                    "It has not come to mailseal, or the log is older or shorter than that, or the configuration leaves \
                     Message-IDs out (msgid). See the MTA's log."
                ),
            )?;
        }
    }
    for it in happened.iter().filter(|_| !options.json) {
        it.tell(out)?;
    }
    Ok(if happened.is_empty() { Exit::Negative } else { Exit::Ok })
}

fn told(time: Option<String>, delivery: &Delivery<'_>) -> Happened {
    let outcome = match delivery.outcome {
        Outcome::Sealed => "The message was sealed.",
        Outcome::Unchanged => "The message was stored as it came.",
        Outcome::WouldSeal => {
            "The message was stored as it came: this user is only observed, and it would have been sealed."
        }
        Outcome::Held => "The message is held here, and tried again.",
        Outcome::Deferred => "The message was not taken: the MTA keeps it and tries again.",
    };
    let mut meanings = Vec::new();
    if delivery.reason != "-" {
        meanings.push((delivery.reason.to_string(), words::of_reason(&delivery.reason)));
    }
    for word in delivery.warnings.split(',').filter(|word| !["", "-"].contains(word)) {
        meanings.push((word.to_owned(), words::of_warning(word)));
    }
    let mut what = vec![outcome.to_owned()];
    let mut to_do = Vec::new();
    for (word, meaning) in meanings {
        match meaning {
            Some(meaning) => {
                what.push(meaning.what.to_owned());
                to_do.push(meaning.todo.to_owned());
            }
            None => what.push(format!("The log says {word}, which this version does not know.")),
        }
    }
    Happened { time, outcome: delivery.outcome.name(), reason: delivery.reason.to_string(), what, to_do }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(outcome: Outcome, reason: &'static str, warnings: &'static str) -> (String, String) {
        let delivery =
            Delivery { outcome, reason: reason.into(), warnings: warnings.into(), ..Delivery::default() };
        let told = told(None, &delivery);
        (told.what.join(" "), told.to_do.join(" "))
    }

    #[test]
    fn a_line_is_told_in_plain_words() {
        assert_eq!(says(Outcome::Sealed, "-", "-"), ("The message was sealed.".into(), String::new()));
        let (what, to_do) = says(Outcome::Deferred, "key-store", "-");
        assert!(what.contains("tries again") && what.contains("cannot be read"), "{what}");
        assert!(to_do.contains("mailseal status USER"), "{to_do}");
        let (what, _) = says(Outcome::Sealed, "-", "expired,hp-skipped");
        assert!(what.contains("has expired") && what.contains("stay readable"), "{what}");
        assert!(says(Outcome::Deferred, "new-word", "-").0.contains("new-word"));
    }

    #[test]
    fn the_age_is_told_in_the_unit_that_fits() {
        let ago =
            |seconds: i64| age(&(Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).to_string());
        assert_eq!(ago(5), "less than a minute ago");
        assert_eq!(ago(60 * 60), "60 min ago");
        assert_eq!(ago(5 * 3600 + 5), "5 hours ago");
        assert_eq!(ago(-120), "which is in the future");
        assert_eq!(age("x"), "at a time that cannot be read");
    }
}
