//! What waits for one thread of a runtime.

use serde::{Deserialize, Serialize};

/// The tasks that wait for a worker. It has them with it, and none of them runs while it is blocked
/// unless another worker comes and takes some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Whether one is in the LIFO slot, from which other workers do not take (tokio 1.51.0 to 1.52.1
    /// apart).
    pub in_slot: bool,
    /// How many are in the worker's own queue, 16,383 at most.
    pub in_queue: u32,
}

impl Queued {
    /// All of them.
    #[must_use]
    pub fn tasks(self) -> u32 {
        self.in_queue.saturating_add(self.in_slot.into())
    }
}
