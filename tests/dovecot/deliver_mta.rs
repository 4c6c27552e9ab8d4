//! `mailseal deliver` as a real Exim and a real OpenSMTPD call it, by the very lines of docs/before-dovecot.md, before a real dovecot-lda.

use std::fs;

use testing::dovecot::entity::{assert_sealed, assert_unchanged};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::mta::Mta;
use testing::dovecot::mtas::{self, Exim, OpenSmtpd};
use testing::dovecot::postfix::LOCAL_USER;
use testing::dovecot::server::{SENDER, Server, Setup, wait_until};
use testing::dovecot::users::{ALICE, BOB, CAROL, DELIVERY_GROUP, DELIVERY_USER};
use testing::repository;
use testing::world::World;

const CANARY: &str = "canary-5be814";
const MAIL: &str = "From: a@example.net\nTo: b@example.org\nDate: Sat, 1 Jan 2022 00:00:00 +0000\n\
     Message-ID: <one@example.net>\nSubject: before\n\ncanary-5be814\n";

/// Dovecot without any script of ours, and a world that has its LDA and mailseal where docs/before-dovecot.md has them.
fn begin() -> Option<(Server, World)> {
    if !mtas::can_run() {
        return None;
    }
    let server = Setup::with(Flavour::V2_3, "mailseal.sieve")?.without_our_script().start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.enrol(BOB, &BOB_KEY.certificate);
    let world = mtas::world(&server);
    world.install("mailseal", "/usr/local/bin/mailseal");
    world.write("/etc/mailseal.toml", &fs::read(server.path("mailseal.toml")).unwrap(), 0o644);
    let dovecot = format!("!include {}\n", server.path("dovecot.conf").display());
    world.write("/etc/dovecot/dovecot.conf", dovecot.as_bytes(), 0o644);
    world.append("/etc/passwd", &format!("vmail:x:{DELIVERY_USER}:{DELIVERY_GROUP}::/:/usr/sbin/nologin"));
    Some((server, world))
}

/// The indented block behind the line of docs/before-dovecot.md that begins so.
fn recipe_of(line: &str) -> String {
    let page = fs::read_to_string(repository().join("docs/before-dovecot.md")).unwrap();
    let rest = page.lines().skip_while(|text| !text.starts_with(line));
    let block = rest.skip_while(|text| !text.starts_with("    "));
    block.take_while(|text| text.starts_with("    ")).map(|text| format!("{}\n", &text[4..])).collect()
}

fn exim(server: &Server, world: World) -> Exim {
    let recipe = recipe_of("Exim, a transport");
    assert!(recipe.contains("driver = pipe\n"), "{recipe}");
    let recipe = format!(
        "\
bounce_return_body = false
begin routers
mailseal:
  driver = accept
  domains = +local_domains
  local_part_suffix = +*
  local_part_suffix_optional
  transport = mailseal
begin transports
{recipe}"
    );
    Exim::start_in(world, mtas::free_address(server), &recipe)
}

fn opensmtpd(server: &Server, world: World) -> OpenSmtpd {
    let recipe = recipe_of("OpenSMTPD, system users");
    assert_eq!(recipe.matches("action ").count(), 2, "{recipe}");
    let recipe = format!(
        "\
table mailboxes file:/etc/mail/mailboxes
{recipe}
match from any for domain \"localhost\" action \"dovecot\"
match from any for domain \"example.org\" action \"virtual\"
"
    );
    let users: String = [ALICE, BOB, CAROL].iter().map(|user| format!("{user}: vmail\n")).collect();
    world.write("/etc/mail/mailboxes", users.as_bytes(), 0o644);
    OpenSmtpd::start_in(world, mtas::free_address(server), &recipe)
}

