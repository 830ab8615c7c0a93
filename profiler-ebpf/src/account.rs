//! The times: at every switch of a watched thread, one stretch of its life ends and another
//! begins.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_find_vma, bpf_get_current_task_btf};
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;
use core::sync::atomic::{Ordering, compiler_fence};
use profiler_common::counter::Counter;
use profiler_common::map::{
    AggregateKey, PHASE_BLOCKED, PHASE_NEW, PHASE_RUNNABLE, PHASE_RUNNING, POLICY_RECORD_SHORT,
    POLICY_SUM_ONLY, Thread,
};
use profiler_common::record::{STACK_BEFORE, stack_kind};

use crate::counters::count;
use crate::filter::{self, Task, Watched};
use crate::kernel_memory::read_u64;
use crate::{config, drivers, emit, interval, lives, objects, parks, stack, sums, threads};

/// `TASK_DEAD`: the thread's last switch; its memory map is gone by then.
pub(crate) const TASK_DEAD: u32 = 0x80;

/// Both halves of a context switch.
#[inline(always)]
pub(crate) fn sched_switch(ctx: &BtfTracePointContext) {
    let prev: Task = ctx.arg(1);
    let next: Task = ctx.arg(2);
    // SAFETY: tasks are the tracepoint's second and third argument.
    let (prev_tgid, next_tgid) = unsafe { (filter::tgid(prev), filter::tgid(next)) };
    let (out, back) = (filter::watched(prev_tgid), filter::watched(next_tgid));
    if out.is_none() && back.is_none() {
        return;
    }
    let mut clock = Clock {
        cut: u32::MAX,
        now: 0,
    };
    if let Some(process) = out {
        let leaving = Leaving {
            preempted: ctx.arg::<u32>(0) & 1 != 0,
            state: prev_state(ctx, prev),
        };
        switch_out(ctx, prev, process, leaving, &mut clock);
    }
    if let Some(process) = back {
        // SAFETY: the tracepoint's third argument.
        unsafe { switch_in(next, process, &clock) };
    }
}

/// The state in which `prev` leaves the CPU. Without the argument it is read from the task, which
/// may be waking by then (`TASK_WAKING`): a wait all the same.
#[inline(always)]
fn prev_state(ctx: &BtfTracePointContext, prev: Task) -> u32 {
    if config::has_prev_state() != 0 {
        return ctx.arg(3);
    }
    // SAFETY: `prev` is the tracepoint's argument, a field at an offset from BTF.
    unsafe { *prev.add(config::off_task_state() as usize).cast::<u32>() }
}

/// One time for both halves of a switch, as the scheduler has it: what we take is the next thread's.
struct Clock {
    /// The interval in which it was read.
    cut: u32,
    now: u64,
}

impl Clock {
    /// The time for an event of an interval, which is not before the interval's begin.
    #[inline(always)]
    fn read(&mut self, cut: u32) -> u64 {
        if cut != self.cut {
            self.cut = cut;
            self.now = interval::now();
        }
        self.now
    }
}

/// How a thread leaves the CPU.
#[derive(Clone, Copy)]
struct Leaving {
    preempted: bool,
    /// Its state as the scheduler has it.
    state: u32,
}

/// The entry of a thread, for an event that begins; and the event's interval. A thread that has none
/// was not seen to be born: it has been in `phase` since its process's recording began, or there
/// would have been a switch; unless it has its id since just now, or the recording is just beginning.
#[inline(always)]
fn entry(tid: u32, process: Watched, phase: u32, clock: &mut Clock) -> Option<(*mut Thread, u32)> {
    let thread = threads::find_or_claim(tid, process)?;
    // SAFETY: a live array value that only this thread's own events write now.
    unsafe {
        let cut = interval::begin(thread);
        if (*thread).phase == PHASE_NEW {
            let begun = (*process.process).start;
            let (start, phase) = if begun == 0 || lives::has_new_id(tid, process) {
                // Not a wait: nobody saw one begin.
                let phase = if phase == PHASE_RUNNING {
                    PHASE_RUNNING
                } else {
                    PHASE_RUNNABLE
                };
                (clock.read(cut), phase)
            } else {
                (begun, phase)
            };
            (*thread).times.first_seen = start;
            (*thread).since = start;
            (*thread).stack = STACK_BEFORE;
            compiler_fence(Ordering::SeqCst);
            (*thread).phase = phase;
        }
        // After that: at the cut it was what it has been all the time.
        interval::enter(thread, cut);
        Some((thread, cut))
    }
}

