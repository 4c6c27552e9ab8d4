//! Edge: The Dovecot that runs: whether it has our settings, and that it takes them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::dovecot::Dovecot;
use super::refusal;
use crate::dovecot::config_socket::{self, Answer, ConfigSocket, Silence};
use crate::dovecot::doveconf;
use crate::dovecot::userdb::Userdb;
use crate::error::Error;

/// For whom a Dovecot 2.3 is asked: who stores mail.
const SERVICE: &str = "lmtp";

/// How long Dovecot may take to take new settings.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it is waited before Dovecot is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// What the running Dovecot must have.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The script that seals.
    pub script: PathBuf,
    /// In 2.3, the settings of the Sieve plugin for LMTP.
    pub values: Vec<(String, String)>,
    /// When our file was written: a Dovecot 2.4 that read its settings before does not have it.
    pub since: Option<SystemTime>,
}

impl Proof {
    fn is_in(&self, answer: &Answer) -> bool {
        let text = String::from_utf8_lossy(&answer.bytes);
        let has = |(key, value): &(String, String)| {
            let line = format!("plugin/{key}={value}");
            text.lines().any(|found| found == line)
        };
        let is_new = answer.read.is_none() || answer.read >= self.since;
        is_named(&self.script, answer) && is_new && self.values.iter().all(has)
    }
}

fn is_named(script: &Path, answer: &Answer) -> bool {
    let script = script.as_os_str().as_encoded_bytes();
    answer.bytes.windows(script.len()).any(|window| window == script)
}

/// Whether the Dovecot of this configuration runs.
#[must_use]
pub fn is_running(dovecot: &Dovecot) -> bool {
    let number = std::fs::read_to_string(config_socket::base(dovecot.named.as_deref()).join("master.pid"));
    let pid = number.ok().and_then(|text| text.trim().parse().ok());
    pid.is_some_and(|pid| pid > 0 && kill(Pid::from_raw(pid), None).is_ok())
}

/// Whether the running Dovecot has what is to be proven.
///
/// # Errors
/// [`Error::Setup`] where it does not say.
pub fn has(dovecot: &Dovecot, proof: &Proof) -> Result<bool, Error> {
    ask(dovecot).map(|answer| proof.is_in(&answer))
}

/// Whether the running Dovecot names `script`.
///
/// # Errors
/// [`Error::Setup`] where it does not say.
pub fn names(dovecot: &Dovecot, script: &Path) -> Result<bool, Error> {
    ask(dovecot).map(|answer| is_named(script, &answer))
}

/// Has Dovecot read its settings again.
///
/// # Errors
/// What `doveadm` says.
pub fn tell(dovecot: &Dovecot) -> Result<(), String> {
    doveconf::output(doveconf::command("doveadm", dovecot.named.as_deref()).arg("reload")).map(drop)
}

/// Waits until `is_so` of the running Dovecot.
///
/// # Errors
/// [`Error::Setup`] where that takes too long.
pub fn wait_until(mut is_so: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        // While it reloads, it may not answer.
        match is_so() {
            Ok(true) => return Ok(()),
            answer if begin.elapsed() > PATIENCE => {
                answer?;
                return Err(refusal(
                    "the Dovecot that runs did not take the settings",
                    "see its log; where it is another Dovecot than this configuration's, name that with --dovecot-config",
                ));
            }
            _ => std::thread::sleep(PAUSE),
        }
    }
}

/// Waits until the running Dovecot tells of its users again, which takes a moment after it has read its settings: for some
/// seconds, since there are databases that never do.
pub fn wait_for_users(dovecot: &Dovecot) {
    let begin = Instant::now();
    let tells = || Userdb::of_dovecot(dovecot.named.as_deref()).and_then(|mut userdb| userdb.list()).is_ok();
    while !tells() && begin.elapsed() < PATIENCE / 2 {
        std::thread::sleep(PAUSE);
    }
}

fn ask(dovecot: &Dovecot) -> Result<Answer, Error> {
    let socket = ConfigSocket::of(dovecot.named.as_deref());
    let asked = if dovecot.is_2_4 { socket.ask_2_4() } else { socket.ask_2_3(SERVICE) };
    asked.map_err(|silence| {
        let why = match silence {
            Silence::NotRunning => "nothing listens".into(),
            Silence::Other(why) => why,
        };
        refusal(
            format!("the Dovecot that runs does not say what settings it has: {why}"),
            "see its log, or restart it",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_from_what_is_written() {
        let proof = Proof {
            script: "/m.sieve".into(),
            values: vec![("sieve_before".into(), "/m.sieve".into()), ("sieve_plugins".into(), "a b".into())],
            since: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(10)),
        };
        let old = |bytes: &[u8]| Answer { bytes: bytes.into(), read: None };
        assert!(proof.is_in(&old(b"x=1\nplugin/sieve_before=/m.sieve\nplugin/sieve_plugins=a b\n\n")));
        assert!(!proof.is_in(&old(b"plugin/sieve_before=/m.sieve\nplugin/sieve_plugins=a\n\n")));
        assert!(!is_named(&proof.script, &old(b"plugin/sieve_before=/other.sieve\n")));
        let new = |seconds| Answer {
            bytes: b"\0/m.sieve\0".into(),
            read: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        };
        let proof = Proof { values: Vec::new(), ..proof };
        assert!(proof.is_in(&new(10)) && !proof.is_in(&new(9)));
    }
}