/// What Alice, Bob and Carol get from each of these senders. Carol's script files away what Dovecot is told
/// another sender of (`*`: any).
fn delivers(server: &Server, mta: &impl Mta, senders: &[(&str, &str)]) {
    let [alice, bob] = [Home::with(&[&ALICE_KEY]), Home::with(&[&BOB_KEY])];
    for (count, (sender, told)) in (1..).zip(senders) {
        let how = if *told == "*" { "matches" } else { "is" };
        let script = format!(
            "require [\"envelope\", \"fileinto\", \"mailbox\"];\nif not envelope :{how} \"from\" \"{told}\" {{ fileinto :create \"other\"; }}\n"
        );
        server.write_home(CAROL, ".dovecot.sieve", script.as_bytes());
        mta.send_from(sender, &["alice+lists@example.org", CAROL, BOB], MAIL.as_bytes()).unwrap();
        mta.wait_for_empty_queue();
        for user in [ALICE, BOB, CAROL] {
            assert_eq!(server.inbox(user).len(), count, "{user}, {sender}: {}\n{}", mta.log(), server.log());
        }
        assert_sealed(&server.inbox(ALICE)[count - 1], MAIL.as_bytes(), &alice);
        assert_sealed(&server.inbox(BOB)[count - 1], MAIL.as_bytes(), &bob);
        assert_unchanged(&server.inbox(CAROL)[count - 1], MAIL.as_bytes());
    }
    assert!(!server.path("tmp/ran").exists(), "a sender was run");
}

/// Whatever fails, the mail stays in the queue; Bob, who has sent it, gets nothing back.
fn keeps_what_cannot_be_sealed(server: &Server, mta: &impl Mta, world: &World) {
    let mailseal = "/usr/local/bin/mailseal";
    server.enrol(ALICE, b"not a certificate");
    mta.send_from(BOB, &[ALICE], MAIL.as_bytes()).unwrap();
    mta.wait_for_deferrals(1);
    for (attempt, program) in (2..).zip([None, Some("kill -9 $$"), Some("exit 64")]) {
        let _ = fs::remove_file(world.outside(mailseal));
        if let Some(program) = program {
            world.write(mailseal, format!("#!/bin/sh\n{program}\n").as_bytes(), 0o755);
        }
        mta.flush();
        mta.wait_for_deferrals(attempt);
        assert_eq!(mta.queued(), 1, "{program:?}: {}", mta.log());
    }
    assert_eq!((server.inbox(ALICE).len(), server.inbox(BOB).len()), (0, 0));
    assert!(server.files_with(CANARY).is_empty());

    world.install("mailseal", mailseal);
    server.enrol(ALICE, &ALICE_KEY.certificate);
    mta.flush();
    mta.wait_for_empty_queue();
    assert_sealed(&server.only_message(ALICE), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
    assert_eq!(server.inbox(BOB).len(), 0);
}

#[test]
fn exim_delivers() {
    let Some((server, world)) = begin() else { return };
    let exim = exim(&server, world);
    let run = server.path("tmp/ran");
    let hostile =
        format!("\"a\\\"b $(touch {run}) `touch {run}`; touch {run}\"@example.net", run = run.display());
    let told = hostile.replace('\\', "\\\\").replace('"', "\\\"");
    let senders = [(SENDER, SENDER), ("", ""), ("o'neill@example.net", "o'neill@example.net")];
    delivers(&server, &exim, &[&senders[..], &[(&hostile, &told)]].concat());
}

#[test]
fn exim_keeps_what_cannot_be_sealed() {
    let Some((server, world)) = begin() else { return };
    let exim = exim(&server, world);
    keeps_what_cannot_be_sealed(&server, &exim, exim.world());
}

/// It takes no quoted local part. What a shell would not leave alone in another one becomes a colon, which Dovecot takes for no
/// address.
#[test]
fn opensmtpd_delivers() {
    let Some((server, world)) = begin() else { return };
    server.set_users(&[(LOCAL_USER, &[])]);
    server.enrol(LOCAL_USER, &ALICE_KEY.certificate);
    let opensmtpd = opensmtpd(&server, world);
    let hostile = "o'neill+`touch`|$IFS&x{}@example.net";
    let senders = [(SENDER, SENDER), ("", ""), (hostile, "*")];
    delivers(&server, &opensmtpd, &senders);
    for (count, sender) in (1..).zip([SENDER, "", hostile]) {
        opensmtpd.send_from(sender, &["mail+lists@localhost"], MAIL.as_bytes()).unwrap();
        wait_until("the system user's mail", || server.inbox(LOCAL_USER).len() == count);
    }
    let reader = Home::with(&[&ALICE_KEY]);
    server.inbox(LOCAL_USER).iter().for_each(|stored| assert_sealed(stored, MAIL.as_bytes(), &reader));
}

#[test]
fn opensmtpd_keeps_what_cannot_be_sealed() {
    let Some((server, world)) = begin() else { return };
    let opensmtpd = opensmtpd(&server, world);
    keeps_what_cannot_be_sealed(&server, &opensmtpd, opensmtpd.world());
}
