//! Sums of waits by thread, stack and object.

use crate::decode::{ObjectNumber, Sum, SumKey, ThreadKey, WaitStack};
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

/// Sums that may wait for word of their process, at most.
const MAX_UNPLACED: usize = 4096;

/// For so many takings they wait: whoever has not been told of by then is not recorded.
const PATIENCE: u32 = 8;

/// Sums of a process of which nothing was heard yet.
#[derive(Clone, Copy, Debug)]
struct Unplaced {
    key: SumKey,
    sum: Sum,
    /// Takings since.
    age: u32,
}

/// The sums of one interval. The kernel side's are taken out more often than intervals end, so that
/// they keep room.
#[derive(Debug)]
pub(super) struct IntervalSums {
    entries: HashMap<Key, Sum>,
    most: usize,
    unplaced: Vec<Unplaced>,
    /// Waits that found no entry.
    left_out: u64,
}

impl IntervalSums {
    /// At most `most` entries are kept.
    pub(super) fn new(most: usize) -> IntervalSums {
        IntervalSums {
            entries: HashMap::new(),
            most,
            unplaced: Vec::new(),
            left_out: 0,
        }
    }

    /// Adds what the kernel side has summed. A process that was forked just now may have waited before
    /// its fork was heard of: what is of a thread that `thread_of` does not know waits for that.
    pub(super) fn take_in(
        &mut self,
        key: SumKey,
        sum: Sum,
        thread_of: impl Fn(ThreadKey) -> Option<ThreadId>,
    ) {
        self.place(Unplaced { key, sum, age: 0 }, thread_of);
    }

    /// Asks once more for the threads of sums that wait. To be called before more are taken in.
    pub(super) fn place_waiting(&mut self, thread_of: impl Fn(ThreadKey) -> Option<ThreadId>) {
        for mut waiting in std::mem::take(&mut self.unplaced) {
            waiting.age += 1;
            self.place(waiting, &thread_of);
        }
    }

    /// Nothing will be heard any more: what waits for it is left out.
    pub(super) fn give_up_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.unplaced) {
            self.left_out = self.left_out.saturating_add(waiting.sum.waits);
        }
    }

    fn place(&mut self, one: Unplaced, thread_of: impl Fn(ThreadKey) -> Option<ThreadId>) {
        if let Some(thread) = thread_of(one.key.thread) {
            self.add(Key::new(thread, &one.key), &one.sum);
        } else if one.age < PATIENCE && self.unplaced.len() < MAX_UNPLACED {
            self.unplaced.push(one);
        } else {
            self.left_out = self.left_out.saturating_add(one.sum.waits);
        }
    }

    /// Adds a sum of a thread that is known.
    fn add(&mut self, key: Key, more: &Sum) {
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
    use crate::units::{Nanos, Pid, Tid};

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

    #[test]
    fn sums_of_a_process_wait_for_word_of_it() {
        let sum_key = |tid| SumKey {
            thread: ThreadKey {
                pid: Pid(7),
                tid: Tid(tid),
            },
            stack: WaitStack::Lost,
            object: None,
        };
        let known = |key: ThreadKey| {
            Some(ThreadId {
                process: ProcessId(1),
                tid: key.tid,
            })
        };
        let unknown = |_| None;
        let sum = Sum::one(Nanos(20), Nanos(1));
        let mut sums = IntervalSums::new(100);
        sums.take_in(sum_key(1), sum, unknown);
        assert_eq!((sums.len(), sums.left_out()), (0, 0));
        sums.place_waiting(unknown);
        sums.place_waiting(known);
        assert_eq!((sums.len(), sums.left_out()), (1, 0), "it was heard of");
        sums.place_waiting(known);
        assert_eq!(sums.take().values().map(|sum| sum.waits).sum::<u64>(), 1);
        // Of one that nobody ever tells of.
        sums.take_in(sum_key(2), sum, unknown);
        for _ in 0..PATIENCE {
            assert_eq!(sums.left_out(), 0);
            sums.place_waiting(unknown);
        }
        assert_eq!(sums.left_out(), 1);
        sums.take_in(sum_key(3), sum, unknown);
        sums.give_up_waiting();
        assert_eq!((sums.len(), sums.left_out()), (0, 2));
        for tid in 0..MAX_UNPLACED as u32 + 5 {
            sums.take_in(sum_key(tid), sum, unknown);
        }
        assert_eq!(sums.left_out(), 7, "five found no room");
    }
}
