//! Arrays of the kernel that userspace fills through memory: 93,500 rows take 0.1 ms so, and
//! some hundred through the update call.

use super::mapped::Mapped;
use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::MapData;
use aya_obj::generated::BPF_F_MMAPABLE;
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;

/// An array map of its own, mapped into our memory. The kernel side only reads it.
#[derive(Debug)]
pub(super) struct Bank<T: Pod> {
    memory: Mapped<T>,
}

impl<T: Pod> Bank<T> {
    /// Creates an array of `len` zero values.
    pub(super) fn create(len: usize) -> Result<Bank<T>> {
        let entries = u32::try_from(len).context("a bank with more than 2^32 entries")?;
        let value = u32::try_from(size_of::<T>()).context("a bank of huge values")?;
        let definition = aya_obj::Map::new_from_params(
            BPF_MAP_TYPE_ARRAY as u32,
            4,
            value,
            entries,
            BPF_F_MMAPABLE,
        );
        let map = MapData::create(definition, "holdup_bank", None)
            .context("cannot create a table of the kernel")?;
        Ok(Bank {
            memory: Mapped::new(map, len)?,
        })
    }

    /// The values.
    pub(super) fn values(&self) -> &[T] {
        // SAFETY: only we write a bank.
        unsafe { self.memory.quiet() }
    }

    /// The values, to be filled before the bank is put where the kernel side finds it.
    pub(super) fn values_mut(&mut self) -> &mut [T] {
        // SAFETY: no program looks at values that are to be filled.
        unsafe { self.memory.quiet_mut() }
    }

    /// The map itself.
    pub(super) fn map(&self) -> &MapData {
        self.memory.map()
    }
}
