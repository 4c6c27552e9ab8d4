//! Replies: ours, and those of a next hop, which are handed on.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use smtp_proto::response::parser::ResponseReceiver;

use super::lines::{Connection, Line, Lines};

/// Most lines of a reply that are read.
const LINES: usize = 100;

/// Most characters of its text that are handed on.
const TEXT: usize = 400;

/// A reply of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The enhanced code, where there is one, and the text: printable characters only.
    pub text: String,
}

impl Reply {
    /// One of ours.
    #[must_use]
    pub fn new(code: u16, enhanced: &str, text: &str) -> Self {
        Self { code, text: format!("{enhanced} {text}") }
    }

    /// What is answered where anything is in doubt: nothing is lost, the client tries again.
    #[must_use]
    pub fn later() -> Self {
        Self::new(451, "4.3.0", "not now; the log of mailseal says why")
    }

    /// Whether it takes the responsibility, or agrees.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether it is a refusal, temporary or permanent.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        (400..600).contains(&self.code)
    }

    /// Reads a reply, all of which must come within `time`, and gives its lines as well.
    ///
    /// # Errors
    /// Those of [`Lines::read`]; [`io::ErrorKind::UnexpectedEof`] where the connection ends, [`io::ErrorKind::InvalidData`] for
    /// what is no reply.
    pub fn read<C: Connection>(from: &mut Lines<C>, time: Duration) -> io::Result<(Self, Vec<u8>)> {
        let invalid =
            || io::Error::new(io::ErrorKind::InvalidData, "it does not answer as a mail server does");
        let end = Instant::now() + time;
        let mut receiver = ResponseReceiver::default();
        let mut whole = Vec::new();
        for _ in 0..LINES {
            let line = match from.read(end.saturating_duration_since(Instant::now()))? {
                Line::Whole(line) => line,
                Line::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                Line::Malformed | Line::TooLong => return Err(invalid()),
            };
            // The receiver would take more and less.
            let same = whole.is_empty() || whole.get(..3) == line.get(..3);
            if line.len() < 3 || !matches!(line.get(3), None | Some(b' ' | b'-')) || !same {
                return Err(invalid());
            }
            let start = whole.len();
            whole.extend_from_slice(&line);
            whole.extend_from_slice(b"\r\n");
            match receiver.parse(&mut whole[start..].iter()) {
                Ok(response) if (200..600).contains(&response.code) => {
                    let [class, subject, detail] = response.esc;
                    let enhanced = (class > 0).then(|| format!("{class}.{subject}.{detail} "));
                    let text = enhanced.unwrap_or_default() + &response.message;
                    return Ok((Self { code: response.code, text: printable(&text) }, whole));
                }
                Err(smtp_proto::Error::NeedsMoreData { .. }) => {}
                _ => return Err(invalid()),
            }
        }
        Err(invalid())
    }
}

fn printable(text: &str) -> String {
    text.chars().take(TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}\r\n", self.code, self.text)
    }
}
