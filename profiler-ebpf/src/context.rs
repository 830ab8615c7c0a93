//! tokio's thread-local state: what the thread is to its runtime, without a look at its stack.
//!
//! What it costs: one read of the context, and for a worker one or two of its scheduler's; where the
//! thread waits in a poll, one of its core and one of its queue. A copy of
//! tokio in a library costs two reads more, three in a process of more than 14 modules with
//! thread-local memory or with musl, as the way to its block is read first. Copies that the thread
//! has not entered come on top, each at its own price.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use core::ffi::c_void;
use profiler_common::arch::tls::{Block, locate};
use profiler_common::context::{
    self, Context, Found, HEAVIEST, Memory, PLACES, Place, Variables, WORDS, Words, base, tls_state,
};
use profiler_common::map::Process;
use profiler_common::scheduler_core::{
    CORE_WORDS, QUEUE_HEADS, SINGLE_STEP, SINGLE_STEPS, is_clock, is_single_clock, queue, queued,
};

use crate::arch;
use crate::filter::{self, PROCESSES, Task, Watched};
use crate::slot;

/// The context being read. In a map, and not on the stack: where its fields are is known at run
/// time only, and before Linux 5.12 no program may read its stack at such places.
#[map]
static CONTEXT_WORDS: PerCpuArray<Words> = PerCpuArray::with_max_entries(slot::COUNT, 0);

/// The core being read, likewise.
#[map]
static CORE: PerCpuArray<[u64; CORE_WORDS]> = PerCpuArray::with_max_entries(slot::COUNT, 0);

const CORE_BYTES: u32 = 8 * CORE_WORDS as u32;

const _: () = assert!(CORE_BYTES.is_power_of_two(), "used as a mask");

/// What was found, for each slot: of all copies of tokio, and after those of the last one asked.
#[map]
static FOUND: PerCpuArray<Found> = PerCpuArray::with_max_entries(2 * slot::COUNT, 0);

/// The current task's own memory.
struct Own;

impl Memory for Own {
    #[inline(always)]
    fn words<const N: usize>(&self, at: u64) -> [u64; N] {
        let mut words = [0u64; N];
        // SAFETY: that many bytes go into `words`, which are 0 where the helper fails.
        unsafe {
            bpf_probe_read_user(
                words.as_mut_ptr().cast(),
                size_of_val(&words) as u32,
                at as *const c_void,
            );
        }
        words
    }

    #[inline(always)]
    fn word(&self, at: u64) -> Option<u64> {
        let mut word = 0u64;
        // SAFETY: eight bytes go into `word`.
        let failed = unsafe { bpf_probe_read_user((&raw mut word).cast(), 8, at as *const c_void) };
        if failed == 0 { Some(word) } else { None }
    }
}

/// Reads the current task's context; what was found stays where it is until the next one is read.
///
/// # Safety
/// `task` is the current task, a tracepoint's argument.
#[inline(always)]
pub(crate) unsafe fn of_current(task: Task, process: Watched) -> Option<*const Found> {
    // SAFETY: guaranteed by the caller.
    let fs = unsafe { arch::thread_pointer(task) };
    find::<{ slot::SCHEDULER }>(fs, process)
}

/// Reads the current task's context, by its FS base. `SLOT` is the caller's.
#[inline(always)]
pub(crate) fn at_fs<const SLOT: u32>(fs: u64, process: Watched) -> Found {
    match find::<SLOT>(fs, process) {
        // SAFETY: a live per-CPU value.
        Some(found) => unsafe { *found },
        None => Found::UNKNOWN,
    }
}

/// As [`at_fs`], in place: the stack of the scheduler's programs has no room for a copy.
#[inline(always)]
fn find<const SLOT: u32>(fs: u64, process: Watched) -> Option<*const Found> {
    if filter::table(process).table_version == 0 {
        // Another program is executed, and its context may be elsewhere.
        let found = FOUND.get_ptr_mut(SLOT)?;
        // SAFETY: a live per-CPU value, whose slot no program has that may interrupt this one.
        unsafe { *found = Found::UNKNOWN };
        return Some(found);
    }
    context_of(fs, process.index, SLOT);
    FOUND.get_ptr(SLOT)
}

/// What the thread is by all copies of tokio in its process: left in [`FOUND`] at `slot`.
///
/// A global function, as [`crate::unwind`] has one: the verifier looks at it once, and not once for
/// each way in which the programs come here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn context_of(fs: u64, process: u32, slot: u32) -> u32 {
    let (Some(best), Some(here)) = (
        FOUND.get_ptr_mut(slot),
        FOUND.get_ptr_mut(slot.wrapping_add(slot::COUNT)),
    ) else {
        return 0;
    };
    let mut n = 0;
    // SAFETY: live per-CPU values, whose slot no program has that may interrupt this one.
    unsafe {
        *best = Found::UNKNOWN;
        while n < PLACES as u32 {
            if context_at(fs, process, n, slot) == 0 {
                break;
            }
            if n == 0 || context::is_heavier((*here).tls_state, (*best).tls_state) {
                *best = *here;
            }
            if context::weight((*best).tls_state) == HEAVIEST {
                break;
            }
            n += 1;
        }
    }
    0
}

