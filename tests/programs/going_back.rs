//! Mailboxes on the way back: decrypted in place and into another Maildir, resealed to a new key, audited.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use testing::{
    decrypt::decrypt,
    filter::{self, Run, filter},
    fixtures, made,
    oracle::key,
    variants::{to_crlf, to_lf},
};

/// A Maildir with INBOX and Maildir++ folders.
struct Maildir {
    dir: tempfile::TempDir,
}

impl Maildir {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap();
        for folder in ["Mail", "Mail/.Sent"] {
            for place in ["cur", "new", "tmp"] {
                fs::create_dir_all(dir.path().join(folder).join(place)).unwrap();
            }
        }
        fs::write(dir.path().join("Mail/.Sent/dovecot-keywords"), "0 work\n").unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("Mail")
    }

    /// Stores a message, a day old; `name` has `S=` and `W=` in it where it ends in a comma.
    fn store(&self, name: &str, message: &[u8]) {
        let virtual_size = message.len() + message.iter().filter(|byte| **byte == b'\n').count()
            - message.windows(2).filter(|pair| pair == b"\r\n").count();
        let sizes = format!(",S={},W={virtual_size}:2,", message.len());
        let path = self.path().join(name.replacen(",:2,", &sizes, 1));
        fs::write(&path, message).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(yesterday()).unwrap();
    }

    /// Every message by folder, first part of its name, and flags.
    fn messages(&self) -> BTreeMap<String, Vec<u8>> {
        messages(&self.path())
    }
}

fn yesterday() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn messages(maildir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in ["", ".Sent/"] {
        for place in ["cur", "new", "tmp"] {
            let Ok(entries) = fs::read_dir(maildir.join(folder).join(place)) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                let bytes = fs::read(&path).unwrap();
                if let Some((_, size)) = name.split_once(",S=") {
                    let size: String = size.chars().take_while(char::is_ascii_digit).collect();
                    assert_eq!(size, bytes.len().to_string(), "{name}");
                }
                assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), yesterday(), "{name}");
                let unique = name.split(['.', ',', ':']).next().unwrap();
                let flags = name.split_once(":2").map_or("", |(_, flags)| flags);
                let key = format!("{folder}{place}/{unique}{flags}");
                assert!(found.insert(key.clone(), bytes).is_none(), "{key} twice");
            }
        }
    }
    found
}

fn mailseal(arguments: &[&str]) -> Run {
    let mut command = Command::new(testing::program("mailseal"));
    filter::run(command.args(["--config", "/dev/null"]).args(arguments), b"", 1)
}

/// Seals what is sealed to `from` anew, to `to`.
fn reseal(maildir: &Path, from: &str, to: &str) -> Run {
    let new = key(to);
    mailseal(&[
        "reseal",
        "--secret-key",
        &secret(from),
        "--key",
        new.to_str().unwrap(),
        maildir.to_str().unwrap(),
    ])
}

fn secret(cert: &str) -> String {
    fixtures::secret(cert).to_str().unwrap().to_owned()
}

fn sealed(cert: &str, mail: &[u8]) -> Vec<u8> {
    let run = filter(&key(cert), &[], mail);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    run.stdout
}

fn foreign() -> Vec<u8> {
    let thunderbird = fixtures::mails("encrypted").into_iter().find(|mail| mail.name == "thunderbird");
    thunderbird.unwrap().bytes
}

/// A Maildir of sealed fixtures, and what they were.
fn filled(cert: &str) -> (Maildir, BTreeMap<String, Vec<u8>>) {
    let (maildir, mut originals) = (Maildir::new(), BTreeMap::new());
    for (number, mail) in fixtures::mails("mails").into_iter().enumerate() {
        let (name, key) = match number % 4 {
            0 => (format!("cur/{number}.host,:2,S"), format!("cur/{number},S")),
            1 => (format!("new/{number}.host"), format!("new/{number}")),
            2 => (format!(".Sent/cur/{number}.host,:2,Fa"), format!(".Sent/cur/{number},Fa")),
            _ => (format!(".Sent/new/{number}"), format!(".Sent/new/{number}")),
        };
        maildir.store(&name, &sealed(cert, &mail.bytes));
        originals.insert(key, mail.bytes);
    }
    let others = [("cur/clear.host,:2,", b"Subject: x\n\nclear\n".to_vec()), ("cur/foreign:2,R", foreign())];
    for (name, bytes) in others {
        maildir.store(name, &bytes);
        originals.insert(name.replace(".host,:2", "").replace(":2", ""), bytes);
    }
    (maildir, originals)
}

#[track_caller]
fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in found {
        assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(&expected[name]), "{name}");
    }
}

