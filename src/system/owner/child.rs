//! Edge: The process with an owner's rights, from its first instruction to its task.
//!
//! Standard input has two lines, whose rights it is to have and what it is to do; then nothing comes but its end, which says
//! that it is to stop. Where something does come, as from an IMAP session, SIGTERM says so.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mailseal_core::error::Error as CoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::identity::Identity;
use crate::error::Error;
use crate::exit::Exit;
use crate::system::owner::{LINE, Line, OPTION};
use crate::system::process;

/// The kind of the task, where root has started this process as an owner's.
#[must_use]
pub fn asked() -> Option<OsString> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == OPTION).then(|| arguments.next().unwrap_or_default())
}

/// What comes on standard input, behind the rights that the process has taken.
#[derive(Debug)]
pub struct Order {
    input: BufReader<File>,
}

impl Order {
    /// Gives up root's rights for the owner's. To be called first of all: what is read later is the owner's business.
    ///
    /// # Errors
    /// [`Error::Privileges`], and [`CoreError::Read`] where nobody says whose rights.
    pub fn begin() -> Result<Self, Error> {
        process::harden()?;
        let mut order = Self { input: BufReader::new(process::stdin()?) };
        let identity: Identity = order.line()?;
        identity.adopt()?;
        Ok(order)
    }

    /// What is to be done.
    ///
    /// # Errors
    /// [`CoreError::Read`] where it is nothing of this kind.
    pub fn line<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let mut line = Vec::new();
        self.input.read_until(b'\n', &mut line).map_err(CoreError::Read)?;
        serde_json::from_slice(&line).map_err(|error| CoreError::Read(error.into()).into())
    }

    /// Sets `stop` when standard input ends.
    pub fn stop_at_end(mut self, stop: &Arc<AtomicBool>) {
        let stop = Arc::clone(stop);
        std::thread::spawn(move || {
            let _ = self.input.read(&mut [0]);
            stop.store(true, Ordering::Relaxed);
        });
    }

    /// What comes behind the order.
    #[must_use]
    pub fn into_rest(self) -> BufReader<File> {
        self.input
    }
}

/// What an owner's process does that gets a task and nothing behind it: takes the owner's rights, and works until standard
/// input ends, which sets the flag that `work` gets.
///
/// # Errors
/// Those of [`Order`], and of `work`, which are reported.
pub fn serve<T: DeserializeOwned>(
    work: impl FnOnce(T, &Reports, &Arc<AtomicBool>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut order = Order::begin()?;
    let task = order.line()?;
    let stop = Arc::new(AtomicBool::new(false));
    order.stop_at_end(&stop);
    process::raise_file_limit();
    let reports = Reports::to(process::stdout()?, &stop);
    work(task, &reports, &stop).inspect_err(|error| reports.fail(error))
}

/// Where reports go.
#[derive(Debug)]
pub struct Reports {
    out: Mutex<File>,
    stop: Arc<AtomicBool>,
}

impl Reports {
    /// To `out`; `stop` is set where nobody reads there any more.
    #[must_use]
    pub fn to(out: File, stop: &Arc<AtomicBool>) -> Self {
        Self { out: Mutex::new(out), stop: Arc::clone(stop) }
    }

    /// Says one thing, in one line of at most [`LINE`] bytes.
    pub fn say<T: Serialize>(&self, report: T) {
        self.write(&Line::Said(report));
    }

    /// The same for work that may end between any two reports: where it is to stop, the process ends.
    pub fn say_or_leave<T: Serialize>(&self, report: T) {
        if self.stop.load(Ordering::Relaxed) {
            Exit::Temporary.leave_now();
        }
        self.say(report);
    }

    /// Says that the task failed.
    pub fn fail(&self, error: &Error) {
        self.write(&Line::<()>::failed(error));
    }

    fn write(&self, line: &impl Serialize) {
        let line = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            if line.len() > LINE { Err(io::ErrorKind::InvalidData.into()) } else { Ok(line) }
        });
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if line.and_then(|line| out.write_all(&line)).is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// How many bytes are written before it is said that the work goes on.
const BEAT: u64 = 8 * 1024 * 1024;

/// A writer that says that the work goes on while a long message is written.
pub struct Pulse<'a, W> {
    out: W,
    since: u64,
    alive: &'a (dyn Fn() + Sync),
}

impl<'a, W> Pulse<'a, W> {
    /// Writes to `out`, and calls `alive` now and then.
    pub fn new(out: W, alive: &'a (dyn Fn() + Sync)) -> Self {
        Self { out, since: 0, alive }
    }
}

impl<W: Write> Write for Pulse<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.since += count as u64;
        if self.since >= BEAT {
            self.since = 0;
            (self.alive)();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
