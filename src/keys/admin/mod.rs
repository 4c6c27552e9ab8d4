//! `mailseal keys`: what an admin does with the certificates of users.
//!
//! Each command writes what a person or a script reads to `out`. [`crate::keystore`] reads and writes the files,
//! [`mailseal_core::cert`] and [`crate::keys::enrol`] say what a certificate is worth.
//!
//! ```text
//! register  the register of known users: init, scan, rename
//! export    certificates for a web server to publish
//! gpgit     the certificates that gpgit uses, enrolled
//! owners    what the owners of certificates are told, and an admin  [edge]
//! refresh   what is new about enrolled certificates
//! survey    what becomes of each user's mail
//! ask       a scan of many homes                                   [edge]
//! pending   what users have sent, and what an admin does about it  [edge]
//! by_owner  questions about many users, with their rights          [edge]
//! owned     a command about one user whose home is looked into     [edge]
//! ```
//!
//! What looks into homes starts processes with the rights of each home's owner: root's own opens nothing there.

pub mod ask;
mod by_owner;
pub mod export;
pub mod gpgit;
pub mod owned;
pub mod owners;
pub mod pending;
pub mod refresh;
pub mod register;
pub mod survey;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use mail_builder::MessageBuilder;
use mailseal_core::cert::{Fitness, Lapse};
use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::Opening;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::cli::sealing::Sealing;
use crate::config::Config;
use crate::config::outgoing::Rule;
use crate::config::style::Style;
use crate::console::date::day;
use crate::console::json;
use crate::console::table::Table;
use crate::dovecot::userdb::{Account, Answer, Userdb};
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::addressee;
use crate::keys::code;
use crate::keys::enrol::{self, Candidate, Found};
use crate::keys::receive::state::Received;
use crate::keys::revoked::Lists;
use crate::keystore::any_cert::{self, AnyCert, Worth};
use crate::keystore::census::Entry;
use crate::keystore::enrolled::{Enrolled, KeyFile};
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::keystore::{self, Request, absence, authorities};
use crate::outgoing::policy;
use crate::system::owner::Bytes;
use crate::system::process;
use owned::{Owner, Parent};

/// Characters of the code in a test message: 60 bits.
const CODE_LENGTH: usize = 12;

/// How much of a fingerprint's end names a certificate among those of one user.
const SHORTEST_FINGERPRINT: usize = 8;

/// What the commands work with.
#[derive(Debug)]
pub struct Keys<'a> {
    config: &'a Config,
    config_path: Option<PathBuf>,
    home: Option<PathBuf>,
    now: SystemTime,
    /// Root's process, where it has started this one with the rights of the home's owner.
    parent: Option<&'a Parent>,
    /// Set where the command is to end, and the processes that it has started with it.
    stop: Arc<AtomicBool>,
}

/// A command about one user.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Action {
    /// Enrol certificates. Nothing is changed where one is refused ([`Error::Enrol`]), where it cannot be stored
    /// ([`Error::KeyStore`]), and where the user has another one and it is not said what becomes of it ([`Error::Usage`]).
    Add(Addition),
    /// Show the certificates, wherever they are found; [`Exit::Negative`] where there are none.
    Show {
        /// For scripts.
        json: bool,
    },
    /// Remove the enrolled certificates; it is [`Error::Usage`] when there are none.
    Remove {
        /// Only the one with this fingerprint, or end of a fingerprint of eight digits or more.
        fingerprint: Option<String>,
    },
    /// Write a sealed test message; without a certificate it is [`Error::Missing`].
    Test,
    /// Record that the user has read the test message; a wrong code gives [`Exit::Negative`].
    Confirm {
        /// The code in it.
        code: String,
    },
}

/// Certificates to be enrolled.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// What holds them.
    pub inputs: Vec<Input>,
    /// What happens to those that the user has already.
    pub existing: Existing,
    /// What to warn of ([`Keys::doubt_of_dovecot`]).
    pub doubt: Option<String>,
}

/// A file that an admin names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its path, or where else its contents come from.
    pub name: OsString,
    /// What it holds.
    pub contents: Bytes,
}

/// What happens to the certificates that a user has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Existing {
    /// Another one is an error.
    #[default]
    Refuse,
    /// They stay.
    Keep,
    /// They go.
    Replace,
}

