//! What `--key` makes of good, old, revoked and broken certificates, and of no message at all: sealed, or no output.

use std::path::Path;

use testing::{
    filter::filter,
    fixtures, openers,
    oracle::{check_outside, check_run, key},
};

const MAIL: &[u8] = b"Subject: canary in the field\n\ncanary in the body\n";

#[test]
fn unusable_certificates_defer() {
    let names =
        ["sign-only", "revoked-compromised", "revoked-unspecified", "garbage", "garbage-armor", "empty"];
    for name in names {
        filter(&key(name), &[], MAIL).assert_failed(name, 75);
    }
}

#[test]
fn a_missing_certificate_file_never_gives_plaintext() {
    let run = filter(Path::new("/nonexistent/certificate.pgp"), &[], MAIL);
    assert!(matches!(run.status, Some(75 | 78)), "{run:?}");
    assert!(run.stdout.is_empty());
}

#[test]
fn good_certificates_seal() {
    for name in ["curve25519", "rsa3072", "two-subkeys", "v6", "two-subkeys-v6"] {
        let run = filter(&key(name), &[], MAIL);
        check_run(MAIL, &run, name, None).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

/// At rest an old key protects better than none.
#[test]
fn expired_and_retired_certificates_still_seal() {
    for name in ["expired", "expired-subkeys", "revoked-superseded", "revoked-retired"] {
        let run = filter(&key(name), &[], MAIL);
        assert_eq!(run.status, Some(0), "{name}: {}", run.stderr);
        let sealed = check_outside(MAIL, &run.stdout).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(openers::openable_with(name, sealed.armor), 1, "{name}");
    }
}

/// Of several expired subkeys only the one that expired last is used.
#[test]
fn the_subkey_that_expired_last_is_taken() {
    let run = filter(&key("expired-subkeys"), &[], MAIL);
    let sealed = check_outside(MAIL, &run.stdout).unwrap();
    let latest = openers::openable_by_expiry("expired-subkeys", sealed.armor);
    assert_eq!(latest, [false, true], "first the one of 2020, then the one of 2021");
}

/// A secret key in the place of a certificate: sealed to it or refused, but never in clear.
#[test]
fn a_secret_key_file_never_gives_plaintext() {
    let run = filter(&fixtures::secret("curve25519"), &[], MAIL);
    match run.status {
        Some(0) => drop(check_outside(MAIL, &run.stdout).expect("sealed")),
        _ => assert!(run.stdout.is_empty(), "{run:?}"),
    }
}
