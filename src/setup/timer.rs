//! Edge: The timer that notes who has a certificate, where systemd runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::journal::Journal;
use crate::dovecot::doveconf;
use crate::error::Error;

/// The timer, and the service that it starts.
const TIMER: &str = "mailseal-keys-scan.timer";
const SERVICE: &str = "mailseal-keys-scan.service";

/// What they say, where no package has brought them.
const TIMER_TEXT: &str = include_str!("../../contrib/systemd/mailseal-keys-scan.timer");
const SERVICE_TEXT: &str = include_str!("../../contrib/systemd/mailseal-keys-scan.service");

/// The program that the service names.
const INSTALLED: &str = "/usr/local/bin/mailseal";

/// The systemd of this machine.
#[derive(Clone, Debug)]
pub struct Systemd {
    /// What asks it.
    systemctl: PathBuf,
    /// The folder that is there where it runs.
    run: PathBuf,
    /// The folder for units of this machine's own.
    units: PathBuf,
}

impl Default for Systemd {
    fn default() -> Self {
        Self {
            systemctl: "systemctl".into(),
            run: "/run/systemd/system".into(),
            units: "/etc/systemd/system".into(),
        }
    }
}

impl Systemd {
    /// Whether it runs, and the timer is not enabled yet.
    #[must_use]
    pub fn needs_timer(&self) -> bool {
        self.is_running() && self.ask(&["is-enabled", TIMER]).is_err()
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.run.is_dir()
    }

    /// Enables the timer, which starts `mailseal`, and writes its units where there are none.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn enable(&self, mailseal: &Path, journal: &mut Journal) -> Result<(), Error> {
        let failed = |what| Error::Setup { what, hint: format!("see: systemctl status {TIMER}") };
        if self.ask(&["cat", TIMER]).is_err() {
            let service = SERVICE_TEXT.replace(INSTALLED, &mailseal.display().to_string());
            journal.file(&self.units.join(SERVICE), service.as_bytes(), 0o644)?;
            journal.file(&self.units.join(TIMER), TIMER_TEXT.as_bytes(), 0o644)?;
            self.ask(&["daemon-reload"]).map_err(failed)?;
        }
        journal.timer(TIMER)?;
        self.ask(&["enable", "--now", TIMER]).map_err(failed)
    }

    /// Stops a timer for good.
    ///
    /// # Errors
    /// What systemd says.
    pub fn disable(&self, unit: &str) -> Result<(), String> {
        if self.is_running() { self.ask(&["disable", "--now", unit]) } else { Ok(()) }
    }

    fn ask(&self, arguments: &[&str]) -> Result<(), String> {
        doveconf::output(Command::new(&self.systemctl).args(arguments)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A systemd that notes what it is asked, and fails for the words of `fails`.
    fn systemd(dir: &Path, fails: &str) -> Systemd {
        let systemctl = dir.join("systemctl");
        let script =
            format!("#!/bin/sh\necho \"$*\" >>{}/asked\ncase $1 in {fails}) exit 1 ;; esac\n", dir.display());
        std::fs::write(&systemctl, script).unwrap();
        std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).unwrap();
        Systemd { systemctl, run: dir.into(), units: dir.into() }
    }

    #[test]
    fn units_are_written_where_there_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&dir.path().join("state")).unwrap();
        let systemd = systemd(dir.path(), "is-enabled|cat");
        assert!(systemd.needs_timer());
        systemd.enable(Path::new("/opt/bin/mailseal"), &mut journal).unwrap();
        let service = std::fs::read_to_string(dir.path().join(SERVICE)).unwrap();
        assert!(service.contains("ExecStart=/opt/bin/mailseal --config") && dir.path().join(TIMER).exists());
        let asked = std::fs::read_to_string(dir.path().join("asked")).unwrap();
        assert!(asked.ends_with("daemon-reload\nenable --now mailseal-keys-scan.timer\n"), "{asked}");
    }

    #[test]
    fn a_timer_that_is_there_is_only_enabled() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&dir.path().join("state")).unwrap();
        let systemd = systemd(dir.path(), "is-enabled");
        systemd.enable(Path::new("/usr/bin/mailseal"), &mut journal).unwrap();
        assert!(!dir.path().join(TIMER).exists());
        assert!(self::systemd(dir.path(), "enable").enable(Path::new("/x"), &mut journal).is_err());
        assert!(!Systemd { run: dir.path().join("gone"), ..systemd }.needs_timer());
    }
}
