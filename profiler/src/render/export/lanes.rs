//! The time of each thread: polls, and waits in them and between them, so that what is drawn nests.

use crate::recording::{Poll, ThreadId, Wait};
use crate::render::Options;
use crate::report::{Detail, DetailStack, DetailThread};
use crate::units::{Nanos, Pid};
use std::cmp::Reverse;

/// A thread with its waits and polls.
#[derive(Debug)]
pub(in crate::render) struct Lane<'a> {
    pub(in crate::render) id: ThreadId,
    pub(in crate::render) thread: Option<&'a DetailThread>,
    /// One after another; none overlaps the next.
    polls: Vec<ShownPoll<'a>>,
    /// One after another.
    waits: Vec<&'a Wait>,
    detail: &'a Detail,
}

/// A poll with the range in which it is drawn: it holds each wait in it whole.
#[derive(Clone, Copy, Debug)]
pub(in crate::render) struct ShownPoll<'a> {
    pub(in crate::render) poll: &'a Poll,
    pub(in crate::render) stack: Option<&'a DetailStack>,
    pub(in crate::render) start: Nanos,
    pub(in crate::render) end: Nanos,
}

/// A wait with its times from the start of the recording.
#[derive(Clone, Copy, Debug)]
pub(in crate::render) struct ShownWait<'a> {
    pub(in crate::render) wait: &'a Wait,
    pub(in crate::render) stack: Option<&'a DetailStack>,
    pub(in crate::render) start: Nanos,
    pub(in crate::render) wakeup: Nanos,
    pub(in crate::render) end: Nanos,
}

impl<'a> ShownWait<'a> {
    pub(in crate::render) fn of(detail: &'a Detail, wait: &'a Wait) -> ShownWait<'a> {
        let start = detail.since_start(wait.start);
        let end = detail.since_start(wait.end).max(start);
        ShownWait {
            wait,
            stack: detail.stacks.get(&wait.stack),
            start,
            wakeup: detail.since_start(wait.wakeup).clamp(start, end),
            end,
        }
    }

    /// Its blocked part.
    pub(in crate::render) fn blocked(&self) -> Nanos {
        self.wakeup.saturating_sub(self.start)
    }

    /// Its run-queue part.
    pub(in crate::render) fn runqueue(&self) -> Nanos {
        self.end.saturating_sub(self.wakeup)
    }
}

/// What happens next on a thread.
#[derive(Clone, Copy, Debug)]
pub(in crate::render) enum Step<'a> {
    PollBegins(ShownPoll<'a>),
    PollEnds(ShownPoll<'a>),
    Wait(ShownWait<'a>),
}

impl Lane<'_> {
    /// The process.
    pub(in crate::render) fn pid(&self) -> Pid {
        self.thread.map_or(Pid(0), |thread| thread.pid)
    }

    /// A thread of which nothing is to be drawn.
    pub(in crate::render) fn empty<'a>(detail: &'a Detail, id: ThreadId) -> Lane<'a> {
        Lane {
            id,
            thread: detail.threads.get(&id),
            polls: Vec::new(),
            waits: Vec::new(),
            detail,
        }
    }

    /// Its waits as they were recorded, one after another.
    pub(in crate::render) fn recorded(&self) -> &[&Wait] {
        &self.waits
    }

    /// Its waits, one after another.
    pub(in crate::render) fn waits(&self) -> impl ExactSizeIterator<Item = ShownWait<'_>> {
        let waits = self.waits.iter();
        waits.map(|wait| ShownWait::of(self.detail, wait))
    }

    /// Its polls, one after another.
    pub(in crate::render) fn polls(&self) -> &[ShownPoll<'_>] {
        &self.polls
    }

    /// Everything in the order of time.
    pub(in crate::render) fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let mut polls = self.polls.iter().copied().peekable();
        let mut waits = self
            .waits
            .iter()
            .map(|wait| ShownWait::of(self.detail, wait))
            .peekable();
        let mut open: Option<ShownPoll<'_>> = None;
        std::iter::from_fn(move || {
            let wait = waits.peek().map(|wait| wait.start);
            if let Some(poll) = open {
                if wait.is_some_and(|start| start < poll.end) {
                    return waits.next().map(Step::Wait);
                }
                open = None;
                return Some(Step::PollEnds(poll));
            }
            let begins = polls.peek().map(|poll| poll.start);
            match (begins, wait) {
                (Some(begin), Some(start)) if start < begin => waits.next().map(Step::Wait),
                (Some(_), _) => {
                    open = polls.next();
                    open.map(Step::PollBegins)
                }
                (None, _) => waits.next().map(Step::Wait),
            }
        })
    }
}

