//! Checks of the Sieve script that seals: that it is run, first of all, compiles, and holds back what it cannot seal.

use std::path::{Path, PathBuf};

use super::access::{Identity, others_who_can_change};
use crate::cli;
use crate::doctor::findings::Findings;
use crate::dovecot::doveconf;
use crate::dovecot::installation::Installation;

/// The name of this check.
const CHECK: &str = "script";

/// The script that seals.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its file.
    pub path: PathBuf,
    /// The configuration that it names.
    pub config: Option<PathBuf>,
    /// The folder that it files into what cannot be sealed.
    pub refuge: Option<String>,
}

/// Looks for the script that seals, and at it.
pub fn check(installation: &Installation, mail_user: Identity, findings: &mut Findings) -> Option<Script> {
    check_plugins(installation, findings);
    let first = if installation.has_lmtp() { "lmtp" } else { "lda" };
    let scripts = installation.scripts_before_of(first);
    let is_ours = |path: &&PathBuf| read(path).is_some_and(|text| text.contains(cli::FILTER));
    let Some(path) = scripts.iter().find(is_ours) else {
        let settings = if installation.is_2_4() { "dovecot-2.4.conf" } else { "dovecot-2.3.conf" };
        let missing = scripts.iter().find(|path| !path.exists());
        let what = missing.map_or_else(
            || {
                let others = others(&scripts) + &winner(installation) + &not_reached(installation, first);
                format!(
                    "no before-script of protocol {first} runs {}: all mail is stored in clear{others}",
                    cli::FILTER
                )
            },
            |path| format!("{} does not exist, and Dovecot then delivers in clear", path.display()),
        );
        findings.fail(
            CHECK,
            what,
            format!("mailseal setup; or by hand: install sieve/mailseal.sieve and include sieve/{settings}"),
        );
        return None;
    };
    let before: Vec<String> = scripts
        .iter()
        .take_while(|script| *script != path)
        .filter(|script| !is_empty(script))
        .map(|script| script.display().to_string())
        .collect();
    if !before.is_empty() {
        findings.fail(
            CHECK,
            format!("{} runs before it: where that ends in `stop`, mail stays in clear", before.join(", ")),
            "make mailseal's script the first (sieve_before in 2.3, the first sieve_script block in 2.4)",
        );
    }
    if first == "lmtp" && installation.scripts_before_of("lda").first() != scripts.first() {
        findings.fail(
            CHECK,
            format!(
                "protocol lda has before-scripts of its own: what dovecot-lda delivers is not sealed{}",
                others(&installation.scripts_before_of("lda"))
            ),
            "take sieve_before out of protocol lda",
        );
    }
    check_rights(path, mail_user, findings);
    check_compiled(installation, path, findings);
    let text = read(path).unwrap_or_default();
    let script = Script { path: path.clone(), config: config(&text), refuge: refuge(&text) };
    check_refuge(&script, findings);
    if installation.setting("lmtp", "lda_mailbox_autocreate") != Some("yes") {
        findings.fail(
            CHECK,
            "a user's script that files into a folder that is missing fails, and Pigeonhole then stores the clear mail",
            "lda_mailbox_autocreate = yes",
        );
    }
    findings.ok_unless_said(CHECK, path.display().to_string());
    Some(script)
}

/// The text of a script without its comments.
fn read(path: &Path) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    Some(without_comments(&String::from_utf8_lossy(&text)))
}

/// A script without its `#` comments. One that stands in a string goes, too; what is looked for here stands in none.
#[must_use]
pub fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The line that takes the place of ours, where two give `sieve_before` a value.
fn winner(installation: &Installation) -> String {
    let lines = installation.written(&|key| key == "sieve_before");
    match &lines[..] {
        [first, .., last] => format!("; {} is written over by {}", first.place(), last.place()),
        _ => String::new(),
    }
}

/// What is set and does not run.
fn not_reached(installation: &Installation, protocol: &str) -> String {
    let settings = installation.scripts_not_reached(protocol);
    let first = settings.first();
    first.map_or_else(String::new, |setting| {
        format!("; {setting} is set, and Dovecot goes no further than the first number that is missing")
    })
}

/// What runs in the place of ours.
fn others(scripts: &[PathBuf]) -> String {
    let names: Vec<String> = scripts.iter().map(|script| script.display().to_string()).collect();
    if names.is_empty() { String::new() } else { format!(" ({} runs)", names.join(", ")) }
}

