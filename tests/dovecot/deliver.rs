//! `mailseal deliver`: as MTAs call it, and behind a real Postfix before a real dovecot-lda. What reaches Dovecot is
//! ciphertext, and whatever fails of ours leaves the mail in the queue.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testing::dovecot::entity::{assert_sealed, assert_unchanged};
use testing::dovecot::flavour::{DOVECOT_LDA, Flavour};
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::lmtp::with_crlf;
use testing::dovecot::mta::Mta as _;
use testing::dovecot::postfix::{LOCAL_USER, Postfix};
use testing::dovecot::server::{Server, Setup, start};
use testing::dovecot::users::{ALICE, BOB, CAROL};
use testing::filter::{Run, run};

const CANARY: &str = "canary-71ab20";
const MAIL: &str = "From: a@example.net\nTo: b@example.org\nDate: Sat, 1 Jan 2022 00:00:00 +0000\n\
     Message-ID: <one@example.net>\nSubject: before\n\ncanary-71ab20\n";

testing::on_each_dovecot! {
    a_users_failing_script_leaves_ciphertext,
    what_dovecot_lda_refuses_is_handed_on,
    the_sweep_seals_what_a_failing_script_left_in_clear_over_lmtp,
}

/// Dovecot without any of ours: what seals is `deliver` alone.
fn plain_server(flavour: Flavour) -> Option<Server> {
    let server = Setup::with(flavour, "mailseal.sieve")?.without_our_script().start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.enrol(BOB, &BOB_KEY.certificate);
    Some(server)
}

/// Runs the program as the mail user in the world of the server's Dovecot.
fn deliver(server: &Server, arguments: &[&str], lda: &[&str], mail: &[u8]) -> Run {
    testing::install("mailseal", server.path("libexec/mailseal"));
    let program = server.path("libexec/mailseal");
    let mut command = server.flavour.mail_user_command(program.to_str().unwrap());
    command
        .arg("--config")
        .arg(server.path("mailseal.toml"))
        .arg("deliver")
        .args(arguments)
        .arg("--")
        .args(lda);
    run(&mut command, mail, mail.len())
}

fn a_users_failing_script_leaves_ciphertext(flavour: Flavour) {
    let Some(server) = plain_server(flavour) else { return };
    let config = server.path("dovecot.conf").to_str().unwrap().to_owned();
    let lda = [DOVECOT_LDA, "-c", &config, "-d", ALICE, "-f", "sender@example.net"];
    let reader = Home::with(&[&ALICE_KEY]);
    // Each fails at run time, when Pigeonhole stores what came: the reason for `deliver`.
    for (n, script) in [
        "require [\"fileinto\"]; fileinto \"../../not a folder\";",
        "require [\"fileinto\"]; fileinto \"\";",
        "require [\"reject\"]; reject \"no\"; keep;",
        "require [\"fileinto\"]; this is no sieve",
    ]
    .iter()
    .enumerate()
    {
        server.write_home(ALICE, ".dovecot.sieve", script.as_bytes());
        let result = deliver(&server, &["--user", ALICE], &lda, MAIL.as_bytes());
        assert_eq!(result.status, Some(0), "{script}: {}", result.stderr);
        let stored = server.inbox(ALICE);
        assert_eq!(stored.len(), n + 1, "{script}\n{}", server.log());
        assert_sealed(&stored[n], MAIL.as_bytes(), &reader);
    }
    assert!(server.files_with(CANARY).is_empty());
}

fn what_dovecot_lda_refuses_is_handed_on(flavour: Flavour) {
    let Some(server) = plain_server(flavour) else { return };
    let config = server.path("dovecot.conf").to_str().unwrap().to_owned();
    let nobody = [DOVECOT_LDA, "-c", &config, "-d", "nobody@example.org"];
    let result = deliver(&server, &["--user", ALICE], &nobody, MAIL.as_bytes());
    assert_eq!(result.status, Some(67), "EX_NOUSER: {}", result.stderr);
    let usage = deliver(&server, &["--user", ALICE], &[DOVECOT_LDA, "--no-such-option"], MAIL.as_bytes());
    assert_eq!(usage.status, Some(64), "EX_USAGE: {}", usage.stderr);
}

