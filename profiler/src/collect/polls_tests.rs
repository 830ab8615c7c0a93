use super::*;
use crate::runtime::{Classification, Flavor, RuleName};
use crate::symbolize::{Frame, FrameRef, Origin};
use crate::units::Tid;
use std::sync::Arc;

const MS: u64 = 1_000_000;
const LONG: Nanos = Nanos(10 * MS);
const MIN_BLOCK: Nanos = Nanos(100_000);

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
        stopped_by: None,
        class: Classification {
            state: State::Blocked,
            role: Role::Worker(Flavor::MultiThread),
            rule: RuleName("test"),
            frame: None,
            task_frame: Some(1),
        },
    }
}

fn thread(tid: u32) -> ThreadId {
    ThreadId {
        process: ProcessId(0),
        tid: Tid(tid),
    }
}

/// The life of thread 7, as its events come: times in milliseconds.
struct Life {
    polls: PollCollector,
    at: u64,
    running: u64,
    blocked: u64,
    waits: u32,
}

/// Which poll: tick and task.
type Turn = (Option<u32>, Option<u64>);

impl Life {
    fn new() -> Life {
        Life {
            polls: PollCollector::new(LONG, MIN_BLOCK),
            at: 0,
            running: 0,
            blocked: 0,
            waits: 0,
        }
    }

    fn runs(&mut self, ms: u64) -> &mut Life {
        self.at += ms;
        self.running += ms;
        self
    }

    fn clock(&self, (tick, _): Turn) -> PollClock {
        PollClock {
            core: Some(Addr(0x1000)),
            tick,
            queued: None,
            waits: self.waits,
            running: Nanos(self.running * MS),
            runnable: Nanos::ZERO,
            blocked: Nanos(self.blocked * MS),
        }
    }

    /// A park, or anything else that is not seen by itself.
    fn parks(&mut self, ms: u64) -> &mut Life {
        self.at += ms;
        self.blocked += ms;
        self.waits += 1;
        self
    }

    fn waits_in(&mut self, ms: u64, turn: Turn, stack: (u32, &Stack)) -> &mut Life {
        let start = self.at;
        let waits = self.waits;
        self.parks(ms);
        let clock = PollClock {
            waits,
            ..self.clock(turn)
        };
        let doing = Doing::Waited {
            blocked: Nanos(ms * MS),
            runqueue: Nanos::ZERO,
        };
        self.see(start, clock, doing, turn, stack)
    }

    fn sampled(&mut self, turn: Turn, stack: (u32, &Stack)) -> &mut Life {
        let clock = self.clock(turn);
        self.see(self.at, clock, Doing::Ran, turn, stack)
    }

    fn see(
        &mut self,
        start: u64,
        clock: PollClock,
        doing: Doing,
        (_, task_id): Turn,
        (id, stack): (u32, &Stack),
    ) -> &mut Life {
        let observed = Observation {
            thread: thread(7),
            stack: StackId(id),
            start: Timestamp(start * MS),
            end: Timestamp(self.at * MS),
            clock,
            task_id,
            doing,
        };
        self.polls.see(observed, stack, true);
        self
    }

    fn found(&mut self) -> Vec<Poll> {
        self.polls.take(true)
    }
}

fn parts(poll: &Poll) -> [u64; 3] {
    [poll.length(), poll.blocked, poll.running].map(|part| part.0 / MS)
}

#[test]
fn waits_of_one_turn_are_one_poll_with_its_parts() {
    let (lock, read) = (in_poll("lock", "task"), in_poll("read", "task"));
    let turn = (Some(5), Some(1));
    let mut life = Life::new();
    life.parks(100).runs(1);
    for _ in 0..50 {
        life.waits_in(5, turn, (0, &lock)).runs(1);
    }
    life.waits_in(8, turn, (1, &read)).runs(3);
    life.waits_in(4, (Some(6), Some(1)), (0, &lock));
    let found = life.found();
    let [poll] = &found[..] else {
        panic!("the second turn is short: {found:?}");
    };
    assert_eq!(parts(poll), [308, 258, 50]);
    assert_eq!((poll.waits, poll.samples), (51, 0));
    assert_eq!((poll.stack, poll.task_id), (StackId(1), Some(1)));
    assert_eq!(poll.evidence, PollEvidence::Tick);
    assert!(poll.is_blocked());
}

