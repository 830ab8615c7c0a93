//! The mounts that a process sees, by `/proc/PID/mountinfo`; see proc_pid_mountinfo(5).

use super::device::Device;

/// A mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Its number.
    pub id: u64,
    /// The file system's.
    pub device: Device,
    /// Where it is, from the process's root; with spaces, tabs, ends of lines and backslashes as `\040`.
    pub place: &'a str,
    /// The kind of file system: `ext4`, `fuse.sshfs`.
    pub kind: &'a str,
}

/// The mounts in the text of `/proc/PID/mountinfo`, in their order. Lines of another form are passed over.
pub fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        let id = fields.next()?.parse().ok()?;
        let (major, minor) = fields.nth(1)?.split_once(':')?;
        Some(Mount {
            id,
            device: Device {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            },
            place: fields.nth(1)?,
            kind: after.split(' ').next()?,
        })
    })
}

/// The mount with this number. Numbers of mounts are the host's.
pub(super) fn mount(mountinfo: &str, id: u64) -> Option<Mount<'_>> {
    mounts(mountinfo).find(|mount| mount.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_and_other_lines_passed_over() {
        let text = "2 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    29 2 0:42 / /far\\040away rw shared:1 - fuse.sshfs host:/ rw\nx\n30 2 0:x / / rw - ext4 x rw\n";
        let found: Vec<Mount<'_>> = mounts(text).collect();
        let [root, far] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((root.id, root.device.major, root.place), (2, 8, "/"));
        assert_eq!((far.id, far.device.minor), (29, 42));
        assert_eq!((far.place, far.kind), ("/far\\040away", "fuse.sshfs"));
    }
}
