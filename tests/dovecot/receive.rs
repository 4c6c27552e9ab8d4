//! Users enrol their own certificates: through IMAP, with messages as mail programs write them, from the folder to the first
//! sealed delivery.

use std::fs;
use std::process::Output;

use data_encoding::BASE64_MIME;
use mail_parser::MessageParser;
use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::serialize::SerializeInto as _;
use testing::dovecot::entity::{armour, assert_sealed, assert_unchanged, is_sealed};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home, Key, generate};
use testing::dovecot::server::{Server, Setup};
use testing::dovecot::users::{ALICE, BOB, CAROL};
use testing::made;

const FOLDER: &str = "Encryption";
pub(super) const MAIL: &[u8] = b"From: a@example.net\nSubject: x\n\ncanary-51ee02\n";
const CANARY: &str = "canary-51ee02";
pub(super) const DAY: u64 = 86_400;

testing::on_each_dovecot! {
    from_the_folder_to_the_first_sealed_delivery,
    what_is_moved_needs_a_message_of_the_users_own,
    five_wrong_codes_end_it,
    a_secret_key_is_refused_and_never_stored,
    what_cannot_be_taken_is_answered_in_words,
    another_key_needs_the_old_one_or_an_admin,
    an_admin_may_have_to_agree,
    a_stolen_password_gets_no_key_in_beside_the_old_one,
    what_waits_is_stopped_by_one_message,
    sealing_is_stopped_with_a_code_and_an_admin,
    two_devices_at_once_leave_one_certificate,
    others_folders_and_users_are_left_alone,
    many_hostile_messages_change_nothing,
    stored_mail_is_not_sealed_to_a_key_of_the_mailbox,
    owners_are_told_once_before_a_key_expires,
    owners_of_keys_at_home_and_those_whose_mail_waits_are_told_once,
}

/// A server whose users may enrol; `keys` are lines of `[keys]`.
pub(super) fn server(flavour: Flavour, keys: &str) -> Option<Server> {
    let server = Setup::with(flavour, "mailseal.sieve")?.receiving().start();
    configure(&server, keys);
    let made = admin(&server, &["init"]);
    assert!(made.status.success(), "{}", said(&made));
    Some(server)
}

fn configure(server: &Server, keys: &str) {
    let dir = server.dir().display();
    let text = format!(
        "[keys]\nsources = [\"file:{dir}/keys/%{{user}}.pgp\", \"dir:%{{home}}/.config/mailseal\"]\n\
         known = \"{dir}/register\"\nhomes = [\"{dir}/home\"]\nreceive-without-recovery = true\n{keys}\n[log]\nto = \"stderr\"\n"
    );
    server.write("mailseal.toml", text.as_bytes(), 0o644);
}

