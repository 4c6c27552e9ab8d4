//! Every system call of a delivery and of a rewrite fails once, with each error.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::strace::{self, Call, ERRORS, Traced, measured};
use testing::mailbox::{Mailbox, plain_mails};
use testing::{jobs, openers, oracle};

const MAIL: &[u8] = b"Subject: a delivery\nMessage-ID: <one@example.net>\n\ncanary in the body\n";

/// What a delivery must not fail without: reading and writing the message, and finding its certificate.
const CENTRAL: [&str; 9] =
    ["read", "write", "close", "openat", "statx", "newfstatat", "fstat", "seccomp", "fcntl"];

#[test]
fn a_delivery_with_a_failing_call_is_sealed_or_deferred() {
    deliveries(&["EIO"], |call| CENTRAL.contains(&&*call.name));
}

#[test]
#[ignore = "minutes: every call with every error"]
fn a_delivery_with_any_failing_call_is_sealed_or_deferred() {
    deliveries(&ERRORS, |_| true);
}

/// A delivery of a user whose certificate is looked up, as a user who is not root.
fn delivery(dir: &Path) -> Option<Traced> {
    if !nix::unistd::geteuid().is_root() {
        testing::skip::unless_ci("it delivers as another user, and so runs as root");
        return None;
    }
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    };
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    write("alice.pgp", &fs::read(oracle::key("curve25519")).unwrap());
    let config = write(
        "mailseal.toml",
        format!("[keys]\nsources = [\"file:{}/%{{user}}.pgp\"]\n", dir.display()).as_bytes(),
    );
    let program = dir.join("mailseal-filter");
    testing::install("mailseal-filter", &program);
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(["--user", "alice", "--home", "/", "--log", "stderr"]);
    let mut traced = Traced::new(&command, MAIL);
    traced.user = Some("nobody");
    Some(traced)
}