#[test]
fn a_maildir_is_decrypted_in_place() {
    let (maildir, originals) = filled("curve25519");
    let path = maildir.path();
    let arguments = ["decrypt", "--secret-key", &secret("curve25519"), path.to_str().unwrap()];
    let run = mailseal(&arguments);
    assert_eq!((run.status, &*run.stderr), (Some(0), ""));
    assert_same(&maildir.messages(), &originals);
    let again = mailseal(&arguments);
    assert_eq!((again.status, &*again.stderr), (Some(0), ""));
    assert_same(&maildir.messages(), &originals);
}

/// A message that Dovecot was given with CRLF and stores with LF comes back as Dovecot would have stored it.
#[test]
fn a_message_gets_the_line_endings_of_its_store() {
    let maildir = Maildir::new();
    let mail = b"Subject: x\nMIME-Version:\n 1.0\nContent-Type: text/plain\nTo: y\n\nbody\n";
    let crlf = to_crlf(mail);
    maildir.store("cur/dovecot.host,:2,", &to_lf(&sealed("curve25519", &crlf)));
    maildir.store("cur/crlf.host,:2,", &to_crlf(&sealed("curve25519", mail)));
    let run = mailseal(&["decrypt", "--secret-key", &secret("curve25519"), maildir.path().to_str().unwrap()]);
    assert_eq!((run.status, &*run.stderr), (Some(0), ""));
    let expected = [("cur/dovecot,", mail.to_vec()), ("cur/crlf,", crlf)];
    assert_same(&maildir.messages(), &expected.map(|(name, bytes)| (name.to_owned(), bytes)).into());
}

