//! Keyrings: GnuPG homes made by gpg, the shared certificate directory, a Web Key Directory made by gpg-wks-server.
//! Whose certificate is taken from among many, and that what is odd in a keyring never gives plaintext.

use std::{fs, path::Path, process::Command};

use sequoia_openpgp::{
    Cert,
    parse::Parse,
    types::{HashAlgorithm, ReasonForRevocation},
};
use testing::{
    delivery::Host,
    filter::run,
    gnupg::Home,
    made::{self, Forgery},
    skip,
};

const ADDRESS: &str = r#"address = "%{user}@example.org""#;
const ALICE: &str = "Alice <alice@example.org>";
/// What `gpg --with-wkd-hash` says of `alice`.
const ALICE_HASH: &str = "kei1q4tipxxu1yj79k9kfukdhfy631xe";

/// A keyring of some kind, below the home unless it is said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    Kbx,
    PubringGpg,
    CertD,
    Wkd,
}

impl Ring {
    const ALL: [Self; 4] = [Self::Kbx, Self::PubringGpg, Self::CertD, Self::Wkd];

    fn source(self) -> &'static str {
        match self {
            Self::Kbx | Self::PubringGpg => "gnupg:%{home}/ring",
            Self::CertD => "cert-d:%{home}/ring",
            Self::Wkd => "wkd-dir:%{home}/ring",
        }
    }

    fn keys(self) -> String {
        format!("sources = [\"{}\"]\n{ADDRESS}", self.source())
    }

    /// Makes it of `certs`, in `folder` of the host. A Web Key Directory has what is at Alice's place.
    fn make(self, host: &Host, folder: &str, certs: &[Vec<u8>]) {
        let path = host.path(folder);
        let _ = fs::remove_dir_all(&path);
        match self {
            Self::Kbx => certs.iter().for_each(|cert| Home::at(&path).import(cert)),
            // As gpg 2.0 left it; gpg of today would repair what some tests put in.
            Self::PubringGpg => drop(host.write(&format!("{folder}/pubring.gpg"), &certs.concat())),
            Self::CertD => {
                host.folder(folder);
                for cert in certs {
                    let name = made::fingerprint(&parse(cert)).to_lowercase();
                    host.write(&format!("{folder}/{}/{}", &name[..2], &name[2..]), cert);
                }
            }
            Self::Wkd => {
                host.folder(folder);
                host.write(&format!("{folder}/example.org/hu/{ALICE_HASH}"), &certs.concat());
            }
        }
        host.give(folder);
    }
}

fn parse(bytes: &[u8]) -> Cert {
    Cert::from_bytes(bytes).unwrap()
}

fn alice() -> Cert {
    made::cert(ALICE)
}

fn others() -> Vec<Vec<u8>> {
    [
        "Bob <bob@example.org>",
        "Malice <malice@example.org>",
        "alice@example.org.net",
        "Alice <alice@example.com>",
    ]
    .map(|user_id| made::public(&made::cert(user_id)))
    .into()
}

#[test]
fn the_certificate_with_the_address_is_found_in_every_keyring() {
    let Some(host) = Host::new() else { return };
    for ring in Ring::ALL {
        for user_id in [ALICE, "ALICE@Example.Org", "alice@example.org", "<alice@example.org>"] {
            let alice = made::cert(user_id);
            ring.make(&host, "home/alice/ring", &[others(), vec![made::public(&alice)], others()].concat());
            let name = format!("{ring:?}, {user_id}");
            host.delivery(&ring.keys()).run().assert_sealed(&name, &[&alice]);
            host.delivery(&ring.keys()).user("ALICE").run().assert_sealed(&name, &[&alice]);
        }
    }
}

#[test]
fn a_further_user_id_counts_like_the_first() {
    let Some(host) = Host::new() else { return };
    for ring in Ring::ALL {
        let alice = made::with_user_id(made::cert("Alice <alice@example.com>"), ALICE);
        ring.make(&host, "home/alice/ring", &[made::public(&alice)]);
        host.delivery(&ring.keys()).run().assert_sealed(&format!("{ring:?}"), &[&alice]);
    }
}

