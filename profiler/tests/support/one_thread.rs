//! A stripped service whose tokio has no `multi_thread` runtime, attached to after it began.

use super::check::{Complaints, ms};
use super::library::{self, SOON};
use super::live_recording::{Recording, no_complaints};
use super::privilege;
use super::report::Report;
use super::truth::slowdown;
use libtest_mimic::Trial;
use std::path::PathBuf;
use std::process::Command;

/// Its program's name, as far as `--skip` is concerned.
pub(crate) const NAME: &str = "one_thread::";

/// How often each of its threads blocks, and for how long at least.
const ROUNDS: u64 = 40;
const BLOCK_NS: u64 = 20_000_000;
/// Beside what is counted as lost.
const UNKNOWN_NS: u64 = 5_000_000;
/// A thread may be in such a wait when the recording begins, and out of it before its stack is read. Of a
/// wait of which the kernel kept a switch from tracing, nothing but its length is known. Both are counted.
const LOST_NS: u64 = BLOCK_NS + 5_000_000;

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::ignorable_test(
        "one_thread::runtimes_without_the_other_kind_are_known",
        || {
            privilege::unless_skipped(privilege::missing(), || {
                let (report, truth) = recorded()?;
                no_complaints(compare(&report, &truth))
            })
        },
    )]
}

/// What the program counted of one kind of wait, in nanoseconds.
struct Counted {
    kind: String,
    nanos: u64,
}

fn recorded() -> Result<(Report, Vec<Counted>), String> {
    let (mut running, mut lines) = library::ready("the program", Command::new(built()?))?;
    let recording = Recording::start(&["-p", &running.id().to_string()])?;
    // It begins at the end of its input.
    drop(running.stdin()?);
    let mut truth = Vec::new();
    for _ in 0..3 {
        let line = lines.find("count", SOON, |line| line.split(' ').count() == 3)?;
        let words: Vec<&str> = line.split(' ').collect();
        let number = |n: usize| words.get(n).and_then(|word| word.parse().ok());
        match (words.first(), number(1), number(2)) {
            (Some(kind), Some(ROUNDS), Some(nanos)) => truth.push(Counted {
                kind: (*kind).to_owned(),
                nanos,
            }),
            _ => return Err(format!("the program said {line:?}")),
        }
    }
    running.wait(SOON)?;
    Ok((recording.end()?.report, truth))
}

fn compare(report: &Report, truth: &[Counted]) -> Complaints {
    let mut complaints = Complaints::new();
    let missed = report.losses.missed_switches();
    let lost = missed + report.losses.unknown_waits;
    if missed > 3 || report.losses.unknown_waits > 2 {
        complaints.push(format!("{:?}", report.losses));
    }
    let kinds: Vec<_> = report
        .runtimes
        .iter()
        .map(|r| (&*r.kind, r.workers))
        .collect();
    if kinds != [("current_thread", 1), ("current_thread", 1)] {
        complaints.push(format!("the runtimes: {kinds:?}"));
    }
    for counted in truth {
        let (thread, state) = match counted.kind.as_str() {
            "first" => ("one-thread", "blocked"),
            "second" => ("second", "blocked"),
            _ => ("tokio-rt-worker", "pool"),
        };
        let of_thread = report.threads.iter().filter(|t| t.name == thread);
        let mut waits = of_thread.filter_map(|t| t.states.get(state)).sum::<u64>();
        if state == "pool" {
            // Its thread waits for the program's input first, in a closure too.
            let sites = report.sites.iter().filter(|site| site.state == "pool");
            waits = sites
                .filter(|site| site.call.contains("sleep"))
                .map(|site| site.total_ns)
                .sum();
        }
        // The program's clock also counts the time in which its thread waited for a CPU.
        let most = counted.nanos + counted.nanos / 50 + UNKNOWN_NS * slowdown();
        if waits + lost * LOST_NS < ROUNDS * BLOCK_NS || waits > most {
            let (kind, nanos) = (&counted.kind, ms(counted.nanos));
            complaints.push(format!("{kind}: {} {state}, {nanos} in truth", ms(waits)));
        }
    }
    let unknown = report
        .threads
        .iter()
        .filter_map(|t| t.states.get("unknown"));
    let unknown: u64 = unknown.sum();
    if unknown > lost * LOST_NS + UNKNOWN_NS * slowdown() {
        complaints.push(format!("{} unknown", ms(unknown)));
    }
    // The tick tells one poll from the next.
    let long: Vec<_> = report
        .long_polls
        .iter()
        .map(|p| (p.polls, &p.evidence))
        .collect();
    let by_tick = long.iter().all(|(_, evidence)| **evidence == ["tick"]);
    let polls = long.iter().map(|(polls, _)| polls).sum::<u64>();
    if !by_tick || polls > 2 * ROUNDS || polls + lost < 2 * ROUNDS {
        complaints.push(format!("the long polls: {long:?}"));
    }
    if report.judges.disagreed > 0 || report.judges.by_context == 0 {
        complaints.push(format!("the judges: {:?}", report.judges));
    }
    complaints
}

/// The program, built where it is not up to date.
pub(crate) fn built() -> Result<PathBuf, String> {
    library::program("one-thread")
}