/// `mailseal keys …` as root, asking this server's Dovecot.
fn admin(server: &Server, arguments: &[&str]) -> Output {
    let mut mailseal = server.flavour.command(server.path("bin/mailseal").to_str().unwrap());
    mailseal.arg("--config").arg(server.path("mailseal.toml")).arg("keys").args(arguments);
    mailseal.arg("--dovecot-config").arg(server.path("dovecot.conf")).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

pub(super) fn advance(server: &Server) -> String {
    let output = admin(server, &["pending", "--advance"]);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// As Thunderbird attaches a key to a draft.
fn key_mail(key: &Key) -> Vec<u8> {
    format!(
        "Message-ID: <7f3c@example.org>\nDate: Fri, 27 Nov 2026 10:00:00 +0100\nMIME-Version: 1.0\n\
         User-Agent: Mozilla Thunderbird\nSubject: my key\nFrom: Alice <alice@example.org>\nX-Mozilla-Draft-Info: \
         internal/draft; vcard=0\nContent-Type: multipart/mixed; boundary=\"------------5fQ\"\n\n\
         This is a multi-part message in MIME format.\n--------------5fQ\nContent-Type: text/plain; charset=UTF-8\n\n\n\
         --------------5fQ\nContent-Type: application/pgp-keys; name=\"OpenPGP_0x1.asc\"\n\
         Content-Disposition: attachment; filename=\"OpenPGP_0x1.asc\"\nContent-Transfer-Encoding: base64\n\n{}\n\
         --------------5fQ--\n",
        BASE64_MIME.encode(&key.certificate)
    )
    .into_bytes()
}

fn save(server: &Server, user: &str, mail: &[u8]) {
    server.imap(user).append(FOLDER, "\\Seen", mail).unwrap();
}

fn move_there(server: &Server, user: &str, mail: &[u8]) {
    let mut imap = server.imap(user);
    let _ = imap.command("CREATE Other");
    imap.append("Other", "", mail).unwrap();
    imap.command("SELECT Other").unwrap();
    imap.command(&format!("UID MOVE 1:* {FOLDER}")).unwrap();
}

fn fingerprint(key: &Key) -> String {
    made::fingerprint(&Cert::from_bytes(&key.certificate).unwrap())
}

/// The newest message of a folder.
pub(super) fn newest(server: &Server, user: &str, folder: &str) -> Vec<u8> {
    server.imap(user).messages(folder).pop().unwrap_or_else(|| panic!("{folder} is empty: {}", server.log()))
}

/// The Subject of the newest answer.
#[track_caller]
pub(super) fn answer(server: &Server, user: &str) -> String {
    let message = newest(server, user, FOLDER);
    let parsed = MessageParser::default().parse(&message).unwrap();
    assert!(
        parsed.header_raw("Mailseal-Answer").is_some(),
        "{}\n{}",
        String::from_utf8_lossy(&message),
        server.log()
    );
    parsed.subject().unwrap().to_owned()
}

fn subject(message: &[u8]) -> String {
    MessageParser::default().parse(message).unwrap().subject().unwrap_or_default().to_owned()
}

/// The code in a text.
fn code_in(text: &str) -> String {
    let at = text.find("code-").unwrap_or_else(|| panic!("no code: {text}"));
    text[at..at + "code-".len() + 26].to_owned()
}

/// The code in the newest message of the INBOX, which `reader` opens.
#[track_caller]
fn sealed_code(server: &Server, user: &str, reader: &Home) -> String {
    let message = newest(server, user, "INBOX");
    let opened = reader.decrypt(armour(&message).unwrap()).unwrap();
    assert_eq!(opened.recipients, 1);
    let parsed = MessageParser::default().parse(&opened.plaintext).unwrap();
    code_in(&parsed.body_text(0).unwrap())
}

fn code_mail(code: &str) -> Vec<u8> {
    format!("From: Alice <alice@example.org>\nSubject: {code}\nMessage-ID: <91@example.org>\n\n\n")
        .into_bytes()
}

/// Sends `key`, and shows the code that comes.
#[track_caller]
fn confirm(server: &Server, user: &str, key: &Key) {
    save(server, user, &key_mail(key));
    assert_eq!(answer(server, user), "Your key was found: please confirm it");
    let code = sealed_code(server, user, &Home::with(&[key]));
    save(server, user, &code_mail(&code));
}

fn state_file(server: &Server, user: &str) -> std::path::PathBuf {
    server.home(user).join(".local/state/mailseal/pending/state.json")
}

fn state(server: &Server, user: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(state_file(server, user)).unwrap()).unwrap()
}

/// Lets so many seconds go by for what waits.
pub(super) fn pass(server: &Server, user: &str, seconds: u64) {
    let mut state = state(server, user);
    for name in ["until", "announced"] {
        let value = &mut state["pending"]["stage"]["Time"][name];
        *value = (value.as_u64().unwrap() - seconds).into();
    }
    fs::write(state_file(server, user), state.to_string()).unwrap();
}

fn is_clear(server: &Server, user: &str) -> bool {
    server.store(user, MAIL);
    let stored = newest(server, user, "INBOX");
    let clear = !is_sealed(&stored);
    if clear {
        assert_unchanged(&stored, MAIL);
    }
    clear
}

fn from_the_folder_to_the_first_sealed_delivery(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    save(&server, ALICE, &key_mail(&ALICE_KEY));
    assert_eq!(answer(&server, ALICE), "Your key was found: please confirm it");
    let messages = server.imap(ALICE).fetch(FOLDER);
    assert_eq!(messages.len(), 1, "the answer is in the place of the message");
    assert!(!messages[0].flags.contains(&"\\Seen".to_owned()), "{:?}", messages[0].flags);
    let text = String::from_utf8_lossy(&messages[0].body).into_owned();
    assert!(text.contains("<7f3c@example.org>") && text.contains("X-Mozilla-Draft-Info"), "{text}");
    assert_eq!(server.inbox(ALICE).len(), 1, "a sealed message");
    assert!(is_clear(&server, ALICE), "nothing is in effect");

    save(&server, ALICE, &key_mail(&ALICE_KEY));
    let code = sealed_code(&server, ALICE, &Home::with(&[&ALICE_KEY]));
    assert!(server.files_with(&code).is_empty(), "it stands nowhere in clear");
    save(&server, ALICE, &code_mail(&code));
    assert_eq!(answer(&server, ALICE), "Your mail will be encrypted");
    let announced = newest(&server, ALICE, "INBOX");
    assert_eq!(subject(&announced), "Your mail will be encrypted", "at once, in clear");
    save(&server, ALICE, &code_mail(&code));
    assert_eq!(answer(&server, ALICE), "This code does not count", "once");
    assert!(is_clear(&server, ALICE));

    let seen = |text: &str| server.inbox(ALICE).iter().filter(|message| subject(message) == text).count();
    assert!(advance(&server).contains("the day"));
    assert_eq!(seen("Your mail will be encrypted"), 1);
    pass(&server, ALICE, DAY);
    assert_eq!((advance(&server).is_empty(), seen("Your mail will be encrypted")), (false, 2), "each day");
    advance(&server);
    assert_eq!(seen("Your mail will be encrypted"), 2, "once");
    assert!(is_clear(&server, ALICE));
    pass(&server, ALICE, 2 * DAY);
    assert!(advance(&server).contains("in effect from now on"));
    assert_eq!(subject(&newest(&server, ALICE, "INBOX")), "Your mail is encrypted from now on");
    assert!(server.path(&format!("register/{ALICE}")).exists(), "she is known");
    server.store(ALICE, MAIL);
    assert_sealed(&newest(&server, ALICE, "INBOX"), MAIL, &Home::with(&[&ALICE_KEY]));
    assert_eq!(advance(&server), "", "nothing waits");
    save(&server, ALICE, &key_mail(&ALICE_KEY));
    assert_eq!(answer(&server, ALICE), "This key is in use already");
}

fn what_is_moved_needs_a_message_of_the_users_own(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    let delivered =
        [&b"Received: from mallory\nReturn-Path: <m@example.net>\n"[..], &key_mail(&ALICE_KEY)].concat();
    move_there(&server, ALICE, &delivered);
    assert_eq!(answer(&server, ALICE), "Is this your key?");
    assert!(server.inbox(ALICE).is_empty(), "no sealed message comes");
    let nonce = code_in(&String::from_utf8_lossy(&newest(&server, ALICE, FOLDER)));
    // What was delivered does not count, whatever it says; nor does the answer itself, moved about.
    move_there(&server, ALICE, &[&b"Received: from mallory\n"[..], &code_mail(&nonce)].concat());
    assert_eq!(answer(&server, ALICE), "This code does not count");
    let mut imap = server.imap(ALICE);
    imap.command(&format!("SELECT {FOLDER}")).unwrap();
    imap.command("UID MOVE 1:* Other").unwrap();
    imap.command("SELECT Other").unwrap();
    imap.command(&format!("UID MOVE 1:* {FOLDER}")).unwrap();
    assert!(server.inbox(ALICE).is_empty());
    assert!(state(&server, ALICE)["pending"]["stage"]["Own"].is_object());
    // A draft of the user's own does, moved there as Thunderbird does it.
    move_there(&server, ALICE, &code_mail(&nonce));
    assert_eq!(answer(&server, ALICE), "Your key was found: please confirm it");
    let code = sealed_code(&server, ALICE, &Home::with(&[&ALICE_KEY]));
    move_there(&server, ALICE, &code_mail(&code));
    assert_eq!(answer(&server, ALICE), "Your mail will be encrypted");
}

fn five_wrong_codes_end_it(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    save(&server, ALICE, &key_mail(&ALICE_KEY));
    let code = sealed_code(&server, ALICE, &Home::with(&[&ALICE_KEY]));
    let wrong = format!("code-{}", "y".repeat(26));
    for _ in 0..4 {
        save(&server, ALICE, &code_mail(&wrong));
        assert_eq!(answer(&server, ALICE), "This code does not count");
    }
    save(&server, ALICE, &code_mail(&wrong));
    assert_eq!(answer(&server, ALICE), "Please begin again");
    save(&server, ALICE, &code_mail(&code));
    assert_eq!(answer(&server, ALICE), "This code does not count", "the right one is too late");
    assert!(state(&server, ALICE)["pending"].is_null());
    // A code that is older than a week is late.
    save(&server, ALICE, &key_mail(&ALICE_KEY));
    let code = sealed_code(&server, ALICE, &Home::with(&[&ALICE_KEY]));
    let mut old = state(&server, ALICE);
    let since = &mut old["pending"]["stage"]["New"]["since"];
    *since = (since.as_u64().unwrap() - 7 * DAY - 60).into();
    fs::write(state_file(&server, ALICE), old.to_string()).unwrap();
    save(&server, ALICE, &code_mail(&code));
    assert_eq!(answer(&server, ALICE), "Please begin again");
}

fn a_secret_key_is_refused_and_never_stored(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    let secret = Key { certificate: ALICE_KEY.secret.clone(), secret: Vec::new() };
    save(&server, ALICE, &key_mail(&secret));
    assert_eq!(answer(&server, ALICE), "Your secret key is exposed");
    assert!(server.inbox(ALICE).is_empty() && state(&server, ALICE)["pending"].is_null());
    let state = fs::read(state_file(&server, ALICE)).unwrap();
    assert!(state.len() < 200, "nothing of it");
    assert_eq!(server.imap(ALICE).messages(FOLDER).len(), 1, "the message is not lost");
}

fn what_cannot_be_taken_is_answered_in_words(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    let huge = format!("Subject: keys\n\n{}", "mQENBFzzz0123456789\n".repeat(300_000));
    let cut = "Subject: x\n\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF\n";
    let encrypted = "Subject: Re: x\nContent-Type: multipart/encrypted; boundary=b\n\n--b\n\n--b--\n";
    let html = "Subject: x\nContent-Type: text/html\n\n<html><body><p>Hello</p></body></html>\n";
    let forwarded = format!(
        "Subject: Fwd: key\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\n\
         see below\n--b\nContent-Type: message/rfc822\n\n{}\n--b--\n",
        String::from_utf8_lossy(&key_mail(&ALICE_KEY))
    );
    for (mail, expected) in [
        (huge.as_bytes(), "Your key was not taken"),
        (&key_mail(&BOB_KEY), "Your key was not taken"),
        (cut.as_bytes(), "Your key was not taken"),
        (encrypted.as_bytes(), "This message cannot be read here"),
        (html.as_bytes(), "No key was found"),
        (forwarded.as_bytes(), "No key was found"),
        (b"Subject: hello\n\n", "No key was found"),
        (b"Subject: stop\n\n", "There is nothing to stop"),
    ] {
        save(&server, ALICE, mail);
        assert_eq!(
            answer(&server, ALICE),
            expected,
            "{}",
            String::from_utf8_lossy(&mail[..mail.len().min(300)])
        );
        assert!(state(&server, ALICE)["pending"].is_null());
        let kept = newest(&server, ALICE, FOLDER);
        assert!(kept.len() > mail.len(), "the message is attached whole");
    }
    assert!(server.inbox(ALICE).is_empty() && is_clear(&server, ALICE));
    for (keys, expected) in [
        ("receive = \"off\"", "Your key cannot be taken"),
        ("receive = \"mailbox\"\nrecovery = [\"/none\"]", "Your key cannot be taken"),
    ] {
        configure(&server, keys);
        save(&server, ALICE, &key_mail(&ALICE_KEY));
        assert_eq!(answer(&server, ALICE), expected, "{keys}");
    }
    // Where the program is not there, the message stays.
    fs::remove_file(server.path("bin/mailseal")).unwrap();
    save(&server, ALICE, MAIL);
    assert_unchanged(&newest(&server, ALICE, FOLDER), MAIL);
}

fn another_key_needs_the_old_one_or_an_admin(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    confirm(&server, ALICE, &ALICE_KEY);
    pass(&server, ALICE, 3 * DAY);
    advance(&server);
    let second = generate(ALICE);
    confirm(&server, ALICE, &second);
    assert_eq!(answer(&server, ALICE), "One more code, for the key that you have now");
    let message = newest(&server, ALICE, "INBOX");
    assert!(
        Home::with(&[&second]).decrypt(armour(&message).unwrap()).is_err(),
        "the new key does not open it"
    );
    let code = sealed_code(&server, ALICE, &Home::with(&[&ALICE_KEY]));
    save(&server, ALICE, &code_mail(&code));
    assert_eq!(answer(&server, ALICE), "Your mail will be encrypted");
    pass(&server, ALICE, 3 * DAY);
    assert!(advance(&server).contains("in effect"));
    server.store(ALICE, MAIL);
    assert_sealed(&newest(&server, ALICE, "INBOX"), MAIL, &Home::with(&[&second]));

    // What an admin has enrolled only an admin replaces.
    server.enrol(BOB, &BOB_KEY.certificate);
    let other = generate(BOB);
    confirm(&server, BOB, &other);
    let code = sealed_code(&server, BOB, &Home::with(&[&BOB_KEY]));
    save(&server, BOB, &code_mail(&code));
    assert_eq!(answer(&server, BOB), "Your key waits for your administrator");
    advance(&server);
    server.store(BOB, MAIL);
    assert_sealed(&newest(&server, BOB, "INBOX"), MAIL, &Home::with(&[&BOB_KEY]));
    let unnamed = admin(&server, &["approve", BOB]);
    assert!(!unnamed.status.success() && said(&unnamed).contains("was not said"), "{}", said(&unnamed));
    let wrong = admin(&server, &["approve", BOB, &"A".repeat(40)]);
    assert!(!wrong.status.success() && said(&wrong).contains("another key"), "{}", said(&wrong));
    let approved = admin(&server, &["approve", BOB, &fingerprint(&other)]);
    assert!(approved.status.success(), "{}", said(&approved));
    server.store(BOB, MAIL);
    assert_sealed(&newest(&server, BOB, "INBOX"), MAIL, &Home::with(&[&other]));
    assert!(!admin(&server, &["approve", BOB]).status.success(), "nothing waits any more");
}

fn an_admin_may_have_to_agree(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"approve\"") else { return };
    save(&server, ALICE, &key_mail(&ALICE_KEY));
    let early = admin(&server, &["approve", ALICE]);
    assert!(!early.status.success() && said(&early).contains("have not shown"), "{}", said(&early));
    let code = sealed_code(&server, ALICE, &Home::with(&[&ALICE_KEY]));
    save(&server, ALICE, &code_mail(&code));
    assert_eq!(answer(&server, ALICE), "Your key waits for your administrator");
    let listed = admin(&server, &["pending", "--json"]);
    let rows: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&rows[0]["user"], &rows[0]["waits_for"]), (&ALICE.into(), &"an admin".into()), "{rows}");
    // Of others who cannot be asked it says so.
    server.write("users.list", format!("nobody@example.org\n{ALICE}\n").as_bytes(), 0o644);
    let listed = admin(&server, &["pending", "--users", server.path("users.list").to_str().unwrap()]);
    let text = said(&listed);
    assert_eq!(listed.status.code(), Some(1), "{text}");
    assert!(text.contains("user nobody@example.org: ") && text.contains(ALICE), "{text}");
    advance(&server);
    assert!(is_clear(&server, ALICE));
    let approved = admin(&server, &["approve", ALICE]);
    assert!(approved.status.success(), "{}", said(&approved));
    server.store(ALICE, MAIL);
    assert_sealed(&newest(&server, ALICE, "INBOX"), MAIL, &Home::with(&[&ALICE_KEY]));
}

