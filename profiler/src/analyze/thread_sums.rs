//! Times of one thread over several intervals.

use crate::recording::ThreadTimes;
use crate::units::Nanos;

/// As [`ThreadTimes`], summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ThreadSums {
    pub(super) lived: Nanos,
    pub(super) running: Nanos,
    pub(super) runnable: Nanos,
    pub(super) in_calls: Nanos,
    pub(super) waits: u64,
}

impl ThreadSums {
    pub(super) fn add(&mut self, times: &ThreadTimes) {
        self.lived += times.lived;
        self.running += times.running;
        self.runnable += times.runnable;
        self.in_calls += times.in_calls;
        self.waits = self.waits.saturating_add(times.waits);
    }
}
