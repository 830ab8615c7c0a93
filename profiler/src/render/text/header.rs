//! What was recorded, and the verdict.

use super::line::cut_right;
use super::page::Page;
use super::style::{BAD, DIM, GOOD, HEADING, PLAIN, WARN};
use crate::counted::counted;
use crate::render::{display_name, display_path, duration, percent, sanitize};
use crate::report::{Report, Site, Verdict};
use anstyle::Style;
use std::io;

/// Column where the verdict's text begins.
const INDENT: usize = 13;
/// Below this share of all CPUs a process does not suffer from their number.
const LOW_CPU: f64 = 0.5;

/// The program and the length of the recording.
pub(super) fn target(page: &mut Page<'_>) -> io::Result<()> {
    let report = page.report;
    let target = &report.target;
    let several = report.targets.len() > 1;
    let name = if several {
        counted(report.targets.len() as u64, "process", "processes")
    } else {
        sanitize(target.exe_name()).into_owned()
    };
    let mut facts = vec![
        duration(report.duration_ns),
        report.started_at.replace('T', " ").replace(".000Z", "Z"),
    ];
    if !several {
        facts.insert(0, format!("pid {}", target.pid));
    }
    if let Some(version) = target.tokio_version.as_ref().filter(|_| !several) {
        facts.push(format!("tokio {}", sanitize(version)));
    }
    facts.push(format!("Linux {}", sanitize(&report.host.kernel)));
    facts.push(counted(u64::from(report.host.cpus), "CPU", "CPUs"));
    let mut line = page.line();
    line.push(HEADING, &cut_right(&name, page.width / 2));
    let room = page.width.saturating_sub(line.width());
    let mut rest = String::new();
    // What matters least stands last and goes first.
    for fact in facts {
        let more = format!("{rest} · {fact}");
        if super::line::width(&more) > room {
            break;
        }
        rest = more;
    }
    line.push(DIM, &rest);
    page.put(&line)?;
    if several {
        processes(page)?;
    }
    page.blank()
}

/// Processes listed at most.
const LISTED: usize = 12;

/// A line for each of several processes.
fn processes(page: &mut Page<'_>) -> io::Result<()> {
    let targets = &page.report.targets;
    for target in targets.iter().take(LISTED) {
        let mut text = sanitize(target.exe_name()).into_owned();
        match &target.tokio_version {
            Some(version) => text.push_str(&format!(" · tokio {}", sanitize(version))),
            None => text.push_str(" · no tokio seen"),
        }
        if let Some(parent) = target.parent {
            text.push_str(&format!(" · forked by {parent}"));
        }
        if let Some(ended) = &target.ended {
            text.push_str(&format!(" · {}", sanitize(ended)));
        }
        let mut line = page.line();
        line.push_right(DIM, &target.pid.to_string(), 9)
            .push(PLAIN, "  ");
        let room = page.width.saturating_sub(line.width());
        line.push(PLAIN, &cut_right(&text, room));
        page.put(&line)?;
    }
    if targets.len() > LISTED {
        let more = targets.len() - LISTED;
        page.labelled((PLAIN, ""), 11, &format!("… and {more} more"))?;
    }
    Ok(())
}

