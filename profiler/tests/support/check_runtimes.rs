//! Which runtime is which: several in one program, beside each other and after each other.

use super::check::{Complaints, ms};
use super::record::Recorded;
use super::report::{Report, Runtime};
use super::truth::{TrueSite, slowdown};

/// For how long a wedged runtime has been watched at least.
const WEDGED_NS: u64 = 1_000_000_000;

/// The workers of one runtime wait for each other, and those of the other have nothing to do.
pub(crate) fn two(recorded: &Recorded) -> Complaints {
    let report = &recorded.report;
    let mut complaints = Vec::new();
    if report.verdict.kind != "wedged" {
        complaints.push(format!("the verdict is {}", report.verdict.kind));
    }
    let (Some(app), Some(side)) = (named(report, "app"), named(report, "side")) else {
        complaints.push(all(report));
        return complaints;
    };
    for runtime in [app, side] {
        let by = &*runtime.grouped_by;
        // tokio 1.28 makes its context at its first use, so that no image shows where its fields are.
        let is_guess = recorded.variant.package == "tokio-1.28";
        if by != if is_guess { "guess" } else { "handle" } {
            complaints.push(format!("grouped by {by}: {runtime:?}"));
        }
    }
    if report.runtimes.len() != 2 || (app.workers, side.workers) != (2, 2) {
        complaints.push(all(report));
    }
    let blocked = |runtime: &Runtime| state(runtime, "blocked");
    if app.wedged_ns < WEDGED_NS || blocked(app) < 2 * WEDGED_NS {
        complaints.push(format!("`app` is not wedged: {app:?}"));
    }
    // Where two workers meet in a lock of the runtime they are blocked for a moment.
    if side.wedged_ns > 0 || blocked(side) > 5_000_000 * slowdown() {
        complaints.push(format!("`side` is not idle: {side:?}"));
    }
    complaints
}

/// However often it is made anew, two workers are there at a time, and they wait.
pub(crate) fn made_anew(recorded: &Recorded) -> Complaints {
    let (report, truth) = (&recorded.report, &recorded.truth);
    let mut complaints = Vec::new();
    let runtimes: Vec<&Runtime> = report
        .runtimes
        .iter()
        .filter(|runtime| runtime.thread_name == "anew")
        .collect();
    let [runtime] = runtimes[..] else {
        return vec![all(report)];
    };
    if runtime.workers != truth.workers {
        complaints.push(format!("{} workers: {}", runtime.workers, all(report)));
    }
    if runtime.threads < 10 * truth.workers {
        complaints.push(format!("{} threads in all", runtime.threads));
    }
    let blocked: u64 = truth.blocked().map(TrueSite::blocked_ns).sum();
    let off = state(runtime, "blocked").abs_diff(blocked);
    if off > blocked / 20 + 5_000_000 * slowdown() {
        complaints.push(format!(
            "{} blocked, measured {}",
            ms(state(runtime, "blocked")),
            ms(blocked)
        ));
    }
    // Each waits for half of that, and all but the changes from one to the next is at once.
    if runtime.starved_ns < blocked / 2 * 8 / 10 {
        complaints.push(format!("starved for {} only", ms(runtime.starved_ns)));
    }
    if report.verdict.kind != "starved" {
        complaints.push(format!("the verdict is {}", report.verdict.kind));
    }
    complaints
}

/// A thread that runs a `LocalSet` was parked for most of the time.
pub(crate) fn local_set(recorded: &Recorded) -> Complaints {
    let (report, truth) = (&recorded.report, &recorded.truth);
    let local = |runtime: &&Runtime| runtime.kind == "local_set";
    let Some(runtime) = report.runtimes.iter().find(local) else {
        return vec![all(report)];
    };
    let mut complaints = Vec::new();
    let (blocked, idle) = (state(runtime, "blocked"), state(runtime, "idle"));
    let measured: u64 = truth.blocked().map(TrueSite::blocked_ns).sum();
    if blocked.abs_diff(measured) > measured / 20 + 2_000_000 * slowdown() {
        complaints.push(format!(
            "{} blocked, measured {}",
            ms(blocked),
            ms(measured)
        ));
    }
    if idle < 10 * blocked {
        complaints.push(format!("{} idle, {} blocked", ms(idle), ms(blocked)));
    }
    complaints
}

fn named<'a>(report: &'a Report, name: &str) -> Option<&'a Runtime> {
    let mut runtimes = report.runtimes.iter();
    runtimes.find(|runtime| runtime.thread_name == name)
}

fn state(runtime: &Runtime, state: &str) -> u64 {
    runtime.states.get(state).copied().unwrap_or_default()
}

fn all(report: &Report) -> String {
    format!("the runtimes: {:#?}", report.runtimes)
}
