//! Parks recognised without an unwind. Why that is sound is said in [`profiler_common::park`].

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};
use profiler_common::counter::Counter;
use profiler_common::map::{POLICY_SUM_ONLY, Thread};
use profiler_common::park::{
    ANY_TLS_STATE, CHECK_EVERY, Key, Park, ParkSet, SET_PROBES, SETS, SLOTS, SPAN, Sums, WAYS,
    set_claim,
};

use crate::arch::Registers;
use crate::counters::count;
use crate::filter::Table;
use crate::threads::CLAIMS;
use crate::unwind::{CHUNK, Chunk};
use crate::{flags, sums};

/// The remembered parks, by [`profiler_common::map::Thread::parks`]. Userspace reads the sums without
/// calls, and sets begin with a cache line.
#[map]
static PARKS: Array<ParkSet> = Array::with_max_entries(SETS as u32, flags::MMAPABLE);

/// How often userspace has changed its mind about a stack, one value.
#[map]
static PARK_CACHE_EPOCH: Array<u32> = Array::with_max_entries(1, 0);

#[inline(always)]
fn epoch() -> u32 {
    match PARK_CACHE_EPOCH.get(0) {
        Some(epoch) => *epoch,
        None => 0,
    }
}

/// The set of a thread's parks.
#[inline(always)]
unsafe fn set(thread: *const Thread) -> Option<*mut ParkSet> {
    // SAFETY: the caller's entry is live.
    let number = unsafe { (*thread).parks };
    if number == 0 {
        return None;
    }
    PARKS.get_ptr_mut(number - 1)
}

#[inline(always)]
unsafe fn park(set: *mut ParkSet, way: usize) -> *mut Park {
    // SAFETY: the mask keeps the index within the set.
    unsafe { (&raw mut (*set).parks).cast::<Park>().add(way & (WAYS - 1)) }
}

const _: () = assert!(WAYS.is_power_of_two(), "used as a mask");

/// A remembered park, and its number in the set plus one.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) park: *mut Park,
    number: u32,
}

/// Whether a wait with this key is `park` but for its tls_state. What was read of the stack for that is
/// then in `chunk`: if it is another wait its walk begins with it.
///
/// # Safety
/// `park` is in the current thread's set, `chunk` this CPU's.
#[inline(always)]
unsafe fn is_it(park: *const Park, chunk: *mut Chunk, key: &Key, bp: u64) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe {
        // The likeliest difference first.
        if (*park).key.ip != key.ip
            || (*park).key.sp != key.sp
            || (*park).key.syscall != key.syscall
            || (*park).key.epochs != key.epochs
        {
            return false;
        }
        let span = (*park).trace.span & SPAN as u32;
        // Across a page's end as well: all of it could be read when it was remembered, and
        // where it cannot now, the walk decides.
        let failed = bpf_probe_read_user(
            (&raw mut (*chunk).words).cast(),
            span,
            key.sp as *const c_void,
        );
        if failed != 0 {
            return false;
        }
        (*chunk).base = key.sp;
        (*chunk).len = span.into();
        (*park).trace.is_same(bp, &(*chunk).words)
    }
}

/// The number of the park in a set that a wait is but for its tls_state, or 0. `set` is the set's number
/// and, in its upper half, the system call's.
///
/// A global function, as [`crate::unwind`] has one: the verifier looks at it once, and not once
/// for each way in which the programs come here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn park_number(set: u64, ip: u64, sp: u64, bp: u64, epochs: u64) -> u32 {
    let (Some(parks), Some(chunk)) = (PARKS.get_ptr_mut(set as u32), CHUNK.get_ptr_mut(0)) else {
        return 0;
    };
    let key = Key {
        ip,
        sp,
        syscall: set >> 32,
        epochs,
    };
    // SAFETY: live map values; the set is the current thread's alone, the other this CPU's.
    unsafe {
        let first = (*parks).last as usize;
        // The one that was looked at already comes last.
        let mut way = 1;
        while way <= WAYS {
            let park = park(parks, first + way);
            if is_it(park, chunk, &key, bp) {
                let number = (*park).number;
                (*parks).last = number.wrapping_sub(1);
                return number;
            }
            way += 1;
        }
    }
    0
}

/// What the current thread waits in, as the keys of parks have it.
#[inline(always)]
fn key(table: Table, regs: &Registers) -> Key {
    Key {
        ip: regs.ip,
        sp: regs.sp,
        syscall: u64::from(regs.syscall as u32),
        epochs: Key::epochs(table.table_version, epoch()),
    }
}

