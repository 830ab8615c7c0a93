//! When something outside held the threads of processes.
//!
//! Each thread that is held has a wait of its own. A debugger takes the threads one after another, and a
//! signal reaches each at its next step: what overlaps is one stop.

use super::whole::Whole;
use crate::recording::{Interval, ProcessId, Tables, ThreadId};
use crate::report::{FIRST_STOPS, Stop, Stopped};
use crate::runtime::StoppedBy;
use crate::units::{Nanos, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Stops of one process that others may still be found to overlap with. Beyond them only sums are kept of
/// the oldest.
const KEPT: usize = 256;

/// All stops so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Stops(BTreeMap<(ProcessId, StoppedBy), Held>);

/// Those of one process.
#[derive(Clone, Debug, Default)]
struct Held {
    /// In the order of time; none touches another one.
    latest: Vec<Stretch>,
    /// The first of those that are not among them any more.
    first: Vec<Stretch>,
    /// How many those are, how long together, and the longest of them.
    older: (u64, Nanos, Nanos),
    /// Until when they reach.
    until: Timestamp,
}

/// One stop.
#[derive(Clone, Debug)]
struct Stretch {
    from: Timestamp,
    to: Timestamp,
    threads: BTreeSet<ThreadId>,
}

impl Stops {
    /// Adds the stops that ended in the next interval. `start` is the first instant of the range.
    pub(super) fn add(&mut self, tables: &Tables, interval: &Interval, start: Timestamp) {
        for wait in &interval.waits {
            if let Some(by) = tables.stack(wait.stack).and_then(|stack| stack.stopped_by) {
                let to = wait.wakeup.min(wait.end);
                self.hold(wait.thread, by, (wait.start.max(start), to));
            }
        }
    }

    fn hold(&mut self, thread: ThreadId, by: StoppedBy, (from, to): (Timestamp, Timestamp)) {
        let held = self.0.entry((thread.process, by)).or_default();
        held.add(thread, (from, to));
        if held.latest.len() > KEPT {
            held.fold();
        }
    }

    /// By process and by what, in this order.
    pub(super) fn told(&self, whole: &Whole<'_>) -> Vec<Stopped> {
        let mut all = self.clone();
        for (open, _) in whole.open() {
            let stack = whole.tables.stack(open.stack);
            if let Some(by) = stack.and_then(|stack| stack.stopped_by) {
                let to = open.woken.map_or(whole.end, |woken| woken.min(whole.end));
                all.hold(open.thread, by, (open.since.max(whole.start), to));
            }
        }
        let mut sums: BTreeMap<(ProcessId, StoppedBy), BTreeMap<ThreadId, Nanos>> = BTreeMap::new();
        for (thread, stack, times) in whole.waits() {
            let stack = whole.tables.stack(stack);
            if let Some(by) = stack.and_then(|stack| stack.stopped_by) {
                let threads = sums.entry((thread.process, by)).or_default();
                *threads.entry(thread).or_default() += times.blocked;
            }
        }
        let none = Held::default();
        let told = sums.into_iter().map(|((process, by), threads)| {
            let held = all.0.get(&(process, by)).unwrap_or(&none);
            let most = threads.values().copied().max().unwrap_or_default();
            let (stops, total, longest) = held.sums();
            Stopped {
                pid: whole.pid(process),
                by,
                threads: u32::try_from(threads.len()).unwrap_or(u32::MAX),
                stops,
                total_ns: total.max(most),
                longest_ns: longest,
                first: held.first(whole),
            }
        });
        told.filter(|stopped| stopped.total_ns > Nanos::ZERO)
            .collect()
    }
}

impl Held {
    /// Adds a time in which a thread was held.
    fn add(&mut self, thread: ThreadId, (from, to): (Timestamp, Timestamp)) {
        let from = from.max(self.until);
        if from >= to {
            return;
        }
        let first = self.latest.partition_point(|held| held.to < from);
        let end = self.latest.partition_point(|held| held.from <= to);
        let mut one = Stretch {
            from,
            to,
            threads: BTreeSet::from([thread]),
        };
        for other in self.latest.drain(first..end.max(first)) {
            one.from = one.from.min(other.from);
            one.to = one.to.max(other.to);
            one.threads.extend(other.threads);
        }
        self.latest.insert(first, one);
    }

    /// Keeps no more than the sums of the older half.
    fn fold(&mut self) {
        let half = self.latest.len() / 2;
        for stretch in self.latest.drain(..half) {
            self.older = with(self.older, &stretch);
            self.until = stretch.to;
            if self.first.len() < FIRST_STOPS {
                self.first.push(stretch);
            }
        }
    }

    fn sums(&self) -> (u64, Nanos, Nanos) {
        self.latest.iter().fold(self.older, with)
    }

    fn first(&self, whole: &Whole<'_>) -> Vec<Stop> {
        let all = self.first.iter().chain(&self.latest);
        let told = all.take(FIRST_STOPS).map(|held| Stop {
            from_ns: held.from - whole.start,
            length_ns: held.to - held.from,
            threads: u32::try_from(held.threads.len()).unwrap_or(u32::MAX),
            goes_on: held.to >= whole.end,
        });
        told.collect()
    }
}

/// Sums with one more.
fn with((stops, total, longest): (u64, Nanos, Nanos), more: &Stretch) -> (u64, Nanos, Nanos) {
    let length = more.to - more.from;
    (stops + 1, total + length, longest.max(length))
}

#[cfg(test)]
mod tests {
    use super::{Held, KEPT};
    use crate::analyze::testing::{app, library, open_wait, recording, stack, thread};
    use crate::analyze::{Analyzer, build};
    use crate::recording::{Recording, StackId};
    use crate::report::{Stop, Verdict};
    use crate::runtime::{Flavor, Role, State, StoppedBy};
    use crate::units::{Nanos, Timestamp};

    const WORKER: Role = Role::Worker(Flavor::MultiThread);
    const MS: u64 = 1_000_000;

    fn held_by(recording: &mut Recording, by: StoppedBy) -> StackId {
        let mut held = stack(vec![app("app::work", 3)], State::Stopped, WORKER, None);
        held.stopped_by = Some(by);
        recording.push_stack(held)
    }

    fn stop(from: u64, length: u64, threads: u32) -> Stop {
        Stop {
            from_ns: Nanos(from * MS),
            length_ns: Nanos(length * MS),
            threads,
            goes_on: false,
        }
    }

    #[test]
    fn time_in_which_a_process_was_held_is_nobody_s_fault() {
        let mut recording = recording(1_000 * MS);
        let idle = stack(vec![library("std::x")], State::Idle, WORKER, None);
        let idle = recording.push_stack(idle);
        let poll = stack(vec![app("app::work", 3)], State::Blocked, WORKER, Some(0));
        let poll = recording.push_stack(poll);
        let held = held_by(&mut recording, StoppedBy::Debugger);
        for tid in 1..=2 {
            recording.push_thread(tid);
            recording.push_wait(tid, idle, 0, 200 * MS);
            recording.push_wait(tid, held, 200 * MS, 990 * MS);
        }
        recording.push_wait(1, poll, 990_000_000, 990_500_000);
        let report = build(&recording);
        let [stopped] = &report.stopped[..] else {
            panic!("{:?}", report.stopped);
        };
        assert_eq!((stopped.by, stopped.threads), (StoppedBy::Debugger, 2));
        assert_eq!((stopped.stops, stopped.total_ns), (1, Nanos(790 * MS)));
        assert_eq!(stopped.longest_ns, Nanos(790 * MS));
        assert_eq!(stopped.first, [stop(200, 790, 2)]);
        let states = &report.runtimes[0].states;
        assert_eq!(states[&State::Stopped], Nanos(1_580 * MS));
        assert_eq!(states[&State::Blocked], Nanos(500_000));
        assert!(
            matches!(report.verdict, Verdict::Stopped { .. }),
            "{:?}",
            report.verdict
        );
        assert!(report.sites.iter().all(|site| site.state != State::Stopped));
    }

    #[test]
    fn stops_have_their_times_and_what_overlaps_is_one() {
        let mut recording = recording(1_000 * MS);
        let debugger = held_by(&mut recording, StoppedBy::Debugger);
        let signal = held_by(&mut recording, StoppedBy::Signal);
        (1..=3).for_each(|tid| recording.push_thread(tid));
        // A debugger takes one thread after another, and lets them go in another order.
        recording.push_wait(2, debugger, 102 * MS, 180 * MS);
        recording.push_wait(1, debugger, 100 * MS, 150 * MS);
        recording.push_wait(3, debugger, 101 * MS, 170 * MS);
        recording.push_wait(2, debugger, 500 * MS, 510 * MS);
        recording.push_open(1, signal, 900 * MS);
        let report = build(&recording);
        let [signal, debugger] = &report.stopped[..] else {
            panic!("{:?}", report.stopped);
        };
        assert_eq!((debugger.stops, debugger.threads), (2, 3));
        assert_eq!(debugger.total_ns, Nanos(90 * MS));
        assert_eq!(debugger.longest_ns, Nanos(80 * MS));
        assert_eq!(debugger.first, [stop(100, 80, 3), stop(500, 10, 1)]);
        let goes_on = Stop {
            goes_on: true,
            ..stop(900, 100, 1)
        };
        assert_eq!(
            (signal.by, &signal.first[..]),
            (StoppedBy::Signal, &[goes_on][..])
        );
    }

    #[test]
    fn a_stop_that_began_before_the_range_begins_with_it() {
        let mut recording = recording(1_000 * MS);
        let held = held_by(&mut recording, StoppedBy::Freezer);
        recording.push_thread(1);
        recording.push_wait(1, held, 400 * MS, 700 * MS);
        let first = recording.interval();
        let mut later = first.clone();
        let middle = Timestamp(first.start.0 + 600 * MS);
        later.start = middle;
        let since = first.waits[0].start;
        later.carried = vec![open_wait(1, held, since)];
        let mut analyzer = Analyzer::new(&recording.header);
        analyzer.add(&recording.tables, later);
        let report = analyzer.report(&recording.header, &recording.tables);
        let [stopped] = &report.stopped[..] else {
            panic!("{:?}", report.stopped);
        };
        assert_eq!(stopped.total_ns, Nanos(100 * MS));
        assert_eq!(stopped.first, [stop(0, 100, 1)]);
    }

    #[test]
    fn short_stops_are_in_the_total() {
        let mut recording = recording(1_000 * MS);
        let held = held_by(&mut recording, StoppedBy::Debugger);
        recording.push_thread(1);
        recording.push_wait(1, held, 10 * MS, 11 * MS);
        recording.interval().waits.clear();
        let report = build(&recording);
        let stopped = &report.stopped[0];
        assert_eq!((stopped.stops, stopped.total_ns), (0, Nanos(MS)));
        assert_eq!(stopped.first, []);
    }

    #[test]
    fn of_very_many_stops_the_sums_are_kept() {
        let mut held = Held::default();
        let stops = 10 * KEPT as u64;
        for n in 0..stops {
            held.add(thread(1), (Timestamp(100 * n), Timestamp(100 * n + 10)));
            if held.latest.len() > KEPT {
                held.fold();
            }
        }
        assert!(held.latest.len() <= KEPT && held.first.len() <= crate::report::FIRST_STOPS);
        assert_eq!(held.sums(), (stops, Nanos(10 * stops), Nanos(10)));
        // One that comes late counts from where the sums end.
        let until = held.until;
        held.add(thread(2), (Timestamp(0), Timestamp(until.0 + 1)));
        assert_eq!(held.sums(), (stops + 1, Nanos(10 * stops + 1), Nanos(10)));
    }
}