/// What is told of one certificate. The names are those of the JSON output.
#[derive(Debug, Serialize)]
struct Row {
    user: String,
    fingerprint: String,
    /// fit, expired, retired or unfit.
    state: &'static str,
    /// Why it is not fit.
    reason: Option<String>,
    /// The day on which its last key expires or expired.
    expires: Option<String>,
    algorithms: Vec<String>,
    user_ids: Vec<String>,
    /// Whether the user has shown to be able to read with it.
    confirmed: bool,
    /// To whom: an admin (code), or through the mailbox alone (mailbox).
    confirmed_by: Option<&'static str>,
}

impl Row {
    /// Whether it tells of a file that no certificate could be read from.
    fn is_of_file(&self) -> bool {
        self.fingerprint == "-"
    }
}

impl<'a> Keys<'a> {
    /// Works with the key sources of `config`, which was read from `config_path` if not from the default place, at the time
    /// `now`. `home` is the home of the user concerned.
    #[must_use]
    pub fn new(
        config: &'a Config,
        config_path: Option<PathBuf>,
        home: Option<PathBuf>,
        now: SystemTime,
    ) -> Self {
        Self { config, config_path, home, now, parent: None, stop: Arc::default() }
    }

    /// The same, ended when `stop` is set.
    #[must_use]
    pub fn until(self, stop: &Arc<AtomicBool>) -> Self {
        Self { stop: Arc::clone(stop), ..self }
    }

    /// Works in the process of a home's owner, which `parent` has started.
    fn of_child(config: &'a Config, home: &Path, parent: &'a Parent) -> Self {
        Self { parent: Some(parent), ..Self::new(config, None, Some(home.into()), SystemTime::now()) }
    }

    /// Carries out `action` for `user`. Where that looks into a home that is not root's, root has it done with the rights of
    /// the home's owner.
    ///
    /// # Errors
    /// Those of the action, and those of the owner's process.
    pub fn run(
        &self,
        user: &User,
        action: &Action,
        out: &mut (impl Write + Send + Sync),
    ) -> Result<Exit, Error> {
        let in_homes = match action {
            Action::Show { .. } => self.asks_homes(),
            _ => self.enrolled().is_ok_and(|enrolled| enrolled.is_in_homes()),
        };
        match self.owner(user, in_homes)? {
            Some(owner) => owner.carry_out(self, user, action, out),
            None => self.carry_out(user, action, out),
        }
    }

    fn carry_out(
        &self,
        user: &User,
        action: &Action,
        out: &mut (impl Write + Send + Sync),
    ) -> Result<Exit, Error> {
        match action {
            Action::Add(addition) => self.add(user, addition, out),
            Action::Show { json } => self.show(user, *json, out),
            Action::Remove { fingerprint } => self.remove(user, fingerprint.as_deref(), out),
            Action::Test => self.test(user, out),
            Action::Confirm { code } => self.confirm(user, code, out),
        }
    }

    fn add(&self, user: &User, addition: &Addition, out: &mut impl Write) -> Result<Exit, Error> {
        let address = self.address(user);
        let new = self.candidates(&addition.inputs, address.as_deref())?;
        let file = self.enrolled()?.file(user, self.home.as_deref())?;
        let _lock = file.lock()?;
        let certs = with_old(user, &new, &file, addition.existing)?;
        let preference = self.config.keys.preference();
        let (style, pair) = (self.style(user), (&*certs, &*self.recovery()?));
        let warnings = enrol::test_seal(user.name(), pair, preference, &style, self.now)?;
        // First what makes a delivery careful: from here on, losing the file is no reason for clear mail.
        self.make_known(user)?;
        file.store(&certs)?;

        for candidate in &new {
            self.tell_enrolled(user, candidate, &file, out)?;
        }
        for warning in warnings {
            say(out, format_args!("  warning: a test message gave {warning}"))?;
        }
        if let Some(doubt) = &addition.doubt {
            say(
                out,
                format_args!(
                    "  warning: {doubt}; if the name is mistyped: mailseal keys rename {} NEW",
                    user.name()
                ),
            )?;
        }
        if self.known().marker()?.is_none() {
            say(
                out,
                format_args!(
                    "note: mail of users without a certificate is deferred until `mailseal keys init`"
                ),
            )?;
        }
        say(out, format_args!("next: send a test with `mailseal keys test {}`", user.name()))?;
        Ok(Exit::Ok)
    }

