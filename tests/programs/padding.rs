//! `--pad`: messages of a class are equally long to the octet, and every reader opens them.
//!
//! gpg, rPGP and Sequoia read each; RNP, sq and PGPy where they are installed, as `tests/run programs` does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sequoia_openpgp::{Cert, parse::Parse as _};
use testing::{
    filter::{Run, filter, run},
    fixtures::{cert, secret},
    made,
    openers::{self, GnuPg},
    program, skip,
};

/// Mails with the same header, each with another body.
fn mail(body: &str) -> Vec<u8> {
    format!("From: ossec@host.example\nTo: team@example.org\nSubject: alert\n\n{body}\n").into_bytes()
}

fn bodies() -> Vec<String> {
    let long: String = (0..200).map(|n| format!("{n:x}{:x}", n * 7919 % 65_521)).collect();
    ["yes".into(), "no".into(), String::new(), "Submissions: 3. ".repeat(40), long].to_vec()
}

#[track_caller]
fn sealed(to: &Path, options: &[&str], message: &[u8]) -> Vec<u8> {
    let Run { status, stdout, stderr } = filter(to, options, message);
    assert_eq!(status, Some(0), "{options:?}: {stderr}");
    stdout
}

fn armor(message: &[u8]) -> &[u8] {
    let at = |what: &[u8]| message.windows(what.len()).position(|it| it == what).unwrap();
    let end = b"-----END PGP MESSAGE-----";
    &message[at(b"-----BEGIN PGP MESSAGE-----")..at(end) + end.len() + 1]
}

fn decrypted(key: &Path, message: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program("mailseal"));
    let run = run(command.args(["decrypt", "--secret-key"]).arg(key).arg("-"), message, message.len());
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    run.stdout
}

#[test]
fn a_class_has_one_length_and_every_reader_opens_it() {
    let gpg = GnuPg::new();
    for name in ["curve25519", "rsa3072", "two-subkeys", "v6", "two-subkeys-v6"] {
        for options in [
            &["--pad", "4KiB"][..],
            &["--pad", "4KiB", "--compression", "none"],
            &["--pad", "4KiB", "--compression", "zlib:9"],
            &["--pad", "4KiB", "--protect-headers", "strict", "--subject", "Daily"],
        ] {
            let mut lengths = Vec::new();
            for body in bodies() {
                let message = mail(&body);
                let sealed = sealed(&cert(name), options, &message);
                lengths.push(sealed.len());
                assert_eq!(decrypted(&secret(name), &sealed), message, "{name} {options:?}");
                let armor = armor(&sealed);
                let opened = openers::sequoia(name, armor).unwrap();
                assert_eq!(openers::rpgp(name, armor).unwrap().data, opened, "{name} {options:?}");
                if !name.contains("v6") {
                    assert_eq!(gpg.decrypt(armor).unwrap(), opened, "{name} {options:?}");
                }
            }
            assert!(lengths.iter().all(|length| *length == lengths[0]), "{name} {options:?}: {lengths:?}");
        }
    }
}

#[test]
fn two_hundred_alerts_have_one_length() {
    let options =
        ["--pad", "4KiB", "--protect-headers", "strict", "--subject", "Submissions in the past 24h"];
    // RSA's numbers are a byte shorter once in 256 times.
    let lengths = (0..200).map(|n: usize| {
        let message = format!(
            "From: alerts@example.org\nTo: team@example.org\nSubject: {}\nX-Count: {n}\n\n{}\n",
            "news ".repeat(n % 7 + 1),
            "A submission came in. ".repeat(n * n % 97)
        );
        sealed(&cert("rsa3072"), &options, message.as_bytes()).len()
    });
    let lengths: std::collections::BTreeSet<usize> = lengths.collect();
    assert_eq!(lengths.len(), 1, "{lengths:?}");
}

#[test]
fn a_certificate_without_compression_gets_marker_packets() {
    let dir = tempfile::tempdir().unwrap();
    let plain = made::without_compression("Plain <plain@example.org>");
    let (public, key) = (dir.path().join("plain.pgp"), dir.path().join("plain.sec.pgp"));
    fs::write(&public, made::public(&plain)).unwrap();
    fs::write(&key, made::secret(&plain)).unwrap();
    let mut lengths = Vec::new();
    for body in bodies() {
        let message = mail(&body);
        let sealed = sealed(&public, &["--pad", "4KiB"], &message);
        assert_eq!(decrypted(&key, &sealed), message);
        let opened = openers::open(&plain, armor(&sealed)).unwrap();
        assert_eq!(gpg_with(dir.path(), &key, armor(&sealed)), opened);
        lengths.push(sealed.len());
    }
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    // Of one that is not held, the length is not known before it is written.
    let long = mail(&"canary ".repeat(1 << 19));
    filter(&public, &["--pad", "4KiB"], &long).assert_failed("a long message", 65);
}

