//! What becomes of messages: sealed once, or left alone and named.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use testing::mailbox::{
    CERT, Ended, Mailbox, ended, inline, large_ciphertext, plain_mails, program, snapshot,
};
use testing::{fixtures, oracle, skip};

/// All fixture mails and all encrypted ones, over four folders of both layouts.
fn whole() -> Mailbox {
    let folders = [".Sent", ".a.b", "fs/deep"];
    let mut mailbox = Mailbox::new(&folders);
    let flags = [("cur", ":2,"), ("cur", ":2,FSa"), ("new", ""), ("cur", ""), ("cur", ":2,RSTbz")];
    for (number, mail) in plain_mails().iter().enumerate() {
        let folder = ["", ".Sent", ".a.b", "fs/deep"][number % 4];
        let (place, info) = flags[number % flags.len()];
        mailbox.put(folder, place, info, &mail.bytes);
    }
    for (number, mail) in fixtures::mails("encrypted").iter().enumerate() {
        mailbox.put_unchanged(folders[number % 3], "cur", ":2,S", &mail.bytes);
    }
    mailbox
}

#[test]
fn every_message_is_sealed_and_a_second_run_changes_nothing() {
    let mailbox = whole();
    let first = mailbox.seal();
    assert!(first.stdout.contains(&format!("of {} messages", mailbox.known.len())), "{}", first.stdout);
    mailbox.assert_sealed("after a run");
    let before = snapshot(&mailbox.path(""));
    for jobs in ["1", "2"] {
        let again = mailbox.run(&["--jobs", jobs]);
        assert_eq!(again.status, Some(0), "{again:?}");
        assert!(again.stdout.starts_with("sealed     0 of "), "{}", again.stdout);
        assert!(before == snapshot(&mailbox.path("")), "a second run changed something");
    }
}

#[test]
fn what_a_sender_made_look_encrypted_is_sealed() {
    let mut mailbox = Mailbox::new(&[]);
    for mail in fixtures::mails("forged") {
        mailbox.put("", "cur", ":2,", &mail.bytes);
    }
    mailbox.seal();
    mailbox.assert_sealed("forged");
}

/// What only all of a message shows: text behind an armor, and another line ending, both beyond the look-ahead.
#[test]
fn a_message_is_judged_by_all_of_it() {
    let mut mailbox = Mailbox::new(&[]);
    let long = "A line of a body that is long, so that the look-ahead ends before it does.\n".repeat(20_000);
    let mixed = format!("Subject: mixed\n\n{long}and one with CRLF\r\n");
    mailbox.put_as_is(&mixed);
    let text = large_ciphertext();
    mailbox.put_unchanged("", "cur", ":2,S", text.as_bytes());
    mailbox.put_unchanged("", "cur", ":2,S", inline(&text).as_bytes());
    mailbox.put_as_is(&format!("{}clear text behind the armor\n", inline(&text)));
    mailbox.put_as_is(&format!("{text}clear text behind the last part\n"));
    let (before, after) = text.split_at(text.len() - 3000);
    mailbox.put_as_is(&format!("{before}clear text in the armor\n{after}"));
    let run = mailbox.run(&["--json"]);
    assert_eq!(run.status, Some(0), "{run:?}");
    let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        [&summary["sealed"], &summary["unchanged"]["pgp-mime"], &summary["unchanged"]["pgp-inline"]],
        [4, 1, 1],
        "{}",
        run.stdout
    );
    let stored = fs::read(&mailbox.files_of(&mailbox.known[0])[0]).unwrap();
    let armor = oracle::check_outside(mixed.as_bytes(), &stored).unwrap().armor.to_vec();
    let opened = testing::openers::rpgp(CERT, &armor).unwrap();
    assert!(
        opened.file_name.starts_with(b"mailseal1;eol=mixed;"),
        "{:?}",
        String::from_utf8_lossy(&opened.file_name)
    );
    assert!(opened.data.ends_with(mixed.split_once("\n\n").unwrap().1.as_bytes()), "verbatim");
}

