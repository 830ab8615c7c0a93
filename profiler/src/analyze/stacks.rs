//! Stacks with their times, for flamegraphs.

use super::role_times::{Class, verdict_of};
use super::runtimes::Runtimes;
use crate::recording::{Recording, StackEntry, StackId};
use crate::report::{StackTotal, WokenStack};
use crate::runtime::State;
use crate::units::{Nanos, Pid, Tid};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Every stack once for each runtime it was seen in, by state and then by time, longest first.
/// Open waits count up to the end of the recording.
pub(super) fn stacks(recording: &Recording, runtimes: &Runtimes) -> Vec<StackTotal> {
    let mut sums: BTreeMap<(Option<String>, StackId), (u64, Nanos, Nanos)> = BTreeMap::new();
    let mut add = |tid: Tid, id: StackId, waits: u64, blocked: Nanos, runqueue: Nanos| {
        let (state, role) = verdict_of(recording, id);
        let runtime = runtimes.of_wait(tid, Class::of(state, role));
        let sum = sums.entry((runtime.map(str::to_owned), id)).or_default();
        sum.0 = sum.0.saturating_add(waits);
        sum.1 += blocked;
        sum.2 += runqueue;
    };
    for total in &recording.totals {
        add(
            total.tid,
            total.stack,
            total.waits,
            total.blocked,
            total.runqueue,
        );
    }
    for open in &recording.open_waits {
        let lasted = recording.end - open.since;
        add(open.tid, open.stack, 1, lasted, Nanos::ZERO);
    }
    let mut stacks: Vec<(StackId, StackTotal)> = sums
        .into_iter()
        .map(|((runtime, id), (waits, blocked, runqueue))| {
            let total = StackTotal {
                waits,
                blocked,
                runqueue,
                ..named(recording, runtime, id)
            };
            (id, total)
        })
        .collect();
    stacks.sort_by(|(a_id, a), (b_id, b)| {
        let order = |stack: &StackTotal| (stack.state, Reverse(stack.blocked));
        order(a)
            .cmp(&order(b))
            .then_with(|| a.runtime.cmp(&b.runtime))
            .then_with(|| a_id.cmp(b_id))
    });
    stacks.into_iter().map(|(_, stack)| stack).collect()
}

/// The stack, without any time yet; an unknown one where there is none.
fn named(recording: &Recording, runtime: Option<String>, id: StackId) -> StackTotal {
    let stack = usize::try_from(id.0)
        .ok()
        .and_then(|i| recording.stacks.get(i));
    match stack {
        Some(stack) => total_of(recording.target.pid, runtime, stack),
        None => StackTotal {
            pid: recording.target.pid,
            runtime,
            state: State::Unknown,
            frames: Vec::new(),
            task_frame: None,
            truncated: None,
            waits: 0,
            blocked: Nanos::ZERO,
            runqueue: Nanos::ZERO,
        },
    }
}

/// The waits of the timeline, each stack once with each waker, longest first. Those whose wakeup
/// was not seen are left out.
pub(super) fn woken_stacks(recording: &Recording, runtimes: &Runtimes) -> Vec<WokenStack> {
    type Key<'a> = (StackId, Option<&'a str>, &'a str, Option<StackId>);
    let mut sums: BTreeMap<Key<'_>, (u64, Nanos)> = BTreeMap::new();
    for wait in &recording.waits {
        let Some(waker) = &wait.waker else { continue };
        let (state, role) = verdict_of(recording, wait.stack);
        let runtime = runtimes.of_wait(wait.tid, Class::of(state, role));
        let key = (wait.stack, runtime, &*waker.name, waker.stack);
        let sum = sums.entry(key).or_default();
        sum.0 += 1;
        sum.1 += wait.wakeup.min(wait.end) - wait.start;
    }
    let mut sums: Vec<(Key<'_>, (u64, Nanos))> = sums.into_iter().collect();
    // The sort is stable: of equals the first by key stays first.
    sums.sort_by_key(|(_, (_, blocked))| Reverse(*blocked));
    sums.into_iter()
        .map(|((id, runtime, waker, waker_stack), (waits, blocked))| {
            let waker_frames = waker_stack
                .and_then(|id| recording.stacks.get(usize::try_from(id.0).ok()?))
                .map(|stack| stack.frames.clone())
                .unwrap_or_default();
            WokenStack {
                waiting: StackTotal {
                    waits,
                    blocked,
                    ..named(recording, runtime.map(str::to_owned), id)
                },
                waker: waker.to_owned(),
                waker_frames,
            }
        })
        .collect()
}

/// The stack, without any time yet.
pub(super) fn total_of(pid: Pid, runtime: Option<String>, stack: &StackEntry) -> StackTotal {
    let task = stack.verdict.task_frame.and_then(|index| {
        let index = usize::try_from(index).ok()?;
        (index < stack.frames.len()).then_some(stack.kernel.len() + index)
    });
    StackTotal {
        pid,
        runtime,
        state: stack.verdict.state,
        frames: stack.kernel.iter().chain(&stack.frames).cloned().collect(),
        task_frame: task,
        truncated: stack.truncated,
        waits: 0,
        blocked: Nanos::ZERO,
        runqueue: Nanos::ZERO,
    }
}
