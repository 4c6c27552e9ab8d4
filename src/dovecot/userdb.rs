//! Edge: Dovecot's user database, asked over its socket `auth-userdb`: who there is, and whose files and which home are
//! whose. One connection answers for thousands of users.
//!
//! The protocol is that of Dovecot's `lib-auth/auth-master.c`, the same in 2.3 and 2.4: lines of fields between tabs, tabs
//! and line ends in them written as `\x01` and a letter.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::unistd::{Group, User};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::Error;
use crate::system::owner::process::Watch;
use crate::system::program;

/// Where the socket is when Dovecot says nothing else.
const SOCKET: &str = "/run/dovecot/auth-userdb";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many users are asked for at once.
const AT_ONCE: usize = 200;

/// Longest line, in bytes.
const LINE: u64 = 64 * 1024;

/// Most users.
const MOST: usize = 10_000_000;

/// What stands before the name of a setting of Sieve's, in 2.3 and in 2.4.
const PREFIXES: [&str; 2] = ["sieve_env_", "sieve_environment/"];

/// What settings begin with by which Sieve seals: a field of this name counts for its user in their place.
const SEALING: [&str; 6] = [
    "sieve_before",
    "sieve_plugins",
    "sieve_global_extensions",
    "sieve_extensions",
    "sieve_filter_",
    "sieve_script",
];

const VERSION: &str = "VERSION\t1\t0\n";

/// A user as the database has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The name, as the database writes it.
    pub name: String,
    /// Whose rights deliveries have.
    pub uid: Option<u32>,
    /// The group of these.
    pub gid: Option<u32>,
    /// The home.
    pub home: Option<PathBuf>,
    /// Settings of the user's own that are for us, without `mailseal_` before their names; where it is none, empty.
    pub settings: BTreeMap<String, String>,
    /// Fields that take the place of settings of Sieve's by which mail is sealed.
    pub overrides: Vec<String>,
}

/// What the database says of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is one.
    Found(Account),
    /// There is none.
    NotFound,
    /// It cannot say now.
    Failed,
}

/// A connection.
#[derive(Debug)]
pub struct Userdb {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
    /// The number of the last request.
    last: u32,
    /// Dovecot's main configuration, if another than its default.
    config: Option<PathBuf>,
    /// The ids of users for whom the database says none, where Dovecot was asked for them.
    defaults: Option<(Option<u32>, Option<u32>)>,
}

