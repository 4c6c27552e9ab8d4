//! The order in which the sets of a transaction end their messages, where the client takes one answer for all recipients.
//!
//! A client that is refused for the time being sends all of it again, to those as well who have got it. So no set ends its message
//! before every set has handed on all but the end of it, each waits for the answer to the one before, and after such a refusal none
//! ends its message any more. Who gets a message twice then are those of a set before one that the next hop refuses at the very end.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The turns of all sets.
#[derive(Debug)]
pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// How many sets there are, and how many of them wait for their turn or had it.
    sets: usize,
    arrived: usize,
    /// How many have had it.
    done: usize,
    failed: bool,
}

/// One set's. Dropped before its [`Turn::pass`], all that have not had theirs lose it.
#[derive(Debug)]
pub struct Turn<'a>(Option<&'a Turns>);

impl Turns {
    /// For so many sets.
    #[must_use]
    pub fn new(sets: usize) -> Self {
        let state = State { sets, arrived: 0, done: 0, failed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// That of one set.
    #[must_use]
    pub fn turn(&self) -> Turn<'_> {
        Turn(Some(self))
    }

    /// Nobody can leave it in a bad state: each change is one assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The turn of a set that need not wait for others.
    #[must_use]
    pub fn alone() -> Self {
        Turn(None)
    }

    /// Waits for it; false where another set has failed.
    #[must_use]
    pub fn wait(&self) -> bool {
        let Some(turns) = self.0 else { return true };
        let mut state = turns.state();
        let before = state.arrived;
        state.arrived += 1;
        turns.changed.notify_all();
        while !state.failed && (state.arrived < state.sets || state.done < before) {
            state = turns.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.failed
    }

    /// Lets the next set have its turn.
    pub fn pass(mut self) {
        if let Some(turns) = self.0.take() {
            turns.state().done += 1;
            turns.changed.notify_all();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(turns) = self.0 {
            turns.state().failed = true;
            turns.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// How many of three sets have ended, where the one that arrives at this place fails, before its turn or in it.
    fn ended(failing: Option<(usize, bool)>) -> usize {
        let (turns, ended, at_once) = (Turns::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for place in 0..3 {
                let (turns, ended, at_once) = (&turns, &ended, &at_once);
                scope.spawn(move || {
                    let turn = turns.turn();
                    while turns.state().arrived < place && !turns.state().failed {
                        thread::yield_now();
                    }
                    if failing == Some((place, true)) || !turn.wait() {
                        return;
                    }
                    assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                    at_once.fetch_sub(1, Ordering::SeqCst);
                    if failing != Some((place, false)) {
                        ended.fetch_add(1, Ordering::SeqCst);
                        turn.pass();
                    }
                });
            }
        });
        ended.into_inner()
    }

    #[test]
    fn all_end_one_after_the_other_or_none_behind_one_that_fails() {
        assert_eq!(ended(None), 3);
        for place in 0..3 {
            assert_eq!(ended(Some((place, true))), 0, "{place}");
            assert_eq!(ended(Some((place, false))), place, "{place}");
        }
        assert!(Turn::alone().wait());
    }
}
