//! Edge: Logs as they lie there: plain or compressed with gzip, a line at a time, the oldest log first.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use flate2::bufread::MultiGzDecoder;
use jiff::{Timestamp, ZonedDateTime};

use crate::cli;
use crate::error::Error;
use crate::log::entry::{Entry, PROGRAMS};
use crate::system::owner::process::Watch;
use crate::system::program;

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

/// Longest line that is read; the rest of a longer one is left out. A journal entry is a line of some KiB.
pub const LINE: usize = 64 * 1024;

/// What a gzip file begins with (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Where syslog writes mail logs: Debian, Red Hat and OpenBSD, SUSE.
const MAIL_LOGS: [&str; 3] = ["/var/log/mail.log", "/var/log/maillog", "/var/log/mail"];

/// What the journal is called.
const JOURNAL: &str = "the journal";

/// How many lines are looked at to find out how old a log is.
const LOOK: usize = 10_000;

/// An open log.
pub struct Log {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    /// The file, where it is named and not compressed.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    plain: Option<File>,
    line: Vec<u8>,
    /// Lines that were read to find out its age, not given out yet; a line ending after each.
    looked: io::Cursor<Vec<u8>>,
}

/// Opens the logs, the oldest first: who waits is only known from lines in their order. `-` is standard input, and so is none
/// where a pipe or a file is given there; otherwise none is what [`there`] finds.
///
/// # Errors
/// [`Error::Log`] when one cannot be opened or read; those of [`there`].
pub fn open(paths: &[PathBuf], now: &ZonedDateTime) -> Result<Vec<Log>, Error> {
    let stdin = [PathBuf::from("-")];
    if paths.is_empty() && !is_fed() {
        return there().map(|log| vec![log]);
    }
    let paths = if paths.is_empty() { &stdin } else { paths };
    let mut logs = paths.iter().map(|path| Log::open(path)).collect::<Result<Vec<_>, _>>()?;
    if logs.len() > 1 {
        let mut aged = Vec::new();
        for mut log in logs {
            aged.push((log.age(now)?, log));
        }
        aged.sort_by_key(|(age, _)| *age);
        logs = aged.into_iter().map(|(_, log)| log).collect();
    }
    Ok(logs)
}

/// Whether somebody hands over a log on standard input.
fn is_fed() -> bool {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let kind = stdin.and_then(|stdin| stdin.metadata()).map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_file() || kind.is_socket())
}

/// The log of this machine: the journal, or else the mail log. Which, is said on standard error.
///
/// # Errors
/// [`Error::Usage`] where there is none; [`Error::Log`].
pub fn there() -> Result<Log, Error> {
    let mut journalctl = Command::new("journalctl");
    let has_lines = program::run(journalctl.args(["-q", "-n", "1", "-o", "cat"]), &Watch::alone());
    if has_lines.is_ok_and(|output| output.status.success() && !output.stdout.is_empty()) {
        cli::note(cli::ADMIN, "reading the journal");
        return Log::journal();
    }
    let found = MAIL_LOGS.map(Path::new).into_iter().find(|path| path.is_file());
    let Some(path) = found else {
        return Err(Error::Usage {
            what: "no log is named, and there is no journal and no mail log here".into(),
            hint: "name one, or pipe one: journalctl -o short-iso | mailseal report".into(),
        });
    };
    cli::note(cli::ADMIN, &format!("reading {}", path.display()));
    Log::open(path)
}

/// What `journalctl` prints, to its end.
struct Journal {
    child: Child,
    out: ChildStdout,
}

impl Read for Journal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.out.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("journalctl failed ({status})")));
            }
        }
        Ok(count)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // One that has ended is not there any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    /// The journal, as far as our programs have written it.
    ///
    /// # Errors
    /// [`Error::Log`] where `journalctl` cannot be run.
    pub fn journal() -> Result<Self, Error> {
        let failed = |source| Error::Log { path: JOURNAL.into(), source };
        let mut journalctl = Command::new("journalctl");
        journalctl.args(["-q", "--no-pager", "-o", "json"]);
        PROGRAMS.iter().for_each(|program| _ = journalctl.args(["-t", program]));
        let mut child = journalctl.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let out = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let reader = Box::new(BufReader::with_capacity(PIECE, Journal { child, out }));
        Ok(Self {
            path: JOURNAL.into(),
            reader,
            plain: None,
            line: Vec::new(),
            looked: io::Cursor::default(),
        })
    }

    fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Log { path: path.into(), source };
        let file = if path.as_os_str() == "-" {
            io::stdin().as_fd().try_clone_to_owned().map(File::from)
        } else {
            File::open(path)
        };
        let file = file.map_err(failed)?;
        let plain = file.try_clone().map_err(failed)?;
        let mut reader = BufReader::with_capacity(PIECE, file);
        let compressed = reader.fill_buf().map_err(failed)?.starts_with(&GZIP);
        let (reader, plain): (Box<dyn BufRead>, _) = if compressed {
            (Box::new(BufReader::with_capacity(PIECE, MultiGzDecoder::new(reader))), None)
        } else {
            (Box::new(reader), (path.as_os_str() != "-").then_some(plain))
        };
        Ok(Self { path: path.into(), reader, plain, line: Vec::new(), looked: io::Cursor::default() })
    }

    /// Lets `read` read what it can of a plain file, from its beginning; [`next_line`](Self::next_line) goes on at the
    /// offset that it gives.
    ///
    /// # Errors
    /// [`Error::Log`].
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    pub fn read_first(&mut self, read: impl FnOnce(&File) -> u64) -> Result<(), Error> {
        let Some(mut file) = self.plain.take() else { return Ok(()) };
        let done = read(&file);
        if done > 0 {
            let sought = file.seek(SeekFrom::Start(done));
            sought.map_err(|source| Error::Log { path: self.path.clone(), source })?;
            self.reader = Box::new(BufReader::with_capacity(PIECE, file));
            self.looked = io::Cursor::default();
        }
        Ok(())
    }

    /// The next line, without its ending.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, Error> {
        let looked = self.looked.position() < self.looked.get_ref().len() as u64;
        let found = if looked {
            read_line(&mut self.looked, &mut self.line)
        } else {
            read_line(&mut *self.reader, &mut self.line)
        };
        match found {
            Ok(true) => Ok(Some(&self.line)),
            Ok(false) => Ok(None),
            Err(source) => Err(Error::Log { path: self.path.clone(), source }),
        }
    }

    /// When the first of our lines was written; a log without one is the oldest.
    fn age(&mut self, now: &ZonedDateTime) -> Result<Option<Timestamp>, Error> {
        let mut looked = Vec::new();
        let mut age = None;
        for _ in 0..LOOK {
            let Some(line) = self.next_line()? else { break };
            looked.extend_from_slice(line);
            looked.push(b'\n');
            if let Some(time) = Entry::parse(line, now).and_then(|entry| entry.time) {
                age = Some(time.instant);
                break;
            }
        }
        self.looked = io::Cursor::new(looked);
        Ok(age)
    }
}

/// Reads a line into `line`, without its ending; false at the end.
fn read_line(mut reader: impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    reader.by_ref().take(LINE as u64).read_until(b'\n', line)?;
    if line.is_empty() {
        return Ok(false);
    }
    if line.last() != Some(&b'\n') {
        reader.skip_until(b'\n')?;
    } else {
        line.pop();
    }
    Ok(true)
}
