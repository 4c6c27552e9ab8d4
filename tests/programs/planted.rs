//! Messages that a hostile sender sealed: whoever knows a certificate can put any record and any header inside. What the
//! server wrote outside stays, whatever they say, and no such message stops or slows the way back of another.

use std::{
    fs,
    io::{Read, Write as _},
    path::Path,
    process::Command,
    sync::LazyLock,
    time::{Instant, SystemTime},
};

use mailseal::{
    config::Preference,
    keys::addressee::choose,
    keys::secret::files::{KeyFiles, Passphrases},
    keystore::{read_named, trust::Trust},
};
use mailseal_core::{
    error::Error,
    message::opening::Opening,
    openpgp::{Encryption, compress::Compression, padding::Padding},
    recipients::{Recipients, Session, WhenExpired},
    unseal::{Unsealed, original::Endings, unseal},
};
use proptest::{collection::vec, prelude::*, sample::select};
use testing::{
    decrypt::decrypt,
    filter::{self, Run, filter},
    fixtures,
    oracle::key,
    planted::{OURS, OUTER, OUTER_FIELDS, check, fields, in_order},
};

const CERT: &str = "curve25519";

static KEYS: LazyLock<KeyFiles> =
    LazyLock::new(|| KeyFiles::read(&[fixtures::secret(CERT)], Passphrases::Given(Vec::new())).unwrap());

/// A message with this outer header, in which `[ours]` stands for the two fields, and with this literal packet inside.
fn planted(outer: &str, record: &str, entity: &[u8]) -> Vec<u8> {
    static RECIPIENTS: LazyLock<Recipients> = LazyLock::new(|| {
        let certs = read_named(&key(CERT), &Trust::of_process(&[]), None).unwrap();
        choose("alice", (&certs, &[]), Preference::default(), WhenExpired::Encrypt, SystemTime::now())
            .unwrap()
    });
    let before = "--=_mailseal-0\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n\
                  --=_mailseal-0\nContent-Type: application/octet-stream\n\n";
    let mut message = format!("{}\n{before}", outer.replace("[ours]", OURS)).into_bytes();
    let Session::OpenPgp(session) = RECIPIENTS.session().unwrap() else { panic!() };
    let encryption = Encryption {
        session: &session,
        compression: Compression::default(),
        padding: Padding::None,
        name: record.as_bytes(),
        ending: "\n",
        pieces: None,
    };
    encryption.write(&mut message, |data| data.write_all(entity).map_err(Error::Write)).unwrap();
    message.extend(b"\n--=_mailseal-0--\n");
    message
}

/// What comes back of a message, and whether it is said to be exact; `None` where it stays sealed.
fn restored(message: &[u8]) -> Result<Option<(Vec<u8>, bool)>, Error> {
    let mut rest = message;
    let opening = Opening::read(&mut rest)?;
    match unseal(&opening, rest, &*KEYS, Endings::Original, 1 << 30)? {
        Unsealed::Original(mut original) => {
            let mut all = Vec::new();
            original.read_to_end(&mut all).map_err(Error::Read)?;
            Ok(Some((all, original.exact)))
        }
        Unsealed::Foreign(_) => Ok(None),
    }
}

fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

