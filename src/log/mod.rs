//! The log line: one a message, `key=value`, for an admin's eyes and for `mailseal report`.
//!
//! It holds no text of the message but its Message-ID. [`sink`] takes it where it goes; [`entry`] and [`clock`] read it again;
//! [`words`] says what its words mean.

pub mod clock;
pub mod entry;
pub mod sink;
pub mod words;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use mailseal_core::recipients::{Format, Warning};
use mailseal_core::seal::Sealed;

use crate::console::escape;
use crate::limits;

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// syslog, facility mail.
    Syslog,
    /// Standard error.
    Stderr,
    /// Nowhere.
    None,
    /// The end of this file.
    File(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "syslog" => Ok(Self::Syslog),
            "stderr" => Ok(Self::Stderr),
            "none" => Ok(Self::None),
            _ => match text.strip_prefix("file:") {
                Some(path) if !path.is_empty() => Ok(Self::File(path.into())),
                _ => Err("expected syslog, stderr, none or file:PATH".into()),
            },
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was sealed.
    Sealed,
    /// It went out as it came in.
    Unchanged,
    /// It went out as it came in, and was sealed on trial: its user is observed.
    WouldSeal,
    /// It was kept, to be tried again by this program.
    Held,
    /// It was refused, to be delivered again.
    #[default]
    Deferred,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sealed, Self::Unchanged, Self::WouldSeal, Self::Held, Self::Deferred];

    /// The word in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Unchanged => "unchanged",
            Self::WouldSeal => "would-seal",
            Self::Held => "held",
            Self::Deferred => "deferred",
        }
    }
}

/// The door of `mailseal serve` that a message came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// LMTP, before Dovecot.
    Lmtp,
    /// LMTP or SMTP, on the way out.
    Outgoing,
    /// Dovecot's script socket.
    Sieve,
}

impl Door {
    /// The word in the log, and in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lmtp => "lmtp",
            Self::Outgoing => "outgoing",
            Self::Sieve => "sieve",
        }
    }
}

/// What is told about one message. Sizes are in bytes.
#[derive(Clone, Debug, Default)]
pub struct LogLine {
    /// The delivery user.
    pub user: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was not sealed.
    pub reason: Option<&'static str>,
    /// What to look at although it was.
    pub warnings: Vec<Warning>,
    /// The keys it was sealed to.
    pub key_ids: Vec<String>,
    /// The container.
    pub format: Option<Format>,
    /// Size of the message.
    pub bytes_in: u64,
    /// What the content of the encrypted packet was filled up to, where it was: then nothing is told of the message's own size.
    pub class: Option<u64>,
    /// Size of what went out.
    pub bytes_out: u64,
    /// Time to find, check and use the certificates.
    pub key_time: Duration,
    /// Time in all.
    pub time: Duration,
    /// The door it came through, where it came through one.
    pub door: Option<Door>,
    /// The number of a heartbeat, where it is one.
    pub heartbeat: Option<u64>,
    /// The Message-ID, where the configuration wants it.
    pub message_id: Option<Vec<u8>>,
}

impl LogLine {
    /// Notes what the message is sealed to.
    pub fn note(&mut self, sealed: Sealed) {
        self.warnings = sealed.warnings;
        self.key_ids = sealed.key_ids;
        self.format = Some(sealed.format);
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |text: &[u8]| escape::log_value(text, limits::LOG_VALUE);
        let warnings: Vec<_> = self.warnings.iter().map(|warning| warning.name()).collect();
        write!(
            f,
            "user={} outcome={} reason={} warn={} keys={} format={} in={} out={} key_ms={:.1} ms={:.1}",
            value(self.user.as_bytes()),
            self.outcome.name(),
            self.reason.unwrap_or("-"),
            value(warnings.join(",").as_bytes()),
            value(self.key_ids.join(",").as_bytes()),
            self.format.map_or("-", Format::name),
            self.class.unwrap_or(self.bytes_in),
            self.bytes_out,
            self.key_time.as_secs_f64() * 1e3,
            self.time.as_secs_f64() * 1e3,
        )?;
        if let Some(door) = self.door {
            write!(f, " door={}", door.name())?;
        }
        if let Some(number) = self.heartbeat {
            write!(f, " heartbeat={number}")?;
        }
        match &self.message_id {
            Some(id) => write!(f, " msgid={}", value(id)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_that_of_the_contract() {
        let line = LogLine {
            user: "alice b".into(),
            outcome: Outcome::Sealed,
            warnings: vec![Warning::Expired, Warning::SomeKeysUnusable],
            key_ids: vec!["5C96AB".into(), "771B".into()],
            format: Some(Format::Seipd1),
            bytes_in: 12,
            bytes_out: 345,
            key_time: Duration::from_micros(420),
            time: Duration::from_millis(41),
            door: Some(Door::Lmtp),
            heartbeat: Some(7),
            message_id: Some(b"<a b=c\n>".to_vec()),
            ..LogLine::default()
        };
        assert_eq!(
            line.to_string(),
            "user=alice\\x20b outcome=sealed reason=- warn=expired,some-keys-unusable keys=5C96AB,771B \
             format=seipd1 in=12 out=345 key_ms=0.4 ms=41.0 door=lmtp heartbeat=7 msgid=<a\\x20b\\x3dc\\x0a>"
        );
        assert!(
            LogLine::default()
                .to_string()
                .starts_with("user=- outcome=deferred reason=- warn=- keys=- format=- ")
        );
    }
}
