//! Edge: A message for a named user through the real script and the real filter, by `sieve-test`, into a folder of its own.
//!
//! Everything of it is done with the rights of the user's deliveries, by a process that root starts: the folder is made and
//! looked into, and `sieve-test` runs, with those rights only.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailseal_core::classify::classify;
use mailseal_core::message::opening::Opening;
use nix::unistd::{Gid, Uid, geteuid};
use serde::{Deserialize, Serialize};

use super::findings::Findings;
use super::scripts::Script;
use super::users::Account;
use crate::cli;
use crate::dovecot::doveconf::{self, complaint};
use crate::dovecot::installation::Installation;
use crate::error::Error;
use crate::system::owner::child::serve;
use crate::system::owner::cut;
use crate::system::owner::identity::Identity;
use crate::system::owner::process::{Report, Start, Watch, run as run_as_owner};
use crate::system::program;

/// The kind of the task.
pub const KIND: &str = "deliver-test";

/// How long `sieve-test` may take: what blocks a delivery that long is worth a line. The process has more, to say so.
const LIMIT: Duration = Duration::from_secs(20);

/// The message.
const MAIL: &str =
    "From: mailseal doctor <postmaster@localhost>\nSubject: round trip\n\nThis must be sealed.\n";

/// What is to be delivered how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    user: String,
    script: OsString,
    /// The folder that holds back what cannot be sealed.
    refuge: Option<String>,
    /// Whether sealing is turned off for the user.
    off: bool,
    /// Dovecot's main configuration, if another than its default.
    config: Option<OsString>,
    is_2_4: bool,
    /// Where programs are looked for.
    path: Option<OsString>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Outcome {
    /// What was stored is sealed.
    Sealed,
    /// It is stored in clear, as the user database says.
    Off,
    /// It cannot be sealed, and would be deferred: what Dovecot says.
    Deferred(String),
    /// It is not sealed, or something else went wrong, and what is known of that.
    Failed(String),
}

impl Report for Outcome {}

/// Delivers to `user` and says whether what was stored is sealed.
pub fn check(installation: &Installation, script: &Script, user: &str, findings: &mut Findings) {
    const CHECK: &str = "round trip";
    let outcome = deliver(installation, script, user).unwrap_or_else(Outcome::Failed);
    match outcome {
        Outcome::Sealed => findings.ok(CHECK, format!("a message for {user} is sealed")),
        Outcome::Off => findings.warn(
            CHECK,
            format!("{user}: the message is stored in clear, since mailseal_off is set for this user"),
            "nothing where that is meant; else take mailseal_off out of the user database",
        ),
        Outcome::Deferred(what) => findings.fail(
            CHECK,
            format!("{user}: the message is deferred, not stored: {what}"),
            format!("see what the log says of this user, and: mailseal keys show {user}"),
        ),
        Outcome::Failed(what) => findings.fail(
            CHECK,
            format!("{user}: {what}"),
            format!("see what the log says of this user, and: mailseal keys show {user}"),
        ),
    }
}

fn deliver(installation: &Installation, script: &Script, user: &str) -> Result<Outcome, String> {
    let config = installation.config.as_deref();
    let account = Account::ask(config, user)?;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into()).into();
    let task = Task {
        user: user.into(),
        script: absolute(&script.path),
        refuge: script.refuge.clone(),
        off: account.is_off(),
        config: config.map(absolute),
        is_2_4: installation.is_2_4(),
        path: std::env::var_os("PATH"),
    };
    let (uid, gid) = (Uid::from_raw(account.identity.uid), Gid::from_raw(account.identity.gid));
    if !geteuid().is_root() || uid.is_root() {
        return Ok(task.carry_out(&Watch { patience: LIMIT, ..Watch::alone() }));
    }
    task.have_done(uid, gid).map_err(|error| error.to_string())
}

