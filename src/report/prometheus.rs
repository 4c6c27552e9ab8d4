//! A report for the textfile collector of Prometheus's node_exporter.
//!
//! All are gauges: they say what is in the log that was read, and begin anew with every log. No user is named.

use std::io::{self, Write};

use super::figures::{Figures, Percentiles};
use crate::console::exposition::Exposition;

/// Writes the metrics.
///
/// # Errors
/// Those of `out`.
// A list: each metric with its help, in the order they are shown.
pub fn write(figures: &Figures, out: &mut impl Write) -> io::Result<()> {
    let mut metrics = Exposition::new(out);
    metrics.begin("mailseal_log_messages", "gauge", "Deliveries in the log, by outcome and reason.")?;
    for count in &figures.outcomes {
        let labels = [("outcome", count.outcome), ("reason", &count.reason)];
        metrics.value("mailseal_log_messages", &labels, count.messages)?;
    }
    metrics.begin("mailseal_log_warnings", "gauge", "Sealed deliveries with a warning.")?;
    for count in &figures.warnings {
        metrics.value("mailseal_log_warnings", &[("warning", &count.name)], count.messages)?;
    }
    metrics.begin("mailseal_log_sealed_messages", "gauge", "Sealed deliveries, by size.")?;
    for class in &figures.sizes {
        metrics.value("mailseal_log_sealed_messages", &[("size", class.size)], class.messages)?;
    }
    metrics.begin("mailseal_log_seal_seconds", "gauge", "Time of sealed deliveries, by size.")?;
    for class in &figures.sizes {
        quantiles(&mut metrics, "mailseal_log_seal_seconds", class.size, (class.ms, 1e-3))?;
    }
    metrics.begin("mailseal_log_seal_bytes_per_second", "gauge", "Speed of sealed deliveries, by size.")?;
    for class in &figures.sizes {
        quantiles(&mut metrics, "mailseal_log_seal_bytes_per_second", class.size, (class.mb_per_s, 1e6))?;
    }
    metrics.begin("mailseal_log_key_seconds", "gauge", "Time for certificates of sealed deliveries.")?;
    quantiles(&mut metrics, "mailseal_log_key_seconds", "all", (figures.key_ms, 1e-3))?;
    metrics.gauge(
        "mailseal_log_users_without_certificate",
        "Users whose mail was delivered in clear.",
        figures.users_without_certificate,
    )?;
    metrics.gauge(
        "mailseal_log_users_waiting",
        "Users whose mail has been deferred for more than an hour and was not delivered since.",
        figures.users_waiting,
    )?;
    metrics.gauge(
        "mailseal_log_longest_wait_seconds",
        "The longest of these waits.",
        figures.waiting.first().map_or(0, |user| user.seconds),
    )?;
    if let Some(end) = figures.to_seconds {
        metrics.gauge("mailseal_log_last_line_timestamp_seconds", "When the last line was written.", end)?;
    }
    if let Some(bulk) = &figures.bulk {
        metrics.begin(
            "mailseal_log_bulk_messages",
            "gauge",
            "Messages of mailboxes that encrypt-maildir went through.",
        )?;
        for (outcome, count) in
            [("sealed", bulk.sum.sealed), ("unchanged", bulk.sum.unchanged), ("failed", bulk.sum.failed)]
        {
            metrics.value("mailseal_log_bulk_messages", &[("outcome", outcome)], count)?;
        }
    }
    Ok(())
}

/// Writes the percentiles of one size class, in another unit.
fn quantiles(
    metrics: &mut Exposition<impl Write>,
    name: &str,
    size: &str,
    (of, unit): (Percentiles, f64),
) -> io::Result<()> {
    for (quantile, value) in [("0.5", of.p50), ("0.9", of.p90), ("0.99", of.p99), ("1", of.max)] {
        metrics.value(name, &[("size", size), ("quantile", quantile)], value * unit)?;
    }
    Ok(())
}