/// The old key is sent once more, together with one of a thief's: its owner is asked all the same, by a code for that key alone.
fn a_stolen_password_gets_no_key_in_beside_the_old_one(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    confirm(&server, ALICE, &ALICE_KEY);
    pass(&server, ALICE, 3 * DAY);
    advance(&server);
    let thiefs = generate(ALICE);
    let both = [&ALICE_KEY.certificate[..], &thiefs.certificate].concat();
    confirm(&server, ALICE, &Key { certificate: both, secret: thiefs.secret.clone() });
    assert_eq!(answer(&server, ALICE), "One more code, for the key that you have now");
    let message = newest(&server, ALICE, "INBOX");
    assert!(Home::with(&[&thiefs]).decrypt(armour(&message).unwrap()).is_err());
    assert!(Home::with(&[&ALICE_KEY]).decrypt(armour(&message).unwrap()).is_ok());
    // Two new ones at once: a code would prove only one of them.
    let two = [&thiefs.certificate[..], &generate(ALICE).certificate].concat();
    save(&server, ALICE, &key_mail(&Key { certificate: two, secret: Vec::new() }));
    assert!(state(&server, ALICE)["pending"]["stage"]["Old"].is_object(), "{}", answer(&server, ALICE));
}

fn what_waits_is_stopped_by_one_message(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    confirm(&server, ALICE, &ALICE_KEY);
    // Not by mail that somebody sends.
    move_there(&server, ALICE, b"Received: x\nSubject: stop\n\n");
    assert!(state(&server, ALICE)["pending"]["stage"]["Time"].is_object());
    // Nor is it kept from being stopped by more messages than are answered in a day.
    for _ in 0..45 {
        save(&server, ALICE, b"Subject: x\n\nx\n");
    }
    save(&server, ALICE, b"Subject: Re: Your mail will be encrypted\n\nstop\n\n> quoted\n");
    assert_eq!(answer(&server, ALICE), "Stopped: your key was not taken");
    assert!(state(&server, ALICE)["pending"].is_null());
    advance(&server);
    assert!(is_clear(&server, ALICE));
}

