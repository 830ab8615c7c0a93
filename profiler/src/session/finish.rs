//! Closing the books: from kernel tables and gathered events to a [`Recording`].

use super::early::Early;
use super::ended::EndedBooks;
use super::gather::{Gathered, Owner};
use super::lost::Lost;
use super::modules::Modules;
use super::open::Found;
use super::split::split;
use super::watched::Watched;
use crate::bpf::{Counters, Kernel, KernelThread};
use crate::model::{
    Host, Judges, ObjectId, OpenWait, Recording, Sampling, ShadowCheck, StackEntry, StackId,
    ThreadRecord, Throttling, Tool, Truncation, Wait, WaitTotal, Waker,
};
use crate::process::QuotaUse;
use crate::tokio_rt::{Judge, Place, State};
use crate::units::{Nanos, Pid, Tid, Timestamp};
use anyhow::{Context, Result};
use profiler_common::counter::Counter;
use profiler_common::map::{
    Aggregate, AggregateKey, Books, HISTOGRAM_BUCKETS, PHASE_BLOCKED, PHASE_DEAD, PHASE_RUNNABLE,
    PHASE_RUNNING,
};
use profiler_common::record::STACK_BEFORE;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

/// A thread of a process.
pub(super) type Thread = (Pid, Tid);

/// Sums by thread and the kernel side's numbers of stack and object.
#[derive(Debug, Default)]
pub(super) struct Sums {
    entries: HashMap<(Thread, u64, u64), Aggregate>,
    /// Waits that found no entry.
    left_out: u64,
}

impl Sums {
    /// Adds what the kernel side summed.
    pub(super) fn add(&mut self, key: &AggregateKey, more: &Aggregate) {
        match self.entries.get_mut(&entry(key)) {
            None => {
                self.entries.insert(entry(key), *more);
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

    /// As [`Sums::add`], unless there are `most` entries already: then the waits are counted.
    pub(super) fn add_bounded(&mut self, key: &AggregateKey, more: &Aggregate, most: usize) {
        if self.entries.len() < most || self.entries.contains_key(&entry(key)) {
            self.add(key, more);
        } else {
            self.left_out = self.left_out.saturating_add(more.waits);
        }
    }

    /// Takes out the wait in which a thread was found by the recording.
    fn take_first_wait(&mut self, thread: Thread) -> Option<Aggregate> {
        self.entries.remove(&(thread, STACK_BEFORE, 0))
    }

    /// Adds one wait that has been woken and not yet run.
    fn add_woken(&mut self, key: &AggregateKey, blocked: u64, runqueue: u64) {
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
        self.add(key, &one);
    }
}

fn entry(key: &AggregateKey) -> (Thread, u64, u64) {
    ((Pid(key.tgid), Tid(key.tid)), key.stack, key.object)
}

/// What there is at the end.
pub(super) struct Closing<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) modules: &'a Modules,
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
    pub(super) sampling: Option<Sampling>,
    pub(super) mappings_left_out: u64,
    pub(super) shadow: Option<ShadowCheck>,
    /// What threads were found to wait for shortly before the end, and since when they did.
    pub(super) found: HashMap<Thread, (Option<Timestamp>, Found)>,
    /// Threads that the kernel counted switches of since the beginning.
    pub(super) moved: HashSet<Thread>,
    /// Forked processes of which nothing was recorded.
    pub(super) not_followed: u64,
}

/// A wait that goes on.
struct Open {
    thread: Thread,
    /// The kernel side's numbers of stack and object.
    stack: u64,
    object: u64,
    since: Timestamp,
    /// Id of the task, or 0.
    task_id: u64,
}

/// Threads by id: one id may have been two threads, one after the other.
#[derive(Debug, Default)]
pub(super) struct Threads(pub(super) BTreeMap<Thread, ThreadRecord>);

impl Threads {
    fn add(&mut self, thread: Thread, books: EndedBooks) {
        let thread = self.0.entry(thread).or_insert_with(|| ThreadRecord {
            tid: thread.1,
            name: String::new(),
            lived: Nanos::ZERO,
            running: Nanos::ZERO,
            runnable: Nanos::ZERO,
            blocked: Nanos::ZERO,
            waits: 0,
        });
        thread.lived += Nanos(books.lived);
        thread.running += Nanos(books.running);
        thread.runnable += Nanos(books.runnable);
        thread.blocked += Nanos(books.blocked);
        thread.waits = thread.waits.saturating_add(books.waits);
    }