/// The main finding.
pub(super) fn verdict(page: &mut Page<'_>) -> io::Result<()> {
    let report = page.report;
    let several = report.runtimes.len() > 1;
    let of = |id: &str| {
        let runtime = report.runtimes.iter().find(|runtime| runtime.id == id);
        let process = runtime.and_then(|runtime| report.process(runtime.pid));
        match process {
            Some(process) => format!(" of {id} in {}", sanitize(&process)),
            None if several => format!(" of {id}"),
            None => String::new(),
        }
    };
    let (style, word, text, site): (Style, &str, String, Option<usize>) = match &report.verdict {
        Verdict::Wedged {
            runtime,
            workers,
            total_ns,
            site,
        } => (
            BAD,
            "WEDGED",
            format!(
                "{}{} still waiting when the recording ended, each in one wait, for {} and longer: \
                 no task could run, and none will before one of these waits ends. Who holds what is \
                 under \"Still waiting\".",
                match workers {
                    1 => "The only worker".to_owned(),
                    2 => "Both workers".to_owned(),
                    _ => format!("All {workers} workers"),
                },
                match workers {
                    1 => format!("{} was", of(runtime)),
                    _ => format!("{} were", of(runtime)),
                },
                duration(*total_ns)
            ),
            *site,
        ),
        Verdict::Starved {
            runtime,
            workers,
            total_ns,
            longest_ns,
            share,
            cpu_share,
            site,
        } => (
            BAD,
            "STARVED",
            format!(
                "{} workers{} were blocked at once for {} ({} of the time), {} at a stretch. No \
                 task could run meanwhile. {}",
                match workers {
                    2 => "Both".to_owned(),
                    _ => format!("All {workers}"),
                },
                of(runtime),
                duration(*total_ns),
                percent(*share),
                duration(*longest_ns),
                cpu_use(report, *cpu_share)
            ),
            *site,
        ),
        Verdict::WorkersBlocked {
            runtime,
            workers,
            total_ns,
            longest_ns,
            share,
            cpu_share,
            site,
        } => (
            BAD,
            "BLOCKED",
            if *workers == 1 {
                format!(
                    "The only worker{} was blocked inside task polls for {} ({} of its time), {} \
                     at the longest. No other task could run meanwhile. {}",
                    of(runtime),
                    duration(*total_ns),
                    percent(*share),
                    duration(*longest_ns),
                    cpu_use(report, *cpu_share)
                )
            } else {
                format!(
                    "The {workers} workers{} were blocked inside task polls for {} of their time \
                     ({} together), {} at the longest. {}",
                    of(runtime),
                    percent(*share),
                    duration(*total_ns),
                    duration(*longest_ns),
                    cpu_use(report, *cpu_share)
                )
            },
            *site,
        ),
        Verdict::CpuStarved {
            runtime,
            share,
            throttled,
        } => (
            WARN,
            "NO CPU",
            format!(
                "The workers{} wanted a CPU and had none for {} of their time. {}",
                of(runtime),
                percent(*share),
                match (throttled, &report.throttling) {
                    (Some(throttled), Some(throttling)) => format!(
                        "The CPU quota of control group {} was used up in {} of its periods.",
                        sanitize(&throttling.group),
                        percent(*throttled)
                    ),
                    _ => "Look at the CPU quota of the container and at what else runs on this \
                          machine."
                        .to_owned(),
                }
            ),
            None,
        ),
        Verdict::LongPolls {
            runtime,
            polls,
            total_ns,
            longest_ns,
            share,
            site,
        } => (
            BAD,
            "CPU HOG",
            format!(
                "Tasks{} computed in {} without yielding, for {} together ({} of the workers' \
                 time), {} in one. The other tasks of the worker waited meanwhile.{}",
                of(runtime),
                counted(*polls, "long poll", "long polls"),
                duration(*total_ns),
                percent(*share),
                duration(*longest_ns),
                site.and_then(|index| report.long_polls.get(index))
                    .map_or_else(String::new, |site| format!(
                        " Worst: {}.",
                        display_name(site.task.as_deref().unwrap_or(&site.function))
                    ))
            ),
            None,
        ),
        Verdict::Unclear { runtime, share } => (
            WARN,
            "UNCLEAR",
            format!(
                "What the workers{} did is unknown for {} of their time: see the losses below.",
                of(runtime),
                percent(*share)
            ),
            None,
        ),
        Verdict::CpuBound { runtime, share } => (
            WARN,
            "CPU BOUND",
            format!(
                "The workers{} ran on a CPU for {} of their time and hardly ever waited. Tasks \
                 wait for each other's computing: look for long polls.",
                of(runtime),
                percent(*share)
            ),
            None,
        ),
        Verdict::Healthy {
            runtime,
            share,
            longest_ns,
        } => (
            GOOD,
            "HEALTHY",
            if *share > 0.0 {
                format!(
                    "The workers{} were blocked for {} of their time, {} at the longest.",
                    of(runtime),
                    percent(*share),
                    duration(*longest_ns)
                )
            } else {
                format!("No worker{} was ever blocked.", of(runtime))
            },
            None,
        ),
        Verdict::NoRuntime => (
            WARN,
            "NO RUNTIME",
            format!(
                "No tokio worker was seen to wait; {} in other ways.",
                counted(
                    report.threads.len() as u64,
                    "thread waited",
                    "threads waited"
                )
            ),
            None,
        ),
        Verdict::NothingSeen => (
            WARN,
            "NO DATA",
            "Nothing was recorded: no thread of the target was seen. Record for longer, or under \
             load."
                .to_owned(),
            None,
        ),
    };
    page.labelled((style, word), INDENT, &text)?;
    if let Some(site) = site.and_then(|index| report.sites.get(index)) {
        page.labelled((PLAIN, ""), INDENT, &worst(site))?;
    }
    Ok(())
}

/// How much the process computed: where workers are blocked and CPUs are free, more CPUs are of
/// no use.
fn cpu_use(report: &Report, share: f64) -> String {
    let cpus = counted(u64::from(report.host.cpus), "CPU", "CPUs");
    let text = format!("The process used {} of {cpus}", percent(share));
    if share < LOW_CPU {
        format!("{text}: it waited, it did not compute.")
    } else {
        format!("{text}.")
    }
}

fn worst(site: &Site) -> String {
    format!(
        "Worst: {}{}, {} in {}.",
        display_name(&site.function),
        location(site).map_or_else(String::new, |at| format!(" ({at})")),
        duration(site.total_ns),
        display_name(&site.wait)
    )
}

/// File and line of a site, as far as known.
pub(super) fn location(site: &Site) -> Option<String> {
    file_and_line(site.file.as_deref(), site.line)
}

/// `src/api.rs:54`, as far as known.
pub(super) fn file_and_line(file: Option<&str>, line: Option<u32>) -> Option<String> {
    let file = display_path(file?);
    Some(match line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    })
}