#[test]
fn a_keyring_without_the_address_leaves_the_mail_unchanged() {
    let Some(host) = Host::new() else { return };
    for ring in Ring::ALL {
        let name = format!("{ring:?}");
        ring.make(&host, "home/alice/ring", &others());
        host.init(&ring.keys(), &[]);
        host.delivery(&ring.keys()).run().assert_unchanged(&name, "no-key");
        let keys = format!("{}\nrequire = [\"al*\"]", ring.keys());
        host.delivery(&keys).run().assert_failed(&name, 75, "key-required", "alice");
        fs::remove_dir_all(host.path("home/alice/ring")).unwrap();
        host.delivery(&ring.keys()).run().assert_unchanged(&format!("{name}, none at home"), "no-key");
        let run = host.delivery(&ring.keys()).home(Some(&host.path("home/gone"))).run();
        run.assert_failed(&format!("{name}, no home"), 75, "home", "gone");
    }
}

/// Outside the home a keyring is for all users: one that is not there, or is an empty mount point, is out of reach.
#[test]
fn a_shared_keyring_that_is_not_there_is_no_keyring_without_a_match() {
    let Some(host) = Host::new() else { return };
    host.folder("empty");
    host.folder("closed");
    for kind in ["gnupg", "cert-d", "wkd-dir"] {
        host.mode("closed", 0o700);
        for (folder, what) in [("gone", ""), ("gone/further", ""), ("empty", "marker"), ("closed", "")] {
            let keys = format!("sources = [\"{kind}:DIR/{folder}\"]\n{ADDRESS}");
            let run = host.delivery(&keys).run();
            run.assert_failed(&format!("{kind}:{folder}"), 75, "key-store", what);
        }
    }
    for ring in Ring::ALL {
        ring.make(&host, "shared", &others());
        let keys = ring.keys().replace("%{home}/ring", "DIR/shared");
        host.delivery(&keys).home(None).run().assert_failed("without a marker", 75, "key-store", "marker");
        host.forget();
        host.init(&keys, &[]);
        host.delivery(&keys).home(None).run().assert_unchanged(&format!("{ring:?}"), "no-key");
    }
}

#[test]
fn an_address_is_needed() {
    let Some(host) = Host::new() else { return };
    for ring in Ring::ALL {
        ring.make(&host, "home/alice/ring", &others());
        host.init(&ring.keys(), &[]);
        for (address, user) in
            [("%{user}", "alice"), ("@%{user}", "alice"), ("%{user}@", "alice"), ("x", "alice")]
        {
            let keys = ring.keys().replace("%{user}@example.org", address);
            let run = host.delivery(&keys).user(user).run();
            run.assert_failed(&format!("{ring:?} {address}"), 78, "address", "not an address");
        }
        let keys = ring.keys().replace("%{user}@example.org", "%{user}");
        let run = host.delivery(&keys).user("alice@example.org").run();
        run.assert_unchanged(&format!("{ring:?}"), "no-key");
    }
}

/// Anybody can put an address into somebody's keyring.
#[test]
fn a_user_id_that_its_owner_did_not_sign_is_not_there() {
    let Some(host) = Host::new() else { return };
    for ring in Ring::ALL {
        for how in [Forgery::Unsigned, Forgery::Certified, Forgery::InTheOwnersName] {
            let mallory = made::with_forged_user_id(made::cert("Mallory <mallory@example.org>"), ALICE, how);
            let name = format!("{ring:?}, {how:?}");
            ring.make(&host, "home/alice/ring", &[made::public(&mallory)]);
            host.init(&ring.keys(), &[]);
            host.delivery(&ring.keys()).run().assert_unchanged(&name, "no-key");
            let alice = alice();
            ring.make(&host, "home/alice/ring", &[made::public(&mallory), made::public(&alice)]);
            host.delivery(&ring.keys()).run().assert_sealed(&name, &[&alice]);
        }
    }
}

