//! Exim and OpenSMTPD of the test's own, run in the small Debian 12 that `tests/dovecot/mtas` makes, with queue and log in the
//! site's folder. They deliver to `mailseal serve` as `contrib/mta` has it.

use super::mta::{Mta, shipped};
use super::server::wait_until;
use super::site::{Site, free_port};
use super::users::USERS;
use crate::skip;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Takes what is to run into the root `$1`: the tests' folders, its queue and its `/run` are mounted there, in a mount namespace
/// that ends with the program. `$2` is the folder for temporary files, `$3` has the queue and `run`, `$4` is where the queue is.
const ENTER: &str = r#"
root=$1 tmp=$2 here=$3 spool=$4
shift 4
mkdir -p "$root$tmp" "$root$spool"
mount --rbind "$tmp" "$root$tmp"
mount --bind "$here/spool" "$root$spool"
mount --bind "$here/run" "$root/run"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec setpriv --pdeathsig TERM chroot "$root" "$@"
"#;

/// Where the recipes have the door of `mailseal serve`.
const DOOR: &str = "127.0.0.1";
const DOOR_PORT: u16 = 2424;

/// What is the same of both.
struct Running<'a> {
    site: &'a Site,
    smtp: SocketAddr,
    master: Child,
}

/// A running Exim; dropped, it is stopped.
pub struct Exim<'a>(Running<'a>);

/// A running OpenSMTPD; dropped, it is stopped.
pub struct OpenSmtpd<'a>(Running<'a>);

fn root() -> PathBuf {
    std::env::var_os("MAILSEAL_MTAS").map_or_else(|| "/var/cache/mailseal/mtas".into(), PathBuf::from)
}

/// Whether they can be run here; a visible line where not.
pub fn can_run() -> bool {
    let there = ["usr/sbin/exim4", "usr/sbin/smtpd"].iter().all(|program| root().join(program).exists());
    if !there {
        let root = root();
        skip::unless_ci(&format!(
            "there are no Exim and OpenSMTPD in {} (tests/dovecot/mtas puts them there)",
            root.display()
        ));
    }
    there
}

fn command(site: &Site, spool: &str, program: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-euc", ENTER, "enter"]);
    unshare.args([root(), std::env::temp_dir(), site.path("mta"), spool.into(), program.into()]);
    unshare.current_dir("/");
    unshare
}

