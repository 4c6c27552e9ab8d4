//! Checks of `mailseal sendmail`: that it has a program to hand mail to, that mail for root leaves, and what it holds.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::findings::Findings;
use crate::config::Config;
use crate::console::date;
use crate::outgoing::aliases::Aliases;
use crate::outgoing::held::{folder, list};
use crate::outgoing::{policy, program};

/// The name of the check.
const CHECK: &str = "sendmail";

/// What every program runs that sends mail.
const SENDMAIL: &str = "/usr/sbin/sendmail";

/// All checks of this module, where it is in the place of sendmail, or mail leaves through mailseal in another way and there is
/// a folder for what is held. The folder alone says nothing: it is made at each start of the system.
pub fn check(config: &Config, findings: &mut Findings) {
    program::look_at_itself();
    let concerns = is_in_place() || config.sendmail.held.exists() && has_outgoing(config);
    if !concerns {
        return;
    }
    if let Err(error) = program::check(&config.sendmail.program) {
        findings.fail(CHECK, format!("{error}: all mail is held"), error.hint());
    }
    if let Err(error) = folder::check(&config.sendmail.held) {
        findings.fail(CHECK, format!("{error}: what cannot be sealed is lost"), error.hint());
    } else {
        check_held(config, findings);
    }
    check_root(config, findings);
    findings.ok_unless_said(CHECK, "mail is sealed on its way out, and nothing is held");
}

/// Whether this program is what sends mail here.
fn is_in_place() -> bool {
    let file = |path: &Path| path.metadata().ok().map(|it| (it.dev(), it.ino()));
    let own = std::env::current_exe().ok().and_then(|path| file(&path));
    own.is_some() && file(Path::new(SENDMAIL)) == own
}

/// Whether this host has mail that leaves, by its rules, through a door, or held already.
fn has_outgoing(config: &Config) -> bool {
    !config.outgoing.is_empty()
        || config.serve.outgoing.is_some()
        || list::survey(config).is_ok_and(|found| found.count > 0)
}

fn check_held(config: &Config, findings: &mut Findings) {
    match list::survey(config) {
        Ok(found) => {
            if found.count > 0 {
                let since = date::day(found.oldest);
                findings.warn(
                    CHECK,
                    format!("messages that are held: {}, the oldest since {since}", found.count),
                    "see why: mailseal sendmail --held --list; then try them again: mailseal sendmail --held",
                );
            }
            if found.odd > 0 {
                findings.warn(
                    CHECK,
                    format!(
                        "{}: {} files there are not held mail",
                        config.sendmail.held.display(),
                        found.odd
                    ),
                    "look at them, and remove them: mailseal sendmail --held --list",
                );
            }
        }
        Err(error) => findings.warn(CHECK, error.to_string(), error.hint()),
    }
}

/// Whether mail for root, which most of such mail is for, ends in an address.
fn check_root(config: &Config, findings: &mut Findings) {
    let aliases = match Aliases::read(config) {
        Ok(aliases) => aliases,
        Err(error) => return findings.fail(CHECK, format!("{error}: all mail is held"), error.hint()),
    };
    let (ends, doubt) = aliases.resolve("root", &config.serve.recipient_delimiter);
    let is_nowhere = ends.iter().any(|end| end.local && policy::rule(config, &end.address).is_none());
    if (doubt.is_some() || is_nowhere) && policy::demands(config) {
        findings.warn(
            CHECK,
            "mail for root ends in no address, and is held",
            format!("echo 'root: ADDRESS' >> {}", config.sendmail.aliases.display()),
        );
    }
}
