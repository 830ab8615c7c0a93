//! What is known from outside to have happened, and the verdict that follows from it.

use super::super::list::{Besides, Expect};
use std::ops::Range;
use std::time::Duration;

/// From this length on a wait in a poll, or of all workers at once, is a finding (README, "Read the report";
/// `BLOCKED_LONGEST` and `STARVED_LONGEST` in `profiler/src/analyze/verdict.rs`).
const FINDING: Duration = Duration::from_millis(10);

/// What is known to have happened.
#[derive(Clone, Debug)]
pub(super) struct Truth<'a> {
    pub(super) state: Expect,
    /// The system calls in which the threads waited.
    pub(super) calls: &'a [&'a str],
    /// From when until when each of them waited, by one clock.
    pub(super) waits: Vec<Range<Duration>>,
    /// Whether each of the waits is a single one to the kernel, so that the longest can be compared.
    pub(super) single: bool,
    /// Whether the main thread is none of tokio's.
    pub(super) without_main: bool,
    /// What the workers waited for besides.
    pub(super) besides: Option<&'a Besides>,
}

impl Truth<'_> {
    pub(super) fn total(&self) -> Duration {
        self.lengths().sum()
    }

    pub(super) fn longest(&self) -> Duration {
        self.lengths().max().unwrap_or_default()
    }

    fn lengths(&self) -> impl Iterator<Item = Duration> {
        let waits = self.waits.iter();
        waits.map(|wait| wait.end.saturating_sub(wait.start))
    }

    /// The longest time in which so many waited at once.
    fn longest_at_once(&self, many: usize) -> Duration {
        let starts = self.waits.iter().map(|wait| (wait.start, true));
        let ends = self.waits.iter().map(|wait| (wait.end, false));
        let mut changes: Vec<_> = starts.chain(ends).collect();
        // Of the same instant the end first: one after the other is not at once.
        changes.sort_unstable();
        let (mut waiting, mut since, mut longest) = (0, Duration::ZERO, Duration::ZERO);
        for (at, begins) in changes {
            if begins {
                waiting += 1;
                if waiting == many {
                    since = at;
                }
            } else {
                if waiting == many {
                    longest = longest.max(at.saturating_sub(since));
                }
                waiting -= 1;
            }
        }
        longest
    }

    /// What holdup has to say, as its JSON report calls it. `workers`: how many each of the program's
    /// runtimes has. None where that does not follow.
    ///
    /// Only workers count. What waits in the blocking pool, in a `block_on` outside of them or in other
    /// threads holds up no task but its own; and no pool is full, since nothing waits in it by the hundred.
    /// Where all workers of a runtime that has several wait at once it is starved, else they are blocked.
    pub(super) fn verdict(&self, workers: &[u64]) -> Option<&'static str> {
        let besides = self.besides.map(|besides| besides.at_least);
        let besides = Duration::from_millis(besides.unwrap_or_default());
        let blocked = match self.state {
            Expect::Blocked => self.longest(),
            Expect::BlockOn | Expect::Pool | Expect::Other => Duration::ZERO,
        };
        if blocked.max(besides) < FINDING {
            return Some("healthy");
        }
        let several = workers.iter().filter(|workers| **workers > 1);
        let fewest = several
            .min()
            .and_then(|fewest| usize::try_from(*fewest).ok());
        let starved = match fewest {
            Some(fewest) if self.state == Expect::Blocked => {
                self.longest_at_once(fewest) >= FINDING
            }
            _ => false,
        };
        match (starved, workers) {
            (false, _) => Some("blocked"),
            (true, [_]) => Some("starved"),
            // Of which runtime they are is not known from outside.
            (true, _) => None,
        }
    }

    /// The system calls of the waits for which workers are blocked.
    pub(super) fn calls_to_fix(&self) -> Vec<&str> {
        let own = match self.state {
            Expect::Blocked => self.calls,
            _ => &[],
        };
        let besides = self.besides.iter().flat_map(|besides| &besides.calls);
        own.iter()
            .copied()
            .chain(besides.map(String::as_str))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(state: Expect, waits: &[Range<u64>]) -> Truth<'static> {
        let time = |at| Duration::from_millis(at);
        let waits = waits.iter().map(|wait| time(wait.start)..time(wait.end));
        Truth {
            state,
            calls: &["openat"],
            waits: waits.collect(),
            single: true,
            without_main: false,
            besides: None,
        }
    }

    const ONE_BY_ONE: &[Range<u64>] = &[0..150, 150..300, 400..560];
    const TOGETHER: &[Range<u64>] = &[0..150, 100..240, 230..250];

    #[test]
    fn waits_are_measured_each_and_together() {
        let one_by_one = truth(Expect::Blocked, ONE_BY_ONE);
        assert_eq!(one_by_one.total(), Duration::from_millis(460));
        assert_eq!(one_by_one.longest(), Duration::from_millis(160));
        assert_eq!(one_by_one.longest_at_once(2), Duration::ZERO);
        let together = truth(Expect::Blocked, TOGETHER);
        assert_eq!(together.longest_at_once(1), Duration::from_millis(250));
        assert_eq!(together.longest_at_once(2), Duration::from_millis(50));
        assert_eq!(together.longest_at_once(3), Duration::ZERO);
    }

    #[test]
    fn only_workers_that_wait_are_a_finding() {
        assert_eq!(
            truth(Expect::Blocked, ONE_BY_ONE).verdict(&[2]),
            Some("blocked")
        );
        for state in [Expect::BlockOn, Expect::Pool, Expect::Other] {
            assert_eq!(truth(state, TOGETHER).verdict(&[2]), Some("healthy"));
        }
        let short = truth(Expect::Blocked, &[0..5, 20..25]);
        assert_eq!(short.verdict(&[2]), Some("healthy"));
    }

    #[test]
    fn all_workers_of_a_runtime_at_once_are_starved() {
        let together = truth(Expect::Blocked, TOGETHER);
        assert_eq!(together.verdict(&[2]), Some("starved"));
        assert_eq!(together.verdict(&[4]), Some("blocked"));
        assert_eq!(together.verdict(&[1]), Some("blocked"));
        assert_eq!(together.verdict(&[1, 2]), None);
    }

    #[test]
    fn what_workers_wait_for_besides_counts_too() {
        let besides = Besides {
            calls: vec!["poll".to_owned()],
            at_least: 300,
            what: "a child".to_owned(),
        };
        let truth = Truth {
            besides: Some(&besides),
            ..truth(Expect::Pool, TOGETHER)
        };
        assert_eq!(truth.verdict(&[2]), Some("blocked"));
        assert_eq!(truth.calls_to_fix(), ["poll"]);
    }
}
