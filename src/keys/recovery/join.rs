//! Joins shares, and proves that they give the key that they are of.

use mailseal_core::error::Error as CoreError;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::{Cert, Fingerprint, Packet};
use zeroize::Zeroizing;

use super::certificate;
use super::given::Given;
use super::secret::Secret;
use super::share::{Share, combine};
use crate::error::Error;

/// The key that all of `given` are shares of, with its secret parts; where it is said, the one with the fingerprint `of`.
///
/// Each share is proven: enough of them give a key with the fingerprint that they name, and each of the others gives the same key
/// in the place of one of these.
///
/// # Errors
/// [`Error::Shares`] where they are of different keys, or of another one, too few, twice the same, or do not give the key.
pub fn join(given: &[Given], of: Option<&Fingerprint>) -> Result<Cert, Error> {
    check(given, of)?;
    let Some(set) = given.first().map(|first| first.share.set) else { return Err(none()) };
    let (base, more) = given.split_at(usize::from(set.threshold));
    let base: Vec<&Share> = base.iter().map(|given| &given.share).collect();
    let secret = combine(&base).ok_or_else(none)?;
    let key = key(&secret, set.threshold, set.shares)?;
    if !set.is_of(&key.fingerprint()) || of.is_some_and(|of| *of != key.fingerprint()) {
        return Err(Error::Shares {
            what: format!("{} do not give the key {}…", names(&given[..base.len()]), set.id()),
            hint: "one of them was forged: its own checksum is right; try other shares of the same key"
                .into(),
        });
    }
    for extra in more {
        let mut others = base.clone();
        others[0] = &extra.share;
        if combine(&others).is_none_or(|other| other.octets() != secret.octets()) {
            return Err(Error::Shares {
                what: format!("{} does not fit the others, which give the key", extra.name()),
                hint: "it was forged: its own checksum is right; leave it out, and find out who made it"
                    .into(),
            });
        }
    }
    Ok(key)
}

/// The key that `secret` gives, under the name that its certificate has.
pub fn key(secret: &Secret, threshold: u8, shares: u8) -> Result<Cert, Error> {
    secret.key(&certificate::name(threshold, shares))
}

fn check(given: &[Given], of: Option<&Fingerprint>) -> Result<(), Error> {
    let refused = |what: String, hint: &str| Err(Error::Shares { what, hint: hint.into() });
    let Some(first) = given.first() else { return Err(none()) };
    let set = first.share.set;
    for (nth, other) in given.iter().enumerate() {
        if let Some(of) = of.filter(|of| !other.share.set.is_of(of)) {
            let what = format!("{} is of the key {}…, and not of {of:X}", other.name(), other.share.set.id());
            return refused(what, "give shares of this certificate: their pages show its fingerprint");
        }
        if !set.is_of_same(&other.share.set) {
            let (this, that) = (set.id(), other.share.set.id());
            let what = format!("{} is of the key {this}…, {} of the key {that}…", first.name(), other.name());
            return refused(what, "give shares of one key: their pages show its fingerprint");
        }
        if set != other.share.set {
            let what = format!("{} and {} do not agree on what they are of", first.name(), other.name());
            return refused(what, "one of them was forged: its own checksum is right; take other shares");
        }
        let same_number = |it: &&Given| it.share.number == other.share.number;
        if let Some(before) = given[..nth].iter().find(same_number) {
            if before.share.is_same(&other.share) {
                let what = format!("{} and {} are the same share", before.name(), other.name());
                return refused(what, "give each share once, and another one in its place");
            }
            let what = format!("{} and {} have one number, and differ", before.name(), other.name());
            return refused(what, "one of them was forged: its own checksum is right; take other shares");
        }
    }
    if given.len() < usize::from(set.threshold) {
        let what = format!("{} of the {} shares that are needed were given", given.len(), set.threshold);
        return refused(what, &format!("give {} more", usize::from(set.threshold) - given.len()));
    }
    Ok(())
}

fn none() -> Error {
    Error::Shares {
        what: "no share was given".into(),
        hint: "name files with --share, or type the lines of each page on standard input".into(),
    }
}

fn names(given: &[Given]) -> String {
    given.iter().map(Given::name).collect::<Vec<_>>().join(", ")
}

