//! Checks of what surrounds the filter program: its file, its time, its memory, its log, and where Dovecot spools.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::{Statfs, statfs};

use super::access::{Identity, others_who_can_change};
use crate::cli;
use crate::config::Config;
use crate::delivery::filter::DRAIN;
use crate::doctor::findings::Findings;
use crate::dovecot::doveconf;
use crate::dovecot::installation::Installation;
use crate::keystore::source::Source;
use crate::log::Target;
use crate::log::sink::Sink;
use crate::system::sandbox;

/// Address space that the filter needs, with room for a long header and large certificates.
const MEMORY: u64 = 64 << 20;

/// The name of the check of the filter itself.
const CHECK: &str = "program";

/// The checks that need Dovecot's settings only.
pub fn check(installation: &Installation, mail_user: Identity, findings: &mut Findings) {
    check_file(installation, mail_user, findings);
    check_spool(installation, findings);
}

/// The checks that need both.
pub fn check_configured(
    installation: &Installation,
    config: &Config,
    mail_user: Identity,
    findings: &mut Findings,
) {
    check_time(installation, config, findings);
    check_memory(installation, config, findings);
    check_log(config, mail_user, findings);
}

fn check_file(installation: &Installation, mail_user: Identity, findings: &mut Findings) {
    let Some(folder) = installation.sieve_setting("lmtp", "sieve_filter_bin_dir") else {
        return findings.fail(
            CHECK,
            "sieve_filter_bin_dir is not set: the filter cannot be found, and every delivery is deferred",
            format!("sieve_filter_bin_dir = {}", programs().display()),
        );
    };
    let path = PathBuf::from(folder).join(cli::FILTER);
    let install = format!("install -m 755 mailseal-filter {}", path.display());
    if let Some(folder) = mail_user.closed_folder(&path) {
        return findings.fail(
            CHECK,
            format!("the mail user cannot enter {}: every delivery is deferred", folder.display()),
            format!("chmod a+x {}", folder.display()),
        );
    }
    if !mail_user.can_run(&path) {
        return findings.fail(
            CHECK,
            format!(
                "{} is not there, or the mail user cannot run it: every delivery is deferred",
                path.display()
            ),
            install,
        );
    }
    match others_who_can_change(&path) {
        None => check_name(&path, findings),
        Some(who) => findings.fail(
            CHECK,
            format!("{who}: others can put another program in its place"),
            format!("chown root: {0} && chmod 755 {0}, and the same for the folders above", path.display()),
        ),
    }
    if is_script(&path) && installation.runs_filters_with_roots_rights() {
        findings.fail(
            CHECK,
            format!("{} is a script, which this Dovecot runs with root as its real user", path.display()),
            install,
        );
    }
    findings.ok_unless_said(CHECK, path.display().to_string());
}

/// Asks the program who it is; not where another than root may have written it.
fn check_name(path: &Path, findings: &mut Findings) {
    let said = doveconf::output(std::process::Command::new(path).arg("--version"));
    let ours = format!("{} {}", cli::FILTER, env!("CARGO_PKG_VERSION"));
    match said.as_deref().map(str::trim) {
        Ok(said) if said == ours => {}
        Ok(said) if said.starts_with(cli::FILTER) => findings.warn(
            CHECK,
            format!("{} is {said}, and this is {ours}", path.display()),
            "install both programs from one build",
        ),
        Ok(_) | Err(_) => findings.fail(
            CHECK,
            format!("{} does not answer as {}: whatever it writes is stored", path.display(), cli::FILTER),
            format!("install -m 755 mailseal-filter {}", path.display()),
        ),
    }
}

/// Where the filter of this installation is: beside this program, below the same prefix.
fn programs() -> PathBuf {
    const BELOW: &str = "lib/mailseal/bin";
    let own = std::env::current_exe().ok();
    let prefix = own.as_deref().and_then(Path::parent).and_then(Path::parent);
    let folder = prefix.map(|prefix| prefix.join(BELOW)).filter(|folder| folder.join(cli::FILTER).exists());
    folder.unwrap_or_else(|| Path::new("/usr/local").join(BELOW))
}

fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"#!"
}

