//! Edge: `mailseal decrypt` of Maildirs: in place, or into another one.
//!
//! In place, a message is replaced as [`mailseal_maildir`] describes. Into another one, each message is written to `tmp/`
//! there, flushed, and renamed to the place and name it has in the first, with its flags and time; what was not sealed
//! by mailseal is copied. One that is there already stays: an interrupted run goes on where it was.
//!
//! Either way what was decrypted gets a name only when it was proven, and the line endings that its store has.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::copy;
use mailseal_core::unseal::{self, Foreign, Unsealed};
use mailseal_maildir::commit::Uids;
use mailseal_maildir::dir::{Dir, Kind};
use mailseal_maildir::draft::{Change, Draft, Original, bare_line_feeds};
use mailseal_maildir::durable;
use mailseal_maildir::error::Error as MaildirError;
use mailseal_maildir::folder::{Folder, Message, Place};
use mailseal_maildir::name::Sizes;
use nix::sys::stat::{FileStat, futimens};
use nix::sys::time::TimeSpec;
use rayon::prelude::*;

use super::Stored;
use crate::cli;
use crate::console::table::Table;
use crate::error::Error;
use crate::exit::Exit;
use crate::mailbox::decrypt::Opener;
use crate::mailbox::sweep::{Counts, Event, Sweep, Tell, Verdict, folder_done};
use crate::system::owner::child::Pulse;

/// Bytes that are written at once.
const WRITE_SIZE: usize = 128 * 1024;

/// Most problems that are shown.
const MOST_PROBLEMS: u64 = 10_000;

/// What a folder holds beside its messages that they need: the names of keyword flags, and what makes it a folder.
const COMPANIONS: [&str; 3] = ["dovecot-keywords", "maildirfolder", "subscriptions"];

/// Decrypts Maildirs in place.
///
/// # Errors
/// Those of the folders; single messages that fail are told.
pub fn in_place(sweep: &Sweep, uids: Uids, opener: Opener<'_>, tell: &Tell<'_>) -> Result<(), Error> {
    let alive = || tell(Event::Alive);
    let decrypt = |original: &Original, draft: &mut Draft<'_>| {
        let verdict = decrypt_file(original.file(), opener, &alive, |plain| {
            plain.demand_whole()?;
            draft.restart();
            Ok(plain.write_to(&mut Pulse::new(&mut *draft, &alive))?)
        })?;
        draft.flush().map_err(CoreError::Write)?;
        Ok(match verdict {
            Verdict::Done { .. } => Change::Replace(verdict),
            kept => Change::Keep(kept),
        })
    };
    sweep.rewrite(uids, &decrypt, tell)
}

/// Decrypts Maildirs into another one, which is `root`, and called `target`.
///
/// # Errors
/// As [`in_place`], and those of the new Maildir.
pub fn into(
    sweep: &Sweep,
    root: &Dir,
    target: &Path,
    opener: Opener<'_>,
    tell: &Tell<'_>,
) -> Result<(), Error> {
    let failed_there = |source| Error::from(MaildirError::Mail { path: target.into(), source });
    sweep.each_folder(tell, |_, folder| {
        let copy = Copy::open(root, target, folder).map_err(failed_there)?;
        let listing = folder.list()?;
        let mut counts = Counts::default();
        listing.odd.iter().for_each(|odd| counts.leave_alone(odd, tell));
        let counts = Mutex::new(counts);
        listing.messages.par_iter().for_each(|message| {
            let result = copy.message(folder, message, opener, &|| tell(Event::Alive));
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(Some(verdict)) => counts.count(verdict),
                // It went away meanwhile, or is there already.
                Ok(None) => {}
                Err(error) => counts.fail(&folder.path_of(message), error, tell),
            }
            tell(Event::Alive);
        });
        copy.finish().map_err(failed_there)?;
        tell(folder_done(folder, counts));
        Ok(())
    })
}

