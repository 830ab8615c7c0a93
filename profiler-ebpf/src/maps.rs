//! Every map. Sizes are bounds: nothing here grows with what the target does.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::btf_maps::{self, ArrayOfMaps};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use profiler_common::call::CALLS;
use profiler_common::counter::Counter;
use profiler_common::map::{Aggregate, EVENT_BYTES, IntervalKey, FILTER_SIZE, INDEX_BANKS, ProcessCounters, MAX_MAPPINGS, MAX_OBJECTS, MAX_PROCESSES, MAX_TABLES, Process, ROW_BANKS, Stack, THREADS, Thread};
use profiler_common::park::{ParkSet, SETS};
use profiler_common::row::{BANK_ROWS, INDEX_BANK, Mapping, walk};

use crate::emit::StackMessage;
use crate::objects::{Call, ObjectMessage};
use crate::raw::RawMessage;
use crate::registers::COPIES;
use crate::unwind::{CachedRule, Chunk, RULE_CACHE, Walk};

/// `BPF_F_MMAPABLE`: userspace fills these by mmap.
const MMAPABLE: usize = 0x400;
/// The same flag where nobody does: its values begin with a page, and so with a cache line.
const ALIGNED: u32 = MMAPABLE as u32;

/// Process id, by its low bits, to the index of its entry in [`PROCESSES`] plus one.
#[map]
pub(crate) static FILTER: Array<u32> = Array::with_max_entries(FILTER_SIZE as u32, 0);

/// The processes, and behind them one that there is not, for freed entries of the filter.
#[map]
pub(crate) static PROCESSES: Array<Process> = Array::with_max_entries(MAX_PROCESSES as u32 + 1, 0);

#[map]
pub(crate) static PROCESS_COUNTERS: Array<ProcessCounters> = Array::with_max_entries(MAX_PROCESSES as u32, 0);

/// What is taken of [`PROCESSES`] (by index) and of [`FILTER`] (by place, from `FILTER_SLOT` on),
/// and by which process. It is asked only where something is to be taken.
#[map]
pub(crate) static SLOT_OWNERS: HashMap<u32, u32> =
    HashMap::with_max_entries(2 * MAX_PROCESSES as u32, 0);

/// Where the search for a free entry of [`PROCESSES`] begins.
#[map]
pub(crate) static NEXT_PROCESS: Array<u32> = Array::with_max_entries(1, 0);

/// By table: the executable mappings of a process, in the order of their addresses; read by [`mapping`].
///
/// The values are words and no struct: up to Linux 6.2 an inner map whose values are known to be
/// a struct cannot be replaced by one of unknown values (`timer_off` in `bpf_map_meta_equal`),
/// such as userspace makes.
#[btf_map]
static MAPPINGS: ArrayOfMaps<
    btf_maps::Array<[u64; size_of::<Mapping>() / 8], MAX_MAPPINGS, MMAPABLE>,
    MAX_TABLES,
> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static ROWS: ArrayOfMaps<
    btf_maps::Array<u64, { BANK_ROWS as usize }, MMAPABLE>,
    ROW_BANKS,
> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static INDEX: ArrayOfMaps<
    btf_maps::Array<u64, { INDEX_BANK as usize }, MMAPABLE>,
    INDEX_BANKS,
> = ArrayOfMaps::new();

#[map]
pub(crate) static THREAD_TABLE: Array<Thread> = Array::with_max_entries(THREADS as u32, ALIGNED);

/// Place in [`THREAD_TABLE`] to the thread that has it; for making and giving up entries only.
#[map]
pub(crate) static CLAIMS: HashMap<u32, u32> = HashMap::with_max_entries((THREADS + SETS) as u32, 0);

/// How far the clock of our times is ahead of the scheduler's (wrapping), one value.
#[map]
pub(crate) static CLOCK_LEAD: Array<u64> = Array::with_max_entries(1, 0);

/// The remembered parks, by [`profiler_common::map::Thread::parks`].
#[map]
pub(crate) static PARKS: Array<ParkSet> = Array::with_max_entries(SETS as u32, ALIGNED);

/// How often userspace has changed its mind about a stack, one value.
#[map]
pub(crate) static PARK_CACHE_EPOCH: Array<u32> = Array::with_max_entries(1, 0);

#[map]
pub(crate) static STACKS: HashMap<u64, Stack> = HashMap::with_max_entries(65_536, 0);

