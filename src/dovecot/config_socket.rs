//! Edge: The settings that the running Dovecot works with, as its `config` process tells them.
//!
//! That process reads the files once, at its start, and answers every other process from then on; a reload replaces it. So its
//! answer is what the next delivery works with, whatever the files hold by now. 2.3 answers with lines, 2.4 with an open file
//! in a form of its own.

use std::fs::File;
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::close;

use super::doveconf;

/// Dovecot's `base_dir` where nothing else is set.
const BASE: &str = "/run/dovecot";

/// The socket, in Dovecot's `base_dir`.
const SOCKET: &str = "config";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer that is read, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What the running Dovecot says of its settings.
#[derive(Clone, Debug)]
pub struct Answer {
    /// In 2.3 lines of `NAME=VALUE`, where a line end in a value is octet 3; in 2.4 a form of its own.
    pub bytes: Vec<u8>,
    /// When Dovecot read them; known of 2.4.
    pub read: Option<SystemTime>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Silence {
    /// No Dovecot listens.
    NotRunning,
    /// It, or the system, says this.
    Other(String),
}

/// The `base_dir` of the Dovecot with this configuration file, or with its default one.
#[must_use]
pub fn base(config: Option<&Path>) -> PathBuf {
    let said = doveconf::output(doveconf::command("doveconf", config).args(["-h", "base_dir"]));
    let said = said.ok().map(|said| said.trim().to_owned()).filter(|folder| folder.starts_with('/'));
    said.unwrap_or_else(|| BASE.into()).into()
}

/// Where a Dovecot is asked.
#[derive(Clone, Debug)]
pub struct ConfigSocket(PathBuf);

impl ConfigSocket {
    /// That of the Dovecot with this configuration file, or with its default one.
    #[must_use]
    pub fn of(config: Option<&Path>) -> Self {
        Self(base(config).join(SOCKET))
    }

    /// What Dovecot 2.3 has for a service.
    ///
    /// # Errors
    /// [`Silence`].
    pub fn ask_2_3(&self, service: &str) -> Result<Answer, Silence> {
        let mut stream = self.connect(&format!("VERSION\tconfig\t2\t0\nREQ\tservice={service}\n"))?;
        let bytes = read_lines(&mut stream).map_err(|error| self.failed(&error))?;
        match bytes.trim_ascii_start().strip_prefix(b"ERROR ") {
            Some(why) => {
                let why = String::from_utf8_lossy(why);
                Err(Silence::Other(why.lines().next().unwrap_or_default().to_owned()))
            }
            None => Ok(Answer { bytes, read: None }),
        }
    }

    /// What Dovecot 2.4 has for all of its services.
    ///
    /// # Errors
    /// [`Silence`].
    pub fn ask_2_4(&self) -> Result<Answer, Silence> {
        let stream = self.connect("VERSION\tconfig\t3\t0\nREQ\n")?;
        let file = handed(&stream).map_err(|error| self.failed(&error))?;
        let read = file.metadata().and_then(|metadata| metadata.modified());
        let read = read.map_err(|error| self.failed(&error))?;
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(|error| self.failed(&error))?;
        Ok(Answer { bytes, read: Some(read) })
    }

    fn connect(&self, greeting: &str) -> Result<UnixStream, Silence> {
        let stream = UnixStream::connect(&self.0).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(greeting.as_bytes())?;
            Ok(stream)
        });
        stream.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Silence {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Silence::NotRunning,
            io::ErrorKind::PermissionDenied => Silence::Other("only root may ask the running Dovecot".into()),
            _ => Silence::Other(format!("{}: {error}", self.0.display())),
        }
    }
}

/// Up to an empty line; one may begin the answer.
fn read_lines(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut piece = [0; 64 * 1024];
    while !(answer.len() > 2 && answer.ends_with(b"\n\n")) {
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() as u64 > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
    Ok(answer)
}

/// The open file that comes with the answer, at its beginning.
fn handed(stream: &UnixStream) -> io::Result<File> {
    let mut said = [0; 1024];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut pieces = [IoSliceMut::new(&mut said)];
    let message =
        recvmsg::<()>(stream.as_raw_fd(), &mut pieces, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut numbers = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(more) = part {
            numbers.extend(more);
        }
    }
    let length = message.bytes;
    // Another opening of the same file, whose place in it is at its beginning.
    let file = numbers.first().map(|number| File::open(format!("/dev/fd/{number}")));
    for number in numbers {
        let _ = close(number);
    }
    file.unwrap_or_else(|| {
        let said = String::from_utf8_lossy(&said[..length]).trim().to_owned();
        Err(io::Error::other(format!("it hands out no settings: {said}")))
    })
}
