//! `mailseal serve` between a client and a next hop of the tests' own: what each is told, whatever the other does.

mod client;
mod faults;
mod load;
mod outgoing;
mod process;
mod script;

use std::path::PathBuf;

use testing::{
    decrypt::decrypt,
    delivery::{Host, UID},
    dovecot::lmtp::{Lmtp, Reply},
    fixtures,
    next_hop::{NextHop, Taken},
    serve::Serve,
    smime,
};

const SOURCES: &str = r#"sources = ["file:DIR/keys/%{user}.pgp"]"#;
const CANARY: &str = "canary-7d0b41";
const MAIL: &[u8] =
    b"From: a@example.net\r\nSubject: hello\r\nMessage-ID: <one@example.net>\r\n\r\ncanary-7d0b41\r\n";

/// Users with a certificate each, and the fixture that it is. `carol` has none.
const ALICE: &str = "alice@example.org";
const BOB: &str = "bob@example.org";
const CAROL: &str = "carol@example.org";
const KEYS: [(&str, &str); 2] = [(ALICE, "curve25519"), (BOB, "rsa3072")];

/// A running server and what stands before and behind it. Addresses are users, there is no Dovecot.
struct Site {
    serve: Serve,
    next: NextHop,
    host: Host,
}

impl Site {
    fn new() -> Option<Self> {
        Self::with("unchanged = true\n")
    }

