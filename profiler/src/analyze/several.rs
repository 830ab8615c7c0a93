//! Several processes in one report.

use super::build::{cpu_share, thread_order, throttling_of};
use super::runtimes::{self, pool_intervals};
use super::sweep::{Interval, Sweep};
use super::verdict::{Findings, throttled_share};
use super::{calls, cpu, panics, sites};
use crate::recording::Recording;
use crate::report::{BlockingPool, Report, StackTotal, ThrottlingReport, Verdict};
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
        report.cpu_sites.append(&mut other.cpu_sites);
        report.long_polls.append(&mut other.long_polls);
        report.call_sites.append(&mut other.call_sites);
        panics::add(&mut report.panics, other.panics);
        report.cpu_stacks.append(&mut other.cpu_stacks);
        report.woken_stacks.append(&mut other.woken_stacks);
        report.cpu.running_ns += other.cpu.running_ns;
        report.cpu.runnable_ns += other.cpu.runnable_ns;
        report.clamped_ns += other.clamped_ns;
        add_pool(&mut report.blocking_pool, other.blocking_pool);
    }
    report.cpu.share = cpu_share(recording, report.cpu.running_ns);
    let all = || std::iter::once(recording).chain(&recording.others);
    if let Some(pool) = &mut report.blocking_pool {
        let intervals: Vec<Interval> = all().flat_map(pool_intervals).collect();
        let peak = Sweep::new(intervals, recording.start, recording.end).peak();
        pool.peak_busy = u32::try_from(peak).unwrap_or(u32::MAX);
    }
    report.threads.sort_by_key(thread_order);
    report.sites.sort_by(sites::order);
    report.open_waits.sort_by_key(sites::open_order);
    let order = |stack: &StackTotal| (stack.state, Reverse(stack.blocked), stack.pid);
    report.stacks.sort_by_key(order);
    report.cpu_sites.sort_by(cpu::order);
    report.long_polls.sort_by(cpu::long_poll_order);
    report.call_sites.sort_by(calls::order);
    report
        .woken_stacks
        .sort_by_key(|stack| (Reverse(stack.waiting.blocked), stack.waiting.pid));
    number_runtimes(report);
    let throttling: Vec<(Pid, ThrottlingReport)> = all().filter_map(throttling_of).collect();
    report.verdict = Verdict::of(&Findings {
        runtimes: &report.runtimes,
        sites: &report.sites,
        long_polls: &report.long_polls,
        threads: &report.threads,
        cpu: &report.cpu,
        throttling: &throttling,
    });
    report.throttling = told(report, throttling);
}

/// The quota that the verdict speaks of, or else the one that was used up in the largest share of
/// its periods; of equals the first.
fn told(report: &Report, throttling: Vec<(Pid, ThrottlingReport)>) -> Option<ThrottlingReport> {
    if let Verdict::CpuStarved { runtime: id, .. } = &report.verdict {
        let judged = report.runtimes.iter().find(|runtime| runtime.id == *id);
        let of = |(pid, _): &&(Pid, _)| judged.is_some_and(|runtime| runtime.pid == *pid);
        if let Some((_, quota)) = throttling.iter().find(of) {
            return Some(quota.clone());
        }
    }
    let share = |of: &ThrottlingReport| throttled_share(of).unwrap_or_default();
    throttling
        .into_iter()
        .map(|(_, throttling)| throttling)
        .reduce(|worst, next| {
            if share(&next) > share(&worst) {
                next
            } else {
                worst
            }
        })
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
            pool.waiting_share = pool.waiting_ns.share_of(pool.busy_ns);
            // The limit is each process's own.
            pool.near_default_limit |= more.near_default_limit;
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
    for stack in report.stacks.iter_mut().chain(&mut report.cpu_stacks) {
        rename(stack.pid, &mut stack.runtime);
    }
    for stack in &mut report.woken_stacks {
        rename(stack.waiting.pid, &mut stack.waiting.runtime);
    }
    for site in &mut report.call_sites {
        rename(site.pid, &mut site.runtime);
    }
    for poll in &mut report.long_polls {
        rename(poll.pid, &mut poll.runtime);
    }
}
