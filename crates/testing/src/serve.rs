//! `mailseal serve`, as a process of a test.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running one; dropped, it is killed.
pub struct Serve {
    child: Child,
    stderr: PathBuf,
}

impl Serve {
    /// Starts it with the configuration `config` as the user and group `id`, and waits until it answers at `door`. What it says
    /// goes to the file `stderr`.
    #[track_caller]
    pub fn start(config: &Path, id: u32, door: &Path, stderr: &Path) -> Self {
        let mut serve = Self::spawn(config, id, stderr, &["--sandbox", "require"]);
        let end = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(door).is_err() {
            assert!(
                serve.child.try_wait().unwrap().is_none(),
                "mailseal serve did not start:\n{}",
                serve.said()
            );
            assert!(Instant::now() < end, "nobody answers at {}", door.display());
            std::thread::sleep(Duration::from_millis(5));
        }
        serve
    }

    /// Starts it with `arguments`.
    pub fn spawn(config: &Path, id: u32, stderr: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(crate::program("mailseal"));
        command.arg("--config").arg(config).arg("serve").args(arguments);
        command.uid(id).gid(id).stdin(Stdio::null());
        let file = std::fs::OpenOptions::new().create(true).append(true).open(stderr).unwrap();
        let child = command.stderr(file).stdout(Stdio::null()).spawn().unwrap();
        Self { child, stderr: stderr.into() }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end, for as long as a loaded machine may need.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "mailseal serve does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(&self.stderr).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// How much memory it has held at most, in kilobytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// How much memory it holds, in kilobytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// How many threads it has.
    pub fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    /// How much processor time it has used.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // After the name, which may hold blanks: fields 14 and 15 (proc(5)), in hundredths of a second on every Linux.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- mailseal serve ---\n{}---", self.said());
        }
    }
}