fn sealing_is_stopped_with_a_code_and_an_admin(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    confirm(&server, ALICE, &ALICE_KEY);
    pass(&server, ALICE, 3 * DAY);
    advance(&server);
    save(&server, ALICE, b"Subject: stop\n\n");
    assert_eq!(answer(&server, ALICE), "Please confirm that your mail is to be stored in clear");
    assert!(!admin(&server, &["approve", ALICE]).status.success(), "not without the code");
    let code = sealed_code(&server, ALICE, &Home::with(&[&ALICE_KEY]));
    save(&server, ALICE, &code_mail(&code));
    assert_eq!(answer(&server, ALICE), "Your administrator is asked to stop the encryption");
    assert!(!is_clear(&server, ALICE), "until then it goes on");
    assert!(advance(&server).contains("to stop sealing"));
    let stopped = admin(&server, &["approve", ALICE]);
    assert!(stopped.status.success(), "{}", said(&stopped));
    assert!(is_clear(&server, ALICE));
}

fn two_devices_at_once_leave_one_certificate(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    let second = generate(ALICE);
    std::thread::scope(|scope| {
        for key in [&*ALICE_KEY, &second] {
            let server = &server;
            scope.spawn(move || (0..4).for_each(|_| save(server, ALICE, &key_mail(key))));
        }
    });
    let messages = server.imap(ALICE).messages(FOLDER);
    assert_eq!(messages.len(), 8, "each is answered, and none is lost");
    assert!(messages.iter().all(|message| subject(message) == "Your key was found: please confirm it"));
    let both = Home::with(&[&ALICE_KEY, &second]);
    let mut confirmed = 0;
    for message in server.inbox(ALICE) {
        let opened = both.decrypt(armour(&message).unwrap()).unwrap();
        let parsed = MessageParser::default().parse(&opened.plaintext).unwrap();
        save(&server, ALICE, &code_mail(&code_in(&parsed.body_text(0).unwrap())));
        confirmed += usize::from(answer(&server, ALICE) == "Your mail will be encrypted");
        if state(&server, ALICE)["pending"].is_null() || confirmed > 0 {
            break;
        }
    }
    assert!(confirmed <= 1);
    save(&server, ALICE, b"Subject: stop\n\n");
    confirm(&server, ALICE, &second);
    assert_eq!(answer(&server, ALICE), "Your mail will be encrypted", "the way is not barred");
}

