//! Threads that have ended: their books, summed by thread id.

use crate::units::{Pid, Tid};
use profiler_common::record::ThreadEndRecord;
use std::collections::{HashMap, HashSet};

/// The finished lives under one thread id; nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EndedTimes {
    pub(super) lived: u64,
    pub(super) running: u64,
    pub(super) runnable: u64,
    pub(super) blocked: u64,
    pub(super) waits: u64,
    pub(super) in_calls: u64,
}

/// Every thread that has ended, up to a number of them: a target may make threads for ever.
#[derive(Debug, Default)]
pub(super) struct Ended {
    times: HashMap<(Pid, Tid), EndedTimes>,
    /// When the last one ended.
    last: Option<u64>,
    /// Since the last sweep.
    new: HashSet<(Pid, Tid)>,
    /// Those beyond what is kept.
    left_out: u64,
}

impl Ended {
    /// Adds one; says whether it was kept. At most `most` ids are.
    pub(super) fn add(&mut self, record: &ThreadEndRecord, most: usize) -> bool {
        let thread = (Pid(record.header.tgid), Tid(record.header.tid));
        self.last = self.last.max(Some(record.time));
        self.new.insert(thread);
        if self.times.len() >= most && !self.times.contains_key(&thread) {
            self.left_out += 1;
            return false;
        }
        let books = self.times.entry(thread).or_default();
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(
            &mut books.lived,
            record.time.saturating_sub(record.times.first_seen),
        );
        add(&mut books.running, record.times.running);
        add(&mut books.runnable, record.times.runnable);
        add(&mut books.blocked, record.times.blocked);
        add(&mut books.waits, record.times.waits);
        add(&mut books.in_calls, record.times.in_calls);
        true
    }

    /// Whether books of the thread are kept.
    pub(super) fn has(&self, thread: (Pid, Tid)) -> bool {
        self.times.contains_key(&thread)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ((Pid, Tid), &EndedTimes)> {
        self.times.iter().map(|(thread, books)| (*thread, books))
    }

    /// When the last thread ended, if any did.
    pub(super) const fn last(&self) -> Option<u64> {
        self.last
    }

    /// The ids that have come since this was asked before.
    pub(super) fn take_new(&mut self) -> HashSet<(Pid, Tid)> {
        std::mem::take(&mut self.new)
    }

    /// Threads whose books were not kept.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::map::ThreadTimes;
    use profiler_common::record::{Header, KIND_THREAD_END};

    fn end(tid: u32, from: u64, to: u64) -> ThreadEndRecord {
        ThreadEndRecord {
            header: Header {
                kind: KIND_THREAD_END,
                len: 0,
                tgid: 1,
                tid,
            },
            time: to,
            times: ThreadTimes {
                first_seen: from,
                running: to - from,
                runnable: 0,
                blocked: 0,
                waits: 3,
                in_calls: 2,
            },
            comm: [0; 16],
            cut: 0,
            reserved: 0,
            at_cut: profiler_common::map::ThreadState::default(),
        }
    }

    #[test]
    fn threads_of_one_id_share_and_the_number_of_ids_is_bounded() {
        let mut ended = Ended::default();
        assert!(ended.add(&end(7, 10, 20), 1));
        assert!(ended.add(&end(7, 30, 35), 1));
        assert!(!ended.add(&end(8, 30, 36), 1));
        let books: Vec<_> = ended.iter().collect();
        assert_eq!(books.len(), 1);
        assert_eq!((books[0].1.lived, books[0].1.waits), (15, 6));
        assert_eq!(books[0].1.in_calls, 4);
        assert_eq!((ended.left_out(), ended.last()), (1, Some(36)));
        assert_eq!(ended.take_new().len(), 2, "sums of both may go");
        assert!(ended.take_new().is_empty());
        assert!(ended.has((Pid(1), Tid(7))) && !ended.has((Pid(1), Tid(8))));
    }
}
