//! Many alerts through each door for mail that leaves, while the relay fails, the door is killed and keys go bad: each arrives, and
//! nothing of any is seen.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use testing::alerts::{ALICE, Alerts, SENDER, TEAM, open};
use testing::dovecot::entity::is_sealed;
use testing::dovecot::gpg::{ALICE_KEY, Home};
use testing::dovecot::mta::Mta;
use testing::dovecot::mtas;
use testing::drop_in::{Host, Sends};
use testing::next_hop::{Fault, STEPS, Step, Taken};
use testing::serve::Serve;

use super::Random;
use crate::outgoing;

/// How many alerts there are where nobody says.
const FEW: usize = 60;

fn count() -> usize {
    std::env::var("MAILSEAL_ALERTS").ok().and_then(|text| text.parse().ok()).unwrap_or(FEW)
}

/// What can go wrong with a relay without its having refused for good.
fn fault(random: &mut Random) -> (Step, Fault) {
    let step = STEPS[random.below(STEPS.len())];
    let fault = match random.below(3) {
        0 => Fault::Close,
        1 => Fault::Delay(Duration::from_millis(200)),
        _ => Fault::Say("451 4.3.0 not now\r\n"),
    };
    (step, fault)
}

/// Sends alerts while things go wrong, mends them, and waits for all.
fn all_arrive_sealed(
    alerts: &Alerts,
    (count, relay_fails): (usize, bool),
    mut break_or_mend: impl FnMut(&mut Random, bool),
    mut send: impl FnMut(&mut Random, usize, &str, &[u8]) -> bool,
    mut try_again: impl FnMut(),
) {
    let mut random = Random(0x5eed_a1e7);
    let mut taken: Vec<Taken> = Vec::new();
    let begin = Instant::now();
    let word = alerts.canary.word();
    let mut refused = 0;
    let mail = |number: usize, to| {
        let lines = "A line of an alert, like any other.\n".repeat(number % 100);
        alerts.mail(to).replace("\n.\n", &format!("\n{lines}\nalert:{number};\n"))
    };
    for number in 0..count {
        if random.below(15) == 0 && relay_fails {
            let (step, fault) = fault(&mut random);
            alerts.relay.fail(step, fault);
        }
        if random.below(25) == 0 {
            break_or_mend(&mut random, true);
        }
        let to = if number % 3 == 0 { ALICE } else { TEAM };
        // Who was told sends again.
        while !send(&mut random, number, to, mail(number, to).as_bytes()) {
            refused += 1;
            assert!(refused < 10 * count, "nothing is taken any more");
            break_or_mend(&mut random, false);
        }
        taken.extend(alerts.relay.take());
    }
    break_or_mend(&mut random, false);
    let reader = Home::with(&[&ALICE_KEY]);
    let mut numbers = BTreeSet::new();
    let mut sizes = BTreeSet::new();
    let patience = Instant::now() + Duration::from_secs(60 + count as u64);
    let mut opened = 0;
    while numbers.len() < count {
        try_again();
        std::thread::sleep(Duration::from_millis(500));
        taken.extend(alerts.relay.take());
        for copy in taken.drain(..) {
            // A notice that something is held.
            if !is_sealed(&copy.message) {
                assert!(String::from_utf8_lossy(&copy.message).contains("mailseal holds "));
                continue;
            }
            let message = open(&copy, &reader);
            let number = message.text.split_once("alert:").and_then(|(_, rest)| rest.split_once(';'));
            if let Some((number, _)) = number {
                assert!(message.text.contains(&format!("disk {word} full")), "{}", message.text);
                numbers.insert(
                    number.parse::<usize>().unwrap_or_else(|error| panic!("{error}: {}", message.text)),
                );
                sizes.insert((copy.recipient.clone(), message.body));
            }
            opened += 1;
        }
        assert!(Instant::now() < patience, "{} of {count} have arrived", numbers.len());
    }
    println!(
        "MEASURED: {count} alerts, {refused} refused, {opened} copies at the relay, {:.1?}",
        begin.elapsed()
    );
    assert_eq!(sizes.len(), 2, "one size for each set of keys: {sizes:?}");
}

