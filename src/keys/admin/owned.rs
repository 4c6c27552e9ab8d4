//! Edge: Commands about one user that look into the user's home. Root starts a process with the rights of the home's owner,
//! which are those of a delivery, and that process carries them out: root's own opens nothing there.
//!
//! The register of known users is root's alone, so the process asks root for two things: to note the user, before it stores
//! a certificate, and to forget the user, after it has removed the last one. Before it removes one, it asks whether root still
//! follows. Root answers with a line; where it does not, because it was ended, nothing is stored or removed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use mailseal_core::error::Error as CoreError;
use nix::unistd::{Gid, Uid};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::console::{escape, json};
use crate::dovecot::userdb::Account;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::admin::{Action, Keys};
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::user::User;
use crate::system::owner::Bytes;
use crate::system::owner::child::{Order, Reports};
use crate::system::owner::identity::{Identity, owner_at};
use crate::system::owner::process::{PATIENCE, Process, Report, Start, Watch, feed};
use crate::system::process;
use crate::{cli, keystore, limits};

/// The kind of the task.
pub const KIND: &str = "keys";

/// How many bytes of its output the process reports at once: in base64 they fit into a line.
const REPORT_SIZE: usize = 32 * 1024;

/// The answer to a question.
const ANSWER: &[u8] = b"null\n";

/// Who owns a home that is not root's.
#[derive(Debug)]
pub struct Owner {
    identity: Identity,
    home: PathBuf,
}

/// What the process is told. Without an action, it writes the user's certificates.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Task<A> {
    config: Option<OsString>,
    user: String,
    home: OsString,
    action: Option<A>,
}

/// What it reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Event {
    /// Asks that the user be noted: a certificate is about to be stored.
    Note,
    /// Asks whether to go on: certificates are about to be removed.
    Begin,
    /// Asks that the user be forgotten, if nothing is found any more.
    Forget {
        /// Whether certificates were enrolled, and have been removed.
        removed: bool,
    },
    /// A piece of what the command writes.
    Out(Bytes),
    /// The command has been carried out. Its exit status is 0, or that of a negative answer.
    Done { ok: bool },
}

impl Report for Event {}

/// What the process has told.
#[derive(Debug, Default)]
struct Told {
    /// How often it has asked for something.
    asked: u8,
    out: Vec<u8>,
    ok: Option<bool>,
    /// What root itself has to say after that.
    after: Vec<u8>,
    /// Whether the user was to be forgotten, and stays known.
    stays: bool,
}

impl Told {
    /// Refuses what the process does not say in the course of `action`: a question that is not the action's or comes twice,
    /// or not in its turn,
    /// more output than [`limits::KEYRING`], and anything after its last word.
    fn judge(&mut self, event: &Event, action: Option<&Action>) -> io::Result<()> {
        let fits = match (event, action) {
            (Event::Note, Some(Action::Add(_))) | (Event::Begin, Some(Action::Remove { .. })) => {
                std::mem::replace(&mut self.asked, 1) == 0
            }
            (Event::Forget { .. }, Some(Action::Remove { .. })) => std::mem::replace(&mut self.asked, 2) == 1,
            (Event::Note | Event::Begin | Event::Forget { .. }, _) => false,
            (Event::Out(piece), _) => {
                !piece.0.is_empty() && (self.out.len() + piece.0.len()) as u64 <= limits::KEYRING
            }
            (Event::Done { .. }, _) => true,
        };
        if fits && self.ok.is_none() { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }
}

impl Owner {
    /// The owner of the home in `account`: the user whom Dovecot names; otherwise the owner of the folder, or of the
    /// nearest one above it that is there and not root's, found without following others' links. `None` for a home that
    /// only root can have made, and where no home is known.
    ///
    /// # Errors
    /// [`Error::Home`] where that cannot be found out; those of [`Identity::of`].
    pub fn of(account: Account) -> Result<Option<Self>, Error> {
        let Some(home) = account.home else { return Ok(None) };
        let owner = match (account.uid, account.gid) {
            // The group of the same number is a user's own.
            (Some(uid), gid) if uid != 0 => Some((Uid::from_raw(uid), Gid::from_raw(gid.unwrap_or(uid)))),
            _ => owner_at(&home).map_err(|error| Error::Home {
                path: home.clone(),
                what: format!("cannot be reached: {error}"),
            })?,
        };
        let identity = owner.map(|(uid, gid)| Identity::of(uid, gid)).transpose()?;
        Ok(identity.map(|identity| Self { identity, home }))
    }

