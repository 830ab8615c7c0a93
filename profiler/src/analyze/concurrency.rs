//! Which threads waited at the same time, computed as the intervals come.
//!
//! The waits of the latest intervals are kept as they are, because the class of a stack may still
//! change while more is learned of the program. The oldest are swept over when there are too many.

use super::blame::Blames;
use super::driver_gaps::{DriverGaps, Unattended};
use super::homes::Homes;
use super::labels::Labels;
use super::meanwhile::Activity;
use super::parts::{Ender, Kind, Part, Track};
use super::spread::Spread;
use super::sweep::Sweep;
use crate::recording::{Holder, Interval, OpenWait, StackId, Tables, ThreadId};
use crate::units::{Nanos, Timestamp};
use std::collections::BTreeMap;

/// Waits that are kept as they are.
const KEPT: usize = 3 << 16;

/// The waits of a range of intervals, by when they were.
#[derive(Clone, Debug)]
pub(super) struct Concurrency {
    min_block: Nanos,
    kept: usize,
    start: Timestamp,
    end: Timestamp,
    /// Everything before this is swept over.
    swept: Timestamp,
    tracks: BTreeMap<Track, Sweep>,
    labels: Labels,
    blames: Blames,
    driver_gaps: DriverGaps,
    activity: Activity,
    /// What is not swept over yet.
    parts: Vec<Part>,
    /// Open waits that are shorter than `min_block` as yet: if they end so, nothing will tell.
    short: Vec<Part>,
}

impl Concurrency {
    pub(super) fn new(min_block: Nanos) -> Concurrency {
        Concurrency {
            min_block,
            kept: KEPT,
            start: Timestamp(0),
            end: Timestamp(0),
            swept: Timestamp(0),
            tracks: BTreeMap::new(),
            labels: Labels::default(),
            blames: Blames::default(),
            driver_gaps: DriverGaps::default(),
            activity: Activity::default(),
            parts: Vec::new(),
            short: Vec::new(),
        }
    }

    /// Keeps fewer waits as they are.
    #[cfg(test)]
    pub(super) fn keep(&mut self, waits: usize) {
        self.kept = waits;
    }

    /// The first instant of the range.
    pub(super) fn begin(&mut self, start: Timestamp) {
        (self.start, self.end, self.swept) = (start, start, start);
    }

    /// Adds the waits of the next interval. Of one that goes on over several intervals a part comes
    /// with each: they overlap, and a thread counts once.
    pub(super) fn add(&mut self, tables: &Tables, interval: &Interval) {
        self.end = interval.end;
        self.driver_gaps.add(interval);
        self.activity.add(tables, interval);
        self.short.clear();
        for open in &interval.open_waits {
            let to = blocked_until(open, interval.end);
            let holder = match &open.holder {
                Some(Holder::Thread { tid, .. }) => Some(Ender::Holder(*tid)),
                _ => None,
            };
            let kind = Kind::Wait {
                ender: holder,
                ran: interval.end,
            };
            let part = self.part((open.thread, open.stack), (open.since, to), kind);
            if to - open.since < self.min_block {
                self.short.extend(part);
            } else {
                self.parts.extend(part);
            }
        }
        for wait in &interval.waits {
            let to = wait.wakeup.min(wait.end);
            let kind = Kind::Wait {
                ender: wait.waker.map(Ender::Waker),
                ran: wait.end,
            };
            let part = self.part((wait.thread, wait.stack), (wait.start, to), kind);
            self.parts.extend(part);
        }
        for poll in interval.polls.iter().filter(|poll| poll.is_blocked()) {
            let place = (poll.thread, poll.stack);
            let part = self.part(place, (poll.start, poll.end), Kind::Poll);
            self.parts.extend(part);
        }
    }

