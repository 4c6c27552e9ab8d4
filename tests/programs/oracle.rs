//! The byte oracle: what every mail must become, in every line ending, for every kind of certificate.
//!
//! `cargo test --test programs oracle:: -- --ignored` runs the whole corpus of real mail through all of them.

use std::{collections::HashSet, sync::Mutex};

use testing::{
    filter::{Run, filter},
    fixtures::{self, Mail},
    header, jobs,
    openers::{self, GnuPg},
    oracle::{check_outside, check_run, is_unchanged, key},
    variants::Variant,
};

const CERTS: [&str; 3] = ["curve25519", "rsa3072", "v6"];

/// The mails of the corpus that are encrypted already, found by reading them, not by running the filter. All others
/// must be sealed: `autocrypt__example-setup-message` has its armour in HTML beside clear text, and so on.
const ENCRYPTED: [&str; 1] = ["autocrypt+autocrypt__example-gossip.21926d97"];

#[derive(Debug)]
struct Job<'a> {
    mail: &'a Mail,
    variant: Variant,
    cert: &'static str,
}

fn matrix<'a>(mails: &'a [Mail], variants: &[Variant], certs: &[&'static str]) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for mail in mails {
        for &variant in variants {
            jobs.extend(certs.iter().map(|&cert| Job { mail, variant, cert }));
        }
    }
    jobs
}

/// Checks every job; `encrypted` names the mails that must come out as they went in.
fn check(jobs: &[Job<'_>], encrypted: &[&str]) {
    let gnupg = GnuPg::new();
    let boundaries = Mutex::new(HashSet::new());
    jobs::all(
        jobs,
        |job| format!("{} {:?} {}", job.mail.name, job.variant, job.cert),
        |job| {
            let message = job.variant.of(&job.mail.bytes);
            let run = filter(&key(job.cert), &[], &message);
            if encrypted.contains(&job.mail.name.as_str()) {
                return is_unchanged(&message, &run)
                    .then_some(())
                    .ok_or(format!("changed: exit {:?}", run.status));
            }
            let boundary = check_run(&message, &run, job.cert, Some(&gnupg))?;
            boundaries
                .lock()
                .unwrap()
                .insert(boundary)
                .then_some(())
                .ok_or("a boundary came twice".to_owned())
        },
    );
}

#[test]
fn fixtures_in_every_form() {
    check(&matrix(&fixtures::mails("mails"), &Variant::ALL, &CERTS), &[]);
}

/// Each device of a user has its own subkey: either secret key alone must open the message.
#[test]
fn both_subkeys_of_a_certificate_are_addressed() {
    let mails = fixtures::mails("mails");
    for cert in ["two-subkeys", "two-subkeys-v6"] {
        check(&matrix(&mails[..5], &[Variant::AsStored], &[cert]), &[]);
        let run = filter(&key(cert), &[], &mails[0].bytes);
        let sealed = check_outside(&mails[0].bytes, &run.stdout).unwrap();
        assert_eq!(openers::openable_with(cert, sealed.armor), 2, "{cert}");
    }
}

#[test]
fn corpus_as_stored_and_crlf() {
    let Some(mails) = fixtures::corpus() else { return };
    check(&matrix(&mails, &[Variant::AsStored, Variant::Crlf], &["curve25519"]), &ENCRYPTED);
}

#[test]
#[ignore = "some minutes: every corpus mail in every form to every kind of certificate"]
fn corpus_in_every_form() {
    let Some(mails) = fixtures::corpus() else { return };
    check(&matrix(&mails, &Variant::ALL, &CERTS), &ENCRYPTED);
}

/// The exceptions above rest on the mails themselves: each is multipart/encrypted, and no other mail of the corpus is.
#[test]
fn the_corpus_exceptions_are_encrypted() {
    let Some(mails) = fixtures::corpus() else { return };
    let claims: Vec<&str> = mails
        .iter()
        .filter(|mail| {
            let header = header::split(&mail.bytes);
            let kinds = header.items.iter().filter(|item| item.is("content-type")).map(header::Item::value);
            let kinds = kinds.collect::<String>().to_lowercase();
            let body = header.body.windows(27).any(|window| window == b"-----BEGIN PGP MESSAGE-----");
            body && kinds.starts_with("multipart/encrypted") || kinds.contains("pkcs7-mime")
        })
        .map(|mail| mail.name.as_str())
        .collect();
    assert_eq!(claims, ENCRYPTED);
}

/// An oracle that nothing fails is none: each of these changes to a sealed message must be seen.
#[test]
fn the_oracle_sees_what_is_wrong() {
    let mail = fixtures::mails("mails").into_iter().find(|mail| mail.name == "nested").unwrap().bytes;
    let run = filter(&key("curve25519"), &[], &mail);
    check_run(&mail, &run, "curve25519", None).expect("right as it is");
    let text = String::from_utf8(run.stdout.clone()).unwrap();
    let other = filter(&key("curve25519"), &[], b"Subject: another\n\nmessage\n");
    let other = String::from_utf8(other.stdout).unwrap();
    let armor = |text: &str| {
        let (from, to) = (text.find("-----BEGIN").unwrap(), text.find("\n-----END").unwrap());
        text[from..to].to_owned()
    };

    let changes = [
        ("a field lost", text.replacen("Subject: Lunch on Friday\n", "", 1)),
        ("a field changed", text.replacen("Friday", "friday", 1)),
        ("a field added", text.replacen("\n\n", "\nX-New: 1\n\n", 1)),
        (
            "fields in another order",
            text.replacen("MIME-Version: 1.0\n", "", 1).replacen("\n\n", "\nMIME-Version: 1.0\n\n", 1),
        ),
        ("a second Content-Type", text.replacen("\n\n", "\nContent-Type: text/plain\n\n", 1)),
        ("a Content-Description", text.replacen("\n\n", "\nContent-Description: x\n\n", 1)),
        ("text before the parts", text.replacen("\n\n", "\n\nclear\n", 1)),
        ("text after the parts", format!("{text}clear\n")),
        (
            "text after the armour",
            text.replacen("-----END PGP MESSAGE-----\n", "-----END PGP MESSAGE-----\nclear\n", 1),
        ),
        (
            "text in the armour",
            text.replacen(
                "-----BEGIN PGP MESSAGE-----\n",
                "-----BEGIN PGP MESSAGE-----\nComment: clear\n",
                1,
            ),
        ),
        ("CRLF", text.replace('\n', "\r\n")),
        ("one CRLF", text.replacen("Version: 1\n", "Version: 1\r\n", 1)),
        ("another entity", text.replace(&armor(&text), &armor(&other))),
        ("another boundary prefix", text.replace("=_mailseal-", "=_mail-seal-")),
        ("nothing done", String::from_utf8(mail.clone()).unwrap()),
    ];
    for (what, changed) in changes {
        let run = Run { status: Some(0), stdout: changed.into_bytes(), stderr: String::new() };
        assert!(check_run(&mail, &run, "curve25519", None).is_err(), "unseen: {what}");
    }
    let failed = Run { status: Some(75), ..run };
    assert!(check_run(&mail, &failed, "curve25519", None).is_err(), "unseen: exit 75");
}
