//! Panics by where in the code they began.

use super::cpu::{entry, part};
use super::location::{Location, location, task};
use super::role_times::verdict_of;
use super::sites::whole_stack;
use crate::recording::{PanicTotal, Recording, StackEntry, StackId};
use crate::report::{CpuPart, PanicReport, PanicSite};
use crate::symbolize::Frame;
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

/// The panics of one process.
pub(super) fn panics(recording: &Recording) -> Option<PanicReport> {
    let panics = recording.panics.as_ref()?;
    let mut sites: HashMap<(CpuPart, Location), Vec<&PanicTotal>> = HashMap::new();
    for total in &panics.totals {
        if let Some(key) = key(recording, total.stack) {
            sites.entry(key).or_default().push(total);
        }
    }
    let mut sites: Vec<PanicSite> = sites
        .into_iter()
        .filter_map(|((part, location), totals)| site(recording, part, location, &totals))
        .collect();
    sites.sort_by(order);
    Some(PanicReport {
        probed: panics.probed.clone(),
        problems: panics.problem.iter().cloned().collect(),
        sites,
    })
}

fn key(recording: &Recording, id: StackId) -> Option<(CpuPart, Location)> {
    let (state, role) = verdict_of(recording, id);
    Some((part(state, role), location(entry(recording, id)?)))
}

fn site(
    recording: &Recording,
    part: CpuPart,
    location: Location,
    totals: &[&PanicTotal],
) -> Option<PanicSite> {
    let last = totals.iter().max_by_key(|total| (total.last, total.tid))?;
    let stack = entry(recording, last.stack)?;
    let thread = recording.threads.iter().find(|t| t.tid == last.tid);
    let by = by(stack, &location).map_or_else(|| "panic!".to_owned(), str::to_owned);
    Some(PanicSite {
        function: location.function,
        file: location.file,
        line: location.line,
        task: task(stack),
        pid: recording.target.pid,
        part,
        by,
        panics: totals
            .iter()
            .fold(0, |sum: u64, total| sum.saturating_add(total.panics)),
        last_ns: last.last - recording.start,
        last_tid: last.tid,
        last_thread: thread.map_or_else(String::new, |thread| thread.name.clone()),
        last_task_id: last.task_id,
        stack: whole_stack(stack),
    })
}

/// What the site called to panic: the frame right below it, an inlined one too.
fn by<'a>(stack: &'a StackEntry, location: &Location) -> Option<&'a str> {
    let is_site = |frame: &Frame| frame.function == location.function;
    let below = stack.frames.iter().position(is_site)?.checked_sub(1)?;
    Some(&stack.frames.get(below)?.function)
}

/// Most first; then by whatever makes it a total order.
pub(super) fn order(a: &PanicSite, b: &PanicSite) -> Ordering {
    let order = |site: &PanicSite| (Reverse(site.panics), site.part, site.line, site.pid);
    order(a)
        .cmp(&order(b))
        .then_with(|| a.function.cmp(&b.function))
        .then_with(|| a.file.cmp(&b.file))
        .then_with(|| a.by.cmp(&b.by))
}

/// Adds those of another process.
pub(super) fn add(panics: &mut Option<PanicReport>, more: Option<PanicReport>) {
    let Some(more) = more else { return };
    let all = panics.get_or_insert_default();
    let new = |all: &mut Vec<String>, more: Vec<String>| {
        for text in more {
            if !all.contains(&text) {
                all.push(text);
            }
        }
    };
    new(&mut all.probed, more.probed);
    new(&mut all.problems, more.problems);
    all.sites.extend(more.sites);
    all.sites.sort_by(order);
}
