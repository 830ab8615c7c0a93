//! Mapped files that nobody but the kernel serves.
//!
//! A uprobe makes the kernel read the page that it is for, and until it has that page no process of the
//! host can fork (`register_for_each_vma` in `kernel/events/uprobes.c` holds `dup_mmap_sem`). Where a program
//! serves the file, as in FUSE, or another host does, a host would stand still for as long as it pleases
//! them. So such files are never probed.

use super::deadline;
use super::inode::field;
use super::mounts::mount;
use super::proc_dir::ProcDir;
use super::target::Target;
use crate::units::{Addr, Pid};
use rustix::fs::OFlags;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

/// Kinds of file systems whose pages come from memory, or from a disk that the kernel reads.
///
/// `overlay` shows files of others, but as [`kind_of`] uses it, whoever mounted it had root's rights.
const KERNELS_OWN: [&str; 24] = [
    "bcachefs", "btrfs", "cramfs", "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs",
    "hfsplus", "iso9660", "jfs", "nilfs2", "ntfs3", "overlay", "ramfs", "reiserfs", "rootfs",
    "squashfs", "tmpfs", "udf", "vfat", "xfs",
];

impl Target {
    /// The file that is mapped there, as a handle that can name it (`/proc/self/fd/N`) and not read it.
    ///
    /// # Errors
    /// In words: the file system is not one that the kernel alone serves, or there is no such mapping.
    pub fn kernel_file(&self, range: &Range<Addr>) -> Result<File, String> {
        let name = format!("map_files/{:x}-{:x}", range.start.0, range.end.0);
        let file = deadline::open(self.pid(), self.proc_dir().as_fd(), &name, OFlags::PATH)
            .map_err(|error| format!("the kernel does not open it: {error}"))?;
        // Told of the handle: what is mapped there may be another file by now.
        let own = ProcDir::open(Pid(std::process::id()));
        let kind = own.and_then(|own| {
            let info = own.read(&format!("fdinfo/{}", file.as_raw_fd()))?;
            let seen = self.proc_dir().read("mountinfo")?;
            let theirs = self.is_in_our_user_namespace(&own).then_some(seen);
            let texts = theirs.into_iter().chain([own.read("mountinfo")?]);
            Ok(field(&info, "mnt_id").and_then(|id| kind_of(texts, id)))
        });
        match kind.map_err(|error| format!("its file system is not known: {error}"))? {
            Some(kind) if KERNELS_OWN.contains(&kind.as_str()) => Ok(file),
            Some(kind) => Err(format!(
                "its file system ({kind}) is served by a program or another host, and the kernel \
                 could wait for it with all that this host does"
            )),
            None => Err("its file system is mounted where holdup cannot see it".to_owned()),
        }
    }

    /// Whether the mounts that the target sees were made by somebody with root's rights: in a user namespace of
    /// their own, all users may mount, an overlay of a file system of FUSE too.
    fn is_in_our_user_namespace(&self, own: &ProcDir) -> bool {
        let of = |dir: &ProcDir| dir.read_link("ns/user").ok();
        of(own).is_some_and(|ours| of(self.proc_dir()) == Some(ours))
    }
}

/// The kind of the file system of the mount with this number, by texts of `mountinfo`.
fn kind_of(texts: impl IntoIterator<Item = Vec<u8>>, id: u64) -> Option<String> {
    texts.into_iter().find_map(|text| {
        let text = String::from_utf8_lossy(&text);
        mount(&text, id).map(|mount| mount.kind.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this_program() -> (Target, Range<Addr>) {
        let target = Target::open(Pid(std::process::id())).expect("self");
        let mappings = target.mappings().expect("its mappings");
        let code = mappings
            .into_iter()
            .find(|mapping| mapping.executable && mapping.inode != 0)
            .expect("code");
        (target, Addr(code.range.start.0)..Addr(code.range.end.0))
    }

    #[test]
    fn our_own_program_is_on_a_disk_or_in_an_overlay() {
        let (target, range) = this_program();
        match target.kernel_file(&range) {
            Ok(file) => assert!(file.metadata().expect("a handle").is_file()),
            // Without the right to open what is mapped.
            Err(why) => assert!(why.starts_with("the kernel does not open it"), "{why}"),
        }
        let nothing = target.kernel_file(&(Addr(0x1000)..Addr(0x2000)));
        assert!(nothing.is_err(), "{nothing:?}");
    }

    #[test]
    fn mounts_are_found_by_their_numbers_in_one_text_or_the_other() {
        let text = |line: &str| line.as_bytes().to_vec();
        let texts = [
            text("29 2 0:42 / /a rw - fuse.sshfs host:/ rw\n"),
            text("30 2 8:1 / / rw - ext4 /dev/sda1 rw\n"),
        ];
        let of = |id| kind_of(texts.clone(), id);
        assert_eq!(of(29).as_deref(), Some("fuse.sshfs"));
        assert_eq!(of(30).as_deref(), Some("ext4"));
        assert_eq!(of(31), None);
        assert!(KERNELS_OWN.is_sorted());
        let others = [
            "fuse",
            "fuse.sshfs",
            "fuseblk",
            "nfs4",
            "cifs",
            "9p",
            "ceph",
            "virtiofs",
        ];
        assert!(others.iter().all(|kind| !KERNELS_OWN.contains(kind)));
    }
}
