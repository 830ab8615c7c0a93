//! What an image's pointers lead to, by what the loader does to them.

use crate::process::module::Elf;
use crate::units::Svma;

/// Fills a buffer with the bytes that the image's file has from an offset on; false where it
/// cannot.
pub type ReadAt<'a> = dyn Fn(&mut [u8], u64) -> bool + 'a;

/// Of the loader's own table (`elf.h`): where relocations are, and their length.
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
/// Bytes of that table, and of relocations, that are read.
const MAX_DYNAMIC: u64 = 64 << 10;
const MAX_RELOCATIONS: u64 = 16 << 20;

/// The addresses to which pointers lead that the loader moves.
pub(super) fn pointers(elf: &Elf<'_>, file: &ReadAt<'_>) -> Vec<u64> {
    let Some((at, len)) = relocations(elf, file) else {
        return Vec::new();
    };
    let mut table = vec![0; len];
    let offset = elf.file_offset(at);
    if !offset.is_some_and(|offset| file(&mut table, offset)) {
        return Vec::new();
    }
    // Where, what (its kind in the lower half), and the address (`Elf64_Rela`).
    let relative = |kind: u64| kind as u32 == object::elf::R_X86_64_RELATIVE.0;
    words::<3>(&table)
        .filter_map(|[_, kind, addend]| relative(kind).then_some(addend))
        .collect()
}

/// Where the loader's relocations are, and their length in bytes.
fn relocations(elf: &Elf<'_>, file: &ReadAt<'_>) -> Option<(Svma, usize)> {
    let (at, len) = elf.dynamic()?;
    let mut table = vec![0; usize::try_from(len.min(MAX_DYNAMIC)).ok()?];
    if !file(&mut table, elf.file_offset(at)?) {
        return None;
    }
    let entries: Vec<[u64; 2]> = words(&table).collect();
    let value = |tag: u64| entries.iter().find(|[of, _]| *of == tag).map(|[_, v]| *v);
    let len = value(DT_RELASZ)?.min(MAX_RELOCATIONS);
    Some((Svma(value(DT_RELA)?), usize::try_from(len).ok()?))
}

/// Rows of so many words.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u64; N]> {
    let (words, _) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let words: Vec<u64> = words.collect();
    words.as_chunks::<N>().0.to_vec().into_iter()
}