/// Looks the current wait up in the thread's park cache. Returns true on a confirmed hit; otherwise
/// [`pending_hit`] is an entry that matches except for its TLS state, or one that is due for
/// verification.
///
/// # Safety
/// `thread` is the current thread's live entry.
#[inline(always)]
pub(crate) unsafe fn lookup(thread: *mut Thread, table: Table, regs: &Registers) -> bool {
    // SAFETY: guaranteed by the caller; live map values, and the set is this thread's alone.
    unsafe {
        let Some(chunk) = CHUNK.get_ptr_mut(0) else {
            return false;
        };
        (*chunk).len = 0;
        write_volatile(&raw mut (*thread).candidate, 0);
        if regs.ip == 0 {
            return false;
        }
        let Some(parks) = set(thread) else {
            return false;
        };
        let key = key(table, regs);
        // Mostly it is the same one again: a call less.
        let likely = park(parks, (*parks).last as usize);
        let number = if is_it(likely, chunk, &key, regs.bp) {
            let found = Found {
                park: likely,
                number: (*likely).number,
            };
            if (*likely).tls_state == ANY_TLS_STATE && hit(thread, found) {
                return true;
            }
            found.number
        } else {
            let set = u64::from((*thread).parks - 1) | key.syscall << 32;
            park_number(set, key.ip, key.sp, regs.bp, key.epochs)
        };
        write_volatile(&raw mut (*thread).candidate, number as u8);
    }
    false
}

/// What [`lookup`] found.
///
/// # Safety
/// As [`lookup`].
#[inline(always)]
pub(crate) unsafe fn pending_hit(thread: *const Thread) -> Option<Found> {
    // SAFETY: as in `lookup`.
    unsafe {
        let number = u32::from(read_volatile(&raw const (*thread).candidate));
        if number == 0 {
            return None;
        }
        Some(Found {
            park: park(set(thread)?, number as usize - 1),
            number,
        })
    }
}

/// Takes the wait that begins for `found`, unless it is to be walked to check that.
///
/// # Safety
/// As [`lookup`].
#[inline(always)]
pub(crate) unsafe fn hit(thread: *mut Thread, found: Found) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let hits = (*found.park).hits.wrapping_add(1);
        (*found.park).hits = hits;
        if u64::from(hits) & (CHECK_EVERY - 1) == 0 {
            return false;
        }
        count(Counter::ParksKnown);
        account_to(thread, found);
        true
    }
}

/// The walk that checks a recognition has come out with `hash`, of [`frames`] frames: whether that
/// was right.
///
/// # Safety
/// As [`lookup`].
#[inline(always)]
pub(crate) unsafe fn verify(thread: *mut Thread, found: Found, hash: u64) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if (*found.park).hash == hash {
            account_to(thread, found);
            return true;
        }
        write_volatile(&raw mut (*thread).candidate, 0);
        count(Counter::ParksMistaken);
        (*found.park).key.ip = 0;
        false
    }
}

/// How many frames prove what a park is.
///
/// # Safety
/// As [`lookup`].
#[inline(always)]
pub(crate) unsafe fn frames(found: Found) -> u32 {
    // SAFETY: guaranteed by the caller.
    unsafe { (*found.park).frames }
}

#[inline(always)]
unsafe fn account_to(thread: *mut Thread, found: Found) {
    // SAFETY: the caller's live entry and map value.
    unsafe {
        (*thread).stack = (*found.park).stack;
        (*thread).policy = POLICY_SUM_ONLY;
        write_volatile(&raw mut (*thread).park, found.number as u8);
    }
}

/// The sums to which the thread's wait belongs, where it is a remembered park: those of the interval
/// in which it ends.
///
/// # Safety
/// `thread` is a live entry whose wait ends.
#[inline(always)]
pub(crate) unsafe fn sums(thread: *const Thread) -> Option<*mut Sums> {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let number = (*thread).park;
        if number == 0 {
            return None;
        }
        let set = set(thread)?;
        let park = park(set, usize::from(number) - 1);
        let cut = (*thread).cut;
        let sums = sums_of(park, cut);
        if (*sums).cut != cut {
            (*sums).begin(cut, (*thread).tid, (*thread).tgid, (*park).stack);
        }
        Some(sums)
    }
}

/// Where a park has its sums of an interval, or of the last one but one.
#[inline(always)]
unsafe fn sums_of(park: *mut Park, cut: u32) -> *mut Sums {
    // SAFETY: the mask keeps the index within the array of the caller's live park.
    unsafe { (&raw mut (*park).sums).cast::<Sums>().add(cut as usize & 1) }
}

/// What is remembered of a walk, beside its notes.
#[derive(Clone, Copy)]
pub(crate) struct Noted {
    /// Number of its stack.
    pub(crate) stack: u64,
    /// Hash of the frames that were noted.
    pub(crate) hash: u64,
    /// [`Park::tls_state`].
    pub(crate) tls_state: u32,
}

