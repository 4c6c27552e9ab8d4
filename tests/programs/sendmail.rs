//! `mailseal sendmail` before a program that keeps what it is told and what it gets, as its many callers call it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use testing::filter::{Run, run};
use testing::{decrypt::decrypt, fixtures, program, skip};

/// The user that some mail is sent by.
const UID: u32 = 5000;

const CANARY: &str = "canary-51c0ff";

const RULES: &str = r#"
[[outgoing]]
to = ["team@example.org"]
key = ["CERTS/curve25519.pgp"]
protect-headers = "strict"
subject = "Daily"
pad = "4KiB"
[[outgoing]]
to = ["bob@example.org", "carol@example.org"]
key = ["CERTS/rsa3072.pgp"]
protect-headers = "baseline"
[[outgoing]]
to = ["old@example.org"]
key = ["DIR/old.pgp"]
protect-headers = "baseline"
[[outgoing]]
to = ["*@required.example"]
"#;

const ALIASES: &str = "root: team\nteam: team@example.org\nboth: team@example.org, Bob <bob@example.org>\n\
                       archive: team@example.org, /var/mail/archive\npipe: \"|/bin/cat\"\n\
                       self: \\self, bob@example.org\nout: someone@elsewhere.example\n";

/// A folder with all that such a host has.
struct Host {
    dir: tempfile::TempDir,
}

/// What the program that sends mail was told, and got.
struct Call {
    arguments: Vec<String>,
    mail: String,
}

impl Call {
    /// Behind `--`.
    fn to(&self) -> Vec<&str> {
        let mut arguments = self.arguments.iter().map(String::as_str);
        assert!(arguments.any(|argument| argument == "--"), "{:?}", self.arguments);
        arguments.collect()
    }

    fn options(&self) -> String {
        let end = self.arguments.iter().position(|it| it == "--").unwrap();
        self.arguments[..end].join(" ")
    }

    #[track_caller]
    fn assert_sealed(&self, key: &str, text: &str) {
        assert!(!self.mail.contains(CANARY), "{}", self.mail);
        let opened = decrypt(key, self.mail.as_bytes());
        let original = String::from_utf8_lossy(&opened.stdout);
        assert!(original.contains(text), "{text:?}: {original}{}", opened.stderr);
    }
}

impl Host {
    fn new() -> Self {
        Self::with("")
    }

    /// With these lines under `[sendmail]`.
    fn with(settings: &str) -> Self {
        Self::ruled(settings, RULES)
    }

