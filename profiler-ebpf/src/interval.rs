//! Intervals: into which one an event falls, and what a thread was when the last one ended.
//!
//! Userspace cuts a recording into intervals by raising one number, [`CUT`], and then waits until
//! no program is at work any more that may have read the old one. Whatever a program adds to a sum
//! it adds to those of the number that it has read; so the sums of the old interval do not change
//! any more.
//!
//! Every sum is one thread's, and every event is one thread's. So a program marks the thread's
//! entry as busy, and reads the number only then. Of an entry that is not busy, some time after the
//! number was raised, userspace knows that the next event will read the new one. "Some time" is
//! what a CPU may take to make a store visible to others: it may read the number before that. It is
//! well below a microsecond, and userspace waits for a millisecond. (A barrier here would cost each
//! event more than all the rest of this; and `synchronize_rcu`, which also tells when programs have
//! ended, takes seconds on a machine whose CPUs are all busy.)

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{Ordering, compiler_fence};
use profiler_common::map::{Thread, copy_state};

use crate::flags;

/// The number of the interval under way, one value; userspace writes it without a call.
#[map]
static CUT: Array<u64> = Array::with_max_entries(1, flags::MMAPABLE);

/// The interval under way. To be read before the time of an event: then no event of an interval is
/// earlier than the interval's begin.
#[inline(always)]
pub(crate) fn current() -> u32 {
    match CUT.get_ptr(0) {
        // SAFETY: a live array value; volatile, as it is to be read here and not later.
        Some(cut) => unsafe { read_volatile(cut) as u32 },
        None => 0,
    }
}

/// The time of an event, to be read after [`current`].
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Begins an event of a thread; returns its interval.
///
/// # Safety
/// `thread` is a live entry, and what this program changes of it, or of its sums, is between here
/// and [`end`].
#[inline(always)]
pub(crate) unsafe fn begin(thread: *mut Thread) -> u32 {
    // SAFETY: guaranteed by the caller. Whoever interrupts this program in between leaves the
    // number as it was.
    unsafe {
        let busy = &raw mut (*thread).busy;
        write_volatile(busy, read_volatile(busy).wrapping_add(1));
    }
    compiler_fence(Ordering::SeqCst);
    current()
}

/// Ends it.
///
/// # Safety
/// As [`begin`], which went before, and the entry was not given up meanwhile.
#[inline(always)]
pub(crate) unsafe fn end(thread: *mut Thread) {
    compiler_fence(Ordering::SeqCst);
    // SAFETY: guaranteed by the caller.
    unsafe {
        let busy = &raw mut (*thread).busy;
        write_volatile(busy, read_volatile(busy).wrapping_sub(1));
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
        copy_state(thread, &raw mut (*thread).at_cut);
        compiler_fence(Ordering::SeqCst);
        write_volatile(&raw mut (*thread).cut, cut);
        compiler_fence(Ordering::SeqCst);
    }
}
