//! How much of a stack is walked and kept.

/// Frames of one user stack that are kept at most: the innermost and the outermost ones, see
/// [`frame_slot`].
pub const MAX_USER_FRAMES: usize = 2 * KEPT_FRAMES;
/// Frames that are kept of each end of a stack which has more than [`MAX_USER_FRAMES`].
pub const KEPT_FRAMES: usize = 64;
/// Frames that are walked at most; deeper stacks are truncated and say so.
pub const MAX_WALKED_FRAMES: usize = 2048;

/// Where frame `n` of a stack is kept, the innermost being 0. The first [`KEPT_FRAMES`] have
/// places of their own, those from then on share as many in turn: `ring` is to be 0 for the former
/// and [`KEPT_FRAMES`] for the latter.
#[inline(always)]
#[must_use]
pub const fn frame_slot(n: u64, ring: u64) -> usize {
    let ends = KEPT_FRAMES as u64;
    (n & (ends - 1) | ring & ends) as usize
}

/// Frames of one kernel stack at most.
pub const MAX_KERNEL_FRAMES: usize = 64;
