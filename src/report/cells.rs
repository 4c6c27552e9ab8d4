//! What the rows of a report's tables say, on the page of text and in HTML alike.

use super::figures::{ClearUser, FailureCount, Percentiles, SizeClass, Slowest, WaitingUser};
use crate::mailbox::tally::size;

impl WaitingUser {
    /// User, messages, how long, since when, last tried, attempts, reason.
    pub fn cells(&self) -> Vec<String> {
        vec![
            self.user.clone(),
            self.messages.to_string(),
            span(self.seconds),
            self.since.clone(),
            self.last.clone(),
            self.attempts.to_string(),
            self.reason.clone(),
        ]
    }
}

impl SizeClass {
    /// Class, messages, four times, four speeds.
    pub fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.size.into(), self.messages.to_string()];
        cells.extend(self.ms.cells());
        cells.extend(self.mb_per_s.cells());
        cells
    }
}

impl Percentiles {
    /// Half, 90 and 99 of 100, and the most.
    pub fn cells(self) -> [String; 4] {
        [self.p50, self.p90, self.p99, self.max].map(number)
    }
}

impl Slowest {
    /// Time in all, time for certificates, size, outcome, user, when, Message-ID.
    pub fn cells(&self) -> Vec<String> {
        vec![
            number(self.ms),
            number(self.key_ms),
            size(self.bytes),
            self.outcome.into(),
            self.user.clone(),
            self.time.clone().unwrap_or_default(),
            self.message_id.clone().unwrap_or_default(),
        ]
    }
}

impl FailureCount {
    /// Reason, messages, when last.
    pub fn cells(&self) -> Vec<String> {
        vec![self.reason.clone(), self.messages.to_string(), self.last.clone().unwrap_or_default()]
    }
}

impl ClearUser {
    /// User, messages, when last.
    pub fn cells(&self) -> Vec<String> {
        vec![self.user.clone(), self.messages.to_string(), self.last.clone().unwrap_or_default()]
    }
}

/// A number with about three digits.
pub fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// A span of time in its two largest units.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
