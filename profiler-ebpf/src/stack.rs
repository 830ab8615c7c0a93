//! From a thread that begins to wait to the number of its stack.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};
use profiler_common::counter::Counter;
use profiler_common::map::{ADVICE_IDLE, ADVICE_RECORD, Stack, Thread};
use profiler_common::park::ANY_PLACE;
use profiler_common::record::STACK_BEFORE;
use profiler_common::row::walk;

use crate::filter::{Task, Watched};
use crate::maps::{MESSAGE, STACKS, add, count, count_truncated};
use crate::{context, emit, objects, parks, raw, registers, unwind};

/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;

/// Walks the stack, numbers it, and sends it if it is new. Leaves number and advice in `thread`.
#[inline(always)]
pub(crate) fn take(ctx: *mut c_void, task: Task, process: Watched, thread: *mut Thread, now: u64) {
    // SAFETY: `task` is the tracepoint's argument, `thread` and `message` are live map values.
    unsafe {
        (*thread).advice = ADVICE_RECORD;
        let regs = registers::of_task(task, registers::COPY_OF_TRACEPOINT);
        // Kept in memory between the steps, not in registers: what the verifier knows of a value it
        // would follow through all that comes after, once for each value.
        parks::find(thread, process, &regs);
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
        let syscall = regs.syscall;
        let Some(state) = unwind::walk_user(regs.ip, regs.sp, regs.bp, process, (*thread).remember)
        else {
            return;
        };
        let frames = (*state).frames;
        count(Counter::Walks);
        add(Counter::Frames, frames.into());
        if (*state).outcome != walk::COMPLETE {
            count_truncated((*state).outcome);
        }
        let place = read_volatile(&raw const (*thread).place);
        if let Some(park) = parks::candidate(thread)
            && ((*park.park).place == ANY_PLACE || (*park.park).place == place)
            && parks::checked(thread, park, (*state).hash)
        {
            return;
        }
        let kind = (*state).outcome << 8 | place;
        let number = number((*state).hash, syscall, (*thread).tgid, kind);
        (*thread).stack = number;
        let copy = raw::Copy {
            time: now,
            stack: number,
            generation: (*process.process).generation,
        };
        raw::shadow(thread, &regs, state, &copy);
        if let Some(known) = STACKS.get_ptr(number) {
            let advice = (*known).advice;
            if advice == ADVICE_RECORD {
                return;
            }
            (*thread).advice = ADVICE_IDLE;
            // A second time: what the first was is told by now, or this would not be known.
            if read_volatile(&raw const (*thread).remember) == 0 {
                (*thread).remember = 1;
            } else if (*state).outcome == walk::COMPLETE {
                let place = if advice == ADVICE_IDLE {
                    ANY_PLACE
                } else {
                    place
                };
                parks::remember(thread, number, (*state).hash, place);
            }
            return;
        }
        let Some(message) = MESSAGE.get_ptr_mut(0) else {
            return;
        };
        if STACKS
            .insert(
                number,
                Stack {
                    advice: ADVICE_RECORD,
                    reserved: 0,
                },
                NO_EXIST,
            )
            .is_err()
        {
            // Another CPU may have been first with the same stack; then it is sent.
            if STACKS.get_ptr(number).is_none() {
                count(Counter::StackTableFull);
                (*thread).stack = 0;
            }
            return;
        }
        emit::prepare(message, task, now);
        let record = &raw mut (*message).record;
        (*record).stack = number;
        (*record).syscall = syscall;
        (*record).args = regs.args;
        (*record).walk = (*state).outcome;
        (*record).place = place;
        (*record).reserved = 0;
        (*record).generation = (*process.process).generation;
        if !emit::new_stack(ctx, message, frames) {
            count(Counter::RingFullStack);
            // Forgotten, so that its next wait sends it again.
            let _ = STACKS.remove(number);
        }
    }
}

/// Mixes what tells stacks apart into one number (the finalizer of splitmix64), which is never
/// 0 nor [`STACK_BEFORE`].
#[inline(always)]
fn number(hash: u64, syscall: i64, tgid: u32, kind: u32) -> u64 {
    let mut mixed = hash
        ^ (syscall as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        ^ (u64::from(tgid) << 32)
        ^ u64::from(kind);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    if mixed <= STACK_BEFORE {
        STACK_BEFORE + 1
    } else {
        mixed
    }
}
