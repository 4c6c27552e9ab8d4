//! Very many deliveries through one Dovecot: none lost, none in clear, and nothing grows.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testing::dovecot::entity::is_sealed;
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::ALICE_KEY;
use testing::dovecot::lmtp::with_crlf;
use testing::dovecot::server::{SENDER, Server, Setup, wait_until};
use testing::dovecot::users::ALICE;

use super::mail;

const DELIVERIES: usize = 100_000;
const FEW: usize = 200;

/// How often it is looked at the server, evenly.
const LOOKS: usize = 20;

#[test]
fn deliveries_leave_nothing_behind() {
    soak(FEW, false);
}

#[test]
#[ignore = "a quarter of an hour: MAILSEAL_DELIVERIES=N says how many deliveries"]
fn many_deliveries_leave_nothing_behind() {
    let deliveries = std::env::var("MAILSEAL_DELIVERIES").ok().and_then(|text| text.parse().ok());
    soak(deliveries.unwrap_or(DELIVERIES), true);
}

/// Messages in the INBOX before it is emptied: the time that Dovecot takes grows with them.
const FULL: usize = 250;

/// What there is of the server.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    processes: usize,
    /// Processes that ended and that nobody has seen to.
    zombies: usize,
    descriptors: usize,
    resident_kb: usize,
    median: Duration,
    slow: Duration,
}

fn soak(deliveries: usize, judge: bool) {
    let Some(setup) = Setup::with(Flavour::V2_3, "mailseal.sieve") else { return };
    let server = setup.start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    let share = deliveries / LOOKS;
    let mut looks = Vec::new();
    let begin = Instant::now();
    for number in 0..LOOKS {
        let mut times = Vec::with_capacity(share);
        while times.len() < share {
            let some = FULL.min(share - times.len());
            times.extend(deliver(&server, some));
            assert_eq!(empty(&server), some, "messages stored in round {number}");
        }
        times.sort_unstable();
        // What has just ended is seen to by its parent in a moment.
        wait_until("every process that ended to be gone", || look(&server).zombies == 0);
        let mut look = look(&server);
        look.median = times[times.len() / 2];
        look.slow = times[times.len() * 99 / 100];
        say(&format!("after {} deliveries, {:.0?}: {look:?}", (number + 1) * share, begin.elapsed()));
        looks.push(look);
    }
    let log = server.log();
    assert!(!log.contains("Panic") && !log.contains("Fatal"), "{log}");
    let spool: Vec<_> =
        fs::read_dir(server.path("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(spool.is_empty(), "{spool:?}");
    if judge {
        // The first looks see Dovecot start its processes.
        let (early, late) = (looks[LOOKS / 5], looks[LOOKS - 1]);
        assert!(late.resident_kb < early.resident_kb * 5 / 4 + 16_384, "memory: {early:?}, {late:?}");
        assert!(late.descriptors < early.descriptors * 5 / 4 + 32, "descriptors: {early:?}, {late:?}");
        assert!(late.median < early.median * 3, "time: {early:?}, {late:?}");
    }
    say(&format!(
        "{} deliveries: all stored, all sealed, {:?} to {:?}",
        share * LOOKS,
        looks[0],
        looks[LOOKS - 1]
    ));
}

/// Delivers from two clients, one of which keeps its connection; how long each delivery took.
fn deliver(server: &Server, deliveries: usize) -> Vec<Duration> {
    const SIZES: [usize; 8] = [300, 1_000, 2_000, 4_000, 8_000, 30_000, 150_000, 600_000];
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(deliveries)));
    std::thread::scope(|scope| {
        for keeps in [true, false] {
            let (next, times) = (&next, &times);
            scope.spawn(move || {
                let mut kept = server.lmtp();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= deliveries {
                        return;
                    }
                    let mail = mail(number, SIZES[number * 7 % SIZES.len()]);
                    let begin = Instant::now();
                    let replies = if keeps {
                        kept.deliver(SENDER, &[ALICE], &mail)
                    } else {
                        server.deliver(&[ALICE], &mail)
                    };
                    assert!(
                        replies.as_ref().is_ok_and(|it| it[0].code == 250),
                        "{replies:?}\n{}",
                        server.log()
                    );
                    times.lock().unwrap().push(begin.elapsed());
                }
            });
        }
    });
    times.into_inner().unwrap()
}

/// Takes the messages away, each of which must be sealed, and has Dovecot see that they are gone; how many there were.
fn empty(server: &Server) -> usize {
    let maildir = server.home(ALICE).join("Maildir");
    let mut stored = 0;
    for place in ["cur", "new"] {
        for entry in fs::read_dir(maildir.join(place)).into_iter().flatten() {
            let path = entry.unwrap().path();
            assert!(is_sealed(&with_crlf(&fs::read(&path).unwrap())), "{}", path.display());
            fs::remove_file(path).unwrap();
            stored += 1;
        }
    }
    assert!(server.inbox(ALICE).is_empty(), "messages after all were removed");
    stored
}

/// The processes of the server's group.
fn look(server: &Server) -> Look {
    let mut look = Look::default();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (name) state parent group …
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        if fields[2] != server.group().to_string() {
            continue;
        }
        look.processes += 1;
        look.zombies += usize::from(fields[0] == "Z");
        look.descriptors += fs::read_dir(entry.path().join("fd")).map_or(0, Iterator::count);
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        look.resident_kb += resident.and_then(|text| text.parse().ok()).unwrap_or(0);
    }
    look
}

/// To the stream itself, which libtest does not swallow.
fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "MEASURED: soak: {text}");
}
