//! Where the lives of threads begin and end: at forks, at execs, and where nobody has seen the end.

use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::counter::Counter;
use profiler_common::map::{PHASE_RUNNABLE, PHASE_RUNNING, Thread};
use profiler_common::record::STACK_BEFORE;

use crate::counters::count;
use crate::filter::{self, PROCESS_COUNTERS, Task, Watched};
use crate::interval::now;
use crate::{children, emit, family, interval, parks, threads};

/// Whether a thread without an entry may have its id since just now, by an exec.
///
/// A thread that executes a program and is not its process's first one takes over the id of that,
/// which has ended. It may switch under it before the tracepoint tells of the exec. The first one
/// gets the other id in exchange, and may have its last switch still to come.
#[inline(always)]
pub(crate) fn has_new_id(tid: u32, process: Watched) -> bool {
    let Some(life) = PROCESS_COUNTERS.get(process.index) else {
        return false;
    };
    // SAFETY: a live array value.
    let (tgid, exec_count) = unsafe { ((*process.process).tgid, (*process.process).exec_count) };
    if tid == tgid {
        life.leader_ended != 0
    } else {
        life.exec_count != exec_count
    }
}

/// Notes whether a process's first thread has ended while others go on.
#[inline(always)]
pub(crate) fn set_leader_ended(process: Watched, ended: bool) {
    if let Some(life) = PROCESS_COUNTERS.get_ptr_mut(process.index) {
        // SAFETY: a live array value; of a process at most one thread has this id.
        unsafe { (*life).leader_ended = ended.into() };
    }
}

/// Begins the life of a thread that has no entry, in `phase`.
#[inline(always)]
fn begin_life(tid: u32, process: Watched, phase: u32) {
    let Some(thread) = threads::find_or_claim(tid, process) else {
        return;
    };
    // SAFETY: a live array value that only this thread's own events write now.
    unsafe {
        // Before anything else: at the cut it was not there.
        let cut = interval::begin(thread);
        interval::enter(thread, cut);
        let now = now();
        (*thread).stack = STACK_BEFORE;
        (*thread).times.first_seen = now;
        (*thread).since = now;
        (*thread).phase = phase;
        interval::end(thread);
    }
}

/// Ends the life of a thread whose last switch was not seen: its entry is left to userspace, with
/// what is known of it.
///
/// # Safety
/// `thread` is a live entry, and its thread makes no more switches.
#[inline(always)]
unsafe fn end_unseen(thread: *mut Thread) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let cut = interval::begin(thread);
        interval::enter(thread, cut);
        count(Counter::MissedSwitchOut);
        parks::give_up(thread);
        threads::leave(thread);
    }
}

/// A new thread of a watched process begins its life wanting a CPU, and so does a new process,
/// where its parent is followed.
#[inline(always)]
pub(crate) fn sched_process_fork(ctx: &BtfTracePointContext) {
    let child: Task = ctx.arg(1);
    // SAFETY: the tracepoint's second argument.
    let (tgid, tid) = unsafe { (filter::tgid(child), filter::tid(child)) };
    let now = now();
    let process = if tid == tgid {
        // SAFETY: the tracepoint's first argument.
        family::adopt(unsafe { filter::tgid(ctx.arg(0)) }, tgid, now)
    } else {
        filter::watched(tgid)
    };
    let Some(process) = process else {
        return;
    };
    if let Some(leftover) = threads::find(tid) {
        // SAFETY: a live entry of an earlier thread: this one has not run yet.
        unsafe { end_unseen(leftover) };
    }
    begin_life(tid, process, PHASE_RUNNABLE);
}

/// An exec: the mappings are gone, and so is every thread but the one that called it.
#[inline(always)]
pub(crate) fn sched_process_exec(ctx: &BtfTracePointContext) {
    let task: Task = ctx.arg(0);
    let old_tid: u32 = ctx.arg(1);
    // SAFETY: the tracepoint's first argument.
    let (tgid, tid) = unsafe { (filter::tgid(task), filter::tid(task)) };
    children::exec(task, now());
    let Some(process) = filter::watched(tgid) else {
        return;
    };
    if let Some(life) = PROCESS_COUNTERS.get_ptr_mut(process.index) {
        // SAFETY: a live array value, which only events of this process write: the table is void
        // until userspace has read the new mappings.
        unsafe { (*life).exec_count = (*life).exec_count.wrapping_add(1) };
    }
    if old_tid != tid {
        take_over(task, process, old_tid);
    }
    emit::exec(tgid, tid, now());
}

/// A thread other than the first one has executed a program, and has that one's id now: its life
/// under the old one ends where that under the new one has begun.
#[inline(always)]
fn take_over(task: Task, process: Watched, old_tid: u32) {
    // SAFETY: the tracepoint's first argument.
    let tid = unsafe { filter::tid(task) };
    set_leader_ended(process, false);
    let mut end = now();
    // It has one already if it has switched since it has the id.
    let new = threads::find(tid);
    if let Some(new) = new {
        // SAFETY: a live entry.
        end = unsafe { (*new).times.first_seen };
    }
    if let Some(old) = threads::find(old_tid) {
        // SAFETY: a live entry whose id no thread has any more.
        unsafe {
            let cut = interval::begin(old);
            interval::enter(old, cut);
            // The first thread's own entry, where its end was not seen, is older than that.
            if end < (*old).since {
                end = now();
            }
            if (*old).phase == PHASE_RUNNING {
                (*old).times.running += end.saturating_sub((*old).since);
            }
            (*old).since = end;
            parks::give_up(old);
            emit::thread_end_at_exec(old, task, end);
        }
    }
    if new.is_none() {
        begin_life(tid, process, PHASE_RUNNING);
    }
}
