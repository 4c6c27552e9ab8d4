//! Owners who do not want root's run to end, or to see what root knows: they hold locks, stop their processes, trace them, and
//! put links and FIFOs in the way. The others' mail is sealed all the same, and in time.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::strace::measured;
use testing::mailbox::{CERT, Ended, Mailbox, ended, plain_mails, program};
use testing::{fixtures, oracle, skip};

/// Whose mail it is in each test: owners of one see and stop nothing of another.
const SPY_OWNER: u32 = 6900;
const BACK: u32 = 6800;
const INTERRUPTED: u32 = 6700;
const HELD: u32 = 6000;
const MANY_HELD: u32 = 6200;

/// What root has in its environment.
const TOKEN: &str = "ROOT_TOKEN_7f3a9c";

#[test]
fn an_owner_reads_nothing_of_roots_and_cannot_trace_the_process() {
    spy(8);
}

#[test]
#[ignore = "a minute: 60 runs"]
fn an_owner_reads_nothing_of_roots_in_many_runs() {
    spy(60);
}

/// An owner polls whatever runs with the owner's uid: its environment, its descriptors, and whether it can be traced.
fn spy(runs: usize) {
    if !is_root() {
        return;
    }
    // The owner's own program: an owner's processes are looked at from outside root.
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        return skip::unless_ci("there is no /usr/bin/python3 to spy with");
    }
    let mut mailbox = Mailbox::new(&[]);
    for mail in plain_mails().iter().take(40) {
        mailbox.put("", "cur", ":2,S", &mail.bytes);
    }
    mailbox.give(SPY_OWNER);
    let found = mailbox.path("found");
    fs::write(&found, "").unwrap();
    chown(&found, Some(SPY_OWNER), Some(SPY_OWNER)).unwrap();
    let script = mailbox.path("spy.py");
    fs::write(&script, SPY).unwrap();
    let mut command = Command::new(python);
    command.arg(&script).arg(&found).uid(SPY_OWNER).gid(SPY_OWNER).process_group(0);
    let spy = Deed::Spy(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    for _ in 0..runs {
        let mut command = mailbox.command(&["--dry-run"]);
        command.env("TOKEN", TOKEN);
        let run = ended(command.spawn().unwrap());
        assert_eq!(run.status, Some(0), "{run:?}");
    }
    drop(spy);
    let text = fs::read_to_string(&found).unwrap();
    let count = |what: &str| text.lines().filter(|line| line.starts_with(what)).count();
    assert!(count("seen") >= runs / 2, "the spy has seen processes of its own: {text}");
    assert_eq!((count("environ"), count("attached"), count("memory")), (0, 0, 0), "{text}");
    measured(&format!("{runs} runs as root, watched by the owner: environment read 0, traced 0"));
}

/// Prints what it gets at of processes with its own uid that are called as ours, other than itself.
const SPY: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
out = open(sys.argv[1], "a", buffering=1)
me, seen = os.getpid(), set()
while True:
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == me:
            continue
        pid = int(name)
        try:
            with open(f"/proc/{pid}/status") as f: status = f.read()
        except OSError:
            continue
        ids = status.split("Uid:")[1].split("\n")[0].split()
        if str(os.getuid()) not in ids:
            continue
        if pid not in seen:
            seen.add(pid)
            print("seen", pid, file=out)
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                f.read()
            print("environ", pid, file=out)
        except OSError:
            pass
        try:
            open(f"/proc/{pid}/mem", "rb").close()
            print("memory", pid, file=out)
        except OSError:
            pass
        if libc.ptrace(0x4206, pid, 0, 0) == 0:
            print("attached", pid, file=out)
"#;

/// Mailboxes of several owners.
struct Site {
    dir: tempfile::TempDir,
    owners: Vec<(u32, PathBuf)>,
}