    fn ruled(settings: &str, rules: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap();
        let host = Self { dir };
        host.mode("", 0o755);
        let script = "#!/bin/sh\n[ -e DIR/status ] && exit $(cat DIR/status)\n[ -e DIR/hang ] && sleep 60\n\
                      call=$(ls DIR/calls | grep -c mail)\nprintf '%s\\n' \"$@\" >DIR/calls/$call.arguments\n\
                      echo \"$(id -u) $USER $UNKNOWN\" >DIR/calls/$call.who\ncat >DIR/calls/$call.mail\n";
        host.write("sendmail.real", script);
        host.mode("sendmail.real", 0o755);
        for folder in ["calls", "held", "keys"] {
            fs::create_dir(host.path(folder)).unwrap();
        }
        host.mode("calls", 0o1777);
        host.mode("held", 0o1733);
        host.write("aliases", ALIASES);
        fs::copy(fixtures::cert("revoked-compromised"), host.path("old.pgp")).unwrap();
        host.write(
            "mailseal.toml",
            &format!(
                "[keys]\nknown = \"DIR/known\"\nsources = [\"file:DIR/keys/%{{user}}.pgp\"]\n[log]\nto = \"file:DIR/log\"\n\
                 [sendmail]\nprogram = \"DIR/sendmail.real\"\naliases = \"DIR/aliases\"\ndomain = \"host.example\"\n\
                 held = \"DIR/held\"\n{settings}\n{rules}"
            ),
        );
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let text = text.replace("DIR", self.dir.path().to_str().unwrap());
        fs::write(self.path(name), text.replace("CERTS", fixtures::folder("certs").to_str().unwrap()))
            .unwrap();
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program("mailseal"));
        command.arg("--config").arg(self.path("mailseal.toml")).arg("sendmail");
        command
    }

    #[track_caller]
    fn send(&self, arguments: &str, mail: &str) -> Run {
        let mut command = self.command();
        let arguments = arguments.split(' ').filter(|it| !it.is_empty()).map(|it| it.trim_matches('\''));
        let sent = run(command.args(arguments), mail.as_bytes(), mail.len().max(1));
        assert!(!sent.stderr.contains(CANARY) && sent.stdout.is_empty(), "{}", sent.stderr);
        sent
    }

    #[track_caller]
    fn succeeds(&self, arguments: &str, mail: &str) -> String {
        let sent = self.send(arguments, mail);
        assert_eq!(sent.status, Some(0), "{arguments}: {}", sent.stderr);
        sent.stderr
    }

    /// What was handed over since the last time.
    fn calls(&self) -> Vec<Call> {
        let count = fs::read_dir(self.path("calls")).unwrap().count() / 3;
        let calls = (0..count).map(|at| {
            let read = |what| {
                let path = self.path(&format!("calls/{at}.{what}"));
                let bytes = fs::read(&path).unwrap();
                fs::remove_file(path).unwrap();
                String::from_utf8(bytes).unwrap()
            };
            drop(read("who"));
            Call { arguments: read("arguments").lines().map(str::to_owned).collect(), mail: read("mail") }
        });
        calls.collect()
    }

    fn held(&self) -> Vec<PathBuf> {
        let mut held: Vec<PathBuf> =
            fs::read_dir(self.path("held")).unwrap().map(|entry| entry.unwrap().path()).collect();
        held.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
        held.sort();
        held
    }

    fn admin(&self, arguments: &[&str]) -> Run {
        run(self.command().args(arguments), b"", 1)
    }

    #[track_caller]
    fn list(&self) -> serde_json::Value {
        let listed = self.admin(&["--held", "--list", "--json"]);
        assert_eq!(listed.status, Some(0), "{}", listed.stderr);
        serde_json::from_slice(&listed.stdout).unwrap()
    }

    /// Who waits, and why.
    fn waiting(&self) -> Vec<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let listed = self.list();
        let all =
            listed.as_array().unwrap().iter().flat_map(|it| it["recipients"].as_array().unwrap().clone());
        all.map(|it| (text(&it["to"]), text(&it["reason"]))).collect()
    }

    /// What the log says, and forgets.
    fn log(&self) -> String {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        log
    }

    fn repair(&self) {
        fs::copy(fixtures::cert("rsa3072"), self.path("old.pgp")).unwrap();
    }
}

fn mail(header: &str) -> String {
    format!("{header}Subject: {CANARY}\nFrom: root\n\n{CANARY} in the body\n.\nand more\n")
}

#[test]
fn each_caller_is_served_as_it_calls() {
    let host = Host::new();
    let cron = mail("From: root (Cron Daemon)\nTo: root\n");
    let zeek = mail("From: Zeek <zeek@host>\nTo: team@example.org\n");
    let cases = [
        ("-i -FCronDaemon -B8BITMIME -oem root", &cron, "-FCronDaemon -B8BITMIME -oem -i"),
        ("-FCronDaemon -i -odi -oem -oi -t -f root", &cron, "-FCronDaemon -odi -oem -oi -froot -i"),
        ("-i -- team@example.org", &mail("To: team@example.org\n"), "-i"),
        ("-oi -f zeek@host team@example.org", &zeek, "-oi -fzeek@host -i"),
        ("-t -oi", &zeek, "-oi -i"),
        ("-ti", &mail("To: <team@example.org>\n"), "-i"),
        ("-i -f '' TEAM@Example.org.", &mail(""), "-f  -i"),
        ("-i root@localhost", &mail(""), "-i"),
    ];
    for (arguments, mail, options) in cases {
        assert_eq!(host.succeeds(arguments, mail), "", "{arguments}");
        let calls = host.calls();
        assert_eq!((calls.len(), calls[0].options().as_str()), (1, options), "{arguments}");
        let to = calls[0].to();
        assert!(to == ["team@example.org"] || to == ["TEAM@Example.org."], "{arguments}: {to:?}");
        assert!(calls[0].mail.contains("Subject: Daily\n"), "{}", calls[0].mail);
        calls[0].assert_sealed("curve25519", &format!("{CANARY} in the body\n.\nand more"));
        let log = host.log();
        assert!(
            log.starts_with("user=team@example.org outcome=sealed reason=- ") && log.lines().count() == 1,
            "{log}"
        );
    }
    assert!(host.held().is_empty());
}