    /// `until` is the end of the thread or of the recording.
    fn add_books(&mut self, thread: Thread, books: &Books, until: u64) {
        let books = EndedBooks {
            lived: until.saturating_sub(books.first_seen),
            running: books.running,
            runnable: books.runnable,
            blocked: books.blocked,
            waits: books.waits,
        };
        self.add(thread, books);
    }
}

/// Makes the recording.
pub(super) fn recording(mut closing: Closing<'_>) -> Result<Recording> {
    if closing.ended_all {
        // We learn of the target's end a moment later than it ends.
        let last = closing.gathered.ended.last();
        closing.end = closing.end.min(Timestamp(last.unwrap_or(u64::MAX)));
    }
    let mut sums = std::mem::take(&mut closing.sums);
    for (key, aggregate) in closing.kernel.aggregates()? {
        sums.add(&key, &aggregate);
    }
    let mut threads = Threads::default();
    let mut open = Vec::new();
    for (thread, books) in closing.gathered.ended.iter() {
        threads.add(thread, *books);
    }
    for thread in closing.kernel.threads()? {
        for (key, aggregate) in closing.kernel.parks(&thread)? {
            sums.add(&key, &aggregate);
        }
        close(&thread, closing.end, &mut threads, &mut sums, &mut open);
    }
    if closing.launched
        && let Some(command) = closing.processes.first()
    {
        forget_hold(command.pid, &mut closing.gathered, &mut threads, &mut sums);
    }
    for thread in closing.early.runnable() {
        was_runnable(*thread, &mut closing.gathered, &mut threads, &mut sums);
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
    let mut found = std::mem::take(&mut closing.found);
    let waits = waits(&mut stacks);
    let open_waits = open
        .into_iter()
        .map(|open| {
            let found = found
                .remove(&open.thread)
                .filter(|(began, _)| began.is_none_or(|began| began == open.since));
            let (object, holder) = found.map_or((None, None), |(_, found)| {
                (Some(found.object), found.holder)
            });
            let stack = stacks.id(open.thread, open.stack);
            OpenWait {
                tid: open.thread.1,
                stack,
                began_for: stacks.gathered.objects.by_number(open.object),
                since: open.since,
                before_recording: open.stack == STACK_BEFORE,
                object,
                holder,
                task_id: stacks.task_id(stack, open.task_id),
            }
        })
        .collect();
    let mut gathered = stacks.gathered;
    let lost = Lost {
        kernel: closing.kernel,
        modules: closing.modules,
        gathered: &gathered,
        totals: &totals,
        waits: threads.0.values().map(|thread| thread.waits).sum(),
        sums_left_out: sums.left_out,
        mappings_left_out: closing.mappings_left_out,
        samples_left_out: gathered.samples.lost(),
        shadow: closing.shadow,
        not_followed: closing.not_followed,
    };
    let losses = lost.losses()?;
    let judges = judges(&closing.kernel.counters()?, &gathered, &totals);
    let facts: Vec<_> = closing.processes.iter().map(|p| p.facts.clone()).collect();
    let owners: Vec<Pid> = gathered.owners.iter().map(|owner| owner.pid).collect();
    let mut throttled = HashMap::new();
    for process in closing.processes {
        if let Some(quota) = process.quota_use() {
            throttled
                .entry(process.pid)
                .or_insert_with(|| throttling(quota));
        }
    }
    let samples = std::mem::take(&mut gathered.samples);
    let long_poll = closing.sampling.map_or(Nanos::ZERO, |how| how.long_poll);
    let (samples, long_polls) = samples.finish(long_poll);
    let whole = Recording {
        tool: Tool {
            name: "holdup".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        },
        host: host(),
        target: facts
            .first()
            .cloned()
            .context("there was no process to record")?,
        started_at: closing
            .started_at
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64()),
        start: closing.start,
        end: closing.end,
        min_block: closing.min_block,
        threads: Vec::new(),
        stacks: std::mem::take(&mut gathered.stacks),
        objects: gathered.objects.into_all(),
        totals,
        waits,
        open_waits,
        sampling: closing.sampling,
        samples,
        long_polls,
        throttling: None,
        judges,
        losses,
        others: Vec::new(),
    };
    Ok(split(whole, &facts, threads, &owners, throttled))
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
            books.waits += 1;
            let key = AggregateKey {
                stack: thread.stack,
                object: thread.object,
                tid: thread.tid,
                tgid: thread.tgid,
            };
            sums.add_woken(&key, blocked, stretch - blocked);
        }
        PHASE_BLOCKED => {
            books.blocked += stretch;
            open.push(Open {
                thread: id,
                stack: thread.stack,
                object: thread.object,
                since: Timestamp(thread.since.min(end.0)),
                task_id: thread.task_id,
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

/// Takes out the wait in which the recording is said to have found a thread.
fn take_first_wait(thread: Thread, gathered: &mut Gathered, sums: &mut Sums) -> Option<Aggregate> {
    let first = sums.take_first_wait(thread)?;
    gathered
        .waits
        .retain(|wait| (wait.pid, wait.tid) != thread || wait.stack != STACK_BEFORE);
    Some(first)
}

/// Sets the books right of a thread that did not wait in the beginning, but for a CPU.
fn was_runnable(thread: Thread, gathered: &mut Gathered, threads: &mut Threads, sums: &mut Sums) {
    if let Some(first) = take_first_wait(thread, gathered, sums)
        && let Some(thread) = threads.0.get_mut(&thread)
    {
        let blocked = Nanos(first.blocked).min(thread.blocked);
        thread.blocked = thread.blocked.saturating_sub(blocked);
        thread.runnable += blocked;
        thread.waits = thread.waits.saturating_sub(first.waits);
    }
}

/// Takes the time for which we held a command at its start out of its main thread's books.
fn forget_hold(pid: Pid, gathered: &mut Gathered, threads: &mut Threads, sums: &mut Sums) {
    let main = (pid, Tid(pid.0));
    let Some(held) = take_first_wait(main, gathered, sums) else {
        return;
    };
    if let Some(thread) = threads.0.get_mut(&main) {
        let (blocked, runqueue) = (Nanos(held.blocked), Nanos(held.runqueue));
        thread.blocked = thread.blocked.saturating_sub(blocked);
        thread.runnable = thread.runnable.saturating_sub(runqueue);
        thread.lived = thread.lived.saturating_sub(blocked + runqueue);
        thread.waits = thread.waits.saturating_sub(held.waits);
    }
}

/// Threads that never switched: they did what they did at the beginning all the time.
fn unmoved(closing: &Closing<'_>, threads: &mut Threads, open: &mut Vec<Open>) {
    let whole = (closing.end - closing.start).0;
    for thread in closing.gathered.names.keys() {
        // One that moved and has no books was lost (a full table): nothing may be made up for it.
        if threads.0.contains_key(thread) || closing.moved.contains(thread) {
            continue;
        }
        if closing.early.was_running(*thread) {
            let books = EndedBooks {
                lived: whole,
                running: whole,
                ..EndedBooks::default()
            };
            threads.add(*thread, books);
        } else if closing.early.runnable().contains(thread) {
            let books = EndedBooks {
                lived: whole,
                runnable: whole,
                ..EndedBooks::default()
            };
            threads.add(*thread, books);
        } else if closing.early.stack(*thread).is_some() {
            let books = EndedBooks {
                lived: whole,
                blocked: whole,
                ..EndedBooks::default()
            };
            threads.add(*thread, books);
            open.push(Open {
                thread: *thread,
                stack: STACK_BEFORE,
                object: 0,
                since: closing.start,
                task_id: 0,
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
    /// The id of a task that the kernel side read, where such reading counts.
    fn task_id(&self, stack: StackId, id: u64) -> Option<u64> {
        (id != 0 && self.gathered.trusts_context(stack)).then_some(id)
    }

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
    let mut merged: BTreeMap<(Tid, StackId, Option<ObjectId>), WaitTotal> = BTreeMap::new();
    for (&(thread, number, object), sum) in &sums.entries {
        let (stack, tid) = (stacks.id(thread, number), thread.1);
        let object = stacks.gathered.objects.by_number(object);
        let total = merged
            .entry((tid, stack, object))
            .or_insert_with(|| WaitTotal {
                tid,
                stack,
                object,
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
        let waker_stack = stacks.gathered.by_number(wait.waker_stack);
        waits.push(Wait {
            tid: wait.tid,
            stack,
            object: wait.object,
            start: wait.start,
            wakeup: wait.wakeup,
            end: wait.end,
            waker: waker.map(|waker| Waker {
                pid: waker.pid,
                tid: waker.tid,
                name: waker.name.to_string(),
                stack: waker_stack,
            }),
            task_id: stacks.task_id(stack, wait.task_id),
        });
    }
    waits
}

fn throttling(quota: QuotaUse) -> Throttling {
    Throttling {
        group: quota.group,
        periods: quota.periods,
        throttled_periods: quota.throttled_periods,
        throttled: quota.throttled,
    }
}

fn judges(counters: &Counters, gathered: &Gathered, totals: &[WaitTotal]) -> Judges {
    let mut judges = Judges {
        agreed: gathered
            .agreements()
            .map(|agreement| agreement.agreed)
            .sum(),
        disagreed: gathered
            .agreements()
            .map(|agreement| agreement.disagreed)
            .sum(),
        parks_known: counters.get(Counter::ParksKnown),
        ..Judges::default()
    };
    for total in totals {
        let judge = gathered.judges.get(total.stack.0 as usize);
        *match judge.unwrap_or(&Judge::Neither) {
            Judge::Symbols => &mut judges.by_symbols,
            Judge::Context => &mut judges.by_context,
            Judge::Both => &mut judges.by_both,
            Judge::Neither => &mut judges.by_neither,
        } += total.waits;
    }
    judges
}

fn host() -> Host {
    let uname = rustix::system::uname();
    Host {
        kernel: uname.release().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gather::Bounds;
    use super::*;
    use crate::limits::Limits;

    fn key((pid, tid): Thread, stack: u64) -> AggregateKey {
        AggregateKey {
            stack,
            object: 0,
            tid: tid.0,
            tgid: pid.0,
        }
    }

    #[test]
    fn sums_of_ended_threads_are_bounded_and_the_rest_is_counted() {
        let key = |tid| key((Pid(1), Tid(tid)), 7);
        let more = Aggregate {
            waits: 5,
            blocked: 50,
            runqueue: 1,
            max: 20,
            histogram: [0; HISTOGRAM_BUCKETS],
        };
        let mut sums = Sums::default();
        for tid in [1, 2, 1, 3] {
            sums.add_bounded(&key(tid), &more, 2);
        }
        assert_eq!(sums.entries.len(), 2);
        assert_eq!(sums.entries[&((Pid(1), Tid(1)), 7, 0)].waits, 10);
        assert_eq!(sums.left_out, 5);
    }

    #[test]
    fn a_thread_found_wanting_a_cpu_did_not_wait() {
        let (tid, other) = ((Pid(1), Tid(7)), (Pid(1), Tid(8)));
        let mut sums = Sums::default();
        for tid in [tid, other] {
            sums.add_woken(&key(tid, STACK_BEFORE), 300, 20);
        }
        sums.add_woken(&key(tid, STACK_BEFORE + 1), 1_000, 0);
        let mut threads = Threads::default();
        threads.add(
            tid,
            EndedBooks {
                lived: 5_000,
                running: 3_680,
                runnable: 20,
                blocked: 1_300,
                waits: 3,
            },
        );
        let mut gathered = Gathered::new(Bounds::new(&Limits::default()));

        was_runnable(tid, &mut gathered, &mut threads, &mut sums);

        let thread = &threads.0[&tid];
        assert_eq!(thread.runnable, Nanos(320));
        assert_eq!(thread.blocked, Nanos(1_000));
        assert_eq!(thread.lived, Nanos(5_000));
        assert_eq!(thread.waits, 2);
        let mut left: Vec<_> = sums.entries.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [(tid, STACK_BEFORE + 1, 0), (other, STACK_BEFORE, 0)]);
    }
}
