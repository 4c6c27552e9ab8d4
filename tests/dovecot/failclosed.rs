//! The ways in which sealing can fail under a real Dovecot: each ends in a deferral over LMTP and with
//! dovecot-lda, leaves nothing on the server, and once repaired the mail is delivered.

use std::fs;
use std::time::{Duration, Instant};
use testing::dovecot::entity::{assert_sealed, is_sealed};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::server::{ABORTED, Server, Setup, start};
use testing::dovecot::site::{HELD_OPEN, Program, key_file};
use testing::dovecot::users::{ALICE, BOB};

const CANARY: &str = "canary-5c1d7e";
const MAIL: &str = "From: a@example.net\nSubject: waits\n\ncanary-5c1d7e\n";

/// Larger than every pipe and buffer on the way.
fn large() -> String {
    format!("Subject: large\n\n{}", "canary-5c1d7e and the rest of a line of common length.\n".repeat(20_000))
}

fn sealing_server(flavour: Flavour) -> Option<Server> {
    let server = start(flavour)?;
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.enrol(BOB, &BOB_KEY.certificate);
    Some(server)
}

testing::on_each_dovecot! {
    a_filter_that_fails_defers_the_mail,
    a_filter_that_ends_before_its_input_does_stores_nothing,
    a_filter_that_gives_up_still_reads_the_whole_mail,
    a_certificate_that_cannot_be_used_defers_the_mail,
    a_configuration_that_cannot_be_used_defers_the_mail,
    a_filter_out_of_memory_defers_the_mail,
    a_filter_past_its_deadline_defers_the_mail,
    a_filter_that_hangs_past_dovecots_timeout_stores_nothing,
    a_program_that_says_nothing_stores_nothing,
    a_slow_filter_for_one_recipient_does_not_hold_up_the_other,
    a_script_that_is_missing_is_beyond_any_script,
    one_users_failure_does_not_hold_up_the_other,
    a_trap_that_is_not_set_up_as_documented_still_defers_the_mail,
}

/// The MTA's next try succeeds: the mail that was deferred is there, sealed.
fn assert_delivered(server: &Server, mail: &str) {
    let before = server.inbox(ALICE).len();
    server.store(ALICE, mail.as_bytes());
    assert_eq!(server.lda(ALICE, mail.as_bytes()), 0);
    let inbox = server.inbox(ALICE);
    assert_eq!(inbox.len(), before + 2);
    let reader = Home::with(&[&ALICE_KEY]);
    inbox[before..].iter().for_each(|stored| assert_sealed(stored, mail.as_bytes(), &reader));
    assert!(server.files_with(CANARY).is_empty());
}

fn a_filter_that_fails_defers_the_mail(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    let mails = [MAIL.to_owned(), large()];
    for (what, program) in [
        ("exit 1", Program::Script("cat >/dev/null; exit 1")),
        ("exit 75", Program::Script("cat >/dev/null; exit 75")),
        ("exit 75 after passing all on", Program::Script("cat; exit 75")),
        ("killed by SIGKILL", Program::Script("cat >/dev/null; kill -KILL $$")),
        ("killed by SIGSEGV after passing all on", Program::Script("cat; kill -SEGV $$")),
        ("not executable", Program::NotExecutable),
        ("missing", Program::Missing),
    ] {
        server.install(program);
        mails.iter().for_each(|mail| server.assert_deferred(what, mail.as_bytes(), CANARY));
        server.install(Program::Filter);
    }
    mails.iter().for_each(|mail| assert_delivered(&server, mail));
}

fn a_filter_that_ends_before_its_input_does_stores_nothing(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    for (what, script) in [
        ("exit 75 at once", "exit 75"),
        ("killed at once", "kill -KILL $$"),
        ("killed after a part", "head -c 70000; kill -SEGV $$"),
    ] {
        server.install(Program::Script(script));
        server.assert_deferred_or_broken_off(what, large().as_bytes(), CANARY);
    }
    server.install(Program::Filter);
    assert_delivered(&server, &large());
}

