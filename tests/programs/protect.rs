//! Header protection: what is hidden, what the inside gets, what is left alone, and the way back.
//!
//! `cargo test --test programs protect:: -- --ignored` runs the whole corpus of real mail through every policy.

use std::{fs, path::Path, process::Command};

use testing::{
    filter::{self, Run},
    fixtures::{self, Mail},
    header, jobs,
    openers::{self, GnuPg},
    oracle::{check_outside, check_run, is_unchanged, key},
    protected::{self, Inside, Policy, is_protected},
    variants::Variant,
};

const CERT: &str = "curve25519";

/// Roots that are signed, or say so.
const SIGNED: [&str; 4] = ["signed-pgp", "signed-smime", "signed-smime-octets", "claims-signed"];

/// The filter's run with its log line's `warn`.
fn seal(mail: &[u8], options: &[&str]) -> (Run, String) {
    seal_by(Path::new("/dev/null"), mail, options)
}

/// The same by a configuration.
fn seal_by(config: &Path, mail: &[u8], options: &[&str]) -> (Run, String) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(testing::program("mailseal-filter"));
    command.arg("--key").arg(key(CERT)).arg("--config").arg(config);
    command.arg("--log").arg(format!("file:{}", log.path().display())).args(options);
    let run = filter::run(&mut command, mail, mail.len().max(1));
    let line = fs::read_to_string(log.path()).unwrap();
    let warn = line.split("warn=").nth(1).unwrap_or_default().split(' ').next().unwrap_or_default();
    (run, warn.to_owned())
}

fn fixture(name: &str) -> Vec<u8> {
    let mails = fixtures::mails("protect");
    mails.into_iter().find(|mail| mail.name == name).unwrap_or_else(|| panic!("no fixture {name}")).bytes
}

/// What is inside the sealed form of a fixture.
#[track_caller]
fn inside(name: &str, policy: Policy) -> Inside {
    let option = if policy == Policy::Shy { "shy" } else { "baseline" };
    let mail = fixture(name);
    let (run, warn) = seal(&mail, &["--protect-headers", option]);
    assert_eq!(warn, "-", "{name}");
    protected::check(&mail, &run, policy, CERT, None).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// The file name of the literal packet in a sealed message.
fn record(run: &Run) -> Vec<u8> {
    openers::rpgp(CERT, protected::armor(&run.stdout)).unwrap().file_name
}

#[derive(Debug)]
struct Job<'a> {
    mail: &'a Mail,
    variant: Variant,
    policy: Policy,
    option: &'static str,
}

/// Seals every mail in every form under every policy, and checks the result byte for byte: protected, or as without
/// protection. In real mail, of which some is `encrypted` already, the policies that shorten fields are only gone back. Returns the names of mails that a policy wanted to protect, and which were sealed without.
fn check(mails: &[Mail], variants: &[Variant], encrypted: &[&str]) -> Vec<String> {
    let gnupg = GnuPg::new();
    let policies = [
        (Policy::Open, "none"),
        (Policy::Baseline, "baseline"),
        (Policy::Shy, "shy"),
        (Policy::Strict, "strict"),
    ];
    let mut jobs = Vec::new();
    for mail in mails {
        for &variant in variants {
            jobs.extend(policies.map(|(policy, option)| Job { mail, variant, policy, option }));
        }
    }
    let skipped = std::sync::Mutex::new(Vec::new());
    jobs::all(
        &jobs,
        |job| format!("{} {:?} {}", job.mail.name, job.variant, job.option),
        |job| {
            let message = job.variant.of(&job.mail.bytes);
            let (run, warn) = seal(&message, &["--protect-headers", job.option]);
            if encrypted.contains(&&*job.mail.name) {
                return is_unchanged(&message, &run).then_some(()).ok_or("changed".to_owned());
            }
            if run.status != Some(0) {
                return Err(format!("exit {:?}, {}", run.status, run.stderr));
            }
            let lost = warn.contains("hp-skipped");
            if lost {
                skipped.lock().unwrap().push(format!("{} {warn}", job.mail.name));
            }
            if is_protected(&record(&run)) {
                let policy = if lost { Policy::Open } else { job.policy };
                if policy == Policy::Open && !claims(&message) {
                    return Err("protected though nobody wants it".to_owned());
                }
                if matches!(policy, Policy::Shy | Policy::Strict) && !encrypted.is_empty() {
                    return protected::check_restored(&message, &run, CERT);
                }
                protected::check(&message, &run, policy, CERT, Some(&gnupg)).map(drop)
            } else if job.policy != Policy::Open && !lost {
                Err("not protected, and no warning".to_owned())
            } else {
                check_run(&message, &run, CERT, Some(&gnupg)).map(drop)
            }
        },
    );
    let mut skipped = skipped.into_inner().unwrap();
    skipped.sort();
    skipped.dedup();
    skipped
}