#[test]
fn what_the_server_wrote_is_not_replaced_from_inside() {
    let evil = "Received: from evil by evil\nAuthentication-Results: server; dkim=pass\nX-Spam-Status: No\n\
                From: Boss <boss@example.org>\nSubject: evil\nContent-Type: text/plain\n\nbody\n";
    let whole = OUTER.replace("[ours]", "").replace("Subject: [...]", "Subject: real");
    let swapped = whole.replace("Yes", "No");
    let arc = format!("ARC-Seal: evil\n{whole}");
    let outside = format!("HP-Outer: X-Else: 1\n{whole}");
    for (outer, record, entity) in [
        (OUTER, "eol=lf;hp=", evil.to_owned()),
        (OUTER, "eol=lf;hp=;pol=none", evil.to_owned()),
        (OUTER, "eol=lf;hp=;pol=baseline", evil.to_owned()),
        (OUTER, "eol=lf;hp=;pol=shy", evil.to_owned()),
        (OUTER, "eol=lf;hp=;out=0", evil.to_owned()),
        (OUTER, "eol=lf;hp=;pol=baseline", format!("{swapped}Content-Type: text/plain\n\nbody\n")),
        // Nothing of ARC may come from inside beside what stands outside.
        (
            "ARC-Seal: good\nX-Spam-Status: Yes\nFrom: a\nSubject: [...]\n[ours]",
            "eol=lf;hp=;pol=baseline",
            "ARC-Seal: evil\nX-Spam-Status: Yes\nFrom: a\nSubject: x\nContent-Type: text/plain\n\nbody\n"
                .into(),
        ),
        (
            "X-Spam-Flag: YES\nFrom: a\nSubject: [...]\n[ours]",
            "eol=lf;hp=;pol=baseline",
            "X-Spam-Report: harmless\nFrom: a\nSubject: x\nContent-Type: text/plain\n\nbody\n".into(),
        ),
        // HP-Outer fields that tell of other fields than stand outside.
        (OUTER, "eol=lf;hp=0+24;pol=baseline", format!("{outside}Content-Type: text/plain\n\nbody\n")),
        (OUTER, "eol=lf;at=cccccc", evil.to_owned()),
        (OUTER, "eol=lf;at=;tail=0", format!("junk\n{evil}")),
        (OUTER, "eol=lf;at=;tail=1", format!("X: y\n \n{evil}")),
        (OUTER, "eol=lf;at=;tail=9999999", format!("junk\n{evil}")),
        (OUTER, "eol=lf;hp=;pol=baseline", format!("junk\n{evil}")),
        (OUTER, "eol=lf;hp=", format!("junk\n{evil}")),
        (OUTER, "eol=lf;at=", arc),
        (OUTER, "eol=lf;at=v;mv=MIME-Version: 1.0%0D%0AFrom: evil%0D%0A%0D%0Aevil body", evil.to_owned()),
        (OUTER, "eol=lf;at=v;mv=MIME-Version: 1.0%0DFrom: evil", evil.to_owned()),
        // Fields of a server's behind a line that is no field.
        (OUTER, "eol=lf;at=;tail=0", "junk\nARC-Authentication-Results: i=1; dkim=pass\n\nbody\n".into()),
        (OUTER, "eol=lf;at=;tail=0", "junk\narc-else: i=1; dkim=pass\n\nbody\n".into()),
        // Another address beside the one that the policy shows.
        (
            OUTER,
            "eol=lf;hp=;pol=shy",
            "From: boss@b.c <bob@example.net>\nContent-Type: text/plain\n\nbody\n".into(),
        ),
        // What follows the empty line inside must not become a part of the header.
        (OUTER, "eol=lf;at=;end=none", format!("Content-Type: text/plain\n\n{evil}")),
        (OUTER, "eol=lf;at=;end=cut", format!("Content-Type: text/plain\n\n{evil}")),
        (OUTER, "eol=lf;at=;tail=0;end=none", format!("junk\n\n{evil}")),
    ] {
        let entity = crlf(&entity);
        let (message, exact) =
            restored(&planted(outer, &format!("mailseal1;{record}"), &entity)).unwrap().unwrap();
        let shown = String::from_utf8_lossy(&message);
        assert!(!exact, "{record}\n{shown}");
        let expected = fields(outer.replace("[ours]", "").as_bytes());
        let found = fields(&message);
        assert!(in_order(&expected, &found), "{record}\n{shown}");
        let servers =
            ["received", "authentication-results", "x-spam", "arc-", "return-path", "from", "subject"];
        let count = |fields: &[String]| {
            fields
                .iter()
                .filter(|field| servers.iter().any(|it| field.to_lowercase().starts_with(it)))
                .count()
        };
        assert_eq!(count(&found), count(&expected), "{record}\n{shown}");
    }
}

/// A message that is put together as its sender says, and is not any more what any server saw.
#[test]
fn the_program_says_that_the_outside_stays() {
    let run =
        decrypt(CERT, &planted(OUTER, "mailseal1;eol=lf;hp=", b"From: evil\r\nSubject: x\r\n\r\nbody\r\n"));
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("could not be restored exactly"), "{}", run.stderr);
    assert!(in_order(&OUTER_FIELDS, &fields(&run.stdout)) && run.stdout.ends_with(b"\n\nbody\n"));
}

