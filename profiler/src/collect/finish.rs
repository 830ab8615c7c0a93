//! Closing the books: from kernel tables and gathered events to a [`Recording`].

use super::books::{Open, Threads, close, forget_hold, was_runnable};
use super::ended::EndedTimes;
use super::gather::Gathered;
use super::initial_waits::InitialWaits;
use super::lost::Lost;
use super::modules::Modules;
use super::open_waits::Found;
use super::split::split;
use super::stack_table::Owner;
use super::sums::{Sums, Thread};
use super::traced_process::TracedProcess;
use crate::bpf::{Counters, Programs};
use crate::process::QuotaUse;
use crate::recording::{
    CallTotal, Host, Judges, ObjectId, OpenWait, PanicTotal, Panics, Recording, Sampling,
    ShadowCheck, StackEntry, StackId, Throttling, Tool, Wait, WaitTotal, Waker,
};
use crate::runtime::State;
use crate::runtime::tokio::{ClassifiedBy, TlsState};
use crate::units::{Nanos, Pid, Tid, Timestamp};
use crate::unwind::Truncation;
use anyhow::{Context, Result};
use profiler_common::counter::Counter;
use profiler_common::map::HISTOGRAM_BUCKETS;
use profiler_common::record::STACK_BEFORE;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

/// What there is at the end.
pub(super) struct Closing<'a> {
    pub(super) kernel: &'a Programs,
    pub(super) modules: &'a Modules,
    pub(super) gathered: Gathered,
    pub(super) early: &'a InitialWaits,
    pub(super) sums: Sums,
    pub(super) processes: &'a [TracedProcess],
    /// Whether none of them is left.
    pub(super) ended_all: bool,
    pub(super) started_at: SystemTime,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) min_block: Nanos,
    pub(super) launched: bool,
    pub(super) sampling: Option<Sampling>,
    pub(super) calls_measured: bool,
    /// Where panics were probed, by process; none where they were not to be counted.
    pub(super) panics: Option<HashMap<Pid, Panics>>,
    pub(super) mappings_left_out: u64,
    pub(super) shadow: Option<ShadowCheck>,
    /// What threads were found to wait for shortly before the end, and since when they did.
    pub(super) found: HashMap<Thread, (Option<Timestamp>, Found)>,
    /// Threads that the kernel counted switches of since the beginning.
    pub(super) moved: HashSet<Thread>,
    /// Forked processes of which nothing was recorded.
    pub(super) not_followed: u64,
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

    closing.gathered.stacks.judge_again();
    let symbolizer = &mut closing.gathered.symbolizer;
    closing.gathered.stacks.name_kernel(symbolizer);
    let mut stacks = Stacks {
        no_stack: HashMap::new(),
        gathered: closing.gathered,
        early: closing.early,
        processes: closing.processes,
    };
    let totals = totals(&sums, &mut stacks);
    let mut found = std::mem::take(&mut closing.found);
    let waits = waits(&mut stacks);
    let calls = calls(&mut stacks);
    let mut panics = std::mem::take(&mut closing.panics);
    if let Some(probed) = &mut panics {
        add_panics(&mut stacks, probed);
    }
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
    let own: Vec<Pid> = closing.processes.iter().map(|p| p.pid).collect();
    gathered.objects.name_ends(&own);
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
    let mut throttled = HashMap::new();
    for process in closing.processes {
        if let Some(quota) = process.quota_use() {
            throttled
                .entry(process.pid)
                .or_insert_with(|| throttling(quota));
        }
    }
    let (stacks, owners): (Vec<_>, Vec<_>) = gathered.stacks.into_all().unzip();
    let samples = gathered.samples;
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
        stacks,
        objects: gathered.objects.into_all(),
        totals,
        waits,
        open_waits,
        sampling: closing.sampling,
        samples,
        long_polls,
        calls_measured: closing.calls_measured,
        calls,
        panics: None,
        throttling: None,
        judges,
        losses,
        others: Vec::new(),
    };
    Ok(split(whole, &facts, threads, &owners, throttled, panics))
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
            let books = EndedTimes {
                lived: whole,
                running: whole,
                ..EndedTimes::default()
            };
            threads.add(*thread, books);
        } else if closing.early.runnable().contains(thread) {
            let books = EndedTimes {
                lived: whole,
                runnable: whole,
                ..EndedTimes::default()
            };
            threads.add(*thread, books);
        } else if closing.early.stack(*thread).is_some() {
            let books = EndedTimes {
                lived: whole,
                blocked: whole,
                ..EndedTimes::default()
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
    early: &'a InitialWaits,
    processes: &'a [TracedProcess],
    /// By process the one that stands for all whose stack is not known.
    no_stack: HashMap<Pid, StackId>,
}

impl Stacks<'_> {
    /// The id of a task that the kernel side read, where such reading counts.
    fn task_id(&self, stack: StackId, id: u64) -> Option<u64> {
        (id != 0 && self.gathered.stacks.trusts_context(stack)).then_some(id)
    }

    fn id(&mut self, thread: Thread, number: u64) -> StackId {
        let known = match number {
            STACK_BEFORE => self.early.stack(thread),
            number => self.gathered.stacks.by_number(number),
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
                    .stacks
                    .add(owner, Vec::new(), why, None, TlsState::Unknown)
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
    let timeline = &mut stacks.gathered.timeline;
    let mut waits = Vec::with_capacity(timeline.len());
    for wait in timeline.take_waits() {
        let stack = stacks.id((wait.pid, wait.tid), wait.stack);
        // Recorded before the stack was known to be an idle park.
        let idle = |s: &StackEntry| s.verdict.state == State::Idle;
        if stacks.gathered.stacks.get(stack).is_some_and(idle) {
            continue;
        }
        let waker = stacks.gathered.wakers.get(wait.waker as usize);
        let waker_stack = stacks.gathered.stacks.by_number(wait.waker_stack);
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
                name: waker.name.clone(),
                stack: waker_stack,
            }),
            task_id: stacks.task_id(stack, wait.task_id),
        });
    }
    waits.sort_unstable_by_key(|wait| (wait.start, wait.tid));
    waits
}

