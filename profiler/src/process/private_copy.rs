//! What we read of a target's file, copied into memory of our own.
//!
//! A file that is mapped may shrink under its readers, and then they die by SIGBUS; or change
//! between a check and a use. Whoever may write to a library that the target has loaded could so
//! end a profiler that runs as root, or worse: the kernel protects no file but the main executable
//! from being written, and that one not in all versions. So nothing of the target's is mapped. It
//! is read once, into a file in memory in which everything stands at the offset that it has in
//! the original, so that readers of ELF files, also those that want a path, work on it as on the
//! original. Machine code, data and relocations stay holes, which take no memory.
//!
//! What was not copied cannot be read either. Reading a hole of a file in memory fills it, and a
//! file of some KiB can have holes of any length where a reader looks for names. So a section is
//! in the copy with its bytes or, by its header, without any; and [`PrivateCopy::bytes`] has
//! pages of its own, which take no memory, where the file has holes.

mod map;

use super::deadline::Reader;
use super::in_place::InPlace;
use super::memory;
use super::module::{Module, ModuleError, PAGE};
use map::SparseMap;
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::pod::{bytes_of, from_bytes, slice_from_all_bytes};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes copied at a time.
const CHUNK: usize = 256 << 10;
/// Longest table of section names believed, in bytes. Real ones have some hundreds.
const MAX_NAMES: u64 = 1 << 20;
/// Longest file believed, in bytes; of a longer one, which is mostly holes, this much.
const MAX_LEN: u64 = 16 << 30;
/// `e_shnum` from which on the number of sections stands elsewhere (`SHN_LORESERVE`). No
/// executable has so many.
const MANY_SECTIONS: u16 = 0xff00;
/// Separate ranges copied of one file. Of real ones, whose sections lie side by side, there are
/// about ten.
const MAX_RANGES: usize = 1024;

/// How much memory copies may take.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU64,
    /// Debug information of one file.
    debug: u64,
}

/// Debug information longer than this, in bytes, is read where it is, where that can be done.
const MOST_COPIED: u64 = 64 << 20;

impl Budget {
    /// In bytes: for all copies together, and for the debug information of one file, of which
    /// either all is copied or none.
    #[must_use]
    pub fn new(total: u64, debug: u64) -> Budget {
        Budget {
            left: AtomicU64::new(total),
            debug,
        }
    }

    /// An eighth of the memory that there is, a GiB at most; half of it for the debug information
    /// of one file.
    #[must_use]
    pub fn of_machine() -> Budget {
        let total = memory::share(8, 1 << 30);
        Budget::new(total, total / 2)
    }

