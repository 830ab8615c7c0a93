//! What was recorded, the verdict, and where the workers' time went.

use super::markup::{Bar, Segment, Text};
use crate::counted::counted;
use crate::render::states::{BY_GRAVITY, listed};
use crate::render::text::words::{self, Tone};
use crate::render::{duration, percent, sanitize};
use crate::report::{Report, RuntimeReport};
use crate::runtime::State;
use crate::units::Nanos;
use std::io;

/// Runtimes drawn; the rest is counted.
const RUNTIMES: usize = 32;
/// Processes listed.
const PROCESSES: usize = 64;

/// The name of what was recorded.
pub(super) fn program(report: &Report) -> String {
    match report.targets.len() {
        0 | 1 => sanitize(report.target.exe_name()).into_owned(),
        several => counted(several as u64, "process", "processes"),
    }
}

/// The line at the top.
pub(super) fn head(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let target = &report.target;
    let mut facts = Vec::new();
    if report.targets.len() < 2 {
        facts.push(format!("pid {}", target.pid));
    }
    facts.push(duration(report.duration_ns));
    if let Some(part) = report.part {
        facts.push(format!(
            "{} to {} of a recording of {}",
            duration(part.from_ns),
            duration(part.to_ns),
            duration(part.of_ns)
        ));
    }
    facts.push(report.started_at.replace('T', " ").replace(".000Z", "Z"));
    if report.targets.len() < 2 {
        facts.extend(words::tokio(target));
    }
    facts.push(format!("Linux {}", sanitize(&report.host.kernel)));
    facts.push(counted(u64::from(report.host.cpus), "CPU", "CPUs"));
    writeln!(
        out,
        "<header class=\"top\">\n<p class=\"brand\">holdup</p>\n<h1>{}</h1>\n<p class=\"facts\">{}</p>\n\
         <div id=\"tools\"></div>\n</header>",
        Text(&program(report)),
        facts
            .iter()
            .map(|fact| format!("<span>{}</span>", Text(fact)))
            .collect::<Vec<_>>()
            .join(" ")
    )
}

/// The main finding.
pub(super) fn verdict(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let spoken = words::spoken(report);
    let tone = match spoken.tone {
        Tone::Bad => "bad",
        Tone::Doubtful => "doubtful",
        Tone::Good => "good",
    };
    writeln!(
        out,
        "<section id=\"verdict\" class=\"verdict {tone}\">\n<h2>{}</h2>\n<div>\n<p>{}</p>",
        Text(spoken.word),
        Text(&spoken.text)
    )?;
    if let Some(first) = spoken.first {
        writeln!(out, "<p class=\"first\">{}</p>", Text(&first))?;
    }
    writeln!(out, "</div>\n</section>")?;
    if let Some(filter) = &report.filter {
        let only = filter.to_string();
        let fits = match report.lists_nothing() {
            true => " Nothing in the recording fits.",
            false => "",
        };
        writeln!(
            out,
            "<p class=\"note\">Only {}. The verdict, the times of workers and the losses are of everything.{fits}</p>",
            Text(&only)
        )?;
    }
    processes(report, out)
}

/// The processes, where there are several.
fn processes(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    if report.targets.len() < 2 {
        return Ok(());
    }
    writeln!(
        out,
        "<section id=\"processes\">\n<h2>Processes</h2>\n<ul class=\"plain\">"
    )?;
    for target in report.targets.iter().take(PROCESSES) {
        let mut text = format!("{} · pid {}", target.exe_name(), target.pid);
        text.extend(words::tokio(target).map(|tokio| format!(" · {tokio}")));
        text.extend(target.parent.map(|parent| format!(" · forked by {parent}")));
        text.extend(target.ended.as_ref().map(|ended| format!(" · {ended}")));
        writeln!(out, "<li>{}</li>", Text(&text))?;
    }
    let more = report.targets.len().saturating_sub(PROCESSES);
    if more > 0 {
        writeln!(out, "<li>… and {more} more</li>")?;
    }
    writeln!(out, "</ul>\n</section>")
}

