//! A host on which `mailseal sendmail` is sendmail(1), and hands on to a program that has no queue, or a simple one.

use std::fs;
use std::process::{Command, Stdio};

use crate::alerts::{ALICE, Alerts, BOB, TEAM};
use crate::dovecot::mtas;
use crate::dovecot::server::wait_until;
use crate::filter::{Run, run};
use crate::world::World;

/// What sends the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    /// It has a queue, and a process that empties it.
    Nullmailer,
    /// It has none.
    Msmtp,
    /// It has a queue, and starts sending at once.
    Dma,
}

impl Sends {
    /// Its sendmail, from `/usr/sbin`.
    pub fn program(self) -> &'static str {
        match self {
            Self::Nullmailer => "sendmail.nullmailer",
            Self::Msmtp => "../bin/msmtp",
            Self::Dma => "dma",
        }
    }
}

/// The commands behind `mark` in the page about such hosts.
fn page(mark: &str) -> String {
    let page = fs::read_to_string(crate::repository().join("docs/alerts-cron.md")).unwrap();
    let lines =
        page.lines().skip_while(|line| !line.contains(mark)).skip_while(|line| !line.starts_with("       "));
    lines.take_while(|line| line.starts_with("       ")).map(|line| format!("{}\n", line.trim())).collect()
}

/// The host, until it is dropped.
pub struct Host {
    /// Its programs and files.
    pub world: World,
    sends: Sends,
}

/// Where it keeps what cannot be sealed.
const HELD: &str = "/var/spool/mailseal/held";

impl Host {
    /// Makes one that sends through the relay of `alerts`.
    pub fn new(alerts: &Alerts, sends: Sends) -> Self {
        let world = mtas::world(&alerts.site);
        world.install("mailseal", "/usr/local/bin/mailseal");
        world.write("/etc/mailname", b"host.sender.example\n", 0o644);
        world.write("/etc/aliases", format!("root: {TEAM}\nops: {ALICE}, {BOB}\n").as_bytes(), 0o644);
        let (ip, port) = (alerts.relay_at.ip(), alerts.relay_at.port());
        match sends {
            Sends::Nullmailer => {
                let remotes = format!("{ip} smtp --port={port}\n");
                world.write("/etc/nullmailer/remotes", remotes.as_bytes(), 0o644);
                world.write("/etc/nullmailer/pausetime", b"1\n", 0o644);
                let trigger = "/var/spool/nullmailer/trigger";
                world.shell(&format!("mkfifo -m 622 {trigger}; chmod 622 {trigger}; chown mail {trigger}"));
                let user = ["--reuid", "mail", "--regid", "mail", "--clear-groups"];
                world.start("setpriv", &[&user[..], &["nullmailer-send"]].concat());
            }
            Sends::Msmtp => {
                let account = format!(
                    "account default\nhost {ip}\nport {port}\nauto_from on\nmaildomain host.sender.example\n"
                );
                world.write("/etc/msmtprc", account.as_bytes(), 0o644);
            }
            Sends::Dma => {
                let settings = format!("SMARTHOST {ip}\nPORT {port}\nMAILNAME /etc/mailname\nNULLCLIENT\n");
                world.write("/etc/dma/dma.conf", settings.as_bytes(), 0o644);
            }
        }
        // As contrib/systemd/mailseal.tmpfiles has it.
        world.shell(&format!("install -d -m 1733 {HELD}"));
        world.shell(&format!("ln -sf {} /usr/sbin/sendmail", sends.program()));
        world.shell(&page("`mailseal` becomes `/usr/sbin/sendmail`"));
        let host = Self { world, sends };
        host.configure(alerts);
        host
    }

    /// Goes back to what there was, as the page has it; whose `sendmail` there is then.
    pub fn go_back(&self) -> String {
        self.world.shell(&page("To go back:"));
        self.world.shell("readlink /usr/sbin/sendmail").trim().to_owned()
    }

    /// Gives it the configuration that `alerts` has.
    pub fn configure(&self, alerts: &Alerts) {
        let config = fs::read(alerts.site.path("mailseal.toml")).unwrap();
        self.world.write("/etc/mailseal.toml", &config, 0o644);
    }

    /// Puts a shell script in the place of the program that sends.
    pub fn break_with(&self, script: &str) {
        self.world.shell("rm -f /usr/sbin/sendmail.real");
        self.world.write("/usr/sbin/sendmail.real", format!("#!/bin/sh\n{script}\n").as_bytes(), 0o755);
    }

    /// Puts the program that sends in its place.
    pub fn repair(&self) {
        self.world.shell(&format!("ln -sf {} /usr/sbin/sendmail.real", self.sends.program()));
    }

    /// A program of the host's, run with `input`.
    pub fn run(&self, program: &str, arguments: &[&str], input: &[u8]) -> Run {
        run(self.world.command(program).args(arguments), input, input.len().max(1))
    }

    /// sendmail(1), which must take the mail.
    #[track_caller]
    pub fn sendmail(&self, arguments: &[&str], mail: &str) {
        let run = self.run("/usr/sbin/sendmail", arguments, mail.as_bytes());
        assert_eq!(run.status, Some(0), "sendmail {arguments:?}: {}", run.stderr);
    }

    /// How many messages are held.
    pub fn held(&self) -> usize {
        let list = self.run("mailseal", &["sendmail", "--held", "--list", "--json"], b"");
        String::from_utf8_lossy(&list.stdout).matches("\"file\":").count()
    }

    /// Tries all again that is held or queued.
    pub fn try_again(&self) {
        self.run("mailseal", &["sendmail", "--held"], b"");
        match self.sends {
            Sends::Nullmailer => _ = self.world.shell("echo > /var/spool/nullmailer/trigger"),
            Sends::Dma => _ = self.world.shell("dma -q"),
            Sends::Msmtp => {}
        }
    }

    /// Starts cron.
    pub fn start_cron(&self) {
        self.world.start("cron", &["-f"]);
    }

    /// What is left of the canary of `alerts` in queues, where nothing is held any more.
    #[track_caller]
    pub fn assert_clean(&self, alerts: &Alerts) {
        let queues = ["/var/spool/nullmailer", "/var/spool/dma"].map(|queue| self.world.outside(queue));
        wait_until("the queues to be empty", || {
            let files = "find /var/spool/nullmailer/queue /var/spool/dma -type f ! -name flush | wc -l";
            self.world.shell(files).trim() == "0"
        });
        alerts.assert_nothing_leaked();
        for place in queues.into_iter().chain([self.world.outside(HELD)]) {
            let left = alerts.canary.files(&place);
            assert!(left.is_empty(), "{left:?}");
        }
    }

    /// A command of this host's with another user's rights.
    pub fn as_nobody(&self) -> Command {
        let mut command = self.world.command("setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]).stdin(Stdio::piped());
        command
    }
}
