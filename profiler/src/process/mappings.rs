//! What is mapped where in the target, and the files behind it.

use super::deadline::{self, Server};
use super::device::Device;
use super::mapping::{Mapping, MappingKind, kind_of};
use super::proc_dir::{ProcDir, is_denied};
use super::procmap;
use super::stamp::FileStamp;
use super::target::Target;
use crate::units::Addr;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// A vDSO has a few pages; more than this is none.
const MAX_VDSO: u64 = 1 << 20;

impl Target {
    /// Everything that is mapped now, by address.
    ///
    /// # Errors
    /// Where the process is gone, or may not be looked into.
    pub fn mappings(&self) -> io::Result<Vec<Mapping>> {
        Ok(parse_maps(&self.proc_dir().maps()?))
    }

    /// The executable part of what is mapped now, by address, without the old page for system calls. Where the
    /// kernel can be asked for that alone, threads of the process that map memory are hardly held up by it.
    ///
    /// # Errors
    /// As [`Target::mappings`].
    pub fn code_mappings(&self) -> io::Result<Vec<Mapping>> {
        static HAS_NO_QUERY: AtomicBool = AtomicBool::new(false);
        if !HAS_NO_QUERY.load(Ordering::Relaxed) {
            let maps = self.proc_dir().open_file("maps")?;
            match deadline::code_mappings(self.pid(), &maps) {
                Err(error) if procmap::is_unknown(&error) => {
                    HAS_NO_QUERY.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        let mut mappings = self.mappings()?;
        mappings.retain(|mapping| mapping.executable && mapping.kind != MappingKind::Vsyscall);
        Ok(mappings)
    }

    /// Opens the very file that is mapped. By the kernel's own link where we may (works for
    /// deleted and replaced files); else by path below the target's root, and then only if it
    /// is still the same file.
    ///
    /// # Errors
    /// `NotFound` where the file was replaced, deleted, or is no regular file; `TimedOut` where
    /// whoever serves it does not answer.
    pub fn open_mapped(&self, mapping: &Mapping) -> io::Result<File> {
        if mapping.kind != MappingKind::File {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no file is mapped here",
            ));
        }
        // A disk of the machine's has a number; nobody but the kernel serves it.
        if mapping.device.major != 0 {
            return open(self.proc_dir(), mapping);
        }
        let (dir, mapping) = (self.proc_dir().try_clone()?, mapping.clone());
        deadline::within(Server::Files(mapping.device), move || open(&dir, &mapping))?
    }

    /// The image of the vDSO, where the target has one. It is our own: the kernel maps the same
    /// into every process, and what stands in the target's memory may be the target's.
    ///
    /// # Errors
    /// Where our memory cannot be read.
    pub fn vdso_image(&self, mappings: &[Mapping]) -> io::Result<Option<Vec<u8>>> {
        let is_vdso = |mapping: &&Mapping| mapping.kind == MappingKind::Vdso;
        if !mappings.iter().any(|mapping| is_vdso(&mapping)) {
            return Ok(None);
        }
        let own = parse_maps(&std::fs::read("/proc/self/maps")?);
        let Some(vdso) = own.iter().find(is_vdso) else {
            return Ok(None);
        };
        let len = usize::try_from(vdso.len().min(MAX_VDSO)).unwrap_or(0);
        let mut image = vec![0; len];
        File::open("/proc/self/mem")?.read_exact_at(&mut image, vdso.range.start.0)?;
        Ok(Some(image))
    }

    /// What changes when the mapped file is written to; none where we may not follow the kernel's
    /// own link to it. A file system that would have to ask somebody is not asked.
    ///
    /// # Errors
    /// Where it cannot be told now: the mapping has changed its bounds, or nobody answers.
    pub fn stamp(&self, mapping: &Mapping) -> io::Result<Option<FileStamp>> {
        let Range { start, end } = &mapping.range;
        let link = format!("map_files/{:x}-{:x}", start.0, end.0);
        let stat = deadline::stat(self.pid(), self.proc_dir().as_fd(), &link);
        match stat {
            Ok(stat) => Ok(Some(FileStamp(stat))),
            Err(error) if is_denied(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn open(dir: &ProcDir, mapping: &Mapping) -> io::Result<File> {
    let Range { start, end } = &mapping.range;
    let link = format!("map_files/{:x}-{:x}", start.0, end.0);
    let by_link = deadline::open(dir.pid(), dir.as_fd(), &link, OFlags::PATH);
    let by_link = by_link.and_then(|found| {
        if is_same_file(&found, mapping)? {
            reopen(&found)
        } else {
            Err(replaced())
        }
    });
    match by_link {
        Ok(file) => Ok(file),
        // Not permitted, or the mapping has changed its bounds since.
        Err(error) if is_denied(&error) || error.kind() == io::ErrorKind::NotFound => {
            open_by_path(dir, mapping)
        }
        Err(error) => Err(error),
    }
}

fn open_by_path(dir: &ProcDir, mapping: &Mapping) -> io::Result<File> {
    let mut names = vec![mapping.path.clone()];
    if mapping.deleted {
        // The mark may be part of the name.
        names.push([&mapping.path, &b" (deleted)"[..]].concat());
    }
    let mut last = replaced();
    // The kernel writes paths as the reader's root has them where that is in the same mount
    // namespace, as with chroot(2), and else as the target's.
    for open in [open_in_root, open_in_own_root] {
        for name in &names {
            match open(dir, name) {
                Ok(found) if is_same_file(&found, mapping)? => return reopen(&found),
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

fn replaced() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        "the file was replaced or deleted since it was mapped",
    )
}

/// Finds `path` as the target would, never leaving its root: a link in a container's image must
/// not lead us to a file of the host.
fn open_in_root(dir: &ProcDir, path: &[u8]) -> io::Result<File> {
    find(
        &dir.open_with("root", OFlags::PATH | OFlags::DIRECTORY)?,
        path,
    )
}

/// Finds `path` as we would. What is found is opened only if it is the mapped file.
fn open_in_own_root(_: &ProcDir, path: &[u8]) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    find(&rustix::fs::open("/", flags, Mode::empty())?.into(), path)
}

fn find(root: &File, path: &[u8]) -> io::Result<File> {
    let found = rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?;
    Ok(found.into())
}

/// Whether `found` (opened with `O_PATH`) is the regular file that is mapped.
fn is_same_file(found: &File, mapping: &Mapping) -> io::Result<bool> {
    let stat = rustix::fs::fstat(found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        || stat.st_ino != mapping.inode
    {
        return Ok(false);
    }
    let device = Device {
        major: rustix::fs::major(stat.st_dev),
        minor: rustix::fs::minor(stat.st_dev),
    };
    if device == mapping.device {
        return Ok(true);
    }
    // On these, stat(2) shows a device of the subvolume or layer and maps that of the whole.
    let magic = rustix::fs::fstatfs(found)?.f_type as u64;
    Ok(matches!(magic, BTRFS_SUPER_MAGIC | OVERLAYFS_SUPER_MAGIC))
}

/// `include/uapi/linux/magic.h`.
pub(super) const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;
/// `include/uapi/linux/magic.h`.
pub(super) const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

/// Opens for reading what was opened with `O_PATH` and found to be a regular file: opening a
/// device or a FIFO could have effects, or block.
fn reopen(found: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let fd: OwnedFd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(fd.into())
}

/// Parses the content of `/proc/PID/maps`. Lines that cannot be made sense of are skipped.
///
/// The kernel writes a newline in a path as `\012` and everything else as it is, a backslash
/// too, so that a path with those four characters reads like one with a newline. Who opens the
/// file compares its inode.
#[must_use]
pub fn parse_maps(content: &[u8]) -> Vec<Mapping> {
    let lines = content
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .filter_map(|line| {
            let mapping = parse_line(line);
            if mapping.is_none() {
                tracing::debug!(line = %line.escape_ascii(), "line of maps without sense");
            }
            mapping
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let end = rest
            .iter()
            .position(|&byte| byte == b' ')
            .unwrap_or(rest.len());
        let (word, tail) = rest.split_at_checked(end)?;
        rest = tail.get(1..).unwrap_or_default();
        std::str::from_utf8(word).ok()
    };
    let (start, end) = field()?.split_once('-')?;
    let range = hex(start)?..hex(end)?;
    let permissions = field()?.as_bytes();
    let file_offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let device = Device {
        major: u32::from_str_radix(major, 16).ok()?,
        minor: u32::from_str_radix(minor, 16).ok()?,
    };
    let inode: u64 = field()?.parse().ok()?;
    if range.start >= range.end || permissions.len() != 4 {
        return None;
    }

    let path = rest.trim_ascii_start();
    let (path, deleted) = match path.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    let kind = kind_of(path, inode);
    Some(Mapping {
        range: Addr(range.start)..Addr(range.end),
        executable: permissions.get(2) == Some(&b'x'),
        shared: permissions.get(3) == Some(&b's'),
        file_offset,
        device,
        inode,
        kind,
        path: unescape(path),
        deleted,
    })
}

fn hex(text: &str) -> Option<u64> {
    // `from_str_radix` would take a sign.
    text.bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then_some(())?;
    u64::from_str_radix(text, 16).ok()
}

fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b"\\012") {
            plain.push(b'\n');
            rest = tail;
        } else {
            plain.push(byte);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
#[path = "mappings_tests.rs"]
mod tests;
