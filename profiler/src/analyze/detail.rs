//! What formats of other programs draw one by one.

use super::activities::Activities;
use super::causes::Causes;
use super::location::{location, task};
use super::longest::Longest;
use super::runtimes::{RuntimeIndex, Runtimes};
use super::stack_facts::{WaitRole, task_frame, whole_stack};
use super::sum_map::SumMap;
use super::whole::Whole;
use crate::cause::Cause;
use crate::fast_hash::FastSet;
use crate::recording::{
    Interval, ObjectId, OpenWait, Poll, Stack, StackId, Tables, ThreadId, Wait, WakerId,
};
use crate::report::{Detail, DetailStack, DetailSum, DetailThread, Keep, ThreadReport};
use crate::runtime::{Role, State};
use crate::units::{Nanos, Pid, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Waits kept one by one, at most: some 100 MB.
const WAITS: usize = 1_000_000;
/// Polls kept one by one, at most.
const POLLS: usize = 200_000;
/// Sums kept with their objects, at most; as many again without.
const SUMS: usize = 1 << 18;

type Sums = SumMap<(ThreadId, StackId, Option<ObjectId>), (u64, Nanos)>;

/// Keeps it as intervals come.
#[derive(Clone, Debug)]
pub(super) struct Details {
    keep: Keep,
    most_sums: usize,
    sums: Sums,
    waits: Longest<Wait>,
    polls: Longest<Poll>,
    activities: Activities,
}

impl Details {
    pub(super) fn new(keep: Keep) -> Details {
        Details::within(keep, WAITS, POLLS, SUMS)
    }

    fn within(keep: Keep, waits: usize, polls: usize, sums: usize) -> Details {
        Details {
            keep,
            most_sums: sums,
            sums: Sums::default(),
            waits: Longest::new(waits),
            polls: Longest::new(polls),
            activities: Activities::default(),
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
            self.activities.add(interval);
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
        let sum = self.sums.of(key);
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
            let range = (whole.start, whole.end);
            open(whole.tables, whole.open_waits, range).collect()
        } else {
            Vec::new()
        };
        let named = Named {
            tables: whole.tables,
            cause: &|id| causes.get(id).map(|finding| finding.cause),
        };
        Detail {
            threads: threads
                .iter()
                .map(|(id, thread)| (*id, of_thread(thread)))
                .collect(),
            activity: self.activities.entries(),
            waits_left_out: self.waits.left_out(),
            polls_left_out: self.polls.left_out(),
            ..named.detail(
                (whole.start, whole.end),
                sums,
                (self.waits.items(), open),
                self.polls.items(),
            )
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
            let sum = sums.of((wait.thread, wait.stack, wait.began_for));
            sum.0 = sum.0.saturating_add(times.waits);
            sum.1 += times.blocked;
        }
        let sums = sums.iter();
        sums.map(|(&(thread, stack, object), &(waits, blocked))| {
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

/// Single waits and polls of one interval as they are known when it ends. Threads have names only.
#[must_use]
pub fn detail_of(tables: &Tables, interval: &Interval) -> Detail {
    let mut causes: BTreeMap<StackId, Option<Cause>> = BTreeMap::new();
    // Those that are still going on began when they did, not with the interval.
    let range = (Timestamp(0), interval.end);
    let open: Vec<Wait> = open(tables, &interval.open_waits, range).collect();
    for wait in interval.waits.iter().chain(&open) {
        let judge = || Causes::of_one(tables, wait.stack);
        causes.entry(wait.stack).or_insert_with(judge);
    }
    let named = Named {
        tables,
        cause: &|id| causes.get(&id).copied().flatten(),
    };
    let waits = (Arc::new(interval.waits.clone()), open);
    let polls = Arc::new(interval.polls.clone());
    let detail = named.detail((interval.start, interval.end), Vec::new(), waits, polls);
    let ids = detail
        .waits
        .iter()
        .chain(&detail.open)
        .map(|wait| wait.thread);
    let ids = ids.chain(detail.polls.iter().map(|poll| poll.thread));
    let thread = |id: ThreadId| DetailThread {
        pid: tables
            .process(id.process)
            .map_or(Pid(0), |process| process.pid),
        name: tables.thread_name(id).into(),
        role: Role::None,
        runtime: None,
    };
    let threads = ids.map(|id| (id, thread(id))).collect();
    Detail { threads, ..detail }
}

/// What waits and polls name.
struct Named<'a> {
    tables: &'a Tables,
    cause: &'a dyn Fn(StackId) -> Option<Cause>,
}

impl Named<'_> {
    fn detail(
        &self,
        (start, end): (Timestamp, Timestamp),
        sums: Vec<DetailSum>,
        (waits, open): (Arc<Vec<Wait>>, Vec<Wait>),
        polls: Arc<Vec<Poll>>,
    ) -> Detail {
        let all = waits.iter().chain(&open);
        // Hashed first: a million waits have few stacks.
        let mut stacks: FastSet<StackId> = sums.iter().map(|sum| sum.stack).collect();
        stacks.extend(all.clone().map(|wait| wait.stack));
        stacks.extend(all.clone().filter_map(|wait| wait.waker_stack));
        stacks.extend(polls.iter().map(|poll| poll.stack));
        let objects = sums.iter().map(|sum| sum.object);
        let objects = objects.chain(all.clone().map(|wait| wait.object)).flatten();
        let objects: FastSet<ObjectId> = objects.collect();
        let wakers: FastSet<WakerId> = all.filter_map(|wait| wait.waker).collect();
        let tables = self.tables;
        let stack = |id: StackId| Some((id, of_stack(tables, (self.cause)(id), tables.stack(id)?)));
        let object = |id: ObjectId| Some((id, tables.object(id)?.object.clone()));
        let waker = |id: WakerId| Some((id, tables.waker(id)?.clone()));
        Detail {
            start,
            end,
            stacks: stacks.into_iter().filter_map(stack).collect(),
            objects: objects.into_iter().filter_map(object).collect(),
            wakers: wakers.into_iter().filter_map(waker).collect(),
            sums,
            waits,
            open,
            polls,
            ..Detail::default()
        }
    }
}

/// The open waits that are no idle parks, from the begin of the range to its end.
fn open<'a>(
    tables: &'a Tables,
    open_waits: &'a [OpenWait],
    (start, end): (Timestamp, Timestamp),
) -> impl Iterator<Item = Wait> + 'a {
    let stack = |id| tables.stack(id);
    let parked = move |id| stack(id).is_some_and(|stack| stack.class.state == State::Idle);
    let open = open_waits.iter().filter(move |open| !parked(open.stack));
    open.map(move |open| Wait {
        thread: open.thread,
        stack: open.stack,
        object: open.began_for,
        start: open.since.max(start),
        wakeup: open.woken.unwrap_or(end),
        end,
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

fn of_stack(tables: &Tables, cause: Option<Cause>, stack: &Stack) -> DetailStack {
    let place = location(stack);
    DetailStack {
        pid: tables
            .process(stack.process)
            .map_or(Pid(0), |process| process.pid),
        state: stack.class.state,
        role: stack.class.role,
        cause,
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
