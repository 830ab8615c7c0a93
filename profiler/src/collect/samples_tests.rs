use super::*;
use crate::runtime::{Classification, Flavor, RuleName};
use crate::symbolize::Origin;
use crate::units::Addr;
use bytemuck::Zeroable;

const MS: u64 = 1_000_000;
const SAMPLING: Sampling = Sampling {
    period: Nanos(10 * MS),
    long_poll: Nanos(10 * MS),
};

fn frame(function: &str) -> Frame {
    Frame::named(function, Origin::Application)
}

fn in_poll(leaf: &str, task: &str) -> StackEntry {
    StackEntry {
        frames: vec![frame(leaf), frame(task), frame("tokio::poll")],
        kernel: Vec::new(),
        truncated: None,
        syscall: None,
        args: None,
        verdict: Classification {
            state: State::Blocked,
            role: Role::Worker(Flavor::MultiThread),
            rule: RuleName("test"),
            frame: None,
            task_frame: Some(1),
        },
    }
}

/// A sample of thread 7 after `ms` milliseconds, all of them on a CPU.
fn sample(ms: u64, tick: u64, task_id: u64, waits: u64) -> Sample {
    Sample {
        tid: Tid(7),
        stack: StackId(0),
        time: Timestamp(ms * MS),
        record: SampleRecord {
            on_cpu: ms * MS,
            waits,
            task_id,
            core: 0x1000,
            tick,
            ..SampleRecord::zeroed()
        },
    }
}

fn polls(samples: &[(Sample, &StackEntry)]) -> Vec<LongPoll> {
    let mut all = Samples::default();
    for (sample, entry) in samples {
        all.add(*sample, entry, TlsState::WorkerPoll, SAMPLING);
    }
    all.finish(SAMPLING.long_poll).1
}

#[test]
fn the_same_tick_and_task_is_one_poll() {
    let (a, b) = (in_poll("hash", "task"), in_poll("sort", "task"));
    let found = polls(&[
        (sample(0, 5, 1, 0), &a),
        (sample(10, 5, 1, 0), &b),
        (sample(25, 5, 1, 3), &a),
        (sample(30, 6, 1, 3), &a),
        (sample(40, 6, 2, 3), &a),
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
        (sample(0, NO_TICK, 0, 4), &a),
        (sample(10, NO_TICK, 0, 4), &b),
        (sample(20, NO_TICK, 0, 5), &a),
        (sample(30, NO_TICK, 0, 5), &in_poll("hash", "other")),
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
        (sample(0, 100, 1, 0), &a),
        (sample(10, 100, 1, 0), &a),
        (sample(20, 3, 1, 1), &a),
    ]);
    assert!(
        found
            .iter()
            .all(|poll| poll.evidence == PollEvidence::Stack),
        "{found:?}"
    );
    assert_eq!(found.len(), 1);
    // Around the end of its 32 bits it still counts up.
    let found = polls(&[
        (sample(0, u64::from(u32::MAX), 1, 0), &a),
        (sample(10, 0, 1, 0), &a),
        (sample(20, 0, 1, 0), &a),
    ]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].evidence, PollEvidence::Tick);
}

#[test]
fn threads_outside_a_poll_have_none() {
    let mut idle = in_poll("park", "task");
    idle.verdict.state = State::Idle;
    let found = polls(&[
        (sample(0, NO_TICK, 0, 0), &idle),
        (sample(10, NO_TICK, 0, 0), &idle),
        (sample(20, NO_TICK, 0, 0), &idle),
    ]);
    assert_eq!(found, []);
}

#[test]
fn stacks_are_told_apart_by_function_and_line() {
    let mut samples = Samples::default();
    let mut made = 0;
    let mut id = |samples: &mut Samples, frames: &[Frame], room: bool| {
        samples.stack(&0_u8, frames.to_vec(), room, |_| {
            made += 1;
            StackId(made)
        })
    };
    let mut frames = vec![frame("hash"), frame("task")];
    let first = id(&mut samples, &frames, true);
    frames[0].address = Addr(4);
    assert_eq!(id(&mut samples, &frames, false), first);
    frames[0].line = Some(3);
    assert_eq!(id(&mut samples, &frames, false), None);
    assert_eq!(samples.lost(), 1);
    assert_ne!(id(&mut samples, &frames, true), first);
}
