//! Checks of the users' own files: scripts that send mail away, and secret keys that a server must not have.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use super::access::Identity;
use super::findings::Findings;
use super::home::{Facts, Task};
use crate::dovecot::installation::Installation;
use crate::dovecot::userdb::{self, Answer, Userdb};
use crate::error::Error;
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
                    format!("Dovecot lists no users, so their scripts and homes were not looked at: {why}"),
                    "start Dovecot, and see that its user database can be iterated: doveadm user '*'",
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

    /// Whose rights deliveries have.
    #[must_use]
    pub fn mail_user(&self) -> Identity {
        self.accounts.first().map_or(NOBODY, |account| account.identity)
    }

    /// All checks of this module.
    pub fn check(&self, installation: &Installation, findings: &mut Findings) {
        if self.accounts.is_empty() {
            // Nothing was looked at, and nothing is well.
            return;
        }
        let script = installation.personal_script();
        let seen: Vec<Mutex<Option<Result<Facts, Error>>>> =
            self.accounts.iter().map(|_| Mutex::default()).collect();
        let homes: Vec<_> = self.accounts.iter().zip(&seen).collect();
        let jobs = process::jobs(None);
        side_by_side(jobs, &homes, &AtomicBool::new(false), |(account, seen), slot| {
            let Some(home) = &account.home else { return };
            let in_home =
                |path: &str| path.strip_prefix("~/").map_or_else(|| path.into(), |path| home.join(path));
            let task = Task { script: in_home(&script).into(), gnupg: home.join(".gnupg").into() };
            let facts = task.look(account.identity, slot);
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts);
        });
        for (account, seen) in self.accounts.iter().zip(seen) {
            match seen.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(Ok(facts)) => judge(account, &facts, findings),
                Some(Err(error)) => not_seen(account, &error.to_string(), findings),
                None => {}
            }
        }
        findings.ok_unless_said("secret keys", "none in the users' GnuPG homes");
        findings.ok_unless_said("users' scripts", "none redirects mail");
    }
}

impl Account {
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
        let Answer::Found(userdb::Account { name, uid, gid, home, .. }) = answer else { return None };
        Some(Self { name, identity: Identity { uid: uid?, gid: gid? }, home })
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
    if facts.secret_keys {
        let home = account.home.as_deref().unwrap_or(Path::new("")).join(".gnupg");
        findings.fail(
            "secret keys",
            format!(
                "{} of {} holds secret keys: this server could read the mail",
                home.display(),
                account.name
            ),
            "let the user move the keys to a machine of their own, and remove them here",
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
