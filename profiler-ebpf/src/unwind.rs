//! The walk up a user stack, by the rows that userspace made of `.eh_frame`.
//!
//! The rules of a step are [`profiler_common::walk::step`], which userspace runs as well. Here
//! are the things that make it work: rules remembered by address, stack memory read in chunks,
//! frames of the commonest kind passed many at a time, and each other one by a call of
//! [`walk_turn`], so that the verifier sees one turn instead of all.

use aya_ebpf::btf_maps::{self, ArrayOfMaps};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_user};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::PerCpuArray;
use core::ffi::c_void;
use profiler_common::map::{INDEX_BANKS, MAX_MAPPINGS, MAX_TABLES, ROW_BANKS};
use profiler_common::park::{Key, Trace, WORDS};
use profiler_common::row::{self, BANK_ROWS, BANK_SHIFT, INDEX_BANK, Mapping, Rows, Rule, walk};
use profiler_common::stack::{KEPT_FRAMES, MAX_USER_FRAMES, MAX_WALKED_FRAMES, frame_slot};
use profiler_common::walk::{CONTINUE, Cursor, Memory, plain_cfa, step};

use crate::emit::MESSAGE;
use crate::filter::Table;
use crate::{flags, slot};

/// Rules that one CPU remembers, a power of two.
pub(crate) const RULE_CACHE: usize = 512;
/// Bytes of stack that are read at once: most stacks are not larger, and twice as much costs half
/// a read more.
const CHUNK_BYTES: u64 = 2048;
const PAGE: u64 = 4096;
/// Frames of the commonest kind that are passed in one go.
const RUN: usize = 16;
/// Turns of a walk that are called together, and how often: each turn passes one frame at least.
const TURNS: u32 = 16;
const CALLS: u32 = 64;

/// Time after which each CPU may spend [`COSTLY_CALLS`] anew, as a shift of nanoseconds: 134 ms.
const BUDGET_SHIFT: u32 = 27;
/// Calls of [`walk_turns`] that a CPU may make in that time beyond the first of each walk. One is
/// 16 frames of the costly kind, in some 10 µs: an eighth of the CPU.
///
/// The first is enough for nearly every stack, whose frames are passed 16 at a time. What a program
/// can do to make each frame costly (a module for each, no two with the same address) would else
/// slow down what shares its CPUs, since the kernel counts the time at a switch to the thread that
/// comes next.
const COSTLY_CALLS: u32 = 1_680;

/// As the types of maps want it: userspace fills these by mmap.
const MMAPABLE: usize = flags::MMAPABLE as usize;

/// By table: the executable mappings of a process, in the order of their addresses; read by [`mapping_at`].
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
static ROWS: ArrayOfMaps<btf_maps::Array<u64, { BANK_ROWS as usize }, MMAPABLE>, ROW_BANKS> =
    ArrayOfMaps::new();

#[btf_map]
static INDEX: ArrayOfMaps<btf_maps::Array<u64, { INDEX_BANK as usize }, MMAPABLE>, INDEX_BANKS> =
    ArrayOfMaps::new();

#[map]
static WALK: PerCpuArray<Walk> = PerCpuArray::with_max_entries(slot::COUNT, 0);

#[map]
pub(crate) static CHUNK: PerCpuArray<Chunk> = PerCpuArray::with_max_entries(slot::COUNT, 0);

#[map]
static RULES: PerCpuArray<[CachedRule; RULE_CACHE]> = PerCpuArray::with_max_entries(slot::COUNT, 0);

/// A rule found before.
#[repr(C)]
pub(crate) struct CachedRule {
    pc: u64,
    /// Of the mapping table in which it was found.
    table_version: u32,
    rule: Rule,
}

/// Stack memory read ahead.
#[repr(C)]
pub(crate) struct Chunk {
    pub(crate) base: u64,
    pub(crate) len: u64,
    /// What so many frames are found by goes into `trace`; 0 for nothing.
    noting: u64,
    /// What the current thread waits in, where that is to be remembered as a park.
    pub(crate) key: Key,
    /// Also the piece of stack that is compared with the park's.
    pub(crate) words: [u64; WORDS],
    /// What the walk has read.
    pub(crate) trace: Trace,
}

