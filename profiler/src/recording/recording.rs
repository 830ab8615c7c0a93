//! What one recording gathered, symbolized and classified, before any summing up.

use crate::recording::{Holder, Losses, Object};
use crate::runtime::Classification;
use crate::symbolize::Frame;
use crate::units::{Nanos, Pid, Tid, Timestamp};
use crate::unwind::Truncation;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Everything a report is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recording {
    /// Which holdup made it.
    pub tool: Tool,
    /// Where.
    pub host: Host,
    /// Of which process.
    pub target: Target,
    /// Wall-clock start, in seconds since the Unix epoch.
    pub started_at: f64,
    /// First instant of the recording.
    pub start: Timestamp,
    /// Last instant of the recording.
    pub end: Timestamp,
    /// Waits shorter than this have no entry in `waits`, only in `totals`.
    pub min_block: Nanos,
    /// Every thread seen, with its exact books.
    pub threads: Vec<ThreadRecord>,
    /// Every distinct stack.
    pub stacks: Vec<StackEntry>,
    /// Every object that was waited for.
    pub objects: Vec<WaitObject>,
    /// Sums by thread, stack and object: every finished wait is in exactly one.
    pub totals: Vec<WaitTotal>,
    /// The timeline: finished waits of at least `min_block` that are not idle parks.
    pub waits: Vec<Wait>,
    /// Waits that had not ended when the recording did.
    pub open_waits: Vec<OpenWait>,
    /// How threads on a CPU were sampled; none where they were not.
    #[serde(default)]
    pub sampling: Option<Sampling>,
    /// The samples, by thread and stack.
    #[serde(default)]
    pub samples: Vec<SampleTotal>,
    /// Polls that took a CPU for at least [`Sampling::long_poll`], in the order of their times.
    #[serde(default)]
    pub long_polls: Vec<LongPoll>,
    /// Whether system calls were measured: where not, `calls` is empty and
    /// [`ThreadRecord::in_calls`] zero.
    #[serde(default)]
    pub calls_measured: bool,
    /// System calls in which a thread was on a CPU for at least `min_block`.
    #[serde(default)]
    pub calls: Vec<CallTotal>,
    /// Panics; none where they were not counted.
    #[serde(default)]
    pub panics: Option<Panics>,
    /// How the CPU quota of the target's control group held it up, where it has one.
    #[serde(default)]
    pub throttling: Option<Throttling>,
    /// Who said what the waits were.
    #[serde(default)]
    pub judges: Judges,
    /// What failed to be recorded, unwound or named, of all processes.
    pub losses: Losses,
    /// Where several processes were recorded at once, those after the first: each a recording
    /// of its own over the same time, without losses and others.
    pub others: Vec<Recording>,
}

impl Recording {
    /// Every recorded process, the first one first.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let others = self.others.iter().map(|other| &other.target);
        std::iter::once(&self.target).chain(others)
    }
}

/// How threads on a CPU were sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// CPU time between two samples: what each of them stands for.
    pub period: Nanos,
    /// Shorter polls are no long ones.
    pub long_poll: Nanos,
}

/// The samples of one thread with one stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleTotal {
    /// The thread.
    pub tid: Tid,
    /// The stack. The state of its verdict is that of a thread that waits there: `blocked` is a
    /// thread on a CPU in a task poll.
    pub stack: StackId,
    /// How many.
    pub samples: u64,
}

/// The long system calls of one thread with one stack for one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallTotal {
    /// The thread.
    pub tid: Tid,
    /// The stack, as that of [`SampleTotal::stack`].
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

/// Panics of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Panics {
    /// The functions that were probed, demangled, with their modules (`std::panicking::… in app`).
    /// Where there are none, panics could not be counted.
    pub probed: Vec<String>,
    /// Why some could not be counted, in a sentence.
    pub problem: Option<String>,
    /// By thread and stack.
    pub totals: Vec<PanicTotal>,
}

/// The panics of one thread with one stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicTotal {
    /// The thread.
    pub tid: Tid,
    /// The stack at the begin of the panic, as that of [`SampleTotal::stack`].
    pub stack: StackId,
    /// How many.
    pub panics: u64,
    /// When the last one was.
    pub last: Timestamp,
    /// Id of the task in which the last one was, where tokio's thread-local state tells.
    pub task_id: Option<u64>,
}

/// A poll that several samples in a row found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongPoll {
    /// The thread.
    pub tid: Tid,
    /// The stack of its first sample.
    pub stack: StackId,
    /// The task's id in its runtime, where tokio's thread-local state told it.
    pub task_id: Option<u64>,
    /// The first sample.
    pub first: Timestamp,
    /// The last sample.
    pub last: Timestamp,
    /// CPU time of the thread between first and last sample: the poll's, at least. It may have
    /// begun a period before and ended one after.
    pub on_cpu: Nanos,
    /// Samples.
    pub samples: u64,
    /// How we know that it was one poll.
    pub evidence: PollEvidence,
}

/// How samples in a row were found to be of one poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PollEvidence {
    /// The worker's tick and the task's id were the same: one turn of the worker's loop. (A task
    /// that wakes itself may be polled up to three times in a turn.)
    Tick,
    /// The thread did not wait in between, and was in the same task function, with the same task
    /// id where that is known. Short polls of one function, one right after the other, look the
    /// same.
    Stack,
}

/// What a CPU quota (`cpu.max` of a control group) did to a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttling {
    /// The control group with the quota: the target's, or one above it.
    pub group: String,
    /// Periods of the quota within the recording.
    pub periods: u64,
    /// Periods in which the group used its quota up.
    pub throttled_periods: u64,
    /// For how long the group's threads were kept from the CPUs, summed over CPUs (cgroup v1)
    /// or as the kernel's `throttled_usec` has it (v2).
    pub throttled: Nanos,
}

