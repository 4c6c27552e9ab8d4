//! How many messages of a user's are answered, which code is awaited, and what a wrong one costs.

use super::state::{self, Pending, Proof, Purpose, Stage, State, Stop};
use crate::limits;

impl State {
    /// Whether one more message may be answered, which is counted: a user's own, and those that were moved, each have their
    /// bound.
    pub(super) fn has_room(&mut self, now: u64, is_own: bool) -> bool {
        self.answered.retain(|(at, _)| *at <= now && now - at < state::DAY);
        let most = if is_own { limits::ANSWERS.0 } else { limits::ANSWERS.1 };
        if self.answered.iter().filter(|(_, own)| *own == is_own).count() >= most {
            return false;
        }
        self.answered.push((now, is_own));
        true
    }

    /// The code that is awaited, and what it is for.
    pub(super) fn awaited(&self) -> Option<(Purpose, &Proof)> {
        match (&self.pending, &self.stop) {
            (Some(Pending { stage: Stage::Own(proof), .. }), _) => Some((Purpose::Own, proof)),
            (Some(Pending { stage: Stage::New(proof), .. }), _) => Some((Purpose::New, proof)),
            (Some(Pending { stage: Stage::Old(proof), .. }), _) => Some((Purpose::Old, proof)),
            (_, Some(Stop { proof: Some(proof), .. })) => Some((Purpose::Stop, proof)),
            _ => None,
        }
    }

    /// Whether a code is awaited.
    pub(super) fn awaits_code(&self) -> bool {
        self.awaited().is_some()
    }

    /// Drops what the code for `purpose` is about.
    pub(super) fn drop_awaited(&mut self, purpose: Purpose) {
        if purpose == Purpose::Stop {
            self.stop = None;
        } else {
            self.pending = None;
        }
    }

    /// Counts a wrong code; how many more may be tried. With the last one, what it was for is dropped.
    pub(super) fn count_wrong(&mut self, purpose: Purpose) -> u8 {
        let proof = match (&mut self.pending, &mut self.stop, purpose) {
            (_, Some(Stop { proof: Some(proof), .. }), Purpose::Stop) => proof,
            (Some(Pending { stage: Stage::Own(proof) | Stage::New(proof) | Stage::Old(proof), .. }), ..) => {
                proof
            }
            _ => return 0,
        };
        proof.wrong = proof.wrong.saturating_add(1);
        let left = state::TRIES.saturating_sub(proof.wrong);
        if left == 0 {
            self.drop_awaited(purpose);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::owner::Bytes;

    #[test]
    fn a_day_has_room_for_so_many_messages() {
        let mut state = State::default();
        let (own, moved) = limits::ANSWERS;
        let begin = 1_000_000;
        for (most, is_own) in [(moved, false), (own, true)] {
            for number in 0..most {
                assert!(state.has_room(begin + number as u64, is_own), "{number}");
            }
            assert!(!state.has_room(begin + state::DAY - 1, is_own), "the others have a bound of their own");
        }
        assert!(state.has_room(begin + state::DAY, true) && !state.has_room(begin + state::DAY, true));
        assert!(state.has_room(begin + 2 * state::DAY, false));
        assert_eq!(state.answered.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn what_waits_comes_before_what_is_stopped() {
        let stage = Stage::New(Proof::asked(1));
        let (user, certs) = ("alice".to_owned(), Bytes(Vec::new()));
        let pending = Pending { user: user.clone(), certs, also: false, before: Vec::new(), since: 1, stage };
        let stop = Stop { user, before: Vec::new(), proof: Some(Proof::asked(2)) };
        let mut state = State { pending: Some(pending), stop: Some(stop), ..State::default() };
        assert_eq!(state.awaited().map(|(purpose, proof)| (purpose, proof.since)), Some((Purpose::New, 1)));
        for left in (0..state::TRIES).rev() {
            assert_eq!(state.count_wrong(Purpose::New), left);
        }
        assert_eq!(state.awaited().map(|(purpose, _)| purpose), Some(Purpose::Stop));
        for left in (0..state::TRIES).rev() {
            assert_eq!(state.count_wrong(Purpose::Stop), left);
        }
        assert!(!state.awaits_code() && state.count_wrong(Purpose::Stop) == 0);
    }
}
