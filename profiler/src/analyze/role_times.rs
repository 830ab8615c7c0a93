//! Each thread's waits by what the thread was during them.

use super::stack_facts::{WaitRole, class_of};
use super::whole::Whole;
use crate::recording::ThreadId;
use crate::report::StateTimes;
use crate::runtime::{Flavor, Role, State};
use crate::units::Nanos;
use std::collections::BTreeMap;

/// The waits of one role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TimesInRole {
    /// How many, open ones too.
    pub(super) waits: u64,
    /// Their blocked parts by state.
    pub(super) states: StateTimes,
}

impl TimesInRole {
    /// All blocked parts.
    pub(super) fn time(&self) -> Nanos {
        self.states.values().copied().sum()
    }
}

/// The waits of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RoleTimes {
    /// By role.
    pub(super) roles: BTreeMap<WaitRole, TimesInRole>,
}

impl RoleTimes {
    fn add(&mut self, state: State, role: Role, waits: u64, time: Nanos) {
        let times = self.roles.entry(WaitRole::new(state, role)).or_default();
        times.waits = times.waits.saturating_add(waits);
        *times.states.entry(state).or_default() += time;
    }

    /// All blocked parts.
    pub(super) fn time(&self) -> Nanos {
        self.roles.values().map(TimesInRole::time).sum()
    }

    /// Whether the thread had any wait of `role`.
    pub(super) fn has(&self, role: WaitRole) -> bool {
        self.roles.contains_key(&role)
    }

    /// The role with the most time; waits whose role is unknown have no say while others do.
    pub(super) fn main_wait_role(&self) -> Option<WaitRole> {
        self.roles
            .iter()
            .max_by_key(|(role, times)| {
                // Of equals the first in the order of roles, hence the reversal.
                let known = **role != WaitRole::Unknown;
                (known, times.time(), times.waits, std::cmp::Reverse(**role))
            })
            .map(|(role, _)| *role)
    }

    /// The role to report: that of most waiting time.
    pub(super) fn main_role(&self) -> Role {
        match self.main_wait_role() {
            Some(WaitRole::Role(role)) => role,
            Some(WaitRole::HandedOff) => Role::Worker(Flavor::MultiThread),
            Some(WaitRole::Unknown) | None => Role::None,
        }
    }

    /// The part of `time` that falls to `role`, by number of waits: a stretch on the CPU
    /// belongs to the role of the wait that it ended, and stretches are about as long in every
    /// role. Waits of unknown role share in none; a thread with no others falls to none.
    pub(super) fn part(&self, role: WaitRole, time: Nanos) -> Nanos {
        let waits = |wanted: &dyn Fn(WaitRole) -> bool| -> u128 {
            self.roles
                .iter()
                .filter(|(each, _)| wanted(**each))
                .map(|(_, times)| u128::from(times.waits))
                .sum()
        };
        let all = waits(&|each| each != WaitRole::Unknown);
        if all == 0 || role == WaitRole::Unknown {
            return Nanos::ZERO;
        }
        let part = u128::from(time.0) * waits(&|each| each == role) / all;
        Nanos(u64::try_from(part).unwrap_or(time.0))
    }

    /// Scales all times down so that they sum to `limit`; returns what was taken away.
    pub(super) fn clamp(&mut self, limit: Nanos) -> Nanos {
        let whole = self.time();
        if whole <= limit {
            return Nanos::ZERO;
        }
        let mut left = limit;
        for time in self.roles.values_mut().flat_map(|c| c.states.values_mut()) {
            let scaled = u128::from(time.0) * u128::from(limit.0) / u128::from(whole.0);
            // Scaling rounds down, so the sum of all parts stays within the limit; only a sum
            // that was cut off at `u64::MAX` can ask for more than is left.
            *time = Nanos(u64::try_from(scaled).unwrap_or(u64::MAX)).min(left);
            left = left.saturating_sub(*time);
        }
        // The rounding's nanoseconds go back to the longest, so that the sum is exact.
        if let Some(longest) = self
            .roles
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
pub(super) fn times(whole: &Whole<'_>) -> BTreeMap<ThreadId, RoleTimes> {
    let mut threads: BTreeMap<ThreadId, RoleTimes> = BTreeMap::new();
    for (thread, stack, waits) in whole.waits() {
        let (state, role) = class_of(whole.tables, stack);
        let times = threads.entry(thread).or_default();
        times.add(state, role, waits.waits, waits.blocked);
    }
    // A thread that never waited is what its samples say: it may compute without end.
    let mut sampled: BTreeMap<ThreadId, RoleTimes> = BTreeMap::new();
    for (&(thread, stack), &samples) in &whole.totals.samples {
        let (state, role) = class_of(whole.tables, stack);
        let times = sampled.entry(thread).or_default();
        times.add(state, role, samples, Nanos::ZERO);
    }
    for (thread, sampled) in sampled {
        let times = threads.entry(thread).or_default();
        if times.roles.keys().all(|role| *role == WaitRole::Unknown) {
            for (role, sums) in sampled.roles {
                times.roles.entry(role).or_default().waits += sums.waits;
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
        assert_eq!(times.part(WaitRole::MULTI_THREAD, Nanos(50)), Nanos(50));
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
        assert_eq!(times.part(WaitRole::MULTI_THREAD, Nanos(100)), Nanos(75));
        assert_eq!(times.part(WaitRole::HandedOff, Nanos(100)), Nanos(25));
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
