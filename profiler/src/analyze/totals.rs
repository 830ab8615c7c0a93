//! The sums of a row of intervals. What they take depends on how many threads, stacks and objects
//! there are, not on how many waits, and has bounds: what goes beyond is counted as lost.

use super::guessed_groups::Drivers;
use super::quantile::Durations;
use super::stack_facts::WaitRole;
use super::sum_map::SumMap;
use super::task_ids::Tasks;
use super::thread_sums::ThreadSums;
use crate::recording::{
    CallSum, Classified, Interval, Losses, ObjectId, PanicSum, Poll, PollEvidence, ProcessId,
    SHORT_WAITS_PER_SAMPLE, StackId, Tables, ThreadId, Throttling, Wait, WaitSum, WakerId,
};
use crate::report::{PollTimes, QueuedTasks};
use crate::units::{Nanos, Timestamp};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// How many entries the tables of [`Totals`] have at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Threads.
    pub(super) threads: usize,
    /// Threads by stack, and stacks by object.
    pub(super) sums: usize,
    /// Stacks by waker.
    pub(super) wakers: usize,
    /// Calls, panics and long polls, each by thread and stack.
    pub(super) others: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            threads: 1 << 17,
            sums: 1 << 18,
            wakers: 1 << 16,
            others: 1 << 16,
        }
    }
}

/// Waits of one thread with one stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WaitTimes {
    pub(super) waits: u64,
    pub(super) blocked: Nanos,
    pub(super) runqueue: Nanos,
    /// The longest blocked part.
    pub(super) max: Nanos,
}

impl WaitTimes {
    pub(super) fn add(&mut self, more: WaitTimes) {
        self.waits = self.waits.saturating_add(more.waits);
        self.blocked += more.blocked;
        self.runqueue += more.runqueue;
        self.max = self.max.max(more.max);
    }

    /// Takes away what is not to be counted; the number of waits stays, and the longest one.
    pub(super) fn without(self, part: WaitTimes) -> WaitTimes {
        WaitTimes {
            waits: self.waits,
            blocked: self.blocked.saturating_sub(part.blocked),
            runqueue: self.runqueue.saturating_sub(part.runqueue),
            max: self.max,
        }
    }
}

/// The finished waits with one stack.
#[derive(Clone, Debug, Default)]
pub(super) struct StackWaits {
    pub(super) times: WaitTimes,
    pub(super) durations: Durations,
    pub(super) tasks: Tasks,
    /// Waits whose waker found no room in [`Totals::wakers`].
    pub(super) other_wakers: u64,
}

impl StackWaits {
    fn merge(&mut self, more: &StackWaits) {
        self.times.add(more.times);
        self.durations.merge(&more.durations);
        self.tasks.merge(&more.tasks);
        self.other_wakers = self.other_wakers.saturating_add(more.other_wakers);
    }
}

/// A wait that may have been its thread's last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastWait {
    pub(super) stack: StackId,
    pub(super) blocked: Nanos,
    pub(super) end: Timestamp,
}

/// From which length on waits are kept as [`LastWait`].
const LONG_WAIT: Nanos = Nanos(1_000_000_000);

/// Waits that a thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WokenKey {
    pub(super) stack: StackId,
    /// The thread that waited, where the class of the stack demands to know.
    pub(super) thread: Option<ThreadId>,
    pub(super) waker: WakerId,
    pub(super) waker_stack: Option<StackId>,
}

/// The long polls of one thread whose longest parts have one stack.
#[derive(Clone, Debug)]
pub(super) struct PollSums {
    pub(super) polls: PollTimes,
    pub(super) longest: Poll,
    /// Those in which the thread ran for most of the time.
    pub(super) on_cpu: OnCpuPolls,
    pub(super) queued: QueuedTasks,
    pub(super) evidence: BTreeSet<PollEvidence>,
}

/// Polls in which the thread ran for most of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OnCpuPolls {
    pub(super) polls: u64,
    /// Time on a CPU.
    pub(super) running: Nanos,
    /// The most of it in one.
    pub(super) longest: Nanos,
}

impl PollSums {
    fn new(poll: &Poll) -> PollSums {
        PollSums {
            polls: PollTimes::default(),
            longest: *poll,
            on_cpu: OnCpuPolls::default(),
            queued: QueuedTasks::default(),
            evidence: BTreeSet::new(),
        }
    }

    fn add(&mut self, poll: &Poll) {
        self.polls.add(poll);
        self.evidence.insert(poll.evidence);
        if let Some(queued) = poll.queued {
            self.queued.add(queued);
        }
        if poll.length() > self.longest.length() {
            self.longest = *poll;
        }
        if poll.is_on_cpu() {
            self.on_cpu.polls += 1;
            self.on_cpu.running += poll.running;
            self.on_cpu.longest = self.on_cpu.longest.max(poll.running);
        }
    }
}

