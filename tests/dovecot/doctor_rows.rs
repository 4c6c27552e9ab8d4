//! The table of docs/doctor.md: each row breaks a working installation in one way that an admin met, and says what
//! `mailseal doctor` finds then. On 2.3 the page itself is checked; `ROWS=overwrite` writes it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::ALICE_KEY;
use testing::dovecot::server::{Server, Setup};
use testing::dovecot::site::{Program, key_file};
use testing::dovecot::users::{ALICE, DELIVERY_USER};

testing::on_each_dovecot! {
    each_row_is_found,
}

/// What a row changes besides files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing: the files alone are looked at.
    Nothing,
    /// Dovecot reads its settings again.
    Reload,
}

/// One way to break an installation.
struct Row {
    number: &'static str,
    /// In the words of the page.
    how: &'static str,
    /// Whether it is there in 2.4 as well.
    in_2_4: bool,
    then: Then,
    /// Severity, check, and parts of what doctor says.
    found: (&'static str, &'static str, &'static [&'static str]),
    /// A part of the line that mends it.
    mend: &'static str,
    break_it: fn(&Server),
}

/// Dovecot looks at its file of users once a second.
const LOOKS_AGAIN: Duration = Duration::from_millis(1100);

const WARNING: &str = "warning";
const FAILURE: &str = "failure";

/// What is put back after each row.
const KEPT: [&str; 11] = [
    "bin",
    "sieve",
    "keys",
    "failclosed",
    "home",
    "known",
    "first.conf",
    "extra.conf",
    "mailseal.conf",
    "mailseal.toml",
    "users",
];

fn add(server: &Server, settings: &str) {
    let extra = fs::read_to_string(server.path("extra.conf")).unwrap();
    server.write("extra.conf", format!("{extra}{settings}").as_bytes(), 0o644);
}

fn replace(server: &Server, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(server.path(file)).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    server.write(file, text.replace(from, to).as_bytes(), 0o644);
}

fn other_script(server: &Server, name: &str) -> String {
    server.write(&format!("sieve/{name}"), b"stop;\n", 0o644);
    server.path("sieve").join(name).display().to_string()
}

/// Gives Alice a field of the user database, as it stands there.
fn field(server: &Server, field: &str) {
    let line = server.flavour.user(ALICE, &[]);
    replace(server, "users", &line, &format!("{} {field}\n", line.trim_end()));
    std::thread::sleep(LOOKS_AGAIN);
}

fn setting(server: &Server, setting: &str) {
    let line = server.flavour.user(ALICE, &[]);
    replace(server, "users", &line, &server.flavour.user(ALICE, &[setting]));
    std::thread::sleep(LOOKS_AGAIN);
}

