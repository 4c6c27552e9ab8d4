//! An IMAP client: folders, whole messages by `BODY.PEEK[]`, and what a mail program does to them.

use super::lmtp::with_crlf;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A session of one user.
pub struct Imap {
    stream: BufReader<TcpStream>,
}

/// A message as a client sees it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its UID.
    pub uid: u32,
    /// Flags and keywords, sorted, without `\Recent`.
    pub flags: Vec<String>,
    /// The whole message.
    pub body: Vec<u8>,
}

/// One untagged answer.
#[derive(Debug)]
pub struct Answer {
    /// Its text, without the literals.
    pub text: String,
    /// The literals that came inside it.
    pub literals: Vec<Vec<u8>>,
}

impl Answer {
    /// The number behind a word in the text, as in `UID 5`.
    pub fn number(&self, word: &str) -> Option<u32> {
        let mut words = self.text.split([' ', '(', ')']);
        words.find(|it| *it == word)?;
        words.next()?.parse().ok()
    }
}

impl Imap {
    /// Connects and logs in.
    pub fn login(server: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut imap = Self { stream: BufReader::new(stream) };
        imap.answer()?;
        imap.command(&format!("LOGIN {user} {password}"))?;
        Ok(imap)
    }

    /// The names of the folders.
    pub fn folders(&mut self) -> Vec<String> {
        let answers = self.command(r#"LIST "" "*""#).unwrap();
        let lists = answers.iter().filter(|answer| answer.text.starts_with("* LIST"));
        lists.map(|answer| answer.text.rsplit(' ').next().unwrap().trim_matches('"').to_owned()).collect()
    }

    /// All messages of a folder, oldest first.
    pub fn messages(&mut self, folder: &str) -> Vec<Vec<u8>> {
        self.command(&format!("EXAMINE \"{folder}\"")).unwrap();
        let answers = self.command("UID FETCH 1:* BODY.PEEK[]").unwrap();
        let fetched = answers.into_iter().filter(|answer| answer.text.contains(" FETCH ("));
        // An empty message comes as "" or NIL instead of as a literal.
        fetched.map(|answer| answer.literals.into_iter().next().unwrap_or_default()).collect()
    }

    /// The same, with what is known of each.
    pub fn fetch(&mut self, folder: &str) -> Vec<Message> {
        self.command(&format!("EXAMINE \"{folder}\"")).unwrap();
        let answers = self.command("UID FETCH 1:* (UID FLAGS BODY.PEEK[])").unwrap();
        let fetched = answers.into_iter().filter(|answer| answer.text.contains(" FETCH ("));
        fetched
            .map(|answer| {
                let uid = answer.number("UID").unwrap();
                let (_, rest) = answer.text.split_once("FLAGS (").unwrap();
                let flags = rest.split(')').next().unwrap().split_whitespace();
                let mut flags: Vec<String> =
                    flags.filter(|flag| *flag != "\\Recent").map(str::to_owned).collect();
                flags.sort();
                Message { uid, flags, body: answer.literals.into_iter().next().unwrap_or_default() }
            })
            .collect()
    }

    /// Saves a message, with CRLF for its line endings, under flags as `\Seen $Label1`; its UID as the server says.
    pub fn append(&mut self, folder: &str, flags: &str, mail: &[u8]) -> io::Result<u32> {
        let mail = with_crlf(mail);
        let stream = self.stream.get_mut();
        stream.write_all(format!("a APPEND \"{folder}\" ({flags}) {{{}}}\r\n", mail.len()).as_bytes())?;
        let answer = self.answer()?;
        if !answer.text.starts_with('+') {
            return Err(io::Error::other(answer.text));
        }
        self.stream.get_mut().write_all(&[&mail[..], b"\r\n"].concat())?;
        let (_, result) = self.until_tagged("APPEND")?;
        let uid =
            result.split_once("APPENDUID ").and_then(|(_, rest)| rest.split([' ', ']']).nth(1)?.parse().ok());
        uid.ok_or_else(|| io::Error::other(result))
    }

    /// Waits for so long for what the server has to say, as a mail program does that shows a folder.
    pub fn idle(&mut self, time: Duration) -> io::Result<()> {
        self.stream.get_mut().write_all(b"a IDLE\r\n")?;
        std::thread::sleep(time);
        self.stream.get_mut().write_all(b"DONE\r\n")?;
        self.until_tagged("IDLE").map(drop)
    }

    /// Sends a command and gives the untagged answers; an error when it is refused.
    pub fn command(&mut self, command: &str) -> io::Result<Vec<Answer>> {
        self.stream.get_mut().write_all(format!("a {command}\r\n").as_bytes())?;
        Ok(self.until_tagged(command)?.0)
    }

    /// What the server says to a command: the untagged answers, and the text after OK.
    fn until_tagged(&mut self, command: &str) -> io::Result<(Vec<Answer>, String)> {
        let mut untagged = Vec::new();
        loop {
            let answer = self.answer()?;
            match answer.text.strip_prefix("a ") {
                None => untagged.push(answer),
                Some(result) if result.starts_with("OK") => return Ok((untagged, result.to_owned())),
                Some(result) => return Err(io::Error::other(format!("{command}: {result}"))),
            }
        }
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = Answer { text: String::new(), literals: Vec::new() };
        loop {
            if self.stream.read_line(&mut answer.text)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.text.truncate(answer.text.trim_end().len());
            let Some(length) = literal_length(&answer.text) else { return Ok(answer) };
            let mut literal = vec![0; length];
            self.stream.read_exact(&mut literal)?;
            answer.literals.push(literal);
        }
    }
}

fn literal_length(line: &str) -> Option<usize> {
    line.strip_suffix('}')?.rsplit_once('{')?.1.parse().ok()
}
