//! Owners who turn on what root does beside sealing: the round trip of `doctor`, what Dovecot is asked for, single files.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use testing::dovecot::flavour::Flavour;
use testing::dovecot::gpg::ALICE_KEY;
use testing::dovecot::server::{Server, Setup};
use testing::dovecot::site::Program;
use testing::dovecot::users::ALICE;
use testing::mailbox::{CERT, Ended, ended};
use testing::{fixtures, oracle, skip};

/// Whose mail it is in each test: owners of one see and stop nothing of another.
const ASKED: u32 = 7000;
const FORGOTTEN: u32 = 7100;
const SHOWN: u32 = 7200;
const LOCKED: u32 = 7300;
const NAMED: u32 = 7400;
const LOCKED_BACK: u32 = 7700;
const FOLLOWED: u32 = 7500;
const SCANNED: u32 = 7600;

/// A program of an owner's, until it is dropped.
struct Attack(Child);

impl Attack {
    /// A shell's, with the rights of `uid`.
    fn begin(uid: u32, script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]).uid(uid).gid(uid).current_dir("/").process_group(0);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        skip::unless_ci(&format!("there is no {program}"));
    }
    found
}

fn doctors_server() -> Option<Server> {
    let server = Setup::with(Flavour::V2_3, "mailseal.sieve")?.start();
    server.enrol(ALICE, &ALICE_KEY.certificate);
    server.write_home(ALICE, ".keep", b"");
    Some(server)
}

fn doctor(server: &Server, before: &[&str]) -> Ended {
    let mailseal = testing::program("mailseal");
    let words = [before, &[mailseal.to_str().unwrap(), "doctor", "--user", ALICE]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("--dovecot-config").arg(server.path("dovecot.conf"));
    ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// From the moment in which the folder of a round trip is a user's, the user can put a link to a file of root's into it.
#[test]
fn roots_own_process_has_no_part_in_a_round_trip() {
    let Some(server) = doctors_server() else { return };
    if !has("strace") {
        return;
    }
    let log = server.path("strace.log");
    let trace = [
        "strace",
        "-qq",
        "-s",
        "256",
        "-e",
        "trace=%file,fchown",
        "-e",
        "signal=none",
        "-o",
        log.to_str().unwrap(),
    ];
    let run = doctor(&server, &trace);
    assert!(run.stdout.contains(&format!("ok       round trip: a message for {ALICE} is sealed")), "{run:?}");
    let calls = fs::read_to_string(&log).unwrap();
    assert!(calls.contains("auth-userdb") || calls.contains("mailseal.toml"), "{calls}");
    let given: Vec<&str> = calls.lines().filter(|call| call.contains("chown")).collect();
    assert!(given.is_empty(), "{given:#?}");
    let mail =
        |call: &&str| call.contains("own.sieve") || call.contains("/mail\"") || call.contains("/Maildir");
    let touched: Vec<&str> = calls.lines().filter(mail).filter(|call| !call.contains("/home/")).collect();
    assert!(touched.is_empty(), "{touched:#?}");
}

/// A filter that stops the program that runs it, or the process that runs that, stands for the user, who has their uid.
#[test]
fn no_user_stops_a_round_trip_for_ever() {
    let Some(server) = doctors_server() else { return };
    for held in ["$PPID", "$(cut -d ' ' -f 4 /proc/$PPID/stat)"] {
        // Root asks it for its version.
        server.install(Program::Script(&format!("[ \"$1\" = --version ] || kill -STOP {held}\ncat")));
        let run = doctor(&server, &["timeout", "-s", "KILL", "120"]);
        let failed = format!("FAILURE  round trip: {ALICE}: ");
        assert!(run.status == Some(1) && run.stdout.contains(&failed), "{held}: {run:?}");
        assert!(!run.stdout.contains("stored in clear"), "{held}: {run:?}");
    }
}

/// Maildirs `u0`, `u1`... of owners of their own, and a `doveadm` that a user of the name `u0` stops.
struct Site {
    dir: tempfile::TempDir,
    owners: Vec<u32>,
}

impl Site {
    /// Owners from `first` on; `doveadm` says what the shell script does.
    fn new(first: u32, owners: u32, doveadm: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("turned-").tempdir().unwrap();
        let site = Self { dir, owners: (first..first + owners).collect() };
        fs::set_permissions(site.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!("#!/bin/sh\n[ \"$1\" = config ] && exec echo '# 2.3.19.1 (x): y'\n{doveadm}\n");
        site.write("bin/doveadm", &text, 0o755);
        site.write("mailseal.toml", "[log]\nto = \"none\"\n", 0o644);
        for (number, owner) in site.owners.iter().enumerate() {
            for place in ["cur", "new", "tmp"] {
                fs::create_dir_all(site.path(&format!("mail/u{number}/{place}"))).unwrap();
            }
            site.write(&format!("mail/u{number}/{MAIL}"), "Subject: x\n\nA text.\n", 0o600);
            give(&site.path(&format!("mail/u{number}")), *owner);
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = testing::mailbox::program();
        let path = std::env::var_os("PATH").unwrap();
        let path = [self.path("bin")].into_iter().chain(std::env::split_paths(&path));
        command
            .env("PATH", std::env::join_paths(path).unwrap())
            .arg("--config")
            .arg(self.path("mailseal.toml"));
        command.arg("--key").arg(oracle::key(CERT)).args(options);
        command
    }

    fn seal(&self, options: &[&str]) -> Ended {
        ended(self.command(options).arg(self.path("mail/%{user}")).spawn().unwrap())
    }

    fn is_sealed(&self, number: usize) -> bool {
        let mut files =
            fs::read_dir(self.path(&format!("mail/u{number}/cur"))).unwrap().map(|it| it.unwrap().path());
        files.any(|path| fs::read(path).unwrap().windows(10).any(|text| text == b"=_mailseal"))
    }
}

const MAIL: &str = "cur/1700000000.M1P1.host:2,S";

fn give(path: &Path, uid: u32) {
    lchown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), uid));
    }
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip::unless_ci("only root works for others");
    }
    root
}

