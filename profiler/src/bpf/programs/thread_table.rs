//! The thread table, read through memory: no call for a thread, none for all of them.

use super::cuts::Cut;
use crate::bpf::mapped::{Mapped, shared_u32};
use crate::bpf::patience::{LONGEST_PROGRAM, Patience};
use crate::decode::{self, ThreadEntry, ThreadKey};
use crate::units::{Pid, Tid, Timestamp};
use profiler_common::map::{PHASE_DEAD, THREAD_WAYS, Thread, ThreadState, thread_place};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};

/// A thread, and what it was at a cut.
pub(in crate::bpf) type AtCut = (ThreadKey, decode::ThreadState);

fn at_cut(pid: Pid, tid: Tid, state: &ThreadState) -> Option<AtCut> {
    let state = decode::ThreadState::of(state)?;
    Some((ThreadKey { pid, tid }, state))
}

/// The table.
#[derive(Debug)]
pub(in crate::bpf) struct ThreadTable {
    entries: Mapped<Thread>,
    patience: Patience,
}

/// What was freed.
#[derive(Debug, Default)]
pub(in crate::bpf) struct Freed {
    /// Places of entries, whose claims are to be given up.
    pub(in crate::bpf) places: Vec<u32>,
    /// Numbers of sets of parks that the threads had, which are to be given up.
    pub(in crate::bpf) sets: Vec<u32>,
}

/// The numbers of an entry that say whether what is read of it belongs together.
struct Guards<'a> {
    tid: &'a AtomicU32,
    phase: &'a AtomicU32,
    cut: &'a AtomicU32,
}

impl ThreadTable {
    pub(in crate::bpf) fn new(memory: Mapped<Thread>) -> ThreadTable {
        ThreadTable {
            entries: memory,
            patience: Patience::default(),
        }
    }

