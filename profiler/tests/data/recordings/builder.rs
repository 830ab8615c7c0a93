//! A small language for recordings.

use holdup::recording::{
    HIST_BUCKETS, Holder, Host, Judges, LongPoll, Losses, Object, ObjectId, ObjectKind, OpenWait,
    PollEvidence, Recording, SampleTotal, Sampling, StackEntry, StackId, Target, ThreadRecord,
    Tool, Wait, WaitObject, WaitTotal, Waker,
};
use holdup::runtime::{Classification, Flavor, Role, RuleName, State};
use holdup::symbolize::{Frame, Naming, Origin, Space};
use holdup::units::{Addr, Nanos, Pid, Tid, Timestamp};

pub const WORKER: Role = Role::Worker(Flavor::MultiThread);
pub const CURRENT: Role = Role::Worker(Flavor::CurrentThread);
pub const US: u64 = 1_000;
pub const MS: u64 = 1_000_000;
pub const SEC: u64 = 1_000_000_000;
const START: u64 = 5_000 * SEC;

fn frame(function: &str, origin: Origin) -> Frame {
    Frame {
        module: Some("claims_api".into()),
        address: Addr(0x5555_0000_1000 + function.len() as u64),
        ..Frame::named(function, origin)
    }
}

pub fn app(function: &str) -> Frame {
    frame(function, Origin::Application)
}

pub fn dependency(function: &str) -> Frame {
    frame(function, Origin::Dependency)
}

pub fn library(function: &str) -> Frame {
    frame(function, Origin::Library)
}

pub fn runtime(function: &str) -> Frame {
    frame(function, Origin::Runtime)
}

pub fn system(function: &str) -> Frame {
    Frame {
        module: Some("libc.so.6".into()),
        ..frame(function, Origin::System)
    }
}

pub fn kernel(function: &str) -> Frame {
    Frame {
        space: Space::Kernel,
        module: None,
        ..frame(function, Origin::Kernel)
    }
}

pub fn stripped(function: &str) -> Frame {
    Frame {
        naming: Naming::FunctionStart,
        ..frame(function, Origin::Unknown)
    }
}

pub fn at(mut frame: Frame, file: &str, line: u32) -> Frame {
    frame.file = Some(file.into());
    frame.line = Some(line);
    frame
}

pub fn inlined(mut frame: Frame) -> Frame {
    frame.inlined = true;
    frame
}

/// The frames outside every poll of a worker's task.
pub fn under_worker(mut frames: Vec<Frame>) -> Vec<Frame> {
    for name in [
        "tokio::runtime::task::core::Core<T,S>::poll",
        "tokio::runtime::task::raw::poll",
        "tokio::runtime::scheduler::multi_thread::worker::Context::run_task",
        "tokio::runtime::scheduler::multi_thread::worker::run",
        "tokio::runtime::blocking::pool::Inner::run",
    ] {
        frames.push(runtime(name));
    }
    frames.push(library("std::sys::backtrace::__rust_begin_short_backtrace"));
    frames.push(system("start_thread"));
    frames
}

pub fn futex() -> Vec<Frame> {
    [
        "schedule",
        "futex_wait_queue",
        "futex_wait",
        "do_futex",
        "do_syscall_64",
    ]
    .map(kernel)
    .to_vec()
}

/// A stack that the rules have classified; the task ends at the outermost frame that is not the
/// runtime's.
pub fn stack(state: State, role: Role, rule: &'static str, frames: Vec<Frame>) -> StackEntry {
    let inside = |frame: &Frame| {
        matches!(frame.origin, Origin::Application | Origin::Dependency)
            || frame.naming == Naming::FunctionStart
    };
    let task = matches!(state, State::Blocked | State::Pool | State::HandedOff)
        .then(|| frames.iter().rposition(inside))
        .flatten();
    StackEntry {
        frames,
        kernel: Vec::new(),
        truncated: None,
        syscall: Some(202),
        args: None,
        verdict: Classification {
            state,
            role,
            rule: RuleName(rule),
            frame: None,
            task_frame: task.map(|index| index as u32),
        },
    }
}

/// A worker's park.
pub fn park() -> StackEntry {
    let mut frames = vec![
        system("syscall"),
        library("parking_lot::condvar::Condvar::wait_until_internal"),
        runtime("tokio::runtime::scheduler::multi_thread::park::Parker::park"),
        runtime("tokio::runtime::scheduler::multi_thread::worker::Context::park_internal"),
        runtime("tokio::runtime::scheduler::multi_thread::worker::run"),
    ];
    frames.push(system("start_thread"));
    StackEntry {
        kernel: futex(),
        ..stack(State::Idle, WORKER, "worker-park", frames)
    }
}

