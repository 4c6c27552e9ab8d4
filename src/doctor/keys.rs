//! Checks of the certificates: that deliveries can read them, that nobody else can change them, that they
//! seal; and of what proves that a user has none.

use std::path::Path;
use std::time::SystemTime;

use mailseal_core::recipients::Warning;

use super::access::others_who_can_change;
use super::findings::{Causes, Findings};
use super::users::Users;
use crate::cli::sealing::Sealing;
use crate::config::{Config, Mode, Rule};
use crate::error::Error;
use crate::keys::enrol;
use crate::keystore;
use crate::keystore::absence;
use crate::keystore::enrolled::Enrolled;
use crate::keystore::known::Known;
use crate::keystore::marker::Marker;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;

/// The name of the check of the certificates.
const CHECK: &str = "certificates";

/// The name of the check of the register.
const REGISTER: &str = "known users";

/// What is said of certificates that mail is sealed to although their time is over, and what mends it.
const EXPIRED: &str = "mail is sealed to a certificate that has expired";
const RENEW: &str = "ask the owner to extend it, then: mailseal keys add USER FILE --replace";

/// All checks of this module, for the users that Dovecot has.
pub fn check(config: &Config, users: &Users, findings: &mut Findings) {
    let mail_user = users.known_mail_user();
    for store in config.keys.sources.iter().filter_map(|source| source.path.store(source.kind)) {
        check_place(&store, mail_user.is_none_or(|user| user.can_enter(&store)), findings);
    }
    for file in &config.keys.recovery {
        check_place(file, mail_user.is_none_or(|user| user.can_read(file)), findings);
    }
    let sealed = check_enrolled(config, users, findings);
    check_rules(config, users, findings);
    findings.ok_unless_said(CHECK, format!("{sealed} enrolled users' can be sealed to"));
    check_register(config, users, findings);
    findings.ok_unless_said(REGISTER, "it is complete, and every store bears its marker");
}

fn check_place(path: &Path, usable: bool, findings: &mut Findings) {
    let shown = path.display();
    if !path.exists() {
        findings.fail(
            CHECK,
            format!("{shown} does not exist: every delivery is deferred"),
            format!("install -d -m 755 {shown}"),
        );
    } else if !usable {
        findings.fail(
            CHECK,
            format!("{shown}: the mail user cannot read it: every delivery is deferred"),
            format!("chmod a+rX {shown}, and the folders above"),
        );
    }
    if let Some(who) = others_who_can_change(path) {
        findings.fail(
            CHECK,
            format!("{who}: others than root can replace certificates, and so read mail"),
            format!("chown root: {shown} && chmod go-w {shown}, and the same for the folders above"),
        );
    }
}

/// Tries a message on each enrolled user's certificates and the recovery ones, as a delivery does; the number of users whose
/// mail can be sealed.
fn check_enrolled(config: &Config, users: &Users, findings: &mut Findings) -> usize {
    let Ok(enrolled) = Enrolled::of(&config.keys) else { return 0 };
    let (mut sealed, mut causes, mut expired) = (0, Causes::default(), Causes::default());
    for entry in enrolled.entries().unwrap_or_default() {
        let user = match entry.user {
            Some(user) if entry.is_read => user,
            _ => {
                let path = entry.path.display();
                let mend =
                    format!("rename {path} to what a delivery reads, in lower case and with the right end");
                findings.fail(CHECK, format!("{path}: no delivery reads a file of this name"), mend);
                continue;
            }
        };
        match test(&enrolled, &user, config, users) {
            Ok(warnings) => {
                sealed += 1;
                if warnings.contains(&Warning::Expired.name()) {
                    expired.add(user.name(), EXPIRED.into(), RENEW.into());
                }
            }
            Err(error) => causes.add(user.name(), error.to_string(), error.hint()),
        }
    }
    findings.fail_for(CHECK, causes);
    for (named, what, mend) in expired.named() {
        findings.warn(CHECK, format!("{named}: {what}"), mend);
    }
    sealed
}

/// Does what a delivery to `user` does: reads the file by the same rules, with the rights of that user.
fn test(
    enrolled: &Enrolled<'_>,
    user: &User,
    config: &Config,
    users: &Users,
) -> Result<Vec<&'static str>, Error> {
    let account = users.find(user.name());
    let identity = account.map_or(users.mail_user(), |account| account.identity);
    let groups = config.keys.trusted_groups.ids();
    let mut file = enrolled.file(user, account.and_then(|account| account.home.as_deref()))?;
    if account.is_some() {
        file = file.trusting(Trust::of(identity.uid, groups));
    }
    if users.known_mail_user().is_some() && !identity.can_read(file.path()) {
        return Err(Error::KeyStore {
            path: file.path().into(),
            what: "the mail user cannot read it".into(),
            hint: format!("chmod 644 {}, and a+x the folders above", file.path().display()),
        });
    }
    let recovery = keystore::read_recovery(&config.keys.recovery, &Trust::of(identity.uid, groups), None)?;
    let certs = (&*file.load()?, &*recovery);
    let style = config.style(user.name(), &Sealing::default());
    enrol::test_seal(user.name(), certs, config.keys.preference(), &style, SystemTime::now())
}

