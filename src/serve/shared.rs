//! What all connections of `mailseal serve` share: the configuration, what is remembered, the log, the counters.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use super::whose::Users;
use crate::cli;
use crate::config::Config;
use crate::error::KEY_STORE;
use crate::keystore::absence;
use crate::keystore::cache::Cache;
use crate::keystore::names::MARKER;
use crate::log::sink::Sink;
use crate::log::{LogLine, Outcome};

/// What connections share.
pub struct Shared {
    config: Mutex<Arc<Config>>,
    sink: Mutex<Sink>,
    stopping: AtomicBool,
    /// Certificates that were read before.
    pub cache: Cache,
    /// Whom Dovecot knows.
    pub users: Users,
    /// The transactions that have not come to their end.
    pub in_hand: Arc<Gate>,
    /// What is counted.
    pub metrics: Metrics,
    /// The folders of certificates that were found unreadable.
    unreadable: Mutex<BTreeSet<PathBuf>>,
}

impl Shared {
    /// Begins with `config`, and logs to `sink`.
    #[must_use]
    pub fn new(config: Config, sink: Sink) -> Self {
        Self {
            config: Mutex::new(Arc::new(config)),
            sink: Mutex::new(sink),
            stopping: AtomicBool::new(false),
            cache: Cache::default(),
            users: Users::default(),
            in_hand: Arc::new(Gate::new(usize::MAX)),
            metrics: Metrics::default(),
            unreadable: Mutex::default(),
        }
    }

    /// The configuration as it is now: what has begun with one ends with it.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&lock(&self.config))
    }

    /// From here on, what begins takes another configuration.
    pub fn replace_config(&self, config: Config) {
        *lock(&self.config) = Arc::new(config);
    }

    /// From here on, nothing begins.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether nothing may begin.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Logs and counts what became of a message.
    pub fn note(&self, line: &LogLine) {
        self.metrics.note(line);
        lock(&self.sink).write(line);
        if line.outcome == Outcome::Deferred && line.reason == Some(KEY_STORE) {
            self.name_unreadable();
        }
    }

    /// Names each folder of certificates that may not be read, once. The sandbox gave rights to the folders that were there.
    fn name_unreadable(&self) {
        let config = self.config();
        let denied = |folder: &Path| {
            let read = File::open(folder.join(MARKER));
            read.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        };
        let folders = absence::stores(&config.keys).into_iter().chain([config.keys.known.clone()]);
        let denied: BTreeSet<PathBuf> = folders.filter(|folder| denied(folder)).collect();
        let before = std::mem::replace(&mut *lock(&self.unreadable), denied.clone());
        for folder in denied.difference(&before) {
            let what = format!(
                "{} cannot be read; where it was mounted or replaced after the start, restart mailseal serve",
                folder.display()
            );
            cli::note(cli::ADMIN, &what);
        }
    }
}

/// Lets so many in at once.
#[derive(Debug)]
pub struct Gate {
    most: usize,
    inside: Mutex<usize>,
    changed: Condvar,
}

/// Somebody who was let in, until it is dropped.
#[derive(Debug)]
pub struct Inside(Arc<Gate>);

impl Gate {
    /// A gate for `most` at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, inside: Mutex::new(0), changed: Condvar::new() }
    }

    /// Waits until there is room.
    pub fn enter(self: &Arc<Self>) -> Inside {
        let mut inside = lock(&self.inside);
        while *inside >= self.most {
            inside = self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        *inside += 1;
        Inside(Arc::clone(self))
    }

    /// How many are inside.
    pub fn count(&self) -> usize {
        *lock(&self.inside)
    }

    /// Waits until nobody is inside, for at most `time`; whether that came.
    pub fn wait_empty(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut inside = lock(&self.inside);
        while *inside > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inside = self.changed.wait_timeout(inside, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        *lock(&self.0.inside) -= 1;
        self.0.changed.notify_all();
    }
}

/// Nobody can leave what is inside in a bad state: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
