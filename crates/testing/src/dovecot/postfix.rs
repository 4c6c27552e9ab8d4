//! A real Postfix of the test's own: its queue and its log in the site's folder, SMTP on the site's loopback address. It delivers
//! by `mailseal deliver` before dovecot-lda as docs/before-dovecot.md shows it, or to `mailseal serve` as `contrib/mta` does; or it sends mail away
//! through a relay.

use super::flavour::DOVECOT_LDA;
use super::lmtp::Lmtp;
use super::mta::{Mta, shipped};
use super::server::{SENDER, Server, wait_until};
use super::site::{Site, free_port};
use super::users::DELIVERY_GROUP;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The user that Postfix is run as, and the local user that mail for `mail@localhost` goes to.
pub const LOCAL_USER: &str = "mail";

/// A running Postfix; dropped, it is stopped. The site's folder has to outlive it.
pub struct Postfix<'a> {
    site: &'a Site,
    smtp: SocketAddr,
    master: Child,
}

impl<'a> Postfix<'a> {
    /// Starts one that delivers to virtual users of example.org with the documented pipe, and to local users with the
    /// documented `mailbox_command`. `recipients_at_once` is the transport's recipient limit.
    pub fn start(server: &'a Server, recipients_at_once: u32) -> Self {
        Self::start_with(server, &by_pipe(server, recipients_at_once), &pipe(server))
    }

    /// Starts one that delivers by the shipped recipe for `mailseal serve`, at the door that [`Self::door`] says.
    pub fn before_serve(server: &'a Server) -> Self {
        Self::start_with(server, &shipped("postfix-main.cf"), "")
    }

    /// Where the shipped recipe has the socket of `mailseal serve`.
    pub fn door(site: &Site) -> PathBuf {
        site.path("postfix/spool/private/mailseal")
    }

    /// Starts one that sends mail away through `relay`, by the shipped recipe for `mailseal serve`, at the door that
    /// [`Self::outgoing_door`] says; sealed mail comes back at `back`. `more` are further settings, and `aliases` lines of the
    /// recipe's table.
    pub fn sending(site: &'a Site, relay: SocketAddr, back: SocketAddr, more: &str, aliases: &str) -> Self {
        Self::sending_signed(site, relay, back, (more, aliases), "")
    }

    /// The same with a milter where the recipe says that one belongs which signs.
    pub fn sending_signed(
        site: &'a Site,
        relay: SocketAddr,
        back: SocketAddr,
        (more, aliases): (&str, &str),
        milter: &str,
    ) -> Self {
        let table = site.path("virtual");
        site.write("virtual", aliases.as_bytes(), 0o644);
        assert!(Command::new("postmap").arg(&table).status().unwrap().success());
        let (main, master) = (shipped("postfix-outgoing-main.cf"), shipped("postfix-outgoing-master.cf"));
        assert!(main.contains("/etc/postfix/virtual") && master.contains("127.0.0.1:10025"));
        let main = main.replace("/etc/postfix/virtual", table.to_str().unwrap());
        let relayed = format!("relayhost = [{}]:{}\nsmtp_host_lookup = native\n", relay.ip(), relay.port());
        Self::start_with(
            site,
            &(main + &relayed + more),
            &master
                .replace("127.0.0.1:10025", &back.to_string())
                .replace("  -o smtpd_milters=\n", &format!("  -o smtpd_milters={milter}\n")),
        )
    }

    /// Where the shipped recipe has the socket of `mailseal serve` for mail that leaves.
    pub fn outgoing_door(site: &Site) -> PathBuf {
        site.path("postfix/spool/private/mailseal-outgoing")
    }

    fn start_with(site: &'a Site, settings: &str, service: &str) -> Self {
        let smtp = SocketAddr::from((site.address, free_port(site.address)));
        for folder in ["postfix", "postfix/spool", "postfix/data"] {
            fs::create_dir(site.path(folder)).unwrap();
        }
        let postfix = nix::unistd::User::from_name("postfix").unwrap().unwrap();
        chown(site.path("postfix/data"), Some(postfix.uid.as_raw()), None).unwrap();
        // What the mail user runs: both programs with the site's paths.
        crate::install("mailseal", site.path("libexec/mailseal"));
        fs::set_permissions(site.path("libexec/mailseal"), fs::Permissions::from_mode(0o755)).unwrap();
        site.write("postfix/main.cf", (main_cf(site) + settings).as_bytes(), 0o644);
        site.write("postfix/master.cf", (master_cf(smtp) + service).as_bytes(), 0o644);
        site.write("postfix/maillog", b"", 0o644);
        let directory = site.path("postfix");
        let check = Command::new("postfix").arg("-c").arg(&directory).arg("check").output().unwrap();
        let said = String::from_utf8_lossy(&check.stderr);
        let log = fs::read_to_string(site.path("postfix/maillog")).unwrap();
        assert!(check.status.success(), "postfix check: {said}{log}");
        let mut master = Command::new("setpriv");
        master.args(["--pdeathsig", "TERM", "/usr/lib/postfix/sbin/master", "-d", "-c"]).arg(&directory);
        let master = master.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
        let mut running = Self { site, smtp, master };
        wait_until("Postfix to listen", || {
            if let Some(status) = running.master.try_wait().unwrap() {
                panic!("Postfix did not start: {status}\n{}", running.log());
            }
            TcpStream::connect(smtp).is_ok()
        });
        running
    }

