use super::*;
use crate::analyze::testing::{app, library, recording, stack, thread};
use crate::cause::Cause;
use crate::recording::{
    Holder, Object, ObjectKind, OpenWait, Recording, SampleSum, StackId, ThreadTimes,
};
use crate::runtime::Flavor;
use crate::runtime::tokio::RuntimeHandle;
use crate::units::{Addr, Nanos, Tid, Timestamp};

const WORKER: Role = Role::Worker(Flavor::MultiThread);
const SECOND: u64 = 1_000_000_000;
/// Between the looks.
const LENGTH: u64 = 100_000_000;

/// A look at a made-up program.
struct Story {
    recording: Recording,
    asleep: BTreeMap<ThreadId, Nanos>,
}

impl Story {
    fn new() -> Story {
        Story {
            recording: recording(LENGTH),
            asleep: BTreeMap::new(),
        }
    }

    fn stack(&mut self, function: &str, state: State, role: Role, runtime: u64) -> StackId {
        let frames = vec![library("std::x"), app(function, 7)];
        let mut stack = stack(frames, state, role, Some(1));
        stack.runtime = Some(RuntimeHandle(Addr(runtime)));
        self.recording.push_stack(stack)
    }

    /// A thread that did not move, and had not run for so long.
    fn waits(&mut self, tid: u32, stack: StackId, asleep: u64) -> &mut OpenWait {
        self.recording.push_thread(tid);
        self.recording.push_open(tid, stack, 0);
        self.asleep.insert(thread(tid), Nanos(asleep));
        let open = self.recording.interval().open_waits.last_mut();
        let open = open.expect("just pushed");
        open.before_recording = true;
        open
    }

    fn held_by(&mut self, tid: u32, stack: StackId, asleep: u64, holder: u32, likely: bool) {
        let open = self.waits(tid, stack, asleep);
        open.object = Some(Object {
            kind: ObjectKind::Futex,
            name: format!("{holder:#x}"),
        });
        open.holder = Some(Holder::Thread {
            tid: Tid(holder),
            name: String::new(),
            evidence: String::new(),
            likely,
        });
    }

    fn dump(&self) -> Dump {
        let Recording {
            header,
            tables,
            intervals,
        } = &self.recording;
        dump(&Looked {
            header,
            tables,
            interval: &intervals[0],
            asleep: &self.asleep,
            queued: &BTreeMap::new(),
        })
    }
}

/// Two workers of one runtime that have been blocked for so long.
fn blocked(asleep: u64) -> Story {
    let mut story = Story::new();
    let stack = story.stack("app::f", State::Blocked, WORKER, 0x10);
    story.waits(1, stack, asleep);
    story.waits(2, stack, asleep + 1);
    story
}

#[test]
fn a_runtime_whose_workers_have_been_blocked_for_a_second_is_wedged() {
    let dump = blocked(SECOND).dump();
    assert_eq!(dump.verdict.kind, DumpKind::Wedged);
    assert_eq!(dump.verdict.runtime.as_deref(), Some("rt0"));
    let [runtime] = &dump.runtimes[..] else {
        panic!("{:?}", dump.runtimes);
    };
    assert_eq!((runtime.workers, runtime.blocked), (2, 2));
    assert_eq!(runtime.all_blocked_ns, Nanos(SECOND), "the shorter wait");
    let first = &dump.threads[0];
    assert_eq!(
        (first.tid, first.since_ns),
        (Tid(2), Some(Nanos(SECOND + 1)))
    );
    assert!(first.at_least && first.unmoved);
    assert_eq!(first.function.as_deref(), Some("app::f"));
    assert_eq!(first.line, Some(7));
}

