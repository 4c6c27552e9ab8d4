//! Edge: Takes log lines to syslog, standard error or a file, and never fails or delays a delivery for that.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;

use super::Target;
use crate::cli;

/// Where the sockets of a local syslog are: Linux and the BSDs, macOS.
const SOCKETS: [&str; 2] = ["/dev/log", "/var/run/log"];

/// Facility mail, severity info (RFC 3164, section 4.1.1).
const PRIORITY: u8 = 2 * 8 + 6;

/// An open place for log lines.
pub enum Sink {
    /// A connected, non-blocking socket, each line with the program's name.
    Syslog(UnixDatagram, &'static str),
    /// Standard error, each line with the program's name.
    Stderr(&'static str),
    /// A file open for appending.
    File(File),
    /// Nowhere: none was wanted, or none can be reached.
    None,
}

impl Sink {
    /// Opens `target` for the program `program`. What cannot be opened takes no lines: mail matters more.
    ///
    /// The socket is connected at once, so that nothing has to be opened later, and it never blocks: when the reader
    /// of a local syslog is stuck, a datagram socket would block after some ten lines.
    #[must_use]
    pub fn open(target: &Target, program: &'static str) -> Self {
        match target {
            Target::Syslog => Self::syslog(program).unwrap_or(Self::None),
            Target::Stderr => Self::Stderr(program),
            Target::None => Self::None,
            Target::File(path) => OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
                .open(path)
                .map_or(Self::None, Self::File),
        }
    }

    fn syslog(program: &'static str) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        connect(&socket).then_some(Self::Syslog(socket, program))
    }

    /// Writes `line`, or drops it where that would fail or block.
    pub fn write(&mut self, line: &impl Display) {
        // A line that cannot be written is dropped: nothing may keep a delivery from its end.
        match self {
            // The daemon knows the time. This process, in its sandbox, does not know the zone that a stamp has to be in.
            Self::Syslog(socket, program) => {
                let line = format!("<{PRIORITY}>{program}[{}]: {line}", std::process::id());
                let sent = socket.send(line.as_bytes());
                // The daemon may have been restarted since.
                let gone = sent.is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
                if gone && connect(socket) {
                    drop(socket.send(line.as_bytes()));
                }
            }
            Self::Stderr(program) => cli::say(&format!("{program}: {line}\n")),
            Self::File(file) => drop(file.write_all(format!("{line}\n").as_bytes())),
            Self::None => {}
        }
    }
}

/// Connects to the syslog that is there.
fn connect(socket: &UnixDatagram) -> bool {
    SOCKETS.iter().any(|path| socket.connect(path).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogLine;

    #[test]
    fn syslog_gets_a_line_of_facility_mail_without_a_stamp() {
        let (ours, daemon) = UnixDatagram::pair().unwrap();
        Sink::Syslog(ours, "mailseal-filter").write(&"user=alice outcome=sealed");
        let mut line = [0; 1024];
        let length = daemon.recv(&mut line).unwrap();
        let expected = format!("<22>mailseal-filter[{}]: user=alice outcome=sealed", std::process::id());
        assert_eq!(std::str::from_utf8(&line[..length]), Ok(&*expected));
    }

    #[test]
    fn a_file_gets_whole_lines_and_a_missing_folder_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for _ in 0..2 {
            Sink::open(&Target::File(path.clone()), "test").write(&LogLine::default());
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.ends_with('\n'));
        Sink::open(&Target::File(dir.path().join("no/log")), "test").write(&LogLine::default());
    }
}
