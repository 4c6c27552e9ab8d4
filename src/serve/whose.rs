//! Whose mail it is, and what becomes of it: for a recipient's path, or for a user whom Dovecot names.
//!
//! By Dovecot's own answer, never by the address as it stands: an alias is its user.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use mailseal_core::protect::Policy;

use super::smtp::path::Path;
use crate::config::serve::Userdb;
use crate::config::style::Style;
use crate::config::{Config, Mode};
use crate::delivery::owner::Owner;
use crate::delivery::unchanged::{Off, Unchanged};
use crate::dovecot::userdb::{self, Answer};
use crate::error::Error;
use crate::keys::addressee::{self, Addressee, Whose};
use crate::keystore::cache::Cache;
use crate::outgoing::address::Address;
use crate::outgoing::policy;
use crate::system::process;

/// Most connections to the user database that are kept.
const KEPT: usize = 8;

/// What becomes of a user's mail.
#[derive(Debug)]
pub struct Treatment {
    /// To whom it goes.
    pub addressee: Result<Addressee, Error>,
    /// How it is sealed.
    pub style: Style,
    /// Whether that is only tried and logged.
    pub observed: bool,
    /// Those whose mail is treated alike are served together.
    pub class: Class,
}

/// Whose mail can go out as one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// Sealed to the keys with these fingerprints, in this way.
    Sealed(Vec<String>, Style),
    /// As it comes, for this reason.
    Clear(&'static str),
    /// For one alone.
    Alone(String),
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
        let refused = || Error::User { name: path.to_string(), what: "is not an address" };
        let user = path.mailbox().ok_or_else(refused)?.user(&serve.recipient_delimiter);
        let Userdb::Dovecot(socket) = &serve.userdb else {
            return Ok(Some(Owner { name: user, ..Owner::default() }));
        };
        let failed =
            || Error::Dovecot { what: format!("{}: it cannot say who {user:?} is", socket.display()) };
        match self.ask(socket, &user)? {
            Answer::Found(account) => Owner::of(account).map(Some),
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

/// Who the recipient at `path` of a message that leaves is, and what becomes of it.
///
/// # Errors
/// Those of [`policy::find`] and [`policy::refuse_own`]; [`Error::User`] for a path that is not understood, while mail could have to
/// be sealed.
pub fn leaving(path: &Path, config: &Config, cache: &Cache) -> Result<(Owner, Treatment), Error> {
    let refused = || Error::User { name: path.to_string(), what: "is not an address" };
    let mailbox = path.mailbox().ok_or_else(refused);
    let address = mailbox.and_then(|mailbox| Address::of(&mailbox, policy::domain(config).as_deref()));
    let address = match address {
        Err(error) if policy::demands(config) => return Err(error),
        // It matches no rule.
        address => address.ok(),
    };
    let name = address.as_ref().map_or_else(|| path.to_string(), Address::to_string);
    let treatment = match &address {
        Some(address) => {
            let treatment = Treatment::leaving(address, config, cache)?;
            if matches!(treatment.class, Class::Clear(_)) {
                policy::refuse_own(config, address)?;
            }
            treatment
        }
        None => Treatment::clear(Unchanged::NoPolicy),
    };
    Ok((Owner { name, ..Owner::default() }, treatment))
}

impl Treatment {
    /// What becomes of mail for `address` that leaves.
    ///
    /// # Errors
    /// Those of [`policy::find`].
    pub fn leaving(address: &Address, config: &Config, cache: &Cache) -> Result<Self, Error> {
        let rule = policy::rule(config, address).map(|(_, rule)| rule);
        let addressee = policy::find(config, address, rule, Some(cache), SystemTime::now())?;
        let style = rule.map(|rule| config.outgoing_style(rule)).unwrap_or_default();
        let class = match &addressee {
            Addressee::Clear(why) => Class::Clear(why.reason()),
            // Where little is shown, it is not shown either who else gets it.
            Addressee::Sealed { .. } if style.protect_headers == Policy::Sent => {
                Class::Alone(address.to_string())
            }
            Addressee::Sealed { recipients, .. } => Class::Sealed(recipients.fingerprints(), style.clone()),
        };
        Ok(Self { addressee: Ok(addressee), style, observed: false, class })
    }

    /// Mail goes out as it comes.
    #[must_use]
    pub fn clear(why: Unchanged) -> Self {
        let class = Class::Clear(why.reason());
        Self { addressee: Ok(Addressee::Clear(why)), style: Style::default(), observed: false, class }
    }

    /// What becomes of the mail of `owner`.
    ///
    /// # Errors
    /// Those of [`addressee::find`], unless it is only tried; [`Error::Home`] for a user whose home only others may read.
    pub fn of(owner: &Owner, config: &Config, cache: &Cache) -> Result<Self, Error> {
        let Owner { name, home, uid, said } = owner;
        if said.off {
            return Ok(Self::clear(Unchanged::Off(Off::Option)));
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
        let style = config.style(name, &said.sealing);
        let found = addressee::find(config, &whose, SystemTime::now());
        if rule.is_some_and(|rule| rule.mode == Mode::Observe) {
            return Ok(Self { addressee: found, style, observed: true, class: Class::Alone(name.clone()) });
        }
        let addressee = found?;
        let class = match &addressee {
            Addressee::Clear(why) => Class::Clear(why.reason()),
            Addressee::Sealed { recipients, .. } => Class::Sealed(recipients.fingerprints(), style.clone()),
        };
        Ok(Self { addressee: Ok(addressee), style, observed: false, class })
    }
}
