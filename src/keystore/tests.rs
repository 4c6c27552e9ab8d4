//! What is read as certificates, and what the sources of one user give.

use std::path::Path;

use mailseal_core::error::Error as CoreError;
use sequoia_openpgp::Cert;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::{ReasonForRevocation, RevocationStatus};
use testing::made;

use super::samples::{Site, open_to_all, openpgp, refusal};
use super::trust::Trust;
use super::*;

fn read(bytes: &[u8]) -> Result<Vec<Cert>, Error> {
    parse(bytes, Path::new("alice.pgp")).map(openpgp)
}

fn fingerprints(certs: &[Cert]) -> Vec<String> {
    certs.iter().map(made::fingerprint).collect()
}

#[test]
fn certificates_are_read_in_every_form() {
    let certs = ["Alice", "Alice's phone", "Alice's tablet"].map(made::cert);
    let public = certs.each_ref().map(made::public);
    let armored = certs.each_ref().map(made::armored);
    let crlf =
        armored[0].iter().flat_map(|&byte| if byte == b'\n' { vec![b'\r', b'\n'] } else { vec![byte] });
    let crlf: Vec<u8> = crlf.collect();
    for (name, bytes, count) in [
        ("binary", public[0].clone(), 1),
        ("several", public.concat(), 3),
        ("armored", armored[0].clone(), 1),
        ("with CRLF", crlf, 1),
        ("several armors", armored.concat(), 3),
        ("text before and between", [b"My key:\n", &armored[0][..], b"\nand\n\n", &armored[1]].concat(), 2),
        ("text behind", [&armored[0][..], b"\nThat was it \xc3\xa9.\n"].concat(), 1),
        ("a text of another script behind", [&armored[0][..], "\n\u{e9}\n".as_bytes()].concat(), 1),
        ("blanks behind", [&armored[0][..], b"\r\n \n"].concat(), 1),
        ("the same twice", [&public[0][..], &public[0]].concat(), 1),
    ] {
        let found = read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(fingerprints(&found), fingerprints(&certs[..count]), "{name}");
    }
}

#[test]
fn what_is_not_only_certificates_is_refused() {
    let alice = made::cert("Alice");
    let (public, armored) = (made::public(&alice), made::armored(&alice));
    for (bytes, expected) in [
        (Vec::new(), ""),
        (b"a note".to_vec(), ""),
        (made::secret(&alice), "it holds a secret key"),
        ([&public[..], &made::secret(&alice)].concat(), "it holds a secret key"),
        ([&armored[..], &public].concat(), "binary data follows"),
        ([&armored[..], b"\n \n", &public].concat(), "binary data follows"),
        ([&armored[..], &armored, &public].concat(), "binary data follows"),
        (public[..public.len() - 1].to_vec(), ""),
        ([&public[..], b"\xc6\x01"].concat(), ""),
    ] {
        let what = refusal(read(&bytes));
        assert!(what.contains(expected), "{expected}: {what}");
    }
}

#[test]
fn a_file_has_a_bounded_number_of_certificates() {
    let alice = made::cert("Alice");
    for form in [made::public(&alice), made::armored(&alice)] {
        assert_eq!(read(&form.repeat(limits::KEY_FILE_CERTIFICATES)).unwrap().len(), 1);
        let what = refusal(read(&form.repeat(limits::KEY_FILE_CERTIFICATES + 1)));
        assert!(what.contains(&format!("more than {}", limits::KEY_FILE_CERTIFICATES)), "{what}");
    }
}

#[test]
fn armors_are_told_apart_in_texts_only() {
    const A: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\na\n";
    const B: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nb\n";
    let armors = |bytes: &[u8]| blocks(bytes).iter().map(|block| block.to_vec()).collect::<Vec<_>>();
    for text in ["", "a note", "-----BEGIN X-----\n"] {
        assert_eq!(armors(text.as_bytes()), [text.as_bytes()]);
    }
    assert_eq!(armors(A.as_bytes()), [A.as_bytes()]);
    assert_eq!(armors([A, B, A].concat().as_bytes()), [A, B, A].map(|armor| armor.as_bytes().to_vec()));
    assert_eq!(armors(["text\n", A, B].concat().as_bytes()), [A, B].map(|armor| armor.as_bytes().to_vec()));
    for first in [0x80, 0x99, 0xc6, 0xff] {
        let binary = [&[first], A.as_bytes(), B.as_bytes()].concat();
        assert_eq!(armors(&binary), [binary], "an armor in a packet is none");
    }
    let text = [b"\x7f", A.as_bytes(), B.as_bytes()].concat();
    assert_eq!(armors(&text).len(), 2);
}

