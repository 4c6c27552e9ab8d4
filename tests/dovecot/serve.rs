//! `mailseal serve` with a real Dovecot: LMTP before it, and its script socket.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::sys::signal::Signal;
use testing::dovecot::entity::{assert_sealed, assert_unchanged, is_sealed};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::lmtp::{Lmtp, Reply};
use testing::dovecot::server::{SENDER, Server, Setup};
use testing::dovecot::site::{Program, key_file};
use testing::dovecot::users::{ALICE, BOB, CAROL, DELIVERY_GROUP, DELIVERY_USER};
use testing::serve::Serve;

const CANARY: &str = "canary-91fc3a";
const MAIL: &str = "From: a@example.net\r\nSubject: hello\r\n\r\ncanary-91fc3a\r\n";

testing::on_each_dovecot! {
    mail_is_sealed_before_dovecot_has_it,
    an_alias_is_its_user,
    settings_of_the_users_own_count,
    a_script_of_the_users_own_that_fails_finds_the_message_sealed,
    every_way_to_fail_defers_the_mail,
    the_script_socket_seals_without_a_process,
    where_nobody_listens_dovecot_runs_the_program,
    many_deliveries_at_once_find_the_script_socket,
    dots_and_bare_ends_of_lines_stay_what_they_are,
    doctor_knows_the_doors,
}

/// A Dovecot, and the doors before it and in it.
struct Site {
    serve: Serve,
    server: Server,
}

/// The socket lets the delivery user ask for everybody.
fn setup(flavour: Flavour) -> Option<Setup> {
    let userdb = "service auth {\n  unix_listener auth-userdb {\n    mode = 0600\n    user = mail\n  }\n}\n";
    Some(Setup::with(flavour, "mailseal.sieve")?.settings(userdb))
}

impl Site {
    fn new(flavour: Flavour) -> Option<Self> {
        Some(Self::start(setup(flavour)?, ""))
    }

    /// With these lines under `[serve]`.
    fn start(setup: Setup, settings: &str) -> Self {
        let server = setup.start();
        server.enrol(ALICE, &ALICE_KEY.certificate);
        server.enrol(BOB, &BOB_KEY.certificate);
        for folder in ["doors", "run/sieve-filter"] {
            fs::create_dir(server.path(folder)).unwrap();
            server.mode(folder, 0o755);
            chown(server.path(folder), Some(DELIVERY_USER), Some(DELIVERY_GROUP)).unwrap();
        }
        let serve = serve(&server, settings);
        Self { serve, server }
    }

    fn deliver(&self, recipients: &[&str], mail: &str) -> io::Result<Vec<Reply>> {
        Lmtp::connect_unix(&self.server.path("doors/lmtp"))?.deliver(SENDER, recipients, mail.as_bytes())
    }

    #[track_caller]
    fn assert_stored(&self, recipients: &[&str], mail: &str) {
        let replies = self.deliver(recipients, mail).unwrap();
        let stored = replies.iter().all(|reply| reply.code == 250) && replies.len() == recipients.len();
        assert!(stored, "{replies:?}\n{}\n{}", self.serve.said(), self.server.log());
    }

    /// A recipient who is refused for the time being, and of whose mail nothing is kept.
    #[track_caller]
    fn assert_deferred(&self, what: &str, recipient: &str) {
        let refused = self.deliver(&[recipient], MAIL).unwrap_err().to_string();
        assert!(refused.starts_with("451 "), "{what}: {refused}");
        let leaks = self.server.files_with(CANARY);
        assert!(leaks.is_empty(), "{what}: clear text in {leaks:?}");
    }
}

/// Starts the doors: both, where Dovecot is told of the script socket.
fn serve(server: &Server, settings: &str) -> Serve {
    let whole = fs::read_to_string(server.path("mailseal.toml")).unwrap();
    let (doors, run) = (server.path("doors/lmtp"), server.path("run"));
    let text = format!(
        "[serve]\nlmtp = \"{}\"\nnext = \"lmtp:{}:{}\"\nuserdb = \"{}/auth-userdb\"\nsieve = \"{}/sieve-filter/mailseal-filter\"\n{settings}",
        doors.display(),
        server.address,
        server.lmtp_port,
        run.display(),
        run.display(),
    );
    let whole = whole.split("[serve]").next().unwrap().to_owned();
    server.write("mailseal.toml", (whole + &text).as_bytes(), 0o644);
    Serve::start(&server.path("mailseal.toml"), DELIVERY_USER, &doors, &server.path("said"))
}