    /// What is left of a wait to be swept over.
    fn part(
        &self,
        (thread, stack): (ThreadId, StackId),
        (from, to): (Timestamp, Timestamp),
        kind: Kind,
    ) -> Option<Part> {
        let (began, to) = (from, to.min(self.end));
        let from = began.max(self.swept);
        // One that is swept over, but whose waker nobody knew then, has yet to be explained.
        let is_explained = !matches!(kind, Kind::Wait { ender: Some(_), .. });
        let (from, is_left) = (from.min(to), from < to || !is_explained && began < to);
        is_left.then_some(Part {
            thread,
            stack,
            began,
            from,
            to,
            kind,
        })
    }

    /// Whether there are more waits than are to be kept.
    pub(super) fn is_full(&self) -> bool {
        self.parts.len() > self.kept
    }

    /// Sweeps over the older half of the waits. `homes` are by what is known so far.
    pub(super) fn fold(&mut self, tables: &Tables, homes: &Homes) {
        let middle = self.parts.len() / 2;
        if middle == 0 {
            return;
        }
        let (_, part, _) = self
            .parts
            .select_nth_unstable_by_key(middle, |part| part.to);
        // A short wait may turn out to be a long one, and began then.
        let begun = self.short.iter().map(|part| part.from);
        let until = begun.fold(part.to, Timestamp::min);
        if until <= self.swept {
            return;
        }
        let begun: Vec<Part> = self
            .parts
            .extract_if(.., |part| part.from < until)
            .collect();
        // What was swept over leaves room; a burst must not hold it for good.
        self.parts.shrink_to(2 * self.kept);
        let names = (tables, homes);
        let found = (&mut self.labels, &mut self.blames);
        let spread = Spread::new(names, &self.activity, found);
        let pieces = spread.pieces(begun.iter(), self.parts.iter());
        self.driver_gaps.settle(homes, &pieces, (self.start, until));
        for (track, pieces) in pieces {
            let sweep = self.tracks.entry(track);
            let sweep = sweep.or_insert_with(|| Sweep::new(self.start));
            sweep.advance(pieces, until);
        }
        self.swept = until;
    }

    /// How many threads of each track waited at once, up to the end of the range. Sweeps over what
    /// is left on a copy.
    pub(super) fn finish(&self, tables: &Tables, homes: &Homes) -> Concurrent {
        let mut tracks = self.tracks.clone();
        let (mut labels, mut blames) = (self.labels.clone(), self.blames.clone());
        let found = (&mut labels, &mut blames);
        let spread = Spread::new((tables, homes), &self.activity, found);
        let rest = self.parts.iter().chain(&self.short);
        let mut rest = spread.pieces(rest, std::iter::empty());
        let mut driver_gaps = self.driver_gaps.clone();
        driver_gaps.settle(homes, &rest, (self.start, self.end));
        for track in rest.keys() {
            let sweep = tracks.entry(*track);
            sweep.or_insert_with(|| Sweep::new(self.start));
        }
        for (track, sweep) in &mut tracks {
            sweep.finish(rest.remove(track).unwrap_or_default(), self.end);
        }
        let mut none = Sweep::new(self.start);
        none.finish(Vec::new(), self.end);
        Concurrent {
            tracks,
            none,
            driver_gaps,
            labels,
            blames,
        }
    }
}

/// What a sweep over a whole range found.
#[derive(Debug)]
pub(super) struct Concurrent {
    tracks: BTreeMap<Track, Sweep>,
    none: Sweep,
    driver_gaps: DriverGaps,
    /// What the labels of the sweeps stand for.
    pub(super) labels: Labels,
    /// What was to blame for waits.
    pub(super) blames: Blames,
}

impl Concurrent {
    /// That of one track.
    pub(super) fn of(&self, track: Track) -> &Sweep {
        self.tracks.get(&track).unwrap_or(&self.none)
    }

    /// When threads of a track were blocked and nobody waited for the events of their I/O driver.
    pub(super) fn unattended(&self, track: Track) -> Unattended {
        self.driver_gaps.of(track)
    }
}

/// Until when an open wait was blocked: its wakeup, or `end`.
pub(super) fn blocked_until(open: &OpenWait, end: Timestamp) -> Timestamp {
    open.woken.map_or(end, |woken| woken.min(end))
}
