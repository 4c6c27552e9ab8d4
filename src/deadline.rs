//! Edge: Ends a delivery that takes too long, before Dovecot's own timeout does it with a panic.
//!
//! A thread of its own, because what is slow may be anything: a reader that waits, a disk that hangs, a certificate
//! that takes forever to check.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Stack of the thread: it only writes a log line.
const STACK: usize = 64 * 1024;

/// Watches over a delivery until it is [finished](Deadline::finish).
#[derive(Debug)]
pub struct Deadline {
    finished: Arc<Mutex<()>>,
}

impl Deadline {
    /// After `limit` from `start` on, calls `expired`, which ends the process, unless [`Deadline::finish`] came first.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(
        start: Instant,
        limit: Duration,
        expired: impl FnOnce() -> std::convert::Infallible + Send + 'static,
    ) -> std::io::Result<Self> {
        let finished = Arc::new(Mutex::new(()));
        let guard = Arc::clone(&finished);
        std::thread::Builder::new().name("deadline".into()).stack_size(STACK).spawn(move || {
            std::thread::sleep(limit.saturating_sub(start.elapsed()));
            let _guard = lock(&guard);
            expired()
        })?;
        Ok(Self { finished })
    }

    /// The delivery has its result: from here to the end of the process the deadline does nothing.
    pub fn finish(&self) {
        std::mem::forget(lock(&self.finished));
    }
}

/// Nobody can leave the mutex in a bad state: it holds nothing.
fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
