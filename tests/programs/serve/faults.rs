//! Next hops that fail: nobody is told that a message was taken which the next hop has not taken, and nothing is lost or said in
//! clear.

use std::time::{Duration, Instant};

use testing::next_hop::{Fault, NextHop, STEPS, Step};

use super::{ALICE, BOB, CAROL, MAIL, Site, assert_sealed};

/// What goes wrong.
fn faults() -> Vec<Fault> {
    let said = [
        "nonsense\r\n",
        "999 what\r\n",
        "354 go on\r\n",
        "421 4.3.2 no\r\n",
        "550 5.0.0 never\r\n",
        "2\r\n",
        "250-and\n",
        "250-2.0.0 stored\r\n451 4.2.0 or not\r\n",
    ];
    let long = Box::leak(format!("250 {}\r\n", "x".repeat(20_000)).into_boxed_str());
    said.into_iter()
        .map(Fault::Say)
        .chain([Fault::Close, Fault::Delay(Duration::from_millis(300)), Fault::Say(long)])
        .collect()
}

/// A message that takes more than all that lies between.
fn long() -> Vec<u8> {
    [
        b"Subject: long\r\n\r\n".as_slice(),
        &b"canary-7d0b41 and the rest of a line of common length.\r\n".repeat(60_000),
    ]
    .concat()
}

#[test]
fn whatever_the_next_hop_does_only_what_it_took_is_taken() {
    let Some(site) = Site::new() else { return };
    for step in STEPS {
        for fault in faults() {
            site.next.fail(step, fault.clone());
            let replies = site.deliver(&[ALICE], MAIL);
            let told = replies.as_ref().is_ok_and(|replies| replies.iter().all(|reply| reply.code == 250));
            let taken = site.next.take();
            assert!(!told || taken.len() == 1, "{step:?} {fault:?}: {replies:?}, {taken:?}");
            taken.iter().for_each(|taken| assert_sealed(taken, "curve25519", MAIL));
            // A refusal for the time being, or the next hop's own.
            if let Ok(replies) = &replies
                && !told
            {
                let own = matches!(&fault, Fault::Say(text) if replies[0].text.starts_with(&text[..3]));
                assert!(replies[0].code == 451 || own, "{step:?} {fault:?}: {replies:?}");
            }
            assert_eq!(site.codes(&[ALICE], MAIL), [250], "after {step:?} {fault:?}");
            site.next.take();
            site.assert_nothing_clear(&format!("{step:?} {fault:?}"));
        }
    }
}

#[test]
fn a_long_message_breaks_off_without_its_end() {
    let Some(site) = Site::new() else { return };
    let mail = long();
    for step in [Step::Message, Step::Dot] {
        site.next.fail(step, Fault::Close);
        let replies = site.deliver(&[ALICE], &mail).unwrap();
        assert_eq!(replies[0].code, 451, "{step:?}: {replies:?}");
        assert!(site.next.take().is_empty(), "{step:?}");
        assert!(!site.next.heard().ends_with(b"\r\n.\r\n") || step == Step::Dot);
    }
    assert_eq!(site.codes(&[ALICE], &mail), [250]);
    assert_sealed(&site.next.take()[0], "curve25519", &mail);
}

#[test]
fn what_fails_for_one_set_does_not_fail_for_the_others() {
    let Some(site) = Site::new() else { return };
    for mail in [MAIL.to_vec(), long()] {
        for step in [Step::Data, Step::Message, Step::Dot, Step::Stored] {
            site.next.fail(step, Fault::Close);
            let codes = site.codes(&[ALICE, BOB, CAROL], &mail);
            assert_eq!(codes.iter().filter(|code| **code == 451).count(), 1, "{step:?}: {codes:?}");
            assert_eq!(codes.iter().filter(|code| **code == 250).count(), 2, "{step:?}: {codes:?}");
            let taken = site.next.take();
            assert_eq!(taken.len(), if step == Step::Stored { 3 } else { 2 }, "{step:?}");
        }
    }
}

#[test]
fn a_slow_set_does_not_hold_back_the_answers_before_it() {
    let Some(site) = Site::new() else { return };
    let mut client = site.client();
    client.command("MAIL FROM:<s@example.net>", 250).unwrap();
    for user in [ALICE, BOB] {
        client.command(&format!("RCPT TO:<{user}>"), 250).unwrap();
    }
    site.next.refuse("<bob@example.org>", "452 4.2.2 slow\r\n");
    client.command("DATA", 354).unwrap();
    let start = Instant::now();
    client.send_raw(&[MAIL, b".\r\n"].concat()).unwrap();
    assert_eq!(client.reply().unwrap().code, 250);
    assert_eq!(client.reply().unwrap().code, 452);
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// So long may a piece of a message take.
#[test]
#[ignore = "takes a minute and a half"]
fn a_set_that_takes_nothing_is_given_up_and_never_gets_its_dot() {
    let Some(site) = Site::new() else { return };
    site.next.fail(Step::Message, Fault::Delay(Duration::from_secs(80)));
    // What is compressed away fits into the buffers between them.
    let mut number = 1u64;
    let lines = (0..60_000).map(|_| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{number:x}{:x}\r\n", number.rotate_left(23).wrapping_mul(number))
    });
    let mail = format!("Subject: long\r\n\r\n{}", lines.collect::<String>()).into_bytes();
    let start = Instant::now();
    let codes = site.codes(&[ALICE, BOB], &mail);
    let time = start.elapsed().as_secs();
    println!("MEASURED: one of two sets takes nothing: answered after {time} s: {codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 250).count(), 1, "{codes:?}");
    assert!(time < 90);
    // Until the one that was late has read all that was sent.
    std::thread::sleep(Duration::from_secs(80).saturating_sub(start.elapsed()) + Duration::from_secs(1));
    assert_eq!(site.next.take().len(), 1);
}

#[test]
fn an_idle_connection_that_was_closed_is_made_anew() {
    let Some(site) = Site::new() else { return };
    let mut client = site.client();
    assert_eq!(client.deliver("s@example.net", &[ALICE], MAIL).unwrap()[0].code, 250);
    for fault in [Fault::Say("421 4.4.2 inactivity\r\n"), Fault::Close] {
        site.next.fail(Step::Mail, fault);
        assert_eq!(client.deliver("s@example.net", &[ALICE], MAIL).unwrap()[0].code, 250);
    }
}

#[test]
fn without_a_next_hop_mail_waits() {
    let Some(mut site) = Site::new() else { return };
    let path = site.host.path("next");
    std::fs::remove_file(&path).unwrap();
    let mut client = site.client();
    client.command("MAIL FROM:<s@example.net>", 250).unwrap();
    client.command(&format!("RCPT TO:<{ALICE}>"), 451).unwrap();
    assert!(site.serve.said().contains("the next hop "), "{}", site.serve.said());
    assert!(site.log().contains("outcome=deferred reason=next-hop "), "{}", site.log());
    site.next = NextHop::listen(&path);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    client.command(&format!("RCPT TO:<{ALICE}>"), 250).unwrap();
}
