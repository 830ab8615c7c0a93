//! Waits and polls one by one, a JSON object a line, for `jq` and its like.
//!
//! The first line is of type `recording`, the last one of type `end`; between them are `wait` and
//! `poll`, by their ends as far as they are known together: while a recording goes on, those of one
//! second after those of the one before. Times in nanoseconds, from the start of the recording. Names
//! are the target's own, escaped as in the JSON report.

use super::json::once;
use super::lanes::is_shown;
use super::pieces::write_each;
use crate::fast_hash::FastMap;
use crate::recording::{
    Host, ObjectId, ObjectKind, Poll, PollEvidence, StackId, ThreadId, Tool, Wait, WakerId,
};
use crate::render::Options;
use crate::render::json::{add_line, line, raw};
use crate::report::{Detail, DetailStack, Filter, Report};
use crate::units::{Nanos, Pid, Tid, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
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
    thread: &'a RawValue,
    function: Option<&'a RawValue>,
    file: Option<&'a RawValue>,
    line: Option<u32>,
    task: Option<&'a RawValue>,
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
    call: Option<&'a RawValue>,
    object: Option<ObjectName<'a>>,
    waker: Option<WakerName<'a>>,
}

#[derive(Serialize)]
struct ObjectName<'a> {
    kind: ObjectKind,
    name: &'a RawValue,
}

#[derive(Serialize)]
struct WakerName<'a> {
    pid: Pid,
    tid: Tid,
    thread: &'a RawValue,
    function: Option<&'a RawValue>,
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
    let mut singles: Vec<Single<'_>> = Vec::with_capacity(waits.len() + polls.len());
    for (wait, open) in waits {
        while let Some(poll) = polls.next_if(|poll| poll.end <= wait.end) {
            singles.push(Single::Poll(poll));
        }
        singles.push(Single::Wait(wait, open));
    }
    singles.extend(polls.map(Single::Poll));
    let words = Words::of(detail)?;
    write_each(&singles, out, |single, out| match *single {
        Single::Wait(wait, open) => words.wait(detail, (wait, open), start, out),
        Single::Poll(poll) => words.poll(detail, poll, start, out),
    })
}

/// What has a line of its own.
#[derive(Clone, Copy)]
enum Single<'a> {
    /// With whether it is open.
    Wait(&'a Wait, bool),
    Poll(&'a Poll),
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

/// Names as JSON: a million waits have few of them.
struct Words {
    stacks: FastMap<StackId, StackWords>,
    threads: FastMap<ThreadId, Box<RawValue>>,
    objects: FastMap<ObjectId, Box<RawValue>>,
    wakers: FastMap<WakerId, Box<RawValue>>,
    nameless: Box<RawValue>,
}

struct StackWords {
    function: Box<RawValue>,
    file: Option<Box<RawValue>>,
    task: Option<Box<RawValue>>,
    call: Box<RawValue>,
}

impl StackWords {
    fn of(stack: &DetailStack) -> io::Result<StackWords> {
        Ok(StackWords {
            function: raw(&stack.function)?,
            file: stack.file.as_deref().map(raw).transpose()?,
            task: stack.task.as_deref().map(raw).transpose()?,
            call: raw(&stack.wait)?,
        })
    }
}

impl Words {
    fn of(detail: &Detail) -> io::Result<Words> {
        Ok(Words {
            stacks: once(&detail.stacks, StackWords::of)?,
            threads: once(&detail.threads, |thread| raw(&thread.name))?,
            objects: once(&detail.objects, |object| raw(&object.name))?,
            wakers: once(&detail.wakers, |waker| raw(&waker.name))?,
            nameless: raw("")?,
        })
    }

    fn wait(
        &self,
        detail: &Detail,
        (wait, open): (&Wait, bool),
        start: Timestamp,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let began = wait.start.max(start);
        let wakeup = wait.wakeup.min(wait.end);
        let stack = detail.stacks.get(&wait.stack);
        let words = self.stacks.get(&wait.stack);
        let waker_words = wait.waker_stack.and_then(|id| self.stacks.get(&id));
        let cause = stack.and_then(|stack| stack.cause);
        let object = wait.object.and_then(|id| {
            Some(ObjectName {
                kind: detail.objects.get(&id)?.kind,
                name: self.objects.get(&id)?,
            })
        });
        let waker = wait.waker.and_then(|id| {
            let waker = detail.wakers.get(&id)?;
            Some(WakerName {
                pid: waker.pid,
                tid: waker.tid,
                thread: self.wakers.get(&id)?,
                function: waker_words.map(|words| &*words.function),
            })
        });
        let wait_line = WaitLine {
            r#type: "wait",
            start_ns: began - start,
            blocked_ns: wakeup - began,
            runqueue_ns: wait.end - wakeup,
            open,
            state: stack.map_or("unknown", |stack| stack.state.name()),
            role: stack.map_or("none", |stack| stack.role.name()),
            cause: cause.map(|cause| cause.name()),
            place: self.place(detail, wait.thread, wait.stack, wait.task_id),
            call: words.map(|words| &*words.call),
            object,
            waker,
        };
        add_line(&wait_line, out)
    }

    fn poll(
        &self,
        detail: &Detail,
        poll: &Poll,
        start: Timestamp,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
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
            place: self.place(detail, poll.thread, poll.stack, poll.task_id),
        };
        add_line(&poll_line, out)
    }

    fn place(
        &self,
        detail: &Detail,
        id: ThreadId,
        stack: StackId,
        task_id: Option<u64>,
    ) -> Place<'_> {
        let words = self.stacks.get(&stack);
        let stack = detail.stacks.get(&stack);
        let thread = detail.threads.get(&id);
        let pid = thread.map(|thread| thread.pid);
        let pid = pid.or_else(|| stack.map(|stack| stack.pid));
        Place {
            pid: pid.unwrap_or(Pid(0)),
            tid: id.tid,
            thread: self.threads.get(&id).unwrap_or(&self.nameless),
            function: words.map(|words| &*words.function),
            file: words.and_then(|words| words.file.as_deref()),
            line: stack.and_then(|stack| stack.line),
            task: words.and_then(|words| words.task.as_deref()),
            task_id,
        }
    }
}
