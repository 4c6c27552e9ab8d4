//! Deliveries through a real Dovecot: what is stored opens to what was sent, for its owner and nobody else.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use testing::dovecot::entity::{assert_sealed, assert_unchanged, is_sealed};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::server::{Server, Setup, start, wait_until};
use testing::dovecot::site::{HELD_OPEN, Program};
use testing::dovecot::users::{ALICE, BOB, CAROL, DASH, DELIVERY_GROUP, DELIVERY_USER};
use testing::smime;
use testing::variants::to_lf;

const PLAIN: &str = "From: a@example.net\nTo: b@example.org\nSubject: plain\n\nOne line.\n";

/// Mails that differ in what the entity is made of. All of them end with a line end, as LMTP sends them.
fn mails() -> Vec<Vec<u8>> {
    let large = format!(
        "Subject: large\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n{}",
        "Grüße, and seventy-odd further characters that fill this line up to its end.\n".repeat(40_000)
    );
    let texts = [
        PLAIN.to_owned(),
        "Subject: no body\n\n".to_owned(),
        "Subject: body of dots\n\n.\n..\n.hidden\n...\n".to_owned(),
        "Subject: blanks \nX-Empty:\n\n\n\n  \n\t\nend  \n".to_owned(),
        "Subject: 8bit\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\n\nGrüße aus Köln\n"
            .to_owned(),
        "content-type: TEXT/HTML;\n\tcharset=us-ascii\nSubject: folded\n and lower case\nmime-version: 1.0\n\
         CONTENT-DISPOSITION: inline\n\n<p>--=_mailseal-\n--\n"
            .to_owned(),
        "Subject: twice\nContent-Type: text/plain\nX-Between: 1\nContent-Type: text/html\n\nwhich?\n".to_owned(),
        "Received: from x\n\tby y; Mon, 1 Jan 2024 00:00:00 +0000\nSubject: nested\nMIME-Version: 1.0\n\
         Content-Type: multipart/mixed; boundary=o\n\npreamble\n--o\nContent-Type: multipart/alternative;\n \
         boundary=\"i\"\n\n--i\n\nFrom text\n--i\nContent-Type: text/html\n\n<b>x</b>\n--i--\n--o\nContent-Type: \
         message/rfc822\n\nSubject: inner\n\ninner body\n--o--\nepilogue\n"
            .to_owned(),
        "Subject: signed\nMIME-Version: 1.0\nContent-Type: multipart/signed; micalg=pgp-sha256;\n \
         protocol=\"application/pgp-signature\"; boundary=s\n\n--s\n\nsigned text\n--s\nContent-Type: \
         application/pgp-signature\n\n-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n--s--\n"
            .to_owned(),
        large,
    ];
    texts.map(String::into_bytes).into()
}

fn sealing_server(flavour: Flavour) -> Option<Server> {
    let server = start(flavour)?;
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.enrol(BOB, &BOB_KEY.certificate);
    Some(server)
}

testing::on_each_dovecot! {
    what_lmtp_stores_opens_to_what_was_sent,
    what_dovecot_lda_stores_opens_to_what_was_sent,
    without_a_certificate_the_mail_is_stored_as_it_was_sent,
    mail_that_came_encrypted_is_stored_as_it_was_sent,
    a_mail_to_two_users_is_sealed_to_each_ones_own_key,
    a_user_with_an_s_mime_certificate_gets_s_mime,
    a_mail_to_a_user_with_and_one_without_a_certificate_is_sealed_for_the_first_only,
    a_user_name_that_reads_like_an_option_is_a_name,
    a_spam_script_after_ours_files_sealed_mail,
    a_spam_script_before_ours_that_stops_leaves_its_mail_in_clear,
    a_users_own_script_files_sealed_mail_by_its_header,
    the_running_filter_has_the_mail_users_rights_and_no_descriptor_of_dovecots,
}

