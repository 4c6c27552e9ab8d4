//! Checks of the doors of `mailseal serve`: that they answer, that mail takes them, and that nobody delivers past them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::findings::Findings;
use crate::config::Config;
use crate::config::serve::Userdb;
use crate::dovecot::doveconf;
use crate::dovecot::installation::Installation;
use crate::serve::address::Address;
use crate::serve::check::check as try_doors;

/// The name of the check of the doors.
const CHECK: &str = "door";

/// Everybody's right to write, which for a socket is the right to connect.
const OTHERS_WRITE: u32 = 0o002;

/// All checks of this module.
pub fn check(installation: &Installation, config: &Config, findings: &mut Findings) {
    let serve = &config.serve;
    check_doors(config, findings);
    if let (Some(address), Some(next)) = (&serve.outgoing, &serve.outgoing_next) {
        check_clear(address, &next.address, findings);
    }
    if let Some(address) = &serve.lmtp {
        check_way(address, findings);
        check_clear(address, &serve.next.address, findings);
        check_past(&serve.next.address, findings);
        check_userdb(&serve.userdb, findings);
    }
    let told = installation.sieve_setting("lmtp", "sieve_filter_socket_dir");
    if let (Some(path), None) = (&serve.sieve, told.filter(|folder| !folder.is_empty())) {
        findings.warn(
            CHECK,
            format!("Dovecot is not told of {}, and runs a program for each message", path.display()),
            "sieve_filter_socket_dir = sieve-filter, beside sieve_filter_bin_dir",
        );
    }
}

/// Whether every door answers, and what stands behind it.
pub fn check_doors(config: &Config, findings: &mut Findings) {
    for tried in try_doors(config) {
        match tried.failed {
            None => findings.ok(CHECK, tried.what),
            Some(why) => findings.fail(
                CHECK,
                format!("{}: {why}: mail that takes this way waits", tried.what),
                "start it: systemctl start mailseal-serve (mailseal serve --check says the same again)",
            ),
        }
    }
}

/// Whether a Postfix that is there hands mail to the door.
fn check_way(address: &Address, findings: &mut Findings) {
    let mut postconf = Command::new("postconf");
    let Ok(said) =
        doveconf::output(postconf.args(["-h", "mailbox_transport", "virtual_transport", "local_transport"]))
    else {
        return;
    };
    let door = match address {
        // Postfix's own names are below its queue's folder.
        Address::Unix(path) => {
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        }
        Address::Tcp(address) => format!("{}", address.port()),
    };
    if !said.contains("lmtp:") || !said.contains(&door) {
        findings.warn(
            CHECK,
            format!("Postfix hands no mail to {address}: it goes past this door"),
            "postconf -e virtual_transport=lmtp:unix:private/mailseal (mailbox_transport for local users)",
        );
    }
}

/// Whether clear mail crosses a network.
fn check_clear(address: &Address, next: &Address, findings: &mut Findings) {
    if !address.is_local() {
        findings.warn(
            CHECK,
            format!("mail comes in clear to {address} over a network"),
            "let it come through WireGuard or stunnel, or put the door on the machine of the MTA",
        );
    }
    if !next.is_local() {
        findings.warn(
            CHECK,
            format!("the mail of users without a certificate goes in clear to {next} over a network"),
            "let it go through WireGuard or stunnel, or put the door on the machine of Dovecot",
        );
    }
}

/// Whether others can hand mail to Dovecot's own door.
fn check_past(next: &Address, findings: &mut Findings) {
    let Address::Unix(path) = next else {
        return findings.warn(
            CHECK,
            format!("whoever can connect to {next} delivers past this door, in clear"),
            "let Dovecot's LMTP listen on a Unix socket that mailseal alone may open, and on nothing else",
        );
    };
    if mode(path).is_some_and(|mode| mode & OTHERS_WRITE != 0) {
        findings.warn(
            CHECK,
            format!("everybody on this machine can deliver to {} past this door, in clear", path.display()),
            "service lmtp { unix_listener lmtp { mode = 0600 user = mailseal } }",
        );
    }
}

/// Whether Dovecot tells of every user over that socket.
fn check_userdb(userdb: &Userdb, findings: &mut Findings) {
    let Userdb::Dovecot(socket) = userdb else { return };
    if mode(socket).is_some_and(|mode| mode & 0o777 == 0o666) {
        findings.fail(
            CHECK,
            format!(
                "{} has mode 0666: over it Dovecot tells each of itself only, and mail waits",
                socket.display()
            ),
            "service auth { unix_listener auth-userdb { mode = 0660 group = mailseal } }",
        );
    }
}

fn mode(path: &Path) -> Option<u32> {
    Some(path.metadata().ok()?.permissions().mode())
}