/// Dovecot's zlib plugin packs what it stores; what is opened is stored plain, which Dovecot reads as well.
#[test]
fn packed_messages_are_opened_too() {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mail = b"Subject: x\n\nhello\n";
    let stored = [
        ("cur/sealed:2,S", gzip(&sealed("curve25519", mail))),
        ("cur/clear:2,S", gzip(mail)),
        ("cur/foreign:2,S", gzip(&foreign())),
    ];
    let maildir = Maildir::new();
    for (name, bytes) in &stored {
        maildir.store(name, bytes);
    }
    let path = maildir.path();
    let run = mailseal(&["audit", "--json", "--user", "nobody", path.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let inbox = &json["maildirs"][0]["folders"][0];
    assert_eq!([&inbox["clear"], &inbox["sealed"], &inbox["encrypted"]], [1, 1, 1], "{json:#}");
    let run = reseal(&path, "curve25519", "rsa3072");
    assert_eq!((run.status, &*run.stderr), (Some(0), ""));
    let run = mailseal(&["decrypt", "--secret-key", &secret("rsa3072"), path.to_str().unwrap()]);
    assert_eq!((run.status, &*run.stderr), (Some(0), ""));
    let expected = stored.map(|(name, bytes)| {
        (name.replace(":2", ""), if name.contains("sealed") { mail.to_vec() } else { bytes })
    });
    assert_same(&maildir.messages(), &expected.into());
}

#[test]
fn damaged_messages_and_those_of_other_keys_stay_and_are_named() {
    let maildir = Maildir::new();
    let message = sealed("curve25519", b"Subject: x\n\ncanary\n");
    let mut changed = message.clone();
    let at =
        message.windows(8).position(|window| window == b"\n-----END").unwrap_or(message.len() - 120) - 40;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let bad = [
        ("cur/changed.host,:2,S", changed),
        ("cur/cut.host,:2,S", message[..message.len() - 80].to_vec()),
        ("new/other.host", sealed("rsa3072", b"Subject: x\n\ncanary\n")),
    ];
    for (name, bytes) in &bad {
        maildir.store(name, bytes);
    }
    maildir.store("cur/good.host,:2,S", &message);
    let before = maildir.messages();
    let run = mailseal(&["decrypt", "--secret-key", &secret("curve25519"), maildir.path().to_str().unwrap()]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    for name in ["cur/changed.host", "cur/cut.host", "new/other.host"] {
        assert!(run.stderr.contains(name), "{name}: {}", run.stderr);
    }
    assert!(!run.stderr.contains("canary") && !run.stderr.contains("good"), "{}", run.stderr);
    let mut expected = before;
    expected.insert("cur/good,S".to_owned(), b"Subject: x\n\ncanary\n".to_vec());
    assert_same(&maildir.messages(), &expected);
}

#[test]
fn a_maildir_is_decrypted_into_another() {
    let (maildir, originals) = filled("v6");
    let before = maildir.messages();
    let target = maildir.dir.path().join("Plain");
    let path = maildir.path();
    let (secret, into) = (secret("v6"), target.to_str().unwrap());
    let arguments = ["decrypt", "--secret-key", &secret, "--into", into, path.to_str().unwrap()];
    for _ in 0..2 {
        let run = mailseal(&arguments);
        assert_eq!((run.status, &*run.stderr), (Some(0), ""));
        assert_same(&messages(&target), &originals);
        assert_same(&maildir.messages(), &before);
        assert_eq!(fs::read(target.join(".Sent/dovecot-keywords")).unwrap(), b"0 work\n");
    }
}

#[test]
fn messages_are_sealed_to_a_new_key() {
    let (maildir, originals) = filled("curve25519");
    let path = maildir.path();
    let run = reseal(&path, "curve25519", "v6");
    assert_eq!((run.status, &*run.stderr), (Some(0), ""));
    let resealed = maildir.messages();
    for (name, original) in &originals {
        let opened = decrypt("v6", &resealed[name]);
        assert_eq!(opened.status, Some(0), "{name}: {}", opened.stderr);
        assert!(opened.stdout == *original, "{name}");
        if !name.contains("clear") && !name.contains("foreign") {
            decrypt("curve25519", &resealed[name]).assert_failed(name, 1);
        }
    }
    // A second run finds nothing to do.
    let again = reseal(&path, "curve25519", "v6");
    assert_eq!((again.status, &*again.stderr), (Some(0), ""));
    assert_same(&maildir.messages(), &resealed);
}

/// A Subject that is in no header any more cannot be put back: what holds it stays.
#[test]
fn what_a_changed_header_hides_is_not_thrown_away() {
    let mail = b"From: Ann <a@b.c>\nX-Foo: y\nSubject: the secret subject\n\nbody\n";
    let changes: [(&str, &str); 3] = [
        ("X-Foo: y\n", ""),
        ("Subject: [...]", "Subject: [SPAM] [...]"),
        ("From: Ann", "Content-Length: 9\nFrom: Ann"),
    ];
    for policy in ["baseline", "shy"] {
        for (old, new) in changes {
            let maildir = Maildir::new();
            let sealed = filter(&key("curve25519"), &["--protect-headers", policy], mail).stdout;
            let text = String::from_utf8(sealed.clone()).unwrap();
            let old = if policy == "shy" { old.replace("Ann", "a@b.c") } else { old.to_owned() };
            let new = if policy == "shy" { new.replace("Ann", "a@b.c") } else { new.to_owned() };
            assert!(text.contains(&old), "{old}: {text}");
            maildir.store("cur/1.host,:2,S", text.replacen(&old, &new, 1).as_bytes());
            maildir.store("cur/2.host,:2,S", &sealed);
            let before = maildir.messages();
            let path = maildir.path();
            let into = maildir.dir.path().join("Plain");
            let (mail_path, into_path) = (path.to_str().unwrap(), into.to_str().unwrap());
            let key = secret("curve25519");
            let copied = mailseal(&["decrypt", "--secret-key", &key, "--into", into_path, mail_path]);
            assert_eq!(copied.status, Some(0), "{}", copied.stderr);
            assert_eq!(messages(&into)["cur/2,S"], mail);
            assert!(messages(&into)["cur/1,S"].ends_with(b"\n\nbody\n"));
            let resealed = reseal(&path, "curve25519", "rsa3072");
            let run =
                mailseal(&["decrypt", "--secret-key", &secret("rsa3072"), "--secret-key", &key, mail_path]);
            for run in [&resealed, &run] {
                assert_eq!(run.status, Some(1), "{policy} {new}: {}", run.stderr);
                assert!(run.stderr.contains("what that hides would be lost"), "{}", run.stderr);
            }
            let after = maildir.messages();
            assert_eq!(
                (&after["cur/1,S"], &*after["cur/2,S"]),
                (&before["cur/1,S"], &mail[..]),
                "{policy} {new}"
            );
        }
    }
}

/// Killed in the middle of a large message: what lies there is the old message, and what was written of the new one is
/// no plaintext.
#[test]
fn resealing_writes_no_plaintext() {
    let maildir = Maildir::new();
    let mail =
        [b"Subject: x\n\n".to_vec(), b"The canary sings loudly in this line.\n".repeat(2_000_000)].concat();
    let run = filter(&key("curve25519"), &["--compression", "none"], &mail);
    maildir.store("cur/large.host,:2,", &run.stdout);
    let before = maildir.messages();
    let path = maildir.path();
    let mut child = Command::new(testing::program("mailseal"))
        .args(["--config", "/dev/null", "reseal", "--secret-key", &secret("curve25519"), "--key"])
        .args([key("rsa3072"), path.clone()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let written = || {
        let sizes = fs::read_dir(path.join("tmp")).unwrap().filter_map(|entry| entry.ok()?.metadata().ok());
        sizes.map(|metadata| metadata.len()).sum::<u64>()
    };
    let begin = Instant::now();
    while written() < 500_000 && begin.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut left = 0;
    for folder in ["cur", "new", "tmp"] {
        for entry in fs::read_dir(path.join(folder)).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            assert!(memchr::memmem::find(&bytes, b"canary").is_none());
            left += bytes.len();
        }
    }
    assert!(left > before["cur/large,"].len(), "it was killed too early or too late to show anything");
    // The next run puts all in order.
    let run = reseal(&path, "curve25519", "rsa3072");
    assert_eq!((run.status, &*run.stderr), (Some(0), ""));
    let after = maildir.messages();
    assert_eq!(after.keys().collect::<Vec<_>>(), ["cur/large,"]);
    assert!(decrypt("rsa3072", &after["cur/large,"]).stdout == mail);
}

#[test]
fn an_audit_tells_what_lies_there() {
    let maildir = Maildir::new();
    let path = maildir.path();
    let mail = b"Subject: x\n\nhello\n";
    let expired = made::valid_for("old@example.org", made::DAY);
    let certs = maildir.dir.path().join("certs.pgp");
    fs::write(&certs, [made::public(&expired), fs::read(key("curve25519")).unwrap()].concat()).unwrap();
    let to_expired = {
        let file = maildir.dir.path().join("expired.pgp");
        fs::write(&file, made::public(&expired)).unwrap();
        filter(&file, &[], mail).stdout
    };
    maildir.store("cur/1.host,:2,S", &sealed("curve25519", mail));
    maildir.store("cur/2.host,:2,S", &to_expired);
    maildir.store("new/3.host", &sealed("rsa3072", mail));
    maildir.store(".Sent/cur/4.host,:2,S", &foreign());
    let large = [&mail[..], &b"0123456789abcdef\n".repeat(200_000)].concat();
    maildir.store(".Sent/cur/5.host,:2,S", &sealed("curve25519", &large));
    let audit = |more: &[&str]| {
        let arguments =
            ["audit", "--json", "--list", "--key", certs.to_str().unwrap(), path.to_str().unwrap()];
        let run = mailseal(&[&arguments, more].concat());
        assert!(run.stderr.is_empty(), "{}", run.stderr);
        let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        (run.status, json)
    };
    let (status, json) = audit(&[]);
    assert_eq!(status, Some(0), "{json:#}");
    let folders = &json["maildirs"][0]["folders"];
    let numbers = |folder: usize| {
        ["messages", "clear", "sealed", "sealed_to_expired", "sealed_to_others", "encrypted", "unreadable"]
            .map(|name| folders[folder][name].as_u64().unwrap())
    };
    assert_eq!((numbers(0), numbers(1)), ([3, 0, 3, 1, 1, 0, 0], [2, 0, 1, 0, 0, 1, 0]), "{json:#}");
    let outside = |json: &serde_json::Value, what| json["maildirs"][0]["folders"][0]["outside"][what].clone();
    assert_eq!([outside(&json, "subject"), outside(&json, "body_hash")], [3, 0], "{json:#}");
    let keys = json["maildirs"][0]["keys"].as_array().unwrap();
    let of = |state: &str| keys.iter().find(|key| key["state"] == state).map(|key| key["messages"].clone());
    assert_eq!((of("current"), of("expired"), of("other")), (Some(2.into()), Some(1.into()), Some(1.into())));

    // In clear, or not proven to be encrypted: also what a sender forged, and the large one cut off.
    let forged = fixtures::mails("forged");
    for (number, mail) in forged.iter().enumerate() {
        maildir.store(&format!(".Sent/new/f{number}.host"), &mail.bytes);
    }
    let cut = sealed("curve25519", &large);
    maildir.store("cur/6.host,:2,S", &cut[..cut.len() - 200]);
    maildir.store("cur/7.host,:2,S", mail);
    std::os::unix::fs::symlink("/etc/hostname", path.join("cur/8.host:2,S")).unwrap();
    let (status, json) = audit(&[]);
    assert_eq!(status, Some(1));
    assert_eq!(json["clear"], forged.len() + 2, "{json:#}");
    assert_eq!(json["unreadable"], 1);
    let listed = json["maildirs"][0]["files"].as_array().unwrap();
    assert_eq!(listed.len(), forged.len() + 2 + 1 + 2, "{json:#}");

    // What is readable outside: spam reports that quote the body among it.
    let telling = b"Subject: x\nDKIM-Signature: v=1; bh=x\nX-Spam-Report: 'hello'\n\nhello\n";
    maildir.store("cur/9.host,:2,S", &filter(&key("curve25519"), &[], telling).stdout);
    let hidden = filter(&key("curve25519"), &["--protect-headers", "baseline"], telling).stdout;
    maildir.store("cur/10.host,:2,S", &hidden);
    let (_, json) = audit(&[]);
    let told = ["subject", "body_hash", "spam_report", "header_text"].map(|what| outside(&json, what));
    assert_eq!(told, [4, 1, 1, 0], "{json:#}");

    // For people, without knowing the user.
    let run = mailseal(&["audit", path.to_str().unwrap(), "--user", "nobody"]);
    let text = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(text.contains(&format!("{} in clear, 1 could not be read.", forged.len() + 2)), "{text}");
    assert!(text.contains("C37FA4B9682ECB87  unknown"), "{text}");
    assert!(
        text.contains("still show: 5 their Subject, 1 hashes of their body (DKIM, ARC), 1 a spam report."),
        "{text}"
    );
    // What is empty hides nothing, and is nothing to be sealed.
    let nearly = Maildir::new();
    nearly.store("cur/1.host,:2,S", b"");
    let run = mailseal(&["audit", "--json", nearly.path().to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((run.status, &json["maildirs"][0]["folders"][0]["empty"]), (Some(0), &1.into()), "{json:#}");
}

/// `cargo test --release --test programs going_back::audit_of -- --ignored --nocapture`
#[test]
#[ignore = "makes 10,000 files to measure"]
fn audit_of_a_large_maildir() {
    let maildir = Maildir::new();
    let mails = fixtures::mails("mails");
    let sealed: Vec<_> = mails.iter().map(|mail| sealed("curve25519", &mail.bytes)).collect();
    for number in 0..10_000 {
        let at = number % mails.len();
        let bytes = if number % 3 == 0 { &mails[at].bytes } else { &sealed[at] };
        maildir.store(&format!("cur/{number}.host,:2,S"), bytes);
    }
    let begin = Instant::now();
    let run = mailseal(&[
        "audit",
        "--json",
        "--key",
        key("curve25519").to_str().unwrap(),
        maildir.path().to_str().unwrap(),
    ]);
    let time = begin.elapsed();
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((run.status, &json["clear"]), (Some(1), &3334.into()));
    eprintln!("10,000 messages in {time:?}");
    assert!(time < Duration::from_secs(10), "{time:?}");
}

/// What Dovecot shows as mail and no command works on: it is named, and the exit status says so.
#[test]
fn nothing_that_is_left_alone_is_passed_over() {
    let mail = b"Subject: x\n\nhello\n";
    let elsewhere = Maildir::new();
    elsewhere.store("cur/2.host,:2,S", mail);
    let (cert, secret) = (key("curve25519"), secret("curve25519"));
    let put = |name: &str, path: &Path| match name {
        ".Linked" => std::os::unix::fs::symlink(elsewhere.path(), path.join(name)).unwrap(),
        ".Half" => {
            fs::create_dir_all(path.join(".Half/new")).unwrap();
            fs::write(path.join(".Half/new/3.host"), mail).unwrap();
        }
        unnamed => fs::write(path.join(unnamed), mail).unwrap(),
    };
    for name in [".Half", ".Linked", "new/:2,S"] {
        let maildir = Maildir::new();
        let path = maildir.path();
        let (shown, cert) = (path.to_str().unwrap(), cert.to_str().unwrap());
        let into = maildir.dir.path().join("into");
        let commands = [
            vec!["audit", "--list", "--key", cert, shown],
            vec!["reseal", "--secret-key", &secret, "--key", cert, shown],
            vec!["decrypt", "--secret-key", &secret, "--into", into.to_str().unwrap(), shown],
            vec!["decrypt", "--secret-key", &secret, shown],
        ];
        for odd in [false, true] {
            fs::remove_dir_all(path.join("cur")).unwrap();
            fs::create_dir(path.join("cur")).unwrap();
            maildir.store("cur/1.host,:2,S", &sealed("curve25519", mail));
            if odd {
                put(name, &path);
            }
            for command in &commands {
                let run = mailseal(command);
                let said = [run.stdout, run.stderr.into_bytes()].concat();
                let said = String::from_utf8_lossy(&said);
                let named = said.contains(path.join(name).to_str().unwrap());
                assert_eq!((run.status, named), (Some(i32::from(odd)), odd), "{command:?}: {said}");
            }
        }
    }
}
