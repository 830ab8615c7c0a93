//! The report: what every renderer draws, and what `-o report.json` holds (schema 2, see [`crate::render::json`]).

use super::dump::Deadlock;
use super::{
    Blame, CallSite, CauseTotal, CheckedCondition, CpuPart, Detail, Filter, Harm, LongPollSite,
    PanicReport, QueuedTasks, RuntimeReport, StateTimes, Stopped, TaskReport, Verdict,
};
use crate::cause::{Cause, Suggestion};
use crate::recording::{Classified, Holder, Host, Losses, Object, ObjectKind, Process, Tool};
use crate::runtime::{Role, State};
use crate::symbolize::FrameRef;
use crate::units::{Nanos, Pid, Tid};
use crate::unwind::Truncation;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_false(is_so: &bool) -> bool {
    !*is_so
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A part of a recording, in times since its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Part {
    /// Its beginning.
    pub from_ns: Nanos,
    /// Its end.
    pub to_ns: Nanos,
    /// The end of the recording.
    pub of_ns: Nanos,
}

/// Everything that a reader may want to know of one recording.
#[derive(Clone, Debug)]
pub struct Report {
    /// Version of this format; grows when a field changes its meaning or goes.
    pub schema: u32,
    /// Which holdup made it.
    pub tool: Tool,
    /// Where.
    pub host: Host,
    /// Of which process; of several, the first.
    pub target: Process,
    /// Of which processes: all of them, in the order in which they came.
    pub targets: Vec<Process>,
    /// Wall-clock start, RFC 3339 in UTC.
    pub started_at: String,
    /// Length of the recording.
    pub duration_ns: Nanos,
    /// Which part of the recording this is the report of; none where it is of all of it.
    pub part: Option<Part>,
    /// What the lists are of; none where they are of everything. See [`Filter`] for what is of the whole
    /// all the same.
    pub filter: Option<Filter>,
    /// Waits shorter than this are in the sums but not in `blocked_at_once`.
    pub min_block_ns: Nanos,
    /// Shorter polls are in no `polls` and no `long_polls`.
    pub long_poll_ns: Nanos,
    /// The main finding: the worst of those of the processes.
    pub verdict: Verdict,
    /// What was asked by `--fail-if`, in the order in which it was; empty where nothing was.
    pub conditions: Vec<CheckedCondition>,
    /// The finding on each of `targets`.
    pub findings: Vec<ProcessFinding>,
    /// The runtimes of the process, the one with the most workers first.
    pub runtimes: Vec<RuntimeReport>,
    /// The blocking pools of the processes of which any thread of theirs was seen.
    pub pools: Vec<BlockingPool>,
    /// Every thread, by time blocked and then by id.
    pub threads: Vec<ThreadReport>,
    /// Where threads waited: state `blocked` first, each state by harm and then by `total_ns`, most
    /// first.
    pub sites: Vec<Site>,
    /// What workers waited for in polls, most time first.
    pub causes: Vec<CauseTotal>,
    /// Which tasks waited in polls, by harm and then by time, most first.
    pub tasks: Vec<TaskReport>,
    /// Waits that had not ended when the recording did, longest first.
    pub open_waits: Vec<OpenWaitReport>,
    /// Threads among those of `open_waits` that wait for each other.
    pub deadlocks: Vec<Deadlock>,
    /// Where threads of the target were on a CPU, by samples, most first; empty without sampling.
    pub cpu_sites: Vec<CpuSite>,
    /// Task polls that took long, whether their threads waited or ran, by task, most time first.
    pub long_polls: Vec<LongPollSite>,
    /// Whether system calls were measured; where not, `call_sites` is empty.
    pub calls_measured: bool,
    /// Where threads were on a CPU inside one system call for at least `min_block_ns`; those in task
    /// polls first, each part by time, most first.
    pub call_sites: Vec<CallSite>,
    /// Panics; none where they were not to be counted.
    pub panics: Option<PanicReport>,
    /// The CPU time of the process; of several processes, theirs together. The share of one of
    /// them alone is in its verdict.
    pub cpu: CpuUse,
    /// How the CPU quota of the control group held the process up, where it has one; of several
    /// processes, the quota that the verdict speaks of, or that was used up in most of its periods.
    pub throttling: Option<ThrottlingReport>,
    /// What held the processes from outside, and for how long; empty where nothing did.
    pub stopped: Vec<Stopped>,
    /// By what the waits were classified.
    pub classified: Classified,
    /// What was lost.
    pub losses: Losses,
    /// Time taken back from states because a thread's sums went beyond its life: the clocks of
    /// two CPUs disagreed. Zero in a sound recording.
    pub clamped_ns: Nanos,
    /// Stacks with their times, for flamegraphs; not in the JSON, which has them by site.
    pub stacks: Vec<StackTotal>,
    /// Likewise, of threads on a CPU, by samples.
    pub cpu_stacks: Vec<StackTotal>,
    /// Likewise, waits of the timeline with those who ended them.
    pub woken_stacks: Vec<WokenStack>,
    /// Likewise, single waits and polls; none unless they were kept.
    pub detail: Option<Detail>,
}

impl Report {
    /// Whether nothing is in the lists of what threads waited for and did.
    #[must_use]
    pub fn lists_nothing(&self) -> bool {
        let panics = self.panics.as_ref();
        self.sites.is_empty()
            && self.open_waits.is_empty()
            && self.cpu_sites.is_empty()
            && self.long_polls.is_empty()
            && self.call_sites.is_empty()
            && panics.is_none_or(|panics| panics.sites.is_empty())
    }
}

/// The finding on one process.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessFinding {
    /// The gravest that holds for any of its runtimes.
    pub verdict: Verdict,
    /// Its CPU time as a share of that of all CPUs, 0 to 1.
    pub cpu_share: f64,
}

