//! One line of a log: what it says about a delivery or a sealed folder, in whatever form the log is.
//!
//! Only lines count that one of our programs has written. Values are as they stand there: nothing in a log is to be
//! believed, and what is shown of it is escaped once more.

use std::borrow::Cow;

use jiff::{Timestamp, ZonedDateTime};
use serde::{Deserialize, Serialize};

use super::clock::Moment;
use crate::cli;
use crate::log::Outcome;

/// What one line says.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'a> {
    /// When it was written, where the log says so.
    pub time: Option<Moment>,
    /// About what.
    pub what: What<'a>,
}

/// A delivery, or a folder.
#[derive(Clone, Debug, PartialEq)]
pub enum What<'a> {
    /// One message.
    Delivery(Delivery<'a>),
    /// A folder that `encrypt-maildir` went through.
    Folder(Folder),
}

/// One message that was to be delivered. Sizes are in bytes, times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery<'a> {
    /// The user.
    pub user: Cow<'a, str>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why; `-` where there is nothing to say.
    pub reason: Cow<'a, str>,
    /// Warnings, a comma between them; `-` where there are none.
    pub warnings: Cow<'a, str>,
    /// Size of the message.
    pub bytes_in: u64,
    /// Time to find and use the certificates.
    pub key_ms: f64,
    /// Time in all.
    pub ms: f64,
    /// The number of a heartbeat, where it was one.
    pub heartbeat: Option<u64>,
    /// Its Message-ID, where it was logged.
    pub message_id: Option<Cow<'a, str>>,
}

/// What became of the messages of a folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Folder {
    /// How many there were.
    pub messages: u64,
    /// How many were sealed.
    pub sealed: u64,
    /// How many stayed as they are.
    pub unchanged: u64,
    /// How many failed.
    pub failed: u64,
    /// Bytes before.
    pub bytes_in: u64,
    /// Bytes after.
    pub bytes_out: u64,
    /// Milliseconds.
    pub ms: f64,
}

/// Programs that write such lines, as they are named in a log.
pub(crate) const PROGRAMS: [&str; 3] = [cli::FILTER, cli::ADMIN, cli::BULK];

/// The fields of a journal entry that are looked at.
#[derive(Deserialize)]
struct Journal<'a> {
    #[serde(rename = "MESSAGE", borrow)]
    message: Cow<'a, str>,
    #[serde(rename = "SYSLOG_IDENTIFIER", borrow, default)]
    identifier: Cow<'a, str>,
    #[serde(rename = "__REALTIME_TIMESTAMP", borrow, default)]
    microseconds: Cow<'a, str>,
}

impl<'a> Entry<'a> {
    /// Reads a line of syslog's files, of `journalctl -o short-iso` or `-o json`, or of a log file of our own; `None`
    /// where it is not one of our programs'. `now` gives the year and the time zone where the line has none.
    #[must_use]
    pub fn parse(line: &'a [u8], now: &ZonedDateTime) -> Option<Self> {
        // Most lines of a mail log are none of ours.
        let sign =
            memchr::memmem::find(line, b"outcome=").or_else(|| memchr::memmem::find(line, b" sealed="));
        sign?;
        if line.starts_with(b"{") {
            return Self::parse_journal(line, now);
        }
        let (time, rest) = match Moment::read(line, now) {
            Some((time, rest)) => (Some(time), rest),
            None => (None, line),
        };
        let rest = std::str::from_utf8(rest).ok()?;
        // In a file of our own the line stands alone.
        let text = if rest.starts_with("user=") && time.is_none() {
            rest
        } else {
            after_program(rest, time.is_some())?
        };
        What::parse(text).map(|what| Self { time, what })
    }

    fn parse_journal(line: &'a [u8], now: &ZonedDateTime) -> Option<Self> {
        let journal: Journal<'_> = serde_json::from_slice(line).ok()?;
        if !PROGRAMS.contains(&&*journal.identifier) {
            return None;
        }
        let instant =
            journal.microseconds.parse().ok().and_then(|time| Timestamp::from_microsecond(time).ok());
        let time = instant.map(|instant| Moment::at(instant, now.time_zone()));
        let what = match journal.message {
            Cow::Borrowed(text) => What::parse(text)?,
            Cow::Owned(text) => What::parse(&text)?.into_owned(),
        };
        Some(Self { time, what })
    }
}

/// What stands behind `HOST PROGRAM[PID]: `, or, without a time before it, behind `PROGRAM: ` (standard error).
fn after_program(text: &str, with_host: bool) -> Option<&str> {
    let text = if with_host { text.split_once(' ')?.1 } else { text };
    let (tag, text) = text.split_once(": ")?;
    let name = tag.split_once('[').map_or(tag, |(name, _)| name);
    PROGRAMS.contains(&name).then_some(text)
}

