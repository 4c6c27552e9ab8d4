//! The doors side by side, in one run: Dovecot alone, the filter as a program, the script socket, LMTP before Dovecot. It asserts that
//! all is stored; its times are printed. A delivery that is deferred is made again and counted: on a machine at its limit Dovecot
//! may be kept from noticing within its 5 ms that it has connected to the script socket.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::ALICE_KEY;
use testing::dovecot::lmtp::Lmtp;
use testing::dovecot::server::{SENDER, Server, Setup};
use testing::dovecot::users::{ALICE, DELIVERY_GROUP, DELIVERY_USER};
use testing::serve::Serve;

/// How many rounds, each of one delivery a door.
const ROUNDS: usize = 300;

/// How many rounds of rates; a share is that of two rates of one round.
const RATES: usize = 9;

/// How many deliveries for a rate.
const DELIVERIES: usize = 400;

/// Where a client connects to.
enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Door {
    fn connect(&self) -> Lmtp {
        match self {
            Self::Tcp(address) => Lmtp::connect(*address),
            Self::Unix(path) => Lmtp::connect_unix(path),
        }
        .unwrap()
    }
}

/// A Dovecot, a way in, and whether our script runs in it.
struct Side {
    name: &'static str,
    door: Door,
    serve: Option<Serve>,
    server: Server,
}

impl Side {
    fn new(name: &'static str, sieve: bool, socket: bool, hop: bool) -> Self {
        let flavour = Flavour::V2_3;
        let mut setup = Setup::with(flavour, "mailseal.sieve").unwrap().settings(
            "lmtp_user_concurrency_limit = 1000\nservice lmtp {\n  process_limit = 100\n}\n\
             service auth {\n  unix_listener auth-userdb {\n    mode = 0600\n    user = mail\n  }\n}\n",
        );
        if !sieve {
            setup = setup.without_our_script();
        }
        if socket {
            setup = setup.settings(&flavour.sieve_settings("sieve_filter_socket_dir = sieve-filter"));
        }
        let server = setup.start();
        server.enrol(ALICE, &ALICE_KEY.certificate);
        let mut door = Door::Tcp((server.address, server.lmtp_port).into());
        let serve = (socket || hop).then(|| {
            for folder in ["doors", "run/sieve-filter"] {
                fs::create_dir(server.path(folder)).unwrap();
                server.mode(folder, 0o755);
                chown(server.path(folder), Some(DELIVERY_USER), Some(DELIVERY_GROUP)).unwrap();
            }
            let config = fs::read_to_string(server.path("mailseal.toml")).unwrap();
            let (lmtp, run) = (server.path("doors/lmtp"), server.path("run"));
            let settings = format!(
                "[serve]\nlmtp = \"{}\"\nnext = \"lmtp:{}:{}\"\nuserdb = \"{}/auth-userdb\"\nsieve = \"{}/sieve-filter/mailseal-filter\"\n",
                lmtp.display(),
                server.address,
                server.lmtp_port,
                run.display(),
                run.display(),
            );
            server.write("mailseal.toml", (config + &settings).as_bytes(), 0o644);
            if hop {
                door = Door::Unix(lmtp.clone());
            }
            Serve::start(&server.path("mailseal.toml"), DELIVERY_USER, &lmtp, &server.path("said"))
        });
        Self { name, door, serve, server }
    }

    /// Deliveries a second over so many connections, and how many were deferred meanwhile.
    fn rate(&self, connections: usize, mail: &[u8]) -> (f64, usize) {
        let deferred = AtomicUsize::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| {
                    let mut client = self.door.connect();
                    for _ in 0..DELIVERIES / connections {
                        while client.deliver(SENDER, &[ALICE], mail).unwrap()[0].code != 250 {
                            deferred.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let rate = (DELIVERIES / connections * connections) as f64 / start.elapsed().as_secs_f64();
        (rate, deferred.into_inner())
    }
}

#[test]
#[ignore = "figures: tests/long/doors"]
fn doors_side_by_side() {
    if !testing::dovecot::requirement::can_run(Flavour::V2_3) {
        return;
    }
    let sides = [
        Side::new("Dovecot alone", false, false, false),
        Side::new("filter, a program", true, false, false),
        Side::new("script socket", true, true, false),
        Side::new("LMTP hop", false, false, true),
    ];
    let mail = format!(
        "From: a@example.net\nSubject: one\n\n{}",
        "A line of a message of common length.\n".repeat(105)
    );
    let mail = mail.as_bytes();
    let mut clients: Vec<Lmtp> = sides.iter().map(|side| side.door.connect()).collect();
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); sides.len()];
    for _ in 0..ROUNDS {
        for (client, times) in clients.iter_mut().zip(&mut times) {
            let start = Instant::now();
            assert_eq!(client.deliver(SENDER, &[ALICE], mail).unwrap()[0].code, 250);
            times.push(start.elapsed());
        }
    }
    drop(clients);
    for (side, times) in sides.iter().zip(&mut times) {
        times.sort();
        let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
        println!("MEASURED: {}: median {:.2} ms, 90 of 100 within {:.2} ms", side.name, at(50), at(90));
    }
    for connections in [8, 32] {
        let mut rates = vec![Vec::new(); sides.len()];
        for _ in 0..RATES {
            for (side, rates) in sides.iter().zip(&mut rates) {
                rates.push(side.rate(connections, mail));
            }
        }
        let alone: Vec<f64> = rates[0].iter().map(|(rate, _)| *rate).collect();
        for (side, rates) in sides.iter().zip(&mut rates) {
            let shares = rates.iter().zip(&alone).map(|((rate, _), alone)| rate / alone);
            let share = median(shares.collect());
            let deferred: usize = rates.iter().map(|(_, deferred)| deferred).sum();
            let rate = median(rates.iter().map(|(rate, _)| *rate).collect());
            println!(
                "MEASURED: {connections} connections: {}: {rate:.0} a second, {share:.2} of Dovecot alone, {deferred} deferred",
                side.name
            );
        }
    }
    for side in &sides {
        let deliveries = side.server.inbox(ALICE).len();
        if let Some(serve) = &side.serve {
            let time = serve.processor_time().as_secs_f64() * 1e3 / deliveries as f64;
            let memory = serve.peak_memory();
            println!(
                "MEASURED: {}: {time:.2} ms of processor time a delivery, at most {memory} kB",
                side.name
            );
        }
        assert!(deliveries > ROUNDS + 2 * RATES * (DELIVERIES - 32));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
