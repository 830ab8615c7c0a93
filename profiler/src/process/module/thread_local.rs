//! Where each thread has its copy of a module's thread-local memory.
//!
//! The executable's copy is at a fixed distance from a thread's FS base. That of a library is where
//! the loader has put it, and the library's own code asks for it by what the loader wrote into its
//! relocations: the number of the module, by which the C library finds the block (`DTPMOD64`, and
//! the argument of a `TLSDESC`), or the distance from the FS base (`TPOFF64`), where the library was
//! there when the program began (ELF Handling For Thread-Local Storage, §3.4 and §4).

use super::elf::Elf;
use crate::units::Svma;
use object::elf::{
    DT_JMPREL, DT_NULL, DT_PLTRELSZ, DT_RELA, DT_RELACOUNT, DT_RELASZ, R_X86_64_DTPMOD64,
    R_X86_64_TLSDESC, R_X86_64_TPOFF64,
};
use std::ops::ControlFlow;

/// Entries of a dynamic table believed. Real ones have some dozens.
const MAX_DYNAMIC: u64 = 512;
/// Relocations looked at, those without the relative ones at the start.
const MAX_RELOCATIONS: u64 = 1 << 21;
/// Relocations read at a time.
const CHUNK: u64 = 2048;
/// Bytes of an entry of the dynamic table (`Elf64_Dyn`), and of a relocation (`Elf64_Rela`).
const DYN: u64 = 16;
const RELA: u64 = 24;
/// More modules with thread-local memory than a process has.
const MAX_MODULE: u64 = 1 << 20;
/// Farther below the FS base than any thread's block.
const MAX_BELOW: u64 = 1 << 30;

/// A process's memory.
pub trait ReadMemory {
    /// Fills `into` with what is at `at`; false where that cannot be read.
    fn read(&self, at: u64, into: &mut [u8]) -> bool;
}

/// Whose vector of blocks it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// glibc's.
    Glibc,
    /// musl's.
    Musl,
}

/// Where a thread has its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// So many bytes below its FS base the block begins.
    BelowFs(u64),
    /// By this number in the C library's vector of blocks.
    Numbered(u32),
}

/// A module's thread-local memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsSegment {
    svma: Svma,
    memsz: u64,
    align: u64,
    dynamic: Option<(Svma, u64)>,
}

impl TlsSegment {
    /// That of an image, if it has some.
    #[must_use]
    pub fn of(elf: &Elf<'_>) -> Option<TlsSegment> {
        let block = elf.thread_local()?;
        Some(TlsSegment {
            svma: block.svma,
            memsz: block.memsz,
            align: block.align,
            dynamic: elf.dynamic(),
        })
    }

    /// Where its block is, if this is the executable: it ends at the FS base, but for what its
    /// alignment leaves free ("variant II", §3.4.6).
    #[must_use]
    pub fn of_executable(&self) -> Option<Block> {
        let align = self.align.max(1);
        if !align.is_power_of_two() || self.memsz > MAX_BELOW || align > MAX_BELOW {
            return None;
        }
        let rest = self.svma.0.wrapping_add(self.memsz).wrapping_neg() & (align - 1);
        Some(Block::BelowFs(self.memsz + rest))
    }

    /// Where its block is, if this is a library, by what the loader has done with its relocations.
    /// None where there are none that tell, or it has not done so yet.
    #[must_use]
    pub fn of_library(&self, bias: u64, memory: &impl ReadMemory) -> Option<Block> {
        let (table, size) = self.dynamic?;
        let dynamic = Dynamic::read(table.0.wrapping_add(bias), size, bias, memory);
        dynamic.tables().into_iter().find_map(|(at, count)| {
            each_relocation(at, count, memory, |relocation| {
                match self.told_by(relocation, bias, memory) {
                    Some(block) => ControlFlow::Break(block),
                    None => ControlFlow::Continue(()),
                }
            })
        })
    }

