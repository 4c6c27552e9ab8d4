//! `mailseal keys refresh`: what is new about the certificates that are enrolled.
//!
//! Of an OpenPGP certificate its owner publishes that (the cargo feature `network`): only what its own primary key has signed counts,
//! another expiry, a revocation, other subkeys. An S/MIME certificate is revoked by its authority, in lists that the authority has
//! signed. It is added to what is enrolled; no key that mail is sealed to is taken away. So a server can keep news back, and do no
//! more.
//!
//! ```text
//! published  what owners of OpenPGP certificates have published  [edge]
//! lists      what the lists of authorities say
//! ```

mod lists;
#[cfg(feature = "network")]
mod published;

use std::io::Write;
use std::path::PathBuf;

use mailseal_core::cert::Fitness;

use self::lists::Judge;
#[cfg(feature = "network")]
use self::published::Servers;
use super::{Keys, say};
use crate::cli;
use crate::console::date::day;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::enrol;
#[cfg(feature = "network")]
use crate::keys::fetch::{self, Keyserver};
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::user::User;

/// Where it is looked, and what is done with what is found.
#[derive(Clone, Debug, Default)]
pub struct Refresh {
    /// Whether the Web Key Directories of the users' domains are asked.
    #[cfg(feature = "network")]
    pub wkd: bool,
    /// The keyservers that are asked.
    #[cfg(feature = "network")]
    pub keyservers: Vec<Keyserver>,
    /// Whether the lists are fetched that S/MIME certificates name.
    #[cfg(feature = "network")]
    pub points: bool,
    /// Whether S/MIME certificates are judged by the lists that the configuration names.
    pub lists: bool,
    /// Whether it is only said what would change.
    pub dry_run: bool,
}

/// What is asked in one run.
struct Sources<'a> {
    how: &'a Refresh,
    #[cfg(feature = "network")]
    servers: Servers<'a>,
    /// `None` where S/MIME certificates are left alone.
    judge: Option<Judge>,
}

impl Refresh {
    /// Demands that what is asked for can be.
    fn check(&self) -> Result<(), Error> {
        #[cfg(feature = "network")]
        if self.wkd || self.points || !self.keyservers.is_empty() {
            fetch::check_proxy()?;
        }
        Ok(())
    }

    /// Whether anything is to be learnt about S/MIME certificates.
    fn judges(&self) -> bool {
        #[cfg(feature = "network")]
        let points = self.points;
        #[cfg(not(feature = "network"))]
        let points = false;
        self.lists || points
    }
}

