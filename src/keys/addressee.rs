//! To whom a user's mail is sealed: the certificates that policy finds for the user, or that there are none and need
//! be none.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mailseal_core::error::Error as CoreError;
use mailseal_core::recipients::{Recipients, WhenExpired};
use mailseal_core::smime::certificate::Certificate;
use sequoia_openpgp::Cert;

use crate::config::{Config, Format, Keys, Mode, Preference, Rule, WhenMissing};
use crate::delivery::unchanged::{Off, Unchanged};
use crate::error::Error;
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::cache::Cache;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::keystore::{self, Request, absence};

/// Whose mail it is.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The delivery user.
    pub user: &'a str,
    /// The user's home, where it is known.
    pub home: Option<&'a Path>,
    /// Files with the certificates to seal to; when there are any, none are looked up.
    pub key_files: &'a [PathBuf],
    /// What was read before, where the process lives on.
    pub cache: Option<&'a Cache>,
}

/// To whom a message goes.
#[derive(Debug)]
pub enum Addressee {
    /// To a user with certificates.
    Sealed {
        /// The keys that messages are sealed to.
        recipients: Recipients,
        /// The user's certificates, as they were found.
        certs: Vec<AnyCert>,
        /// Whether they were looked up: an admin named them, otherwise.
        looked_up: bool,
    },
    /// As it is.
    Clear(Unchanged),
}

