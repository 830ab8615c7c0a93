//! Processes that a watched one forks.

use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use aya_log_ebpf::warn;
use profiler_common::counter::Counter;
use profiler_common::map::{
    FILTER_FREED, FILTER_PROBES, FILTER_SIZE, FILTER_SLOT, MAX_PROCESSES, NO_PROCESS, Process,
};
use profiler_common::record::{ForkRecord, Header, KIND_FORK};

use crate::counters::{count, count_first};
use crate::filter::{self, FILTER, PROCESS_COUNTERS, PROCESSES, Watched};
use crate::{emit, flags};

/// What is taken of [`PROCESSES`] (by index) and of [`FILTER`] (by place, from `FILTER_SLOT` on),
/// and by which process. It is asked only where something is to be taken.
#[map]
static SLOT_OWNERS: HashMap<u32, u32> = HashMap::with_max_entries(2 * MAX_PROCESSES as u32, 0);

/// Where the search for a free entry of [`PROCESSES`] begins.
#[map]
static NEXT_PROCESS: Array<u32> = Array::with_max_entries(1, 0);

/// Makes something ours: of all who race for it, one succeeds.
#[inline(always)]
fn make_ours(what: u32, tgid: u32) -> bool {
    SLOT_OWNERS.insert(&what, &tgid, flags::NO_EXIST).is_ok()
}

/// Watches the new process `tgid`, if `parent` is watched and its children are to be. Its memory
/// is a copy of its parent's, so that it begins with the same mapping table.
#[inline(always)]
pub(crate) fn adopt(parent: u32, tgid: u32, now: u64) -> Option<Watched> {
    if let Some(old) = filter::watched(tgid) {
        // A process of this id has ended: the new one is not it.
        let old = PROCESSES.get_ptr_mut(old.index)?;
        // SAFETY: a live array value.
        unsafe { core::ptr::write_volatile(&raw mut (*old).tgid, NO_PROCESS) };
    }
    let from = filter::watched(parent)?;
    // SAFETY: a live array value.
    if unsafe { (*from.process).follow } == 0 {
        return None;
    }
    let process = claim(tgid)
        .filter(|to| copy(from, to.index, now).is_some())
        .filter(|to| enter(to.index, tgid).is_some());
    let Some(process) = process else {
        if count_first(Counter::ProcessTableFull) {
            warn!(
                (),
                "all {} places for processes are taken: process {} is not recorded",
                MAX_PROCESSES,
                tgid
            );
        }
        return None;
    };
    let record = ForkRecord {
        header: Header {
            kind: KIND_FORK,
            len: size_of::<ForkRecord>() as u32,
            tgid,
            tid: tgid,
        },
        time: now,
        parent,
        index: process.index,
    };
    if !emit::send_with(&record, BPF_RB_FORCE_WAKEUP) {
        // Nobody would ask for what is noted of it, nor ever give its entry back.
        leave(process.index, tgid);
        count(Counter::RingFullFork);
        return None;
    }
    Some(process)
}

/// Takes a free entry.
#[inline(always)]
fn claim(tgid: u32) -> Option<Watched> {
    let next = NEXT_PROCESS.get_ptr_mut(0)?;
    // SAFETY: a live array value; a hint, whoever writes it last.
    let mut index = unsafe { *next };
    for _ in 0..MAX_PROCESSES {
        index = index.wrapping_add(1) & (MAX_PROCESSES as u32 - 1);
        let process = PROCESSES.get_ptr_mut(index)?;
        // SAFETY: a live array value. No lookup finds the entry before `enter`.
        unsafe {
            if (*process).tgid == 0 && make_ours(index, tgid) {
                (*process).tgid = tgid;
                *next = index;
                return Some(Watched { index, process });
            }
        }
    }
    None
}

/// Fills the entry `to` with what the parent has.
#[inline(always)]
fn copy(from: Watched, to: u32, now: u64) -> Option<()> {
    let parent: *const Process = from.process;
    let child = PROCESSES.get_ptr_mut(to)?;
    let life = PROCESS_COUNTERS.get_ptr_mut(to)?;
    let exec_count = PROCESS_COUNTERS.get(from.index)?.exec_count;
    // SAFETY: live array values; the entry is ours alone until `enter`.
    unsafe {
        (*life).exec_count = exec_count;
        (*life).raw_table_version = 0;
        (*life).raw = 0;
        (*life).leader_ended = 0;
        *child = Process {
            tgid: (*child).tgid,
            start: now,
            ..*parent
        };
    }
    Some(())
}

/// Enters the process into the filter, or gives its entry back.
#[inline(always)]
fn enter(index: u32, tgid: u32) -> Option<()> {
    for probe in 0..FILTER_PROBES {
        let place = tgid.wrapping_add(probe) & (FILTER_SIZE as u32 - 1);
        let entry = FILTER.get_ptr_mut(place)?;
        // SAFETY: a live array value.
        unsafe {
            let free = *entry == 0 || *entry == FILTER_FREED;
            if free && make_ours(FILTER_SLOT + place, tgid) {
                core::ptr::write_volatile(entry, index + 1);
                return Some(());
            }
        }
    }
    give_back(index);
    None
}

/// Takes a process out of the filter, and gives its entry back.
#[inline(always)]
fn leave(index: u32, tgid: u32) {
    for probe in 0..FILTER_PROBES {
        let place = tgid.wrapping_add(probe) & (FILTER_SIZE as u32 - 1);
        let Some(entry) = FILTER.get_ptr_mut(place) else {
            return;
        };
        // SAFETY: a live array value; the one that leads to our entry is ours.
        unsafe {
            if *entry != index + 1 {
                continue;
            }
            core::ptr::write_volatile(entry, FILTER_FREED);
        }
        let _ = SLOT_OWNERS.remove(&(FILTER_SLOT + place));
        break;
    }
    give_back(index);
}

/// Gives an entry of [`PROCESSES`] back.
#[inline(always)]
fn give_back(index: u32) {
    let Some(process) = PROCESSES.get_ptr_mut(index) else {
        return;
    };
    // SAFETY: a live array value, which is ours.
    unsafe { core::ptr::write_volatile(&raw mut (*process).tgid, 0) };
    let _ = SLOT_OWNERS.remove(&index);
}
