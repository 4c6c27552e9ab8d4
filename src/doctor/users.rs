//! Checks of the users, all of them: what becomes of their mail, scripts that send mail away, and secret keys that a server
//! must not have.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use super::access::Identity;
use super::findings::{Causes, Findings};
use super::home::{AT_ONCE, Becomes, Facts, Question, Task};
use crate::console::names::some_of;
use crate::dovecot::installation::Installation;
use crate::dovecot::userdb::{self, Answer, Userdb};
use crate::system::owner::slots::side_by_side;
use crate::system::process;

/// Debian's `nobody`: who stands for the mail user where none is known.
const NOBODY: Identity = Identity { uid: 65534, gid: 65534 };

/// A user as Dovecot's user database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// Whose rights deliveries have.
    pub identity: Identity,
    /// The home.
    pub home: Option<PathBuf>,
    /// Settings of the user's own, without `mailseal_` before their names.
    pub settings: BTreeMap<String, String>,
    /// Fields that take the place of settings by which mail is sealed.
    pub overrides: Vec<String>,
}

/// The users.
#[derive(Clone, Debug, Default)]
pub struct Users {
    accounts: Vec<Account>,
    /// Whether these are all that Dovecot has.
    complete: bool,
}

impl Users {
    /// Asks the running Dovecot for all users.
    #[must_use]
    pub fn all(config: Option<&Path>, findings: &mut Findings) -> Self {
        const CHECK: &str = "users";
        let listed = Userdb::of_dovecot(config).and_then(|mut userdb| {
            let names = userdb.list()?;
            userdb.look_up(&names)
        });
        let answers = match listed {
            Ok(answers) => answers,
            Err(why) => {
                findings.warn(
                    CHECK,
                    format!("Dovecot lists no users, so they were not looked at: {why}"),
                    if nix::unistd::geteuid().is_root() {
                        "see that its user database can be iterated: doveadm user '*'; name users with --user"
                    } else {
                        "run this as root"
                    },
                );
                return Self::default();
            }
        };
        let complete = answers.iter().all(|answer| *answer != Answer::Failed);
        let accounts: Vec<Account> = answers.into_iter().filter_map(Account::of).collect();
        findings.ok(CHECK, format!("{} looked at", accounts.len()));
        Self { accounts, complete }
    }