#[test]
fn several_certificates_that_could_be_meant_are_nobodys() {
    let Some(host) = Host::new() else { return };
    host.folder("keys");
    for ring in Ring::ALL {
        let certs = [alice(), made::cert("Mallory calls herself <alice@example.org>")];
        ring.make(&host, "home/alice/ring", &certs.each_ref().map(made::public));
        let run = host.delivery(&ring.keys()).run();
        run.assert_failed(&format!("{ring:?}"), 75, "ambiguous", &made::fingerprint(&certs[0]));
        assert!(run.run.stderr.contains("mailseal keys add"), "it says how to pin: {}", run.run.stderr);
        // Pinned.
        host.write("keys/alice.pgp", &made::public(&certs[0]));
        let keys = ring.keys().replace("[\"", "[\"file:DIR/keys/%{user}.pgp\", \"");
        host.delivery(&keys).run().assert_sealed(&format!("{ring:?} pinned"), &[&certs[0]]);
    }
}

#[test]
fn a_valid_certificate_beats_a_useless_one_with_the_same_address_and_not_an_expired_one() {
    let Some(host) = Host::new() else { return };
    let expired = made::valid_for(ALICE, 300 * made::DAY);
    let revoked = made::revoked(alice(), ReasonForRevocation::KeyCompromised);
    let weak = made::rsa(ALICE, 1024, HashAlgorithm::SHA1);
    for ring in Ring::ALL {
        let alice = alice();
        // The newer one may be anybody's.
        ring.make(&host, "home/alice/ring", &[&expired, &alice].map(made::public));
        let run = host.delivery(&ring.keys()).run();
        run.assert_failed(&format!("{ring:?}, expired"), 75, "ambiguous", &made::fingerprint(&alice));
        for (name, old) in [("revoked", &revoked), ("weak", &weak)] {
            for certs in [[old, &alice], [&alice, old]] {
                ring.make(&host, "home/alice/ring", &certs.map(made::public));
                let run = host.delivery(&ring.keys()).run();
                run.assert_sealed(&format!("{ring:?}, {name}"), &[&alice]);
                assert_eq!(run.log()["warn"], "some-keys-unusable");
            }
        }
        ring.make(&host, "home/alice/ring", &[made::public(&expired)]);
        let run = host.delivery(&ring.keys()).run();
        run.assert_sealed(&format!("{ring:?}, expired alone"), &[&expired]);
        assert_eq!(run.log()["warn"], "expired");
    }
}

#[test]
fn a_certificate_with_the_address_that_cannot_be_used_is_never_plaintext() {
    let Some(host) = Host::new() else { return };
    let sign_only = made::with_user_id(made::cert("x").retain_subkeys(|_| false), ALICE);
    let rows = [
        ("SHA-1, RSA-1024", made::rsa(ALICE, 1024, HashAlgorithm::SHA1)),
        ("SHA-1", made::rsa(ALICE, 2048, HashAlgorithm::SHA1)),
        ("MD5", made::rsa(ALICE, 2048, HashAlgorithm::MD5)),
        ("compromised", made::revoked(alice(), ReasonForRevocation::KeyCompromised)),
        ("revoked without a reason", made::revoked(alice(), ReasonForRevocation::Unspecified)),
        ("no encryption key", sign_only),
        ("revoked User ID", made::with_revoked_user_id(alice(), ALICE)),
        (
            "revoked User ID beside another",
            made::with_revoked_user_id(made::with_user_id(alice(), "Alice <alice@example.com>"), ALICE),
        ),
    ];
    for ring in Ring::ALL {
        for (name, cert) in &rows {
            ring.make(&host, "home/alice/ring", &[others(), vec![made::public(cert)]].concat());
            let run = host.delivery(&ring.keys()).run();
            run.assert_failed(&format!("{ring:?}, {name}"), 75, "no-usable-key", "");
        }
    }
}

/// gpg makes such keys; here no implementation knows the primary key's algorithm, so nothing can be said of its User IDs.
#[test]
fn a_certificate_whose_signatures_cannot_be_checked_is_never_plaintext() {
    let Some(host) = Host::new() else { return };
    let elsewhere = Home::at(&host.path("elsewhere"));
    elsewhere.generate(ALICE, "brainpoolP256r1", "cert,sign", "never");
    elsewhere.add_subkey(ALICE, "cv25519", "never");
    for ring in Ring::ALL {
        ring.make(&host, "home/alice/ring", &[elsewhere.export(ALICE)]);
        let run = host.delivery(&ring.keys()).run();
        assert_eq!(run.run.status, Some(75), "{ring:?}: {}", run.line);
    }
}

