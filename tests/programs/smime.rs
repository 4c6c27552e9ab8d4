//! S/MIME: what is sealed to certificates of every kind is opened by openssl, gpgsm and NSS, and is the entity that the contract
//! computes; `mailseal decrypt` gives the message back.
//!
//! Messages are sealed in this process where a program for each would be too slow.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use mailseal_core::{
    message::opening::Opening,
    protect::Policy,
    recipients::{Recipients, WhenExpired},
    seal::{Sealed, Sealer},
    smime::{bundle, certificate::Certificate, recipient::KeyTransport},
};
use testing::{
    admin::Admin,
    alone,
    delivery::Host,
    filter::{self, Run},
    fixtures, header, jobs,
    oracle::{compare, expected_entities},
    smime::{self, Gpgsm, Nss, file},
    variants::{to_crlf, to_lf},
};

const KEYS: [&str; 5] = ["rsa", "rsa-4096", "p256", "p384", "p521"];

/// Those of certificates that list AES-256-GCM.
const GCM_KEYS: [&str; 2] = ["rsa-gcm", "p256-gcm"];

const RECORD: &[u8] = b"Mailseal-Record: mailseal1;";

fn certificate(name: &str) -> Certificate {
    bundle::read(&fs::read(file(&format!("{name}.pem"))).unwrap()).unwrap().pop().unwrap()
}

fn recipients(names: &[&str]) -> Recipients {
    let certificates: Vec<_> = names.iter().map(|name| certificate(name)).collect();
    Recipients::choose_smime("alice", &certificates, &[], WhenExpired::Encrypt, SystemTime::now()).unwrap()
}

fn seal(
    recipients: &Recipients,
    policy: Policy,
    mut mail: impl Read,
    out: impl Write + Send + Sync,
) -> Sealed {
    let opening = Opening::read(&mut mail).unwrap();
    Sealer::to(recipients, policy).seal(&opening, &mut mail, out).unwrap()
}

fn sealed(recipients: &Recipients, policy: Policy, mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    seal(recipients, policy, mail, &mut out);
    out
}

/// The CMS in the body of an S/MIME message.
fn cms(mail: &[u8]) -> Vec<u8> {
    let body = header::split(mail).body;
    let characters: Vec<u8> = body.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
    base64_simd::STANDARD.decode_to_vec(characters).expect("the body is base64")
}

/// The entity in what a reader has opened: what follows the record.
fn entity(opened: &[u8]) -> Result<&[u8], String> {
    let end = opened.iter().position(|byte| *byte == b'\n').filter(|_| opened.starts_with(RECORD));
    let end = end.ok_or_else(|| {
        format!("no record: {:?}", String::from_utf8_lossy(&opened[..opened.len().min(99)]))
    })?;
    Ok(&opened[end + 1..])
}

/// Whether openssl opens `message`, sealed to `to`, with the key of the fixture `name`, and what comes out is what it should be;
/// what was sealed, and what was opened.
fn check(to: &Recipients, name: &str, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let out = sealed(to, Policy::None, message);
    let opened = smime::openssl(name, &out)?;
    compare("openssl", entity(&opened)?, &expected_entities(message))?;
    Ok((out, opened))
}

/// Whether `mailseal decrypt` gives `message` back.
fn check_back(name: &str, sealed: &[u8], message: &[u8]) -> Result<(), String> {
    let back = smime::decrypt(&smime::key(name), None, sealed);
    if back.status != Some(0) || !back.stderr.is_empty() {
        return Err(format!("mailseal decrypt: {:?}, {}", back.status, back.stderr));
    }
    compare("mailseal decrypt", &back.stdout, &[message.to_vec()])
}

/// By openssl in every line ending, by the others in one.
#[test]
fn every_mail_of_the_fixtures_opens() {
    let (gpgsm, nss) = (Mutex::new(Gpgsm::new()), Mutex::new(Nss::new(&["rsa"])));
    let mails: Vec<_> = fixtures::mails("mails").into_iter().enumerate().collect();
    let (all, rsa, gcm) = (recipients(&KEYS), recipients(&["rsa"]), recipients(&GCM_KEYS));
    jobs::all(
        &mails,
        |(_, mail)| mail.name.clone(),
        |(number, mail)| {
            let variants = [mail.bytes.clone(), to_lf(&mail.bytes), to_crlf(&mail.bytes)];
            for (variant, message) in variants.iter().enumerate() {
                let name = KEYS[(number + variant) % KEYS.len()];
                let (out, opened) = check(&all, name, message)?;
                let gcm_name = GCM_KEYS[(number + variant) % GCM_KEYS.len()];
                let (authenticated, _) = check(&gcm, gcm_name, message)?;
                if variant == number % variants.len() {
                    compare("gpgsm", &gpgsm.lock().unwrap().open(&cms(&out))?, &[opened])?;
                    let for_rsa = nss.lock().unwrap().open(&cms(&sealed(&rsa, Policy::None, message)))?;
                    compare("NSS", entity(&for_rsa)?, &expected_entities(message))?;
                    check_back(name, &out, message)?;
                    check_back(gcm_name, &authenticated, message)?;
                }
            }
            Ok(())
        },
    );
}

