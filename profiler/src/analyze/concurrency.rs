//! Which threads waited at the same time, computed as the intervals come.
//!
//! The waits of the latest intervals are kept as they are, because the class of a stack may still
//! change while more is learned of the program. The oldest are swept over when there are too many.

use super::homes::{Homes, MultiThread};
use super::stack_facts::class_of;
use super::sweep::{Piece, Sweep};
use crate::recording::{Interval, OpenWait, StackId, Tables, ThreadId};
use crate::runtime::{Flavor, Role, State};
use crate::units::{Nanos, Timestamp};
use std::collections::BTreeMap;

/// Waits that are kept as they are.
const KEPT: usize = 1 << 18;

/// Threads that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Track {
    /// Workers of a `multi_thread` runtime, blocked.
    Workers(MultiThread),
    /// Threads of that runtime inside `block_in_place`.
    HandedOff(MultiThread),
    /// The thread of a `current_thread` runtime, blocked.
    CurrentThread(ThreadId),
    /// Threads of all blocking pools, inside closures.
    Pool,
}

/// The part of a wait that is to be swept over: up to the wakeup and not to the switch-in, since a
/// woken thread that waits for a CPU is `runnable`.
#[derive(Clone, Copy, Debug)]
struct Part {
    thread: ThreadId,
    stack: StackId,
    from: Timestamp,
    to: Timestamp,
}

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
    pub(super) fn add(&mut self, interval: &Interval) {
        self.end = interval.end;
        self.short.clear();
        for open in &interval.open_waits {
            let to = blocked_until(open, interval.end);
            let part = self.part(open.thread, open.stack, open.since, to);
            if to - open.since < self.min_block {
                self.short.extend(part);
            } else {
                self.parts.extend(part);
            }
        }
        for wait in &interval.waits {
            let to = wait.wakeup.min(wait.end);
            let part = self.part(wait.thread, wait.stack, wait.start, to);
            self.parts.extend(part);
        }
        // What lies between the waits of a poll held its worker up as well.
        for poll in interval.polls.iter().filter(|poll| poll.is_blocked()) {
            let part = self.part(poll.thread, poll.stack, poll.start, poll.end);
            self.parts.extend(part);
        }
    }

    /// What is left of a wait to be swept over.
    fn part(
        &self,
        thread: ThreadId,
        stack: StackId,
        from: Timestamp,
        to: Timestamp,
    ) -> Option<Part> {
        let (from, to) = (from.max(self.swept), to.min(self.end));
        (from < to).then_some(Part {
            thread,
            stack,
            from,
            to,
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
        for (track, pieces) in pieces(&begun, tables, homes) {
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
        let mut rest = pieces(self.parts.iter().chain(&self.short), tables, homes);
        for track in rest.keys() {
            let sweep = tracks.entry(*track);
            sweep.or_insert_with(|| Sweep::new(self.start));
        }
        for (track, sweep) in &mut tracks {
            sweep.finish(rest.remove(track).unwrap_or_default(), self.end);
        }
        let mut none = Sweep::new(self.start);
        none.finish(Vec::new(), self.end);
        Concurrent { tracks, none }
    }
}

/// What a sweep over a whole range found.
#[derive(Debug)]
pub(super) struct Concurrent {
    tracks: BTreeMap<Track, Sweep>,
    none: Sweep,
}

impl Concurrent {
    /// That of one track.
    pub(super) fn of(&self, track: Track) -> &Sweep {
        self.tracks.get(&track).unwrap_or(&self.none)
    }
}

/// Until when an open wait was blocked: its wakeup, or `end`.
pub(super) fn blocked_until(open: &OpenWait, end: Timestamp) -> Timestamp {
    open.woken.map_or(end, |woken| woken.min(end))
}

fn pieces<'a>(
    parts: impl IntoIterator<Item = &'a Part>,
    tables: &Tables,
    homes: &Homes,
) -> BTreeMap<Track, Vec<Piece>> {
    let mut tracks: BTreeMap<Track, Vec<Piece>> = BTreeMap::new();
    for part in parts {
        let thread = part.thread;
        let track = match class_of(tables, part.stack) {
            (State::Blocked, Role::Worker(Flavor::MultiThread)) => {
                Track::Workers(homes.of_thread(thread))
            }
            (State::Blocked, Role::Worker(Flavor::CurrentThread)) => Track::CurrentThread(thread),
            (State::HandedOff, _) if homes.is_worker(thread) => {
                Track::HandedOff(homes.of_thread(thread))
            }
            (State::Pool, _) => Track::Pool,
            _ => continue,
        };
        let piece = Piece::new(thread, part.from, part.to);
        tracks.entry(track).or_default().push(piece);
    }
    tracks
}
