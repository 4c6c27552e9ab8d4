//! Edge: A new message in `tmp/`, made from an old one, before it takes the old one's place.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, fchown};

use super::dir::{Stamp, links_of};
use super::folder::{Folder, Message};
use super::name::Sizes;
use crate::error::Error;

/// What the names of our files in `tmp/` begin with; the next run removes those that a killed one left.
pub(super) const PREFIX: &str = "mailseal.";

/// Bytes that are written at once.
const WRITE_SIZE: usize = 128 * 1024;

/// A message as it is.
#[derive(Debug)]
pub struct Original {
    file: File,
    stat: FileStat,
    message: Message,
}

/// The message that is to take its place: a writer that makes a file when it is first written to.
#[derive(Debug)]
pub struct Draft<'a> {
    folder: &'a Folder,
    out: Option<(Temporary<'a>, BufWriter<File>)>,
    sizes: Sizes,
    last: u8,
}

/// What a transformation did, with what its caller wants to know.
#[derive(Debug)]
pub enum Change<T> {
    /// The draft is the new message.
    Replace(T),
    /// The message stays as it is; what was written is thrown away.
    Keep(T),
}

/// What came of a draft.
#[derive(Debug)]
pub enum Drafted<'a, T> {
    /// A new message, to be committed.
    Ready(Box<Ready<'a>>, T),
    /// The message stays as it is.
    Kept(T),
    /// The message is not there any more.
    Gone,
}

/// A new message, whole but not flushed, and the old one.
#[derive(Debug)]
pub struct Ready<'a> {
    pub(super) original: Original,
    pub(super) sizes: Sizes,
    pub(super) temporary: Temporary<'a>,
    /// To be flushed to the disk, once: what the disk holds after a failure is unknown.
    pub(super) file: File,
}

/// A name in `tmp/` that is removed unless it gets a place.
#[derive(Debug)]
pub(super) struct Temporary<'a> {
    folder: &'a Folder,
    pub(super) name: OsString,
    pub(super) placed: bool,
}

impl Original {
    /// The file, at its beginning.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.stamp().size
    }

    /// Its name and place, as they were.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Its state when it was opened.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp::of(&self.stat)
    }

    /// How many names the file has now; none when it was expunged.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn links(&self) -> io::Result<u64> {
        Ok(links_of(&nix::sys::stat::fstat(&self.file)?))
    }
}

impl Ready<'_> {
    /// Bytes of the new message.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.sizes.physical
    }

    /// The old message.
    #[must_use]
    pub fn original(&self) -> &Original {
        &self.original
    }
}