/// Every runtime: its states as a bar, and when no task could run.
pub(super) fn runtimes(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    if report.runtimes.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section id=\"runtimes\">\n<h2>Where the workers’ time went</h2>\n<div class=\"cards\">"
    )?;
    for (index, runtime) in report.runtimes.iter().take(RUNTIMES).enumerate() {
        one(report, index, runtime, out)?;
    }
    writeln!(out, "</div>")?;
    let more = report.runtimes.len().saturating_sub(RUNTIMES) as u64;
    if more > 0 {
        let more = counted(more, "more runtime", "more runtimes");
        writeln!(out, "<p class=\"note\">… and {more}</p>")?;
    }
    writeln!(out, "</section>")
}

/// The class that gives a state its colour.
pub(super) const fn class(state: State) -> &'static str {
    match state {
        State::Blocked => "s-blocked",
        State::Runtime => "s-runtime",
        State::HandedOff => "s-handed-off",
        State::Pool => "s-pool",
        State::Running => "s-running",
        State::Runnable => "s-runnable",
        State::Idle => "s-idle",
        State::Stopped => "s-stopped",
        State::Other => "s-other",
        State::Unknown => "s-unknown",
    }
}

fn one(
    report: &Report,
    index: usize,
    runtime: &RuntimeReport,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let whole: Nanos = runtime.states.values().copied().sum();
    let of = |state| runtime.states.get(&state).copied().unwrap_or_default();
    let segment = |state| {
        let share = of(state).share_of(whole);
        Segment {
            share,
            class: class(state),
            title: format!("{} {}", words::label(state), percent(share)),
        }
    };
    let title = words::title(report, runtime);
    writeln!(
        out,
        "<article class=\"runtime\" data-runtime=\"{index}\">\n<h3>{} <span>{} of worker time</span></h3>\n{}",
        Text(&title),
        duration(whole),
        Bar(&BY_GRAVITY.map(segment))
    )?;
    writeln!(out, "<dl class=\"states\">")?;
    for (state, time) in listed(runtime) {
        writeln!(
            out,
            "<div data-state=\"{}\"><dt><i class=\"dot {}\"></i>{}</dt><dd>{}</dd><dd class=\"dim\">{}</dd></div>",
            state as usize,
            class(state),
            words::label(state),
            Text(&percent(time.share_of(whole))),
            duration(time)
        )?;
    }
    writeln!(out, "</dl>")?;
    halts(report, runtime, out)?;
    writeln!(out, "</article>")
}

/// When no task could run.
fn halts(report: &Report, runtime: &RuntimeReport, out: &mut dyn io::Write) -> io::Result<()> {
    let mut facts: Vec<(&str, String)> = Vec::new();
    if let Some(time) = runtime.in_calls_ns.filter(|time| *time > Nanos::ZERO) {
        facts.push(("in system calls", duration(time)));
    }
    let all: Nanos = runtime.blocked_at_once.iter().copied().sum();
    if runtime.workers > 1
        && runtime
            .blocked_at_once
            .iter()
            .skip(1)
            .any(|time| time.0 > 0)
    {
        let parts = words::groups(&runtime.blocked_at_once).into_iter();
        let parts: Vec<String> = parts
            .filter(|(_, time)| *time > Nanos::ZERO)
            .map(|(label, time)| format!("{label}: {}", percent(time.share_of(all))))
            .collect();
        facts.push(("blocked at once", parts.join(", ")));
    }
    if runtime.starved_ns > Nanos::ZERO {
        let share = percent(runtime.starved_ns.share_of(report.duration_ns));
        let stretches = match runtime.starved_stretches.as_slice() {
            [] => String::new(),
            longest => format!("; longest {}", words::stretches(longest)),
        };
        let text = format!("{} ({share}){stretches}", duration(runtime.starved_ns));
        facts.push(("no task could run", text));
    }
    if let Some(time) = runtime.unattended_ns.filter(|time| *time > Nanos::ZERO) {
        facts.push(("nobody waited for events", duration(time)));
    }
    if runtime.wedged_ns > Nanos::ZERO {
        facts.push(("wedged at the end", duration(runtime.wedged_ns)));
    }
    if facts.is_empty() {
        return Ok(());
    }
    writeln!(out, "<dl class=\"facts-list\">")?;
    for (label, text) in facts {
        writeln!(out, "<div><dt>{label}</dt><dd>{}</dd></div>", Text(&text))?;
    }
    writeln!(out, "</dl>")
}
