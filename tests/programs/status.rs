//! `mailseal status --why`, and where `mailseal report` finds a log by itself. What needs Dovecot is tested with it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, process::Stdio};

use testing::filter::{self, Run};

const LOG: &str = "\
2026-11-01T10:00:00.000000+00:00 mail mailseal-filter[7]: user=alice@example.org outcome=deferred reason=key-store warn=- keys=- format=- in=5 out=0 key_ms=0.4 ms=1.0 msgid=<a@x>
2026-11-01T10:05:00.000000+00:00 mail mailseal-filter[8]: user=alice@example.org outcome=sealed reason=- warn=expired keys=- format=seipd1 in=5 out=9 key_ms=0.4 ms=1.0 msgid=<a@x>
2026-11-01T10:06:00.000000+00:00 mail mailseal-filter[9]: user=bob@example.org outcome=unchanged reason=no-key warn=- keys=- format=- in=5 out=9 key_ms=0.4 ms=1.0 msgid=<a@x>
";

struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap());
        let known = site.path("known");
        fs::write(site.path("mailseal.toml"), format!("[keys]\nknown = \"{}\"\n", known.display())).unwrap();
        fs::write(site.path("mail.log"), LOG).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn why(&self, user: &str, id: &str, more: &[&str]) -> Run {
        let mut command = Command::new(testing::program("mailseal"));
        command.arg("--config").arg(self.path("mailseal.toml")).args(["status", user, "--why", id, "--log"]);
        filter::run(command.arg(self.path("mail.log")).args(more), b"", 1)
    }
}

#[test]
fn what_became_of_a_message_is_told_in_plain_words() {
    let site = Site::new();
    let run = site.why("Alice@example.org", "<a@x>", &[]);
    let said = run.said();
    assert!(
        said.contains("tries again") && said.contains("The message was sealed.") && said.contains("expired"),
        "{said}"
    );
    assert!(said.contains("to do: mailseal status USER") && !said.contains("no certificate"), "{said}");
    let said = site.why("bob@example.org", "a@x", &[]).said();
    assert!(said.contains("stored as it came") && said.lines().count() == 2, "{said}");
    let run = site.why("carol@example.org", "a@x", &[]);
    assert!(
        run.status == Some(1) && String::from_utf8_lossy(&run.stdout).contains("No line of the log"),
        "{run:?}"
    );
    let run = site.why("alice@example.org", "a@x", &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(
        (json[0]["outcome"].as_str(), json[1]["outcome"].as_str()),
        (Some("deferred"), Some("sealed"))
    );
}

#[test]
fn a_report_without_a_file_reads_the_journal_and_says_so() {
    let site = Site::new();
    let program = |text: &str| {
        fs::write(site.path("journalctl"), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(site.path("journalctl"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let report = |arguments: &[&str]| {
        let mut command = Command::new(testing::program("mailseal"));
        let path = format!("{}:{}", site.0.path().display(), std::env::var("PATH").unwrap());
        let command = command.env("PATH", path).arg("report").args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let log = site.path("mail.log");
    program(&format!("cat {}", log.display()));
    let (status, out, err) = report(&[]);
    assert!(out.starts_with("3 deliveries in 3 lines") && err.contains("reading the journal"), "{out}{err}");
    assert_eq!(status, Some(0));
    let (_, out, err) = report(&["--journal", "--json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok() && err.is_empty(), "{out}{err}");
    program("exit 1");
    let (status, out, err) = report(&["--journal"]);
    assert!(status == Some(75) && out.is_empty() && err.contains("journalctl failed"), "{err}");
    // What is piped in comes first.
    let mut command = Command::new(testing::program("mailseal"));
    let run = filter::run(command.arg("report"), LOG.as_bytes(), LOG.len());
    assert!(run.said().starts_with("3 deliveries"));
}
