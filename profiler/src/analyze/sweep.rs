//! How many threads waited at once, counted as time goes on.

use super::harm::{Harm, LabelHarm};
use super::labels::Label;
use crate::recording::ThreadId;
use crate::units::{Nanos, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Spans that are kept for each number of threads.
pub(super) const SPANS: usize = 10;

/// One thread's wait, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Piece {
    thread: ThreadId,
    from: Timestamp,
    to: Timestamp,
    /// Whether the sweep is past its begin and has counted it.
    begun: bool,
    /// What it would not be there without.
    labels: Arc<[Label]>,
}

impl Piece {
    pub(super) fn new(
        thread: ThreadId,
        from: Timestamp,
        to: Timestamp,
        labels: Arc<[Label]>,
    ) -> Piece {
        Piece {
            thread,
            from,
            to,
            begun: false,
            labels,
        }
    }

    /// Whose it is.
    pub(super) const fn thread(&self) -> ThreadId {
        self.thread
    }

    /// From when to when it is.
    pub(super) const fn span(&self) -> (Timestamp, Timestamp) {
        (self.from, self.to)
    }
}

/// Something that begins or ends.
struct Change {
    time: Timestamp,
    /// 1 or -1.
    by: i32,
    labels: Arc<[Label]>,
}

/// A stretch of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its begin, from the recording's start.
    pub(super) start: Nanos,
    /// Its length.
    pub(super) length: Nanos,
}

/// A sweep over the waits of some threads. What it remembers depends on how many of them wait at
/// once, not on how many waits there were.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    start: Timestamp,
    /// Everything before this is counted.
    at: Timestamp,
    /// Threads that wait at `at`.
    count: usize,
    peak: usize,
    /// Entry `k`: for how long exactly `k` threads waited.
    times: Vec<Nanos>,
    /// Entry `k`: since when more than `k` threads have waited; of use for `k` below `count`.
    since: Vec<Timestamp>,
    /// Entry `k`: the longest spans in which more than `k` threads waited, longest first.
    longest: Vec<Vec<Span>>,
    /// Waits that have begun and not ended.
    active: Vec<Piece>,
    /// By label, what of the time in which all wait would go without it.
    harm: Harm,
}

impl Sweep {
    /// A sweep from `start` on.
    pub(super) fn new(start: Timestamp) -> Sweep {
        Sweep {
            start,
            at: start,
            count: 0,
            peak: 0,
            times: Vec::new(),
            since: Vec::new(),
            longest: Vec::new(),
            active: Vec::new(),
            harm: Harm::default(),
        }
    }

    /// Sweeps over what happened before `until`. Every wait that began before it is in `pieces`,
    /// or was in those of an earlier call. A thread counts once at a time: where two of its waits
    /// overlap, the one that began later has the time from then on.
    pub(super) fn advance(&mut self, mut pieces: Vec<Piece>, until: Timestamp) {
        pieces.append(&mut self.active);
        // Both are a few rows in order, one after another, which this sort takes as they are.
        pieces.sort();
        let mut changes: Vec<Change> = Vec::with_capacity(2 * pieces.len());
        let mut last: Option<Piece> = None;
        for mut next in pieces {
            match &mut last {
                Some(last) if last.thread == next.thread && next.from < last.to => {
                    let end = next.to.max(last.to);
                    if next.labels == last.labels {
                        last.to = end;
                        last.begun |= next.begun;
                        continue;
                    }
                    // What the later one does not cover of the earlier one is as good as its own.
                    next.to = end;
                    last.to = next.from;
                }
                _ => (),
            }
            if let Some(whole) = last.replace(next) {
                self.change(whole, until, &mut changes);
            }
        }
        if let Some(whole) = last {
            self.change(whole, until, &mut changes);
        }
        changes.sort_by_key(|change| change.time);
        // Who ends a wait when another begins one changes nothing: at each instant the sum counts.
        for at_once in changes.chunk_by(|a, b| a.time == b.time) {
            if let Some(Change { time, .. }) = at_once.first() {
                self.step(*time, at_once);
            }
        }
    }

    /// Notes the start and the end of a wait, as far as they come before `until`.
    fn change(&mut self, piece: Piece, until: Timestamp, changes: &mut Vec<Change>) {
        if piece.from == piece.to && !piece.begun {
            return;
        }
        let change = |time, by| Change {
            time,
            by,
            labels: piece.labels.clone(),
        };
        if !piece.begun {
            changes.push(change(piece.from, 1));
        }
        if piece.to < until {
            changes.push(change(piece.to, -1));
        } else {
            self.active.push(Piece {
                begun: true,
                ..piece
            });
        }
    }