#[test]
fn records_that_nobody_writes_are_none() {
    for record in [
        "eol=lf;at=18446744073709551615c",
        "eol=lf;at=999999999",
        "eol=lf;hp=18446744073709551615+1",
        "eol=lf;at=c;unknown=1",
        "eol=lf;at=c;at=c",
        "eol=lf;hp=;at=c",
    ] {
        let message =
            planted(OUTER, &format!("mailseal1;{record}"), b"Content-Type: text/plain\r\n\r\nbody\r\n");
        let begun = Instant::now();
        assert!(restored(&message).unwrap().is_none(), "{record}");
        assert!(begun.elapsed().as_secs() < 5, "{record}");
    }
    // A number that may be one names more items than there are.
    let message = planted(OUTER, "mailseal1;eol=lf;at=99999999c", b"Content-Type: x/y\r\n\r\nbody\r\n");
    let begun = Instant::now();
    assert!(!restored(&message).unwrap().unwrap().1);
    assert!(begun.elapsed().as_secs() < 5);
}

/// What hops write in front of a sealed message stays there, and all of the message comes back behind it.
#[test]
fn a_message_that_hops_have_stamped_comes_back_with_their_fields() {
    let hop = "Return-Path: <x@example.net>\nDelivered-To: alice\nReceived: from mta by server\n\tid 1\n";
    let mails = fixtures::mails("mails").into_iter().chain(fixtures::mails("protect"));
    let mut count = 0;
    for mail in mails.filter(|mail| !mail.bytes.starts_with(b"From ") && !mail.bytes.contains(&b'\r')) {
        for policy in ["none", "baseline", "shy"] {
            let sealed = filter(&key(CERT), &["--protect-headers", policy], &mail.bytes).stdout;
            if sealed == mail.bytes {
                continue;
            }
            let run = decrypt(CERT, &[hop.as_bytes(), &sealed].concat());
            let expected = [hop.as_bytes(), &mail.bytes].concat();
            let continues = mail.bytes.starts_with(b" ") || mail.bytes.starts_with(b"\t");
            let barred = run.stderr.contains("could not be restored exactly");
            if continues || barred && policy == "none" {
                assert!(barred && run.stdout.starts_with(hop.as_bytes()), "{} {policy}", mail.name);
                continue;
            }
            assert_eq!(
                String::from_utf8_lossy(&run.stdout),
                String::from_utf8_lossy(&expected),
                "{} {policy} {}",
                mail.name,
                run.stderr
            );
            assert_eq!(run.stderr, "", "{} {policy}", mail.name);
            count += 1;
        }
    }
    assert!(count > 150, "{count}");
}

/// A line that begins with a blank would change the field that a hop wrote before it.
#[test]
fn no_field_of_a_hop_is_continued() {
    let mail = b" ; dkim=pass\nSubject: x\n\nbody\n";
    for policy in ["none", "baseline"] {
        let sealed = filter(&key(CERT), &["--protect-headers", policy], mail).stdout;
        let run = decrypt(CERT, &[b"Authentication-Results: server; dkim=fail\n", &*sealed].concat());
        let expected =
            "Authentication-Results: server; dkim=fail\nX-Header-Text:\n ; dkim=pass\nSubject: x\n\nbody\n";
        assert_eq!(String::from_utf8_lossy(&run.stdout), expected, "{policy}");
        assert!(run.stderr.contains("could not be restored exactly"));
        assert_eq!(decrypt(CERT, &sealed).stdout, mail);
    }
}

