//! The doors before Dovecot and on the way out: LMTP in, LMTP or SMTP out (RFC 2033).
//!
//! Nothing is queued and nothing is stored: what has been read of a message is being sealed, or on its way to the next hop. A
//! recipient is answered with what the next hop has answered; where that is not known, with a refusal for the time being.

pub mod hop;
mod set;
mod transaction;
mod turns;

use std::io;
use std::time::Duration;

use self::hop::Hop;
use self::transaction::Transaction;
use super::shared::Shared;
use super::smtp::command::Command;
use super::smtp::lines::{Connection, Line, Lines};
use super::smtp::reply::Reply;
use crate::config::Config;
use crate::config::serve::Speaks;
use crate::error::Error;
use crate::log::Door;

/// How long a command may take to come.
const COMMAND: Duration = Duration::from_secs(30);

/// Bytes of answers that may wait for a client that sends many commands at once.
const ANSWERS: usize = 64 * 1024;

/// Most commands of a connection that cannot be read.
const MISTAKES: u32 = 20;

/// Makes connections to the next hop.
pub type Connect<'a> = dyn Fn() -> io::Result<Box<dyn Connection>> + Sync + 'a;

/// The way that mail takes from a door.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// The door.
    pub door: Door,
    /// What the next hop speaks.
    pub speaks: Speaks,
    /// Connects to it.
    pub connect: &'a Connect<'a>,
}

/// How a client has greeted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeted {
    /// Not yet.
    No,
    /// With LHLO: there is an answer for each recipient.
    Lmtp,
    /// With EHLO or HELO: there is one answer for all recipients.
    Smtp,
}

/// A client's connection.
pub struct Session<'a, C> {
    lines: Lines<C>,
    shared: &'a Shared,
    way: Way<'a>,
    host: &'a str,
    greeted: Greeted,
    /// Commands that could not be read.
    mistakes: u32,
    /// Answers that have not gone out yet.
    answers: Vec<u8>,
    /// Connections to the next hop between two transactions.
    idle: Vec<Hop<Box<dyn Connection>>>,
}

impl<'a, C: Connection> Session<'a, C> {
    /// Speaks with the client at the other end of `connection`, as the host `host`.
    pub fn new(connection: C, shared: &'a Shared, way: Way<'a>, host: &'a str) -> Self {
        let lines = Lines::new(connection);
        Self {
            lines,
            shared,
            way,
            host,
            greeted: Greeted::No,
            mistakes: 0,
            answers: Vec::new(),
            idle: Vec::new(),
        }
    }

