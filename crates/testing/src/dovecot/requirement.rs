//! Whether this machine can run the Dovecot tests, and a line that nobody overlooks where it cannot.

use std::process::Command;

use super::flavour::Flavour;
use crate::skip;

/// Whether this Dovecot can be tested here; a visible `SKIPPED` line where it cannot. In CI a test that cannot run has
/// failed.
pub fn can_run(flavour: Flavour) -> bool {
    let missing = missing(flavour);
    if let Some(reason) = &missing {
        skip::unless_ci(&format!("the tests with Dovecot {}x: {reason}", flavour.version()));
    }
    missing.is_none()
}

fn missing(flavour: Flavour) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("deliveries drop from root to the mail user, so the Dovecot tests run as root".into());
    }
    for program in ["gpg", "gpgconf", "setpriv", "unshare"] {
        if Command::new(program).arg("--version").output().is_err() {
            return Some(format!("{program} is not installed"));
        }
    }
    let files = [
        ("/usr/sbin/dovecot", "dovecot-core"),
        ("/usr/lib/dovecot/imap", "dovecot-imapd"),
        ("/usr/lib/dovecot/lmtp", "dovecot-lmtpd"),
        ("/usr/lib/dovecot/modules/sieve/lib90_sieve_extprograms_plugin.so", "dovecot-sieve"),
        ("/usr/lib/dovecot/modules/auth/libdriver_sqlite.so", "dovecot-sqlite"),
        ("/usr/bin/sieve-test", "dovecot-sieve"),
    ];
    if let Some((file, package)) = files.into_iter().find(|(file, _)| !flavour.installed(file).exists()) {
        return Some(match flavour {
            Flavour::V2_3 => format!("{file} is missing (Debian: {package})"),
            Flavour::V2_4 => format!(
                "there is no Debian 13 with {package} in {} (tests/dovecot/root-2.4 makes it)",
                flavour.root().display()
            ),
        });
    }
    let version = flavour.command("dovecot").arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&[version.stdout, version.stderr].concat()).trim().to_owned();
    (!said.starts_with(flavour.version())).then(|| format!("its version is {said}"))
}
