//! What threads on a CPU do.

use schemars::JsonSchema;
use serde::Serialize;

/// What a thread does that is on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CpuPart {
    /// Polls a task.
    Poll,
    /// Polls the future of a `block_on`, outside the workers.
    BlockOn,
    /// Runs a `block_in_place` closure.
    BlockInPlace,
    /// Runs a `spawn_blocking` closure.
    BlockingPool,
    /// Runs tokio's own code: looks for work, parks, wakes.
    Runtime,
    /// Is no thread of tokio's.
    Other,
    /// The stack did not say.
    Unknown,
}
