//! Long system calls and panics, summed up by thread and stack until their interval ends.

use crate::decode::{CallSeen, PanicSeen, StackNumber};
use crate::recording::{ObjectId, ThreadId};
use crate::units::{Nanos, Timestamp};
use std::collections::HashMap;

/// Sums of calls of one interval, and sums of panics; what goes beyond them is counted.
const MAX_SUMS: usize = 1 << 15;

/// The long system calls of one thread with one stack for one object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) calls: u64,
    pub(super) on_cpu: Nanos,
    pub(super) wall: Nanos,
    pub(super) max: Nanos,
}

/// By thread, stack and object.
type CallKey = (ThreadId, Option<StackNumber>, Option<ObjectId>);

/// The long system calls of an interval.
#[derive(Debug, Default)]
pub(super) struct CallCollector {
    sums: HashMap<CallKey, Calls>,
    left_out: u64,
}

impl CallCollector {
    /// Adds one of a thread.
    pub(super) fn add(&mut self, thread: ThreadId, call: &CallSeen, object: Option<ObjectId>) {
        let key = (thread, call.stack, object);
        if self.sums.len() >= MAX_SUMS && !self.sums.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let sum = self.sums.entry(key).or_default();
        sum.calls = sum.calls.saturating_add(1);
        sum.on_cpu += call.on_cpu;
        sum.wall += call.end - call.start;
        sum.max = sum.max.max(call.on_cpu);
    }

    /// Calls that found no room, of the recording so far.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes the sums out: an interval ends.
    pub(super) fn take(&mut self) -> HashMap<CallKey, Calls> {
        std::mem::take(&mut self.sums)
    }
}

/// The panics of one thread with one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panics {
    pub(super) panics: u64,
    /// Id of the task that panicked last.
    pub(super) task_id: Option<u64>,
    /// When that was.
    pub(super) last: Timestamp,
}

/// By thread and stack.
type PanicKey = (ThreadId, Option<StackNumber>);

/// The panics of an interval.
#[derive(Debug, Default)]
pub(super) struct PanicCollector {
    sums: HashMap<PanicKey, Panics>,
    left_out: u64,
}

impl PanicCollector {
    /// Adds one of a thread.
    pub(super) fn add(&mut self, thread: ThreadId, panic: &PanicSeen) {
        let key = (thread, panic.stack);
        if self.sums.len() >= MAX_SUMS && !self.sums.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let sum = self.sums.entry(key).or_insert(Panics {
            panics: 0,
            task_id: panic.task_id,
            last: panic.time,
        });
        sum.panics = sum.panics.saturating_add(1);
        if panic.time >= sum.last {
            (sum.last, sum.task_id) = (panic.time, panic.task_id);
        }
    }

    /// Panics that found no room, of the recording so far.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes the sums out: an interval ends.
    pub(super) fn take(&mut self) -> HashMap<PanicKey, Panics> {
        std::mem::take(&mut self.sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::ThreadKey;
    use crate::recording::ProcessId;
    use crate::units::{Pid, Tid};

    const KEY: ThreadKey = ThreadKey {
        pid: Pid(1),
        tid: Tid(7),
    };

    fn id(tid: u32) -> ThreadId {
        ThreadId {
            process: ProcessId(0),
            tid: Tid(tid),
        }
    }

    fn call(stack: u64, wall: u64, on_cpu: u64) -> CallSeen {
        CallSeen {
            thread: KEY,
            start: Timestamp(1_000),
            end: Timestamp(1_000 + wall),
            on_cpu: Nanos(on_cpu),
            stack: StackNumber::new(stack),
            task_id: None,
            object: None,
            cut: 0,
        }
    }

    #[test]
    fn calls_are_summed_by_thread_stack_and_object() {
        let mut calls = CallCollector::default();
        let file = Some(ObjectId(3));
        for (thread, call, object) in [
            (id(7), call(9, 500, 400), file),
            (id(7), call(9, 900, 300), file),
            (id(7), call(9, 100, 100), None),
            (id(8), call(9, 50, 50), file),
        ] {
            calls.add(thread, &call, object);
        }
        let sums = calls.take();
        assert_eq!(sums.len(), 3);
        let sum = sums[&(id(7), StackNumber::new(9), file)];
        assert_eq!(
            (sum.calls, sum.on_cpu, sum.wall, sum.max),
            (2, Nanos(700), Nanos(1_400), Nanos(400))
        );
        assert!(calls.take().is_empty());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (mut calls, mut panics) = (CallCollector::default(), PanicCollector::default());
        let panic = |stack| PanicSeen {
            thread: KEY,
            time: Timestamp(stack),
            stack: StackNumber::new(stack),
            task_id: Some(5),
            cut: 0,
        };
        for stack in 0..MAX_SUMS as u64 + 2 {
            calls.add(id(7), &call(stack + 9, 1, 1), None);
            panics.add(id(7), &panic(stack + 9));
        }
        calls.add(id(7), &call(9, 1, 1), None);
        assert_eq!((calls.sums.len(), calls.left_out()), (MAX_SUMS, 2));
        assert_eq!((panics.sums.len(), panics.left_out()), (MAX_SUMS, 2));
        assert_eq!(calls.take()[&(id(7), StackNumber::new(9), None)].calls, 2);
    }
}
