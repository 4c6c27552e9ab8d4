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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;
    use sequoia_openpgp::Packet;
    use sequoia_openpgp::crypto::mpi::MPI;
    use sequoia_openpgp::packet::key::{Key4, PrimaryRole, PublicParts};
    use sequoia_openpgp::packet::{Key, UserID};
    use sequoia_openpgp::serialize::SerializeInto as _;
    use sequoia_openpgp::types::{PublicKeyAlgorithm, ReasonForRevocation};
    use testing::made::{self, Forgery};

    use super::*;
    use crate::keystore::samples::refusal;

    const ALICE: &str = "Alice <alice@example.org>";

    fn search(rings: &[Vec<u8>]) -> Result<Option<Vec<Cert>>, Error> {
        let mut search = Search::new("alice@example.org", SystemTime::now());
        rings.iter().try_for_each(|ring| search.add_ring(ring, Path::new("ring")))?;
        search.finish()
    }

    fn found(ring: &[Vec<u8>]) -> Option<Vec<String>> {
        Some(search(&[ring.concat()]).unwrap()?.iter().map(made::fingerprint).collect())
    }

    fn others() -> Vec<u8> {
        ["Bob <bob@example.org>", "Malice <malice@example.org>", "alice@example.org.net", "alice@example.com"]
            .map(|user_id| made::public(&made::cert(user_id)))
            .concat()
    }

    proptest! {
        #[test]
        fn an_address_is_in_what_holds_it_in_some_case(
            address in "[abAB]{0,2}@[abAB]{0,2}", bytes in "[abAB@]{0,12}",
        ) {
            let holds = bytes.to_ascii_lowercase().contains(&address.to_ascii_lowercase());
            prop_assert_eq!(Search::new(&address, SystemTime::now()).is_in(bytes.as_bytes()), holds);
        }
    }

    #[test]
    fn the_owner_of_the_address_is_found() {
        for user_id in [ALICE, "ALICE@Example.Org", "alice@example.org", "<alice@example.org>"] {
            let alice = made::cert(user_id);
            let expected = Some(vec![made::fingerprint(&alice)]);
            assert_eq!(found(&[others(), made::public(&alice), others()]), expected, "{user_id}");
            assert_eq!(found(&[made::armored(&alice)]), expected, "{user_id}");
            assert_eq!(found(&[made::public(&alice), made::public(&alice)]), expected, "{user_id}");
            let further = made::with_user_id(made::cert("Alice <alice@example.com>"), user_id);
            assert_eq!(found(&[made::public(&further)]), Some(vec![made::fingerprint(&further)]));
        }
        assert_eq!(found(&[others()]), None);
        assert!(search(&[]).unwrap().is_none());
    }

    #[test]
    fn only_what_the_owner_signed_counts() {
        for how in [Forgery::Unsigned, Forgery::Certified, Forgery::InTheOwnersName] {
            let mallory = made::public(&made::with_forged_user_id(made::cert("Mallory"), ALICE, how));
            assert_eq!(found(std::slice::from_ref(&mallory)), None, "{how:?}");
            let alice = made::cert(ALICE);
            assert_eq!(
                found(&[mallory, made::public(&alice)]),
                Some(vec![made::fingerprint(&alice)]),
                "{how:?}"
            );
        }
    }

    #[test]
    fn a_revoked_user_id_is_none_to_be_sealed_to() {
        let alice = made::cert(ALICE);
        let moved = made::with_revoked_user_id(made::cert(ALICE), ALICE);
        // All that is left of the User ID is that it was revoked.
        let never = made::with_revoked_user_id(made::cert("Alice"), ALICE);
        let elsewhere = made::with_user_id(moved.clone(), "Alice <alice@example.com>");
        for cert in [&moved, &never, &elsewhere] {
            let refused = search(&[made::public(cert)]);
            assert!(matches!(refused, Err(Error::Core(CoreError::NoUsableKey { .. }))), "{refused:?}");
            assert_eq!(
                found(&[made::public(cert), made::public(&alice)]),
                Some(vec![made::fingerprint(&alice)])
            );
        }
        let kept = made::with_revoked_user_id(made::cert(ALICE), "Alice <alice@example.com>");
        assert_eq!(found(&[made::public(&kept)]), Some(vec![made::fingerprint(&kept)]));
    }

    #[test]
    fn of_several_none_is_chosen_but_beside_unfit_ones() {
        let [one, other] = [(); 2].map(|()| made::cert(ALICE));
        let expired = made::valid_for(ALICE, Duration::from_secs(86_400));
        for pair in [[&one, &other], [&one, &expired]] {
            let refused = search(&[pair.map(made::public).concat()]);
            match refused {
                Err(Error::Ambiguous { fingerprints, .. }) => {
                    assert_eq!(fingerprints, pair.map(made::fingerprint).join(", "));
                }
                other => panic!("{other:?}"),
            }
        }
        let revoked = made::revoked(other, ReasonForRevocation::KeyCompromised);
        let both = [&one, &revoked].map(made::fingerprint).to_vec();
        assert_eq!(found(&[made::public(&one), made::public(&revoked)]), Some(both));
        assert_eq!(found(&[made::public(&expired)]), Some(vec![made::fingerprint(&expired)]));
    }

    #[test]
    fn what_cannot_be_read_is_not_nothing() {
        let alice = made::cert(ALICE);
        let ring = [others(), made::public(&alice)].concat();
        let cut = ring[..others().len() + 20].to_vec();
        for broken in [Vec::new(), b"no keyring".to_vec(), cut, others()[..100].to_vec()] {
            let what = search(std::slice::from_ref(&broken)).map_err(|error| error.to_string()).unwrap_err();
            assert!(what.contains("cannot be read"), "{what}");
        }
        let doubted = [others()[..100].to_vec(), made::public(&alice)];
        assert_eq!(
            search(&doubted).unwrap().unwrap()[0].fingerprint(),
            alice.fingerprint(),
            "it is found all the same"
        );
    }

    /// A certificate of an algorithm that signs nothing here, with the address in it.
    fn unknown(algorithm: PublicKeyAlgorithm, mpis: PublicKey) -> Vec<u8> {
        let key = Key4::<PublicParts, PrimaryRole>::new(made::birth(), algorithm, mpis).unwrap();
        let packets = vec![Packet::from(Key::V4(key)), UserID::from(ALICE).into()];
        let cert = Cert::try_from(packets).unwrap();
        assert!(!can_check(&cert));
        cert.to_vec().unwrap()
    }

    #[test]
    fn signatures_that_cannot_be_checked_are_a_doubt() {
        let q = MPI::new(&[0x40; 33]);
        let curve = Curve::Unknown(vec![1, 2, 3].into());
        for unknown in [
            unknown(PublicKeyAlgorithm::EdDSA, PublicKey::EdDSA { curve: curve.clone(), q: q.clone() }),
            unknown(PublicKeyAlgorithm::ECDSA, PublicKey::ECDSA { curve, q: q.clone() }),
            unknown(
                PublicKeyAlgorithm::Unknown(99),
                PublicKey::Unknown { mpis: vec![q].into(), rest: Vec::new().into() },
            ),
        ] {
            assert!(refusal(search(std::slice::from_ref(&unknown))).contains("cannot be checked"));
            let alice = made::cert(ALICE);
            assert_eq!(found(&[unknown, made::public(&alice)]), Some(vec![made::fingerprint(&alice)]));
        }
        let known = made::cert("Bob");
        assert!(can_check(&known));
    }
}
