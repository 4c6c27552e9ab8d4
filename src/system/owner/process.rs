//! Edge: Root's side of an owner's process: starts it, hands it its task, watches over it, and reads what it reports.
//!
//! It waits for nothing without end. A process that reports no progress is ended with SIGKILL, which a stopped one takes as
//! well; one that even that does not end, because the kernel holds it, is left behind.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::identity::Identity;
use super::slots::Slot;
use crate::error::Error;
use crate::exit::Exit;
use crate::system::owner::{LINE, Line, OPTION};
use crate::system::pipe;

/// How long a process may report no progress before it is ended, if nobody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may report nothing before the next owner has its turn.
pub const SLOW: Duration = Duration::from_millis(250);

/// Silences from this length on are added up, and end the process when they come to [`SILENCES`] times the patience: an owner
/// can stop and continue it for ever.
const LONG: Duration = Duration::from_secs(10);

/// See [`LONG`].
const SILENCES: u32 = 10;

/// How long it has to end by itself when the run is to stop.
const GRACE: Duration = Duration::from_millis(1000);

/// How long it may take to end after SIGKILL, or after its last word.
const LAST: Duration = Duration::from_millis(500);

/// How often it is looked what to do.
const PAUSE: Duration = Duration::from_millis(20);

/// Most lines that one process reports.
const MOST_LINES: u64 = 100_000_000;

/// What a process reports.
pub trait Report: DeserializeOwned {
    /// Whether it shows that the work goes on.
    fn is_progress(&self) -> bool {
        true
    }
}

/// How a process is watched over.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// The longest time without progress.
    pub patience: Duration,
    /// Set where the run is to stop.
    pub stop: &'a AtomicBool,
    /// The turn that it has.
    pub slot: Option<&'a Slot<'a>>,
}

impl Watch<'static> {
    /// Over what nobody stops, and nobody waits for a turn beside: for no longer than [`PATIENCE`].
    #[must_use]
    pub fn alone() -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self { patience: PATIENCE, stop: &NEVER, slot: None }
    }
}

/// What is started.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The program's name.
    pub program: &'a str,
    /// The kind of the task, which the program knows.
    pub kind: &'a str,
    /// Whose rights it gets.
    pub identity: &'a Identity,
}

/// An owner's process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    owner: Uid,
}

/// Runs a task as its owner, from its beginning to its end. What it reports `report` gets, whose error is a report that no
/// such task can have. `folder` is one that the owner's process may write into; it has it as standard error.
///
/// # Errors
/// [`Error::Privileges`] where it cannot be started; [`Error::Owner`] where it fails, ends too early, stalls or lies.
pub fn run<T: Report>(
    start: &Start<'_>,
    task: &impl Serialize,
    folder: Option<OwnedFd>,
    watch: &Watch<'_>,
    report: &mut dyn FnMut(T) -> io::Result<()>,
) -> Result<(), Error> {
    let owner = start.identity.uid();
    let failed = |error| not_started(owner, &error);
    let stderr = folder.map_or_else(Stdio::null, Stdio::from);
    let mut process = Process::start(start, Stdio::piped(), Stdio::piped(), stderr).map_err(failed)?;
    let (Some(stdin), Some(stdout)) = (process.child.stdin.take(), process.child.stdout.take()) else {
        return Err(failed(io::ErrorKind::BrokenPipe.into()));
    };
    let order = File::from(OwnedFd::from(stdin));
    let fed = feed(&order, start.identity, task, watch);
    // Who does not take its order may say why.
    let listened = process.listen(stdout, Some(order), watch, report);
    listened.and(fed.map_err(failed))
}

fn not_started(owner: Uid, error: &io::Error) -> Error {
    Error::Privileges { what: format!("the process for user {owner}: {error}") }
}

/// Writes whose rights a process gets and its task to `input`, which is its standard input.
///
/// # Errors
/// Those of the pipe; `TimedOut` where it does not take it.
pub fn feed(input: &File, identity: &Identity, task: &impl Serialize, watch: &Watch<'_>) -> io::Result<()> {
    let mut order = serde_json::to_vec(identity)?;
    order.push(b'\n');
    order.extend(serde_json::to_vec(task)?);
    order.push(b'\n');
    pipe::set_blocking(input, false)?;
    let begin = Instant::now();
    let mut left = &order[..];
    while !left.is_empty() {
        match (&*input).write(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => left = &left[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if begin.elapsed() > SLOW {
                    watch.slot.inspect(|slot| slot.step_aside());
                }
                if begin.elapsed() > watch.patience || watch.stop.load(Ordering::Relaxed) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                pipe::is_ready(&mut [PollFd::new(input.as_fd(), PollFlags::POLLOUT)], PAUSE)?;
            }
            Err(error) => return Err(error),
        }
    }
    pipe::set_blocking(input, true)
}

