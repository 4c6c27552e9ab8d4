//! The time at the beginning of a log line, as syslog daemons and the journal write it.

use std::time::SystemTime;

use time::{Date, Month, OffsetDateTime};

/// When a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970 in UTC. A log without time zones is taken to be in UTC.
    pub seconds: i64,
    /// What the clock on the wall showed, in the same measure.
    pub wall: i64,
}

const DAY: i64 = 86_400;

/// A log may be ahead of the clock by so much: another time zone.
const AHEAD: i64 = DAY;

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

impl Moment {
    /// A time in UTC.
    pub fn utc(seconds: i64) -> Self {
        Self { seconds, wall: seconds }
    }

    /// Reads the time at the beginning of `line`, and gives what follows it: `2026-11-21T05:43:43.123456+01:00`
    /// (`Z`, `+0100`, or nothing), or `Nov 21 05:43:43`, which is in the last twelve months before `now`.
    pub fn read(line: &[u8], now: SystemTime) -> Option<(Self, &[u8])> {
        if line.first()?.is_ascii_digit() { read_iso(line) } else { read_traditional(line, now) }
    }
}

fn read_iso(line: &[u8]) -> Option<(Moment, &[u8])> {
    let (date, rest) = line.split_at_checked(11)?;
    if date[4] != b'-' || date[7] != b'-' || !matches!(date[10], b'T' | b' ') {
        return None;
    }
    let day = days(number(&date[..4])?, number(&date[5..7])?, number(&date[8..10])?)?;
    let (clock, rest) = read_clock(rest)?;
    let wall = day * DAY + clock;
    let (offset, rest) = match rest {
        [b'Z', rest @ ..] => (0, rest),
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let (hours, rest) = rest.split_at_checked(2)?;
            let rest = rest.strip_prefix(b":").unwrap_or(rest);
            let (minutes, rest) = rest.split_at_checked(2)?;
            let offset = number(hours)? * 3600 + number(minutes)? * 60;
            (if *sign == b'-' { -offset } else { offset }, rest)
        }
        rest => (0, rest),
    };
    Some((Moment { seconds: wall - offset, wall }, rest.strip_prefix(b" ")?))
}

fn read_traditional(line: &[u8], now: SystemTime) -> Option<(Moment, &[u8])> {
    let (month, rest) = line.split_at_checked(3)?;
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    // A day of one digit has a blank more before it.
    let rest = rest.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (day, rest) = rest.split_at(digits);
    let day = number(day)?;
    let (clock, rest) = read_clock(rest.strip_prefix(b" ")?)?;
    let latest = OffsetDateTime::from(now).unix_timestamp() + AHEAD;
    let year = i64::from(OffsetDateTime::from(now).year()) + 1;
    // The 29th of February is not in every year.
    let seconds = (0..9)
        .filter_map(|back| days(year - back, month, day).map(|day| day * DAY + clock))
        .find(|seconds| *seconds <= latest)?;
    Some((Moment::utc(seconds), rest.strip_prefix(b" ")?))
}

/// `05:43:43`, or with a fraction that is left out, in seconds.
fn read_clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let (clock, rest) = text.split_at_checked(8)?;
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let seconds = number(&clock[..2])? * 3600 + number(&clock[3..5])? * 60 + number(&clock[6..])?;
    let fraction = match rest {
        [b'.' | b',', rest @ ..] => 1 + rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        _ => 0,
    };
    Some((seconds, &rest[fraction..]))
}

/// Days since 1970.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    Some(i64::from(date.to_julian_day() - OffsetDateTime::UNIX_EPOCH.date().to_julian_day()))
}

fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2026-11-21 05:43:43 UTC.
    const NOW: i64 = 1_795_239_823;

    fn read(line: &str) -> Option<(i64, i64)> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW as u64);
        let (moment, rest) = Moment::read(line.as_bytes(), now)?;
        assert_eq!(rest, b"host", "{line}");
        Some((moment.seconds - NOW, moment.wall - NOW))
    }

    #[test]
    fn every_form_of_time_is_read() {
        let cases = [
            ("2026-11-21T05:43:43+00:00 host", (0, 0)),
            ("2026-11-21T05:43:43.123456Z host", (0, 0)),
            ("2026-11-21T05:43:43 host", (0, 0)),
            ("2026-11-21 05:43:43,5 host", (0, 0)),
            ("2026-11-21T06:43:43+0100 host", (0, 3600)),
            ("2026-11-21T00:13:43.1-05:30 host", (0, -5 * 3600 - 1800)),
            ("Nov 21 05:43:43 host", (0, 0)),
            ("Nov 21 05:43:43.123456 host", (0, 0)),
            ("Nov  1 05:43:43 host", (-20 * DAY, -20 * DAY)),
            // Tomorrow in another time zone, and the day after: a year ago.
            ("Nov 22 04:43:43 host", (DAY - 3600, DAY - 3600)),
            ("Nov 23 05:43:43 host", (-363 * DAY, -363 * DAY)),
            ("Feb 29 05:43:43 host", (-996 * DAY, -996 * DAY)),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line), Some(expected), "{line}");
        }
        for line in [
            "",
            "x",
            "Nov 31 05:43:43 host",
            "2026-13-01T00:00:00Z host",
            "Now 21 05:43:43 host",
            "2026-11-21T05:43",
        ] {
            assert_eq!(Moment::read(line.as_bytes(), SystemTime::UNIX_EPOCH), None, "{line}");
        }
    }
}