    /// What is to be enrolled of what was given.
    fn candidates(&self, inputs: &[Input], address: Option<&str>) -> Result<Vec<Candidate>, Error> {
        let (mut new, mut given) = (Vec::new(), Vec::new());
        for Input { name, contents } in inputs {
            let path = Path::new(name);
            let found = Found::read(&contents.0, path)?;
            given.extend_from_slice(&found.authorities);
            // A file of its own may hold what leads to an authority.
            if !found.own.is_empty() || inputs.len() == 1 {
                new.extend(enrol::choose(found, path, address, self.now)?);
            }
        }
        let keys = &self.config.keys;
        if new.is_empty() {
            return Err(Error::Usage {
                what: "no certificate of the user's is among those of authorities".into(),
                hint: "give the user's own as well".into(),
            });
        }
        if !keys.smime_ca.is_empty() && new.iter().any(|candidate| candidate.cert.smime().is_some()) {
            let trusted = authorities::trusted(keys, &Trust::of_process(keys.trusted_groups.ids()))?;
            enrol::demand_authority(&mut new, &given, &trusted, self.now)?;
            let mut lists = Lists::new(trusted, self.now);
            keys.smime_crl.iter().try_for_each(|path| lists.read(path, keys))?;
            if !keys.smime_crl.is_empty() {
                enrol::demand_unrevoked(&mut new, &lists)?;
            }
        }
        Ok(new)
    }

    fn tell_enrolled(
        &self,
        user: &User,
        candidate: &Candidate,
        file: &KeyFile,
        out: &mut impl Write,
    ) -> Result<(), Error> {
        let row = enrolled_row(user, &candidate.cert, &candidate.worth, file);
        say(out, format_args!("enrolled {} for {} in {}", row.fingerprint, row.user, file.path().display()))?;
        say(out, format_args!("  encrypts with {}", row.algorithms.join(", ")))?;
        say(out, format_args!("  expires {}", day(candidate.worth.expires)))?;
        match candidate.way.last() {
            Some(authority) => say(out, format_args!("  leads to the authority {}", authority.subject()))?,
            None if candidate.cert.smime().is_some() => {
                say(
                    out,
                    format_args!("  pinned: who issued it is not checked, because `smime-ca` is not set"),
                )?;
            }
            None => {}
        }
        for warning in &candidate.warnings {
            say(out, format_args!("  warning: {warning}"))?;
        }
        Ok(())
    }

    /// Notes that `user` has a certificate.
    fn make_known(&self, user: &User) -> Result<(), Error> {
        if let Some(parent) = self.parent {
            return parent.note();
        }
        let known = self.known();
        match known.lock().and_then(|lock| known.note(&lock, [user])) {
            // A user who enrols in the own home may not write the register: the next scan will.
            Err(_) if self.enrolled()?.is_in_homes() && !process::is_root() => Ok(()),
            noted => noted,
        }
    }

    /// Lists the certificates of all enrolled users.
    ///
    /// # Errors
    /// [`Error::KeyStore`] when the folder cannot be read.
    pub fn list(&self, json: bool, out: &mut impl Write) -> Result<Exit, Error> {
        let rows = self.all_rows()?;
        write_rows(&rows, json, out)?;
        Ok(Exit::Ok)
    }

    fn show(&self, user: &User, json: bool, out: &mut impl Write) -> Result<Exit, Error> {
        let certs = self.find(user)?;
        let file = self.enrolled()?.file(user, self.home.as_deref())?;
        let mut rows: Vec<_> =
            certs.iter().map(|cert| enrolled_row(user, cert, &cert.assess(self.now), &file)).collect();
        for (row, cert) in rows.iter_mut().zip(&certs).filter(|(row, _)| !row.confirmed) {
            row.confirmed_by = self.is_confirmed_by_mailbox(user, cert).then_some("mailbox");
        }
        if json || rows.is_empty() {
            if !json {
                say(out, format_args!("{} has no certificate", user.name()))?;
                if let Err(error) = self.prove_absent(user) {
                    say(out, format_args!("mail for {} is deferred: {error}", user.name()))?;
                }
            }
            return if json { write_rows(&rows, json, out).map(|()| Exit::Ok) } else { Ok(Exit::Negative) };
        }
        for row in rows {
            say(out, format_args!("{}", row.fingerprint))?;
            for user_id in &row.user_ids {
                say(out, format_args!("  user id    {user_id}"))?;
            }
            say(out, format_args!("  encrypts   {}", row.algorithms.join(", ")))?;
            say(out, format_args!("  state      {}", row.reason.as_deref().unwrap_or(row.state)))?;
            say(out, format_args!("  expires    {}", row.expires.as_deref().unwrap_or("never")))?;
            let confirmed = match row.confirmed_by {
                Some("mailbox") => "through the mailbox only",
                Some(_) => "yes",
                None => "no",
            };
            say(out, format_args!("  confirmed  {confirmed}"))?;
        }
        Ok(Exit::Ok)
    }

