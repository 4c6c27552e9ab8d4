//! What stands on the wire: commands, replies, and messages between DATA and the dot, read by whatever pieces they come in.
#![no_main]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{self, BufReader, Cursor, Read, Write};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mailseal::serve::smtp::command::{Command, Mail};
use mailseal::serve::smtp::data::{DotWriter, Dots};
use mailseal::serve::smtp::lines::{Connection, Line, Lines};
use mailseal::serve::smtp::path::Path;
use mailseal::serve::smtp::reply::Reply;

/// A connection from which all can be read.
struct Wire<'a>(Cursor<&'a [u8]>);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Connection for Wire<'_> {
    fn limit(&self, _: Duration) {}
}

/// The message and what stands behind its dot, as the plainest reading of RFC 5321 has it; `None` where it does not end.
fn plainly(wire: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let with_start = [b"\r\n", wire].concat();
    let end = with_start.windows(5).position(|window| window == b"\r\n.\r\n")?;
    let mut message = Vec::new();
    let mut rest = &with_start[..end + 2];
    // A dot behind CRLF was added.
    while let Some(at) = rest.windows(3).position(|window| window == b"\r\n.") {
        message.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 3..];
    }
    message.extend_from_slice(rest);
    Some((message[2..].to_vec(), &wire[end + 3..]))
}

fn read_message(wire: &[u8], at_once: usize) {
    let mut inner = BufReader::with_capacity(at_once, wire);
    let mut dots = Dots::new(None);
    let mut message = Vec::new();
    let result = dots.read(&mut inner).read_to_end(&mut message);
    let drained = dots.read(&mut inner).drain();
    let plain = plainly(wire);
    assert_eq!(drained.is_ok(), plain.is_some());
    let Some((expected, behind)) = plain else { return };
    let mut rest = Vec::new();
    inner.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, behind, "it ends elsewhere");
    if result.is_ok() {
        assert_eq!(message, expected);
        let mut wire_again = DotWriter::new(Vec::new());
        wire_again.write_all(&expected).unwrap();
        let again = wire_again.finish().unwrap();
        assert_eq!(plainly(&again).unwrap(), (expected.clone(), &b""[..]));
    }
    // Whatever ends lines, no dot stands alone on one.
    let alone = wire[..wire.len() - behind.len() - 3]
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .any(|line| line == b".");
    assert_eq!(result.is_err(), alone, "{:?}", String::from_utf8_lossy(wire));
    assert_eq!(result.is_err(), dots.refused().is_some());
}

fn read_command(line: &[u8]) {
    let Ok(command) = Command::parse(line) else { return };
    let path = match &command {
        Command::Mail(Mail { from, .. }) => from,
        Command::Rcpt(path) => path,
        _ => return,
    };
    // It is handed on as it was written, and cannot be taken for more.
    let written = path.as_str();
    assert!(line.windows(written.len()).any(|text| text == written.as_bytes()));
    assert!(!written.contains(|c: char| c.is_ascii_control()));
    let (again, length) = Path::read(format!("{written} X").as_bytes()).unwrap();
    assert_eq!((&again, length), (path, written.len()));
    if let Some(mailbox) = path.mailbox() {
        assert!(!mailbox.local.is_empty());
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 4 {
        0 => read_command(rest),
        1 => {
            let mut lines = Lines::new(Wire(Cursor::new(rest)));
            if let Ok((reply, _)) = Reply::read(&mut lines, Duration::from_secs(1)) {
                assert!((200..600).contains(&reply.code));
                assert!(!reply.text.contains(|c: char| c.is_control()));
            }
        }
        2 => {
            let mut lines = Lines::new(Wire(Cursor::new(rest)));
            while let Ok(line) = lines.read(Duration::from_secs(1)) {
                match line {
                    Line::Whole(line) => assert!(!line.contains(&b'\n') && !line.contains(&b'\r')),
                    Line::End => break,
                    Line::Malformed | Line::TooLong => {}
                }
            }
        }
        _ => [1, 2, 3, 64].into_iter().for_each(|at_once| read_message(rest, at_once)),
    }
});
