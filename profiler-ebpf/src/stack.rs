//! From a thread that begins to wait, or that ends the wait of another one, to the number of its
//! stack.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};
use profiler_common::context::place;
use profiler_common::counter::Counter;
use profiler_common::map::{ADVICE_IDLE, ADVICE_RECORD, Stack, Thread};
use profiler_common::park::ANY_PLACE;
use profiler_common::record::{KIND_RAW_STACK, STACK_BEFORE, of};
use profiler_common::row::walk;

use crate::emit::KernelFrames;
use crate::filter::{self, Table, Task, Watched};
use crate::maps::{MESSAGE, STACKS, add, count, count_truncated, slot};
use crate::registers::Registers;
use crate::unwind::Reading;
use crate::{context, emit, objects, parks, raw, registers, unwind};

/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;

/// A walk that ended, and what its stack is known by.
#[derive(Clone, Copy)]
struct Walked {
    number: u64,
    frames: u32,
    outcome: u32,
    place: u32,
    of: u32,
    /// Whether it is of this wait alone, and a raw copy of it was sent.
    raw: bool,
}

/// Walks the stack of a thread that begins to wait, numbers it, and sends it if it is new. Leaves
/// number and advice in `thread`.
#[inline(always)]
pub(crate) fn take(ctx: *mut c_void, task: Task, process: Watched, thread: *mut Thread, now: u64) {
    // SAFETY: `task` is the tracepoint's argument, `thread` and `message` are live map values.
    unsafe {
        (*thread).advice = ADVICE_RECORD;
        let regs = registers::of_task(task, registers::COPY_OF_TRACEPOINT);
        // Kept in memory between the steps, not in registers: what the verifier knows of a value it
        // would follow through all that comes after, once for each value.
        let table = filter::table(process);
        if parks::find(thread, table, &regs) {
            return;
        }
        if let Some(park) = parks::candidate(thread)
            && (*park.park).place == ANY_PLACE
            && parks::accept(thread, park)
        {
            return;
        }
        let context = context::of_current(task, process);
        write_volatile(&raw mut (*thread).place, context.place);
        (*thread).task_id = context.task_id;
        let place = read_volatile(&raw const (*thread).place);
        if let Some(park) = parks::candidate(thread)
            && (*park.park).place == place
            && parks::accept(thread, park)
        {
            return;
        }
        count(Counter::SwitchOutBlocked);
        objects::note(&regs);
        let noting = match parks::candidate(thread) {
            Some(park) => parks::frames(park),
            None => (*thread).remember,
        };
        let Some(state) = unwind::walk_user::<{ slot::SCHEDULER }>(
            regs.ip,
            regs.sp,
            regs.bp,
            table,
            Reading {
                begun: true,
                noting,
            },
        ) else {
            return;
        };
        let frames = (*state).frames;
        count(Counter::Walks);
        add(Counter::Frames, frames.into());
        // Another wait may have other frames beyond the one at which the walk ended.
        let alone = number(now, regs.syscall, (*thread).tid, u64::MAX);
        let raw = (*state).outcome == walk::UNMAPPED
            && raw::unmapped(thread, &regs, process, table, alone, now);
        if !raw && (*state).outcome != walk::COMPLETE {
            count_truncated((*state).outcome);
        }
        let place = read_volatile(&raw const (*thread).place);
        if let Some(park) = parks::candidate(thread)
            && ((*park.park).place == ANY_PLACE || (*park.park).place == place)
            && parks::checked(thread, park, (*state).noted)
        {
            return;
        }
        let kind = of::WAIT << 16 | (*state).outcome << 8 | place;
        let kind = era(process, table) ^ u64::from(kind);
        let number = number((*state).hash, regs.syscall, (*thread).tgid, kind);
        let number = if raw { alone } else { number };
        (*thread).stack = number;
        if !raw {
            let copy = raw::Copy {
                kind: KIND_RAW_STACK,
                time: now,
                stack: number,
                table,
            };
            raw::shadow(thread, &regs, state, &copy);
        }
        if let Some(known) = STACKS.get_ptr(number) {
            let advice = (*known).advice;
            if advice == ADVICE_RECORD {
                return;
            }
            (*thread).advice = ADVICE_IDLE;
            // A second time: what the first was is told by now, or this would not be known.
            let proof = (*known).frames;
            if read_volatile(&raw const (*thread).remember) != proof || proof == 0 {
                (*thread).remember = proof;
            } else if (*state).outcome == walk::COMPLETE {
                let noted = parks::Noted {
                    stack: number,
                    hash: (*state).noted,
                    place: if advice == ADVICE_IDLE {
                        ANY_PLACE
                    } else {
                        place
                    },
                };
                parks::remember(thread, table, &regs, noted);
            }
            return;
        }
        let walked = Walked {
            number,
            frames,
            outcome: (*state).outcome,
            place,
            of: of::WAIT,
            raw,
        };
        (*thread).stack = remember(ctx, &regs, table, walked, now, KernelFrames::OfTracepoint);
    }
}

