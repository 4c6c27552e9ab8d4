//! Edge: Logs that nobody writes any more, mapped into memory and read by all processors at once.
//!
//! Bytes that change while they are mapped are undefined behaviour, and a file that is cut short ends the process
//! (`SIGBUS`). So a log is mapped only under a read lease (fcntl(2), `F_SETLEASE`): the kernel grants one when nobody has
//! the file open for writing, and makes everybody wait who opens or truncates it before the lease is given back. A log
//! that was written lately is not mapped all the same: its next writer should not have to wait, and those who open it
//! without blocking, as our own programs do, would lose a line.
//!
//! What is not read here is for the reader that streams: all of a log that is live, small, on a system or a file system
//! without leases, or of another owner; and the rest of one that somebody wants to write, or that has no line ending in
//! a window.

#![expect(unsafe_code, reason = "memory maps and leases: nothing safe gives either")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use jiff::ZonedDateTime;
use memmap2::{Mmap, MmapOptions};
use nix::libc;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::source::LINE;
use super::summary::Summary;
use crate::log::entry::Entry;

/// How a log is cut up, in bytes.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// What is mapped at once. This, and the entries in it, is the memory that a log takes.
    window: usize,
    /// What one thread reads at once; up to the next line ending.
    piece: usize,
}

const CUT: Cut = Cut { window: 4 * 1024 * 1024, piece: 256 * 1024 };

/// Smallest log that is mapped, in bytes: a smaller one is read before the threads have started.
const SMALLEST: u64 = 1024 * 1024;

/// How long nobody has written to a log that is mapped.
const QUIET: Duration = Duration::from_secs(60 * 60);

/// Adds the lines of a log to `summary`, in their order, and gives the offset of the first that is left for the reader
/// that streams: 0 where the log is not to be mapped, its length where there is none.
pub fn read(file: &File, now: &ZonedDateTime, summary: &mut Summary) -> u64 {
    if !is_finished(file).unwrap_or(false) {
        return 0;
    }
    ThreadPoolBuilder::new().build().map_or(0, |pool| read_cut(file, CUT, &pool, now, summary))
}

fn is_finished(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    let quiet = metadata.modified()?.elapsed().is_ok_and(|age| age > QUIET);
    Ok(metadata.is_file() && metadata.len() >= SMALLEST && quiet)
}

fn read_cut(file: &File, cut: Cut, pool: &ThreadPool, now: &ZonedDateTime, summary: &mut Summary) -> u64 {
    let Ok(lease) = Lease::take(file) else { return 0 };
    let mut read = 0;
    while let Some(window) = lease.map(read, cut.window) {
        let end = match memchr::memrchr(b'\n', &window) {
            _ if window.len() < cut.window => window.len(),
            Some(last) => last + 1,
            None => break,
        };
        add(&window[..end], cut.piece, pool, now, summary);
        read += end as u64;
    }
    read
}

/// Adds the lines of a window: the threads read its pieces, and this one takes what they found in order.
fn add(window: &[u8], piece: usize, pool: &ThreadPool, now: &ZonedDateTime, summary: &mut Summary) {
    pool.in_place_scope_fifo(|scope| {
        let mut found = Vec::new();
        let mut rest = window;
        while !rest.is_empty() {
            let border = piece.min(rest.len()) - 1;
            let end = memchr::memchr(b'\n', &rest[border..]).map_or(rest.len(), |at| border + at + 1);
            let (piece, after) = rest.split_at(end);
            let (give, take) = mpsc::sync_channel(1);
            // There is room for one, and that is all that is sent.
            scope.spawn_fifo(move |_| drop(give.send(parse(piece, now))));
            found.push(take);
            rest = after;
        }
        for (lines, entries) in found.into_iter().flatten() {
            summary.count_lines(lines);
            entries.iter().for_each(|entry| summary.add(entry));
        }
    });
}

