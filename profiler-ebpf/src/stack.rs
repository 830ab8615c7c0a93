//! From a thread that begins to wait, or that ends the wait of another one, to the number of its
//! stack.

use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};
use profiler_common::context::{Found, tls_state};
use profiler_common::counter::Counter;
use profiler_common::map::{POLICY_RECORD, POLICY_SUM_ONLY, Stack, Thread};
use profiler_common::park::ANY_TLS_STATE;
use profiler_common::record::{KIND_RAW_STACK, STACK_BEFORE, stack_kind};
use profiler_common::row::walk;

use crate::arch::{self, Registers};
use crate::counters::{add, count, count_truncated};
use crate::emit::{KernelFrames, MESSAGE};
use crate::filter::{self, Table, Task, Watched};
use crate::unwind::Reading;
use crate::{context, drivers, emit, flags, objects, parks, raw, slot, unwind};

/// The stacks that were sent, by number.
#[map]
pub(crate) static STACKS: HashMap<u64, Stack> = HashMap::with_max_entries(65_536, 0);

/// A walk that ended, and what its stack is known by.
#[derive(Clone, Copy)]
struct Walked {
    number: u64,
    frames: u32,
    outcome: u32,
    /// Hash of the frames that a park is known by, where they were to be noted.
    noted: u64,
    tls_state: u32,
    runtime: u64,
    stack_kind: u32,
    /// Whether it is of this wait alone, and a raw copy of it was sent.
    raw: bool,
}

/// A thread that begins to wait.
#[derive(Clone, Copy)]
struct Waiting {
    process: Watched,
    thread: *mut Thread,
    table: Table,
    now: u64,
    /// One of [`stack_kind`].
    kind: u32,
}

/// Walks the stack of a thread that begins to wait, numbers it, and sends it if it is new. Leaves
/// number and policy in `thread`. `kind` is one of [`stack_kind`].
#[inline(always)]
pub(crate) fn take(
    ctx: *mut c_void,
    task: Task,
    process: Watched,
    thread: *mut Thread,
    now: u64,
    kind: u32,
) {
    let waiting = Waiting {
        process,
        thread,
        table: filter::table(process),
        now,
        kind,
    };
    // SAFETY: `task` is the tracepoint's argument, `thread` a live map value.
    unsafe {
        (*thread).policy = POLICY_RECORD;
        let regs = arch::of_task(task, arch::COPY_OF_TRACEPOINT);
        if waiting.is_known_park(&regs) {
            return;
        }
        let Some(context) = context::of_current(task, process) else {
            return;
        };
        waiting.note_context(&*context);
        if waiting.is_park_of_context() {
            return;
        }
        waiting.note_core(&*context);
        objects::note(&regs);
        let Some(walked) = waiting.walk(&regs) else {
            return;
        };
        (*thread).stack = walked.number;
        match STACKS.get_ptr(walked.number) {
            Some(known) if (*known).policy == POLICY_RECORD => {}
            Some(known) => waiting.remember_park(&regs, &walked, &*known),
            None => {
                let kernel = KernelFrames::OfTracepoint;
                (*thread).stack = remember(ctx, &regs, waiting.table, walked, now, kernel);
            }
        }
    }
}

impl Waiting {
    /// Whether it is in a park that is known by the registers alone.
    ///
    /// # Safety
    /// `thread` is a live entry.
    #[inline(always)]
    unsafe fn is_known_park(&self, regs: &Registers) -> bool {
        // SAFETY: guaranteed by the caller.
        unsafe {
            // One that is stopped in a park looks like one that parks.
            if self.kind == stack_kind::WAIT {
                drivers::enter(self.thread, self.process, regs, self.now);
                if parks::lookup(self.thread, self.table, regs) {
                    return true;
                }
            } else {
                write_volatile(&raw mut (*self.thread).candidate, 0);
            }
            parks::pending_hit(self.thread).is_some_and(|park| {
                (*park.park).tls_state == ANY_TLS_STATE && parks::hit(self.thread, park)
            })
        }
    }

    /// Notes what the thread is by its thread-local context.
    ///
    /// # Safety
    /// As [`Waiting::is_known_park`].
    #[inline(always)]
    unsafe fn note_context(&self, context: &Found) {
        let thread = self.thread;
        // SAFETY: guaranteed by the caller.
        unsafe {
            // Kept in memory between the steps, not in registers: what the verifier knows of a value
            // it would follow through all that comes after, once for each value.
            write_volatile(&raw mut (*thread).tls_state, context.tls_state);
            (*thread).task_id = context.task_id;
            (*thread).runtime = context.handle;
        }
    }

    /// Notes which turn of its scheduler's loop it is in, and what waits for it.
    ///
    /// # Safety
    /// As [`Waiting::is_known_park`].
    #[inline(always)]
    unsafe fn note_core(&self, context: &Found) {
        let at = context::core_state::<{ slot::SCHEDULER }>(context, self.process);
        // SAFETY: guaranteed by the caller.
        unsafe {
            (*self.thread).core = context.core;
            (*self.thread).tick = at as u32;
            (*self.thread).queued = (at >> 32) as u16;
        }
    }

