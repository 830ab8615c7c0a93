//! What workers waited for in polls, by task and by cause.

use super::causes::{CauseSums, Causes};
use super::harms::Harms;
use super::location::task;
use super::runtimes::{RuntimeIndex, Runtimes};
use super::stack_facts::{WaitRole, class_of};
use super::whole::Whole;
use crate::cause::Cause;
use crate::recording::{ProcessId, StackId};
use crate::report::{CauseTotal, TaskReport};
use crate::runtime::{Role, State};
use crate::units::Nanos;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// Tasks that are told at most: their functions are as many as the program has.
const MOST: usize = 1_000;

/// Whether it is a worker that waits with a stack, in a poll.
fn is_blocked_worker(whole: &Whole<'_>, id: StackId) -> bool {
    let class = class_of(whole.tables, id);
    matches!(class, (State::Blocked, Role::Worker(_)))
}

/// The tasks of all runtimes, by harm and then by time, most first.
pub(super) fn tasks(whole: &Whole<'_>, runtimes: &Runtimes, harms: &Harms) -> Vec<TaskReport> {
    type Key = (ProcessId, RuntimeIndex, Arc<str>);
    let mut names: HashMap<StackId, Option<Arc<str>>> = HashMap::new();
    let mut sums: HashMap<Key, (u64, Nanos)> = HashMap::new();
    for (thread, id, times) in whole.waits() {
        if !is_blocked_worker(whole, id) {
            continue;
        }
        let name = names.entry(id);
        let name = name.or_insert_with(|| whole.tables.stack(id).and_then(task));
        let runtime = runtimes.of_wait(thread, WaitRole::of(whole.tables, id));
        if let (Some(name), Some(runtime)) = (name, runtime) {
            let key = (thread.process, runtime, name.clone());
            let sum = sums.entry(key).or_default();
            sum.0 = sum.0.saturating_add(times.waits);
            sum.1 += times.blocked;
        }
    }
    let mut tasks: Vec<TaskReport> = sums
        .into_iter()
        .map(|((process, runtime, function), (waits, total_ns))| {
            let runtime = runtime.id();
            TaskReport {
                harm: harms.of_task(process, &function, &runtime),
                function,
                pid: whole.pid(process),
                runtime,
                waits,
                total_ns,
            }
        })
        .collect();
    tasks.sort_by(|a, b| order(a).cmp(&order(b)));
    tasks.truncate(MOST);
    tasks
}

/// By harm and then by time, most first.
fn order(task: &TaskReport) -> impl Ord {
    let harm = task.harm.as_ref();
    (
        Reverse(harm.map(|harm| harm.starved_ns)),
        Reverse(task.total_ns),
        &task.function,
        &task.runtime,
    )
}

/// The causes of all waits of workers in polls, most time first.
pub(super) fn cause_totals(whole: &Whole<'_>, causes: &Causes) -> Vec<CauseTotal> {
    let mut sums = CauseSums::default();
    for (_, id, times) in whole
        .waits()
        .filter(|(_, id, _)| is_blocked_worker(whole, *id))
    {
        let cause = causes.get(id).map_or(Cause::Other, |finding| finding.cause);
        sums.add(cause, times.waits, times.blocked);
    }
    sums.totals()
}
