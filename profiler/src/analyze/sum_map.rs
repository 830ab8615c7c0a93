//! A table of sums: hashed while millions of parts are added, and in order when it is read.

use crate::fast_hash::FastMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Sums by key. To add to one costs the same however many there are.
#[derive(Clone, Debug)]
pub(super) struct SumMap<K, V> {
    places: FastMap<K, usize>,
    entries: Vec<(K, V)>,
}

impl<K, V> Default for SumMap<K, V> {
    fn default() -> SumMap<K, V> {
        SumMap {
            places: FastMap::default(),
            entries: Vec::new(),
        }
    }
}

impl<K: Copy + Eq + Hash + Ord, V> SumMap<K, V> {
    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The sum of a key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let place = *self.places.get(key)?;
        self.entries.get(place).map(|(_, sum)| sum)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = *self.places.get(key)?;
        self.entries.get_mut(place).map(|(_, sum)| sum)
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    /// The sum of a key; a new one where it has none, unless there are `most` of them already.
    pub(super) fn within(
        &mut self,
        most: usize,
        key: K,
        new: impl FnOnce() -> V,
    ) -> Option<&mut V> {
        let next = self.entries.len();
        let place = match self.places.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(_) if next >= most => return None,
            Entry::Vacant(free) => {
                self.entries.push((key, new()));
                *free.insert(next)
            }
        };
        self.entries.get_mut(place).map(|(_, sum)| sum)
    }

    /// All sums, by ascending keys.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + ExactSizeIterator {
        let mut ordered: Vec<&(K, V)> = self.entries.iter().collect();
        ordered.sort_unstable_by_key(|(key, _)| *key);
        ordered.into_iter().map(|(key, sum)| (key, sum))
    }

    /// All keys, ascending.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }
}

impl<K: Copy + Eq + Hash + Ord, V: Default> SumMap<K, V> {
    /// Adds to the sum of a key, which has a new one if need be.
    pub(super) fn of(&mut self, key: K) -> &mut V {
        let next = self.entries.len();
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.entries.push((key, V::default()));
        }
        // Just found, or just made.
        #[expect(clippy::indexing_slicing, reason = "a place is that of an entry")]
        &mut self.entries[place].1
    }
}

impl<K: Copy + Eq + Hash + Ord, V> FromIterator<(K, V)> for SumMap<K, V> {
    /// Of one key the last counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SumMap<K, V> {
        let mut map = SumMap::default();
        for (key, value) in entries {
            match map.places.entry(key) {
                Entry::Occupied(known) => {
                    if let Some((_, sum)) = map.entries.get_mut(*known.get()) {
                        *sum = value;
                    }
                }
                Entry::Vacant(free) => {
                    free.insert(map.entries.len());
                    map.entries.push((key, value));
                }
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_in_order() {
        let mut sums: SumMap<u32, u64> = SumMap::default();
        for key in [7, 3, 9, 3, 7, 3] {
            *sums.of(key) += 1;
        }
        let all: Vec<(u32, u64)> = sums.iter().map(|(key, sum)| (*key, *sum)).collect();
        assert_eq!(all, [(3, 3), (7, 2), (9, 1)]);
        assert_eq!(sums.keys().copied().collect::<Vec<_>>(), [3, 7, 9]);
        assert_eq!(
            (sums.len(), sums.get(&7), sums.get(&8)),
            (3, Some(&2), None)
        );
    }

    #[test]
    fn a_full_table_takes_what_it_knows() {
        let mut sums: SumMap<u32, u64> = SumMap::default();
        let mut add = |key| sums.within(2, key, || 10).map(|sum| *sum += 1).is_some();
        assert!(add(5) && add(6) && add(5) && !add(7));
        assert!(sums.contains_key(&6) && !sums.contains_key(&7));
        assert_eq!(sums.get(&5), Some(&12));
    }

    #[test]
    fn the_last_of_a_key_counts() {
        let sums: SumMap<u32, u64> = [(2, 1), (1, 5), (2, 9)].into_iter().collect();
        let all: Vec<_> = sums.iter().collect();
        assert_eq!(all, [(&1, &5), (&2, &9)]);
    }
}
