//! What we read of a target's file, copied into memory of our own.
//!
//! A file that is mapped may shrink under its readers, and then they die by SIGBUS; or change
//! between a check and a use. Whoever may write to a library that the target has loaded could so
//! end a profiler that runs as root, or worse: the kernel protects no file but the main executable
//! from being written, and that one not in all versions. So nothing of the target's is mapped. It
//! is read once, into a file in memory in which everything stands at the offset that it has in
//! the original, so that readers of ELF files, also those that want a path, work on it as on the
//! original. Machine code, data and relocations stay holes, which take no memory.

use memmap2::Mmap;
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::pod::{from_bytes, slice_from_all_bytes};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
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

/// How much memory copies may take.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU64,
    /// Debug information of one file.
    debug: u64,
}

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
    map: Mmap,
    debug_left_out: u64,
}

impl PrivateCopy {
    /// Copies what [`crate::process::module`], [`crate::unwind`] and [`crate::symbolize`] read of
    /// a file. Of one that is no ELF file only the beginning is there. Sections that name another
    /// file (`.gnu_debuglink`) do not exist in the copy: it would be opened by whoever follows
    /// them, whatever it is.
    ///
    /// # Errors
    /// Those of reading the file; `FileTooLarge` where the budget does not suffice; `OutOfMemory`
    /// where the kernel has no room.
    pub fn of(original: &File, budget: &Budget) -> io::Result<PrivateCopy> {
        let len = original.metadata()?.len();
        let parts = Parts::of(original, len.min(MAX_LEN))?;
        let mut plan = parts.plan(budget.debug);
        if !budget.take(plan.bytes()) {
            // Names and stacks without lines are better than nothing.
            plan = parts.plan(0);
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
        let fd: OwnedFd =
            rustix::fs::memfd_create("holdup-module", rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(fd);
        file.set_len(len.min(MAX_LEN))?;
        let mut chunk = vec![0; CHUNK];
        for range in &plan.ranges {
            copy(original, &file, range, &mut chunk)?;
        }
        // A header without name and type: the section does not exist.
        let nothing = [0; size_of::<SectionHeader64<LE>>()];
        for at in &plan.hidden {
            file.write_all_at(&nothing, *at)?;
        }
        // SAFETY: the file has no name, nobody else has a descriptor of it, and from here on we
        // neither write to it nor change its length.
        let map = unsafe { Mmap::map(&file) }?;
        Ok(PrivateCopy {
            file,
            map,
            debug_left_out: plan.debug_left_out,
        })
    }

    /// The file's bytes; zero where nothing was copied.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
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
fn copy(from: &File, to: &File, range: &Range<u64>, chunk: &mut [u8]) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let want = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let len = want.min(chunk.len());
        let room = chunk.get_mut(..len).unwrap_or_default();
        let read = match from.read_at(room, at) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = room.get(..read).unwrap_or_default();
        if bytes.iter().any(|byte| *byte != 0) {
            to.write_all_at(bytes, at)?;
        }
        at += read as u64;
    }
    Ok(())
}

/// As much of a range as the file has.
fn read(file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read_at(room, range.start + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// What stands where in a file.
#[derive(Debug, Default)]
struct Parts {
    /// Ranges that are read.
    read: Vec<Range<u64>>,
    /// Debug information, that is read but can be done without.
    debug: Vec<Range<u64>>,
    /// Where the headers of the sections in `debug` stand.
    debug_headers: Vec<u64>,
    /// Where the headers of sections that name other files stand.
    links: Vec<u64>,
}

/// What is to be copied.
#[derive(Debug, Default)]
struct Plan {
    /// Ranges of the file, by offset, not overlapping.
    ranges: Vec<Range<u64>>,
    /// Offsets of the headers of sections that are not to exist in the copy.
    hidden: Vec<u64>,
    debug_left_out: u64,
}

impl Parts {
    fn of(file: &File, len: u64) -> io::Result<Parts> {
        let within = |at: u64, size: u64| at.min(len)..at.saturating_add(size).min(len);
        let header = within(0, size_of::<FileHeader64<LE>>() as u64);
        let mut parts = Parts::default();
        parts.read.push(header.clone());
        let bytes = read(file, header)?;
        let Ok((header, _)) = from_bytes::<FileHeader64<LE>>(&bytes) else {
            return Ok(parts);
        };
        if !header.is_supported() {
            return Ok(parts);
        }
        let count = u64::from(header.e_phnum(LE));
        let range = within(
            header.e_phoff(LE),
            count * size_of::<ProgramHeader64<LE>>() as u64,
        );
        parts.read.push(range.clone());
        let bytes = read(file, range)?;
        let segments = slice_from_all_bytes::<ProgramHeader64<LE>>(&bytes).unwrap_or_default();
        let one = size_of::<SectionHeader64<LE>>() as u64;
        let count = header.e_shnum(LE);
        let range = within(header.e_shoff(LE), u64::from(count) * one);
        let bytes = read(file, range.clone())?;
        let sections = slice_from_all_bytes::<SectionHeader64<LE>>(&bytes).unwrap_or_default();
        let sections = if count < MANY_SECTIONS { sections } else { &[] };
        for segment in segments {
            let kind = segment.p_type(LE);
            // Without sections, constants and unwinding information are somewhere among what is
            // never written to.
            let whole = sections.is_empty()
                && kind == elf::PT_LOAD
                && !segment.p_flags(LE).contains(elf::PF_W);
            // The image of thread-local memory tells where tokio keeps its context.
            let wanted = [elf::PT_NOTE, elf::PT_GNU_EH_FRAME, elf::PT_TLS];
            if whole || wanted.contains(&kind) {
                let range = within(segment.p_offset(LE), segment.p_filesz(LE));
                parts.read.push(range);
            }
        }
        if sections.is_empty() {
            return Ok(parts);
        }
        let headers_at = range.start;
        parts.read.push(range);
        let names = sections.get(usize::from(header.e_shstrndx(LE).0));
        let names = match names {
            Some(names) => {
                let size = names.sh_size(LE).min(MAX_NAMES);
                read(file, within(names.sh_offset(LE), size))?
            }
            None => Vec::new(),
        };
        for (section, number) in sections.iter().zip(0..) {
            let header_at = headers_at + one * number;
            let range = within(section.sh_offset(LE), section.sh_size(LE));
            match part(section, name_of(section, &names)) {
                Part::Read => parts.read.push(range),
                Part::Debug => {
                    parts.debug.push(range);
                    parts.debug_headers.push(header_at);
                }
                Part::Link => parts.links.push(header_at),
                Part::Unread => {}
            }
        }
        Ok(parts)
    }

    fn plan(&self, max_debug: u64) -> Plan {
        let mut plan = Plan {
            ranges: self.read.clone(),
            hidden: self.links.clone(),
            debug_left_out: 0,
        };
        let debug = self.debug.iter().map(|range| range.end - range.start);
        let debug = debug.fold(0u64, u64::saturating_add);
        if debug <= max_debug {
            plan.ranges.extend_from_slice(&self.debug);
        } else {
            plan.debug_left_out = debug;
            plan.hidden.extend_from_slice(&self.debug_headers);
        }
        plan.ranges.retain(|range| !range.is_empty());
        plan.ranges.sort_unstable_by_key(|range| range.start);
        plan.ranges.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        plan
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
    let data = flags.contains(elf::SHF_ALLOC) && flags.contains(elf::SHF_WRITE);
    if kind == elf::SHT_NOBITS || relocations || code || data {
        Part::Unread
    } else {
        Part::Read
    }
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
