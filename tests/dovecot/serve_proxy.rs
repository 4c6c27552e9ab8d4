//! `mailseal serve` on several machines: Dovecot's own LMTP proxy shares the users out among two backends. The hop stands before
//! the proxy, or on each backend. One backend goes down while mail comes.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use testing::dovecot::entity::{assert_sealed, is_sealed};
use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::{ALICE_KEY, BOB_KEY, Home, Key};
use testing::dovecot::lmtp::{Lmtp, with_crlf};
use testing::dovecot::network::{self, Machine};
use testing::dovecot::server::{SENDER, Server, Setup, wait_until, wait_until_for};
use testing::dovecot::users::{ALICE, BOB, DELIVERY_USER, PASSWORD};
use testing::serve::Serve;

testing::on_each_dovecot! {
    before_the_proxy_nothing_is_lost_when_a_backend_goes,
    on_each_backend_nothing_is_lost_when_one_goes,
    #[ignore = "a minute: tests/long/proxy"]
    before_the_proxy_nothing_of_much_is_lost,
    #[ignore = "a minute: tests/long/proxy"]
    on_each_backend_nothing_of_much_is_lost,
}

const CANARY: &str = "canary-c41d07";

/// Each backend's user and key.
const USERS: [&str; 2] = [ALICE, BOB];

/// The addresses of the proxy and of a backend on the network between them.
const NETWORKS: [[Ipv4Addr; 2]; 2] = [
    [Ipv4Addr::new(10, 77, 1, 1), Ipv4Addr::new(10, 77, 1, 2)],
    [Ipv4Addr::new(10, 77, 2, 1), Ipv4Addr::new(10, 77, 2, 2)],
];

/// Where the hops listen on the backends.
const DOOR: u16 = 2424;

/// Clients at once.
const CLIENTS: usize = 8;

fn key(user: &str) -> &'static Key {
    if user == ALICE { &ALICE_KEY } else { &BOB_KEY }
}

/// A Dovecot and, where it has one, the hop before it; the machine that they run on.
struct Host {
    serve: Option<Serve>,
    server: Server,
    machine: Machine,
}

impl Host {
    /// Starts the hop with these settings.
    fn serve(&mut self, settings: &str) {
        self.server.configure("", "");
        let config = self.server.path("mailseal.toml");
        let whole = fs::read_to_string(&config).unwrap() + "[serve]\n" + settings;
        self.server.write("mailseal.toml", whole.as_bytes(), 0o644);
        self.serve_again();
    }

    /// Starts it as it was.
    fn serve_again(&mut self) {
        let (config, said) = (self.server.path("mailseal.toml"), self.server.path("said"));
        let serve = || Serve::spawn(&config, DELIVERY_USER, &said, &["--sandbox", "require"]);
        self.serve = Some(self.machine.within(serve));
    }

    /// Waits until a hop at `door` answers those who come from here.
    fn wait_for(&self, door: SocketAddr) {
        self.machine.within(|| wait_until("mailseal serve to listen", || Lmtp::connect(door).is_ok()));
    }

    /// All that runs there ends at once.
    fn kill(&mut self) {
        if let Some(mut serve) = self.serve.take() {
            serve.signal(nix::sys::signal::Signal::SIGKILL);
            serve.wait();
        }
        self.server.kill();
    }
}

/// What the MTA's machine has, and the backends.
struct Site {
    proxy: Host,
    backends: Vec<Host>,
    /// Where the MTA delivers.
    door: SocketAddr,
}

impl Site {
    /// The machines, each with its Dovecot, whose proxy finds the backends' LMTP at `port`, or at Dovecot's own.
    fn new(flavour: Flavour, port: Option<u16>) -> Option<Self> {
        let machine = network::can_run().then(Machine::new)?;
        let mut backends = Vec::new();
        for ([own, address], user) in NETWORKS.into_iter().zip(USERS) {
            let backend = Machine::new();
            machine.connect(own, &backend, address);
            let server = backend.within(|| {
                let setup = Setup::at(flavour, "mailseal.sieve", address)?;
                Some(setup.without_our_script().settings(AUTH).start())
            })?;
            server.enrol(user, &key(user).certificate);
            backends.push(Host { serve: None, server, machine: backend });
        }
        let setup = Setup::with(flavour, "mailseal.sieve")?.without_our_script();
        let users = USERS.iter().zip(&backends).map(|(user, backend)| {
            let port = port.unwrap_or(backend.server.lmtp_port);
            let place = format!("proxy=y host={} port={port}", backend.server.address);
            format!("{user}:{{PLAIN}}{PASSWORD}::::::{place}\n")
        });
        setup.site().write("users", users.collect::<String>().as_bytes(), 0o644);
        let server = machine.within(|| setup.settings(AUTH).settings("lmtp_proxy = yes\n").start());
        USERS.iter().for_each(|user| server.enrol(user, &key(user).certificate));
        let door = SocketAddr::from((server.address, server.lmtp_port));
        Some(Self { proxy: Host { serve: None, server, machine }, backends, door })
    }
}

