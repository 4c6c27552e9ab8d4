//! Edge: `mailseal decrypt` of a file: whoever's it is. Root opens what root alone can have put there. What is another's, or
//! lies in another's folder, root has opened in a process with the owner's rights, and hands on what comes out of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mailseal_core::error::Error as CoreError;
use mailseal_core::unseal::Expansion;
use mailseal_maildir::dir::{Dir, Kind, kind_of};
use mailseal_maildir::error::Error as MaildirError;
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;
use nix::unistd::{Gid, Uid, geteuid};
use serde::{Deserialize, Serialize};

use crate::cli;
use crate::error::Error;
use crate::keys::secret::files::KeyFiles;
use crate::mailbox::decrypt::{Opener, Outcome, decrypt};
use crate::system::owner::child::{Order, Reports};
use crate::system::owner::identity::{Identity, owner_at};
use crate::system::owner::process::{Process, Report, Start, Watch, feed};
use crate::system::process;

/// The kind of the task.
pub const KIND: &str = "open-file";

/// How long one message may take: it is read twice, and nothing is said meanwhile.
const PATIENCE: Duration = Duration::from_secs(3600);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    path: OsString,
    keys: Vec<Vec<u8>>,
    expansion: Expansion,
}

impl Report for Outcome {}

/// How many links of root's lead to a file at most.
const LINKS: usize = 40;

/// How a file is opened.
enum Place {
    /// It is open.
    Open(File),
    /// At this path, by a process with these rights.
    Owned(PathBuf, Identity),
}

/// Decrypts the message at `path` to `out`. As root, it must be a regular file.
///
/// # Errors
/// Those of [`decrypt`] and of the owner's process; [`MaildirError::Mail`] where it cannot be opened.
pub fn run(path: &Path, opener: Opener<'_>, out: &mut (impl Write + Send)) -> Result<Outcome, Error> {
    let named = |source| Error::from(MaildirError::Mail { path: path.into(), source });
    if !geteuid().is_root() {
        return decrypt(File::open(path).map_err(named)?, out, opener);
    }
    match find(path)? {
        Place::Open(file) => decrypt(file, out, opener),
        Place::Owned(path, identity) => as_owner(
            &identity,
            &Task { path: path.into(), keys: opener.keys.export()?, expansion: opener.expansion },
            out,
        ),
    }
}

/// Opens the file, once, where it and the folders above are root's. Links are followed where they are root's as well, in
/// folders where nobody else can put another one in their place.
fn find(path: &Path) -> Result<Place, Error> {
    let named = |source| Error::from(MaildirError::Mail { path: path.into(), source });
    let mut path = std::path::absolute(path).map_err(named)?;
    for _ in 0..LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(named(io::ErrorKind::IsADirectory.into()));
        };
        if let Some((user, group)) = owner_at(parent).map_err(named)? {
            return Ok(Place::Owned(path.clone(), Identity::of(user, group)?));
        }
        let dir = Dir::open(parent).map_err(named)?;
        let folder = dir.stat_self().map_err(named)?;
        let entry = dir.stat(name).map_err(named)?;
        let owner = match other(&folder)? {
            None => other(&entry)?,
            owner => owner,
        };
        if let Some(identity) = owner {
            return Ok(Place::Owned(path, identity));
        }
        if kind_of(&entry) == Kind::Link && (folder.st_mode & 0o022 == 0 || folder.st_mode & 0o1000 != 0) {
            path = parent.join(readlinkat(&dir, name).map_err(|error| named(error.into()))?);
            continue;
        }
        let (file, stat) = dir.open_file(name).map_err(named)?;
        // Another may have taken its place since.
        return Ok(other(&stat)?.map_or(Place::Open(file), |identity| Place::Owned(path.clone(), identity)));
    }
    Err(named(Errno::ELOOP.into()))
}

/// Whose it is, if not root's.
fn other(stat: &FileStat) -> Result<Option<Identity>, Error> {
    let owner = Uid::from_raw(stat.st_uid);
    if owner.is_root() { Ok(None) } else { Identity::of(owner, Gid::from_raw(stat.st_gid)).map(Some) }
}

fn as_owner(identity: &Identity, task: &Task, out: &mut (impl Write + Send)) -> Result<Outcome, Error> {
    let failed = |error: io::Error| Error::Privileges {
        what: format!("the process for user {}: {error}", identity.uid()),
    };
    let start = Start { program: cli::ADMIN, kind: KIND, identity };
    let (input, order) = io::pipe().map_err(failed)?;
    let (mut message, output) = io::pipe().map_err(failed)?;
    let mut child = Process::start(&start, input.into(), output.into(), Stdio::piped()).map_err(failed)?;
    let reports = child.stderr().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    let stop = AtomicBool::new(false);
    let watch = Watch { patience: PATIENCE, stop: &stop, slot: None };
    let order = File::from(OwnedFd::from(order));
    feed(&order, identity, task, &watch).map_err(failed)?;
    let mut outcome = None;
    let (listened, copied) = std::thread::scope(|scope| {
        let copier = scope.spawn(|| io::copy(&mut message, out));
        let listened = child.listen(reports, Some(order), &watch, &mut |said| {
            outcome = Some(said);
            Ok(())
        });
        (listened, copier.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())))
    });
    listened?;
    copied.map_err(CoreError::Write)?;
    outcome.ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))
}

/// What an owner's process does.
///
/// # Errors
/// Those of the task, which have been reported.
pub fn main() -> Result<(), Error> {
    let mut order = Order::begin()?;
    let task: Task = order.line()?;
    let stop = Arc::new(AtomicBool::new(false));
    let reports = Reports::to(process::stderr()?, &stop);
    let done = (|| {
        let keys = KeyFiles::import(&task.keys)?;
        let path = Path::new(&task.path);
        let named = |source| Error::from(MaildirError::Mail { path: path.into(), source });
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(named(io::ErrorKind::InvalidInput.into()));
        };
        let (file, _) = Dir::open_strictly(parent).and_then(|dir| dir.open_file(name)).map_err(named)?;
        decrypt(file, &mut process::stdout()?, Opener { keys: &keys, expansion: task.expansion })
    })();
    done.map(|outcome| reports.say(outcome)).inspect_err(|error| reports.fail(error))
}
