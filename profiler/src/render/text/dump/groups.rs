//! Threads that do the same, told once.

use super::sheet::{DETAILS, Sheet};
use super::words;
use crate::counted::counted;
use crate::render::text::sites::why;
use crate::render::text::style::{BAD, DIM, PLAIN, WARN};
use crate::render::{display_name, display_path, sanitize};
use crate::report::dump::{DumpKind, DumpRuntime, DumpThread};
use crate::report::{GroupedBy, RuntimeKind};
use crate::runtime::{Role, State};
use crate::symbolize::{FrameRef, Space};
use anstyle::Style;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Threads named for each group.
const NAMED: usize = 4;
/// Different objects or holders told for each group.
const OBJECTS: usize = 3;
/// Groups shown of a runtime, and of the others.
const GROUPS: usize = 24;
/// Columns of the number of threads: `9,999 threads`.
const THREADS: usize = 13;

/// Threads with one stack, in one state, of one runtime: in the order of the dump.
pub(super) struct Grouped<'a> {
    groups: Vec<Group<'a>>,
}

/// Some threads that do the same.
struct Group<'a> {
    threads: Vec<&'a DumpThread>,
}

/// Whether a thread belongs to a section.
type Test = fn(&DumpThread) -> bool;

/// What threads of a group have in common.
type Key<'a> = (
    Option<&'a str>,
    State,
    Role,
    Vec<(&'a str, Option<u32>)>,
    String,
);

impl<'a> Grouped<'a> {
    /// Groups all threads.
    pub(super) fn of(dump: &'a crate::report::dump::Dump) -> Grouped<'a> {
        let mut found: BTreeMap<Key<'a>, usize> = BTreeMap::new();
        let mut groups: Vec<Group<'a>> = Vec::new();
        for thread in &dump.threads {
            let frame = |frame: &'a FrameRef| (&*frame.function, frame.line);
            let key = (
                thread.runtime.as_deref(),
                thread.state,
                thread.role,
                thread.stack.iter().map(frame).collect(),
                format!(
                    "{} {}",
                    thread.pid,
                    thread.cause.map_or("", |cause| cause.name())
                ),
            );
            let index = *found.entry(key).or_insert_with(|| {
                groups.push(Group {
                    threads: Vec::new(),
                });
                groups.len() - 1
            });
            if let Some(group) = groups.get_mut(index) {
                group.threads.push(thread);
            }
        }
        Grouped { groups }
    }
}

impl Group<'_> {
    fn is_of(&self, runtime: Option<&str>) -> bool {
        self.first()
            .is_some_and(|thread| thread.runtime.as_deref() == runtime)
    }

    fn first(&self) -> Option<&DumpThread> {
        self.threads.first().copied()
    }

    fn count(&self) -> u64 {
        self.threads.len() as u64
    }
}

/// A runtime: what is found of it, and its workers.
pub(super) fn of_runtime(
    sheet: &mut Sheet<'_>,
    grouped: &Grouped<'_>,
    runtime: &DumpRuntime,
) -> io::Result<()> {
    sheet.heading(&title(sheet, runtime), &counts(runtime))?;
    let own = grouped.groups.iter();
    let own = own.filter(|group| group.is_of(Some(&runtime.id)));
    let told: Vec<&Group<'_>> = own
        .filter(|group| {
            let idle = group
                .first()
                .is_some_and(|thread| thread.state == State::Idle);
            sheet.shown.all || !idle
        })
        .collect();
    show(sheet, &told)?;
    if runtime.idle > 0 && !sheet.shown.all {
        let workers = counted(u64::from(runtime.idle), "worker is", "workers are");
        let text = format!("{workers} idle: parked, with nothing to do");
        sheet.labelled((PLAIN, ""), 2, &text)?;
    }
    Ok(())
}

/// `rt0 of claims_api (4711): multi_thread, 2 workers`.
fn title(sheet: &Sheet<'_>, runtime: &DumpRuntime) -> String {
    let kind = match runtime.kind {
        RuntimeKind::MultiThread => "multi_thread",
        RuntimeKind::CurrentThread => "current_thread",
        RuntimeKind::LocalSet => "LocalSet",
    };
    let workers = counted(u64::from(runtime.workers), "worker", "workers");
    let name = sanitize(&runtime.thread_name);
    let of = if sheet.dump.processes.len() > 1 {
        let mut processes = sheet.dump.processes.iter();
        let process = processes.find(|process| process.pid == runtime.pid);
        let exe = process.map_or("", |process| process.exe_name());
        format!(" of {} ({})", sanitize(exe), runtime.pid)
    } else {
        String::new()
    };
    let guess = match runtime.grouped_by {
        GroupedBy::Guess => " (grouped by a guess)",
        GroupedBy::Handle | GroupedBy::Thread | GroupedBy::Process => "",
    };
    format!("{}{of}: {kind}, {workers} `{name}`{guess}", runtime.id)
}

/// `2 blocked, 1 running, 1 idle`.
fn counts(runtime: &DumpRuntime) -> String {
    let counts = [
        (runtime.blocked, "blocked"),
        (runtime.stopped, "stopped"),
        (runtime.running, "on a CPU"),
        (runtime.runnable, "waiting for a CPU"),
        (runtime.idle, "idle"),
        (runtime.others, "elsewhere"),
    ];
    let parts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    parts.join(", ")
}

