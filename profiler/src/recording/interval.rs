//! What happened between two instants of a recording.

use super::{Holder, Losses, Object, ObjectId, ProcessId, StackId, ThreadId, WakerId};
use crate::runtime::Queued;
use crate::units::{Nanos, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Buckets of a wait histogram: bucket `i` counts waits of `[2^i, 2^(i+1))` nanoseconds, bucket
/// 0 also those of 0 ns, the last bucket everything longer.
pub const HIST_BUCKETS: usize = 40;

/// The bucket that counts waits of this length.
#[must_use]
pub fn bucket_of(length: Nanos) -> usize {
    let log2 = length.0.checked_ilog2().unwrap_or(0);
    usize::try_from(log2).map_or(HIST_BUCKETS - 1, |log2| log2.min(HIST_BUCKETS - 1))
}

/// Of so many waits shorter than [`Header::min_block`](super::Header::min_block) one is recorded, by
/// chance.
pub const SHORT_WAITS_PER_SAMPLE: u64 = 32;

/// One stretch of a recording. Intervals follow each other without a gap, and each is sound by
/// itself: the times of a thread sum to what it lived in the interval.
///
/// A wait that goes on across the end of an interval is in [`Interval::open_waits`] of that one and
/// in [`Interval::carried`] of the next. When it has ended, its sum has its whole length; of that
/// the part before the interval is the one in `carried`:
///
/// ```text
/// time of waits in the interval = sums - (start - since) of carried waits that ended in it
///                               + (end - max(since, start)) of open waits
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// First instant. A thread's own interval may begin a little later: at its first switch.
    pub start: Timestamp,
    /// Last instant.
    pub end: Timestamp,
    /// Where the time of each thread went that lived in the interval.
    pub threads: Vec<ThreadTimes>,
    /// Finished waits, each in exactly one sum.
    pub sums: Vec<WaitSum>,
    /// Finished waits of at least [`Header::min_block`](super::Header::min_block) that are not idle
    /// parks, one by one, by their ends.
    pub waits: Vec<Wait>,
    /// A sample of the shorter ones, about one in [`SHORT_WAITS_PER_SAMPLE`], by their ends: they tell
    /// who ends such waits.
    #[serde(default)]
    pub short_waits: Vec<Wait>,
    /// Waits that had begun before the interval and had not ended then.
    pub carried: Vec<OpenWait>,
    /// Waits that had not ended when the interval did.
    pub open_waits: Vec<OpenWait>,
    /// Samples of threads on a CPU, by thread and stack.
    pub samples: Vec<SampleSum>,
    /// Polls that took at least [`Header::long_poll`](super::Header::long_poll) and were found to be
    /// over in the interval, by their times.
    pub polls: Vec<Poll>,
    /// Times in which nobody waited for the events of an I/O driver: those that ended in the interval,
    /// and those that go on at its end, up to there.
    #[serde(default)]
    pub driver_gaps: Vec<DriverGap>,
    /// System calls in which a thread was on a CPU for at least `min_block`.
    pub calls: Vec<CallSum>,
    /// Panics.
    pub panics: Vec<PanicSum>,
    /// What CPU quotas did to the processes that have one.
    pub throttling: Vec<(ProcessId, Throttling)>,
    /// By what the waits were classified.
    pub classified: Classified,
    /// What failed to be recorded, unwound or named.
    pub losses: Losses,
}

/// Where the time of one thread went, exact to the nanosecond of the kernel's clock: `running`,
/// `runnable` and `blocked` sum to `lived`, but for switches that were lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadTimes {
    /// The thread.
    pub thread: ThreadId,
    /// How long it lived within the interval.
    pub lived: Nanos,
    /// When it ended; the interval's end where it lives on.
    pub until: Timestamp,
    /// On a CPU.
    pub running: Nanos,
    /// Wanting one: preempted, or woken and not yet running.
    pub runnable: Nanos,
    /// Off-CPU until the wakeup, finished and open waits together. What sums and open waits do not
    /// account for of this (a full table) is state `unknown`.
    pub blocked: Nanos,
    /// Finished waits, by the kernel side's own count.
    pub waits: u64,
    /// Time on a CPU inside system calls that do more than to wait or to wake, of those that returned in
    /// the interval; zero where they are not measured. One that began before the interval is in it as a
    /// whole: only over all intervals is this a part of `running`.
    pub in_calls: Nanos,
}

