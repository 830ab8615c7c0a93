//! tokio's thread-local state: what the thread is to its runtime, without a look at its stack.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use core::ffi::c_void;
use profiler_common::context::{
    CORE_PARK, LAYOUT_A, LAYOUT_B, Layout, RUNTIME_CURRENT_THREAD, RUNTIME_MULTI_THREAD,
    RUNTIME_NONE, SCHEDULER_MULTI_THREAD, WORKER_CORE, WORKER_CORE_C, layout, place,
};
use profiler_common::record::NO_TICK;

use crate::config;
use crate::filter::{self, Task, Watched};

/// What was read.
#[derive(Clone, Copy)]
pub(crate) struct Context {
    /// One of [`place`].
    pub(crate) place: u32,
    /// Id of the task being polled, or 0.
    pub(crate) task_id: u64,
    /// The core of the worker that polls, or 0.
    pub(crate) core: u64,
}

const UNKNOWN: Context = Context {
    place: place::UNKNOWN,
    task_id: 0,
    core: 0,
};

/// Words of the context.
type Words = [u64; layout::BYTES / 8];

#[inline(always)]
fn byte(words: &Words, at: usize) -> u8 {
    (words[at / 8] >> (at % 8 * 8)) as u8
}

/// A word of the current task's memory; 0 where it cannot be read.
#[inline(always)]
fn read(at: u64) -> u64 {
    let mut word = 0u64;
    // SAFETY: eight bytes go into `word`, which stays 0 where the helper fails.
    unsafe {
        bpf_probe_read_user((&raw mut word).cast(), 8, at as *const c_void);
    }
    word
}

/// Reads the current task's context.
///
/// # Safety
/// `task` is the current task, a tracepoint's argument.
#[inline(always)]
pub(crate) unsafe fn of_current(task: Task, process: Watched) -> Context {
    // SAFETY: by the caller's word, a field of the task at an offset from BTF.
    let fs = unsafe { *task.add(config::off_task_fsbase() as usize).cast::<u64>() };
    at_fs(fs, process)
}

/// Reads the current task's context, by its FS base.
#[inline(always)]
pub(crate) fn at_fs(fs: u64, process: Watched) -> Context {
    if filter::table(process).generation == 0 {
        // Another program is executed, and its context may be elsewhere.
        return UNKNOWN;
    }
    // SAFETY: a live array value.
    let (kind, at) = unsafe {
        (
            (*process.process).layout,
            fs.wrapping_sub((*process.process).context_below_fs),
        )
    };
    if kind == layout::A {
        of(at, LAYOUT_A)
    } else if kind == layout::B {
        of(at, LAYOUT_B)
    } else if kind == layout::C {
        of_variables(fs, at, process)
    } else {
        UNKNOWN
    }
}

#[inline(always)]
fn of(at: u64, fields: Layout) -> Context {
    let mut words: Words = [0; layout::BYTES / 8];
    // SAFETY: that many bytes go into `words`.
    let failed = unsafe {
        bpf_probe_read_user(
            words.as_mut_ptr().cast(),
            layout::BYTES as u32,
            at as *const c_void,
        )
    };
    if failed != 0 {
        return UNKNOWN;
    }
    let runtime = byte(&words, fields.runtime);
    let polls = byte(&words, fields.budget) == 1;
    let scheduler = words[fields.scheduler / 8];
    let mut core = 0;
    let place = if runtime == RUNTIME_NONE {
        place::OUTSIDE
    } else if runtime == RUNTIME_CURRENT_THREAD {
        if polls {
            place::CURRENT_THREAD_POLL
        } else {
            place::CURRENT_THREAD_PARKED
        }
    } else if runtime != RUNTIME_MULTI_THREAD {
        place::UNKNOWN
    } else if scheduler == 0 {
        if polls {
            place::BLOCK_ON_POLL
        } else {
            place::BLOCK_ON_PARKED
        }
    } else {
        worker(scheduler, polls, &mut core)
    };
    Context {
        place,
        task_id: words[fields.task_id / 8],
        core,
    }
}

/// The state by the separate variables of tokio 1.20, which knows no task ids.
#[inline(always)]
fn of_variables(fs: u64, entered: u64, process: Watched) -> Context {
    // SAFETY: a live array value.
    let (worker, current_thread, budget) = unsafe {
        let process = process.process;
        (
            read(fs.wrapping_sub((*process).worker_below_fs.into())),
            read(fs.wrapping_sub((*process).current_thread_below_fs.into())),
            read(fs.wrapping_sub((*process).budget_below_fs.into())),
        )
    };
    let polls = budget as u8 == 1;
    let mut core = 0;
    let place = if read(entered) as u8 == RUNTIME_NONE {
        place::OUTSIDE
    } else if worker != 0 {
        by_core(read(worker.wrapping_add(WORKER_CORE_C)), polls, &mut core)
    } else if current_thread != 0 {
        if polls {
            place::CURRENT_THREAD_POLL
        } else {
            place::CURRENT_THREAD_PARKED
        }
    } else if polls {
        place::BLOCK_ON_POLL
    } else {
        place::BLOCK_ON_PARKED
    };
    Context {
        place,
        task_id: 0,
        core,
    }
}

#[inline(always)]
fn worker(scheduler: u64, polls: bool, polling_core: &mut u64) -> u32 {
    // One read for the tag and the pointer: what a read costs is not its length.
    let mut words = [0u64; WORKER_CORE as usize / 8 + 1];
    // SAFETY: that many bytes go into `words`, which stay 0 where the helper fails.
    unsafe {
        bpf_probe_read_user(
            words.as_mut_ptr().cast(),
            size_of_val(&words) as u32,
            scheduler as *const c_void,
        );
    }
    if words[0] != SCHEDULER_MULTI_THREAD {
        return place::UNKNOWN;
    }
    by_core(words[WORKER_CORE as usize / 8], polls, polling_core)
}

/// What a worker does, by its core. A budget tells a poll, in which no worker parks; that there is
/// none tells nothing, as `task::unconstrained` polls without one.
#[inline(always)]
fn by_core(core: u64, polls: bool, polling_core: &mut u64) -> u32 {
    if core == 0 {
        if polls {
            place::CORELESS_POLL
        } else {
            place::CORELESS
        }
    } else if !polls && read(core.wrapping_add(CORE_PARK)) == 0 {
        place::WORKER_PARKED
    } else {
        *polling_core = core;
        place::WORKER_POLL
    }
}

/// The tick of a core that polls, or [`NO_TICK`].
#[inline(always)]
pub(crate) fn tick(core: u64, process: Watched) -> u64 {
    // SAFETY: a live array value.
    let offset = unsafe { (*process.process).tick };
    if core == 0 || offset == 0 {
        return NO_TICK;
    }
    let mut tick = 0u32;
    // SAFETY: four bytes go into `tick`.
    let failed = unsafe {
        bpf_probe_read_user(
            (&raw mut tick).cast(),
            4,
            core.wrapping_add(offset.into()) as *const c_void,
        )
    };
    if failed == 0 { tick.into() } else { NO_TICK }
}
