//! What the key side costs a delivery: to find the user's certificate, judge it, and encrypt a session key to it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    time::SystemTime,
};

use divan::Bencher;
use mailseal::config::Keys;
use mailseal::keys::{addressee::choose, enrol};
use mailseal::keystore::user::User;
use mailseal::keystore::{
    self, Request,
    absence::{self, stores},
    any_cert,
    known::Known,
    marker::{Id, Marker, Store},
    source::{Source, Template},
    trust::Trust,
};
use mailseal_core::recipients::WhenExpired;
use sequoia_openpgp::{Cert, types::HashAlgorithm};
use tempfile::TempDir;
use testing::made;

/// Certificates in a ring, and where among them the user's stands.
const RING: usize = 2000;
const PLACE: usize = 1500;

/// Certifications by others on the flooded certificate.
const CERTIFICATIONS: u32 = 500;

const ALICE: &str = "Alice <alice@example.org>";
const FILES: [&str; 4] = ["cv25519", "rsa4096", "500-signatures", "500-signatures-enrolled"];
const RINGS: [&str; 3] = ["gnupg-kbx", "gnupg-pubring.gpg", "cert-d"];

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let flooded = made::flooded(made::cert(ALICE), CERTIFICATIONS);
    let enrolled =
        enrol::candidates(&made::public(&flooded), Path::new("x"), None, SystemTime::now()).unwrap();
    let of = |cert: &Cert| made::public(cert);
    for (name, bytes) in FILES.into_iter().zip([
        of(&made::cert(ALICE)),
        of(&made::rsa(ALICE, 4096, HashAlgorithm::SHA256)),
        of(&flooded),
        any_cert::serialize(&[enrolled[0].cert.clone()]).unwrap(),
    ]) {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let certs: Vec<Cert> = (0..RING)
        .map(|n| {
            if n == PLACE {
                made::cert(ALICE)
            } else {
                made::cert(&format!("User {n} <user{n}@example.org>"))
            }
        })
        .collect();
    fs::create_dir(dir.path().join("gnupg-kbx")).unwrap();
    fs::create_dir(dir.path().join("gnupg-pubring.gpg")).unwrap();
    let ring: Vec<Vec<u8>> = certs.iter().map(of).collect();
    fs::write(dir.path().join("gnupg-kbx/pubring.kbx"), keybox(&ring)).unwrap();
    fs::write(dir.path().join("gnupg-pubring.gpg/pubring.gpg"), ring.concat()).unwrap();
    for (cert, bytes) in certs.iter().zip(&ring) {
        let name = made::fingerprint(cert).to_lowercase();
        let folder = dir.path().join("cert-d").join(&name[..2]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(&name[2..]), bytes).unwrap();
    }
    dir
});

/// A keybox as far as its readers go by the description in GnuPG's `kbx/keybox-blob.c`: the first blob, then one a
/// certificate, the parts between header and certificate empty. gpg itself would need minutes to import so many.
fn keybox(ring: &[Vec<u8>]) -> Vec<u8> {
    const HEADER: usize = 40;
    const CHECKSUM: usize = 20;
    let number = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
    let mut bytes = [&number(32)[..], &[1, 1, 0, 2], b"KBXf", &[0; 20]].concat();
    for cert in ring {
        bytes.extend(number(HEADER + cert.len() + CHECKSUM));
        bytes.extend([2, 1, 0, 0]);
        bytes.extend(number(HEADER).into_iter().chain(number(cert.len())));
        bytes.extend([0; HEADER - 16]);
        bytes.extend(cert);
        bytes.extend([0; CHECKSUM]);
    }
    bytes
}

fn main() {
    LazyLock::force(&FOLDER);
    divan::main();
    // What is static is not dropped.
    fs::remove_dir_all(FOLDER.path()).unwrap();
}

fn path(name: &str) -> PathBuf {
    FOLDER.path().join(name)
}