/// The command of the shipped systemd unit, for servers that deliver over LMTP.
fn the_sweep_seals_what_a_failing_script_left_in_clear_over_lmtp(flavour: Flavour) {
    let Some(server) = start(flavour) else { return };
    server.enrol(ALICE, &ALICE_KEY.certificate);
    let script = b"require [\"fileinto\"]; fileinto \"../../not a folder\";";
    server.write_home(ALICE, ".dovecot.sieve", script);
    server.store(ALICE, MAIL.as_bytes());
    assert_unchanged(&server.only_message(ALICE), MAIL.as_bytes());

    let unit = include_str!("../../contrib/systemd/mailseal-sweep.service");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap().replace("%%", "%");
    let program = server.path("libexec/encrypt-maildir");
    testing::install("encrypt-maildir", &program);
    let command = command.replace("/srv/mail", server.path("home").to_str().unwrap());
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("/usr/local/bin/encrypt-maildir"));
    let config = server.path("mailseal.toml");
    let mut sweep = server.flavour.command(program.to_str().unwrap());
    sweep.args(words.map(|word| if word == "/etc/mailseal.toml" { config.to_str().unwrap() } else { word }));
    sweep.arg("--dovecot-config").arg(server.path("dovecot.conf"));
    let result = run(&mut sweep, b"", 1);
    assert_eq!(result.status, Some(0), "{}", result.stderr);
    assert_sealed(&server.only_message(ALICE), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
}

#[test]
fn postfix_keeps_what_cannot_be_sealed_and_delivers_it_after_the_repair() {
    let Some(server) = plain_server(Flavour::V2_3) else { return };
    let postfix = Postfix::start(&server, 1);
    server.enrol(ALICE, b"not a certificate");
    postfix.send(&[ALICE, BOB], MAIL.as_bytes()).unwrap();
    postfix.wait_for_deferred(1);
    assert_eq!((server.inbox(ALICE).len(), server.inbox(BOB).len()), (0, 1));
    assert!(postfix.log().contains("status=deferred"), "{}", postfix.log());
    assert!(server.files_with(CANARY).is_empty());

    server.enrol(ALICE, &ALICE_KEY.certificate);
    postfix.flush();
    postfix.wait_for_empty_queue();
    assert_sealed(&server.only_message(ALICE), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
    assert_sealed(&server.only_message(BOB), MAIL.as_bytes(), &Home::with(&[&BOB_KEY]));
    assert!(server.files_with(CANARY).is_empty());
}

#[test]
fn postfix_strips_the_detail_and_passes_on_who_has_no_certificate() {
    let Some(server) = plain_server(Flavour::V2_3) else { return };
    let postfix = Postfix::start(&server, 1);
    server.write_home(ALICE, ".dovecot.sieve", b"require [\"fileinto\"]; fileinto \"../../not a folder\";");
    postfix.send(&["alice+lists@example.org", "Bob+x@example.org", CAROL], MAIL.as_bytes()).unwrap();
    postfix.wait_for_empty_queue();
    assert_sealed(&server.only_message(ALICE), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
    assert_sealed(&server.only_message(BOB), MAIL.as_bytes(), &Home::with(&[&BOB_KEY]));
    assert_unchanged(&server.only_message(CAROL), MAIL.as_bytes());
}

#[test]
fn a_transport_that_gives_several_recipients_delivers_to_none() {
    let Some(server) = plain_server(Flavour::V2_3) else { return };
    let postfix = Postfix::start(&server, 10);
    postfix.send(&[ALICE, BOB], MAIL.as_bytes()).unwrap();
    postfix.wait_for_deferred(1);
    assert_eq!((server.inbox(ALICE).len(), server.inbox(BOB).len()), (0, 0));
}

#[test]
fn postfix_delivers_to_local_users_by_mailbox_command() {
    let Some(server) = plain_server(Flavour::V2_3) else { return };
    server.set_users(&[(LOCAL_USER, &[])]);
    server.enrol(LOCAL_USER, &ALICE_KEY.certificate);
    let postfix = Postfix::start(&server, 1);
    postfix.send(&["mail+detail@localhost"], MAIL.as_bytes()).unwrap();
    postfix.wait_for_empty_queue();
    assert_sealed(&server.only_message(LOCAL_USER), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));

    server.enrol(LOCAL_USER, b"not a certificate");
    postfix.send(&["mail@localhost"], MAIL.as_bytes()).unwrap();
    postfix.wait_for_deferred(1);
    assert_eq!(server.inbox(LOCAL_USER).len(), 1);
}

/// `cat` in the place of the LDA, as this test's own user with a key file: no server is needed.
fn to_cat(options: &[&str], command: &[&str], mail: &[u8]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, &ALICE_KEY.certificate).unwrap();
    let mut program = Command::new(testing::program("mailseal"));
    program
        .args(["--config", "/dev/null", "deliver", "--log", "none", "--user", "alice", "--key"])
        .arg(&key)
        .args(options);
    run(program.arg("--").args(command), mail, mail.len().max(1))
}

