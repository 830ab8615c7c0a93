//! The finding of a dump, and what it does not show.

use super::groups::is_grave;
use super::sheet::Sheet;
use crate::counted::counted;
use crate::recording::{Holder, Process, STANDSTILL};
use crate::render::text::line::{cut_right, width};
use crate::render::text::may_hide::dump_may_hide;
use crate::render::text::open::stood_still;
use crate::render::text::style::{BAD, DIM, GOOD, HEADING, PLAIN, WARN};
use crate::render::{duration, sanitize};
use crate::report::RuntimeKind;
use crate::report::dump::{DumpKind, DumpRuntime, DumpThread};
use crate::runtime::State;
use crate::units::{Nanos, Pid};
use anstyle::Style;
use std::io;

/// Column where the finding's text begins.
const INDENT: usize = 13;
/// Processes named in the first line.
const NAMED: usize = 3;

/// The programs and the time.
pub(super) fn target(sheet: &mut Sheet<'_>) -> io::Result<()> {
    let dump = sheet.dump;
    let name = |process: &Process| format!("{} ({})", sanitize(process.exe_name()), process.pid);
    let mut names: Vec<String> = dump.processes.iter().take(NAMED).map(name).collect();
    if dump.processes.len() > NAMED {
        names.push(format!("{} more", dump.processes.len() - NAMED));
    }
    let mut facts = Vec::new();
    if let [process] = dump.processes.as_slice()
        && let Some(version) = &process.tokio_version
    {
        facts.push(format!("tokio {}", sanitize(version)));
    }
    let threads = counted(dump.threads.len() as u64, "thread", "threads");
    facts.push(threads);
    facts.push(dump.taken_at.replace('T', " "));
    facts.push(format!("two looks {} apart", duration(dump.looked_ns)));
    let mut line = sheet.line();
    line.push(HEADING, &cut_right(&names.join(", "), sheet.width / 2));
    for fact in facts {
        let more = format!(" · {fact}");
        if line.width() + width(&more) > sheet.width {
            break;
        }
        line.push(DIM, &more);
    }
    sheet.put(&line)?;
    sheet.blank()
}

/// The main finding.
pub(super) fn verdict(sheet: &mut Sheet<'_>) -> io::Result<()> {
    let dump = sheet.dump;
    let id = dump.verdict.runtime.as_deref();
    let runtime = dump
        .runtimes
        .iter()
        .find(|runtime| Some(runtime.id.as_str()) == id);
    let (style, word, text) = words(sheet, dump.verdict.kind, runtime);
    sheet.labelled((style, word), INDENT, &text)?;
    let others = dump.runtimes.iter();
    let others = others.filter(|other| is_grave(other) && Some(other.id.as_str()) != id);
    let others: Vec<String> = others
        .map(|other| format!("{} {}", whose(sheet, other), in_brief(other.finding)))
        .collect();
    if !others.is_empty() {
        sheet.labelled(
            (PLAIN, ""),
            INDENT,
            &format!("Also: {}.", others.join(", ")),
        )?;
    }
    Ok(())
}

const fn in_brief(finding: DumpKind) -> &'static str {
    match finding {
        DumpKind::Wedged => "wedged",
        DumpKind::Stopped => "stopped",
        DumpKind::AllBlocked => "with all workers blocked",
        DumpKind::Blocked => "with blocked workers",
        DumpKind::PoolFull => "with a full blocking pool",
        DumpKind::Unclear => "unclear",
        DumpKind::Healthy => "healthy",
    }
}

