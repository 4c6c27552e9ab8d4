//! The shipped Sieve scripts, each run by sieve-test, with Dovecot for its user database only: what they do when the filter works and
//! when it does not.

use std::fs;
use std::path::Path;
use testing::dovecot::entity::{assert_sealed, assert_unchanged};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, Home};
use testing::dovecot::lmtp::with_crlf;
use testing::dovecot::server::{Server, Setup};
use testing::dovecot::site::{Program, Site};
use testing::dovecot::userdb::{self, Row};
use testing::dovecot::users::{ALICE, BOB, CAROL};

const MAIL: &str = "From: a@example.net\nSubject: quick\n\nOne line.\n";
const FAILING: Program<'_> = Program::Script("cat >/dev/null; exit 75");

fn server(flavour: Flavour, script: &'static str) -> Option<Server> {
    let server = Setup::with(flavour, script)?.start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.write("mail", MAIL.as_bytes(), 0o644);
    Some(server)
}

/// Runs the global script and then, if there is one, `own`; what sieve-test said.
fn sieve_test(site: &Site, user: &str, own: Option<&str>, execute: bool) -> String {
    site.write_home(user, "own.sieve", own.unwrap_or_default().as_bytes());
    let mut command = site.flavour.command("sieve-test");
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("USER", user)
        .env("HOME", site.home(user));
    command.args(["-u", user]).arg("-c").arg(site.path("dovecot.conf"));
    command.args(["-r", user, "-f", "sender@example.net"]);
    command.args(site.flavour.sieve_test_storage(&site.home(user).join("Maildir")));
    if execute {
        command.arg("-e");
    }
    command.arg("-s").arg(site.path("sieve/mailseal.sieve"));
    let output = command.arg(site.home(user).join("own.sieve")).arg(site.path("mail")).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}\n{}", site.log());
    said
}

/// The messages in a folder of the Maildir; "" is the INBOX.
fn stored(site: &Site, user: &str, folder: &str) -> Vec<Vec<u8>> {
    let maildir = site.home(user).join("Maildir").join(folder);
    let files = |part: &str| fs::read_dir(maildir.join(part)).into_iter().flatten().flatten();
    files("new").chain(files("cur")).map(|entry| with_crlf(&fs::read(entry.path()).unwrap())).collect()
}

fn only(site: &Site, user: &str, folder: &str) -> Vec<u8> {
    let mut messages = stored(site, user, folder);
    assert_eq!(messages.len(), 1, "messages in {folder:?}");
    messages.remove(0)
}

fn every_script_seals_for_users_with_a_certificate_only(flavour: Flavour) {
    for script in ["mailseal.sieve", "mailseal-deliver-clear.sieve", "mailseal-quarantine.sieve"] {
        let Some(site) = server(flavour, script) else { return };
        sieve_test(&site, ALICE, None, true);
        assert_sealed(&only(&site, ALICE, ""), MAIL.as_bytes(), &Home::with(&[&ALICE_KEY]));
        sieve_test(&site, CAROL, None, true);
        assert_unchanged(&only(&site, CAROL, ""), MAIL.as_bytes());
    }
}

/// Each setting of a user's own, alone and together.
fn settings_of_a_users_own_reach_the_filter(flavour: Flavour) {
    let rows: [(&[&str], &str); 12] = [
        (&[], ""),
        (&["key=/k"], "<--key></k>"),
        (&["protect_headers=none"], "<--protect-headers><none>"),
        (&["protect_headers=shy", "key=/k"], "<--protect-headers><shy><--key></k>"),
        (&["key=", "protect_headers=", "off="], ""),
        (&["off=on", "key=/k"], "<--off>"),
        (&["off=1"], "<--off>"),
        (&["off=true"], "<--off>"),
        (&["off=no"], ""),
        (&["off=yes"], ""),
        (&["off=0"], ""),
        (&["off=false", "key=/k"], "<--key></k>"),
    ];
    let names: Vec<String> = (0..rows.len()).map(|n| format!("user{n}@example.org")).collect();
    let users: Vec<_> = names.iter().zip(rows).map(|(name, (settings, _))| (&**name, settings)).collect();
    for script in ["mailseal.sieve", "mailseal-deliver-clear.sieve", "mailseal-quarantine.sieve"] {
        let Some(server) = server(flavour, script) else { return };
        server.set_users(&users);
        for (name, (settings, expected)) in names.iter().zip(rows) {
            assert_called_with(&server, &format!("{script}, {settings:?}"), name, expected);
        }
    }
}

fn settings_come_from_a_passwd_file(flavour: Flavour) {
    let Some(setup) = Setup::with(flavour, "mailseal.sieve") else { return };
    userdb::passwd_file(setup.site());
    let server = setup.start();
    let both = "<--protect-headers><none><--key></etc/mailseal/shared.pgp>";
    assert_called_with(&server, "passwd-file", ALICE, both);
    assert_called_with(&server, "passwd-file", BOB, "<--off>");
}

