//! Python's lock: tasks of a tokio in an extension wait for it five milliseconds at a time, and their
//! polls are as long as another thread of the program keeps it.

use super::check::{Complaints, ms};
use super::library::{self, Built, SOON};
use super::live_recording::Recording;
use super::privilege;
use super::report::{Report, Site};
use super::truth::slowdown;
use libtest_mimic::Trial;

/// How often the lock is held, and for how long.
const TIMES: u64 = 5;
const MILLIS: u64 = 330;
/// Each of the two workers waits for it each time.
const WAITS: u64 = 2 * TIMES;

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::ignorable_test(
        "gil::stalls_as_long_as_it_was_held",
        || {
            privilege::unless_skipped(privilege::missing(), || {
                let (report, truth) = recorded()?;
                let complaints = compare(&report, truth);
                match complaints.is_empty() {
                    true => Ok(()),
                    false => Err(complaints.join("\n").into()),
                }
            })
        },
    )]
}

/// What the tasks measured, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Truth {
    /// The longest that one waited.
    longest: u64,
    /// The longest that both waited at once.
    at_once: u64,
}

fn recorded() -> Result<(Report, Truth), String> {
    let host = Built::new()?.python_with_lock(TIMES, MILLIS);
    let (mut running, mut lines) = library::ready("python", host)?;
    let recording = Recording::start(&["-p", &running.id().to_string()])?;
    // It begins at the end of its input.
    drop(running.stdin()?);
    let line = lines.find("the truth", SOON, |line| line.starts_with("gil "))?;
    let numbers: Vec<u64> = line
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let [waits, longest, at_once] = numbers[..] else {
        return Err(format!("the library said {line:?}"));
    };
    running.wait(SOON)?;
    let report = recording.end()?.report;
    if waits != WAITS {
        return Err(format!("the library waited {waits} times, not {WAITS}"));
    }
    Ok((report, Truth { longest, at_once }))
}

/// 5 % or 1 ms.
fn is_near(told: u64, truth: u64) -> bool {
    told.abs_diff(truth) <= (truth / 20).max(1_000_000) * slowdown()
}

fn compare(report: &Report, truth: Truth) -> Complaints {
    let mut complaints = Complaints::new();
    if truth.at_once < MILLIS * 900_000 {
        complaints.push(format!(
            "both waited at once for {} only",
            ms(truth.at_once)
        ));
    }
    let runtimes = report.runtimes.iter();
    let Some(runtime) = runtimes.max_by_key(|runtime| runtime.polls.longest_blocked_ns) else {
        return vec!["no runtime was seen".to_owned()];
    };
    let told = runtime.polls.longest_blocked_ns;
    // The poll began before it waited; what it computed then is not in it.
    if !is_near(told, truth.longest) {
        let (told, truth) = (ms(told), ms(truth.longest));
        complaints.push(format!("the longest poll is {told}, in truth {truth}"));
    }
    let starved = runtime.longest_stall_ns;
    if !is_near(starved, truth.at_once) {
        let (told, truth) = (ms(starved), ms(truth.at_once));
        complaints.push(format!("starved for {told} at a stretch, in truth {truth}"));
    }
    if report.verdict.kind != "starved" {
        complaints.push(format!("the verdict is {}", report.verdict.kind));
    }
    let polls = report.long_polls.iter();
    let by_tick = polls.filter(|polls| polls.evidence == ["tick"]);
    let polls: u64 = by_tick.map(|polls| polls.polls).sum();
    if polls != WAITS {
        complaints.push(format!("{polls} long polls by the tick, in truth {WAITS}"));
    }
    let is_blocked = |site: &&Site| site.state == "blocked";
    match report.sites.iter().find(is_blocked) {
        Some(site) if site.cause == "gil" && advises_pyo3(site) => {}
        site => complaints.push(format!("the worst site is {site:?}")),
    }
    complaints
}

fn advises_pyo3(site: &Site) -> bool {
    let advice = site.advice.as_ref();
    advice.is_some_and(|advice| advice.text.contains("PyO3"))
}
