//! How an entry of the thread table is given up, step by step: userspace reads entries meanwhile,
//! and other CPUs claim free ones.

use crate::map::{PHASE_DEAD, Thread};
use core::ptr::write_volatile;
use core::sync::atomic::{Ordering, compiler_fence};

/// Gives an entry up and leaves nothing of its thread in it: the next thread that takes it begins
/// with zeros. `give_claim_up` gets the thread's id.
///
/// # Safety
/// `thread` is a live entry, and its thread makes no more switches.
#[inline(always)]
pub unsafe fn release(thread: *mut Thread, give_claim_up: impl FnOnce(u32)) {
    // SAFETY: guaranteed by the caller. The id goes first: userspace may be reading the entry, and
    // looks at the end whether it is still this thread's. The claim goes last: from then on the
    // entry may be claimed.
    unsafe {
        let tid = (*thread).tid;
        write_volatile(&raw mut (*thread).tid, 0);
        compiler_fence(Ordering::SeqCst);
        *thread = Thread::FREE;
        compiler_fence(Ordering::SeqCst);
        give_claim_up(tid);
    }
}

/// Leaves the entry of a thread that has ended to userspace, which reads it and gives it up. Until
/// then its place stays claimed, by no thread: another one of the same id gets an entry of its own.
/// `claim_for_nobody` gets the thread's id.
///
/// # Safety
/// As [`release`].
#[inline(always)]
pub unsafe fn leave(thread: *mut Thread, claim_for_nobody: impl FnOnce(u32)) {
    // SAFETY: guaranteed by the caller. The entry stays busy to the end: once it is not, userspace
    // may read it, and at the next cut free it together with its claim.
    unsafe {
        let tid = (*thread).tid;
        (*thread).ended_tid = tid;
        (*thread).phase = PHASE_DEAD;
        compiler_fence(Ordering::SeqCst);
        claim_for_nobody(tid);
        write_volatile(&raw mut (*thread).tid, 0);
        compiler_fence(Ordering::SeqCst);
        write_volatile(&raw mut (*thread).busy, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{PHASE_BLOCKED, THREAD_WAYS, THREADS, ThreadState, thread_place};

    /// An entry of which every byte was used.
    fn used() -> Thread {
        // SAFETY: integers only, for which every bit pattern is a value.
        let mut thread: Thread = unsafe { core::mem::transmute([0xa5_u8; size_of::<Thread>()]) };
        thread.phase = PHASE_BLOCKED;
        thread.busy = 1;
        thread
    }

    #[test]
    fn the_next_thread_inherits_nothing() {
        let mut thread = used();
        let entry = &raw mut thread;
        let mut claim = 0;
        // SAFETY: a live entry.
        unsafe {
            release(entry, |tid| {
                // From here on another thread may take it.
                assert_eq!(entry.read(), Thread::FREE);
                claim = tid;
            });
        }
        assert_eq!(claim, 0xa5a5_a5a5);
        assert_eq!(thread, Thread::FREE);
    }

    #[test]
    fn a_thread_that_has_ended_is_whole_before_its_entry_is_idle() {
        let mut thread = used();
        let before = thread;
        let entry = &raw mut thread;
        let mut claim = 0;
        // SAFETY: a live entry.
        unsafe {
            leave(entry, |tid| {
                let now = entry.read();
                assert_ne!(now.busy, 0, "userspace would read it now");
                assert_eq!((now.phase, now.ended_tid), (PHASE_DEAD, tid));
                claim = tid;
            });
        }
        assert_eq!(claim, before.tid);
        let left = Thread {
            tid: 0,
            ended_tid: before.tid,
            phase: PHASE_DEAD,
            busy: 0,
            ..before
        };
        assert_eq!(thread, left);
    }

    #[test]
    fn a_thread_s_places_follow_each_other_around_the_end() {
        let last = THREADS as u32 - 1;
        assert_eq!(thread_place(last, 0), last);
        assert_eq!(thread_place(last, 1), 0);
        assert_eq!(thread_place(u32::MAX, THREAD_WAYS - 1), THREAD_WAYS - 2);
    }

    #[test]
    fn the_state_is_what_the_entry_has() {
        let thread = used();
        let expected = ThreadState {
            phase: thread.phase,
            tick: thread.tick,
            since: thread.since,
            wakeup: thread.wakeup,
            stack: thread.stack,
            object: thread.object,
            task_id: thread.task_id,
            times: thread.times,
        };
        assert_eq!(thread.state(), expected);
    }
}
