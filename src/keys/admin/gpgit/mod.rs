//! `mailseal migrate gpgit`: enrols the certificates that gpgit uses, before mail is sealed by mailseal.
//!
//! ```text
//! call   which address gpgit is given, by the site's scripts
//! home   which certificate that is, in a user's GnuPG home       [edge]
//! ```

mod call;
pub mod home;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse as _;
use serde::Serialize;

use self::home::{Answer as Found, KIND, Named, Question};
use super::by_owner::{self, Asking, Owner};
use super::register::{UserList, everybody};
use super::{Action, Addition, Existing, Input, Keys, say};
use crate::cli::sealing::Sealing;
use crate::console::json;
use crate::console::table::Table;
use crate::dovecot::installation::Installation;
use crate::dovecot::userdb::{Account, Answer};
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::enrol;
use crate::keystore::source::Template;
use crate::keystore::user::User;
use crate::system::owner::Bytes;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who.
    pub users: UserList,
    /// The users' addresses, if not as gpgit is called.
    pub address: Option<Template>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// For scripts.
    pub json: bool,
}

/// What became of one certificate of a user's. The names are those of the JSON.
#[derive(Debug, Serialize)]
struct Row {
    user: String,
    address: Option<String>,
    fingerprint: Option<String>,
    result: Outcome,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Those among which nobody can choose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<Named>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Enrolled,
    AlreadyEnrolled,
    WouldEnrol,
    None,
    Ambiguous,
    Refused,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::AlreadyEnrolled => "already enrolled",
            Self::WouldEnrol => "would enrol",
            Self::None => "none",
            Self::Ambiguous => "ambiguous",
            Self::Refused => "refused",
        }
    }
}

/// A user, the GnuPG home and one address.
struct Case {
    user: User,
    account: Account,
    address: Option<String>,
}

