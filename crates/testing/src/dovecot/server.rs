//! A running Dovecot: start, deliver, look into mailboxes, stop.

use super::flavour::Flavour;
use super::imap::Imap;
use super::lmtp::{Lmtp, Reply};
use super::requirement;
use super::site::Site;
use super::users::{ALICE, PASSWORD};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Deref;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The envelope sender of every delivery.
pub const SENDER: &str = "sender@example.net";

/// dovecot-lda's exit status after a panic, as a shell gives it.
pub const ABORTED: i32 = 128 + 6;

/// How a server is set up before it starts.
pub struct Setup {
    site: Site,
    scripts_first: Vec<(&'static str, &'static str)>,
    scripts_after: Vec<(&'static str, &'static str)>,
    first: String,
    extra: String,
}

impl Setup {
    /// With the shipped `script`; `None` where this Dovecot cannot be run.
    pub fn with(flavour: Flavour, script: &'static str) -> Option<Self> {
        requirement::can_run(flavour).then(|| Self::of(Site::new(flavour, script)))
    }

    /// The same, listening on this address.
    pub fn at(flavour: Flavour, script: &'static str, address: Ipv4Addr) -> Option<Self> {
        requirement::can_run(flavour).then(|| Self::of(Site::at(flavour, script, address)))
    }

    fn of(site: Site) -> Self {
        Self {
            site,
            scripts_first: vec![],
            scripts_after: vec![],
            first: String::new(),
            extra: String::new(),
        }
    }

    /// A Dovecot that has the Sieve plugin and none of our scripts.
    pub fn without_our_script(mut self) -> Self {
        self.site.write("sieve/empty.sieve", b"", 0o644);
        self.extra += &self.site.flavour.script_in_place_of_ours(&self.site.path("sieve/empty.sieve"));
        self
    }

    /// Another global script that runs before ours.
    pub fn script_first(mut self, name: &'static str, text: &'static str) -> Self {
        self.scripts_first.push((name, text));
        self
    }

    /// Another global script that runs after ours.
    pub fn script_after(mut self, name: &'static str, text: &'static str) -> Self {
        self.scripts_after.push((name, text));
        self
    }

    /// With the shipped settings for the Sent folder.
    pub fn imapsieve(mut self) -> Self {
        self.extra += &self.site.shipped(self.site.flavour.imapsieve_snippet());
        self
    }

    /// With the shipped settings for users who enrol through their mailboxes, beside those for the Sent folder.
    pub fn receiving(mut self) -> Self {
        self = self.imapsieve();
        let site = &self.site;
        let script = "mailseal-receive.sieve";
        site.write(&format!("sieve/{script}"), site.shipped(script).as_bytes(), 0o644);
        crate::install("mailseal", site.path("bin/mailseal"));
        site.mode("bin/mailseal", 0o755);
        self.extra += &site.shipped(site.flavour.receive_snippet());
        self
    }

    /// With the shipped settings for a spam filter, whose `learn` is this shell script.
    pub fn learning(mut self, program: &str) -> Self {
        let site = &self.site;
        site.write("sieve/mailseal-learn.sieve", site.shipped("mailseal-learn.sieve").as_bytes(), 0o644);
        std::fs::create_dir(site.path("learn")).unwrap();
        site.write("learn/learn", format!("#!/bin/sh\n{program}\n").as_bytes(), 0o755);
        self.extra += &self.site.shipped(self.site.flavour.learn_snippet());
        self
    }

    /// Further settings, after all others.
    pub fn settings(mut self, settings: &str) -> Self {
        self.extra += settings;
        self
    }

    /// Further settings, before ours.
    pub fn settings_first(mut self, settings: &str) -> Self {
        self.first += settings;
        self
    }

    /// The folder, to put into it what the settings name.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// A shorter limit on how long the filter may run.
    pub fn filter_timeout(mut self, seconds: u32) -> Self {
        self.extra += &self.site.flavour.filter_timeout(seconds);
        self
    }

