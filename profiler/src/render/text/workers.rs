//! Where the workers' time went.

use super::line::width;
use super::page::Page;
use super::style::{BAD, DIM, HEADING, PLAIN, of_state};
use crate::counted::counted;
use crate::render::states::listed;
use crate::render::{duration, percent, process_name, sanitize};
use crate::report::{GroupedBy, OpenWaitReport, Report, RuntimeKind, RuntimeReport, Stretch};
use crate::runtime::State;
use crate::units::Nanos;
use std::io;

/// Runtimes drawn in full; of more there is a line each.
const IN_FULL: usize = 2;
/// Share of the time below which it is no news that nobody was in the I/O driver.
const WITHOUT_DRIVER: f64 = 0.01;
/// …unless it was for this long at a stretch.
const WITHOUT_DRIVER_LONGEST: Nanos = Nanos(10_000_000);
/// Runtimes listed at all.
const LISTED: usize = 12;

/// Every runtime: its workers, their states, how many were blocked at once.
pub(super) fn runtimes(page: &mut Page<'_>) -> io::Result<()> {
    let runtimes = &page.report.runtimes;
    for runtime in runtimes.iter().take(IN_FULL) {
        in_full(page, runtime)?;
    }
    if runtimes.len() > IN_FULL {
        page.heading("Other runtimes", "")?;
    }
    for runtime in runtimes.iter().take(LISTED).skip(IN_FULL) {
        in_brief(page, runtime)?;
    }
    if runtimes.len() > LISTED {
        let more = runtimes.len() - LISTED;
        page.labelled((PLAIN, ""), 2, &format!("… and {more} more"))?;
    }
    Ok(())
}

/// `4 workers, multi_thread runtime rt0`.
pub(in crate::render) fn title(report: &Report, runtime: &RuntimeReport) -> String {
    let workers = counted(u64::from(runtime.workers), "worker", "workers");
    let process = process_name(report, runtime.pid);
    let process = process.map_or_else(String::new, |of| format!(" of {}", sanitize(&of)));
    match runtime.kind {
        RuntimeKind::MultiThread => format!(
            "{workers}{}, multi_thread runtime {}{process}",
            which(report, runtime),
            runtime.id
        ),
        RuntimeKind::CurrentThread | RuntimeKind::LocalSet => {
            let kind = match runtime.kind {
                RuntimeKind::LocalSet => "LocalSet",
                _ => "current_thread runtime",
            };
            let thread = report
                .threads
                .iter()
                .find(|thread| thread.runtime.as_deref() == Some(&runtime.id))
                .map_or_else(String::new, |thread| {
                    format!(" on thread {} ({})", sanitize(&thread.name), thread.tid)
                });
            format!("{workers}, {kind} {}{process}{thread}", runtime.id)
        }
    }
}

/// What tells the workers of one of several runtimes, and that they were not always the same.
fn which(report: &Report, runtime: &RuntimeReport) -> String {
    let mut parts = Vec::new();
    let name = &runtime.thread_name;
    // tokio's own name tells no runtime from another.
    let is_given = !name.is_empty() && !name.starts_with("tokio-r");
    if report.runtimes.len() > 1 && is_given {
        parts.push(format!("`{}`", sanitize(name)));
    }
    if runtime.grouped_by == GroupedBy::Guess {
        parts.push("grouped by a guess".to_owned());
    }
    if runtime.threads > runtime.workers.saturating_mul(2) {
        parts.push(format!("{} threads in turn", runtime.threads));
    }
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}

