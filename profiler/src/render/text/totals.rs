//! The blocked time by cause and by task.

use super::blame::left;
use super::page::Page;
use super::style::PLAIN;
use crate::counted::counted;
use crate::render::{display_name, percent};
use crate::report::{Harm, Report, TaskReport};
use crate::units::Nanos;
use std::io;

/// Causes and tasks named.
const NAMED: usize = 3;
/// Where the text begins.
const INDENT: usize = 19;

/// What workers waited for in polls, and which tasks did.
pub(super) fn totals(page: &mut Page<'_>) -> io::Result<()> {
    let report = page.report;
    let causes = report.causes.iter();
    let causes: Vec<_> = causes
        .map(|total| (total.cause.name().to_owned(), total.total_ns))
        .collect();
    let whole: Nanos = causes.iter().map(|(_, time)| *time).sum();
    if whole == Nanos::ZERO {
        return Ok(());
    }
    if report.runtimes.len() > 1 {
        page.blank()?;
    }
    let mut tasks: Vec<(String, Nanos)> = Vec::new();
    for task in &report.tasks {
        let name = display_name(&task.function).clone();
        match tasks.iter_mut().find(|(known, _)| *known == name) {
            Some((_, time)) => *time += task.total_ns,
            None => tasks.push((name, task.total_ns)),
        }
    }
    // The sort is stable: of equals those that do more harm stay first.
    tasks.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    line(page, "  blocked by cause", &causes, whole)?;
    line(page, "  blocked by task", &tasks, whole)
}

/// What would be gained without tasks, where that is more than without one of their sites.
pub(super) fn harm(page: &mut Page<'_>) -> io::Result<()> {
    match harm_text(page.report) {
        Some(text) => page.labelled((PLAIN, "  harm by task"), INDENT, &text),
        None => Ok(()),
    }
}

/// From which share of the starved time on it is told what would be left of it without a task…
const TOLD_HARM: f64 = 0.1;
/// …if no site of the task does more than this share of its harm: else that site says it.
const OF_ONE_SITE: f64 = 0.95;

/// What would be left of the time in which no task could run, without all waits of a task: where that is more
/// than without any one of its sites.
fn harm_text(report: &Report) -> Option<String> {
    let mut told: Vec<&Harm> = Vec::new();
    let mut texts = Vec::new();
    for task in &report.tasks {
        let Some(harm) = task.harm.as_ref().filter(|_| texts.len() < NAMED) else {
            continue;
        };
        let starved = harm.starved_ns + harm.starved_left_ns;
        let of_site = harm_of_one_site(report, task, &harm.runtime);
        if harm.starved_ns.share_of(starved) < TOLD_HARM
            || of_site.share_of(harm.starved_ns) > OF_ONE_SITE
        {
            continue;
        }
        let is_told = told.iter().any(|known| known.runtime == harm.runtime);
        let name = display_name(&task.function);
        texts.push(format!("without {name} {}", left(harm, is_told)));
        told.push(harm);
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// The most harm that one site of a task does to a runtime.
fn harm_of_one_site(report: &Report, task: &TaskReport, runtime: &str) -> Nanos {
    let sites = report.sites.iter().filter(|site| site.pid == task.pid);
    let own = sites.filter(|site| site.tasks.iter().any(|of| of.function == task.function));
    let harms = own.flat_map(|site| &site.harm);
    let harms = harms.filter(|harm| harm.runtime == runtime);
    harms.map(|harm| harm.starved_ns).max().unwrap_or_default()
}

fn line(
    page: &mut Page<'_>,
    label: &str,
    parts: &[(String, Nanos)],
    whole: Nanos,
) -> io::Result<()> {
    if parts.is_empty() {
        return Ok(());
    }
    let named = parts.iter().take(NAMED);
    let named: Vec<String> = named
        .map(|(name, time)| format!("{name} {}", percent(time.share_of(whole))))
        .collect();
    let more = parts.len().saturating_sub(NAMED) as u64;
    let mut text = named.join(", ");
    if more > 0 {
        let rest = parts.iter().skip(NAMED).map(|(_, time)| *time);
        let rest: Nanos = rest.sum();
        text.push_str(&format!(
            ", {} {}",
            counted(more, "other", "others"),
            percent(rest.share_of(whole))
        ));
    }
    page.labelled((PLAIN, label), INDENT, &text)
}
