//! Folded stacks: a line a stack, root first, frames separated by `;`, then the time in
//! microseconds. The format of Brendan Gregg's `flamegraph.pl`, which inferno and speedscope
//! read too.
//!
//! The first frame is the runtime (or `blocking pool`, `no runtime`), the second the state. Where
//! several processes were recorded, the name and the id of the process stand before both.
//! Kernel frames end in `_[k]` and inlined ones in `_[i]`, as those tools expect. A stack that
//! does not reach its thread's start has `[truncated: …]` where the rest would be. Times below
//! half a microsecond round to nothing; such stacks are left out.

use super::palette::Kind;
use super::{Options, display_name, process_name};
use crate::report::{Report, RuntimeKind, StackTotal};
use crate::runtime::State;
use crate::symbolize::{Frame, Origin, Space};
use crate::units::{Nanos, Pid};
use crate::unwind::Truncation;
use std::collections::BTreeMap;
use std::io;

/// Writes the folded stacks, sorted.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn render(report: &Report, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    fold(report, options).write(out)
}

/// Folded stacks and what their frames are.
pub(super) struct Folded {
    /// Stack to microseconds.
    pub(super) lines: BTreeMap<String, u64>,
    /// Frame to kind, for colours; names are as in the lines.
    pub(super) kinds: BTreeMap<String, Kind>,
}

impl Folded {
    /// Writes the lines.
    pub(super) fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        for (stack, micros) in &self.lines {
            writeln!(out, "{stack} {micros}")?;
        }
        Ok(())
    }
}

/// Folds the stacks that are in one of `options.states`.
pub(super) fn fold(report: &Report, options: &Options) -> Folded {
    let mut folding = Folding::default();
    for stack in &report.stacks {
        if options.states.contains(&stack.state) {
            let frames = frames(report, stack, options.collapse_runtime);
            folding.add(frames, stack.blocked);
        }
    }
    folding.finish()
}

/// Stacks being folded.
#[derive(Default)]
pub(super) struct Folding {
    nanos: BTreeMap<String, Nanos>,
    kinds: BTreeMap<String, Kind>,
}

impl Folding {
    /// Adds time to the stack with these frames, root first.
    pub(super) fn add(&mut self, frames: Vec<(String, Kind)>, time: Nanos) {
        let line: Vec<&str> = frames.iter().map(|(name, _)| name.as_str()).collect();
        *self.nanos.entry(line.join(";")).or_default() += time;
        self.kinds.extend(frames);
    }

    /// The lines, in microseconds.
    pub(super) fn finish(self) -> Folded {
        let lines = self
            .nanos
            .into_iter()
            .map(|(stack, nanos)| (stack, nanos.0.saturating_add(500) / 1_000))
            .filter(|&(_, micros)| micros > 0)
            .collect();
        Folded {
            lines,
            kinds: self.kinds,
        }
    }
}

/// The frames of a line, root first.
pub(super) fn frames(report: &Report, stack: &StackTotal, collapse: bool) -> Vec<(String, Kind)> {
    let mut frames = roots(report, stack.pid, stack.runtime.as_deref(), stack.state);
    frames.reserve(stack.frames.len() + 1);
    if let Some(truncation) = stack.truncated {
        frames.push((truncated(truncation).to_owned(), Kind::Nameless));
    }
    let task = stack.task_frame.map_or(usize::MAX, |index| index);
    // The outermost frame of the run that is being collapsed stands for it.
    let mut run: Option<Run> = None;
    for (index, frame) in stack.frames.iter().enumerate().rev() {
        let this = collapse.then(|| Run::of(frame, index > task)).flatten();
        if this.is_none() || this != run {
            frames.push(match this {
                Some(Run::Outside) => ("[runtime]".to_owned(), Kind::Runtime),
                _ => (folded_name(frame), Kind::of(frame)),
            });
        }
        run = this;
    }
    frames
}

/// A run of frames that is drawn as one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    /// Outside the task: thread start, worker loop, poll.
    Outside,
    /// Inside the task: a library call and what it calls.
    Call,
}

