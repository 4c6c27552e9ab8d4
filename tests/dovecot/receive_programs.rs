//! Users enrol with the mail programs themselves, driven by `tests/readers/enrol.py`: Thunderbird under Xvfb, mutt in tmux.
//!
//! Run by `tests/readers/enrol`, which names the folder for pictures and screens.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testing::dovecot::entity::assert_sealed;
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home, Key};
use testing::dovecot::server::Server;
use testing::dovecot::users::{ALICE, BOB, PASSWORD};

use super::receive::{DAY, MAIL, advance, answer, newest, pass, server};

/// From the key in the program to the first sealed delivery.
fn enrol(server: &Server, program: &str, user: &str, key: &Key) {
    let Some(out) = std::env::var_os("ENROL").map(PathBuf::from) else {
        panic!("tests/readers/enrol runs this");
    };
    let (address, port) = (server.address.to_string(), server.imap_port.to_string());
    let secret = out.join(format!("{program}.key"));
    fs::write(&secret, &key.secret).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/enrol.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(program).arg(&out).args([&*address, &*port, user, PASSWORD]).arg(&secret);
    let status = command.status().unwrap();
    assert!(status.success(), "{program}: {status}\n{}", server.log());
    assert_eq!(answer(server, user), "Your mail will be encrypted");
    pass(server, user, 3 * DAY);
    assert!(advance(server).contains("in effect from now on"));
    server.store(user, MAIL);
    assert_sealed(&newest(server, user, "INBOX"), MAIL, &Home::with(&[key]));
}

#[test]
#[ignore = "tests/readers/enrol runs it"]
fn thunderbirds_user_enrols() {
    let Some(server) = server(Flavour::V2_3, "receive = \"mailbox\"") else { return };
    enrol(&server, "thunderbird", ALICE, &ALICE_KEY);
}

#[test]
#[ignore = "tests/readers/enrol runs it"]
fn mutts_user_enrols() {
    let Some(server) = server(Flavour::V2_3, "receive = \"mailbox\"") else { return };
    enrol(&server, "mutt", BOB, &BOB_KEY);
}
