//! Closing the books: from kernel tables and gathered events to a [`Recording`].

use super::early::Early;
use super::ended::EndedBooks;
use super::gather::Gathered;
use super::lost::Lost;
use super::modules::Modules;
use super::open::Found;
use crate::bpf::{Counters, Kernel, KernelThread};
use crate::model::{
    Host, Judges, ObjectId, OpenWait, Recording, Sampling, ShadowCheck, StackEntry, StackId,
    Target as TargetFacts, ThreadRecord, Throttling, Tool, Truncation, Wait, WaitTotal, Waker,
};
use crate::process::{CpuQuota, QuotaUse, Target};
use crate::tokio_rt::{Judge, Place, State};
use crate::units::{Nanos, Tid, Timestamp};
use anyhow::Result;
use profiler_common::counter::Counter;
use profiler_common::map::{
    Aggregate, AggregateKey, Books, HISTOGRAM_BUCKETS, PHASE_BLOCKED, PHASE_DEAD, PHASE_RUNNABLE,
    PHASE_RUNNING,
};
use profiler_common::record::STACK_BEFORE;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

/// Sums by thread and the kernel side's numbers of stack and object.
#[derive(Debug, Default)]
pub(super) struct Sums {
    entries: HashMap<(Tid, u64, u64), Aggregate>,
    /// Waits that found no entry.
    left_out: u64,
}