#[test]
fn a_moment_is_no_standstill() {
    let dump = blocked(SECOND - 1).dump();
    assert_eq!(dump.verdict.kind, DumpKind::AllBlocked);
    assert!(!dump.verdict.kind.is_standstill());
    // Of whom the scheduler tells nothing, only the time between the looks is known.
    let mut story = blocked(9 * SECOND);
    story.asleep.clear();
    assert_eq!(story.dump().verdict.kind, DumpKind::AllBlocked);
    // A worker that moved makes progress.
    let mut story = blocked(9 * SECOND);
    story.recording.interval().open_waits[0].before_recording = false;
    assert_eq!(story.dump().verdict.kind, DumpKind::AllBlocked);
}

/// Two workers that look again and again for what thread 3 holds, which has not run for so long.
fn behind_a_holder(asleep: u64, likely: bool) -> Story {
    let mut story = Story::new();
    let stack = story.stack("app::f", State::Blocked, WORKER, 0x10);
    let other = story.stack("app::g", State::Other, Role::None, 0);
    for tid in [1, 2] {
        story.held_by(tid, stack, 0, 3, likely);
        story.recording.interval().open_waits[tid as usize - 1].before_recording = false;
        story.asleep.remove(&thread(tid));
    }
    story.waits(3, other, asleep);
    story
}

#[test]
fn who_waits_for_a_thread_that_stands_still_does_not_go_on() {
    let dump = behind_a_holder(SECOND, false).dump();
    assert_eq!(dump.verdict.kind, DumpKind::Wedged);
    assert_eq!(dump.runtimes[0].all_blocked_ns, Nanos::ZERO);
    assert_eq!(dump.threads[0].waits_for, [Tid(3)]);
    let of = |asleep, likely| behind_a_holder(asleep, likely).dump().verdict.kind;
    assert_eq!(of(SECOND - 1, false), DumpKind::AllBlocked);
    // Who moves may well have got what a guess says another one has.
    assert_eq!(of(SECOND, true), DumpKind::AllBlocked);
    // A parked holder goes on when it gets something to do.
    let mut story = behind_a_holder(SECOND, false);
    let idle = story.stack("app::h", State::Idle, WORKER, 0x20);
    story.recording.interval().open_waits[2].stack = idle;
    let dump = story.dump();
    let first = dump.runtimes.iter().find(|one| one.workers == 2);
    assert_eq!(first.map(|one| one.finding), Some(DumpKind::AllBlocked));
}

#[test]
fn an_idle_worker_takes_what_there_is_to_do() {
    let mut story = blocked(9 * SECOND);
    let idle = story.stack("app::f", State::Idle, WORKER, 0x10);
    story.waits(3, idle, 9 * SECOND);
    let dump = story.dump();
    assert_eq!(dump.verdict.kind, DumpKind::Blocked);
    assert_eq!((dump.runtimes[0].blocked, dump.runtimes[0].idle), (2, 1));
    assert_eq!(dump.runtimes[0].all_blocked_ns, Nanos::ZERO);
}

#[test]
fn runtimes_are_told_by_their_handles_and_the_gravest_leads() {
    let mut story = Story::new();
    let idle = story.stack("app::f", State::Idle, WORKER, 0x20);
    for tid in 3..6 {
        story.waits(tid, idle, 9 * SECOND);
    }
    let stuck = story.stack("app::g", State::Blocked, WORKER, 0x10);
    story.waits(1, stuck, 2 * SECOND);
    let alone = story.stack(
        "app::h",
        State::Blocked,
        Role::Worker(Flavor::CurrentThread),
        0x30,
    );
    story.waits(7, alone, 10);
    let dump = story.dump();
    let found: Vec<_> = dump
        .runtimes
        .iter()
        .map(|runtime| (runtime.id.as_str(), runtime.finding, runtime.workers))
        .collect();
    assert_eq!(
        found,
        [
            ("rt0", DumpKind::Wedged, 1),
            ("rt1", DumpKind::AllBlocked, 1),
            ("rt2", DumpKind::Healthy, 3)
        ]
    );
    assert_eq!(dump.threads[0].runtime.as_deref(), Some("rt0"));
}

