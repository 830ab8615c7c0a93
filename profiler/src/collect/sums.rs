//! Sums of waits by thread, stack and object.

use crate::units::{Pid, Tid};
use profiler_common::map::{Aggregate, AggregateKey, HISTOGRAM_BUCKETS};
use profiler_common::record::STACK_BEFORE;
use std::collections::HashMap;

/// A thread of a process.
pub(super) type Thread = (Pid, Tid);

/// Sums by thread and the kernel side's numbers of stack and object.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) entries: HashMap<(Thread, u64, u64), Aggregate>,
    /// Waits that found no entry.
    pub(super) left_out: u64,
}

impl Sums {
    /// Adds what the kernel side summed.
    pub(super) fn add(&mut self, key: &AggregateKey, more: &Aggregate) {
        match self.entries.get_mut(&entry(key)) {
            None => {
                self.entries.insert(entry(key), *more);
            }
            Some(sums) => {
                sums.waits += more.waits;
                sums.blocked += more.blocked;
                sums.runqueue += more.runqueue;
                sums.max = sums.max.max(more.max);
                for (sum, more) in sums.histogram.iter_mut().zip(more.histogram) {
                    *sum = sum.saturating_add(more);
                }
            }
        }
    }

    /// As [`Sums::add`], unless there are `most` entries already: then the waits are counted.
    pub(super) fn add_bounded(&mut self, key: &AggregateKey, more: &Aggregate, most: usize) {
        if self.entries.len() < most || self.entries.contains_key(&entry(key)) {
            self.add(key, more);
        } else {
            self.left_out = self.left_out.saturating_add(more.waits);
        }
    }

    /// Takes out the wait in which a thread was found by the recording.
    pub(super) fn take_first_wait(&mut self, thread: Thread) -> Option<Aggregate> {
        self.entries.remove(&(thread, STACK_BEFORE, 0))
    }

    /// Adds one wait that has been woken and not yet run.
    pub(super) fn add_woken(&mut self, key: &AggregateKey, blocked: u64, runqueue: u64) {
        let mut one = Aggregate {
            waits: 1,
            blocked,
            runqueue,
            max: blocked,
            histogram: [0; HISTOGRAM_BUCKETS],
        };
        let bucket = (blocked.max(1).ilog2() as usize).min(HISTOGRAM_BUCKETS - 1);
        if let Some(count) = one.histogram.get_mut(bucket) {
            *count = 1;
        }
        self.add(key, &one);
    }
}

fn entry(key: &AggregateKey) -> (Thread, u64, u64) {
    ((Pid(key.tgid), Tid(key.tid)), key.stack, key.object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_ended_threads_are_bounded_and_the_rest_is_counted() {
        let key = |tid| AggregateKey {
            stack: 7,
            object: 0,
            tid,
            tgid: 1,
        };
        let more = Aggregate {
            waits: 5,
            blocked: 50,
            runqueue: 1,
            max: 20,
            histogram: [0; HISTOGRAM_BUCKETS],
        };
        let mut sums = Sums::default();
        for tid in [1, 2, 1, 3] {
            sums.add_bounded(&key(tid), &more, 2);
        }
        assert_eq!(sums.entries.len(), 2);
        assert_eq!(sums.entries[&((Pid(1), Tid(1)), 7, 0)].waits, 10);
        assert_eq!(sums.left_out, 5);
    }
}