/// What only a run that holds the message proves to be encrypted: beyond a size it is sealed like a clear one.
#[test]
fn what_takes_too_much_memory_to_prove_is_sealed() {
    let mut mailbox = Mailbox::new(&[]);
    mailbox.put_as_is(&format!("Subject: zeros\n\n{}\n", "0".repeat(50_000_000)));
    assert_eq!(mailbox.run(&["--compression", "none"]).status, Some(0));
    let file = mailbox.files_of(&mailbox.known[0]).remove(0);
    let armored = inline(&fs::read_to_string(&file).unwrap());
    assert!(armored.len() > 64 * 1024 * 1024);
    fs::write(&file, &armored).unwrap();
    let run = mailbox.run(&["--json", "--compression", "none"]);
    assert_eq!(run.status, Some(0), "{run:?}");
    let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&summary["sealed"], &summary["messages"]), (&1.into(), &1.into()), "{}", run.stdout);
}

#[test]
fn packed_messages_are_named_and_unpacked_when_told() {
    let mut mailbox = Mailbox::new(&[]);
    let text = b"Subject: packed\n\nA body.\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text).unwrap();
    let packed = [
        ("gzip", gzip.finish().unwrap()),
        ("zstd", zstd::encode_all(&text[..], 0).unwrap()),
        ("mail-crypt", b"CRYPTED\x03\x07\x02 and what follows".to_vec()),
    ];
    for (_, bytes) in &packed {
        mailbox.put_unchanged("", "cur", ":2,S", bytes);
    }
    let before = snapshot(&mailbox.path(""));
    let run = mailbox.run(&["--json"]);
    assert_eq!(run.status, Some(1), "{run:?}");
    let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    for ((name, _), known) in packed.iter().zip(&mailbox.known) {
        assert_eq!(summary["unchanged"][name], 1, "{}", run.stdout);
        assert!(run.stderr.contains(&known.id), "{}", run.stderr);
    }
    assert!(before == snapshot(&mailbox.path("")));
    let run = mailbox.run(&["--unpack"]);
    assert_eq!(run.status, Some(1), "mail_crypt stays: {run:?}");
    for known in &mailbox.known[..2] {
        let stored = fs::read(&mailbox.files_of(known)[0]).unwrap();
        let sealed = oracle::check_outside(text, &stored).unwrap();
        let opened = testing::openers::rpgp(CERT, sealed.armor).unwrap();
        assert!(oracle::expected_entities(text).contains(&opened.data));
    }
    // What is broken is left alone.
    let mut mailbox = Mailbox::new(&[]);
    mailbox.put_unchanged("", "cur", ":2,S", &packed[0].1[..20]);
    let run = mailbox.run(&["--unpack"]);
    assert_eq!(run.status, Some(1), "{run:?}");
    mailbox.assert_sealed("broken");
}

