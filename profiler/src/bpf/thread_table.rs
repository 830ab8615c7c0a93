//! The thread table, read through memory: no call for a thread, none for all of them.

use super::cuts::Cut;
use super::mapped::{Mapped, shared_u32};
use crate::units::{Pid, Tid, Timestamp};
use anyhow::{Result, bail};
use profiler_common::map::{
    PHASE_BLOCKED, PHASE_DEAD, PHASE_NEW, PHASE_RUNNABLE, PHASE_RUNNING, THREAD_WAYS, THREADS,
    Thread, ThreadState, ThreadTimes,
};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is on a CPU.
    Running,
    /// It wants a CPU.
    Runnable,
    /// It waits.
    Blocked,
    /// It has ended, and its end is told nowhere else: there was no room for it in the ring buffer.
    Ended,
}

/// A thread at a cut. Its finished times lie before the cut; what it does since `since` goes on
/// beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadAtCut {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// What it did.
    pub phase: Phase,
    /// Since when: its last switch, which may lie a little after the cut's time. Of a thread that
    /// has ended, its end.
    pub since: Timestamp,
    /// When its wait was ended by a wakeup, of a blocked thread: it wanted a CPU from then on. None
    /// where that was not before the cut.
    pub wakeup: Option<Timestamp>,
    /// Number of the stack of the wait.
    pub stack: u64,
    /// Number of the object of the wait, or 0.
    pub object: u64,
    /// Id of the task that waits, or 0.
    pub task_id: u64,
    /// Finished stretches since the begin of the recording or the thread's.
    pub times: ThreadTimes,
}

impl ThreadAtCut {
    /// Of the state that the kernel side kept of a thread at a cut; none where the thread was not
    /// there yet.
    #[must_use]
    pub fn of(pid: Pid, tid: Tid, state: &ThreadState, cut: &Cut) -> Option<ThreadAtCut> {
        let phase = match state.phase {
            PHASE_RUNNING => Phase::Running,
            PHASE_RUNNABLE => Phase::Runnable,
            PHASE_BLOCKED => Phase::Blocked,
            PHASE_DEAD => Phase::Ended,
            _ => return None,
        };
        // Programs note a wakeup at any time, whatever the interval.
        let woken =
            phase == Phase::Blocked && state.wakeup >= state.since && state.wakeup <= cut.time.0;
        Some(ThreadAtCut {
            pid,
            tid,
            phase,
            since: Timestamp(state.since),
            wakeup: woken.then_some(Timestamp(state.wakeup)),
            stack: state.stack,
            object: state.object,
            task_id: state.task_id,
            times: state.times,
        })
    }
}

/// The live state of an entry, as [`Thread::at_cut`] keeps it.
const fn live(thread: &Thread) -> ThreadState {
    ThreadState {
        phase: thread.phase,
        reserved: 0,
        since: thread.since,
        wakeup: thread.wakeup,
        stack: thread.stack,
        object: thread.object,
        task_id: thread.task_id,
        times: thread.times,
    }
}

/// For how long a program that is at work is waited for without sleeping.
const SPIN: Duration = Duration::from_micros(50);

/// No program runs for so long, even where a hypervisor takes its CPU away.
const LONGEST_PROGRAM: Duration = Duration::from_secs(10);

/// The table.
#[derive(Debug)]
pub(super) struct ThreadTable(Mapped<Thread>);

/// The numbers of an entry that say whether what is read of it belongs together.
struct Guards<'a> {
    tid: &'a AtomicU32,
    phase: &'a AtomicU32,
    cut: &'a AtomicU32,
}

impl ThreadTable {
    pub(super) fn new(memory: Mapped<Thread>) -> ThreadTable {
        ThreadTable(memory)
    }

