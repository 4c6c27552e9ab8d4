//! From gpgit to mailseal: the certificates in users' GnuPG homes are enrolled, with the users' rights; then what `mailseal status`
//! says, to root and to a helpdesk, and a test message on its way through Dovecot.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Output;

use testing::dovecot::entity::is_sealed;
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY};
use testing::dovecot::server::{Server, start};
use testing::dovecot::site::key_file;
use testing::dovecot::users::{ALICE, BOB, CAROL, DASH, DELIVERY_GROUP};
use testing::{gnupg, made};

testing::on_each_dovecot! {
    what_gpgit_uses_is_enrolled_once,
    what_becomes_of_each_users_mail_is_told,
    a_test_message_is_delivered,
}

fn mailseal(server: &Server, arguments: &[&str]) -> (i32, String, String) {
    let program = server.path("libexec/mailseal");
    if !program.exists() {
        testing::install("mailseal", &program);
    }
    let mut command = server.flavour.command(program.to_str().unwrap());
    command.arg("--config").arg(server.path("mailseal.toml")).args(arguments);
    said(&command.arg("--dovecot-config").arg(server.path("dovecot.conf")).output().unwrap())
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn row<'a>(json: &'a serde_json::Value, user: &str) -> &'a serde_json::Value {
    json.as_array().unwrap().iter().find(|row| row["user"] == user).unwrap()
}

fn what_gpgit_uses_is_enrolled_once(flavour: Flavour) {
    let Some(server) = start(flavour) else { return };
    let secret = |home: &gnupg::Home| home.generate("gpgit <gpgit@localhost>", "rsa2048", "sign", "never");
    server.gnupg_home(ALICE, &[&ALICE_KEY.certificate], secret);
    let others = ["Bob <bob@example.org>", "Robert <bob@example.org>"]
        .map(|name| made::public(&made::expires_in(name, made::DAY * 400)));
    server.gnupg_home(BOB, &[&others[0], &others[1]], |_| ());
    server.gnupg_home(CAROL, &[], |home| home.generate(CAROL, "rsa2048", "encr,sign", "never"));
    let migrate = |more: &[&str]| mailseal(&server, &[&["migrate", "gpgit"], more].concat());

    let (status, out, err) = migrate(&["--dry-run"]);
    assert!(status == 1 && err.is_empty() && out.contains("would enrol"), "{status} {out}{err}");
    assert!(!server.path(&key_file(ALICE)).exists() && out.contains("Nothing was changed"), "{out}");

    let (status, out, err) = migrate(&["--json"]);
    assert!(status == 1 && err.is_empty(), "{out}{err}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(row(&json, ALICE)["result"], "enrolled", "{json:#}");
    assert_eq!(row(&json, BOB)["result"], "ambiguous", "{json:#}");
    assert_eq!(row(&json, BOB)["certificates"].as_array().unwrap().len(), 2);
    assert_eq!(row(&json, CAROL)["result"], "refused", "{json:#}");
    assert!(row(&json, CAROL)["reason"].as_str().unwrap().contains("secret key"), "{json:#}");
    assert_eq!(row(&json, DASH)["result"], "none", "{json:#}");
    assert!(server.path(&key_file(ALICE)).exists() && !server.path(&key_file(CAROL)).exists());
    assert!(server.path(&format!("known/{ALICE}")).exists());
    server.store(ALICE, b"From: a@example.net\nSubject: x\n\nwords\n");
    assert!(is_sealed(&server.only_message(ALICE)));

    let (status, out, _) = migrate(&[]);
    assert!(status == 1 && out.contains("already enrolled") && out.contains("mailseal setup"), "{out}");
    assert!(out.contains(&format!("| mailseal keys add {BOB} -")), "{out}");
    // A home of somebody else's choice is looked into with the user's rights alone.
    fs::remove_dir_all(server.home(BOB).join(".gnupg")).unwrap();
    std::os::unix::fs::symlink("/root", server.home(BOB).join(".gnupg")).unwrap();
    let (_, out, _) = migrate(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(["refused", "none"].contains(&row(&json, BOB)["result"].as_str().unwrap()), "{json:#}");
    // Another address than the name.
    let (_, out, _) = migrate(&["--json", "--address", "%{local}@elsewhere.example"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(row(&json, ALICE)["result"], "none", "{json:#}");
    assert_eq!(row(&json, ALICE)["address"], "alice@elsewhere.example");
}

fn what_becomes_of_each_users_mail_is_told(flavour: Flavour) {
    let Some(server) = start(flavour) else { return };
    server.configure("helpdesk = \"mail\"", "");
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.write(&key_file(BOB), b"garbage", 0o644);
    let (status, out, err) = mailseal(&server, &["status", "--json"]);
    assert!(status == 0 && err.is_empty(), "{out}{err}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let users = &json["users"];
    assert_eq!(row(users, ALICE)["state"], "sealed", "{json:#}");
    assert_eq!(row(users, ALICE)["certificates"].as_array().unwrap().len(), 1);
    assert_eq!(
        (row(users, BOB)["state"].as_str(), row(users, BOB)["reason"].as_str()),
        (Some("deferred"), Some("key-store"))
    );
    assert_eq!(
        (row(users, CAROL)["state"].as_str(), row(users, CAROL)["reason"].as_str()),
        (Some("clear"), Some("no-key"))
    );
    // As deliveries have it.
    let mail = b"From: a@example.net\nSubject: x\n\nwords\n";
    assert_eq!(server.deliver(&[BOB], mail).unwrap()[0].code, 451);
    server.store(CAROL, mail);
    assert!(!is_sealed(&server.only_message(CAROL)));

    let (_, out, _) = mailseal(&server, &["status", BOB]);
    assert!(out.contains("deferred") && out.contains("to do: ") && !out.contains(ALICE), "{out}");
    let (status, _, err) = mailseal(&server, &["status", "nobody@example.org"]);
    assert!(status == 1 && err.contains("no such user"), "{err}");

    let (_, out, err) = mailseal(&server, &["keys", "scan"]);
    let file = server.path("status.json");
    let metadata = fs::metadata(&file).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!(
        (metadata.permissions().mode() & 0o777, metadata.gid(), metadata.uid()),
        (0o640, DELIVERY_GROUP, 0)
    );
    let as_helpdesk = || {
        let mut command = server.flavour.mail_user_command(server.path("libexec/mailseal").to_str().unwrap());
        said(&command.arg("--config").arg(server.path("mailseal.toml")).arg("status").output().unwrap())
    };
    let (status, out, err) = as_helpdesk();
    assert!(status == 0 && out.starts_with("As of ") && out.contains(ALICE), "{out}{err}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let (status, out, err) = as_helpdesk();
    assert!(status == 75 && out.is_empty() && err.contains("helpdesk"), "{out}{err}");
}

fn a_test_message_is_delivered(flavour: Flavour) {
    let Some(server) = start(flavour) else { return };
    server.enrol(BOB, &BOB_KEY.certificate);
    let (status, out, err) = mailseal(&server, &["keys", "test", BOB, "--deliver"]);
    assert!(status == 0 && out.contains("keys confirm"), "{out}{err}");
    assert!(is_sealed(&server.only_message(BOB)));
    let (status, out, err) = mailseal(&server, &["keys", "test", CAROL, "--deliver"]);
    assert!(status == 75 && out.is_empty() && err.contains("no certificate"), "{out}{err}");
}