#[inline(always)]
fn switch_out(
    ctx: &BtfTracePointContext,
    prev: Task,
    process: Watched,
    leaving: Leaving,
    clock: &mut Clock,
) {
    let Leaving { preempted, state } = leaving;
    // SAFETY: `prev` is the tracepoint's argument.
    let tid = unsafe { filter::tid(prev) };
    let Some((thread, cut)) = entry(tid, process, PHASE_RUNNING, clock) else {
        if !preempted && state != 0 && state & TASK_DEAD == 0 {
            count(Counter::WaitOfNoThread);
        }
        return;
    };
    let now = clock.read(cut);
    // SAFETY: a live array value; the thread's own switches come one after another.
    unsafe {
        if (*thread).phase == PHASE_RUNNING {
            (*thread).times.running += now.saturating_sub((*thread).since);
            // A stretch that began with the recording began with no arrival.
            if (*thread).times.waits & (CLOCK_EVERY - 1) == 0
                && (*thread).since != (*thread).times.first_seen
            {
                learn_sched_clock_offset(prev, (*thread).since);
            }
        } else if let Some(arrival) = arrival(prev, (*thread).since, now) {
            recovered(tid, arrival, run_delay(prev));
            (*thread).times.running += now.saturating_sub(arrival);
            count(Counter::RecoveredSwitchIn);
        } else {
            // Which part of the stretch it ran is not known: it is in none of the sums.
            count(Counter::MissedSwitchIn);
        }
        (*thread).since = now;
        if state & TASK_DEAD != 0 && !preempted {
            if tid == (*process.process).tgid {
                lives::set_leader_ended(process, true);
            }
            parks::give_up(thread);
            emit::thread_end_at_switch(thread, prev, now);
            return;
        }
        if preempted || state == 0 {
            (*thread).phase = PHASE_RUNNABLE;
            count(Counter::SwitchOutRunnable);
            interval::end(thread);
            return;
        }
        // Before the walk, which takes microseconds: the wakeup may come on another CPU meanwhile.
        (*thread).wakeup = 0;
        (*thread).stack = 0;
        (*thread).task_id = 0;
        (*thread).tick = 0;
        (*thread).queued = 0;
        (*thread).core = 0;
        (*thread).run_delay = run_delay(prev);
        (*thread).park = 0;
        core::ptr::write_volatile(&raw mut (*thread).phase, PHASE_BLOCKED);
    }
    // SAFETY: `prev` is the tracepoint's argument.
    let kind = unsafe { kind_of_wait(prev, state) };
    stack::take(ctx.as_ptr(), prev, process, thread, now, kind);
    // SAFETY: a live array value.
    unsafe {
        if (*thread).policy != POLICY_SUM_ONLY {
            objects::take(thread, now);
        } else {
            (*thread).object = 0;
        }
        interval::end(thread);
    }
}

/// `__TASK_STOPPED` (`include/linux/sched.h`, as the next two).
const TASK_STOPPED: u32 = 0x4;
/// `__TASK_TRACED`.
const TASK_TRACED: u32 = 0x8;
/// `TASK_FROZEN`, since Linux 6.1.
const TASK_FROZEN: u32 = 0x8000;
/// `JOBCTL_TRAP_FREEZE` (`include/linux/sched/jobctl.h`): the freezer of cgroup v2 lets a thread
/// sleep as in any other wait.
const JOBCTL_TRAP_FREEZE: u64 = 1 << 23;

/// Whether a thread that leaves the CPU in `state` waits, or was stopped and by what: one of
/// [`stack_kind`].
///
/// # Safety
/// As [`filter::tid`].
#[inline(always)]
pub(crate) unsafe fn kind_of_wait(task: Task, state: u32) -> u32 {
    if state & TASK_TRACED != 0 {
        return stack_kind::STOPPED_BY_DEBUGGER;
    }
    if state & TASK_STOPPED != 0 {
        return stack_kind::STOPPED_BY_SIGNAL;
    }
    // SAFETY: a field of the task at an offset from BTF.
    let jobctl = unsafe { *task.add(config::off_task_jobctl() as usize).cast::<u64>() };
    if state & TASK_FROZEN != 0 || jobctl & JOBCTL_TRAP_FREEZE != 0 {
        return stack_kind::STOPPED_BY_FREEZER;
    }
    stack_kind::WAIT
}

/// How far the clock of our times is ahead of the scheduler's (wrapping), one value.
#[map]
static SCHED_CLOCK_OFFSET: Array<u64> = Array::with_max_entries(1, 0);

/// By how much, in nanoseconds, a computed arrival may miss the stretch that it lies in: the
/// scheduler takes its time a little before ours, and longer where the host interrupts us.
const CLOCK_SLACK: u64 = 1_000_000;

/// Of the surplus over the difference known so far, the part that is taken over with every
/// switch-in that is learned from, as a shift: the clocks drift apart by a few parts in a million.
const CLOCK_DRIFT: u32 = 7;

