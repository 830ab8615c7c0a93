//! Arrays of the kernel that userspace fills through memory: 93,500 rows take 0.1 ms so, and
//! some hundred through the update call.

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 0x400;

/// An array map of its own, mapped into our memory. The kernel pads values to 8 bytes: `T` is to
/// have a multiple of that.
#[derive(Debug)]
pub(super) struct Bank<T: Pod> {
    map: MapData,
    memory: NonNull<T>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is only written through `&mut`.
unsafe impl<T: Pod + Send> Send for Bank<T> {}

impl<T: Pod> Bank<T> {
    /// Creates an array of `len` zero values.
    pub(super) fn create(len: usize) -> Result<Bank<T>> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let entries = u32::try_from(len).context("a bank with more than 2^32 entries")?;
        let value = u32::try_from(size_of::<T>()).context("a bank of huge values")?;
        let definition = aya_obj::Map::new_from_params(ARRAY, 4, value, entries, MMAPABLE);
        let map = MapData::create(definition, "holdup_bank", None)
            .context("cannot create a table of the kernel")?;
        let bytes = Bank::<T>::bytes(len);
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let memory = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.fd().as_fd(),
                0,
            )
        }
        .context("cannot map a table of the kernel into memory")?;
        let memory = NonNull::new(memory.cast::<T>()).context("mmap returned null")?;
        Ok(Bank { map, memory, len })
    }

    fn bytes(len: usize) -> usize {
        (len * size_of::<T>()).next_multiple_of(rustix::param::page_size())
    }

    /// The values.
    pub(super) fn values(&self) -> &[T] {
        // SAFETY: mapped for `len` values for as long as `self` process_counters; the kernel side only reads.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }

    /// The values, to be filled before the bank is put where the kernel side finds it.
    pub(super) fn values_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `values`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }

    /// The map itself.
    pub(super) fn map(&self) -> &MapData {
        &self.map
    }
}

impl<T: Pod> Drop for Bank<T> {
    fn drop(&mut self) {
        // SAFETY: exactly what `create` mapped; no reference outlives `self`.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), Bank::<T>::bytes(self.len)) };
    }
}
