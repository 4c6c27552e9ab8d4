//! The beginning of a message as it is read: the whole header and the first part of the body.
//!
//! All that is decided about a message is decided on this; the rest is only streamed.

use std::io::{self, Read, Write};

use crate::error::Error;
use crate::limits;
use crate::message::head::Head;
use crate::message::lines::LineEnding;

/// Bytes that are read at once; behind each the end of the header is looked for again.
const READ_SIZE: usize = 64 * 1024;

/// The header block and at most [`limits::LOOK_AHEAD`] bytes of the body.
#[derive(Debug)]
pub struct Opening {
    bytes: Vec<u8>,
    fields_end: usize,
    body_start: usize,
    whole: bool,
    line_ending: LineEnding,
}

impl Opening {
    /// Reads the beginning of a message.
    ///
    /// # Errors
    /// [`Error::Empty`] when there is not one byte, [`Error::HeaderTooLong`] when the header does not end within
    /// [`limits::SEALED_HEADER`], [`Error::Read`] when reading fails.
    pub fn read(reader: &mut impl Read) -> Result<Self, Error> {
        Self::read_within(reader, limits::SEALED_HEADER)
    }

    /// The same where the header may be as long as that of an entity: [`limits::ENTITY_HEADER`].
    ///
    /// # Errors
    /// As [`Opening::read`].
    pub fn read_entity(reader: &mut impl Read) -> Result<Self, Error> {
        Self::read_within(reader, limits::ENTITY_HEADER)
    }

    fn read_within(reader: &mut impl Read, most: usize) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let mut whole = false;
        let mut line = 0;
        let (fields_end, body_start) = loop {
            if let Some(end) = Head::find_end(&bytes, line) {
                break end;
            }
            // Neither a lone CR nor an unfinished line at the end has been ruled out as the empty line yet.
            line = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
            if bytes.len() > most {
                return Err(Error::HeaderTooLong);
            }
            if whole {
                // A CR on a line of its own would become an empty line when it is ended: it is the body's.
                let end = if bytes[line..] == *b"\r" { line } else { bytes.len() };
                break (end, end);
            }
            whole = read_piece(reader, &mut bytes, READ_SIZE)?;
        };
        if fields_end > most {
            return Err(Error::HeaderTooLong);
        }
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        // Beside a header of megabytes less of the body is looked at, to bound them together.
        let look_ahead = (limits::HEADER.saturating_sub(fields_end) / 2)
            .clamp(limits::LEAST_LOOK_AHEAD, limits::LOOK_AHEAD);
        let end = body_start + look_ahead;
        while !whole && bytes.len() < end {
            let missing = end - bytes.len();
            whole = read_piece(reader, &mut bytes, missing.min(READ_SIZE))?;
        }
        let line_ending = LineEnding::of(&bytes);
        Ok(Self { bytes, fields_end, body_start, whole, line_ending })
    }

    /// The same, of a message all of which was looked at and has this line ending.
    #[must_use]
    pub fn with_line_ending(self, line_ending: LineEnding) -> Self {
        Self { line_ending, ..self }
    }

    /// The header block.
    #[must_use]
    pub fn head(&self) -> Head<'_> {
        Head::new(&self.bytes[..self.fields_end], &self.bytes[self.fields_end..self.body_start])
    }

    /// The part of the body that was read.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_start..]
    }

    /// Everything that was read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Everything that was read, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether the message ends here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The line ending of the message, as far as it was looked at.
    #[must_use]
    pub fn line_ending(&self) -> LineEnding {
        self.line_ending
    }
}

/// Appends `most` bytes, or what there is; true at the end of the input. Whatever pieces the reader gives, the
/// header is searched a bounded number of times.
fn read_piece(reader: &mut impl Read, bytes: &mut Vec<u8>, most: usize) -> Result<bool, Error> {
    // Without room, reading begins with pieces of 32 bytes.
    bytes.reserve(most);
    let count = reader.take(most as u64).read_to_end(bytes).map_err(Error::Read)?;
    Ok(count < most)
}

/// Copies `from` to `to` to its end, and tells the errors of the one, which `read_error` explains, from those of the
/// other. `to` is not flushed.
///
/// # Errors
/// What `read_error` gives; [`Error::Write`] when `to` fails.
pub fn copy(
    from: &mut impl Read,
    to: &mut (impl Write + ?Sized),
    read_error: fn(io::Error) -> Error,
) -> Result<(), Error> {
    let mut piece = vec![0; READ_SIZE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&piece[..count]).map_err(Error::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte a call, and an interruption before each.
    struct Trickle<'a>(&'a [u8], bool);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = self.0.len().min(buffer.len()).min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn single_bytes_give_the_same_as_one_piece() {
        for message in [&b"A: b\r\n\r\nbody"[..], b"A: b\n\nx", b"A: b", b"\n", b"\r\n\r\n", b"A: b\n\r"] {
            let at_once = Opening::read(&mut &*message).unwrap();
            let trickled = Opening::read(&mut Trickle(message, false)).unwrap();
            assert_eq!(at_once.bytes, message);
            assert_eq!(trickled.bytes, message);
            assert_eq!(at_once.body_start, trickled.body_start, "{message:?}");
            assert_eq!(at_once.fields_end, trickled.fields_end, "{message:?}");
            assert!(at_once.whole && trickled.whole);
        }
    }

    #[test]
    fn a_header_over_the_limit_is_refused() {
        let endless = io::repeat(b'x');
        assert!(matches!(Opening::read(&mut endless.take(1 << 40)), Err(Error::HeaderTooLong)));
        let mut long = vec![b'x'; limits::SEALED_HEADER];
        long.extend(b"\n\nbody");
        assert!(matches!(Opening::read(&mut &*long), Err(Error::HeaderTooLong)));
        assert!(Opening::read(&mut &long[2..]).is_ok());
    }

    #[test]
    fn the_body_is_read_up_to_the_look_ahead() {
        let mut message = b"A: b\n\n".to_vec();
        message.resize(limits::LOOK_AHEAD + 7, b'x');
        let mut rest = &*message;
        let opening = Opening::read(&mut rest).unwrap();
        assert!(!opening.is_whole());
        assert!(opening.body().len() >= limits::LOOK_AHEAD);
        assert_eq!([opening.bytes(), rest].concat(), message);
    }

    #[test]
    fn a_cr_that_ends_the_message_alone_is_the_body() {
        for (message, fields) in [(&b"A: b\n\r"[..], &b"A: b\n"[..]), (b"\r", b""), (b"A: b\r", b"A: b\r")] {
            let opening = Opening::read(&mut &*message).unwrap();
            assert_eq!((opening.head().fields(), opening.head().separator()), (fields, &b""[..]));
            assert_eq!([fields, opening.body()].concat(), message);
        }
    }

    #[test]
    fn nothing_is_no_message() {
        assert!(matches!(Opening::read(&mut io::empty()), Err(Error::Empty)));
    }
}