/// `doveadm` works with the rights of the user whom it is about, who can stop it then.
#[test]
fn who_stops_doveadm_is_named_and_the_others_are_sealed() {
    if !is_root() {
        return;
    }
    let stopped = "case \"$*\" in *'mailbox path -u u0 '*) kill -STOP $$ ;; esac; exit 1";
    let site = Site::new(ASKED, 6, stopped);
    let begin = Instant::now();
    let run = site.seal(&["--patience", "3", "--jobs", "1"]);
    assert!(begin.elapsed() < Duration::from_secs(30), "{run:?}");
    assert!(!site.is_sealed(0) && (1..6).all(|number| site.is_sealed(number)), "{run:?}");
    let named = run.stderr.lines().any(|line| line.contains("u0") && line.contains("did not end within 3 s"));
    assert!(named && run.status == Some(75), "{run:?}");

    let child = site.command(&[]).arg(site.path("mail/%{user}")).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    let begin = Instant::now();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let run = ended(child);
    assert!(run.status == Some(75) && begin.elapsed() < Duration::from_secs(2), "{run:?}");
}

#[test]
fn who_stops_doveadm_after_the_sealing_is_named_and_delays_nobody() {
    if !is_root() {
        return;
    }
    // All that it is asked for is noted, but for the first user's quota.
    let script = "case \"$*\" in *'quota recalc -u u0') kill -STOP $$ ;; esac; echo \"$*\" >> ${0%/bin/*}/asked\n\
        [ \"$1 $2\" = 'mailbox path' ] && echo ${0%/bin/*}/mail/$4; exit 0";
    let site = Site::new(FORGOTTEN, 6, script);
    let begin = Instant::now();
    let run = site.seal(&["--patience", "3", "--jobs", "1"]);
    assert!(begin.elapsed() < Duration::from_secs(30), "{run:?}");
    assert!(run.status == Some(0) && (0..6).all(|number| site.is_sealed(number)), "{run:?}");
    let left = run.stdout.split_once("may still hold clear text").expect("what is left").1;
    assert!(left.contains("u0: ") && !left.contains("u1"), "{run:?}");
    let asked = fs::read_to_string(site.path("asked")).unwrap();
    assert!((1..6).all(|number| asked.contains(&format!("quota recalc -u u{number}"))), "{asked}");
}

