//! Checks of mail that leaves: that the certificates of its rules seal, and that one message for several recipients is not taken
//! apart by whoever brings it.

use std::process::Command;
use std::time::SystemTime;

use mailseal_core::error::Error as CoreError;

use super::findings::Findings;
use super::postfix;
use crate::config::Config;
use crate::config::serve::Speaks;
use crate::dovecot::doveconf;
use crate::error::Error;
use crate::outgoing::policy;

/// The name of the check.
const CHECK: &str = "outgoing";

/// All checks of this module.
pub fn check(config: &Config, findings: &mut Findings) {
    if config.outgoing.is_empty() {
        return;
    }
    for (number, tried) in policy::try_named(config, SystemTime::now()) {
        let rule = policy::label(number);
        match tried {
            Err(error) => findings.fail(CHECK, format!("{rule}: {error}: its mail stays here"), error.hint()),
            Ok(warnings) => warn_of(&rule, &warnings, findings),
        }
    }
    if config.keys.sources.iter().all(crate::keystore::source::Source::needs_home)
        && config.outgoing.iter().any(|rule| rule.key.is_empty())
    {
        findings.warn(
            CHECK,
            "a rule names no certificates, and all sources of [keys] lie in homes, which other addresses have not",
            "name certificates as `key` in [[outgoing]], or a store as a source in [keys]",
        );
    }
    check_recipients(config, findings);
    postfix::check(CHECK, config, findings);
    findings.ok_unless_said(CHECK, "the certificates that rules name can be sealed to");
}

/// What a delivery to the certificates of `rule` warns of.
fn warn_of(rule: &str, warnings: &[&str], findings: &mut Findings) {
    let (short_only, others): (Vec<&str>, Vec<&str>) =
        warnings.iter().partition(|warning| **warning == policy::SHORT_ONLY);
    if !short_only.is_empty() {
        let error = Error::from(CoreError::Padding);
        findings.warn(CHECK, format!("{rule}: {error}: long messages stay here"), error.hint());
    }
    if !others.is_empty() {
        findings.warn(
            CHECK,
            format!("{rule}: its certificates seal, with the warning {}", others.join(", ")),
            "let their owners renew them: mailseal keys check --within 30d",
        );
    }
}

/// Whether a Postfix that hands on by SMTP does so for one recipient at a time: there is one answer for all.
fn check_recipients(config: &Config, findings: &mut Findings) {
    let serve = &config.serve;
    let by_smtp = serve.outgoing_next.as_ref().is_some_and(|next| next.speaks == Speaks::Smtp);
    if serve.outgoing.is_none() || !by_smtp {
        return;
    }
    let mut postconf = Command::new("postconf");
    let Ok(said) =
        doveconf::output(postconf.args(["-h", "content_filter", "lmtp_destination_recipient_limit"]))
    else {
        return;
    };
    let mut lines = said.lines();
    let (filter, limit) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default().trim());
    let transport = filter.split(':').next().unwrap_or_default().trim();
    if transport == "smtp" {
        findings.fail(
            CHECK,
            "Postfix hands mail to the door by SMTP, which takes one recipient at a time: the others wait",
            "postconf -e content_filter=lmtp:[127.0.0.1]:PORT",
        );
    } else if transport == "lmtp" && limit != "1" {
        findings.warn(
            CHECK,
            format!("lmtp_destination_recipient_limit is {limit}: what the relay says of one recipient counts for those with the same keys"),
            "postconf -e lmtp_destination_recipient_limit=1",
        );
    }
}
