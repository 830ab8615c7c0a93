//! Stacks with their times, for flamegraphs.

use super::recording::{Recording, StackId};
use super::report::StackTotal;
use super::runtimes::Runtimes;
use super::sites::whole_stack;
use super::tally::{Class, verdict_of};
use crate::units::{Nanos, Tid};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Every stack once for each runtime it was seen in, by state and then by time, longest first.
/// Open waits count up to the end of the recording.
pub(super) fn stacks(recording: &Recording, runtimes: &Runtimes) -> Vec<StackTotal> {
    let mut sums: BTreeMap<(Option<String>, StackId), (u64, Nanos)> = BTreeMap::new();
    let mut add = |tid: Tid, id: StackId, waits: u64, blocked: Nanos| {
        let (state, role) = verdict_of(recording, id);
        let runtime = runtimes.of_wait(tid, Class::of(state, role));
        let sum = sums.entry((runtime.map(str::to_owned), id)).or_default();
        sum.0 = sum.0.saturating_add(waits);
        sum.1 += blocked;
    };
    for total in &recording.totals {
        add(total.tid, total.stack, total.waits, total.blocked);
    }
    for open in &recording.open_waits {
        add(open.tid, open.stack, 1, recording.end - open.since);
    }
    let mut stacks: Vec<(StackId, StackTotal)> = sums
        .into_iter()
        .map(|((runtime, id), (waits, blocked))| {
            let stack = usize::try_from(id.0)
                .ok()
                .and_then(|i| recording.stacks.get(i));
            let total = StackTotal {
                pid: recording.target.pid,
                runtime,
                state: verdict_of(recording, id).0,
                frames: stack.map(whole_stack).unwrap_or_default(),
                task_frame: stack.and_then(|stack| {
                    let index = usize::try_from(stack.verdict.task_frame?).ok()?;
                    (index < stack.frames.len()).then_some(stack.kernel.len() + index)
                }),
                truncated: stack.and_then(|stack| stack.truncated),
                waits,
                blocked,
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
