//! A message between DATA and the dot: only a dot on a line of its own between two CRLF ends it (RFC 5321, section 4.1.1.4).
//!
//! A dot beside a bare CR or LF, where another program could see the end of a message and the beginning of another, is refused:
//! that is how mail is smuggled past filters.

use std::io::{self, BufRead, Read, Write};

use super::reply::Reply;

/// Where in the text a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Behind CRLF, or at the beginning.
    Line,
    /// Behind a CR.
    Cr,
    /// Behind a LF without CR, or a CR without LF.
    Bare,
    /// Behind a dot at the beginning of a line, which has not been given out.
    Dot,
    /// Behind the same and a CR.
    DotCr,
    /// Behind a dot which another program could take for one at the beginning of a line.
    BareDot,
    /// Anywhere else.
    Text,
    /// Behind the end.
    End,
}

/// How far a message has been read.
#[derive(Debug)]
pub struct Dots {
    at: At,
    /// How many bytes have been given out.
    length: u64,
    /// How many there may be.
    limit: u64,
    refused: Option<Refused>,
}

/// Reads a message up to its dot, without the dots that were added.
#[derive(Debug)]
pub struct DotReader<'a, R> {
    inner: R,
    dots: &'a mut Dots,
}

/// Why a message is refused whatever is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A dot beside a bare CR or LF.
    BareEnd,
    /// It is too long.
    TooLong,
}

impl Dots {
    /// At the beginning of a message of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: Option<u64>) -> Self {
        Self { at: At::Line, length: 0, limit: limit.unwrap_or(u64::MAX), refused: None }
    }

    /// Goes on reading, from `inner`.
    pub fn read<R: BufRead>(&mut self, inner: R) -> DotReader<'_, R> {
        DotReader { inner, dots: self }
    }

    /// Why it is refused, as far as it has been read.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// How many bytes have been given out.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl<R: BufRead> DotReader<'_, R> {
    /// Reads the rest and forgets it. What is refused ends in the same place.
    ///
    /// # Errors
    /// Those of the connection; [`io::ErrorKind::UnexpectedEof`] where it ends before the message does.
    pub fn drain(&mut self) -> io::Result<()> {
        let mut piece = [0; 4096];
        while self.dots.at != At::End {
            self.step(&mut piece)?;
        }
        Ok(())
    }

    /// Goes on in the text, and writes what belongs to the message to `out`: how many bytes.
    fn step(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let input = match self.inner.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            input => input?,
        };
        if input.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let dots = &mut *self.dots;
        let (mut taken, mut given) = (0, 0);
        while taken < input.len() && given < out.len() && dots.at != At::End {
            if dots.at == At::Text {
                let room = (input.len() - taken).min(out.len() - given);
                let text = &input[taken..taken + room];
                let plain = memchr::memchr2(b'\r', b'\n', text).unwrap_or(room);
                out[given..given + plain].copy_from_slice(&text[..plain]);
                (taken, given) = (taken + plain, given + plain);
                if plain == room {
                    continue;
                }
            }
            let byte = input[taken];
            taken += 1;
            let before = dots.at;
            dots.at = before.after(byte);
            match (before, dots.at) {
                (_, At::Dot | At::DotCr | At::End) => {}
                // What is refused is read to its end only.
                (At::DotCr, _) | (At::Dot | At::BareDot, At::Bare) | (At::BareDot, At::Cr) => {
                    dots.refused.get_or_insert(Refused::BareEnd);
                }
                _ => {
                    out[given] = byte;
                    given += 1;
                }
            }
        }
        self.inner.consume(taken);
        dots.length += given as u64;
        if dots.length > dots.limit {
            dots.refused.get_or_insert(Refused::TooLong);
        }
        Ok(given)
    }
}

impl At {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::End, _) => Self::End,
            (Self::Line, b'.') => Self::Dot,
            (Self::Cr | Self::Bare, b'.') => Self::BareDot,
            (Self::Dot, b'\r') => Self::DotCr,
            (Self::DotCr, b'\n') => Self::End,
            (Self::Cr, b'\n') => Self::Line,
            (_, b'\r') => Self::Cr,
            (_, b'\n') => Self::Bare,
            _ => Self::Text,
        }
    }
}

impl<R: BufRead> Read for DotReader<'_, R> {
    /// As any reader; an error for a message that is [refused](Dots::refused).
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.dots.at == At::End || buffer.is_empty() {
                return Ok(0);
            }
            let count = self.step(buffer)?;
            if let Some(refused) = self.dots.refused {
                return Err(io::Error::new(io::ErrorKind::InvalidData, refused.text()));
            }
            if count > 0 {
                return Ok(count);
            }
        }
    }
}

impl Refused {
    /// What is answered.
    #[must_use]
    pub fn reply(self) -> Reply {
        match self {
            Self::BareEnd => Reply::new(550, "5.5.2", self.text()),
            Self::TooLong => Reply::new(552, "5.3.4", self.text()),
        }
    }

    /// What is wrong with it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::BareEnd => "a dot stands beside a bare CR or LF",
            Self::TooLong => "the message is too long",
        }
    }
}

/// Writes a message with a dot before each dot at the beginning of a line. Only [`DotWriter::finish`] ends it.
#[derive(Debug)]
pub struct DotWriter<W> {
    inner: W,
    at: At,
}

