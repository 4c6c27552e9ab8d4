//! An LMTP client: one transaction, one answer a recipient; and SMTP, which answers once.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection that has said LHLO.
pub struct Lmtp {
    stream: BufReader<Box<dyn Stream>>,
}

/// A connection.
trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server's final answer for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 250, 451, ...
    pub code: u16,
    /// The answer in full.
    pub text: String,
}

impl Lmtp {
    /// Connects and greets.
    pub fn connect(server: SocketAddr) -> io::Result<Self> {
        Self::greet(server, "LHLO")
    }

    /// Connects to an SMTP server and greets.
    pub fn connect_smtp(server: SocketAddr) -> io::Result<Self> {
        Self::greet(server, "EHLO")
    }

    /// Connects to an SMTP server and greets with this line.
    pub fn connect_plain(server: SocketAddr, greeting: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut lmtp = Self { stream: BufReader::new(Box::new(stream)) };
        lmtp.expect(220)?;
        lmtp.command(greeting, 250)?;
        Ok(lmtp)
    }

    /// Connects to a Unix socket and greets.
    pub fn connect_unix(server: &Path) -> io::Result<Self> {
        Self::on(UnixStream::connect(server)?)
    }

    /// Greets over a connection that there is already.
    pub fn on(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::converse(Box::new(stream), "LHLO")
    }

    fn greet(server: SocketAddr, greeting: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::converse(Box::new(stream), greeting)
    }

    fn converse(stream: Box<dyn Stream>, greeting: &str) -> io::Result<Self> {
        let mut lmtp = Self { stream: BufReader::new(stream) };
        lmtp.expect(220)?;
        lmtp.command(&format!("{greeting} client.example.net"), 250)?;
        Ok(lmtp)
    }

    /// Sends `mail`, with CRLF for its line endings, to `recipients`; what came back for each of them.
    pub fn deliver(&mut self, sender: &str, recipients: &[&str], mail: &[u8]) -> io::Result<Vec<Reply>> {
        self.transaction(sender, recipients, mail)?;
        recipients.iter().map(|_| self.reply()).collect()
    }

    /// The same to an SMTP server, which takes all or nothing.
    pub fn send(&mut self, sender: &str, recipients: &[&str], mail: &[u8]) -> io::Result<()> {
        self.transaction(sender, recipients, mail)?;
        self.expect(250)
    }

    fn transaction(&mut self, sender: &str, recipients: &[&str], mail: &[u8]) -> io::Result<()> {
        self.command(&format!("MAIL FROM:<{sender}>"), 250)?;
        for recipient in recipients {
            self.command(&format!("RCPT TO:<{recipient}>"), 250)?;
        }
        self.command("DATA", 354)?;
        self.stream.get_mut().write_all(&dot_stuffed(mail))
    }

    /// Says a line, and expects this answer.
    pub fn command(&mut self, line: &str, code: u16) -> io::Result<()> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.expect(code)
    }

    fn expect(&mut self, code: u16) -> io::Result<()> {
        let reply = self.reply()?;
        if reply.code == code { Ok(()) } else { Err(io::Error::other(reply.text)) }
    }

    /// Sends this as it stands.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next answer.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        loop {
            let start = text.len();
            if self.stream.read_line(&mut text)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = &text[start..];
            let code = line.get(..3).and_then(|digits| digits.parse().ok());
            let code = code.ok_or_else(|| io::Error::other(format!("no LMTP reply: {line}")))?;
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, text });
            }
        }
    }
}

/// Bare LF becomes CRLF; what has CRLF stays.
pub fn with_crlf(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + mail.len() / 40);
    for (index, byte) in mail.iter().enumerate() {
        if *byte == b'\n' && (index == 0 || mail[index - 1] != b'\r') {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

fn dot_stuffed(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in with_crlf(mail).split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}
