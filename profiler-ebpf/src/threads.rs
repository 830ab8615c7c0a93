//! The thread table: an array in which a thread lies near the place that its id names.
//!
//! An array, because a lookup costs 4 ns where a hash map's costs 42, and every switch of a
//! watched thread makes one.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use aya_log_ebpf::warn;
use profiler_common::counter::Counter;
use profiler_common::map::{PHASE_RUNNING, THREAD_WAYS, THREADS, Thread, thread_place};
use profiler_common::park::SETS;
use profiler_common::thread_entry;

use crate::counters::count_first;
use crate::filter::Watched;
use crate::flags;

/// Userspace reads it without calls, and its values begin with a cache line.
#[map]
static THREAD_TABLE: Array<Thread> = Array::with_max_entries(THREADS as u32, flags::MMAPABLE);

/// Place in [`THREAD_TABLE`] to the thread that has it; for making and giving up entries only.
#[map]
pub(crate) static CLAIMS: HashMap<u32, u32> = HashMap::with_max_entries((THREADS + SETS) as u32, 0);

/// The thread's entry, if it has one.
#[inline(always)]
pub(crate) fn find(tid: u32) -> Option<*mut Thread> {
    for way in 0..THREAD_WAYS {
        let thread = THREAD_TABLE.get_ptr_mut(thread_place(tid, way))?;
        // SAFETY: a live array value.
        if unsafe { (*thread).tid } == tid {
            return Some(thread);
        }
    }
    None
}

/// No place of the thread table.
const NO_PLACE: u32 = u32::MAX;

/// The entry of a thread, which is made where there is none.
#[inline(always)]
pub(crate) fn find_or_claim(tid: u32, process: Watched) -> Option<*mut Thread> {
    if let Some(thread) = find(tid) {
        return Some(thread);
    }
    // SAFETY: a live array value.
    let tgid = unsafe { (*process.process).tgid };
    match claim(tid, tgid) {
        NO_PLACE => None,
        place => THREAD_TABLE.get_ptr_mut(place),
    }
}

/// Makes an entry for a thread that has none, and returns its place; [`NO_PLACE`] where its places
/// are taken, which is counted.
///
/// Another CPU may race for the same entry: of two insertions into [`CLAIMS`] one fails. (An
/// atomic compare and exchange would need Linux 5.12.)
///
/// A global function, as [`crate::unwind`] has one: the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn claim(tid: u32, tgid: u32) -> u32 {
    for way in 0..THREAD_WAYS {
        let place = thread_place(tid, way);
        let Some(thread) = THREAD_TABLE.get_ptr_mut(place) else {
            return NO_PLACE;
        };
        // SAFETY: a live array value. A claimed entry is skipped without a look at the claims.
        let owner = unsafe { (*thread).tid };
        if owner != 0 && owner != tid {
            continue;
        }
        if CLAIMS.insert(&place, &tid, flags::NO_EXIST).is_err() {
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
        return place;
    }
    if count_first(Counter::ThreadTableFull) {
        warn!(
            (),
            "the thread table is full: thread {} is not recorded", tid
        );
    }
    NO_PLACE
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

/// Gives a thread's claim to its place up.
#[inline(always)]
fn give_claim_up(tid: u32) {
    for way in 0..THREAD_WAYS {
        let place = thread_place(tid, way);
        // SAFETY: the value is copied at once.
        if unsafe { CLAIMS.get(&place) }.copied() == Some(tid) {
            let _ = CLAIMS.remove(&place);
            return;
        }
    }
}

/// Keeps a thread's place claimed, by no thread.
#[inline(always)]
fn claim_for_nobody(tid: u32) {
    for way in 0..THREAD_WAYS {
        let place = thread_place(tid, way);
        // SAFETY: the value is copied at once.
        if unsafe { CLAIMS.get(&place) }.copied() == Some(tid) {
            let _ = CLAIMS.insert(&place, &0, flags::EXIST);
            return;
        }
    }
}

/// Gives an entry up, and leaves it as [`claim`] wants to find it.
///
/// # Safety
/// `thread` is a live entry, and its thread makes no more switches.
#[inline(always)]
pub(crate) unsafe fn release(thread: *mut Thread) {
    // SAFETY: guaranteed by the caller.
    unsafe { thread_entry::release(thread, give_claim_up) }
}

/// Leaves the entry of a thread that has ended to userspace, see [`thread_entry::leave`].
///
/// # Safety
/// As [`release`].
#[inline(always)]
pub(crate) unsafe fn leave(thread: *mut Thread) {
    // SAFETY: guaranteed by the caller.
    unsafe { thread_entry::leave(thread, claim_for_nobody) }
}