/// The sums.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    bounds: Bounds,
    pub(super) threads: BTreeMap<ThreadId, ThreadSums>,
    pub(super) waits: SumMap<(ThreadId, StackId), WaitTimes>,
    pub(super) stacks: SumMap<StackId, StackWaits>,
    /// Waits and their blocked time; no object being waits whose object is not known.
    pub(super) objects: SumMap<(StackId, Option<ObjectId>), (u64, Nanos)>,
    pub(super) drivers: Drivers,
    /// Waits whose waker was seen, with their blocked time: those recorded one by one, and of the
    /// shorter ones as many as their sample stands for.
    pub(super) wakers: SumMap<WokenKey, (u64, Nanos)>,
    /// The last wait of each thread, of those that took as long as a second.
    pub(super) last_long_waits: BTreeMap<ThreadId, LastWait>,
    pub(super) samples: BTreeMap<(ThreadId, StackId), u64>,
    pub(super) polls: BTreeMap<(ThreadId, StackId), PollSums>,
    pub(super) calls: BTreeMap<(ThreadId, StackId, Option<ObjectId>), CallSum>,
    pub(super) panics: BTreeMap<(ThreadId, StackId), PanicSum>,
    pub(super) throttling: BTreeMap<ProcessId, Throttling>,
    pub(super) classified: Classified,
    pub(super) losses: Losses,
    /// Threads that found no room, as many as there were at once.
    threads_refused: u64,
}

/// Adds to an entry, or makes it if there is room; whether there was.
fn add_within<K: Ord, V>(
    map: &mut BTreeMap<K, V>,
    most: usize,
    key: K,
    new: impl FnOnce() -> V,
    add: impl FnOnce(&mut V),
) -> bool {
    let len = map.len();
    match map.entry(key) {
        Entry::Occupied(entry) => add(entry.into_mut()),
        Entry::Vacant(entry) if len < most => add(entry.insert(new())),
        Entry::Vacant(_) => return false,
    }
    true
}

impl Totals {
    /// Sums of small bounds, for tests.
    #[cfg(test)]
    pub(super) fn within(bounds: Bounds) -> Totals {
        Totals {
            bounds,
            ..Totals::default()
        }
    }

    /// Adds what happened in `interval`.
    pub(super) fn add(&mut self, tables: &Tables, interval: &Interval) {
        self.losses.add(&interval.losses);
        self.classified.add(&interval.classified);
        let mut refused = 0;
        for times in &interval.threads {
            let new = ThreadSums::default;
            let most = self.bounds.threads;
            if !add_within(&mut self.threads, most, times.thread, new, |sum| {
                sum.add(times)
            }) {
                refused += 1;
            }
        }
        // One that lives on comes with each interval: as many count as there were at once.
        let more = u64::saturating_sub(refused, self.threads_refused);
        self.threads_refused += more;
        self.losses.by_cause.threads_left_out += more;
        for sum in &interval.sums {
            self.add_sum(sum);
        }
        self.drivers.add(tables, interval, self.bounds.threads);
        for wait in &interval.waits {
            self.add_wait(tables, wait);
        }
        for wait in &interval.short_waits {
            self.add_waker(tables, wait, SHORT_WAITS_PER_SAMPLE);
        }
        for sum in &interval.samples {
            let add = |samples: &mut u64| *samples = samples.saturating_add(sum.samples);
            let key = (sum.thread, sum.stack);
            if !add_within(&mut self.samples, self.bounds.sums, key, || 0, add) {
                self.lose_samples(sum.samples);
            }
        }
        for poll in &interval.polls {
            self.add_poll(poll);
        }
        for call in &interval.calls {
            self.add_call(call);
        }
        for panic in &interval.panics {
            self.add_panic(panic);
        }
        for (process, throttling) in &interval.throttling {
            self.add_throttling(*process, throttling);
        }
    }

    pub(super) fn add_sum(&mut self, sum: &WaitSum) {
        let times = WaitTimes {
            waits: sum.waits,
            blocked: sum.blocked,
            runqueue: sum.runqueue,
            max: sum.max,
        };
        let key = (sum.thread, sum.stack);
        let all = self.waits.within(self.bounds.sums, key, WaitTimes::default);
        if let Some(all) = all {
            all.add(times);
        } else {
            self.losses.by_cause.sums_left_out += sum.waits;
            self.losses.stacks += sum.waits;
        }
        let stack = self.stacks.of(sum.stack);
        stack.times.add(times);
        stack.durations.add_histogram(&sum.histogram);
        let mut add = |object: Option<ObjectId>, most: usize| {
            let all = self
                .objects
                .within(most, (sum.stack, object), Default::default);
            let Some(all) = all else { return false };
            all.0 = all.0.saturating_add(sum.waits);
            all.1 += sum.blocked;
            true
        };
        if !add(sum.object, self.bounds.sums) {
            // There are no more of these than stacks.
            add(None, usize::MAX);
            self.losses.objects += sum.waits;
        }
    }