fn mail_is_sealed_before_dovecot_has_it(flavour: Flavour) {
    let Some(site) = Site::new(flavour) else { return };
    let long = format!("Subject: long\r\n\r\n{}", "canary-91fc3a and more\r\n".repeat(60_000));
    for mail in [MAIL, &long] {
        site.assert_stored(&[ALICE, BOB, "alice+lists@example.org", CAROL], mail);
    }
    for (user, key, count) in [(ALICE, &ALICE_KEY, 4), (BOB, &BOB_KEY, 2)] {
        let inbox = site.server.inbox(user);
        assert_eq!(inbox.len(), count);
        let reader = Home::with(&[key]);
        for stored in inbox {
            let mail = if stored.windows(13).any(|text| text == b"Subject: long") { &long } else { MAIL };
            assert_sealed(&stored, mail.as_bytes(), &reader);
        }
    }
    assert_unchanged(&site.server.inbox(CAROL)[0], MAIL.as_bytes());
    let nobody = site.deliver(&["nobody@example.org"], MAIL).unwrap_err().to_string();
    assert!(nobody.starts_with("550 5.1.1 "), "{nobody}");
    let said = site.serve.said();
    assert!(said.contains("user=alice@example.org outcome=sealed "), "{said}");
    assert!(said.contains("user=carol@example.org outcome=unchanged reason=no-key "), "{said}");
    // The filter behind it finds them sealed.
    assert!(site.server.log().contains("reason=pgp-mime"), "{}", site.server.log());
}

fn an_alias_is_its_user(flavour: Flavour) {
    let Some(site) = Site::new(flavour) else { return };
    let users = fs::read_to_string(site.server.path("users")).unwrap();
    let home = site.server.home(ALICE);
    let alias = format!("sales@example.org:{{PLAIN}}x::::{}::userdb_user={ALICE}\n", home.display());
    site.server.write("users", (users + &alias).as_bytes(), 0o644);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    site.assert_stored(&["sales@example.org", "Sales+x@example.org"], MAIL);
    let inbox = site.server.inbox(ALICE);
    assert_eq!(inbox.len(), 2);
    let reader = Home::with(&[&ALICE_KEY]);
    inbox.iter().for_each(|stored| assert_sealed(stored, MAIL.as_bytes(), &reader));
    assert!(site.server.files_with(CANARY).is_empty());
}

fn settings_of_the_users_own_count(flavour: Flavour) {
    let Some(site) = Site::new(flavour) else { return };
    let key = format!("key={}", site.server.path(&key_file(BOB)).display());
    site.server.set_users(&[(ALICE, &[&key, "protect_headers=baseline"]), (BOB, &["off=on"])]);
    site.assert_stored(&[ALICE, BOB], MAIL);
    let sealed = site.server.only_message(ALICE);
    assert!(is_sealed(&sealed));
    assert!(!String::from_utf8_lossy(&sealed).contains("hello"), "the Subject is hidden");
    assert!(
        site.serve.said().contains("user=bob@example.org outcome=unchanged reason=off "),
        "{}",
        site.serve.said()
    );
    assert_unchanged(&site.server.only_message(BOB), MAIL.as_bytes());
    site.server.set_users(&[(ALICE, &["protect_headers=some"])]);
    let refused = site.deliver(&[ALICE], MAIL).unwrap_err().to_string();
    assert!(refused.starts_with("451 "), "{refused}");
}

