//! `mailseal serve` between a real MTA and a real Dovecot, each set up by the files that are shipped for it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use testing::dovecot::entity::{assert_sealed, assert_unchanged, is_sealed};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::lmtp::Lmtp;
use testing::dovecot::mta::Mta;
use testing::dovecot::mtas::{self, Exim, OpenSmtpd};
use testing::dovecot::postfix::{LOCAL_USER, Postfix};
use testing::dovecot::server::{SENDER, Server, Setup, wait_until};
use testing::dovecot::site::free_port;
use testing::dovecot::users::{ALICE, BOB, CAROL};
use testing::serve::Serve;
use testing::{fixtures, repository};

const CANARY: &str = "canary-9f3c55";
const MAIL: &str = "From: a@example.net\nTo: b@example.org\nDate: Sat, 1 Jan 2022 00:00:00 +0000\n\
     Message-ID: <one@example.net>\nSubject: before\n\ncanary-9f3c55\n";
const MAIL_8_BIT: &str = "From: a@example.net\nTo: b@example.org\nDate: Sat, 1 Jan 2022 00:00:00 +0000\n\
     Message-ID: <eight@example.net>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
     Content-Transfer-Encoding: 8bit\nSubject: before\n\nGr\u{fc}\u{df}e, canary-9f3c55\n.\n";

testing::on_each_dovecot! {
    postfix_hands_on_what_is_sealed,
    postfix_keeps_what_cannot_be_sealed,
    postfix_keeps_mail_while_nobody_listens,
    postfix_returns_no_body,
}

/// An address of Alice's with a detail.
const DETAILED: &str = "alice+lists@example.org";

/// Dovecot without any of our scripts, with the shipped settings for `mailseal serve`.
fn server(flavour: Flavour, settings: &str) -> Option<Server> {
    let setup = Setup::with(flavour, "mailseal.sieve")?.without_our_script();
    let shipped = fs::read_to_string(repository().join("sieve/dovecot-serve.conf")).unwrap();
    assert!(shipped.contains("user = mailseal\n"));
    let shipped = shipped.replace("user = mailseal\n", &format!("user = {LOCAL_USER}\n"));
    let server = setup.settings_first(settings).settings(&shipped).start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.enrol(BOB, &BOB_KEY.certificate);
    Some(server)
}

