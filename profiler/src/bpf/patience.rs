//! How long a cut waits for programs that are at work.

use std::collections::HashSet;
use std::time::{Duration, Instant};

/// For how long a program that is at work is waited for without sleeping.
const SPIN: Duration = Duration::from_micros(50);

/// No program runs for this long, even where a hypervisor takes its CPU away.
pub(super) const LONGEST_PROGRAM: Duration = Duration::from_secs(10);

/// Waits for places that are busy, but for none of them twice for long.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Places that have not become idle since they were waited for in vain.
    stuck: HashSet<usize>,
}

impl Patience {
    /// Waits until each place below `places` was seen idle, at most for `longest` over all of them.
    /// Returns how many were not.
    pub(super) fn wait(
        &mut self,
        places: usize,
        longest: Duration,
        is_busy: impl Fn(usize) -> bool,
    ) -> usize {
        let mut begun = None;
        for place in 0..places {
            if !is_busy(place) {
                self.stuck.remove(&place);
                continue;
            }
            if self.stuck.contains(&place) {
                continue;
            }
            let begun = *begun.get_or_insert_with(Instant::now);
            let spun = Instant::now();
            while is_busy(place) {
                if begun.elapsed() > longest {
                    self.stuck.insert(place);
                    break;
                }
                // Mostly it takes a microsecond; but its CPU may have been taken from it.
                if spun.elapsed() < SPIN {
                    std::hint::spin_loop();
                } else {
                    std::thread::sleep(SPIN);
                }
            }
        }
        self.stuck.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn a_busy_place_is_waited_for() {
        let asked = Cell::new(0);
        let busy = |place: usize| {
            asked.set(asked.get() + usize::from(place == 3));
            place == 3 && asked.get() < 1000
        };
        assert_eq!(Patience::default().wait(8, LONG, busy), 0);
        assert_eq!(asked.get(), 1000);
    }

    /// A recording that goes on loses one interval's sums; one that gives up loses all of them.
    #[test]
    fn a_place_that_stays_busy_does_not_hold_up_each_cut() {
        let mut patience = Patience::default();
        let begun = Instant::now();
        assert_eq!(patience.wait(8, SHORT, |place| place % 2 == 1), 4);
        // Once for all of them.
        assert!(begun.elapsed() >= SHORT);
        assert_eq!(patience.wait(8, LONG, |place| place % 2 == 1), 4);
        assert!(begun.elapsed() < LONG);
        // One that becomes idle is waited for again.
        assert_eq!(patience.wait(8, SHORT, |place| place == 1), 1);
        let again = Instant::now();
        assert_eq!(patience.wait(8, SHORT, |place| place < 4), 4);
        assert!(again.elapsed() >= SHORT);
    }
}
