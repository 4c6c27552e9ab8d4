//! Messages that gpgit sealed at rest, before mailseal did: told from those that a sender encrypted by the frame that gpgit's
//! MIME library gives them, and put together again.
//!
//! The frame proves nothing: a sender may use the same library. Such a message is opened with its owner's key, and keeps
//! every byte of what is inside, as gpgit's own does.

use super::original::{Header, stored, with_ending};
use crate::message::head::{Head, Kind};
use crate::message::lines::{LineEnding, first_ending};
use crate::message::opening::Opening;

/// What its boundaries begin with. Time, process and a count follow, with `-` between them.
const BOUNDARY_PREFIX: &str = "----------=_";

/// The line before the first part.
const PREAMBLE: &str = "This is a multi-part message in MIME format...";

/// The header of the first part, and its text.
const CONTROL: [&str; 5] = [
    "Content-Type: application/pgp-encrypted; name=\"msg.asc\"",
    "Content-Disposition: inline; filename=\"msg.asc\"",
    "Content-Transfer-Encoding: 7bit",
    "",
    "Version: 1",
];

/// The header of the second part.
const DATA: [&str; 4] = [
    "Content-Type: application/octet-stream",
    "Content-Disposition: inline",
    "Content-Transfer-Encoding: 7bit",
    "",
];

/// Whether PGP/MIME whose parts `boundary` separates, and whose body begins with `body`, has gpgit's frame: each line of it up to
/// the armor.
#[must_use]
pub fn is_framed(boundary: &str, body: &[u8]) -> bool {
    let Some(numbers) = boundary.strip_prefix(BOUNDARY_PREFIX) else { return false };
    let numbers: Vec<&str> = numbers.split('-').collect();
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if numbers.len() != 3 || !numbers.iter().all(is_number) {
        return false;
    }
    let delimiter = format!("--{boundary}");
    let expected = [PREAMBLE, "", &delimiter].into_iter().chain(CONTROL);
    // What the library puts behind the text of a part has been one line end, and two.
    let mut lines = body.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if !expected.into_iter().all(|line| lines.next() == Some(line.as_bytes())) {
        return false;
    }
    let mut next = lines.next();
    if next == Some(b"") {
        next = lines.next();
    }
    next == Some(delimiter.as_bytes()) && DATA.iter().all(|line| lines.next() == Some(line.as_bytes()))
}

/// The line ending of what is inside, and of the message that comes out.
#[must_use]
pub fn ending(outer: Head<'_>, inside: &Opening) -> LineEnding {
    match stored(outer) {
        LineEnding::Lf => LineEnding::Lf,
        _ => LineEnding::of(first_ending(inside.head().fields()).as_bytes()),
    }
}

/// The header of the message: the fields of the `outer` header that gpgit left there, and those of `inside` in the place of the
/// MIME fields that it wrote. `None` where other fields stand inside than `Content-*` and `MIME-Version`: gpgit puts no others
/// there, and who knows the certificate could write them.
#[must_use]
pub fn header(outer: Head<'_>, inside: &Opening, ending: LineEnding) -> Option<Header> {
    let head = inside.head();
    if !head.items().all(|item| item.kind.is_mime()) {
        return None;
    }
    let line_end = if ending == LineEnding::Crlf { "\r\n" } else { "\n" };
    let outside = with_ending(outer.fields(), stored(outer), ending);
    let mut bytes = Vec::with_capacity(outside.len() + head.fields().len() + 32);
    let mut written = false;
    let mut write_mime = |bytes: &mut Vec<u8>| {
        if !std::mem::replace(&mut written, true) {
            bytes.extend_from_slice(format!("MIME-Version: 1.0{line_end}").as_bytes());
            let content = head.items().filter(|item| item.kind == Kind::Content);
            content.for_each(|item| bytes.extend_from_slice(&item.ended(line_end)));
        }
    };
    for item in Head::new(&outside, b"").items() {
        if item.kind.is_mime() {
            write_mime(&mut bytes);
        } else {
            bytes.extend_from_slice(&item.ended(line_end));
        }
    }
    write_mime(&mut bytes);
    bytes.extend_from_slice(line_end.as_bytes());
    Some(Header { bytes, exact: false, whole: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDARY: &str = "----------=_1740996000-4711-0";

    fn frame() -> String {
        let delimiter = format!("--{BOUNDARY}");
        let control = [PREAMBLE, "", &delimiter].into_iter().chain(CONTROL);
        let data = [&*delimiter].into_iter().chain(DATA).chain(["-----BEGIN PGP MESSAGE-----"]);
        control.chain(data).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_frame_is_known_line_by_line() {
        let frame = frame();
        assert!(is_framed(BOUNDARY, frame.as_bytes()));
        assert!(is_framed(BOUNDARY, frame.replace('\n', "\r\n").as_bytes()));
        assert!(is_framed(BOUNDARY, frame.replace("Version: 1\n", "Version: 1\n\n").as_bytes()));
        for (number, line) in frame.lines().enumerate().filter(|(number, _)| *number < 13) {
            let lines = frame.lines().enumerate();
            let without: Vec<_> = lines.filter(|(at, _)| *at != number).map(|(_, line)| line).collect();
            assert!(!is_framed(BOUNDARY, without.join("\n").as_bytes()), "without {number}: {line}");
        }
        for (from, to) in [
            ("msg.asc", "encrypted.asc"),
            ("7bit", "8bit"),
            ("octet-stream\n", "octet-stream; name=\"msg.asc\"\n"),
            ("format...", "format."),
            ("Version: 1\n", "Version: 1\n\n\n"),
        ] {
            assert!(!is_framed(BOUNDARY, frame.replace(from, to).as_bytes()), "{to}");
        }
        for boundary in [
            "",
            "=_x",
            "----------=_1740996000-4711",
            "----------=_1-2-3-4",
            "----------=_1--3",
            "----------=_a-2-3",
        ] {
            assert!(!is_framed(boundary, frame.replace(BOUNDARY, boundary).as_bytes()), "{boundary}");
        }
    }

    #[test]
    fn what_stands_outside_stays_and_only_mime_fields_come_back() {
        let outer = "Received: a\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\nSubject: b\n c\nContent-Type: multipart/encrypted\nX: d\n";
        let restored = |entity: &str, outer: &str| {
            let inside = Opening::read_entity(&mut entity.as_bytes()).unwrap();
            let outer = Head::new(outer.as_bytes(), b"\n");
            let header = header(outer, &inside, ending(outer, &inside))?;
            Some(String::from_utf8(header.bytes).unwrap())
        };
        let inside = "Content-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\ntext\n";
        let expected = "Received: a\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\nSubject: b\n c\nX: d\n\n";
        assert_eq!(restored(inside, outer).as_deref(), Some(expected));
        let crlf = outer.replace('\n', "\r\n");
        assert_eq!(restored(&inside.replace('\n', "\r\n"), &crlf), Some(expected.replace('\n', "\r\n")));
        assert_eq!(restored(inside, &crlf).as_deref(), Some(expected), "as what is inside");
        assert_eq!(restored("\ntext\n", "A: b\n").as_deref(), Some("A: b\nMIME-Version: 1.0\n\n"));
        for foreign in ["From: mallory\n\nx", "Received: z\nContent-Type: text/plain\n\nx", "no field\n\nx"] {
            assert_eq!(restored(foreign, outer), None, "{foreign}");
        }
    }
}
