//! Closing the books: from kernel tables and gathered events to a [`Recording`].

use super::early::Early;
use super::gather::{Gathered, Owner};
use super::split::split;
use super::watched::Watched;
use crate::bpf::{Kernel, KernelThread};
use crate::model::{
    Host, Losses, OpenWait, Recording, StackEntry, StackId, ThreadRecord, Tool, Truncation, Wait,
    WaitTotal, Waker,
};
use crate::tokio_rt::{Place, State};
use crate::units::{Nanos, Pid, Tid, Timestamp};
use anyhow::{Context, Result};
use profiler_common::counter::Counter;
use profiler_common::map::{
    Aggregate, AggregateKey, Books, HISTOGRAM_BUCKETS, PHASE_BLOCKED, PHASE_DEAD, PHASE_RUNNABLE,
    PHASE_RUNNING,
};
use profiler_common::record::STACK_BEFORE;
use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

/// A thread of a process.
pub(super) type Thread = (Pid, Tid);

/// Sums by thread and the kernel side's number of the stack.
#[derive(Debug, Default)]
pub(super) struct Sums(HashMap<(Thread, u64), Aggregate>);

impl Sums {
    /// Adds what the kernel side summed.
    pub(super) fn add(&mut self, key: &AggregateKey, more: &Aggregate) {
        let thread = (Pid(key.tgid), Tid(key.tid));
        match self.0.get_mut(&(thread, key.stack)) {
            None => {
                self.0.insert((thread, key.stack), *more);
            }
            Some(sums) => {
                sums.waits += more.waits;
                sums.blocked += more.blocked;
                sums.runqueue += more.runqueue;
                sums.max = sums.max.max(more.max);
                for (sum, more) in sums.histogram.iter_mut().zip(more.histogram) {
                    *sum = sum.saturating_add(more);
                }
            }
        }
    }

    /// Takes out the wait in which a thread was found by the recording.
    fn take_first_wait(&mut self, thread: Thread) -> Option<Aggregate> {
        self.0.remove(&(thread, STACK_BEFORE))
    }

    /// Adds one wait that has been woken and not yet run.
    fn add_woken(&mut self, (pid, tid): Thread, stack: u64, blocked: u64, runqueue: u64) {
        let mut one = Aggregate {
            waits: 1,
            blocked,
            runqueue,
            max: blocked,
            histogram: [0; HISTOGRAM_BUCKETS],
        };
        let bucket = (blocked.max(1).ilog2() as usize).min(HISTOGRAM_BUCKETS - 1);
        if let Some(count) = one.histogram.get_mut(bucket) {
            *count = 1;
        }
        self.add(
            &AggregateKey {
                stack,
                tid: tid.0,
                tgid: pid.0,
            },
            &one,
        );
    }
}

/// What there is at the end.
pub(super) struct Closing<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) gathered: Gathered,
    pub(super) early: &'a Early,
    pub(super) sums: Sums,
    pub(super) processes: &'a [Watched],
    /// Whether none of them is left.
    pub(super) ended_all: bool,
    pub(super) started_at: SystemTime,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) min_block: Nanos,
    pub(super) launched: bool,
    /// Forked processes of which nothing was recorded.
    pub(super) not_followed: u64,
}

/// A wait that goes on.
pub(super) struct Open {
    thread: Thread,
    stack: u64,
    since: Timestamp,
}

/// Threads by id: one id may have been two threads, one after the other.
#[derive(Debug, Default)]
pub(super) struct Threads(pub(super) BTreeMap<Thread, ThreadRecord>);

impl Threads {
    fn add(&mut self, thread: Thread, lived: u64, running: u64, runnable: u64, blocked: u64) {
        let thread = self.0.entry(thread).or_insert_with(|| ThreadRecord {
            tid: thread.1,
            name: String::new(),
            lived: Nanos::ZERO,
            running: Nanos::ZERO,
            runnable: Nanos::ZERO,
            blocked: Nanos::ZERO,
        });
        thread.lived += Nanos(lived);
        thread.running += Nanos(running);
        thread.runnable += Nanos(runnable);
        thread.blocked += Nanos(blocked);
    }

    /// `until` is the end of the thread or of the recording.
    fn add_books(&mut self, thread: Thread, books: &Books, until: u64) {
        let lived = until.saturating_sub(books.first_seen);
        self.add(thread, lived, books.running, books.runnable, books.blocked);
    }
}

