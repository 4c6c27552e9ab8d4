//! What `mailseal serve` counts, and how Prometheus reads it.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::Socket;

use super::address::Stream;
use super::shared::Shared;
use super::smtp::lines::{Connection as _, Line, Lines};
use crate::config::Keys;
use crate::console::exposition::Exposition;
use crate::error::Error;
use crate::keystore::absence;
use crate::keystore::known::Known;
use crate::keystore::trust::Trust;
use crate::log::{Door, LogLine, Outcome};

/// Upper bounds of the classes of time, in seconds.
const SECONDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// How long a request and its answer may take, and most lines of its header.
const REQUEST: Duration = Duration::from_secs(2);
const HEADERS: usize = 100;

/// The counters.
#[derive(Debug, Default)]
pub struct Metrics {
    messages: Mutex<BTreeMap<(Door, Outcome, &'static str), u64>>,
    warnings: Mutex<BTreeMap<&'static str, u64>>,
    times: Mutex<BTreeMap<Door, Times>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    classes: [u64; SECONDS.len()],
    count: u64,
    sum: Duration,
}

impl Metrics {
    /// Counts a message.
    pub fn note(&self, line: &LogLine) {
        let Some(door) = line.door else { return };
        let key = (door, line.outcome, line.reason.unwrap_or("-"));
        *self.messages.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
        for warning in &line.warnings {
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            *warnings.entry(warning.name()).or_default() += 1;
        }
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let times = times.entry(door).or_default();
        let seconds = line.time.as_secs_f64();
        for (count, bound) in times.classes.iter_mut().zip(SECONDS) {
            *count += u64::from(seconds <= bound);
        }
        times.count += 1;
        times.sum += line.time;
    }

    fn write(&self, shared: &Shared, out: &mut Vec<u8>) -> io::Result<()> {
        let mut writer = Exposition::new(out);
        writer.begin("mailseal_serve_messages_total", "counter", "Messages by door, outcome and reason.")?;
        for ((door, outcome, reason), count) in &*self.messages.lock().unwrap_or_else(PoisonError::into_inner)
        {
            let labels = [("door", door.name()), ("outcome", outcome.name()), ("reason", reason)];
            writer.value("mailseal_serve_messages_total", &labels, count)?;
        }
        writer.begin(
            "mailseal_serve_warnings_total",
            "counter",
            "Messages with something odd about them.",
        )?;
        for (warning, count) in &*self.warnings.lock().unwrap_or_else(PoisonError::into_inner) {
            writer.value("mailseal_serve_warnings_total", &[("warning", warning)], count)?;
        }
        writer.begin(
            "mailseal_serve_seconds",
            "histogram",
            "Time from a message's beginning to its last answer.",
        )?;
        for (door, times) in &*self.times.lock().unwrap_or_else(PoisonError::into_inner) {
            for (count, bound) in times.classes.iter().zip(SECONDS) {
                let labels = [("door", door.name()), ("le", &*bound.to_string())];
                writer.value("mailseal_serve_seconds_bucket", &labels, count)?;
            }
            let door = ("door", door.name());
            writer.value("mailseal_serve_seconds_bucket", &[door, ("le", "+Inf")], times.count)?;
            writer.value("mailseal_serve_seconds_sum", &[door], times.sum.as_secs_f64())?;
            writer.value("mailseal_serve_seconds_count", &[door], times.count)?;
        }
        writer.begin("mailseal_serve_in_hand", "gauge", "Transactions that have not come to their end.")?;
        writer.value("mailseal_serve_in_hand", &[], shared.in_hand.count())?;
        let config = shared.config();
        let known = Known::new(&config.keys.known, Trust::of_process(config.keys.trusted_groups.ids()));
        writer.begin(
            "mailseal_serve_register_complete",
            "gauge",
            "Whether the register of known users and each store bear their markers.",
        )?;
        let complete = bear_markers(&config.keys, &known).unwrap_or(false);
        writer.value("mailseal_serve_register_complete", &[], u8::from(complete))?;
        if let Some(time) = known.scanned() {
            writer.begin(
                "mailseal_serve_last_scan_timestamp_seconds",
                "gauge",
                "When all users were last asked for their certificates.",
            )?;
            writer.value("mailseal_serve_last_scan_timestamp_seconds", &[], seconds(time))?;
        }
        writer.begin("mailseal_serve_time_seconds", "gauge", "The time of this answer.")?;
        writer.value("mailseal_serve_time_seconds", &[], seconds(SystemTime::now()))
    }
}

/// Opens the door for Prometheus.
///
/// # Errors
/// [`Error::Door`].
pub fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).map_err(|error| Error::Door {
        address: address.to_string(),
        what: error.to_string(),
        hint: "name another address as `metrics` in [serve]".into(),
    })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Whether somebody without a certificate could be proven to have none.
fn bear_markers(keys: &Keys, known: &Known) -> Result<bool, Error> {
    let Some(marker) = known.marker()? else { return Ok(false) };
    let trust = Trust::of_process(keys.trusted_groups.ids());
    absence::stores(keys).iter().try_for_each(|store| absence::check_marker(store, &marker, &trust))?;
    Ok(true)
}

/// Answers Prometheus on a thread of its own. To be called in the sandbox, which binds threads that begin later.
///
/// # Errors
/// Those of starting threads.
pub fn serve(listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    std::thread::Builder::new().name("metrics".into()).spawn(move || {
        for stream in listener.incoming() {
            // Who asks in another way, or does not wait, gets no answer.
            let _ = stream.and_then(|stream| answer(stream, &shared));
        }
    })?;
    Ok(())
}

/// Answers one request, in bounded time and memory: other programs of this machine may connect as well (RFC 9112).
fn answer(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let end = Instant::now() + REQUEST;
    let mut lines = Lines::new(Stream::accepted(Socket::from(stream)));
    let mut next = || lines.read(end.saturating_duration_since(Instant::now()));
    let first = next()?;
    for _ in 0..HEADERS {
        match next()? {
            Line::Whole(line) if !line.is_empty() => {}
            _ => break,
        }
    }
    let mut text = Vec::new();
    let status = match first {
        Line::Whole(line) if line.starts_with(b"GET /metrics ") => {
            shared.metrics.write(shared, &mut text)?;
            "200 OK"
        }
        _ => "404 Not Found",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    let connection = lines.get_mut();
    connection.limit(REQUEST);
    connection.write_all(&[head.as_bytes(), &text].concat())
}
