//! What an admin is told of all certificates in one message: whose are of no use, whose expire, whose mail waits, what users have
//! sent, and who is sealed for.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::Telling;
use super::deferred::Waiting;
use super::facts::{Seen, Subject};
use crate::config::Receive;
use crate::console::date::day;
use crate::console::escape;
use crate::error::Error;
use crate::keys::admin::Keys;
use crate::keys::receive::answer;
use crate::outgoing::address::Address;
use crate::outgoing::{own, policy};

/// Most lines under one heading.
const MOST: usize = 1000;

/// Longest line, in characters: what is wrong, an owner's process may have said.
const LINE: usize = 400;

/// The lists of a digest, each under its heading.
#[derive(Debug, Default)]
struct Digest {
    unusable: Vec<String>,
    expiring: Vec<String>,
    waiting: Vec<String>,
    pending: Vec<String>,
    unasked: Vec<String>,
    enrolled: Vec<String>,
}

impl Keys<'_> {
    /// Sends the digest to `to`, sealed as mail that leaves is.
    pub(super) fn send_digest(
        &self,
        to: &str,
        all: &[Subject],
        waiting: &Waiting,
        how: &Telling,
    ) -> Result<(), Error> {
        let address = Address::parse(to, policy::domain(self.config).as_deref())?;
        let mut digest = Digest::of(all, waiting, how.within, self.now);
        if self.config.keys.receive != Receive::Off {
            match self.pending_lines(&how.users) {
                Ok((lines, unasked)) => {
                    digest.pending = lines;
                    digest.unasked.extend(unasked);
                }
                Err(error) => {
                    digest.unasked.push(format!("what users have sent is not known: {error}"));
                }
            }
        }
        let text = digest.message(&own::host(), &own::sender(self.config), &address, self.now)?;
        own::send(self.config, &address, text.as_bytes(), None)
    }
}

impl Digest {
    fn of(all: &[Subject], waiting: &Waiting, within: Duration, now: SystemTime) -> Self {
        let mut digest = Self::default();
        for subject in all {
            let name = subject.user.name();
            let facts = match &subject.facts {
                Ok(facts) => facts,
                Err(why) => {
                    digest.unasked.push(format!("{name}: {why}"));
                    continue;
                }
            };
            for seen in &facts.certs {
                let line = |what: &str| format!("{name}: {} {what}", seen.fingerprint);
                match &seen.unfit {
                    Some(why) => digest.unusable.push(line(why)),
                    None if is_near(seen, within, now) => {
                        digest.expiring.push(line(&format!("expires on {}", day(seen.expiry()))));
                    }
                    None => {}
                }
            }
            match &facts.deferral {
                Some(deferral) => {
                    let since = waiting.get(&subject.user).and_then(|waits| waits.since);
                    let since = since
                        .map_or_else(String::new, |it| format!(", since {}", it.strftime("%F %H:%M UTC")));
                    digest.waiting.push(format!("{name}: {}: {}{since}", deferral.reason, deferral.what));
                }
                None if !facts.certs.is_empty() => digest.enrolled.push(name.into()),
                None => {}
            }
        }
        digest
    }

    /// The message, in clear.
    fn message(&self, host: &str, sender: &str, to: &Address, now: SystemTime) -> Result<String, Error> {
        let date = Timestamp::try_from(now).unwrap_or_default().strftime("%a, %d %b %Y %T +0000");
        let faults = self.unusable.len() + self.expiring.len() + self.waiting.len();
        let id = answer::new_id()?;
        let mut text = format!(
            "From: {sender}\nTo: {to}\nDate: {date}\nMessage-ID: <{id}>\n\
             Subject: Keys on {host}: {} sealed for, {faults} to look after\nAuto-Submitted: auto-generated\n\
             MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n",
            self.enrolled.len(),
        );
        let lists = [
            ("Mail waits, or would", &self.waiting),
            ("Certificates that cannot be used", &self.unusable),
            ("Certificates that expire soon", &self.expiring),
            ("Sent by users, and not in effect (mailseal keys pending)", &self.pending),
            ("Not known", &self.unasked),
            ("Mail is sealed for", &self.enrolled),
        ];
        for (heading, lines) in lists {
            list(&mut text, heading, lines);
        }
        Ok(text)
    }
}

fn is_near(seen: &Seen, within: Duration, now: SystemTime) -> bool {
    seen.expiry().is_some_and(|at| at <= now + within)
}

fn list(text: &mut String, heading: &str, lines: &[String]) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{heading}: {}",
        if lines.is_empty() { "none".into() } else { lines.len().to_string() }
    );
    for line in lines.iter().take(MOST) {
        let short: String = line.chars().take(LINE).collect();
        let _ = writeln!(text, "  {}", escape::again(short.as_bytes()));
    }
    if lines.len() > MOST {
        let _ = writeln!(text, "  and {} more", lines.len() - MOST);
    }
    text.push('\n');
}
