//! A canary in every mail, which goes through every program: it is found in no log, no argument or environment, no
//! temporary file, no core dump, and not in what Dovecot keeps.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::record::files_below;
use crate::strace::measured;
use testing::admin::Admin;
use testing::dovecot::flavour::Flavour;
use testing::dovecot::server::{Setup, wait_until};
use testing::dovecot::users::ALICE;
use testing::filter::{self, Run};
use testing::jobs;
use testing::mailbox::CERT;
use testing::{fixtures, oracle, skip};

const CANARY: &str = "canary-7c1f0e";
const MAILS: usize = 60;
const MANY_MAILS: usize = 10_000;

#[test]
fn a_canary_in_every_mail_is_found_nowhere() {
    hunt(MAILS);
}

#[test]
#[ignore = "minutes: MAILSEAL_MAILS=N says how many mails"]
fn a_canary_in_many_mails_is_found_nowhere() {
    let mails = std::env::var("MAILSEAL_MAILS").ok().and_then(|text| text.parse().ok());
    hunt(mails.unwrap_or(MANY_MAILS));
}

fn hunt(mails: usize) {
    let site = Site::new();
    let numbers: Vec<usize> = (0..mails).collect();
    jobs::all(&numbers, |number| format!("mail {number}"), |number| site.deliver(*number));
    let rewritten = site.rewrite(mails);
    site.report();
    let looked = site.search();
    measured(&format!(
        "{mails} mails with a canary through mailseal-filter, deliver, encrypt-maildir, audit, reseal, decrypt, report \
         and keys test: 0 hits in what they said ({rewritten} bytes for the last six) and in {looked} files that they left"
    ));
}

/// A mail of up to 200 kB, most of them small, with the canary at both ends of its text and in an attachment's name.
fn mail_of(number: usize) -> Vec<u8> {
    let line = format!("{CANARY} {number} and what makes this a line of common length.\n");
    let lines = [1, 3, 10, 30, 100, 3000][number % 6];
    format!(
        "From: a@example.net\nTo: b@example.org\nSubject: number {number}\nMessage-ID: <{number}@example.net>\n\
         Content-Type: text/plain; name=\"{CANARY}\"\n\n{}",
        line.repeat(lines)
    )
    .into_bytes()
}

/// A folder with everything that a program could write to: working folder, temporary folder, log, Maildir.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["work", "tmp", "md/cur", "md/new", "md/tmp", "delivered"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let site = Self { dir };
        let config = format!("[log]\nto = \"file:{}\"\n", site.path("log").display());
        fs::write(site.path("mailseal.toml"), config).unwrap();
        // What an agent is given: its arguments, its environment, its input.
        let agent = "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$1.told\"\nenv >>\"$1.told\"\ncat >\"$1\"\n";
        fs::write(site.path("agent"), agent).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program, where it may write a core dump of any size into its working folder.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]).arg(program);
        command.current_dir(self.path("work")).env("TMPDIR", self.path("tmp")).env("PATH", "/usr/bin:/bin");
        command
    }

    fn filter(&self) -> Command {
        let mut command = self.command(testing::program("mailseal-filter"));
        command.arg("--config").arg(self.path("mailseal.toml")).arg("--key").arg(oracle::key(CERT));
        command
    }

    fn admin(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(testing::program("mailseal"));
        command.arg("--config").arg(self.path("mailseal.toml")).args(arguments);
        command
    }

    fn delivering(&self, number: usize) -> Command {
        let mut command = self.admin(&["deliver", "--key"]);
        command.arg(oracle::key(CERT)).args(["--", "sh"]).arg(self.path("agent"));
        command.arg(self.path("delivered").join(number.to_string()));
        command
    }

    fn sealing(&self) -> Command {
        let mut command = self.command(testing::program("encrypt-maildir"));
        command.arg("--config").arg(self.path("mailseal.toml")).arg("--key").arg(oracle::key(CERT));
        command.args(["--progress", "never"]).arg(self.path("md"));
        command
    }

    /// Through the filter and through `deliver`.
    fn deliver(&self, number: usize) -> Result<(), String> {
        let mail = mail_of(number);
        for command in [&mut self.filter(), &mut self.delivering(number)] {
            let run = filter::run(command, &mail, 4096);
            silent(&run, Some(0))?;
        }
        Ok(())
    }

    /// Through the programs that work on Maildirs; how much they said.
    fn rewrite(&self, mails: usize) -> usize {
        for number in 0..mails {
            let name = format!("{}.M{number}P7.host:2,S", 1_700_000_000 + number);
            fs::write(self.path("md/cur").join(name), mail_of(number)).unwrap();
        }
        let (md, into) = (self.path("md"), self.path("opened"));
        let (md, into) = (md.to_str().unwrap(), into.to_str().unwrap());
        let (secret, other, other_secret) =
            (fixtures::secret(CERT), fixtures::cert("rsa3072"), fixtures::secret("rsa3072"));
        let [secret, other, other_secret] =
            [&secret, &other, &other_secret].map(|path| path.to_str().unwrap());
        let steps = [
            // In clear: all are named.
            (self.admin(&["audit", "--list", md]), 1),
            (self.sealing(), 0),
            (self.admin(&["audit", "--list", "--json", md]), 0),
            (self.admin(&["reseal", "--secret-key", secret, "--key", other, md]), 0),
            (self.admin(&["decrypt", "--secret-key", other_secret, "--into", into, md]), 0),
        ];
        let mut said = 0;
        for (mut command, status) in steps {
            let run = filter::run(&mut command, b"", 1);
            silent(&run, Some(status)).unwrap_or_else(|why| panic!("{command:?}: {why}"));
            said += run.stdout.len() + run.stderr.len();
        }
        let opened = files_below(Path::new(into));
        let clear = opened.iter().filter(|path| has_canary(&fs::read(path).unwrap())).count();
        assert_eq!(clear, mails, "what is opened is found: the search can find");
        fs::remove_dir_all(into).unwrap();
        said
    }

    fn report(&self) {
        let log = self.path("log");
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains("sealed"), "{text}");
        silent(&filter::run(&mut self.admin(&["report", log.to_str().unwrap()]), b"", 1), Some(0)).unwrap();
        let admin = Admin::new();
        admin.run(&["add", "alice", fixtures::cert(CERT).to_str().unwrap()]).said();
        silent(&admin.run(&["test", "alice"]), Some(0)).unwrap();
    }

    /// Looks into every file; how many there are.
    fn search(&self) -> usize {
        assert_eq!(files_below(&self.path("tmp")), [""; 0].map(PathBuf::from), "temporary files are left");
        assert_eq!(
            files_below(&self.path("work")),
            [""; 0].map(PathBuf::from),
            "files are left where it ran"
        );
        let files = files_below(self.dir.path());
        let found: Vec<_> = files.iter().filter(|path| has_canary(&fs::read(path).unwrap())).collect();
        assert!(found.is_empty(), "{found:?}");
        files.len()
    }
}

