//! What counts as encrypted already really has that structure, as simpler and more lenient code finds it, and has no
//! room for text after it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailseal_core::classify::{Encrypted, Stop, classify, judge};
use mailseal_core::message::head::Head;
use testing::header::{Split, lines, split};

fuzz_target!(|message: &[u8]| {
    let Some((fields_end, body_start)) = Head::find_end(message, 0) else { return };
    let head = Head::new(&message[..fields_end], &message[fields_end..body_start]);
    let body = &message[body_start..];
    // Of a beginning, nothing can be proven.
    let _ = classify(head, body, false);
    let Some(kind) = classify(head, body, true) else { return };
    // What a beginning refutes, the whole does not prove.
    for quarter in 1..4 {
        let beginning = &body[..body.len() * quarter / 4];
        assert_ne!(judge(head, beginning, false), Err(Stop::Refuted), "a quarter {quarter} times");
    }
    match kind {
        Encrypted::PgpInline => assert_armored_message(body),
        Encrypted::PgpMime => assert_pgp_mime(&split(message), 2),
        Encrypted::ExchangePgp => assert_pgp_mime(&split(message), 3),
        Encrypted::Smime => assert_smime(&split(message)),
    }
    for more in [&b"\nwords in the clear\n"[..], b"\n\nx", b"\n--\nwords\n"] {
        assert_eq!(classify(head, &[body, more].concat(), true), None, "{:?}", String::from_utf8_lossy(more));
    }
});

/// The parts of RFC 3156, and at most an empty text.
fn assert_pgp_mime(message: &Split<'_>, most: usize) {
    let kind = value_of(message, "content-type");
    let lower = kind.to_ascii_lowercase();
    // There are many ways to write a boundary; this knows two.
    let mut found = lower.match_indices("boundary=");
    let (Some((at, name)), None) = (found.next(), found.next()) else { return };
    let boundary = &kind[at + name.len()..];
    let boundary = match boundary.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => boundary.split([';', ' ', '\t']).next(),
    }
    .unwrap_or_default();
    if boundary.is_empty() || boundary.contains(['\\', '\u{fffd}', '\0']) || kind.contains(['(', '*']) {
        return;
    }
    let (open, close) = (format!("--{boundary}"), format!("--{boundary}--"));
    let mut pieces: Vec<Vec<u8>> = vec![Vec::new()];
    let mut closed = false;
    for line in lines(message.body) {
        let text = line.trim_ascii_end();
        if !closed && (text == open.as_bytes() || text == close.as_bytes()) {
            closed = text == close.as_bytes();
            pieces.push(Vec::new());
        } else if let Some(piece) = pieces.last_mut() {
            piece.extend(line);
        }
    }
    assert!(closed, "no last boundary {close:?}");
    let [preamble, parts @ .., epilogue] = &pieces[..] else { panic!("no boundary") };
    assert!(preamble.len() <= 200 && epilogue.trim_ascii().is_empty());
    assert!(parts.len() <= most, "{} parts", parts.len());
    let [rest @ .., control, data] = parts else { panic!("less than two parts") };
    let (control, data) = (split(control), split(data));
    // Blanks and CRs round the slash are passed over.
    let type_of = |part| {
        part_value(part, "content-type").to_ascii_lowercase().replace(|c: char| c.is_ascii_whitespace(), "")
    };
    assert!(type_of(&control).contains("application/pgp-encrypted"));
    assert!(type_of(&data).contains("application/octet-stream"));
    for (part, is_message) in [(&control, false), (&data, true)] {
        let Some(text) = decoded(part) else { continue };
        if is_message {
            assert_armored_message(&text);
        } else {
            assert!(text.trim_ascii().eq_ignore_ascii_case(b"Version: 1"));
        }
    }
    for part in rest {
        assert!(decoded(&split(part)).is_none_or(|text| text.trim_ascii().is_empty()));
    }
}

fn value_of(part: &Split<'_>, name: &str) -> String {
    let mut found = part.items.iter().filter(|item| item.is(name));
    let value = found.next().map(|item| item.value()).unwrap_or_default();
    assert!(found.next().is_none(), "{name} twice");
    value
}

/// The same in a part, where blanks before the colon do not matter: nothing but the two parts' own text is in question.
fn part_value(part: &Split<'_>, name: &str) -> String {
    let named = |line: &[u8]| {
        let name_end = line.iter().position(|&byte| byte == b':').unwrap_or(0);
        line[..name_end].trim_ascii_end().eq_ignore_ascii_case(name.as_bytes())
    };
    part.items.iter().find(|item| named(item.bytes)).map(|item| item.value()).unwrap_or_default()
}

/// The body without its encoding; `None` for quoted-printable.
fn decoded(part: &Split<'_>) -> Option<Vec<u8>> {
    match &*part_value(part, "content-transfer-encoding").to_ascii_lowercase() {
        "quoted-printable" => None,
        "base64" => {
            let characters: Vec<u8> =
                part.body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            Some(data_encoding::BASE64.decode(&characters).expect("base64 and nothing else"))
        }
        _ => Some(part.body.to_vec()),
    }
}