/// Makes the recording.
pub(super) fn recording(mut closing: Closing<'_>) -> Result<Recording> {
    if closing.ended_all {
        // We learn of the target's end a moment later than it ends.
        let last = closing.gathered.ended.iter().map(|ended| ended.time).max();
        closing.end = closing.end.min(Timestamp(last.unwrap_or(u64::MAX)));
    }
    let mut sums = std::mem::take(&mut closing.sums);
    for (key, aggregate) in closing.kernel.aggregates()? {
        sums.add(&key, &aggregate);
    }
    let mut threads = Threads::default();
    let mut open = Vec::new();
    for ended in &closing.gathered.ended {
        let thread = (Pid(ended.header.tgid), Tid(ended.header.tid));
        threads.add_books(thread, &ended.books, ended.time);
    }
    for thread in closing.kernel.threads()? {
        close(&thread, closing.end, &mut threads, &mut sums, &mut open);
    }
    if closing.launched
        && let Some(command) = closing.processes.first()
    {
        forget_hold(command.pid, &mut closing.gathered, &mut threads, &mut sums);
    }
    unmoved(&closing, &mut threads, &mut open);
    names(&closing, &mut threads);

    closing.gathered.judge_again();
    closing.gathered.name_kernel();
    let mut stacks = Stacks {
        no_stack: HashMap::new(),
        gathered: closing.gathered,
        early: closing.early,
        processes: closing.processes,
    };
    let totals = totals(&sums, &mut stacks);
    let waits = waits(&mut stacks);
    let open_waits = open
        .into_iter()
        .map(|open| OpenWait {
            tid: open.thread.1,
            stack: stacks.id(open.thread, open.stack),
            since: open.since,
            before_recording: open.stack == STACK_BEFORE,
        })
        .collect();
    let mut gathered = stacks.gathered;
    let mut losses = losses(closing.kernel, &gathered, &totals)?;
    losses.events += closing.not_followed;
    let facts: Vec<_> = closing.processes.iter().map(|p| p.facts.clone()).collect();
    let owners: Vec<Pid> = gathered.owners.iter().map(|owner| owner.pid).collect();
    let whole = Recording {
        tool: Tool {
            name: "holdup".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        },
        host: host(),
        target: facts.first().cloned().context("there was no process to record")?,
        started_at: closing
            .started_at
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64()),
        start: closing.start,
        end: closing.end,
        min_block: closing.min_block,
        threads: Vec::new(),
        stacks: std::mem::take(&mut gathered.stacks),
        totals,
        waits,
        open_waits,
        losses,
        others: Vec::new(),
    };
    Ok(split(whole, &facts, threads, &owners))
}

/// Adds the stretch that was under way at the end to a thread's books.
fn close(
    thread: &KernelThread,
    end: Timestamp,
    threads: &mut Threads,
    sums: &mut Sums,
    open: &mut Vec<Open>,
) {
    let id = (Pid(thread.tgid), Tid(thread.tid));
    let mut books = thread.books;
    // The last switch may have come after `end`: the filter and the clock are two things.
    let stretch = end.0.saturating_sub(thread.since);
    match thread.phase {
        PHASE_RUNNING => books.running += stretch,
        PHASE_RUNNABLE => books.runnable += stretch,
        PHASE_BLOCKED if thread.wakeup >= thread.since && thread.wakeup <= end.0 => {
            let blocked = thread.wakeup - thread.since;
            books.blocked += blocked;
            books.runnable += stretch - blocked;
            sums.add_woken(id, thread.stack, blocked, stretch - blocked);
        }
        PHASE_BLOCKED => {
            books.blocked += stretch;
            open.push(Open {
                thread: id,
                stack: thread.stack,
                since: Timestamp(thread.since.min(end.0)),
            });
        }
        PHASE_DEAD => {}
        _ => return,
    }
    // A dead thread's entry bears the time of its end.
    let until = if thread.phase == PHASE_DEAD {
        thread.since
    } else {
        thread.since + stretch
    };
    threads.add_books(id, &books, until);
}

/// Takes the time for which we held a command at its start out of its main thread's books.
fn forget_hold(pid: Pid, gathered: &mut Gathered, threads: &mut Threads, sums: &mut Sums) {
    let main = (pid, Tid(pid.0));
    let Some(held) = sums.take_first_wait(main) else {
        return;
    };
    gathered
        .waits
        .retain(|wait| (wait.pid, wait.tid) != main || wait.stack != STACK_BEFORE);
    if let Some(thread) = threads.0.get_mut(&main) {
        let (blocked, runqueue) = (Nanos(held.blocked), Nanos(held.runqueue));
        thread.blocked = thread.blocked.saturating_sub(blocked);
        thread.runnable = thread.runnable.saturating_sub(runqueue);
        thread.lived = thread.lived.saturating_sub(blocked + runqueue);
    }
}

/// Threads that never switched: they did what they did at the beginning all the time.
fn unmoved(closing: &Closing<'_>, threads: &mut Threads, open: &mut Vec<Open>) {
    let whole = (closing.end - closing.start).0;
    for &thread in closing.gathered.names.keys() {
        if threads.0.contains_key(&thread) {
            continue;
        }
        if closing.early.was_running(thread) {
            threads.add(thread, whole, whole, 0, 0);
        } else if closing.early.stack(thread).is_some() {
            threads.add(thread, whole, 0, 0, whole);
            open.push(Open {
                thread,
                stack: STACK_BEFORE,
                since: closing.start,
            });
        }
    }
}

/// The names that threads have now; for those that ended, the last one seen.
fn names(closing: &Closing<'_>, threads: &mut Threads) {
    for (thread, name) in &closing.gathered.names {
        if let Some(thread) = threads.0.get_mut(thread) {
            thread.name = name.to_string();
        }
    }
    for process in closing.processes {
        let target = process.target.as_ref();
        for named in target.and_then(|t| t.threads().ok()).unwrap_or_default() {
            if let Some(thread) = threads.0.get_mut(&(process.pid, named.tid)) {
                thread.name = named.name;
            }
        }
    }
}

