//! Edge: `mailseal decrypt` of a file: whoever's it is. Root has another's opened in a process with the owner's rights, and
//! hands on what comes out of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mailseal_core::error::Error as CoreError;
use mailseal_core::unseal::Expansion;
use mailseal_maildir::dir::Dir;
use mailseal_maildir::error::Error as MaildirError;
use nix::unistd::{Gid, Uid, geteuid};
use serde::{Deserialize, Serialize};

use crate::cli;
use crate::error::Error;
use crate::keys::secret::files::KeyFiles;
use crate::mailbox::decrypt::{Opener, Outcome, decrypt};
use crate::system::owner::child::{Order, Reports};
use crate::system::owner::identity::Identity;
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

/// Decrypts the message at `path` to `out`.
///
/// # Errors
/// Those of [`decrypt`] and of the owner's process; [`MaildirError::Mail`] where it cannot be opened.
pub fn run(path: &Path, opener: Opener<'_>, out: &mut (impl Write + Send)) -> Result<Outcome, Error> {
    let named = |source| Error::from(MaildirError::Mail { path: path.into(), source });
    match owner_of(path)? {
        None => decrypt(File::open(path).map_err(named)?, out, opener),
        Some(identity) => {
            let path = std::path::absolute(path).map_err(named)?;
            as_owner(
                &identity,
                &Task { path: path.into(), keys: opener.keys.export()?, expansion: opener.expansion },
                out,
            )
        }
    }
}

/// Whose rights opening a file takes; `None` are those of who runs this.
fn owner_of(path: &Path) -> Result<Option<Identity>, Error> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let stat = Dir::stat_entry(path).map_err(|source| MaildirError::Mail { path: path.into(), source })?;
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