    fn guards(&self, place: usize) -> Option<Guards<'_>> {
        let thread = self.entries.address(place)?;
        // SAFETY: mapped for as long as `self` lives.
        unsafe {
            Some(Guards {
                tid: shared_u32(&raw mut (*thread).tid),
                phase: shared_u32(&raw mut (*thread).phase),
                cut: shared_u32(&raw mut (*thread).cut),
            })
        }
    }

    /// Waits until each entry was seen without a program at work for it, or for longer than any
    /// program runs. Returns for how many entries one seems to be at work still.
    pub(in crate::bpf) fn wait_until_seen_idle(&mut self) -> usize {
        let ThreadTable { entries, patience } = self;
        let waited = patience.wait(entries.len(), LONGEST_PROGRAM, |place| {
            Self::is_busy(entries, place)
        });
        fence(Ordering::Acquire);
        waited
    }

    fn is_busy(entries: &Mapped<Thread>, place: usize) -> bool {
        entries.address(place).is_some_and(|thread| {
            // SAFETY: mapped for as long as `self` lives, and aligned.
            let busy = unsafe { AtomicU16::from_ptr(&raw mut (*thread).busy) };
            busy.load(Ordering::Acquire) != 0
        })
    }

    /// Every thread as it was at `cut`, which was the last one.
    pub(in crate::bpf) fn at(&self, cut: Cut) -> impl Iterator<Item = AtCut> {
        (0..self.entries.len()).filter_map(move |place| self.thread_at(place, cut))
    }

    /// How the kernel side keeps a thread's state at the cut is said at `keep_state` in
    /// `profiler-ebpf/src/interval.rs`; this is the other half.
    fn thread_at(&self, place: usize, cut: Cut) -> Option<AtCut> {
        let guards = self.guards(place)?;
        let tid = guards.tid.load(Ordering::Acquire);
        if tid == 0 {
            return self.ended_at(place, cut);
        }
        let mut entry = self.entries.read(place)?;
        fence(Ordering::Acquire);
        // The state at the cut: the live one, unless an event of the interval that began with the
        // cut has come before that was read or while it was.
        let mut state = entry.state();
        if guards.cut.load(Ordering::Acquire) == cut.number {
            entry = self.entries.read(place)?;
            fence(Ordering::Acquire);
            state = entry.at_cut;
        }
        // A thread that has ended meanwhile tells its state at the cut with its end.
        if entry.tid != tid || guards.tid.load(Ordering::Acquire) != tid {
            return None;
        }
        at_cut(Pid(entry.tgid), Tid(tid), &state)
    }

    /// A thread whose end found no room in the ring buffer: nobody changes its entry any more.
    fn ended_at(&self, place: usize, cut: Cut) -> Option<AtCut> {
        if self.guards(place)?.phase.load(Ordering::Acquire) != PHASE_DEAD {
            return None;
        }
        let entry = self.entries.read(place)?;
        let state = if entry.cut == cut.number {
            entry.at_cut
        } else {
            entry.state()
        };
        at_cut(Pid(entry.tgid), Tid(entry.ended_tid), &state)
    }

    /// The entries as they are.
    pub(in crate::bpf) fn entries(&self) -> impl Iterator<Item = ThreadEntry> {
        (0..self.entries.len()).filter_map(|place| self.entry(place))
    }

    fn entry(&self, place: usize) -> Option<ThreadEntry> {
        let guards = self.guards(place)?;
        let free = guards.tid.load(Ordering::Acquire) == 0
            && guards.phase.load(Ordering::Acquire) != PHASE_DEAD;
        if free {
            return None;
        }
        ThreadEntry::of(&self.entries.read(place)?)
    }

    /// The entry of a thread, as it is.
    pub(in crate::bpf) fn find(&self, tid: Tid) -> Option<Thread> {
        (0..THREAD_WAYS)
            .filter_map(|way| self.entries.read(thread_place(tid.0, way) as usize))
            .find(|thread| thread.tid == tid.0)
    }

    /// Places of entries that threads of a process have which has no threads any more. Where its id
    /// was given to another process, that one's threads were born at `since` or later.
    pub(in crate::bpf) fn of_process(&self, pid: Pid, since: Option<Timestamp>) -> Vec<usize> {
        let is_of = |thread: &Thread| {
            thread.tid != 0
                && thread.tgid == pid.0
                && since.is_none_or(|since| thread.times.first_seen < since.0)
        };
        let places = 0..self.entries.len();
        let of = places.filter(|place| self.entries.read(*place).is_some_and(|t| is_of(&t)));
        of.collect()
    }

    /// Notes the end of a thread that no program looks at any more, as the kernel side does where it
    /// cannot tell of an end. Its claim must be nobody's before.
    pub(in crate::bpf) fn end(&mut self, place: usize) {
        let (Some(guards), Some(thread)) = (self.guards(place), self.entries.address(place)) else {
            return;
        };
        let tid = guards.tid.load(Ordering::Acquire);
        // The kernel side may have done the same, for a thread of this id that begins.
        if tid == 0 {
            return;
        }
        // SAFETY: mapped for as long as `self` lives, and aligned.
        unsafe { shared_u32(&raw mut (*thread).ended_tid) }.store(tid, Ordering::Relaxed);
        guards.phase.store(PHASE_DEAD, Ordering::Release);
        guards.tid.store(0, Ordering::Release);
    }

    /// Frees the entries of threads that had ended before `cut`, where the kernel side left that to
    /// us.
    pub(in crate::bpf) fn free_ended(&mut self, cut: Cut) -> Freed {
        let mut freed = Freed::default();
        for place in 0..self.entries.len() {
            let Some(guards) = self.guards(place) else {
                continue;
            };
            if guards.tid.load(Ordering::Acquire) == 0
                && guards.phase.load(Ordering::Acquire) == PHASE_DEAD
                && guards.cut.load(Ordering::Acquire) != cut.number
                && let Some(thread) = self.entries.address(place)
            {
                // SAFETY: mapped memory; no program looks at an entry without a thread whose place
                // is claimed.
                let parks = unsafe {
                    let parks = (&raw const (*thread).parks).read_volatile();
                    thread.write_volatile(Thread::FREE);
                    parks
                };
                freed.sets.extend(parks.checked_sub(1));
                freed.places.push(place as u32);
            }
        }
        freed
    }
}