fn calls(stacks: &mut Stacks<'_>) -> Vec<CallTotal> {
    let sums = std::mem::take(&mut stacks.gathered.calls.sums);
    let mut merged: BTreeMap<(Tid, StackId, Option<ObjectId>), CallTotal> = BTreeMap::new();
    for ((thread, number, object), sum) in sums {
        let (stack, tid) = (stacks.id(thread, number), thread.1);
        let total = merged
            .entry((tid, stack, object))
            .or_insert_with(|| CallTotal {
                tid,
                stack,
                object,
                calls: 0,
                on_cpu: Nanos::ZERO,
                wall: Nanos::ZERO,
                max: Nanos::ZERO,
            });
        total.calls = total.calls.saturating_add(sum.calls);
        total.on_cpu += sum.on_cpu;
        total.wall += sum.wall;
        total.max = total.max.max(sum.max);
    }
    merged.into_values().collect()
}

/// Adds the panics that were seen to the processes that were probed.
fn add_panics(stacks: &mut Stacks<'_>, probed: &mut HashMap<Pid, Panics>) {
    let sums = std::mem::take(&mut stacks.gathered.panics.sums);
    for ((thread, number), sum) in sums {
        let stack = stacks.id(thread, number);
        let task_id = stacks.task_id(stack, sum.task_id);
        probed.entry(thread.0).or_default().totals.push(PanicTotal {
            tid: thread.1,
            stack,
            panics: sum.panics,
            last: Timestamp(sum.last),
            task_id,
        });
    }
    for panics in probed.values_mut() {
        panics.totals.sort_by_key(|total| (total.last, total.tid));
    }
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
            .stacks
            .agreements()
            .map(|agreement| agreement.agreed)
            .sum(),
        disagreed: gathered
            .stacks
            .agreements()
            .map(|agreement| agreement.disagreed)
            .sum(),
        parks_known: counters.get(Counter::ParksKnown),
        ..Judges::default()
    };
    for total in totals {
        let judge = gathered.stacks.judge(total.stack);
        *match judge.unwrap_or(ClassifiedBy::Neither) {
            ClassifiedBy::Symbols => &mut judges.by_symbols,
            ClassifiedBy::Context => &mut judges.by_context,
            ClassifiedBy::Both => &mut judges.by_both,
            ClassifiedBy::Neither => &mut judges.by_neither,
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
