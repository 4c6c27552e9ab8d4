//! Under a real Dovecot: a mail volume that is away, new accounts without a home, and a scan that asks Dovecot for its users
//! and looks into their homes with their rights.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Output;

use testing::dovecot::entity::is_sealed;
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::ALICE_KEY;
use testing::dovecot::server::{Server, start};
use testing::dovecot::users::{ALICE, BOB, CAROL, DELIVERY_GROUP, DELIVERY_USER};

const CANARY: &str = "canary-77aa10";
const MAIL: &[u8] = b"From: a@example.net\nSubject: x\n\ncanary-77aa10\n";

testing::on_each_dovecot! {
    a_mail_volume_that_is_away_is_not_a_user_without_a_certificate,
    a_new_account_gets_its_first_mail,
    a_scan_asks_dovecot_and_looks_into_every_home,
}

fn own(server: &Server, name: &str) {
    chown(server.path(name), Some(DELIVERY_USER), Some(DELIVERY_GROUP)).unwrap();
}

/// A server whose users keep their certificates at home, and whose homes are known to lie in `home`.
fn server(flavour: Flavour) -> Option<Server> {
    let server = start(flavour)?;
    let dir = server.dir().display();
    let text = format!(
        "[keys]\nsources = [\"file:{dir}/keys/%{{user}}.pgp\", \"dir:%{{home}}/.config/mailseal\"]\n\
         known = \"{dir}/register\"\nhomes = [\"{dir}/home\"]\n[log]\nto = \"stderr\"\n"
    );
    server.write("mailseal.toml", text.as_bytes(), 0o644);
    Some(server)
}

/// `mailseal keys COMMAND`, asking this server's Dovecot.
fn keys(server: &Server, command: &str) -> Output {
    let program = server.path("libexec/mailseal");
    if !program.exists() {
        testing::install("mailseal", &program);
    }
    let mut mailseal = server.flavour.command(program.to_str().unwrap());
    mailseal.arg("--config").arg(server.path("mailseal.toml")).args(["keys", command, "--dovecot-config"]);
    mailseal.arg(server.path("dovecot.conf")).output().unwrap()
}

/// Delivers to `user` both ways, without looking into the mailbox, which would make it: deferred, and nothing is kept.
#[track_caller]
fn assert_deferred(server: &Server, user: &str, what: &str) {
    let replies = server.deliver(&[user], MAIL).unwrap();
    assert_eq!(replies[0].code, 451, "{what}: {replies:?}");
    assert_eq!(server.lda(user, MAIL), 75, "{what}");
    assert!(server.files_with(CANARY).is_empty(), "{what}");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn a_mail_volume_that_is_away_is_not_a_user_without_a_certificate(flavour: Flavour) {
    let Some(server) = server(flavour) else { return };
    server.write_home(ALICE, ".config/mailseal/key.asc", &ALICE_KEY.certificate);
    let made = keys(&server, "init");
    assert!(made.status.success(), "{}", said(&made));
    assert!(server.path(&format!("register/{ALICE}")).exists(), "{}", said(&made));
    server.store(ALICE, MAIL);
    assert!(is_sealed(&server.only_message(ALICE)));
    fs::rename(server.path("home"), server.path("volume")).unwrap();
    assert_deferred(&server, ALICE, "the volume is away");
    fs::create_dir(server.path("home")).unwrap();
    own(&server, "home");
    assert_deferred(&server, ALICE, "an empty mount point");
    // One login, and Dovecot makes the home on the wrong disk.
    server.imap(ALICE).command("CREATE there").unwrap();
    assert!(server.home(ALICE).exists());
    assert_deferred(&server, ALICE, "a home on the wrong disk");
    // Even where nobody said where homes lie: she had a certificate.
    let text = fs::read_to_string(server.path("mailseal.toml")).unwrap();
    let without: String =
        text.lines().filter(|line| !line.starts_with("homes")).map(|line| line.to_owned() + "\n").collect();
    server.write("mailseal.toml", without.as_bytes(), 0o644);
    assert_deferred(&server, ALICE, "a home on the wrong disk, no homes named");
    fs::remove_dir_all(server.path("home")).unwrap();
    fs::rename(server.path("volume"), server.path("home")).unwrap();
    server.store(ALICE, MAIL);
    assert!(server.inbox(ALICE).iter().all(|stored| is_sealed(stored)));
}

fn a_new_account_gets_its_first_mail(flavour: Flavour) {
    let Some(server) = server(flavour) else { return };
    fs::create_dir_all(server.path("home")).unwrap();
    own(&server, "home");
    assert!(!server.home(CAROL).exists());
    assert_deferred(&server, CAROL, "before `keys init`");
    let made = keys(&server, "init");
    assert!(made.status.success(), "{}", said(&made));
    server.store(CAROL, MAIL);
    assert!(!is_sealed(&server.only_message(CAROL)));
}

fn a_scan_asks_dovecot_and_looks_into_every_home(flavour: Flavour) {
    let Some(server) = server(flavour) else { return };
    fs::create_dir_all(server.path("home")).unwrap();
    own(&server, "home");
    let made = keys(&server, "init");
    assert!(made.status.success(), "{}", said(&made));
    server.write_home(BOB, ".config/mailseal/key.asc", &ALICE_KEY.certificate);
    let scanned = keys(&server, "scan");
    assert!(scanned.status.success(), "{}", said(&scanned));
    assert!(server.path(&format!("register/{BOB}")).exists(), "{}", said(&scanned));
    assert!(!server.path(&format!("register/{CAROL}")).exists());
    fs::remove_dir_all(server.home(BOB).join(".config")).unwrap();
    assert_deferred(&server, BOB, "he had one");
    // What cannot be looked into with the user's own rights could not be asked.
    server.write_home(CAROL, ".config/mailseal/key.asc", &ALICE_KEY.certificate);
    let folder = server.home(CAROL).join(".config");
    chown(&folder, Some(0), Some(0)).unwrap();
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let scanned = keys(&server, "scan");
    assert_eq!(scanned.status.code(), Some(1), "{}", said(&scanned));
    assert!(said(&scanned).contains(CAROL), "{}", said(&scanned));
    fs::remove_dir_all(&folder).unwrap();
    assert_deferred(&server, CAROL, "not asked yet");
    let scanned = keys(&server, "scan");
    assert!(scanned.status.success(), "{}", said(&scanned));
    server.store(CAROL, MAIL);
}
