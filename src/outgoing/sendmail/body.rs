//! Edge: The message that is to be sent. It is needed several times, once for each copy: short ones are kept in memory, longer ones
//! in a file that is unlinked from the first moment on. Lines end with LF, as every sendmail has them: nullmailer and dma make CR CR
//! LF of what OSSEC ends with CRLF.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::head::{Head, Kind};
use tempfile::SpooledTempFile;

use crate::error::Error;

/// How much of a message is kept in memory, in bytes.
const MEMORY: usize = 4 * 1024 * 1024;

/// Bytes that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// How much is looked at to see whether a message begins with a header, in bytes.
const FIRST_LINE: u64 = 4096;

/// What can be read again from any place.
trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// A message.
pub struct Body {
    source: Box<dyn Source>,
    /// Where it begins.
    start: u64,
    /// The empty line that a text without a header lacks.
    before: &'static [u8],
    length: u64,
}

impl Body {
    /// Reads a message, as sendmail does: CRLF becomes LF, and it goes to its end or, unless `dots` says otherwise, to a line with a single dot. The second value
    /// says whether there may be more behind.
    ///
    /// # Errors
    /// [`CoreError::Read`], and [`CoreError::Write`] where there is no room for it.
    pub fn read(from: &mut impl Read, dots: bool) -> Result<(Self, bool), Error> {
        let mut spool = SpooledTempFile::new(MEMORY);
        let mut piece = vec![0; READ_SIZE];
        let (mut until_dot, mut ready) = (UntilDot::default(), Vec::with_capacity(READ_SIZE + 2));
        let (mut line_feeds, mut lines) = (LineFeeds::default(), Vec::with_capacity(READ_SIZE + 2));
        let mut length = 0;
        loop {
            let count = match from.read(&mut piece) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CoreError::Read(error).into()),
            };
            let is_over = if dots {
                ready.extend_from_slice(&piece[..count]);
                false
            } else {
                until_dot.take(&piece[..count], &mut ready)
            };
            line_feeds.take(&ready, count == 0 || is_over, &mut lines);
            spool.write_all(&lines).map_err(CoreError::Write)?;
            length += lines.len() as u64;
            ready.clear();
            lines.clear();
            if count == 0 || is_over {
                let body = Self::begun(Box::new(spool), length).map_err(CoreError::Read)?;
                return Ok((body, is_over));
            }
        }
    }

    /// A message that lies in `file` from `start` on.
    ///
    /// # Errors
    /// Those of the file.
    pub fn stored(mut file: File, start: u64) -> io::Result<Self> {
        let end = file.seek(SeekFrom::End(0))?;
        let length = end.checked_sub(start).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Self { source: Box::new(file), start, before: b"", length })
    }

    /// A message that is all of `file`, wherever others who have it open read or write.
    ///
    /// # Errors
    /// Those of the file.
    pub fn shared(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { source: Box::new(Shared { file, at: 0, length }), start: 0, before: b"", length })
    }

    fn begun(mut source: Box<dyn Source>, length: u64) -> io::Result<Self> {
        source.rewind()?;
        let mut first = Vec::new();
        (&mut source).take(FIRST_LINE).read_to_end(&mut first)?;
        let before = missing_line(&first);
        Ok(Self { source, start: 0, before, length: length + before.len() as u64 })
    }

    /// How long it is, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads it from its beginning.
    ///
    /// # Errors
    /// Those of going back.
    pub fn reader(&mut self) -> io::Result<impl Read + '_> {
        self.source.seek(SeekFrom::Start(self.start))?;
        let rest = self.length - self.before.len() as u64;
        // What others add to a file meanwhile does not count.
        Ok(self.before.chain((&mut self.source).take(rest)))
    }
}

/// A file whose place others may move.
struct Shared {
    file: File,
    at: u64,
    length: u64,
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Shared {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.length, by),
            SeekFrom::Current(by) => (self.at, by),
        };
        self.at = from.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// The empty line that a message lacks which begins with its text, as every sendmail has it.
fn missing_line(first: &[u8]) -> &'static [u8] {
    let line = first.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    let item = Head::new(line, b"").items().next();
    let Some(item) = item.filter(|item| item.kind == Kind::Malformed) else { return b"" };
    let name = item.raw.split(|byte| *byte == b':').next().unwrap_or_default();
    let is_field = name.len() < item.raw.len() && !name.trim_ascii_end().iter().any(u8::is_ascii_whitespace);
    match line {
        b"\n" | b"\r\n" => b"",
        // A field to somebody.
        _ if is_field && !name.is_empty() => b"",
        line if line.ends_with(b"\r\n") => b"\r\n",
        _ => b"\n",
    }
}

/// Makes LF of CRLF.
#[derive(Debug, Default)]
struct LineFeeds {
    /// Whether a CR was kept back.
    cr: bool,
}

