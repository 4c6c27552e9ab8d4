//! `mailseal keys refresh`: what owners have published anew of the certificates that are enrolled (the cargo feature `network`).
//!
//! Only a certificate with the fingerprint of one that is enrolled counts, and of it only what its own primary key has signed:
//! another expiry, a revocation, other subkeys. It is added to what is enrolled; nothing is taken away. So a server can keep news
//! back, and do no more.

use std::io::Write;
use std::path::Path;

use mailseal_core::cert::Fitness;
use sequoia_openpgp::Cert;

use super::{Keys, say};
use crate::cli;
use crate::console::date::day;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::{enrol, fetch};
use crate::keystore;
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::user::User;

/// What becomes of a user about whom nothing could be learnt.
const LATER: &str = "what is enrolled stays, and it is tried again the next time";

/// Where it is looked, and what is done with what is found.
#[derive(Clone, Debug, Default)]
pub struct Refresh {
    /// Whether the Web Key Directories of the users' domains are asked.
    pub wkd: bool,
    /// The keyservers that are asked: `https://` and a host.
    pub keyservers: Vec<String>,
    /// Whether it is only said what would change.
    pub dry_run: bool,
}

impl Keys<'_> {
    /// Adds to the enrolled certificates of `users`, or of all, what their owners have published since. A user about whom a
    /// server could not be asked, for whom another certificate is published, or to whose certificates no mail can be sealed any
    /// more, is named and gives [`Exit::Negative`]; the others are refreshed.
    ///
    /// # Errors
    /// [`Error::Usage`] for a keyserver without `https://`, and where certificates are enrolled in the users' homes;
    /// [`Error::KeyStore`] where the folder cannot be read.
    pub fn refresh(&self, how: &Refresh, users: &[User], out: &mut impl Write) -> Result<Exit, Error> {
        if let Some(server) = how.keyservers.iter().find(|server| !server.starts_with("https://")) {
            return Err(Error::Usage {
                what: format!("the keyserver {server} is not asked over HTTPS"),
                hint: "give it as https://HOST".into(),
            });
        }
        let mut exit = Exit::Ok;
        for entry in self.enrolled()?.entries()? {
            let Some(user) = entry.user.filter(|_| entry.is_read) else { continue };
            if !users.is_empty() && !users.contains(&user) {
                continue;
            }
            let mut complain = |error: &Error| {
                exit = Exit::Negative;
                cli::complain(cli::ADMIN, Some(user.name()), error);
            };
            if let Err(error) = self.refresh_user(&user, how, &mut complain, out) {
                complain(&error);
            }
        }
        Ok(exit)
    }

    fn refresh_user(
        &self,
        user: &User,
        how: &Refresh,
        complain: &mut dyn FnMut(&Error),
        out: &mut impl Write,
    ) -> Result<(), Error> {
        let address = self.address(user);
        let file = self.enrolled()?.file(user, self.home.as_deref())?;
        let published = how.ask(address.as_deref(), &file.load()?, complain);
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
        let changed: Vec<(&AnyCert, &AnyCert)> =
            old.iter().zip(&new).filter(|(old, new)| !is_same(old, new)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        if !how.dry_run {
            file.store(&new)?;
        }
        let verb = if how.dry_run { "would refresh" } else { "refreshed" };
        for (_, cert) in changed {
            let worth = cert.assess(self.now);
            let state = match &worth.fitness {
                Fitness::Fit => format!("expires {}", day(worth.expires)),
                other => other.to_string(),
            };
            say(out, format_args!("{verb} {} of {}: {state}", cert.fingerprint(), user.name()))?;
        }
        // It is what the owner says: it counts, and mail waits where there is nothing else.
        let pair = (&*new, &*self.recovery()?);
        enrol::test_seal(user.name(), pair, self.config.keys.preference(), &self.style(user), self.now)
            .map(drop)
    }
}

impl Refresh {
    /// What is published of `enrolled`, and with the fingerprint of one of them.
    fn ask(
        &self,
        address: Option<&str>,
        enrolled: &[AnyCert],
        complain: &mut dyn FnMut(&Error),
    ) -> Vec<Cert> {
        let enrolled: Vec<&Cert> = enrolled.iter().filter_map(AnyCert::openpgp).collect();
        let mut answers = Vec::new();
        if let Some(address) = address.filter(|_| self.wkd && !enrolled.is_empty()) {
            answers.push(fetch::published(address));
        }
        for server in &self.keyservers {
            answers.extend(
                enrolled.iter().map(|cert| fetch::from_keyserver(server, &cert.fingerprint().to_hex())),
            );
        }
        let mut found = Vec::new();
        for answer in answers {
            match answer.and_then(|answer| answer.map_or(Ok(Vec::new()), |it| of_enrolled(&it, &enrolled))) {
                Ok(certs) => found.extend(certs),
                Err(error) => complain(&unrefreshed(error)),
            }
        }
        found
    }
}

/// Those certificates of an answer that are enrolled.
fn of_enrolled((url, bytes): &fetch::Fetched, enrolled: &[&Cert]) -> Result<Vec<Cert>, Error> {
    let certs = keystore::parse(bytes, Path::new(url)).map_err(|error| match error {
        Error::KeyStore { path, what, .. } => Error::Enrol { path, what, hint: LATER.into() },
        other => other,
    })?;
    let is_enrolled = |cert: &&Cert| enrolled.iter().any(|it| it.fingerprint() == cert.fingerprint());
    let own: Vec<Cert> = certs.iter().filter_map(AnyCert::openpgp).filter(is_enrolled).cloned().collect();
    if own.is_empty() {
        let others = certs.iter().map(AnyCert::fingerprint).collect::<Vec<_>>().join(", ");
        return Err(Error::Enrol {
            path: url.into(),
            what: format!("another certificate is published there: {others}"),
            hint: "ask the owner; if it is theirs, enrol it: mailseal keys add --replace".into(),
        });
    }
    Ok(own)
}

/// The error of a server, for who has asked for nothing in particular.
fn unrefreshed(error: Error) -> Error {
    match error {
        Error::Enrol { path, what, hint } if hint.starts_with("ask the owner for") => {
            Error::Enrol { path, what, hint: format!("see whether this machine reaches the server; {LATER}") }
        }
        other => other,
    }
}

fn is_same(old: &AnyCert, new: &AnyCert) -> bool {
    let bytes = |cert: &AnyCert| any_cert::serialize(std::slice::from_ref(cert)).ok();
    bytes(old) == bytes(new)
}
