//! Who ends a wait, and when.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_get_prandom_u32, bpf_probe_read_kernel,
};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;
use profiler_common::map::{
    PHASE_BLOCKED, POLICY_RECORD_SHORT, POLICY_SUM_ONLY, SHORT_WAITS_PER_SAMPLE,
};
use profiler_common::record::WAKER_INTERRUPT;

use crate::filter::{self, Task};
use crate::{arch, config, stack, threads};

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
        let now = bpf_ktime_get_ns();
        // Nobody asks who ended a park.
        if (*thread).park != 0 {
            core::ptr::write_volatile(&raw mut (*thread).wakeup, now);
            return;
        }
        (*thread).waker_stack = 0;
        // Of the short ones a sample: they are many, and who ends them is to be known.
        let long = now.saturating_sub((*thread).since) >= config::min_block_ns();
        let told = (*thread).policy != POLICY_SUM_ONLY && (long || is_sampled());
        if told && !long {
            (*thread).policy = POLICY_RECORD_SHORT;
        }
        if in_interrupt(ctx) {
            (*thread).waker_tid = WAKER_INTERRUPT;
            (*thread).waker_tgid = 0;
        } else {
            let waker = bpf_get_current_pid_tgid();
            (*thread).waker_tid = waker as u32;
            (*thread).waker_tgid = (waker >> 32) as u32;
            (*thread).waker_comm = bpf_get_current_comm().unwrap_or_default();
            // Only of wakeups whose waits get a record.
            if told && let Some(process) = filter::watched((waker >> 32) as u32) {
                (*thread).waker_stack = stack::take_waker(ctx.as_ptr(), process, now);
            }
        }
        core::ptr::write_volatile(&raw mut (*thread).wakeup, now);
    }
}

/// Whether this short wait is the one in so many that is recorded.
#[inline(always)]
fn is_sampled() -> bool {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_get_prandom_u32() & (SHORT_WAITS_PER_SAMPLE - 1) == 0 }
}

/// Whether an interrupt runs rather than the current task.
///
/// One that interrupted the kernel runs on a stack of the CPU's own (a raw tracepoint's context
/// lies on the stack in use, `__bpf_trace_run` in the kernel's `kernel/trace/bpf_trace.c`). One
/// that interrupted user code stays on the task's stack, but is no system call: its entry leaves
/// -1 where the number would be (`arch/x86/entry/entry_64.S`).
#[inline(always)]
fn in_interrupt(ctx: &BtfTracePointContext) -> bool {
    let pointer = ctx.as_ptr();
    let mut here = 0u64;
    // SAFETY: eight bytes of our own stack into eight others: through a helper, because the
    // verifier lets no program compute with a pointer's value.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut here).cast(),
            8,
            (&raw const pointer).cast::<c_void>(),
        );
    }
    let offset = config::off_task_stack() as usize;
    let elsewhere = |stack: u64| here.wrapping_sub(stack) >= config::kernel_stack().into();
    if config::has_current_task_btf() != 0 {
        // SAFETY: the current task, a field at an offset from BTF, and its saved registers.
        return unsafe {
            let task: Task = bpf_get_current_task_btf().cast_const().cast();
            elsewhere(*task.add(offset).cast::<u64>())
                || !arch::of_task(task, arch::COPY_OF_TRACEPOINT).in_call()
        };
    }
    let stack = arch::of_current_task(config::off_task_stack());
    elsewhere(stack) || !arch::on_stack(stack, arch::COPY_OF_TRACEPOINT).in_call()
}
