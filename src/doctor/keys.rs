//! Checks of the certificates: that deliveries can read them, that nobody else can change them, that they seal.

use std::path::Path;
use std::time::SystemTime;

use super::Findings;
use super::access::{Identity, others_who_can_change};
use crate::config::Config;
use crate::enrol;
use crate::error::Error;
use crate::keystore;
use crate::keystore::enrolled::Enrolled;
use crate::user::User;

/// The name of this check.
const CHECK: &str = "certificates";

/// All checks of this module.
pub fn check(config: &Config, mail_user: Identity, findings: &mut Findings) {
    for folder in config.keys.sources.iter().filter_map(|source| Some(source.path.names()?.0)) {
        check_place(folder, mail_user.can_enter(folder), findings);
    }
    for file in &config.keys.recovery {
        check_place(file, mail_user.can_read(file), findings);
    }
    let sealed = check_enrolled(config, mail_user, findings);
    findings.ok_unless_said(CHECK, format!("{sealed} enrolled users' can be sealed to"));
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
            format!("{who}: others can replace certificates, and so read mail"),
            format!("chown root: {shown} && chmod go-w {shown}, and the same for the folders above"),
        );
    }
}

/// Tries a message on each enrolled user's certificates and the recovery ones; says how many succeeded.
fn check_enrolled(config: &Config, mail_user: Identity, findings: &mut Findings) -> usize {
    let Ok(enrolled) = Enrolled::of(&config.keys.sources) else { return 0 };
    let users = enrolled.users().unwrap_or_default();
    let mut sealed = 0;
    for user in &users {
        match test(&enrolled, user, config, mail_user) {
            Ok(()) => sealed += 1,
            Err(error) => {
                findings.fail(CHECK, format!("mail for {} is deferred: {error}", user.name()), error.hint())
            }
        }
    }
    sealed
}

fn test(enrolled: &Enrolled<'_>, user: &User, config: &Config, mail_user: Identity) -> Result<(), Error> {
    let file = enrolled.file(user, None)?;
    if !mail_user.can_read(file.path()) {
        return Err(Error::KeyStore {
            path: file.path().into(),
            what: "the mail user cannot read it".into(),
            hint: format!("chmod 644 {}", file.path().display()),
        });
    }
    let recovery = keystore::read_recovery(&config.keys.recovery)?;
    enrol::test_seal(user.name(), &file.load()?, &recovery, SystemTime::now()).map(drop)
}