impl Site {
    fn new(first: u32, owners: u32, messages: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("owners-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let config = dir.path().join("mailseal.toml");
        fs::write(&config, "[log]\nto = \"none\"\n").unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
        let mut site = Self { dir, owners: Vec::new() };
        for number in 0..owners {
            let (uid, path) = (first + number, site.dir.path().join(format!("u{number}")));
            for place in ["cur", "new", "tmp"] {
                fs::create_dir_all(path.join(place)).unwrap();
            }
            for message in 0..messages {
                let text = format!("Subject: {message}\n\n{}\n", "The text of a message. ".repeat(40));
                fs::write(path.join(format!("cur/{}.M{message}P1.host:2,S", 1_700_000_000 + message)), text)
                    .unwrap();
            }
            give(&path, uid);
            site.owners.push((uid, path));
        }
        site
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = program();
        command.arg("--config").arg(self.dir.path().join("mailseal.toml"));
        command.arg("--key").arg(oracle::key(CERT)).args(options);
        command.args(self.owners.iter().map(|(_, path)| path));
        command
    }

    fn is_sealed(&self, number: usize) -> bool {
        let files: Vec<PathBuf> =
            fs::read_dir(self.owners[number].1.join("cur")).unwrap().map(|it| it.unwrap().path()).collect();
        !files.is_empty()
            && files
                .iter()
                .all(|path| fs::read(path).is_ok_and(|it| it.windows(10).any(|text| text == b"=_mailseal")))
    }
}

/// What an owner does to stay unsealed, until it is dropped.
enum Deed {
    /// Holds the lock between two runs.
    Flock(Child),
    /// Holds Dovecot's lock in the name of a process that lives.
    Dotlock,
    /// Stops every process with the owner's uid.
    Stopper(Child),
    /// Swaps a folder for a link and back.
    Swapper(Child),
    /// Looks into every process with the owner's uid.
    Spy(Child),
}

impl Deed {
    fn begin(kind: usize, uid: u32, path: &Path) -> Self {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh"]).arg(path).uid(uid).gid(uid).current_dir("/");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
            command.spawn().unwrap()
        };
        match kind {
            0 => Self::Flock(shell("exec flock \"$1\" sleep 600")),
            1 => {
                let lock = path.join("dovecot-uidlist.lock");
                let host = nix::unistd::gethostname().unwrap();
                fs::write(&lock, format!("1:{}", host.to_string_lossy())).unwrap();
                chown(&lock, Some(uid), Some(uid)).unwrap();
                Self::Dotlock
            }
            2 => Self::Stopper(shell(
                "while :; do for p in $(pgrep -u $(id -u) encrypt-maildir; pgrep -u $(id -u) exe); do kill -STOP $p; done; sleep 0.01; done",
            )),
            _ => Self::Swapper(shell(
                "cd \"$1\" || exit; while :; do mv cur away && ln -s /etc cur; rm -f cur; mv away cur; sleep 0.01; done",
            )),
        }
    }
}