    fn remove(&self, user: &User, fingerprint: Option<&str>, out: &mut impl Write) -> Result<Exit, Error> {
        let file = match self.enrolled()?.file(user, self.home.as_deref()) {
            // The home of nobody holds nothing.
            Err(error) if error.is_of_unknown_home() && fingerprint.is_none() && self.is_known(user)? => {
                return self.forget(user, false, out);
            }
            file => file?,
        };
        let _lock = file.lock()?;
        // A file that cannot be read can be removed as a whole.
        let certs = if fingerprint.is_none() { file.load().unwrap_or_default() } else { file.load()? };
        let wanted = fingerprint.map(|it| it.replace(' ', "").to_uppercase()).unwrap_or_default();
        let (gone, kept): (Vec<_>, Vec<_>) =
            certs.into_iter().partition(|cert| cert.fingerprint().ends_with(&wanted));
        // Not even an empty variable of a script takes them all.
        let names_none = fingerprint.is_some() && (gone.is_empty() || wanted.len() < SHORTEST_FINGERPRINT);
        let is_there = file.path().exists();
        if names_none || !is_there && !self.is_known(user)? {
            return Err(Error::Usage {
                what: format!("{} has no such certificate in {}", user.name(), file.path().display()),
                hint: format!("look with `mailseal keys show {}`", user.name()),
            });
        }
        if let Some(parent) = self.parent {
            parent.begin()?;
        }
        file.store(&kept)?;
        for cert in gone {
            say(out, format_args!("removed {} of {}", cert.fingerprint(), user.name()))?;
        }
        if kept.is_empty() { self.forget(user, is_there, out) } else { Ok(Exit::Ok) }
    }

    /// Whether `user` stands in the register.
    fn is_known(&self, user: &User) -> Result<bool, Error> {
        let known = self.known();
        Ok(known.users()?.contains(user) || known.unasked()?.contains(user))
    }

    /// Makes `user` unknown, unless another source has a certificate, or may have. [`Exit::Negative`] where the user stays known
    /// and nothing was `removed`.
    ///
    /// That nothing is found in the user's home is its owner's word. What an owner gains by a lie is what deleting the files
    /// gains, now that an admin has the user removed: new mail of this one user in clear, which is the owner's to read.
    fn forget(&self, user: &User, removed: bool, out: &mut impl Write) -> Result<Exit, Error> {
        if let Some(parent) = self.parent {
            // Root says what came of it.
            return parent.forget(removed).map(|()| Exit::Ok);
        }
        let unless_removed = if removed { Exit::Ok } else { Exit::Negative };
        match self.find_to_forget(user) {
            Ok(false) => {
                let known = self.known();
                known.forget(&known.lock()?, user)?;
                say(
                    out,
                    format_args!(
                        "warning: new mail for {} is stored in clear, unless `require` names the user",
                        user.name()
                    ),
                )?;
                Ok(Exit::Ok)
            }
            Ok(true) => {
                say(
                    out,
                    format_args!("{} has a certificate in another source, and stays known", user.name()),
                )?;
                Ok(unless_removed)
            }
            Err(error) => {
                say(out, format_args!("{} stays known, and mail is deferred: {error}", user.name()))?;
                if error.is_of_unknown_home() {
                    say(
                        out,
                        format_args!(
                            "to forget the user: let Dovecot run, which says where the home is, or that there is no such user; or give the home: mailseal keys remove {} --home DIR",
                            user.name()
                        ),
                    )?;
                } else {
                    say(out, format_args!("to forget the user: {}", error.hint()))?;
                }
                Ok(unless_removed)
            }
        }
    }

    /// Whether a source has a certificate of `user`. A user whom Dovecot does not know has no home: only the sources that need
    /// none are asked then.
    fn find_to_forget(&self, user: &User) -> Result<bool, Error> {
        match self.find(user) {
            Err(error) if error.is_of_unknown_home() && self.is_nobody(user) => {
                let request = Request::new(&self.config.keys, user, None, self.now, self.trust_in_stores());
                Ok(keystore::find(ask::sources(self.config, false), &request)?.is_some())
            }
            found => found.map(|certs| !certs.is_empty()),
        }
    }