fn claims(message: &[u8]) -> bool {
    header::split(message).items.iter().any(|item| {
        let text = item.value().to_ascii_lowercase();
        item.is("content-type")
            && ["hp=", "hp*=", "protected-headers=", "hp-legacy-display="].iter().any(|it| text.contains(it))
    })
}

#[test]
fn fixtures_in_every_form_under_every_policy() {
    let mut mails = fixtures::mails("mails");
    mails.extend(fixtures::mails("protect"));
    let skipped = check(&mails, &Variant::ALL, &[]);
    eprintln!("sealed without protection:\n{}", skipped.join("\n"));
    for line in &skipped {
        let (name, warn) = line.split_once(' ').unwrap();
        let signed = warn.contains("hp-skipped-signed");
        assert_eq!(signed, SIGNED.contains(&name), "{line}");
    }
}

#[test]
#[ignore = "long: the corpus"]
fn corpus_under_every_policy() {
    let Some(mails) = fixtures::corpus() else { return };
    let skipped = check(
        &mails,
        &[Variant::AsStored, Variant::Lf, Variant::Crlf],
        &["autocrypt+autocrypt__example-gossip.21926d97"],
    );
    eprintln!("{} sealed without protection:\n{}", skipped.len(), skipped.join("\n"));
}

#[test]
fn the_subject_is_displayed_where_the_body_can_take_it() {
    for (name, expected) in [
        ("subject-folded", Some("Subject: Lunch on Friday\n\n")),
        ("subject-encoded", Some("Subject: Käse für été x\n\n")),
        ("subject-japanese", Some("Subject: 日本\n\n")),
        ("subject-8bit-utf8", Some("Subject: Mittagessen: Käse für 5 €, = & <b>\n\n")),
        ("subject-8bit-latin1", None),
        ("subject-twice", Some("Subject: one\nSubject: two\n\n")),
        ("subject-missing", None),
        ("subject-empty", None),
        ("subject-blank", None),
        ("subject-controls", Some("Subject: a b  [31m c  From: x y z\n\n")),
        ("subject-hidden", None),
        ("subject-long", None),
        ("type-missing", Some("Subject: Lunch on Friday\n\n")),
        ("type-missing-utf8", None),
        ("text-latin1-euro", None),
        ("text-utf16", None),
        ("text-uuencode", None),
        ("text-attached", None),
        ("text-inline", Some("Subject: Lunch on Friday\n\n")),
        ("html-without-body", None),
        ("html-base64", None),
        ("multipart", None),
        ("pgp-inline-signed", None),
        ("signed-inside", None),
        ("type-semicolon", Some("Subject: Lunch on Friday\n\n")),
        ("claims-cipher", Some("Subject: Lunch on Friday\n\n")),
    ] {
        let display = String::from_utf8(inside(name, Policy::Baseline).display).unwrap();
        assert_eq!(display, expected.unwrap_or_default().replace('\n', "\r\n"), "{name}");
    }
    assert_eq!(inside("text-latin1", Policy::Baseline).display, b"Subject: K\xe4se\r\n\r\n");
}

#[test]
fn where_no_display_is_wanted_the_body_stays_as_it_is() {
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(&config, "[message]\nprotect-headers = \"baseline\"\nlegacy-display = false\n").unwrap();
    let mut protected = 0;
    for mail in fixtures::mails("protect") {
        let (run, warn) = seal_by(config.path(), &mail.bytes, &[]);
        if warn != "-" {
            continue;
        }
        let inside = protected::check(&mail.bytes, &run, Policy::Baseline, CERT, None);
        let inside = inside.unwrap_or_else(|why| panic!("{}: {why}", mail.name));
        assert!(inside.display.is_empty(), "{}", mail.name);
        protected += 1;
    }
    assert!(protected > 40, "{protected} fixtures");
}

