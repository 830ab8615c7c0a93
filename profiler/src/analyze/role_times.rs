//! Each thread's waits by what the thread was during them.

use crate::recording::{Recording, StackId};
use crate::report::StateTimes;
use crate::runtime::{Flavor, Role, State};
use crate::units::{Nanos, Tid};
use std::collections::BTreeMap;

/// What a thread was during a wait, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// What the rules said.
    Role(Role),
    /// Inside `block_in_place`: its core, and with it the role, belonged to another thread.
    HandedOff,
    /// The rules could not tell.
    Unknown,
}

impl Class {
    /// The workers of a `multi_thread` runtime.
    pub(super) const MULTI_THREAD: Class = Class::Role(Role::Worker(Flavor::MultiThread));
    /// The thread of a `current_thread` runtime.
    pub(super) const CURRENT_THREAD: Class = Class::Role(Role::Worker(Flavor::CurrentThread));
    /// Threads of the blocking pool.
    pub(super) const POOL: Class = Class::Role(Role::PoolThread);

    /// The class of waits in `state` with `role`.
    pub(super) fn of(state: State, role: Role) -> Class {
        match (state, role) {
            (State::HandedOff, _) => Class::HandedOff,
            // A state may be unknown where the role is not: a worker's truncated stack.
            (State::Unknown, Role::None) => Class::Unknown,
            _ => Class::Role(role),
        }
    }
}

/// State and role of waits with stack `id`; a stack that is not there has neither.
pub(super) fn verdict_of(recording: &Recording, id: StackId) -> (State, Role) {
    usize::try_from(id.0)
        .ok()
        .and_then(|index| recording.stacks.get(index))
        .map_or((State::Unknown, Role::None), |stack| {
            (stack.verdict.state, stack.verdict.role)
        })
}

/// The waits of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClassTimes {
    /// How many, open ones too.
    pub(super) waits: u64,
    /// Their blocked parts by state.
    pub(super) states: StateTimes,
}

impl ClassTimes {
    /// All blocked parts.
    pub(super) fn time(&self) -> Nanos {
        self.states.values().copied().sum()
    }
}

/// The waits of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RoleTimes {
    /// By class.
    pub(super) classes: BTreeMap<Class, ClassTimes>,
}

impl RoleTimes {
    fn add(&mut self, state: State, role: Role, waits: u64, time: Nanos) {
        let class = self.classes.entry(Class::of(state, role)).or_default();
        class.waits = class.waits.saturating_add(waits);
        *class.states.entry(state).or_default() += time;
    }

    /// All blocked parts.
    pub(super) fn time(&self) -> Nanos {
        self.classes.values().map(ClassTimes::time).sum()
    }

    /// Whether the thread had any wait of `class`.
    pub(super) fn has(&self, class: Class) -> bool {
        self.classes.contains_key(&class)
    }

    /// The class with the most time; waits whose class is unknown have no say while others do.
    pub(super) fn main_class(&self) -> Option<Class> {
        self.classes
            .iter()
            .max_by_key(|(class, times)| {
                // Of equals the first in the order of classes, hence the reversal.
                let known = **class != Class::Unknown;
                (known, times.time(), times.waits, std::cmp::Reverse(**class))
            })
            .map(|(class, _)| *class)
    }

    /// The role to report: that of the main class.
    pub(super) fn main_role(&self) -> Role {
        match self.main_class() {
            Some(Class::Role(role)) => role,
            Some(Class::HandedOff) => Role::Worker(Flavor::MultiThread),
            Some(Class::Unknown) | None => Role::None,
        }
    }

    /// The part of `time` that falls to `class`, by number of waits: a stretch on the CPU
    /// belongs to the role of the wait that it ended, and stretches are about as long in every
    /// role. Waits of unknown class share in none; a thread with no others falls to none.
    pub(super) fn part(&self, class: Class, time: Nanos) -> Nanos {
        let waits = |wanted: &dyn Fn(Class) -> bool| -> u128 {
            self.classes
                .iter()
                .filter(|(class, _)| wanted(**class))
                .map(|(_, times)| u128::from(times.waits))
                .sum()
        };
        let all = waits(&|class| class != Class::Unknown);
        if all == 0 || class == Class::Unknown {
            return Nanos::ZERO;
        }
        let part = u128::from(time.0) * waits(&|each| each == class) / all;
        Nanos(u64::try_from(part).unwrap_or(time.0))
    }

