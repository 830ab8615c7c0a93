//! From a recording to a report.

use super::books::Books;
use super::causes;
use super::cpu::{cpu_sites, cpu_stacks, long_polls};
use super::recording::{Recording, ThreadRecord, Throttling};
use super::report::{CpuUse, Report, ThreadReport, ThrottlingReport};
use super::runtimes::{blocking_pool, runtimes};
use super::sites::{open_waits, sites};
use super::stacks::{stacks, woken_stacks};
use super::tally::tally;
use super::time::rfc3339;
use super::verdict::{Findings, Verdict};
use crate::tokio_rt::State;
use crate::units::{Nanos, Tid};
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
#[must_use]
pub fn build(recording: &Recording) -> Report {
    let tallies = tally(recording);
    let threads = merge_threads(&recording.threads);
    let books: Vec<Books> = threads
        .iter()
        .map(|record| {
            let tally = tallies.get(&record.tid).cloned().unwrap_or_default();
            Books::balance(record, tally)
        })
        .collect();
    let runtimes = runtimes(recording, &books, &tallies);
    let mut threads: Vec<ThreadReport> = threads
        .iter()
        .zip(&books)
        .map(|(record, books)| ThreadReport {
            tid: record.tid,
            name: record.name.clone(),
            role: books.tally.main_role(),
            runtime: runtimes.of_thread(record.tid).map(str::to_owned),
            lived_ns: record.lived,
            waits: record.waits,
            states: books.states(),
        })
        .collect();
    threads.sort_by_key(|thread| {
        let blocked = thread.states.get(&State::Blocked).copied();
        (Reverse(blocked.unwrap_or_default()), thread.tid)
    });
    let stacks = stacks(recording, &runtimes);
    let woken_stacks = woken_stacks(recording, &runtimes);
    let cpu_stacks = cpu_stacks(recording, &runtimes);
    let causes = causes::Findings::of(recording);
    let sites = sites(recording, &causes);
    let long_polls = long_polls(recording, &runtimes);
    let cpu = cpu_use(recording, &books);
    let throttling = recording.throttling.as_ref().map(throttling);
    let verdict = Verdict::of(&Findings {
        runtimes: &runtimes.reports,
        sites: &sites,
        long_polls: &long_polls,
        threads: &threads,
        cpu: &cpu,
        throttling: throttling.as_ref(),
    });
    Report {
        schema: SCHEMA,
        tool: recording.tool.clone(),
        host: recording.host.clone(),
        target: recording.target.clone(),
        started_at: rfc3339(recording.started_at),
        duration_ns: recording.end - recording.start,
        min_block_ns: recording.min_block,
        verdict,
        runtimes: runtimes.reports,
        blocking_pool: blocking_pool(recording, &books, &tallies),
        threads,
        sites,
        open_waits: open_waits(recording, &causes),
        cpu_sites: cpu_sites(recording),
        long_polls,
        cpu,
        throttling,
        judges: recording.judges,
        losses: recording.losses.clone(),
        clamped_ns: books.iter().map(|books| books.clamped).sum(),
        stacks,
        cpu_stacks,
        woken_stacks,
    }
}

fn cpu_use(recording: &Recording, books: &[Books]) -> CpuUse {
    let running: Nanos = books.iter().map(|books| books.running).sum();
    let length = recording.end - recording.start;
    let all = Nanos(length.0.saturating_mul(recording.host.cpus.into()));
    CpuUse {
        running_ns: running,
        runnable_ns: books.iter().map(|books| books.runnable).sum(),
        share: running.share_of(all),
    }
}

fn throttling(throttling: &Throttling) -> ThrottlingReport {
    ThrottlingReport {
        group: throttling.group.clone(),
        periods: throttling.periods,
        throttled_periods: throttling.throttled_periods,
        throttled_ns: throttling.throttled,
    }
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
                known.waits = known.waits.saturating_add(record.waits);
            })
            .or_insert_with(|| record.clone());
    }
    threads.into_values().collect()
}

#[cfg(test)]
mod tests;
