//! Checks of the authorities that S/MIME certificates must lead to, and of their revocation lists.

use std::time::SystemTime;

use mailseal_core::smime::chain;

use super::findings::Findings;
use crate::config::Config;
use crate::keys::revoked::Lists;
use crate::keystore::authorities;
use crate::keystore::trust::Trust;

/// The name of this check.
const CHECK: &str = "authorities";

/// Looks at the authorities that S/MIME certificates must lead to, and at their lists. No delivery asks for them.
pub fn check(config: &Config, now: SystemTime, findings: &mut Findings) {
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

#[cfg(test)]
mod tests {
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
            check(&config, now, &mut findings);
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
        check(&config, now, &mut findings);
        assert!(findings.say("the revocation list says nothing: it is broken"), "{findings:?}");
    }
}
