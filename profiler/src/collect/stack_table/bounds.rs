//! How many stacks are kept, and with how many frames.

use crate::decode::StackKind;
use crate::limits::Limits;

/// How many stacks of one room are kept, and with how many frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Stacks, of some 300 bytes each.
    pub(super) stacks: usize,
    /// Frames of all stacks together, of 12 bytes each.
    pub(super) frames: usize,
    /// Frames that no stack before had, of some 120 bytes each.
    pub(super) new_frames: usize,
}

/// What is kept at most, apart for each sort of stacks, so that none takes the room of another.
#[derive(Clone, Copy, Debug)]
pub(in crate::collect) struct StackBounds {
    pub(super) waits: Room,
    pub(super) wakers: Room,
    pub(super) samples: Room,
    pub(super) calls: Room,
    /// Of those that are kept without some of their callers, for each sort.
    pub(super) shortened: Room,
    /// Those of them that are made in one interval: each has to be named first.
    pub(super) shortened_at_once: usize,
    /// Numbers for which the kernel side has room.
    pub(super) numbers: usize,
}

impl StackBounds {
    /// Those of a recording, or less where a test wants it so.
    pub(in crate::collect) fn new(limits: &Limits) -> StackBounds {
        let room = |stacks, frames, new_frames| Room {
            stacks: limits.table("stacks", stacks),
            frames: limits.table("frames", frames),
            new_frames: limits.table("frames", new_frames),
        };
        StackBounds {
            waits: room(1 << 16, 1 << 20, 1 << 17),
            wakers: room(1 << 15, 1 << 19, 1 << 16),
            samples: room(1 << 16, 1 << 20, 1 << 17),
            calls: room(1 << 15, 1 << 19, 1 << 16),
            shortened: Room {
                stacks: limits.table("shortened", 1 << 13),
                frames: 1 << 17,
                new_frames: usize::MAX,
            },
            shortened_at_once: 1 << 13,
            numbers: limits.table("STACKS", 1 << 16),
        }
    }

    pub(super) const fn room(&self, kind: StackKind) -> Room {
        match kind {
            StackKind::OffCpu | StackKind::Stopped(_) => self.waits,
            StackKind::Waker => self.wakers,
            StackKind::Sample => self.samples,
            StackKind::Syscall | StackKind::Panic => self.calls,
        }
    }
}

/// What has been used of a room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) stacks: usize,
    pub(super) frames: usize,
    pub(super) new_frames: usize,
}

impl Used {
    pub(super) const fn fits(self, room: Room) -> bool {
        self.stacks < room.stacks && self.frames < room.frames && self.new_frames < room.new_frames
    }
}
