//! `encrypt-maildir --dovecot`: mailboxes of every storage, live, on both Dovecots, killed and run again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use testing::dovecot::flavour::Flavour;
use testing::dovecot::lmtp::with_crlf;
use testing::dovecot::server::{Server, Setup};
use testing::dovecot::users::{ALICE, BOB, CAROL};
use testing::mailbox::{CERT, Ended, ended, inline, large_ciphertext};
use testing::{fixtures, on_each_dovecot, oracle};

use super::live::{Random, id_in, live, mail, opened};

/// What Dovecot stores mail in.
const STORAGES: [&str; 3] = ["maildir", "sdbox", "mdbox"];

/// Messages of the short form of the live test on each storage, and in all of the long one.
const MESSAGES: u32 = 80;
const MANY_MESSAGES: u32 = 20_000;

fn setup(flavour: Flavour, storage: &str) -> Option<Setup> {
    let setup = Setup::with(flavour, "mailseal.sieve")?.without_our_script();
    Some(setup.settings_first(&flavour.storage(storage)))
}

fn start(setup: Setup) -> Server {
    let server = setup.start();
    std::fs::create_dir(server.path("path")).unwrap();
    server.write("path/doveadm", server.flavour.script("doveadm").as_bytes(), 0o755);
    server.enrol(ALICE, &std::fs::read(oracle::key(CERT)).unwrap());
    server
}