impl Keys<'_> {
    /// Enrols, for every user, the certificate that gpgit uses. [`Exit::Negative`] where a user's was refused, or is one of
    /// several.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where the users cannot be listed, [`Error::Usage`], [`Error::Output`].
    pub fn migrate_gpgit(
        &self,
        options: &Options,
        out: &mut (impl Write + Send + Sync),
    ) -> Result<Exit, Error> {
        // Where nothing can be enrolled, no home is looked into.
        self.enrolled()?;
        let call = Installation::read(options.users.dovecot_config.as_deref())
            .ok()
            .and_then(|installation| call::read(&installation));
        let mut rows = Vec::new();
        let mut cases = Vec::new();
        for (name, answer) in everybody(&options.users)? {
            match self.cases(&name, answer, options.address.as_ref(), call.as_ref()) {
                Ok(found) => cases.extend(found),
                Err(row) => rows.push(*row),
            }
        }
        let question = |case: &Case| {
            let gnupg = case.account.home.as_deref().unwrap_or(Path::new("/")).join(".gnupg");
            (by_owner::owner(&case.account), Question { gnupg: gnupg.into(), address: case.address.clone() })
        };
        let questions: Vec<(Owner, Question)> = cases.iter().map(question).collect();
        let asking = Asking { kind: KIND, config: self.config_path.as_deref(), stop: &self.stop };
        let found = asking.ask(&questions, |question| question.answer(self.config))?;
        for (case, found) in cases.iter().zip(found) {
            rows.push(self.settle(case, found, options.dry_run));
        }
        rows.sort_by(|a, b| a.user.cmp(&b.user));
        if options.json {
            json::write(out, &rows).map_err(Error::Output)?;
        } else {
            write(&rows, call.as_ref(), options.dry_run, out)?;
        }
        let failed = rows.iter().any(|row| [Outcome::Ambiguous, Outcome::Refused].contains(&row.result));
        Ok(if failed { Exit::Negative } else { Exit::Ok })
    }

    /// What is to be asked about the user called `name`; a row where that cannot be told.
    fn cases(
        &self,
        name: &str,
        answer: Answer,
        address: Option<&Template>,
        call: Option<&call::Call>,
    ) -> Result<Vec<Case>, Box<Row>> {
        let refused = |reason: String, hint: String| Box::new(Row::refused(name, None, reason, hint));
        let user = User::parse(name).map_err(|error| refused(error.to_string(), error.hint()))?;
        let account = match answer {
            Answer::Found(account) => account,
            Answer::NotFound => {
                let hint = "look for a mistyped name: doveadm user '*'".into();
                return Err(refused("Dovecot knows no such user".into(), hint));
            }
            Answer::Failed => {
                let hint = "see Dovecot's log, and run this again".into();
                return Err(refused("Dovecot does not say where the user's home is".into(), hint));
            }
        };
        let Some(home) = account.home.clone() else {
            return Err(Box::new(Row {
                reason: Some("no home".into()),
                ..Row::of(name, None, Outcome::None)
            }));
        };
        let templates: Vec<&Template> = match (address, call) {
            (Some(template), _) => vec![template],
            (None, Some(call)) => call.addresses.iter().collect(),
            (None, None) => Vec::new(),
        };
        let expanded: Result<Vec<String>, Error> =
            templates.iter().map(|template| template.expand(&user, Some(&home))).collect();
        let mut addresses: Vec<Option<String>> = expanded
            .map_err(|error| refused(error.to_string(), error.hint()))?
            .into_iter()
            // A user's name without a domain is what gpg looks for in the whole of a User ID.
            .map(|address| address.contains('@').then_some(address))
            .collect();
        if addresses.is_empty() {
            addresses.push(self.address(&user).filter(|address| address.contains('@')));
        }
        let case = |address| Case { user: user.clone(), account: account.clone(), address };
        Ok(addresses.into_iter().map(case).collect())
    }

    /// Enrols what was found for a user, or says why not.
    fn settle(&self, case: &Case, found: Found, dry_run: bool) -> Row {
        let name = case.user.name();
        let row = |result| Row::of(name, case.address.clone(), result);
        match found {
            Found::None => row(Outcome::None),
            Found::Several(several) => {
                let from = self.command_of(case);
                let hint = format!("enrol the right one: {from} | mailseal keys add {name} -");
                Row { certificates: several, hint: Some(hint), ..row(Outcome::Ambiguous) }
            }
            Found::Refused { fingerprint, what, hint } => {
                Row { fingerprint, ..Row::refused(name, case.address.clone(), what, hint) }
            }
            Found::Unasked(why) => {
                let hint = "see what stands in the way of the user's rights there, and run this again";
                Row::refused(name, case.address.clone(), why, hint.into())
            }
            Found::One(Bytes(bytes)) => match self.settle_one(case, &bytes, dry_run) {
                Ok((fingerprint, result)) => Row { fingerprint: Some(fingerprint), ..row(result) },
                Err(error) => {
                    let fingerprint = Cert::from_bytes(&bytes).ok().map(|cert| cert.fingerprint().to_hex());
                    Row {
                        fingerprint,
                        ..Row::refused(name, case.address.clone(), error.to_string(), error.hint())
                    }
                }
            },
        }
    }

    fn settle_one(&self, case: &Case, bytes: &[u8], dry_run: bool) -> Result<(String, Outcome), Error> {
        let user = &case.user;
        let home = case.account.home.clone();
        let name = home.clone().unwrap_or_default().join(".gnupg");
        let found = enrol::candidates(bytes, &name, case.address.as_deref(), self.now)?;
        // There is one, or an error.
        let fingerprints: Vec<String> = found.iter().map(|it| it.cert.fingerprint()).collect();
        let fingerprint = fingerprints.join(", ");
        let keys = Keys {
            home,
            ..Keys::new(self.config, self.config_path.clone(), None, self.now).until(&self.stop)
        };
        let enrolled = self.enrolled()?;
        let before = match enrolled.is_in_homes() {
            true => keys.find(user)?,
            false => enrolled.file(user, None)?.load()?,
        };
        if fingerprints.iter().all(|one| before.iter().any(|cert| cert.fingerprint() == *one)) {
            // As `keys add` does: from here on its loss is no reason for clear mail.
            if !dry_run {
                self.make_known(user)?;
            }
            return Ok((fingerprint, Outcome::AlreadyEnrolled));
        }
        if dry_run {
            if let Some(other) = before.first() {
                return Err(Error::Usage {
                    what: format!("{} has another certificate already: {}", user.name(), other.fingerprint()),
                    hint: "keep it with `mailseal keys add --also`, or put the new one in its place with --replace".into(),
                });
            }
            let certs: Vec<_> = found.into_iter().map(|it| it.cert).collect();
            let preference = self.config.keys.preference();
            let style = self.config.style(user.name(), &Sealing::default());
            enrol::test_seal(user.name(), (&certs, &self.recovery()?), preference, &style, self.now)?;
            return Ok((fingerprint, Outcome::WouldEnrol));
        }
        let input = Input { name: name.into(), contents: Bytes(bytes.to_vec()) };
        let addition = Addition { inputs: vec![input], existing: Existing::Refuse, doubt: None };
        keys.run(user, &Action::Add(addition), &mut io::sink())?;
        Ok((fingerprint, Outcome::Enrolled))
    }

    /// What exports the right one of several certificates.
    fn command_of(&self, case: &Case) -> String {
        let gnupg: PathBuf = case.account.home.clone().unwrap_or_default().join(".gnupg");
        match case.account.uid {
            Some(uid) => format!(
                "setpriv --reuid {uid} --clear-groups gpg --homedir {} --export FINGERPRINT",
                gnupg.display()
            ),
            None => format!("gpg --homedir {} --export FINGERPRINT", gnupg.display()),
        }
    }
}

