//! What fails in the middle: everything is as it was, or the next run completes it; and mail that comes all the while.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testing::dovecot::entity::is_sealed;
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::ALICE_KEY;
use testing::dovecot::lmtp::Lmtp;
use testing::dovecot::users::ALICE;

use super::bench::{Bench, said};
use super::{MAIL, sites};

testing::on_each_dovecot! {
    a_disk_that_is_full_leaves_all_as_it_was,
    a_run_that_is_killed_is_completed_or_taken_back,
    mail_that_comes_all_the_while_is_not_lost,
    a_dovecot_that_does_not_reload_leaves_all_as_it_was,
    settings_of_another_version_are_replaced,
}

/// Sets up with a file system in memory of so many kilobytes at a folder of the site's, which other processes do not see; takes
/// it away again where that has worked. What is in the folder then is noted in `tmp/listed`.
fn on_small_disk(bench: &Bench, folder: &str, kilobytes: usize) -> Command {
    let quoted = |command: &Command| -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| format!("'{}' ", word.to_str().unwrap().replace('\'', r"'\''"))).collect()
    };
    let script = format!(
        "exec 3>'{listed}'; cp -a '{0}' '{0}.copy'; mount -t tmpfs -o mode=755,size={kilobytes}k,nr_inodes=400 small '{0}'; cp -a \
         '{0}.copy/.' '{0}'; rm -r '{0}.copy'; cd /; {1}; status=$?; [ $status != 0 ] || {2}; cd '{0}'; ls -AR >&3; exit $status",
        bench.path(folder).display(),
        quoted(&bench.command(&[])),
        quoted(&bench.command(&["--undo"])),
        listed = bench.path("tmp/listed").display(),
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    unshare
}

/// Where the disk is full: in the folder of state, or where the settings are to be.
fn a_disk_that_is_full_leaves_all_as_it_was(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    fs::create_dir(bench.path("var")).unwrap();
    let (before, settings) = (bench.snapshot(), bench.doveconf());
    let mut failed = 0;
    for (folder, sizes) in [("var", &[4, 8, 12, 16, 20, 24, 28, 36][..]), ("conf.d", &[8, 12])] {
        for kilobytes in sizes {
            let said = said(&mut on_small_disk(&bench, folder, *kilobytes));
            let what = format!("{folder} of {kilobytes} KB");
            if said.status == 0 {
                // Certificates, the register and the configuration stay: not in what follows.
                for stays in ["mailseal", "var/known"] {
                    let _ = fs::remove_dir_all(bench.path(stays));
                }
                fs::remove_file(bench.path("mailseal.toml")).unwrap();
                fs::remove_file(bench.path("home/.mailseal")).unwrap();
                bench.assert_as(&before, &what);
                continue;
            }
            failed += 1;
            assert!(said.status == 1 || said.status == 75, "{what}: {said:?}");
            // What is written where Dovecot does not look, for another disk is there, is nothing that it has.
            let expected = ["No space left", "sievec", "did not take the settings"];
            assert!(expected.iter().any(|why| said.err.contains(why)), "{what}: {said:?}");
            let listed = fs::read_to_string(bench.path("tmp/listed")).unwrap();
            assert!(!listed.contains("mailseal") && !listed.contains("setup.json"), "{what} left {listed}");
            bench.assert_as(&before, &what);
            assert_eq!(bench.doveconf(), settings, "{what}");
        }
    }
    assert!(failed >= 3, "{failed} disks were too small");
    bench.set_up();
}

/// Killed at many moments: what is there then is whole, and Dovecot goes on; the next run does the rest, or takes it back.
fn a_run_that_is_killed_is_completed_or_taken_back(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    let untouched = bench.doveconf();
    let begin = std::time::Instant::now();
    bench.set_up();
    let whole = begin.elapsed();
    assert_eq!(bench.setup(&["--undo"]).status, 0);
    for (number, part) in [3_u32, 10, 20, 30, 40, 45, 50, 55, 60, 70, 80, 95].into_iter().enumerate() {
        let mut run = bench.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * part / 100);
        let _ = run.kill();
        run.wait().unwrap();
        // As Dovecot may be started at any time.
        let mut doveconf = bench.flavour.command("doveconf");
        doveconf.arg("-c").arg(bench.path("dovecot.conf")).arg("-n");
        assert_eq!(said(&mut doveconf).status, 0, "{part} %");
        if number % 2 == 0 {
            bench.set_up();
            bench.enrol(ALICE, &ALICE_KEY.certificate);
            let count = bench.inbox(ALICE).len();
            bench.store(ALICE, MAIL.as_bytes());
            assert!(is_sealed(&bench.inbox(ALICE)[count]), "{part} %");
        }
        assert_eq!(bench.setup(&["--undo"]).status, 0, "{part} %");
        assert_eq!(bench.doveconf(), untouched, "{part} %");
        for gone in ["var/sieve", "var/failclosed", "var/setup.json", bench.sample.place] {
            assert!(!bench.path(gone).exists(), "{part} %: {gone}");
        }
    }
}

