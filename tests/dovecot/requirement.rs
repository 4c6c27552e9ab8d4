//! Whether this machine can run the Dovecot tests, and a line that nobody overlooks where it cannot.

#[path = "../support/skip.rs"]
mod skip;

use super::flavour::Flavour;
use std::path::Path;
use std::process::Command;

/// The Dovecot to test, or `None` after a visible `SKIPPED` line. In CI a test that cannot run has failed.
pub fn dovecot() -> Option<Flavour> {
    match missing() {
        None => Some(Flavour::V2_3),
        Some(reason) => {
            skip::unless_ci(&format!("the Dovecot tests: {reason}"));
            None
        }
    }
}

fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("deliveries drop from root to the mail user, so the Dovecot tests run as root".into());
    }
    for program in ["gpg", "gpgconf", "setpriv"] {
        if Command::new(program).arg("--version").output().is_err() {
            return Some(format!("{program} is not installed"));
        }
    }
    let Ok(version) = Command::new("/usr/sbin/dovecot").arg("--version").output() else {
        return Some("Dovecot is not installed (Debian: dovecot-core)".into());
    };
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    if !version.starts_with("2.3.") {
        return Some(format!("the harness writes settings for Dovecot 2.3 and this is {version}"));
    }
    [
        ("/usr/lib/dovecot/imap", "dovecot-imapd"),
        ("/usr/lib/dovecot/lmtp", "dovecot-lmtpd"),
        ("/usr/lib/dovecot/modules/sieve/lib90_sieve_extprograms_plugin.so", "dovecot-sieve"),
        ("/usr/bin/sieve-test", "dovecot-sieve"),
    ]
    .into_iter()
    .find(|(file, _)| !Path::new(file).exists())
    .map(|(file, package)| format!("{file} is missing (Debian: {package})"))
}
