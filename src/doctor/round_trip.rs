//! A message for a named user through the real script and the real filter, by `sieve-test`, into a folder of our own.

use std::ffi::OsString;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use mailseal_core::classify::classify;
use mailseal_core::message::opening::Opening;

use super::Findings;
use super::users::Account;
use crate::dovecot::doveconf;
use crate::dovecot::installation::Installation;

/// The message.
const MAIL: &str =
    "From: mailseal doctor <postmaster@localhost>\nSubject: round trip\n\nThis must be sealed.\n";

/// Delivers to `user` and says whether what was stored is sealed.
pub fn check(installation: &Installation, script: &Path, user: &str, findings: &mut Findings) {
    const CHECK: &str = "round trip";
    match deliver(installation, script, user) {
        Ok(()) => findings.ok(CHECK, format!("a message for {user} is sealed")),
        Err(what) => findings.fail(
            CHECK,
            format!("{user}: {what}"),
            format!("see what the log says of this user, and: mailseal keys show {user}"),
        ),
    }
}

fn deliver(installation: &Installation, script: &Path, user: &str) -> Result<(), String> {
    let config = installation.config.as_deref();
    let account = Account::ask(config, user)?;
    let failed = |error: std::io::Error| format!("no folder for the round trip: {error}");
    let folder = tempfile::Builder::new().prefix("mailseal-doctor-").tempdir().map_err(failed)?;
    let (own_script, mail) = (folder.path().join("own.sieve"), folder.path().join("mail"));
    std::fs::write(&own_script, "").map_err(failed)?;
    std::fs::write(&mail, MAIL).map_err(failed)?;
    for path in [folder.path(), &own_script, &mail] {
        chown(path, Some(account.identity.uid), Some(account.identity.gid)).map_err(failed)?;
    }
    let maildir = folder.path().join("Maildir");
    let mut sieve_test = doveconf::command("sieve-test", config);
    sieve_test.args(["-u", user, "-r", user, "-f", "postmaster@localhost", "-e"]);
    sieve_test.args(storage(installation, &maildir)).arg("-s").arg(script).arg(own_script).arg(mail);
    let output = sieve_test.output().map_err(|error| format!("sieve-test cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | ");
    match &stored(&maildir)[..] {
        [] => Err(format!("sieve-test stored nothing ({}): {said}", output.status)),
        [message] if is_sealed(message) => Ok(()),
        _ => Err(format!("the message was stored in clear: {said}")),
    }
}

/// What makes sieve-test store in `maildir` and nowhere else.
fn storage(installation: &Installation, maildir: &Path) -> Vec<OsString> {
    let option = |name: &str| {
        let mut value = OsString::from(name);
        value.push(maildir);
        value
    };
    if installation.is_2_4() {
        let of = |value| ["-o".into(), value];
        [of("mail_driver=maildir".into()), of(option("mail_path=")), of(option("mail_inbox_path="))].concat()
    } else {
        vec!["-l".into(), option("maildir:")]
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