    fn step(&mut self, time: Timestamp, changes: &[Change]) {
        self.pass(time);
        let mut labels: BTreeMap<Label, i32> = BTreeMap::new();
        for change in changes {
            for label in change.labels.iter() {
                *labels.entry(*label).or_default() += change.by;
            }
        }
        for (label, by) in labels.into_iter().filter(|(_, by)| *by != 0) {
            self.harm.change(label, time, by);
        }
        let change: i32 = changes.iter().map(|change| change.by).sum();
        let change = isize::try_from(change).unwrap_or_default();
        let count = self.count.saturating_add_signed(change);
        if self.since.len() < count {
            self.since.resize(count, time);
            self.longest.resize_with(count, Vec::new);
        }
        for since in self.since.iter_mut().take(count).skip(self.count) {
            *since = time;
        }
        let ended = self.since.iter().zip(&mut self.longest);
        for (since, longest) in ended.take(self.count).skip(count) {
            let span = Span {
                start: *since - self.start,
                length: time - *since,
            };
            // Of equals the earlier one stays first.
            let place = longest.partition_point(|other| other.length >= span.length);
            if place < SPANS {
                longest.truncate(SPANS - 1);
                longest.insert(place, span);
            }
        }
        self.count = count;
    }

    /// Lets time go on to `time`.
    fn pass(&mut self, time: Timestamp) {
        if time <= self.at {
            return;
        }
        if self.count > self.peak {
            self.peak = self.count;
            self.harm.restart(self.at);
        } else if self.count == self.peak && self.peak > 0 {
            self.harm.begin(self.at);
        } else {
            self.harm.end(self.at);
        }
        self.harm.pass(time - self.at);
        if self.times.len() <= self.count {
            self.times.resize(self.count + 1, Nanos::ZERO);
        }
        if let Some(sum) = self.times.get_mut(self.count) {
            *sum += time - self.at;
        }
        self.at = time;
    }

    /// Ends the sweep at `end`, beyond which nothing lies, with the last `pieces`.
    pub(super) fn finish(&mut self, pieces: Vec<Piece>, end: Timestamp) {
        self.advance(pieces, Timestamp(end.0.saturating_add(1)));
        self.pass(end);
    }

    /// The most threads that waited at once.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// Entry `k`: for how long exactly `k` of `threads` waited, the last entry also for more.
    /// Sums to the length of the sweep.
    pub(super) fn at_once(&self, threads: usize) -> Vec<Nanos> {
        let mut times = vec![Nanos::ZERO; threads + 1];
        for (count, &length) in self.times.iter().enumerate() {
            if let Some(time) = times.get_mut(count.min(threads)) {
                *time += length;
            }
        }
        times
    }

    /// By how much the time in which all of `threads` waited would shrink without the waits of a
    /// label, and the longest span that would be left. Empty where they never did.
    pub(super) fn harm(&self, threads: usize) -> Vec<LabelHarm> {
        if threads != self.peak {
            return Vec::new();
        }
        self.harm.found(self.at)
    }

