//! Time inside single system calls, and panics: against what the program measured and counted.

use super::check::{self, Complaints, ms};
use super::fixture::{Profile, Variant};
use super::privilege;
use super::record::{Ending, Extra, Recorded, record_with};
use super::report::{CallSite, is_in};
use super::run::Check;
use super::truth::{TrueSite, slowdown};
use libtest_mimic::Trial;

const RELEASE: Variant = Variant {
    package: "tokio-newest",
    profile: Profile::Release,
};

struct Case {
    name: &'static str,
    variant: Variant,
    mode: &'static str,
    args: &'static [&'static str],
    check: Check,
}

const CASES: &[Case] = &[
    Case {
        name: "calls::measured",
        variant: RELEASE,
        mode: "calls",
        args: &["--syscalls", "--min-block", "2ms"],
        check: measured,
    },
    Case {
        name: "calls::left_out",
        variant: RELEASE,
        mode: "calls",
        args: &["--no-syscalls"],
        check: left_out,
    },
    Case {
        name: "panics::counted",
        variant: RELEASE,
        mode: "panics",
        args: &["--panics"],
        check: panics,
    },
    Case {
        name: "panics::counted-fat-lto",
        variant: Variant {
            package: "tokio-newest",
            profile: Profile::FatLto,
        },
        mode: "panics",
        args: &["--panics"],
        check: panics_in_all,
    },
    Case {
        name: "panics::stripped",
        variant: Variant {
            package: "tokio-newest",
            profile: Profile::Stripped,
        },
        mode: "panics",
        args: &["--panics"],
        check: nothing_to_probe,
    },
];

/// The trials.
pub(crate) fn trials() -> Vec<Trial> {
    let trial = |case: &'static Case| {
        Trial::ignorable_test(case.name, || {
            let missing = privilege::missing().or_else(|| case.variant.missing());
            privilege::unless_skipped(missing, || {
                let extra = Extra {
                    args: case.args,
                    limits: "",
                };
                let recorded = record_with(case.variant, case.mode, Ending::Stays, extra)?;
                let mut complaints = (case.check)(&recorded);
                complaints.extend(check::accounting(&recorded));
                if complaints.is_empty() {
                    Ok(())
                } else {
                    Err(complaints.join("\n").into())
                }
            })
        })
    };
    CASES.iter().map(trial).collect()
}

/// By function: what the thread did meanwhile, how the call is read, and whether there is advice.
const WANTED: &[(&str, &str, &str, bool)] = &[
    ("compute_in_warm_read", "poll", "pread64 fd ", true),
    ("compute_in_fs_read", "poll", "read fd ", true),
    ("allowed_pool_read", "blocking-pool", "pread64 fd ", false),
    ("block_by_cold_read", "poll", "pread64 fd ", true),
];

/// Every long call is found, with the time that it took on a CPU and nothing of its waits.
fn measured(recorded: &Recorded) -> Complaints {
    let mut truth = recorded.truth.clone();
    // What is in memory here is elsewhere read from a file system that asks its host: a true wait.
    for site in truth.sites.iter_mut().filter(|site| site.waits > 0) {
        if site.states == ["running"] {
            site.states = vec!["blocked".into()];
        }
    }
    let recorded = &Recorded {
        truth,
        ..recorded.clone()
    };
    let (report, truth) = (&recorded.report, &recorded.truth);
    let mut complaints = check::false_alarms(report, truth);
    complaints.extend(check::recall(report, truth));
    complaints.extend(check::times(recorded));
    complaints.extend(check::losses(report));
    if !report.calls_measured {
        complaints.push("the report says that no calls were measured".into());
    }
    for (function, part, call, advised) in WANTED {
        let Some(site) = truth.sites.iter().find(|site| site.function == *function) else {
            complaints.push(format!("the truth knows no {function}"));
            continue;
        };
        let found: Vec<&CallSite> = report
            .call_sites
            .iter()
            .filter(|found| is_in(&found.function, function))
            .collect();
        let [found] = found.as_slice() else {
            complaints.push(format!("{function} is {} sites: {found:?}", found.len()));
            continue;
        };
        println!(
            "{function}: {} calls, {} on a CPU of {} ({}), longest {}; measured {} calls, {} of {}, in \
             line for {}, {} waits",
            found.calls,
            ms(found.total_ns),
            ms(found.wall_ns),
            found.call,
            ms(found.max_ns),
            site.calls,
            ms(site.cpu_ns),
            ms(site.wall_ns),
            ms(site.run_delay_ns),
            site.waits
        );
        complaints.extend(call_of(site, found));
        // No nanosecond is in a wait and in a call.
        let waits = report
            .sites
            .iter()
            .filter(|wait| is_in(&wait.function, function));
        let waited: u64 = waits.map(|wait| wait.total_ns + wait.runqueue_ns).sum();
        if waited + found.total_ns > site.wall_ns {
            complaints.push(format!(
                "{function}: {} waited and {} on a CPU, {} in all",
                ms(waited),
                ms(found.total_ns),
                ms(site.wall_ns)
            ));
        }
        let file = if function.contains("cold") {
            "/cold"
        } else {
            "/warm"
        };
        let is_read_so = found.call.starts_with(call) && found.call.ends_with(file);
        if found.part != *part || found.cause != "file-io" || !is_read_so {
            complaints.push(format!(
                "{function}: {} of cause {} in part {}",
                found.call, found.cause, found.part
            ));
        }
        if found.advice.is_some() != *advised {
            complaints.push(format!("{function}: advice {:?}", found.advice));
        }
    }
    complaints.extend(accounting(recorded));
    complaints
}

