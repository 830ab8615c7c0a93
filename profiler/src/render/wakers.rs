//! Waits with those who ended them, as `offwaketime` of bcc draws it: from the root up the stack
//! that waited, then `--`, then the stack of the waker from its leaf to its root, so that wait and
//! wakeup touch, and last the waker's name.
//!
//! Only waits of the timeline are in it, and only those whose wakeup was seen. Wakers that are no
//! threads of the target (interrupts, the kernel, other programs) have a name only.

use super::alike::FunctionNames;
use super::drawn::{self, Drawn, plain_name};
use super::folded::{Folded, Folding, frames};
use super::palette::Kind;
use super::{Options, flamegraph, sanitize};
use crate::report::Report;
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
    let title = "Blocked time and who ended it";
    flamegraph::draw(report, options, title, &fold(report, options), out)
}

fn fold(report: &Report, options: &Options) -> Folded {
    let names = FunctionNames::of(report);
    let mut folding = Folding::default();
    for woken in &report.woken_stacks {
        if !options.states.contains(&woken.waiting.state) {
            continue;
        }
        let mut line = frames(report, &woken.waiting, options.collapse_runtime, &names);
        line.push(Drawn::mark("--", Kind::Root));
        let waker = drawn::Stack {
            frames: &woken.waker_frames,
            task_frame: woken.waker_task_frame,
            truncated: None,
            cause: None,
        };
        line.extend(
            drawn::frames(&waker, options.collapse_runtime, &names)
                .into_iter()
                .rev(),
        );
        let name = format!("[{}]", plain_name(&sanitize(&woken.waker)));
        line.push(Drawn::mark(name, Kind::Waker));
        folding.add(line, woken.waiting.blocked);
    }
    folding.finish()
}
