//! What touches mail in `encrypt-maildir` and `mailseal audit` has no other files than the Maildir's.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use crate::strace::{self, Traced};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::server::Setup;
use testing::mailbox::{Mailbox, snapshot};

fn audit(mailbox: &Mailbox) -> Command {
    let mut command = Command::new(testing::program("mailseal"));
    command.arg("--config").arg(mailbox.config()).arg("audit").arg(mailbox.path(""));
    command
}

#[test]
fn what_touches_mail_opens_nothing_outside_the_maildir() {
    if !strace::is_there() {
        return;
    }
    for (name, owner) in [("encrypt-maildir", None), ("encrypt-maildir", Some(5000)), ("audit", None)] {
        if owner.is_some() && !nix::unistd::geteuid().is_root() {
            testing::skip::unless_ci("only root seals another's mail");
            continue;
        }
        let mailbox = Mailbox::small(8);
        if let Some(owner) = owner {
            mailbox.give(owner);
        }
        let command =
            if name == "audit" { audit(&mailbox) } else { mailbox.command(&["--sandbox", "require"]) };
        let logs = tempfile::tempdir().unwrap();
        let log = logs.path().join("log");
        let calls = "trace=openat,openat2,clone,clone3,landlock_restrict_self";
        let run = Traced::new(&command, b"").run(&["-y", "-e", calls], &log);
        assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
        let text = strace::read(&log);
        let opened = check(&text, &mailbox.path("")).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert!(opened >= 8, "{name}: {opened} messages opened in {text}");
    }
}

/// Every message is opened by a confined thread, and nothing else is; how many were opened.
fn check(text: &str, maildir: &Path) -> Result<usize, String> {
    let (mut confined, mut opened) = (HashSet::new(), 0);
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let result = call.rsplit_once(" = ").map(|(_, result)| result.trim()).unwrap_or_default();
        if call.contains("landlock_restrict_self") && result == "0" {
            confined.insert(thread.to_owned());
        } else if call.contains("clone") && confined.contains(thread) {
            confined.insert(result.to_owned());
        } else if let Some((_, path)) = result.trim_end_matches('>').split_once('<') {
            let path = Path::new(path.trim_end_matches(">(deleted)"));
            let is_message = path.starts_with(maildir.join("cur")) && path != maildir.join("cur");
            opened += usize::from(is_message);
            if is_message && !confined.contains(thread) {
                return Err(format!("not confined: {line}"));
            }
            // O_PATH gives no way to what is in it.
            if confined.contains(thread) && !path.starts_with(maildir) && !call.contains("O_PATH") {
                return Err(format!("outside: {line}"));
            }
        }
    }
    Ok(opened)
}

/// On a kernel without Landlock.
#[test]
fn without_landlock_it_runs_unless_it_is_required() {
    if !strace::is_there() {
        return;
    }
    let mailbox = Mailbox::small(3);
    let before = snapshot(&mailbox.path(""));
    let run = |options: &[&str]| {
        let traced = Traced::new(&mailbox.command(options), b"");
        traced.run(&["-e", "inject=landlock_create_ruleset:error=ENOSYS"], Path::new("/dev/null"))
    };
    let refused = run(&["--sandbox", "require"]);
    assert_eq!(refused.status, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("no Landlock"), "{}", refused.stderr);
    assert!(before == snapshot(&mailbox.path("")), "something was changed");
    assert_eq!(run(&[]).status, Some(0));
    mailbox.assert_sealed("without Landlock");
}

#[test]
fn doctor_says_what_the_kernel_lacks() {
    let Some(setup) = Setup::with(Flavour::V2_3, "mailseal.sieve").filter(|_| strace::is_there()) else {
        return;
    };
    let server = setup.start();
    let mut doctor = Command::new(testing::program("mailseal"));
    doctor.arg("doctor").arg("--dovecot-config").arg(server.path("dovecot.conf"));
    let said = |injected: &[&str]| {
        let run = Traced::new(&doctor, b"").with_path().run(injected, Path::new("/dev/null"));
        String::from_utf8(run.stdout).unwrap()
    };
    let well = said(&["-e", "trace=none"]);
    assert!(well.contains("ok       sandbox: "), "{well}");
    for (injected, what) in [
        (&["-e", "inject=landlock_create_ruleset:error=ENOSYS"][..], "no Landlock"),
        (&["-P", ACTIONS, "-e", "inject=openat:error=ENOENT"], "no seccomp"),
    ] {
        let ill = said(injected);
        let mut lines = ill.lines().skip_while(|line| !line.starts_with("warning  sandbox: "));
        assert!(lines.next().is_some_and(|line| line.contains(what)), "{what}: {ill}");
        assert!(lines.next().is_some_and(|line| line.contains(" do: ")), "{what}: {ill}");
    }
}

const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";
