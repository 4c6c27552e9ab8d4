//! What the lists of authorities say of enrolled S/MIME certificates.

use std::collections::BTreeSet;

use mailseal_core::smime::certificate::Certificate;
#[cfg(feature = "network")]
use mailseal_core::smime::crl;

use super::super::Keys;
#[cfg(feature = "network")]
use super::published::Servers;
use crate::cli;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::revoked::Lists;
use crate::keystore::authorities;
use crate::keystore::trust::Trust;

/// Most places that are asked for one certificate's list: they are copies of each other.
#[cfg(feature = "network")]
const PLACES: usize = 4;

/// The lists of one run.
pub(super) struct Judge {
    lists: Lists,
    /// What was complained of, or fetched, already: it is the same for many users.
    once: BTreeSet<String>,
}

impl Keys<'_> {
    /// What S/MIME certificates are judged by, with the lists that the configuration names where `configured` says so. A list that
    /// says nothing is named, and `exit` says so.
    pub(super) fn judge(&self, configured: bool, exit: &mut Exit) -> Result<Judge, Error> {
        let keys = &self.config.keys;
        let usage = |what: &str, hint: &str| Error::Usage { what: what.into(), hint: hint.into() };
        if keys.smime_ca.is_empty() {
            return Err(usage(
                "nobody vouches for revocation lists: `smime-ca` is not set",
                "name the certificates of your users' authorities in `smime-ca`, in [keys]",
            ));
        }
        if configured && keys.smime_crl.is_empty() {
            return Err(usage(
                "there are no revocation lists: `smime-crl` is not set",
                "name the files with your authorities' lists in `smime-crl`, in [keys]",
            ));
        }
        let trust = Trust::of_process(keys.trusted_groups.ids());
        let mut lists = Lists::new(authorities::trusted(keys, &trust)?, self.now);
        for path in keys.smime_crl.iter().filter(|_| configured) {
            if let Err(error) = lists.read(path, keys) {
                *exit = Exit::Negative;
                cli::complain(cli::ADMIN, None, &error);
            }
        }
        Ok(Judge { lists, once: BTreeSet::new() })
    }
}

impl Judge {
    /// `certificate` with what the lists say of it. What they should say and do not goes to `failed`.
    pub(super) fn judged(
        &mut self,
        certificate: &Certificate,
        failed: &mut impl FnMut(Error),
    ) -> Certificate {
        let mut judged = certificate.clone();
        let Some(way) = self.way(certificate, failed) else { return judged };
        let verdict = self.lists.judge(certificate, &way);
        for fault in verdict.faults {
            if self.once.insert(fault.to_string()) {
                failed(fault);
            }
        }
        match verdict.revocation {
            Some(revocation) => judged.revoke(revocation),
            // That it is on no list takes nothing back: this list may be older than the one that it was on.
            None if verdict.covered => {}
            None => {
                let what = format!("no revocation list of {} that holds is there", certificate.issuer());
                if self.once.insert(what.clone()) {
                    failed(Error::Enrol {
                        path: certificate.fingerprint().into(),
                        what,
                        hint: "get its newest list, and name the file in `smime-crl`".into(),
                    });
                }
            }
        }
        judged
    }

    /// What leads from `certificate` to an authority, at a time when it was valid.
    fn way(&self, certificate: &Certificate, failed: &mut impl FnMut(Error)) -> Option<Vec<Certificate>> {
        let way = self.lists.way(certificate);
        way.map_err(|why| {
            failed(Error::Enrol {
                path: certificate.fingerprint().into(),
                what: format!("whether it is revoked cannot be told: {why}"),
                hint: "name the certificate of its issuer in `smime-ca`: what stands between is not kept"
                    .into(),
            });
        })
        .ok()
    }

    /// Fetches the list on which `certificate` would be, from the first place that has it, once in a run.
    #[cfg(feature = "network")]
    pub(super) fn fetch_for(
        &mut self,
        certificate: &Certificate,
        servers: &mut Servers<'_>,
        failed: &mut impl FnMut(Error),
    ) {
        // Whoever is not trusted says nowhere to go; it is told when the certificate is judged.
        if self.lists.way(certificate).is_err() {
            return;
        }
        let is_web = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        let mut errors = Vec::new();
        for url in crl::points(certificate).into_iter().filter(is_web).take(PLACES) {
            if self.once.contains(&url) {
                return;
            }
            match servers.ask_for_list(&url).and_then(|octets| self.lists.add(&url, &octets)) {
                Ok(()) => {
                    self.once.insert(url);
                    return;
                }
                Err(error) => errors.push(error),
            }
        }
        errors.into_iter().for_each(failed);
    }
}
