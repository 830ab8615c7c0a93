//! The blocking pools.

use super::concurrency::Concurrent;
use super::parts::Track;
use super::role_times::RoleTimes;
use super::stack_facts::WaitRole;
use super::thread_times::{self, BalancedTimes};
use super::whole::Whole;
use crate::recording::{ProcessId, ThreadId};
use crate::report::{BlockingPool, StateTimes};
use crate::runtime::State;
use crate::units::Pid;
use std::collections::BTreeMap;

/// Threads from which on a pool is near tokio's default limit: 80 % of 512
/// (`Builder::max_blocking_threads`).
const NEAR_LIMIT: usize = 512 * 8 / 10;

/// The blocking pools of each process, where any of their threads waited.
pub(super) fn blocking_pools(
    whole: &Whole<'_>,
    balanced: &[BalancedTimes],
    role_times: &BTreeMap<ThreadId, RoleTimes>,
    concurrent: &Concurrent,
) -> Vec<BlockingPool> {
    let mut threads: BTreeMap<ProcessId, usize> = BTreeMap::new();
    for (thread, times) in role_times {
        if times.has(WaitRole::POOL) {
            *threads.entry(thread.process).or_default() += 1;
        }
    }
    let pools = threads.into_iter();
    pools
        .map(|(process, threads)| {
            let peak = concurrent.of(Track::Pool(process)).peak();
            pool(whole.pid(process), process, balanced, [threads, peak])
        })
        .collect()
}

fn pool(
    pid: Pid,
    process: ProcessId,
    balanced: &[BalancedTimes],
    [threads, peak]: [usize; 2],
) -> BlockingPool {
    let mut states = StateTimes::new();
    for times in balanced
        .iter()
        .filter(|times| times.thread.process == process)
    {
        thread_times::add_all(&mut states, &times.states_as(WaitRole::POOL));
    }
    let time = |state: State| states.get(&state).copied().unwrap_or_default();
    let busy = time(State::Pool) + time(State::Running) + time(State::Runnable);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    BlockingPool {
        pid,
        threads: count(threads),
        busy_ns: busy,
        waiting_ns: time(State::Pool),
        peak_busy: count(peak),
        waiting_share: time(State::Pool).share_of(busy),
        near_default_limit: threads >= NEAR_LIMIT,
    }
}