#[test]
#[ignore = "some minutes: every corpus mail, opened by openssl and given back"]
fn every_mail_of_the_corpus_opens() {
    let Some(mails) = fixtures::corpus() else { return };
    let mails: Vec<_> = mails.into_iter().enumerate().collect();
    let all = recipients(&KEYS);
    jobs::all(
        &mails,
        |(_, mail)| mail.name.clone(),
        |(number, mail)| {
            let name = KEYS[number % KEYS.len()];
            let (out, _) = check(&all, name, &mail.bytes)?;
            check_back(name, &out, &mail.bytes)
        },
    );
}

/// Octets of the buffers: a block, what is encoded at once, a string, what is read at once, and the look-ahead.
const BUFFERS: [usize; 5] = [16, 18 * 1024, 16 * 1024, 64 * 1024, 1024 * 1024];

#[test]
fn every_size_near_a_border_opens() {
    let (one, gcm) = (recipients(&["p256"]), recipients(&["p256-gcm"]));
    let near = |border: usize| (0..3).map(move |step| (border + step).saturating_sub(1));
    let borders = BUFFERS.iter().flat_map(|size| (1..=2).map(move |times| times * size));
    // The record and the entity's header lie between the body's end and the borders of the layers.
    let sizes: Vec<usize> = borders
        .flat_map(|border| near(border).chain((80..150).map(move |less| border.saturating_sub(less))))
        .chain([0])
        .collect();
    jobs::all(
        &sizes,
        |size| format!("{size} bytes"),
        |size| {
            let line = b"the canary sings at noon, and at night it sings again, whoever listens\r\n";
            let body: Vec<u8> = line.iter().cycle().take(*size).copied().collect();
            let message = [&b"Subject: canary\r\nContent-Type: text/plain\r\n\r\n"[..], &body].concat();
            check(&one, "p256", &message)?;
            check(&gcm, "p256-gcm", &message).map(drop)
        },
    );
}

#[test]
fn other_programs_read_what_is_said_of_them() {
    let message = b"From: bob@example.org\nSubject: canary\n\nbody\n";
    let entities = expected_entities(message);
    let (nss, gpgsm) = (Nss::new(&KEYS), Gpgsm::new());
    for name in KEYS {
        let out = sealed(&recipients(&[name]), Policy::None, message);
        compare("openssl", entity(&smime::openssl(name, &out).unwrap()).unwrap(), &entities).unwrap();
        // NSS 3.87 reads no CMS with a recipient on a curve, openssl's neither.
        match nss.open(&cms(&out)) {
            Ok(opened) => compare("NSS", entity(&opened).unwrap(), &entities).unwrap(),
            Err(error) => {
                assert!(name.starts_with('p') && error.contains("SEC_ERROR_BAD_DER"), "{name}: {error}")
            }
        }
    }
    for name in GCM_KEYS {
        let out = sealed(&recipients(&[name]), Policy::None, message);
        compare("openssl", entity(&smime::openssl(name, &out).unwrap()).unwrap(), &entities).unwrap();
        // Neither NSS 3.87 nor GnuPG 2.2.40 knows authEnveloped-data.
        let error = nss.open(&cms(&out)).unwrap_err();
        assert!(error.contains("SEC_ERROR_UNRECOGNIZED_OID"), "{error}");
        let error = gpgsm.open(&cms(&out)).unwrap_err();
        assert!(error.contains("Buffer too short"), "{error}");
    }
    let oaep = recipients(&["rsa"]).with_key_transport(KeyTransport::Oaep);
    let out = sealed(&oaep, Policy::None, message);
    compare("openssl", entity(&smime::openssl("rsa", &out).unwrap()).unwrap(), &entities).unwrap();
    let error = gpgsm.open(&cms(&out)).unwrap_err();
    assert!(error.contains("error getting encrypted session key"), "{error}");
}

