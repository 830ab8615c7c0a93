//! Times of one thread over several intervals.

use crate::recording::ThreadTimes;
use crate::units::{Nanos, Timestamp};

/// As [`ThreadTimes`], summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ThreadSums {
    /// From when to when it lived, as far as the intervals go.
    pub(super) life: Option<(Timestamp, Timestamp)>,
    pub(super) lived: Nanos,
    pub(super) running: Nanos,
    pub(super) runnable: Nanos,
    pub(super) in_calls: Nanos,
    pub(super) waits: u64,
}

impl ThreadSums {
    pub(super) fn add(&mut self, times: &ThreadTimes) {
        let since = Timestamp(times.until.0.saturating_sub(times.lived.0));
        let (begin, end) = self.life.unwrap_or((since, times.until));
        self.life = Some((begin.min(since), end.max(times.until)));
        self.lived += times.lived;
        self.running += times.running;
        self.runnable += times.runnable;
        self.in_calls += times.in_calls;
        self.waits = self.waits.saturating_add(times.waits);
    }
}