    /// Whether these are all the users that Dovecot has.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.complete
    }

    /// All that were looked at.
    #[must_use]
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// The user called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name.to_lowercase() == name)
    }

    /// Whose rights deliveries have, where Dovecot says whom it delivers to.
    #[must_use]
    pub fn known_mail_user(&self) -> Option<Identity> {
        self.accounts.first().map(|account| account.identity)
    }

    /// The same; where it is not known, nobody, who has the fewest rights.
    #[must_use]
    pub fn mail_user(&self) -> Identity {
        self.known_mail_user().unwrap_or(NOBODY)
    }

    /// All checks of this module. What becomes of mail is asked where there is a `config` that can be read.
    pub fn check(&self, installation: &Installation, config: Option<&Path>, findings: &mut Findings) {
        if self.accounts.is_empty() {
            // Nothing was looked at, and nothing is well.
            return;
        }
        let seen = self.look(&installation.personal_script(), config);
        let mut said = Said::default();
        for (account, facts) in self.accounts.iter().zip(seen) {
            match facts {
                Ok(facts) => said.judge(account, &facts, findings),
                Err(why) => not_seen(account, &why, findings),
            }
        }
        self.check_overrides(findings);
        self.check_service(installation, findings);
        findings.ok_unless_said("secret keys", "none in the users' GnuPG homes");
        findings.ok_unless_said("users' scripts", "none redirects mail");
        if config.is_some() {
            said.tell(findings);
        }
    }

    /// Looks at all users, those with the same rights together.
    fn look(&self, script: &str, config: Option<&Path>) -> Vec<Result<Facts, String>> {
        let mut alike: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
        for (number, Account { identity, .. }) in self.accounts.iter().enumerate() {
            alike.entry((identity.uid, identity.gid)).or_default().push(number);
        }
        let batches: Vec<&[usize]> = alike.values().flat_map(|numbers| numbers.chunks(AT_ONCE)).collect();
        let nothing = || Err("nothing was reported".to_owned());
        let seen: Mutex<Vec<Result<Facts, String>>> =
            Mutex::new(self.accounts.iter().map(|_| nothing()).collect());
        let config: Option<OsString> =
            config.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.into()).into());
        side_by_side(process::jobs(None), &batches, &AtomicBool::new(false), |batch, slot| {
            let Some(first) = batch.first() else { return };
            let users = batch.iter().map(|number| self.accounts[*number].question(script)).collect();
            let task = Task { config: config.clone(), users };
            let mut numbers = batch.iter();
            let note = |number: usize, facts| {
                seen.lock().unwrap_or_else(PoisonError::into_inner)[number] = facts;
            };
            let done = task.look(self.accounts[*first].identity, slot, |facts| {
                numbers.next().into_iter().for_each(|number| note(*number, Ok(facts.clone())));
            });
            if let Err(error) = done {
                numbers.for_each(|number| note(*number, Err(error.to_string())));
            }
        });
        seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fields of the user database that count in the place of what seals.
    fn check_overrides(&self, findings: &mut Findings) {
        let mut fields: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for account in &self.accounts {
            for field in &account.overrides {
                fields.entry(field).or_default().push(&account.name);
            }
        }
        for (field, names) in fields {
            findings.fail(
                "user database",
                format!(
                    "{field} is set for {}, and counts in the place of the setting that seals: their mail may be stored in clear",
                    some_of(&names)
                ),
                format!("take {field} out of the user database, or set it in plugin {{ }} behind mailseal's"),
            );
        }
    }

    /// A service that cannot take the rights of its users.
    fn check_service(&self, installation: &Installation, findings: &mut Findings) {
        let Some(user) = installation.service_user("lmtp") else { return };
        let uid = nix::unistd::User::from_name(user).ok().flatten().map(|user| user.uid.as_raw());
        let others: Vec<&str> = self
            .accounts
            .iter()
            .filter(|account| Some(account.identity.uid) != uid)
            .map(|account| &*account.name)
            .collect();
        if !others.is_empty() {
            findings.fail(
                "LMTP",
                format!("service lmtp runs as {user}: mail for {} is refused (451)", some_of(&others)),
                "take user out of service lmtp: Dovecot gives up root's rights by itself",
            );
        }
    }
}

/// What is said of all users together.
#[derive(Default)]
struct Said<'a> {
    sealed: usize,
    clear: usize,
    off: Vec<&'a str>,
    /// Why, what to do, and for whom.
    deferred: Causes,
    scripts: Vec<&'a str>,
    /// Users whose mail is clear, and who have a keyring in their homes.
    keyrings: Vec<&'a str>,
}

impl<'a> Said<'a> {
    fn judge(&mut self, account: &'a Account, facts: &Facts, findings: &mut Findings) {
        let name = &*account.name;
        match &facts.becomes {
            Becomes::Unasked => {}
            Becomes::Sealed => self.sealed += 1,
            Becomes::NoKey => {
                self.clear += 1;
                self.keyrings.extend(facts.has_keyring.then_some(name));
            }
            Becomes::Off => self.off.push(name),
            Becomes::Deferred { what, hint } => {
                self.deferred.add(name, what.clone(), hint.clone());
            }
        }
        self.scripts.extend(facts.has_script.then_some(name));
        judge(account, facts, findings);
    }