#[test]
fn a_protected_header_is_inside() {
    let message = b"From: bob@example.org\nSubject: canary\nTo: alice@example.org\n\nbody\n";
    let out = sealed(&recipients(&["rsa"]), Policy::Baseline, message);
    assert!(!String::from_utf8_lossy(&out).contains("canary"));
    let opened = String::from_utf8(smime::openssl("rsa", &out).unwrap()).unwrap();
    for expected in [
        "\r\nSubject: canary\r\n",
        "\r\nHP-Outer: Subject: [...]\r\n",
        "hp=\"cipher\"",
        "\r\nSealed-At-Rest: v1\r\n",
    ] {
        assert!(opened.contains(expected), "{expected:?}: {opened}");
    }
    assert_eq!(smime::decrypt(&file("rsa.key"), None, &out).stdout, message);
}

#[test]
fn private_keys_in_every_form_open_it() {
    let message = b"Subject: canary\n\nbody\n";
    let out = sealed(&recipients(&["rsa", "p256"]), Policy::Baseline, message);
    let dir = tempfile::tempdir().unwrap();
    let [right, wrong] = ["secret", "wrong"].map(|word| {
        let path = dir.path().join(word);
        fs::write(&path, format!("other\n{word}\n")).unwrap();
        path
    });
    for name in [
        "rsa.p12",
        "rsa.openssl.p12",
        "rsa.legacy.p12",
        "rsa.old.p12",
        "rsa.locked.key",
        "p256.p12",
        "p256.locked.key",
    ] {
        let run = smime::decrypt(&file(name), Some(&right), &out);
        assert_eq!((run.status, &run.stdout[..]), (Some(0), &message[..]), "{name}: {}", run.stderr);
        smime::decrypt(&file(name), Some(&wrong), &out).assert_failed(name, 75);
    }
    for name in ["rsa.key", "rsa.traditional.key", "p256.traditional.key", "rsa.open.p12", "both.pem"] {
        let run = smime::decrypt(&file(name), None, &out);
        assert_eq!((run.status, &run.stdout[..]), (Some(0), &message[..]), "{name}: {}", run.stderr);
    }
    let run = smime::decrypt(&file("p384.key"), None, &out);
    run.assert_failed("another key", 1);
    assert!(
        run.stderr.contains(&certificate("rsa").id()) && run.stderr.contains(&certificate("p256").id()),
        "{}",
        run.stderr
    );
    smime::decrypt(&fixtures::secret("curve25519"), None, &out).assert_failed("OpenPGP's key", 1);
    for (name, content) in [("empty", &b""[..]), ("text", b"text"), ("broken", b"0\x82\x01\x01broken")] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        smime::decrypt(&path, None, &out).assert_failed(name, 75);
    }
}

/// The last octet of the ciphertext, which tells of nothing before it, and the last one of the tag.
#[test]
fn what_is_changed_under_gcm_is_not_given_out() {
    let message = [&b"Subject: canary\n\n"[..], &b"canary\n".repeat(20_000)].concat();
    let out = sealed(&recipients(&["p256-gcm"]), Policy::None, &message);
    let octets = cms(&out);
    let header = &out[..out.windows(2).position(|pair| pair == b"\n\n").unwrap() + 1];
    assert_eq!(smime::decrypt(&file("p256.key"), None, &out).stdout, message);
    for from_end in [1 + 6, 16 + 6 + 2 + 4 + 1, 100_000] {
        let mut changed = octets.clone();
        let at = changed.len() - from_end;
        changed[at] ^= 1;
        let body = base64_simd::STANDARD.encode_to_string(&changed);
        let run = smime::decrypt(&file("p256.key"), None, &[header, b"\n", body.as_bytes()].concat());
        run.assert_failed(&format!("changed at {from_end} from the end"), 65);
        assert!(run.stderr.contains("the integrity check fails"), "{}", run.stderr);
    }
}

#[test]
fn what_is_cut_off_is_not_given_out() {
    let message = [&b"Subject: canary\n\n"[..], &b"canary\n".repeat(20_000)].concat();
    let out = sealed(&recipients(&["p256"]), Policy::None, &message);
    for end in [out.len() - 2, out.len() - 70, out.len() / 2, out.len() / 2 + 1] {
        let run = smime::decrypt(&file("p256.key"), None, &out[..end]);
        run.assert_failed(&format!("cut off at {end}"), 65);
    }
}

/// Gives so many octets of lines.
struct Long(u64);

impl Read for Long {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.min(buffer.len() as u64) as usize;
        for (at, octet) in buffer[..count].iter_mut().enumerate() {
            *octet = if at % 64 == 63 { b'\n' } else { b'x' };
        }
        self.0 -= count as u64;
        Ok(count)
    }
}