#[test]
fn a_user_id_that_was_revoked_in_one_certificate_leaves_the_other() {
    let Some(host) = Host::new() else { return };
    let moved = made::with_revoked_user_id(made::cert(ALICE), ALICE);
    for ring in Ring::ALL {
        let alice = alice();
        ring.make(&host, "home/alice/ring", &[made::public(&moved), made::public(&alice)]);
        host.delivery(&ring.keys()).run().assert_sealed(&format!("{ring:?}"), &[&alice]);
    }
}

/// A certificate from gpg itself, made, expired and renewed by it.
#[test]
fn keys_that_gpg_made_are_found() {
    let Some(host) = Host::new() else { return };
    let elsewhere = Home::at(&host.path("elsewhere"));
    elsewhere.generate(ALICE, "rsa2048", "cert,sign", "20d");
    elsewhere.add_subkey(ALICE, "rsa2048", "20d");
    let public = elsewhere.export(ALICE);
    for ring in Ring::ALL {
        ring.make(&host, "home/alice/ring", &[others(), vec![public.clone()]].concat());
        let run = host.delivery(&ring.keys()).run();
        assert_eq!(run.log()["outcome"], "sealed", "{ring:?}: {}", run.run.stderr);
        assert_eq!(run.log()["warn"], "expiring", "{ring:?}: {}", run.line);
        let armor = testing::oracle::check_outside(testing::delivery::MAIL, &run.run.stdout).unwrap().armor;
        let opened = elsewhere.gpg(&["--decrypt"], armor);
        assert!(String::from_utf8_lossy(&opened).contains("canary"), "{ring:?}");
    }
}

#[test]
fn both_keyrings_of_a_gnupg_home_are_searched() {
    let Some(host) = Host::new() else { return };
    let alice = alice();
    for (kbx, ring) in [(others(), vec![made::public(&alice)]), (vec![made::public(&alice)], others())] {
        Ring::Kbx.make(&host, "home/alice/ring", &kbx);
        host.write("home/alice/ring/pubring.gpg", &ring.concat());
        host.give("home/alice/ring");
        host.delivery(&Ring::Kbx.keys()).run().assert_sealed("both", &[&alice]);
    }
    // The old one knows nothing of the revocation.
    let revoked = made::revoked(alice.clone(), ReasonForRevocation::KeyCompromised);
    Ring::Kbx.make(&host, "home/alice/ring", &[made::public(&revoked)]);
    host.write("home/alice/ring/pubring.gpg", &made::public(&alice));
    host.give("home/alice/ring");
    host.delivery(&Ring::Kbx.keys()).run().assert_failed("revoked in one", 75, "no-usable-key", "revoked");
}

#[test]
fn an_old_keyring_that_gpg_wrote_is_read() {
    let Some(host) = Host::new() else { return };
    let alice = alice();
    let home = Home::old_at(&host.path("home/alice/ring"));
    others().iter().for_each(|cert| home.import(cert));
    home.import(&made::public(&alice));
    assert!(!host.path("home/alice/ring/pubring.kbx").exists(), "gpg keeps to the old keyring");
    host.give("home/alice/ring");
    host.delivery(&Ring::Kbx.keys()).run().assert_sealed("pubring.gpg", &[&alice]);
}

