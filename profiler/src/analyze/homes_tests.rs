use super::super::stack_facts::WaitRole;
use super::super::testing::{recording, stack, thread};
use super::*;
use crate::recording::{
    Interval, Object, ObjectId, ObjectKind, Recording, Stack, ThreadTimes, WaitObject, WaitSum,
};
use crate::runtime::{Flavor, Role, State};
use crate::units::Addr;
use std::sync::Arc;

const A: RuntimeHandle = RuntimeHandle(Addr(0x1000));
const B: RuntimeHandle = RuntimeHandle(Addr(0x2000));
const C: RuntimeHandle = RuntimeHandle(Addr(0x3000));

/// Threads that were workers, each with its name, its life and its runtime.
struct Workers {
    recording: Recording,
    totals: Totals,
    waits: Vec<(ThreadId, StackId, Nanos)>,
}

impl Workers {
    fn new() -> Workers {
        Workers {
            recording: recording(1_000),
            totals: Totals::default(),
            waits: Vec::new(),
        }
    }

    fn wait(&mut self, tid: u32, role: Role, handle: Option<RuntimeHandle>, time: u64) {
        let stack = Stack {
            runtime: handle,
            ..stack(Vec::new(), State::Blocked, role, None)
        };
        let id = self.recording.push_stack(stack);
        self.waits.push((thread(tid), id, Nanos(time)));
    }

    fn worker(&mut self, tid: u32, name: &str, life: (u64, u64), handle: Option<RuntimeHandle>) {
        self.wait(tid, Role::Worker(Flavor::MultiThread), handle, 10);
        self.lives(tid, name, life);
    }

    /// Parks a worker in an epoll instance.
    fn parks(&mut self, tid: u32, epoll: u32) {
        let parked = Stack {
            syscall: Some(crate::arch::syscall("epoll_wait")),
            ..stack(
                Vec::new(),
                State::Idle,
                Role::Worker(Flavor::MultiThread),
                None,
            )
        };
        let stack = self.recording.push_stack(parked);
        let sum = WaitSum {
            thread: thread(tid),
            stack,
            object: Some(ObjectId(epoll)),
            waits: 1,
            blocked: Nanos(1),
            runqueue: Nanos::ZERO,
            max: Nanos(1),
            histogram: Vec::new(),
        };
        let objects = &mut self.recording.tables.objects;
        objects.resize(100, epoll_instance());
        let interval = Interval {
            sums: vec![sum],
            ..Interval::default()
        };
        let tables = &self.recording.tables;
        self.totals.drivers.add(tables, &interval, 100);
    }

    fn lives(&mut self, tid: u32, name: &str, life: (u64, u64)) {
        let names = &mut self.recording.tables.thread_names;
        names.insert(thread(tid), Arc::from(name));
        let sums = self.totals.threads.entry(thread(tid)).or_default();
        sums.add(&ThreadTimes {
            thread: thread(tid),
            lived: Nanos(life.1 - life.0),
            until: Timestamp(life.1),
            running: Nanos::ZERO,
            runnable: Nanos::ZERO,
            blocked: Nanos::ZERO,
            waits: 1,
            in_calls: Nanos::ZERO,
        });
    }

    fn homes(&self) -> Homes {
        let waits = self.waits.iter().copied();
        Homes::of(&self.recording.tables, &self.totals, waits)
    }
}

fn epoll_instance() -> WaitObject {
    WaitObject {
        object: Object {
            kind: ObjectKind::Poll,
            name: "anon_inode:[eventpoll]".to_owned(),
        },
        fd: Some(3),
        many: 1,
    }
}

/// The runtime whose first worker is the thread of this id.
fn home(tid: u32) -> MultiThread {
    MultiThread {
        process: ProcessId(0),
        first: Some(thread(tid)),
    }
}

