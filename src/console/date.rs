//! Days as people write them, and spans of time as they type them.

use std::time::{Duration, SystemTime};

use jiff::{Span, SpanRelativeTo, Timestamp};

/// The day of a time in UTC, `2026-11-21`; `never` where there is none before the year 10000.
#[must_use]
pub fn day(time: Option<SystemTime>) -> String {
    let time = time.and_then(|time| Timestamp::try_from(time).ok());
    time.map_or_else(|| "never".into(), |time| time.strftime("%F").to_string())
}

/// Parses `90s`, `15m`, `1h`, `30d`, `4w`; a bare number is days.
///
/// # Errors
/// What is expected instead.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    span(text, "d").ok_or_else(|| "expected a span of time, as 30d or 1h".into())
}

/// A span of time as [`jiff::fmt::friendly`] reads it, without fractions, or a bare number of `unit`. A day has 24 hours;
/// months and years, which differ in length, are refused.
#[must_use]
pub fn span(text: &str, unit: &str) -> Option<Duration> {
    if text.contains(['.', ',']) {
        return None;
    }
    let bare = text.bytes().all(|byte| byte.is_ascii_digit());
    let span: Span = if bare { format!("{text}{unit}").parse() } else { text.parse() }.ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, seconds) in [
            ("30d", 2_592_000),
            ("1h", 3600),
            ("2w", 1_209_600),
            ("7", 604_800),
            ("5s", 5),
            ("3m", 180),
            ("1h 30m", 5400),
        ] {
            assert_eq!(parse_span(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "d", "1y", "-1d", "1.5h", "99999999999999999999d", "18446744073709551615w"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn days_are_utc() {
        assert_eq!(day(Some(SystemTime::UNIX_EPOCH)), "1970-01-01");
        assert_eq!(day(None), "never");
    }
}
