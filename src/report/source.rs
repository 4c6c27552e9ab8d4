//! Edge: Logs as they lie there: plain or compressed with gzip, a line at a time, the oldest log first.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use jiff::{Timestamp, ZonedDateTime};

use crate::error::Error;
use crate::log::entry::Entry;

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

/// Longest line that is read; the rest of a longer one is left out. A journal entry is a line of some KiB.
pub const LINE: usize = 64 * 1024;

/// What a gzip file begins with (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How many lines are looked at to find out how old a log is.
const LOOK: usize = 10_000;

/// An open log.
pub struct Log {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    /// The file, where it is named and not compressed.
    plain: Option<File>,
    line: Vec<u8>,
    /// Lines that were read to find out its age, not given out yet; a line ending after each.
    looked: io::Cursor<Vec<u8>>,
}

/// Opens the logs, the oldest first: who waits is only known from lines in their order. None, or `-`, is standard
/// input.
///
/// # Errors
/// [`Error::Log`] when one cannot be opened or read; [`Error::Usage`] when nobody has named one.
pub fn open(paths: &[PathBuf], now: &ZonedDateTime) -> Result<Vec<Log>, Error> {
    let stdin = [PathBuf::from("-")];
    if paths.is_empty() && io::stdin().is_terminal() {
        return Err(Error::Usage {
            what: "no log is named".into(),
            hint: "name one, /var/log/mail.log, or pipe one: journalctl -o short-iso | mailseal report"
                .into(),
        });
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

impl Log {
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