#[test]
fn nothing_of_roots_in_a_folder_of_an_owners_is_shown() {
    if !is_root() {
        return;
    }
    let site = Site::new(SHOWN, 1, "exit 1");
    let text = "Subject: root's own\n\nA text.\n";
    let decrypt = |name: &str| {
        let mut command = Command::new("timeout");
        command
            .args(["-s", "KILL", "30"])
            .arg(testing::program("mailseal"))
            .args(["decrypt", "--secret-key"]);
        command.arg(fixtures::secret(CERT)).arg(site.path(name));
        ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    // What root reads there by its path, the owner can put anything of root's in the place of.
    site.write("mail/u0/roots", text, 0o600);
    site.write("mail/u0/folder/roots", text, 0o600);
    symlink("u0/roots", site.path("mail/theirs")).unwrap();
    for name in ["mail/u0/roots", "mail/u0/folder/roots", "mail/theirs"] {
        let run = decrypt(name);
        assert!(run.status == Some(75) && run.stdout.is_empty(), "{name}: {run:?}");
        assert!(run.stderr.contains("denied") && run.stderr.lines().count() == 2, "{name}: {run:?}");
    }
    // Where all is root's, a link is root's, too.
    site.write("roots/own", text, 0o600);
    symlink("../roots/own", site.path("mail/link")).unwrap();
    for name in ["roots/own", "mail/link"] {
        let run = decrypt(name);
        assert!(run.status == Some(0) && run.stdout == text, "{name}: {run:?}");
    }
    // A folder where everybody can put a link.
    fs::set_permissions(site.path("roots"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink("own", site.path("roots/link")).unwrap();
    lchown(site.path("roots/link"), Some(SHOWN), Some(SHOWN)).unwrap();
    nix::unistd::mkfifo(&site.path("roots/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["roots/link", "roots/fifo"] {
        let run = decrypt(name);
        assert!(run.status == Some(75) && run.stdout.is_empty(), "{name}: {run:?}");
        assert!(run.stderr.contains("not a regular file"), "{name}: {run:?}");
    }
}

/// Anybody who can open a folder can lock it.
#[test]
fn who_locks_a_maildir_of_roots_is_not_waited_for_without_end() {
    if !is_root() || !has("flock") {
        return;
    }
    let site = Site::new(LOCKED, 4, "exit 1");
    let roots = site.path("mail/u0");
    give(&roots, 0);
    fs::set_permissions(&roots, fs::Permissions::from_mode(0o755)).unwrap();
    let attack = Attack::begin(LOCKED, &format!("exec flock '{}' sleep 60", roots.display()));
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    let run = site.seal(&["--patience", "3", "--jobs", "1"]);
    assert!(begin.elapsed() < Duration::from_secs(30), "{run:?}");
    drop(attack);
    assert!(!site.is_sealed(0) && (1..4).all(|number| site.is_sealed(number)), "{run:?}");
    let named = run.stderr.lines().any(|line| line.contains("mail/u0") && line.contains("held by another"));
    assert!(named && run.status == Some(75), "{run:?}");
}

#[test]
#[ignore = "half a minute: locks are waited for"]
fn who_locks_a_maildir_of_roots_does_not_stop_the_way_back() {
    if !is_root() || !has("flock") {
        return;
    }
    let site = Site::new(LOCKED_BACK, 3, "exit 1");
    let roots = site.path("mail/u0");
    give(&roots, 0);
    fs::set_permissions(&roots, fs::Permissions::from_mode(0o755)).unwrap();
    let run = site.seal(&[]);
    assert!((0..3).all(|number| site.is_sealed(number)), "{run:?}");
    let attack = Attack::begin(LOCKED_BACK, &format!("exec flock '{}' sleep 120", roots.display()));
    std::thread::sleep(Duration::from_millis(300));
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "90"]).arg(testing::program("mailseal")).args(["decrypt", "--secret-key"]);
    command.arg(fixtures::secret(CERT)).args((0..3).map(|number| site.path(&format!("mail/u{number}"))));
    let run =
        ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    drop(attack);
    assert!(site.is_sealed(0) && !site.is_sealed(1) && !site.is_sealed(2), "{run:?}");
    assert!(run.status == Some(75) && run.stderr.contains("held by another"), "{run:?}");
}

#[test]
fn what_is_for_scripts_does_nothing_to_a_terminal() {
    if !is_root() {
        return;
    }
    let site = Site::new(NAMED, 1, "exit 1");
    for place in ["cur", "new", "tmp"] {
        fs::create_dir_all(site.path(&format!("mail/u0/.x\u{9b}31m/{place}"))).unwrap();
    }
    give(&site.path("mail/u0"), NAMED);
    let run = site.seal(&["--json", "--dry-run"]);
    assert!(run.status == Some(0) && run.stdout.contains(".x\\u009b31m"), "{run:?}");
    assert!(!run.stdout.contains('\u{9b}'), "{run:?}");
}

impl Site {
    /// `mailseal keys ARGUMENTS`, with certificates in `keys` and in the users' homes, which are `mail/u0`...
    fn keys(&self, arguments: &[&str]) -> Child {
        let sources = |folder: &str| format!("sources = [{folder}\"file:%{{home}}/mailseal.pgp\"]");
        let folder = if arguments[0] == "scan" || !arguments.contains(&"u0") {
            format!("\"file:{}/%{{user}}.pgp\", ", self.path("keys").display())
        } else {
            String::new()
        };
        fs::create_dir_all(self.path("keys")).unwrap();
        let known = self.path("known");
        let text = format!("[keys]\nknown = \"{}\"\n{}\n", known.display(), sources(&folder));
        let config = format!("{}.toml", arguments[0]);
        self.write(&config, &text, 0o644);
        let path = std::env::var_os("PATH").unwrap();
        let path = [self.path("bin")].into_iter().chain(std::env::split_paths(&path));
        let mut command = Command::new(testing::program("mailseal"));
        command.env("PATH", std::env::join_paths(path).unwrap());
        command.arg("--config").arg(self.path(&config)).arg("keys").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn certificate(&self) -> String {
        oracle::key(CERT).to_str().unwrap().to_owned()
    }
}

/// The processes that root has started with the rights of `uid`.
fn processes_of(uid: u32) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_theirs = |pid: &i32| {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        read("cmdline").contains("--as-owner") && read("status").contains(&format!("\nUid:\t{uid}\t"))
    };
    pids.filter(is_theirs).collect()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The owner of a home holds the lock that the process in it waits for.
#[test]
fn what_root_does_not_follow_any_more_is_not_done_in_a_home() {
    if !is_root() || !has("flock") {
        return;
    }
    let site = Site::new(FOLLOWED, 1, "exit 1");
    let (home, file) = (site.path("mail/u0"), site.certificate());
    let add = ["add", "u0", "--home", home.to_str().unwrap(), &file];
    let remove = ["remove", "u0", "--home", home.to_str().unwrap()];
    let hold = || Attack::begin(FOLLOWED, &format!("exec flock '{}' sleep 60", home.display()));
    let held = |arguments: &[&str], signal: Signal| {
        let attack = hold();
        std::thread::sleep(Duration::from_millis(300));
        let child = site.keys(arguments);
        until("the owner's process is there", || !processes_of(FOLLOWED).is_empty());
        std::thread::sleep(Duration::from_millis(300));
        let begin = Instant::now();
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let run = ended(child);
        assert!(begin.elapsed() < Duration::from_secs(2), "{run:?}");
        (run, attack)
    };
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (run, attack) = held(&add, signal);
        assert!(run.status == Some(75) && run.stderr.contains("interrupted"), "{run:?}");
        assert!(processes_of(FOLLOWED).is_empty(), "{signal}");
        drop(attack);
    }
    assert!(!home.join("mailseal.pgp").exists());

    let run = ended(site.keys(&add));
    assert_eq!(run.status, Some(0), "{run:?}");
    // Root's process ends without a word.
    let (_, attack) = held(&remove, Signal::SIGKILL);
    assert!(!processes_of(FOLLOWED).is_empty(), "it waits for the lock");
    drop(attack);
    until("the owner's process ends", || processes_of(FOLLOWED).is_empty());
    assert!(home.join("mailseal.pgp").exists(), "what root does not follow is not removed");
    let run = ended(site.keys(&remove));
    assert!(run.status == Some(0) && !home.join("mailseal.pgp").exists(), "{run:?}");
}

/// What Dovecot says over the socket `auth-userdb` of the users `u0`..., whose homes are the Maildirs.
fn answer_for_dovecot(site: &Site) {
    site.write("bin/doveconf", &format!("#!/bin/sh\necho {}\n", site.path("").display()), 0o755);
    let listener = UnixListener::bind(site.path("auth-userdb")).unwrap();
    let (mail, owners) = (site.path("mail"), site.owners.clone());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"VERSION\t1\t2\nSPID\t1\n");
            for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
                let fields: Vec<&str> = line.split('\t').collect();
                let number =
                    || fields[2].strip_prefix('u')?.parse::<usize>().ok().filter(|it| *it < owners.len());
                let answer = match (fields[0], fields.get(1)) {
                    ("LIST", Some(id)) => {
                        (0..owners.len()).map(|it| format!("LIST\t{id}\tu{it}\n")).collect::<String>()
                            + &format!("DONE\t{id}\t\n")
                    }
                    ("USER", Some(id)) => match number() {
                        Some(it) => {
                            let (uid, home) = (owners[it], mail.join(format!("u{it}")));
                            format!("USER\t{id}\tu{it}\tuid={uid}\tgid={uid}\thome={}\n", home.display())
                        }
                        None => format!("NOTFOUND\t{id}\n"),
                    },
                    _ => continue,
                };
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
}

/// A scan whose process with the owner's rights the owner has stopped: the owner's program must find it in the moment in which
/// it has them.
fn stopped_scan(site: &Site) -> Child {
    let stopped = (0..20).find_map(|_| {
        let mut scan = site.keys(&["scan"]);
        while scan.try_wait().unwrap().is_none() {
            let found = processes_of(SCANNED);
            if let Some(pid) = found.first() {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                if status.contains("State:\tT") {
                    return Some(scan);
                }
            }
        }
        None
    });
    stopped.expect("the owner finds the process")
}

/// While a scan waits for an owner, others are enrolled; what the scan notes in the end takes none of that back.
#[test]
fn who_stops_a_scan_keeps_nobody_from_being_enrolled() {
    if !is_root() {
        return;
    }
    let site = Site::new(SCANNED, 4, "exit 1");
    answer_for_dovecot(&site);
    let file = site.certificate();
    let run = ended(site.keys(&["add", "u2", &file]));
    assert_eq!(run.status, Some(0), "{run:?}");
    let run = (0..20).find_map(|_| {
        let mut scan = stopped_scan(&site);
        for arguments in [["add", "u1", &*file].as_slice(), &["remove", "u2"]] {
            let run = ended(site.keys(arguments));
            assert_eq!(run.status, Some(0), "{run:?}");
        }
        assert!(scan.try_wait().unwrap().is_none(), "the scan still waits");
        let run = ended(scan);
        if run.status != Some(0) {
            return Some(run);
        }
        // The process had answered when it was stopped.
        for arguments in [["add", "u2", &*file].as_slice(), &["remove", "u1"]] {
            let run = ended(site.keys(arguments));
            assert_eq!(run.status, Some(0), "{run:?}");
        }
        None
    });
    let run = run.expect("the owner stops the process before it has answered");
    assert!(
        run.status == Some(1) && run.stdout.contains("not asked, and deferred until it can be: u0"),
        "{run:?}"
    );
    let has = |name: &str| site.path("known").join(name).exists();
    assert_eq!(
        ["u1", "u2", ".unasked/u0", ".unasked/u1", ".unasked/u3"].map(has),
        [true, false, true, false, false]
    );
}