/// Wazuh and OSSEC write lines with CRLF, give no `-i`, and end with the pipe.
#[test]
fn wazuh_calls_in_its_own_way() {
    let host = Host::new();
    let mail = format!(
        "To: <team@example.org>\r\nFrom: Wazuh <w@host>\r\nSubject: {CANARY}\r\n\r\n{CANARY}\r\n..\r\n"
    );
    host.succeeds("-t", &mail);
    host.calls()[0].assert_sealed("curve25519", &format!("{CANARY}\n..\n"));
    // Without -i, a single dot ends it.
    host.succeeds("-t", &format!("{mail}.\r\nbehind\r\n"));
    let opened = decrypt("curve25519", host.calls()[0].mail.as_bytes());
    assert!(!String::from_utf8_lossy(&opened.stdout).contains("behind"));
    // What comes without a header is the text.
    host.succeeds("root", &format!("{CANARY}\n"));
    host.calls()[0].assert_sealed("curve25519", &format!("\n{CANARY}\n"));
}

#[test]
fn each_key_set_gets_a_copy_and_nobody_learns_of_hidden_recipients() {
    let host = Host::new();
    let header = "To: team@example.org, Bob <bob@example.org>\nCc: someone@elsewhere.example,\n carol@example.org\n\
                  Bcc: hidden@elsewhere.example, bob@example.org\n";
    host.succeeds("-t -i -f alerts@host.example root", &mail(header));
    let calls = host.calls();
    let to: Vec<String> = calls.iter().map(|call| call.to().join(" ")).collect();
    assert_eq!(
        to,
        [
            "team@example.org",
            "bob@example.org carol@example.org",
            "someone@elsewhere.example hidden@elsewhere.example"
        ]
    );
    for call in &calls {
        let header = call.mail.split("\n\n").next().unwrap();
        assert!(!call.mail.contains("hidden@") && !header.contains("Bcc"), "{}", call.mail);
        assert_eq!(call.options(), "-falerts@host.example -i");
    }
    calls[0].assert_sealed("curve25519", CANARY);
    calls[1].assert_sealed("rsa3072", CANARY);
    let clear = mail(header).replace("Bcc: hidden@elsewhere.example, bob@example.org\n", "");
    assert_eq!(calls[2].mail, clear);
    let log = host.log();
    assert!(log.contains("user=someone@elsewhere.example outcome=unchanged reason=no-policy"), "{log}");
    assert_eq!(log.lines().count(), 5);
}

