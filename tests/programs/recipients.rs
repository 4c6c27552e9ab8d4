//! Every mix of old, new and post-quantum recipients: which container is written, who is left out with a warning, and
//! that everybody else can open the message.

use std::sync::LazyLock;

use sequoia_openpgp::{Cert, Profile, cert::CipherSuite, types::HashAlgorithm};
use testing::{
    delivery::{Delivered, Host},
    gnupg::Home,
    made,
};

const KEYS: &str = r#"sources = ["file:DIR/keys/%{user}.pgp"]"#;

/// A kind of certificate.
struct Kind {
    name: &'static str,
    v6: bool,
    /// RFC 9980 wants a version 6 PKESK for it, which cannot stand before SEIPDv1.
    only_v6: bool,
    /// GnuPG 2.2 knows it.
    gpg: bool,
    cert: Cert,
}

static KINDS: LazyLock<[Kind; 6]> = LazyLock::new(|| {
    let kind = |name, v6, only_v6, gpg, cert| Kind { name, v6, only_v6, gpg, cert };
    [
        kind("rsa", false, false, true, made::rsa("RSA", 2048, HashAlgorithm::SHA256)),
        kind("curve25519", false, false, true, made::cert("Curve25519")),
        kind("v6", true, false, false, made::of(CipherSuite::Cv25519, Profile::RFC9580, "v6")),
        kind("ml-kem-768-v4", false, false, false, made::ml_kem_v4("ML-KEM-768, v4")),
        kind(
            "ml-kem-768",
            true,
            false,
            false,
            made::of(CipherSuite::MLDSA65_Ed25519, Profile::RFC9580, "768"),
        ),
        kind(
            "ml-kem-1024",
            true,
            true,
            false,
            made::of(CipherSuite::MLDSA87_Ed448, Profile::RFC9580, "1024"),
        ),
    ]
});

fn names(kinds: &[&Kind]) -> String {
    kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join("+")
}

fn enrol(host: &Host, kinds: &[&Kind]) {
    let bytes: Vec<u8> = kinds.iter().flat_map(|kind| made::public(&kind.cert)).collect();
    host.write("keys/alice.pgp", &bytes);
}

/// Those to whom a message to `kinds` is sealed, and its container.
fn expected<'a>(kinds: &[&'a Kind]) -> (Vec<&'a Kind>, &'static str) {
    if kinds.iter().all(|kind| kind.v6) {
        return (kinds.to_vec(), "seipd2");
    }
    (kinds.iter().copied().filter(|kind| !kind.only_v6).collect(), "seipd1")
}

fn check(name: &str, run: &Delivered, kinds: &[&Kind], gnupg: &Home) {
    let (reached, format) = expected(kinds);
    let certs: Vec<_> = reached.iter().map(|kind| &kind.cert).collect();
    let armor = run.assert_sealed(name, &certs);
    let log = run.log();
    assert_eq!(log["format"], format, "{name}");
    let all = reached.len() == kinds.len();
    assert_eq!(log["warn"], if all { "-" } else { "some-keys-unusable" }, "{name}");
    if reached.iter().any(|kind| kind.gpg) {
        let opened = gnupg.gpg(&["--decrypt"], &armor);
        assert!(String::from_utf8_lossy(&opened).contains("canary in the body"), "{name}: gpg");
    }
}

/// GnuPG with the secret keys that it can read.
fn gnupg(host: &Host) -> Home {
    let home = Home::at(&host.path("gnupg"));
    KINDS.iter().filter(|kind| kind.gpg).for_each(|kind| home.import(&made::secret(&kind.cert)));
    home
}

#[test]
fn every_mix_is_opened_by_each_whom_it_reaches() {
    let Some(host) = Host::new() else { return };
    let gnupg = gnupg(&host);
    for subset in 1..1 << KINDS.len() {
        let kinds: Vec<_> =
            KINDS.iter().enumerate().filter(|(n, _)| subset >> n & 1 == 1).map(|(_, kind)| kind).collect();
        enrol(&host, &kinds);
        check(&names(&kinds), &host.delivery(KEYS).run(), &kinds, &gnupg);
    }
}

#[test]
fn recovery_is_reached_or_nothing_is_sealed() {
    let Some(host) = Host::new() else { return };
    let gnupg = gnupg(&host);
    let keys = format!("{KEYS}\nrecovery = [\"DIR/recovery.pgp\"]");
    for user in KINDS.iter() {
        enrol(&host, &[user]);
        for recovery in KINDS.iter().filter(|kind| kind.name != user.name) {
            host.write("recovery.pgp", &made::public(&recovery.cert));
            let (run, both) = (host.delivery(&keys).run(), [user, recovery]);
            let (name, reached) = (format!("{}, recovery {}", user.name, recovery.name), expected(&both).0);
            let reaches = |kind: &Kind| reached.iter().any(|other| other.name == kind.name);
            match (reaches(user), reaches(recovery)) {
                (true, true) => check(&name, &run, &both, &gnupg),
                (_, false) => run.assert_failed(&name, 78, "recovery", &made::fingerprint(&recovery.cert)),
                (false, true) => {
                    run.assert_failed(&name, 75, "no-usable-key", &made::fingerprint(&user.cert))
                }
            }
        }
    }
}

#[test]
fn a_key_that_cannot_share_the_message_leaves_its_certificates_other_key() {
    let Some(host) = Host::new() else { return };
    let suite = CipherSuite::MLDSA87_Ed448;
    let two = made::with_second_subkey(made::of(suite, Profile::RFC9580, "ML-KEM-1024 and X25519"));
    let old = made::cert("Old");
    host.write("keys/alice.pgp", &[made::public(&two), made::public(&old)].concat());
    let run = host.delivery(KEYS).run();
    run.assert_sealed("mixed", &[&two, &old]);
    assert_eq!((run.log()["format"], run.log()["warn"]), ("seipd1", "some-keys-unusable"));
    host.write("keys/alice.pgp", &made::public(&two));
    let run = host.delivery(KEYS).run();
    let keys = run.log()["keys"].split(',').count();
    assert_eq!((run.log()["format"], run.log()["warn"], keys), ("seipd2", "-", 2), "{}", run.line);
}
