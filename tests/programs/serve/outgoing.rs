//! Mail that leaves, through the `outgoing` door: by the table `[[outgoing]]`, and never in clear where a rule demands sealing.

use std::time::{Duration, Instant};

use testing::dovecot::lmtp::Lmtp;
use testing::next_hop::{Fault, Step, Taken};
use testing::{decrypt::decrypt, fixtures};

use super::{ALICE, BOB, CANARY, CAROL, Site, assert_sealed};

const MAIL: &[u8] = b"Received: from inside by host\r\nFrom: \"Wazuh on box7\" <wazuh@host.example>\r\nTo: team@team.example\r\n\
    Bcc: secret-recipient@example.org\r\nSubject: canary-7d0b41\r\nMessage-ID: <one@box7.inside>\r\nX-Agent: box7\r\n\r\n\
    canary-7d0b41\r\n";

const RULES: &str = r#"
outgoing = "DIR/doors/outgoing"
outgoing-next = "lmtp:DIR/next"
[[outgoing]]
to = ["team@team.example", "*@bücher.example"]
key = ["DIR/keys/alice@example.org.pgp", "DIR/keys/bob@example.org.pgp"]
protect-headers = "strict"
subject = "Daily report"
pad = "4KiB"
[[outgoing]]
to = ["carol@*"]
require = false
[[outgoing]]
to = ["*@example.org"]
"#;

fn site() -> Option<Site> {
    Site::with(RULES)
}

impl Site {
    /// A client at the door, which may open a moment after the other one.
    fn leave(&self) -> Lmtp {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match Lmtp::connect_unix(&self.host.path("doors/outgoing")) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
        }
    }

    fn send(&self, recipients: &[&str], mail: &[u8]) -> Vec<u16> {
        match self.leave().deliver("wazuh@host.example", recipients, mail) {
            Ok(replies) => replies.iter().map(|reply| reply.code).collect(),
            // A recipient was refused.
            Err(error) => vec![error.to_string()[..3].parse().unwrap()],
        }
    }

    /// What has left, by recipient.
    fn left(&self) -> Vec<Taken> {
        let mut taken = self.next.take();
        taken.sort_by(|a, b| a.recipient.cmp(&b.recipient));
        taken
    }
}

#[test]
fn the_first_rule_decides_for_each_address() {
    let Some(site) = site() else { return };
    let bare =
        String::from_utf8_lossy(MAIL).replace("Bcc: secret-recipient@example.org\r\n", "").into_bytes();
    assert_eq!(site.send(&[ALICE, BOB, CAROL, "dave@elsewhere.example"], MAIL), [250; 4]);
    let left = site.left();
    assert_sealed(&left[0], "curve25519", &bare);
    assert_sealed(&left[1], "rsa3072", &bare);
    // Carol's rule does not demand sealing, and for the last there is no rule.
    assert_eq!(left[2].message, bare);
    assert_eq!(left[3].message, bare);
    let log = site.log();
    for (user, word) in [
        (ALICE, "outcome=sealed reason=- "),
        (CAROL, "outcome=unchanged reason=no-key "),
        ("dave@elsewhere.example", "outcome=unchanged reason=no-policy "),
    ] {
        let found = log.lines().find(|line| line.starts_with(&format!("user={user} "))).unwrap_or_default();
        assert!(found.contains(word) && found.contains(" door=outgoing "), "{log}");
    }
}

