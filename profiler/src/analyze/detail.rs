//! What formats of other programs draw one by one.

use super::causes::Causes;
use super::location::{location, task};
use super::longest::Longest;
use super::runtimes::{RuntimeIndex, Runtimes};
use super::stack_facts::{WaitRole, task_frame, whole_stack};
use super::whole::Whole;
use crate::recording::{Interval, ObjectId, Poll, Stack, StackId, ThreadId, Wait};
use crate::report::{Detail, DetailStack, DetailSum, DetailThread, Keep, ThreadReport};
use crate::runtime::State;
use crate::units::Nanos;
use std::collections::{BTreeMap, BTreeSet};

/// Waits kept one by one, at most: some 100 MB.
const WAITS: usize = 1_000_000;
/// Polls kept one by one, at most.
const POLLS: usize = 200_000;
/// Sums kept with their objects, at most; as many again without.
const SUMS: usize = 1 << 18;

type Sums = BTreeMap<(ThreadId, StackId, Option<ObjectId>), (u64, Nanos)>;

/// Keeps it as intervals come.
#[derive(Clone, Debug)]
pub(super) struct Details {
    keep: Keep,
    most_sums: usize,
    sums: Sums,
    waits: Longest<Wait>,
    polls: Longest<Poll>,
}

impl Details {
    pub(super) fn new(keep: Keep) -> Details {
        Details::within(keep, WAITS, POLLS, SUMS)
    }

    fn within(keep: Keep, waits: usize, polls: usize, sums: usize) -> Details {
        Details {
            keep,
            most_sums: sums,
            sums: BTreeMap::new(),
            waits: Longest::new(waits),
            polls: Longest::new(polls),
        }
    }

    pub(super) fn add(&mut self, interval: &Interval) {
        if self.keep.sums {
            for sum in &interval.sums {
                let key = (sum.thread, sum.stack, sum.object);
                self.add_sum(key, sum.waits, sum.blocked);
            }
        }
        if self.keep.singles {
            self.waits.add(&interval.waits);
            self.polls.add(&interval.polls);
        }
    }

    /// One that finds no room goes to the waits whose object is not known; the totals bound how many
    /// of those there are.
    fn add_sum(&mut self, key: (ThreadId, StackId, Option<ObjectId>), waits: u64, time: Nanos) {
        let full = self.sums.len() >= self.most_sums && !self.sums.contains_key(&key);
        let key = if full { (key.0, key.1, None) } else { key };
        if full && self.sums.len() >= 2 * self.most_sums && !self.sums.contains_key(&key) {
            return;
        }
        let sum = self.sums.entry(key).or_default();
        sum.0 = sum.0.saturating_add(waits);
        sum.1 += time;
    }

    pub(super) fn finish(
        &self,
        whole: &Whole<'_>,
        runtimes: &Runtimes,
        causes: &Causes,
        threads: &[(ThreadId, &ThreadReport)],
    ) -> Detail {
        let sums = self.sums(whole, runtimes);
        let open: Vec<Wait> = if self.keep.singles {
            open(whole).collect()
        } else {
            Vec::new()
        };
        let (waits, polls) = (self.waits.items(), self.polls.items());
        let all = waits.iter().chain(&open);
        let mut used: BTreeSet<StackId> = sums.iter().map(|sum| sum.stack).collect();
        used.extend(all.clone().flat_map(|wait| {
            [Some(wait.stack), wait.waker_stack].into_iter().flatten()
        }));
        used.extend(polls.iter().map(|poll| poll.stack));
        let objects = sums.iter().map(|sum| sum.object);
        let objects: BTreeSet<ObjectId> =
            objects.chain(all.clone().map(|wait| wait.object)).flatten().collect();
        let wakers: BTreeSet<_> = all.filter_map(|wait| wait.waker).collect();
        let tables = whole.tables;
        Detail {
            start: whole.start,
            end: whole.end,
            threads: threads.iter().map(|(id, thread)| (*id, of_thread(thread))).collect(),
            stacks: used
                .into_iter()
                .filter_map(|id| Some((id, of_stack(whole, causes, id, tables.stack(id)?))))
                .collect(),
            objects: objects
                .into_iter()
                .filter_map(|id| Some((id, tables.object(id)?.object.clone())))
                .collect(),
            wakers: wakers
                .into_iter()
                .filter_map(|id| Some((id, tables.waker(id)?.clone())))
                .collect(),
            sums,
            waits,
            open,
            polls,
            waits_left_out: self.waits.left_out(),
            polls_left_out: self.polls.left_out(),
        }
    }

    fn sums(&self, whole: &Whole<'_>, runtimes: &Runtimes) -> Vec<DetailSum> {
        if !self.keep.sums {
            return Vec::new();
        }
        let mut sums = self.sums.clone();
        for (wait, before) in whole.before() {
            let key = (wait.thread, wait.stack, wait.began_for);
            if let Some(sum) = sums.get_mut(&key) {
                sum.1 = sum.1.saturating_sub(before);
            }
        }
        for (wait, times) in whole.open() {
            let sum = sums.entry((wait.thread, wait.stack, wait.began_for));
            let sum = sum.or_default();
            sum.0 = sum.0.saturating_add(times.waits);
            sum.1 += times.blocked;
        }
        let sums = sums.into_iter();
        sums.map(|((thread, stack, object), (waits, blocked))| {
            let role = WaitRole::of(whole.tables, stack);
            DetailSum {
                thread,
                stack,
                object,
                runtime: runtimes.of_wait(thread, role).map(RuntimeIndex::id),
                waits,
                blocked,
            }
        })
        .collect()
    }
}

/// The open waits that are no idle parks, from the begin of the range to its end.
fn open<'a>(whole: &'a Whole<'_>) -> impl Iterator<Item = Wait> + 'a {
    let stack = |id| whole.tables.stack(id);
    let parked = move |id| stack(id).is_some_and(|stack| stack.class.state == State::Idle);
    let open = whole.open_waits.iter().filter(move |open| !parked(open.stack));
    open.map(|open| Wait {
        thread: open.thread,
        stack: open.stack,
        object: open.began_for,
        start: open.since.max(whole.start),
        wakeup: open.woken.unwrap_or(whole.end),
        end: whole.end,
        waker: None,
        waker_stack: None,
        task_id: open.task_id,
    })
}

fn of_thread(thread: &ThreadReport) -> DetailThread {
    DetailThread {
        pid: thread.pid,
        name: thread.name.as_str().into(),
        role: thread.role,
        runtime: thread.runtime.clone(),
    }
}

fn of_stack(whole: &Whole<'_>, causes: &Causes, id: StackId, stack: &Stack) -> DetailStack {
    let place = location(stack);
    DetailStack {
        pid: whole.pid(stack.process),
        state: stack.class.state,
        role: stack.class.role,
        cause: causes.get(id).map(|finding| finding.cause),
        function: place.function,
        file: place.file,
        line: place.line,
        task: task(stack),
        wait: place.wait,
        frames: whole_stack(stack),
        task_frame: task_frame(stack),
        truncated: stack.truncated,
    }
}
