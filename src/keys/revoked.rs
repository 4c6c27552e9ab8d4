//! What authorities say of S/MIME certificates that they have revoked, by the lists that are available.

use std::path::Path;
use std::time::SystemTime;

use mailseal_core::smime::certificate::Certificate;
use mailseal_core::smime::chain::{Authorities, Untrusted};
use mailseal_core::smime::crl::{List, Revocation, Useless};
use mailseal_core::smime::fitness;

use crate::config::Keys;
use crate::error::Error;
use crate::keystore::authorities;
use crate::keystore::trust::Trust;

/// The authorities that are trusted, and lists that may be theirs.
#[derive(Debug)]
pub struct Lists {
    trusted: Authorities,
    /// Each with its file or URL.
    lists: Vec<(String, List)>,
    now: SystemTime,
}

/// What the lists say of a certificate.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Why it, or an authority on its way, is revoked; `None` where no list says so.
    pub revocation: Option<Revocation>,
    /// Whether a list of its issuer's holds on which it would be.
    pub covered: bool,
    /// Lists of an authority on its way that say nothing, and why.
    pub faults: Vec<Error>,
}

impl Lists {
    /// None yet, to be judged at the time `now`, for the authorities that are `trusted`.
    #[must_use]
    pub fn new(trusted: Authorities, now: SystemTime) -> Self {
        Self { trusted, lists: Vec::new(), now }
    }

    /// What leads from an enrolled `certificate` to an authority that is trusted, now or when it was last valid.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn way(&self, certificate: &Certificate) -> Result<Vec<Certificate>, Untrusted> {
        let at = fitness::assess(certificate, self.now).expires.min(self.now);
        self.trusted.chain(certificate, &[], at)
    }

    /// Adds the lists in a file that `keys` names.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where it cannot be read or others could have written it, [`Error::Enrol`] where it holds none.
    pub fn read(&mut self, path: &Path, keys: &Keys) -> Result<(), Error> {
        let octets = authorities::list(path, &Trust::of_process(keys.trusted_groups.ids()))?;
        self.add(&path.display().to_string(), &octets)
    }

    /// Adds the lists in `octets`, which came from the file or URL `name`.
    ///
    /// # Errors
    /// [`Error::Enrol`] where there is none, and where one is broken or too long.
    pub fn add(&mut self, name: &str, octets: &[u8]) -> Result<(), Error> {
        let lists = List::read(octets).map_err(|why| useless(name, &why))?;
        self.lists.extend(lists.into_iter().map(|list| (name.to_owned(), list)));
        Ok(())
    }

    /// What they say of `certificate`, from which `way` leads to an authority ([`Authorities::chain`]).
    #[must_use]
    pub fn judge(&self, certificate: &Certificate, way: &[Certificate]) -> Verdict {
        let mut verdict = Verdict::default();
        let issued = std::iter::once(certificate).chain(way);
        for (place, (issued, issuer)) in issued.zip(way).enumerate() {
            for (name, list) in self.lists.iter().filter(|(_, list)| list.is_of(issuer)) {
                if let Err(why) = list.check(issuer, self.now) {
                    verdict.faults.push(useless(name, &why));
                    continue;
                }
                let is_own = place == 0;
                verdict.covered |= is_own && list.covers(issued);
                let revoked = list.revokes(issued).map(|it| if is_own { it } else { it.of_issued() });
                verdict.revocation =
                    [verdict.revocation, revoked].into_iter().flatten().reduce(Revocation::worse);
            }
        }
        verdict
    }
}

fn useless(name: &str, why: &Useless) -> Error {
    let hint = match why {
        Useless::TooLong(_) => "ask the authority for shorter lists, each for a part of its certificates",
        Useless::Expired => "get the authority's newest list",
        Useless::Future => "see whether this machine's clock is right",
        Useless::Usage(_) | Useless::Kind(_) | Useless::Critical(_) | Useless::Endless => {
            "ask the authority for a plain list of its own (RFC 5280)"
        }
        _ => "get the list again from its authority, in DER or PEM",
    };
    Error::Enrol {
        path: name.into(),
        what: format!("the revocation list says nothing: {why}"),
        hint: hint.into(),
    }
}