/// The finished waits of one thread with one stack for one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitSum {
    /// The thread.
    pub thread: ThreadId,
    /// The stack.
    pub stack: StackId,
    /// What was waited for, where it is known.
    pub object: Option<ObjectId>,
    /// How many waits.
    pub waits: u64,
    /// Their blocked parts: switch-out to wakeup.
    pub blocked: Nanos,
    /// Their run-queue parts: wakeup to switch-in.
    pub runqueue: Nanos,
    /// The longest blocked part.
    pub max: Nanos,
    /// Log2 histogram of the blocked parts, at most [`HIST_BUCKETS`] entries.
    pub histogram: Vec<u32>,
}

/// One finished wait.
///
/// [`Wait::is_short`] tells those of [`Interval::short_waits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The thread.
    pub thread: ThreadId,
    /// The stack.
    pub stack: StackId,
    /// What was waited for, where it is known.
    pub object: Option<ObjectId>,
    /// The switch-out.
    pub start: Timestamp,
    /// The wakeup; equal to `end` where none was seen.
    pub wakeup: Timestamp,
    /// The switch-in.
    pub end: Timestamp,
    /// Who made the wakeup, where it was seen.
    pub waker: Option<WakerId>,
    /// The waker's stack at the wakeup, where it is a thread of a recorded process.
    pub waker_stack: Option<StackId>,
    /// Id of the tokio task that was being polled, if tokio's thread-local state has it.
    pub task_id: Option<u64>,
}

impl Wait {
    /// Its blocked part.
    #[must_use]
    pub fn blocked(&self) -> Nanos {
        self.wakeup.min(self.end) - self.start
    }

    /// Whether it is shorter than what is recorded one by one.
    #[must_use]
    pub fn is_short(&self, min_block: Nanos) -> bool {
        self.blocked() < min_block
    }
}

/// For so long nobody waits for a lock that is merely in demand: a wait that has lasted for it is a
/// standstill, and told as one.
pub const STANDSTILL: Nanos = Nanos(1_000_000_000);

/// A wait that was still going on at an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWait {
    /// The thread.
    pub thread: ThreadId,
    /// The stack.
    pub stack: StackId,
    /// What is waited for by the kernel side's word at the beginning of the wait, where it is
    /// known.
    pub began_for: Option<ObjectId>,
    /// The switch-out, or the start of the recording where it came before.
    pub since: Timestamp,
    /// When it was woken, where it had been and had not come to run yet: from then on it waits for
    /// a CPU only.
    pub woken: Option<Timestamp>,
    /// Whether the wait began before the recording, so that it is in truth longer.
    pub before_recording: bool,
    /// What it waits for, where that was looked at.
    pub object: Option<Object>,
    /// Who holds that.
    pub holder: Option<Holder>,
    /// As [`Wait::task_id`].
    pub task_id: Option<u64>,
}

/// The samples of one thread with one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleSum {
    /// The thread.
    pub thread: ThreadId,
    /// The stack. The state of its class is that of a thread that waits there: `blocked` is a
    /// thread on a CPU in a task poll.
    pub stack: StackId,
    /// How many.
    pub samples: u64,
}

/// The long system calls of one thread with one stack for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSum {
    /// The thread.
    pub thread: ThreadId,
    /// The stack, as that of [`SampleSum::stack`].
    pub stack: StackId,
    /// What the call was for, where it is known.
    pub object: Option<ObjectId>,
    /// How many.
    pub calls: u64,
    /// Their time on a CPU: a part of the thread's `running`, and of no wait.
    pub on_cpu: Nanos,
    /// Their time in all, from entry to return.
    pub wall: Nanos,
    /// The most time on a CPU in one of them.
    pub max: Nanos,
}

/// The panics of one thread with one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicSum {
    /// The thread.
    pub thread: ThreadId,
    /// The stack at the start of the panic, as that of [`SampleSum::stack`].
    pub stack: StackId,
    /// How many.
    pub panics: u64,
    /// When the last one was.
    pub last: Timestamp,
    /// Id of the task in which the last one was, if tokio's thread-local state has it.
    pub task_id: Option<u64>,
}