fn silent(run: &Run, status: Option<i32>) -> Result<(), String> {
    if run.status != status {
        return Err(format!("{:?}: {}", run.status, run.stderr));
    }
    if run.stderr.contains(CANARY) || has_canary(&run.stdout) {
        return Err(format!("it says the canary: {}", run.stderr));
    }
    Ok(())
}

fn has_canary(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, CANARY.as_bytes()).is_some()
}

/// In the middle of a message: what the process and its open files show, and the core dump that it does not leave.
#[test]
fn amid_a_message_nothing_shows_and_no_core_is_dumped() {
    if !nix::unistd::geteuid().is_root() {
        return skip::unless_ci("only root can look into a process that cannot be dumped");
    }
    let site = Site::new();
    let mail = mail_of(5);
    // What a program without precautions leaves: else the test could find nothing.
    let dumped = |status: ExitStatus| status.core_dumped();
    let (status, _) = cut_off(site.command("/bin/cat"), &mail, Signal::SIGABRT);
    let can_dump = dumped(status);
    if !can_dump {
        skip::say("this machine dumps no cores: only the limits are looked at");
    }
    files_below(&site.path("work")).into_iter().for_each(|core| fs::remove_file(core).unwrap());
    let run = filter::run(site.filter().args(["--compression", "none"]), &mail, mail.len());
    let (sealed, secret) = (run.stdout, fixtures::secret(CERT));
    let opening = || site.admin(&["decrypt", "--secret-key", secret.to_str().unwrap()]);
    for signal in [Signal::SIGABRT, Signal::SIGSEGV] {
        for (name, command, input) in [
            ("mailseal-filter", site.filter(), &mail),
            ("deliver", site.delivering(0), &mail),
            ("decrypt", opening(), &sealed),
        ] {
            let (status, shown) = cut_off(command, input, signal);
            assert_eq!(status.signal(), Some(signal as i32), "{name}: {status:?}");
            assert!(!dumped(status), "{name}: a core was dumped");
            assert!(!has_canary(&shown), "{name}: {}", String::from_utf8_lossy(&shown));
        }
    }
    // Programs that work on Maildirs, once a message is open.
    for number in 0..400 {
        let name = format!("{}.M{number}P7.host:2,S", 1_700_000_000 + number);
        fs::write(site.path("md/cur").join(name), mail_of(5)).unwrap();
    }
    let md = site.path("md");
    for (name, command) in [
        ("audit", &(|| site.admin(&["audit", md.to_str().unwrap()])) as &dyn Fn() -> Command),
        ("encrypt-maildir", &(|| site.sealing())),
    ] {
        let mut child = amid(command, &md.join("cur"));
        assert_eq!(core_limit(&child).as_deref(), Some("0"), "{name}: the limit of core dumps");
        let status = end(&mut child, Signal::SIGABRT);
        assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{name}: {status:?}");
        assert!(!dumped(status), "{name}: a core was dumped");
    }
    let left = files_below(&site.path("work"));
    assert!(left.is_empty(), "{left:?}");
}

