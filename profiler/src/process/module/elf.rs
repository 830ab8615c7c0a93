//! An ELF image, read as far as it goes: headers that a stripper removed, or that lie past the
//! end of a cut file, count as absent. Everything in the image is taken for hostile.

use crate::units::Svma;
use object::elf;
use object::endian::LittleEndian;
use object::read::StringTable;
use object::read::elf::{
    FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _,
};
use std::fmt;
use std::ops::Range;

type Header = elf::FileHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;

/// Why an image is not one that holdup can unwind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleError {
    /// Not an ELF image at all (a script, a data file mapped executable, a deleted file's hole).
    NotElf,
    /// ELF for 32-bit code.
    Bits32,
    /// ELF for a big-endian machine.
    BigEndian,
    /// ELF for another machine than x86_64, by its `e_machine`.
    Machine(u16),
    /// The headers contradict themselves or the file is cut short; `.0` says where.
    Malformed(&'static str),
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModuleError::NotElf => f.write_str("not an ELF image"),
            ModuleError::Bits32 => {
                f.write_str("32-bit ELF image; only 64-bit x86_64 code can be unwound")
            }
            ModuleError::BigEndian => {
                f.write_str("big-endian ELF image; only x86_64 code can be unwound")
            }
            ModuleError::Machine(machine) => write!(
                f,
                "ELF image for machine {machine}; only x86_64 (62) code can be unwound"
            ),
            ModuleError::Malformed(what) => write!(
                f,
                "malformed ELF image ({what}); `readelf --wide --headers FILE` shows what is left"
            ),
        }
    }
}

impl std::error::Error for ModuleError {}

/// A `PT_LOAD` segment: bytes of the file and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Address of the first byte.
    pub svma: Svma,
    /// Bytes in memory; those after `filesz` are zero.
    pub memsz: u64,
    /// Whether it is mapped executable.
    pub executable: bool,
    /// Whether it is mapped writable.
    pub writable: bool,
}

impl Segment {
    /// The addresses that have bytes in the file.
    #[must_use]
    pub fn file_backed(&self) -> Range<u64> {
        self.svma.0..self.svma.0.saturating_add(self.filesz.min(self.memsz))
    }
}

/// Bytes of the image and the address of the first.
#[derive(Clone, Copy, Debug)]
pub struct Section<'data> {
    /// Address of the first byte; 0 where the section is not loaded.
    pub svma: Svma,
    /// The bytes.
    pub bytes: &'data [u8],
}

/// The `PT_TLS` segment.
#[derive(Clone, Copy, Debug)]
pub struct ThreadLocal<'data> {
    /// Address of the initial image.
    pub svma: Svma,
    /// The bytes that are not zero.
    pub image: &'data [u8],
    /// Bytes of the whole block.
    pub memsz: u64,
    /// Its alignment in bytes.
    pub align: u64,
}

/// A symbol that is a function.
#[derive(Clone, Copy, Debug)]
pub struct Function<'data> {
    /// Its first address.
    pub svma: Svma,
    /// Its bytes; 0 where that is not stated.
    pub size: u64,
    name: Option<(&'data elf::Sym64<LittleEndian>, StringTable<'data>)>,
}

impl<'data> Function<'data> {
    /// Its symbol's name, mangled; none of the entry point.
    #[must_use]
    pub fn name(&self) -> Option<&'data [u8]> {
        self.name
            .and_then(|(symbol, strings)| symbol.name(LE, strings).ok())
    }

    /// Whether it is a part of a function that the compiler put elsewhere (`f.cold`), which is
    /// entered by jumps.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.name()
            .is_some_and(|name| name.windows(5).any(|part| part == b".cold"))
    }
}

/// The headers of an x86_64 ELF image, over the image's bytes.
#[derive(Debug)]
pub struct Elf<'data> {
    data: &'data [u8],
    program_headers: &'data [elf::ProgramHeader64<LittleEndian>],
    sections: SectionTable<'data, Header>,
    segments: Vec<Segment>,
    entry: Svma,
}