/// The same with an MTA before the door: it takes everything, by SMTP and by sendmail(1).
fn through(alerts: &Alerts, mta: &impl Mta, serve: Serve) {
    let site = &alerts.site;
    let team = std::fs::read(site.path("team.pgp")).unwrap();
    let mut serve = Some(serve);
    let start =
        || Serve::spawn(&site.path("mailseal.toml"), 0, &site.path("said"), &["--sandbox", "require"]);
    let break_or_mend = |random: &mut Random, breaks: bool| {
        if !breaks {
            site.write("team.pgp", &team, 0o644);
            drop(serve.take());
            serve = Some(start());
            return;
        }
        match random.below(4) {
            0 => drop(serve.take()),
            1 => serve = serve.take().or_else(|| Some(start())),
            2 => site.write("team.pgp", b"not a certificate", 0o644),
            _ => site.write("team.pgp", &team, 0o644),
        }
    };
    let send = |random: &mut Random, _: usize, to: &str, mail: &[u8]| {
        if random.below(2) == 0 {
            mta.submit(&["-i", "-f", SENDER, to], mail);
            true
        } else {
            mta.send_from(SENDER, &[to], mail).is_ok()
        }
    };
    all_arrive_sealed(alerts, (count(), true), break_or_mend, send, || mta.flush());
    outgoing::assert_clean(alerts, mta);
}

/// The same by `mailseal sendmail`, before a program that fails, too.
fn by_sendmail(sends: Sends) {
    let Some(alerts) = begin() else { return };
    let host = Host::new(&alerts, sends);
    let team = std::fs::read(alerts.site.path("team.pgp")).unwrap();
    let break_or_mend = |random: &mut Random, breaks: bool| match random.below(4) {
        0 if breaks => host.break_with("cat >/dev/null; exit 75"),
        1 if breaks => host.break_with("head -c 100 >/dev/null; kill -9 $$"),
        2 if breaks => alerts.site.write("team.pgp", b"not a certificate", 0o644),
        _ => {
            host.repair();
            alerts.site.write("team.pgp", &team, 0o644);
        }
    };
    let send = |_: &mut Random, number: usize, to: &str, mail: &[u8]| {
        let to = if number.is_multiple_of(5) && to == TEAM { "root" } else { to };
        host.run("/usr/sbin/sendmail", &["-i", "-f", SENDER, to], mail).status == Some(0)
    };
    // dma waits for five minutes before it calls a relay again.
    let relay_fails = sends != Sends::Dma;
    all_arrive_sealed(&alerts, (count(), relay_fails), break_or_mend, send, || host.try_again());
    assert_eq!(host.held(), 0);
    host.assert_clean(&alerts);
}

#[test]
fn nullmailer() {
    by_sendmail(Sends::Nullmailer);
}

#[test]
fn msmtp() {
    by_sendmail(Sends::Msmtp);
}

#[test]
fn dma() {
    by_sendmail(Sends::Dma);
}

fn begin() -> Option<Alerts> {
    mtas::can_run().then(Alerts::new).flatten()
}

#[test]
fn postfix() {
    let Some(alerts) = begin() else { return };
    let (postfix, serve) = outgoing::postfix(&alerts, "");
    through(&alerts, &postfix, serve);
}

#[test]
fn exim() {
    let Some(alerts) = begin() else { return };
    let (exim, serve) = outgoing::exim(&alerts);
    through(&alerts, &exim, serve);
}

#[test]
fn opensmtpd() {
    let Some(alerts) = begin() else { return };
    let (opensmtpd, serve) = outgoing::opensmtpd(&alerts);
    through(&alerts, &opensmtpd, serve);
}

/// What the door adds to a message, with Postfix around it.
#[test]
#[ignore = "a measurement"]
fn what_a_message_costs() {
    let messages = 200;
    for (what, more) in [("straight", "content_filter =\n"), ("through the door", "")] {
        let Some(alerts) = begin() else { return };
        let (postfix, _serve) = outgoing::postfix(&alerts, more);
        let mail = alerts.mail(TEAM);
        let begin = Instant::now();
        for _ in 0..messages {
            postfix.send_from(SENDER, &[TEAM], mail.as_bytes()).unwrap();
        }
        let mut taken = 0;
        while taken < messages {
            taken += alerts.relay.take().len();
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("MEASURED: Postfix, {messages} alerts {what}: {:.2} s", begin.elapsed().as_secs_f64());
    }
}
