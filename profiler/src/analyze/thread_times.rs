//! The books: every nanosecond of a thread's life in exactly one state.

use super::role_times::{Class, RoleTimes};
use crate::recording::ThreadRecord;
use crate::report::StateTimes;
use crate::runtime::State;
use crate::units::{Nanos, Tid};

/// One thread's balanced books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ThreadTimes {
    /// The thread.
    pub(super) tid: Tid,
    /// How long it lived within the recording; the states sum to this.
    pub(super) lived: Nanos,
    /// On a CPU.
    pub(super) running: Nanos,
    /// The part of that inside system calls.
    pub(super) in_calls: Nanos,
    /// Waiting for one.
    pub(super) runnable: Nanos,
    /// Its waits, cut to what the life has room for.
    pub(super) times: RoleTimes,
    /// Off-CPU time that no wait accounts for.
    pub(super) rest: Nanos,
    /// What had to be taken away for the books to balance.
    pub(super) clamped: Nanos,
}

impl ThreadTimes {
    /// Balances `record` with the thread's waits: what a life has no room for is cut and
    /// counted, what no wait accounts for is the rest.
    pub(super) fn balance(record: &ThreadRecord, mut times: RoleTimes) -> ThreadTimes {
        let lived = record.lived;
        let running = record.running.min(lived);
        let runnable = record.runnable.min(lived.saturating_sub(running));
        let off_cpu = lived.saturating_sub(running).saturating_sub(runnable);
        let clamped = record.running.saturating_sub(running)
            + record.runnable.saturating_sub(runnable)
            + times.clamp(off_cpu);
        let rest = off_cpu.saturating_sub(times.time());
        ThreadTimes {
            tid: record.tid,
            lived,
            running,
            in_calls: record.in_calls.min(running),
            runnable,
            times,
            rest,
            clamped,
        }
    }

    /// All states; they sum to `lived`.
    pub(super) fn states(&self) -> StateTimes {
        let mut states = StateTimes::new();
        for class in self.times.classes.values() {
            add_all(&mut states, &class.states);
        }
        add(&mut states, State::Running, self.running);
        add(&mut states, State::Runnable, self.runnable);
        add(&mut states, State::Unknown, self.rest);
        states.retain(|_, time| *time > Nanos::ZERO);
        states
    }

    /// The states of the part of the thread's life in which it was of `class`: its waits of that
    /// class exactly, and of all else the part that [`RoleTimes::part`] gives.
    pub(super) fn states_as(&self, class: Class) -> StateTimes {
        let mut states = StateTimes::new();
        if let Some(times) = self.times.classes.get(&class) {
            add_all(&mut states, &times.states);
        }
        let unknown = self.times.classes.get(&Class::Unknown);
        let unclear = self.rest + unknown.map_or(Nanos::ZERO, |times| times.time());
        for (state, time) in [
            (State::Running, self.running),
            (State::Runnable, self.runnable),
            (State::Unknown, unclear),
        ] {
            add(&mut states, state, self.times.part(class, time));
        }
        states.retain(|_, time| *time > Nanos::ZERO);
        states
    }
}

/// Adds `time` to `state`.
pub(super) fn add(states: &mut StateTimes, state: State, time: Nanos) {
    *states.entry(state).or_default() += time;
}

/// Adds every entry of `more`.
pub(super) fn add_all(states: &mut StateTimes, more: &StateTimes) {
    for (&state, &time) in more {
        add(states, state, time);
    }
}

/// All states together.
pub(super) fn sum(states: &StateTimes) -> Nanos {
    states.values().copied().sum()
}
