//! `mailseal setup` on sites as admins have them: mail is sealed from then on, what the site had goes on, a second run changes
//! nothing, and `--undo` leaves what was there before.

mod bench;
mod faults;
mod refusals;
mod sites;

use std::fs;

use bench::Bench;
use sites::Sample;
use testing::dovecot::entity::{assert_sealed, assert_unchanged, is_sealed};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, Home};
use testing::dovecot::site::Site;
use testing::dovecot::users::{ALICE, CAROL, USERS};

const MAIL: &str = "From: a@example.net\nSubject: ham\n\nto be sealed\n";
const SPAM: &str = "From: a@example.net\nSubject: spam\nX-Spam-Flag: YES\n\nto be sealed, too\n";

testing::on_each_dovecot! {
    what_the_distribution_installs,
    rspamd_over_imapsieve,
    a_change_of_the_sites_own_lists_is_followed,
}

fn what_the_distribution_installs(flavour: Flavour) {
    goes_through(flavour, sites::distribution);
}

fn rspamd_over_imapsieve(flavour: Flavour) {
    goes_through(flavour, sites::rspamd);
}

#[test]
fn docker_mailserver() {
    goes_through(Flavour::V2_3, sites::docker_mailserver);
}

#[test]
fn mailcow() {
    goes_through(Flavour::V2_3, sites::mailcow);
}

#[test]
fn iredmail() {
    goes_through(Flavour::V2_3, sites::iredmail);
}

#[test]
fn mail_in_a_box() {
    goes_through(Flavour::V2_4, sites::mail_in_a_box);
}

#[test]
fn modoboa() {
    goes_through(Flavour::V2_4, sites::modoboa);
}

/// gpgit goes on behind mailseal: mail of users without a certificate is not less secret than before.
#[test]
fn gpgit_goes_on_for_users_without_a_certificate() {
    let Some(bench) = goes_through(Flavour::V2_3, sites::gpgit) else { return };
    let out = bench.set_up();
    assert!(out.contains("(gpgit) runs behind mailseal"), "{out}");
    let by_gpgit = |user: &str| {
        bench.store(user, MAIL.as_bytes());
        let last = bench.inbox(user).pop().unwrap();
        (is_sealed(&last), String::from_utf8_lossy(&last).contains("X-By-Gpgit: yes"))
    };
    assert_eq!(by_gpgit(ALICE), (true, false));
    assert_eq!(by_gpgit(CAROL), (false, true));
}