/// Others' folders of that name, and what others deliver into one, are no messages of the user's.
fn others_folders_and_users_are_left_alone(flavour: Flavour) {
    let Some(setup) = Setup::with(flavour, "mailseal.sieve") else { return };
    let namespaces = flavour.shared_namespaces(setup.site().dir());
    let server = setup.settings_first(flavour.acl_plugin()).settings(&namespaces).receiving().start();
    configure(&server, "receive = \"mailbox\"");
    assert!(admin(&server, &["init"]).status.success());
    server.imap(BOB).command("SELECT Encryption").unwrap();
    server.write_home(BOB, "Maildir/.Encryption/dovecot-acl", b"anyone lrwstipekxa\n");
    server.write_home("public", ".Encryption/dovecot-acl", b"anyone lrwstipekxa\n");
    let mail = key_mail(&ALICE_KEY);
    for folder in [format!("Shared/{BOB}/{FOLDER}"), format!("Public.{FOLDER}")] {
        server.imap(ALICE).append(&folder, "", &mail).unwrap_or_else(|error| panic!("{folder}: {error}"));
        assert_unchanged(&newest(&server, ALICE, &folder), &mail);
    }
    for user in [ALICE, BOB] {
        assert!(!state_file(&server, user).exists(), "{user}");
    }
    // Delivered into the folder by its name, it fires nothing.
    server.write_home(CAROL, ".dovecot.sieve", b"require \"fileinto\";\nfileinto \"Encryption\";\n");
    server.store(CAROL, &mail);
    assert_unchanged(&newest(&server, CAROL, FOLDER), &mail);
    assert!(!state_file(&server, CAROL).exists());
}

