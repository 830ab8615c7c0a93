//! The blocked time by cause and by task.

use super::page::Page;
use super::style::PLAIN;
use crate::counted::counted;
use crate::render::{display_name, percent};
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
