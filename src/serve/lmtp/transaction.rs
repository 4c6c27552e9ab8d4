//! One message from a client, and what is handed on of it: a transaction with the next hop for each set of recipients.

use std::io::{self, Read};
use std::num::NonZeroU64;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Scope;
use std::time::{Duration, Instant};

use mailseal_core::message::opening::Opening;

use super::hop::{ANSWER, Hop};
use super::set::{Answer, Piece, Pieces, Set};
use super::turns::{Turn, Turns};
use super::{Way, of_hop};
use crate::cli;
use crate::config::Config;
use crate::config::serve::Userdb;
use crate::delivery::message;
use crate::delivery::owner::Owner;
use crate::delivery::unchanged::Unchanged;
use crate::error::Error;
use crate::keys::addressee::Addressee;
use crate::log::{Door, LogLine, Outcome, words};
use crate::outgoing::message::leaving;
use crate::serve::shared::Shared;
use crate::serve::smtp::command::Mail;
use crate::serve::smtp::data::{Dots, Refused};
use crate::serve::smtp::lines::{Connection, Lines};
use crate::serve::smtp::path::Path;
use crate::serve::smtp::reply::Reply;
use crate::serve::whose::{self, Treatment};

/// Most sets: as many as Postfix has recipients in a transaction.
pub const SETS: usize = 50;

/// Most recipients.
const RECIPIENTS: usize = 1000;

/// Most connections to the next hop that are kept between two transactions.
const IDLE: usize = 1;

/// How long one set may keep the others waiting, in all: well below the 180 seconds that Postfix waits.
const HELD_UP: Duration = Duration::from_secs(90);

/// How long the client may send nothing of a message.
const DATA: Duration = Duration::from_secs(180);

/// How much of a message is handed to the sets at once, and how many such pieces may wait for a set.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 2;

/// A connection on which a transaction was begun.
struct Begun {
    hop: Hop<Box<dyn Connection>>,
    /// What was answered to MAIL.
    mail: Reply,
    /// What was answered to RCPT, where MAIL was taken.
    rcpt: Option<Reply>,
}

/// A transaction.
pub struct Transaction<'a> {
    shared: &'a Shared,
    config: Arc<Config>,
    way: Way<'a>,
    host: &'a str,
    mail: Mail,
    /// The delivery users of the recipients that were taken, in the order of the answers.
    users: Vec<String>,
    sets: Vec<Set>,
    idle: Vec<Hop<Box<dyn Connection>>>,
    start: Instant,
}

impl<'a> Transaction<'a> {
    /// Begins one.
    pub fn new(shared: &'a Shared, config: Arc<Config>, way: Way<'a>, host: &'a str, mail: Mail) -> Self {
        let start = Instant::now();
        Self { shared, config, way, host, mail, users: Vec::new(), sets: Vec::new(), idle: Vec::new(), start }
    }

    /// Uses these connections first.
    pub fn take(&mut self, idle: &mut Vec<Hop<Box<dyn Connection>>>) {
        self.idle.append(idle);
    }

    /// Takes a recipient, or does not: what to answer.
    pub fn rcpt(&mut self, path: Path) -> Reply {
        if self.users.len() >= RECIPIENTS {
            return too_many();
        }
        let owner = match self.way.door {
            Door::Outgoing => {
                return match whose::leaving(&path, &self.config, &self.shared.cache) {
                    Ok((owner, treatment)) => match self.twin(&owner.name) {
                        Some(reply) => reply,
                        None => self.add(owner, treatment, &path),
                    },
                    Err(error) => self.defer(path.as_str(), &error),
                };
            }
            Door::Lmtp | Door::Sieve => self.shared.users.find(&self.config, &path),
        };
        let owner = match owner {
            Ok(Some(owner)) => owner,
            Ok(None) => return self.refused_by_next_hop(&path),
            Err(error) => return self.defer(path.as_str(), &error),
        };
        match Treatment::of(&owner, &self.config, &self.shared.cache) {
            // Nobody has said whether the address is its user.
            Ok(Treatment {
                addressee: Ok(Addressee::Clear(Unchanged::NoKey(_))), observed: false, ..
            }) if self.config.serve.userdb == Userdb::None && !self.config.serve.unchanged => {
                self.defer(&owner.name, &Error::Missing { user: owner.name.clone() })
            }
            Ok(treatment) => self.add(owner, treatment, &path),
            Err(error) => self.defer(&owner.name, &error),
        }
    }

