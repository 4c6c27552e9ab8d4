//! Headers with a line that is not a field: what readers show of the message that was sealed, they show of what is inside.
//!
//! Readers disagree about such a header, so each is asked: Python's email and mail-parser here, Dovecot where it is installed.
//! `cargo test --test programs header_readers:: -- --nocapture` prints the mails, and which of their fields stay outside.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Command};

use mail_parser::MessageParser;
use testing::{
    filter::{self, filter},
    fixtures::{self, Mail},
    header::split,
    openers,
    oracle::key,
    protected::armor,
    skip,
    variants::to_crlf,
};

const CERT: &str = "curve25519";

const NOBODY: u32 = 65534;

/// What Python's email finds: the type, and the body as it is written.
const PYTHON: &str = r"
import email, sys
message = email.message_from_bytes(sys.stdin.buffer.read())
payload = message.get_payload()
parts = len(payload) if message.is_multipart() else 1
# A message that ends with its header has got an empty line inside.
body = '' if message.is_multipart() else payload.rstrip()
sys.stdout.write(repr((message.get_content_type(), parts, message.preamble, body, message.get_boundary())))
";

/// The mails whose header has a tail.
fn mails() -> Vec<Mail> {
    let mut mails = fixtures::mails("mails");
    mails.extend(fixtures::corpus().unwrap_or_default());
    mails.retain(|mail| !split(&mail.bytes).region_and_tail().1.is_empty());
    assert!(mails.len() >= 10);
    mails
}

/// What is inside the sealed form of a mail, and its outer header.
fn sealed(mail: &[u8], policy: &str) -> (Vec<u8>, Vec<String>) {
    let run = filter(&key(CERT), &["--protect-headers", policy], mail);
    assert_eq!((run.status, &*run.stderr), (Some(0), ""));
    let outer = split(&run.stdout).items.iter().map(|item| name(item.bytes)).collect();
    (openers::rpgp(CERT, armor(&run.stdout)).unwrap().data, outer)
}

fn name(field: &[u8]) -> String {
    String::from_utf8_lossy(field).split([':', '\n']).next().unwrap_or_default().trim().to_owned()
}

fn python(message: &[u8]) -> String {
    let run = filter::run(Command::new("python3").args(["-c", PYTHON]), message, message.len());
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    String::from_utf8(run.stdout).unwrap()
}

fn mail_parser(message: &[u8]) -> String {
    let Some(message) = MessageParser::default().parse(message) else { return "nothing".to_owned() };
    let texts = (0..message.text_body.len()).filter_map(|n| message.body_text(n));
    let texts: Vec<String> =
        texts.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect();
    format!("{texts:?} {} attachments", message.attachments.len())
}

#[test]
fn readers_show_inside_what_they_showed_before() {
    if Command::new("python3").arg("--version").output().is_err() {
        skip::unless_ci("python3 is missing");
        return;
    }
    for mail in mails() {
        let message = to_crlf(&testing::variants::to_lf(&mail.bytes));
        for policy in ["none", "baseline"] {
            let (inside, outer) = sealed(&message, policy);
            eprintln!("{} {policy}: outside {}", mail.name, outer.join(" "));
            assert_eq!(python(&inside), python(&message), "Python, {} {policy}", mail.name);
            assert_eq!(mail_parser(&inside), mail_parser(&message), "mail-parser, {} {policy}", mail.name);
        }
    }
}

/// Dovecot's structure of every message in a Maildir, by the messages' names in order.
fn dovecot(maildir: &Path) -> Vec<String> {
    let config = maildir.join("dovecot.conf");
    let text = format!("mail_location = maildir:{}\nssl = no\nlog_path = /dev/stderr\n", maildir.display());
    fs::write(&config, text).unwrap();
    let mut command = Command::new("doveadm");
    // Dovecot opens no mail as root.
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
        for path in [maildir.to_owned(), maildir.join("cur"), maildir.join("new"), maildir.join("tmp")] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    command.arg("-c").arg(&config).args(["-f", "flow", "fetch", "imap.bodystructure", "all"]);
    let run = filter::run(command.env("HOME", maildir).env("USER", "nobody"), b"", 1);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let text = String::from_utf8(run.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn dovecot_finds_inside_the_structure_that_it_found_before() {
    if Command::new("doveadm").arg("--version").output().is_err() {
        skip::unless_ci("doveadm is missing");
        return;
    }
    let mails = mails();
    let structures = |write: &dyn Fn(&[u8]) -> Vec<u8>| {
        let dir = tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap();
        for place in ["cur", "new", "tmp"] {
            fs::create_dir(dir.path().join(place)).unwrap();
        }
        for (n, mail) in mails.iter().enumerate() {
            let message = to_crlf(&testing::variants::to_lf(&mail.bytes));
            fs::write(dir.path().join(format!("cur/{:04}:2,S", n + 1)), write(&message)).unwrap();
        }
        dovecot(dir.path())
    };
    let before = structures(&<[u8]>::to_vec);
    assert_eq!(before.len(), mails.len());
    let after = structures(&|message| sealed(message, "none").0);
    for ((mail, before), after) in mails.iter().zip(before).zip(after) {
        // A message that ends with its header has got an empty line inside: its text is longer.
        let whole = split(&mail.bytes).separator.is_some();
        let shown =
            |text: &str| if whole { text.to_owned() } else { text.replace(|c: char| c.is_ascii_digit(), "") };
        assert_eq!(shown(&after), shown(&before), "{}", mail.name);
    }
}
