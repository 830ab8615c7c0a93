//! The memory of another process.

use crate::process::module::PAGE;
use crate::process::{ProcDir, deadline};
use crate::units::Pid;
use profiler_common::context;
use profiler_common::walk::Memory;
use std::fs::File;

/// Reads a process's memory, which needs the right to trace it
/// (`PTRACE_MODE_ATTACH_REALCREDS`, or CAP_SYS_PTRACE) but does not stop it; see
/// [`deadline::read`]. A stack is read page by page and kept until the walk leaves the page.
#[derive(Debug)]
pub struct RemoteMemory {
    pid: Pid,
    /// None where there is no such process, or it may not be looked into.
    memory: Option<File>,
    base: u64,
    len: u64,
    words: Box<[u64; WORDS]>,
}

const WORDS: usize = PAGE as usize / 8;

impl RemoteMemory {
    /// Reads the memory of `pid`, as this process's pid namespace counts. Nothing is read yet.
    #[must_use]
    pub fn new(pid: Pid) -> RemoteMemory {
        let memory = ProcDir::open(pid).and_then(|dir| dir.open_file("mem"));
        RemoteMemory::through(pid, memory.ok())
    }

    /// Reads the memory of the process that a directory is of. Nothing is read yet.
    #[must_use]
    pub fn of(dir: &ProcDir) -> RemoteMemory {
        RemoteMemory::through(dir.pid(), dir.open_file("mem").ok())
    }

    fn through(pid: Pid, memory: Option<File>) -> RemoteMemory {
        RemoteMemory {
            pid,
            memory,
            base: 0,
            len: 0,
            words: Box::new([0; WORDS]),
        }
    }

    /// Forgets what was read: the process has run since.
    pub fn forget(&mut self) {
        self.len = 0;
    }

    /// Fills `into` or fails. The kernel may stop at a page that is not there.
    fn read(&self, addr: u64, into: &mut [u8]) -> Option<()> {
        let read = deadline::read(self.pid, self.memory.as_ref()?, into, addr);
        (read.ok()? == into.len()).then_some(())
    }

    fn kept(&self, addr: u64) -> Option<u64> {
        let at = addr.wrapping_sub(self.base);
        if at >= self.len || !at.is_multiple_of(8) {
            return None;
        }
        self.words.get(at as usize / 8).copied()
    }
}

impl context::Memory for RemoteMemory {
    fn words<const N: usize>(&self, at: u64) -> [u64; N] {
        let mut words = [0; N];
        match self.read(at, bytemuck::cast_slice_mut(&mut words)) {
            Some(()) => words,
            None => [0; N],
        }
    }

    fn word(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }
}

impl Memory for RemoteMemory {
    fn read_u64(&mut self, addr: u64) -> Option<u64> {
        if let Some(word) = self.kept(addr) {
            return Some(word);
        }
        let to_page_end = PAGE - addr % PAGE;
        let mut bytes = [0; PAGE as usize];
        let chunk = bytes.get_mut(..to_page_end as usize)?;
        self.len = 0;
        self.read(addr, chunk)?;
        for (word, bytes) in self.words.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        self.base = addr;
        self.len = to_page_end;
        self.kept(addr)
    }

    fn read_u64_uncached(&mut self, addr: u64) -> Option<u64> {
        if let Some(word) = self.kept(addr) {
            return Some(word);
        }
        let mut bytes = [0; 8];
        self.read(addr, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> RemoteMemory {
        RemoteMemory::new(Pid(std::process::id()))
    }

    #[test]
    fn reads_words_over_page_ends_and_apart() {
        let words: Vec<u64> = (0..3 * WORDS as u64).collect();
        let at = |i: usize| words.as_ptr() as u64 + 8 * i as u64;
        let mut memory = own();
        for i in 0..words.len() {
            assert_eq!(memory.read_u64(at(i)), Some(i as u64));
        }
        let kept = memory.base;
        assert_eq!(memory.read_u64_uncached(at(1)), Some(1));
        assert_eq!(memory.base, kept, "a read apart moved the window");
    }

    #[test]
    fn what_is_not_mapped_is_none() {
        let mut memory = own();
        assert_eq!(memory.read_u64(0), None);
        assert_eq!(memory.read_u64_uncached(u64::MAX - 7), None);
        let mut gone = RemoteMemory::new(Pid(u32::MAX));
        assert_eq!(gone.read_u64(memory.words.as_ptr() as u64), None);
    }

    #[test]
    fn forgetting_reads_anew() {
        let mut word = Box::new(1u64);
        let addr = &raw mut *word;
        let mut memory = own();
        assert_eq!(memory.read_u64(addr as u64), Some(1));
        // SAFETY: `addr` points at the live box, which nothing else borrows.
        unsafe { addr.write_volatile(2) };
        memory.forget();
        assert_eq!(memory.read_u64(addr as u64), Some(2));
    }
}
