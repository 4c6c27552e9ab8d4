//! Whose mail waits, and since when, from the mail log: it alone tells that mail came.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::config::Config;
use crate::error::Error;
use crate::keystore::user::User;
use crate::log::entry::{Delivery, What};
use crate::log::{Outcome, Target};
use crate::report;

/// Most users who are told apart: those who come after them are told of in the next run.
const MOST: usize = 50_000;

/// That mail of a user's was deferred, and none was delivered since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The first deferral, where the log says when.
    pub since: Option<Timestamp>,
    /// Why, in the word of the log.
    pub reason: String,
}

/// Who waits.
pub type Waiting = BTreeMap<User, Waits>;

/// Reads `logs`; where none are named, the file that the configuration has the log written to, or else this machine's own log.
///
/// # Errors
/// [`Error::Log`]; [`Error::Usage`] where there is no log.
pub fn read(config: &Config, logs: &[PathBuf]) -> Result<Waiting, Error> {
    let configured = match &config.log.to {
        Target::File(path) => Some(path.clone()),
        Target::Syslog | Target::Stderr | Target::None => None,
    };
    let configured: Vec<PathBuf> = configured.into_iter().collect();
    let mut waiting = Waiting::new();
    report::each_entry(if logs.is_empty() { &configured } else { logs }, &mut |entry| {
        if let What::Delivery(delivery) = &entry.what {
            add(&mut waiting, delivery, entry.time.map(|time| time.instant));
        }
    })?;
    Ok(waiting)
}

fn add(waiting: &mut Waiting, delivery: &Delivery<'_>, time: Option<Timestamp>) {
    let Ok(user) = User::parse(&delivery.user) else { return };
    match delivery.outcome {
        Outcome::Sealed | Outcome::Unchanged | Outcome::WouldSeal => drop(waiting.remove(&user)),
        Outcome::Deferred if waiting.len() < MOST || waiting.contains_key(&user) => {
            let first = || Waits { since: time, reason: delivery.reason.to_string() };
            // The first time, and the last reason.
            waiting.entry(user).or_insert_with(first).reason = delivery.reason.to_string();
        }
        Outcome::Deferred | Outcome::Held => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_does_so_until_something_is_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let line = |day: u8, user: &str, outcome: &str, reason: &str| {
            format!(
                "2026-11-{day:02}T10:00:00+00:00 host mailseal-filter[1]: user={user} outcome={outcome} \
                 reason={reason} in=1 out=0 key_ms=0.1 ms=0.2\n"
            )
        };
        let lines = [
            line(1, "alice", "deferred", "no-usable-key"),
            line(2, "Alice", "deferred", "no-usable-key"),
            line(2, "bob", "deferred", "key-store"),
            line(3, "bob", "sealed", "-"),
            line(4, "carol", "sealed", "-"),
            line(5, "dave", "deferred", "key-store"),
            line(6, "dave", "deferred", "no-usable-key"),
            "a line of another program\n".into(),
        ];
        std::fs::write(&log, lines.concat()).unwrap();
        let config: Config = toml::from_str(&format!("[log]\nto = \"file:{}\"", log.display())).unwrap();
        let waiting = read(&config, &[]).unwrap();
        let told: Vec<_> = waiting
            .iter()
            .map(|(user, waits)| (user.name(), waits.since.unwrap().to_string(), &*waits.reason))
            .collect();
        let expected = [
            ("alice", "2026-11-01T10:00:00Z".to_owned(), "no-usable-key"),
            ("dave", "2026-11-05T10:00:00Z".to_owned(), "no-usable-key"),
        ];
        assert_eq!(told, expected);
        assert_eq!(read(&Config::default(), &[log]).unwrap(), waiting);
        assert!(read(&config, &[folder.path().join("gone")]).is_err());
    }
}
