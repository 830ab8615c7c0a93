//! Single waits and polls, and sums by thread and object: what formats of other programs draw that
//! the report has only in sums. Kept only where such a format was asked for.

use super::Activity;
use crate::cause::Cause;
use crate::recording::{Object, ObjectId, Poll, StackId, ThreadId, Wait, Waker, WakerId};
use crate::runtime::{Role, State};
use crate::symbolize::FrameRef;
use crate::units::{Nanos, Pid, Timestamp};
use crate::unwind::Truncation;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What of a recording is kept one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Waits by thread, stack and object: [`Detail::sums`].
    pub sums: bool,
    /// [`Detail::waits`], [`Detail::polls`] and [`Detail::activity`].
    pub singles: bool,
}

impl Keep {
    /// Nothing of it.
    pub const NOTHING: Keep = Keep {
        sums: false,
        singles: false,
    };

    /// What either of the two keeps.
    #[must_use]
    pub const fn or(self, other: Keep) -> Keep {
        Keep {
            sums: self.sums || other.sums,
            singles: self.singles || other.singles,
        }
    }

    /// Whether anything is kept.
    #[must_use]
    pub const fn anything(self) -> bool {
        self.sums || self.singles
    }
}

/// Single waits, and what they name.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// The first instant.
    pub start: Timestamp,
    /// The last one.
    pub end: Timestamp,
    /// Every thread, also those that never waited.
    pub threads: BTreeMap<ThreadId, DetailThread>,
    /// The stacks of everything below, and those of wakers.
    pub stacks: BTreeMap<StackId, DetailStack>,
    /// What was waited for.
    pub objects: BTreeMap<ObjectId, Object>,
    /// Who ended waits.
    pub wakers: BTreeMap<WakerId, Waker>,
    /// Finished and open waits by thread, stack and object; empty unless [`Keep::sums`].
    pub sums: Vec<DetailSum>,
    /// Finished waits, by their ends, of at least the recording's `min_block` and not idle parks;
    /// empty unless [`Keep::singles`].
    pub waits: Arc<Vec<Wait>>,
    /// Waits that had not ended when the recording did, as if they had ended then.
    pub open: Vec<Wait>,
    /// Long polls; empty unless [`Keep::singles`].
    pub polls: Arc<Vec<Poll>>,
    /// Where the time of threads went, interval by interval; empty unless [`Keep::singles`].
    pub activity: Arc<Vec<Activity>>,
    /// What of `waits` did not fit.
    pub waits_left_out: LeftOut,
    /// What of `polls` did not fit.
    pub polls_left_out: LeftOut,
}

impl Detail {
    /// Finished and open waits of each thread, one after another.
    #[must_use]
    pub fn waits_by_thread(&self) -> BTreeMap<ThreadId, Vec<&Wait>> {
        let mut by_thread: BTreeMap<ThreadId, Vec<&Wait>> = BTreeMap::new();
        for wait in self.waits.iter().chain(&self.open) {
            by_thread.entry(wait.thread).or_default().push(wait);
        }
        for waits in by_thread.values_mut() {
            waits.sort_by_key(|wait| wait.start);
        }
        by_thread
    }

    /// The polls of each thread, one after another.
    #[must_use]
    pub fn polls_by_thread(&self) -> BTreeMap<ThreadId, Vec<&Poll>> {
        let mut by_thread: BTreeMap<ThreadId, Vec<&Poll>> = BTreeMap::new();
        for poll in self.polls.iter() {
            by_thread.entry(poll.thread).or_default().push(poll);
        }
        for polls in by_thread.values_mut() {
            polls.sort_by_key(|poll| (poll.start, poll.end));
        }
        by_thread
    }

    /// The time from the start to an instant; zero for one before.
    #[must_use]
    pub fn since_start(&self, instant: Timestamp) -> Nanos {
        instant.min(self.end) - self.start
    }
}

/// What was left out of a table because there was more than it holds: the shortest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub count: u64,
    /// None of them is longer than this.
    pub longest: Nanos,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetailThread {
    /// Its process.
    pub pid: Pid,
    /// Its name, raw.
    pub name: Arc<str>,
    /// As [`ThreadReport::role`](super::ThreadReport::role).
    pub role: Role,
    /// The runtime it works for.
    pub runtime: Option<String>,
}

/// A stack, and what its waits were.
#[derive(Clone, Debug)]
pub struct DetailStack {
    /// The process.
    pub pid: Pid,
    /// The state of the waits.
    pub state: State,
    /// What the threads were meanwhile.
    pub role: Role,
    /// Why they waited; none where a thread waits with it where it should.
    pub cause: Option<Cause>,
    /// As [`Site::function`](super::Site::function).
    pub function: Arc<str>,
    /// Its source file, if line tables have it.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// The outermost async function of the polled task.
    pub task: Option<Arc<str>>,
    /// As [`Site::wait`](super::Site::wait).
    pub wait: Arc<str>,
    /// Leaf first, kernel frames before user frames.
    pub frames: Vec<FrameRef>,
    /// As [`StackTotal::task_frame`](super::StackTotal::task_frame).
    pub task_frame: Option<usize>,
    /// Why the stack ends early, if it does.
    pub truncated: Option<Truncation>,
}

/// The waits of one thread with one stack for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetailSum {
    /// The thread.
    pub thread: ThreadId,
    /// The stack.
    pub stack: StackId,
    /// What was waited for, where it is known.
    pub object: Option<ObjectId>,
    /// The runtime's id.
    pub runtime: Option<String>,
    /// How many.
    pub waits: u64,
    /// Their blocked parts.
    pub blocked: Nanos,
}
