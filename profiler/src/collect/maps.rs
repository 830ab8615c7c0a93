//! What was mapped where, by the version of the mapping table: a stack is named by the mappings that its walk used.

use super::address_map::AddressMap;
use crate::decode::TableVersion;
use crate::units::{Addr, Timestamp};
use std::collections::BTreeMap;
use std::ops::Range;

/// Versions kept at most. Stacks arrive within moments of their walk, so that old ones are
/// asked for by none.
const MAX_VERSIONS: usize = 1024;

/// Every map.
#[derive(Debug, Default)]
pub(super) struct Maps {
    by_version: BTreeMap<TableVersion, Versioned>,
    none: AddressMap,
    last: TableVersion,
}

#[derive(Debug)]
struct Versioned {
    map: AddressMap,
    /// Addresses that came to mean other code before the next version was there.
    stale: Vec<(Range<Addr>, Timestamp)>,
}

impl Maps {
    /// Keeps a map, and gives its version. `current` are those still in use.
    pub(super) fn add(&mut self, map: AddressMap, current: &[TableVersion]) -> TableVersion {
        while self.by_version.len() >= MAX_VERSIONS {
            let mut known = self.by_version.keys();
            let Some(oldest) = known.find(|known| !current.contains(known)).copied() else {
                break;
            };
            self.by_version.remove(&oldest);
        }
        // 0 stands for no mappings at all.
        self.last = TableVersion(self.last.0.wrapping_add(1).max(1));
        let stale = Vec::new();
        self.by_version.insert(self.last, Versioned { map, stale });
        self.last
    }

    /// The map of a version, if it is known.
    pub(super) fn known(&self, table_version: TableVersion) -> Option<&AddressMap> {
        self.by_version.get(&table_version).map(|known| &known.map)
    }

    /// The map of a version; an empty one where it is not known.
    pub(super) fn get(&self, table_version: TableVersion) -> &AddressMap {
        self.known(table_version).unwrap_or(&self.none)
    }

    /// Notes that code was mapped into `range` at `time`. Says whether the map had other code
    /// there, so that it is wrong from then on.
    pub(super) fn mapped(
        &mut self,
        table_version: TableVersion,
        range: &Range<Addr>,
        time: Timestamp,
    ) -> bool {
        let known = self.by_version.get_mut(&table_version);
        let Some(known) = known.filter(|known| known.map.overlaps(range)) else {
            return false;
        };
        known.stale.push((range.clone(), time));
        true
    }

    /// Notes what a later look found: where it is the code that the map has there, that is what was
    /// mapped, again or all along.
    pub(super) fn confirm(&mut self, table_version: TableVersion, found: &AddressMap) {
        if let Some(known) = self.by_version.get_mut(&table_version) {
            let map = &known.map;
            let differs = |range: &Range<Addr>| !map.means_the_same(found, range);
            known.stale.retain(|(range, _)| differs(range));
        }
    }

    /// How many of these addresses, leaf first, may be named by the map of this version: from
    /// the first one on that meant other code by then, the walk went astray.
    pub(super) fn valid_prefix_len(
        &self,
        table_version: TableVersion,
        time: Timestamp,
        stack: &[Addr],
    ) -> usize {
        let Some(known) = self.by_version.get(&table_version) else {
            return stack.len();
        };
        let is_stale = |address: &Addr| {
            known
                .stale
                .iter()
                .any(|(range, since)| range.contains(address) && time >= *since)
        };
        stack.iter().position(is_stale).unwrap_or(stack.len())
    }
}

/// What each address of a process has meant in the current address epoch. Code that is unmapped
/// keeps its meaning until its addresses come to mean other code: only then the same addresses are
/// another stack. A library that is loaded and unloaded all the time mostly comes back to where it
/// was, or to where nothing has been.
#[derive(Clone, Debug, Default)]
pub(super) struct Meanings(AddressMap);

/// Regions remembered at most; where there are more, the epoch ends.
const MAX_REGIONS: usize = 4096;

