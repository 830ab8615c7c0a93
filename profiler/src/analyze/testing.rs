//! Frames, stacks and recordings for the unit tests of this room.

pub(super) mod story;

use crate::recording::{
    Header, Host, Interval, OpenWait, Process, ProcessId, Recording, Stack, StackId, Tables,
    ThreadId, ThreadTimes, Tool, Wait, WaitSum,
};
use crate::runtime::{Classification, Role, RuleName, State};
use crate::symbolize::{Frame, Naming, Origin, Space};
use crate::units::{Addr, Nanos, Pid, Tid, Timestamp};
use std::sync::Arc;

fn frame(function: &str, origin: Origin, naming: Naming) -> Frame {
    Frame {
        naming,
        address: Addr(0x1000),
        ..Frame::named(function, origin)
    }
}

/// A frame of the application, with its line.
pub(super) fn app(function: &str, line: u32) -> Frame {
    Frame {
        file: Some("src/app.rs".into()),
        line: Some(line),
        ..frame(function, Origin::Application, Naming::Symbol)
    }
}

/// A frame of std or the like.
pub(super) fn library(function: &str) -> Frame {
    frame(function, Origin::Library, Naming::Symbol)
}

/// A frame of a third-party crate.
pub(super) fn dependency(function: &str) -> Frame {
    frame(function, Origin::Dependency, Naming::Symbol)
}

/// A frame of libc.
pub(super) fn system(function: &str) -> Frame {
    frame(function, Origin::System, Naming::Symbol)
}

/// A frame of tokio.
pub(super) fn runtime(function: &str) -> Frame {
    frame(function, Origin::Runtime, Naming::Symbol)
}

/// A frame of a stripped binary.
pub(super) fn stripped(function: &str) -> Frame {
    frame(function, Origin::Unknown, Naming::FunctionStart)
}

/// A frame of which only the offset is known.
pub(super) fn offset(function: &str) -> Frame {
    frame(function, Origin::Unknown, Naming::Offset)
}

/// A frame of the kernel.
pub(super) fn kernel(function: &str) -> Frame {
    Frame {
        space: Space::Kernel,
        ..frame(function, Origin::Kernel, Naming::Symbol)
    }
}

/// A stack with its class.
pub(super) fn stack(
    frames: Vec<Frame>,
    state: State,
    role: Role,
    task_frame: Option<u32>,
) -> Stack {
    Stack {
        process: ProcessId(0),
        frames: frames.into_iter().map(Arc::new).collect(),
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
            rule: RuleName("test"),
            frame: None,
            task_frame,
        },
    }
}

/// A thread of the first process.
pub(super) fn thread(tid: u32) -> ThreadId {
    ThreadId {
        process: ProcessId(0),
        tid: Tid(tid),
    }
}

/// A process of which little is known.
pub(super) fn process(pid: u32) -> Process {
    Process {
        exe: "/bin/app".to_owned(),
        has_symbols: true,
        has_lines: true,
        ..Process::unknown(Pid(pid))
    }
}

/// A recording of one interval of `length` nanoseconds with nothing in it.
pub(super) fn recording(length: u64) -> Recording {
    let start = Timestamp(1_000);
    Recording {
        header: Header {
            tool: Tool {
                name: "holdup".to_owned(),
                version: "0.0.0".to_owned(),
            },
            host: Host {
                kernel: "6.18.0".to_owned(),
                cpus: 4,
            },
            started_at: 0.0,
            start,
            min_block: Nanos(0),
            long_poll: Nanos(10_000_000),
            sampling: None,
            calls_measured: false,
            panics_counted: false,
        },
        tables: Tables {
            processes: vec![process(1)],
            ..Tables::default()
        },
        intervals: vec![Interval {
            start,
            end: Timestamp(start.0 + length),
            ..Interval::default()
        }],
    }
}

/// The histogram of `durations`.
pub(super) fn histogram(durations: &[u64]) -> Vec<u32> {
    let mut counts = vec![0; crate::recording::HIST_BUCKETS];
    for duration in durations {
        counts[crate::recording::bucket_of(Nanos(*duration))] += 1;
    }
    counts
}

impl Recording {
    /// The only interval.
    pub(super) fn interval(&mut self) -> &mut Interval {
        self.intervals.last_mut().expect("one interval")
    }

    /// Adds a stack.
    pub(super) fn push_stack(&mut self, stack: Stack) -> StackId {
        self.tables.stacks.push(stack);
        StackId(u32::try_from(self.tables.stacks.len() - 1).expect("few stacks"))
    }

    /// Adds a thread that lived throughout and ran when it did not wait.
    pub(super) fn push_thread(&mut self, tid: u32) {
        let name = format!("thread-{tid}").into();
        self.tables.thread_names.insert(thread(tid), name);
        let interval = self.interval();
        let length = interval.end - interval.start;
        let until = interval.end;
        interval.threads.push(ThreadTimes {
            thread: thread(tid),
            lived: length,
            until,
            running: length,
            runnable: Nanos::ZERO,
            blocked: Nanos::ZERO,
            waits: 0,
            in_calls: Nanos::ZERO,
        });
    }

    fn account(&mut self, tid: u32, time: Nanos) {
        let threads = self.interval().threads.iter_mut();
        for times in threads.filter(|times| times.thread == thread(tid)) {
            times.running = times.running.saturating_sub(time);
            times.blocked += time;
        }
    }

    /// Adds a finished wait to the times, the sums and the single waits; times are relative to the
    /// start.
    pub(super) fn push_wait(&mut self, tid: u32, stack: StackId, from: u64, to: u64) {
        let blocked = Nanos(to - from);
        self.account(tid, blocked);
        let interval = self.interval();
        interval.sums.push(WaitSum {
            thread: thread(tid),
            stack,
            object: None,
            waits: 1,
            blocked,
            runqueue: Nanos::ZERO,
            max: blocked,
            histogram: histogram(&[to - from]),
        });
        interval.waits.push(Wait {
            thread: thread(tid),
            stack,
            object: None,
            start: Timestamp(interval.start.0 + from),
            wakeup: Timestamp(interval.start.0 + to),
            end: Timestamp(interval.start.0 + to),
            waker: None,
            waker_stack: None,
            task_id: None,
        });
    }

    /// Adds a wait that does not end; `from` is relative to the start.
    pub(super) fn push_open(&mut self, tid: u32, stack: StackId, from: u64) {
        let interval = self.interval();
        let since = Timestamp(interval.start.0 + from);
        let lasted = interval.end - since;
        self.account(tid, lasted);
        let open = open_wait(tid, stack, since);
        self.interval().open_waits.push(open);
    }
}

/// A wait that has not ended.
pub(super) fn open_wait(tid: u32, stack: StackId, since: Timestamp) -> OpenWait {
    OpenWait {
        thread: thread(tid),
        stack,
        began_for: None,
        since,
        woken: None,
        before_recording: false,
        object: None,
        holder: None,
        task_id: None,
    }
}
