//! The books of threads: stretches under way at the end, and waits found at the beginning.

use super::ended::EndedTimes;
use super::gather::Gathered;
use super::sums::{Sums, Thread};
use crate::bpf::ThreadEntry;
use crate::recording::ThreadRecord;
use crate::units::{Nanos, Pid, Tid, Timestamp};
use profiler_common::map::{
    Aggregate, AggregateKey, PHASE_BLOCKED, PHASE_DEAD, PHASE_RUNNABLE, PHASE_RUNNING, ThreadTimes,
};
use profiler_common::record::STACK_BEFORE;
use std::collections::BTreeMap;

/// A wait that goes on.
pub(super) struct Open {
    pub(super) thread: Thread,
    /// The kernel side's numbers of stack and object.
    pub(super) stack: u64,
    pub(super) object: u64,
    pub(super) since: Timestamp,
    /// Id of the task, or 0.
    pub(super) task_id: u64,
}

/// Threads by id: one id may have been two threads, one after the other.
#[derive(Debug, Default)]
pub(super) struct Threads(pub(super) BTreeMap<Thread, ThreadRecord>);

impl Threads {
    pub(super) fn add(&mut self, thread: Thread, books: EndedTimes) {
        let thread = self.0.entry(thread).or_insert_with(|| ThreadRecord {
            tid: thread.1,
            name: String::new(),
            lived: Nanos::ZERO,
            running: Nanos::ZERO,
            runnable: Nanos::ZERO,
            blocked: Nanos::ZERO,
            waits: 0,
            in_calls: Nanos::ZERO,
        });
        thread.lived += Nanos(books.lived);
        thread.running += Nanos(books.running);
        thread.runnable += Nanos(books.runnable);
        thread.blocked += Nanos(books.blocked);
        thread.waits = thread.waits.saturating_add(books.waits);
        thread.in_calls += Nanos(books.in_calls);
    }

    /// `until` is the end of the thread or of the recording.
    pub(super) fn add_books(&mut self, thread: Thread, books: &ThreadTimes, until: u64) {
        let books = EndedTimes {
            lived: until.saturating_sub(books.first_seen),
            running: books.running,
            runnable: books.runnable,
            blocked: books.blocked,
            waits: books.waits,
            in_calls: books.in_calls,
        };
        self.add(thread, books);
    }
}

/// Adds the stretch that was under way at the end to a thread's books.
pub(super) fn close(
    thread: &ThreadEntry,
    end: Timestamp,
    threads: &mut Threads,
    sums: &mut Sums,
    open: &mut Vec<Open>,
) {
    let id = (Pid(thread.tgid), Tid(thread.tid));
    let mut books = thread.times;
    // The last switch may have come after `end`: the filter and the clock are two things.
    let stretch = end.0.saturating_sub(thread.since);
    match thread.phase {
        PHASE_RUNNING => books.running += stretch,
        PHASE_RUNNABLE => books.runnable += stretch,
        PHASE_BLOCKED if thread.wakeup >= thread.since && thread.wakeup <= end.0 => {
            let blocked = thread.wakeup - thread.since;
            books.blocked += blocked;
            books.runnable += stretch - blocked;
            books.waits += 1;
            let key = AggregateKey {
                stack: thread.stack,
                object: thread.object,
                tid: thread.tid,
                tgid: thread.tgid,
            };
            sums.add_woken(&key, blocked, stretch - blocked);
        }
        PHASE_BLOCKED => {
            books.blocked += stretch;
            open.push(Open {
                thread: id,
                stack: thread.stack,
                object: thread.object,
                since: Timestamp(thread.since.min(end.0)),
                task_id: thread.task_id,
            });
        }
        PHASE_DEAD => {}
        _ => return,
    }
    // A dead thread's entry bears the time of its end.
    let until = if thread.phase == PHASE_DEAD {
        thread.since
    } else {
        thread.since + stretch
    };
    threads.add_books(id, &books, until);
}

/// Takes out the wait in which the recording is said to have found a thread.
fn take_first_wait(thread: Thread, gathered: &mut Gathered, sums: &mut Sums) -> Option<Aggregate> {
    let first = sums.take_first_wait(thread)?;
    gathered
        .timeline
        .retain(|wait| (wait.pid, wait.tid) != thread || wait.stack != STACK_BEFORE);
    Some(first)
}

/// Sets the books right of a thread that did not wait in the beginning, but for a CPU.
pub(super) fn was_runnable(
    thread: Thread,
    gathered: &mut Gathered,
    threads: &mut Threads,
    sums: &mut Sums,
) {
    if let Some(first) = take_first_wait(thread, gathered, sums)
        && let Some(thread) = threads.0.get_mut(&thread)
    {
        let blocked = Nanos(first.blocked).min(thread.blocked);
        thread.blocked = thread.blocked.saturating_sub(blocked);
        thread.runnable += blocked;
        thread.waits = thread.waits.saturating_sub(first.waits);
    }
}

/// Takes the time for which we held a command at its start out of its main thread's books.
pub(super) fn forget_hold(
    pid: Pid,
    gathered: &mut Gathered,
    threads: &mut Threads,
    sums: &mut Sums,
) {
    let main = (pid, Tid(pid.0));
    let Some(held) = take_first_wait(main, gathered, sums) else {
        return;
    };
    if let Some(thread) = threads.0.get_mut(&main) {
        let (blocked, runqueue) = (Nanos(held.blocked), Nanos(held.runqueue));
        thread.blocked = thread.blocked.saturating_sub(blocked);
        thread.runnable = thread.runnable.saturating_sub(runqueue);
        thread.lived = thread.lived.saturating_sub(blocked + runqueue);
        thread.waits = thread.waits.saturating_sub(held.waits);
    }
}

#[cfg(test)]
mod tests {
    use super::super::gather::Bounds;
    use super::*;
    use crate::limits::Limits;

    fn key((pid, tid): Thread, stack: u64) -> AggregateKey {
        AggregateKey {
            stack,
            object: 0,
            tid: tid.0,
            tgid: pid.0,
        }
    }

    #[test]
    fn a_thread_found_wanting_a_cpu_did_not_wait() {
        let (tid, other) = ((Pid(1), Tid(7)), (Pid(1), Tid(8)));
        let mut sums = Sums::default();
        for tid in [tid, other] {
            sums.add_woken(&key(tid, STACK_BEFORE), 300, 20);
        }
        sums.add_woken(&key(tid, STACK_BEFORE + 1), 1_000, 0);
        let mut threads = Threads::default();
        threads.add(
            tid,
            EndedTimes {
                lived: 5_000,
                running: 3_680,
                runnable: 20,
                blocked: 1_300,
                waits: 3,
                in_calls: 0,
            },
        );
        let mut gathered = Gathered::new(Bounds::new(&Limits::default()));

        was_runnable(tid, &mut gathered, &mut threads, &mut sums);

        let thread = &threads.0[&tid];
        assert_eq!(thread.runnable, Nanos(320));
        assert_eq!(thread.blocked, Nanos(1_000));
        assert_eq!(thread.lived, Nanos(5_000));
        assert_eq!(thread.waits, 2);
        let mut left: Vec<_> = sums.entries.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [(tid, STACK_BEFORE + 1, 0), (other, STACK_BEFORE, 0)]);
    }
}