/// Walks the current thread's stack, numbers it, and sends it if it is new: that of a thread of
/// `process` which ends the wait of another one. Returns its number, or 0.
#[inline(always)]
pub(crate) fn take_waker(ctx: *mut c_void, process: Watched, now: u64) -> u64 {
    let regs = registers::of_current(registers::COPY_OF_TRACEPOINT);
    let table = filter::table(process);
    let Some(state) =
        unwind::walk_user::<{ slot::SCHEDULER }>(regs.ip, regs.sp, regs.bp, table, Reading::ANEW)
    else {
        return 0;
    };
    count(Counter::WakerWalks);
    // SAFETY: a live map value each.
    let walked = unsafe {
        let outcome = (*state).outcome;
        let kind = of::WAKER << 16 | outcome << 8 | place::UNKNOWN;
        Walked {
            number: number(
                (*state).hash,
                regs.syscall,
                (*process.process).tgid,
                era(process, table) ^ u64::from(kind),
            ),
            frames: (*state).frames,
            outcome,
            place: place::UNKNOWN,
            of: of::WAKER,
            raw: false,
        }
    };
    if STACKS.get_ptr(walked.number).is_some() {
        return walked.number;
    }
    remember(ctx, &regs, table, walked, now, KernelFrames::Without)
}

/// Notes a stack that was not known, and sends it: the current thread's, whose frames are still in
/// this CPU's [`MESSAGE`]. Returns its number, or 0 where there was no room for it.
#[inline(always)]
fn remember(
    ctx: *mut c_void,
    regs: &Registers,
    table: Table,
    walked: Walked,
    now: u64,
    kernel: KernelFrames,
) -> u64 {
    let Some(message) = MESSAGE.get_ptr_mut(slot::SCHEDULER) else {
        return walked.number;
    };
    let new = Stack {
        advice: ADVICE_RECORD,
        frames: 0,
    };
    if !walked.raw && STACKS.insert(walked.number, new, NO_EXIST).is_err() {
        // Another CPU may have been first with the same stack; then it is sent.
        if STACKS.get_ptr(walked.number).is_none() {
            count(if walked.of == of::WAIT {
                Counter::StackTableFull
            } else {
                Counter::WakerStackTableFull
            });
            return 0;
        }
        return walked.number;
    }
    // SAFETY: a live per-CPU value, and a live array value.
    unsafe {
        emit::prepare(message, now);
        let record = &raw mut (*message).record;
        (*record).stack = walked.number;
        (*record).syscall = regs.syscall;
        (*record).args = regs.args;
        (*record).walk = walked.outcome;
        (*record).place = walked.place;
        (*record).of = walked.of;
        (*record).raw = walked.raw.into();
        (*record).reserved = 0;
        (*record).generation = table.generation;
    }
    if !emit::new_stack(ctx, message, walked.frames, kernel) {
        count(Counter::RingFullStack);
        // Forgotten, so that its next wait sends it again.
        let _ = STACKS.remove(walked.number);
    }
    walked.number
}

/// The same addresses after an exec, or in another library, are another stack.
///
/// # Safety
/// `process` is a live entry.
#[inline(always)]
pub(crate) unsafe fn era(process: Watched, table: Table) -> u64 {
    // SAFETY: by the caller's word.
    let epoch = unsafe { (*process.process).epoch };
    (u64::from(table.execs) << 32 | u64::from(epoch)).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// Mixes what tells stacks apart into one number (the finalizer of splitmix64), which is never
/// 0 nor [`STACK_BEFORE`].
#[inline(always)]
pub(crate) fn number(hash: u64, syscall: i64, tgid: u32, kind: u64) -> u64 {
    let mut mixed = hash
        ^ (syscall as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        ^ (u64::from(tgid) << 32)
        ^ kind;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    if mixed <= STACK_BEFORE {
        STACK_BEFORE + 1
    } else {
        mixed
    }
}
