//! Every nanosecond of a thread's life in exactly one state.

use super::role_times::RoleTimes;
use super::stack_facts::WaitRole;
use super::thread_sums::ThreadSums;
use crate::recording::ThreadId;
use crate::report::StateTimes;
use crate::runtime::State;
use crate::units::Nanos;

/// One thread's times, which sum to its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BalancedTimes {
    /// The thread.
    pub(super) thread: ThreadId,
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
    /// What had to be taken away for them to sum to it.
    pub(super) clamped: Nanos,
}

impl BalancedTimes {
    /// Balances `sums` with the thread's waits: what a life has no room for is cut and
    /// counted, what no wait accounts for is the rest.
    pub(super) fn balance(
        thread: ThreadId,
        sums: &ThreadSums,
        mut times: RoleTimes,
    ) -> BalancedTimes {
        let lived = sums.lived;
        let running = sums.running.min(lived);
        let runnable = sums.runnable.min(lived.saturating_sub(running));
        let off_cpu = lived.saturating_sub(running).saturating_sub(runnable);
        let clamped = sums.running.saturating_sub(running)
            + sums.runnable.saturating_sub(runnable)
            + times.clamp(off_cpu);
        let rest = off_cpu.saturating_sub(times.time());
        BalancedTimes {
            thread,
            lived,
            running,
            in_calls: sums.in_calls.min(running),
            runnable,
            times,
            rest,
            clamped,
        }
    }

    /// All states; they sum to `lived`.
    pub(super) fn states(&self) -> StateTimes {
        let mut states = StateTimes::new();
        for role in self.times.roles.values() {
            add_all(&mut states, &role.states);
        }
        add(&mut states, State::Running, self.running);
        add(&mut states, State::Runnable, self.runnable);
        add(&mut states, State::Unknown, self.rest);
        states.retain(|_, time| *time > Nanos::ZERO);
        states
    }

    /// The states of the part of the thread's life in which it had `role`: its waits in that
    /// role exactly, and of all else the part that [`RoleTimes::part`] gives.
    pub(super) fn states_as(&self, role: WaitRole) -> StateTimes {
        let mut states = StateTimes::new();
        if let Some(times) = self.times.roles.get(&role) {
            add_all(&mut states, &times.states);
        }
        let unknown = self.times.roles.get(&WaitRole::Unknown);
        let unclear = self.rest + unknown.map_or(Nanos::ZERO, |times| times.time());
        for (state, time) in [
            (State::Running, self.running),
            (State::Runnable, self.runnable),
            (State::Unknown, unclear),
        ] {
            add(&mut states, state, self.times.part(role, time));
        }
        states.retain(|_, time| *time > Nanos::ZERO);
        states
    }
}

/// Adds `time` to `state`.
fn add(states: &mut StateTimes, state: State, time: Nanos) {
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
