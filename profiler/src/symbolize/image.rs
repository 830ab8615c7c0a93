//! One module's file, held open, and what is known of it before the first lookup.

use super::compressed;
use super::crates::dependency_crates;
use super::debug_link::{DebugLink, names_another};
use super::origin::Crates;
use super::symbolizer::ModuleSource;
use blazesym::symbolize::source::{Elf, Source};
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A module's file: open for as long as names are asked for, so that one that is replaced or
/// deleted while the target runs keeps giving the names of what runs.
pub(super) struct Image {
    file: File,
    /// Held, so that its path (by way of `/proc/self/fd`) stays good.
    _linked: Option<File>,
    /// Where names are looked up, best first: the file itself, its separate debug file.
    pub(super) tables: Vec<Source<'static>>,
    /// Where inlined frames and lines are looked up.
    pub(super) debug: Option<Source<'static>>,
    crates: Option<Crates>,
}

impl Image {
    /// Opens the module's file, or makes one of its bytes.
    ///
    /// # Errors
    /// Where the file cannot be opened, is no regular file, or is no ELF file.
    pub(super) fn open(module: &ModuleSource) -> io::Result<Image> {
        let file = match &module.image {
            Some(bytes) => in_memory(bytes)?,
            // A path of the target's making may name a pipe: that must not hang us.
            None => File::options()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&module.path)?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let Sections { debug, link } = sections(&file)?;
        let path = by_descriptor(&file);
        let separate = module.build_id.as_deref().and_then(separate_debug_file);
        let linked = link
            .filter(|_| separate.is_none())
            .and_then(|link| link.open(&file));
        let linked = linked.filter(|file| honest(file).is_ok_and(|debug| debug));
        let separate = separate.or_else(|| linked.as_ref().map(by_descriptor));
        let mut tables = vec![elf(&path, false)];
        tables.extend(separate.iter().map(|path| elf(path, false)));
        let debug = match &separate {
            _ if debug => Some(elf(&path, true)),
            Some(separate) => Some(elf(separate, true)),
            None => None,
        };
        Ok(Image {
            file,
            _linked: linked,
            tables,
            debug,
            crates: None,
        })
    }

    /// The crates in the module, found on first use: the scan reads all read-only data.
    pub(super) fn crates(&mut self, name: &str) -> &Crates {
        let file = &self.file;
        self.crates.get_or_insert_with(|| match map(file) {
            Ok(image) => Crates {
                dependencies: constants(&image)
                    .into_iter()
                    .flat_map(dependency_crates)
                    .collect(),
                ..Crates::of_binary(name, &[])
            },
            Err(_) => Crates::of_binary(name, &[]),
        })
    }
}

/// The read-only data of a binary: of one without section headers, all that it never writes to.
/// Linkers and post-link optimizers split it (`.rodata.cold`, `.bolt.org.rodata`).
fn constants(image: &[u8]) -> Vec<&[u8]> {
    let Ok(elf) = object::File::parse(image) else {
        return Vec::new();
    };
    if elf.sections().next().is_none() {
        let constant = |segment: &object::Segment<'_, '_>| match segment.flags() {
            SegmentFlags::Elf { p_flags, .. } => !p_flags.contains(object::elf::PF_W),
            _ => false,
        };
        let segments = elf.segments().filter(constant);
        return segments.filter_map(|segment| segment.data().ok()).collect();
    }
    elf.sections()
        .filter(|section| section.name().is_ok_and(|name| name.contains("rodata")))
        .filter_map(|section| section.data().ok())
        .collect()
}

fn elf(path: &Path, debug_syms: bool) -> Source<'static> {
    let mut elf = Elf::new(path);
    elf.debug_syms = debug_syms;
    Source::Elf(elf)
}

struct Sections {
    /// Has debug information of its own, and names no other file for it.
    debug: bool,
    /// Names a file for it.
    link: Option<DebugLink>,
}

fn sections(file: &File) -> io::Result<Sections> {
    let image = map(file)?;
    let elf = object::File::parse(&*image).map_err(io::Error::other)?;
    let has = |name| elf.section_by_name(name).is_some();
    if !compressed::are_honest(&elf, false) {
        return Err(io::Error::other(
            "its compressed sections cannot be unpacked",
        ));
    }
    let debug = has(".debug_info") && !names_another(&elf);
    Ok(Sections {
        debug: debug && compressed::are_honest(&elf, true),
        link: DebugLink::of(&elf),
    })
}

/// Whether the debug information of a file can be unpacked, if it is compressed.
fn honest(file: &File) -> io::Result<bool> {
    let image = map(file)?;
    let elf = object::File::parse(&*image).map_err(io::Error::other)?;
    Ok(compressed::are_honest(&elf, false) && compressed::are_honest(&elf, true))
}

fn by_descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn map(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the mapping is private, read only, and used as bytes that may be anything. A file
    // that shrinks under us would raise SIGBUS: of a target's file, a session gives us a private
    // copy, which nobody else can write to.
    unsafe { memmap2::Mmap::map(file) }
}

fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let fd: OwnedFd = rustix::fs::memfd_create("holdup-module", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    Ok(file)
}

/// Where distributions put debug information apart from the binary: gdb's manual, "Debugging
/// Information in Separate Files".
///
/// None where there is no such file, or the build ID is none.
pub(crate) fn separate_debug_file(build_id: &str) -> Option<PathBuf> {
    // The build ID comes out of the target's file: nothing but digits may get into a path.
    if !build_id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let (head, tail) = build_id.split_at_checked(2)?;
    let path = PathBuf::from(format!("/usr/lib/debug/.build-id/{head}/{tail}.debug"));
    path.is_file().then_some(path)
}
