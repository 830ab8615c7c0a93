//! Code that a worker calls outside every poll: wakers, which its I/O and time driver call, and hooks
//! such as `on_thread_park`. While such code waits, the worker polls no task.

use crate::arch::{syscalls, waits_in_epoll};
use crate::runtime::{Classification, RuleName, State};

/// The rules by which a wait is in such code.
pub(super) const WORKER_PARK: RuleName = RuleName("worker-park-callback");
pub(super) const WORKER_LOOP: RuleName = RuleName("worker-loop-callback");
pub(super) const SINGLE_PARK: RuleName = RuleName("current-thread-park-callback");
pub(super) const SINGLE_DRIVER: RuleName = RuleName("current-thread-driver-callback");
const BY_CONTEXT: RuleName = RuleName("context-park-callback");

const ALL: [RuleName; 5] = [
    WORKER_PARK,
    WORKER_LOOP,
    SINGLE_PARK,
    SINGLE_DRIVER,
    BY_CONTEXT,
];

/// System calls in which a runtime's own code may wait outside every poll: for its locks, its memory, its
/// end, and for events. On Linux tokio waits for these by epoll alone, and by io_uring where that is asked for.
const OF_THE_RUNTIME: [u32; 11] = syscalls([
    "futex",
    "io_uring_enter",
    "restart_syscall",
    "sched_yield",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "brk",
    "exit",
]);

/// Whether a stack was classified to be in such code.
#[must_use]
pub fn is_in_callback(class: &Classification) -> bool {
    is_callback_rule(class.rule.0)
}

/// Whether the rule of this name says so.
#[must_use]
pub fn is_callback_rule(rule: &str) -> bool {
    ALL.iter().any(|known| known.0 == rule)
}

/// The rules that say that a worker waits outside every poll, in tokio's code or parked, and what says so
/// where it waits in code that tokio called.
const OUTSIDE_POLLS: [(&str, RuleName); 7] = [
    ("worker-park-lock", WORKER_PARK),
    ("worker-loop", WORKER_LOOP),
    ("current-thread-park-lock", SINGLE_PARK),
    ("park-lock-current-thread", SINGLE_DRIVER),
    ("context-worker-parked", BY_CONTEXT),
    ("context-current-thread-parked", BY_CONTEXT),
    ("context-coreless", BY_CONTEXT),
];

/// What a wait outside every poll means by its system call: no park, and no lock of tokio's, sleeps or
/// reads a file. So this tells callbacks whose frames have no names, or were left by a jump. Waits for
/// locks stay what they were, since a park waits for a futex, too.
#[must_use]
pub fn by_call(class: Classification, call: Option<u32>) -> Classification {
    let of_runtime = |call| waits_in_epoll(call) || OF_THE_RUNTIME.contains(&call);
    if call.is_none_or(of_runtime) {
        return class;
    }
    let outside = OUTSIDE_POLLS.iter().find(|(rule, _)| *rule == class.rule.0);
    outside.map_or(class, |(_, rule)| Classification {
        state: State::Blocked,
        rule: *rule,
        ..class
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::syscall;
    use crate::runtime::tokio::RULES;
    use crate::runtime::{Flavor, Role};

    #[test]
    fn no_park_sleeps() {
        let parked = |role, rule| Classification {
            state: State::Idle,
            role,
            rule: RuleName(rule),
            frame: None,
            task_frame: None,
        };
        let worker = parked(Role::Worker(Flavor::MultiThread), "context-worker-parked");
        for call in ["futex", "epoll_wait", "epoll_pwait", "munmap"] {
            assert_eq!(by_call(worker, Some(syscall(call))), worker, "{call}");
        }
        assert_eq!(by_call(worker, None), worker, "a page fault");
        let main = parked(Role::BlockOn, "context-block-on-parked");
        assert_eq!(by_call(main, Some(syscall("read"))), main);
        for call in [
            "clock_nanosleep",
            "read",
            "connect",
            "flock",
            "poll",
            "select",
        ] {
            let held_up = by_call(worker, Some(syscall(call)));
            assert_eq!((held_up.state, held_up.role), (State::Blocked, worker.role));
            assert!(is_in_callback(&held_up) && !is_in_callback(&worker));
        }
    }

    #[test]
    fn every_rule_that_is_named_here_exists() {
        let rules: Vec<&str> = RULES.iter().map(|rule| rule.name.0).collect();
        let named = OUTSIDE_POLLS.iter().map(|(rule, _)| *rule);
        let named = named.chain(ALL.map(|rule| rule.0));
        for rule in named.filter(|rule| !rule.starts_with("context-")) {
            assert!(rules.contains(&rule), "{rule}");
        }
    }
}
