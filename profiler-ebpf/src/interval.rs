//! Intervals: into which one an event falls, and what a thread was when the last one ended.
//!
//! Userspace cuts a recording into intervals by raising one number, [`CUT`], and then waits until
//! every program that may have read the old one has ended. Whatever a program adds to a sum it adds
//! to those of the number that it has read, once, at its beginning; so the sums of the old interval
//! do not change any more.

use aya_ebpf::btf_maps::{self, ArrayOfMaps};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::Array;
use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{Ordering, compiler_fence};
use profiler_common::map::Thread;

/// `BPF_F_MMAPABLE`: userspace writes it without a call.
const MMAPABLE: u32 = 0x400;

/// The number of the interval under way, one value.
#[map]
static CUT: Array<u64> = Array::with_max_entries(1, MMAPABLE);

/// No program reads it. Userspace replaces its one entry, for which the kernel waits until all
/// programs that run have ended.
#[btf_map]
static GRACE: ArrayOfMaps<btf_maps::Array<u64, 1, { MMAPABLE as usize }>, 1> = ArrayOfMaps::new();

/// The interval of an event. To be read once, and before the time of the event: then no event of an
/// interval is earlier than the interval's begin.
#[inline(always)]
pub(crate) fn current() -> u32 {
    match CUT.get_ptr(0) {
        // SAFETY: a live array value; volatile, as it is to be read here and not later.
        Some(cut) => unsafe { read_volatile(cut) as u32 },
        None => 0,
    }
}

/// Notes that an event of the thread falls into the interval `cut`: to be called before anything in
/// the entry changes. From then on [`Thread::cut`] is the interval of the event.
///
/// # Safety
/// `thread` is a live entry whose events come one after another.
#[inline(always)]
pub(crate) unsafe fn enter(thread: *mut Thread, cut: u32) {
    // SAFETY: guaranteed by the caller. A program that was interrupted by a later event of the
    // thread must not go back.
    unsafe {
        if cut.wrapping_sub((*thread).cut) as i32 > 0 {
            keep_state(thread, cut);
        }
    }
}

/// The first event of a thread after a cut: keeps its state as it was at the cut.
///
/// Userspace reads the entry meanwhile. It takes the copy where it finds the new number, and else
/// the live state, provided that it still finds the old number afterwards. So the copy must be
/// there before the number, and the number before any change of the live state. The CPU keeps
/// stores in their order (x86-64, "total store order"), the fences make the compiler do so.
///
/// # Safety
/// As [`enter`].
#[inline(never)]
unsafe fn keep_state(thread: *mut Thread, cut: u32) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let kept = &raw mut (*thread).at_cut;
        (*kept).phase = (*thread).phase;
        (*kept).since = (*thread).since;
        (*kept).wakeup = (*thread).wakeup;
        (*kept).stack = (*thread).stack;
        (*kept).object = (*thread).object;
        (*kept).task_id = (*thread).task_id;
        (*kept).times = (*thread).times;
        compiler_fence(Ordering::SeqCst);
        write_volatile(&raw mut (*thread).cut, cut);
        compiler_fence(Ordering::SeqCst);
    }
}
