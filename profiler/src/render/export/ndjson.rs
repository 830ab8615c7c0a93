//! Waits and polls one by one, a JSON object a line, for `jq` and its like.
//!
//! The first line is of type `recording`, the last one of type `end`; between them are `wait` and
//! `poll`, by their ends as far as they are known together: while a recording goes on, those of one
//! second after those of the one before. Times in nanoseconds, from the start of the recording. Names
//! are the target's own, escaped as in the JSON report.

use super::lanes::is_shown;
use crate::recording::{Host, ObjectKind, Poll, PollEvidence, Tool, Wait};
use crate::render::Options;
use crate::render::json::line;
use crate::report::{Detail, Filter, Report};
use crate::units::{Nanos, Pid, Tid, Timestamp};
use serde::Serialize;
use std::io;

/// Version of the lines: grows when a member goes or changes its meaning.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Begin<'a> {
    r#type: &'static str,
    schema: u32,
    tool: &'a Tool,
    host: &'a Host,
    started_at: &'a str,
    min_block_ns: Nanos,
    long_poll_ns: Nanos,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a Filter>,
}

#[derive(Serialize)]
struct End<'a> {
    r#type: &'static str,
    duration_ns: Nanos,
    verdict: &'a crate::report::Verdict,
    losses: &'a crate::recording::Losses,
    waits_left_out: u64,
    polls_left_out: u64,
}

/// What waits and polls have in common.
#[derive(Serialize)]
struct Place<'a> {
    pid: Pid,
    tid: Tid,
    thread: &'a str,
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    task: Option<&'a str>,
    task_id: Option<u64>,
}

#[derive(Serialize)]
struct WaitLine<'a> {
    r#type: &'static str,
    start_ns: Nanos,
    blocked_ns: Nanos,
    runqueue_ns: Nanos,
    /// Whether it had not ended when the recording did.
    open: bool,
    state: &'static str,
    role: &'static str,
    cause: Option<&'static str>,
    #[serde(flatten)]
    place: Place<'a>,
    call: Option<&'a str>,
    object: Option<ObjectName<'a>>,
    waker: Option<WakerName<'a>>,
}

#[derive(Serialize)]
struct ObjectName<'a> {
    kind: ObjectKind,
    name: &'a str,
}

#[derive(Serialize)]
struct WakerName<'a> {
    pid: Pid,
    tid: Tid,
    thread: &'a str,
    function: Option<&'a str>,
}

#[derive(Serialize)]
struct PollLine<'a> {
    r#type: &'static str,
    start_ns: Nanos,
    length_ns: Nanos,
    blocked_ns: Nanos,
    runqueue_ns: Nanos,
    running_ns: Nanos,
    waits: u64,
    samples: u64,
    evidence: PollEvidence,
    #[serde(flatten)]
    place: Place<'a>,
}

/// Writes all of a recording.
///
/// # Errors
///
/// Those of writing to `out`.
pub(in crate::render) fn render(
    report: &Report,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let none = Detail::default();
    let detail = report.detail.as_ref().unwrap_or(&none);
    begin(
        (&report.tool, &report.host, &report.started_at),
        (report.min_block_ns, report.long_poll_ns),
        report.filter.as_ref(),
        out,
    )?;
    singles(detail, detail.start, options, out)?;
    end(report, out)
}

/// Writes the first line: by what, where and when it was recorded; from which length on waits and
/// polls are told, and which of them.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn begin(
    (tool, host, started_at): (&Tool, &Host, &str),
    (min_block_ns, long_poll_ns): (Nanos, Nanos),
    filter: Option<&Filter>,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let begin = Begin {
        r#type: "recording",
        schema: SCHEMA,
        tool,
        host,
        started_at,
        min_block_ns,
        long_poll_ns,
        filter,
    };
    line(&begin, out)
}

