//! One module's file, held open, and what is known of it before the first lookup.

use super::compressed;
use super::crates::dependency_crates;
use super::origin::Crates;
use super::source::ModuleSource;
use crate::process::InPlace;
use blazesym::symbolize::source::{Elf, Source};
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A module's file: open for as long as names are asked for, so that one that is replaced or
/// deleted while the target runs keeps giving the names of what runs.
pub(super) struct Image {
    /// Held, so that its path (by way of `/proc/self/fd`) stays good.
    pub(super) file: File,
    /// Where names are looked up, best first: the file itself, its separate debug file.
    pub(super) tables: Vec<Source<'static>>,
    /// Where inlined frames and lines are looked up.
    pub(super) debug: Option<Source<'static>>,
    /// The file that `debug` is, where it is the target's own.
    pub(super) in_place: Option<Arc<InPlace>>,
    /// Why there are no lines although the file has some.
    pub(super) left_out: Option<&'static str>,
    crates: Option<Crates>,
}

impl Image {
    /// Opens the module's file, or makes one of its bytes. Compressed sections may unpack to
    /// `unpacked` bytes.
    ///
    /// # Errors
    /// Where the file cannot be opened, is no regular file, or is no ELF file.
    pub(super) fn open(module: &ModuleSource, unpacked: u64) -> io::Result<Image> {
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
        let Sections { any, debug } = sections(&file, unpacked)?;
        let path = by_descriptor(&file);
        let separate = module.build_id.as_deref().and_then(separate_debug_file);
        // The library looks for sections even where a file says that it has none.
        let mut tables: Vec<_> = any.then(|| elf(&path, false)).into_iter().collect();
        tables.extend(separate.iter().map(|path| elf(path, false)));
        let in_place = module.in_place.clone().filter(|_| debug == Debug::Some);
        let debug_of = match &separate {
            _ if debug == Debug::Some => {
                let of = in_place.as_ref().map(|in_place| in_place.file());
                Some(elf(&by_descriptor(of.unwrap_or(&file)), true))
            }
            Some(separate) => Some(elf(separate, true)),
            None => None,
        };
        let too_much = debug_of.is_none() && debug == Debug::TooMuch;
        Ok(Image {
            file,
            tables,
            debug: debug_of,
            in_place,
            left_out: too_much.then_some("it is compressed, and more than may be unpacked"),
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

/// Sections by which a file names another one: debug link, and two kinds of supplement. The library
/// would open whatever they name, with rights that the file's owner may not have: it never gets to
/// see the debug information of a file that has one. Private copies have none.
const NAMING: [&str; 3] = [".gnu_debuglink", ".gnu_debugaltlink", ".debug_sup"];

struct Sections {
    /// Whether there are any.
    any: bool,
    debug: Debug,
}

/// The debug information that a file has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Debug {
    /// None, or it names another file for it.
    None,
    /// Some that can be read.
    Some,
    /// It is compressed, in a way that is not read or to more than may be unpacked.
    TooMuch,
}

fn sections(file: &File, unpacked: u64) -> io::Result<Sections> {
    let image = map(file)?;
    let elf = object::File::parse(&*image).map_err(io::Error::other)?;
    let has = |name: &str| elf.section_by_name(name).is_some();
    if !compressed::others_are_honest(&elf, unpacked) {
        return Err(io::Error::other(
            "its compressed sections cannot be unpacked",
        ));
    }
    let debug = match has(".debug_info") && !NAMING.into_iter().any(has) {
        true if compressed::debug_fits(&elf, unpacked) => Debug::Some,
        true => Debug::TooMuch,
        false => Debug::None,
    };
    Ok(Sections {
        any: elf.sections().next().is_some(),
        debug,
    })
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
