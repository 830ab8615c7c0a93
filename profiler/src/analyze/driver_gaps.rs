//! When workers were blocked while nobody watched for the events of their runtime's I/O driver.
//!
//! The kernel side tells when nobody waited for events. But a worker that has much to do looks for them
//! between its polls (every 61st time, `global_queue_interval` in tokio's `runtime/scheduler`), without a wait that
//! could be seen. So of these gaps only the times are left in which each worker that did anything in the gap
//! was blocked: the others had nothing to do from its begin on.

use super::homes::Homes;
use super::parts::{Pieces, Track};
use super::sweep::Span;
use crate::recording::{DriverGap, Interval, ThreadId};
use crate::units::{Nanos, Timestamp};
use std::collections::BTreeMap;

/// Gaps that are kept until their time is swept over.
const MOST: usize = 1 << 16;
/// Stretches that are told of each runtime.
const TOLD: usize = 10;

/// A thread that ran for this part of an interval's time may have looked for events at any time in it.
const BUSY: u64 = 5;

/// A stretch of time.
type Stretch = (Timestamp, Timestamp);

/// What was found of one runtime.
#[derive(Clone, Debug, Default)]
pub(super) struct Unattended {
    pub(super) total: Nanos,
    /// The longest stretches, longest first.
    pub(super) longest: Vec<Span>,
}

impl Unattended {
    fn add(&mut self, stretches: &[Stretch], start: Timestamp) {
        for (from, to) in stretches {
            self.total += *to - *from;
            let span = Span {
                start: *from - start,
                length: *to - *from,
            };
            let longer = |other: &Span| other.length >= span.length;
            let place = self.longest.partition_point(longer);
            if place < TOLD {
                self.longest.truncate(TOLD - 1);
                self.longest.insert(place, span);
            }
        }
    }
}

/// What a thread did.
#[derive(Debug, Default)]
struct Active {
    blocked: Vec<Stretch>,
    /// Intervals in which it ran much.
    busy: Vec<Stretch>,
}

impl Active {
    fn united(self) -> Active {
        Active {
            blocked: union(self.blocked),
            busy: union(self.busy),
        }
    }
}

/// The times in a gap in which all threads that did anything in it were blocked.
fn unwatched(gap: Stretch, threads: &[Active]) -> Vec<Stretch> {
    let mut left = vec![gap];
    let mut any = false;
    for thread in threads {
        let blocked = both(&[gap], around(gap, &thread.blocked));
        let busy = both(&[gap], around(gap, &thread.busy));
        if !blocked.is_empty() {
            any = true;
            left = both(&left, &blocked);
        } else if !busy.is_empty() {
            left = both(&left, &outside(gap, &busy));
        }
    }
    // Where none was blocked, nothing held anybody up.
    if any { left } else { Vec::new() }
}

/// Those of some stretches, which are apart and in the order of time, that share time with `gap`.
fn around((from, to): Stretch, stretches: &[Stretch]) -> &[Stretch] {
    let first = stretches.partition_point(|stretch| stretch.1 <= from);
    let after = stretches.partition_point(|stretch| stretch.0 < to);
    stretches.get(first..after).unwrap_or_default()
}

/// What of a stretch is in none of the others, which are within it and in the order of time.
fn outside((mut from, to): Stretch, others: &[Stretch]) -> Vec<Stretch> {
    let mut outside = Vec::new();
    for other in others {
        outside.push((from, other.0));
        from = other.1;
    }
    outside.push((from, to));
    outside.retain(|(from, to)| from < to);
    outside
}

/// The gaps of all drivers.
#[derive(Clone, Debug, Default)]
pub(super) struct DriverGaps {
    /// Those that are not swept over.
    kept: Vec<DriverGap>,
    /// When threads were busy, as far as it is not swept over.
    busy: Vec<(ThreadId, Stretch)>,
    found: BTreeMap<Track, Unattended>,
    /// The gaps that found no room.
    left_out: u64,
}

impl DriverGaps {
    /// Adds the gaps of an interval. One that goes on comes with each, a longer one each time.
    pub(super) fn add(&mut self, interval: &Interval) {
        let gaps = &interval.driver_gaps;
        let room = MOST.saturating_sub(self.kept.len());
        self.kept.extend(gaps.iter().take(room));
        self.left_out += gaps.len().saturating_sub(room) as u64;
        let threads = interval.threads.iter();
        let busy = threads.filter(|times| times.running.0.saturating_mul(BUSY) >= times.lived.0);
        let busy = busy.map(|times| (times.thread, (interval.start, interval.end)));
        self.busy
            .extend(busy.take(MOST.saturating_sub(self.busy.len())));
    }