    /// Takes a recipient who has been taken in another spelling: the message goes there once.
    fn twin(&mut self, name: &str) -> Option<Reply> {
        let of = self.users.iter().position(|user| user == name)?;
        let set = self.sets.iter_mut().find(|set| set.places.contains(&of))?;
        set.twins.push((self.users.len(), of));
        self.users.push(name.into());
        Some(Reply::new(250, "2.1.5", "as before"))
    }

    fn add(&mut self, owner: Owner, treatment: Treatment, path: &Path) -> Reply {
        let user = owner.name.clone();
        let found = self.sets.iter().position(|set| set.treatment.class == treatment.class);
        let (at, asked) = match found {
            // Where an earlier recipient met a fault of the next hop's, so would this one.
            Some(at) => match self.sets[at].hop.take() {
                None => return Reply::later(),
                Some(mut hop) => (at, hop.rcpt(path).map(|reply| (hop, reply))),
            },
            None if self.sets.len() >= SETS => return too_many(),
            None => match self.begin(path) {
                Ok(Begun { hop, rcpt: Some(reply), .. }) => {
                    let line = self.line(&user);
                    self.sets.push(Set::new(owner, treatment, line));
                    (self.sets.len() - 1, Ok((hop, reply)))
                }
                Ok(Begun { hop, mail: refusal, rcpt: None }) => {
                    self.idle.push(hop);
                    return refusal;
                }
                Err(error) => return self.defer(&user, &of_hop(&self.config, self.way.door, &error)),
            },
        };
        let set = &mut self.sets[at];
        match asked {
            Ok((hop, reply)) => {
                set.hop = Some(hop);
                if reply.is_positive() {
                    set.places.push(self.users.len());
                    self.users.push(user);
                }
                reply
            }
            Err(error) => self.defer(&user, &of_hop(&self.config, self.way.door, &error)),
        }
    }

    /// A connection on which a transaction was begun for a recipient, and what [`Hop::begin`] was answered.
    fn begin(&mut self, to: &Path) -> io::Result<Begun> {
        // The next hop may have closed it since.
        while let Some(mut hop) = self.idle.pop() {
            if let Ok((mail, rcpt)) = hop.begin(&self.mail, to) {
                return Ok(Begun { hop, mail, rcpt });
            }
        }
        let mut hop = Hop::greet((self.way.connect)()?, self.host, self.way.speaks)?;
        let (mail, rcpt) = hop.begin(&self.mail, to)?;
        Ok(Begun { hop, mail, rcpt })
    }

    /// Lets the next hop say that there is no such recipient. Where it does not, nobody knows whose mail it would be.
    fn refused_by_next_hop(&mut self, path: &Path) -> Reply {
        let asked = self.begin(path).and_then(|Begun { mut hop, mail, rcpt }| {
            hop.reset()?;
            Ok((hop, rcpt.unwrap_or(mail)))
        });
        match asked {
            Ok((hop, reply)) => {
                self.idle.push(hop);
                if reply.is_negative() {
                    return reply;
                }
                let what = format!("it knows no {path}, and the next hop takes mail for it");
                self.defer(path.as_str(), &Error::Dovecot { what })
            }
            Err(error) => self.defer(path.as_str(), &of_hop(&self.config, self.way.door, &error)),
        }
    }

    fn line(&self, user: &str) -> LogLine {
        LogLine { user: user.into(), door: Some(self.way.door), ..LogLine::default() }
    }

    /// Says and logs why mail for `user` has to wait.
    fn defer(&self, user: &str, error: &Error) -> Reply {
        let line = Mutex::new(self.line(user));
        message::complain(cli::ADMIN, &line, error);
        let line = LogLine { time: self.start.elapsed(), ..message::lock(&line).clone() };
        self.shared.note(&line);
        Reply::later()
    }