#[test]
fn the_display_is_in_the_encoding_of_the_body() {
    let unbroken =
        |text: Vec<u8>| String::from_utf8(text).unwrap().replace("=\r\n", "").replace("\r\n", "\n");
    let display = inside("text-quoted-printable", Policy::Baseline).display;
    assert!(display.split(|&byte| byte == b'\n').all(|line| line.len() <= 77 && line.is_ascii()));
    let one = "Mittagessen: K=C3=A4se f=C3=BCr 5 =E2=82=AC, =3D & <b>";
    assert_eq!(unbroken(display), format!("Subject: {one}{one}{one}\n\n"));

    let display = String::from_utf8(inside("text-base64", Policy::Baseline).display).unwrap();
    assert!(!display.contains('='), "more must be able to follow");
    let text = base64_simd::STANDARD.decode_to_vec(display.replace("\r\n", "")).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(
        text.replace("Subject:  ", "Subject: "),
        "Subject: Mittagessen: Käse für 5 €, = & <b>\r\n\r\n"
    );

    let html =
        "\n<div class=\"header-protection-legacy-display\">\n<pre>Subject: Lunch on Friday</pre>\n</div>\n";
    for name in ["html-comment", "html-fragment"] {
        assert_eq!(unbroken(inside(name, Policy::Baseline).display), html, "{name}");
    }
    let quoted = unbroken(inside("html-quoted-printable", Policy::Baseline).display);
    assert_eq!(quoted, html.replace('=', "=3D"));
    let escaped = "Mittagessen: K&#228;se f&#252;r 5 &#8364;, = &amp; &lt;b&gt;";
    assert_eq!(unbroken(inside("html", Policy::Baseline).display), html.replace("Lunch on Friday", escaped));
}

#[test]
fn nothing_of_what_is_hidden_is_outside() {
    for name in ["fields-hidden", "subject-folded", "subject-twice", "html", "type-missing"] {
        for policy in ["baseline", "shy"] {
            let (run, _) = seal(&fixture(name), &["--protect-headers", policy]);
            let outside = String::from_utf8_lossy(&run.stdout).to_ascii_lowercase();
            for word in ["lunch", "friday", "canary", "bh=", "mittagessen", "thread-topic", "one", "two"] {
                let header = outside.split("\n\n").next().unwrap().replace("lunch@example.net", "");
                assert!(
                    !header
                        .split(|c: char| !c.is_alphanumeric() && c != '=' && c != '-')
                        .any(|it| it == word),
                    "{name}: {word}"
                );
            }
        }
    }
    let (run, _) = seal(&fixture("fields-addresses"), &["--protect-headers", "shy"]);
    let header = String::from_utf8_lossy(&run.stdout).split("\n\n").next().unwrap().to_owned();
    for line in [
        "From: bob@example.net\n",
        "To: alice@example.org\n",
        "Cc: carol@example.net, dee@example.net, eve@example.net\n",
        "Date: Mon, 3 Mar 2025 09:00:00 +0000\n",
        "Subject: [...]\n",
    ] {
        assert!(header.contains(line), "{line}{header}");
    }
}

/// A clear mail must not gain authority by being sealed: what it claims about its header is made true.
#[test]
fn claims_are_made_true_whatever_the_policy() {
    for name in ["cipher", "clear", "old", "both", "other", "display", "encoded", "twice", "signed"] {
        let name = format!("claims-{name}");
        let mail = fixture(&name);
        let (run, warn) = seal(&mail, &[]);
        assert_eq!(warn, "-", "{name}");
        let inside = protected::check(&mail, &run, Policy::Open, CERT, None)
            .unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!((&*inside.parameters, &*inside.display), ("", &b""[..]), "{name}");
    }
    // Not protected twice: only what is missing is added.
    for (name, expected) in [
        ("claims-both", "; hp-legacy-display=\"1\""),
        ("claims-cipher", "; hp-legacy-display=\"1\"; protected-headers=\"v1\""),
        ("claims-clear", "; hp-legacy-display=\"1\"; protected-headers=\"v1\""),
        ("claims-old", "; hp-legacy-display=\"1\"; hp=\"cipher\""),
    ] {
        assert_eq!(inside(name, Policy::Baseline).parameters, expected, "{name}");
    }
    // Also where the record cannot hold the way back: the last of the lines that stay outside alone has no ending there.
    let mut mail = fixture("claims-malformed-end");
    mail.truncate(mail.len() - "no field".len());
    mail.extend(b"HP-Outer: x");
    for policy in ["none", "baseline"] {
        let (run, warn) = seal(&mail, &["--protect-headers", policy]);
        assert_eq!(warn, if policy == "none" { "-" } else { "hp-skipped" });
        let sealed = check_outside(&mail, &run.stdout).unwrap();
        let opened = openers::rpgp(CERT, sealed.armor).unwrap();
        assert_eq!(opened.file_name, b"mailseal1;eol=lf;lost=1;m=1;end=cut");
        let entity = String::from_utf8(opened.data).unwrap();
        assert!(
            entity.contains("\r\nSubject: Lunch on Friday\r\n")
                && entity.contains("HP-Outer: Subject: Lunch on Friday\r\n")
        );
    }
}