    fn take(&self, bytes: u64) -> bool {
        let take = |left: u64| left.checked_sub(bytes);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// The parts of an ELF file that its readers look at, and holes elsewhere.
#[derive(Debug)]
pub struct PrivateCopy {
    file: File,
    map: SparseMap,
    debug_left_out: u64,
    in_place: Option<Arc<InPlace>>,
    /// Whether the original has line tables of its own.
    has_lines: bool,
    copied: u64,
}

impl PrivateCopy {
    /// Copies what [`crate::process::module`], [`crate::unwind`] and [`crate::symbolize`] read of
    /// a file. Of one that is no ELF file only the beginning is there. Sections that name another
    /// file (`.gnu_debuglink`) do not exist in the copy: it would be opened by whoever follows
    /// them, whatever it is.
    ///
    /// # Errors
    /// Those of reading the file, of which `TimedOut` is that whoever serves it does not answer;
    /// `FileTooLarge` where the budget does not suffice; `OutOfMemory`
    /// where the kernel has no room.
    pub fn of(original: &File, budget: &Budget) -> io::Result<PrivateCopy> {
        PrivateCopy::of_parts(original, budget, Wanted::All)
    }

    /// Copies only what tells which libraries are linked into a file, and what else it has: its
    /// headers, notes and constants. Symbols and debug information are there by their headers alone.
    ///
    /// # Errors
    /// As [`PrivateCopy::of`].
    pub fn of_constants(original: &File, budget: &Budget) -> io::Result<PrivateCopy> {
        PrivateCopy::of_parts(original, budget, Wanted::Constants)
    }

    fn of_parts(original: &File, budget: &Budget, wanted: Wanted) -> io::Result<PrivateCopy> {
        let reader = &Reader::of(original)?;
        let len = reader.len().min(MAX_LEN);
        let parts = Parts::of(reader, len, wanted)?;
        let (mut plan, mut in_place) =
            parts.plan_within(budget.debug, || InPlace::of(original, reader));
        if !budget.take(plan.bytes()) {
            // Names and stacks without lines are better than nothing.
            (plan, in_place) = parts.plan_within(0, || InPlace::of(original, reader));
            if !budget.take(plan.bytes()) {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!(
                        "{} MiB more than may be read of all modules",
                        plan.bytes() >> 20
                    ),
                ));
            }
        }
        if plan.ranges.len() > MAX_RANGES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is in {} pieces", plan.ranges.len()),
            ));
        }
        let len = parts.len.unwrap_or(len);
        let fd: OwnedFd =
            rustix::fs::memfd_create("holdup-module", rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(fd);
        file.set_len(len)?;
        let mut chunk = vec![0; CHUNK];
        for range in &plan.ranges {
            copy(reader, &file, range, &mut chunk)?;
        }
        // The headers as they were judged, whatever the original says by now.
        for (at, header) in &plan.headers {
            file.write_all_at(header, *at)?;
        }
        let map = SparseMap::of(&file, len, &plan.ranges)?;
        Ok(PrivateCopy {
            file,
            map,
            debug_left_out: plan.debug_left_out,
            in_place: in_place.map(Arc::new),
            has_lines: parts.has_lines,
            copied: plan.bytes(),
        })
    }

    /// The original, where its debug information is read in it: the copy then has the headers of those
    /// sections alone.
    #[must_use]
    pub const fn in_place(&self) -> Option<&Arc<InPlace>> {
        self.in_place.as_ref()
    }

    /// What the image says of itself, with what is read in the original.
    ///
    /// # Errors
    /// As [`Module::from_elf`].
    pub fn module(&self) -> Result<Module, ModuleError> {
        let mut module = Module::from_elf(self.bytes())?;
        module.has_debug_lines |= self.in_place.is_some() && self.has_lines;
        Ok(module)
    }

    /// Bytes that were read of the file.
    #[must_use]
    pub const fn copied(&self) -> u64 {
        self.copied
    }

    /// The file's bytes; zero where nothing was copied.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// Bytes of debug information that were left out for being too many; 0 where none were.
    #[must_use]
    pub fn debug_left_out(&self) -> u64 {
        self.debug_left_out
    }

    /// The copy as a file, for readers that want a path (`/proc/self/fd/…`).
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }
}

/// Copies a range, as far as the original reaches by now. Blocks of zeros stay holes.
fn copy(from: &Reader, to: &File, range: &Range<u64>, chunk: &mut [u8]) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let want = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let len = want.min(chunk.len());
        let room = chunk.get_mut(..len).unwrap_or_default();
        let read = from.read_full(room, at)?;
        if read == 0 {
            return Ok(());
        }
        let bytes = room.get(..read).unwrap_or_default();
        if bytes.iter().any(|byte| *byte != 0) {
            to.write_all_at(bytes, at)?;
        }
        at += read as u64;
    }
    Ok(())
}

/// As much of a range as the file has.
fn read(file: &Reader, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    let filled = file.read_full(&mut bytes, range.start)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// For what a copy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// For names and stacks.
    All,
    /// To see what the file is.
    Constants,
}

