//! Edge: What the checks ask of a user's home, with the user's rights: whether the script sends mail away, and whether secret
//! keys lie there.
//!
//! Nothing there is waited for, and no more of a file is read than a script can have.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::unistd::{Gid, Uid, geteuid};
use serde::{Deserialize, Serialize};

use super::access::Identity as Ids;
use super::scripts::without_comments;
use crate::cli;
use crate::error::Error;
use crate::system::owner::child::serve;
use crate::system::owner::cut;
use crate::system::owner::identity::Identity;
use crate::system::owner::process::{Report, Start, Watch, run as run_as_owner};
use crate::system::owner::slots::Slot;

/// The kind of the task.
pub const KIND: &str = "look";

/// Largest script that is read, in bytes (Pigeonhole's `sieve_max_script_size` is 1 MB).
const SCRIPT: u64 = 1024 * 1024;

/// Most entries of a folder that are looked at.
const ENTRIES: usize = 10_000;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where to look.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The user's script.
    pub script: OsString,
    /// The user's GnuPG home.
    pub gnupg: OsString,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The script sends mail on.
    pub redirects: bool,
    /// There are secret keys.
    pub secret_keys: bool,
    /// What could not be looked at, and why.
    pub unseen: Option<String>,
}

impl Report for Facts {}

impl Task {
    /// Looks, with the rights of `user`.
    ///
    /// # Errors
    /// Those of the owner's process.
    pub fn look(&self, user: Ids, slot: &Slot<'_>) -> Result<Facts, Error> {
        let uid = Uid::from_raw(user.uid);
        if !geteuid().is_root() || uid.is_root() {
            return Ok(self.see());
        }
        let identity = Identity::of(uid, Gid::from_raw(user.gid))?;
        let start = Start { program: cli::ADMIN, kind: KIND, identity: &identity };
        let stop = AtomicBool::new(false);
        let watch = Watch { patience: PATIENCE, stop: &stop, slot: Some(slot) };
        let mut facts = Facts { unseen: Some("nothing was reported".into()), ..Facts::default() };
        run_as_owner(&start, self, None, &watch, &mut |said| {
            facts = said;
            Ok(())
        })?;
        Ok(facts)
    }

    fn see(&self) -> Facts {
        let mut facts = Facts::default();
        match read(Path::new(&self.script)) {
            Ok(text) => facts.redirects = redirects(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                facts.unseen = Some(cut(format!("{}: {error}", self.script.display())));
            }
        }
        let gnupg = Path::new(&self.gnupg);
        let has_key = std::fs::read_dir(gnupg.join("private-keys-v1.d")).is_ok_and(|entries| {
            let mut names = entries.take(ENTRIES).flatten().map(|entry| entry.path());
            names.any(|path| path.extension().is_some_and(|name| name == "key"))
        });
        let old_ring = std::fs::metadata(gnupg.join("secring.gpg"));
        facts.secret_keys = has_key || old_ring.is_ok_and(|file| file.len() > 0);
        facts
    }
}

/// A regular file of no more than a script's size. The user's own link to the active script is followed.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let odd = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    // Opening a device can do something: not even that, unless it takes the file's place right now.
    if !std::fs::metadata(path)?.is_file() {
        return Err(odd());
    }
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(odd());
    }
    let mut bytes = Vec::new();
    file.take(SCRIPT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SCRIPT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

fn redirects(script: &[u8]) -> bool {
    let text = without_comments(&String::from_utf8_lossy(script));
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| word.eq_ignore_ascii_case("redirect"))
}

/// What an owner's process does.
///
/// # Errors
/// Those of its beginning.
pub fn main() -> Result<(), Error> {
    serve(|task: Task, reports, _| {
        reports.say(task.see());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_a_file_of_a_script_s_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
        std::fs::write(path("sieve"), "# redirect\nredirect \"a@b\";\n").unwrap();
        std::os::unix::fs::symlink("sieve", path("active")).unwrap();
        std::fs::write(path("long"), vec![b' '; 1024 * 1024 + 1]).unwrap();
        std::fs::create_dir_all(path(".gnupg/private-keys-v1.d")).unwrap();
        let see = |script: &str| Task { script: path(script).into(), gnupg: path(".gnupg").into() }.see();
        for script in ["fifo", "zero", "long", ".gnupg"] {
            assert!(see(script).unseen.is_some(), "{script}");
        }
        assert_eq!(see("none"), Facts::default());
        std::fs::write(path(".gnupg/private-keys-v1.d/x.key"), "").unwrap();
        assert_eq!(see("active"), Facts { redirects: true, secret_keys: true, unseen: None });
    }
}