/// The clock of a sample lacks what ran since a switch-in that was missed.
#[test]
fn what_a_sample_shows_to_run_is_counted_though_its_clock_lacks_it() {
    let (mut life, stack) = (Life::new(), in_poll("app::leaf", "app::task"));
    let turn = (Some(1), Some(9));
    life.sampled(turn, (1, &stack))
        .waits_in(40, turn, (2, &stack));
    life.at += 20;
    life.sampled(turn, (1, &stack));
    let polls = life.polls.take(true);
    let [poll] = &polls[..] else {
        panic!("{polls:?}")
    };
    assert_eq!(poll.length(), Nanos(60 * MS));
    let parts = [poll.blocked, poll.runqueue, poll.running];
    assert_eq!(parts, [Nanos(40 * MS), Nanos::ZERO, Nanos(20 * MS)]);
}

/// The wait before it was told later than the sample.
#[test]
fn a_sample_whose_clock_stands_still_ends_no_poll() {
    let (mut life, stack) = (Life::new(), in_poll("app::leaf", "app::task"));
    let turn = (Some(1), Some(9));
    life.sampled(turn, (1, &stack)).runs(10);
    let behind = life.clock(turn);
    life.waits_in(40, turn, (2, &stack)).runs(1);
    for ms in [2, 30] {
        life.see(life.at, behind, Doing::Ran, turn, (1, &stack))
            .runs(ms);
    }
    life.sampled(turn, (1, &stack));
    let polls = life.polls.take(true);
    let [poll] = &polls[..] else {
        panic!("{polls:?}")
    };
    assert_eq!(parts(poll), [83, 40, 43]);
    assert_eq!((poll.waits, poll.samples), (1, 4));
}

/// What a thread did before the sample with which its poll begins is no part of the poll.
#[test]
fn a_poll_that_begins_with_a_clock_that_stands_still_is_no_longer_than_it_is() {
    let (mut life, stack) = (Life::new(), in_poll("app::leaf", "app::task"));
    let turn = (Some(1), Some(9));
    let behind = life.clock(turn);
    life.runs(5);
    life.see(life.at, behind, Doing::Ran, turn, (1, &stack))
        .runs(20)
        .waits_in(4, turn, (2, &stack));
    let polls = life.polls.take(true);
    let [poll] = &polls[..] else {
        panic!("{polls:?}")
    };
    assert_eq!(parts(poll), [24, 4, 20]);
    assert_eq!(poll.runqueue, Nanos::ZERO);
}

#[test]
fn samples_and_waits_of_one_turn_are_one_poll() {
    let (hash, read) = (in_poll("hash", "task"), in_poll("read", "task"));
    let turn = (Some(5), Some(1));
    let mut life = Life::new();
    life.sampled(turn, (0, &hash)).runs(10);
    life.sampled(turn, (1, &read)).runs(5);
    life.waits_in(2, turn, (2, &read)).runs(8);
    life.sampled(turn, (0, &hash));
    let found = life.found();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(parts(&found[0]), [25, 2, 23]);
    // It ran for longer than it waited: the place is that of its first sample.
    assert_eq!((found[0].stack, found[0].samples), (StackId(0), 3));
    assert!(!found[0].is_blocked());
}

#[test]
fn without_a_tick_a_wait_in_between_ends_a_poll() {
    let (a, b) = (in_poll("hash", "task"), in_poll("sort", "task"));
    let turn = (None, None);
    let mut life = Life::new();
    life.sampled(turn, (0, &a)).runs(10);
    life.sampled(turn, (1, &b)).runs(1);
    life.waits_in(15, turn, (2, &a)).runs(1);
    life.waits_in(15, turn, (2, &a)).runs(1);
    life.sampled(turn, (3, &in_poll("hash", "other")));
    let found: Vec<_> = life.found().iter().map(parts).collect();
    assert_eq!(found, [[26, 15, 11], [15, 15, 0]]);
}

