//! Waits that had not ended, what they wait for and who holds that.

use super::line::{cut_right, width};
use super::page::Page;
use super::style::{BAD, DIM, PLAIN, SITE};
use crate::cause::Cause;
use crate::recording::{Holder, ObjectKind, STANDSTILL};
use crate::render::{display_name, display_path, duration, sanitize};
use crate::report::dump::Deadlock;
use crate::report::{OpenWaitReport, Report};
use crate::runtime::State;
use crate::units::{Nanos, Tid};
use std::io;

/// Circles that are told.
pub(in crate::render) const DEADLOCKS: usize = 4;
/// Threads of one that are.
const CIRCLE: usize = 12;
pub(in crate::render) const CIRCLE_NOTE: &str = "none of these threads goes on";

/// The length of the longest poll: at least that, where a wait that had not ended is as long.
pub(super) fn at_least(report: &Report, longest: Nanos) -> String {
    let mut open = report.open_waits.iter();
    let is_open = open.any(|wait| wait.state == State::Blocked && wait.since_ns >= longest);
    let prefix = if is_open { "at least " } else { "" };
    format!("{prefix}{}", duration(longest))
}

/// A thread that has stood still beside the workers, whose state says nothing of it: in a `block_on`, or
/// else in the blocking pool.
pub(super) fn stands_still(report: &Report) -> Option<String> {
    let long = |state: State| {
        let mut waits = report.open_waits.iter();
        waits.find(move |wait| wait.state == state && wait.since_ns >= STANDSTILL)
    };
    let wait = long(State::Blocked).or_else(|| long(State::Pool))?;
    let who = stood_still((&wait.name, wait.tid), wait.state, Some(&wait.function));
    let time = duration(wait.since_ns);
    Some(format!(
        "{who} for {time} and longer: see \"Still waiting\""
    ))
}

/// `main (4711), which has been blocked in claims_api::serve`.
pub(super) fn stood_still(
    (name, tid): (&str, Tid),
    state: State,
    function: Option<&str>,
) -> String {
    let what = match state {
        State::Pool => "a thread of the blocking pool, which has been in",
        _ => "which has been blocked in",
    };
    let place = function.map_or_else(|| "one wait".to_owned(), display_name);
    format!("{} ({tid}), {what} {place}", sanitize(name))
}

/// Waits that were still going on.
pub(super) fn open_waits(page: &mut Page<'_>) -> io::Result<()> {
    let waits = page.report.open_waits.iter();
    let waits: Vec<&OpenWaitReport> = waits.filter(|wait| !page.leaves_out(wait.pid)).collect();
    if waits.is_empty() {
        return Ok(());
    }
    deadlocks(page)?;
    page.heading("Still waiting when the recording ended", "longest first")?;
    for wait in waits.iter().take(page.options.max_sites) {
        let mut line = page.line();
        let style = if wait.state == State::Blocked {
            BAD
        } else {
            PLAIN
        };
        let since = if wait.before_recording {
            format!("≥ {}", duration(wait.since_ns))
        } else {
            duration(wait.since_ns)
        };
        line.push_right(style, &since, 14)
            .push(PLAIN, "  ")
            .push(style, &format!("{:<10}", wait.state.name()))
            .push(PLAIN, "  ");
        let mut thread = format!(
            "  {} ({})",
            page.fit_right(&sanitize(&wait.name), 24),
            wait.tid
        );
        if page.report.targets.len() > 1 {
            thread.push_str(&format!(" of {}", wait.pid));
        }
        let room = page.width.saturating_sub(line.width());
        let function = display_name(&wait.function);
        line.push(
            SITE,
            &page.fit_left(&function, room.saturating_sub(width(&thread))),
        )
        .push(DIM, &thread);
        page.put(&line)?;
        if let Some(text) = object(wait) {
            page.labelled((DIM, "                for"), 20, &text)?;
        }
    }
    if waits.len() > page.options.max_sites {
        let more = waits.len() - page.options.max_sites;
        page.labelled((PLAIN, ""), 2, &format!("… and {more} more"))?;
    }
    Ok(())
}

