//! An IMAP session over a stream that needs no login: what a mailbox is asked for and told, one command after another.
//!
//! ```text
//! imap       commands and what they answer
//!  ├─ wire     responses with literals of any length
//!  ├─ grammar  what a response says: imap-proto, behind a guard
//!  └─ name     names of folders
//! ```
//!
//! It knows only the extensions that Dovecot has: UIDPLUS, CONDSTORE, MULTIAPPEND, NAMESPACE, WITHIN. Messages are streamed
//! in both directions. A command that is refused is an answer, not an error; after an error the session is over.

mod grammar;
pub mod name;
mod wire;

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Write};
use std::ops::RangeInclusive;

use imap_proto::{AttributeValue, MailboxDatum, NameAttribute, Outcome, Response, ResponseCode, Status};
use mailseal_core::error::Error as CoreError;

pub use self::wire::Literal;
use crate::error::Error;

/// Bytes that are sent at once.
const SEND_SIZE: usize = 64 * 1024;

/// Most UIDs that an answer to APPEND is read for: a range of few bytes may name four billion.
const MOST_APPENDED: usize = 1000;

/// A session.
pub struct Session<R, W> {
    reader: R,
    writer: W,
    tag: u32,
}

/// What a server says of a message. What was not asked for is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its UID.
    pub uid: u32,
    /// Its modification sequence.
    pub modseq: u64,
    /// Flags and keywords, without `\Recent`, which nobody can set.
    pub flags: BTreeSet<String>,
    /// When it came, as IMAP writes it.
    pub date: String,
    /// Its size with CRLF for every line ending.
    pub size: u64,
}

/// The tagged answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the server did it.
    pub ok: bool,
    /// What it says for people.
    pub text: String,
    /// What UIDs new messages got, a thousand at most, and under which UIDVALIDITY.
    pub appended: Option<(u32, Vec<u32>)>,
}

/// A selected folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Under which its UIDs are valid.
    pub uid_validity: u32,
    /// The next UID that a message gets.
    pub uid_next: u32,
    /// Whether messages can be added and removed.
    pub writable: bool,
}

/// What came of asking for a folder.
#[derive(Clone, Debug)]
pub enum Select {
    /// It is open.
    Opened(Selected),
    /// It is not there, or may not be opened.
    Refused(Answer),
}

/// What is appended to a folder.
pub struct New<'a> {
    /// Flags and keywords.
    pub flags: &'a BTreeSet<String>,
    /// When it came.
    pub date: &'a str,
    /// Its size.
    pub size: u64,
    /// Its text, with CRLF for every line ending.
    pub text: &'a mut dyn Read,
}

/// What happens with each untagged response.
type Each<'a> = dyn FnMut(&Response<'_>) + 'a;

impl<R: BufRead, W: Write> Session<R, W> {
    /// Begins a session that the server has opened to its user already.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where it has not.
    pub fn begin(reader: R, writer: W) -> Result<Self, Error> {
        let mut session = Self { reader, writer, tag: 0 };
        let greeting = session.line(&mut |_, _| ())?;
        if greeting.starts_with(b"* PREAUTH") { Ok(session) } else { Err(unexpected(&greeting)) }
    }