fn in_full(page: &mut Page<'_>, runtime: &RuntimeReport) -> io::Result<()> {
    page.blank()?;
    let whole: Nanos = runtime.states.values().copied().sum();
    let mut line = page.line();
    line.push(
        HEADING,
        &page.fit_right(&title(page.report, runtime), page.width),
    );
    let explanation = format!("{} of worker time", duration(whole));
    if line.width() + 2 + width(&explanation) <= page.width {
        line.push(PLAIN, "  ").push(DIM, &explanation);
    }
    page.put(&line)?;

    let room = page.width.saturating_sub(38).min(50);
    for (state, time) in listed(runtime) {
        let share = time.share_of(whole);
        let mut line = page.line();
        let style = if state == State::Blocked && time > Nanos::ZERO {
            BAD
        } else {
            PLAIN
        };
        line.push(PLAIN, "  ")
            .push(style, &format!("{:<14}", label(state)))
            .push_right(style, &percent(share), 7)
            .push_right(style, &duration(time), 12)
            .push(PLAIN, "  ")
            .push(of_state(state), &bar(share, room));
        page.put(&line)?;
    }
    in_calls(page, runtime)?;
    at_once(page, runtime)?;
    starved(page, runtime)?;
    driver(page, runtime)
}

/// How much of the CPU time was spent in system calls.
fn in_calls(page: &mut Page<'_>, runtime: &RuntimeReport) -> io::Result<()> {
    let Some(time) = runtime.in_calls_ns.filter(|time| *time > Nanos::ZERO) else {
        return Ok(());
    };
    let running = runtime.states.get(&State::Running).copied();
    let share = percent(time.share_of(running.unwrap_or_default()));
    let text = format!("{}, {share} of the running time", duration(time));
    page.labelled((PLAIN, "  in system calls"), 19, &text)
}

/// When no task could run.
fn starved(page: &mut Page<'_>, runtime: &RuntimeReport) -> io::Result<()> {
    if runtime.starved_stretches.is_empty() {
        return Ok(());
    }
    let text = format!("{} after the start", stretches(&runtime.starved_stretches));
    page.labelled((PLAIN, "  longest starved"), 19, &text)
}

/// `317 ms at 13.8 s, 313 ms at 11.4 s`.
pub(in crate::render) fn stretches(stretches: &[Stretch]) -> String {
    const NAMED: usize = 3;
    let named = stretches.iter().take(NAMED).map(|stretch| {
        let (length, start) = (duration(stretch.length_ns), duration(stretch.start_ns));
        format!("{length} at {start}")
    });
    named.collect::<Vec<_>>().join(", ")
}

/// Other workers that were idle for less than this did not keep tasks waiting for sockets and timers.
const REST_IDLE: Nanos = Nanos(100_000_000);

/// Whether a worker was blocked from begin to end, and no other one was ever seen to watch sockets and timers:
/// then they are watched by none, if the runtime has any.
pub(super) fn never_watched(report: &Report, runtime: &RuntimeReport) -> bool {
    let is_its = |wait: &OpenWaitReport| {
        let mut threads = report.threads.iter();
        let thread = threads.find(|thread| (thread.pid, thread.tid) == (wait.pid, wait.tid));
        thread.is_some_and(|thread| thread.runtime.as_ref() == Some(&runtime.id))
    };
    let mut waits = report.open_waits.iter();
    runtime.kind == RuntimeKind::MultiThread
        && runtime.workers > 1
        && runtime.driver_ns.is_none()
        && runtime.states.get(&State::Idle) >= Some(&REST_IDLE)
        && waits.any(|wait| {
            wait.state == State::Blocked && wait.since_ns >= report.duration_ns && is_its(wait)
        })
}

/// When nobody was left to see events.
fn driver(page: &mut Page<'_>, runtime: &RuntimeReport) -> io::Result<()> {
    let Some(time) = runtime.unattended_ns else {
        if !never_watched(page.report, runtime) {
            return Ok(());
        }
        let text = "no worker was seen to wait for events, and one was blocked all the time";
        return page.labelled((PLAIN, "  I/O driver"), 19, text);
    };
    let longest = runtime.unattended.first().map(|stretch| stretch.length_ns);
    let is_long = longest.is_some_and(|longest| longest >= WITHOUT_DRIVER_LONGEST);
    if time.share_of(page.report.duration_ns) < WITHOUT_DRIVER && !is_long {
        return Ok(());
    }
    // Of one worker there are no others.
    let (nobody, blocked) = match runtime.workers {
        1 => ("nobody", "it was"),
        _ => ("no worker", "others were"),
    };
    let text = format!(
        "{nobody} waited for events for {} while {blocked} blocked: {} after the start",
        duration(time),
        stretches(&runtime.unattended)
    );
    page.labelled((PLAIN, "  I/O driver"), 19, &text)
}

