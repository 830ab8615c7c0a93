//! From a recording to a report.

use super::calls::call_sites;
use super::cpu::{cpu_sites, cpu_stacks, long_polls};
use super::panics::panics;
use super::role_times::times;
use super::runtimes::{blocking_pool, runtimes};
use super::sites::{open_waits, sites};
use super::stacks::{stacks, woken_stacks};
use super::thread_times::ThreadTimes;
use super::time::rfc3339;
use super::verdict::Findings;
use super::{causes, several};
use crate::recording::{Recording, ThreadRecord, Throttling};
use crate::report::{CpuUse, Report, ThreadReport, ThrottlingReport, Verdict};
use crate::runtime::State;
use crate::units::{Nanos, Pid, Tid};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Version of the report's format, see [`Report::schema`].
const SCHEMA: u32 = 1;

/// Sums `recording` up. Pure: the same recording gives the same report.
///
/// The states of each thread sum to its life exactly; see [`Report::clamped_ns`] for recordings
/// in which they cannot. Times of a runtime are those of its threads while they were workers:
/// waits belong to a role each, and time on the CPU is split between a thread's roles by the
/// number of their waits.
///
/// Of several processes each is summed up by itself, and the sums are then put side by side.
#[must_use]
pub fn build(recording: &Recording) -> Report {
    let mut report = build_one(recording);
    if !recording.others.is_empty() {
        let others = recording.others.iter().map(build_one);
        several::put_together(&mut report, others, recording);
    }
    report
}

fn build_one(recording: &Recording) -> Report {
    let role_times = times(recording);
    let threads = merge_threads(&recording.threads);
    let books: Vec<ThreadTimes> = threads
        .iter()
        .map(|record| {
            let times = role_times.get(&record.tid).cloned().unwrap_or_default();
            ThreadTimes::balance(record, times)
        })
        .collect();
    let runtimes = runtimes(recording, &books, &role_times);
    let mut threads: Vec<ThreadReport> = threads
        .iter()
        .zip(&books)
        .map(|(record, books)| ThreadReport {
            tid: record.tid,
            pid: recording.target.pid,
            name: record.name.clone(),
            role: books.times.main_role(),
            runtime: runtimes.of_thread(record.tid).map(str::to_owned),
            lived_ns: record.lived,
            waits: record.waits,
            states: books.states(),
            in_calls_ns: recording.calls_measured.then_some(books.in_calls),
        })
        .collect();
    threads.sort_by_key(thread_order);
    let stacks = stacks(recording, &runtimes);
    let woken_stacks = woken_stacks(recording, &runtimes);
    let cpu_stacks = cpu_stacks(recording, &runtimes);
    let causes = causes::Findings::of(recording);
    let sites = sites(recording, &causes);
    let long_polls = long_polls(recording, &runtimes);
    let call_sites = call_sites(recording, &runtimes, &causes);
    let cpu = cpu_use(recording, &books);
    let throttling = throttling_of(recording);
    let verdict = Verdict::of(&Findings {
        runtimes: &runtimes.reports,
        sites: &sites,
        long_polls: &long_polls,
        threads: &threads,
        cpu: &cpu,
        throttling: throttling.as_slice(),
    });
    Report {
        schema: SCHEMA,
        tool: recording.tool.clone(),
        host: recording.host.clone(),
        target: recording.target.clone(),
        targets: vec![recording.target.clone()],
        started_at: rfc3339(recording.started_at),
        duration_ns: recording.end - recording.start,
        min_block_ns: recording.min_block,
        verdict,
        runtimes: runtimes.reports,
        blocking_pool: blocking_pool(recording, &books, &role_times),
        threads,
        sites,
        open_waits: open_waits(recording, &causes),
        cpu_sites: cpu_sites(recording),
        long_polls,
        calls_measured: recording.calls_measured,
        call_sites,
        panics: panics(recording),
        cpu,
        throttling: throttling.map(|(_, throttling)| throttling),
        judges: recording.judges,
        losses: recording.losses.clone(),
        clamped_ns: books.iter().map(|books| books.clamped).sum(),
        stacks,
        cpu_stacks,
        woken_stacks,
    }
}

fn cpu_use(recording: &Recording, books: &[ThreadTimes]) -> CpuUse {
    let running: Nanos = books.iter().map(|books| books.running).sum();
    CpuUse {
        running_ns: running,
        runnable_ns: books.iter().map(|books| books.runnable).sum(),
        share: cpu_share(recording, running),
    }
}

/// `running` as a share of the time of all CPUs of the machine.
pub(super) fn cpu_share(recording: &Recording, running: Nanos) -> f64 {
    let length = recording.end - recording.start;
    running.share_of(Nanos(length.0.saturating_mul(recording.host.cpus.into())))
}

/// What the quota of the recording's process did, if it has one.
pub(super) fn throttling_of(recording: &Recording) -> Option<(Pid, ThrottlingReport)> {
    let throttling = recording.throttling.as_ref()?;
    Some((recording.target.pid, throttling_report(throttling)))
}

fn throttling_report(throttling: &Throttling) -> ThrottlingReport {
    ThrottlingReport {
        group: throttling.group.clone(),
        periods: throttling.periods,
        throttled_periods: throttling.throttled_periods,
        throttled_ns: throttling.throttled,
    }
}

/// Most blocked first.
pub(super) fn thread_order(thread: &ThreadReport) -> impl Ord + use<> {
    let blocked = thread.states.get(&State::Blocked).copied();
    (Reverse(blocked.unwrap_or_default()), thread.tid)
}

/// One record a thread id. The kernel uses ids again, and waits know their thread by id alone,
/// so threads that had the same id one after another share their books and the last one's name.
fn merge_threads(records: &[ThreadRecord]) -> Vec<ThreadRecord> {
    let mut threads: BTreeMap<Tid, ThreadRecord> = BTreeMap::new();
    for record in records {
        threads
            .entry(record.tid)
            .and_modify(|known| {
                known.name.clone_from(&record.name);
                known.lived += record.lived;
                known.running += record.running;
                known.runnable += record.runnable;
                known.blocked += record.blocked;
                known.in_calls += record.in_calls;
                known.waits = known.waits.saturating_add(record.waits);
            })
            .or_insert_with(|| record.clone());
    }
    threads.into_values().collect()
}

#[cfg(test)]
mod tests;