#[map]
pub(crate) static AGGREGATES: HashMap<IntervalKey, Aggregate> =
    HashMap::with_max_entries(profiler_common::map::AGGREGATES as u32, 0);

/// How many entries of it were made for waits for a known object, about: in the interval under way
/// and in the one before, each in the place that the lowest bit of its number names. Userspace sets
/// it to 0 where it has taken the sums out.
#[map]
pub(crate) static OBJECT_SUMS: Array<u64> = Array::with_max_entries(2, ALIGNED);

/// What each system call waits for, one of [`profiler_common::call`].
#[map]
pub(crate) static CALL_OBJECTS: Array<u32> = Array::with_max_entries(CALLS as u32, 0);

/// Objects that were sent, by number.
#[map]
pub(crate) static OBJECTS: LruHashMap<u64, u32> =
    LruHashMap::with_max_entries(MAX_OBJECTS as u32, 0);

/// The wait or, as the second, the system call whose object is being looked at.
#[map]
pub(crate) static OBJECT_CALL: PerCpuArray<Call> = PerCpuArray::with_max_entries(2, 0);

/// Its record, in the form in which it is sent.
#[map]
pub(crate) static OBJECT_MESSAGE: PerCpuArray<ObjectMessage> = PerCpuArray::with_max_entries(2, 0);

/// Registers copied from a kernel stack, where there is no helper that finds them.
#[map]
pub(crate) static REGISTERS: PerCpuArray<pt_regs> = PerCpuArray::with_max_entries(COPIES, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES as u32, 0);

#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(Counter::ALL.len() as u32, 0);

/// Entries of the per-CPU maps of a walk. Programs whose walks cannot interrupt each other share
/// one.
pub(crate) mod slot {
    /// Of the scheduler's tracepoints, which run with interrupts off.
    pub(crate) const SCHEDULER: u32 = 0;
    /// Of the sampling clock, which interrupts any program that runs with interrupts on.
    pub(crate) const SAMPLE: u32 = 1;
    /// Of returns from system calls, which the scheduler may interrupt.
    pub(crate) const CALL: u32 = 2;
    /// Of panics, likewise.
    pub(crate) const PANIC: u32 = 3;
    /// How many.
    pub(crate) const COUNT: u32 = 4;
}

#[map]
pub(crate) static WALK: PerCpuArray<Walk> = PerCpuArray::with_max_entries(slot::COUNT, 0);

#[map]
pub(crate) static CHUNK: PerCpuArray<Chunk> = PerCpuArray::with_max_entries(slot::COUNT, 0);

#[map]
pub(crate) static RULES: PerCpuArray<[CachedRule; RULE_CACHE]> =
    PerCpuArray::with_max_entries(slot::COUNT, 0);

/// The stack being walked, in the form in which it is sent.
#[map]
pub(crate) static MESSAGE: PerCpuArray<StackMessage> =
    PerCpuArray::with_max_entries(slot::COUNT, 0);

/// The piece of a raw copy being made, in the form in which it is sent.
#[map]
pub(crate) static RAW_MESSAGE: PerCpuArray<RawMessage> = PerCpuArray::with_max_entries(1, 0);

/// Entry `n` of a mapping table.
#[inline(always)]
pub(crate) fn mapping(table: u32, n: u32) -> Option<&'static Mapping> {
    const { assert!(size_of::<Mapping>().is_multiple_of(8) && align_of::<Mapping>() == 8) };
    let words: &'static [u64; size_of::<Mapping>() / 8] = MAPPINGS.get_value(table, &n)?;
    // SAFETY: as large and as aligned as a `Mapping`, of which every bit pattern is a value.
    Some(unsafe { &*words.as_ptr().cast::<Mapping>() })
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
    if let Some(value) = COUNTERS.get_ptr_mut(FIRST + (outcome & 7)) {
        // SAFETY: as in `add`.
        unsafe { *value += 1 };
    }
}

/// Adds one to a counter of this CPU; whether that is the first: what is logged once.
#[inline(always)]
pub(crate) fn count_first(counter: Counter) -> bool {
    let Some(value) = COUNTERS.get_ptr_mut(counter as u32) else {
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
pub(crate) fn add(counter: Counter, n: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a live per-CPU value; these programs do not migrate while they run.
        unsafe { *value += n };
    }
}
