//! The timeline: finished waits one by one, in a compact form.

use crate::recording::ObjectId;
use crate::units::{Pid, Tid, Timestamp};

/// Waits of a piece. The timeline grows by pieces, so that its memory never has to be moved: while
/// that is done, the old and the new one are there at once.
const PIECE: usize = 4096;

/// A finished wait, by numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompactWait {
    pub(super) pid: Pid,
    pub(super) tid: Tid,
    /// Index into [`super::gather::Gathered::wakers`], or `u32::MAX`.
    pub(super) waker: u32,
    /// The kernel side's number of the waker's stack, or 0.
    pub(super) waker_stack: u64,
    /// The kernel side's number of the stack.
    pub(super) stack: u64,
    pub(super) object: Option<ObjectId>,
    pub(super) start: Timestamp,
    pub(super) wakeup: Timestamp,
    pub(super) end: Timestamp,
    /// Id of the task, or 0.
    pub(super) task_id: u64,
}

/// The waits so far.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pieces: Vec<Vec<CompactWait>>,
    len: usize,
    lost: u64,
}

impl Timeline {
    /// Takes a wait in, unless there are `most` of them; then it is counted.
    pub(super) fn add(&mut self, wait: CompactWait, most: usize) {
        if self.len >= most {
            self.lost += 1;
            return;
        }
        self.len += 1;
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(wait),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(wait);
                self.pieces.push(piece);
            }
        }
    }

    /// Waits that are kept.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Waits that found no room.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Keeps only the waits of which this is true.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&CompactWait) -> bool) {
        for piece in &mut self.pieces {
            piece.retain(&mut keeps);
        }
        self.len = self.pieces.iter().map(Vec::len).sum();
    }

    /// Hands out all waits that are kept, in the order of their arrival, and gives their memory
    /// back piece by piece. What was lost stays known.
    pub(super) fn take_waits(&mut self) -> impl Iterator<Item = CompactWait> + use<> {
        self.len = 0;
        std::mem::take(&mut self.pieces).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_come_out_as_they_went_in_and_the_others_are_counted() {
        let most = 2 * PIECE + 3;
        let mut timeline = Timeline::default();
        for n in 0..most as u64 + 5 {
            let wait = CompactWait {
                pid: Pid(1),
                tid: Tid(2),
                waker: u32::MAX,
                waker_stack: 0,
                stack: 0,
                object: None,
                start: Timestamp(n),
                wakeup: Timestamp(n),
                end: Timestamp(n),
                task_id: 0,
            };
            timeline.add(wait, most);
        }
        assert_eq!((timeline.len(), timeline.lost()), (most, 5));
        timeline.retain(|wait| wait.start != Timestamp(0));
        assert_eq!(timeline.len(), most - 1);
        let starts: Vec<u64> = timeline.take_waits().map(|wait| wait.start.0).collect();
        assert_eq!(starts, (1..most as u64).collect::<Vec<_>>());
        assert_eq!((timeline.len(), timeline.lost()), (0, 5));
    }
}
