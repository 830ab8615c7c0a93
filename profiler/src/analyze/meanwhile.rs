//! What threads did while they were in no wait that was recorded by itself: whether they ran, were idle or
//! waited shortly.
//!
//! No such time is recorded one by one. But of each interval the time that a thread ran, was idle and
//! waited is known to the nanosecond, and of each long poll, in which nobody is idle. Where a thread was not
//! idle for as long in all as it was looked at, it was awake for the rest, and the other way round; what is
//! left may have been either. How a thread that was awake ran, waited for a CPU and waited shortly is taken to
//! be as in all of the interval's time, or the poll's.

use super::blame::{End, Timeline};
use super::stack_facts::class_of;
use crate::fast_hash::FastMap;
use crate::recording::{Interval, OpenWait, StackId, Tables, ThreadId};
use crate::runtime::State;
use crate::units::{Nanos, Timestamp};
use std::collections::{HashSet, VecDeque};

/// Intervals of threads, and polls, that are kept; of older ones nothing is known.
const KEPT: usize = 1 << 17;

/// Where the time of a thread went from one instant to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Times {
    from: Timestamp,
    to: Timestamp,
    running: Nanos,
    /// Wanting a CPU.
    runnable: Nanos,
    /// Parked.
    idle: Nanos,
    /// In all other waits.
    waiting: Nanos,
}

/// Where the time of threads went, as the intervals come.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity {
    intervals: VecDeque<(ThreadId, Times)>,
    polls: VecDeque<(ThreadId, Times)>,
}

impl Activity {
    /// Adds the next interval.
    pub(super) fn add(&mut self, tables: &Tables, interval: &Interval) {
        let idle = idle_times(tables, interval);
        for times in &interval.threads {
            let idle = idle.get(&times.thread).copied().unwrap_or_default();
            let idle = idle.min(times.blocked);
            let all = Times {
                from: interval.start,
                to: interval.end,
                running: times.running,
                runnable: times.runnable,
                idle,
                waiting: times.blocked.saturating_sub(idle),
            };
            self.intervals.push_back((times.thread, all));
        }
        for poll in &interval.polls {
            let all = Times {
                from: poll.start,
                to: poll.end,
                running: poll.running,
                runnable: poll.runqueue,
                idle: Nanos::ZERO,
                waiting: poll.blocked,
            };
            self.polls.push_back((poll.thread, all));
        }
        for kept in [&mut self.intervals, &mut self.polls] {
            let surplus = kept.len().saturating_sub(KEPT);
            kept.drain(..surplus);
        }
    }
}

fn is_idle(tables: &Tables, stack: StackId) -> bool {
    class_of(tables, stack).0 == State::Idle
}

/// How long each thread was idle in an interval.
fn idle_times(tables: &Tables, interval: &Interval) -> FastMap<ThreadId, Nanos> {
    let is_idle = |stack| is_idle(tables, stack);
    let mut idle: FastMap<ThreadId, Nanos> = FastMap::default();
    for sum in interval.sums.iter().filter(|sum| is_idle(sum.stack)) {
        *idle.entry(sum.thread).or_default() += sum.blocked;
    }
    let still: HashSet<(ThreadId, Timestamp)> = interval
        .open_waits
        .iter()
        .map(|open| (open.thread, open.since))
        .collect();
    // What has ended is in the sums with its whole length.
    let ended = |open: &&OpenWait| !still.contains(&(open.thread, open.since));
    let carried = interval.carried.iter().filter(ended);
    for open in carried.filter(|open| is_idle(open.stack)) {
        let woken = open.woken.unwrap_or(interval.start).min(interval.start);
        let all = idle.entry(open.thread).or_default();
        *all = all.saturating_sub(woken - open.since);
    }
    for open in interval
        .open_waits
        .iter()
        .filter(|open| is_idle(open.stack))
    {
        let woken = open.woken.unwrap_or(interval.end).min(interval.end);
        *idle.entry(open.thread).or_default() += woken - open.since.max(interval.start);
    }
    idle
}

/// A stretch of time in which a thread was in no wait that was recorded by itself, if only as far as
/// somebody waited for it.
pub(super) type Stretch = (ThreadId, Timestamp, Timestamp);

/// An interval or a poll of one thread, and what of it was looked at.
#[derive(Debug)]
struct Cell {
    times: Times,
    /// The time that was looked at.
    seen: Nanos,
    /// Of it, for sure.
    idle: Nanos,
    awake: Nanos,
}

