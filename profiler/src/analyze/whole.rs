//! A row of intervals as one whole: the sums, less what came before the first interval and with
//! what had not ended in the last one.

use super::concurrency::blocked_until;
use super::totals::{Totals, WaitTimes};
use crate::recording::{Header, ObjectId, OpenWait, ProcessId, StackId, Tables, ThreadId};
use crate::units::{Nanos, Pid, Timestamp};
use std::collections::{BTreeMap, HashSet};

/// A thread that is woken to die has no more than this to do.
const DYING: Nanos = Nanos(50_000_000);

/// What a report is made of.
pub(super) struct Whole<'a> {
    pub(super) header: &'a Header,
    pub(super) tables: &'a Tables,
    pub(super) totals: &'a Totals,
    /// Waits that had not ended when the last interval did.
    pub(super) open_waits: &'a [OpenWait],
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    /// What the sums have of the time before `start`.
    before: BTreeMap<(ThreadId, StackId), WaitTimes>,
    /// The same, one by one.
    before_one_by_one: Vec<(OpenWait, Nanos)>,
    before_by_stack: BTreeMap<StackId, WaitTimes>,
    before_by_object: BTreeMap<(StackId, Option<ObjectId>), Nanos>,
}

impl<'a> Whole<'a> {
    /// The range from `start` to `end`; `carried` are the waits with which it began.
    pub(super) fn new(
        (header, tables): (&'a Header, &'a Tables),
        totals: &'a Totals,
        (start, carried): (Timestamp, &[OpenWait]),
        (end, open_waits): (Timestamp, &'a [OpenWait]),
    ) -> Whole<'a> {
        let mut whole = Whole {
            header,
            tables,
            totals,
            open_waits,
            start,
            end,
            before: BTreeMap::new(),
            before_one_by_one: Vec::new(),
            before_by_stack: BTreeMap::new(),
            before_by_object: BTreeMap::new(),
        };
        let still: HashSet<(ThreadId, Timestamp)> = open_waits
            .iter()
            .map(|open| (open.thread, open.since))
            .collect();
        for wait in carried {
            // One that has not ended is in no sum.
            if !still.contains(&(wait.thread, wait.since)) {
                whole.leave_out(wait);
            }
        }
        whole
    }

    /// Leaves out the part before the start of a wait that ended after it.
    fn leave_out(&mut self, wait: &OpenWait) {
        let woken = blocked_until(wait, self.start);
        let part = WaitTimes {
            waits: 0,
            blocked: woken - wait.since,
            runqueue: self.start - woken,
            max: Nanos::ZERO,
        };
        let by_thread = self.before.entry((wait.thread, wait.stack)).or_default();
        by_thread.add(part);
        let by_stack = self.before_by_stack.entry(wait.stack).or_default();
        by_stack.add(part);
        let key = (wait.stack, wait.began_for);
        *self.before_by_object.entry(key).or_default() += part.blocked;
        self.before_one_by_one.push((wait.clone(), part.blocked));
    }

    /// Waits that began before the start and ended after it, with their blocked time before it.
    pub(super) fn before(&self) -> impl Iterator<Item = (&OpenWait, Nanos)> {
        self.before_one_by_one
            .iter()
            .map(|(wait, time)| (wait, *time))
    }

    /// Its length.
    pub(super) fn length(&self) -> Nanos {
        self.end - self.start
    }

    /// The pid of a process, 0 where there is no such process.
    pub(super) fn pid(&self, process: ProcessId) -> Pid {
        self.tables
            .process(process)
            .map_or(Pid(0), |process| process.pid)
    }

    /// Finished and open waits by thread and stack. Open ones come after the others, each by
    /// itself.
    pub(super) fn waits(&self) -> impl Iterator<Item = (ThreadId, StackId, WaitTimes)> {
        let finished = self.totals.waits.iter().map(|(&(thread, stack), times)| {
            let before = self.before.get(&(thread, stack));
            let before = before.copied().unwrap_or_default();
            (thread, stack, times.without(before))
        });
        finished.chain(
            self.open()
                .map(|(open, times)| (open.thread, open.stack, times)),
        )
    }

    /// The stacks of each thread, with what it waited; those of samples with none.
    pub(super) fn seen(&self) -> impl Iterator<Item = (ThreadId, StackId, Nanos)> {
        let samples = self.totals.samples.keys();
        let samples = samples.map(|(thread, stack)| (*thread, *stack, Nanos::ZERO));
        let waits = self.waits();
        waits
            .map(|(thread, stack, times)| (thread, stack, times.blocked))
            .chain(samples)
    }

    /// The finished waits with a stack.
    pub(super) fn finished(&self, stack: StackId) -> WaitTimes {
        let times = self.totals.stacks.get(&stack);
        let before = self.before_by_stack.get(&stack);
        let times = times.map(|stack| stack.times).unwrap_or_default();
        times.without(before.copied().unwrap_or_default())
    }

    /// The finished waits by stack and object: how many, and their blocked time.
    pub(super) fn objects(
        &self,
    ) -> impl Iterator<Item = ((StackId, Option<ObjectId>), u64, Nanos)> {
        self.totals.objects.iter().map(|(key, (waits, time))| {
            let before = self.before_by_object.get(key).copied();
            (
                *key,
                *waits,
                time.saturating_sub(before.unwrap_or_default()),
            )
        })
    }

    /// The open waits, each with the parts of it that are in the range.
    pub(super) fn open(&self) -> impl Iterator<Item = (&'a OpenWait, WaitTimes)> {
        self.open_waits.iter().map(|open| {
            let woken = blocked_until(open, self.end);
            let blocked = woken - open.since.max(self.start);
            let times = WaitTimes {
                waits: 1,
                blocked,
                runqueue: self.end - woken.max(self.start),
                max: blocked,
            };
            (open, times)
        })
    }

    /// Those of them that nobody has woken yet.
    pub(super) fn still_waiting(&self) -> impl Iterator<Item = &'a OpenWait> {
        self.open_waits.iter().filter(|open| open.woken.is_none())
    }

    /// Waits that did not end by themselves: a process came to its end, and its threads were woken for
    /// that. Thread, stack and how long it had lasted.
    pub(super) fn ended_with_process(&self) -> impl Iterator<Item = (ThreadId, StackId, Nanos)> {
        self.totals
            .last_long_waits
            .iter()
            .filter(|(thread, last)| {
                let process = self.tables.process(thread.process);
                let life = self.totals.threads.get(thread).and_then(|times| times.life);
                let until_end = life.map(|(_, end)| end - last.end);
                process.is_some_and(|process| process.ended.is_some())
                    && until_end.is_some_and(|time| time <= DYING)
            })
            .map(|(thread, last)| (*thread, last.stack, last.blocked))
    }

    /// The CPU time that `samples` stand for.
    pub(super) fn sampled_time(&self, samples: u64) -> Nanos {
        let period = self.header.sampling.map_or(0, |sampling| sampling.period.0);
        Nanos(period.saturating_mul(samples))
    }
}
