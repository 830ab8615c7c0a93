//! A small language for recordings.

use holdup::recording::{
    HIST_BUCKETS, Header, Holder, Host, Interval, Losses, Object, ObjectId, ObjectKind, OpenWait,
    Poll, PollEvidence, Process, ProcessId, Recording, SampleSum, Sampling, Stack, StackId, Tables,
    ThreadId, ThreadTimes, TokioFacts, Tool, Wait, WaitObject, WaitSum, Waker, WakerId, bucket_of,
};
use holdup::runtime::tokio::Certainty;
use holdup::runtime::{Classification, Flavor, Role, RuleName, State};
use holdup::symbolize::{Frame, FrameRef, Naming, Origin, Space};
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

pub fn futex() -> Vec<FrameRef> {
    [
        "schedule",
        "futex_wait_queue",
        "futex_wait",
        "do_futex",
        "do_syscall_64",
    ]
    .map(|name| kernel(name).into())
    .to_vec()
}

/// A stack of the first process that the rules have classified; the task ends at the outermost
/// frame that is not the runtime's.
pub fn stack(state: State, role: Role, rule: &'static str, frames: Vec<Frame>) -> Stack {
    let inside = |frame: &Frame| {
        matches!(frame.origin, Origin::Application | Origin::Dependency)
            || frame.naming == Naming::FunctionStart
    };
    let task = matches!(state, State::Blocked | State::Pool | State::HandedOff)
        .then(|| frames.iter().rposition(inside))
        .flatten();
    Stack {
        process: ProcessId(0),
        frames: frames.into_iter().map(FrameRef::new).collect(),
        kernel: Vec::new(),
        truncated: None,
        pointer_steps: 0,
        syscall: Some(202),
        args: None,
        runtime: None,
        stopped_by: None,
        class: Classification {
            state,
            role,
            rule: RuleName(rule),
            frame: None,
            task_frame: task.map(|index| index as u32),
        },
    }
}

/// A worker's park.
pub fn park() -> Stack {
    let mut frames = vec![
        system("syscall"),
        library("parking_lot::condvar::Condvar::wait_until_internal"),
        runtime("tokio::runtime::scheduler::multi_thread::park::Parker::park"),
        runtime("tokio::runtime::scheduler::multi_thread::worker::Context::park_internal"),
        runtime("tokio::runtime::scheduler::multi_thread::worker::run"),
    ];
    frames.push(system("start_thread"));
    Stack {
        kernel: futex(),
        ..stack(State::Idle, WORKER, "worker-park", frames)
    }
}

/// The main thread inside `#[tokio::main]`.
pub fn main_park() -> Stack {
    let frames = vec![
        system("syscall"),
        runtime("tokio::runtime::park::Inner::park"),
        runtime("tokio::runtime::park::CachedParkThread::block_on"),
        app("claims_api::main"),
    ];
    stack(State::Idle, Role::BlockOn, "block-on-park", frames)
}

/// A thread of the blocking pool without work.
pub fn pool_park() -> Stack {
    let frames = vec![
        system("syscall"),
        library("parking_lot::condvar::Condvar::wait_until_internal"),
        runtime("tokio::runtime::blocking::pool::Inner::run"),
        system("start_thread"),
    ];
    stack(State::Idle, Role::PoolThread, "pool-park", frames)
}

/// A recording of one interval in the making.
pub struct Builder {
    pub header: Header,
    pub tables: Tables,
    pub interval: Interval,
    /// The process of which is told.
    process: ProcessId,
    /// What is waited for.
    object: Option<ObjectId>,
}

fn process(pid: u32, exe: &str) -> Process {
    Process {
        pid: Pid(pid),
        exe: exe.to_owned(),
        build_id: Some("6b5fe1d1c0ffee00".to_owned()),
        cmdline: vec![
            exe.to_owned(),
            "--listen".to_owned(),
            "0.0.0.0:80".to_owned(),
        ],
        tokio_version: Some("1.54.1".to_owned()),
        tokio: TokioFacts {
            present: true,
            context: Certainty::Confirmed {
                named: 12,
                driver_parks: 0,
            },
            ..TokioFacts::default()
        },
        parent: None,
        earlier: Vec::new(),
        ended: None,
        has_symbols: true,
        has_lines: true,
        panic_probes: None,
    }
}