/// What a state is called in figures.
pub(in crate::render) const fn label(state: State) -> &'static str {
    match state {
        State::Runnable => "waiting CPU",
        State::Runtime => "in tokio",
        _ => state.name(),
    }
}

/// A bar of `share` of `columns`, to the eighth of a column; what is not nothing is visible.
fn bar(share: f64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (columns * 8) as f64).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(EIGHTHS[eighths % 8]);
    bar
}

/// For how long how many workers were blocked; of one worker, its state says it all.
fn at_once(page: &mut Page<'_>, runtime: &RuntimeReport) -> io::Result<()> {
    if runtime.workers < 2 || runtime.starved_ns == Nanos::ZERO && nobody_blocked(runtime) {
        return Ok(());
    }
    let duration: Nanos = runtime.blocked_at_once.iter().copied().sum();
    let parts: Vec<String> = groups(&runtime.blocked_at_once)
        .into_iter()
        .filter(|(_, time)| *time > Nanos::ZERO)
        .map(|(label, time)| format!("{label}: {}", percent(time.share_of(duration))))
        .collect();
    let text = format!("{} of the time", parts.join(", "));
    page.labelled((PLAIN, "  blocked at once"), 19, &text)
}

fn nobody_blocked(runtime: &RuntimeReport) -> bool {
    runtime
        .blocked_at_once
        .iter()
        .skip(1)
        .all(|time| *time == Nanos::ZERO)
}

/// `none`, `1`, `2`, …, `all 4`; of many workers in powers of two, so that they fit a line.
pub(in crate::render) fn groups(at_once: &[Nanos]) -> Vec<(String, Nanos)> {
    const SINGLY: usize = 6;
    let Some((all, below)) = at_once.split_last() else {
        return Vec::new();
    };
    let workers = below.len();
    let mut groups: Vec<(String, Nanos)> = Vec::new();
    let mut from = 0;
    while from < workers {
        let to = if workers <= SINGLY || from == 0 {
            from + 1
        } else {
            (from * 2).min(workers)
        };
        let time: Nanos = below.iter().take(to).skip(from).copied().sum();
        let label = match (from, to - 1) {
            (0, _) => "none".to_owned(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}–{last}"),
        };
        groups.push((label, time));
        from = to;
    }
    groups.push((format!("all {workers}"), *all));
    groups
}

fn in_brief(page: &mut Page<'_>, runtime: &RuntimeReport) -> io::Result<()> {
    let whole: Nanos = runtime.states.values().copied().sum();
    let share = |state: State| {
        let time = runtime.states.get(&state).copied().unwrap_or_default();
        percent(time.share_of(whole))
    };
    let text = format!(
        "{}: blocked {}, running {}, waiting CPU {}, idle {}",
        title(page.report, runtime),
        share(State::Blocked),
        share(State::Running),
        share(State::Runnable),
        share(State::Idle)
    );
    page.labelled((PLAIN, ""), 2, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_share() {
        assert_eq!(bar(0.0, 10), "");
        assert_eq!(bar(1e-9, 10), "▏");
        assert_eq!(bar(0.55, 10), "█████▌");
        assert_eq!(bar(1.0, 3), "███");
        assert_eq!(bar(7.0, 3), "███");
    }

    #[test]
    fn many_workers_are_grouped_and_add_up() {
        let times: Vec<Nanos> = (0..17).map(Nanos).collect();
        let groups = groups(&times);
        let labels: Vec<&str> = groups.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["none", "1", "2–3", "4–7", "8–15", "all 16"]);
        assert_eq!(
            groups.iter().map(|(_, time)| *time).sum::<Nanos>(),
            times.iter().copied().sum()
        );
        let few = super::groups(&times[..5]);
        let labels: Vec<&str> = few.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["none", "1", "2", "3", "all 4"]);
    }
}
