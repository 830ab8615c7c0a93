//! Threads that wait for each other in a circle.

use crate::recording::{Holder, STANDSTILL};
use crate::report::OpenWaitReport;
use crate::report::dump::Deadlock;
use crate::units::{Pid, Tid};
use std::collections::{BTreeMap, BTreeSet};

/// Who waits for whom: the holder of what a thread waits for, and whether the lock itself says so.
pub(super) type Holders<T> = BTreeMap<T, (T, bool)>;

/// The circles, each with whether all its holders are named by the locks. `stands` is whether a thread
/// stands still, in a circle that is certain or not.
pub(super) fn circles<T: Copy + Ord>(
    holders: &Holders<T>,
    stands: impl Fn(&T, bool) -> bool,
) -> Vec<(Vec<T>, bool)> {
    let mut seen: BTreeSet<T> = BTreeSet::new();
    let mut found = Vec::new();
    for start in holders.keys() {
        let mut path: Vec<T> = Vec::new();
        let mut at = *start;
        while !seen.contains(&at) {
            seen.insert(at);
            path.push(at);
            let Some((next, _)) = holders.get(&at) else {
                break;
            };
            at = *next;
        }
        // A circle that was met before begins before this path.
        let Some(first) = path.iter().position(|thread| *thread == at) else {
            continue;
        };
        let circle = path.get(first..).unwrap_or_default();
        if !circle.iter().all(|thread| holders.contains_key(thread)) {
            continue;
        }
        let is_certain = circle
            .iter()
            .all(|thread| holders.get(thread).is_some_and(|(_, certain)| *certain));
        if circle.iter().all(|thread| stands(thread, is_certain)) {
            found.push((circle.to_vec(), is_certain));
        }
    }
    found
}

/// The circles among waits that had not ended. Where holders were found by what is on stacks, the waits
/// must have lasted for longer than a lock in demand makes anybody wait.
pub(super) fn deadlocks(open_waits: &[OpenWaitReport]) -> Vec<Deadlock> {
    let all: BTreeMap<(Pid, Tid), &OpenWaitReport> = open_waits
        .iter()
        .map(|wait| ((wait.pid, wait.tid), wait))
        .collect();
    let held = all.iter().filter_map(|(thread, wait)| {
        let Some(Holder::Thread { tid, likely, .. }) = &wait.holder else {
            return None;
        };
        let holder = (wait.pid, *tid);
        all.contains_key(&holder)
            .then_some((*thread, (holder, !likely)))
    });
    let stands = |thread: &(Pid, Tid), is_certain: bool| {
        let wait = all.get(thread);
        wait.is_some_and(|wait| is_certain || wait.since_ns >= STANDSTILL)
    };
    let circles = circles(&held.collect(), stands).into_iter();
    let deadlock = |(threads, is_certain): (Vec<(Pid, Tid)>, bool)| {
        let pid = threads.first()?.0;
        Some(Deadlock {
            pid,
            threads: threads.into_iter().map(|(_, tid)| tid).collect(),
            is_certain,
        })
    };
    circles.filter_map(deadlock).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_once_and_chains_are_none() {
        let holders: Holders<u32> = BTreeMap::from([
            (1, (2, true)),
            (2, (3, true)),
            (3, (2, true)),
            // Waits for who waits for nobody.
            (4, (5, true)),
            (6, (6, false)),
        ]);
        let of = |stands: fn(&u32, bool) -> bool| circles(&holders, stands);
        assert_eq!(of(|_, _| true), [(vec![2, 3], true), (vec![6], false)],);
        assert_eq!(of(|_, certain| certain), [(vec![2, 3], true)]);
        assert_eq!(of(|thread, _| *thread != 3), [(vec![6], false)]);
    }
}
