//! The thread table: an array in which a thread lies near the place that its id names.
//!
//! An array, because a lookup costs 4 ns where a hash map's costs 42, and every switch of a
//! watched thread makes one.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use core::ptr::write_volatile;
use core::sync::atomic::{Ordering, compiler_fence};
use profiler_common::map::{PHASE_DEAD, PHASE_NEW, PHASE_RUNNING, THREAD_WAYS, THREADS, Thread};
use profiler_common::park::SETS;

/// `BPF_F_MMAPABLE`: userspace reads it without calls, and its values begin with a cache line.
const MMAPABLE: u32 = 0x400;

#[map]
static THREAD_TABLE: Array<Thread> = Array::with_max_entries(THREADS as u32, MMAPABLE);

/// Place in [`THREAD_TABLE`] to the thread that has it; for making and giving up entries only.
#[map]
pub(crate) static CLAIMS: HashMap<u32, u32> = HashMap::with_max_entries((THREADS + SETS) as u32, 0);

/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;
/// `BPF_EXIST`.
const EXIST: u64 = 2;

#[inline(always)]
fn place(tid: u32, way: u32) -> u32 {
    tid.wrapping_add(way) & (THREADS as u32 - 1)
}

/// The thread's entry, if it has one.
#[inline(always)]
pub(crate) fn find(tid: u32) -> Option<*mut Thread> {
    for way in 0..THREAD_WAYS {
        let thread = THREAD_TABLE.get_ptr_mut(place(tid, way))?;
        // SAFETY: a live array value.
        if unsafe { (*thread).tid } == tid {
            return Some(thread);
        }
    }
    None
}

/// Makes an entry for a thread that has none; `None` where its places are taken.
///
/// Another CPU may race for the same entry: of two insertions into [`CLAIMS`] one fails. (An
/// atomic compare and exchange would need Linux 5.12.)
#[inline(always)]
pub(crate) fn claim(tid: u32, tgid: u32) -> Option<*mut Thread> {
    for way in 0..THREAD_WAYS {
        let place = place(tid, way);
        let thread = THREAD_TABLE.get_ptr_mut(place)?;
        // SAFETY: a live array value. A claimed entry is skipped without a look at the claims.
        let owner = unsafe { (*thread).tid };
        if owner != 0 && owner != tid {
            continue;
        }
        if CLAIMS.insert(&place, &tid, NO_EXIST).is_err() {
            // SAFETY: the value is copied at once.
            let first = unsafe { CLAIMS.get(&place) }.copied();
            if first != Some(tid) {
                continue;
            }
        }
        // SAFETY: a live array value of this thread's. The rest of a free entry is zero, see
        // `release`.
        unsafe {
            (*thread).tgid = tgid;
            (*thread).tid = tid;
        }
        return Some(thread);
    }
    None
}

/// CPU time so far of a thread that runs now, in nanoseconds.
///
/// # Safety
/// `thread` is a live entry.
#[inline(always)]
pub(crate) unsafe fn on_cpu(thread: *const Thread, now: u64) -> u64 {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let stretch = if (*thread).phase == PHASE_RUNNING {
            now.saturating_sub((*thread).since)
        } else {
            0
        };
        (*thread).times.running.wrapping_add(stretch)
    }
}

/// Gives an entry up, and leaves it as [`claim`] wants to find it.
///
/// # Safety
/// `thread` is a live entry, and its thread makes no more switches.
#[inline(always)]
pub(crate) unsafe fn release(thread: *mut Thread) {
    // SAFETY: guaranteed by the caller. The id goes first: userspace may be reading the entry, and
    // looks at the end whether it is still this thread's. The claim goes last: from then on the
    // entry may be claimed.
    unsafe {
        let tid = (*thread).tid;
        write_volatile(&raw mut (*thread).tid, 0);
        compiler_fence(Ordering::SeqCst);
        (*thread).cut = 0;
        (*thread).busy = 0;
        (*thread).at_cut.phase = PHASE_NEW;
        (*thread).phase = PHASE_NEW;
        (*thread).since = 0;
        (*thread).wakeup = 0;
        (*thread).stack = 0;
        (*thread).parks = 0;
        (*thread).park = 0;
        (*thread).remember = 0;
        (*thread).times.first_seen = 0;
        (*thread).times.running = 0;
        (*thread).times.runnable = 0;
        (*thread).times.blocked = 0;
        (*thread).times.waits = 0;
        (*thread).times.in_calls = 0;
        (*thread).call_start = 0;
        for way in 0..THREAD_WAYS {
            let place = place(tid, way);
            if CLAIMS.get(&place).copied() == Some(tid) {
                let _ = CLAIMS.remove(&place);
                return;
            }
        }
    }
}

/// Leaves the entry of a thread that has ended to userspace, which reads it and gives it up. Until
/// then its place stays claimed, by no thread: another one of the same id gets an entry of its own.
///
/// # Safety
/// As [`release`].
#[inline(always)]
pub(crate) unsafe fn leave(thread: *mut Thread) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let tid = (*thread).tid;
        (*thread).ended_tid = tid;
        (*thread).busy = 0;
        (*thread).phase = PHASE_DEAD;
        compiler_fence(Ordering::SeqCst);
        write_volatile(&raw mut (*thread).tid, 0);
        for way in 0..THREAD_WAYS {
            let place = place(tid, way);
            if CLAIMS.get(&place).copied() == Some(tid) {
                let _ = CLAIMS.insert(&place, &0, EXIST);
                return;
            }
        }
    }
}
