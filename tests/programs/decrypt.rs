//! The way back: what opens, what is refused, where passphrases come from, and that nothing is given out unproven.
//!
//! That it is the identity is checked with every run of the filter in `oracle.rs`.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use mailseal::keys::secret::files::{KeyFiles, Passphrases};
use mailseal_core::{
    error::Error,
    message::opening::Opening,
    unseal::{
        Unsealed,
        keys::{Key, Keys},
        original::Endings,
        unseal,
    },
};
use proptest::prelude::*;
use sequoia_openpgp::{
    Cert, cert::amalgamation::key::PrimaryKey as _, crypto::Password, packet::PKESK, parse::Parse,
    serialize::SerializeInto, types::SymmetricAlgorithm,
};
use testing::{
    decrypt::decrypt,
    filter::{self, Run, filter},
    fixtures, gnupg,
    oracle::key,
    skip,
};

const MAIL: &[u8] =
    b"Subject: x\nContent-Type: text/plain; charset=utf-8\nMIME-Version: 1.0\nTo: y\n\nThe canary sings.\n";

fn sealed(cert: &str, mail: &[u8]) -> Vec<u8> {
    let run = filter(&key(cert), &[], mail);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    run.stdout
}

fn mailseal(arguments: &[&str], input: &[u8]) -> Run {
    let mut command = Command::new(testing::program("mailseal"));
    filter::run(command.arg("decrypt").args(arguments), input, input.len().max(1))
}

/// What the library makes of a message, all of it read.
fn opened(message: &[u8], keys: &dyn Keys) -> Result<Option<Vec<u8>>, Error> {
    let mut rest = message;
    let opening = Opening::read(&mut rest)?;
    match unseal(&opening, rest, keys, Endings::Original, u64::MAX)? {
        Unsealed::Original(mut original) => {
            let mut all = Vec::new();
            original.read_to_end(&mut all).map_err(Error::Read)?;
            Ok(Some(all))
        }
        Unsealed::Foreign(_) => Ok(None),
    }
}

fn keys(cert: &str) -> KeyFiles {
    KeyFiles::read(&[fixtures::secret(cert)], Passphrases::Given(Vec::new())).unwrap()
}

/// The armour of a message: from the first character of its base64 to the last.
fn armor(message: &[u8]) -> std::ops::Range<usize> {
    let find = |what: &str| message.windows(what.len()).position(|window| window == what.as_bytes()).unwrap();
    find("MESSAGE-----\n\n") + 14..find("\n-----END")
}

/// A message cut off anywhere behind its Content-Type is refused; no cut makes the program panic, as sequoia's reader
/// does for some.
#[test]
fn every_cut_is_refused() {
    for cert in ["curve25519", "v6"] {
        let keys = keys(cert);
        let message = sealed(cert, MAIL);
        let header = message.windows(2).position(|window| window == b"\n\n").unwrap();
        assert_eq!(opened(&message, &keys).unwrap().unwrap(), MAIL);
        // The closing delimiter's own line ending aside.
        for end in header..message.len() - 1 {
            let found = opened(&message[..end], &keys);
            assert!(found.is_err(), "{cert}: {end} of {}: {found:?}", message.len());
        }
    }
}

/// Whatever character of the armour is changed: the message is refused, or it is what it was (the checksum is not
/// looked at).
#[test]
fn every_change_is_refused() {
    for cert in ["curve25519", "v6"] {
        let keys = keys(cert);
        let message = sealed(cert, MAIL);
        let mut same = 0;
        for at in armor(&message) {
            for other in [b'A', b'/', b'\n', b'-', b'='] {
                let mut changed = message.clone();
                changed[at] = other;
                match opened(&changed, &keys) {
                    Ok(Some(original)) if original == MAIL => same += 1,
                    Ok(found) => panic!("{cert}: {other:?} at {at}: {found:?}"),
                    Err(_) => {}
                }
            }
        }
        assert!(same < 80, "{same} of the changes were not seen");
    }
}

/// The same where the message is cut off inside the armor, and the structure around it mended.
#[test]
fn packets_that_are_cut_off_are_refused() {
    for cert in ["curve25519", "v6", "rsa3072"] {
        let keys = keys(cert);
        for mail in [MAIL, &[MAIL, &b"0123456789abcdef\n".repeat(3000)].concat()] {
            let message = sealed(cert, mail);
            let armor = armor(&message);
            let text: Vec<u8> = message[armor.clone()].iter().copied().filter(u8::is_ascii_graphic).collect();
            let checksum = if cert == "v6" { 0 } else { 5 };
            let packets = base64_simd::STANDARD.decode_to_vec(&text[..text.len() - checksum]).unwrap();
            for end in (0..packets.len()).step_by(if packets.len() > 4000 { 97 } else { 1 }) {
                let cut = base64_simd::STANDARD.encode_to_string(&packets[..end]);
                let cut = [&message[..armor.start], cut.as_bytes(), &message[armor.end..]].concat();
                let found = opened(&cut, &keys);
                assert!(found.is_err(), "{cert}: {end} of {}: {found:?}", packets.len());
            }
        }
    }
}