/// Remembers the walk that this CPU has just made, with its notes on: the thread's wait is the
/// first of its sums.
///
/// # Safety
/// `thread` is the current thread's live entry.
#[inline(always)]
pub(crate) unsafe fn insert(thread: *mut Thread, table: Table, regs: &Registers, noted: Noted) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let frames = (*thread).remember;
        (*thread).remember = 0;
        let Some(chunk) = CHUNK.get_ptr_mut(0) else {
            return;
        };
        (*chunk).key = key(table, regs);
        if (*thread).parks == 0 {
            (*thread).parks = claim((*thread).tgid, (*thread).tid);
        }
        let set = (*thread).parks;
        if set == 0 {
            count(Counter::ParksUnremembered);
            return;
        }
        let set = u64::from(set - 1) | u64::from((*thread).tid) << 32;
        let proof = u64::from(frames) | u64::from(noted.tls_state) << 32;
        let number = park_store(set, noted.stack, noted.hash, proof, (*thread).cut);
        if number != 0 {
            (*thread).policy = POLICY_SUM_ONLY;
            write_volatile(&raw mut (*thread).park, number as u8);
        }
    }
}

/// Puts what this CPU's [`CHUNK`] has noted into a set; returns the park's number, or 0 where
/// there is too much to note. `set` has the thread in its upper half, `proof` is the number of frames
/// with the tls_state in its upper half. A global function as [`park_number`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn park_store(set: u64, stack: u64, hash: u64, proof: u64, cut: u32) -> u32 {
    let tid = (set >> 32) as u32;
    let (Some(set), Some(chunk)) = (PARKS.get_ptr_mut(set as u32), CHUNK.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: live map values; the set is the current thread's alone, the other this CPU's.
    unsafe {
        let trace = &raw mut (*chunk).trace;
        if !(*trace).is_whole() {
            return 0;
        }
        (*trace).end();
        let way = (*set).next & (WAYS as u32 - 1);
        (*set).next = (*set).next.wrapping_add(1);
        let park = park(set, way as usize);
        forget(park, cut);
        (*sums_of(park, cut)).begin(cut, tid, (*set).tgid, stack);
        (*park).key = (*chunk).key;
        (*park).stack = stack;
        (*park).hash = hash;
        (*park).tls_state = (proof >> 32) as u32;
        (*park).frames = proof as u32;
        (*park).number = way + 1;
        (*park).hits = 0;
        (*park).trace.sp = (*trace).sp;
        (*park).trace.bp = (*trace).bp;
        (*park).trace.count = (*trace).count;
        (*park).trace.flags = (*trace).flags;
        (*park).trace.span = (*trace).span;
        let mut n = 0;
        while n < SLOTS {
            (*park).trace.offsets[n] = (*trace).offsets[n];
            (*park).trace.words[n] = (*trace).words[n];
            n += 1;
        }
        way + 1
    }
}

/// Empties a park of a set. A global function as [`park_number`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn park_forget(set: u32, way: u32, cut: u32) -> u32 {
    if let Some(set) = PARKS.get_ptr_mut(set) {
        // SAFETY: a live map value whose thread makes no more switches.
        unsafe { forget(park(set, way as usize), cut) };
    }
    0
}

/// Gives a thread's set up: its sums go to the aggregate.
///
/// # Safety
/// `thread` is a live entry, and its thread makes no more switches.
#[inline(always)]
pub(crate) unsafe fn give_up(thread: *mut Thread) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let Some(set) = set(thread) else {
            return;
        };
        let number = (*thread).parks - 1;
        (*thread).parks = 0;
        (*thread).park = 0;
        let mut way = 0;
        while way < WAYS as u32 {
            park_forget(number, way, (*thread).cut);
            way += 1;
        }
        (*set).next = 0;
        (*set).last = 0;
        write_volatile(&raw mut (*set).tid, 0);
        // Last: from then on the set may be claimed.
        let _ = CLAIMS.remove(&set_claim(number));
    }
}

/// Leaves a park empty; its sums of the interval under way go to the aggregate. Those of the one
/// before are userspace's to take.
#[inline(always)]
unsafe fn forget(park: *mut Park, cut: u32) {
    // SAFETY: a live map value, which is this thread's alone.
    unsafe {
        let sums = sums_of(park, cut);
        if (*sums).cut == cut && (*sums).waits != 0 {
            sums::merge(sums);
            (*sums).waits = 0;
        }
        (*park).key.ip = 0;
        (*park).stack = 0;
    }
}

/// Takes a free set for a thread; its number plus one, or 0 where all of its places are taken. Of
/// two CPUs that race for a set one fails, as in [`crate::threads::claim`].
#[inline(always)]
fn claim(tgid: u32, tid: u32) -> u32 {
    for probe in 0..SET_PROBES {
        let number = tid.wrapping_add(probe) & (SETS as u32 - 1);
        let Some(set) = PARKS.get_ptr_mut(number) else {
            return 0;
        };
        // SAFETY: a live array value.
        if unsafe { (*set).tid } != 0
            || CLAIMS
                .insert(&set_claim(number), &tid, flags::NO_EXIST)
                .is_err()
        {
            continue;
        }
        // SAFETY: as above, and this thread's now.
        unsafe {
            (*set).used = 1;
            (*set).tgid = tgid;
            (*set).tid = tid;
        }
        return number + 1;
    }
    0
}
