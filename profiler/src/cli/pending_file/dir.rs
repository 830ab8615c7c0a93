//! The way to a directory, where others may have laid it.

use crate::host::privileges::is_trusted;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// Most symbolic links on one way; see path_resolution(7).
const MAX_LINKS: usize = 40;

/// Opens a directory to make files in. Symbolic links are followed only where root or we
/// ourselves made them: another user could have them lead anywhere, and change that at any
/// moment. Each step is taken from the directory that the last one found, so that what is renamed
/// meanwhile is not found twice.
///
/// # Errors
/// `ELOOP` where a link is another user's, or there are too many; else those of open(2).
pub(super) fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(".", directory, Mode::empty())?;
    let mut steps = steps(path);
    let mut links = 0;
    while let Some(step) = steps.pop_front() {
        if step == "/" {
            at = rustix::fs::open("/", directory, Mode::empty())?;
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(&at, &step, flags, Mode::empty())?;
        let stat = fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => at = found,
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS || !is_trusted(stat.st_uid) {
                    return Err(Errno::LOOP);
                }
                // Of the very link that was looked at.
                let text = readlinkat(&found, "", Vec::new())?.into_bytes();
                for step in self::steps(&PathBuf::from(OsString::from_vec(text)))
                    .into_iter()
                    .rev()
                {
                    steps.push_front(step);
                }
            }
            _ => return Err(Errno::NOTDIR),
        }
    }
    Ok(at)
}

/// The steps of a path; `/` begins at the root.
fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|component| *component != Component::CurDir)
        .map(|component| component.as_os_str().to_owned())
        .collect()
}