/// A filter that gives up must read on all the same: Dovecot 2.3 panics when it cannot write the rest while
/// the program still runs, and after panics it holds back LMTP for everybody. The wrapper runs on for a
/// moment, so that it is not left to chance.
fn a_filter_that_gives_up_still_reads_the_whole_mail(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    let run_on =
        |options: &str| format!("\"$FILTER\" \"$@\" {options}\nstatus=$?\nexec <&-\nsleep 0.1\nexit $status");
    let header = "X-Field: of a header that is longer than four mebibytes\n".repeat(90_000);
    server.install(Program::Script(&run_on("")));
    server.assert_deferred("header", format!("{header}{}", large()).as_bytes(), CANARY);
    server.enrol(ALICE, b"not a certificate");
    server.assert_deferred("certificate", large().as_bytes(), CANARY);
    server.configure("no-such-setting = 1", "");
    server.assert_deferred("configuration", large().as_bytes(), CANARY);
    server.install(Program::Script(&run_on("--no-such-option")));
    server.assert_deferred("usage", large().as_bytes(), CANARY);
}

fn a_certificate_that_cannot_be_used_defers_the_mail(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    let file = key_file(ALICE);
    let path = server.path(&file);
    let rows: [(&str, &dyn Fn()); 7] = [
        ("unreadable file", &|| server.mode(&file, 0o000)),
        ("unreadable folder", &|| server.mode("keys", 0o700)),
        ("missing folder", &|| fs::rename(server.path("keys"), server.path("elsewhere")).unwrap()),
        ("empty file", &|| server.enrol(ALICE, b"")),
        ("no certificate", &|| server.enrol(ALICE, b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nnonsense\n")),
        ("a folder in its place", &|| {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }),
        ("a FIFO in its place", &|| {
            fs::remove_file(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        }),
    ];
    for (what, break_it) in rows {
        break_it();
        server.assert_deferred(what, MAIL.as_bytes(), CANARY);
        if !server.path("keys").exists() {
            fs::rename(server.path("elsewhere"), server.path("keys")).unwrap();
        }
        server.mode("keys", 0o755);
        let _ = fs::remove_dir(&path);
        let _ = fs::remove_file(&path);
        server.enrol(ALICE, &ALICE_KEY.certificate);
    }
    assert_delivered(&server, MAIL);
}

fn a_configuration_that_cannot_be_used_defers_the_mail(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    server.configure("no-such-setting = 1", "");
    server.assert_deferred("an unknown setting", MAIL.as_bytes(), CANARY);
    server.configure("", "");
    server.mode("mailseal.toml", 0o000);
    server.assert_deferred("an unreadable file", MAIL.as_bytes(), CANARY);
    fs::remove_file(server.path("mailseal.toml")).unwrap();
    server.assert_deferred("no file", MAIL.as_bytes(), CANARY);
    server.configure("", "");
    assert_delivered(&server, MAIL);
}

/// Wherever the memory ends, while it starts or amid the message: sealed or deferred.
fn a_filter_out_of_memory_defers_the_mail(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    let mail = large();
    let (mut deferred, mut stored) = (0, 0);
    for kibibytes in
        [1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 8_000, 10_000, 14_000, 20_000, 32_000, 64_000, 128_000]
    {
        let script = format!("ulimit -v {kibibytes}\nexec \"$FILTER\" \"$@\"");
        server.install(Program::Script(&script));
        // A program that dies of it cannot read on: Dovecot may panic and break the connection.
        match server.deliver(&[ALICE], mail.as_bytes()).map(|replies| replies[0].code) {
            Ok(250) => stored += 1,
            Ok(451) | Err(_) => deferred += 1,
            Ok(code) => panic!("{kibibytes} KiB: {code}"),
        }
        server.assert_nothing_stored(&format!("{kibibytes} KiB"), stored, CANARY);
    }
    assert!(deferred > 0, "a limit under which nothing can run");
    assert!(stored > 0, "a limit that leaves room");
    assert!(server.inbox(ALICE).iter().all(|stored| is_sealed(stored)));
    server.install(Program::Filter);
    assert_delivered(&server, &mail);
}

/// What is slow stands outside the filter here, and it is told less time than Dovecot allows.
fn a_filter_past_its_deadline_defers_the_mail(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    server.install(Program::Script(HELD_OPEN));
    server.configure("", "deadline = 1");
    let begin = Instant::now();
    server.assert_deferred("deadline", large().as_bytes(), CANARY);
    assert!(begin.elapsed() > Duration::from_secs(2), "two deliveries, a second each");
    server.install(Program::Filter);
    assert_delivered(&server, MAIL);
}

/// Past Dovecot's own timeout it breaks the connection, or dovecot-lda aborts. The deadline exists to be
/// earlier, but this, too, stores and loses nothing.
fn a_filter_that_hangs_past_dovecots_timeout_stores_nothing(flavour: Flavour) {
    let Some(setup) = Setup::with(flavour, "mailseal.sieve") else { return };
    let server = setup.filter_timeout(1).start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.install(Program::Script("exec sleep 30"));
    assert!(server.deliver(&[ALICE], MAIL.as_bytes()).is_err(), "LMTP breaks off");
    assert_eq!(server.lda(ALICE, MAIL.as_bytes()), ABORTED);
    server.assert_nothing_stored("timeout", 0, CANARY);
    server.install(Program::Filter);
    assert_delivered(&server, MAIL);
}

fn one_users_failure_does_not_hold_up_the_other(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    server.enrol(BOB, b"not a certificate");
    for recipients in [[ALICE, BOB], [BOB, ALICE]] {
        let replies = server.deliver(&recipients, MAIL.as_bytes()).unwrap();
        for (user, reply) in recipients.iter().zip(&replies) {
            assert_eq!(reply.code, if *user == BOB { 451 } else { 250 }, "{user}: {replies:?}");
        }
    }
    let reader = Home::with(&[&ALICE_KEY]);
    let inbox = server.inbox(ALICE);
    assert_eq!((inbox.len(), server.inbox(BOB).len()), (2, 0));
    inbox.iter().for_each(|stored| assert_sealed(stored, MAIL.as_bytes(), &reader));
    assert!(server.files_with(CANARY).is_empty());
}

/// The trap holds as long as the mail user cannot write where it is.
fn a_trap_that_is_not_set_up_as_documented_still_defers_the_mail(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    server.install(Program::Script("cat >/dev/null; exit 75"));
    server.mode("failclosed", 0o700);
    server.assert_deferred("a closed folder", MAIL.as_bytes(), CANARY);
    server.mode("failclosed", 0o755);
    fs::remove_file(server.path("failclosed/.defer")).unwrap();
    server.assert_deferred("an empty folder", MAIL.as_bytes(), CANARY);
    fs::remove_dir(server.path("failclosed")).unwrap();
    server.assert_deferred("no folder", MAIL.as_bytes(), CANARY);
}

/// Not ours then, but a program that ends with 0 and has written nothing: Dovecot alone would store an empty message.
fn a_program_that_says_nothing_stores_nothing(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    server.install(Program::Script("cat >/dev/null"));
    server.assert_deferred("all read", MAIL.as_bytes(), CANARY);
    server.assert_deferred("all read, large", large().as_bytes(), CANARY);
    server.install(Program::Script("exit 0"));
    server.assert_deferred_or_broken_off("nothing read", MAIL.as_bytes(), CANARY);
    server.assert_deferred_or_broken_off("nothing read, large", large().as_bytes(), CANARY);
    server.install(Program::Filter);
    assert_delivered(&server, MAIL);
}

fn a_slow_filter_for_one_recipient_does_not_hold_up_the_other(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    server.configure("", "deadline = 1");
    let slow_for_bob = format!("case $4 in bob*) ;; *) exec \"$FILTER\" \"$@\" ;; esac\n{HELD_OPEN}");
    server.install(Program::Script(&slow_for_bob));
    for recipients in [[ALICE, BOB], [BOB, ALICE]] {
        let replies = server.deliver(&recipients, large().as_bytes()).unwrap();
        for (user, reply) in recipients.iter().zip(&replies) {
            assert_eq!(reply.code, if *user == BOB { 451 } else { 250 }, "{user}: {replies:?}");
        }
    }
    assert_eq!((server.inbox(ALICE).len(), server.inbox(BOB).len()), (2, 0));
    assert!(server.inbox(ALICE).iter().all(|stored| is_sealed(stored)));
    assert!(server.files_with(CANARY).is_empty());
}

/// What `mailseal doctor` finds, and `mailseal deliver` does not need: Dovecot delivers in clear.
fn a_script_that_is_missing_is_beyond_any_script(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    for script in ["sieve/mailseal.sieve", "sieve/mailseal.svbin"] {
        fs::remove_file(server.path(script)).unwrap();
    }
    server.store(ALICE, MAIL.as_bytes());
    assert!(!is_sealed(&server.only_message(ALICE)));
}
