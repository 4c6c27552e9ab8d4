//! Exim and OpenSMTPD of the test's own, each in a [`World`] where queue, settings and log are where Debian has them.

use super::mta::{Mta, shipped};
use super::server::wait_until;
use super::site::{Site, free_port};
use super::users::USERS;
use crate::world::World;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub use crate::world::can_run;

/// A running Exim; dropped, it is stopped.
pub struct Exim {
    world: World,
    smtp: SocketAddr,
}

/// A running OpenSMTPD; dropped, it is stopped.
pub struct OpenSmtpd {
    world: World,
    smtp: SocketAddr,
    deferral: &'static str,
}

/// A world in the site's folder.
pub fn world(site: &Site) -> World {
    World::open(&site.path("world"), &site.path("world.log"))
}

/// An address of the site's that nobody listens at.
pub fn free_address(site: &Site) -> SocketAddr {
    SocketAddr::from((site.address, free_port(site.address)))
}

fn wait_for(world: &World, program: u32, smtp: SocketAddr) {
    wait_until("the MTA to listen", || {
        assert!(!world.has_ended(program), "the MTA did not start: {}", world.log());
        TcpStream::connect(smtp).is_ok()
    });
}

/// `text` with another place than the one that is installed.
fn replaced(text: String, installed: &str, here: &str) -> String {
    assert!(text.contains(installed), "there is no {installed:?}");
    text.replace(installed, here)
}

impl Exim {
    const SPOOL: &'static str = "/var/spool/exim4";

    /// Starts one that hands mail for example.org over at `door`, by the shipped recipe.
    pub fn start(site: &Site, door: SocketAddr) -> Self {
        let recipe = shipped("exim.conf");
        let recipe = replaced(recipe, "hosts = 127.0.0.1\n", &format!("hosts = {}\n", door.ip()));
        let recipe = replaced(recipe, "port = 2424\n", &format!("port = {}\n", door.port()));
        Self::start_in(world(site), free_address(site), &recipe)
    }

    /// Starts one that sends mail away through `relay`, by the shipped recipe for `mailseal serve`, which listens at `door`; sealed
    /// mail comes back at `back`. `aliases` is its table of aliases.
    pub fn sending(site: &Site, relay: SocketAddr, [door, back]: [SocketAddr; 2], aliases: &str) -> Self {
        let recipe = shipped("exim-outgoing.conf");
        let recipe = replaced(recipe, "hosts = 127.0.0.1\n", &format!("hosts = {}\n", door.ip()));
        let recipe = replaced(recipe, "port = 10024\n", &format!("port = {}\n", door.port()));
        let recipe = replaced(recipe, "{10025}", &format!("{{{}}}", back.port()));
        let smtp = free_address(site);
        let recipe = replaced(
            recipe,
            "local_interfaces = <; 127.0.0.1 ; 127.0.0.1.10025\n",
            &format!("local_interfaces = <; {} ; {}.{}\n", smtp.ip(), back.ip(), back.port()),
        );
        let (main, routers) = recipe.split_once("begin routers\n").unwrap();
        let (routers, transports) = routers.split_once("begin transports\n").unwrap();
        let (transports, retry) = transports.split_once("begin retry\n").unwrap();
        let (ip, port) = (relay.ip(), relay.port());
        let recipe = format!(
            "\
{main}begin routers
aliases:
  driver = redirect
  domains = +local_domains
  data = ${{lookup{{$local_part}}lsearch{{/etc/aliases}}}}
{routers}smarthost:
  driver = manualroute
  domains = ! +local_domains
  transport = relay
  route_list = * {ip}
  self = send
begin transports
{transports}relay:
  driver = smtp
  port = {port}
  allow_localhost
begin retry
{retry}"
        );
        let world = world(site);
        world.write("/etc/aliases", aliases.as_bytes(), 0o644);
        Self::start_in(world, smtp, &recipe)
    }

    /// Starts one whose settings end with `recipe`: more for the main part, routers, transports, and rules for retries, if they are not to be the usual ones.
    pub fn start_in(world: World, smtp: SocketAddr, recipe: &str) -> Self {
        let passwd = world.read("/etc/passwd");
        let user = passwd.lines().find_map(|line| line.strip_prefix("Debian-exim:x:")).unwrap();
        let ids: Vec<u32> = user.split(':').take(2).map(|id| id.parse().unwrap()).collect();
        world.shell(&format!("mkdir -p {}", Self::SPOOL));
        chown(world.outside(Self::SPOOL), Some(ids[0]), Some(ids[1])).unwrap();
        let interfaces = if recipe.contains("local_interfaces") {
            String::new()
        } else {
            format!("local_interfaces = {}\n", smtp.ip())
        };
        let retry = if recipe.contains("begin retry") { "" } else { "begin retry\n* * F,4d,1h\n" };
        let settings = format!(
            "\
primary_hostname = mail.example.org
qualify_domain = example.org
log_file_path = {}/log/%slog
{interfaces}daemon_smtp_ports = {}
tls_advertise_hosts =
domainlist local_domains = example.org
acl_smtp_rcpt = accept
keep_environment =
{recipe}
{retry}",
            Self::SPOOL,
            smtp.port()
        );
        world.write("/etc/exim4/exim4.conf", settings.as_bytes(), 0o644);
        let daemon = world.start("exim4", &["-bdf"]);
        wait_for(&world, daemon, smtp);
        Self { world, smtp }
    }

