//! Line endings: which one a message has, LF to CRLF on the way into the entity, and back.

use std::io::{self, Cursor, Read, Write};

use memchr::{memchr, memchr_iter};

/// The line ending of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnding {
    /// Every line ends with LF, or there is only one line.
    Lf,
    /// Every line ends with CRLF.
    Crlf,
    /// Both occur.
    Mixed,
}

impl LineEnding {
    /// The line ending of `text`.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        let mut endings = Endings::default();
        endings.look_at(text);
        endings.found()
    }
}

/// Which line endings occur in a text that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Endings {
    lf: bool,
    crlf: bool,
    last: u8,
}

impl Endings {
    /// Looks at the next piece; whether a further one can still change what is found.
    pub fn look_at(&mut self, text: &[u8]) -> bool {
        for at in memchr_iter(b'\n', text) {
            if self.lf && self.crlf {
                break;
            }
            let before = at.checked_sub(1).map_or(self.last, |at| text[at]);
            *(if before == b'\r' { &mut self.crlf } else { &mut self.lf }) = true;
        }
        self.last = text.last().copied().unwrap_or(self.last);
        !(self.lf && self.crlf)
    }

    /// What was found.
    #[must_use]
    pub fn found(&self) -> LineEnding {
        match (self.lf, self.crlf) {
            (true, true) => LineEnding::Mixed,
            (false, true) => LineEnding::Crlf,
            _ => LineEnding::Lf,
        }
    }
}

/// How the first line of `text` ends: what is written into a message takes the same ending.
#[must_use]
pub fn first_ending(text: &[u8]) -> &'static str {
    match memchr(b'\n', text) {
        Some(at) if at > 0 && text[at - 1] == b'\r' => "\r\n",
        _ => "\n",
    }
}

/// Bytes that are converted at once.
const CONVERTED_SIZE: usize = 16 * 1024;

/// Writes every LF as CRLF, whatever stands before it, so that the way back is exact: each LF loses one CR.
#[derive(Debug)]
pub struct ToCrlf<W> {
    inner: W,
    converted: Vec<u8>,
}

impl<W: Write> ToCrlf<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, converted: Vec::new() }
    }
}

impl<W: Write> Write for ToCrlf<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let text = &text[..text.len().min(CONVERTED_SIZE)];
        self.converted.clear();
        let mut start = 0;
        for at in memchr_iter(b'\n', text) {
            self.converted.extend_from_slice(&text[start..at]);
            self.converted.extend_from_slice(b"\r\n");
            start = at + 1;
        }
        self.converted.extend_from_slice(&text[start..]);
        self.inner.write_all(&self.converted)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads every CRLF as LF: the way back from [`ToCrlf`].
#[derive(Debug)]
pub struct FromCrlf<R> {
    inner: R,
    read: Vec<u8>,
    converted: Cursor<Vec<u8>>,
}

impl<R: Read> FromCrlf<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            read: Vec::with_capacity(CONVERTED_SIZE + 1),
            converted: Cursor::new(Vec::with_capacity(CONVERTED_SIZE + 1)),
        }
    }

    /// Converts the next piece; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.converted.set_position(0);
        let converted = self.converted.get_mut();
        converted.clear();
        let count = (&mut self.inner).take(CONVERTED_SIZE as u64).read_to_end(&mut self.read)?;
        let mut start = 0;
        for at in memchr_iter(b'\n', &self.read) {
            let line = &self.read[start..at];
            converted.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
            converted.push(b'\n');
            start = at + 1;
        }
        // A CR at the end of a piece waits for what follows it.
        let held = usize::from(count > 0 && self.read.ends_with(b"\r"));
        let end = self.read.len() - held;
        converted.extend_from_slice(&self.read[start..end]);
        self.read.clear();
        self.read.extend_from_slice(&b"\r"[..held]);
        Ok(count > 0 || !converted.is_empty())
    }
}

impl<R: Read> Read for FromCrlf<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.converted.read(buffer)?;
            if count > 0 || buffer.is_empty() || !self.fill()? {
                return Ok(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_told_apart() {
        use LineEnding::*;
        let cases: [(&[u8], LineEnding); 6] = [
            (b"a\nb\n", Lf),
            (b"a\r\nb\r\n", Crlf),
            (b"a\r\nb\n", Mixed),
            (b"a\rb\n", Lf),
            (b"", Lf),
            (b"\n", Lf),
        ];
        for (text, expected) in cases {
            assert_eq!(LineEnding::of(text), expected, "{text:?}");
            let mut pieces = Endings::default();
            text.chunks(1).for_each(|byte| {
                pieces.look_at(byte);
            });
            assert_eq!(pieces.found(), expected, "{text:?} byte by byte");
        }
    }

    #[test]
    fn every_lf_becomes_crlf_in_pieces_of_any_size() {
        let text = b"a\n\nb\r\n\rc\n";
        for size in 1..text.len() {
            let mut out = ToCrlf::new(Vec::new());
            for piece in text.chunks(size) {
                out.write_all(piece).unwrap();
            }
            assert_eq!(out.inner, b"a\r\n\r\nb\r\r\n\rc\r\n");
        }
    }

    #[test]
    fn what_was_converted_comes_back() {
        for text in [
            &b"a\n\nb\n\rc\n"[..],
            b"",
            b"\r",
            b"\n\r",
            &[b"x".repeat(CONVERTED_SIZE - 1), b"\n\r\r\n".to_vec()].concat(),
        ] {
            let mut out = ToCrlf::new(Vec::new());
            out.write_all(text).unwrap();
            let mut back = Vec::new();
            FromCrlf::new(&*out.inner).read_to_end(&mut back).unwrap();
            assert_eq!(back, text);
        }
    }
}