/// The number of calls, and their time on a CPU, are what the program has counted.
///
/// Its CPU time is the scheduler's, which leaves out what the host of a virtual machine and
/// interrupts took meanwhile, and what tasks took whose switches the kernel keeps from tracing: a
/// right time lies between that and the wall. On an idle machine the two are the same.
fn call_of(site: &TrueSite, found: &CallSite) -> Complaints {
    let mut complaints = Vec::new();
    let (low, high) = (site.cpu_ns, site.wall_ns);
    // As `TrueSite::tolerance_ns`, of this time.
    let tolerance = low / 50 + slowdown() * 60_000 * site.calls.max(site.waits);
    // Where all takes long, opening and closing the file may be long calls, too.
    if found.calls < site.calls || slowdown() == 1 && found.calls > site.calls {
        complaints.push(format!(
            "{}: {} calls, it made {}",
            site.function, found.calls, site.calls
        ));
    }
    if found.total_ns + tolerance < low || found.total_ns > high + tolerance {
        complaints.push(format!(
            "{}: {} on a CPU, measured {} to {} ± {}",
            site.function,
            ms(found.total_ns),
            ms(low),
            ms(high),
            ms(tolerance)
        ));
    }
    if found.wall_ns > site.wall_ns || found.total_ns > found.wall_ns {
        complaints.push(format!(
            "{}: {} on a CPU of {}, measured {}",
            site.function,
            ms(found.total_ns),
            ms(found.wall_ns),
            ms(site.wall_ns)
        ));
    }
    if found.max_ns > site.max_ns || found.max_ns * found.calls < found.total_ns {
        complaints.push(format!(
            "{}: the longest call {}, measured {}",
            site.function,
            ms(found.max_ns),
            ms(site.max_ns)
        ));
    }
    complaints
}

/// What is inside calls is a part of what ran, and holds all sites.
fn accounting(recorded: &Recorded) -> Complaints {
    let report = &recorded.report;
    let mut complaints = Vec::new();
    let mut sum = 0;
    for thread in &report.threads {
        let Some(in_calls) = thread.in_calls_ns else {
            complaints.push(format!("thread {} has no time in calls", thread.tid));
            continue;
        };
        sum += in_calls;
        let running = thread.states.get("running").copied().unwrap_or(0);
        if in_calls > running {
            complaints.push(format!(
                "thread {}: {} in calls, it ran for {}",
                thread.tid,
                ms(in_calls),
                ms(running)
            ));
        }
    }
    let sites: u64 = report.call_sites.iter().map(|site| site.total_ns).sum();
    if sites > sum || sites == 0 {
        complaints.push(format!("{} at sites, {} in calls", ms(sites), ms(sum)));
    }
    complaints
}

/// Nothing is measured, and the report says so.
fn left_out(recorded: &Recorded) -> Complaints {
    let report = &recorded.report;
    let mut complaints = Vec::new();
    if report.calls_measured || !report.call_sites.is_empty() {
        complaints.push(format!("calls were measured: {:?}", report.call_sites));
    }
    if report
        .threads
        .iter()
        .any(|thread| thread.in_calls_ns.is_some())
    {
        complaints.push("threads have a time in calls".into());
    }
    if report.panics.is_some() {
        complaints.push("panics were counted without being asked for".into());
    }
    complaints
}

/// Every panic is counted once, at the function that panicked, and none that is passed on.
fn panics(recorded: &Recorded) -> Complaints {
    let Some(panics) = &recorded.report.panics else {
        return vec!["the report tells of no panics".into()];
    };
    let mut complaints = panics_in_all(recorded);
    for site in &recorded.truth.sites {
        let found: Vec<_> = panics
            .sites
            .iter()
            .filter(|found| is_in(&found.function, &site.function))
            .collect();
        let count: u64 = found.iter().map(|found| found.panics).sum();
        println!(
            "{}: {count} panics, {} were made",
            site.function, site.calls
        );
        if count != site.calls || found.len() != 1 {
            complaints.push(format!(
                "{}: {count} panics at {} sites, {} were made",
                site.function,
                found.len(),
                site.calls
            ));
        }
        let in_pool = site.function == "panic_in_pool";
        for found in found {
            let task = found.task.as_deref().unwrap_or("");
            let known = recorded.report.threads.iter();
            let known = known.filter(|thread| thread.tid == found.last_tid).count();
            let right = if in_pool {
                found.part == "blocking-pool"
            } else {
                found.part == "poll" && is_in(task, "task_panics")
            };
            if !right || known != 1 {
                complaints.push(format!("{}: {found:?}", site.function));
            }
        }
    }
    complaints
}

/// As many panics as there were, wherever they are said to be: fat LTO inlines functions.
fn panics_in_all(recorded: &Recorded) -> Complaints {
    let Some(panics) = &recorded.report.panics else {
        return vec!["the report tells of no panics".into()];
    };
    let mut complaints = Vec::new();
    let found: u64 = panics.sites.iter().map(|site| site.panics).sum();
    let made: u64 = recorded.truth.sites.iter().map(|site| site.calls).sum();
    if found != made || made == 0 {
        complaints.push(format!("{found} panics, {made} were made"));
    }
    if panics.probed.len() != 1 || !panics.problems.is_empty() {
        complaints.push(format!("{:?} {:?}", panics.probed, panics.problems));
    }
    complaints
}

/// What cannot be counted is said to be so.
fn nothing_to_probe(recorded: &Recorded) -> Complaints {
    let Some(panics) = &recorded.report.panics else {
        return vec!["the report tells of no panics".into()];
    };
    let told = panics.problems.iter().any(|text| text.contains("stripped"));
    if told && panics.probed.is_empty() && panics.sites.is_empty() {
        Vec::new()
    } else {
        vec![format!("{panics:?}")]
    }
}
