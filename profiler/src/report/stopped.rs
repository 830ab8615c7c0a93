//! What held a process from outside.

use crate::runtime::StoppedBy;
use crate::units::{Nanos, Pid};
use schemars::JsonSchema;
use serde::Serialize;

/// For how long something outside the program held its threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Stopped {
    /// The process.
    pub pid: Pid,
    /// By what.
    pub by: StoppedBy,
    /// For how long the thread that was held the longest was, in all.
    pub longest_ns: Nanos,
    /// Threads that were held.
    pub threads: u32,
}
