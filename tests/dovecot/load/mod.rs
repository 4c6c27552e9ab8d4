//! Many deliveries: at once, and with faults at random. What was accepted is stored once and sealed, what was not is not
//! stored and is delivered when it is sent again, and nothing lies anywhere in clear.

mod alerts;
mod doors;
mod soak;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testing::dovecot::entity::{assert_sealed, is_sealed};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home};
use testing::dovecot::lmtp::Lmtp;
use testing::dovecot::server::{Server, Setup};
use testing::dovecot::site::{Program, key_file};
use testing::dovecot::users::{ALICE, BOB};

const CANARY: &str = "canary-b03d55";

testing::on_each_dovecot! {
    two_hundred_deliveries_at_once,
    deliveries_with_random_faults,
    #[ignore = "takes minutes"]
    a_thousand_deliveries_with_random_faults,
}

fn server(flavour: Flavour) -> Option<Server> {
    let server = Setup::with(flavour, "mailseal.sieve")?.start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.enrol(BOB, &BOB_KEY.certificate);
    Some(server)
}

/// A mail that can be told from all others, of about `size` bytes.
fn mail(number: usize, size: usize) -> Vec<u8> {
    let line = format!("{CANARY} {number} and what makes this a line of common length.\n");
    let lines = size / line.len() + 1;
    format!("From: a@example.net\nSubject: number {number}\n\n{}", line.repeat(lines)).into_bytes()
}

/// The number of a stored mail.
fn number(stored: &[u8]) -> usize {
    let text = String::from_utf8_lossy(stored);
    text.split_once("Subject: number ").unwrap().1.lines().next().unwrap().parse().unwrap()
}

