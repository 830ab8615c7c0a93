//! Closures that threads of the blocking pool ran, and whether they waited in line for a thread.
//!
//! A thread of the pool that has finished one closure and finds no other parks. So one that began
//! more closures than it parked found them waiting: no thread was free when they came.

use super::stack_facts::class_of;
use super::whole::Whole;
use crate::recording::{Interval, ProcessId, Tables, ThreadId};
use crate::runtime::{Role, State};
use std::collections::BTreeMap;

/// Threads whose closures are counted.
const MAX_THREADS: usize = 1 << 14;

/// The closures of each thread, by the ids that tokio gives them as to tasks: those in which a wait was
/// recorded by itself.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolJobs {
    threads: BTreeMap<ThreadId, Jobs>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Jobs {
    /// The last one.
    last: u64,
    count: u64,
}

/// The closures of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PoolLine {
    /// How many were seen.
    pub(super) jobs: u64,
    /// How many of them waited in line, at least.
    pub(super) queued: u64,
}

impl PoolJobs {
    /// Adds the waits of the next interval.
    pub(super) fn add(&mut self, tables: &Tables, interval: &Interval) {
        for wait in &interval.waits {
            let Some(id) = wait.task_id else { continue };
            if class_of(tables, wait.stack) != (State::Pool, Role::PoolThread) {
                continue;
            }
            let is_known = self.threads.contains_key(&wait.thread);
            if !is_known && self.threads.len() >= MAX_THREADS {
                continue;
            }
            let jobs = self.threads.entry(wait.thread).or_default();
            if jobs.count == 0 || jobs.last != id {
                *jobs = Jobs {
                    last: id,
                    count: jobs.count.saturating_add(1),
                };
            }
        }
    }

    /// Those of each process.
    pub(super) fn lines(&self, whole: &Whole<'_>) -> BTreeMap<ProcessId, PoolLine> {
        let mut parks: BTreeMap<ThreadId, u64> = BTreeMap::new();
        for (thread, stack, waits) in whole.waits() {
            if class_of(whole.tables, stack) == (State::Idle, Role::PoolThread) {
                let parks = parks.entry(thread).or_default();
                *parks = parks.saturating_add(waits.waits);
            }
        }
        let mut lines: BTreeMap<ProcessId, PoolLine> = BTreeMap::new();
        for (thread, jobs) in &self.threads {
            let line = lines.entry(thread.process).or_default();
            let parks = parks.get(thread).copied().unwrap_or_default();
            line.jobs = line.jobs.saturating_add(jobs.count);
            // The first one may be what the thread was started for.
            let found = jobs.count.saturating_sub(1).saturating_sub(parks);
            line.queued = line.queued.saturating_add(found);
        }
        lines
    }
}
