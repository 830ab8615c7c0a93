//! The checks of recordings with less than the usual to go by, or more than the usual going on.

use super::check::{Complaints, ms};
use super::record::{OPEN_FOR, Recorded};
use super::report::{Report, is_in};
use super::truth::Truth;

/// Where symbols and thread-local state both speak, they agree, and a park that is recognised
/// is never another wait.
pub(crate) fn judges(report: &Report) -> Complaints {
    let mut complaints = Vec::new();
    let judges = &report.judges;
    if judges.disagreed > 0 || judges.agreed == 0 || judges.by_both == 0 {
        complaints.push(format!("the judges: {judges:?}"));
    }
    if judges.parks_known == 0 {
        complaints.push("no park was recognised".into());
    }
    if report.losses.mistaken_parks > 0 {
        complaints.push(format!("{} parks mistaken", report.losses.mistaken_parks));
    }
    complaints
}

/// Stacks through a C library without unwinding information are whole because of its code.
pub(crate) fn by_code(report: &Report) -> Complaints {
    match report.losses.functions_by_code {
        0 => vec!["no function is said to be unwound by its code".into()],
        _ => Vec::new(),
    }
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

/// Waits for a file system that hangs name the files that were asked for, by what the system calls were
/// given: nobody can ask the file system itself.
pub(crate) fn hung_files(recorded: &Recorded) -> Complaints {
    hung(recorded, ["/hung/asked", "/hung/opened"])
}

/// The same of one that answers all but reads, of which one goes through the page cache.
pub(crate) fn hung_reads(recorded: &Recorded) -> Complaints {
    hung(recorded, ["/hung/cached", "/hung/direct"])
}

fn hung(recorded: &Recorded, names: [&str; 2]) -> Complaints {
    let report = &recorded.report;
    let mut complaints = Vec::new();
    if report.verdict.kind != "wedged" {
        complaints.push(format!("the verdict is {}", report.verdict.kind));
    }
    for name in names {
        let named = report.open_waits.iter().filter(|wait| {
            let object = wait.object.as_ref();
            let is_it = object.is_some_and(|o| o.kind == "path" && o.name.ends_with(name));
            is_it && wait.state == "blocked" && wait.before_recording
        });
        if named.count() != 1 {
            complaints.push(format!("{name}: {:?}", report.open_waits));
        }
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

/// Both programs of a process that executes another are in the report, with every wait of both:
/// those before the first look at the new mappings too.
pub(crate) fn after_exec(recorded: &Recorded) -> Complaints {
    let target = &recorded.report.target;
    let mut complaints = every_wait(&recorded.report, &recorded.truth);
    if target.earlier.len() != 1
        || target
            .cmdline
            .get(1)
            .is_none_or(|mode| mode != "after-exec")
    {
        complaints.push(format!("the target is not what it became: {target:?}"));
    }
    complaints
}

/// Waits that a function may make beside those that it measures: it reads its counters, and its
/// own code for the first time.
const BESIDE: u64 = 2;

/// Not one wait is missing.
pub(crate) fn every_wait(report: &Report, truth: &Truth) -> Complaints {
    let mut complaints = Vec::new();
    let mut unseen = report.losses.missed_switches();
    for site in truth.blocked() {
        let found: u64 = report
            .sites
            .iter()
            .filter(|found| found.state == "blocked" && is_in(&found.function, &site.function))
            .map(|found| found.waits)
            .sum();
        let missing = site.waits.saturating_sub(found);
        if missing > unseen || found > site.waits + BESIDE {
            complaints.push(format!(
                "{}: {found} of {} waits; losses {:?}",
                site.function, site.waits, report.losses
            ));
        }
        unseen = unseen.saturating_sub(missing);
    }
    complaints
}

/// The stack of a wait below generated code has that code's names, and reaches the poll.
pub(crate) fn generated(recorded: &Recorded) -> Complaints {
    let mut complaints = Vec::new();
    for truth in &recorded.truth.sites {
        let sites = recorded.report.sites.iter();
        let mut sites = sites.filter(|site| is_in(&site.function, &truth.function));
        let Some(site) = sites.next() else {
            complaints.push(format!("no {}", truth.function));
            continue;
        };
        let at = |name: &str| {
            let mut stack = site.stack.iter();
            stack.position(|frame| frame.function.contains(name))
        };
        let frames = [
            "generated_inner",
            "generated_outer",
            "task_of_generated_code",
        ]
        .map(at);
        let in_order = frames.is_sorted() && frames.iter().all(Option::is_some);
        let of_task = site
            .task
            .as_deref()
            .is_some_and(|task| task.contains("generated_code"));
        if !in_order || !of_task || site.state != "blocked" {
            complaints.push(format!("task {:?}: {}", site.task, site.describe()));
        }
    }
    complaints
}
