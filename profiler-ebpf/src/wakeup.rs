//! Who ends a wait, and when.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::map::PHASE_BLOCKED;

use crate::filter::{self, Task};
use crate::threads;

/// Notes the time and the waker, where the woken thread is a watched one that waits.
#[inline(always)]
pub(crate) fn sched_waking(ctx: &BtfTracePointContext) {
    let task: Task = ctx.arg(0);
    // SAFETY: the tracepoint's first argument.
    let (tgid, tid) = unsafe { (filter::tgid(task), filter::tid(task)) };
    if filter::watched(tgid).is_none() {
        return;
    }
    let Some(thread) = threads::find(tid) else {
        return;
    };
    // SAFETY: a live array value; wakeups of one task are serialized by the kernel.
    unsafe {
        if (*thread).phase != PHASE_BLOCKED || (*thread).wakeup != 0 {
            return;
        }
        let waker = bpf_get_current_pid_tgid();
        (*thread).waker_tid = waker as u32;
        (*thread).waker_tgid = (waker >> 32) as u32;
        (*thread).waker_comm = bpf_get_current_comm().unwrap_or_default();
        core::ptr::write_volatile(&raw mut (*thread).wakeup, bpf_ktime_get_ns());
    }
}
