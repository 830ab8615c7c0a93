//! The whole time of threads that had something to do: on a CPU, waiting for one, and blocked.
//!
//! Time on a CPU is that of samples, time blocked and time in line for a CPU after a wakeup is
//! exact; what is left of the latter (preemption) is of no one stack. Parked threads are left out.

use super::alike::FunctionNames;
use super::drawn::Drawn;
use super::folded::{Folded, Folding, frames, roots};
use super::palette::Kind;
use super::{Options, flamegraph};
use crate::report::{Report, StackTotal};
use crate::runtime::State;
use crate::units::Nanos;
use std::collections::BTreeMap;
use std::io;

/// Writes folded stacks.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn folded(report: &Report, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    fold(report, options).write(out)
}

/// Writes a flamegraph.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn svg(report: &Report, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    let title = "Time on a CPU, in line for one, and blocked";
    flamegraph::draw(report, options, title, &fold(report, options), out)
}

fn fold(report: &Report, options: &Options) -> Folded {
    let collapse = options.collapse_runtime;
    let names = FunctionNames::of(report);
    let mut folding = Folding::default();
    for stack in &report.cpu_stacks {
        folding.add(frames(report, stack, collapse, &names), stack.blocked);
    }
    let mut after_wakeups: BTreeMap<&str, Nanos> = BTreeMap::new();
    for stack in &report.stacks {
        if options.states.contains(&stack.state) {
            folding.add(frames(report, stack, collapse, &names), stack.blocked);
        }
        if stack.runqueue == Nanos::ZERO {
            continue;
        }
        let runnable = StackTotal {
            state: State::Runnable,
            cause: None,
            ..stack.clone()
        };
        folding.add(frames(report, &runnable, collapse, &names), stack.runqueue);
        if let Some(runtime) = &stack.runtime {
            *after_wakeups.entry(runtime).or_default() += stack.runqueue;
        }
    }
    for runtime in &report.runtimes {
        let all = runtime.states.get(&State::Runnable).copied();
        let known = after_wakeups.get(runtime.id.as_str()).copied();
        let rest = all
            .unwrap_or_default()
            .saturating_sub(known.unwrap_or_default());
        let mut line = roots(report, runtime.pid, Some(&runtime.id), State::Runnable);
        line.push(Drawn::mark("[preempted]", Kind::Nameless));
        folding.add(line, rest);
    }
    folding.finish()
}