impl Folder {
    /// Makes a new message from `message`: `transform` reads the old one and writes the draft.
    ///
    /// # Errors
    /// [`Error::Mail`] where the message cannot be read, is another's, or the new one cannot be written, and those of
    /// `transform`. The message is as it was.
    pub fn draft<'a, T, E: From<Error>>(
        &'a self,
        message: &Message,
        transform: impl FnOnce(&Original, &mut Draft<'a>) -> Result<Change<T>, E>,
    ) -> Result<Drafted<'a, T>, E> {
        let path = self.path_of(message);
        let Some(original) = self.open_original(message)? else { return Ok(Drafted::Gone) };
        if original.stat.st_uid != self.owner.0.as_raw() {
            let what =
                format!("it belongs to user {}, the Maildir to user {}", original.stat.st_uid, self.owner.0);
            return Err(self.failed_at(&path, io::Error::new(io::ErrorKind::PermissionDenied, what)).into());
        }
        let mut draft = Draft::new(self);
        let made = match transform(&original, &mut draft)? {
            Change::Keep(made) => return Ok(Drafted::Kept(made)),
            Change::Replace(made) => made,
        };
        let sizes = draft.sizes;
        let (temporary, file) = draft.finish(&original.stat).map_err(|error| self.failed_at(&path, error))?;
        Ok(Drafted::Ready(Box::new(Ready { original, sizes, temporary, file }), made))
    }

    /// Opens a message, under the name it has now; `None` where it is gone.
    fn open_original(&self, message: &Message) -> Result<Option<Original>, Error> {
        let failed = |error: io::Error| self.failed_at(&self.path_of(message), error);
        let mut message = message.clone();
        // A client that flags it without end is left alone.
        for _ in 0..8 {
            match self.dir(message.place).open_file(message.name.as_os_str()) {
                Ok((file, stat)) => return Ok(Some(Original { file, stat, message })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
            let listing = self.list()?;
            match listing.messages.into_iter().find(|other| other.name.base() == message.name.base()) {
                Some(renamed) => message = renamed,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

impl<'a> Draft<'a> {
    /// Ends the file and gives it the group, mode and times of the old one.
    fn finish(self, like: &FileStat) -> io::Result<(Temporary<'a>, File)> {
        let Some((temporary, out)) = self.out else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "nothing was written in its place"));
        };
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let mut in_group = true;
        if nix::sys::stat::fstat(&file)?.st_gid != like.st_gid {
            match fchown(&file, None, Some(Gid::from_raw(like.st_gid))) {
                Err(Errno::EPERM) => in_group = false,
                other => other?,
            }
        }
        fchmod(&file, rights(like.st_mode, in_group))?;
        let read = TimeSpec::new(like.st_atime, like.st_atime_nsec);
        let modified = TimeSpec::new(like.st_mtime, like.st_mtime_nsec);
        futimens(&file, &read, &modified)?;
        Ok((temporary, file))
    }

    /// Throws away what was written.
    pub fn restart(&mut self) {
        *self = Draft::new(self.folder);
    }

    fn new(folder: &'a Folder) -> Self {
        Self { folder, out: None, sizes: Sizes { physical: 0, virtual_: 0 }, last: 0 }
    }

    fn begin(&mut self) -> io::Result<&mut BufWriter<File>> {
        let out = match self.out.take() {
            Some(out) => out,
            None => Temporary::create(self.folder)?,
        };
        Ok(&mut self.out.insert(out).1)
    }
}

impl Write for Draft<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let count = self.begin()?.write(text)?;
        let written = &text[..count];
        self.sizes.physical += count as u64;
        self.sizes.virtual_ += count as u64 + bare_line_feeds(written, self.last);
        self.last = written.last().copied().unwrap_or(self.last);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), |(_, out)| out.flush())
    }
}

impl<'a> Temporary<'a> {
    fn create(folder: &'a Folder) -> io::Result<(Self, BufWriter<File>)> {
        let (name, file) = folder.tmp.create_unique(PREFIX, 0o600)?;
        Ok((Self { folder, name, placed: false }, BufWriter::with_capacity(WRITE_SIZE, file)))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.placed {
            // What stays is removed by the next run.
            let _ = self.folder.tmp.unlink(&self.name);
        }
    }
}

/// The rights of a file that takes the place of one with `mode`. Where its owner is not in that one's group, the rights that the
/// group had are not for another one.
fn rights(mode: u32, in_group: bool) -> Mode {
    Mode::from_bits_truncate(mode & if in_group { 0o777 } else { 0o707 })
}

/// How many LFs have no CR before them; `before` is the byte before `text`.
pub fn bare_line_feeds(text: &[u8], before: u8) -> u64 {
    let bare = |at: &usize| at.checked_sub(1).map_or(before, |at| text[at]) != b'\r';
    memchr::memchr_iter(b'\n', text).filter(bare).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rights_of_a_group_are_for_no_other() {
        for (mode, in_group, expected) in [
            (0o100664, true, 0o664),
            (0o100664, false, 0o604),
            (0o104777, true, 0o777),
            (0o100600, false, 0o600),
        ] {
            assert_eq!(rights(mode, in_group).bits(), expected, "{mode:o} {in_group}");
        }
    }

    #[test]
    fn bare_line_feeds_are_counted_over_pieces() {
        let text = b"\na\r\nb\n\r\r\n\n";
        for size in 1..text.len() {
            let (mut count, mut last) = (0, 0);
            for piece in text.chunks(size) {
                count += bare_line_feeds(piece, last);
                last = piece[piece.len() - 1];
            }
            assert_eq!(count, 3, "{size}");
        }
    }
}
