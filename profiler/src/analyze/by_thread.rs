//! The sums of each thread by itself: what a filter chooses threads of.

use super::totals::Totals;
use crate::recording::{Interval, SHORT_WAITS_PER_SAMPLE, StackId, Tables, ThreadId};
use std::collections::BTreeMap;

/// Stacks of threads that are kept at most, each with its objects, wakers and durations.
const MOST: usize = 1 << 15;

/// Waits by thread. What finds no room is counted.
#[derive(Clone, Debug)]
pub(super) struct ByThread {
    threads: BTreeMap<ThreadId, Totals>,
    /// How many stacks all of them have.
    stacks: usize,
    most: usize,
    left_out: u64,
}

impl Default for ByThread {
    fn default() -> ByThread {
        ByThread {
            threads: BTreeMap::new(),
            stacks: 0,
            most: MOST,
            left_out: 0,
        }
    }
}

impl ByThread {
    /// Adds the waits of an interval.
    pub(super) fn add(&mut self, tables: &Tables, interval: &Interval) {
        for sum in &interval.sums {
            match self.totals(sum.thread, sum.stack) {
                Some(totals) => totals.add_sum(sum),
                None => self.left_out = self.left_out.saturating_add(sum.waits),
            }
        }
        for wait in &interval.waits {
            // One without room is counted with its sum.
            if let Some(totals) = self.totals(wait.thread, wait.stack) {
                totals.add_wait(tables, wait);
            }
        }
        for wait in &interval.short_waits {
            if let Some(totals) = self.totals(wait.thread, wait.stack) {
                totals.add_waker(tables, wait, SHORT_WAITS_PER_SAMPLE);
            }
        }
    }

    fn totals(&mut self, thread: ThreadId, stack: StackId) -> Option<&mut Totals> {
        let known = self.threads.get(&thread);
        if !known.is_some_and(|totals| totals.stacks.contains_key(&stack)) {
            if self.stacks >= self.most {
                return None;
            }
            self.stacks += 1;
            // So that it is counted once.
            let totals = self.threads.entry(thread).or_default();
            totals.stacks.of(stack);
        }
        self.threads.get_mut(&thread)
    }

    /// Waits that found no room.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Adds what is summed by stack, of waits that `takes` chooses.
    pub(super) fn add_to(&self, totals: &mut Totals, takes: impl Fn(ThreadId, StackId) -> bool) {
        for (thread, of_thread) in &self.threads {
            totals.add_stacks(of_thread, |stack| takes(*thread, stack));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{ProcessId, WaitSum};
    use crate::units::{Nanos, Tid};

    #[test]
    fn what_finds_no_room_is_counted() {
        let sum = |tid: u32, stack: u32| WaitSum {
            thread: ThreadId {
                process: ProcessId(0),
                tid: Tid(tid),
            },
            stack: StackId(stack),
            object: None,
            waits: 3,
            blocked: Nanos(30),
            runqueue: Nanos::ZERO,
            max: Nanos(20),
            histogram: Vec::new(),
        };
        let interval = Interval {
            sums: vec![sum(1, 0), sum(1, 1), sum(2, 0), sum(1, 0)],
            ..Interval::default()
        };
        let mut by_thread = ByThread {
            most: 2,
            ..ByThread::default()
        };
        by_thread.add(&Tables::default(), &interval);
        assert_eq!((by_thread.stacks, by_thread.left_out()), (2, 3));
        let mut totals = Totals::default();
        by_thread.add_to(&mut totals, |_, stack| stack == StackId(0));
        let times = totals.stacks.get(&StackId(0)).expect("a sum").times;
        assert_eq!((times.waits, times.blocked), (6, Nanos(60)));
        assert_eq!(totals.stacks.len(), 1);
    }
}
