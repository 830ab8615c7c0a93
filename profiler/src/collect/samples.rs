//! Threads on a CPU: samples summed up by stack.

use crate::recording::{SampleSum, StackId, ThreadId};
use std::collections::HashMap;

/// The samples of an interval.
#[derive(Debug, Default)]
pub(super) struct SampleCollector {
    sums: HashMap<(ThreadId, StackId), u64>,
}

impl SampleCollector {
    /// Adds a sample.
    pub(super) fn add(&mut self, thread: ThreadId, stack: StackId) {
        *self.sums.entry((thread, stack)).or_default() += 1;
    }

    /// Takes the sums out: an interval ends.
    pub(super) fn take(&mut self) -> Vec<SampleSum> {
        let sums = std::mem::take(&mut self.sums).into_iter();
        let mut sums: Vec<SampleSum> = sums
            .map(|((thread, stack), samples)| SampleSum {
                thread,
                stack,
                samples,
            })
            .collect();
        sums.sort_unstable_by_key(|sum| (sum.thread, sum.stack));
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::ProcessId;
    use crate::units::Tid;

    #[test]
    fn samples_of_a_thread_with_one_stack_add_up() {
        let thread = |tid| ThreadId {
            process: ProcessId(0),
            tid: Tid(tid),
        };
        let mut samples = SampleCollector::default();
        samples.add(thread(2), StackId(0));
        samples.add(thread(1), StackId(7));
        samples.add(thread(2), StackId(0));
        let sums = samples.take();
        let sums: Vec<_> = sums.iter().map(|sum| (sum.thread, sum.samples)).collect();
        assert_eq!(sums, [(thread(1), 1), (thread(2), 2)]);
        assert!(samples.take().is_empty());
    }
}
