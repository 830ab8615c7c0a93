//! The timeline as a trace of Chrome, which Perfetto reads. Source: "Trace Event Format",
//! <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>.
//!
//! A row a thread: long polls, the waits in them, and after a wait the time in line for a CPU. Above
//! them, for each runtime, the longest times in which no task could run, and in which nobody waited for
//! events.

use super::json::{Commas, once, value};
use super::lanes::{Lane, Limit, ShownPoll, ShownWait, Step, lanes};
use super::names;
use super::pieces::write_each;
use crate::fast_hash::FastMap;
use crate::recording::{ObjectId, StackId, WakerId};
use crate::render::json::raw;
use crate::render::{Options, sanitize};
use crate::report::{Detail, DetailStack, Report, Stretch};
use crate::units::{Nanos, Pid};
use serde::Serialize;
use serde_json::value::RawValue;
use std::io;

/// Ids of rows that are no thread's: beyond those that Linux gives out.
const RUNTIME_ROWS: u32 = 1 << 30;

/// An event. Times are in microseconds, as the format has them, to the nanosecond.
#[derive(Serialize)]
struct Event<'a, Name: Serialize, Args: Serialize> {
    ph: &'static str,
    name: Name,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'a str,
    pid: Pid,
    tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    args: Args,
}

#[derive(Serialize)]
struct Named {
    name: String,
}

#[derive(Serialize)]
struct Order {
    sort_index: usize,
}

#[derive(Serialize)]
struct Nothing {}

/// What is told of a wait.
#[derive(Serialize)]
struct WaitArgs<'a> {
    state: &'static str,
    cause: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    woken_by: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    woken_from: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'a str>,
    blocked_ns: Nanos,
    runqueue_ns: Nanos,
}

/// What is told of a long poll.
#[derive(Serialize)]
struct PollArgs {
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<u64>,
    blocked_ns: Nanos,
    runqueue_ns: Nanos,
    running_ns: Nanos,
    waits: u64,
    samples: u64,
    evidence: crate::recording::PollEvidence,
}

/// What is told of the file.
#[derive(Serialize)]
struct Other {
    tool: String,
    started_at: String,
    duration_ns: Nanos,
    min_block_ns: Nanos,
    long_poll_ns: Nanos,
    notes: Vec<String>,
}

/// Writes the trace.
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
    out.write_all(b"{\"displayTimeUnit\":\"ms\",\n\"otherData\":")?;
    let other = Other {
        tool: format!("{} {}", report.tool.name, report.tool.version),
        started_at: report.started_at.clone(),
        duration_ns: report.duration_ns,
        min_block_ns: report.min_block_ns,
        long_poll_ns: report.long_poll_ns,
        notes: names::caveats(report, detail),
    };
    value(out, &other)?;
    out.write_all(b",\n\"traceEvents\":[")?;
    let mut events = Events {
        out,
        commas: Commas::default(),
    };
    for process in &report.targets {
        let name = sanitize(process.exe_name()).into_owned();
        events.metadata("process_name", process.pid, 0, Named { name })?;
    }
    runtimes(report, &mut events)?;
    let first = 2 * report.runtimes.len();
    let words = Words::of(report, detail)?;
    for (index, lane) in lanes(detail, options, Limit::NONE).iter().enumerate() {
        let name = names::thread(lane.id, lane.thread);
        let (pid, tid) = (lane.pid(), lane.id.tid.0);
        events.metadata("thread_name", pid, tid, Named { name })?;
        let sort_index = first + index;
        events.metadata("thread_sort_index", pid, tid, Order { sort_index })?;
        let told = Told {
            words: &words,
            min_block: report.min_block_ns,
            lane,
        };
        let steps: Vec<Step<'_>> = lane.steps().collect();
        // Events have come before these.
        write_each(&steps, events.out, |step, out| match step {
            Step::PollBegins(poll) => told.poll(poll, out),
            Step::PollEnds(_) => Ok(()),
            Step::Wait(wait) => told.wait(wait, out),
        })?;
    }
    events.out.write_all(b"\n]}\n")
}

/// Two rows a runtime: of what they show neither lies within the other.
fn runtimes(report: &Report, events: &mut Events<'_>) -> io::Result<()> {
    for (index, runtime) in report.runtimes.iter().enumerate() {
        let id = &runtime.id;
        let rows = [
            (
                format!("{id} starved"),
                "no task could run",
                &runtime.starved_stretches,
            ),
            (
                format!("{id} I/O driver"),
                "nobody waits for events",
                &runtime.unattended,
            ),
        ];
        for (row, (name, what, stretches)) in rows.into_iter().enumerate() {
            if !stretches.is_empty() {
                events.stretches(runtime.pid, (2 * index + row, name), what, stretches)?;
            }
        }
    }
    Ok(())
}

/// Nanoseconds as microseconds: exact up to three months.
fn micros(time: Nanos) -> f64 {
    time.0 as f64 / 1e3
}

/// What is told of stacks, objects and wakers, as JSON: a million waits have few of them.
struct Words {
    stacks: FastMap<StackId, StackWords>,
    objects: FastMap<ObjectId, Box<RawValue>>,
    wakers: FastMap<WakerId, Box<RawValue>>,
    no_stack: Box<RawValue>,
}

/// What is told of a stack.
struct StackWords {
    /// With the cause.
    name: Box<RawValue>,
    site: Box<RawValue>,
    at: Option<Box<RawValue>>,
    call: Box<RawValue>,
    task: Option<Box<RawValue>>,
}

