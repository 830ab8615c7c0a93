//! What is seen of a recording while it goes on: the numbers of the progress line, and the first stall.

use crate::analyze::{Analyzer, SoFar, longest_stall};
use crate::recording::{Interval, Tables};
use crate::units::Nanos;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// How much before the first stall is kept.
const BEFORE: Nanos = Nanos(30_000_000_000);

/// Between the recorder, which sees the intervals, and the verb, which says what was seen.
#[derive(Clone, Debug)]
pub(crate) struct Observer(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    /// Whether anybody looks at the numbers.
    numbers: bool,
    /// How long a stall is that ends the recording.
    until_stall: Option<Nanos>,
    so_far: Mutex<SoFar>,
    stall: Mutex<Option<Nanos>>,
    stalled: Notify,
}

impl Observer {
    pub(crate) fn new(numbers: bool, until_stall: Option<Nanos>) -> Observer {
        Observer(Arc::new(Seen {
            numbers,
            until_stall,
            so_far: Mutex::default(),
            stall: Mutex::default(),
            stalled: Notify::new(),
        }))
    }

    /// Looks at an interval that `analyzer` has.
    pub(crate) fn see(&self, tables: &Tables, interval: &Interval) {
        let Some(limit) = self.0.until_stall else {
            return;
        };
        let stall = longest_stall(tables, interval).filter(|stall| *stall >= limit);
        if let Some(stall) = stall {
            let mut first = self.0.stall.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_none() {
                *first = Some(stall);
                self.0.stalled.notify_one();
            }
        }
    }

    /// Takes over what the analyzer found so far.
    pub(crate) fn count(&self, tables: &Tables, analyzer: &Analyzer) {
        if self.0.numbers {
            let so_far = analyzer.so_far(tables);
            *self.0.so_far.lock().unwrap_or_else(PoisonError::into_inner) = so_far;
        }
    }

    /// What was found so far.
    pub(crate) fn so_far(&self) -> SoFar {
        let so_far = self.0.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far.clone()
    }

    /// Done once there was a stall, with its length so far.
    pub(crate) async fn stalled(&self) -> Nanos {
        loop {
            let stall = *self.0.stall.lock().unwrap_or_else(PoisonError::into_inner);
            match stall {
                Some(stall) => return stall,
                None => self.0.stalled.notified().await,
            }
        }
    }

    /// The last intervals, to be kept until there is a stall; none where nobody waits for one.
    pub(crate) fn ring(&self) -> Option<Ring> {
        self.0.until_stall.map(|_| Ring::default())
    }
}

/// The last intervals.
#[derive(Debug, Default)]
pub(crate) struct Ring(VecDeque<Interval>);

impl Ring {
    pub(crate) fn push(&mut self, interval: Interval) {
        let end = interval.end;
        self.0.push_back(interval);
        while self.0.front().is_some_and(|first| end - first.end > BEFORE) {
            self.0.pop_front();
        }
    }

    /// All of them, the first one first.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = &Interval> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Timestamp;

    #[test]
    fn the_ring_forgets_what_is_long_ago() {
        let mut ring = Ring::default();
        for second in 0..100_u64 {
            ring.push(Interval {
                start: Timestamp(second * 1_000_000_000),
                end: Timestamp((second + 1) * 1_000_000_000),
                ..Interval::default()
            });
        }
        let starts: Vec<u64> = ring
            .intervals()
            .map(|i| i.start.0 / 1_000_000_000)
            .collect();
        assert_eq!(starts, (69..100).collect::<Vec<_>>());
    }
}