fn command(server: &Server, options: &[&str]) -> Command {
    let mut command = Command::new(testing::program("encrypt-maildir"));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", server.path("path").display()));
    command.args(["--progress", "never", "--unconfirmed", "--config"]).arg(server.path("mailseal.toml"));
    command
        .arg("--dovecot-config")
        .arg(server.path("dovecot.conf"))
        .args(["--sandbox", "require"])
        .args(options);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(server: &Server, options: &[&str]) -> Ended {
    ended(command(server, options).spawn().unwrap())
}

fn json(ended: &Ended) -> serde_json::Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

/// UID, flags and date of the messages of a folder.
fn listed(server: &Server, folder: &str) -> Vec<(u32, Vec<String>, String)> {
    let mut imap = server.imap(ALICE);
    imap.command(&format!("EXAMINE {folder}")).unwrap();
    let answers = imap.command("UID FETCH 1:* (UID FLAGS INTERNALDATE)").unwrap();
    answers
        .iter()
        .filter(|answer| answer.text.contains(" FETCH ("))
        .map(|answer| {
            let flags = answer.text.split_once("FLAGS (").unwrap().1.split(')').next().unwrap();
            let mut flags: Vec<String> =
                flags.split_whitespace().filter(|it| *it != "\\Recent").map(str::to_owned).collect();
            flags.sort();
            let date = answer.text.split_once("INTERNALDATE ").unwrap().1.trim_end_matches(')');
            let date = date.split('"').nth(1).unwrap().to_owned();
            (answer.number("UID").unwrap(), flags, date)
        })
        .collect()
}

on_each_dovecot!(
    every_storage_is_sealed_whole,
    clients_at_work_lose_nothing,
    killed_at_any_point_it_goes_on,
    what_cannot_be_done_is_said,
    a_message_that_cannot_be_read_keeps_nothing_else_back,
    runs_at_once_and_interrupted_ones_seal_each_message_once,
    scripts_on_saved_mail_leave_it_alone,
    a_message_is_judged_by_all_of_it,
    every_fixture_mail_is_sealed,
    #[ignore = "minutes: 20,000 messages under load"]
    a_large_mailbox_under_load_loses_nothing,
    #[ignore = "a message of 200 MB"]
    a_large_message_takes_no_memory,
);

fn every_storage_is_sealed_whole(flavour: Flavour) {
    for storage in STORAGES {
        let Some(setup) = setup(flavour, storage) else { return };
        let server = start(setup);
        server.enrol(BOB, &std::fs::read(oracle::key(CERT)).unwrap());
        let mut imap = server.imap(ALICE);
        imap.command("CREATE Entw&APw-rfe").unwrap();
        imap.command("CREATE \"a \\\"b\\\" {3}\"").unwrap();
        for id in 0..40 {
            let folder = ["INBOX", "Entw&APw-rfe"][id as usize % 2];
            let flags = ["\\Seen $Label1", "\\Flagged \\Answered", "Junk", "\\Deleted", ""][id as usize % 5];
            imap.append(folder, flags, mail(id).as_bytes()).unwrap();
        }
        imap.append("a \\\"b\\\" {3}", "", mail(40).as_bytes()).unwrap();
        imap.append("INBOX", "", b"").unwrap_or_default();
        imap.command("SELECT INBOX").unwrap();
        imap.command("FETCH 1:* (ENVELOPE BODYSTRUCTURE PREVIEW)").unwrap();
        drop(imap);
        server.imap(BOB).append("INBOX", "", mail(7).as_bytes()).unwrap();
        server.imap(CAROL).append("INBOX", "", mail(8).as_bytes()).unwrap();
        let before: Vec<_> = ["INBOX", "Entw&APw-rfe"].map(|folder| listed(&server, folder)).into();

        let dry = run(&server, &["--dry-run", "--json", "--dovecot", ALICE]);
        assert_eq!(dry.status, Some(0), "{storage}: {dry:?}");
        assert_eq!(json(&dry)["sealed"], 41, "{dry:?}");
        assert_eq!(listed(&server, "INBOX"), before[0], "a dry run changes nothing");

        let done = run(&server, &["--json", "--jobs", "2", "--dovecot", "*"]);
        assert_eq!(done.status, Some(0), "{storage}: {done:?}");
        assert_eq!(json(&done)["sealed"], 42, "{done:?}");
        assert_eq!(json(&done)["unchanged"]["no-key"], 1, "{done:?}");
        assert!(done.stderr.contains("user=alice@example.org folder=INBOX"), "the log line: {done:?}");
        for (folder, before) in ["INBOX", "Entw&APw-rfe"].into_iter().zip(&before) {
            let after = listed(&server, folder);
            let known = |all: &[(u32, Vec<String>, String)]| -> Vec<_> {
                all.iter().map(|(_, flags, date)| (flags.clone(), date.clone())).collect()
            };
            assert_eq!(known(&after), known(before), "{storage}: flags and dates, in order");
        }
        let all: Vec<u32> = ["INBOX", "Entw&APw-rfe", "\"a \\\"b\\\" {3}\""]
            .into_iter()
            .flat_map(|folder| opened(&server, folder))
            .map(|(id, _)| id)
            .collect();
        assert_eq!(all.len(), 41, "{storage}");
        let uids = listed(&server, "INBOX");
        let again = run(&server, &["--json", "--dovecot", ALICE, BOB]);
        assert_eq!((again.status, &json(&again)["sealed"]), (Some(0), &0.into()), "{again:?}");
        assert_eq!(listed(&server, "INBOX"), uids, "a second run changes nothing");
        // Only Carol's mail, and what Dovecot keeps of it, is readable.
        let clear = server.files_with("The text of message");
        let left: Vec<_> = clear.iter().filter(|path| !path.starts_with(server.home(CAROL))).collect();
        assert!(left.is_empty(), "{storage}: clear text in {left:?}");
        assert!(!server.home(ALICE).join(".mailseal-replacing").exists());
        let log = server.log();
        assert!(!log.contains("Error:") && !log.contains("Panic:"), "{log}");
    }
}

fn clients_at_work_lose_nothing(flavour: Flavour) {
    for storage in STORAGES {
        let Some(setup) = setup(flavour, storage) else { return };
        let server = start(setup);
        let races =
            live(&server, 0..MESSAGES, &|| run(&server, &["--json", "--rate", "80", "--dovecot", ALICE]));
        // The time between STORE and EXPUNGE is counted, and rarely hit.
        assert!(races.resurrected + races.unflagged <= 1, "{storage}: more than one");
    }
}

/// Runs it, and kills it and all it has started at a random time, until it comes to its end; how often. A dry run does
/// less, so the first kill is amid the work, however fast the machine is.
fn run_and_kill(server: &Server, random: &mut Random, at_most: u32) -> (u32, Ended) {
    let start = Instant::now();
    assert_eq!(run(server, &["--dry-run", "--dovecot", ALICE]).status, Some(0));
    let most = u32::try_from(start.elapsed().as_millis()).unwrap();
    let mut kills = 0;
    loop {
        let options = ["--json", "--dovecot", ALICE];
        let mut child = command(server, &options).process_group(0).spawn().unwrap();
        let limit = Duration::from_millis(u64::from(random.below(most)));
        if kills < at_most && !wait_for(&mut child, limit) {
            killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
            child.wait().unwrap();
            kills += 1;
            continue;
        }
        return (kills, ended(child));
    }
}

/// Whether it ends within `limit`.
fn wait_for(child: &mut Child, limit: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

fn killed_at_any_point_it_goes_on(flavour: Flavour) {
    const COUNT: u32 = 150;
    let mut report = String::new();
    for storage in STORAGES {
        let Some(setup) = setup(flavour, storage) else { return };
        let server = start(setup);
        let mut imap = server.imap(ALICE);
        for id in 0..COUNT {
            imap.append("INBOX", "\\Seen kw", mail(id).as_bytes()).unwrap();
        }
        let mut random = Random(storage.len() as u64);
        let (kills, last) = run_and_kill(&server, &mut random, 25);
        assert_eq!(last.status, Some(0), "{last:?}");
        let again = run(&server, &["--json", "--dovecot", ALICE]);
        assert_eq!((again.status, &json(&again)["sealed"]), (Some(0), &0.into()), "{again:?}");
        let mut there: BTreeMap<u32, u32> = BTreeMap::new();
        for (id, _) in opened(&server, "INBOX") {
            *there.entry(id).or_default() += 1;
        }
        let lost = (0..COUNT).filter(|id| !there.contains_key(id)).count();
        let twice = there.values().filter(|count| **count > 1).count();
        let _ = write!(report, " {storage}: {kills} kills, {lost} lost, {twice} twice;");
        assert_eq!((lost, twice), (0, 0), "{storage} after {kills} kills\n{}", server.log());
        assert!(listed(&server, "INBOX").iter().all(|(_, flags, _)| flags.join(" ") == "\\Seen kw"));
        assert!(kills > 0, "{storage}: never killed");
    }
    let _ = writeln!(std::io::stderr(), "MEASURED:{report}");
}

fn what_cannot_be_done_is_said(flavour: Flavour) {
    // Somebody whom Dovecot does not know does not keep it from the others.
    let Some(setup) = setup(flavour, "maildir") else { return };
    let server = start(setup.settings_first(flavour.lazy_expunge()));
    server.imap(ALICE).append("INBOX", "\\Seen", mail(1).as_bytes()).unwrap();
    let some = run(&server, &["--json", "--dovecot", "nobody@example.org", ALICE]);
    assert_eq!((some.status, &json(&some)["sealed"]), (Some(75), &1.into()), "{some:?}");
    assert!(some.stderr.contains("user nobody@example.org: Dovecot: "), "{some:?}");
    // lazy_expunge keeps nothing of what this expunges.
    let left = server.files_with("The text of message");
    assert!(left.is_empty(), "clear text in {left:?}");
    drop(server);

    // The quota: what does not fit stays, and is counted and named.
    let Some(setup) = self::setup(flavour, "maildir") else { return };
    let server = start(setup.settings_first(&flavour.quota(100)));
    let mut imap = server.imap(ALICE);
    // It does not become smaller, for it is random.
    let mut random = Random(1);
    let text: String = (0..60_000).map(|_| char::from(b'!' + random.below(90) as u8)).collect();
    let lines: Vec<&str> = text.as_bytes().chunks(70).map(|it| std::str::from_utf8(it).unwrap()).collect();
    let large = format!("Subject: id 0;\n\n{}\n", lines.join("\n"));
    imap.append("INBOX", "", large.as_bytes()).unwrap();
    imap.append("INBOX", "", mail(1).as_bytes()).unwrap();
    let full = run(&server, &["--json", "--dovecot", ALICE]);
    let summary = json(&full);
    assert_eq!(
        (full.status, &summary["sealed"], &summary["failed"]),
        (Some(1), &1.into(), &1.into()),
        "{full:?}"
    );
    assert!(full.stderr.contains("INBOX: UID 1: stays readable: the user's quota is full"), "{full:?}");
    let stored = server.inbox(ALICE);
    assert_eq!(stored.len(), 2);
    assert_eq!(stored.iter().filter_map(|it| id_in(it)).collect::<Vec<_>>(), [0, 1]);
}

fn a_message_that_cannot_be_read_keeps_nothing_else_back(flavour: Flavour) {
    let Some(setup) = setup(flavour, "maildir") else { return };
    let server = start(setup);
    let mut imap = server.imap(ALICE);
    for id in 0..20 {
        imap.append("INBOX", "", mail(id).as_bytes()).unwrap();
    }
    drop(imap);
    // Its name tells a wrong size, over which Dovecot ends the session.
    let bad = mail(20);
    server.write_home(ALICE, "maildir/cur/1500000000.M1P1.host,S=20:2,S", bad.as_bytes());
    let done = run(&server, &["--json", "--dovecot", ALICE]);
    let summary = json(&done);
    assert_eq!((done.status, &summary["failed"]), (Some(1), &1.into()), "{done:?}");
    assert!(done.stderr.contains("INBOX: UID 21: "), "{done:?}");
    let log = server.files_with("The text of message");
    let homes = log.iter().filter(|path| path.starts_with(server.home(ALICE)));
    assert_eq!(homes.count(), 1, "all but the bad one are sealed: {log:?}");
}

fn runs_at_once_and_interrupted_ones_seal_each_message_once(flavour: Flavour) {
    const COUNT: u32 = 100;
    let Some(setup) = setup(flavour, "sdbox") else { return };
    let server = start(setup);
    let mut imap = server.imap(ALICE);
    for id in 0..COUNT {
        imap.append("INBOX", "", mail(id).as_bytes()).unwrap();
    }
    let options = ["--json", "--dovecot", ALICE];
    let mut first = command(&server, &["--rate", "50", "--json", "--dovecot", ALICE]).spawn().unwrap();
    assert!(!wait_for(&mut first, Duration::from_millis(900)), "it keeps to its rate");
    nix::sys::signal::kill(Pid::from_raw(first.id().cast_signed()), Signal::SIGTERM).unwrap();
    let first = ended(first);
    assert_eq!((first.status, &json(&first)["interrupted"]), (Some(75), &true.into()), "{first:?}");
    let both = [(); 2].map(|()| command(&server, &options).spawn().unwrap()).map(ended);
    assert!(both.iter().all(|it| it.status == Some(0)), "{both:?}");
    let sealed: u64 = both.iter().chain([&first]).map(|it| json(it)["sealed"].as_u64().unwrap()).sum();
    assert_eq!(sealed, u64::from(COUNT), "{first:?} {both:?}");
    let mut ids: Vec<u32> = opened(&server, "INBOX").into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..COUNT).collect::<Vec<_>>());
}

