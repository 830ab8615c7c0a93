use super::*;

const BIAS: u64 = 0x7f00_0000_0000;
const DYNAMIC: u64 = 0x1000;
const RELOCATIONS: u64 = 0x2000;
const JUMPS: u64 = 0x3000;
const SLOT: u64 = 0x4000;

/// Words of memory, by address.
#[derive(Default)]
struct Known(std::collections::HashMap<u64, u64>);

impl Known {
    fn put(&mut self, at: u64, words: &[u64]) {
        for (n, word) in words.iter().enumerate() {
            self.0.insert(at + 8 * n as u64, *word);
        }
    }
}

impl ReadMemory for Known {
    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        into.chunks_mut(8).enumerate().all(|(n, bytes)| {
            let word = self.0.get(&(at + 8 * n as u64));
            if let Some(word) = word {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            word.is_some()
        })
    }
}

const SEGMENT: TlsSegment = TlsSegment {
    svma: Svma(0x8000),
    memsz: 0x100,
    align: 8,
    dynamic: Some((Svma(DYNAMIC), 0x200)),
};

/// A library's memory, with relocations after one relative one. The second table is that of jumps.
/// `relocated` is whether the loader has added the bias to addresses in its table.
fn library(relocations: &[[u64; 3]], jumps: &[[u64; 3]], relocated: bool) -> Known {
    let mut memory = Known::default();
    let address = |at: u64| if relocated { at + BIAS } else { at };
    let dynamic = [
        [DT_RELA.0.cast_unsigned(), address(RELOCATIONS)],
        [
            DT_RELASZ.0.cast_unsigned(),
            (relocations.len() as u64 + 1) * RELA,
        ],
        [DT_RELACOUNT.0.cast_unsigned(), 1],
        [DT_JMPREL.0.cast_unsigned(), address(JUMPS)],
        [DT_PLTRELSZ.0.cast_unsigned(), jumps.len() as u64 * RELA],
        [DT_NULL.0.cast_unsigned(), 0],
    ];
    memory.put(BIAS + DYNAMIC, dynamic.as_flattened());
    // A relative one must not be looked at: nothing is readable there.
    memory.put(BIAS + RELOCATIONS + RELA, relocations.as_flattened());
    memory.put(BIAS + JUMPS, jumps.as_flattened());
    memory
}

fn info(kind: object::elf::RelocationType, symbol: u64) -> u64 {
    symbol << 32 | u64::from(kind.0)
}

#[test]
fn the_number_stands_where_the_loader_wrote_it() {
    for relocated in [true, false] {
        let relocations = [
            // Of another module's variable.
            [SLOT + 16, info(R_X86_64_DTPMOD64, 5), 0],
            [SLOT, info(R_X86_64_DTPMOD64, 0), 0],
        ];
        let mut memory = library(&relocations, &[], relocated);
        memory.put(BIAS + SLOT + 16, &[9]);
        assert_eq!(SEGMENT.of_library(BIAS, &memory), None, "not readable");
        memory.put(BIAS + SLOT, &[0]);
        assert_eq!(SEGMENT.of_library(BIAS, &memory), None, "not written yet");
        memory.put(BIAS + SLOT, &[2]);
        assert_eq!(SEGMENT.of_library(BIAS, &memory), Some(Block::Numbered(2)));
        memory.put(BIAS + SLOT, &[BIAS]);
        assert_eq!(SEGMENT.of_library(BIAS, &memory), None, "no number");
    }
}

#[test]
fn a_distance_is_that_of_the_block() {
    let relocations = [[SLOT, info(R_X86_64_TPOFF64, 0), 0x40]];
    let mut memory = library(&relocations, &[], true);
    memory.put(BIAS + SLOT, &[0x40u64.wrapping_sub(0x180)]);
    assert_eq!(
        SEGMENT.of_library(BIAS, &memory),
        Some(Block::BelowFs(0x180))
    );
    // It would reach beyond the FS base.
    memory.put(BIAS + SLOT, &[0x40u64.wrapping_sub(0x80)]);
    assert_eq!(SEGMENT.of_library(BIAS, &memory), None);
}

#[test]
fn a_descriptor_has_a_distance_or_leads_to_the_number() {
    let jumps = [[SLOT, info(R_X86_64_TLSDESC, 0), 0x10]];
    let mut memory = library(&[], &jumps, true);
    memory.put(BIAS + SLOT, &[0x1234, 0x10u64.wrapping_sub(0x200)]);
    assert_eq!(
        SEGMENT.of_library(BIAS, &memory),
        Some(Block::BelowFs(0x200))
    );
    memory.put(BIAS + SLOT, &[0x1234, 0x9000]);
    assert_eq!(SEGMENT.of_library(BIAS, &memory), None);
    memory.put(0x9000, &[7, 0x10]);
    assert_eq!(SEGMENT.of_library(BIAS, &memory), Some(Block::Numbered(7)));
}

#[test]
fn an_executables_block_ends_at_the_fs_base_as_far_as_its_alignment_lets_it() {
    let of = |svma, memsz, align| {
        let segment = TlsSegment {
            svma: Svma(svma),
            memsz,
            align,
            dynamic: None,
        };
        segment.of_executable()
    };
    let below = |bytes| Some(Block::BelowFs(bytes));
    assert_eq!(of(0x1000, 0x100, 8), below(0x100));
    assert_eq!(of(0x1000, 0x101, 64), below(0x140));
    // Where the linker has not aligned the image itself.
    assert_eq!(of(0x1008, 0x100, 64), below(0x138));
    assert_eq!(of(0x1000, 0x100, 0), below(0x100));
    assert_eq!(of(0x1000, 0x100, 3), None);
    assert_eq!(of(0x1000, u64::MAX, 8), None);
    assert_eq!(of(0x1000, 8, 1 << 63), None);
}

#[test]
fn hostile_tables_end() {
    let mut memory = library(&[], &[], true);
    memory.put(BIAS + DYNAMIC + 8, &[u64::MAX - 8]);
    memory.put(BIAS + DYNAMIC + 24, &[u64::MAX]);
    memory.put(BIAS + DYNAMIC + 40, &[u64::MAX]);
    assert_eq!(SEGMENT.of_library(BIAS, &memory), None);
    let wild = TlsSegment {
        dynamic: Some((Svma(u64::MAX), u64::MAX)),
        ..SEGMENT
    };
    assert_eq!(wild.of_library(u64::MAX, &memory), None);
}
