//! Takes the DWARF sections off the eBPF object.
//!
//! BTF is made from DWARF at the linking, and only BTF is read afterwards, by the loader and by
//! the kernel. DWARF is nine tenths of the file, and the file is in the repository.

use anyhow::{Context, Result};
use object::build::elf::{Builder, SectionData};
use object::elf;

/// The object `elf` without its `.debug_*` sections and what refers to them.
///
/// # Errors
/// `elf` is no ELF file.
pub fn debug_sections(elf: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(elf).context("the linker's output is no ELF object")?;
    for section in builder.sections.iter_mut() {
        let name = section.name.as_slice();
        if name.starts_with(b".debug_") || name.starts_with(b".rel.debug_") {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    // LLVM keeps the names of symbols and of sections in one table, the builder in two.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .context("cannot write the object without debug sections")?;
    Ok(stripped)
}
