//! The bounds of what a recording keeps of its target.

use crate::limits::Limits;

/// What is kept at most; whatever goes beyond is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Waits of one interval, of some 100 bytes each. The others are in the sums all the same.
    pub(super) waits: usize,
    /// Processes that have rows of their own.
    pub(super) processes: usize,
    /// Threads that ended and have times of their own.
    pub(super) ended: usize,
    /// Sums of one interval, of some 250 bytes each.
    pub(super) sums: usize,
    /// Threads that ended waits.
    pub(super) wakers: usize,
}

impl Bounds {
    pub(super) fn new(limits: &Limits) -> Bounds {
        Bounds {
            waits: limits.table("timeline", 1 << 19),
            processes: limits.table("processes", 1 << 12),
            ended: limits.table("ended", 1 << 16),
            sums: limits.table("sums", 1 << 18),
            wakers: limits.table("wakers", 1 << 16),
        }
    }
}
