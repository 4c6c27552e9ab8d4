//! A next hop that takes mail over LMTP, or a relay that takes it over SMTP: what comes is kept in memory, or something goes wrong
//! as a test wants it to.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where in a conversation something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Before the greeting.
    Greeting,
    /// After LHLO or EHLO.
    Lhlo,
    /// After MAIL.
    Mail,
    /// After RCPT.
    Rcpt,
    /// After DATA.
    Data,
    /// Amid the message.
    Message,
    /// After the dot, before anything is stored.
    Dot,
    /// After the message was stored, before it is answered.
    Stored,
}

/// All of them.
pub const STEPS: [Step; 8] =
    [Step::Greeting, Step::Lhlo, Step::Mail, Step::Rcpt, Step::Data, Step::Message, Step::Dot, Step::Stored];

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed.
    Close,
    /// Nothing happens for so long; then all goes on.
    Delay(Duration),
    /// This is said in the place of an answer.
    Say(&'static str),
}

/// A message that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The line that began with MAIL.
    pub mail: String,
    /// Whose copy it is: what stood in RCPT.
    pub recipient: String,
    /// The message.
    pub message: Vec<u8>,
}

/// A next hop, until it is dropped.
pub struct NextHop {
    /// Has it look whether it is closed.
    wake: Box<dyn Fn() + Send + Sync>,
    state: Arc<Mutex<State>>,
}

/// A client's connection.
trait Connection: Send + Sync {
    fn reader(&self) -> Box<dyn Read + '_>;
    fn writer(&self) -> Box<dyn Write + '_>;
    fn close(&self);
}

macro_rules! connections {
    ($($stream:ty),+) => {$(
        impl Connection for $stream {
            fn reader(&self) -> Box<dyn Read + '_> {
                Box::new(self)
            }

            fn writer(&self) -> Box<dyn Write + '_> {
                Box::new(self)
            }

            fn close(&self) {
                let _ = self.shutdown(Shutdown::Both);
            }
        }
    )+};
}

connections!(TcpStream, UnixStream);

/// What is spoken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// An answer a recipient after the dot.
    Lmtp,
    /// One answer after the dot.
    Smtp,
}

#[derive(Default)]
struct State {
    taken: Vec<Taken>,
    /// Everything that it was told, whatever became of it.
    heard: Vec<u8>,
    faults: VecDeque<(Step, Fault)>,
    refused: Vec<(String, &'static str)>,
    extensions: Vec<&'static str>,
    closed: bool,
}

impl NextHop {
    /// Listens at `path`, for LMTP.
    pub fn listen(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let path = path.to_owned();
        let wake = move || _ = UnixStream::connect(&path);
        Self::serve(Protocol::Lmtp, wake, move || listener.accept().unwrap().0)
    }

    /// Listens at `address`, for LMTP.
    pub fn listen_at(address: SocketAddr) -> Self {
        Self::over_tcp(Protocol::Lmtp, address)
    }

    /// A relay: listens at `address`, for SMTP.
    pub fn relay(address: SocketAddr) -> Self {
        Self::over_tcp(Protocol::Smtp, address)
    }

    fn over_tcp(protocol: Protocol, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let wake = move || _ = TcpStream::connect(address);
        Self::serve(protocol, wake, move || listener.accept().unwrap().0)
    }