/// CPython's `take_gil` waits five milliseconds at a time.
#[test]
fn without_a_tick_python_s_lock_is_waited_for_in_one_poll() {
    let gil = |task: &str| {
        let mut stack = in_poll("pthread_cond_timedwait", task);
        stack.frames.insert(1, frame("PyGILState_Ensure"));
        stack.class.task_frame = Some(2);
        stack
    };
    let (stack, other) = (gil("task"), gil("other"));
    let turn = (None, None);
    let mut life = Life::new();
    for _ in 0..66 {
        life.waits_in(5, turn, (0, &stack));
    }
    // It had the lock, and worked.
    life.runs(2).waits_in(11, turn, (0, &stack));
    life.waits_in(12, turn, (1, &other));
    life.parks(40).waits_in(13, turn, (1, &other));
    let found = life.found();
    let parted: Vec<_> = found.iter().map(parts).collect();
    assert_eq!(
        parted,
        [[330, 330, 0], [11, 11, 0], [12, 12, 0], [13, 13, 0]]
    );
    assert_eq!(found[0].waits, 66);
    assert_eq!(found[0].evidence, PollEvidence::Stack);
    // Nothing else is put together so.
    let lock = in_poll("lock", "task");
    let mut life = Life::new();
    for _ in 0..3 {
        life.waits_in(12, turn, (0, &lock));
    }
    assert_eq!(life.found().len(), 3);
}

#[test]
fn a_park_ends_a_poll_whatever_the_tick_says() {
    let a = in_poll("read", "task");
    let turn = (Some(5), Some(1));
    let mut life = Life::new();
    life.waits_in(12, turn, (0, &a)).runs(1).parks(40).runs(1);
    life.waits_in(13, turn, (0, &a));
    let found: Vec<_> = life.found().iter().map(parts).collect();
    assert_eq!(found, [[12, 12, 0], [13, 13, 0]]);
}

#[test]
fn a_tick_that_stands_still_over_many_parks_is_not_believed() {
    let a = in_poll("read", "task");
    let turn = (Some(5), Some(1));
    let mut life = Life::new();
    for _ in 0..=STUCK {
        life.waits_in(12, turn, (0, &a)).runs(1).parks(40).runs(1);
    }
    life.waits_in(12, turn, (0, &a));
    let found = life.found();
    assert_eq!(found.last().unwrap().evidence, PollEvidence::Stack);
    assert_eq!(found[0].evidence, PollEvidence::Tick);
}

#[test]
fn a_tick_that_runs_backwards_is_not_believed() {
    let a = in_poll("hash", "task");
    let turn = |tick| (Some(tick), Some(1));
    let evidence = |ticks: [u32; 3]| {
        let mut life = Life::new();
        for tick in ticks {
            life.sampled(turn(tick), (0, &a)).runs(10);
        }
        let found = life.found();
        found.iter().map(|poll| poll.evidence).collect::<Vec<_>>()
    };
    assert_eq!(evidence([100, 100, 3]), [PollEvidence::Stack]);
    assert_eq!(evidence([100, 100, 101]), [PollEvidence::Tick]);
    // Around the end of its 32 bits it still counts up.
    assert_eq!(evidence([u32::MAX, 0, 0]), [PollEvidence::Tick]);
}

#[test]
fn another_thread_s_core_at_the_same_address_begins_anew() {
    let a = in_poll("hash", "task");
    let mut life = Life::new();
    let turn = (Some(100), Some(1));
    life.sampled(turn, (0, &a)).runs(10).sampled(turn, (0, &a));
    let clock = life.clock((Some(3), Some(1)));
    let observed = Observation {
        thread: thread(8),
        stack: StackId(0),
        start: Timestamp(20 * MS),
        end: Timestamp(20 * MS),
        clock,
        task_id: Some(1),
        doing: Doing::Ran,
    };
    life.polls.see(observed, &a, true);
    let found = life.found();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].evidence, PollEvidence::Tick);
}