/// How many lines there are, and what ours say.
fn parse<'a>(piece: &'a [u8], now: &ZonedDateTime) -> (u64, Vec<Entry<'a>>) {
    let (mut lines, mut entries, mut rest) = (0, Vec::new(), piece);
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        lines += 1;
        entries.extend(Entry::parse(&rest[..end.min(LINE)], now));
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    (lines, entries)
}

/// A read lease on a file, until it is dropped.
struct Lease<'a> {
    file: &'a File,
    length: u64,
}

impl<'a> Lease<'a> {
    fn take(file: &'a File) -> io::Result<Self> {
        // The kernel sends this signal when somebody wants the file. It would end the process.
        signal_hook::flag::register(libc::SIGIO, Arc::default())?;
        control(file, libc::F_SETLEASE, libc::F_RDLCK)?;
        // From here on it is dropped, whatever fails.
        let mut lease = Self { file, length: 0 };
        lease.length = file.metadata()?.len();
        Ok(lease)
    }

    /// False from when somebody waits for the file to write to it.
    fn holds(&self) -> bool {
        control(self.file, libc::F_GETLEASE, 0).is_ok_and(|lease| lease == libc::F_RDLCK)
    }

    /// At most `most` bytes of the file from `offset` on; `None` at its end, and where they cannot be had.
    fn map(&self, offset: u64, most: usize) -> Option<Mmap> {
        let length = usize::try_from(self.length - offset).unwrap_or(most).min(most);
        if length == 0 || !self.holds() {
            return None;
        }
        // SAFETY: nobody has the file open for writing, and whoever opens or truncates it waits for the lease, but no
        // longer than the kernel's lease-break-time, 45 s unless root changes it. The lease held a moment ago. A window
        // is read in some hundredths of a second and unmapped before the next one, so its bytes stay what they are,
        // unless this process is stopped within one for all that time while somebody waits.
        unsafe { MmapOptions::new().offset(offset).len(length).map(self.file) }.ok()
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Closing the file gives it back as well.
        let _ = control(self.file, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

/// fcntl(2) with a number.
fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is open, and these commands take or ignore a number: they touch no memory of ours.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::{Path, PathBuf};
    use std::time::SystemTime;

    use serde_json::Value;

    use super::*;
    use crate::report::source;

    /// A file in a folder of its own that was written two hours ago.
    fn old(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.1");
        std::fs::write(&path, bytes).unwrap();
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .set_modified(SystemTime::now() - 2 * QUIET)
            .unwrap();
        (folder, path)
    }

    /// How much of the log was mapped, and its figures.
    fn figures(path: &Path, cut: Option<Cut>, pool: &ThreadPool) -> (u64, Value) {
        let (now, mut summary, mut mapped) = (ZonedDateTime::now(), Summary::default(), 0);
        let mut log = source::open(&[path.into()], &now).unwrap().remove(0);
        if let Some(cut) = cut {
            let read = |file: &File| {
                mapped = read_cut(file, cut, pool, &now, &mut summary);
                mapped
            };
            log.read_first(read).unwrap();
        }
        crate::report::stream(log, &now, &mut summary).unwrap();
        (mapped, serde_json::to_value(summary.figures()).unwrap())
    }

    fn line(number: usize, outcome: &str, padding: usize) -> String {
        format!(
            "2026-11-01T00:{:02}:{:02}Z mail mailseal-filter[7]: {}user=u{} outcome={outcome} reason=r{} in={} ms={}.7 \
             msgid=<{}>",
            number / 60,
            number % 60,
            " ".repeat(padding),
            number % 3,
            number % 5,
            number * 997,
            number,
            number % 4,
        )
    }

    fn lines(ending: &str) -> String {
        (0..4).fold(String::new(), |mut text, number| {
            let outcome = ["sealed", "deferred", "unchanged", "sealed"][number % 4];
            write!(text, "{}{ending}", line(number, outcome, 0)).unwrap();
            if number % 3 == 0 {
                write!(text, "another program{ending}{ending}").unwrap();
            }
            text
        })
    }

    #[test]
    fn figures_are_those_of_the_streamed_log_wherever_it_is_cut() {
        let cases = [
            lines("\n"),
            lines("\r\n"),
            lines("\n").trim_end().to_owned(),
            lines("\n") + "\n\n\n",
            "\n".to_owned(),
            "x".to_owned(),
            String::new(),
        ];
        let pool = ThreadPoolBuilder::new().build().unwrap();
        for text in &cases {
            let (_folder, path) = old(text.as_bytes());
            let (_, expected) = figures(&path, None, &pool);
            let length = text.len();
            for window in (1..=length + 1).step_by(if length > 100 { 7 } else { 1 }) {
                for piece in [1, 100, window] {
                    let (mapped, found) = figures(&path, Some(Cut { window, piece }), &pool);
                    assert!(found == expected, "{window}, {piece}: {text}");
                    assert!(mapped == length as u64 || window < 200, "{window}: {mapped}");
                }
            }
            for piece in 1..=length {
                let (mapped, found) = figures(&path, Some(Cut { piece, ..CUT }), &pool);
                assert!((mapped, &found) == (length as u64, &expected), "{piece}: {mapped}: {text}");
            }
        }
    }

    /// A line is cut where the other reader cuts it, and one that is longer than a window is left to it.
    #[test]
    fn long_lines_count_as_they_do_when_streamed() {
        let pool = ThreadPoolBuilder::new().build().unwrap();
        let first = line(3, "sealed", 0);
        for length in [LINE - 2, LINE - 1, LINE, LINE + 1, LINE + 4, 3 * LINE] {
            let long = line(1, "sealed", length - first.len());
            let cut = format!("{}{}", line(2, "deferred", 0), "x".repeat(length));
            let text = [&*first, &long, &cut, &first].join("\n");
            let (_folder, path) = old(text.as_bytes());
            let (_, expected) = figures(&path, None, &pool);
            for (cut, length) in [(CUT, text.len()), (Cut { window: LINE / 2, piece: 10 }, first.len() + 1)] {
                let (mapped, found) = figures(&path, Some(cut), &pool);
                assert!((mapped, &found) == (length as u64, &expected), "{length}: {mapped}");
            }
        }
    }

    #[test]
    fn only_a_finished_log_is_mapped() {
        let now = ZonedDateTime::now();
        let read = |path: &Path| read(&File::open(path).unwrap(), &now, &mut Summary::default());
        let size = usize::try_from(SMALLEST).unwrap();
        let (_folder, path) = old(&vec![b'\n'; size]);
        assert_eq!(read(&path), SMALLEST);
        assert_eq!(read(&path), SMALLEST, "the lease was given back");
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(read(&path), 0, "somebody has it open for writing");
        writer.set_modified(SystemTime::now() - QUIET / 2).unwrap();
        drop(writer);
        assert_eq!(read(&path), 0, "written half an hour ago");
        assert_eq!(read(&old(&vec![b'\n'; size - 1]).1), 0, "small");
        assert_eq!(read(Path::new("/dev/zero")), 0);
    }

    /// Who truncates it waits, until the reader has seen that and given it back.
    #[test]
    fn a_log_that_somebody_wants_to_write_is_given_back() {
        let (_folder, path) = old(b"one\ntwo\n");
        let file = File::open(&path).unwrap();
        let lease = Lease::take(&file).unwrap();
        assert_eq!(lease.map(4, 100).as_deref(), Some(&b"two\n"[..]));
        let at_once = OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(at_once.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(lease.map(4, 100).is_none());
        let truncated = std::thread::scope(|scope| {
            let writer = scope.spawn(|| nix::unistd::truncate(&path, 0));
            drop(lease);
            writer.join().unwrap()
        });
        assert_eq!((truncated, file.metadata().unwrap().len()), (Ok(()), 0));
    }
}