    /// Whether it is in a park that is known by registers and context. Else its stack is walked.
    ///
    /// # Safety
    /// As [`Waiting::is_known_park`].
    #[inline(always)]
    unsafe fn is_park_of_context(&self) -> bool {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let tls_state = read_volatile(&raw const (*self.thread).tls_state);
            if let Some(park) = parks::pending_hit(self.thread)
                && (*park.park).tls_state == tls_state
                && parks::hit(self.thread, park)
            {
                return true;
            }
        }
        count(Counter::SwitchOutBlocked);
        false
    }

    /// Walks and numbers its stack; `None` where that is a park that was only to be checked.
    ///
    /// # Safety
    /// As [`Waiting::is_known_park`].
    #[inline(always)]
    unsafe fn walk(&self, regs: &Registers) -> Option<Walked> {
        let Waiting {
            process,
            thread,
            table,
            now,
            kind,
            ..
        } = *self;
        // SAFETY: guaranteed by the caller; live map values.
        unsafe {
            let noting = match parks::pending_hit(thread) {
                Some(park) => parks::frames(park),
                None => (*thread).remember,
            };
            let reading = Reading {
                begun: true,
                noting,
            };
            let state = unwind::walk_user::<{ slot::SCHEDULER }>(
                regs.ip, regs.sp, regs.bp, table, reading,
            )?;
            let frames = (*state).frames;
            count(Counter::Walks);
            add(Counter::Frames, frames.into());
            // Another wait may have other frames beyond the one at which the walk ended.
            let alone = number(now, regs.syscall, (*thread).tid, u64::MAX);
            let raw = (*state).outcome == walk::UNMAPPED
                && raw::unmapped(thread, regs, process, table, alone, now);
            if !raw && (*state).outcome != walk::COMPLETE {
                count_truncated((*state).outcome);
            }
            let tls_state = read_volatile(&raw const (*thread).tls_state);
            if let Some(park) = parks::pending_hit(thread)
                && ((*park.park).tls_state == ANY_TLS_STATE || (*park.park).tls_state == tls_state)
                && parks::verify(thread, park, (*state).noted)
            {
                return None;
            }
            let identity = kind << 16 | (*state).outcome << 8 | tls_state;
            let identity = epochs_hash(process, table) ^ u64::from(identity);
            // Workers of two runtimes wait with the same frames.
            let runtime = (*thread).runtime;
            let identity = identity ^ runtime.wrapping_mul(0x94d0_49bb_1331_11eb);
            let number = number((*state).hash, regs.syscall, (*thread).tgid, identity);
            let number = if raw { alone } else { number };
            if !raw {
                let copy = raw::Copy {
                    kind: KIND_RAW_STACK,
                    time: now,
                    stack: number,
                    table,
                };
                raw::shadow(thread, regs, state, &copy);
            }
            Some(Walked {
                number,
                frames,
                outcome: (*state).outcome,
                noted: (*state).noted,
                tls_state,
                runtime,
                stack_kind: kind,
                raw,
            })
        }
    }

    /// It is in a park, by its stack, which is `known`: remembers how to know it without a walk.
    ///
    /// # Safety
    /// As [`Waiting::is_known_park`].
    #[inline(always)]
    unsafe fn remember_park(&self, regs: &Registers, walked: &Walked, known: &Stack) {
        let thread = self.thread;
        // SAFETY: guaranteed by the caller.
        unsafe {
            (*thread).policy = POLICY_SUM_ONLY;
            // A second time: what the first was is told by now, or this would not be known.
            let proof = known.frames;
            if read_volatile(&raw const (*thread).remember) != proof || proof == 0 {
                (*thread).remember = proof;
            } else if walked.outcome == walk::COMPLETE {
                let noted = parks::Noted {
                    stack: walked.number,
                    hash: walked.noted,
                    tls_state: if known.policy == POLICY_SUM_ONLY {
                        ANY_TLS_STATE
                    } else {
                        walked.tls_state
                    },
                };
                parks::insert(thread, self.table, regs, noted);
            }
        }
    }
}

/// Walks the current thread's stack, numbers it, and sends it if it is new: that of a thread of
/// `process` which ends the wait of another one. Returns its number, or 0.
#[inline(always)]
pub(crate) fn take_waker(ctx: *mut c_void, process: Watched, now: u64) -> u64 {
    let regs = arch::of_current(arch::COPY_OF_TRACEPOINT);
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
        let kind = stack_kind::WAKER << 16 | outcome << 8 | tls_state::UNKNOWN;
        Walked {
            number: number(
                (*state).hash,
                regs.syscall,
                (*process.process).tgid,
                epochs_hash(process, table) ^ u64::from(kind),
            ),
            frames: (*state).frames,
            outcome,
            noted: 0,
            tls_state: tls_state::UNKNOWN,
            runtime: 0,
            stack_kind: stack_kind::WAKER,
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
        policy: POLICY_RECORD,
        reserved: 0,
        frames: 0,
    };
    if !walked.raw && STACKS.insert(walked.number, new, flags::NO_EXIST).is_err() {
        // Another CPU may have been first with the same stack; then it is sent.
        if STACKS.get_ptr(walked.number).is_none() {
            count(if walked.stack_kind == stack_kind::WAKER {
                Counter::WakerStackTableFull
            } else {
                Counter::StackTableFull
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
        (*record).tls_state = walked.tls_state;
        (*record).runtime = walked.runtime;
        (*record).stack_kind = walked.stack_kind;
        (*record).raw = walked.raw.into();
        (*record).table_version = table.table_version;
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
pub(crate) unsafe fn epochs_hash(process: Watched, table: Table) -> u64 {
    // SAFETY: guaranteed by the caller.
    let epoch = unsafe { (*process.process).address_epoch };
    (u64::from(table.exec_count) << 32 | u64::from(epoch)).wrapping_mul(0xd6e8_feb8_6659_fd93)
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
