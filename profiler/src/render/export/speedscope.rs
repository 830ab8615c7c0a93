//! speedscope's own format. Source: <https://github.com/jlfwong/speedscope/blob/main/src/lib/file-format-spec.ts>.
//!
//! The first profile is all blocked time by stack. Then comes one for each thread, in which the waits
//! and long polls are where they were in time.

use super::json::{Commas, value};
use super::lanes::{Lane, Limit, ShownWait, Step, lanes};
use super::names;
use crate::fast_hash::FastMap;
use crate::recording::StackId;
use crate::render::alike::FunctionNames;
use crate::render::drawn::{self, Drawn};
use crate::render::{Options, display_path, duration, folded};
use crate::report::{Detail, DetailStack, Report};
use crate::units::Nanos;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;

/// Events of all threads at most: speedscope reads a file as one string.
const EVENTS: usize = 2_000_000;

/// A frame as speedscope has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct Frame {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

/// Each frame once.
#[derive(Default)]
struct Frames {
    names: FunctionNames,
    frames: Vec<Frame>,
    known: FastMap<Frame, usize>,
}

impl Frames {
    fn index(&mut self, frame: Frame) -> usize {
        if let Some(index) = self.known.get(&frame) {
            return *index;
        }
        let index = self.frames.len();
        self.frames.push(frame.clone());
        self.known.insert(frame, index);
        index
    }

    fn drawn(&mut self, drawn: Drawn) -> usize {
        let name = drawn.marked();
        let (file, line) = drawn.place.unzip();
        self.index(Frame {
            name,
            file: file.map(|file| display_path(&file)),
            line,
        })
    }
}

/// Writes the file.
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
    let mut frames = Frames {
        names: FunctionNames::of(report),
        ..Frames::default()
    };
    let sums = sums(report, options, &mut frames);
    let stacks: BTreeMap<StackId, Vec<usize>> = detail
        .stacks
        .iter()
        .map(|(id, stack)| (*id, stack_frames(stack, options, &mut frames)))
        .collect();
    let limit = longest(detail, options, &stacks);
    let lanes = lanes(detail, options, limit);
    let polls: BTreeMap<StackId, usize> = detail
        .polls
        .iter()
        .map(|poll| (poll.stack, poll_frame(detail, poll.stack, &mut frames)))
        .collect();
    let unknown = frames.drawn(Drawn::mark(
        "[no stack]",
        crate::render::palette::Kind::Nameless,
    ));
    let look = Look {
        stacks,
        polls,
        unknown,
    };

    out.write_all(b"{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",")?;
    out.write_all(b"\n\"name\":")?;
    let target = names::process(report, report.target.pid);
    value(
        out,
        &format!("{target}, {}", names::caveats(report, detail).join(", ")),
    )?;
    out.write_all(b",\"exporter\":")?;
    value(
        out,
        &format!("{} {}", report.tool.name, report.tool.version),
    )?;
    out.write_all(b",\"activeProfileIndex\":0,\n\"shared\":{\"frames\":[")?;
    let mut commas = Commas::default();
    for frame in &frames.frames {
        commas.next(out)?;
        value(out, frame)?;
    }
    out.write_all(b"]},\n\"profiles\":[\n")?;
    value(out, &sums)?;
    let end = detail.end - detail.start;
    for lane in &lanes {
        out.write_all(b",\n")?;
        let name = lane_name(lane, limit.at_least);
        evented(&name, lane, &look, end, out)?;
    }
    out.write_all(b"]}\n")
}

/// All stacks with their time.
#[derive(Serialize)]
struct Sampled {
    r#type: &'static str,
    name: &'static str,
    unit: &'static str,
    #[serde(rename = "startValue")]
    start: u64,
    #[serde(rename = "endValue")]
    end: Nanos,
    samples: Vec<Vec<usize>>,
    weights: Vec<Nanos>,
}

fn sums(report: &Report, options: &Options, frames: &mut Frames) -> Sampled {
    // Stacks that differ only in what is not drawn are one.
    let mut times: BTreeMap<Vec<usize>, Nanos> = BTreeMap::new();
    for stack in &report.stacks {
        if options.states.contains(&stack.state) && stack.blocked > Nanos::ZERO {
            let drawn = folded::frames(report, stack, options.collapse_runtime, &frames.names);
            let drawn = drawn.into_iter().map(|frame| frames.drawn(frame));
            *times.entry(drawn.collect()).or_default() += stack.blocked;
        }
    }
    let (samples, weights): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    Sampled {
        r#type: "sampled",
        name: "all blocked time",
        unit: "nanoseconds",
        start: 0,
        end: weights.iter().copied().sum(),
        samples,
        weights,
    }
}

