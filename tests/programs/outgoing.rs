//! `mailseal outgoing`: what would become of mail for an address, and heartbeats.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use sequoia_openpgp::types::ReasonForRevocation;
use testing::filter::{Run, run};
use testing::{decrypt::decrypt, fixtures, made, program};

/// A folder with a configuration, and a program in the place of sendmail that keeps what it gets.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new(rules: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(
            at("sendmail"),
            format!("#!/bin/sh\necho \"$@\" >> {0}/arguments\ncat >> {0}/sent\n", dir.path().display()),
        )
        .unwrap();
        fs::set_permissions(at("sendmail"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(at("keys")).unwrap();
        let config = format!(
            "[keys]\nknown = \"{0}/known\"\nsources = [\"file:{0}/keys/%{{user}}.pgp\"]\n[log]\nto = \"file:{0}/log\"\n\
             [sendmail]\nprogram = \"{0}/sendmail\"\ndomain = \"host.example\"\n{rules}",
            dir.path().display()
        );
        fs::write(at("mailseal.toml"), config.replace("CERTS", fixtures::folder("certs").to_str().unwrap()))
            .unwrap();
        Self { dir }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    fn mailseal(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(program("mailseal"));
        command.arg("--config").arg(self.dir.path().join("mailseal.toml")).args(arguments);
        run(&mut command, b"", 1)
    }
}

const RULES: &str = r#"
[[outgoing]]
to = ["team@example.org"]
key = ["CERTS/curve25519.pgp"]
protect-headers = "strict"
subject = "Daily"
pad = "4KiB"
[[outgoing]]
to = ["old@example.org"]
key = ["CERTS/revoked-compromised.pgp"]
[[outgoing]]
to = ["*@example.org"]
"#;

#[test]
fn it_says_what_would_become_of_mail() {
    let host = Host::new(RULES);
    let cases = [
        ("Team+x@example.org", 0, &["rule 1 of", "sealed to", "\"Daily\"", "4096"][..]),
        ("old@example.org", 1, &["rule 2 of", "stays here", "no usable certificate"]),
        ("bob@example.org", 1, &["rule 3 of", "stays here", "mailseal keys add"]),
        ("bob@elsewhere.example", 0, &["no rule", "leaves unchanged"]),
        ("bob", 1, &["bob@host.example", "stays here", "no rule for this domain"]),
        ("bob@[127.0.0.1]", 1, &["bob@localhost", "stays here"]),
        ("bob@192.0.2.1", 1, &["stays here", "not a name"]),
        ("team%example.org@relay.example", 1, &["stays here"]),
        ("a\u{1b}[31mb@c", 1, &["stays here"]),
    ];
    for (address, status, texts) in cases {
        let run = host.mailseal(&["outgoing", address]);
        let said = String::from_utf8(run.stdout).unwrap();
        assert_eq!(run.status, Some(status), "{address}: {said}{}", run.stderr);
        for text in texts {
            assert!(said.contains(text), "{address}: {text}: {said}");
        }
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
}

#[test]
fn keys_check_tells_of_the_certificates_of_rules() {
    let host = Host::new(RULES);
    let run = host.mailseal(&["keys", "check"]);
    let said = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.status, Some(1), "{said}{}", run.stderr);
    assert!(said.contains("rule 2 of [[outgoing]]") && !said.contains("rule 1 of"), "{said}");
}

#[test]
fn heartbeats_are_numbered_sealed_and_told_of() {
    let host = Host::new(RULES);
    let sizes: Vec<usize> = (1..=12)
        .map(|number| {
            let run = host.mailseal(&["outgoing", "--heartbeat", "team@example.org"]);
            assert_eq!(run.status, Some(0), "{}", run.stderr);
            let sent = host.read("sent");
            fs::remove_file(host.dir.path().join("sent")).unwrap();
            let (header, body) = sent.split_once("\n\n").unwrap();
            assert!(header.contains("Subject: Daily") && !sent.contains("eartbeat"), "{header}");
            let opened = decrypt("curve25519", sent.as_bytes());
            assert!(
                String::from_utf8_lossy(&opened.stdout).contains(&format!("heartbeat {number} of")),
                "{}",
                opened.stderr
            );
            body.len()
        })
        .collect();
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    assert_eq!(host.read("arguments").lines().next(), Some("-froot@host.example -i -- team@example.org"));
    let mut report = Command::new(program("mailseal"));
    let run = run(report.arg("report").arg(host.dir.path().join("log")), b"", 1);
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(said.contains("Last heartbeats") && said.contains("team@example.org"), "{said}");
    assert!(said.lines().any(|line| line.contains("team@example.org") && line.contains("12")), "{said}");
}

/// Each address has its own count: a gap in one is not filled by the other.
#[test]
fn heartbeats_are_counted_by_address() {
    let host = Host::new(&RULES.replace("team@example.org", "*@team.example"));
    let send = |addresses: &[&str]| {
        let run = host.mailseal(&[&["outgoing", "--heartbeat"], addresses].concat());
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        let log = host.read("log");
        fs::remove_file(host.dir.path().join("log")).unwrap();
        let word =
            |line: &str, key: &str| line.split(key).nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let of = |line: &str| format!("{} {}", word(line, "user="), word(line, "heartbeat="));
        log.lines().map(of).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(send(&["a@team.example"]), "a@team.example 1");
    assert_eq!(send(&["a@team.example"]), "a@team.example 2");
    assert_eq!(
        send(&["b@team.example", "A@Team.example", "a@team.example"]),
        "a@team.example 3, b@team.example 1"
    );
    assert_eq!(send(&["b@team.example"]), "b@team.example 2");
}

/// One explicit rule lets the mail of this host's own mailboxes pass, and one with `*` for a domain does not.
#[test]
fn a_rule_lets_mail_for_this_host_pass_in_clear() {
    let host = Host::new("");
    let config = host.read("mailseal.toml");
    let dir = host.dir.path();
    let init = host.mailseal(&["keys", "init", "--users", "/dev/null"]);
    assert_eq!(init.status, Some(0), "{}", init.stderr);
    let door = "[serve]\noutgoing = \"127.0.0.1:10024\"\noutgoing-next = \"smtp:127.0.0.1:10025\"\n";
    let config = format!("{config}{door}");
    let demanding = "[[outgoing]]\nto = [\"*@team.example\"]\n[[outgoing]]\nrequire = false\nto = ";
    for (to, status, text) in [
        ("[\"root@host.example\"]", 0, "leaves unchanged: there is no certificate"),
        ("[\"*@host.example\"]", 0, "leaves unchanged"),
        ("[\"*\", \"root@*.example\", \"root@host.example\"]", 0, "leaves unchanged"),
        ("[\"*\"]", 1, "stays here"),
        ("[\"*@*.example\"]", 1, "stays here"),
        ("[\"*example\"]", 1, "stays here"),
    ] {
        fs::write(dir.join("mailseal.toml"), format!("{config}{demanding}{to}\n")).unwrap();
        let run = host.mailseal(&["outgoing", "root@host.example"]);
        let said = String::from_utf8(run.stdout).unwrap();
        assert!(run.status == Some(status) && said.contains(text), "{to}: {said}{}", run.stderr);
    }
    // Where nothing demands sealing, there is nothing to be afraid of.
    fs::write(dir.join("mailseal.toml"), format!("{config}[[outgoing]]\nrequire = false\nto = [\"*\"]\n"))
        .unwrap();
    assert_eq!(host.mailseal(&["outgoing", "root@host.example"]).status, Some(0));
}

/// Filled up with what stands before it, a message must be held as a whole: a long one would wait for ever, and is told of before.
#[test]
fn certificates_that_take_long_mail_uncompressed_only_are_told_of() {
    let host = Host::new(RULES);
    let cert = made::without_compression("Team");
    fs::write(host.dir.path().join("plain.pgp"), made::public(&cert)).unwrap();
    let text = host.read("mailseal.toml");
    let plain = host.dir.path().join("plain.pgp");
    let text = text.replace(fixtures::cert("curve25519").to_str().unwrap(), plain.to_str().unwrap());
    let text = text.replace(
        fixtures::cert("revoked-compromised").to_str().unwrap(),
        fixtures::cert("rsa3072").to_str().unwrap(),
    );
    fs::write(host.dir.path().join("mailseal.toml"), &text).unwrap();
    let warning = "a long message cannot be padded for a certificate that wants no compressed data";
    for (arguments, status) in [
        (&["outgoing", "team@example.org"][..], Some(0)),
        (&["keys", "check"], Some(1)),
        (&["doctor", "--dovecot-config", "/nonexistent"], Some(0)),
    ] {
        let run = host.mailseal(arguments);
        let said = String::from_utf8(run.stdout).unwrap();
        assert!(run.status == status && said.contains(warning), "{arguments:?}: {said}{}", run.stderr);
    }
    fs::write(host.dir.path().join("mailseal.toml"), text.replace("pad = \"4KiB\"", "")).unwrap();
    let run = host.mailseal(&["keys", "check"]);
    assert_eq!(run.status, Some(0), "{}", String::from_utf8_lossy(&run.stdout));
}

#[test]
fn a_heartbeat_that_cannot_be_sent_is_a_failure_and_its_number_is_not_used_again() {
    let host = Host::new(RULES);
    for (address, status) in [("bob@example.org", 75), ("bob@elsewhere.example", 64), ("old@example.org", 75)]
    {
        let run = host.mailseal(&["outgoing", "--heartbeat", address]);
        assert_eq!(run.status, Some(status), "{address}: {}", run.stderr);
    }
    assert_eq!(host.read("sent"), "");
    assert_eq!(host.read("heartbeat"), "0\n1 bob@elsewhere.example\n1 bob@example.org\n1 old@example.org\n");
    let broken = Path::new("/bin/false");
    fs::remove_file(host.dir.path().join("sendmail")).unwrap();
    std::os::unix::fs::symlink(broken, host.dir.path().join("sendmail")).unwrap();
    let run = host.mailseal(&["outgoing", "--heartbeat", "team@example.org"]);
    assert_eq!(run.status, Some(75), "{}", run.stderr);
    assert!(host.read("log").contains("outcome=deferred reason=command "), "{}", host.read("log"));
}

#[test]
fn an_admin_gets_a_digest_that_is_sealed() {
    let host = Host::new(RULES);
    let soon = made::expires_in("carol", 5 * made::DAY);
    let revoked = made::revoked(made::cert("dave"), ReasonForRevocation::KeyCompromised);
    for (user, cert) in [("alice", &made::cert("alice")), ("carol", &soon), ("dave", &revoked)] {
        fs::write(host.dir.path().join(format!("keys/{user}.pgp")), made::public(cert)).unwrap();
    }
    let log = host.dir.path().join("log");
    let line = "2026-11-20T10:00:00Z host mailseal-filter[1]: user=dave outcome=deferred reason=no-usable-key ms=1\n";
    fs::write(&log, line).unwrap();
    let run = host.mailseal(&["keys", "check", "--digest", "team@example.org"]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    let sent = host.read("sent");
    assert!(sent.contains("multipart/encrypted") && !sent.contains("dave"), "{sent}");
    let opened = decrypt("curve25519", sent.as_bytes());
    let text = String::from_utf8(opened.stdout).unwrap();
    for line in [
        "Subject: Keys on ",
        ": 2 sealed for, 3 to look after",
        "Mail waits, or would: 1\n  dave: no-usable-key: ",
        ", since 2026-11-20 10:00 UTC\n",
        "Certificates that cannot be used: 1\n  dave: ",
        "Certificates that expire soon: 1\n  carol: ",
        "Sent by users, and not in effect (mailseal keys pending): none\n",
        "Mail is sealed for: 2\n  alice\n  carol\n",
    ] {
        assert!(text.contains(line), "{line:?}: {text}");
    }
    assert!(host.read("log").lines().any(|line| line.contains("user=team@example.org outcome=sealed")));
    // Never in clear, and not without the rest of the check.
    for (address, status) in [("bob@elsewhere.example", 64), ("old@example.org", 75)] {
        let run = host.mailseal(&["keys", "check", "--digest", address]);
        assert_eq!(run.status, Some(status), "{address}: {}", run.stderr);
        assert!(String::from_utf8_lossy(&run.stdout).contains("dave"), "{address}");
    }
    assert_eq!(host.read("sent"), sent);
}
