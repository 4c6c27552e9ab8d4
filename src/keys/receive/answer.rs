//! The message that answers another: the text in clear, with the message itself attached byte for byte.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::time::SystemTime;

use jiff::Timestamp;

use super::contents::{ANSWER, Contents};
use super::words::Answer;
use crate::console::escape;
use crate::error::Error;
use crate::keys::code;
use mailseal_core::error::Error as CoreError;

/// Longest Message-ID and Subject that are repeated, in bytes.
const QUOTED: usize = 200;

/// Random characters of a boundary: 130 bits.
const BOUNDARY: usize = 26;

/// What of the answered message is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The user's address.
    pub to: &'a str,
    /// What was found in it.
    pub contents: &'a Contents,
}

/// Writes `answer` to the message of which `original` is all.
///
/// # Errors
/// [`Error::Output`]; [`CoreError::Read`] for the message.
pub fn write(
    answer: &Answer,
    head: &Head<'_>,
    original: impl Read,
    now: SystemTime,
    output: &mut impl Write,
) -> Result<(), Error> {
    let boundary = format!("=_mailseal-{}", code::new(BOUNDARY)?);
    let text = format!("{}\n{}", answer.text(), about_message(head.contents));
    let mut begin = fields(head.to, answer.subject(), &new_id()?, now);
    begin += &format!("{ANSWER}: v1\nMailseal-Next: {}\n", answer.next().name());
    if let Some(id) = head.contents.message_id.as_deref().filter(|id| is_id(id)) {
        begin += &format!("In-Reply-To: <{id}>\n");
    }
    begin += &format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\n\n--{boundary}\n");
    begin += "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n";
    begin +=
        &format!("{text}\n--{boundary}\nContent-Type: message/rfc822\nContent-Disposition: attachment\n\n");
    let write = |output: &mut dyn Write, bytes: &[u8]| output.write_all(bytes).map_err(Error::Output);
    write(output, begin.replace('\n', "\r\n").as_bytes())?;
    let mut original = BufReader::new(original);
    loop {
        let piece = original.fill_buf().map_err(CoreError::Read)?;
        if piece.is_empty() {
            break;
        }
        let length = piece.len();
        write(output, piece)?;
        original.consume(length);
    }
    write(output, format!("\r\n--{boundary}--\r\n").as_bytes())?;
    output.flush().map_err(Error::Output)
}

/// A message of its own, in clear, with the Message-ID `id` ([`new_id`]).
#[must_use]
pub fn notice(to: &str, (subject, text): &(&str, String), id: &str, now: SystemTime) -> Vec<u8> {
    let mut message = fields(to, subject, id, now);
    message += &format!("{ANSWER}: v1\nContent-Type: text/plain; charset=utf-8\n");
    message += &format!("Content-Transfer-Encoding: 8bit\n\n{text}");
    message.replace('\n', "\r\n").into_bytes()
}

/// A Message-ID that no other message has, without its angle brackets.
///
/// # Errors
/// Those of [`code::new`].
pub fn new_id() -> Result<String, Error> {
    Ok(format!("{}@mailseal.invalid", code::new(BOUNDARY)?))
}

fn fields(to: &str, subject: &str, id: &str, now: SystemTime) -> String {
    let date = Timestamp::try_from(now).unwrap_or_default().strftime("%a, %d %b %Y %T +0000").to_string();
    let to = escape::display(to.as_bytes());
    format!(
        "From: mailseal <{to}>\nTo: {to}\nDate: {date}\nMessage-ID: <{id}>\nSubject: {subject}\n\
         Auto-Submitted: auto-replied\nMIME-Version: 1.0\n"
    )
}

/// By what the user knows that it is the answer to the own message: whoever plants one cannot know this.
fn about_message(contents: &Contents) -> String {
    let shown = |text: &str| {
        let mut text = escape::display(text.as_bytes());
        if text.len() > QUOTED {
            let end = (0..=QUOTED).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
        }
        text
    };
    format!(
        "-- \nThis answers your message, which is attached:\n  Subject     {}\n  Message-ID  {}\n",
        shown(&contents.subject),
        contents.message_id.as_deref().map_or_else(|| "none".into(), shown),
    )
}

fn is_id(id: &str) -> bool {
    id.len() <= QUOTED && id.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::receive::contents::is_answer;
    use mail_parser::{MessageParser, PartType};

    #[test]
    fn an_answer_is_mail_with_the_message_in_it_byte_for_byte() {
        let original =
            b"Subject: =?utf-8?q?\x1b=0Ax?=\r\nMessage-ID: <a@b>\r\n\r\nline\r\n.\r\n--x\r\nlast".to_vec();
        let contents = Contents::of(&original);
        let head = Head { to: "alice@example.org", contents: &contents };
        let mut out = Vec::new();
        write(&Answer::Nothing, &head, &*original, SystemTime::now(), &mut out).unwrap();
        let parsed = MessageParser::default().parse(&out).unwrap();
        assert_eq!(parsed.subject(), Some("No key was found"));
        assert_eq!(parsed.in_reply_to().as_text(), Some("a@b"));
        let text = parsed.body_text(0).unwrap();
        assert!(text.contains("public key") && text.contains("a@b") && !text.contains('\x1b'), "{text}");
        let attached = parsed.parts.iter().find_map(|part| match &part.body {
            PartType::Message(inner) => Some(inner.raw_message.to_vec()),
            _ => None,
        });
        let at = out.windows(original.len()).position(|window| window == original);
        assert!(attached.is_some() && at.is_some());
        assert!(is_answer(&out));
        assert!(out.split(|byte| *byte == b'\n').all(|line| line.is_empty()
            || line.ends_with(b"\r")
            || original.ends_with(line)
            || line == b"last"));
    }

    #[test]
    fn odd_message_ids_stay_out_of_the_header() {
        for id in ["a b", "a\r\nX: y", "<x>", &"x".repeat(QUOTED + 1)] {
            assert!(!is_id(id), "{id}");
        }
    }
}
