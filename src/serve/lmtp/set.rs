//! The recipients of a transaction whose mail is treated alike: one transaction with the next hop.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::Opening;

use super::hop::Hop;
use super::turns::Turn;
use crate::cli;
use crate::config::Config;
use crate::delivery::message::{self, Message, WRITE_SIZE};
use crate::delivery::owner::Owner;
use crate::error::Error;
use crate::log::{Door, LogLine, Outcome, words};
use crate::serve::smtp::data::DotWriter;
use crate::serve::smtp::lines::Connection;
use crate::serve::smtp::reply::Reply;
use crate::serve::whose::Treatment;
use crate::system::buffered::Buffered;
use crate::system::counted::Counted;

/// A set of recipients.
pub struct Set {
    /// The first of them, for all.
    pub owner: Owner,
    /// What becomes of their mail.
    pub treatment: Treatment,
    /// Their places among those of the transaction.
    pub places: Vec<usize>,
    /// The places of recipients who are one of these in another spelling, and the place of that one: they share its answer.
    pub twins: Vec<(usize, usize)>,
    /// The connection to the next hop, where there is one: on one that failed nothing more is said.
    pub hop: Option<Hop<Box<dyn Connection>>>,
    /// What goes into the log line of each.
    pub line: Arc<Mutex<LogLine>>,
    /// What is answered where there is no connection.
    pub refusal: Reply,
    door: Door,
}

/// What is answered for the recipient at a place.
pub struct Answer {
    /// The place.
    pub place: usize,
    /// The answer.
    pub reply: Reply,
    /// Where it is a refusal, why: a word for the log.
    pub reason: Option<&'static str>,
}

impl Set {
    /// One without recipients and a connection yet.
    pub fn new(owner: Owner, treatment: Treatment, line: LogLine) -> Self {
        let door = line.door.unwrap_or(Door::Lmtp);
        let line = Arc::new(Mutex::new(line));
        let (places, twins) = (Vec::new(), Vec::new());
        Self { owner, treatment, places, twins, hop: None, line, refusal: Reply::later(), door }
    }

    /// Does something with the next hop; a connection on which that fails is closed.
    pub fn attempt(
        &mut self,
        config: &Config,
        something: impl FnOnce(&mut Hop<Box<dyn Connection>>) -> io::Result<()>,
    ) {
        let Some(hop) = &mut self.hop else { return };
        if let Err(error) = something(hop) {
            self.hop = None;
            message::complain(cli::ADMIN, &self.line, &super::of_hop(config, self.door, &error));
        }
    }

    /// Ends its transaction without a message: the connection, where it can be used again.
    pub fn reset(self) -> Option<Hop<Box<dyn Connection>>> {
        let mut hop = self.hop?;
        hop.reset().is_ok().then_some(hop)
    }

    /// The places of all that are answered for.
    pub fn all_places(&self) -> impl Iterator<Item = usize> {
        self.places.iter().copied().chain(self.twins.iter().map(|(place, _)| *place))
    }

    /// Tells what is answered for the recipient at `place`, in each spelling.
    fn tell(&self, answers: &Sender<Answer>, place: usize, reply: &Reply, reason: Option<&'static str>) {
        let twins = self.twins.iter().filter(|(_, of)| *of == place).map(|(twin, _)| *twin);
        for place in std::iter::once(place).chain(twins) {
            // Where nobody listens the client is gone.
            let _ = answers.send(Answer { place, reply: reply.clone(), reason });
        }
    }

    /// The message of these recipients.
    pub fn message<'a>(&'a self, config: &'a Config) -> Message<'a> {
        let Self { owner, treatment, line, .. } = self;
        let (style, always) = (&treatment.style, owner.said.always);
        Message { program: cli::ADMIN, style, always, config, user: &owner.name, line }
    }