/// One armor with nothing round it, and in it session keys and one encrypted packet.
fn assert_armored_message(text: &[u8]) {
    let text = text.trim_ascii();
    let inside = text.strip_prefix(b"-----BEGIN PGP MESSAGE-----").expect("an armor begins");
    let inside = inside.strip_suffix(b"-----END PGP MESSAGE-----").expect("an armor ends");
    let mut lines = inside.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end).skip(1);
    let headers: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(headers.len() <= 10 && headers.iter().all(|line| line.contains(&b':')));
    let mut lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    if lines.last().is_some_and(|line| line.starts_with(b"=") && line.len() == 5) {
        lines.pop();
    }
    let octets = data_encoding::BASE64.decode(&lines.concat()).expect("base64 and nothing else");

    let mut tags = Vec::new();
    let mut rest = &octets[..];
    while !rest.is_empty() {
        let (tag, after) = packet(rest).expect("whole packets to the end");
        tags.push(tag);
        rest = after;
    }
    let [keys @ .., last] = &tags[..] else { panic!("no packet") };
    assert!(matches!(last, 18 | 20), "{tags:?}");
    assert!(!keys.is_empty() && keys.iter().all(|tag| matches!(tag, 1 | 3)), "{tags:?}");
}

/// The tag of the first packet (RFC 9580, section 4.2), and what follows it.
fn packet(data: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, mut rest) = data.split_first()?;
    if first & 0x40 == 0 {
        let octets = 1 << (first & 3);
        let tag = (first & 0x3f) >> 2;
        if octets == 8 {
            return Some((tag, &[]));
        }
        let (length, rest) = rest.split_at_checked(octets)?;
        return Some((tag, rest.get(number(length)..)?));
    }
    loop {
        let (&octet, after) = rest.split_first()?;
        let (length, after) = match octet {
            0..192 => (usize::from(octet), after),
            192..224 => ((usize::from(octet) - 192) * 256 + usize::from(*after.first()?) + 192, &after[1..]),
            224..255 => (1 << (octet - 224), after),
            255 => (number(after.get(..4)?), &after[4..]),
        };
        rest = after.get(length..)?;
        if !(224..255).contains(&octet) {
            return Some((first & 0x3f, rest));
        }
    }
}

fn number(octets: &[u8]) -> usize {
    octets.iter().fold(0, |sum, &octet| (sum << 8) | usize::from(octet))
}

fn assert_smime(message: &Split<'_>) {
    let Some(data) = decoded(message) else { return };
    let (info, rest) = value(&data).expect("a value");
    assert!(rest.is_empty(), "octets after the end");
    let [oid, content] = &children(info, 0x30)[..] else { panic!("no ContentInfo") };
    let authenticated = match (oid.tag, oid.content) {
        (6, b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03") => false,
        (6, b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17") => true,
        other => panic!("content type {other:?}"),
    };
    let [enveloped] = &children(*content, 0xa0)[..] else { panic!("not one content") };
    let mut fields = children(*enveloped, 0x30).into_iter().peekable();
    assert_eq!(fields.next().map(|field| field.tag), Some(2));
    fields.next_if(|field| field.tag == 0xa0);
    assert!(!children(fields.next().expect("recipients"), 0x31).is_empty());
    let encrypted = children(fields.next().expect("encrypted content"), 0x30);
    let [kind, algorithm, data] = &encrypted[..] else { panic!("not three fields") };
    assert_eq!((kind.tag, algorithm.tag, data.tag & !0x20), (6, 0x30, 0x80));
    if data.tag == 0xa0 {
        assert!(children(*data, 0xa0).iter().all(|string| string.tag == 4));
    }
    if authenticated {
        fields.next_if(|field| field.tag == 0xa1);
        assert_eq!(fields.next().map(|field| field.tag), Some(4));
    }
    assert!(fields.next().is_none(), "fields after the end");
}

/// A BER value.
#[derive(Clone, Copy, Debug)]
struct Value<'a> {
    tag: u8,
    content: &'a [u8],
}

/// The first value in `data`, and what follows it.
fn value(data: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (&tag, rest) = data.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if first == 0x80 {
        let mut inner = rest;
        while !inner.starts_with(&[0, 0]) {
            inner = value(inner)?.1;
        }
        let content = &rest[..rest.len() - inner.len()];
        return Some((Value { tag, content }, &inner[2..]));
    }
    let (length, rest) = match first {
        0..0x80 => (usize::from(first), rest),
        _ => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (number(octets), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((Value { tag, content }, rest))
}

fn children(value: Value<'_>, tag: u8) -> Vec<Value<'_>> {
    assert_eq!(value.tag, tag);
    let (mut rest, mut children) = (value.content, Vec::new());
    while !rest.is_empty() {
        let (child, after) = self::value(rest).expect("a value within a value");
        children.push(child);
        rest = after;
    }
    children
}
