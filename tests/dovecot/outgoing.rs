//! Mail that leaves through real MTAs and the `outgoing` door of `mailseal serve`, by the recipes in contrib/mta: what the relay
//! gets to see.

use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;

use testing::alerts::{ALICE, Alerts, BOB, NOBODY, SENDER, STRANGER, TEAM, open};
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::mta::Mta;
use testing::dovecot::mtas::{self, Exim, OpenSmtpd, free_address};
use testing::dovecot::postfix::{LOCAL_USER, Postfix};
use testing::dovecot::server::wait_until;
use testing::filter::run;
use testing::milter::Milter;
use testing::program;
use testing::serve::Serve;

/// Starts `mailseal serve`, which listens at `door` and hands on to `back`.
fn serve(alerts: &Alerts, door: &str, back: SocketAddr) -> Serve {
    alerts.configure(&format!(
        "[serve]\noutgoing = \"{door}\"\noutgoing-next = \"smtp:{back}\"\nuser = \"{LOCAL_USER}\"\n"
    ));
    start_serve(alerts, door)
}

/// Starts `mailseal serve` as it is configured, and waits until it listens at `door`.
pub fn start_serve(alerts: &Alerts, door: &str) -> Serve {
    let site = &alerts.site;
    let mut serve =
        Serve::spawn(&site.path("mailseal.toml"), 0, &site.path("said"), &["--sandbox", "require"]);
    wait_until("mailseal serve to listen", || {
        assert!(!serve.has_ended(), "mailseal serve has ended: {}", serve.said());
        door.parse::<SocketAddr>()
            .map_or_else(|_| UnixStream::connect(door).is_ok(), |address| TcpStream::connect(address).is_ok())
    });
    serve
}

/// What `root` and `ops` are: the line of a table of aliases, in either form.
fn aliases(colon: &str) -> String {
    format!("root{colon} {TEAM}\nops{colon} {ALICE}, {BOB}\n")
}

pub fn postfix<'a>(alerts: &'a Alerts, more: &str) -> (Postfix<'a>, Serve) {
    let back = free_address(&alerts.site);
    let postfix = Postfix::sending(&alerts.site, alerts.relay_at, back, more, &aliases(""));
    let door = Postfix::outgoing_door(&alerts.site);
    let serve = serve(alerts, door.to_str().unwrap(), back);
    (postfix, serve)
}

pub fn exim(alerts: &Alerts) -> (Exim, Serve) {
    let [door, back] = [(); 2].map(|()| free_address(&alerts.site));
    let serve = serve(alerts, &door.to_string(), back);
    (Exim::sending(&alerts.site, alerts.relay_at, [door, back], &aliases(":")), serve)
}

pub fn opensmtpd(alerts: &Alerts) -> (OpenSmtpd, Serve) {
    let [door, back] = [(); 2].map(|()| free_address(&alerts.site));
    let serve = serve(alerts, &door.to_string(), back);
    (OpenSmtpd::sending(&alerts.site, alerts.relay_at, [door, back], &aliases(":")), serve)
}