fn is_empty(path: &Path) -> bool {
    read(path).is_some_and(|text| text.trim().is_empty())
}

fn check_plugins(installation: &Installation, findings: &mut Findings) {
    let lines = if installation.is_2_4() {
        "mail_plugins { sieve = yes }"
    } else {
        "mail_plugins = $mail_plugins sieve"
    };
    let unsieved = |protocol: &str| !installation.plugins(protocol).contains(&"sieve");
    let what = |how: &str| format!("{how} runs no Sieve scripts: what it delivers is stored in clear");
    if installation.has_lmtp() && unsieved("lmtp") {
        findings.fail("Sieve plugin", what("LMTP"), format!("in protocol lmtp: {lines}"));
    }
    if unsieved("lda") {
        findings.fail("Sieve plugin", what("dovecot-lda"), format!("in protocol lda: {lines}"));
    }
    findings.ok_unless_said("Sieve plugin", "runs over LMTP and in dovecot-lda");
}

fn check_rights(path: &Path, mail_user: Identity, findings: &mut Findings) {
    if let Some(who) = others_who_can_change(path) {
        findings.fail(
            CHECK,
            format!("{who}: others can change the script that seals"),
            format!("chown root: {0} && chmod 644 {0}, and the same for its folders (755)", path.display()),
        );
    }
    if !mail_user.can_read(path) {
        findings.fail(
            CHECK,
            format!("{}: the mail user cannot read it, and Dovecot then delivers in clear", path.display()),
            mail_user.closed_folder(path).map_or_else(
                || format!("chmod 644 {}", path.display()),
                |folder| format!("chmod a+x {}", folder.display()),
            ),
        );
    }
}

/// Compiles it as Dovecot would, and looks whether that has been done.
fn check_compiled(installation: &Installation, path: &Path, findings: &mut Findings) {
    let mend = format!("sievec {}", path.display());
    if let Err(why) = compile(installation, path) {
        return findings.fail(
            CHECK,
            format!("{} does not compile, and Dovecot then delivers in clear: {why}", path.display()),
            "correct the script, or enable sieve_extprograms and the extensions vnd.dovecot.filter and vnd.dovecot.environment",
        );
    }
    let time = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let binary = time(&path.with_extension("svbin"));
    if binary.is_none() || binary <= time(path) {
        findings.warn(
            CHECK,
            format!(
                "{} is not compiled, or not after its last change: each delivery compiles it",
                path.display()
            ),
            mend,
        );
    }
}

/// Compiles a script as Dovecot would, and keeps nothing.
///
/// # Errors
/// What the compiler says.
pub fn compile(installation: &Installation, path: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut sievec = doveconf::command("sievec", installation.config.as_deref());
    doveconf::output(sievec.arg(path).arg(folder.path().join("out.svbin"))).map(drop)
}

fn check_refuge(script: &Script, findings: &mut Findings) {
    let mend = "use sieve/mailseal.sieve, which defers such mail";
    match &script.refuge {
        None => findings.fail(CHECK, "it delivers in clear what cannot be sealed", mend),
        Some(folder) if !is_trap(folder) => {
            findings.fail(CHECK, format!("it files in clear into {folder} what cannot be sealed"), mend);
        }
        Some(_) => {}
    }
}

/// Whether a folder is one that our trap namespace has.
fn is_trap(folder: &str) -> bool {
    folder.to_ascii_uppercase().contains("FAILCLOSED")
}

/// What `set "config" "…"` or `"--config", "…"` says.
fn config(text: &str) -> Option<PathBuf> {
    let after = text.split_once("set \"config\"").or_else(|| text.split_once("\"--config\","))?.1;
    quoted(after).map(PathBuf::from)
}

/// The folder of the last `fileinto`.
fn refuge(text: &str) -> Option<String> {
    // The first one is in `require`.
    let after = text.rsplit_once("fileinto ")?.1;
    quoted(after).map(str::to_owned)
}

fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_scripts_are_understood() {
        let rows = [
            (include_str!("../../sieve/mailseal.sieve"), Some("FAILCLOSED.defer")),
            (include_str!("../../sieve/mailseal-quarantine.sieve"), Some("Quarantine")),
            (include_str!("../../sieve/mailseal-deliver-clear.sieve"), None),
        ];
        for (text, folder) in rows {
            let text = without_comments(text);
            assert_eq!(config(&text), Some(PathBuf::from("/etc/mailseal.toml")));
            assert_eq!(refuge(&text).as_deref(), folder);
        }
    }
}