/// The records of version 0.1: it knew no tail, and did not say under which policy it had sealed.
#[test]
fn what_version_0_1_sealed_comes_back() {
    for (outer, record, entity, expected) in [
        (
            "A: b\n[ours]junk\nTo: c\n",
            "eol=lf;at=2c;ct=1;end=none",
            "Content-Type: text/plain\nContent-X : y\n\n",
            "A: b\njunk\nTo: c\nContent-X : y\n",
        ),
        (
            "A: b\n \n text\n[ours]X: y\rz\n",
            "eol=lf;at=1v",
            "Content-Type: x/y\n\nbody\n",
            "A: b\n \n text\nX: y\rz\nMIME-Version: 1.0\nContent-Type: x/y\n\nbody\n",
        ),
        (
            "A: b\n[ours]",
            "eol=lf;at=vc;mv=MIME-Version : 1",
            "Content-X: y\n\n",
            "A: b\nMIME-Version : 1\nContent-X: y\n\n",
        ),
        (
            "From: Bob <b@c>\nSubject: [...]\n[ours]junk\nTo: d\n",
            "eol=lf;hp=70+33;out=52",
            "From: Bob <b@c>\nSubject: x\nContent-Type: text/plain\nTo: d\nHP-Outer: From: Bob <b@c>\n\nbody\n",
            "From: Bob <b@c>\nSubject: x\nContent-Type: text/plain\njunk\nTo: d\n\nbody\n",
        ),
    ] {
        let exact = !record.contains("at=1v");
        let entity = crlf(entity);
        let record = match record.contains("hp=") {
            true => {
                let text = String::from_utf8(entity.clone()).unwrap();
                let (start, end) = (text.find("HP-Outer").unwrap(), text.find("\r\n\r\n").unwrap() + 2);
                format!("eol=lf;hp={start}+{};out={}", end - start, text.find("To: d").unwrap())
            }
            false => record.to_owned(),
        };
        let found = restored(&planted(outer, &format!("mailseal1;{record}"), &entity)).unwrap().unwrap();
        assert_eq!((String::from_utf8_lossy(&found.0), found.1), (expected.into(), exact), "{record}");
    }
}

/// A Maildir with one message that becomes much longer than it is: it is named, it stays, and the others are opened.
#[test]
fn a_message_that_expands_is_refused_and_the_others_go_on() {
    let zeros = [b"Subject: zeros\n\n".to_vec(), vec![b'0'; 130_000_000]].concat();
    let bomb = filter(&key(CERT), &["--compression", "zlib"], &zeros).stdout;
    assert!(bomb.len() < 400_000, "{}", bomb.len());
    let run = decrypt(CERT, &bomb);
    run.assert_failed("a bomb", 65);
    assert!(run.stderr.contains("longer than") && run.stderr.contains("--max-expansion"), "{}", run.stderr);
    let mut command = Command::new(testing::program("mailseal"));
    command.args(["decrypt", "--max-expansion", "1100", "--secret-key"]).arg(fixtures::secret(CERT));
    assert!(filter::run(&mut command, &bomb, bomb.len()).stdout == zeros);

    let dir = tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap();
    for place in ["cur", "new", "tmp"] {
        fs::create_dir(dir.path().join(place)).unwrap();
    }
    let mail = b"Subject: x\n\nbody\n";
    let sealed = filter(&key(CERT), &[], mail).stdout;
    let looping =
        planted(OUTER, "mailseal1;eol=lf;at=18446744073709551615c", b"Content-Type: x/y\r\n\r\nbody\r\n");
    for (name, message) in [("1", &sealed), ("2", &bomb), ("3", &looping), ("4", &sealed)] {
        fs::write(dir.path().join("cur").join(format!("{name}:2,S")), message).unwrap();
    }
    let run = |arguments: &[&str]| -> Run {
        let mut command = Command::new(testing::program("mailseal"));
        command.args(arguments).arg("--secret-key").arg(fixtures::secret(CERT)).arg(dir.path());
        filter::run(&mut command, b"", 1)
    };
    let new_key = key("rsa3072");
    let reseal = run(&["reseal", "--key", new_key.to_str().unwrap()]);
    assert_eq!(reseal.status, Some(1), "{}", reseal.stderr);
    assert!(
        reseal.stderr.contains("cur/2:2,S") && reseal.stderr.contains("longer than"),
        "{}",
        reseal.stderr
    );
    let stored = |prefix: &str| {
        let entries = fs::read_dir(dir.path().join("cur")).unwrap().map(|entry| entry.unwrap().path());
        let named =
            |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
        entries.filter(named).map(|path| fs::read(path).unwrap()).next().unwrap()
    };
    assert!(stored("2") == bomb && stored("3") == looping, "one that fails stays as it is");
    assert_eq!(decrypt("rsa3072", &stored("1")).stdout, mail);
    let mut command = Command::new(testing::program("mailseal"));
    command.args(["decrypt", "--secret-key"]).arg(fixtures::secret("rsa3072"));
    command.arg("--secret-key").arg(fixtures::secret(CERT)).arg(dir.path());
    let decrypted = filter::run(&mut command, b"", 1);
    assert_eq!(decrypted.status, Some(1), "{}", decrypted.stderr);
    assert!(decrypted.stderr.contains("cur/2:2,S"), "{}", decrypted.stderr);
    assert!(stored("1") == mail && stored("4") == mail && stored("2") == bomb);
}

