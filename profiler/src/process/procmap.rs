//! The executable mappings of a process, one by one, by `PROCMAP_QUERY` (Linux 6.11).
//!
//! To print `/proc/PID/maps`, the kernel takes the lock of the mappings for page after page of text, and every
//! thread that maps memory waits meanwhile. A query holds it for one mapping, and those that hold no code
//! are passed over; since Linux 6.18 it mostly takes no such lock at all.

use super::device::Device;
use super::mapping::{Mapping, kind_of};
use crate::units::Addr;
use bytemuck::{Pod, Zeroable};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

/// `struct procmap_query` of `include/uapi/linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct Query {
    size: u64,
    flags: u64,
    addr: u64,
    start: u64,
    end: u64,
    vma_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    major: u32,
    minor: u32,
    name_size: u32,
    build_id_size: u32,
    name: u64,
    build_id: u64,
}

/// `_IOWR('f', 17, struct procmap_query)`.
const PROCMAP_QUERY: u32 =
    (3 << 30) | ((size_of::<Query>() as u32) << 16) | ((b'f' as u32) << 8) | 17;

/// `PROCMAP_QUERY_VMA_EXECUTABLE`, `PROCMAP_QUERY_VMA_SHARED`, `PROCMAP_QUERY_COVERING_OR_NEXT_VMA`.
const EXECUTABLE: u64 = 1 << 2;
const SHARED: u64 = 1 << 3;
const COVERING_OR_NEXT: u64 = 1 << 4;

/// The longest name that the kernel gives.
const MAX_NAME: usize = 4096;

/// What is written of a mapping, with its name behind it, filled up to words. All zeros behind the last
/// mapping of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
struct Head {
    start: u64,
    end: u64,
    flags: u64,
    offset: u64,
    inode: u64,
    major: u32,
    minor: u32,
    name_len: u64,
}

/// In the reading child, which makes system calls only: writes the mappings from `from` on into `room`, as many
/// as it holds. How many bytes that are.
pub(super) fn write(maps: &OwnedFd, from: u64, room: &mut [u8]) -> Result<usize, Errno> {
    let mut name = [0u8; MAX_NAME];
    let (mut at, mut filled) = (from, 0);
    loop {
        let mut query = Query {
            size: size_of::<Query>() as u64,
            flags: COVERING_OR_NEXT | EXECUTABLE,
            addr: at,
            name_size: MAX_NAME as u32,
            name: name.as_mut_ptr() as u64,
            ..Query::default()
        };
        // SAFETY: the query is as the kernel wants it, and the name has as much room as it says.
        let result = unsafe {
            libc::ioctl(
                maps.as_raw_fd(),
                libc::c_ulong::from(PROCMAP_QUERY),
                &raw mut query,
            )
        };
        let head = match result {
            0 => Head {
                start: query.start,
                end: query.end,
                flags: query.vma_flags,
                offset: query.offset,
                inode: query.inode,
                major: query.major,
                minor: query.minor,
                // With the zero at its end.
                name_len: u64::from(query.name_size).saturating_sub(1),
            },
            // SAFETY: the number of the last error of this thread.
            _ => match unsafe { *libc::__errno_location() } {
                libc::ENOENT => Head::default(),
                error => return Err(Errno::from_raw_os_error(error)),
            },
        };
        let name_len = usize::try_from(head.name_len).unwrap_or(0).min(MAX_NAME);
        let end = filled + size_of::<Head>() + name_len.next_multiple_of(8);
        let Some(into) = room.get_mut(filled..end) else {
            return Ok(filled);
        };
        let (first, rest) = into.split_at_mut(size_of::<Head>());
        first.copy_from_slice(bytemuck::bytes_of(&head));
        rest.fill(0);
        if let (Some(rest), Some(name)) = (rest.get_mut(..name_len), name.get(..name_len)) {
            rest.copy_from_slice(name);
        }
        filled = end;
        if head.end <= at {
            return Ok(filled);
        }
        at = head.end;
    }
}

/// Reads what [`write()`] wrote. Where it ended for want of room: from where on the rest is to be asked for.
pub(super) fn read(mut bytes: &[u8], into: &mut Vec<Mapping>) -> Option<u64> {
    let mut next = None;
    while let Some((head, rest)) = bytes.split_at_checked(size_of::<Head>()) {
        let head: Head = bytemuck::pod_read_unaligned(head);
        if head.end <= head.start {
            return None;
        }
        let name_len = usize::try_from(head.name_len).ok();
        let name_len = name_len.filter(|len| *len <= MAX_NAME)?;
        let (name, rest) = rest.split_at_checked(name_len.next_multiple_of(8))?;
        into.push(mapping(&head, name.get(..name_len)?));
        next = Some(head.end);
        bytes = rest;
    }
    next
}

fn mapping(head: &Head, name: &[u8]) -> Mapping {
    let (path, deleted) = match name.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (name, false),
    };
    Mapping {
        range: Addr(head.start)..Addr(head.end),
        executable: head.flags & EXECUTABLE != 0,
        shared: head.flags & SHARED != 0,
        file_offset: head.offset,
        device: Device {
            major: head.major,
            minor: head.minor,
        },
        inode: head.inode,
        kind: kind_of(path, head.inode),
        path: path.to_vec(),
        deleted,
    }
}

/// Whether an error means that the kernel knows no such query.
pub(super) fn is_unknown(error: &std::io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOTTY | Errno::INVAL | Errno::NOSYS)
    )
}

#[cfg(test)]
mod tests {
    use super::super::mapping::MappingKind;
    use super::super::mappings::parse_maps;
    use super::*;

    fn own() -> OwnedFd {
        std::fs::File::open("/proc/self/maps")
            .expect("opens")
            .into()
    }

    /// By rooms of so many bytes.
    fn queried(room: usize) -> Option<Vec<Mapping>> {
        let (maps, mut all, mut from) = (own(), Vec::new(), 0);
        let mut room = vec![0; room];
        loop {
            match write(&maps, from, &mut room) {
                Ok(len) => match read(room.get(..len).expect("within"), &mut all) {
                    Some(next) => from = next,
                    None => return Some(all),
                },
                Err(errno) if is_unknown(&errno.into()) => return None,
                Err(errno) => panic!("{errno}"),
            }
        }
    }

    #[test]
    fn a_query_tells_what_the_text_does() {
        let Some(queried_at_once) = queried(1 << 18) else {
            return crate::testing::skipped("the kernel has no PROCMAP_QUERY");
        };
        let text = std::fs::read("/proc/self/maps").expect("reads");
        let mut text = parse_maps(&text);
        text.retain(|mapping| mapping.executable && mapping.kind != MappingKind::Vsyscall);
        assert_eq!(queried_at_once, text);
        assert!(text.len() > 2);
        assert_eq!(queried(400).expect("as before"), text, "in pieces");
    }

    #[test]
    fn what_makes_no_sense_ends_it() {
        let mut all = Vec::new();
        assert_eq!(read(&[], &mut all), None);
        assert_eq!(read(&[0xff; 500], &mut all), None);
        let head = Head {
            start: 8,
            end: 16,
            name_len: u64::MAX,
            ..Head::default()
        };
        assert_eq!(read(bytemuck::bytes_of(&head), &mut all), None);
        assert!(all.is_empty());
    }
}
