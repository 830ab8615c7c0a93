//! Panics by where in the code they began.

use super::location::{Location, location, task};
use super::stack_facts::{class_of, part, whole_stack};
use super::whole::Whole;
use crate::recording::{PanicSum, ProcessId, Stack, StackId};
use crate::report::{CpuPart, PanicReport, PanicSite};
use crate::symbolize::FrameRef;
use std::cmp::Reverse;
use std::collections::HashMap;

/// The panics; none where they were not counted.
pub(super) fn panics(whole: &Whole<'_>) -> Option<PanicReport> {
    if !whole.header.panics_counted {
        return None;
    }
    let mut sites: HashMap<(ProcessId, CpuPart, Location), Vec<&PanicSum>> = HashMap::new();
    for sum in whole.totals.panics.values() {
        if let Some((part, location)) = place(whole, sum.stack) {
            let key = (sum.thread.process, part, location);
            sites.entry(key).or_default().push(sum);
        }
    }
    let mut sites: Vec<PanicSite> = sites
        .into_iter()
        .filter_map(|((_, part, location), sums)| site(whole, part, location, &sums))
        .collect();
    sites.sort_by(|a, b| order(a).cmp(&order(b)));
    let processes = whole.tables.processes.iter();
    let probes = || processes.clone().filter_map(|p| p.panic_probes.as_ref());
    Some(PanicReport {
        probed: distinct(probes().flat_map(|probes| &probes.probed)),
        problems: distinct(probes().filter_map(|probes| probes.problem.as_ref())),
        sites,
    })
}

/// Each text once, in the order in which they came.
fn distinct<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for text in texts {
        if !all.contains(text) {
            all.push(text.clone());
        }
    }
    all
}

fn place(whole: &Whole<'_>, id: StackId) -> Option<(CpuPart, Location)> {
    let (state, role) = class_of(whole.tables, id);
    Some((part(state, role), location(whole.tables.stack(id)?)))
}

fn site(
    whole: &Whole<'_>,
    part: CpuPart,
    location: Location,
    sums: &[&PanicSum],
) -> Option<PanicSite> {
    let last = sums.iter().max_by_key(|sum| (sum.last, sum.thread))?;
    let stack = whole.tables.stack(last.stack)?;
    let by = by(stack, &location).map_or_else(|| "panic!".to_owned(), str::to_owned);
    Some(PanicSite {
        function: location.function,
        file: location.file,
        line: location.line,
        task: task(stack),
        pid: whole.pid(last.thread.process),
        part,
        by,
        panics: sums
            .iter()
            .fold(0, |all: u64, sum| all.saturating_add(sum.panics)),
        last_ns: last.last - whole.start,
        last_tid: last.thread.tid,
        last_thread: whole.tables.thread_name(last.thread).to_owned(),
        last_task_id: last.task_id,
        stack: whole_stack(stack),
    })
}

/// What the site called to panic: the frame right below it, an inlined one too.
fn by<'a>(stack: &'a Stack, location: &Location) -> Option<&'a str> {
    let is_site = |frame: &FrameRef| frame.function == location.function;
    let below = stack.frames.iter().position(is_site)?.checked_sub(1)?;
    Some(&stack.frames.get(below)?.function)
}

/// Most first; then by whatever makes it a total order.
fn order(site: &PanicSite) -> impl Ord {
    (
        Reverse(site.panics),
        site.part,
        site.line,
        site.pid,
        &site.function,
        &site.file,
        &site.by,
    )
}
