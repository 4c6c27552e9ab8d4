//! Edge: What only Dovecot knows or can do: who is logged in, where a mailbox is, and to forget what it keeps of clear
//! mail in caches and indexes. Nothing else is run with root's rights.
//!
//! Where it is about a user, `doveadm` works with that user's rights in part, and the user can stop it then: each call has
//! the patience that is given, and is ended when the run is to stop.

use std::ffi::OsString;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mailseal_core::error::Error as CoreError;
use nix::unistd::{Gid, Group, Uid, User};

use crate::error::Error;
use crate::system::owner::process::Watch;
use crate::system::program;

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
    pub fn find(config: Option<&Path>, watch: &Watch<'_>) -> Option<Self> {
        let mut doveadm = Self { config: config.map(Into::into), version: String::new() };
        // "# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf"
        let settings = doveadm.output(&["config", "-n"], watch).ok()??;
        doveadm.version = settings.split_whitespace().nth(1).unwrap_or_default().to_owned();
        Some(doveadm)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("doveadm");
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        command
    }

    fn run(&self, arguments: &[&str], watch: &Watch<'_>) -> Result<Output, Error> {
        program::run(self.command().args(arguments), watch)
            .map_err(|error| Error::Dovecot { what: format!("doveadm {}: {error}", arguments.join(" ")) })
    }

    /// What it prints; `None` where it fails.
    fn output(&self, arguments: &[&str], watch: &Watch<'_>) -> Result<Option<String>, Error> {
        let output = self.run(arguments, watch)?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }

    /// Refuses a user who is logged in. Where Dovecot does not run, nobody is.
    ///
    /// # Errors
    /// [`Error::InUse`]; [`Error::Dovecot`] where it does not answer in time.
    pub fn refuse_in_use(&self, user: &str, watch: &Watch<'_>) -> Result<(), Error> {
        // Per connection a line: user, service, pid, address; the first line names them.
        let listed = self.output(&["-f", "tab", "who", "-1", "--", user], watch)?;
        let Some(listed) = listed else { return Ok(()) };
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
    pub fn users(&self, pattern: &str, watch: &Watch<'_>) -> Result<Vec<String>, Error> {
        let failed = |what: &str| Error::Dovecot { what: format!("the users {pattern}: {what}") };
        let output = self.run(&["user", "--", pattern], watch)?;
        if !output.status.success() {
            return Err(failed(&first_line(&output.stderr)));
        }
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(listed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Whose the user's mail is in the file system, and where the user's home is, if anywhere.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where Dovecot does not know the user, or does not answer in time.
    pub fn account(&self, user: &str, watch: &Watch<'_>) -> Result<Account, Error> {
        let failed = |what: &str| Error::Dovecot { what: what.to_owned() };
        let output = self.run(&["user", "--", user], watch)?;
        if !output.status.success() {
            let said = first_line(&output.stderr);
            // It says nothing of a user whom it does not know.
            return Err(failed(if said.is_empty() {
                "knows no such user (doveadm user '*' lists them)"
            } else {
                &said
            }));
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
    pub fn purge(&self, user: &str, watch: &Watch<'_>) -> Vec<Leftover> {
        let why = match self.run(&["purge", "-u", user], watch) {
            Ok(output) if output.status.success() => return Vec::new(),
            Ok(output) => first_line(&output.stderr),
            Err(error) => error.to_string(),
        };
        vec![format!("expunged messages of {user} ({why}): doveadm purge -u {user}")]
    }

    /// The user's home.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where it does not answer in time.
    pub fn home(&self, user: &str, watch: &Watch<'_>) -> Result<Option<PathBuf>, Error> {
        let home = self.output(&["user", "-f", "home", "--", user], watch)?;
        Ok(home.filter(|home| !home.is_empty()).map(PathBuf::from))
    }

    /// Whether Dovecot keeps this user's mail in `maildir`.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where it does not answer in time.
    pub fn keeps_mail_in(&self, user: &str, maildir: &Path, watch: &Watch<'_>) -> Result<bool, Error> {
        Ok(self.path_of_inbox(user, "dir", watch)?.is_some_and(|mailbox| is_same(&mailbox, maildir)))
    }

    /// The control folder of this user's mail, where Dovecot keeps it in `maildir` and its control files elsewhere.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where it does not answer in time.
    pub fn control(&self, user: &str, maildir: &Path, watch: &Watch<'_>) -> Result<Option<OsString>, Error> {
        if !self.keeps_mail_in(user, maildir, watch)? {
            return Ok(None);
        }
        let control = self.path_of_inbox(user, "control", watch)?;
        Ok(control.filter(|control| !control.is_empty() && !is_same(control, maildir)).map(Into::into))
    }

    fn path_of_inbox(&self, user: &str, what: &str, watch: &Watch<'_>) -> Result<Option<String>, Error> {
        self.output(&["mailbox", "path", "-u", user, "-t", what, "INBOX"], watch)
    }

    /// Has Dovecot forget what it keeps of the user's clear mail, and count the quota anew; what did not work. Where a step
    /// is not done in time, those behind it are not begun.
    #[must_use]
    pub fn forget(&self, user: &str, keep_uids: bool, watch: &Watch<'_>) -> Vec<Leftover> {
        let mut left = Vec::new();
        if let Err(error) = self.forget_each(user, keep_uids, watch, &mut left) {
            left.push(format!(
                "{user}: {error}: run it again, and what comes after it: doveadm mailbox cache {} -u {user}, doveadm fts \
                 rescan -u {user}, doveadm quota recalc -u {user}",
                if keep_uids { "remove" } else { "purge" }
            ));
        }
        left
    }

    fn forget_each(
        &self,
        user: &str,
        keep_uids: bool,
        watch: &Watch<'_>,
        left: &mut Vec<Leftover>,
    ) -> Result<(), Error> {
        let mut step = |arguments: &[&str], what: &str| {
            let output = self.run(arguments, watch)?;
            let said = String::from_utf8_lossy(&output.stderr);
            // A plugin that is not loaded keeps nothing.
            if !output.status.success() && !said.contains("Unknown command") {
                let said = said.lines().next().unwrap_or_default();
                left.push(format!("{what} of {user} ({said}): doveadm {}", arguments.join(" ")));
            }
            Ok(())
        };
        // Dovecot must have seen the new names; else it would keep what it takes to be live.
        step(&["mailbox", "status", "-u", user, "messages", "*"], "the list of messages")?;
        if keep_uids {
            step(&["mailbox", "cache", "remove", "-u", user, "mailbox", "*", "ALL"], "cached fields")?;
        }
        // This one takes no patterns.
        let mailboxes = self.output(&["mailbox", "list", "-u", user], watch)?.unwrap_or_default();
        let purge = ["mailbox", "cache", "purge", "-u", user, "--"];
        step(&purge.into_iter().chain(mailboxes.lines()).collect::<Vec<_>>(), "the cache")?;
        step(&["fts", "rescan", "-u", user], "the full-text index")?;
        step(&["quota", "recalc", "-u", user], "the quota")
    }
}

/// Saves `message` in a user's `folder` as it is: no Sieve script sees it. `config` is Dovecot's main configuration, if another
/// than its default.
///
/// # Errors
/// [`Error::Command`] where Dovecot does not take it.
pub fn save(user: &str, folder: &str, message: &[u8], config: Option<&Path>) -> Result<(), Error> {
    let doveadm = Doveadm { config: config.map(Into::into), version: String::new() };
    let failed = |what: String| Error::Command { program: "doveadm save".into(), what };
    let mut file = tempfile::tempfile().map_err(CoreError::Write)?;
    file.write_all(message).and_then(|()| file.rewind()).map_err(CoreError::Write)?;
    let mut command = doveadm.command();
    command.args(["save", "-u", user, "-m", folder]);
    let output = program::run_with(&mut command, Stdio::from(file), &Watch::alone())
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(format!("does not take the message ({}): {}", output.status, first_line(&output.stderr))))
}

/// Whether two paths lead to the same, or both to nothing.
fn is_same(one: &str, other: &Path) -> bool {
    std::fs::canonicalize(one).ok() == std::fs::canonicalize(other).ok()
}

/// Whether a user has a message with this Message-ID, in whatever folder; `config` as for [`save`].
///
/// # Errors
/// [`Error::Command`] where Dovecot does not say.
pub fn has(user: &str, message_id: &str, config: Option<&Path>) -> Result<bool, Error> {
    let doveadm = Doveadm { config: config.map(Into::into), version: String::new() };
    let failed = |what: String| Error::Command { program: "doveadm search".into(), what };
    let query = ["search", "-u", user, "mailbox", "*", "header", "message-id", message_id];
    let output = doveadm.run(&query, &Watch::alone())?;
    if output.status.success() {
        return Ok(!output.stdout.is_empty());
    }
    Err(failed(format!("does not look for a message ({}): {}", output.status, first_line(&output.stderr))))
}

fn first_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().next().unwrap_or_default();
    // Dovecot's own backtrace tells an admin nothing.
    line.split("Raw backtrace:").next().unwrap_or_default().trim_end_matches(['-', ' ']).to_owned()
}