/// LMTP runs other scripts than dovecot-lda, and a number behind a gap runs in neither.
#[test]
fn users_of_the_system_and_virtual_ones() {
    let Some(bench) = Bench::start(Flavour::V2_3, sites::split) else { return };
    fs::create_dir_all(bench.path("system-homes/dave")).unwrap();
    std::os::unix::fs::chown(bench.path("system-homes/dave"), Some(9), Some(9)).unwrap();
    fs::set_permissions(bench.path("system-homes/dave"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    // A folder of homes that belongs to the user of the virtual ones is proof of nothing for the users of the system.
    USERS.iter().for_each(|user| bench.write_home(user, ".keep", b""));
    std::os::unix::fs::chown(bench.path("home"), Some(0), Some(0)).unwrap();
    bench.mode("home", 0o755);
    bench.write("tmp/any", b"", 0o666);
    bench.mode("tmp", 0o1777);
    seals_and_goes_on(&bench);
    bench.enrol("dave", &ALICE_KEY.certificate);
    bench.store("dave", MAIL.as_bytes());
    let stored = bench.imap("dave").messages("INBOX").remove(0);
    assert_sealed(&stored, MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
    assert!(!bench.imap(ALICE).folders().contains(&"Never".to_owned()));
    let text = fs::read_to_string(bench.path("mailseal.toml")).unwrap();
    let homes = format!("homes = [\"{0}/home\", \"{0}/system-homes\"]", bench.dir().display());
    assert!(text.contains(&homes), "{text}");
    is_taken_away(&bench);
}

/// All of it, on a site; the site as it is then.
fn goes_through(flavour: Flavour, sample: impl Fn(&Site) -> Sample) -> Option<Bench> {
    let bench = Bench::start(flavour, sample)?;
    seals_and_goes_on(&bench);
    is_taken_away(&bench);
    Some(bench)
}

fn seals_and_goes_on(bench: &Bench) {
    let Sample { name, place, .. } = &bench.sample;
    let untouched = bench.snapshot();
    let shown = bench.setup(&["--dry-run"]);
    assert!(shown.status == 0 && shown.err.is_empty(), "{name}: {shown:?}");
    assert!(shown.out.contains(&format!("+++ {}", bench.path(place).display())), "{name}: {}", shown.out);
    bench.assert_as(&untouched, "a dry run");

    bench.set_up();
    assert!(bench.path(place).exists(), "{name}");
    bench.enrol(ALICE, &ALICE_KEY.certificate);
    mail_is_sealed(bench);
    own_scripts_run(bench);
    sent_mail_is_sealed(bench);

    let done = bench.snapshot();
    let again = bench.set_up();
    assert!(again.starts_with("nothing to change: "), "{name}: {again}");
    bench.assert_as(&done, "a second run");
    let shown = bench.setup(&["--dry-run"]);
    assert!(shown.status == 0 && shown.out.starts_with("nothing to change: "), "{name}: {shown:?}");
}

/// Over LMTP and by dovecot-lda; mail of a user without a certificate comes as it was.
fn mail_is_sealed(bench: &Bench) {
    let reader = Home::with(&[&ALICE_KEY]);
    bench.store(ALICE, MAIL.as_bytes());
    assert_eq!(bench.lda(ALICE, MAIL.as_bytes()), 0, "{}", bench.log());
    let inbox = bench.inbox(ALICE);
    assert_eq!(inbox.len(), 2, "{}", bench.sample.name);
    inbox.iter().for_each(|stored| assert_sealed(stored, MAIL.as_bytes(), &reader));
    bench.store(CAROL, MAIL.as_bytes());
    let stored = bench.only_message(CAROL);
    assert!(!is_sealed(&stored) && String::from_utf8_lossy(&stored).contains("to be sealed"));
    // What cannot be sealed waits.
    let filter = bench.path("prefix/lib/mailseal/bin/mailseal-filter");
    fs::rename(&filter, bench.path("away")).unwrap();
    bench.assert_deferred(bench.sample.name, b"Subject: x\n\ncanary-2ab7f0\n", "canary-2ab7f0");
    fs::rename(bench.path("away"), &filter).unwrap();
}

/// The site's script files spam, which is sealed by then, and its learner is shown what is moved.
fn own_scripts_run(bench: &Bench) {
    let Some(junk) = bench.sample.junk else { return };
    let reader = Home::with(&[&ALICE_KEY]);
    bench.store(ALICE, SPAM.as_bytes());
    assert_eq!(bench.lda(ALICE, SPAM.as_bytes()), 0, "{}", bench.log());
    let stored = bench.imap(ALICE).messages(junk);
    assert_eq!(stored.len(), 2, "{}: {junk}", bench.sample.name);
    stored.iter().for_each(|stored| assert_sealed(stored, SPAM.as_bytes(), &reader));
    if !bench.sample.learns {
        return;
    }
    let mut imap = bench.imap(CAROL);
    let _ = imap.command(&format!("CREATE {junk}"));
    for (from, to) in [("INBOX", junk), (junk, "INBOX")] {
        imap.command(&format!("SELECT {from}")).unwrap();
        imap.command(&format!("UID MOVE 1:* {to}")).unwrap();
    }
    let learned = fs::read_to_string(bench.path("tmp/learned")).unwrap_or_default();
    assert_eq!(learned, "spam\nham\n", "{}\n{}", bench.sample.name, bench.log());
}

fn sent_mail_is_sealed(bench: &Bench) {
    let reader = Home::with(&[&ALICE_KEY]);
    for folder in bench.sample.sent {
        let _ = bench.imap(ALICE).command(&format!("CREATE \"{folder}\""));
        bench.imap(ALICE).append(folder, "\\Seen", MAIL.as_bytes()).unwrap();
        let stored = bench.imap(ALICE).messages(folder);
        assert_eq!(stored.len(), 1, "{}: {folder}\n{}", bench.sample.name, bench.log());
        assert_sealed(&stored[0], MAIL.as_bytes(), &reader);
    }
    bench.imap(ALICE).append("Drafts", "", MAIL.as_bytes()).unwrap_or_else(|_| {
        bench.imap(ALICE).command("CREATE Drafts").unwrap();
        bench.imap(ALICE).append("Drafts", "", MAIL.as_bytes()).unwrap()
    });
    assert_unchanged(&bench.imap(ALICE).messages("Drafts")[0], MAIL.as_bytes());
}

/// What the site had is there again, and nothing else but certificates, the register and the configuration.
fn is_taken_away(bench: &Bench) {
    let name = bench.sample.name;
    let sealed = bench.inbox(ALICE).len();
    let said = bench.setup(&["--undo"]);
    assert!(said.status == 0 && said.err.is_empty(), "{name}: {said:?}");
    for gone in [bench.sample.place, "var/sieve", "var/failclosed", "var/setup.json"] {
        assert!(!bench.path(gone).exists(), "{name}: {gone}");
    }
    for stays in ["var/known/.mailseal", "mailseal/keys/alice@example.org.pgp", "mailseal.toml"] {
        assert!(bench.path(stays).exists(), "{name}: {stays}");
    }
    assert_eq!(bench.doveconf(), bench.settings, "{name}");
    bench.store(ALICE, MAIL.as_bytes());
    let inbox = bench.inbox(ALICE);
    assert_eq!(inbox.len(), sealed + 1, "{name}");
    assert!(inbox[..sealed].iter().all(|stored| is_sealed(stored)) && !is_sealed(&inbox[sealed]), "{name}");
    let again = bench.setup(&["--undo"]);
    assert!(again.status == 0 && again.out.starts_with("nothing to take away"), "{name}: {again:?}");
}

/// Dovecot 2.3 replaces lists: what an admin adds afterwards is in ours after another run.
fn a_change_of_the_sites_own_lists_is_followed(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    bench.set_up();
    let (add, script) = match flavour {
        Flavour::V2_3 => (
            "plugin {\n  sieve_before2 = ",
            "}\nprotocol lmtp {\n  mail_plugins = $mail_plugins sieve acl\n}\n",
        ),
        Flavour::V2_4 => (
            "sieve_script new {\n  type = before\n  path = ",
            "}\nprotocol lmtp {\n  mail_plugins {\n    acl = yes\n  }\n}\n",
        ),
    };
    let new = bench.path("site/new.sieve");
    bench.put("site/new.sieve", "require [\"fileinto\", \"mailbox\"];\nfileinto :create \"New\";\nstop;\n");
    bench.put("conf.d/92-new.conf", &format!("{add}{}\n{script}", new.display()));
    let out = bench.set_up();
    if flavour == Flavour::V2_3 {
        assert!(out.starts_with("wrote "), "{out}");
    } else {
        bench.reload();
    }
    bench.enrol(ALICE, &ALICE_KEY.certificate);
    bench.store(ALICE, MAIL.as_bytes());
    let stored = bench.imap(ALICE).messages("New");
    assert!(stored.len() == 1 && is_sealed(&stored[0]), "{}", bench.log());
    assert!(bench.set_up().starts_with("nothing to change: "));
}
