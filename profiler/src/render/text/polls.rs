//! Polls that took long.

use super::header::file_and_line;
use super::page::{DETAILS, Page};
use super::style::{BAD, DIM, PLAIN};
use crate::counted::counted;
use crate::recording::PollEvidence;
use crate::render::{display_name, duration, percent, process_name, sanitize};
use crate::report::{LongPollSite, LongestPoll, Report};
use crate::units::Nanos;
use std::io;

/// What a poll that computes should do.
const COMPUTES: &str = "compute elsewhere (`tokio::task::spawn_blocking`, or rayon's threads and a \
                        oneshot channel), or let others run in between (`tokio::task::yield_now`)";
const COMPUTES_URL: &str =
    "https://docs.rs/tokio/latest/tokio/task/index.html#blocking-and-yielding";

/// Less than this share of the workers' time, in polls shorter than [`SHORT`], is told in a line.
const LITTLE: f64 = 0.01;
const SHORT: Nanos = Nanos(100_000_000);

/// Tasks shown in full.
const IN_FULL: usize = 5;

/// Tasks whose polls held a worker, whether they waited or computed.
pub(super) fn long_polls(page: &mut Page<'_>) -> io::Result<()> {
    let sites = &page.report.long_polls;
    if sites.is_empty() {
        return Ok(());
    }
    let least = duration(page.report.long_poll_ns);
    if page.cuts_lists() && matter_little(page.report) {
        let polls: u64 = sites.iter().map(|site| site.times.polls).sum();
        let time: Nanos = sites.iter().map(|site| site.times.total_ns).sum();
        let polls = counted(polls, "poll", "polls");
        let text = format!("{polls} of at least {least}, {} together", duration(time));
        return page.heading("Long polls", &text);
    }
    page.heading(
        "Long polls",
        &format!("of at least {least}, by task; most time first"),
    )?;
    for (index, site) in sites.iter().take(IN_FULL).enumerate() {
        one(page, index + 1, site)?;
    }
    let rest = sites.get(IN_FULL..).unwrap_or_default();
    if !rest.is_empty() {
        let time: Nanos = rest.iter().map(|site| site.times.total_ns).sum();
        let more = counted(rest.len() as u64, "more task", "more tasks");
        let text = format!("… and {more}, {} together", duration(time));
        page.labelled((PLAIN, ""), 2, &text)?;
    }
    Ok(())
}

/// Whether long polls took hardly any of the workers' time, and none held a worker for long.
fn matter_little(report: &Report) -> bool {
    let sites = report.long_polls.iter();
    let time: Nanos = sites.clone().map(|site| site.times.total_ns).sum();
    let states = report.runtimes.iter().flat_map(|r| r.states.values());
    let longest = sites.map(|site| site.longest.length_ns).max();
    time.share_of(states.copied().sum()) < LITTLE && longest.is_none_or(|longest| longest < SHORT)
}

fn one(page: &mut Page<'_>, number: usize, site: &LongPollSite) -> io::Result<()> {
    let times = &site.times;
    let mut line = page.line();
    line.push_right(DIM, &format!("{number}."), 4)
        .push_right(BAD, &duration(times.total_ns), 10)
        .push(PLAIN, "  ");
    let function = display_name(&site.function);
    let at = file_and_line(site.file.as_deref(), site.line);
    page.site(line, &function, at)?;
    if let Some(task) = site.task.as_deref().map(display_name)
        && task != function
    {
        page.detail("task", &task)?;
    }
    if let Some(process) = process_name(page.report, site.pid) {
        page.detail("process", &sanitize(&process))?;
    }
    if times.polls > 1 {
        let all = [times.blocked_ns, times.runqueue_ns, times.running_ns];
        let polls = counted(times.polls, "poll", "polls");
        let text = format!("{polls}: {}", parts(all, times.total_ns));
        page.labelled((DIM, "      polls"), DETAILS, &text)?;
    }
    let text = longest(&site.longest);
    page.labelled((DIM, "      longest"), DETAILS, &text)?;
    if times.running_ns > times.blocked_ns {
        if page.is_known_advice(COMPUTES) {
            page.detail("instead", "as above")?;
        } else {
            page.labelled((DIM, "      instead"), DETAILS, COMPUTES)?;
            page.labelled((DIM, ""), DETAILS, COMPUTES_URL)?;
        }
    }
    let by_stack = site.evidence.contains(&PollEvidence::Stack);
    if by_stack && site.evidence.contains(&PollEvidence::Tick) {
        // As of a poll that was there when the recording began.
        let text = "the worker's tick, which tells one poll from the next, and where that could not be read \
                    by stacks alone";
        page.labelled((DIM, "      told by"), DETAILS, text)?;
    } else if by_stack {
        let text = "stacks, as the worker's tick is not known: a poll that waits twice counts as \
                    two, and short polls of one function, one right after the other, as one";
        page.labelled((DIM, "      told by"), DETAILS, text)?;
    }
    Ok(())
}

/// `712 ms at 1.20 s, blocked 99.1 %, running 0.9 %, task 17, on thread 4711`.
pub(in crate::render) fn longest(poll: &LongestPoll) -> String {
    let of = [poll.blocked_ns, poll.runqueue_ns, poll.on_cpu_ns];
    let task = poll
        .task_id
        .map_or_else(String::new, |id| format!(", task {id}"));
    format!(
        "{} at {}: {}{task}, on thread {}",
        duration(poll.length_ns),
        duration(poll.at_ns),
        parts(of, poll.length_ns),
        poll.tid
    )
}

/// The parts of polls as shares of `total`; those that are nothing are left out.
pub(in crate::render) fn parts([blocked, runqueue, running]: [Nanos; 3], total: Nanos) -> String {
    let parts = [
        ("blocked", blocked),
        ("waiting for a CPU", runqueue),
        ("running", running),
    ];
    // Less than that rounds to 0.0 %.
    let parts = parts
        .into_iter()
        .map(|(what, part)| (what, part.share_of(total)))
        .filter(|(_, share)| *share >= 0.0005);
    let parts: Vec<String> = parts
        .map(|(what, share)| format!("{what} {}", percent(share)))
        .collect();
    parts.join(", ")
}
