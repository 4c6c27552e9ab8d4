//! Finds the one certificate of an address among the many of a keyring.
//!
//! Raw bytes are searched for the address first, and only what holds it is parsed. Only a User ID counts that its
//! certificate's owner has signed: anybody can put an address into somebody's keyring. What cannot be read or checked
//! may be the certificate that is looked for, and so is no reason to say that there is none.

use std::path::Path;
use std::time::SystemTime;

use mailseal_core::cert::{Fitness, assess};
use mailseal_core::classify::packets;
use mailseal_core::error::Error as CoreError;
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::raw::RawCertParser;
use sequoia_openpgp::crypto::mpi::PublicKey;
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::{Curve, RevocationStatus};

use crate::error::Error;

/// A search for the certificates of an address.
#[derive(Debug)]
pub struct Search<'a> {
    address: &'a str,
    now: SystemTime,
    found: Vec<Cert>,
    doubt: Option<Error>,
}

impl<'a> Search<'a> {
    /// Searches for `address`, without regard to case as GnuPG does.
    #[must_use]
    pub fn new(address: &'a str, now: SystemTime) -> Self {
        Self { address, now, found: Vec::new(), doubt: None }
    }

    /// Looks at the certificates in `bytes`, binary or armored, read from `path`.
    ///
    /// # Errors
    /// [`Error::KeyStore`] when a certificate with the address, or the whole, cannot be read.
    pub fn add_ring(&mut self, bytes: &[u8], path: &Path) -> Result<(), Error> {
        // What is armored shows its address only when it is read.
        if !self.is_in(bytes) && packets::are_whole(bytes) {
            return Ok(());
        }
        let mut empty = true;
        for raw in RawCertParser::from_bytes(bytes).map_err(|error| unreadable(path, &error))? {
            empty = false;
            match raw {
                Ok(raw) if self.is_in(raw.as_bytes()) => {
                    self.add(Cert::try_from(raw).map_err(|error| unreadable(path, &error))?, path);
                }
                Ok(_) => {}
                // It may be somebody else's.
                Err(error) => self.doubt(unreadable(path, &error)),
            }
        }
        if empty {
            self.doubt(unreadable(path, &"there is none in the file"));
        }
        Ok(())
    }

    /// Keeps in mind why the certificate may be there although it is not found: only then it is an error.
    pub fn doubt(&mut self, error: Error) {
        self.doubt.get_or_insert(error);
    }

    fn add(&mut self, cert: Cert, path: &Path) {
        let named: Vec<_> = cert
            .userids()
            .filter(|user_id| {
                let address = user_id.userid().email().ok().flatten();
                address.is_some_and(|address| address.eq_ignore_ascii_case(self.address))
            })
            .collect();
        let mine = named.iter().any(|user_id| {
            user_id.self_signatures().next().is_some() || user_id.self_revocations().next().is_some()
        });
        if !mine {
            if !named.is_empty() && !can_check(&cert) {
                let why = format!("{}: its signatures cannot be checked here", cert.fingerprint());
                self.doubt(unreadable(path, &why));
            }
            return;
        }
        super::merge(&mut self.found, [cert]);
    }

    /// The certificates that were found, all of one owner; `None` when there are none.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] when several are not unfit, [`CoreError::NoUsableKey`] when the owner has revoked the User ID in
    /// all of them, and [`Error::KeyStore`] when there are none but something could not be read or checked.
    pub fn finish(self) -> Result<Option<Vec<Cert>>, Error> {
        if self.found.is_empty() {
            return self.doubt.map_or(Ok(None), Err);
        }
        let (active, revoked): (Vec<_>, Vec<_>) =
            self.found.iter().cloned().partition(|cert| is_active(cert, self.address, self.now));
        if active.is_empty() {
            let why = revoked.iter().map(|cert| format!("{}: its User ID is revoked", cert.fingerprint()));
            let why = why.collect::<Vec<_>>().join("; ");
            return Err(CoreError::NoUsableKey { user: self.address.into(), why }.into());
        }
        // An expired one counts: a newer one with the address may be anybody's.
        let of = |cert: &&Cert| !matches!(assess(cert, self.now).fitness, Fitness::Unfit(_));
        let candidates: Vec<_> = active.iter().filter(of).map(|cert| cert.fingerprint().to_hex()).collect();
        if candidates.len() > 1 {
            let fingerprints = candidates.join(", ");
            return Err(Error::Ambiguous { address: self.address.into(), fingerprints });
        }
        Ok(Some(active))
    }

    /// Whether the address occurs in `bytes`, in any case.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let wanted = self.address.as_bytes();
        // An address is only taken with its `@`, the rarest of its characters.
        let at = wanted.iter().position(|byte| *byte == b'@').unwrap_or_default();
        memchr::memchr_iter(b'@', bytes).any(|found| {
            found
                .checked_sub(at)
                .and_then(|start| bytes.get(start..start + wanted.len()))
                .is_some_and(|candidate| candidate.eq_ignore_ascii_case(wanted))
        })
    }
}

/// Whether a User ID with `address` is not revoked.
fn is_active(cert: &Cert, address: &str, now: SystemTime) -> bool {
    let policy = StandardPolicy::new();
    cert.userids()
        .filter(|user_id| {
            user_id.userid().email().ok().flatten().is_some_and(|other| other.eq_ignore_ascii_case(address))
        })
        .any(|user_id| !matches!(user_id.revocation_status(&policy, now), RevocationStatus::Revoked(_)))
}

/// Whether this build knows the algorithm with which the certificate's owner signs.
fn can_check(cert: &Cert) -> bool {
    let key = cert.primary_key().key();
    let curve = match key.mpis() {
        PublicKey::ECDSA { curve, .. } | PublicKey::EdDSA { curve, .. } => Some(curve),
        _ => None,
    };
    key.pk_algo().is_supported() && curve.is_none_or(Curve::is_supported)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::KeyStore {
        path: path.into(),
        what: format!("what may be the user's certificate cannot be read: {error}"),
        hint: "export it again, or enrol it with `mailseal keys add`".into(),
    }
}