    /// Scales all times down so that they sum to `limit`; returns what was taken away.
    pub(super) fn clamp(&mut self, limit: Nanos) -> Nanos {
        let whole = self.time();
        if whole <= limit {
            return Nanos::ZERO;
        }
        let mut left = limit;
        for time in self
            .classes
            .values_mut()
            .flat_map(|c| c.states.values_mut())
        {
            let scaled = u128::from(time.0) * u128::from(limit.0) / u128::from(whole.0);
            // Scaling rounds down, so the sum of all parts stays within the limit; only a sum
            // that was cut off at `u64::MAX` can ask for more than is left.
            *time = Nanos(u64::try_from(scaled).unwrap_or(u64::MAX)).min(left);
            left = left.saturating_sub(*time);
        }
        // The rounding's nanoseconds go back to the longest, so that the sum is exact.
        if let Some(longest) = self
            .classes
            .values_mut()
            .flat_map(|c| c.states.values_mut())
            .max()
        {
            *longest += left;
        }
        whole.saturating_sub(limit)
    }
}

/// Every thread's finished and open waits.
pub(super) fn times(recording: &Recording) -> BTreeMap<Tid, RoleTimes> {
    let mut threads: BTreeMap<Tid, RoleTimes> = BTreeMap::new();
    for total in &recording.totals {
        let (state, role) = verdict_of(recording, total.stack);
        let times = threads.entry(total.tid).or_default();
        times.add(state, role, total.waits, total.blocked);
    }
    for open in &recording.open_waits {
        let (state, role) = verdict_of(recording, open.stack);
        let times = threads.entry(open.tid).or_default();
        times.add(state, role, 1, recording.end - open.since);
    }
    // A thread that never waited is what its samples say: it may compute without end.
    let mut sampled: BTreeMap<Tid, RoleTimes> = BTreeMap::new();
    for total in &recording.samples {
        let (state, role) = verdict_of(recording, total.stack);
        let times = sampled.entry(total.tid).or_default();
        times.add(state, role, total.samples, Nanos::ZERO);
    }
    for (tid, sampled) in sampled {
        let times = threads.entry(tid).or_default();
        if times.classes.keys().all(|class| *class == Class::Unknown) {
            for (class, sums) in sampled.classes {
                times.classes.entry(class).or_default().waits += sums.waits;
            }
        }
    }
    threads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally_of(entries: &[(State, Role, u64, u64)]) -> RoleTimes {
        let mut times = RoleTimes::default();
        for &(state, role, waits, time) in entries {
            times.add(state, role, waits, Nanos(time));
        }
        times
    }

    const WORKER: Role = Role::Worker(Flavor::MultiThread);

    #[test]
    fn the_main_role_is_that_of_most_time() {
        let times = tally_of(&[
            (State::Blocked, WORKER, 100, 10),
            (State::Idle, Role::PoolThread, 1, 90),
        ]);
        assert_eq!(times.main_role(), Role::PoolThread);
    }

    #[test]
    fn unknown_waits_do_not_vote() {
        let times = tally_of(&[
            (State::Unknown, Role::None, 100, 1000),
            (State::Idle, WORKER, 1, 1),
        ]);
        assert_eq!(times.main_role(), WORKER);
        assert_eq!(times.part(Class::MULTI_THREAD, Nanos(50)), Nanos(50));
        assert_eq!(
            tally_of(&[(State::Unknown, Role::None, 1, 1)]).main_role(),
            Role::None
        );
    }

    #[test]
    fn on_cpu_time_goes_by_number_of_waits() {
        let times = tally_of(&[
            (State::Idle, WORKER, 3, 10),
            (State::HandedOff, WORKER, 1, 9_000),
        ]);
        assert_eq!(times.part(Class::MULTI_THREAD, Nanos(100)), Nanos(75));
        assert_eq!(times.part(Class::HandedOff, Nanos(100)), Nanos(25));
    }

    #[test]
    fn a_clamp_leaves_exactly_the_limit() {
        let mut times = tally_of(&[
            (State::Blocked, WORKER, 1, 333),
            (State::Idle, WORKER, 1, 333),
            (State::Idle, Role::PoolThread, 1, 334),
        ]);
        assert_eq!(times.clamp(Nanos(100)), Nanos(900));
        assert_eq!(times.time(), Nanos(100));
        assert_eq!(times.clamp(Nanos(100)), Nanos::ZERO);
    }

    #[test]
    fn a_clamp_survives_sums_beyond_the_clock() {
        let mut times = tally_of(&[
            (State::Blocked, WORKER, 1, u64::MAX),
            (State::Idle, WORKER, 1, u64::MAX),
        ]);
        times.clamp(Nanos(100));
        assert_eq!(times.time(), Nanos(100));
    }
}