/// Kilobytes of this process that were in memory at most.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// In a process of its own: other tests take memory as well.
#[test]
fn memory_does_not_grow_with_the_message() {
    if !alone::is_alone() {
        return alone::run("smime::memory_does_not_grow_with_the_message");
    }
    let recipients = recipients(&["p256"]);
    let header = b"Subject: canary\n\n";
    let mut measured = [8 << 20, 512 << 20].map(|octets: u64| {
        let started = std::time::Instant::now();
        seal(&recipients, Policy::Baseline, header.chain(Long(octets)), io::sink());
        eprintln!("MEASURED S/MIME, {octets} bytes: {:?}, {} kB at most", started.elapsed(), most_memory());
        most_memory()
    });
    measured.sort_unstable();
    assert!(measured[1] - measured[0] < 1024, "{measured:?}");
}

/// Nobody seals for ever to what has run out of time in these tests.
#[test]
fn the_fixtures_are_valid_still() {
    let in_a_year = SystemTime::now() + Duration::from_secs(31_536_000);
    for name in KEYS {
        let assessment = mailseal_core::smime::fitness::assess(&certificate(name), in_a_year);
        assert_eq!(assessment.fitness, mailseal_core::cert::Fitness::Fit, "{name}");
    }
    assert!(Path::exists(&file("generate.py")));
}

/// Runs one of the programs without a configuration.
fn program(name: &str, arguments: &[&str], input: &[u8]) -> Run {
    let mut command = Command::new(testing::program(name));
    command.args(["--config", "/dev/null"]).args(arguments);
    filter::run(&mut command, input, input.len().max(1))
}

fn named(name: &str) -> String {
    file(name).to_str().unwrap().to_owned()
}

#[test]
fn the_filter_seals_to_certificates_that_are_named() {
    let message = b"Subject: canary\n\nbody\n";
    for name in ["rsa.pem", "rsa.der", "two.der.p7b", "two.pem.p7b", "certificate.p12", "expired.pem"] {
        let run = program("mailseal-filter", &["--log", "stderr", "--key", &named(name)], message);
        assert_eq!(run.status, Some(0), "{name}: {}", run.stderr);
        let opened = smime::openssl("rsa", &run.stdout);
        let opened = if name == "expired.pem" { Ok(run.stdout.clone()) } else { opened }.unwrap();
        assert!(name == "expired.pem" || entity(&opened).unwrap() == expected_entities(message)[0], "{name}");
        assert_eq!(smime::decrypt(&file("rsa.key"), None, &run.stdout).stdout, message, "{name}");
        assert!(run.stderr.contains(" format=cms-cbc "), "{}", run.stderr);
        let warned = if name == "expired.pem" { "warn=expired,malleable" } else { "warn=malleable" };
        assert!(run.stderr.contains(warned), "{name}: {}", run.stderr);
    }
}

#[test]
fn what_is_no_good_defers_the_mail_and_says_why() {
    for (name, why) in [
        ("future.pem", "made in the future"),
        ("authority.pem", "a certificate authority's"),
        ("no-key-usage.pem", "no keyUsage"),
        ("sign-only.pem", "no key for encryption"),
        ("tls.pem", "not for mail"),
        ("rsa-1024.pem", "RSA with 1024 bits"),
        ("secp256k1.pem", "the curve 1.3.132.0.10"),
        ("ed25519.pem", "1.3.101.112"),
        ("md5.der", "MD5"),
        ("sha1.der", "SHA-1"),
        ("negative.der", "negative"),
        ("critical.pem", "1.2.3.4"),
        ("long-issuer.pem", "longer than 384 octets"),
        ("both.pem", "a private key"),
        ("rsa.key", "a private key"),
        ("rsa.p12", "a private key"),
        ("certificate.locked.p12", "may hold a private key"),
    ] {
        let arguments = ["--log", "none", "--key", &named(name)];
        let run = program("mailseal-filter", &arguments, b"Subject: canary\n\nbody\n");
        run.assert_failed(name, 75);
        assert!(run.stderr.contains(why), "{name}: {}", run.stderr);
    }
}

