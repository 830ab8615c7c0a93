//! Sums over waits: one entry a thread, stack and object.

use profiler_common::counter::Counter;
use profiler_common::map::{Aggregate, AggregateKey, HISTOGRAM_BUCKETS, OBJECT_AGGREGATES};
use profiler_common::park::Sums;

use crate::maps::{AGGREGATES, OBJECT_SUMS, add as add_count, count};

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

/// Whether there is room for the sums of one more object.
#[inline(always)]
fn may_have_object() -> bool {
    let Some(made) = OBJECT_SUMS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a live array value; what two CPUs count at once may get lost.
    unsafe {
        if *made >= OBJECT_AGGREGATES {
            return false;
        }
        *made += 1;
    }
    true
}

/// Apart, as what it keeps on the stack would add to its callers'.
#[inline(never)]
fn entry(tgid: u32, tid: u32, stack: u64, object: u64) -> Option<*mut Aggregate> {
    let key = AggregateKey {
        stack,
        object,
        tid,
        tgid,
    };
    if let Some(sums) = AGGREGATES.get_ptr_mut(&key) {
        return Some(sums);
    }
    if object != 0 && !may_have_object() {
        return None;
    }
    let _ = AGGREGATES.insert(&key, &ZERO, NO_EXIST);
    AGGREGATES.get_ptr_mut(&key)
}

/// The sums of a thread's waits with one stack for one object (0 is none that is known); counts
/// where there is no room for new ones.
#[inline(always)]
pub(crate) fn of(tgid: u32, tid: u32, stack: u64, object: u64) -> Option<*mut Aggregate> {
    let mut sums = entry(tgid, tid, stack, object);
    if sums.is_none() && object != 0 {
        count(Counter::ObjectUnsummed);
        // Rather without its object than not at all.
        sums = entry(tgid, tid, stack, 0);
    }
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
pub(crate) unsafe fn merge(tgid: u32, tid: u32, stack: u64, more: *const Sums) {
    let Some(sums) = of(tgid, tid, stack, 0) else {
        // SAFETY: by the caller's word. One was counted.
        add_count(
            Counter::AggregateFull,
            unsafe { (*more).waits }.saturating_sub(1),
        );
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
