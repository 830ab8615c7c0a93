//! The separate debug file that a module's file names.
//!
//! The name comes out of the target's file, and we may read what its owner may not: a name that
//! is a path, a symbolic link, or a pipe would make us open something else. So the library that
//! reads the symbols never gets to see a file that names another one (it would follow anything);
//! the file is looked for here, and handed on by its descriptor.
//!
//! Format and places: gdb's manual, "Debugging Information in Separate Files".

use object::Object;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Sections by which a file names another one: debug link, and two kinds of supplement.
const NAMING: [&str; 3] = [".gnu_debuglink", ".gnu_debugaltlink", ".debug_sup"];

/// Whether a file names another one.
pub(super) fn names_another(elf: &object::File<'_>) -> bool {
    NAMING
        .iter()
        .any(|section| elf.section_by_name(section).is_some())
}

/// Longest debug file that is read for its checksum, in bytes.
const MAX_LEN: u64 = 2 << 30;

/// What a debug link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DebugLink {
    name: Vec<u8>,
    checksum: u32,
}

impl DebugLink {
    /// The link of a file; none where there is none, or it is not just a file's name.
    pub(super) fn of(elf: &object::File<'_>) -> Option<DebugLink> {
        let (name, checksum) = elf.gnu_debuglink().ok()??;
        let is_name = !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/');
        is_name.then(|| DebugLink {
            name: name.to_vec(),
            checksum,
        })
    }

    /// Opens the debug file of `module`, beside it or in the system's tree. None where there is
    /// none, or none with the right checksum.
    pub(super) fn open(&self, module: &File) -> Option<File> {
        let own = std::fs::read_link(format!("/proc/self/fd/{}", module.as_raw_fd())).ok()?;
        // Not absolute: it has no name, or none that we could find.
        let dir = own.parent().filter(|dir| dir.is_absolute())?;
        let name = OsStr::from_bytes(&self.name);
        let system = Path::new("/usr/lib/debug").join(dir.strip_prefix("/").ok()?);
        let places: [PathBuf; 3] = [
            dir.join(name),
            dir.join(".debug").join(name),
            system.join(name),
        ];
        places.iter().find_map(|path| {
            let file = open_regular(path).ok()?;
            self.fits(&file).unwrap_or(false).then_some(file)
        })
    }

    fn fits(&self, file: &File) -> io::Result<bool> {
        if file.metadata()?.len() > MAX_LEN {
            return Ok(false);
        }
        // By reading: a file that shrinks while it is mapped would end us with SIGBUS.
        let mut hasher = crc32fast::Hasher::new();
        let mut chunk = vec![0; 256 << 10];
        let mut file = file.take(MAX_LEN);
        loop {
            match file.read(&mut chunk) {
                Ok(0) => return Ok(hasher.finalize() == self.checksum),
                Ok(read) => hasher.update(chunk.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Opens a regular file at `path`, without a symbolic link in any part of it.
fn open_regular(path: &Path) -> io::Result<File> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // At first without effects: opening a pipe blocks, opening a device may do anything.
    let found = rustix::fs::openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?;
    let stat = rustix::fs::fstat(&found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_without_links_are_opened() {
        let dir = tempfile::tempdir().expect("dir");
        let real = dir.path().canonicalize().expect("real");
        let path = |name: &str| real.join(name);
        std::fs::write(path("file"), "x").expect("writes");
        std::fs::create_dir(path("dir")).expect("makes");
        std::fs::write(path("dir/file"), "x").expect("writes");
        std::os::unix::fs::symlink(path("file"), path("link")).expect("links");
        std::os::unix::fs::symlink(path("dir"), path("dirlink")).expect("links");
        rustix::fs::mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        for (name, opens) in [
            ("file", true),
            ("dir/file", true),
            ("dir", false),
            ("link", false),
            ("dirlink/file", false),
            ("pipe", false),
            ("nothing", false),
        ] {
            assert_eq!(open_regular(&path(name)).is_ok(), opens, "{name}");
        }
        assert!(open_regular(Path::new("/dev/null")).is_err());
    }
}
