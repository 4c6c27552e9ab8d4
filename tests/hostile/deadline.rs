//! The deadline holds whatever blocks: a reader that stops, a log and standard error that nobody reads, a configuration that
//! never comes.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;

const MAIL: &[u8] = b"Subject: x\n\nThe text.\n";

/// The deadline of a second, what is waited for the rest of the message, and time to start on a busy machine.
const LATEST: Duration = Duration::from_secs(5);

fn key() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/certs/curve25519.pgp")
}

fn filter(options: &[&str]) -> Command {
    let mut command = Command::new(testing::program("mailseal-filter"));
    command.args(["--user", "alice", "--deadline", "1"]).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A pipe that takes nothing more, and its end to read from.
fn full() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    let flags = OFlag::from_bits_truncate(fcntl(&writer, FcntlArg::F_GETFL).unwrap());
    fcntl(&writer, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(flags)).unwrap();
    (reader, writer)
}

/// Waits for its end; `None` where it does not come.
fn status(child: &mut Child, latest: Duration) -> Option<i32> {
    let begin = Instant::now();
    while begin.elapsed() < latest {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn a_full_standard_error_keeps_nobody_past_the_deadline() {
    let (reader, writer) = full();
    let key = key();
    let mut command = filter(&["--log", "stderr", "--key", key.to_str().unwrap()]);
    let mut child = command.stderr(writer).spawn().unwrap();
    // The message does not end.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(MAIL).unwrap();
    assert_eq!(status(&mut child, LATEST), Some(75));
    drop((reader, stdin));
}

#[test]
fn a_full_standard_error_delays_no_delivery() {
    for log in ["stderr", "none"] {
        let (reader, writer) = full();
        let key = key();
        let mut command = filter(&["--log", log, "--key", key.to_str().unwrap()]);
        let mut child = command.stderr(writer).spawn().unwrap();
        child.stdin.take().unwrap().write_all(MAIL).unwrap();
        assert_eq!(status(&mut child, LATEST), Some(0), "{log}");
        drop(reader);
    }
}

#[test]
fn a_log_that_nobody_reads_delays_no_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("log");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let reader = File::options().read(true).write(true).open(&fifo).unwrap();
    let flags = OFlag::from_bits_truncate(fcntl(&reader, FcntlArg::F_GETFL).unwrap());
    fcntl(&reader, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    while (&reader).write(&[b'x'; 4096]).is_ok() {}
    let (log, key) = (format!("file:{}", fifo.display()), key());
    let mut child = filter(&["--log", &log, "--key", key.to_str().unwrap()]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(MAIL).unwrap();
    assert_eq!(status(&mut child, LATEST), Some(0));
}

#[test]
fn a_configuration_that_never_comes_is_a_late_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("mailseal.toml");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let mut child = filter(&["--config", fifo.to_str().unwrap()]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(MAIL).unwrap();
    // 78 where it is refused at once.
    assert!(matches!(status(&mut child, LATEST), Some(75 | 78)));
}

#[test]
fn what_is_late_says_so() {
    let key = key();
    let mut command = filter(&["--log", "stderr", "--key", key.to_str().unwrap()]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    assert_eq!(status(&mut child, LATEST), Some(75));
    drop(stdin);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("not done within 1 seconds") && said.contains("reason=deadline"), "{said}");
}