const _: () = assert!(WORDS as u64 * 8 == PAGE);

impl Chunk {
    #[inline(always)]
    fn note(&mut self, addr: u64, word: u64) -> u64 {
        if self.noting != 0 {
            self.trace.note(addr, word);
        }
        word
    }

    /// Reads so many bytes of the stack, at most [`CHUNK_BYTES`]; says whether all can be read.
    #[inline(always)]
    fn read(&mut self, addr: u64, len: u64) -> bool {
        // SAFETY: at most CHUNK_BYTES go into the array.
        let failed = unsafe {
            bpf_probe_read_user(
                self.words.as_mut_ptr().cast(),
                len as u32,
                addr as *const c_void,
            )
        };
        failed == 0
    }

    /// The word at `addr`, if it was read ahead.
    #[inline(always)]
    fn at_hand(&self, addr: u64) -> Option<u64> {
        let offset = addr.wrapping_sub(self.base);
        if offset >= self.len {
            return None;
        }
        // SAFETY: the mask keeps the index within the array.
        Some(unsafe {
            *self
                .words
                .as_ptr()
                .add((offset >> 3) as usize & (WORDS - 1))
        })
    }
}

/// A walk under way.
#[repr(C)]
pub(crate) struct Walk {
    cursor: Cursor,
    /// Hash of the frames so far.
    pub(crate) hash: u64,
    /// That of those frames which [`Reading::noting`] named, if it did.
    pub(crate) noted: u64,
    /// Frames so far; after the walk, those of them that were kept.
    pub(crate) frames: u32,
    /// [`KEPT_FRAMES`] once so many have been passed, which is what [`frame_slot`] is to be told.
    ring: u64,
    /// How many frames [`run`] may come to.
    limit: u64,
    /// How it ended, one of [`walk`].
    pub(crate) outcome: u32,
    /// Number of the mapping table.
    table: u32,
    /// Its entries.
    mappings: u32,
    table_version: u32,
    /// Where in the mapping table the last frame was.
    last: u32,
    /// Frames that were passed by frame pointers alone.
    pointer_steps: u32,
    /// Which one was the last of them, the innermost being 1.
    pointer_frame: u32,
    /// The stretch of [`BUDGET_SHIFT`] in which `costly_calls` were made.
    budget_of: u64,
    costly_calls: u32,
}

impl Walk {
    /// The stack pointer of the outermost frame reached.
    #[inline(always)]
    pub(crate) const fn top(&self) -> u64 {
        self.cursor.sp
    }
}

impl Memory for Chunk {
    #[inline(always)]
    fn read_u64(&mut self, addr: u64) -> Option<u64> {
        if let Some(word) = self.at_hand(addr) {
            return Some(self.note(addr, word));
        }
        self.len = 0;
        let mut len = CHUNK_BYTES;
        if !self.read(addr, len) {
            // Such a read fails as a whole where the next page is missing.
            len = PAGE - (addr & (PAGE - 1));
            if len >= CHUNK_BYTES || !self.read(addr, len) {
                return None;
            }
        }
        self.base = addr;
        self.len = len;
        Some(self.note(addr, self.words[0]))
    }

    #[inline(always)]
    fn read_u64_uncached(&mut self, addr: u64) -> Option<u64> {
        if let Some(word) = self.at_hand(addr) {
            return Some(self.note(addr, word));
        }
        let mut word = 0u64;
        // SAFETY: eight bytes go into `word`.
        let failed =
            unsafe { bpf_probe_read_user((&raw mut word).cast(), 8, addr as *const c_void) };
        if failed == 0 {
            Some(self.note(addr, word))
        } else {
            None
        }
    }
}

/// The banks of rows and index entries.
struct Banks;

impl Rows for Banks {
    #[inline(always)]
    fn row(&self, n: u32) -> Option<&u64> {
        ROWS.get_value(n >> BANK_SHIFT, &(n & (BANK_ROWS - 1)))
    }

    #[inline(always)]
    fn index(&self, n: u32) -> Option<&u64> {
        INDEX.get_value(n >> BANK_SHIFT, &(n & (INDEX_BANK - 1)))
    }
}

