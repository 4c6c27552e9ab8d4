//! Checks of imapsieve: the sealing of what mail programs save, and spam filters that learn from moved mail.

use std::path::Path;

use super::findings::Findings;
use super::scripts::{compile, without_comments};
use crate::cli;
use crate::dovecot::installation::{ImapRule, Installation};

/// The name of the check of sent mail.
const CHECK: &str = "Sent mail";

/// All checks of this module.
pub fn check(installation: &Installation, findings: &mut Findings) {
    let rules = installation.imap_rules();
    let (ours, others): (Vec<_>, Vec<_>) =
        rules.into_iter().partition(|rule| text(&rule.script).is_some_and(|text| text.contains(cli::FILTER)));
    if ours.is_empty() {
        findings.warn(
            CHECK,
            "nothing seals what mail programs save in Sent: it lies there in clear",
            format!("include sieve/dovecot-imap-{}.conf", if installation.is_2_4() { "2.4" } else { "2.3" }),
        );
    } else {
        check_ours(installation, &ours, findings);
    }
    check_written_over(installation, findings);
    for number in installation.nameless_imap_rules() {
        findings.warn(
            "imapsieve",
            format!("imapsieve_mailbox{number} has a script and no folder: Dovecot runs it nowhere"),
            format!("imapsieve_mailbox{number}_name = FOLDER"),
        );
    }
    for rule in others {
        check_compiles(installation, &rule, findings);
        check_learner(&rule, findings);
    }
}

fn check_ours(installation: &Installation, rules: &[ImapRule], findings: &mut Findings) {
    for rule in rules {
        let folder = &rule.folder;
        if rule.shared {
            findings.fail(
                CHECK,
                format!(
                    "{folder}: mail in a shared folder is sealed to whoever stores it, and lost to the others"
                ),
                "name folders of the user's own only, as Sent",
            );
        }
        if folder.to_ascii_lowercase().contains("draft") {
            findings.warn(
                CHECK,
                format!(
                    "{folder}: the mail program is left with a UID that is gone, at each change of a draft"
                ),
                format!("take {folder} out of imapsieve's settings"),
            );
        }
    }
    if installation.sieve_setting("imap", "imapsieve_expunge_discarded") != Some("yes") {
        findings.fail(
            CHECK,
            "the clear message stays beside the sealed one, flagged as deleted",
            "imapsieve_expunge_discarded = yes",
        );
    }
    if installation.plugins("imap").contains(&"lazy_expunge") {
        findings.fail(
            CHECK,
            "lazy_expunge keeps the clear message that the sealed one takes the place of",
            "take lazy_expunge out of the mail_plugins of protocol imap, or imap_sieve",
        );
    }
    if installation.is_2_4() {
        findings.warn(
            CHECK,
            "Dovecot 2.4 gives imapsieve no settings from the user database: keys that are set there, and the switch to \
             turn sealing off, count for deliveries only",
            "enrol the certificates of such users: mailseal keys add USER FILE",
        );
    }
    let folders: Vec<&str> = rules.iter().map(|rule| &*rule.folder).collect();
    findings.ok_unless_said(
        CHECK,
        format!("{} sealed, if not promised: Dovecot saves it first", folders.join(", ")),
    );
}

/// Rules of imapsieve (2.3) whose number is used twice: only the last counts.
fn check_written_over(installation: &Installation, findings: &mut Findings) {
    if installation.is_2_4() {
        return;
    }
    let is_name = |key: &str| key.starts_with("imapsieve_mailbox") && key.ends_with("_name");
    let lines = installation.written(&is_name);
    for (index, line) in lines.iter().enumerate() {
        let later =
            lines[index + 1..].iter().find(|later| later.key == line.key && later.value != line.value);
        if let Some(later) = later {
            findings.warn(
                "imapsieve",
                format!(
                    "{} = {} ({}) is written over by {} ({}): the rule for {} is gone",
                    line.key,
                    line.value,
                    line.place(),
                    later.value,
                    later.place(),
                    line.value
                ),
                "give one of the two another number, in all of its lines",
            );
        }
    }
}

/// A script of the site's own that its other settings have taken the extensions from.
fn check_compiles(installation: &Installation, rule: &ImapRule, findings: &mut Findings) {
    if let Err(why) = compile(installation, &rule.script) {
        findings.warn(
            "imapsieve",
            format!("{} on {} does not compile, and is not run: {why}", rule.script.display(), rule.folder),
            "keep what it needs in sieve_plugins and sieve_global_extensions: a list that is set twice counts as set last",
        );
    }
}

/// A script that gives mail to a program, and does not look whether it is sealed.
fn check_learner(rule: &ImapRule, findings: &mut Findings) {
    let Some(text) = text(&rule.script) else { return };
    let runs_program = ["vnd.dovecot.pipe", "vnd.dovecot.execute", "vnd.dovecot.filter"];
    if runs_program.iter().any(|extension| text.contains(extension)) && !text.contains("multipart/encrypted")
    {
        findings.warn(
            "spam learner",
            format!(
                "{} on {} gives sealed mail to a program: a spam filter learns what ciphertext looks like",
                rule.script.display(),
                rule.folder
            ),
            "begin it as sieve/mailseal-learn.sieve begins, which skips multipart/encrypted",
        );
    }
}

fn text(script: &Path) -> Option<String> {
    let text = std::fs::read(script).ok()?;
    Some(without_comments(&String::from_utf8_lossy(&text)))
}
