//! What is asked, and how often.

use clap::ValueEnum;

/// Which endpoints a load asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    /// Those under /v1, each with its mistake.
    Mistakes,
    /// Those under /v2, done right.
    Right,
    /// Both.
    All,
}

/// One endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) method: &'static str,
    /// `{}` stands for the number of a claim or of a member.
    pub(crate) path: &'static str,
    /// Its share among the others' weights.
    weight: u64,
}

impl Endpoint {
    const fn new(weight: u64, method: &'static str, path: &'static str) -> Endpoint {
        Endpoint {
            method,
            path,
            weight,
        }
    }
}

/// Asked all the time beside the mix: does the service still answer what costs nothing?
pub(crate) const HEALTH: Endpoint = Endpoint::new(0, "GET", "/health");

/// Stands for all of a mix together.
pub(crate) const ALL: Endpoint = Endpoint::new(0, "all", "of these");

const MISTAKES: [Endpoint; 8] = [
    Endpoint::new(4, "GET", "/v1/claims/{}/eligibility"),
    Endpoint::new(6, "POST", "/v1/claims/{}/letter"),
    Endpoint::new(6, "POST", "/v1/claims/{}/price"),
    Endpoint::new(4, "POST", "/v1/claims/{}/submission"),
    Endpoint::new(6, "GET", "/v1/claims/{}/fraud-score"),
    Endpoint::new(8, "GET", "/v1/members/{}/charges"),
    Endpoint::new(6, "POST", "/v1/members/{}/claims"),
    Endpoint::new(2, "GET", "/v1/directory"),
];

const RIGHT: [Endpoint; 8] = [
    Endpoint::new(4, "GET", "/v2/claims/{}/eligibility"),
    Endpoint::new(6, "POST", "/v2/claims/{}/letter"),
    Endpoint::new(6, "POST", "/v2/claims/{}/price"),
    Endpoint::new(4, "POST", "/v2/claims/{}/submission"),
    Endpoint::new(6, "GET", "/v2/claims/{}/fraud-score"),
    Endpoint::new(8, "GET", "/v2/members/{}/charges"),
    Endpoint::new(6, "POST", "/v2/members/{}/claims"),
    Endpoint::new(2, "GET", "/v2/directory"),
];

impl Mix {
    pub(crate) fn endpoints(self) -> Vec<Endpoint> {
        match self {
            Mix::Mistakes => MISTAKES.to_vec(),
            Mix::Right => RIGHT.to_vec(),
            Mix::All => [MISTAKES, RIGHT].concat(),
        }
    }
}

/// Chooses endpoints by their weights, the same ones for the same seed (xorshift64*, Vigna 2016).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end
    }

    /// The index of one of `endpoints`.
    pub(crate) fn choose(&mut self, endpoints: &[Endpoint]) -> usize {
        let mut left = self.below(endpoints.iter().map(|e| e.weight).sum::<u64>().max(1));
        for (index, endpoint) in endpoints.iter().enumerate() {
            if left < endpoint.weight {
                return index;
            }
            left -= endpoint.weight;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_come_up_as_often_as_their_weights_say() {
        let endpoints = Mix::All.endpoints();
        let mut dice = Dice::new(1);
        let mut seen = vec![0_u64; endpoints.len()];
        for _ in 0..84_000 {
            seen[dice.choose(&endpoints)] += 1;
        }
        let weights: u64 = endpoints.iter().map(|e| e.weight).sum();
        for (endpoint, seen) in endpoints.iter().zip(seen) {
            let expected = 84_000 * endpoint.weight / weights;
            assert!(
                seen.abs_diff(expected) < expected / 5,
                "{endpoint:?}: {seen}, not {expected}"
            );
        }
    }
}
