//! Child processes of the watched ones: what they run, for waits on them.

use profiler_common::counter::Counter;
use profiler_common::record::{ChildRecord, Header, KIND_CHILD};

use crate::counters::count;
use crate::filter::{self, Task};
use crate::kernel_memory::{read_u32, read_u64};
use crate::{config, emit};

/// `sizeof(struct upid)`.
const UPID: u64 = 16;

/// Tells of an exec of a watched process's child.
///
/// `task` is the tracepoint's argument.
#[inline(always)]
pub(crate) fn exec(task: Task, now: u64) {
    // SAFETY: the tracepoint's argument; its parent lives as long as it is the parent.
    unsafe {
        let parent = *task.add(config::task_real_parent() as usize).cast::<u64>();
        let parent_tgid = read_u32(parent + u64::from(config::off_task_tgid()));
        let tgid = filter::tgid(task);
        if parent_tgid == tgid || filter::watched(parent_tgid).is_none() {
            return;
        }
        let ids = *task.add(config::task_thread_pid() as usize).cast::<u64>();
        // Its own namespace is the deepest one.
        let level = u64::from(read_u32(ids + config::pid_level()) & 31);
        let record = ChildRecord {
            header: Header {
                kind: KIND_CHILD,
                len: size_of::<ChildRecord>() as u32,
                tgid: parent_tgid,
                tid: tgid,
            },
            time: now,
            pid: read_u64(ids + config::pid_numbers() + level * UPID) as u32,
            reserved: 0,
            comm: emit::comm(task),
        };
        if !emit::send(&record) {
            count(Counter::RingFullOther);
        }
    }
}
