//! The threads that were there before us: their state when the task iterator passes by.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use core::ffi::c_void;
use profiler_common::counter::Counter;
use profiler_common::record::{Header, KIND_SNAPSHOT, SnapshotRecord};

use crate::account::TASK_DEAD;
use crate::counters::count;
use crate::filter::{self, Task};
use crate::{account, arch, config, emit, lives};

/// The kernel's `struct bpf_iter__task`.
#[repr(C)]
struct IterContext {
    meta: *const c_void,
    task: Task,
}

/// Sends the registers of one task, if it is a thread of a watched process.
#[inline(always)]
pub(crate) fn task(ctx: *mut c_void) {
    // SAFETY: the kernel calls an iterator with this context; the verifier checks each access.
    unsafe {
        let task = (*ctx.cast::<IterContext>()).task;
        if task.is_null() {
            return;
        }
        let tgid = filter::tgid(task);
        let Some(process) = filter::watched(tgid) else {
            return;
        };
        let tid = filter::tid(task);
        let task_state = *task.add(config::off_task_state() as usize).cast::<u32>();
        if tid == tgid && task_state & TASK_DEAD != 0 {
            // It has ended before its last switch could be seen.
            lives::set_leader_ended(process, true);
        }
        let regs = arch::of_task(task, arch::COPY_OF_ITERATOR);
        let switches = task.add(config::off_task_nvcsw() as usize).cast::<u64>();
        let record = SnapshotRecord {
            header: Header {
                kind: KIND_SNAPSHOT,
                len: size_of::<SnapshotRecord>() as u32,
                tgid,
                tid,
            },
            time: bpf_ktime_get_ns(),
            ip: regs.ip,
            sp: regs.sp,
            bp: regs.bp,
            fs: arch::thread_pointer(task),
            syscall: regs.syscall,
            args: regs.args,
            task_state,
            // An `int`, and a byte from Linux 7.3 on.
            on_cpu: (*task.add(config::off_task_on_cpu() as usize)).into(),
            stack_kind: account::kind_of_wait(task, task_state),
            reserved: 0,
            switches: switches.read().wrapping_add(switches.add(1).read()),
            comm: emit::comm(task),
        };
        if !emit::send(&record) {
            count(Counter::RingFullOther);
        }
    }
}
