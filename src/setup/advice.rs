//! Edge: How to put mailseal before Dovecot, as lines to paste: the Sieve script cannot seal what a failing script of a user's
//! stores. Nothing is changed here; Postfix is asked for its own settings where it is installed.

use std::path::Path;
use std::process::Command;

use crate::dovecot::doveconf;

/// What Postfix delivers with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Postfix {
    /// `mailbox_command`, `mailbox_transport`, `virtual_transport`, `local_transport`.
    transports: [String; 4],
    queue: String,
    /// Whether its LMTP client is locked up in its queue's folder.
    is_chrooted: bool,
    limit: String,
}

impl Postfix {
    /// Asks `postconf`; `None` where there is no Postfix.
    #[must_use]
    pub fn ask() -> Option<Self> {
        let names = [
            "mailbox_command",
            "mailbox_transport",
            "virtual_transport",
            "local_transport",
            "queue_directory",
            "lmtp_destination_recipient_limit",
        ];
        let said = doveconf::output(Command::new("postconf").args(["-x"]).args(names)).ok()?;
        let master = doveconf::output(Command::new("postconf").args(["-M", "lmtp/unix"])).unwrap_or_default();
        Some(Self::parse(&said, &master))
    }

    fn parse(settings: &str, master: &str) -> Self {
        let get = |name: &str| {
            let mut pairs = settings.lines().filter_map(|line| line.split_once(" ="));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        // service type private unpriv chroot: `-` is no, since Postfix 3.0.
        let chroot = master.split_whitespace().nth(4).unwrap_or("-");
        Self {
            transports: ["mailbox_command", "mailbox_transport", "virtual_transport", "local_transport"]
                .map(get),
            queue: get("queue_directory"),
            is_chrooted: chroot == "y",
            limit: get("lmtp_destination_recipient_limit"),
        }
    }

    fn uses_lmtp(&self) -> bool {
        self.transports.iter().any(|it| it.starts_with("lmtp:"))
    }

    fn uses_lda(&self) -> bool {
        self.transports.iter().any(|it| it.contains("dovecot"))
    }
}

/// The lines, for a site that `has_lmtp` or not, where `mailseal` is this program and `lmtp` Dovecot's own socket.
#[must_use]
pub fn lines(has_lmtp: bool, postfix: Option<&Postfix>, mailseal: &Path, lmtp: &str) -> Vec<String> {
    let by_lmtp = postfix.map_or(has_lmtp, |postfix| postfix.uses_lmtp() || has_lmtp && !postfix.uses_lda());
    let mut lines = vec![
        "A user's own script that fails at run time still stores that message in clear. What seals before Dovecot closes this, and".into(),
        "the Sieve script may stay behind it:".into(),
    ];
    if by_lmtp {
        through_serve(postfix, lmtp, &mut lines);
    } else {
        through_deliver(postfix, mailseal, &mut lines);
    }
    lines
}

fn through_serve(postfix: Option<&Postfix>, lmtp: &str, lines: &mut Vec<String>) {
    let mut add = |line: &str| lines.push(format!("  {line}"));
    let door = match postfix {
        Some(postfix) if postfix.is_chrooted || !postfix.queue.is_empty() => {
            format!("{}/private/mailseal", postfix.queue)
        }
        _ => "127.0.0.1:2424".into(),
    };
    add(
        "mail comes over LMTP: `mailseal serve` (docs/serve.md). In /etc/mailseal.toml, which has the table already:",
    );
    add("  [serve]");
    add(&format!("  lmtp = \"{door}\""));
    add(&format!("  next = \"lmtp:{lmtp}\""));
    add("then: systemctl enable --now mailseal-lmtp.socket, and `mailseal serve --check`");
    let Some(postfix) = postfix else {
        return add("then let the MTA deliver by LMTP to that address (contrib/mta has Exim and OpenSMTPD)");
    };
    add("and in Postfix's main.cf:");
    for (name, value) in
        ["mailbox_transport", "virtual_transport", "local_transport"].iter().zip(&postfix.transports[1..])
    {
        if value.starts_with("lmtp:") || *name == "virtual_transport" {
            add(&format!("  {name} = lmtp:unix:private/mailseal"));
        }
    }
    if postfix.limit.parse().is_ok_and(|limit: u32| limit > 50) || postfix.limit.starts_with('$') {
        add("  lmtp_destination_recipient_limit = 50");
    }
    add("  bounce_size_limit = 1");
    if postfix.is_chrooted {
        add("(Postfix's LMTP client is locked up in its queue's folder: the path begins there)");
    }
}

fn through_deliver(postfix: Option<&Postfix>, mailseal: &Path, lines: &mut Vec<String>) {
    let mut add = |line: &str| lines.push(format!("  {line}"));
    let mailseal = mailseal.display();
    add(
        "mail comes by dovecot-lda: `mailseal deliver` (docs/before-dovecot.md has the lines for Exim and OpenSMTPD). With Postfix, in main.cf:",
    );
    let command = postfix
        .map(|it| &*it.transports[0])
        .filter(|it| it.contains("dovecot"))
        .unwrap_or("/usr/lib/dovecot/dovecot-lda -f \"$SENDER\" -a \"$RECIPIENT\" -d \"$USER\"");
    add(&format!("  mailbox_command = {mailseal} deliver -- {command}"));
    if let Some(transport) = postfix.map(|it| &it.transports[2]).filter(|it| it.contains("dovecot")) {
        let name = transport.split(':').next().unwrap_or_default();
        add(&format!(
            "in master.cf, in the argv of `{name}`, before dovecot-lda: {mailseal} deliver --user ${{user}}@${{domain}} --"
        ));
        add(&format!("  {name}_destination_recipient_limit = 1"));
    }
    add("  bounce_size_limit = 1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_delivers_decides() {
        let settings = "mailbox_command = \nmailbox_transport = lmtp:unix:private/dovecot-lmtp\nvirtual_transport = virtual\n\
                        local_transport = local:host\nqueue_directory = /var/spool/postfix\n\
                        lmtp_destination_recipient_limit = $default_destination_recipient_limit\n";
        let postfix = Postfix::parse(settings, "lmtp unix - - y - - lmtp\n");
        let said =
            lines(true, Some(&postfix), Path::new("/usr/bin/mailseal"), "/run/dovecot/lmtp").join("\n");
        for line in [
            "lmtp = \"/var/spool/postfix/private/mailseal\"",
            "  mailbox_transport = lmtp:unix:private/mailseal",
            "lmtp_destination_recipient_limit = 50",
            "locked up",
        ] {
            assert!(said.contains(line), "{line}:\n{said}");
        }
        let settings =
            "mailbox_command = /usr/lib/dovecot/dovecot-lda -a \"$RECIPIENT\"\nvirtual_transport = dovecot\n";
        let postfix = Postfix::parse(settings, "");
        let said = lines(true, Some(&postfix), Path::new("/usr/bin/mailseal"), "x").join("\n");
        assert!(said.contains(
            "mailbox_command = /usr/bin/mailseal deliver -- /usr/lib/dovecot/dovecot-lda -a \"$RECIPIENT\""
        ));
        assert!(
            said.contains("dovecot_destination_recipient_limit = 1") && !said.contains("[serve]"),
            "{said}"
        );
        assert!(lines(true, None, Path::new("m"), "x").join("\n").contains("127.0.0.1:2424"));
        assert!(lines(false, None, Path::new("m"), "x").join("\n").contains("mailbox_command = m deliver"));
    }
}