fn scripts_on_saved_mail_leave_it_alone(flavour: Flavour) {
    let Some(setup) = setup(flavour, "maildir") else { return };
    let server = start(setup.imapsieve());
    server.imap(ALICE).command("CREATE Sent").unwrap_or_default();
    // The script seals it as it is saved; what was there before it was installed is clear.
    std::fs::remove_file(server.path("keys").join(format!("{ALICE}.pgp"))).unwrap();
    for id in 0..20 {
        server.imap(ALICE).append("Sent", "\\Seen", mail(id).as_bytes()).unwrap();
    }
    server.enrol(ALICE, &std::fs::read(oracle::key(CERT)).unwrap());
    let done = run(&server, &["--json", "--dovecot", ALICE]);
    assert_eq!((done.status, &json(&done)["sealed"]), (Some(0), &20.into()), "{done:?}\n{}", server.log());
    let mut ids: Vec<u32> = opened(&server, "Sent").into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
}

/// The fixture mails and a sample of the corpus, appended by a client and, in a Maildir, as files that something else put there.
fn every_fixture_mail_is_sealed(flavour: Flavour) {
    let mut mails: Vec<(String, Vec<u8>)> =
        fixtures::mails("mails").into_iter().map(|mail| (mail.name, mail.bytes)).collect();
    let text = "Subject: id 1;\nTo: a@b\n\nThe text.\n";
    mails.push(("mbox".into(), format!("From a@b Mon Jan  1 00:00:00 2024\n{text}").into()));
    mails.push(("lone".into(), b"Subject: a\rX-A: b\rTo: c\n\nThe text.\n".to_vec()));
    mails.push(("doubled".into(), b"Subject: a\r\r\nTo: c\r\r\n\r\nThe text.\r\r\n".to_vec()));
    let real = fixtures::corpus().unwrap_or_default().into_iter().step_by(12);
    mails.extend(real.map(|mail| (mail.name, mail.bytes)));
    for storage in STORAGES {
        for as_files in [false, true] {
            if as_files && storage != "maildir" {
                continue;
            }
            let Some(setup) = setup(flavour, storage) else { return };
            let server = start(setup);
            let mut imap = server.imap(ALICE);
            imap.command("SELECT INBOX").unwrap();
            let mut count = 0;
            for (number, (_, bytes)) in mails.iter().enumerate() {
                if as_files {
                    let name = format!("maildir/cur/{}.M{number}P1.host:2,S", 1_600_000_000 + number);
                    server.write_home(ALICE, &name, bytes);
                    count += 1;
                } else {
                    // What holds a NUL is refused.
                    count += usize::from(imap.append("INBOX", "", bytes).is_ok());
                }
            }
            assert!(count + 5 > mails.len(), "{storage}: {count} of {} are there", mails.len());
            drop(imap);
            let done = run(&server, &["--json", "--dovecot", ALICE]);
            let summary = json(&done);
            assert_eq!(
                (done.status, &summary["failed"]),
                (Some(0), &0.into()),
                "{storage} {as_files}: {done:?}"
            );
            assert_eq!(summary["messages"], count, "{storage} {as_files}: {done:?}");
            let again = run(&server, &["--json", "--dovecot", ALICE]);
            assert_eq!(
                (again.status, &json(&again)["sealed"]),
                (Some(0), &0.into()),
                "{storage} {as_files}: {again:?}"
            );
            assert_eq!(server.inbox(ALICE).len(), count, "{storage} {as_files}");
        }
    }
}