#[test]
fn threads_outside_a_poll_have_none() {
    let mut idle = in_poll("park", "task");
    idle.class.state = State::Idle;
    let turn = (None, None);
    let mut life = Life::new();
    life.waits_in(50, turn, (0, &idle)).runs(10);
    life.sampled(turn, (0, &idle)).runs(10);
    life.sampled(turn, (0, &idle));
    assert_eq!(life.found(), []);
}

#[test]
fn a_poll_that_goes_on_across_a_cut_is_told_once_when_it_is_over() {
    let a = in_poll("read", "task");
    let turn = (Some(5), Some(1));
    let mut life = Life::new();
    life.waits_in(20, turn, (0, &a)).runs(1);
    assert_eq!(life.polls.take(false), []);
    life.waits_in(20, turn, (0, &a)).runs(1);
    life.waits_in(1, (Some(6), Some(1)), (0, &a));
    let found: Vec<_> = life.polls.take(false).iter().map(parts).collect();
    assert_eq!(found, [[41, 40, 1]]);
    assert_eq!(life.found(), []);
}

#[test]
fn the_end_of_a_thread_ends_its_poll() {
    let a = in_poll("read", "task");
    let mut life = Life::new();
    life.waits_in(20, (Some(5), Some(1)), (0, &a));
    life.polls.leaves(thread(7));
    assert_eq!(life.polls.take(false).len(), 1);
    assert_eq!(life.found(), []);
}

#[test]
fn samples_without_room_are_counted() {
    let a = in_poll("hash", "task");
    let mut life = Life::new();
    for _ in 0..MAX_SAMPLES + 3 {
        life.sampled((Some(5), Some(1)), (0, &a));
    }
    assert_eq!(life.polls.lost(), 3);
    life.polls.take(false);
    life.sampled((Some(5), Some(1)), (0, &a));
    assert_eq!(life.polls.lost(), 3, "an interval later");
}

#[test]
fn the_functions_of_a_stack_are_read_again_only_where_its_task_is_another() {
    let mut polls = PollCollector::new(LONG, MIN_BLOCK);
    let mut stack = in_poll("hash", "task");
    let clock = Life::new().clock((None, None));
    let observed = Observation {
        thread: thread(7),
        stack: StackId(3),
        start: Timestamp(0),
        end: Timestamp(0),
        clock,
        task_id: Some(1),
        doing: Doing::Ran,
    };
    let mut check = |stack: &Stack| {
        let keys = polls.keys(&observed, stack);
        assert_eq!(keys, PollKeys::of(stack, Doing::Ran, &clock, Some(1)));
        let known = polls.functions.get(&StackId(3));
        known.map(|(_, hash)| *hash)
    };
    let first = check(&stack);
    assert_eq!(check(&stack), first);
    stack.class.task_frame = Some(0);
    assert_ne!(check(&stack), first);
}

/// On a machine with too few CPUs a poll of a moment takes long.
#[test]
fn a_poll_that_mostly_wants_a_cpu_is_neither_blocked_nor_computing() {
    let poll = |blocked: u64, runqueue: u64, running: u64| Poll {
        thread: thread(7),
        stack: StackId(0),
        task_id: None,
        start: Timestamp(0),
        end: Timestamp((blocked + runqueue + running) * MS),
        blocked: Nanos(blocked * MS),
        runqueue: Nanos(runqueue * MS),
        running: Nanos(running * MS),
        waits: 1,
        samples: 2,
        queued: None,
        evidence: PollEvidence::Tick,
    };
    let kind = |poll: Poll| (poll.is_blocked(), poll.is_on_cpu());
    assert_eq!(kind(poll(2, 30, 1)), (false, false));
    assert_eq!(kind(poll(30, 20, 1)), (true, false));
    // On a busy machine each wakeup has its time in the run queue, and the wait is the reason.
    assert_eq!(kind(poll(160, 200, 1)), (true, false));
    assert_eq!(kind(poll(210, 390, 2)), (true, false));
    assert_eq!(kind(poll(210, 390, 250)), (false, false));
    assert_eq!(kind(poll(1, 20, 30)), (false, true));
}
