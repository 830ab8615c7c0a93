//! holdup's programs inside the kernel.
#![no_std]
#![no_main]

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_loop};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::warn;
use core::ffi::c_void;
use profiler_common::counter::Counter;

/// The process to watch; set before loading.
#[unsafe(no_mangle)]
static TARGET_TGID: u32 = 0;

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(32, 0);

#[btf_tracepoint(function = "sched_switch")]
fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the loader writes the global before the program is loaded, never afterwards.
    let target = unsafe { core::ptr::read_volatile(&raw const TARGET_TGID) };
    if (bpf_get_current_pid_tgid() >> 32) as u32 != target {
        return 0;
    }
    let mut steps = 0u64;
    // SAFETY: the callback has the signature that the helper asks for, and `steps` outlives it.
    unsafe {
        bpf_loop(8, step as *mut c_void, (&raw mut steps).cast(), 0);
    }
    if bump(Counter::SwitchOutBlocked, steps).is_none() {
        warn!(&ctx, "no counter {}", steps);
    }
    0
}

unsafe extern "C" fn step(_index: u32, steps: *mut c_void) -> i64 {
    // SAFETY: the helper hands on the pointer that `sched_switch` gave.
    unsafe { *steps.cast::<u64>() += 1 };
    0
}

#[inline(never)]
fn bump(counter: Counter, by: u64) -> Option<()> {
    let slot = COUNTERS.get_ptr_mut(counter as u32)?;
    // SAFETY: a per-CPU slot; a program on the same CPU does not preempt this one midway.
    unsafe { *slot += by };
    Some(())
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
