//! Latencies and their percentiles.

use std::time::Duration;

/// What one endpoint answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    answered: Vec<Duration>,
    pub(crate) errors: u64,
}

impl Latencies {
    pub(crate) fn push(&mut self, latency: Duration) {
        self.answered.push(latency);
    }

    pub(crate) fn append(&mut self, other: Latencies) {
        self.answered.extend(other.answered);
        self.errors += other.errors;
    }

    pub(crate) fn requests(&self) -> u64 {
        self.answered.len() as u64 + self.errors
    }

    /// The latencies at `percentiles` (0 to 100, nearest rank), in their order; none if nothing
    /// was answered.
    pub(crate) fn percentiles<const N: usize>(
        &mut self,
        percentiles: [u8; N],
    ) -> Option<[Duration; N]> {
        self.answered.sort_unstable();
        let last = self.answered.len().checked_sub(1)?;
        Some(percentiles.map(|p| {
            let rank = (self.answered.len() * usize::from(p)).div_ceil(100).max(1) - 1;
            self.answered[rank.min(last)]
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles([50]), None);
        for ms in (1..=200).rev() {
            latencies.push(Duration::from_millis(ms));
        }
        let expected = [1, 100, 198, 200].map(Duration::from_millis);
        assert_eq!(latencies.percentiles([0, 50, 99, 100]), Some(expected));
    }

    #[test]
    fn errors_are_requests_without_a_latency() {
        let mut latencies = Latencies::default();
        latencies.errors += 1;
        let mut sum = latencies.clone();
        sum.append(latencies);
        assert_eq!(
            (sum.requests(), sum.errors, sum.percentiles([99])),
            (2, 2, None)
        );
    }
}