/// Why a process is ended.
#[derive(Debug)]
enum Why {
    /// The run is to stop.
    Stop,
    /// It has reported no progress.
    Stalled,
    /// It has been silent too often.
    Slow,
    /// What it says is not of its task.
    Lie(String),
}

/// A process amid its work.
struct Course<'a> {
    watch: &'a Watch<'a>,
    /// The last sign of progress.
    last: Instant,
    silence: Duration,
    /// Since when it is to stop by itself.
    asked: Option<Instant>,
    killed: Option<(Instant, Why)>,
}

impl Process {
    /// This very program, in a group of its own: who interrupts root's from a terminal does not end it amid a message.
    ///
    /// # Errors
    /// Those of starting it.
    pub fn start(start: &Start<'_>, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> io::Result<Self> {
        let program: &OsStr = "/proc/self/exe".as_ref();
        let other = std::env::current_exe();
        let program = if cfg!(target_os = "linux") {
            program
        } else {
            other.as_ref().map_or(program, |it| it.as_ref())
        };
        let mut command = Command::new(program);
        // It is root's until it has read whose it is; what root knows is in no part of it.
        command.arg0(start.program).arg(OPTION).arg(start.kind).env_clear().current_dir("/").process_group(0);
        let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn()?;
        Ok(Self { child, owner: start.identity.uid() })
    }

    /// Where its reports come, if they come on standard error.
    pub fn stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// Hands on what it reports on `source`, until it ends or is ended. It is asked to stop by the end of `order`, its standard
    /// input; where that is another's, with SIGTERM.
    ///
    /// # Errors
    /// [`Error::Owner`].
    pub fn listen<T: Report>(
        &mut self,
        mut source: impl Read + AsFd,
        mut order: Option<File>,
        watch: &Watch<'_>,
        report: &mut dyn FnMut(T) -> io::Result<()>,
    ) -> Result<(), Error> {
        let mut course =
            Course { watch, last: Instant::now(), silence: Duration::ZERO, asked: None, killed: None };
        let mut lines = Lines::default();
        let mut failure = None;
        loop {
            if course.is_to_be_asked() && order.take().is_none() {
                self.signal(Signal::SIGTERM);
            }
            if let Some(why) = course.why() {
                self.end(&mut course, why);
            }
            if course.killed.as_ref().is_some_and(|(since, _)| since.elapsed() > LAST) {
                break;
            }
            let ready = pipe::is_ready(&mut [PollFd::new(source.as_fd(), PollFlags::POLLIN)], PAUSE);
            match ready.and_then(|ready| lines.read(&mut source, ready)) {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) => self.end(&mut course, Why::Lie(error.to_string())),
            }
            while let Some(line) = lines.next() {
                let said = parse::<T>(&line, &mut failure).and_then(|said| {
                    let Some(said) = said else { return Ok(()) };
                    if said.is_progress() {
                        course.progress();
                    }
                    if course.killed.is_some() {
                        return Ok(());
                    }
                    let begin = Instant::now();
                    let taken = report(said);
                    // What root does at its word is not the process's silence.
                    course.last += begin.elapsed();
                    taken
                });
                if let Err(error) = said {
                    self.end(&mut course, Why::Lie(error.to_string()));
                }
            }
        }
        let status = self.reap();
        self.judge(course, failure, status)
    }

    fn signal(&self, signal: Signal) {
        // Until it has been waited for, the number is its own.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    fn end(&self, course: &mut Course<'_>, why: Why) {
        if course.killed.is_none() {
            self.signal(Signal::SIGKILL);
            course.killed = Some((Instant::now(), why));
        }
    }

    /// Waits for its end, for a moment; then ends it, and waits once more.
    fn reap(&mut self) -> Option<ExitStatus> {
        for _ in 0..2 {
            let begin = Instant::now();
            while begin.elapsed() < LAST {
                if let Ok(Some(status)) = self.child.try_wait() {
                    return Some(status);
                }
                std::thread::sleep(PAUSE);
            }
            self.signal(Signal::SIGKILL);
        }
        None
    }

    fn judge(
        &self,
        course: Course<'_>,
        failure: Option<Error>,
        status: Option<ExitStatus>,
    ) -> Result<(), Error> {
        let seconds = course.watch.patience.as_secs();
        let what = match course.killed.map(|(_, why)| why) {
            Some(Why::Stop) => return Ok(()),
            Some(Why::Stalled) => {
                format!("no progress for {seconds} s: a lock, a stopped process or a disk that hangs")
            }
            Some(Why::Slow) => format!(
                "it stood still again and again, for more than {} s in all",
                seconds * u64::from(SILENCES)
            ),
            Some(Why::Lie(what)) => format!("what it reports is not of its task: {what}"),
            None => match (failure, status) {
                (Some(failure), _) => return Err(failure),
                (None, Some(status)) if status.success() => return Ok(()),
                // Who stops a run and the owner's process with it, has stopped it.
                (None, _) if course.watch.stop.load(Ordering::Relaxed) => return Ok(()),
                (None, Some(status)) => format!("it ended with {status}"),
                (None, None) => "it does not end".into(),
            },
        };
        Err(Error::Owner {
            what: format!("the process for user {}: {what}; what it had not done is left as it was", self.owner),
            hint: "see what the owner or another program does there, and run it again: it goes on where this ended".into(),
            exit: Exit::Negative,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.signal(Signal::SIGKILL);
            let _ = self.reap();
        }
    }
}