    fn serve<C: Connection + 'static>(
        protocol: Protocol,
        wake: impl Fn() + Send + Sync + 'static,
        accept: impl Fn() -> C + Send + 'static,
    ) -> Self {
        let state = Arc::new(Mutex::new(State { extensions: vec!["8BITMIME"], ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            loop {
                let stream = accept();
                if shared.lock().unwrap().closed {
                    return;
                }
                let shared = Arc::clone(&shared);
                // Who breaks off has no answer.
                std::thread::spawn(move || converse(protocol, &stream, &shared));
            }
        });
        Self { wake: Box::new(wake), state }
    }

    /// The next time that `step` is reached, `fault` happens.
    pub fn fail(&self, step: Step, fault: Fault) {
        self.state.lock().unwrap().faults.push_back((step, fault));
    }

    /// After the dot, says this for `recipient`; at RCPT, where it begins with `RCPT `.
    pub fn refuse(&self, recipient: &str, answer: &'static str) {
        self.state.lock().unwrap().refused.push((recipient.into(), answer));
    }

    /// Announces these extensions.
    pub fn announce(&self, extensions: &[&'static str]) {
        self.state.lock().unwrap().extensions = extensions.to_vec();
    }

    /// What was taken since it was asked the last time.
    pub fn take(&self) -> Vec<Taken> {
        std::mem::take(&mut self.state.lock().unwrap().taken)
    }

    /// Everything that it was told since it was asked the last time.
    pub fn heard(&self) -> Vec<u8> {
        std::mem::take(&mut self.state.lock().unwrap().heard)
    }
}

impl Drop for NextHop {
    fn drop(&mut self) {
        self.state.lock().unwrap().closed = true;
        (self.wake)();
    }
}

/// `None` where the connection has ended.
fn converse(protocol: Protocol, stream: &impl Connection, state: &Mutex<State>) -> Option<()> {
    let mut lines = BufReader::new(stream.reader());
    let mut out = stream.writer();
    let fault = |step: Step| -> Option<Option<&'static str>> {
        let fault = {
            let mut state = state.lock().unwrap();
            let at = state.faults.iter().position(|(at, _)| *at == step);
            at.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault)
        };
        match fault {
            None => Some(None),
            Some(Fault::Close) => {
                stream.close();
                None
            }
            Some(Fault::Delay(time)) => {
                std::thread::sleep(time);
                Some(None)
            }
            Some(Fault::Say(text)) => Some(Some(text)),
        }
    };
    // Whether it was that answer.
    let mut say = |step: Step, answer: &str| -> Option<bool> {
        let said = fault(step)?.unwrap_or(answer);
        out.write_all(said.as_bytes()).ok()?;
        Some(said == answer)
    };
    let greeting = if protocol == Protocol::Lmtp { "220 sink LMTP\r\n" } else { "220 sink ESMTP\r\n" };
    say(Step::Greeting, greeting)?;
    let (mut mail, mut recipients) = (String::new(), Vec::<String>::new());
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).ok()? == 0 {
            return None;
        }
        state.lock().unwrap().heard.extend_from_slice(line.as_bytes());
        let command = line.trim_end();
        match command.split(' ').next()?.to_ascii_uppercase().as_str() {
            "LHLO" | "EHLO" => {
                let extensions = state.lock().unwrap().extensions.clone();
                let offered: String = extensions.iter().map(|name| format!("250-{name}\r\n")).collect();
                _ = say(Step::Lhlo, &format!("250-sink\r\n{offered}250 PIPELINING\r\n"))?;
            }
            "MAIL" => {
                recipients.clear();
                mail = if say(Step::Mail, "250 2.1.0 ok\r\n")? { command.into() } else { String::new() };
            }
            "RCPT" if mail.is_empty() => _ = say(Step::Lhlo, "503 5.5.1 no sender\r\n")?,
            "RCPT" => {
                let recipient = command.split_once(':')?.1.to_owned();
                let refused = state.lock().unwrap().refused.clone();
                let refused = refused.iter().find(|(name, _)| *name == format!("RCPT {recipient}"));
                let said = say(Step::Rcpt, refused.map_or("250 2.1.5 ok\r\n", |(_, answer)| answer))?;
                if refused.is_none() && said {
                    recipients.push(recipient);
                }
            }
            // Who sends commands ahead may come to it.
            "DATA" if recipients.is_empty() => _ = say(Step::Lhlo, "503 5.5.1 no recipient\r\n")?,
            "DATA" => {
                if !say(Step::Data, "354 go on\r\n")? {
                    continue;
                }
                let message = message(&mut lines, state, &fault)?;
                fault(Step::Dot)?;
                let refused = state.lock().unwrap().refused.clone();
                let refusal = |recipient: &str| refused.iter().find(|(name, _)| name == recipient);
                // Over SMTP a recipient who is refused takes the others along.
                let all = recipients.iter().find_map(|recipient| refusal(recipient));
                let all = all.filter(|_| protocol == Protocol::Smtp);
                let mut answers = Vec::new();
                for recipient in &recipients {
                    let refused = all.or_else(|| refusal(recipient));
                    if refused.is_none() {
                        let (mail, recipient) = (mail.clone(), recipient.clone());
                        state.lock().unwrap().taken.push(Taken { mail, recipient, message: message.clone() });
                    }
                    answers.push(refused.map_or("250 2.0.0 stored\r\n", |(_, answer)| answer));
                }
                if protocol == Protocol::Smtp {
                    answers.truncate(1);
                }
                for answer in answers {
                    say(Step::Stored, answer)?;
                }
            }
            "QUIT" => {
                if protocol == Protocol::Smtp {
                    say(Step::Lhlo, "221 2.0.0 bye\r\n")?;
                }
                return None;
            }
            _ => _ = say(Step::Lhlo, "250 2.0.0 ok\r\n")?,
        }
    }
}

fn message(
    lines: &mut impl BufRead,
    state: &Mutex<State>,
    fault: &impl Fn(Step) -> Option<Option<&'static str>>,
) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let mut first = [0];
    lines.read_exact(&mut first).ok()?;
    state.lock().unwrap().heard.push(first[0]);
    fault(Step::Message)?;
    let mut line = first.to_vec();
    loop {
        if line.last() != Some(&b'\n') {
            let before = line.len();
            if lines.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            state.lock().unwrap().heard.extend_from_slice(&line[before..]);
        }
        let at_line_start = message.is_empty() || message.ends_with(b"\r\n");
        match &line[..] {
            b".\r\n" if at_line_start => return Some(message),
            [b'.', rest @ ..] if at_line_start => message.extend_from_slice(rest),
            line => message.extend_from_slice(line),
        }
        line.clear();
    }
}
