//! `mailseal keys refresh`: what owners have published anew of the certificates that are enrolled (the cargo feature `network`).
//!
//! Only a certificate with the fingerprint of one that is enrolled counts, and of it only what its own primary key has signed:
//! another expiry, a revocation, other subkeys. It is added to what is enrolled; no key that mail is sealed to is taken away. So a
//! server can keep news back, and do no more.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use mailseal_core::cert::Fitness;
use sequoia_openpgp::Cert;

use super::{Keys, say};
use crate::cli;
use crate::console::date::day;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::enrol;
use crate::keys::fetch::{self, Failure, Fetched, Keyserver};
use crate::keystore;
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::user::User;

/// What to do where nothing could be learnt of a user.
const LATER: &str = "see whether this machine reaches the server; what is enrolled stays, and it is tried again the next time";

/// Where it is looked, and what is done with what is found.
#[derive(Clone, Debug, Default)]
pub struct Refresh {
    /// Whether the Web Key Directories of the users' domains are asked.
    pub wkd: bool,
    /// The keyservers that are asked.
    pub keyservers: Vec<Keyserver>,
    /// Whether it is only said what would change.
    pub dry_run: bool,
}

/// The servers of one run.
struct Servers<'a> {
    how: &'a Refresh,
    /// Those that did not answer: domains and keyservers. They are not waited for again.
    silent: BTreeSet<String>,
}

impl Keys<'_> {
    /// Adds to the enrolled certificates of `users`, or of all, what their owners have published since. A user about whom a
    /// server could not be asked, for whom another certificate is published alone, or to whose certificates no mail can be sealed,
    /// is named and gives [`Exit::Negative`]; the others are refreshed.
    ///
    /// # Errors
    /// [`Error::Usage`] for a proxy that [`fetch::check_proxy`] refuses, and where certificates are enrolled in the users' homes;
    /// [`Error::KeyStore`] where the folder cannot be read.
    pub fn refresh(&self, how: &Refresh, users: &[User], out: &mut impl Write) -> Result<Exit, Error> {
        fetch::check_proxy()?;
        let mut exit = Exit::Ok;
        let mut servers = Servers { how, silent: BTreeSet::new() };
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
                self.refresh_user(&user, &mut servers, out)
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
        servers: &mut Servers<'_>,
        out: &mut impl Write,
    ) -> Result<Exit, Error> {
        let mut exit = Exit::Ok;
        let mut failed = |error: Error| {
            exit = Exit::Negative;
            complain(user, &error);
        };
        let address = self.address(user);
        let file = self.enrolled()?.file(user, self.home.as_deref())?;
        let published = servers.ask(user, address.as_deref(), &file.load()?, &mut failed);
        // Nobody waits for a server to answer; what is enrolled may have changed since.
        let _lock = file.lock()?;
        let old = file.load()?;
        let mut new = Vec::new();
        for cert in &old {
            new.push(match cert.openpgp() {
                Some(cert) => enrol::updated(cert, &published, address.as_deref(), self.now).into(),
                None => cert.clone(),
            });
        }
        let changed: Vec<&AnyCert> =
            old.iter().zip(&new).filter(|(old, new)| !is_same(old, new)).map(|(_, new)| new).collect();
        if !changed.is_empty() && !servers.how.dry_run {
            file.store(&new)?;
        }
        let verb = if servers.how.dry_run { "would refresh" } else { "refreshed" };
        for cert in changed {
            let worth = cert.assess(self.now);
            let state = match &worth.fitness {
                Fitness::Fit => format!("expires {}", day(worth.expires)),
                other => other.to_string(),
            };
            say(out, format_args!("{verb} {} of {}: {state}", cert.fingerprint(), user.name()))?;
        }
        // What the owner says counts, and mail waits where nothing else is left.
        let (pair, style) = ((&*new, &*self.recovery()?), self.style(user));
        enrol::test_seal(user.name(), pair, self.config.keys.preference(), &style, self.now)?;
        Ok(exit)
    }
}

impl Servers<'_> {
    /// What is published with the fingerprint of a certificate in `enrolled`. What could not be learnt goes to `failed`.
    fn ask(
        &mut self,
        user: &User,
        address: Option<&str>,
        enrolled: &[AnyCert],
        failed: &mut impl FnMut(Error),
    ) -> Vec<Cert> {
        let enrolled: Vec<&Cert> = enrolled.iter().filter_map(AnyCert::openpgp).collect();
        let mut answers = Vec::new();
        match address {
            _ if !self.how.wkd || enrolled.is_empty() => {}
            Some(address) => {
                let domain = address.rsplit_once('@').map_or(address, |(_, domain)| domain);
                answers.push(self.ask_one(domain, || fetch::published(address)));
            }
            None => failed(Error::Address { address: user.name().into() }),
        }
        for server in &self.how.keyservers {
            for cert in &enrolled {
                let fingerprint = cert.fingerprint().to_hex();
                answers.push(self.ask_one(server.name(), || server.fetch(&fingerprint)));
            }
        }
        let mut found = Vec::new();
        for answer in answers {
            match answer
                .and_then(|answer| answer.map_or(Ok(Vec::new()), |it| of_enrolled(user, &it, &enrolled)))
            {
                Ok(certs) => found.extend(certs),
                Err(error) => failed(error),
            }
        }
        found
    }

    /// Asks `server`, which has not yet failed to answer.
    fn ask_one(
        &mut self,
        server: &str,
        ask: impl FnOnce() -> Result<Option<Fetched>, Failure>,
    ) -> Result<Option<Fetched>, Error> {
        let failed = |what| Error::Enrol { path: server.into(), what, hint: LATER.into() };
        if self.silent.contains(server) {
            return Err(failed("it has not answered before, and is not asked again in this run".into()));
        }
        ask().map_err(|failure| {
            if !failure.answered {
                self.silent.insert(server.to_owned());
            }
            failed(failure.why)
        })
    }
}

/// Those certificates of an answer that are enrolled. Others beside them are noted: an owner who changes keys publishes both.
fn of_enrolled(user: &User, (url, bytes): &Fetched, enrolled: &[&Cert]) -> Result<Vec<Cert>, Error> {
    let refused = |what, hint: &str| Error::Enrol { path: url.into(), what, hint: hint.into() };
    let certs = keystore::parse(bytes, Path::new(url)).map_err(|error| match error {
        Error::KeyStore { what, .. } => refused(what, LATER),
        other => other,
    })?;
    let is_enrolled = |cert: &Cert| enrolled.iter().any(|it| it.fingerprint() == cert.fingerprint());
    let (own, others): (Vec<&AnyCert>, Vec<&AnyCert>) =
        certs.iter().partition(|cert| cert.openpgp().is_some_and(is_enrolled));
    let others = others.into_iter().map(AnyCert::fingerprint).collect::<Vec<_>>().join(", ");
    if own.is_empty() {
        let what = format!("another certificate is published there: {others}");
        return Err(refused(what, "ask the owner; if it is theirs, enrol it: mailseal keys add --replace"));
    }
    if !others.is_empty() {
        cli::note(
            cli::ADMIN,
            &format!("another certificate is published for {} as well: {others}", user.name()),
        );
    }
    Ok(own.into_iter().filter_map(AnyCert::openpgp).cloned().collect())
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