fn words(
    sheet: &Sheet<'_>,
    kind: DumpKind,
    runtime: Option<&DumpRuntime>,
) -> (Style, &'static str, String) {
    let whose = runtime.map_or_else(String::new, |runtime| whose(sheet, runtime));
    let long = runtime.map_or(Nanos::ZERO, |runtime| runtime.all_blocked_ns);
    let workers = runtime.map_or(0, |runtime| runtime.workers);
    match (kind, runtime) {
        (DumpKind::Wedged, Some(runtime)) => {
            (BAD, "WEDGED", wedged(runtime, &whose, for_ever(sheet)))
        }
        (DumpKind::Wedged, None) => {
            let text = format!(
                "Threads outside the workers wait for each other{}.",
                for_ever(sheet)
            );
            (BAD, "WEDGED", text)
        }
        (DumpKind::Stopped, _) => {
            let verb = if workers == 1 { "is" } else { "are" };
            let text = format!("{} of {whose} {verb} held from outside.", all(workers));
            (WARN, "STOPPED", text)
        }
        (DumpKind::AllBlocked, _) => {
            let verb = if workers == 1 { "is" } else { "are" };
            let text = format!(
                "{} of {whose} {verb} blocked right now{}. A single dump cannot show whether that lasts: \
                 `holdup record` measures it.",
                all(workers),
                if long == Nanos::ZERO {
                    String::new()
                } else {
                    format!(", for {} so far", duration(long))
                }
            );
            (BAD, "BLOCKED", text)
        }
        (DumpKind::Blocked, Some(runtime)) => {
            let verb = if runtime.blocked == 1 { "is" } else { "are" };
            let text = format!(
                "{} of {workers} workers of {whose} {verb} blocked in a task right now.{}{}",
                runtime.blocked,
                unwatched(&sheet.dump.threads, runtime),
                dump_may_hide(&sheet.dump.threads, runtime)
            );
            (WARN, "BLOCKED", text)
        }
        (DumpKind::PoolFull, _) => (BAD, "POOL FULL", full_pools(sheet)),
        (DumpKind::Unclear, Some(runtime)) => {
            let text = format!(
                "What {} of {workers} workers of {whose} do could not be told.",
                runtime.others
            );
            (WARN, "UNCLEAR", text)
        }
        (DumpKind::Healthy, Some(runtime)) => {
            (GOOD, "HEALTHY", healthy(&sheet.dump.threads, runtime))
        }
        _ => {
            let text = "No worker of a tokio runtime was found: none runs, or none of its threads \
                        can be told from others.";
            (WARN, "UNCLEAR", text.to_owned())
        }
    }
}

fn full_pools(sheet: &Sheet<'_>) -> String {
    let pools = sheet.dump.full_pools.iter();
    let each = pools.map(|pool| {
        let of = process(sheet, pool.pid);
        let of = of.map_or_else(String::new, |process| format!(" of {process}"));
        format!(
            "All {} threads of the blocking pool{of} are in closures of spawn_blocking right now.",
            pool.threads
        )
    });
    let each: Vec<String> = each.collect();
    format!(
        "{} Unless it is told otherwise tokio starts no more, so that what comes next waits in line for \
         one, and with it the tasks that wait for a closure, for a file (`tokio::fs`) or for a name \
         look-up.",
        each.join(" ")
    )
}

/// Whether no worker of a runtime has anything to do.
const fn dump_is_idle(runtime: &DumpRuntime) -> bool {
    runtime.idle == runtime.workers && runtime.workers > 0
}

/// An idle runtime looks the same whether its tasks have nothing to do or wait for each other.
fn healthy(threads: &[DumpThread], runtime: &DumpRuntime) -> String {
    if !dump_is_idle(runtime) {
        let mut text = "No worker is blocked right now.".to_owned();
        if runtime.running > 0 {
            let verb = if runtime.running == 1 { "is" } else { "are" };
            let (running, workers) = (runtime.running, runtime.workers);
            text.push_str(&format!(
                " {running} of {workers} {verb} on a CPU: a single dump cannot show for how long a task \
                 computes, `holdup record` measures it."
            ));
        }
        return text;
    }
    let rest = match stands_still(threads) {
        Some(thread) => format!("look first at {thread}."),
        None => "its tasks wait for each other (an async lock or channel), for a peer, or for a thread of \
                 the blocking pool. What tasks await is on no stack: tokio-console or a task dump tells."
            .to_owned(),
    };
    format!(
        "No worker is blocked right now: all are idle. If the program hangs all the same, {rest}"
    )
}

/// A thread that stands still beside the workers: in a `block_on`, or else in the blocking pool.
fn stands_still(threads: &[DumpThread]) -> Option<String> {
    let long = |state: State| {
        let of_state = threads.iter().filter(move |thread| thread.state == state);
        let longest = of_state.max_by_key(|thread| thread.since_ns);
        longest.filter(|thread| thread.since_ns >= Some(STANDSTILL))
    };
    let thread = long(State::Blocked).or_else(|| long(State::Pool))?;
    let function = thread.function.as_deref();
    Some(format!(
        "{} for {}{}",
        stood_still((&thread.name, thread.tid), thread.state, function),
        if thread.at_least { "at least " } else { "" },
        duration(thread.since_ns.unwrap_or(Nanos::ZERO))
    ))
}

/// That tasks of idle workers do not go on either, where a worker stands still that may have watched sockets
/// and timers before: each idle one waits for work alone, and none for events.
fn unwatched(threads: &[DumpThread], runtime: &DumpRuntime) -> &'static str {
    let mut own = threads
        .iter()
        .filter(|thread| thread.runtime.as_deref() == Some(&runtime.id));
    let stands =
        |thread: &DumpThread| thread.state == State::Blocked && thread.since_ns >= Some(STANDSTILL);
    let is_parked = |thread: &DumpThread| match thread.state {
        State::Idle => thread.call.starts_with("futex"),
        state => state == State::Blocked,
    };
    let is_sure = runtime.kind == RuntimeKind::MultiThread && runtime.idle > 0;
    if is_sure && own.clone().any(stands) && own.all(is_parked) {
        " No worker watches sockets and timers: tasks that wait for one do not go on either, whichever their \
         worker, if this runtime has any."
    } else {
        ""
    }
}