    /// With these lines under `[serve]`.
    fn with(settings: &str) -> Option<Self> {
        let host = prepared(settings)?;
        let next = NextHop::listen(&host.path("next"));
        std::fs::set_permissions(host.path("next"), std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        let serve = start(&host);
        Some(Self { host, next, serve })
    }

    fn door(&self) -> PathBuf {
        self.host.path("doors/lmtp")
    }

    fn client(&self) -> Lmtp {
        Lmtp::connect_unix(&self.door()).unwrap()
    }

    /// One transaction; an error is a connection that broke.
    fn deliver(&self, recipients: &[&str], mail: &[u8]) -> std::io::Result<Vec<Reply>> {
        self.client().deliver("sender@example.net", recipients, mail)
    }

    fn codes(&self, recipients: &[&str], mail: &[u8]) -> Vec<u16> {
        self.deliver(recipients, mail).unwrap().iter().map(|reply| reply.code).collect()
    }

    /// The lines of the log.
    fn log(&self) -> String {
        std::fs::read_to_string(self.host.path("log/mailseal")).unwrap_or_default()
    }

    /// Nothing in clear has been said to the next hop.
    #[track_caller]
    fn assert_nothing_clear(&self, what: &str) {
        let heard = String::from_utf8_lossy(&self.next.heard()).into_owned();
        assert!(!heard.contains(CANARY), "{what}: the next hop has heard\n{heard}");
    }
}

/// A folder with a configuration, keys and room for doors.
fn prepared(settings: &str) -> Option<Host> {
    let host = Host::new()?;
    for (user, key) in KEYS {
        host.write(&format!("keys/{user}.pgp"), &std::fs::read(fixtures::cert(key)).unwrap());
    }
    host.init(SOURCES, &[]);
    host.folder("doors");
    host.own("doors", UID, UID);
    let config = format!(
        "[keys]\nknown = \"DIR/known\"\n{SOURCES}\n[log]\nto = \"file:DIR/log/mailseal\"\n[serve]\n\
         lmtp = \"DIR/doors/lmtp\"\nsieve = \"DIR/doors/mailseal-filter\"\nnext = \"lmtp:DIR/next\"\n\
         userdb = \"none\"\n{settings}"
    );
    host.write("mailseal.toml", host.text(&config).as_bytes());
    Some(host)
}

fn start(host: &Host) -> Serve {
    Serve::start(&host.path("mailseal.toml"), UID, &host.path("doors/lmtp"), &host.path("said"))
}

/// It opens to what was sent.
#[track_caller]
fn assert_sealed(taken: &Taken, key: &str, mail: &[u8]) {
    let run = decrypt(key, &taken.message);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(run.stdout, mail, "{}", String::from_utf8_lossy(&run.stdout));
}

#[test]
fn each_recipient_gets_a_copy_sealed_to_the_recipients_own_key() {
    let Some(site) = Site::new() else { return };
    assert_eq!(site.codes(&[ALICE, CAROL, "alice+lists@example.org", BOB], MAIL), [250; 4]);
    let mut taken = site.next.take();
    taken.sort_by(|a, b| a.recipient.cmp(&b.recipient));
    let recipients: Vec<&str> = taken.iter().map(|taken| &*taken.recipient).collect();
    assert_eq!(
        recipients,
        ["<alice+lists@example.org>", "<alice@example.org>", "<bob@example.org>", "<carol@example.org>"]
    );
    assert_eq!(taken[0].message, taken[1].message, "the same key is sealed to once");
    assert_sealed(&taken[0], "curve25519", MAIL);
    assert_sealed(&taken[2], "rsa3072", MAIL);
    assert_eq!(taken[3].message, MAIL);
    for taken in &taken[..3] {
        assert!(!String::from_utf8_lossy(&taken.message).contains(CANARY));
    }
    let log = site.log();
    for (user, outcome) in [(ALICE, "sealed"), (BOB, "sealed"), (CAROL, "unchanged")] {
        let line = format!("user={user} outcome={outcome} ");
        assert!(
            log.lines().any(|it| it.starts_with(&line) && it.contains(" door=lmtp msgid=<one@example.net>")),
            "{log}"
        );
    }
    assert_eq!(log.lines().count(), 4, "{log}");
}

/// By the same doors, in one transaction with OpenPGP.
#[test]
fn who_has_an_s_mime_certificate_gets_s_mime() {
    let Some(site) = Site::new() else { return };
    let smime = ["rsa", "p384"].map(|name| std::fs::read(smime::file(&format!("{name}.pem"))).unwrap());
    site.host.write(&format!("keys/{ALICE}.pgp"), &smime[0]);
    site.host.write("keys/dora@example.org.pgp", &smime[1]);
    assert_eq!(site.codes(&[ALICE, BOB, "dora@example.org", "alice+x@example.org"], MAIL), [250; 4]);
    let mut taken = site.next.take();
    taken.sort_by(|a, b| a.recipient.cmp(&b.recipient));
    assert_eq!(taken[0].message, taken[1].message, "the same key is sealed to once");
    for (taken, key) in [(&taken[1], "rsa"), (&taken[3], "p384")] {
        let run = smime::decrypt(&smime::file(&format!("{key}.key")), None, &taken.message);
        assert_eq!(run.stdout, MAIL, "{}", run.stderr);
    }
    assert_sealed(&taken[2], "rsa3072", MAIL);
    site.assert_nothing_clear("S/MIME");
    let log = site.log();
    assert_eq!(log.matches(" warn=malleable ").count(), 3, "{log}");
    site.host.write(&format!("keys/{ALICE}.pgp"), &std::fs::read(smime::file("authority.pem")).unwrap());
    let mut client = site.client();
    client.command("MAIL FROM:<s@example.net>", 250).unwrap();
    client.command("RCPT TO:<alice@example.org>", 451).unwrap();
}

#[test]
fn a_connection_takes_one_message_after_the_other() {
    let Some(site) = Site::new() else { return };
    let mut client = site.client();
    for count in 1..=20 {
        let mail = format!("Subject: {count}\r\n\r\n.\r\n..canary-7d0b41\r\n").into_bytes();
        let replies = client.deliver("s@example.net", &[ALICE, BOB], &mail).unwrap();
        assert!(replies.iter().all(|reply| reply.code == 250), "{replies:?}");
        for taken in site.next.take() {
            let key = KEYS.iter().find(|(user, _)| taken.recipient.contains(user)).unwrap().1;
            assert_sealed(&taken, key, &mail);
        }
    }
    client.command("RSET", 250).unwrap();
    client.command("QUIT", 221).unwrap();
    site.assert_nothing_clear("sealed mail");
}

#[test]
fn each_recipient_is_answered_as_the_next_hop_answers() {
    let Some(site) = Site::new() else { return };
    site.next.refuse("<alice@example.org>", "452 4.2.2 over quota\r\n");
    site.next.refuse("<carol@example.org>", "552 5.2.2 over quota for good\r\n");
    let replies = site.deliver(&[ALICE, CAROL, BOB], MAIL).unwrap();
    let said: Vec<&str> = replies.iter().map(|reply| reply.text.trim_end()).collect();
    assert_eq!(said, ["452 4.2.2 over quota", "552 5.2.2 over quota for good", "250 2.0.0 stored"]);
    let log = site.log();
    assert!(log.contains("user=alice@example.org outcome=deferred reason=next-hop "), "{log}");
    assert!(log.contains("user=carol@example.org outcome=deferred reason=rejected "), "{log}");
    assert!(log.contains("user=bob@example.org outcome=sealed reason=- "), "{log}");

    site.next.refuse("RCPT <dave@example.org>", "550 5.1.1 no such user\r\n");
    let mut client = site.client();
    client.command("MAIL FROM:<>", 250).unwrap();
    client.command("RCPT TO:<dave@example.org>", 550).unwrap();
    client.command("DATA", 503).unwrap();
    assert_eq!(client.deliver("s@example.net", &[BOB], MAIL).unwrap_err().to_string().get(..3), Some("503"));
    client.command("RSET", 250).unwrap();
    assert_eq!(client.deliver("s@example.net", &[BOB], MAIL).unwrap()[0].code, 250);
}

#[test]
fn parameters_are_handed_on_only_where_they_are_announced() {
    let Some(site) = Site::with("unchanged = true\nsize = 1000\n") else { return };
    let send = |parameters: &str| {
        let mut client = site.client();
        client.command(&format!("MAIL FROM:<s@example.net>{parameters}"), 250).unwrap();
        client.command("RCPT TO:<\"bob\"@example.org>", 250).unwrap();
        client.command("DATA", 354).unwrap();
        client.send_raw(b"Subject: x\r\n\r\ny\r\n.\r\n").unwrap();
        assert_eq!(client.reply().unwrap().code, 250);
        let taken = site.next.take().remove(0);
        assert_eq!(taken.recipient, "<\"bob\"@example.org>", "as it was written");
        taken.mail
    };
    assert_eq!(send(" BODY=8BITMIME SMTPUTF8 SIZE=20"), "MAIL FROM:<s@example.net> BODY=8BITMIME");
    site.next.announce(&["SMTPUTF8", "SIZE 10"]);
    assert_eq!(send(" BODY=8BITMIME SMTPUTF8"), "MAIL FROM:<s@example.net> SMTPUTF8");
    site.next.announce(&[]);
    assert_eq!(send(" BODY=7BIT"), "MAIL FROM:<s@example.net>");
    let mut client = site.client();
    client.command("MAIL FROM:<s@example.net> SIZE=1001", 552).unwrap();
    client.command("MAIL FROM:<s@example.net> RET=FULL", 555).unwrap();
    assert_eq!(site.codes(&[ALICE, BOB], &[b'x'; 1200]), [552, 552]);
    assert!(site.next.take().is_empty());
}

#[test]
fn an_address_without_a_certificate_waits_unless_the_admin_says_otherwise() {
    let Some(site) = Site::with("") else { return };
    let mut client = site.client();
    client.command("MAIL FROM:<s@example.net>", 250).unwrap();
    client.command("RCPT TO:<carol@example.org>", 451).unwrap();
    client.command("RCPT TO:<alice@example.org>", 250).unwrap();
    client.command("QUIT", 221).unwrap();
    assert!(
        site.log().contains("user=carol@example.org outcome=deferred reason=key-required "),
        "{}",
        site.log()
    );
}

#[test]
fn rules_hold_as_for_a_delivery() {
    let rules = "unchanged = true\n[[users]]\nmatch = [\"alice@*\"]\nmode = \"observe\"\n[[users]]\nmatch = [\"bob@*\"]\nmode = \"off\"\n";
    let Some(site) = Site::with(rules) else { return };
    assert_eq!(site.codes(&[ALICE, BOB], MAIL), [250, 250]);
    assert!(site.next.take().iter().all(|taken| taken.message == MAIL));
    let log = site.log();
    assert!(log.contains("user=alice@example.org outcome=would-seal reason=- "), "{log}");
    assert!(log.contains("user=bob@example.org outcome=unchanged reason=off "), "{log}");
}

#[test]
fn a_certificate_that_changes_counts_from_the_next_message_on() {
    let Some(site) = Site::new() else { return };
    assert_eq!(site.codes(&[ALICE], MAIL), [250]);
    site.host.write(&format!("keys/{ALICE}.pgp"), &std::fs::read(fixtures::cert("rsa3072")).unwrap());
    assert_eq!(site.codes(&[ALICE], MAIL), [250]);
    let taken = site.next.take();
    assert_sealed(&taken[0], "curve25519", MAIL);
    assert_sealed(&taken[1], "rsa3072", MAIL);
    site.host.write(&format!("keys/{ALICE}.pgp"), b"no certificate");
    let mut client = site.client();
    client.command("MAIL FROM:<s@example.net>", 250).unwrap();
    client.command("RCPT TO:<alice@example.org>", 451).unwrap();
    // Whoever had one is not taken for somebody without.
    std::fs::remove_file(site.host.path(&format!("keys/{ALICE}.pgp"))).unwrap();
    client.command("RCPT TO:<alice@example.org>", 451).unwrap();
    site.assert_nothing_clear("no certificate");
}

#[test]
fn memory_does_not_grow_with_the_message() {
    let Some(site) = Site::new() else { return };
    assert_eq!(site.codes(&[ALICE], MAIL), [250]);
    site.next.take();
    let before = site.serve.peak_memory();
    let line = b"canary-7d0b41 and the rest of a line of common length, some of it random.\r\n";
    let mail = [b"Subject: long\r\n\r\n".as_slice(), &line.repeat(28_000_000 / line.len())].concat();
    assert_eq!(site.codes(&[ALICE, CAROL], &mail), [250, 250]);
    let after = site.serve.peak_memory();
    println!("MEASURED: {before} kB before, {after} kB after 28 MB to two sets");
    for taken in site.next.take() {
        if taken.recipient.contains(CAROL) {
            assert_eq!(taken.message.len(), mail.len());
            assert!(taken.message == mail);
        } else {
            assert_sealed(&taken, "curve25519", &mail);
        }
    }
    // Two sets, each with its stages.
    assert!(after < before + 16 * 1024, "{before} kB before, {after} kB after");
}
