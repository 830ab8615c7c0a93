//! Hash maps, many entries with one call: by `bpf(2)`'s batch commands (Linux 5.6), which aya does
//! not have.

use anyhow::{Context, Result, bail};
use aya::maps::{Map, MapData};
use aya::{Ebpf, Pod};
use aya_obj::generated::{BPF_EXIST, bpf_cmd};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

/// Entries that are asked for at once.
const ENTRIES: usize = 2048;

/// How often an entry is asked for again that a program has locked just now.
const TRIES: u32 = 1000;

/// The kernel's `ENOTSUPP`, which no C library knows.
const ENOTSUPP: i32 = 524;

/// The part of `union bpf_attr` for batches.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for single entries.
#[repr(C)]
#[derive(Default)]
struct EntryAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    /// Or where the next key goes.
    value: u64,
    flags: u64,
}

/// # Safety
/// The addresses in `attr` are those of memory as large as the command and the map want it.
unsafe fn bpf<A>(command: bpf_cmd, attr: &mut A) -> io::Result<()> {
    for _ in 0..TRIES {
        // SAFETY: guaranteed by the caller; the attributes are as large as we say.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command as libc::c_int,
                std::ptr::from_mut(attr),
                size_of::<A>(),
            )
        };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if !matches!(
            error.raw_os_error(),
            Some(libc::EBUSY | libc::EINTR | libc::EAGAIN)
        ) {
            return Err(error);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

fn is(error: &io::Error, number: i32) -> bool {
    error.raw_os_error() == Some(number)
}

/// Whether the kernel has no batches for this map.
fn is_unsupported(error: &io::Error) -> bool {
    [libc::EINVAL, libc::EOPNOTSUPP, ENOTSUPP]
        .iter()
        .any(|number| is(error, *number))
}

/// A hash map whose keys are `K` and whose values are `V`.
#[derive(Debug)]
pub(super) struct HashTable<K, V> {
    map: MapData,
    /// Whether to do without batches.
    singly: bool,
    of: PhantomData<fn(K) -> V>,
}

impl<K: Pod + bytemuck::Zeroable, V: Pod + bytemuck::Zeroable> HashTable<K, V> {
    /// Takes a map of the object.
    ///
    /// # Errors
    /// Where there is no such map, or it has other keys and values.
    pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> Result<HashTable<K, V>> {
        let map = match ebpf.take_map(name) {
            Some(Map::HashMap(map) | Map::LruHashMap(map)) => map,
            _ => bail!("the eBPF object has no hash map {name}"),
        };
        HashTable::new(map).with_context(|| format!("cannot use the map {name}"))
    }

    fn new(map: MapData) -> Result<HashTable<K, V>> {
        let info = map.info()?;
        if (info.key_size() as usize, info.value_size() as usize)
            != (size_of::<K>(), size_of::<V>())
        {
            bail!("it has other keys and values");
        }
        Ok(HashTable {
            map,
            singly: false,
            of: PhantomData,
        })
    }

    fn fd(&self) -> u32 {
        self.map.fd().as_fd().as_raw_fd().unsigned_abs()
    }

    /// Changes the value of an entry; says whether there is such an entry.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn replace(&self, key: &K, value: &V) -> io::Result<bool> {
        let mut attr = EntryAttr {
            map_fd: self.fd(),
            key: std::ptr::from_ref(key) as u64,
            value: std::ptr::from_ref(value) as u64,
            flags: u64::from(BPF_EXIST),
            ..EntryAttr::default()
        };
        // SAFETY: a key and a value.
        match unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) } {
            Err(error) if is(&error, libc::ENOENT) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Hands every entry to `each`. Entries that come or go meanwhile may be among them or not; any
    /// other is, once.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn for_each(&self, mut each: impl FnMut(K, V)) -> io::Result<()> {
        if !self.singly {
            match self.each_by_batches(&mut each) {
                Err(error) if is_unsupported(&error) => {}
                result => return result,
            }
        }
        self.each_singly(&mut each)
    }

    /// Takes entries out; those that there are not are no error.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn remove(&self, keys: &[K]) -> io::Result<()> {
        if !self.singly {
            match self.remove_by_batches(keys) {
                Err(error) if is_unsupported(&error) => {}
                result => return result,
            }
        }
        keys.iter().try_for_each(|key| self.remove_one(key))
    }

    fn each_by_batches(&self, each: &mut impl FnMut(K, V)) -> io::Result<()> {
        let mut room = ENTRIES;
        let (mut keys, mut values) = (vec![K::zeroed(); room], vec![V::zeroed(); room]);
        // Of a hash map a place among its buckets; none for the first one.
        let mut place = 0u32;
        let mut begun = false;
        loop {
            let mut next = 0u32;
            let mut attr = BatchAttr {
                in_batch: if begun {
                    std::ptr::from_ref(&place) as u64
                } else {
                    0
                },
                out_batch: std::ptr::from_mut(&mut next) as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: room as u32,
                map_fd: self.fd(),
                ..BatchAttr::default()
            };
            // SAFETY: room for that many keys and values, and for the places.
            let result = unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) };
            let last = match &result {
                Ok(()) => false,
                // Nothing comes after these.
                Err(error) if is(error, libc::ENOENT) => true,
                Err(error) if is(error, libc::ENOSPC) => {
                    // A bucket has more than there is room for.
                    room *= 2;
                    keys.resize(room, K::zeroed());
                    values.resize(room, V::zeroed());
                    continue;
                }
                Err(_) => return result,
            };
            let count = (attr.count as usize).min(room);
            for (key, value) in keys.iter().zip(&values).take(count) {
                each(*key, *value);
            }
            if last {
                return Ok(());
            }
            (place, begun) = (next, true);
        }
    }

    fn remove_by_batches(&self, mut keys: &[K]) -> io::Result<()> {
        while !keys.is_empty() {
            let mut attr = BatchAttr {
                keys: keys.as_ptr() as u64,
                count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
                map_fd: self.fd(),
                ..BatchAttr::default()
            };
            // SAFETY: that many keys are there.
            let result = unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_BATCH, &mut attr) };
            let mut done = attr.count as usize;
            match result {
                Ok(()) => {}
                // It stopped at a key that is not there.
                Err(error) if is(&error, libc::ENOENT) => done += 1,
                Err(error) => return Err(error),
            }
            keys = keys.get(done..).unwrap_or_default();
        }
        Ok(())
    }

    fn each_singly(&self, each: &mut impl FnMut(K, V)) -> io::Result<()> {
        let mut before: Option<K> = None;
        loop {
            let (mut key, mut value) = (K::zeroed(), V::zeroed());
            let mut next = EntryAttr {
                map_fd: self.fd(),
                key: before
                    .as_ref()
                    .map_or(0, |key| std::ptr::from_ref(key) as u64),
                value: std::ptr::from_mut(&mut key) as u64,
                ..EntryAttr::default()
            };
            // SAFETY: a key, and room for another one.
            match unsafe { bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut next) } {
                Err(error) if is(&error, libc::ENOENT) => return Ok(()),
                result => result?,
            }
            let mut lookup = EntryAttr {
                map_fd: self.fd(),
                key: std::ptr::from_ref(&key) as u64,
                value: std::ptr::from_mut(&mut value) as u64,
                ..EntryAttr::default()
            };
            // SAFETY: a key, and room for its value.
            match unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut lookup) } {
                Ok(()) => each(key, value),
                Err(error) if is(&error, libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
            before = Some(key);
        }
    }

    fn remove_one(&self, key: &K) -> io::Result<()> {
        let mut attr = EntryAttr {
            map_fd: self.fd(),
            key: std::ptr::from_ref(key) as u64,
            ..EntryAttr::default()
        };
        // SAFETY: a key.
        match unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr) } {
            Err(error) if is(&error, libc::ENOENT) => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::skipped;
    use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_HASH;
    use std::collections::BTreeMap;

    fn keys(table: &HashTable<u64, u64>) -> Vec<u64> {
        let mut found = BTreeMap::new();
        table
            .for_each(|key, value| {
                assert_eq!(found.insert(key, value), None, "twice");
                assert_eq!(value, key * 3);
            })
            .expect("all");
        found.into_keys().collect()
    }

    /// Batches and single entries come to the same.
    #[test]
    fn batches_find_and_remove_what_single_entries_do() {
        let definition = aya_obj::Map::new_from_params(BPF_MAP_TYPE_HASH as u32, 8, 8, 10_000, 0);
        let map = match MapData::create(definition, "holdup_test", None) {
            Ok(map) => map,
            // Without root there is no map to try.
            Err(error) => return skipped(&format!("no map can be made: {error}")),
        };
        let mut table = HashTable::<u64, u64>::new(map).expect("such a map");
        assert!(keys(&table).is_empty());
        assert!(!table.replace(&1, &3).expect("asked"));
        for key in 0..9_000u64 {
            let value = key * 3;
            let mut attr = EntryAttr {
                map_fd: table.fd(),
                key: std::ptr::from_ref(&key) as u64,
                value: std::ptr::from_ref(&value) as u64,
                ..EntryAttr::default()
            };
            // SAFETY: a key and a value.
            unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }.expect("room");
        }
        assert!(table.replace(&1, &3).expect("asked"));
        let all: Vec<u64> = (0..9_000).collect();
        assert_eq!(keys(&table), all);
        table.singly = true;
        assert_eq!(keys(&table), all);
        // Some of them are not there when they are removed once more.
        let (third, rest): (Vec<u64>, Vec<u64>) = all.iter().partition(|key| *key % 3 == 0);
        table.remove(&third[..1500]).expect("removed");
        table.singly = false;
        table.remove(&third).expect("removed");
        assert_eq!(keys(&table), rest);
        table.remove(&all).expect("removed");
        table.singly = true;
        assert!(keys(&table).is_empty());
    }
}