#[test]
fn a_strict_rule_shows_what_is_listed_and_one_size() {
    let Some(site) = site() else { return };
    let mut sizes = Vec::new();
    for body in ["yes", "no", "a much longer canary-7d0b41 with many more words in it than the others have"] {
        let mail = [MAIL, body.as_bytes(), b"\r\n"].concat();
        assert_eq!(site.send(&["team@team.example", "Other@XN--BCHER-KVA.example."], &mail), [250; 2]);
        let left = site.left();
        assert_eq!(left.len(), 2);
        for taken in &left {
            let text = String::from_utf8(taken.message.clone()).unwrap();
            let (header, sealed) = text.split_once("\r\n\r\n").unwrap();
            for absent in [CANARY, "box7", "Received", "Bcc", "secret", "X-Agent", "one@", "Wazuh on"] {
                assert!(!header.contains(absent), "{absent}: {header}");
            }
            for present in [
                "From: wazuh@host.example\r\n",
                "To: team@team.example\r\n",
                "Subject: Daily report\r\n",
                "Message-ID: <",
            ] {
                assert!(format!("{header}\r\n").contains(present), "{present}: {header}");
            }
            sizes.push(sealed.len());
            for key in ["curve25519", "rsa3072"] {
                let run = decrypt(key, &taken.message);
                assert_eq!(run.status, Some(0), "{}", run.stderr);
                let opened = String::from_utf8_lossy(&run.stdout).into_owned();
                assert!(opened.contains(body) && !opened.contains("secret-recipient"), "{opened}");
            }
        }
        // A copy each, which are not the same.
        assert_ne!(left[0].message, left[1].message);
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    site.assert_nothing_clear("strict");
    let log = site.log();
    assert!(log.lines().all(|line| line.contains(" in=4096 ")), "{log}");
}

#[test]
fn what_must_be_sealed_and_cannot_be_waits() {
    let Some(site) = site() else { return };
    // Its rule leaves the header as it is.
    let mail = String::from_utf8_lossy(MAIL).replace("Subject: canary-7d0b41", "Subject: x").into_bytes();
    for address in ["nobody@example.org", "NoBody+x@EXAMPLE.org", "\"nobody\"@example.org."] {
        assert_eq!(site.send(&[address], &mail), [451], "{address}");
    }
    assert_eq!(site.send(&[ALICE], &mail), [250]);
    assert_eq!(site.left().len(), 1);
    site.assert_nothing_clear("missing");
    let log = site.log();
    assert!(log.contains(" outcome=deferred reason=key-required "), "{log}");
    // Enrolled, it goes out.
    site.host.write("keys/nobody@example.org.pgp", &std::fs::read(fixtures::cert("rsa3072")).unwrap());
    assert_eq!(site.send(&["nobody@example.org", "NoBody+x@EXAMPLE.org"], &mail), [250; 2]);
    assert_eq!(site.left().len(), 2);
    site.assert_nothing_clear("enrolled");
    // Unreadable for a moment, it waits again.
    site.host.write("keys/nobody@example.org.pgp", b"garbage");
    assert_eq!(site.send(&["nobody@example.org"], &mail), [451]);
    site.assert_nothing_clear("garbage");
}

#[test]
fn an_address_that_is_not_understood_waits() {
    let Some(site) = site() else { return };
    for address in [
        "team%team.example@relay.example",
        "team.example!team@relay.example",
        "\"team@team.example\"@relay.example",
        "team@[127.0.0.1]",
        "team@xn--zzzzzz99999.example",
    ] {
        assert_eq!(site.send(&[address], MAIL), [451], "{address}");
    }
    for address in
        ["TEAM@TEAM.EXAMPLE", "team+urgent@team.example", "team@team.example.", "\"team\"@team.example"]
    {
        assert_eq!(site.send(&[address], MAIL), [250], "{address}");
    }
    site.assert_nothing_clear("odd addresses");
}

#[test]
fn without_a_rule_that_demands_sealing_odd_addresses_leave() {
    let rules = "outgoing = \"DIR/doors/outgoing\"\noutgoing-next = \"lmtp:DIR/next\"\n";
    let Some(site) = Site::with(rules) else { return };
    assert_eq!(site.send(&["a%b@relay.example", "x@[127.0.0.1]", ALICE], MAIL), [250; 3]);
    assert_eq!(site.left().len(), 3);
}

#[test]
fn a_null_sender_and_fields_of_a_signed_mail_are_hidden_too() {
    let Some(site) = site() else { return };
    let signed = b"From: a@host.example\r\nSubject: canary-7d0b41\r\nContent-Type: multipart/signed; micalg=pgp-sha256; \
        protocol=\"application/pgp-signature\"; boundary=b\r\n\r\n--b\r\n\r\ncanary-7d0b41\r\n--b\r\n\
        Content-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n";
    let replies = site.leave().deliver("", &["team@team.example"], signed).unwrap();
    assert_eq!(replies[0].code, 250);
    assert_eq!(site.left().len(), 1);
    site.assert_nothing_clear("signed");
}

/// Aliases are resolved behind the door: what is for this host passes in clear only by a rule of its own.
#[test]
fn mail_for_this_host_waits_unless_a_rule_lets_it_pass() {
    let own = format!(
        "{RULES}require = true\n[[outgoing]]\nto = [\"cron@localhost\"]\nrequire = false\n\
        [sendmail]\ndomain = \"box7.inside.example\"\n"
    );
    let Some(site) = Site::with(&own) else { return };
    for address in [
        "root@box7.inside.example",
        "root",
        "Root@LOCALHOST.",
        "root+x@localhost",
        "root@[127.0.0.1]",
        "root@127.0.0.1",
        "root@[IPv6:::1]",
    ] {
        assert_eq!(site.send(&[address], MAIL), [451], "{address}");
    }
    site.assert_nothing_clear("this host's own");
    let log = site.log();
    assert_eq!(log.matches(" outcome=deferred reason=unresolved ").count(), 7, "{log}");
    // The others get theirs, and what is somebody else's leaves as before.
    assert_eq!(site.send(&["dave@elsewhere.example"], MAIL), [250]);
    assert_eq!(site.send(&["Cron+daily@localhost"], MAIL), [250]);
    let left = site.left();
    assert!(
        left.iter().all(|taken| String::from_utf8_lossy(&taken.message).contains(CANARY)) && left.len() == 2
    );
    let log = site.log();
    assert!(log.contains("user=cron+daily@localhost outcome=unchanged reason=no-key "), "{log}");
}

#[test]
fn mail_for_this_host_passes_where_nothing_demands_sealing() {
    let rules = "outgoing = \"DIR/doors/outgoing\"\noutgoing-next = \"lmtp:DIR/next\"\n\
        [[outgoing]]\nto = [\"*@example.org\"]\nrequire = false\n";
    let Some(site) = Site::with(rules) else { return };
    assert_eq!(site.send(&["root@localhost", "ops@[127.0.0.1]"], MAIL), [250; 2]);
    assert_eq!(site.left().len(), 2);
}

/// What is encrypted already has a header and a length of its own. What was sealed by the same rule is left as it is, but for what
/// the way has added.
#[test]
fn what_is_encrypted_already_looks_like_all_other_mail_of_its_rule() {
    let Some(site) = Site::with(RULES) else { return };
    let foreign = std::fs::read(fixtures::folder("encrypted").join("mutt.eml")).unwrap();
    let foreign =
        String::from_utf8(foreign).unwrap().replace("Subject: ", "X-Agent: box7\nSubject: canary-7d0b41 ");
    let foreign = foreign.replace("\r\n", "\n").replace('\n', "\r\n");
    let once = |mail: &[u8]| {
        assert_eq!(site.send(&["team@team.example"], mail), [250]);
        String::from_utf8(site.left().remove(0).message).unwrap()
    };
    let plain = once(MAIL);
    let sealed = once(foreign.as_bytes());
    let body = |message: &str| message.split_once("\r\n\r\n").unwrap().1.len();
    assert!(sealed.contains("Subject: Daily report\r\n") && !sealed.contains("box7"), "{sealed}");
    assert_eq!(body(&plain), body(&sealed));
    let opened = decrypt("rsa3072", sealed.as_bytes());
    let original = String::from_utf8_lossy(&opened.stdout);
    assert!(original.contains("X-Agent: box7") && original.contains("BEGIN PGP MESSAGE"), "{original}");
    // The next door, behind a hop.
    let on_the_way = format!("Received: from box7 by relay; Sat, 1 Jan 2022 00:00:00 +0000\r\n{plain}");
    let again = once(on_the_way.as_bytes());
    assert!(
        !again.contains("box7")
            && again.split_once("\r\n\r\n").unwrap().1 == plain.split_once("\r\n\r\n").unwrap().1
    );
    assert!(String::from_utf8_lossy(&decrypt("curve25519", again.as_bytes()).stdout).contains(CANARY));
    // For another rule it is no longer what it promises.
    assert_eq!(site.send(&["other@xn--bcher-kva.example", ALICE], plain.as_bytes()), [250; 2]);
    let left = site.left();
    assert_eq!(left[0].message, plain.as_bytes(), "that rule promises nothing");
    let longer = plain.replace("Subject: Daily report", "Subject: Weekly report");
    assert_ne!(
        once(longer.as_bytes()).split_once("\r\n\r\n").unwrap().1,
        plain.split_once("\r\n\r\n").unwrap().1
    );
    site.assert_nothing_clear("encrypted");
    let log = site.log();
    assert!(log.contains("outcome=unchanged reason=pgp-mime "), "{log}");
}

/// One recipient in two spellings gets one copy, and each spelling its answer.
#[test]
fn two_spellings_of_a_recipient_get_one_copy() {
    let Some(site) = Site::with(RULES) else { return };
    let spellings =
        ["team@team.example", "Team@TEAM.example.", "\"team\"@team.example", ALICE, "ALICE@example.org"];
    assert_eq!(site.send(&spellings, MAIL), [250; 5]);
    let left = site.left();
    let recipients: Vec<&str> = left.iter().map(|taken| &*taken.recipient).collect();
    assert_eq!(recipients, ["<alice@example.org>", "<team@team.example>"]);
    assert_eq!(
        site.log().lines().filter(|line| line.contains(" outcome=sealed ")).count(),
        5,
        "{}",
        site.log()
    );
    site.next.refuse("<team@team.example>", "552 5.2.2 over quota\r\n");
    assert_eq!(site.send(&spellings[..4], MAIL), [552, 552, 552, 250]);
    // One that was refused is asked for again.
    site.next.refuse("RCPT <team@team.example>", "550 5.1.1 nobody\r\n");
    let mut client = site.leave();
    client.command("MAIL FROM:<a@b.example>", 250).unwrap();
    client.command("RCPT TO:<team@team.example>", 550).unwrap();
    client.command("RCPT TO:<Team@team.example>", 250).unwrap();
}

/// A client that takes one answer sends all of a message again: nobody has got it then whose copy could wait for the others.
#[test]
fn one_answer_for_all_is_given_before_anybody_has_the_message() {
    let Some(site) = Site::with(RULES) else { return };
    // Not every rule hides it.
    let mail = String::from_utf8_lossy(MAIL).replace("Subject: canary-7d0b41", "Subject: x");
    let send = |recipients: &[&str]| {
        let mut client = site.leave();
        client.command("EHLO opensmtpd.example", 250).unwrap();
        client.command("MAIL FROM:<a@host.example>", 250).unwrap();
        for recipient in recipients {
            client.command(&format!("RCPT TO:<{recipient}>"), 250).unwrap();
        }
        client.command("DATA", 354).unwrap();
        client.send_raw(format!("{mail}.\r\n").as_bytes()).unwrap();
        client.reply().unwrap().code
    };
    let all = ["team@team.example", ALICE, BOB];
    assert_eq!(send(&all), 250);
    assert_eq!(site.left().len(), 3);
    for (step, fault) in [
        (Step::Data, Fault::Say("451 4.3.0 not now\r\n")),
        (Step::Data, Fault::Close),
        (Step::Message, Fault::Close),
        (Step::Dot, Fault::Close),
    ] {
        site.next.fail(step, fault.clone());
        assert_eq!(send(&all), 451, "{step:?} {fault:?}");
        assert!(site.left().is_empty(), "{step:?} {fault:?}");
    }
    assert_eq!(send(&all), 250);
    assert_eq!(site.left().len(), 3);
    // What is refused for good keeps nobody else's copy back, and does not come again with it.
    site.next.refuse("<team@team.example>", "554 5.7.1 refused\r\n");
    assert_eq!(send(&all), 554);
    assert_eq!(site.left().len(), 2);
    site.assert_nothing_clear("one answer");
}
