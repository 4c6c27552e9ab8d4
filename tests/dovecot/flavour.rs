//! What differs between Dovecot versions: where the programs are and how the settings are written.

use super::site::{DELIVERY_GROUP, DELIVERY_USER, PASSWORD, Site};
use std::process::Command;

/// A Dovecot version as the tests see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Debian 12's, installed on this machine.
    V2_3,
}

impl Flavour {
    /// A command that runs one of Dovecot's programs (`dovecot`, `dovecot-lda`, `sievec`, `sieve-test`).
    pub fn command(self, program: &str) -> Command {
        let path = match (self, program) {
            (Self::V2_3, "dovecot") => "/usr/sbin/dovecot",
            (Self::V2_3, "dovecot-lda") => "/usr/lib/dovecot/dovecot-lda",
            (Self::V2_3, "sievec") => "/usr/bin/sievec",
            (Self::V2_3, "sieve-test") => "/usr/bin/sieve-test",
            (_, other) => panic!("no place known for {other}"),
        };
        // When the thread that runs the test dies without dropping the server, Dovecot goes with it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", path]).current_dir("/");
        command
    }

    /// The shipped snippet, in `sieve/`.
    pub fn snippet(self) -> &'static str {
        match self {
            Self::V2_3 => "dovecot-2.3.conf",
        }
    }

    /// A server of virtual users, as it was before an admin included our snippet.
    pub fn server_settings(self, site: &Site) -> String {
        let Site { address, lmtp_port, imap_port, .. } = site;
        let dir = site.dir().display();
        match self {
            Self::V2_3 => format!(
                "\
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
mail_temp_dir = {dir}/tmp
protocols = imap lmtp
listen = {address}
ssl = no
disable_plaintext_auth = no
login_trusted_networks = 127.0.0.0/8
first_valid_uid = {DELIVERY_USER}
mail_location = maildir:~/Maildir
namespace inbox {{
  inbox = yes
}}
passdb {{
  driver = passwd-file
  args = {dir}/users
}}
userdb {{
  driver = static
  args = uid={DELIVERY_USER} gid={DELIVERY_GROUP} home={dir}/home/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = {address}
    port = {lmtp_port}
  }}
}}
plugin {{
  sieve = file:~/sieve;active=~/.dovecot.sieve
}}
!include {dir}/mailseal.conf
!include {dir}/extra.conf
"
            ),
        }
    }

    /// A line of the user database.
    pub fn user(self, user: &str) -> String {
        format!("{user}:{{PLAIN}}{PASSWORD}::::::\n")
    }

    /// Settings that run other global scripts before and after ours.
    pub fn script_order(self, scripts: &[String]) -> String {
        let numbered = scripts.iter().enumerate().map(|(index, path)| match index {
            0 => format!("  sieve_before = {path}\n"),
            _ => format!("  sieve_before{} = {path}\n", index + 1),
        });
        format!("plugin {{\n{}}}\n", numbered.collect::<String>())
    }

    /// A shorter limit on how long the filter may run.
    pub fn filter_timeout(self, seconds: u32) -> String {
        format!("plugin {{\n  sieve_filter_exec_timeout = {seconds}s\n}}\n")
    }
}
