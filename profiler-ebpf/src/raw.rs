//! Raw copies of stacks, for walks in userspace: the shadow check, and stacks that the walk here
//! cannot follow yet.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_probe_read_user, bpf_ringbuf_output};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use core::ffi::c_void;
use profiler_common::counter::Counter;
use profiler_common::map::Thread;
use profiler_common::record::{
    KIND_UNMAPPED_STACK, RAW_PIECE_BYTES, RAW_STACK_BYTES, RawStackRecord,
};
use profiler_common::row::walk;

use crate::arch::Registers;
use crate::config;
use crate::counters::count;
use crate::emit::EVENTS;
use crate::filter::{PROCESS_COUNTERS, Table, Watched};
use crate::unwind::Walk;

const PAGE: u64 = RAW_PIECE_BYTES as u64;
/// The first piece may be part of a page.
const PIECES: u64 = RAW_STACK_BYTES / PAGE + 1;

/// A piece in the form in which it is sent.
#[repr(C)]
pub(crate) struct RawMessage {
    record: RawStackRecord,
    memory: [u8; RAW_PIECE_BYTES],
}

/// The piece of a raw copy being made, in the form in which it is sent.
#[map]
static RAW_MESSAGE: PerCpuArray<RawMessage> = PerCpuArray::with_max_entries(1, 0);

/// What names a copy.
pub(crate) struct Copy {
    /// `KIND_RAW_STACK` or [`KIND_UNMAPPED_STACK`].
    pub(crate) kind: u32,
    pub(crate) time: u64,
    pub(crate) stack: u64,
    pub(crate) table: Table,
}

/// Copies one stack in [`config::shadow_every`], chosen at random: a counter could keep step with
/// what the target does.
///
/// # Safety
/// `thread` is a live entry, `walked` this CPU's walk.
#[inline(always)]
pub(crate) unsafe fn shadow(
    thread: *const Thread,
    regs: &Registers,
    walked: *const Walk,
    copy: &Copy,
) {
    let every = config::shadow_every();
    if every == 0 {
        return;
    }
    // SAFETY: a helper without arguments; the pointers are guaranteed by the caller.
    unsafe {
        let chosen = u64::from(bpf_get_prandom_u32()).wrapping_mul(every.into());
        if chosen >> 32 != 0 {
            return;
        }
        count(Counter::RawCopies);
        let sp = regs.sp;
        // A complete walk has read no further than to its last frame's caller.
        let len = if (*walked).outcome == walk::COMPLETE {
            ((*walked).top() | (PAGE - 1))
                .wrapping_add(1 + PAGE)
                .wrapping_sub(sp)
        } else {
            RAW_STACK_BYTES
        };
        send(thread, regs, copy, len);
    }
}

/// Copies that a process is good for while it has no mapping table at all…
const MOST_WITHOUT_TABLE: u32 = 4096;
/// …and after each change of the table: code made at run time never comes to be known.
const MOST_WITH_TABLE: u32 = 256;

/// Copies a stack that cannot be walked yet: just after an exec, or in a library that was loaded
/// a moment ago. Userspace walks it once it has read the new mappings. Says whether all was sent.
///
/// # Safety
/// As [`send`].
#[inline(always)]
pub(crate) unsafe fn unmapped(
    thread: *const Thread,
    regs: &Registers,
    process: Watched,
    table: Table,
    stack: u64,
    time: u64,
) -> bool {
    let Some(life) = PROCESS_COUNTERS.get_ptr_mut(process.index) else {
        return false;
    };
    let most = if table.table_version == 0 {
        MOST_WITHOUT_TABLE
    } else {
        MOST_WITH_TABLE
    };
    // SAFETY: a live array value. Threads on other CPUs may count at the same time: then some
    // more are sent. The rest guaranteed by the caller.
    unsafe {
        if (*life).raw_table_version != table.table_version {
            (*life).raw_table_version = table.table_version;
            (*life).raw = 0;
        }
        if (*life).raw >= most {
            return false;
        }
        (*life).raw += 1;
        count(Counter::RawUnmapped);
        let copy = Copy {
            kind: KIND_UNMAPPED_STACK,
            time,
            stack,
            table,
        };
        send(thread, regs, &copy, RAW_STACK_BYTES)
    }
}

/// Copies at least `len` bytes from the stack pointer up, at most [`RAW_STACK_BYTES`], to the end of
/// a page, and not beyond the first page that cannot be read. Says whether all was sent.
///
/// # Safety
/// `thread` is a live entry.
#[inline(always)]
pub(crate) unsafe fn send(thread: *const Thread, regs: &Registers, copy: &Copy, len: u64) -> bool {
    let Some(message) = RAW_MESSAGE.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: guaranteed by the caller; `message` is a live per-CPU value, into which at most
    // RAW_PIECE_BYTES of memory go.
    unsafe {
        let sp = regs.sp;
        let len = if len > RAW_STACK_BYTES {
            RAW_STACK_BYTES
        } else {
            len
        };
        let end = sp.wrapping_add(len);
        let record = &raw mut (*message).record;
        (*record).header.kind = copy.kind;
        (*record).header.tgid = (*thread).tgid;
        (*record).header.tid = (*thread).tid;
        (*record).time = copy.time;
        (*record).stack = copy.stack;
        (*record).ip = regs.ip;
        (*record).sp = sp;
        (*record).bp = regs.bp;
        (*record).table_version = copy.table.table_version;
        (*record).exec_count = copy.table.exec_count;
        let mut at = sp;
        for _ in 0..PIECES {
            // Whole pages: old verifiers lose track of a length that is the lesser of two.
            let bytes = PAGE - (at & (PAGE - 1));
            let failed = bpf_probe_read_user(
                (&raw mut (*message).memory).cast(),
                bytes as u32,
                at as *const c_void,
            ) != 0;
            let bytes = if failed { 0 } else { bytes };
            let last = failed || at.wrapping_add(bytes) >= end;
            let len = size_of::<RawStackRecord>() as u64 + bytes;
            (*record).header.len = len as u32;
            (*record).address = at;
            (*record).bytes = bytes as u32;
            (*record).last = last.into();
            let sent = bpf_ringbuf_output(
                (&raw const EVENTS).cast_mut().cast(),
                message.cast(),
                len,
                BPF_RB_NO_WAKEUP.into(),
            );
            if sent != 0 {
                count(Counter::RingFullRaw);
                return false;
            }
            if last {
                return true;
            }
            at = at.wrapping_add(bytes);
        }
    }
    true
}
