//! Edge: What the checks ask about users, with each user's rights: what becomes of the user's mail, whether the script sends
//! mail away, and whether secret keys lie in the home.
//!
//! What becomes of mail is decided by what decides it at a delivery ([`addressee::find`]), in a process with the same rights.
//! One process answers for users with the same rights, as virtual users have them.
//!
//! Nothing there is waited for, and no more of a file is read than a script can have.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use nix::unistd::{Gid, Uid, geteuid};
use serde::{Deserialize, Serialize};

use super::access::Identity as Ids;
use super::scripts::without_comments;
use crate::cli;
use crate::config::Config;
use crate::delivery::unchanged::Unchanged;
use crate::error::Error;
use crate::keys::addressee::{self, Addressee, Whose};
use crate::keystore;
use crate::keystore::trust::Trust;
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

/// How long one user may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many users one process is asked about.
pub const AT_ONCE: usize = 500;

/// About whom to ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// mailseal's configuration; without one it is not asked what becomes of mail.
    pub config: Option<OsString>,
    /// Users whose deliveries have the same rights.
    pub users: Vec<Question>,
}

/// One user.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The name.
    pub user: String,
    /// The home, where there is one.
    pub home: Option<OsString>,
    /// The user's script.
    pub script: OsString,
    /// The file that the user database names with `mailseal_key`.
    pub key: Option<OsString>,
    /// Whether the user database turns sealing off.
    pub off: bool,
}

/// What becomes of a user's mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Becomes {
    /// It was not asked.
    #[default]
    Unasked,
    /// It is sealed.
    Sealed,
    /// It is stored in clear: the user has no certificate, which was proven.
    NoKey,
    /// It is stored in clear: an admin turned sealing off.
    Off,
    /// It is deferred.
    Deferred {
        /// Why.
        what: String,
        /// What to do.
        hint: String,
    },
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// What becomes of the mail.
    pub becomes: Becomes,
    /// There is a script of the user's own.
    pub has_script: bool,
    /// The script sends mail on.
    pub redirects: bool,
    /// There are secret keys.
    pub secret_keys: bool,
    /// One of them opens what mail is sealed to.
    pub opens_mail: Option<String>,
    /// There is a GnuPG keyring.
    pub has_keyring: bool,
    /// What could not be looked at, and why.
    pub unseen: Option<String>,
}

impl Report for Facts {}

impl Task {
    /// Looks, with the rights of `user`; `seen` gets the facts in the order of the users.
    ///
    /// # Errors
    /// Those of the owner's process. Users about whom nothing was said by then are not known.
    pub fn look(&self, user: Ids, slot: &Slot<'_>, mut seen: impl FnMut(Facts)) -> Result<(), Error> {
        let uid = Uid::from_raw(user.uid);
        if !geteuid().is_root() || uid.is_root() {
            let config = self.load();
            self.users.iter().for_each(|question| seen(question.see(config.as_ref())));
            return Ok(());
        }
        let identity = Identity::of(uid, Gid::from_raw(user.gid))?;
        let start = Start { program: cli::ADMIN, kind: KIND, identity: &identity };
        let stop = AtomicBool::new(false);
        let watch = Watch { patience: PATIENCE, stop: &stop, slot: Some(slot) };
        run_as_owner(&start, self, None, &watch, &mut |facts| {
            seen(facts);
            Ok(())
        })
    }

    fn load(&self) -> Option<Result<Config, Error>> {
        self.config.as_deref().map(|path| Config::load(Some(Path::new(path))))
    }
}

impl Question {
    fn see(&self, config: Option<&Result<Config, Error>>) -> Facts {
        let mut facts = Facts::default();
        match read(Path::new(&self.script)) {
            Ok(text) => {
                facts.has_script = true;
                facts.redirects = redirects(&text);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                facts.unseen = Some(cut(format!("{}: {error}", self.script.display())));
            }
        }
        let gnupg = self.home.as_deref().map(|home| Path::new(home).join(".gnupg"));
        if let Some(gnupg) = &gnupg {
            let has_key = std::fs::read_dir(gnupg.join("private-keys-v1.d")).is_ok_and(|entries| {
                let mut names = entries.take(ENTRIES).flatten().map(|entry| entry.path());
                names.any(|path| path.extension().is_some_and(|name| name == "key"))
            });
            let holds = |name: &str| std::fs::metadata(gnupg.join(name)).is_ok_and(|file| file.len() > 0);
            facts.secret_keys = has_key || holds("secring.gpg");
            facts.has_keyring = holds("pubring.kbx") || holds("pubring.gpg");
        }
        match config {
            None => {}
            Some(Err(error)) => facts.becomes = Becomes::deferred(error),
            Some(Ok(config)) => self.ask(config, gnupg.as_deref(), &mut facts),
        }
        facts
    }

    /// Decides as a delivery does.
    fn ask(&self, config: &Config, gnupg: Option<&Path>, facts: &mut Facts) {
        if self.off {
            facts.becomes = Becomes::Off;
            return;
        }
        let key_files: Vec<_> = self.key.iter().map(Into::into).collect();
        if geteuid().is_root() && key_files.is_empty() {
            facts.becomes = Becomes::deferred(&Error::Root);
            return;
        }
        let home = self.home.as_deref().map(Path::new);
        let whose = Whose { user: &self.user, home, key_files: &key_files, cache: None };
        facts.becomes = match addressee::find(config, &whose, SystemTime::now()) {
            Ok(Addressee::Sealed { certs, .. }) => {
                if let (true, Some(gnupg)) = (facts.secret_keys, gnupg) {
                    let trust = Trust::of_process(config.keys.trusted_groups.ids());
                    let judged = keystore::refuse_secret_keys(gnupg, &certs, trust);
                    facts.opens_mail = judged.err().map(|error| cut(error.to_string()));
                }
                Becomes::Sealed
            }
            Ok(Addressee::Clear(Unchanged::Off(_))) => Becomes::Off,
            Ok(Addressee::Clear(_)) => Becomes::NoKey,
            Err(error) => Becomes::deferred(&error),
        };
    }
}

impl Becomes {
    fn deferred(error: &Error) -> Self {
        Self::Deferred { what: cut(error.to_string()), hint: cut(error.hint()) }
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
        let config = task.load();
        task.users.iter().for_each(|question| reports.say_or_leave(question.see(config.as_ref())));
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
        let home: OsString = dir.path().into();
        let see = |script: &str| {
            Question { script: path(script).into(), home: Some(home.clone()), ..Question::default() }
                .see(None)
        };
        for script in ["fifo", "zero", "long", ".gnupg"] {
            assert!(see(script).unseen.is_some(), "{script}");
        }
        assert_eq!(see("none"), Facts::default());
        std::fs::write(path(".gnupg/private-keys-v1.d/x.key"), "").unwrap();
        assert_eq!(
            see("active"),
            Facts { has_script: true, redirects: true, secret_keys: true, ..Facts::default() }
        );
    }
}