impl LineFeeds {
    /// Gives out what becomes of `piece`, which is the last one if `is_end`.
    fn take(&mut self, piece: &[u8], is_end: bool, out: &mut Vec<u8>) {
        for &byte in piece {
            if self.cr && byte != b'\n' {
                out.push(b'\r');
            }
            self.cr = byte == b'\r';
            if !self.cr {
                out.push(byte);
            }
        }
        if is_end && std::mem::take(&mut self.cr) {
            out.push(b'\r');
        }
    }
}

/// Finds the line with a single dot.
#[derive(Debug, Default)]
struct UntilDot {
    at: At,
}

/// Where in a line it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    Dot,
    DotCr,
    Inside,
}

impl UntilDot {
    /// Gives out what of `piece` is the message's, and whether it is over; an empty piece is the end of all.
    fn take(&mut self, piece: &[u8], out: &mut Vec<u8>) -> bool {
        if piece.is_empty() {
            out.extend_from_slice(self.held());
            self.at = At::Inside;
        }
        for &byte in piece {
            match (self.at, byte) {
                (At::Start, b'.') => self.at = At::Dot,
                (At::Dot, b'\r') => self.at = At::DotCr,
                (At::Dot | At::DotCr, b'\n') => return true,
                _ => {
                    out.extend_from_slice(self.held());
                    out.push(byte);
                    self.at = if byte == b'\n' { At::Start } else { At::Inside };
                }
            }
        }
        false
    }

    /// What was kept back, since it could have been that line.
    fn held(&self) -> &'static [u8] {
        match self.at {
            At::Dot => b".",
            At::DotCr => b".\r",
            At::Start | At::Inside => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(1);
            self.0.read(&mut buffer[..count])
        }
    }

    fn read(message: &str, dots: bool) -> String {
        let (mut body, _) = Body::read(&mut message.as_bytes(), dots).unwrap();
        let mut text = String::new();
        body.reader().unwrap().read_to_string(&mut text).unwrap();
        let mut again = String::new();
        body.reader().unwrap().read_to_string(&mut again).unwrap();
        assert!(text == again && text.len() as u64 == body.length());
        let (mut slow, _) = Body::read(&mut Slow(message.as_bytes()), dots).unwrap();
        again.clear();
        slow.reader().unwrap().read_to_string(&mut again).unwrap();
        assert_eq!(text, again);
        text
    }

    #[test]
    fn a_line_with_a_dot_ends_a_message() {
        for (message, expected) in [
            ("A: b\n\nx\n.\ny\n", "A: b\n\nx\n"),
            ("A: b\n\nx\n.\r\ny\n", "A: b\n\nx\n"),
            ("A: b\n\n..\n.x\n. \n", "A: b\n\n..\n.x\n. \n"),
            ("A: b\n\nx.\n.", "A: b\n\nx.\n."),
            ("A: b\n\nx\n.\r", "A: b\n\nx\n.\r"),
            (".\nA: b\n", ""),
        ] {
            assert_eq!(read(message, false), expected, "{message:?}");
            assert_eq!(read(message, true).trim_start(), message.replace("\r\n", "\n"), "{message:?}");
        }
    }

    #[test]
    fn lines_end_with_lf() {
        for (message, expected) in [
            ("A: b\r\n\r\nx\r\n.\r\ny\r\n", "A: b\n\nx\n.\ny\n"),
            ("A: b\n\nx\ry\r\r\n\r", "A: b\n\nx\ry\r\n\r"),
        ] {
            assert_eq!(read(message, true), expected, "{message:?}");
        }
    }

    #[test]
    fn a_text_without_a_header_is_a_body() {
        for (message, expected) in [
            ("hello\n", "\nhello\n"),
            ("disk full: /dev/sda\n", "\ndisk full: /dev/sda\n"),
            ("hello\r\nworld\r\n", "\nhello\nworld\n"),
            (": x\n", "\n: x\n"),
            ("Subject: a\n\nb\n", "Subject: a\n\nb\n"),
            ("Subject : a\n\nb\n", "Subject : a\n\nb\n"),
            ("From root Mon Jan\nA: b\n", "From root Mon Jan\nA: b\n"),
            ("\nhello\n", "\nhello\n"),
            ("", ""),
        ] {
            assert_eq!(read(message, true), expected, "{message:?}");
        }
    }

    #[test]
    fn a_shared_file_is_read_wherever_others_read() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"A: b\n\nx\n").unwrap();
        let mut body = Body::shared(file.try_clone().unwrap()).unwrap();
        for place in [0, 3, 8] {
            file.seek(SeekFrom::Start(place)).unwrap();
            assert_eq!(io::read_to_string(body.reader().unwrap()).unwrap(), "A: b\n\nx\n");
            assert_eq!(file.stream_position().unwrap(), place);
        }
    }

    #[test]
    fn a_long_message_is_read_again_and_again() {
        let long = format!("A: b\n\n{}", "0123456789\n".repeat(MEMORY / 8));
        assert!(read(&long, true) == long);
    }
}