#[test]
fn the_status_is_that_of_the_command() {
    for status in [0, 1, 64, 67, 69, 75, 77, 255] {
        let result = to_cat(&[], &["sh", "-c", &format!("cat >/dev/null; exit {status}")], MAIL.as_bytes());
        assert_eq!(result.status, Some(status), "{}", result.stderr);
    }
    // One that ends without having read.
    assert_eq!(to_cat(&[], &["true"], &large()).status, Some(0));
}

#[test]
fn the_command_gets_a_file_that_nobody_else_can_open_and_the_callers_umask() {
    let script = "cat; ls -l /proc/self/fd/0 >&2; umask >&2; ls /proc/self/fd >&2";
    let result = to_cat(&[], &["sh", "-c", &format!("umask >&2; {script}")], MAIL.as_bytes());
    assert_eq!(result.status, Some(0));
    assert_sealed(&with_crlf(&result.stdout), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
    assert!(result.stderr.contains("(deleted)"), "{}", result.stderr);
    let own = Command::new("sh").args(["-c", "umask"]).output().unwrap();
    assert!(result.stderr.starts_with(&*String::from_utf8_lossy(&own.stdout)), "{}", result.stderr);
    assert!(!result.stderr.contains(CANARY));
}

/// Whatever is wrong on our side, the MTA is told to try again, and no command has run.
#[test]
fn every_failure_of_our_own_is_temporary() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("ran");
    let touch = ["touch", mark.to_str().unwrap()];
    let huge_header = format!("{}\n\nbody\n", "X: y\n".repeat(1_000_000));
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [u8]);
    let rows: [Row; 12] = [
        ("an unknown option", &["--no-such-option"], &touch, MAIL.as_bytes()),
        ("an option of the filter only", &["--unchanged", "fail"], &touch, MAIL.as_bytes()),
        ("two recipients in one argument each", &["--home", "/", "bob"], &touch, MAIL.as_bytes()),
        ("two users", &["--user", "bob"], &touch, MAIL.as_bytes()),
        ("no command", &[], &[], MAIL.as_bytes()),
        ("a missing key file", &["--key", "/nonexistent"], &touch, MAIL.as_bytes()),
        ("an empty key", &["--key", ""], &touch, MAIL.as_bytes()),
        ("no message", &[], &touch, b""),
        ("a header that is too long", &[], &touch, huge_header.as_bytes()),
        ("a configuration that is a folder", &["--config", "/"], &touch, MAIL.as_bytes()),
        ("a command that is missing", &[], &["/nonexistent/lda"], MAIL.as_bytes()),
        ("a command that may not be run", &[], &["/etc/passwd"], MAIL.as_bytes()),
    ];
    for (what, options, command, mail) in rows {
        let result = to_cat(options, command, mail);
        assert_eq!(result.status, Some(75), "{what}: {}", result.stderr);
        assert!(!result.stderr.is_empty() && !result.stderr.contains(CANARY), "{what}: {}", result.stderr);
        assert!(!mark.exists(), "{what}");
    }
}