/// Writes waits and polls of a recording that began at `start`.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn singles(
    detail: &Detail,
    start: Timestamp,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let ended = detail.waits.iter().map(|wait| (wait, false));
    let waits = ended.chain(detail.open.iter().map(|wait| (wait, true)));
    let waits = waits.filter(|(wait, _)| is_shown(detail, options, wait));
    let mut waits: Vec<(&Wait, bool)> = waits.collect();
    waits.sort_by_key(|(wait, _)| (wait.end, wait.start, wait.thread));
    let mut polls = detail.polls.iter().collect::<Vec<_>>();
    polls.sort_by_key(|poll| (poll.end, poll.start, poll.thread));
    let mut polls = polls.into_iter().peekable();
    for (wait, open) in waits {
        while let Some(poll) = polls.next_if(|poll| poll.end <= wait.end) {
            write_poll(detail, poll, start, out)?;
        }
        write_wait(detail, (wait, open), start, out)?;
    }
    polls.try_for_each(|poll| write_poll(detail, poll, start, out))
}

/// Writes the last line.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn end(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let detail = report.detail.as_ref();
    let end = End {
        r#type: "end",
        duration_ns: report.duration_ns,
        verdict: &report.verdict,
        losses: &report.losses,
        waits_left_out: detail.map_or(0, |detail| detail.waits_left_out.count),
        polls_left_out: detail.map_or(0, |detail| detail.polls_left_out.count),
    };
    line(&end, out)
}

fn write_wait(
    detail: &Detail,
    (wait, open): (&Wait, bool),
    start: Timestamp,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let began = wait.start.max(start);
    let wakeup = wait.wakeup.min(wait.end);
    let stack = detail.stacks.get(&wait.stack);
    let waker_stack = wait.waker_stack.and_then(|id| detail.stacks.get(&id));
    let wait_line = WaitLine {
        r#type: "wait",
        start_ns: began - start,
        blocked_ns: wakeup - began,
        runqueue_ns: wait.end - wakeup,
        open,
        state: stack.map_or("unknown", |stack| stack.state.name()),
        role: stack.map_or("none", |stack| stack.role.name()),
        cause: stack
            .and_then(|stack| stack.cause)
            .map(|cause| cause.name()),
        place: place(detail, wait.thread, stack, wait.task_id),
        call: stack.map(|stack| &*stack.wait),
        object: wait
            .object
            .and_then(|id| detail.objects.get(&id))
            .map(|object| ObjectName {
                kind: object.kind,
                name: &object.name,
            }),
        waker: wait
            .waker
            .and_then(|id| detail.wakers.get(&id))
            .map(|waker| WakerName {
                pid: waker.pid,
                tid: waker.tid,
                thread: &waker.name,
                function: waker_stack.map(|stack| &*stack.function),
            }),
    };
    line(&wait_line, out)
}

fn write_poll(
    detail: &Detail,
    poll: &Poll,
    start: Timestamp,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let stack = detail.stacks.get(&poll.stack);
    let poll_line = PollLine {
        r#type: "poll",
        start_ns: poll.start - start,
        length_ns: poll.length(),
        blocked_ns: poll.blocked,
        runqueue_ns: poll.runqueue,
        running_ns: poll.running,
        waits: poll.waits,
        samples: poll.samples,
        evidence: poll.evidence,
        place: place(detail, poll.thread, stack, poll.task_id),
    };
    line(&poll_line, out)
}

fn place<'a>(
    detail: &'a Detail,
    id: crate::recording::ThreadId,
    stack: Option<&'a crate::report::DetailStack>,
    task_id: Option<u64>,
) -> Place<'a> {
    let thread = detail.threads.get(&id);
    let pid = thread
        .map(|thread| thread.pid)
        .or_else(|| stack.map(|stack| stack.pid));
    Place {
        pid: pid.unwrap_or(Pid(0)),
        tid: id.tid,
        thread: thread.map_or("", |thread| &thread.name),
        function: stack.map(|stack| &*stack.function),
        file: stack.and_then(|stack| stack.file.as_deref()),
        line: stack.and_then(|stack| stack.line),
        task: stack.and_then(|stack| stack.task.as_deref()),
        task_id,
    }
}