/// gpg's own plaintext, by the secret key in `key`, in a home of its own below `dir`.
fn gpg_with(dir: &Path, key: &Path, armor: &[u8]) -> Vec<u8> {
    use std::os::unix::fs::PermissionsExt as _;

    let home = dir.join("gnupg");
    fs::create_dir_all(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let gpg = |arguments: &[&str], input: &[u8]| {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(&home).args(["--batch", "--quiet", "--no-tty"]).args(arguments);
        run(&mut gpg, input, input.len().max(1))
    };
    let imported = gpg(&["--import", key.to_str().unwrap()], b"");
    assert_eq!(imported.status, Some(0), "{}", imported.stderr);
    let opened = gpg(&["--decrypt"], armor);
    drop(Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"]).status());
    assert_eq!(opened.status, Some(0), "{}", opened.stderr);
    opened.stdout
}

#[test]
fn a_long_message_is_filled_up_while_it_streams() {
    let gpg = GnuPg::new();
    let text: String = (0..300_000).map(|n: u32| format!("{:x} ", n.wrapping_mul(2_654_435_761))).collect();
    for (pad, unit) in [("64KiB", 64 * 1024), ("1MiB", 1024 * 1024)] {
        let message = mail(&text);
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let to = format!("file:{}", log.display());
        let mut command = Command::new(program("mailseal-filter"));
        command.args(["--config", "/dev/null", "--pad", pad, "--log", &to, "--key"]);
        let run = run(command.arg(cert("curve25519")), &message, 1 << 16);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        assert_eq!(decrypted(&secret("curve25519"), &run.stdout), message);
        assert_eq!(
            gpg.decrypt(armor(&run.stdout)).unwrap(),
            openers::sequoia("curve25519", armor(&run.stdout)).unwrap()
        );
        // The log tells the class, and not how long the message is.
        let line = fs::read_to_string(log).unwrap();
        let size: u64 = line.split(" in=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(size.is_multiple_of(unit) && size > unit, "{line}");
    }
}

#[test]
fn padme_makes_few_classes() {
    let lengths: std::collections::BTreeSet<usize> = (0..300)
        .map(|n: usize| {
            let noise: String = (0..n * 11).map(|at| char::from(b'!' + (at * at * 31 % 89) as u8)).collect();
            sealed(&cert("curve25519"), &["--pad", "padme", "--compression", "none"], &mail(&noise)).len()
        })
        .collect();
    // Sixteen from each power of two to the next.
    assert!(lengths.len() < 80, "{lengths:?}");
}

#[test]
fn other_readers_open_what_is_filled_up() {
    let dir = tempfile::tempdir().unwrap();
    let key = secret("curve25519");
    let plain = made::without_compression("Plain <plain@example.org>");
    let plain_key = dir.path().join("plain.sec.pgp");
    fs::write(&plain_key, made::secret(&plain)).unwrap();
    fs::write(dir.path().join("plain.pgp"), made::public(&plain)).unwrap();
    let cases = [
        (cert("curve25519"), key.clone(), "auto"),
        (cert("curve25519"), key, "none"),
        (dir.path().join("plain.pgp"), plain_key, "auto"),
    ];
    for (public, key, compression) in cases {
        let message = mail("yes");
        let sealed = sealed(&public, &["--pad", "4KiB", "--compression", compression], &message);
        let file = dir.path().join("message.asc");
        fs::write(&file, armor(&sealed)).unwrap();
        let holder = openers::open(&Cert::from_file(&key).unwrap(), armor(&sealed)).unwrap();
        for reader in [rnp, sq, pgpy] {
            if let Some(opened) = reader(dir.path(), &key, &file) {
                assert_eq!(
                    String::from_utf8_lossy(&opened),
                    String::from_utf8_lossy(&holder),
                    "{}",
                    public.display()
                );
            }
        }
    }
}

fn output(command: &mut Command) -> Option<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            Some(output.stdout)
        }
        Err(_) => {
            skip::unless_ci(&format!("{name} is not installed"));
            None
        }
    }
}

fn rnp(dir: &Path, key: &Path, file: &Path) -> Option<Vec<u8>> {
    let home: PathBuf = dir.join("rnp");
    let _ = fs::remove_dir_all(&home);
    fs::create_dir(&home).unwrap();
    output(Command::new("rnpkeys").arg("--homedir").arg(&home).arg("--import").arg(key))?;
    output(Command::new("rnp").arg("--homedir").arg(&home).args(["--output", "-", "--decrypt"]).arg(file))
}

fn sq(_: &Path, key: &Path, file: &Path) -> Option<Vec<u8>> {
    output(Command::new("sq").args(["decrypt", "--recipient-key"]).arg(key).arg(file))
}

fn pgpy(_: &Path, key: &Path, file: &Path) -> Option<Vec<u8>> {
    let script = "import sys, warnings\n\
        warnings.simplefilter('ignore')\n\
        try:\n    import pgpy\nexcept ImportError:\n    sys.exit(3)\n\
        key, _ = pgpy.PGPKey.from_file(sys.argv[1])\n\
        data = key.decrypt(pgpy.PGPMessage.from_file(sys.argv[2])).message\n\
        sys.stdout.buffer.write(data if isinstance(data, (bytes, bytearray)) else data.encode())\n";
    let output = Command::new("/usr/bin/python3").args(["-c", script]).arg(key).arg(file).output();
    match output {
        Ok(output) if output.status.code() != Some(3) => {
            assert!(output.status.success(), "PGPy: {}", String::from_utf8_lossy(&output.stderr));
            Some(output.stdout)
        }
        _ => {
            skip::unless_ci("PGPy is not installed");
            None
        }
    }
}

#[test]
fn what_is_no_size_is_refused() {
    for pad in ["0", "63", "65MiB", "4k", "", "-1"] {
        let option = format!("--pad={pad}");
        filter(&cert("curve25519"), &[&option], &mail("canary")).assert_failed(pad, 64);
    }
}
