//! The check that the running Dovecot works with the settings that all other checks look at.

use std::path::Path;

use super::findings::Findings;
use crate::dovecot::installation::Installation;
use crate::dovecot::running::{Running, state};

/// The name of this check.
const CHECK: &str = "running Dovecot";

/// Asks it. `true` where one runs.
pub fn check(installation: &Installation, findings: &mut Findings) -> bool {
    let found = state(installation);
    match &found {
        Running::Current => findings.ok(CHECK, "works with the settings in the files"),
        Running::Stale { what } => findings.fail(
            CHECK,
            format!("does not have what the files say ({what} differs): what is said here of the files is not what deliveries do"),
            reload(installation.config.as_deref()),
        ),
        Running::NotRunning => findings.warn(
            CHECK,
            "Dovecot does not run: nothing is delivered, and its users cannot be asked for",
            "systemctl start dovecot, and run this again",
        ),
        Running::Unknown { why } => findings.warn(
            CHECK,
            format!("cannot be compared with the files: {why}"),
            if nix::unistd::geteuid().is_root() {
                reload(installation.config.as_deref())
            } else {
                "run this as root".into()
            },
        ),
    }
    found != Running::NotRunning
}

fn reload(config: Option<&Path>) -> String {
    config.map_or_else(|| "doveadm reload".into(), |config| format!("doveadm -c {} reload", config.display()))
}