/// The rule of `[[users]]` for the user called `name`. Where the certificates are given, the name stands in the log only,
/// and may be any.
///
/// # Errors
/// [`Error::User`].
pub fn rule<'c>(config: &'c Config, whose: &Whose<'_>) -> Result<Option<&'c Rule>, Error> {
    match User::parse(whose.user) {
        Ok(user) => Ok(config.rule(&user)),
        Err(_) if !whose.key_files.is_empty() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds out to whom mail goes at the time `now`. What a rule observes is looked at as if it were sealed: whether that
/// counts is the caller's business.
///
/// # Errors
/// Those of [`keystore::find`], [`absence::prove`] and [`Recipients::choose`]; [`Error::Missing`] for a user who must have
/// a certificate.
pub fn find(config: &Config, whose: &Whose<'_>, now: SystemTime) -> Result<Addressee, Error> {
    let keys = &config.keys;
    let trust = Trust::of_process(keys.trusted_groups.ids());
    match look(config, whose, &trust, now)? {
        Found::Clear(why) => Ok(Addressee::Clear(why)),
        Found::Certs { certs, looked_up } => {
            let certs = any_cert::of_one_kind(certs, keys.format, now);
            let recipients = recipients(keys, whose.user, &certs, (&trust, whose.cache), now)?;
            Ok(Addressee::Sealed { recipients, certs, looked_up })
        }
    }
}

/// The certificates of `whose` mail at the time `now`, whatever they are worth; none where it goes as it is.
///
/// # Errors
/// Those of [`find`], but for what is wrong with the certificates themselves.
pub fn certificates(config: &Config, whose: &Whose<'_>, now: SystemTime) -> Result<Vec<AnyCert>, Error> {
    let trust = Trust::of_process(config.keys.trusted_groups.ids());
    match look(config, whose, &trust, now)? {
        Found::Clear(_) => Ok(Vec::new()),
        Found::Certs { certs, .. } => Ok(certs),
    }
}

/// What is found of a user before its worth is judged.
enum Found {
    /// Certificates, and whether they were looked up.
    Certs { certs: Vec<AnyCert>, looked_up: bool },
    /// None, for this reason.
    Clear(Unchanged),
}

fn look(config: &Config, whose: &Whose<'_>, trust: &Trust, now: SystemTime) -> Result<Found, Error> {
    let rule = rule(config, whose)?;
    if rule.is_some_and(|rule| rule.mode == Mode::Off) {
        return Ok(Found::Clear(Unchanged::Off(Off::Rule)));
    }
    let keys = &config.keys;
    let given = match rule {
        Some(rule) if whose.key_files.is_empty() => &rule.key,
        _ => whose.key_files,
    };
    if !given.is_empty() {
        let certs = keystore::read_all_named(given, trust, whose.cache)?;
        return Ok(Found::Certs { certs, looked_up: false });
    }
    let user = &User::parse(whose.user)?;
    let request = Request {
        given: whose.user,
        cache: whose.cache,
        ..Request::new(keys, user, whose.home, now, trust.clone())
    };
    if let Some(certs) = keystore::find(&keys.sources, &request)? {
        return Ok(Found::Certs { certs, looked_up: true });
    }
    let required =
        rule.is_some_and(|rule| rule.require) || keys.require.iter().any(|pattern| user.matches(pattern));
    if required || keys.missing == WhenMissing::Defer {
        return Err(Error::Missing { user: whose.user.into() });
    }
    Ok(Found::Clear(Unchanged::NoKey(absence::prove(keys, &request)?)))
}

/// `certs` and the recovery certificates, to which every message is sealed, whoever named the certificates.
///
/// # Errors
/// Those of [`keystore::read_recovery`] and [`choose`].
pub fn recipients(
    keys: &Keys,
    user: &str,
    certs: &[AnyCert],
    (trust, cache): (&Trust, Option<&Cache>),
    now: SystemTime,
) -> Result<Recipients, Error> {
    let recovery = keystore::read_recovery(&keys.recovery, trust, cache)?;
    choose(user, (certs, &recovery), keys.preference(), keys.expired, now)
}

/// Chooses among the certificates of the user `user`, and adds the recovery certificates of the same kind. A user who has both
/// kinds gets mail in one of them ([`any_cert::format_used`]).
///
/// # Errors
/// Those of [`Recipients::choose`]; [`CoreError::Recovery`] where there are recovery certificates, and none of this kind.
pub fn choose(
    user: &str,
    (certs, recovery): (&[AnyCert], &[AnyCert]),
    preference: Preference,
    when_expired: WhenExpired,
    now: SystemTime,
) -> Result<Recipients, Error> {
    let openpgp =
        |certs: &[AnyCert]| certs.iter().filter_map(AnyCert::openpgp).cloned().collect::<Vec<Cert>>();
    let smime =
        |certs: &[AnyCert]| certs.iter().filter_map(AnyCert::smime).cloned().collect::<Vec<Certificate>>();
    let lacking = |name: &str| {
        let what =
            format!("mail for {user:?} is sealed with {name}, and `recovery` names no certificate for that");
        Error::from(CoreError::Recovery(what))
    };
    if any_cert::format_used(certs, preference.format, now) == Format::Smime {
        let of_kind = smime(recovery);
        if of_kind.is_empty() && !recovery.is_empty() {
            return Err(lacking("S/MIME"));
        }
        let recipients = Recipients::choose_smime(user, &smime(certs), &of_kind, when_expired, now)?;
        return Ok(recipients.with_key_transport(preference.smime_rsa));
    }
    let of_kind = openpgp(recovery);
    if of_kind.is_empty() && !recovery.is_empty() {
        return Err(lacking("OpenPGP"));
    }
    Ok(Recipients::choose(user, &openpgp(certs), &of_kind, when_expired, now)?)
}

#[cfg(test)]
mod tests {
    use testing::made;

    use super::*;
    use crate::keystore::samples::Site;

    struct Case {
        site: Site,
        config: Config,
        alice: Cert,
        recovery: Cert,
    }

    impl Case {
        /// With a complete register, certificates of Alice's in a file beside the store, and these rules.
        fn new(rules: &str) -> Self {
            let site = Site::new();
            let [alice, recovery] = ["Alice", "Recovery"].map(made::cert);
            site.write("alice.pgp", &made::public(&alice));
            site.write("recovery.pgp", &made::public(&recovery));
            let rules = rules.replace("DIR", site.at("").to_str().unwrap().trim_end_matches('/'));
            let mut config: Config = toml::from_str(&rules).unwrap();
            config.keys = Keys { require: config.keys.require, ..site.keys(&["file:DIR/keys/%{user}.pgp"]) };
            site.init(&config.keys);
            Self { site, config, alice, recovery }
        }

        fn enrol(&self) {
            self.site.write("keys/alice.pgp", &made::public(&self.alice));
        }

        fn find(&self, user: &str, key_files: &[PathBuf]) -> Result<Addressee, Error> {
            find(&self.config, &Whose { user, home: None, key_files, cache: None }, SystemTime::now())
        }

        fn is_missing(&self, user: &str) -> bool {
            match self.find(user, &[]) {
                Err(Error::Missing { user: named }) => named == user,
                Ok(Addressee::Clear(Unchanged::NoKey(_))) => false,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whose certificate mail is sealed to, and whether it was looked up.
    #[track_caller]
    fn sealed_to(found: Result<Addressee, Error>) -> (Vec<String>, bool) {
        match found.unwrap() {
            Addressee::Sealed { certs, looked_up, .. } => {
                (certs.iter().map(AnyCert::fingerprint).collect(), looked_up)
            }
            Addressee::Clear(why) => panic!("{why:?}"),
        }
    }

    fn encryption_key(cert: &Cert) -> String {
        cert.keys().subkeys().last().unwrap().key().keyid().to_hex()
    }

    #[test]
    fn mail_is_sealed_to_what_is_enrolled_or_named() {
        let case = Case::new("");
        let alice = vec![made::fingerprint(&case.alice)];
        let file = [case.site.at("alice.pgp")];
        assert!(!case.is_missing("alice"));
        assert_eq!(sealed_to(case.find("alice", &file)), (alice.clone(), false));
        assert_eq!(
            sealed_to(case.find("../nobody", &file)),
            (alice.clone(), false),
            "a name for the log only"
        );
        assert!(matches!(case.find("../nobody", &[]), Err(Error::User { .. })));
        let given = case.site.write("keys/AliCe.pgp", b"");
        assert!(
            matches!(case.find("AliCe", &[]), Err(Error::KeyStore { .. })),
            "a name that no delivery reads"
        );
        std::fs::remove_file(given).unwrap();
        case.enrol();
        assert_eq!(sealed_to(case.find("Alice", &[])), (alice, true));
        assert!(case.find("alice", &[case.site.at("gone")]).is_err());
    }

    #[test]
    fn a_rule_is_for_those_whom_it_matches() {
        let case = Case::new(
            r#"
            [[users]]
            match = ["off*"]
            mode = "off"
            [[users]]
            match = ["observed"]
            mode = "observe"
            [[users]]
            match = ["named"]
            key = ["DIR/alice.pgp"]
            [[users]]
            match = ["must"]
            require = true
            "#,
        );
        let alice = vec![made::fingerprint(&case.alice)];
        for user in ["off", "Office"] {
            assert!(
                matches!(case.find(user, &[]), Ok(Addressee::Clear(Unchanged::Off(Off::Rule)))),
                "{user}"
            );
        }
        assert!(!case.is_missing("observed") && !case.is_missing("anybody"));
        assert!(case.is_missing("must"));
        assert_eq!(sealed_to(case.find("named", &[])), (alice.clone(), false));
        let other = made::cert("Other");
        let file = [case.site.write("other.pgp", &made::public(&other))];
        assert_eq!(sealed_to(case.find("named", &file)), (vec![made::fingerprint(&other)], false));
        case.enrol();
        assert_eq!(sealed_to(case.find("alice", &[])), (alice, true));
    }

    #[test]
    fn who_must_have_a_certificate_is_not_served_without() {
        let mut case = Case::new("[keys]\nrequire = [\"*@example.org\", \"al*\"]");
        assert!(case.is_missing("alice") && case.is_missing("bob@example.org") && !case.is_missing("bob"));
        case.config.keys.missing = WhenMissing::Defer;
        assert!(case.is_missing("bob"));
        case.enrol();
        assert!(case.find("alice", &[]).is_ok());
    }

    #[test]
    fn every_message_is_sealed_to_the_recovery_certificates_too() {
        let mut case = Case::new("");
        let file = [case.site.at("alice.pgp")];
        let has_recovery = |found: Result<Addressee, Error>| match found.unwrap() {
            Addressee::Sealed { recipients, .. } => {
                recipients.session().unwrap().key_ids().contains(&encryption_key(&case.recovery))
            }
            Addressee::Clear(why) => panic!("{why:?}"),
        };
        assert!(!has_recovery(case.find("alice", &file)));
        case.config.keys.recovery = vec![case.site.at("recovery.pgp")];
        assert!(has_recovery(case.find("alice", &file)));
        case.enrol();
        assert!(has_recovery(case.find("alice", &[])));
        case.config.keys.recovery.push(case.site.at("gone"));
        assert!(case.find("alice", &file).is_err() && case.find("alice", &[]).is_err());
    }
}