/// What Sieve cannot close: Pigeonhole then stores the message as it came.
fn a_script_of_the_users_own_that_fails_finds_the_message_sealed(flavour: Flavour) {
    let Some(site) = Site::new(flavour) else { return };
    let fails = b"require \"fileinto\";\nfileinto \"a\\\\b\";\nfileinto \"INBOX/x/../y\";\n";
    site.server.write_home(ALICE, ".dovecot.sieve", fails);
    site.server.store(ALICE, MAIL.as_bytes());
    let straight = site.server.inbox(ALICE);
    assert!(!is_sealed(&straight[0]), "without the hop it is stored in clear");
    site.assert_stored(&[ALICE], MAIL);
    let inbox = site.server.inbox(ALICE);
    assert_eq!(inbox.len(), straight.len() + 1, "{}", site.server.log());
    let reader = Home::with(&[&ALICE_KEY]);
    let through = inbox.iter().find(|stored| !straight.contains(stored)).unwrap();
    assert_sealed(through, MAIL.as_bytes(), &reader);
}

/// The rows of the failure table, with the hop before Dovecot: none ends in clear.
fn every_way_to_fail_defers_the_mail(flavour: Flavour) {
    let Some(mut site) = Site::new(flavour) else { return };
    site.server.enrol(ALICE, b"not a certificate");
    site.assert_deferred("no certificate", ALICE);
    let replies = site.deliver(&[BOB], MAIL).unwrap();
    assert_eq!(replies[0].code, 250, "another user's is stored");
    fs::rename(site.server.path("keys"), site.server.path("away")).unwrap();
    site.assert_deferred("the store is away", BOB);
    site.assert_deferred("the store is away, for one who has none", CAROL);
    fs::create_dir(site.server.path("keys")).unwrap();
    site.assert_deferred("an empty mount point", CAROL);
    fs::remove_dir(site.server.path("keys")).unwrap();
    fs::rename(site.server.path("away"), site.server.path("keys")).unwrap();
    site.server.enrol(ALICE, &ALICE_KEY.certificate);
    site.assert_stored(&[ALICE], MAIL);
    fs::remove_file(site.server.path(&key_file(ALICE))).unwrap();
    fs::rename(site.server.path("known"), site.server.path("unknown")).unwrap();
    site.assert_deferred("the register is away", ALICE);
    fs::rename(site.server.path("unknown"), site.server.path("known")).unwrap();
    site.server.enrol(ALICE, &ALICE_KEY.certificate);
    // The filter behind it fails: what Dovecot would keep is sealed already, and it keeps nothing.
    for program in [Program::Script("cat >/dev/null; exit 75"), Program::NotExecutable, Program::Missing] {
        site.server.install(program);
        let replies = site.deliver(&[ALICE], MAIL).unwrap();
        assert_eq!(replies[0].code, 451, "{replies:?}");
    }
    site.server.install(Program::Filter);
    fs::rename(site.server.path("run/auth-userdb"), site.server.path("run/away")).unwrap();
    site.serve.signal(Signal::SIGTERM);
    site.serve.wait();
    site.serve = serve(&site.server, "");
    site.assert_deferred("Dovecot does not say who it is", ALICE);
    fs::rename(site.server.path("run/away"), site.server.path("run/auth-userdb")).unwrap();
    site.assert_stored(&[ALICE], MAIL);
    assert!(site.server.files_with(CANARY).is_empty());
}

fn with_script_socket(flavour: Flavour) -> Option<Site> {
    let setup = setup(flavour)?.settings(&flavour.sieve_settings("sieve_filter_socket_dir = sieve-filter"));
    // All of them are Alice's.
    let setup = setup.settings("lmtp_user_concurrency_limit = 1000\n");
    Some(Site::start(setup, ""))
}

