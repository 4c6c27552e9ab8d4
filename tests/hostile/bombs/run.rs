//! Runs `mailseal-filter` on a message that is made while it is read, and measures the filter alone.
//!
//! The kernel counts into the peak memory of a child what its parent had when it forked. So the filter is started by a
//! launcher that is small: this test program again, which then never gets as far as its `main`.

use std::{
    env, fs,
    io::{self, BufWriter, Read, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::resource::{UsageWho, getrusage};

/// Makes a message: it gets the filter's standard input.
pub type Mail = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// Bytes that are kept of the beginning and of the end of the output.
const KEPT: usize = 4096;

/// Names the file the launcher writes to. Only a launcher has it in its environment.
const USAGE: &str = "MAILSEAL_TEST_USAGE";

/// Names the program and its arguments, with [`BETWEEN`] between them.
const COMMAND: &str = "MAILSEAL_TEST_COMMAND";
const BETWEEN: char = '\u{1f}';

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    /// The exit status; 128 and the signal's number after a signal.
    pub status: i32,
    /// Peak of the resident memory, in KiB.
    pub peak: i64,
    /// Processor time, user and system.
    pub time: Duration,
    /// What was written to the filter, until it ended or the message did.
    pub input: Stream,
    /// What the filter wrote.
    pub output: Stream,
    pub stderr: String,
}

/// What is remembered of bytes that went by.
#[derive(Debug)]
pub struct Stream {
    pub length: u64,
    pub beginning: Vec<u8>,
    pub ending: Vec<u8>,
    checksum: crc_fast::Digest,
}

impl Stream {
    fn new() -> Self {
        let checksum = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        Self { length: 0, beginning: Vec::new(), ending: Vec::new(), checksum }
    }

    fn add(&mut self, piece: &[u8]) {
        self.length += piece.len() as u64;
        self.checksum.update(piece);
        let missing = (KEPT - self.beginning.len()).min(piece.len());
        self.beginning.extend(&piece[..missing]);
        self.ending.extend(&piece[piece.len().saturating_sub(KEPT)..]);
        let surplus = self.ending.len().saturating_sub(KEPT);
        self.ending.drain(..surplus);
    }

    pub fn checksum(&self) -> u64 {
        self.checksum.finalize()
    }
}

/// The filter to test: the one that was built with the test, or the one `MAILSEAL_FILTER` names (a release build).
pub fn program() -> PathBuf {
    env::var_os("MAILSEAL_FILTER").map_or_else(|| testing::program("mailseal-filter"), PathBuf::from)
}

/// The arguments every run has. The certificate is one of OpenPGP's by its name, or a file of the fixtures.
pub fn arguments(cert: &str) -> Vec<String> {
    let file = if cert.contains('.') { cert.to_owned() } else { format!("certs/{cert}.pgp") };
    let cert = format!("{}/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
    ["--deadline", "600", "--key", &cert].map(String::from).into()
}

/// Runs the filter with `options` on `mail`, within `address_space` KiB where that is given.
pub fn run(cert: &str, options: &[&str], address_space: Option<u32>, mail: Mail) -> Run {
    let mut words = vec![program().to_string_lossy().into_owned()];
    words.extend(arguments(cert));
    words.extend(options.iter().copied().map(String::from));
    if !options.contains(&"--log") {
        words.extend(["--log", "none"].map(String::from));
    }
    if let Some(limit) = address_space {
        let shell = ["sh", "-c", &format!("ulimit -v {limit}; exec \"$@\""), "sh"].map(String::from);
        words.splice(0..0, shell);
    }
    let usage = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .env(USAGE, usage.path())
        .env(COMMAND, words.join(&BETWEEN.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let stdout = child.stdout.take().unwrap();
    let (input, output, stderr) = std::thread::scope(|scope| {
        let input = scope.spawn(move || write(mail, stdin));
        let output = scope.spawn(move || read(stdout));
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (input.join().unwrap(), output.join().unwrap(), stderr)
    });
    assert!(child.wait().unwrap().success(), "the launcher failed: {stderr}");
    let numbers = fs::read_to_string(usage.path()).unwrap();
    let [status, peak, time] = numbers.split(' ').collect::<Vec<_>>()[..] else { panic!("{numbers:?}") };
    Run {
        status: status.parse().unwrap(),
        peak: peak.parse().unwrap(),
        time: Duration::from_micros(time.parse().unwrap()),
        input,
        output,
        stderr,
    }
}

/// Gives `mail` to the filter; one that has had enough may end early.
fn write(mail: Mail, stdin: impl Write) -> Stream {
    let mut tee = Tee { inner: stdin, seen: Stream::new() };
    let mut buffered = BufWriter::with_capacity(64 * 1024, &mut tee);
    match mail(&mut buffered).and_then(|()| buffered.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => panic!("writing to the filter: {error}"),
    }
    // What is buffered could not be written.
    drop(buffered.into_parts());
    tee.seen
}

fn read(mut stdout: impl Read) -> Stream {
    let mut seen = Stream::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match stdout.read(&mut piece).unwrap() {
            0 => return seen,
            count => seen.add(&piece[..count]),
        }
    }
}

struct Tee<W> {
    inner: W,
    seen: Stream,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(piece)?;
        self.seen.add(&piece[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// In a launcher: starts the filter, waits for it, writes what it used, and ends.
#[ctor::ctor(unsafe)]
fn launch() {
    let Some(usage) = env::var_os(USAGE) else { return };
    let words = env::var(COMMAND).unwrap();
    let mut words = words.split(BETWEEN);
    let mut command = Command::new(words.next().unwrap());
    let status = command.args(words).env_remove(USAGE).env_remove(COMMAND).status().unwrap();
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let time: i64 =
        [used.user_time(), used.system_time()].iter().map(|t| t.tv_sec() * 1_000_000 + t.tv_usec()).sum();
    let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
    fs::write(usage, format!("{status} {} {time}", used.max_rss())).unwrap();
    std::process::exit(0);
}