impl Userdb {
    /// Connects to the Dovecot of this machine, whose main configuration is `config` if not the default one.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn of_dovecot(config: Option<&Path>) -> Result<Self, Error> {
        let folder = setting(config, "base_dir").filter(|folder| folder.starts_with('/'));
        let socket = folder.map_or_else(|| SOCKET.into(), |folder| Path::new(&folder).join("auth-userdb"));
        let mut userdb = Self::connect(&socket)?;
        userdb.config = config.map(Path::to_owned);
        userdb.defaults = Some((
            setting(config, "mail_uid").and_then(|name| uid(&name)),
            setting(config, "mail_gid").and_then(|name| gid(&name)),
        ));
        Ok(userdb)
    }

    /// Connects to the socket at `socket`.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| failed(socket, &error.to_string());
        let stream = connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut userdb = Self {
            socket: socket.into(),
            stream: BufReader::new(stream),
            last: 0,
            config: None,
            defaults: None,
        };
        userdb.send(VERSION)?;
        Ok(userdb)
    }

    /// The names of all users, sorted.
    ///
    /// # Errors
    /// [`Error::Dovecot`] also where the database cannot be iterated.
    pub fn list(&mut self) -> Result<Vec<String>, Error> {
        let id = self.next_id();
        self.send(&format!("LIST\t{id}\tuser=*\tservice=mailseal\n"))?;
        let mut names = Vec::new();
        loop {
            let line = self.line()?;
            let mut fields = line.split('\t');
            match (fields.next(), fields.next().map(|it| it.parse() == Ok(id)), fields.next()) {
                (Some("LIST"), Some(true), Some(name)) => names.push(unescaped(name)),
                (Some("DONE"), Some(true), None | Some("")) => break,
                (Some("DONE" | "FAIL"), Some(true), _) => {
                    return Err(failed(&self.socket, "the user database cannot be iterated"));
                }
                _ => {}
            }
            if names.len() > MOST {
                return Err(failed(&self.socket, "it lists too many users"));
            }
        }
        if names.is_empty() {
            // A server without users has nothing to seal; one that does not tell them looks the same.
            return Err(failed(&self.socket, "the user database lists nobody"));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// What the database says of each of `names`, in their order.
    ///
    /// # Errors
    /// [`Error::Dovecot`].
    pub fn look_up(&mut self, names: &[String]) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(names.len());
        for names in names.chunks(AT_ONCE) {
            let mut request = String::new();
            let mut waiting = BTreeMap::new();
            let first = answers.len();
            for name in names {
                let id = self.next_id();
                waiting.insert(id, answers.len());
                answers.push(Answer::Failed);
                // As LMTP asks: a database may answer by the service.
                request.push_str(&format!("USER\t{id}\t{}\tservice=lmtp\n", escaped(name)));
            }
            self.send(&request)?;
            let end = Instant::now() + PATIENCE;
            while !waiting.is_empty() {
                if Instant::now() > end {
                    return Err(failed(&self.socket, "it does not answer in time"));
                }
                let line = self.line()?;
                let mut fields = line.split('\t');
                // The server's greeting has numbers, too, which are none of ours.
                let kind = fields.next().filter(|kind| ["USER", "NOTFOUND", "FAIL"].contains(kind));
                let id = fields.next().filter(|_| kind.is_some()).and_then(|id| id.parse::<u32>().ok());
                let Some(place) = id.and_then(|id| waiting.remove(&id)) else { continue };
                answers[place] = match kind {
                    Some("USER") => Answer::Found(self.completed(account(&names[place - first], fields))),
                    Some("NOTFOUND") => Answer::NotFound,
                    _ => Answer::Failed,
                };
            }
        }
        Ok(answers)
    }

    /// Adds what Dovecot's settings say where the database says nothing. A home is asked for user by user: that setting has
    /// variables.
    fn completed(&self, mut account: Account) -> Account {
        let Some((uid, gid)) = self.defaults else { return account };
        account.uid = account.uid.or(uid);
        account.gid = account.gid.or(gid);
        if account.home.is_none() {
            let mut command = Command::new("doveadm");
            self.config.iter().for_each(|config| _ = command.arg("-c").arg(config));
            account.home = said(command.args(["user", "-f", "home", "--", &account.name])).map(PathBuf::from);
        }
        account
    }

    fn next_id(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    fn send(&mut self, text: &str) -> Result<(), Error> {
        let sent = self.stream.get_mut().write_all(text.as_bytes());
        sent.map_err(|error| failed(&self.socket, &error.to_string()))
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LINE).read_until(b'\n', &mut line);
        read.map_err(|error| failed(&self.socket, &error.to_string()))?;
        match line.strip_suffix(b"\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(failed(&self.socket, "it closed the connection, or a line is too long")),
        }
    }
}

/// Connects; a server that takes nobody in is not waited for for ever.
fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

/// A setting of Dovecot's; `None` where it is empty, or there is no Dovecot.
fn setting(config: Option<&Path>, name: &str) -> Option<String> {
    let mut command = Command::new("doveconf");
    config.into_iter().for_each(|config| _ = command.arg("-c").arg(config));
    said(command.args(["-h", name]))
}

/// What a program says on one line, where it says anything and succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = program::run(command, &Watch::alone()).ok().filter(|output| output.status.success())?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!said.is_empty()).then_some(said)
}

fn uid(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| Some(User::from_name(name).ok()??.uid.as_raw()))
}

fn gid(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| Some(Group::from_name(name).ok()??.gid.as_raw()))
}

