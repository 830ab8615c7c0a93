//! Polls: their lengths and parts, against what the program measured around each.

use super::check::{Complaints, ms};
use super::record::Recorded;
use super::report::{LongPolls, Report, is_in};
use super::truth::{TrueSite, slowdown};

/// The long polls of a task; of one whose function was inlined, by its stack.
fn of_task<'a>(report: &'a Report, function: &str) -> Option<&'a LongPolls> {
    let polls = report.long_polls.iter();
    let is_it = |polls: &&LongPolls| {
        polls
            .task
            .as_deref()
            .is_some_and(|task| is_in(task, function))
            || polls
                .stack
                .iter()
                .any(|frame| is_in(&frame.function, function))
    };
    polls.into_iter().find(is_it)
}

/// By how much a poll's length may differ: 5 % or 1 ms.
fn tolerance(nanos: u64) -> u64 {
    (nanos / 20).max(1_000_000) * slowdown()
}

/// The poll of many waits is one, that of waiting and computing too, and short ones in a row are not.
pub(crate) fn joined(recorded: &Recorded) -> Complaints {
    let (report, mut complaints) = (&recorded.report, Complaints::new());
    for truth in &recorded.truth.sites {
        let Some(found) = of_task(report, &truth.function) else {
            complaints.push(format!("{} has no long poll", truth.function));
            continue;
        };
        if found.evidence != ["tick"] {
            let by = &found.evidence;
            complaints.push(format!(
                "{}: told by {by:?}, not by the tick",
                truth.function
            ));
        }
        complaints.extend(counted(truth, found));
        let longest = &found.longest;
        let sum = longest.blocked_ns + longest.runqueue_ns + longest.on_cpu_ns;
        if sum.abs_diff(longest.length_ns) > 10_000 {
            complaints.push(format!(
                "{}: the parts of the longest are {}, it is {}",
                truth.function,
                ms(sum),
                ms(longest.length_ns)
            ));
        }
        // What computes before the first sample and after the last one is not seen.
        let unseen = if truth.function == "task_mixed" {
            30_000_000
        } else {
            0
        };
        let least = truth
            .max_ns
            .saturating_sub(unseen + tolerance(truth.max_ns));
        let most = truth.max_ns + tolerance(truth.max_ns);
        if !(least..=most).contains(&longest.length_ns) {
            complaints.push(format!(
                "{}: the longest is {}, in truth {}",
                truth.function,
                ms(longest.length_ns),
                ms(truth.max_ns)
            ));
        }
    }
    complaints.extend(longest_of_runtime(recorded));
    complaints
}

/// Likewise where functions have no names: the longest is found, and short ones are not put together.
pub(crate) fn in_stripped(recorded: &Recorded) -> Complaints {
    let mut complaints = longest_of_runtime(recorded);
    let in_truth: u64 = recorded.truth.sites.iter().map(|site| site.calls).sum();
    let found = recorded.report.long_polls.iter().map(|polls| polls.polls);
    let found: u64 = found.sum();
    if found != in_truth {
        complaints.push(format!("{found} long polls, in truth {in_truth}"));
    }
    complaints
}

fn counted(truth: &TrueSite, found: &LongPolls) -> Complaints {
    let mut complaints = Complaints::new();
    if found.polls != truth.calls {
        complaints.push(format!(
            "{}: {} polls, in truth {}",
            truth.function, found.polls, truth.calls
        ));
    }
    let blocked = truth.blocked_ns();
    let (least, most) = (
        blocked.saturating_sub(truth.tolerance_ns()),
        truth.most_off_cpu_ns() + truth.tolerance_ns(),
    );
    if !(least..=most).contains(&found.blocked_ns) {
        complaints.push(format!(
            "{}: blocked for {}, in truth {}",
            truth.function,
            ms(found.blocked_ns),
            ms(blocked)
        ));
    }
    complaints
}

/// The verdict and the runtime speak of polls, not of the waits in them.
fn longest_of_runtime(recorded: &Recorded) -> Complaints {
    let mut complaints = Complaints::new();
    let longest = recorded.truth.sites.iter().map(|site| site.max_ns).max();
    let longest = longest.unwrap_or_default();
    for runtime in &recorded.report.runtimes {
        let told = runtime.polls.longest_blocked_ns;
        if told.abs_diff(longest) > tolerance(longest) {
            complaints.push(format!(
                "the longest blocked poll of {} is {}, in truth {}",
                runtime.id,
                ms(told),
                ms(longest)
            ));
        }
        let counted: u64 = runtime.polls.histogram.iter().sum();
        if counted != runtime.polls.polls {
            complaints.push(format!(
                "{} polls in the histogram, {} in all",
                counted, runtime.polls.polls
            ));
        }
    }
    complaints
}

/// While the only worker sleeps in a poll nobody waits for events.
pub(crate) fn unattended(recorded: &Recorded) -> Complaints {
    let Some(truth) = recorded.truth.sites.first() else {
        return vec!["the program tells nothing".to_owned()];
    };
    let runtimes = recorded.report.runtimes.iter();
    let Some(runtime) = runtimes.max_by_key(|runtime| runtime.unattended_ns) else {
        return vec!["no runtime was seen".to_owned()];
    };
    let mut complaints = Complaints::new();
    let total = runtime.unattended_ns.unwrap_or_default();
    if total.abs_diff(truth.wall_ns) > tolerance(truth.wall_ns) {
        let (found, truth) = (ms(total), ms(truth.wall_ns));
        complaints.push(format!("unattended for {found} of {truth}"));
    }
    let longest = runtime
        .unattended
        .first()
        .map_or(0, |stretch| stretch.length_ns);
    if longest.abs_diff(truth.max_ns) > tolerance(truth.max_ns) {
        let (found, truth) = (ms(longest), ms(truth.max_ns));
        complaints.push(format!("the longest is {found}, not {truth}"));
    }
    complaints
}
