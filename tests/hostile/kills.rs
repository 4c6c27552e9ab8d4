//! Kills at random moments, and before and after every system call: nothing is lost, and the next run puts all in order.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testing::mailbox::{Ended, Mailbox, ended, plain_mails, snapshot};
use testing::{fixtures, skip};

/// Random kills that always run, and how many the long form does unless `MAILSEAL_KILLS` says.
const KILLS: usize = 60;
const MANY_KILLS: usize = 3000;

/// Messages in the Maildir of a kill.
const MESSAGES: usize = 40;

#[test]
fn random_kills_lose_nothing() {
    random_kills(KILLS, 1);
}

#[test]
#[ignore = "minutes: MAILSEAL_KILLS=N says how many kills"]
fn many_random_kills_lose_nothing() {
    let kills = std::env::var("MAILSEAL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(MANY_KILLS);
    random_kills(kills, 2);
}

/// Kills runs over one Maildir until it is sealed all the same, then takes the next Maildir.
fn random_kills(kills: usize, seed: u64) {
    let mut random = Random(seed);
    let (mut done, mut amid, mut maildirs, mut twins, mut temporary) = (0, 0, 0, 0, 0);
    let whole = {
        let mailbox = filled();
        let begin = Instant::now();
        mailbox.seal();
        begin.elapsed()
    };
    while done < kills {
        let mailbox = filled();
        maildirs += 1;
        // Each run has a little less to do than the one before.
        for round in 0.. {
            if done == kills || round == 12 {
                break;
            }
            let jobs = if random.below(2) == 0 { "1" } else { "2" };
            let options: &[&str] = if maildirs % 3 == 0 { &["--keep-uids"] } else { &[] };
            let mut child = mailbox.command(&[options, &["--jobs", jobs]].concat()).spawn().unwrap();
            std::thread::sleep(whole.mul_f64(random.below(1000) as f64 / 1000.0));
            let ran = child.try_wait().unwrap().is_some();
            child.kill().unwrap();
            child.wait().unwrap();
            done += 1;
            amid += usize::from(!ran);
            mailbox.assert_nothing_lost(&format!("kill {done}"));
            let left = fs::read_dir(mailbox.path("tmp")).unwrap().count();
            let double = mailbox.known.iter().filter(|known| mailbox.files_of(known).len() == 2).count();
            temporary += left;
            twins += double;
            if done % 500 == 0 {
                measured(&format!("{done} kills so far: 0 lost"));
            }
            if ran {
                break;
            }
        }
        mailbox.seal();
        mailbox.assert_sealed(&format!("after kill {done}"));
        let before = snapshot(&mailbox.path(""));
        mailbox.seal();
        assert!(before == snapshot(&mailbox.path("")), "a further run changed something");
    }
    assert!(amid > 0, "no kill hit a run");
    assert!(temporary > 0 || kills < 20, "no kill hit a message that is being written");
    measured(&format!(
        "{done} kills, {amid} amid a run, over {maildirs} Maildirs of {MESSAGES} messages: 0 lost, 0 twice in the end; \
         {temporary} files were left in tmp/ and {twins} messages were there twice until the next run"
    ));
}

fn filled() -> Mailbox {
    let mut mailbox = Mailbox::new(&[".Sent"]);
    for (number, mail) in plain_mails().iter().cycle().take(MESSAGES).enumerate() {
        let (place, info) = [("cur", ":2,FS"), ("new", ""), ("cur", ":2,a")][number % 3];
        mailbox.put(["", ".Sent"][number % 2], place, info, &mail.bytes);
    }
    mailbox.put_unchanged("", "cur", ":2,S", &fixtures::mails("encrypted")[0].bytes);
    fs::write(mailbox.path("dovecot-uidlist"), uid_list(&mailbox)).unwrap();
    mailbox
}

/// The list that Dovecot would have of the INBOX.
fn uid_list(mailbox: &Mailbox) -> String {
    let mut list = format!("3 V1 N{} G00\n", mailbox.known.len() + 1);
    for (number, known) in mailbox.known.iter().enumerate() {
        let path = mailbox.path_of(known);
        if path.parent().unwrap().parent() == Some(&mailbox.path("")) {
            let name = path.file_name().unwrap().to_str().unwrap().split(':').next().unwrap().to_owned();
            list += &format!("{} :{name}\n", number + 1);
        }
    }
    list
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Says what was measured, to the stream itself.
fn measured(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "MEASURED: {text}");
}

/// System calls that change what is on the disk, or bring it there.
const CHANGING: [&str; 10] = [
    "write",
    "fsync",
    "renameat2",
    "renameat",
    "unlinkat",
    "linkat",
    "fchmod",
    "utimensat",
    "flock",
    "mkdirat",
];

/// The kill is before the call; the one before the next call is after it.
#[test]
fn a_kill_at_every_change_of_one_rewrite_loses_nothing() {
    kills_at_calls(|name, line| CHANGING.contains(&name) || line.contains("O_CREAT"));
}

#[test]
#[ignore = "minutes: every system call, of both ways to treat UIDs"]
fn a_kill_at_every_call_of_one_rewrite_loses_nothing() {
    kills_at_calls(|_, _| true);
}

fn kills_at_calls(is_wanted: impl Fn(&str, &str) -> bool) {
    if !has_strace() {
        return;
    }
    for options in [&[][..], &["--keep-uids"]] {
        let calls = traced_calls(options);
        let begin = calls.iter().position(|(name, _)| name == "flock").expect("the folder is locked");
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut points = Vec::new();
        for (at, (name, line)) in calls.iter().enumerate() {
            let count = counts.entry(name).or_default();
            *count += 1;
            if at >= begin && is_wanted(name, line) && !name.starts_with("exit") {
                points.push((name.clone(), *count));
            }
        }
        assert!(points.len() > 12, "{points:?}");
        let mut hit = 0;
        for (name, count) in &points {
            let mailbox = one_message();
            let run = strace(&mailbox, options, &[&format!("inject={name}:signal=KILL:when={count}")]);
            hit += usize::from(run.status != Some(0));
            let when = format!("killed at {name} {count} {options:?}");
            mailbox.assert_nothing_lost(&when);
            // Nobody could tell whose a lock without a name is.
            let lock = fs::read(mailbox.path("dovecot-uidlist.lock"));
            assert!(!lock.is_ok_and(|text| text.is_empty()), "{when}: the lock names no process");
            mailbox.seal();
            mailbox.assert_sealed(&when);
            if options.is_empty() {
                continue;
            }
            let list = fs::read_to_string(mailbox.path("dovecot-uidlist")).unwrap();
            let file = &mailbox.files_of(&mailbox.known[0])[0];
            let base = file.file_name().unwrap().to_str().unwrap().split(':').next().unwrap().to_owned();
            let listed = list.contains(&format!("1 :{base}\n"));
            let old = list.contains(&format!(
                ":{}",
                mailbox
                    .path_of(&mailbox.known[0])
                    .file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .split(':')
                    .next()
                    .unwrap()
            ));
            // The run after the kill gives a message that had not been touched a new UID.
            assert!(listed || old, "{when}: {list}");
        }
        assert!(hit * 10 >= points.len() * 9, "{hit} of {} kills hit", points.len());
        measured(&format!(
            "killed at each of {} system calls of one rewrite {options:?}: 0 lost, 0 twice",
            points.len()
        ));
    }
}

/// What a failing call does: nothing is lost, the run fails, and the next one succeeds.
#[test]
fn failing_calls_lose_nothing() {
    if !has_strace() {
        return;
    }
    let calls = traced_calls(&[]);
    let begin = calls.iter().position(|(name, _)| name == "flock").unwrap();
    let faults = [
        ("fsync", "EIO"),
        ("write", "ENOSPC"),
        ("write", "EDQUOT"),
        ("renameat2", "EIO"),
        ("renameat2", "ENOSPC"),
        ("unlinkat", "EIO"),
        ("openat", "ENOSPC"),
        ("openat", "EIO"),
        ("fchmod", "EIO"),
        ("utimensat", "EIO"),
        ("read", "EIO"),
        ("flock", "ENOLCK"),
        ("openat2", "ENOSYS"),
    ];
    for (name, error) in faults {
        let before = calls[..begin].iter().filter(|(other, _)| other == name).count();
        let all = calls.iter().filter(|(other, _)| other == name).count();
        for count in before + 1..=all {
            let mailbox = one_message();
            let run = strace(&mailbox, &[], &[&format!("inject={name}:error={error}:when={count}")]);
            let when = format!("{name} {count} fails with {error}");
            mailbox.assert_nothing_lost(&when);
            let said = run.stderr.contains("hint:");
            assert!(said || run.status == Some(0), "{when}: {run:?}");
            mailbox.seal();
            mailbox.assert_sealed(&when);
        }
    }
}

/// Interrupted and short system calls are no failures.
#[test]
fn interrupted_calls_change_nothing() {
    if !has_strace() {
        return;
    }
    let mailbox = one_message();
    let run =
        strace(&mailbox, &[], &["inject=read:error=EINTR:when=20+2", "inject=write:error=EINTR:when=1+2"]);
    assert_eq!(run.status, Some(0), "{run:?}");
    mailbox.assert_sealed("interrupted");
}

fn one_message() -> Mailbox {
    let mut mailbox = Mailbox::small(1);
    let known = mailbox.known.remove(0);
    fs::remove_file(mailbox.path_of(&known)).unwrap();
    mailbox.put("", "cur", ":2,FS", b"Subject: one\nContent-Type: text/plain\n\nOne message.\n");
    fs::write(mailbox.path("dovecot-uidlist"), uid_list(&mailbox)).unwrap();
    mailbox
}

fn has_strace() -> bool {
    let found =
        Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        skip::unless_ci("strace is not installed");
    }
    found
}

