//! The time at the beginning of a log line, as syslog daemons and the journal write it.

use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, ZonedDateTime};

/// When a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// The instant. A line without a time zone is taken to be in this machine's.
    pub instant: Timestamp,
    /// What the clock on the wall showed.
    pub wall: DateTime,
}

/// How many years back the 29th of February may be.
const YEARS: i16 = 8;

impl Moment {
    /// The time at `instant`, with the clock on the wall in `zone`.
    #[must_use]
    pub fn at(instant: Timestamp, zone: &TimeZone) -> Self {
        Self { instant, wall: zone.to_datetime(instant) }
    }

    /// How long after this `later` is.
    #[must_use]
    pub fn until(self, later: Self) -> SignedDuration {
        later.instant.duration_since(self.instant)
    }

    /// Reads the time at the beginning of `line`, and gives what follows it: `2026-11-21T05:43:43.123456+01:00`
    /// (`Z`, `+0100`, or nothing), or `Nov 21 05:43:43`, which is in the last twelve months before `now`.
    pub fn read<'a>(line: &'a [u8], now: &ZonedDateTime) -> Option<(Self, &'a [u8])> {
        if line.first()?.is_ascii_digit() { read_iso(line, now) } else { read_traditional(line, now) }
    }

    /// The time at which the clock of `now` shows `wall`: the first one where it does so twice.
    fn local(wall: DateTime, now: &ZonedDateTime) -> Option<Self> {
        Some(Self { instant: now.time_zone().to_timestamp(wall).ok()?, wall })
    }
}

fn read_iso<'a>(line: &'a [u8], now: &ZonedDateTime) -> Option<(Moment, &'a [u8])> {
    // There may be a blank between the date and the time, but not in the time.
    const DATE: usize = "2026-11-21T".len();
    let end = DATE + memchr::memchr(b' ', line.get(DATE..)?)?;
    let time = Pieces::parse(&line[..end]).ok()?;
    let wall = time.date().to_datetime(time.time()?);
    let moment = match time.to_numeric_offset() {
        Some(offset) => Moment { instant: offset.to_timestamp(wall).ok()?, wall },
        None => Moment::local(wall, now)?,
    };
    Some((moment, &line[end + 1..]))
}

fn read_traditional<'a>(line: &'a [u8], now: &ZonedDateTime) -> Option<(Moment, &'a [u8])> {
    let (time, length) = BrokenDownTime::parse_prefix("%b %e %H:%M:%S%.f", line).ok()?;
    let rest = line[length..].strip_prefix(b" ")?;
    let (month, day, clock) = (time.month()?, time.day()?, time.to_time().ok()?);
    // A log may be ahead of the clock by a day: another time zone.
    let latest = now.datetime().checked_add(1.day()).ok()?;
    let wall = (0..=YEARS)
        .filter_map(|back| Date::new(latest.year() - back, month, day).ok())
        .map(|date| date.to_datetime(clock))
        .find(|wall| *wall <= latest)?;
    Some((Moment::local(wall, now)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    /// 2026-11-21 05:43:43 UTC.
    const NOW: i64 = 1_795_239_823;

    /// How many seconds after now the line was written, and what the clock showed, in the same measure.
    fn read(line: &str, zone: TimeZone) -> Option<(i64, i64)> {
        let now = Timestamp::constant(NOW, 0).to_zoned_datetime(zone);
        let (moment, rest) = Moment::read(line.as_bytes(), &now)?;
        assert_eq!(rest, b"host", "{line}");
        let wall = moment.wall.to_zoned_datetime(TimeZone::UTC).unwrap().timestamp();
        Some((moment.instant.as_second() - NOW, wall.as_second() - NOW))
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
            assert_eq!(read(line, TimeZone::UTC), Some(expected), "{line}");
        }
        for line in [
            "",
            "x",
            "Nov 31 05:43:43 host",
            "2026-13-01T00:00:00Z host",
            "Now 21 05:43:43 host",
            "2026-11-21T05:43",
            "2026-11-21T25:43:43Z host",
            "2026-11-21",
            "Nov 21",
        ] {
            assert_eq!(read(line, TimeZone::UTC), None, "{line}");
        }
    }

    /// The hour between two and three is not there on 2026-03-29 and there twice on 2026-10-25.
    #[test]
    fn a_line_without_a_zone_is_in_that_of_the_machine() {
        let berlin = || TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let hour = 3600;
        for (line, expected) in [
            ("Nov 21 06:43:43 host", (0, hour)),
            ("2026-11-21T06:43:43 host", (0, hour)),
            ("2026-11-21T05:43:43Z host", (0, 0)),
            ("Oct 25 05:43:43 host", (-27 * DAY - hour, -27 * DAY)),
            ("Oct 24 06:43:43 host", (-28 * DAY - hour, -28 * DAY + hour)),
            ("Jul 24 06:43:43 host", (-120 * DAY - hour, -120 * DAY + hour)),
        ] {
            assert_eq!(read(line, berlin()), Some(expected), "{line}");
        }
        let seconds = |line: &str| read(line, berlin()).unwrap().0;
        assert_eq!(seconds("Mar 29 03:30:00 host"), seconds("Mar 29 02:30:00 host"));
        assert_eq!(seconds("Oct 25 03:00:00 host") - seconds("Oct 25 02:59:59 host"), hour + 1);
    }
}