/// Set up and taken away under load: every message is stored once, and from the end of setup to the beginning of undo sealed.
fn mail_that_comes_all_the_while_is_not_lost(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    bench.set_up();
    bench.enrol(ALICE, &ALICE_KEY.certificate);
    assert_eq!(bench.setup(&["--undo"]).status, 0);
    let is_set_up = AtomicBool::new(false);
    let (taken, must_be_sealed) = all_the_while(&bench, &is_set_up, || {
        for _ in 0..3 {
            bench.set_up();
            is_set_up.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(300));
            is_set_up.store(false, Ordering::SeqCst);
            let said = bench.setup(&["--undo"]);
            assert_eq!(said.status, 0, "{said:?}");
        }
    });
    assert!(taken.len() > 20 && must_be_sealed.len() > 5, "{} {}", taken.len(), must_be_sealed.len());
    for (mark, stored) in stored_once(&bench, &taken) {
        assert!(!stored.is_empty() && (is_sealed(&stored) || !must_be_sealed.contains(&mark)), "{mark}");
    }
}

/// Sends mail to Alice while `work` is done: the marks of all messages that Dovecot took, and of those that it took while
/// `is_set_up`. While Dovecot reloads it takes none, and an MTA would come again.
fn all_the_while(bench: &Bench, is_set_up: &AtomicBool, work: impl FnOnce()) -> (Vec<String>, Vec<String>) {
    let is_over = AtomicBool::new(false);
    let send = || {
        let (mut taken, mut sealed) = (Vec::new(), Vec::new());
        for number in 0.. {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            let was_set_up = is_set_up.load(Ordering::SeqCst);
            let mark = format!("mark-{number}-");
            let mail = format!("Subject: {mark}\n\nbody\n");
            let answer = Lmtp::connect((bench.address, bench.lmtp_port).into())
                .and_then(|mut lmtp| lmtp.deliver("s@example.net", &[ALICE], mail.as_bytes()));
            if answer.is_ok_and(|replies| replies[0].code == 250) {
                if was_set_up && is_set_up.load(Ordering::SeqCst) {
                    sealed.push(mark.clone());
                }
                taken.push(mark);
            }
        }
        (taken, sealed)
    };
    std::thread::scope(|scope| {
        let sender = scope.spawn(send);
        work();
        is_over.store(true, Ordering::SeqCst);
        sender.join().unwrap()
    })
}

/// What is stored for each mark: one message.
fn stored_once(bench: &Bench, marks: &[String]) -> Vec<(String, Vec<u8>)> {
    let inbox = bench.inbox(ALICE);
    let one = |mark: &String| {
        let mut stored = inbox.iter().filter(|stored| String::from_utf8_lossy(stored).contains(mark));
        let first = stored.next().unwrap_or_else(|| panic!("{mark} is lost"));
        assert!(stored.next().is_none(), "{mark} is there twice");
        (mark.clone(), first.clone())
    };
    marks.iter().map(one).collect()
}

/// The three commands from gpgit to mailseal, with mail that comes all the while: each message is encrypted by one of them.
#[test]
fn no_mail_is_clear_on_the_way_from_gpgit() {
    let Some(bench) = Bench::start(Flavour::V2_3, sites::gpgit) else { return };
    bench.gnupg_home(ALICE, &[&ALICE_KEY.certificate], |home| {
        home.generate("gpgit <gpgit@localhost>", "rsa2048", "sign", "never");
    });
    let (taken, _) = all_the_while(&bench, &AtomicBool::new(false), || {
        std::thread::sleep(Duration::from_millis(300));
        bench.install_package();
        let migrated = said(&mut bench.mailseal(&["migrate", "gpgit"]));
        assert!(migrated.status == 0 && migrated.out.contains("  enrolled"), "{migrated:?}");
        std::thread::sleep(Duration::from_millis(300));
        bench.set_up();
        std::thread::sleep(Duration::from_millis(300));
    });
    let stored = stored_once(&bench, &taken);
    let by_gpgit = |stored: &[u8]| String::from_utf8_lossy(stored).contains("X-By-Gpgit: yes");
    let (sealed, before): (Vec<_>, Vec<_>) = stored.iter().partition(|(_, stored)| is_sealed(stored));
    assert!(sealed.len() > 5 && before.len() > 5, "{} {}", sealed.len(), before.len());
    for (mark, stored) in before {
        assert!(by_gpgit(stored), "{mark} is clear");
    }
}

