//! Owners who turn on what root does beside sealing: the round trip of `doctor`.

use std::fs;
use std::process::{Command, Stdio};

use crate::dovecot::flavour::Flavour;
use crate::dovecot::gpg::ALICE_KEY;
use crate::dovecot::server::{Server, Setup};
use crate::dovecot::site::{ALICE, Program};
use crate::mailbox::{Ended, ended};
use crate::support::skip;

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        skip::unless_ci(&format!("there is no {program}"));
    }
    found
}

fn doctors_server() -> Option<Server> {
    let server = Setup::with(Flavour::V2_3, "mailseal.sieve")?.start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.write_home(ALICE, ".keep", b"");
    Some(server)
}

fn doctor(server: &Server, before: &[&str]) -> Ended {
    let words = [before, &[env!("CARGO_BIN_EXE_mailseal"), "doctor", "--user", ALICE]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("--dovecot-config").arg(server.path("dovecot.conf"));
    ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// From the moment in which the folder of a round trip is a user's, the user can put a link to a file of root's into it.
#[test]
fn roots_own_process_has_no_part_in_a_round_trip() {
    let Some(server) = doctors_server() else { return };
    if !has("strace") {
        return;
    }
    let log = server.path("strace.log");
    let trace = [
        "strace",
        "-qq",
        "-s",
        "256",
        "-e",
        "trace=%file,fchown",
        "-e",
        "signal=none",
        "-o",
        log.to_str().unwrap(),
    ];
    let run = doctor(&server, &trace);
    assert!(run.stdout.contains(&format!("ok       round trip: a message for {ALICE} is sealed")), "{run:?}");
    let calls = fs::read_to_string(&log).unwrap();
    assert!(calls.contains("auth-userdb") || calls.contains("mailseal.toml"), "{calls}");
    let given: Vec<&str> = calls.lines().filter(|call| call.contains("chown")).collect();
    assert!(given.is_empty(), "{given:#?}");
    let mail =
        |call: &&str| call.contains("own.sieve") || call.contains("/mail\"") || call.contains("/Maildir");
    let touched: Vec<&str> = calls.lines().filter(mail).filter(|call| !call.contains("/home/")).collect();
    assert!(touched.is_empty(), "{touched:#?}");
}

/// A filter that stops the program that runs it, or the process that runs that, stands for the user, who has their uid.
#[test]
fn no_user_stops_a_round_trip_for_ever() {
    let Some(server) = doctors_server() else { return };
    for held in ["$PPID", "$(cut -d ' ' -f 4 /proc/$PPID/stat)"] {
        // Root asks it for its version.
        server.install(Program::Script(&format!("[ \"$1\" = --version ] || kill -STOP {held}\ncat")));
        let run = doctor(&server, &["timeout", "-s", "KILL", "120"]);
        let failed = format!("FAILURE  round trip: {ALICE}: ");
        assert!(run.status == Some(1) && run.stdout.contains(&failed), "{held}: {run:?}");
        assert!(!run.stdout.contains("stored in clear"), "{held}: {run:?}");
    }
}
