//! What is kept of a log while it is read: counts, histograms, the slowest deliveries, and who waits. The memory it
//! takes does not grow with the log, only with the users and the hours in it, and that up to a limit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use hdrhistogram::Histogram;
use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde::Serialize;

use crate::log::Outcome;
use crate::log::clock::Moment;
use crate::log::entry::{Delivery, Entry, Folder, What};

/// Most users, reasons, hours and waiting messages that are told apart; what comes after them is only counted in the
/// totals.
const MOST: usize = 50_000;

/// How many of the slowest deliveries are kept.
pub const SLOWEST: usize = 10;

/// Longest time in a histogram: ten hours, in its unit of 0.1 ms.
const LONGEST: u64 = 360_000_000;

/// Fastest speed in a histogram: 10 GB/s, in its unit of 0.01 MB/s.
const FASTEST: u64 = 1_000_000;

/// Digits that are exact in a histogram.
const DIGITS: u8 = 3;

/// The classes of size, by their upper limits in bytes.
pub const SIZES: [(&str, u64); 6] = [
    ("under 10 kB", 10_000),
    ("10 to 100 kB", 100_000),
    ("100 kB to 1 MB", 1_000_000),
    ("1 to 10 MB", 10_000_000),
    ("10 to 100 MB", 100_000_000),
    ("over 100 MB", u64::MAX),
];

/// Everything that is kept.
#[derive(Debug)]
pub struct Summary {
    pub(super) lines: u64,
    pub(super) span: Option<(Moment, Moment)>,
    /// By outcome and reason.
    pub(super) outcomes: BTreeMap<Outcome, BTreeMap<String, u64>>,
    pub(super) warnings: BTreeMap<String, u64>,
    pub(super) sizes: [Speed; SIZES.len()],
    pub(super) all: Speed,
    pub(super) key_time: Histogram<u64>,
    pub(super) slowest: BinaryHeap<Reverse<Slow>>,
    pub(super) without_certificate: HashMap<String, Clear>,
    pub(super) failures: BTreeMap<String, Failure>,
    pub(super) waiting: HashMap<String, Waiting>,
    waiting_messages: usize,
    /// By the beginning of the hour on the wall.
    pub(super) hours: BTreeMap<DateTime, Hour>,
    pub(super) bulk: Option<Bulk>,
    /// The last heartbeat to each address, and when it left.
    pub(super) heartbeats: BTreeMap<String, (u64, Option<Moment>)>,
}

/// Time and speed of the deliveries that were sealed.
#[derive(Debug)]
pub struct Speed {
    /// In 0.1 ms.
    pub time: Histogram<u64>,
    /// In 0.01 MB/s.
    pub rate: Histogram<u64>,
}

/// A delivery that took long. Its order is that of time.
#[derive(Clone, Debug)]
pub struct Slow {
    pub ms: f64,
    pub key_ms: f64,
    pub bytes: u64,
    pub outcome: Outcome,
    pub user: String,
    pub message_id: Option<String>,
    pub time: Option<Moment>,
}

/// The clear mail of a user without a certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clear {
    pub messages: u64,
    pub last: Option<Moment>,
}

/// What went wrong for one reason.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    pub messages: u64,
    pub last: Option<Moment>,
}

/// The mail of a user that was deferred.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// Since anything of the user's was delivered.
    since_delivery: Option<Deferral>,
    /// Messages that were not delivered since, by Message-ID.
    messages: HashMap<String, Deferral>,
}

/// Deferrals of a message, or of any.
#[derive(Clone, Debug)]
pub struct Deferral {
    pub first: Moment,
    pub last: Moment,
    pub attempts: u64,
    pub reason: String,
}

/// The deliveries of an hour.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hour {
    pub sealed: u64,
    pub unchanged: u64,
    pub deferred: u64,
    /// Of those sealed, in milliseconds.
    pub total_ms: f64,
    pub longest_ms: f64,
}

