//! The tasks that waited the longest with a stack.

use crate::fast_hash::FastMap;
use crate::units::Nanos;
use std::cmp::Reverse;

/// Tasks that are kept for each stack: a server may start one for each request.
const KEPT: usize = 128;

/// Waits of tasks by tokio's id, and their blocked time. Where there are more than [`KEPT`], those
/// that have waited the least so far are forgotten.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks(FastMap<u64, (u64, Nanos)>);

impl Tasks {
    /// Adds a wait.
    pub(super) fn add(&mut self, id: u64, blocked: Nanos) {
        self.add_waits(id, 1, blocked);
    }

    /// Adds the waits of another thread.
    pub(super) fn merge(&mut self, more: &Tasks) {
        for (id, waits, blocked) in more.iter() {
            self.add_waits(id, waits, blocked);
        }
    }

    fn add_waits(&mut self, id: u64, waits: u64, blocked: Nanos) {
        let sum = self.0.entry(id).or_default();
        sum.0 = sum.0.saturating_add(waits);
        sum.1 += blocked;
        if self.0.len() > KEPT {
            let mut order: Vec<_> = self
                .iter()
                .map(|(id, _, time)| (Reverse(time), id))
                .collect();
            order.sort_unstable();
            for (_, id) in order.into_iter().skip(KEPT / 2) {
                self.0.remove(&id);
            }
        }
    }

    /// Each task with its waits and their time.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64, Nanos)> {
        self.0
            .iter()
            .map(|(id, (waits, time))| (*id, *waits, *time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_waited_long_stay() {
        let mut tasks = Tasks::default();
        for id in 0..10_000 {
            tasks.add(id, Nanos(if id % 1_000 == 0 { 1_000 } else { 10 }));
            tasks.add(77_777, Nanos(1));
        }
        let mut longest: Vec<_> = tasks.iter().filter(|(.., time)| time.0 >= 1_000).collect();
        longest.sort_unstable();
        // The one that waited shortly, but again and again, is the longest of all.
        assert_eq!(longest.pop(), Some((77_777, 10_000, Nanos(10_000))));
        assert_eq!(longest.len(), 10);
        assert!(
            longest
                .iter()
                .all(|(id, waits, _)| id % 1_000 == 0 && *waits == 1)
        );
        assert!(tasks.iter().count() <= KEPT);
    }
}
