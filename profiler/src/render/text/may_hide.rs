//! What a verdict cannot rule out where it is not known which workers are of one runtime.

use crate::recording::STANDSTILL;
use crate::report::dump::{DumpRuntime, DumpThread};
use crate::report::{GroupedBy, Report, ThreadReport};
use crate::runtime::State;
use crate::units::Nanos;

/// A worker that was blocked for at least this share of its life may be one of a runtime that came to a
/// halt.
const ALWAYS: f64 = 0.95;

const HINT: &str = " Which workers are of one runtime is not known, but guessed at most: one of which all \
                    workers are blocked may be among them.";

/// Said of the runtime that a verdict is about, of which some workers are blocked.
pub(super) fn may_hide(report: &Report, id: &str) -> &'static str {
    let runtime = report.runtimes.iter().find(|runtime| runtime.id == id);
    let Some(runtime) = runtime.filter(|of| is_unsure(of.grouped_by, of.workers)) else {
        return "";
    };
    let is_stuck = |thread: &&ThreadReport| {
        let blocked = thread.states.get(&State::Blocked).copied();
        let share = blocked.unwrap_or(Nanos::ZERO).share_of(thread.lived_ns);
        thread.runtime.as_deref() == Some(&runtime.id) && share >= ALWAYS
    };
    match report.threads.iter().any(|thread| is_stuck(&thread)) {
        true => HINT,
        false => "",
    }
}

/// Likewise of a dump.
pub(super) fn dump_may_hide(threads: &[DumpThread], runtime: &DumpRuntime) -> &'static str {
    let is_stuck = |thread: &DumpThread| {
        let since = thread.since_ns.unwrap_or(Nanos::ZERO);
        let is_its = thread.runtime.as_deref() == Some(&runtime.id);
        is_its && thread.state == State::Blocked && since >= STANDSTILL
    };
    match is_unsure(runtime.grouped_by, runtime.workers) && threads.iter().any(is_stuck) {
        true => HINT,
        false => "",
    }
}

/// Whether its workers may be those of several runtimes.
const fn is_unsure(grouped_by: GroupedBy, workers: u32) -> bool {
    matches!(grouped_by, GroupedBy::Guess | GroupedBy::Process) && workers > 1
}
