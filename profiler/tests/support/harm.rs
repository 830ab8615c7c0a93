//! The modes of the fixture in which a runtime comes to a halt in a known way: each gets its own
//! verdict, and is blamed on the right function.

use super::check::{Complaints, ms};
use super::record::Recorded;
use super::report::{Frame, LongPolls, Report, Site, is_in};

/// One poll of the fixture's hog, in CPU time.
const HOG_POLL: u64 = 60_000_000;

fn verdict(report: &Report, wanted: &[&str]) -> Complaints {
    let kind = report.verdict.kind.as_str();
    if wanted.contains(&kind) {
        Vec::new()
    } else {
        let states: Vec<_> = report.runtimes.iter().map(|r| &r.states).collect();
        vec![format!("the verdict is {kind}, not {wanted:?}: {states:?}")]
    }
}

/// A task that computes for 60 ms in each poll, on a tokio whose worker's tick is known.
pub(crate) fn cpu_hog(recorded: &Recorded) -> Complaints {
    hog_by(&recorded.report, "tick")
}

/// Likewise where the tick is not known.
pub(crate) fn cpu_hog_by_stack(recorded: &Recorded) -> Complaints {
    hog_by(&recorded.report, "stack")
}

fn hog_by(report: &Report, evidence: &str) -> Complaints {
    let mut complaints = verdict(report, &["cpu_hog"]);
    let Some(worst) = report.long_polls.first() else {
        complaints.push("no long poll was found".into());
        return complaints;
    };
    // In tokio 1.20 the task's function is inlined into tokio's.
    let task = worst.task.as_deref().unwrap_or(&worst.function);
    let by_hog = |frame: &Frame| is_in(&frame.function, "hog_the_worker");
    if !is_in(task, "task_hog") && !worst.stack.iter().any(by_hog) {
        complaints.push(format!("the long polls are {task}'s, not task_hog's"));
    }
    if worst.evidence != [evidence] {
        complaints.push(format!(
            "they were found by {:?}, not {evidence}",
            worst.evidence
        ));
    }
    // Seen from the first sample to the last, in CPU time: never longer than it was.
    let longest = worst.longest.on_cpu_ns;
    if !(HOG_POLL / 2..=HOG_POLL * 105 / 100).contains(&longest) {
        complaints.push(format!("the longest is {}, of 60 ms", ms(longest)));
    }
    if worst.total_ns < longest || worst.polls < 3 {
        complaints.push(format!(
            "{} polls of {} together",
            worst.polls,
            ms(worst.total_ns)
        ));
    }
    let part = |part: &str| -> u64 {
        let sites = report.cpu_sites.iter().filter(|site| site.part == part);
        sites.map(|site| site.cpu_ns).sum()
    };
    let polls = part("poll");
    let running: u64 = report
        .runtimes
        .iter()
        .filter_map(|runtime| runtime.states.get("running"))
        .sum();
    // A hundred samples or so: their error is a tenth, and we allow three of them.
    if polls.abs_diff(running) > running * 3 / 10 {
        complaints.push(format!(
            "samples in polls are {}, the workers ran for {}",
            ms(polls),
            ms(running)
        ));
    }
    complaints
}

/// Modest tasks of four workers on one CPU.
pub(crate) fn too_few_cpus(recorded: &Recorded) -> Complaints {
    let report = &recorded.report;
    let mut complaints = verdict(report, &["no_cpu"]);
    // One that was preempted is long all the same.
    let computed = |poll: &&LongPolls| poll.longest.on_cpu_ns > 5_000_000;
    for poll in report.long_polls.iter().filter(computed) {
        complaints.push(format!(
            "a long poll of {} by {:?}, where the longest takes 0.5 ms",
            ms(poll.longest.on_cpu_ns),
            poll.evidence
        ));
    }
    complaints
}

/// Locks that another thread holds: it is named as the waker, with the function that held them.
pub(crate) fn held_locks(recorded: &Recorded) -> Complaints {
    let report = &recorded.report;
    let mut complaints = verdict(report, &["blocked", "starved"]);
    for (waiter, holder) in [
        ("wait_for_std_mutex", "hold_std_mutex"),
        ("wait_for_parking_lot_mutex", "hold_parking_lot_mutex"),
    ] {
        let is_wait = |site: &&Site| site.state == "blocked" && is_in(&site.function, waiter);
        let Some(site) = report.sites.iter().find(is_wait) else {
            complaints.push(format!("nobody was blocked in {waiter}"));
            continue;
        };
        let Some(waker) = site.wakers.first() else {
            complaints.push(format!("nobody woke {waiter}"));
            continue;
        };
        let function = waker.function.as_deref().unwrap_or("nothing");
        if waker.thread != "holder" || !is_in(function, holder) {
            complaints.push(format!(
                "{waiter} was woken by {} in {function}, not by holder in {holder}",
                waker.thread
            ));
        }
        if waker.waits * 10 < site.waits * 9 {
            complaints.push(format!(
                "{} of {} waits in {waiter} were woken so",
                waker.waits, site.waits
            ));
        }
    }
    complaints
}