#[test]
fn only_packets_behind_an_armor_are_binary_data() {
    const ARMOR: &[u8] = b"-----BEGIN PGP X-----\n\n-----END PGP X-----";
    let behind = |bytes: &[u8]| holds_binary_behind(&[ARMOR, bytes].concat());
    for bytes in [&b"\n\x99\x01"[..], b"\r\n\xc6\xff", b"\n\n \t\r\n\x80", b"\n\xff text"] {
        assert!(behind(bytes), "{bytes:?}");
    }
    for bytes in [
        &b""[..],
        b"\n",
        b"\ntext",
        b"\ntext \xff",
        b" \xff\n",
        b"\xff",
        "\n\u{e9}".as_bytes(),
        b"\n\x7f\xff",
    ] {
        assert!(!behind(bytes), "{bytes:?}");
    }
    let twice = [ARMOR, b"\n\xff\n", ARMOR, b"\ntext"].concat();
    assert!(!holds_binary_behind(&twice), "behind the last one there is text");
    assert!(!holds_binary_behind(&[b"text\n", ARMOR, b"\n\x99"].concat()), "it does not begin with an armor");
    assert!(!holds_binary_behind(b"\x99\n\x99") && !holds_binary_behind(b"-----BEGIN PGP X-----\n\x99"));
}

#[test]
fn only_a_note_cannot_be_a_certificate() {
    let base64 = |length| "Ab9+/=".chars().cycle().take(length).collect::<String>();
    for text in ["", "a note", "\u{e9}\n", "----- BEGIN\n", &base64(59), &format!("{0} {0}\n{0}", base64(59))]
    {
        assert!(!may_be_certificate(text.as_bytes()), "{text:?}");
    }
    for text in [
        &b"a\0b"[..],
        b"\xff",
        "\u{feff}a".as_bytes(),
        b"text\n-----BEGIN PGP PUBLIC KEY BLOCK-----",
        base64(60).as_bytes(),
        format!("text\n\n{}\n", base64(64)).as_bytes(),
    ] {
        assert!(may_be_certificate(text), "{text:?}");
    }
}

#[test]
fn a_revocation_in_one_copy_counts() {
    let alice = made::cert("Alice");
    let revoked = made::revoked(alice.clone(), ReasonForRevocation::KeyCompromised);
    let [plain, revoked] = [alice, revoked].map(|cert| made::public(&cert));
    let bob = made::public(&made::cert("Bob"));
    for bytes in [[&plain[..], &bob, &revoked].concat(), [&revoked[..], &bob, &plain].concat()] {
        let certs = read(&bytes).unwrap();
        let is_revoked = |cert: &Cert| {
            matches!(cert.revocation_status(&StandardPolicy::new(), None), RevocationStatus::Revoked(_))
        };
        assert_eq!(certs.iter().map(is_revoked).collect::<Vec<_>>(), [true, false]);
    }
}

#[test]
fn the_first_source_that_has_a_certificate_decides() {
    let site = Site::new();
    let keys = site.keys(&["file:DIR/keys/%{user}.pgp", "dir:DIR/folder"]);
    let certs = [made::cert("Alice"), made::cert("Alice's phone")];
    site.folder("folder");
    assert!(site.find(&keys, "alice").unwrap().is_none());
    site.write("folder/x.asc", &made::armored(&certs[1]));
    assert_eq!(fingerprints(&site.find(&keys, "alice").unwrap().unwrap()), fingerprints(&certs[1..]));
    site.write("keys/alice.pgp", &made::public(&certs[0]));
    assert_eq!(fingerprints(&site.find(&keys, "Alice").unwrap().unwrap()), fingerprints(&certs[..1]));
    assert_eq!(fingerprints(&site.find(&keys, "bob").unwrap().unwrap()), fingerprints(&certs[1..]));
    site.write("keys/alice.pgp", b"");
    assert!(site.find(&keys, "alice").is_err(), "a later source is not asked");
}

#[test]
fn a_folder_counts_as_a_whole() {
    let site = Site::new();
    let keys = site.keys(&["dir:DIR/keys/%{user}"]);
    let certs = [made::cert("Alice"), made::cert("Alice's phone")];
    let [one, other] = certs.each_ref().map(made::public);
    assert!(site.find(&keys, "alice").unwrap().is_none(), "there is no folder");
    site.folder("keys/alice");
    assert!(refusal(site.find(&keys, "alice")).contains("the folder holds no certificate"));
    site.write("keys/alice/note.txt", b"her keys");
    assert!(refusal(site.find(&keys, "alice")).contains("the folder holds no certificate"));
    site.write("keys/alice/backup", &one);
    assert!(refusal(site.find(&keys, "alice")).contains("it looks like a certificate"));
    site.write("keys/alice/b.pgp", &one);
    site.write("keys/alice/a.gpg", &other);
    let both = [&certs[1], &certs[0]].map(made::fingerprint);
    assert_eq!(fingerprints(&site.find(&keys, "alice").unwrap().unwrap()), both, "in the order of the names");
    for number in 2..limits::KEY_FILE_CERTIFICATES {
        site.write(&format!("keys/alice/{number}.pgp"), &one);
    }
    assert!(site.find(&keys, "alice").is_ok());
    site.write("keys/alice/a.gpg", &[&one[..], &other].concat());
    assert!(refusal(site.find(&keys, "alice")).contains("more than"));
    site.write("keys/alice/b.pgp", b"");
    assert!(site.find(&keys, "alice").is_err(), "one is broken");
}

