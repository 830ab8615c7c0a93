//! The main finding of a recording.

use crate::units::{Nanos, Pid};
use schemars::JsonSchema;
use serde::Serialize;

/// The main finding. What brings a runtime to a halt comes first; of workers that are blocked, computing
/// or without a CPU the one that costs the most time of workers, whatever its name; then what is
/// unclear; then what is well.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// When the recording ended, all workers had been blocked in one wait each for at least a
    /// second: a deadlock, or waits for something that does not come.
    Wedged {
        /// The runtime's id.
        runtime: String,
        /// Its workers.
        workers: u32,
        /// For how long none of them had moved.
        total_ns: Nanos,
        /// Index in [`Report::sites`](super::Report::sites) of the worst site.
        site: Option<usize>,
    },
    /// All of several workers were blocked at once, for at least 1 % of the recording or 10 ms
    /// at a stretch: no task could run.
    Starved {
        /// The runtime's id.
        runtime: String,
        /// Its workers, at least two.
        workers: u32,
        /// Time in which all were blocked.
        total_ns: Nanos,
        /// The longest stretch of it.
        longest_ns: Nanos,
        /// `total_ns` as a share of the recording, 0 to 1.
        share: f64,
        /// CPU time of the runtime's process as a share of that of all CPUs, 0 to 1. Low beside a
        /// high share of blocked time, it says that more CPUs would not help.
        cpu_share: f64,
        /// Index in [`Report::sites`](super::Report::sites) of the worst site.
        site: Option<usize>,
    },
    /// Workers were blocked for at least 1 % of their time or 10 ms in one wait.
    #[serde(rename = "blocked")]
    WorkersBlocked {
        /// The runtime's id.
        runtime: String,
        /// Its workers. With one, no task could run meanwhile.
        workers: u32,
        /// Time of all workers in which they were blocked.
        total_ns: Nanos,
        /// The longest wait.
        longest_ns: Nanos,
        /// `total_ns` as a share of the workers' time, 0 to 1.
        share: f64,
        /// As in [`Verdict::Starved`].
        cpu_share: f64,
        /// Index in [`Report::sites`](super::Report::sites) of the worst site.
        site: Option<usize>,
    },
    /// Workers waited for a CPU for at least 10 % of their time, or the CPU quota of the control
    /// group was used up in 10 % of its periods.
    #[serde(rename = "no_cpu")]
    CpuStarved {
        /// The runtime's id.
        runtime: String,
        /// The share of the workers' time in which they waited for a CPU, 0 to 1.
        share: f64,
        /// The share of the quota's periods in which it was used up, where there is one.
        throttled: Option<f64>,
    },
    /// Single polls held a CPU for too long: at least 1 % of the workers' time, or 100 ms in one.
    /// The other tasks of the worker waited meanwhile.
    #[serde(rename = "cpu_hog")]
    LongPolls {
        /// The runtime's id.
        runtime: String,
        /// How many.
        polls: u64,
        /// Their CPU time, at least.
        total_ns: Nanos,
        /// That of the longest.
        longest_ns: Nanos,
        /// `total_ns` as a share of the workers' time, 0 to 1.
        share: f64,
        /// Index in [`Report::long_polls`](super::Report::long_polls) of the worst site.
        site: Option<usize>,
    },
    /// All threads of a blocking pool waited in closures at once, for at least 10 % of the recording, and
    /// more closures waited in line for one. The workers are well; tasks that wait for such a closure are
    /// not, nor are those that read a file by `tokio::fs` or look a name up.
    PoolFull {
        /// The process.
        pid: Pid,
        /// The pool's threads.
        threads: u32,
        /// For how long all of them waited.
        total_ns: Nanos,
        /// `total_ns` as a share of the recording, 0 to 1.
        share: f64,
        /// Closures that waited in line, at least; 0 where that is only known by the pool's size, which is
        /// tokio's default limit.
        queued: u64,
        /// Index in [`Report::sites`](super::Report::sites) of the closures' worst site.
        site: Option<usize>,
    },
    /// Too much is not known for anything better to be said.
    Unclear {
        /// The runtime's id; none where tokio is there, and what its threads do is not known.
        runtime: Option<String>,
        /// The process.
        pid: Pid,
        /// The share of the time of the runtime's workers, or else of the process's threads, of
        /// which it is not known what they did, 0 to 1: of waits without a known state, and of time on
        /// a CPU by samples that could not be judged.
        share: f64,
        /// Why.
        reason: UnclearReason,
    },
    /// Something outside the program held its workers for at least half of their time: a signal, a
    /// debugger or the freezer.
    Stopped {
        /// The runtime's id.
        runtime: String,
        /// The share of its workers' time, 0 to 1.
        share: f64,
    },
    /// Workers were on a CPU for at least 80 % of their time; not a finding of blocking, but the
    /// reason why tasks may wait.
    CpuBound {
        /// The runtime's id.
        runtime: String,
        /// The share, 0 to 1.
        share: f64,
    },
    /// None of the above.
    Healthy {
        /// Id of the runtime with the most blocked time.
        runtime: String,
        /// Share of its workers' time in which they were blocked, below 0.01.
        share: f64,
        /// The longest wait, below 10 ms.
        longest_ns: Nanos,
        /// The share of the workers' time in which they had nothing to do, 0 to 1: near 1 there was
        /// hardly any load, and little can be said.
        idle_share: f64,
    },
    /// Threads were seen, and no sign of tokio: neither in the code nor in names of threads.
    NoRuntime,
    /// Not even a thread was seen.
    NothingSeen,
}

impl Verdict {
    /// The id of the runtime that it is about; none where it is about a process.
    #[must_use]
    pub fn runtime(&self) -> Option<&String> {
        match self {
            Verdict::Wedged { runtime, .. }
            | Verdict::Starved { runtime, .. }
            | Verdict::WorkersBlocked { runtime, .. }
            | Verdict::LongPolls { runtime, .. }
            | Verdict::CpuStarved { runtime, .. }
            | Verdict::Stopped { runtime, .. }
            | Verdict::CpuBound { runtime, .. }
            | Verdict::Healthy { runtime, .. } => Some(runtime),
            Verdict::Unclear { runtime, .. } => runtime.as_ref(),
            Verdict::PoolFull { .. } | Verdict::NoRuntime | Verdict::NothingSeen => None,
        }
    }

    /// The index in [`Report::sites`](super::Report::sites) that it may have.
    pub fn site_mut(&mut self) -> Option<&mut Option<usize>> {
        match self {
            Verdict::Wedged { site, .. }
            | Verdict::Starved { site, .. }
            | Verdict::WorkersBlocked { site, .. }
            | Verdict::PoolFull { site, .. } => Some(site),
            _ => None,
        }
    }

    /// The index in [`Report::long_polls`](super::Report::long_polls) that it may have.
    pub fn poll_site_mut(&mut self) -> Option<&mut Option<usize>> {
        match self {
            Verdict::LongPolls { site, .. } => Some(site),
            _ => None,
        }
    }
}

/// Why nothing better can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnclearReason {
    /// For at least 5 % of the time the state is unknown.
    UnknownTime,
    /// tokio's thread-local context was contradicted, so that it was left out of account.
    ContextContradicted,
    /// The context of a tokio was not found.
    ContextMissing,
    /// A tokio of a version that the rules do not know.
    NotUnderstood,
    /// For at least 10 % of the time workers waited outside every poll, neither parked nor in code that is
    /// known to be the application's: for a lock of tokio's, or in a hook or a waker of which no name is known.
    OutsidePolls,
    /// There is tokio, and no thread was seen to work for a runtime.
    NoWorkerSeen,
}