    /// The prefixes of the user's own namespaces, and those of others' and shared ones.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn namespaces(&mut self) -> Result<(Vec<String>, Vec<String>), Error> {
        let tag = self.send("NAMESPACE")?;
        let mut found = (vec![String::new()], Vec::new());
        loop {
            let line = self.line(&mut |_, _| ())?;
            // `imap-proto` does not know this one.
            if let Some(list) = line.strip_prefix(b"* NAMESPACE ") {
                let mut groups = prefixes(&String::from_utf8_lossy(list)).into_iter();
                found.0 = groups.next().unwrap_or_default();
                found.1 = groups.flatten().collect();
            } else if line.starts_with(tag.as_bytes()) {
                return Ok(found);
            }
        }
    }

    /// The names of the folders that begin with `prefix` and can be selected.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn folders(&mut self, prefix: &str) -> Result<Vec<String>, Error> {
        let pattern = name::quoted(&format!("{prefix}*")).unwrap_or_default();
        let mut names = Vec::new();
        self.must(&format!("LIST \"\" {pattern}"), &mut |response| {
            let Response::MailboxData(MailboxDatum::List(list)) = response else { return };
            let none = |it: &NameAttribute<'_>| match it {
                NameAttribute::NoSelect => true,
                NameAttribute::Extension(name) => name.eq_ignore_ascii_case("\\NonExistent"),
                _ => false,
            };
            if !list.name_attributes.iter().any(none) {
                names.push(name::unquoted(&list.name));
            }
        })?;
        Ok(names)
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn select(&mut self, folder: &str, read_only: bool) -> Result<Select, Error> {
        let command = if read_only { "EXAMINE" } else { "SELECT" };
        let mut selected = Selected { writable: true, ..Selected::default() };
        let mut code = |outcome: &Outcome<'_>| match outcome.code {
            Some(ResponseCode::UidValidity(number)) => selected.uid_validity = number,
            Some(ResponseCode::UidNext(number)) => selected.uid_next = number,
            Some(ResponseCode::ReadOnly) => selected.writable = false,
            _ => {}
        };
        let tag = self.send(&format!("{command} {} (CONDSTORE)", argument(folder)))?;
        let answer = self.answer(
            &tag,
            &mut |response| {
                if let Response::Data { outcome, .. } | Response::Done { outcome, .. } = response {
                    code(outcome);
                }
            },
            &mut |_, _| (),
        )?;
        Ok(if answer.ok { Select::Opened(selected) } else { Select::Refused(answer) })
    }

    /// What is known of these messages of the selected folder, as `1:5,7`; `items` as UID, MODSEQ, FLAGS.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn look_at(&mut self, uids: &str, items: &str) -> Result<Vec<Message>, Error> {
        let mut messages = Vec::new();
        self.must(&format!("UID FETCH {uids} ({items})"), &mut |response| {
            if let Response::Fetch(_, values) = response {
                messages.push(Message::of(values));
            }
        })?;
        // Changes of other messages are told in between, without all that was asked for.
        messages.retain(|message| message.uid > 0);
        Ok(messages)
    }

    /// Sets a flag on those of these messages that have not changed since the modification sequence was `modseq`, and
    /// gives the UIDs of those that it was set on, or that had it.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn set_unchanged(
        &mut self,
        messages: &[&Message],
        modseq: u64,
        flag: &str,
    ) -> Result<BTreeSet<u32>, Error> {
        let uids = set(messages.iter().map(|message| message.uid));
        // What is told of a message that has it proves that the message was still there.
        let mut there: BTreeSet<u32> =
            messages.iter().filter(|it| it.flags.contains(flag)).map(|it| it.uid).collect();
        let command = format!("UID STORE {uids} (UNCHANGEDSINCE {modseq}) +FLAGS ({flag})");
        let answer = self.command(&command, &mut |response| {
            if let Response::Fetch(_, values) = response {
                let told = Message::of(values);
                if told.flags.contains(flag) && messages.iter().any(|it| it.uid == told.uid) {
                    there.insert(told.uid);
                }
            }
        })?;
        if !answer.ok {
            return Ok(BTreeSet::new());
        }
        let changed = answer.modified();
        there.retain(|uid| !changed.iter().any(|range| range.contains(uid)));
        Ok(there)
    }

    /// Hands the messages on as they come: what is known of them, and their text. An empty message is not handed on.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn fetch(
        &mut self,
        uids: &str,
        on_message: &mut dyn FnMut(Message, &mut Literal<'_>),
    ) -> Result<Answer, Error> {
        let tag =
            self.send(&format!("UID FETCH {uids} (UID MODSEQ FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))?;
        self.answer(&tag, &mut |_| (), &mut |before, literal| {
            let line = [before, b")\r\n"].concat();
            if let Ok(Some(Response::Fetch(_, values))) = grammar::parse(&line) {
                on_message(Message::of(&values), literal);
            }
        })
    }

    /// The UIDs of the messages that `criteria` match.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn search(&mut self, criteria: &str) -> Result<Vec<u32>, Error> {
        let mut uids = Vec::new();
        self.must(&format!("UID SEARCH {criteria}"), &mut |response| {
            if let Response::MailboxData(MailboxDatum::Search(found)) = response {
                uids.extend_from_slice(found);
            }
        })?;
        Ok(uids)
    }

    /// Adds messages to a folder, all or none.
    ///
    /// # Errors
    /// [`Error::Dovecot`], and [`CoreError::Read`] of what is to be added: the session is over then.
    pub fn append(&mut self, folder: &str, messages: &mut [New<'_>]) -> Result<Answer, Error> {
        let mut command = format!("APPEND {}", argument(folder));
        let mut tag = String::new();
        for message in messages {
            let flags: Vec<&str> = message.flags.iter().map(String::as_str).collect();
            let text = format!("{command} ({}) \"{}\" {{{}}}", flags.join(" "), message.date, message.size);
            if tag.is_empty() {
                tag = self.send(&text)?;
            } else {
                self.write(text.as_bytes())?;
                self.write(b"\r\n")?;
                self.flush()?;
            }
            command.clear();
            if let Some(refused) = self.go_on(&tag)? {
                return Ok(refused);
            }
            self.pour(message)?;
        }
        self.write(b"\r\n")?;
        self.flush()?;
        self.answer(&tag, &mut |_| (), &mut |_, _| ())
    }

    /// Sends commands at once and gives their answers.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn all(&mut self, commands: &[String]) -> Result<Vec<Answer>, Error> {
        // One after another would wait for the server each time.
        let tags: Vec<String> =
            commands.iter().map(|command| self.put(command)).collect::<Result<_, Error>>()?;
        self.flush()?;
        tags.iter().map(|tag| self.answer(tag, &mut |_| (), &mut |_, _| ())).collect()
    }

    /// Sends a command and gives its answer.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn command(&mut self, command: &str, each: &mut Each<'_>) -> Result<Answer, Error> {
        let tag = self.send(command)?;
        self.answer(&tag, each, &mut |_, _| ())
    }

    /// The same for a command that is not refused but in trouble.
    fn must(&mut self, command: &str, each: &mut Each<'_>) -> Result<(), Error> {
        let answer = self.command(command, each)?;
        if answer.ok {
            return Ok(());
        }
        let verb: Vec<&str> = command.split(' ').take(2).collect();
        Err(failed(format!("{}: {}", verb.join(" "), answer.text)))
    }

    /// Waits until the server wants the literal; the answer where it does not.
    fn go_on(&mut self, tag: &str) -> Result<Option<Answer>, Error> {
        loop {
            let line = self.line(&mut |_, _| ())?;
            if line.starts_with(b"+") {
                return Ok(None);
            }
            if line.starts_with(tag.as_bytes()) {
                let response = read(&line)?.ok_or_else(|| unexpected(&line))?;
                return Ok(Answer::of(&response));
            }
        }
    }

    fn pour(&mut self, message: &mut New<'_>) -> Result<(), Error> {
        let mut piece = vec![0; SEND_SIZE];
        let mut left = message.size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(SEND_SIZE).min(SEND_SIZE);
            message.text.read_exact(&mut piece[..most]).map_err(CoreError::Read)?;
            self.write(&piece[..most])?;
            left -= most as u64;
        }
        Ok(())
    }

    fn send(&mut self, command: &str) -> Result<String, Error> {
        let tag = self.put(command)?;
        self.flush()?;
        Ok(tag)
    }

    fn put(&mut self, command: &str) -> Result<String, Error> {
        self.tag += 1;
        let tag = format!("m{} ", self.tag);
        self.write(format!("{tag}{command}\r\n").as_bytes())?;
        Ok(tag)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writer.write_all(bytes).map_err(broken)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.writer.flush().map_err(broken)
    }

    fn line(&mut self, on_message: &mut wire::OnMessage<'_>) -> Result<Vec<u8>, Error> {
        wire::response(&mut self.reader, on_message).map_err(broken)
    }

    /// Reads up to the answer to the command `tag`.
    fn answer(
        &mut self,
        tag: &str,
        each: &mut Each<'_>,
        on_message: &mut wire::OnMessage<'_>,
    ) -> Result<Answer, Error> {
        loop {
            let line = self.line(on_message)?;
            let parsed = read(&line)?;
            if line.starts_with(tag.as_bytes()) {
                let response = parsed.ok_or_else(|| unexpected(&line))?;
                each(&response);
                return Answer::of(&response).ok_or_else(|| unexpected(&line));
            }
            if let Some(response) = parsed {
                each(&response);
            }
        }
    }
}