/// Who waits in a circle, and for what: `tokio-rt-worker (4250)`, and `what helper (4251) likely holds`.
pub(in crate::render) fn circle(report: &Report, deadlock: &Deadlock) -> Vec<[String; 2]> {
    let wait = |tid: &Tid| {
        let mut waits = report.open_waits.iter();
        waits.find(|wait| (wait.pid, wait.tid) == (deadlock.pid, *tid))
    };
    let name = |tid: &Tid| {
        let name = wait(tid).map_or("", |wait| wait.name.as_str());
        format!("{} ({tid})", sanitize(name))
    };
    let what = |tid: &Tid, next: &Tid| {
        let object = wait(tid).and_then(|wait| wait.object.as_ref());
        let likely = wait(tid).and_then(|wait| wait.holder.as_ref());
        let next = name(next);
        match (object, likely) {
            (Some(object), _) if object.kind == ObjectKind::Thread => format!("the end of {next}"),
            (_, Some(Holder::Thread { likely: true, .. })) => format!("what {next} likely holds"),
            _ => format!("what {next} holds"),
        }
    };
    let threads = deadlock.threads.iter();
    let next = threads.clone().cycle().skip(1);
    let both = threads.zip(next).take(CIRCLE);
    both.map(|(tid, holder)| [name(tid), what(tid, holder)])
        .collect()
}

/// What a circle is. A thread that waits for what it holds itself needs no evidence.
pub(in crate::render) fn circle_heading(deadlock: &Deadlock) -> &'static str {
    match deadlock.is_certain || deadlock.threads.len() == 1 {
        true => "Deadlock",
        false => "Deadlock, by all appearances",
    }
}

/// Who waits for whom in a circle.
fn deadlocks(page: &mut Page<'_>) -> io::Result<()> {
    let report = page.report;
    for deadlock in report.deadlocks.iter().take(DEADLOCKS) {
        page.heading(circle_heading(deadlock), CIRCLE_NOTE)?;
        for [waiter, what] in circle(report, deadlock) {
            let text = format!("{waiter} waits for {what}");
            page.labelled((BAD, ""), 6, &text)?;
        }
    }
    Ok(())
}

/// What a wait is for, and who holds it.
pub(in crate::render) fn object(wait: &OpenWaitReport) -> Option<String> {
    let object = wait.object.as_ref()?;
    let name = match object.kind {
        ObjectKind::Path => display_path(&object.name),
        _ => sanitize(&object.name).into_owned(),
    };
    let mut text = match object.kind {
        ObjectKind::Futex if wait.cause == Cause::Lock => format!("the lock at {name}"),
        ObjectKind::Futex => format!("the futex at {name}"),
        ObjectKind::Thread => format!("the end of thread {name}"),
        ObjectKind::Process => format!("the end of process {name}"),
        ObjectKind::Path | ObjectKind::Descriptor | ObjectKind::Memory => name,
        ObjectKind::Socket | ObjectKind::Pipe | ObjectKind::Timer | ObjectKind::Poll => name,
    };
    if wait.waiters > 1 {
        text.push_str(&format!(" ({} threads wait for it)", wait.waiters));
    }
    if let Some(holder) = &wait.holder {
        text.push_str("; ");
        text.push_str(&holder_text(holder));
    }
    Some(text)
}

fn holder_text(holder: &Holder) -> String {
    match holder {
        Holder::Thread {
            tid,
            name,
            evidence,
            likely,
        } => format!(
            "{} by thread {} ({tid}): {}",
            if *likely { "likely held" } else { "held" },
            cut_right(&sanitize(name), 40),
            sanitize(evidence)
        ),
        Holder::Processes {
            processes,
            more,
            evidence,
        } => {
            let names: Vec<String> = processes
                .iter()
                .map(|process| {
                    let name = sanitize(&process.name);
                    format!("{} (pid {})", cut_right(&name, 40), process.pid)
                })
                .collect();
            let more = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("held by {}{more}: {}", names.join(", "), sanitize(evidence))
        }
        Holder::Unknown { reason } => format!("holder unknown: {}", sanitize(reason)),
    }
}