    /// Has `action` carried out for `user`, and writes to `out` what that gives.
    ///
    /// # Errors
    /// Those of the action; [`Error::Owner`] and [`Error::Privileges`] for those of the process.
    pub fn carry_out(
        &self,
        keys: &Keys<'_>,
        user: &User,
        action: &Action,
        out: &mut impl Write,
    ) -> Result<Exit, Error> {
        let told = self.ask(keys, user, Some(action))?;
        let Some(shown) = shown(action, told.out) else {
            return Err(self.odd("what it reports is not what the command writes"));
        };
        out.write_all(&shown).and_then(|()| out.write_all(&told.after)).map_err(Error::Output)?;
        Ok(if told.ok == Some(true) && !told.stays { Exit::Ok } else { Exit::Negative })
    }

    /// The certificates that a delivery to `user` finds. It asks all sources, those outside the home too: the first that
    /// has one decides, and one before it that fails is an error.
    ///
    /// # Errors
    /// Those of [`keystore::find`] and of the process.
    pub fn find(&self, keys: &Keys<'_>, user: &User) -> Result<Vec<AnyCert>, Error> {
        let found = self.ask(keys, user, None)?.out;
        if found.is_empty() { Ok(Vec::new()) } else { keystore::parse(&found, &self.home) }
    }

    /// Starts the process, and does for `user`, whom `action` is about and nobody else, what it asks for.
    fn ask(&self, keys: &Keys<'_>, user: &User, action: Option<&Action>) -> Result<Told, Error> {
        let failed = |error: io::Error| Error::Privileges {
            what: format!("the process for user {}: {error}", self.identity.uid()),
        };
        let (input, order) = io::pipe().map_err(failed)?;
        let (reports, output) = io::pipe().map_err(failed)?;
        let start = Start { program: cli::ADMIN, kind: KIND, identity: &self.identity };
        let mut child = Process::start(&start, input.into(), output.into(), Stdio::null()).map_err(failed)?;
        let watch = Watch { patience: PATIENCE, stop: &keys.stop, slot: None };
        let order = File::from(OwnedFd::from(order));
        let fed = feed(&order, &self.identity, &self.task(keys, user, action)?, &watch);
        let (mut told, mut failure) = (Told::default(), None);
        let mut answer = |done: Result<(), Error>| {
            let done = done.map_err(|error| {
                failure = Some(error);
                io::Error::from(ErrorKind::Other)
            });
            done.and_then(|()| (&order).write_all(ANSWER))
        };
        let listened = child.listen(reports, None, &watch, &mut |event| {
            told.judge(&event, action)?;
            match event {
                Event::Note | Event::Begin | Event::Forget { .. } if keys.stop.load(Ordering::Relaxed) => {}
                Event::Begin => return answer(Ok(())),
                Event::Note => return answer(keys.make_known(user)),
                Event::Forget { removed } => {
                    let forgotten = keys.forget(user, removed, &mut told.after);
                    told.stays = matches!(forgotten, Ok(Exit::Negative));
                    return answer(forgotten.map(drop));
                }
                Event::Out(piece) => told.out.extend(piece.0),
                Event::Done { ok } => told.ok = Some(ok),
            }
            Ok(())
        });
        failure.map_or(listened, Err)?;
        if told.ok.is_none() && keys.stop.load(Ordering::Relaxed) {
            return Err(interrupted());
        }
        fed.map_err(failed)?;
        if told.ok.is_some() { Ok(told) } else { Err(self.odd("it does not say what came of its task")) }
    }

