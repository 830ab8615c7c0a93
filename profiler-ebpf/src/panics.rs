//! Panics: at the entry of the function of the standard library that begins them all.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::programs::ProbeContext;
use profiler_common::counter::Counter;
use profiler_common::record::{Header, KIND_PANIC, PanicRecord, stack_kind};

use crate::counters::count;
use crate::{arch, emit, filter, interval, oncpu_stack, slot};

/// The current thread begins to panic.
#[inline(always)]
pub(crate) fn panicked(ctx: &ProbeContext) {
    let id = bpf_get_current_pid_tgid();
    let tgid = (id >> 32) as u32;
    let Some(process) = filter::watched(tgid) else {
        return;
    };
    count(Counter::Panics);
    // SAFETY: a uprobe's context is the registers.
    let regs = unsafe { arch::parts(ctx.as_ptr().cast()) };
    let cut = interval::current();
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let taken =
        oncpu_stack::take::<{ slot::PANIC }>(ctx.as_ptr(), process, &regs, stack_kind::PANIC, now);
    let record = PanicRecord {
        header: Header {
            kind: KIND_PANIC,
            len: size_of::<PanicRecord>() as u32,
            tgid,
            tid: id as u32,
        },
        time: now,
        stack: taken.map_or(0, |taken| taken.number),
        task_id: taken.map_or(0, |taken| taken.task_id),
        cut,
        reserved: 0,
    };
    if !emit::send(&record) {
        count(Counter::RingFullPanic);
    }
}
