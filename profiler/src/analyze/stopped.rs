//! What held processes from outside.

use super::whole::Whole;
use crate::recording::{ProcessId, ThreadId};
use crate::report::Stopped;
use crate::runtime::StoppedBy;
use crate::units::Nanos;
use std::collections::BTreeMap;

/// By process and by what, in this order.
pub(super) fn stopped(whole: &Whole<'_>) -> Vec<Stopped> {
    let mut held: BTreeMap<(ProcessId, StoppedBy), BTreeMap<ThreadId, Nanos>> = BTreeMap::new();
    for (thread, stack, times) in whole.waits() {
        let stack = whole.tables.stack(stack);
        if let Some(by) = stack.and_then(|stack| stack.stopped_by) {
            let threads = held.entry((thread.process, by)).or_default();
            *threads.entry(thread).or_default() += times.blocked;
        }
    }
    let held = held.into_iter().map(|((process, by), threads)| Stopped {
        pid: whole.pid(process),
        by,
        longest_ns: threads.values().copied().max().unwrap_or_default(),
        threads: u32::try_from(threads.len()).unwrap_or(u32::MAX),
    });
    held.filter(|stopped| stopped.longest_ns > Nanos::ZERO)
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::analyze::build;
    use crate::analyze::testing::{app, library, recording, stack};
    use crate::report::Verdict;
    use crate::runtime::{Flavor, Role, State, StoppedBy};
    use crate::units::Nanos;

    const WORKER: Role = Role::Worker(Flavor::MultiThread);

    #[test]
    fn time_in_which_a_process_was_held_is_nobody_s_fault() {
        let mut recording = recording(1_000_000_000);
        let idle = stack(vec![library("std::x")], State::Idle, WORKER, None);
        let idle = recording.push_stack(idle);
        let poll = stack(vec![app("app::work", 3)], State::Blocked, WORKER, Some(0));
        let poll = recording.push_stack(poll);
        let mut held = stack(vec![app("app::work", 3)], State::Stopped, WORKER, None);
        held.stopped_by = Some(StoppedBy::Debugger);
        let held = recording.push_stack(held);
        for tid in 1..=2 {
            recording.push_thread(tid);
            recording.push_wait(tid, idle, 0, 200_000_000);
            recording.push_wait(tid, held, 200_000_000, 990_000_000);
        }
        recording.push_wait(1, poll, 990_000_000, 990_500_000);
        let report = build(&recording);
        let [stopped] = &report.stopped[..] else {
            panic!("{:?}", report.stopped);
        };
        assert_eq!((stopped.by, stopped.threads), (StoppedBy::Debugger, 2));
        assert_eq!(stopped.longest_ns, Nanos(790_000_000));
        let states = &report.runtimes[0].states;
        assert_eq!(states[&State::Stopped], Nanos(1_580_000_000));
        assert_eq!(states[&State::Blocked], Nanos(500_000));
        assert!(
            matches!(report.verdict, Verdict::Stopped { .. }),
            "{:?}",
            report.verdict
        );
        assert!(report.sites.iter().all(|site| site.state != State::Stopped));
    }
}