#[test]
fn workers_with_different_handles_work_for_different_runtimes() {
    let mut workers = Workers::new();
    for tid in [1, 2] {
        workers.worker(tid, "tokio-rt-worker", (0, 100), Some(A));
    }
    workers.worker(3, "tokio-rt-worker", (0, 100), Some(B));
    // Its state could not be read: it counts with the many.
    workers.worker(4, "tokio-rt-worker", (0, 100), None);
    let homes = workers.homes();
    assert_eq!(homes.of_thread(thread(1)), home(1));
    assert_eq!(homes.of_thread(thread(3)), home(3));
    assert_eq!(homes.of_thread(thread(4)), home(1));
    assert_eq!(homes.runtimes(), BTreeSet::from([home(1), home(3)]));
    let of_stack = |handle| homes.of_stack(ProcessId(0), handle, StackId(0));
    assert_eq!(of_stack(Some(B)), home(3));
    assert_eq!(of_stack(None), home(1));
}

#[test]
fn without_any_handle_a_process_has_one_runtime() {
    let mut workers = Workers::new();
    workers.worker(1, "app", (0, 100), None);
    workers.worker(2, "side", (0, 100), None);
    let all = MultiThread {
        process: ProcessId(0),
        first: None,
    };
    assert_eq!(workers.homes().runtimes(), BTreeSet::from([all]));
}

#[test]
fn without_any_handle_workers_are_grouped_by_a_guess() {
    let mut workers = Workers::new();
    for tid in [1, 2] {
        workers.worker(tid, &format!("app-{tid}"), (0, 100), None);
        workers.worker(tid + 10, &format!("side-{tid}"), (0, 100), None);
    }
    workers.worker(13, "side-3", (0, 100), None);
    workers.wait(20, Role::PoolThread, None, 5);
    let homes = workers.homes();
    assert_eq!(homes.runtimes(), BTreeSet::from([home(1), home(11)]));
    assert_eq!(homes.of_thread(thread(2)), home(1));
    assert_eq!(homes.grouped_by(home(1)), GroupedBy::Guess);
    let of_pool = homes.of_thread(thread(20));
    assert_eq!(of_pool, home(11), "the largest");
    // Each stack goes to whose workers waited in it.
    for (thread, stack, _) in &workers.waits {
        let of_stack = homes.of_stack(ProcessId(0), None, *stack);
        assert_eq!(of_stack, homes.of_thread(*thread));
    }
}

#[test]
fn what_was_counted_for_a_runtime_stays_with_it() {
    let mut workers = Workers::new();
    for tid in [5, 6] {
        workers.worker(tid, "tokio-rt-worker", (0, 100), None);
        workers.parks(tid, tid);
    }
    let early = workers.homes();
    let settled: BTreeMap<_, _> = early.settled().collect();
    assert_eq!(early.of_thread(thread(6)), home(6));
    // More is known: they shared an epoll instance, and there was one of a smaller number.
    workers.parks(5, 6);
    workers.worker(1, "tokio-rt-worker", (0, 100), None);
    workers.parks(1, 6);
    let anew = workers.homes();
    assert_eq!(anew.of_thread(thread(6)), anew.of_thread(thread(1)));
    let mut late = workers.homes();
    late.keep(&settled);
    let of = |tid| late.of_thread(thread(tid));
    assert_eq!([of(5), of(6), of(1)], [home(5), home(6), home(5)]);
}

#[test]
fn workers_without_a_handle_join_those_of_their_epoll_instance_or_name() {
    let mut workers = Workers::new();
    workers.worker(1, "a-1", (0, 100), Some(A));
    workers.worker(2, "a-2", (0, 100), Some(A));
    workers.worker(3, "b-1", (0, 100), Some(B));
    workers.parks(3, 7);
    workers.worker(4, "odd", (0, 100), None);
    workers.parks(4, 7);
    workers.worker(5, "a-3", (0, 100), None);
    // Another tokio of the same process, of which nothing but symbols is known.
    workers.worker(6, "b-2", (0, 100), None);
    workers.parks(6, 8);
    workers.worker(7, "its-own", (0, 100), None);
    let homes = workers.homes();
    assert_eq!(homes.of_thread(thread(7)), home(1), "the largest");
    assert_eq!(homes.of_thread(thread(4)), home(3), "one epoll instance");
    assert_eq!(homes.of_thread(thread(5)), home(1), "its name");
    assert_eq!(
        homes.of_thread(thread(6)),
        home(6),
        "its own epoll instance"
    );
    let by = |tid| homes.grouped_by(home(tid));
    assert_eq!([by(1), by(6)], [GroupedBy::Handle, GroupedBy::Guess]);
}

