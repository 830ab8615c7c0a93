//! Several processes in one report.

use super::build::thread_order;
use super::recording::Recording;
use super::report::{BlockingPool, Report, StackTotal};
use super::runtimes::{self, pool_intervals};
use super::sites;
use super::sweep::{Interval, Sweep};
use super::verdict::Verdict;
use crate::units::Pid;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Adds the reports of other processes to that of the first, and judges anew.
pub(super) fn put_together(
    report: &mut Report,
    others: impl Iterator<Item = Report>,
    recording: &Recording,
) {
    for mut other in others {
        report.targets.append(&mut other.targets);
        report.runtimes.append(&mut other.runtimes);
        report.threads.append(&mut other.threads);
        report.sites.append(&mut other.sites);
        report.open_waits.append(&mut other.open_waits);
        report.stacks.append(&mut other.stacks);
        report.clamped_ns += other.clamped_ns;
        add_pool(&mut report.blocking_pool, other.blocking_pool);
    }
    if let Some(pool) = &mut report.blocking_pool {
        let all = std::iter::once(recording).chain(&recording.others);
        let intervals: Vec<Interval> = all.flat_map(pool_intervals).collect();
        let peak = Sweep::new(intervals, recording.start, recording.end).peak();
        pool.peak_busy = u32::try_from(peak).unwrap_or(u32::MAX);
    }
    report.threads.sort_by_key(thread_order);
    report.sites.sort_by(sites::order);
    report.open_waits.sort_by_key(sites::open_order);
    let order = |stack: &StackTotal| (stack.state, Reverse(stack.blocked), stack.pid);
    report.stacks.sort_by_key(order);
    number_runtimes(report);
    report.verdict = Verdict::of(&report.runtimes, &report.sites, &report.threads);
}

/// `peak_busy` is not added: it was not at the same time.
fn add_pool(pool: &mut Option<BlockingPool>, more: Option<BlockingPool>) {
    let Some(more) = more else { return };
    match pool {
        None => *pool = Some(more),
        Some(pool) => {
            pool.threads = pool.threads.saturating_add(more.threads);
            pool.busy_ns += more.busy_ns;
            pool.waiting_ns += more.waiting_ns;
        }
    }
}

/// Gives runtimes ids that are unique in the whole report, in its order.
fn number_runtimes(report: &mut Report) {
    let by_size = |runtime: &_| runtimes::order(runtime);
    report.runtimes.sort_by_key(by_size);
    let mut ids: HashMap<(Pid, String), String> = HashMap::new();
    for (index, runtime) in report.runtimes.iter_mut().enumerate() {
        let old = std::mem::replace(&mut runtime.id, format!("rt{index}"));
        ids.insert((runtime.pid, old), runtime.id.clone());
    }
    let rename = |pid: Pid, id: &mut Option<String>| {
        *id = id.take().and_then(|id| ids.get(&(pid, id)).cloned());
    };
    for thread in &mut report.threads {
        rename(thread.pid, &mut thread.runtime);
    }
    for stack in &mut report.stacks {
        rename(stack.pid, &mut stack.runtime);
    }
}
