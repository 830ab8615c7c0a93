//! Blocked time by task and by cause.

use super::Harm;
use crate::cause::Cause;
use crate::units::{Nanos, Pid};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// What one task of a runtime, or all that run one function, waited in its polls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TaskReport {
    /// Its outermost async function (or closure).
    pub function: Arc<str>,
    /// The process.
    pub pid: Pid,
    /// The runtime's id.
    pub runtime: String,
    /// Waits, finished and open.
    pub waits: u64,
    /// Their blocked parts.
    pub total_ns: Nanos,
    /// What would be gained without them; none where the runtime was never starved.
    pub harm: Option<Harm>,
}

/// A part of the blocked time that has one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CauseTotal {
    /// The cause.
    pub cause: Cause,
    /// Waits, finished and open.
    pub waits: u64,
    /// Their blocked parts.
    pub total_ns: Nanos,
}