impl Builder {
    pub fn new(exe: &str, length: u64) -> Builder {
        Builder {
            header: Header {
                tool: Tool {
                    name: "holdup".to_owned(),
                    version: "0.1.0".to_owned(),
                },
                host: Host {
                    kernel: "6.12.0".to_owned(),
                    cpus: 4,
                },
                started_at: 1_790_000_000.0,
                start: Timestamp(START),
                min_block: Nanos(100 * US),
                long_poll: Nanos(10 * MS),
                sampling: None,
                calls_measured: false,
                panics_counted: false,
            },
            tables: Tables {
                processes: vec![process(4242, exe)],
                ..Tables::default()
            },
            interval: Interval {
                start: Timestamp(START),
                end: Timestamp(START + length),
                losses: Losses {
                    walked: 12_345,
                    ..Losses::default()
                },
                ..Interval::default()
            },
            process: ProcessId(0),
            object: None,
        }
    }

    pub fn recording(self) -> Recording {
        Recording {
            header: self.header,
            tables: self.tables,
            intervals: vec![self.interval],
        }
    }

    /// Tells of another process from here on.
    pub fn process(&mut self, pid: u32, exe: &str) -> &mut Process {
        self.process = ProcessId(self.tables.processes.len() as u32);
        self.object = None;
        self.tables.processes.push(process(pid, exe));
        self.target()
    }

    /// The process of which is told.
    pub fn target(&mut self) -> &mut Process {
        &mut self.tables.processes[self.process.index()]
    }

    pub fn id(&self, tid: u32) -> ThreadId {
        ThreadId {
            process: self.process,
            tid: Tid(tid),
        }
    }

    /// What the waits from here on are for.
    pub fn waits_for(&mut self, kind: ObjectKind, name: &str, fd: Option<u32>) {
        self.object = Some(self.object(kind, name, fd));
    }

    pub fn object(&mut self, kind: ObjectKind, name: &str, fd: Option<u32>) -> ObjectId {
        let name = name.to_owned();
        self.tables.objects.push(WaitObject {
            object: Object { kind, name },
            fd,
            many: 1,
        });
        ObjectId(self.tables.objects.len() as u32 - 1)
    }

    /// What the waits from here on are for is not known.
    pub fn waits_for_anything(&mut self) {
        self.object = None;
    }

    pub fn stack(&mut self, mut stack: Stack) -> StackId {
        stack.process = self.process;
        self.tables.stacks.push(stack);
        StackId(self.tables.stacks.len() as u32 - 1)
    }

    /// A thread that lived throughout, and ran and was runnable for this long.
    pub fn thread(&mut self, tid: u32, name: &str, running: u64, runnable: u64) {
        let lived = self.interval.end - self.interval.start;
        let thread = self.id(tid);
        self.tables.thread_names.insert(thread, name.into());
        self.interval.threads.push(ThreadTimes {
            thread,
            lived,
            until: self.interval.end,
            running: Nanos(running),
            runnable: Nanos(runnable),
            blocked: Nanos(lived.0 - running - runnable),
            waits: 0,
            in_calls: Nanos::ZERO,
        });
    }

    pub fn times(&mut self, tid: u32) -> &mut ThreadTimes {
        let thread = self.id(tid);
        let mut threads = self.interval.threads.iter_mut();
        threads.find(|t| t.thread == thread).expect("a thread")
    }

    fn sum(&mut self, tid: u32, stack: StackId, blocked: u64, timed: Option<u64>) {
        let bucket = bucket_of(Nanos(blocked));
        let (thread, object) = (self.id(tid), self.object);
        let sums = &mut self.interval.sums;
        let known = |s: &WaitSum| s.thread == thread && s.stack == stack && s.object == object;
        let index = sums.iter().position(known).unwrap_or_else(|| {
            sums.push(WaitSum {
                thread,
                stack,
                object,
                waits: 0,
                blocked: Nanos::ZERO,
                runqueue: Nanos::ZERO,
                max: Nanos::ZERO,
                histogram: vec![0; HIST_BUCKETS],
            });
            sums.len() - 1
        });
        let sum = &mut sums[index];
        sum.waits += 1;
        sum.blocked += Nanos(blocked);
        sum.runqueue += Nanos(timed.unwrap_or(0));
        sum.max = sum.max.max(Nanos(blocked));
        sum.histogram[bucket] += 1;
    }

    /// A wait too short, or too idle, to be recorded by itself.
    pub fn short(&mut self, tid: u32, stack: StackId, blocked: u64) {
        self.sum(tid, stack, blocked, None);
    }

    /// A wait that is recorded by itself, from `from` after the start; `waker` ends it, and 20 µs
    /// later the thread runs.
    pub fn wait(&mut self, tid: u32, stack: StackId, from: u64, blocked: u64, waker: &str) {
        let waker = (!waker.is_empty()).then(|| self.waker(4242, 4300, waker));
        self.woken(tid, stack, from, blocked, waker);
    }