/// Messages in messages, hidden from whoever only reads the outer one: the parser would need a copy of each.
fn bomb() -> Vec<u8> {
    let inner = "Content-Type: message/rfc822\r\n\r\n".repeat(20_000);
    let encoded = BASE64_MIME.encode(inner.as_bytes());
    format!("Subject: x\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{encoded}\n")
        .into_bytes()
}

/// Messages as somebody would send them, and Alice's filter moves them: nothing but what is hers changes, and not that much.
fn many_hostile_messages_change_nothing(flavour: Flavour) {
    const MESSAGES: usize = 120;
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    let kinds: [Vec<u8>; 7] = [
        key_mail(&ALICE_KEY),
        bomb(),
        key_mail(&BOB_KEY),
        b"Subject: stop\n\nstop\n".to_vec(),
        code_mail(&format!("code-{}", "y".repeat(26))),
        b"Mailseal-Answer: v1\nMailseal-Next: test\nSubject: x\n\nsave your password here\n".to_vec(),
        b"Subject: \xff\x1b]0;x\x07\nAutocrypt: keydata=====\nContent-Type: multipart/mixed; boundary=\"\"\n\n--\n".to_vec(),
    ];
    let mut imap = server.imap(ALICE);
    imap.command("CREATE Other").unwrap();
    for number in 0..MESSAGES {
        let mail = [&b"Received: from mallory\n"[..], &kinds[number % kinds.len()]].concat();
        imap.append("Other", "", &mail).unwrap();
    }
    let begin = std::time::Instant::now();
    imap.command("SELECT Other").unwrap();
    imap.command(&format!("UID MOVE 1:* {FOLDER}")).unwrap();
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
    let messages = server.imap(ALICE).messages(FOLDER);
    assert_eq!(messages.len(), MESSAGES, "none is lost");
    let answers = messages.iter().filter(|message| message.starts_with(b"From: mailseal <"));
    assert!(answers.count() <= 10, "most are left alone");
    assert!(server.inbox(ALICE).is_empty(), "no code, no announcement");
    assert!(is_clear(&server, ALICE) && server.files_with(CANARY).len() == 1);
    for user in [BOB, CAROL] {
        assert!(!server.home(user).join(".local").exists(), "{user}");
    }
    assert!(!server.home(ALICE).join(".config").exists());
    // She herself is not locked out.
    confirm(&server, ALICE, &ALICE_KEY);
    assert_eq!(answer(&server, ALICE), "Your mail will be encrypted");
}