impl Message {
    fn of(values: &[AttributeValue<'_>]) -> Self {
        let mut message = Self::default();
        for value in values {
            match value {
                AttributeValue::Uid(uid) => message.uid = *uid,
                AttributeValue::ModSeq(number) => message.modseq = *number,
                AttributeValue::InternalDate(date) => message.date = date.to_string(),
                AttributeValue::Rfc822Size(size) => message.size = u64::from(*size),
                AttributeValue::Flags(flags) => {
                    message.flags =
                        flags.iter().filter(|flag| *flag != "\\Recent").map(ToString::to_string).collect();
                }
                _ => {}
            }
        }
        message
    }
}

impl Answer {
    fn of(response: &Response<'_>) -> Option<Self> {
        use imap_proto::rfc4315::UidSetMember::{Uid, UidRange};
        let Response::Done { status, outcome, .. } = response else { return None };
        let appended = match &outcome.code {
            Some(ResponseCode::AppendUid(validity, set)) => {
                let uids = set.iter().flat_map(|member| match member {
                    Uid(uid) => *uid..=*uid,
                    UidRange(range) => range.clone(),
                });
                Some((*validity, uids.take(MOST_APPENDED).collect()))
            }
            _ => None,
        };
        let text = outcome.information.as_deref().unwrap_or_default().to_owned();
        Some(Self { ok: *status == Status::Ok, text, appended })
    }