/// A folder for all users may be empty; its marker tells that it is there.
#[test]
fn the_folder_of_a_store_may_hold_nothing() {
    let site = Site::new();
    let keys = site.keys(&["dir:DIR/keys"]);
    assert!(site.find(&keys, "alice").unwrap().is_none());
    site.write("keys/note.txt", b"all keys");
    assert!(site.find(&keys, "alice").unwrap().is_none());
    site.write("keys/backup", &made::public(&made::cert("Alice")));
    assert!(site.find(&keys, "alice").is_err());
}

#[test]
fn above_a_home_nobody_else_may_write_where_a_certificate_was_found() {
    for (source, file) in [
        ("dir:%{home}/keys", "homes/alice/keys/x.pgp"),
        ("file:%{home}/x.pgp", "homes/alice/x.pgp"),
        ("gnupg:%{home}/ring", "homes/alice/ring/pubring.gpg"),
    ] {
        let site = Site::new();
        let keys = site.keys(&[source]);
        open_to_all(&site.at("homes"), true);
        assert!(site.find(&keys, "alice").unwrap().is_none(), "{source}");
        site.write(file, &made::public(&made::cert("alice@example.org")));
        assert!(refusal(site.find(&keys, "alice")).contains("everybody can write"), "{source}");
        open_to_all(&site.at("homes"), false);
        assert!(site.find(&keys, "alice").unwrap().is_some(), "{source}");
    }
}

#[test]
fn a_keyring_is_searched_for_a_whole_address() {
    let site = Site::new();
    site.write("keys/pubring.gpg", &made::public(&made::cert("Alice <alice@example.org>")));
    let with = |address: Option<&str>| {
        let address = address.map(|text| text.to_owned().try_into().unwrap());
        site.find(&Keys { address, ..site.keys(&["gnupg:DIR/keys"]) }, "alice")
    };
    assert_eq!(with(Some("%{user}@example.org")).unwrap().map(|certs| certs.len()), Some(1));
    assert!(with(Some("%{user}@example.com")).unwrap().is_none());
    for address in [None, Some("%{user}"), Some("@%{user}"), Some("%{user}@")] {
        assert!(matches!(with(address), Err(Error::Address { .. })), "{address:?}");
    }
    let keys = site.keys(&["gnupg:%{home}/gone"]);
    assert!(site.find(&keys, "alice").unwrap().is_none(), "there is no such keyring at home");
    assert!(site.find(&site.keys(&["gnupg:DIR/gone"]), "alice").is_err(), "a store must be there");
}

#[test]
fn a_file_that_an_admin_named_must_be_there() {
    let site = Site::new();
    let trust = Trust::of_process(&[]);
    let certs = [made::cert("Alice"), made::cert("Bob")];
    let paths =
        [site.write("a.pgp", &made::public(&certs[0])), site.write("b.asc", &made::armored(&certs[1]))];
    assert_eq!(
        fingerprints(&openpgp(read_named(&paths[0], &trust, None).unwrap())),
        fingerprints(&certs[..1])
    );
    let twice = [&paths[..], &paths].concat();
    for all in [&paths[..], &twice] {
        assert_eq!(fingerprints(&openpgp(read_all_named(all, &trust, None).unwrap())), fingerprints(&certs));
        assert_eq!(fingerprints(&openpgp(read_recovery(all, &trust, None).unwrap())), fingerprints(&certs));
    }
    assert!(read_all_named(&[], &trust, None).unwrap().is_empty());
    let smime = site.write("rsa.pem", &std::fs::read(testing::smime::file("rsa.pem")).unwrap());
    let both = [smime.clone(), paths[0].clone()];
    assert!(refusal(read_all_named(&both, &trust, None)).contains("OpenPGP and S/MIME"));
    assert_eq!(read_all_named(&both[..1], &trust, None).unwrap().len(), 1);
    for gone in ["gone.pgp", "gone/a.pgp"] {
        assert_eq!(refusal(read_named(&site.at(gone), &trust, None)), "there is no such file");
        let recovery = read_recovery(&[paths[0].clone(), site.at(gone)], &trust, None);
        assert!(matches!(recovery, Err(Error::Core(CoreError::Recovery(_)))), "{recovery:?}");
    }
}
