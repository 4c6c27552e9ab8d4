//! Many deliveries: with faults on either side, and for a long time.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testing::decrypt::decrypt;
use testing::dovecot::lmtp::Lmtp;
use testing::next_hop::{Fault, STEPS};

use super::{ALICE, BOB, CAROL, Site};

/// Clients at once.
const CLIENTS: usize = 8;

/// Numbers that look random and are the same in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

fn number(usual: usize) -> usize {
    std::env::var("MAILSEAL_DELIVERIES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn mail(at: usize, length: usize) -> Vec<u8> {
    let line = "canary-7d0b41 and the rest of a line of common length.\r\n";
    format!("Subject: {at}\r\nMessage-ID: <{at}@example.net>\r\n\r\n{}", line.repeat(1 + length / line.len()))
        .into_bytes()
}

/// Which message it is.
fn of(message: &[u8]) -> usize {
    let text = String::from_utf8_lossy(message);
    text.lines().find_map(|line| line.strip_prefix("Message-ID: <")?.split('@').next()?.parse().ok()).unwrap()
}

/// Each is sent until it is taken, as an MTA does it; meanwhile clients break off and the next hop fails.
fn with_faults(deliveries: usize) {
    let Some(site) = Site::new() else { return };
    let (next, broken_off) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let tries = AtomicUsize::new(0);
    let told: Mutex<BTreeMap<(usize, &str), usize>> = Mutex::default();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (site, next, told, broken_off, tries) = (&site, &next, &told, &broken_off, &tries);
            scope.spawn(move || {
                let mut dice = Dice(0x9e37_79b9_7f4a_7c15 + client as u64);
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= deliveries {
                        return;
                    }
                    let mail = mail(at, [100, 4000, 100_000][dice.roll(3)]);
                    let mut waiting: Vec<&str> = [ALICE, BOB, CAROL][..1 + dice.roll(3)].to_vec();
                    while !waiting.is_empty() {
                        tries.fetch_add(1, Ordering::Relaxed);
                        if dice.roll(2) == 0 {
                            let faults = [
                                Fault::Close,
                                Fault::Delay(Duration::from_millis(5)),
                                Fault::Say("421 4.3.0 no\r\n"),
                                Fault::Say("nonsense\r\n"),
                                Fault::Say("550 5.0.0 never\r\n"),
                            ];
                            site.next
                                .fail(STEPS[dice.roll(STEPS.len())], faults[dice.roll(faults.len())].clone());
                        }
                        if dice.roll(4) == 0 {
                            broken_off.fetch_add(1, Ordering::Relaxed);
                            break_off(site, &waiting, &mail, &mut dice);
                            continue;
                        }
                        let Ok(mut client) = Lmtp::connect_unix(&site.door()) else { continue };
                        let Ok(replies) = client.deliver("s@example.net", &waiting, &mail) else { continue };
                        let taken: Vec<&str> = waiting
                            .iter()
                            .zip(&replies)
                            .filter(|(_, reply)| reply.code == 250)
                            .map(|(user, _)| *user)
                            .collect();
                        for user in &taken {
                            *told.lock().unwrap().entry((at, user)).or_default() += 1;
                        }
                        waiting.retain(|user| !taken.contains(user));
                    }
                }
            });
        }
    });
    let told = told.into_inner().unwrap();
    let mut stored: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for taken in site.next.take() {
        let user = [ALICE, BOB, CAROL].into_iter().find(|user| taken.recipient.contains(user)).unwrap();
        let clear = String::from_utf8_lossy(&taken.message).contains(super::CANARY);
        assert_eq!(clear, user == CAROL, "{} to {user}", of(&taken.message));
        *stored.entry((of(&taken.message), user)).or_default() += 1;
    }
    for key in told.keys() {
        assert!(stored.contains_key(key), "{key:?} was called taken and was not");
    }
    println!(
        "MEASURED: {deliveries} deliveries, {} tries, {} broken off by the client: {} recipients, {} copies stored twice",
        tries.into_inner(),
        broken_off.into_inner(),
        told.len(),
        stored.values().map(|count| count - 1).sum::<usize>()
    );
}

/// Begins a delivery and goes away amid it.
fn break_off(site: &Site, recipients: &[&str], mail: &[u8], dice: &mut Dice) {
    let Ok(mut stream) = UnixStream::connect(site.door()) else { return };
    let recipients: String = recipients.iter().map(|user| format!("RCPT TO:<{user}>\r\n")).collect();
    let begin = format!("LHLO x\r\nMAIL FROM:<s@example.net>\r\n{recipients}DATA\r\n");
    // Never to the dot.
    let all = [begin.as_bytes(), mail].concat();
    let _ = stream.write_all(&all[..dice.roll(all.len())]);
    if dice.roll(2) == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn deliveries_with_faults_on_either_side() {
    with_faults(300);
}

#[test]
#[ignore = "minutes: MAILSEAL_DELIVERIES=N says how many deliveries"]
fn many_deliveries_with_faults_on_either_side() {
    with_faults(number(10_000));
}

#[test]
#[ignore = "minutes: MAILSEAL_DELIVERIES=N says how many deliveries"]
fn memory_stays_what_it_is() {
    let Some(site) = Site::new() else { return };
    let deliveries = number(100_000);
    let start = Instant::now();
    let mut figures = Vec::new();
    for tenth in 0..10 {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let site = &site;
                scope.spawn(move || {
                    let mut dice = Dice(1 + client as u64 + tenth);
                    let mut client = site.client();
                    for at in 0..deliveries / 10 / CLIENTS {
                        let mail = mail(at, [300, 4000, 20_000][dice.roll(3)]);
                        let replies = client.deliver("s@example.net", &[ALICE, BOB], &mail).unwrap();
                        assert!(replies.iter().all(|reply| reply.code == 250), "{replies:?}");
                    }
                });
            }
        });
        // The last one opens.
        let taken = site.next.take();
        let last = taken.iter().rfind(|taken| taken.recipient.contains(ALICE)).unwrap();
        assert_eq!(decrypt("curve25519", &last.message).status, Some(0));
        site.assert_nothing_clear("soak");
        figures.push(site.serve.memory());
    }
    println!(
        "MEASURED: {deliveries} deliveries to two keys in {:.0} s; kB after each tenth: {figures:?}",
        start.elapsed().as_secs_f64()
    );
    assert!(figures[9] < figures[1] + 8 * 1024, "{figures:?}");
}
