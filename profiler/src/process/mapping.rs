//! One mapping of a process.

use super::device::Device;
use crate::units::Addr;
use std::ops::Range;

/// One line of `/proc/PID/maps`; see proc_pid_maps(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The addresses.
    pub range: Range<Addr>,
    /// Whether code may run here.
    pub executable: bool,
    /// Whether writes go to the file and to others that map it.
    pub shared: bool,
    /// Where in the file the mapping begins, in bytes.
    pub file_offset: u64,
    /// The file system of the file.
    pub device: Device,
    /// The file's inode; 0 where there is no file.
    pub inode: u64,
    /// What it is.
    pub kind: MappingKind,
    /// Path as the target's own mount namespace names it, or the kernel's name in brackets, in
    /// raw bytes; empty where there is neither. Without the kernel's ` (deleted)`.
    pub path: Vec<u8>,
    /// Whether the kernel marked the path as deleted.
    pub deleted: bool,
}

/// What a mapping is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MappingKind {
    /// A file (also one that has no name any more, or a `memfd`).
    File,
    /// The kernel's code for the process (`[vdso]`), an ELF image.
    Vdso,
    /// The old page for three system calls (`[vsyscall]`).
    Vsyscall,
    /// Memory without a file. Where executable: code made at run time.
    Anonymous,
    /// Another name in brackets (`[heap]`, `[stack]`, `[vvar]`, `[uprobes]`).
    Special,
}

impl Mapping {
    /// Bytes mapped.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.range.end.0.saturating_sub(self.range.start.0)
    }

    /// Whether nothing is mapped; the kernel lists no such mapping.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last part of the path, with what is no UTF-8 replaced.
    #[must_use]
    pub fn file_name(&self) -> String {
        let name = self
            .path
            .rsplit(|&byte| byte == b'/')
            .next()
            .unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }
}

/// What a mapping is by its name as the kernel gives it.
pub(super) fn kind_of(path: &[u8], inode: u64) -> MappingKind {
    match path {
        b"" => MappingKind::Anonymous,
        b"[vdso]" => MappingKind::Vdso,
        b"[vsyscall]" => MappingKind::Vsyscall,
        [b'/', ..] if inode != 0 => MappingKind::File,
        // Names that a process gives its own anonymous memory (PR_SET_VMA_ANON_NAME).
        _ if path.starts_with(b"[anon:") => MappingKind::Anonymous,
        _ => MappingKind::Special,
    }
}
