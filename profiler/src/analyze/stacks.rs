//! Stacks with their times, for flamegraphs.

use super::causes::Causes;
use super::runtimes::{RuntimeIndex, Runtimes};
use super::stack_facts::{WaitRole, task_frame, whole_stack};
use super::totals::WaitTimes;
use super::whole::Whole;
use crate::recording::{ProcessId, StackId};
use crate::report::{StackTotal, WokenStack};
use crate::runtime::State;
use crate::units::Nanos;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What makes stacks the same to a flamegraph. A stack is of one process, but one that is not
/// there is not.
pub(super) type StackKey = (ProcessId, Option<RuntimeIndex>, StackId);

/// Every stack once for each runtime it was seen in, by state and then by time, longest first.
/// Open waits count up to the end of the recording.
pub(super) fn stacks(whole: &Whole<'_>, runtimes: &Runtimes, causes: &Causes) -> Vec<StackTotal> {
    let mut sums: BTreeMap<StackKey, WaitTimes> = BTreeMap::new();
    for (thread, stack, times) in whole.waits() {
        let runtime = runtimes.of_wait(thread, WaitRole::of(whole.tables, stack));
        let sum = sums.entry((thread.process, runtime, stack)).or_default();
        sum.add(times);
    }
    let totals = sums.into_iter();
    let mut stacks: Vec<StackTotal> = totals
        .map(|(key, times)| StackTotal {
            waits: times.waits,
            blocked: times.blocked,
            runqueue: times.runqueue,
            cause: causes.get(key.2).map(|finding| finding.cause),
            ..stack_total(whole, key)
        })
        .collect();
    // The sort is stable: of equals the first by key stays first.
    stacks.sort_by_key(|stack| (stack.state, Reverse(stack.blocked), stack.pid));
    stacks
}

/// Waits recorded one by one, each stack once with each waker, longest first. Those whose wakeup
/// was not seen are left out.
pub(super) fn woken_stacks(
    whole: &Whole<'_>,
    runtimes: &Runtimes,
    causes: &Causes,
) -> Vec<WokenStack> {
    type Key<'a> = (StackKey, &'a str, Option<StackId>);
    let mut sums: BTreeMap<Key<'_>, (u64, Nanos)> = BTreeMap::new();
    for (key, (waits, blocked)) in whole.totals.wakers.iter() {
        let Some(waker) = whole.tables.waker(key.waker) else {
            continue;
        };
        let stack = whole.tables.stack(key.stack);
        let role = WaitRole::of(whole.tables, key.stack);
        let (process, runtime) = match (key.thread, stack) {
            (Some(thread), _) => (thread.process, runtimes.of_wait(thread, role)),
            (None, Some(stack)) => (stack.process, runtimes.of_stack(key.stack, stack, role)),
            // Of a stack that is not there, the thread is always known.
            (None, None) => continue,
        };
        let stack = (process, runtime, key.stack);
        let sum = sums.entry((stack, &*waker.name, key.waker_stack));
        let sum = sum.or_default();
        sum.0 = sum.0.saturating_add(*waits);
        sum.1 += *blocked;
    }
    let mut stacks: Vec<WokenStack> = sums
        .into_iter()
        .map(|((key, waker, waker_stack), (waits, blocked))| WokenStack {
            waiting: StackTotal {
                waits,
                blocked,
                cause: causes.get(key.2).map(|finding| finding.cause),
                ..stack_total(whole, key)
            },
            waker: waker.to_owned(),
            waker_frames: waker_stack
                .and_then(|id| whole.tables.stack(id))
                .map(|stack| stack.frames.clone())
                .unwrap_or_default(),
            waker_task_frame: waker_stack
                .and_then(|id| whole.tables.stack(id))
                .and_then(|stack| usize::try_from(stack.class.task_frame?).ok()),
        })
        .collect();
    // The sort is stable: of equals the first by key stays first.
    stacks.sort_by_key(|stack| (Reverse(stack.waiting.blocked), stack.waiting.pid));
    stacks
}

/// Sampled stacks with their CPU time, in the order of the recording's stacks.
pub(super) fn cpu_stacks(whole: &Whole<'_>, runtimes: &Runtimes) -> Vec<StackTotal> {
    let mut sums: BTreeMap<StackKey, u64> = BTreeMap::new();
    for (&(thread, stack), &samples) in &whole.totals.samples {
        if whole.tables.stack(stack).is_none() {
            continue;
        }
        let runtime = runtimes.of_wait(thread, WaitRole::of(whole.tables, stack));
        let sum = sums.entry((thread.process, runtime, stack)).or_default();
        *sum = sum.saturating_add(samples);
    }
    sums.into_iter()
        .map(|(key, samples)| StackTotal {
            state: State::Running,
            blocked: whole.sampled_time(samples),
            ..stack_total(whole, key)
        })
        .collect()
}

/// The stack, without any time yet; an unknown one where there is none.
fn stack_total(whole: &Whole<'_>, (process, runtime, id): StackKey) -> StackTotal {
    let mut total = StackTotal {
        pid: whole.pid(process),
        runtime: runtime.map(RuntimeIndex::id),
        state: State::Unknown,
        frames: Vec::new(),
        task_frame: None,
        truncated: None,
        cause: None,
        waits: 0,
        blocked: Nanos::ZERO,
        runqueue: Nanos::ZERO,
    };
    if let Some(stack) = whole.tables.stack(id) {
        total.state = stack.class.state;
        total.frames = whole_stack(stack);
        total.task_frame = task_frame(stack);
        total.truncated = stack.truncated;
    }
    total
}
