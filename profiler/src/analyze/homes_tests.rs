use super::super::stack_facts::WaitRole;
use super::super::testing::{recording, stack, thread};
use super::*;
use crate::recording::{Recording, Stack, ThreadTimes};
use crate::runtime::{Flavor, Role, State};
use crate::units::Addr;
use std::sync::Arc;

const A: RuntimeHandle = RuntimeHandle(Addr(0x1000));
const B: RuntimeHandle = RuntimeHandle(Addr(0x2000));
const C: RuntimeHandle = RuntimeHandle(Addr(0x3000));

/// Threads that were workers, each with its name, its life and its runtime.
struct Workers {
    recording: Recording,
    threads: BTreeMap<ThreadId, ThreadSums>,
    waits: Vec<(ThreadId, StackId, Nanos)>,
}

impl Workers {
    fn new() -> Workers {
        Workers {
            recording: recording(1_000),
            threads: BTreeMap::new(),
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

    fn lives(&mut self, tid: u32, name: &str, life: (u64, u64)) {
        let names = &mut self.recording.tables.thread_names;
        names.insert(thread(tid), Arc::from(name));
        let sums = self.threads.entry(thread(tid)).or_default();
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
        Homes::of(&self.recording.tables, &self.threads, waits)
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
    let of_stack = |handle| homes.of_stack(ProcessId(0), handle);
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
fn workers_may_still_end_when_the_next_ones_begin() {
    let mut workers = Workers::new();
    for (tid, life, handle) in [(1, (0, 41), A), (2, (40, 80), A), (3, (78, 100), B)] {
        workers.worker(tid, "app", life, Some(handle));
        workers.worker(tid + 10, "app", life, Some(handle));
    }
    let homes = workers.homes();
    assert_eq!(homes.runtimes(), BTreeSet::from([home(1)]));
    let threads = [1, 2, 3, 11, 12, 13].map(thread);
    assert_eq!(homes.at_once(threads.into_iter()), 2);
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
    assert_eq!(homes.of_stack(ProcessId(0), Some(B)), home(1));
    assert!(homes.is_worker(thread(1)));
    assert_eq!(
        WaitRole::of(&workers.recording.tables, StackId(2)),
        WaitRole::POOL
    );
}
