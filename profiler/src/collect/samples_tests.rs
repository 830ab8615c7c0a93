use super::*;
use crate::runtime::{Classification, Flavor, RuleName};
use crate::symbolize::{Frame, FrameRef, Origin};
use crate::units::Tid;
use std::sync::Arc;

const MS: u64 = 1_000_000;
const SAMPLING: Sampling = Sampling {
    period: Nanos(10 * MS),
    long_poll: Nanos(10 * MS),
};

fn frame(function: &str) -> FrameRef {
    Arc::new(Frame::named(function, Origin::Application))
}

fn in_poll(leaf: &str, task: &str) -> Stack {
    Stack {
        process: ProcessId(0),
        frames: vec![frame(leaf), frame(task), frame("tokio::poll")],
        kernel: Vec::new(),
        truncated: None,
        pointer_steps: 0,
        syscall: None,
        args: None,
        runtime: None,
        class: Classification {
            state: State::Blocked,
            role: Role::Worker(Flavor::MultiThread),
            rule: RuleName("test"),
            frame: None,
            task_frame: Some(1),
        },
    }
}

/// A sample of thread 7 after `ms` milliseconds, all of them on a CPU.
fn sample(ms: u64, tick: Option<u32>, task_id: Option<u64>, waits: u64) -> Sample {
    Sample {
        thread: ThreadId {
            process: ProcessId(0),
            tid: Tid(7),
        },
        stack: StackId(0),
        time: Timestamp(ms * MS),
        on_cpu: Nanos(ms * MS),
        waits,
        task_id,
        core: Some(Addr(0x1000)),
        tick,
    }
}

fn collect(samples: &[(Sample, &Stack)]) -> SampleCollector {
    let mut all = SampleCollector::default();
    for (sample, stack) in samples {
        all.add(*sample, stack, TlsState::WorkerPoll, SAMPLING);
    }
    all
}

fn polls(samples: &[(Sample, &Stack)]) -> Vec<LongPoll> {
    let mut all = collect(samples);
    all.end_polls(SAMPLING.long_poll);
    all.take().1
}

#[test]
fn the_same_tick_and_task_is_one_poll() {
    let (a, b) = (in_poll("hash", "task"), in_poll("sort", "task"));
    let found = polls(&[
        (sample(0, Some(5), Some(1), 0), &a),
        (sample(10, Some(5), Some(1), 0), &b),
        (sample(25, Some(5), Some(1), 3), &a),
        (sample(30, Some(6), Some(1), 3), &a),
        (sample(40, Some(6), Some(2), 3), &a),
    ]);
    let [poll] = &found[..] else {
        panic!("one poll has two samples: {found:?}");
    };
    assert_eq!((poll.on_cpu, poll.samples), (Nanos(25 * MS), 3));
    assert_eq!(poll.evidence, PollEvidence::Tick);
    assert_eq!(poll.task_id, Some(1));
}

#[test]
fn without_a_tick_a_wait_in_between_ends_a_poll() {
    let (a, b) = (in_poll("hash", "task"), in_poll("sort", "task"));
    let found = polls(&[
        (sample(0, None, None, 4), &a),
        (sample(10, None, None, 4), &b),
        (sample(20, None, None, 5), &a),
        (sample(30, None, None, 5), &in_poll("hash", "other")),
    ]);
    let [poll] = &found[..] else {
        panic!("only the first two are of one poll: {found:?}");
    };
    assert_eq!((poll.on_cpu, poll.samples), (Nanos(10 * MS), 2));
    assert_eq!(poll.evidence, PollEvidence::Stack);
    assert_eq!(poll.task_id, None);
}

#[test]
fn a_tick_that_runs_backwards_is_not_believed() {
    let a = in_poll("hash", "task");
    let found = polls(&[
        (sample(0, Some(100), Some(1), 0), &a),
        (sample(10, Some(100), Some(1), 0), &a),
        (sample(20, Some(3), Some(1), 1), &a),
    ]);
    assert!(
        found
            .iter()
            .all(|poll| poll.evidence == PollEvidence::Stack),
        "{found:?}"
    );
    assert_eq!(found.len(), 1);
    // Another thread's core at the same address begins at 0.
    let mut other = sample(20, Some(3), Some(1), 0);
    other.thread.tid = Tid(8);
    let found = polls(&[
        (sample(0, Some(100), Some(1), 0), &a),
        (sample(10, Some(100), Some(1), 0), &a),
        (other, &a),
    ]);
    let evidence: Vec<_> = found.iter().map(|poll| poll.evidence).collect();
    assert_eq!(evidence, [PollEvidence::Tick]);
    // Around the end of its 32 bits it still counts up.
    let found = polls(&[
        (sample(0, Some(u32::MAX), Some(1), 0), &a),
        (sample(10, Some(0), Some(1), 0), &a),
        (sample(20, Some(0), Some(1), 0), &a),
    ]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].evidence, PollEvidence::Tick);
}

#[test]
fn threads_outside_a_poll_have_none() {
    let mut idle = in_poll("park", "task");
    idle.class.state = State::Idle;
    let found = polls(&[
        (sample(0, None, None, 0), &idle),
        (sample(10, None, None, 0), &idle),
        (sample(20, None, None, 0), &idle),
    ]);
    assert_eq!(found, []);
}

#[test]
fn a_poll_that_goes_on_across_a_cut_is_told_once_when_it_is_over() {
    let a = in_poll("hash", "task");
    let (first, later) = (
        [
            (sample(0, Some(5), Some(1), 0), &a),
            (sample(10, Some(5), Some(1), 0), &a),
        ],
        [
            (sample(20, Some(5), Some(1), 0), &a),
            (sample(30, Some(6), Some(1), 0), &a),
        ],
    );
    let mut all = collect(&first);
    let (sums, polls) = all.take();
    assert_eq!((sums.len(), sums[0].samples, polls.len()), (1, 2, 0));
    for (sample, stack) in later {
        all.add(sample, stack, TlsState::WorkerPoll, SAMPLING);
    }
    let (sums, polls) = all.take();
    assert_eq!((sums[0].samples, polls.len()), (2, 1));
    assert_eq!(polls[0].on_cpu, Nanos(20 * MS));
    let (sums, polls) = all.take();
    assert!(sums.is_empty() && polls.is_empty());
}

#[test]
fn the_end_of_a_thread_ends_its_poll() {
    let a = in_poll("hash", "task");
    let first = sample(0, Some(5), Some(1), 0);
    let mut all = collect(&[(first, &a), (sample(10, Some(5), Some(1), 0), &a)]);
    all.thread_ended(first.thread, SAMPLING.long_poll);
    assert_eq!(all.take().1.len(), 1);
    all.end_polls(SAMPLING.long_poll);
    assert!(all.take().1.is_empty());
}
