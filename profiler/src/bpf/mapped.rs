//! Array maps as memory: what the kernel side writes there is read without a call for each value.

use anyhow::{Context, Result, bail};
use aya::maps::{Map, MapData};
use aya::{Ebpf, Pod};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The values of an array map that was made with `BPF_F_MMAPABLE`, shared with the kernel side. The
/// kernel pads values to 8 bytes: `T` is to have a multiple of that.
#[derive(Debug)]
pub(super) struct Mapped<T: Pod> {
    /// Open also since programs that are loaded later name it.
    map: MapData,
    memory: NonNull<T>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone, which gives access to its own memory only.
unsafe impl<T: Pod + Send> Send for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    /// Maps the first `len` values of a map.
    ///
    /// # Errors
    /// Where it has fewer, or the kernel refuses.
    pub(super) fn new(map: MapData, len: usize) -> Result<Mapped<T>> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let memory = unsafe {
            mmap(
                std::ptr::null_mut(),
                Mapped::<T>::bytes(len),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.fd().as_fd(),
                0,
            )
        }
        .context("cannot map a table of the kernel into memory")?;
        let memory = NonNull::new(memory.cast::<T>()).context("mmap returned null")?;
        Ok(Mapped { map, memory, len })
    }

    /// Maps all values of a map of the object.
    ///
    /// # Errors
    /// Where there is no such map, it has other values, or the kernel refuses.
    pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> Result<Mapped<T>> {
        let Some(Map::Array(map)) = ebpf.take_map(name) else {
            bail!("the eBPF object has no array {name}");
        };
        let info = map
            .info()
            .with_context(|| format!("cannot ask about the map {name}"))?;
        if info.value_size() as usize != size_of::<T>() {
            bail!("the map {name} has other values");
        }
        Mapped::new(map, info.max_entries() as usize)
    }

    fn bytes(len: usize) -> usize {
        (len * size_of::<T>()).next_multiple_of(rustix::param::page_size())
    }

    /// The map itself.
    pub(super) fn map(&self) -> &MapData {
        &self.map
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The address of a value. What lies there changes at any time, unless something else says
    /// that no program writes it.
    pub(super) fn address(&self, index: usize) -> Option<*mut T> {
        // SAFETY: the index is within what is mapped.
        (index < self.len).then(|| unsafe { self.memory.as_ptr().add(index) })
    }

    /// A copy of a value. Where a program writes it meanwhile, parts of it may be older than others.
    pub(super) fn read(&self, index: usize) -> Option<T> {
        // SAFETY: mapped memory, and every bit pattern is a value.
        Some(unsafe { self.address(index)?.read_volatile() })
    }

    /// The values where no program writes them.
    ///
    /// # Safety
    /// None does, for as long as the slice is in use.
    pub(super) unsafe fn quiet(&self) -> &[T] {
        // SAFETY: mapped for `len` values for as long as `self` lives, the rest by the caller.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }

    /// The values, to be changed where no program looks at them.
    ///
    /// # Safety
    /// As [`Mapped::quiet`].
    pub(super) unsafe fn quiet_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `quiet`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl<T: Pod> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; no reference outlives `self`.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), Mapped::<T>::bytes(self.len)) };
    }
}

/// A number in mapped memory that the kernel side reads or writes at any time.
///
/// # Safety
/// `at` points into memory that stays mapped for `'a`.
pub(super) unsafe fn shared_u32<'a>(at: *mut u32) -> &'a AtomicU32 {
    // SAFETY: guaranteed by the caller; fields of the kernel side's structs are aligned.
    unsafe { AtomicU32::from_ptr(at) }
}

/// As [`shared_u32`].
///
/// # Safety
/// As [`shared_u32`].
pub(super) unsafe fn shared_u64<'a>(at: *mut u64) -> &'a AtomicU64 {
    // SAFETY: guaranteed by the caller; fields of the kernel side's structs are aligned.
    unsafe { AtomicU64::from_ptr(at) }
}
