//! Threads and what they wait for, in words.

use super::sheet::Sheet;
use crate::cause::Cause;
use crate::counted::counted;
use crate::recording::{Holder, Object, ObjectKind};
use crate::render::text::line::cut_right;
use crate::render::text::queued::awaits_a_task;
use crate::render::{display_name, display_path, duration, sanitize};
use crate::report::dump::DumpThread;
use crate::runtime::{State, StoppedBy};
use crate::units::Tid;

/// Columns of a thread's name.
const NAME: usize = 40;

/// `tokio-rt-worker (4712)`.
pub(super) fn thread(name: &str, tid: Tid) -> String {
    format!("{} ({tid})", cut_right(&sanitize(name), NAME))
}

/// For how long a thread has been in its state: `3 min 12 s`, `≥ 1.20 s`; nothing where that is not
/// known.
pub(super) fn since(of: &DumpThread) -> String {
    match of.since_ns {
        Some(since) if of.at_least => format!("≥ {}", duration(since)),
        Some(since) => duration(since),
        None => String::new(),
    }
}

/// The tasks that blocked workers have with them, of the worker that has most; nothing where none has any.
/// A worker's LIFO slot is its own, so what it waits for may be in there and never run.
pub(super) fn held_up<'a>(of: impl Iterator<Item = &'a DumpThread>) -> Option<String> {
    let known: Vec<_> = of
        .filter_map(|thread| Some((thread, thread.queued?)))
        .collect();
    let (_, most) = known.iter().max_by_key(|(_, queued)| queued.tasks())?;
    if most.tasks() == 0 {
        return None;
    }
    let tasks = counted(most.tasks().into(), "task", "tasks");
    let mut text = format!("{tasks} in the worker's own queue");
    let mut in_slot = known.iter().filter(|(_, queued)| queued.in_slot);
    if let Some((thread, _)) = in_slot.next() {
        text.push_str(", one of them in the LIFO slot, from which no other worker takes");
        if thread.cause.is_some_and(awaits_a_task) {
            text.push_str(": if that is what is waited for, it never comes");
        }
    }
    Some(text)
}

/// `src/store.rs:88`.
pub(super) fn place(of: &DumpThread) -> Option<String> {
    let file = display_path(of.file.as_ref()?);
    Some(match of.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    })
}

/// `claims::store::reserve (src/store.rs:88)`.
pub(super) fn function(of: &DumpThread) -> Option<String> {
    let name = display_name(of.function.as_ref()?);
    Some(match place(of) {
        Some(place) => format!("{name} ({place})"),
        None => name,
    })
}

/// `lock: futex wait`; nothing of a thread that does not wait.
pub(super) fn cause(of: &DumpThread) -> Option<String> {
    let cause = of.cause?;
    let call = sanitize(&of.call);
    Some(match cause {
        _ if call.is_empty() => cause.name().to_owned(),
        Cause::Other => call.into_owned(),
        _ => format!("{}: {call}", cause.name()),
    })
}

/// What a thread waits for: `the lock at 0x7f0010`.
pub(super) fn object(of: &DumpThread) -> Option<String> {
    let Object { kind, name } = of.object.as_ref()?;
    let text = match kind {
        ObjectKind::Path => display_path(name),
        _ => sanitize(name).into_owned(),
    };
    Some(match kind {
        ObjectKind::Futex if of.cause == Some(Cause::Lock) => format!("the lock at {text}"),
        ObjectKind::Futex => format!("the futex at {text}"),
        ObjectKind::Thread => format!("the end of thread {text}"),
        ObjectKind::Process => format!("the end of process {text}"),
        ObjectKind::Path | ObjectKind::Descriptor | ObjectKind::Memory => text,
        ObjectKind::Socket | ObjectKind::Pipe | ObjectKind::Timer | ObjectKind::Poll => text,
    })
}

