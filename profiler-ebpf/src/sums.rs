//! Sums over waits: one entry a thread and stack.

use profiler_common::counter::Counter;
use profiler_common::map::{Aggregate, AggregateKey, HISTOGRAM_BUCKETS};
use profiler_common::park::Sums;

use crate::maps::{AGGREGATES, count};

/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;

/// What sums begin with: here, since the stack has 512 bytes for all functions together.
static ZERO: Aggregate = Aggregate {
    waits: 0,
    blocked: 0,
    runqueue: 0,
    max: 0,
    histogram: [0; HISTOGRAM_BUCKETS],
};

/// The bucket of a duration: the logarithm of its nanoseconds.
#[inline(always)]
fn bucket(nanos: u64) -> usize {
    let mut value = nanos;
    let mut log = 0usize;
    // The target has no instruction that counts zeros; this is its usual unrolled substitute.
    if value >> 32 != 0 {
        value >>= 32;
        log += 32;
    }
    if value >> 16 != 0 {
        value >>= 16;
        log += 16;
    }
    if value >> 8 != 0 {
        value >>= 8;
        log += 8;
    }
    if value >> 4 != 0 {
        value >>= 4;
        log += 4;
    }
    if value >> 2 != 0 {
        value >>= 2;
        log += 2;
    }
    if value >> 1 != 0 {
        log += 1;
    }
    if log < HISTOGRAM_BUCKETS {
        log
    } else {
        HISTOGRAM_BUCKETS - 1
    }
}

/// The sums of a thread's waits with one stack; counts where there is no room for new ones.
#[inline(always)]
pub(crate) fn of(tid: u32, stack: u64) -> Option<*mut Aggregate> {
    let key = AggregateKey {
        stack,
        tid,
        reserved: 0,
    };
    if let Some(sums) = AGGREGATES.get_ptr_mut(&key) {
        return Some(sums);
    }
    let _ = AGGREGATES.insert(&key, &ZERO, NO_EXIST);
    let sums = AGGREGATES.get_ptr_mut(&key);
    if sums.is_none() {
        count(Counter::AggregateFull);
    }
    sums
}

/// Adds one wait.
///
/// # Safety
/// `sums` is a live map value that only this thread's switch-ins write, one at a time; userspace
/// takes it out only after the thread's end.
#[inline(always)]
pub(crate) unsafe fn add(sums: *mut Aggregate, blocked: u64, runqueue: u64) {
    // SAFETY: by the caller's word.
    unsafe {
        (*sums).waits += 1;
        (*sums).blocked += blocked;
        (*sums).runqueue += runqueue;
        if blocked > (*sums).max {
            (*sums).max = blocked;
        }
        let bucket = bucket(blocked);
        if bucket < HISTOGRAM_BUCKETS {
            let slot = (&raw mut (*sums).histogram).cast::<u32>().add(bucket);
            *slot = (*slot).saturating_add(1);
        }
    }
}

/// Adds the sums of a park to those of a thread and stack.
///
/// # Safety
/// As [`add`], for both.
#[inline(always)]
pub(crate) unsafe fn merge(tid: u32, stack: u64, more: *const Sums) {
    let Some(sums) = of(tid, stack) else {
        return;
    };
    // SAFETY: by the caller's word.
    unsafe {
        (*sums).waits += (*more).waits;
        (*sums).blocked += (*more).blocked;
        (*sums).runqueue += (*more).runqueue;
        if (*more).max > (*sums).max {
            (*sums).max = (*more).max;
        }
    }
}