    /// Whether certificates are enrolled in one folder for all users, which is what [`Keys::check`] looks at.
    #[must_use]
    pub fn has_folder(&self) -> bool {
        self.enrolled().is_ok_and(|enrolled| !enrolled.is_in_homes())
    }

    /// Whether Dovecot says that there is no such user: that it does not answer is no word on that.
    fn is_nobody(&self, user: &User) -> bool {
        let asked = Userdb::of_dovecot(None).and_then(|mut userdb| userdb.look_up(&[user.name().to_owned()]));
        asked.is_ok_and(|answers| answers == [Answer::NotFound])
    }

    /// Checks the certificates of all enrolled users, and says which are unfit or expire `within` that time.
    ///
    /// # Errors
    /// [`Error::KeyStore`] when the folder cannot be read. What it finds gives [`Exit::Negative`].
    pub fn check(&self, within: Duration, json: bool, out: &mut impl Write) -> Result<Exit, Error> {
        let recovery = self.recovery()?;
        let mut rows = Vec::new();
        for entry in self.enrolled()?.entries()? {
            match &entry.user {
                Some(user) if entry.is_read => rows.extend(self.faults(user, &recovery, within)),
                _ => rows.push(odd(&entry)),
            }
        }
        for (number, rule) in self.config.outgoing.iter().enumerate() {
            rows.extend(self.faults_of_rule(&policy::label(number + 1), rule, &recovery, within));
        }
        write_rows(&rows, json, out)?;
        Ok(if rows.is_empty() { Exit::Ok } else { Exit::Negative })
    }

    fn test(&self, user: &User, mut out: impl Write + Send + Sync) -> Result<Exit, Error> {
        let certs = self.find(user)?;
        if certs.is_empty() {
            return Err(Error::Missing { user: user.name().into() });
        }
        let recovery = self.recovery()?;
        let keys = &self.config.keys;
        // What the code is sealed to is what it proves.
        let certs = any_cert::of_one_kind(certs, keys.format, self.now);
        let pair = (&*certs, &*recovery);
        let recipients = addressee::choose(user.name(), pair, keys.preference(), keys.expired, self.now)?;
        let code = code::new(CODE_LENGTH)?;
        let message = test_message(&self.address(user).unwrap_or_else(|| user.name().to_owned()), &code)?;
        let mut rest = &*message;
        let opening = Opening::read(&mut rest)?;
        self.enrolled()?.file(user, self.home.as_deref())?.remember_test(&code::hash(&code)?, &certs)?;
        let style = self.style(user);
        style.sealer(&recipients).seal(&opening, &mut rest, &mut out)?;
        out.flush().map_err(CoreError::Write)?;
        Ok(Exit::Ok)
    }

    fn confirm(&self, user: &User, code: &str, out: &mut impl Write) -> Result<Exit, Error> {
        let file = self.enrolled()?.file(user, self.home.as_deref())?;
        let _lock = file.lock()?;
        if file.confirm(&code::hash(&code.trim().to_lowercase())?)? {
            say(out, format_args!("{} can read what is sealed", user.name()))?;
            return Ok(Exit::Ok);
        }
        say(out, format_args!("this is not the code of the last test message for {}", user.name()))?;
        say(
            out,
            format_args!(
                "each test message has a code of its own, and only the last one counts: mailseal keys test {} --deliver sends another",
                user.name()
            ),
        )?;
        Ok(Exit::Negative)
    }

