//! Where a delivery finds certificates, what counts as having none, and the policies for those who have none or old
//! ones: through the filter, run as the mail user with a configuration file.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use sequoia_openpgp::{
    Cert, Profile,
    cert::CipherSuite,
    types::{HashAlgorithm, ReasonForRevocation},
};
use testing::{
    delivery::{Host, MAIL},
    fixtures, made,
};

const FILE: &str = r#"sources = ["file:DIR/keys/%{user}.pgp"]"#;
const DIR: &str = r#"sources = ["dir:DIR/keys/%{user}"]"#;
const HOME_DIR: &str = r#"sources = ["dir:%{home}/.config/mailseal"]"#;

fn alice() -> Cert {
    made::cert("Alice <alice@example.org>")
}

#[test]
fn a_file_or_a_folder_with_a_certificate_seals() {
    let Some(host) = Host::new() else { return };
    let (alice, v6) = (alice(), made::of(CipherSuite::Cv25519, Profile::RFC9580, "Alice"));
    let public = made::public(&alice);
    for (name, file, keys, bytes, opens) in [
        ("file", "keys/alice.pgp", FILE, public.clone(), vec![&alice]),
        ("armoured file", "keys/alice.pgp", FILE, made::armored(&alice), vec![&alice]),
        ("v6", "keys/alice.pgp", FILE, made::public(&v6), vec![&v6]),
        ("ring", "keys/alice.pgp", FILE, [public.clone(), made::public(&v6)].concat(), vec![&alice, &v6]),
        (
            "armours in one file",
            "keys/alice.pgp",
            FILE,
            [made::armored(&alice), made::armored(&v6)].concat(),
            vec![&alice, &v6],
        ),
        ("folder, .pgp", "keys/alice/a.pgp", DIR, public.clone(), vec![&alice]),
        ("folder, .asc", "keys/alice/a.asc", DIR, made::armored(&alice), vec![&alice]),
        ("folder at home", "home/alice/.config/mailseal/x.pgp", HOME_DIR, public, vec![&alice]),
    ] {
        let path = host.write(file, &bytes);
        host.delivery(keys).run().assert_sealed(name, &opens);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn every_certificate_in_a_folder_counts_and_no_other_file_does() {
    let Some(host) = Host::new() else { return };
    let certs = [alice(), made::cert("Alice's phone")];
    host.write("keys/alice/1.pgp", &made::public(&certs[0]));
    host.write("keys/alice/2.asc", &made::armored(&certs[1]));
    for name in ["notes.txt", ".hidden.pgp", "3.pgp~", "pgp"] {
        host.write(&format!("keys/alice/{name}"), b"not a certificate");
    }
    host.delivery(DIR).run().assert_sealed("two", &[&certs[0], &certs[1]]);
    host.write("keys/alice/3.pgp", b"not a certificate");
    host.delivery(DIR).run().assert_failed("a broken third", 75, "key-store", "3.pgp");
}

#[test]
fn the_first_source_that_has_a_certificate_decides() {
    let Some(host) = Host::new() else { return };
    let (first, second) = (alice(), made::cert("Alice's other"));
    host.folder("keys");
    host.write("more/alice.pgp", &made::public(&second));
    let keys = r#"sources = ["file:DIR/keys/%{user}.pgp", "file:DIR/more/%{user}.pgp"]"#;
    host.delivery(keys).run().assert_sealed("only the second has one", &[&second]);
    host.write("keys/alice.pgp", &made::public(&first));
    host.delivery(keys).run().assert_sealed("both have one", &[&first]);
    host.write("keys/alice.pgp", &fs::read(fixtures::cert("revoked-compromised")).unwrap());
    host.delivery(keys).run().assert_failed("the first is revoked", 75, "no-usable-key", "revoked");
    host.mode("keys", 0o700);
    host.delivery(keys).run().assert_failed("the first cannot be asked", 75, "key-store", "denied");
}

#[test]
fn variables_stand_for_the_parts_of_the_name_and_the_home() {
    let Some(host) = Host::new() else { return };
    let alice = alice();
    let public = made::public(&alice);
    for (source, user, file) in [
        ("file:DIR/k/%{user}.pgp", "alice@example.org", "k/alice@example.org.pgp"),
        ("file:DIR/k/%{user}.pgp", "ALICE@Example.ORG", "k/alice@example.org.pgp"),
        ("file:DIR/k/%{domain}/%{local}", "alice@example.org", "k/example.org/alice"),
        ("file:DIR/k/%{domain}/%{local}", "a@b@example.org", "k/example.org/a@b"),
        ("file:DIR/k/%{local}-%{local}", "alice", "k/alice-alice"),
        ("file:%{home}/key.pgp", "alice", "home/alice/key.pgp"),
        ("dir:%{home}/%{user}", "alice", "home/alice/alice/x.pgp"),
        // What a variable stands for is not looked through for variables.
        ("file:DIR/k/%{user}", "%{home}", "k/%{home}"),
        ("file:DIR/k/%{user}.pgp", "Zo\u{eb}", "k/zo\u{eb}.pgp"),
        ("file:DIR/k/%{user}.pgp", "a..b", "k/a..b.pgp"),
        ("file:DIR/k/%{user}.pgp", "-x", "k/-x.pgp"),
    ] {
        let path = host.write(file, &public);
        let keys = format!("sources = [\"{source}\"]");
        let run = host.delivery(&keys).user(user).run();
        run.assert_sealed(&format!("{source} of {user}"), &[&alice]);
        fs::remove_file(path).unwrap();
    }
}

/// The files to which such names would lead are there, and hold a certificate that would be used.
#[test]
fn a_user_name_is_never_a_path() {
    let Some(host) = Host::new() else { return };
    let public = made::public(&alice());
    for file in ["secret.pgp", "keys/.pgp", "keys/...pgp", "keys/.hidden.pgp", "keys/a/b.pgp", "keys/x/.pgp"]
    {
        host.write(file, &public);
    }
    let long = "a".repeat(201);
    let slash_in_domain = "a@b/c";
    for user in [
        "",
        ".",
        "..",
        "../secret",
        "a/b",
        "/etc/passwd",
        ".hidden",
        "a/../../secret",
        "x/",
        "a\nb",
        "a\tb",
        "a\x7fb",
        "a@",
        "@b",
        "a@..",
        "../x@b",
        ".a@b",
        slash_in_domain,
        &long,
    ] {
        for source in ["file:DIR/keys/%{user}.pgp", "dir:DIR/keys/%{local}", "file:DIR/keys/%{local}.pgp"] {
            let run = host.delivery(&format!("sources = [\"{source}\"]")).user(user).run();
            run.assert_failed(&format!("{user:?} in {source}"), 75, "user", "user name");
        }
    }
    host.init(FILE, &[]);
    host.delivery(FILE).user_in_environment(b"alice").run().assert_unchanged("named by Dovecot", "no-key");
    // Dovecot's user in another encoding is not the one with the replacement character.
    host.write("keys/al\u{fffd}.pgp", &public);
    let run = host.delivery(FILE).user_in_environment(b"al\xe9").run();
    run.assert_failed("no UTF-8", 75, "user", "is not UTF-8");
}

/// The contract's "No certificate", and what looks like it.
#[test]
fn only_what_is_missing_below_a_store_or_a_home_is_no_certificate() {
    let Some(host) = Host::new() else { return };
    host.folder("keys/empty");
    host.folder("keys/closed");
    host.mode("keys/closed", 0o700);
    host.write("keys/file", b"");
    host.folder("home/closed");
    host.mode("home/closed", 0o700);
    host.folder("home/half/.config/mailseal");
    host.mode("home/half/.config/mailseal", 0o700);
    host.write("home/plain", b"");
    host.folder("home/empty-folder/.config/mailseal");
    let unmounted = host.path("mnt/keys");
    host.folder("home/linked");
    symlink(&unmounted, host.path("home/linked/.config")).unwrap();
    symlink(&unmounted, host.path("keys/linked")).unwrap();

    let home = |name: &str| Some(host.path(&format!("home/{name}")));
    /// Source, home, and status and reason of the failure where it is not "no certificate".
    type Row<'a> = (&'a str, Option<PathBuf>, Option<(i32, &'a str)>);
    let none = None;
    let rows: [Row<'_>; 24] = [
        // Outside the home.
        ("file:DIR/keys/%{user}.pgp", None, none),
        ("dir:DIR/keys/%{user}", None, none),
        ("file:DIR/keys/empty/%{user}.pgp", None, none),
        ("file:DIR/gone/%{user}.pgp", None, Some((75, "key-store"))),
        ("dir:DIR/gone/%{user}", None, Some((75, "key-store"))),
        ("file:DIR/keys/%{user}/key.pgp", None, none),
        ("dir:DIR/keys/empty", None, none),
        ("dir:DIR/keys/linked", None, Some((75, "key-store"))),
        ("dir:DIR/keys/file", None, Some((75, "key-store"))),
        ("file:DIR/keys/file/%{user}.pgp", None, Some((75, "key-store"))),
        ("file:DIR/keys/closed/%{user}.pgp", None, Some((75, "key-store"))),
        ("dir:DIR/keys/closed", None, Some((75, "key-store"))),
        ("dir:DIR/keys/closed/%{user}", None, Some((75, "key-store"))),
        // Below the home.
        ("dir:%{home}/.config/mailseal", home("alice"), none),
        ("file:%{home}/.config/mailseal/x/y/z.pgp", home("alice"), none),
        ("dir:%{home}/.config/mailseal", home("empty-folder"), none),
        ("dir:%{home}/.config/mailseal", home("gone"), Some((75, "home"))),
        ("dir:%{home}/.config/mailseal", home("plain"), Some((75, "home"))),
        ("dir:%{home}/.config/mailseal", home("closed"), Some((75, "key-store"))),
        ("dir:%{home}/.config/mailseal", home("half"), Some((75, "key-store"))),
        ("dir:%{home}/.config/mailseal", home("linked"), Some((75, "key-store"))),
        ("file:%{home}/.config/alice.pgp", home("linked"), Some((75, "key-store"))),
        // What is unknown.
        ("dir:%{home}/.config/mailseal", None, Some((75, "home"))),
        ("file:DIR/keys/%{domain}/%{local}.pgp", None, Some((75, "user"))),
    ];
    for (source, home, wanted) in rows {
        let name = format!("{source}, home {home:?}");
        let run = host.delivery(&format!("sources = [\"{source}\"]")).home(home.as_deref()).run();
        match wanted {
            None => {
                run.assert_failed(&name, 75, "key-store", "keys init");
                host.init(&format!("sources = [\"{source}\"]"), &[]);
                let run = host.delivery(&format!("sources = [\"{source}\"]")).home(home.as_deref()).run();
                run.assert_unchanged(&name, "no-key");
                fs::remove_file(host.path("known/.mailseal")).unwrap();
            }
            Some((status, reason)) => run.assert_failed(&name, status, reason, ""),
        }
    }
    host.folder("keys/alice");
    let run = host.delivery("sources = [\"dir:DIR/keys/%{user}\"]").run();
    run.assert_failed("an empty folder of the user's", 75, "key-store", "holds no certificate");
    for home in ["home/alice", "/../home", "/home/../home/alice"] {
        let run = host.delivery(HOME_DIR).home(Some(Path::new(home))).run();
        run.assert_failed(home, 75, "home", "absolute");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_never_plaintext() {
    let Some(host) = Host::new() else { return };
    host.folder("keys");
    host.delivery("source = []").run().assert_failed("an unknown key", 78, "config", "line 3");
}

#[test]
fn missing_certificates_can_be_made_a_failure() {
    let Some(host) = Host::new() else { return };
    host.folder("keys");
    host.init(FILE, &[]);
    let run = |policy: &str, user: &str| host.delivery(&format!("{FILE}\n{policy}")).user(user).run();
    for (policy, user, required) in [
        ("", "alice@example.org", false),
        ("missing = \"unchanged\"", "alice@example.org", false),
        ("missing = \"defer\"", "alice@example.org", true),
        ("require = [\"*@example.org\"]", "alice@example.org", true),
        ("require = [\"*@EXAMPLE.org\"]", "Alice@Example.ORG", true),
        ("require = [\"*@example.org\"]", "alice@example.org.net", false),
        ("require = [\"*@example.org\"]", "alice@example.com", false),
        ("require = [\"bob\", \"al*e\"]", "alice", true),
        ("require = [\"alice\"]", "alice2", false),
        ("require = [\"*\"]", "alice", true),
        ("require = []", "alice", false),
    ] {
        let name = format!("{policy} for {user}");
        match required {
            true => run(policy, user).assert_failed(&name, 75, "key-required", "no certificate"),
            false => run(policy, user).assert_unchanged(&name, "no-key"),
        }
    }
}

#[test]
fn who_has_certificates_that_cannot_be_used_never_gets_plaintext() {
    let Some(host) = Host::new() else { return };
    let of = |name: &str| fs::read(fixtures::cert(name)).unwrap();
    let half = made::public(&alice());
    for (name, bytes, reason, what) in [
        ("revoked as compromised", of("revoked-compromised"), "no-usable-key", "revoked"),
        ("revoked without a reason", of("revoked-unspecified"), "no-usable-key", "revoked"),
        ("no encryption key", of("sign-only"), "no-usable-key", "encrypt"),
        ("SHA-1", made::public(&made::rsa("Alice", 2048, HashAlgorithm::SHA1)), "no-usable-key", "SHA1"),
        (
            "RSA-1024",
            made::public(&made::rsa("Alice", 1024, HashAlgorithm::SHA256)),
            "no-usable-key",
            "RSA1024",
        ),
        ("MD5", made::public(&made::rsa("Alice", 2048, HashAlgorithm::MD5)), "no-usable-key", "MD5"),
        ("a secret key", made::secret(&alice()), "key-store", "secret key"),
        ("an armoured secret key", fs::read(fixtures::secret("rsa3072")).unwrap(), "key-store", "secret key"),
        ("an empty file", Vec::new(), "key-store", "certificate"),
        ("text", b"hello\n".to_vec(), "key-store", "certificate"),
        ("one byte", b"\x99".to_vec(), "key-store", "certificate"),
        ("half of one", half[..half.len() / 2].to_vec(), "", ""),
        ("broken armour", of("garbage-armor"), "key-store", "certificate"),
        ("unfinished armour", made::armored(&alice())[..200].to_vec(), "key-store", "certificate"),
        ("a good one and half of another", [&made::public(&alice()), &half[..60]].concat(), "key-store", ""),
    ] {
        host.write("keys/alice.pgp", &bytes);
        let run = host.delivery(FILE).run();
        // Half a certificate may end with any of its packets, and so is either no certificate or a useless one.
        let reason = if reason.is_empty() { run.log()["reason"].to_owned() } else { reason.to_owned() };
        run.assert_failed(name, 75, &reason, what);
    }
}

#[test]
fn one_usable_certificate_is_enough() {
    let Some(host) = Host::new() else { return };
    let (alice, expired) = (alice(), made::valid_for("Alice", 300 * made::DAY));
    let revoked = made::revoked(made::cert("Alice"), ReasonForRevocation::KeyCompromised);
    let good = made::public(&alice);
    for (name, other) in [
        ("revoked", made::public(&revoked)),
        ("expired", made::public(&expired)),
        ("weak", made::public(&made::rsa("Alice", 1024, HashAlgorithm::SHA256))),
        ("sign-only", fs::read(fixtures::cert("sign-only")).unwrap()),
    ] {
        for bytes in [[&good[..], &other].concat(), [&other[..], &good].concat()] {
            host.write("keys/alice.pgp", &bytes);
            let run = host.delivery(FILE).run();
            run.assert_sealed(name, &[&alice]);
            assert_eq!(run.log()["warn"], "some-keys-unusable", "{name}");
        }
    }
}

/// A second copy may know more: an old backup beside the new export.
#[test]
fn a_certificate_that_sequoia_would_not_look_at_is_not_passed_over() {
    let Some(host) = Host::new() else { return };
    let (alice, other) = (alice(), made::cert("Alice <alice@example.net>"));
    let armored = [made::armored(&alice), made::armored(&other)].concat();
    host.write("keys/alice.pgp", &armored);
    host.delivery(FILE).run().assert_sealed("two armors", &[&alice, &other]);
    host.write("keys/alice.pgp", &[&armored[..], "\u{dc}ber Alice\n".as_bytes()].concat());
    host.delivery(FILE).run().assert_sealed("text behind them", &[&alice, &other]);
    for more in [made::public(&other), made::secret(&other)] {
        host.write("keys/alice.pgp", &[made::armored(&alice), more].concat());
        host.delivery(FILE).run().assert_failed("mixed", 75, "key-store", "binary data follows");
    }
}

#[test]
fn copies_of_one_certificate_are_one() {
    let Some(host) = Host::new() else { return };
    let alice = alice();
    let revoked = made::public(&made::revoked(alice.clone(), ReasonForRevocation::KeyCompromised));
    let longer = made::public(&made::with_second_subkey(alice.clone()));
    let public = made::public(&alice);
    for (name, copies, keys) in
        [("the same", [&public, &public], 1), ("a further subkey", [&public, &longer], 2)]
    {
        host.write("keys/alice.pgp", &copies.map(|copy| &copy[..]).concat());
        host.write("keys/alice/1.pgp", copies[0]);
        host.write("keys/alice/2.pgp", copies[1]);
        for source in [FILE, DIR] {
            let run = host.delivery(source).run();
            assert_eq!(run.log()["keys"].split(',').count(), keys, "{name}, {source}: {}", run.line);
        }
    }
    for copies in [[&public, &revoked], [&revoked, &public]] {
        host.write("keys/alice.pgp", &copies.map(|copy| &copy[..]).concat());
        host.write("keys/alice/1.pgp", copies[0]);
        host.write("keys/alice/2.pgp", copies[1]);
        for source in [FILE, DIR] {
            let run = host.delivery(source).run();
            run.assert_failed(&format!("revoked, {source}"), 75, "no-usable-key", "revoked");
        }
    }
    let options = ["--key", "DIR/keys/alice/1.pgp", "--key", "DIR/keys/alice/2.pgp"];
    host.delivery(FILE).options(&options).run().assert_failed("two files", 75, "no-usable-key", "revoked");
}

#[test]
fn expired_and_retired_certificates_seal_and_warn_or_defer() {
    let Some(host) = Host::new() else { return };
    let retired = |reason| made::revoked(made::cert("Alice"), reason);
    for (name, cert) in [
        ("expired", made::valid_for("Alice", 300 * made::DAY)),
        ("superseded", retired(ReasonForRevocation::KeySuperseded)),
        ("retired", retired(ReasonForRevocation::KeyRetired)),
    ] {
        host.write("keys/alice.pgp", &made::public(&cert));
        for policy in ["", "expired = \"encrypt\""] {
            let run = host.delivery(&format!("{FILE}\n{policy}")).run();
            run.assert_sealed(name, &[&cert]);
            assert_eq!(run.log()["warn"], "expired", "{name}");
        }
        let run = host.delivery(&format!("{FILE}\nexpired = \"defer\"")).run();
        run.assert_failed(name, 75, "no-usable-key", &made::fingerprint(&cert));
    }
}

#[test]
fn the_certificate_that_expired_last_is_taken() {
    let Some(host) = Host::new() else { return };
    let [first, last] = [300, 600].map(|days| made::valid_for("Alice", days * made::DAY));
    for bytes in [[made::public(&first), made::public(&last)], [made::public(&last), made::public(&first)]] {
        host.write("keys/alice.pgp", &bytes.concat());
        host.delivery(FILE).run().assert_sealed("the last", &[&last]);
    }
}

#[test]
fn what_expires_soon_is_warned_about() {
    let Some(host) = Host::new() else { return };
    for (days, warning) in [(2, "expiring"), (29, "expiring"), (32, "-")] {
        let cert = made::expires_in("Alice", days * made::DAY);
        host.write("keys/alice.pgp", &made::public(&cert));
        let run = host.delivery(FILE).run();
        run.assert_sealed("soon", &[&cert]);
        assert_eq!(run.log()["warn"], warning, "{days} days");
    }
}

#[test]
fn recovery_certificates_can_open_every_sealed_message() {
    let Some(host) = Host::new() else { return };
    let (alice, one, two) = (alice(), made::cert("One"), made::cert("Two"));
    host.write("keys/alice.pgp", &made::public(&alice));
    host.write("keys/bob.pgp", &fs::read(fixtures::cert("revoked-compromised")).unwrap());
    host.write("recovery/one.pgp", &made::public(&one));
    host.write("recovery/two.asc", &made::armored(&two));
    let keys = format!("{FILE}\nrecovery = [\"DIR/recovery/one.pgp\", \"DIR/recovery/two.asc\"]");
    host.delivery(&keys).run().assert_sealed("both", &[&alice, &one, &two]);
    host.init(&keys, &[]);
    host.delivery(&keys).user("carol").run().assert_unchanged("never alone", "no-key");
    host.delivery(&keys).user("bob").run().assert_failed("never alone", 75, "no-usable-key", "revoked");
    let with_key = host.delivery(&keys).options(&["--key", "DIR/keys/alice.pgp"]).run();
    with_key.assert_sealed("with --key, too", &[&alice, &one, &two]);
}

#[test]
fn a_recovery_certificate_that_cannot_be_used_stops_all_sealing() {
    let Some(host) = Host::new() else { return };
    host.write("keys/alice.pgp", &made::public(&alice()));
    let expired = made::public(&made::valid_for("Old", 300 * made::DAY));
    for (name, bytes) in [
        ("missing", None),
        ("empty", Some(Vec::new())),
        ("expired", Some(expired)),
        ("sign-only", Some(fs::read(fixtures::cert("sign-only")).unwrap())),
        ("revoked", Some(fs::read(fixtures::cert("revoked-retired")).unwrap())),
        ("secret", Some(made::secret(&made::cert("Recovery")))),
    ] {
        if let Some(bytes) = bytes {
            host.write("recovery.pgp", &bytes);
        }
        let keys = format!("{FILE}\nrecovery = [\"DIR/recovery.pgp\"]");
        let run = host.delivery(&keys).run();
        run.assert_failed(name, 78, "recovery", "recovery certificate");
    }
    host.mode("recovery.pgp", 0o600);
    let run = host.delivery(&format!("{FILE}\nrecovery = [\"DIR/recovery.pgp\"]")).run();
    run.assert_failed("unreadable", 78, "recovery", "denied");
}

#[test]
fn the_log_line_says_what_became_of_the_message() {
    let Some(host) = Host::new() else { return };
    let alice = alice();
    host.write("keys/alice.pgp", &made::public(&alice));
    let key_id = alice.keys().subkeys().next().unwrap().key().keyid().to_hex();

    let run = host.delivery(FILE).run();
    assert_eq!(run.line.matches('\n').count(), 1, "one line");
    let names: Vec<_> = run.line.split_whitespace().filter_map(|pair| pair.split('=').next()).collect();
    let wanted =
        ["user", "outcome", "reason", "warn", "keys", "format", "in", "out", "key_ms", "ms", "msgid"];
    assert!(names.ends_with(&wanted), "{names:?}");
    let log = run.log();
    let (size_in, size_out) = (MAIL.len().to_string(), run.run.stdout.len().to_string());
    for (name, value) in [
        ("user", "alice"),
        ("outcome", "sealed"),
        ("reason", "-"),
        ("warn", "-"),
        ("keys", &*key_id),
        ("format", "seipd1"),
        ("in", &*size_in),
        ("out", &*size_out),
        ("msgid", "<one@example.net>"),
    ] {
        assert_eq!(log[name], value, "{}", run.line);
    }
    assert!(!run.line.contains("canary"));

    let run = host.delivery(FILE).config("[log]\nmsgid = false\n").run();
    assert!(!run.line.contains("msgid"), "{}", run.line);

    host.init(FILE, &[]);
    let run = host.delivery(FILE).user("carol").run();
    run.assert_unchanged("carol", "no-key");
    assert_eq!((run.log()["keys"], run.log()["format"]), ("-", "-"), "{}", run.line);
    assert_eq!((run.log()["in"], run.log()["out"]), (&*size_in, &*size_in), "{}", run.line);

    let run = host.delivery(FILE).user("a b=c\u{1b}").run();
    assert!(run.line.contains("user=a\\x20b\\x3dc\\x1b outcome=deferred reason=user "), "{}", run.line);
}