fn what_lmtp_stores_opens_to_what_was_sent(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    let reader = Home::with(&[&ALICE_KEY]);
    let mails = mails();
    mails.iter().for_each(|mail| server.store(ALICE, mail));
    let stored = server.inbox(ALICE);
    assert_eq!(stored.len(), mails.len());
    stored.iter().zip(&mails).for_each(|(stored, mail)| assert_sealed(stored, mail, &reader));
}

/// What is stored is what was sent, behind the fields that Dovecot puts before it. A second delivery of it changes nothing.
fn a_user_with_an_s_mime_certificate_gets_s_mime(flavour: Flavour) {
    let Some(server) = start(flavour) else { return };
    server.enrol(ALICE, &fs::read(smime::file("p256.pem")).unwrap());
    let mails = mails();
    mails.iter().for_each(|mail| server.store(ALICE, mail));
    let stored = server.inbox(ALICE);
    assert_eq!(stored.len(), mails.len());
    for (stored, mail) in stored.iter().zip(&mails) {
        let opened = smime::openssl("p256", stored).unwrap();
        assert!(opened.starts_with(b"Mailseal-Record: mailseal1;"));
        let back = smime::decrypt(&smime::file("p256.key"), None, stored);
        assert_eq!(back.status, Some(0), "{}", back.stderr);
        let (back, mail) = (to_lf(&back.stdout), to_lf(mail));
        assert!(back.ends_with(&mail), "{}", String::from_utf8_lossy(&back[..back.len().min(2000)]));
    }
    server.store(ALICE, &stored[0]);
    let again = server.inbox(ALICE);
    let body = |mail: &[u8]| to_lf(testing::header::split(mail).body);
    assert_eq!(body(&again[mails.len()]), body(&stored[0]), "sealed twice");
}

fn what_dovecot_lda_stores_opens_to_what_was_sent(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    let reader = Home::with(&[&ALICE_KEY]);
    let mut mails = mails();
    mails.push(b"Subject: no line end\n\nat the end".to_vec());
    mails.push(b"Subject: CRLF\r\n\r\nline\r\n".to_vec());
    mails.iter().for_each(|mail| assert_eq!(server.lda(ALICE, mail), 0));
    let stored = server.inbox(ALICE);
    assert_eq!(stored.len(), mails.len());
    stored.iter().zip(&mails).for_each(|(stored, mail)| assert_sealed(stored, mail, &reader));
}

fn without_a_certificate_the_mail_is_stored_as_it_was_sent(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    let mails = mails();
    for mail in &mails {
        server.store(CAROL, mail);
        assert_eq!(server.lda(CAROL, mail), 0);
    }
    let stored = server.inbox(CAROL);
    assert_eq!(stored.len(), 2 * mails.len());
    for (pair, mail) in stored.chunks(2).zip(&mails) {
        pair.iter().for_each(|stored| assert_unchanged(stored, mail));
    }
}

fn mail_that_came_encrypted_is_stored_as_it_was_sent(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    server.store(BOB, PLAIN.as_bytes());
    let encrypted = server.only_message(BOB);
    assert!(is_sealed(&encrypted));
    server.store(ALICE, &encrypted);
    assert_eq!(server.lda(ALICE, &encrypted), 0);
    let stored = server.inbox(ALICE);
    assert_eq!(stored.len(), 2);
    stored.iter().for_each(|stored| assert_unchanged(stored, &encrypted));
}

fn a_mail_to_two_users_is_sealed_to_each_ones_own_key(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    for recipients in [[ALICE, BOB], [BOB, ALICE]] {
        let replies = server.deliver(&recipients, PLAIN.as_bytes()).unwrap();
        assert!(replies.len() == 2 && replies.iter().all(|reply| reply.code == 250), "{replies:?}");
    }
    for (user, key) in [(ALICE, &ALICE_KEY), (BOB, &BOB_KEY)] {
        let reader = Home::with(&[key]);
        let stored = server.inbox(user);
        assert_eq!(stored.len(), 2);
        stored.iter().for_each(|stored| assert_sealed(stored, PLAIN.as_bytes(), &reader));
    }
}

