//! Runs a program under strace: which system calls it makes, and what it does when one of them fails.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testing::filter::{self, Run};
use testing::skip;

/// The errors that each call fails with, one at a time.
pub const ERRORS: [&str; 5] = ["ENOSPC", "EDQUOT", "EIO", "EINTR", "EAGAIN"];

/// The `count`th call of this name that a thread makes.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    pub count: usize,
    /// How strace writes it.
    pub line: String,
}

/// A program under strace.
#[derive(Debug)]
pub struct Traced {
    program: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    /// The user that it runs as, if another than the test's.
    pub user: Option<&'static str>,
    pub input: Vec<u8>,
    /// Whether it finds other programs, doveadm among them.
    has_path: bool,
}

impl Traced {
    pub fn new(command: &Command, input: &[u8]) -> Self {
        Self {
            program: command.get_program().into(),
            arguments: command.get_args().map(Into::into).collect(),
            user: None,
            input: input.into(),
            has_path: false,
        }
    }

    /// The same, where it finds other programs.
    pub fn with_path(mut self) -> Self {
        self.has_path = true;
        self
    }

    /// Runs it with these options of strace, whose output goes to `log`. A hang ends after a minute, with status 124.
    pub fn run(&self, options: &[&str], log: &Path) -> Run {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "60", "strace", "-f"]).arg("-o").arg(log);
        if !self.has_path {
            command.args(["-E", "PATH="]);
        }
        if let Some(user) = self.user {
            command.args(["-u", user]);
        }
        command.args(options).arg(&self.program).args(&self.arguments);
        command.env_remove("LD_PRELOAD").stdin(Stdio::null());
        filter::run(&mut command, &self.input, self.input.len().max(1))
    }

    /// Runs it while one call of each thread fails.
    pub fn failing(&self, call: &Call, error: &str, log: &Path) -> Run {
        let inject = format!("inject={}:error={error}:when={}", call.name, call.count);
        self.run(&["-y", "-e", &inject], log)
    }

    /// The calls of the thread that makes one that contains `mark`, in order.
    pub fn calls(&self, mark: &str) -> Vec<Call> {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let run = self.run(&[], &log);
        assert_eq!(run.status, Some(0), "{run:?}");
        let text = read(&log);
        let thread = text.lines().find(|line| line.contains(mark)).and_then(|line| line.split(' ').next());
        let thread = thread.unwrap_or_else(|| panic!("no {mark} in {text}"));
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let lines = text.lines().filter_map(|line| line.strip_prefix(thread)).map(str::trim_start);
        lines
            .filter_map(|line| {
                let name = line.split_once('(')?.0;
                if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    return None;
                }
                let count = counts.entry(name).or_default();
                *count += 1;
                Some(Call { name: name.into(), count: *count, line: line.into() })
            })
            // There is no going on from the first, the next do not come back, and the last does not fail with an error:
            // what is injected is taken for an address.
            .filter(|call| !["execve", "exit_group", "exit", "brk"].contains(&&*call.name))
            .collect()
    }
}

/// What strace wrote, one call a line: a call that was interrupted by another thread's is put together again, where it ended.
pub fn read(log: &Path) -> String {
    let written = std::fs::read(log).unwrap();
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut text = String::new();
    let written = String::from_utf8_lossy(&written);
    for line in written.lines() {
        let (thread, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(beginning) = line.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, beginning);
            continue;
        }
        let end = rest.trim_start().strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>"));
        match end.and_then(|(_, end)| Some((begun.remove(thread)?, end))) {
            Some((beginning, end)) => text.extend([beginning, end, "\n"]),
            None => text.extend([line, "\n"]),
        }
    }
    text
}

/// Whether strace is there.
pub fn is_there() -> bool {
    let found = Command::new("strace").arg("-V").output().is_ok();
    if !found {
        skip::unless_ci("strace is not installed");
    }
    found
}

/// Says what was measured, to the stream itself.
pub fn measured(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "MEASURED: {text}");
}
