//! `mailseal doctor`: looks at an installation and says what could let a delivery end in clear or be lost, and the line
//! that mends it.
//!
//! Edge: everything here reads files and runs Dovecot's own programs. It changes nothing; the round trip of a named user
//! stores a test message in a folder of its own. What lies in a user's home, or is the user's, is looked at with the user's
//! rights (home, round_trip). [`crate::dovecot`] reads Dovecot's settings and says the same of both versions; the modules
//! here hold the checks, a family each, above [`findings`]. What cannot be seen from here (how the MTA calls us, what a
//! user's script will do) is not judged.

pub mod access;
mod authorities;
pub mod door;
pub mod findings;
pub mod home;
pub mod imap;
pub mod keys;
pub mod outgoing;
mod postfix;
pub mod program;
mod recovery;
pub mod rights;
pub mod round_trip;
pub mod running;
pub mod scripts;
pub mod sendmail;
pub mod trap;
pub mod users;
pub mod version;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::{Config, DEFAULT_PATH};
use crate::console::json;
use crate::dovecot::installation::Installation;
use crate::error::Error;
use crate::exit::Exit;
use findings::{Findings, Severity};
use users::Users;

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// mailseal's configuration, if another than the one that the Sieve script names.
    pub config: Option<PathBuf>,
    /// Dovecot's main configuration file, if another than its default.
    pub dovecot_config: Option<PathBuf>,
    /// Users whose mail makes a round trip.
    pub users: Vec<String>,
    /// Whether what is found is written as JSON.
    pub json: bool,
}

/// Makes all checks and writes what they found; [`Exit::Negative`] when one has failed.
///
/// # Errors
/// [`Error::Output`] when `out` fails.
pub fn run(options: &Options, out: &mut impl Write) -> Result<Exit, Error> {
    let mut findings = Findings::default();
    examine(options, &mut findings);
    if options.json { json::write(out, &findings) } else { findings.write(out) }.map_err(Error::Output)?;
    Ok(if findings.count(Severity::Failure) == 0 { Exit::Ok } else { Exit::Negative })
}

fn examine(options: &Options, findings: &mut Findings) {
    let dovecot_config = options.dovecot_config.as_deref();
    let installation = match Installation::read(dovecot_config) {
        Ok(installation) => installation,
        Err(what) => {
            if let Some(config) =
                Config::load(options.config.as_deref()).ok().filter(|it| !it.outgoing.is_empty())
            {
                outgoing::check(&config, findings);
                sendmail::check(&config, findings);
                door::check_doors(&config, findings);
                return findings.warn(
                    "Dovecot",
                    format!("{what}: only mail that leaves was looked at"),
                    "nothing where this host stores no mail; else name Dovecot's configuration with --dovecot-config",
                );
            }
            return findings.fail(
                "Dovecot",
                what,
                "run this as root where Dovecot is installed, or name its configuration with --dovecot-config",
            );
        }
    };
    version::check(&installation, findings);
    if !nix::unistd::geteuid().is_root() {
        findings.warn("rights", "only root can see all that deliveries depend on", "run this as root");
    }
    let runs = running::check(&installation, findings);
    program::check_sandbox(findings);
    let users = if runs { Users::all(dovecot_config, findings) } else { Users::default() };
    let script = scripts::check(&installation, users.mail_user(), findings);
    let Some(script) = script else { return };
    trap::check(&installation, &script, findings);
    let named = options.config.as_deref().or(script.config.as_deref());
    program::check(&installation, users.mail_user(), findings);
    let config = read_config(named, users.mail_user());
    let readable = config.is_ok().then_some(named.unwrap_or(Path::new(DEFAULT_PATH)));
    match config {
        Ok(config) => {
            findings.ok("configuration", named.unwrap_or(Path::new(DEFAULT_PATH)).display().to_string());
            program::check_configured(&installation, &config, users.mail_user(), findings);
            keys::check(&config, &users, findings);
            recovery::check(&config, &users, findings);
            authorities::check(&config, SystemTime::now(), findings);
            rights::check(&config, &users, findings);
            door::check(&installation, &config, findings);
            outgoing::check(&config, findings);
            sendmail::check(&config, findings);
        }
        Err((what, mend)) => findings.fail("configuration", what, mend),
    }
    imap::check(&installation, findings);
    users.check(&installation, readable, findings);
    for user in &options.users {
        round_trip::check(&installation, &script, user, findings);
    }
}

/// Reads the configuration, which the mail user must be able to do, too; or says what is wrong and what mends it.
fn read_config(named: Option<&Path>, mail_user: access::Identity) -> Result<Config, (String, String)> {
    let config = Config::load(named).map_err(|error| (error.to_string(), error.hint()))?;
    if let Some(path) = named {
        let shown = path.display();
        if !mail_user.can_read(path) {
            let mend = mail_user.closed_folder(path).map_or_else(
                || format!("chmod 644 {shown}"),
                |folder| format!("chmod a+x {}", folder.display()),
            );
            return Err((format!("{shown}: the mail user cannot read it"), mend));
        }
        if let Some(who) = access::others_who_can_change(path) {
            let what = format!("{who}: others can change what deliveries are configured by");
            return Err((what, format!("chown root: {shown} && chmod 644 {shown}")));
        }
    }
    Ok(config)
}
