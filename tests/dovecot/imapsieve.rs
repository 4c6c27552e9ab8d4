//! The shipped imapsieve settings, through IMAP: what a mail program saves in the user's own Sent folder is sealed there,
//! and nothing anywhere else.

use testing::dovecot::entity::{assert_sealed, assert_unchanged, is_sealed};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::server::{Server, Setup};
use testing::dovecot::site::Program;
use testing::dovecot::users::{ALICE, BOB, CAROL};

const CANARY: &str = "canary-9e20c4";
const MAIL: &str = "From: alice@example.org\nTo: b@example.net\nSubject: sent\n\ncanary-9e20c4\n";

testing::on_each_dovecot! {
    what_is_saved_in_sent_is_sealed_with_its_flags_and_the_original_is_gone,
    what_is_copied_or_moved_into_sent_is_sealed,
    sealed_mail_and_mail_without_a_certificate_keep_their_uid,
    drafts_and_other_folders_are_left_alone,
    shared_and_public_folders_are_left_alone,
    a_spam_filter_learns_from_clear_mail_only,
    what_cannot_be_sealed_stays_in_clear_and_is_not_lost,
    settings_of_a_users_own_count_for_sent_mail_of_dovecot_2_3_only,
}

fn server(flavour: Flavour) -> Option<Server> {
    started(Setup::with(flavour, "mailseal.sieve")?.imapsieve())
}

fn started(setup: Setup) -> Option<Server> {
    let server = setup.start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    for user in [ALICE, CAROL] {
        let mut imap = server.imap(user);
        ["Sent", "Drafts", "Archive"].iter().for_each(|folder| {
            // With `auto`, Dovecot has made it already.
            let _ = imap.command(&format!("CREATE {folder}"));
        });
    }
    Some(server)
}

fn what_is_saved_in_sent_is_sealed_with_its_flags_and_the_original_is_gone(flavour: Flavour) {
    let Some(server) = server(flavour) else { return };
    let reader = Home::with(&[&ALICE_KEY]);
    let mut imap = server.imap(ALICE);
    let large = format!("Subject: large\n\n{}", "canary-9e20c4 and the rest of a line.\n".repeat(30_000));
    for (n, (flags, mail)) in
        [("\\Seen", MAIL), ("\\Answered \\Flagged $Label1 word", MAIL), ("\\Seen", &*large)]
            .into_iter()
            .enumerate()
    {
        imap.append("Sent", flags, mail.as_bytes()).unwrap();
        let stored = server.imap(ALICE).fetch("Sent");
        assert_eq!(stored.len(), n + 1, "the clear original is gone");
        assert_sealed(&stored[n].body, mail.as_bytes(), &reader);
        let mut flags: Vec<&str> = flags.split(' ').collect();
        flags.sort_unstable();
        assert_eq!(stored[n].flags, flags);
    }
    assert!(server.files_with(CANARY).is_empty());
}

fn what_is_copied_or_moved_into_sent_is_sealed(flavour: Flavour) {
    let Some(server) = server(flavour) else { return };
    let reader = Home::with(&[&ALICE_KEY]);
    let mut imap = server.imap(ALICE);
    imap.append("Archive", "\\Flagged $Label1", MAIL.as_bytes()).unwrap();
    imap.command("SELECT Archive").unwrap();
    imap.command("UID COPY 1:* Sent").unwrap();
    imap.command("UID MOVE 1:* Sent").unwrap();
    let stored = server.imap(ALICE).fetch("Sent");
    assert_eq!(stored.len(), 2);
    for message in stored {
        assert_sealed(&message.body, MAIL.as_bytes(), &reader);
        assert_eq!(message.flags, ["$Label1", "\\Flagged"]);
    }
    assert!(server.imap(ALICE).fetch("Archive").is_empty());
}

fn sealed_mail_and_mail_without_a_certificate_keep_their_uid(flavour: Flavour) {
    let Some(server) = server(flavour) else { return };
    server.store(ALICE, MAIL.as_bytes());
    let sealed = server.only_message(ALICE);
    assert!(is_sealed(&sealed));
    for (user, mail) in [(ALICE, &sealed[..]), (CAROL, MAIL.as_bytes())] {
        let uid = server.imap(user).append("Sent", "\\Seen $Label1", mail).unwrap();
        let stored = server.imap(user).fetch("Sent");
        assert_eq!(stored.len(), 1, "{user}");
        assert_eq!((stored[0].uid, stored[0].flags.join(" ")), (uid, "$Label1 \\Seen".to_owned()), "{user}");
        assert_unchanged(&stored[0].body, mail);
    }
}

fn drafts_and_other_folders_are_left_alone(flavour: Flavour) {
    let Some(server) = server(flavour) else { return };
    for folder in ["Drafts", "Archive", "INBOX"] {
        let uid = server.imap(ALICE).append(folder, "\\Draft", MAIL.as_bytes()).unwrap();
        let stored = server.imap(ALICE).fetch(folder);
        assert_eq!((stored.len(), stored[0].uid), (1, uid), "{folder}");
        assert_unchanged(&stored[0].body, MAIL.as_bytes());
    }
}