#[test]
fn a_keyboxd_is_out_of_reach_and_the_hint_says_how_to_enrol() {
    let Some(host) = Host::new() else { return };
    let alice = alice();
    for (name, conf, used) in [
        ("as gpg 2.4 writes it", "use-keyboxd\n", true),
        ("among others", "# GnuPG\nlog-file /dev/null\n  use-keyboxd", true),
        ("with CRLF", "use-keyboxd\r\n", true),
        ("in a comment", "#use-keyboxd\n", false),
        ("empty", "", false),
    ] {
        Ring::Kbx.make(&host, "home/alice/ring", &[made::public(&alice)]);
        host.write("home/alice/ring/common.conf", conf.as_bytes());
        let run = host.delivery(&Ring::Kbx.keys()).run();
        match used {
            false => drop(run.assert_sealed(name, &[&alice])),
            true => {
                run.assert_failed(name, 75, "key-store", "keyboxd");
                assert!(run.run.stderr.contains("gpg --export"), "{}", run.run.stderr);
                assert!(run.run.stderr.contains("| mailseal keys add"), "{}", run.run.stderr);
            }
        }
    }
    // The option can also stand in a file for all users; the database is what tells.
    Ring::PubringGpg.make(&host, "home/alice/ring", &others());
    host.write("home/alice/ring/public-keys.d/pubring.db", b"SQLite format 3\0");
    host.give("home/alice/ring");
    host.delivery(&Ring::Kbx.keys()).run().assert_failed("a database", 75, "key-store", "keyboxd");
}

/// The common guide makes such keys, and then the server can read the mail.
#[test]
fn a_key_whose_secret_half_lies_in_the_same_home_is_refused() {
    let Some(host) = Host::new() else { return };
    for (algorithm, subkey) in [("rsa2048", "rsa2048"), ("ed25519", "cv25519")] {
        let home = Home::at(&host.path("home/alice/ring"));
        home.generate(ALICE, algorithm, "cert,sign", "never");
        home.add_subkey(ALICE, subkey, "never");
        let public = home.export(ALICE);
        host.give("home/alice/ring");
        let run = host.delivery(&Ring::Kbx.keys()).run();
        run.assert_failed(algorithm, 75, "key-store", "secret key");

        // Somebody else's is nothing to us.
        let bob = made::cert("Bob <bob@example.org>");
        home.import(&made::public(&bob));
        host.give("home/alice/ring");
        host.delivery(&Ring::Kbx.keys()).user("bob").run().assert_sealed("bob", &[&bob]);

        host.mode("home/alice/ring/private-keys-v1.d", 0o000);
        host.own("home/alice/ring/private-keys-v1.d", 0, 0);
        let run = host.delivery(&Ring::Kbx.keys()).run();
        run.assert_failed("nobody can say", 75, "key-store", "private-keys-v1.d");
        drop(home);

        fs::remove_dir_all(host.path("home/alice/ring/private-keys-v1.d")).unwrap();
        let run = host.delivery(&Ring::Kbx.keys()).run();
        assert_eq!(run.log()["outcome"], "sealed", "once it is gone: {}", run.run.stderr);
        // GnuPG 1 and 2.0 keep them elsewhere.
        let secret = made::secret(&alice());
        let with_secring = [("secring.gpg", secret)];
        for (file, bytes) in with_secring {
            let cert = parse(&bytes);
            Ring::PubringGpg.make(&host, "home/alice/ring", &[made::public(&cert)]);
            host.write(&format!("home/alice/ring/{file}"), &bytes);
            let run = host.delivery(&Ring::PubringGpg.keys()).run();
            run.assert_failed(file, 75, "key-store", "secret key");
        }
        fs::remove_dir_all(host.path("home/alice/ring")).unwrap();
        drop(public);
    }
}

#[test]
fn a_half_written_keyring_is_never_plaintext() {
    let Some(host) = Host::new() else { return };
    let alice = alice();
    for ring in Ring::ALL {
        ring.make(&host, "home/alice/ring", &[others(), vec![made::public(&alice)]].concat());
        let file = file_with_alice(&host, ring);
        let whole = fs::read(&file).unwrap();
        let start = whole.len() - made::public(&alice).len().min(whole.len());
        for cut in [start + 40, whole.len() - 200, whole.len() - 30] {
            fs::write(&file, &whole[..cut]).unwrap();
            let run = host.delivery(&ring.keys()).run();
            let name = format!("{ring:?}, {cut} of {} bytes", whole.len());
            // What is whole up to there may still be enough to seal.
            assert!(run.log()["outcome"] != "unchanged", "{name}: {}", run.line);
        }
        // gpg begins with a header of 32 bytes.
        fs::write(&file, b"").unwrap();
        let run = host.delivery(&ring.keys()).run();
        let what = if matches!(ring, Ring::Kbx) { "broken off" } else { "cannot be read" };
        run.assert_failed(&format!("{ring:?}, empty"), 75, "key-store", what);
    }
}

