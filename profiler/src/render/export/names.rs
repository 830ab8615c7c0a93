//! What things are called in the formats of other programs. Nothing in a name can trick a reader or a
//! terminal; how each format escapes text is its own.

use crate::recording::{Object, ThreadId, Waker, is_holdup};
use crate::render::flamegraph::lost;
use crate::render::{Options, count, display_name, display_path, duration, sanitize};
use crate::report::{Detail, DetailStack, DetailThread, Report};
use crate::runtime::Role;
use crate::symbolize::{FrameRef, Space};
use crate::units::Pid;

/// `tokio-runtime-w 4711`.
pub(in crate::render) fn thread(thread: ThreadId, known: Option<&DetailThread>) -> String {
    let name = known.map_or("", |known| &known.name);
    match sanitize(name) {
        name if name.is_empty() => format!("thread {}", thread.tid),
        name => format!("{name} {}", thread.tid),
    }
}

/// `claims_api (4711)`.
pub(in crate::render) fn process(report: &Report, pid: Pid) -> String {
    let process = report.targets.iter().find(|process| process.pid == pid);
    let name = process.map_or("", |process| process.exe_name());
    format!("{} ({pid})", sanitize(name))
}

/// The function of a site.
pub(in crate::render) fn site(stack: &DetailStack) -> String {
    display_name(&stack.function)
}

/// `src/store.rs:88`.
pub(in crate::render) fn place(stack: &DetailStack) -> Option<String> {
    let file = display_path(stack.file.as_deref()?);
    Some(match stack.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    })
}

/// The outermost function of the task.
pub(in crate::render) fn task(stack: &DetailStack) -> Option<String> {
    stack.task.as_deref().map(display_name)
}

/// `path /var/lib/claims.db`.
pub(in crate::render) fn object(object: &Object) -> String {
    format!("{} {}", object.kind.name(), sanitize(&object.name))
}

/// `tokio-runtime-w 4711`, or `interrupt`, or `holdup-read 4712: holdup itself`.
pub(in crate::render) fn waker(report: &Report, waker: &Waker) -> String {
    let name = sanitize(&waker.name);
    match waker.pid {
        Pid(0) if name.is_empty() => "interrupt".to_owned(),
        Pid(0) => name.into_owned(),
        _ if name.is_empty() => format!("thread {}", waker.tid),
        pid => {
            let recorded = report.targets.iter().map(|target| target.pid);
            let own = match is_holdup(pid, &waker.name, recorded) {
                true => ": holdup itself",
                false => "",
            };
            format!("{name} {}{own}", waker.tid)
        }
    }
}

/// Why threads waited, or else in which state they were.
pub(in crate::render) fn cause(stack: &DetailStack) -> &'static str {
    stack.cause.map_or(stack.state.name(), |cause| cause.name())
}

/// Whether threads with this role poll tasks.
pub(in crate::render) const fn is_worker(role: Role) -> bool {
    matches!(role, Role::Worker(_))
}

/// What must be known to trust a file, in sentences: losses, and what was left out of it.
pub(in crate::render) fn caveats(report: &Report, detail: &Detail) -> Vec<String> {
    let lost = match lost(&report.losses) {
        lost if lost.starts_with("nothing") => lost,
        lost => format!("lost: {lost}"),
    };
    let mut said = vec![lost];
    let filter = report.filter.as_ref();
    said.extend(filter.map(|filter| format!("only {}", sanitize(&filter.to_string()))));
    said.extend(left_out(detail));
    said
}

/// What was left out of timelines because there was too much of it.
#[must_use]
pub fn left_out(detail: &Detail) -> Vec<String> {
    let left_out = [
        (detail.waits_left_out, "waits"),
        (detail.polls_left_out, "polls"),
    ];
    let left_out = left_out
        .into_iter()
        .filter(|(left_out, _)| left_out.count > 0);
    let said = left_out.map(|(left_out, what)| {
        format!(
            "{} {what} of at most {} are in no timeline: there were too many",
            count(left_out.count),
            duration(left_out.longest)
        )
    });
    said.collect()
}

/// The frames of a stack, without the kernel's unless all are asked for: all waits have the same leaf
/// there, and the cause says more.
pub(in crate::render) fn drawn_frames<'a>(
    stack: &'a DetailStack,
    options: &Options,
) -> &'a [FrameRef] {
    let user = stack
        .frames
        .iter()
        .position(|frame| frame.space == Space::User);
    match user.filter(|_| options.collapse_runtime) {
        Some(user) => stack.frames.get(user..).unwrap_or_default(),
        None => &stack.frames,
    }
}

/// Nanoseconds from the Unix epoch to a time as reports write it; zero where it is none.
pub(in crate::render) fn nanos_since_epoch(time: &str) -> u64 {
    let time: Option<jiff::Timestamp> = time.parse().ok();
    let nanos = time.map(jiff::Timestamp::as_nanosecond);
    nanos
        .and_then(|nanos| u64::try_from(nanos).ok())
        .unwrap_or(0)
}