/// What `encrypt-maildir` did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bulk {
    /// How many folders it went through.
    pub folders: u64,
    /// What became of the messages of all of them.
    #[serde(flatten)]
    pub sum: Folder,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            lines: 0,
            span: None,
            outcomes: BTreeMap::new(),
            warnings: BTreeMap::new(),
            sizes: std::array::from_fn(|_| Speed::default()),
            all: Speed::default(),
            key_time: histogram(LONGEST),
            slowest: BinaryHeap::new(),
            without_certificate: HashMap::new(),
            failures: BTreeMap::new(),
            waiting: HashMap::new(),
            waiting_messages: 0,
            hours: BTreeMap::new(),
            bulk: None,
            heartbeats: BTreeMap::new(),
        }
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self { time: histogram(LONGEST), rate: histogram(FASTEST) }
    }
}

impl Summary {
    /// Counts lines of a log, whoever wrote them.
    pub fn count_lines(&mut self, lines: u64) {
        self.lines += lines;
    }

    /// Adds what a line says. Lines come in the order of time.
    pub fn add(&mut self, entry: &Entry<'_>) {
        if let Some(time) = entry.time {
            let (first, last) = self.span.get_or_insert((time, time));
            *first = time.min(*first);
            *last = time.max(*last);
        }
        match &entry.what {
            What::Delivery(delivery) => self.add_delivery(delivery, entry.time),
            What::Folder(folder) => self.add_folder(folder),
        }
    }

    fn add_delivery(&mut self, delivery: &Delivery<'_>, time: Option<Moment>) {
        let reasons = self.outcomes.entry(delivery.outcome).or_default();
        if let Some(count) = entry_of(reasons, &delivery.reason) {
            *count += 1;
        }
        for warning in delivery.warnings.split(',').filter(|warning| !matches!(*warning, "" | "-")) {
            if let Some(count) = entry_of(&mut self.warnings, warning) {
                *count += 1;
            }
        }
        if let (Some(number), Outcome::Sealed) = (delivery.heartbeat, delivery.outcome)
            && (self.heartbeats.len() < MOST || self.heartbeats.contains_key(&*delivery.user))
        {
            self.heartbeats.insert(delivery.user.clone().into_owned(), (number, time));
        }
        match delivery.outcome {
            Outcome::Sealed => self.add_speed(delivery),
            Outcome::Unchanged if delivery.reason.starts_with("no-") => {
                let known = self.without_certificate.len() < MOST;
                if let Some(user) = slot(&mut self.without_certificate, &delivery.user, known) {
                    user.messages += 1;
                    user.last = time.or(user.last);
                }
            }
            Outcome::Unchanged | Outcome::WouldSeal => {}
            Outcome::Held | Outcome::Deferred => {
                if let Some(failure) = entry_of(&mut self.failures, &delivery.reason) {
                    failure.messages += 1;
                    failure.last = time.or(failure.last);
                }
            }
        }
        self.note_slow(delivery, time);
        if let Some(time) = time {
            self.note_waiting(delivery, time);
            self.add_hour(delivery, time);
        }
    }

    fn add_speed(&mut self, delivery: &Delivery<'_>) {
        let time = (delivery.ms * 10.0).round() as u64;
        // What took no time that was measured took half of what would have been shown as 0.1 ms.
        let rate = delivery.bytes_in as f64 / 1e3 / delivery.ms.max(0.05);
        let rate = (rate * 100.0).round() as u64;
        // There is always a class: the last one has no limit.
        let class = SIZES.iter().position(|(_, limit)| delivery.bytes_in < *limit).unwrap_or(SIZES.len() - 1);
        for speed in [&mut self.sizes[class], &mut self.all] {
            speed.time.saturating_record(time);
            speed.rate.saturating_record(rate);
        }
        self.key_time.saturating_record((delivery.key_ms * 10.0).round() as u64);
    }

    fn note_slow(&mut self, delivery: &Delivery<'_>, time: Option<Moment>) {
        let full = self.slowest.len() == SLOWEST;
        if full && self.slowest.peek().is_some_and(|Reverse(fastest)| fastest.ms >= delivery.ms) {
            return;
        }
        if full {
            self.slowest.pop();
        }
        self.slowest.push(Reverse(Slow {
            ms: delivery.ms,
            key_ms: delivery.key_ms,
            bytes: delivery.bytes_in,
            outcome: delivery.outcome,
            user: delivery.user.clone().into_owned(),
            message_id: delivery.message_id.clone().map(Into::into),
            time,
        }));
    }