/// Entry `n` of a mapping table.
#[inline(always)]
fn mapping_at(table: u32, n: u32) -> Option<&'static Mapping> {
    const { assert!(size_of::<Mapping>().is_multiple_of(8) && align_of::<Mapping>() == 8) };
    let words: &'static [u64; size_of::<Mapping>() / 8] = MAPPINGS.get_value(table, &n)?;
    // SAFETY: as large and as aligned as a `Mapping`, of which every bit pattern is a value.
    Some(unsafe { &*words.as_ptr().cast::<Mapping>() })
}

#[inline(always)]
fn covers(mapping: &Mapping, pc: u64) -> bool {
    pc >= mapping.begin && pc < mapping.end
}

/// The mapping that covers `pc`: that of the frame before, or a binary search.
#[inline(always)]
fn mapping(state: &mut Walk, pc: u64) -> Option<&'static Mapping> {
    if let Some(mapping) = mapping_at(state.table, state.last)
        && covers(mapping, pc)
    {
        return Some(mapping);
    }
    let (mut low, mut high) = (0, state.mappings);
    // log2(MAX_MAPPINGS) halvings, and one to tell the last two apart.
    for _ in 0..=MAX_MAPPINGS.ilog2() {
        if low >= high {
            break;
        }
        let middle = low + ((high - low) >> 1);
        if mapping_at(state.table, middle)?.begin <= pc {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if low == 0 {
        return None;
    }
    state.last = low - 1;
    mapping_at(state.table, state.last).filter(|mapping| covers(mapping, pc))
}

/// Where the rule for `pc` is remembered.
///
/// # Safety
/// `rules` is a live value of [`RULES`].
#[inline(always)]
unsafe fn remembered(rules: *mut [CachedRule; RULE_CACHE], pc: u64) -> *mut CachedRule {
    let place = ((pc >> 1) ^ (pc >> 10)) as usize & (RULE_CACHE - 1);
    // SAFETY: guaranteed by the caller, and the mask keeps the index within it.
    unsafe { rules.cast::<CachedRule>().add(place) }
}

/// The rule for `pc`, remembered or looked up; `None` outside every mapping.
#[inline(always)]
fn rule<const SLOT: u32>(state: &mut Walk, pc: u64) -> Option<Rule> {
    let rules = RULES.get_ptr_mut(SLOT)?;
    // SAFETY: a live per-CPU value.
    let cached = unsafe { &mut *remembered(rules, pc) };
    if cached.pc == pc && cached.table_version == state.table_version {
        return Some(cached.rule);
    }
    let mapping = mapping(state, pc)?;
    let found = row::find(&Banks, mapping, pc);
    cached.pc = pc;
    cached.table_version = state.table_version;
    cached.rule = found;
    Some(found)
}

/// Passes frames of the commonest kind whose rule and return address are at hand, up to [`RUN`] of
/// them. What it leaves is a [`turn`]'s.
///
/// Most frames are such. Everything is in registers between them, and there is nothing that the
/// verifier would have to follow for each frame anew.
///
/// # Safety
/// `rules` and `frames` are live values, as [`turn_in`] has them.
#[inline(always)]
unsafe fn run(
    state: &mut Walk,
    memory: &Chunk,
    rules: *mut [CachedRule; RULE_CACHE],
    frames: *mut u64,
) {
    let (mut cursor, mut hash, mut n) = (state.cursor, state.hash, u64::from(state.frames));
    // Numbers from memory, so that the verifier need not tell two ways through the loop apart.
    let (ring, limit) = (state.ring, state.limit);
    for _ in 0..RUN {
        if n >= limit {
            break;
        }
        let pc = cursor.lookup_pc();
        // SAFETY: guaranteed by the caller.
        let (rule, known) = unsafe {
            let cached = &*remembered(rules, pc);
            (
                cached.rule,
                cached.pc == pc && cached.table_version == state.table_version,
            )
        };
        let cfa = plain_cfa(cursor.sp, rule);
        if !known || cfa == 0 {
            break;
        }
        let Some(ip) = memory.at_hand(cfa.wrapping_sub(8)) else {
            break;
        };
        if ip == 0 {
            break;
        }
        // SAFETY: a slot is within the frames of a message.
        unsafe { *frames.add(frame_slot(n, ring)) = cursor.ip };
        n += 1;
        hash = mixed(hash, cursor.ip);
        cursor.ascend(rule.rbp_below_cfa(), cfa, ip);
    }
    state.cursor = cursor;
    state.hash = hash;
    state.frames = n as u32;
}

/// The hash over the frames with one more.
#[inline(always)]
const fn mixed(hash: u64, ip: u64) -> u64 {
    (hash.rotate_left(5) ^ ip).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// One frame; 0 to go on, 1 to stop.
#[inline(always)]
fn turn<const SLOT: u32>(state: &mut Walk, memory: &mut Chunk, frames: *mut u64) -> u32 {
    let n = u64::from(state.frames);
    if n >= MAX_WALKED_FRAMES as u64 {
        state.outcome = walk::TOO_DEEP;
        return 1;
    }
    if n == KEPT_FRAMES as u64 {
        state.ring = KEPT_FRAMES as u64;
        state.limit = MAX_WALKED_FRAMES as u64;
    }
    // SAFETY: a slot is within the frames of a message.
    unsafe { *frames.add(frame_slot(n, state.ring)) = state.cursor.ip };
    state.frames = n as u32 + 1;
    state.hash = mixed(state.hash, state.cursor.ip);
    if memory.noting != 0 {
        state.noted = state.hash;
        if u64::from(state.frames) >= memory.noting {
            memory.noting = 0;
        }
    }
    let Some(rule) = rule::<SLOT>(state, state.cursor.lookup_pc()) else {
        // Where a frame pointer led here, it was none: there is no code to learn of.
        let astray = state.pointer_frame != 0 && state.pointer_frame + 1 == state.frames;
        state.outcome = if astray {
            walk::NO_PROGRESS
        } else {
            walk::UNMAPPED
        };
        return 1;
    };
    if rule.0 == Rule::FRAME_POINTER.0 {
        state.pointer_steps += 1;
        state.pointer_frame = state.frames;
    }
    if memory.noting != 0 {
        memory.trace.before_step(&state.cursor, rule);
    }
    let mut cursor = state.cursor;
    let outcome = step(&mut cursor, rule, memory);
    state.cursor = cursor;
    if outcome == CONTINUE {
        return 0;
    }
    state.outcome = outcome;
    1
}

/// Some frames of the walk in the slot; 0 to go on, 1 to stop.
#[inline(always)]
fn turn_in<const SLOT: u32>() -> u32 {
    let (Some(state), Some(memory), Some(message), Some(rules)) = (
        WALK.get_ptr_mut(SLOT),
        CHUNK.get_ptr_mut(SLOT),
        MESSAGE.get_ptr_mut(SLOT),
        RULES.get_ptr_mut(SLOT),
    ) else {
        return 1;
    };
    // SAFETY: live per-CPU values; no walk with the same slot can interrupt this one.
    unsafe {
        let frames = (&raw mut (*message).frames).cast();
        if (*memory).noting == 0 {
            run(&mut *state, &*memory, rules, frames);
        }
        turn::<SLOT>(&mut *state, &mut *memory, frames)
    }
}

/// Some frames of this CPU's [`WALK`]; 0 to go on, 1 to stop.
///
/// A global function: the verifier looks at it once, by itself, and takes every call of it for
/// its return type (since Linux 5.6; `Documentation/bpf/bpf_design_QA.rst`, and
/// `btf_prepare_func_args` in `kernel/bpf/btf.c`). A loop around the code itself would be looked
/// at a turn after the other, with all paths of each; a callback of `bpf_loop` costs the same at
/// run time and needs Linux 5.17. What it works on is in maps, since older kernels let pass
/// numbers only.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_turn() -> u32 {
    turn_in::<{ slot::SCHEDULER }>()
}

/// As [`walk_turn`], of the sampling clock's walk.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_turn_sample() -> u32 {
    turn_in::<{ slot::SAMPLE }>()
}