    fn task<'t>(
        &self,
        keys: &Keys<'_>,
        user: &User,
        action: Option<&'t Action>,
    ) -> Result<Task<&'t Action>, Error> {
        let config =
            keys.config_path.as_deref().map(std::path::absolute).transpose().map_err(CoreError::Read)?;
        let home = self.home.clone().into();
        Ok(Task { config: config.map(Into::into), user: user.name().into(), home, action })
    }

    fn odd(&self, what: &str) -> Error {
        Error::Owner {
            what: format!("the process for user {}: {what}", self.identity.uid()),
            hint: "see what the owner or another program does there, and run it again".into(),
            exit: Exit::Temporary,
        }
    }
}

/// That whoever runs the command has ended it.
#[must_use]
pub fn interrupted() -> Error {
    Error::Owner {
        what: "interrupted before it was done".into(),
        hint: "run it again: it goes on where this ended".into(),
        exit: Exit::Temporary,
    }
}

/// What may be shown of what `action` gave: a message as it is, JSON and lines made safe for a terminal. `None` for
/// what is not JSON, and for a message with other control characters than mail has.
fn shown(action: &Action, out: Vec<u8>) -> Option<Vec<u8>> {
    let is_mail = |byte: &u8| !byte.is_ascii_control() || b"\r\n\t".contains(byte);
    match action {
        Action::Show { json: true } => {
            serde_json::from_slice::<Vec<IgnoredAny>>(&out).ok()?;
            Some(json::escaped(&String::from_utf8(out).ok()?).into())
        }
        Action::Test => out.iter().all(is_mail).then_some(out),
        _ => {
            let lines: Vec<String> = out.split(|byte| *byte == b'\n').map(escape::again).collect();
            Some(lines.join("\n").into())
        }
    }
}

/// Root's process, to the one that it has started.
#[derive(Debug)]
pub struct Parent {
    order: Mutex<Order>,
    reports: Reports,
}

impl Parent {
    /// Has root note the user in the register.
    ///
    /// # Errors
    /// [`CoreError::Read`] where root does not: nothing may be stored then.
    pub fn note(&self) -> Result<(), Error> {
        self.ask(Event::Note)
    }

    /// Asks whether root still follows what is done.
    ///
    /// # Errors
    /// [`CoreError::Read`] where it does not: nothing may be removed then.
    pub fn begin(&self) -> Result<(), Error> {
        self.ask(Event::Begin)
    }

    /// Has root forget the user, unless something is found still. `removed` says that certificates were enrolled.
    ///
    /// # Errors
    /// [`CoreError::Read`] where root cannot say.
    pub fn forget(&self, removed: bool) -> Result<(), Error> {
        self.ask(Event::Forget { removed })
    }

    fn ask(&self, event: Event) -> Result<(), Error> {
        self.reports.say(event);
        self.order.lock().unwrap_or_else(PoisonError::into_inner).line()
    }
}

/// What the process itself does.
///
/// # Errors
/// Those of its beginning; those of the task, which have been reported.
pub fn main() -> Result<(), Error> {
    let mut order = Order::begin()?;
    let task = order.line()?;
    let reports = Reports::to(process::stdout()?, &Arc::default());
    let parent = Parent { order: Mutex::new(order), reports };
    carry_out(&task, &parent).inspect_err(|error| parent.reports.fail(error))
}

