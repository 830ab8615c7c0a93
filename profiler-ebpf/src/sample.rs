//! Threads on a CPU, at the ticks of a clock of each CPU.
//!
//! The clock belongs to the CPU and not to the target's threads: one of theirs would have to be
//! started and stopped at each of their switches, which costs more than to ask at 99 ticks a
//! second whether the thread that runs is one of them.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::programs::PerfEventContext;
use profiler_common::counter::Counter;
use profiler_common::map::PHASE_RUNNING;
use profiler_common::record::of;
use profiler_common::row::walk;

use crate::filter::{self, Task, Watched};
use crate::maps::{MESSAGE, count, slot};
use crate::{context, emit, stack, threads, unwind};

/// Sends the stack of the current thread, if it is one of a watched process.
#[inline(always)]
pub(crate) fn tick(ctx: &PerfEventContext) {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(process) = filter::watched(tgid) else {
        return;
    };
    count(Counter::Samples);
    // SAFETY: the current task, whose memory is loaded, and its saved registers: those of its
    // entry into the kernel, be that a system call or this interrupt. `message` and what a walk
    // returns are live map values.
    unsafe {
        let current = bpf_get_current_task_btf();
        let task: Task = current.cast_const().cast();
        let regs = bpf_task_pt_regs(current) as *const pt_regs;
        let context = context::of_current(task, process);
        let Some(state) = unwind::walk_user::<{ slot::SAMPLE }>(
            (*regs).rip,
            (*regs).rsp,
            (*regs).rbp,
            process,
        ) else {
            return;
        };
        let (frames, outcome) = ((*state).frames, (*state).outcome);
        if outcome != walk::COMPLETE {
            count(Counter::SamplesTruncated);
        }
        let Some(message) = MESSAGE.get_ptr_mut(slot::SAMPLE) else {
            return;
        };
        let now = bpf_ktime_get_ns();
        let (on_cpu, waits) = books(filter::tid(task), process, now);
        let sample = &raw mut (*message).sample;
        (*sample).on_cpu = on_cpu;
        (*sample).waits = waits;
        (*sample).task_id = context.task_id;
        (*sample).core = context.core;
        (*sample).tick = context::tick(context.core, process);
        emit::prepare(message, task, now);
        let syscall = (*regs).orig_rax as i64;
        let kind = of::SAMPLE << 16 | outcome << 8 | context.place;
        let record = &raw mut (*message).record;
        (*record).stack = stack::number((*state).hash, syscall, tgid, kind);
        (*record).syscall = syscall;
        (*record).args = [0; 6];
        (*record).walk = outcome;
        (*record).place = context.place;
        (*record).of = of::SAMPLE;
        (*record).generation = (*process.process).generation;
        if !emit::sample(ctx.as_ptr(), message, frames) {
            count(Counter::RingFullSample);
        }
    }
}

/// CPU time and waits of a thread that runs now.
#[inline(always)]
fn books(tid: u32, process: Watched, now: u64) -> (u64, u64) {
    let Some(thread) = threads::find(tid) else {
        // It has not switched since the recording began.
        // SAFETY: a live array value.
        return (now.saturating_sub(unsafe { (*process.process).start }), 0);
    };
    // SAFETY: a live array value; the thread's own switches wait for this interrupt's end.
    unsafe {
        let stretch = if (*thread).phase == PHASE_RUNNING {
            now.saturating_sub((*thread).since)
        } else {
            0
        };
        (
            (*thread).books.running.wrapping_add(stretch),
            (*thread).books.waits,
        )
    }
}