    /// What one relocation tells, if it is of this module's own thread-local memory: those by a
    /// symbol may be of another's.
    fn told_by(
        &self,
        relocation: Relocation,
        bias: u64,
        memory: &impl ReadMemory,
    ) -> Option<Block> {
        let place = relocation.offset.wrapping_add(bias);
        let below = |distance: u64| {
            let below = distance.wrapping_sub(relocation.addend).wrapping_neg();
            let plausible = below >= self.memsz && below <= MAX_BELOW;
            plausible.then_some(Block::BelowFs(below))
        };
        if relocation.symbol != 0 {
            return None;
        }
        match relocation.kind {
            R_X86_64_DTPMOD64 => number(word(memory, place)?),
            R_X86_64_TPOFF64 => below(word(memory, place)?),
            R_X86_64_TLSDESC => {
                let argument = word(memory, place.wrapping_add(8))?;
                // A distance is negative, an address is not.
                if argument.cast_signed() < 0 {
                    below(argument)
                } else {
                    number(word(memory, argument)?)
                }
            }
            _ => None,
        }
    }
}

/// A number that the loader wrote: 0 is none.
fn number(word: u64) -> Option<Block> {
    let number = u32::try_from(word).ok()?;
    ((1..=MAX_MODULE).contains(&word)).then_some(Block::Numbered(number))
}

fn word(memory: &impl ReadMemory, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory
        .read(at, &mut bytes)
        .then(|| u64::from_le_bytes(bytes))
}

/// What the dynamic table says of relocations: addresses and sizes in bytes.
#[derive(Default)]
struct Dynamic {
    rela: u64,
    rela_size: u64,
    relative: u64,
    jump: u64,
    jump_size: u64,
}

impl Dynamic {
    fn read(at: u64, size: u64, bias: u64, memory: &impl ReadMemory) -> Dynamic {
        let mut dynamic = Dynamic::default();
        // glibc has added the bias to addresses in the table, musl has not.
        let address = |value: u64| {
            if value >= bias {
                value
            } else {
                value.wrapping_add(bias)
            }
        };
        for n in 0..(size / DYN).min(MAX_DYNAMIC) {
            let at = at.wrapping_add(n * DYN);
            let (Some(tag), Some(value)) = (word(memory, at), word(memory, at.wrapping_add(8)))
            else {
                break;
            };
            match object::elf::DynamicTag(tag.cast_signed()) {
                DT_NULL => break,
                DT_RELA => dynamic.rela = address(value),
                DT_RELASZ => dynamic.rela_size = value,
                DT_RELACOUNT => dynamic.relative = value,
                DT_JMPREL => dynamic.jump = address(value),
                DT_PLTRELSZ => dynamic.jump_size = value,
                _ => {}
            }
        }
        dynamic
    }

    /// The tables of relocations that may be thread-local ones: where they begin, and how many.
    fn tables(&self) -> [(u64, u64); 2] {
        let all = self.rela_size / RELA;
        let relative = self.relative.min(all);
        let begin = self.rela.wrapping_add(relative * RELA);
        [(begin, all - relative), (self.jump, self.jump_size / RELA)]
    }
}

/// An `Elf64_Rela`.
#[derive(Clone, Copy)]
struct Relocation {
    offset: u64,
    kind: object::elf::RelocationType,
    symbol: u32,
    addend: u64,
}

fn each_relocation<T>(
    at: u64,
    count: u64,
    memory: &impl ReadMemory,
    mut visit: impl FnMut(Relocation) -> ControlFlow<T>,
) -> Option<T> {
    let count = count.min(MAX_RELOCATIONS);
    let mut bytes = vec![0; (CHUNK.min(count) * RELA) as usize];
    let mut done = 0;
    while done < count {
        let many = CHUNK.min(count - done);
        let room = bytes.get_mut(..(many * RELA) as usize)?;
        if !memory.read(at.wrapping_add(done * RELA), room) {
            return None;
        }
        for entry in room.as_chunks::<8>().0.as_chunks::<3>().0 {
            let [offset, info, addend] = entry.map(u64::from_le_bytes);
            let relocation = Relocation {
                offset,
                kind: object::elf::RelocationType(info as u32),
                symbol: (info >> 32) as u32,
                addend,
            };
            if let ControlFlow::Break(found) = visit(relocation) {
                return Some(found);
            }
        }
        done += many;
    }
    None
}

#[cfg(test)]
#[path = "thread_local_tests.rs"]
mod tests;
