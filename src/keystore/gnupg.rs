//! Edge: A GnuPG home: `pubring.kbx` and `pubring.gpg`. A delivery never runs gpg.

use std::fs;
use std::io::ErrorKind;

use sequoia_openpgp::Cert;
use sequoia_openpgp::crypto::mpi::PublicKey;

use super::keyring::Search;
use super::safe_file::{self, KeyFile};
use super::source::Place;
use crate::error::Error;
use crate::limits;

/// What a GnuPG home holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Rings {
    /// Nothing: no keyring is there.
    None,
    /// What only gpg can ask.
    Keyboxd,
    /// The certificates of its keyrings.
    Files(Vec<Vec<u8>>),
}

/// The keyrings of the GnuPG home at `home`, whoever the certificates in them belong to.
///
/// # Errors
/// Those of [`safe_file::read`]; [`Error::KeyStore`] for a keybox that is not whole.
pub fn rings(home: &Place) -> Result<Rings, Error> {
    if uses_keyboxd(home)? || holds_keyboxd(home) {
        return Ok(Rings::Keyboxd);
    }
    let keybox = home.join("pubring.kbx");
    let mut rings = Vec::new();
    if let Some(bytes) = safe_file::read(&keybox, limits::KEYRING)? {
        for certificate in keybox_certificates(&bytes) {
            rings.push(certificate.ok_or_else(|| broken_off(&keybox))?.to_vec());
        }
    }
    rings
        .extend(safe_file::read(&home.join("pubring.gpg"), limits::KEYRING)?.filter(|ring| !ring.is_empty()));
    Ok(if rings.is_empty() { Rings::None } else { Rings::Files(rings) })
}

/// Looks for the search's address in the GnuPG home at `home`.
///
/// # Errors
/// Those of [`safe_file::read`]; [`Error::KeyStore`] when the home keeps its keys in a keyboxd, which only gpg can ask.
pub fn search(home: &Place, search: &mut Search<'_>) -> Result<(), Error> {
    if uses_keyboxd(home)? {
        return Err(in_keyboxd(home));
    }
    // The option may also stand in a file for all users.
    if holds_keyboxd(home) {
        search.doubt(in_keyboxd(home));
    }
    let keybox = home.join("pubring.kbx");
    if let Some(file) = KeyFile::open(&keybox, limits::KEYRING)? {
        let mut empty = true;
        file.in_pieces(|piece, last| {
            empty &= piece.is_empty();
            let whole = if last { piece.len() } else { whole_blobs(piece) };
            search_keybox(&keybox, &piece[..whole], search).map(|()| Some(whole))
        })?;
        if empty {
            // Where there are no keys it has a first blob all the same.
            search.doubt(broken_off(&keybox));
        }
    }
    if let Some(ring) = KeyFile::open(&home.join("pubring.gpg"), limits::KEYRING)? {
        search.add_file(&ring)?;
    }
    Ok(())
}

fn search_keybox(keybox: &Place, blobs: &[u8], search: &mut Search<'_>) -> Result<(), Error> {
    for certificate in keybox_certificates(blobs) {
        match certificate {
            Some(bytes) if search.is_in(bytes) => search.add_ring(bytes, &keybox.path)?,
            Some(_) => {}
            None => search.doubt(broken_off(keybox)),
        }
    }
    Ok(())
}

fn uses_keyboxd(home: &Place) -> Result<bool, Error> {
    let options = safe_file::read(&home.join("common.conf"), limits::KEY_FILE)?.unwrap_or_default();
    let keyboxd = |line: &[u8]| line.trim_ascii().starts_with(b"use-keyboxd");
    Ok(options.split(|&byte| byte == b'\n').any(keyboxd))
}

fn holds_keyboxd(home: &Place) -> bool {
    home.path.join("public-keys.d/pubring.db").exists()
}

fn broken_off(keybox: &Place) -> Error {
    Error::KeyStore {
        path: keybox.path.clone(),
        what: "the keybox is broken off".into(),
        hint: "let gpg write it again: gpg --list-keys".into(),
    }
}

fn in_keyboxd(home: &Place) -> Error {
    Error::KeyStore {
        path: home.path.clone(),
        what: "this GnuPG home keeps its keys in a keyboxd".into(),
        hint: "enrol the certificate: gpg --export ADDRESS | mailseal keys add USER -".into(),
    }
}

/// The OpenPGP blobs of a keybox (GnuPG, `kbx/keybox-blob.c`): length in octets 0 to 3, type 2 in octet 4, offset and
/// length of the certificate in octets 8 to 15. `None` at the end is a blob that is not there in full.
fn keybox_certificates(mut bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    const OPENPGP: u8 = 2;
    std::iter::from_fn(move || {
        while !bytes.is_empty() {
            let Some((blob, rest)) = split_blob(bytes) else {
                bytes = &[];
                return Some(None);
            };
            bytes = rest;
            if blob[4] == OPENPGP {
                let end = |start: usize| start.checked_add(number(blob, 12)?);
                return Some(number(blob, 8).and_then(|start| blob.get(start..end(start)?)));
            }
        }
        None
    })
}

