//! `[[outgoing]]` and `[sendmail]`: mail that leaves this machine.

use std::path::PathBuf;
use std::time::Duration;

use mailseal_core::openpgp::padding::Padding;
use mailseal_core::protect::{Additions, Policy};
use serde::Deserialize;

use super::Config;
use super::fault::Fault;
use super::style::{Style, Subject};
use crate::outgoing::address::Address;

/// `[[outgoing]]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// The final addresses that it is for, with `*` for any text.
    pub to: Vec<String>,
    /// Files with the certificates to seal to; where there are any, none are looked up.
    #[serde(default)]
    pub key: Vec<PathBuf>,
    /// Whether mail for which there is no certificate stays here.
    #[serde(default = "yes")]
    pub require: bool,
    /// Which header fields are hidden inside, if not as for all.
    pub protect_headers: Option<Policy>,
    /// What the outside shows for a hidden Subject, if not as for all.
    pub subject: Option<Subject>,
    /// What sealed messages are filled up to, if not as for all.
    #[serde(default, deserialize_with = "super::parse_optional")]
    pub pad: Option<Padding>,
}

/// `[sendmail]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sendmail {
    /// The program that sends mail.
    pub program: PathBuf,
    /// The aliases that it resolves, which are asked before a rule is.
    pub aliases: PathBuf,
    /// The domain of addresses without one; empty: what `/etc/mailname` says.
    pub domain: String,
    /// Where mail is kept that cannot be sealed yet.
    pub held: PathBuf,
    /// Whether those whose mail is kept for want of a certificate are told so, in clear.
    pub notice: bool,
    /// Seconds that the program may take for a message.
    #[serde(deserialize_with = "super::seconds")]
    pub deadline: Duration,
}

impl Default for Sendmail {
    fn default() -> Self {
        Self {
            program: "/usr/sbin/sendmail.real".into(),
            aliases: "/etc/aliases".into(),
            domain: String::new(),
            held: "/var/spool/mailseal/held".into(),
            notice: true,
            deadline: Duration::from_secs(120),
        }
    }
}

fn yes() -> bool {
    true
}

impl Config {
    /// How mail under `rule` is sealed: nothing of the way so far is shown where little is.
    #[must_use]
    pub fn outgoing_style(&self, rule: &Rule) -> Style {
        let general = &self.message;
        let protect_headers = match rule.protect_headers.unwrap_or(general.protect_headers) {
            Policy::Strict => Policy::Sent,
            policy => policy,
        };
        let pad = rule.pad.unwrap_or(general.pad);
        Style {
            protect_headers,
            subject: rule.subject.as_ref().unwrap_or(&general.subject).clone(),
            pad,
            again: protect_headers == Policy::Sent || pad != Padding::None,
            compression: general.compression,
            // It rests nowhere.
            additions: Additions { mark: false, legacy_display: general.legacy_display },
        }
    }

    /// What of the rules and of `[sendmail]` cannot be meant.
    pub(super) fn check_outgoing(&self) -> Result<(), Fault> {
        for (number, rule) in self.outgoing.iter().enumerate() {
            super::absolute(&format!("outgoing.{number}.key"), &rule.key)?;
            let wrong = |what: String| Err(Fault::new(format!("outgoing.{number}.to"), what));
            if rule.to.is_empty() {
                return wrong("`to` in [[outgoing]] is empty: the rule is for nobody".into());
            }
            if let Some(pattern) = rule.to.iter().find(|pattern| !Address::could_match(pattern)) {
                return wrong(format!(
                    "`to` in [[outgoing]] names {pattern:?}, and no mail would match: write name@domain, without quotes, brackets \
                     and names, * for any text"
                ));
            }
        }
        let Sendmail { program, aliases, held, .. } = &self.sendmail;
        super::absolute("sendmail.program", std::slice::from_ref(program))?;
        super::absolute("sendmail.aliases", std::slice::from_ref(aliases))?;
        super::absolute("sendmail.held", std::slice::from_ref(held))
    }
}
