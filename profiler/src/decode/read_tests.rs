use super::*;
use crate::decode::Phase;
use crate::runtime::Queued;
use crate::unwind::Truncation;
use profiler_common::map::{PHASE_BLOCKED, ThreadState, ThreadTimes};
use profiler_common::record::{COMM_LEN, STACK_BEFORE};

pub(super) const THREAD: ThreadKey = ThreadKey {
    pid: Pid(7),
    tid: Tid(8),
};

pub(super) fn header(kind: u32) -> Header {
    Header {
        kind,
        len: 0,
        tgid: 7,
        tid: 8,
    }
}

fn comm() -> [u8; COMM_LEN] {
    *b"worker\0junk\0\0\0\0\0"
}

fn record(user_frames: u32, kernel_frames: u32) -> StackRecord {
    StackRecord {
        header: header(KIND_STACK),
        time: 1,
        stack: 2,
        syscall: -1,
        args: [9; 6],
        runtime: 0x5000,
        walk: 0,
        table_version: 3,
        tls_state: 0,
        stack_kind: 0,
        raw: 0,
        left_out: 0,
        pointer_steps: 3,
        user_frames,
        kernel_frames,
        comm: comm(),
    }
}

fn bytes(record: &StackRecord, frames: &[u64]) -> Vec<u8> {
    let mut bytes = bytemuck::bytes_of(record).to_vec();
    let words = frames.iter().flat_map(|frame| frame.to_le_bytes());
    bytes.extend(words);
    bytes
}

fn addresses(words: &[u64]) -> Vec<Addr> {
    words.iter().map(|word| Addr(*word)).collect()
}

/// Nothing shorter than the whole passes.
pub(super) fn assert_whole(whole: &[u8]) {
    for len in 0..whole.len() {
        assert!(decode(&whole[..len]).is_err(), "{len} bytes passed");
    }
}

fn stack_of(record: &StackRecord, frames: &[u64]) -> StackSeen {
    match decode(&bytes(record, frames)) {
        Ok(Event::Stack(seen)) => *seen,
        other => panic!("not a stack: {other:?}"),
    }
}

#[test]
fn a_stack_is_split_into_user_and_kernel_frames() {
    let seen = stack_of(&record(2, 1), &[10, 11, 12]);
    assert_eq!(seen.user, addresses(&[10, 11]));
    assert_eq!(seen.kernel, addresses(&[12]));
    assert_eq!(
        (seen.thread, seen.time, seen.kind),
        (THREAD, Timestamp(1), StackKind::OffCpu)
    );
    assert_eq!(seen.number, StackNumber::new(2));
    assert_eq!(seen.pointer_steps, 3);
    assert_eq!(seen.table_version, TableVersion(3));
    assert_eq!((seen.syscall, seen.truncated), (None, None));
    assert_eq!(seen.name.to_string(), "worker");
    assert_eq!(seen.name, ThreadName::new(*b"worker\0\0\0\0\0\0\0\0\0\0"));
}

#[test]
fn numbers_of_a_stack_become_words() {
    let mut raw = record(0, 0);
    (raw.syscall, raw.walk, raw.raw, raw.stack_kind) = (202, 2, 1, 1);
    let seen = stack_of(&raw, &[]);
    assert_eq!(seen.kind, StackKind::Waker);
    assert_eq!(seen.truncated, Some(Truncation::Unmapped));
    assert!(seen.raw);
    let call = Syscall {
        number: 202,
        args: [9; 6],
    };
    assert_eq!(seen.syscall, Some(call));
    for (stack_kind, kind) in [
        (2, StackKind::Sample),
        (3, StackKind::Syscall),
        (4, StackKind::Panic),
    ] {
        raw.stack_kind = stack_kind;
        assert_eq!(stack_of(&raw, &[]).kind, kind);
    }
    raw.stack_kind = 8;
    assert_eq!(decode(&bytes(&raw, &[])), Err(DecodeError::StackKind(8)));
    raw.stack_kind = 0;
    for none in [0, STACK_BEFORE] {
        raw.stack = none;
        assert_eq!(decode(&bytes(&raw, &[])), Err(DecodeError::StackNumber));
    }
}

#[test]
fn lengths_are_not_trusted() {
    assert_whole(&bytes(&record(2, 1), &[10, 11, 12]));
    for (user, kernel) in [(u32::MAX, 0), (0, u32::MAX), (129, 0), (0, 65)] {
        let bytes = bytes(&record(user, kernel), &[0; 256]);
        assert_eq!(decode(&bytes), Err(DecodeError::Frames));
    }
}