/// There are folders named Sent in them, too. Sealed to whoever stores it, a message there would be lost to the others.
fn shared_and_public_folders_are_left_alone(flavour: Flavour) {
    let Some(setup) = Setup::with(flavour, "mailseal.sieve") else { return };
    let namespaces = flavour.shared_namespaces(setup.site().dir());
    let Some(server) = started(setup.settings_first(flavour.acl_plugin()).settings(&namespaces).imapsieve())
    else {
        return;
    };
    server.enrol(BOB, &BOB_KEY.certificate);
    let everything = b"anyone lrwstipekxa\n";
    server.imap(BOB).command("CREATE Sent").unwrap();
    server.write_home(BOB, "Maildir/.Sent/dovecot-acl", everything);
    server.write_home("public", ".Sent/dovecot-acl", everything);
    for folder in ["Public.Sent", "Shared/bob@example.org/Sent"] {
        let mut imap = server.imap(ALICE);
        let uid =
            imap.append(folder, "", MAIL.as_bytes()).unwrap_or_else(|error| panic!("{folder}: {error}"));
        imap.append("Archive", "", MAIL.as_bytes()).unwrap();
        imap.command("SELECT Archive").unwrap();
        imap.command(&format!("UID MOVE 1:* {folder}")).unwrap();
        let stored = server.imap(ALICE).fetch(folder);
        assert_eq!(stored.iter().map(|message| message.uid).collect::<Vec<_>>(), [uid, uid + 1], "{folder}");
        stored.iter().for_each(|message| assert_unchanged(&message.body, MAIL.as_bytes()));
    }
}

fn a_spam_filter_learns_from_clear_mail_only(flavour: Flavour) {
    let Some(setup) = Setup::with(flavour, "mailseal.sieve") else { return };
    let learned = setup.site().path("tmp/learned");
    let note = format!("{{ echo \"$1\"; grep Subject; }} >>{}", learned.display());
    let Some(server) = started(setup.imapsieve().learning(&note)) else { return };
    let mut imap = server.imap(ALICE);
    let _ = imap.command("CREATE Junk");
    server.store(ALICE, MAIL.replace("sent", "sealed").as_bytes());
    imap.append("INBOX", "", MAIL.replace("sent", "clear").as_bytes()).unwrap();
    imap.command("SELECT INBOX").unwrap();
    imap.command("UID MOVE 1:* Junk").unwrap();
    let learned = || std::fs::read_to_string(&learned).unwrap_or_default().replace('\r', "");
    assert_eq!(learned(), "spam\nSubject: clear\n");
    imap.command("SELECT Junk").unwrap();
    imap.command("UID MOVE 1:* INBOX").unwrap();
    assert_eq!(learned(), "spam\nSubject: clear\nham\nSubject: clear\n");
    assert_eq!(server.inbox(ALICE).len(), 2);
}

/// Dovecot saves first and asks afterwards: it fails open, as docs/sent-mail.md says.
fn what_cannot_be_sealed_stays_in_clear_and_is_not_lost(flavour: Flavour) {
    let Some(server) = server(flavour) else { return };
    for (n, program) in
        [Program::Script("cat >/dev/null; exit 75"), Program::Missing, Program::Script("cat; kill -9 $$")]
            .into_iter()
            .enumerate()
    {
        server.install(program);
        server.imap(ALICE).append("Sent", "\\Seen", MAIL.as_bytes()).unwrap();
        let stored = server.imap(ALICE).fetch("Sent");
        assert_eq!(stored.len(), n + 1);
        assert_unchanged(&stored[n].body, MAIL.as_bytes());
    }
}

/// Dovecot 2.4.1 gives imapsieve no setting from the user database (docs/dovecot.md says so): what is enrolled counts there.
fn settings_of_a_users_own_count_for_sent_mail_of_dovecot_2_3_only(flavour: Flavour) {
    let Some(server) = server(flavour) else { return };
    server.write("bob.pgp", &BOB_KEY.certificate, 0o644);
    let key = format!("key={}", server.path("bob.pgp").display());
    server.set_users(&[(ALICE, &[&*key]), (CAROL, &[&*key, "off=on"])]);
    for user in [ALICE, CAROL] {
        server.imap(user).append("Sent", "", MAIL.as_bytes()).unwrap();
    }
    let sent = |user| server.imap(user).messages("Sent").remove(0);
    let own = if flavour == Flavour::V2_3 { &BOB_KEY } else { &ALICE_KEY };
    assert_sealed(&sent(ALICE), MAIL.as_bytes(), &Home::with(&[own]));
    assert_unchanged(&sent(CAROL), MAIL.as_bytes());
    server.store(ALICE, MAIL.as_bytes());
    assert_sealed(&server.only_message(ALICE), MAIL.as_bytes(), &Home::with(&[&BOB_KEY]));
}