/// Whatever some reader takes for the body is inside, and a Subject is hidden in every spelling.
#[test]
fn nothing_that_some_reader_takes_for_the_body_is_outside() {
    for mail in [
        "From: a@example.net\nSubject: x\nDear canary,\nthis is the text.\n",
        "From: a@example.net\rSubject: canary\r\rcanary\r",
        "From: a@example.net\nX-A: b\n \ncanary\n",
        "From: a@example.net\nX-A: b\n \n canary\n\tcanary\n\nbody\n",
        "From: a@example.net\n \nX-Canary: canary\n\nbody\n",
        "From: a@example.net\nSubject : canary\nX-A: canary\n\nbody\n",
        "From: a@example.net\nSubject: can\rary\n\nbody\n",
        " canary\nFrom: a@example.net\n\nbody\n",
        "From: a@example.net\nX canary: x\n\nbody\n",
        "From: a@example.net\nX-A: b\rcanary\n\nbody\n",
    ] {
        for policy in ["none", "baseline", "shy"] {
            for mail in [mail.to_owned(), mail.replace('\n', "\r\n")] {
                let (run, warn) = seal(mail.as_bytes(), &["--protect-headers", policy]);
                assert_eq!((run.status, &*warn), (Some(0), "-"), "{mail:?}");
                let outside = String::from_utf8(run.stdout.clone()).unwrap().to_lowercase();
                assert!(!outside.contains("canary") && !outside.contains("can\rary"), "{policy} {outside}");
                let back = testing::decrypt::decrypt(CERT, &run.stdout);
                assert_eq!((String::from_utf8(back.stdout).unwrap(), back.stderr), (mail, String::new()));
            }
        }
    }
}

#[test]
fn signed_and_closed_roots_are_sealed_as_ever() {
    for (names, wanted) in [
        (&["signed-pgp", "signed-smime", "signed-smime-octets"][..], "hp-skipped-signed"),
        (
            &[
                "type-open-quote",
                "type-comment",
                "type-twice",
                "type-empty",
                "type-long",
                "encrypted-claimed",
            ],
            "hp-skipped",
        ),
    ] {
        for name in names {
            let mail = fixture(name);
            let (run, warn) = seal(&mail, &["--protect-headers", "baseline"]);
            assert_eq!(warn, wanted, "{name}");
            check_run(&mail, &run, CERT, None).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
}

/// Encrypted mail goes out as it came in, its own header protection with it.
#[test]
fn encrypted_mail_is_unchanged() {
    for mail in fixtures::mails("encrypted") {
        let (run, _) = seal(&mail.bytes, &["--protect-headers", "baseline"]);
        assert!(is_unchanged(&mail.bytes, &run), "{}", mail.name);
    }
}

#[test]
fn the_configuration_decides_and_the_command_line_overrides_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "[message]\nprotect-headers = \"baseline\"\n").unwrap();
    let config = file.path().to_str().unwrap();
    let mail = fixture("multipart");
    let sealed =
        |options: &[&str]| filter::filter(&key(CERT), &[&["--config", config], options].concat(), &mail);
    assert!(is_protected(&record(&sealed(&[]))));
    assert!(!is_protected(&record(&sealed(&["--protect-headers", "none"]))));
}

/// Fields of megabytes, and megabytes of small fields.
#[test]
fn long_headers_are_protected() {
    let long = |name: &str, piece: &str| format!("{name}{}\n", piece.repeat(5 * 512 * 1024 / piece.len()));
    let many = "A: b\n".repeat(500_000);
    for (what, fields) in [
        ("a line", long("X-Long: ", "x")),
        ("folds", long("X-Long: ", "x\n ")),
        ("a Subject", long("Subject: ", "long ")),
        ("recipients", long("To: a@example.org", ", Name <name@example.org>")),
        ("fields", many),
    ] {
        let mail = format!("Subject: canary\n{fields}Content-Type: text/plain\n\nHello\n").into_bytes();
        for (option, policy) in [("baseline", Policy::Baseline), ("shy", Policy::Shy)] {
            if what == "recipients" && option == "shy" {
                continue;
            }
            let (run, warn) = seal(&mail, &["--protect-headers", option]);
            assert_eq!(warn, "-", "{what}");
            protected::check(&mail, &run, policy, CERT, None).unwrap_or_else(|why| panic!("{what}: {why}"));
        }
    }
}
