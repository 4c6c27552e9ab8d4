//! Dovecot's version, and what is known to be wrong with it.

use super::findings::Findings;
use crate::dovecot::installation::Installation;

/// Looks at the version.
pub fn check(installation: &Installation, findings: &mut Findings) {
    let (text, version) = installation.version();
    let what = format!("version {text}");
    match version {
        [2, 3 | 4, _] => findings.ok("Dovecot", what.clone()),
        _ => findings.warn(
            "Dovecot",
            format!("{what}: mailseal is tested with 2.3 and 2.4"),
            "check a delivery with: mailseal doctor --user NAME",
        ),
    }
    if installation.runs_filters_with_roots_rights() {
        findings.warn(
            "Dovecot",
            format!(
                "{what} runs filters under LMTP with root as their real user: mailseal-filter gives that up, a shell \
                 script in its place would be root"
            ),
            "update to 2.4.4, and put no script in the filter's place",
        );
    }
}
