//! Edge: What only Dovecot knows or can do: who is logged in, where a mailbox is, and to forget what it keeps of clear
//! mail in caches and indexes. Nothing else is run with root's rights.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::unistd::{Gid, Group, Uid, User};

use crate::error::Error;

/// `doveadm`, with the configuration to use.
#[derive(Clone, Debug)]
pub struct Doveadm {
    config: Option<PathBuf>,
    version: String,
}

/// A user in the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Whose the files are.
    pub owner: (Uid, Gid),
    /// The home.
    pub home: Option<PathBuf>,
}

/// What could not be made to forget, for a person to do.
pub type Leftover = String;

impl Doveadm {
    /// `None` where there is no `doveadm`, or no Dovecot that it could ask.
    #[must_use]
    pub fn find(config: Option<&Path>) -> Option<Self> {
        let mut doveadm = Self { config: config.map(Into::into), version: String::new() };
        // "# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf"
        let settings = doveadm.output(&["config", "-n"])?;
        doveadm.version = settings.split_whitespace().nth(1).unwrap_or_default().to_owned();
        Some(doveadm)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("doveadm");
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Option<Output> {
        self.command().args(arguments).output().ok()
    }

    fn output(&self, arguments: &[&str]) -> Option<String> {
        let output = self.run(arguments)?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Refuses a user who is logged in. Where Dovecot does not run, nobody is.
    ///
    /// # Errors
    /// [`Error::InUse`].
    pub fn refuse_in_use(&self, user: &str) -> Result<(), Error> {
        // Per connection a line: user, service, pid, address; the first line names them.
        let Some(listed) = self.output(&["-f", "tab", "who", "-1", "--", user]) else { return Ok(()) };
        if listed
            .lines()
            .skip(1)
            .any(|line| line.split('\t').next().is_some_and(|name| name.eq_ignore_ascii_case(user)))
        {
            return Err(Error::InUse { user: user.into() });
        }
        Ok(())
    }

    /// The users whose names a pattern with `*` and `?` matches.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where the user database cannot list them.
    pub fn users(&self, pattern: &str) -> Result<Vec<String>, Error> {
        let output = self.run(&["user", "--", pattern]);
        let failed = |what: &str| Error::Dovecot { what: format!("the users {pattern}: {what}") };
        let output = output.ok_or_else(|| failed("doveadm cannot be run"))?;
        if !output.status.success() {
            return Err(failed(&first_line(&output.stderr)));
        }
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(listed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Whose the user's mail is in the file system, and where the user's home is, if anywhere.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where Dovecot does not know the user.
    pub fn account(&self, user: &str) -> Result<Account, Error> {
        let failed = |what: &str| Error::Dovecot { what: what.to_owned() };
        let output = self.run(&["user", "--", user]).ok_or_else(|| failed("doveadm cannot be run"))?;
        if !output.status.success() {
            return Err(failed(&first_line(&output.stderr)));
        }
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let field = |name: &str| {
            let mut pairs = listed.lines().filter_map(|line| line.split_once('\t'));
            pairs.find(|(field, _)| *field == name).map(|(_, value)| value.trim()).filter(|it| !it.is_empty())
        };
        let uid = field("uid").and_then(|uid| match uid.parse() {
            Ok(number) => Some(Uid::from_raw(number)),
            Err(_) => User::from_name(uid).ok().flatten().map(|user| user.uid),
        });
        let gid = field("gid").and_then(|gid| match gid.parse() {
            Ok(number) => Some(Gid::from_raw(number)),
            Err(_) => Group::from_name(gid).ok().flatten().map(|group| group.gid),
        });
        match (uid, gid) {
            (Some(uid), Some(gid)) => {
                Ok(Account { owner: (uid, gid), home: field("home").map(PathBuf::from) })
            }
            _ => Err(failed("the user has no uid and gid")),
        }
    }

    /// What starts an IMAP session of the user on its standard input and output. A `lazy_expunge` would keep the clear
    /// messages that are expunged: this session has none.
    #[must_use]
    pub fn imap(&self, user: &str) -> Command {
        let mut command = self.command();
        // What comes after it works with the user's rights: nothing that root knows is for it.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        let setting = if self.is_2_3() { "plugin/lazy_expunge=" } else { "lazy_expunge_mailbox=" };
        command.args(["exec", "imap", "-u", user, "-o", setting]);
        command
    }

    fn is_2_3(&self) -> bool {
        self.version.starts_with("2.3.")
    }

    /// Gives back the space that expunged messages take in mdbox. Elsewhere it does nothing.
    #[must_use]
    pub fn purge(&self, user: &str) -> Vec<Leftover> {
        match self.run(&["purge", "-u", user]) {
            Some(output) if !output.status.success() => {
                vec![format!(
                    "expunged messages of {user} ({}): doveadm purge -u {user}",
                    first_line(&output.stderr)
                )]
            }
            _ => Vec::new(),
        }
    }

    /// The user's home.
    #[must_use]
    pub fn home(&self, user: &str) -> Option<PathBuf> {
        let home = self.output(&["user", "-f", "home", "--", user])?;
        (!home.is_empty()).then(|| home.into())
    }

    /// Whether Dovecot keeps this user's mail in `maildir`, and then its control folder, where that is elsewhere.
    #[must_use]
    pub fn mailbox(&self, user: &str, maildir: &Path) -> Option<Option<OsString>> {
        let path = |what: &str| self.output(&["mailbox", "path", "-u", user, "-t", what, "INBOX"]);
        let same = |a: &str| std::fs::canonicalize(a).ok() == std::fs::canonicalize(maildir).ok();
        let mailbox = path("dir")?;
        if !same(&mailbox) {
            return None;
        }
        Some(path("control").filter(|control| !control.is_empty() && !same(control)).map(Into::into))
    }

    /// Has Dovecot forget what it keeps of the user's clear mail, and count the quota anew; what did not work.
    #[must_use]
    pub fn forget(&self, user: &str, keep_uids: bool) -> Vec<Leftover> {
        let mut left = Vec::new();
        let mut step = |arguments: &[&str], what: &str| {
            let Some(output) = self.run(arguments) else { return };
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // A plugin that is not loaded keeps nothing.
            if !output.status.success() && !said.contains("Unknown command") {
                let said = said.lines().next().unwrap_or_default();
                left.push(format!("{what} of {user} ({said}): doveadm {}", arguments.join(" ")));
            }
        };
        // Dovecot must have seen the new names; else it would keep what it takes to be live.
        step(&["mailbox", "status", "-u", user, "messages", "*"], "the list of messages");
        if keep_uids {
            step(&["mailbox", "cache", "remove", "-u", user, "mailbox", "*", "ALL"], "cached fields");
        }
        // This one takes no patterns.
        let mailboxes = self.output(&["mailbox", "list", "-u", user]).unwrap_or_default();
        let purge = ["mailbox", "cache", "purge", "-u", user, "--"];
        step(&purge.into_iter().chain(mailboxes.lines()).collect::<Vec<_>>(), "the cache");
        step(&["fts", "rescan", "-u", user], "the full-text index");
        step(&["quota", "recalc", "-u", user], "the quota");
        left
    }
}

fn first_line(said: &[u8]) -> String {
    String::from_utf8_lossy(said).lines().next().unwrap_or_default().to_owned()
}
