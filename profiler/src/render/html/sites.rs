//! Where threads waited: a table that the page's script sorts, filters and counts anew.

use super::markup::Text;
use super::summary::class;
use crate::counted::counted;
use crate::render::text::words;
use crate::render::{count, display_name, duration, percent, process_name, sanitize};
use crate::report::{Report, Site};
use crate::symbolize::{FrameRef, Space};
use crate::units::Nanos;
use std::io;

/// Rows, at most: a browser lays them all out at once.
const ROWS: usize = 500;
/// Rows with their stack.
const WITH_STACK: usize = 100;
/// Frames of a stack.
const FRAMES: usize = 64;
/// Tasks named for each site.
const TASKS: usize = 3;

/// The sites that have a row, in the order of the report.
pub(super) fn rows(report: &Report) -> Vec<&Site> {
    report.sites.iter().take(ROWS).collect()
}

const HEAD: &str = "<thead><tr>\
<th scope=\"col\" class=\"num\" data-key=\"total\">Waited</th>\
<th scope=\"col\" class=\"num\" data-key=\"share\">Share</th>\
<th scope=\"col\" class=\"num\" data-key=\"harm\" title=\"By how much the time in which no task could run would shrink without these waits\">Harm</th>\
<th scope=\"col\" class=\"num\" data-key=\"waits\">Waits</th>\
<th scope=\"col\" class=\"num\" data-key=\"p50\">p50</th>\
<th scope=\"col\" class=\"num\" data-key=\"p99\">p99</th>\
<th scope=\"col\" class=\"num\" data-key=\"max\">Max</th>\
<th scope=\"col\" data-key=\"cause\">Cause</th>\
<th scope=\"col\" data-key=\"state\">State</th>\
<th scope=\"col\" data-key=\"name\">Site</th>\
</tr></thead>";

/// The table.
pub(super) fn table(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(
        out,
        "<section id=\"sites\">\n<h2>Where threads waited</h2>\n<div id=\"site-controls\"></div>"
    )?;
    let rows = rows(report);
    if rows.is_empty() {
        return writeln!(out, "<p class=\"note\">Nowhere.</p>\n</section>");
    }
    writeln!(
        out,
        "<div class=\"scroll\" role=\"region\" aria-label=\"Sites\" tabindex=\"0\">\n<table class=\"grid\">\
         \n<caption class=\"sr\">Places in the code where threads waited</caption>\n{HEAD}\n<tbody>"
    )?;
    let all: Nanos = report.sites.iter().map(|site| site.total_ns).sum();
    for (index, site) in rows.iter().enumerate() {
        row(report, (index, site), all, out)?;
    }
    writeln!(out, "</tbody>\n</table>\n</div>")?;
    let rest = report.sites.get(rows.len()..).unwrap_or_default();
    if !rest.is_empty() {
        let time: Nanos = rest.iter().map(|site| site.total_ns).sum();
        let more = counted(rest.len() as u64, "more site", "more sites");
        let time = duration(time);
        writeln!(out, "<p class=\"note\">… and {more}, {time} together</p>")?;
    }
    let unknown = report.losses.unknown_waits;
    if unknown > 0 {
        let waits = counted(unknown, "more wait has", "more waits have");
        writeln!(
            out,
            "<p class=\"note\">{waits} no known state: any of these may be blocked</p>"
        )?;
    }
    writeln!(out, "</section>")
}

fn row(
    report: &Report,
    (index, site): (usize, &Site),
    all: Nanos,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let harm = match site.harm_ns {
        Nanos::ZERO => "–".to_owned(),
        harm => duration(harm),
    };
    let numbers = [
        duration(site.total_ns),
        percent(site.total_ns.share_of(all)),
        harm,
        count(site.waits),
        duration(site.p50_ns),
        duration(site.p99_ns),
        duration(site.max_ns),
    ];
    write!(out, "<tr data-site=\"{index}\">")?;
    for number in numbers {
        write!(out, "<td class=\"num\">{}</td>", Text(&number))?;
    }
    let (cause, state) = (site.cause.name(), site.state.name());
    write!(
        out,
        "<td><i class=\"dot c-{cause}\"></i>{cause}</td><td><i class=\"dot {}\"></i>{state}</td>",
        class(site.state)
    )?;
    write!(
        out,
        "<td class=\"site\"><details><summary><span class=\"fn\">{}</span>",
        Text(&display_name(&site.function))
    )?;
    if let Some(at) = words::location(site) {
        write!(out, " <span class=\"at\">{}</span>", Text(&at))?;
    }
    write!(out, "</summary>")?;
    details(report, site, out)?;
    if index < WITH_STACK {
        stack(site, out)?;
    }
    writeln!(out, "</details></td></tr>")
}