    /// Starts Dovecot and waits until it answers.
    pub fn start(self) -> Server {
        let Self { site, scripts_first, scripts_after, mut first, mut extra } = self;
        for (name, text) in scripts_first.iter().chain(&scripts_after) {
            site.write(&format!("sieve/{name}"), text.as_bytes(), 0o644);
        }
        if !scripts_first.is_empty() || !scripts_after.is_empty() {
            let path = |name: &str| site.path("sieve").join(name).display().to_string();
            let paths = |scripts: &[(&str, &str)]| -> Vec<String> {
                scripts.iter().map(|(name, _)| path(name)).collect()
            };
            let (before, after) = site.flavour.script_order(
                &paths(&scripts_first),
                &path("mailseal.sieve"),
                &paths(&scripts_after),
            );
            first += &before;
            extra += &after;
        }
        site.write("first.conf", first.as_bytes(), 0o644);
        site.write("extra.conf", extra.as_bytes(), 0o644);
        for entry in std::fs::read_dir(site.path("sieve")).unwrap() {
            site.compile(&format!("sieve/{}", entry.unwrap().file_name().display()));
        }
        Server::start(site)
    }
}

/// Dovecot with the fail-closed script, or `None` where it cannot be run.
pub fn start(flavour: Flavour) -> Option<Server> {
    Some(Setup::with(flavour, "mailseal.sieve")?.start())
}

/// A running Dovecot; dropped, it is stopped and its folder removed.
pub struct Server {
    site: Site,
    master: Child,
}

impl Deref for Server {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Server {
    fn start(site: Site) -> Self {
        let master = launch(&site);
        let mut server = Self { site, master };
        server.wait_until_it_listens();
        server
    }

