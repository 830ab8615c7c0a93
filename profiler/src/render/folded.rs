//! Folded stacks: a line a stack, root first, frames separated by `;`, then the time in
//! microseconds. The format of Brendan Gregg's `flamegraph.pl`, which inferno and speedscope
//! read too.
//!
//! The first frame is the runtime (or `blocking pool`, `no runtime`), the second the state. Where
//! several processes were recorded, the name and the id of the process stand before both.
//! Kernel frames end in `_[k]` and inlined ones in `_[i]`, as those tools expect. A stack that
//! does not reach its thread's start has `[truncated: …]` where the rest would be. Times below
//! half a microsecond round to nothing; such stacks are left out. Unless all frames are asked for,
//! those of the runtime and of the kernel are folded, see [`super::drawn`].

use super::alike::FunctionNames;
use super::drawn::{self, Drawn};
use super::palette::Kind;
use super::{Options, display_name, process_name};
use crate::report::{Report, RuntimeKind, StackTotal};
use crate::runtime::State;
use crate::units::{Nanos, Pid};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

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
    /// Frame to its source files and lines, that with most time first.
    pub(super) places: BTreeMap<String, Vec<(Arc<str>, u32)>>,
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
    let names = FunctionNames::of(report);
    let mut folding = Folding::default();
    for stack in &report.stacks {
        if options.states.contains(&stack.state) {
            let frames = frames(report, stack, options.collapse_runtime, &names);
            folding.add(frames, stack.blocked);
        }
    }
    folding.finish()
}

/// Where a frame was in the source, and for how long.
type Places = BTreeMap<(Arc<str>, u32), Nanos>;

/// Stacks being folded.
#[derive(Default)]
pub(super) struct Folding {
    nanos: BTreeMap<String, Nanos>,
    kinds: BTreeMap<String, Kind>,
    places: BTreeMap<String, Places>,
}

impl Folding {
    /// Adds time to the stack with these frames, root first.
    pub(super) fn add(&mut self, frames: Vec<Drawn>, time: Nanos) {
        let line: Vec<String> = frames.iter().map(Drawn::marked).collect();
        *self.nanos.entry(line.join(";")).or_default() += time;
        for (frame, name) in frames.into_iter().zip(line) {
            if let Some(place) = frame.place {
                let places = self.places.entry(name.clone()).or_default();
                *places.entry(place).or_default() += time;
            }
            self.kinds.insert(name, frame.kind);
        }
    }

    /// The lines, in microseconds.
    pub(super) fn finish(self) -> Folded {
        let lines = self.nanos.into_iter();
        let lines = lines
            .map(|(stack, nanos)| (stack, nanos.0.saturating_add(500) / 1_000))
            .filter(|&(_, micros)| micros > 0)
            .collect();
        let places = self.places.into_iter().map(|(name, places)| {
            let mut places: Vec<_> = places.into_iter().collect();
            // The sort is stable: of equals the first stays first.
            places.sort_by_key(|(_, time)| Reverse(*time));
            (name, places.into_iter().map(|(place, _)| place).collect())
        });
        Folded {
            lines,
            kinds: self.kinds,
            places: places.collect(),
        }
    }
}

/// The frames of a line, root first.
pub(super) fn frames(
    report: &Report,
    stack: &StackTotal,
    folded: bool,
    names: &FunctionNames,
) -> Vec<Drawn> {
    let mut frames = roots(report, stack.pid, stack.runtime.as_deref(), stack.state);
    frames.extend(drawn::frames(&stack.into(), folded, names));
    frames
}

/// The first frames of a line: the process where there are several, the runtime, the state.
pub(super) fn roots(report: &Report, pid: Pid, runtime: Option<&str>, state: State) -> Vec<Drawn> {
    let mut frames = Vec::with_capacity(3);
    if let Some(process) = process_name(report, pid) {
        // The id stands in parentheses: a number by itself would be read as a count.
        let name = display_name(&process).replace(';', ":");
        frames.push(Drawn::mark(name, Kind::Root));
    }
    frames.push(Drawn::mark(root(report, runtime, state), Kind::Root));
    frames.push(Drawn::mark(state.name(), Kind::State(state)));
    frames
}

pub(super) fn root(report: &Report, runtime: Option<&str>, state: State) -> String {
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