fn move_key(server: &Server, to: &str) {
    fs::rename(server.path(&key_file(ALICE)), server.path("keys").join(to)).unwrap();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const LEARNER: &[u8] = b"require [\"vnd.dovecot.pipe\", \"copy\"];\npipe :copy \"learn\";\n";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { number: "01", how: "another `sieve_before` behind ours", in_2_4: false, then: Then::Reload,
        found: (FAILURE, "script", &["no before-script of protocol lmtp runs mailseal-filter", "other.sieve runs", "is written over by", "extra.conf:"]),
        mend: "install sieve/mailseal.sieve",
        break_it: |server| add(server, &format!("plugin {{\n  sieve_before = {}\n}}\n", other_script(server, "other.sieve"))) },
    Row { number: "02", how: "a spam script with `stop` before ours", in_2_4: true, then: Then::Reload,
        found: (FAILURE, "script", &["spam.sieve runs before it", "mail stays in clear"]), mend: "the first",
        break_it: |server| {
            let ours = server.path("sieve/mailseal.sieve").display().to_string();
            let (first, after) = server.flavour.script_order(&[other_script(server, "spam.sieve")], &ours, &[]);
            server.write("first.conf", first.as_bytes(), 0o644);
            add(server, &after);
        } },
    Row { number: "03", how: "`protocol lmtp { plugin { sieve_before } }`", in_2_4: false, then: Then::Reload,
        found: (FAILURE, "script", &["no before-script of protocol lmtp runs mailseal-filter", "other.sieve runs"]), mend: "install",
        break_it: |server| add(server, &format!("protocol lmtp {{\n  plugin {{\n    sieve_before = {}\n  }}\n}}\n", other_script(server, "other.sieve"))) },
    Row { number: "04", how: "userdb field `sieve_before` of one user", in_2_4: false, then: Then::Nothing,
        found: (FAILURE, "user database", &["sieve_before is set for alice@example.org", "stored in clear"]), mend: "out of the user database",
        break_it: |server| field(server, &format!("userdb_sieve_before={}", other_script(server, "other.sieve"))) },
    Row { number: "05", how: "no namespace for the trap", in_2_4: true, then: Then::Reload,
        found: (FAILURE, "trap", &["no namespace of protocol lmtp has the folder FAILCLOSED.defer"]), mend: "add the namespace failclosed",
        break_it: |server| replace(server, "mailseal.conf", "prefix = FAILCLOSED.", "prefix = Elsewhere.") },
    Row { number: "06", how: "the trap belongs to the mail user, and has no `.defer`", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "trap", &["belongs to user 8", "the mail user may deliver into it"]), mend: "chown root:",
        break_it: |server| {
            fs::remove_file(server.path("failclosed/.defer")).unwrap();
            chown(server.path("failclosed"), Some(DELIVERY_USER), None).unwrap();
        } },
    Row { number: "07", how: "`mail_plugins` of LMTP set again, without sieve", in_2_4: false, then: Then::Reload,
        found: (FAILURE, "Sieve plugin", &["LMTP runs no Sieve scripts"]), mend: "in protocol lmtp",
        break_it: |server| add(server, "protocol lmtp {\n  mail_plugins = quota\n}\n") },
    Row { number: "08", how: "`sieve_filter_exec_timeout = 10s`", in_2_4: true, then: Then::Reload,
        found: (FAILURE, "time limit", &["sieve_filter_exec_timeout 10 s", "Dovecot panics"]), mend: "sieve_filter_exec_timeout = ",
        break_it: |server| add(server, &server.flavour.filter_timeout(10)) },
    Row { number: "09", how: "`default_vsz_limit = 20M`", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "memory", &["service lmtp has 20 MB"]), mend: "vsz_limit = 256M",
        break_it: |server| add(server, "default_vsz_limit = 20M\n") },
    Row { number: "10", how: "the filter's folder has mode 700", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "program", &["the mail user cannot enter", "/bin: every delivery is deferred"]), mend: "chmod a+x",
        break_it: |server| server.mode("bin", 0o700) },
    Row { number: "11", how: "a typing error in mailseal.toml", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "configuration", &["line 4"]), mend: "correct the file",
        break_it: |server| server.configure("nonsense = 1", "") },
    Row { number: "12", how: "the key folder has mode 700", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "certificates", &["keys: the mail user cannot read it"]), mend: "chmod a+rX",
        break_it: |server| server.mode("keys", 0o700) },
    Row { number: "13", how: "a key file has mode 600", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "certificates", &["mail for alice@example.org is deferred", "the mail user cannot read it"]), mend: "chmod 644",
        break_it: |server| server.mode(&key_file(ALICE), 0o600) },
    Row { number: "14", how: "a key file that another group may write to", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "certificates", &["mail for alice@example.org is deferred", "keys/alice@example.org.pgp"]), mend: "chmod",
        break_it: |server| {
            chown(server.path(&key_file(ALICE)), Some(0), Some(100)).unwrap();
            server.mode(&key_file(ALICE), 0o664);
        } },
    Row { number: "15", how: "a secret key in the place of a certificate", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "certificates", &["mail for alice@example.org is deferred", "it holds a secret key"]), mend: "gpg --armor --export",
        break_it: |server| server.enrol(ALICE, &ALICE_KEY.secret) },
    Row { number: "16", how: "`mail_temp_dir` does not exist", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "spool", &["No such file", "large mail cannot be delivered"]), mend: "mail_temp_dir = /dev/shm",
        break_it: |server| add(server, "mail_temp_dir = /no/such\n") },
    Row { number: "17", how: "`sieve_filter_bin_dir` names another folder", in_2_4: true, then: Then::Reload,
        found: (FAILURE, "program", &["elsewhere/mailseal-filter is not there", "every delivery is deferred"]), mend: "install -m 755 mailseal-filter",
        break_it: |server| {
            let dir = server.dir().display();
            add(server, &server.flavour.sieve_settings(&format!("sieve_filter_bin_dir = {dir}/elsewhere")));
        } },
    Row { number: "18", how: "the scripts' folder has mode 700", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "script", &["the mail user cannot read it, and Dovecot then delivers in clear"]), mend: "chmod a+x",
        break_it: |server| server.mode("sieve", 0o700) },
    Row { number: "19", how: "userdb field `mailseal_off` of one user", in_2_4: true, then: Then::Nothing,
        found: (WARNING, "users' mail", &["mail for alice@example.org is stored in clear, since sealing is turned off"]), mend: "mailseal_off",
        break_it: |server| setting(server, "off=on") },
    Row { number: "20", how: "userdb field `mailseal_key` names a file that is missing", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "users' mail", &["mail for alice@example.org is deferred", "there is no such file"]), mend: "name a file",
        break_it: |server| setting(server, "key=/etc/no-such.pgp") },
    Row { number: "21", how: "a log file that mail users cannot write to", in_2_4: true, then: Then::Nothing,
        found: (WARNING, "log", &["the mail user cannot write to it"]), mend: "to = \"syslog\"",
        break_it: |server| {
            server.write("mailseal.log", b"", 0o644);
            let log = server.path("mailseal.log");
            replace(server, "mailseal.toml", "to = \"stderr\"", &format!("to = \"file:{}\"", log.display()));
        } },
    Row { number: "22", how: "`cat` in the filter's place", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "program", &["does not answer as mailseal-filter", "whatever it writes is stored"]), mend: "install -m 755 mailseal-filter",
        break_it: |server| server.install(Program::Script("cat")) },
    Row { number: "23", how: "`sieve_extprograms` is not loaded any more", in_2_4: true, then: Then::Reload,
        found: (FAILURE, "script", &["does not compile, and Dovecot then delivers in clear"]), mend: "sieve_extprograms",
        break_it: |server| {
            if server.flavour == Flavour::V2_3 {
                add(server, "plugin {\n  sieve_plugins =\n}\n");
            } else {
                replace(server, "mailseal.conf", "sieve_extprograms = yes", "sieve_extprograms = no");
            }
        } },
    Row { number: "24", how: "a user's script (it may fail at run time)", in_2_4: true, then: Then::Nothing,
        found: (WARNING, "users' scripts", &["alice@example.org", "fails at run time, Pigeonhole stores the clear mail"]), mend: "mailseal serve",
        break_it: |server| server.write_home(ALICE, ".dovecot.sieve", b"keep;\n") },
    Row { number: "26", how: "`Alice@Example.org.pgp`: capitals in a file's name", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "certificates", &["Alice@Example.org.pgp: no delivery reads a file of this name"]), mend: "rename",
        break_it: |server| move_key(server, "Alice@Example.org.pgp") },
    Row { number: "27", how: "enrolled with a domain, delivered without", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "users' mail", &["mail for alice is deferred"]), mend: "deliver under the enrolled name",
        break_it: |server| {
            let mut add = Command::new(server.path("libexec/mailseal"));
            add.arg("--config").arg(server.path("mailseal.toml")).args(["keys", "add", "--replace", ALICE]);
            run(add.arg(server.path("good").join(key_file(ALICE))));
            let file = fs::read_to_string(server.path("users")).unwrap();
            let alice = server.flavour.user("alice", &[]);
            server.write("users", (file + &alice).as_bytes(), 0o644);
            std::thread::sleep(LOOKS_AGAIN);
        } },
    Row { number: "28", how: "`.asc` in the place of `.pgp`", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "certificates", &["alice@example.org.asc: no delivery reads a file of this name"]), mend: "rename",
        break_it: |server| move_key(server, "alice@example.org.asc") },
    Row { number: "30", how: "`sieve_before` is a folder, in which a spam script comes first", in_2_4: false, then: Then::Reload,
        found: (FAILURE, "script", &["00-spam.sieve runs before it"]), mend: "the first",
        break_it: |server| {
            other_script(server, "00-spam.sieve");
            add(server, &format!("plugin {{\n  sieve_before = {}\n}}\n", server.path("sieve").display()));
        } },
    Row { number: "31", how: "`filter` as an action, not as a test", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "script", &["it delivers in clear what cannot be sealed"]), mend: "sieve/mailseal.sieve",
        break_it: |server| {
            server.write("sieve/mailseal.sieve", b"require \"vnd.dovecot.filter\";\nfilter \"mailseal-filter\";\n", 0o644);
            server.compile("sieve/mailseal.sieve");
        } },
    Row { number: "32", how: "the compiled script is older than the script", in_2_4: true, then: Then::Nothing,
        found: (WARNING, "script", &["each delivery compiles it"]), mend: "sievec",
        break_it: |server| run(Command::new("touch").arg("-d").arg("2020-01-01").arg(server.path("sieve/mailseal.svbin"))) },
    Row { number: "32b", how: "the compiled script has the script's own time", in_2_4: true, then: Then::Nothing,
        found: (WARNING, "script", &["each delivery compiles it"]), mend: "sievec",
        break_it: |server| run(Command::new("touch").arg("-r").arg(server.path("sieve/mailseal.sieve")).arg(server.path("sieve/mailseal.svbin"))) },
    Row { number: "34", how: "`deadline = 300`", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "time limit", &["deadline 300 s", "Dovecot panics"]), mend: "sieve_filter_exec_timeout = ",
        break_it: |server| server.configure("", "deadline = 300") },
    Row { number: "35", how: "mailseal.toml is missing", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "configuration", &["mailseal.toml"]), mend: "",
        break_it: |server| fs::remove_file(server.path("mailseal.toml")).unwrap() },
    Row { number: "36", how: "`service lmtp { user = nobody }`", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "LMTP", &["service lmtp runs as nobody: mail for", "is refused (451)"]), mend: "take user out of service lmtp",
        break_it: |server| add(server, "service lmtp {\n  user = nobody\n}\n") },
    Row { number: "37", how: "`mail_plugins` of the LDA without sieve", in_2_4: false, then: Then::Reload,
        found: (FAILURE, "Sieve plugin", &["dovecot-lda runs no Sieve scripts"]), mend: "in protocol lda",
        break_it: |server| add(server, "protocol lda {\n  mail_plugins = quota\n}\n") },
    Row { number: "38", how: "a new user whose home does not exist yet", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "homes", &["mail for new@example.org is deferred"]), mend: "homes = [",
        break_it: |server| {
            let keys = server.path("keys").display().to_string();
            replace(server, "mailseal.toml", &format!("sources = [\"file:{keys}/"), &format!("sources = [\"dir:%{{home}}/.config/mailseal\", \"file:{keys}/"));
            let file = fs::read_to_string(server.path("users")).unwrap();
            let new = server.flavour.user("new@example.org", &[]);
            server.write("users", (file + &new).as_bytes(), 0o644);
            std::thread::sleep(LOOKS_AGAIN);
        } },
    Row { number: "39", how: "settings changed, and Dovecot not reloaded", in_2_4: true, then: Then::Nothing,
        found: (FAILURE, "running Dovecot", &["does not have what the files say"]), mend: "reload",
        break_it: |server| add(server, &server.flavour.filter_timeout(70)) },
    Row { number: "40", how: "a spam learner whose extension our settings took away", in_2_4: true, then: Then::Reload,
        found: (WARNING, "imapsieve", &["learn.sieve on Junk does not compile, and is not run"]), mend: "sieve_global_extensions",
        break_it: |server| {
            server.write("sieve/learn.sieve", LEARNER, 0o644);
            add(server, &server.flavour.imapsieve_rule("Junk", &server.path("sieve/learn.sieve")));
        } },
    Row { number: "41", how: "our `imapsieve_mailbox1` over the site's own", in_2_4: false, then: Then::Reload,
        found: (WARNING, "imapsieve", &["imapsieve_mailbox1_name = Spam", "is written over by Sent", "the rule for Spam is gone"]), mend: "another number",
        break_it: |server| server.write("first.conf", b"plugin {\n  imapsieve_mailbox1_name = Spam\n  imapsieve_mailbox1_causes = COPY\n}\n", 0o644) },
    Row { number: "42", how: "a throw-away secret key in `~/.gnupg`", in_2_4: true, then: Then::Nothing,
        found: (WARNING, "secret keys", &["alice@example.org/.gnupg of alice@example.org holds secret keys; nothing is sealed to them"]), mend: "throw-away",
        break_it: |server| server.write_home(ALICE, ".gnupg/private-keys-v1.d/ABCD.key", b"x") },
    Row { number: "43", how: "nobody is enrolled", in_2_4: true, then: Then::Nothing,
        found: (WARNING, "users' mail", &["is sealed for nobody"]), mend: "mailseal keys add",
        break_it: |server| fs::remove_file(server.path(&key_file(ALICE))).unwrap() },
];

