//! What a client asks for. Verbs and parameters are `smtp-proto`'s to read; paths are [`Path`]'s, because they are handed on as
//! they were written.

use smtp_proto::{MAIL_BODY_7BIT, MAIL_BODY_8BITMIME, MAIL_SMTPUTF8, Request};

use super::path::Path;
use super::reply::Reply;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// LHLO, EHLO or HELO.
    Hello {
        /// Whether the client knows extensions.
        extended: bool,
        /// Whether it expects an answer for each recipient.
        lmtp: bool,
    },
    /// MAIL FROM.
    Mail(Mail),
    /// RCPT TO.
    Rcpt(Path),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// HELP.
    Help,
    /// QUIT.
    Quit,
}

/// The beginning of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The reverse path.
    pub from: Path,
    /// Whether the client says that the message has octets over 127.
    pub eight_bit: bool,
    /// Whether it says that addresses or the header have.
    pub utf8: bool,
    /// How long it says the message is, in bytes.
    pub size: Option<u64>,
}

impl Command {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// What to answer.
    pub fn parse(line: &[u8]) -> Result<Self, Reply> {
        let (path, line) = without_path(line)?;
        let request = Request::parse(&mut line.iter()).map_err(|error| match error {
            smtp_proto::Error::UnknownCommand => Reply::new(500, "5.5.1", "unknown command"),
            smtp_proto::Error::UnsupportedParameter { .. } => {
                Reply::new(555, "5.5.4", "a parameter that was not offered")
            }
            _ => Reply::new(501, "5.5.4", "syntax error"),
        })?;
        let not_offered = || Reply::new(555, "5.5.4", "a parameter that was not offered");
        match (request, path) {
            (Request::Lhlo { .. }, None) => Ok(Self::Hello { extended: true, lmtp: true }),
            (Request::Ehlo { .. }, None) => Ok(Self::Hello { extended: true, lmtp: false }),
            (Request::Helo { .. }, None) => Ok(Self::Hello { extended: false, lmtp: false }),
            (Request::Mail { from }, Some(path)) => {
                let offered = MAIL_BODY_7BIT | MAIL_BODY_8BITMIME | MAIL_SMTPUTF8;
                let others = smtp_proto::MailFrom { flags: 0, size: 0, ..from.clone() };
                if from.flags & !offered != 0 || others != smtp_proto::MailFrom::default() {
                    return Err(not_offered());
                }
                if !path.is_null() && path.mailbox().is_none() {
                    return Err(Reply::new(501, "5.1.7", "the address is not well formed"));
                }
                Ok(Self::Mail(Mail {
                    from: path,
                    eight_bit: from.flags & MAIL_BODY_8BITMIME != 0,
                    utf8: from.flags & MAIL_SMTPUTF8 != 0,
                    size: u64::try_from(from.size).ok().filter(|size| *size > 0),
                }))
            }
            (Request::Rcpt { to }, Some(path)) => {
                let plain = (to.orcpt, to.rrvs, to.flags) == (None, 0, 0);
                if plain { Ok(Self::Rcpt(path)) } else { Err(not_offered()) }
            }
            (Request::Data, None) => Ok(Self::Data),
            (Request::Rset, None) => Ok(Self::Rset),
            (Request::Noop { .. }, None) => Ok(Self::Noop),
            (Request::Vrfy { .. }, None) => Ok(Self::Vrfy),
            (Request::Help { .. }, None) => Ok(Self::Help),
            (Request::Quit, None) => Ok(Self::Quit),
            _ => Err(Reply::new(502, "5.5.1", "not offered")),
        }
    }
}

/// The path in a line that must have one, and the line with the null path in its place, and its end.
fn without_path(line: &[u8]) -> Result<(Option<Path>, Vec<u8>), Reply> {
    let begins = |word: &str| {
        line.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
            .then_some(word.len())
    };
    let mut whole = line.to_vec();
    let mut path = None;
    if let Some(start) = begins("MAIL FROM:").or_else(|| begins("RCPT TO:")) {
        let blanks = line[start..].iter().take_while(|byte| **byte == b' ').count();
        let refused = || Reply::new(501, "5.1.7", "an address in angle brackets is expected");
        let (found, length) = Path::read(&line[start + blanks..]).ok_or_else(refused)?;
        let rest = &line[start + blanks + length..];
        if !matches!(rest.first(), None | Some(b' ')) {
            return Err(refused());
        }
        whole = [&line[..start], b"<>", rest].concat();
        path = Some(found);
    }
    whole.extend_from_slice(b"\r\n");
    Ok((path, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(from: &str) -> Mail {
        Mail { from: Path::read(from.as_bytes()).unwrap().0, eight_bit: false, utf8: false, size: None }
    }

    #[test]
    fn commands_are_read() {
        for (line, expected) in [
            ("LHLO mx.example.org", Command::Hello { extended: true, lmtp: true }),
            ("ehlo [127.0.0.1]", Command::Hello { extended: true, lmtp: false }),
            ("HELO x", Command::Hello { extended: false, lmtp: false }),
            ("MAIL FROM:<>", Command::Mail(mail("<>"))),
            ("mail from: <a@b.org> ", Command::Mail(mail("<a@b.org>"))),
            (
                "MAIL FROM:<a@b.org> BODY=8BITMIME SMTPUTF8 SIZE=1000",
                Command::Mail(Mail { eight_bit: true, utf8: true, size: Some(1000), ..mail("<a@b.org>") }),
            ),
            ("RCPT TO:<\"a b>\"@c.org>", Command::Rcpt(Path::read(b"<\"a b>\"@c.org>").unwrap().0)),
            ("RCPT TO:<alice>", Command::Rcpt(Path::read(b"<alice>").unwrap().0)),
            ("DATA", Command::Data),
            ("RSET", Command::Rset),
            ("NOOP hello", Command::Noop),
            ("VRFY alice", Command::Vrfy),
            ("QUIT", Command::Quit),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_was_not_offered_is_refused() {
        for (line, code) in [
            ("", 500),
            ("FOO", 500),
            ("STARTTLS", 502),
            ("BDAT 5 LAST", 502),
            ("AUTH PLAIN AAAA", 502),
            ("EXPN x", 502),
            ("MAIL FROM:<a@b.org> RET=FULL", 555),
            ("MAIL FROM:<a@b.org> AUTH=<>", 555),
            ("MAIL FROM:<a@b.org> FOO=1", 555),
            ("MAIL FROM:<a@b.org> BODY=BINARYMIME", 555),
            ("RCPT TO:<a@b.org> NOTIFY=SUCCESS", 555),
            ("RCPT TO:<a@b.org> ORCPT=rfc822;a@b.org", 555),
            ("MAIL FROM:<a@b.org> SIZE=x", 501),
            ("MAIL FROM:a@b.org", 501),
            ("RCPT TO:", 501),
            ("RCPT TO:<a@b.org>x", 501),
            ("MAIL", 501),
            ("LHLO", 501),
        ] {
            let reply = Command::parse(line.as_bytes()).unwrap_err();
            assert_eq!(reply.code, code, "{line}");
        }
    }
}