#[test]
fn stored_mail_is_sealed_audited_resealed_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let maildir = dir.path().join("Maildir");
    for folder in ["cur", "new", "tmp"] {
        fs::create_dir_all(maildir.join(folder)).unwrap();
    }
    let path = maildir.to_str().unwrap();
    let mails: Vec<_> = fixtures::mails("mails").into_iter().take(60).collect();
    // Longer than what is held to be proven: it is known as sealed all the same.
    let long = [&b"Subject: long\n\n"[..], &b"the canary sings at noon\n".repeat(3_000_000)].concat();
    for (number, mail) in mails.iter().map(|mail| &mail.bytes).chain([&long]).enumerate() {
        fs::write(maildir.join(format!("cur/{number}.host:2,S")), mail).unwrap();
    }
    let stored = || -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(maildir.join("cur")).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<_> = entries
            .map(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name.split('.').next().unwrap().to_owned(), fs::read(path).unwrap())
            })
            .collect();
        all.sort();
        all
    };
    let before = stored();
    let seal = ["--offline", "--key", &named("p256.pem"), path];
    let run = program("encrypt-maildir", &seal, b"");
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let sealed = stored();
    for (name, message) in &sealed {
        assert!(message.windows(15).any(|text| text == b"enveloped-data;"), "{name} is not sealed");
    }
    let run = program("encrypt-maildir", &seal, b"");
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert!(stored() == sealed, "what is sealed is left as it is");

    let audit = |key: &str| {
        let run = program("mailseal", &["audit", "--json", "--key", key, path], b"");
        (run.status, String::from_utf8(run.stdout).unwrap())
    };
    let (status, said) = audit(&named("p256.pem"));
    assert!(status == Some(0) && said.contains(&certificate("p256").id()), "{said}");
    assert!(said.contains("\"current\""), "{said}");
    let (_, said) = audit(&named("p384.pem"));
    assert!(said.contains("\"other\""), "{said}");

    let pgp = fixtures::cert("curve25519");
    let secret = fixtures::secret("curve25519");
    for (from, to) in [
        (named("p256.key"), pgp.to_str().unwrap().to_owned()),
        (secret.to_str().unwrap().to_owned(), named("rsa.pem")),
        (named("rsa.key"), named("p384.pem")),
    ] {
        let run = program("mailseal", &["reseal", "--secret-key", &from, "--key", &to, path], b"");
        assert_eq!(run.status, Some(0), "{to}: {}", run.stderr);
    }
    assert!(stored() != sealed);
    let run = program("mailseal", &["decrypt", "--secret-key", &named("p384.key"), path], b"");
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    for ((name, found), (_, expected)) in stored().iter().zip(&before) {
        assert!(found == expected, "{name}: {:?}", String::from_utf8_lossy(&found[..found.len().min(300)]));
    }
}

/// All that a message says of a certificate are its issuer and its serial number.
#[test]
fn mail_is_resealed_to_another_key_with_the_same_number() {
    let dir = tempfile::tempdir().unwrap();
    let serial = |name: &str| {
        let digits = certificate(name).serial_number();
        let number = u16::from_str_radix(&digits, 16).unwrap().to_be_bytes();
        [2, 2, number[0], number[1]]
    };
    let der = certificate("p384").der().to_vec();
    let at = der.windows(4).position(|octets| octets == serial("p384")).unwrap();
    let new = dir.path().join("new.der");
    fs::write(&new, [&der[..at], &serial("p256"), &der[at + 4..]].concat()).unwrap();
    let maildir = dir.path().join("Maildir");
    for folder in ["cur", "new", "tmp"] {
        fs::create_dir_all(maildir.join(folder)).unwrap();
    }
    let message = b"Subject: canary\n\nbody\n";
    fs::write(maildir.join("cur/1.host:2,S"), message).unwrap();
    let (path, new) = (maildir.to_str().unwrap(), new.to_str().unwrap());
    let run = program("encrypt-maildir", &["--offline", "--key", &named("p256.pem"), path], b"");
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let stored = || {
        let entry = fs::read_dir(maildir.join("cur")).unwrap().next().unwrap();
        fs::read(entry.unwrap().path()).unwrap()
    };
    let reseal = |key: &str| {
        let run = program("mailseal", &["reseal", "--secret-key", &named(key), "--key", new, path], b"");
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        stored()
    };
    let resealed = reseal("p256.key");
    assert_eq!(smime::decrypt(&file("p384.key"), None, &resealed).stdout, message);
    for key in ["p256.key", "p384.key"] {
        assert!(reseal(key) == resealed, "what is done is left as it is, with {key}");
    }
}