    pub fn woken(
        &mut self,
        tid: u32,
        stack: StackId,
        from: u64,
        blocked: u64,
        waker: Option<WakerId>,
    ) {
        self.single(tid, stack, from, blocked, 20 * US);
        let last = self.interval.waits.last_mut();
        last.expect("just pushed").waker = waker;
    }

    /// A wait that is recorded by itself, and then waits for a CPU.
    pub fn single(&mut self, tid: u32, stack: StackId, from: u64, blocked: u64, runqueue: u64) {
        self.sum(tid, stack, blocked, Some(runqueue));
        self.interval.waits.push(Wait {
            thread: self.id(tid),
            stack,
            object: self.object,
            start: self.instant(from),
            wakeup: self.instant(from + blocked),
            end: self.instant(from + blocked + runqueue),
            waker: None,
            waker_stack: None,
            task_id: None,
        });
    }

    /// An instant, by its time from the start.
    pub fn instant(&self, from: u64) -> Timestamp {
        Timestamp(self.header.start.0 + from)
    }

    pub fn waker(&mut self, pid: u32, tid: u32, name: &str) -> WakerId {
        let waker = Waker {
            pid: Pid(pid),
            tid: Tid(tid),
            name: name.into(),
        };
        let wakers = &mut self.tables.wakers;
        let known = wakers.iter().position(|known| *known == waker);
        let index = known.unwrap_or_else(|| {
            wakers.push(waker);
            wakers.len() - 1
        });
        WakerId(index as u32)
    }

    /// Lets a stack of its own end all waits that `waker` ended.
    pub fn woken_from(&mut self, waker: &str, stack: StackId) {
        let waker = self.waker(4242, 4300, waker);
        let waits = self.interval.waits.iter_mut();
        for wait in waits.filter(|wait| wait.waker == Some(waker)) {
            wait.waker_stack = Some(stack);
        }
    }

    /// Samples of a thread with a stack, ten milliseconds each.
    pub fn sampled(&mut self, tid: u32, stack: StackId, samples: u64) {
        self.header.sampling = Some(Sampling {
            period: Nanos(10 * MS),
        });
        self.interval.samples.push(SampleSum {
            thread: self.id(tid),
            stack,
            samples,
        });
    }

    /// A long poll that was first seen `from` after the start, and then computed for this long.
    pub fn long_poll(&mut self, tid: u32, stack: StackId, from: u64, on_cpu: u64) {
        let samples = on_cpu / (10 * MS) + 1;
        self.poll(tid, stack, (from, from + on_cpu), (0, 0, samples));
    }

    /// A poll from and to so long after the start, with `waits` of `blocked` together, and `samples`.
    pub fn poll(
        &mut self,
        tid: u32,
        stack: StackId,
        (from, to): (u64, u64),
        (waits, blocked, samples): (u64, u64, u64),
    ) {
        let known = self.interval.polls.len() as u64;
        self.interval.polls.push(Poll {
            thread: self.id(tid),
            stack,
            task_id: Some(17 + known),
            start: Timestamp(START + from),
            end: Timestamp(START + to),
            blocked: Nanos(blocked),
            runqueue: Nanos(0),
            running: Nanos(to - from - blocked),
            waits,
            samples,
            queued: None,
            evidence: PollEvidence::Tick,
        });
    }

    /// A wait that lasts to the end.
    pub fn open(&mut self, tid: u32, stack: StackId, from: u64, before_recording: bool) {
        self.interval.open_waits.push(OpenWait {
            thread: self.id(tid),
            stack,
            began_for: self.object,
            since: Timestamp(START + from),
            woken: None,
            before_recording,
            object: None,
            holder: None,
            task_id: None,
        });
    }

    /// Says what the wait added last is for, and who holds it.
    pub fn held(&mut self, kind: ObjectKind, name: &str, holder: Holder) {
        let open = self.interval.open_waits.last_mut().expect("an open wait");
        let name = name.to_owned();
        open.object = Some(Object { kind, name });
        open.holder = Some(holder);
    }

    /// Lets every thread spend the time that nothing accounts for in waits with `stack`.
    pub fn rest(&mut self, tids: impl IntoIterator<Item = u32>, stack: StackId) {
        for tid in tids {
            let thread = self.id(tid);
            let blocked = self.times(tid).blocked;
            let sums = self.interval.sums.iter();
            let finished = sums.filter(|s| s.thread == thread).map(|s| s.blocked);
            let open = self.interval.open_waits.iter();
            let open = open.filter(|open| open.thread == thread);
            let open = open.map(|open| self.interval.end - open.since);
            let accounted: Nanos = finished.chain(open).sum();
            let left = blocked.saturating_sub(accounted).0;
            for part in 0..4 {
                self.short(tid, stack, left / 4 + if part == 0 { left % 4 } else { 0 });
            }
        }
    }
}