/// The threads that waited in one of `options.states` or had long polls, and of their waits those that `limit`
/// admits. Workers come first in each process.
pub(in crate::render) fn lanes<'a>(
    detail: &'a Detail,
    options: &Options,
    limit: Limit,
) -> Vec<Lane<'a>> {
    let mut limit = limit;
    let mut waits = detail.waits_by_thread();
    let mut polls = detail.polls_by_thread();
    let ids: std::collections::BTreeSet<ThreadId> =
        waits.keys().chain(polls.keys()).copied().collect();
    let mut lanes: Vec<Lane<'a>> = ids
        .into_iter()
        .map(|id| {
            let mut waits = waits.remove(&id).unwrap_or_default();
            waits.retain(|wait| {
                is_shown(detail, options, wait)
                    && limit.admits(ShownWait::of(detail, wait).blocked())
            });
            let polls = nested(detail, &polls.remove(&id).unwrap_or_default(), &waits);
            let thread = detail.threads.get(&id);
            Lane {
                id,
                thread,
                polls,
                waits,
                detail,
            }
        })
        .filter(|lane| !lane.waits.is_empty() || !lane.polls.is_empty())
        .collect();
    sort(&mut lanes);
    lanes
}

/// Workers come first in each process.
pub(in crate::render) fn sort(lanes: &mut [Lane<'_>]) {
    let is_worker = |lane: &Lane<'_>| lane.thread.is_some_and(|t| super::names::is_worker(t.role));
    lanes.sort_by_key(|lane| (lane.id.process, Reverse(is_worker(lane)), lane.id.tid));
}

/// Whether a wait is to be drawn.
pub(in crate::render) fn is_shown(detail: &Detail, options: &Options, wait: &Wait) -> bool {
    let state = detail.stacks.get(&wait.stack);
    let state = state.map_or(crate::runtime::State::Unknown, |stack| stack.state);
    options.states.contains(&state)
}

/// Polls that begin where the one before has ended, and hold the waits whole that they overlap.
fn nested<'a>(detail: &'a Detail, polls: &[&'a Poll], waits: &[&Wait]) -> Vec<ShownPoll<'a>> {
    let mut shown: Vec<ShownPoll<'a>> = Vec::with_capacity(polls.len());
    let mut last = Nanos::ZERO;
    for poll in polls {
        let mut start = detail.since_start(poll.start).max(last);
        let mut end = detail.since_start(poll.end).max(start);
        let first = waits.partition_point(|wait| detail.since_start(wait.end) <= start);
        for wait in waits.get(first..).unwrap_or_default() {
            let wait = ShownWait::of(detail, wait);
            if wait.start >= end {
                break;
            }
            start = start.min(wait.start.max(last));
            end = end.max(wait.end);
        }
        last = end;
        shown.push(ShownPoll {
            poll,
            stack: detail.stacks.get(&poll.stack),
            start,
            end,
        });
    }
    shown
}

/// Which waits are drawn where there are too many: the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::render) struct Limit {
    /// None of those that are drawn is shorter.
    pub(in crate::render) at_least: Nanos,
    /// How many of exactly that length are drawn.
    equal: usize,
}

impl Limit {
    /// All of them.
    pub(in crate::render) const NONE: Limit = Limit {
        at_least: Nanos::ZERO,
        equal: usize::MAX,
    };

    /// Of waits of these lengths `most`.
    pub(in crate::render) fn of(mut lengths: Vec<Nanos>, most: usize) -> Limit {
        if lengths.len() <= most {
            return Limit::NONE;
        }
        lengths.sort_unstable_by_key(|length| Reverse(*length));
        let at_least = match most.checked_sub(1).and_then(|last| lengths.get(last)) {
            Some(length) => *length,
            None => Nanos(u64::MAX),
        };
        let longer = lengths.partition_point(|length| *length > at_least);
        Limit {
            at_least,
            equal: most.saturating_sub(longer),
        }
    }

    /// Whether the next wait is drawn, which has this length.
    fn admits(&mut self, length: Nanos) -> bool {
        if length == self.at_least && self.equal > 0 {
            self.equal -= 1;
            return true;
        }
        length > self.at_least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{PollEvidence, ProcessId, StackId};
    use crate::units::{Tid, Timestamp};

    fn id() -> ThreadId {
        ThreadId {
            process: ProcessId(0),
            tid: Tid(7),
        }
    }

    fn wait(start: u64, wakeup: u64, end: u64) -> Wait {
        Wait {
            thread: id(),
            stack: StackId(0),
            object: None,
            start: Timestamp(start),
            wakeup: Timestamp(wakeup),
            end: Timestamp(end),
            waker: None,
            waker_stack: None,
            task_id: None,
        }
    }

    fn poll(start: u64, end: u64) -> Poll {
        Poll {
            thread: id(),
            stack: StackId(0),
            task_id: None,
            start: Timestamp(start),
            end: Timestamp(end),
            blocked: Nanos(0),
            runqueue: Nanos(0),
            running: Nanos(0),
            waits: 0,
            samples: 0,
            queued: None,
            evidence: PollEvidence::Stack,
        }
    }

    fn steps(waits: Vec<Wait>, polls: Vec<Poll>) -> Vec<(char, u64, u64)> {
        let detail = Detail {
            start: Timestamp(100),
            end: Timestamp(1_000),
            waits: waits.into(),
            polls: polls.into(),
            ..Detail::default()
        };
        let lanes = lanes(&detail, &Options::default(), Limit::NONE);
        let steps = lanes.first().into_iter().flat_map(Lane::steps);
        steps
            .map(|step| match step {
                Step::PollBegins(poll) => ('p', poll.start.0, poll.end.0),
                Step::PollEnds(poll) => ('e', poll.start.0, poll.end.0),
                Step::Wait(wait) => ('w', wait.start.0, wait.end.0),
            })
            .collect()
    }

    #[test]
    fn waits_are_within_polls_or_between_them() {
        let waits = vec![
            wait(110, 115, 118),
            wait(130, 140, 140),
            wait(160, 170, 171),
        ];
        let polls = vec![poll(125, 145)];
        let expected = [
            ('w', 10, 18),
            ('p', 25, 45),
            ('w', 30, 40),
            ('e', 25, 45),
            ('w', 60, 71),
        ];
        assert_eq!(steps(waits, polls), expected);
    }

    /// Polls are told by what is seen of them: a wait may reach beyond one, and two may touch.
    #[test]
    fn polls_hold_their_waits_whole() {
        let waits = vec![wait(120, 130, 131), wait(140, 160, 160)];
        let polls = vec![poll(125, 150), poll(155, 170)];
        let expected = [
            ('p', 20, 60),
            ('w', 20, 31),
            ('w', 40, 60),
            ('e', 20, 60),
            ('p', 60, 70),
            ('e', 60, 70),
        ];
        assert_eq!(steps(waits, polls), expected);
    }

    #[test]
    fn what_lies_beyond_the_recording_is_cut_off() {
        let waits = vec![wait(50, 150, 150), wait(990, 2_000, 2_000)];
        assert_eq!(steps(waits, Vec::new()), [('w', 0, 50), ('w', 890, 900)]);
    }

    #[test]
    fn the_longest_that_fit() {
        let drawn = |of: &[u64], most: usize| {
            let mut limit = Limit::of(of.iter().map(|length| Nanos(*length)).collect(), most);
            let drawn = of.iter().filter(|length| limit.admits(Nanos(**length)));
            drawn.copied().collect::<Vec<u64>>()
        };
        assert_eq!(drawn(&[3, 1, 2], 3), [3, 1, 2]);
        assert_eq!(drawn(&[3, 1, 2], 2), [3, 2]);
        assert_eq!(drawn(&[2, 3, 2, 2], 3), [2, 3, 2]);
        assert_eq!(drawn(&[5, 5, 5], 1), [5]);
        assert_eq!(drawn(&[5, 5, 5], 0), Vec::<u64>::new());
        assert_eq!(drawn(&[0, 0], 2), [0, 0]);
    }
}
