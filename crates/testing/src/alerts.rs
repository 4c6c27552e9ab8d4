//! Mail that leaves a machine: who gets it, and what a relay may see of it.

use std::fs;
use std::net::SocketAddr;

use crate::canary::Canary;
use crate::dovecot::entity::is_sealed;
use crate::dovecot::flavour::Flavour;
use crate::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use crate::dovecot::mtas::free_address;
use crate::dovecot::requirement;
use crate::dovecot::server::wait_until;
use crate::dovecot::site::Site;
use crate::next_hop::{NextHop, Taken};

/// Sealed to Alice's and Bob's keys, as a team's alerts are.
pub const TEAM: &str = "alerts@team.example";
/// Sealed to the key that is enrolled for it.
pub const ALICE: &str = "alice@people.example";
/// The same.
pub const BOB: &str = "bob@people.example";
/// One for whom a key is missing.
pub const NOBODY: &str = "nobody@people.example";
/// One whom no rule is for.
pub const STRANGER: &str = "stranger@elsewhere.example";
/// Who sends.
pub const SENDER: &str = "monitor@sender.example";

/// A site that sends alerts, and the relay that they leave through.
pub struct Alerts {
    /// Its folder and its keys.
    pub site: Site,
    /// The relay.
    pub relay: NextHop,
    /// Where the relay listens.
    pub relay_at: SocketAddr,
    /// What must not be seen there.
    pub canary: Canary,
}

/// A sealed message as its recipient sees it.
pub struct Opened {
    /// Header and body.
    pub text: String,
    /// How many keys open it.
    pub keys: usize,
    /// The length of what is behind the header.
    pub body: usize,
}

impl Alerts {
    /// Makes the site; `None` where nothing of it can run here.
    pub fn new() -> Option<Self> {
        let site = requirement::can_run(Flavour::V2_3).then(|| Site::new(Flavour::V2_3, "mailseal.sieve"))?;
        site.enrol(ALICE, &ALICE_KEY.certificate);
        site.enrol(BOB, &BOB_KEY.certificate);
        let team = [&ALICE_KEY.certificate[..], &BOB_KEY.certificate].concat();
        site.write("team.pgp", &team, 0o644);
        let relay_at = free_address(&site);
        let relay = NextHop::relay(relay_at);
        let alerts = Self { relay, relay_at, canary: Canary::new(), site };
        alerts.configure("");
        Some(alerts)
    }

    /// Writes the configuration: the rules, and `more`.
    pub fn configure(&self, more: &str) {
        self.site.configure("", "");
        let rules = format!(
            r#"
[[outgoing]]
to = ["*@team.example"]
key = ["{team}"]
protect-headers = "strict"
subject = "Alert"
pad = "16KiB"

[[outgoing]]
to = ["*@people.example"]
protect-headers = "strict"
subject = "Alert"
pad = "16KiB"
"#,
            team = self.site.path("team.pgp").display()
        );
        let file = self.site.path("mailseal.toml");
        let text = fs::read_to_string(file).unwrap() + &rules + more;
        self.site.write("mailseal.toml", text.as_bytes(), 0o644);
    }

    /// An alert whose Subject and body have the canary.
    pub fn mail(&self, to: &str) -> String {
        let word = self.canary.word();
        format!(
            "From: Monitor <{SENDER}>\nTo: {to}\nDate: Sat, 1 Jan 2022 00:00:00 +0000\n\
             Message-ID: <{word}@sender.example>\nSubject: disk {word} full\nX-{word}: yes\n\n{word}\n.\n"
        )
    }

    /// Waits until the relay has taken so many copies; they, by recipient.
    #[track_caller]
    pub fn taken(&self, count: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        wait_until("the relay to get the mail", || {
            taken.extend(self.relay.take());
            taken.len() >= count
        });
        taken.sort_by(|a, b| a.recipient.cmp(&b.recipient));
        assert_eq!(taken.len(), count, "{taken:?}");
        taken
    }

    /// Nothing that the relay was told shows the canary.
    #[track_caller]
    pub fn assert_nothing_leaked(&self) {
        let heard = self.relay.heard();
        let found = self.canary.found_in(&heard);
        assert!(found.is_none(), "{found:?}: {}", String::from_utf8_lossy(&heard));
    }
}

/// Opens what the relay took; it must be sealed, and tell nothing but that.
#[track_caller]
pub fn open(taken: &Taken, reader: &Home) -> Opened {
    let message = String::from_utf8_lossy(&taken.message).into_owned();
    assert!(is_sealed(&taken.message), "not sealed: {message}");
    let (begin, end) = ("-----BEGIN PGP MESSAGE-----", "-----END PGP MESSAGE-----");
    let armor = &message[message.find(begin).unwrap()..message.find(end).unwrap() + end.len()];
    let opened = reader.decrypt(armor.as_bytes()).unwrap_or_else(|status| panic!("{status}\n{message}"));
    let body = message.len() - message.find("\r\n\r\n").unwrap();
    Opened { text: String::from_utf8_lossy(&opened.plaintext).into_owned(), keys: opened.recipients, body }
}
