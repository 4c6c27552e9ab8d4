//! Finds the one certificate of an address among the many of a keyring.
//!
//! Raw bytes are searched for the address first, and only what holds it is parsed. Only a User ID counts that its
//! certificate's owner has signed: anybody can put an address into somebody's keyring. What cannot be read or checked
//! may be the certificate that is looked for, and so is no reason to say that there is none.
//!
//! There are two ways through a ring. The quick one goes from header to header, and gives what holds the address to sequoia.
//! It answers only where the slow one, which has sequoia take the whole ring apart, could not answer otherwise. Else the
//! slow one judges.

use std::path::Path;
use std::time::SystemTime;

use mailseal_core::cert::{Fitness, assess};
use mailseal_core::classify::{Stop, packets};
use mailseal_core::error::Error as CoreError;
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::amalgamation::UserIDAmalgamation;
use sequoia_openpgp::cert::raw::RawCertParser;
use sequoia_openpgp::crypto::mpi::PublicKey;
use sequoia_openpgp::packet::UserID;
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::{Curve, RevocationStatus};

use super::safe_file::KeyFile;
use super::user::{domain_forms, is_same_address};
use crate::error::Error;

/// A search for the certificates of an address.
#[derive(Debug)]
pub struct Search<'a> {
    address: &'a str,
    /// The address as it may be written: as it was given, and with its domain in ASCII and in Unicode.
    written: Vec<String>,
    /// What is there, in some case, wherever the address is, with an `@` in it.
    marks: Vec<String>,
    now: SystemTime,
    found: Vec<Cert>,
    doubt: Option<Error>,
    /// Why a certificate may be the owner's although its User ID does not say so in the usual form.
    unclear: Option<Error>,
}

impl<'a> Search<'a> {
    /// Searches for `address`, without regard to case as GnuPG does, in whichever form its domain is written.
    #[must_use]
    pub fn new(address: &'a str, now: SystemTime) -> Self {
        let mut written = vec![address.to_owned()];
        for form in domain_forms(address) {
            if !written.iter().any(|other| other.eq_ignore_ascii_case(&form)) {
                written.push(form);
            }
        }
        let mut marks: Vec<String> = written.iter().map(|form| mark(form).to_owned()).collect();
        marks.sort();
        marks.dedup();
        Self { address, written, marks, now, found: Vec::new(), doubt: None, unclear: None }
    }

    /// Looks at the certificates in `bytes`, binary or armored, read from `path`.
    ///
    /// # Errors
    /// [`Error::KeyStore`] when a certificate with the address, or the whole, cannot be read.
    pub fn add_ring(&mut self, bytes: &[u8], path: &Path) -> Result<(), Error> {
        let mut quick = Quick::default();
        let done = quick.take(self, bytes, true, path).is_some();
        if done && quick.answers(self) { Ok(()) } else { self.add_slowly(bytes, path) }
    }

    /// [`Search::add_ring`] for a ring that is read in pieces.
    ///
    /// # Errors
    /// As [`Search::add_ring`], and those of [`KeyFile::in_pieces`].
    pub fn add_file(&mut self, ring: &KeyFile) -> Result<(), Error> {
        let mut quick = Quick::default();
        let done = ring.in_pieces(|piece, last| Ok(quick.take(self, piece, last, ring.path())))?;
        if done && quick.answers(self) { Ok(()) } else { self.add_slowly(&ring.read()?, ring.path()) }
    }

