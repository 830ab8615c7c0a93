//! The blocking pools.

use super::concurrency::Concurrent;
use super::parts::Track;
use super::pool_jobs::PoolLine;
use super::role_times::RoleTimes;
use super::stack_facts::WaitRole;
use super::thread_times::{self, BalancedTimes};
use super::whole::Whole;
use crate::recording::{ProcessId, ThreadId};
use crate::report::{BlockingPool, StateTimes};
use crate::runtime::State;
use crate::units::{Nanos, Pid};
use std::collections::BTreeMap;

/// Threads from which on a pool is near tokio's default limit: 80 % of 512
/// (`Builder::max_blocking_threads`).
const NEAR_LIMIT: usize = 512 * 8 / 10;

/// The blocking pools of each process, where any of their threads waited.
pub(super) fn blocking_pools(
    whole: &Whole<'_>,
    balanced: &[BalancedTimes],
    role_times: &BTreeMap<ThreadId, RoleTimes>,
    (concurrent, lines): (&Concurrent, &BTreeMap<ProcessId, PoolLine>),
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
            let sweep = concurrent.of(Track::Pool(process));
            let all_busy = match sweep.peak() {
                0 => Nanos::ZERO,
                peak => sweep.at_once(peak).last().copied().unwrap_or_default(),
            };
            let line = lines.get(&process).copied().unwrap_or_default();
            let states = states(process, balanced);
            pool(
                whole.pid(process),
                &states,
                [threads, sweep.peak()],
                all_busy,
                line,
            )
        })
        .collect()
}

/// Where the time of a pool's threads went.
fn states(process: ProcessId, balanced: &[BalancedTimes]) -> StateTimes {
    let mut states = StateTimes::new();
    for times in balanced
        .iter()
        .filter(|times| times.thread.process == process)
    {
        thread_times::add_all(&mut states, &times.states_as(WaitRole::POOL));
    }
    states
}

/// The pool of which `threads` were there and `peak` busy at once, all of them for `all_busy`.
fn pool(
    pid: Pid,
    states: &StateTimes,
    [threads, peak]: [usize; 2],
    all_busy: Nanos,
    line: PoolLine,
) -> BlockingPool {
    let time = |state: State| states.get(&state).copied().unwrap_or_default();
    let busy = time(State::Pool) + time(State::Running) + time(State::Runnable);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    BlockingPool {
        pid,
        threads: count(threads),
        busy_ns: busy,
        waiting_ns: time(State::Pool),
        waiting_share: time(State::Pool).share_of(busy),
        peak_busy: count(peak),
        peak_ns: all_busy,
        closures: line.jobs,
        closures_queued: line.queued,
        near_default_limit: threads >= NEAR_LIMIT,
        was_full: false,
    }
}