/// Without a running Dovecot nobody lists its users: they are given, and Dovecot has the settings when it is started.
#[test]
fn a_dovecot_that_does_not_run() {
    let Some(mut bench) = Bench::start(Flavour::V2_3, sites::rspamd) else { return };
    bench.stop();
    let before = bench.snapshot();
    let refused = bench.setup(&[]);
    assert!(refused.status == 75 && refused.err.contains("--users FILE"), "{refused:?}");
    bench.assert_as(&before, "a refusal");
    bench.put("users.list", &format!("{ALICE}\n"));
    let list = bench.path("users.list");
    let said = bench.setup(&["--users", list.to_str().unwrap()]);
    assert!(said.out.contains("Dovecot does not run"), "{said:?}");
    bench.start_again();
    bench.enrol(ALICE, &ALICE_KEY.certificate);
    bench.store(ALICE, MAIL.as_bytes());
    assert!(is_sealed(&bench.only_message(ALICE)));
}
/// A container that is made anew has its image's files again, and of mailseal's only those in volumes: setup, which runs before
/// Dovecot starts, puts the rest back.
#[test]
fn a_container_that_is_made_anew() {
    let Some(mut bench) = Bench::start(Flavour::V2_3, sites::docker_mailserver) else { return };
    bench.stop();
    bench.install_package();
    bench.put("users.list", &format!("{ALICE}\n"));
    let list = bench.path("users.list");
    for round in 1..=2 {
        let said = bench.setup(&["--users", list.to_str().unwrap()]);
        assert!(said.out.contains("Dovecot does not run"), "{round}: {said:?}");
        bench.start_again();
        bench.enrol(ALICE, &ALICE_KEY.certificate);
        bench.store(ALICE, MAIL.as_bytes());
        let stored = bench.inbox(ALICE);
        assert!(stored.len() == round && stored.iter().all(|it| is_sealed(it)), "{round}: {}", bench.log());
        bench.stop();
        fs::remove_file(bench.path(bench.sample.place)).unwrap();
        fs::remove_file(bench.path("site/filter/mailseal-filter")).unwrap();
    }
}

/// Dovecot's own program for that fails, or its answer is another one's.
fn a_dovecot_that_does_not_reload_leaves_all_as_it_was(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    let before = bench.doveconf();
    let doveadm =
        "#!/bin/sh\ncase $* in *reload*) echo no >&2; exit 75 ;; esac\nexec /usr/bin/doveadm \"$@\"\n";
    bench.put("fake/doveadm", doveadm);
    let untouched = bench.snapshot();
    let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", bench.path("fake").display());
    let with_fake = |arguments: &[&str]| {
        let mut command = bench.flavour.command("/usr/bin/env");
        command
            .arg(&path)
            .arg(bench.path("prefix/bin/mailseal"))
            .arg("--config")
            .arg(bench.path("mailseal.toml"));
        command.arg("setup").arg("--dovecot-config").arg(bench.path("dovecot.conf"));
        said(command.arg("--state").arg(bench.path("var")).args(arguments))
    };
    let failed = with_fake(&[]);
    assert!(failed.status == 1 && failed.err.contains("doveadm failed"), "{failed:?}");
    assert_eq!(bench.doveconf(), before);
    bench.assert_as(&untouched, "a reload that failed");
    bench.set_up();
    let done = bench.snapshot();
    let failed = with_fake(&["--undo"]);
    assert!(failed.status == 1 && failed.err.contains("doveadm failed"), "{failed:?}");
    assert_eq!(fs::read(bench.path(bench.sample.place)).unwrap(), done[&bench.path(bench.sample.place)].2);
    bench.enrol(ALICE, &ALICE_KEY.certificate);
    bench.store(ALICE, MAIL.as_bytes());
    assert!(is_sealed(&bench.only_message(ALICE)));
}

/// As after an update from 2.3 to 2.4: Dovecot refuses our file, and takes the site's own.
fn settings_of_another_version_are_replaced(flavour: Flavour) {
    let Some(bench) = Bench::start(flavour, sites::rspamd) else { return };
    bench.set_up();
    let place = bench.path(bench.sample.place);
    let digest = || {
        let said = said(Command::new("sha256sum").arg(&place)).out;
        said.split(' ').next().unwrap().to_owned()
    };
    let spoil = || {
        let old = digest();
        let text = fs::read_to_string(&place).unwrap();
        fs::write(&place, format!("{text}setting_of_another_version = yes\n")).unwrap();
        let journal = fs::read_to_string(bench.path("var/setup.json")).unwrap();
        fs::write(bench.path("var/setup.json"), journal.replace(&old, &digest())).unwrap();
    };
    let whole = fs::read(&place).unwrap();
    spoil();
    bench.set_up();
    assert_eq!(fs::read(&place).unwrap(), whole);
    bench.enrol(ALICE, &ALICE_KEY.certificate);
    bench.store(ALICE, MAIL.as_bytes());
    assert!(is_sealed(&bench.only_message(ALICE)));
    spoil();
    assert_eq!(bench.setup(&["--undo"]).status, 0);
    assert_eq!(bench.doveconf(), bench.settings);
}