fn raw_wait() -> WaitRecord {
    WaitRecord {
        header: header(KIND_WAIT),
        start: 10,
        wakeup: 20,
        end: 30,
        stack: 40,
        task_id: 50,
        object: 60,
        waker_tgid: 70,
        waker_tid: 80,
        waker_comm: comm(),
        waker_stack: 90,
        running: 100,
        runnable: 110,
        blocked: 120,
        core: 150,
        cut: 3,
        tick: 131,
        waits: 140,
        queued: 1 + (9 << 1 | 1),
    }
}

fn wait_of(record: &WaitRecord) -> WaitSeen {
    match decode(bytemuck::bytes_of(record)) {
        Ok(Event::Wait(seen)) => seen,
        other => panic!("not a wait: {other:?}"),
    }
}

#[test]
fn a_wait_says_what_is_not_known() {
    assert_whole(bytemuck::bytes_of(&raw_wait()));
    let seen = wait_of(&raw_wait());
    let number = StackNumber::new(40).expect("a number");
    assert_eq!(seen.thread, THREAD);
    assert_eq!(seen.wakeup, Some(Timestamp(20)));
    assert_eq!(seen.stack, WaitStack::Known(number));
    assert_eq!(seen.stack.number(), Some(number));
    assert_eq!(seen.task_id, Some(50));
    assert_eq!(seen.object, ObjectNumber::new(60));
    let waker = ThreadKey {
        pid: Pid(70),
        tid: Tid(80),
    };
    let by = Waker::Thread {
        thread: waker,
        name: ThreadName::new(comm()),
        stack: StackNumber::new(90),
    };
    assert_eq!(seen.waker, by);
    let clock = PollClock {
        core: Some(Addr(150)),
        tick: Some(130),
        queued: Some(Queued {
            in_slot: true,
            in_queue: 9,
        }),
        waits: 140,
        running: Nanos(100),
        runnable: Nanos(110),
        blocked: Nanos(120),
    };
    assert_eq!((seen.clock, seen.cut), (clock, 3));

    let bare = WaitRecord {
        wakeup: 0,
        stack: 0,
        task_id: 0,
        object: 0,
        waker_tid: WAKER_INTERRUPT,
        core: 0,
        tick: 0,
        ..raw_wait()
    };
    let seen = wait_of(&bare);
    assert_eq!((seen.clock.core, seen.clock.tick), (None, None));
    assert_eq!((seen.wakeup, seen.task_id, seen.object), (None, None, None));
    assert_eq!(
        (seen.stack, seen.waker),
        (WaitStack::Lost, Waker::Interrupt)
    );
    let before = WaitRecord {
        stack: STACK_BEFORE,
        waker_tid: WAKER_UNSEEN,
        ..raw_wait()
    };
    let seen = wait_of(&before);
    assert_eq!(
        (seen.stack, seen.waker),
        (WaitStack::BeforeRecording, Waker::Unseen)
    );
    assert_eq!(seen.stack.number(), None);
}