    /// Announces the message to the next hop.
    ///
    /// # Errors
    /// What to answer where no recipient is left that could get it.
    pub fn announce(&mut self) -> Result<(), Reply> {
        let (used, unused): (Vec<Set>, _) =
            std::mem::take(&mut self.sets).into_iter().partition(|set| !set.places.is_empty());
        self.sets = used;
        self.idle.extend(unused.into_iter().filter_map(Set::reset));
        if self.sets.is_empty() {
            return Err(Reply::new(503, "5.5.1", "there is no recipient"));
        }
        // All are asked before the first answers.
        self.sets.iter_mut().for_each(|set| set.attempt(&self.config, |hop| hop.announce()));
        let end = Instant::now() + ANSWER;
        for set in &mut self.sets {
            let mut refusal = None;
            let left = end.saturating_duration_since(Instant::now());
            set.attempt(&self.config, |hop| hop.agree(left).map(|reply| refusal = reply));
            if let Some(reply) = refusal {
                set.refusal = reply;
                self.idle.extend(set.hop.take().and_then(|mut hop| hop.reset().is_ok().then_some(hop)));
            }
        }
        if self.sets.iter().any(|set| set.hop.is_some()) {
            return Ok(());
        }
        for set in std::mem::take(&mut self.sets) {
            for place in set.all_places() {
                let line = LogLine { user: self.users[place].clone(), ..message::lock(&set.line).clone() };
                self.shared.note(&line);
            }
        }
        self.users.clear();
        Err(Reply::later())
    }

    /// Reads the message and answers for each recipient, or `once` for all; whether the conversation goes on.
    ///
    /// # Errors
    /// Those of the connection to the client.
    pub fn message<C: Connection>(&mut self, lines: &mut Lines<C>, once: bool) -> io::Result<bool> {
        lines.get_mut().limit(DATA);
        let limit = self.config.serve.size.map(NonZeroU64::get);
        let (tell, answers) = channel();
        let mut notes: Vec<(usize, Arc<Mutex<LogLine>>)> = Vec::new();
        for set in &self.sets {
            notes.extend(set.all_places().map(|place| (place, Arc::clone(&set.line))));
        }
        notes.sort_by_key(|(place, _)| *place);
        let conclusion =
            Conclusion { shared: self.shared, users: &self.users, notes, start: self.start, once };
        let (sets, config) = (&mut self.sets, &*self.config);
        let turns = Turns::new(sets.len());
        let mut dots = Dots::new(limit);
        let mut opening = Opening::read(&mut dots.read(lines.reader())).map_err(Error::from);
        if let (Door::Outgoing, Ok(read)) = (self.way.door, &opening) {
            match leaving(read, &mut dots.read(lines.reader())) {
                Ok(None) => {}
                Ok(Some(leaves)) => opening = Ok(leaves),
                Err(error) => opening = Err(error.into()),
            }
        }
        let goes_on = std::thread::scope(|scope| {
            let mut data = dots.read(lines.reader());
            match &opening {
                Err(error) => sets.iter_mut().for_each(|set| set.fail(error, &tell)),
                Ok(opening) => {
                    sets.iter().for_each(|set| set.message(config).note_id(opening.head()));
                    match &mut sets[..] {
                        [set] => set.deliver(config, (opening, &mut data), Turn::alone(), &tell),
                        sets => {
                            let turns = once.then_some(&turns);
                            let feeds = start(scope, sets, (config, opening, turns), &tell);
                            feed(&mut data, opening, feeds);
                        }
                    }
                }
            }
            drop(tell);
            // Where the sets have ended early, the client still goes on to the dot.
            data.drain()?;
            let (refused, length) = (dots.refused(), dots.length());
            conclusion.answer(&answers, (refused, length), lines)?;
            Ok::<_, io::Error>(refused.is_none())
        })?;
        self.idle.extend(std::mem::take(&mut self.sets).into_iter().filter_map(|set| set.hop));
        Ok(goes_on)
    }

    /// Ends it, and gives back the connections that can be used again.
    pub fn end(self) -> Vec<Hop<Box<dyn Connection>>> {
        let mut idle = self.idle;
        idle.extend(self.sets.into_iter().filter_map(Set::reset));
        // Each is a process of Dovecot's, which others may need.
        idle.drain(IDLE.min(idle.len())..).for_each(Hop::quit);
        idle
    }
}

/// Lets each set work on a thread of its own: where to put the pieces of the message for each.
fn start<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    sets: &'env mut [Set],
    (config, opening, turns): (&'env Config, &'env Opening, Option<&'env Turns>),
    tell: &Sender<Answer>,
) -> Vec<SyncSender<Piece>> {
    let mut feeds = Vec::new();
    for set in sets {
        let (feed, pieces) = sync_channel(PIECES);
        let tell = tell.clone();
        let turn = turns.map_or_else(Turn::alone, Turns::turn);
        let work = move || set.deliver(config, (opening, &mut Pieces::new(pieces)), turn, &tell);
        // A set that cannot be worked on answers nothing, which is a refusal for the time being.
        if std::thread::Builder::new().spawn_scoped(scope, work).is_ok() {
            feeds.push(feed);
        }
    }
    feeds
}