fn source(name: &str) -> Source {
    let kind = match name {
        "gnupg-kbx" | "gnupg-pubring.gpg" => "gnupg",
        "cert-d" => "cert-d",
        _ => "file",
    };
    format!("{kind}:{}", path(name).display()).try_into().unwrap()
}

/// How many keys a message for `user` is sealed to.
fn keys(source: &Source, user: &str) -> usize {
    let user = User::parse(user).unwrap();
    let address = Template::try_from("%{user}@example.org".to_owned()).unwrap();
    let now = SystemTime::now();
    let settings = Keys { address: Some(address), ..Keys::default() };
    let request = Request::new(&settings, &user, None, now, Trust::of_process(&[]));
    match keystore::find([source], &request).unwrap() {
        Some(certs) => {
            let preference = settings.preference();
            let chosen = choose(user.name(), (&certs, &[]), preference, WhenExpired::Encrypt, now).unwrap();
            chosen.session().unwrap().key_ids().len()
        }
        None => 0,
    }
}

/// Users in the store and in the register of known users, of whom none is the one who is looked for.
const STORE: usize = 20_000;

/// A store with many users' files, marked; and what asks it.
static SETTINGS: LazyLock<Keys> = LazyLock::new(|| {
    let store = path("store");
    fs::create_dir(&store).unwrap();
    for number in 0..STORE {
        fs::write(store.join(format!("user{number}@example.org.pgp")), "").unwrap();
    }
    let source = format!("file:{}/%{{user}}.pgp", store.display()).try_into().unwrap();
    let keys = Keys { sources: vec![source], known: path("known"), ..Keys::default() };
    let known = Known::new(&keys.known, Trust::of_process(&[]));
    let lock = known.lock().unwrap();
    let users: Vec<User> =
        (0..STORE).map(|number| User::parse(&format!("user{number}@example.org")).unwrap()).collect();
    known.note(&lock, &users).unwrap();
    let mark = |path: PathBuf| {
        let marker = Marker { id: Id::new().unwrap(), stores: Vec::new() };
        marker.write(&path).unwrap();
        Store { path, id: marker.id }
    };
    let marker = Marker { id: Id::new().unwrap(), stores: stores(&keys).into_iter().map(mark).collect() };
    known.complete(&lock, &marker).unwrap();
    keys
});

/// What a delivery to a user without a certificate does: it looks, and proves that there is none.
#[divan::bench]
fn proof_of_absence_in_a_store_of_20000(bencher: Bencher<'_, '_>) {
    let user = User::parse("nobody@example.org").unwrap();
    bencher.bench(|| {
        let request = Request::new(&SETTINGS, &user, None, SystemTime::now(), Trust::of_process(&[]));
        assert!(keystore::find(&SETTINGS.sources, &request).unwrap().is_none());
        absence::prove(&SETTINGS, &request).unwrap()
    });
}

#[divan::bench(args = FILES)]
fn file(bencher: Bencher<'_, '_>, name: &str) {
    let source = source(name);
    assert_eq!(keys(&source, "alice"), 1);
    bencher.bench(|| keys(&source, "alice"));
}

#[divan::bench(args = RINGS)]
fn ring_of_2000(bencher: Bencher<'_, '_>, name: &str) {
    let source = source(name);
    assert_eq!(keys(&source, "alice"), 1);
    bencher.bench(|| keys(&source, "alice"));
}

#[divan::bench(args = RINGS)]
fn ring_of_2000_without_a_match(bencher: Bencher<'_, '_>, name: &str) {
    let source = source(name);
    assert_eq!(keys(&source, "nobody"), 0);
    bencher.bench(|| keys(&source, "nobody"));
}

/// The whole process, as Dovecot starts it, on a small mail.
#[divan::bench(args = FILES)]
fn process(bencher: Bencher<'_, '_>, name: &str) {
    let deliver = || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mailseal-filter"))
            .args(["--log", "none", "--key"])
            .arg(path(name))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"Subject: x\n\nbody\n").unwrap();
        child.wait().unwrap().success()
    };
    assert!(deliver());
    bencher.bench(deliver);
}