fn file_with_alice(host: &Host, ring: Ring) -> std::path::PathBuf {
    let folder = host.path("home/alice/ring");
    let name = match ring {
        Ring::Kbx => "pubring.kbx".into(),
        Ring::PubringGpg => "pubring.gpg".into(),
        Ring::Wkd => format!("example.org/hu/{ALICE_HASH}"),
        Ring::CertD => return newest(&folder),
    };
    folder.join(name)
}

/// The file in a certificate directory that holds Alice's address and no other.
fn newest(folder: &Path) -> std::path::PathBuf {
    let files = fs::read_dir(folder).unwrap().flat_map(|sub| fs::read_dir(sub.unwrap().path()).unwrap());
    let holds = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).contains(ALICE);
    files.map(|file| file.unwrap().path()).find(|path| holds(path)).unwrap()
}

#[test]
fn a_file_of_a_web_key_directory_may_be_armoured() {
    let Some(host) = Host::new() else { return };
    let alice = alice();
    Ring::Wkd.make(&host, "home/alice/ring", &[made::armored(&alice)]);
    host.delivery(&Ring::Wkd.keys()).run().assert_sealed("armoured", &[&alice]);
}

#[test]
fn a_web_key_directory_that_gpg_wks_server_made_is_searched() {
    let Some(host) = Host::new() else { return };
    if Command::new("gpg-wks-server").arg("--version").output().is_err() {
        return skip::say("gpg-wks-server is not installed");
    }
    let (alice, second) = (alice(), made::cert("alice.b+tag@example.org"));
    host.folder("wkd/example.org");
    host.mode("wkd", 0o711);
    let home = Home::at(&host.path("gnupg"));
    for (name, address, cert) in
        [("alice", "alice@example.org", &alice), ("b", "alice.b+tag@example.org", &second)]
    {
        let file = host.write(&format!("{name}.pgp"), &made::public(cert));
        let mut install = Command::new("gpg-wks-server");
        install.env("GNUPGHOME", host.path("gnupg")).arg("-C").arg(host.path("wkd"));
        let made = run(install.arg("--install-key").arg(file).arg(address), b"", 1);
        assert_eq!(made.status, Some(0), "{}", made.stderr);
    }
    drop(home);
    host.give("wkd");
    let keys = format!("sources = [\"wkd-dir:DIR/wkd\"]\n{ADDRESS}");
    host.init(&keys, &[]);
    host.delivery(&keys).run().assert_sealed("alice", &[&alice]);
    host.delivery(&keys).user("Alice.B+Tag").run().assert_sealed("b", &[&second]);
    host.delivery(&keys).user("carol").run().assert_unchanged("carol", "no-key");
    let elsewhere = keys.replace("example.org", "EXAMPLE.com");
    host.delivery(&elsewhere).run().assert_unchanged("another domain", "no-key");
    // The file is at Alice's place, and is not hers.
    let hers = host.path("wkd/example.org/hu").join(ALICE_HASH);
    fs::write(&hers, made::public(&made::cert("Mallory <mallory@example.org>"))).unwrap();
    let run = host.delivery(&keys).run();
    assert_ne!(run.log()["outcome"], "sealed", "{}", run.line);
}

#[test]
fn a_certificate_directory_is_searched_whole_and_nothing_else_in_it() {
    let Some(host) = Host::new() else { return };
    let alice = alice();
    Ring::CertD.make(&host, "home/alice/ring", &[others(), vec![made::public(&alice)]].concat());
    for name in ["trust-root", "writelock", "_sequoia_ca.pgp", "ab/not-a-fingerprint", "README"] {
        host.write(&format!("home/alice/ring/{name}"), &made::public(&made::cert(ALICE)));
    }
    host.give("home/alice/ring");
    host.delivery(&Ring::CertD.keys()).run().assert_sealed("only what is named by a fingerprint", &[&alice]);
}
