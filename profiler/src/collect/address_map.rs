//! Which module's code is where in a process.

use crate::units::{Addr, Svma};
use std::ops::Range;

/// The executable mappings at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AddressMap {
    /// By address, not overlapping.
    regions: Vec<Region>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    begin: Addr,
    end: Addr,
    /// What to take from an address to get the one that the file states.
    bias: u64,
    module: usize,
}

impl AddressMap {
    /// Adds a mapping behind all the others: its addresses, what to take from one of them to get
    /// that which the file states, and the index of its module.
    pub(super) fn push(&mut self, range: Range<Addr>, bias: u64, module: usize) {
        self.regions.push(Region {
            begin: range.start,
            end: range.end,
            bias,
            module,
        });
    }

    /// How many mappings there are.
    pub(super) fn len(&self) -> usize {
        self.regions.len()
    }

    /// All regions of both; none where an address means other code in one than in the other.
    pub(super) fn union(&self, other: &AddressMap) -> Option<AddressMap> {
        let mut all: Vec<Region> = Vec::with_capacity(self.len() + other.len());
        all.extend(self.regions.iter().chain(&other.regions));
        all.sort_unstable_by_key(|region| (region.begin, region.end));
        let mut union: Vec<Region> = Vec::with_capacity(all.len());
        for region in all {
            match union.last_mut() {
                Some(last) if region.begin < last.end => {
                    if (last.bias, last.module) != (region.bias, region.module) {
                        return None;
                    }
                    last.end = last.end.max(region.end);
                }
                _ => union.push(region),
            }
        }
        Some(AddressMap { regions: union })
    }

    /// Whether all the code that is mapped in `range` is the same at the same places in `other`.
    pub(super) fn means_the_same(&self, other: &AddressMap, range: &Range<Addr>) -> bool {
        let within = |region: &&Region| region.begin < range.end && range.start < region.end;
        self.regions.iter().filter(within).all(|region| {
            let at = other.regions.partition_point(|r| r.begin <= region.begin);
            let theirs = at.checked_sub(1).and_then(|at| other.regions.get(at));
            theirs.is_some_and(|theirs| {
                region.end <= theirs.end
                    && (theirs.bias, theirs.module) == (region.bias, region.module)
            })
        })
    }

    /// Whether any region has an address of `range`.
    pub(super) fn overlaps(&self, range: &Range<Addr>) -> bool {
        self.regions
            .iter()
            .any(|region| region.begin < range.end && range.start < region.end)
    }

    /// The modules mapped, lowest address first.
    pub(super) fn modules(&self) -> impl Iterator<Item = usize> {
        self.regions.iter().map(|region| region.module)
    }

    /// Every mapping: its addresses, its bias and the index of its module.
    pub(super) fn regions(&self) -> impl Iterator<Item = (Range<Addr>, u64, usize)> {
        let region = |region: &Region| (region.begin..region.end, region.bias, region.module);
        self.regions.iter().map(region)
    }

    /// The module at an address, and the address as its file states it.
    pub(super) fn resolve(&self, addr: Addr) -> Option<(usize, Svma)> {
        let after = self.regions.partition_point(|region| region.begin <= addr);
        let region = self.regions.get(after.checked_sub(1)?)?;
        (addr < region.end).then(|| (region.module, Svma(addr.0.wrapping_sub(region.bias))))
    }
}

#[cfg(test)]
impl AddressMap {
    /// A map in which every range is a module of its own.
    pub(super) fn of_regions(ranges: &[(u64, u64)]) -> AddressMap {
        let region = |(module, &(begin, end)): (usize, &(u64, u64))| Region {
            begin: Addr(begin),
            end: Addr(end),
            bias: begin,
            module,
        };
        AddressMap {
            regions: ranges.iter().enumerate().map(region).collect(),
        }
    }

    /// The map without one of its regions.
    pub(super) fn without(&self, index: usize) -> AddressMap {
        let mut map = self.clone();
        map.regions.remove(index);
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_unite_where_no_address_means_two_things() {
        let map = AddressMap::of_regions(&[(0x1000, 0x2000), (0x5000, 0x6000)]);
        assert_eq!(map.union(&map), Some(map.clone()));
        assert_eq!(map.union(&AddressMap::default()), Some(map.clone()));
        let mut longer = map.clone();
        longer.regions[1].end = Addr(0x7000);
        assert_eq!(map.union(&longer), Some(longer.clone()));
        assert_eq!(longer.union(&map), Some(longer.clone()));
        let mut between = AddressMap::of_regions(&[(0x2000, 0x5000)]);
        between.regions[0].module = 9;
        assert_eq!(map.union(&between).map(|all| all.len()), Some(3));
        let mut other = map.clone();
        other.regions[1].module = 9;
        assert_eq!(map.union(&other), None, "another file");
        other = map.clone();
        other.regions[1].bias = 0;
        assert_eq!(map.union(&other), None, "the file elsewhere");
        assert!(map.overlaps(&(Addr(0x1fff)..Addr(0x3000))));
        assert!(!map.overlaps(&(Addr(0x2000)..Addr(0x5000))));
    }

    #[test]
    fn addresses_resolve_within_their_region_only() {
        let region = |begin, end, bias, module| Region {
            begin: Addr(begin),
            end: Addr(end),
            bias,
            module,
        };
        let map = AddressMap {
            regions: vec![
                region(0x1000, 0x2000, 0x1000, 7),
                region(0x5000, 0x6000, 0x4000, 8),
            ],
        };
        assert_eq!(map.resolve(Addr(0xfff)), None);
        assert_eq!(map.resolve(Addr(0x1000)), Some((7, Svma(0))));
        assert_eq!(map.resolve(Addr(0x1fff)), Some((7, Svma(0xfff))));
        assert_eq!(map.resolve(Addr(0x2000)), None);
        assert_eq!(map.resolve(Addr(0x5800)), Some((8, Svma(0x1800))));
        assert_eq!(map.resolve(Addr(u64::MAX)), None);
    }
}