/// What stands where in a file.
#[derive(Debug, Default)]
struct Parts {
    /// Ranges that are read.
    read: Vec<Range<u64>>,
    /// Debug information, that is read but can be done without.
    debug: Vec<Range<u64>>,
    /// The headers as the copy is to have them, with their offsets. Later ones count.
    headers: Vec<(u64, Vec<u8>)>,
    /// The headers of the sections in `debug`, and where they stand.
    debug_headers: Vec<(u64, SectionHeader64<LE>)>,
    /// Whether the file itself can be given to who reads debug information: nothing in it is
    /// compressed, and nothing names another file.
    plain: bool,
    /// Whether it has line tables.
    has_lines: bool,
    /// The length of the copy, where it is not that of the file.
    len: Option<u64>,
}

/// What is to be copied.
#[derive(Debug, Default)]
struct Plan {
    /// Ranges of the file, by offset, not overlapping.
    ranges: Vec<Range<u64>>,
    /// Headers, with their offsets. Later ones count.
    headers: Vec<(u64, Vec<u8>)>,
    debug_left_out: u64,
}

impl Parts {
    fn of(file: &Reader, len: u64, wanted: Wanted) -> io::Result<Parts> {
        let within = |at: u64, size: u64| at.min(len)..at.saturating_add(size).min(len);
        let range = within(0, size_of::<FileHeader64<LE>>() as u64);
        let mut parts = Parts {
            plain: true,
            ..Parts::default()
        };
        parts.read.push(range.clone());
        let bytes = read(file, range)?;
        let header = match from_bytes::<FileHeader64<LE>>(&bytes) {
            Ok((header, _)) if header.is_supported() => *header,
            // Nobody is to find the beginning of some other format in it.
            _ => {
                parts.len = Some(bytes.len() as u64);
                parts.headers.push((0, bytes));
                return Ok(parts);
            }
        };
        let sections = SectionTable::read(file, &header, len)?;
        parts.add_segments(file, &header, sections.is_none(), &within)?;
        let mut header = header;
        if header.e_phnum(LE) == elf::PN_XNUM {
            (header.e_phoff, header.e_phnum) = Default::default();
        }
        match &sections {
            Some(sections) => parts.add_sections(sections, wanted, &within),
            None => (header.e_shoff, header.e_shnum, header.e_shstrndx) = Default::default(),
        }
        // The last, wherever the others claim to be.
        parts.headers.push((0, bytes_of(&header).to_vec()));
        Ok(parts)
    }

    fn add_segments(
        &mut self,
        file: &Reader,
        header: &FileHeader64<LE>,
        no_sections: bool,
        within: &impl Fn(u64, u64) -> Range<u64>,
    ) -> io::Result<()> {
        let count = u64::from(header.e_phnum(LE));
        let range = within(
            header.e_phoff(LE),
            count * size_of::<ProgramHeader64<LE>>() as u64,
        );
        self.read.push(range.clone());
        let bytes = read(file, range.clone())?;
        let segments = slice_from_all_bytes::<ProgramHeader64<LE>>(&bytes).unwrap_or_default();
        for segment in segments {
            let kind = segment.p_type(LE);
            // Without sections, constants and unwinding information are somewhere among what is
            // never written to.
            let whole =
                no_sections && kind == elf::PT_LOAD && !segment.p_flags(LE).contains(elf::PF_W);
            // The image of thread-local memory tells where tokio keeps its context.
            let wanted = [elf::PT_NOTE, elf::PT_GNU_EH_FRAME, elf::PT_TLS];
            if whole || wanted.contains(&kind) {
                let range = within(segment.p_offset(LE), segment.p_filesz(LE));
                self.read.push(range);
            }
        }
        self.headers.push((range.start, bytes));
        Ok(())
    }

