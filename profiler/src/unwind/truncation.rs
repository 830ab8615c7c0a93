//! Why an unwind ended before the thread's start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a stack does not reach the thread's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Truncation {
    /// Deeper than the longest stack we keep.
    TooDeep,
    /// An address outside every known mapping (JIT code, a library loaded just now).
    Unmapped,
    /// A mapping whose file gave no unwinding information for this address.
    NoRow,
    /// A rule that the rows cannot express.
    Unsupported,
    /// Stack memory that could not be read (swapped out, or a broken chain).
    Unreadable,
    /// The walk went nowhere: a broken chain.
    NoProgress,
    /// There was no stack at all (the thread had ended, or the wait began before the recording).
    NoStack,
    /// Its frames take much time, and stacks like it had taken as much of the CPU as they may.
    TooCostly,
}
