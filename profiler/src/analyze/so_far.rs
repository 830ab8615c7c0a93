//! What is to be said of a recording while it goes on: cheap, once a second.

use super::location::location;
use super::stack_facts::class_of;
use super::totals::Totals;
use crate::recording::{Interval, StackId, Tables, ThreadId};
use crate::runtime::{Role, State};
use crate::units::Nanos;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SoFar {
    /// The share of the time of threads that polled tasks in which they waited in polls, 0 to 1. Open
    /// waits are not in it yet.
    pub blocked_share: f64,
    /// The function in which they waited longest, with its time.
    pub worst: Option<(Arc<str>, Nanos)>,
}

fn is_blocked_worker(tables: &Tables, stack: StackId) -> bool {
    matches!(class_of(tables, stack), (State::Blocked, Role::Worker(_)))
}

pub(super) fn so_far(tables: &Tables, totals: &Totals) -> SoFar {
    let mut workers: BTreeSet<ThreadId> = BTreeSet::new();
    let mut blocked = Nanos::ZERO;
    let mut stacks: BTreeMap<StackId, Nanos> = BTreeMap::new();
    for (&(thread, stack), times) in totals.waits.iter() {
        let (_, role) = class_of(tables, stack);
        if matches!(role, Role::Worker(_)) {
            workers.insert(thread);
        }
        if is_blocked_worker(tables, stack) {
            blocked += times.blocked;
            *stacks.entry(stack).or_default() += times.blocked;
        }
    }
    let lived = workers
        .iter()
        .filter_map(|thread| totals.threads.get(thread));
    let lived: Nanos = lived.map(|sums| sums.lived).sum();
    let worst = stacks.into_iter().max_by_key(|(_, time)| *time);
    SoFar {
        blocked_share: blocked.share_of(lived),
        worst: worst.and_then(|(id, time)| {
            let stack = tables.stack(id)?;
            Some((location(stack).function, time))
        }),
    }
}

/// The longest time in which a worker stood still in a poll, of those that an interval tells of: waits
/// and polls that ended in it, and waits that go on at its end.
#[must_use]
pub fn longest_stall(tables: &Tables, interval: &Interval) -> Option<Nanos> {
    let waits = interval.waits.iter();
    let waits = waits.map(|wait| (wait.stack, wait.wakeup.min(wait.end) - wait.start));
    let polls = interval.polls.iter().filter(|poll| poll.is_blocked());
    let polls = polls.map(|poll| (poll.stack, poll.length()));
    let open = interval
        .open_waits
        .iter()
        .filter(|open| open.woken.is_none());
    let open = open.map(|open| (open.stack, interval.end - open.since));
    let all = waits.chain(polls).chain(open);
    let blocked = all.filter(|(stack, _)| is_blocked_worker(tables, *stack));
    blocked.map(|(_, length)| length).max()
}

#[cfg(test)]
mod tests {
    use super::super::Analyzer;
    use super::super::testing::{app, library, recording, stack};
    use super::*;
    use crate::runtime::Flavor;

    const WORKER: Role = Role::Worker(Flavor::MultiThread);

    #[test]
    fn blocked_workers_are_told_while_it_goes_on() {
        let mut recording = recording(1_000);
        let frames = vec![library("std::x"), app("app::f", 7)];
        let blocked = recording.push_stack(stack(frames.clone(), State::Blocked, WORKER, Some(1)));
        let idle = recording.push_stack(stack(frames, State::Idle, WORKER, None));
        for tid in 1..=2 {
            recording.push_thread(tid);
        }
        recording.push_wait(1, blocked, 100, 400);
        recording.push_wait(2, idle, 0, 900);
        recording.push_open(1, blocked, 500);
        let mut analyzer = Analyzer::new(&recording.header);
        let interval = recording.interval().clone();
        assert_eq!(
            longest_stall(&recording.tables, &interval),
            Some(Nanos(500))
        );
        analyzer.add(&recording.tables, interval);
        let so_far = analyzer.so_far(&recording.tables);
        assert!((so_far.blocked_share - 0.15).abs() < 1e-9, "{so_far:?}");
        assert_eq!(so_far.worst, Some(("app::f".into(), Nanos(300))));
    }
}