    fn add_sections(
        &mut self,
        table: &SectionTable,
        wanted: Wanted,
        within: &impl Fn(u64, u64) -> Range<u64>,
    ) {
        let mut headers = table.headers.clone();
        let one = size_of::<SectionHeader64<LE>>() as u64;
        for (number, section) in headers.iter_mut().enumerate() {
            let header_at = table.at + one * number as u64;
            let range = within(section.sh_offset(LE), section.sh_size(LE));
            if number == table.names_of {
                section.sh_size.set(LE, table.names.len() as u64);
                self.read.push(range);
                continue;
            }
            let name = name_of(section, &table.names);
            let part = match (part(section, name), wanted) {
                (part, Wanted::All) => part,
                (Part::Read, Wanted::Constants) => constant_part(section, name),
                (Part::Debug, Wanted::Constants) => Part::Header,
                (part, Wanted::Constants) => part,
            };
            match part {
                Part::Read => self.read.push(range),
                Part::Debug => {
                    let flags = section.sh_flags(LE);
                    self.plain &= !flags.contains(elf::SHF_COMPRESSED) && !name.starts_with(b".z");
                    self.has_lines |= name == b".debug_line" && !range.is_empty();
                    self.debug.push(range);
                    self.debug_headers.push((header_at, *section));
                }
                Part::Header => {}
                Part::Link => {
                    self.plain = false;
                    hide(section);
                }
                // Its addresses stay; that it has no bytes in the file is what this type says.
                Part::Unread => section.sh_type.set(LE, elf::SHT_NOBITS),
            }
        }
        let bytes: Vec<u8> = headers.iter().flat_map(bytes_of).copied().collect();
        self.read
            .push(within(table.at, one * table.headers.len() as u64));
        self.headers.push((table.at, bytes));
    }

    /// What to copy where `max_debug` bytes of debug information may be. Of what is more than that, and
    /// of what is long, the original is kept instead, where `in_place` finds that it can be.
    fn plan_within(
        &self,
        max_debug: u64,
        in_place: impl FnOnce() -> Option<InPlace>,
    ) -> (Plan, Option<InPlace>) {
        let debug = self.debug.iter().map(|range| range.end - range.start);
        let debug = debug.fold(0u64, u64::saturating_add);
        let in_place = if self.plain && debug > max_debug.min(MOST_COPIED) {
            in_place()
        } else {
            None
        };
        let plan = match &in_place {
            Some(_) => self.plan(&[], |header| header.sh_type.set(LE, elf::SHT_NOBITS)),
            None if debug <= max_debug => self.plan(&self.debug, |_| ()),
            None => Plan {
                debug_left_out: debug,
                ..self.plan(&[], hide)
            },
        };
        (plan, in_place)
    }