fn healthy(flavour: Flavour) -> Option<Server> {
    let server = Setup::with(flavour, "mailseal.sieve")?.imapsieve().start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    for user in testing::dovecot::users::USERS {
        server.write_home(user, ".keep", b"");
    }
    testing::install("mailseal", server.path("libexec/mailseal"));
    Some(server)
}

/// Exit status and findings.
fn doctor(server: &Server) -> (i32, Vec<Value>) {
    let mut command = server.flavour.command(server.path("libexec/mailseal").to_str().unwrap());
    command.args(["doctor", "--json", "--dovecot-config"]).arg(server.path("dovecot.conf"));
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), findings)
}

fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().unwrap()
}

/// A word, but for a key that each run makes anew.
fn without_fingerprint(word: &str) -> &str {
    let is_fingerprint = word.len() == 41 && word.bytes().take(40).all(|byte| byte.is_ascii_hexdigit());
    if is_fingerprint { "FINGERPRINT:" } else { word }
}

fn copy(from: PathBuf, to: PathBuf) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

fn put_back(server: &Server) {
    let users = |place: &str| fs::read(server.path(place)).unwrap();
    let is_other = users("users") != users("good/users");
    for name in KEPT {
        let path = server.path(name);
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        copy(server.path("good").join(name), path);
    }
    if is_other {
        std::thread::sleep(LOOKS_AGAIN);
    }
}