/// The time of one thread.
#[derive(Debug, Default)]
struct OfThread {
    cells: Vec<Cell>,
    /// In the order of time, none over another one: from, to and which cell it is.
    pieces: Vec<(Timestamp, Timestamp, usize)>,
}

/// What the threads did that others waited for.
#[derive(Debug, Default)]
pub(super) struct Doings(FastMap<ThreadId, OfThread>);

impl Doings {
    /// By all stretches that will be asked for.
    pub(super) fn of(
        (tables, activity): (&Tables, &Activity),
        timeline: &Timeline,
        stretches: impl Iterator<Item = Stretch>,
    ) -> Doings {
        let mut wanted: FastMap<ThreadId, Vec<(Timestamp, Timestamp)>> = FastMap::default();
        for (thread, from, to) in stretches {
            wanted.entry(thread).or_default().push((from, to));
        }
        let mut intervals = by_thread(&activity.intervals, &wanted);
        let mut polls = by_thread(&activity.polls, &wanted);
        let of_thread = |(thread, stretches): (ThreadId, Vec<(Timestamp, Timestamp)>)| {
            let polls = polls.remove(&thread).unwrap_or_default();
            let intervals = intervals.remove(&thread).unwrap_or_default();
            let waited = |from, to| waited(tables, timeline, thread, (from, to));
            let mut one = OfThread::new(polls, intervals, waited);
            one.look_at(stretches);
            (thread, one)
        };
        Doings(wanted.into_iter().map(of_thread).collect())
    }

    /// Tells what a thread did in one of these stretches: parts whose sum is its length.
    pub(super) fn split(&self, (thread, from, to): Stretch, told: &mut impl FnMut(End, Nanos)) {
        let mut left = to - from;
        let own = self.0.get(&thread);
        for (cell, length) in own.iter().flat_map(|own| own.during(from, to)) {
            left = left.saturating_sub(length);
            cell.split(length, told);
        }
        tell(End::Busy, left, told);
    }
}

/// The times of those threads that are wanted, in the order of time.
fn by_thread<T>(
    all: &VecDeque<(ThreadId, Times)>,
    wanted: &FastMap<ThreadId, T>,
) -> FastMap<ThreadId, Vec<Times>> {
    let mut threads: FastMap<ThreadId, Vec<Times>> = FastMap::default();
    for (thread, times) in all.iter().filter(|(thread, _)| wanted.contains_key(thread)) {
        threads.entry(*thread).or_default().push(*times);
    }
    for times in threads.values_mut() {
        times.sort_by_key(|times| (times.from, times.to));
    }
    threads
}

/// The part of a stretch of time in which a thread was in waits that were recorded by themselves: those are
/// told by themselves, too.
fn waited(
    tables: &Tables,
    timeline: &Timeline,
    thread: ThreadId,
    (from, to): (Timestamp, Timestamp),
) -> Times {
    let mut sum = Times::default();
    let overlap = |begin: Timestamp, end: Timestamp| end.min(to) - begin.max(from);
    for wait in timeline.during(thread, from, to) {
        // A park that was not known as one at first.
        let waiting = match is_idle(tables, wait.stack) {
            true => &mut sum.idle,
            false => &mut sum.waiting,
        };
        *waiting += overlap(wait.from, wait.to);
        sum.runnable += overlap(wait.to, wait.ran);
    }
    sum
}

impl OfThread {
    /// Of polls and intervals in the order of time, without what of each was `waited`.
    fn new(
        polls: Vec<Times>,
        intervals: Vec<Times>,
        waited: impl Fn(Timestamp, Timestamp) -> Times,
    ) -> OfThread {
        let mut one = OfThread::default();
        let rest = |times: Times| times.without(&waited(times.from, times.to));
        let mut until = Timestamp::default();
        for poll in polls {
            // Times of one thread: where they overlap all the same, the first has them.
            if poll.from >= until && poll.from < poll.to {
                one.pieces.push((poll.from, poll.to, one.cells.len()));
                until = poll.to;
                one.cells.push(Cell::of(rest(poll)));
            }
        }
        let polls = one.pieces.clone();
        for interval in intervals {
            let mut rest = rest(interval);
            let first = polls.partition_point(|(_, to, _)| *to <= interval.from);
            let mut at = interval.from;
            let index = one.cells.len();
            let within = polls.iter().skip(first);
            for (from, to, poll) in within.take_while(|(from, _, _)| *from < interval.to) {
                if at < *from {
                    one.pieces.push((at, *from, index));
                }
                at = at.max(*to);
                // What a poll has is none of the rest, if all of it is of this interval.
                if let Some(poll) = one.cells.get(*poll).map(|cell| cell.times)
                    && interval.from <= poll.from
                    && poll.to <= interval.to
                {
                    rest = rest.without(&poll);
                }
            }
            if at < interval.to {
                one.pieces.push((at, interval.to, index));
            }
            one.cells.push(Cell::of(rest));
        }
        one.pieces.sort_unstable();
        one
    }