#[test]
fn aliases_are_resolved_before_a_rule_is_asked() {
    let host = Host::new();
    host.succeeds("-i both root out", &mail(""));
    let to: Vec<String> = host.calls().iter().map(|call| call.to().join(" ")).collect();
    assert_eq!(to, ["team@example.org", "bob@example.org", "someone@elsewhere.example"]);
    for recipient in [
        "archive",
        "pipe",
        "self",
        "nobody",
        "\\root",
        "two words@x",
        "-oQ",
        "a%b@example.org",
        "x@",
        "/etc/x",
    ] {
        let mut command = host.command();
        let sent = run(command.args(["-i", "--", recipient]), mail("").as_bytes(), 100);
        // Blanks stand between recipients in arguments.
        let expected = if recipient == "two words@x" { "two" } else { recipient.trim_start_matches('\\') };
        assert_eq!(sent.status, Some(0), "{recipient}: {}", sent.stderr);
        assert!(sent.stderr.contains("hint: "), "{}", sent.stderr);
        let clear = host.calls().into_iter().all(|call| call.to() == ["words@x"]);
        assert!(clear, "{recipient}");
        assert_eq!(host.waiting(), [(expected.to_owned(), "unresolved".to_owned())], "{recipient}");
        host.held().into_iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    // What nobody could take for one that must be sealed.
    let lenient = RULES.replace("[[outgoing]]", "[[outgoing]]\nrequire = false");
    let host = Host::ruled("", &lenient);
    host.succeeds("-i nobody", &mail(""));
    assert_eq!(host.calls()[0].to(), ["nobody"]);
    // Some of it would be sealed.
    host.succeeds("-i archive", &mail(""));
    assert!(host.calls().is_empty() && host.held().len() == 1);
}

#[test]
fn what_cannot_be_sealed_is_held_and_leaves_later_in_order_and_once() {
    let host = Host::new();
    for number in 1..=3 {
        let said = host.succeeds(
            "-i -f alerts@host.example old@example.org bob@example.org x@required.example",
            &mail(&format!("X-Number: {number}\n")),
        );
        assert!(said.contains("old@example.org") && said.contains("x@required.example"), "{said}");
        let calls = host.calls();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].to(), ["bob@example.org"]);
    }
    let log = host.log();
    assert!(log.contains("user=old@example.org outcome=held reason=no-usable-key "), "{log}");
    assert!(log.contains("user=x@required.example outcome=held reason=key-required "), "{log}");
    let held = host.held();
    assert!(held.len() == 3 && held.iter().all(|path| path.metadata().unwrap().mode() & 0o777 == 0o600));
    let table = String::from_utf8(host.admin(&["--held", "--list"]).stdout).unwrap();
    assert!(
        table.contains("no-usable-key") && table.contains("key-required") && !table.contains(CANARY),
        "{table}"
    );

    assert_eq!(host.admin(&["--held"]).status, Some(0));
    assert!(host.calls().iter().all(|call| !call.mail.contains(CANARY)), "only notices");
    assert_eq!(host.held().len(), 3);

    host.repair();
    assert_eq!(host.admin(&["--held"]).status, Some(0));
    let calls = host.calls();
    assert_eq!(calls.len(), 3);
    for (call, number) in calls.iter().zip(1..) {
        assert_eq!((call.to(), call.options()), (vec!["old@example.org"], "-falerts@host.example -i".into()));
        call.assert_sealed("rsa3072", &format!("X-Number: {number}\n"));
        call.assert_sealed("rsa3072", &format!("{CANARY} in the body\n.\nand more"));
    }
    assert_eq!(host.log().matches("user=old@example.org outcome=sealed").count(), 3);
    assert_eq!(host.waiting(), vec![("x@required.example".to_owned(), "key-required".to_owned()); 3]);
    assert_eq!(host.admin(&["--held"]).status, Some(0));
    assert!(host.calls().is_empty(), "each once");
}

#[test]
fn a_program_that_fails_or_hangs_holds_the_rest() {
    let host = Host::with("deadline = 2");
    for (name, text) in [("status", "75"), ("status", "67"), ("hang", "")] {
        host.write(name, text);
        let begin = Instant::now();
        let said = host.succeeds("-i team@example.org bob@example.org someone@elsewhere.example", &mail(""));
        assert!(said.contains("sendmail.real") && begin.elapsed().as_secs() < 20, "{said}");
        let waiting = host.waiting();
        assert_eq!(waiting.len(), 3, "{name}: {waiting:?}");
        assert!(waiting.iter().all(|(_, reason)| reason == "command"), "{waiting:?}");
        assert_eq!(host.admin(&["--held"]).status, Some(0));
        assert_eq!((host.held().len(), host.calls().len()), (3, 0));
        // What could be sealed is held sealed.
        let clear = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(CANARY);
        assert_eq!(host.held().iter().filter(|path| clear(path)).count(), 1);
        fs::remove_file(host.path(name)).unwrap();
        assert_eq!(host.admin(&["--held"]).status, Some(0));
        let calls = host.calls();
        assert_eq!((calls.len(), host.held().len()), (3, 0), "{name}");
        for call in calls {
            match call.to()[0] {
                "team@example.org" => call.assert_sealed("curve25519", CANARY),
                "bob@example.org" => call.assert_sealed("rsa3072", CANARY),
                _ => assert_eq!(call.mail, mail("")),
            }
        }
    }
    fs::remove_file(host.path("sendmail.real")).unwrap();
    host.succeeds("-i team@example.org", &mail(""));
    assert_eq!(host.held().len(), 1);
}

