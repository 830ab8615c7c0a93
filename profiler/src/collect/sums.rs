//! Sums of waits by thread, stack and object.

use crate::decode::{ObjectNumber, Sum, SumKey, WaitStack};
use crate::recording::ThreadId;
use std::collections::HashMap;

/// What waits are summed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) thread: ThreadId,
    pub(super) stack: WaitStack,
    pub(super) object: Option<ObjectNumber>,
}

impl Key {
    /// The kernel side's key of a thread's waits.
    pub(super) const fn new(thread: ThreadId, key: &SumKey) -> Key {
        Key {
            thread,
            stack: key.stack,
            object: key.object,
        }
    }
}

/// The sums of one interval. The kernel side's are taken out more often than intervals end, so that
/// they keep room.
#[derive(Debug)]
pub(super) struct IntervalSums {
    entries: HashMap<Key, Sum>,
    most: usize,
    /// Waits that found no entry.
    left_out: u64,
}

impl IntervalSums {
    /// At most `most` entries are kept.
    pub(super) fn new(most: usize) -> IntervalSums {
        IntervalSums {
            entries: HashMap::new(),
            most,
            left_out: 0,
        }
    }

    /// Adds what the kernel side has summed.
    pub(super) fn add(&mut self, key: Key, more: &Sum) {
        if let Some(sum) = self.entries.get_mut(&key) {
            sum.add(more);
        } else if self.entries.len() < self.most {
            self.entries.insert(key, *more);
        } else {
            self.left_out = self.left_out.saturating_add(more.waits);
        }
    }

    /// Leaves out the waits in which the recording found threads, where `is_wait` says so.
    pub(super) fn retain_first_waits(&mut self, mut is_wait: impl FnMut(ThreadId, &Sum) -> bool) {
        self.entries
            .retain(|key, sum| key.stack != WaitStack::BeforeRecording || is_wait(key.thread, sum));
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Waits in no entry, of the recording so far.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes them out: an interval ends.
    pub(super) fn take(&mut self) -> HashMap<Key, Sum> {
        std::mem::take(&mut self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::ProcessId;
    use crate::units::{Nanos, Tid};

    #[test]
    fn sums_of_an_interval_are_bounded_and_the_rest_is_counted() {
        let key = |tid| Key {
            thread: ThreadId {
                process: ProcessId(0),
                tid: Tid(tid),
            },
            stack: WaitStack::Lost,
            object: None,
        };
        let mut more = Sum::one(Nanos(20), Nanos(1));
        more.waits = 5;
        let mut sums = IntervalSums::new(2);
        for tid in [1, 2, 1, 3] {
            sums.add(key(tid), &more);
        }
        assert_eq!((sums.len(), sums.left_out()), (2, 5));
        assert_eq!(sums.take()[&key(1)].waits, 10);
        sums.add(key(3), &more);
        assert_eq!(
            (sums.len(), sums.left_out()),
            (1, 5),
            "a new interval has room"
        );
    }
}
