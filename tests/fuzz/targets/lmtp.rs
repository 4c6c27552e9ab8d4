//! A client that says anything, and a next hop that answers anything: what was not taken is not called taken, nothing in clear goes
//! on, and everything ends.
#![no_main]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mailseal::config::serve::{Serve, Speaks, Userdb};
use mailseal::config::{Config, Mode, Rule};
use mailseal::log::sink::Sink;
use mailseal::log::{Door, Target};
use mailseal::serve::lmtp::{Session, Way};
use mailseal::serve::shared::Shared;
use mailseal::serve::smtp::lines::Connection;
use testing::fixtures;

/// What stands in every message whose mail is sealed.
const CANARY: &[u8] = b"canary";

/// Everybody's mail is sealed, to one of two certificates.
static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let rule = |pattern: &str, key: &str| Rule {
        patterns: vec![pattern.into()],
        mode: Mode::Seal,
        key: vec![fixtures::cert(key)],
        protect_headers: None,
        pad: None,
        require: false,
    };
    let serve = Serve { userdb: Userdb::None, ..Serve::default() };
    let users = vec![rule("*b*", "v6"), rule("*", "curve25519")];
    Shared::new(Config { users, serve, ..Config::default() }, Sink::open(&Target::None, "fuzz"))
});

/// A client that says all it has to say, whatever it is answered.
struct Client<'a> {
    says: &'a [u8],
    hears: Arc<Mutex<Vec<u8>>>,
}

impl Read for Client<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.says.read(buffer)
    }
}

impl Write for Client<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.hears.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Connection for Client<'_> {
    fn limit(&self, _: Duration) {}
}

/// A next hop: it says what it should but at the steps where `script` has something else.
#[derive(Default)]
struct Hop {
    answers: VecDeque<u8>,
    line: Vec<u8>,
    in_message: bool,
    at_line_start: bool,
    recipients: usize,
    begun: bool,
    story: Arc<Mutex<Story>>,
}

#[derive(Default)]
struct Story {
    script: VecDeque<u8>,
    heard: Vec<u8>,
    /// How often it has said that it stored a message.
    stored: usize,
}

impl Hop {
    fn say(&mut self, answer: &str) -> bool {
        let choice = self.story.lock().unwrap().script.pop_front().unwrap_or_default();
        let said = match choice {
            0xf0 => "451 4.3.0 later\r\n",
            0xf1 => "550 5.0.0 never\r\n",
            0xf2 => "nonsense\r\n",
            0xf3 => "",
            0xf4 => "250-more\r\n250 2.0.0 several\r\n",
            0xf5 => "354 go on\r\n",
            0xf6 => "250 2.0.0 twice\r\n250 2.0.0 twice\r\n",
            0xf7 => "999 \0\u{1b}\r\n",
            _ => answer,
        };
        self.answers.extend(said.bytes());
        said.starts_with(answer.get(..3).unwrap_or_default())
    }

    fn take(&mut self) {
        let line = std::mem::take(&mut self.line);
        if self.in_message {
            if line == b".\r\n" && self.at_line_start {
                self.in_message = false;
                for _ in 0..self.recipients {
                    if self.say("250 2.0.0 stored\r\n") {
                        self.story.lock().unwrap().stored += 1;
                    }
                }
                self.recipients = 0;
            }
            self.at_line_start = line.ends_with(b"\r\n");
            return;
        }
        match line.get(..4).unwrap_or_default() {
            b"LHLO" => _ = self.say("250-sink\r\n250 8BITMIME\r\n"),
            b"RCPT" => self.recipients += usize::from(self.say("250 2.1.5 recipient\r\n")),
            b"DATA" => {
                self.in_message = self.say("354 go on\r\n");
                self.at_line_start = true;
            }
            b"MAIL" | b"RSET" => {
                self.recipients = 0;
                _ = self.say("250 2.1.0 sender\r\n");
            }
            _ => _ = self.say("250 2.0.0 other\r\n"),
        }
    }
}

impl Read for Hop {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.begun = true;
            self.say("220 sink\r\n");
        }
        // Where it has nothing to say, it has gone.
        self.answers.read(buffer)
    }
}

impl Write for Hop {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.story.lock().unwrap().heard.extend_from_slice(data);
        for byte in data {
            self.line.push(*byte);
            if *byte == b'\n' {
                self.take();
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Connection for Hop {
    fn limit(&self, _: Duration) {}
}

/// A short way to say what a fuzzer would seldom find.
fn spelled(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in bytes {
        match byte {
            0x80 => text.extend_from_slice(b"LHLO x\r\n"),
            0x81 => text.extend_from_slice(b"MAIL FROM:<s@x>\r\n"),
            0x82 => text.extend_from_slice(b"RCPT TO:<alice@x>\r\n"),
            0x83 => text.extend_from_slice(b"RCPT TO:<bob@x>\r\n"),
            0x84 => text.extend_from_slice(b"DATA\r\n"),
            0x85 => text.extend_from_slice(b"Subject: x\r\n\r\ncanary\r\n"),
            0x86 => text.extend_from_slice(b".\r\n"),
            0x87 => text.extend_from_slice(b"\r\n"),
            0x88 => text.extend_from_slice(b"RSET\r\n"),
            0x89 => text.extend_from_slice(b"EHLO x\r\n"),
            byte => text.push(*byte),
        }
    }
    text
}

fuzz_target!(|data: &[u8]| {
    // The first octet says how many of the next are the next hop's.
    let Some((count, rest)) = data.split_first() else { return };
    let (script, says) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let story = Arc::new(Mutex::new(Story { script: script.iter().copied().collect(), ..Story::default() }));
    let hears = Arc::default();
    let says = spelled(says);
    let connect = || {
        let hop = Hop { story: Arc::clone(&story), ..Hop::default() };
        Ok(Box::new(hop) as Box<dyn Connection>)
    };
    let client = Client { says: &says, hears: Arc::clone(&hears) };
    // However it ends.
    let way = Way { door: Door::Lmtp, speaks: Speaks::Lmtp, connect: &connect };
    let _ = Session::new(client, &SHARED, way, "host").run();

    let story = story.lock().unwrap();
    let clear = story.heard.windows(CANARY.len()).any(|text| text == CANARY);
    // An address may say anything.
    let in_address = says.windows(CANARY.len()).filter(|text| *text == CANARY).count()
        > says.windows(19).filter(|text| *text == b"Subject: x\r\n\r\ncana").count();
    assert!(!clear || in_address, "said in clear");
    let hears = hears.lock().unwrap();
    let hears = String::from_utf8_lossy(&hears);
    let stored = hears.lines().filter(|line| *line == "250 2.0.0 stored").count();
    assert!(stored <= story.stored, "{stored} are called stored, {} were", story.stored);
    for line in hears.lines() {
        let well = line.get(..3).is_some_and(|code| code.bytes().all(|digit| digit.is_ascii_digit()))
            && matches!(line.get(3..4), Some(" " | "-"))
            && !line.contains(|c: char| c.is_control());
        assert!(well, "{line:?}");
    }
});