/// One place in the code where threads were on a CPU.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CpuSite {
    /// As [`Site::function`].
    pub function: Arc<str>,
    /// Its source file, if line tables have it.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// The outermost async function of the polled task; of several the one with most samples.
    pub task: Option<Arc<str>>,
    /// The process.
    pub pid: Pid,
    /// What the threads did.
    pub part: CpuPart,
    /// Samples.
    pub samples: u64,
    /// What they stand for: samples times their period.
    pub cpu_ns: Nanos,
    /// The part of it inside system calls, by the same samples: an estimate that costs nothing, see
    /// [`Report::call_sites`] for exact times.
    pub in_calls_ns: Nanos,
    /// The stack with most samples, leaf first, kernel frames before user frames.
    #[serde(skip)]
    pub stack: Vec<FrameRef>,
    /// Why `stack` ends early, if it does.
    pub truncated: Option<Truncation>,
}

/// The CPU time of the process.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CpuUse {
    /// Of all its threads.
    pub running_ns: Nanos,
    /// For how long threads wanted a CPU and had none.
    pub runnable_ns: Nanos,
    /// `running_ns` as a share of the time of all CPUs of the machine, 0 to 1.
    pub share: f64,
}

/// What a CPU quota did to the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ThrottlingReport {
    /// The control group with the quota.
    pub group: String,
    /// Periods of the quota within the recording.
    pub periods: u64,
    /// Periods in which it was used up.
    pub throttled_periods: u64,
    /// For how long threads were kept from the CPUs, as the kernel counts it.
    pub throttled_ns: Nanos,
}

/// A stack that waited with the stack that ended the waits.
#[derive(Clone, Debug)]
pub struct WokenStack {
    /// The waits, of those that are recorded one by one only.
    pub waiting: StackTotal,
    /// Name of the thread that ended them, raw.
    pub waker: String,
    /// Its stack, leaf first; empty where it is no thread of the target.
    pub waker_frames: Vec<FrameRef>,
    /// Index in `waker_frames` of the outermost frame of the task, where it was in one.
    pub waker_task_frame: Option<usize>,
}

/// The waits of one runtime at a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RuntimeShare {
    /// Which runtime, as [`RuntimeReport::id`].
    pub runtime: String,
    /// Finished and open waits.
    pub waits: u64,
    /// As [`Site::total_ns`].
    pub total_ns: Nanos,
    /// As [`Site::max_ns`].
    pub max_ns: Nanos,
}

/// The blocking pools of one process together.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BlockingPool {
    /// The process.
    pub pid: Pid,
    /// Threads seen in it.
    pub threads: u32,
    /// Time inside closures: running, runnable and waiting. The pool's own loop, a few
    /// microseconds a closure, is counted in.
    pub busy_ns: Nanos,
    /// The part of `busy_ns` in state `pool`: off-CPU inside closures.
    pub waiting_ns: Nanos,
    /// Most threads that waited inside closures at once.
    pub peak_busy: u32,
    /// For how long so many did.
    pub peak_ns: Nanos,
    /// Closures in which a wait was recorded, as far as tokio's ids tell them apart.
    pub closures: u64,
    /// Those of them, at least, that waited in line: their thread came to them from another closure
    /// without being idle in between.
    pub closures_queued: u64,
    /// `waiting_ns` as a share of `busy_ns`, 0 to 1: near 1 the pool is used for waiting (I/O,
    /// locks) and not for computing.
    pub waiting_share: f64,
    /// Whether `threads` come near the limit that tokio sets by default, 512. Which limit this
    /// pool has (`Builder::max_blocking_threads`) is not known.
    pub near_default_limit: bool,
    /// Whether it was full: all its threads waited at once for a tenth of the time, and closures waited
    /// in line for one meanwhile.
    pub was_full: bool,
}

