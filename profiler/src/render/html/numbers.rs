//! Numbers for what is named often.

use crate::fast_hash::FastMap;
use std::collections::BTreeMap;
use std::hash::Hash;

/// Gives each distinct thing a number: what is named most has the first.
pub(super) struct Numbers<T> {
    /// By number.
    pub(super) all: Vec<T>,
    numbers: FastMap<T, u64>,
}

impl<T: Copy + Eq + Hash + Ord> Numbers<T> {
    pub(super) fn of(named: impl Iterator<Item = T>) -> Numbers<T> {
        let mut counts: FastMap<T, u64> = FastMap::default();
        for thing in named {
            *counts.entry(thing).or_default() += 1;
        }
        let mut by_count: BTreeMap<(std::cmp::Reverse<u64>, T), ()> = BTreeMap::new();
        for (thing, count) in counts {
            by_count.insert((std::cmp::Reverse(count), thing), ());
        }
        let all: Vec<T> = by_count.into_keys().map(|(_, thing)| thing).collect();
        Numbers {
            numbers: all.iter().copied().zip(0..).collect(),
            all,
        }
    }

    /// 0 for nothing, else one more than the number.
    pub(super) fn or_zero(&self, thing: Option<T>) -> u64 {
        let number = thing.and_then(|thing| self.numbers.get(&thing));
        number.map_or(0, |number| number + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_most_has_the_first_number() {
        let numbers = Numbers::of([9, 4, 7, 4, 7, 4].into_iter());
        assert_eq!(numbers.all, [4, 7, 9]);
        let of = [None, Some(4), Some(9), Some(5)].map(|thing| numbers.or_zero(thing));
        assert_eq!(of, [0, 1, 3, 0]);
    }
}