#[test]
fn a_runtime_made_anew_is_the_same_row() {
    let mut workers = Workers::new();
    // The third one has the address of the first.
    for (tid, life, handle) in [(1, (0, 40), A), (2, (40, 70), B), (3, (75, 100), A)] {
        workers.worker(tid, &format!("app-{tid}"), life, Some(handle));
        workers.worker(tid + 10, &format!("app-{tid}"), life, Some(handle));
    }
    let homes = workers.homes();
    assert_eq!(homes.runtimes(), BTreeSet::from([home(1)]));
    let threads = [1, 2, 3, 11, 12, 13].map(thread);
    assert_eq!(homes.at_once(threads.into_iter()), 2);
}

#[test]
fn a_worker_that_never_waited_is_one_beside_the_others() {
    let mut workers = Workers::new();
    workers.worker(1, "app", (0, 100), Some(A));
    workers.worker(2, "app", (0, 100), None);
    let homes = workers.homes();
    assert_eq!(homes.at_once([1, 2].map(thread).into_iter()), 2);
    // Of two that follow each other it is one of those beside which it lived.
    workers.worker(3, "app", (100, 200), Some(B));
    workers.worker(4, "app", (100, 200), None);
    let homes = workers.homes();
    assert_eq!(homes.at_once([1, 2, 3, 4].map(thread).into_iter()), 2);
}

/// Of three runtimes of two workers each, that they follow each other.
fn are_one_row_of_two(runtimes: [((u64, u64), RuntimeHandle); 3]) {
    let mut workers = Workers::new();
    for (tid, (life, handle)) in (1..).zip(runtimes) {
        workers.worker(tid, "app", life, Some(handle));
        workers.worker(tid + 10, "app", life, Some(handle));
    }
    let homes = workers.homes();
    assert_eq!(homes.runtimes(), BTreeSet::from([home(1)]));
    let threads = [1, 2, 3, 11, 12, 13].map(thread);
    assert_eq!(homes.at_once(threads.into_iter()), 2);
}

#[test]
fn workers_may_still_end_when_the_next_ones_begin() {
    are_one_row_of_two([((0, 41), A), ((40, 80), A), ((78, 100), B)]);
}

#[test]
fn workers_that_wait_long_for_a_cpu_to_end_are_not_counted_with_the_next_ones() {
    // The third one has the address of the second, and begins when most of its life is still to come.
    are_one_row_of_two([((0, 60), A), ((40, 100), B), ((65, 125), B)]);
}

#[test]
fn a_pool_thread_belongs_to_the_runtime_beside_which_it_lived() {
    let mut workers = Workers::new();
    workers.worker(1, "app", (0, 40), Some(A));
    workers.worker(2, "side", (50, 100), Some(A));
    workers.wait(3, Role::PoolThread, Some(A), 5);
    workers.lives(3, "app-pool", (60, 90));
    let homes = workers.homes();
    assert_eq!(homes.runtimes(), BTreeSet::from([home(1), home(2)]));
    assert_eq!(homes.of_thread(thread(3)), home(2));
    assert!(!homes.is_worker(thread(3)));
}

#[test]
fn runtimes_that_overlap_or_have_other_names_are_apart() {
    let mut workers = Workers::new();
    workers.worker(1, "app", (0, 100), Some(A));
    workers.worker(2, "app", (50, 60), Some(B));
    workers.worker(3, "side", (100, 110), Some(C));
    assert_eq!(workers.homes().runtimes().len(), 3);
}

#[test]
fn a_thread_of_two_runtimes_works_where_it_works_longest() {
    let mut workers = Workers::new();
    workers.worker(1, "app", (0, 100), Some(A));
    let worker = Role::Worker(Flavor::MultiThread);
    workers.wait(1, worker, Some(B), 20);
    // As a thread of a pool it waits long, and that says less.
    workers.wait(1, Role::PoolThread, Some(C), 500);
    let homes = workers.homes();
    assert_eq!(homes.of_thread(thread(1)), home(1));
    assert_eq!(homes.of_stack(ProcessId(0), Some(B), StackId(0)), home(1));
    assert!(homes.is_worker(thread(1)));
    assert_eq!(
        WaitRole::of(&workers.recording.tables, StackId(2)),
        WaitRole::POOL
    );
}