    fn note_waiting(&mut self, delivery: &Delivery<'_>, time: Moment) {
        let id = delivery.message_id.as_deref();
        if delivery.outcome != Outcome::Deferred {
            let Some(waiting) = self.waiting.get_mut(&*delivery.user) else { return };
            waiting.since_delivery = None;
            if id.is_some_and(|id| waiting.messages.remove(id).is_some()) {
                self.waiting_messages -= 1;
            }
            if waiting.messages.is_empty() {
                self.waiting.remove(&*delivery.user);
            }
            return;
        }
        let room = self.waiting.len() < MOST;
        let Some(waiting) = slot(&mut self.waiting, &delivery.user, room) else { return };
        waiting.since_delivery.get_or_insert_with(|| Deferral::new(time)).add(delivery, time);
        let Some(id) = id else { return };
        if !waiting.messages.contains_key(id) && self.waiting_messages < MOST {
            waiting.messages.insert(id.into(), Deferral::new(time));
            self.waiting_messages += 1;
        }
        if let Some(message) = waiting.messages.get_mut(id) {
            message.add(delivery, time);
        }
    }

    fn add_hour(&mut self, delivery: &Delivery<'_>, time: Moment) {
        let hour = time.wall.date().at(time.wall.hour(), 0, 0, 0);
        if self.hours.len() >= MOST && !self.hours.contains_key(&hour) {
            return;
        }
        let hour = self.hours.entry(hour).or_default();
        match delivery.outcome {
            Outcome::Sealed => {
                hour.sealed += 1;
                hour.total_ms += delivery.ms;
                hour.longest_ms = hour.longest_ms.max(delivery.ms);
            }
            Outcome::Unchanged | Outcome::WouldSeal => hour.unchanged += 1,
            Outcome::Held | Outcome::Deferred => hour.deferred += 1,
        }
    }

    fn add_folder(&mut self, folder: &Folder) {
        let Bulk { folders, sum } = self.bulk.get_or_insert_default();
        *folders += 1;
        sum.messages += folder.messages;
        sum.sealed += folder.sealed;
        sum.unchanged += folder.unchanged;
        sum.failed += folder.failed;
        sum.bytes_in += folder.bytes_in;
        sum.bytes_out += folder.bytes_out;
        sum.ms += folder.ms;
    }
}

impl Waiting {
    /// What has waited longest at the time `end`, if it is for more than `long`: all mail since the last
    /// delivery, or a message that was still deferred after so long. One that was deferred and not tried again, while
    /// other mail came through, is not waiting any more.
    pub fn longest(&self, end: Moment, long: SignedDuration) -> Option<&Deferral> {
        let all = self.since_delivery.iter().filter(|all| all.first.until(end) > long);
        let stuck = self.messages.values().filter(|one| one.first.until(one.last) > long);
        all.chain(stuck).min_by_key(|deferral| deferral.first)
    }

    /// How many messages were deferred from the time `first` on.
    pub fn messages_since(&self, first: Moment) -> usize {
        self.messages.values().filter(|message| message.first >= first).count().max(1)
    }
}

impl Deferral {
    fn new(first: Moment) -> Self {
        Self { first, last: first, attempts: 0, reason: String::new() }
    }

    fn add(&mut self, delivery: &Delivery<'_>, time: Moment) {
        self.last = time.max(self.last);
        self.attempts += 1;
        if self.reason != delivery.reason {
            self.reason = delivery.reason.as_ref().into();
        }
    }
}

impl PartialEq for Slow {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Slow {}

impl PartialOrd for Slow {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slow {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.ms.total_cmp(&other.ms)
    }
}

/// The value of `key`, made where there is none and there is room; a key is copied only then.
fn slot<'a, T: Default>(map: &'a mut HashMap<String, T>, key: &str, room: bool) -> Option<&'a mut T> {
    if room && !map.contains_key(key) {
        map.insert(key.into(), T::default());
    }
    map.get_mut(key)
}

/// The same for the few words that there are.
fn entry_of<'a, T: Default>(map: &'a mut BTreeMap<String, T>, key: &str) -> Option<&'a mut T> {
    if map.len() < MOST && !map.contains_key(key) {
        map.insert(key.into(), T::default());
    }
    map.get_mut(key)
}

fn histogram(highest: u64) -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "only a limit below 2 or more than 5 digits are refused")]
    Histogram::new_with_max(highest, DIGITS).expect("the limits are sound")
}