#[test]
fn what_is_not_worked_on_is_named_and_links_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "Subject: not in the Maildir\n\nx\n").unwrap();
    let mut mailbox = Mailbox::new(&[]);
    mailbox.put("", "cur", ":2,S", b"Subject: a\n\nb\n");
    symlink(&secret, mailbox.path("cur/1600000000.link.host:2,S")).unwrap();
    nix::unistd::mkfifo(&mailbox.path("cur/1600000001.fifo.host"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for place in ["cur", "new", "tmp"] {
        fs::create_dir(outside.path().join(place)).unwrap();
    }
    fs::copy(&secret, outside.path().join("cur/1600000002.x.host:2,S")).unwrap();
    symlink(outside.path(), mailbox.path(".Linked")).unwrap();
    fs::create_dir_all(mailbox.path(".Half/new")).unwrap();
    for name in ["cur/:2,S", ".Half/new/1600000003.half.host"] {
        fs::copy(&secret, mailbox.path(name)).unwrap();
    }
    let before = snapshot(outside.path());
    let run = mailbox.run(&["--json"]);
    assert_eq!(run.status, Some(1), "{run:?}");
    let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let unchanged = |reason: &str| summary["unchanged"][reason].clone();
    assert_eq!((unchanged("not-a-file"), unchanged("unnamed")), (2.into(), 1.into()));
    assert_eq!(summary["sealed"], 1);
    let named = ["1600000000.link", "1600000001.fifo", "cur/:2,S", ".Linked", ".Half"];
    for name in named {
        assert!(run.stderr.contains(name), "{name}: {}", run.stderr);
    }
    assert!(before == snapshot(outside.path()), "something outside was changed");
}

/// What a killed run leaves is the old message beside the new one; the next run removes a name of the old one as well.
#[test]
fn names_elsewhere_of_what_is_put_in_order_are_counted() {
    let names = |run: &Ended| -> serde_json::Value {
        let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        serde_json::json!([run.status, summary["recovered"], summary["names_elsewhere"]])
    };
    let outside = tempfile::tempdir().unwrap();
    let (first, second) = (outside.path().join("first"), outside.path().join("second"));
    let mut mailbox = Mailbox::new(&[".Moved"]);
    mailbox.put("", "cur", ":2,S", b"Subject: a\n\nb\n");
    let old = mailbox.path_of(&mailbox.known[0]);
    fs::hard_link(&old, &first).unwrap();
    let run = mailbox.run(&["--json"]);
    assert_eq!(names(&run), serde_json::json!([1, 0, 1]), "{run:?}");

    // The old one is back beside the new one, and in a backup.
    fs::hard_link(&first, &old).unwrap();
    fs::hard_link(&first, &second).unwrap();
    fs::remove_file(&first).unwrap();
    let run = mailbox.run(&["--json"]);
    assert_eq!(names(&run), serde_json::json!([1, 1, 1]), "{run:?}");

    // A client moves both while INBOX is worked on: the last name is gone when the folder is put in order.
    let new = fs::read_dir(mailbox.path("cur")).unwrap().next().unwrap().unwrap().file_name();
    fs::rename(mailbox.path("cur").join(&new), mailbox.path(".Moved/cur").join(&new)).unwrap();
    fs::hard_link(&second, &old).unwrap();
    fs::rename(&second, mailbox.path(".Moved/cur").join(old.file_name().unwrap())).unwrap();
    let run = mailbox.run(&["--json"]);
    assert_eq!(names(&run), serde_json::json!([0, 1, 0]), "{run:?}");
}

#[test]
fn a_name_elsewhere_keeps_the_clear_text_and_is_counted() {
    let backup = tempfile::tempdir().unwrap();
    let mut mailbox = Mailbox::new(&[".Copy"]);
    mailbox.put("", "cur", ":2,S", b"Subject: a\n\nb\n");
    mailbox.put("", "cur", ":2,S", b"Subject: c\n\nd\n");
    // One in a backup, and one that Dovecot's COPY made, which is sealed as well.
    fs::hard_link(mailbox.path_of(&mailbox.known[0]), backup.path().join("backup")).unwrap();
    fs::hard_link(mailbox.path_of(&mailbox.known[1]), mailbox.path(".Copy/cur/1600000000.copy.host:2,S"))
        .unwrap();
    let run = mailbox.run(&["--json"]);
    assert_eq!(run.status, Some(1), "{run:?}");
    let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&summary["sealed"], &summary["names_elsewhere"]), (&3.into(), &1.into()), "{}", run.stdout);
    assert_eq!(
        fs::read(backup.path().join("backup")).unwrap(),
        b"Subject: a\n\nb\n",
        "never written in place"
    );
}