/// What the thread is by one copy of tokio; 0 where there is none of that number. A global function
/// as [`context_of`], for which it leaves what it finds.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn context_at(fs: u64, process: u32, n: u32, slot: u32) -> u32 {
    let (Some(process), Some(found)) = (
        PROCESSES.get_ptr(process),
        FOUND.get_ptr_mut(slot.wrapping_add(slot::COUNT)),
    ) else {
        return 0;
    };
    // SAFETY: live map values, and an index within the array.
    unsafe {
        let places = (&raw const (*process).contexts).cast::<Place>();
        let place = &*places.add(n as usize & (PLACES - 1));
        if place.base == base::NONE {
            return 0;
        }
        *found = match locate(fs, place, &Own) {
            Block::Unreadable => Found::UNKNOWN,
            Block::Untouched => Found::UNTOUCHED,
            Block::At(at) if place.base == base::VARIABLES => of_variables(fs, at, process),
            Block::At(at) => of(at, place, slot),
        };
        (*found).place = n;
    }
    1
}

#[inline(always)]
fn of(at: u64, place: &Place, slot: u32) -> Found {
    let Some(words) = CONTEXT_WORDS.get_ptr_mut(slot) else {
        return Found::UNKNOWN;
    };
    let count = u32::from(place.fields.words) & (WORDS as u32 - 1);
    // SAFETY: fewer bytes than `words` has go into it: a live per-CPU value, whose slot no program
    // has that may interrupt this one.
    unsafe {
        if bpf_probe_read_user(words.cast(), count * 8, at as *const c_void) != 0 {
            return Found::UNKNOWN;
        }
        context::found(&Context::of(&*words, &place.fields), &place.worker, &Own)
    }
}

/// The state by the separate variables of tokio 1.20.
#[inline(always)]
fn of_variables(fs: u64, entered: u64, process: *const Process) -> Found {
    // SAFETY: a live array value.
    let at = unsafe {
        let below = |bytes: u32| fs.wrapping_sub(bytes.into());
        let handle = (*process).handle_below_fs;
        Variables {
            entered,
            worker: below((*process).worker_below_fs),
            current_thread: below((*process).current_thread_below_fs),
            budget: below((*process).budget_below_fs),
            handle: if handle == 0 { 0 } else { below(handle) },
        }
    };
    context::found_in_variables(&at, &Own)
}

/// What the core says of where its thread is: its tick plus one in the lower half, and in the upper
/// one what waits for the thread (see [`queued`]), plus one. Each is 0 where it is not known. `SLOT` is
/// the caller's.
#[inline(always)]
pub(crate) fn core_state<const SLOT: u32>(found: &Found, process: Watched) -> u64 {
    if found.core == 0 {
        return 0;
    }
    let is_single = found.tls_state == tls_state::CURRENT_THREAD_POLL
        || found.tls_state == tls_state::CURRENT_THREAD_PARKED;
    let kind = u32::from(is_single) << 8 | found.place;
    core_at(found.core, process.index, kind, SLOT)
}

/// As [`core_state`]; `kind` is the place, and 256 more for a `current_thread` runtime. A global
/// function as [`context_of`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn core_at(core: u64, process: u32, kind: u32, slot: u32) -> u64 {
    let (Some(process), Some(words)) = (PROCESSES.get_ptr(process), CORE.get_ptr_mut(slot)) else {
        return 0;
    };
    // SAFETY: live map values, and indices within the arrays; no more bytes than `words` has go into
    // it, whose slot no program has that may interrupt this one.
    unsafe {
        let places = (&raw const (*process).contexts).cast::<Place>();
        let place = &*places.add(kind as usize & (PLACES - 1));
        let fields = if kind >> 8 == 0 {
            &place.worker
        } else {
            &place.single
        };
        let tick = u32::from(fields.tick) & (CORE_BYTES - 8);
        if tick == 0 || bpf_probe_read_user(words.cast(), tick + 8, core as *const c_void) != 0 {
            return 0;
        }
        let word = |at: u32| (*words)[(at / 8) as usize & (CORE_WORDS - 1)];
        let mut earlier = 0;
        if kind >> 8 != 0 {
            let mut n = 0;
            while n < SINGLE_STEPS && !is_single_clock(word(tick.wrapping_sub(earlier))) {
                earlier += SINGLE_STEP;
                n += 1;
            }
            if n == SINGLE_STEPS {
                return 0;
            }
        }
        let clock = word(tick.wrapping_sub(earlier));
        if !is_clock(clock) {
            return 0;
        }
        let queue = word(u32::from(fields.queue).wrapping_sub(earlier));
        let waiting = match fields.queue_kind {
            queue::LENGTH => Some(queued(false, queue as u32)),
            queue::WITH_SLOT_IN_CORE => in_queue::<2>(queue).map(|[heads, tail]| {
                queued(
                    word(8 * u32::from(fields.slot)) != 0,
                    (tail as u32).wrapping_sub(heads as u32),
                )
            }),
            queue::WITH_SLOT_IN_QUEUE => in_queue::<3>(queue).map(|[heads, slot, tail]| {
                queued(slot != 0, (tail as u32).wrapping_sub(heads as u32))
            }),
            _ => None,
        };
        let waiting = waiting.map_or(0, |waiting| u64::from(waiting) + 1);
        waiting << 32 | u64::from((clock as u32).wrapping_add(1))
    }
}

/// A queue from its heads on.
#[inline(always)]
fn in_queue<const N: usize>(queue: u64) -> Option<[u64; N]> {
    let mut words = [0u64; N];
    // SAFETY: that many bytes go into `words`.
    let failed = unsafe {
        bpf_probe_read_user(
            words.as_mut_ptr().cast(),
            size_of_val(&words) as u32,
            queue.wrapping_add(QUEUE_HEADS) as *const c_void,
        )
    };
    (failed == 0).then_some(words)
}
