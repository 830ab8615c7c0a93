//! Stacks of threads that do not wait: at the return from a long system call, at a panic.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};
use profiler_common::counter::Counter;
use profiler_common::map::{POLICY_RECORD, Stack};

use crate::arch::{self, Registers};
use crate::counters::count;
use crate::emit::{KernelFrames, MESSAGE};
use crate::filter::{self, Watched};
use crate::stack::STACKS;
use crate::unwind::Reading;
use crate::{context, emit, flags, stack, unwind};

/// The current thread's stack.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    /// Its number, or 0 where there was no room for it.
    pub(crate) number: u64,
    /// How the walk ended.
    pub(crate) outcome: u32,
    /// Id of the task being polled, or 0.
    pub(crate) task_id: u64,
}

/// Walks the current thread's stack from `regs`, numbers it, and sends it if it is new. `of` says
/// whose it is, and `SLOT` must be the calling program's own: what interrupts it may walk too.
#[inline(always)]
pub(crate) fn take<const SLOT: u32>(
    ctx: *mut c_void,
    process: Watched,
    regs: &Registers,
    stack_kind: u32,
    now: u64,
) -> Option<Taken> {
    let fs = arch::thread_pointer_of_current();
    let context = context::at_fs::<SLOT>(fs, process);
    let table = filter::table(process);
    let state = unwind::walk_user::<SLOT>(regs.ip, regs.sp, regs.bp, table, Reading::ANEW)?;
    let message = MESSAGE.get_ptr_mut(SLOT)?;
    // SAFETY: live map values.
    unsafe {
        let (frames, outcome) = ((*state).frames, (*state).outcome);
        let record = &raw mut (*message).record;
        // From memory: what the verifier knows of a value it would follow through all that comes
        // after, once for each value.
        write_volatile(&raw mut (*record).tls_state, context.tls_state);
        let tls_state = read_volatile(&raw const (*record).tls_state);
        let kind = stack_kind << 16 | outcome << 8 | tls_state;
        let kind = stack::epochs_hash(process, table) ^ u64::from(kind);
        let tgid = (*process.process).tgid;
        let number = stack::number((*state).hash, regs.syscall, tgid, kind);
        let taken = Taken {
            number,
            outcome,
            task_id: context.task_id,
        };
        if STACKS.get_ptr(number).is_some() {
            return Some(taken);
        }
        let new = Stack {
            policy: POLICY_RECORD,
            reserved: 0,
            frames: 0,
        };
        if STACKS.insert(number, new, flags::NO_EXIST).is_err() {
            // Another CPU may have been first with the same stack; then it is sent.
            if STACKS.get_ptr(number).is_some() {
                return Some(taken);
            }
            count(Counter::CallStackTableFull);
            return Some(Taken { number: 0, ..taken });
        }
        emit::prepare(message, now);
        (*record).stack = number;
        (*record).syscall = regs.syscall;
        (*record).args = regs.args;
        (*record).runtime = 0;
        (*record).walk = outcome;
        (*record).stack_kind = stack_kind;
        (*record).raw = 0;
        (*record).table_version = table.table_version;
        if !emit::new_stack(ctx, message, frames, KernelFrames::Without) {
            count(Counter::RingFullStack);
            // Forgotten, so that it is sent again when it comes again.
            let _ = STACKS.remove(number);
        }
        Some(taken)
    }
}