/// Each of `mails` is stored once, sealed to its owner.
fn assert_all_stored(server: &Server, mails: &BTreeMap<usize, (&'static str, Vec<u8>)>) {
    let mut count = 0;
    for (user, key) in [(ALICE, &ALICE_KEY), (BOB, &BOB_KEY)] {
        let reader = Home::with(&[key]);
        let stored = server.inbox(user);
        let mut numbers: Vec<usize> = stored.iter().map(|stored| number(stored)).collect();
        numbers.sort_unstable();
        let expected = mails.iter().filter(|(_, (owner, _))| *owner == user).map(|(number, _)| *number);
        assert_eq!(numbers, expected.collect::<Vec<_>>(), "what {user} has");
        stored.iter().for_each(|stored| assert_sealed(stored, &mails[&number(stored)].1, &reader));
        count += stored.len();
    }
    assert_eq!(count, mails.len());
    let leaks = server.files_with(CANARY);
    assert!(leaks.is_empty(), "clear text in {leaks:?}");
}

/// As docs/dovecot.md sets it up: 60 seconds for Dovecot, 50 for the filter. Clients read all the while.
/// A connection, which a Dovecot with a hundred others in its queue may refuse for a while.
fn connected(server: &Server) -> Lmtp {
    for _ in 0..100 {
        if let Ok(lmtp) = Lmtp::connect((server.address, server.lmtp_port).into()) {
            return lmtp;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    server.lmtp()
}

fn two_hundred_deliveries_at_once(flavour: Flavour) {
    let Some(server) = server(flavour) else { return };
    let sizes = [300, 2_000, 20_000, 150_000, 900_000];
    let owner = |number: usize| if number.is_multiple_of(3) { BOB } else { ALICE };
    let mails: BTreeMap<_, _> =
        (0..200).map(|number| (number, (owner(number), mail(number, sizes[number % sizes.len()])))).collect();
    let (delivered, later) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for user in [ALICE, ALICE, BOB, BOB] {
            let (server, delivered) = (&server, &delivered);
            scope.spawn(move || {
                while !delivered.load(Ordering::Relaxed) {
                    assert!(server.inbox(user).iter().all(|stored| is_sealed(stored)));
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
        let deliver = || {
            std::thread::scope(|scope| {
                for (number, (user, mail)) in &mails {
                    let (server, later) = (&server, &later);
                    scope.spawn(move || match connected(server).deliver("s@example.net", &[user], mail) {
                        Ok(replies) if replies[0].code == 250 => {}
                        other => later.lock().unwrap().push((*number, format!("{other:?}"))),
                    });
                }
            });
        };
        // Whatever becomes of them, nobody looks on for ever.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(deliver));
        delivered.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let later = later.into_inner().unwrap();
    eprintln!("200 deliveries at once: {} deferred, {:.1?}", later.len(), begin.elapsed());
    assert!(later.is_empty(), "with time enough, none is deferred: {later:?}");
    assert_all_stored(&server, &mails);
}

fn deliveries_with_random_faults(flavour: Flavour) {
    deliver_with_faults(flavour, 120);
}

fn a_thousand_deliveries_with_random_faults(flavour: Flavour) {
    deliver_with_faults(flavour, 1000);
}

/// Each delivery meets a fault, or none; the MTA sends again what was not accepted, to a server that is whole.
fn deliver_with_faults(flavour: Flavour, deliveries: usize) {
    let Some(server) = server(flavour) else { return };
    let mut random = Random(0x5eed);
    let mails: BTreeMap<_, _> = (0..deliveries)
        .map(|number| {
            let owner = if random.below(3) == 0 { BOB } else { ALICE };
            let size = [200, 5_000, 70_000, 300_000][random.below(4)];
            (number, (owner, mail(number, size)))
        })
        .collect();
    let mut refused = Vec::new();
    for (number, (user, mail)) in &mails {
        let fault = random.below(FAULTS.len());
        begin_fault(&server, fault, &mut random);
        let accepted = if random.below(4) == 0 {
            server.lda(user, mail) == 0
        } else {
            server.deliver(&[user], mail).is_ok_and(|replies| replies[0].code == 250)
        };
        end_fault(&server);
        if !accepted {
            refused.push(*number);
        }
    }
    let accepted: BTreeMap<_, _> =
        mails.clone().into_iter().filter(|(number, _)| !refused.contains(number)).collect();
    eprintln!("{deliveries} deliveries: {} accepted, {} refused", accepted.len(), refused.len());
    assert!(accepted.len() > deliveries / 10 && refused.len() > deliveries / 10);
    assert_all_stored(&server, &accepted);
    for number in refused {
        let (user, mail) = &mails[&number];
        deliver_again(&server, user, mail);
    }
    assert_all_stored(&server, &mails);
}

/// After its panics Dovecot holds back LMTP for a while, as an MTA's next try finds out.
fn deliver_again(server: &Server, user: &str, mail: &[u8]) {
    testing::dovecot::server::wait_until("the next try", || {
        server.deliver(&[user], mail).is_ok_and(|replies| replies[0].code == 250)
    });
}

/// Shell scripts in the filter's place; `MS` is a random number of milliseconds up to 40, `KB` one of kibibytes.
const FAULTS: [&str; 14] = [
    "",
    "exec \"$FILTER\" \"$@\"",
    "cat >/dev/null; exit 1",
    "cat >/dev/null; exit 75",
    "exit 75",
    "cat; exit 75",
    "\"$FILTER\" \"$@\"; exit 75",
    "\"$FILTER\" \"$@\"; kill -SEGV $$",
    "head -c 1000; kill -KILL $$",
    "\"$FILTER\" \"$@\" <&0 & sleep 0.0MS; kill -KILL $! 2>/dev/null; wait $!",
    "ulimit -v KB; exec \"$FILTER\" \"$@\"",
    "exec \"$FILTER\" --no-such-option \"$@\"",
    "not-executable",
    "unreadable-key",
];

fn begin_fault(server: &Server, fault: usize, random: &mut Random) {
    match FAULTS[fault] {
        "" => {}
        "not-executable" => server.install(Program::NotExecutable),
        "unreadable-key" => [ALICE, BOB].iter().for_each(|user| server.mode(&key_file(user), 0o000)),
        script => {
            let (milliseconds, kibibytes) = (format!("{:02}", random.below(41)), 1000 + random.below(30_000));
            let script = script.replace("MS", &milliseconds).replace("KB", &kibibytes.to_string());
            server.install(Program::Script(&script));
        }
    }
}

fn end_fault(server: &Server) {
    server.install(Program::Filter);
    for user in [ALICE, BOB] {
        server.mode(&key_file(user), 0o644);
    }
    assert!(
        fs::read_dir(server.path("failclosed")).unwrap().count() == 1,
        "nothing in the trap but its file"
    );
}

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}
