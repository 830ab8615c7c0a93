//! Percentiles out of exact durations and histograms.

use crate::recording::{HIST_BUCKETS, bucket_of};
use crate::units::Nanos;
use std::cmp::Ordering;

/// Durations of one stack that are kept exactly. Of more, each is known to one in [`PARTS`].
const EXACT: usize = 1024;
/// Parts of a log2 bucket in the fine histogram.
const PARTS: usize = 64;

/// Durations of waits with one stack: all of them in a log2 histogram, the longer ones exactly as
/// well, or in a fine histogram where there are many.
#[derive(Clone, Debug, Default)]
pub(super) struct Durations {
    exact: Vec<Nanos>,
    /// [`PARTS`] entries for each of the [`HIST_BUCKETS`]; empty while `exact` has room.
    fine: Vec<u32>,
    counts: Vec<u32>,
}

/// The lowest duration of a bucket and how many there are in it.
fn bounds(bucket: usize) -> (u64, u64) {
    let low = if bucket == 0 { 0 } else { 1_u64 << bucket };
    (low, (2_u64 << bucket) - low)
}

/// The entry of the fine histogram for `duration`.
fn fine_of(duration: Nanos) -> usize {
    let bucket = bucket_of(duration);
    let (low, width) = bounds(bucket);
    let offset = u128::from(duration.0 - low) * PARTS as u128 / u128::from(width);
    bucket * PARTS + usize::try_from(offset).map_or(PARTS - 1, |part| part.min(PARTS - 1))
}

/// The middle of what an entry of the fine histogram stands for.
fn middle_of(index: usize) -> Nanos {
    let (low, width) = bounds(index / PARTS);
    let middle = u128::from(width) * (2 * (index % PARTS) as u128 + 1) / (2 * PARTS as u128);
    Nanos(low + u64::try_from(middle).unwrap_or(width))
}

impl Durations {
    /// Adds a wait's duration, which is in a log2 histogram too.
    pub(super) fn add(&mut self, duration: Nanos) {
        if self.fine.is_empty() {
            if self.exact.len() < EXACT {
                self.exact.push(duration);
                return;
            }
            self.refine();
        }
        self.count(duration);
    }

    fn count(&mut self, duration: Nanos) {
        if let Some(count) = self.fine.get_mut(fine_of(duration)) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds those of another thread.
    pub(super) fn merge(&mut self, more: &Durations) {
        if self.fine.is_empty() && !more.fine.is_empty() {
            self.refine();
        }
        for known in &more.exact {
            self.add(*known);
        }
        for (sum, count) in self.fine.iter_mut().zip(&more.fine) {
            *sum = sum.saturating_add(*count);
        }
        if !more.counts.is_empty() {
            self.add_histogram(&more.counts);
        }
    }

    /// Keeps durations in the fine histogram from now on.
    fn refine(&mut self) {
        self.fine = vec![0; PARTS * HIST_BUCKETS];
        for known in std::mem::take(&mut self.exact) {
            self.count(known);
        }
    }

    /// Adds a log2 histogram. Entries beyond [`HIST_BUCKETS`] count as the last bucket.
    pub(super) fn add_histogram(&mut self, histogram: &[u32]) {
        self.counts.resize(HIST_BUCKETS, 0);
        for (index, &count) in histogram.iter().enumerate() {
            let sum = &mut self.counts[index.min(HIST_BUCKETS - 1)];
            *sum = sum.saturating_add(count);
        }
    }
}

/// Durations of several stacks together.
#[derive(Clone, Debug)]
pub(super) struct Distribution {
    /// Durations that are known one by one, or nearly so, and how many there are of each.
    known: Vec<(Nanos, u64)>,
    counts: [u64; HIST_BUCKETS],
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution {
            known: Vec::new(),
            counts: [0; HIST_BUCKETS],
        }
    }
}

impl Distribution {
    /// Adds those of a stack.
    pub(super) fn add(&mut self, durations: &Durations) {
        self.known
            .extend(durations.exact.iter().map(|known| (*known, 1)));
        let fine = durations.fine.iter().enumerate();
        let fine = fine.filter(|(_, count)| **count > 0);
        self.known
            .extend(fine.map(|(index, count)| (middle_of(index), u64::from(*count))));
        for (sum, count) in self.counts.iter_mut().zip(&durations.counts) {
            *sum += u64::from(*count);
        }
    }

    /// Adds a wait that is in no histogram: one still open.
    pub(super) fn add_open(&mut self, duration: Nanos) {
        self.known.push((duration, 1));
        self.counts[bucket_of(duration)] += 1;
    }

    /// The `q`-quantiles (0 to 1) by nearest rank, none of them above `max`.
    ///
    /// Within a bucket, the waits that are known by count alone are taken as spread evenly over
    /// it, between the known ones: the error is below a factor of two, and nil where every wait of
    /// the bucket is known.
    pub(super) fn quantiles<const N: usize>(mut self, qs: [f64; N], max: Nanos) -> [Nanos; N] {
        self.known.sort_unstable();
        let mut known_in = [0_u64; HIST_BUCKETS];
        for &(duration, count) in &self.known {
            known_in[bucket_of(duration)] += count;
        }
        // A known wait without its histogram counts all the same.
        let counts = self.counts.iter().zip(known_in);
        let counts: Vec<u64> = counts.map(|(&all, known)| all.max(known)).collect();
        let all: u64 = counts.iter().sum();
        qs.map(|q| {
            if all == 0 {
                return Nanos::ZERO;
            }
            let rank = ((q * all as f64).ceil() as u64).clamp(1, all);
            let mut before = 0;
            for (bucket, &count) in counts.iter().enumerate() {
                if rank <= before + count {
                    let from = self.known.partition_point(|(d, _)| bucket_of(*d) < bucket);
                    let known = self.known.get(from..).unwrap_or(&[]);
                    let known = known.iter().take_while(|(d, _)| bucket_of(*d) == bucket);
                    let others = count - known_in[bucket];
                    return nth_in_bucket(bucket, known.copied(), others, rank - before).min(max);
                }
                before += count;
            }
            max
        })
    }
}

