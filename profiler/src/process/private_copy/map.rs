//! A file in memory, mapped without its holes.

use super::PAGE;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;

/// The bytes of a file: ranges of it mapped, and zeros elsewhere. Reading a hole of a file in
/// memory makes a page of it; the zeros here are all the same page.
#[derive(Debug)]
pub(super) struct SparseMap {
    base: *mut c_void,
    /// In bytes; nothing is mapped where it is 0.
    len: usize,
}

// SAFETY: the memory is only ever read, and belongs to the value until it is dropped.
unsafe impl Send for SparseMap {}
// SAFETY: as above.
unsafe impl Sync for SparseMap {}

impl SparseMap {
    /// Maps `ranges` of `file`, which nobody must write to or shorten any more. Ranges are taken
    /// in whole pages; they are in ascending order, and end within `len`.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn of(file: &File, len: u64, ranges: &[Range<u64>]) -> io::Result<SparseMap> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(SparseMap {
                base: ptr::dangling_mut::<u8>().cast(),
                len,
            });
        }
        let zeros = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, at a place of the kernel's choice.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ, zeros) }?;
        let map = SparseMap { base, len };
        for range in ranges {
            let begin = range.start - range.start % PAGE;
            let (offset, end) = (
                usize::try_from(begin).map_err(io::Error::other)?,
                usize::try_from(range.end)
                    .map_err(io::Error::other)?
                    .min(len),
            );
            let Some(size) = end.checked_sub(offset).filter(|size| *size > 0) else {
                continue;
            };
            let at = base.wrapping_byte_add(offset);
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: what is replaced are pages of the mapping made above, which is ours alone
            // and to which no reference exists yet: `offset + size` is within `len`.
            unsafe { mmap(at, size, ProtFlags::READ, flags, file, begin) }?;
        }
        Ok(map)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped readable until `self` is dropped, and nobody writes to
        // the file behind them.
        unsafe { std::slice::from_raw_parts(self.base.cast(), self.len) }
    }
}

impl Drop for SparseMap {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: ours, and no reference outlives `self`. That it fails is impossible for a
            // mapping that exists, and would only leave it.
            let _ = unsafe { munmap(self.base, self.len) };
        }
    }
}