/// The program that recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `holdup`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// CPUs online.
    pub cpus: u32,
}

/// The recorded process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Process id.
    pub pid: Pid,
    /// Path of the executable as the process's own namespace names it.
    pub exe: String,
    /// GNU build ID of the executable in hex; none where it has none.
    pub build_id: Option<String>,
    /// Command line, one entry an argument.
    pub cmdline: Vec<String>,
    /// The tokio version found in the executable (`1.54.1`), where one was.
    pub tokio_version: Option<String>,
    /// The process that forked this one, where it was forked during the recording.
    pub parent: Option<Pid>,
    /// Paths of the programs that the process executed before `exe` during the recording, the
    /// first one first.
    pub earlier: Vec<String>,
    /// How the target ended, if it ended during the recording (`exited`, `killed by SIGKILL`).
    pub ended: Option<String>,
    /// Whether the executable has a symbol table; without one, functions are named by address.
    pub has_symbols: bool,
    /// Whether the executable has line tables.
    pub has_lines: bool,
}

impl Target {
    /// File name of the executable, raw.
    #[must_use]
    pub fn exe_name(&self) -> &str {
        self.exe.rsplit('/').next().unwrap_or(&self.exe)
    }
}

/// One thread's books, exact to the nanosecond of the kernel's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadRecord {
    /// The thread.
    pub tid: Tid,
    /// Its name, raw.
    pub name: String,
    /// How long it lived within the recording.
    pub lived: Nanos,
    /// On a CPU.
    pub running: Nanos,
    /// Wanting one: preempted, or woken and not yet running.
    pub runnable: Nanos,
    /// Off-CPU until the wakeup, finished and open waits together. What `totals` and
    /// `open_waits` do not account for of this (a full table) is state `unknown`.
    pub blocked: Nanos,
    /// Finished waits, by the kernel side's own count.
    #[serde(default)]
    pub waits: u64,
    /// The part of `running` inside system calls that do more than to wait or to wake; zero where
    /// they are not measured.
    #[serde(default)]
    pub in_calls: Nanos,
}

/// Index into [`Recording::stacks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StackId(pub u32);

/// A distinct stack with what the rules say of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StackEntry {
    /// User frames, leaf first; inlined frames stand before the physical frame they are in.
    pub frames: Vec<Frame>,
    /// Kernel frames, leaf first, of the first wait seen with this stack.
    pub kernel: Vec<Frame>,
    /// Why the walk ended early, if it did.
    pub truncated: Option<Truncation>,
    /// Number of the x86_64 system call the thread was in; none outside any (a page fault).
    pub syscall: Option<u32>,
    /// The system call's arguments at the first wait with this stack; none outside any.
    pub args: Option<[u64; 6]>,
    /// What the rules say.
    pub verdict: Classification,
}

/// Index into [`Recording::objects`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectId(pub u32);

/// An object as one descriptor (or none) stands for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WaitObject {
    /// What it is.
    pub object: Object,
    /// The descriptor by which the system call named it.
    pub fd: Option<u32>,
}

/// Buckets of a wait histogram: bucket `i` counts waits of `[2^i, 2^(i+1))` nanoseconds, bucket
/// 0 also those of 0 ns, the last bucket everything longer.
pub const HIST_BUCKETS: usize = 40;

/// The finished waits of one thread with one stack for one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitTotal {
    /// The thread.
    pub tid: Tid,
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

/// One finished wait of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The thread.
    pub tid: Tid,
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
    pub waker: Option<Waker>,
    /// Id of the tokio task that was being polled, where tokio's thread-local state tells.
    #[serde(default)]
    pub task_id: Option<u64>,
}

/// The thread that ended a wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Waker {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its name, raw.
    pub name: Arc<str>,
    /// Its stack at the wakeup, where it is a thread of the target.
    #[serde(default)]
    pub stack: Option<StackId>,
}

/// A wait that was still going on when the recording ended; it ends there for the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWait {
    /// The thread.
    pub tid: Tid,
    /// The stack.
    pub stack: StackId,
    /// What is waited for by the kernel side's word at the beginning of the wait, where it is
    /// known.
    #[serde(default)]
    pub began_for: Option<ObjectId>,
    /// The switch-out, or the start of the recording where it came before.
    pub since: Timestamp,
    /// Whether the wait began before the recording, so that it is in truth longer.
    pub before_recording: bool,
    /// What it waits for, where that is known.
    #[serde(default)]
    pub object: Option<Object>,
    /// Who holds that.
    #[serde(default)]
    pub holder: Option<Holder>,
    /// As [`Wait::task_id`].
    #[serde(default)]
    pub task_id: Option<u64>,
}

/// Which judges the verdicts are from: the rules over named frames, and tokio's thread-local
/// state, which is read where its layout is known. In finished waits, but for the last three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judges {
    /// Judged by the rules alone.
    pub by_symbols: u64,
    /// By the thread-local state alone: the frames have no names, or it knew better.
    pub by_context: u64,
    /// By both, which said the same.
    pub by_both: u64,
    /// By none.
    pub by_neither: u64,
    /// Distinct stacks of which both said the same.
    pub agreed: u64,
    /// Distinct stacks of which they said different things. One is enough for the thread-local
    /// state to count for nothing.
    pub disagreed: u64,
    /// Parks that the kernel side knew again, without walking their stacks.
    pub parks_known: u64,
}