    fn tell(self, findings: &mut Findings) {
        const CHECK: &str = "users' mail";
        let none_waits = self.deferred.is_empty();
        for (users, what, mend) in self.deferred.named() {
            if !findings.say(&what) {
                findings.fail(CHECK, format!("mail for {users} is deferred: {what}"), mend);
            }
        }
        if !self.off.is_empty() {
            findings.warn(
                CHECK,
                format!("mail for {} is stored in clear, since sealing is turned off", some_of(&self.off)),
                "nothing where that is meant; else take mailseal_off out of the user database, or mode = \"off\" out of [[users]]",
            );
        }
        if !self.keyrings.is_empty() {
            findings.warn(
                CHECK,
                format!("{} have GnuPG keyrings and no certificate: their mail is stored in clear", some_of(&self.keyrings)),
                "where gpgit used them: gpg --homedir HOME/.gnupg --export ADDRESS | mailseal keys add USER -",
            );
        }
        if !self.scripts.is_empty() {
            findings.warn(
                "users' scripts",
                format!(
                    "where the script of a user ({}) fails at run time, Pigeonhole stores the clear mail: no Sieve script can close this",
                    some_of(&self.scripts)
                ),
                "seal before Dovecot: [serve] lmtp = … and mailseal serve, or mailseal deliver",
            );
        }
        if self.sealed == 0 && none_waits {
            findings.warn(
                CHECK,
                "is sealed for nobody: no user has a certificate",
                "mailseal keys add USER FILE",
            );
        } else {
            findings.ok_unless_said(
                CHECK,
                format!("sealed for {}, in clear for {} without a certificate", self.sealed, self.clear),
            );
        }
    }
}

impl Account {
    /// What a process with the user's rights is asked.
    fn question(&self, script: &str) -> Question {
        let home = self.home.as_deref();
        let in_home = |path: &str| match (path.strip_prefix("~/"), home) {
            (Some(path), Some(home)) => home.join(path),
            _ => path.into(),
        };
        let set = |name: &str| self.settings.get(name).map(String::as_str).filter(|value| !value.is_empty());
        Question {
            user: self.name.clone(),
            home: home.map(Into::into),
            script: in_home(script).into(),
            key: set("key").map(Into::into),
            off: self.is_off(),
        }
    }

    /// Whether the user database turns sealing off, in the words that the Sieve scripts take.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.settings.get("off").is_some_and(|value| ["on", "true", "1"].contains(&&**value))
    }

    /// Asks Dovecot for the user called `name`.
    ///
    /// # Errors
    /// What Dovecot says.
    pub fn ask(config: Option<&Path>, name: &str) -> Result<Self, String> {
        let answers = Userdb::of_dovecot(config).and_then(|mut userdb| userdb.look_up(&[name.to_owned()]));
        let answer = answers.map_err(|error| error.to_string())?.pop().unwrap_or(Answer::Failed);
        Self::of(answer).ok_or_else(|| format!("Dovecot has no user {name}, or says no uid and gid"))
    }

    /// What the database says of a user, where it says all that matters.
    fn of(answer: Answer) -> Option<Self> {
        let Answer::Found(userdb::Account { name, uid, gid, home, settings, overrides }) = answer else {
            return None;
        };
        Some(Self { name, identity: Identity { uid: uid?, gid: gid? }, home, settings, overrides })
    }
}

fn judge(account: &Account, facts: &Facts, findings: &mut Findings) {
    if facts.redirects {
        findings.warn(
            "users' scripts",
            format!(
                "{} redirects mail: what is sent on is the sealed message, and its DKIM signature fails",
                account.name
            ),
            "redirect in the MTA (an alias), or tell the user",
        );
    }
    let gnupg = account.home.as_deref().unwrap_or(Path::new("")).join(".gnupg");
    if let Some(what) = &facts.opens_mail {
        findings.fail(
            "secret keys",
            format!("mail for {} is sealed to a key that this server has: {what}", account.name),
            "let the user move the key to a machine of their own, and remove it here",
        );
    } else if facts.secret_keys {
        findings.warn(
            "secret keys",
            format!("{} of {} holds secret keys; nothing is sealed to them", gnupg.display(), account.name),
            "a throw-away key for signing may stay; let the user move all others to a machine of their own",
        );
    }
    if let Some(why) = &facts.unseen {
        not_seen(account, why, findings);
    }
}

fn not_seen(account: &Account, why: &str, findings: &mut Findings) {
    let what = format!("the home of {} was not looked at to its end: {why}", account.name);
    findings.warn("users' scripts", what, "put a regular file there, or remove what stands in its place");
}