fn carry_out(task: &Task<Action>, parent: &Parent) -> Result<(), Error> {
    let config = Config::load(task.config.as_deref().map(Path::new))?;
    let user = User::parse(&task.user)?;
    let keys = Keys::of_child(&config, Path::new(&task.home), parent);
    let mut out = Vec::new();
    let exit = match &task.action {
        Some(action) => keys.carry_out(&user, action, &mut out)?,
        None => {
            out = any_cert::serialize(&keys.find(&user)?)?;
            Exit::Ok
        }
    };
    for piece in out.chunks(REPORT_SIZE) {
        parent.reports.say(Event::Out(Bytes(piece.into())));
    }
    parent.reports.say(Event::Done { ok: exit == Exit::Ok });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dovecot_says_whose_a_home_is_before_its_folder_does() {
        let of = |home: Option<&str>, uid, gid| {
            let account =
                Account { name: "alice".into(), uid, gid, home: home.map(Into::into), ..Account::default() };
            let owner = Owner::of(account).unwrap();
            owner.map(|owner| (owner.identity.uid().as_raw(), owner.identity.gid().as_raw()))
        };
        let (vmail, own) = (3_999_999_999, 3_999_999_998);
        assert_eq!(of(Some("/"), Some(vmail), Some(own)), Some((vmail, own)));
        assert_eq!(of(Some("/"), Some(vmail), None), Some((vmail, vmail)));
        for home in ["/", "/nonexistent/alice"] {
            assert_eq!(of(Some(home), Some(0), Some(0)), None, "{home}");
            assert_eq!(of(Some(home), None, None), None, "{home}");
        }
        assert_eq!(of(None, Some(vmail), Some(own)), None);
    }

    #[test]
    fn the_process_is_believed_only_what_its_command_says() {
        let remove = Action::Remove { fingerprint: None };
        let out = |size: usize| Event::Out(Bytes(vec![b'x'; size]));
        let mut told = Told::default();
        assert!(told.judge(&Event::Note, Some(&remove)).is_err());
        assert!(
            Told::default().judge(&Event::Forget { removed: true }, Some(&remove)).is_err(),
            "not before it has begun"
        );
        assert!(told.judge(&Event::Begin, Some(&remove)).is_ok());
        assert!(told.judge(&Event::Begin, Some(&remove)).is_err(), "once");
        assert!(told.judge(&Event::Forget { removed: true }, Some(&remove)).is_ok());
        assert!(told.judge(&Event::Forget { removed: true }, Some(&remove)).is_err(), "once");
        for action in [None, Some(&Action::Test), Some(&Action::Show { json: true })] {
            let mut told = Told::default();
            assert!(
                told.judge(&Event::Note, action).is_err()
                    && told.judge(&Event::Forget { removed: true }, action).is_err()
            );
            assert!(told.judge(&out(0), action).is_err() && told.judge(&out(1), action).is_ok());
        }
        told.out = vec![b'x'; limits::KEYRING as usize];
        assert!(told.judge(&out(1), None).is_err());
        told = Told { ok: Some(true), ..Told::default() };
        assert!(told.judge(&out(1), None).is_err() && told.judge(&Event::Done { ok: true }, None).is_err());
    }

    #[test]
    fn a_terminal_gets_what_the_command_writes_and_nothing_else() {
        let remove = Action::Remove { fingerprint: None };
        let lines = b"removed AB\\x1b of alice\n".to_vec();
        assert_eq!(shown(&remove, lines.clone()), Some(lines));
        assert_eq!(shown(&remove, b"a\x1b[2J\nb\xff".to_vec()), Some(b"a\\x1b[2J\nb\\xff".to_vec()));
        let json = Action::Show { json: true };
        assert!(shown(&json, b"[\n  {}\n]\n".to_vec()).is_some());
        assert_eq!(shown(&json, "[\"\u{9b}\"]".into()), Some(b"[\"\\u009b\"]".to_vec()));
        assert!(
            shown(&json, b"[\"\x1b[2J\"]".to_vec()).is_none() && shown(&json, b"hello".to_vec()).is_none()
        );
        let mail = b"Subject: x\r\n\ty\r\n\r\n".to_vec();
        assert_eq!(shown(&Action::Test, mail.clone()), Some(mail));
        assert!(shown(&Action::Test, b"\x1b[2J".to_vec()).is_none());
    }
}