fn details(report: &Report, site: &Site, out: &mut dyn io::Write) -> io::Result<()> {
    write!(out, "<dl>")?;
    let mut one = |label: &str, text: &str| -> io::Result<()> {
        write!(out, "<dt>{label}</dt><dd>{}</dd>", Text(text))
    };
    if let Some(process) = process_name(report, site.pid) {
        one("process", &sanitize(&process))?;
    }
    if report.runtimes.len() > 1 && !site.runtimes.is_empty() {
        let shares = site.runtimes.iter().take(TASKS).map(|share| {
            let part = percent(share.total_ns.share_of(site.total_ns));
            format!("{} {part}", share.runtime)
        });
        one("runtime", &shares.collect::<Vec<_>>().join(", "))?;
    }
    one("in", &display_name(&site.wait))?;
    if site.inlined_into {
        one("note", words::INLINED)?;
    }
    if !site.call.is_empty() {
        let also = words::other_causes(site);
        let also = also.map_or_else(String::new, |also| format!("; {also}"));
        one(
            "cause",
            &format!("{}: {}{also}", site.cause.name(), sanitize(&site.call)),
        )?;
    }
    let (objects, more) = words::object_texts(site);
    for object in &objects {
        one("for", object)?;
    }
    if more > 0 {
        one("for", &format!("… and {} more", count(more)))?;
    }
    for task in site.tasks.iter().take(TASKS) {
        let share = percent(task.total_ns.share_of(site.total_ns));
        one("task", &format!("{} {share}", display_name(&task.function)))?;
    }
    if site.tasks.len() > TASKS {
        one("task", &format!("… and {} more", site.tasks.len() - TASKS))?;
    }
    one("waits", &words::waits(site))?;
    for waker in words::wakers(report, site) {
        one("woken by", &waker)?;
    }
    if let Some(meanwhile) = words::meanwhile(report, site) {
        one("meanwhile", &meanwhile)?;
    }
    if let Some(queued) = site.queued.as_ref().and_then(words::held_up) {
        one("held up", &queued)?;
    }
    if let Some(harm) = words::harm(report, site) {
        one("harm", &harm)?;
    }
    if let Some(advice) = site.advice {
        one("instead", advice.text)?;
        // A link of ours: nothing of the target is in it.
        let url = Text(advice.url);
        write!(
            out,
            "<dt>see</dt><dd><a href=\"{url}\" rel=\"noreferrer\">{url}</a></dd>"
        )?;
    }
    if let Some(truncation) = site.truncated {
        let text = format!("the stack is cut off: {}", words::why(truncation));
        write!(out, "<dt>note</dt><dd>{}</dd>", Text(&text))?;
    }
    write!(out, "</dl>")
}

/// The stack with the most time, leaf first, without the kernel's frames: the cause says more.
fn stack(site: &Site, out: &mut dyn io::Write) -> io::Result<()> {
    let user = |frame: &&FrameRef| frame.space == Space::User;
    let mut frames = site.stack.iter().filter(user).peekable();
    if frames.peek().is_none() {
        return Ok(());
    }
    write!(out, "<ol class=\"stack\">")?;
    for frame in frames.take(FRAMES) {
        let name = display_name(&frame.function);
        write!(out, "<li>{}", Text(&name))?;
        if let Some(at) = words::file_and_line(frame.file.as_deref(), frame.line) {
            write!(out, " <span class=\"at\">{}</span>", Text(&at))?;
        }
        write!(out, "</li>")?;
    }
    write!(out, "</ol>")
}