/// When the scheduler let the task run last, on its own clock; 0 where it does not say.
///
/// # Safety
/// As [`filter::tid`].
#[inline(always)]
unsafe fn last_arrival(task: Task) -> u64 {
    let offset = config::off_task_last_arrival();
    if offset == 0 {
        return 0;
    }
    // SAFETY: a field of the task at an offset from BTF.
    unsafe { *task.add(offset as usize).cast::<u64>() }
}

/// One switch-in in this many is learned from, a power of two.
const CLOCK_EVERY: u64 = 8;

/// Learns from a switch-in that was seen, at `since`, how the scheduler's clock and ours differ.
///
/// # Safety
/// As [`filter::tid`].
#[inline(always)]
unsafe fn learn_sched_clock_offset(task: Task, since: u64) {
    let Some(lead) = SCHED_CLOCK_OFFSET.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: guaranteed by the caller; a live array value, written by all CPUs with equal right.
    unsafe {
        let seen = since.wrapping_sub(last_arrival(task));
        let surplus = seen.wrapping_sub(*lead) as i64;
        // The least difference is the true one: every delay between the two clocks adds to it.
        let next = if *lead == 0 || surplus < 0 {
            seen
        } else {
            lead.read().wrapping_add(surplus as u64 >> CLOCK_DRIFT)
        };
        // Mostly it is what it was, and then all CPUs may keep it in their caches.
        if next != lead.read() {
            core::ptr::write_volatile(lead, next);
        }
    }
}

/// When a thread came to run whose switch-in was not seen. Some kernels keep switches of some
/// tasks from tracing; the scheduler notes the time all the same.
///
/// # Safety
/// As [`filter::tid`].
#[inline(always)]
unsafe fn arrival(task: Task, since: u64, now: u64) -> Option<u64> {
    // SAFETY: guaranteed by the caller.
    let arrival = unsafe { last_arrival(task) };
    let lead = *SCHED_CLOCK_OFFSET.get(0)?;
    if arrival == 0 || lead == 0 {
        return None;
    }
    let at = arrival.wrapping_add(lead);
    if at.wrapping_add(CLOCK_SLACK) < since || at > now.wrapping_add(CLOCK_SLACK) {
        return None;
    }
    Some(if at < since {
        since
    } else if at > now {
        now
    } else {
        at
    })
}

/// The second half of a context switch: `next` comes to run.
///
/// # Safety
/// As [`filter::tid`].
#[inline(always)]
unsafe fn switch_in(next: Task, process: Watched, clock: &Clock) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        switched_in(
            process.index,
            filter::tid(next),
            last_queued(next),
            clock.cut,
            clock.now,
        )
    };
}

/// As [`switch_in`]: the thread `tid`, which the scheduler has `queued` at that time by its own clock.
///
/// A global function, as [`crate::unwind`] has one: the verifier looks at it once, and not once for
/// each way in which another thread may have left the CPU just before.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn switched_in(process: u32, tid: u32, queued: u64, cut: u32, now: u64) -> u32 {
    let Some(process) = filter::at(process) else {
        return 0;
    };
    let mut clock = Clock { cut, now };
    let Some((thread, cut)) = entry(tid, process, PHASE_BLOCKED, &mut clock) else {
        return 0;
    };
    let now = clock.read(cut);
    // SAFETY: a live array value; the thread's own switches come one after another.
    unsafe {
        let since = (*thread).since;
        arrive(thread, tid, now, || queued_at(queued, since, now));
        (*thread).since = now;
        (*thread).phase = PHASE_RUNNING;
        interval::end(thread);
    }
    0
}

/// When the scheduler put a task that comes to run into a CPU's queue, on its own clock; 0 where it
/// does not say. It forgets it after this tracepoint.
///
/// # Safety
/// As [`filter::tid`].
#[inline(always)]
unsafe fn last_queued(task: Task) -> u64 {
    let offset = config::off_task_last_queued();
    if offset == 0 {
        return 0;
    }
    // SAFETY: a field of the task at an offset from BTF.
    unsafe { *task.add(offset as usize).cast::<u64>() }
}

/// When a thread that comes to run at `now` began to want a CPU, by the scheduler, which has
/// `queued` it at that time. Too early where it moved the thread to another CPU's queue in its sleep
/// (since Linux 6.12, `sched_delayed` in the kernel's `kernel/sched/fair.c`); so only for want of
/// the wakeup.
#[inline(always)]
fn queued_at(queued: u64, since: u64, now: u64) -> Option<u64> {
    let lead = *SCHED_CLOCK_OFFSET.get(0)?;
    let at = queued.wrapping_add(lead);
    if queued == 0 || lead == 0 || at < since || at > now {
        return None;
    }
    count(Counter::RecoveredWakeup);
    Some(at)
}

