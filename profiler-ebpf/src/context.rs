//! tokio's thread-local state: what the thread is to its runtime, without a look at its stack.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use core::ffi::c_void;
use profiler_common::context::{
    self, Found, LAYOUT_A, LAYOUT_B, Layout, Memory, RUNTIME_NONE, WORKER_CORE_C, Words, layout,
    tls_state,
};
use profiler_common::map::Process;
use profiler_common::record::NO_TICK;

use crate::arch;
use crate::filter::{self, Task, Watched};

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
}

/// A word of the current task's memory; 0 where it cannot be read.
#[inline(always)]
fn read(at: u64) -> u64 {
    let [word] = Own.words(at);
    word
}

/// Reads the current task's context.
///
/// # Safety
/// `task` is the current task, a tracepoint's argument.
#[inline(always)]
pub(crate) unsafe fn of_current(task: Task, process: Watched) -> Found {
    // SAFETY: guaranteed by the caller.
    let fs = unsafe { arch::thread_pointer(task) };
    at_fs(fs, process)
}

/// Reads the current task's context, by its FS base.
#[inline(always)]
pub(crate) fn at_fs(fs: u64, process: Watched) -> Found {
    if filter::table(process).table_version == 0 {
        // Another program is executed, and its context may be elsewhere.
        return Found::UNKNOWN;
    }
    let mut found = Found::UNKNOWN;
    by_layout(fs, process.process, &mut found);
    found
}

/// Apart, as what it keeps on the stack would add to its callers': 512 bytes are all there is for a
/// chain of calls.
#[inline(never)]
fn by_layout(fs: u64, process: *const Process, found: &mut Found) {
    // SAFETY: a live array value.
    let (kind, at) = unsafe {
        (
            (*process).layout,
            fs.wrapping_sub((*process).context_below_fs),
        )
    };
    if kind == layout::A {
        *found = of(at, LAYOUT_A);
    } else if kind == layout::B {
        *found = of(at, LAYOUT_B);
    } else if kind == layout::C {
        *found = of_variables(fs, at, process);
    }
}

#[inline(always)]
fn of(at: u64, fields: Layout) -> Found {
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
        return Found::UNKNOWN;
    }
    context::found(&words, fields, &Own)
}

/// The state by the separate variables of tokio 1.20, which knows no task ids.
#[inline(always)]
fn of_variables(fs: u64, entered: u64, process: *const Process) -> Found {
    // SAFETY: a live array value.
    let (worker, current_thread, budget) = unsafe {
        (
            read(fs.wrapping_sub((*process).worker_below_fs.into())),
            read(fs.wrapping_sub((*process).current_thread_below_fs.into())),
            read(fs.wrapping_sub((*process).budget_below_fs.into())),
        )
    };
    let polls = budget as u8 == 1;
    let mut core = 0;
    let tls_state = if read(entered) as u8 == RUNTIME_NONE {
        tls_state::OUTSIDE
    } else if worker != 0 {
        context::by_core(
            read(worker.wrapping_add(WORKER_CORE_C)),
            polls,
            &Own,
            &mut core,
        )
    } else if current_thread != 0 {
        if polls {
            tls_state::CURRENT_THREAD_POLL
        } else {
            tls_state::CURRENT_THREAD_PARKED
        }
    } else if polls {
        tls_state::BLOCK_ON_POLL
    } else {
        tls_state::BLOCK_ON_PARKED
    };
    Found {
        tls_state,
        task_id: 0,
        core,
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