    /// Where it runs.
    pub fn world(&self) -> &World {
        &self.world
    }
}

impl Mta for Exim {
    fn smtp(&self) -> SocketAddr {
        self.smtp
    }

    fn queued(&self) -> usize {
        self.world.shell("exim4 -bpc").trim().parse().unwrap()
    }

    fn flush(&self) {
        self.world.shell("exim4 -qff");
    }

    fn log(&self) -> String {
        self.world.log() + &self.world.read("/var/spool/exim4/log/mainlog")
    }

    fn deferral(&self) -> &'static str {
        " == "
    }

    fn sendmail(&self) -> Command {
        self.world.command("exim4")
    }

    fn queue(&self) -> PathBuf {
        self.world.outside(Self::SPOOL)
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Exim's log ---\n{}---", self.world.read("/var/spool/exim4/log/mainlog"));
        }
    }
}

impl OpenSmtpd {
    /// Starts one that hands mail for the site's users, and for one whom Dovecot does not know, over at `door`.
    pub fn start(site: &Site, door: SocketAddr) -> Self {
        Self::start_with(site, door, "")
    }

    /// The same, with further settings.
    pub fn start_with(site: &Site, door: SocketAddr, more: &str) -> Self {
        let recipe = replaced(shipped("smtpd.conf"), "127.0.0.1:2424\"", &format!("{door}\""));
        let world = world(site);
        let users = USERS.iter().chain(&["nobody@example.org"]);
        let users: String = users.map(|user| format!("{user}: mail\n")).collect();
        world.write("/etc/mail/mailboxes", users.as_bytes(), 0o644);
        Self::start_in(world, free_address(site), &format!("{more}{recipe}"))
    }

    /// Where Exim's is in the way of its own.
    const SENDMAIL: &'static str = "/opt/opensmtpd/sendmail";

    /// Starts one with the settings `recipe`.
    pub fn start_in(world: World, smtp: SocketAddr, recipe: &str) -> Self {
        world.shell("mkdir -p /opt/opensmtpd && ln -s /usr/sbin/smtpctl /opt/opensmtpd/sendmail");
        world.shell("mkdir -p /var/spool/smtpd && chmod 711 /var/spool/smtpd");
        let settings = format!("listen on {} port {}\n{recipe}\n", smtp.ip(), smtp.port());
        world.write("/etc/smtpd.conf", settings.as_bytes(), 0o644);
        let daemon = world.start("smtpd", &["-d", "-f", "/etc/smtpd.conf"]);
        wait_for(&world, daemon, smtp);
        Self { world, smtp, deferral: "result=TempFail" }
    }

    /// Starts one that sends mail away through `relay`, by the shipped recipe for `mailseal serve`, which listens at `door`; sealed
    /// mail comes back at `back`. `aliases` is its table of aliases.
    pub fn sending(site: &Site, relay: SocketAddr, [door, back]: [SocketAddr; 2], aliases: &str) -> Self {
        let recipe = shipped("smtpd-outgoing.conf");
        let recipe = replaced(recipe, "127.0.0.1:10024", &door.to_string());
        let recipe = replaced(
            recipe,
            "listen on 127.0.0.1 port 10025",
            &format!("listen on {} port {}", back.ip(), back.port()),
        );
        let world = world(site);
        world.write("/etc/aliases", aliases.as_bytes(), 0o644);
        let own = format!(
            "\
table aliases file:/etc/aliases
action \"local\" maildir alias <aliases>
action \"relay\" relay host smtp://{relay}
match from any for local action \"local\"
"
        );
        let started = Self::start_in(world, free_address(site), &(own + &recipe));
        Self { deferral: "result=\"TempFail\"", ..started }
    }

    /// Where it runs.
    pub fn world(&self) -> &World {
        &self.world
    }

    fn control(&self, arguments: &[&str]) -> String {
        let output = self.world.command("smtpctl").args(arguments).stderr(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Mta for OpenSmtpd {
    fn smtp(&self) -> SocketAddr {
        self.smtp
    }

    fn queued(&self) -> usize {
        let lines = self.control(&["show", "queue"]);
        let mut messages: Vec<&str> = lines.lines().filter_map(|line| line.get(..8)).collect();
        messages.dedup();
        messages.len()
    }

    fn flush(&self) {
        self.control(&["schedule", "all"]);
    }

    fn log(&self) -> String {
        self.world.log()
    }

    fn deferral(&self) -> &'static str {
        self.deferral
    }

    fn sendmail(&self) -> Command {
        self.world.command(Self::SENDMAIL)
    }

    fn queue(&self) -> PathBuf {
        self.world.outside("/var/spool/smtpd")
    }
}
