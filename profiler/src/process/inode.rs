//! Which file a descriptor of the target is open at.

use super::deadline::{self, Server};
use super::device::Device;
use super::mounts::mount;
use super::target::Target;
use rustix::fs::{AtFlags, StatxFlags, statx};
use std::io;

impl Target {
    /// The inode of the file at which the target's descriptor `fd` is open.
    ///
    /// # Errors
    /// Where there is no such descriptor, or it may not be looked at; `TimedOut` where whoever
    /// serves the file does not answer.
    pub fn inode(&self, fd: u32) -> io::Result<u64> {
        let info = self.proc_dir().read(&format!("fdinfo/{fd}"))?;
        // Told since Linux 5.14, from the kernel's own memory.
        if let Some(inode) = field(&info, "ino") {
            return Ok(inode);
        }
        let mounts = self.proc_dir().read("mountinfo")?;
        let mount = field(&info, "mnt_id").and_then(|id| mount_device(&mounts, id));
        self.stat_inode(fd, mount.unwrap_or_default())
    }

    /// As [`Target::inode`], of a file on `device`: following the kernel's link may ask a server.
    fn stat_inode(&self, fd: u32, device: Device) -> io::Result<u64> {
        let dir = self.proc_dir().try_clone()?;
        let stat = move || {
            let flags = AtFlags::STATX_DONT_SYNC;
            let stat = statx(&dir, format!("fd/{fd}"), flags, StatxFlags::INO);
            stat.map(|stat| stat.stx_ino)
        };
        // A disk of the machine's has a number; nobody but the kernel serves it.
        if device.major != 0 {
            return Ok(stat()?);
        }
        Ok(deadline::within(Server::Files(device), stat)??)
    }
}

/// Reads `data` as both texts.
pub(super) fn read_every(data: &[u8]) {
    let id = field(data, "mnt_id").unwrap_or_default();
    let _ = mount_device(data, id);
}

/// A number out of `/proc/PID/fdinfo/FD`; see proc_pid_fdinfo(5).
pub(super) fn field(info: &[u8], key: &str) -> Option<u64> {
    let text = std::str::from_utf8(info).ok()?;
    let value = |line: &str| {
        line.strip_prefix(key)?
            .strip_prefix(':')?
            .trim()
            .parse()
            .ok()
    };
    text.lines().find_map(value)
}

/// The file system of a mount, by `/proc/PID/mountinfo`.
fn mount_device(mountinfo: &[u8], id: u64) -> Option<Device> {
    let text = String::from_utf8_lossy(mountinfo);
    mount(&text, id).map(|mount| mount.device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Pid;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_descriptor_has_the_inode_of_its_file_by_both_ways() {
        let target = Target::open(Pid(std::process::id())).expect("self");
        let file = tempfile::tempfile().expect("a file");
        let fd = u32::try_from(file.as_raw_fd()).expect("a descriptor");
        let inode = file.metadata().expect("its own").ino();
        assert_eq!(target.inode(fd).expect("open"), inode);
        for major in [0, 8] {
            let device = Device { major, minor: 1 };
            assert_eq!(target.stat_inode(fd, device).expect("open"), inode);
        }
        drop(file);
        assert!(target.inode(u32::MAX).is_err());
    }

    #[test]
    fn numbers_are_taken_from_their_lines() {
        let info = b"pos:\t0\nflags:\t0100002\nmnt_id:\t29\nino:\t4711\n";
        assert_eq!(field(info, "mnt_id"), Some(29));
        assert_eq!(field(info, "ino"), Some(4711));
        assert_eq!(field(b"pos:\t0\nmnt_id:\tx\n", "mnt_id"), None);
        let mounts =
            b"2 1 8:1 / / rw - ext4 /dev/sda1 rw\n29 2 0:42 / /net rw - nfs host:/ rw\nx\n";
        let device = Device {
            major: 0,
            minor: 42,
        };
        assert_eq!(mount_device(mounts, 29), Some(device));
        assert_eq!(mount_device(mounts, 3), None);
    }
}
