//! Whose mail it is, and what becomes of it: for a recipient's path, or for a user whom Dovecot names.
//!
//! By Dovecot's own answer, never by the address as it stands: an alias is its user.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use mailseal_core::openpgp::compress::Compression;
use mailseal_core::protect::Policy;
use sequoia_openpgp::Fingerprint;

use super::smtp::path::Path;
use crate::cli::protect_headers::ProtectHeaders;
use crate::config::serve::Userdb;
use crate::config::{Config, Mode};
use crate::delivery::options::Said;
use crate::delivery::unchanged::{Off, Unchanged};
use crate::dovecot::userdb::{self, Account, Answer};
use crate::error::Error;
use crate::keys::addressee::{self, Addressee, Whose};
use crate::keystore::cache::Cache;
use crate::system::process;

/// Most connections to the user database that are kept.
const KEPT: usize = 8;

/// A delivery user, and what is said of how the user's mail is sealed.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// The name.
    pub name: String,
    /// The home, where it is known.
    pub home: Option<PathBuf>,
    /// With whose rights Dovecot delivers, where it says so.
    pub uid: Option<u32>,
    /// The settings of the user's own.
    pub said: Said,
}

/// What becomes of a user's mail.
#[derive(Debug)]
pub struct Treatment {
    /// To whom it goes.
    pub addressee: Result<Addressee, Error>,
    /// Whether that is only tried and logged.
    pub observed: bool,
    /// Those whose mail is treated alike are served together.
    pub class: Class,
}

/// Whose mail can go out as one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// Sealed to the same keys in the same way.
    Sealed(Vec<Fingerprint>, Policy, Compression),
    /// As it comes, for this reason.
    Clear(&'static str),
    /// As it comes, and tried for one user.
    Observed(String),
}

/// Asks Dovecot for users, over connections that it keeps.
#[derive(Debug, Default)]
pub struct Users {
    idle: Mutex<Vec<userdb::Userdb>>,
}

impl Users {
    /// Who the recipient at `path` is; `None` where there is nobody.
    ///
    /// # Errors
    /// [`Error::Dovecot`] where Dovecot cannot say, [`Error::User`] for a path that names nobody.
    pub fn find(&self, config: &Config, path: &Path) -> Result<Option<Owner>, Error> {
        let serve = &config.serve;
        let refused = || Error::User { name: path.to_string(), what: "is no address" };
        let user = path.mailbox().ok_or_else(refused)?.user(&serve.recipient_delimiter);
        let Userdb::Dovecot(socket) = &serve.userdb else {
            return Ok(Some(Owner { name: user, ..Owner::default() }));
        };
        let failed =
            || Error::Dovecot { what: format!("{}: it cannot say who {user:?} is", socket.display()) };
        match self.ask(socket, &user)? {
            Answer::Found(account) => owner(account).map(Some),
            Answer::NotFound => Ok(None),
            Answer::Failed => Err(failed()),
        }
    }

    fn ask(&self, socket: &std::path::Path, user: &str) -> Result<Answer, Error> {
        let names = [user.to_owned()];
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = |mut userdb: userdb::Userdb| {
            let answer = userdb.look_up(&names)?.pop().unwrap_or(Answer::Failed);
            let mut idle = idle();
            if idle.len() < KEPT {
                idle.push(userdb);
            }
            Ok(answer)
        };
        let kept = idle().pop();
        // Dovecot may have been restarted since.
        match kept.map(answer) {
            Some(Ok(answer)) => Ok(answer),
            _ => answer(userdb::Userdb::connect(socket)?),
        }
    }
}

/// A user with the settings that are for us, as the Sieve scripts take them.
fn owner(account: Account) -> Result<Owner, Error> {
    let Account { name, uid, home, settings, .. } = account;
    let set = |setting: &str| settings.get(setting).map(String::as_str).filter(|value| !value.is_empty());
    let wrong = |what: String| Error::Dovecot { what: format!("the user {name:?}: {what}") };
    let protect_headers = match set("protect_headers") {
        None => None,
        Some(value) => match <ProtectHeaders as clap::ValueEnum>::from_str(value, false) {
            Ok(policy) => Some(policy),
            Err(_) => return Err(wrong(format!("mailseal_protect_headers is {value:?}"))),
        },
    };
    let key_files: Vec<PathBuf> = set("key").into_iter().map(PathBuf::from).collect();
    if let Some(path) = key_files.iter().find(|path| !path.is_absolute()) {
        return Err(wrong(format!("mailseal_key is {path:?}, which is not an absolute path")));
    }
    let off = set("off").is_some_and(|value| ["on", "true", "1"].contains(&value));
    Ok(Owner { home, uid, said: Said { key_files, protect_headers, off, ..Said::default() }, name })
}

impl Treatment {
    /// What becomes of the mail of `owner`.
    ///
    /// # Errors
    /// Those of [`addressee::find`], unless it is only tried; [`Error::Home`] for a user whose home only others may read.
    pub fn of(owner: &Owner, config: &Config, cache: &Cache) -> Result<Self, Error> {
        let Owner { name, home, uid, said } = owner;
        if said.off {
            let why = Unchanged::Off(Off::Option);
            let class = Class::Clear(why.reason());
            return Ok(Self { addressee: Ok(Addressee::Clear(why)), observed: false, class });
        }
        if let (true, Some(uid)) = (config.reads_homes(), uid)
            && *uid != process::user()
        {
            let what = format!("is that of the user id {uid}, and mailseal runs as {}", process::user());
            return Err(Error::Home { path: home.clone().unwrap_or_default(), what });
        }
        let whose =
            Whose { user: name, home: home.as_deref(), key_files: &said.key_files, cache: Some(cache) };
        let rule = addressee::rule(config, &whose)?;
        let found = addressee::find(config, &whose, SystemTime::now());
        if rule.is_some_and(|rule| rule.mode == Mode::Observe) {
            return Ok(Self { addressee: found, observed: true, class: Class::Observed(name.clone()) });
        }
        let addressee = found?;
        let class = match &addressee {
            Addressee::Clear(why) => Class::Clear(why.reason()),
            Addressee::Sealed { recipients, .. } => {
                let chosen = (said.protect_headers.map(Policy::from), said.compression);
                let sealer = config.sealer(name, recipients, chosen);
                Class::Sealed(recipients.fingerprints(), sealer.protect_headers, sealer.compression)
            }
        };
        Ok(Self { addressee: Ok(addressee), observed: false, class })
    }
}