impl<'data> Elf<'data> {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`ModuleError`] where the image is not a 64-bit little-endian x86_64 one, or its program
    /// headers cannot be read. Broken section headers are no error: there are then none.
    pub fn parse(data: &'data [u8]) -> Result<Elf<'data>, ModuleError> {
        check_ident(data)?;
        let header = Header::parse(data).map_err(|_| ModuleError::Malformed("file header"))?;
        let machine = header.e_machine(LE);
        if machine != elf::EM_X86_64 {
            return Err(ModuleError::Machine(machine.0));
        }
        let program_headers = header
            .program_headers(LE, data)
            .map_err(|_| ModuleError::Malformed("program headers"))?;
        let sections = header.sections(LE, data).unwrap_or_default();
        let segments = program_headers
            .iter()
            .filter(|p| p.p_type(LE) == elf::PT_LOAD)
            .map(|p| Segment {
                offset: p.p_offset(LE),
                filesz: p.p_filesz(LE),
                svma: Svma(p.p_vaddr(LE)),
                memsz: p.p_memsz(LE),
                executable: p.p_flags(LE).contains(elf::PF_X),
                writable: p.p_flags(LE).contains(elf::PF_W),
            })
            .collect();
        Ok(Elf {
            data,
            program_headers,
            sections,
            segments,
            entry: Svma(header.e_entry(LE)),
        })
    }

    /// All `PT_LOAD` segments, in the order of the headers.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The executable segments.
    pub fn executable(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|s| s.executable)
    }

    /// Address of the lowest executable segment: what rows and function starts are relative to.
    #[must_use]
    pub fn text_base(&self) -> Option<Svma> {
        self.executable().map(|s| s.svma).min()
    }

    /// The section of that name, if it is there with bytes that can be read as they are.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<Section<'data>> {
        let (_, header) = self.sections.section_by_name(LE, name.as_bytes())?;
        if header.sh_type(LE) == elf::SHT_NOBITS
            || header.sh_flags(LE).contains(elf::SHF_COMPRESSED)
        {
            return None;
        }
        let bytes = header.data(LE, self.data).ok()?;
        Some(Section {
            svma: Svma(header.sh_addr(LE)),
            bytes,
        })
    }

    /// Whether there are section headers at all.
    #[must_use]
    pub fn has_sections(&self) -> bool {
        !self.sections.is_empty()
    }

    /// Whether there is a section of that name that holds anything, compressed or not.
    #[must_use]
    pub fn has_section(&self, name: &str) -> bool {
        self.sections
            .section_by_name(LE, name.as_bytes())
            .is_some_and(|(_, header)| {
                header.sh_type(LE) != elf::SHT_NOBITS && header.sh_size(LE) > 0
            })
    }

    /// Whether there is a symbol table of that type with more than the null symbol.
    #[must_use]
    pub fn has_symbols(&self, table: elf::SectionType) -> bool {
        self.sections.iter().any(|header| {
            header.sh_type(LE) == table
                && header.sh_size(LE) > size_of::<elf::Sym64<LittleEndian>>() as u64
        })
    }

    /// The bytes from an address to the end of what its segment has in the file.
    #[must_use]
    pub fn bytes_from(&self, svma: Svma) -> Option<&'data [u8]> {
        let segment = self
            .segments
            .iter()
            .find(|s| s.file_backed().contains(&svma.0))?;
        let skip = usize::try_from(svma.0 - segment.svma.0).ok()?;
        self.segment_bytes(segment)?.get(skip..)
    }

    /// Where in the file the byte for an address is.
    #[must_use]
    pub fn file_offset(&self, svma: Svma) -> Option<u64> {
        let segment = self
            .segments
            .iter()
            .find(|s| s.file_backed().contains(&svma.0))?;
        segment.offset.checked_add(svma.0 - segment.svma.0)
    }

    /// The bytes that a segment has in the file; fewer where the file is cut short.
    #[must_use]
    pub fn segment_bytes(&self, segment: &Segment) -> Option<&'data [u8]> {
        let start = usize::try_from(segment.offset).ok()?;
        let end = segment.offset.saturating_add(segment.filesz);
        let end = usize::try_from(end)
            .unwrap_or(usize::MAX)
            .min(self.data.len());
        self.data.get(start..end)
    }

    /// What the `PT_GNU_EH_FRAME` header points at: `.eh_frame_hdr`.
    #[must_use]
    pub fn eh_frame_hdr(&self) -> Option<Section<'data>> {
        let header = self
            .program_headers
            .iter()
            .find(|p| p.p_type(LE) == elf::PT_GNU_EH_FRAME)?;
        Some(Section {
            svma: Svma(header.p_vaddr(LE)),
            bytes: header.data(LE, self.data).ok()?,
        })
    }

    /// The image of thread-local memory that every thread starts with (`PT_TLS`).
    #[must_use]
    pub fn thread_local(&self) -> Option<ThreadLocal<'data>> {
        let header = self
            .program_headers
            .iter()
            .find(|p| p.p_type(LE) == elf::PT_TLS)?;
        Some(ThreadLocal {
            svma: Svma(header.p_vaddr(LE)),
            image: header.data(LE, self.data).ok()?,
            memsz: header.p_memsz(LE),
            align: header.p_align(LE),
        })
    }

    /// Where the loader's own table is (`PT_DYNAMIC`), and its size in bytes.
    #[must_use]
    pub fn dynamic(&self) -> Option<(Svma, u64)> {
        let header = self
            .program_headers
            .iter()
            .find(|p| p.p_type(LE) == elf::PT_DYNAMIC)?;
        Some((Svma(header.p_vaddr(LE)), header.p_memsz(LE)))
    }

    /// Offset, in the thread-local block, of the one thread-local symbol whose name begins so.
    #[must_use]
    pub fn thread_local_symbol(&self, part: &str) -> Option<u64> {
        let symbols = self.sections.symbols(LE, self.data, elf::SHT_SYMTAB).ok()?;
        let mut found = symbols.iter().filter(|symbol| {
            symbol.st_type() == elf::STT_TLS
                && symbol
                    .name(LE, symbols.strings())
                    .is_ok_and(|name| memchr::memmem::find(name, part.as_bytes()).is_some())
        });
        let value = found.next()?.st_value(LE);
        found.next().is_none().then_some(value)
    }

    /// The symbols that are functions, of both symbol tables, and the program's entry point.
    pub fn functions(&self) -> impl Iterator<Item = Function<'data>> {
        let tables = [elf::SHT_SYMTAB, elf::SHT_DYNSYM].map(|table| {
            self.sections
                .symbols(LE, self.data, table)
                .unwrap_or_default()
        });
        let symbols = tables.into_iter().flat_map(|table| {
            let strings = table.strings();
            let is_function = |symbol: &&elf::Sym64<LittleEndian>| {
                let kind = symbol.st_type();
                (kind == elf::STT_FUNC || kind == elf::STT_GNU_IFUNC)
                    && symbol.st_shndx(LE) != elf::SHN_UNDEF
            };
            let function = move |symbol: &'data elf::Sym64<LittleEndian>| Function {
                svma: Svma(symbol.st_value(LE)),
                size: symbol.st_size(LE),
                name: Some((symbol, strings)),
            };
            table.symbols().iter().filter(is_function).map(function)
        });
        let entry = Function {
            svma: self.entry,
            size: 0,
            name: None,
        };
        symbols.chain((self.entry.0 != 0).then_some(entry))
    }

    /// The GNU build ID in lower-case hex.
    #[must_use]
    pub fn build_id(&self) -> Option<String> {
        let in_segments = self
            .program_headers
            .iter()
            .filter_map(|p| p.notes(LE, self.data).ok()?);
        let in_sections = self
            .sections
            .iter()
            .filter_map(|s| s.notes(LE, self.data).ok()?);
        in_segments.chain(in_sections).find_map(|mut notes| {
            while let Ok(Some(note)) = notes.next() {
                let found =
                    note.name() == elf::ELF_NOTE_GNU && note.n_type(LE) == elf::NT_GNU_BUILD_ID;
                if found && (1..=MAX_BUILD_ID).contains(&note.desc().len()) {
                    return Some(hex(note.desc()));
                }
            }
            None
        })
    }
}

/// Longest build ID believed, in bytes: linkers make 8 to 32, `--build-id=0x…` any.
const MAX_BUILD_ID: usize = 64;

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Tells "not ELF" and "another machine's ELF" from "broken": users act on them differently.
fn check_ident(data: &[u8]) -> Result<(), ModuleError> {
    let Some(ident) = data.get(..16) else {
        return Err(if data.starts_with(&elf::ELFMAG) {
            ModuleError::Malformed("file header")
        } else {
            ModuleError::NotElf
        });
    };
    match ident {
        [0x7f, b'E', b'L', b'F', class, encoding, ..] => match (*class, *encoding) {
            (2, 1) => Ok(()),
            (1, 1) => Err(ModuleError::Bits32),
            (1 | 2, 2) => Err(ModuleError::BigEndian),
            _ => Err(ModuleError::Malformed("file class")),
        },
        _ => Err(ModuleError::NotElf),
    }
}