    /// The messages that a conditional STORE has left alone (RFC 7162, section 3.1.3).
    fn modified(&self) -> Vec<RangeInclusive<u32>> {
        let uids = self.text.strip_prefix("[MODIFIED ").and_then(|text| text.split_once(']'));
        let range = |text: &str| {
            let (first, last) = text.split_once(':').unwrap_or((text, text));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            Some(first.min(last)..=first.max(last))
        };
        uids.map(|(uids, _)| uids.split(',').filter_map(range).collect()).unwrap_or_default()
    }

    /// Whether it says this, in brackets, in front of its text.
    #[must_use]
    pub fn says(&self, code: &str) -> bool {
        self.text.strip_prefix('[').is_some_and(|text| text.starts_with(code))
    }
}

/// UIDs as a command takes them, `1,2,3`.
#[must_use]
pub fn set(uids: impl IntoIterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for uid in uids {
        match ranges.last_mut() {
            Some((_, last)) if uid == last.wrapping_add(1) => *last = uid,
            _ => ranges.push((uid, uid)),
        }
    }
    let written = ranges
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}:{last}") });
    written.collect::<Vec<_>>().join(",")
}

/// The name as an argument. One that cannot be sent gives a folder that is not there.
fn argument(folder: &str) -> String {
    name::quoted(folder).unwrap_or_else(|| "\"\"".into())
}

