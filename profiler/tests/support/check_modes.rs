//! The checks of recordings with less than the usual to go by, or more than the usual going on.

use super::check::{Complaints, STRAY_NS, ms};
use super::record::{OPEN_FOR, Recorded};
use super::report::{Report, is_in};
use super::truth::Truth;

/// Such waits at most, of [`STRAY_NS`] together.
const STRAY_WAITS: u64 = 20;

/// Without symbols no function has a name to be found by, so the states are compared as wholes:
/// tokio's thread-local state tells who blocks, and nobody else may be blamed.
pub(crate) fn stripped(report: &Report, truth: &Truth) -> Complaints {
    let of = |state: &str| {
        let sites = report.sites.iter().filter(|site| site.state == state);
        sites.fold((0, 0), |(waits, time), site| {
            (waits + site.waits, time + site.total_ns)
        })
    };
    let (waits, blocked) = of("blocked");
    let counted: u64 = truth.blocked().map(|site| site.waits).sum();
    let measured: u64 = truth.blocked().map(|site| site.blocked_ns()).sum();
    let tolerance: u64 = truth.blocked().map(|site| site.tolerance_ns()).sum();
    let mut complaints = Vec::new();
    // Two workers that meet in a lock of the allocator or the runtime are truly blocked.
    if waits < counted || waits > counted + STRAY_WAITS {
        complaints.push(format!(
            "{waits} waits blocked, the kernel counted {counted}"
        ));
    }
    if blocked.abs_diff(measured) > tolerance + STRAY_NS {
        complaints.push(format!(
            "{} blocked, measured {}",
            ms(blocked),
            ms(measured)
        ));
    }
    // Outside the runtime a thread's state does not tell `block_in_place` from the blocking pool
    // nor from any other thread: these are owned up to as unknown, and are not more.
    let allowed = || {
        truth
            .allowed()
            .filter(|site| !site.states.contains(&"other".into()))
    };
    let (_, unknown) = of("unknown");
    let (_, handed_off) = of("handed-off");
    let (_, pool) = of("pool");
    let measured: u64 = allowed().map(|site| site.blocked_ns()).sum();
    let tolerance: u64 = allowed().map(|site| site.tolerance_ns()).sum();
    if unknown + handed_off + pool + tolerance < measured {
        complaints.push(format!(
            "{} unknown, {} handed-off, {} in the pool, measured {} in all",
            ms(unknown),
            ms(handed_off),
            ms(pool),
            ms(measured)
        ));
    }
    if report.judges.disagreed > 0 || report.judges.by_context == 0 {
        complaints.push(format!("the judges: {:?}", report.judges));
    }
    complaints
}

/// Where symbols and thread-local state both speak, they agree, and a park that is known again
/// is never another wait.
pub(crate) fn judges(report: &Report) -> Complaints {
    let mut complaints = Vec::new();
    let judges = &report.judges;
    if judges.disagreed > 0 || judges.agreed == 0 || judges.by_both == 0 {
        complaints.push(format!("the judges: {judges:?}"));
    }
    if judges.parks_known == 0 {
        complaints.push("no park was known again".into());
    }
    if report.losses.mistaken_parks > 0 {
        complaints.push(format!("{} parks mistaken", report.losses.mistaken_parks));
    }
    complaints
}

/// Threads that lived for milliseconds only are all in the report.
pub(crate) fn churn(report: &Report, truth: &Truth) -> Complaints {
    let mut complaints = Vec::new();
    let Some(short) = truth
        .sites
        .iter()
        .find(|site| site.function == "allowed_short_life")
    else {
        return vec!["the fixture tells nothing of its short-lived threads".into()];
    };
    // Each such thread makes one call.
    if (report.threads.len() as u64) < short.calls {
        complaints.push(format!(
            "{} threads, {} were born",
            report.threads.len(),
            short.calls
        ));
    }
    complaints
}

/// Waits that never end are open waits at their function, and starve the runtime.
pub(crate) fn wedged(report: &Report, truth: &Truth, before_recording: bool) -> Complaints {
    let mut complaints = Vec::new();
    let watched_ns = u64::try_from(OPEN_FOR.as_nanos()).unwrap_or(u64::MAX);
    for open in &truth.open {
        let found: Vec<_> = report
            .open_waits
            .iter()
            .filter(|wait| is_in(&wait.function, &open.function) && wait.state == "blocked")
            .collect();
        if found.len() != open.threads {
            complaints.push(format!(
                "{} open waits in {}, there are {}; all: {:?}",
                found.len(),
                open.function,
                open.threads,
                report.open_waits
            ));
        }
        for wait in found {
            if wait.before_recording != before_recording || wait.since_ns < watched_ns {
                complaints.push(format!(
                    "thread {}: open for {}, began before the recording: {}",
                    wait.tid,
                    ms(wait.since_ns),
                    wait.before_recording
                ));
            }
        }
    }
    if report.verdict.kind != "wedged" {
        complaints.push(format!("the verdict is {}", report.verdict.kind));
    }
    if !report
        .runtimes
        .iter()
        .any(|runtime| runtime.starved_ns >= watched_ns)
    {
        complaints.push(format!("no runtime starved for {}", ms(watched_ns)));
    }
    complaints
}

/// A target that went away is said to have done so.
pub(crate) fn ended(recorded: &Recorded) -> Complaints {
    match &recorded.report.target.ended {
        Some(_) => Vec::new(),
        None => vec!["the target ended, but the report does not say so".into()],
    }
}

/// Both programs of a process that executes another are in the report. What runs between an exec
/// and the first look at the new mappings cannot be unwound: that is counted, and little.
pub(crate) fn after_exec(report: &Report, truth: &Truth) -> Complaints {
    let mut complaints = Vec::new();
    for site in truth.blocked() {
        let found: u64 = report
            .sites
            .iter()
            .filter(|found| found.state == "blocked" && is_in(&found.function, &site.function))
            .map(|found| found.waits)
            .sum();
        let whole = found == site.waits;
        let counted = report.losses.truncated > 0 && found * 2 >= site.waits;
        if !whole && !counted {
            complaints.push(format!(
                "{}: {found} of {} waits",
                site.function, site.waits
            ));
        }
    }
    complaints
}