/// For how long the thread has waited for CPUs in its life, by the scheduler; 0 where it does not
/// say.
///
/// # Safety
/// As [`filter::tid`].
#[inline(always)]
unsafe fn run_delay(task: Task) -> u64 {
    let offset = config::off_task_run_delay();
    if offset == 0 {
        return 0;
    }
    // SAFETY: a field of the task at an offset from BTF.
    unsafe { *task.add(offset as usize).cast::<u64>() }
}

/// Ends the stretch off-CPU of the thread `tid`, whose switch-in at `arrival` was not seen, and which
/// has waited for CPUs for `run_delay` in its life. A global function as [`switched_in`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn recovered(tid: u32, arrival: u64, run_delay: u64) -> u32 {
    if let Some(thread) = threads::find(tid) {
        // SAFETY: a live array value; the thread's own switches come one after another.
        unsafe { arrive(thread, tid, arrival, || delayed(run_delay, thread, arrival)) };
    }
    0
}

/// When a thread whose switch-in at `arrival` was not seen began to want a CPU: who keeps that from
/// us keeps its wakeup from us as well.
///
/// # Safety
/// `thread` is a live entry.
#[inline(always)]
unsafe fn delayed(run_delay: u64, thread: *const Thread, arrival: u64) -> Option<u64> {
    // SAFETY: guaranteed by the caller.
    let (since, before) = unsafe { ((*thread).since, (*thread).run_delay) };
    let delay = run_delay.wrapping_sub(before);
    if config::off_task_run_delay() == 0 || delay > arrival.wrapping_sub(since) {
        return None;
    }
    count(Counter::RecoveredWakeup);
    Some(arrival.wrapping_sub(delay))
}

/// Ends the stretch off-CPU of a thread that came to run at `now`. Where no wakeup was seen,
/// `queued` may tell when it was.
///
/// # Safety
/// `thread` is a live entry whose switches come one after another.
#[inline(always)]
unsafe fn arrive(thread: *mut Thread, tid: u32, now: u64, queued: impl FnOnce() -> Option<u64>) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let since = (*thread).since;
        if (*thread).phase == PHASE_BLOCKED {
            drivers::leave(thread, now);
            // A wakeup that raced with the switch-out may stand before it: then none was seen.
            let wakeup = (*thread).wakeup;
            let woken = if wakeup >= since && wakeup <= now {
                wakeup
            } else {
                queued().unwrap_or(now)
            };
            let blocked = woken.saturating_sub(since);
            let runqueue = now.saturating_sub(woken);
            (*thread).times.blocked += blocked;
            (*thread).times.runnable += runqueue;
            (*thread).times.waits += 1;
            if let Some(park) = parks::sums(thread) {
                (*park).add(blocked, runqueue);
            } else {
                let waits = AggregateKey {
                    stack: (*thread).stack,
                    object: (*thread).object,
                    tid,
                    tgid: (*thread).tgid,
                };
                if let Some(sums) = sums::of(waits, (*thread).cut) {
                    sums::add(sums, blocked, runqueue);
                }
                let is_long = blocked >= config::min_block_ns();
                let policy = (*thread).policy;
                if is_long && policy != POLICY_SUM_ONLY || policy == POLICY_RECORD_SHORT {
                    emit::wait(thread, now, woken);
                }
            }
        } else if (*thread).phase == PHASE_RUNNABLE {
            (*thread).times.runnable += now.saturating_sub(since);
        } else {
            count(Counter::MissedSwitchOut);
        }
    }
}

/// A page fault in user code: whoever waits for the page is to know which one.
#[inline(always)]
pub(crate) fn page_fault_user(ctx: &BtfTracePointContext) {
    let id = bpf_get_current_pid_tgid();
    if filter::watched((id >> 32) as u32).is_none() {
        return;
    }
    let Some(thread) = threads::find(id as u32) else {
        return;
    };
    // SAFETY: a live array value, of the current thread.
    unsafe {
        let (address, mut file) = (ctx.arg(0), 0u64);
        bpf_find_vma(
            bpf_get_current_task_btf(),
            address,
            file_of_area as *mut c_void,
            (&raw mut file).cast(),
            0,
        );
        (*thread).fault = address;
        (*thread).fault_file = file;
    }
}

/// Called back with the area of memory around an address; the program's context is the file.
#[inline(never)]
extern "C" fn file_of_area(_: *mut c_void, area: *const u8, file: *mut u64) -> i64 {
    // SAFETY: the kernel calls with a live area, and with the context that it was given.
    unsafe { *file = read_u64(area as u64 + config::area_file()) };
    0
}
