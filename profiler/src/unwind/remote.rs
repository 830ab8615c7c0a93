//! The memory of another process.

use crate::process::module::PAGE;
use crate::units::{Addr, Pid};
use profiler_common::context;
use profiler_common::walk::Memory;
use std::io;

/// Largest image that [`RemoteMemory::image`] copies, in bytes. A vDSO has 8 to 16 KiB.
pub const MAX_IMAGE: usize = 1 << 20;

/// Reads a process's memory with `process_vm_readv`, which needs the right to trace it
/// (`PTRACE_MODE_ATTACH_REALCREDS`, or CAP_SYS_PTRACE) but does not stop it. A stack is
/// read page by page and kept until the walk leaves the page.
#[derive(Debug)]
pub struct RemoteMemory {
    pid: Pid,
    base: u64,
    len: u64,
    words: Box<[u64; WORDS]>,
}

const WORDS: usize = PAGE as usize / 8;

impl RemoteMemory {
    /// Reads the memory of `pid`, as this process's pid namespace counts. Nothing is read yet.
    #[must_use]
    pub fn new(pid: Pid) -> RemoteMemory {
        RemoteMemory {
            pid,
            base: 0,
            len: 0,
            words: Box::new([0; WORDS]),
        }
    }

    /// Forgets what was read: the process has run since.
    pub fn forget(&mut self) {
        self.len = 0;
    }

    /// Copies `len` bytes from `begin`: the image of a module that is in no file (the vDSO).
    ///
    /// # Errors
    /// `InvalidInput` above [`MAX_IMAGE`]; else what the kernel says: `ESRCH` where the process
    /// is gone, `EPERM` without the right to trace it, `EFAULT` where the range is not mapped.
    pub fn image(&self, begin: Addr, len: usize) -> io::Result<Vec<u8>> {
        if len > MAX_IMAGE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("an image of {len} bytes in memory, {MAX_IMAGE} are the limit"),
            ));
        }
        let mut bytes = vec![0; len];
        self.read(begin.0, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `into` or fails. The kernel may stop at a page that is not there.
    fn read(&self, addr: u64, into: &mut [u8]) -> io::Result<()> {
        let local = libc::iovec {
            iov_base: into.as_mut_ptr().cast(),
            iov_len: into.len(),
        };
        let remote = libc::iovec {
            iov_base: addr as *mut libc::c_void,
            iov_len: into.len(),
        };
        let pid = libc::pid_t::try_from(self.pid.0)
            .map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
        // SAFETY: `local` is the exclusively borrowed `into`, which outlives the call; `remote`
        // is only an address in the other process, checked by the kernel. Any bytes are valid
        // contents of `into`.
        let read = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
        match usize::try_from(read) {
            Ok(read) if read == into.len() => Ok(()),
            Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
            Err(_) => Err(io::Error::last_os_error()),
        }
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
            Ok(()) => words,
            Err(_) => [0; N],
        }
    }

    fn word(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes).ok()?;
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
        self.read(addr, chunk).ok()?;
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
        self.read(addr, &mut bytes).ok()?;
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
    fn what_is_not_mapped_is_an_error() {
        let mut memory = own();
        assert_eq!(memory.read_u64(0), None);
        assert_eq!(memory.read_u64_uncached(u64::MAX - 7), None);
        assert_eq!(
            memory.image(Addr(0), 64).unwrap_err().raw_os_error(),
            Some(libc::EFAULT)
        );
        let kind = memory.image(Addr(0), MAX_IMAGE + 1).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::InvalidInput);
        let gone = RemoteMemory::new(Pid(u32::MAX));
        assert_eq!(
            gone.image(Addr(0), 8).unwrap_err().raw_os_error(),
            Some(libc::ESRCH)
        );
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
