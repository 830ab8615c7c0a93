//! Which `multi_thread` runtime each thread works for.
//!
//! tokio's thread-local state names a runtime by the address of its scheduler's handle. A thread
//! that has none, as its state is not known, is taken for one of the runtime with the most workers in
//! its process: where no state is known at all, all workers of a process are one runtime.
//!
//! A program may drop its runtime and make it anew, or a library make one for each call. Runtimes
//! of one process whose workers have the same name, and of which each began after the one before it
//! had ended, are told as one.

use super::stack_facts::WaitRole;
use super::thread_sums::ThreadSums;
use crate::recording::{ProcessId, StackId, Tables, ThreadId};
use crate::runtime::tokio::RuntimeHandle;
use crate::units::{Nanos, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A `multi_thread` runtime, or several that followed each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MultiThread {
    pub(super) process: ProcessId,
    /// That of the first one; none where the runtimes of the process are not told apart.
    handle: Option<RuntimeHandle>,
}

/// The handle of a runtime, and its process.
type Handle = (ProcessId, RuntimeHandle);

/// The runtimes of all threads.
#[derive(Clone, Debug, Default)]
pub(super) struct Homes {
    of_thread: BTreeMap<ThreadId, RuntimeHandle>,
    /// The one with the most workers.
    of_process: BTreeMap<ProcessId, RuntimeHandle>,
    /// Of a runtime that followed another one, the first of the row.
    first: BTreeMap<Handle, RuntimeHandle>,
    /// Threads that were workers, and from when to when they lived.
    workers: BTreeMap<ThreadId, Life>,
}

/// From when to when something was.
type Life = (Timestamp, Timestamp);

/// What is known of a runtime.
struct Known<'a> {
    handle: Handle,
    /// The name of its workers, without a number at its end.
    name: &'a str,
    life: Life,
    workers: usize,
}

impl Homes {
    /// By the waits of threads, with their blocked time: of several runtimes in which one thread
    /// waited, the one in which it waited longest.
    pub(super) fn of(
        tables: &Tables,
        threads: &BTreeMap<ThreadId, ThreadSums>,
        waits: impl Iterator<Item = (ThreadId, StackId, Nanos)>,
    ) -> Homes {
        let mut workers = BTreeSet::new();
        let mut times: BTreeMap<ThreadId, BTreeMap<RuntimeHandle, (bool, Nanos)>> = BTreeMap::new();
        for (thread, id, time) in waits {
            let role = WaitRole::of(tables, id);
            let works = matches!(role, WaitRole::MULTI_THREAD | WaitRole::HandedOff);
            if role == WaitRole::MULTI_THREAD {
                workers.insert(thread);
            }
            if !works && role != WaitRole::POOL {
                continue;
            }
            if let Some(handle) = tables.stack(id).and_then(|stack| stack.runtime) {
                let sum = times.entry(thread).or_default().entry(handle).or_default();
                sum.0 |= works;
                sum.1 += time;
            }
        }
        let mut homes = Homes::default();
        for (thread, handles) in times {
            let handles = handles.into_iter();
            let longest = handles.max_by_key(|(handle, sum)| (*sum, Reverse(*handle)));
            homes
                .of_thread
                .extend(longest.map(|(handle, _)| (thread, handle)));
        }
        let life = |thread: &ThreadId| threads.get(thread).and_then(|sums| sums.life);
        for thread in workers {
            let life = life(&thread).unwrap_or((Timestamp(0), Timestamp(u64::MAX)));
            homes.workers.insert(thread, life);
        }
        let runtimes = homes.known(tables);
        homes.of_process = largest(&runtimes);
        homes.first = rows(runtimes);
        homes
    }

