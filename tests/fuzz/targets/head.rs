//! Header splitter and line ends, against slower and simpler code: no byte is lost, and every cut is where it belongs.
#![no_main]

use std::io::{self, Read, Write};

use libfuzzer_sys::fuzz_target;
use mailseal_core::message::head::{Head, Kind};
use mailseal_core::message::lines::{LineEnding, ToCrlf, first_ending};
use mailseal_core::message::opening::Opening;

fuzz_target!(|message: &[u8]| {
    let end = Head::find_end(message, 0);
    assert_eq!(end, slow_end(message));
    // The search may begin again at any line.
    let line = message.iter().take(message.len() / 2).rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if end.is_none_or(|(fields_end, _)| line <= fields_end) {
        assert_eq!(end, Head::find_end(message, line));
    }
    let (fields_end, body_start) = end.unwrap_or((message.len(), message.len()));
    let head = Head::new(&message[..fields_end], &message[fields_end..body_start]);
    check_items(head);
    check_lines(message);
    // It takes longer than all the rest.
    if message.len() % 16 == 1 {
        check_opening(message, fields_end, body_start);
    }
});

fn slow_end(message: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    for line in message.split_inclusive(|&byte| byte == b'\n') {
        if line == b"\n" || line == b"\r\n" {
            return Some((at, at + line.len()));
        }
        at += line.len();
    }
    None
}

fn check_items(head: Head<'_>) {
    let mut rest = head.fields();
    let mut types = 0;
    for (number, item) in head.items().enumerate() {
        assert!(!item.raw.is_empty());
        rest = rest.strip_prefix(item.raw).expect("the items in order are the header");
        assert!(rest.is_empty() || item.raw.ends_with(b"\n"));
        let mbox_line = number == 0 && item.raw.starts_with(b"From ");
        assert!(mbox_line || !matches!(rest.first(), Some(b' ' | b'\t')), "a continuation on its own");
        let lines = || item.raw.split_inclusive(|&byte| byte == b'\n');
        assert!(lines().skip(1).all(|line| matches!(line[0], b' ' | b'\t')));

        let first = lines().next().expect("an item has a line");
        let name = first.iter().position(|&byte| byte == b':').map(|colon| &first[..colon]);
        let lower = name.unwrap_or_default().trim_ascii_end().to_ascii_lowercase();
        let lone_cr =
            (0..item.raw.len()).any(|at| item.raw[at] == b'\r' && item.raw.get(at + 1) != Some(&b'\n'));
        let sound = name.is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic));
        let expected = match () {
            () if lone_cr => Kind::Malformed,
            () if number == 0 && first.starts_with(b"From ") => Kind::FromLine,
            () if !sound => Kind::Malformed,
            () if lower.starts_with(b"content-") => Kind::Content,
            () if lower == b"mime-version" => Kind::MimeVersion,
            () => Kind::Field,
        };
        assert_eq!(item.kind, expected);
        if lower == b"content-type" {
            types += 1;
            assert!(item.value_of("CONTENT-TYPE").is_some());
        }
    }
    assert!(rest.is_empty());
    check_split(head);
    assert_eq!(head.count("Content-Type"), types);
    assert_eq!(head.only("content-type").is_some(), types == 1);
}

/// Nothing of the region is for any reader the body, and what is shown of the tail holds nothing more to hide.
fn check_split(head: Head<'_>) {
    let (region, tail) = head.split();
    let fields: Vec<u8> = region.items().flat_map(|item| item.raw).copied().collect();
    assert_eq!([&fields[..], tail.bytes()].concat(), head.fields());
    let blank = |line: &[u8]| line.iter().all(|byte| b" \t\r\n".contains(byte));
    let ends = |raw: &[u8]| raw.split_inclusive(|&byte| byte == b'\n').any(blank);
    assert!(region.items().all(|item| item.kind != Kind::Malformed && !ends(item.raw)));
    let first = tail.items().next();
    assert!(first.is_none_or(|item| item.kind == Kind::Malformed || ends(item.raw)));
    let shown: Vec<u8> = tail.repeated().flat_map(|item| item.raw).copied().collect();
    let outside = [fields, shown].concat();
    assert!(Head::new(&outside, b"\n").split().1.is_repeated_whole());
}

fn check_lines(message: &[u8]) {
    let lines = || message.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let crlf = lines().filter(|line| line.ends_with(b"\r\n")).count();
    let expected = match (crlf, lines().count()) {
        (0, _) => LineEnding::Lf,
        (crlf, all) if crlf == all => LineEnding::Crlf,
        _ => LineEnding::Mixed,
    };
    assert_eq!(LineEnding::of(message), expected);
    let first = lines().next().unwrap_or_default();
    assert_eq!(first_ending(message), if first.ends_with(b"\r\n") { "\r\n" } else { "\n" });

    let mut converted = Vec::new();
    let mut writer = ToCrlf::new(&mut converted);
    let size = message.len() % 7 + 1;
    message.chunks(size).for_each(|piece| writer.write_all(piece).expect("a vector takes all"));
    let mut back = Vec::with_capacity(message.len());
    for &byte in &converted {
        if byte == b'\n' {
            assert_eq!(back.pop(), Some(b'\r'));
        }
        back.push(byte);
    }
    assert_eq!(back, message);
}

fn check_opening(message: &[u8], fields_end: usize, body_start: usize) {
    let mut reader = Pieces { rest: message, size: message.len() % 13 + 1 };
    let Ok(opening) = Opening::read(&mut reader) else {
        panic!("refused");
    };
    assert!(opening.is_whole() && opening.bytes() == message);
    // A CR on a line of its own at the end of the message is not the header's.
    let lone_cr = usize::from(body_start == message.len() && message[..fields_end].ends_with(b"\r"));
    let lone_cr = if fields_end == 1 || message[..fields_end].ends_with(b"\n\r") { lone_cr } else { 0 };
    assert_eq!(opening.head().fields(), &message[..fields_end - lone_cr]);
    assert_eq!(opening.body(), &message[body_start - lone_cr..]);
}

/// Gives a few bytes a call.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.size.min(buffer.len());
        self.rest.read(&mut buffer[..most])
    }
}