fn stored_mail_is_not_sealed_to_a_key_of_the_mailbox(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"") else { return };
    confirm(&server, ALICE, &ALICE_KEY);
    pass(&server, ALICE, 3 * DAY);
    advance(&server);
    let shown = server
        .flavour
        .command(server.path("bin/mailseal").to_str().unwrap())
        .arg("--config")
        .arg(server.path("mailseal.toml"))
        .args(["keys", "show", ALICE, "--home"])
        .arg(server.home(ALICE))
        .output()
        .unwrap();
    assert!(said(&shown).contains("confirmed  through the mailbox only"), "{}", said(&shown));
    let bulk = server.path("libexec/encrypt-maildir");
    testing::install("encrypt-maildir", &bulk);
    let maildir = server.home(ALICE).join("Maildir");
    let run = |more: &[&str]| {
        let mut bulk = server.flavour.command(bulk.to_str().unwrap());
        bulk.args(["--progress", "never", "--user", ALICE, "--home"])
            .arg(server.home(ALICE))
            .arg("--config")
            .arg(server.path("mailseal.toml"))
            .args(more);
        bulk.arg(&maildir).output().unwrap()
    };
    for doubted in [&[][..], &["--unconfirmed"]] {
        let refused = run(doubted);
        assert!(said(&refused).contains("--accept-mailbox"), "{doubted:?}: {}", said(&refused));
    }
    let clear = || server.inbox(ALICE).iter().any(|message| !is_sealed(message));
    assert!(clear());
    let taken = run(&["--accept-mailbox"]);
    assert!(taken.status.success() && !clear(), "{}", said(&taken));
}

