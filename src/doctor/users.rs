//! Checks of the users' own files: scripts that send mail away, and secret keys that a server must not have.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use super::Findings;
use super::access::Identity;
use super::doveconf;
use super::home::{Facts, Task};
use super::installation::Installation;
use crate::error::Error;
use crate::owner::slots::side_by_side;

/// Users that are looked at; each is a question to Dovecot.
const MOST: usize = 1000;

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
pub struct Users(Vec<Account>);

impl Users {
    /// Asks the running Dovecot for all users.
    #[must_use]
    pub fn all(config: Option<&Path>, findings: &mut Findings) -> Self {
        const CHECK: &str = "users";
        let listed = doveconf::output(doveconf::command("doveadm", config).args(["user", "*"]));
        let names = match listed {
            Ok(names) => names,
            Err(why) => {
                findings.warn(
                    CHECK,
                    format!("Dovecot lists no users, so their scripts and homes were not looked at: {why}"),
                    "start Dovecot, and see that its user database can be iterated: doveadm user '*'",
                );
                return Self::default();
            }
        };
        let accounts: Vec<Account> =
            names.lines().take(MOST).filter_map(|name| Account::ask(config, name).ok()).collect();
        findings.ok(CHECK, format!("{} looked at", accounts.len()));
        Self(accounts)
    }

    /// Whose rights deliveries have.
    #[must_use]
    pub fn mail_user(&self) -> Identity {
        self.0.first().map_or(NOBODY, |account| account.identity)
    }

    /// All checks of this module.
    pub fn check(&self, installation: &Installation, findings: &mut Findings) {
        if self.0.is_empty() {
            // Nothing was looked at, and nothing is well.
            return;
        }
        let script = installation.personal_script();
        let seen: Vec<Mutex<Option<Result<Facts, Error>>>> =
            self.0.iter().map(|_| Mutex::default()).collect();
        let homes: Vec<_> = self.0.iter().zip(&seen).collect();
        let jobs = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        side_by_side(jobs, &homes, &AtomicBool::new(false), |(account, seen), slot| {
            let Some(home) = &account.home else { return };
            let in_home =
                |path: &str| path.strip_prefix("~/").map_or_else(|| path.into(), |path| home.join(path));
            let task = Task { script: in_home(&script).into(), gnupg: home.join(".gnupg").into() };
            let facts = task.look(account.identity, slot);
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts);
        });
        for (account, seen) in self.0.iter().zip(seen) {
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
    /// Asks Dovecot.
    ///
    /// # Errors
    /// What `doveadm` says.
    pub fn ask(config: Option<&Path>, name: &str) -> Result<Self, String> {
        let fields = doveconf::output(doveconf::command("doveadm", config).args(["user", "--", name]))?;
        Self::parse(name, &fields).ok_or_else(|| format!("doveadm user {name} says no uid and gid"))
    }

    fn parse(name: &str, fields: &str) -> Option<Self> {
        let field = |wanted: &str| {
            fields.lines().find_map(|line| line.split_once('\t').filter(|(field, _)| *field == wanted))
        };
        let number = |wanted| field(wanted)?.1.trim().parse().ok();
        Some(Self {
            name: name.to_owned(),
            identity: Identity { uid: number("uid")?, gid: number("gid")? },
            home: field("home").map(|(_, home)| home.trim().into()),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_doveadm_says_is_read() {
        let account =
            Account::parse("a", "field\tvalue\nuid\t8\ngid\t9\nhome\t/srv/a b\nmail\tmaildir:~\n").unwrap();
        assert_eq!(account.identity, Identity { uid: 8, gid: 9 });
        assert_eq!(account.home, Some("/srv/a b".into()));
        assert_eq!(Account::parse("a", "uid\t8\n"), None);
    }
}
