//! Who waits for whom.

use super::threads::{Row, by_thread};
use crate::analyze::circles::{self, circles};
use crate::recording::{Holder, STANDSTILL, ThreadId};
use crate::report::dump::Deadlock;
use crate::runtime::State;
use crate::units::Tid;
use std::collections::BTreeSet;

/// A chain of holders is followed this far.
const MAX_CHAIN: usize = 32;

/// The holder of what a thread waits for, where it is a thread of the same process.
pub(super) type Holders = circles::Holders<ThreadId>;

/// Finds the holder of each thread that waits.
pub(super) fn holders(rows: &[Row]) -> Holders {
    let all = by_thread(rows);
    let held = rows.iter().filter_map(|row| {
        let Some(Holder::Thread { tid, likely, .. }) = &row.told.holder else {
            return None;
        };
        let holder = ThreadId {
            tid: *tid,
            ..row.thread
        };
        all.contains_key(&holder)
            .then_some((row.thread, (holder, !likely)))
    });
    held.collect()
}

/// The threads that `thread` waits for, one behind the other.
pub(super) fn waits_for(thread: ThreadId, holders: &Holders) -> Vec<Tid> {
    let mut chain: Vec<Tid> = Vec::new();
    let mut at = thread;
    while let Some((holder, _)) = holders.get(&at)
        && chain.len() < MAX_CHAIN
    {
        let again = holder.tid == thread.tid || chain.contains(&holder.tid);
        chain.push(holder.tid);
        if again {
            break;
        }
        at = *holder;
    }
    chain
}

/// Whether a thread stands still: it is in one wait that has lasted.
pub(super) fn stands(row: &Row) -> bool {
    let long = row.told.since_ns.unwrap_or_default() >= STANDSTILL;
    row.told.unmoved && long
}

/// The threads that cannot go on: those that stand still, and those that wait for what one of them holds,
/// by the word of the lock itself. The latter may move for a moment: who waits for Python's lock, or for
/// another one with a timeout, looks again and again.
pub(super) fn standing(rows: &[Row], holders: &Holders) -> BTreeSet<ThreadId> {
    let mut standing: BTreeSet<ThreadId> = rows
        .iter()
        .filter(|row| stands(row) && row.told.state != State::Idle)
        .map(|row| row.thread)
        .collect();
    for _ in 0..MAX_CHAIN {
        let behind = holders
            .iter()
            .filter(|(_, (holder, certain))| *certain && standing.contains(holder))
            .map(|(waiter, _)| *waiter);
        let behind: Vec<ThreadId> = behind.collect();
        let before = standing.len();
        standing.extend(behind);
        if standing.len() == before {
            break;
        }
    }
    standing
}

/// Threads that wait for each other in a circle, and of which none has moved. Where holders were
/// found by what is on stacks, the waits must have lasted for longer than a lock in demand makes
/// anybody wait.
pub(super) fn deadlocks(rows: &[Row], holders: &Holders) -> Vec<Deadlock> {
    let all = by_thread(rows);
    let stands = |thread: &ThreadId, is_certain: bool| {
        all.get(thread).is_some_and(|row| {
            let long = row.told.since_ns.unwrap_or_default() >= STANDSTILL;
            row.told.unmoved && (is_certain || long)
        })
    };
    let deadlock = |(threads, is_certain): (Vec<ThreadId>, bool)| {
        let row = all.get(threads.first()?)?;
        Some(Deadlock {
            pid: row.told.pid,
            threads: threads.iter().map(|thread| thread.tid).collect(),
            is_certain,
        })
    };
    let circles = circles(holders, stands).into_iter();
    circles.filter_map(deadlock).collect()
}