impl Row {
    fn of(user: &str, address: Option<String>, result: Outcome) -> Self {
        Self {
            user: user.to_owned(),
            address,
            fingerprint: None,
            result,
            reason: None,
            hint: None,
            certificates: Vec::new(),
        }
    }

    fn refused(user: &str, address: Option<String>, reason: String, hint: String) -> Self {
        Self {
            reason: Some(reason),
            hint: (!hint.is_empty()).then_some(hint),
            ..Self::of(user, address, Outcome::Refused)
        }
    }
}

/// The table, what to do about its rows, and what comes next.
fn write(rows: &[Row], call: Option<&call::Call>, dry_run: bool, out: &mut impl Write) -> Result<(), Error> {
    let mut table = Table::new(&["user", "address", "fingerprint", "result"]);
    for row in rows {
        let result = row.reason.as_ref().map_or_else(
            || row.result.name().to_owned(),
            |reason| format!("{}: {reason}", row.result.name()),
        );
        let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        table.push(vec![row.user.clone(), cell(&row.address), cell(&row.fingerprint), result]);
    }
    if !rows.is_empty() {
        table.write(out).map_err(Error::Output)?;
    }
    for row in rows.iter().filter(|row| row.hint.is_some()) {
        say(out, format_args!(""))?;
        if !row.certificates.is_empty() {
            say(out, format_args!("{} may use one of:", row.user))?;
        }
        for Named { fingerprint, user_id } in &row.certificates {
            say(out, format_args!("  {fingerprint}  {user_id}"))?;
        }
        say(out, format_args!("{}: {}", row.user, row.hint.as_deref().unwrap_or_default()))?;
    }
    say(out, format_args!(""))?;
    match call {
        Some(call) if call.addresses.is_empty() => say(
            out,
            format_args!(
                "{} runs gpgit, but not for which address in a way that is understood here: if the addresses above are wrong, \
                 give --address '%{{user}}@example.org'",
                call.script.display()
            ),
        )?,
        Some(call) => {
            say(out, format_args!("The addresses are those that {} gives to gpgit.", call.script.display()))?
        }
        None => {}
    }
    write_next(rows, dry_run, out)
}

/// How to go on.
fn write_next(rows: &[Row], dry_run: bool, out: &mut impl Write) -> Result<(), Error> {
    let count = |result| rows.iter().filter(|row| row.result == result).count();
    let ready = count(Outcome::Enrolled) + count(Outcome::AlreadyEnrolled) + count(Outcome::WouldEnrol);
    let open = count(Outcome::Ambiguous) + count(Outcome::Refused);
    say(
        out,
        format_args!(
            "{ready} enrolled, {} without a certificate, {open} to be looked at.",
            count(Outcome::None)
        ),
    )?;
    if dry_run {
        return say(out, format_args!("Nothing was changed. Next: mailseal migrate gpgit"));
    }
    if open > 0 {
        say(
            out,
            format_args!("Settle those first: after the switch gpgit does not seal their mail any more."),
        )?;
    }
    say(out, format_args!("Nothing is switched yet: gpgit goes on. To switch: mailseal setup"))?;
    say(
        out,
        format_args!(
            "Mail that gpgit has sealed stays as it is: users read it with the same key. `mailseal audit` counts it as sealed, \
             and `mailseal reseal` takes it along when a key changes."
        ),
    )
}