/// Nothing is left in the queue, and nothing of the canary anywhere.
#[track_caller]
pub fn assert_clean(alerts: &Alerts, mta: &impl Mta) {
    mta.wait_for_empty_queue();
    alerts.assert_nothing_leaked();
    let left = alerts.canary.files(&mta.queue());
    let left: Vec<_> = left.iter().filter(|file| !file.ends_with("log/mainlog")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// By smtpd and by sendmail(1): each recipient gets a copy for the keys of that recipient alone.
fn each_recipient_gets_a_sealed_copy(alerts: &Alerts, mta: &impl Mta) {
    let [alice, bob] = [Home::with(&[&ALICE_KEY]), Home::with(&[&BOB_KEY])];
    let hidden = format!("{TEAM}\nCc: {ALICE}\nBcc: {BOB}");
    let mail = alerts.mail(&hidden);
    for by_smtp in [true, false] {
        if by_smtp {
            mta.send_from(SENDER, &[TEAM, ALICE, BOB], mail.as_bytes()).unwrap();
        } else {
            mta.submit(&["-i", "-t", "-f", SENDER], mail.as_bytes());
        }
        let taken = alerts.taken(3);
        let recipients: Vec<&str> = taken.iter().map(|copy| &*copy.recipient).collect();
        assert_eq!(recipients, [TEAM, ALICE, BOB].map(|address| format!("<{address}>")));
        for (copy, reader, keys) in [(&taken[0], &bob, 2), (&taken[1], &alice, 1), (&taken[2], &bob, 1)] {
            assert!(copy.mail.contains(SENDER), "{}", copy.mail);
            let shown = String::from_utf8_lossy(&copy.message);
            assert!(
                !shown.contains("Bcc:") && (!shown.contains(BOB) || copy.recipient.contains(BOB)),
                "{shown}"
            );
            assert!(shown.contains("\r\nSubject: Alert\r\n"), "{shown}");
            let opened = open(copy, reader);
            assert_eq!(opened.keys, keys);
            let word = alerts.canary.word();
            let subject = format!("\r\nSubject: disk {word} full\r\n");
            assert!(
                opened.text.contains(&subject) && opened.text.contains(&format!("\r\n\r\n{word}\r\n.\r\n")),
                "{}",
                opened.text
            );
            assert!(!opened.text.contains("Bcc:"), "{}", opened.text);
        }
        let sizes: Vec<usize> =
            taken[1..].iter().map(|copy| open(copy, &Home::with(&[&ALICE_KEY, &BOB_KEY])).body).collect();
        assert_eq!(sizes[0], sizes[1]);
    }
    assert_clean(alerts, mta);
}

/// A local name is sealed to whoever it is an alias of.
fn aliases_count_before_rules(alerts: &Alerts, mta: &impl Mta) {
    mta.submit(&["-i", "-f", SENDER, "root"], alerts.mail("root").as_bytes());
    let taken = alerts.taken(1);
    assert_eq!(taken[0].recipient, format!("<{TEAM}>"));
    assert_eq!(open(&taken[0], &Home::with(&[&ALICE_KEY])).keys, 2);
    mta.submit(&["-i", "-f", SENDER, "ops"], alerts.mail("ops").as_bytes());
    for (copy, key) in alerts.taken(2).iter().zip([&ALICE_KEY, &BOB_KEY]) {
        assert_eq!(open(copy, &Home::with(&[key])).keys, 1);
    }
    assert_clean(alerts, mta);
}

/// The null sender stays the null sender; 8-bit text arrives as it was.
fn bounces_and_8_bit_text_are_sealed(alerts: &Alerts, mta: &impl Mta) {
    let mail = alerts.mail(TEAM).replace(
        "Subject:",
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nSubject:",
    );
    let mail = mail.replace("\n.\n", "\nGrüße\n");
    mta.send_from("", &[TEAM], mail.as_bytes()).unwrap();
    let taken = alerts.taken(1);
    assert!(taken[0].mail.contains("FROM:<>"), "{}", taken[0].mail);
    let opened = open(&taken[0], &Home::with(&[&ALICE_KEY]));
    assert!(opened.text.contains("\r\nGrüße\r\n"), "{}", opened.text);
    assert_clean(alerts, mta);
}

/// What no rule is for goes as it came.
fn what_no_rule_is_for_is_left_alone(alerts: &Alerts, mta: &impl Mta) {
    let mail = alerts.mail(STRANGER);
    mta.send_from(SENDER, &[STRANGER, TEAM], mail.as_bytes()).unwrap();
    let taken = alerts.taken(2);
    assert_eq!(open(&taken[0], &Home::with(&[&ALICE_KEY])).keys, 2);
    let shown = String::from_utf8_lossy(&taken[1].message);
    assert!(shown.ends_with(&mail[mail.find("Subject:").unwrap()..].replace('\n', "\r\n")), "{shown}");
    mta.wait_for_empty_queue();
}

/// The others get theirs at once, and one whose key is missing when it is there.
fn a_missing_key_waits(alerts: &Alerts, mta: &impl Mta) {
    mta.send_from(SENDER, &[NOBODY, ALICE], alerts.mail(ALICE).as_bytes()).unwrap();
    assert_eq!(alerts.taken(1)[0].recipient, format!("<{ALICE}>"));
    mta.wait_for_deferrals(1);
    assert_eq!(mta.queued(), 1, "{}", mta.log());
    alerts.assert_nothing_leaked();
    alerts.site.enrol(NOBODY, &BOB_KEY.certificate);
    mta.flush();
    let taken = alerts.taken(1);
    assert_eq!(taken[0].recipient, format!("<{NOBODY}>"));
    assert_eq!(open(&taken[0], &Home::with(&[&BOB_KEY])).keys, 1);
    assert_clean(alerts, mta);
}

/// Also while nobody is behind the door.
fn mail_waits_for_the_door(alerts: &Alerts, mta: &impl Mta, serve: Serve, again: impl Fn() -> Serve) {
    drop(serve);
    mta.send_from(SENDER, &[TEAM], alerts.mail(TEAM).as_bytes()).unwrap();
    mta.wait_for_deferrals(1);
    assert_eq!(mta.queued(), 1, "{}", mta.log());
    let _serve = again();
    let mut taken = Vec::new();
    wait_until("the relay to get the mail", || {
        mta.flush();
        // OpenSMTPD leaves a place where nobody was alone for 15 seconds.
        std::thread::sleep(std::time::Duration::from_millis(500));
        taken.extend(alerts.relay.take());
        !taken.is_empty()
    });
    assert_eq!(open(&taken[0], &Home::with(&[&ALICE_KEY])).keys, 2);
    assert_clean(alerts, mta);
}

/// The relay refuses a recipient, and then a message: what goes back to Bob shows neither.
fn what_comes_back_holds_ciphertext(alerts: &Alerts, mta: &impl Mta) {
    alerts.relay.refuse(&format!("RCPT <{TEAM}>"), "550 5.1.1 nobody\r\n");
    mta.send_from(BOB, &[TEAM], alerts.mail(TEAM).as_bytes()).unwrap();
    let back = alerts.taken(1);
    assert_eq!(back[0].recipient, format!("<{BOB}>"));
    alerts.relay.refuse(&format!("<{ALICE}>"), "554 5.7.1 refused\r\n");
    mta.send_from(BOB, &[ALICE], alerts.mail(ALICE).as_bytes()).unwrap();
    let back = alerts.taken(1);
    assert_eq!(back[0].recipient, format!("<{BOB}>"));
    assert!(back[0].mail.contains("FROM:<>"), "{}", back[0].mail);
    assert_clean(alerts, mta);
}

/// A line that is longer than SMTP has them is sealed as it is.
fn long_lines_stay_whole(alerts: &Alerts, mta: &impl Mta) {
    let line = "0123456789".repeat(300);
    let mail = alerts.mail(TEAM).replace("\n.\n", &format!("\n{line}\n"));
    mta.send_from(SENDER, &[TEAM], mail.as_bytes()).unwrap();
    let opened = open(&alerts.taken(1)[0], &Home::with(&[&ALICE_KEY]));
    assert!(opened.text.contains(&format!("\r\n{line}\r\n")), "{}", opened.text);
    assert_clean(alerts, mta);
}

macro_rules! with_each_mta {
    ($($module:ident: $start:expr),+ $(,)?) => {$(
        mod $module {
            use super::*;

            #[test]
            fn each_recipient_gets_a_sealed_copy() {
                let Some(alerts) = begin() else { return };
                let (mta, _serve) = $start(&alerts);
                super::each_recipient_gets_a_sealed_copy(&alerts, &mta);
            }

            #[test]
            fn aliases_count_before_rules() {
                let Some(alerts) = begin() else { return };
                let (mta, _serve) = $start(&alerts);
                super::aliases_count_before_rules(&alerts, &mta);
            }

            #[test]
            fn bounces_and_8_bit_text_are_sealed() {
                let Some(alerts) = begin() else { return };
                let (mta, _serve) = $start(&alerts);
                super::bounces_and_8_bit_text_are_sealed(&alerts, &mta);
            }

            #[test]
            fn what_no_rule_is_for_is_left_alone() {
                let Some(alerts) = begin() else { return };
                let (mta, _serve) = $start(&alerts);
                super::what_no_rule_is_for_is_left_alone(&alerts, &mta);
            }

            #[test]
            fn a_missing_key_waits() {
                let Some(alerts) = begin() else { return };
                let (mta, _serve) = $start(&alerts);
                super::a_missing_key_waits(&alerts, &mta);
            }

            #[test]
            fn mail_waits_for_the_door() {
                let Some(alerts) = begin() else { return };
                let (mta, serve) = $start(&alerts);
                let site = &alerts.site;
                let again = || {
                    let config = site.path("mailseal.toml");
                    Serve::spawn(&config, 0, &site.path("said"), &["--sandbox", "require"])
                };
                super::mail_waits_for_the_door(&alerts, &mta, serve, again);
            }

            #[test]
            fn long_lines_stay_whole() {
                let Some(alerts) = begin() else { return };
                let (mta, _serve) = $start(&alerts);
                super::long_lines_stay_whole(&alerts, &mta);
            }

            #[test]
            fn what_comes_back_holds_ciphertext() {
                let Some(alerts) = begin() else { return };
                let (mta, _serve) = $start(&alerts);
                super::what_comes_back_holds_ciphertext(&alerts, &mta);
            }
        }
    )+};
}

fn begin() -> Option<Alerts> {
    mtas::can_run().then(Alerts::new).flatten()
}

with_each_mta!(
    postfix: |alerts| postfix(alerts, ""),
    exim: exim,
    opensmtpd: opensmtpd,
);

/// The door refuses a message for good. Exim returns the header, to somebody for whom it is sealed.
#[test]
fn what_exim_returns_is_sealed() {
    let Some(alerts) = begin() else { return };
    let (exim, serve) = exim(&alerts);
    limit(&alerts, &serve);
    exim.send_from(BOB, &[TEAM], long(&alerts).as_bytes()).unwrap();
    let taken = alerts.taken(1);
    assert_eq!(taken[0].recipient, format!("<{BOB}>"));
    let opened = open(&taken[0], &Home::with(&[&BOB_KEY]));
    assert!(opened.text.contains("X-Failed-Recipients"), "{}", opened.text);
    assert_clean(&alerts, &exim);
}

/// Postfix returns it past the door, and so does not.
#[test]
fn what_the_door_refuses_stays_with_postfix() {
    let Some(alerts) = begin() else { return };
    let (postfix, serve) = postfix(&alerts, "");
    limit(&alerts, &serve);
    postfix.send_from(BOB, &[TEAM], long(&alerts).as_bytes()).unwrap();
    // With `soft_bounce` its log has another word for it.
    wait_until("the door to refuse it", || postfix.log().contains(" status=SOFTBOUNCE "));
    assert_eq!(postfix.queued(), 1);
    alerts.assert_nothing_leaked();
}

/// Has the door refuse a message that is longer than 10 kB.
fn limit(alerts: &Alerts, serve: &Serve) {
    let config = alerts.site.path("mailseal.toml");
    let text = std::fs::read_to_string(config).unwrap().replace("[serve]\n", "[serve]\nsize = 10000\n");
    reload(alerts, serve, &text);
}

fn long(alerts: &Alerts) -> String {
    alerts.mail(TEAM).replace("\n.\n", &"\nA line of an alert that is too long.".repeat(1000))
}

/// As long as with the other two: what comes back was never sealed.
#[test]
fn exim_keeps_what_waits_for_a_hundred_days() {
    let Some(alerts) = begin() else { return };
    let (exim, _serve) = exim(&alerts);
    for what in ["team.example", "team.example timeout_connect", "127.0.0.1 refused", "x.example rcpt_4xx"] {
        let said = exim.world().shell(&format!("exim4 -brt {what}"));
        // A hundred days, as Exim writes them.
        assert!(said.contains("F,14w2d,6h"), "{what}: {said}");
    }
    assert_eq!(exim.world().shell("exim4 -bP delay_warning").trim(), "delay_warning =");
}

/// local(8) has aliases of its own, behind the door. What they would send away waits; what stays here passes by one rule.
#[test]
fn postfix_sends_nothing_away_by_aliases_behind_the_door() {
    let Some(alerts) = begin() else { return };
    let site = &alerts.site;
    let (late, boxes) = (site.path("late"), site.path("boxes"));
    site.write("late", format!("late: {STRANGER}\n").as_bytes(), 0o644);
    assert!(Command::new("postalias").arg(&late).status().unwrap().success());
    std::fs::create_dir(&boxes).unwrap();
    std::fs::set_permissions(&boxes, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let more = format!("alias_maps = hash:{}\nmail_spool_directory = {}/\n", late.display(), boxes.display());
    let (postfix, serve) = postfix(&alerts, &more);
    let local = format!("{LOCAL_USER}@localhost");
    for to in ["late@localhost", &local] {
        postfix.submit(&["-i", "-f", SENDER, to], alerts.mail(to).as_bytes());
    }
    postfix.wait_for_deferred(2);
    alerts.assert_nothing_leaked();
    let doctor = || {
        let mut command = Command::new(program("mailseal"));
        command.env("MAIL_CONFIG", site.path("postfix")).arg("--config").arg(site.path("mailseal.toml"));
        let run = run(command.args(["doctor", "--dovecot-config", "/nonexistent"]), b"", 1);
        String::from_utf8(run.stdout).unwrap()
    };
    let said = doctor();
    assert!(said.contains("Postfix resolves aliases of hash:") && said.contains("has not: late\n"), "{said}");
    assert!(!said.contains("once more behind the door"), "{said}");

    append(&alerts, &serve, &format!("[[outgoing]]\nto = [\"{local}\"]\nrequire = false\n"));
    postfix.flush();
    wait_until("the mailbox here to get it", || std::fs::read_dir(&boxes).unwrap().next().is_some());
    postfix.wait_for_deferred(1);
    alerts.assert_nothing_leaked();
    // Whoever lets all of this host's mail pass is told what that does.
    append(
        &alerts,
        &serve,
        "[[outgoing]]\nto = [\"*@localhost\"]\nrequire = false\n[sendmail]\ndomain = \"localhost\"\n",
    );
    let said = doctor();
    assert!(said.contains("may pass the door in clear") && said.contains(": late\n"), "{said}");
}

/// Adds lines to the configuration, and lets the door know.
fn append(alerts: &Alerts, serve: &Serve, lines: &str) {
    let text = std::fs::read_to_string(alerts.site.path("mailseal.toml")).unwrap() + lines;
    reload(alerts, serve, &text);
}

fn reload(alerts: &Alerts, serve: &Serve, text: &str) {
    alerts.site.write("mailseal.toml", text.as_bytes(), 0o644);
    serve.signal(nix::sys::signal::Signal::SIGHUP);
    std::thread::sleep(std::time::Duration::from_millis(500));
}

/// The archive's copies are sealed to the archive's keys, and come once.
#[test]
fn postfix_seals_what_goes_to_everybodys_archive() {
    let Some(alerts) = begin() else { return };
    let (postfix, _serve) = postfix(&alerts, "always_bcc = archive@team.example\n");
    postfix.send_from(SENDER, &[ALICE], alerts.mail(ALICE).as_bytes()).unwrap();
    let taken = alerts.taken(2);
    assert_eq!(open(&taken[0], &Home::with(&[&ALICE_KEY])).keys, 1);
    assert_eq!(taken[1].recipient, "<archive@team.example>");
    assert_eq!(open(&taken[1], &Home::with(&[&BOB_KEY])).keys, 2);
    assert_clean(&alerts, &postfix);
    assert!(alerts.relay.take().is_empty());
}

/// What signs sees the sealed message, and its field is outside.
#[test]
fn postfix_has_it_signed_after_sealing() {
    let Some(alerts) = begin() else { return };
    let [back, signs] = [(); 2].map(|()| free_address(&alerts.site));
    let milter = Milter::listen(signs, ("DKIM-Signature", "v=1; a=test"));
    let at = format!("inet:{signs}");
    let postfix = Postfix::sending_signed(&alerts.site, alerts.relay_at, back, ("", &aliases("")), &at);
    let _serve = serve(&alerts, Postfix::outgoing_door(&alerts.site).to_str().unwrap(), back);
    postfix.send_from(SENDER, &[TEAM], alerts.mail(TEAM).as_bytes()).unwrap();
    postfix.submit(&["-i", "-f", SENDER, TEAM], alerts.mail(TEAM).as_bytes());
    for copy in alerts.taken(2) {
        let shown = String::from_utf8_lossy(&copy.message);
        assert_eq!(shown.matches("DKIM-Signature: v=1; a=test\r\n").count(), 1, "{shown}");
        assert_eq!(open(&copy, &Home::with(&[&ALICE_KEY])).keys, 2);
    }
    let bodies = milter.bodies();
    assert_eq!(bodies.len(), 2);
    assert!(bodies.iter().all(|body| body.starts_with(b"--=_mailseal-")));
    assert_clean(&alerts, &postfix);
}

/// An address and a header that are UTF-8.
fn utf8(alerts: &Alerts, mta: &impl Mta) {
    alerts.relay.announce(&["8BITMIME", "SMTPUTF8"]);
    let name = "jörg@people.example";
    alerts.site.enrol(name, &ALICE_KEY.certificate);
    let mail = alerts.mail(name).replace("disk", "Füllstand");
    let mut client = testing::dovecot::lmtp::Lmtp::connect_smtp(mta.smtp()).unwrap();
    client.command(&format!("MAIL FROM:<{SENDER}> BODY=8BITMIME SMTPUTF8"), 250).unwrap();
    client.command(&format!("RCPT TO:<{name}>"), 250).unwrap();
    client.command("DATA", 354).unwrap();
    client.send_raw(mail.replace('\n', "\r\n").replace("\r\n.\r\n", "\r\n..\r\n").as_bytes()).unwrap();
    client.command(".", 250).unwrap();
    let taken = alerts.taken(1);
    assert_eq!(taken[0].recipient, format!("<{name}>"));
    assert!(taken[0].mail.contains("SMTPUTF8"), "{}", taken[0].mail);
    let opened = open(&taken[0], &Home::with(&[&ALICE_KEY]));
    assert!(opened.text.contains("Füllstand"), "{}", opened.text);
    assert_clean(alerts, mta);
}

#[test]
fn postfix_hands_on_addresses_in_utf8() {
    let Some(alerts) = begin() else { return };
    let (postfix, _serve) = postfix(&alerts, "smtputf8_enable = yes\n");
    utf8(&alerts, &postfix);
}

#[test]
fn exim_hands_on_addresses_in_utf8() {
    let Some(alerts) = begin() else { return };
    let (exim, _serve) = exim(&alerts);
    utf8(&alerts, &exim);
}