    /// Learns which time is asked for, and what is for sure of it.
    fn look_at(&mut self, mut stretches: Vec<(Timestamp, Timestamp)>) {
        stretches.sort_unstable();
        let mut until = Timestamp::default();
        for (from, to) in stretches {
            let from = from.max(until);
            if from < to {
                until = to;
                let seen: Vec<(usize, Nanos)> = self.pieces_during(from, to).collect();
                for (index, length) in seen {
                    if let Some(cell) = self.cells.get_mut(index) {
                        cell.seen += length;
                    }
                }
            }
        }
        for cell in &mut self.cells {
            cell.idle = cell.seen.saturating_sub(cell.times.awake());
            let awake = cell.seen.saturating_sub(cell.times.idle);
            cell.awake = awake.min(cell.seen.saturating_sub(cell.idle));
        }
    }

    /// The cells of a stretch, with the part of it that is in each.
    fn pieces_during(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (usize, Nanos)> + '_ {
        let first = self.pieces.partition_point(|(_, end, _)| *end <= from);
        let pieces = self.pieces.iter().skip(first);
        pieces
            .take_while(move |(begin, _, _)| *begin < to)
            .map(move |(begin, end, cell)| (*cell, (*end).min(to) - (*begin).max(from)))
    }

    fn during(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = (&Cell, Nanos)> {
        let pieces = self.pieces_during(from, to);
        pieces.filter_map(|(cell, length)| Some((self.cells.get(cell)?, length)))
    }
}

impl Times {
    fn without(self, part: &Times) -> Times {
        Times {
            running: self.running.saturating_sub(part.running),
            runnable: self.runnable.saturating_sub(part.runnable),
            idle: self.idle.saturating_sub(part.idle),
            waiting: self.waiting.saturating_sub(part.waiting),
            ..self
        }
    }

    fn awake(&self) -> Nanos {
        self.running + self.runnable + self.waiting
    }
}

impl Cell {
    fn of(times: Times) -> Cell {
        Cell {
            times,
            seen: Nanos::ZERO,
            idle: Nanos::ZERO,
            awake: Nanos::ZERO,
        }
    }

    /// Tells what was done in so much of it.
    fn split(&self, length: Nanos, told: &mut impl FnMut(End, Nanos)) {
        let all = self.times.awake();
        let awake = match all {
            Nanos::ZERO => Nanos::ZERO,
            _ => part_of(length, self.awake, self.seen),
        };
        let unknown = self.seen.saturating_sub(self.idle + self.awake);
        let mut parts = [
            (End::Running, Nanos::ZERO),
            (End::Idle, part_of(length, self.idle, self.seen)),
            (End::RunQueue, part_of(awake, self.times.runnable, all)),
            (End::ShortWaits, part_of(awake, self.times.waiting, all)),
            (End::Busy, part_of(length, unknown, self.seen)),
        ];
        // What is left over by rounding goes with what there is of it.
        let sum: Nanos = parts.iter().map(|(_, part)| *part).sum();
        let rest = length.saturating_sub(sum);
        let index = match (awake, parts[1].1) {
            (Nanos::ZERO, Nanos::ZERO) => 4,
            (Nanos::ZERO, _) => 1,
            _ => 0,
        };
        parts[index].1 += rest;
        for (end, part) in parts {
            tell(end, part, told);
        }
    }
}

fn tell(end: End, length: Nanos, told: &mut impl FnMut(End, Nanos)) {
    if length > Nanos::ZERO {
        told(end, length);
    }
}

/// `length · part / whole`, rounded down.
fn part_of(length: Nanos, part: Nanos, whole: Nanos) -> Nanos {
    let product = u128::from(length.0) * u128::from(part.0.min(whole.0));
    let part = product.checked_div(u128::from(whole.0)).unwrap_or(0);
    // No more than `length`.
    Nanos(u64::try_from(part).unwrap_or(length.0))
}

#[cfg(test)]
#[path = "meanwhile_tests.rs"]
mod tests;