/// As [`walk_turn`], of the walk at a system call's return.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_turn_call() -> u32 {
    turn_in::<{ slot::CALL }>()
}

/// As [`walk_turn`], of the walk at a panic.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_turn_panic() -> u32 {
    turn_in::<{ slot::PANIC }>()
}

/// Several turns; 0 to go on, 1 to stop.
#[inline(always)]
fn turns(turn: extern "C" fn() -> u32) -> u32 {
    for _ in 0..TURNS {
        if turn() != 0 {
            return 1;
        }
    }
    0
}

/// Several calls of [`walk_turn`]. A global function as that, so that the verifier looks at its
/// loop once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_turns() -> u32 {
    turns(walk_turn)
}

/// As [`walk_turns`], of the sampling clock's walk.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_turns_sample() -> u32 {
    turns(walk_turn_sample)
}

/// As [`walk_turns`], of the walk at a system call's return.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_turns_call() -> u32 {
    turns(walk_turn_call)
}

/// As [`walk_turns`], of the walk at a panic.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_turns_panic() -> u32 {
    turns(walk_turn_panic)
}

/// Tells the record how many frames of a walk that ended were not kept.
///
/// # Safety
/// `state` is a live value.
#[inline(always)]
unsafe fn keep<const SLOT: u32>(state: *mut Walk) {
    let Some(message) = MESSAGE.get_ptr_mut(SLOT) else {
        return;
    };
    // SAFETY: live map values.
    unsafe {
        let walked = (*state).frames;
        let left_out = walked.saturating_sub(MAX_USER_FRAMES as u32);
        (*message).record.left_out = left_out as u16;
        (*message).record.pointer_steps = (*state).pointer_steps as u16;
        (*state).frames = walked - left_out;
    }
}