impl Words {
    fn of(report: &Report, detail: &Detail) -> io::Result<Words> {
        Ok(Words {
            stacks: once(&detail.stacks, StackWords::of)?,
            objects: once(&detail.objects, |object| raw(&names::object(object)))?,
            wakers: once(&detail.wakers, |waker| raw(&names::waker(report, waker)))?,
            no_stack: raw("[no stack] [unknown]")?,
        })
    }
}

impl StackWords {
    fn of(stack: &DetailStack) -> io::Result<StackWords> {
        let site = names::site(stack);
        Ok(StackWords {
            name: raw(&format!("{site} [{}]", names::cause(stack)))?,
            site: raw(&site)?,
            at: names::place(stack).map(|at| raw(&at)).transpose()?,
            call: raw(&crate::render::display_name(&stack.wait))?,
            task: names::task(stack).map(|task| raw(&task)).transpose()?,
        })
    }
}

/// Adds an event that comes after others.
fn add(out: &mut Vec<u8>, event: &Event<'_, impl Serialize, impl Serialize>) -> io::Result<()> {
    out.extend_from_slice(b",\n");
    serde_json::to_writer(out, event).map_err(io::Error::from)
}

/// The events being written.
struct Events<'a> {
    out: &'a mut dyn io::Write,
    commas: Commas,
}

impl Events<'_> {
    fn put(&mut self, event: &Event<'_, impl Serialize, impl Serialize>) -> io::Result<()> {
        self.commas.next(self.out)?;
        value(self.out, event)
    }

    fn metadata(&mut self, what: &str, pid: Pid, tid: u32, args: impl Serialize) -> io::Result<()> {
        self.put(&Event {
            ph: "M",
            name: what,
            cat: "",
            pid,
            tid,
            ts: None,
            dur: None,
            args,
        })
    }

    /// A row that is no thread's.
    fn stretches(
        &mut self,
        pid: Pid,
        (sort_index, name): (usize, String),
        what: &str,
        stretches: &[Stretch],
    ) -> io::Result<()> {
        let row = RUNTIME_ROWS.saturating_add(u32::try_from(sort_index).unwrap_or(u32::MAX));
        self.metadata("thread_name", pid, row, Named { name })?;
        self.metadata("thread_sort_index", pid, row, Order { sort_index })?;
        let mut stretches = stretches.to_vec();
        stretches.sort_by_key(|stretch| stretch.start_ns);
        for stretch in stretches {
            self.put(&Event {
                ph: "X",
                name: what,
                cat: "runtime",
                pid,
                tid: row,
                ts: Some(micros(stretch.start_ns)),
                dur: Some(micros(stretch.length_ns)),
                args: Nothing {},
            })?;
        }
        Ok(())
    }
}

/// What is told of a thread's time.
struct Told<'a> {
    words: &'a Words,
    min_block: Nanos,
    lane: &'a Lane<'a>,
}

impl Told<'_> {
    fn poll(&self, shown: &ShownPoll<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let task = shown.stack.and_then(names::task);
        let task = task.or_else(|| shown.stack.map(names::site));
        let poll = shown.poll;
        add(
            out,
            &Event {
                ph: "X",
                name: format!("long poll of {}", task.as_deref().unwrap_or("a task")),
                cat: "poll",
                pid: self.lane.pid(),
                tid: self.lane.id.tid.0,
                ts: Some(micros(shown.start)),
                dur: Some(micros(shown.end.saturating_sub(shown.start))),
                args: PollArgs {
                    at: shown.stack.and_then(names::place),
                    task_id: poll.task_id,
                    blocked_ns: poll.blocked,
                    runqueue_ns: poll.runqueue,
                    running_ns: poll.running,
                    waits: poll.waits,
                    samples: poll.samples,
                    evidence: poll.evidence,
                },
            },
        )
    }

    /// The wait, and what it had to wait for a CPU after it, where that was as long as what is
    /// recorded one by one.
    fn wait(&self, shown: &ShownWait<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let lane = self.lane;
        let stack = shown.stack;
        let cause = stack.map_or("unknown", names::cause);
        let wait = shown.wait;
        let all = self.words;
        let words = all.stacks.get(&wait.stack);
        let object = wait.object.and_then(|id| all.objects.get(&id));
        let waker = wait.waker.and_then(|id| all.wakers.get(&id));
        let waker_words = wait.waker_stack.and_then(|id| all.stacks.get(&id));
        let args = WaitArgs {
            state: stack.map_or("unknown", |stack| stack.state.name()),
            cause,
            at: words.and_then(|words| words.at.as_deref()),
            call: words.map(|words| &*words.call),
            object: object.map(|object| &**object),
            task: words.and_then(|words| words.task.as_deref()),
            task_id: wait.task_id,
            woken_by: waker.map(|waker| &**waker),
            woken_from: waker_words.map(|words| &*words.site),
            runtime: lane.thread.and_then(|thread| thread.runtime.as_deref()),
            blocked_ns: shown.blocked(),
            runqueue_ns: shown.runqueue(),
        };
        let (pid, tid) = (lane.pid(), lane.id.tid.0);
        add(
            out,
            &Event {
                ph: "X",
                name: words.map_or(&all.no_stack, |words| &words.name),
                cat: cause,
                pid,
                tid,
                ts: Some(micros(shown.start)),
                dur: Some(micros(shown.blocked())),
                args,
            },
        )?;
        if shown.runqueue() < self.min_block || shown.runqueue() == Nanos::ZERO {
            return Ok(());
        }
        add(
            out,
            &Event {
                ph: "X",
                name: "waits for a CPU",
                cat: "runnable",
                pid,
                tid,
                ts: Some(micros(shown.wakeup)),
                dur: Some(micros(shown.runqueue())),
                args: Nothing {},
            },
        )
    }
}
