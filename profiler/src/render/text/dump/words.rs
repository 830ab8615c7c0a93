//! Threads and what they wait for, in words.

use super::sheet::Sheet;
use crate::cause::Cause;
use crate::recording::{Holder, Object, ObjectKind};
use crate::render::text::line::cut_right;
use crate::render::{display_name, display_path, duration, sanitize};
use crate::report::dump::DumpThread;
use crate::runtime::{State, StoppedBy};
use crate::units::{Pid, Tid};

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

/// What a thread does, behind its name: `blocked ≥ 3.2 s in claims::refund (src/refund.rs:97)`.
pub(super) fn doing(of: &DumpThread) -> String {
    let state = match of.state {
        State::Other | State::Pool | State::HandedOff | State::Runtime => "waiting",
        State::Running => "on a CPU",
        State::Runnable => "waiting for a CPU",
        state => state.name(),
    };
    let mut text = state.to_owned();
    let since = since(of);
    if !since.is_empty() {
        text.push_str(&format!(" for {since}"));
    }
    if let Some(function) = function(of) {
        text.push_str(&format!(" in {function}"));
    }
    text
}

/// Who holds what a thread waits for, and what that thread does in turn.
pub(super) fn holder(sheet: &Sheet<'_>, of: &DumpThread) -> Option<String> {
    Some(match of.holder.as_ref()? {
        Holder::Thread {
            tid,
            name,
            evidence,
            likely,
        } => {
            let likely = if *likely { "likely " } else { "" };
            let mut text = format!("{likely}{}: {}", thread(name, *tid), sanitize(evidence));
            text.push_str(&chain(sheet, of.pid, &of.waits_for));
            text
        }
        Holder::Processes {
            processes,
            more,
            evidence,
        } => {
            let name = |process: &crate::recording::HolderProcess| {
                let name = sanitize(&process.name);
                format!("{} (pid {})", cut_right(&name, NAME), process.pid)
            };
            let names: Vec<String> = processes.iter().map(name).collect();
            let more = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{}{more}: {}", names.join(", "), sanitize(evidence))
        }
        Holder::Unknown { reason } => format!("unknown: {}", sanitize(reason)),
    })
}

/// What the holder does, and whom it waits for in turn.
fn chain(sheet: &Sheet<'_>, pid: Pid, waits_for: &[Tid]) -> String {
    let mut text = String::new();
    let Some(first) = waits_for.first().and_then(|tid| sheet.thread(pid, *tid)) else {
        return text;
    };
    text.push_str(&format!("; it is {}", doing(first)));
    if first.state != State::Running
        && let Some(cause) = cause(first)
    {
        text.push_str(&format!(", {cause}"));
    }
    let mut links = waits_for.iter().skip(1).peekable();
    while let Some(tid) = links.next() {
        let Some(next) = sheet.thread(pid, *tid) else {
            break;
        };
        text.push_str(&format!(", held up by {}", thread(&next.name, *tid)));
        if links.peek().is_none() && !waits_for.starts_with(&[*tid]) {
            text.push_str(&format!(", which is {}", doing(next)));
        }
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
