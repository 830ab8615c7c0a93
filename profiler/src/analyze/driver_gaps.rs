//! When workers were blocked while nobody waited for the events of their runtime's I/O driver.

use super::homes::Homes;
use super::parts::{Pieces, Track};
use super::sweep::Span;
use crate::recording::DriverGap;
use crate::units::{Nanos, Timestamp};
use std::collections::BTreeMap;

/// Gaps that are kept until their time is swept over.
const MOST: usize = 1 << 16;
/// Stretches that are told of each runtime.
const TOLD: usize = 10;

/// What was found of one runtime.
#[derive(Clone, Debug, Default)]
pub(super) struct Unattended {
    pub(super) total: Nanos,
    /// The longest stretches, longest first.
    pub(super) longest: Vec<Span>,
}

/// The gaps of all drivers.
#[derive(Clone, Debug, Default)]
pub(super) struct DriverGaps {
    /// Those that are not swept over.
    kept: Vec<DriverGap>,
    found: BTreeMap<Track, Unattended>,
    /// The gaps that found no room.
    left_out: u64,
}

impl DriverGaps {
    /// Adds the gaps of an interval. One that goes on comes with each, a longer one each time.
    pub(super) fn add(&mut self, gaps: &[DriverGap]) {
        let room = MOST.saturating_sub(self.kept.len());
        self.kept.extend(gaps.iter().take(room));
        self.left_out += gaps.len().saturating_sub(room) as u64;
    }

    /// Compares the time up to `until` with what waited in it.
    pub(super) fn settle(
        &mut self,
        homes: &Homes,
        pieces: &Pieces,
        (start, until): (Timestamp, Timestamp),
    ) {
        let mut tracks: BTreeMap<Track, Vec<(Timestamp, Timestamp)>> = BTreeMap::new();
        for gap in &mut self.kept {
            let thread = gap.thread;
            let track = if homes.is_worker(thread) {
                Track::Workers(homes.of_thread(thread))
            } else {
                Track::CurrentThread(thread)
            };
            let (from, to) = (gap.from.max(start), gap.to.min(until));
            if from < to {
                tracks.entry(track).or_default().push((from, to));
            }
            gap.from = gap.from.max(until);
        }
        self.kept.retain(|gap| gap.from < gap.to);
        for (track, gaps) in tracks {
            let blocked = pieces.get(&track).map_or(&[][..], Vec::as_slice);
            let blocked = union(blocked.iter().map(super::sweep::Piece::span).collect());
            let found = self.found.entry(track).or_default();
            for (from, to) in both(&union(gaps), &blocked) {
                found.total += to - from;
                let span = Span {
                    start: from - start,
                    length: to - from,
                };
                let place = found
                    .longest
                    .partition_point(|other| other.length >= span.length);
                if place < TOLD {
                    found.longest.truncate(TOLD - 1);
                    found.longest.insert(place, span);
                }
            }
        }
    }

    /// What was found of a runtime.
    pub(super) fn of(&self, track: Track) -> Unattended {
        self.found.get(&track).cloned().unwrap_or_default()
    }
}

/// Stretches of time as they are, those that touch as one, in the order of time.
fn union(mut stretches: Vec<(Timestamp, Timestamp)>) -> Vec<(Timestamp, Timestamp)> {
    stretches.sort_unstable();
    let mut union: Vec<(Timestamp, Timestamp)> = Vec::new();
    for (from, to) in stretches {
        match union.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => union.push((from, to)),
        }
    }
    union
}

/// What is in both of two rows of stretches, each in the order of time.
fn both(
    some: &[(Timestamp, Timestamp)],
    others: &[(Timestamp, Timestamp)],
) -> Vec<(Timestamp, Timestamp)> {
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

    fn stretches(of: &[(u64, u64)]) -> Vec<(Timestamp, Timestamp)> {
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
}
