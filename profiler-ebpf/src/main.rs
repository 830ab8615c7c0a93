//! holdup's kernel programs: one entry point each, the work is in the modules.
#![no_std]
#![no_main]

mod account;
mod arch;
mod calls;
mod children;
mod config;
mod context;
mod counters;
mod drivers;
mod emit;
mod family;
mod filter;
mod flags;
mod interval;
mod kernel_memory;
mod lives;
mod object_message;
mod objects;
mod oncpu_stack;
mod panics;
mod parks;
mod paths;
mod raw;
mod sample;
mod slot;
mod snapshot;
mod sockets;
mod stack;
mod sums;
mod threads;
mod unwind;
mod wakeup;

use aya_ebpf::macros::{btf_tracepoint, perf_event, uprobe};
use aya_ebpf::programs::{BtfTracePointContext, PerfEventContext, ProbeContext};
use core::ffi::c_void;

/// Every context switch: `(preempt, prev, next, prev_state)`, the last one since Linux 5.18.
#[btf_tracepoint(function = "sched_switch")]
#[inline(always)]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    account::sched_switch(&ctx);
    0
}

/// Every wakeup, in the waker's context: `(task)`.
#[btf_tracepoint(function = "sched_waking")]
#[inline(always)]
pub fn sched_waking(ctx: BtfTracePointContext) -> i32 {
    wakeup::sched_waking(&ctx);
    0
}

/// Every new thread and process: `(parent, child)`.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    lives::sched_process_fork(&ctx);
    0
}

/// Every exec: `(task, old_pid, bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    lives::sched_process_exec(&ctx);
    0
}

/// Every page fault in user code: `(address, regs, error_code)`.
#[btf_tracepoint(function = "page_fault_user")]
pub fn page_fault_user(ctx: BtfTracePointContext) -> i32 {
    account::page_fault_user(&ctx);
    0
}

/// Every system call's entry: `(regs, number)`.
#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    calls::enter(&ctx);
    0
}

/// Every system call's return: `(regs, result)`.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    calls::exit(&ctx);
    0
}

/// The start of a panic in a process that is probed.
#[uprobe]
pub fn panicked(ctx: ProbeContext) -> u32 {
    panics::panicked(&ctx);
    0
}

/// Every tick of a CPU's sampling clock.
#[perf_event]
pub fn cpu_sample(ctx: PerfEventContext) -> u32 {
    sample::tick(&ctx);
    0
}

/// Every task of the system, when userspace reads the iterator.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn snapshot(ctx: *mut c_void) -> i32 {
    snapshot::task(ctx);
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
