//! What every thread of some processes does just now: what `holdup dump` prints.

use super::{GroupedBy, RuntimeKind};
use crate::cause::Cause;
use crate::recording::{Holder, Host, Object, Process, Tool};
use crate::runtime::{Queued, Role, State, StoppedBy};
use crate::symbolize::FrameRef;
use crate::units::{Nanos, Pid, Tid};
use crate::unwind::Truncation;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// Version of the format of [`Dump`]; grows when a field changes its meaning or goes.
pub const DUMP_SCHEMA: u32 = 1;

/// A look at every thread of some processes.
#[derive(Clone, Debug)]
pub struct Dump {
    /// [`DUMP_SCHEMA`].
    pub schema: u32,
    /// Which holdup made it.
    pub tool: Tool,
    /// Where.
    pub host: Host,
    /// When, RFC 3339 in UTC.
    pub taken_at: String,
    /// From the first look to the second. A thread that did not switch in between is
    /// [`unmoved`](DumpThread::unmoved).
    pub looked_ns: Nanos,
    /// The main finding.
    pub verdict: DumpVerdict,
    /// The processes that were looked at.
    pub processes: Vec<Process>,
    /// Their runtimes, the gravest finding first.
    pub runtimes: Vec<DumpRuntime>,
    /// Threads that wait for each other in a circle.
    pub deadlocks: Vec<Deadlock>,
    /// Blocking pools without an idle thread that have at least as many as tokio starts by default: what
    /// comes next waits in line.
    pub full_pools: Vec<FullPool>,
    /// Every thread: those of runtimes first, each in the order of its runtime, the longest in its
    /// state first.
    pub threads: Vec<DumpThread>,
    /// What could not be seen.
    pub unseen: Unseen,
}

/// A blocking pool that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FullPool {
    /// Its process.
    pub pid: Pid,
    /// Its threads, all of them in closures.
    pub threads: u32,
}

/// The main finding, the gravest that holds for any runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DumpVerdict {
    /// What it is.
    pub kind: DumpKind,
    /// The runtime of which it holds, where it is one.
    pub runtime: Option<String>,
}

/// What a dump may find of a runtime, or of all; the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpKind {
    /// No worker gets any further: each has been blocked in one wait for at least a second, or waits
    /// for what a thread holds that has been, or some wait for each other in a circle.
    Wedged,
    /// Every worker is held from outside: by a signal, a debugger or the freezer.
    Stopped,
    /// Every worker is blocked just now.
    AllBlocked,
    /// Some workers are blocked just now.
    Blocked,
    /// No thread of a blocking pool is idle, and there are as many as tokio starts unless it is told
    /// otherwise: see [`Dump::full_pools`].
    PoolFull,
    /// What workers do is not known of all of them, or no worker was found.
    Unclear,
    /// No worker is blocked.
    Healthy,
}

impl DumpKind {
    /// Whether no task of the runtime can run until somebody intervenes.
    #[must_use]
    pub const fn is_standstill(self) -> bool {
        matches!(self, DumpKind::Wedged | DumpKind::Stopped)
    }
}

/// One runtime.
#[derive(Clone, Debug, Serialize)]
pub struct DumpRuntime {
    /// `rt0`, `rt1`, …: unique in the dump.
    pub id: String,
    /// Its process.
    pub pid: Pid,
    /// Its kind.
    pub kind: RuntimeKind,
    /// The name of most of its workers, raw.
    pub thread_name: String,
    /// How its threads were found to belong together.
    pub grouped_by: GroupedBy,
    /// What was found.
    pub finding: DumpKind,
    /// Its workers now.
    pub workers: u32,
    /// Those of them that are blocked in a task.
    pub blocked: u32,
    /// Those that are parked: they have nothing to do.
    pub idle: u32,
    /// Those that are on a CPU.
    pub running: u32,
    /// Those that want a CPU and have none.
    pub runnable: u32,
    /// Those that are held from outside.
    pub stopped: u32,
    /// Those of which nothing, or something else, is known.
    pub others: u32,
    /// For how long, at least, all workers have been blocked; zero where any is not.
    pub all_blocked_ns: Nanos,
    /// Whether workers of it are in one of [`Dump::deadlocks`].
    pub in_deadlock: bool,
}

/// One thread.
#[derive(Clone, Debug, Serialize)]
pub struct DumpThread {
    /// Thread id.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// Its name, raw: renderers escape it.
    pub name: String,
    /// What it is to its runtime just now: `worker`, `current-thread`, `pool`, `block-on`, `none`.
    #[serde(serialize_with = "role_name")]
    pub role: Role,
    /// The runtime whose worker it is.
    pub runtime: Option<String>,
    /// What it does.
    pub state: State,
    /// For how long: at least so long where [`DumpThread::at_least`]; none where it is not known, as
    /// of a thread on a CPU.
    pub since_ns: Option<Nanos>,
    /// Whether it may have been longer.
    pub at_least: bool,
    /// Whether it has not switched from the first look to the second.
    pub unmoved: bool,
    /// What holds it from outside.
    pub stopped_by: Option<StoppedBy>,
    /// The innermost function of the application; none where there is no stack.
    pub function: Option<Arc<str>>,
    /// Its source file, if line tables have it.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// What it called: the function of a library, or the system call; none where there is no stack.
    pub wait: Option<Arc<str>>,
    /// The outermost async function of the polled task.
    pub task: Option<Arc<str>>,
    /// Id of the tokio task that is being polled, if tokio's thread-local state has it.
    pub task_id: Option<u64>,
    /// Why it waits, where it does.
    pub cause: Option<Cause>,
    /// The system call as a person reads it, with its object, raw.
    pub call: String,
    /// What it waits for, where that is known.
    pub object: Option<Object>,
    /// Who holds that.
    pub holder: Option<Holder>,
    /// How many threads of its process wait for the same object, this one included; 0 where the
    /// object is not known.
    pub waiters: u32,
    /// The threads that it waits for: the holder, whom that waits for, and so on. Where they wait in
    /// a circle, the last one is the first that is in the list, or this thread, again.
    pub waits_for: Vec<Tid>,
    /// The tasks that wait for it, where it is a blocked worker and that is known.
    pub queued: Option<Queued>,
    /// Leaf first, kernel frames before user frames; of a thread on a CPU, as it was found there most
    /// often. The JSON has stacks in a table.
    #[serde(skip)]
    pub stack: Vec<FrameRef>,
    /// Why `stack` ends early, if it does.
    pub truncated: Option<Truncation>,
}

/// Threads of a process that wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Deadlock {
    /// The process.
    pub pid: Pid,
    /// Each waits for what the next one holds, and the last for what the first one holds.
    pub threads: Vec<Tid>,
    /// Whether every holder is named by the lock itself. Where not, some were found by what is on
    /// their stacks.
    pub is_certain: bool,
}

/// What a dump does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// Threads that wait and have no stack.
    pub without_stack: u32,
    /// Threads on a CPU that no sample met.
    pub unsampled: u32,
    /// Threads whose stacks end early.
    pub truncated: u32,
    /// Threads of which it is not known whether they are workers.
    pub unknown: u32,
    /// Processes whose functions have no names.
    pub without_names: u32,
    /// Processes without line tables.
    pub without_lines: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn role_name<S: serde::Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.name())
}
