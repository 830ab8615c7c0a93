//! Whether a file was written to.

use super::reader::{StatWords, stat_words};
use rustix::fs::{AtFlags, StatxFlags, statx};
use std::fs::File;
use std::io;

/// What changes when a file is written to: its length and its times, with nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStamp(pub(super) StatWords);

impl FileStamp {
    /// Of a file as it is now. A file system that would have to ask somebody is not asked.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn of(file: &File) -> io::Result<FileStamp> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = statx(file, "", flags, StatxFlags::BASIC_STATS)?;
        Ok(FileStamp(stat_words(&stat)))
    }
}
