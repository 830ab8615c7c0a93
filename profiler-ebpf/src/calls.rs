//! Time inside one system call without leaving the CPU: from its entry to its return.
//!
//! The tracepoints are those of every system call of the whole system, so that others pay for the
//! look into the filter. For the target's threads a call costs two looks at the clock; only of
//! one that took long the stack is walked, at its return, when the registers are still those of
//! the entry.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::call;
use profiler_common::counter::Counter;
use profiler_common::record::{CallRecord, Header, KIND_CALL, stack_kind};
use profiler_common::row::walk;

use crate::counters::count;
use crate::{arch, config, emit, filter, interval, objects, oncpu_stack, slot, threads};

/// The current thread enters a system call.
#[inline(always)]
pub(crate) fn enter(ctx: &BtfTracePointContext) {
    let id = bpf_get_current_pid_tgid();
    if filter::watched((id >> 32) as u32).is_none() || call::only_waits(ctx.arg::<u64>(1) as u32) {
        return;
    }
    // One that has none has not switched since the recording began: then this is not the place to
    // make it an entry, since a switch may come in between.
    let Some(thread) = threads::find(id as u32) else {
        return;
    };
    // SAFETY: a live array value, of the current thread.
    unsafe {
        let now = bpf_ktime_get_ns();
        (*thread).call_on_cpu = threads::on_cpu(thread, now);
        (*thread).call_start = now;
    }
}

/// It returns from one.
#[inline(always)]
pub(crate) fn exit(ctx: &BtfTracePointContext) {
    let id = bpf_get_current_pid_tgid();
    let Some(process) = filter::watched((id >> 32) as u32) else {
        return;
    };
    let Some(thread) = threads::find(id as u32) else {
        return;
    };
    // SAFETY: a live array value, of the current thread; the registers are the tracepoint's first
    // argument.
    unsafe {
        let start = (*thread).call_start;
        if start == 0 {
            return;
        }
        (*thread).call_start = 0;
        let cut = interval::current();
        let now = bpf_ktime_get_ns();
        let on_cpu = threads::on_cpu(thread, now).saturating_sub((*thread).call_on_cpu);
        (*thread).times.in_calls += on_cpu;
        if on_cpu < config::min_block_ns() {
            return;
        }
        let regs = arch::parts(ctx.arg::<*const pt_regs>(0));
        if regs.syscall < 0 || call::only_waits(regs.syscall as u32) {
            return;
        }
        count(Counter::LongCalls);
        let Some(stack) = oncpu_stack::take::<{ slot::CALL }>(
            ctx.as_ptr(),
            process,
            &regs,
            stack_kind::CALL,
            now,
        ) else {
            return;
        };
        if stack.outcome != walk::COMPLETE {
            count(Counter::LongCallsTruncated);
        }
        let record = CallRecord {
            header: Header {
                kind: KIND_CALL,
                len: size_of::<CallRecord>() as u32,
                tgid: (*thread).tgid,
                tid: (*thread).tid,
            },
            start,
            end: now,
            on_cpu,
            stack: stack.number,
            task_id: stack.task_id,
            object: objects::of_call(&regs, thread, now),
            cut,
            reserved: 0,
        };
        if !emit::send(&record) {
            count(Counter::RingFullCall);
        }
    }
}
