//! Edge: Takes log lines to syslog, standard error or a file, and never fails or delays a delivery for that.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;

use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use super::Target;
use crate::cli;

/// Where the sockets of a local syslog are: Linux and the BSDs, macOS.
const SOCKETS: [&str; 2] = ["/dev/log", "/var/run/log"];

/// An open place for log lines.
pub enum Sink {
    /// A connected, non-blocking socket.
    Syslog(Box<Logger<LoggerBackend, Formatter3164>>),
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
        SOCKETS.iter().find(|path| socket.connect(path).is_ok())?;
        let formatter = Formatter3164 {
            facility: Facility::LOG_MAIL,
            hostname: None,
            process: program.into(),
            pid: std::process::id(),
        };
        Some(Self::Syslog(Box::new(Logger::new(LoggerBackend::Unix(socket), formatter))))
    }

    /// Writes `line`, or drops it where that would fail or block.
    pub fn write(&mut self, line: &impl Display) {
        // A line that cannot be written is dropped: nothing may keep a delivery from its end.
        match self {
            Self::Syslog(logger) => drop(logger.info(line)),
            Self::Stderr(program) => cli::say(&format!("{program}: {line}\n")),
            Self::File(file) => drop(file.write_all(format!("{line}\n").as_bytes())),
            Self::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogLine;

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