    /// The longest spans in which at least `threads`, one or more, waited without a break: at most
    /// [`SPANS`], longest first.
    pub(super) fn spans(&self, threads: usize) -> &[Span] {
        let index = threads.saturating_sub(1);
        self.longest.get(index).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::story::Random;
    use super::*;
    use crate::recording::ProcessId;
    use crate::units::Tid;

    fn sweep(intervals: &[(u32, u64, u64)]) -> Sweep {
        swept(intervals, &[])
    }

    /// A sweep that stops at each of `cuts`.
    fn swept(waits: &[(u32, u64, u64)], cuts: &[u64]) -> Sweep {
        let mut sweep = Sweep::new(Timestamp(0));
        let mut pieces: Vec<Piece> = waits
            .iter()
            .map(|&(tid, from, to)| piece(tid, from, to, &[]))
            .collect();
        for cut in cuts {
            let before = |piece: &mut Piece| piece.from < Timestamp(*cut);
            let begun = pieces.extract_if(.., before).collect();
            sweep.advance(begun, Timestamp(*cut));
        }
        sweep.finish(pieces, Timestamp(100));
        sweep
    }

    fn piece(tid: u32, from: u64, to: u64, labels: &[u32]) -> Piece {
        let labels = labels.iter().map(|label| Label(*label)).collect();
        Piece::new(thread(tid), Timestamp(from), Timestamp(to), labels)
    }

    fn thread(tid: u32) -> ThreadId {
        ThreadId {
            process: ProcessId(0),
            tid: Tid(tid),
        }
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

    #[test]
    fn where_a_sweep_stops_makes_no_difference() {
        let waits = [
            (1, 0, 50),
            (2, 0, 20),
            (3, 20, 50),
            (2, 60, 65),
            (3, 60, 65),
            (1, 50, 55),
            (4, 70, 100),
        ];
        let whole = swept(&waits, &[]);
        for first in 0..=100 {
            for second in (first..=100).step_by(5) {
                let cut = swept(&waits, &[first, second]);
                for threads in 1..5 {
                    assert_eq!(
                        cut.at_once(threads),
                        whole.at_once(threads),
                        "{first} {second}"
                    );
                    assert_eq!(cut.spans(threads), whole.spans(threads), "{first} {second}");
                }
                assert_eq!(cut.peak(), whole.peak());
            }
        }
    }

    #[test]
    fn the_longest_spans_are_kept() {
        let waits: Vec<(u32, u64, u64)> = (0..20).map(|n| (1, 5 * n, 5 * n + 1 + n % 4)).collect();
        let sweep = sweep(&waits);
        let lengths: Vec<u64> = sweep.spans(1).iter().map(|span| span.length.0).collect();
        assert_eq!(lengths, [4, 4, 4, 4, 4, 3, 3, 3, 3, 3]);
        let starts: Vec<u64> = sweep.spans(1).iter().map(|span| span.start.0).collect();
        assert_eq!(starts, [15, 35, 55, 75, 95, 10, 30, 50, 70, 90]);
    }

    #[test]
    fn harm_is_what_goes_without_a_label() {
        let mut sweep = Sweep::new(Timestamp(0));
        let pieces = vec![
            piece(1, 0, 50, &[1]),
            piece(2, 10, 30, &[2]),
            piece(2, 30, 40, &[1, 2]),
            piece(2, 60, 70, &[3]),
            piece(1, 60, 90, &[3]),
        ];
        sweep.finish(pieces, Timestamp(100));
        let harm = |label, harm, left| LabelHarm {
            label: Label(label),
            harm: Nanos(harm),
            left: Nanos(left),
        };
        // Both wait from 10 to 40 and from 60 to 70.
        assert_eq!(
            sweep.harm(2),
            [harm(1, 30, 10), harm(2, 30, 10), harm(3, 10, 30)]
        );
        assert_eq!(sweep.harm(3), []);
    }

    /// What `Harm` adds up while time goes on, found by sweeping without each label.
    #[test]
    fn harm_is_that_of_a_sweep_without_the_label() {
        let mut random = Random::new(7);
        for _ in 0..300 {
            let mut pieces = Vec::new();
            for tid in 0..3 {
                let mut at = random.below(8);
                while at < 90 {
                    let to = at + 1 + random.below(12);
                    let labels = [random.below(4) as u32, random.below(4) as u32 + 4];
                    let labels = labels.get(..random.below(3) as usize).unwrap_or(&[]);
                    pieces.push(piece(tid, at, to, labels));
                    at = to + random.below(3) * random.below(6);
                }
            }
            let of = |pieces: Vec<Piece>, cut: u64| {
                let mut sweep = Sweep::new(Timestamp(0));
                let mut pieces = pieces;
                let early = |piece: &mut Piece| piece.from < Timestamp(cut);
                let begun = pieces.extract_if(.., early).collect();
                sweep.advance(begun, Timestamp(cut));
                sweep.finish(pieces, Timestamp(110));
                sweep
            };
            let whole = of(pieces.clone(), random.below(110));
            let peak = whole.peak();
            let starved = whole.at_once(peak)[peak];
            for found in whole.harm(peak) {
                let without = |piece: &Piece| !piece.labels.contains(&found.label);
                let rest: Vec<Piece> = pieces.iter().filter(|p| without(p)).cloned().collect();
                let rest = of(rest, 0);
                let less = starved.saturating_sub(rest.at_once(peak)[peak]);
                assert_eq!(found.harm, less);
                let longest = rest
                    .spans(peak)
                    .first()
                    .map_or(Nanos::ZERO, |span| span.length);
                assert_eq!(found.left, longest, "{pieces:?} without {found:?}");
            }
        }
    }
}