#[test]
fn a_delivery_finds_it_and_leaves_what_is_sealed() {
    const SOURCES: &str = r#"sources = ["file:DIR/keys/%{user}.pgp", "dir:DIR/homes/%{user}"]"#;
    let Some(host) = Host::new() else { return };
    let certificate = |name: &str| fs::read(file(name)).unwrap();
    host.write("keys/alice.pgp", &certificate("p256.pem"));
    let delivered = host.delivery(SOURCES).run();
    let log = delivered.log();
    assert_eq!(
        (log["outcome"], log["format"], log["warn"]),
        ("sealed", "cms-cbc", "malleable"),
        "{}",
        delivered.line
    );
    let opened = smime::decrypt(&file("p256.key"), None, &delivered.run.stdout);
    let clear = opened.stdout;
    assert!(delivered.run.stdout != clear && !clear.is_empty(), "{}", opened.stderr);
    host.delivery(SOURCES).message(&delivered.run.stdout).run().assert_unchanged("sealed", "smime");
    for (name, content) in [
        ("broken", certificate("p256.pem")[..300].to_vec()),
        ("a private key", certificate("both.pem")),
        ("an authority", certificate("authority.pem")),
    ] {
        host.write("keys/alice.pgp", &content);
        let reason = if name == "an authority" { "no-usable-key" } else { "key-store" };
        host.delivery(SOURCES).run().assert_failed(name, 75, reason, "");
    }
}

/// `mailseal decrypt --gpg-agent` with what is in this GnuPG home.
fn by_gpgsm(home: &Path, arguments: &[&str], mail: &[u8]) -> Run {
    let mut command = Command::new(testing::program("mailseal"));
    command.env("GNUPGHOME", home).args(["decrypt", "--gpg-agent"]).args(arguments);
    filter::run(&mut command, mail, mail.len().max(1))
}