impl Course<'_> {
    /// Whether it is to stop from now on.
    fn is_to_be_asked(&mut self) -> bool {
        let now = self.asked.is_none() && self.watch.stop.load(Ordering::Relaxed);
        if now {
            self.asked = Some(Instant::now());
        }
        now
    }

    fn why(&self) -> Option<Why> {
        let silent = self.last.elapsed();
        if silent > SLOW {
            self.watch.slot.inspect(|slot| slot.step_aside());
        }
        if self.asked.is_some_and(|since| since.elapsed() > GRACE) {
            Some(Why::Stop)
        } else if silent > self.watch.patience {
            Some(Why::Stalled)
        } else if self.silence > self.watch.patience * SILENCES {
            Some(Why::Slow)
        } else {
            None
        }
    }

    fn progress(&mut self) {
        let silent = self.last.elapsed();
        if silent > LONG {
            self.silence += silent;
        }
        self.last = Instant::now();
    }
}

/// What one line says; `None` for the end of a task that failed, which goes to `failure`.
fn parse<T: Report>(line: &[u8], failure: &mut Option<Error>) -> io::Result<Option<T>> {
    match serde_json::from_slice(line)? {
        Line::Said(said) => Ok(Some(said)),
        Line::Failed { what, hint, status } => {
            let exit = Exit::of_failure(status);
            failure.get_or_insert(Error::Owner { what, hint, exit });
            Ok(None)
        }
    }
}

/// Lines of a stream, bounded in length and number.
#[derive(Default)]
struct Lines {
    pending: Vec<u8>,
    start: usize,
    count: u64,
}

