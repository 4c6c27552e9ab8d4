//! What becomes of mail for an address: the first rule of `[[outgoing]]` that is for it says.

use std::time::SystemTime;

use mailseal_core::recipients::Recipients;

use crate::config::outgoing::Rule;
use crate::config::{Config, Keys};
use crate::delivery::unchanged::Unchanged;
use crate::error::Error;
use crate::keys::addressee::{self, Addressee};
use crate::keys::enrol;
use crate::keystore::any_cert::AnyCert;
use crate::keystore::cache::Cache;
use crate::keystore::source::Template;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::keystore::{self, Request, absence};
use crate::outgoing::address::Address;
use crate::outgoing::aliases::Names;

/// The name of this host in mail.
const MAILNAME: &str = "/etc/mailname";

/// The address itself, which keyrings are searched for.
const ADDRESS: &str = "%{user}";

/// The warning of [`try_named`] for certificates that take nothing but uncompressed data, under a rule with `pad`: a message that
/// is too long to be held stays here.
pub const SHORT_ONLY: &str = "short-only";

/// The number of the first rule of `config` that is for `address`, counted from 0, and the rule. A detail behind a delimiter
/// counts as none.
#[must_use]
pub fn rule<'c>(config: &'c Config, address: &Address) -> Option<(usize, &'c Rule)> {
    let plain = address.without_detail(&config.serve.recipient_delimiter);
    let is_for = |rule: &Rule| {
        let matched = |address: &Address| rule.to.iter().any(|pattern| address.matches(pattern));
        matched(address) || plain.as_ref().is_some_and(matched)
    };
    config.outgoing.iter().enumerate().find(|(_, rule)| is_for(rule))
}

/// The domain of addresses without one: as configured, else this host's mail name (Debian Policy, section 11.6).
#[must_use]
pub fn domain(config: &Config) -> Option<String> {
    let named = config.sendmail.domain.trim();
    if !named.is_empty() {
        return Some(named.into());
    }
    let text = std::fs::read_to_string(MAILNAME).ok()?;
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// Whether mail for an address that is not understood must stay here: it could be one that has to be sealed.
#[must_use]
pub fn demands(config: &Config) -> bool {
    config.outgoing.iter().any(|rule| rule.require)
}

/// Refuses to let mail for `address` pass the door in clear, where it is a mailbox or an alias of this host: aliases are resolved
/// behind the door, and what they make of a message leaves as it is. A rule for the domain by its name may say otherwise; one with
/// `*` in its domain was not meant for this.
///
/// # Errors
/// [`Error::Unresolved`]; those of [`Names::read`].
pub fn refuse_own(config: &Config, address: &Address) -> Result<(), Error> {
    let plain = address.without_detail(&config.serve.recipient_delimiter);
    let names_it = |pattern: &String| {
        let has_name = pattern.rsplit_once('@').is_some_and(|(_, domain)| !domain.contains('*'));
        has_name && [Some(address), plain.as_ref()].into_iter().flatten().any(|it| it.matches(pattern))
    };
    let is_meant = rule(config, address).is_some_and(|(_, rule)| rule.to.iter().any(names_it));
    if !demands(config) || is_meant || !Names::read(config)?.are_of(address) {
        return Ok(());
    }
    let what =
        "is a mailbox or an alias of this host, and no rule for this domain lets its mail pass in clear";
    Err(Error::Unresolved { recipient: address.to_string(), what: what.into() })
}

/// The certificates that `rule` names; `None` where it names none, and they are looked up for each address.
///
/// # Errors
/// Those of [`keystore::read_all_named`].
pub fn named(config: &Config, rule: &Rule, cache: Option<&Cache>) -> Result<Option<Vec<AnyCert>>, Error> {
    if rule.key.is_empty() {
        return Ok(None);
    }
    let trust = Trust::of_process(config.keys.trusted_groups.ids());
    keystore::read_all_named(&rule.key, &trust, cache).map(Some)
}

/// Whether mail under `rule` to `recipients` can be filled up only where it is short.
///
/// # Errors
/// Those of [`mailseal_core::seal::Sealer::seals_short_only`].
pub fn is_for_short_mail(config: &Config, rule: &Rule, recipients: &Recipients) -> Result<bool, Error> {
    Ok(config.outgoing_style(rule).sealer(recipients).seals_short_only()?)
}

/// Tries the certificates that rules name: for each such rule, by its number from 1, what a delivery would warn of.
#[must_use]
pub fn try_named(config: &Config, now: SystemTime) -> Vec<(usize, Result<Vec<&'static str>, Error>)> {
    let try_one = |(number, rule): (usize, &Rule)| {
        let trust = Trust::of_process(config.keys.trusted_groups.ids());
        let tried = named(config, rule, None).transpose()?.and_then(|certs| {
            let recovery = keystore::read_recovery(&config.keys.recovery, &trust, None)?;
            let (label, preference) = (label(number + 1), config.keys.preference());
            let style = config.outgoing_style(rule);
            let mut warnings = enrol::test_seal(&label, (&certs, &recovery), preference, &style, now)?;
            let recipients = addressee::recipients(&config.keys, &label, &certs, (&trust, None), now)?;
            if is_for_short_mail(config, rule, &recipients)? {
                warnings.push(SHORT_ONLY);
            }
            Ok(warnings)
        });
        Some((number + 1, tried))
    };
    config.outgoing.iter().enumerate().filter_map(try_one).collect()
}

/// What a rule is called, by its number from 1.
#[must_use]
pub fn label(number: usize) -> String {
    format!("rule {number} of [[outgoing]]")
}

/// Finds out what becomes of mail for `address` under `rule` at the time `now`.
///
/// # Errors
/// [`Error::Missing`] where it must be sealed, and there is no certificate; those of [`keystore::find`], [`absence::prove`] and
/// [`addressee::recipients`].
pub fn find(
    config: &Config,
    address: &Address,
    rule: Option<&Rule>,
    cache: Option<&Cache>,
    now: SystemTime,
) -> Result<Addressee, Error> {
    let Some(rule) = rule else { return Ok(Addressee::Clear(Unchanged::NoPolicy)) };
    let trust = Trust::of_process(config.keys.trusted_groups.ids());
    let sealed = |certs: Vec<AnyCert>, looked_up| {
        let recipients =
            addressee::recipients(&config.keys, &address.to_string(), &certs, (&trust, cache), now)?;
        Ok(Addressee::Sealed { recipients, certs, looked_up })
    };
    if let Some(certs) = named(config, rule, cache)? {
        return sealed(certs, false);
    }
    // Nobody else's address has a home here.
    let sources = config.keys.sources.iter().filter(|source| !source.needs_home()).cloned().collect();
    let template =
        Template::try_from(ADDRESS.to_owned()).map_err(|what| Error::Usage { what, hint: String::new() })?;
    let keys = Keys { sources, address: Some(template), ..config.keys.clone() };
    let plain = address.without_detail(&config.serve.recipient_delimiter);
    for address in [Some(address), plain.as_ref()].into_iter().flatten() {
        let user = User::parse(&address.to_string())?;
        let request = Request { cache, ..Request::new(&keys, &user, None, now, trust.clone()) };
        if let Some(certs) = keystore::find(&keys.sources, &request)? {
            return sealed(certs, true);
        }
    }
    if rule.require {
        return Err(Error::Missing { user: address.to_string() });
    }
    let user = User::parse(&address.to_string())?;
    let request = Request { cache, ..Request::new(&keys, &user, None, now, trust.clone()) };
    Ok(Addressee::Clear(Unchanged::NoKey(absence::prove(&keys, &request)?)))
}