    fn known<'a>(&self, tables: &'a Tables) -> Vec<Known<'a>> {
        let mut runtimes: BTreeMap<Handle, Known<'a>> = BTreeMap::new();
        for (thread, life) in &self.workers {
            let Some(handle) = self.of_thread.get(thread) else {
                continue;
            };
            let handle = (thread.process, *handle);
            let known = runtimes.entry(handle).or_insert_with(|| Known {
                handle,
                name: without_number(tables.thread_name(*thread)),
                life: *life,
                workers: 0,
            });
            known.life.0 = known.life.0.min(life.0);
            known.life.1 = known.life.1.max(life.1);
            known.workers += 1;
        }
        runtimes.into_values().collect()
    }

    /// The runtime that a thread works for, if it works for one of this kind.
    pub(super) fn of_thread(&self, thread: ThreadId) -> MultiThread {
        let own = self.of_thread.get(&thread).copied();
        self.in_process(thread.process, own)
    }

    /// The runtime of waits with a stack of `process`, whoever waited.
    pub(super) fn of_stack(
        &self,
        process: ProcessId,
        handle: Option<RuntimeHandle>,
    ) -> MultiThread {
        self.in_process(process, handle)
    }

    fn in_process(&self, process: ProcessId, handle: Option<RuntimeHandle>) -> MultiThread {
        let handle = handle.or_else(|| self.of_process.get(&process).copied());
        let first = handle.and_then(|handle| self.first.get(&(process, handle)).copied());
        MultiThread {
            process,
            handle: first.or(handle),
        }
    }

    /// Whether a thread was ever a worker.
    pub(super) fn is_worker(&self, thread: ThreadId) -> bool {
        self.workers.contains_key(&thread)
    }

    /// The runtimes that have workers.
    pub(super) fn runtimes(&self) -> BTreeSet<MultiThread> {
        let workers = self.workers.keys();
        workers.map(|thread| self.of_thread(*thread)).collect()
    }

    /// How many of `threads`, of those that were ever workers, lived at once at most.
    pub(super) fn at_once(&self, threads: impl Iterator<Item = ThreadId>) -> usize {
        let mut changes: Vec<(Timestamp, isize)> = threads
            .filter_map(|thread| self.workers.get(&thread))
            .flat_map(|(begin, end)| [(*begin, 1), (*end, -1)])
            .collect();
        // An end comes before a begin at the same time.
        changes.sort_unstable();
        let counts = changes.iter().scan(0_isize, |count, (_, change)| {
            *count += change;
            Some(*count)
        });
        counts.max().map_or(0, isize::unsigned_abs)
    }
}

fn without_number(name: &str) -> &str {
    name.trim_end_matches(|letter: char| letter.is_ascii_digit() || "-_#:. ".contains(letter))
}

fn largest(runtimes: &[Known<'_>]) -> BTreeMap<ProcessId, RuntimeHandle> {
    let mut largest: BTreeMap<ProcessId, (usize, RuntimeHandle)> = BTreeMap::new();
    for runtime in runtimes {
        let (process, handle) = runtime.handle;
        let most = largest.entry(process).or_insert((runtime.workers, handle));
        if runtime.workers > most.0 {
            *most = (runtime.workers, handle);
        }
    }
    let handles = largest.into_iter();
    handles
        .map(|(process, (_, handle))| (process, handle))
        .collect()
}

/// Puts runtimes into rows, each of runtimes that follow each other; says of each the first one.
fn rows(mut runtimes: Vec<Known<'_>>) -> BTreeMap<Handle, RuntimeHandle> {
    runtimes.sort_by_key(|runtime| (runtime.life, runtime.handle));
    let mut first = BTreeMap::new();
    // By process and name, the end of each row and its first runtime.
    let mut rows: BTreeMap<(ProcessId, &str), Vec<(Timestamp, RuntimeHandle)>> = BTreeMap::new();
    for runtime in runtimes {
        let (process, handle) = runtime.handle;
        let (begin, end) = runtime.life;
        let rows = rows.entry((process, runtime.name)).or_default();
        match rows.iter_mut().find(|(ended, _)| *ended <= begin) {
            Some(row) => {
                row.0 = end;
                first.insert(runtime.handle, row.1);
            }
            None => rows.push((end, handle)),
        }
    }
    first
}

#[cfg(test)]
#[path = "homes_tests.rs"]
mod tests;