fn a_message_is_judged_by_all_of_it(flavour: Flavour) {
    let Some(setup) = setup(flavour, "maildir") else { return };
    let server = start(setup);
    let encrypted = large_ciphertext();
    let mut imap = server.imap(ALICE);
    for text in [
        encrypted.clone(),
        inline(&encrypted),
        format!("{encrypted}clear text behind the last part\n"),
        format!("{}clear text behind the armor\n", inline(&encrypted)),
    ] {
        imap.append("INBOX", "", &with_crlf(text.as_bytes())).unwrap();
    }
    for options in [&["--dry-run", "--json", "--dovecot", ALICE][..], &["--json", "--dovecot", ALICE]] {
        let done = run(&server, options);
        assert_eq!(done.status, Some(0), "{done:?}");
        let (sealed, unchanged) = (&json(&done)["sealed"], &json(&done)["unchanged"]);
        assert_eq!([sealed, &unchanged["pgp-mime"], &unchanged["pgp-inline"]], [2, 1, 1], "{done:?}");
    }
    let again = run(&server, &["--json", "--dovecot", ALICE]);
    assert_eq!((again.status, &json(&again)["sealed"]), (Some(0), &0.into()), "{again:?}");
}

fn a_large_mailbox_under_load_loses_nothing(flavour: Flavour) {
    let Some(setup) = setup(flavour, "maildir") else { return };
    let server = start(setup);
    for id in 0..MANY_MESSAGES {
        server.write_home(ALICE, &format!("maildir/cur/1600000000.M{id}P1.host:2,S"), mail(id).as_bytes());
    }
    let mut random = Random(7);
    let random = std::cell::RefCell::new(&mut random);
    let races = live(&server, MANY_MESSAGES..MANY_MESSAGES, &|| {
        let (kills, ended) = run_and_kill(&server, &mut random.borrow_mut(), 5);
        let _ = writeln!(std::io::stderr(), "MEASURED: {kills} kills");
        ended
    });
    let _ = writeln!(
        std::io::stderr(),
        "MEASURED: {MANY_MESSAGES} messages in {:.1?} under load: {} STOREs lost, {} EXPUNGEs undone",
        races.time,
        races.unflagged,
        races.resurrected
    );
    assert_eq!(races.resurrected, 0);
}