fn the_script_socket_seals_without_a_process(flavour: Flavour) {
    let Some(site) = with_script_socket(flavour) else { return };
    site.server.install(Program::Script("cat >/dev/null; exit 75"));
    let long = format!("Subject: long\r\n\r\n{}", "canary-91fc3a and more\r\n".repeat(60_000));
    let reader = Home::with(&[&ALICE_KEY]);
    for (count, mail) in [MAIL, &long].into_iter().enumerate() {
        site.server.store(ALICE, mail.as_bytes());
        assert_eq!(site.server.lda(ALICE, mail.as_bytes()), 0, "{}", site.server.log());
        let inbox = site.server.inbox(ALICE);
        assert_eq!(inbox.len(), 2 * count + 2);
        inbox[2 * count..].iter().for_each(|stored| assert_sealed(stored, mail.as_bytes(), &reader));
    }
    assert!(site.serve.said().contains(" door=sieve"), "{}", site.serve.said());
    site.server.enrol(ALICE, b"not a certificate");
    site.server.assert_deferred("no certificate", MAIL.as_bytes(), CANARY);
    // One that was killed leaves its socket behind: nobody answers there, and nothing is stored.
    let mut site = site;
    site.serve.signal(Signal::SIGKILL);
    site.serve.wait();
    site.server.enrol(ALICE, &ALICE_KEY.certificate);
    site.server.assert_deferred("nobody behind the socket", MAIL.as_bytes(), CANARY);
}

fn where_nobody_listens_dovecot_runs_the_program(flavour: Flavour) {
    let Some(mut site) = with_script_socket(flavour) else { return };
    site.serve.signal(Signal::SIGTERM);
    assert!(site.serve.wait().success());
    site.server.store(ALICE, MAIL.as_bytes());
    assert_sealed(&site.server.only_message(ALICE), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
}

fn many_deliveries_at_once_find_the_script_socket(flavour: Flavour) {
    let Some(site) = with_script_socket(flavour) else { return };
    // Where the socket is not asked, this stores nothing.
    site.server.install(Program::Missing);
    let deferred = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                for _ in 0..5 {
                    while site.server.deliver(&[ALICE], MAIL.as_bytes()).unwrap()[0].code != 250 {
                        deferred.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (deferred, time) = (deferred.into_inner(), start.elapsed().as_secs_f64());
    println!("MEASURED: 160 deliveries on 32 connections: {time:.2} s, {deferred} deferred before");
    // Where there is no turn for Dovecot, it may notice too late that it has connected.
    let late = site.server.log().matches("Connection timed out (> 5 msecs)").count();
    assert_eq!(deferred, late, "each for that reason: {}", site.server.log());
    assert_eq!(site.server.inbox(ALICE).len(), 160);
    assert!(site.server.files_with(CANARY).is_empty());
}

fn dots_and_bare_ends_of_lines_stay_what_they_are(flavour: Flavour) {
    let Some(site) = Site::new(flavour) else { return };
    let mail = "Subject: dots\r\n\r\n.\r\n..\r\n.x\r\na\n.b\r\nc\rd\r\n";
    site.assert_stored(&[CAROL, ALICE], mail);
    let stored = site.server.only_message(CAROL);
    let shown = String::from_utf8_lossy(&stored).into_owned();
    assert!(shown.ends_with("\r\n\r\n.\r\n..\r\n.x\r\na\r\n.b\r\nc\rd\r\n"), "{shown:?}");
}

fn doctor_knows_the_doors(flavour: Flavour) {
    let Some(mut site) = Site::new(flavour) else { return };
    let program = site.server.path("libexec/mailseal");
    testing::install("mailseal", &program);
    let doctor = |site: &Site| {
        let mut command = site.server.flavour.command(program.to_str().unwrap());
        let output =
            command.arg("doctor").arg("--dovecot-config").arg(site.server.path("dovecot.conf")).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let report = doctor(&site);
    for door in ["lmtp", "next", "userdb", "sieve"] {
        assert!(report.contains(&format!("ok       door: {door} ")), "{report}");
    }
    assert!(report.contains("delivers past this door"), "{report}");
    assert!(report.contains("Dovecot is not told of "), "{report}");
    site.serve.signal(Signal::SIGTERM);
    site.serve.wait();
    let report = doctor(&site);
    assert!(report.contains("FAILURE  door: lmtp ") && report.contains("do: start it"), "{report}");
    site.server.mode("run/auth-userdb", 0o666);
    let report = doctor(&site);
    assert!(report.contains("FAILURE  door: ") && report.contains("mode 0666"), "{report}");
}