/// A program stopped while it has a message open, which it has for a moment only: it may take some to meet it.
fn amid(command: &dyn Fn() -> Command, messages: &Path) -> Child {
    for _ in 0..50 {
        let mut command = command();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if open_files(child.id()).any(|path| path.starts_with(messages)) {
                kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGSTOP).unwrap();
                // It may have ended meanwhile.
                if core_limit(&child).is_some() {
                    return child;
                }
            }
        }
    }
    panic!("no program was met with a message open");
}

/// Gives a program half of its input, looks at it, and ends it with a signal: how it ended, and what was seen of its
/// arguments, its environment and the open files that have no name any more.
fn cut_off(mut command: Command, input: &[u8], signal: Signal) -> (ExitStatus, Vec<u8>) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
    stdin.write_all(&input[..input.len() / 2]).unwrap();
    stdin.flush().unwrap();
    // More than a pipe holds: it has read some, and soon waits for the rest.
    assert!(input.len() > 150_000, "{} bytes", input.len());
    std::thread::sleep(Duration::from_millis(60));
    let mut shown = Vec::new();
    for name in ["cmdline", "environ"] {
        let _ =
            fs::File::open(format!("/proc/{}/{name}", child.id())).map(|mut it| it.read_to_end(&mut shown));
    }
    for path in fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten() {
        if fs::metadata(path.path()).is_ok_and(|metadata| metadata.is_file()) {
            shown.extend(fs::read(path.path()).unwrap_or_default());
        }
    }
    let status = end(&mut child, signal);
    drop(stdin);
    let _ = reader.join();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    shown.extend(said.into_bytes());
    (status, shown)
}

/// Ends it with a signal. The first SIGSEGV that comes from elsewhere only takes away the handler that Rust has for it.
fn end(child: &mut Child, signal: Signal) -> ExitStatus {
    let mut status = None;
    wait_until("the signal to end it", || {
        status = child.try_wait().unwrap();
        if status.is_none() {
            kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGCONT).unwrap();
        }
        status.is_some()
    });
    status.unwrap()
}

fn open_files(process: u32) -> impl Iterator<Item = PathBuf> {
    let links = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    links.filter_map(|link| fs::read_link(link.path()).ok())
}

/// The limit of core dumps, as the kernel names it.
fn core_limit(child: &Child) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{}/limits", child.id())).ok()?;
    let line = text.lines().find(|line| line.starts_with("Max core file size"))?;
    line.split_whitespace().nth(4).map(Into::into)
}

/// What Dovecot keeps of clear mail, previews among it, is gone after a bulk run.
#[test]
fn dovecot_keeps_no_canary_after_a_bulk_run() {
    let Some(setup) = Setup::with(Flavour::V2_3, "mailseal.sieve") else { return };
    let server = setup.without_our_script().start();
    let mut imap = server.imap(ALICE);
    for number in 0..MAILS {
        imap.append("INBOX", "\\Seen", &mail_of(number)).unwrap();
    }
    imap.command("SELECT INBOX").unwrap();
    imap.command("FETCH 1:* (ENVELOPE BODYSTRUCTURE PREVIEW RFC822.SIZE)").unwrap();
    imap.command("LOGOUT").unwrap();
    drop(imap);
    let before = server.files_with(CANARY);
    assert!(before.iter().any(|path| path.ends_with("dovecot.index.cache")), "{before:?}");
    let mut command = Command::new(testing::program("encrypt-maildir"));
    command.args(["--progress", "never", "--user", ALICE, "--key"]).arg(oracle::key(CERT));
    command.arg("--config").arg(server.path("mailseal.toml"));
    command.arg("--dovecot-config").arg(server.path("dovecot.conf"));
    silent(&filter::run(command.arg(server.home(ALICE).join("Maildir")), b"", 1), Some(0)).unwrap();
    let left = server.files_with(CANARY);
    assert!(left.is_empty(), "{left:?}");
    measured(&format!(
        "{MAILS} mails that Dovecot had cached: {} files held a canary before the bulk run, 0 after",
        before.len()
    ));
}