#[test]
fn where_holding_fails_too_the_caller_is_told_and_nothing_has_left() {
    let host = Host::new();
    for spoil in [0o1777, 0o733, 0o1000] {
        host.mode("held", spoil);
        if spoil == 0o1000 {
            fs::remove_dir(host.path("held")).unwrap();
        }
        let sent = host.send("-i team@example.org old@example.org", &mail(""));
        assert_eq!(sent.status, Some(75), "{}", sent.stderr);
        assert!(sent.stderr.contains("held mail") && host.calls().is_empty(), "{}", sent.stderr);
        assert!(host.log().contains("user=old@example.org outcome=deferred reason=no-usable-key"));
    }
}

#[test]
fn a_wrong_call_is_refused_and_what_it_brings_is_kept() {
    let host = Host::new();
    for (arguments, status, kept) in [
        ("--host=relay.example root", 64, true),
        ("-Z root", 64, true),
        ("root -f a@b", 64, true),
        ("-bs", 64, false),
        ("-q root", 64, true),
        ("-i", 64, false),
        ("-t", 64, false),
    ] {
        let sent = host.send(arguments, &mail(""));
        assert_eq!(sent.status, Some(status), "{arguments}: {}", sent.stderr);
        assert_eq!((host.held().len(), host.calls().len()), (usize::from(kept), 0), "{arguments}");
        let log = host.log();
        let outcome = if kept { "outcome=held reason=usage" } else { "outcome=deferred reason=usage" };
        assert!(log.contains(outcome) || arguments == "-bs", "{arguments}: {log}");
        host.held().into_iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    assert_eq!(host.send("root", "").status, Some(65));
    assert_eq!(host.send("-Z", "").status, Some(64));
    // A header that can be read in two ways.
    host.succeeds("-t -i", &mail("To: team@example.org\njunk\nBcc: bob@example.org\n"));
    assert!(host.calls().is_empty() && host.waiting() == [("-".into(), "unresolved".into())]);
    assert_eq!(host.admin(&["--held"]).status, Some(0));
    assert!(host.calls().is_empty() && host.held().len() == 1);
}

#[test]
fn without_a_configuration_nothing_leaves() {
    let host = Host::new();
    fs::remove_file(host.path("mailseal.toml")).unwrap();
    let sent = host.send("-i team@example.org", &mail(""));
    assert_eq!(sent.status, Some(78), "{}", sent.stderr);
    assert!(host.calls().is_empty());
    if PathBuf::from("/etc/mailseal.toml").exists() {
        return skip::unless_ci("there is a configuration on this machine");
    }
    symlink(program("mailseal"), host.path("sendmail")).unwrap();
    let sent = run(Command::new(host.path("sendmail")).args(["-i", "root"]), mail("").as_bytes(), 100);
    assert!(sent.status == Some(78) && sent.stderr.contains("/etc/mailseal.toml"), "{}", sent.stderr);
}

#[test]
fn it_never_runs_itself() {
    let host = Host::new();
    fs::remove_file(host.path("sendmail.real")).unwrap();
    for make in [
        |host: &Host| symlink(program("mailseal"), host.path("sendmail.real")).unwrap(),
        |host: &Host| {
            let script = "#!/bin/sh\nexec PROGRAM --config DIR/mailseal.toml sendmail \"$@\"\n";
            host.write("sendmail.real", &script.replace("PROGRAM", program("mailseal").to_str().unwrap()));
            host.mode("sendmail.real", 0o755);
        },
    ] {
        make(&host);
        let begin = Instant::now();
        let sent = host.send("-i team@example.org", &mail(""));
        assert!(sent.stderr.contains("mailseal itself") && begin.elapsed().as_secs() < 30, "{}", sent.stderr);
        assert!(!host.held().is_empty());
        host.held().into_iter().for_each(|path| fs::remove_file(path).unwrap());
        fs::remove_file(host.path("sendmail.real")).unwrap();
    }
}

#[test]
fn what_sends_nothing_is_left_to_the_program_without_the_message() {
    let host = Host::new();
    for arguments in ["-bp", "-bv root", "-bi", "-q30m", "-bt"] {
        host.succeeds(arguments, &mail(""));
        let calls = host.calls();
        assert_eq!((calls[0].arguments.join(" ").as_str(), calls[0].mail.as_str()), (arguments, ""));
    }
}

#[test]
fn ten_thousand_recipients_are_served_or_held() {
    let host = Host::new();
    let many = |domain: &str| (0..5000).map(|at| format!("u{at}@{domain}")).collect::<Vec<_>>().join(",\n ");
    let header = format!("To: {}\nCc: {}\n", many("required.example"), many("elsewhere.example"));
    let sent = host.send("-t -i", &mail(&header));
    assert_eq!(sent.status, Some(0));
    let calls = host.calls();
    let served: usize = calls.iter().map(|call| call.to().len()).sum();
    assert_eq!((served, host.waiting().len(), host.held().len()), (5000, 5000, 1));
}

#[test]
fn a_notice_tells_the_number_and_nothing_else_once_a_day() {
    let host = Host::new();
    host.succeeds("-i -f secret@host.example old@example.org", &mail(""));
    host.succeeds("-i old@example.org", &mail(""));
    for expected in [1, 0] {
        assert_eq!(host.admin(&["--held"]).status, Some(0));
        let calls = host.calls();
        assert_eq!(calls.len(), expected);
        for call in calls {
            assert_eq!(
                (call.to(), call.options()),
                (vec!["old@example.org"], "-froot@host.example -i".into())
            );
            assert!(call.mail.contains("\nmailseal holds mail for you on "), "{}", call.mail);
            assert!(!call.mail.contains(CANARY) && !call.mail.contains("secret@"), "{}", call.mail);
        }
    }
    let host = Host::with("notice = false");
    host.succeeds("-i old@example.org", &mail(""));
    assert_eq!(host.admin(&["--held"]).status, Some(0));
    assert!(host.calls().is_empty());
}

#[test]
fn what_others_put_into_the_folder_does_no_harm() {
    let host = Host::new();
    host.succeeds("-i old@example.org", &mail(""));
    host.repair();
    let at = |name: &str| host.path("held").join(name);
    symlink("/etc/shadow", at("0-link")).unwrap();
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(at("0-fifo")).status().unwrap().success());
    fs::create_dir(at("0-dir")).unwrap();
    fs::write(host.path("other"), "x").unwrap();
    fs::hard_link(host.path("other"), at("0-hard")).unwrap();
    for (name, text) in [
        ("0-empty", String::new()),
        ("0-garbage", "\u{1b}[31m{}\n".into()),
        ("0-long", "x".repeat(1 << 20)),
        ("0-include", record(r#"[":include:/etc/shadow","|/bin/touch DIR/run","/etc/shadow","\\root"]"#)),
    ] {
        fs::write(at(name), text.replace("DIR", host.dir.path().to_str().unwrap())).unwrap();
        fs::set_permissions(at(name), Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(at("0-sparse"), record(r#"["bob@example.org"]"#)).unwrap();
    fs::set_permissions(at("0-sparse"), Permissions::from_mode(0o600)).unwrap();
    fs::File::options().write(true).open(at("0-sparse")).unwrap().set_len(1 << 43).unwrap();
    let begin = Instant::now();
    let tried = host.admin(&["--held"]);
    assert!(tried.status == Some(0) && begin.elapsed().as_secs() < 20, "{}", tried.stderr);
    assert!(!tried.stderr.contains('\u{1b}') && !tried.stderr.contains("root:"), "{}", tried.stderr);
    let calls = host.calls();
    assert_eq!(calls.len(), 1);
    calls[0].assert_sealed("rsa3072", CANARY);
    assert!(!host.path("run").exists() && host.path("other").exists());
    assert_eq!(host.held().len(), 9);
    let table = host.admin(&["--held", "--list"]);
    assert!(!String::from_utf8_lossy(&table.stdout).contains('\u{1b}'));
}

#[test]
fn it_can_be_asked_where_mail_for_an_alias_ends() {
    let host = Host::new();
    for (address, status, text) in [
        ("root", 0, "it is an alias:\nteam@example.org\n  rule 1 "),
        ("archive", 1, "  stays here: the recipient \"archive\" leads by the alias \"archive\" to a file"),
        (
            "self",
            1,
            "  stays here: the recipient \"self@host.example\" is a mailbox or an alias of this host",
        ),
        ("team@example.org", 0, "team@example.org\n  rule 1 "),
    ] {
        let mut command = Command::new(program("mailseal"));
        command.arg("--config").arg(host.path("mailseal.toml")).args(["outgoing", address]);
        let asked = run(&mut command, b"", 1);
        let said = String::from_utf8(asked.stdout).unwrap();
        assert!(asked.status == Some(status) && said.contains(text), "{address}: {said}");
    }
}

#[test]
fn doctor_tells_of_what_is_held_and_of_a_program_that_is_not_there() {
    let host = Host::new();
    let doctor = || {
        let mut command = Command::new(program("mailseal"));
        command.arg("--config").arg(host.path("mailseal.toml"));
        let run = run(command.args(["doctor", "--dovecot-config", "/nonexistent"]), b"", 1);
        String::from_utf8(run.stdout).unwrap()
    };
    host.repair();
    let said = doctor();
    assert!(said.contains("ok       sendmail: "), "{said}");
    host.succeeds("-i nobody", &mail(""));
    host.write("aliases", "");
    let said = doctor();
    assert!(
        said.contains("sendmail: messages that are held: 1, the oldest since ")
            && said.contains("mail for root")
    );
    fs::remove_file(host.path("sendmail.real")).unwrap();
    assert!(doctor().contains("FAILURE  sendmail: "), "{}", doctor());
    symlink(program("mailseal"), host.path("sendmail.real")).unwrap();
    assert!(doctor().contains("mailseal itself"));
    host.mode("held", 0o1777);
    assert!(doctor().contains("others can see what is in it"));
}

/// What the record says counts: anybody who may write to a file can touch it, and whoever copies it back gives it a new time.
#[test]
fn doctor_has_from_the_record_since_when_mail_is_held() {
    let host = Host::new();
    for (name, since) in [("0-b", "1700000000"), ("0-a", "1720000000"), ("0-c", "-1"), ("0-d", "99999999999")]
    {
        let text =
            record(r#"["nobody@required.example"]"#).replace("\"since\":1", &format!("\"since\":{since}"));
        fs::write(host.path("held").join(name), text).unwrap();
        fs::set_permissions(host.path("held").join(name), Permissions::from_mode(0o600)).unwrap();
    }
    let mut command = Command::new(program("mailseal"));
    command.arg("--config").arg(host.path("mailseal.toml"));
    let run = run(command.args(["doctor", "--dovecot-config", "/nonexistent"]), b"", 1);
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(said.contains("messages that are held: 4, the oldest since 2023-11-14"), "{said}");
}

/// A sealed copy that the program did not take is not sealed once more, however long it is.
#[test]
fn what_is_held_sealed_leaves_sealed_once() {
    let host = Host::new();
    host.write("status", "75");
    let noise: String =
        (0..200_000_u64).map(|it| format!("{:x}\n", it.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    host.succeeds("-i team", &(mail("") + "short\n"));
    host.succeeds("-i team", &(mail("") + &noise));
    assert_eq!(host.held().len(), 2);
    fs::remove_file(host.path("status")).unwrap();
    let tried = host.admin(&["--held"]);
    assert_eq!(tried.status, Some(0), "{}", tried.stderr);
    let calls = host.calls();
    assert_eq!(calls.len(), 2);
    calls[0].assert_sealed("curve25519", "\nshort");
    calls[1].assert_sealed("curve25519", noise.lines().last().unwrap());
    let log = host.log();
    assert_eq!(log.matches("outcome=unchanged reason=pgp-mime").count(), 2, "{log}");
}

/// What somebody has encrypted is sealed once more where a rule promises how mail looks, and else left alone.
#[test]
fn what_is_encrypted_already_keeps_the_promise_of_its_rule() {
    let host = Host::new();
    let foreign = fs::read_to_string(fixtures::folder("encrypted").join("mutt.eml")).unwrap();
    let foreign = foreign.replace("Subject: ", &format!("Subject: {CANARY} "));
    host.succeeds("-i bob@example.org", &foreign);
    assert!(host.calls()[0].mail.contains(CANARY));
    host.succeeds("-i team", &foreign);
    let call = &host.calls()[0];
    assert!(call.mail.contains("\nSubject: Daily\n") && !call.mail.contains(CANARY), "{}", call.mail);
    let opened = decrypt("curve25519", call.mail.as_bytes());
    let original = String::from_utf8_lossy(&opened.stdout);
    assert!(original.contains(CANARY) && original.contains("BEGIN PGP MESSAGE"), "{original}");
    host.succeeds("-i team", &mail(""));
    let body = |call: &Call| call.mail.split_once("\n\n").unwrap().1.len();
    assert_eq!(body(call), body(&host.calls()[0]), "one class");
}

/// A held message for these recipients.
fn record(recipients: &str) -> String {
    let each = recipients.trim_matches(['[', ']']).split(',');
    let each: Vec<String> = each.map(|to| format!(r#"{{"to":{to},"reason":"command","why":"x"}}"#)).collect();
    format!(
        "{{\"mailseal\":1,\"since\":1,\"work\":{{\"left\":{{\"options\":[\"-Cmine\",\"-fa@b\"],\"recipients\":[{}]}}}},\
         \"environment\":{{\"USER\":\"me\",\"UNKNOWN\":\"x\"}}}}\nTo: a\n\n{CANARY}\n",
        each.join(",")
    )
}

/// Mail of any user: nobody else can see it, and it leaves with the rights of that user.
#[test]
fn each_user_holds_mail_and_only_root_sees_it() {
    if !nix::unistd::geteuid().is_root() {
        return skip::unless_ci("it sends as another user, and so runs as root");
    }
    let host = Host::new();
    host.write("log", "");
    let mut command = host.command();
    command.args(["-i", "-f", "me@host.example", "old@example.org"]).uid(UID).gid(UID).env("USER", "me");
    let sent = run(&mut command, mail("").as_bytes(), 100);
    assert_eq!(sent.status, Some(0), "{}", sent.stderr);
    let held = host.held();
    let metadata = held[0].metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (UID, 0o600));
    for arguments in [["--held", "--list"].as_slice(), &["--held"]] {
        let mut command = host.command();
        let seen = run(command.args(arguments).uid(UID).gid(UID), b"", 1);
        assert!(seen.status == Some(75) && seen.stdout.is_empty(), "{}", seen.stderr);
    }
    host.repair();
    // Whoever has put that there: the program has the rights of its owner, and is not told of files.
    fs::write(host.path("held/0-mine"), record(r#"["bob@example.org"]"#)).unwrap();
    fs::set_permissions(host.path("held/0-mine"), Permissions::from_mode(0o600)).unwrap();
    chown(host.path("held/0-mine"), Some(UID), Some(UID)).unwrap();
    let tried = host.admin(&["--held"]);
    assert_eq!(tried.status, Some(0), "{}", tried.stderr);
    for at in 0..2 {
        let who = fs::read_to_string(host.path(&format!("calls/{at}.who"))).unwrap();
        assert_eq!(who, format!("{UID} me \n"));
    }
    let calls = host.calls();
    assert_eq!((calls[0].options(), calls[1].options()), ("-fa@b -i".into(), "-fme@host.example -i".into()));
    calls.iter().for_each(|call| call.assert_sealed("rsa3072", CANARY));
    assert!(host.held().is_empty());
}