/// Octets of the blobs at the beginning of `bytes` that are there in full.
fn whole_blobs(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((_, after)) = split_blob(rest) {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// The first blob of a keybox, five octets or more, and what is behind it; `None` where it is not there in full.
fn split_blob(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = number(bytes, 0).filter(|length| *length > 4)?;
    bytes.split_at_checked(length)
}

fn number(blob: &[u8], at: usize) -> Option<usize> {
    let octets = blob.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(octets)).ok()
}

/// Refuses certificates whose secret keys lie in the same GnuPG home: then the server can read the mail.
///
/// The files of gpg-agent hold the public parts of their keys too, in binary or hexadecimal, and are found by them.
///
/// # Errors
/// [`Error::KeyStore`] when there is such a file, when a file or the folder with them cannot be read, and when there are
/// more than [`limits::SECRET_KEY_FILES`].
pub fn refuse_secret_keys(home: &Place, certs: &[Cert]) -> Result<(), Error> {
    let folder = home.path.join("private-keys-v1.d");
    let failed = |what: String| Error::KeyStore {
        path: folder.clone(),
        what,
        hint: "let the mail user look whether secret keys lie here, or enrol with `mailseal keys add`".into(),
    };
    let mut files = vec![home.path.join("secring.gpg")];
    match fs::read_dir(&folder) {
        Ok(entries) => {
            for entry in entries {
                files.push(entry.map_err(|error| failed(error.to_string()))?.path());
                if files.len() > limits::SECRET_KEY_FILES {
                    return Err(failed(format!("it holds more than {} files", limits::SECRET_KEY_FILES)));
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error.to_string())),
    }
    for path in files {
        let Some(bytes) = safe_file::read_in_folder(&home.at(path.clone()), limits::KEY_FILE)? else {
            continue;
        };
        let digits: Vec<u8> =
            bytes.iter().filter(|byte| byte.is_ascii_hexdigit()).map(u8::to_ascii_uppercase).collect();
        let holds = |value: &[u8]| {
            let hex = data_encoding::HEXUPPER.encode(value);
            memchr::memmem::find(&bytes, value).is_some()
                || memchr::memmem::find(&digits, hex.as_bytes()).is_some()
        };
        let owner = certs.iter().find(|cert| {
            cert.keys().any(|key| public_value(key.key().mpis()).is_some_and(|value| holds(&value)))
        });
        if let Some(cert) = owner {
            return Err(Error::KeyStore {
                path,
                what: format!("the secret key of {} lies in the same GnuPG home", cert.fingerprint()),
                hint: "with it the server can read the mail: move it to the user's own machine".into(),
            });
        }
    }
    Ok(())
}

/// The part of a public key that no other key has.
fn public_value(mpis: &PublicKey) -> Option<Vec<u8>> {
    Some(match mpis {
        PublicKey::RSA { n, .. } => n.value().to_vec(),
        PublicKey::ElGamal { y, .. } | PublicKey::DSA { y, .. } => y.value().to_vec(),
        PublicKey::EdDSA { q, .. } | PublicKey::ECDSA { q, .. } | PublicKey::ECDH { q, .. } => {
            q.value().to_vec()
        }
        PublicKey::X25519 { u } => u.to_vec(),
        PublicKey::Ed25519 { a } => a.to_vec(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use sequoia_openpgp::Profile;
    use sequoia_openpgp::cert::CipherSuite;
    use sequoia_openpgp::crypto::mpi::MPI;
    use sequoia_openpgp::parse::Parse as _;
    use sequoia_openpgp::types::{Curve, HashAlgorithm, SymmetricAlgorithm};
    use testing::{fixtures, made};

    use super::*;
    use crate::keystore::samples::{Site, refusal};
    use crate::keystore::trust::Trust;

    /// A blob of this type whose certificate is `cert`, with other octets before and behind it.
    fn blob(kind: u8, cert: &[u8]) -> Vec<u8> {
        let (start, length) = (24_u32, cert.len() as u32);
        let head = [
            &(start + length + 3).to_be_bytes()[..],
            &[kind, 1, 0, 0],
            &start.to_be_bytes(),
            &length.to_be_bytes(),
        ];
        [&head.concat()[..], &[0; 8], cert, b"end"].concat()
    }

    #[test]
    fn certificates_are_found_in_a_keybox() {
        let read =
            |bytes: &[u8]| keybox_certificates(bytes).map(|it| it.map(<[u8]>::to_vec)).collect::<Vec<_>>();
        let (one, other) = (Some(b"one".to_vec()), Some(b"other".to_vec()));
        let first = [&32_u32.to_be_bytes()[..], &[1], &[7; 27]].concat();
        let whole = [&first[..], &blob(2, b"one"), &blob(3, b"x.509"), &blob(2, b"other")].concat();
        assert_eq!(read(b""), []);
        assert_eq!(read(&first), []);
        assert_eq!(read(&whole), [one.clone(), other]);
        assert_eq!(read(&whole[..whole.len() - 1]), [one.clone(), None], "the last is cut off");
        for length in 0..5_u32 {
            let broken = [&blob(2, b"one")[..], &length.to_be_bytes(), &[9; 30]].concat();
            let expected = [one.clone(), None];
            assert_eq!(read(&broken), expected, "no blob is {length} octets long");
        }
        assert_eq!(read(&[0, 0, 0, 5, 3]), [], "the shortest there is");
        assert_eq!(read(&[0, 0]), [None]);
        for (start, length) in [(24, 9), (40, 1), (u32::MAX, 1), (1, u32::MAX)] {
            let mut bad = blob(2, b"one");
            bad[8..12].copy_from_slice(&u32::to_be_bytes(start));
            bad[12..16].copy_from_slice(&u32::to_be_bytes(length));
            assert_eq!(read(&bad), [None], "{start} {length}");
        }
        assert_eq!(read(&[0, 0, 0, 10, 2, 1, 0, 0, 0, 0]), [None], "a blob without room for an offset");
    }

    #[test]
    fn a_home_is_taken_over_with_both_keyrings() {
        let site = Site::new();
        let home = Place::named(site.folder("keys"), Trust::of_process(&[]));
        let taken = || rings(&home).unwrap();
        assert_eq!(taken(), Rings::None);
        site.write("keys/pubring.gpg", b"");
        assert_eq!(taken(), Rings::None, "gpg 1.4 left an empty one behind");
        site.write("keys/pubring.kbx", &blob(2, b"one"));
        assert_eq!(taken(), Rings::Files(vec![b"one".to_vec()]));
        site.write("keys/pubring.gpg", b"others");
        assert_eq!(taken(), Rings::Files(vec![b"one".to_vec(), b"others".to_vec()]));
    }

    fn found(site: &Site) -> Result<Option<Vec<Cert>>, Error> {
        site.find(&site.keys(&["gnupg:DIR/keys"]), "alice")
    }

    #[test]
    fn both_keyrings_are_searched() {
        let site = Site::new();
        let alice = made::cert("alice@example.org");
        let bob = made::public(&made::cert("bob@example.org"));
        let public = made::public(&alice);
        assert!(found(&site).unwrap().is_none());
        for (kbx, ring) in [
            (blob(2, &public), Vec::new()),
            ([blob(2, &bob), blob(2, &public)].concat(), bob.clone()),
            (blob(2, &bob), public.clone()),
            (blob(2, &public), public.clone()),
        ] {
            site.write("keys/pubring.kbx", &kbx);
            let path = site.at("keys/pubring.gpg");
            if ring.is_empty() {
                let _ = fs::remove_file(path);
            } else {
                fs::write(path, ring).unwrap();
            }
            assert_eq!(found(&site).unwrap().unwrap(), [alice.clone().strip_secret_key_material()]);
        }
        site.write("keys/pubring.kbx", &blob(2, &bob));
        site.write("keys/pubring.gpg", &bob);
        assert!(found(&site).unwrap().is_none());
    }

    #[test]
    fn a_keybox_is_read_in_pieces() {
        let site = Site::new();
        let alice = blob(2, &made::public(&made::cert("alice@example.org")));
        let many = blob(2, &made::public(&made::cert("Bob"))).repeat(1000);
        let long = blob(3, &vec![7; 700_000]);
        assert!(many.len() > 600_000 && whole_blobs(&many[..many.len() - 1]) < many.len());
        for keybox in [[&many[..], &alice], [&alice, &many], [&long, &alice]] {
            site.write("keys/pubring.kbx", &keybox.concat());
            assert!(found(&site).unwrap().is_some());
        }
        site.write("keys/pubring.kbx", &[&many[..], &long].concat());
        assert!(found(&site).unwrap().is_none());
        for broken in [&long[..long.len() - 1], &[0, 0, 0, 4, 2]] {
            site.write("keys/pubring.kbx", &[&many[..], broken].concat());
            assert!(refusal(found(&site)).contains("broken off"));
        }
    }

    #[test]
    fn a_keyring_that_cannot_be_read_is_a_doubt() {
        let site = Site::new();
        let alice = made::public(&made::cert("alice@example.org"));
        let bob = made::public(&made::cert("bob@example.org"));
        for kbx in [Vec::new(), [blob(2, &bob), vec![0; 3]].concat()] {
            site.write("keys/pubring.kbx", &kbx);
            assert!(refusal(found(&site)).contains("broken off"));
        }
        site.write("keys/pubring.kbx", &blob(2, &bob));
        site.write("keys/public-keys.d/pubring.db", b"");
        assert!(refusal(found(&site)).contains("keyboxd"));
        site.write("keys/pubring.gpg", &alice);
        assert!(found(&site).unwrap().is_some(), "no doubt where it is found");
        for (options, keyboxd) in [("# use-keyboxd\n", false), ("no-greeting\n\n  use-keyboxd\n", true)] {
            site.write("keys/common.conf", options.as_bytes());
            assert_eq!(
                found(&site).is_err_and(|error| error.to_string().contains("keyboxd")),
                keyboxd,
                "{options}"
            );
        }
    }

    fn refuses(site: &Site, certs: &[Cert]) -> Result<(), Error> {
        let home = Place::named(site.at("keys/pubring.gpg"), Trust::of_process(&[])).at(site.at("keys"));
        refuse_secret_keys(&home, certs)
    }

    #[test]
    fn secret_keys_in_the_same_home_are_noticed() {
        let others = [made::cert("Bob")];
        for cert in [
            made::cert("Alice"),
            made::of(CipherSuite::P256, Profile::RFC4880, "Alice"),
            made::of(CipherSuite::Cv25519, Profile::RFC9580, "Alice"),
            Cert::from_file(fixtures::cert("rsa3072")).unwrap(),
        ] {
            for key in cert.keys() {
                let value = public_value(key.key().mpis()).unwrap();
                let hex = data_encoding::HEXLOWER.encode(&value);
                let hex = hex.as_bytes().chunks(31).flat_map(|line| [line, b"\n "].concat()).collect();
                let binary = [b"(11:private-key(", &value[..], b"))"].concat();
                for (name, bytes) in [
                    ("private-keys-v1.d/1.key", &binary),
                    ("private-keys-v1.d/2", &hex),
                    ("secring.gpg", &binary),
                ] {
                    let site = Site::new();
                    let certs = [others.to_vec(), vec![cert.clone()]].concat();
                    assert!(refuses(&site, &certs).is_ok(), "there are none");
                    site.write("keys/private-keys-v1.d/0.key", b"(11:private-key)");
                    assert!(refuses(&site, &certs).is_ok());
                    site.write(&format!("keys/{name}"), bytes);
                    assert!(refusal(refuses(&site, &certs)).contains(&made::fingerprint(&cert)), "{name}");
                    assert!(refuses(&site, &others).is_ok(), "it is another's");
                }
            }
        }
    }

    #[test]
    fn the_folder_of_secret_keys_must_be_looked_through() {
        let site = Site::new();
        site.write("keys/private-keys-v1.d", b"");
        assert!(refuses(&site, &[]).is_err(), "a file in its place");
        let site = Site::new();
        for number in 1..limits::SECRET_KEY_FILES {
            site.write(&format!("keys/private-keys-v1.d/{number}"), b"");
        }
        assert!(refuses(&site, &[]).is_ok());
        site.write("keys/private-keys-v1.d/0", b"");
        assert!(refusal(refuses(&site, &[])).contains("more than"));
    }

    #[test]
    fn every_algorithm_has_a_value_of_its_own() {
        let [a, b] = [[1; 32], [2; 32]];
        let (value, other) = (MPI::new(&a), MPI::new(&b));
        for mpis in [
            PublicKey::RSA { e: other.clone(), n: value.clone() },
            PublicKey::DSA { p: other.clone(), q: other.clone(), g: other.clone(), y: value.clone() },
            PublicKey::ElGamal { p: other.clone(), g: other.clone(), y: value.clone() },
            PublicKey::EdDSA { curve: Curve::Ed25519, q: value.clone() },
            PublicKey::ECDSA { curve: Curve::NistP256, q: value.clone() },
            PublicKey::ECDH {
                curve: Curve::Cv25519,
                q: value.clone(),
                hash: HashAlgorithm::SHA256,
                sym: SymmetricAlgorithm::AES128,
            },
            PublicKey::X25519 { u: a },
            PublicKey::Ed25519 { a },
        ] {
            assert_eq!(public_value(&mpis).as_deref(), Some(&a[..]), "{mpis:?}");
        }
        let unknown = PublicKey::Unknown { mpis: vec![value].into(), rest: Vec::new().into() };
        assert_eq!(public_value(&unknown), None);
    }

    #[test]
    fn a_search_without_a_keyring_finds_nothing() {
        let site = Site::new();
        let home = Place::named(site.at("keys/x"), Trust::of_process(&[])).at(site.at("keys"));
        let mut searched = Search::new("alice@example.org", SystemTime::now());
        search(&home, &mut searched).unwrap();
        assert!(searched.finish().unwrap().is_none());
    }
}
