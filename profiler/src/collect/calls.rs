//! Long system calls and panics, summed up by thread and stack as they come.

use super::sums::Thread;
use crate::recording::ObjectId;
use crate::units::{Nanos, Pid, Tid};
use profiler_common::record::{CallRecord, PanicRecord};
use std::collections::HashMap;

/// Sums of calls that are kept, and sums of panics; what goes beyond them is counted.
const MAX_SUMS: usize = 1 << 15;

/// The long system calls of one thread with one stack for one object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CallSum {
    pub(super) calls: u64,
    pub(super) on_cpu: Nanos,
    pub(super) wall: Nanos,
    pub(super) max: Nanos,
}

/// All that were seen.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// By thread, the kernel side's number of the stack, and object.
    pub(super) sums: HashMap<(Thread, u64, Option<ObjectId>), CallSum>,
    /// Calls that found no room.
    pub(super) left_out: u64,
}

impl Calls {
    /// Adds one.
    pub(super) fn add(&mut self, record: &CallRecord, object: Option<ObjectId>) {
        let thread = (Pid(record.header.tgid), Tid(record.header.tid));
        let key = (thread, record.stack, object);
        if self.sums.len() >= MAX_SUMS && !self.sums.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let sum = self.sums.entry(key).or_default();
        sum.calls = sum.calls.saturating_add(1);
        sum.on_cpu += Nanos(record.on_cpu);
        sum.wall += Nanos(record.end.saturating_sub(record.start));
        sum.max = sum.max.max(Nanos(record.on_cpu));
    }
}

/// The panics of one thread with one stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PanicSum {
    pub(super) panics: u64,
    /// Id of the task that panicked last, or 0.
    pub(super) task_id: u64,
    /// When that was.
    pub(super) last: u64,
}

/// All that were seen.
#[derive(Debug, Default)]
pub(super) struct Panics {
    /// By thread and the kernel side's number of the stack.
    pub(super) sums: HashMap<(Thread, u64), PanicSum>,
    /// Panics that found no room.
    pub(super) left_out: u64,
}

impl Panics {
    /// Adds one.
    pub(super) fn add(&mut self, record: &PanicRecord) {
        let thread = (Pid(record.header.tgid), Tid(record.header.tid));
        let key = (thread, record.stack);
        if self.sums.len() >= MAX_SUMS && !self.sums.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let sum = self.sums.entry(key).or_default();
        sum.panics = sum.panics.saturating_add(1);
        if record.time >= sum.last {
            (sum.last, sum.task_id) = (record.time, record.task_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::record::{Header, KIND_CALL, KIND_PANIC};

    fn header(kind: u32, tid: u32) -> Header {
        Header {
            kind,
            len: 0,
            tgid: 1,
            tid,
        }
    }

    fn call(tid: u32, stack: u64, wall: u64, on_cpu: u64) -> CallRecord {
        CallRecord {
            header: header(KIND_CALL, tid),
            start: 1_000,
            end: 1_000 + wall,
            on_cpu,
            stack,
            task_id: 0,
            object: 0,
            cut: 0,
            reserved: 0,
        }
    }

    #[test]
    fn calls_are_summed_by_thread_stack_and_object() {
        let mut calls = Calls::default();
        let file = Some(ObjectId(3));
        for (record, object) in [
            (call(7, 9, 500, 400), file),
            (call(7, 9, 900, 300), file),
            (call(7, 9, 100, 100), None),
            (call(8, 9, 50, 50), file),
        ] {
            calls.add(&record, object);
        }
        assert_eq!(calls.sums.len(), 3);
        let sum = calls.sums[&((Pid(1), Tid(7)), 9, file)];
        assert_eq!(
            (sum.calls, sum.on_cpu, sum.wall, sum.max),
            (2, Nanos(700), Nanos(1_400), Nanos(400))
        );
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (mut calls, mut panics) = (Calls::default(), Panics::default());
        let panic = |stack| PanicRecord {
            header: header(KIND_PANIC, 7),
            time: stack,
            stack,
            task_id: 5,
            cut: 0,
            reserved: 0,
        };
        for stack in 0..MAX_SUMS as u64 + 2 {
            calls.add(&call(7, stack, 1, 1), None);
            panics.add(&panic(stack));
        }
        calls.add(&call(7, 0, 1, 1), None);
        assert_eq!((calls.sums.len(), calls.left_out), (MAX_SUMS, 2));
        assert_eq!((panics.sums.len(), panics.left_out), (MAX_SUMS, 2));
        assert_eq!(calls.sums[&((Pid(1), Tid(7)), 0, None)].calls, 2);
    }
}