/// One thread.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ThreadReport {
    /// Thread id.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// Its name, raw: renderers escape it.
    pub name: String,
    /// Its role for most of its waiting time: `worker`, `current-thread`, `pool`, `block-on`,
    /// `none`.
    #[serde(serialize_with = "role_name")]
    #[schemars(with = "String")]
    pub role: Role,
    /// The runtime it works for.
    pub runtime: Option<String>,
    /// How long it lived within the recording.
    pub lived_ns: Nanos,
    /// Finished waits, by the kernel side's own count.
    pub waits: u64,
    /// Where its time went; sums to `lived_ns`.
    pub states: StateTimes,
    /// The part of state `running` inside system calls that do more than to wait or to wake; none
    /// where they were not measured.
    pub in_calls_ns: Option<Nanos>,
}

/// One place in the code where threads waited.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Site {
    /// The innermost frame of the application, demangled; where a stack has none, the nearest
    /// frame that stands for it.
    pub function: Arc<str>,
    /// Whether the stack has no frame of the application, because the compiler inlined it into
    /// `function`, which is a framework's.
    pub inlined_into: bool,
    /// Its source file, if line tables have it.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// The process in which threads waited here.
    pub pid: Pid,
    /// The outermost async function (or closure) of the polled task; of several the one with
    /// the most time here.
    pub task: Option<Arc<str>>,
    /// All tasks that waited here, by time, longest first. Waits without a task are in none.
    pub tasks: Vec<TaskTotal>,
    /// The tokio tasks that waited here the longest, of waits recorded one by one; at most
    /// [`TASK_IDS`]. Empty if tokio's thread-local state does not have it.
    pub task_ids: Vec<TaskIdTotal>,
    /// The state of the waits here.
    pub state: State,
    /// The role of the threads during these waits.
    #[serde(serialize_with = "role_name")]
    #[schemars(with = "String")]
    pub role: Role,
    /// The runtimes whose threads waited here, the one with the most time first; empty where they
    /// belong to none.
    pub runtimes: Vec<RuntimeShare>,
    /// What was called, as `std::fs::read` or `nanosleep`: the library function that the site
    /// called, or else the system call.
    pub wait: String,
    /// Why the threads waited; of several causes the one with the most time here.
    pub cause: Cause,
    /// All causes, most time first.
    pub causes: Vec<CauseTotal>,
    /// The system call as a person reads it, with its object: of several the one with the most
    /// time here. Raw: renderers escape it.
    pub call: String,
    /// What was waited for, longest first; at most 16.
    pub objects: Vec<ObjectTotal>,
    /// Objects beyond those in `objects`.
    pub more_objects: u64,
    /// All objects with connections counted by the end that they have in common, longest first; at
    /// most 16. Empty where none have.
    pub object_groups: Vec<ObjectGroup>,
    /// Groups beyond those in `object_groups`.
    pub more_groups: u64,
    /// What to do instead; none for waits that are allowed.
    pub advice: Option<Suggestion>,
    /// The rules that decided the state, and those that decided the cause, as names.
    pub evidence: Vec<String>,
    /// Finished and open waits.
    pub waits: u64,
    /// Their blocked parts (to the wakeup) within the recording, the open ones up to its end.
    pub total_ns: Nanos,
    /// The longest, in its whole length where it began before the recording.
    pub max_ns: Nanos,
    /// Median of the blocked parts. Waits below `min_block_ns` are known by a log2 histogram; of
    /// a stack with more than some thousand longer ones, each of them to one in 64 of its length.
    pub p50_ns: Nanos,
    /// 99th percentile, likewise.
    pub p99_ns: Nanos,
    /// Run-queue parts: from the wakeups to running again.
    pub runqueue_ns: Nanos,
    /// Who ended the waits, most frequent first. Where there are too many to keep apart, the
    /// others are one entry, `others`.
    pub wakers: Vec<WakerTotal>,
    /// The waits whose wakers are known: those that are recorded one by one, and of shorter ones a
    /// sample, each of which stands for 32.
    pub waits_with_waker: u64,
    /// What those of them that are threads of the target did meanwhile; none where none is.
    pub blame: Option<Blame>,
    /// The tasks that the worker had with it when it began to wait here, in long polls of which this is
    /// the longest part; none where that is not known.
    pub queued: Option<QueuedTasks>,
    /// What would be gained without these waits, by runtime; empty where none was ever starved.
    pub harm: Vec<Harm>,
    /// The sum of [`Harm::starved_ns`].
    pub harm_ns: Nanos,
    /// The stack with the most time here, leaf first, kernel frames before user frames.
    #[serde(skip)]
    pub stack: Vec<FrameRef>,
    /// Why `stack` ends early, if it does.
    pub truncated: Option<Truncation>,
    /// How many of `stack`'s frames were passed by frame pointers alone.
    #[serde(skip_serializing_if = "is_zero")]
    pub pointer_steps: u32,
}