    /// Compares the time up to `until` with what waited in it.
    pub(super) fn settle(
        &mut self,
        homes: &Homes,
        pieces: &Pieces,
        (start, until): (Timestamp, Timestamp),
    ) {
        let track_of = |thread: ThreadId| match homes.is_worker(thread) {
            true => Track::Workers(homes.of_thread(thread)),
            false => Track::CurrentThread(thread),
        };
        let mut tracks: BTreeMap<Track, Vec<Stretch>> = BTreeMap::new();
        for gap in &mut self.kept {
            let (from, to) = (gap.from.max(start), gap.to.min(until));
            if from < to {
                tracks
                    .entry(track_of(gap.thread))
                    .or_default()
                    .push((from, to));
            }
            gap.from = gap.from.max(until);
        }
        self.kept.retain(|gap| gap.from < gap.to);
        let mut busy: BTreeMap<Track, Vec<(ThreadId, Stretch)>> = BTreeMap::new();
        for (thread, stretch) in &self.busy {
            let track = track_of(*thread);
            if tracks.contains_key(&track) {
                busy.entry(track).or_default().push((*thread, *stretch));
            }
        }
        for (track, gaps) in tracks {
            let mut threads: BTreeMap<ThreadId, Active> = BTreeMap::new();
            for piece in pieces.get(&track).map_or(&[][..], Vec::as_slice) {
                threads
                    .entry(piece.thread())
                    .or_default()
                    .blocked
                    .push(piece.span());
            }
            for (thread, stretch) in busy.remove(&track).unwrap_or_default() {
                threads.entry(thread).or_default().busy.push(stretch);
            }
            let threads: Vec<Active> = threads.into_values().map(Active::united).collect();
            let found = self.found.entry(track).or_default();
            for gap in union(gaps) {
                found.add(&unwatched(gap, &threads), start);
            }
        }
        self.busy.retain(|(_, (_, to))| *to > until);
    }

    /// What was found of a runtime.
    pub(super) fn of(&self, track: Track) -> Unattended {
        self.found.get(&track).cloned().unwrap_or_default()
    }
}

/// Stretches of time as they are, those that touch as one, in the order of time.
fn union(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_unstable();
    let mut union: Vec<Stretch> = Vec::new();
    for (from, to) in stretches {
        match union.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => union.push((from, to)),
        }
    }
    union
}

/// What is in both of two rows of stretches, each in the order of time.
fn both(some: &[Stretch], others: &[Stretch]) -> Vec<Stretch> {
    let mut both = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(a), Some(b)) = (some.get(i), others.get(j)) {
        let (from, to) = (a.0.max(b.0), a.1.min(b.1));
        if from < to {
            both.push((from, to));
        }
        if a.1 < b.1 {
            i += 1;
        } else {
            j += 1;
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(of: &[(u64, u64)]) -> Vec<Stretch> {
        let stretch = |(from, to): &(u64, u64)| (Timestamp(*from), Timestamp(*to));
        of.iter().map(stretch).collect()
    }

    #[test]
    fn only_what_is_in_both_counts() {
        let gaps = union(stretches(&[(50, 60), (0, 20), (10, 30), (70, 80)]));
        assert_eq!(gaps, stretches(&[(0, 30), (50, 60), (70, 80)]));
        let blocked = stretches(&[(5, 8), (20, 55), (58, 75)]);
        assert_eq!(
            both(&gaps, &blocked),
            stretches(&[(5, 8), (20, 30), (50, 55), (58, 60), (70, 75)])
        );
        assert_eq!(both(&gaps, &[]), []);
    }
    fn active(blocked: &[(u64, u64)], busy: &[(u64, u64)]) -> Active {
        Active {
            blocked: stretches(blocked),
            busy: stretches(busy),
        }
    }

    /// `unwatched`, of the gap from 0 to 100.
    fn left(threads: &[Active]) -> Vec<Stretch> {
        unwatched((Timestamp(0), Timestamp(100)), threads)
    }

    #[test]
    fn a_worker_that_goes_on_may_have_looked_for_events() {
        let one = || active(&[(10, 40), (60, 90)], &[]);
        assert_eq!(left(&[one()]), stretches(&[(10, 40), (60, 90)]));
        // The other ones had nothing to do, and waited for a call.
        assert_eq!(left(&[one(), active(&[], &[])]).len(), 2);
        // Another one is between two waits at 30, and at 70.
        let other = active(&[(0, 30), (35, 70), (75, 100)], &[(0, 1000)]);
        let both = stretches(&[(10, 30), (35, 40), (60, 70), (75, 90)]);
        assert_eq!(left(&[one(), other]), both);
        // Another one computes, for the first half at least.
        let computes = active(&[], &[(0, 50)]);
        assert_eq!(left(&[one(), computes]), stretches(&[(60, 90)]));
        assert_eq!(left(&[active(&[], &[(0, 50)])]), [], "nobody was blocked");
    }
}