/// A bomb is inflated to its bound, but not onto the disk; mail that expands as much within the bound comes back.
#[test]
fn what_expands_is_proven_before_it_is_written() {
    let blank = [b"Subject: a blank attachment\n\n".to_vec(), b"\n".repeat(30_000_000)].concat();
    let zeros = [b"Subject: zeros\n\n".to_vec(), vec![b'0'; 130_000_000]].concat();
    let sealed = |mail: &[u8]| filter(&key(CERT), &["--compression", "zlib"], mail).stdout;
    let (sealed, bomb) = (sealed(&blank), sealed(&zeros));
    assert!(sealed.len() < 400_000, "{}", sealed.len());
    let new_key = key("rsa3072");
    for work in ["in place", "--into", "reseal"] {
        let dir = tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap();
        let (path, into) = (dir.path().join("Maildir"), dir.path().join("into"));
        for place in ["cur", "new", "tmp"] {
            fs::create_dir_all(path.join(place)).unwrap();
        }
        fs::write(path.join("cur/1:2,S"), &sealed).unwrap();
        fs::write(path.join("cur/2:2,S"), &bomb).unwrap();
        // Whoever writes a file of more than 40 MB (in blocks of 512 bytes) is killed.
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -f 80000 && exec "$@""#, "sh"]).arg(testing::program("mailseal"));
        match work {
            "in place" => command.arg("decrypt"),
            "--into" => command.args(["decrypt", "--into"]).arg(&into),
            _ => command.args(["reseal", "--key"]).arg(&new_key),
        };
        command.arg("--secret-key").arg(fixtures::secret(CERT)).arg(&path);
        let run = filter::run(&mut command, b"", 1);
        assert_eq!(run.status, Some(1), "{work}: {}", run.stderr);
        assert!(run.stderr.contains("cur/2:2,S") && run.stderr.contains("longer than"), "{}", run.stderr);
        let stored = if work == "--into" { into.join("cur") } else { path.join("cur") };
        let mut mails: Vec<_> =
            fs::read_dir(stored).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        mails.retain(|mail| *mail != bomb);
        let [mail] = &mails[..] else { panic!("{work}: {} messages", mails.len()) };
        let opened = if work == "reseal" { decrypt("rsa3072", mail).stdout } else { mail.clone() };
        assert!(opened == blank, "{work}: {} bytes", opened.len());
    }
}

/// Messages of every kind that a hostile sender can plant, and what they are.
fn planted_kinds() -> Vec<(&'static str, Vec<u8>)> {
    let evil = crlf("Received: from evil by evil\nX-Spam-Status: No\nFrom: evil\nSubject: evil\n\nbody\n");
    let long = [b"Content-Type: text/plain\r\n".to_vec(), vec![b'X'; 900_000]].concat();
    let fields = [b"Content-X: y\r\n".repeat(60_000), b"\r\nbody\r\n".to_vec()].concat();
    let zeros = [b"Subject: zeros\n\n".to_vec(), vec![b'0'; 130_000_000]].concat();
    let bomb = filter(&key(CERT), &["--compression", "zlib"], &zeros).stdout;
    let other = filter(&key("rsa3072"), &[], b"Subject: not yours\n\nbody\n").stdout;
    let with = |record: &str, entity: &[u8]| planted(OUTER, &format!("mailseal1;{record}"), entity);
    let whole = with("eol=lf;at=", &crlf("Content-Type: text/plain\n\nbody\n"));
    let cut = whole[..whole.len() * 2 / 3].to_vec();
    let swapped = String::from_utf8(whole.clone()).unwrap().replacen("\n\nw", "\n\nx", 1).into_bytes();
    vec![
        ("fields for the server's", with("eol=lf;hp=", &evil)),
        (
            "an injected header",
            with("eol=lf;at=v;mv=MIME-Version: 1.0%0D%0AFrom: evil%0D%0A%0D%0Aevil", &evil),
        ),
        ("a number without end", with("eol=lf;at=18446744073709551615c", &evil)),
        ("a large number", with("eol=lf;at=99999999c", &evil)),
        ("a tail that is none", with("eol=lf;at=;tail=9999999", &evil)),
        ("another policy", with("eol=lf;hp=0+24;out=52;pol=shy", &evil)),
        ("a long line", with("eol=lf;at=c", &long)),
        ("many fields", with("eol=lf;at=cccccc", &fields)),
        ("no record", planted(OUTER, "mailseal1", &evil)),
        ("another's key", other),
        ("a cut message", cut),
        ("a changed message", swapped),
        ("a bomb", bomb),
    ]
}

