//! Edge: What owners of OpenPGP certificates have published since (the cargo feature `network`).
//!
//! Only a certificate with the fingerprint of one that is enrolled counts.

use std::collections::BTreeSet;
use std::path::Path;

use sequoia_openpgp::Cert;

use super::Refresh;
use crate::cli;
use crate::error::Error;
use crate::keys::fetch::{self, Failure, Fetched};
use crate::keystore;
use crate::keystore::any_cert::AnyCert;
use crate::keystore::user::User;

/// What to do where nothing could be learnt of a user.
const LATER: &str = "see whether this machine reaches the server; what is enrolled stays, and it is tried again the next time";

/// The servers of one run.
pub(super) struct Servers<'a> {
    how: &'a Refresh,
    /// Those that did not answer: domains and keyservers. They are not waited for again.
    silent: BTreeSet<String>,
}

impl<'a> Servers<'a> {
    pub(super) fn new(how: &'a Refresh) -> Self {
        Self { how, silent: BTreeSet::new() }
    }

    /// The revocation list at `url`.
    pub(super) fn ask_for_list(&mut self, url: &str) -> Result<Vec<u8>, Error> {
        let host = url.split('/').nth(2).unwrap_or_default();
        let found = self.ask_one(host, || fetch::list(url))?;
        found.map(|(_, octets)| octets).ok_or_else(|| Error::Enrol {
            path: url.into(),
            what: "there is no revocation list".into(),
            hint: "ask the authority, which names this place in its certificates".into(),
        })
    }

    /// What is published with the fingerprint of a certificate in `enrolled`. What could not be learnt goes to `failed`.
    pub(super) fn ask(
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