fn a_mail_to_a_user_with_and_one_without_a_certificate_is_sealed_for_the_first_only(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    for recipients in [[ALICE, CAROL], [CAROL, ALICE]] {
        let replies = server.deliver(&recipients, PLAIN.as_bytes()).unwrap();
        assert!(replies.len() == 2 && replies.iter().all(|reply| reply.code == 250), "{replies:?}");
    }
    let reader = Home::with(&[&ALICE_KEY]);
    server.inbox(ALICE).iter().for_each(|stored| assert_sealed(stored, PLAIN.as_bytes(), &reader));
    server.inbox(CAROL).iter().for_each(|stored| assert_unchanged(stored, PLAIN.as_bytes()));
    assert_eq!((server.inbox(ALICE).len(), server.inbox(CAROL).len()), (2, 2));
}

fn a_user_name_that_reads_like_an_option_is_a_name(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    server.store(DASH, PLAIN.as_bytes());
    assert_unchanged(&server.only_message(DASH), PLAIN.as_bytes());
}

const SPAM_SCRIPT: &str = "require [\"fileinto\", \"mailbox\"];\n\
    if header :contains \"X-Spam-Flag\" \"YES\" { fileinto :create \"Junk\"; stop; }\n";
const SPAM: &str = "Subject: buy\nX-Spam-Flag: YES\n\nCheap.\n";

fn a_spam_script_after_ours_files_sealed_mail(flavour: Flavour) {
    let Some(setup) = Setup::with(flavour, "mailseal.sieve") else { return };
    let server = setup.script_after("spam.sieve", SPAM_SCRIPT).start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.store(ALICE, SPAM.as_bytes());
    server.store(ALICE, PLAIN.as_bytes());
    let reader = Home::with(&[&ALICE_KEY]);
    let junk = server.imap(ALICE).messages("Junk");
    assert_eq!(junk.len(), 1);
    assert_sealed(&junk[0], SPAM.as_bytes(), &reader);
    assert_sealed(&server.only_message(ALICE), PLAIN.as_bytes(), &reader);
}

/// Why `mailseal.sieve` has to be the first script.
fn a_spam_script_before_ours_that_stops_leaves_its_mail_in_clear(flavour: Flavour) {
    let Some(setup) = Setup::with(flavour, "mailseal.sieve") else { return };
    let server = setup.script_first("spam.sieve", SPAM_SCRIPT).start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.store(ALICE, SPAM.as_bytes());
    server.store(ALICE, PLAIN.as_bytes());
    let junk = server.imap(ALICE).messages("Junk");
    assert_eq!(junk.len(), 1);
    assert_unchanged(&junk[0], SPAM.as_bytes());
    assert_sealed(&server.only_message(ALICE), PLAIN.as_bytes(), &Home::with(&[&ALICE_KEY]));
}

fn a_users_own_script_files_sealed_mail_by_its_header(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    let script = b"require [\"fileinto\", \"mailbox\"];\n\
        if header :is \"Subject\" \"plain\" { fileinto :create \"Plain\"; }\n";
    server.write_home(ALICE, ".dovecot.sieve", script);
    server.store(ALICE, PLAIN.as_bytes());
    assert_eq!(server.lda(ALICE, PLAIN.as_bytes()), 0);
    assert!(server.inbox(ALICE).is_empty());
    let filed = server.imap(ALICE).messages("Plain");
    assert_eq!(filed.len(), 2);
    let reader = Home::with(&[&ALICE_KEY]);
    filed.iter().for_each(|stored| assert_sealed(stored, PLAIN.as_bytes(), &reader));
}

