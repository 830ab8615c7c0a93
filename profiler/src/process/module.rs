//! A module: an executable or a shared object, and what its ELF image says of it.

mod cfi;
mod elf;
mod functions;
mod thread_local;

pub(crate) use cfi::{Bytes, FdeVisitor, for_each_fde};
pub use elf::{Elf, ModuleError, Section, Segment, ThreadLocal};
pub use functions::Functions;
pub(crate) use functions::text_range;
pub use thread_local::{Block, Loader, ReadMemory, TlsSegment};

use crate::units::{Addr, Svma};
use object::elf::{SHT_DYNSYM, SHT_SYMTAB};

/// The unit in which files are mapped on x86_64, in bytes. Huge pages do not change it.
pub const PAGE: u64 = 4096;

/// Facts about a module, read once from its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Executable `PT_LOAD` segments, in the order of the headers.
    pub executable: Vec<Segment>,
    /// What rows and function starts are relative to: the address of the lowest of them.
    pub base: Svma,
    /// GNU build ID in lower-case hex, where there is one.
    pub build_id: Option<String>,
    /// Whether there is a full symbol table (`.symtab`).
    pub has_symtab: bool,
    /// Whether there is a dynamic symbol table: exported and imported names only.
    pub has_dynsym: bool,
    /// Whether there are line tables in the image itself.
    pub has_debug_lines: bool,
    /// Its thread-local memory, where it has some.
    pub thread_local: Option<TlsSegment>,
}

impl Module {
    /// Reads the facts from an image's bytes.
    ///
    /// # Errors
    /// [`ModuleError`] where the bytes are not a 64-bit little-endian x86_64 ELF image with
    /// readable program headers.
    pub fn from_elf(data: &[u8]) -> Result<Module, ModuleError> {
        let elf = Elf::parse(data)?;
        Ok(Module {
            executable: elf.executable().copied().collect(),
            base: elf.text_base().unwrap_or_default(),
            build_id: elf.build_id(),
            has_symtab: elf.has_symbols(SHT_SYMTAB),
            has_dynsym: elf.has_symbols(SHT_DYNSYM),
            has_debug_lines: elf.has_section(".debug_line") || elf.has_section(".zdebug_line"),
            thread_local: TlsSegment::of(&elf),
        })
    }

    /// The load bias of an executable mapping: what to take from an address in it (wrapping) to
    /// get the address that the image states. 0 where the image is not position-independent.
    ///
    /// `begin` is the mapping's first address, `offset` its offset in the file, both from
    /// `/proc/PID/maps` or an mmap record. The mapping may be part of a segment only (another
    /// part unmapped, protected otherwise, or remapped to huge pages). None where no executable
    /// segment holds that part of the file: then the mapping is not the loader's doing.
    #[must_use]
    pub fn bias_for(&self, begin: Addr, offset: u64) -> Option<u64> {
        // The loader maps whole pages: a segment's mapping begins before the segment, on the
        // page that it shares with its neighbour. That neighbour's last page is the same page
        // of the file, so a segment that begins there is the better match.
        let begins = |s: &&Segment| s.offset - s.offset % PAGE == offset;
        let holds = |s: &&Segment| {
            let end = s.offset.saturating_add(s.filesz);
            (s.offset - s.offset % PAGE..end).contains(&offset)
        };
        let mut segments = self.executable.iter().filter(|s| s.filesz > 0);
        let segment = segments
            .clone()
            .find(begins)
            .or_else(|| segments.find(holds))?;
        let stated = segment
            .svma
            .0
            .wrapping_add(offset)
            .wrapping_sub(segment.offset);
        let bias = begin.0.wrapping_sub(stated);
        (bias % PAGE == 0).then_some(bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(segments: &[(u64, u64, u64)]) -> Module {
        let executable: Vec<Segment> = segments
            .iter()
            .map(|&(offset, filesz, svma)| Segment {
                offset,
                filesz,
                svma: Svma(svma),
                memsz: filesz,
                executable: true,
                writable: false,
            })
            .collect();
        Module {
            base: executable[0].svma,
            executable,
            build_id: None,
            has_symtab: false,
            has_dynsym: false,
            has_debug_lines: false,
            thread_local: None,
        }
    }

    #[test]
    fn bias_of_a_position_independent_image() {
        // As lld lays it out: text begins within a page, one page further up in memory.
        let lld = module(&[(0x2_2f40, 0x9_0000, 0x2_3f40)]);
        assert_eq!(
            lld.bias_for(Addr(0x5555_0002_3000), 0x2_2000),
            Some(0x5555_0000_0000)
        );
        // A part of it: the pages before were unmapped or protected otherwise.
        assert_eq!(
            lld.bias_for(Addr(0x5555_0004_0000), 0x3_f000),
            Some(0x5555_0000_0000)
        );
        // The last page, whose file bytes end at 0xb2f40.
        assert_eq!(
            lld.bias_for(Addr(0x5555_000b_3000), 0xb_2000),
            Some(0x5555_0000_0000)
        );
        assert_eq!(lld.bias_for(Addr(0x5555_000b_4000), 0xb_3000), None);
        assert_eq!(lld.bias_for(Addr(0x5555_0000_0000), 0), None);
    }

    #[test]
    fn bias_of_a_fixed_image_is_zero() {
        let fixed = module(&[(0x1000, 0x5000, 0x40_1000)]);
        assert_eq!(fixed.bias_for(Addr(0x40_1000), 0x1000), Some(0));
        assert_eq!(fixed.bias_for(Addr(0x40_3000), 0x3000), Some(0));
    }

    #[test]
    fn bias_with_huge_page_alignment() {
        let huge = module(&[(0x20_0000, 0x40_0000, 0x20_0000)]);
        assert_eq!(
            huge.bias_for(Addr(0x7f00_0020_0000), 0x20_0000),
            Some(0x7f00_0000_0000)
        );
        assert_eq!(
            huge.bias_for(Addr(0x7f00_0040_0000), 0x40_0000),
            Some(0x7f00_0000_0000)
        );
    }

    #[test]
    fn a_page_of_two_segments_belongs_to_the_one_that_begins_there() {
        let two = module(&[(0x1000, 0x1800, 0x1000), (0x2800, 0x1000, 0x1_2800)]);
        assert_eq!(
            two.bias_for(Addr(0x7f00_0001_2000), 0x2000),
            Some(0x7f00_0000_0000)
        );
    }

    #[test]
    fn bias_of_the_vdso_and_of_nonsense() {
        let vdso = module(&[(0, 0x1a00, 0)]);
        assert_eq!(
            vdso.bias_for(Addr(0x7ffc_1234_5000), 0),
            Some(0x7ffc_1234_5000)
        );
        let off = module(&[(0x1000, 0x1000, 0x1234)]);
        assert_eq!(off.bias_for(Addr(0x7f00_0000_1000), 0x1000), None);
        let wild = module(&[(u64::MAX - 10, u64::MAX, u64::MAX)]);
        assert_eq!(wild.bias_for(Addr(0), 0), None);
    }
}
