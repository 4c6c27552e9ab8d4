//! Checks of the trap: the folder that cannot be delivered to, which turns a failure into a deferral.

use super::access::others_who_can_change;
use super::findings::Findings;
use super::scripts::Script;
use crate::dovecot::installation::{Installation, Namespace};

/// The name of this check.
const CHECK: &str = "trap";

/// Looks at the namespace that `script` files into, for each way in which mail comes.
pub fn check(installation: &Installation, script: &Script, findings: &mut Findings) {
    let Some(folder) = &script.refuge else { return };
    let include = if installation.is_2_4() { "dovecot-2.4.conf" } else { "dovecot-2.3.conf" };
    let protocols = if installation.has_lmtp() { &["lmtp", "lda"][..] } else { &["lda"] };
    for protocol in protocols {
        let namespaces = installation.namespaces(protocol);
        let has_folder =
            |namespace: &&Namespace| !namespace.prefix.is_empty() && folder.starts_with(&namespace.prefix);
        match namespaces.iter().find(has_folder) {
            Some(namespace) => check_namespace(namespace, folder, findings),
            None => findings.fail(
                CHECK,
                format!("no namespace of protocol {protocol} has the folder {folder}: what cannot be sealed is stored in clear"),
                format!("add the namespace failclosed to protocol {protocol}, as in sieve/{include}"),
            ),
        }
    }
    findings.ok_unless_said(CHECK, format!("{folder} cannot be delivered to"));
}

fn check_namespace(namespace: &Namespace, folder: &str, findings: &mut Findings) {
    let make =
        |path: &str| format!("install -d -m 755 -o root {path} && install -m 444 /dev/null {path}/.defer");
    let Some(path) = &namespace.path else {
        return findings.fail(
            CHECK,
            format!(
                "the namespace {} has no path of its own: mail filed there is stored in clear",
                namespace.prefix
            ),
            make("/var/lib/mailseal/failclosed"),
        );
    };
    let shown = path.display().to_string();
    if let Some(who) = others_who_can_change(path) {
        findings.fail(
            CHECK,
            format!("{who}: the mail user may deliver into it, and then mail that cannot be sealed is stored there in clear"),
            format!("chown root: {shown} && chmod 755 {shown}, and the same for the folders above"),
        );
    }
    let name = folder.strip_prefix(&namespace.prefix).unwrap_or(folder);
    let file = path.join(format!(".{name}"));
    if file.is_dir() {
        findings.fail(
            CHECK,
            format!("{} is a folder: what cannot be sealed may be stored there in clear", file.display()),
            format!("rmdir {0}; install -m 444 /dev/null {0}", file.display()),
        );
    } else if !file.exists() {
        findings.warn(
            CHECK,
            format!("{} is not there: only the rights of its folder hold mail back", file.display()),
            make(&shown),
        );
    }
}