/// A poll that took long: one call of a task's `poll`, as far as waits and samples show it. It may
/// have begun a little before the first of them, and ended a little after the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// The thread.
    pub thread: ThreadId,
    /// The stack of its longest part: of its longest wait, or of the first sample on a CPU where
    /// it ran for longer than it waited.
    pub stack: StackId,
    /// The task's id in its runtime, if tokio's thread-local state had it.
    pub task_id: Option<u64>,
    /// The first switch-out or sample in it.
    pub start: Timestamp,
    /// The last switch-in or sample in it.
    pub end: Timestamp,
    /// The part in which the thread waited, up to wakeups.
    pub blocked: Nanos,
    /// The part in which it wanted a CPU and had none.
    pub runqueue: Nanos,
    /// The part in which it ran.
    pub running: Nanos,
    /// Waits that were recorded one by one.
    pub waits: u64,
    /// Samples.
    pub samples: u64,
    /// What waited for the worker when it began to wait in this poll first, where that is known.
    #[serde(default)]
    pub queued: Option<Queued>,
    /// How we know that it was one poll.
    pub evidence: PollEvidence,
}

impl Poll {
    /// Its length, at least.
    #[must_use]
    pub fn length(&self) -> Nanos {
        self.end - self.start
    }

    /// Whether it is long because its thread waited: for longer than it ran, and for at least a
    /// quarter of it. On a busy machine each wakeup has its time in the run queue, which the wait is
    /// the reason for; but one that hardly waits, and has to wait long for a CPU, is none of those.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.waits > 0 && self.blocked >= self.running && self.blocked.0 >= self.length().0 / 4
    }

    /// Whether its thread ran for most of it.
    #[must_use]
    pub fn is_on_cpu(&self) -> bool {
        !self.is_blocked() && self.running.0 >= self.length().0 / 2
    }
}

/// A time of at least 1 ms in which no thread waited for the events of an I/O driver (an epoll
/// instance). Threads that look for events without waiting are not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverGap {
    /// The thread that waited for them after it, or was the last one before it.
    pub thread: ThreadId,
    /// When the last one that waited came to run.
    pub from: Timestamp,
    /// When the next one began to wait; the interval's end where nobody did yet.
    pub to: Timestamp,
}

/// How waits and samples were found to be of one poll.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PollEvidence {
    /// The worker's tick and the task's id were the same: one turn of the worker's loop. (A task
    /// that wakes itself may be polled up to three times in a turn.)
    Tick,
    /// The thread did not wait in between, and was in the same task function, with the same task
    /// id where that is known. Short polls of one function, one right after the other, look the
    /// same; and a poll that waits twice looks like two, but where it waits for Python's lock.
    Stack,
}

/// What a CPU quota (`cpu.max` of a control group) did to a process in an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttling {
    /// The control group with the quota: the process's, or one above it.
    pub group: String,
    /// Periods of the quota.
    pub periods: u64,
    /// Periods in which the group used its quota up.
    pub throttled_periods: u64,
    /// For how long the group's threads were kept from the CPUs, summed over CPUs (cgroup v1)
    /// or as the kernel's `throttled_usec` has it (v2).
    pub throttled: Nanos,
}

/// By what waits were classified: the rules over named frames, and tokio's thread-local state,
/// which is read where its layout is known. In finished waits, but for the last three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Classified {
    /// By the rules alone.
    pub by_symbols: u64,
    /// By the thread-local state alone: the frames have no names, or it knew better.
    pub by_context: u64,
    /// By both, which said the same.
    pub by_both: u64,
    /// By none.
    pub by_neither: u64,
    /// Distinct stacks of which both said the same, of the whole recording so far.
    pub agreed: u64,
    /// Distinct stacks of which they said different things, likewise. One is enough for the
    /// thread-local state to count for nothing.
    pub disagreed: u64,
    /// Parks that the kernel side knew again, without walking their stacks.
    pub parks_known: u64,
}

impl Classified {
    /// Adds those of the interval that follows.
    pub fn add(&mut self, more: &Classified) {
        let Classified {
            by_symbols,
            by_context,
            by_both,
            by_neither,
            agreed,
            disagreed,
            parks_known,
        } = *more;
        self.by_symbols = self.by_symbols.saturating_add(by_symbols);
        self.by_context = self.by_context.saturating_add(by_context);
        self.by_both = self.by_both.saturating_add(by_both);
        self.by_neither = self.by_neither.saturating_add(by_neither);
        self.parks_known = self.parks_known.saturating_add(parks_known);
        // These two are of the whole recording so far.
        (self.agreed, self.disagreed) = (agreed, disagreed);
    }
}