/// What a thread waits for and who holds that need no words where they say nothing: a time, and the
/// futex by which a thread is parked.
fn says_something(of: &DumpThread) -> bool {
    match of.object.as_ref().map(|object| object.kind) {
        None | Some(ObjectKind::Timer) => false,
        Some(ObjectKind::Futex) => of.cause == Some(Cause::Lock) || of.waiters > 1,
        Some(_) => true,
    }
}

/// What a thread waits for, as far as its call does not say it already.
pub(super) fn waited_for(of: &DumpThread) -> Option<String> {
    let object = object(of).filter(|_| says_something(of))?;
    let is_said = of
        .object
        .as_ref()
        .is_some_and(|object| of.call.ends_with(&object.name));
    match of.waiters {
        0 | 1 => (!is_said).then_some(object),
        waiters => Some(format!("{object} ({waiters} threads wait for it)")),
    }
}

/// What a thread does: `blocked ≥ 3.2 s in claims::refund (src/refund.rs:97), lock: futex wait`.
fn doing(of: &DumpThread) -> String {
    let mut text = match of.state {
        State::Other | State::Pool | State::HandedOff | State::Runtime => "waiting",
        State::Running => "on a CPU",
        State::Runnable => "waiting for a CPU",
        state => state.name(),
    }
    .to_owned();
    let since = since(of);
    if !since.is_empty() {
        text.push_str(&format!(" {since}"));
    }
    if let Some(function) = function(of) {
        text.push_str(&format!(" in {function}"));
    }
    if let Some(cause) = cause(of) {
        text.push_str(&format!(", {cause}"));
    }
    text
}

/// Who holds what a thread waits for, and what that thread does in turn.
pub(super) fn holder(sheet: &Sheet<'_>, of: &DumpThread) -> Option<String> {
    Some(match of.holder.as_ref()? {
        Holder::Thread {
            tid, name, likely, ..
        } => {
            let likely = if *likely { "likely " } else { "" };
            let chain = chain(sheet, of);
            format!("{likely}{}{chain}", thread(name, *tid))
        }
        Holder::Processes {
            processes,
            more,
            evidence,
        } => {
            let name = |process: &crate::recording::HolderProcess| {
                let name = cut_right(&sanitize(&process.name), NAME);
                if process.pid == of.pid {
                    format!("{name} ({}) itself", process.pid)
                } else {
                    format!("{name} (pid {})", process.pid)
                }
            };
            let names: Vec<String> = processes.iter().map(name).collect();
            let more = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{}{more}: {}", names.join(", "), sanitize(evidence))
        }
        Holder::Unknown { .. } if !says_something(of) => return None,
        Holder::Unknown { reason } => format!("unknown: {}", sanitize(reason)),
    })
}

/// What the holder does, and whom it waits for in turn.
fn chain(sheet: &Sheet<'_>, of: &DumpThread) -> String {
    let is_drawn = |tid: Tid| {
        let mut deadlocks = sheet.dump.deadlocks.iter();
        deadlocks.any(|circle| circle.pid == of.pid && circle.threads.contains(&tid))
    };
    let mut text = String::new();
    let mut told = vec![of.tid];
    for tid in &of.waits_for {
        let Some(next) = sheet.thread(of.pid, *tid) else {
            break;
        };
        if told.len() > 1 {
            text.push_str(&format!("; that one by {}", thread(&next.name, *tid)));
        }
        if is_drawn(*tid) {
            text.push_str(", which is in the deadlock above");
            break;
        }
        if told.contains(tid) {
            break;
        }
        told.push(*tid);
        text.push_str(&format!(": {}", doing(next)));
    }
    text
}

/// What held a thread.
pub(super) const fn stopped_by(by: StoppedBy) -> &'static str {
    match by {
        StoppedBy::Signal => "a signal (SIGSTOP or the like); kill -CONT lets it go on",
        StoppedBy::Debugger => "a debugger, or another program that traces",
        StoppedBy::Freezer => "the freezer of its control group, or of the system",
    }
}