#[test]
fn gpgsm_s_agent_opens_what_is_sealed() {
    let gpgsm = Gpgsm::new();
    let message = fixtures::mails("mails").swap_remove(0).bytes;
    let rsa = sealed(&recipients(&["rsa"]), Policy::None, &message);
    // It is locked, and nobody can be asked.
    let run = by_gpgsm(gpgsm.home(), &[], &rsa);
    assert!(run.status != Some(0) && run.stdout.is_empty(), "{}", run.stderr);
    assert!(run.stderr.contains("the agent did not open the secret key"), "{}", run.stderr);
    gpgsm.unlock();
    let oaep = recipients(&["p256", "rsa"]).with_key_transport(KeyTransport::Oaep);
    for (name, to) in [
        ("alone", recipients(&["rsa"])),
        ("beside others", recipients(&["p384", "rsa-4096", "rsa", "p256"])),
        ("with OAEP", oaep),
        ("authenticated", recipients(&["rsa-gcm"])),
    ] {
        let run = by_gpgsm(gpgsm.home(), &[], &sealed(&to, Policy::Shy, &message));
        // The certificate of another serial number is not gpgsm's.
        if name == "authenticated" {
            assert!(run.status != Some(0) && run.stdout.is_empty(), "{name}");
            continue;
        }
        assert_eq!((run.status, &*run.stderr), (Some(0), ""), "{name}");
        compare(name, &run.stdout, std::slice::from_ref(&message)).unwrap();
    }
    for (name, to) in [("another's", recipients(&["rsa-4096"])), ("a curve's", recipients(&["p256"]))] {
        let run = by_gpgsm(gpgsm.home(), &[], &sealed(&to, Policy::None, &message));
        assert!(run.status != Some(0) && run.stdout.is_empty(), "{name}");
        assert!(
            run.stderr.contains(&certificate(if name == "a curve's" { "p256" } else { "rsa-4096" }).id()),
            "{}",
            run.stderr
        );
    }
    // Maildirs, too.
    let dir = tempfile::tempdir().unwrap();
    for folder in ["cur", "new", "tmp"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    for number in 0..5 {
        fs::write(dir.path().join(format!("cur/{number}.host:2,S")), &rsa).unwrap();
    }
    let run = by_gpgsm(gpgsm.home(), &[dir.path().to_str().unwrap()], b"");
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    for entry in fs::read_dir(dir.path().join("cur")).unwrap() {
        compare("stored", &fs::read(entry.unwrap().path()).unwrap(), std::slice::from_ref(&message)).unwrap();
    }
    // Without gpgsm, or its key.
    let empty = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap();
    let run = by_gpgsm(empty.path(), &[], &rsa);
    assert!(
        run.status != Some(0) && run.stdout.is_empty() && run.stderr.contains(&certificate("rsa").id()),
        "{}",
        run.stderr
    );
    let mut command = Command::new(testing::program("mailseal"));
    command.env("PATH", empty.path()).args(["decrypt", "--gpg-agent"]);
    let run = filter::run(&mut command, &rsa, rsa.len());
    assert!(run.status != Some(0) && run.stderr.contains("gpgsm cannot be run"), "{}", run.stderr);
}

/// The identifier of RSA with OAEP.
const OAEP: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07";

#[test]
fn certificates_are_enrolled_shown_tested_and_removed() {
    let admin = Admin::new();
    let added = admin.run(&["add", "alice", &named("rsa.pem")]).said();
    let fingerprint = certificate("rsa").fingerprint();
    for expected in [&*fingerprint, "encrypts with S/MIME RSA-2048", "expires 2120-01-01", "malleable"] {
        assert!(added.contains(expected), "{expected}: {added}");
    }
    let shown = admin.run(&["show", "alice"]).said();
    assert!(shown.contains("user id    alice@example.org") && shown.contains("state      fit"), "{shown}");
    assert!(admin.run(&["list"]).said().contains(&fingerprint));
    assert_eq!(admin.run(&["check"]).said(), "");
    let test = admin.run(&["test", "alice"]);
    let opened = String::from_utf8(smime::openssl("rsa", &test.stdout).unwrap()).unwrap();
    let code = opened.lines().find_map(|line| line.strip_prefix("    ")).unwrap().trim();
    assert!(admin.run(&["confirm", "alice", code]).said().contains("can read"));
    assert!(admin.run(&["show", "alice"]).said().contains("confirmed  yes"));

    // Another one, of either kind.
    let pgp = fixtures::cert("curve25519");
    for other in [&*named("p256.pem"), pgp.to_str().unwrap()] {
        let refused = admin.run(&["add", "alice", other]);
        assert_eq!(refused.status, Some(64), "{}", refused.stderr);
        admin.run(&["add", "alice", other, "--also"]).said();
    }
    assert_eq!(admin.run(&["show", "alice"]).said().matches("fingerprint").count(), 0);
    assert_eq!(admin.run(&["list"]).said().matches("alice").count(), 3);
    let sealed_with = |setting: &str| {
        admin.configure(&format!("sources = [\"file:DIR/keys/%{{user}}.pgp\"]\n{setting}"));
        admin.run(&["test", "alice"]).stdout
    };
    for (setting, smime) in [("", false), ("format = \"openpgp\"", false), ("format = \"smime\"", true)] {
        let message = sealed_with(setting);
        assert_eq!(message.windows(14).any(|text| text == b"enveloped-data"), smime, "{setting}");
        if smime {
            assert!(smime::openssl("p256", &message).is_ok() && smime::openssl("rsa", &message).is_ok());
        }
    }
    let added = admin.run(&["add", "carol", &named("p256-gcm.pem")]).said();
    assert!(added.contains("warning: lists AES-256-GCM") && !added.contains("malleable"), "{added}");
    // What is published is OpenPGP's.
    admin.run(&["add", "bob", &named("in-subject.pem")]).said();
    fs::create_dir(admin.path("web")).unwrap();
    let web = admin.path("web");
    let published = admin.run(&["export", "--wkd", web.to_str().unwrap(), "--all"]);
    assert!(!String::from_utf8_lossy(&published.stdout).contains("bob"), "{published:?}");
    assert!(!published.stderr.contains("bob"), "{published:?}");
    let oaep = |message: &[u8]| cms(message).windows(11).any(|octets| octets == OAEP);
    assert!(!oaep(&sealed_with("format = \"smime\"")));
    let message = sealed_with("format = \"smime\"\nsmime-rsa = \"oaep\"");
    assert!(oaep(&message) && smime::openssl("rsa", &message).is_ok());
    let removed = admin.run(&["remove", "alice", &fingerprint[fingerprint.len() - 8..]]).said();
    assert!(removed.contains(&fingerprint), "{removed}");
    assert_eq!(admin.run(&["list"]).said().matches("alice").count(), 2);
}

#[test]
fn what_cannot_be_enrolled_is_refused_and_nothing_is_changed() {
    let admin = Admin::new();
    let broken = admin.write("broken.der", &fs::read(file("rsa.der")).unwrap()[..500]);
    let long =
        admin.write("long.der", &[&[0x30, 0x83, 0x0f, 0x42, 0x40, 0x30][..], &vec![0; 999_999]].concat());
    for (name, why) in [
        (named("expired.pem"), "expired"),
        (named("authority.pem"), "a certificate authority's"),
        (named("no-key-usage.pem"), "no keyUsage"),
        (named("rsa-1024.pem"), "RSA with 1024 bits"),
        (named("x25519.pem"), "X25519 (RFC 8418), which no mail program is known to open"),
        (named("both.pem"), "a private key"),
        (named("rsa.p12"), "a private key"),
        (broken, "broken"),
        (long, "a certificate has"),
    ] {
        let run = admin.run(&["add", "alice", &name]);
        run.assert_failed(&name, 1);
        assert!(run.stderr.contains(why), "{name}: {}", run.stderr);
        assert!(!admin.key_file("alice").exists());
    }
    let said = admin.run(&["add", "bob", &named("rsa.pem")]).said();
    assert!(said.contains("warning: no name in it is the address bob@example.org"), "{said}");
}

#[test]
fn a_kind_without_recovery_is_refused() {
    let recovery = |names: &[String]| {
        let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
        format!("sources = [\"file:DIR/keys/%{{user}}.pgp\"]\nrecovery = [{}]", names.join(", "))
    };
    let pgp = fixtures::cert("curve25519").to_str().unwrap().to_owned();
    let admin = Admin::with(&recovery(std::slice::from_ref(&pgp)));
    let refused = admin.run(&["add", "alice", &named("rsa.pem")]);
    refused.assert_failed("no recovery for S/MIME", 78);
    assert!(refused.stderr.contains("sealed with S/MIME"), "{}", refused.stderr);
    assert!(!admin.key_file("alice").exists());
    admin.configure(&recovery(&[pgp.clone(), named("p384.pem")]));
    admin.run(&["add", "alice", &named("rsa.pem")]).said();
    let test = admin.run(&["test", "alice"]).stdout;
    assert!(smime::openssl("p384", &test).is_ok() && smime::openssl("rsa", &test).is_ok());
    admin.configure(&recovery(&[named("p384.pem")]));
    admin.run(&["add", "bob", &pgp]).assert_failed("no recovery for OpenPGP", 78);
}

#[test]
fn files_in_folders_are_read_by_their_names() {
    let admin = Admin::with("sources = [\"file:DIR/keys/%{user}.pgp\", \"dir:DIR/keys/%{user}\"]");
    for ending in ["pem", "crt", "cer", "CER"] {
        let folder = admin.path("keys/alice");
        fs::create_dir(&folder).unwrap();
        fs::copy(file("rsa.pem"), folder.join(format!("mail.{ending}"))).unwrap();
        let shown = admin.run(&["show", "alice"]).said();
        assert!(shown.contains(&certificate("rsa").fingerprint()), "{ending}: {shown}");
        fs::write(folder.join("other.pem"), "no certificate").unwrap();
        let run = admin.run(&["show", "alice"]);
        assert!(run.status != Some(0) && run.stderr.contains("other.pem"), "{}", run.stderr);
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn no_padding_is_an_error_of_the_configuration() {
    let arguments = ["--log", "none", "--pad", "4KiB", "--key", &named("rsa.pem")];
    let run = program("mailseal-filter", &arguments, b"Subject: canary\n\nbody\n");
    run.assert_failed("padding", 78);
    assert!(run.stderr.contains("cannot be padded"), "{}", run.stderr);
}

/// Mail would wait for ever; it is told before.
#[test]
fn a_user_whose_mail_is_to_be_padded_is_refused() {
    const SOURCES: &str = "sources = [\"file:DIR/keys/%{user}.pgp\"]";
    let rule = |pad: &str| format!("\n[[users]]\nmatch = [\"al*\"]\npad = \"{pad}\"\n");
    let admin = Admin::with(SOURCES);
    for (number, padded) in
        ["\n[message]\npad = \"4KiB\"\n".to_owned(), rule("padme")].into_iter().enumerate()
    {
        admin.configure(&format!("{SOURCES}{padded}"));
        let refused = admin.run(&["add", "alice", &named("rsa.pem")]);
        refused.assert_failed("padding", 78);
        for expected in ["cannot be padded", "in a rule of [[users]]"] {
            assert!(refused.stderr.contains(expected), "{expected}: {}", refused.stderr);
        }
        assert!(!admin.key_file("alice").exists());
        if number == 0 {
            admin.configure(&format!("{SOURCES}{padded}{}", rule("none")));
            admin.run(&["add", "alice", &named("rsa.pem")]).said();
            assert_eq!(admin.run(&["check"]).said(), "");
            // Set later.
            admin.configure(&format!("{SOURCES}{padded}"));
            let run = admin.run(&["check"]);
            assert_eq!(run.status, Some(1), "{}", run.stderr);
            assert!(String::from_utf8_lossy(&run.stdout).contains("cannot be padded"), "{run:?}");
            admin.run(&["remove", "alice"]).said();
        }
    }
}