/// Numbers of the kernel side to stacks of the recording.
struct Stacks<'a> {
    gathered: Gathered,
    early: &'a Early,
    processes: &'a [Watched],
    /// By process the one that stands for all whose stack is not known.
    no_stack: HashMap<Pid, StackId>,
}

impl Stacks<'_> {
    fn id(&mut self, thread: Thread, number: u64) -> StackId {
        let known = match number {
            STACK_BEFORE => self.early.stack(thread),
            number => self.gathered.by_number(number),
        };
        let pid = thread.0;
        known.unwrap_or_else(|| {
            *self.no_stack.entry(pid).or_insert_with(|| {
                let process = self.processes.iter().find(|process| process.pid == pid);
                let owner = Owner {
                    pid,
                    program: process.map_or(usize::MAX, |process| process.program),
                };
                let why = Some(Truncation::NoStack);
                self.gathered
                    .add(owner, Vec::new(), why, None, Place::Unknown)
            })
        })
    }
}

fn totals(sums: &Sums, stacks: &mut Stacks<'_>) -> Vec<WaitTotal> {
    let mut merged: BTreeMap<(Tid, StackId), WaitTotal> = BTreeMap::new();
    for (&(thread, number), sum) in &sums.0 {
        let (stack, tid) = (stacks.id(thread, number), thread.1);
        let total = merged.entry((tid, stack)).or_insert_with(|| WaitTotal {
            tid,
            stack,
            waits: 0,
            blocked: Nanos::ZERO,
            runqueue: Nanos::ZERO,
            max: Nanos::ZERO,
            histogram: vec![0; HISTOGRAM_BUCKETS],
        });
        total.waits += sum.waits;
        total.blocked += Nanos(sum.blocked);
        total.runqueue += Nanos(sum.runqueue);
        total.max = total.max.max(Nanos(sum.max));
        for (count, more) in total.histogram.iter_mut().zip(sum.histogram) {
            *count = count.saturating_add(more);
        }
    }
    merged.into_values().collect()
}

fn waits(stacks: &mut Stacks<'_>) -> Vec<Wait> {
    let mut compact = std::mem::take(&mut stacks.gathered.waits);
    compact.sort_unstable_by_key(|wait| (wait.start, wait.tid));
    let mut waits = Vec::with_capacity(compact.len());
    for wait in compact {
        let stack = stacks.id((wait.pid, wait.tid), wait.stack);
        // Recorded before the stack was known to be an idle park.
        let idle = |s: &StackEntry| s.verdict.state == State::Idle;
        if stacks
            .gathered
            .stacks
            .get(stack.0 as usize)
            .is_some_and(idle)
        {
            continue;
        }
        let waker = stacks.gathered.wakers.get(wait.waker as usize);
        waits.push(Wait {
            tid: wait.tid,
            stack,
            start: wait.start,
            wakeup: wait.wakeup,
            end: wait.end,
            waker: waker.map(|waker| Waker {
                pid: waker.pid,
                tid: waker.tid,
                name: waker.name.to_string(),
            }),
        });
    }
    waits
}

/// Walks that the kernel side ended early, by how.
const TRUNCATED: [Counter; 7] = [
    Counter::TooDeep,
    Counter::Unmapped,
    Counter::NoRow,
    Counter::Unsupported,
    Counter::Unreadable,
    Counter::NoProgress,
    Counter::NoStack,
];

fn losses(kernel: &Kernel, gathered: &Gathered, totals: &[WaitTotal]) -> Result<Losses> {
    let counters = kernel.counters()?;
    for counter in Counter::ALL {
        tracing::debug!("{}: {}", counter.name(), counters.get(*counter));
    }
    let unknown = |total: &&WaitTotal| {
        gathered
            .stacks
            .get(total.stack.0 as usize)
            .is_none_or(|stack| stack.verdict.state == State::Unknown)
    };
    Ok(Losses {
        events: counters.get(Counter::RingFullWait)
            + counters.get(Counter::RingFullStack)
            + counters.get(Counter::RingFullOther)
            + counters.get(Counter::MissedSwitchIn)
            + counters.get(Counter::MissedSwitchOut)
            + counters.get(Counter::ProcessTableFull)
            + gathered.undecodable,
        stacks: counters.get(Counter::StackTableFull)
            + counters.get(Counter::AggregateFull)
            + counters.get(Counter::ThreadTableFull),
        truncated: gathered.truncated
            + TRUNCATED.iter().map(|how| counters.get(*how)).sum::<u64>(),
        unresolved: gathered.symbolizer.unresolved(),
        unknown_waits: totals.iter().filter(unknown).map(|total| total.waits).sum(),
        timeline: gathered.timeline_lost,
        walked: counters.get(Counter::Walks),
    })
}

fn host() -> Host {
    let uname = rustix::system::uname();
    Host {
        kernel: uname.release().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
    }
}