/// Under LMTP of Dovecot 2.4.0 to 2.4.3 what it runs has root as its real user. A process none of whose user ids is root
/// and that has no capability cannot become root again: setuid(2).
fn the_running_filter_has_the_mail_users_rights_and_no_descriptor_of_dovecots(flavour: Flavour) {
    let Some(server) = sealing_server(flavour) else { return };
    server.install(Program::Script(HELD_OPEN));
    std::thread::scope(|scope| {
        let delivery = scope.spawn(|| server.store(ALICE, PLAIN.as_bytes()));
        let _release = Release(&server);
        let program = server.path("libexec/mailseal-filter");
        let mut filter = None;
        wait_until("the filter to run", || {
            assert!(!delivery.is_finished(), "the filter was never seen running");
            filter = Process::running(&program);
            filter.is_some()
        });
        let filter = filter.unwrap();
        let inherited = filter.parent().descriptors();
        assert!(!inherited.is_empty(), "Dovecot leaks descriptors, and the wrapper should have them");
        if flavour == Flavour::V2_4 {
            let ids = filter.parent().status("Uid");
            assert!(ids.starts_with(&format!("0\t{DELIVERY_USER}\t")), "no trap of 2.4.0 to 2.4.3: {ids}");
        }
        // The program makes itself safe before it reads, and it waits for the end of its input here: the
        // state that is polled for is the one it stays in.
        let wanted = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
        for (name, value) in [
            ("Uid", wanted(DELIVERY_USER)),
            ("Gid", wanted(DELIVERY_GROUP)),
            ("CapPrm", "0000000000000000".to_owned()),
            ("CapEff", "0000000000000000".to_owned()),
            ("Umask", "0077".to_owned()),
            ("core size", "0".to_owned()),
            ("owner of environ, root when no other process may look", "0".to_owned()),
            ("descriptors of Dovecot's", "0".to_owned()),
        ] {
            let actual = || match name {
                "core size" => filter.core_limit(),
                "descriptors of Dovecot's" => {
                    filter.descriptors().iter().filter(|open| inherited.contains(open)).count().to_string()
                }
                name if name.starts_with("owner") => filter.owner_of_environment().to_string(),
                name => filter.status(name),
            };
            wait_until(&format!("{name} to be {value:?}, not {:?}", actual()), || actual() == value);
        }
        let groups = filter.status("Groups");
        assert!(groups.is_empty() || groups == DELIVERY_GROUP.to_string(), "groups: {groups}");
    });
    assert_sealed(&server.only_message(ALICE), PLAIN.as_bytes(), &Home::with(&[&ALICE_KEY]));
}

/// Lets the wrapper end the filter's input, also when an assertion has failed.
struct Release<'a>(&'a Server);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.write("tmp/release", b"", 0o644);
    }
}

/// A process as `/proc` shows it.
struct Process(PathBuf);

impl Process {
    fn running(program: &Path) -> Option<Self> {
        let mut processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        // Not by name: that of a program in another mount namespace is another.
        let file = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
        let program = file(program).unwrap();
        processes.find(|process| file(&process.join("exe")) == Some(program)).map(Self)
    }

    fn parent(&self) -> Self {
        Self(Path::new("/proc").join(self.status("PPid")))
    }

    fn status(&self, name: &str) -> String {
        let status = fs::read_to_string(self.0.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }

    fn core_limit(&self) -> String {
        let limits = fs::read_to_string(self.0.join("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        core.split_whitespace().nth(4).unwrap().to_owned()
    }

    fn owner_of_environment(&self) -> u32 {
        fs::metadata(self.0.join("environ")).unwrap().uid()
    }

    /// What descriptors above the standard ones stand for.
    fn descriptors(&self) -> Vec<PathBuf> {
        let standard = ["0", "1", "2"].map(|number| fs::read_link(self.0.join("fd").join(number)).ok());
        let open = fs::read_dir(self.0.join("fd"))
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok());
        open.filter(|target| !standard.contains(&Some(target.clone()))).collect()
    }
}