    fn guards(&self, place: usize) -> Option<Guards<'_>> {
        let thread = self.0.address(place)?;
        // SAFETY: mapped for as long as `self` lives.
        unsafe {
            Some(Guards {
                tid: shared_u32(&raw mut (*thread).tid),
                phase: shared_u32(&raw mut (*thread).phase),
                cut: shared_u32(&raw mut (*thread).cut),
            })
        }
    }

    /// Waits until each entry was seen without a program at work for it.
    ///
    /// # Errors
    /// Where one is at work for longer than any program runs.
    pub(super) fn wait_until_seen_idle(&self) -> Result<()> {
        for place in 0..self.0.len() {
            let mut begun = None;
            while self.is_busy(place) {
                let begun = *begun.get_or_insert_with(Instant::now);
                if begun.elapsed() > LONGEST_PROGRAM {
                    bail!("a program of the kernel side does not end");
                }
                // Mostly it takes a microsecond; but its CPU may have been taken from it.
                if begun.elapsed() < SPIN {
                    std::hint::spin_loop();
                } else {
                    std::thread::sleep(SPIN);
                }
            }
        }
        fence(Ordering::Acquire);
        Ok(())
    }

    fn is_busy(&self, place: usize) -> bool {
        self.0.address(place).is_some_and(|thread| {
            // SAFETY: mapped for as long as `self` lives, and aligned.
            let busy = unsafe { AtomicU16::from_ptr(&raw mut (*thread).busy) };
            busy.load(Ordering::Acquire) != 0
        })
    }

    /// Every thread as it was at `cut`, which was the last one.
    pub(super) fn at(&self, cut: Cut) -> impl Iterator<Item = ThreadAtCut> {
        (0..self.0.len()).filter_map(move |place| self.thread_at(place, cut))
    }

    /// How the kernel side keeps a thread's state at the cut is said at `keep_state` in
    /// `profiler-ebpf/src/interval.rs`; this is the other half.
    fn thread_at(&self, place: usize, cut: Cut) -> Option<ThreadAtCut> {
        let guards = self.guards(place)?;
        let tid = guards.tid.load(Ordering::Acquire);
        if tid == 0 {
            return self.ended_at(place, cut);
        }
        let mut entry = self.0.read(place)?;
        fence(Ordering::Acquire);
        // The state at the cut: the live one, unless an event of the interval that began with the
        // cut has come before that was read or while it was.
        let mut state = live(&entry);
        if guards.cut.load(Ordering::Acquire) == cut.number {
            entry = self.0.read(place)?;
            fence(Ordering::Acquire);
            state = entry.at_cut;
        }
        // A thread that has ended meanwhile tells its state at the cut with its end.
        if entry.tid != tid || guards.tid.load(Ordering::Acquire) != tid {
            return None;
        }
        ThreadAtCut::of(Pid(entry.tgid), Tid(tid), &state, &cut)
    }

    /// A thread whose end found no room in the ring buffer: nobody changes its entry any more.
    fn ended_at(&self, place: usize, cut: Cut) -> Option<ThreadAtCut> {
        if self.guards(place)?.phase.load(Ordering::Acquire) != PHASE_DEAD {
            return None;
        }
        let entry = self.0.read(place)?;
        let state = if entry.cut == cut.number {
            entry.at_cut
        } else {
            live(&entry)
        };
        ThreadAtCut::of(Pid(entry.tgid), Tid(entry.ended_tid), &state, &cut)
    }

    /// The entries as they are.
    pub(super) fn entries(&self) -> impl Iterator<Item = Thread> {
        (0..self.0.len()).filter_map(|place| self.entry(place))
    }

    fn entry(&self, place: usize) -> Option<Thread> {
        let guards = self.guards(place)?;
        if guards.tid.load(Ordering::Acquire) == 0
            && guards.phase.load(Ordering::Acquire) != PHASE_DEAD
        {
            return None;
        }
        let mut entry = self.0.read(place)?;
        if entry.phase == PHASE_DEAD {
            entry.tid = entry.ended_tid;
        }
        (entry.tid != 0 && entry.phase != PHASE_NEW).then_some(entry)
    }

    /// The entry of a thread, as it is.
    pub(super) fn find(&self, tid: Tid) -> Option<Thread> {
        (0..THREAD_WAYS)
            .filter_map(|way| self.0.read(place(tid, way) as usize))
            .find(|thread| thread.tid == tid.0)
    }

    /// Frees the entries of threads that had ended before `cut`, where the kernel side left that to
    /// us; returns the places whose claims are to be given up, after that.
    pub(super) fn free_ended(&mut self, cut: Cut) -> Vec<u32> {
        let mut freed = Vec::new();
        for place in 0..self.0.len() {
            let Some(guards) = self.guards(place) else {
                continue;
            };
            if guards.tid.load(Ordering::Acquire) == 0
                && guards.phase.load(Ordering::Acquire) == PHASE_DEAD
                && guards.cut.load(Ordering::Acquire) != cut.number
                && let Some(thread) = self.0.address(place)
            {
                // SAFETY: mapped memory; no program looks at an entry without a thread whose place
                // is claimed.
                unsafe { thread.write_volatile(bytemuck::Zeroable::zeroed()) };
                freed.push(place as u32);
            }
        }
        freed
    }
}

fn place(tid: Tid, way: u32) -> u32 {
    tid.0.wrapping_add(way) & (THREADS as u32 - 1)
}
