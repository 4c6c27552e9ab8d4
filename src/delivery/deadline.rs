//! Edge: Ends a delivery that takes too long, before Dovecot's own timeout does it with a panic.
//!
//! A thread of its own, because what is slow may be anything: a reader that waits, a disk that hangs, a certificate
//! that takes forever to check, a log that nobody reads. What it has to say itself it leaves to yet another thread, for which
//! it waits a moment only.

use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::exit::Exit;

/// Stack of the threads: they only write log lines.
const STACK: usize = 128 * 1024;

/// How long what is to be said may take.
const GRACE: Duration = Duration::from_millis(100);

/// How long a delivery that has its result may take to say so, past the deadline.
const LAST: Duration = Duration::from_millis(500);

/// Watches over a delivery until it is [finished](Deadline::finish).
#[derive(Debug)]
pub struct Deadline {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    limit: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It goes on.
    Running,
    /// It has its result, and says so.
    Decided,
    /// It has said so.
    Finished,
    /// It has taken too long.
    Late,
}

impl Deadline {
    /// After `limit` from `start` on, ends the process with [`Exit::Temporary`], unless [`Deadline::finish`] came first. Before
    /// that, `say` has a moment to say so, and `last` may take as long as it bounds itself.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(
        start: Instant,
        limit: Duration,
        say: impl FnOnce(Duration) + Send + 'static,
        last: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let state = Mutex::new(State { limit, stage: Stage::Running });
        let shared = Arc::new(Shared { start, state, changed: Condvar::new() });
        let watched = Arc::clone(&shared);
        std::thread::Builder::new().name("deadline".into()).stack_size(STACK).spawn(move || {
            let Some(limit) = watched.expire() else { return };
            let (said, wait) = channel();
            let sayer = std::thread::Builder::new().stack_size(STACK).spawn(move || {
                say(limit);
                // Who waits no more needs no answer.
                let _ = said.send(());
            });
            if sayer.is_ok() {
                // Whether it was said or not.
                let _ = wait.recv_timeout(GRACE);
            }
            last();
            Exit::Temporary.leave_now()
        })?;
        Ok(Self { shared })
    }

    /// Sets another limit, from the same start on.
    pub fn limit(&self, limit: Duration) {
        self.shared.lock().limit = limit;
        self.shared.changed.notify_all();
    }

    /// The delivery has its result: only saying so is left. Past the deadline there is no result any more, and this does not
    /// return.
    pub fn decide(&self) {
        let mut state = self.shared.lock();
        while state.stage == Stage::Late {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.stage = Stage::Decided;
    }

    /// All is said: from here to the end of the process the deadline does nothing.
    pub fn finish(&self) {
        self.shared.lock().stage = Stage::Finished;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Waits for the deadline; the limit that has passed, or `None` where all is said before.
    fn expire(&self) -> Option<Duration> {
        let mut state = self.lock();
        loop {
            let grace = if state.stage == Stage::Decided { LAST } else { Duration::ZERO };
            let left = (state.limit + grace).saturating_sub(self.start.elapsed());
            match state.stage {
                Stage::Finished | Stage::Late => return None,
                Stage::Decided if left.is_zero() => Exit::Temporary.leave_now(),
                Stage::Running if left.is_zero() => {
                    state.stage = Stage::Late;
                    return Some(state.limit);
                }
                _ => {}
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Nobody can leave the mutex in a bad state: each change is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
