//! Percentiles out of exact durations and log2 histograms.

use crate::recording::HIST_BUCKETS;
use crate::units::Nanos;
use std::cmp::Ordering;

/// Durations of one site: all of them in a histogram, the longer ones exactly as well.
#[derive(Clone, Debug)]
pub(super) struct Durations {
    exact: Vec<Nanos>,
    counts: [u64; HIST_BUCKETS],
}

impl Default for Durations {
    fn default() -> Durations {
        Durations {
            exact: Vec::new(),
            counts: [0; HIST_BUCKETS],
        }
    }
}

/// The bucket of `duration`, as [`HIST_BUCKETS`] defines it.
fn bucket_of(duration: Nanos) -> usize {
    let log2 = duration.0.checked_ilog2().unwrap_or(0);
    usize::try_from(log2).map_or(HIST_BUCKETS - 1, |log2| log2.min(HIST_BUCKETS - 1))
}

impl Durations {
    /// Adds a wait's exact duration, which is in a histogram too.
    pub(super) fn add_exact(&mut self, duration: Nanos) {
        self.exact.push(duration);
    }

    /// Adds a wait that is in no histogram: one still open.
    pub(super) fn add_open(&mut self, duration: Nanos) {
        self.exact.push(duration);
        self.counts[bucket_of(duration)] += 1;
    }

    /// Adds a histogram. Entries beyond [`HIST_BUCKETS`] count as the last bucket.
    pub(super) fn add_histogram(&mut self, histogram: &[u32]) {
        for (index, &count) in histogram.iter().enumerate() {
            self.counts[index.min(HIST_BUCKETS - 1)] += u64::from(count);
        }
    }

    /// The `q`-quantiles (0 to 1) by nearest rank, none of them above `max`.
    ///
    /// Within a bucket, the waits that are known by count alone are taken as spread evenly over
    /// it, between the exact ones: the error is below a factor of two, and nil where the
    /// timeline has every wait of the bucket.
    pub(super) fn quantiles<const N: usize>(mut self, qs: [f64; N], max: Nanos) -> [Nanos; N] {
        self.exact.sort_unstable();
        let mut exact_in = [0u64; HIST_BUCKETS];
        for &duration in &self.exact {
            exact_in[bucket_of(duration)] += 1;
        }
        // A timeline entry without its histogram counts all the same.
        let counts: Vec<u64> = self
            .counts
            .iter()
            .zip(exact_in)
            .map(|(&all, exact)| all.max(exact))
            .collect();
        let all: u64 = counts.iter().sum();
        qs.map(|q| {
            if all == 0 {
                return Nanos::ZERO;
            }
            let rank = ((q * all as f64).ceil() as u64).clamp(1, all);
            let mut before = 0;
            let mut exact_before = 0;
            for (bucket, &count) in counts.iter().enumerate() {
                if rank <= before + count {
                    let from = usize::try_from(exact_before).unwrap_or(usize::MAX);
                    let exact = self.exact.get(from..).unwrap_or(&[]);
                    let exact = exact.iter().take_while(|&&d| bucket_of(d) == bucket);
                    let others = count - exact_in[bucket];
                    return nth_in_bucket(bucket, exact.copied(), others, rank - before).min(max);
                }
                before += count;
                exact_before += exact_in[bucket];
            }
            max
        })
    }
}

/// The `nth` (from 1) of a bucket's durations: `exact` ascending, and `others` spread evenly.
fn nth_in_bucket(
    bucket: usize,
    exact: impl Iterator<Item = Nanos>,
    others: u64,
    nth: u64,
) -> Nanos {
    let low = if bucket == 0 { 0 } else { 1u64 << bucket };
    let width = (2u64 << bucket) - low;
    // The middle of the `index`th of `others` equal parts of the bucket.
    let spread = |index: u64| -> Nanos {
        let offset = u128::from(width) * (2 * u128::from(index) + 1) / (2 * u128::from(others));
        Nanos(low + u64::try_from(offset).unwrap_or(width))
    };
    let mut exact_before = 0;
    for known in exact {
        let others_before = first_not(others, |index| spread(index) < known);
        match (exact_before + others_before + 1).cmp(&nth) {
            Ordering::Less => exact_before += 1,
            Ordering::Equal => return known,
            Ordering::Greater => break,
        }
    }
    spread(nth - exact_before - 1)
}

/// The first of `0..end` for which `holds` does not hold, where it holds up to some point.
fn first_not(end: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(entries: &[(usize, u32)]) -> Vec<u32> {
        let mut counts = vec![0; HIST_BUCKETS];
        for &(bucket, count) in entries {
            counts[bucket] = count;
        }
        counts
    }

    #[test]
    fn buckets_are_as_defined() {
        for (duration, bucket) in [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 1),
            (4, 2),
            (1023, 9),
            (1024, 10),
        ] {
            assert_eq!(bucket_of(Nanos(duration)), bucket, "{duration}");
        }
        assert_eq!(bucket_of(Nanos(u64::MAX)), HIST_BUCKETS - 1);
    }

    #[test]
    fn exact_durations_give_exact_percentiles() {
        let mut durations = Durations::default();
        for n in 1..=100 {
            durations.add_exact(Nanos(n * 1_000));
            let mut counts = histogram(&[]);
            counts[bucket_of(Nanos(n * 1_000))] = 1;
            durations.add_histogram(&counts);
        }
        let [p50, p99, all] = durations.quantiles([0.5, 0.99, 1.0], Nanos(100_000));
        assert_eq!(
            (p50, p99, all),
            (Nanos(50_000), Nanos(99_000), Nanos(100_000))
        );
    }

    #[test]
    fn counts_alone_are_spread_over_their_bucket() {
        let mut durations = Durations::default();
        durations.add_histogram(&histogram(&[(10, 4)]));
        // 1024..2048 in four parts of 256, each represented by its middle.
        let [first, second, last] = durations.quantiles([0.25, 0.5, 1.0], Nanos(5_000));
        assert_eq!(
            (first, second, last),
            (Nanos(1152), Nanos(1408), Nanos(1920))
        );
    }

    #[test]
    fn exact_and_counted_durations_are_merged() {
        let mut durations = Durations::default();
        durations.add_histogram(&histogram(&[(10, 3), (20, 1)]));
        durations.add_exact(Nanos(1100));
        durations.add_exact(Nanos(1_500_000));
        // 1100 is exact, the two others of its bucket stand at 1280 and 1792.
        let [a, b, c, d] = durations.quantiles([0.25, 0.5, 0.75, 1.0], Nanos(1_500_000));
        assert_eq!([a, b, c, d].map(|n| n.0), [1100, 1280, 1792, 1_500_000]);
    }

    #[test]
    fn no_percentile_is_above_the_maximum() {
        let mut durations = Durations::default();
        durations.add_histogram(&histogram(&[(10, 1)]));
        assert_eq!(durations.quantiles([0.99], Nanos(1030)), [Nanos(1030)]);
    }

    #[test]
    fn nothing_gives_zero() {
        assert_eq!(
            Durations::default().quantiles([0.5], Nanos(9)),
            [Nanos::ZERO]
        );
    }

    #[test]
    fn a_histogram_that_is_too_long_is_kept_in_bounds() {
        let mut durations = Durations::default();
        durations.add_histogram(&[0; 64]);
        durations.add_histogram(&[1; 64]);
        let [max] = durations.quantiles([1.0], Nanos(u64::MAX));
        assert!(max.0 >= 1 << (HIST_BUCKETS - 1));
    }
}
