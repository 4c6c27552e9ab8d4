//! Edge: What only Dovecot knows or can do: who is logged in, where a mailbox is, and to forget what it keeps of clear
//! mail in caches and indexes. Nothing else is run with root's rights.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::Error;

/// `doveadm`, with the configuration to use.
#[derive(Clone, Debug)]
pub struct Doveadm {
    config: Option<PathBuf>,
}

/// What could not be made to forget, for a person to do.
pub type Leftover = String;

impl Doveadm {
    /// `None` where there is no `doveadm`, or no Dovecot that it could ask.
    #[must_use]
    pub fn find(config: Option<&Path>) -> Option<Self> {
        let doveadm = Self { config: config.map(Into::into) };
        doveadm.output(&["config", "base_dir"]).map(|_| doveadm)
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
        let Some(listed) = self.output(&["-f", "tab", "who", "-1", user]) else { return Ok(()) };
        if listed
            .lines()
            .skip(1)
            .any(|line| line.split('\t').next().is_some_and(|name| name.eq_ignore_ascii_case(user)))
        {
            return Err(Error::InUse { user: user.into() });
        }
        Ok(())
    }

    /// The user's home.
    #[must_use]
    pub fn home(&self, user: &str) -> Option<PathBuf> {
        let home = self.output(&["user", "-f", "home", user])?;
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
