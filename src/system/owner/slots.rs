//! How many owners are worked on side by side, so that none keeps another from its turn.
//!
//! As many as there are jobs. Whoever reports nothing for a while, because a lock is held, a disk hangs or its process was
//! stopped, gives its turn to the next one and goes on beside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most that go on beside.
const MOST_BESIDE: usize = 128;

/// How often it is looked whether to stop.
const PAUSE: Duration = Duration::from_millis(50);

/// The turns.
#[derive(Debug)]
pub struct Slots {
    jobs: usize,
    taken: Mutex<Taken>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    turns: usize,
    beside: usize,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Slot<'a> {
    slots: &'a Slots,
    beside: AtomicBool,
}

/// Does `work` for each owner, for as many at once as there are jobs beside those that stand still, until `stop` is set.
pub fn side_by_side<T: Sync>(
    jobs: usize,
    owners: &[T],
    stop: &AtomicBool,
    work: impl Fn(&T, &Slot<'_>) + Sync,
) {
    let (slots, work) = (Slots::new(jobs), &work);
    if let [only] = owners {
        // Nobody else waits for a turn.
        slots.take(stop).iter().for_each(|slot| work(only, slot));
        return;
    }
    std::thread::scope(|scope| {
        for owner in owners {
            let Some(slot) = slots.take(stop) else { return };
            scope.spawn(move || work(owner, &slot));
        }
    });
}

impl Slots {
    /// So many turns, and at least one.
    #[must_use]
    pub fn new(jobs: usize) -> Self {
        Self { jobs: jobs.max(1), taken: Mutex::default(), freed: Condvar::new() }
    }

    /// Waits for a turn; `None` where `stop` is set first.
    pub fn take(&self, stop: &AtomicBool) -> Option<Slot<'_>> {
        let mut taken = self.taken();
        while !stop.load(Ordering::Relaxed) {
            if taken.turns < self.jobs && taken.beside < MOST_BESIDE {
                taken.turns += 1;
                return Some(Slot { slots: self, beside: AtomicBool::new(false) });
            }
            taken = self.freed.wait_timeout(taken, PAUSE).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot<'_> {
    /// Lets the next one begin, and goes on beside it.
    pub fn step_aside(&self) {
        if !self.beside.swap(true, Ordering::Relaxed) {
            let mut taken = self.slots.taken();
            taken.turns -= 1;
            taken.beside += 1;
            self.slots.freed.notify_one();
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        if self.beside.load(Ordering::Relaxed) {
            taken.beside -= 1;
        } else {
            taken.turns -= 1;
        }
        self.slots.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_steps_aside_lets_the_next_one_begin() {
        let (slots, stop) = (Slots::new(2), AtomicBool::new(false));
        let (first, second) = (slots.take(&stop).unwrap(), slots.take(&stop).unwrap());
        first.step_aside();
        first.step_aside();
        let third = slots.take(&stop).unwrap();
        drop(first);
        let taken = slots.taken();
        assert_eq!((taken.turns, taken.beside), (2, 0));
        drop(taken);
        stop.store(true, Ordering::Relaxed);
        assert!(slots.take(&stop).is_none());
        drop((second, third));
        assert_eq!(slots.taken().turns, 0);
    }
}
