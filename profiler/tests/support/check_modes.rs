//! The checks of recordings with less than the usual to go by, or more than the usual going on.

use super::check::{Complaints, ms};
use super::record::{OPEN_FOR, Recorded};
use super::report::{Report, is_in};
use super::truth::Truth;

/// Without symbols no function has a name to be found by. But nobody may be blamed for more than
/// truly happened, and whatever is not blamed has to be owned up to as unknown.
pub(crate) fn stripped(report: &Report, truth: &Truth) -> Complaints {
    let in_state = |state: &str| -> u64 {
        let sites = report.sites.iter().filter(|site| site.state == state);
        sites.map(|site| site.total_ns).sum()
    };
    let (blocked, unknown) = (in_state("blocked"), in_state("unknown"));
    let measured: u64 = truth.blocked().map(|site| site.blocked_ns()).sum();
    let tolerance: u64 = truth.blocked().map(|site| site.tolerance_ns()).sum();
    let mut complaints = Vec::new();
    if blocked > measured + tolerance {
        complaints.push(format!(
            "{} blocked, measured {}",
            ms(blocked),
            ms(measured)
        ));
    }
    if blocked + unknown + tolerance < measured {
        complaints.push(format!(
            "{} blocked and {} unknown, measured {}",
            ms(blocked),
            ms(unknown),
            ms(measured)
        ));
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
