//! The counters: what the programs did, and what they lost.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use profiler_common::counter::{COUNTERS as COUNT, Counter};
use profiler_common::row::walk;

/// All of them in one value, which userspace reads with one call.
#[map]
static COUNTERS: PerCpuArray<[u64; COUNT]> = PerCpuArray::with_max_entries(1, 0);

/// One of this CPU's; a number beyond the last is the last.
#[inline(always)]
fn counter(number: u32) -> Option<*mut u64> {
    let all = COUNTERS.get_ptr_mut(0)?.cast::<u64>();
    let number = if (number as usize) < COUNT {
        number as usize
    } else {
        COUNT - 1
    };
    // SAFETY: within the live per-CPU value.
    Some(unsafe { all.add(number) })
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    add(counter, 1);
}

/// Counts a walk that ended early, by how.
#[inline(always)]
pub(crate) fn count_truncated(outcome: u32) {
    const FIRST: u32 = Counter::TooDeep as u32 - walk::TOO_DEEP;
    const { assert!((FIRST as usize) + 15 < COUNT) };
    if let Some(value) = counter(FIRST + (outcome & 15)) {
        // SAFETY: as in `add`.
        unsafe { *value += 1 };
    }
}

/// Adds one to a counter of this CPU; whether that is the first: what is logged once.
#[inline(always)]
pub(crate) fn count_first(which: Counter) -> bool {
    let Some(value) = counter(which as u32) else {
        return false;
    };
    // SAFETY: as in `add`.
    unsafe {
        *value += 1;
        *value == 1
    }
}

/// Adds to a counter of this CPU.
#[inline(always)]
pub(crate) fn add(which: Counter, n: u64) {
    if let Some(value) = counter(which as u32) {
        // SAFETY: a live per-CPU value; these programs do not migrate while they run.
        unsafe { *value += n };
    }
}