/// Reads the rest of the message for the sets. One that has failed takes no more, and one that keeps the others waiting is given
/// up; where reading fails none gets the end.
fn feed(rest: &mut impl Read, opening: &Opening, feeds: Vec<SyncSender<Piece>>) {
    let mut feeds: Vec<_> = feeds.into_iter().map(|feed| (feed, Duration::ZERO)).collect();
    if !opening.is_whole() {
        let mut piece = vec![0; PIECE];
        loop {
            match rest.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => {
                    let data: Arc<[u8]> = piece[..count].into();
                    feeds.retain_mut(|(feed, held_up)| {
                        let start = Instant::now();
                        let taken = feed.send(Piece::Data(Arc::clone(&data))).is_ok();
                        *held_up += start.elapsed();
                        taken && *held_up < HELD_UP
                    });
                }
                Err(_) => return,
            }
        }
    }
    feeds.iter().for_each(|(feed, _)| _ = feed.send(Piece::End));
}

/// What is left to do when the client waits for its answers.
struct Conclusion<'a> {
    shared: &'a Shared,
    users: &'a [String],
    /// The places of the recipients, and what is known of their messages.
    notes: Vec<(usize, Arc<Mutex<LogLine>>)>,
    start: Instant,
    /// Whether all recipients have one answer.
    once: bool,
}

impl Conclusion<'_> {
    /// Answers for each recipient in order, each as soon as that is possible, and logs them; or once, when all is known.
    fn answer<C: Connection>(
        &self,
        answers: &Receiver<Answer>,
        (refused, length): (Option<Refused>, u64),
        lines: &mut Lines<C>,
    ) -> io::Result<()> {
        let mut waiting: Vec<Option<Reply>> = self.users.iter().map(|_| None).collect();
        let mut next = 0;
        lines.get_mut().limit(DATA);
        let mut written = Ok(());
        let mut all = None;
        let mut go_on = |waiting: &mut Vec<Option<Reply>>| {
            while let Some(reply) = waiting.get_mut(next).and_then(Option::take) {
                next += 1;
                if self.once {
                    all = Some(all.take().map_or_else(|| reply.clone(), |all| together(all, &reply)));
                } else if written.is_ok() {
                    written = lines.get_mut().write_all(reply.to_string().as_bytes());
                }
            }
        };
        let mut answered = vec![false; self.users.len()];
        for mut answer in answers {
            if let Some(refused) = refused {
                answer = Answer { reply: refused.reply(), reason: Some(words::REFUSED), ..answer };
            }
            self.note(&answer, length);
            answered[answer.place] = true;
            waiting[answer.place] = Some(answer.reply);
            go_on(&mut waiting);
        }
        // Of these nothing is known.
        for place in (0..answered.len()).filter(|place| !answered[*place]) {
            let answer = Answer { place, reply: Reply::later(), reason: Some(words::THREADS) };
            self.note(&answer, length);
            waiting[place] = Some(answer.reply);
        }
        go_on(&mut waiting);
        match all {
            Some(reply) if written.is_ok() => lines.get_mut().write_all(reply.to_string().as_bytes()),
            _ => written,
        }
    }

    fn note(&self, answer: &Answer, length: u64) {
        let mut line = message::lock(&self.notes[answer.place].1).clone();
        line.user.clone_from(&self.users[answer.place]);
        line.bytes_in = length;
        line.time = self.start.elapsed();
        if answer.reason.is_some() {
            line.reason = answer.reason;
            line.outcome = Outcome::Deferred;
            line.bytes_out = 0;
        }
        self.shared.note(&line);
    }
}

/// One answer for two recipients. The message was taken if it was for both; what one refuses for the time being comes again for both,
/// and what one refuses for good does not: to the other it would come each time.
fn together(one: Reply, other: &Reply) -> Reply {
    match (one.code / 100, other.code / 100) {
        (4, _) | (_, 4) => Reply::later(),
        (2, 5) => other.clone(),
        _ => one,
    }
}

fn too_many() -> Reply {
    Reply::new(452, "4.5.3", "too many recipients at once")
}

#[cfg(test)]
mod tests {
    /// Recipients beyond the limit would wait until Postfix runs its queue again.
    #[test]
    fn the_recipe_for_postfix_has_the_same_limit() {
        let recipe = include_str!("../../../contrib/mta/postfix-main.cf");
        let line = format!("\nlmtp_destination_recipient_limit = {}\n", super::SETS);
        assert!(recipe.contains(&line), "{recipe}");
    }
}
