//! The blocking pools.

use super::concurrency::{Concurrent, Track};
use super::role_times::RoleTimes;
use super::stack_facts::WaitRole;
use super::thread_times::{self, BalancedTimes};
use crate::recording::{ProcessId, ThreadId};
use crate::report::{BlockingPool, StateTimes};
use crate::runtime::State;
use std::collections::BTreeMap;

/// Threads from which on a pool is near tokio's default limit: 80 % of 512
/// (`Builder::max_blocking_threads`).
const NEAR_LIMIT: usize = 512 * 8 / 10;

/// The blocking pools of all processes together, where any of their threads waited.
pub(super) fn blocking_pool(
    balanced: &[BalancedTimes],
    role_times: &BTreeMap<ThreadId, RoleTimes>,
    concurrent: &Concurrent,
) -> Option<BlockingPool> {
    let mut threads: BTreeMap<ProcessId, usize> = BTreeMap::new();
    for (thread, times) in role_times {
        if times.has(WaitRole::POOL) {
            *threads.entry(thread.process).or_default() += 1;
        }
    }
    if threads.is_empty() {
        return None;
    }
    let mut states = StateTimes::new();
    let pools = balanced.iter();
    for times in pools.filter(|times| threads.contains_key(&times.thread.process)) {
        thread_times::add_all(&mut states, &times.states_as(WaitRole::POOL));
    }
    let time = |state: State| states.get(&state).copied().unwrap_or_default();
    let busy = time(State::Pool) + time(State::Running) + time(State::Runnable);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Some(BlockingPool {
        threads: count(threads.values().sum()),
        busy_ns: busy,
        waiting_ns: time(State::Pool),
        peak_busy: count(concurrent.of(Track::Pool).peak()),
        waiting_share: time(State::Pool).share_of(busy),
        // The limit is each process's own.
        near_default_limit: threads.values().any(|threads| *threads >= NEAR_LIMIT),
    })
}