impl Keys<'_> {
    /// Adds to the enrolled certificates of `users`, or of all, what is new of them. A user about whom a server could not be asked,
    /// for whom another certificate is published alone, whose authority's list is not there, or to whose certificates no mail can be
    /// sealed, is named and gives [`Exit::Negative`]; the others are refreshed.
    ///
    /// # Errors
    /// [`Error::Usage`] for a proxy that `fetch::check_proxy` refuses, for lists without authorities, and where certificates are enrolled in the
    /// users' homes; [`Error::KeyStore`] where the folder or the certificates of the authorities cannot be read.
    pub fn refresh(&self, how: &Refresh, users: &[User], out: &mut impl Write) -> Result<Exit, Error> {
        how.check()?;
        let mut exit = Exit::Ok;
        let judge = how.judges().then(|| self.judge(how.lists, &mut exit)).transpose()?;
        let mut sources = Sources {
            how,
            #[cfg(feature = "network")]
            servers: Servers::new(how),
            judge,
        };
        let entries = self.enrolled()?.entries()?;
        let is_enrolled =
            |user: &User| entries.iter().any(|entry| entry.is_read && entry.user.as_ref() == Some(user));
        for user in users.iter().filter(|user| !is_enrolled(user)) {
            exit = Exit::Negative;
            complain(user, &Error::Missing { user: user.name().into() });
        }
        for entry in entries {
            let Some(user) = entry.user else { continue };
            if !users.is_empty() && !users.contains(&user) {
                continue;
            }
            let refreshed = if entry.is_read {
                self.refresh_user(&user, &mut sources, out)
            } else {
                Err(unread(entry.path))
            };
            match refreshed {
                Ok(Exit::Ok) => {}
                Ok(other) => exit = other,
                Err(error) => {
                    exit = Exit::Negative;
                    complain(&user, &error);
                }
            }
        }
        Ok(exit)
    }

    fn refresh_user(
        &self,
        user: &User,
        sources: &mut Sources<'_>,
        out: &mut impl Write,
    ) -> Result<Exit, Error> {
        let mut exit = Exit::Ok;
        let mut failed = |error: Error| {
            exit = Exit::Negative;
            complain(user, &error);
        };
        let file = self.enrolled()?.file(user, self.home.as_deref())?;
        #[cfg(feature = "network")]
        let address = self.address(user);
        #[cfg(feature = "network")]
        let published = sources.ask(user, address.as_deref(), &file.load()?, &mut failed);
        // Nobody waits for a server to answer; what is enrolled may have changed since.
        let _lock = file.lock()?;
        let old = file.load()?;
        let mut new = Vec::new();
        for cert in &old {
            new.push(match cert {
                #[cfg(feature = "network")]
                AnyCert::OpenPgp(cert) => {
                    enrol::updated(cert, &published, address.as_deref(), self.now).into()
                }
                #[cfg(not(feature = "network"))]
                AnyCert::OpenPgp(_) => cert.clone(),
                AnyCert::Smime(certificate) => match &mut sources.judge {
                    Some(judge) => AnyCert::Smime(Box::new(judge.judged(certificate, &mut failed))),
                    None => cert.clone(),
                },
            });
        }
        let changed: Vec<&AnyCert> =
            old.iter().zip(&new).filter(|(old, new)| !is_same(old, new)).map(|(_, new)| new).collect();
        if !changed.is_empty() && !sources.how.dry_run {
            file.store(&new)?;
        }
        for cert in changed {
            self.tell_refreshed(user, cert, sources.how.dry_run, out)?;
        }
        // What the owner says counts, and mail waits where nothing else is left.
        let (pair, style) = ((&*new, &*self.recovery()?), self.style(user));
        enrol::test_seal(user.name(), pair, self.config.keys.preference(), &style, self.now)?;
        Ok(exit)
    }

    fn tell_refreshed(
        &self,
        user: &User,
        cert: &AnyCert,
        dry_run: bool,
        out: &mut impl Write,
    ) -> Result<(), Error> {
        let worth = cert.assess(self.now);
        let state = match (&worth.fitness, cert.smime().and_then(|it| it.revocation())) {
            (Fitness::Fit, _) => format!("expires {}", day(worth.expires)),
            (other, Some(revocation)) => format!("{other} ({})", revocation.name()),
            (other, None) => other.to_string(),
        };
        let verb = if dry_run { "would refresh" } else { "refreshed" };
        say(out, format_args!("{verb} {} of {}: {state}", cert.fingerprint(), user.name()))
    }
}

#[cfg(feature = "network")]
impl Sources<'_> {
    /// What is published of the OpenPGP certificates in `enrolled`. The lists that the others name are fetched. What could not be
    /// learnt goes to `failed`.
    fn ask(
        &mut self,
        user: &User,
        address: Option<&str>,
        enrolled: &[AnyCert],
        failed: &mut impl FnMut(Error),
    ) -> Vec<sequoia_openpgp::Cert> {
        if let Some(judge) = self.judge.as_mut().filter(|_| self.how.points) {
            for certificate in enrolled.iter().filter_map(AnyCert::smime) {
                judge.fetch_for(certificate, &mut self.servers, failed);
            }
        }
        self.servers.ask(user, address, enrolled, failed)
    }
}

fn complain(user: &User, error: &Error) {
    cli::complain(cli::ADMIN, Some(user.name()), error);
}

fn unread(path: PathBuf) -> Error {
    Error::KeyStore {
        path,
        what: "no delivery reads a file of this name".into(),
        hint: "`mailseal doctor` says what its name should be".into(),
    }
}

fn is_same(old: &AnyCert, new: &AnyCert) -> bool {
    let bytes = |cert: &AnyCert| any_cert::serialize(std::slice::from_ref(cert)).ok();
    bytes(old) == bytes(new)
}