/// Lets the hop ask whose an address is.
const AUTH: &str =
    "service auth {\n  unix_listener auth-userdb {\n    mode = 0600\n    user = mail\n  }\n}\n";

/// Before the proxy: the backends get sealed mail over the network.
fn before_the_proxy(flavour: Flavour, mails: usize) {
    let Some(mut site) = Site::new(flavour, None) else { return };
    let next = site.door;
    site.door.set_port(DOOR);
    let userdb = site.proxy.server.path("run/auth-userdb");
    site.proxy.serve(&format!(
        "lmtp = \"{}\"\nnext = \"lmtp:{next}\"\nuserdb = \"{}\"\n",
        site.door,
        userdb.display()
    ));
    site.proxy.wait_for(site.door);
    nothing_is_lost(&mut site, mails, |_, _| {});
}

/// On each backend, on an address that other machines reach.
fn on_each_backend(flavour: Flavour, mails: usize) {
    let Some(mut site) = Site::new(flavour, Some(DOOR)) else { return };
    let mut doors = Vec::new();
    for (backend, [proxy, address]) in site.backends.iter_mut().zip(NETWORKS) {
        let door = SocketAddr::from((address, DOOR));
        let (port, userdb) = (backend.server.lmtp_port, backend.server.path("run/auth-userdb"));
        backend.serve(&format!(
            "lmtp = \"{door}\"\nfrom = [\"{proxy}/32\"]\nnext = \"lmtp:{address}:{port}\"\nuserdb = \"{}\"\n",
            userdb.display()
        ));
        doors.push(door);
    }
    for (door, backend) in doors.iter().zip(&site.backends) {
        site.proxy.wait_for(*door);
        let greeted = backend.machine.within(|| {
            let mut greeting = Vec::new();
            TcpStream::connect(*door).unwrap().read_to_end(&mut greeting).map(|_| greeting)
        });
        assert!(greeted.is_ok_and(|greeting| greeting.is_empty()), "nobody but the proxy may come in");
    }
    nothing_is_lost(&mut site, mails, |backend, proxy| {
        backend.serve_again();
        proxy.wait_for(doors[1]);
    });
}

/// A message in the MTA's queue, with those who wait for it.
struct Queued {
    number: usize,
    waiting: Vec<&'static str>,
}

/// What the MTA knows.
#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    /// The copies that nobody has taken yet.
    left: usize,
    /// How many were refused for the time being.
    refused: usize,
    /// How often a copy was sent to its end and not called taken: it may be stored all the same.
    in_doubt: BTreeMap<(usize, &'static str), usize>,
    /// Whether nobody waits for it any more.
    over: bool,
}

/// What became of a copy in one attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Taken,
    /// Before the message was sent.
    Refused,
    /// After that, or the connection broke.
    InDoubt,
}

/// Sends so many messages and has the second backend go down amid them; `again` brings back what it ran but Dovecot.
fn nothing_is_lost(site: &mut Site, mails: usize, again: impl FnOnce(&mut Host, &Host)) {
    let Site { proxy, backends, door } = site;
    let recipients = |number: usize| match number % 3 {
        0 => vec![ALICE],
        1 => vec![BOB],
        _ => vec![ALICE, BOB],
    };
    let queue: VecDeque<Queued> =
        (0..mails).map(|number| Queued { number, waiting: recipients(number) }).collect();
    let all = queue.iter().map(|queued| queued.waiting.len()).sum();
    let state = Mutex::new(State { queue, left: all, ..State::default() });
    std::thread::scope(|scope| {
        let _over = Over(&state);
        proxy.machine.within(|| {
            for _ in 0..CLIENTS {
                scope.spawn(|| work(*door, &state));
            }
        });
        let wait = |what: &str, ready: &dyn Fn(&State) -> bool| {
            wait_until_for(Duration::from_secs(300), what, || ready(&state.lock().unwrap()));
        };
        wait("a third of the mail to be taken", &|state| state.left < all * 2 / 3);
        backends[1].kill();
        let (refused, left) = {
            let state = state.lock().unwrap();
            (state.refused, state.left)
        };
        wait("mail to be refused", &|state| state.refused > refused + 20);
        // An answer to each client may have been on its way.
        wait("mail for the other backend", &|state| state.left + 2 * CLIENTS < left);
        let Host { server, machine, .. } = &mut backends[1];
        machine.within(|| server.start_again());
        again(&mut backends[1], proxy);
        wait("all mail to be taken", &|state| state.left == 0);
    });
    let state = state.into_inner().unwrap();
    let mut copies = 0;
    for (user, backend) in USERS.into_iter().zip(&*backends) {
        let mut stored = stored(&backend.server, user);
        for number in (0..mails).filter(|number| recipients(*number).contains(&user)) {
            let count = stored.remove(&number).unwrap_or_default();
            let in_doubt = state.in_doubt.get(&(number, user)).copied().unwrap_or_default();
            assert!(count >= 1, "message {number} to {user} is lost");
            assert!(count <= 1 + in_doubt, "message {number} to {user}: {count} copies, {in_doubt} in doubt");
            copies += count;
        }
        assert!(stored.is_empty(), "for nobody: {stored:?}");
        assert_eq!(fs::read_dir(backend.server.path("home")).unwrap().count(), 1, "other users' homes");
    }
    for host in backends.iter().chain([&*proxy]) {
        let leaks = host.server.files_with(CANARY);
        assert!(leaks.is_empty(), "clear text in {leaks:?}");
    }
    println!(
        "MEASURED: {mails} messages, {all} copies: {} refused for the time being, {} in doubt, {} stored twice",
        state.refused,
        state.in_doubt.values().sum::<usize>(),
        copies - all
    );
}