/// The check of what the kernel has to confine the filter with.
pub fn check_sandbox(findings: &mut Findings) {
    const CHECK: &str = "sandbox";
    for what in sandbox::missing() {
        findings.warn(
            CHECK,
            format!("{what}: a fault in the filter finds more to open than the message"),
            "use a kernel with Landlock (5.13 or later, lsm=landlock,...) and seccomp, and containers that let both through",
        );
    }
    findings.ok_unless_said(CHECK, "deliveries give up everything but the message");
}

fn check_time(installation: &Installation, config: &Config, findings: &mut Findings) {
    const CHECK: &str = "time limit";
    let allowed = Duration::from_secs(installation.filter_timeout());
    let needed = config.message.deadline + DRAIN;
    let said = format!(
        "deadline {} s and {} s to read on, sieve_filter_exec_timeout {} s",
        config.message.deadline.as_secs(),
        DRAIN.as_secs(),
        allowed.as_secs()
    );
    if needed < allowed {
        findings.ok(CHECK, said);
    } else {
        findings.fail(
            CHECK,
            format!("{said}: Dovecot's limit strikes first, and Dovecot panics"),
            format!("sieve_filter_exec_timeout = {}s", needed.as_secs() + 8),
        );
    }
}

fn check_memory(installation: &Installation, config: &Config, findings: &mut Findings) {
    const CHECK: &str = "memory";
    let keyrings = config.keys.sources.iter().any(Source::needs_address);
    for service in ["lmtp", "imap"] {
        let limit = installation.memory_limit(service);
        let shown = limit >> 20;
        let mend = format!("service {service} {{ vsz_limit = 256M }}");
        if limit != 0 && limit < MEMORY {
            findings.fail(
                CHECK,
                format!("service {service} has {shown} MB: the filter may not start, and every delivery is deferred"),
                mend,
            );
        } else if limit != 0 && limit < 4 * MEMORY && keyrings {
            findings.warn(
                CHECK,
                format!("service {service} has {shown} MB: a large keyring may not fit"),
                mend,
            );
        }
    }
    findings.ok_unless_said(CHECK, "the services have room for the filter");
}

fn check_spool(installation: &Installation, findings: &mut Findings) {
    const CHECK: &str = "spool";
    let folder = installation.temporary_folder();
    match statfs(&folder) {
        Ok(file_system) if is_in_memory(&file_system) => {
            findings.ok(CHECK, format!("mail_temp_dir {} is in memory", folder.display()));
        }
        Ok(_) => findings.warn(
            CHECK,
            format!(
                "mail_temp_dir {} is on a disk: mail over 128 KB lies there in clear while it is delivered",
                folder.display()
            ),
            "mail_temp_dir = /dev/shm, in Dovecot's configuration; then: doveadm reload",
        ),
        Err(error) => findings.fail(
            CHECK,
            format!("mail_temp_dir {}: {error}: large mail cannot be delivered", folder.display()),
            "mail_temp_dir = /dev/shm, in Dovecot's configuration; then: doveadm reload",
        ),
    }
}

#[cfg(target_os = "linux")]
fn is_in_memory(file_system: &Statfs) -> bool {
    file_system.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(file_system: &Statfs) -> bool {
    matches!(file_system.filesystem_type_name(), "mfs" | "tmpfs")
}

fn check_log(config: &Config, mail_user: Identity, findings: &mut Findings) {
    const CHECK: &str = "log";
    match &config.log.to {
        Target::Syslog if matches!(Sink::open(&Target::Syslog, cli::ADMIN), Sink::None) => findings.warn(
            CHECK,
            "there is no syslog on this machine: nobody sees what is sealed and what is deferred",
            "start a syslog, or set in [log]: to = \"file:/var/log/mailseal.log\"",
        ),
        Target::None => findings.warn(CHECK, "nothing is logged", "in [log]: to = \"syslog\""),
        Target::Syslog => findings.ok(CHECK, "goes to syslog"),
        Target::Stderr => findings.ok(CHECK, "goes to Dovecot's own log"),
        Target::File(path) if !mail_user.can_write(path) => findings.warn(
            CHECK,
            format!("{}: the mail user cannot write to it: deliveries leave no line", path.display()),
            "in [log]: to = \"syslog\"; or a file that all mail users can write to",
        ),
        Target::File(path) => findings.ok(CHECK, format!("goes to {}", path.display())),
    }
}