/// The prefixes in the three lists of a NAMESPACE response (RFC 2342): the user's own, others', shared.
fn prefixes(lists: &str) -> Vec<Vec<String>> {
    let mut groups = vec![Vec::new()];
    let (mut depth, mut first, mut group) = (0, false, 0);
    let mut rest = lists.trim_end().chars();
    while let Some(c) = rest.next() {
        match c {
            '(' => {
                depth += 1;
                first = depth == 2;
            }
            ')' => depth -= 1,
            '"' => {
                let mut text = String::new();
                while let Some(c) = rest.next() {
                    match c {
                        '"' => break,
                        '\\' => text.extend(rest.next()),
                        c => text.push(c),
                    }
                }
                if depth == 2 && std::mem::take(&mut first) {
                    groups[group].push(text);
                }
            }
            ' ' if depth == 0 => {
                group += 1;
                groups.push(Vec::new());
            }
            _ => {}
        }
    }
    groups
}

fn failed(what: String) -> Error {
    Error::Dovecot { what }
}

fn broken(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            failed("the IMAP session has ended".into())
        }
        _ => failed(format!("the IMAP session: {error}")),
    }
}

/// What a line says; `None` for what is not asked for, which may be of an extension that nobody here knows.
fn read(line: &[u8]) -> Result<Option<Response<'_>>, Error> {
    grammar::parse(line).map_err(|grammar::Unreadable| unexpected(line))
}

fn unexpected(line: &[u8]) -> Error {
    let text = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
    failed(format!("the IMAP session: {}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_told_apart() {
        let lists = r#"(("" ".")("old/" "/")) (("Shared/" "/")) (("Public.\"x" "." "X-PARAM" ("a" "b")))"#;
        assert_eq!(
            prefixes(lists),
            [vec![String::new(), "old/".into()], vec!["Shared/".into()], vec!["Public.\"x".into()]]
        );
        assert_eq!(prefixes(r#"(("" ".")) NIL NIL"#), [vec![String::new()], vec![], vec![]]);
    }

    #[test]
    fn sets_are_short() {
        assert_eq!(set([1, 2, 3, 7, 9, 10]), "1:3,7,9:10");
        assert_eq!(set([]), "");
    }

    #[test]
    fn a_server_that_wants_a_password_is_refused() {
        assert!(Session::begin(&b"* OK ready\r\n"[..], io::sink()).is_err());
    }

    #[test]
    fn answers_are_understood() {
        let wire = b"* PREAUTH hello\r\n* 3 EXPUNGE\r\nm1 OK [APPENDUID 12 4:6,9] Append completed.\r\n\
                     * 5 FETCH (UID 5 MODSEQ (80) FLAGS (\\Deleted))\r\n\
                     * 7 FETCH (UID 7 MODSEQ (81) FLAGS (\\Deleted \\Seen))\r\n\
                     * 8 FETCH (UID 8 MODSEQ (81) FLAGS (\\Seen))\r\n\
                     m2 OK [MODIFIED 5,9:10] Conditional store failed.\r\n\
                     * 1 FETCH (FLAGS (\\Seen))\r\n* 2 FETCH (UID 5 MODSEQ (77) FLAGS (\\Recent $x) INTERNALDATE \" 1-Jan-2020 00:00:00 +0000\" RFC822.SIZE 9)\r\n\
                     m3 OK done\r\n";
        let mut session = Session::begin(&wire[..], io::sink()).unwrap();
        let answer = session.command("X", &mut |_| ()).unwrap();
        assert_eq!(answer.appended, Some((12, vec![4, 5, 6, 9])));
        let message = |uid| Message { uid, ..Message::default() };
        let messages = [5, 6, 7, 8, 9].map(message);
        let set = session.set_unchanged(&messages.each_ref(), 76, "\\Deleted").unwrap();
        assert_eq!(set, BTreeSet::from([7]), "5 and 9 have changed, 6 is gone, 8 was not told of");
        let messages = session.look_at("5", "UID").unwrap();
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].uid, messages[0].modseq, messages[0].size), (5, 77, 9));
        assert_eq!(messages[0].flags.iter().collect::<Vec<_>>(), ["$x"]);
        assert!(session.command("X", &mut |_| ()).is_err(), "the end of the stream");
    }
}