impl Task {
    /// Has it carried out with the rights of a user.
    fn have_done(&self, user: Uid, group: Gid) -> Result<Outcome, Error> {
        let identity = Identity::of(user, group)?;
        let start = Start { program: cli::ADMIN, kind: KIND, identity: &identity };
        let mut outcome = Outcome::Failed("nothing was reported".into());
        let watch = Watch { patience: LIMIT + LIMIT / 4, ..Watch::alone() };
        run_as_owner(&start, self, None, &watch, &mut |said| {
            outcome = said;
            Ok(())
        })?;
        Ok(outcome)
    }

    fn carry_out(&self, watch: &Watch<'_>) -> Outcome {
        let delivered = self.deliver(watch);
        delivered.unwrap_or_else(|error| Outcome::Failed(format!("no folder for the round trip: {error}")))
    }

    fn deliver(&self, watch: &Watch<'_>) -> io::Result<Outcome> {
        let folder = tempfile::Builder::new().prefix("mailseal-doctor-").tempdir()?;
        let (own_script, mail) = (folder.path().join("own.sieve"), folder.path().join("mail"));
        std::fs::write(&own_script, "")?;
        std::fs::write(&mail, MAIL)?;
        let maildir = folder.path().join("Maildir");
        // The trap of a delivery: a file where the folder would be.
        std::fs::create_dir(&maildir)?;
        if let Some(refuge) = &self.refuge {
            std::fs::write(maildir.join(format!(".{refuge}")), "")?;
        }
        let mut sieve_test = doveconf::command("sieve-test", self.config.as_deref().map(Path::new));
        sieve_test.args(["-u", &self.user, "-r", &self.user, "-f", "postmaster@localhost", "-e"]);
        sieve_test
            .args(self.storage(&maildir))
            .arg("-s")
            .args([&self.script, own_script.as_os_str()])
            .arg(mail);
        sieve_test.envs(self.path.as_ref().map(|path| ("PATH", path)));
        let output = match program::run(&mut sieve_test, watch) {
            Ok(output) => output,
            Err(error) => return Ok(Outcome::Failed(format!("sieve-test: {error}"))),
        };
        let said = complaint(&output.stderr);
        let caught = self.refuge.as_ref().is_some_and(|refuge| said.contains(refuge.as_str()));
        Ok(match &stored(&maildir)[..] {
            [] if caught => Outcome::Deferred(said),
            [] => Outcome::Failed(format!("sieve-test stored nothing ({}): {said}", output.status)),
            [message] if is_sealed(message) => Outcome::Sealed,
            [_] if self.off => Outcome::Off,
            _ => Outcome::Failed(format!("the message was stored in clear: {said}")),
        })
    }

    /// What makes sieve-test store in `maildir` and nowhere else.
    fn storage(&self, maildir: &Path) -> Vec<OsString> {
        let option = |name: &str| {
            let mut value = OsString::from(name);
            value.push(maildir);
            value
        };
        if self.is_2_4 {
            let of = |value| ["-o".into(), value];
            let driver = of("mail_driver=maildir".into());
            [driver, of(option("mail_path=")), of(option("mail_inbox_path="))].concat()
        } else {
            vec!["-l".into(), option("maildir:")]
        }
    }
}

fn stored(maildir: &Path) -> Vec<PathBuf> {
    let files = |part: &str| std::fs::read_dir(maildir.join(part)).into_iter().flatten().flatten();
    files("new").chain(files("cur")).map(|entry| entry.path()).collect()
}

fn is_sealed(message: &Path) -> bool {
    let opening = std::fs::File::open(message).ok().and_then(|mut file| Opening::read(&mut file).ok());
    opening.is_some_and(|opening| classify(opening.head(), opening.body(), opening.is_whole()).is_some())
}

/// What an owner's process does.
///
/// # Errors
/// Those of its beginning.
pub fn main() -> Result<(), Error> {
    serve(|task: Task, reports, stop| {
        reports.say(match task.carry_out(&Watch { patience: LIMIT, stop, slot: None }) {
            Outcome::Failed(what) => Outcome::Failed(cut(what)),
            Outcome::Deferred(what) => Outcome::Deferred(cut(what)),
            other => other,
        });
        Ok(())
    })
}