#[test]
fn threads_that_wait_for_each_other_are_a_deadlock_whatever_the_others_do() {
    let mut story = Story::new();
    let stack = story.stack("app::f", State::Blocked, WORKER, 0x10);
    let idle = story.stack("app::f", State::Idle, WORKER, 0x10);
    story.waits(9, idle, 9 * SECOND);
    for (tid, holder) in [(1, 2), (2, 3), (3, 2), (4, 9)] {
        story.held_by(tid, stack, 10, holder, false);
    }
    let dump = story.dump();
    assert_eq!(dump.verdict.kind, DumpKind::Wedged);
    let [deadlock] = &dump.deadlocks[..] else {
        panic!("{:?}", dump.deadlocks);
    };
    assert_eq!(deadlock.threads, [Tid(2), Tid(3)]);
    assert!(deadlock.is_certain && dump.runtimes[0].in_deadlock);
    let of = |tid| {
        let thread = dump.threads.iter().find(|thread| thread.tid == Tid(tid));
        thread.expect("listed").waits_for.clone()
    };
    assert_eq!(of(1), [Tid(2), Tid(3), Tid(2)]);
    assert_eq!(of(2), [Tid(3), Tid(2)]);
    assert_eq!(of(4), [Tid(9)]);
    assert!(of(9).is_empty());
}

#[test]
fn a_likely_circle_counts_once_it_has_lasted() {
    let of = |asleep| {
        let mut story = Story::new();
        let stack = story.stack("app::f", State::Other, Role::None, 0);
        story.held_by(1, stack, asleep, 2, true);
        story.held_by(2, stack, asleep, 1, true);
        story.dump()
    };
    assert!(of(SECOND - 1).deadlocks.is_empty());
    let dump = of(SECOND);
    assert!(!dump.deadlocks[0].is_certain);
    // They are no workers: no runtime is named.
    assert_eq!(dump.verdict.kind, DumpKind::Wedged);
    assert_eq!(dump.verdict.runtime, None);
}

#[test]
fn a_thread_that_waits_for_itself_is_a_deadlock() {
    let mut story = Story::new();
    let stack = story.stack("app::f", State::Blocked, WORKER, 0x10);
    story.held_by(1, stack, 10, 1, false);
    let dump = story.dump();
    assert_eq!(dump.deadlocks[0].threads, [Tid(1)]);
    assert_eq!(dump.threads[0].waits_for, [Tid(1)]);
}

#[test]
fn a_stopped_process_is_told_from_a_wedged_one() {
    let mut story = Story::new();
    let stack = story.stack("app::f", State::Stopped, WORKER, 0x10);
    story.waits(1, stack, 9 * SECOND);
    let dump = story.dump();
    assert_eq!(dump.verdict.kind, DumpKind::Stopped);
    assert!(dump.verdict.kind.is_standstill());
    assert_eq!(dump.threads[0].cause, None);
}

#[test]
fn a_thread_on_a_cpu_is_placed_by_its_samples_or_its_name() {
    let mut story = Story::new();
    let stack = story.stack("app::spin", State::Blocked, WORKER, 0x10);
    story.recording.push_thread(1);
    story.recording.interval().samples.push(SampleSum {
        thread: thread(1),
        stack,
        samples: 5,
    });
    // Too short to be met, and yet it has the workers' name.
    story.recording.push_thread(2);
    let names = &mut story.recording.tables.thread_names;
    names.insert(thread(1), "my-pool-1".into());
    names.insert(thread(2), "my-pool-2".into());
    let dump = story.dump();
    assert_eq!(dump.verdict.kind, DumpKind::Healthy);
    assert_eq!((dump.runtimes[0].workers, dump.runtimes[0].running), (2, 2));
    assert_eq!(dump.threads[0].function.as_deref(), Some("app::spin"));
    assert_eq!(dump.threads[0].since_ns, None);
    assert_eq!(dump.unseen.unsampled, 1);
}

