//! Debug information that is read where it is: in the target's file.
//!
//! A large program has some hundred MiB of it, and a report needs a hundredth of that. A copy of it all
//! would take memory that the machine may not have, so where there is much of it, the process that
//! reads it maps the file itself. Whoever shortens the file ends that process, whoever serves it
//! slowly holds that process up, and no other.

use super::deadline::{self, Reader};
use super::mappings::{BTRFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC};
use super::stamp::FileStamp;
use std::fs::File;

/// A file whose debug information is read where it is.
#[derive(Debug)]
pub struct InPlace {
    file: File,
    /// As it was before anything was read of the file.
    stamp: FileStamp,
}

impl InPlace {
    /// Holds a file open that nobody has read yet; none where somebody else than the kernel of
    /// this machine serves it, or where that cannot be told.
    pub(super) fn of(original: &File, reader: &Reader) -> Option<InPlace> {
        let in_place = InPlace {
            file: original.try_clone().ok()?,
            stamp: reader.stamp(),
        };
        let Some(server) = reader.server() else {
            return Some(in_place);
        };
        let file = original.try_clone().ok()?;
        let statfs = deadline::within(server, move || rustix::fs::fstatfs(&file));
        let kind = statfs.ok()?.ok()?.f_type as u64;
        LOCAL.contains(&kind).then_some(in_place)
    }

    /// The file, open for reading.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Whether nobody has written to the file since it was opened.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        FileStamp::of(&self.file).is_ok_and(|stamp| stamp == self.stamp)
    }
}

/// File systems without a block device that this machine's kernel serves, by their numbers in
/// `include/uapi/linux/magic.h`, and ZFS's own. An overlay may lie over anything, which is one more
/// reason for a process that can be left behind.
const LOCAL: [u64; 6] = [
    BTRFS_SUPER_MAGIC,
    OVERLAYFS_SUPER_MAGIC,
    0xca45_1a4e, // bcachefs
    0x8584_58f6, // ramfs
    0x0102_1994, // tmpfs
    0x2fc1_2fc1, // ZFS
];
