//! Which `multi_thread` runtime each thread works for.
//!
//! tokio's thread-local state names a runtime by the address of its scheduler's handle. Workers whose
//! state is not known are put together by a guess, as [`guessed_groups`] says; any other thread whose
//! state is not known is taken for one of the runtime with the most workers in its process.
//!
//! A program may drop its runtime and make it anew, or a library make one for each call. Runtimes
//! of one process whose workers have the same name, and of which each began after the one before it
//! had ended, are reported as one.

use super::guessed_groups::{self, Group, Worker, without_number};
use super::stack_facts::WaitRole;
use super::sweep::{Piece, Sweep};
use super::totals::Totals;
use crate::recording::{ProcessId, StackId, Tables, ThreadId};
use crate::report::GroupedBy;
use crate::runtime::tokio::RuntimeHandle;
use crate::units::{Nanos, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A `multi_thread` runtime, or several that followed each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MultiThread {
    pub(super) process: ProcessId,
    /// The first worker of the first one; none where the runtimes of the process are not told apart.
    first: Option<ThreadId>,
}

/// The handle of a runtime, and its process. The handle of a later one may be at the same address.
type Handle = (ProcessId, RuntimeHandle);

/// What the threads of a dropped runtime take to end, at most: nobody waits for them, and on a busy machine
/// they wait for a CPU.
const WAY_OUT: Nanos = Nanos(40_000_000);

/// From when to when something was.
type Life = (Timestamp, Timestamp);

/// The runtimes of all threads.
#[derive(Clone, Debug, Default)]
pub(super) struct Homes {
    of_thread: BTreeMap<ThreadId, MultiThread>,
    /// The runtimes that had a handle, in the order in which they began.
    of_handle: BTreeMap<Handle, Vec<(Life, MultiThread)>>,
    /// The one with the most workers.
    of_process: BTreeMap<ProcessId, MultiThread>,
    /// Those whose workers were put together by a guess.
    guessed: BTreeSet<MultiThread>,
    /// Of stacks in which workers of those waited, the one that did for longest.
    of_stack: BTreeMap<StackId, MultiThread>,
    /// Threads that were workers, and from when to when they lived.
    workers: BTreeMap<ThreadId, Life>,
    /// Of workers with a handle, which of the runtimes of one row they were of: a number.
    one_of: BTreeMap<ThreadId, usize>,
}

/// A runtime: threads with one handle, without an instant in between at which none of them lived.
struct Runtime<'a> {
    handle: Handle,
    /// The name of its workers, without a number at its end.
    name: &'a str,
    life: Life,
    workers: Vec<ThreadId>,
}

