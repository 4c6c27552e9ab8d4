//! What became of messages, counted: by folder, by Maildir, in all.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::console::escape;
use crate::limits;
use crate::mailbox::encrypt::message::Readable;

/// Why a message that was not sealed still lies there for the server to read.
pub const READABLE: [&str; 11] = [
    "gzip",
    "zstd",
    "bzip2",
    "lz4",
    "xz",
    "mail-crypt",
    "not-a-file",
    "unnamed",
    "changed",
    "moved",
    "read-only",
];

/// Counts. The names are those of the JSON output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Messages that were looked at.
    pub messages: u64,
    /// Of those, sealed.
    pub sealed: u64,
    /// Of those, left as they are, by reason.
    pub unchanged: BTreeMap<String, u64>,
    /// Of those, failed.
    pub failed: u64,
    /// Sealed ones whose header fields were to be hidden and could not be: they stay readable.
    pub header_fields: u64,
    /// Left behind by a killed run and put in order.
    pub recovered: u64,
    /// Bytes of all messages before.
    pub bytes_before: u64,
    /// Bytes of all messages after.
    pub bytes_after: u64,
    /// Milliseconds.
    pub ms: u64,
}

impl Tally {
    /// Counts a message that stays as it is.
    pub fn keep(&mut self, reason: &str, bytes: u64) {
        self.messages += 1;
        *self.unchanged.entry(reason.to_owned()).or_default() += 1;
        self.bytes_before += bytes;
        self.bytes_after += bytes;
    }

    /// Takes back messages that were kept for `reason` and had no bytes; how many.
    pub fn forget(&mut self, reason: &str) -> u64 {
        let count = self.unchanged.remove(reason).unwrap_or(0);
        self.messages -= count;
        count
    }

    /// Counts a sealed message.
    pub fn seal(&mut self, before: u64, after: u64, readable: Readable) {
        self.header_fields += u64::from(readable.fields);
        self.messages += 1;
        self.sealed += 1;
        self.bytes_before += before;
        self.bytes_after += after;
    }

    /// Counts a message that failed.
    pub fn fail(&mut self, bytes: u64) {
        self.messages += 1;
        self.failed += 1;
        self.bytes_before += bytes;
        self.bytes_after += bytes;
    }

    /// How many stay as they are.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.unchanged.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// How many messages the server can still read, although their user has a certificate.
    #[must_use]
    pub fn readable(&self) -> u64 {
        let left = READABLE.iter().filter_map(|reason| self.unchanged.get(*reason));
        left.fold(self.failed, |sum, count| sum.saturating_add(*count))
    }

    /// The reasons, `12 pgp-mime, 3 no-key`.
    #[must_use]
    pub fn reasons(&self) -> String {
        self.unchanged
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl AddAssign<&Self> for Tally {
    /// Sums of what owners' processes report do not overflow.
    fn add_assign(&mut self, other: &Self) {
        let add = |sum: &mut u64, count: u64| *sum = sum.saturating_add(count);
        for (reason, count) in &other.unchanged {
            add(self.unchanged.entry(reason.clone()).or_default(), *count);
        }
        let counts = [
            (&mut self.messages, other.messages),
            (&mut self.sealed, other.sealed),
            (&mut self.failed, other.failed),
            (&mut self.header_fields, other.header_fields),
            (&mut self.recovered, other.recovered),
            (&mut self.bytes_before, other.bytes_before),
            (&mut self.bytes_after, other.bytes_after),
            (&mut self.ms, other.ms),
        ];
        counts.into_iter().for_each(|(sum, count)| add(sum, count));
    }
}

/// The log line of a folder.
#[derive(Clone, Debug)]
pub struct FolderLine<'a> {
    /// The delivery user.
    pub user: &'a str,
    /// The folder's path.
    pub folder: &'a str,
    /// What became of its messages.
    pub tally: &'a Tally,
}

impl fmt::Display for FolderLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |text: &str| escape::log_value(text.as_bytes(), limits::LOG_VALUE);
        let Tally { messages, sealed, failed, bytes_before, bytes_after, ms, .. } = self.tally;
        write!(
            f,
            "user={} folder={} messages={messages} sealed={sealed} unchanged={} failed={failed} \
             in={bytes_before} out={bytes_after} ms={ms}",
            value(self.user),
            value(self.folder),
            self.tally.kept(),
        )
    }
}

/// A size for people, `12.3 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    // Three digits are enough, and no size needs more than 52 bits of precision.
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// Something a second.
#[must_use]
#[allow(clippy::cast_precision_loss)] // As in `size`.
pub fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut all = Tally::default();
        all.seal(10, 20, Readable { fields: true });
        let mut other = Tally::default();
        other.keep("gzip", 5);
        other.keep("pgp-mime", 6);
        other.fail(1);
        all += &other;
        assert_eq!((all.messages, all.sealed, all.kept(), all.failed), (4, 1, 2, 1));
        assert_eq!((all.bytes_before, all.bytes_after), (22, 32));
        assert_eq!(all.header_fields, 1);
        assert_eq!(all.readable(), 2);
        assert_eq!(all.reasons(), "1 gzip, 1 pgp-mime");
        let line = FolderLine { user: "a", folder: "/x y/.b", tally: &all }.to_string();
        assert_eq!(
            line,
            "user=a folder=/x\\x20y/.b messages=4 sealed=1 unchanged=2 failed=1 in=22 out=32 ms=0"
        );
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in
            [(999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (5_000_000_000_000, "5.0 TB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
