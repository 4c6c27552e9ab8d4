//! Newer kinds of certificates: what `mailseal keys add` says of each, and to which of its keys mail is sealed.

use sequoia_openpgp::{Cert, Profile, cert::CipherSuite, parse::Parse};
use testing::{admin::Admin, delivery::MAIL, filter::filter, made, openers, oracle::check_outside};

use super::{ALICE, assert_refused};

/// Enrols a certificate as alice's, and says which of its subkeys open a message then, and what was said.
fn sealed_to(cert: &Cert) -> (Vec<bool>, String) {
    let admin = Admin::new();
    let said = admin.run_with(&["add", "alice", "-"], &made::public(cert)).said();
    let run = filter(&admin.key_file("alice"), &[], MAIL);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    (openers::openable_by(cert, check_outside(MAIL, &run.stdout).unwrap().armor), said)
}

/// Autocrypt v2: the subkey that is replaced after ten days gets the message beside the one that lasts, and never alone.
#[test]
fn a_subkey_that_is_rotated_away_is_never_the_only_one() {
    let whole = made::autocrypt_v2();
    let (opens, said) = sealed_to(&whole);
    assert_eq!(opens, [true, true]);
    assert!(said.contains("no User ID has the address"), "{said}");
    // What was rotated away is not kept, so that the file does not grow with each renewal.
    let admin = Admin::new();
    let old = made::with_rotated_subkey(whole.clone(), made::birth());
    admin.run_with(&["add", "alice", "-"], &made::public(&old)).said();
    let kept = Cert::from_file(admin.key_file("alice")).unwrap();
    assert_eq!((old.keys().subkeys().count(), kept.keys().subkeys().count()), (3, 2));

    let admin = Admin::new();
    let rotated = made::autocrypt_v2_without_fallback();
    for cert in [rotated.clone(), made::with_rotated_subkey(rotated, made::birth())] {
        let run = admin.run_with(&["add", "alice", "-"], &made::public(&cert));
        assert_refused("rotated", &run, 1, "each of its encryption keys is replaced within days");
        assert!(run.stderr.contains("with the subkey that does not expire"), "{}", run.stderr);
        // Put there by hand, it is not sealed to either.
        std::fs::write(admin.path("by-hand.pgp"), made::public(&cert)).unwrap();
        let run = filter(&admin.path("by-hand.pgp"), &[], MAIL);
        assert_eq!((run.status, run.stdout.len()), (Some(75), 0), "{}", run.stderr);
    }
}

/// GnuPG's own Kyber: refused with the way out, and left out where there is another subkey.
#[test]
fn gnupgs_own_kyber_is_refused_with_the_way_out() {
    let only = made::of(CipherSuite::Cv25519, Profile::RFC4880, ALICE);
    let only = only.retain_subkeys(|_| false);
    for version in [4, 5] {
        let admin = Admin::new();
        let run = admin.run_with(&["add", "alice", "-"], &made::with_librepgp_kyber(&only, version));
        assert_refused("kyber", &run, 1, "this build cannot encrypt to GnuPG's own Kyber");
        assert!(run.stderr.contains("--quick-add-key FINGERPRINT cv25519 encr"), "{version}: {}", run.stderr);

        let both = made::cert(ALICE);
        let said = admin.run_with(&["add", "alice", "-"], &made::with_librepgp_kyber(&both, version)).said();
        assert!(said.contains("encrypts with ECDH 256\n"), "{version}: {said}");
        let run = filter(&admin.key_file("alice"), &[], MAIL);
        assert_eq!(openers::openable_by(&both, check_outside(MAIL, &run.stdout).unwrap().armor), [true]);
    }
}

/// An additional decryption subkey opens nothing: it is for whom the owner's software writes to, and may be somebody else's.
#[test]
fn an_additional_decryption_subkey_is_no_recipient() {
    let cert = made::with_adsk(made::cert(ALICE));
    let admin = Admin::new();
    let said = admin.run_with(&["add", "alice", "-"], &made::public(&cert)).said();
    assert!(said.contains("encrypts with ECDH 256\n"), "{said}");
    // At a delivery, too, where nothing was stripped.
    std::fs::write(admin.path("by-hand.pgp"), made::public(&cert)).unwrap();
    for file in [admin.key_file("alice"), admin.path("by-hand.pgp")] {
        let run = filter(&file, &[], MAIL);
        let armor = check_outside(MAIL, &run.stdout).unwrap().armor;
        assert!(openers::open(&cert, armor).is_ok());
        let without = cert.clone().retain_subkeys(|subkey| {
            !subkey
                .self_signatures()
                .any(|it| it.key_flags().is_some_and(|flags| flags.for_storage_encryption()))
        });
        assert!(without.keys().subkeys().count() == 1 && openers::open(&without, armor).is_err());
    }
}

/// One subkey a device, of one certificate or of several.
#[test]
fn each_device_gets_the_message() {
    let two = made::with_second_subkey(made::cert(ALICE));
    assert_eq!(sealed_to(&two).0, [true, true]);
    let (admin, phone) = (Admin::new(), made::cert(ALICE));
    admin.run_with(&["add", "alice", "-"], &[made::public(&two), made::public(&phone)].concat()).said();
    let run = filter(&admin.key_file("alice"), &[], MAIL);
    let armor = check_outside(MAIL, &run.stdout).unwrap().armor;
    assert_eq!(
        (openers::openable_by(&two, armor), openers::openable_by(&phone, armor)),
        (vec![true, true], vec![true])
    );
}
