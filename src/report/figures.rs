//! What a report shows, whatever its form. The names here are those of the JSON, and so a contract.

use std::cmp::Reverse;

use hdrhistogram::Histogram;
use jiff::SignedDuration;
use jiff::civil::{DateTime, Time};
use serde::Serialize;

use super::summary::{Bulk, SIZES, SLOWEST, Speed, Summary};
use crate::log::clock::Moment;

/// How long mail may be deferred before its user is shown.
const LONG: SignedDuration = SignedDuration::from_hours(1);

/// The longest log whose trend is shown by the hour; a longer one is shown by the day.
const HOURLY: SignedDuration = SignedDuration::from_hours(72);

/// Most users in one list; how many there are is told besides.
const USERS: usize = 1000;

/// The figures of a report. Sizes are in bytes, times in milliseconds, speeds in 10^6 bytes a second.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Lines that were read, of whatever program.
    pub lines: u64,
    /// The first line of ours.
    pub from: Option<String>,
    /// The last line of ours.
    pub to: Option<String>,
    /// The same in seconds since 1970.
    pub to_seconds: Option<i64>,
    /// Deliveries.
    pub messages: u64,
    /// Deliveries by outcome and reason, the most frequent first.
    pub outcomes: Vec<OutcomeCount>,
    /// What is to be looked at although the mail was sealed.
    pub warnings: Vec<Count>,
    /// Time and speed of what was sealed, by size; and of all.
    pub sizes: Vec<SizeClass>,
    /// Time to find, check and use the certificates.
    pub key_ms: Percentiles,
    /// The slowest deliveries.
    pub slowest: Vec<Slowest>,
    /// How many users have no certificate.
    pub users_without_certificate: usize,
    /// Those of them with the most clear mail.
    pub without_certificate: Vec<ClearUser>,
    /// What was deferred, by reason.
    pub failures: Vec<FailureCount>,
    /// How many users have waited for more than an hour: nothing of theirs was delivered since, or one message was
    /// deferred again and again and not delivered since.
    pub users_waiting: usize,
    /// Those of them who wait longest.
    pub waiting: Vec<WaitingUser>,
    /// Deliveries over time.
    pub trend: Trend,
    /// What `encrypt-maildir` did, where it did something.
    pub bulk: Option<Bulk>,
    /// The last heartbeat to each address.
    pub heartbeats: Vec<Heartbeat>,
}

/// The last heartbeat to an address.
#[derive(Clone, Debug, Serialize)]
pub struct Heartbeat {
    pub address: String,
    pub number: u64,
    pub time: Option<String>,
}

/// Deliveries with one outcome.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeCount {
    pub outcome: &'static str,
    /// `-` where there is nothing to say.
    pub reason: String,
    pub messages: u64,
}

/// Something counted.
#[derive(Clone, Debug, Serialize)]
pub struct Count {
    pub name: String,
    pub messages: u64,
}

/// Deliveries of a size.
#[derive(Clone, Debug, Serialize)]
pub struct SizeClass {
    /// Its name; `all` for the last.
    pub size: &'static str,
    /// How many.
    pub messages: u64,
    /// Time in all.
    pub ms: Percentiles,
    /// Speed: half, 90 and 99 of 100 messages were at most so fast.
    pub mb_per_s: Percentiles,
}

/// The distribution of a quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

/// A slow delivery.
#[derive(Clone, Debug, Serialize)]
pub struct Slowest {
    pub time: Option<String>,
    pub user: String,
    pub outcome: &'static str,
    pub bytes: u64,
    pub key_ms: f64,
    pub ms: f64,
    pub message_id: Option<String>,
}

/// A user without a certificate.
#[derive(Clone, Debug, Serialize)]
pub struct ClearUser {
    pub user: String,
    pub messages: u64,
    pub last: Option<String>,
}

/// Deferrals for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct FailureCount {
    pub reason: String,
    pub messages: u64,
    pub last: Option<String>,
}