fn a_large_message_takes_no_memory(flavour: Flavour) {
    let Some(setup) = setup(flavour, "maildir") else { return };
    let server = start(setup);
    // Random text, again and again: nothing makes it smaller.
    let mut random = Random(3);
    let mut line = || (0..70).map(|_| b'!' + random.below(90) as u8).chain(*b"\r\n").collect::<Vec<u8>>();
    let text: Vec<u8> = (0..20_000).flat_map(|_| line()).collect();
    let mut large = b"Subject: id 0;\r\n\r\n".to_vec();
    while large.len() < 200_000_000 {
        large.extend_from_slice(&text);
    }
    server.imap(ALICE).append("INBOX", "", &large).unwrap();
    let mut command = command(&server, &["--dovecot", ALICE]);
    let child = command.spawn().unwrap();
    let mut most = 0;
    let id = child.id();
    let watcher = std::thread::spawn(move || {
        while let Some(peak) = peak(id) {
            most = most.max(peak);
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    });
    let start = Instant::now();
    let done = ended(child);
    let time = start.elapsed();
    let most = watcher.join().unwrap();
    assert_eq!(done.status, Some(0), "{done:?}");
    let _ = writeln!(std::io::stderr(), "MEASURED: 200 MB in {time:.1?}, {most} kB at most");
    assert!(most < 40_000, "{most} kB");
}

/// The peak memory, in kB, of the process and of those that it has started and that are the same program.
fn peak(id: u32) -> Option<u64> {
    let of = |id: &str| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        })
    };
    let own = of(&id.to_string())?;
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let children: String = threads
        .map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default())
        .collect();
    let is_ours = |id: &str| {
        std::fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|it| it.starts_with(b"encrypt-maildir"))
    };
    Some(children.split_whitespace().filter(|id| is_ours(id)).filter_map(of).fold(own, u64::max))
}
