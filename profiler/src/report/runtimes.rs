//! The runtimes.

use super::{PollTimes, StateTimes, Stretch};
use crate::units::{Nanos, Pid};
use schemars::JsonSchema;
use serde::Serialize;

/// Which kind of runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeKind {
    /// `multi_thread`.
    MultiThread,
    /// `current_thread`.
    CurrentThread,
    /// A `LocalSet` that a thread runs in a `block_on` of a `multi_thread` runtime.
    LocalSet,
}

/// How the threads of a runtime were found to belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupedBy {
    /// They had entered the same one, as tokio's thread-local state says.
    Handle,
    /// It has one.
    Thread,
    /// By their names, and by the epoll instances in which they were parked: a guess.
    Guess,
    /// They are all the workers of their process, and nothing tells any of them apart.
    Process,
}

/// One tokio runtime.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RuntimeReport {
    /// `rt0`, `rt1`, …: unique in the report.
    pub id: String,
    /// Its process.
    pub pid: Pid,
    /// Its kind.
    pub kind: RuntimeKind,
    /// How many workers it has, or had at once where they came and went.
    pub workers: u32,
    /// The name of most of them, raw.
    pub thread_name: String,
    /// How its threads were found to belong together.
    pub grouped_by: GroupedBy,
    /// How many threads were its workers: more than `workers` where a runtime was dropped and made
    /// anew, or where a `block_in_place` moved a worker to another thread.
    pub threads: u32,
    /// When the first of them began, from the recording's start.
    pub from_ns: Nanos,
    /// When the last of them ended, or the recording did.
    pub to_ns: Nanos,
    /// Time of its threads by state while they were workers: the part of a thread's life that
    /// it spent in a `block_in_place` or as a thread of the blocking pool is left out.
    pub states: StateTimes,
    /// The part of state `running` inside system calls, as `in_calls_ns` of a thread.
    pub in_calls_ns: Option<Nanos>,
    /// Time in which every worker was blocked at once.
    pub starved_ns: Nanos,
    /// The longest stretch of `starved_ns`.
    #[serde(rename = "longest_stall_ns")]
    pub starved_max_ns: Nanos,
    /// The longest stretches of `starved_ns`, at most ten, longest first.
    #[serde(rename = "stalls")]
    pub starved_stretches: Vec<Stretch>,
    /// For how long every worker had been in one and the same wait when the recording ended: a
    /// deadlock, or a wait for something that does not come. Zero where any of them had moved.
    pub wedged_ns: Nanos,
    /// Entry `k`: for how long exactly `k` workers were blocked at once. Sums to the duration.
    pub blocked_at_once: Vec<Nanos>,
    /// For how long a worker waited in the I/O driver (in `epoll_wait`), ready for events; none
    /// where no worker was ever seen there, as in a runtime without I/O.
    pub driver_ns: Option<Nanos>,
    /// For how long a worker was blocked and none waited in the I/O driver, so that no event of the
    /// network or of a timer was seen before another worker found the time to look. Times of less
    /// than 1 ms do not count. None as `driver_ns`.
    pub unattended_ns: Option<Nanos>,
    /// The longest stretches of it, longest first; at most ten.
    pub unattended: Vec<Stretch>,
    /// Its long polls.
    pub polls: PollTimes,
    /// Those of them in which the worker ran for most of the time.
    pub long_polls: u64,
    /// Their CPU time, at least.
    pub long_poll_ns: Nanos,
    /// That of the longest.
    pub long_poll_max_ns: Nanos,
}