impl<W: Write> DotWriter<W> {
    /// Writes to `inner`, which has agreed to a message.
    pub fn new(inner: W) -> Self {
        Self { inner, at: At::Line }
    }

    /// Ends the message: from here on whoever reads it may store it.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn finish(mut self) -> io::Result<W> {
        if self.at != At::Line {
            self.inner.write_all(b"\r\n")?;
        }
        self.inner.write_all(b".\r\n")?;
        self.inner.flush()?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for DotWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut rest = data;
        while let Some(first) = rest.first() {
            if self.at == At::Line && *first == b'.' {
                self.inner.write_all(b".")?;
            }
            // Up to the end of this line, if it ends.
            let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let line = &rest[..length];
            self.inner.write_all(line)?;
            self.at = match line {
                [b'\n'] if self.at == At::Cr => At::Line,
                [.., b'\r', b'\n'] => At::Line,
                [.., b'\r'] => At::Cr,
                _ => At::Text,
            };
            rest = &rest[length..];
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn read(wire: &[u8], at_once: usize) -> (io::Result<Vec<u8>>, bool, Option<Refused>, Vec<u8>) {
        let mut inner = BufReader::with_capacity(at_once, wire);
        let mut dots = Dots::new(None);
        let mut reader = dots.read(&mut inner);
        let mut message = Vec::new();
        let result = reader.read_to_end(&mut message).map(|_| message);
        let drained = reader.drain().is_ok();
        let refused = dots.refused();
        let mut rest = Vec::new();
        inner.read_to_end(&mut rest).unwrap();
        (result, drained, refused, rest)
    }

    #[test]
    fn only_a_dot_between_two_crlf_ends_a_message() {
        for (wire, message) in [
            (".\r\nQUIT", ""),
            ("a\r\n.\r\nQUIT", "a\r\n"),
            ("a\r\n..\r\n...b\r\n.c\r\n.\r\nQUIT", "a\r\n.\r\n..b\r\nc\r\n"),
            ("a\nb\rc\r\n.\r\nQUIT", "a\nb\rc\r\n"),
            ("a\n.b\r\n.\r\nQUIT", "a\n.b\r\n"),
            ("a.\r\n.\r\nQUIT", "a.\r\n"),
            ("\r\r\n.\r\nQUIT", "\r\r\n"),
        ] {
            for at_once in [1, 2, 3, 100] {
                let (result, drained, refused, rest) = read(wire.as_bytes(), at_once);
                assert_eq!(result.unwrap(), message.as_bytes(), "{wire:?}");
                assert_eq!((drained, refused, &*rest), (true, None, &b"QUIT"[..]), "{wire:?}");
            }
        }
    }

    #[test]
    fn a_dot_beside_a_bare_end_of_line_is_refused() {
        for wire in [
            "a\n.\n",
            "a\n.\r\n",
            "a\r.\r",
            "a\r.\r\n",
            "a\r\n.\n",
            "a\r\n.\rb",
            "a\n.\r",
            "\n.\n",
            ".\n",
            ".\rx",
        ] {
            for at_once in [1, 2, 3, 100] {
                let wire = format!("{wire}MAIL FROM:<smuggler@example.net>\r\n.\r\nQUIT");
                let (result, drained, refused, rest) = read(wire.as_bytes(), at_once);
                assert!(result.is_err(), "{wire:?}");
                assert_eq!((drained, refused), (true, Some(Refused::BareEnd)), "{wire:?}");
                assert_eq!(rest, b"QUIT", "{wire:?}");
            }
        }
    }

    #[test]
    fn what_does_not_end_is_no_message() {
        for wire in ["", "a", "a\r\n", "a\r\n.", "a\r\n.\r", "a\r\n..\r\n"] {
            let (result, drained, ..) = read(wire.as_bytes(), 100);
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{wire:?}");
            assert!(!drained, "{wire:?}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_read_to_its_end() {
        let mut inner = &b"12345\r\n.\r\nQUIT"[..];
        let mut dots = Dots::new(Some(6));
        let mut reader = dots.read(&mut inner);
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
        reader.drain().unwrap();
        assert_eq!((dots.refused(), inner), (Some(Refused::TooLong), &b"QUIT"[..]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            pieces in proptest::collection::vec("(\r\n|\\.|a|\r|\n){0,4}", 0..8),
            at_once in 1usize..5,
        ) {
            let mut writer = DotWriter::new(Vec::new());
            pieces.iter().for_each(|piece| writer.write_all(piece.as_bytes()).unwrap());
            let mut wire = writer.finish().unwrap();
            wire.extend_from_slice(b"QUIT");
            let mut message = pieces.concat().into_bytes();
            if !message.is_empty() && !message.ends_with(b"\r\n") {
                message.extend_from_slice(b"\r\n");
            }
            let (result, drained, refused, rest) = read(&wire, at_once);
            prop_assert!(drained);
            prop_assert_eq!(rest, b"QUIT");
            match result {
                Ok(read) => prop_assert_eq!(read, message),
                Err(_) => prop_assert_eq!(refused, Some(Refused::BareEnd)),
            }
        }
    }
}