#[test]
fn a_dry_run_changes_nothing_and_says_how_large_it_gets() {
    let mailbox = whole();
    let before = snapshot(&mailbox.path(""));
    let dry = mailbox.run(&["--dry-run", "--json"]);
    assert!(before == snapshot(&mailbox.path("")), "a dry run changed something");
    let wet = mailbox.run(&["--json"]);
    let (dry, wet): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&dry.stdout).unwrap(), serde_json::from_str(&wet.stdout).unwrap());
    for name in ["messages", "sealed", "unchanged", "failed", "bytes_before"] {
        assert_eq!(dry[name], wet[name], "{name}");
    }
    // The session keys' packets differ by an octet or two.
    let (dry, wet) = (dry["bytes_after"].as_u64().unwrap(), wet["bytes_after"].as_u64().unwrap());
    assert!(dry.abs_diff(wet) * 1000 < wet, "{dry} {wet}");
    let table = mailbox.run(&["--dry-run"]).stdout;
    assert!(table.contains("/fs/deep") && table.contains("Nothing was changed"), "{table}");
}

#[test]
fn expired_keys_are_named() {
    let mut mailbox = Mailbox::new(&[]);
    mailbox.put_as_is("Subject: a\n\nb\n");
    let mut command = program();
    command.arg("--key").arg(oracle::key("expired")).arg(mailbox.path(""));
    let run = ended(command.spawn().unwrap());
    assert_eq!(run.status, Some(0), "{run:?}");
    assert!(run.stderr.contains("have expired") && run.stderr.contains("hint: "), "{run:?}");
}

#[test]
fn only_confirmed_certificates_are_looked_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("mailseal.toml");
    let keys = dir.path().join("keys");
    fs::create_dir(&keys).unwrap();
    let text = format!(
        "[keys]\nsources = [\"file:{}/%{{user}}.pgp\"]\nknown = \"{}\"\n[log]\nto = \"none\"\n",
        keys.display(),
        dir.path().join("known").display()
    );
    fs::write(&config, text).unwrap();
    let users = dir.path().join("users");
    fs::write(&users, "").unwrap();
    let mut init = std::process::Command::new(testing::program("mailseal"));
    init.arg("--config").arg(&config).args(["keys", "init", "--users"]).arg(&users);
    assert!(init.output().unwrap().status.success());
    let mut mailbox = Mailbox::new(&[]);
    mailbox.put("", "cur", ":2,S", b"Subject: a\n\nb\n");
    let run = |options: &[&str]| {
        let mut command = std::process::Command::new(testing::program("encrypt-maildir"));
        command.arg("--config").arg(&config).args(["--user", "alice"]).args(options).arg(mailbox.path(""));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(command.spawn().unwrap())
    };
    let none = run(&["--json"]);
    assert_eq!(none.status, Some(0), "{none:?}");
    assert!(none.stdout.contains("\"no-key\": 1"), "{}", none.stdout);
    fs::copy(oracle::key(CERT), keys.join("alice.pgp")).unwrap();
    let dry = run(&["--dry-run"]);
    assert_eq!(dry.status, Some(0), "{dry:?}");
    assert!(dry.stdout.contains("to seal    1 of 1") && dry.stderr.contains("--unconfirmed"), "{dry:?}");
    let refused = run(&[]);
    assert_eq!(refused.status, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("--unconfirmed"), "{}", refused.stderr);
    let sealed = run(&["--unconfirmed"]);
    assert_eq!(sealed.status, Some(0), "{sealed:?}");
    mailbox.assert_sealed("unconfirmed");
    fs::write(keys.join("alice.pgp"), "no certificate").unwrap();
    assert_eq!(run(&["--unconfirmed"]).status, Some(75));
}

#[test]
fn messages_are_chosen_by_the_time_of_their_last_change() {
    let mut mailbox = Mailbox::new(&[]);
    mailbox.put("", "cur", ":2,S", b"Subject: a\n\nb\n");
    std::thread::sleep(Duration::from_millis(2100));
    let sealed = |options: &[&str]| {
        let run = mailbox.run(&[options, &["--dry-run", "--json"]].concat());
        let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        summary["sealed"].as_u64().unwrap()
    };
    let counts =
        [["--newer-than", "1s"], ["--newer-than", "1h"], ["--older-than", "1s"], ["--older-than", "1h"]]
            .map(|options| sealed(&options));
    assert_eq!(counts, [0, 1, 1, 0]);
}