/// Threads that work for no runtime: those of the blocking pool, those in a `block_on`, and others.
pub(super) fn elsewhere(sheet: &mut Sheet<'_>, grouped: &Grouped<'_>) -> io::Result<()> {
    let pool = of_pool(sheet);
    let parts: [(&str, &str, Test); 5] = [
        (
            "In block_in_place",
            "their workers' tasks go on elsewhere",
            |thread| thread.state == State::HandedOff,
        ),
        ("In the blocking pool", &pool, |thread| {
            thread.role == Role::PoolThread && thread.state != State::Idle
        }),
        ("In a block_on", "outside the workers", |thread| {
            thread.role == Role::BlockOn && thread.state != State::Idle
        }),
        (
            "In tokio's own code",
            "outside the workers, as who drops a runtime",
            |thread| thread.role == Role::None && thread.state == State::Runtime,
        ),
        ("Not known", "these may be workers", |thread| {
            thread.state == State::Unknown && thread.role == Role::None
        }),
    ];
    let rest: Vec<&Group<'_>> = grouped
        .groups
        .iter()
        .filter(|group| group.is_of(None))
        .collect();
    let mut told: BTreeSet<usize> = BTreeSet::new();
    for (heading, explanation, is_of) in parts {
        let own = (0..).zip(&rest);
        let own = own.filter(|(_, group)| group.first().is_some_and(is_of));
        let own: Vec<(usize, &Group<'_>)> = own
            .filter(|(index, _)| !told.contains(index))
            .map(|(index, group)| (index, *group))
            .collect();
        if own.is_empty() {
            continue;
        }
        told.extend(own.iter().map(|(index, _)| *index));
        sheet.heading(heading, explanation)?;
        let own: Vec<&Group<'_>> = own.into_iter().map(|(_, group)| group).collect();
        show(sheet, &own)?;
    }
    let others = (0..).zip(rest).filter(|(index, _)| !told.contains(index));
    let others: Vec<&Group<'_>> = others.map(|(_, group)| group).collect();
    outside(sheet, &others)
}

/// Whether the blocking pool has a thread for what comes next.
fn of_pool(sheet: &Sheet<'_>) -> String {
    let threads = sheet.dump.threads.iter();
    let of_pool = threads.filter(|thread| thread.role == Role::PoolThread);
    let busy = of_pool.clone().filter(|thread| thread.state != State::Idle);
    match (of_pool.count(), busy.count()) {
        (all, busy) if busy < all => String::new(),
        (all, _) => {
            format!("all {all} busy; more start up to the limit, 512 unless set")
        }
    }
}

/// Idle threads of the pool, and those that are none of tokio's: a line, unless all are wanted.
fn outside(sheet: &mut Sheet<'_>, others: &[&Group<'_>]) -> io::Result<()> {
    if others.is_empty() {
        return Ok(());
    }
    if sheet.shown.all {
        sheet.heading("Other threads", "")?;
        return show(sheet, others);
    }
    let threads: Vec<&DumpThread> = others
        .iter()
        .flat_map(|group| group.threads.iter().copied())
        .collect();
    let idle = |role: Role| {
        let idle = threads
            .iter()
            .filter(|thread| thread.role == role && thread.state == State::Idle);
        idle.count() as u64
    };
    let (pool, block_on) = (idle(Role::PoolThread), idle(Role::BlockOn));
    let others = threads.len() as u64 - pool - block_on;
    let mut parts = Vec::new();
    if pool > 0 {
        let of = counted(pool, "idle thread", "idle threads");
        parts.push(format!("{of} of the blocking pool"));
    }
    if block_on > 0 {
        let of = counted(block_on, "block_on", "block_ons");
        parts.push(format!("{of} with nothing to do"));
    }
    if others > 0 {
        let others = counted(others, "thread", "threads");
        parts.push(format!("{others} outside tokio"));
    }
    sheet.blank()?;
    let text = format!("{} (--all shows them)", parts.join(", "));
    sheet.labelled((DIM, "Also"), 6, &text)
}

fn show(sheet: &mut Sheet<'_>, groups: &[&Group<'_>]) -> io::Result<()> {
    let shown = if sheet.shown.all {
        groups.len()
    } else {
        GROUPS
    };
    for group in groups.iter().take(shown) {
        one(sheet, group)?;
    }
    let rest = groups.get(shown..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(());
    }
    let threads: u64 = rest.iter().map(|group| group.count()).sum();
    let threads = counted(threads, "more thread", "more threads");
    sheet.labelled(
        (PLAIN, ""),
        2,
        &format!("… and {threads} (--all shows them)"),
    )
}

const fn style(thread: &DumpThread) -> Style {
    match thread.state {
        State::Blocked => BAD,
        State::Stopped | State::Unknown | State::Runnable => WARN,
        _ => PLAIN,
    }
}