fn said(command: &mut Command) -> String {
    let output = command.stderr(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl<'a> Running<'a> {
    /// Starts `command`, whose output is the log, and waits until it listens at `smtp`.
    fn start(site: &'a Site, smtp: SocketAddr, mut command: Command) -> Self {
        let log = fs::OpenOptions::new().create(true).append(true).open(site.path("mta/log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let mut running = Self { site, smtp, master: command.spawn().unwrap() };
        wait_until("the MTA to listen", || {
            let ended = running.master.try_wait().unwrap();
            assert!(ended.is_none(), "the MTA did not start: {}", running.log());
            TcpStream::connect(smtp).is_ok()
        });
        running
    }

    fn log(&self) -> String {
        let read =
            |name| String::from_utf8_lossy(&fs::read(self.site.path(name)).unwrap_or_default()).into_owned();
        read("mta/log") + &read("mta/spool/log/mainlog")
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the MTA's log ---\n{}---", self.log());
        }
        let group = Pid::from_raw(self.master.id().cast_signed());
        let _ = kill(group, Signal::SIGTERM);
        let _ = self.master.wait();
        let _ = killpg(group, Signal::SIGKILL);
    }
}

fn folders(site: &Site) {
    for folder in ["mta", "mta/spool", "mta/run"] {
        fs::create_dir(site.path(folder)).unwrap();
        site.mode(folder, 0o755);
    }
}

impl<'a> Exim<'a> {
    const SPOOL: &'static str = "/var/spool/exim4";

    /// Starts one that hands mail for example.org over at `door`.
    pub fn start(site: &'a Site, door: SocketAddr) -> Self {
        folders(site);
        let passwd = fs::read_to_string(root().join("etc/passwd")).unwrap();
        let user = passwd.lines().find_map(|line| line.strip_prefix("Debian-exim:x:")).unwrap();
        let ids: Vec<u32> = user.split(':').take(2).map(|id| id.parse().unwrap()).collect();
        chown(site.path("mta/spool"), Some(ids[0]), Some(ids[1])).unwrap();
        let smtp = SocketAddr::from((site.address, free_port(site.address)));
        let recipe = shipped("exim.conf");
        let (host, port) = (format!("hosts = {DOOR}\n"), format!("port = {DOOR_PORT}\n"));
        assert!(recipe.contains(&host) && recipe.contains(&port));
        let recipe = recipe.replace(&host, &format!("hosts = {}\n", door.ip()));
        let recipe = recipe.replace(&port, &format!("port = {}\n", door.port()));
        let settings = format!(
            "\
primary_hostname = mail.example.org
log_file_path = {}/log/%slog
local_interfaces = {}
daemon_smtp_ports = {}
tls_advertise_hosts =
domainlist local_domains = example.org
acl_smtp_rcpt = accept
keep_environment =
deliver_drop_privilege
{recipe}
begin retry
* * F,4d,1h
",
            Self::SPOOL,
            smtp.ip(),
            smtp.port()
        );
        site.write("mta/exim.conf", settings.as_bytes(), 0o644);
        Self(Running::start(site, smtp, Self::command(site, &["-bdf"])))
    }

    fn command(site: &Site, arguments: &[&str]) -> Command {
        let mut command = command(site, Self::SPOOL, "exim4");
        command.arg("-C").arg(site.path("mta/exim.conf")).args(arguments);
        command
    }
}

impl Mta for Exim<'_> {
    fn smtp(&self) -> SocketAddr {
        self.0.smtp
    }

    fn queued(&self) -> usize {
        said(&mut Self::command(self.0.site, &["-bpc"])).trim().parse().unwrap()
    }

    fn flush(&self) {
        said(&mut Self::command(self.0.site, &["-qff"]));
    }

    fn log(&self) -> String {
        self.0.log()
    }

    fn deferral(&self) -> &'static str {
        " == "
    }
}

impl<'a> OpenSmtpd<'a> {
    const SPOOL: &'static str = "/var/spool/smtpd";

    /// Starts one that hands mail for the site's users, and for one whom Dovecot does not know, over at `door`.
    pub fn start(site: &'a Site, door: SocketAddr) -> Self {
        Self::start_with(site, door, "")
    }

    /// The same, with further settings.
    pub fn start_with(site: &'a Site, door: SocketAddr, more: &str) -> Self {
        folders(site);
        site.mode("mta/spool", 0o711);
        let smtp = SocketAddr::from((site.address, free_port(site.address)));
        let (recipe, table) = (shipped("smtpd.conf"), "/etc/mail/mailboxes");
        let installed = format!("{DOOR}:{DOOR_PORT}\"");
        assert!(recipe.contains(table) && recipe.contains(&installed));
        let mailboxes = site.path("mta/mailboxes");
        let recipe = recipe.replace(&installed, &format!("{door}\""));
        let recipe = recipe.replace(table, mailboxes.to_str().unwrap());
        let settings = format!("{more}listen on {} port {}\n{recipe}", smtp.ip(), smtp.port());
        site.write("mta/smtpd.conf", settings.as_bytes(), 0o644);
        let users = USERS.iter().chain(&["nobody@example.org"]);
        let users: String = users.map(|user| format!("{user}: mail\n")).collect();
        site.write("mta/mailboxes", users.as_bytes(), 0o644);
        let mut smtpd = command(site, Self::SPOOL, "smtpd");
        smtpd.arg("-d").arg("-f").arg(site.path("mta/smtpd.conf"));
        Self(Running::start(site, smtp, smtpd))
    }

    fn control(&self, arguments: &[&str]) -> String {
        said(command(self.0.site, Self::SPOOL, "smtpctl").args(arguments))
    }
}

impl Mta for OpenSmtpd<'_> {
    fn smtp(&self) -> SocketAddr {
        self.0.smtp
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
        self.0.log()
    }

    fn deferral(&self) -> &'static str {
        "result=TempFail"
    }
}
