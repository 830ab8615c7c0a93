//! A recording: what it is of, its tables and its intervals.

use super::{Interval, Tables};
use crate::units::{Nanos, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything a report is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recording {
    /// By what, where and how it was made.
    pub header: Header,
    /// What the intervals name by index.
    pub tables: Tables,
    /// The intervals, one after another without a gap.
    pub intervals: Vec<Interval>,
}

/// What is known of a recording when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Which holdup made it.
    pub tool: Tool,
    /// Where.
    pub host: Host,
    /// Wall-clock start, in seconds since the Unix epoch.
    pub started_at: f64,
    /// First instant of the recording.
    pub start: Timestamp,
    /// Shorter waits are in the sums only, see [`Interval::waits`].
    pub min_block: Nanos,
    /// Shorter polls are no long ones, see [`Interval::polls`].
    pub long_poll: Nanos,
    /// How threads on a CPU were sampled; none where they were not.
    pub sampling: Option<Sampling>,
    /// Whether system calls were measured: where not, [`Interval::calls`] is empty and
    /// [`ThreadTimes::in_calls`](super::ThreadTimes::in_calls) zero.
    pub calls_measured: bool,
    /// Whether panics were to be counted.
    pub panics_counted: bool,
}

/// How threads on a CPU were sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// CPU time between two samples: what each of them stands for.
    pub period: Nanos,
}

/// The program that recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// `holdup`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// CPUs online.
    pub cpus: u32,
}