/// Says that it is over, also where the test has failed.
struct Over<'a>(&'a Mutex<State>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).over = true;
    }
}

/// Takes messages from the queue and puts back those for whom they were not taken, as an MTA does.
fn work(door: SocketAddr, state: &Mutex<State>) {
    loop {
        let next = {
            let mut state = state.lock().unwrap();
            if state.over || state.left == 0 {
                return;
            }
            state.queue.pop_front()
        };
        let Some(Queued { number, waiting }) = next else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let outcomes = attempt(door, number, &waiting);
        let mut again = Vec::new();
        {
            let mut state = state.lock().unwrap();
            for (user, outcome) in waiting.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Taken => state.left -= 1,
                    Outcome::Refused => state.refused += 1,
                    Outcome::InDoubt => *state.in_doubt.entry((number, user)).or_default() += 1,
                }
                again.extend((outcome != Outcome::Taken).then_some(user));
            }
        }
        if !again.is_empty() {
            std::thread::sleep(Duration::from_millis(50));
            state.lock().unwrap().queue.push_back(Queued { number, waiting: again });
        }
    }
}

/// One transaction: what became of the message for each of `users`.
fn attempt(door: SocketAddr, number: usize, users: &[&str]) -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::Refused; users.len()];
    // Where it breaks off, what is known by then is all that there is to know.
    let _ = transaction(door, number, users, &mut outcomes);
    outcomes
}

fn transaction(door: SocketAddr, number: usize, users: &[&str], outcomes: &mut [Outcome]) -> io::Result<()> {
    let mut client = Lmtp::connect(door)?;
    client.command(&format!("MAIL FROM:<{SENDER}>"), 250)?;
    let mut taken = Vec::new();
    for (place, user) in users.iter().enumerate() {
        match client.command(&format!("RCPT TO:<{user}>"), 250) {
            Ok(()) => taken.push(place),
            Err(error) => assert!(!error.to_string().starts_with('5'), "refused for good: {error}"),
        }
    }
    if taken.is_empty() {
        return client.command("QUIT", 221);
    }
    client.command("DATA", 354)?;
    taken.iter().for_each(|place| outcomes[*place] = Outcome::InDoubt);
    client.send_raw(&[mail(number).as_bytes(), b".\r\n"].concat())?;
    for place in taken {
        let reply = client.reply()?;
        assert!(reply.code < 500, "refused for good: {}", reply.text);
        if reply.code == 250 {
            outcomes[place] = Outcome::Taken;
        }
    }
    client.command("QUIT", 221)
}

/// Some are so long that Dovecot's proxy does not keep them in memory.
fn mail(number: usize) -> String {
    let lines = match number % 20 {
        0 => 4000,
        4 | 8 | 12 | 16 => 60,
        _ => 1,
    };
    let line = format!("{CANARY} and the rest of a line of common length.\r\n");
    format!(
        "From: a@example.net\r\nSubject: {number}\r\nMessage-ID: <{number}@example.net>\r\n\r\n{}",
        line.repeat(lines)
    )
}

/// How often each message lies in the user's Maildir. All of it is sealed, and some of it is opened.
fn stored(server: &Server, user: &str) -> BTreeMap<usize, usize> {
    let reader = Home::with(&[key(user)]);
    let mut stored = BTreeMap::new();
    for path in ["new", "cur"]
        .map(|folder| server.home(user).join("Maildir").join(folder))
        .iter()
        .flat_map(|folder| files(folder))
    {
        let message = with_crlf(&fs::read(&path).unwrap());
        let text = String::from_utf8_lossy(&message);
        assert!(is_sealed(&message), "{}", path.display());
        let number =
            text.lines().find_map(|line| line.strip_prefix("Message-ID: <")?.split('@').next()?.parse().ok());
        let number: usize = number.unwrap();
        if number % 20 < 2 {
            assert_sealed(&message, mail(number).as_bytes(), &reader);
        }
        *stored.entry(number).or_default() += 1;
    }
    stored
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn before_the_proxy_nothing_is_lost_when_a_backend_goes(flavour: Flavour) {
    before_the_proxy(flavour, 200);
}

fn on_each_backend_nothing_is_lost_when_one_goes(flavour: Flavour) {
    on_each_backend(flavour, 200);
}

fn before_the_proxy_nothing_of_much_is_lost(flavour: Flavour) {
    before_the_proxy(flavour, 1000);
}

fn on_each_backend_nothing_of_much_is_lost(flavour: Flavour) {
    on_each_backend(flavour, 1000);
}
