//! What a server says over IMAP: any bytes end every command in bounded time and space.
#![no_main]

use std::collections::BTreeSet;
use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use mailseal::dovecot::imap::{Message, New, Session, name, set};

/// Most UIDs that an answer to APPEND gives.
const MOST_UIDS: usize = 1000;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, server)) = input.split_first() else { return };
    let greeted = [b"* PREAUTH ready\r\n", server].concat();
    let Ok(mut session) = Session::begin(&*greeted, io::sink()) else { return };
    // One command after another, so long as the server's bytes last; none goes on for ever at their end.
    for step in 0..4 {
        let done = match (choice >> (2 * step)) & 3 {
            0 => listing(&mut session),
            1 => reading(&mut session, server.len()),
            2 => adding(&mut session),
            _ => changing(&mut session),
        };
        if done.is_none() {
            return;
        }
    }
});

fn listing(session: &mut Session<&[u8], io::Sink>) -> Option<()> {
    session.namespaces().ok()?;
    for folder in session.folders("").ok()? {
        let _ = name::quoted(&folder);
        let _ = name::readable(&folder);
    }
    Some(())
}

fn reading(session: &mut Session<&[u8], io::Sink>, most: usize) -> Option<()> {
    let _ = session.select("INBOX", false).ok()?;
    session.look_at("1:*", "UID FLAGS MODSEQ").ok()?;
    let uids = session.search("ALL").ok()?;
    let _ = set(uids);
    let mut got = 0;
    let answer = session.fetch("1:*", &mut |_, literal| {
        let mut text = Vec::new();
        // Of every second one only the beginning is read, and the rest is left.
        if literal.length() % 2 == 0 {
            let _ = literal.read(&mut [0; 7]);
        } else {
            let _ = literal.read_to_end(&mut text);
        }
        got += text.len();
    });
    assert!(got <= most, "{got} bytes out of {most}");
    answer.ok().map(drop)
}

fn adding(session: &mut Session<&[u8], io::Sink>) -> Option<()> {
    let flags = BTreeSet::from(["\\Seen".to_owned()]);
    let mut texts = [&b"one"[..], b"two"];
    let mut new: Vec<New<'_>> = texts
        .iter_mut()
        .map(|text| New { flags: &flags, date: "01-Jan-2026 00:00:00 +0000", size: 3, text })
        .collect();
    let answer = session.append("INBOX", &mut new).ok()?;
    assert!(answer.appended.is_none_or(|(_, uids)| uids.len() <= MOST_UIDS));
    Some(())
}

fn changing(session: &mut Session<&[u8], io::Sink>) -> Option<()> {
    let messages = [1, 2].map(|uid| Message { uid, modseq: 1, ..Message::default() });
    let all: Vec<&Message> = messages.iter().collect();
    let set_on = session.set_unchanged(&all, 1, "\\Deleted").ok()?;
    assert!(set_on.iter().all(|uid| [1, 2].contains(uid)));
    for answer in session.all(&["NOOP".to_owned(), "UID EXPUNGE 1".to_owned()]).ok()? {
        let _ = answer.says("EXPUNGEISSUED");
    }
    Some(())
}
