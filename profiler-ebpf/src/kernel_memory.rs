//! The kernel's own memory, through a helper that stands wrong addresses.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::ffi::c_void;

/// Eight bytes; 0 where they cannot be read.
#[inline(always)]
pub(crate) fn read_u64(at: u64) -> u64 {
    let mut value = 0u64;
    // SAFETY: eight bytes go into `value`, which stays 0 where the helper fails.
    unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), 8, at as *const c_void);
    }
    value
}

/// Four bytes; 0 where they cannot be read.
#[inline(always)]
pub(crate) fn read_u32(at: u64) -> u32 {
    let mut value = 0u32;
    // SAFETY: four bytes go into `value`, which stays 0 where the helper fails.
    unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), 4, at as *const c_void);
    }
    value
}
