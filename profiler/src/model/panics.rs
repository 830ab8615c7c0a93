//! Panics by where in the code they began.

use super::cpu::{entry, part};
use super::place::{Place, place, task};
use super::recording::{PanicTotal, Recording, StackEntry, StackId};
use super::report::CpuPart;
use super::sites::whole_stack;
use super::tally::verdict_of;
use crate::symbolize::Frame;
use crate::units::{Nanos, Pid, Tid};
use serde::Serialize;
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

/// What was counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PanicReport {
    /// The functions that were probed, with their modules; where there are none, no panic could be
    /// counted. Raw.
    pub probed: Vec<String>,
    /// Why some could not be counted, a sentence each. Raw.
    pub problems: Vec<String>,
    /// Where they began, most first.
    pub sites: Vec<PanicSite>,
}

/// One place in the code where threads panicked.
#[derive(Clone, Debug, Serialize)]
pub struct PanicSite {
    /// As [`super::Site::function`].
    pub function: Arc<str>,
    /// Its source file, where line tables tell.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// The outermost async function of the task in which the last one was.
    pub task: Option<Arc<str>>,
    /// The process.
    pub pid: Pid,
    /// What the threads did: of a panic in a `poll` nobody hears but who awaits the task's handle.
    pub part: CpuPart,
    /// What the site called to panic, as `core::option::unwrap_failed`.
    pub by: String,
    /// How many.
    pub panics: u64,
    /// When the last one was, from the recording's start.
    pub last_ns: Nanos,
    /// Its thread.
    pub last_tid: Tid,
    /// The thread's name, raw.
    pub last_thread: String,
    /// tokio's id of the task in which it was, where that is known.
    pub last_task_id: Option<u64>,
    /// Its stack, leaf first.
    pub stack: Vec<Frame>,
}

/// The panics of one process.
pub(super) fn panics(recording: &Recording) -> Option<PanicReport> {
    let panics = recording.panics.as_ref()?;
    let mut sites: HashMap<(CpuPart, Place), Vec<&PanicTotal>> = HashMap::new();
    for total in &panics.totals {
        if let Some(key) = key(recording, total.stack) {
            sites.entry(key).or_default().push(total);
        }
    }
    let mut sites: Vec<PanicSite> = sites
        .into_iter()
        .filter_map(|((part, place), totals)| site(recording, part, place, &totals))
        .collect();
    sites.sort_by(order);
    Some(PanicReport {
        probed: panics.probed.clone(),
        problems: panics.problem.iter().cloned().collect(),
        sites,
    })
}

fn key(recording: &Recording, id: StackId) -> Option<(CpuPart, Place)> {
    let (state, role) = verdict_of(recording, id);
    Some((part(state, role), place(entry(recording, id)?)))
}

fn site(
    recording: &Recording,
    part: CpuPart,
    place: Place,
    totals: &[&PanicTotal],
) -> Option<PanicSite> {
    let last = totals.iter().max_by_key(|total| (total.last, total.tid))?;
    let stack = entry(recording, last.stack)?;
    let thread = recording.threads.iter().find(|t| t.tid == last.tid);
    let by = by(stack, &place).map_or_else(|| "panic!".to_owned(), str::to_owned);
    Some(PanicSite {
        function: place.function,
        file: place.file,
        line: place.line,
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
fn by<'a>(stack: &'a StackEntry, place: &Place) -> Option<&'a str> {
    let is_site = |frame: &Frame| frame.function == place.function;
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