impl Drop for Deed {
    fn drop(&mut self) {
        if let Self::Flock(child) | Self::Stopper(child) | Self::Swapper(child) | Self::Spy(child) = self {
            let group = Pid::from_raw(child.id().cast_signed());
            let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

#[test]
fn one_owner_holds_back_no_other() {
    hold_back(HELD, 10, 4, 5);
}

#[test]
#[ignore = "a minute: 50 owners of whom 5 do what they can"]
fn five_of_fifty_owners_hold_back_no_other() {
    hold_back(MANY_HELD, 50, 5, 100);
}

fn hold_back(first: u32, owners: u32, hostile: usize, messages: usize) {
    if !is_root() {
        return;
    }
    if find("flock").is_none() || find("pgrep").is_none() {
        return skip::unless_ci("there is no flock or pgrep");
    }
    let undisturbed = {
        let site = Site::new(first, owners, messages);
        let begin = Instant::now();
        let run = ended(site.command(&[]).spawn().unwrap());
        assert_eq!(run.status, Some(0), "{run:?}");
        assert!((0..site.owners.len()).all(|number| site.is_sealed(number)));
        begin.elapsed()
    };
    let site = Site::new(first, owners, messages);
    // The hostile ones come first: each of them has its turn before the others.
    let deeds: Vec<Deed> = (0..hostile)
        .map(|number| Deed::begin(number % 4, site.owners[number].0, &site.owners[number].1))
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    let child = site.command(&["--patience", "5"]).spawn().unwrap();
    let honest = hostile..site.owners.len();
    // Each hostile one costs a turn for a quarter of a second, which shows in a short run.
    let limit = undisturbed.mul_f64(1.5) + Duration::from_secs(2);
    let sealed = loop {
        if honest.clone().all(|number| site.is_sealed(number)) {
            break begin.elapsed();
        }
        assert!(begin.elapsed() < limit.max(Duration::from_secs(60)), "the honest ones are not sealed");
        std::thread::sleep(Duration::from_millis(20));
    };
    let run = ended(child);
    let all = begin.elapsed();
    drop(deeds);
    // 64 where a folder was away just when it was looked at.
    assert!(matches!(run.status, Some(1 | 64 | 75)), "{run:?}");
    assert!(run.stderr.contains("no progress for 5 s"), "{run:?}");
    assert!(all < Duration::from_secs(60), "the run takes {all:?}");
    measured(&format!(
        "{owners} owners of whom {hostile} hold locks, stop their process or swap folders: the others sealed in {sealed:.1?}, \
         undisturbed {undisturbed:.1?}; the run's end after {all:.1?}"
    ));
    assert!(sealed < limit, "{sealed:?} of {limit:?}");
    // What was left is put in order by the next run.
    for (_, path) in &site.owners {
        let _ = fs::remove_file(path.join("dovecot-uidlist.lock"));
        if path.join("away").exists() {
            let _ = fs::remove_file(path.join("cur"));
            fs::rename(path.join("away"), path.join("cur")).unwrap();
        }
    }
    let run = ended(site.command(&[]).spawn().unwrap());
    assert_eq!(run.status, Some(0), "{run:?}");
    assert!((0..site.owners.len()).all(|number| site.is_sealed(number)));
}

#[test]
fn an_interrupted_run_ends_within_two_seconds() {
    if !is_root() {
        return;
    }
    if find("flock").is_none() || find("pgrep").is_none() {
        return skip::unless_ci("there is no flock or pgrep");
    }
    for kind in 0..3 {
        // So many that whoever wants to stop it finds it at work.
        let site = Site::new(INTERRUPTED, 2, 2000);
        let deed = Deed::begin(kind, site.owners[0].0, &site.owners[0].1);
        std::thread::sleep(Duration::from_millis(300));
        let child = site.command(&[]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        let begin = Instant::now();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        let run = ended(child);
        let time = begin.elapsed();
        drop(deed);
        assert_eq!(run.status, Some(75), "{kind}: {run:?}");
        assert!(time < Duration::from_secs(2), "{kind}: {time:?}");
    }
    // One's own mailbox, which another run holds.
    let mailbox = Mailbox::small(3);
    let mut lock = Command::new("flock").arg(mailbox.path("")).args(["sleep", "60"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let child = mailbox.command(&[]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let begin = Instant::now();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let run = ended(child);
    let time = begin.elapsed();
    let _ = lock.kill();
    let _ = lock.wait();
    assert_eq!(run.status, Some(75), "{run:?}");
    assert!(time < Duration::from_secs(2), "{time:?}");
}

/// Another's mailbox is decrypted, sealed anew and looked at with the owner's rights alone.
#[test]
fn root_goes_back_as_the_owner() {
    if !is_root() {
        return;
    }
    let mut mailbox = Mailbox::new(&[".Sent"]);
    for mail in plain_mails().iter().take(4) {
        mailbox.put(".Sent", "cur", ":2,S", &mail.bytes);
    }
    mailbox.give(BACK);
    mailbox.seal();
    let secret = fixtures::secret(CERT);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "root's own\n").unwrap();
    fs::set_permissions(outside.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    // What is root's behind a link, and what never ends.
    symlink(outside.path().join("secret"), mailbox.path("dovecot-keywords")).unwrap();
    nix::unistd::mkfifo(&mailbox.path("subscriptions"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    chown(mailbox.path("subscriptions"), Some(BACK), Some(BACK)).unwrap();
    fs::write(mailbox.path(".Sent/dovecot-keywords"), "0 kw\n").unwrap();

    let audit =
        mailseal(&["audit", "--json", "--key", oracle::key(CERT).to_str().unwrap()], &mailbox.path(""));
    assert_eq!(audit.status, Some(0), "{audit:?}");
    assert!(audit.stdout.contains("\"sealed\": 4"), "{audit:?}");

    let target = outside.path().join("clear");
    let into = ["decrypt", "--secret-key", secret.to_str().unwrap(), "--into", target.to_str().unwrap()];
    let run = mailseal(&into, &mailbox.path(""));
    assert_eq!(run.status, Some(0), "{run:?}");
    assert!(!target.join("dovecot-keywords").exists(), "what a link leads to was copied");
    assert_eq!(fs::read_to_string(target.join(".Sent/dovecot-keywords")).unwrap(), "0 kw\n");
    let clear: Vec<PathBuf> =
        fs::read_dir(target.join(".Sent/cur")).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(clear.len(), 4);
    for path in clear {
        let (bytes, uid) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().uid());
        assert_eq!(uid, BACK, "{}", path.display());
        assert!(plain_mails().iter().any(|mail| mail.bytes == bytes), "{}", path.display());
    }

    // One file, and a link in the place of one.
    let file = fs::read_dir(mailbox.path(".Sent/cur")).unwrap().next().unwrap().unwrap().path();
    let run = mailseal(&["decrypt", "--secret-key", secret.to_str().unwrap()], &file);
    assert_eq!(run.status, Some(0), "{run:?}");
    assert!(plain_mails().iter().any(|mail| mail.bytes == run.stdout.as_bytes()), "{run:?}");
    let link = mailbox.path("link");
    symlink(outside.path().join("secret"), &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(BACK), Some(BACK)).unwrap();
    let fifo = mailbox.path("subscriptions");
    for path in [&link, &fifo] {
        let run = mailseal(&["decrypt", "--secret-key", secret.to_str().unwrap()], path);
        assert!(run.status != Some(0) && !run.stdout.contains("root's own"), "{run:?}");
    }

    let other = oracle::key("rsa3072");
    let to_other = ["reseal", "--secret-key", secret.to_str().unwrap(), "--key", other.to_str().unwrap()];
    let run = mailseal(&to_other, &mailbox.path(""));
    assert_eq!(run.status, Some(0), "{run:?}");
    let again = ["decrypt", "--secret-key", fixtures::secret("rsa3072").to_str().unwrap()].map(str::to_owned);
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let run = mailseal(&again, &mailbox.path(""));
    assert_eq!(run.status, Some(0), "{run:?}");
    for known in &mailbox.known {
        let stored = fs::read(&mailbox.files_of(known)[0]).unwrap();
        assert!(plain_mails().iter().any(|mail| mail.bytes == stored), "decrypted in place");
        assert_eq!(fs::metadata(&mailbox.files_of(known)[0]).unwrap().uid(), BACK);
    }
}

fn mailseal(arguments: &[&str], path: &Path) -> Ended {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "60"]).arg(testing::program("mailseal")).args(arguments).arg(path);
    ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip::unless_ci("only root works for others");
    }
    root
}

fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.exists())
}

fn give(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), uid));
    }
}