impl Meanings {
    /// Takes in the mappings of now. Whether some address has another meaning than before, so that
    /// the epoch must change.
    pub(super) fn learn(&mut self, map: &AddressMap) -> bool {
        match self.0.union(map).filter(|all| all.len() <= MAX_REGIONS) {
            Some(all) => {
                self.0 = all;
                false
            }
            None => {
                self.0 = map.clone();
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_kept_as_long_as_they_are_used() {
        let mut maps = Maps::default();
        let first = maps.add(AddressMap::default(), &[]);
        assert_eq!(first, TableVersion(1));
        for _ in 0..2 * MAX_VERSIONS {
            maps.add(AddressMap::default(), &[first]);
        }
        assert_eq!(maps.by_version.len(), MAX_VERSIONS);
        assert!(maps.by_version.contains_key(&first));
    }

    #[test]
    fn a_stack_is_valid_up_to_the_first_address_that_changed_its_meaning() {
        let mut maps = Maps::default();
        let table_version = maps.add(AddressMap::of_regions(&[(0x1000, 0x2000)]), &[]);
        assert!(!maps.mapped(table_version, &(Addr(0x8000)..Addr(0x9000)), Timestamp(5)));
        let valid = |maps: &Maps, version, time, stack: &[u64]| {
            let stack: Vec<Addr> = stack.iter().map(|address| Addr(*address)).collect();
            maps.valid_prefix_len(version, Timestamp(time), &stack)
        };
        assert_eq!(valid(&maps, table_version, 9, &[0x8000]), 1, "new");
        assert!(maps.mapped(table_version, &(Addr(0x1800)..Addr(0x2800)), Timestamp(5)));
        let stack = [0x1000, 0x1900, 0x1100];
        assert_eq!(valid(&maps, table_version, 4, &stack), 3, "before");
        assert_eq!(valid(&maps, table_version, 5, &stack), 1);
        assert_eq!(valid(&maps, TableVersion(2), 5, &stack), 3);
        // By then it is another library, or gone.
        for found in [
            &[(0x5000, 0x6000), (0x1000, 0x2000)][..],
            &[(0x5000, 0x6000)],
        ] {
            maps.confirm(table_version, &AddressMap::of_regions(found));
            assert_eq!(valid(&maps, table_version, 5, &stack), 1);
        }
        // Whatever else there is by then, here it is the same.
        let found = AddressMap::of_regions(&[(0x1000, 0x2000), (0x5000, 0x6000)]);
        maps.confirm(table_version, &found);
        assert_eq!(valid(&maps, table_version, 5, &stack), 3);
    }

    #[test]
    fn an_epoch_lasts_while_no_address_comes_to_mean_other_code() {
        let mut meanings = Meanings::default();
        let app = AddressMap::of_regions(&[(0x1000, 0x2000)]);
        let with_library = AddressMap::of_regions(&[(0x1000, 0x2000), (0x5000, 0x6000)]);
        assert!(!meanings.learn(&app));
        for _ in 0..3 {
            assert!(!meanings.learn(&with_library), "where nothing was");
            assert!(!meanings.learn(&app), "unmapped");
        }
        let elsewhere = AddressMap::of_regions(&[(0x1000, 0x2000), (0x7000, 0x8000)]);
        assert!(
            !meanings.learn(&elsewhere),
            "the same file at another place"
        );
        let other = AddressMap::of_regions(&[(0x1000, 0x2000), (0x5800, 0x6800)]);
        assert!(meanings.learn(&other), "other code where the library was");
        assert!(
            !meanings.learn(&with_library.without(1)),
            "what is left of it"
        );
    }

    #[test]
    fn a_process_that_maps_ever_more_has_a_new_epoch_now_and_then() {
        let mut meanings = Meanings::default();
        let mut changes = 0;
        for n in 0..3 * MAX_REGIONS as u64 {
            let begin = n * 0x1000;
            changes += u32::from(meanings.learn(&AddressMap::of_regions(&[(begin, begin + 1)])));
        }
        assert_eq!(changes, 2);
        assert!(meanings.0.len() <= MAX_REGIONS);
    }
}