fn owners_are_told_once_before_a_key_expires(flavour: Flavour) {
    let Some(server) = server(flavour, "") else { return };
    let cert = made::expires_in("Alice <alice@example.org>", 5 * made::DAY);
    let key = Key { certificate: made::public(&cert), secret: cert.as_tsk().to_vec().unwrap() };
    server.enrol(ALICE, &key.certificate);
    for _ in 0..2 {
        let told = admin(&server, &["check", "--mail-owner"]);
        assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    }
    let message = server.only_message(ALICE);
    let opened = Home::with(&[&key]).decrypt(armour(&message).unwrap()).unwrap();
    let text = String::from_utf8(opened.plaintext).unwrap();
    assert!(text.contains("It expires on ") && text.contains(&made::fingerprint(&cert)), "{text}");
    assert!(server.inbox(BOB).is_empty());
}

fn owners_of_keys_at_home_and_those_whose_mail_waits_are_told_once(flavour: Flavour) {
    let Some(server) = server(flavour, "receive = \"mailbox\"\nexpired = \"defer\"") else { return };
    let cert = made::expires_in("Bob <bob@example.org>", 5 * made::DAY);
    let key = Key { certificate: made::public(&cert), secret: cert.as_tsk().to_vec().unwrap() };
    confirm(&server, BOB, &key);
    pass(&server, BOB, 3 * DAY);
    advance(&server);
    let old = made::valid_for("Carol <carol@example.org>", made::DAY);
    let carols = Key { certificate: made::public(&old), secret: old.as_tsk().to_vec().unwrap() };
    server.enrol(CAROL, &carols.certificate);
    let line = format!(
        "2026-11-20T10:00:00Z host mailseal-filter[1]: user={CAROL} outcome=deferred reason=no-usable-key ms=1\n"
    );
    server.write("log", line.as_bytes(), 0o600);
    let log = server.path("log");
    let (before, tell) = (server.inbox(BOB).len(), || {
        let told = admin(&server, &["check", "--mail-owner", "--log", log.to_str().unwrap()]);
        assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    });
    tell();
    tell();
    let bobs = server.inbox(BOB);
    assert_eq!(bobs.len(), before + 1);
    let opened = Home::with(&[&key]).decrypt(armour(bobs.last().unwrap()).unwrap()).unwrap();
    assert!(String::from_utf8(opened.plaintext).unwrap().contains("It expires on "));
    let texts = |count: usize| -> Vec<String> {
        let messages = server.inbox(CAROL);
        assert_eq!(messages.len(), count);
        let home = Home::with(&[&carols]);
        let open = |mail: &Vec<u8>| {
            String::from_utf8(home.decrypt(armour(mail).unwrap()).unwrap().plaintext).unwrap()
        };
        messages.iter().map(open).collect()
    };
    let told = texts(2);
    assert!(told[0].contains("It can no longer be used: expired"), "{told:?}");
    assert!(told[1].contains("Mail for you waits since 2026-11-20 10:00 UTC"), "{told:?}");
    // Where the program ended between the message and the note of it, the mailbox is asked.
    let path = server.path("owners-told");
    let noted = fs::read_to_string(&path).unwrap();
    let newest = server.inbox(CAROL).pop().unwrap();
    let id = MessageParser::default().parse(&newest).unwrap().message_id().unwrap().to_owned();
    for (id, count) in [(&*id, 2), ("none@mailseal.invalid", 3)] {
        fs::write(&path, noted.replace(" deferred\n", &format!(" deferred\t{id}\n"))).unwrap();
        tell();
        assert_eq!(texts(count).len(), count);
        assert_eq!(fs::read_to_string(&path).unwrap(), noted);
    }
}
