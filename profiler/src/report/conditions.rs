//! What was asked of a recording: conditions under which it is a failure.

use crate::cause::{Cause, Suggestion};
use crate::units::{Nanos, Pid};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// A condition, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CheckedCondition {
    /// The condition as it was given: `stall>10ms`.
    pub condition: String,
    /// What it asks of: `stall`, `starved` or `blocked`.
    pub asks: Asked,
    /// Whether it holds, so that the recording is a failure.
    pub holds: bool,
    /// What was found, in words.
    pub found: String,
    /// The sites to blame, worst first. Accepted ones are not among them. Empty where it does not hold.
    pub sites: Vec<ConditionSite>,
}

/// What a condition asks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// For how long a worker took no other task.
    Stall,
    /// For how long no task of a runtime could run.
    Starved,
    /// For how long workers waited in polls.
    Blocked,
}

impl Asked {
    /// The word in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Asked::Stall => "stall",
            Asked::Starved => "starved",
            Asked::Blocked => "blocked",
        }
    }
}

/// A site as far as a condition tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConditionSite {
    /// As [`Site::function`](super::Site::function).
    pub function: Arc<str>,
    /// Its source file, if line tables have it.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// The process.
    pub pid: Pid,
    /// Why threads waited there.
    pub cause: Cause,
    /// As [`Site::wait`](super::Site::wait).
    pub wait: String,
    /// Waits.
    pub waits: u64,
    /// Their blocked parts.
    pub total_ns: Nanos,
    /// The longest of them.
    pub max_ns: Nanos,
    /// What to do instead.
    pub advice: Option<Suggestion>,
}