/// A user whose mail waits.
#[derive(Clone, Debug, Serialize)]
pub struct WaitingUser {
    /// The user.
    pub user: String,
    /// How many messages were deferred since then and not delivered, as far as their Message-IDs tell.
    pub messages: usize,
    /// Why the first of them waits.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// When it was last tried.
    pub last: String,
    /// How often.
    pub attempts: u64,
    /// For how long, up to the end of the log, in seconds.
    pub seconds: i64,
}

/// Deliveries over time.
#[derive(Clone, Debug, Serialize)]
pub struct Trend {
    /// `hour` or `day`.
    pub unit: &'static str,
    /// Without those in which nothing was delivered.
    pub points: Vec<Point>,
}

/// An hour or a day.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// When it began, as the log's clock shows it.
    pub start: String,
    /// In units since the first.
    #[serde(skip)]
    pub index: i64,
    /// How many were sealed.
    pub sealed: u64,
    /// How many stayed as they were.
    pub unchanged: u64,
    /// How many were deferred.
    pub deferred: u64,
    /// Mean time of those sealed.
    pub mean_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Summary {
    /// The figures of all that was read.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let end = self.span.map(|(_, last)| last);
        let mut outcomes: Vec<OutcomeCount> = self
            .outcomes
            .iter()
            .flat_map(|(outcome, reasons)| {
                reasons.iter().map(move |(reason, count)| (outcome, reason, *count))
            })
            .map(|(outcome, reason, messages)| OutcomeCount {
                outcome: outcome.name(),
                reason: reason.clone(),
                messages,
            })
            .collect();
        outcomes.sort_by_key(|count| Reverse(count.messages));
        let (users_without_certificate, without_certificate) = self.without_certificate();
        let (users_waiting, waiting) = self.waiting(end);
        Figures {
            lines: self.lines,
            from: self.span.map(|(first, _)| first.show()),
            to: end.map(Moment::show),
            to_seconds: end.map(|end| end.instant.as_second()),
            messages: outcomes.iter().map(|count| count.messages).sum(),
            outcomes,
            warnings: self
                .warnings
                .iter()
                .map(|(name, messages)| Count { name: name.clone(), messages: *messages })
                .collect(),
            sizes: self.sizes(),
            key_ms: percentiles(&self.key_time, 10.0),
            slowest: self.slowest(),
            users_without_certificate,
            without_certificate,
            failures: self.failures(),
            users_waiting,
            waiting,
            trend: self.trend(),
            bulk: self.bulk.clone(),
            heartbeats: self
                .heartbeats
                .iter()
                .take(USERS)
                .map(|(address, (number, time))| Heartbeat {
                    address: address.clone(),
                    number: *number,
                    time: time.map(Moment::show),
                })
                .collect(),
        }
    }

    fn sizes(&self) -> Vec<SizeClass> {
        let class = |size, speed: &Speed| SizeClass {
            size,
            messages: speed.time.len(),
            ms: percentiles(&speed.time, 10.0),
            mb_per_s: percentiles(&speed.rate, 100.0),
        };
        let classes = SIZES.iter().zip(&self.sizes).map(|((name, _), speed)| class(*name, speed));
        classes.filter(|class| class.messages > 0).chain([class("all", &self.all)]).collect()
    }

    fn slowest(&self) -> Vec<Slowest> {
        let mut slowest: Vec<_> = self.slowest.iter().map(|slow| &slow.0).collect();
        slowest.sort_by(|a, b| b.cmp(a));
        debug_assert!(slowest.len() <= SLOWEST);
        slowest
            .into_iter()
            .map(|slow| Slowest {
                time: slow.time.map(Moment::show),
                user: slow.user.clone(),
                outcome: slow.outcome.name(),
                bytes: slow.bytes,
                key_ms: slow.key_ms,
                ms: slow.ms,
                message_id: slow.message_id.clone(),
            })
            .collect()
    }

    fn without_certificate(&self) -> (usize, Vec<ClearUser>) {
        let mut users: Vec<_> = self.without_certificate.iter().collect();
        users.sort_by(|(a, x), (b, y)| y.messages.cmp(&x.messages).then(a.cmp(b)));
        let user = |(user, clear): (&String, &super::summary::Clear)| ClearUser {
            user: user.clone(),
            messages: clear.messages,
            last: clear.last.map(Moment::show),
        };
        (users.len(), users.into_iter().take(USERS).map(user).collect())
    }

    fn failures(&self) -> Vec<FailureCount> {
        let mut failures: Vec<_> = self
            .failures
            .iter()
            .map(|(reason, failure)| FailureCount {
                reason: reason.clone(),
                messages: failure.messages,
                last: failure.last.map(Moment::show),
            })
            .collect();
        failures.sort_by_key(|failure| Reverse(failure.messages));
        failures
    }

    fn waiting(&self, end: Option<Moment>) -> (usize, Vec<WaitingUser>) {
        let Some(end) = end else { return (0, Vec::new()) };
        let mut waiting: Vec<WaitingUser> = self
            .waiting
            .iter()
            .filter_map(|(user, waiting)| {
                let longest = waiting.longest(end, LONG)?;
                let seconds = longest.first.until(end).as_secs();
                Some(WaitingUser {
                    user: user.clone(),
                    messages: waiting.messages_since(longest.first),
                    reason: longest.reason.clone(),
                    since: longest.first.show(),
                    last: longest.last.show(),
                    attempts: longest.attempts,
                    seconds,
                })
            })
            .collect();
        waiting.sort_by(|a, b| b.seconds.cmp(&a.seconds).then_with(|| a.user.cmp(&b.user)));
        let count = waiting.len();
        waiting.truncate(USERS);
        (count, waiting)
    }

    fn trend(&self) -> Trend {
        let Some((first, last)) = self.hours.keys().next().zip(self.hours.keys().next_back()) else {
            return Trend { unit: "hour", points: Vec::new() };
        };
        let by_hour = first.duration_until(*last) < HOURLY;
        let (unit, hours, form) = if by_hour { ("hour", 1, "%F %H:%M") } else { ("day", 24, "%F") };
        let start = |at: &DateTime| if by_hour { *at } else { at.date().to_datetime(Time::midnight()) };
        let mut points: Vec<Point> = Vec::new();
        for (at, hour) in &self.hours {
            let index = start(first).duration_until(start(at)).as_hours() / hours;
            if points.last().is_none_or(|point| point.index != index) {
                let start = at.strftime(form).to_string();
                let (sealed, unchanged, deferred, mean_ms, max_ms) = (0, 0, 0, 0.0, 0.0);
                points.push(Point { start, index, sealed, unchanged, deferred, mean_ms, max_ms });
            }
            if let Some(point) = points.last_mut() {
                let before = point.mean_ms * point.sealed as f64;
                point.sealed += hour.sealed;
                point.unchanged += hour.unchanged;
                point.deferred += hour.deferred;
                point.mean_ms = (before + hour.total_ms) / point.sealed.max(1) as f64;
                point.max_ms = point.max_ms.max(hour.longest_ms);
            }
        }
        Trend { unit, points }
    }
}

impl Moment {
    /// As the log's clock shows it: `2026-11-21 05:43:43`.
    pub fn show(self) -> String {
        self.wall.strftime("%F %T").to_string()
    }
}

/// The percentiles of a histogram with so many steps in a unit.
fn percentiles(histogram: &Histogram<u64>, steps: f64) -> Percentiles {
    if histogram.is_empty() {
        return Percentiles::default();
    }
    // No more than the longest that there was: a histogram knows a range.
    let at = |quantile| histogram.value_at_quantile(quantile).min(histogram.max()) as f64 / steps;
    Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: histogram.max() as f64 / steps }
}
