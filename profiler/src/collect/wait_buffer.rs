//! Finished waits one by one, until their interval ends.

use crate::decode::{PollClock, StackNumber, WaitStack};
use crate::recording::{ObjectId, ThreadId, WakerId};
use crate::units::Timestamp;

/// A finished wait, whose stack may have no name yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufferedWait {
    pub(super) thread: ThreadId,
    pub(super) stack: WaitStack,
    pub(super) object: Option<ObjectId>,
    pub(super) start: Timestamp,
    pub(super) wakeup: Timestamp,
    pub(super) end: Timestamp,
    pub(super) waker: Option<WakerId>,
    pub(super) waker_stack: Option<StackNumber>,
    pub(super) task_id: Option<u64>,
    pub(super) clock: PollClock,
}

/// The waits of an interval.
#[derive(Debug)]
pub(super) struct WaitBuffer {
    waits: Vec<BufferedWait>,
    most: usize,
    left_out: u64,
}

impl WaitBuffer {
    /// At most `most` waits are kept: the others are in the sums all the same.
    pub(super) const fn new(most: usize) -> WaitBuffer {
        WaitBuffer {
            waits: Vec::new(),
            most,
            left_out: 0,
        }
    }

    /// Takes a wait in.
    pub(super) fn add(&mut self, wait: BufferedWait) {
        if self.waits.len() < self.most {
            self.waits.push(wait);
        } else {
            self.left_out += 1;
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.waits.len()
    }

    /// Waits that found no room, of the recording so far.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes them out in the order of their arrival: an interval ends.
    pub(super) fn take(&mut self) -> Vec<BufferedWait> {
        std::mem::take(&mut self.waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::ProcessId;
    use crate::units::Tid;

    #[test]
    fn waits_come_out_as_they_went_in_and_the_others_are_counted() {
        let wait = |n| BufferedWait {
            thread: ThreadId {
                process: ProcessId(0),
                tid: Tid(2),
            },
            stack: WaitStack::Lost,
            object: None,
            start: Timestamp(n),
            wakeup: Timestamp(n),
            end: Timestamp(n),
            waker: None,
            waker_stack: None,
            task_id: None,
            clock: PollClock::default(),
        };
        let mut buffer = WaitBuffer::new(3);
        (0..5).for_each(|n| buffer.add(wait(n)));
        assert_eq!((buffer.len(), buffer.left_out()), (3, 2));
        let starts: Vec<u64> = buffer.take().iter().map(|wait| wait.start.0).collect();
        assert_eq!(starts, [0, 1, 2]);
        buffer.add(wait(9));
        assert_eq!(
            (buffer.len(), buffer.left_out()),
            (1, 2),
            "an interval later"
        );
    }
}