/// The `nth` (from 1) of a bucket's durations: `known` ascending, and `others` spread evenly.
fn nth_in_bucket(
    bucket: usize,
    known: impl Iterator<Item = (Nanos, u64)>,
    others: u64,
    nth: u64,
) -> Nanos {
    let (low, width) = bounds(bucket);
    // The middle of the `index`th of `others` equal parts of the bucket.
    let spread = |index: u64| -> Nanos {
        let offset = u128::from(width) * (2 * u128::from(index) + 1) / (2 * u128::from(others));
        Nanos(low + u64::try_from(offset).unwrap_or(width))
    };
    let mut known_before = 0;
    for (duration, count) in known {
        let others_before = first_not(others, |index| spread(index) < duration);
        let before = known_before + others_before;
        match nth.cmp(&(before + 1)) {
            Ordering::Less => break,
            _ if nth <= before + count => return duration,
            _ => known_before += count,
        }
    }
    spread(nth - known_before - 1)
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

    fn whole(durations: &Durations) -> Distribution {
        let mut whole = Distribution::default();
        whole.add(durations);
        whole
    }

    #[test]
    fn two_halves_are_the_whole() {
        for many in [10, EXACT as u64 + 10, 3 * EXACT as u64] {
            let (mut all, mut halves) =
                (Durations::default(), [(); 2].map(|()| Durations::default()));
            for n in 0..many {
                let duration = Nanos(1_000 + 37 * n);
                all.add(duration);
                all.add_histogram(&histogram(&[(bucket_of(duration), 1)]));
                // The first is short enough to be kept exactly.
                let half = &mut halves[usize::from(n >= 5)];
                half.add(duration);
                half.add_histogram(&histogram(&[(bucket_of(duration), 1)]));
            }
            let [mut one, other] = halves;
            one.merge(&other);
            let max = Nanos(1_000 + 37 * many);
            let of = |durations: &Durations| whole(durations).quantiles([0.1, 0.5, 0.99], max);
            assert_eq!(of(&one), of(&all), "{many}");
        }
    }

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
            durations.add(Nanos(n * 1_000));
            let mut counts = histogram(&[]);
            counts[bucket_of(Nanos(n * 1_000))] = 1;
            durations.add_histogram(&counts);
        }
        let [p50, p99, all] = whole(&durations).quantiles([0.5, 0.99, 1.0], Nanos(100_000));
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
        let [first, second, last] = whole(&durations).quantiles([0.25, 0.5, 1.0], Nanos(5_000));
        assert_eq!(
            (first, second, last),
            (Nanos(1152), Nanos(1408), Nanos(1920))
        );
    }

    #[test]
    fn exact_and_counted_durations_are_merged() {
        let mut durations = Durations::default();
        durations.add_histogram(&histogram(&[(10, 3), (20, 1)]));
        durations.add(Nanos(1100));
        durations.add(Nanos(1_500_000));
        // 1100 is exact, the two others of its bucket stand at 1280 and 1792.
        let [a, b, c, d] = whole(&durations).quantiles([0.25, 0.5, 0.75, 1.0], Nanos(1_500_000));
        assert_eq!([a, b, c, d].map(|n| n.0), [1100, 1280, 1792, 1_500_000]);
    }

    #[test]
    fn no_percentile_is_above_the_maximum() {
        let mut durations = Durations::default();
        durations.add_histogram(&histogram(&[(10, 1)]));
        assert_eq!(
            whole(&durations).quantiles([0.99], Nanos(1030)),
            [Nanos(1030)]
        );
    }

    #[test]
    fn nothing_gives_zero() {
        assert_eq!(
            Distribution::default().quantiles([0.5], Nanos(9)),
            [Nanos::ZERO]
        );
    }

    #[test]
    fn a_histogram_that_is_too_long_is_kept_in_bounds() {
        let mut durations = Durations::default();
        durations.add_histogram(&[0; 64]);
        durations.add_histogram(&[1; 64]);
        let [max] = whole(&durations).quantiles([1.0], Nanos(u64::MAX));
        assert!(max.0 >= 1 << (HIST_BUCKETS - 1));
    }

    #[test]
    fn many_durations_are_known_to_one_in_64() {
        let mut durations = Durations::default();
        let all = 100_000_u64;
        for n in 0..all {
            // Every duration from 1 ms to 101 ms, in an order that is not theirs.
            durations.add(Nanos(1_000_000 + n * 7_919 % all * 1_000));
        }
        let qs = [0.01, 0.5, 0.9, 0.99];
        for (q, found) in qs
            .iter()
            .zip(whole(&durations).quantiles(qs, Nanos(u64::MAX)))
        {
            let truth = 1_000_000.0 + q * all as f64 * 1_000.0;
            let error = (found.0 as f64 - truth).abs() / truth;
            assert!(
                error < 1.0 / PARTS as f64,
                "{q}: {} and not {truth}",
                found.0
            );
        }
    }

    #[test]
    fn entries_of_the_fine_histogram_lie_side_by_side() {
        for duration in (0..70).chain([1_000_000, 1 << 39, u64::MAX]) {
            let index = fine_of(Nanos(duration));
            assert!(index < PARTS * HIST_BUCKETS, "{duration}");
            let error = middle_of(index).0.abs_diff(duration);
            assert!(
                error <= 1 + duration / PARTS as u64 || duration == u64::MAX,
                "{duration}"
            );
        }
    }
}
