//! Days as people write them, and spans of time as they type them.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// The day of a time in UTC, `2026-11-21`; `never` where there is none.
#[must_use]
pub fn day(time: Option<SystemTime>) -> String {
    time.map_or_else(|| "never".into(), |time| OffsetDateTime::from(time).date().to_string())
}

/// Parses `90s`, `15m`, `1h`, `30d`, `4w`; a bare number is days.
///
/// # Errors
/// What is expected instead.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "" | "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => 0,
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(seconds))
        .filter(|_| seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a span of time, as 30d or 1h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, seconds) in
            [("30d", 2_592_000), ("1h", 3600), ("2w", 1_209_600), ("7", 604_800), ("5s", 5), ("3m", 180)]
        {
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
