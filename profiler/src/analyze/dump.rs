//! What every thread does just now, from a short recording: its last instant, and what did not move
//! from its first one on.

mod circles;
mod runtimes;
mod threads;

use self::circles::{deadlocks, holders, standing, waits_for};
use self::runtimes::runtimes;
use self::threads::threads;
use super::full_pool::DEFAULT_LIMIT;
use super::guessed_groups::Drivers;
use super::time::rfc3339;
use crate::recording::{Header, Interval, Tables, ThreadId};
use crate::report::dump::{
    DUMP_SCHEMA, Dump, DumpKind, DumpRuntime, DumpThread, DumpVerdict, FullPool, Unseen,
};
use crate::runtime::{Queued, Role, State};
use crate::units::{Nanos, Pid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What a dump is made of.
#[derive(Clone, Copy, Debug)]
pub struct Looked<'a> {
    /// By what and where.
    pub header: &'a Header,
    /// What the interval names by index.
    pub tables: &'a Tables,
    /// All of the recording.
    pub interval: &'a Interval,
    /// For how long, at least, threads had not run at its end, by the scheduler's word.
    pub asleep: &'a BTreeMap<ThreadId, Nanos>,
    /// What waits for workers that are in a poll.
    pub queued: &'a BTreeMap<ThreadId, Queued>,
}

/// Makes a dump of a look.
#[must_use]
pub fn dump(looked: &Looked<'_>) -> Dump {
    let mut rows = threads(looked);
    let holders = holders(&rows);
    let deadlocks = deadlocks(&rows, &holders);
    for row in &mut rows {
        row.told.waits_for = waits_for(row.thread, &holders);
    }
    let standing = standing(&rows, &holders);
    let mut drivers = Drivers::default();
    drivers.add(looked.tables, looked.interval, usize::MAX);
    let runtimes = runtimes(&mut rows, &drivers, &deadlocks, &standing);
    let rank: BTreeMap<&str, usize> = (0..)
        .zip(&runtimes)
        .map(|(rank, runtime)| (runtime.id.as_str(), rank))
        .collect();
    let mut threads: Vec<DumpThread> = rows.into_iter().map(|row| row.told).collect();
    threads.sort_by_key(|thread| {
        let runtime = thread.runtime.as_deref().and_then(|id| rank.get(id));
        let state = order(thread.state);
        let since = Reverse(thread.since_ns);
        (
            runtime.copied().unwrap_or(usize::MAX),
            state,
            since,
            thread.tid,
        )
    });
    let full_pools = full_pools(&threads);
    let Looked {
        header,
        tables,
        interval,
        ..
    } = *looked;
    Dump {
        schema: DUMP_SCHEMA,
        tool: header.tool.clone(),
        host: header.host.clone(),
        taken_at: rfc3339(header.started_at + (interval.end - header.start).0 as f64 / 1e9),
        looked_ns: interval.end - interval.start,
        verdict: verdict(&runtimes, !deadlocks.is_empty(), !full_pools.is_empty()),
        full_pools,
        processes: tables.processes.clone(),
        unseen: unseen(looked, &threads),
        runtimes,
        deadlocks,
        threads,
    }
}

/// The order in which states are of interest.
const fn order(state: State) -> u8 {
    match state {
        State::Blocked => 0,
        State::Stopped => 1,
        State::HandedOff => 2,
        State::Runtime => 3,
        State::Running => 4,
        State::Runnable => 5,
        State::Pool => 6,
        State::Unknown => 7,
        State::Idle => 8,
        State::Other => 9,
    }
}

/// The pools of which all threads are in closures, and which are as large as tokio makes them.
fn full_pools(threads: &[DumpThread]) -> Vec<FullPool> {
    let mut pools: BTreeMap<Pid, (u32, bool)> = BTreeMap::new();
    for thread in threads {
        // What runs, or wants to, may be about to fetch the next closure.
        let is_taken = match thread.state {
            State::Pool => true,
            State::Idle if thread.role == Role::PoolThread => false,
            _ => continue,
        };
        let (taken, all) = pools.entry(thread.pid).or_insert((0, true));
        *taken += u32::from(is_taken);
        *all &= is_taken;
    }
    let full = pools
        .into_iter()
        .filter(|(_, (taken, all))| *all && *taken >= DEFAULT_LIMIT);
    full.map(|(pid, (threads, _))| FullPool { pid, threads })
        .collect()
}

fn verdict(runtimes: &[DumpRuntime], deadlock: bool, is_pool_full: bool) -> DumpVerdict {
    let gravest = runtimes.iter().min_by_key(|runtime| runtime.finding);
    let of = |runtime: &DumpRuntime| DumpVerdict {
        kind: runtime.finding,
        runtime: Some(runtime.id.clone()),
    };
    match gravest {
        // Threads outside the runtimes wait for each other.
        Some(gravest) if deadlock && gravest.finding != DumpKind::Wedged => DumpVerdict {
            kind: DumpKind::Wedged,
            runtime: None,
        },
        Some(gravest) if is_pool_full && gravest.finding > DumpKind::PoolFull => DumpVerdict {
            kind: DumpKind::PoolFull,
            runtime: None,
        },
        Some(gravest) => of(gravest),
        None => DumpVerdict {
            kind: if deadlock {
                DumpKind::Wedged
            } else {
                DumpKind::Unclear
            },
            runtime: None,
        },
    }
}

fn unseen(looked: &Looked<'_>, threads: &[DumpThread]) -> Unseen {
    let count = |is: &dyn Fn(&DumpThread) -> bool| {
        let count = threads.iter().filter(|thread| is(thread)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    // Two processes of one program lack the same.
    let programs = |lacks: &dyn Fn(&crate::recording::Process) -> bool| {
        let processes = looked.tables.processes.iter();
        let lacking: BTreeSet<&str> = processes
            .filter(|process| lacks(process))
            .map(|process| process.exe.as_str())
            .collect();
        u32::try_from(lacking.len()).unwrap_or(u32::MAX)
    };
    let runs = |thread: &DumpThread| matches!(thread.state, State::Running | State::Runnable);
    Unseen {
        without_stack: count(&|thread| !runs(thread) && thread.stack.is_empty()),
        unsampled: count(&|thread| thread.state == State::Running && thread.stack.is_empty()),
        truncated: count(&|thread| thread.truncated.is_some()),
        unknown: count(&|thread| thread.state == State::Unknown && thread.role == Role::None),
        without_names: programs(&|process| !process.has_symbols),
        without_lines: programs(&|process| !process.has_lines),
    }
}

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