#[test]
fn a_signal_is_a_failure_like_another() {
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        for command in ["cat", "sh -c 'cat > /dev/null; echo here >&2; exec sleep 5'"] {
            let mut child = Command::new("sh");
            let script =
                format!("exec \"$0\" --config /dev/null deliver --log none --key \"$1\" -- {command}");
            let key = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/certs/curve25519.pgp");
            child.args(["-c", &script]).arg(testing::program("mailseal")).arg(key);
            let mut child =
                child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(MAIL.as_bytes()).unwrap();
            let mut stderr = child.stderr.take().unwrap();
            if command == "cat" {
                // It has begun when it has taken what a pipe holds.
                stdin.write_all(&b"A line of a body.\n".repeat(10_000)).unwrap();
            } else {
                drop(stdin);
                stderr.read_exact(&mut [0; 4]).unwrap();
            }
            kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(75), "{signal} {command}");
        }
    }
    let blocked =
        to_cat(&[], &["sh", "-c", "cat > /dev/null; grep SigBlk /proc/self/status"], MAIL.as_bytes());
    assert_eq!(String::from_utf8_lossy(&blocked.stdout), "SigBlk:\t0000000000000000\n");
}

#[test]
fn a_command_that_a_signal_ends_is_tried_again() {
    for signal in ["KILL", "SEGV", "ABRT"] {
        let result = to_cat(&[], &["sh", "-c", &format!("kill -{signal} $$")], MAIL.as_bytes());
        assert_eq!(result.status, Some(75), "{}", result.stderr);
    }
}

/// Postfix limits the size of files; the ciphertext may be larger than the mail.
#[test]
fn no_room_for_the_ciphertext_is_temporary() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, &ALICE_KEY.certificate).unwrap();
    let script =
        "ulimit -f 16; exec \"$0\" --config /dev/null deliver --log none --user alice --key \"$1\" -- cat";
    let mut limited = Command::new("sh");
    limited.args(["-c", script]).arg(testing::program("mailseal")).arg(&key);
    let mail = large();
    let result = run(&mut limited, &mail, mail.len());
    assert_eq!((result.status, result.stdout.len()), (Some(75), 0), "{}", result.stderr);

    let mut no_folder = Command::new(testing::program("mailseal"));
    no_folder
        .args(["--config", "/dev/null", "deliver", "--log", "none", "--user", "alice", "--key"])
        .arg(&key)
        .args(["--", "cat"]);
    let result = run(no_folder.env("TMPDIR", "/nonexistent"), MAIL.as_bytes(), MAIL.len());
    assert_eq!((result.status, result.stdout.len()), (Some(75), 0), "{}", result.stderr);
}

#[test]
fn past_the_deadline_the_mail_stays_in_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, &ALICE_KEY.certificate).unwrap();
    let mut program = Command::new(testing::program("mailseal"));
    program
        .args([
            "--config",
            "/dev/null",
            "deliver",
            "--log",
            "none",
            "--user",
            "alice",
            "--deadline",
            "1",
            "--key",
        ])
        .arg(&key);
    let mut child = program.args(["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(MAIL.as_bytes()).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(75));
}

/// 120 KB of random letters, which compression cannot make small.
fn large() -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'a' + u8::try_from(state >> 60).unwrap()
    };
    let mut mail = b"Subject: large\n\n".to_vec();
    mail.extend((0..120_000).map(|n| if n % 60 == 0 { b'\n' } else { next() }));
    mail
}
