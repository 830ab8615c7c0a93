//! What would be gained without the waits of a site or a task.

use crate::units::Nanos;
use schemars::JsonSchema;
use serde::Serialize;

/// By how much the time in which no task of a runtime could run would shrink if some waits took no
/// time: the same timeline without them, and without the parts of other waits that waited for them.
/// An estimate for the same load: a service that is faster may be asked for more.
///
/// No task can run while all workers are blocked. Of `current_thread` runtimes, that is while the one
/// thread is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Harm {
    /// The runtime's id.
    pub runtime: String,
    /// By how much its [`RuntimeReport::starved_ns`](super::RuntimeReport::starved_ns) would shrink.
    pub starved_ns: Nanos,
    /// What would be left of it.
    pub starved_left_ns: Nanos,
    /// The longest stretch that would be left, to one in 64 of its length.
    pub longest_left_ns: Nanos,
}
