//! Programs that have to do with memory.

use crate::programs::ready_until_stdin_closes;
use anyhow::Context as _;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};
use std::fs::File;
use std::path::Path;
use std::thread;

/// Bytes that are touched in turn: less than a huge page, so that each page is a fault.
const REGION: usize = 512 << 10;

/// Maps a piece of a file as a loader maps code, for as long as the program runs.
pub(crate) fn map_code(path: &Path, offset: u64, length: usize) -> anyhow::Result<()> {
    let page = rustix::param::page_size() as u64;
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let before = offset % page;
    // SAFETY: a fresh private mapping at an address of the kernel's choice, which nobody reads.
    unsafe {
        mmap(
            std::ptr::null_mut(),
            length + before as usize,
            ProtFlags::READ | ProtFlags::EXEC,
            MapFlags::PRIVATE,
            file,
            offset - before,
        )
    }
    .with_context(|| format!("cannot map {}", path.display()))?;
    Ok(())
}

/// Faults page after page in until standard input closes.
pub(crate) fn fault() -> anyhow::Result<()> {
    thread::spawn(touch);
    Ok(ready_until_stdin_closes("")?)
}

fn touch() -> anyhow::Result<()> {
    let page = rustix::param::page_size();
    // SAFETY: a fresh private mapping at an address of the kernel's choice.
    let region = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            REGION,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }?;
    loop {
        for at in (0..REGION).step_by(page) {
            // SAFETY: within the mapping, which is this thread's alone.
            unsafe { region.cast::<u8>().add(at).write_volatile(1) };
        }
        // SAFETY: the mapping, in which nothing is kept.
        unsafe { madvise(region, REGION, Advice::LinuxDontNeed) }?;
    }
}
