//! When the interval under way began, and when the kernel side's sums are to be taken out.

use crate::units::Timestamp;
use std::time::{Duration, Instant};

/// The kernel side's sums are taken out at least so often, so that they keep room.
const DRAIN_INTERVAL: Duration = Duration::from_millis(250);

/// The clock of a recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct IntervalClock {
    start: Timestamp,
    /// When the interval under way began…
    cut: Timestamp,
    /// …and when it did by our clock, or was handed out.
    began: Instant,
    /// When the sums were taken out last.
    drained: Instant,
}

impl IntervalClock {
    /// A recording begins at `start`, which is now.
    pub(super) fn begin(start: Timestamp) -> IntervalClock {
        let now = Instant::now();
        IntervalClock {
            start,
            cut: start,
            began: now,
            drained: now,
        }
    }

    /// When the recording began.
    pub(super) const fn start(&self) -> Timestamp {
        self.start
    }

    /// When the interval under way began.
    pub(super) const fn last_cut(&self) -> Timestamp {
        self.cut
    }

    /// For how long the interval under way has been so.
    pub(super) fn length(&self) -> Duration {
        self.began.elapsed()
    }

    /// Another interval begins where the last one ended.
    pub(super) fn cut(&mut self, at: Timestamp) {
        self.cut = at;
    }

    /// The last interval is handed out, and the next one counts from now.
    pub(super) fn begin_interval(&mut self) {
        self.began = Instant::now();
    }

    /// Whether it is time to take the sums out.
    pub(super) fn wants_sums(&self) -> bool {
        self.drained.elapsed() >= DRAIN_INTERVAL
    }

    /// The sums have been taken out.
    pub(super) fn took_sums(&mut self) {
        self.drained = Instant::now();
    }
}
