//! Where a thread's own variables are: below its FS base, or in blocks that a vector names to which
//! the word at `fs + 8` points (Ulrich Drepper, "ELF Handling For Thread-Local Storage", variant II).

use crate::context::{Memory, Place, base};

/// Entries of glibc's vector that every thread has: `DTV_SURPLUS` in its `sysdeps/generic/ldsodefs.h`.
const ALWAYS_THERE: u32 = 14;
/// An entry of glibc's vector whose block the thread has not touched (`TLS_DTV_UNALLOCATED`).
const UNALLOCATED: u64 = u64::MAX;
/// More modules with thread-local memory than a process has.
const MAX_ENTRIES: u64 = 1 << 20;

/// A thread's block of a module's thread-local memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The address of the context in it.
    At(u64),
    /// The thread has none, as it has not used any of it.
    Untouched,
    /// What leads to it cannot be read.
    Unreadable,
}

/// Finds a thread's context, by its FS base.
#[inline(always)]
pub fn locate(fs: u64, place: &Place, memory: &impl Memory) -> Block {
    if place.base == base::BELOW_FS || place.base == base::VARIABLES {
        return Block::At(fs.wrapping_sub(place.offset));
    }
    let Some(vector) = memory.word(fs.wrapping_add(8)) else {
        return Block::Unreadable;
    };
    let glibc = place.base == base::GLIBC_VECTOR;
    // A thread's first vector is longer than most processes have modules: a read less.
    if !glibc || place.module > ALWAYS_THERE {
        let length = if glibc {
            vector.wrapping_sub(16)
        } else {
            vector
        };
        match memory.word(length) {
            Some(length) if length > MAX_ENTRIES => return Block::Unreadable,
            Some(length) if u64::from(place.module) > length => return Block::Untouched,
            Some(_) => {}
            None => return Block::Unreadable,
        }
    }
    let size = if glibc { 16 } else { 8 };
    match memory.word(vector.wrapping_add(u64::from(place.module) * size)) {
        None => Block::Unreadable,
        Some(0 | UNALLOCATED) => Block::Untouched,
        Some(block) => Block::At(block.wrapping_add(place.offset)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of memory, by address.
    struct Known<'a>(&'a [(u64, u64)]);

    impl Memory for Known<'_> {
        fn words<const N: usize>(&self, at: u64) -> [u64; N] {
            core::array::from_fn(|n| self.word(at + 8 * n as u64).unwrap_or(0))
        }

        fn word(&self, at: u64) -> Option<u64> {
            let word = self.0.iter().find(|(address, _)| *address == at);
            word.map(|(_, word)| *word)
        }
    }

    #[test]
    fn blocks_are_found_by_the_vector_of_either_libc() {
        const FS: u64 = 0x8000;
        const VECTOR: u64 = 0x9000;
        let place = |base, module| Place {
            base,
            module,
            offset: 0x50,
            ..Place::default()
        };
        let at = |place: Place, memory: &[(u64, u64)]| locate(FS, &place, &Known(memory));
        assert_eq!(
            at(place(base::BELOW_FS, 0), &[]),
            Block::At(FS - 0x50),
            "without any read"
        );
        let glibc = place(base::GLIBC_VECTOR, 2);
        let vector = (FS + 8, VECTOR);
        let found = Block::At(0x7050);
        assert_eq!(at(glibc, &[vector, (VECTOR + 32, 0x7000)]), found);
        for empty in [0, u64::MAX] {
            let memory = [vector, (VECTOR + 32, empty)];
            assert_eq!(at(glibc, &memory), Block::Untouched);
        }
        assert_eq!(at(glibc, &[vector]), Block::Unreadable);
        assert_eq!(at(glibc, &[]), Block::Unreadable);
        // A vector that was not grown yet says how long it is.
        let late = place(base::GLIBC_VECTOR, 20);
        let entry = (VECTOR + 320, 0x7000);
        assert_eq!(
            at(late, &[vector, (VECTOR - 16, 19), entry]),
            Block::Untouched
        );
        assert_eq!(at(late, &[vector, (VECTOR - 16, 20), entry]), found);
        assert_eq!(
            at(late, &[vector, (VECTOR - 16, u64::MAX), entry]),
            Block::Unreadable
        );
        let musl = place(base::MUSL_VECTOR, 3);
        let entry = (VECTOR + 24, 0x7000);
        assert_eq!(at(musl, &[vector, (VECTOR, 3), entry]), found);
        assert_eq!(at(musl, &[vector, (VECTOR, 2), entry]), Block::Untouched);
        assert_eq!(
            at(musl, &[vector, (VECTOR, 3), (VECTOR + 24, 0)]),
            Block::Untouched
        );
    }
}