    /// Hands a mail over by SMTP; an error is a refusal.
    pub fn send(&self, recipients: &[&str], mail: &[u8]) -> io::Result<()> {
        Lmtp::connect_smtp(self.smtp)?.send(SENDER, recipients, mail)
    }

    /// Waits until each message has been tried, and those that could not be delivered wait in the deferred queue.
    pub fn wait_for_deferred(&self, messages: usize) {
        let deferred = self.site.path("postfix/spool/deferred");
        wait_until("the mail to be deferred", || count_files(&deferred) == messages);
    }

    fn control(&self, program: &str, argument: &str) -> std::process::ExitStatus {
        Command::new(program).arg("-c").arg(self.site.path("postfix")).arg(argument).status().unwrap()
    }
}

impl Mta for Postfix<'_> {
    fn smtp(&self) -> SocketAddr {
        self.smtp
    }

    fn queued(&self) -> usize {
        let output = Command::new("postqueue").arg("-c").arg(self.site.path("postfix")).arg("-j").output();
        output.unwrap().stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count()
    }

    fn flush(&self) {
        assert!(self.control("postqueue", "-f").success());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.site.path("postfix/maillog")).unwrap()
    }

    fn deferral(&self) -> &'static str {
        "status=deferred"
    }

    fn sendmail(&self) -> Command {
        let mut sendmail = Command::new("sendmail");
        sendmail.arg("-C").arg(self.site.path("postfix"));
        sendmail
    }

    fn queue(&self) -> PathBuf {
        self.site.path("postfix/spool")
    }
}

impl Drop for Postfix<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Postfix's log ---\n{}---", self.log());
        }
        let group = Pid::from_raw(self.master.id().cast_signed());
        let _ = kill(group, Signal::SIGTERM);
        let _ = self.master.wait();
        let _ = killpg(group, Signal::SIGKILL);
    }
}

/// The documented command, with the site's paths.
pub fn deliver(site: &Site) -> String {
    let (mailseal, config) = (site.path("libexec/mailseal"), site.path("mailseal.toml"));
    format!("{} --config {} deliver --log stderr", mailseal.display(), config.display())
}

/// What makes Postfix use the documented pipe and `mailbox_command`.
fn by_pipe(site: &Site, recipients_at_once: u32) -> String {
    let (dir, deliver) = (site.dir().display(), deliver(site));
    format!(
        "\
virtual_transport = mailseal
mailseal_destination_recipient_limit = {recipients_at_once}
mailbox_command = {deliver} -- {DOVECOT_LDA} -c {dir}/dovecot.conf -f \"$SENDER\" -a \"$RECIPIENT\" -d \"$USER\"
"
    )
}

fn pipe(site: &Site) -> String {
    let (dir, deliver) = (site.dir().display(), deliver(site));
    format!(
        "\
mailseal unix - n n - - pipe
  flags=DRhu user={LOCAL_USER}:{group} argv={deliver} --user ${{user}}@${{domain}} --
  {DOVECOT_LDA} -c {dir}/dovecot.conf -f ${{sender}} -a ${{original_recipient}} -d ${{user}}@${{domain}}
",
        group = nix::unistd::Group::from_gid(DELIVERY_GROUP.into()).unwrap().unwrap().name,
    )
}

fn main_cf(site: &Site) -> String {
    let dir = site.dir().display();
    format!(
        "\
compatibility_level = 3.6
queue_directory = {dir}/postfix/spool
data_directory = {dir}/postfix/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {dir}/postfix/maillog
maillog_file_prefixes = {dir}
myhostname = mail.example.org
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination = localhost
alias_maps =
local_recipient_maps =
recipient_delimiter = +
smtpd_peername_lookup = no
virtual_mailbox_domains = example.org
"
    )
}

fn master_cf(smtp: SocketAddr) -> String {
    let services = [
        "pickup unix n - n 60 1 pickup",
        "cleanup unix n - n - 0 cleanup",
        "qmgr unix n - n 300 1 qmgr",
        "rewrite unix - - n - - trivial-rewrite",
        "bounce unix - - n - 0 bounce",
        "defer unix - - n - 0 bounce",
        "trace unix - - n - 0 bounce",
        "showq unix n - n - - showq",
        "error unix - - n - - error",
        "retry unix - - n - - error",
        "discard unix - - n - - discard",
        "local unix - n n - - local",
        // Locked up in the queue folder, as Debian has it.
        "lmtp unix - - y - - lmtp",
        "smtp unix - - n - - smtp",
        "scache unix - - n - 1 scache",
        "anvil unix - - n - 1 anvil",
        "postlog unix-dgram n - n - 1 postlogd",
    ]
    .join("\n");
    format!("{smtp} inet n - n - - smtpd\n{services}\n")
}

fn count_files(folder: &std::path::Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count_files(&entry.path()) } else { 1 }).sum()
}
