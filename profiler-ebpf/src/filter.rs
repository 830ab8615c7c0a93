//! Is this one of the watched processes? Asked at every switch of the whole system.

use crate::config;
use crate::maps::{FILTER, PROCESSES};
use profiler_common::map::{FILTER_PROBES, FILTER_SIZE, Process};

/// The kernel's `task_struct`, as bytes: fields lie at offsets that userspace took from BTF.
pub(crate) type Task = *const u8;

/// Thread id of a task.
///
/// # Safety
/// `task` is a task pointer that the verifier knows as such (a tracepoint's argument).
#[inline(always)]
pub(crate) unsafe fn tid(task: Task) -> u32 {
    // SAFETY: the verifier allows reading at a constant offset within a task_struct.
    unsafe { *task.add(config::off_task_pid() as usize).cast::<u32>() }
}

/// Process id of a task.
///
/// # Safety
/// As [`tid`].
#[inline(always)]
pub(crate) unsafe fn tgid(task: Task) -> u32 {
    // SAFETY: as in `tid`.
    unsafe { *task.add(config::off_task_tgid() as usize).cast::<u32>() }
}

/// A watched process and its index.
#[derive(Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) index: u32,
    pub(crate) process: *const Process,
}

/// Finds the entry of a process, if it is watched.
#[inline(always)]
pub(crate) fn watched(tgid: u32) -> Option<Watched> {
    for probe in 0..FILTER_PROBES {
        let index = *FILTER.get(tgid.wrapping_add(probe) & (FILTER_SIZE as u32 - 1))?;
        if index == 0 {
            return None;
        }
        let index = index - 1;
        let process = PROCESSES.get_ptr(index)?;
        // SAFETY: a live array value.
        if unsafe { (*process).tgid } == tgid {
            return Some(Watched { index, process });
        }
    }
    None
}