    pub(super) fn add_wait(&mut self, tables: &Tables, wait: &Wait) {
        let blocked = wait.blocked();
        let stack = self.stacks.of(wait.stack);
        stack.durations.add(blocked);
        if let Some(task) = wait.task_id {
            stack.tasks.add(task, blocked);
        }
        if blocked >= LONG_WAIT {
            let (stack, end) = (wait.stack, wait.end);
            let last = LastWait {
                stack,
                blocked,
                end,
            };
            add_within(
                &mut self.last_long_waits,
                self.bounds.threads,
                wait.thread,
                || last,
                |known| *known = last,
            );
        }
        self.add_waker(tables, wait, 1);
    }

    /// Adds who ended a wait, which stands for so many.
    pub(super) fn add_waker(&mut self, tables: &Tables, wait: &Wait, waits: u64) {
        let Some(waker) = wait.waker else { return };
        let by_thread = WaitRole::of(tables, wait.stack).is_of_a_thread();
        let key = WokenKey {
            stack: wait.stack,
            thread: by_thread.then_some(wait.thread),
            waker,
            waker_stack: wait.waker_stack,
        };
        let all = self
            .wakers
            .within(self.bounds.wakers, key, Default::default);
        if let Some(all) = all {
            all.0 = all.0.saturating_add(waits);
            all.1 += Nanos(wait.blocked().0.saturating_mul(waits));
        } else {
            self.stacks.of(wait.stack).other_wakers += waits;
            self.losses.by_cause.wakers_left_out += waits;
        }
    }

    /// Adds what `other` has summed by stack, of the stacks that `takes` chooses.
    pub(super) fn add_stacks(&mut self, other: &Totals, takes: impl Fn(StackId) -> bool) {
        for (id, more) in other.stacks.iter().filter(|(id, _)| takes(**id)) {
            self.stacks.of(*id).merge(more);
        }
        let add = |sum: &mut (u64, Nanos), more: &(u64, Nanos)| {
            sum.0 = sum.0.saturating_add(more.0);
            sum.1 += more.1;
        };
        for (key, more) in other.objects.iter().filter(|((id, _), _)| takes(*id)) {
            add(self.objects.of(*key), more);
        }
        for (key, more) in other.wakers.iter().filter(|(key, _)| takes(key.stack)) {
            add(self.wakers.of(*key), more);
        }
    }

    fn lose_samples(&mut self, samples: u64) {
        self.losses.samples += samples;
        self.losses.by_cause.samples_left_out += samples;
    }

    fn add_poll(&mut self, poll: &Poll) {
        let key = (poll.thread, poll.stack);
        let most = self.bounds.others;
        let new = || PollSums::new(poll);
        if !add_within(&mut self.polls, most, key, new, |all| all.add(poll)) {
            self.lose_samples(1);
        }
    }

    fn add_call(&mut self, call: &CallSum) {
        let new = || CallSum {
            calls: 0,
            on_cpu: Nanos::ZERO,
            wall: Nanos::ZERO,
            max: Nanos::ZERO,
            ..*call
        };
        let add = |all: &mut CallSum| {
            all.calls = all.calls.saturating_add(call.calls);
            all.on_cpu += call.on_cpu;
            all.wall += call.wall;
            all.max = all.max.max(call.max);
        };
        let key = (call.thread, call.stack, call.object);
        if !add_within(&mut self.calls, self.bounds.others, key, new, add) {
            self.losses.calls += call.calls;
            self.losses.by_cause.calls_left_out += call.calls;
        }
    }

    fn add_panic(&mut self, panic: &PanicSum) {
        let new = || PanicSum {
            panics: 0,
            ..*panic
        };
        let add = |all: &mut PanicSum| {
            all.panics = all.panics.saturating_add(panic.panics);
            if panic.last >= all.last {
                (all.last, all.task_id) = (panic.last, panic.task_id);
            }
        };
        let key = (panic.thread, panic.stack);
        if !add_within(&mut self.panics, self.bounds.others, key, new, add) {
            self.losses.calls += panic.panics;
            self.losses.by_cause.panics_left_out += panic.panics;
        }
    }

    fn add_throttling(&mut self, process: ProcessId, more: &Throttling) {
        match self.throttling.entry(process) {
            Entry::Vacant(entry) => drop(entry.insert(more.clone())),
            Entry::Occupied(entry) => {
                let sum = entry.into_mut();
                // A process that moves to another group: the last one is told.
                sum.group.clone_from(&more.group);
                sum.periods = sum.periods.saturating_add(more.periods);
                sum.throttled_periods =
                    sum.throttled_periods.saturating_add(more.throttled_periods);
                sum.throttled += more.throttled;
            }
        }
    }
}