    fn enrolled(&self) -> Result<Enrolled<'a>, Error> {
        Enrolled::of(&self.config.keys)
    }

    fn recovery(&self) -> Result<Vec<AnyCert>, Error> {
        let keys = &self.config.keys;
        keystore::read_recovery(&keys.recovery, &Trust::of_process(keys.trusted_groups.ids()), None)
    }

    /// Whether any source lies in the users' homes.
    fn asks_homes(&self) -> bool {
        ask::sources(self.config, true).next().is_some()
    }

    /// The owner with whose rights the home of `user` is looked into, where it is; `None` where this process may.
    fn owner(&self, user: &User, in_homes: bool) -> Result<Option<Owner>, Error> {
        if !in_homes || self.parent.is_some() || !process::is_root() {
            return Ok(None);
        }
        Owner::of(self.account(user))
    }

    /// The user as Dovecot has it, or else the system, in the home that was given. A process of the owner's knows who
    /// that is.
    fn account(&self, user: &User) -> Account {
        let found = match self.parent {
            Some(_) => Account { uid: Some(geteuid().as_raw()), ..Account::default() },
            None => look_up(user, None).unwrap_or_default(),
        };
        Account { home: self.home.clone().or(found.home), ..found }
    }

    /// What is to be warned of where Dovecot does not know `user`.
    ///
    /// # Errors
    /// With `must_be_known`, [`Error::Usage`] for a user whom Dovecot does not know, and [`Error::Dovecot`] where it does not
    /// say.
    pub fn doubt_of_dovecot(&self, user: &User, must_be_known: bool) -> Result<Option<String>, Error> {
        let answer = Userdb::of_dovecot(None)
            .and_then(|mut userdb| userdb.look_up(&[user.name().to_owned()]))
            .map(|mut answers| answers.pop());
        match answer {
            Ok(Some(Answer::Found(_))) => Ok(None),
            Ok(Some(Answer::NotFound)) => {
                let what = format!("Dovecot knows no user {:?}", user.name());
                if must_be_known {
                    let hint = "look for a mistyped name: doveadm user '*'".into();
                    return Err(Error::Usage { what, hint });
                }
                Ok(Some(what))
            }
            Ok(_) if must_be_known => {
                Err(Error::Dovecot { what: "its user database does not answer".into() })
            }
            Err(error) if must_be_known => Err(error),
            // Where it does not run, or does not say, nothing is known against the name.
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Whether the owner of `cert` has confirmed it, but through the mailbox only.
    fn is_confirmed_by_mailbox(&self, user: &User, cert: &AnyCert) -> bool {
        let trust = Trust::of_process(self.config.keys.trusted_groups.ids());
        let received = Received::find(&self.config.keys, user, self.home.as_deref(), &trust);
        let holds =
            received.map(|it| it.is_some_and(|it| it.holds(std::slice::from_ref(cert)).unwrap_or(false)));
        holds.unwrap_or(false)
    }

    /// Calls `look` with what a delivery to `user` would look for.
    fn with_request<T>(
        &self,
        user: &User,
        look: impl FnOnce(&Request<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Account { uid, home, .. } = self.account(user);
        let groups = self.config.keys.trusted_groups.ids();
        let trust = match (uid, &home) {
            (Some(uid), _) => Trust::of(uid, groups),
            (None, Some(home)) => Trust::of_owner(home, groups),
            (None, None) => Trust::of_owner(self.enrolled()?.file(user, None)?.path(), groups),
        };
        look(&Request::new(&self.config.keys, user, home.as_deref(), self.now, trust))
    }

    fn find(&self, user: &User) -> Result<Vec<AnyCert>, Error> {
        if let Some(owner) = self.owner(user, self.asks_homes())? {
            return owner.find(self, user);
        }
        let found = self.with_request(user, |request| keystore::find(&self.config.keys.sources, request))?;
        Ok(found.unwrap_or_default())
    }

    fn prove_absent(&self, user: &User) -> Result<(), Error> {
        self.with_request(user, |request| absence::prove(&self.config.keys, request)).map(drop)
    }

    /// The user's address: as configured, or the user's name where it is one.
    fn address(&self, user: &User) -> Option<String> {
        match &self.config.keys.address {
            Some(template) => template.expand(user, self.home.as_deref()).ok(),
            None => user.domain().map(|_| user.name().to_owned()),
        }
    }

    fn all_rows(&self) -> Result<Vec<Row>, Error> {
        let enrolled = self.enrolled()?;
        let mut rows = Vec::new();
        for entry in enrolled.entries()? {
            let Some(user) = entry.user.as_ref().filter(|_| entry.is_read) else {
                rows.push(odd(&entry));
                continue;
            };
            let file = enrolled.file(user, self.home.as_deref())?;
            match file.load() {
                Ok(certs) => rows
                    .extend(certs.iter().map(|cert| enrolled_row(user, cert, &cert.assess(self.now), &file))),
                Err(error) => rows.push(broken(user.name(), &error)),
            }
        }
        Ok(rows)
    }

    /// How mail for `user` is sealed.
    fn style(&self, user: &User) -> Style {
        self.config.style(user.name(), &Sealing::default())
    }

    /// What is wrong with the certificates of `user`, or will be `within` that time.
    fn faults(&self, user: &User, recovery: &[AnyCert], within: Duration) -> Vec<Row> {
        let file = self.enrolled().and_then(|enrolled| enrolled.file(user, self.home.as_deref()));
        let (file, certs) = match file.and_then(|file| file.load().map(|certs| (file, certs))) {
            Ok(loaded) => loaded,
            Err(error) => return vec![broken(user.name(), &error)],
        };
        let pair = (&*certs, recovery);
        self.faults_of(user.name(), pair, &self.style(user), within, &|cert| is_confirmed(&file, cert))
    }

    /// The same for the certificates that a rule of `[[outgoing]]` names.
    fn faults_of_rule(&self, label: &str, rule: &Rule, recovery: &[AnyCert], within: Duration) -> Vec<Row> {
        match policy::named(self.config, rule, None) {
            Ok(None) => Vec::new(),
            Ok(Some(certs)) => {
                let style = self.config.outgoing_style(rule);
                let mut rows = self.faults_of(label, (&certs, recovery), &style, within, &|_| false);
                if rows.is_empty() && self.is_for_short_mail(label, rule, &certs) {
                    rows.push(broken(label, &CoreError::Padding.into()));
                }
                rows
            }
            Err(error) => vec![broken(label, &error)],
        }
    }

    /// Whether long messages under `rule` would wait for ever.
    fn is_for_short_mail(&self, label: &str, rule: &Rule, certs: &[AnyCert]) -> bool {
        let trust = Trust::of_process(self.config.keys.trusted_groups.ids());
        let recipients = addressee::recipients(&self.config.keys, label, certs, (&trust, None), self.now);
        recipients.is_ok_and(|it| policy::is_for_short_mail(self.config, rule, &it).unwrap_or(true))
    }

    fn faults_of(
        &self,
        user: &str,
        (certs, recovery): (&[AnyCert], &[AnyCert]),
        style: &Style,
        within: Duration,
        confirmed: &dyn Fn(&AnyCert) -> bool,
    ) -> Vec<Row> {
        let mut rows: Vec<_> = certs
            .iter()
            .map(|cert| (cert, cert.assess(self.now)))
            .filter(|(_, it)| {
                it.fitness != Fitness::Fit || it.expires.is_some_and(|at| at <= self.now + within)
            })
            .map(|(cert, worth)| row(user, cert, &worth, confirmed(cert)))
            .collect();
        if rows.is_empty()
            && let Err(error) =
                enrol::test_seal(user, (certs, recovery), self.config.keys.preference(), style, self.now)
        {
            rows.push(broken(user, &error));
        }
        rows
    }
}

/// The new certificates of `user` with those in `file`, as far as they are to stay.
fn with_old(
    user: &User,
    new: &[Candidate],
    file: &KeyFile,
    existing: Existing,
) -> Result<Vec<AnyCert>, Error> {
    let mut certs: Vec<AnyCert> = Vec::new();
    any_cert::merge(&mut certs, new.iter().map(|candidate| candidate.cert.clone()));
    // What cannot be read can only be replaced.
    let old = if existing == Existing::Replace { file.load().unwrap_or_default() } else { file.load()? };
    for cert in old {
        if certs.iter().any(|other| other.fingerprint() == cert.fingerprint()) {
            any_cert::merge(&mut certs, [cert]);
        } else if existing == Existing::Keep {
            certs.push(cert);
        } else if existing == Existing::Refuse {
            return Err(Error::Usage {
                what: format!("{} has another certificate already: {}", user.name(), cert.fingerprint()),
                hint: "keep it with --also, or put the new one in its place with --replace".into(),
            });
        }
    }
    Ok(certs)
}

/// The user as Dovecot has it; where it does not run or does not say, as the system has it.
fn look_up(user: &User, dovecot_config: Option<&Path>) -> Option<Account> {
    let asked =
        Userdb::of_dovecot(dovecot_config).and_then(|mut userdb| userdb.look_up(&[user.name().to_owned()]));
    match asked.ok().and_then(|mut answers| answers.pop()) {
        Some(Answer::Found(account)) => Some(account),
        Some(Answer::NotFound) => None,
        Some(Answer::Failed) | None => {
            let account = register::of_system(user.name());
            account.home.is_some().then_some(account)
        }
    }
}

/// The message with `code` in it, in clear.
fn test_message(address: &str, code: &str) -> Result<Vec<u8>, Error> {
    let text = format!(
        "This message was sealed on your mail server, as all your mail is from now on.\r\n\
         \r\n\
         If you can read this, your mail program opens it with your key.\r\n\
         Please tell your admin this code, which proves it:\r\n\
         \r\n\
         \x20   {code}\r\n\
         \r\n\
         If a friend reads this who is not you, tell your admin that instead.\r\n"
    );
    let message = MessageBuilder::new()
        .from(("mailseal", address))
        .to(address)
        .subject("mailseal: can you read this?")
        .text_body(text);
    Ok(message.write_to_vec().map_err(CoreError::Write)?)
}

/// The row of what lies in the folder under a name that no delivery reads.
fn odd(entry: &Entry) -> Row {
    let error = Error::KeyStore {
        path: entry.path.clone(),
        what: "no delivery reads a file of this name".into(),
        hint: String::new(),
    };
    broken(entry.user.as_ref().map_or("-", User::name), &error)
}

/// The row of a certificate of `user`'s in `file`.
fn enrolled_row(user: &User, cert: &AnyCert, worth: &Worth, file: &KeyFile) -> Row {
    row(user.name(), cert, worth, is_confirmed(file, cert))
}

fn is_confirmed(file: &KeyFile, cert: &AnyCert) -> bool {
    file.is_confirmed(std::slice::from_ref(cert)).unwrap_or(false)
}

/// The row of a certificate.
fn row(user: &str, cert: &AnyCert, worth: &Worth, confirmed: bool) -> Row {
    let state = match worth.fitness {
        Fitness::Fit => "fit",
        Fitness::Lapsed(Lapse::Expired) => "expired",
        Fitness::Lapsed(Lapse::Retired) => "retired",
        Fitness::Unfit(_) => "unfit",
    };
    Row {
        user: user.to_owned(),
        fingerprint: cert.fingerprint(),
        state,
        reason: (state != "fit").then(|| worth.fitness.to_string()),
        expires: worth.expires.map(|at| day(Some(at))),
        algorithms: worth.algorithms.clone(),
        user_ids: cert.names(),
        confirmed,
        confirmed_by: confirmed.then_some("code"),
    }
}

/// The row of a user whose certificates cannot be read or used.
fn broken(user: &str, error: &Error) -> Row {
    Row {
        user: user.to_owned(),
        fingerprint: "-".into(),
        state: "unfit",
        reason: Some(error.to_string()),
        expires: None,
        algorithms: Vec::new(),
        user_ids: Vec::new(),
        confirmed: false,
        confirmed_by: None,
    }
}

fn write_rows(rows: &[Row], json: bool, out: &mut impl Write) -> Result<(), Error> {
    if json {
        return json::write(out, &rows).map_err(Error::Output);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["user", "state", "expires", "encrypts with", "confirmed", "fingerprint"]);
    for row in rows {
        table.push(vec![
            row.user.clone(),
            // What is wrong with a file is a sentence with a path in it, and would widen the column for all.
            row.reason.clone().filter(|_| !row.is_of_file()).unwrap_or_else(|| row.state.into()),
            row.expires.clone().unwrap_or_else(|| "never".into()),
            row.algorithms.join(", "),
            if row.confirmed { "yes" } else { "no" }.into(),
            row.fingerprint.clone(),
        ]);
    }
    table.write(out).map_err(Error::Output)?;
    for row in rows.iter().filter(|row| row.is_of_file()) {
        if let Some(reason) = &row.reason {
            say(out, format_args!("{}: {reason}", row.user))?;
        }
    }
    Ok(())
}

/// Writes a line that is safe for a terminal.
fn say(out: &mut impl Write, text: std::fmt::Arguments<'_>) -> Result<(), Error> {
    writeln!(out, "{}", crate::console::escape::display(text.to_string().as_bytes())).map_err(Error::Output)
}

/// The contents of the files that an admin names; `-` is standard input.
///
/// # Errors
/// [`Error::Enrol`] when one cannot be read or is larger than [`crate::limits::KEYRING`].
pub fn read_inputs(paths: &[PathBuf]) -> Result<Vec<Input>, Error> {
    let input = |path: &PathBuf| Ok(Input { name: path.into(), contents: Bytes(read_input(path)?) });
    paths.iter().map(input).collect()
}

fn read_input(path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;
    let failed = |what: String| Error::Enrol {
        path: path.into(),
        what,
        hint: "name a file with the certificate, or - for standard input".into(),
    };
    let mut bytes = Vec::new();
    let limit = crate::limits::KEYRING + 1;
    let result = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    result.map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 == limit {
        return Err(failed(format!("it is larger than {} bytes", crate::limits::KEYRING)));
    }
    Ok(bytes)
}
