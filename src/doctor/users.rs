//! Checks of the users' own files: scripts that send mail away, and secret keys that a server must not have.

use std::path::{Path, PathBuf};

use super::Findings;
use super::access::Identity;
use super::installation::Installation;
use super::scripts::without_comments;
use crate::userdb::{self, Answer, Userdb};

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
        for account in &self.accounts {
            let Some(home) = &account.home else { continue };
            let in_home =
                |path: &str| path.strip_prefix("~/").map_or_else(|| path.into(), |path| home.join(path));
            check_script(account, &in_home(&script), findings);
            check_secret_keys(account, &home.join(".gnupg"), findings);
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
        let Answer::Found(userdb::Account { name, uid, gid, home }) = answer else { return None };
        Some(Self { name, identity: Identity { uid: uid?, gid: gid? }, home })
    }
}

fn check_script(account: &Account, path: &Path, findings: &mut Findings) {
    let Ok(text) = std::fs::read(path) else { return };
    let text = without_comments(&String::from_utf8_lossy(&text));
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    if words.into_iter().any(|word| word.eq_ignore_ascii_case("redirect")) {
        findings.warn(
            "users' scripts",
            format!(
                "{} redirects mail: what is sent on is the sealed message, and its DKIM signature fails",
                account.name
            ),
            "redirect in the MTA (an alias), or tell the user",
        );
    }
}

fn check_secret_keys(account: &Account, home: &Path, findings: &mut Findings) {
    let has_key = std::fs::read_dir(home.join("private-keys-v1.d")).is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.path().extension().is_some_and(|name| name == "key")))
    });
    let has_old_ring = std::fs::metadata(home.join("secring.gpg")).is_ok_and(|file| file.len() > 0);
    if has_key || has_old_ring {
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
}
