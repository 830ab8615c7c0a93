//! What was mapped where, by table_version: a stack is named by the mappings that its walk used.

use super::modules::AddressMap;
use crate::units::{Addr, Timestamp};
use std::collections::BTreeMap;
use std::ops::Range;

/// Generations kept at most. Stacks arrive within moments of their walk, so that old ones are
/// asked for by none.
const MOST: usize = 1024;

/// Every map.
#[derive(Debug, Default)]
pub(super) struct Maps {
    by_generation: BTreeMap<u32, Versioned>,
    none: AddressMap,
    last: u32,
}

#[derive(Debug)]
struct Versioned {
    map: AddressMap,
    /// Addresses that came to mean other code before the next table_version was there.
    stale: Vec<(Range<Addr>, Timestamp)>,
}

impl Maps {
    /// Keeps a map, and gives the number of its table_version. `current` are those still in use.
    pub(super) fn add(&mut self, map: AddressMap, current: &[u32]) -> u32 {
        while self.by_generation.len() >= MOST {
            let mut known = self.by_generation.keys();
            let Some(oldest) = known.find(|known| !current.contains(known)).copied() else {
                break;
            };
            self.by_generation.remove(&oldest);
        }
        // 0 stands for no mappings at all.
        self.last = self.last.wrapping_add(1).max(1);
        let stale = Vec::new();
        self.by_generation
            .insert(self.last, Versioned { map, stale });
        self.last
    }

    /// The map of a table_version, if it is known.
    pub(super) fn known(&self, table_version: u32) -> Option<&AddressMap> {
        self.by_generation
            .get(&table_version)
            .map(|known| &known.map)
    }

    /// The map of a table_version; an empty one where it is not known.
    pub(super) fn get(&self, table_version: u32) -> &AddressMap {
        self.known(table_version).unwrap_or(&self.none)
    }

    /// Notes that code was mapped into `range` at `time`. Says whether the map had other code
    /// there, so that it is wrong from then on.
    pub(super) fn mapped(
        &mut self,
        table_version: u32,
        range: &Range<Addr>,
        time: Timestamp,
    ) -> bool {
        let known = self.by_generation.get_mut(&table_version);
        let Some(known) = known.filter(|known| known.map.overlaps(range)) else {
            return false;
        };
        known.stale.push((range.clone(), time));
        true
    }

    /// Notes that a later look found the very same map: what was mapped was part of it already.
    pub(super) fn confirm(&mut self, table_version: u32) {
        if let Some(known) = self.by_generation.get_mut(&table_version) {
            known.stale.clear();
        }
    }

    /// How many of these addresses, leaf first, may be named by the map of this table_version: from
    /// the first one on that meant other code by then, the walk went astray.
    pub(super) fn sound(&self, table_version: u32, time: Timestamp, stack: &[u64]) -> usize {
        let Some(known) = self.by_generation.get(&table_version) else {
            return stack.len();
        };
        let is_stale = |address: &u64| {
            known
                .stale
                .iter()
                .any(|(range, since)| range.contains(&Addr(*address)) && time >= *since)
        };
        stack.iter().position(is_stale).unwrap_or(stack.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_kept_as_long_as_they_are_used() {
        let mut maps = Maps::default();
        let first = maps.add(AddressMap::default(), &[]);
        assert_eq!(first, 1);
        for _ in 0..2 * MOST {
            maps.add(AddressMap::default(), &[first]);
        }
        assert_eq!(maps.by_generation.len(), MOST);
        assert!(maps.by_generation.contains_key(&first));
    }

    #[test]
    fn a_stack_is_sound_up_to_the_first_address_that_changed_its_meaning() {
        let mut maps = Maps::default();
        let table_version = maps.add(AddressMap::of_regions(&[(0x1000, 0x2000)]), &[]);
        assert!(!maps.mapped(table_version, &(Addr(0x8000)..Addr(0x9000)), Timestamp(5)));
        assert_eq!(maps.sound(table_version, Timestamp(9), &[0x8000]), 1, "new");
        assert!(maps.mapped(table_version, &(Addr(0x1800)..Addr(0x2800)), Timestamp(5)));
        let stack = [0x1000, 0x1900, 0x1100];
        assert_eq!(maps.sound(table_version, Timestamp(4), &stack), 3, "before");
        assert_eq!(maps.sound(table_version, Timestamp(5), &stack), 1);
        assert_eq!(maps.sound(table_version + 1, Timestamp(5), &stack), 3);
        maps.confirm(table_version);
        assert_eq!(maps.sound(table_version, Timestamp(5), &stack), 3);
    }
}