/// Whether a walk that is longer than most may still go on: takes another call of [`walk_turns`]
/// from what this CPU may spend.
///
/// # Safety
/// `state` is a live value.
#[inline(always)]
unsafe fn may_go_on(state: *mut Walk) -> bool {
    // SAFETY: a helper without arguments; a live value, guaranteed by the caller.
    unsafe {
        let stretch = bpf_ktime_get_ns() >> BUDGET_SHIFT;
        if (*state).budget_of != stretch {
            (*state).budget_of = stretch;
            (*state).costly_calls = 0;
        }
        let spent = (*state).costly_calls;
        (*state).costly_calls = spent + 1;
        spent < COSTLY_CALLS
    }
}

/// How a walk reads the stack.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    /// Whether what is in this CPU's [`CHUNK`] was read of this stack just now.
    pub(crate) begun: bool,
    /// What so many frames are found by is to be noted there; 0 for nothing.
    pub(crate) noting: u32,
}

impl Reading {
    /// From the beginning, without notes.
    pub(crate) const ANEW: Reading = Reading {
        begun: false,
        noting: 0,
    };
}

/// Walks the current thread's user stack from its registers; the frames are then in this CPU's
/// [`MESSAGE`] of that slot (see [`slot`]).
#[inline(always)]
pub(crate) fn walk_user<const SLOT: u32>(
    ip: u64,
    sp: u64,
    bp: u64,
    table: Table,
    reading: Reading,
) -> Option<*mut Walk> {
    let state = WALK.get_ptr_mut(SLOT)?;
    let memory = CHUNK.get_ptr_mut(SLOT)?;
    // SAFETY: live per-CPU and array values.
    unsafe {
        (*state).cursor = Cursor::new(ip, sp, bp);
        (*state).hash = 0;
        (*state).noted = 0;
        (*state).frames = 0;
        (*state).ring = 0;
        (*state).limit = KEPT_FRAMES as u64;
        (*state).outcome = walk::TOO_DEEP;
        (*state).table = table.table;
        (*state).mappings = table.mappings;
        (*state).table_version = table.table_version;
        (*state).last = 0;
        (*state).pointer_steps = 0;
        (*state).pointer_frame = 0;
        if !reading.begun {
            (*memory).len = 0;
        }
        (*memory).noting = reading.noting.into();
        (*memory).trace.begin(sp, bp);
        if ip == 0 {
            (*state).outcome = walk::NO_STACK;
            return Some(state);
        }
        for call in 0..CALLS {
            if call > 0 && !may_go_on(state) {
                (*state).outcome = walk::TOO_COSTLY;
                break;
            }
            let done = match SLOT {
                slot::SAMPLE => walk_turns_sample(),
                slot::CALL => walk_turns_call(),
                slot::PANIC => walk_turns_panic(),
                _ => walk_turns(),
            };
            if done != 0 {
                break;
            }
        }
        keep::<SLOT>(state);
    }
    Some(state)
}
