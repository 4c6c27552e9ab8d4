//! The pages about alerts, docs/alerts-*.md: what they say is put where they say it, and what a relay then gets is looked at.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use testing::alerts::{Alerts, SENDER, open};
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::lmtp::Lmtp;
use testing::dovecot::mta::Mta as _;
use testing::dovecot::mtas::{self, free_address};
use testing::dovecot::postfix::{LOCAL_USER, Postfix};
use testing::repository;

use crate::outgoing::{assert_clean, start_serve};

/// A page of `docs/`.
struct Page(String);

impl Page {
    fn read(name: &str) -> Self {
        Self(fs::read_to_string(repository().join("docs").join(name)).unwrap())
    }

    /// The only block of TOML.
    fn toml(&self) -> String {
        let lines = self.0.lines().skip_while(|line| line.trim() != "```toml").skip(1);
        let lines = lines.take_while(|line| line.trim() != "```");
        lines.map(|line| format!("{}\n", line.trim_start())).collect()
    }

    /// The lines of the first indented block behind `mark`.
    fn block(&self, mark: &str) -> String {
        let lines = self.0.lines().skip_while(|line| !line.contains(mark));
        let lines = lines.skip_while(|line| !line.starts_with("       "));
        let lines = lines.take_while(|line| line.starts_with("       "));
        lines.map(|line| format!("{}\n", line.trim_start())).collect()
    }
}

/// Writes the configuration that the page has, with the places of the site.
fn configure(alerts: &Alerts, page: &Page, door: &str, back: SocketAddr) {
    let site = &alerts.site;
    for (name, key) in [("ann", &ALICE_KEY), ("bea", &BOB_KEY), ("admin", &ALICE_KEY)] {
        site.write(&format!("{name}.pgp"), &key.certificate, 0o644);
    }
    let toml = page.toml();
    for installed in ["/var/spool/postfix/private/mailseal-outgoing", "127.0.0.1:10025", "/etc/mailseal/"] {
        assert!(toml.contains(installed), "{toml}");
    }
    let toml = toml.replace("/var/spool/postfix/private/mailseal-outgoing", door);
    let toml = toml.replace("127.0.0.1:10025", &back.to_string());
    let toml = toml.replace("/etc/mailseal/", &format!("{}/", site.dir().display()));
    let toml = toml.replace("[serve]\n", &format!("[serve]\nuser = \"{LOCAL_USER}\"\n"));
    site.write("mailseal.toml", format!("{toml}\n[log]\nto = \"stderr\"\n").as_bytes(), 0o644);
}

fn begin() -> Option<Alerts> {
    mtas::can_run().then(Alerts::new).flatten()
}

/// OSSEC's client speaks no EHLO, and says nothing of 8-bit text.
fn ossec(smtp: SocketAddr, to: &str, subject: &str, text: &str) {
    let mut client = Lmtp::connect_plain(smtp, "Helo notify.ossec.net").unwrap();
    client.command("Mail From: <ossec@localhost>", 250).unwrap();
    client.command(&format!("Rcpt To: <{to}>"), 250).unwrap();
    client.command("DATA", 354).unwrap();
    let mail = format!(
        "To: <{to}>\r\nFrom: OSSEC HIDS <ossec@localhost>\r\nDate: Sat, 01 Jan 2022 00:00:00 +0000\r\n\
         Subject: {subject}\r\n\r\n{text}\r\n"
    );
    client.send_raw(mail.as_bytes()).unwrap();
    client.command("\r\n.", 250).unwrap();
}

#[test]
fn securedrop() {
    let Some(alerts) = begin() else { return };
    let page = Page::read("alerts-securedrop.md");
    let (site, back) = (&alerts.site, free_address(&alerts.site));
    let postfix = Postfix::sending(site, alerts.relay_at, back, "", &page.block("/etc/postfix/virtual"));
    let door = Postfix::outgoing_door(site);
    configure(&alerts, &page, door.to_str().unwrap(), back);
    let _serve = start_serve(&alerts, door.to_str().unwrap());
    let word = alerts.canary.word();
    let [ann, bea] = [Home::with(&[&ALICE_KEY]), Home::with(&[&BOB_KEY])];
    // 200 different ones.
    let count = 200;
    for number in 0..count {
        let text = format!("ossec: output: 'check': {number} {}\n{word}", "more ".repeat(number));
        ossec(postfix.smtp(), "journalist@localhost", &format!("OSSEC {number} {word}"), &text);
    }
    let (mut sizes, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for (number, copy) in alerts.taken(count).iter().enumerate() {
        assert_eq!(copy.recipient, "<journalists@news.example>");
        let text = String::from_utf8_lossy(&copy.message).into_owned();
        let subject = text.lines().find(|line| line.starts_with("Subject:")).unwrap();
        shown.insert(subject.to_owned());
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        sizes.insert(body.len());
        if number < 5 {
            assert!([&ann, &bea].iter().all(|reader| open(copy, reader).keys == 2));
            assert!(open(copy, &ann).text.contains("ossec: output"));
        }
    }
    assert_eq!(sizes.len(), 1, "{sizes:?}");
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), ["Subject: Submissions in the past 24h"]);
    ossec(postfix.smtp(), "root@localhost", &format!("OSSEC {word}"), word);
    let taken = alerts.taken(1);
    assert_eq!(taken[0].recipient, "<admin@news.example>");
    assert_eq!(open(&taken[0], &ann).keys, 1);
    assert_clean(&alerts, &postfix);

    // A key that was lost does not make an alert empty.
    let key = fs::read(site.path("ann.pgp")).unwrap();
    site.write("ann.pgp", b"", 0o644);
    ossec(postfix.smtp(), "journalist@localhost", "OSSEC", word);
    postfix.wait_for_deferred(1);
    site.write("ann.pgp", &key, 0o644);
    postfix.flush();
    assert!(open(&alerts.taken(1)[0], &bea).text.contains(word));
    assert_clean(&alerts, &postfix);
}

#[test]
fn a_postfix_with_a_relay() {
    let Some(alerts) = begin() else { return };
    let page = Page::read("alerts-postfix.md");
    let (site, back) = (&alerts.site, free_address(&alerts.site));
    let postfix = Postfix::sending(site, alerts.relay_at, back, "", &page.block("/etc/postfix/virtual"));
    let door = Postfix::outgoing_door(site);
    configure(&alerts, &page, door.to_str().unwrap(), back);
    let _serve = start_serve(&alerts, door.to_str().unwrap());
    postfix.submit(&["-i", "-f", SENDER, "root"], alerts.mail("root").as_bytes());
    let taken = alerts.taken(1);
    assert_eq!(taken[0].recipient, "<alerts@team.example>");
    assert_eq!(open(&taken[0], &Home::with(&[&BOB_KEY])).keys, 2);
    assert_clean(&alerts, &postfix);
}
