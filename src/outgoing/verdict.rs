//! `mailseal outgoing ADDRESS`: what would become of mail for an address, and why.

use std::io::{self, Write};
use std::time::SystemTime;

use mailseal_core::cert::Fitness;
use mailseal_core::error::Error as CoreError;
use mailseal_core::openpgp::padding::Padding;
use mailseal_core::protect::Policy;

use crate::config::Config;
use crate::config::outgoing::Rule;
use crate::console::escape;
use crate::delivery::unchanged::Unchanged;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::addressee::Addressee;
use crate::keystore::any_cert::AnyCert;
use crate::log::words;
use crate::outgoing::address::Address;
use crate::outgoing::aliases::{Aliases, Final};
use crate::outgoing::policy;

/// Says what would become of mail for `address`; [`Exit::Negative`] where it would stay here.
///
/// # Errors
/// [`Error::Output`].
pub fn tell(config: &Config, address: &str, out: &mut impl Write) -> Result<Exit, Error> {
    write(config, address, out).map_err(Error::Output)
}

fn write(config: &Config, text: &str, out: &mut impl Write) -> io::Result<Exit> {
    let address = match Address::parse(text, policy::domain(config).as_deref()) {
        Ok(address) => address,
        Err(error) if policy::demands(config) => return stays(&error, out),
        Err(error) => {
            writeln!(out, "{}", escape::display(error.to_string().as_bytes()))?;
            writeln!(out, "It matches no rule, and its mail leaves unchanged")?;
            return Ok(Exit::Ok);
        }
    };
    let aliases = match Aliases::read(config) {
        Ok(aliases) => aliases,
        Err(error) => return stays(&error, out),
    };
    let (ends, doubt) = aliases.resolve(text, &config.serve.recipient_delimiter);
    // By another name of this host, it is itself.
    let is_itself =
        |end: &Final| end.address == address || end.local && end.address.local() == address.local();
    let is_alias = doubt.is_some() || !ends.iter().all(is_itself);
    let has_door = config.serve.outgoing.is_some() || config.serve.outgoing_next.is_some();
    let mut exit = Exit::Ok;
    if has_door || !is_alias {
        // Without a door there is nothing that resolves aliases behind it.
        let may_be_own = has_door || policy::rule(config, &address).is_none();
        exit = one(config, &address, may_be_own, out)?;
    }
    if is_alias && by_sendmail(config, &ends, doubt, out)? != Exit::Ok {
        exit = Exit::Negative;
    }
    Ok(exit)
}

/// What `mailseal sendmail`, which asks the aliases itself, would do with mail that ends in `ends`.
fn by_sendmail(
    config: &Config,
    ends: &[Final],
    doubt: Option<Error>,
    out: &mut impl Write,
) -> io::Result<Exit> {
    writeln!(out, "In mailseal sendmail it is an alias:")?;
    if let Some(error) = doubt {
        return stays(&error, out);
    }
    let mut exit = Exit::Ok;
    for end in ends {
        let has_rule = policy::rule(config, &end.address).is_some();
        if one(config, &end.address, end.local && !has_rule, out)? != Exit::Ok {
            exit = Exit::Negative;
        }
    }
    Ok(exit)
}

/// What would become of mail whose final address is `address`; `may_be_own` tells that it may be one of this host, whose mail passes
/// in clear only by a rule.
fn one(config: &Config, address: &Address, may_be_own: bool, out: &mut impl Write) -> io::Result<Exit> {
    writeln!(out, "{}", escape::display(address.to_string().as_bytes()))?;
    let found = policy::rule(config, address);
    let rule = found.map(|(_, rule)| rule);
    match found {
        Some((number, rule)) => {
            let to = rule.to.join(", ");
            writeln!(out, "  rule {} of [[outgoing]], to {}", number + 1, escape::display(to.as_bytes()))?;
        }
        None => writeln!(out, "  no rule of [[outgoing]] is for it")?,
    }
    match policy::find(config, address, rule, None, SystemTime::now()) {
        Err(error) => stays(&error, out),
        Ok(Addressee::Clear(why)) => {
            if may_be_own && let Err(error) = policy::refuse_own(config, address) {
                return stays(&error, out);
            }
            let because = match why {
                Unchanged::NoKey(_) => ": there is no certificate, and the rule does not require one",
                _ => "",
            };
            writeln!(out, "  leaves unchanged{because}")?;
            Ok(Exit::Ok)
        }
        Ok(Addressee::Sealed { certs, recipients, .. }) => {
            let now = SystemTime::now();
            let is_fit = |cert: &AnyCert| cert.assess(now).fitness == Fitness::Fit;
            let has_fit = certs.iter().any(is_fit);
            for cert in &certs {
                // Beside a fit one no other is used.
                if has_fit && !is_fit(cert) {
                    let why = cert.assess(now).fitness;
                    writeln!(out, "  not sealed to {}: {why}", cert.fingerprint())?;
                } else {
                    writeln!(out, "  sealed to {}", cert.fingerprint())?;
                }
            }
            for warning in recipients.warnings() {
                let word = warning.name();
                writeln!(out, "  warning: {}", words::of_warning(word).map_or(word, |it| it.what))?;
            }
            let Some(rule) = rule else { return Ok(Exit::Ok) };
            shows(config, rule, out)?;
            if policy::is_for_short_mail(config, rule, &recipients).unwrap_or(true) {
                writeln!(out, "  warning: {}: long messages stay here", CoreError::Padding)?;
            }
            Ok(Exit::Ok)
        }
    }
}

/// What of the mail under `rule` anybody on its way sees.
fn shows(config: &Config, rule: &Rule, out: &mut impl Write) -> io::Result<()> {
    let style = config.outgoing_style(rule);
    let header = match style.protect_headers {
        Policy::None => "shows its header, Subject included".into(),
        Policy::Baseline => format!("shows its header, with the Subject {:?}", style.subject.to_string()),
        Policy::Shy => {
            format!("shows its header without names, with the Subject {:?}", style.subject.to_string())
        }
        Policy::Strict | Policy::Sent => {
            format!("shows addresses, the date and the Subject {:?}", style.subject.to_string())
        }
    };
    writeln!(out, "  {header}")?;
    match style.pad {
        Padding::None => writeln!(out, "  shows about how long it is"),
        Padding::Multiple(size) => writeln!(out, "  filled up to a multiple of {size} bytes"),
        Padding::Padme => writeln!(out, "  filled up to Padmé's next size"),
    }
}

fn stays(error: &Error, out: &mut impl Write) -> io::Result<Exit> {
    writeln!(out, "  stays here: {}", escape::display(error.to_string().as_bytes()))?;
    writeln!(out, "  {}", escape::display(error.hint().as_bytes()))?;
    Ok(Exit::Negative)
}
