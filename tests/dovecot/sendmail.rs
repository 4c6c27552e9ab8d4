//! `mailseal sendmail` in the place of sendmail(1), before nullmailer, msmtp and dma, called as programs call it: what the relay
//! gets to see.

use std::time::{Duration, Instant};

use testing::alerts::{ALICE, Alerts, BOB, NOBODY, STRANGER, TEAM, open};
use testing::dovecot::entity::is_sealed;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::mtas;
use testing::dovecot::server::wait_until;
use testing::drop_in::{Host, Sends};
use testing::filter::run;

macro_rules! before_each {
    ($($test:ident),+ $(,)?) => {
        before_each!(nullmailer: Nullmailer, $($test),+);
        before_each!(msmtp: Msmtp, $($test),+);
        before_each!(dma: Dma, $($test),+);
    };
    ($module:ident: $sends:ident, $($test:ident),+) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $test() {
                    let Some((alerts, host)) = begin(Sends::$sends) else { return };
                    super::$test(&alerts, &host);
                }
            )+
        }
    };
}

before_each! {
    cron_and_mail_and_monitors_call_it,
    recipients_in_the_header_are_found,
    what_has_no_key_is_held,
    what_no_rule_is_for_is_left_alone,
    a_program_that_fails_loses_nothing,
    the_relay_refuses,
}

fn begin(sends: Sends) -> Option<(Alerts, Host)> {
    let alerts = mtas::can_run().then(Alerts::new).flatten()?;
    let host = Host::new(&alerts, sends);
    Some((alerts, host))
}

/// Without From and Date, as many programs write it.
fn short(alerts: &Alerts, to: &str) -> String {
    let word = alerts.canary.word();
    format!("To: {to}\nSubject: disk {word} full\n\n{word}\n.\n{word}\n")
}

/// Calls that were read in their sources, each for `root`, who is an alias of the team's.
fn cron_and_mail_and_monitors_call_it(alerts: &Alerts, host: &Host) {
    let word = alerts.canary.word();
    let mail = short(alerts, "root");
    // OSSEC has a field for each recipient.
    let crlf = format!("To: <{TEAM}>\nFrom: OSSEC HIDS <ossec@localhost>\n{mail}");
    let crlf = crlf.replace("\n.\n", "\n").replace('\n', "\r\n");
    // Debian's cron; mailx, nullmailer's and sSMTP's users; ZeekControl and Zeek's notices; OSSEC and Wazuh, which end lines with
    // CRLF; smartd, mdadm and logcheck; git and PHP.
    host.sendmail(&["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"], &mail);
    host.sendmail(&["-i", "root"], &mail);
    host.sendmail(&["-t", "-oi"], &mail);
    let popen = host.run("sh", &["-c", "/usr/sbin/sendmail -t"], crlf.as_bytes());
    assert_eq!(popen.status, Some(0), "{}", popen.stderr);
    host.sendmail(&["-oi", "-t", "-odb"], &mail);
    host.sendmail(&["-t", "-i", "-f", "monitor@sender.example"], &mail);
    let mailx =
        host.run("mail", &["-s", &format!("disk {word} full"), "root"], format!("{word}\n").as_bytes());
    assert_eq!(mailx.status, Some(0), "{}", mailx.stderr);
    let reader = Home::with(&[&BOB_KEY]);
    let mut sizes = Vec::new();
    for copy in alerts.taken(7) {
        assert_eq!(copy.recipient, format!("<{TEAM}>"));
        let opened = open(&copy, &reader);
        assert_eq!(opened.keys, 2);
        assert!(opened.text.contains(&format!("Subject: disk {word} full\r\n")), "{}", opened.text);
        assert!(opened.text.contains(&format!("\r\n\r\n{word}\r\n")), "{}", opened.text);
        sizes.push(opened.body);
    }
    sizes.dedup();
    assert_eq!(sizes.len(), 1, "one class: {sizes:?}");
    host.assert_clean(alerts);
}

/// With `-t`; each has a copy, and none tells of the hidden one.
fn recipients_in_the_header_are_found(alerts: &Alerts, host: &Host) {
    let mail = alerts.mail(&format!("Team <{TEAM}>\nCc: \"A, lice\" <{ALICE}>,\n root\nBcc: {BOB}"));
    host.sendmail(&["-i", "-t"], &mail);
    let taken = alerts.taken(3);
    let recipients: Vec<&str> = taken.iter().map(|copy| &*copy.recipient).collect();
    assert_eq!(recipients, [TEAM, ALICE, BOB].map(|address| format!("<{address}>")));
    for (copy, key, keys) in
        [(&taken[0], &ALICE_KEY, 2), (&taken[1], &ALICE_KEY, 1), (&taken[2], &BOB_KEY, 1)]
    {
        let shown = String::from_utf8_lossy(&copy.message);
        assert!(!shown.contains("Bcc:"), "{shown}");
        let opened = open(copy, &Home::with(&[key]));
        assert_eq!(opened.keys, keys);
        assert!(!opened.text.contains("Bcc:"), "{}", opened.text);
        assert!(copy.recipient.contains(BOB) || !(shown + &*opened.text).contains(BOB));
    }
    // Somebody without rights of their own.
    let mut nobody = host.as_nobody();
    let run = run(nobody.args(["/usr/sbin/sendmail", "-i", "ops"]), alerts.mail("ops").as_bytes(), 100);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(open(&alerts.taken(2)[1], &Home::with(&[&BOB_KEY])).keys, 1);
    host.assert_clean(alerts);
}

