//! Runs `mailseal-filter` on one message.

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

/// Runs the filter with `--key CERT --log none` and `options`.
pub fn filter(cert: &Path, options: &[&str], message: &[u8]) -> Run {
    in_pieces(cert, options, message, message.len().max(1))
}

/// The same, the message written in pieces of `size` bytes.
pub fn in_pieces(cert: &Path, options: &[&str], message: &[u8], size: usize) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mailseal-filter"))
        .args(["--log", "none", "--key"])
        .arg(cert)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mailseal-filter starts");
    let mut stdin = child.stdin.take().unwrap();
    // The output begins before the input has ended: one thread writes while the other reads.
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            for piece in message.chunks(size) {
                match stdin.write_all(piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return,
                    Err(error) => panic!("writing to the filter: {error}"),
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