/// A Maildir with `count` messages, of which the first `planted` are planted ones.
fn maildir(path: &Path, count: usize, planted: usize) {
    static SEALED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let made = (0..20).map(|number| {
            let line = format!("line {number} of some text in a mail that nobody planted\n");
            format!("Subject: {number}\n\n{}", line.repeat(20 << (number % 9))).into_bytes()
        });
        made.map(|mail| filter(&key(CERT), &[], &mail).stdout).collect()
    });
    static PLANTED: LazyLock<Vec<(&'static str, Vec<u8>)>> = LazyLock::new(planted_kinds);
    for place in ["cur", "new", "tmp"] {
        fs::create_dir_all(path.join(place)).unwrap();
    }
    for number in 0..count {
        let message = match number < planted {
            true => &PLANTED[number % PLANTED.len()].1,
            false => &SEALED[number % SEALED.len()],
        };
        fs::write(path.join("cur").join(format!("{number}.host:2,S")), message).unwrap();
    }
}

/// Runs `mailseal` over a new Maildir with `planted` messages: how it ended, and the seconds that it took.
fn run_over(count: usize, planted: usize, work: &str) -> (Run, f64, tempfile::TempDir) {
    let dir = tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap();
    let path = dir.path().join("Maildir");
    maildir(&path, count, planted);
    let mut command = Command::new(testing::program("mailseal"));
    let secret = fixtures::secret(CERT);
    match work {
        "in place" => command.args(["decrypt", "--secret-key"]).arg(secret),
        "--into" => {
            command.args(["decrypt", "--into"]).arg(dir.path().join("into")).arg("--secret-key").arg(secret)
        }
        "reseal" => command.args(["reseal", "--key"]).arg(key("rsa3072")).arg("--secret-key").arg(secret),
        _ => command.args(["audit", "--key"]).arg(key(CERT)),
    };
    let begun = Instant::now();
    let run = filter::run(command.arg(&path), b"", 1);
    (run, begun.elapsed().as_secs_f64(), dir)
}

/// Of a Maildir half of which a sender has planted: every way of working on it ends, opens all the others, and replaces
/// nothing that the server wrote. Says how long it took, beside a clean one of the same size.
fn half_of_a_maildir_is_planted(count: usize) {
    let planted = count / 2;
    for work in ["in place", "--into", "reseal", "audit"] {
        let (clean, quick, _dir) = run_over(count, 0, work);
        assert_eq!(clean.status, Some(0), "{work}: {}", clean.stderr);
        let (run, slow, dir) = run_over(count, planted, work);
        assert_eq!(run.status, Some(1), "{work}: {}", run.stderr);
        let line = format!("{work}: {slow:.2} s, {:.2} times a clean one's\n", slow / quick);
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        let stored = match work {
            "--into" => dir.path().join("into/cur"),
            _ => dir.path().join("Maildir/cur"),
        };
        let (mut back, mut kept) = (0, 0);
        for entry in fs::read_dir(stored).unwrap() {
            let message = fs::read(entry.unwrap().path()).unwrap();
            let opened = match decrypt("rsa3072", &message) {
                run if work == "reseal" && run.status == Some(0) => run.stdout,
                _ => message,
            };
            if opened.starts_with(b"Return-Path") {
                let without = String::from_utf8_lossy(&opened).replace(OURS, "");
                check(without.as_bytes(), true).unwrap_or_else(|why| panic!("{work}: {why}"));
                kept += 1;
            }
            back += usize::from(opened.ends_with(b"nobody planted\n"));
        }
        if work != "audit" {
            assert!(back == count - planted && kept > 0, "{work}: {back} came back, {kept} kept");
        }
    }
}

