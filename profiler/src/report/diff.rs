//! Two recordings beside each other.

use super::{Filter, Part, Report, Verdict};
use crate::cause::Cause;
use crate::recording::Tool;
use crate::runtime::State;
use crate::units::{Nanos, Pid};
use serde::Serialize;
use std::sync::Arc;

/// What has changed between two recordings.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// Version of this format; grows when a field changes its meaning or goes.
    pub schema: u32,
    /// What compared them.
    pub tool: Tool,
    /// By what the sites are compared.
    pub by: Measure,
    /// What the sites are of; missing where they are of everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// The first recording.
    pub before: Side,
    /// The second one.
    pub after: Side,
    /// Where threads waited, by function, cause and state; what has changed most comes first.
    pub sites: Vec<SiteChange>,
}

/// By what sites are compared: recordings are of different lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Blocked time in a second of the recording.
    PerSecond,
    /// Blocked time of one wait.
    PerWait,
}

/// One of the two recordings.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The file.
    pub file: String,
    /// The executable of the first process.
    pub exe: String,
    /// Its id.
    pub pid: Pid,
    /// Wall-clock start, RFC 3339 in UTC.
    pub started_at: String,
    /// Length of the recording, or of the part.
    pub duration_ns: Nanos,
    /// The part of it that is compared; missing where that is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The main finding. What it has of sites is an index into the recording's own report.
    pub verdict: Verdict,
    /// What workers were, in all runtimes together, as shares of their time, 0 to 1.
    pub workers: WorkerShares,
    /// Time in which every worker of a runtime was blocked at once, in a second of the recording.
    pub starved_ns_per_second: Nanos,
    /// The longest stretch of that.
    pub starved_max_ns: Nanos,
    /// Polls that took long, in a second of the recording.
    pub long_polls_per_second: f64,
    /// Whether events, waits or samples were lost.
    pub lossy: bool,
}

/// What workers were, as shares of their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct WorkerShares {
    /// Off-CPU in a task poll.
    pub blocked: f64,
    /// On a CPU.
    pub running: f64,
    /// Wanting one.
    pub runnable: f64,
    /// Parked.
    pub idle: f64,
}

/// How a place has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is in the second recording only.
    Gained,
    /// By at least a tenth, and 100 microseconds a second (or one a wait).
    Worse,
    /// Likewise.
    Better,
    /// It is in the first recording only.
    Lost,
    /// Less than that.
    Same,
}

impl Change {
    /// The word for people: nothing is lost, a site is gone.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Change::Gained => "new",
            Change::Worse => "worse",
            Change::Better => "better",
            Change::Lost => "gone",
            Change::Same => "same",
        }
    }
}

/// Waits of one function for one cause in one state, wherever its lines are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteChange {
    /// How it has changed.
    pub change: Change,
    /// The function, as in the reports.
    pub function: Arc<str>,
    /// Why threads waited there.
    pub cause: Cause,
    /// The state of the waits.
    pub state: State,
    /// In the first recording.
    pub before: Option<SiteSide>,
    /// In the second one.
    pub after: Option<SiteSide>,
    /// Nanoseconds by the measure: after less before.
    pub difference_ns: i64,
}

/// Waits of a place in one recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SiteSide {
    /// Waits, finished and open.
    pub waits: u64,
    /// Their blocked parts.
    pub total_ns: Nanos,
    /// In a second of the recording.
    pub ns_per_second: Nanos,
    /// Of one wait.
    pub ns_per_wait: Nanos,
    /// The longest wait there, whatever its cause.
    pub max_ns: Nanos,
    /// Where the longest part of it is, if line tables have it.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
}

impl SiteSide {
    /// The time by which sites are compared.
    #[must_use]
    pub const fn measured(&self, by: Measure) -> Nanos {
        match by {
            Measure::PerSecond => self.ns_per_second,
            Measure::PerWait => self.ns_per_wait,
        }
    }
}

impl Side {
    /// Whether a report lacks something.
    #[must_use]
    pub fn is_lossy(report: &Report) -> bool {
        let losses = &report.losses;
        [
            losses.events,
            losses.stacks,
            losses.unknown_waits,
            losses.samples,
        ]
        .iter()
        .any(|count| *count > 0)
    }
}
