//! Runs many checks on two threads and fails with all that failed, not with the first.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

/// Two: what a small machine has.
const THREADS: usize = 2;
/// A broken product fails everywhere; nobody reads more than this.
const SHOWN: usize = 40;

/// Runs `check` on each job; panics with the failures, each after its job's name.
pub fn all<J: Sync>(
    jobs: &[J],
    name: impl Fn(&J) -> String + Sync,
    check: impl Fn(&J) -> Result<(), String> + Sync,
) {
    assert!(!jobs.is_empty(), "nothing to check");
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = check(job) {
                        failed.lock().unwrap().push(format!("{}: {why}", name(job)));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    let shown = failed.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failed.is_empty(), "{} of {} failed:\n{shown}", failed.len(), jobs.len());
    eprintln!("{} checked", jobs.len());
}