#[test]
fn ends_execs_forks_and_children_are_told() {
    let end = ThreadEndRecord {
        header: header(KIND_THREAD_END),
        time: 5,
        times: ThreadTimes {
            first_seen: 1,
            running: 2,
            runnable: 3,
            blocked: 4,
            waits: 5,
            in_calls: 6,
        },
        comm: comm(),
        cut: 3,
        reserved: 0,
        at_cut: ThreadState {
            phase: PHASE_BLOCKED,
            since: 10,
            wakeup: 9,
            stack: 40,
            object: 0,
            ..ThreadState::default()
        },
    };
    assert_whole(bytemuck::bytes_of(&end));
    let Ok(Event::ThreadEnd(seen)) = decode(bytemuck::bytes_of(&end)) else {
        panic!("not an end");
    };
    assert_eq!((seen.thread, seen.time), (THREAD, Timestamp(5)));
    let times = seen.times;
    assert_eq!(times.first_seen, Timestamp(1));
    let spans = [times.running, times.runnable, times.blocked, times.in_calls];
    assert_eq!(spans, [2, 3, 4, 6].map(Nanos));
    assert_eq!(times.waits, 5);
    assert_eq!(seen.cut, 3);
    let Some(Phase::Waiting(wait)) = seen.at_cut.map(|at_cut| at_cut.phase) else {
        panic!("it waited: {:?}", seen.at_cut);
    };
    assert_eq!(
        (wait.since, wait.woken),
        (Timestamp(10), None),
        "an old wakeup"
    );
    assert_eq!(wait.stack.number(), StackNumber::new(40));
    let born = ThreadEndRecord {
        at_cut: ThreadState::default(),
        ..end
    };
    let Ok(Event::ThreadEnd(seen)) = decode(bytemuck::bytes_of(&born)) else {
        panic!("not an end");
    };
    assert_eq!(seen.at_cut, None, "it was born after the cut");

    let exec = ExecRecord {
        header: header(KIND_EXEC),
        time: 5,
    };
    assert_whole(bytemuck::bytes_of(&exec));
    let seen = Exec {
        pid: Pid(7),
        time: Timestamp(5),
    };
    assert_eq!(decode(bytemuck::bytes_of(&exec)), Ok(Event::Exec(seen)));

    let fork = ForkRecord {
        header: header(KIND_FORK),
        time: 5,
        parent: 6,
        index: 3,
    };
    assert_whole(bytemuck::bytes_of(&fork));
    let seen = Fork {
        child: Pid(7),
        parent: Pid(6),
        time: Timestamp(5),
        index: 3,
    };
    assert_eq!(decode(bytemuck::bytes_of(&fork)), Ok(Event::Fork(seen)));

    let child = ChildRecord {
        header: header(KIND_CHILD),
        time: 5,
        pid: 9,
        reserved: 0,
        comm: comm(),
    };
    assert_whole(bytemuck::bytes_of(&child));
    let seen = ChildExec {
        parent: Pid(7),
        child: 9,
        name: ThreadName::new(comm()),
    };
    assert_eq!(
        decode(bytemuck::bytes_of(&child)),
        Ok(Event::ChildExec(seen))
    );
}

#[test]
fn a_snapshot_has_registers_of_a_thread_that_waits_only() {
    let raw = SnapshotRecord {
        header: header(KIND_SNAPSHOT),
        time: 1,
        ip: 2,
        sp: 3,
        bp: 4,
        fs: 5,
        syscall: 202,
        args: [6; 6],
        task_state: 1,
        on_cpu: 0,
        stack_kind: stack_kind::WAIT,
        reserved: 0,
        switches: 7,
        comm: comm(),
    };
    assert_whole(bytemuck::bytes_of(&raw));
    let activity = |raw: &SnapshotRecord| match decode(bytemuck::bytes_of(raw)) {
        Ok(Event::Snapshot(seen)) => {
            assert_eq!((seen.thread, seen.switches), (THREAD, 7));
            seen.activity
        }
        other => panic!("not a snapshot: {other:?}"),
    };
    let waits = |regs| Activity::Waiting {
        regs,
        fs: Addr(5),
        syscall: syscall(202, [6; 6]),
        stopped: None,
    };
    assert_eq!(activity(&raw), waits(Some(regs(2, 3, 4))));
    let held = SnapshotRecord {
        stack_kind: stack_kind::STOPPED_BY_FREEZER,
        ..raw
    };
    let by_freezer = Some(StoppedBy::Freezer);
    assert!(matches!(activity(&held), Activity::Waiting { stopped, .. } if stopped == by_freezer));
    assert_eq!(activity(&SnapshotRecord { ip: 0, ..raw }), waits(None));
    let runs = SnapshotRecord { on_cpu: 1, ..raw };
    assert_eq!(activity(&runs), Activity::Running);
    for task_state in [0, 0x200, 0x201] {
        let wants = SnapshotRecord { task_state, ..raw };
        assert_eq!(activity(&wants), Activity::Runnable);
    }
}

#[test]
fn calls_and_panics_are_told() {
    let raw = CallRecord {
        header: header(KIND_CALL),
        start: 1,
        end: 9,
        on_cpu: 5,
        stack: 0,
        task_id: 6,
        object: 0,
        cut: 3,
        reserved: 0,
    };
    assert_whole(bytemuck::bytes_of(&raw));
    let Ok(Event::Call(seen)) = decode(bytemuck::bytes_of(&raw)) else {
        panic!("not a call");
    };
    assert_eq!((seen.start, seen.end), (Timestamp(1), Timestamp(9)));
    assert_eq!((seen.on_cpu, seen.task_id), (Nanos(5), Some(6)));
    assert_eq!(seen.cut, 3);
    assert_eq!((seen.stack, seen.object), (None, None));

    let raw = PanicRecord {
        header: header(KIND_PANIC),
        time: 1,
        stack: 2,
        task_id: 0,
        cut: 3,
        reserved: 0,
    };
    assert_whole(bytemuck::bytes_of(&raw));
    let Ok(Event::Panic(seen)) = decode(bytemuck::bytes_of(&raw)) else {
        panic!("not a panic");
    };
    assert_eq!((seen.thread, seen.time), (THREAD, Timestamp(1)));
    assert_eq!((seen.stack, seen.task_id), (StackNumber::new(2), None));
    assert_eq!(seen.cut, 3);
}