/// The main thread inside `#[tokio::main]`.
pub fn main_park() -> StackEntry {
    let frames = vec![
        system("syscall"),
        runtime("tokio::runtime::park::Inner::park"),
        runtime("tokio::runtime::park::CachedParkThread::block_on"),
        app("claims_api::main"),
    ];
    stack(State::Idle, Role::BlockOn, "block-on-park", frames)
}

/// A thread of the blocking pool without work.
pub fn pool_park() -> StackEntry {
    let frames = vec![
        system("syscall"),
        library("parking_lot::condvar::Condvar::wait_until_internal"),
        runtime("tokio::runtime::blocking::pool::Inner::run"),
        system("start_thread"),
    ];
    stack(State::Idle, Role::PoolThread, "pool-park", frames)
}

/// A recording in the making.
pub struct Builder(pub Recording, Option<ObjectId>);

impl Builder {
    pub fn new(exe: &str, length: u64) -> Builder {
        let recording = Recording {
            tool: Tool {
                name: "holdup".to_owned(),
                version: "0.1.0".to_owned(),
            },
            host: Host {
                kernel: "6.12.0".to_owned(),
                cpus: 4,
            },
            target: Target {
                pid: Pid(4242),
                exe: exe.to_owned(),
                build_id: Some("6b5fe1d1c0ffee00".to_owned()),
                cmdline: vec![
                    exe.to_owned(),
                    "--listen".to_owned(),
                    "0.0.0.0:80".to_owned(),
                ],
                tokio_version: Some("1.54.1".to_owned()),
                parent: None,
                earlier: Vec::new(),
                ended: None,
                has_symbols: true,
                has_lines: true,
            },
            started_at: 1_790_000_000.0,
            start: Timestamp(START),
            end: Timestamp(START + length),
            min_block: Nanos(100 * US),
            threads: Vec::new(),
            stacks: Vec::new(),
            objects: Vec::new(),
            totals: Vec::new(),
            waits: Vec::new(),
            open_waits: Vec::new(),
            sampling: None,
            samples: Vec::new(),
            long_polls: Vec::new(),
            calls_measured: false,
            calls: Vec::new(),
            panics: None,
            throttling: None,
            judges: Judges::default(),
            losses: Losses {
                walked: 12_345,
                ..Losses::default()
            },
            others: Vec::new(),
        };
        Builder(recording, None)
    }

    /// What the waits from here on are for.
    pub fn waits_for(&mut self, kind: ObjectKind, name: &str, fd: Option<u32>) {
        self.0.objects.push(WaitObject {
            object: Object {
                kind,
                name: name.to_owned(),
            },
            fd,
        });
        self.1 = Some(ObjectId(self.0.objects.len() as u32 - 1));
    }

    /// What the waits from here on are for is not known.
    pub fn waits_for_anything(&mut self) {
        self.1 = None;
    }

    pub fn stack(&mut self, stack: StackEntry) -> StackId {
        self.0.stacks.push(stack);
        StackId(self.0.stacks.len() as u32 - 1)
    }

    /// A thread that lived throughout, and ran and was runnable for so long.
    pub fn thread(&mut self, tid: u32, name: &str, running: u64, runnable: u64) {
        let lived = self.0.end - self.0.start;
        self.0.threads.push(ThreadRecord {
            tid: Tid(tid),
            name: name.to_owned(),
            lived,
            running: Nanos(running),
            runnable: Nanos(runnable),
            blocked: Nanos(lived.0 - running - runnable),
            waits: 0,
            in_calls: Nanos::ZERO,
        });
    }

    fn total(&mut self, tid: u32, stack: StackId, blocked: u64, timed: Option<u64>) {
        let bucket = (blocked.max(1).ilog2() as usize).min(HIST_BUCKETS - 1);
        let object = self.1;
        let known =
            |t: &&mut WaitTotal| t.tid == Tid(tid) && t.stack == stack && t.object == object;
        let total = match self.0.totals.iter_mut().find(known) {
            Some(total) => total,
            None => {
                self.0.totals.push(WaitTotal {
                    tid: Tid(tid),
                    stack,
                    object,
                    waits: 0,
                    blocked: Nanos::ZERO,
                    runqueue: Nanos::ZERO,
                    max: Nanos::ZERO,
                    histogram: vec![0; HIST_BUCKETS],
                });
                self.0.totals.last_mut().expect("just pushed")
            }
        };
        total.waits += 1;
        total.blocked += Nanos(blocked);
        total.runqueue += Nanos(timed.unwrap_or(0));
        total.max = total.max.max(Nanos(blocked));
        total.histogram[bucket] += 1;
    }