/// It leaves when its key is there; one notice says that something is held, and not what.
fn what_has_no_key_is_held(alerts: &Alerts, host: &Host) {
    let mail = alerts.mail(NOBODY);
    let _ = host.run("/usr/sbin/sendmail", &["-i", NOBODY, ALICE], mail.as_bytes());
    wait_until("the other recipient's copy", || {
        alerts.relay.take().iter().any(|copy| copy.recipient.contains(ALICE))
    });
    assert_eq!(host.held(), 1);
    host.try_again();
    assert_eq!(host.held(), 1);
    alerts.assert_nothing_leaked();
    alerts.site.enrol(NOBODY, &BOB_KEY.certificate);
    host.try_again();
    assert_eq!(host.held(), 0);
    let mut copies = Vec::new();
    wait_until("what was held", || {
        let taken = alerts.relay.take().into_iter();
        // The notice, too, is for the one who waits.
        copies.extend(taken.filter(|copy| copy.recipient.contains(NOBODY) && is_sealed(&copy.message)));
        !copies.is_empty()
    });
    assert_eq!(open(&copies[0], &Home::with(&[&BOB_KEY])).keys, 1);
    host.assert_clean(alerts);
}

fn what_no_rule_is_for_is_left_alone(alerts: &Alerts, host: &Host) {
    let mail = alerts.mail(STRANGER);
    host.sendmail(&["-i", "-f", "monitor@sender.example", STRANGER], &mail);
    let taken = alerts.taken(1);
    let shown = String::from_utf8_lossy(&taken[0].message);
    let body = mail[mail.find("\n\n").unwrap()..].replace('\n', "\r\n");
    assert!(shown.ends_with(&body) && shown.contains("\r\nSubject: disk "), "{shown}");
}

/// The caller is told, or it is held.
fn a_program_that_fails_loses_nothing(alerts: &Alerts, host: &Host) {
    for script in ["cat >/dev/null; exit 75", "exit 64", "kill -9 $$", "head -c 100 >/dev/null; exit 1"] {
        host.break_with(script);
        let run = host.run("/usr/sbin/sendmail", &["-i", "root"], alerts.mail("root").as_bytes());
        assert!(!run.stderr.contains(alerts.canary.word()), "{}", run.stderr);
        host.repair();
        if run.status == Some(0) {
            assert_eq!(host.held(), 1, "{script}: neither told nor held");
            host.try_again();
        } else {
            assert_eq!(host.held(), 0, "{script}: told, and held as well");
            host.sendmail(&["-i", "root"], &alerts.mail("root"));
        }
        assert_eq!(open(&alerts.taken(1)[0], &Home::with(&[&ALICE_KEY])).keys, 2);
        assert_eq!(host.held(), 0);
    }
    host.assert_clean(alerts);
}

/// What comes back through the relay, if anything does, shows nothing.
fn the_relay_refuses(alerts: &Alerts, host: &Host) {
    alerts.relay.refuse(&format!("RCPT <{TEAM}>"), "550 5.1.1 nobody\r\n");
    let _ = host.run("/usr/sbin/sendmail", &["-i", "-f", BOB, "root"], alerts.mail("root").as_bytes());
    alerts.relay.refuse(&format!("<{ALICE}>"), "554 5.7.1 refused\r\n");
    let _ = host.run("/usr/sbin/sendmail", &["-i", "-f", BOB, ALICE], alerts.mail(ALICE).as_bytes());
    std::thread::sleep(Duration::from_secs(3));
    let heard = alerts.relay.heard();
    assert!(alerts.canary.found_in(&heard).is_none(), "{}", String::from_utf8_lossy(&heard));
    // msmtp says so at once, and its mail is held, in clear.
    for queue in ["/var/spool/nullmailer", "/var/spool/dma"] {
        let left = alerts.canary.files(&host.world.outside(queue));
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The package's own program is back in its place.
#[test]
fn it_can_be_taken_out_again() {
    let Some((alerts, host)) = begin(Sends::Dma) else { return };
    assert_eq!(host.go_back(), Sends::Dma.program());
    host.sendmail(&["-i", STRANGER], &alerts.mail(STRANGER));
    assert!(alerts.canary.found_in(&alerts.taken(1)[0].message).is_some());
}

/// A real cron, with a job that says something; once a minute is as often as it runs one.
#[test]
fn what_a_job_of_crons_says_is_sealed() {
    let Some((alerts, host)) = begin(Sends::Nullmailer) else { return };
    let word = alerts.canary.word();
    host.world.write("/etc/cron.d/job", format!("* * * * * root echo {word}\n").as_bytes(), 0o644);
    host.start_cron();
    let patience = Instant::now() + Duration::from_secs(90);
    let copy = loop {
        if let Some(copy) = alerts.relay.take().pop() {
            break copy;
        }
        assert!(Instant::now() < patience, "cron has sent nothing");
        std::thread::sleep(Duration::from_millis(200));
    };
    host.world.shell("rm /etc/cron.d/job");
    let opened = open(&copy, &Home::with(&[&BOB_KEY]));
    assert!(opened.text.contains("Subject: Cron <root@"), "{}", opened.text);
    assert!(opened.text.contains(&format!("\r\n\r\n{word}\r\n")), "{}", opened.text);
    host.assert_clean(&alerts);
}