fn deliveries(errors: &[&str], is_wanted: impl Fn(&Call) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let Some(traced) = delivery(dir.path()).filter(|_| strace::is_there()) else { return };
    let calls: Vec<Call> = traced.calls("alice.pgp").into_iter().filter(is_wanted).collect();
    assert!(calls.len() > 30, "{calls:?}");
    let (sealed, deferred) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let cases: Vec<(&Call, &str)> =
        calls.iter().flat_map(|call| errors.iter().map(move |error| (call, *error))).collect();
    let name = |(call, error): &(&Call, &str)| format!("{error} for {} {}", call.name, call.count);
    jobs::all(&cases, name, |(call, error)| {
        let run = traced.failing(call, error, Path::new("/dev/null"));
        let when = format!("{error} for {} {}: {}", call.name, call.count, call.line);
        if run.stderr.contains("canary in the body") {
            return Err(format!("{when}: {}", run.stderr));
        }
        match run.status {
            Some(0) => {
                let out = oracle::check_outside(MAIL, &run.stdout).map_err(|why| format!("{when}: {why}"))?;
                let opened =
                    openers::rpgp("curve25519", out.armor).map_err(|why| format!("{when}: {why}"))?;
                if !oracle::expected_entities(MAIL).contains(&opened.data) {
                    return Err(format!("{when}: it opens to something else"));
                }
                // What could not be closed may not have been stored.
                let is_output = call.name == "close" && call.line.starts_with("close(4)");
                if call.name == "write" && call.line.contains("Subject") || is_output {
                    return if *error == "EINTR" && !is_output {
                        Ok(())
                    } else {
                        Err(format!("{when}: called a success"))
                    };
                }
                sealed.fetch_add(1, Ordering::Relaxed);
            }
            // A hang.
            Some(124 | 137) => return Err(format!("{when}: {run:?}")),
            // A signal as well: the C library gives up where a call fails with what it cannot fail with.
            Some(_) | None => {
                deferred.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    });
    measured(&format!(
        "deliveries with one failing call: {} ({} calls x {} errors): {} sealed all the same, {} deferred, 0 in clear, \
         0 wrong",
        cases.len(),
        calls.len(),
        errors.len(),
        sealed.into_inner(),
        deferred.into_inner()
    ));
}

#[test]
fn a_rewrite_with_a_failing_call_loses_nothing() {
    let central = ["write", "fsync", "renameat2", "renameat", "unlinkat", "flock", "fchmod", "utimensat"];
    rewrites(&["EIO", "ENOSPC", "EINTR"], &[&[]], |call| {
        central.contains(&&*call.name) || call.line.contains("O_CREAT")
    });
}

#[test]
#[ignore = "many minutes: every call with every error"]
fn a_rewrite_with_any_failing_call_loses_nothing() {
    rewrites(&ERRORS, &[&[], &["--keep-uids"]], |_| true);
}

fn mailbox() -> Mailbox {
    let mut mailbox = Mailbox::new(&[]);
    mailbox.put("", "cur", ":2,FS", &plain_mails()[0].bytes);
    let file = mailbox.path_of(&mailbox.known[0]).file_name().unwrap().to_str().unwrap().to_owned();
    let base = file.split(':').next().unwrap();
    fs::write(mailbox.path("dovecot-uidlist"), format!("3 V1 N2 G00\n1 :{base}\n")).unwrap();
    mailbox
}

fn rewrites(errors: &[&str], options: &[&[&str]], is_wanted: impl Fn(&Call) -> bool) {
    if !strace::is_there() {
        return;
    }
    for options in options {
        // Then one thread does it all, and its calls can be counted.
        let options = [*options, &["--jobs", "1", "--sandbox", "off"]].concat();
        let calls = {
            let mailbox = mailbox();
            Traced::new(&mailbox.command(&options), b"").calls("flock(")
        };
        let begin = calls.iter().position(|call| call.name == "flock").unwrap();
        let calls: Vec<&Call> = calls[begin..].iter().filter(|call| is_wanted(call)).collect();
        assert!(calls.len() >= 10, "{calls:?}");
        let succeeded = AtomicUsize::new(0);
        let cases: Vec<(&Call, &str)> =
            calls.iter().flat_map(|call| errors.iter().map(move |error| (*call, *error))).collect();
        let name = |(call, error): &(&Call, &str)| format!("{error} for {} {}", call.name, call.count);
        jobs::all(&cases, name, |(call, error)| {
            let when = format!("{error} for {} {}: {}", call.name, call.count, call.line);
            let mailbox = mailbox();
            let log = mailbox.path("strace.log");
            let run = Traced::new(&mailbox.command(&options), b"").failing(call, error, &log);
            mailbox.assert_nothing_lost(&when);
            match run.status {
                Some(0) => {
                    succeeded.fetch_add(1, Ordering::Relaxed);
                    let once = mailbox.known.iter().all(|known| mailbox.files_of(known).len() == 1);
                    assert!(once, "{when}: called a success");
                }
                Some(124 | 137) => return Err(format!("{when}: {run:?}")),
                None => {}
                Some(_) if run.stderr.contains("hint:") => {}
                Some(_) => return Err(format!("{when}: it does not say why: {run:?}")),
            }
            if call.name == "fsync" {
                check_flush(&log, run.status).map_err(|why| format!("{when}: {why}"))?;
            }
            mailbox.seal();
            mailbox.assert_sealed(&when);
            Ok(())
        });
        measured(&format!(
            "rewrites {options:?} with one failing call: {} ({} calls x {} errors): 0 lost, 0 twice after the next run; \
             {} succeeded all the same",
            cases.len(),
            calls.len(),
            errors.len(),
            succeeded.into_inner()
        ));
    }
}

/// Flushes of a batch are side by side: each one may fail, or be the last that is done.
#[test]
fn a_batch_with_failing_flushes_loses_nothing() {
    if !strace::is_there() {
        return;
    }
    let faults = ["error=EIO", "error=ENOSPC", "error=EINTR", "signal=KILL"];
    let cases: Vec<(&str, usize)> = faults.into_iter().flat_map(|fault| [(fault, 1), (fault, 2)]).collect();
    let name = |(fault, count): &(&str, usize)| format!("{fault} {count}");
    jobs::all(&cases, name, |(fault, count)| {
        let when = format!("{fault} for the flush {count} of each thread");
        let mailbox = Mailbox::small(12);
        let log = mailbox.path("strace.log");
        // In its sandbox: there, too, threads can be started.
        let traced = Traced::new(&mailbox.command(&["--jobs", "1"]), b"");
        let run = traced.run(&["-y", "-e", &format!("inject=fsync:{fault}:when={count}")], &log);
        mailbox.assert_nothing_lost(&when);
        let text = strace::read(&log);
        let is_flush = |line: &&str| line.contains(" fsync(") && line.contains("/tmp/mailseal.");
        let flushes: Vec<&str> = text.lines().filter(is_flush).collect();
        let threads: BTreeSet<&str> = flushes.iter().filter_map(|line| line.split(' ').next()).collect();
        if *fault != "signal=KILL" {
            let said = !matches!(run.status, None | Some(0 | 124 | 137)) && run.stderr.contains("hint:");
            assert!(said, "{when}: {run:?}");
            let paths: Vec<&str> = flushes.iter().filter_map(|line| line.split(['<', '>']).nth(1)).collect();
            let each: BTreeSet<&&str> = paths.iter().collect();
            assert!(paths.len() == 12 && each.len() == 12, "{when}: not each once: {flushes:?}");
            assert!(threads.len() > 1, "{when}: one thread did all");
        }
        mailbox.seal();
        mailbox.assert_sealed(&when);
        Ok(())
    });
}

/// A flush that failed is not tried again for the same file, and the run does not succeed.
fn check_flush(log: &Path, status: Option<i32>) -> Result<(), String> {
    let text = strace::read(log);
    let mut flushes =
        text.lines().filter(|line| line.contains("fsync(")).skip_while(|line| !line.contains("INJECTED"));
    let failed = flushes.next().ok_or("no flush failed")?;
    let path = |line: &str| line.split(['<', '>']).nth(1).map(PathBuf::from);
    let is_file =
        path(failed).is_some_and(|path| path.parent().is_some_and(|folder| folder.ends_with("tmp")));
    if is_file && flushes.any(|line| path(line) == path(failed)) {
        return Err(format!("it was tried again: {failed}"));
    }
    if status == Some(0) { Err(format!("it was called a success: {failed}")) } else { Ok(()) }
}