fn stack_frames(stack: &DetailStack, options: &Options, frames: &mut Frames) -> Vec<usize> {
    let drawn = drawn::frames(&stack.into(), options.collapse_runtime, &frames.names);
    drawn.into_iter().map(|frame| frames.drawn(frame)).collect()
}

/// The frame that stands for a long poll.
fn poll_frame(detail: &Detail, stack: StackId, frames: &mut Frames) -> usize {
    let stack = detail.stacks.get(&stack);
    let task = stack.and_then(|stack| names::task(stack).or_else(|| Some(names::site(stack))));
    frames.index(Frame {
        name: match task {
            Some(task) => format!("[long poll] {task}"),
            None => "[long poll]".to_owned(),
        },
        file: None,
        line: None,
    })
}

/// Which waits are drawn, so that there are not too many events.
fn longest(detail: &Detail, options: &Options, stacks: &BTreeMap<StackId, Vec<usize>>) -> Limit {
    let shown = |wait: &&crate::recording::Wait| super::lanes::is_shown(detail, options, wait);
    let waits = || detail.waits.iter().chain(&detail.open).filter(shown);
    let events = |wait: &crate::recording::Wait| 2 * stacks.get(&wait.stack).map_or(1, Vec::len);
    let all: usize = waits().map(events).sum();
    if all <= EVENTS {
        return Limit::NONE;
    }
    let lengths: Vec<Nanos> = waits()
        .map(|wait| ShownWait::of(detail, wait).blocked())
        .collect();
    // By their average: a bound on the size, not a promise to the byte.
    let most = lengths.len() as u128 * EVENTS as u128 / all as u128;
    Limit::of(lengths, usize::try_from(most).unwrap_or(usize::MAX))
}

fn lane_name(lane: &Lane<'_>, at_least: Nanos) -> String {
    let name = names::thread(lane.id, lane.thread);
    let runtime = lane.thread.and_then(|thread| thread.runtime.as_deref());
    let name = runtime.map_or_else(|| name.clone(), |runtime| format!("{runtime} {name}"));
    if at_least > Nanos::ZERO {
        format!("{name}, waits of {} and more", duration(at_least))
    } else {
        name
    }
}

/// What frames are drawn for what.
struct Look {
    stacks: BTreeMap<StackId, Vec<usize>>,
    polls: BTreeMap<StackId, usize>,
    unknown: usize,
}

fn evented(
    name: &str,
    lane: &Lane<'_>,
    look: &Look,
    end: Nanos,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    out.write_all(b"{\"type\":\"evented\",\"name\":")?;
    value(out, &name)?;
    write!(
        out,
        ",\"unit\":\"nanoseconds\",\"startValue\":0,\"endValue\":{},\"events\":[",
        end.0
    )?;
    let unknown = [look.unknown];
    let mut commas = Commas::default();
    let mut event = |out: &mut dyn io::Write, what: char, frame: usize, at: Nanos| {
        commas.next(out)?;
        write!(
            out,
            "{{\"type\":\"{what}\",\"frame\":{frame},\"at\":{}}}",
            at.0
        )
    };
    for step in lane.steps() {
        let poll = |poll: crate::recording::StackId| {
            look.polls.get(&poll).copied().unwrap_or(look.unknown)
        };
        match step {
            Step::PollBegins(shown) => event(out, 'O', poll(shown.poll.stack), shown.start)?,
            Step::PollEnds(shown) => event(out, 'C', poll(shown.poll.stack), shown.end)?,
            Step::Wait(wait) => {
                let frames = look.stacks.get(&wait.wait.stack);
                let frames = frames.map_or(&unknown[..], Vec::as_slice);
                for frame in frames {
                    event(out, 'O', *frame, wait.start)?;
                }
                for frame in frames.iter().rev() {
                    event(out, 'C', *frame, wait.wakeup)?;
                }
            }
        }
    }
    out.write_all(b"]}")
}