/// Entries of [`Site::task_ids`] at most: a server may start a task for each request.
pub const TASK_IDS: usize = 10;

/// One task's part of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TaskIdTotal {
    /// As `tokio::task::id` tells it to the task.
    pub id: u64,
    /// Its waits.
    pub waits: u64,
    /// How long it waited.
    pub total_ns: Nanos,
}

/// A task's part of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TaskTotal {
    /// Its outermost function.
    pub function: Arc<str>,
    /// How long it waited here.
    pub total_ns: Nanos,
}

/// An object's part of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ObjectTotal {
    /// Its kind.
    pub kind: ObjectKind,
    /// What it is called, raw.
    pub name: String,
    /// Waits for it here.
    pub waits: u64,
    /// Their blocked parts.
    pub total_ns: Nanos,
}

/// Objects of a site that belong together: connections to one address, or to one of ours; children
/// that run one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ObjectGroup {
    /// Their kind.
    pub kind: ObjectKind,
    /// What they have in common, raw: `tcp to 10.0.0.5:5432`, `tcp at 0.0.0.0:80`, `sleep`. The object's
    /// own name where it is the only one.
    pub name: String,
    /// How many they are.
    pub objects: u64,
    /// Waits for them here.
    pub waits: u64,
    /// Their blocked parts.
    pub total_ns: Nanos,
}

/// A thread that ended waits of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WakerTotal {
    /// Its name, raw.
    pub thread: String,
    /// Its process.
    pub pid: Pid,
    /// What it did, for a thread of the target: the innermost function of the application at the
    /// wakeup, as [`Site::function`]. Of a lock it is the function that gave it back.
    pub function: Option<Arc<str>>,
    /// Source file of that.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// What that called, or the system call: `std::sync::mpmc::Sender::send`.
    pub call: Option<Arc<str>>,
    /// Whether it is holdup itself, which read the target's memory or mappings: whoever maps memory may have
    /// to wait meanwhile. Left out where it is not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_holdup: bool,
    /// How many waits it ended, of those whose wakers are known: see [`Site::waits_with_waker`].
    pub waits: u64,
}

/// A wait that was still going on at the end.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct OpenWaitReport {
    /// The thread.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// The thread's name, raw.
    pub name: String,
    /// The site's function.
    pub function: Arc<str>,
    /// Its state.
    pub state: State,
    /// Why it waits.
    pub cause: Cause,
    /// The system call as a person reads it, with its object, raw.
    pub call: String,
    /// For how long it had lasted (at least, where `before_recording`).
    pub since_ns: Nanos,
    /// Whether it began before the recording.
    pub before_recording: bool,
    /// What it waits for, where that is known.
    pub object: Option<Object>,
    /// Who holds that.
    pub holder: Option<Holder>,
    /// How many threads of the target wait for the same object, this one included; 0 where the
    /// object is not known.
    pub waiters: u32,
    /// Id of the tokio task that was being polled.
    pub task_id: Option<u64>,
    /// Leaf first, kernel frames before user frames.
    #[serde(skip)]
    pub stack: Vec<FrameRef>,
}

/// One stack with its time, as a flamegraph needs it.
#[derive(Clone, Debug)]
pub struct StackTotal {
    /// The process.
    pub pid: Pid,
    /// The runtime's id, or none where the thread works for none.
    pub runtime: Option<String>,
    /// The state.
    pub state: State,
    /// Leaf first, kernel frames before user frames.
    pub frames: Vec<FrameRef>,
    /// Index in `frames` of the outermost frame of the task; frames beyond it are the runtime's.
    pub task_frame: Option<usize>,
    /// Why the stack ends early, if it does.
    pub truncated: Option<Truncation>,
    /// Why the threads waited; none on a CPU, and where threads wait as they should.
    pub cause: Option<Cause>,
    /// Waits.
    pub waits: u64,
    /// Time until the wakeups.
    pub blocked: Nanos,
    /// Time from the wakeups to running again.
    pub runqueue: Nanos,
}

fn role_name<S: serde::Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.name())
}
