//! Is this one of the watched processes? Asked at every switch of the whole system.

use crate::config;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use profiler_common::map::{FILTER_PROBES, FILTER_SIZE, MAX_PROCESSES, Process, ProcessCounters};

/// Process id, by its low bits, to the index of its entry in [`PROCESSES`] plus one.
#[map]
pub(crate) static FILTER: Array<u32> = Array::with_max_entries(FILTER_SIZE as u32, 0);

/// The processes, and behind them one that there is not, for freed entries of the filter.
#[map]
pub(crate) static PROCESSES: Array<Process> = Array::with_max_entries(MAX_PROCESSES as u32 + 1, 0);

#[map]
pub(crate) static PROCESS_COUNTERS: Array<ProcessCounters> =
    Array::with_max_entries(MAX_PROCESSES as u32, 0);

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

/// What the kernel side may walk by.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    /// Its number.
    pub(crate) table: u32,
    /// Its entries; 0 where there is none.
    pub(crate) mappings: u32,
    /// Its table_version, or 0.
    pub(crate) table_version: u32,
    /// Execs of the process so far.
    pub(crate) exec_count: u32,
}

/// The mapping table of a process; an empty one from an exec until userspace has read the new
/// mappings.
#[inline(always)]
pub(crate) fn table(process: Watched) -> Table {
    let exec_count = PROCESS_COUNTERS
        .get(process.index)
        .map_or(0, |life| life.exec_count);
    let process = process.process;
    // SAFETY: a live array value.
    unsafe {
        let valid = (*process).exec_count == exec_count;
        Table {
            table: (*process).table,
            mappings: if valid { (*process).mappings } else { 0 },
            table_version: if valid { (*process).table_version } else { 0 },
            exec_count,
        }
    }
}

/// The process whose entry has this index.
#[inline(always)]
pub(crate) fn at(index: u32) -> Option<Watched> {
    let process = PROCESSES.get_ptr(index)?;
    Some(Watched { index, process })
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
