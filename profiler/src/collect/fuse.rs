//! Who serves a file system of FUSE: whoever waits for a file in it waits for that process.

use crate::process::{Target, mounts};

/// What `/proc/PID/fd` calls the kernel's side of every one of them.
pub(super) const DEVICE: &str = "/dev/fuse";

/// What [`Ends`](crate::process::ends::Ends) calls the device of the file system that `path` is in, as
/// the target sees both; none where that is no file system of FUSE. Nothing is asked of the file system
/// itself, which may hang.
pub(super) fn device_of(target: &Target, path: &str) -> Option<String> {
    let mounts = target.proc_dir().read("mountinfo").ok()?;
    let minor = minor_of(&String::from_utf8_lossy(&mounts), path)?;
    Some(format!("{DEVICE}:[{minor}]"))
}

/// The minor number of the device of the mount that `path` is in, where that is of FUSE. The kernel calls
/// the connection so, too.
fn minor_of(mountinfo: &str, path: &str) -> Option<u32> {
    let within = |place: &str| {
        let rest = path.strip_prefix(place.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let around = mounts(mountinfo).filter_map(|mount| {
        let place = unescaped(mount.place);
        within(&place).then_some((place.len(), mount))
    });
    // Of those at one place the last one hides the others.
    let (_, mount) = around.max_by_key(|(length, _)| *length)?;
    let is_fuse = mount.kind == "fuse" || mount.kind.starts_with("fuse.");
    is_fuse.then_some(mount.device.minor)
}

/// Undoes what the kernel does to spaces, tabs, ends of lines and backslashes: `\040`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "21 1 254:1 / / rw - ext4 /dev/root rw\n\
                          30 21 0:53 / /mnt/far\\040away rw,nosuid - fuse.sshfs host: rw\n\
                          31 30 0:54 / /mnt/far\\040away/near rw - tmpfs none rw\n\
                          32 21 0:55 / /mnt/twice rw - fuse first rw\n\
                          33 21 0:56 / /mnt/twice rw shared:1 - fuse second rw\n\
                          garbage\n34 21 0:57 / /mnt/disk rw - fuseblk /dev/sda1 rw\n";

    #[test]
    fn the_innermost_mount_decides() {
        let of = |path| minor_of(MOUNTS, path);
        assert_eq!(of("/mnt/far away/file"), Some(53));
        assert_eq!(of("/mnt/far away"), Some(53));
        assert_eq!(of("/mnt/far away/near/file"), None);
        assert_eq!(of("/mnt/far awayer"), None);
        assert_eq!(of("/mnt/twice/file"), Some(56));
        assert_eq!(of("/etc/passwd"), None);
        assert_eq!(of("/mnt/disk/file"), None);
        assert_eq!(of("relative"), None);
    }

    #[test]
    fn only_escapes_are_undone() {
        assert_eq!(unescaped("a\\040b\\134c"), "a b\\c");
        assert_eq!(unescaped("a\\"), "a\\");
        assert_eq!(unescaped("\\9é"), "\\9é");
    }
}
