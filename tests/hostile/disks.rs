//! Full disks, read-only mounts, unreadable files, and several runs at once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use testing::mailbox::{Mailbox, ended, plain_mails, snapshot};
use testing::skip;

#[test]
fn runs_at_once_seal_each_message_once() {
    for runs in [2, 8] {
        let mut mailbox = Mailbox::new(&[".Sent", ".Junk"]);
        for (number, mail) in plain_mails().iter().enumerate() {
            mailbox.put(["", ".Sent", ".Junk"][number % 3], "cur", ":2,S", &mail.bytes);
        }
        let children: Vec<_> = (0..runs).map(|_| mailbox.command(&["--json"]).spawn().unwrap()).collect();
        let mut sealed = 0;
        for child in children {
            let run = ended(child);
            assert_eq!(run.status, Some(0), "{run:?}");
            let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
            sealed += summary["sealed"].as_u64().unwrap();
        }
        assert_eq!(sealed, mailbox.known.len() as u64, "{runs} runs: messages sealed in all");
        mailbox.assert_sealed(&format!("{runs} runs at once"));
    }
}

#[test]
fn a_file_that_cannot_be_read_stays_and_is_named() {
    let mut mailbox = Mailbox::new(&[]);
    for mail in plain_mails().iter().take(4) {
        mailbox.put("", "cur", ":2,S", &mail.bytes);
    }
    if nix::unistd::geteuid().is_root() {
        mailbox.give(5000);
    }
    let path = mailbox.path_of(&mailbox.known[1]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let run = mailbox.run(&["--json"]);
    assert_eq!(run.status, Some(1), "{run:?}");
    assert!(run.stderr.contains(&mailbox.known[1].id), "{}", run.stderr);
    let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&summary["sealed"], &summary["failed"]), (&3.into(), &1.into()), "{}", run.stdout);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    mailbox.seal();
    mailbox.assert_sealed("readable again");
}

/// A tmpfs of its own, unmounted when it is dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(options: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip::say("only root can mount a file system");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path());
        if !mount.status().is_ok_and(|status| status.success()) {
            skip::say("file systems cannot be mounted here");
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(self.path());
        assert!(mount.status().unwrap().success(), "remount {options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// Messages of 20 kB that do not compress, on a disk with room for fewer new ones than a batch has.
#[test]
fn on_a_full_disk_nothing_is_lost() {
    let Some(mount) = Mount::new("size=1m") else { return };
    let mut mailbox = Mailbox::below(mount.path(), &[]);
    let mut state = 7u64;
    for number in 0..40 {
        let noise: String = (0..20_000)
            .map(|at| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if at % 77 == 76 { '\n' } else { char::from(b'!' + (state >> 58) as u8) }
            })
            .collect();
        mailbox.put("", "cur", ":2,S", format!("Subject: {number}\n\n{noise}\n").as_bytes());
    }
    for _ in 0..3 {
        let run = mailbox.run(&[]);
        if run.status == Some(0) {
            break;
        }
        assert_eq!(run.status, Some(75), "{run:?}");
        assert!(run.stderr.contains("No space left"), "{}", run.stderr);
        mailbox.assert_each_once("on a full disk");
    }
    mount.remount("size=8m");
    mailbox.seal();
    mailbox.assert_sealed("with room");
}

#[test]
fn on_a_read_only_mount_nothing_is_changed() {
    let Some(mount) = Mount::new("size=4m") else { return };
    let mut mailbox = Mailbox::below(mount.path(), &[]);
    for mail in plain_mails().iter().take(5) {
        mailbox.put("", "cur", ":2,S", &mail.bytes);
    }
    let before = snapshot(&mailbox.path(""));
    mount.remount("ro");
    let run = mailbox.run(&[]);
    assert_eq!(run.status, Some(75), "{run:?}");
    assert!(run.stderr.contains("Read-only file system"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("Read-only").count(), 1, "said once: {}", run.stderr);
    assert!(before == snapshot(&mailbox.path("")));
    mount.remount("rw");
    mailbox.seal();
    mailbox.assert_sealed("writable again");
}
