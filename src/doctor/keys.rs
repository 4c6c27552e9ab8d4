//! Checks of the certificates: that deliveries can read them, that nobody else can change them, that they
//! seal; and of what proves that a user has none.

use std::path::Path;
use std::time::SystemTime;

use mailseal_core::smime::chain;

use super::access::others_who_can_change;
use super::findings::Findings;
use super::users::Users;
use crate::cli::sealing::Sealing;
use crate::config::{Config, Mode, Rule};
use crate::error::Error;
use crate::keys::enrol;
use crate::keys::revoked::Lists;
use crate::keystore;
use crate::keystore::absence;
use crate::keystore::authorities;
use crate::keystore::enrolled::Enrolled;
use crate::keystore::known::Known;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;

/// The name of the check of the certificates.
const CHECK: &str = "certificates";

/// The name of the check of the register.
const REGISTER: &str = "known users";

/// All checks of this module, for the users that Dovecot has.
pub fn check(config: &Config, users: &Users, findings: &mut Findings) {
    let mail_user = users.mail_user();
    for store in config.keys.sources.iter().filter_map(|source| source.path.store(source.kind)) {
        check_place(&store, mail_user.can_enter(&store), findings);
    }
    for file in &config.keys.recovery {
        check_place(file, mail_user.can_read(file), findings);
    }
    let sealed = check_enrolled(config, users, findings);
    check_rules(config, users, findings);
    check_authorities(config, SystemTime::now(), findings);
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

/// Looks at the authorities that S/MIME certificates must lead to, and at their lists. No delivery asks for them.
fn check_authorities(config: &Config, now: SystemTime, findings: &mut Findings) {
    let keys = &config.keys;
    match authorities::trusted(keys, &Trust::of_process(keys.trusted_groups.ids())) {
        Ok(trusted) => {
            for outdated in trusted.certificates().iter().filter(|one| !chain::is_valid(one, now)) {
                findings.warn(
                    CHECK,
                    format!("the authority {} has expired, or is not valid yet", outdated.subject()),
                    "name its new certificate in `smime-ca`; until then none that it issued can be enrolled",
                );
            }
            let mut lists = Lists::new(trusted, now);
            for error in keys.smime_crl.iter().filter_map(|path| lists.read(path, keys).err()) {
                findings.warn(CHECK, error.to_string(), error.hint());
            }
        }
        Err(error) => {
            let what = format!("no S/MIME certificate can be enrolled: {error}");
            findings.warn(CHECK, what, error.hint());
        }
    }
}

/// Tries a message on each enrolled user's certificates and the recovery ones; says how many succeeded.
fn check_enrolled(config: &Config, users: &Users, findings: &mut Findings) -> usize {
    let Ok(enrolled) = Enrolled::of(&config.keys) else { return 0 };
    let mut sealed = 0;
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
            Ok(()) => sealed += 1,
            Err(error) => {
                findings.fail(CHECK, format!("mail for {} is deferred: {error}", user.name()), error.hint())
            }
        }
    }
    sealed
}

/// Does what a delivery to `user` does: reads the file by the same rules, with the rights of that user.
fn test(enrolled: &Enrolled<'_>, user: &User, config: &Config, users: &Users) -> Result<(), Error> {
    let account = users.find(user.name());
    let identity = account.map_or(users.mail_user(), |account| account.identity);
    let groups = config.keys.trusted_groups.ids();
    let mut file = enrolled.file(user, account.and_then(|account| account.home.as_deref()))?;
    if account.is_some() {
        file = file.trusting(Trust::of(identity.uid, groups));
    }
    if !identity.can_read(file.path()) {
        return Err(Error::KeyStore {
            path: file.path().into(),
            what: "the mail user cannot read it".into(),
            hint: format!("chmod 644 {}, and a+x the folders above", file.path().display()),
        });
    }
    let recovery = keystore::read_recovery(&config.keys.recovery, &Trust::of(identity.uid, groups), None)?;
    let certs = (&*file.load()?, &*recovery);
    let style = config.style(user.name(), &Sealing::default());
    enrol::test_seal(user.name(), certs, config.keys.preference(), &style, SystemTime::now()).map(drop)
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
    let identity = users.mail_user();
    let trust = Trust::of(identity.uid, config.keys.trusted_groups.ids());
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
    if !identity.can_enter(&config.keys.known) {
        findings.fail(
            REGISTER,
            format!("{shown}: the mail user cannot enter it"),
            format!("chmod a+rx {shown}"),
        );
    }
    for store in absence::stores(&config.keys) {
        if let Err(error) = absence::check_marker(&store, &marker, &trust) {
            findings.fail(REGISTER, error.to_string(), error.hint());
        }
    }
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

#[cfg(test)]
mod tests {
    use mailseal_core::error::Error as CoreError;

    use super::*;
    use crate::doctor::findings::Severity;
    use crate::keystore::samples::Site;

    #[test]
    fn authorities_are_looked_at() {
        let site = Site::new();
        let now = SystemTime::now();
        for (file, said) in [
            ("chain/root.pem", None),
            ("chain/root-expired.pem", Some("CN=Root has expired")),
            ("rsa.pem", Some("is not an authority's")),
            ("rsa.key", Some("it holds a private key")),
        ] {
            let path = site.write("ca.pem", &std::fs::read(testing::smime::file(file)).unwrap());
            let config: Config = toml::from_str(&format!("[keys]\nsmime-ca = [{path:?}]\n")).unwrap();
            let mut findings = Findings::default();
            check_authorities(&config, now, &mut findings);
            assert_eq!(findings.count(Severity::Warning), said.iter().count(), "{file}: {findings:?}");
            assert!(said.is_none_or(|said| findings.say(said)), "{file}: {findings:?}");
        }
        let [ca, list] = ["chain/inter.pem", "chain/truncated.crl"].map(testing::smime::file);
        let (ca, list) = (
            site.write("ca.pem", &std::fs::read(ca).unwrap()),
            site.write("crl", &std::fs::read(list).unwrap()),
        );
        let config: Config =
            toml::from_str(&format!("[keys]\nsmime-ca = [{ca:?}]\nsmime-crl = [{list:?}]\n")).unwrap();
        let mut findings = Findings::default();
        check_authorities(&config, now, &mut findings);
        assert!(findings.say("the revocation list says nothing: it is broken"), "{findings:?}");
    }

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
