//! The bounds of what a recording keeps of its target.

use crate::limits::Limits;

/// What is kept at most; whatever goes beyond is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Waits of the timeline, of 72 bytes each. The others are in the sums all the same.
    pub(super) timeline: usize,
    /// Frames over all stacks, of some 90 bytes each.
    pub(super) frames: usize,
    /// Ids of threads that ended.
    pub(super) ended: usize,
    /// Sums of threads that ended, of some 200 bytes each.
    pub(super) sums: usize,
    /// Threads that ended waits.
    pub(super) wakers: usize,
}

impl Bounds {
    pub(super) fn new(limits: &Limits) -> Bounds {
        Bounds {
            timeline: limits.table("timeline", 1 << 19),
            frames: limits.table("frames", 1 << 18),
            ended: limits.table("ended", 1 << 16),
            sums: limits.table("sums", 1 << 15),
            wakers: limits.table("wakers", 1 << 16),
        }
    }
}