/// What a circle means. Where a lock does not name its owner, a task that holds it across an `.await` is on
/// no stack: then another thread may be taken for the owner.
fn for_ever(sheet: &Sheet<'_>) -> &'static str {
    let mut deadlocks = sheet.dump.deadlocks.iter();
    if deadlocks.any(|deadlock| deadlock.is_certain) {
        " and never go on"
    } else {
        ", by all appearances: a lock here does not name its owner, which may also be a task that holds it \
         across an `.await`"
    }
}

fn wedged(runtime: &DumpRuntime, whose: &str, for_ever: &str) -> String {
    let workers = runtime.workers;
    if runtime.blocked < workers {
        return format!(
            "{} of {workers} workers of {whose} are blocked, and wait for each other{for_ever}.",
            runtime.blocked
        );
    }
    let verb = if workers == 1 { "is" } else { "are" };
    let all = all(workers);
    let mut text = if runtime.all_blocked_ns < STANDSTILL {
        format!("{all} of {whose} {verb} blocked, by threads that stand still themselves.")
    } else {
        let each = if workers == 1 {
            " in one wait"
        } else {
            ", each in one wait,"
        };
        let long = duration(runtime.all_blocked_ns);
        format!("{all} of {whose} {verb} blocked{each} for {long} or longer.")
    };
    text.push_str(" No task of it can run.");
    if runtime.in_deadlock {
        text.push_str(" It is a deadlock: see below.");
    }
    text
}

/// `The only worker`, `Both workers`, `All 4 workers`.
fn all(workers: u32) -> String {
    match workers {
        1 => "The only worker".to_owned(),
        2 => "Both workers".to_owned(),
        more => format!("All {more} workers"),
    }
}

/// `rt0`, with its process where there are several.
fn whose(sheet: &Sheet<'_>, runtime: &DumpRuntime) -> String {
    match process(sheet, runtime.pid) {
        Some(process) => format!("{} in {process}", runtime.id),
        None => runtime.id.clone(),
    }
}

/// `claims_api (4711)`, where there are several.
fn process(sheet: &Sheet<'_>, pid: Pid) -> Option<String> {
    let processes = &sheet.dump.processes;
    let found = processes.iter().find(|process| process.pid == pid);
    let found = found.filter(|_| processes.len() > 1)?;
    Some(format!("{} ({pid})", sanitize(found.exe_name())))
}

/// What could not be seen.
pub(super) fn unseen(sheet: &mut Sheet<'_>) -> io::Result<()> {
    let unseen = &sheet.dump.unseen;
    let counted = |count: u32, one: &str, many: &str| {
        (count > 0).then(|| counted(u64::from(count), one, many))
    };
    let is_likely =
        |thread: &DumpThread| matches!(thread.holder, Some(Holder::Thread { likely: true, .. }));
    let likely = sheet.dump.threads.iter().any(is_likely);
    let mut notes: Vec<String> = [
        likely.then(|| {
            "`likely`: the lock does not name its owner, and that thread alone has the lock's \
             address (or its Arc's) on its stack without waiting for it"
                .to_owned()
        }),
        counted(
            unseen.without_stack,
            "thread waits, and its stack could not be read in time",
            "threads wait, and their stacks could not be read in time",
        ),
        counted(
            unseen.unsampled,
            "thread ran too shortly to be sampled",
            "threads ran too shortly to be sampled",
        ),
        counted(unseen.truncated, "stack ends early", "stacks end early"),
        counted(
            unseen.unknown,
            "thread may be a worker or not",
            "threads may be workers or not",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    if unseen.without_names > 0 {
        notes.push(
            "the program has no symbols: functions are named by their addresses (build it with \
             strip = false)"
                .to_owned(),
        );
    } else if unseen.without_lines > 0 {
        notes.push(
            "the program has no line tables: no files and lines (build it with debug = \
             \"limited\")"
                .to_owned(),
        );
    }
    let ended = sheet.dump.processes.iter();
    let ended = ended.filter_map(|process| Some((process, process.ended.as_ref()?)));
    for (process, how) in ended {
        let name = sanitize(process.exe_name());
        notes.push(format!("{name} ({}) {}", process.pid, sanitize(how)));
    }
    if notes.is_empty() {
        return Ok(());
    }
    sheet.blank()?;
    for note in notes {
        sheet.labelled((DIM, "Note"), 6, &note)?;
    }
    Ok(())
}
