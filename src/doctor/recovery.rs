//! Checks of the recovery certificates: who else can read what is sealed, and whether that was ever tried.

use std::path::Path;

use super::findings::Findings;
use super::users::Users;
use crate::config::Config;
use crate::keys::recovery::certificate;
use crate::keystore;
use crate::keystore::trust::Trust;

/// The name of this check.
const CHECK: &str = "recovery";

/// Looks at each file that `recovery` names, by the rules of deliveries to the users that Dovecot has.
pub fn check(config: &Config, users: &Users, findings: &mut Findings) {
    let trust = Trust::of(users.mail_user().uid, config.keys.trusted_groups.ids());
    config.keys.recovery.iter().for_each(|file| check_recovery(file, &trust, findings));
}

/// Says who else can read what is sealed, and whether that was ever tried.
fn check_recovery(file: &Path, trust: &Trust, findings: &mut Findings) {
    let certs = match keystore::read_named(file, trust, None) {
        Ok(certs) => certs,
        Err(error) => return findings.fail(CHECK, error.to_string(), error.hint()),
    };
    // It was read above: what cannot be read now tells of no rehearsal.
    let rehearsal = certificate::rehearsal(&std::fs::read(file).unwrap_or_default());
    for cert in &certs {
        let reads =
            format!("every sealed message can also be read with recovery certificate {}", cert.fingerprint());
        match (certificate::division(cert), &rehearsal) {
            (Some(division), Some(rehearsal)) => {
                findings.ok(CHECK, format!("{reads}: {division}, rehearsed on {rehearsal}"));
            }
            (Some(division), None) => findings.warn(
                CHECK,
                format!("{reads}: {division}, and nobody has rehearsed that they give its key"),
                format!(
                    "mailseal keys recovery test {} --share FILE, with --share for each share",
                    file.display()
                ),
            ),
            (None, _) => findings.ok(CHECK, reads),
        }
    }
}

#[cfg(test)]
mod tests {
    use testing::made;

    use super::*;
    use crate::console::date;
    use crate::keystore::samples::Site;

    #[test]
    fn it_is_said_who_else_can_read_and_whether_that_was_tried() {
        let site = Site::new();
        let name = certificate::name(3, 5);
        let cert = made::cert(&name).strip_secret_key_material();
        let shares = certificate::usable(&cert, made::birth(), &[1, 2, 4]).unwrap();
        let (fingerprint, day) = (made::fingerprint(&cert), date::day(Some(made::birth())));
        let reads = format!("every sealed message can also be read with recovery certificate {fingerprint}");
        let rows = [
            (shares, "ok", format!("{reads}: 3 of 5 shares, rehearsed on {day} with shares 1, 2, 4\n")),
            (made::armored(&cert), "warning", format!("{reads}: 3 of 5 shares, and nobody has rehearsed")),
            (made::public(&made::cert("Vault")), "ok", "can also be read with recovery certificate ".into()),
            (certificate::pending(&cert).unwrap(), "FAILURE", "recovery.pgp".into()),
        ];
        for (file, severity, what) in rows {
            let (mut findings, mut text) = (Findings::default(), Vec::new());
            let path = site.write("recovery.pgp", &file);
            check_recovery(&path, &Trust::of_process(&[]), &mut findings);
            findings.write(&mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.starts_with(severity) && text.contains(&what), "{text}");
        }
    }
}
