//! The next hop: a client that hands on one transaction after the other over one connection, by LMTP (RFC 2033) or SMTP.
//!
//! A connection on which anything was not as it should be is closed, and never with the final dot.

use std::io;
use std::time::Duration;

use smtp_proto::{EXT_8BIT_MIME, EXT_PIPELINING, EXT_SMTP_UTF8, EhloResponse};

use crate::config::serve::Speaks;
use crate::serve::smtp::command::Mail;
use crate::serve::smtp::lines::{Connection, Lines};
use crate::serve::smtp::path::Path;
use crate::serve::smtp::reply::Reply;

/// How long the answer to a command may take: Dovecot looks users up for it.
pub const ANSWER: Duration = Duration::from_secs(60);

/// How long the next hop may take for a piece of a message: well below the 180 seconds that Postfix waits.
const DATA: Duration = Duration::from_secs(45);

/// How long the answer after the dot may take. Postfix waits for 600 seconds.
pub const STORED: Duration = Duration::from_secs(590);

/// A connection to the next hop that has been greeted.
pub struct Hop<C> {
    lines: Lines<C>,
    speaks: Speaks,
    capabilities: u32,
    /// The answer after the dot, where there is one for all recipients.
    answered: Option<Reply>,
}

impl<C: Connection> Hop<C> {
    /// Greets the next hop over `connection`, as `name`.
    ///
    /// # Errors
    /// Those of the connection, and [`io::ErrorKind::InvalidData`] where it does not speak what it should.
    pub fn greet(connection: C, name: &str, speaks: Speaks) -> io::Result<Self> {
        let mut hop = Self { lines: Lines::new(connection), speaks, capabilities: 0, answered: None };
        let (greeting, _) = Reply::read(&mut hop.lines, ANSWER)?;
        let refused = |reply: Reply| io::Error::other(format!("it answers {} {}", reply.code, reply.text));
        if !greeting.is_positive() {
            return Err(refused(greeting));
        }
        let hello = match speaks {
            Speaks::Lmtp => "LHLO",
            Speaks::Smtp => "EHLO",
        };
        hop.send(&format!("{hello} {name}"))?;
        let (reply, whole) = Reply::read(&mut hop.lines, ANSWER)?;
        if reply.code != 250 {
            return Err(refused(reply));
        }
        let response = EhloResponse::parse(&mut whole.iter());
        hop.capabilities = response
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?
            .capabilities;
        Ok(hop)
    }

    /// Begins a transaction, with those parameters alone that the next hop has announced, for a recipient: what it answers to
    /// MAIL, and, where it took that, to RCPT. Both are said at once where it lets clients do so (RFC 2920).
    ///
    /// # Errors
    /// Those of the connection.
    pub fn begin(&mut self, mail: &Mail, to: &Path) -> io::Result<(Reply, Option<Reply>)> {
        let mail = self.mail(mail);
        if self.capabilities & EXT_PIPELINING == 0 {
            let reply = self.ask(&mail)?;
            let rcpt = if reply.is_positive() { Some(self.rcpt(to)?) } else { None };
            return Ok((reply, rcpt));
        }
        self.is_silent()?;
        self.send(&format!("{mail}\r\nRCPT TO:{to}"))?;
        let (reply, rcpt) = (self.receive()?, self.receive()?);
        match (reply.is_positive(), rcpt.is_positive()) {
            (true, _) => Ok((reply, Some(rcpt))),
            (false, false) => Ok((reply, None)),
            (false, true) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "it takes a recipient of no transaction"))
            }
        }
    }

    fn mail(&self, mail: &Mail) -> String {
        let eight_bit = mail.eight_bit && self.capabilities & EXT_8BIT_MIME != 0;
        let utf8 = mail.utf8 && self.capabilities & EXT_SMTP_UTF8 != 0;
        let parameters = [(eight_bit, " BODY=8BITMIME"), (utf8, " SMTPUTF8")];
        let parameters: String =
            parameters.iter().filter(|(given, _)| *given).map(|(_, text)| *text).collect();
        format!("MAIL FROM:{}{parameters}", mail.from)
    }

    /// Names a recipient: what the next hop answers.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn rcpt(&mut self, to: &Path) -> io::Result<Reply> {
        self.ask(&format!("RCPT TO:{to}"))
    }

    /// Ends a transaction without a message.
    ///
    /// # Errors
    /// Those of the connection; also where the next hop refuses that.
    pub fn reset(&mut self) -> io::Result<()> {
        let reply = self.ask("RSET")?;
        if reply.is_positive() { Ok(()) } else { Err(io::Error::other(reply.text)) }
    }

    /// Announces the message; what the next hop answers is read by [`Hop::agree`].
    ///
    /// # Errors
    /// Those of the connection.
    pub fn announce(&mut self) -> io::Result<()> {
        self.answered = None;
        self.send("DATA")
    }

    /// What the next hop answers to the announcement within `time`, where it does not agree to a message.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn agree(&mut self, time: Duration) -> io::Result<Option<Reply>> {
        let (reply, _) = Reply::read(&mut self.lines, time)?;
        self.lines.get_mut().limit(DATA);
        match reply.code {
            354 => Ok(None),
            _ if reply.is_negative() && reply.code != 421 => Ok(Some(reply)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it does not agree to a message")),
        }
    }

    /// The connection, to write the message.
    pub fn connection(&mut self) -> &mut C {
        self.lines.get_mut()
    }

    /// The answer after the dot for the next recipient, in the order in which they were named; by SMTP it is the same for all.
    ///
    /// # Errors
    /// Those of the connection, and for what is neither yes nor no.
    pub fn answer(&mut self) -> io::Result<Reply> {
        if let Some(reply) = &self.answered {
            return Ok(reply.clone());
        }
        let (reply, _) = Reply::read(&mut self.lines, STORED)?;
        if reply.is_positive() || reply.is_negative() {
            self.answered = (self.speaks == Speaks::Smtp).then(|| reply.clone());
            Ok(reply)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "its answer after the dot is neither yes nor no"))
        }
    }

    /// Takes leave, without waiting for an answer.
    pub fn quit(mut self) {
        // It is closed in any case.
        let _ = self.send("QUIT");
    }

    fn ask(&mut self, line: &str) -> io::Result<Reply> {
        self.is_silent()?;
        self.send(line)?;
        self.receive()
    }

    /// Fails where the next hop has said more than it was asked: that would be taken for the answer to something else.
    fn is_silent(&self) -> io::Result<()> {
        if self.lines.has_more() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it answers what nobody asked"));
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Reply> {
        let (reply, _) = Reply::read(&mut self.lines, ANSWER)?;
        if reply.code == 421 {
            // It closes the connection, and speaks of nothing else.
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, reply.text))
        } else if reply.is_positive() || reply.is_negative() {
            Ok(reply)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is neither yes nor no"))
        }
    }

    fn send(&mut self, line: &str) -> io::Result<()> {
        let connection = self.lines.get_mut();
        connection.limit(ANSWER);
        connection.write_all(format!("{line}\r\n").as_bytes())
    }
}
