//! Time inside system calls, and panics.

use super::header::file_and_line;
use super::page::{DETAILS, Page};
use super::style::{BAD, DIM, PLAIN, WARN};
use crate::counted::counted;
use crate::recording::ObjectKind;
use crate::render::{count, display_name, duration, percent, process_name, sanitize};
use crate::report::{CallSite, CpuPart, PanicSite};
use crate::units::Nanos;
use std::io;

/// Sites shown in full.
const IN_FULL: usize = 5;
/// Objects named for each site.
const OBJECTS: usize = 3;

/// Calls that kept a worker without letting it wait.
pub(super) fn sites(page: &mut Page<'_>) -> io::Result<()> {
    let in_poll = |site: &&CallSite| matches!(site.part, CpuPart::Poll | CpuPart::BlockOn);
    let sites: Vec<&CallSite> = page.report.call_sites.iter().filter(in_poll).collect();
    if sites.is_empty() {
        return Ok(());
    }
    let least = duration(page.report.min_block_ns);
    let explanation = format!("CPU time of polls in one call of {least} or more");
    page.heading("Inside system calls", &explanation)?;
    for (index, site) in sites.iter().take(IN_FULL).enumerate() {
        call(page, index + 1, site)?;
    }
    let rest = sites.get(IN_FULL..).unwrap_or_default();
    let time: Nanos = rest.iter().map(|site| site.total_ns).sum();
    if !rest.is_empty() {
        let more = counted(rest.len() as u64, "more site", "more sites");
        let text = format!("… and {more}, {} together", duration(time));
        page.labelled((PLAIN, ""), 2, &text)?;
    }
    let lost = page.report.losses.calls;
    if lost > 0 {
        let lost = counted(
            lost,
            "more call or panic was lost",
            "more calls or panics were lost",
        );
        page.labelled((WARN, ""), 2, &format!("… and {lost}"))?;
    }
    Ok(())
}

fn call(page: &mut Page<'_>, number: usize, site: &CallSite) -> io::Result<()> {
    let at = file_and_line(site.file.as_deref(), site.line);
    let function = display_name(&site.function);
    head(page, number, &duration(site.total_ns), &function, at)?;
    page.detail("in", &display_name(&site.wait))?;
    if !site.call.is_empty() {
        let text = format!("{}: {}", site.cause.name(), sanitize(&site.call));
        page.detail("cause", &text)?;
    }
    objects(page, site)?;
    if let Some(task) = site.task.as_deref().map(display_name)
        && task != function
    {
        page.detail("task", &task)?;
    }
    if let Some(process) = process_name(page.report, site.pid) {
        page.detail("process", &sanitize(&process))?;
    }
    let mut text = format!(
        "{}: longest {}",
        counted(site.calls, "call", "calls"),
        duration(site.max_ns)
    );
    if site.part == CpuPart::BlockOn {
        text.push_str(", in a block_on outside the workers");
    }
    page.labelled((DIM, "      calls"), DETAILS, &text)?;
    if let Some(advice) = site.advice {
        page.labelled((DIM, "      instead"), DETAILS, advice.text)?;
        page.labelled((DIM, ""), DETAILS, advice.url)?;
    }
    Ok(())
}

/// What the calls were for, where that is more than one thing.
fn objects(page: &mut Page<'_>, site: &CallSite) -> io::Result<()> {
    let telling = |kind: ObjectKind| !matches!(kind, ObjectKind::Futex | ObjectKind::Timer);
    let all: Vec<_> = site.objects.iter().filter(|o| telling(o.kind)).collect();
    if all.len() < 2 {
        return Ok(());
    }
    for (index, object) in all.iter().take(OBJECTS).enumerate() {
        let share = percent(object.total_ns.share_of(site.total_ns));
        let text = format!("{} {share}", sanitize(&object.name));
        page.detail(if index == 0 { "for" } else { "" }, &text)?;
    }
    let more = all.len().saturating_sub(OBJECTS) as u64 + site.more_objects;
    if more > 0 {
        page.detail("", &format!("… and {} more", count(more)))?;
    }
    Ok(())
}

/// Panics, where they were to be counted; that there were none is said too.
pub(super) fn panics(page: &mut Page<'_>) -> io::Result<()> {
    let Some(panics) = &page.report.panics else {
        return Ok(());
    };
    page.heading("Panics", "a task's is swallowed by its JoinHandle")?;
    for (index, site) in panics.sites.iter().take(IN_FULL).enumerate() {
        panic(page, index + 1, site)?;
    }
    let rest = panics.sites.get(IN_FULL..).unwrap_or_default();
    if !rest.is_empty() {
        let more = counted(rest.len() as u64, "more site", "more sites");
        let all = rest.iter().map(|site| site.panics).sum();
        let text = format!("… and {more}, {} together", counted(all, "panic", "panics"));
        page.labelled((PLAIN, ""), 2, &text)?;
    }
    if panics.sites.is_empty() && !panics.probed.is_empty() {
        page.labelled((PLAIN, ""), 2, "none")?;
    }
    for problem in &panics.problems {
        page.labelled((WARN, "  not counted"), DETAILS, &sanitize(problem))?;
    }
    Ok(())
}

fn panic(page: &mut Page<'_>, number: usize, site: &PanicSite) -> io::Result<()> {
    let at = file_and_line(site.file.as_deref(), site.line);
    let function = display_name(&site.function);
    head(page, number, &count(site.panics), &function, at)?;
    page.detail("by", &display_name(&site.by))?;
    if let Some(task) = site.task.as_deref().map(display_name)
        && task != function
    {
        page.detail("task", &task)?;
    }
    if let Some(process) = process_name(page.report, site.pid) {
        page.detail("process", &sanitize(&process))?;
    }
    let task = site
        .last_task_id
        .map_or_else(String::new, |id| format!(", task {id}"));
    let text = format!(
        "at {}{task}, on thread {} ({}), {}",
        duration(site.last_ns),
        sanitize(&site.last_thread),
        site.last_tid,
        what(site.part)
    );
    page.labelled((DIM, "      last"), DETAILS, &text)
}

const fn what(part: CpuPart) -> &'static str {
    match part {
        CpuPart::Poll => "in a task poll",
        CpuPart::BlockOn => "in a block_on",
        CpuPart::BlockInPlace => "in a block_in_place",
        CpuPart::BlockingPool => "in a spawn_blocking closure",
        CpuPart::Runtime => "in tokio's own code",
        CpuPart::Other => "outside tokio",
        CpuPart::Unknown => "on a stack that does not tell where",
    }
}

/// The first line of a site, and where it is.
fn head(
    page: &mut Page<'_>,
    number: usize,
    figure: &str,
    function: &str,
    at: Option<String>,
) -> io::Result<()> {
    let mut line = page.line();
    line.push_right(DIM, &format!("{number}."), 4)
        .push_right(BAD, figure, 10)
        .push(PLAIN, "  ");
    page.site(line, function, at)
}
