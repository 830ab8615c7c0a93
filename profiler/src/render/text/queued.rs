//! What waits for a blocked worker.

use crate::cause::Cause;

/// Whether another task may be what ends such a wait. A worker's LIFO slot is its own: a task in there
/// does not run before the wait is over.
pub(super) const fn awaits_a_task(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::NestedBlockOn | Cause::Channel | Cause::Condvar | Cause::Futex
    )
}