    /// Goes on until the client leaves, or has to.
    ///
    /// # Errors
    /// Those of the connection. Every message that has not been answered then is not delivered, as far as is known.
    pub fn run(mut self) -> io::Result<()> {
        let result = self.converse();
        if let Err(error) = &result
            && matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::InvalidData)
        {
            self.answer(&Reply::new(421, "4.4.2", "this takes too long, or is not mail"));
            let _ = self.flush();
        }
        self.idle.drain(..).for_each(Hop::quit);
        result
    }

    fn converse(&mut self) -> io::Result<()> {
        if self.shared.is_stopping() {
            self.answer(&stopping());
            return self.flush();
        }
        self.answer(&Reply { code: 220, text: format!("{} mailseal LMTP", self.host) });
        loop {
            match self.next()? {
                Some(Command::Quit) => {
                    self.answer(&Reply::new(221, "2.0.0", "bye"));
                    return self.flush();
                }
                Some(Command::Mail(mail)) => {
                    if !self.transact(mail)? {
                        return self.flush();
                    }
                }
                Some(command) => self.obey(&command),
                None => return Ok(()),
            }
        }
    }

    /// The next command; one that cannot be read has been answered. `None` where the client has left.
    fn next(&mut self) -> io::Result<Option<Command>> {
        loop {
            if !self.lines.has_line() || self.answers.len() > ANSWERS {
                self.flush()?;
            }
            let wrong = match self.lines.read(COMMAND)? {
                Line::Whole(line) => match Command::parse(&line) {
                    Ok(command) => return Ok(Some(command)),
                    Err(reply) => reply,
                },
                Line::Malformed => Reply::new(500, "5.5.2", "a command ends with CR and LF"),
                Line::TooLong => Reply::new(500, "5.5.2", "the line is too long"),
                Line::End => return Ok(None),
            };
            self.mistakes += 1;
            if self.mistakes > MISTAKES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "too many commands that are wrong"));
            }
            self.answer(&wrong);
        }
    }

    /// Does what has nothing to do with a message.
    fn obey(&mut self, command: &Command) {
        match command {
            Command::Hello { extended, lmtp } => {
                self.greeted = if *lmtp { Greeted::Lmtp } else { Greeted::Smtp };
                let size = self.shared.config().serve.size;
                let size = size.map(|size| format!("SIZE {size}"));
                let offers = ["PIPELINING", "8BITMIME", "SMTPUTF8"].map(String::from);
                let offers: Vec<String> = offers.into_iter().chain(size).collect();
                if *extended {
                    self.answers.extend_from_slice(format!("250-{}\r\n", self.host).as_bytes());
                    for offer in offers {
                        self.answers.extend_from_slice(format!("250-{offer}\r\n").as_bytes());
                    }
                    self.answer(&Reply { code: 250, text: "ENHANCEDSTATUSCODES".into() });
                } else {
                    self.answer(&Reply { code: 250, text: self.host.into() });
                }
            }
            Command::Rset | Command::Noop => self.answer(&Reply::new(250, "2.0.0", "done")),
            Command::Vrfy => self.answer(&Reply::new(252, "2.5.0", "name it as a recipient")),
            Command::Help => self.answer(&Reply::new(214, "2.0.0", "RFC 2033")),
            _ => self.answer(&out_of_order()),
        }
    }

    /// A transaction, from MAIL to its end; whether the conversation goes on.
    fn transact(&mut self, mail: super::smtp::command::Mail) -> io::Result<bool> {
        if self.greeted == Greeted::No {
            self.answer(&out_of_order());
            return Ok(true);
        }
        if self.shared.is_stopping() {
            self.answer(&stopping());
            return Ok(false);
        }
        let in_hand = self.shared.in_hand.enter();
        let config = self.shared.config();
        if mail.size.zip(config.serve.size).is_some_and(|(size, most)| size > most.get()) {
            self.answer(&Reply::new(552, "5.3.4", "the message is too long"));
            return Ok(true);
        }
        self.answer(&Reply::new(250, "2.1.0", "go on"));
        let mut transaction = Transaction::new(self.shared, config, self.way, self.host, mail);
        transaction.take(&mut self.idle);
        let goes_on = loop {
            match self.next()? {
                Some(Command::Rcpt(path)) => self.answer(&transaction.rcpt(path)),
                Some(Command::Data) => match transaction.announce() {
                    Err(reply) => self.answer(&reply),
                    Ok(()) => {
                        self.answer(&Reply { code: 354, text: "the message, and a dot".into() });
                        self.flush()?;
                        let once = self.greeted == Greeted::Smtp;
                        let goes_on = transaction.message(&mut self.lines, once)?;
                        break goes_on;
                    }
                },
                Some(Command::Rset) => {
                    self.answer(&Reply::new(250, "2.0.0", "done"));
                    break true;
                }
                Some(Command::Hello { .. }) => {
                    self.answer(&out_of_order());
                }
                Some(Command::Quit) => {
                    self.answer(&Reply::new(221, "2.0.0", "bye"));
                    break false;
                }
                Some(command) => self.obey(&command),
                None => break false,
            }
        };
        self.idle = transaction.end();
        drop(in_hand);
        Ok(goes_on)
    }

    fn answer(&mut self, reply: &Reply) {
        self.answers.extend_from_slice(reply.to_string().as_bytes());
    }

    fn flush(&mut self) -> io::Result<()> {
        let connection = self.lines.get_mut();
        connection.limit(COMMAND);
        connection.write_all(&std::mem::take(&mut self.answers))
    }
}

fn out_of_order() -> Reply {
    Reply::new(503, "5.5.1", "not now: LHLO, MAIL, RCPT, DATA is the order")
}

fn stopping() -> Reply {
    Reply::new(421, "4.3.2", "mailseal is being stopped")
}

/// What went wrong with the next hop.
fn of_hop(config: &Config, door: Door, error: &io::Error) -> Error {
    let address = config.serve.next_of(door).map(|next| next.address.to_string()).unwrap_or_default();
    Error::NextHop { address, what: error.to_string() }
}
