//! Mail that gpgit sealed: decrypted, audited, and resealed at a key change. The messages are made here, with real gpg, in the
//! frame that gpgit gives them.

use std::{fs, path::Path, process::Command};

use testing::{
    decrypt::decrypt,
    filter::{self, Run},
    fixtures,
    openers::GnuPg,
    variants::to_crlf,
};

/// What gpgit makes of a message: the entity encrypted, the other fields outside, with the transfer encoding that the message
/// claimed.
fn gpgit(mail: &str, options: &[&str], cert: &str) -> Vec<u8> {
    let (head, body) = mail.split_once("\n\n").unwrap();
    let is_content = |line: &&str| line.starts_with("Content-");
    let entity: String = head.lines().filter(is_content).map(|line| format!("{line}\n")).collect();
    let outside: String = head
        .lines()
        .filter(|line| !is_content(line) || line.starts_with("Content-Transfer-Encoding"))
        .map(|line| format!("{line}\n"))
        .collect();
    let armor =
        GnuPg::new().encrypt_with(options, cert, to_crlf(format!("{entity}\n{body}").as_bytes()).as_ref());
    let armor = String::from_utf8(armor).unwrap();
    let boundary = "----------=_1740996000-4711-0";
    format!(
        "{outside}Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\n boundary=\"{boundary}\"\n\n\
         This is a multi-part message in MIME format...\n\n--{boundary}\n\
         Content-Type: application/pgp-encrypted; name=\"msg.asc\"\nContent-Disposition: inline; filename=\"msg.asc\"\n\
         Content-Transfer-Encoding: 7bit\n\nVersion: 1\n--{boundary}\n\
         Content-Type: application/octet-stream\nContent-Disposition: inline\nContent-Transfer-Encoding: 7bit\n\n\
         {armor}--{boundary}--\n"
    )
    .into_bytes()
}

const MAIL: &str = "Received: a\nFrom: bob@example.net\nMIME-Version: 1.0\nSubject: x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nwords =3D words\n";

/// The same with the MIME fields together, as they come back.
const BACK: &str = "Received: a\nFrom: bob@example.net\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\nSubject: x\n\nwords =3D words\n";

/// As a sender frames it, to the same key.
fn from_sender() -> Vec<u8> {
    let mail = String::from_utf8(gpgit(MAIL, &[], "curve25519")).unwrap();
    mail.replace("----------=_1740996000-4711-0", "nextPart").into_bytes()
}

fn mailseal(arguments: &[&str]) -> Run {
    let mut command = Command::new(testing::program("mailseal"));
    filter::run(command.args(arguments), b"", 1)
}

#[test]
fn a_message_of_gpgit_s_is_opened_whatever_cipher_gpg_chose() {
    for options in
        [&[][..], &["--cipher-algo", "AES"], &["--compress-algo", "none"], &["--compress-algo", "zip"]]
    {
        let run = decrypt("curve25519", &gpgit(MAIL, options, "curve25519"));
        assert_eq!((run.status, String::from_utf8_lossy(&run.stdout)), (Some(0), BACK.into()), "{options:?}");
    }
    let sender = from_sender();
    let run = decrypt("curve25519", &sender);
    assert!(run.status == Some(0) && run.stdout == sender, "a sender's stays as it is");
    // What it cannot hold.
    let forged = gpgit(MAIL, &[], "curve25519");
    let (head, body) = MAIL.split_once("\n\n").unwrap();
    let armor = GnuPg::new().encrypt_with(
        &[],
        "curve25519",
        format!("Received: forged\n{head}\n\n{body}").as_bytes(),
    );
    let text = String::from_utf8(forged).unwrap();
    let (before, rest) = text.split_once("-----BEGIN").unwrap();
    let forged = format!(
        "{before}{}{}",
        String::from_utf8(armor).unwrap(),
        rest.split_once("-----END PGP MESSAGE-----\n").unwrap().1
    );
    let run = decrypt("curve25519", forged.as_bytes());
    assert!(run.status == Some(0) && run.stdout == forged.as_bytes(), "{}", run.stderr);
    // Nothing of one that was changed is given out.
    let whole = String::from_utf8(gpgit(MAIL, &[], "curve25519")).unwrap();
    let line = whole.lines().rev().find(|line| line.len() == 64).unwrap();
    let changed = whole.replace(line, &line.chars().rev().collect::<String>());
    let run = decrypt("curve25519", changed.as_bytes());
    assert!(run.status == Some(65) && run.stdout.is_empty(), "{:?}", run.status);
}

#[test]
fn gpgit_s_messages_count_as_sealed_and_go_along_to_a_new_key() {
    let dir = tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap();
    for place in ["cur", "new", "tmp"] {
        fs::create_dir_all(dir.path().join(place)).unwrap();
    }
    let store = |name: &str, mail: &[u8]| fs::write(dir.path().join("cur").join(name), mail).unwrap();
    store("1.host:2,S", &gpgit(MAIL, &[], "curve25519"));
    store(
        "2.host:2,",
        &gpgit(&MAIL.replace("words", &"long ".repeat(100_000)), &["--cipher-algo", "AES"], "curve25519"),
    );
    store("3.host:2,", &from_sender());
    store("4.host:2,", &gpgit(MAIL, &[], "rsa3072"));
    let path = dir.path().to_str().unwrap();
    let cert = fixtures::cert("curve25519");
    let run = mailseal(&["audit", "--json", "--key", cert.to_str().unwrap(), path]);
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let folder = &json["maildirs"][0]["folders"][0];
    let numbers = ["messages", "clear", "sealed", "sealed_by_gpgit", "sealed_to_others", "encrypted"];
    assert_eq!(numbers.map(|name| folder[name].as_u64().unwrap()), [4, 0, 3, 3, 1, 1], "{json:#}");
    assert_eq!(run.status, Some(0));

    let (old, new) = (fixtures::secret("curve25519"), fixtures::cert("rsa3072"));
    let reseal = ["reseal", "--secret-key", old.to_str().unwrap(), "--key", new.to_str().unwrap(), path];
    let run = mailseal(&reseal);
    assert_eq!(run.status, Some(0), "{}{}", String::from_utf8_lossy(&run.stdout), run.stderr);
    let message = |name: &str| {
        let found = fs::read_dir(dir.path().join("cur")).unwrap().map(|entry| entry.unwrap().path());
        let mut found = found.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(name));
        fs::read::<&Path>(&found.next().unwrap()).unwrap()
    };
    let opened = decrypt("rsa3072", &message("1."));
    assert_eq!(String::from_utf8_lossy(&opened.stdout), BACK);
    let opened = decrypt("rsa3072", &message("2."));
    assert_eq!(String::from_utf8_lossy(&opened.stdout), BACK.replace("words", &"long ".repeat(100_000)));
    assert!(String::from_utf8_lossy(&message("3.")).contains("nextPart"), "a sender's message stays");
    assert!(
        !String::from_utf8_lossy(&message("4.")).contains("=_mailseal-"),
        "it is for the new key already"
    );
}