    fn wait_until_it_listens(&mut self) {
        let addresses = [self.lmtp_port, self.imap_port].map(|port| (self.address, port));
        wait_until("Dovecot to listen", || {
            if let Some(status) = self.master.try_wait().unwrap() {
                panic!("Dovecot did not start: {status}\n{}", self.site.log());
            }
            addresses.iter().all(|address| TcpStream::connect(address).is_ok())
        });
        // It makes its sockets one after the other, and is asked for users by the last of them.
        let users = self.path("run/auth-userdb");
        for _ in 0..100 {
            if users.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills all its processes at once, as a machine goes down.
    pub fn kill(&mut self) {
        killpg(Pid::from_raw(self.master.id().cast_signed()), Signal::SIGKILL).unwrap();
        self.master.wait().unwrap();
    }

    /// Starts it again where it was killed.
    pub fn start_again(&mut self) {
        self.master = launch(&self.site);
        self.wait_until_it_listens();
    }

    /// Has it read its settings again.
    pub fn reload(&self) {
        let reloads = || self.log().matches("SIGHUP received").count();
        let before = reloads();
        kill(Pid::from_raw(self.master.id().cast_signed()), Signal::SIGHUP).unwrap();
        wait_until("Dovecot to reload", || reloads() > before);
        // The line is written before the work.
        wait_until("Dovecot to listen again", || {
            std::thread::sleep(Duration::from_millis(200));
            TcpStream::connect((self.address, self.lmtp_port)).is_ok()
        });
    }

    /// The process group of its processes.
    pub fn group(&self) -> u32 {
        self.master.id()
    }

    /// A new LMTP connection.
    pub fn lmtp(&self) -> Lmtp {
        Lmtp::connect((self.address, self.lmtp_port).into()).unwrap()
    }

    /// One LMTP transaction, on a connection of its own; an error is a connection that broke.
    pub fn deliver(&self, recipients: &[&str], mail: &[u8]) -> io::Result<Vec<Reply>> {
        Lmtp::connect((self.address, self.lmtp_port).into())?.deliver(SENDER, recipients, mail)
    }

    /// Delivers to one user over LMTP and expects Dovecot to take the mail.
    pub fn store(&self, user: &str, mail: &[u8]) {
        let replies = self.deliver(&[user], mail).unwrap();
        assert!(replies.iter().all(|reply| reply.code == 250), "{replies:?}");
    }

    /// Pipes a mail to dovecot-lda as an MTA would, and gives its exit status as a shell would: 128 and the
    /// signal that ended it.
    pub fn lda(&self, user: &str, mail: &[u8]) -> i32 {
        let mut command = self.flavour.command("dovecot-lda");
        command.arg("-c").arg(self.path("dovecot.conf")).args(["-d", user, "-f", SENDER]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // A delivery that fails early may close its end; the exit status says so.
        let _ = child.stdin.take().unwrap().write_all(mail);
        let status = child.wait().unwrap();
        status.code().or_else(|| Some(128 + status.signal()?)).unwrap()
    }

    /// An IMAP session of one user.
    pub fn imap(&self, user: &str) -> Imap {
        Imap::login((self.address, self.imap_port).into(), user, PASSWORD).unwrap()
    }

    /// What a user's INBOX holds, as IMAP shows it.
    pub fn inbox(&self, user: &str) -> Vec<Vec<u8>> {
        self.imap(user).messages("INBOX")
    }

    /// The only message of a user's INBOX.
    pub fn only_message(&self, user: &str) -> Vec<u8> {
        let mut inbox = self.inbox(user);
        assert_eq!(inbox.len(), 1, "messages in the INBOX of {user}");
        inbox.remove(0)
    }

    /// Delivers `mail` to Alice both ways and shows that each time it was deferred and nothing was kept.
    pub fn assert_deferred(&self, what: &str, mail: &[u8], canary: &str) {
        let before = self.inbox(ALICE).len();
        let replies = self.deliver(&[ALICE], mail).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(replies.len(), 1, "{what}: {replies:?}");
        assert_eq!(replies[0].code, 451, "{what} over LMTP: {replies:?}\n{}", self.log());
        assert_eq!(self.lda(ALICE, mail), 75, "{what} with dovecot-lda\n{}", self.log());
        self.assert_nothing_stored(what, before, canary);
    }

    /// The same for a program that ends without having read its input. Dovecot 2.3 panics over the rest it
    /// cannot write, not each time; then the connection breaks or dovecot-lda aborts, which an MTA takes for
    /// a deferral too.
    pub fn assert_deferred_or_broken_off(&self, what: &str, mail: &[u8], canary: &str) {
        let before = self.inbox(ALICE).len();
        if let Ok(replies) = self.deliver(&[ALICE], mail) {
            assert_eq!(replies[0].code, 451, "{what} over LMTP: {replies:?}\n{}", self.log());
        }
        let status = self.lda(ALICE, mail);
        assert!([75, ABORTED].contains(&status), "{what} with dovecot-lda: {status}\n{}", self.log());
        self.assert_nothing_stored(what, before, canary);
    }

    /// No more messages than `before`, and the canary nowhere on the server.
    pub fn assert_nothing_stored(&self, what: &str, before: usize, canary: &str) {
        for folder in self.imap(ALICE).folders() {
            let expected = if folder == "INBOX" { before } else { 0 };
            assert_eq!(self.imap(ALICE).messages(&folder).len(), expected, "{what}: messages in {folder}");
        }
        let leaks = self.files_with(canary);
        assert!(leaks.is_empty(), "{what}: clear text in {leaks:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(io::stderr(), "--- Dovecot's log ---\n{}---", self.site.log());
        }
        let group = Pid::from_raw(self.master.id().cast_signed());
        let _ = kill(group, Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && matches!(self.master.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Whatever the master left running, delivery processes and filters, is of its process group.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.master.wait();
    }
}

fn launch(site: &Site) -> Child {
    let mut command = site.flavour.command("dovecot");
    command.arg("-F").arg("-c").arg(site.path("dovecot.conf"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).spawn().unwrap()
}

/// Polls until `ready`, for as long as a loaded machine may need.
pub fn wait_until(what: &str, ready: impl FnMut() -> bool) {
    wait_until_for(Duration::from_secs(20), what, ready);
}

/// The same for what takes longer.
pub fn wait_until_for(most: Duration, what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + most;
    while !ready() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