/// A group: for how long, in which state, how many, where; and what is known of it.
fn one(sheet: &mut Sheet<'_>, group: &Group<'_>) -> io::Result<()> {
    let Some(first) = group.first() else {
        return Ok(());
    };
    let style = style(first);
    let mut line = sheet.line();
    line.push_right(style, &words::since(first), 14)
        .push(PLAIN, "  ")
        .push(style, &format!("{:<10}", first.state.name()))
        .push_right(PLAIN, &counted(group.count(), "thread", "threads"), THREADS)
        .push(PLAIN, "  ");
    let function = match &first.function {
        Some(function) => display_name(function),
        None if first.state == State::Running => "[no sample]".to_owned(),
        None => "[no stack]".to_owned(),
    };
    sheet.site(line, &function, words::place(first).as_deref())?;
    // Where nothing has a name it says no more than the cause does.
    let wait = first.wait.as_ref().filter(|wait| wait.contains("::"));
    if let Some(wait) = wait.filter(|_| first.state != State::Idle) {
        sheet.detail("in", &display_name(wait))?;
    }
    sheet.detail("thread", &names(group))?;
    if let Some(task) = &first.task {
        let ids = ids(group);
        let task = display_name(task);
        sheet.detail("task", &format!("{task}{ids}"))?;
    }
    if let Some(by) = first.stopped_by {
        sheet.detail("held by", words::stopped_by(by))?;
    }
    if first.state != State::Idle {
        if let Some(cause) = words::cause(first) {
            sheet.detail("cause", &cause)?;
        }
        waited_for(sheet, group)?;
    }
    if let Some(queued) = words::held_up(group.threads.iter().copied()) {
        sheet.detail("held up", &queued)?;
    }
    if sheet.shown.stacks {
        stack(sheet, first)?;
    }
    Ok(())
}

/// Which threads.
fn names(group: &Group<'_>) -> String {
    let named = group.threads.iter().take(NAMED);
    let mut names: Vec<String> = named
        .map(|thread| words::thread(&thread.name, thread.tid))
        .collect();
    if group.threads.len() > NAMED {
        names.push(format!("{} more", group.threads.len() - NAMED));
    }
    names.join(", ")
}

/// The ids of the tasks that are polled, where they are known.
fn ids(group: &Group<'_>) -> String {
    let ids: BTreeSet<u64> = group
        .threads
        .iter()
        .filter_map(|thread| thread.task_id)
        .collect();
    let named: Vec<String> = ids.iter().take(NAMED).map(u64::to_string).collect();
    match (named.len(), ids.len()) {
        (0, _) => String::new(),
        (1, 1) => format!(" (id {})", named.concat()),
        (named_of, all) if all > named_of => {
            format!(" (ids {} and {} more)", named.join(", "), all - named_of)
        }
        _ => format!(" (ids {})", named.join(", ")),
    }
}

/// What the threads of a group wait for and who holds that, each once.
fn waited_for(sheet: &mut Sheet<'_>, group: &Group<'_>) -> io::Result<()> {
    let mut told: BTreeSet<(Option<String>, Option<String>)> = BTreeSet::new();
    for thread in &group.threads {
        let object = words::waited_for(thread);
        let holder = words::holder(sheet, thread);
        if !told.insert((object.clone(), holder.clone())) {
            continue;
        }
        if told.len() > OBJECTS {
            sheet.detail("", "… (-f json has all)")?;
            break;
        }
        if let Some(object) = object {
            sheet.detail("for", &object)?;
        }
        if let Some(holder) = holder {
            sheet.detail("held by", &holder)?;
        }
    }
    Ok(())
}

/// Every frame, innermost first.
fn stack(sheet: &mut Sheet<'_>, thread: &DumpThread) -> io::Result<()> {
    for (index, frame) in thread.stack.iter().enumerate() {
        let mut line = sheet.line();
        let number = if frame.inlined && frame.space == Space::User {
            "│".to_owned()
        } else {
            format!("#{index}")
        };
        line.push_right(DIM, &number, DETAILS - 2).push(PLAIN, "  ");
        let mut text = display_name(&frame.function);
        if frame.space == Space::Kernel {
            text.push_str(" [kernel]");
        }
        let place = frame.file.as_ref().map(|file| display_path(file));
        let place = place.map(|file| match frame.line {
            Some(line) => format!("{file}:{line}"),
            None => file,
        });
        let room = sheet.width.saturating_sub(line.width());
        line.push(PLAIN, &sheet.fit_left(&text, room));
        if let Some(place) = place {
            let room = sheet.width.saturating_sub(line.width() + 2);
            if room > 8 {
                line.push(PLAIN, "  ")
                    .push(DIM, &sheet.fit_left(&place, room));
            }
        }
        sheet.put(&line)?;
    }
    if let Some(truncated) = thread.truncated {
        let text = format!("… the stack ends early: {}", why(truncated));
        sheet.labelled((PLAIN, ""), DETAILS, &text)?;
    }
    Ok(())
}

/// Whether a runtime is worth a look.
pub(super) const fn is_grave(runtime: &DumpRuntime) -> bool {
    matches!(
        runtime.finding,
        DumpKind::Wedged | DumpKind::Stopped | DumpKind::AllBlocked
    )
}
