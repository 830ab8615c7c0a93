//! What threads did, slice by slice: for views that scroll with time.

use crate::cause::Cause;
use crate::runtime::State;
use crate::units::{Nanos, Pid, Tid};

/// The length of a slice. Slices begin at multiples of it on the kernel's clock.
pub const SLICE: Nanos = Nanos(250_000_000);

/// What one thread did in one slice, or in several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Nanoseconds by state, in the order of [`State::ALL`].
    times: [u64; State::ALL.len()],
    /// What it was blocked for most of the blocked time, and by how much that is more than the rest.
    cause: Option<(Cause, u64)>,
}

impl Slice {
    /// Adds time in `state`; of waits with their cause.
    pub fn add(&mut self, state: State, time: Nanos, cause: Option<Cause>) {
        if let Some(sum) = self.times.get_mut(state as usize) {
            *sum = sum.saturating_add(time.0);
        }
        if let Some(cause) = cause.filter(|_| state == State::Blocked) {
            self.vote(cause, time.0);
        }
    }

    /// Adds another slice.
    pub fn merge(&mut self, other: &Slice) {
        for (sum, more) in self.times.iter_mut().zip(other.times) {
            *sum = sum.saturating_add(more);
        }
        if let Some((cause, lead)) = other.cause {
            self.vote(cause, lead);
        }
    }

    /// One cause stays (Boyer and Moore's majority vote): the one with most of the time, where any
    /// has more than half.
    fn vote(&mut self, cause: Cause, time: u64) {
        self.cause = match self.cause {
            Some((first, lead)) if first == cause => Some((first, lead.saturating_add(time))),
            Some((first, lead)) if lead >= time => Some((first, lead - time)),
            Some((_, lead)) => Some((cause, time - lead)),
            None => Some((cause, time)),
        };
    }

    /// The time in a state.
    #[must_use]
    pub fn time(&self, state: State) -> Nanos {
        Nanos(self.times.get(state as usize).copied().unwrap_or_default())
    }

    /// The time in all states.
    #[must_use]
    pub fn whole(&self) -> Nanos {
        self.times.iter().copied().map(Nanos).sum()
    }

    /// What it was blocked for.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.cause.map(|(cause, _)| cause)
    }

    /// The state with the most time; none where there is no time.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        let times = State::ALL.iter().map(|state| (self.time(*state), *state));
        let most = times.max_by_key(|(time, state)| (*time, std::cmp::Reverse(*state)));
        most.filter(|(time, _)| *time > Nanos::ZERO)
            .map(|(_, state)| state)
    }
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its name, raw.
    pub name: String,
    /// The runtime that it works for, where that is known.
    pub runtime: Option<String>,
    /// The number of the first of `slices`: its begin, in [`SLICE`]s.
    pub first: u64,
    /// One after another.
    pub slices: Vec<Slice>,
}

impl Lane {
    /// `count` slices from number `from` on, together; nothing of those that are not known.
    #[must_use]
    pub fn between(&self, from: u64, count: u64) -> Slice {
        let mut together = Slice::default();
        for number in from..from.saturating_add(count) {
            let index = number.checked_sub(self.first);
            let index = index.and_then(|index| usize::try_from(index).ok());
            if let Some(slice) = index.and_then(|index| self.slices.get(index)) {
                together.merge(slice);
            }
        }
        together
    }

    /// The number of the slice after the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.slices.len() as u64)
    }
}

/// A runtime over the last minutes, one point an interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trend {
    /// The share of the workers' time in which they were blocked, 0 to 1, oldest first.
    pub blocked: Vec<f64>,
    /// The share of the time in which all of them were, likewise.
    pub starved: Vec<f64>,
    /// Points before the first of these.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_has_the_state_and_the_cause_with_the_most_time() {
        let mut slice = Slice::default();
        assert_eq!((slice.state(), slice.cause()), (None, None));
        slice.add(State::Running, Nanos(40), None);
        slice.add(State::Blocked, Nanos(30), Some(Cause::Lock));
        slice.add(State::Blocked, Nanos(50), Some(Cause::Network));
        assert_eq!(slice.state(), Some(State::Blocked));
        assert_eq!(slice.cause(), Some(Cause::Network));
        let mut other = Slice::default();
        other.add(State::Idle, Nanos(100), None);
        other.add(State::Blocked, Nanos(60), Some(Cause::Lock));
        slice.merge(&other);
        assert_eq!(slice.time(State::Blocked), Nanos(140));
        assert_eq!(slice.whole(), Nanos(280));
        assert_eq!(slice.cause(), Some(Cause::Lock));
    }

    #[test]
    fn a_lane_sums_what_it_knows() {
        let mut slice = Slice::default();
        slice.add(State::Running, Nanos(7), None);
        let lane = Lane {
            pid: Pid(1),
            tid: Tid(2),
            name: String::new(),
            runtime: None,
            first: 10,
            slices: vec![slice; 3],
        };
        assert_eq!(lane.end(), 13);
        assert_eq!(lane.between(8, 3).whole(), Nanos(7));
        assert_eq!(lane.between(10, 100).whole(), Nanos(21));
        assert_eq!(lane.between(20, 4), Slice::default());
    }
}