impl<'a> What<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut delivery = Delivery::default();
        let mut folder = Folder::default();
        let (mut is_delivery, mut is_folder) = (false, false);
        for (key, value) in text.trim_end().split(' ').filter_map(|field| field.split_once('=')) {
            let count = || value.parse::<u64>().ok();
            let time = || value.parse::<f64>().ok().filter(|time| time.is_finite() && *time >= 0.0);
            match key {
                "user" => delivery.user = unescape(value),
                "outcome" => {
                    delivery.outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == value)?;
                    is_delivery = true;
                }
                "reason" => delivery.reason = value.into(),
                "warn" => delivery.warnings = value.into(),
                "in" => (delivery.bytes_in, folder.bytes_in) = (count()?, count()?),
                "out" => folder.bytes_out = count()?,
                "key_ms" => delivery.key_ms = time()?,
                "ms" => (delivery.ms, folder.ms) = (time()?, time()?),
                "heartbeat" => delivery.heartbeat = Some(count()?),
                "msgid" => delivery.message_id = (value != "-").then(|| unescape(value)),
                "messages" => {
                    folder.messages = count()?;
                    is_folder = true;
                }
                "sealed" => folder.sealed = count()?,
                "unchanged" => folder.unchanged = count()?,
                "failed" => folder.failed = count()?,
                // A later version may say more.
                _ => {}
            }
        }
        if is_folder { Some(Self::Folder(folder)) } else { is_delivery.then_some(Self::Delivery(delivery)) }
    }

    fn into_owned(self) -> What<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Folder(folder) => What::Folder(folder),
            Self::Delivery(delivery) => What::Delivery(Delivery {
                user: owned(delivery.user),
                outcome: delivery.outcome,
                reason: owned(delivery.reason),
                warnings: owned(delivery.warnings),
                bytes_in: delivery.bytes_in,
                key_ms: delivery.key_ms,
                ms: delivery.ms,
                heartbeat: delivery.heartbeat,
                message_id: delivery.message_id.map(owned),
            }),
        }
    }
}

/// Undoes [`crate::console::escape::log_value`].
fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return value.into();
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let byte =
            after.strip_prefix('x').and_then(|it| it.get(..2)).and_then(|it| u8::from_str_radix(it, 16).ok());
        rest = match byte {
            Some(byte) => {
                bytes.push(byte);
                &after[3..]
            }
            None => {
                bytes.push(b'\\');
                after.strip_prefix('\\').unwrap_or(after)
            }
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::log::LogLine;

    fn parse(line: &str) -> Option<Entry<'_>> {
        Entry::parse(line.as_bytes(), &Timestamp::UNIX_EPOCH.to_zoned_datetime(TimeZone::UTC))
    }

    #[test]
    fn a_line_is_read_in_every_form_of_log() {
        let line = LogLine {
            user: "zo\u{eb} b=c".into(),
            outcome: Outcome::Deferred,
            reason: Some("key-store"),
            bytes_in: 1234,
            time: std::time::Duration::from_micros(41_250),
            message_id: Some(b"<a\\b>".to_vec()),
            ..LogLine::default()
        }
        .to_string();
        let quoted = serde_json::to_string(&line).unwrap();
        let forms = [
            line.clone(),
            format!("mailseal-filter: {line}"),
            format!("Jan  1 00:00:00 mail mailseal-filter[123]: {line}"),
            format!("1970-01-01T00:00:00.000001+00:00 mail mailseal[1]: {line}"),
            format!("1970-01-01T00:00:00+0000 mail mailseal-filter[1]: {line}\r"),
            format!(
                r#"{{"PRIORITY":"6","__REALTIME_TIMESTAMP":"1","SYSLOG_IDENTIFIER":"mailseal-filter","MESSAGE":{quoted}}}"#
            ),
        ];
        for form in forms {
            let entry = parse(&form).expect(&form);
            let What::Delivery(delivery) = entry.what else { panic!("{form}") };
            assert_eq!(delivery.user, "zo\u{eb} b=c", "{form}");
            assert_eq!(
                (delivery.outcome, &*delivery.reason, delivery.bytes_in),
                (Outcome::Deferred, "key-store", 1234)
            );
            assert_eq!((delivery.ms, delivery.message_id.as_deref()), (41.2, Some("<a\\b>")));
            assert_eq!(
                entry.time.map(|time| time.instant.as_second()),
                if form.contains("mail") && form != line && !form.starts_with("mailseal") {
                    Some(0)
                } else {
                    None
                },
                "{form}"
            );
        }
    }

    #[test]
    fn folders_are_read() {
        let line = "1970-01-01T00:00:00Z mail encrypt-maildir[1]: user=a folder=INBOX messages=10 sealed=7 unchanged=2 failed=1 in=5 out=6 ms=7.5";
        let folder =
            Folder { messages: 10, sealed: 7, unchanged: 2, failed: 1, bytes_in: 5, bytes_out: 6, ms: 7.5 };
        assert_eq!(parse(line).unwrap().what, What::Folder(folder));
    }

    #[test]
    fn lines_of_others_are_not() {
        for line in [
            "Jan  1 00:00:00 mail postfix/cleanup[1]: subject: user=a outcome=deferred in=1 ms=1",
            "Jan  1 00:00:00 mail postfix[1]: mailseal-filter: user=a outcome=deferred in=1 ms=1",
            "Jan  1 00:00:00 mail mailseal-filter[1]: user=a outcome=lost in=1 ms=1",
            "Jan  1 00:00:00 mail mailseal-filter[1]: user=a outcome=sealed in=x ms=1",
            "Jan  1 00:00:00 mail mailseal-filter[1]: user=a outcome=sealed in=1 ms=nan",
            r#"{"SYSLOG_IDENTIFIER":"sshd","MESSAGE":"user=a outcome=deferred"}"#,
            r#"{"SYSLOG_IDENTIFIER":"mailseal-filter","MESSAGE":[1,2]} outcome="#,
            "{ outcome=",
            "",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