/// The subkey that decrypts, serialized for [`crate::keys::secret::files::KeyFiles::import`].
///
/// # Errors
/// [`CoreError::OpenPgp`].
pub fn decryption_keys(key: &Cert) -> Result<Zeroizing<Vec<Vec<u8>>>, Error> {
    let packets = key.keys().subkeys().secret().map(|subkey| Packet::SecretSubkey(subkey.key().clone()));
    let octets =
        packets.map(|packet| packet.to_vec()).collect::<Result<_, _>>().map_err(CoreError::OpenPgp)?;
    Ok(Zeroizing::new(octets))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::keys::recovery::share::{Set, split};

    /// Shares of a new key, `k` of `n`.
    fn made(n: u8, k: u8) -> (Cert, Vec<Given>) {
        let secret = Secret::new(SystemTime::now()).unwrap();
        let key = key(&secret, k, n).unwrap();
        let set = Set::new(&key.fingerprint(), &secret, n, k).unwrap();
        let given = split(&secret, set).into_iter();
        (key, given.map(|share| Given { place: "a file".into(), share }).collect())
    }

    fn again(given: &[Given], which: &[usize]) -> Vec<Given> {
        let copy = |nth: &usize| Given {
            place: format!("file {nth}"),
            share: Share::parse(&given[*nth].share.code()).unwrap(),
        };
        which.iter().map(copy).collect()
    }

    #[test]
    fn enough_shares_in_any_order_give_the_key() {
        let (key, given) = made(5, 3);
        for which in [&[0, 1, 2][..], &[4, 2, 0], &[1, 3, 4], &[4, 3, 2, 1, 0], &[0, 4, 1, 2]] {
            for of in [None, Some(&key.fingerprint())] {
                let joined = join(&again(&given, which), of).unwrap();
                assert_eq!(joined.fingerprint(), key.fingerprint());
                assert_eq!(joined.keys().secret().count(), 2);
                assert_eq!(decryption_keys(&joined).unwrap().len(), 1);
            }
        }
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_own_words() {
        let (key, given) = made(5, 3);
        let (other, foreign) = made(5, 3);
        let (of, of_other) = (key.fingerprint(), other.fingerprint());
        let mixed = |which: &[usize]| {
            let mut mixed = again(&given, &[0, 1]);
            mixed.extend(again(&foreign, which));
            mixed
        };
        let rows = [
            (again(&given, &[]), None, "no share was given", "name files"),
            (again(&given, &[0, 4]), None, "2 of the 3 shares that are needed were given", "give 1 more"),
            (
                again(&given, &[1, 2, 1]),
                None,
                "share 2 (file 1) and share 2 (file 1) are the same share",
                "once",
            ),
            (mixed(&[2]), None, "share 1 (file 0) is of the key ", "one key"),
            (mixed(&[2]), Some(&of), "share 3 (file 2) is of the key ", "of this certificate"),
            (
                again(&given, &[0, 1, 2]),
                Some(&of_other),
                "share 1 (file 0) is of the key ",
                "of this certificate",
            ),
        ];
        for (given, of, what, hint) in rows {
            let error = join(&given, of).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            assert!(error.hint().contains(hint), "{}", error.hint());
        }
    }

    #[test]
    fn what_was_forged_gives_no_key() {
        let (key, given) = made(5, 3);
        let (_, others) = made(5, 3);
        // A share of another secret, which claims to be one of this key.
        let forged = |nth: usize| {
            let mut forged = again(&others, &[nth]).remove(0);
            forged.share.set = given[0].share.set;
            Given { place: "forged".into(), share: Share::parse(&forged.share.code()).unwrap() }
        };
        let mut among = again(&given, &[0, 1]);
        among.push(forged(2));
        let error = join(&among, Some(&key.fingerprint())).unwrap_err().to_string();
        assert!(error.contains("share 3 (forged) do not give the key"), "{error}");

        let mut behind = again(&given, &[0, 1, 2]);
        behind.push(forged(4));
        let error = join(&behind, None).unwrap_err().to_string();
        assert!(error.contains("share 5 (forged) does not fit the others"), "{error}");

        let mut twice = again(&given, &[0, 1, 2]);
        twice.push(forged(2));
        let error = join(&twice, None).unwrap_err().to_string();
        assert!(
            error.contains("share 3 (file 2) and share 3 (forged) have one number, and differ"),
            "{error}"
        );

        let mut claims = again(&given, &[0, 1]);
        claims[1].share.set.threshold = 2;
        let error = join(&claims, None).unwrap_err().to_string();
        assert!(error.contains("do not agree"), "{error}");
    }

    /// The fewest shares, all of which claim that fewer are needed.
    #[test]
    fn too_few_shares_give_no_key_whatever_they_claim() {
        let (key, given) = made(5, 3);
        let mut few = again(&given, &[0, 4]);
        few.iter_mut().for_each(|given| given.share.set.threshold = 2);
        for of in [None, Some(&key.fingerprint())] {
            let error = join(&few, of).unwrap_err().to_string();
            assert!(error.contains("do not give the key"), "{error}");
        }
    }
}