#[test]
fn a_sample_bears_its_stack() {
    let raw = SampleRecord {
        header: header(KIND_SAMPLE),
        running: 1,
        runnable: 8,
        blocked: 9,
        task_id: 3,
        core: 4,
        tick: 5,
        waits: 2,
        cut: 3,
        reserved: 0,
    };
    let whole = |raw: &SampleRecord| {
        let mut whole = bytemuck::bytes_of(raw).to_vec();
        whole.extend(bytes(&record(2, 1), &[10, 11, 12]));
        whole
    };
    assert_whole(&whole(&raw));
    let sample = |raw: &SampleRecord| match decode(&whole(raw)) {
        Ok(Event::Sample(seen)) => *seen,
        other => panic!("not a sample: {other:?}"),
    };
    let seen = sample(&raw);
    let clock = PollClock {
        core: Some(Addr(4)),
        tick: Some(4),
        queued: None,
        waits: 2,
        running: Nanos(1),
        runnable: Nanos(8),
        blocked: Nanos(9),
    };
    assert_eq!((seen.clock, seen.cut), (clock, 3));
    assert_eq!(seen.task_id, Some(3));
    assert_eq!(seen.stack.user, addresses(&[10, 11]));
    assert_eq!(seen.stack.number, None, "it is in no table");
    let bare = SampleRecord {
        task_id: 0,
        core: 0,
        tick: 0,
        ..raw
    };
    let seen = sample(&bare);
    assert_eq!(
        (seen.task_id, seen.clock.core, seen.clock.tick),
        (None, None, None)
    );
}

#[test]
fn the_length_of_copied_memory_is_not_trusted() {
    let piece = |kind: u32, len: u32| RawStackRecord {
        header: header(kind),
        time: 1,
        stack: 2,
        ip: 3,
        sp: 4,
        bp: 5,
        address: 4,
        table_version: 1,
        bytes: len,
        last: 1,
        exec_count: 6,
    };
    let record = |kind: u32, len: u32, memory: &[u8]| {
        let mut bytes = bytemuck::bytes_of(&piece(kind, len)).to_vec();
        bytes.extend(memory);
        bytes
    };
    let Ok(Event::RawStack(raw)) = decode(&record(KIND_RAW_STACK, 3, &[1, 2, 3, 9])) else {
        panic!("not a raw stack");
    };
    assert_eq!((raw.thread, raw.time), (THREAD, Timestamp(1)));
    assert_eq!((raw.regs, raw.address), (regs(3, 4, 5), Addr(4)));
    assert_eq!(
        (raw.number, raw.table_version, raw.exec_count, raw.last),
        (StackNumber::new(2), TableVersion(1), 6, true)
    );
    assert_eq!(raw.memory, [1, 2, 3]);
    for kind in [KIND_RAW_STACK, KIND_UNMAPPED_STACK] {
        assert_eq!(
            decode(&record(kind, 4, &[1, 2, 3])),
            Err(DecodeError::Memory)
        );
        for len in [4097, u32::MAX] {
            let bytes = record(kind, len, &[0; 8192]);
            assert_eq!(decode(&bytes), Err(DecodeError::Memory));
        }
        assert_whole(&record(kind, 3, &[1, 2, 3]));
    }
}

#[test]
fn unknown_kinds_are_told() {
    let mut bytes = bytes(&record(0, 0), &[]);
    bytes[0] = 99;
    assert_eq!(decode(&bytes), Err(DecodeError::Kind(99)));
}

/// Bytes of every value in every place of every record: whatever comes of it, it is no panic.
#[test]
fn hostile_bytes_do_no_harm() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut decoded = 0;
    for round in 0..20_000_u32 {
        let mut bytes: Vec<u8> = (0..512)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Many small numbers, so that lengths and kinds are good now and then.
                if state & 3 == 0 {
                    (state >> 8) as u8
                } else {
                    0
                }
            })
            .collect();
        bytes[..4].copy_from_slice(&(round % 15).to_le_bytes());
        decoded += u32::from(decode(&bytes).is_ok());
    }
    assert!(
        decoded > 1_000,
        "{decoded}: the bytes are too wild to show anything"
    );
}