/// Tries a message on the certificates that rules of `[[users]]` name.
fn check_rules(config: &Config, users: &Users, findings: &mut Findings) {
    let trust = Trust::of(users.mail_user().uid, config.keys.trusted_groups.ids());
    for (number, rule) in config.users.iter().enumerate() {
        let label = format!("rule {} of [[users]]", number + 1);
        if let Err(error) = try_rule(config, rule, &label, &trust) {
            findings.fail(CHECK, format!("mail under {label} is deferred: {error}"), error.hint());
        }
    }
}

/// Does what a delivery under `rule` does, where that seals to certificates that it names.
fn try_rule(config: &Config, rule: &Rule, label: &str, trust: &Trust) -> Result<(), Error> {
    if rule.mode == Mode::Off || rule.key.is_empty() {
        return Ok(());
    }
    let certs = keystore::read_all_named(&rule.key, trust, None)?;
    let recovery = keystore::read_recovery(&config.keys.recovery, trust, None)?;
    let style = config.style_under(Some(rule), &Sealing::default());
    let (pair, preference) = ((&*certs, &*recovery), config.keys.preference());
    enrol::test_seal(label, pair, preference, &style, SystemTime::now()).map(drop)
}

/// Looks at what a delivery believes when it finds no certificate.
fn check_register(config: &Config, users: &Users, findings: &mut Findings) {
    const INIT: &str = "mailseal keys init";
    let trust = Trust::of(users.mail_user().uid, config.keys.trusted_groups.ids());
    let known = Known::new(&config.keys.known, trust.clone());
    let shown = config.keys.known.display();
    let marker = match known.marker() {
        Ok(Some(marker)) => marker,
        Ok(None) => {
            let what = format!("{shown} bears no marker: mail of users without a certificate is deferred");
            return findings.warn(REGISTER, what, INIT);
        }
        Err(error) => return findings.fail(REGISTER, error.to_string(), error.hint()),
    };
    if users.known_mail_user().is_some_and(|user| !user.can_enter(&config.keys.known)) {
        findings.fail(
            REGISTER,
            format!("{shown}: the mail user cannot enter it"),
            format!("chmod a+rx {shown}"),
        );
    }
    check_markers(config, users, (&marker, &trust), findings);
    let (Ok(listed), Ok(unasked)) = (known.users(), known.unasked()) else {
        return findings.fail(REGISTER, format!("{shown} cannot be listed"), "run this as root");
    };
    for user in &unasked {
        let what = format!("mail for {} is deferred: its key sources could not be asked", user.name());
        findings.fail(
            REGISTER,
            what,
            "mount the home, then: mailseal keys scan; where homes are made with the first mail, see `homes` below",
        );
    }
    if users.are_all() {
        for user in listed.iter().filter(|user| users.find(user.name()).is_none()) {
            let what = format!("{} has or had a certificate, and Dovecot knows no such user", user.name());
            let mend = format!(
                "mailseal keys rename {0} NEW, or mailseal keys remove {0}; look for the right name with doveadm user '*'",
                user.name()
            );
            findings.fail(REGISTER, what, mend);
        }
    }
}

/// Looks whether every store is the one that the register lists. Whom a store may belong to depends on the mail user.
fn check_markers(
    config: &Config,
    users: &Users,
    (marker, trust): (&Marker, &Trust),
    findings: &mut Findings,
) {
    let stores = absence::stores(&config.keys);
    if users.known_mail_user().is_none() && !stores.is_empty() {
        let named: Vec<String> = stores.iter().map(|store| store.display().to_string()).collect();
        return findings.warn(
            REGISTER,
            format!("{}: not judged: no mail user is known", named.join(", ")),
            "let Dovecot run and list its users, then run this again",
        );
    }
    for store in stores {
        if let Err(error) = absence::check_marker(&store, marker, trust) {
            findings.fail(REGISTER, error.to_string(), error.hint());
        }
    }
}

#[cfg(test)]
mod tests {
    use mailseal_core::error::Error as CoreError;

    use super::*;
    use crate::keystore::samples::Site;

    #[test]
    fn a_rule_is_tried_as_a_delivery_under_it_seals() {
        let site = Site::new();
        site.write("rsa.pem", &std::fs::read(testing::smime::file("rsa.pem")).unwrap());
        let tried = |settings: &str, key: &str| {
            let rule = format!("[[users]]\nmatch = [\"alice\"]\nkey = [{:?}]\n", site.at(key));
            let config: Config = toml::from_str(&format!("{rule}{settings}")).unwrap();
            try_rule(&config, &config.users[0], "a rule", &Trust::of_process(&[]))
        };
        for settings in
            ["", "pad = \"none\"\n[message]\npad = \"padme\"\n", "pad = \"4KiB\"\nmode = \"off\"\n"]
        {
            assert!(tried(settings, "rsa.pem").is_ok(), "{settings}");
        }
        for settings in ["pad = \"4KiB\"\n", "[message]\npad = \"padme\"\n"] {
            let error = tried(settings, "rsa.pem").unwrap_err();
            assert!(matches!(error, Error::Core(CoreError::SmimePadding)), "{settings}: {error}");
        }
        assert!(matches!(tried("", "missing.pem"), Err(Error::KeyStore { .. })));
    }
}