impl Homes {
    /// By the waits of threads, with their blocked time: of several runtimes in which one thread
    /// waited, the one in which it waited longest.
    pub(super) fn of(
        tables: &Tables,
        totals: &Totals,
        waits: impl Iterator<Item = (ThreadId, StackId, Nanos)>,
    ) -> Homes {
        let life = |thread: &ThreadId| {
            let sums = totals.threads.get(thread);
            let life = sums.and_then(|sums| sums.life);
            life.unwrap_or((Timestamp(0), Timestamp(u64::MAX)))
        };
        let mut workers = BTreeMap::new();
        let mut times: BTreeMap<ThreadId, BTreeMap<RuntimeHandle, (bool, Nanos)>> = BTreeMap::new();
        // Waits of workers by stacks that name no runtime.
        let mut unnamed: Vec<(ThreadId, StackId, Nanos)> = Vec::new();
        for (thread, id, time) in waits {
            let role = WaitRole::of(tables, id);
            let works = matches!(role, WaitRole::MULTI_THREAD | WaitRole::HandedOff);
            if role == WaitRole::MULTI_THREAD {
                workers.entry(thread).or_insert_with(|| life(&thread));
                if tables.stack(id).is_none_or(|stack| stack.runtime.is_none()) {
                    unnamed.push((thread, id, time));
                }
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
        let handles: BTreeMap<ThreadId, RuntimeHandle> = times
            .into_iter()
            .filter_map(|(thread, handles)| {
                let handles = handles.into_iter();
                let longest = handles.max_by_key(|(handle, sum)| (*sum, Reverse(*handle)));
                longest.map(|(handle, _)| (thread, handle))
            })
            .collect();
        let rows = rows(runtimes(tables, &workers, &handles));
        let mut homes = Homes {
            workers,
            ..Homes::default()
        };
        homes.take(&rows);
        homes.guess(tables, totals, unnamed);
        // Threads that were no workers lived beside some.
        for (thread, handle) in &handles {
            let of_handle = homes.of_handle.get(&(thread.process, *handle));
            let (begin, end) = life(thread);
            let mut beside = of_handle.into_iter().flatten();
            let beside = beside.find(|(life, _)| life.0 <= end && life.1 >= begin);
            if let Some((_, row)) = beside {
                homes.of_thread.entry(*thread).or_insert(*row);
            }
        }
        homes
    }

    fn take(&mut self, rows: &[(Runtime<'_>, MultiThread)]) {
        let mut most: BTreeMap<ProcessId, usize> = BTreeMap::new();
        for (number, (runtime, row)) in rows.iter().enumerate() {
            let workers = runtime.workers.iter();
            self.of_thread
                .extend(workers.clone().map(|thread| (*thread, *row)));
            self.one_of.extend(workers.map(|thread| (*thread, number)));
            let of_handle = self.of_handle.entry(runtime.handle).or_default();
            of_handle.push((runtime.life, *row));
            let most = most.entry(row.process).or_default();
            if runtime.workers.len() > *most {
                *most = runtime.workers.len();
                self.of_process.insert(row.process, *row);
            }
        }
    }

    /// Puts the workers together whose handle is not known. `waits` are those with stacks that name no
    /// runtime.
    fn guess(&mut self, tables: &Tables, totals: &Totals, waits: Vec<(ThreadId, StackId, Nanos)>) {
        let worker = |thread: ThreadId| Worker {
            thread,
            name: without_number(tables.thread_name(thread)),
            drivers: totals.drivers.of(thread),
        };
        let mut processes: BTreeMap<ProcessId, (Vec<Worker<'_>>, Vec<Worker<'_>>)> =
            BTreeMap::new();
        for thread in self.workers.keys() {
            let (known, unknown) = processes.entry(thread.process).or_default();
            match self.of_thread.contains_key(thread) {
                true => known.push(worker(*thread)),
                false => unknown.push(worker(*thread)),
            }
        }
        for (process, (known, unknown)) in processes {
            let (joining, alone): (Vec<_>, Vec<_>) = unknown
                .into_iter()
                .map(|worker| (self.joins(&known, &worker), worker))
                .partition(|(row, _)| row.is_some());
            for (row, worker) in joining {
                self.of_thread.extend(row.map(|row| (worker.thread, row)));
            }
            let mut alone: Vec<Worker<'_>> = alone.into_iter().map(|(_, worker)| worker).collect();
            if !known.is_empty() {
                guessed_groups::leave_out_single(&mut alone);
            }
            let groups = guessed_groups::groups(alone);
            // One alone needs no guess: all workers of the process are in it.
            if !known.is_empty() || groups.len() > 1 {
                for group in &groups {
                    self.add_guessed(process, group);
                }
            }
        }
        let mut longest: BTreeMap<StackId, (Nanos, MultiThread)> = BTreeMap::new();
        for (thread, stack, time) in waits {
            let row = self.of_thread(thread);
            if self.guessed.contains(&row) {
                let entry = longest.entry(stack).or_insert((time, row));
                *entry = (time, row).max(*entry);
            }
        }
        let rows = longest.into_iter();
        self.of_stack = rows.map(|(stack, (_, row))| (stack, row)).collect();
    }

    /// The runtime of workers whose runtime is known that nothing tells `worker` apart from.
    fn joins(&self, known: &[Worker<'_>], worker: &Worker<'_>) -> Option<MultiThread> {
        let row = |known: &Worker<'_>| self.of_thread(known.thread);
        let shares = |known: &&Worker<'_>| !known.drivers.is_disjoint(&worker.drivers);
        if let Some(beside) = known.iter().find(shares) {
            return Some(row(beside));
        }
        let of_name = known.iter().filter(|known| known.name == worker.name);
        // Others of its name were in their own driver, and it was in another.
        if !worker.drivers.is_empty() && of_name.clone().any(|known| !known.drivers.is_empty()) {
            return None;
        }
        let rows: BTreeSet<MultiThread> = of_name.map(row).collect();
        match rows.len() {
            0 => None,
            1 => rows.first().copied(),
            _ => Some(self.of_process(worker.thread.process)),
        }
    }

    fn add_guessed(&mut self, process: ProcessId, group: &Group<'_>) {
        let first = group.threads.first().copied();
        let row = MultiThread { process, first };
        let threads = group.threads.iter();
        self.of_thread.extend(threads.map(|thread| (*thread, row)));
        self.guessed.insert(row);
        // The largest comes first.
        self.of_process.entry(process).or_insert(row);
    }

    /// Leaves threads with the runtime with which they were counted before more was known, and with
    /// them those that would be of the same one.
    pub(super) fn keep(&mut self, settled: &BTreeMap<ThreadId, MultiThread>) {
        if settled.is_empty() {
            return;
        }
        let mut renamed: BTreeMap<MultiThread, MultiThread> = BTreeMap::new();
        for (thread, row) in settled {
            renamed.entry(self.of_thread(*thread)).or_insert(*row);
            let process = thread.process;
            let largest = self.of_process(process);
            self.of_process.entry(process).or_insert(largest);
        }
        let workers: Vec<_> = self.settled().collect();
        self.of_thread.extend(workers);
        let rename = |row: &mut MultiThread| *row = renamed.get(row).copied().unwrap_or(*row);
        self.of_thread.values_mut().for_each(rename);
        self.of_handle
            .values_mut()
            .flatten()
            .for_each(|(_, row)| rename(row));
        self.of_process.values_mut().for_each(rename);
        self.of_stack.values_mut().for_each(rename);
        let guessed = std::mem::take(&mut self.guessed).into_iter();
        self.guessed = guessed
            .map(|row| renamed.get(&row).copied().unwrap_or(row))
            .collect();
        self.of_thread.extend(settled);
    }

    /// The runtime of each thread that was ever a worker.
    pub(super) fn settled(&self) -> impl Iterator<Item = (ThreadId, MultiThread)> {
        let workers = self.workers.keys();
        workers.map(|thread| (*thread, self.of_thread(*thread)))
    }

    /// How its threads were found to belong together.
    pub(super) fn grouped_by(&self, runtime: MultiThread) -> GroupedBy {
        if self.guessed.contains(&runtime) {
            GroupedBy::Guess
        } else if runtime.first.is_some() {
            GroupedBy::Handle
        } else {
            GroupedBy::Process
        }
    }

    /// The runtime that a thread works for, if it works for one of this kind.
    pub(super) fn of_thread(&self, thread: ThreadId) -> MultiThread {
        let own = self.of_thread.get(&thread).copied();
        own.unwrap_or_else(|| self.of_process(thread.process))
    }

    /// The runtime of waits with a stack of `process`, whoever waited.
    pub(super) fn of_stack(
        &self,
        process: ProcessId,
        handle: Option<RuntimeHandle>,
        id: StackId,
    ) -> MultiThread {
        let own = handle.and_then(|handle| self.of_handle.get(&(process, handle))?.first());
        let own = own.map(|(_, row)| *row);
        let own = own.or_else(|| self.of_stack.get(&id).copied());
        own.unwrap_or_else(|| self.of_process(process))
    }

    fn of_process(&self, process: ProcessId) -> MultiThread {
        let largest = self.of_process.get(&process).copied();
        largest.unwrap_or(MultiThread {
            process,
            first: None,
        })
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

    /// How many of `threads`, of those that were ever workers of one runtime, lived at once. Workers of one
    /// that was dropped may still be on their way out when those of the next one begin.
    pub(super) fn at_once(&self, threads: impl Iterator<Item = ThreadId>) -> usize {
        let mut known: BTreeMap<usize, Vec<(ThreadId, Life)>> = BTreeMap::new();
        let mut others = Vec::new();
        for thread in threads {
            if let Some(life) = self.workers.get(&thread) {
                match self.one_of.get(&thread) {
                    Some(runtime) => known.entry(*runtime).or_default().push((thread, *life)),
                    None => others.push((thread, *life)),
                }
            }
        }
        // The next one may have the address of the one before.
        let part = if known.is_empty() { 20 } else { 4 };
        for (thread, life) in others {
            let beside = beside(&known, life).unwrap_or(usize::MAX);
            known.entry(beside).or_default().push((thread, life));
        }
        let pieces = |lives: Vec<(ThreadId, Life)>| {
            let lives = lives.into_iter();
            let piece = |(thread, (begin, end))| Piece::new(thread, begin, end, Arc::default());
            lives.map(piece).collect()
        };
        most_at_once(known.into_values().map(pieces), part)
    }
}

/// The runtime beside whose workers a thread lived for longest: a worker that computes all the time
/// tells no handle. None where it lived beside none.
fn beside(runtimes: &BTreeMap<usize, Vec<(ThreadId, Life)>>, life: Life) -> Option<usize> {
    let time = |lives: &[(ThreadId, Life)]| {
        let begin = lives.iter().map(|(_, life)| life.0).min()?.max(life.0);
        let end = lives.iter().map(|(_, life)| life.1).max()?.min(life.1);
        (begin < end).then(|| end - begin)
    };
    let runtimes = runtimes.iter();
    let times = runtimes.filter_map(|(number, lives)| Some((time(lives)?, Reverse(*number))));
    times.max().map(|(_, Reverse(number))| number)
}

/// How many workers each of some runtimes had at once, for at least one of `part` parts of the time in which
/// they had any: those of two that follow each other may be there together for a while.
fn most_at_once(runtimes: impl Iterator<Item = Vec<Piece>>, part: u64) -> usize {
    // For how long there were so many, by their number.
    let mut times: Vec<Nanos> = Vec::new();
    for lives in runtimes {
        let mut sweep = Sweep::new(Timestamp(0));
        sweep.finish(lives, Timestamp(u64::MAX));
        let own = sweep.at_once(sweep.peak());
        times.resize(times.len().max(own.len()), Nanos::ZERO);
        for (sum, time) in times.iter_mut().zip(own) {
            *sum += time;
        }
    }
    let any: Nanos = times.iter().skip(1).copied().sum();
    let mut more = Nanos::ZERO;
    let counts = times.iter().enumerate().skip(1).rev();
    let mut most = counts.filter(|(_, time)| {
        more += **time;
        more.0 >= any.0.div_ceil(part)
    });
    most.next().map_or(0, |(count, _)| count)
}

/// The runtimes, in the order in which they began.
fn runtimes<'a>(
    tables: &'a Tables,
    workers: &BTreeMap<ThreadId, Life>,
    handles: &BTreeMap<ThreadId, RuntimeHandle>,
) -> Vec<Runtime<'a>> {
    let mut by_handle: BTreeMap<Handle, Vec<(Life, ThreadId)>> = BTreeMap::new();
    for (thread, life) in workers {
        if let Some(handle) = handles.get(thread) {
            let handle = (thread.process, *handle);
            by_handle.entry(handle).or_default().push((*life, *thread));
        }
    }
    let mut runtimes: Vec<Runtime<'a>> = Vec::new();
    for (handle, mut workers) in by_handle {
        workers.sort_unstable();
        let mut last: Option<Runtime<'a>> = None;
        for (life, thread) in workers {
            match &mut last {
                Some(last) if !follows(life, last.life) => {
                    last.life.1 = last.life.1.max(life.1);
                    last.workers.push(thread);
                }
                _ => runtimes.extend(last.replace(Runtime {
                    handle,
                    name: without_number(tables.thread_name(thread)),
                    life,
                    workers: vec![thread],
                })),
            }
        }
        runtimes.extend(last);
    }
    runtimes.sort_by_key(|runtime| (runtime.life, runtime.handle));
    runtimes
}

/// Whether what lived for `next` came after what lived for `last`, whose threads may still have been
/// on their way out.
fn follows(next: Life, last: Life) -> bool {
    let shorter = (next.1 - next.0).min(last.1 - last.0);
    let way_out = Nanos(shorter.0 / 2).min(WAY_OUT);
    next.0.0 >= last.1.0.saturating_sub(way_out.0)
}

/// Puts runtimes into rows, each of runtimes that follow each other.
fn rows(runtimes: Vec<Runtime<'_>>) -> Vec<(Runtime<'_>, MultiThread)> {
    // By process and name, the life of the last runtime of each row.
    let mut rows: BTreeMap<(ProcessId, &str), Vec<(Life, MultiThread)>> = BTreeMap::new();
    let placed = runtimes.into_iter().map(|runtime| {
        let (process, _) = runtime.handle;
        let rows = rows.entry((process, runtime.name)).or_default();
        let row = match rows
            .iter_mut()
            .find(|(last, _)| follows(runtime.life, *last))
        {
            Some(row) => {
                row.0 = runtime.life;
                row.1
            }
            None => {
                let first = runtime.workers.first().copied();
                let row = MultiThread { process, first };
                rows.push((runtime.life, row));
                row
            }
        };
        (runtime, row)
    });
    placed.collect()
}

#[cfg(test)]
#[path = "homes_tests.rs"]
mod tests;
