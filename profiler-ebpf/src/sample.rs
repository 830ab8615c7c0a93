//! Threads on a CPU, at the ticks of a clock of each CPU.
//!
//! The clock belongs to the CPU and not to the target's threads: one of theirs would have to be
//! started and stopped at each of their switches, which costs more than to ask at 99 ticks a
//! second whether the thread that runs is one of them.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::programs::PerfEventContext;
use profiler_common::counter::Counter;
use profiler_common::record::{SampleRecord, stack_kind};
use profiler_common::row::walk;

use crate::counters::count;
use crate::emit::MESSAGE;
use crate::filter::{self, Watched};
use crate::unwind::Reading;
use crate::{arch, context, emit, interval, slot, stack, threads, unwind};

/// Sends the stack of the current thread, if it is one of a watched process.
#[inline(always)]
pub(crate) fn tick(ctx: &PerfEventContext) {
    let tid = bpf_get_current_pid_tgid();
    let tgid = (tid >> 32) as u32;
    let Some(process) = filter::watched(tgid) else {
        return;
    };
    count(Counter::Samples);
    let regs = arch::of_current(arch::COPY_OF_SAMPLE);
    let fs = arch::thread_pointer_of_current();
    let context = context::at_fs::<{ slot::SAMPLE }>(fs, process);
    let table = filter::table(process);
    let walked =
        unwind::walk_user::<{ slot::SAMPLE }>(regs.ip, regs.sp, regs.bp, table, Reading::ANEW);
    let (Some(state), Some(message)) = (walked, MESSAGE.get_ptr_mut(slot::SAMPLE)) else {
        return;
    };
    // SAFETY: live map values.
    unsafe {
        let (frames, outcome) = ((*state).frames, (*state).outcome);
        if outcome != walk::COMPLETE {
            count(Counter::SamplesTruncated);
        }
        let cut = interval::current();
        let now = bpf_ktime_get_ns();
        let sample = &raw mut (*message).sample;
        note_times(sample, tid as u32, process, now);
        (*sample).task_id = context.task_id;
        (*sample).core = context.core;
        (*sample).tick = context::core_state::<{ slot::SAMPLE }>(&context, process) as u32;
        (*sample).cut = cut;
        (*sample).reserved = 0;
        emit::prepare(message, now);
        let kind = stack_kind::SAMPLE << 16 | outcome << 8 | context.tls_state;
        let kind = stack::epochs_hash(process, table) ^ u64::from(kind);
        let record = &raw mut (*message).record;
        (*record).stack = stack::number((*state).hash, regs.syscall, tgid, kind);
        (*record).syscall = regs.syscall;
        (*record).args = [0; 6];
        (*record).walk = outcome;
        (*record).tls_state = context.tls_state;
        (*record).runtime = 0;
        (*record).stack_kind = stack_kind::SAMPLE;
        (*record).raw = 0;
        (*record).table_version = table.table_version;
        if !emit::sample(ctx.as_ptr(), message, frames) {
            count(Counter::RingFullSample);
        }
    }
}

/// Notes where the time of a thread went that runs now.
///
/// # Safety
/// `sample` is a live per-CPU value.
#[inline(always)]
unsafe fn note_times(sample: *mut SampleRecord, tid: u32, process: Watched, now: u64) {
    // SAFETY: guaranteed by the caller; live array values, and the thread's own switches wait for
    // this interrupt's end.
    unsafe {
        let Some(thread) = threads::find(tid) else {
            // It has not switched since the recording began, if it has begun.
            let start = (*process.process).start;
            (*sample).running = if start == 0 {
                0
            } else {
                now.saturating_sub(start)
            };
            (*sample).runnable = 0;
            (*sample).blocked = 0;
            (*sample).waits = 0;
            return;
        };
        (*sample).running = threads::on_cpu(thread, now);
        (*sample).runnable = (*thread).times.runnable;
        (*sample).blocked = (*thread).times.blocked;
        (*sample).waits = (*thread).times.waits as u32;
    }
}
