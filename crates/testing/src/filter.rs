//! Runs `mailseal-filter` on one message, and any program on some input.

use std::{
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
};

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    /// The exit status; `None` after a signal.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Runs the filter with an empty configuration, `--key CERT --log none` and `options`.
pub fn filter(cert: &Path, options: &[&str], message: &[u8]) -> Run {
    in_pieces(cert, options, message, message.len().max(1))
}

/// The same, the message written in pieces of `size` bytes.
pub fn in_pieces(cert: &Path, options: &[&str], message: &[u8], size: usize) -> Run {
    let mut command = Command::new(crate::program("mailseal-filter"));
    if !options.contains(&"--config") {
        command.args(["--config", "/dev/null"]);
    }
    command.args(["--log", "none", "--key"]).arg(cert).args(options);
    run(&mut command, message, size)
}

/// Runs `command` with `input` on its standard input, written in pieces of `size` bytes.
pub fn run(command: &mut Command, input: &[u8], size: usize) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    // The output begins before the input has ended: one thread writes while the other reads.
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            for piece in input.chunks(size) {
                match stdin.write_all(piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return,
                    Err(error) => panic!("writing to the program: {error}"),
                }
            }
        });
        child.wait_with_output().unwrap()
    });
    Run {
        status: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Run {
    /// A failure: the wanted status, nothing on standard output, what failed and what to do on standard error, each line
    /// with the program's name, and not a word of the message, which says "canary".
    #[track_caller]
    pub fn assert_failed(&self, name: &str, wanted: i32) {
        assert_eq!(self.status, Some(wanted), "{name}: {}", self.stderr);
        assert!(self.stdout.is_empty(), "{name}: {} bytes of output", self.stdout.len());
        assert!(!self.stderr.contains("canary"), "{name}: {}", self.stderr);
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!((1..=3).contains(&lines.len()), "{name}: {}", self.stderr);
        assert!(lines.iter().all(|line| line.starts_with("mailseal")), "{name}: {}", self.stderr);
    }
}