/// A folder that cannot be opened, or is another's, is named, and keeps nothing from the others.
#[test]
fn one_folder_stops_no_other() {
    if !nix::unistd::geteuid().is_root() {
        return skip::say("only root can give folders away");
    }
    let closed = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    let others = |path: &Path| std::os::unix::fs::chown(path, Some(5002), Some(5002)).unwrap();
    for (spoil, status) in [(closed as fn(&Path), 1), (others, 75)] {
        let mut mailbox = Mailbox::new(&[".A", ".B"]);
        mailbox.put("", "cur", ":2,S", b"Subject: a\n\nb\n");
        mailbox.put(".B", "new", "", b"Subject: c\n\nd\n");
        mailbox.give(5001);
        spoil(&mailbox.path(".A"));
        let run = mailbox.run(&[]);
        assert_eq!(run.status, Some(status), "{run:?}");
        assert!(run.stderr.contains("/.A: "), "{}", run.stderr);
        mailbox.assert_sealed("the others");
    }
}

/// Root touches no mail: what it starts has the owner's rights, and what is another's stays.
#[test]
fn root_drops_to_each_owner() {
    if !nix::unistd::geteuid().is_root() {
        return skip::say("only root has rights to drop");
    }
    let mut mailbox = Mailbox::new(&[".Sent"]);
    for mail in plain_mails().iter().take(6) {
        mailbox.put(".Sent", "cur", ":2,S", &mail.bytes);
    }
    mailbox.give(5000);
    mailbox.seal();
    mailbox.assert_sealed("as its owner");
    for known in &mailbox.known {
        let metadata = fs::metadata(&mailbox.files_of(known)[0]).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (5000, 5000));
    }
    // A message that a link of root's file made, and a folder of another user.
    let mut mailbox = Mailbox::new(&[".Other"]);
    mailbox.put(".Other", "cur", ":2,S", b"Subject: a\n\nb\n");
    mailbox.give(5001);
    std::os::unix::fs::chown(mailbox.path(""), Some(5000), Some(5000)).unwrap();
    for place in ["cur", "new", "tmp"] {
        std::os::unix::fs::chown(mailbox.path(place), Some(5000), Some(5000)).unwrap();
    }
    let file = mailbox.path("cur/1600000000.x.host:2,S");
    fs::write(&file, "Subject: root's\n\nb\n").unwrap();
    let before = snapshot(&mailbox.path(""));
    let run = mailbox.run(&[]);
    assert_eq!(run.status, Some(75), "{run:?}");
    assert!(
        run.stderr.contains("1600000000.x.host") || run.stderr.contains("belongs to user"),
        "{}",
        run.stderr
    );
    assert!(before == snapshot(&mailbox.path("")), "another's mail was touched");
    // A Maildir that its owner replaced with a link to another's.
    let mut mailbox = Mailbox::new(&[]);
    mailbox.put("", "cur", ":2,S", b"Subject: a\n\nb\n");
    mailbox.give(5001);
    let link = tempfile::tempdir().unwrap();
    fs::set_permissions(link.path(), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(mailbox.path(""), link.path().join("Maildir")).unwrap();
    std::os::unix::fs::lchown(link.path().join("Maildir"), Some(5000), Some(5000)).unwrap();
    let mut command = program();
    command.arg("--key").arg(oracle::key(CERT)).arg(link.path().join("Maildir"));
    let run = ended(command.spawn().unwrap());
    assert_eq!(run.status, Some(64), "{run:?}");
    assert_eq!(mailbox.files_of(&mailbox.known[0]).len(), 1);
    assert!(fs::read(mailbox.path_of(&mailbox.known[0])).is_ok(), "another's mail was sealed");
}