/// The shipped examples, which do not set what is not in the database.
fn settings_come_from_sql_and_ldap(flavour: Flavour) {
    let row = |user, key, protect_headers, off| Row { user, key, protect_headers, off };
    let rows = [
        (row("none@example.com", None, None, false), ""),
        (row("key@example.com", Some("/k"), None, false), "<--key></k>"),
        (row("headers@example.com", None, Some("none"), false), "<--protect-headers><none>"),
        (row("both@example.com", Some("/k"), Some("none"), false), "<--protect-headers><none><--key></k>"),
        (row("off@example.com", Some("/k"), None, true), "<--off>"),
    ];
    let users = rows.map(|(user, _)| user);
    for database in ["sql", "ldap"] {
        let Some(setup) = Setup::with(flavour, "mailseal.sieve") else { return };
        let directory = (database == "ldap").then(|| userdb::ldap(setup.site(), &users));
        let settings = directory
            .as_ref()
            .map_or_else(|| userdb::sql(setup.site(), &users), |directory| directory.settings.clone());
        let server = setup.settings(&settings).start();
        for (row, expected) in rows {
            assert_called_with(&server, database, row.user, expected);
        }
    }
}

/// Delivers to `user`, with a program in the filter's place that writes its arguments.
fn assert_called_with(server: &Server, what: &str, user: &str, expected: &str) {
    let print = r#"cat >/dev/null; printf 'Subject: called\n\n'; for a; do printf '<%s>' "$a"; done"#;
    server.install(Program::Script(print));
    server.store(user, MAIL.as_bytes());
    let stored = String::from_utf8(only(server, user, "")).unwrap();
    let config = server.path("mailseal.toml").display().to_string();
    let expected = format!("\r\n\r\n<--config><{config}><--user><{user}>{expected}");
    assert!(stored.ends_with(&expected), "{what}, {user}: {stored}");
}

/// Pigeonhole stores in clear when an argument is longer than 1024 bytes: our script must not let it come to that.
fn a_setting_that_cannot_be_an_argument_is_a_failure(flavour: Flavour) {
    let Some(server) = server(flavour, "mailseal-quarantine.sieve") else { return };
    let (long, wide) =
        (format!("key=/{}", "k".repeat(2000)), format!("protect_headers={}", "\u{e9}".repeat(300)));
    server.set_users(&[(ALICE, &[&*long]), (CAROL, &[&*wide])]);
    for user in [ALICE, CAROL] {
        server.store(user, MAIL.as_bytes());
        assert_unchanged(&only(&server, user, ".Quarantine"), MAIL.as_bytes());
    }
}

fn the_main_script_sends_what_is_not_sealed_into_the_trap_and_nowhere_else(flavour: Flavour) {
    let Some(site) = server(flavour, "mailseal.sieve") else { return };
    site.install(FAILING);
    let said = sieve_test(&site, ALICE, Some("require \"copy\"; redirect :copy \"x@example.net\";"), false);
    let actions = said.split_once("Performed actions:").unwrap().1;
    assert!(actions.contains("store message in folder: FAILCLOSED.defer"), "{said}");
    assert_eq!(actions.matches(" * ").count(), 1, "{said}");
    assert!(said.contains("Implicit keep:\n\n  (none)"), "{said}");
}

fn the_deliver_clear_script_leaves_failed_mail_to_the_users_own_script(flavour: Flavour) {
    let Some(site) = server(flavour, "mailseal-deliver-clear.sieve") else { return };
    for (folder, program) in
        [("One", FAILING), ("Two", Program::Missing), ("Three", Program::Script("kill -9 $$"))]
    {
        site.install(program);
        let own = format!("require [\"fileinto\", \"mailbox\"]; fileinto :create \"{folder}\";");
        sieve_test(&site, ALICE, Some(&own), true);
        assert_unchanged(&only(&site, ALICE, &format!(".{folder}")), MAIL.as_bytes());
    }
    assert!(stored(&site, ALICE, "").is_empty());
}

fn the_quarantine_script_files_failed_mail_before_the_users_own_script(flavour: Flavour) {
    let Some(site) = server(flavour, "mailseal-quarantine.sieve") else { return };
    for program in [FAILING, Program::Missing, Program::Script("kill -9 $$")] {
        site.install(program);
        sieve_test(&site, ALICE, Some("discard;"), true);
        assert_unchanged(&only(&site, ALICE, ".Quarantine"), MAIL.as_bytes());
        assert!(stored(&site, ALICE, "").is_empty());
        fs::remove_dir_all(site.home(ALICE)).unwrap();
    }
}

testing::on_each_dovecot! {
    settings_of_a_users_own_reach_the_filter,
    settings_come_from_a_passwd_file,
    settings_come_from_sql_and_ldap,
    a_setting_that_cannot_be_an_argument_is_a_failure,
    every_script_seals_for_users_with_a_certificate_only,
    the_main_script_sends_what_is_not_sealed_into_the_trap_and_nowhere_else,
    the_deliver_clear_script_leaves_failed_mail_to_the_users_own_script,
    the_quarantine_script_files_failed_mail_before_the_users_own_script,
}

#[test]
fn every_shipped_file_is_in_the_readme() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sieve");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name == "README.md"
                || readme.contains(&format!("`{name}`"))
                || readme.contains(&format!("`{name}/`")),
            "{name}"
        );
    }
}