    fn add_slowly(&mut self, bytes: &[u8], path: &Path) -> Result<(), Error> {
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
        let named: Vec<_> = cert.userids().filter(|user_id| self.is_named_by(user_id.userid())).collect();
        let mine = named.iter().any(|user_id| {
            user_id.self_signatures().next().is_some() || user_id.self_revocations().next().is_some()
        });
        if !mine {
            if let Some(user_id) = cert.userids().find(|user_id| self.may_be_named_by(user_id)) {
                let shown = String::from_utf8_lossy(user_id.userid().value());
                let why = format!(
                    "{}: whether its User ID {shown:?} is this address is not clear",
                    cert.fingerprint()
                );
                self.unclear.get_or_insert(unclear(path, &why));
            }
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
    /// [`Error::KeyStore`] when it is not clear whether a certificate is the owner's, and when there are none but something could not
    /// be read or checked; [`Error::Ambiguous`] when several are not unfit, [`CoreError::NoUsableKey`] when the owner has revoked the
    /// User ID in all of them.
    pub fn finish(self) -> Result<Option<Vec<Cert>>, Error> {
        if let Some(error) = self.unclear {
            return Err(error);
        }
        if self.found.is_empty() {
            return self.doubt.map_or(Ok(None), Err);
        }
        let (active, revoked): (Vec<_>, Vec<_>) =
            self.found.iter().cloned().partition(|cert| self.is_active(cert));
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

    /// Whether the User ID has the address.
    fn is_named_by(&self, user_id: &UserID) -> bool {
        let address = user_id.email().ok().flatten();
        address.is_some_and(|address| is_same_address(self.address, address))
    }

    /// Whether the owner has signed a User ID that gives no address, and has this one in it.
    fn may_be_named_by(&self, user_id: &UserIDAmalgamation<'_>) -> bool {
        let gives_none = !matches!(user_id.userid().email(), Ok(Some(_)));
        gives_none && user_id.self_signatures().next().is_some() && self.stands_in(user_id.userid().value())
    }

    /// Whether the address stands in `text`, and is not the end or the beginning of another one.
    fn stands_in(&self, text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        let mut words =
            text.split(|letter: char| letter.is_whitespace() || r#"<>()[]{},;:"'"#.contains(letter));
        words.any(|word| is_same_address(self.address, word))
    }

    /// Whether a User ID with the address is not revoked.
    fn is_active(&self, cert: &Cert) -> bool {
        let policy = StandardPolicy::new();
        cert.userids().filter(|user_id| self.is_named_by(user_id.userid())).any(|user_id| {
            !matches!(user_id.revocation_status(&policy, self.now), RevocationStatus::Revoked(_))
        })
    }

    /// The address as it may be written.
    pub fn written(&self) -> &[String] {
        &self.written
    }

    /// Whether the address may be in `bytes`, in any case.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.marks.iter().any(|mark| occurs(mark.as_bytes(), bytes))
    }
}

/// The quick way through one ring.
#[derive(Debug, Default)]
struct Quick {
    /// There is a certificate in the ring.
    any: bool,
    /// One of them holds the address.
    matched: bool,
}

impl Quick {
    /// Adds the certificates of a `piece` that hold the address to `search`. A piece begins where the one before was taken up
    /// to; `last` tells that the ring ends with this one. Answers how much of it was taken, or `None` where the slow way is
    /// to judge the ring.
    fn take(&mut self, search: &mut Search<'_>, piece: &[u8], last: bool, path: &Path) -> Option<usize> {
        let mut rest = piece;
        // What reaches into the next certificate is in neither of them, but in the ring.
        let longest = search.marks.iter().map(String::len).max().unwrap_or_default();
        let beyond = longest.saturating_sub(1);
        while !rest.is_empty() {
            let length = match packets::certificate(rest) {
                Ok(length) if last || rest.len() - length > beyond => length,
                Ok(_) | Err(Stop::Cut) if !last => break,
                _ => return None,
            };
            self.any = true;
            if search.is_in(&rest[..rest.len().min(length + beyond)]) {
                self.matched = true;
                let cert = only(&rest[..length]).filter(|_| search.is_in(&rest[..length]))?;
                search.add(cert, path);
            }
            rest = &rest[length..];
        }
        Some(piece.len() - rest.len())
    }

    /// Whether the slow way could not answer otherwise. Where there is the address and nothing was found, it could doubt
    /// somebody else's certificate; once something is found, no doubt counts.
    fn answers(&self, search: &Search<'_>) -> bool {
        self.any && !(self.matched && search.found.is_empty())
    }
}

/// The certificate in `bytes`, where sequoia takes all of them for one.
fn only(bytes: &[u8]) -> Option<Cert> {
    let mut certs = RawCertParser::from_bytes(bytes).ok()?;
    let cert = Cert::try_from(certs.next()?.ok()?).ok()?;
    certs.next().is_none().then_some(cert)
}

/// The part of `address` that is the same, but for the case of ASCII letters, in whatever form the address is written: without a
/// domain or a local part in Unicode.
fn mark(address: &str) -> &str {
    let at = address.rfind('@').unwrap_or_default();
    let start = if address[..at].is_ascii() { 0 } else { at };
    let end = if address[at..].is_ascii() { address.len() } else { at + 1 };
    &address[start..end]
}

/// Whether `address` occurs in `bytes`, in any case.
fn occurs(address: &[u8], bytes: &[u8]) -> bool {
    // An address is only taken with its `@`, the rarest of its characters.
    let at = address.iter().position(|byte| *byte == b'@').unwrap_or_default();
    memchr::memchr_iter(b'@', bytes).any(|found| {
        found
            .checked_sub(at)
            .and_then(|start| bytes.get(start..start + address.len()))
            .is_some_and(|candidate| candidate.eq_ignore_ascii_case(address))
    })
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

/// That a certificate may be the user's, and does not say so in a way that programs agree on.
fn unclear(path: &Path, why: &str) -> Error {
    Error::KeyStore {
        path: path.into(),
        what: format!("what may be the user's certificate is not told from another's: {why}"),
        hint: "enrol the right one: gpg --export FINGERPRINT | mailseal keys add USER -; or have its owner write the User ID as Name <address>"
            .into(),
    }
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
    use std::mem::Discriminant;
    use std::sync::OnceLock;
    use std::time::{Duration, SystemTime};

    use mailseal_core::openpgp::header::read_header;
    use proptest::prelude::*;
    use sequoia_openpgp::cert::CipherSuite;
    use sequoia_openpgp::crypto::mpi::MPI;
    use sequoia_openpgp::packet::Key;
    use sequoia_openpgp::packet::key::{Key4, PrimaryRole, PublicParts};
    use sequoia_openpgp::serialize::SerializeInto as _;
    use sequoia_openpgp::types::{PublicKeyAlgorithm, ReasonForRevocation};
    use sequoia_openpgp::{Packet, Profile};
    use testing::made::{self, Forgery};

    use super::*;
    use crate::keystore::samples::refusal;
    use crate::keystore::source::Place;
    use crate::keystore::trust::Trust;

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
    fn a_domain_may_be_written_in_ascii_or_in_unicode() {
        let (ascii, unicode) = ("bob@xn--bcher-kva.example", "bob@b\u{fc}cher.example");
        for user_id in [ascii, unicode] {
            let bob = made::cert(&format!("Bob <{user_id}>"));
            let ring = [made::public(&bob), others()].concat();
            for address in [ascii, unicode, "Bob@xn--Bcher-KVA.example"] {
                let mut search = Search::new(address, SystemTime::now());
                search.add_ring(&ring, Path::new("ring")).unwrap();
                let found = search.finish().unwrap().expect("it is there");
                assert_eq!(found[0].fingerprint(), bob.fingerprint(), "{user_id} for {address}");
            }
        }
    }

    #[test]
    fn a_user_id_in_no_usual_form_is_a_doubt() {
        let mallory = made::public(&made::cert("Mallory <alice@example.org>"));
        for user_id in [
            "Alice <alice@example.org> (work)",
            "Alice alice@example.org",
            "alice@example.org (Alice)",
            "Alice [alice@example.org]",
            "Alice < alice@example.org >",
            "<mailto:alice@example.org>",
            "Alice <alice@example.org",
        ] {
            let alice = made::public(&made::cert(user_id));
            for ring in [alice.clone(), [&alice[..], &mallory].concat(), [&mallory[..], &alice].concat()] {
                let said = refusal(search(&[ring]));
                assert!(said.contains("not told from another's"), "{user_id}: {said}");
            }
        }
        for user_id in [
            "malice@example.org junk (",
            "Bob alice@example.org.net (",
            "Bob (not alice@example.org) <bob@example.org>",
        ] {
            assert_eq!(found(&[made::public(&made::cert(user_id))]), None, "{user_id}");
        }
        let forged =
            made::with_forged_user_id(made::cert("Mallory"), "Alice alice@example.org", Forgery::Unsigned);
        assert_eq!(found(&[made::public(&forged)]), None, "anybody can put that into a ring");
    }

    #[test]
    fn an_address_in_unicode_is_found_in_any_case_and_form() {
        let is_found = |user_id: &str, address: &str| {
            let ring = [others(), made::public(&made::cert(user_id))].concat();
            let mut search = Search::new(address, SystemTime::now());
            search.add_ring(&ring, Path::new("ring")).unwrap();
            search.finish().unwrap().is_some()
        };
        for user_id in
            ["bob@B\u{dc}CHER.example", "bob@bu\u{308}cher.example", "bob@b\u{fc}cher\u{3002}example"]
        {
            for address in ["bob@b\u{fc}cher.example", "bob@xn--bcher-kva.example"] {
                assert!(is_found(user_id, address), "{user_id} for {address}");
            }
        }
        assert!(is_found("ZO\u{cb}@example.org", "zo\u{eb}@example.org"));
        assert!(!is_found("mike@example.org", "mi\u{212a}e@example.org".replace('\u{212a}', "c").as_str()));
        assert!(!is_found("ali\u{212a}e@example.org", "alike@example.org"), "its letters are others");
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

    /// The same packets with headers in the old format, where it has their types, and one more behind each.
    fn rewritten(cert: &[u8], old_format: bool, behind: &[u8]) -> Vec<u8> {
        let (mut rest, mut out) = (cert, Vec::new());
        while let Some((tag, length)) = read_header(&mut rest).unwrap() {
            let (body, after) = rest.split_at(length.first_part() as usize);
            let length = body.len() as u32;
            if old_format && tag < 16 {
                out.push(0x82 | tag << 2);
            } else {
                out.extend([0xc0 | tag, 255]);
            }
            out.extend([&length.to_be_bytes(), body, behind].concat());
            rest = after;
        }
        out
    }

    const TRUST: [u8; 4] = [0xb0, 2, 0, 3];
    const MARKER: [u8; 5] = [0xca, 3, b'P', b'G', b'P'];

    /// A key of version 3, which nobody reads any more, with a User ID.
    fn of_version_3(user_id: &str) -> Vec<u8> {
        let key = [&[0x99, 0, 14, 3][..], &[0; 6], &[1, 0, 8, 255, 0, 2, 3]].concat();
        [&key[..], &[0xb4, user_id.len() as u8], user_id.as_bytes()].concat()
    }

    /// What rings are made of: certificates of the owner and of others, and what is none.
    fn parts() -> &'static [Vec<u8>] {
        static PARTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        PARTS.get_or_init(|| {
            let (alice, bob) = (made::cert(ALICE), made::cert("Bob <bob@example.org>"));
            let joalice = made::cert("Joalice <joalice@example.org>");
            let forged = |how| made::with_forged_user_id(made::cert("Mallory"), ALICE, how);
            let q = MPI::new(&[0x40; 33]);
            let unknown_curve = PublicKey::EdDSA { curve: Curve::Unknown(vec![1, 2, 3].into()), q };
            let public = made::public(&alice);
            vec![
                public.clone(),
                made::public(&bob),
                made::public(&joalice),
                made::public(&made::cert(ALICE)),
                made::public(&made::of(CipherSuite::Cv25519, Profile::RFC9580, ALICE)),
                made::public(&made::with_revoked_user_id(alice.clone(), ALICE)),
                made::public(&forged(Forgery::Unsigned)),
                made::public(&forged(Forgery::Certified)),
                made::secret(&alice),
                made::secret(&bob),
                made::armored(&alice),
                made::armored(&bob),
                rewritten(&public, true, &TRUST),
                rewritten(&public, false, &MARKER),
                rewritten(&made::public(&bob), true, &TRUST),
                rewritten(&public, false, &[0xfc, 1, 7]),
                unknown(PublicKeyAlgorithm::EdDSA, unknown_curve),
                of_version_3("Bob"),
                of_version_3(ALICE),
                public[..public.len() - 9].to_vec(),
                public[30..].to_vec(),
                MARKER.to_vec(),
                TRUST.to_vec(),
                b"junk alice@example.org".to_vec(),
                b"alice@exam".to_vec(),
                b"ple.org".to_vec(),
                // Packets of unknown types, in parts, without an end, and of a message.
                vec![0xfc, 2, 1, 2],
                vec![0xcd, 0xe1, b'a', b'b', 1, b'c'],
                vec![0xb7, 1, 2, 3],
                vec![0xcb, 8, b'b', 0, 0, 0, 0, 0, b'h', b'i'],
            ]
        })
    }

    /// What is known of a ring: the certificates, or that there are none, or the kind of the error.
    fn verdict(
        added: Result<(), Error>,
        search: Search<'_>,
    ) -> Result<Option<Vec<Cert>>, Discriminant<Error>> {
        added.and_then(|()| search.finish()).map_err(|error| std::mem::discriminant(&error))
    }

    fn anew<'a>() -> Search<'a> {
        Search::new("alice@example.org", made::birth() + 9 * made::DAY)
    }

    /// The quick way where `size` octets are read at once; whether it answered.
    fn in_pieces(search: &mut Search<'_>, ring: &[u8], size: usize) -> bool {
        let (mut quick, mut start, mut end) = (Quick::default(), 0, 0);
        while end < ring.len() {
            end = ring.len().min(end + size.max(end - start));
            match quick.take(search, &ring[start..end], end == ring.len(), Path::new("ring")) {
                Some(taken) => start += taken,
                None => return false,
            }
        }
        quick.answers(search)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: ProptestConfig::default().cases.max(1000), ..ProptestConfig::default() })]

        #[test]
        fn the_quick_way_answers_as_the_slow_one(
            chosen in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
            flip in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
            size in 1..2000_usize,
        ) {
            let mut ring: Vec<u8> = chosen.iter().flat_map(|index| index.get(parts()).clone()).collect();
            if let Some(cut) = cut {
                ring.truncate(cut.index(ring.len() + 1));
            }
            if let (Some((at, octet)), false) = (flip, ring.is_empty()) {
                let at = at.index(ring.len());
                ring[at] = octet;
            }
            let path = Path::new("ring");
            let mut slow = anew();
            let added = slow.add_slowly(&ring, path);
            let slow = verdict(added, slow);
            let mut quick = anew();
            let added = quick.add_ring(&ring, path);
            prop_assert_eq!(&verdict(added, quick), &slow);
            // It may have added what it answers nothing about: the slow one goes over that again.
            let mut pieces = anew();
            let answers = in_pieces(&mut pieces, &ring, size);
            let added = if answers { Ok(()) } else { pieces.add_slowly(&ring, path) };
            prop_assert_eq!(&verdict(added, pieces), &slow);
        }
    }

    #[test]
    fn rings_as_they_are_go_the_quick_way() {
        let [alice, bob] = [ALICE, "Bob <bob@example.org>"].map(|it| made::public(&made::cert(it)));
        let with_trust =
            |old_format| [&bob, &alice, &bob].map(|it| rewritten(it, old_format, &TRUST)).concat();
        let beside_old = [bob.clone(), of_version_3("Bob"), alice.clone()].concat();
        for (ring, answers) in [
            (with_trust(true), true),
            (with_trust(false), true),
            (beside_old, true),
            (bob.repeat(2), true),
            ([of_version_3("Bob"), bob.clone()].concat(), true),
            // The address is there, and nothing of its owner's: it could be in what cannot be read.
            (made::public(&made::cert("joalice@example.org")), false),
            ([&bob[..], &alice[..90]].concat(), false),
            ([&MARKER[..], &alice].concat(), false),
            (Vec::new(), false),
        ] {
            for size in [1, 50, 1 << 20] {
                assert_eq!(in_pieces(&mut anew(), &ring, size), answers, "{size}: {ring:02x?}");
            }
        }
    }

    /// The last octets of one certificate and the first ones of the next can be an address by chance; the slow way then looks at
    /// all of them.
    #[test]
    fn an_address_over_two_certificates_is_seen() {
        let address = "a@\u{189}";
        let ring = [&of_version_3("a@"), &[0xc6, 0x89][..], &of_version_3("Bob")[2..]].concat();
        for size in [1, 7, 100] {
            let mut search = Search::new(address, SystemTime::now());
            assert!(search.is_in(&ring));
            assert!(!in_pieces(&mut search, &ring, size));
        }
    }

    #[test]
    fn a_ring_is_read_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        let place = Place::named(path.clone(), Trust::of_process(&[]));
        let [alice, bob] = [ALICE, "Bob"].map(made::cert);
        let [many, alice] = [made::public(&bob).repeat(1500), made::public(&alice)];
        let big = made::public(&made::flooded(bob, 2000));
        for (ring, found) in [
            ([&many[..], &alice].concat(), true),
            ([&big[..], &alice, &many].concat(), true),
            ([&many[..], &big].concat(), false),
            ([&many[..], b"junk", &alice, &many].concat(), true),
        ] {
            assert!(ring.len() > 600_000, "{}", ring.len());
            std::fs::write(&path, &ring).unwrap();
            let mut search = anew();
            let file = KeyFile::open(&place, ring.len() as u64).unwrap().unwrap();
            search.add_file(&file).unwrap();
            assert_eq!(search.finish().unwrap().is_some(), found);
            let file = KeyFile::open(&place, ring.len() as u64 - 1).unwrap().unwrap();
            assert!(refusal(anew().add_file(&file)).contains("larger than"));
        }
    }
}