/// Where `mailseal serve` listens.
enum Door {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Door {
    fn answers(&self) -> bool {
        match self {
            Self::Unix(path) => Lmtp::connect_unix(path).is_ok(),
            Self::Tcp(address) => Lmtp::connect(*address).is_ok(),
        }
    }
}

/// Starts it as root, as an admin without systemd does.
fn serve(server: &Server, door: &Door) -> Serve {
    let address = match door {
        Door::Unix(path) => path.display().to_string(),
        Door::Tcp(address) => address.to_string(),
    };
    server.configure("", "");
    let run = server.path("run");
    let settings = format!(
        "[serve]\nlmtp = \"{address}\"\nnext = \"lmtp:{run}/lmtp\"\nuserdb = \"{run}/auth-userdb\"\nuser = \"{LOCAL_USER}\"\n",
        run = run.display()
    );
    let config = server.path("mailseal.toml");
    let text = fs::read_to_string(&config).unwrap() + &settings;
    server.write("mailseal.toml", text.as_bytes(), 0o644);
    let mut serve = Serve::spawn(&config, 0, &server.path("said"), &["--sandbox", "require"]);
    wait_until("mailseal serve to listen", || {
        assert!(!serve.has_ended(), "mailseal serve has ended: {}", serve.said());
        door.answers()
    });
    serve
}

fn hands_on_what_is_sealed(server: &Server, mta: &impl Mta, detailed: &str) {
    let [alice, bob] = [Home::with(&[&ALICE_KEY]), Home::with(&[&BOB_KEY])];
    for mail in [MAIL, MAIL_8_BIT].map(str::as_bytes) {
        mta.send_from(SENDER, &[ALICE, CAROL, BOB], mail).unwrap();
        mta.wait_for_empty_queue();
        assert_sealed(&server.inbox(ALICE).pop().unwrap(), mail, &alice);
        assert_sealed(&server.inbox(BOB).pop().unwrap(), mail, &bob);
        assert_unchanged(&server.inbox(CAROL).pop().unwrap(), mail);
    }
    mta.send_from("", &[detailed], MAIL.as_bytes()).unwrap();
    mta.wait_for_empty_queue();
    let stored = server.inbox(ALICE);
    assert_eq!(
        (stored.len(), server.inbox(BOB).len(), server.inbox(CAROL).len()),
        (3, 2, 2),
        "{}",
        mta.log()
    );
    assert_sealed(&stored[2], MAIL.as_bytes(), &alice);
    let shown = String::from_utf8_lossy(&stored[2]);
    assert!(shown.starts_with("Return-Path: <>\r\n"), "{shown}");
}

fn keeps_what_cannot_be_sealed(server: &Server, mta: &impl Mta) {
    server.enrol(ALICE, b"not a certificate");
    mta.send_from(SENDER, &[ALICE, BOB], MAIL.as_bytes()).unwrap();
    mta.wait_for_deferrals(1);
    wait_until("the other recipient's copy", || server.inbox(BOB).len() == 1);
    assert_eq!((server.inbox(ALICE).len(), mta.queued()), (0, 1), "{}", mta.log());
    assert!(server.files_with(CANARY).is_empty());

    server.enrol(ALICE, &ALICE_KEY.certificate);
    mta.flush();
    mta.wait_for_empty_queue();
    assert_sealed(&server.only_message(ALICE), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
    assert_sealed(&server.only_message(BOB), MAIL.as_bytes(), &Home::with(&[&BOB_KEY]));
    assert!(server.files_with(CANARY).is_empty());
}

fn keeps_mail_while_nobody_listens(server: &Server, mta: &impl Mta, serving: Serve, door: &Door) {
    drop(serving);
    mta.send_from(SENDER, &[ALICE], MAIL.as_bytes()).unwrap();
    mta.wait_for_deferrals(1);
    assert_eq!((server.inbox(ALICE).len(), mta.queued()), (0, 1), "{}", mta.log());

    let _serving = serve(server, door);
    mta.flush();
    mta.wait_for_empty_queue();
    assert_sealed(&server.only_message(ALICE), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
}

/// What users may store, in kilobytes.
const QUOTA: u32 = 10;

/// Dovecot refuses one message after its end, and another at its recipient. Carol, who has no certificate, has sent both.
fn returns_no_body(server: &Server, mta: &impl Mta) {
    let mail = [MAIL.as_bytes(), &incompressible(60_000)].concat();
    mta.send_from(CAROL, &[BOB], &mail).unwrap();
    mta.send_from(CAROL, &["nobody@example.org"], MAIL.as_bytes()).unwrap();
    wait_until("what comes back", || server.inbox(CAROL).len() == 2);
    mta.wait_for_empty_queue();
    assert_eq!(server.inbox(BOB).len(), 0);
    for returned in server.inbox(CAROL) {
        let shown = String::from_utf8_lossy(&returned);
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(shown.contains("one@example.net"), "{shown}");
    }
}

fn incompressible(length: usize) -> Vec<u8> {
    let mut state = 11_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'a' + u8::try_from(state >> 60).unwrap()
    };
    (0..length).map(|n| if n % 60 == 59 { b'\n' } else { next() }).collect()
}

fn before_postfix(server: &Server) -> (Postfix<'_>, Serve, Door) {
    let postfix = Postfix::before_serve(server);
    let door = Door::Unix(Postfix::door(server));
    let serve = serve(server, &door);
    (postfix, serve, door)
}

fn postfix_hands_on_what_is_sealed(flavour: Flavour) {
    let Some(server) = server(flavour, "") else { return };
    let (postfix, _serve, _) = before_postfix(&server);
    hands_on_what_is_sealed(&server, &postfix, DETAILED);
    // Local users, by the other line of the recipe.
    let local = format!("{LOCAL_USER}@localhost");
    server.set_users(&[(&local, &[])]);
    server.enrol(&local, &ALICE_KEY.certificate);
    postfix.send(&[&local], MAIL.as_bytes()).unwrap();
    postfix.wait_for_empty_queue();
    assert_sealed(&server.only_message(&local), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
}

fn postfix_keeps_what_cannot_be_sealed(flavour: Flavour) {
    let Some(server) = server(flavour, "") else { return };
    let (postfix, _serve, _) = before_postfix(&server);
    keeps_what_cannot_be_sealed(&server, &postfix);
}

fn postfix_keeps_mail_while_nobody_listens(flavour: Flavour) {
    let Some(server) = server(flavour, "") else { return };
    let (postfix, serve, door) = before_postfix(&server);
    keeps_mail_while_nobody_listens(&server, &postfix, serve, &door);
}

fn postfix_returns_no_body(flavour: Flavour) {
    let Some(server) = server(flavour, &flavour.quota(QUOTA)) else { return };
    let (postfix, _serve, _) = before_postfix(&server);
    returns_no_body(&server, &postfix);
}

/// As many recipients as Postfix gives at once have a set of keys each, and ten more.
#[test]
fn postfix_gives_no_more_recipients_than_there_may_be_sets() {
    let Some(server) = server(Flavour::V2_3, "") else { return };
    let fixture = |name| fs::read(fixtures::cert(name)).unwrap();
    let certificates = [
        ALICE_KEY.certificate.clone(),
        BOB_KEY.certificate.clone(),
        fixture("curve25519"),
        fixture("two-subkeys-v6"),
        fixture("two-subkeys"),
        fixture("v6"),
    ];
    let users: Vec<String> = (1..=60).map(|number| format!("user{number}@example.org")).collect();
    let listed: Vec<(&str, &[&str])> = users.iter().map(|user| (&**user, &[][..])).collect();
    server.set_users(&listed);
    for (number, user) in (1..).zip(&users) {
        let bits = (0..certificates.len()).filter(|bit| number >> bit & 1 == 1);
        let keys: Vec<u8> = bits.flat_map(|bit| certificates[bit].clone()).collect();
        server.enrol(user, &keys);
    }
    let (postfix, serve, _) = before_postfix(&server);
    let recipients: Vec<&str> = users.iter().map(|user| &**user).collect();
    postfix.send_from(SENDER, &[ALICE], MAIL.as_bytes()).unwrap();
    postfix.wait_for_empty_queue();
    let before = serve.peak_memory();
    let connections: Vec<Lmtp> =
        (0..60).map(|_| Lmtp::connect_unix(&Postfix::door(&server)).unwrap()).collect();
    let connected = serve.peak_memory();
    drop(connections);
    let mail = [MAIL.as_bytes(), &incompressible(500_000)].concat();
    postfix.send_from(SENDER, &recipients, &mail).unwrap();
    postfix.wait_for_empty_queue();
    println!(
        "MEASURED: {before} kB after a message to one set, {connected} kB with 60 connections, {} kB after 500 kB to 50 sets",
        serve.peak_memory()
    );
    assert!(!postfix.log().contains("status=deferred"), "{}", postfix.log());
    for user in users {
        assert!(!String::from_utf8_lossy(&server.only_message(&user)).contains(CANARY));
    }
}

/// Starts `mailseal serve` and says where it listens, for the two that reach it over the network of this machine.
fn serve_on_loopback(server: &Server) -> (SocketAddr, Serve, Door) {
    let address = SocketAddr::from((server.address, free_port(server.address)));
    let door = Door::Tcp(address);
    let serve = serve(server, &door);
    (address, serve, door)
}

/// Each test with an MTA that takes this machine's `mailseal serve` for a door on its network.
macro_rules! with_each_mta {
    ($($module:ident: $mta:ident),+) => {$(
        mod $module {
            use super::*;

            fn begin(settings: &str) -> Option<Server> {
                mtas::can_run().then(|| server(Flavour::V2_3, settings)).flatten()
            }

            #[test]
            fn hands_on_what_is_sealed() {
                let Some(server) = begin("") else { return };
                let (address, _serve, _) = serve_on_loopback(&server);
                super::hands_on_what_is_sealed(&server, &$mta::start(&server, address), DETAILED);
            }

            #[test]
            fn keeps_what_cannot_be_sealed() {
                let Some(server) = begin("") else { return };
                let (address, _serve, _) = serve_on_loopback(&server);
                super::keeps_what_cannot_be_sealed(&server, &$mta::start(&server, address));
            }

            #[test]
            fn keeps_mail_while_nobody_listens() {
                let Some(server) = begin("") else { return };
                let (address, serve, door) = serve_on_loopback(&server);
                let mta = $mta::start(&server, address);
                super::keeps_mail_while_nobody_listens(&server, &mta, serve, &door);
            }
        }
    )+};
}

with_each_mta!(exim: Exim, opensmtpd: OpenSmtpd);

#[test]
fn exim_returns_no_body() {
    let Some(server) = mtas::can_run().then(|| server(Flavour::V2_3, &Flavour::V2_3.quota(QUOTA))).flatten()
    else {
        return;
    };
    let (address, _serve, _) = serve_on_loopback(&server);
    returns_no_body(&server, &Exim::start(&server, address));
}

/// OpenSMTPD 6.8 takes each refusal of `action lmtp` for one that passes, and returns all of the message when its time is over.
/// Where its sender has a certificate, it is sealed to that on its way back.
#[test]
fn opensmtpd_returns_the_message_when_its_time_is_over() {
    let Some(server) = mtas::can_run().then(|| server(Flavour::V2_3, "")).flatten() else { return };
    let (address, _serve, _) = serve_on_loopback(&server);
    let opensmtpd = OpenSmtpd::start_with(&server, address, "queue ttl 5s\n");
    for sender in [ALICE, CAROL] {
        opensmtpd.send_from(sender, &["nobody@example.org"], MAIL.as_bytes()).unwrap();
    }
    opensmtpd.wait_for_deferrals(2);
    wait_until("what comes back", || [ALICE, CAROL].iter().all(|user| !server.inbox(user).is_empty()));
    assert!(is_sealed(&server.only_message(ALICE)));
    assert!(String::from_utf8_lossy(&server.only_message(CAROL)).contains(CANARY));
}