/// Opens everything with a key of zeros: what is inside is not what anybody wrote.
struct AnyKey(Option<SymmetricAlgorithm>);

impl Keys for AnyKey {
    fn session_key(&self, _: &[PKESK]) -> Result<Option<Key>, Error> {
        Ok(Some(Key { cipher: self.0, key: vec![0; 32].into() }))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Octets that nobody wrote are refused, whatever packets they look like, and no reader panics.
    #[test]
    fn arbitrary_packets_are_refused(
        first in prop::sample::select(vec![0x84_u8, 0xc1, 0xd2, 0xcb, 0x8c, 0xc8]),
        header in prop::collection::vec(any::<u8>(), 0..6),
        version in 0_u8..3,
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let tail = [&[0xd2][..], &header, &[version], &body].concat();
        for packets in [tail.clone(), [&[first, 1, 3][..], &tail].concat()] {
            let message = format!(
                "MIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; \
                 boundary=\"=_mailseal-0\"\n\n--=_mailseal-0\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n\
                 --=_mailseal-0\nContent-Type: application/octet-stream\n\n-----BEGIN PGP MESSAGE-----\n\n{}\n\
                 -----END PGP MESSAGE-----\n\n--=_mailseal-0--\n",
                base64_simd::STANDARD.encode_to_string(&packets)
            );
            for cipher in [None, Some(SymmetricAlgorithm::AES256)] {
                prop_assert!(opened(message.as_bytes(), &AnyKey(cipher)).is_err());
            }
        }
    }
}

/// Neither a small message nor one that is decrypted as it is read gives anything away before its end is proven.
#[test]
fn nothing_comes_out_of_a_damaged_message() {
    let line = b"The canary sings in a large message, again and again.\n";
    let large = [b"Subject: x\n\n".to_vec(), line.repeat(400_000)].concat();
    for mail in [MAIL, &large] {
        for options in [&[][..], &["--compression", "none"]] {
            let message = filter(&key("curve25519"), options, mail).stdout;
            let armor = armor(&message);
            let mut changed = message.clone();
            let at = armor.end - 60;
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let path = write("damaged", &changed);
            mailseal(&["--secret-key", &secret("curve25519"), path.to_str().unwrap()], b"")
                .assert_failed("a file", 65);
            decrypt("curve25519", &changed).assert_failed("a pipe", 65);
            decrypt("curve25519", &message[..armor.end - 1000.min(armor.len())]).assert_failed("cut off", 65);
            assert!(limited(&message).stdout == mail);
        }
    }
}

/// Decrypts with little memory: the program with its libraries and debugging information takes about half of this.
fn limited(message: &[u8]) -> Run {
    let mut command = Command::new("sh");
    let script = "ulimit -v 65536; exec \"$0\" decrypt --secret-key \"$1\"";
    let program = testing::program("mailseal");
    command.args(["-c", script]).arg(program).arg(secret("curve25519"));
    filter::run(&mut command, message, message.len())
}

/// What follows the ciphertext was not there when it was sealed.
#[test]
fn text_around_the_ciphertext_is_refused() {
    let message = String::from_utf8(sealed("curve25519", MAIL)).unwrap();
    for changed in [
        format!("{message}text\n"),
        message.replace("-----END PGP MESSAGE-----\n", "-----END PGP MESSAGE-----\ntext\n"),
        message.replace("\n\n--=_", "\n\ntext\ntext\ntext\n--=_"),
    ] {
        decrypt("curve25519", changed.as_bytes()).assert_failed("text", 65);
    }
}

#[test]
fn another_key_opens_nothing() {
    let run = decrypt("rsa3072", &sealed("curve25519", MAIL));
    run.assert_failed("another key", 1);
    assert!(run.stderr.contains("C37FA4B9682ECB87"), "{}", run.stderr);
    // The right one among several.
    let (one, other) = (secret("rsa3072"), secret("curve25519"));
    let arguments = ["--secret-key", &one, "--secret-key", &other, "-"];
    assert_eq!(mailseal(&arguments, &sealed("curve25519", MAIL)).stdout, MAIL);
}

/// Clear mail, and mail that its sender encrypted, to whomever, stay as they are.
#[test]
fn foreign_messages_stay_as_they_are() {
    let gnupg = testing::openers::GnuPg::new();
    let to_user =
        String::from_utf8(gnupg.encrypt("curve25519", b"Content-Type: text/plain\n\nhello\n")).unwrap();
    let mut mails = fixtures::mails("encrypted");
    // What gpgit has sealed at rest is opened.
    mails.retain(|mail| !mail.name.starts_with("gpgit-"));
    mails.extend(fixtures::mails("mails"));
    for mail in &mails {
        let run = decrypt("curve25519", &mail.bytes);
        assert_eq!(run.status, Some(0), "{}: {}", mail.name, run.stderr);
        assert!(run.stdout == mail.bytes, "{}", mail.name);
        assert!(run.stderr.contains("stays as it is"), "{}: {}", mail.name, run.stderr);
    }
    for boundary in ["sender", "=_mailseal-0123456789abcdef0123456789abcdef"] {
        let mail = format!(
            "Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\n\
             \tboundary=\"{boundary}\"\n\n--{boundary}\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n\
             --{boundary}\nContent-Type: application/octet-stream\n\n{to_user}\n--{boundary}--\n"
        );
        let run = decrypt("curve25519", mail.as_bytes());
        assert_eq!((run.status, run.stdout == mail.as_bytes()), (Some(0), true), "{}", run.stderr);
    }
}

/// As Dovecot stores what it was given with CRLF, and as an IMAP client saves what was stored with LF.
#[test]
fn a_message_stored_with_other_line_endings_comes_back_as_it_was_sealed() {
    for mail in fixtures::mails("mails") {
        let crlf = mail.bytes.windows(2).any(|pair| pair == b"\r\n");
        let lf = mail.bytes.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r');
        if mail.bytes.iter().filter(|byte| **byte == b'\r').count() > 0 && (!crlf || lf) {
            // Stored once more, its other CRs would not be the same.
            continue;
        }
        let message = sealed("curve25519", &mail.bytes);
        let stored =
            if crlf { testing::variants::to_lf(&message) } else { testing::variants::to_crlf(&message) };
        let run = decrypt("curve25519", &stored);
        assert_eq!((run.status, &*run.stderr), (Some(0), ""), "{}", mail.name);
        assert_eq!(
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&mail.bytes),
            "{}",
            mail.name
        );
    }
}

