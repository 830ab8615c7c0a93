//! When something outside held the threads of a process.

use crate::counted::counted;
use crate::render::{count, duration, process_name, sanitize};
use crate::report::{Report, Stop, Stopped};
use crate::runtime::StoppedBy;

/// Stops told with their times.
const TOLD: usize = 3;

/// `The process was stopped from outside for 2.00 s, from 1.30 s on, by a debugger or tracer: its threads
/// could not run then.`
pub(super) fn told(report: &Report, held: &Stopped) -> String {
    let (who, idle) = who(report, held);
    let by = match held.by {
        StoppedBy::Signal => "a signal (SIGSTOP or its like)",
        StoppedBy::Debugger => "a debugger or tracer",
        StoppedBy::Freezer => "the freezer of its control group",
    };
    let total = duration(held.total_ns);
    let Some((first, more)) = held.first.split_first() else {
        return format!(
            "{who} stopped from outside for {total} together, by {by}, for less than {} each time: \
             {idle} could not run then.",
            duration(report.min_block_ns)
        );
    };
    if more.is_empty() && held.stops == 1 {
        return format!(
            "{who} stopped from outside for {total}, {}, by {by}: {idle} could not run then.",
            since(first, held.total_ns > held.longest_ns)
        );
    }
    let told: Vec<String> = held.first.iter().take(TOLD).map(with_length).collect();
    let told_too = u64::try_from(told.len()).unwrap_or(u64::MAX);
    let rest = match held.stops.saturating_sub(told_too) {
        0 => String::new(),
        rest => format!(", and {} more", count(rest)),
    };
    format!(
        "{who} stopped from outside {}, for {total} together, {} at the longest, by {by}: {}{rest}; {idle} \
         could not run then.",
        counted(held.stops, "time", "times"),
        duration(held.longest_ns),
        told.join(", ")
    )
}

/// The process, or the threads of it where most of them went on; and what could not run.
fn who(report: &Report, held: &Stopped) -> (String, &'static str) {
    let process = process_name(report, held.pid);
    let process = process.map(|name| sanitize(&name).into_owned());
    let threads = report.threads.iter();
    let all = threads.filter(|thread| thread.pid == held.pid).count() as u64;
    if u64::from(held.threads) * 2 >= all {
        let process = process.unwrap_or_else(|| "The process".to_owned());
        return (format!("{process} was"), "its threads");
    }
    let of = process.unwrap_or_else(|| "the process".to_owned());
    let are = if held.threads == 1 { "was" } else { "were" };
    let threads = format!(
        "{} of the {} threads of {of} {are}",
        held.threads,
        count(all)
    );
    (threads, if held.threads == 1 { "it" } else { "they" })
}

/// `from 1.30 s on`. The length has been told, unless there were `more` stops, too short to be told.
fn since(stop: &Stop, more: bool) -> String {
    let from = match stop.from_ns.0 {
        0 => "from before the recording on".to_owned(),
        _ => format!("from {} on", duration(stop.from_ns)),
    };
    match (more, stop.goes_on) {
        (_, true) => format!("{from} and still when the recording ended"),
        (true, false) => format!("{from} for {}", duration(stop.length_ns)),
        (false, false) => from,
    }
}

fn with_length(stop: &Stop) -> String {
    since(stop, true)
}