impl Run {
    fn of(frame: &Frame, outside: bool) -> Option<Run> {
        match frame.origin {
            Origin::Runtime | Origin::Library | Origin::System if outside => Some(Run::Outside),
            Origin::Runtime | Origin::Library | Origin::System => Some(Run::Call),
            _ => None,
        }
    }
}

/// The first frames of a line: the process where there are several, the runtime, the state.
pub(super) fn roots(
    report: &Report,
    pid: Pid,
    runtime: Option<&str>,
    state: State,
) -> Vec<(String, Kind)> {
    let mut frames = Vec::with_capacity(3);
    if let Some(process) = process_name(report, pid) {
        // The id stands in parentheses: a number by itself would be read as a count.
        frames.push((display_name(&process).replace(';', ":"), Kind::Root));
    }
    frames.push((root(report, runtime, state), Kind::Root));
    frames.push((state.name().to_owned(), Kind::State(state)));
    frames
}

fn root(report: &Report, runtime: Option<&str>, state: State) -> String {
    let Some(id) = runtime else {
        return match state {
            State::Pool => "blocking pool".to_owned(),
            _ => "no runtime".to_owned(),
        };
    };
    let kind = report
        .runtimes
        .iter()
        .find(|runtime| runtime.id == id)
        .map_or("", |runtime| match runtime.kind {
            RuntimeKind::MultiThread => " multi_thread",
            RuntimeKind::CurrentThread => " current_thread",
            RuntimeKind::LocalSet => " LocalSet",
        });
    format!("{id}{kind}")
}

const fn truncated(truncation: Truncation) -> &'static str {
    match truncation {
        Truncation::TooDeep => "[truncated: too deep]",
        Truncation::Unmapped => "[truncated: unmapped address]",
        Truncation::NoRow => "[truncated: no unwind information]",
        Truncation::Unsupported => "[truncated: unsupported unwind rule]",
        Truncation::Unreadable => "[truncated: unreadable stack]",
        Truncation::NoProgress => "[truncated: broken chain]",
        Truncation::NoStack => "[truncated: no stack]",
    }
}

/// A frame's name with its mark, without what would break the line apart.
pub(super) fn folded_name(frame: &Frame) -> String {
    let mut name = plain_name(&display_name(&frame.function));
    match frame.space {
        Space::Kernel => name.push_str("_[k]"),
        Space::User if frame.inlined => name.push_str("_[i]"),
        Space::User => {}
    }
    name
}

/// A name without what would break a line apart.
pub(super) fn plain_name(name: &str) -> String {
    let mut name = name.replace(';', ":");
    if name.trim().is_empty() {
        name = "[unnamed]".to_owned();
    }
    // Readers take a number at the end of a line for a count, two for a difference.
    if let Some(space) = name.rfind(' ') {
        let number = |c: char| c.is_ascii_digit() || c == '.';
        if name
            .get(space + 1..)
            .is_some_and(|last| last.chars().all(number))
        {
            name.replace_range(space..=space, "_");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str) -> Frame {
        Frame::named(function, Origin::Application)
    }

    #[test]
    fn names_cannot_break_a_line() {
        assert_eq!(folded_name(&frame("a;b\nc")), "a:b\\x0ac");
        assert_eq!(folded_name(&frame("fn 12 345")), "fn 12_345");
        assert_eq!(folded_name(&frame("fn 1.5")), "fn_1.5");
        assert_eq!(folded_name(&frame("trailing ")), "trailing_");
        assert_eq!(folded_name(&frame("  ")), "[unnamed]".to_owned());
        assert_eq!(folded_name(&frame("")), "[unnamed]");
    }

    #[test]
    fn kernel_and_inlined_frames_are_marked() {
        let mut kernel = frame("futex_wait");
        kernel.space = Space::Kernel;
        assert_eq!(folded_name(&kernel), "futex_wait_[k]");
        let mut inlined = frame("a::b");
        inlined.inlined = true;
        assert_eq!(folded_name(&inlined), "a::b_[i]");
    }
}
