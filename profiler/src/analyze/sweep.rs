//! How many threads waited at once, over the time of the recording.

use super::role_times::verdict_of;
use crate::recording::Recording;
use crate::runtime::{Role, State};
use crate::units::{Nanos, Tid, Timestamp};
use std::collections::BTreeMap;

/// One thread's wait, as far as the sweep is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    /// The thread.
    pub(super) tid: Tid,
    from: Timestamp,
    to: Timestamp,
}

/// The blocked parts of the waits that `wanted` picks, of the timeline and those still open.
///
/// A blocked part goes to the wakeup and not to the switch-in: a woken thread that waits for a
/// CPU is `runnable`, and the books count it so. Open waits last to the end of the recording.
pub(super) fn intervals(
    recording: &Recording,
    wanted: impl Fn(Tid, State, Role) -> bool,
) -> Vec<Interval> {
    let finished = recording
        .waits
        .iter()
        .map(|wait| (wait.tid, wait.stack, wait.start, wait.wakeup.min(wait.end)));
    let open = recording
        .open_waits
        .iter()
        .map(|open| (open.tid, open.stack, open.since, recording.end));
    finished
        .chain(open)
        .filter(|&(tid, stack, ..)| {
            let (state, role) = verdict_of(recording, stack);
            wanted(tid, state, role)
        })
        .map(|(tid, _, from, to)| Interval {
            tid,
            from: from.max(recording.start),
            to: to.min(recording.end),
        })
        .filter(|interval| interval.from < interval.to)
        .collect()
}

/// The recording cut into stretches with a constant number of waiting threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    stretches: Vec<(usize, Nanos)>,
}

/// A stretch of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its begin, from the recording's start.
    pub(super) start: Nanos,
    /// Its length.
    pub(super) length: Nanos,
}

impl Sweep {
    /// Sweeps over `intervals`, which lie within `start..end`. A thread counts once at a time,
    /// even if two of its waits overlap.
    pub(super) fn new(mut intervals: Vec<Interval>, start: Timestamp, end: Timestamp) -> Sweep {
        intervals.sort_unstable();
        let mut changes: BTreeMap<Timestamp, i64> = BTreeMap::new();
        let mut add = |interval: Interval| {
            *changes.entry(interval.from).or_default() += 1;
            *changes.entry(interval.to).or_default() -= 1;
        };
        let mut merged: Option<Interval> = None;
        for next in intervals {
            match &mut merged {
                Some(last) if last.tid == next.tid && next.from <= last.to => {
                    last.to = last.to.max(next.to);
                }
                _ => {
                    if let Some(done) = merged.replace(next) {
                        add(done);
                    }
                }
            }
        }
        if let Some(done) = merged {
            add(done);
        }

        let mut stretches: Vec<(usize, Nanos)> = Vec::new();
        let mut push = |count: i64, length: Nanos| {
            let count = usize::try_from(count).unwrap_or(0);
            match stretches.last_mut() {
                _ if length == Nanos::ZERO => {}
                Some((last, sum)) if *last == count => *sum += length,
                _ => stretches.push((count, length)),
            }
        };
        let (mut count, mut at) = (0, start);
        for (time, change) in changes {
            push(count, time - at);
            at = time;
            count += change;
        }
        push(count, end - at);
        Sweep { stretches }
    }

    /// The most threads that waited at once.
    pub(super) fn peak(&self) -> usize {
        self.stretches
            .iter()
            .map(|&(count, _)| count)
            .max()
            .unwrap_or(0)
    }

    /// Entry `k`: for how long exactly `k` of `threads` waited, the last entry also for more.
    /// Sums to the length of the recording.
    pub(super) fn at_once(&self, threads: usize) -> Vec<Nanos> {
        let mut times = vec![Nanos::ZERO; threads + 1];
        for &(count, length) in &self.stretches {
            if let Some(time) = times.get_mut(count.min(threads)) {
                *time += length;
            }
        }
        times
    }

    /// The stretches in which at least `threads` waited, without a break, longest first.
    pub(super) fn spans(&self, threads: usize) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let (mut at, mut unbroken) = (Nanos::ZERO, false);
        for &(count, length) in &self.stretches {
            let wanted = count >= threads;
            match spans.last_mut() {
                Some(span) if wanted && unbroken => span.length += length,
                _ if wanted => spans.push(Span { start: at, length }),
                _ => {}
            }
            unbroken = wanted;
            at += length;
        }
        // The sort is stable: of equals the earlier one stays first.
        spans.sort_by_key(|span| std::cmp::Reverse(span.length));
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(intervals: &[(u32, u64, u64)]) -> Sweep {
        let intervals = intervals
            .iter()
            .map(|&(tid, from, to)| Interval {
                tid: Tid(tid),
                from: Timestamp(from),
                to: Timestamp(to),
            })
            .collect();
        Sweep::new(intervals, Timestamp(0), Timestamp(100))
    }

    fn nanos(times: &[u64]) -> Vec<Nanos> {
        times.iter().copied().map(Nanos).collect()
    }

    #[test]
    fn counts_how_many_wait_at_once() {
        let sweep = sweep(&[(1, 0, 50), (2, 10, 40), (3, 30, 60)]);
        assert_eq!(sweep.peak(), 3);
        assert_eq!(sweep.at_once(3), nanos(&[40, 20, 30, 10]));
        assert_eq!(sweep.at_once(2), nanos(&[40, 20, 40]));
    }

    #[test]
    fn nobody_waits_all_the_time() {
        assert_eq!(sweep(&[]).at_once(2), nanos(&[100, 0, 0]));
        assert_eq!(sweep(&[]).peak(), 0);
    }

    #[test]
    fn one_wait_after_another_is_one_stretch() {
        let sweep = sweep(&[(1, 0, 10), (2, 10, 30), (1, 40, 45)]);
        let span = |start, length| Span {
            start: Nanos(start),
            length: Nanos(length),
        };
        assert_eq!(sweep.spans(1), [span(0, 30), span(40, 5)]);
        assert_eq!(sweep.at_once(1), nanos(&[65, 35]));
    }

    #[test]
    fn a_thread_counts_once() {
        let sweep = sweep(&[(1, 0, 50), (1, 20, 30), (1, 45, 60)]);
        assert_eq!(sweep.peak(), 1);
        assert_eq!(sweep.at_once(1), nanos(&[40, 60]));
    }

    #[test]
    fn the_longest_stretch_may_change_its_threads() {
        let sweep = sweep(&[
            (1, 0, 50),
            (2, 0, 20),
            (3, 20, 50),
            (2, 60, 65),
            (3, 60, 65),
        ]);
        assert_eq!(sweep.spans(2)[0].length, Nanos(50));
    }
}