fn each_row_is_found(flavour: Flavour) {
    let Some(mut server) = healthy(flavour) else { return };
    assert_eq!(doctor(&server).0, 0, "{:#?}", doctor(&server));
    fs::create_dir(server.path("good")).unwrap();
    KEPT.iter().for_each(|name| copy(server.path(name), server.path("good").join(name)));
    let mut table = String::from("| 00 | nothing is broken | | 0 |\n");
    let mut missed = Vec::new();
    for row in ROWS.iter().filter(|row| flavour == Flavour::V2_3 || row.in_2_4) {
        (row.break_it)(&server);
        if row.then == Then::Reload {
            server.reload();
        }
        let (status, findings) = doctor(&server);
        let (severity, check, parts) = row.found;
        let found = findings.iter().find(|it| {
            text(it, "severity") == severity
                && text(it, "check") == check
                && parts.iter().all(|part| text(it, "what").contains(part))
        });
        match found {
            Some(found)
                if status == i32::from(severity == FAILURE) && text(found, "mend").contains(row.mend) =>
            {
                let dir = server.dir().display().to_string();
                let shown = |key| {
                    let text = text(found, key).replace(&format!("{dir}/"), "…/").replace('|', "\\|");
                    text.split(' ').map(without_fingerprint).collect::<Vec<_>>().join(" ")
                };
                table +=
                    &format!("| {} | {} | {}: {} | {status} |\n", row.number, row.how, check, shown("what"));
            }
            _ => missed.push(format!("row {} ({}), exit {status}: {findings:#?}", row.number, row.how)),
        }
        put_back(&server);
        if row.then == Then::Reload {
            server.reload();
        }
    }
    assert!(missed.is_empty(), "{} rows are missed:\n{}", missed.len(), missed.join("\n"));
    assert_eq!(doctor(&server).0, 0, "all is well again: {:#?}", doctor(&server));
    server.kill();
    let (status, findings) = doctor(&server);
    let stopped: Vec<&Value> = findings.iter().filter(|it| text(it, "check") == "running Dovecot").collect();
    assert!(status == 0 && stopped.len() == 1, "{findings:#?}");
    table +=
        &format!("| 44 | Dovecot is stopped | running Dovecot: {} | {status} |\n", text(stopped[0], "what"));
    if flavour == Flavour::V2_3 {
        assert_page(&table);
    }
}

/// The page has this table, and no other.
fn assert_page(table: &str) {
    const BEGIN: &str = "| row | broken how | what doctor says | exit |\n|---|---|---|---|\n";
    let path = testing::repository().join("docs/doctor.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let end = rest.find("\n\n").map_or(rest.len(), |end| end + 1);
    if std::env::var("ROWS").as_deref() == Ok("overwrite") {
        fs::write(&path, format!("{before}{BEGIN}{table}{}", &rest[end..])).unwrap();
        return;
    }
    assert_eq!(&rest[..end], table, "docs/doctor.md: ROWS=overwrite writes the table");
}
