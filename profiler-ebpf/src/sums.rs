//! Sums over waits: one entry a thread, stack and object.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use core::ptr::null_mut;
use profiler_common::counter::Counter;
use profiler_common::map::{
    AGGREGATES as MAX_AGGREGATES, Aggregate, AggregateKey, HISTOGRAM_BUCKETS, IntervalKey,
    OBJECT_AGGREGATES,
};
use profiler_common::park::Sums;

use crate::counters::{add as add_count, count};
use crate::flags;

#[map]
static AGGREGATES: HashMap<IntervalKey, Aggregate> =
    HashMap::with_max_entries(MAX_AGGREGATES as u32, 0);

/// How many entries of it were made for waits for a known object, about: in the interval under way
/// and in the one before, each in the place that the lowest bit of its number names. Userspace sets
/// it to 0 without a call where it has taken the sums out.
#[map]
static OBJECT_SUMS: Array<u64> = Array::with_max_entries(2, flags::MMAPABLE);

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

/// Whether there is room for the sums of one more object in the interval `cut`, beside those of the
/// interval before, which userspace may not have taken out yet.
#[inline(always)]
fn may_have_object(cut: u32) -> bool {
    let (Some(made), Some(before)) = (
        OBJECT_SUMS.get_ptr_mut(cut & 1),
        OBJECT_SUMS.get_ptr(!cut & 1),
    ) else {
        return false;
    };
    // SAFETY: live array values; what two CPUs count at once may get lost.
    unsafe {
        if *made + *before >= OBJECT_AGGREGATES {
            return false;
        }
        *made += 1;
    }
    true
}

/// The entry, or null where there is no room. Apart, as what it keeps on the stack would add to its
/// callers'.
#[inline(never)]
fn entry(tgid: u32, tid: u32, stack: u64, object: u64, cut: u32) -> *mut Aggregate {
    let key = IntervalKey {
        waits: AggregateKey {
            stack,
            object,
            tid,
            tgid,
        },
        cut,
        reserved: 0,
    };
    if let Some(sums) = AGGREGATES.get_ptr_mut(&key) {
        return sums;
    }
    if object != 0 && !may_have_object(cut) {
        return null_mut();
    }
    let _ = AGGREGATES.insert(&key, &ZERO, flags::NO_EXIST);
    AGGREGATES.get_ptr_mut(&key).unwrap_or(null_mut())
}

/// The sums of an interval over a thread's waits with one stack for one object (0 is none that is
/// known); counts where there is no room for new ones.
#[inline(always)]
pub(crate) fn of(waits: AggregateKey, cut: u32) -> Option<*mut Aggregate> {
    let AggregateKey {
        stack,
        object,
        tid,
        tgid,
    } = waits;
    let mut sums = entry(tgid, tid, stack, object, cut);
    if sums.is_null() && object != 0 {
        count(Counter::ObjectUnsummed);
        // Rather without its object than not at all.
        sums = entry(tgid, tid, stack, 0, cut);
    }
    if sums.is_null() {
        count(Counter::AggregateFull);
        return None;
    }
    Some(sums)
}

/// Adds one wait.
///
/// # Safety
/// `sums` is a live map value that only this thread's switch-ins write, one at a time; userspace
/// takes it out only when no program adds to that interval any more.
#[inline(always)]
pub(crate) unsafe fn add(sums: *mut Aggregate, blocked: u64, runqueue: u64) {
    // SAFETY: guaranteed by the caller.
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

/// Adds the sums of a park to those of the same interval, thread and stack.
///
/// # Safety
/// As [`add`], for both.
#[inline(always)]
pub(crate) unsafe fn merge(more: *const Sums) {
    // SAFETY: guaranteed by the caller.
    let (waits, cut) = unsafe {
        let waits = AggregateKey {
            stack: (*more).stack,
            object: 0,
            tid: (*more).tid,
            tgid: (*more).tgid,
        };
        (waits, (*more).cut)
    };
    let Some(sums) = of(waits, cut) else {
        // SAFETY: guaranteed by the caller. One was counted.
        add_count(
            Counter::AggregateFull,
            unsafe { (*more).waits }.saturating_sub(1),
        );
        return;
    };
    // SAFETY: guaranteed by the caller.
    unsafe {
        (*sums).waits += (*more).waits;
        (*sums).blocked += (*more).blocked;
        (*sums).runqueue += (*more).runqueue;
        if (*more).max > (*sums).max {
            (*sums).max = (*more).max;
        }
    }
}