impl Sums {
    /// Adds what the kernel side summed.
    pub(super) fn add(&mut self, key: &AggregateKey, more: &Aggregate) {
        let place = (Tid(key.tid), key.stack, key.object);
        match self.entries.get_mut(&place) {
            None => {
                self.entries.insert(place, *more);
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
        if self.entries.len() < most
            || self
                .entries
                .contains_key(&(Tid(key.tid), key.stack, key.object))
        {
            self.add(key, more);
        } else {
            self.left_out = self.left_out.saturating_add(more.waits);
        }
    }

    /// Takes out the wait in which a thread was found by the recording.
    fn take_first_wait(&mut self, tid: Tid) -> Option<Aggregate> {
        self.entries.remove(&(tid, STACK_BEFORE, 0))
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

/// A wait that has not ended, by the kernel side's numbers.
struct Open {
    tid: Tid,
    stack: u64,
    object: u64,
    task: u64,
    since: Timestamp,
}

/// What there is at the end.
pub(super) struct Closing<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) modules: &'a Modules,
    pub(super) gathered: Gathered,
    pub(super) early: &'a Early,
    pub(super) sums: Sums,
    pub(super) target: &'a Target,
    pub(super) ended: Option<String>,
    pub(super) started_at: SystemTime,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) min_block: Nanos,
    pub(super) launched: bool,
    pub(super) sampling: Option<Sampling>,
    /// What the CPU quota had done when the recording began.
    pub(super) quota: Option<CpuQuota>,
    pub(super) mappings_left_out: u64,
    pub(super) shadow: Option<ShadowCheck>,
    /// What threads were found to wait for shortly before the end, and since when they did.
    pub(super) found: HashMap<Tid, (Option<Timestamp>, Found)>,
    /// Threads that the kernel counted switches of since the beginning.
    pub(super) moved: HashSet<Tid>,
}

/// Threads by id: one id may have been two threads, one after the other.
#[derive(Debug, Default)]
struct Threads(BTreeMap<Tid, ThreadRecord>);

impl Threads {
    fn add(&mut self, tid: Tid, books: EndedBooks) {
        let thread = self.0.entry(tid).or_insert_with(|| ThreadRecord {
            tid,
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
    fn add_books(&mut self, tid: Tid, books: &Books, until: u64) {
        let books = EndedBooks {
            lived: until.saturating_sub(books.first_seen),
            running: books.running,
            runnable: books.runnable,
            blocked: books.blocked,
            waits: books.waits,
        };
        self.add(tid, books);
    }
}

/// Makes the recording.
pub(super) fn recording(mut closing: Closing<'_>) -> Result<Recording> {
    if closing.ended.is_some() {
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
    for (tid, books) in closing.gathered.ended.iter() {
        threads.add(tid, *books);
    }
    for thread in closing.kernel.threads()? {
        for (key, aggregate) in closing.kernel.parks(&thread)? {
            sums.add(&key, &aggregate);
        }
        close(&thread, closing.end, &mut threads, &mut sums, &mut open);
    }
    if closing.launched {
        forget_hold(
            closing.target,
            &mut closing.gathered,
            &mut threads,
            &mut sums,
        );
    }
    for tid in closing.early.runnable() {
        was_runnable(*tid, &mut closing.gathered, &mut threads, &mut sums);
    }
    unmoved(&closing, &mut threads, &mut open);
    names(&closing, &mut threads);

    closing.gathered.judge_again();
    closing.gathered.name_kernel();
    let mut stacks = Stacks {
        no_stack: None,
        gathered: closing.gathered,
        early: closing.early,
    };
    let totals = totals(&sums, &mut stacks);
    let mut found = std::mem::take(&mut closing.found);
    let waits = waits(&mut stacks);
    let open_waits = open
        .into_iter()
        .map(|open| {
            let found = found
                .remove(&open.tid)
                .filter(|(began, _)| began.is_none_or(|began| began == open.since));
            let (object, holder) = found.map_or((None, None), |(_, found)| {
                (Some(found.object), found.holder)
            });
            OpenWait {
                tid: open.tid,
                stack: stacks.id(open.tid, open.stack),
                began_for: stacks.gathered.objects.by_number(open.object),
                since: open.since,
                before_recording: open.stack == STACK_BEFORE,
                object,
                holder,
                task_id: stacks.task_id(open.task),
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
    };
    let losses = lost.losses()?;
    let judges = judges(&closing.kernel.counters()?, &gathered, &totals);
    let samples = std::mem::take(&mut gathered.samples);
    let long_poll = closing.sampling.map_or(Nanos::ZERO, |how| how.long_poll);
    let (samples, long_polls) = samples.finish(long_poll);
    Ok(Recording {
        tool: Tool {
            name: "holdup".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        },
        host: host(),
        target: target_facts(closing.target, closing.modules, closing.ended),
        started_at: closing
            .started_at
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64()),
        start: closing.start,
        end: closing.end,
        min_block: closing.min_block,
        threads: threads.0.into_values().collect(),
        stacks: gathered.stacks,
        objects: gathered.objects.into_all(),
        totals,
        waits,
        open_waits,
        sampling: closing.sampling,
        samples,
        long_polls,
        throttling: closing
            .quota
            .and_then(|before| before.since())
            .map(throttling),
        judges,
        losses,
    })
}

/// Adds the stretch that was under way at the end to a thread's books.
fn close(
    thread: &KernelThread,
    end: Timestamp,
    threads: &mut Threads,
    sums: &mut Sums,
    open: &mut Vec<Open>,
) {
    let tid = Tid(thread.tid);
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
                reserved: 0,
            };
            sums.add_woken(&key, blocked, stretch - blocked);
        }
        PHASE_BLOCKED => {
            books.blocked += stretch;
            open.push(Open {
                tid,
                stack: thread.stack,
                object: thread.object,
                task: thread.task_id,
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
    threads.add_books(tid, &books, until);
}

/// Takes out the wait in which the recording is said to have found a thread.
fn take_first_wait(tid: Tid, gathered: &mut Gathered, sums: &mut Sums) -> Option<Aggregate> {
    let first = sums.take_first_wait(tid)?;
    gathered
        .waits
        .retain(|wait| wait.tid != tid || wait.stack != STACK_BEFORE);
    Some(first)
}

/// Sets the books right of a thread that did not wait in the beginning, but for a CPU.
fn was_runnable(tid: Tid, gathered: &mut Gathered, threads: &mut Threads, sums: &mut Sums) {
    if let Some(first) = take_first_wait(tid, gathered, sums)
        && let Some(thread) = threads.0.get_mut(&tid)
    {
        let blocked = Nanos(first.blocked).min(thread.blocked);
        thread.blocked = thread.blocked.saturating_sub(blocked);
        thread.runnable += blocked;
        thread.waits = thread.waits.saturating_sub(first.waits);
    }
}

/// Takes the time for which we held a command at its start out of its main thread's books.
fn forget_hold(target: &Target, gathered: &mut Gathered, threads: &mut Threads, sums: &mut Sums) {
    let tid = Tid(target.pid().0);
    let Some(held) = take_first_wait(tid, gathered, sums) else {
        return;
    };
    if let Some(thread) = threads.0.get_mut(&tid) {
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
    for tid in closing.gathered.names.keys() {
        // One that moved and has no books was lost (a full table): nothing may be made up for it.
        if threads.0.contains_key(tid) || closing.moved.contains(tid) {
            continue;
        }
        if closing.early.was_running(*tid) {
            let books = EndedBooks {
                lived: whole,
                running: whole,
                ..EndedBooks::default()
            };
            threads.add(*tid, books);
        } else if closing.early.runnable().contains(tid) {
            let books = EndedBooks {
                lived: whole,
                runnable: whole,
                ..EndedBooks::default()
            };
            threads.add(*tid, books);
        } else if closing.early.stack(*tid).is_some() {
            let books = EndedBooks {
                lived: whole,
                blocked: whole,
                ..EndedBooks::default()
            };
            threads.add(*tid, books);
            open.push(Open {
                tid: *tid,
                stack: STACK_BEFORE,
                object: 0,
                task: 0,
                since: closing.start,
            });
        }
    }
}

/// The names that threads have now; for those that ended, the last one seen.
fn names(closing: &Closing<'_>, threads: &mut Threads) {
    for (tid, name) in &closing.gathered.names {
        if let Some(thread) = threads.0.get_mut(tid) {
            thread.name = name.to_string();
        }
    }
    for named in closing.target.threads().unwrap_or_default() {
        if let Some(thread) = threads.0.get_mut(&named.tid) {
            thread.name = named.name;
        }
    }
}

/// Numbers of the kernel side to stacks of the recording.
struct Stacks<'a> {
    gathered: Gathered,
    early: &'a Early,
    /// The one that stands for all whose stack is not known.
    no_stack: Option<StackId>,
}

impl Stacks<'_> {
    /// The id of a task that the kernel side read, where such reading counts.
    fn task_id(&self, id: u64) -> Option<u64> {
        (id != 0 && self.gathered.agreement.trusted()).then_some(id)
    }

    fn id(&mut self, tid: Tid, number: u64) -> StackId {
        let known = match number {
            STACK_BEFORE => self.early.stack(tid),
            number => self.gathered.by_number(number),
        };
        known.or(self.no_stack).unwrap_or_else(|| {
            let id = self
                .gathered
                .add(Vec::new(), Some(Truncation::NoStack), None, Place::Unknown);
            self.no_stack = Some(id);
            id
        })
    }
}

fn totals(sums: &Sums, stacks: &mut Stacks<'_>) -> Vec<WaitTotal> {
    let mut merged: BTreeMap<(Tid, StackId, Option<ObjectId>), WaitTotal> = BTreeMap::new();
    for ((tid, number, object), sum) in &sums.entries {
        let stack = stacks.id(*tid, *number);
        let object = stacks.gathered.objects.by_number(*object);
        let key = (*tid, stack, object);
        let total = merged.entry(key).or_insert_with(|| WaitTotal {
            tid: *tid,
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
        let stack = stacks.id(wait.tid, wait.stack);
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
            task_id: stacks.task_id(wait.task_id),
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
        agreed: gathered.agreement.agreed,
        disagreed: gathered.agreement.disagreed,
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

fn target_facts(target: &Target, modules: &Modules, ended: Option<String>) -> TargetFacts {
    let exe = modules.of_exe(target).or_else(|| modules.iter().next());
    let facts = exe.and_then(|exe| exe.facts.as_ref());
    let tokio_version = modules
        .iter()
        .filter_map(|module| module.facts.as_ref())
        .flat_map(|facts| facts.tokio.versions.iter())
        .next()
        .cloned();
    TargetFacts {
        pid: target.pid(),
        exe: String::from_utf8_lossy(target.exe()).into_owned(),
        build_id: facts.and_then(|facts| facts.build_id.clone()),
        cmdline: target.cmdline_text(),
        tokio_version,
        ended,
        has_symbols: facts.is_some_and(|facts| facts.has_symtab),
        has_lines: facts.is_some_and(|facts| facts.has_debug_lines),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gather::Bounds;
    use super::*;
    use crate::limits::Limits;

    fn key(tid: Tid, stack: u64) -> AggregateKey {
        AggregateKey {
            stack,
            object: 0,
            tid: tid.0,
            reserved: 0,
        }
    }

    #[test]
    fn sums_of_ended_threads_are_bounded_and_the_rest_is_counted() {
        let key = |tid| key(Tid(tid), 7);
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
        assert_eq!(sums.entries[&(Tid(1), 7, 0)].waits, 10);
        assert_eq!(sums.left_out, 5);
    }

    #[test]
    fn a_thread_found_wanting_a_cpu_did_not_wait() {
        let (tid, other) = (Tid(7), Tid(8));
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