    /// Hands the message that begins with `opening` and goes on in `rest` to the next hop, ends it when it is its `turn`, and tells
    /// `answers` of each recipient. The connection is kept only where all went well.
    pub fn deliver(
        &mut self,
        config: &Config,
        (opening, rest): (&Opening, &mut impl Read),
        turn: Turn<'_>,
        answers: &Sender<Answer>,
    ) {
        let Some(mut hop) = self.hop.take() else {
            let reason = message::lock(&self.line).reason.unwrap_or("next-hop");
            self.places.iter().for_each(|place| self.tell(answers, *place, &self.refusal, Some(reason)));
            return;
        };
        match self.write(config, (opening, rest), &turn, &mut hop) {
            Ok(outcome) => self.message(config).line().outcome = outcome,
            Err(error) => return self.fail(&error, answers),
        }
        let mut comes_again = false;
        for (at, place) in self.places.iter().enumerate() {
            match hop.answer() {
                Ok(reply) => {
                    let refused = match reply.code {
                        400..500 => Some("next-hop"),
                        500.. => Some(words::REJECTED),
                        _ => None,
                    };
                    comes_again |= refused == Some("next-hop");
                    self.tell(answers, *place, &reply, refused);
                }
                Err(error) => {
                    // It must not be able to say yes any more.
                    drop(hop);
                    let error = super::of_hop(config, self.door, &error);
                    message::complain(cli::ADMIN, &self.line, &error);
                    let left = self.places[at..].iter();
                    left.for_each(|place| self.tell(answers, *place, &Reply::later(), Some(error.reason())));
                    return;
                }
            }
        }
        if !comes_again {
            turn.pass();
        }
        self.hop = Some(hop);
    }

    /// Closes the connection without the dot, and tells why the message has to wait.
    pub fn fail(&mut self, error: &Error, answers: &Sender<Answer>) {
        self.hop = None;
        message::complain(cli::ADMIN, &self.line, error);
        let later = Reply::later();
        self.places.iter().for_each(|place| self.tell(answers, *place, &later, Some(error.reason())));
    }

    /// Writes what becomes of the message, and in its `turn` the dot: from there on the next hop has it.
    fn write(
        &self,
        config: &Config,
        (opening, rest): (&Opening, &mut impl Read),
        turn: &Turn<'_>,
        hop: &mut Hop<Box<dyn Connection>>,
    ) -> Result<Outcome, Error> {
        let (message, treatment) = (self.message(config), &self.treatment);
        let buffered = Buffered::new(WRITE_SIZE, hop.connection());
        let mut out = Counted::new(DotWriter::new(buffered));
        let outcome = match &treatment.addressee {
            addressee if treatment.observed => message.observe(addressee, opening, rest, &mut out)?,
            Ok(addressee) => message.write(addressee, opening, rest, &mut out)?,
            // Only what is observed has come so far with an error.
            Err(_) => return Err(Error::Missing { user: self.owner.name.clone() }),
        };
        if outcome != Outcome::WouldSeal {
            message.line().bytes_out = out.total();
        }
        if !turn.wait() {
            let others =
                io::Error::other("it has not taken the message for others, and one answer counts for all");
            return Err(super::of_hop(config, self.door, &others));
        }
        out.into_inner().finish().map_err(CoreError::Write)?;
        Ok(outcome)
    }
}

/// A piece of the message for a set, or its end.
pub enum Piece {
    /// Some of it.
    Data(Arc<[u8]>),
    /// There is no more.
    End,
}

/// Reads the pieces that another thread has read. Without [`Piece::End`] the message is not whole.
pub struct Pieces {
    from: Receiver<Piece>,
    piece: io::Cursor<Arc<[u8]>>,
    ended: bool,
}

impl Pieces {
    /// Reads what `from` receives.
    pub fn new(from: Receiver<Piece>) -> Self {
        Self { from, piece: io::Cursor::new(Arc::from([])), ended: false }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || self.ended || buffer.is_empty() {
                return Ok(count);
            }
            match self.from.recv() {
                Ok(Piece::Data(data)) => self.piece = io::Cursor::new(data),
                Ok(Piece::End) => self.ended = true,
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