/// Has `write` write the original of the message in `file`, from its beginning whenever it is called; it is not called for a
/// foreign message.
fn decrypt_file(
    file: &File,
    opener: Opener<'_>,
    alive: &(dyn Fn() + Sync),
    mut write: impl FnMut(&mut unseal::Original<'_>) -> Result<(), Error>,
) -> Result<Verdict, Error> {
    let Some((opening, stored)) = Stored::open(file)? else { return Ok(Verdict::Clear) };
    opener.open(&opening, &stored, alive, |unsealed| match unsealed {
        Unsealed::Original(mut original) => {
            write(&mut original)?;
            Ok(Verdict::Done { exact: original.exact })
        }
        Unsealed::Foreign(Foreign::Clear) => Ok(Verdict::Clear),
        Unsealed::Foreign(Foreign::Encrypted) => Ok(Verdict::Encrypted),
    })
}

/// What became of the messages, by folder.
pub struct Summary {
    verb: &'static str,
    table: Table,
    all: Counts,
    problems: u64,
}

impl Summary {
    /// Messages that were rewritten are said to be `verb`.
    #[must_use]
    pub fn new(verb: &'static str) -> Self {
        let table = Table::new(&["folder", "messages", verb, "clear", "by sender", "failed"]);
        Self { verb, table, all: Counts::default(), problems: 0 }
    }

    /// Takes what happens on the way: shows it, or adds it up.
    pub fn note(&mut self, event: Event) {
        match event {
            Event::Alive => {}
            Event::Waiting { folder } => {
                cli::note(cli::ADMIN, &format!("waiting for another run in {folder}"));
            }
            Event::Problem { what, hint } => {
                self.problems += 1;
                if self.problems <= MOST_PROBLEMS {
                    cli::say(&cli::complaint(cli::ADMIN, None, &what, &hint));
                }
            }
            Event::Folder { folder, counts } => {
                let Counts { messages, done, clear, encrypted, failed, .. } = counts;
                let numbers = [messages, done, clear, encrypted, failed].map(|count| count.to_string());
                self.table.push([folder].into_iter().chain(numbers).collect());
                self.all.add(counts);
            }
        }
    }

    /// Shows it. The exit status says whether a message failed.
    ///
    /// # Errors
    /// [`CoreError::Write`], and `result`'s.
    pub fn finish(self, out: &mut impl Write, result: Result<(), Error>) -> Result<Exit, Error> {
        self.table.write(out).map_err(CoreError::Write)?;
        if self.problems > MOST_PROBLEMS {
            cli::note(cli::ADMIN, &format!("{} more problems are not shown", self.problems - MOST_PROBLEMS));
        }
        if self.all.inexact > 0 {
            writeln!(
                out,
                "Of {} {}, the header could not be restored exactly: what stood outside stays.",
                self.all.inexact, self.verb
            )
            .map_err(CoreError::Write)?;
        }
        result?;
        Ok(if self.all.failed == 0 { Exit::Ok } else { Exit::Negative })
    }
}

/// A folder in the new Maildir.
struct Copy {
    path: PathBuf,
    cur: Dir,
    new: Dir,
    tmp: Dir,
}

impl Copy {
    /// Makes the folder, with what its messages need.
    fn open(root: &Dir, target: &Path, folder: &Folder) -> io::Result<Self> {
        let mut dir = root.open_dir(Path::new(""))?;
        for component in folder.relative().components() {
            if let Component::Normal(name) = component {
                dir = make(&dir, name)?;
            }
        }
        for name in COMPANIONS {
            if let Some(bytes) = folder.companion(OsStr::new(name))
                && !dir.has(name, Kind::File)
            {
                let mut file = dir.create(OsStr::new(name), 0o600)?;
                file.write_all(&bytes)?;
                durable::flush(&file)?;
            }
        }
        let inside = |name: &str| make(&dir, OsStr::new(name));
        let copy = Self {
            path: target.join(folder.relative()),
            cur: inside("cur")?,
            new: inside("new")?,
            tmp: inside("tmp")?,
        };
        dir.sync()?;
        Ok(copy)
    }

    fn dir(&self, place: Place) -> &Dir {
        match place {
            Place::Cur => &self.cur,
            Place::New => &self.new,
        }
    }

    /// Writes one message; `None` where it is gone or there already.
    fn message(
        &self,
        folder: &Folder,
        message: &Message,
        opener: Opener<'_>,
        alive: &(dyn Fn() + Sync),
    ) -> Result<Option<Verdict>, Error> {
        let (file, stat) = match folder.dir(message.place).open_file(message.name.as_os_str()) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CoreError::Read(error).into()),
        };
        let begin = || self.begin().map_err(|error| self.failed(error));
        let mut original = None;
        let verdict = decrypt_file(&file, opener, alive, |plain| {
            let (_, out) = original.insert(begin()?);
            Ok(plain.write_to(&mut Pulse::new(out, alive))?)
        })?;
        let done = original.is_some();
        let (temporary, out) = match original {
            Some(original) => original,
            None => {
                let (temporary, mut out) = begin()?;
                (&file).rewind().map_err(CoreError::Read)?;
                copy(&mut &file, &mut out, CoreError::Read)?;
                (temporary, out)
            }
        };
        let sizes = out.finish().map_err(|error| self.failed(error))?;
        // What is copied keeps its name: the sizes in that of a packed message are not the file's.
        let name =
            if done { message.name.renewed(message.name.unique(), sizes) } else { message.name.clone() };
        match temporary.place(&stat, self.dir(message.place), name.as_os_str()) {
            Ok(()) => Ok(Some(verdict)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// A new message in `tmp/`.
    fn begin(&self) -> io::Result<(Temporary<'_>, Measured)> {
        let temporary = Temporary::create(&self.tmp)?;
        let out = Measured::new(temporary.file.try_clone()?);
        Ok((temporary, out))
    }

    /// Brings the folder to the disk.
    fn finish(&self) -> io::Result<()> {
        self.cur.sync()?;
        self.new.sync()
    }

    fn failed(&self, source: io::Error) -> Error {
        MaildirError::Mail { path: self.path.clone(), source }.into()
    }
}

/// A folder, made where it does not exist.
fn make(dir: &Dir, name: &OsStr) -> io::Result<Dir> {
    match dir.create_dir(name, 0o700) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    dir.open_dir(Path::new(name))
}

/// A file in `tmp/` that goes away again unless it gets a place.
struct Temporary<'a> {
    tmp: &'a Dir,
    name: OsString,
    file: File,
}

impl<'a> Temporary<'a> {
    fn create(tmp: &'a Dir) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let time = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
        let name: OsString = format!("mailseal.{time}.P{}Q{count}", std::process::id()).into();
        let file = tmp.create(&name, 0o600)?;
        Ok(Self { tmp, name, file })
    }

    /// Gives it the time of the first message, brings it to the disk, and gives it its name.
    fn place(self, like: &FileStat, dir: &Dir, name: &OsStr) -> io::Result<()> {
        let modified = TimeSpec::new(like.st_mtime, like.st_mtime_nsec);
        futimens(&self.file, &modified, &modified)?;
        durable::flush(&self.file)?;
        self.tmp.rename(&self.name, dir, name)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // After it was placed there is nothing of this name.
        let _ = self.tmp.unlink(&self.name);
    }
}

/// Measures what is written, as the name of a message tells it.
struct Measured {
    out: BufWriter<File>,
    bytes: u64,
    bare: u64,
    last: u8,
}

impl Measured {
    fn new(file: File) -> Self {
        Self { out: BufWriter::with_capacity(WRITE_SIZE, file), bytes: 0, bare: 0, last: 0 }
    }

    fn finish(mut self) -> io::Result<Sizes> {
        self.out.flush()?;
        Ok(Sizes { physical: self.bytes, virtual_: self.bytes + self.bare })
    }
}

impl Write for Measured {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.out.write(data)?;
        self.bare += bare_line_feeds(&data[..count], self.last);
        self.bytes += count as u64;
        self.last = data[..count].last().copied().unwrap_or(self.last);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