#[test]
fn what_is_waited_for_tells_the_cause_where_nothing_else_does() {
    let mut story = Story::new();
    let frames = vec![app("app::fill", 7)];
    let mut stack = stack(frames, State::Blocked, WORKER, Some(0));
    stack.syscall = Some(1);
    stack.args = Some([11, 0, 0, 0, 0, 0]);
    let stack = story.recording.push_stack(stack);
    let open = story.waits(1, stack, 9 * SECOND);
    open.object = Some(Object {
        kind: ObjectKind::Pipe,
        name: "pipe:[7]".to_owned(),
    });
    let dump = story.dump();
    let thread = &dump.threads[0];
    assert_eq!(thread.cause, Some(Cause::Pipe));
    assert_eq!(thread.call, "write fd 11 pipe:[7]");
    assert_eq!(thread.waiters, 1);
}

#[test]
fn without_a_worker_nothing_is_clear() {
    let mut story = Story::new();
    let stack = story.stack("app::f", State::Unknown, Role::None, 0);
    story.waits(1, stack, 9 * SECOND);
    // One that has ended is not told of.
    let living = story.recording.interval().threads[0].clone();
    story.recording.interval().threads.push(ThreadTimes {
        thread: thread(2),
        until: Timestamp(0),
        ..living
    });
    let dump = story.dump();
    assert_eq!(dump.verdict.kind, DumpKind::Unclear);
    assert_eq!(dump.threads.len(), 1);
    assert_eq!(dump.unseen.unknown, 1);
}

/// Workers that wait, and whose stacks could not be read in time, are not taken for running ones.
#[test]
fn what_was_not_read_is_not_running() {
    let mut story = Story::new();
    let stack = story.stack("app::f", State::Idle, WORKER, 0x10);
    story.waits(1, stack, 9 * SECOND);
    let read = story.recording.interval().threads[0].clone();
    let names = &mut story.recording.tables.thread_names;
    for tid in 1..=3 {
        names.insert(thread(tid), "tokio-rt-worker".into());
    }
    for tid in [2, 3] {
        story.recording.interval().threads.push(ThreadTimes {
            thread: thread(tid),
            ..read.clone()
        });
    }
    let dump = story.dump();
    assert_eq!(dump.verdict.kind, DumpKind::Unclear);
    let runtime = &dump.runtimes[0];
    assert_eq!(
        (runtime.workers, runtime.running, runtime.others),
        (3, 0, 2)
    );
    assert_eq!(dump.unseen.without_stack, 2);
}

/// A worker that stands still in code that tokio called, of which no name is known, is not fine.
#[test]
fn what_is_held_outside_polls_is_unclear() {
    for (asleep, kind) in [
        (SECOND / 1000, DumpKind::Healthy),
        (SECOND, DumpKind::Unclear),
    ] {
        let mut story = Story::new();
        let stack = story.stack("tokio::runtime::f", State::Runtime, WORKER, 0x10);
        let end = story.recording.interval().end;
        let open = story.waits(1, stack, asleep);
        open.before_recording = false;
        open.since = end;
        assert_eq!(story.dump().verdict.kind, kind, "{asleep}");
    }
}

/// So many threads of the pool in closures, and so many idle.
fn pool(taken: u32, idle: u32) -> DumpKind {
    let mut story = Story::new();
    let worker = story.stack("app::f", State::Idle, WORKER, 0x10);
    let closure = story.stack("app::g", State::Pool, Role::PoolThread, 0);
    let parked = story.stack("tokio::h", State::Idle, Role::PoolThread, 0);
    story.waits(1, worker, 0);
    for tid in 0..taken {
        story.waits(10 + tid, closure, 0);
    }
    for tid in 0..idle {
        story.waits(2_000 + tid, parked, 0);
    }
    story.dump().verdict.kind
}

#[test]
fn a_pool_is_full_with_as_many_threads_as_tokio_starts_and_none_idle() {
    assert_eq!(pool(512, 0), DumpKind::PoolFull);
    assert_eq!(pool(512, 1), DumpKind::Healthy);
    // It may have room for more.
    assert_eq!(pool(511, 0), DumpKind::Healthy);
}