    /// A wait too short, or too idle, for the timeline.
    pub fn short(&mut self, tid: u32, stack: StackId, blocked: u64) {
        self.total(tid, stack, blocked, None);
    }

    /// A wait of the timeline, from `from` after the start; `waker` ends it, and 20 µs later
    /// the thread runs.
    pub fn wait(&mut self, tid: u32, stack: StackId, from: u64, blocked: u64, waker: &str) {
        const RUN_QUEUE: u64 = 20 * US;
        self.total(tid, stack, blocked, Some(RUN_QUEUE));
        let start = START + from;
        self.0.waits.push(Wait {
            tid: Tid(tid),
            stack,
            object: self.1,
            start: Timestamp(start),
            wakeup: Timestamp(start + blocked),
            end: Timestamp(start + blocked + RUN_QUEUE),
            waker: (!waker.is_empty()).then(|| Waker {
                pid: Pid(4242),
                tid: Tid(4_300),
                name: waker.into(),
                stack: None,
            }),
            task_id: None,
        });
    }

    /// Lets a stack of its own, of thread 4300, end all waits of the timeline that `waker` ended.
    pub fn woken_from(&mut self, waker: &str, stack: StackId) {
        let wakers = self.0.waits.iter_mut().filter_map(|w| w.waker.as_mut());
        for known in wakers.filter(|known| *known.name == *waker) {
            known.stack = Some(stack);
        }
    }

    /// Samples of a thread with a stack, ten milliseconds each.
    pub fn sampled(&mut self, tid: u32, stack: StackId, samples: u64) {
        self.0.sampling = Some(Sampling {
            period: Nanos(10 * MS),
            long_poll: Nanos(10 * MS),
        });
        self.0.samples.push(SampleTotal {
            tid: Tid(tid),
            stack,
            samples,
        });
    }

    /// A long poll that was first seen `from` after the start, and then for so long.
    pub fn long_poll(&mut self, tid: u32, stack: StackId, from: u64, on_cpu: u64) {
        let known = self.0.long_polls.len() as u64;
        self.0.long_polls.push(LongPoll {
            tid: Tid(tid),
            stack,
            task_id: Some(17 + known),
            first: Timestamp(START + from),
            last: Timestamp(START + from + on_cpu),
            on_cpu: Nanos(on_cpu),
            samples: on_cpu / (10 * MS) + 1,
            evidence: PollEvidence::Tick,
        });
    }

    /// A wait that lasts to the end.
    pub fn open(&mut self, tid: u32, stack: StackId, from: u64, before_recording: bool) {
        self.0.open_waits.push(OpenWait {
            tid: Tid(tid),
            stack,
            began_for: self.1,
            since: Timestamp(START + from),
            before_recording,
            object: None,
            holder: None,
            task_id: None,
        });
    }

    /// Says what the wait added last is for, and who holds it.
    pub fn held(&mut self, kind: ObjectKind, name: &str, holder: Holder) {
        let open = self.0.open_waits.last_mut().expect("an open wait");
        let name = name.to_owned();
        open.object = Some(Object { kind, name });
        open.holder = Some(holder);
    }

    /// Lets every thread spend the time that nothing accounts for in waits with `stack`.
    pub fn rest(&mut self, tids: impl IntoIterator<Item = u32>, stack: StackId) {
        for tid in tids {
            let thread = self
                .0
                .threads
                .iter()
                .find(|t| t.tid == Tid(tid))
                .expect("a thread");
            let finished = self
                .0
                .totals
                .iter()
                .filter(|t| t.tid == Tid(tid))
                .map(|t| t.blocked);
            let open = self.0.open_waits.iter().filter(|t| t.tid == Tid(tid));
            let open = open.map(|t| self.0.end - t.since);
            let booked: Nanos = finished.chain(open).sum();
            let left = thread.blocked.saturating_sub(booked).0;
            for part in 0..4 {
                self.short(tid, stack, left / 4 + if part == 0 { left % 4 } else { 0 });
            }
        }
    }
}
