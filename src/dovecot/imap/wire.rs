//! Responses as they come over the wire: lines, in which literals of any length may stand.
//!
//! A line is handed on as a whole, without the message in it: that one passes by as a stream. What reads the line leaves the
//! backslashes in quoted strings; so other literals become quoted strings.

use std::io::{self, BufRead, Read};

/// Longest response without the message in it; flags and names of folders are far shorter.
const LONGEST: usize = 1024 * 1024;

/// What comes before the literal that is handed on as a stream.
const MESSAGE: &[u8] = b"BODY[] ";

/// Takes a message: what the response says before it, and its bytes. What it leaves is skipped.
pub type OnMessage<'a> = dyn FnMut(&[u8], &mut Literal<'_>) + 'a;

/// The bytes of a literal; an error where they end too early.
pub struct Literal<'a> {
    from: &'a mut dyn BufRead,
    length: u64,
    left: u64,
}

impl Literal<'_> {
    /// How many bytes it has.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether all of it has been read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.left == 0
    }

    fn skip(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }
}

impl Read for Literal<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.from.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Reads one response, up to and with its last CRLF. In the place of a message stands `""`, and in that of each byte that is
/// not ASCII a question mark: what a server says in other letters is for people (RFC 3501, section 9, `CHAR`).
///
/// # Errors
/// Those of the stream; `UnexpectedEof` at its end, `InvalidData` for a response that is too long.
pub fn response(from: &mut impl BufRead, on_message: &mut OnMessage<'_>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let too_long = || io::Error::from(io::ErrorKind::InvalidData);
        let begun = text.len();
        let room = LONGEST.checked_sub(text.len()).ok_or_else(too_long)?;
        from.take(room as u64).read_until(b'\n', &mut text)?;
        if !text.ends_with(b"\n") {
            let kind =
                if text.len() < LONGEST { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::InvalidData };
            return Err(kind.into());
        }
        to_ascii(&mut text[begun..]);
        let Some((start, length)) = announced(&text) else { return Ok(text) };
        if text[..start].ends_with(MESSAGE) {
            text.truncate(start);
            text.extend_from_slice(b"\"\"");
            let mut literal = Literal { from, length, left: length };
            on_message(&text, &mut literal);
            literal.skip()?;
        } else if length < (LONGEST.checked_sub(text.len()).ok_or_else(too_long)?) as u64 {
            let mut string = Vec::new();
            from.take(length).read_to_end(&mut string)?;
            if (string.len() as u64) < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to_ascii(&mut string);
            if string.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0')) {
                text.extend_from_slice(&string);
                continue;
            }
            text.truncate(start);
            quote(&string, &mut text);
        } else {
            return Err(too_long());
        }
    }
}

fn to_ascii(text: &mut [u8]) {
    text.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
}

fn quote(string: &[u8], text: &mut Vec<u8>) {
    text.push(b'"');
    for byte in string {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text.push(b'"');
}

/// Where the announcement of a literal begins that ends `text`, and its length.
fn announced(text: &[u8]) -> Option<(usize, u64)> {
    let line = text.strip_suffix(b"}\r\n")?;
    let start = memchr::memrchr(b'{', line)?;
    let length = std::str::from_utf8(&line[start + 1..]).ok()?.parse().ok()?;
    Some((start, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_pass_by_and_other_literals_are_quoted() {
        let wire = b"* LIST () \".\" {4}\r\na}\"b\r\n* 1 FETCH (UID 7 BODY[] {11}\r\na {5}\r\nx)\r\ny FLAGS ())\r\na OK\r\n";
        let mut reader = io::BufReader::with_capacity(3, &wire[..]);
        let mut seen = Vec::new();
        let mut next = |reader: &mut _| {
            response(reader, &mut |before, literal| {
                let mut bytes = Vec::new();
                // Half of it: the rest is skipped.
                literal.take(5).read_to_end(&mut bytes).unwrap();
                seen.push((before.to_vec(), bytes, literal.length()));
            })
            .unwrap()
        };
        assert_eq!(next(&mut reader), b"* LIST () \".\" \"a}\\\"b\"\r\n");
        assert_eq!(next(&mut reader), b"* 1 FETCH (UID 7 BODY[] \"\"y FLAGS ())\r\n");
        assert_eq!(next(&mut reader), b"a OK\r\n");
        assert_eq!(seen, [(b"* 1 FETCH (UID 7 BODY[] \"\"".to_vec(), b"a {5}".to_vec(), 11)]);
        assert!(response(&mut reader, &mut |_, _| ()).is_err());
    }

    #[test]
    fn a_cut_message_is_an_error_to_who_reads_it() {
        let mut wire = &b"* 1 FETCH (BODY[] {9}\r\nabc"[..];
        let mut failed = false;
        let all = response(&mut wire, &mut |_, literal| {
            failed = literal.read_to_end(&mut Vec::new()).is_err();
        });
        assert!(failed && all.is_err());
    }

    #[test]
    fn literals_that_grow_as_they_are_quoted_stay_within_the_limit() {
        // Each quote becomes two octets; the length of a literal that does not come is no length.
        for (announced, sent) in [(700_000, 700_000), (1_000_000, 1_000_000), (u64::MAX, 3), (1_048_560, 3)] {
            let mut wire = format!("* LIST () \".\" {{{announced}}}\r\n").into_bytes();
            wire.extend(std::iter::repeat_n(b'"', sent));
            wire.extend_from_slice(b" {5}\r\nabcde\r\n");
            let result = response(&mut &wire[..], &mut |_, _| ());
            assert!(result.is_err(), "{announced} {sent}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut wire = io::BufReader::new(io::repeat(b'x'));
        let error = response(&mut wire, &mut |_, _| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