/// The system calls of a run over one message, in order.
fn traced_calls(options: &[&str]) -> Vec<(String, String)> {
    let mailbox = one_message();
    let log = mailbox.path("strace.log");
    let run = strace_to(&mailbox, options, &["trace=all"], &log);
    assert_eq!(run.status, Some(0), "{run:?}");
    let text = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let calls = text.lines().filter_map(|line| {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let name = line.split_once('(')?.0;
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            .then(|| (name.into(), line.into()))
    });
    calls.collect()
}

fn strace(mailbox: &Mailbox, options: &[&str], expressions: &[&str]) -> Ended {
    strace_to(mailbox, options, expressions, std::path::Path::new("/dev/null"))
}

/// One job and no sandbox: then all is done in one thread, whose calls are counted; doveadm's are not.
fn strace_to(mailbox: &Mailbox, options: &[&str], expressions: &[&str], log: &std::path::Path) -> Ended {
    let program = mailbox.command(&[options, &["--jobs", "1", "--sandbox", "off"]].concat());
    let mut command = Command::new("strace");
    command.args(["-E", "PATH=", "-o"]).arg(log);
    for expression in expressions {
        command.args(["-e", expression]);
    }
    command.arg(program.get_program()).args(program.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ended(command.spawn().unwrap())
}

/// What a person's Ctrl-C does: the run ends soon, says how to go on, and the next one does.
#[test]
fn an_interrupt_ends_a_run_cleanly() {
    let mut mailbox = Mailbox::new(&[]);
    let mails = plain_mails();
    for mail in mails.iter().cycle().take(600) {
        mailbox.put("", "cur", ":2,S", &mail.bytes);
    }
    // Root's process gets the signal, and has the one that touches mail end.
    if nix::unistd::geteuid().is_root() {
        mailbox.give(5000);
    }
    let child = mailbox.command(&["--jobs", "2"]).spawn().unwrap();
    let begin = Instant::now();
    let sealed = |entry: fs::DirEntry| entry.file_name().to_string_lossy().contains(".s");
    while !fs::read_dir(mailbox.path("cur")).unwrap().flatten().any(sealed)
        && begin.elapsed() < Duration::from_secs(20)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let run = ended(child);
    assert_eq!(run.status, Some(75), "{run:?}");
    assert!(run.stdout.contains("goes on where this one ended"), "{}", run.stdout);
    mailbox.assert_each_once("interrupted");
    mailbox.seal();
    mailbox.assert_sealed("after the interrupt");
}