impl Lines {
    /// Reads what is there; whether that was the end.
    fn read(&mut self, from: &mut impl Read, ready: bool) -> io::Result<bool> {
        if !ready {
            return Ok(false);
        }
        self.pending.drain(..std::mem::take(&mut self.start));
        let mut piece = [0; 16 * 1024];
        let count = match from.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            count => count?,
        };
        self.pending.extend_from_slice(&piece[..count]);
        let unended = memchr::memrchr(b'\n', &self.pending).map_or(0, |at| at + 1);
        if self.pending.len() - unended > LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
        }
        if self.count > MOST_LINES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there are too many lines"));
        }
        Ok(count == 0)
    }

    /// The next whole line.
    fn next(&mut self) -> Option<Vec<u8>> {
        let rest = self.pending.get(self.start..)?;
        let end = memchr::memchr(b'\n', rest)?;
        let line = rest[..end].to_vec();
        self.start += end + 1;
        self.count += 1;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_any_place_and_bounded() {
        let text = b"one\ntwo\n\nthree";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                assert!(!lines.read(&mut &*piece, true).unwrap());
                found.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(found, [&b"one"[..], b"two", b""], "{size}");
            assert!(lines.read(&mut io::empty(), true).unwrap());
        }
        // It is seen at once, whether more comes or not.
        let mut lines = Lines::default();
        let mut long = io::repeat(b'x').take(LINE as u64 + 1);
        let mut read = || lines.read(&mut long, true);
        assert!((0..LINE / 16_384).all(|_| read().is_ok()) && read().is_err());
        let mut lines = Lines::default();
        let mut endless = io::repeat(b'x');
        let read = std::iter::repeat_with(|| lines.read(&mut endless, true)).take(LINE).find(Result::is_err);
        assert_eq!(read.unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[derive(Debug, PartialEq, Eq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Number(u8);

    impl Report for Number {
        fn is_progress(&self) -> bool {
            self.0 > 0
        }
    }

    /// What comes of a process that does what `script` says, stopped after `stop`.
    fn listen(script: &str, patience: Duration, stop: Option<Duration>) -> (Result<(), Error>, Vec<u8>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let (order, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut process = Process { child, owner: Uid::from_raw(5000) };
        let (flag, mut heard) = (AtomicBool::new(false), Vec::new());
        let flag = &flag;
        let result = std::thread::scope(|scope| {
            if let Some(stop) = stop {
                scope.spawn(move || {
                    std::thread::sleep(stop);
                    flag.store(true, Ordering::Relaxed);
                });
            }
            let watch = Watch { patience, stop: flag, slot: None };
            process.listen(stdout, Some(File::from(OwnedFd::from(order))), &watch, &mut |said: Number| {
                heard.push(said.0);
                if said.0 == 99 { Err(io::Error::other("there is no 99")) } else { Ok(()) }
            })
        });
        (result, heard)
    }

    #[test]
    fn a_process_is_believed_only_what_its_task_can_report() {
        let said = r#"echo '{"Said":1}'; echo '{"Said":2}'"#;
        let long = "head -c 70000 /dev/zero | tr '\\0' x; sleep 60";
        let patience = Duration::from_secs(20);
        let (result, heard) = listen(said, patience, None);
        assert!(result.is_ok() && heard == [1, 2], "{result:?} {heard:?}");
        for lie in [
            "echo nonsense; sleep 60",
            r#"echo '{"Said":1,"More":2}'; sleep 60"#,
            r#"echo '{"Said":300}'; sleep 60"#,
            r#"echo '{"Said":99}'; echo '{"Said":5}'; sleep 60"#,
            long,
        ] {
            let begin = Instant::now();
            let (result, heard) = listen(lie, patience, None);
            let error = result.unwrap_err();
            assert!(error.to_string().contains("not of its task"), "{lie}: {error}");
            assert_eq!(error.exit(), Exit::Negative);
            assert!(!heard.contains(&5) && begin.elapsed() < patience, "{lie}");
        }
        // A failure is one, whatever status it claims.
        let (result, _) = listen(r#"echo '{"Failed":{"what":"x","hint":"y","status":0}}'"#, patience, None);
        assert!(result.unwrap_err().exit() != Exit::Ok);
        assert!(listen("exit 3", patience, None).0.unwrap_err().to_string().contains("exit status: 3"));
    }

    #[test]
    fn nobody_is_waited_for_without_end() {
        let second = Duration::from_secs(1);
        let waiting = r#"while :; do echo '{"Said":0}'; sleep 0.1; done"#;
        for silent in
            ["exec sleep 60", "kill -STOP $$", waiting, "trap '' TERM; exec 1>&-; while :; do :; done"]
        {
            let begin = Instant::now();
            let result = listen(silent, second, None).0;
            assert!(result.is_err(), "{silent}");
            assert!(begin.elapsed() < 5 * second, "{silent}: {:?}", begin.elapsed());
        }
        for stopped in ["trap '' TERM; exec sleep 60", "kill -STOP $$", "read x; exit 0"] {
            let begin = Instant::now();
            let result = listen(stopped, 60 * second, Some(second / 5)).0;
            assert!(result.is_ok(), "{stopped}: {result:?}");
            assert!(begin.elapsed() < 2 * second, "{stopped}: {:?}", begin.elapsed());
        }
    }
}