    /// Copies `debug` too, and changes the headers of debug information.
    fn plan(&self, debug: &[Range<u64>], change: impl Fn(&mut SectionHeader64<LE>)) -> Plan {
        let mut plan = Plan {
            ranges: [&self.read, debug].concat(),
            headers: self.headers.clone(),
            debug_left_out: 0,
        };
        let changed = self.debug_headers.iter().map(|(at, header)| {
            let mut header = *header;
            change(&mut header);
            (*at, bytes_of(&header).to_vec())
        });
        // Before the file's header, which stays the last.
        let last = plan.headers.len().saturating_sub(1);
        plan.headers.splice(last..last, changed);
        plan.ranges.retain(|range| !range.is_empty());
        plan.ranges.sort_unstable_by_key(|range| range.start);
        plan.ranges.dedup_by(|next, last| {
            // Nearer than a page: no page is copied twice.
            let touches = next.start <= last.end.saturating_add(PAGE);
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        plan
    }
}

/// The headers of the sections, and their names.
#[derive(Debug)]
struct SectionTable {
    /// Where the first header is.
    at: u64,
    headers: Vec<SectionHeader64<LE>>,
    /// The number of the section that holds the names.
    names_of: usize,
    names: Vec<u8>,
}

impl SectionTable {
    /// Reads them; none where a reader of the copy would find none either, or find them
    /// malformed, and where there are more than there can be.
    fn read(
        file: &Reader,
        header: &FileHeader64<LE>,
        len: u64,
    ) -> io::Result<Option<SectionTable>> {
        let one = size_of::<SectionHeader64<LE>>();
        let (at, count) = (header.e_shoff(LE), header.e_shnum(LE));
        let size = u64::from(count) * one as u64;
        let end = at.checked_add(size).filter(|end| *end <= len);
        // One within the file's header would be changed by that.
        let usable = at >= size_of::<FileHeader64<LE>>() as u64
            && (1..MANY_SECTIONS).contains(&count)
            && usize::from(header.e_shentsize(LE)) == one;
        let (Some(end), true) = (end, usable) else {
            return Ok(None);
        };
        let bytes = read(file, at..end)?;
        let headers = slice_from_all_bytes::<SectionHeader64<LE>>(&bytes).unwrap_or_default();
        let names_of = header.e_shstrndx(LE).index().map(usize::from);
        let (Some(names_of), true) = (names_of, headers.len() == usize::from(count)) else {
            return Ok(None);
        };
        let Some(section) = headers.get(names_of).filter(|_| names_of > 0) else {
            return Ok(None);
        };
        let mut names = Vec::new();
        if let Some((at, size)) = section.file_range(LE) {
            let end = at.saturating_add(size.min(MAX_NAMES)).min(len);
            names = read(file, at.min(len)..end)?;
        }
        Ok(Some(SectionTable {
            at,
            headers: headers.to_vec(),
            names_of,
            names,
        }))
    }
}

impl Plan {
    fn bytes(&self) -> u64 {
        let lengths = self.ranges.iter().map(|range| range.end - range.start);
        lengths.fold(0, u64::saturating_add)
    }
}

/// What a section is to us.
enum Part {
    /// Read: names, unwinding information, notes, constants.
    Read,
    /// Debug information, which is read but can be done without.
    Debug,
    /// The name of another file.
    Link,
    /// Not read, though its header says that it is there.
    Header,
    /// Code, data, relocations, and debug information that we have no use for.
    Unread,
}

fn part(section: &SectionHeader64<LE>, name: &[u8]) -> Part {
    let (kind, flags) = (section.sh_type(LE), section.sh_flags(LE));
    if [&b".gnu_debuglink"[..], b".gnu_debugaltlink", b".debug_sup"].contains(&name) {
        return Part::Link;
    }
    let debug = name.strip_prefix(b".debug_");
    if let Some(debug) = debug.or_else(|| name.strip_prefix(b".zdebug_")) {
        return match debug {
            b"frame" => Part::Read,
            b"loc" | b"loclists" | b"macinfo" | b"macro" | b"names" | b"pubnames" | b"pubtypes"
            | b"gnu_pubnames" | b"gnu_pubtypes" | b"gdb_scripts" => Part::Unread,
            _ => Part::Debug,
        };
    }
    let relocations = [elf::SHT_RELA, elf::SHT_REL, elf::SHT_RELR].contains(&kind);
    let code = flags.contains(elf::SHF_EXECINSTR);
    // Where the linker is to move the addresses in it, unwinding information is data to write to.
    let unwinding = name == b".eh_frame";
    let data = flags.contains(elf::SHF_ALLOC) && flags.contains(elf::SHF_WRITE) && !unwinding;
    if kind == elf::SHT_NOBITS || relocations || code || data {
        Part::Unread
    } else {
        Part::Read
    }
}

/// What a section that could be read is to who wants constants only.
fn constant_part(section: &SectionHeader64<LE>, name: &[u8]) -> Part {
    match section.sh_type(LE) {
        elf::SHT_NOTE => Part::Read,
        elf::SHT_SYMTAB => Part::Header,
        _ if name == b".rodata" => Part::Read,
        _ => Part::Unread,
    }
}

/// Takes a section out of existence: no name, no type, no bytes.
fn hide(section: &mut SectionHeader64<LE>) {
    section.sh_name.set(LE, 0);
    section.sh_type = Default::default();
    section.sh_offset.set(LE, 0);
    section.sh_size.set(LE, 0);
}

fn name_of<'a>(section: &SectionHeader64<LE>, names: &'a [u8]) -> &'a [u8] {
    let rest = names
        .get(section.sh_name(LE) as usize..)
        .unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == 0);
    rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
}

#[cfg(test)]
#[path = "private_copy_tests.rs"]
mod tests;
