//! Frames, stacks and recordings for the unit tests of this room.

use crate::recording::{
    Host, Judges, Losses, OpenWait, Recording, StackEntry, StackId, Target, ThreadRecord, Tool,
    Wait, WaitTotal,
};
use crate::runtime::{Classification, Role, RuleName, State};
use crate::symbolize::{Frame, Naming, Origin, Space};
use crate::units::{Addr, Nanos, Pid, Tid, Timestamp};

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

/// A stack with its verdict.
pub(super) fn stack(
    frames: Vec<Frame>,
    state: State,
    role: Role,
    task_frame: Option<u32>,
) -> StackEntry {
    StackEntry {
        frames,
        kernel: Vec::new(),
        truncated: None,
        syscall: Some(202),
        args: None,
        verdict: Classification {
            state,
            role,
            rule: RuleName("test"),
            frame: None,
            task_frame,
        },
    }
}

/// A recording of `length` nanoseconds with nothing in it.
pub(super) fn recording(length: u64) -> Recording {
    Recording {
        tool: Tool {
            name: "holdup".to_owned(),
            version: "0.0.0".to_owned(),
        },
        host: Host {
            kernel: "6.18.0".to_owned(),
            cpus: 4,
        },
        target: Target {
            pid: Pid(1),
            exe: "/bin/app".to_owned(),
            build_id: None,
            cmdline: Vec::new(),
            tokio_version: None,
            parent: None,
            earlier: Vec::new(),
            ended: None,
            has_symbols: true,
            has_lines: true,
        },
        started_at: 0.0,
        start: Timestamp(1_000),
        end: Timestamp(1_000 + length),
        min_block: Nanos(0),
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
        losses: Losses::default(),
        others: Vec::new(),
    }
}

/// The histogram of `durations`.
pub(super) fn histogram(durations: &[u64]) -> Vec<u32> {
    let mut counts = vec![0; crate::recording::HIST_BUCKETS];
    for duration in durations {
        counts[duration.checked_ilog2().unwrap_or(0) as usize] += 1;
    }
    counts
}

impl Recording {
    /// Adds a stack.
    pub(super) fn push_stack(&mut self, stack: StackEntry) -> StackId {
        self.stacks.push(stack);
        StackId(u32::try_from(self.stacks.len() - 1).expect("few stacks"))
    }

    /// Adds a thread that lived throughout and ran when it did not wait.
    pub(super) fn push_thread(&mut self, tid: u32) {
        self.threads.push(ThreadRecord {
            tid: Tid(tid),
            name: format!("thread-{tid}"),
            lived: self.end - self.start,
            running: self.end - self.start,
            runnable: Nanos::ZERO,
            blocked: Nanos::ZERO,
            waits: 0,
            in_calls: Nanos::ZERO,
        });
    }

    fn book(&mut self, tid: u32, time: Nanos) {
        for thread in self.threads.iter_mut().filter(|t| t.tid == Tid(tid)) {
            thread.running = thread.running.saturating_sub(time);
            thread.blocked += time;
        }
    }

    /// Adds a finished wait to the books, the sums and the timeline; times are relative to the
    /// start.
    pub(super) fn push_wait(&mut self, tid: u32, stack: StackId, from: u64, to: u64) {
        let blocked = Nanos(to - from);
        self.book(tid, blocked);
        self.totals.push(WaitTotal {
            tid: Tid(tid),
            stack,
            object: None,
            waits: 1,
            blocked,
            runqueue: Nanos::ZERO,
            max: blocked,
            histogram: histogram(&[to - from]),
        });
        self.waits.push(Wait {
            tid: Tid(tid),
            stack,
            object: None,
            start: Timestamp(self.start.0 + from),
            wakeup: Timestamp(self.start.0 + to),
            end: Timestamp(self.start.0 + to),
            waker: None,
            task_id: None,
        });
    }

    /// Adds a wait that does not end; `from` is relative to the start.
    pub(super) fn push_open(&mut self, tid: u32, stack: StackId, from: u64) {
        let since = Timestamp(self.start.0 + from);
        self.book(tid, self.end - since);
        self.open_waits.push(OpenWait {
            tid: Tid(tid),
            stack,
            began_for: None,
            since,
            before_recording: false,
            object: None,
            holder: None,
            task_id: None,
        });
    }
}