#[test]
fn passphrases_come_from_a_descriptor_or_the_terminal() {
    let locked = locked("correct horse");
    let locked = locked.to_str().unwrap();
    let message = sealed("curve25519", MAIL);
    let file = write("message", &message);
    let run = |passphrase: &str| {
        let mut command = Command::new("sh");
        let program = testing::program("mailseal");
        let script = format!(
            "printf '{passphrase}\\n' | '{}' decrypt --secret-key '{locked}' --passphrase-fd 0 '{}'",
            program.display(),
            file.display()
        );
        filter::run(command.arg("-c").arg(script), b"", 1)
    };
    assert_eq!(run("correct horse").stdout, MAIL);
    assert_eq!(run("wrong\\ncorrect horse").stdout, MAIL);
    run("wrong").assert_failed("a wrong passphrase", 75);

    // Without a terminal there is nobody to ask.
    let mut alone = Command::new("setsid");
    let arguments = ["decrypt", "--secret-key", locked, file.to_str().unwrap()];
    let none = filter::run(alone.arg("--wait").arg(testing::program("mailseal")).args(arguments), b"", 1);
    none.assert_failed("no terminal", 75);

    if Command::new("script").arg("--version").output().is_err() {
        skip::unless_ci("script (bsdutils) is missing");
        return;
    }
    let out = file.with_extension("out");
    let command = format!(
        "'{}' decrypt --secret-key '{locked}' '{}' > '{}'",
        testing::program("mailseal").display(),
        file.display(),
        out.display()
    );
    // What is typed before the prompt would be shown by the terminal.
    let typing = "{ sleep 1; echo no; sleep 1; echo correct horse; sleep 1; } | script -qec \"$0\" /dev/null";
    let terminal = filter::run(Command::new("sh").args(["-c", typing, &command]), b"", 1);
    assert_eq!(terminal.status, Some(0), "{}", String::from_utf8_lossy(&terminal.stdout));
    assert!(!String::from_utf8_lossy(&terminal.stdout).contains("correct"), "the passphrase was shown");
    assert_eq!(fs::read(out).unwrap(), MAIL);
}

#[test]
fn gpg_opens_with_its_agent() {
    let dir = tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap();
    let home = gnupg::Home::at(dir.path());
    home.import(&fs::read(fixtures::secret("curve25519")).unwrap());
    let run = |message: &[u8]| {
        let mut command = Command::new(testing::program("mailseal"));
        command.env("GNUPGHOME", dir.path()).args(["decrypt", "--gpg-agent"]);
        filter::run(&mut command, message, message.len())
    };
    assert_eq!(run(&sealed("curve25519", MAIL)).stdout, MAIL);
    run(&sealed("rsa3072", MAIL)).assert_failed("not there", 1);
    run(&sealed("v6", MAIL)).assert_failed("version 6", 1);
}

fn secret(cert: &str) -> String {
    fixtures::secret(cert).to_str().unwrap().to_owned()
}

/// A file of this process's own.
fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("decrypt-{}-{name}", std::process::id()));
    fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    path
}

/// The secret key of the fixture `curve25519`, locked with a passphrase.
fn locked(passphrase: &str) -> PathBuf {
    let cert = Cert::from_file(fixtures::secret("curve25519")).unwrap();
    let passphrase = Password::from(passphrase);
    let mut packets = Vec::new();
    for key in cert.keys().secret() {
        let locked = key.key().clone().encrypt_secret(&passphrase).unwrap();
        packets.push(if key.primary() {
            locked.role_into_primary().into()
        } else {
            sequoia_openpgp::Packet::from(locked.role_into_subordinate())
        });
    }
    let (cert, _) = cert.insert_packets(packets).unwrap();
    write("locked", &cert.as_tsk().to_vec().unwrap())
}