/// What an answer says of the user who was asked for as `asked`.
fn account<'a>(asked: &str, mut fields: impl Iterator<Item = &'a str>) -> Account {
    let name = fields.next().map(unescaped).filter(|name| !name.is_empty()).unwrap_or_else(|| asked.into());
    let mut account = Account { name, ..Account::default() };
    for field in fields {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let value = unescaped(value);
        match key {
            "uid" => account.uid = uid(&value),
            "gid" => account.gid = gid(&value),
            "home" if !value.is_empty() => account.home = Some(value.into()),
            _ if SEALING.iter().any(|setting| key.starts_with(setting)) => account.overrides.push(key.into()),
            // Sieve sees them under these names (docs/dovecot.md: settings of a user's own).
            _ => {
                let name = PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix)).unwrap_or(key);
                // An empty one is "yes" in Dovecot 2.3.
                let value = if value == "yes" { String::new() } else { value };
                let setting = name.strip_prefix("mailseal_").map(|name| (name.to_owned(), value));
                account.settings.extend(setting);
            }
        }
    }
    account
}

/// Dovecot's `str_tabescape`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push_str("\u{1}0"),
            '\u{1}' => out.push_str("\u{1}1"),
            '\t' => out.push_str("\u{1}t"),
            '\r' => out.push_str("\u{1}r"),
            '\n' => out.push_str("\u{1}n"),
            c => out.push(c),
        }
    }
    out
}

/// Undoes Dovecot's `str_tabescape`.
pub fn unescaped(text: &str) -> String {
    let mut pieces = text.split('\u{1}');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let mut rest = piece.chars();
        out.push(match rest.next() {
            Some('0') => '\0',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('n') => '\n',
            Some('1') | None => '\u{1}',
            Some(other) => other,
        });
        out.push_str(rest.as_str());
    }
    out
}

fn failed(socket: &Path, what: &str) -> Error {
    Error::Dovecot { what: format!("{}: {what}", socket.display()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn text_survives_the_protocol() {
        for text in ["alice", "a\tb\nc\rd\0e\u{1}f", "", "\u{1}"] {
            assert_eq!(unescaped(&escaped(text)), text);
            assert!(!escaped(text).contains(['\t', '\n']));
        }
    }

    #[test]
    fn the_greeting_is_not_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth-userdb");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"VERSION\t1\t2\nSPID\t1\nUSER\t1\talice\tuid=5\n").unwrap();
            // It stays open: the question is still to come.
            stream
        });
        let mut userdb = Userdb::connect(&path).unwrap();
        let alice = Account { name: "alice".into(), uid: Some(5), ..Account::default() };
        assert_eq!(userdb.look_up(&["alice".to_owned()]).unwrap(), [Answer::Found(alice)]);
        drop(server.join().unwrap());
    }

    #[test]
    fn answers_come_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth-userdb");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"VERSION\t1\t2\nSPID\t42\n").unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut next = || lines.next().unwrap().unwrap();
            assert_eq!(next(), VERSION.trim_end());
            assert_eq!(next(), "LIST\t1\tuser=*\tservice=mailseal");
            stream.write_all(b"LIST\t1\tbob\nLIST\t1\talice\nDONE\t1\t\n").unwrap();
            let asked = [next(), next(), next()];
            assert_eq!(asked[0], "USER\t2\talice\tservice=lmtp");
            stream
                .write_all(b"NOTFOUND\t4\nUSER\t3\trobert\tuid=5\thome=/h/b\x01tb\tgid=x\tsieve_env_mailseal_off=yes\tsieve_environment/mailseal_key=/k.pgp\tsieve_before=/b\tquota\nFAIL\t2\ttemp\n")
                .unwrap();
        });
        let mut userdb = Userdb::connect(&path).unwrap();
        assert_eq!(userdb.list().unwrap(), ["alice", "bob"]);
        let names = ["alice", "bob", "carol"].map(str::to_owned);
        let bob = Account {
            name: "robert".into(),
            uid: Some(5),
            gid: None,
            home: Some("/h/b\tb".into()),
            overrides: vec!["sieve_before".into()],
            settings: [("key", "/k.pgp"), ("off", "")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
        };
        assert_eq!(userdb.look_up(&names).unwrap(), [Answer::Failed, Answer::Found(bob), Answer::NotFound]);
        server.join().unwrap();
        assert!(userdb.list().is_err(), "the connection is closed");
    }
}