#[test]
fn a_maildir_that_is_half_planted_comes_back() {
    half_of_a_maildir_is_planted(60);
}

#[test]
#[ignore = "the long form: some minutes"]
fn a_thousand_planted_among_two_thousand() {
    half_of_a_maildir_is_planted(2000);
}

fn record() -> impl Strategy<Value = String> {
    let number =
        prop_oneof![4 => (0_usize..300).prop_map(|n| n.to_string()), 1 => Just("99999999".to_owned())];
    let range = (number.clone(), number.clone()).prop_map(|(start, length)| format!("{start}+{length}"));
    let field = prop_oneof![
        "at=[0-9cv]{0,6}",
        number.clone().prop_map(|n| format!("tail={n}")),
        (0_usize..4).prop_map(|n| format!("tail={n}")),
        Just("ct=1".to_owned()),
        select(vec!["end=none", "end=cut", "lost=1", "pol=none", "pol=baseline", "pol=shy"])
            .prop_map(str::to_owned),
        select(vec![
            "mv=MIME-Version: 2",
            "mv=,",
            "mv=Received: evil",
            "mv=MIME-Version: 1%0AReceived: evil"
        ])
        .prop_map(str::to_owned),
        vec(range, 0..3).prop_map(|ranges| format!("hp={}", ranges.join(","))),
        vec(number, 0..3).prop_map(|places| format!("out={}", places.join(","))),
        Just("hp=".to_owned()),
    ];
    let eol = select(vec!["lf", "crlf", "mixed"]);
    (eol, vec(field, 0..4)).prop_map(|(eol, fields)| format!("mailseal1;eol={eol};{}", fields.join(";")))
}

fn entity() -> impl Strategy<Value = String> {
    let outer: Vec<String> = OUTER_FIELDS.iter().map(|line| line.trim_end().to_owned()).collect();
    let own = select(vec![
        "Received: evil",
        "ARC-Seal: evil",
        "Authentication-Results: evil",
        "X-Spam-Status: No",
        "Return-Path: evil",
        "Delivered-To: evil",
        "From: evil",
        "Subject: evil",
        "HP-Outer: Subject: [...]",
        "HP-Outer: evil",
        "Content-Type: text/plain",
        "Content-X: y",
        "MIME-Version: 1.0",
        "junk",
        " ",
        " indented",
        "Received : evil",
        "From evil",
        "X-Own: 1",
        "DKIM-Signature: bh=x",
        "",
        "text",
    ]);
    let line = prop_oneof![3 => own.prop_map(str::to_owned), 2 => select(outer)];
    let whole = any::<bool>();
    (whole, vec(line, 0..14)).prop_map(|(whole, mut lines)| {
        if whole {
            let outer = OUTER_FIELDS.iter().map(|line| line.trim_end().replace("[...]", "inside"));
            lines.splice(0..0, outer);
        }
        lines.join("\r\n") + "\r\n"
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: ProptestConfig::default().cases.max(1000), ..ProptestConfig::default() })]

    /// Whatever the record and whatever is inside: all that stands outside comes back in order, byte for byte, but for a
    /// Subject that hides another, and nothing that only a server writes is beside it.
    #[test]
    fn no_record_and_no_entity_changes_what_the_server_wrote(record in record(), entity in entity()) {
        let message = planted(OUTER, &record, entity.as_bytes());
        let Ok(Some((message, exact))) = restored(&message) else { return Ok(()) };
        let checked = check(&message, record.contains("pol=shy"));
        prop_assert!(checked.is_ok(), "{} {}\n{}\n{:?}", record, exact, entity, checked);
    }

    /// Any bytes are read as a record or refused.
    #[test]
    fn any_name_is_a_record_or_none(name in vec(any::<u8>(), 0..255), record in record(), at in any::<prop::sample::Index>(), byte: u8) {
        let _ = mailseal_core::record::Record::parse(&name);
        let mut changed = record.into_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        if let Some(record) = mailseal_core::record::Record::parse(&changed) {
            prop_assert!(record.encode().len() <= 255);
        }
    }
}
